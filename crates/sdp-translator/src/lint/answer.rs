//! An answer against its offer (RFC 3264 section 6).

use super::{Check, Desk, attributes};
use crate::rule::Rule;
use crate::sdp::{Sdp, Section};
use std::collections::HashMap;

pub(super) fn look(desk: &mut Desk<'_, '_>, offer: &Sdp<'_>) {
    let answer = desk.sdp;
    let (asked, given) = (offer.media.len(), answer.media.len());
    if asked != given {
        let what = format!("the offer has {asked} m-lines, the answer {given}");
        desk.find(Check::AnswerMedia, None, None, what);
    }
    if let Some(at) = answer.session.position("group")
        && offer.session.position("group").is_none()
    {
        desk.find(
            Check::AnswerExtra,
            None,
            Some(at),
            "the offer has no group".to_owned(),
        )
        .fix(Rule::AnswerFit);
    }
    for (index, (asked, given)) in offer.media.iter().zip(&answer.media).enumerate() {
        let (was, is) = (asked.media_line(), given.media_line());
        if was.media != is.media {
            let what = format!("the offer has {} here, the answer {}", was.media, is.media);
            desk.find(Check::AnswerMedia, Some(index), Some(0), what);
            continue;
        }
        if !given.is_live() {
            continue;
        }
        if !asked.is_live() {
            let what = "it is rejected in the offer and accepted in the answer".to_owned();
            desk.find(Check::AnswerMedia, Some(index), Some(0), what);
            continue;
        }
        if was.proto != is.proto {
            let what = format!("the offer says {}, the answer {}", was.proto, is.proto);
            desk.find(Check::AnswerProfile, Some(index), Some(0), what)
                .fix(Rule::AnswerFit);
        }
        extras(desk, index, asked, given);
        setup(desk, index, offer, asked, given);
        if is.is_rtp() {
            direction(desk, index, offer, asked, given);
            formats(desk, index, asked, given);
        }
    }
}

fn extras(desk: &mut Desk<'_, '_>, index: usize, asked: &Section<'_>, given: &Section<'_>) {
    match (asked.attribute("mid"), attributes(given, "mid").next()) {
        (None, Some((at, _))) => {
            let what = "the offer has no mid".to_owned();
            desk.find(Check::AnswerExtra, Some(index), Some(at), what)
                .fix(Rule::AnswerFit);
        }
        (Some(was), Some((at, is))) if was != is => {
            let what = format!("the mid is {was:?} in the offer and {is:?} in the answer");
            desk.find(Check::AnswerMid, Some(index), Some(at), what)
                .fix(Rule::Mid);
        }
        _ => {}
    }
    if let Some(at) = given.position("rtcp-mux")
        && asked.position("rtcp-mux").is_none()
    {
        let what = "the offer has no rtcp-mux".to_owned();
        desk.find(Check::AnswerExtra, Some(index), Some(at), what)
            .fix(Rule::AnswerFit);
    }
}

fn setup(desk: &mut Desk<'_, '_>, index: usize, offer: &Sdp<'_>, asked: &Section<'_>, given: &Section<'_>) {
    let Some(is) = desk.sdp.attribute(given, "setup") else {
        return;
    };
    let was = offer.attribute(asked, "setup");
    let is_wrong = matches!(
        (was, is),
        (_, "actpass") | (Some("active"), "active") | (Some("passive"), "passive")
    );
    if is_wrong {
        let what = format!("the offer says {}, the answer {is}", was.unwrap_or("nothing"));
        let at = given.position("setup");
        let finding = desk.find(Check::AnswerSetup, Some(index), at, what);
        if is == "actpass" {
            finding.fix(Rule::AnswerSetup);
        }
    }
}

fn direction(
    desk: &mut Desk<'_, '_>,
    index: usize,
    offer: &Sdp<'_>,
    asked: &Section<'_>,
    given: &Section<'_>,
) {
    let (was, is) = (offer.direction(asked), desk.sdp.direction(given));
    if was.answer(is) != is {
        let at = given
            .lines
            .iter()
            .position(|line| line.attribute().is_some_and(|(name, _)| name == is.as_str()));
        let what = format!("the offer is {was}, the answer {is}");
        desk.find(Check::AnswerDirection, Some(index), at, what);
    }
}

fn formats(desk: &mut Desk<'_, '_>, index: usize, asked: &Section<'_>, given: &Section<'_>) {
    let name = |name: &str, clock: u32| format!("{}/{clock}", name.to_ascii_lowercase());
    let offered: HashMap<u8, String> = asked
        .encodings()
        .iter()
        .map(|encoding| (encoding.payload_type, name(encoding.name, encoding.clock_rate)))
        .collect();
    let accepted = given.encodings();
    let mut common = false;
    for encoding in &accepted {
        let is = name(encoding.name, encoding.clock_rate);
        common |= offered.values().any(|was| *was == is);
        if let Some(was) = offered.get(&encoding.payload_type).filter(|was| **was != is) {
            let what = format!(
                "{} is {was} in the offer and {is} in the answer",
                encoding.payload_type
            );
            desk.find(Check::AnswerPayload, Some(index), Some(0), what);
        }
    }
    if !common && !accepted.is_empty() && !offered.is_empty() {
        let what = "none of its formats was offered".to_owned();
        desk.find(Check::AnswerFormats, Some(index), Some(0), what);
    }
}

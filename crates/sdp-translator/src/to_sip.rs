//! The engine's description, in the form in which it goes over the wire.

use crate::disguise::Rejected;
use crate::repair::repair;
use crate::rule::Rule;
use crate::sdp::{Sdp, is_unspecified};
use crate::work::Work;
use crate::{SipForm, Translation, candidate, check, diet, trickle};
use siprtc_core::Result;

/// In this order: each may rely on those before it.
const RULES: &[fn(&mut Work<'_>)] = &[
    rejected_lines,
    candidate_place,
    candidate_component,
    candidate_unusable,
    trickle::trickle,
    mono_channel,
    default_candidate,
    rtcp_line,
];

/// The engine's local description in the form in which it goes over the wire; what no rule knows stays as it is.
///
/// For an answer, [`answer_to_sip`] knows more: what the offer did not have, the answer must not have either.
///
/// # Errors
/// `PeerMisbehaved` (here the engine is the peer) for what is no SDP or is too big.
pub fn to_sip(webrtc_sdp: &str) -> Result<Translation> {
    to_sip_as(webrtc_sdp, SipForm::default())
}

/// [`to_sip`] in another form than the default one.
///
/// # Errors
/// As [`to_sip`].
pub fn to_sip_as(webrtc_sdp: &str, form: SipForm) -> Result<Translation> {
    translate(webrtc_sdp, form).map(serve)
}

/// The engine's answer to the `offer` as it came from the wire, in the form in which it goes there.
///
/// # Errors
/// As [`to_sip`], and when the answer does not have the offer's m-lines.
pub fn answer_to_sip(offer: &str, webrtc_answer: &str) -> Result<Translation> {
    answer_to_sip_as(offer, webrtc_answer, SipForm::default())
}

/// [`answer_to_sip`] in another form than the default one.
///
/// # Errors
/// As [`answer_to_sip`].
pub fn answer_to_sip_as(offer: &str, webrtc_answer: &str, form: SipForm) -> Result<Translation> {
    let mut work = translate(webrtc_answer, form)?;
    check::fits(offer, &work.sdp.to_text())?;
    fit(&mut work, &Sdp::parse(offer)?);
    Ok(serve(work))
}

fn translate(text: &str, form: SipForm) -> Result<Work<'_>> {
    let mut work = Work::new(text)?;
    work.form = form;
    repair(&mut work);
    for rule in RULES {
        rule(&mut work);
    }
    Ok(work)
}

/// The diet comes last: it counts the octets that go over the wire.
fn serve(mut work: Work<'_>) -> Translation {
    if let Some(octets) = work.form.octets {
        diet::diet(&mut work, octets);
    }
    work.finish()
}

fn fit(work: &mut Work<'_>, offer: &Sdp<'_>) {
    for (index, asked) in offer.media.iter().enumerate() {
        let line = work.sdp.media[index].media_line();
        let proto = asked.media_line().proto;
        if line.proto != proto {
            let text = format!(
                "m={} {} {proto} {}",
                line.media,
                line.port,
                line.formats.join(" ")
            );
            work.replace(Rule::AnswerFit, Some(index), 0, text);
        }
        for name in ["mid", "rtcp-mux"] {
            if asked.position(name).is_none() {
                work.remove(Rule::AnswerFit, Some(index), |line| {
                    line.attribute_value(name).is_some()
                });
            }
        }
    }
    if offer.session.position("group").is_none() {
        work.remove(Rule::AnswerFit, None, |line| {
            line.attribute_value("group").is_some()
        });
    }
}

fn rejected_lines(work: &mut Work<'_>) {
    for index in 0..work.sdp.media.len() {
        let media = &work.sdp.media[index];
        let Some(line) = media
            .attribute("mid")
            .and_then(Rejected::from_mid)
            .filter(|_| !media.is_live())
        else {
            continue;
        };
        work.replace(Rule::RejectedLine, Some(index), 0, line.media_line());
        // A rejected m-line needs nothing more (RFC 3264 section 6); what stands here is of the disguise.
        work.remove(Rule::RejectedLine, Some(index), |line| {
            !matches!(line.letter(), Some(b'm' | b'c'))
        });
        if let Some(mid) = line.mid {
            work.append(Rule::RejectedLine, Some(index), format!("a=mid:{mid}"));
        }
    }
}

/// The engine writes its candidates into the first m-line, rejected or not.
fn candidate_place(work: &mut Work<'_>) {
    let Some(&live) = work.live().first() else { return };
    if work.sdp.media[live].position("candidate").is_some() {
        return;
    }
    let is_candidate =
        |text: &str| text.starts_with("a=candidate:") || text.starts_with("a=end-of-candidates");
    for index in 0..live {
        let lines = &work.sdp.media[index].lines;
        let moved: Vec<String> = lines
            .iter()
            .filter(|line| is_candidate(&line.0))
            .map(|line| line.0.clone().into_owned())
            .collect();
        work.remove(Rule::CandidatePlace, Some(index), |line| is_candidate(&line.0));
        for text in moved {
            work.append(Rule::CandidatePlace, Some(live), text);
        }
    }
}

/// The engine writes each candidate twice, for component 1 and for component 2.
fn candidate_component(work: &mut Work<'_>) {
    for index in work.live() {
        let media = &work.sdp.media[index];
        if media.position("rtcp-mux").is_none() {
            continue;
        }
        let is_second = |value: &str| {
            value
                .split_whitespace()
                .nth(1)
                .and_then(|component| component.parse().ok())
                == Some(2_u16)
        };
        if !media.attributes("candidate").any(is_second) {
            continue;
        }
        let rtp: Vec<(String, u16)> = candidate::of(media)
            .filter(|candidate| candidate.component == 1)
            .map(|candidate| (candidate.host, candidate.port))
            .collect();
        work.remove(Rule::CandidateComponent, Some(index), |line| {
            let Some(value) = line.attribute_value("candidate") else {
                return false;
            };
            value
                .parse::<siprtc_core::ice::Candidate>()
                .is_ok_and(|candidate| {
                    candidate.component == 2 && rtp.contains(&(candidate.host, candidate.port))
                })
        });
    }
}

/// mDNS names stop some SIP servers; they go unless there is nothing else.
fn candidate_unusable(work: &mut Work<'_>) {
    for index in work.live() {
        if work.sdp.media[index]
            .attributes("candidate")
            .any(|value| !candidate::is_mdns(value))
        {
            work.remove(Rule::CandidateUnusable, Some(index), |line| {
                line.attribute_value("candidate").is_some_and(candidate::is_mdns)
            });
        }
    }
}

fn mono_channel(work: &mut Work<'_>) {
    for index in 0..work.sdp.media.len() {
        for at in 0..work.sdp.media[index].lines.len() {
            let line = &work.sdp.media[index].lines[at];
            let Some(value) = line.attribute_value("rtpmap") else {
                continue;
            };
            let Some(short) = value
                .strip_suffix("/1")
                .filter(|short| short.matches('/').count() == 1)
            else {
                continue;
            };
            let text = format!("a=rtpmap:{short}");
            work.replace(Rule::MonoChannel, Some(index), at, text);
        }
    }
}

pub(crate) fn default_candidate(work: &mut Work<'_>) {
    let mut shared = None;
    for (at, index) in work.live().into_iter().enumerate() {
        let own = candidate::default_of(&work.sdp.media[index]);
        if at == 0 {
            shared = own;
        }
        let Some(shared) = shared else { return };
        let media = &work.sdp.media[index];
        let line = media.media_line();
        let is_set = line.port != "9" && !work.sdp.connection_address(media).is_none_or(is_unspecified);
        // A bundle-only m-line has port 0 by definition (RFC 9143 section 6).
        if is_set || line.port == "0" {
            continue;
        }
        let (address, port) = own.unwrap_or(shared);
        let text = format!(
            "m={} {port} {} {}",
            line.media,
            line.proto,
            line.formats.join(" ")
        );
        let family = if address.is_ipv4() { "IP4" } else { "IP6" };
        let connection = format!("c=IN {family} {address}");
        let at = media.lines.iter().position(|line| line.letter() == Some(b'c'));
        let behind_title = media
            .lines
            .iter()
            .take_while(|line| matches!(line.letter(), Some(b'm' | b'i')))
            .count();
        work.replace(Rule::DefaultCandidate, Some(index), 0, text);
        match at {
            Some(at) => work.replace(Rule::DefaultCandidate, Some(index), at, connection),
            None => work.insert(Rule::DefaultCandidate, Some(index), behind_title, connection),
        }
    }
}

/// Browsers write `a=rtcp:9 IN IP4 0.0.0.0`.
fn rtcp_line(work: &mut Work<'_>) {
    for index in work.live() {
        let media = &work.sdp.media[index];
        let port = media.media_line().port.to_owned();
        let Some(at) = media
            .position("rtcp")
            .filter(|_| media.position("rtcp-mux").is_some() && port != "0")
        else {
            continue;
        };
        let asked = media.attribute("rtcp").unwrap_or_default();
        if asked.split_ascii_whitespace().next() == Some("9") && port != "9" {
            work.replace(Rule::RtcpLine, Some(index), at, format!("a=rtcp:{port}"));
        }
    }
}

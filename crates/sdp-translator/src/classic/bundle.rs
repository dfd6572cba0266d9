//! From a classic description to a WebRTC one: one transport, in one BUNDLE group.

use super::media::{Fields, decline, drop_attributes, set_connection, set_direction, set_line};
use super::payload::renumber;
use super::steps::{ICE, KEYS};
use super::target::{WebrtcSide, misuse};
use crate::repair::{contradictions, repair};
use crate::rule::Rule;
use crate::sdp::{Name, Sdp, Section, is_unspecified, names};
use crate::transport::group_of;
use crate::work::Work;
use crate::{RtpProfile, Translation, to_sip, to_webrtc};
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use siprtc_sdp_words::Setup;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

/// What of the classic transport means nothing on the other one.
const RTCP: &[Name<'static>] = &names(["rtcp", "rtcp-mux", "rtcp-mux-only"]);

pub(super) fn translate(text: &str, offer: Option<&Sdp<'_>>, side: &WebrtcSide) -> Result<Translation> {
    check(side)?;
    let mut work = Work::new(text)?;
    repair(&mut work);
    contradictions(&mut work);
    old_hold(&mut work);
    declined(&mut work, offer);
    let live = work.live();
    let Some(&first) = live.first() else {
        let what = "no m-line can be carried: audio and video over RTP and UDP are".to_owned();
        return Err(Error::new(Fault::PeerIncompatible, "translate SDP", what).advice("answer 488"));
    };
    work.carried = (0..work.sdp.media.len())
        .map(|index| live.contains(&index))
        .collect();
    work.kept = first;
    mids(&mut work, offer);
    group(&mut work, offer);
    drop_attributes(&mut work, Rule::ClassicKeys, KEYS);
    drop_attributes(&mut work, Rule::ClassicIce, ICE);
    drop_attributes(&mut work, Rule::ClassicRtcp, RTCP);
    for &index in &live {
        profile(&mut work, index, offer);
        payload_types(&mut work, index, side)?;
        legal_direction(&mut work, index, offer);
    }
    to_webrtc::direction(&mut work);
    to_webrtc::payloads(&mut work);
    to_webrtc::rtpmaps(&mut work);
    for &index in &live {
        let role = role(offer, index, side);
        transport(&mut work, index, index == first, role, side);
    }
    to_sip::default_candidate(&mut work);
    let told = work.finish();
    // What was put in may be more than what was taken out.
    Sdp::parse(&told.sdp)?;
    Ok(told)
}

fn check(side: &WebrtcSide) -> Result<()> {
    let own = &side.transport;
    let mut words = [&own.fingerprint, &own.ice_ufrag, &own.ice_pwd]
        .into_iter()
        .chain(&own.candidates);
    match words.any(|word| word.contains(['\r', '\n'])) {
        true => Err(misuse("the transport has a line end".to_owned())),
        false => Ok(()),
    }
}

/// RFC 3264 section 8.4: c=0.0.0.0 says that nothing is received. WebRTC reads it as "see the candidates".
fn old_hold(work: &mut Work<'_>) {
    for index in work.live() {
        let media = &work.sdp.media[index];
        if !work.sdp.connection_address(media).is_some_and(is_unspecified)
            || work.sdp.attribute(media, "ice-ufrag").is_some()
        {
            continue;
        }
        let own = work.sdp.direction(media);
        let held = Direction::from_parts(own.sends(), false);
        if held != own {
            set_direction(work, Rule::ClassicHold, index, held);
        }
    }
}

/// What is no audio or video over RTP and UDP, what stands outside of the offer's group, and doubles.
fn declined(work: &mut Work<'_>, offer: Option<&Sdp<'_>>) {
    let mut taken: HashSet<(String, String, String)> = HashSet::new();
    let mut group: Option<Vec<usize>> = None;
    for index in 0..work.sdp.media.len() {
        let media = &work.sdp.media[index];
        let line = media.media_line();
        let address = work.sdp.connection_address(media).unwrap_or_default();
        let place = (line.media.to_owned(), line.port.to_owned(), address.to_owned());
        let is_known = media.is_live()
            && matches!(line.media, "audio" | "video")
            && RtpProfile::from_name(line.proto).is_some()
            && media.has_encoding()
            && group.as_ref().is_none_or(|group| group.contains(&index));
        if is_known && taken.insert(place) {
            group = group.or_else(|| Some(group_of(offer?, index)));
        } else {
            decline(work, index);
        }
    }
}

fn mids(work: &mut Work<'_>, offer: Option<&Sdp<'_>>) {
    for (index, asked) in offer.iter().flat_map(|offer| &offer.media).enumerate() {
        match asked.attribute("mid") {
            Some(mid) => to_webrtc::set_attribute(work, Rule::ClassicBundle, index, "mid", mid),
            None => work.remove(Rule::ClassicBundle, Some(index), |line| {
                line.attribute_value("mid").is_some()
            }),
        }
    }
    if offer.is_none() {
        to_webrtc::mids(work);
    }
}

/// An answer has a group only where its offer has one (RFC 9143 section 7.3).
fn group(work: &mut Work<'_>, offer: Option<&Sdp<'_>>) {
    if offer.is_none_or(|offer| offer.bundles().next().is_some()) {
        to_webrtc::bundle_group(work);
    } else {
        work.remove(Rule::ClassicBundle, None, |line| {
            line.attribute_value("group").is_some()
        });
    }
}

fn profile(work: &mut Work<'_>, index: usize, offer: Option<&Sdp<'_>>) {
    let asked = offer
        .and_then(|offer| offer.media.get(index))
        .map(Section::media_line);
    let proto = asked.map_or_else(|| RtpProfile::DtlsSavpf.to_string(), |line| line.proto.to_owned());
    let fields = Fields {
        proto: Some(&proto),
        ..Fields::default()
    };
    set_line(work, Rule::ClassicProfile, index, fields);
}

fn payload_types(work: &mut Work<'_>, index: usize, side: &WebrtcSide) -> Result<()> {
    let table: HashMap<u8, u8> = side
        .payload_types
        .iter()
        .map(|(here, there)| (*there, *here))
        .collect();
    renumber(work, index, &table)
}

fn legal_direction(work: &mut Work<'_>, index: usize, offer: Option<&Sdp<'_>>) {
    let Some((offer, asked)) = offer.and_then(|offer| Some((offer, offer.media.get(index)?))) else {
        return;
    };
    let own = work.sdp.direction(&work.sdp.media[index]);
    let legal = offer.direction(asked).answer(own);
    if legal != own {
        set_direction(work, Rule::ClassicHold, index, legal);
    }
}

fn role(offer: Option<&Sdp<'_>>, index: usize, side: &WebrtcSide) -> Setup {
    let Some(offer) = offer else { return Setup::Actpass };
    let asked = offer
        .media
        .get(index)
        .and_then(|media| offer.attribute(media, "setup"));
    Setup::answering(asked.and_then(Setup::from_name), side.established).0
}

fn transport(work: &mut Work<'_>, index: usize, is_first: bool, role: Setup, side: &WebrtcSide) {
    // The address is in the candidates; `default_candidate` puts one of them here.
    let fields = Fields {
        port: Some("9"),
        ..Fields::default()
    };
    set_line(work, Rule::ClassicAddress, index, fields);
    set_connection(
        work,
        Rule::ClassicAddress,
        index,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    );
    let own = &side.transport;
    let mut lines = vec![
        (Rule::ClassicRtcp, "a=rtcp-mux".to_owned()),
        (Rule::ClassicKeys, format!("a=setup:{role}")),
        (Rule::ClassicKeys, format!("a=fingerprint:{}", own.fingerprint)),
        (Rule::ClassicIce, format!("a=ice-ufrag:{}", own.ice_ufrag)),
        (Rule::ClassicIce, format!("a=ice-pwd:{}", own.ice_pwd)),
    ];
    if is_first {
        let candidates = own.candidates.iter();
        lines.extend(candidates.map(|candidate| (Rule::ClassicIce, format!("a=candidate:{candidate}"))));
    }
    for (rule, text) in lines {
        work.append(rule, Some(index), text);
    }
}

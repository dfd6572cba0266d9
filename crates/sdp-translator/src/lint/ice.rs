//! ICE: credentials and candidates (RFC 8839).

use super::{Check, Desk, attributes};
use crate::rule::Rule;
use crate::sdp::{Section, is_unspecified};
use siprtc_core::ice::Candidate;
use std::collections::HashSet;
use std::net::IpAddr;

pub(super) fn look(desk: &mut Desk<'_, '_>) {
    let sdp = desk.sdp;
    credentials(desk, None, &sdp.session);
    for (index, media) in sdp.media.iter().enumerate() {
        credentials(desk, Some(index), media);
        candidates(desk, index, media);
    }
}

fn credentials(desk: &mut Desk<'_, '_>, place: Option<usize>, section: &Section<'_>) {
    for (name, shortest) in [("ice-ufrag", 4), ("ice-pwd", 22)] {
        let Some((at, value)) = attributes(section, name).next() else {
            continue;
        };
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        if !(shortest..=256).contains(&value.len()) {
            let what = format!("{name} has {} characters", value.len());
            desk.find(Check::IceCredentialsLength, place, Some(at), what);
        } else if !value.bytes().all(is_fine) {
            let what = format!("{name} has characters that are none of ICE's");
            desk.find(Check::IceCredentialsLength, place, Some(at), what);
        }
        let other = if name == "ice-ufrag" {
            "ice-pwd"
        } else {
            "ice-ufrag"
        };
        let elsewhere = place.and_then(|_| desk.sdp.session.attribute(other));
        if section.attribute(other).or(elsewhere).is_none() {
            let what = format!("a={name} is there, and a={other} is not");
            desk.find(Check::IceCredentialsHalf, place, Some(at), what);
        }
    }
}

fn candidates(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let mut read: Vec<(usize, Candidate)> = Vec::new();
    for (at, value) in attributes(media, "candidate") {
        match value.parse::<Candidate>() {
            Ok(candidate) => read.push((at, candidate)),
            Err(_) => {
                let what = format!("{value:?} cannot be read");
                desk.find(Check::CandidateInvalid, Some(index), Some(at), what)
                    .fix(Rule::CandidateUnusable);
            }
        }
    }
    let Some(&(first, _)) = read.first() else { return };
    if !media.is_live() {
        let what = "the m-line is rejected, and has candidates".to_owned();
        desk.find(Check::CandidatePlace, Some(index), Some(first), what)
            .fix(Rule::CandidatePlace);
        return;
    }
    if desk.transport_attribute(index, "ice-ufrag").is_none() {
        let what = "candidates are there, and a=ice-ufrag is not".to_owned();
        desk.find(Check::IceCredentialsMissing, Some(index), Some(first), what);
    }
    components(desk, index, media, &read);
    default(desk, index, media, &read);
}

/// Only those that repeat the address of component 1: one of its own is what a peer without multiplexing needs.
fn components(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>, read: &[(usize, Candidate)]) {
    if media.position("rtcp-mux").is_none() {
        return;
    }
    let rtp: HashSet<(&str, u16)> = read
        .iter()
        .filter(|(_, candidate)| candidate.component == 1)
        .map(|(_, candidate)| (candidate.host.as_str(), candidate.port))
        .collect();
    for (at, candidate) in read {
        if candidate.component == 2 && rtp.contains(&(candidate.host.as_str(), candidate.port)) {
            let what = "it repeats the address of component 1 for component 2".to_owned();
            desk.find(Check::CandidateComponent, Some(index), Some(*at), what)
                .fix(Rule::CandidateComponent);
        }
    }
}

fn default(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>, read: &[(usize, Candidate)]) {
    let line = media.media_line();
    let Some(address) = desk.sdp.connection_address(media) else {
        return;
    };
    // A bundle-only m-line has no address of its own.
    if line.port == "0" {
        return;
    }
    if line.port == "9" || is_unspecified(address) {
        let has_address = read.iter().any(|(_, candidate)| {
            candidate.component == 1
                && candidate.transport.eq_ignore_ascii_case("udp")
                && candidate.host.parse::<IpAddr>().is_ok()
        });
        if has_address {
            let what = format!(
                "m= and c= say {address} port {}, and there are candidates",
                line.port
            );
            desk.find(Check::DefaultCandidate, Some(index), Some(0), what)
                .fix(Rule::DefaultCandidate);
        }
        return;
    }
    // Names and what other m-lines of the transport have cannot be told from the text of this one.
    let (Ok(address), Ok(port)) = (
        address.parse::<IpAddr>(),
        line.port.split('/').next().unwrap_or_default().parse::<u16>(),
    ) else {
        return;
    };
    let is_there = |(_, candidate): &(usize, Candidate)| {
        candidate.port == port && candidate.host.parse::<IpAddr>().is_ok_and(|host| host == address)
    };
    if !read.iter().any(is_there) {
        let what = format!("{address} port {port} is no candidate");
        desk.find(Check::IceMismatch, Some(index), Some(0), what);
    }
}

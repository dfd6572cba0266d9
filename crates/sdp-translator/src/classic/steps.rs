//! The steps from a WebRTC description to a classic one.

use super::media::{
    Fields, connection, decline, drop_attributes, is_one_of, keep_formats, set_connection, set_direction,
    set_line,
};
use super::payload::{renumber, rests_on};
use super::{Plan, RtcpPort};
use crate::answer::is_voice;
use crate::profile::Hold;
use crate::rule::Rule;
use crate::sdp::{Name, RtpMaps, Section, is_unspecified, names, static_encoding};
use crate::work::Work;
use siprtc_core::Result;
use siprtc_core::media::Direction;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

/// What is of ICE (RFC 8839 section 5), at either level.
pub(super) const ICE: &[Name<'static>] = &names([
    "candidate",
    "end-of-candidates",
    "ice-lite",
    "ice-mismatch",
    "ice-options",
    "ice-pacing",
    "ice-pwd",
    "ice-ufrag",
    "remote-candidates",
]);
/// Where keys come from, at either level.
pub(super) const KEYS: &[Name<'static>] = &names([
    "connection",
    "crypto",
    "dtls-id",
    "fingerprint",
    "identity",
    "setup",
    "tls-id",
]);
pub(super) const STREAMS: &[Name<'static>] = &names(["msid", "msid-semantic", "ssrc", "ssrc-group"]);
const SIMULCAST: &[Name<'static>] = &names(["rid", "simulcast"]);
const EXTENSIONS: &[Name<'static>] = &names(["extmap", "extmap-allow-mixed"]);
/// Of the profiles in F (RFC 4585 section 4.2, RFC 5506 section 5).
const FEEDBACK: &[Name<'static>] = &names(["rtcp-fb", "rtcp-rsize"]);

const RTCP: &[Name<'static>] = &names(["rtcp", "rtcp-mux-only"]);

/// One step.
pub(super) enum Step {
    /// Attributes that a classic description does not have.
    Drop(Rule, &'static [Name<'static>]),
    /// Everything else.
    Do(fn(&mut Work<'_>, &Plan<'_>) -> Result<()>),
}

impl Step {
    pub(super) fn take(&self, work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
        match self {
            Step::Drop(rule, names) => {
                drop_attributes(work, *rule, names);
                Ok(())
            }
            Step::Do(step) => step(work, plan),
        }
    }
}

/// In this order: each may rely on those before it.
pub(super) const STEPS: &[Step] = &[
    Step::Do(hold_of_session),
    Step::Do(formats),
    Step::Do(declined),
    Step::Do(bundle),
    Step::Drop(Rule::ClassicIce, ICE),
    Step::Drop(Rule::ClassicStream, STREAMS),
    Step::Drop(Rule::ClassicSimulcast, SIMULCAST),
    Step::Drop(Rule::ClassicExtension, EXTENSIONS),
    Step::Do(profile),
    Step::Do(payload_types),
    Step::Do(address),
    Step::Do(rtcp),
    Step::Drop(Rule::ClassicKeys, KEYS),
    Step::Do(keys),
    Step::Do(direction),
];

/// The session's direction goes into the m-lines, where phones look for it.
fn hold_of_session(work: &mut Work<'_>, _: &Plan<'_>) -> Result<()> {
    if let Some(direction) = work.sdp.session.direction() {
        for index in work.live() {
            if work.sdp.media[index].direction().is_none() {
                set_direction(work, Rule::ClassicHold, index, direction);
            }
        }
    }
    Ok(())
}

fn formats(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    for index in work.live() {
        let media = &work.sdp.media[index];
        if !media.media_line().is_rtp() {
            continue;
        }
        let maps = media.rtpmaps();
        let kept = kept_formats(media, &maps, index, plan);
        let has_voice = {
            let encoding = |format: &&String| {
                maps.of(format)
                    .or_else(|| static_encoding(format.parse().ok()?))
                    .is_some_and(is_voice)
            };
            kept.iter().any(|format| encoding(&format))
        };
        if kept.is_empty() || !has_voice {
            decline(work, index);
        } else {
            keep_formats(work, Rule::ClassicFormats, index, &kept);
        }
    }
    Ok(())
}

fn kept_formats(media: &Section<'_>, maps: &RtpMaps<'_>, index: usize, plan: &Plan<'_>) -> HashSet<String> {
    let line = media.media_line();
    let asked: Option<HashSet<&str>> = plan
        .offer
        .and_then(|offer| offer.media.get(index))
        .map(|media| media.media_line().formats.into_iter().collect());
    let has_feedback = plan.profile(index).is_some_and(|profile| profile.has_feedback());
    // The offer's numbers are those of the classic side.
    let there = |format: &str| {
        let own = format.parse().ok();
        let pairs = &plan.target.payload_types;
        let pair = pairs.iter().find(|(here, _)| Some(*here) == own);
        pair.map_or_else(|| format.to_owned(), |(_, there)| there.to_string())
    };
    let is_taken = |format: &&str| {
        let encoding = maps.of(format).or_else(|| static_encoding(format.parse().ok()?));
        let is_asked = asked
            .as_ref()
            .is_none_or(|asked| asked.contains(there(format).as_str()));
        is_asked && takes(plan, line.media, encoding, has_feedback)
    };
    let mut kept: HashSet<String> = line
        .formats
        .iter()
        .copied()
        .filter(|format| is_taken(format))
        .map(str::to_owned)
        .collect();
    // Most formats rest on no other.
    let all = LazyCell::new(|| line.formats.iter().copied().collect::<HashSet<&str>>());
    for (format, parameters) in media.attributes("fmtp").filter_map(|value| value.split_once(' ')) {
        let is_lost = |other: &&str| all.contains(*other) && !kept.contains(*other);
        if rests_on(parameters).iter().any(is_lost) {
            kept.remove(format);
        }
    }
    kept
}

fn takes(plan: &Plan<'_>, medium: &str, encoding: Option<&str>, has_feedback: bool) -> bool {
    let Some(encoding) = encoding else {
        // What nothing says the encoding of is nothing that a list of encodings could name.
        return plan.target.codecs.is_none() || medium != "audio";
    };
    let mut words = encoding.split('/');
    let (name, clock) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if name.eq_ignore_ascii_case("rtx") {
        return has_feedback;
    }
    if medium != "audio" || name.eq_ignore_ascii_case("CN") {
        return true;
    }
    if name.eq_ignore_ascii_case("telephone-event") {
        let clock = clock.parse().unwrap_or_default();
        return plan
            .target
            .telephone_event
            .as_ref()
            .is_none_or(|clocks| clocks.contains(&clock));
    }
    let is_named = |codec: &String| {
        let mut own = codec.split('/');
        own.next().is_some_and(|own| own.eq_ignore_ascii_case(name)) && own.next() == Some(clock)
    };
    plan.target
        .codecs
        .as_ref()
        .is_none_or(|codecs| codecs.iter().any(is_named))
}

/// Fax, data channels, floor control, messages, and what the target does not take: declined by the book.
fn declined(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    for index in 0..work.sdp.media.len() {
        let media = &work.sdp.media[index];
        let line = media.media_line();
        let is_taken = media.is_live()
            && line.is_rtp()
            && matches!(line.media, "audio" | "video")
            && plan.target.media.iter().any(|medium| medium == line.media)
            && plan.target.max_media.is_none_or(|most| index < most)
            && plan.transport(index).is_some()
            && plan.profile(index).is_some();
        if !is_taken {
            decline(work, index);
        }
    }
    Ok(())
}

fn bundle(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    work.remove(Rule::ClassicBundle, None, |line| {
        line.attribute_value("group")
            .is_some_and(|value| value.split_ascii_whitespace().next() == Some("BUNDLE"))
    });
    // Lip synchronisation and the like name m-lines too.
    let is_named = work.sdp.session.position("group").is_some();
    for index in 0..work.sdp.media.len() {
        let is_kept = is_named || (plan.offer.is_some() && plan.was_offered(index, "mid"));
        if !is_kept {
            work.remove(Rule::ClassicBundle, Some(index), |line| {
                line.attribute_value("mid").is_some()
            });
        }
    }
    Ok(())
}

fn profile(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    for index in work.live() {
        let Some(profile) = plan.profile(index) else {
            continue;
        };
        let fields = Fields {
            proto: Some(profile.as_str()),
            ..Fields::default()
        };
        set_line(work, Rule::ClassicProfile, index, fields);
        if !profile.has_feedback() {
            work.remove(Rule::ClassicProfile, Some(index), |line| {
                is_one_of(line, FEEDBACK)
            });
        }
    }
    Ok(())
}

fn payload_types(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    let table: HashMap<u8, u8> = plan.target.payload_types.iter().copied().collect();
    for index in work.live() {
        renumber(work, index, &table)?;
    }
    Ok(())
}

fn address(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    let live = work.live();
    let of_session = work
        .sdp
        .session
        .lines
        .iter()
        .position(|line| line.letter() == Some(b'c'));
    let first = live.first().and_then(|&index| plan.transport(index));
    if let (Some(at), Some(first)) = (of_session, first) {
        let line = &work.sdp.session.lines[at];
        let is_none = line
            .value()
            .split_ascii_whitespace()
            .nth(2)
            .is_some_and(is_unspecified);
        if is_none {
            // Whoever reads the session's alone would take it for hold.
            work.replace(Rule::ClassicAddress, None, at, connection(first.rtp.ip()));
        }
    }
    for index in live {
        let Some(own) = plan.transport(index) else {
            continue;
        };
        let port = own.rtp.port().to_string();
        let fields = Fields {
            port: Some(&port),
            ..Fields::default()
        };
        set_line(work, Rule::ClassicAddress, index, fields);
        set_connection(work, Rule::ClassicAddress, index, own.rtp.ip());
        // Only now: it is what tells an m-line with port 0 from a rejected one.
        work.remove(Rule::ClassicBundle, Some(index), |line| {
            line.attribute_value("bundle-only").is_some()
        });
    }
    Ok(())
}

fn rtcp(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    for index in work.live() {
        let Some(own) = plan.transport(index) else {
            continue;
        };
        let is_muxed = plan.target.rtcp != RtcpPort::Own && plan.was_offered(index, "rtcp-mux");
        let is_only = is_muxed && (plan.target.rtcp == RtcpPort::Multiplexed || plan.offer.is_some());
        let next = own.rtp.port().checked_add(1);
        let line = match own.rtcp_addr() {
            _ if is_only => Some(own.rtp.port().to_string()),
            // The next port is where RTCP goes anyway (RFC 3550 section 11).
            Some(rtcp) if rtcp.ip() == own.rtp.ip() && Some(rtcp.port()) == next && !is_muxed => None,
            Some(rtcp) if rtcp.ip() == own.rtp.ip() => Some(rtcp.port().to_string()),
            Some(rtcp) => {
                let address = connection(rtcp.ip());
                Some(format!("{} {}", rtcp.port(), address.trim_start_matches("c=")))
            }
            None => None,
        };
        work.remove(Rule::ClassicRtcp, Some(index), |line| {
            is_one_of(line, RTCP) || (!is_muxed && line.attribute_value("rtcp-mux").is_some())
        });
        if is_muxed && work.sdp.media[index].position("rtcp-mux").is_none() {
            work.append(Rule::ClassicRtcp, Some(index), "a=rtcp-mux".to_owned());
        }
        if let Some(value) = line {
            work.append(Rule::ClassicRtcp, Some(index), format!("a=rtcp:{value}"));
        }
    }
    Ok(())
}

fn keys(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    for index in work.live() {
        let (Some(own), Some(profile)) = (plan.transport(index), plan.profile(index)) else {
            continue;
        };
        let mut lines = Vec::new();
        if !profile.is_dtls() {
            lines.extend(own.crypto.iter().map(|crypto| format!("a=crypto:{crypto}")));
        }
        // An answer takes one of the two when both are offered; DTLS only where that is.
        let is_asked = plan.offer.is_none_or(|offer| {
            let media = offer.media.get(index);
            media.is_some_and(|media| offer.attribute(media, "fingerprint").is_some())
        });
        if let Some(dtls) = own.dtls.as_ref().filter(|_| is_asked) {
            lines.push(format!("a=setup:{}", dtls.setup));
            lines.push(format!("a=fingerprint:{}", dtls.fingerprint));
        }
        for text in lines {
            work.append(Rule::ClassicKeys, Some(index), text);
        }
    }
    Ok(())
}

/// A legal direction, and hold in the words that the target knows.
fn direction(work: &mut Work<'_>, plan: &Plan<'_>) -> Result<()> {
    for index in work.live() {
        let media = &work.sdp.media[index];
        let own = work.sdp.direction(media);
        let asked = plan
            .offer
            .and_then(|offer| Some(offer.direction(offer.media.get(index)?)));
        let legal = asked.map_or(own, |asked| asked.answer(own));
        if legal != own {
            set_direction(work, Rule::ClassicHold, index, legal);
        }
        let is_held =
            plan.target.hold == Hold::ZeroAddress && !legal.receives() && legal != Direction::SendRecv;
        let is_ipv4 = plan.transport(index).is_some_and(|own| own.rtp.is_ipv4());
        if is_held && is_ipv4 {
            set_connection(work, Rule::ClassicHold, index, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
    }
    Ok(())
}

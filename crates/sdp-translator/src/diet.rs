//! The INVITE diet: a description that is too long for a datagram loses what the peer misses least.
//!
//! RFC 3261 section 18.1.1 sends a request over TCP when it comes near the path's MTU, at 1,300 octets where that is not
//! known; and a UDP INVITE that is split into fragments is what many a NAT and firewall drops. The courses are served in
//! order, each only while the description is still too long.
//!
//! Never cut: user fragment, password, fingerprint, setup, mid, the default candidate (RFC 8839 section 4.2.5: its absence
//! is an ICE mismatch), and the last candidate of a kind.

use crate::rule::Rule;
use crate::sdp::{Line, static_encoding};
use crate::work::Work;
use siprtc_core::ice::{Candidate, CandidateKind};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// What costs the peer nothing goes first; what may cost it a way to us goes last.
const COURSES: &[fn(&mut Work<'_>, usize)] = &[
    static_rtpmaps,
    media_streams,
    candidate_extensions,
    duplicates,
    link_local,
    tcp,
    temporaries,
    foundations,
    header_extensions,
    lowest_priority,
];

/// Cuts until the description has at most `octets`, line ends included; a note says when that cannot be reached.
pub(crate) fn diet(work: &mut Work<'_>, octets: usize) {
    for course in COURSES {
        if work.octets() <= octets {
            return;
        }
        course(work, octets);
    }
    if work.octets() > octets {
        work.notes.push(Rule::DietTooLong, None, None, None);
    }
}

fn static_rtpmaps(work: &mut Work<'_>, _: usize) {
    let says_the_table = |line: &Line<'_>| {
        let map = line
            .attribute_value("rtpmap")
            .and_then(|value| value.split_once(' '));
        let Some((payload_type, encoding)) = map else {
            return false;
        };
        let table = payload_type.parse().ok().and_then(static_encoding);
        table.is_some_and(|table| table.eq_ignore_ascii_case(encoding.trim()))
    };
    work.remove_everywhere(Rule::DietRtpmapStatic, says_the_table);
}

/// Where several streams share a transport, Asterisk tells them apart by `a=ssrc` alone, and drops what it does not know.
fn media_streams(work: &mut Work<'_>, _: usize) {
    const NAMES: [&str; 4] = ["msid", "msid-semantic", "ssrc-group", "ssrc"];
    let names = if work.live().len() > 1 {
        &NAMES[..3]
    } else {
        &NAMES[..]
    };
    work.remove_everywhere(Rule::DietMediaStream, |line| {
        names.iter().any(|name| line.attribute_value(name).is_some())
    });
}

fn candidate_extensions(work: &mut Work<'_>, _: usize) {
    for index in 0..work.sdp.media.len() {
        for at in 0..work.sdp.media[index].lines.len() {
            let Some(value) = work.sdp.media[index].lines[at].attribute_value("candidate") else {
                continue;
            };
            if let Some(short) = without_extensions(value) {
                work.replace(
                    Rule::DietCandidateExtension,
                    Some(index),
                    at,
                    format!("a=candidate:{short}"),
                );
            }
        }
    }
}

/// The fields that RFC 8839 section 5.1 and RFC 6544 section 4.5 know. `None` for what cannot be read.
fn without_extensions(value: &str) -> Option<String> {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let (known, extensions) = words.split_at_checked(8)?;
    let kept = extensions
        .chunks_exact(2)
        .filter(|pair| ["raddr", "rport", "tcptype"].contains(&pair[0]));
    let kept: Vec<&str> = known.iter().copied().chain(kept.flatten().copied()).collect();
    Some(kept.join(" "))
}

/// One candidate line of a description.
struct Found {
    media: usize,
    at: usize,
    octets: usize,
    candidate: Candidate,
    ip: Option<IpAddr>,
    /// m= and c= name it.
    is_default: bool,
    out: bool,
}

impl Found {
    /// What must not lose its last: a type, for each component and in each address family.
    fn kind(&self) -> (usize, u16, CandidateKind, Option<bool>) {
        let candidate = &self.candidate;
        let is_ipv4 = self.ip.map(|ip| ip.is_ipv4());
        (self.media, candidate.component, candidate.kind, is_ipv4)
    }

    fn is_tcp(&self) -> bool {
        self.candidate.transport.eq_ignore_ascii_case("tcp")
    }

    fn is_link_local(&self) -> bool {
        match self.ip {
            Some(IpAddr::V4(ip)) => ip.is_link_local(),
            Some(IpAddr::V6(ip)) => ip.is_unicast_link_local(),
            None => false,
        }
    }

    fn network(&self) -> Option<u64> {
        match self.ip {
            Some(IpAddr::V6(ip)) => Some(prefix(ip)),
            _ => None,
        }
    }
}

/// The 64 bits that every interface identifier of one link shares (RFC 4291 section 2.5.1).
fn prefix(ip: Ipv6Addr) -> u64 {
    (u128::from(ip) >> 64) as u64
}

/// Every candidate that can be read, the best first.
fn candidates(work: &Work<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (media, section) in work.sdp.media.iter().enumerate() {
        let address = work.sdp.connection_address(section);
        let port = section.media_line().port.to_owned();
        for (at, line) in section.lines.iter().enumerate() {
            let Some(candidate) = line
                .attribute_value("candidate")
                .and_then(|value| value.parse::<Candidate>().ok())
            else {
                continue;
            };
            let is_default = address == Some(&candidate.host) && port == candidate.port.to_string();
            found.push(Found {
                media,
                at,
                octets: line.0.len() + 2,
                ip: candidate.host.parse().ok(),
                is_default,
                candidate,
                out: false,
            });
        }
    }
    found.sort_by_key(|found| std::cmp::Reverse(found.candidate.priority));
    found
}

/// Takes out what `unwanted` names, the worst first, until the description fits. It is asked with the better candidates
/// that are still there.
fn cut(work: &mut Work<'_>, octets: usize, rule: Rule, unwanted: impl Fn(&Found, &[Found]) -> bool) {
    let mut found = candidates(work);
    let mut excess = work.octets().saturating_sub(octets);
    let mut left: HashMap<_, usize> = HashMap::new();
    for one in &found {
        *left.entry(one.kind()).or_default() += 1;
    }
    for index in (0..found.len()).rev() {
        let (better, rest) = found.split_at_mut(index);
        let Some(one) = rest.first_mut() else { continue };
        let of_its_kind = left.entry(one.kind()).or_default();
        if excess == 0 || one.is_default || *of_its_kind < 2 || !unwanted(one, better) {
            continue;
        }
        one.out = true;
        *of_its_kind -= 1;
        excess = excess.saturating_sub(one.octets);
    }
    for media in 0..work.sdp.media.len() {
        let mut at = 0;
        work.remove(rule, Some(media), |_| {
            let out = found
                .iter()
                .any(|one| one.out && one.media == media && one.at == at);
            at += 1;
            out
        });
    }
}

fn duplicates(work: &mut Work<'_>, octets: usize) {
    cut(work, octets, Rule::DietCandidateDuplicate, |one, better| {
        better.iter().any(|other| {
            let (a, b) = (&one.candidate, &other.candidate);
            other.media == one.media
                && (&a.host, a.port, a.component) == (&b.host, b.port, b.component)
                && a.transport.eq_ignore_ascii_case(&b.transport)
        })
    });
}

fn link_local(work: &mut Work<'_>, octets: usize) {
    cut(work, octets, Rule::DietCandidateLinkLocal, |one, _| {
        one.is_link_local()
    });
}

fn tcp(work: &mut Work<'_>, octets: usize) {
    cut(work, octets, Rule::DietCandidateTcp, |one, _| one.is_tcp());
}

fn temporaries(work: &mut Work<'_>, octets: usize) {
    cut(work, octets, Rule::DietCandidateTemporary, |one, better| {
        let is_host = |found: &Found| found.candidate.kind == CandidateKind::Host && !found.is_tcp();
        let same_link = |other: &Found| {
            other.media == one.media
                && other.candidate.component == one.candidate.component
                && other.network() == one.network()
                && other.ip != one.ip
                && is_host(other)
        };
        one.network().is_some() && is_host(one) && better.iter().any(same_link)
    });
}

fn foundations(work: &mut Work<'_>, octets: usize) {
    cut(work, octets, Rule::DietCandidateFoundation, |one, better| {
        better.iter().any(|other| {
            other.media == one.media
                && other.candidate.foundation == one.candidate.foundation
                && other.candidate.component == one.candidate.component
        })
    });
}

fn lowest_priority(work: &mut Work<'_>, octets: usize) {
    cut(work, octets, Rule::DietCandidatePriority, |_, _| true);
}

fn header_extensions(work: &mut Work<'_>, _: usize) {
    for index in 0..work.sdp.media.len() {
        if work.sdp.media[index].media_line().media != "audio" {
            continue;
        }
        work.remove(Rule::DietHeaderExtension, Some(index), |line| {
            let is_mid = |value: &str| value.split_ascii_whitespace().nth(1) == Some(MID_EXTENSION);
            line.attribute_value("extmap").is_some_and(|value| !is_mid(value))
        });
    }
}

/// Names the m-line of a packet in a BUNDLE group (RFC 9143 section 15).
const MID_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

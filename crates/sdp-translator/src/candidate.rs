//! Candidates of a description.

use crate::sdp::{Sdp, Section};
use siprtc_core::ice::{Candidate, CandidateKind};
use std::net::IpAddr;

/// The candidates of the first m-line that is not rejected, without those that cannot be read. Empty for what is no
/// SDP.
///
/// ```
/// let sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
///            a=candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host\r\n";
/// assert_eq!(siprtc_sdp_translator::candidates(sdp)[0].port, 40000);
/// ```
pub fn candidates(sdp: &str) -> Vec<Candidate> {
    let Ok(sdp) = Sdp::parse(sdp) else {
        return Vec::new();
    };
    let Some(media) = sdp.media.iter().find(|media| media.is_live()) else {
        return Vec::new();
    };
    of(media).collect()
}

pub(crate) fn of(section: &Section<'_>) -> impl Iterator<Item = Candidate> {
    section
        .attributes("candidate")
        .filter_map(|value| value.parse().ok())
}

/// Whether the engine can take it: it fails on the whole description otherwise.
pub(crate) fn is_usable(value: &str) -> bool {
    let Ok(candidate) = value.parse::<Candidate>() else {
        return false;
    };
    let transport_is_known = ["udp", "tcp"]
        .iter()
        .any(|name| candidate.transport.eq_ignore_ascii_case(name));
    let related_is_whole =
        candidate.related.is_some() || value.split_ascii_whitespace().nth(8) != Some("raddr");
    transport_is_known && related_is_whole && candidate.host.parse::<IpAddr>().is_ok()
}

/// An mDNS name hides the address of a host in the same network; nobody else can use it.
pub(crate) fn is_mdns(value: &str) -> bool {
    value
        .split_ascii_whitespace()
        .nth(4)
        .is_some_and(|host| host.to_ascii_lowercase().ends_with(".local"))
}

/// The default candidate: the one most likely to work with whoever knows no ICE. Among equals IPv4, which more of
/// those can reach, then the higher priority.
pub(crate) fn default_of(section: &Section<'_>) -> Option<(IpAddr, u16)> {
    let worth = |kind| match kind {
        CandidateKind::Relayed => 3,
        CandidateKind::ServerReflexive => 2,
        CandidateKind::Host => 1,
        CandidateKind::PeerReflexive => 0,
    };
    of(section)
        .filter(|candidate| candidate.component == 1 && candidate.transport.eq_ignore_ascii_case("udp"))
        .filter_map(|candidate| Some((candidate.socket_addr()?, candidate)))
        .filter(|(addr, _)| addr.port() != 0 && !addr.ip().is_unspecified())
        .max_by_key(|(addr, candidate)| (worth(candidate.kind), addr.is_ipv4(), candidate.priority))
        .map(|(addr, _)| (addr.ip(), addr.port()))
}

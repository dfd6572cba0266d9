//! What the library may see of a description, and what the peer may see of the library's.

use siprtc_rtp::Format;
use siprtc_rtp::sdp::{Sections, map_lines, with_formats, with_usable_candidates};

/// The remote description as the library may see it: with usable candidates, the one codec that it knows, and
/// sendrecv audio. Of any other direction it draws wrong conclusions for good (it makes a second transceiver that
/// never sends, or stops the one we have); directions are told to it by `set_direction`.
pub(crate) fn for_library(sdp: &str, shown: Format) -> String {
    let mut sections = Sections::default();
    let sdp = with_formats(&with_usable_candidates(sdp), &[shown]);
    map_lines(&sdp, |line| {
        let narrowed = matches!(line, "a=sendonly" | "a=recvonly" | "a=inactive");
        Some(if sections.in_audio(line) && narrowed {
            "a=sendrecv".to_owned()
        } else {
            line.to_owned()
        })
    })
}

/// Our description as the peer may see it: with our formats, and without candidates of component 2. With rtcp-mux
/// there is no such transport (RFC 8843 section 9.3), yet the library lists each candidate twice.
pub(crate) fn from_library(sdp: &str, formats: &[Format]) -> String {
    let relay_only = !sdp.contains(" typ host");
    map_lines(&with_formats(sdp, formats), |line| {
        let Some(value) = line.strip_prefix("a=candidate:") else {
            return Some(line.to_owned());
        };
        if value.split_whitespace().nth(1) == Some("2") {
            return None;
        }
        Some(if relay_only {
            without_related_address(line)
        } else {
            line.to_owned()
        })
    })
}

/// Whoever tells no host candidate does not tell it as a related address either (RFC 8839 section 5.1).
fn without_related_address(candidate: &str) -> String {
    let mut before = "";
    let words = candidate.split_whitespace().map(|word| {
        let told = match before {
            "raddr" if word.contains(':') => "::",
            "raddr" => "0.0.0.0",
            "rport" => "9",
            _ => word,
        };
        before = word;
        told
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs;

    #[test]
    fn the_library_sees_every_audio_as_sendrecv() {
        let sdp = "a=inactive\r\nm=video 9 X 96\r\na=inactive\r\nm=audio 9 X 0\r\na=recvonly\r\n";
        let expected = "a=sendrecv\r\nm=video 9 X 96\r\na=inactive\r\nm=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n\
            a=sendrecv\r\n";
        assert_eq!(for_library(sdp, codecs::shown()), expected);
    }

    #[test]
    fn only_the_first_component_of_ours_is_told() {
        let sdp =
            "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\na=candidate:1 2 udp 1 192.0.2.1 5 typ host\r\n";
        assert_eq!(
            from_library(sdp, &[]),
            "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n"
        );
    }

    #[test]
    fn a_relayed_candidate_alone_does_not_tell_the_hosts_address() {
        let relay = "a=candidate:1 1 udp 1 192.0.2.1 5 typ relay raddr 10.0.0.1 rport 7\r\n";
        let hidden = "a=candidate:1 1 udp 1 192.0.2.1 5 typ relay raddr 0.0.0.0 rport 9\r\n";
        assert_eq!(from_library(relay, &[]), hidden);
        let with_host = format!("a=candidate:2 1 udp 2 10.0.0.1 7 typ host\r\n{relay}");
        assert_eq!(from_library(&with_host, &[]), with_host);
    }
}

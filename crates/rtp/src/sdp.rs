//! Small readers and writers of single lines of a description's first audio section. The translation of an SDP is not done
//! here.

use crate::format::Format;
use siprtc_core::ice::{Candidate, IceParameters};
use siprtc_core::media::Direction;

pub use siprtc_sdp_words::Setup;

/// Candidates taken from one description: RFC 8445 section 6.1.2.5 wants the number of checks bounded. The first
/// ones stay, for a peer lists its best first.
pub const MAX_REMOTE_CANDIDATES: usize = 32;

/// The lines that hold for the first audio section: those of the session, then its own.
pub fn audio_lines(sdp: &str) -> impl Iterator<Item = &str> {
    let mut sections = Sections::default();
    sdp.lines()
        .map(str::trim_end)
        .filter(move |line| sections.in_audio(line))
}

/// Where in a description we are.
#[derive(Default)]
pub struct Sections {
    /// 0: the session's own lines.
    pub section: usize,
    audio: Option<usize>,
}

impl Sections {
    /// Whether this line, the next one, holds for the first audio section.
    pub fn in_audio(&mut self, line: &str) -> bool {
        if line.starts_with("m=") {
            self.section += 1;
            if self.audio.is_none() && line.starts_with("m=audio ") {
                self.audio = Some(self.section);
            }
        }
        self.section == 0 || self.audio == Some(self.section)
    }
}

/// A section's own line wins over the session's, so the last one counts.
pub fn last_value<'a>(sdp: &'a str, prefix: &str) -> Option<&'a str> {
    audio_lines(sdp)
        .filter_map(|line| line.strip_prefix(prefix))
        .last()
        .map(str::trim)
}

/// `a=setup`, if there is one that we know.
pub fn setup(sdp: &str) -> Option<Setup> {
    Setup::from_name(last_value(sdp, "a=setup:")?)
}

/// The same description with every `a=setup` line saying `setup`.
pub fn with_setup(sdp: &str, setup: Setup) -> String {
    map_lines(sdp, |line| {
        Some(if line.starts_with("a=setup:") {
            format!("a=setup:{}", setup.as_str())
        } else {
            line.to_owned()
        })
    })
}

/// The same with this session id and version in `o=` (RFC 8866 section 5.2): a library's own are random.
pub fn with_origin(sdp: &str, session: u64, version: u64) -> String {
    let (session, version) = (session.to_string(), version.to_string());
    map_lines(sdp, |line| {
        let Some(origin) = line.strip_prefix("o=") else {
            return Some(line.to_owned());
        };
        let mut words: Vec<&str> = origin.split(' ').collect();
        for (at, told) in [(1, &session), (2, &version)] {
            if let Some(word) = words.get_mut(at) {
                *word = told;
            }
        }
        Some(format!("o={}", words.join(" ")))
    })
}

/// The direction of the first audio section as its writer sees it (RFC 8866 section 6.7: sendrecv if unsaid).
pub fn direction(sdp: &str) -> Direction {
    use Direction::*;
    audio_lines(sdp)
        .filter_map(|line| line.strip_prefix("a="))
        .filter_map(|word| {
            [Inactive, RecvOnly, SendOnly, SendRecv]
                .into_iter()
                .find(|d| d.as_str() == word)
        })
        .last()
        .unwrap_or(SendRecv)
}

/// `a=ice-ufrag`.
pub fn ufrag(sdp: &str) -> Option<&str> {
    last_value(sdp, "a=ice-ufrag:")
}

/// `a=fingerprint`, every one, sorted and in lower case so that two descriptions can be compared.
pub fn fingerprints(sdp: &str) -> Vec<String> {
    let mut all: Vec<String> = audio_lines(sdp)
        .filter_map(|l| l.strip_prefix("a=fingerprint:"))
        .map(str::to_ascii_lowercase)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether there is an audio section that is not rejected (RFC 3264 section 6: port zero).
pub fn has_audio(sdp: &str) -> bool {
    audio_lines(sdp)
        .find_map(|line| line.strip_prefix("m=audio "))
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|port| port.split('/').next() != Some("0"))
}

/// The formats of the first audio section in the order of its m-line.
pub fn formats(sdp: &str) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for line in audio_lines(sdp) {
        if let Some(rest) = line.strip_prefix("m=audio ") {
            let numbers = rest
                .split_whitespace()
                .skip(2)
                .filter_map(|number| number.parse().ok());
            formats = numbers.map(Format::numbered).collect();
        } else if let Some((number, encoding)) =
            line.strip_prefix("a=rtpmap:").and_then(|map| map.split_once(' '))
        {
            for format in formats
                .iter_mut()
                .filter(|format| number.parse() == Ok(format.payload_type))
            {
                format.encoding = encoding.trim().to_owned();
            }
        }
    }
    formats
}

/// The same description with these formats, and only these, in its first audio section.
pub fn with_formats(sdp: &str, formats: &[Format]) -> String {
    let numbers: String = formats
        .iter()
        .map(|format| format!(" {}", format.payload_type))
        .collect();
    let mut sections = Sections::default();
    let mut described = false;
    map_lines(sdp, |line| {
        if !sections.in_audio(line) || sections.section == 0 {
            return Some(line.to_owned());
        }
        if line.starts_with("m=") {
            let head: Vec<&str> = line.split_whitespace().take(3).collect();
            return Some(format!("{}{numbers}", head.join(" ")));
        }
        let about_formats = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"]
            .iter()
            .any(|prefix| line.starts_with(prefix));
        let mut out = String::new();
        if line.starts_with("a=") && !std::mem::replace(&mut described, true) {
            formats.iter().for_each(|format| out.push_str(&format.lines()));
        }
        if about_formats {
            return Some(out.trim_end().to_owned());
        }
        out.push_str(line);
        Some(out)
    })
}

/// The description without the candidates that we cannot use. RFC 8839 section 5.1 wants unknown candidates ignored, while the
/// library fails on the first that it cannot read; and a peer must not make us probe a thousand addresses.
pub fn with_usable_candidates(sdp: &str) -> String {
    let mut seen: Vec<(String, u16)> = Vec::new();
    map_lines(sdp, |line| {
        let Some(value) = line.strip_prefix("a=candidate:") else {
            return Some(line.to_owned());
        };
        let candidate: Candidate = value.parse().ok()?;
        let usable = candidate.component == 1
            && candidate.transport.eq_ignore_ascii_case("udp")
            && candidate.port != 0
            && candidate
                .socket_addr()
                .is_some_and(|addr| !addr.ip().is_unspecified())
            && seen.len() < MAX_REMOTE_CANDIDATES;
        let place = (candidate.host, candidate.port);
        if !usable || seen.contains(&place) {
            return None;
        }
        seen.push(place);
        Some(line.to_owned())
    })
}

/// The credentials that hold for the first audio section, and its usable candidates.
pub fn ice(sdp: &str) -> (IceParameters, Vec<Candidate>) {
    let parameters = IceParameters {
        ufrag: last_value(sdp, "a=ice-ufrag:").unwrap_or_default().to_owned(),
        pwd: last_value(sdp, "a=ice-pwd:").unwrap_or_default().to_owned(),
        lite: is_lite(sdp),
    };
    let sdp = with_usable_candidates(sdp);
    let lines = audio_lines(&sdp).filter_map(|line| line.strip_prefix("a=candidate:"));
    (parameters, lines.filter_map(|line| line.parse().ok()).collect())
}

/// Whether its writer only answers checks (RFC 8839 section 5.3).
pub fn is_lite(sdp: &str) -> bool {
    audio_lines(sdp).any(|line| line == "a=ice-lite")
}

/// The same description with these ICE lines in its first audio section and no others.
pub fn with_ice(sdp: &str, parameters: &IceParameters, candidates: &[String], is_complete: bool) -> String {
    let mut lines = String::new();
    if parameters.lite {
        lines.push_str("a=ice-lite\r\n");
    }
    lines.push_str(&format!(
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        parameters.ufrag, parameters.pwd
    ));
    for candidate in candidates {
        lines.push_str(&format!("a=candidate:{candidate}\r\n"));
    }
    if is_complete && !candidates.is_empty() {
        lines.push_str("a=end-of-candidates\r\n");
    }
    let (head, section) = match parameters.lite {
        true => lines.split_at("a=ice-lite\r\n".len()),
        false => ("", lines.as_str()),
    };
    let (head, section) = (head.trim_end().to_owned(), section.trim_end().to_owned());
    let mut sections = Sections::default();
    let mut is_told = false;
    map_lines(sdp, |line| {
        let is_audio = sections.in_audio(line) && sections.section > 0;
        let is_ice = [
            "a=ice-ufrag:",
            "a=ice-pwd:",
            "a=ice-lite",
            "a=candidate:",
            "a=end-of-candidates",
        ]
        .iter()
        .any(|prefix| line.starts_with(prefix));
        if is_ice {
            return None;
        }
        // RFC 8839 section 5.3: ice-lite is the session's.
        if line.starts_with("t=") && !head.is_empty() {
            return Some(format!("{line}\r\n{head}"));
        }
        if is_audio && line.starts_with("a=") && !std::mem::replace(&mut is_told, true) {
            return Some(format!("{section}\r\n{line}"));
        }
        Some(line.to_owned())
    })
}

/// The description with each line as `line` gives it, or without it; an empty one goes.
pub fn map_lines(sdp: &str, mut line: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(sdp.len());
    for text in sdp
        .lines()
        .map(str::trim_end)
        .filter(|text| !text.is_empty())
        .filter_map(&mut line)
    {
        if !text.is_empty() {
            out.push_str(&text);
            out.push_str("\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=setup:actpass\r\na=ice-ufrag:s\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=inactive\r\na=setup:passive\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=sendonly\r\na=setup:active\r\na=ice-ufrag:m\r\na=fingerprint:SHA-256 AA:BB\r\n";

    #[test]
    fn the_audio_sections_own_line_wins_over_the_sessions_and_the_videos() {
        assert_eq!(setup(SDP), Some(Setup::Active));
        assert_eq!(ufrag(SDP), Some("m"));
        assert_eq!(direction(SDP), Direction::SendOnly);
        assert_eq!(fingerprints(SDP), ["sha-256 aa:bb"]);
    }

    #[test]
    fn formats_come_in_the_order_of_the_m_line_and_static_ones_need_no_rtpmap() {
        let sdp = "m=audio 9 X 8 96 0 97\r\na=rtpmap:0 x/1\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:5 y/1\r\n";
        let encodings: Vec<String> = formats(sdp).into_iter().map(|format| format.encoding).collect();
        assert_eq!(encodings, ["PCMA/8000", "opus/48000/2", "x/1", ""]);
    }

    #[test]
    fn the_formats_of_the_first_audio_section_are_replaced_and_nothing_else() {
        let sdp = "v=0\r\nm=audio 9 X 0 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp-fb:96 nack\r\na=rtpmap:96 x/1\r\na=mid:0\r\n\
            a=fmtp:96 y\r\nm=audio 9 X 3\r\na=rtpmap:3 GSM/8000\r\n";
        let formats = [
            Format {
                payload_type: 7,
                encoding: "a/8000".to_owned(),
                fmtp: "z=1".to_owned(),
            },
            Format {
                payload_type: 8,
                encoding: "b/8000".to_owned(),
                fmtp: String::new(),
            },
        ];
        let expected = "v=0\r\nm=audio 9 X 7 8\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:7 a/8000\r\na=fmtp:7 z=1\r\n\
            a=rtpmap:8 b/8000\r\na=mid:0\r\nm=audio 9 X 3\r\na=rtpmap:3 GSM/8000\r\n";
        assert_eq!(with_formats(sdp, &formats), expected);
        assert_eq!(with_formats(expected, &formats), expected);
    }

    #[test]
    fn a_rejected_or_missing_audio_section_is_no_audio() {
        assert!(has_audio(SDP));
        assert!(!has_audio("v=0\r\nm=audio 0 RTP/AVP 0\r\n"));
        assert!(!has_audio("v=0\r\nm=video 9 RTP/AVP 0\r\n"));
    }

    #[test]
    fn unreadable_foreign_and_surplus_candidates_are_left_out() {
        let mut sdp = String::from("m=audio 9 X 0\r\na=candidate:rubbish\r\n");
        sdp.push_str("a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active\r\n");
        sdp.push_str("a=candidate:1 1 udp 1 name.local 5000 typ host\r\n");
        sdp.push_str("a=candidate:1 2 udp 1 192.0.2.1 5000 typ host\r\n");
        for port in 6000..6100 {
            sdp.push_str(&format!("a=candidate:1 1 UDP 1 192.0.2.1 {port} typ host\r\n"));
        }
        let out = with_usable_candidates(&sdp);
        assert_eq!(out.matches("a=candidate:").count(), MAX_REMOTE_CANDIDATES);
        assert!(
            !out.contains("rubbish")
                && !out.contains("tcp")
                && !out.contains("local")
                && out.contains("6000")
        );
    }

    #[test]
    fn the_version_is_the_third_word_of_the_origin() {
        assert_eq!(
            with_origin("o=- 7 99 IN IP4 0.0.0.0\r\ns=-\r\n", 5, 3),
            "o=- 5 3 IN IP4 0.0.0.0\r\ns=-\r\n"
        );
        assert_eq!(with_origin("o=- 7\r\n", 5, 3), "o=- 5\r\n");
    }
}

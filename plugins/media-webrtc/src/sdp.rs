//! Small readers and writers of single SDP lines. The translation of an SDP is not done here.

use crate::codecs;
use siprtc_core::ice::{Candidate, IceParameters};
use siprtc_core::media::Direction;

/// Candidates taken from one description: RFC 8445 section 6.1.2.5 wants the number of checks bounded. The first
/// ones stay, for a peer lists its best first.
pub(crate) const MAX_REMOTE_CANDIDATES: usize = 32;

/// Who begins the DTLS handshake (RFC 8842 section 5.2), as one side says it in `a=setup`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Setup {
    Active,
    Actpass,
    Passive,
}

impl Setup {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Actpass => "actpass",
            Setup::Passive => "passive",
        }
    }

    /// The other side's, once settled.
    pub(crate) fn reversed(self) -> Self {
        match self {
            Setup::Active => Setup::Passive,
            Setup::Passive => Setup::Active,
            Setup::Actpass => Setup::Actpass,
        }
    }
}

/// The lines that hold for the first audio section: those of the session, then its own.
fn audio_lines(sdp: &str) -> impl Iterator<Item = &str> {
    let mut sections = Sections::default();
    sdp.lines()
        .map(str::trim_end)
        .filter(move |line| sections.in_audio(line))
}

/// Where in a description we are.
#[derive(Default)]
struct Sections {
    section: usize,
    audio: Option<usize>,
}

impl Sections {
    /// Whether this line, the next one, holds for the first audio section.
    fn in_audio(&mut self, line: &str) -> bool {
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
fn last_value<'a>(sdp: &'a str, prefix: &str) -> Option<&'a str> {
    audio_lines(sdp)
        .filter_map(|line| line.strip_prefix(prefix))
        .last()
        .map(str::trim)
}

/// `a=setup`, if there is one that we know.
pub(crate) fn setup(sdp: &str) -> Option<Setup> {
    let word = last_value(sdp, "a=setup:")?;
    [Setup::Active, Setup::Actpass, Setup::Passive]
        .into_iter()
        .find(|setup| setup.as_str() == word)
}

/// The same description with every `a=setup` line saying `setup`.
pub(crate) fn with_setup(sdp: &str, setup: Setup) -> String {
    map_lines(sdp, |line| {
        Some(if line.starts_with("a=setup:") {
            format!("a=setup:{}", setup.as_str())
        } else {
            line.to_owned()
        })
    })
}

/// The same description with this version in its `o=` line.
pub(crate) fn with_version(sdp: &str, version: u64) -> String {
    let version = version.to_string();
    map_lines(sdp, |line| {
        let Some(origin) = line.strip_prefix("o=") else {
            return Some(line.to_owned());
        };
        let mut words: Vec<&str> = origin.split(' ').collect();
        if let Some(word) = words.get_mut(2) {
            *word = &version;
        }
        Some(format!("o={}", words.join(" ")))
    })
}

/// The direction of the first audio section as its writer sees it (RFC 8866 section 6.7: sendrecv if unsaid).
pub(crate) fn direction(sdp: &str) -> Direction {
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
pub(crate) fn ufrag(sdp: &str) -> Option<&str> {
    last_value(sdp, "a=ice-ufrag:")
}

/// `a=fingerprint`, every one, sorted and in lower case so that two descriptions can be compared.
pub(crate) fn fingerprints(sdp: &str) -> Vec<String> {
    let mut all: Vec<String> = audio_lines(sdp)
        .filter_map(|l| l.strip_prefix("a=fingerprint:"))
        .map(str::to_ascii_lowercase)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether there is an audio section that is not rejected (RFC 3264 section 6: port zero).
pub(crate) fn has_audio(sdp: &str) -> bool {
    audio_lines(sdp)
        .find_map(|line| line.strip_prefix("m=audio "))
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|port| port.split('/').next() != Some("0"))
}

/// A payload format as SDP knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Format {
    pub(crate) payload_type: u8,
    /// Name, clock rate in Hz, and channels if there are two: `opus/48000/2`.
    pub(crate) encoding: String,
    /// `a=fmtp`, or nothing.
    pub(crate) fmtp: String,
}

impl Format {
    /// The format of a number without `a=rtpmap`.
    fn numbered(payload_type: u8) -> Self {
        let unknown = || Format {
            payload_type,
            encoding: String::new(),
            fmtp: String::new(),
        };
        codecs::of_static_payload_type(payload_type).unwrap_or_else(unknown)
    }

    fn lines(&self) -> String {
        let mut lines = format!("a=rtpmap:{} {}\r\n", self.payload_type, self.encoding);
        if !self.fmtp.is_empty() {
            lines.push_str(&format!("a=fmtp:{} {}\r\n", self.payload_type, self.fmtp));
        }
        lines
    }

    pub(crate) fn name(&self) -> &str {
        self.encoding.split('/').next().unwrap_or_default()
    }

    pub(crate) fn clock_rate(&self) -> u32 {
        self.encoding
            .split('/')
            .nth(1)
            .and_then(|clock| clock.parse().ok())
            .unwrap_or_default()
    }

    /// Whether both name the same codec, whatever the number and the parameters.
    pub(crate) fn is_same(&self, other: &Format) -> bool {
        self.name().eq_ignore_ascii_case(other.name()) && self.clock_rate() == other.clock_rate()
    }
}

/// The formats of the first audio section in the order of its m-line.
pub(crate) fn formats(sdp: &str) -> Vec<Format> {
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
pub(crate) fn with_formats(sdp: &str, formats: &[Format]) -> String {
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

/// The description without the candidates that we cannot use. RFC 8839 section 5.1 wants unknown candidates ignored, while the
/// library fails on the first that it cannot read; and a peer must not make us probe a thousand addresses.
fn with_usable_candidates(sdp: &str) -> String {
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
pub(crate) fn ice(sdp: &str) -> (IceParameters, Vec<Candidate>) {
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
pub(crate) fn is_lite(sdp: &str) -> bool {
    audio_lines(sdp).any(|line| line == "a=ice-lite")
}

/// The same description with these ICE lines in its first audio section and no others.
pub(crate) fn with_ice(
    sdp: &str,
    parameters: &IceParameters,
    candidates: &[String],
    is_complete: bool,
) -> String {
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

fn map_lines(sdp: &str, mut line: impl FnMut(&str) -> Option<String>) -> String {
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
    fn the_library_sees_every_audio_as_sendrecv() {
        let sdp = "a=inactive\r\nm=video 9 X 96\r\na=inactive\r\nm=audio 9 X 0\r\na=recvonly\r\n";
        let expected = "a=sendrecv\r\nm=video 9 X 96\r\na=inactive\r\nm=audio 9 X 0\r\na=rtpmap:0 PCMU/8000\r\n\
            a=sendrecv\r\n";
        assert_eq!(for_library(sdp, codecs::shown()), expected);
    }

    #[test]
    fn the_version_is_the_third_word_of_the_origin() {
        assert_eq!(
            with_version("o=- 7 99 IN IP4 0.0.0.0\r\ns=-\r\n", 3),
            "o=- 7 3 IN IP4 0.0.0.0\r\ns=-\r\n"
        );
        assert_eq!(with_version("o=- 7\r\n", 3), "o=- 7\r\n");
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

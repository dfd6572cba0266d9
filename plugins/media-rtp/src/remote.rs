//! The peer's description: which m-line carries a medium, and everything that its transport needs.

use crate::crypto::Crypto;
use crate::formats::Formats;
use siprtc_core::ice::{Candidate, IceParameters};
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use siprtc_rtp::sdp::{self, Setup};
use std::net::{IpAddr, SocketAddr};

/// m-lines that are read; more are the peer's fault.
const MOST_MEDIA: usize = 32;
/// Octets that are read.
const MOST_OCTETS: usize = 65_536;
/// Fingerprints that are kept: one for each hash function (RFC 8122 section 5).
const MOST_FINGERPRINTS: usize = 8;

/// A transport of RTP (RFC 3551, RFC 3711, RFC 4585, RFC 5124, RFC 5764).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Profile {
    /// `UDP/TLS/`.
    pub(crate) dtls: bool,
    /// `SAVP`, `SAVPF`.
    pub(crate) secure: bool,
    /// `AVPF`, `SAVPF`.
    pub(crate) feedback: bool,
}

impl Profile {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let all = [true, false];
        let profiles = all.into_iter().flat_map(|dtls| {
            all.into_iter().flat_map(move |secure| {
                all.into_iter().map(move |feedback| Profile {
                    dtls,
                    secure,
                    feedback,
                })
            })
        });
        profiles
            .filter(|profile| profile.secure || !profile.dtls)
            .find(|profile| profile.to_string().eq_ignore_ascii_case(word))
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Profile {
            dtls,
            secure,
            feedback,
        } = *self;
        let word = |is: bool, word| if is { word } else { "" };
        write!(
            f,
            "{}RTP/{}AVP{}",
            word(dtls, "UDP/TLS/"),
            word(secure, "S"),
            word(feedback, "F")
        )
    }
}

/// `a=fingerprint` (RFC 8122).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fingerprint {
    /// `sha-256`, in lower case.
    pub(crate) hash: String,
    pub(crate) octets: Vec<u8>,
}

impl Fingerprint {
    fn parse(line: &str) -> Option<Self> {
        let (hash, octets) = line.trim().split_once(' ')?;
        let octets: Option<Vec<u8>> = (octets.trim().split(':'))
            .map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2))
            .collect();
        Some(Fingerprint {
            hash: hash.to_ascii_lowercase(),
            octets: octets?,
        })
    }
}

/// One m-line as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MediaLine {
    /// `audio`, `video`, `image` ...
    pub(crate) media: String,
    pub(crate) proto: String,
    pub(crate) formats: String,
    /// `a=mid`.
    pub(crate) mid: Option<String>,
}

/// What a peer says.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// Every m-line, in order: an answer has them all (RFC 3264 section 6).
    pub(crate) lines: Vec<MediaLine>,
    /// Which of them is the one that this is about.
    pub(crate) at: usize,
    pub(crate) profile: Profile,
    /// Where it wants RTP; `None` while it holds the way RFC 2543 did (`c=0.0.0.0`).
    pub(crate) rtp: Option<SocketAddr>,
    /// Where it wants RTCP, if that has a port of its own.
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) mux: bool,
    pub(crate) formats: Formats,
    pub(crate) direction: Direction,
    pub(crate) cryptos: Vec<Crypto>,
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) setup: Option<Setup>,
    pub(crate) ice: Option<(IceParameters, Vec<Candidate>)>,
}

impl Remote {
    /// The first m-line of the medium of `ours` that we can carry: one with encryption before one without (some telephones offer both), and
    /// one that has a format of `ours` before one that has none.
    pub(crate) fn parse(operation: &'static str, text: &str, ours: &Formats) -> Result<Self> {
        if text.len() > MOST_OCTETS {
            return Err(misbehaves(
                operation,
                format!("its SDP has {} octets", text.len()),
            ));
        }
        let (session, sections) = split(text);
        if sections.len() > MOST_MEDIA {
            return Err(misbehaves(
                operation,
                format!("its SDP has {} m-lines", sections.len()),
            ));
        }
        let lines: Vec<MediaLine> = sections.iter().map(|section| media_line(section)).collect();
        let mut best: Option<Remote> = None;
        let mut refusal = None;
        for (at, section) in sections.iter().enumerate() {
            match Remote::of(operation, &session, section, at, &lines, ours) {
                Ok(Some(remote)) => {
                    let is_better = best
                        .as_ref()
                        .is_none_or(|best| remote.is_keyed() && !best.is_keyed());
                    if is_better {
                        best = Some(remote);
                    }
                }
                Ok(None) => {}
                Err(error) => refusal = Some(error),
            }
        }
        best.ok_or_else(|| {
            refusal.unwrap_or_else(|| {
                let medium = ours.medium();
                incompatible(
                    operation,
                    format!("the peer's SDP has no {medium} that is not rejected"),
                )
                .advice("it wants another medium, or refuses ours: see its SDP in the log")
            })
        })
    }

    /// Whether it could be encrypted.
    fn is_keyed(&self) -> bool {
        !self.cryptos.is_empty() || !self.fingerprints.is_empty()
    }

    fn of(
        operation: &'static str,
        session: &[&str],
        section: &[&str],
        at: usize,
        lines: &[MediaLine],
        ours: &Formats,
    ) -> Result<Option<Self>> {
        let head = section.first().copied().unwrap_or_default();
        let mut words = head.split_ascii_whitespace();
        let (media, port, proto) = (words.next(), words.next(), words.next());
        if media.and_then(|media| media.strip_prefix("m=")) != Some(ours.medium()) {
            return Ok(None);
        }
        let port = port.and_then(|port| port.split('/').next()).unwrap_or_default();
        let port: u16 = port
            .parse()
            .map_err(|_| misbehaves(operation, format!("m-line {at} has no port")))?;
        if port == 0 {
            return Ok(None);
        }
        let Some(profile) = proto.and_then(Profile::parse) else {
            let proto = proto.unwrap_or_default();
            return Err(incompatible(
                operation,
                format!("the peer's {} goes over {proto}, which is no RTP", ours.medium()),
            )
            .advice("RTP/AVP, RTP/AVPF, RTP/SAVP, RTP/SAVPF and UDP/TLS/RTP/SAVP(F) are known here"));
        };
        // The readers of single lines see the session and this section alone.
        let text: String = session
            .iter()
            .chain(section)
            .flat_map(|line| [*line, "\r\n"])
            .collect();
        let formats = ours.read(&text);
        if ours.common(&formats).is_none() {
            return Err(no_codec(operation, ours, &formats));
        }
        let host = connection(section).or_else(|| connection(session));
        let host = host.ok_or_else(|| misbehaves(operation, format!("m-line {at} has no c= line")))?;
        let Ok(ip) = host.parse::<IpAddr>() else {
            return Err(incompatible(
                operation,
                format!("its c= line names {host:?}, which is no address"),
            )
            .advice("have the peer write an IPv4 or IPv6 address, as telephones do"));
        };
        if ip.is_multicast() {
            return Err(
                incompatible(operation, format!("its c= line names {ip}, a group"))
                    .advice("calls are between two"),
            );
        }
        // The readers of ICE, roles and directions know the first audio section.
        let text = text.replacen("m=video ", "m=audio ", 1);
        let ice = Some(sdp::ice(&text)).filter(|(ours, _)| !ours.ufrag.is_empty() && !ours.pwd.is_empty());
        let rtp = Some(SocketAddr::new(ip, port)).filter(|_| !ip.is_unspecified());
        let values = |prefix: &'static str| {
            section
                .iter()
                .filter_map(move |line| line.strip_prefix(prefix))
                .map(str::trim)
        };
        let fingerprints = |lines: &[&str]| -> Vec<Fingerprint> {
            (lines.iter())
                .filter_map(|line| line.strip_prefix("a=fingerprint:"))
                .filter_map(Fingerprint::parse)
                .take(MOST_FINGERPRINTS)
                .collect()
        };
        // The section's own replace the session's (RFC 8122 section 5).
        let own = fingerprints(section);
        let fingerprints = if own.is_empty() {
            fingerprints(session)
        } else {
            own
        };
        let mux = section.contains(&"a=rtcp-mux");
        let rtcp = rtp.map(|rtp| rtcp_addr(rtp, values("a=rtcp:").next()));
        Ok(Some(Remote {
            lines: lines.to_vec(),
            at,
            profile,
            rtp,
            rtcp,
            mux,
            direction: sdp::direction(&text),
            formats,
            cryptos: Crypto::parse_all(values("a=crypto:")),
            fingerprints,
            setup: sdp::setup(&text),
            ice,
        }))
    }
}

/// RFC 3605: `port` or `port IN IP4 address`; without it the next port (RFC 3550 section 11).
fn rtcp_addr(rtp: SocketAddr, said: Option<&str>) -> SocketAddr {
    let mut words = said.unwrap_or_default().split_ascii_whitespace();
    let port = words.next().and_then(|port| port.parse().ok());
    let ip = words
        .nth(2)
        .and_then(|host| host.parse().ok())
        .unwrap_or(rtp.ip());
    SocketAddr::new(ip, port.unwrap_or_else(|| rtp.port().wrapping_add(1)))
}

/// `c=IN IP4 192.0.2.1`, without a TTL.
fn connection<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let value = lines.iter().find_map(|line| line.strip_prefix("c="))?;
    let host = value.split_ascii_whitespace().nth(2)?;
    host.split('/').next()
}

fn split(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let (mut session, mut sections): (Vec<&str>, Vec<Vec<&str>>) = Default::default();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        match sections.last_mut() {
            _ if line.starts_with("m=") => sections.push(vec![line]),
            Some(section) => section.push(line),
            None => session.push(line),
        }
    }
    (session, sections)
}

fn media_line(section: &[&str]) -> MediaLine {
    let head = section
        .first()
        .and_then(|line| line.strip_prefix("m="))
        .unwrap_or_default();
    let mut words = head.split_ascii_whitespace();
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (media, _, proto) = (word(), word(), word());
    MediaLine {
        media,
        proto,
        formats: words.collect::<Vec<_>>().join(" "),
        mid: section
            .iter()
            .find_map(|line| line.strip_prefix("a=mid:"))
            .map(str::to_owned),
    }
}

fn no_codec(operation: &'static str, ours: &Formats, theirs: &Formats) -> Error {
    let message = format!(
        "no codec is common: we have {}, the peer has {}",
        ours.names(),
        theirs.names()
    );
    incompatible(operation, message).advice("add one of the peer's codecs to media.codecs")
}

pub(crate) fn incompatible(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::PeerIncompatible, operation, message).backend(crate::NAME)
}

fn misbehaves(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::PeerMisbehaved, operation, message)
        .backend(crate::NAME)
        .advice("the peer's SDP breaks RFC 8866; its text is in the log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::media::{Codec, VideoCodec};
    use siprtc_rtp::{format, video};

    fn parse(lines: &str) -> Result<Remote> {
        let text =
            format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{lines}");
        Remote::parse("test", &text, &format::formats(&Codec::ALL).into())
    }

    #[test]
    fn the_video_has_a_transport_of_its_own() {
        let ours = video::formats(&[VideoCodec::H264]).into();
        let text = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n\
            m=video 0 RTP/AVP 97\r\nm=video 4002 RTP/AVP 97\r\nc=IN IP4 192.0.2.2\r\na=rtpmap:97 H264/90000\r\na=recvonly\r\n";
        let remote = Remote::parse("test", text, &ours).unwrap();
        assert_eq!(
            (remote.at, remote.rtp),
            (2, Some("192.0.2.2:4002".parse().unwrap()))
        );
        assert_eq!(remote.direction, Direction::RecvOnly);
        let other = video::formats(&[VideoCodec::Vp8]).into();
        let error = Remote::parse("test", text, &other).unwrap_err();
        assert!(
            error.to_string().contains("we have VP8, the peer has H264"),
            "{error}"
        );
    }

    #[test]
    fn every_profile_is_read_as_it_is_printed() {
        for word in [
            "RTP/AVP",
            "RTP/AVPF",
            "RTP/SAVP",
            "RTP/SAVPF",
            "UDP/TLS/RTP/SAVP",
            "UDP/TLS/RTP/SAVPF",
        ] {
            assert_eq!(Profile::parse(word).unwrap().to_string(), word);
            assert_eq!(Profile::parse(&word.to_lowercase()), Profile::parse(word));
        }
        for word in ["UDP/TLS/RTP/AVP", "TCP/TLS/RTP/SAVP", "udptl", "RTP/", ""] {
            assert_eq!(Profile::parse(word), None, "{word}");
        }
    }

    #[test]
    fn a_plain_telephone_is_understood() {
        let remote =
            parse("m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n")
                .unwrap();
        assert_eq!(remote.rtp, Some("192.0.2.1:4000".parse().unwrap()));
        assert_eq!(remote.rtcp, Some("192.0.2.1:4001".parse().unwrap()));
        assert_eq!(remote.formats.payload_types(), [0, 8, 101]);
        assert!(!remote.mux && remote.cryptos.is_empty() && remote.ice.is_none());
        assert_eq!(remote.direction, Direction::SendRecv);
    }

    #[test]
    fn rtcp_may_be_elsewhere() {
        let remote = parse("m=audio 4000 RTP/AVP 0\r\na=rtcp:5000 IN IP4 192.0.2.9\r\n").unwrap();
        assert_eq!(remote.rtcp, Some("192.0.2.9:5000".parse().unwrap()));
        let remote = parse("m=audio 65535 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\n").unwrap();
        assert_eq!(remote.rtp, Some("[2001:db8::1]:65535".parse().unwrap()));
    }

    #[test]
    fn the_encrypted_one_of_two_lines_is_taken_and_both_are_remembered() {
        let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
        let crypto = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n");
        for (text, at) in [
            (
                format!("m=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/SAVP 0\r\n{crypto}"),
                1,
            ),
            (
                format!("m=audio 4000 RTP/SAVP 0\r\n{crypto}m=audio 4002 RTP/AVP 0\r\n"),
                0,
            ),
            (
                format!("m=audio 4000 RTP/AVP 0\r\nm=audio 0 RTP/SAVP 0\r\n{crypto}"),
                0,
            ),
        ] {
            let remote = parse(&text).unwrap();
            assert_eq!((remote.at, remote.lines.len()), (at, 2), "{text}");
        }
    }

    #[test]
    fn who_holds_the_old_way_has_no_address() {
        let remote = parse("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n").unwrap();
        assert_eq!(remote.rtp, None);
    }

    #[test]
    fn what_cannot_be_carried_is_the_peers_and_says_why() {
        for (lines, fault, word) in [
            ("", Fault::PeerIncompatible, "no audio"),
            ("m=audio 0 RTP/AVP 0\r\n", Fault::PeerIncompatible, "no audio"),
            ("m=video 4000 RTP/AVP 96\r\n", Fault::PeerIncompatible, "no audio"),
            (
                "m=audio 4000 RTP/AVP 3\r\n",
                Fault::PeerIncompatible,
                "no codec is common",
            ),
            ("m=audio 4000 TCP/MSRP *\r\n", Fault::PeerIncompatible, "TCP/MSRP"),
            ("m=audio port RTP/AVP 0\r\n", Fault::PeerMisbehaved, "no port"),
            ("m=audio\r\n", Fault::PeerMisbehaved, "no port"),
            (
                "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.1.1.1/127\r\n",
                Fault::PeerIncompatible,
                "a group",
            ),
            (
                "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 host.example\r\n",
                Fault::PeerIncompatible,
                "no address",
            ),
        ] {
            let error = parse(lines).unwrap_err();
            assert_eq!(error.fault(), fault, "{lines}");
            assert!(error.to_string().contains(word), "{lines}: {error}");
        }
        let error = parse(&"m=audio 4000 RTP/AVP 0\r\n".repeat(MOST_MEDIA + 1)).unwrap_err();
        assert!(error.to_string().contains("33 m-lines"), "{error}");
        let error = parse(&"a=x\r\n".repeat(20_000)).unwrap_err();
        assert!(error.to_string().contains("octets"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_written_makes_it_panic(text in ".{0,400}") {
            let _ = parse(&text);
            let _ = Remote::parse("test", &text, &video::formats(&VideoCodec::ALL).into());
        }

        #[test]
        fn nothing_near_a_description_makes_it_panic(
            lines in proptest::collection::vec(
                proptest::sample::select(vec![
                    "m=audio 1 RTP/AVP 0", "m=audio 65535 RTP/SAVP 0 8", "c=IN IP4 1.2.3.4", "c=IN IP6 ::", "c=", "a=rtcp:",
                    "a=rtcp:70000 IN IP4 x", "a=crypto:1", "a=fingerprint:sha-256 A:B", "a=fingerprint:", "a=setup:x",
                    "a=ice-ufrag:", "a=candidate:1", "a=rtpmap:0", "a=rtpmap:0 PCMU/0", "a=sendonly", "m=", "m=audio -1 RTP/AVP 0",
                ]),
                0..12,
            )
        ) {
            let _ = parse(&lines.join("\r\n"));
        }
    }
}

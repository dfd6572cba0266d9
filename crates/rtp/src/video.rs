//! Payload formats of video, and the video section of a description.
//!
//! Nothing is decoded here, so that a profile of H.264 or VP9 that the peer names is as good as ours and is repeated in the
//! answer (RFC 6184 section 8.2.2).

use crate::sdp::audio_lines;
use siprtc_core::media::{Direction, FeedbackKinds, VideoCodec};
use siprtc_sdp_words::{TRANSPORT_SEQUENCE, element_number};
use std::fmt::Write as _;

/// Formats of one m-line that are read.
const MOST_FORMATS: usize = 64;
/// The number that our offers give it.
const OWN_ELEMENT: u8 = 3;

/// A payload format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VideoFormat {
    /// Its number, which the one who receives it chooses.
    pub payload_type: u8,
    /// The codec.
    pub codec: VideoCodec,
    /// `a=fmtp`, or nothing.
    pub fmtp: String,
    /// `a=rtcp-fb`.
    pub feedback: FeedbackKinds,
    /// The number of the extension's element that has a packet's number of its transport's (`a=extmap`, RFC 8285), 1 to 14; only with
    /// [`FeedbackKinds::transport_cc`].
    pub transport_sequence: Option<u8>,
}

impl VideoFormat {
    /// The value of a parameter of `a=fmtp`, of any case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|parameter| {
            let (own, value) = parameter.split_once('=')?;
            own.trim().eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// See [`NegotiatedVideo::fragments`](siprtc_core::media::NegotiatedVideo::fragments).
    pub fn fragments(&self) -> bool {
        self.codec != VideoCodec::H264 || self.parameter("packetization-mode") == Some("1")
    }

    /// Whether streams of one are streams of the other. RFC 6184 section 8.2.2: the packetization mode is part of an H.264
    /// format; RFC 9628 section 6.2: the profile is of VP9's.
    pub fn is_same(&self, other: &VideoFormat) -> bool {
        let profile = |format: &VideoFormat| format.parameter("profile-id").unwrap_or("0").to_owned();
        self.codec == other.codec
            && match self.codec {
                VideoCodec::H264 => self.fragments() == other.fragments(),
                VideoCodec::Vp9 => profile(self) == profile(other),
                _ => true,
            }
    }

    /// As an answer says it: with the peer's parameters of the stream, without what describes the peer's own stream.
    fn answered(&self) -> VideoFormat {
        let parameters = self.fmtp.split(';').map(str::trim);
        let kept: Vec<&str> = parameters
            .filter(|parameter| !parameter.is_empty() && !parameter.starts_with("sprop-"))
            .collect();
        VideoFormat {
            fmtp: kept.join(";"),
            feedback: self.feedback.and(FeedbackKinds::OURS),
            ..self.clone()
        }
    }
}

/// Our formats in the order of an offer.
pub fn formats(codecs: &[VideoCodec]) -> Vec<VideoFormat> {
    let mut formats: Vec<VideoFormat> = Vec::new();
    for codec in codecs {
        let variants: &[(u8, &str)] = match codec {
            VideoCodec::H263 => &[(34, "")],
            VideoCodec::H263Plus => &[(115, "")],
            // Constrained baseline, level 3.1: what browsers and telephones have (RFC 7742 section 6.2).
            VideoCodec::H264 => &[
                (
                    102,
                    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
                ),
                (
                    104,
                    "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f",
                ),
            ],
            VideoCodec::Vp8 => &[(96, "")],
            VideoCodec::Vp9 => &[(98, "profile-id=0")],
            _ => &[],
        };
        for (payload_type, fmtp) in variants {
            if !formats.iter().any(|format| format.payload_type == *payload_type) {
                formats.push(VideoFormat {
                    payload_type: *payload_type,
                    codec: *codec,
                    fmtp: (*fmtp).to_owned(),
                    feedback: FeedbackKinds::OURS,
                    transport_sequence: Some(OWN_ELEMENT),
                });
            }
        }
    }
    formats
}

/// Those of `theirs` that are among `ours`, under their numbers, in their order (RFC 3264 section 6.1) and as an answer says
/// them.
pub fn common(ours: &[VideoFormat], theirs: &[VideoFormat]) -> Vec<VideoFormat> {
    let is_ours = |theirs: &&VideoFormat| ours.iter().any(|ours| ours.is_same(theirs));
    theirs.iter().filter(is_ours).map(VideoFormat::answered).collect()
}

/// The formats of an answer to an offer of these. RFC 6184 section 8.2.2: an answer keeps a format's packetization mode or drops the
/// format; one that keeps our number and says no mode has taken ours.
pub fn answered(offered: &[VideoFormat], theirs: &[VideoFormat]) -> Vec<VideoFormat> {
    let taken = |theirs: &VideoFormat| {
        let ours = offered.iter().find(|ours| {
            ours.payload_type == theirs.payload_type
                && ours.codec == theirs.codec
                && theirs.parameter("packetization-mode").is_none()
        });
        VideoFormat {
            fmtp: ours.map_or(&theirs.fmtp, |ours| &ours.fmtp).clone(),
            ..theirs.clone()
        }
    };
    theirs.iter().map(taken).collect()
}

/// What to offer when `current` is in use: that under its numbers, then the rest of ours. No number is one of `taken`, the audio's
/// in the same transport (RFC 9143 section 10.1).
pub fn offer(ours: &[VideoFormat], current: &[VideoFormat], taken: &[u8]) -> Vec<VideoFormat> {
    let is_ours = |format: &&VideoFormat| ours.iter().any(|ours| ours.is_same(format));
    let mut offer: Vec<VideoFormat> = current.iter().filter(is_ours).cloned().collect();
    for format in ours {
        if offer.iter().any(|offered| offered.is_same(format)) {
            continue;
        }
        let is_free = |number: &u8| {
            !taken.contains(number) && !offer.iter().any(|offered| offered.payload_type == *number)
        };
        let own = Some(format.payload_type).filter(is_free);
        if let Some(payload_type) = own.or_else(|| (96..128).rev().find(is_free)) {
            offer.push(VideoFormat {
                payload_type,
                ..format.clone()
            });
        }
    }
    // RFC 8285 section 6: a number keeps its meaning.
    let in_use = current.iter().find_map(|format| format.transport_sequence);
    for format in &mut offer {
        let own = format.transport_sequence;
        format.transport_sequence = own.and(in_use.or(own));
    }
    offer
}

/// A video section of a description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VideoSection {
    /// Which m-line it is, from 0.
    pub at: usize,
    /// `a=mid`.
    pub mid: Option<String>,
    /// Zero: rejected, unless it is [`VideoSection::is_bundle_only`].
    pub port: u16,
    /// `UDP/TLS/RTP/SAVPF`.
    pub proto: String,
    /// In the order of the m-line; those that we know.
    pub formats: Vec<VideoFormat>,
    /// As its writer sees it.
    pub direction: Direction,
    /// `a=bundle-only`: the port says nothing (RFC 9143 section 6).
    pub is_bundle_only: bool,
    /// Its mid is in the same BUNDLE group as the first audio section's.
    pub is_bundled: bool,
}

impl VideoSection {
    /// The first that is not rejected; `None`: there is none.
    pub fn read(sdp: &str) -> Option<Self> {
        let heads = sdp.lines().filter(|line| line.starts_with("m="));
        let mut places = heads
            .enumerate()
            .filter(|(_, head)| head.starts_with("m=video "))
            .map(|(at, _)| at);
        places.find_map(|at| Some(Self::read_at(sdp, at)).filter(VideoSection::is_live))
    }

    fn read_at(sdp: &str, at: usize) -> Self {
        let mut section = VideoSection {
            at,
            mid: None,
            port: 0,
            proto: String::new(),
            formats: Vec::new(),
            direction: Direction::SendRecv,
            is_bundle_only: false,
            is_bundled: false,
        };
        let mut numbers: Vec<u8> = Vec::new();
        let mut maps: Vec<(u8, &str)> = vec![(34, "H263/90000")];
        let mut details: Vec<(&str, &str)> = Vec::new();
        let mut feedback: Vec<(&str, &str)> = Vec::new();
        let mut element: Option<u8> = None;
        for line in lines_at(sdp, at) {
            if let Some(rest) = line.strip_prefix("m=video ") {
                let mut words = rest.split_ascii_whitespace();
                let port = words.next().and_then(|port| port.split('/').next());
                section.port = port.and_then(|port| port.parse().ok()).unwrap_or_default();
                section.proto = words.next().unwrap_or_default().to_owned();
                numbers = words
                    .filter_map(|number| number.parse().ok())
                    .take(MOST_FORMATS)
                    .collect();
            } else if let Some(map) = line.strip_prefix("a=rtpmap:") {
                let map = map
                    .split_once(' ')
                    .and_then(|(number, encoding)| Some((number.parse().ok()?, encoding.trim())));
                maps.extend(map.filter(|(number, _)| numbers.contains(number)));
            } else if let Some(detail) = line.strip_prefix("a=fmtp:") {
                details.extend(
                    detail
                        .split_once(' ')
                        .map(|(number, value)| (number, value.trim())),
                );
            } else if let Some(told) = line.strip_prefix("a=rtcp-fb:") {
                feedback.extend(told.split_once(' '));
            } else if let Some(map) = line.strip_prefix("a=extmap:") {
                element = element.or_else(|| element_number(map, TRANSPORT_SEQUENCE));
            } else if let Some(mid) = line.strip_prefix("a=mid:") {
                section.mid = Some(mid.trim().to_owned());
            } else if line == "a=bundle-only" {
                section.is_bundle_only = true;
            } else if let Some(direction) = direction_of(line) {
                section.direction = direction;
            }
        }
        let feedback = |number: u8| {
            (feedback.iter())
                .filter(|(about, _)| *about == "*" || about.parse() == Ok(number))
                .fold(FeedbackKinds::default(), |kinds, (_, value)| kinds.with(value))
        };
        let format = |number: u8| {
            let (_, encoding) = maps.iter().rev().find(|(mapped, _)| *mapped == number)?;
            let fmtp = details
                .iter()
                .rev()
                .find(|(about, _)| about.parse() == Ok(number));
            let feedback = feedback(number);
            let transport_cc = feedback.transport_cc && element.is_some();
            Some(VideoFormat {
                payload_type: number,
                codec: codec_of(encoding)?,
                fmtp: fmtp.map_or_else(String::new, |(_, value)| (*value).to_owned()),
                feedback: FeedbackKinds {
                    transport_cc,
                    ..feedback
                },
                transport_sequence: element.filter(|_| transport_cc),
            })
        };
        section.formats = numbers.into_iter().filter_map(format).collect();
        section.is_bundled = is_bundled(sdp, section.mid.as_deref());
        section
    }

    /// Whether something flows, or may.
    pub fn is_live(&self) -> bool {
        self.port != 0 || (self.is_bundle_only && self.is_bundled)
    }
}

/// The lines of a section about its formats, with CRLF: `a=rtpmap`, `a=fmtp`, `a=rtcp-fb`, and the `a=extmap` that the last one needs.
pub fn lines(formats: &[VideoFormat]) -> String {
    let mut out = String::new();
    for format in formats {
        let (number, clock) = (format.payload_type, VideoCodec::CLOCK_RATE);
        let _ = write!(out, "a=rtpmap:{number} {}/{clock}\r\n", format.codec);
        if !format.fmtp.is_empty() {
            let _ = write!(out, "a=fmtp:{number} {}\r\n", format.fmtp);
        }
        for word in format.feedback.words() {
            let _ = write!(out, "a=rtcp-fb:{number} {word}\r\n");
        }
    }
    if let Some(number) = formats.iter().find_map(|format| format.transport_sequence) {
        // We read it, and write none.
        let _ = write!(out, "a=extmap:{number}/recvonly {TRANSPORT_SEQUENCE}\r\n");
    }
    out
}

/// ` 96 98`: the end of an m-line.
pub fn numbers(formats: &[VideoFormat]) -> String {
    formats
        .iter()
        .map(|format| format!(" {}", format.payload_type))
        .collect()
}

fn codec_of(encoding: &str) -> Option<VideoCodec> {
    let (name, clock) = encoding.split_once('/')?;
    let codec = VideoCodec::from_name(name)?;
    (clock.split('/').next()?.parse() == Ok(VideoCodec::CLOCK_RATE)).then_some(codec)
}

fn direction_of(line: &str) -> Option<Direction> {
    use Direction::*;
    let word = line.strip_prefix("a=")?;
    [Inactive, RecvOnly, SendOnly, SendRecv]
        .into_iter()
        .find(|direction| direction.as_str() == word)
}

/// The session's own lines and those of one section.
fn lines_at(sdp: &str, at: usize) -> impl Iterator<Item = &str> {
    let mut section = 0;
    sdp.lines().map(str::trim_end).filter(move |line| {
        section += usize::from(line.starts_with("m="));
        section == 0 || section == at + 1
    })
}

fn is_bundled(sdp: &str, mid: Option<&str>) -> bool {
    let Some(mid) = mid else { return false };
    let Some(audio) = audio_lines(sdp).find_map(|line| line.strip_prefix("a=mid:")) else {
        return false;
    };
    let groups = sdp
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("a=group:BUNDLE "));
    let has = |group: &str, mid: &str| group.split_ascii_whitespace().any(|other| other == mid);
    groups
        .into_iter()
        .any(|group| has(group, mid) && has(group, audio.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\na=group:BUNDLE 0 1\r\na=sendonly\r\nm=audio 9 X 0\r\na=mid:0\r\na=recvonly\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 127 34\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
        a=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
        a=fmtp:102 profile-level-id=640c1f;Packetization-Mode=1;sprop-parameter-sets=Z0IAH5WoFAFuQA==\r\n\
        a=rtpmap:127 AV1/90000\r\na=rtcp-fb:* nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:102 ccm fir\r\n";

    fn section(sdp: &str) -> VideoSection {
        VideoSection::read(sdp).unwrap()
    }

    #[test]
    fn a_browsers_section_is_read() {
        let video = section(SDP);
        assert_eq!(
            (video.at, video.mid.as_deref(), video.is_bundled),
            (1, Some("1"), true)
        );
        assert_eq!(video.direction, Direction::SendOnly, "the session's");
        let codecs: Vec<VideoCodec> = video.formats.iter().map(|format| format.codec).collect();
        assert_eq!(codecs, [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::H263]);
        let words = |at: usize| video.formats[at].feedback.words().collect::<Vec<_>>();
        assert_eq!(
            (words(0), words(1)),
            (vec!["nack", "nack pli"], vec!["ccm fir", "nack"])
        );
        assert!(video.formats[1].fragments());
    }

    #[test]
    fn when_packets_came_is_told_where_their_number_has_a_number() {
        let map = format!("a=extmap:7 {TRANSPORT_SEQUENCE}\r\n");
        let told = "a=rtcp-fb:96 transport-cc\r\n";
        let ours = formats(&[VideoCodec::Vp8, VideoCodec::H264]);
        for (more, number) in [
            (format!("{map}{told}"), Some(7)),
            (map, None),
            (told.to_owned(), None),
        ] {
            let theirs = section(&format!("{SDP}{more}"));
            let common = common(&ours, &theirs.formats);
            assert_eq!(common[0].transport_sequence, number, "{more}");
            assert_eq!(common[0].feedback.transport_cc, number.is_some());
            assert_eq!(common[1].transport_sequence, None, "it is of another format");
            let lines = lines(&common);
            assert_eq!(lines.contains("96 transport-cc"), number.is_some());
            let said = format!("a=extmap:7/recvonly {TRANSPORT_SEQUENCE}\r\n");
            assert_eq!(lines.contains(&said), number.is_some(), "{lines}");
            // RFC 8285 section 6: the number stays for what is offered beside it.
            let offer = offer(&ours, &common[..1], &[]);
            assert_eq!(offer[1].transport_sequence, Some(number.unwrap_or(OWN_ELEMENT)));
        }
    }

    #[test]
    fn what_is_common_keeps_the_peers_profile_and_not_its_parameter_sets() {
        let common = common(&formats(&[VideoCodec::H264]), &section(SDP).formats);
        assert_eq!(
            lines(&common),
            "a=rtpmap:102 H264/90000\r\na=fmtp:102 profile-level-id=640c1f;Packetization-Mode=1\r\n\
             a=rtcp-fb:102 ccm fir\r\na=rtcp-fb:102 nack\r\n"
        );
    }

    #[test]
    fn each_packetization_mode_is_a_format_of_its_own() {
        let single = section("m=video 5 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n");
        assert!(!single.formats[0].fragments());
        let common = common(&formats(&[VideoCodec::H264]), &single.formats);
        assert_eq!((common.len(), common[0].payload_type), (1, 99));
        let fragmented = &formats(&[VideoCodec::H264])[..1];
        assert!(super::common(fragmented, &single.formats).is_empty());
    }

    #[test]
    fn an_answer_without_a_packetization_mode_has_taken_that_of_its_number() {
        let offered = formats(&[VideoCodec::H264]);
        let theirs =
            section("m=video 5 RTP/AVP 102 99\r\na=rtpmap:102 H264/90000\r\na=rtpmap:99 H264/90000\r\n");
        let fragments =
            |formats: Vec<VideoFormat>| formats.iter().map(VideoFormat::fragments).collect::<Vec<_>>();
        assert_eq!(fragments(answered(&offered, &theirs.formats)), [true, false]);
        assert_eq!(fragments(theirs.formats), [false, false]);
    }

    #[test]
    fn an_offer_gives_no_number_twice_and_none_of_the_audios() {
        let ours = formats(&VideoCodec::ALL);
        let current = [VideoFormat {
            payload_type: 98,
            ..ours[0].clone()
        }];
        let offer = offer(&ours, &current, &[102, 127]);
        let mut numbers: Vec<u8> = offer.iter().map(|format| format.payload_type).collect();
        assert_eq!(numbers.first(), Some(&98));
        assert!(!numbers.contains(&102) && !numbers.contains(&127));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ours.len());
    }

    #[test]
    fn a_rejected_section_is_not_live_unless_it_waits_for_bundle() {
        assert_eq!(VideoSection::read("m=audio 9 X 0\r\nm=video 0 X 34\r\n"), None);
        assert_eq!(
            section("m=video 0 X 34\r\nm=audio 9 X 0\r\nm=video 8 X 34\r\n").at,
            2
        );
        let bundled = "a=group:BUNDLE a v\r\nm=audio 9 X 0\r\na=mid:a\r\nm=video 0 X 34\r\na=mid:v\r\na=bundle-only\r\n";
        assert_eq!(section(bundled).at, 1);
        assert!(VideoSection::read("m=audio 9 X 0\r\n").is_none());
    }

    #[test]
    fn numbers_without_a_map_and_maps_without_a_number_are_left_out() {
        let video =
            section("m=video 9 X 96 a 300\r\na=rtpmap:97 VP8/90000\r\na=rtpmap:96 VP8/8000\r\na=rtpmap:\r\n");
        assert!(video.formats.is_empty());
    }
}

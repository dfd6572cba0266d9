//! Video in the media port: it is carried as it is, encoded by others, and whoever receives it tells the sender what it misses.

use super::{Direction, RtpPacket};
use std::fmt;

/// A video codec's name as in `a=rtpmap`; the RTP clock of all is 90 kHz.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum VideoCodec {
    /// RFC 2190, static payload type 34.
    H263,
    /// RFC 4629: `H263-1998`.
    H263Plus,
    /// RFC 6184.
    H264,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
}

impl VideoCodec {
    /// Every codec, in our order of preference.
    pub const ALL: [VideoCodec; 5] = [
        VideoCodec::Vp8,
        VideoCodec::H264,
        VideoCodec::Vp9,
        VideoCodec::H263Plus,
        VideoCodec::H263,
    ];
    /// In Hz (RFC 3551 section 5).
    pub const CLOCK_RATE: u32 = 90_000;

    /// As in `a=rtpmap`.
    pub fn as_str(self) -> &'static str {
        match self {
            VideoCodec::H263 => "H263",
            VideoCodec::H263Plus => "H263-1998",
            VideoCodec::H264 => "H264",
            VideoCodec::Vp8 => "VP8",
            VideoCodec::Vp9 => "VP9",
        }
    }

    /// From `a=rtpmap`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        VideoCodec::ALL
            .into_iter()
            .find(|codec| codec.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What two video m-lines agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NegotiatedVideo {
    /// The codec we send, and expect.
    pub codec: VideoCodec,
    /// Its payload type towards the peer.
    pub payload_type: u8,
    /// H.264: a NAL unit may be cut into fragments, and small ones may share a packet (RFC 6184 section 6.3,
    /// `packetization-mode=1`); otherwise each has a packet of its own.
    pub fragments: bool,
    /// Which way video flows, seen from us.
    pub direction: Direction,
    /// What the peer takes of us, and we of it.
    pub feedback: FeedbackKinds,
}

/// Which feedback is understood (`a=rtcp-fb`, RFC 4585 section 4.2, RFC 5104 section 7.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FeedbackKinds {
    /// `ccm fir`.
    pub fir: bool,
    /// `nack`: a packet that is missing is sent again.
    pub nack: bool,
    /// `nack pli`.
    pub pli: bool,
    /// `goog-remb`.
    pub remb: bool,
    /// `transport-cc`: its sender is told when each packet came, and judges the path itself.
    pub transport_cc: bool,
}

impl FeedbackKinds {
    /// What we understand: all of it.
    pub const OURS: FeedbackKinds = FeedbackKinds {
        fir: true,
        nack: true,
        pli: true,
        remb: true,
        transport_cc: true,
    };

    /// From the value of `a=rtcp-fb` without its payload type: `nack pli`. What is unknown adds nothing.
    #[must_use]
    pub fn with(self, value: &str) -> Self {
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["ccm", "fir", ..] => FeedbackKinds { fir: true, ..self },
            ["nack"] => FeedbackKinds { nack: true, ..self },
            ["nack", "pli"] => FeedbackKinds { pli: true, ..self },
            ["goog-remb"] => FeedbackKinds { remb: true, ..self },
            ["transport-cc"] => FeedbackKinds {
                transport_cc: true,
                ..self
            },
            _ => self,
        }
    }

    /// What both understand.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        FeedbackKinds {
            fir: self.fir && other.fir,
            nack: self.nack && other.nack,
            pli: self.pli && other.pli,
            remb: self.remb && other.remb,
            transport_cc: self.transport_cc && other.transport_cc,
        }
    }

    /// The values of `a=rtcp-fb`, in the order in which browsers write them.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
            (self.fir, "ccm fir"),
            (self.nack, "nack"),
            (self.pli, "nack pli"),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, word)| word)
    }
}

/// What the receiver of a video stream tells its sender.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Feedback {
    /// No more than this many bit/s arrive (REMB).
    Bitrate(u64),
    /// Nothing can be shown without a key frame (PLI, FIR).
    KeyFrame,
    /// Packets with these sequence numbers did not come (generic NACK).
    Lost(Vec<u16>),
}

/// Where inbound video and what the peer says of ours goes. Called on the engine's own task: it must not block and must
/// not wait.
pub trait VideoPort: Send + Sync + 'static {
    /// Takes a packet. A bounded queue that is full drops its oldest and counts it.
    fn push(&self, packet: RtpPacket);

    /// What the peer says of the video that we send.
    fn feedback(&self, feedback: Feedback);
}

/// What video is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VideoWish {
    /// Which way it shall flow, from our side.
    pub direction: Direction,
    /// Codecs to offer and to accept, best first.
    pub codecs: Vec<VideoCodec>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_read_as_it_is_written() {
        let all = FeedbackKinds::OURS;
        let read = all.words().fold(FeedbackKinds::default(), FeedbackKinds::with);
        assert_eq!(read, all);
        assert_eq!(
            FeedbackKinds::default().with("nack sli"),
            FeedbackKinds::default()
        );
        let pli = FeedbackKinds::default().with("nack pli").with("nack rpsi");
        assert_eq!(pli.words().collect::<Vec<_>>(), ["nack pli"]);
        assert_eq!(pli.and(all), pli);
    }

    #[test]
    fn names_are_read_in_any_case() {
        for codec in VideoCodec::ALL {
            assert_eq!(VideoCodec::from_name(&codec.as_str().to_lowercase()), Some(codec));
        }
        assert_eq!(VideoCodec::from_name("AV1"), None);
    }
}

//! Payload formats of either medium, so that one machine negotiates both.

use siprtc_core::media::{FeedbackKinds, VideoCodec};
use siprtc_rtp::video::{self, VideoFormat, VideoSection};
use siprtc_rtp::{Format, format, sdp};

/// Formats of one m-line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Formats {
    Audio(Vec<Format>),
    Video(Vec<VideoFormat>),
}

impl From<Vec<Format>> for Formats {
    fn from(formats: Vec<Format>) -> Self {
        Formats::Audio(formats)
    }
}

impl From<Vec<VideoFormat>> for Formats {
    fn from(formats: Vec<VideoFormat>) -> Self {
        Formats::Video(formats)
    }
}

impl Formats {
    /// None of the same medium.
    pub(crate) fn none(&self) -> Self {
        match self {
            Formats::Audio(_) => Formats::Audio(Vec::new()),
            Formats::Video(_) => Formats::Video(Vec::new()),
        }
    }

    /// As in an m-line.
    pub(crate) fn medium(&self) -> &'static str {
        match self {
            Formats::Audio(_) => "audio",
            Formats::Video(_) => "video",
        }
    }

    /// Those of a section of the same medium, which is the only one in this text.
    pub(crate) fn read(&self, section: &str) -> Self {
        match self {
            Formats::Audio(_) => sdp::formats(section).into(),
            Formats::Video(_) => {
                let section = VideoSection::read(section);
                section.map(|section| section.formats).unwrap_or_default().into()
            }
        }
    }

    /// What an answer has of `theirs`; `None`: nothing that could be sent.
    pub(crate) fn common(&self, theirs: &Formats) -> Option<Self> {
        match (self, theirs) {
            (Formats::Audio(ours), Formats::Audio(theirs)) => format::common(ours, theirs).map(Self::from),
            (Formats::Video(ours), Formats::Video(theirs)) => {
                let common = video::common(ours, theirs);
                (!common.is_empty()).then_some(common.into())
            }
            _ => None,
        }
    }

    /// The peer's, in its answer to an offer of these.
    pub(crate) fn answered(&self, theirs: &Formats) -> Self {
        match (self, theirs) {
            (Formats::Video(offered), Formats::Video(theirs)) => video::answered(offered, theirs).into(),
            _ => theirs.clone(),
        }
    }

    /// What to offer when `current` is in use, and another codec perhaps wanted.
    pub(crate) fn offer(&self, current: &Formats, is_anew: bool) -> Self {
        match (self, current) {
            (Formats::Audio(ours), Formats::Audio(current)) if is_anew => {
                format::offer_anew(ours, current).into()
            }
            (Formats::Audio(ours), Formats::Audio(current)) => format::offer(ours, current).into(),
            (Formats::Video(ours), Formats::Video(current)) => video::offer(ours, current, &[]).into(),
            _ => self.clone(),
        }
    }

    /// `a=rtpmap` and all that explains the formats, with CRLF.
    pub(crate) fn lines(&self) -> String {
        match self {
            Formats::Audio(formats) => formats.iter().map(Format::lines).collect(),
            Formats::Video(formats) => video::lines(formats),
        }
    }

    pub(crate) fn payload_types(&self) -> Vec<u8> {
        match self {
            Formats::Audio(formats) => formats.iter().map(|format| format.payload_type).collect(),
            Formats::Video(formats) => formats.iter().map(|format| format.payload_type).collect(),
        }
    }

    /// The end of an m-line.
    pub(crate) fn numbers(&self) -> String {
        self.payload_types()
            .iter()
            .map(|number| format!(" {number}"))
            .collect()
    }

    /// The clock rate in Hz by which jitter can be told.
    pub(crate) fn clock_rates(&self) -> Vec<(u8, u32)> {
        match self {
            Formats::Audio(formats) => format::clock_rates(formats).collect(),
            Formats::Video(_) => {
                let rate = |number| (number, VideoCodec::CLOCK_RATE);
                self.payload_types().into_iter().map(rate).collect()
            }
        }
    }

    /// What both understand of feedback about what is in use.
    pub(crate) fn feedback(&self) -> FeedbackKinds {
        match self {
            Formats::Audio(_) => FeedbackKinds::default(),
            Formats::Video(formats) => formats
                .first()
                .map_or_else(FeedbackKinds::default, |format| format.feedback),
        }
    }

    /// See [`video::VideoFormat::transport_sequence`].
    pub(crate) fn transport_sequence(&self) -> Option<u8> {
        match self {
            Formats::Audio(_) => None,
            Formats::Video(formats) => formats.first()?.transport_sequence,
        }
    }

    /// For people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = match self {
            Formats::Audio(formats) => formats.iter().map(|format| format.encoding.as_str()).collect(),
            Formats::Video(formats) => formats.iter().map(|format| format.codec.as_str()).collect(),
        };
        names.join(" ")
    }
}

#![doc = include_str!("../README.md")]

mod actor;
mod candidate;
mod check;
mod disguise;
mod negotiate;
mod repair;
mod rule;
mod sdp;
mod to_sip;
mod to_webrtc;
mod transport;
mod work;

use actix::Message;
use siprtc_core::Result;
use siprtc_core::media::NegotiatedAudio;

pub use actor::SdpTranslator;
pub use candidate::candidates;
pub use check::{check_answer, check_offer};
pub use negotiate::negotiated_audio;
pub use rule::{Change, Rule};
pub use to_sip::{answer_to_sip, to_sip};
pub use to_webrtc::{answer_to_webrtc, to_webrtc};

/// The longest description, in octets. A longer one is an error: the longest that browsers make has about 20 kB.
pub const MAX_SDP: usize = 65_536;

/// The most lines of a description; more is an error.
pub const MAX_LINES: usize = 2_000;

/// The most m-lines of a description; more is an error.
pub const MAX_MEDIA: usize = 32;

/// A description after translation, and everything that is not what it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Translation {
    /// The description, with CRLF after each line.
    pub sdp: String,
    /// What was changed, in the order of the rules.
    pub changes: Vec<Change>,
}

/// [`to_sip()`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct ToSip {
    /// The engine's local description.
    pub sdp: String,
}

/// [`to_webrtc()`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct ToWebrtc {
    /// The peer's description.
    pub sdp: String,
}

/// [`answer_to_sip`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct AnswerToSip {
    /// The peer's offer as it came from the wire.
    pub offer: String,
    /// The engine's local description: the answer.
    pub answer: String,
}

/// [`answer_to_webrtc`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct AnswerToWebrtc {
    /// Our offer, as it went out or as the engine made it.
    pub offer: String,
    /// The peer's answer.
    pub answer: String,
}

/// [`negotiated_audio`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<NegotiatedAudio>")]
pub struct Negotiate {
    /// Our description.
    pub local: String,
    /// The peer's.
    pub remote: String,
}

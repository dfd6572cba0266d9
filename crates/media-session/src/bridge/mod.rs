//! From one call's packets to another's: rewritten where both have the same codec ([`PassThrough`]), transcoded where they
//! have not ([`Transcoder`]). No I/O, no clock, no task: packets in, packets out.

mod event;
mod inbound;
mod line;
mod pass;
#[cfg(test)]
mod pass_tests;
mod transcode;
#[cfg(test)]
mod transcode_tests;

pub use pass::PassThrough;
pub use transcode::{OnLoss, TranscodeOptions, Transcoder};

use crate::comfort;
use siprtc_core::media::{Codec, NegotiatedAudio};

/// What happened to packets on their way from one call to another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BridgeStats {
    /// Came in.
    pub received: u64,
    /// Went out.
    pub sent: u64,
    /// The sequence numbers say they never came.
    pub lost: u64,
    /// Came after their turn had passed.
    pub late: u64,
    /// Came again.
    pub duplicates: u64,
    /// Had a payload that their codec cannot read.
    pub unreadable: u64,
    /// Had a payload type that the other side has nothing for, a number far from the stream's, or came while a digit of ours
    /// sounded in its place.
    pub dropped: u64,
    /// Frames made up in place of what was lost.
    pub concealed: u64,
    /// Sequence numbers left out, so that the other side sees the loss.
    pub passed_on: u64,
}

impl BridgeStats {
    /// Both counts together.
    #[must_use]
    pub fn plus(self, other: BridgeStats) -> Self {
        BridgeStats {
            received: self.received + other.received,
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            late: self.late + other.late,
            duplicates: self.duplicates + other.duplicates,
            unreadable: self.unreadable + other.unreadable,
            dropped: self.dropped + other.dropped,
            concealed: self.concealed + other.concealed,
            passed_on: self.passed_on + other.passed_on,
        }
    }
}

/// The least that Opus speech of full band takes (RFC 7587 section 3.1.1), in bit/s. A side that allows less is not sent what another
/// side made without knowing of it.
const OPUS_SPEECH: u32 = 40_000;

/// Whether packets of one side may go to the other as they are. Packet times may differ: a receiver takes all (RFC 3551
/// section 4.2).
#[must_use]
pub fn passes(from: &NegotiatedAudio, to: &NegotiatedAudio) -> bool {
    let bit_rate = to.parameters.max_average_bitrate;
    let fits = from.codec != Codec::Opus || bit_rate.is_none_or(|most| most >= OPUS_SPEECH);
    let clocks =
        matches!((from.telephone_event, to.telephone_event), (Some(from), Some(to)) if from.1 != to.1);
    from.codec == to.codec && fits && !clocks
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Audio,
    Event,
    Foreign,
    Noise,
}

/// What a packet is that comes in from a side on which this was agreed. A peer sends with the types of our own description,
/// which may differ from those that it wants: nothing but audio, events and noise is ever offered.
fn kind(payload_type: u8, audio: &NegotiatedAudio) -> Kind {
    let noise = audio.parameters.comfort_noise;
    if audio.telephone_event.is_some_and(|(own, _)| own == payload_type) {
        Kind::Event
    } else if payload_type == audio.payload_type || payload_type == audio.codec.payload_type() {
        Kind::Audio
    } else if payload_type == comfort::PAYLOAD_TYPE || noise.is_some_and(|(own, _)| own == payload_type) {
        Kind::Noise
    } else if payload_type >= 96 && audio.telephone_event.is_some() {
        Kind::Event
    } else {
        Kind::Foreign
    }
}

/// Whether a packet that comes in from this side belongs to an event.
pub(crate) fn is_event(payload_type: u8, audio: &NegotiatedAudio) -> bool {
    kind(payload_type, audio) == Kind::Event
}

/// The payload type of comfort noise towards this side, when it is on the audio's own clock.
pub(crate) fn noise_type(audio: &NegotiatedAudio) -> Option<u8> {
    audio
        .parameters
        .comfort_noise
        .filter(|(_, clock)| *clock == audio.codec.clock_rate())
        .map(|(payload_type, _)| payload_type)
}

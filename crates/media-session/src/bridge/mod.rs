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
use siprtc_core::media::NegotiatedAudio;

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
    /// Had a payload type that the other side has nothing for, or a number far from the stream's.
    pub dropped: u64,
    /// Frames made up in place of what was lost.
    pub concealed: u64,
    /// Sequence numbers left out, so that the other side sees the loss.
    pub passed_on: u64,
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

/// The payload type of comfort noise towards this side, when it is on the audio's own clock.
pub(crate) fn noise_type(audio: &NegotiatedAudio) -> Option<u8> {
    audio
        .parameters
        .comfort_noise
        .filter(|(_, clock)| *clock == audio.codec.clock_rate())
        .map(|(payload_type, _)| payload_type)
}

#![doc = include_str!("../README.md")]

mod actor;
pub mod bench;
mod bridge;
mod codec;
mod comfort;
mod conceal;
mod config;
mod dtmf;
mod emodel;
mod events;
mod jitter;
mod level;
mod machine;
mod messages;
mod mixer;
mod polyphase;
mod pump;
mod queue;
mod receive;
mod recorder;
mod resample;
mod send;
#[cfg(test)]
mod signal;
mod silence;
mod source;
mod stage;
mod stats;
#[cfg(feature = "voice-processing")]
mod voice;
mod wav;
mod work;

pub use actor::MediaSession;
pub use bridge::{BridgeStats, OnLoss, PassThrough, TranscodeOptions, Transcoder};
pub use config::{AudioSink, AudioSource, Processing, SessionConfig, Sink, Source};
pub use level::level_dbov;
pub use messages::{
    AcceptAnswer, AddCandidates, AnswerOffer, Begin, Close, CreateOffer, RestartIce, Rollback, SendDtmf,
    SessionEvent, SessionEventKind, SessionId, SessionStats, SetDirection, Snapshot,
};
pub use mixer::{LegId, LegStats, Mixer, MixerConfig};
pub use stage::{Chain, Gain, GainControl, Level, LevelMeter, SilenceDetector, Stage, StageSwitch};
#[cfg(feature = "voice-processing")]
pub use voice::{MicrophoneStage, SpeakerStage, VoiceProcessing};

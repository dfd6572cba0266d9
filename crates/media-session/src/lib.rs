#![doc = include_str!("../README.md")]

mod actor;
pub mod bench;
mod bridge;
mod chosen;
mod codec;
mod comfort;
mod conceal;
mod conference;
mod config;
mod dtmf;
mod ear;
mod emodel;
mod events;
mod jitter;
mod join;
mod level;
mod machine;
mod messages;
mod mixer;
mod pcm;
mod polyphase;
mod pump;
mod queue;
mod quiet;
mod receive;
mod recorder;
mod recording;
mod resample;
mod send;
#[cfg(test)]
mod signal;
mod silence;
mod source;
mod stage;
mod stats;
mod tracks;
mod video;
#[cfg(feature = "voice-processing")]
mod voice;
mod wav;
mod work;

pub use actor::MediaSession;
pub use bridge::{BridgeStats, OnLoss, PassThrough, TranscodeOptions, Transcoder, passes};
pub use conference::{Conference, ConferenceConfig, Seat};
pub use config::{AudioSink, AudioSource, Processing, SessionConfig, Sink, Source, Stages};
pub use join::{Bridge, BridgeConfig, BridgeEnd, Carriage, OnEnd, PartedBy, WayStats};
pub use level::level_dbov;
pub use messages::{
    AcceptAnswer, AcceptFork, AddCandidates, AnswerOffer, Begin, CheckMedia, Close, Confer, CreateOffer,
    Fork, HandOver, Inherit, Join, MediaChange, Mute, Part, Record, RestartIce, Rollback, SendDtmf,
    SessionEvent, SessionEventKind, SessionId, SessionStats, SetAudio, SetDirection, SetMedia, Snapshot,
    StopRecording, TakeFork,
};
pub use mixer::{LegId, LegStats, Mixer, MixerConfig};
pub use pcm::Voice;
pub use quiet::{QuietConfig, Talker};
pub use recording::Sides;
pub use stage::{Chain, Gain, GainControl, Level, LevelMeter, SilenceDetector, Stage, StageSwitch};
pub use video::{FrameSink, FrameSource, VideoFrame, VideoPlan, VideoSink, VideoSource, VideoStats};
#[cfg(feature = "voice-processing")]
pub use voice::{MicrophoneStage, SpeakerStage, VoiceProcessing};
pub use work::Estate;

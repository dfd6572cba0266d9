#![doc = include_str!("../README.md")]

mod actor;
mod codec;
mod conceal;
mod config;
mod dtmf;
mod emodel;
mod events;
mod jitter;
mod machine;
mod messages;
mod pump;
mod queue;
mod receive;
mod recorder;
mod resample;
mod send;
#[cfg(test)]
mod signal;
mod source;
mod stats;
mod wav;
mod work;

pub use actor::MediaSession;
pub use config::{AudioSink, AudioSource, SessionConfig, Sink, Source};
pub use messages::{
    AcceptAnswer, AddCandidates, AnswerOffer, Begin, Close, CreateOffer, RestartIce, Rollback, SendDtmf,
    SessionEvent, SessionEventKind, SessionId, SessionStats, SetDirection, Snapshot,
};

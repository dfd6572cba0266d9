#![doc = include_str!("../README.md")]

mod actor;
mod codec;
mod conceal;
mod emodel;
mod events;
mod jitter;
mod queue;
mod resample;
mod stats;
#[cfg(test)]
mod signal;
mod config;
mod messages;

pub use actor::MediaSession;
pub use config::{AudioSink, AudioSource, SessionConfig, Sink, Source};
pub use messages::{
    AcceptAnswer, AnswerOffer, Begin, Close, CreateOffer, Rollback, SendDtmf, SessionEvent, SessionEventKind,
    SessionId, SessionStats, SetDirection, Snapshot,
};

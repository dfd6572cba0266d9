#![doc = include_str!("../README.md")]

mod asking;
pub mod automaton;
mod bridge;
pub mod config;
mod desk;
mod dialling;
mod endpoint;
pub mod fake;
mod hub;
mod in_call;
mod incoming;
pub mod ladder;
mod message;
mod plan;
mod referral;
pub mod registry;
mod report;
pub mod sound;
mod stage;
mod subscription;
pub mod telemetry;
mod tls_files;
mod transfer;
pub mod turn;
pub mod wiretap;

pub use asking::{ReferOptions, RequestedCall};
pub use bridge::{Bridge, Conference};
pub use config::{Config, Layers};
pub use desk::Registration;
pub use dialling::{DialOptions, header_field};
pub use endpoint::{Call, Endpoint, Parts};
pub use incoming::{EarlyCall, IncomingCall};
pub use referral::{Referral, Referrals};
pub use report::{CallReport, Role, Timings};
pub use subscription::Subscription;

/// What most programs need.
pub mod prelude {
    pub use crate::{
        Bridge, Call, CallReport, Conference, Config, DialOptions, EarlyCall, Endpoint, IncomingCall, Layers,
        Registration,
    };
    pub use siprtc_core::media::Direction;
    pub use siprtc_core::sip::Headers;
    pub use siprtc_core::{Cause, Error, Fault, Result};
    pub use siprtc_gateway::{CallEventKind, Ending, Head, MediaPlan, Note, Side};
    pub use siprtc_media_session::{
        BridgeConfig, Carriage, ConferenceConfig, FrameSink, FrameSource, OnEnd, PartedBy, QuietConfig,
        SessionStats, Sides, Sink, Source, Stages, VideoFrame, VideoPlan, VideoSink, VideoSource, VideoStats,
        Voice,
    };
}

pub use siprtc_core as core;
pub use siprtc_gateway as gateway;
pub use siprtc_media_session as media_session;
pub use siprtc_nat_agent as nat_agent;
pub use siprtc_sdp_translator as sdp;

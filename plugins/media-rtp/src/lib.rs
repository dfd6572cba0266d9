#![doc = include_str!("../README.md")]

mod config;
mod crypto;
mod driver;
mod dtls;
mod engine;
mod fork;
mod formats;
mod latch;
mod line;
mod machine;
mod peer;
mod remote;
mod srtp;
mod transport;
mod video;

pub use config::{Keying, RtpConfig};
pub use crypto::Suite;

use siprtc_core::media::MediaEngine;
use std::sync::Arc;

/// The word that selects this engine in the configuration.
pub const NAME: &str = "rtp";

/// The engine: RTP as SIP telephones have it.
pub fn engine(config: RtpConfig) -> Arc<dyn MediaEngine> {
    Arc::new(engine::Engine::new(config))
}

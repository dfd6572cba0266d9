#![doc = include_str!("../README.md")]

mod audio;
mod config;
mod crypto;
mod driver;
mod dtls;
mod engine;
mod latch;
mod machine;
mod peer;
mod srtp;
mod transport;

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

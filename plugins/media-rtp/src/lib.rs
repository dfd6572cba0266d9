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

/// The word that selects the engine as it offers to browsers.
pub const WEB_NAME: &str = "rtp-web";

/// The engine: RTP as SIP telephones have it.
pub fn engine(config: RtpConfig) -> Arc<dyn MediaEngine> {
    Arc::new(engine::Engine::new(NAME, config))
}

/// The same engine, whose offers are those of a WebRTC endpoint (RFC 8834, RFC 8835): `UDP/TLS/RTP/SAVPF` with ICE over all addresses,
/// and RTP and RTCP on one port. What is offered to it, it answers as [`engine()`] does. Of `config` it takes what is no matter of offers.
pub fn web_engine(config: RtpConfig) -> Arc<dyn MediaEngine> {
    Arc::new(engine::Engine::new(WEB_NAME, config.for_browsers()))
}

#![doc = include_str!("../README.md")]

mod codecs;
mod engine;
mod events;
mod fork;
mod gate;
mod negotiation;
mod peer;
mod runtime;
mod sdp;
mod shim;
mod stats;
mod tap;
mod video;

use siprtc_core::media::MediaEngine;
use std::sync::Arc;

/// The word that selects this engine in the configuration.
pub const NAME: &str = "webrtc";

/// The engine: makes PeerConnections of the `webrtc` crate, which does its own ICE.
pub fn engine() -> Arc<dyn MediaEngine> {
    engine_with(WebrtcConfig::default())
}

/// How the engine behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebrtcConfig {
    /// Offer and answer comfort noise (RFC 3389) beside the codecs of 8 kHz.
    pub comfort_noise: bool,
}

/// The engine, told how to behave.
pub fn engine_with(config: WebrtcConfig) -> Arc<dyn MediaEngine> {
    Arc::new(engine::Engine(config))
}

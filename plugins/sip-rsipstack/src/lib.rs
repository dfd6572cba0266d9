#![doc = include_str!("../README.md")]

mod client;
mod connect;
mod connection;
mod convert;
mod factory;
mod flows;
mod framing;
mod inbound;
mod key;
mod listen;
mod peer;
mod read;
mod server;
mod shared;
mod stack;
mod stun;
mod target;
mod udp;
mod websocket;

use siprtc_core::sip::SipStackFactory;
use std::sync::Arc;

pub use read::parse;

/// The word that selects this plugin in the configuration.
pub const NAME: &str = "rsipstack";

/// What makes running stacks over rsipstack.
pub fn factory() -> Arc<dyn SipStackFactory> {
    Arc::new(factory::RsipstackFactory)
}

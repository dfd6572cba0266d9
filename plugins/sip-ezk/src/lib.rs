#![doc = include_str!("../README.md")]

mod client;
mod clock;
mod connection;
mod convert;
mod engine;
mod factory;
mod flows;
mod inbound;
mod names;
mod shared;
mod stack;
mod target;

use siprtc_core::sip::SipStackFactory;
use std::sync::Arc;

/// The word that selects this plugin in the configuration.
pub const NAME: &str = "ezk";

/// What makes running stacks over ezk.
pub fn factory() -> Arc<dyn SipStackFactory> {
    Arc::new(factory::EzkFactory)
}

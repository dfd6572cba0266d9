#![doc = include_str!("../README.md")]

mod config;
mod context;
mod gate;
mod identity;
mod machine;
mod proxy;
mod refusal;
mod registrar;
mod server;
#[cfg(test)]
mod tests;
mod turn_server;

pub use config::{HomeConfig, TurnConfig, Users};
pub use machine::HomeStats;
pub use registrar::Registration;
pub use server::HomeServer;

/// `Retry-After` of a 503, in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

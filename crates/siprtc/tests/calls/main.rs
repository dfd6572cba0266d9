//! The facade as its users have it: endpoints with real engines and sockets, over the embedded home server.
//!
//! One program: each test binary of this crate holds the whole library.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(
    clippy::duplicate_mod,
    reason = "each example has the ground of all as a module of its own"
)]

mod asking;
mod beside;
mod bridges;
mod change;
mod classic;
mod endpoint;
mod examples;
mod fakes;
mod flows;
mod forks;
mod hold;
mod house;
mod keys;
mod left;
mod progress;
mod secure;
mod silence;
mod stages;
mod subscriptions;
mod takeover;
mod transfer;
mod video;
mod watching;

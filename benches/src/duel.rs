//! The two endpoints without I/O against which the gateway's tests play, as a bench.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the tests use what is left; a bench may fail where it stands"
)]

#[path = "../../crates/gateway/tests/duel/media.rs"]
mod media;
#[path = "../../crates/gateway/tests/duel/world/mod.rs"]
pub(crate) mod world;

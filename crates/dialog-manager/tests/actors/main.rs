//! The actor: two dialog managers that call each other.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod asking;
mod ezk;
mod phone;
mod trickle;
mod wire;

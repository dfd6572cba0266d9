//! One call's machine, played through by hand: no I/O, no clock, no actor.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod bench;
mod callee;
mod caller;
mod early;
mod ends;
mod forks;
mod hold;
mod offers;
mod progress;
mod random;
mod transfer;
mod trickle;

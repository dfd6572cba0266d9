//! The machine, by script: no network and no clock but the test's own.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![allow(unreachable_pub, reason = "one test program: everything in it is its own")]

mod asking;
mod bench;
mod callee;
mod caller;
mod challenges;
mod errands;
mod flows;
mod identity;
mod in_dialog;
mod info;
mod notify;
mod offers;
mod prack;
mod random;
mod recover;
mod referral;
mod refresh;
mod replaces;
mod subscribe;
mod transfer;
mod trickle;
mod update;

//! ICE agents held against each other: every ordered pair of agents behind every pair of NATs, with and without a relay,
//! in virtual time.

mod end;
mod matrix;
mod run;
mod suite;

pub use matrix::{Cell, IceMatrix};
pub use run::{Behind, Outcome, PathKind, Trial, expected, run};
pub use suite::{Check, check, checks};

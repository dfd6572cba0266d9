//! The suite.
/// Placeholder.
#[derive(Debug)]
pub struct Pair;
/// Scenarios.
pub mod scenarios {}

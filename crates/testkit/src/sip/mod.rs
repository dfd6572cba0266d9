//! The SIP port's fakes and its conformance suite.

mod conformance;
mod message;
mod recording;
mod wire;

pub use conformance::{Pair, scenarios};
pub use message::{answer, request};
pub use recording::RecordingSink;
pub use wire::Wire;

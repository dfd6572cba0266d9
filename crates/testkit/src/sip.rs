//! The SIP port's fakes and its conformance suite.

#[expect(clippy::unwrap_used, reason = "a scenario is a test: it fails by panicking")]
mod conformance;
mod message;
mod recording;
mod wire;

pub use conformance::{Network, Pair, run, scenarios};
pub use message::{answer, request};
pub use recording::RecordingSink;
#[doc(hidden)]
pub use siprtc_core::sip::SipStackFactory;
pub use wire::Wire;

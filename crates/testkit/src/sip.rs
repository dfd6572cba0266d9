//! The SIP port's fakes and its conformance suite.

#[expect(clippy::unwrap_used, reason = "a scenario is a test: it fails by panicking")]
mod conformance;
mod difference;
mod hearing;
mod message;
mod needs;
mod recording;
mod stranger;
pub mod torture;
mod wire;

pub use conformance::{
    AT_ONCE, ATTEMPTS, Filter, Kind, Matrix, Network, Outcome, Ran, Run, Scenario, ScenarioFacts, Setting,
    StackFacts, attempt, check, scenario, scenarios,
};
pub use difference::difference;
pub use hearing::{Heard, Hearing, start_on_loopback};
pub use message::{answer, request};
pub use needs::needs;
pub use recording::RecordingSink;
#[doc(hidden)]
pub use siprtc_core::sip::SipStackFactory;
pub use stranger::{Answer, Stranger};
pub use wire::Wire;

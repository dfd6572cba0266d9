//! Whether the current agent is left alone. Once a pair is nominated and has been good for a while, an agent only keeps alive
//! what consent keeps alive already, and each in its own way: every 3 s, twice a second, or by looking at its pairs every 50 ms.
//! A path at rest answers the peer's checks itself; its agent is not called until something happens that only ICE can deal
//! with.

use std::time::{Duration, Instant};

/// From the nomination on: longer than any agent goes on checking for a better pair.
const CALM: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Rest {
    is_resting: bool,
    due: Option<Instant>,
}

impl Rest {
    pub(super) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// When [`Rest::begin`] may be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The agent has nominated a pair, or was woken.
    pub(super) fn plan(&mut self, now: Instant) {
        self.is_resting = false;
        self.due = Some(now + CALM);
    }

    pub(super) fn begin(&mut self) {
        self.is_resting = true;
        self.due = None;
    }
}

//! No registrar is flooded, whatever it answers.

use std::time::{Duration, Instant};

/// A bucket of permissions to send: [`Pace::BURST`] at once, then one each [`Pace::PER_REQUEST`].
#[derive(Debug)]
pub(crate) struct Pace {
    left: u32,
    filled: Option<Instant>,
}

impl Pace {
    /// Enough for a full round over the longest list of registrars with a challenge at each.
    pub(crate) const BURST: u32 = 32;
    /// So that an hour sees at most 3,600 REGISTERs and the burst.
    pub(crate) const PER_REQUEST: Duration = Duration::from_secs(1);

    /// A permission, or when to ask again, always later than `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let filled = self.filled.get_or_insert(now);
        let gained = now.saturating_duration_since(*filled).as_secs();
        *filled += Duration::from_secs(gained);
        self.left = self
            .left
            .saturating_add(u32::try_from(gained).unwrap_or(u32::MAX))
            .min(Self::BURST);
        if self.left == 0 {
            return Err(*filled + Self::PER_REQUEST);
        }
        self.left -= 1;
        Ok(())
    }
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            left: Self::BURST,
            filled: None,
        }
    }
}

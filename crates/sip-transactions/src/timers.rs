//! Time, the timers' values, and what is due next.

use siprtc_core::sip::{TimerConfig, TxId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::config::{MAX_PROCEEDING, TRYING_AFTER};

/// Nanoseconds since a machine's first input: half of an `Instant`'s octets.
pub(crate) type Time = u64;

/// Later than everything.
pub(crate) const NEVER: Time = Time::MAX;

/// RFC 3261 table 4: timer D is "> 32 s".
const LEAST_D: Duration = Duration::from_secs(32);

/// A shorter T1 would fill the network.
const LEAST_T1: Duration = Duration::from_millis(1);

/// Turns the instants that are handed in into times that never go back.
#[derive(Default)]
pub(crate) struct Clock {
    first: Option<Instant>,
    now: Time,
}

impl Clock {
    pub(crate) fn hear(&mut self, now: Instant) -> Time {
        let first = *self.first.get_or_insert(now);
        self.now = self.now.max(nanos(now.saturating_duration_since(first)));
        self.now
    }

    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        self.first?.checked_add(Duration::from_nanos(time))
    }
}

/// The timers' values (RFC 3261 table 4, RFC 6026 section 7).
#[derive(Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) t1: Time,
    pub(crate) t2: Time,
    /// Timers I and K.
    pub(crate) t4: Time,
    /// Timers B, F, H, J, L and M.
    pub(crate) t1_64: Time,
    pub(crate) d: Time,
    pub(crate) trying: Time,
    /// RFC 4320 section 4.1: the time it takes a timer E to be reset to T2.
    pub(crate) late: Time,
    pub(crate) proceeding: Time,
}

impl Timers {
    /// T1 is at least 1 ms, T2 at least T1.
    pub(crate) fn new(config: TimerConfig) -> Self {
        let t1 = nanos(config.t1.max(LEAST_T1));
        let t2 = nanos(config.t2).max(t1);
        let t1_64 = t1.saturating_mul(64);
        Timers {
            t1,
            t2,
            t4: nanos(config.t4),
            t1_64,
            d: nanos(LEAST_D).max(t1_64),
            trying: nanos(TRYING_AFTER),
            late: until_t2(t1, t2),
            proceeding: nanos(MAX_PROCEEDING),
        }
    }

    /// Timers E and G: the interval after `interval`.
    pub(crate) fn doubled(&self, interval: Time) -> Time {
        interval.saturating_mul(2).min(self.t2)
    }
}

fn until_t2(t1: Time, t2: Time) -> Time {
    let (mut sum, mut interval) = (t1, t1.saturating_mul(2));
    while interval < t2 {
        sum = sum.saturating_add(interval);
        interval = interval.saturating_mul(2);
    }
    sum
}

fn nanos(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// When each transaction that has timers of its own wants to be looked at. An alarm that has been put off, or whose
/// transaction is gone, stays until it is its turn or until such ones are the majority.
#[derive(Default)]
pub(crate) struct Alarms(BinaryHeap<Reverse<(Time, TxId)>>);

impl Alarms {
    pub(crate) fn set(&mut self, at: Time, tx: TxId) {
        self.0.push(Reverse((at, tx)));
    }

    /// Takes the first that is due.
    pub(crate) fn due(&mut self, now: Time) -> Option<(Time, TxId)> {
        let Reverse((at, _)) = *self.0.peek()?;
        if at > now {
            return None;
        }
        self.0.pop().map(|Reverse(alarm)| alarm)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Drops alarms that are not `valid` from the front, and all such when they are most of them.
    pub(crate) fn tidy(&mut self, alive: usize, valid: impl Fn(Time, TxId) -> bool) {
        /// Not worth the work below this many.
        const SMALL: usize = 64;
        while let Some(Reverse((at, tx))) = self.0.peek()
            && !valid(*at, *tx)
        {
            self.0.pop();
        }
        if self.0.len() > alive.saturating_mul(2).saturating_add(SMALL) {
            self.0.retain(|Reverse((at, tx))| valid(*at, *tx));
            self.0.shrink_to(self.0.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_rfc_3261s() {
        let timers = Timers::new(TimerConfig::default());
        let seconds = |time: Time| Duration::from_nanos(time).as_secs_f64();
        assert_eq!(
            (seconds(timers.t1_64), seconds(timers.d), seconds(timers.t4)),
            (32.0, 32.0, 5.0)
        );
        assert_eq!(
            seconds(timers.late),
            3.5,
            "timer E fires at 0.5, 1.5 and 3.5 s, and then every T2"
        );
        assert_eq!(seconds(timers.doubled(timers.t1 * 2)), 2.0);
        assert_eq!(seconds(timers.doubled(timers.t1 * 5)), 4.0);
    }

    #[test]
    fn timers_of_zero_do_not_spin() {
        let zero = TimerConfig {
            t1: Duration::ZERO,
            t2: Duration::ZERO,
            t4: Duration::ZERO,
        };
        let timers = Timers::new(zero);
        assert!(timers.t1 > 0 && timers.doubled(timers.t1) > 0);
        let huge = TimerConfig {
            t1: Duration::MAX,
            t2: Duration::MAX,
            t4: Duration::MAX,
        };
        assert_eq!(Timers::new(huge).t1_64, NEVER);
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "an instant can only be had from the clock; the rest of the time is made up"
    )]
    fn a_clock_that_goes_back_is_not_followed() {
        let start = Instant::now();
        let mut clock = Clock::default();
        assert_eq!(clock.hear(start), 0);
        let later = start + Duration::from_secs(1);
        assert_eq!(clock.hear(later), 1_000_000_000);
        assert_eq!(clock.hear(start), 1_000_000_000);
        assert_eq!(clock.instant(1_000_000_000), Some(later));
    }
}

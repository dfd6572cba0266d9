//! When a client transaction repeats its request and when it is over (RFC 3261 section 17.1, RFC 6026).

use siprtc_core::sip::TimerConfig;
use std::time::Duration;
use tokio::time::Instant;

/// ezk retransmits an INVITE 500 ms after `receive` was called: we call again before that.
const BEFORE_EZK_RETRANSMITS: Duration = Duration::from_millis(400);

/// How long an INVITE may ring. Its user is to give up much earlier; this only bounds what we keep.
const MAX_PROCEEDING: Duration = Duration::from_secs(3600);

/// How far the transaction is (RFC 3261 section 17.1, RFC 6026 section 7.2).
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Phase {
    /// No answer yet: Calling, or Trying.
    Calling,
    Proceeding,
    /// A 2xx to an INVITE: more may come.
    Accepted,
}

/// The timers A, B, E, F and M of one transaction.
pub(crate) struct Clock {
    timers: TimerConfig,
    invite: bool,
    reliable: bool,
    pub(crate) phase: Phase,
    /// When the request is repeated, and the interval after that.
    repeat: Option<(Instant, Duration)>,
    pub(crate) expires: Instant,
}

impl Clock {
    pub(crate) fn start(now: Instant, timers: TimerConfig, invite: bool, reliable: bool) -> Self {
        let repeat = (!reliable).then_some((now + timers.t1, timers.t1));
        Clock {
            timers,
            invite,
            reliable,
            phase: Phase::Calling,
            repeat,
            expires: now + timers.t1 * 64,
        }
    }

    /// How long to listen before it is time to look.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        let mut next = self.expires;
        if let Some((at, _)) = self.repeat {
            next = next.min(at);
        }
        if !self.reliable && self.phase == Phase::Calling {
            next = next.min(now + BEFORE_EZK_RETRANSMITS);
        }
        next
    }

    /// Whether the request is to be repeated now.
    pub(crate) fn repeats(&mut self, now: Instant) -> bool {
        let Some((at, interval)) = self.repeat else {
            return false;
        };
        if now < at {
            return false;
        }
        let doubled = interval * 2;
        let interval = match (self.invite, self.phase) {
            // Timer A doubles without a bound.
            (true, _) => doubled,
            (false, Phase::Calling) => doubled.min(self.timers.t2),
            (false, _) => self.timers.t2,
        };
        self.repeat = Some((now + interval, interval));
        true
    }

    pub(crate) fn provisional(&mut self, now: Instant) {
        if self.invite {
            self.repeat = None;
            if self.phase == Phase::Calling {
                self.expires = now + MAX_PROCEEDING;
            }
        }
        self.phase = Phase::Proceeding;
    }

    pub(crate) fn accepted(&mut self, now: Instant) {
        if self.phase != Phase::Accepted {
            self.phase = Phase::Accepted;
            self.repeat = None;
            // Timer M.
            self.expires = now + self.timers.t1 * 64;
        }
    }
}

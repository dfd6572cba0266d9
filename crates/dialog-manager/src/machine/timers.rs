//! The timers of all calls in one ordered set.

use siprtc_core::CallId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What runs out. A call has at most one of each kind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Timer {
    /// No ACK for our 2xx within 64*T1 (RFC 3261 section 13.3.1.4).
    AckWait,
    /// No final answer within 64*T1 of a CANCEL (RFC 3261 section 9.1).
    CancelGiveUp,
    /// A call that we hung up is told to be over, whatever the peer still owes.
    HangupPatience,
    /// An ended call is forgotten, whatever the stack still owes.
    Linger,
    /// The call rang too long.
    NoAnswer,
    /// The peer's offer waits too long for our user's answer.
    OfferPatience,
    /// A proxy between would run into its timer C: repeat the last 1xx (RFC 3261 section 13.3.1.1).
    ProgressRefresh,
    /// Nobody says what becomes of the call that the peer asked for.
    ReferralAnswer,
    /// The peer does not say how the call goes that we asked for.
    ReferralNews,
    /// Our re-INVITE met the peer's: try again (RFC 3261 section 14.1).
    ReinviteRetry,
    /// Send the reliable 18x again (RFC 3262 section 3).
    ReliableProgress,
    /// Send the 2xx again (RFC 3261 section 13.3.1.4).
    Retransmit,
    /// Nobody refreshed the session (RFC 4028 section 10).
    SessionExpiry,
    /// We are to refresh the session (RFC 4028 section 7.4).
    SessionRefresh,
    /// A subscription is over by the clock.
    SubscriptionEnd,
    /// A subscription is to be renewed.
    SubscriptionRefresh,
}

impl Timer {
    const FIRST: Timer = Timer::AckWait;
    const LAST: Timer = Timer::SubscriptionRefresh;
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Instant, CallId, Timer)>,
    at: BTreeMap<(CallId, Timer), Instant>,
}

impl Timers {
    pub(crate) fn set(&mut self, call: CallId, timer: Timer, at: Instant) {
        self.cancel(call, timer);
        self.due.insert((at, call, timer));
        self.at.insert((call, timer), at);
    }

    pub(crate) fn cancel(&mut self, call: CallId, timer: Timer) {
        if let Some(at) = self.at.remove(&(call, timer)) {
            self.due.remove(&(at, call, timer));
        }
    }

    pub(crate) fn cancel_all(&mut self, call: CallId) {
        let all = (call, Timer::FIRST)..=(call, Timer::LAST);
        while let Some((&(_, timer), _)) = self.at.range(all.clone()).next() {
            self.cancel(call, timer);
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Takes the first timer that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(CallId, Timer)> {
        let &(at, call, timer) = self.due.first().filter(|(at, ..)| *at <= now)?;
        self.due.remove(&(at, call, timer));
        self.at.remove(&(call, timer));
        Some((call, timer))
    }
}

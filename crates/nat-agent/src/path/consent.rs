//! Consent freshness (RFC 7675), which is the keepalive too: once for every agent, for each of them does it otherwise or
//! not at all.

use super::check::{Class, Keys, Message, TransactionId};
use siprtc_core::ice::IceRole;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// RFC 7675 section 5.1: a check every 5 s, each time 0.8 to 1.2 of it.
const INTERVAL: Duration = Duration::from_secs(5);
/// Checks go out at multiples of this: a process wakes up ten times a second for all its paths, and not once for each check.
const BEAT: Duration = Duration::from_millis(100);
/// RFC 7675 section 5.1: without an answer for so long there is no consent.
const EXPIRY: Duration = Duration::from_secs(30);
/// Silence that is told as [`Health::Silent`]: an answer to the second check is late.
const SILENCE: Duration = Duration::from_secs(8);
/// Checks that an answer is awaited to: those of [`EXPIRY`].
const MOST_PENDING: usize = 8;

/// What the checks say of the pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Health {
    Consented,
    Expired,
    Silent,
}

/// The first beat that is not before `at`.
fn on_beat(at: Instant, origin: Instant) -> Instant {
    let since = at.saturating_duration_since(origin).as_micros();
    let late = since % BEAT.as_micros();
    match late {
        0 => at,
        late => at + Duration::from_micros((BEAT.as_micros() - late) as u64),
    }
}

/// Consent on one pair.
pub(super) struct Consent {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    keys: Arc<Keys>,
    tie_breaker: u64,
    /// Where beats are counted from.
    origin: Instant,
    next: Instant,
    answered: Instant,
    pending: Vec<(TransactionId, Instant)>,
    pub(super) round_trip: Option<Duration>,
}

impl Consent {
    /// The check that selected the pair has just been answered.
    pub(super) fn new(
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        keys: Arc<Keys>,
        tie_breaker: u64,
        origin: Instant,
    ) -> Self {
        Consent {
            local,
            remote,
            keys,
            tie_breaker,
            origin,
            // The first one soon: it measures the round trip.
            next: now + Duration::from_millis(500),
            answered: now,
            pending: Vec::new(),
            round_trip: None,
        }
    }

    pub(super) fn due(&self) -> Instant {
        let silent = self.answered + SILENCE;
        let expired = self.answered + EXPIRY;
        // The passing of either limit is to be told once; which is past is told already.
        let limit = if silent > self.next { silent } else { expired };
        self.next.min(limit)
    }

    pub(super) fn health(&self, now: Instant) -> Health {
        match now.saturating_duration_since(self.answered) {
            quiet if quiet >= EXPIRY => Health::Expired,
            quiet if quiet >= SILENCE => Health::Silent,
            _ => Health::Consented,
        }
    }

    /// The check to send, if it is time. `jitter`: 0 to 1.
    pub(super) fn check(&mut self, now: Instant, role: IceRole, jitter: f64) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        // At most 6 s, the wait for the beat included.
        let wait = INTERVAL.mul_f64(0.8 + 0.38 * jitter.clamp(0.0, 1.0));
        self.next = on_beat(now + wait, self.origin);
        let id: TransactionId = rand::random();
        if self.pending.len() == MOST_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((id, now));
        Some(self.keys.request(id, role, self.tie_breaker))
    }

    /// Whether `message` answers one of the checks; an answer that is not signed with the peer's password is none, whoever
    /// sent it, and so is an error.
    pub(super) fn take(&mut self, now: Instant, remote: SocketAddr, message: &Message<'_>) -> bool {
        if !matches!(message.class, Class::Success | Class::Error) {
            return false;
        }
        let Some(at) = self.pending.iter().position(|(id, _)| *id == message.id) else {
            return false;
        };
        if remote == self.remote && message.is_signed(&self.keys.theirs) {
            let (_, sent) = self.pending.remove(at);
            if message.class == Class::Success {
                self.round_trip = Some(now.saturating_duration_since(sent));
                self.answered = now;
            }
        }
        true
    }
}

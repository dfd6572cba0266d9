//! What was found out about a name, for as long as it holds, and which targets failed of late.

use crate::machine::{Failure, Found, Target};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Most names remembered; beyond it the one that is forgotten soonest anyway goes first.
const MAX_NAMES: usize = 256;

/// Shortest time that a choice of targets holds: 64*T1, so that the ACK and the CANCEL of a call go where its INVITE
/// went, whatever the weights and the TTLs (RFC 3263 section 4).
const SHORTEST: Duration = Duration::from_secs(32);

/// Longest, so that a record with a TTL of weeks can still be mended.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long it is remembered that a name leads nowhere.
const NEGATIVE: Duration = Duration::from_secs(30);

/// How long it is remembered that no name server answered: the requests of a burst fail together, not one by one.
const UNANSWERED: Duration = Duration::from_secs(5);

/// Most targets that are remembered as dead; beyond it the one that revives soonest is forgotten.
const MAX_DEAD: usize = 256;

/// How long a target that failed is tried last, unless it said itself how long (Retry-After).
pub(crate) const DEAD_FOR: Duration = Duration::from_secs(60);

/// Longest Retry-After that is believed.
pub(crate) const DEAD_AT_MOST: Duration = Duration::from_secs(600);

/// What a lookup came to, and until when that holds.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) found: Result<Found, Failure>,
    until: Instant,
}

impl Outcome {
    pub(crate) fn new(now: Instant, found: Result<Found, Failure>) -> Self {
        let until = now + lifetime(&found);
        Outcome { found, until }
    }
}

/// One lookup, shared by everybody who wants it.
pub(crate) type Slot = Arc<OnceCell<Outcome>>;

/// Lookups by what was looked up.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    slots: HashMap<K, Slot>,
}

impl<K: Clone + Eq + Hash> Cache<K> {
    pub(crate) fn new() -> Self {
        Cache {
            slots: HashMap::new(),
        }
    }

    /// The lookup of `key`: under way, done and still good, or new.
    pub(crate) fn slot(&mut self, now: Instant, key: &K) -> Slot {
        if let Some(slot) = self.slots.get(key)
            && slot.get().is_none_or(|outcome| outcome.until > now)
        {
            return slot.clone();
        }
        self.slots.remove(key);
        self.make_room(now);
        let slot = Slot::default();
        self.slots.insert(key.clone(), slot.clone());
        slot
    }

    fn make_room(&mut self, now: Instant) {
        if self.slots.len() < MAX_NAMES {
            return;
        }
        self.slots
            .retain(|_, slot| slot.get().is_none_or(|outcome| outcome.until > now));
        if self.slots.len() >= MAX_NAMES {
            // A lookup under way goes last: it would only be begun again. Whoever waits for it still gets it.
            let soonest = self
                .slots
                .iter()
                .min_by_key(|(_, slot)| slot.get().map_or(now + LONGEST, |outcome| outcome.until))
                .map(|(key, _)| key.clone());
            if let Some(key) = soonest {
                self.slots.remove(&key);
            }
        }
    }
}

fn lifetime(found: &Result<Found, Failure>) -> Duration {
    match found {
        Ok(found) => found.ttl.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST),
        Err(why) if why.fault == siprtc_core::Fault::TimedOut || why.fault == siprtc_core::Fault::Backend => {
            UNANSWERED
        }
        Err(_) => NEGATIVE,
    }
}

/// Targets that failed, and until when they are tried last.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    until: HashMap<(siprtc_core::sip::Transport, std::net::SocketAddr), Instant>,
}

impl Dead {
    /// `target` has failed: it is tried last for `time`.
    pub(crate) fn insert(&mut self, now: Instant, target: Target, time: Duration) {
        let key = (target.transport, target.addr);
        if self.until.len() >= MAX_DEAD && !self.until.contains_key(&key) {
            let soonest = self
                .until
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(key, _)| *key);
            if let Some(soonest) = soonest {
                self.until.remove(&soonest);
            }
        }
        self.until.insert(key, now + time);
    }

    /// `target` has answered.
    pub(crate) fn remove(&mut self, target: Target) {
        if !self.until.is_empty() {
            self.until.remove(&(target.transport, target.addr));
        }
    }

    /// Puts those that are dead behind those that are not, each in their order.
    pub(crate) fn put_last(&mut self, now: Instant, targets: &mut [Target]) {
        if self.until.is_empty() {
            return;
        }
        self.until.retain(|_, until| *until > now);
        targets.sort_by_key(|target| self.until.contains_key(&(target.transport, target.addr)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::Fault;
    use siprtc_core::sip::Transport;

    fn target(last: u8) -> Target {
        Target {
            transport: Transport::Udp,
            addr: ([192, 0, 2, last], 5060).into(),
            forced: false,
        }
    }

    fn found(ttl: Option<u64>) -> Result<Found, Failure> {
        Ok(Found {
            targets: vec![target(1)],
            ttl: ttl.map(Duration::from_secs),
        })
    }

    fn fill<K: Clone + Eq + Hash>(
        cache: &mut Cache<K>,
        now: Instant,
        key: K,
        outcome: Result<Found, Failure>,
    ) {
        cache.slot(now, &key).set(Outcome::new(now, outcome)).unwrap();
    }

    #[test]
    fn a_choice_holds_for_its_ttl_and_at_least_64_t1_and_at_most_an_hour() {
        let now = Instant::now();
        let failed = |fault| Err(Failure::new(fault, "", ""));
        for (outcome, seconds) in [
            (found(Some(0)), 32),
            (found(Some(120)), 120),
            (found(Some(1_000_000)), 3600),
            (found(None), 3600),
            (failed(Fault::PeerMisbehaved), 30),
            (failed(Fault::TimedOut), 5),
        ] {
            let mut cache = Cache::new();
            fill(&mut cache, now, 1, outcome);
            let last = now + Duration::from_secs(seconds) - Duration::from_millis(1);
            assert!(cache.slot(last, &1).get().is_some(), "{seconds}");
            let over = now + Duration::from_secs(seconds);
            assert!(cache.slot(over, &1).get().is_none(), "{seconds}");
        }
    }

    #[test]
    fn a_lookup_under_way_is_shared() {
        let mut cache = Cache::new();
        let now = Instant::now();
        let first = cache.slot(now, &"a");
        assert!(Arc::ptr_eq(&first, &cache.slot(now, &"a")));
        assert!(!Arc::ptr_eq(&first, &cache.slot(now, &"b")));
    }

    #[test]
    fn a_flood_of_names_pushes_out_what_holds_shortest() {
        let mut cache = Cache::new();
        let now = Instant::now();
        fill(&mut cache, now, 0, found(Some(60)));
        for key in 1..MAX_NAMES {
            fill(&mut cache, now, key, found(Some(600)));
        }
        fill(&mut cache, now, MAX_NAMES, found(Some(600)));
        assert_eq!(cache.slots.len(), MAX_NAMES);
        assert!(cache.slot(now, &1).get().is_some());
        assert!(cache.slot(now, &0).get().is_none());
    }

    #[test]
    fn a_dead_target_is_tried_last_until_its_time_is_over_or_it_answers() {
        let now = Instant::now();
        let mut dead = Dead::default();
        let order = |dead: &mut Dead, now| {
            let mut targets = [target(1), target(2), target(3)];
            dead.put_last(now, &mut targets);
            targets.map(|target| target.addr.ip().to_string().pop().unwrap())
        };
        dead.insert(now, target(1), DEAD_FOR);
        dead.insert(now, target(2), Duration::from_secs(5));
        assert_eq!(order(&mut dead, now), ['3', '1', '2']);
        assert_eq!(order(&mut dead, now + Duration::from_secs(5)), ['2', '3', '1']);
        dead.remove(target(1));
        assert_eq!(order(&mut dead, now), ['1', '2', '3']);
        for n in 0..2 * MAX_DEAD {
            let addr = ([192, 0, (n / 256) as u8, (n % 256) as u8], 5060).into();
            dead.insert(now, Target { addr, ..target(0) }, DEAD_FOR);
        }
        assert_eq!(dead.until.len(), MAX_DEAD);
    }
}

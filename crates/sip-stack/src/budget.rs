//! How much that is no SIP one address may send (per second), so that a flood from one does not starve the others.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Malformed messages of one address that are answered and told in a second; more are only counted.
pub(crate) const TOLD: u32 = 50;

/// Malformed messages of one address that are read in a second; after them everything from it is dropped unread for the
/// rest of the second. High, because a UDP source can be forged: whoever forges a good peer's must send a flood.
pub(crate) const READ: u32 = 1000;

/// Most addresses that are counted in a second; beyond it a new one's malformed messages are neither answered nor told.
const MAX_COUNTED: usize = 4096;

/// What becomes of a malformed message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Answered, if it can be, and told.
    Tell,
    /// Dropped without a word.
    Drop,
}

#[derive(Default)]
pub(crate) struct Budget {
    /// Somebody has sent too much in this second: only then is every message's source looked up.
    exceeded: AtomicBool,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    second: u64,
    by_source: HashMap<IpAddr, u32>,
}

impl Budget {
    /// Whether a message of `source` is read at all in this `second`.
    pub(crate) fn admits(&self, source: IpAddr, second: u64) -> bool {
        if !self.exceeded.load(Ordering::Relaxed) {
            return true;
        }
        let mut counted = self.counted.lock();
        self.turn(&mut counted, second);
        counted.by_source.get(&source).is_none_or(|count| *count < READ)
    }

    /// A message of `source` was malformed.
    pub(crate) fn charge(&self, source: IpAddr, second: u64) -> Verdict {
        let mut counted = self.counted.lock();
        self.turn(&mut counted, second);
        let full = counted.by_source.len() >= MAX_COUNTED;
        if full && !counted.by_source.contains_key(&source) {
            return Verdict::Drop;
        }
        let count = counted.by_source.entry(source).or_default();
        *count += 1;
        if *count >= READ {
            self.exceeded.store(true, Ordering::Relaxed);
        }
        if *count > TOLD {
            Verdict::Drop
        } else {
            Verdict::Tell
        }
    }

    fn turn(&self, counted: &mut Counted, second: u64) {
        if counted.second != second {
            counted.second = second;
            counted.by_source = HashMap::new();
            self.exceeded.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn one_address_that_floods_is_no_longer_read_and_others_are() {
        let budget = Budget::default();
        let told = (0..READ)
            .filter(|_| budget.charge(ip(1), 7) == Verdict::Tell)
            .count();
        assert_eq!(told, TOLD as usize);
        assert!(!budget.admits(ip(1), 7) && budget.admits(ip(2), 7));
        assert_eq!(budget.charge(ip(2), 7), Verdict::Tell);
        assert!(budget.admits(ip(1), 8), "the next second is another");
        assert_eq!(budget.charge(ip(1), 8), Verdict::Tell);
    }

    #[test]
    fn a_flood_from_many_addresses_takes_a_bounded_room() {
        let budget = Budget::default();
        for number in 0..MAX_COUNTED as u32 {
            assert_eq!(budget.charge(ip(number), 0), Verdict::Tell);
        }
        assert_eq!(budget.charge(ip(u32::MAX), 0), Verdict::Drop);
        assert_eq!(budget.counted.lock().by_source.len(), MAX_COUNTED);
        assert_eq!(budget.charge(ip(u32::MAX), 1), Verdict::Tell);
    }
}

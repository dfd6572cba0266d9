//! Nonces that cost no state: the time they were made, signed together with whom they were made for.

use crate::machine::Flow;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Characters of the time.
const TIME: usize = 8;
/// Octets of the signature that are shown: a guess is right once in 2^80.
const SIGNATURE: usize = 10;

/// Makes and knows again its nonces. Workers of one server share its key, so that each knows the others'.
#[derive(Clone)]
pub(crate) struct Nonces {
    mac: Hmac<Sha1>,
    epoch: Instant,
    life: Duration,
}

impl Nonces {
    pub(crate) fn new(key: &[u8; 32], epoch: Instant, life: Duration) -> Self {
        Nonces {
            mac: Hmac::new_from_slice(key).expect("BUG: HMAC takes a key of any length"),
            epoch,
            life,
        }
    }

    pub(crate) fn make(&self, now: Instant, flow: &Flow) -> String {
        self.sign(now.saturating_duration_since(self.epoch).as_secs(), flow)
    }

    pub(crate) fn is_good(&self, now: Instant, flow: &Flow, nonce: &str) -> bool {
        let Some(since) = nonce
            .get(..TIME)
            .and_then(|text| u64::from_str_radix(text, 16).ok())
        else {
            return false;
        };
        let age = now
            .saturating_duration_since(self.epoch)
            .as_secs()
            .checked_sub(since);
        age.is_some_and(|age| age < self.life.as_secs()) && self.sign(since, flow) == nonce
    }

    fn sign(&self, since: u64, flow: &Flow) -> String {
        let mut mac = self.mac.clone();
        mac.update(&since.to_be_bytes());
        mac.update(&flow.socket.to_be_bytes());
        mac.update(&flow.client.port().to_be_bytes());
        match flow.client.ip() {
            IpAddr::V4(ip) => mac.update(&ip.octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        let mut text = format!("{since:0width$x}", width = TIME);
        for octet in &mac.finalize().into_bytes()[..SIGNATURE] {
            text.extend(
                [octet >> 4, octet & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
            );
        }
        text
    }
}

/// How many source addresses are told apart; more of them share a count.
const COUNTS: usize = 4096;

/// Counts the requests without valid credentials of each source address in one second, in a table that does not grow.
pub(crate) struct Flood {
    most: u32,
    second: u64,
    counts: Box<[u32; COUNTS]>,
    hasher: RandomState,
}

impl Flood {
    pub(crate) fn new(most: u32) -> Self {
        Flood {
            most,
            second: 0,
            counts: Box::new([0; COUNTS]),
            hasher: RandomState::new(),
        }
    }

    /// Whether one more answer may go to `source` in the second `second`.
    pub(crate) fn admits(&mut self, second: u64, source: IpAddr) -> bool {
        if self.most == 0 {
            return true;
        }
        if second != self.second {
            self.second = second;
            self.counts.fill(0);
        }
        // The remainder is below COUNTS.
        let count = &mut self.counts[self.hasher.hash_one(source) as usize % COUNTS];
        *count = count.saturating_add(1);
        *count <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_client_until_it_is_old() {
        let start = crate::testing::start();
        let nonces = Nonces::new(&[7; 32], start, Duration::from_secs(60));
        let flow = |port| Flow {
            socket: 0,
            client: ([192, 0, 2, 1], port).into(),
        };
        let made = start + Duration::from_secs(100);
        let nonce = nonces.make(made, &flow(1));
        assert!(nonces.is_good(made + Duration::from_secs(59), &flow(1), &nonce));
        assert!(!nonces.is_good(made + Duration::from_secs(61), &flow(1), &nonce));
        assert!(!nonces.is_good(made, &flow(2), &nonce));
        assert!(!nonces.is_good(start, &flow(1), &nonce), "made in the future");
        for forged in [
            "",
            "00000064",
            "zzzzzzzz",
            &nonce.replace(&nonce[20..], "00000000"),
            "€€€€€€€€€",
        ] {
            assert!(!nonces.is_good(made, &flow(1), forged), "{forged}");
        }
        assert!(!Nonces::new(&[8; 32], start, Duration::from_secs(60)).is_good(made, &flow(1), &nonce));
    }

    #[test]
    fn a_source_gets_no_more_answers_in_a_second_than_it_may_and_others_get_theirs() {
        let mut flood = Flood::new(2);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 200]));
        assert_eq!([1, 2, 3].map(|_| flood.admits(5, one)), [true, true, false]);
        // Two sources share a count once in COUNTS runs; a third address makes that no failure.
        assert!(flood.admits(5, other) || flood.admits(5, IpAddr::from([192, 0, 2, 77])));
        assert!(flood.admits(6, one));
        assert!((0..9).all(|_| Flood::new(0).admits(1, one)));
    }
}

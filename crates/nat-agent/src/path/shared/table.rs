//! Decides whose a datagram is, of many paths over one socket. No sockets, no clock.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Paths over one socket; one more is refused.
pub(super) const MOST_SEATS: usize = 4_096;
/// Addresses that a path has verified; one more is not heard. As many as a path knows.
const MOST_CLAIMS: usize = 64;
/// Requests of a path whose answers are awaited; the oldest is forgotten for one more. A check to each of 32 candidates,
/// a question to each of 16 servers, and consent.
const MOST_ASKED: usize = 128;
/// An address whose holder has heard nothing from it for so long may be had by another path: two consent checks, the peer's
/// and ours, are due in that time.
const QUIET: Duration = Duration::from_secs(8);
/// RFC 8489 section 5.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

type TransactionId = [u8; 12];

/// What came of the datagrams that no path got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Refused {
    /// From nobody that a path knows, for nobody that is here.
    pub(super) strangers: u64,
    /// A check or an answer from an address that another path is speaking with.
    pub(super) taken: u64,
}

#[derive(Default)]
struct Seat {
    fragments: Vec<String>,
    claims: Vec<SocketAddr>,
    asked: VecDeque<TransactionId>,
}

struct Claim {
    holder: u64,
    heard: Instant,
}

/// Who sits at a socket, and what each is known by.
#[derive(Default)]
pub(super) struct Table {
    seats: HashMap<u64, Seat>,
    /// RFC 8445 section 7.2.2: a check names the user fragment of whom it is for.
    fragments: HashMap<Vec<u8>, u64>,
    /// Who speaks with this address. Of one path only: RTP and DTLS have nothing else to tell two by.
    claims: HashMap<SocketAddr, Claim>,
    /// Who asked this.
    asked: HashMap<TransactionId, u64>,
    last: u64,
    /// The socket is one call's, whose paths are forks: the last of them has it for itself.
    is_of_one_call: bool,
    pub(super) refused: Refused,
}

impl Table {
    pub(super) fn of_one_call() -> Self {
        Table {
            is_of_one_call: true,
            ..Table::default()
        }
    }

    /// `None`: it is full.
    pub(super) fn sit(&mut self) -> Option<u64> {
        if self.seats.len() == MOST_SEATS {
            return None;
        }
        self.last += 1;
        self.seats.insert(self.last, Seat::default());
        Some(self.last)
    }

    /// Forgets all that led to `seat`.
    pub(super) fn leave(&mut self, seat: u64) {
        let Some(left) = self.seats.remove(&seat) else {
            return;
        };
        for fragment in left.fragments {
            self.fragments.remove(fragment.as_bytes());
        }
        for addr in left.claims {
            self.claims.remove(&addr);
        }
        for id in left.asked {
            self.asked.remove(&id);
        }
    }

    /// The user fragments that `seat` goes by from now on: its own, or, where forks share it, with the peer's behind a colon. One
    /// that another has keeps its holder: both would be guessed at.
    pub(super) fn name(&mut self, seat: u64, fragments: &[String]) {
        let Some(named) = self.seats.get_mut(&seat) else {
            return;
        };
        for gone in named.fragments.drain(..) {
            self.fragments.remove(gone.as_bytes());
        }
        for fragment in fragments {
            if let Entry::Vacant(free) = self.fragments.entry(fragment.as_bytes().to_vec()) {
                free.insert(seat);
                named.fragments.push(fragment.clone());
            }
        }
    }

    /// `data` is sent by `seat`: if it is a request, its answer is for `seat`.
    pub(super) fn ask(&mut self, seat: u64, data: &[u8]) {
        let Some(Kind::Request(id)) = kind(data) else {
            return;
        };
        let Some(asking) = self.seats.get_mut(&seat) else {
            return;
        };
        if self.asked.insert(id, seat).is_some() {
            return;
        }
        if asking.asked.len() == MOST_ASKED
            && let Some(oldest) = asking.asked.pop_front()
        {
            self.asked.remove(&oldest);
        }
        asking.asked.push_back(id);
    }

    /// A check between `seat` and `addr` has been verified: what comes from there is for `seat`.
    pub(super) fn claim(&mut self, now: Instant, seat: u64, addr: SocketAddr) {
        if self.is_held(now, seat, addr) {
            return;
        }
        let Some(claiming) = self.seats.get_mut(&seat) else {
            return;
        };
        if !claiming.claims.contains(&addr) {
            if claiming.claims.len() == MOST_CLAIMS {
                return;
            }
            claiming.claims.push(addr);
        }
        let claim = Claim {
            holder: seat,
            heard: now,
        };
        let before = self.claims.insert(addr, claim).map(|claim| claim.holder);
        if let Some(loser) = before.filter(|before| *before != seat)
            && let Some(loser) = self.seats.get_mut(&loser)
        {
            loser.claims.retain(|claim| *claim != addr);
        }
    }

    /// What comes from `addr` is not for `seat` after all.
    pub(super) fn release(&mut self, seat: u64, addr: SocketAddr) {
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.claims.retain(|claim| *claim != addr);
        }
        if self.claims.get(&addr).is_some_and(|claim| claim.holder == seat) {
            self.claims.remove(&addr);
        }
    }

    /// Whether another path speaks with `addr`.
    fn is_held(&self, now: Instant, seat: u64, addr: SocketAddr) -> bool {
        (self.claims.get(&addr))
            .is_some_and(|claim| claim.holder != seat && now.saturating_duration_since(claim.heard) < QUIET)
    }

    /// Whose a datagram is; `None`: nobody's, which is counted.
    pub(super) fn whose(&mut self, now: Instant, from: SocketAddr, data: &[u8]) -> Option<u64> {
        if let Some(alone) = self.alone() {
            return Some(alone);
        }
        let seat = match kind(data) {
            Some(Kind::Request(_)) => username(data).and_then(|name| self.named(name)),
            Some(Kind::Answer(id)) => self.asked.get(&id),
            Some(Kind::Indication) | None => self.claims.get(&from).map(|claim| &claim.holder),
        };
        let Some(seat) = seat.copied() else {
            self.refused.strangers += 1;
            return None;
        };
        if self.is_held(now, seat, from) {
            self.refused.taken += 1;
            return None;
        }
        if let Some(claim) = self.claims.get_mut(&from).filter(|claim| claim.holder == seat) {
            claim.heard = now;
        }
        Some(seat)
    }

    /// Whom a check with this USERNAME is for.
    fn named(&self, name: &[u8]) -> Option<&u64> {
        let own = name.split(|octet| *octet == b':').next().unwrap_or_default();
        self.fragments.get(name).or_else(|| self.fragments.get(own))
    }

    /// The only one at a call's own socket: there is nobody to tell it from.
    fn alone(&self) -> Option<u64> {
        let mut seats = self.seats.keys();
        let only = seats.next().filter(|_| self.is_of_one_call);
        only.copied().filter(|_| seats.next().is_none())
    }

    /// Entries of each kind: paths, user fragments, addresses, requests.
    pub(super) fn entries(&self) -> [usize; 4] {
        [
            self.seats.len(),
            self.fragments.len(),
            self.claims.len(),
            self.asked.len(),
        ]
    }
}

enum Kind {
    Answer(TransactionId),
    Indication,
    Request(TransactionId),
}

/// What `data` is, if it is STUN (RFC 8489 section 5, RFC 7983).
fn kind(data: &[u8]) -> Option<Kind> {
    let head: &[u8; 20] = data.first_chunk()?;
    let [first, second, ..] = *head;
    if first > 3 || head[4..8] != COOKIE {
        return None;
    }
    let id = *head.last_chunk::<12>()?;
    Some(match (first & 1, second & 0x10) {
        (0, 0) => Kind::Request(id),
        (0, _) => Kind::Indication,
        _ => Kind::Answer(id),
    })
}

/// The value of a STUN message's USERNAME (RFC 8489 section 14.3), without reading the rest.
pub(in crate::path) fn username(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data.get(20..)?;
    loop {
        let (head, after) = rest.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[..2] == [0, 6] {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests;

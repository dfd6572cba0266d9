//! What a server counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Packets, and the octets of application data in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Octets of application data.
    pub octets: u64,
}

/// Why something was dropped without an answer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Dropped {
    /// A socket's or connection's buffer was full, or the system refused to send.
    Congested,
    /// More requests without valid credentials from one address than are answered.
    Flooding,
    /// Neither STUN nor ChannelData, or a message that breaks its rules.
    Malformed,
    /// ChannelData or a Send indication of a client without an allocation.
    NoAllocation,
    /// ChannelData of a channel that is not bound.
    NoChannel,
    /// From or to a peer for which there is no permission.
    NoPermission,
    /// A datagram too long to be relayed.
    Oversized,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Dropped; 7] = [
        Dropped::Congested,
        Dropped::Flooding,
        Dropped::Malformed,
        Dropped::NoAllocation,
        Dropped::NoChannel,
        Dropped::NoPermission,
        Dropped::Oversized,
    ];

    /// The word used in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::Congested => "congested",
            Dropped::Flooding => "flooding",
            Dropped::Malformed => "malformed",
            Dropped::NoAllocation => "no_allocation",
            Dropped::NoChannel => "no_channel",
            Dropped::NoPermission => "no_permission",
            Dropped::Oversized => "oversized",
        }
    }
}

/// The error codes that the server sends (RFC 8489 section 14.8, RFC 8656 section 19).
pub(crate) const CODES: [u16; 12] = [400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 508];

/// What a server has done since it started.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metrics {
    /// Allocations that live.
    pub allocations: u64,
    /// Allocations made.
    pub allocated: u64,
    /// TCP and TLS connections that are open.
    pub connections: u64,
    /// Error responses by code; the first request of every client is answered 401.
    pub refused: BTreeMap<u16, u64>,
    /// Relayed from clients to peers.
    pub to_peers: Traffic,
    /// Relayed from peers to clients.
    pub to_clients: Traffic,
    /// What was dropped, by reason; what never was is not in it.
    pub dropped: BTreeMap<Dropped, u64>,
}

/// Reads a running server's figures; cheap to clone.
#[derive(Clone)]
pub struct Meter {
    pub(crate) workers: Arc<[Arc<Counters>]>,
}

impl Meter {
    /// The figures of this moment.
    pub fn snapshot(&self) -> Metrics {
        let mut all = Metrics::default();
        for worker in self.workers.iter() {
            worker.add_to(&mut all);
        }
        all
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The counters of one worker. Only its thread writes, so that no instruction needs to lock the bus.
#[derive(Default)]
pub(crate) struct Counters {
    live: AtomicU64,
    made: AtomicU64,
    connections: AtomicU64,
    refused: [AtomicU64; CODES.len()],
    to_peers: [AtomicU64; 2],
    to_clients: [AtomicU64; 2],
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Counters {
    pub(crate) fn allocated(&self) {
        add(&self.live, 1);
        add(&self.made, 1);
    }

    pub(crate) fn freed(&self) {
        self.live
            .store(self.live.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub(crate) fn connections(&self, open: usize) {
        self.connections.store(open as u64, Relaxed);
    }

    pub(crate) fn refused(&self, code: u16) {
        if let Some(index) = CODES.iter().position(|known| *known == code) {
            add(&self.refused[index], 1);
        }
    }

    pub(crate) fn to_peer(&self, octets: usize) {
        add(&self.to_peers[0], 1);
        add(&self.to_peers[1], octets as u64);
    }

    pub(crate) fn to_client(&self, octets: usize) {
        add(&self.to_clients[0], 1);
        add(&self.to_clients[1], octets as u64);
    }

    pub(crate) fn dropped(&self, why: Dropped) {
        // The reasons are numbered in the order of ALL.
        add(&self.dropped[why as usize], 1);
    }

    fn add_to(&self, all: &mut Metrics) {
        all.allocations += self.live.load(Relaxed);
        all.allocated += self.made.load(Relaxed);
        all.connections += self.connections.load(Relaxed);
        for (sum, [packets, octets]) in [
            (&mut all.to_peers, &self.to_peers),
            (&mut all.to_clients, &self.to_clients),
        ] {
            sum.packets += packets.load(Relaxed);
            sum.octets += octets.load(Relaxed);
        }
        for (code, count) in CODES.iter().zip(&self.refused) {
            let count = count.load(Relaxed);
            if count > 0 {
                *all.refused.entry(*code).or_default() += count;
            }
        }
        for (why, count) in Dropped::ALL.iter().zip(&self.dropped) {
            let count = count.load(Relaxed);
            if count > 0 {
                *all.dropped.entry(*why).or_default() += count;
            }
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_the_sum_of_the_workers() {
        let workers: Arc<[Arc<Counters>]> = (0..2).map(|_| Arc::default()).collect();
        for (index, worker) in workers.iter().enumerate() {
            worker.allocated();
            worker.to_peer(100);
            worker.to_client(7);
            worker.refused(486);
            worker.connections(index + 1);
            worker.dropped(Dropped::NoPermission);
        }
        workers[0].freed();
        let sum = Meter { workers }.snapshot();
        assert_eq!((sum.allocations, sum.allocated, sum.connections), (1, 2, 3));
        assert_eq!(
            sum.to_peers,
            Traffic {
                packets: 2,
                octets: 200
            }
        );
        assert_eq!(sum.to_clients.octets, 14);
        assert_eq!(sum.refused, BTreeMap::from([(486, 2)]));
        assert_eq!(sum.dropped, BTreeMap::from([(Dropped::NoPermission, 2)]));
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own_and_a_word() {
        for (index, why) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            assert!(!why.as_str().is_empty());
        }
    }
}

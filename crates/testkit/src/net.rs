//! A network in virtual time: hosts, NATs by RFC 4787, and links that lose, delay, duplicate and drop what is too long.
//! The same seed gives the same run.
//!
//! Addresses are handed out by the network: 203.0.113.0/24 and what follows in the internet, 10.realm.0.0/16 behind each
//! NAT. A packet crosses one hop at a time, so that two that cross each other find the NATs as they were.

mod nat;

pub use nat::{Behaviour, NatKind};

use nat::Nat;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What a host's own link does to what it sends and receives.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// At most so much more, evenly; more than the time between two packets reorders them.
    pub jitter: Duration,
    /// Of a hundred packets.
    pub lost: u32,
    /// Of a hundred packets.
    pub twice: u32,
    /// Longer packets, in octets of UDP payload, are dropped in silence.
    pub mtu: usize,
    /// UDP does not pass at all.
    pub blackhole: bool,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            lost: 0,
            twice: 0,
            mtu: 1472,
            blackhole: false,
        }
    }
}

/// A host of a [`Net`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HostId(usize);

/// Where hosts are: the internet, or behind a NAT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Realm(usize);

impl Realm {
    /// Where nothing is translated.
    pub const INTERNET: Realm = Realm(0);
}

/// A UDP datagram.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// As its receiver sees it.
    pub from: SocketAddr,
    /// As it arrives.
    pub to: SocketAddr,
    /// The payload.
    pub data: Vec<u8>,
}

struct Host {
    ip: Ipv4Addr,
    realm: Realm,
    link: Link,
    inbox: VecDeque<Packet>,
}

/// A packet within a realm.
struct Hop {
    at: Instant,
    order: u64,
    realm: Realm,
    packet: Packet,
    /// It has passed its receiver's link.
    arrived: Option<HostId>,
}

impl PartialEq for Hop {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Hop {}
impl PartialOrd for Hop {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Hop {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The network. See the module.
pub struct Net {
    now: Instant,
    random: StdRng,
    hosts: Vec<Host>,
    /// That of realm 1 first.
    nats: Vec<Nat>,
    hops: BinaryHeap<Reverse<Hop>>,
    order: u64,
    sent: u64,
}

impl Net {
    /// An empty one, at `now`.
    pub fn new(now: Instant, seed: u64) -> Self {
        Net {
            now,
            random: StdRng::seed_from_u64(seed),
            hosts: Vec::new(),
            nats: Vec::new(),
            hops: BinaryHeap::new(),
            order: 0,
            sent: 0,
        }
    }

    /// Its time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Packets that hosts have sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// A NAT whose outside is in `outside`; what is behind it.
    pub fn nat(&mut self, kind: NatKind, outside: Realm) -> Realm {
        let ip = self.address(outside);
        self.nats.push(Nat::new(kind, outside, ip));
        Realm(self.nats.len())
    }

    /// A host in `realm`.
    pub fn host(&mut self, realm: Realm, link: Link) -> HostId {
        let ip = self.address(realm);
        self.hosts.push(Host {
            ip,
            realm,
            link,
            inbox: VecDeque::new(),
        });
        HostId(self.hosts.len() - 1)
    }

    /// A host's own address.
    pub fn ip(&self, host: HostId) -> IpAddr {
        self.hosts[host.0].ip.into()
    }

    /// Sends from a host's own address; `from` must be one.
    pub fn send(&mut self, host: HostId, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        self.sent += 1;
        let Host { realm, link, ip, .. } = self.hosts[host.0];
        assert_eq!(from.ip(), IpAddr::from(ip), "a host sends from its own address");
        for _ in 0..self.copies(&link, data.len()) {
            let packet = Packet {
                from,
                to,
                data: data.clone(),
            };
            self.hop(&link, realm, packet, None);
        }
    }

    /// What has arrived at a host since.
    pub fn receive(&mut self, host: HostId) -> Option<Packet> {
        self.hosts[host.0].inbox.pop_front()
    }

    /// When something will next happen by itself.
    pub fn next(&self) -> Option<Instant> {
        self.hops.peek().map(|Reverse(hop)| hop.at)
    }

    /// Lets time pass up to `until`.
    pub fn advance(&mut self, until: Instant) {
        while self.next().is_some_and(|at| at <= until) {
            let Some(Reverse(hop)) = self.hops.pop() else {
                break;
            };
            self.now = self.now.max(hop.at);
            match hop.arrived {
                Some(HostId(host)) => self.hosts[host].inbox.push_back(hop.packet),
                None => self.route(hop.realm, hop.packet),
            }
        }
        self.now = self.now.max(until);
    }

    fn address(&self, realm: Realm) -> Ipv4Addr {
        let here = self.hosts.iter().filter(|host| host.realm == realm).count()
            + self.nats.iter().filter(|nat| nat.outside == realm).count();
        let number = u8::try_from(here + 1).expect("BUG: a realm has 254 addresses");
        match realm {
            Realm::INTERNET => Ipv4Addr::new(203, 0, 113, number),
            Realm(realm) => Ipv4Addr::new(10, u8::try_from(realm).expect("BUG: too many NATs"), 0, number),
        }
    }

    fn copies(&mut self, link: &Link, length: usize) -> usize {
        let chance = |random: &mut StdRng, percent: u32| random.random_range(0..100) < percent;
        match () {
            () if link.blackhole || length > link.mtu || chance(&mut self.random, link.lost) => 0,
            () if chance(&mut self.random, link.twice) => 2,
            () => 1,
        }
    }

    fn hop(&mut self, link: &Link, realm: Realm, packet: Packet, arrived: Option<HostId>) {
        let jitter = link.jitter.mul_f64(self.random.random());
        self.order += 1;
        self.hops.push(Reverse(Hop {
            at: self.now + link.delay + jitter,
            order: self.order,
            realm,
            packet,
            arrived,
        }));
    }

    /// The packet is in `realm` now: to a host there, into a NAT's outside, or out by the realm's own NAT.
    fn route(&mut self, realm: Realm, packet: Packet) {
        let target = |ip: Ipv4Addr| packet.to.ip() == IpAddr::from(ip);
        let found = self
            .hosts
            .iter()
            .position(|host| host.realm == realm && target(host.ip));
        if let Some(host) = found {
            let link = self.hosts[host].link;
            for _ in 0..self.copies(&link, packet.data.len()) {
                self.hop(&link, realm, packet.clone(), Some(HostId(host)));
            }
            return;
        }
        let inward = self
            .nats
            .iter()
            .position(|nat| nat.outside == realm && target(nat.ip));
        if let Some(number) = inward {
            if let Some(packet) = self.nats[number].inward(packet) {
                self.hop(&Link::default(), Realm(number + 1), packet, None);
            }
            return;
        }
        let Some(nat) = realm.0.checked_sub(1).map(|number| &mut self.nats[number]) else {
            return;
        };
        let hairpin = target(nat.ip);
        let outside = nat.outside;
        let Some(packet) = nat.outward(packet) else { return };
        if !hairpin {
            self.hop(&Link::default(), outside, packet, None);
        } else if nat.kind.hairpinning
            && let Some(packet) = nat.inward(packet)
        {
            self.hop(&Link::default(), realm, packet, None);
        }
    }
}

#[cfg(test)]
mod tests;

//! What the server decides (RFC 8489, RFC 8656), without I/O and without a clock.
//!
//! Give it what arrives: [`Machine::client`], [`Machine::peer`], [`Machine::opened`], [`Machine::closed`], and
//! [`Machine::expire`] when [`Machine::next`] has come. **After each of these, [`Machine::poll`] until it is `None`.**
//! A packet that is to be relayed is the answer of the call itself and is never copied.

mod requests;
#[cfg(test)]
mod tests;

use crate::allocation::Allocation;
use crate::credentials::Credentials;
use crate::ledger::Ledger;
use crate::meter::{Counters, Dropped};
use crate::nonce::{Flood, Nonces};
use crate::peers::PeerPolicy;
use crate::wire::{self, CHANNEL_HEADER, Family, HEADROOM, Kind, Response, Stun};
use slab::Slab;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use turn_types::attribute::{AddressErrorCode, Lifetime, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};
use turn_types::stun::attribute::ErrorCode;
use turn_types::stun::message::{BINDING, MessageClass};

/// RFC 8656 section 3.2: ten minutes.
pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// Two times: one that only grows, and the seconds since 1970, in which time-limited credentials are given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) unix: u64,
}

/// A client: its 5-tuple, told by our socket's or connection's number and its address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Flow {
    pub(crate) socket: u64,
    pub(crate) client: SocketAddr,
}

impl Flow {
    /// Numbers from here on are connections.
    pub(crate) const CONNECTIONS: u64 = 1 << 32;

    fn is_connection(&self) -> bool {
        self.socket >= Flow::CONNECTIONS
    }
}

/// What to do with a message of a client.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing but [`Machine::poll`].
    Done,
    /// Send this part of the message from this relayed port.
    Relay {
        relay: usize,
        peer: SocketAddr,
        payload: Range<usize>,
    },
}

/// What to do beside.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Output {
    /// Close a relayed port.
    Close { relay: usize },
    /// Open a relayed port, and say [`Machine::opened`].
    Open {
        relay: usize,
        family: Family,
        even: bool,
    },
    /// Send this to a client.
    Reply { flow: Flow, message: Vec<u8> },
}

/// What all workers of a server have in common.
pub(crate) struct Rules {
    pub(crate) realm: String,
    pub(crate) credentials: Credentials,
    pub(crate) peers: PeerPolicy,
    pub(crate) families: Vec<Family>,
    /// Most permissions and most channels of an allocation.
    pub(crate) permissions: usize,
    pub(crate) challenges_per_s: u32,
    /// Longest lifetime that is granted.
    pub(crate) lifetime: Duration,
    pub(crate) epoch: Instant,
    pub(crate) nonces: Nonces,
    pub(crate) ledger: Ledger,
}

/// One worker's clients.
pub(crate) struct Machine {
    rules: Arc<Rules>,
    counters: Arc<Counters>,
    allocations: Slab<Allocation>,
    flows: HashMap<Flow, usize>,
    /// When each allocation expires.
    ends: BTreeSet<(Instant, usize)>,
    outputs: VecDeque<Output>,
    flood: Flood,
    /// Of the last Data indication, which nobody answers.
    transaction: u64,
}

impl Machine {
    pub(crate) fn new(rules: Arc<Rules>, counters: Arc<Counters>) -> Self {
        Machine {
            flood: Flood::new(rules.challenges_per_s),
            rules,
            counters,
            allocations: Slab::new(),
            flows: HashMap::new(),
            ends: BTreeSet::new(),
            outputs: VecDeque::new(),
            transaction: rand::random(),
        }
    }

    /// A whole message of a client: a datagram, or a frame of a connection.
    pub(crate) fn client(&mut self, now: Now, flow: Flow, message: &[u8]) -> Verdict {
        let relayed = match Kind::of(message) {
            Some(Kind::Channel(number, length)) => self.channel_data(now, &flow, message, number, length),
            Some(Kind::Stun(length)) => match message.get(..length).and_then(Stun::read) {
                Some(stun) => self.stun(now, flow, stun),
                None => Err(Dropped::Malformed),
            },
            None => Err(Dropped::Malformed),
        };
        relayed.unwrap_or_else(|why| {
            self.counters.dropped(why);
            Verdict::Done
        })
    }

    /// A datagram of a peer at a relayed port, `length` octets at [`HEADROOM`] of `buffer`: to whom it goes, and which
    /// part of the buffer.
    pub(crate) fn peer(
        &mut self,
        now: Now,
        relay: usize,
        peer: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<(Flow, Range<usize>)> {
        let wrapped = self.wrap(now, relay, peer, buffer, length);
        match wrapped {
            Ok(wrapped) => {
                self.counters.to_client(length);
                Some(wrapped)
            }
            Err(why) => {
                self.counters.dropped(why);
                None
            }
        }
    }

    fn wrap(
        &mut self,
        now: Now,
        relay: usize,
        peer: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<(Flow, Range<usize>), Dropped> {
        let allocation = self.allocations.get(relay).ok_or(Dropped::NoAllocation)?;
        let (flow, now) = (allocation.flow, now.instant);
        if now >= allocation.expires {
            return Err(Dropped::NoAllocation);
        }
        if !allocation.permits(now, peer.ip()) {
            return Err(Dropped::NoPermission);
        }
        let range = match allocation.channel_of(now, peer) {
            Some(number) => wire::wrap_channel(buffer, length, number, flow.is_connection()),
            None => {
                self.transaction = self.transaction.wrapping_add(1);
                let mut transaction = [0; 12];
                transaction[..8].copy_from_slice(&self.transaction.to_be_bytes());
                wire::wrap_data(buffer, length, peer, transaction)
            }
        };
        Ok((flow, range.ok_or(Dropped::Oversized)?))
    }

    /// A relayed port is open, at the address that the client is to be told; or it could not be opened.
    pub(crate) fn opened(&mut self, relay: usize, relayed: Option<SocketAddr>) {
        let Some(allocation) = self.allocations.get_mut(relay) else {
            return;
        };
        allocation.relayed = relayed;
        if relayed.is_some() {
            self.counters.allocated();
            let message = granted(allocation);
            self.reply(relay_flow(&self.allocations, relay), message);
            return;
        }
        let (flow, transaction, key) = (allocation.flow, allocation.transaction, allocation.key.clone());
        self.forget(relay);
        self.counters.refused(ErrorCode::INSUFFICIENT_CAPACITY);
        let response = Response::error_to(ALLOCATE, transaction, ErrorCode::INSUFFICIENT_CAPACITY);
        self.reply(Some(flow), response.signed(&key));
    }

    /// A client's connection is gone, and with it its allocation (RFC 8656 section 3.1).
    pub(crate) fn closed(&mut self, flow: &Flow) {
        if let Some(relay) = self.flows.get(flow) {
            self.free(*relay);
        }
    }

    /// Whether this client holds an allocation.
    pub(crate) fn holds(&self, flow: &Flow) -> bool {
        self.flows.contains_key(flow)
    }

    /// When to [`Machine::expire`].
    pub(crate) fn next(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((end, relay)) = self.ends.first().copied() {
            if now < end {
                return;
            }
            self.free(relay);
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Lets an open allocation go.
    fn free(&mut self, relay: usize) {
        if self.forget(relay) {
            self.counters.freed();
            self.outputs.push_back(Output::Close { relay });
        }
    }

    /// Whether its port was open.
    fn forget(&mut self, relay: usize) -> bool {
        let Some(allocation) = self.allocations.try_remove(relay) else {
            return false;
        };
        self.flows.remove(&allocation.flow);
        self.ends.remove(&(allocation.expires, relay));
        self.rules.ledger.release(&allocation.user);
        allocation.relayed.is_some()
    }

    fn reply(&mut self, flow: Option<Flow>, message: Vec<u8>) {
        if let Some(flow) = flow {
            self.outputs.push_back(Output::Reply { flow, message });
        }
    }

    fn allocation(&self, flow: &Flow) -> Option<(usize, &Allocation)> {
        let relay = *self.flows.get(flow)?;
        Some((relay, self.allocations.get(relay)?))
    }

    /// RFC 8656 section 12.6.
    fn channel_data(
        &mut self,
        now: Now,
        flow: &Flow,
        message: &[u8],
        number: u16,
        length: usize,
    ) -> Result<Verdict, Dropped> {
        let payload = CHANNEL_HEADER..CHANNEL_HEADER + length;
        if message.len() < payload.end {
            return Err(Dropped::Malformed);
        }
        let (relay, allocation) = self.allocation(flow).ok_or(Dropped::NoAllocation)?;
        if now.instant >= allocation.expires {
            return Err(Dropped::NoAllocation);
        }
        let peer = allocation
            .peer_of(now.instant, number)
            .ok_or(Dropped::NoChannel)?;
        let peer = peer.ok_or(Dropped::NoPermission)?;
        self.counters.to_peer(length);
        Ok(Verdict::Relay { relay, peer, payload })
    }

    fn stun(&mut self, now: Now, flow: Flow, stun: Stun<'_>) -> Result<Verdict, Dropped> {
        match (stun.message.class(), stun.message.method()) {
            (MessageClass::Indication, SEND) => return self.send(now, &flow, &stun),
            (MessageClass::Request, BINDING) => self.binding(flow, &stun),
            (MessageClass::Request, ALLOCATE | CHANNEL_BIND | CREATE_PERMISSION | REFRESH) => {
                self.request(now, flow, &stun)?;
            }
            // A Binding indication keeps a NAT's mapping; RFC 8489 section 6.3: what is unknown is discarded.
            (MessageClass::Indication, BINDING) => {}
            _ => return Err(Dropped::Malformed),
        }
        Ok(Verdict::Done)
    }

    /// RFC 8656 section 11.2.
    fn send(&mut self, now: Now, flow: &Flow, stun: &Stun<'_>) -> Result<Verdict, Dropped> {
        let (Some(peer), Some(payload)) = (stun.peer, stun.data.clone()) else {
            return Err(Dropped::Malformed);
        };
        if !stun.unknown.is_empty() || stun.broken {
            return Err(Dropped::Malformed);
        }
        let (relay, allocation) = self.allocation(flow).ok_or(Dropped::NoAllocation)?;
        if now.instant >= allocation.expires {
            return Err(Dropped::NoAllocation);
        }
        if !allocation.permits(now.instant, peer.ip()) {
            return Err(Dropped::NoPermission);
        }
        self.counters.to_peer(payload.len());
        Ok(Verdict::Relay { relay, peer, payload })
    }

    fn binding(&mut self, flow: Flow, stun: &Stun<'_>) {
        let message = &stun.message;
        let response = match stun.unknown.is_empty() {
            true => {
                Response::success(BINDING, message.transaction_id()).mapped(&flow, message.transaction_id())
            }
            false => {
                self.counters.refused(ErrorCode::UNKNOWN_ATTRIBUTE);
                Response::error(message, ErrorCode::UNKNOWN_ATTRIBUTE).unknown(&stun.unknown)
            }
        };
        let message = match stun.has_fingerprint {
            true => response.fingerprinted(),
            false => response.unsigned(),
        };
        self.reply(Some(flow), message);
    }
}

/// Octets that a datagram of a peer may have.
pub(crate) const MOST_PAYLOAD: usize = 65_507;
/// What a buffer for one needs.
pub(crate) const BUFFER: usize = HEADROOM + MOST_PAYLOAD + wire::TAILROOM;

fn relay_flow(allocations: &Slab<Allocation>, relay: usize) -> Option<Flow> {
    allocations.get(relay).map(|allocation| allocation.flow)
}

/// The success response to the Allocate request.
fn granted(allocation: &Allocation) -> Vec<u8> {
    let transaction = allocation.transaction;
    let mut response = Response::success(ALLOCATE, transaction);
    if let Some(relayed) = allocation.relayed {
        response = response.with(&XorRelayedAddress::new(relayed, transaction));
    }
    if allocation.additional_refused
        && let Ok(code) = ErrorCode::builder(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED).build()
    {
        response = response.with(&AddressErrorCode::new(turn_types::AddressFamily::IPV6, code));
    }
    response
        .with(&Lifetime::new(allocation.lifetime))
        .mapped(&allocation.flow, transaction)
        .signed(&allocation.key)
}

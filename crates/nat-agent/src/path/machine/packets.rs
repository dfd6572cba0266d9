//! Whose a packet is, and which way one goes.

use super::{MOST_EARLY, MOST_HELD, MOST_KNOWN, Machine, Output, Relay, Route, Standing, Way};
use crate::path::check::{Class, Message};
use crate::path::shared::username;
use siprtc_core::ice::{CandidateKind, IceState, LocalCandidate};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// Whom a check's USERNAME says that it comes from (RFC 8445 section 7.2.2).
fn theirs_of(data: &[u8]) -> Option<&[u8]> {
    username(data)?.splitn(2, |octet| *octet == b':').nth(1)
}

impl Machine {
    /// Whether a datagram that is no STUN and no ChannelData is the peer's.
    pub(in crate::path) fn is_peer(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let is_peer = self.is_bypassed
            || self.selected.is_some_and(|(_, remote)| remote == from)
            || self.known.iter().any(|(_, remote)| *remote == from);
        if is_peer {
            return true;
        }
        // RFC 7983: 20 to 63 is DTLS.
        match datagram.first() {
            Some(20..=63) if self.state == IceState::New => {
                if self.early.len() == MOST_EARLY {
                    self.early.pop_front();
                    self.stats.strangers += 1;
                }
                self.early.push_back((datagram.to_vec(), from));
            }
            _ => self.stats.strangers += 1,
        }
        false
    }

    /// The handshake of a peer without ICE, as far as it came before its description did: RFC 5763 section 5 has an offerer
    /// prepared for a ClientHello before the answer. Asterisk sends both at once; if the first is missed, a second of silence
    /// follows, for that is when it is repeated.
    pub(in crate::path) fn take_early(&mut self) -> VecDeque<(Vec<u8>, SocketAddr)> {
        std::mem::take(&mut self.early)
    }

    /// Over which pair the engine's datagrams go; without one, this one waits.
    pub(in crate::path) fn route(&mut self, datagram: &[u8]) -> Option<Route> {
        if self.route.is_none() {
            // Consent has ended: RFC 7675 section 5.1 has the sender stop at once.
            if self.state == IceState::Failed {
                self.stats.unsent += 1;
                return None;
            }
            if self.held.len() == MOST_HELD {
                self.held.pop_front();
                self.stats.unsent += 1;
            }
            self.held.push_back(datagram.to_vec());
        }
        self.route
    }

    /// What to send to the server so that `data` is relayed.
    pub(in crate::path) fn relay(&mut self, now: Instant, relay: usize, to: SocketAddr, data: &[u8]) {
        let Some(at) = self.relays.get_mut(relay) else {
            return;
        };
        let wrapped = at.wrap(now, to, data);
        for data in wrapped.into_iter().chain(at.poll(now)) {
            self.send_to_server(relay, data);
        }
    }

    pub(super) fn send_to_server(&mut self, relay: usize, data: Vec<u8>) {
        let output = match (self.relays[relay].way, self.relays[relay].server) {
            (Way::Socket(base), to) => Output::Send { base, to, data },
            (Way::Stream, _) => Output::Stream { relay, data },
        };
        self.outputs.push_back(output);
    }

    pub(super) fn datagram(
        &mut self,
        now: Instant,
        base: usize,
        from: SocketAddr,
        data: &[u8],
        deliver: &mut dyn FnMut(SocketAddr, &[u8]),
    ) {
        let from_relay = |relay: &Relay| relay.way == Way::Socket(base) && relay.server == from;
        if let Some(mapped) = self.reflexive.take(base, from, data) {
            if let Some(mapped) = mapped {
                let below = self.bases[base].addr;
                self.add_local(now, LocalCandidate::ServerReflexive { base: below }, mapped);
            }
            return;
        }
        if let Some(relay) = self.relays.iter().position(from_relay)
            && self.relayed(now, relay, data, deliver)
        {
            return;
        }
        let local = self.bases[base].addr;
        if data.first().is_some_and(|first| *first < 4) {
            self.stun(now, local, from, data);
        } else {
            self.stats.unknown += 1;
        }
    }

    pub(super) fn relayed(
        &mut self,
        now: Instant,
        at: usize,
        data: &[u8],
        deliver: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> bool {
        let Some(relay) = self.relays.get_mut(at) else {
            return false;
        };
        let Some(relayed) = relay.take(now, data) else {
            return false;
        };
        let local = match relay.standing {
            Standing::Allocated(local) => local,
            _ => return true,
        };
        if let Some(whole) = &relayed.whole {
            self.hear_peer(now, local, whole.peer, whole.data(), deliver);
        }
        for piece in &relayed.pieced {
            self.hear_peer(now, local, piece.peer, piece.data(), deliver);
        }
        true
    }

    fn hear_peer(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        data: &[u8],
        deliver: &mut dyn FnMut(SocketAddr, &[u8]),
    ) {
        match data.first() {
            Some(0..=3) => self.stun(now, local, from, data),
            Some(_) if self.is_peer(from, data) => deliver(from, data),
            // It was counted as a stranger's.
            Some(_) => {}
            None => self.stats.unknown += 1,
        }
    }

    fn stun(&mut self, now: Instant, local: SocketAddr, from: SocketAddr, data: &[u8]) {
        if self.is_bypassed {
            self.stats.strangers += 1;
            return;
        }
        let message = Message::read(data);
        if let (Some(consent), Some(message)) = (&mut self.consent, &message)
            && consent.take(now, from, message)
        {
            return;
        }
        let request = data.first() == Some(&0) && data.get(1) == Some(&1);
        if request && self.rest.is_resting() && self.current.is_checked_by(data) {
            match &message {
                Some(message) if self.answer(now, local, from, message) => return,
                // Before the agent is asked, and wakes: only for who knows the password.
                Some(message) if self.current.is_signed(message) => self.wake(now),
                _ => {
                    self.stats.strangers += 1;
                    return;
                }
            }
        }
        let is_next = match &mut self.next {
            Some(next) if !request || next.is_checked_by(data) => {
                next.agent.handle_packet(now, local, from, data)
            }
            _ => false,
        };
        let is_taken = is_next
            || (!request || self.current.is_checked_by(data))
                && self.current.agent.handle_packet(now, local, from, data);
        if !is_taken {
            self.stats.strangers += 1;
            return;
        }
        let generation = match &self.next {
            Some(next) if is_next => next,
            _ => &self.current,
        };
        if !self.known.contains(&(local, from))
            && (message.as_ref()).is_some_and(|message| generation.is_signed(message))
        {
            let is_guest = generation.theirs.is_none() && self.guests.len() < MOST_KNOWN;
            let guest = is_guest.then(|| theirs_of(data)).flatten();
            self.know(local, from);
            self.guests
                .extend(guest.map(|name| ((local, from), name.to_vec())));
        }
        if is_next || self.selected.is_none() {
            self.use_early(now, is_next, (local, from), message.as_ref());
        }
    }

    /// Datagrams from `remote` are the peer's from now on.
    pub(super) fn know(&mut self, local: SocketAddr, remote: SocketAddr) {
        if self.known.contains(&(local, remote)) || self.known.len() == MOST_KNOWN {
            return;
        }
        self.known.push((local, remote));
        if let Some(base) = self.bases.iter().position(|base| base.addr == local) {
            self.outputs.push_back(Output::Known { base, addr: remote });
        }
    }

    /// A pair that works is used before it is nominated (RFC 8445 section 12.1): agents take 50 to 300 ms from the one to
    /// the other, and a call's first words wait. One through a relay is left to the agent: a direct one may still come.
    fn use_early(
        &mut self,
        now: Instant,
        is_next: bool,
        pair: (SocketAddr, SocketAddr),
        message: Option<&Message<'_>>,
    ) {
        let generation = match &self.next {
            Some(next) if is_next => next,
            _ => &self.current,
        };
        let is_direct = self.bases.iter().any(|base| base.addr == pair.0)
            && !(generation.remote.iter())
                .any(|other| other.kind == CandidateKind::Relayed && other.socket_addr() == Some(pair.1));
        let is_answered =
            message.is_some_and(|message| message.class == Class::Success && generation.is_signed(message));
        if is_direct && is_answered {
            self.adopt(now, is_next, pair);
        }
    }

    pub(super) fn send_from(&mut self, now: Instant, local: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        if let Some(base) = self.bases.iter().position(|base| base.addr == local) {
            return self.outputs.push_back(Output::Send { base, to, data });
        }
        if let Some(relay) = self.relay_at(local) {
            self.relay(now, relay, to, &data);
        }
    }

    pub(super) fn relay_at(&self, local: SocketAddr) -> Option<usize> {
        (self.relays.iter()).position(|relay| relay.standing == Standing::Allocated(local))
    }
}

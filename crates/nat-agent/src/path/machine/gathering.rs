//! What a path is to be reached by.

use super::{Base, Machine, Output, Relay, Standing, Way};
use crate::path::socket::Use;
use siprtc_core::ice::{
    Candidate, IcePolicy, IceServer, IceServerKind, IceServerTransport, LocalCandidate, PathEvent,
};
use std::net::SocketAddr;
use std::time::Instant;

impl Machine {
    /// A new socket, whose number is how many there were before.
    pub(in crate::path) fn add_base(&mut self, now: Instant, addr: SocketAddr, purpose: Use) {
        let base = self.bases.len();
        self.bases.push(Base { addr, is_alive: true });
        let meets_peers = self.setup.policy == IcePolicy::All && purpose != Use::Relays;
        if meets_peers {
            self.add_local(now, LocalCandidate::Host, addr);
        }
        for server in self.setup.servers.clone() {
            let Some(to) = server.addr.filter(|to| to.is_ipv4() == addr.is_ipv4()) else {
                continue;
            };
            if server.transport != IceServerTransport::Udp {
                continue;
            }
            // A TURN server tells it too; of loopback every server tells the same.
            if meets_peers && !addr.ip().is_loopback() {
                self.reflexive.ask(now, base, to);
            }
            if let (IceServerKind::Turn { username, password }, Use::All | Use::Relays) =
                (&server.kind, purpose)
            {
                let credentials = (username.as_str(), password.as_str());
                let mut relay = Relay::new(now, to, server.transport, Way::Socket(base), credentials);
                relay.begin(addr);
                self.relays.push(relay);
            }
        }
        self.tick(now);
    }

    /// TURN over TCP and TLS has connections of its own, one for each server.
    pub(super) fn connect_relays(&mut self, now: Instant) {
        for server in self.setup.servers.clone() {
            let (Some(to), IceServerKind::Turn { username, password }) = (server.addr, &server.kind) else {
                continue;
            };
            if server.transport == IceServerTransport::Udp {
                continue;
            }
            let credentials = (username.as_str(), password.as_str());
            let relay = self.relays.len();
            self.relays
                .push(Relay::new(now, to, server.transport, Way::Stream, credentials));
            self.outputs.push_back(Output::Connect { relay });
        }
    }

    /// The server of a relay with a connection of its own: its address and its place among the servers.
    pub(in crate::path) fn stream_server(&self, relay: usize) -> Option<&IceServer> {
        let relay = self.relays.get(relay).filter(|relay| relay.way == Way::Stream)?;
        (self.setup.servers.iter())
            .find(|server| server.addr == Some(relay.server) && server.transport == relay.transport)
    }

    pub(in crate::path) fn servers(&self) -> (IcePolicy, &[IceServer]) {
        (self.setup.policy, &self.setup.servers)
    }

    /// Whether nothing more is to come.
    pub(in crate::path) fn is_gathered(&self) -> bool {
        self.reflexive.is_over() && self.relays.iter().all(|relay| relay.standing != Standing::Asking)
    }

    /// Whether a description was made of what there was.
    pub(in crate::path) fn is_told(&self) -> bool {
        self.is_told
    }

    /// What the peer is told; whatever is gathered later comes as [`PathEvent::Candidate`].
    pub(in crate::path) fn tell_candidates(&mut self) -> Vec<Candidate> {
        self.is_told = true;
        self.newest().told.clone()
    }

    pub(super) fn add_local(&mut self, now: Instant, kind: LocalCandidate, addr: SocketAddr) {
        if self.gathered.contains(&(kind, addr)) {
            return;
        }
        self.wake(now);
        self.gathered.push((kind, addr));
        let hides = self.setup.policy == IcePolicy::Relay;
        let told = self.current.add_local(now, kind, addr, hides);
        let told = match &mut self.next {
            Some(next) => next.add_local(now, kind, addr, hides),
            None => told,
        };
        if let Some(candidate) = told.filter(|_| self.is_told) {
            self.outputs
                .push_back(Output::Event(PathEvent::Candidate(candidate)));
        }
    }
}

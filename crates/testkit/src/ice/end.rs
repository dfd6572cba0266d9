//! One side of a trial: a host with one socket, what it has gathered, and its agent.

use crate::net::{HostId, Net};
use siprtc_core::Result;
use siprtc_core::ice::{
    Candidate, IceAgent, IceAgentFactory, IceEvent, IceParameters, IceRole, IceState, LocalCandidate,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What a client and its relay say to each other in place of TURN's ChannelData: this octet, the peer, the payload.
const RELAYED: u8 = 0x40;

/// A relay at work for one client: what a TURN server does (RFC 8656), without its words.
pub(super) struct Relay {
    host: HostId,
    /// Where the client sends to.
    pub(super) server: SocketAddr,
    /// What peers see.
    pub(super) relayed: SocketAddr,
    /// The client, as the server sees it.
    client: Option<SocketAddr>,
    /// Whom the client has written to: they may answer.
    permitted: BTreeSet<IpAddr>,
}

impl Relay {
    pub(super) fn new(net: &Net, host: HostId, number: u16) -> Self {
        let ip = net.ip(host);
        Relay {
            host,
            server: SocketAddr::new(ip, 3478 + number),
            relayed: SocketAddr::new(ip, 49_152 + number),
            client: None,
            permitted: BTreeSet::new(),
        }
    }

    /// `false`: it was not for this one.
    pub(super) fn take(&mut self, net: &mut Net, from: SocketAddr, to: SocketAddr, data: &[u8]) -> bool {
        if to == self.server {
            self.client = Some(from);
            if let Some((peer, payload)) = unwrap(data) {
                self.permitted.insert(peer.ip());
                net.send(self.host, self.relayed, peer, payload.to_vec());
            }
            return true;
        }
        if to != self.relayed {
            return false;
        }
        if let Some(client) = self.client
            && self.permitted.contains(&from.ip())
        {
            net.send(self.host, self.server, client, wrap(from, data));
        }
        true
    }
}

fn wrap(peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut data = vec![RELAYED];
    match peer.ip() {
        IpAddr::V4(ip) => data.extend(ip.octets()),
        IpAddr::V6(_) => unreachable!("BUG: the network has IPv4 addresses only"),
    }
    data.extend(peer.port().to_be_bytes());
    data.extend(payload);
    data
}

fn unwrap(data: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (head, payload) = data.split_at_checked(7)?;
    let &[RELAYED, a, b, c, d, high, low] = head else {
        return None;
    };
    Some((
        SocketAddr::new([a, b, c, d].into(), u16::from_be_bytes([high, low])),
        payload,
    ))
}

/// A side.
pub(super) struct End {
    pub(super) host: HostId,
    pub(super) socket: SocketAddr,
    pub(super) parameters: IceParameters,
    pub(super) agent: Box<dyn IceAgent>,
    /// What is told to the peer.
    pub(super) candidates: Vec<Candidate>,
    relay: Option<(SocketAddr, SocketAddr)>,
    /// When the agent wants to be called.
    due: Option<Instant>,
    pub(super) state: IceState,
    pub(super) selected: Option<(SocketAddr, SocketAddr)>,
    pub(super) first_selected: Option<Instant>,
    /// Payload that came on the way that is no STUN, with the local candidate's and the peer's address.
    pub(super) heard: Vec<(SocketAddr, SocketAddr)>,
    /// Datagrams of the agent's.
    pub(super) checks: u64,
    pub(super) roles: Vec<IceRole>,
}

impl End {
    pub(super) fn new(
        net: &Net,
        factory: &dyn IceAgentFactory,
        role: IceRole,
        host: HostId,
        name: &str,
    ) -> Result<Self> {
        let parameters = IceParameters {
            ufrag: name.to_owned(),
            pwd: format!("{name}-password-of-a-fair-length"),
            lite: false,
        };
        Ok(End {
            host,
            socket: SocketAddr::new(net.ip(host), 5000),
            agent: factory.make(net.now(), role, &parameters)?,
            parameters,
            candidates: Vec::new(),
            relay: None,
            due: None,
            state: IceState::New,
            selected: None,
            first_selected: None,
            heard: Vec::new(),
            checks: 0,
            roles: Vec::new(),
        })
    }

    /// Its host candidate, and what it has gathered: its address as a server sees it, and a relay's.
    pub(super) fn gather(
        &mut self,
        now: Instant,
        mapped: Option<SocketAddr>,
        relay: Option<&Relay>,
    ) -> Result<()> {
        let base = self.socket;
        let mut kinds = vec![(LocalCandidate::Host, base)];
        kinds.extend(
            mapped
                .filter(|mapped| *mapped != base)
                .map(|mapped| (LocalCandidate::ServerReflexive { base }, mapped)),
        );
        if let Some(relay) = relay {
            self.relay = Some((relay.server, relay.relayed));
            let base = mapped.unwrap_or(base);
            kinds.push((LocalCandidate::Relayed { base }, relay.relayed));
        }
        for (kind, addr) in kinds {
            self.candidates.extend(self.agent.add_local(now, kind, addr)?);
        }
        Ok(())
    }

    /// The peer's description has come.
    pub(super) fn learn(
        &mut self,
        net: &mut Net,
        peer: &IceParameters,
        candidates: &[Candidate],
    ) -> Result<()> {
        self.agent.set_remote(net.now(), peer)?;
        for candidate in candidates {
            self.agent.add_remote(net.now(), candidate)?;
        }
        self.drain(net);
        Ok(())
    }

    /// Takes what has arrived and what is due.
    pub(super) fn work(&mut self, net: &mut Net) {
        while let Some(packet) = net.receive(self.host) {
            let (local, remote, data) = match (self.relay, unwrap(&packet.data)) {
                (Some((server, relayed)), Some((peer, payload))) if packet.from == server => {
                    (relayed, peer, payload.to_vec())
                }
                _ => (packet.to, packet.from, packet.data),
            };
            match data.first() {
                Some(0..=3) => drop(self.agent.handle_packet(net.now(), local, remote, &data)),
                _ => self.heard.push((local, remote)),
            }
            self.drain(net);
        }
        if self.due.is_some_and(|due| due <= net.now()) {
            self.agent.handle_timeout(net.now());
            self.drain(net);
        }
    }

    pub(super) fn due(&self, now: Instant) -> Instant {
        let least = now + Duration::from_micros(100);
        self.due
            .map_or(now + Duration::from_secs(1), |due| due.max(least))
    }

    /// Sends from one of its local candidates.
    pub(super) fn send(&self, net: &mut Net, local: SocketAddr, remote: SocketAddr, data: Vec<u8>) {
        match self.relay {
            Some((server, relayed)) if relayed == local => {
                net.send(self.host, self.socket, server, wrap(remote, &data));
            }
            _ => net.send(self.host, self.socket, remote, data),
        }
    }

    fn drain(&mut self, net: &mut Net) {
        while let Some(datagram) = self.agent.poll_transmit() {
            self.checks += 1;
            self.send(net, datagram.local, datagram.remote, datagram.data);
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                IceEvent::State(state) => self.state = state,
                IceEvent::Selected { local, remote } => {
                    self.selected = Some((local, remote));
                    self.first_selected.get_or_insert(net.now());
                }
                IceEvent::RoleChanged(role) => self.roles.push(role),
                _ => (),
            }
        }
        self.due = self.agent.poll_timeout(net.now());
    }

    /// What its selected pair is: relayed on either side, or not.
    pub(super) fn is_relayed(&self, relayed: &[SocketAddr]) -> bool {
        self.selected
            .is_some_and(|(local, remote)| relayed.contains(&local) || relayed.contains(&remote))
    }
}

//! The agent of ezk-ice behind the port.

use bytesstr::BytesStr;
use ezk_ice::{Component, IceConnectionState, IceCredentials, ReceivedPkt};
use ezk_ice_types::{IceCandidate, UntaggedAddress};
use siprtc_core::ice::{
    Candidate, CandidateKind, Datagram, IceAgent, IceEvent, IceParameters, IceRole, IceState, LocalCandidate,
};
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// It may name no time although a check is under way: it is looked at this often, more often while it is connecting.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_CONNECTING: Duration = Duration::from_millis(50);

pub(crate) struct Agent {
    agent: ezk_ice::IceAgent,
    hosts: Vec<SocketAddr>,
    /// Those that came before the peer's credentials.
    early: Vec<IceCandidate>,
    begun: bool,
    /// Whether a packet came, and with it perhaps a candidate.
    heard: bool,
    /// Whether the peer has a candidate.
    has_candidates: bool,
    selected: Option<(SocketAddr, SocketAddr)>,
    transmits: VecDeque<Datagram>,
    events: VecDeque<IceEvent>,
}

impl Agent {
    pub(crate) fn new(role: IceRole, local: &IceParameters) -> Self {
        let credentials = IceCredentials {
            ufrag: local.ufrag.clone(),
            pwd: local.pwd.clone(),
        };
        Agent {
            agent: ezk_ice::IceAgent::new_for_offer(credentials, role == IceRole::Controlling, true),
            hosts: Vec::new(),
            early: Vec::new(),
            begun: false,
            heard: false,
            has_candidates: false,
            selected: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes out what it wants to send and to say.
    fn drain(&mut self) {
        while let Some(event) = self.agent.pop_event() {
            match event {
                ezk_ice::IceEvent::SendData {
                    data, source, target, ..
                } => {
                    if let Some(local) = self.socket(source, target) {
                        self.transmits.push_back(Datagram {
                            local,
                            remote: target,
                            data,
                        });
                    }
                }
                ezk_ice::IceEvent::ConnectionStateChanged { new, .. } => {
                    self.events.push_back(IceEvent::State(match new {
                        IceConnectionState::Checking => IceState::Checking,
                        IceConnectionState::Connected => IceState::Connected,
                        IceConnectionState::Disconnected => IceState::Disconnected,
                        IceConnectionState::Failed => IceState::Failed,
                        IceConnectionState::New => IceState::New,
                    }));
                }
                _ => (),
            }
        }
        // Its own event comes to the controlling side only.
        let selected = self.agent.discovered_addr(Component::Rtp);
        if let Some((local, remote)) = selected
            && selected != self.selected
        {
            self.selected = selected;
            // It may name the address that a NAT has given us.
            let local = match self.hosts.contains(&local) {
                true => Some(local),
                false => self.socket(None, remote),
            };
            if let Some(local) = local {
                self.events.push_back(IceEvent::Selected { local, remote });
            }
        }
    }

    /// It names a source's address without its port, or nothing.
    fn socket(&self, source: Option<IpAddr>, target: SocketAddr) -> Option<SocketAddr> {
        let named = self.hosts.iter().find(|host| Some(host.ip()) == source);
        let alike = self.hosts.iter().find(|host| host.is_ipv4() == target.is_ipv4());
        named.or(alike).copied()
    }
}

impl IceAgent for Agent {
    fn add_local(&mut self, _: Instant, kind: LocalCandidate, addr: SocketAddr) -> Result<Option<Candidate>> {
        match kind {
            LocalCandidate::Host => {
                self.hosts.push(addr);
                self.agent.add_host_addr(Component::Rtp, addr);
                self.drain();
                let told = self.agent.ice_candidates();
                let told = told.iter().find(|told| {
                    told.port == addr.port() && told.address.to_string() == addr.ip().to_string()
                });
                told.map(|told| told.to_string().parse()).transpose()
            }
            // Its checks leave from the base: only the peer has to know.
            LocalCandidate::ServerReflexive { base } => Ok(Some(reflexive(addr, base))),
            LocalCandidate::Relayed { .. } => Err(Error::new(
                Fault::Unsupported,
                "add a local candidate",
                "ezk-ice knows no relayed candidates",
            )
            .backend(crate::NAME)
            .advice("choose another ice.agent, or have the peer relay")),
        }
    }

    fn set_remote(&mut self, now: Instant, parameters: &IceParameters) -> Result<()> {
        let credentials = IceCredentials {
            ufrag: parameters.ufrag.clone(),
            pwd: parameters.pwd.clone(),
        };
        let early = std::mem::take(&mut self.early);
        let has_pairs = self.heard || !early.is_empty();
        self.agent.set_remote_data(credentials, &early, true);
        self.begun = true;
        // Each call of poll uses up the turn of the next 50 ms (`last_ta_trigger`), whether there was anything to check or not:
        // one before the first candidate makes that wait.
        if has_pairs {
            self.agent.poll(now);
        }
        self.drain();
        Ok(())
    }

    fn add_remote(&mut self, now: Instant, candidate: &Candidate) -> Result<()> {
        let Some(theirs) = remote(candidate) else {
            return Ok(());
        };
        self.has_candidates = true;
        if !self.begun {
            self.early.push(theirs);
            return Ok(());
        }
        self.agent.add_remote_candidate(&theirs);
        self.agent.poll(now);
        self.drain();
        Ok(())
    }

    fn handle_packet(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, data: &[u8]) -> bool {
        self.heard = true;
        self.agent.receive(
            now,
            ReceivedPkt {
                data: data.to_vec(),
                source: remote,
                destination: local,
                component: Component::Rtp,
            },
        );
        self.agent.poll(now);
        self.drain();
        // It does not say.
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        // Without a candidate it would use up the turn, as above.
        if self.heard || self.has_candidates {
            self.agent.poll(now);
        }
        self.drain();
    }

    fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if !self.begun {
            return None;
        }
        let look = match self.selected {
            Some(_) => LOOK,
            None => LOOK_CONNECTING,
        };
        let next = self.agent.timeout(now).unwrap_or(look);
        Some(now + next.clamp(Duration::from_millis(1), look))
    }

    fn poll_transmit(&mut self) -> Option<Datagram> {
        self.transmits.pop_front()
    }

    fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front()
    }
}

/// RFC 8445 section 5.1.2.1, with ezk-ice's own preferences.
fn reflexive(addr: SocketAddr, base: SocketAddr) -> Candidate {
    const TYPE_PREFERENCE: u32 = 100;
    const LOCAL_PREFERENCE: u32 = 65_535 / 4;
    Candidate {
        foundation: format!("srflx{}", base.ip()).replace(['.', ':'], ""),
        component: 1,
        transport: "UDP".to_owned(),
        priority: (TYPE_PREFERENCE << 24) + (LOCAL_PREFERENCE << 8) + 255,
        host: addr.ip().to_string(),
        port: addr.port(),
        kind: CandidateKind::ServerReflexive,
        related: Some((base.ip().to_string(), base.port())),
    }
}

/// `None`: it has no use for this one. It reads no relayed ones, but checks them like any other when they are called
/// server-reflexive: their priority says what they are.
fn remote(candidate: &Candidate) -> Option<IceCandidate> {
    let kind = match candidate.kind {
        CandidateKind::Host => "host",
        CandidateKind::ServerReflexive | CandidateKind::Relayed => "srflx",
        CandidateKind::PeerReflexive => return None,
    };
    let addr = candidate.socket_addr()?;
    Some(IceCandidate {
        foundation: BytesStr::from(candidate.foundation.as_str()),
        component: candidate.component.into(),
        transport: BytesStr::from(candidate.transport.as_str()),
        priority: candidate.priority.into(),
        address: UntaggedAddress::IpAddress(addr.ip()),
        port: addr.port(),
        typ: BytesStr::from(kind),
        rel_addr: None,
        rel_port: None,
        unknown: Vec::new(),
    })
}

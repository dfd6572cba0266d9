//! The agent of the crate `is` behind the port.

use is::stun::{StunMessage, StunPacket};
use is::{Candidate as Theirs, IceAgentEvent, IceConnectionState, IceCreds, Protocol};
use siprtc_core::ice::{
    Candidate, CandidateKind, Datagram, IceAgent, IceEvent, IceParameters, IceRole, IceState, LocalCandidate,
};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) struct Agent {
    agent: is::IceAgent,
    role: IceRole,
    /// A change of role that is to be told.
    gave_in: Option<IceRole>,
}

impl Agent {
    pub(crate) fn new(now: Instant, role: IceRole, local: &IceParameters) -> Self {
        let mut agent = is::IceAgent::new(IceCreds {
            ufrag: local.ufrag.clone(),
            pass: local.pwd.clone(),
        });
        agent.set_controlling(role == IceRole::Controlling);
        agent.set_ice_lite(local.lite);
        // Its clock begins with the first call; before that it names no time to be called at.
        agent.handle_timeout(now);
        Agent {
            agent,
            role,
            gave_in: None,
        }
    }
}

impl IceAgent for Agent {
    fn add_local(&mut self, _: Instant, kind: LocalCandidate, addr: SocketAddr) -> Result<Option<Candidate>> {
        let made = match kind {
            LocalCandidate::Host => Theirs::host(addr, "udp"),
            LocalCandidate::ServerReflexive { base } => Theirs::server_reflexive(addr, base, "udp"),
            // It sends from a relayed candidate's own address: the third is what the peer is told as its base.
            LocalCandidate::Relayed { base } => Theirs::relayed(addr, base, "udp"),
        };
        let made = made.map_err(|error| refused(Fault::ApiMisuse, "add a local candidate", error))?;
        let added = self.agent.add_local_candidate(made);
        added
            .map(|candidate| candidate.to_sdp_string().parse())
            .transpose()
    }

    fn set_remote(&mut self, now: Instant, parameters: &IceParameters) -> Result<()> {
        self.agent.set_remote_credentials(IceCreds {
            ufrag: parameters.ufrag.clone(),
            pass: parameters.pwd.clone(),
        });
        self.agent.handle_timeout(now);
        Ok(())
    }

    fn add_remote(&mut self, now: Instant, candidate: &Candidate) -> Result<()> {
        // A peer-reflexive one is learnt from checks, never told (RFC 8445 section 5.1.1).
        let useful = candidate.transport.eq_ignore_ascii_case("udp")
            && candidate.component == 1
            && candidate.kind != CandidateKind::PeerReflexive
            && candidate.socket_addr().is_some();
        if !useful {
            return Ok(());
        }
        let theirs = Theirs::from_sdp_string(&format!("candidate:{candidate}"))
            .map_err(|error| refused(Fault::PeerMisbehaved, "add a remote candidate", error))?;
        self.agent.add_remote_candidate(theirs);
        self.agent.handle_timeout(now);
        Ok(())
    }

    fn handle_packet(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, data: &[u8]) -> bool {
        let Ok(message) = StunMessage::parse(data) else {
            return false;
        };
        let ours = self.agent.handle_packet(
            now,
            StunPacket {
                proto: Protocol::Udp,
                source: remote,
                destination: local,
                message,
            },
        );
        let role = match self.agent.controlling() {
            true => IceRole::Controlling,
            false => IceRole::Controlled,
        };
        if role != self.role {
            self.role = role;
            self.gave_in = Some(role);
        }
        ours
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
    }

    fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        // Never in the past, which would be called at once and for ever.
        let next = self.agent.poll_timeout()?;
        Some(next.max(now + Duration::from_millis(1)))
    }

    fn poll_transmit(&mut self) -> Option<Datagram> {
        self.agent.poll_transmit().map(|transmit| Datagram {
            local: transmit.source,
            remote: transmit.destination,
            data: transmit.contents.into(),
        })
    }

    fn poll_event(&mut self) -> Option<IceEvent> {
        if let Some(role) = self.gave_in.take() {
            return Some(IceEvent::RoleChanged(role));
        }
        loop {
            return Some(match self.agent.poll_event()? {
                IceAgentEvent::IceConnectionStateChange(state) => IceEvent::State(match state {
                    IceConnectionState::New => IceState::New,
                    IceConnectionState::Checking => IceState::Checking,
                    IceConnectionState::Connected | IceConnectionState::Completed => IceState::Connected,
                    IceConnectionState::Disconnected => IceState::Disconnected,
                }),
                IceAgentEvent::NominatedSend {
                    source, destination, ..
                } => IceEvent::Selected {
                    local: source,
                    remote: destination,
                },
                _ => continue,
            });
        }
    }
}

fn refused(fault: Fault, operation: &'static str, error: is::IceError) -> Error {
    Error::new(fault, operation, "the candidate is refused")
        .caused_by(error)
        .backend(crate::NAME)
}

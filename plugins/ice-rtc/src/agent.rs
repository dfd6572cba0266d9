//! The agent of rtc-ice behind the port.

use rtc::ice::agent::agent_config::AgentConfig;
use rtc::ice::agent::{Agent as Theirs, Event};
use rtc::ice::candidate::candidate_host::CandidateHostConfig;
use rtc::ice::candidate::candidate_relay::CandidateRelayConfig;
use rtc::ice::candidate::candidate_server_reflexive::CandidateServerReflexiveConfig;
use rtc::ice::candidate::{CandidateConfig, unmarshal_candidate};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::ice::state::ConnectionState;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use siprtc_core::ice::{
    Candidate, CandidateKind, Datagram, IceAgent, IceEvent, IceParameters, IceRole, IceState, LocalCandidate,
};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two rounds of checks; 200 ms of its own (RFC 8445 section 14.2: Ta is 50 ms).
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a pair of a lesser kind waits for a better one. Its own are 500 ms, 1 s and 2 s: a relayed call would be
/// silent for two seconds.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(300),
];

pub(crate) struct Agent {
    agent: Theirs,
    role: IceRole,
}

impl Agent {
    pub(crate) fn new(now: Instant, role: IceRole, local: &IceParameters) -> Result<Self> {
        const OPERATION: &str = "make an ICE agent";
        let [srflx, prflx, relay] = PATIENCE;
        let config = AgentConfig {
            local_ufrag: local.ufrag.clone(),
            local_pwd: local.pwd.clone(),
            is_controlling: role == IceRole::Controlling,
            lite: local.lite,
            multicast_dns_mode: MulticastDnsMode::Disabled,
            check_interval: CHECK_INTERVAL,
            srflx_acceptance_min_wait: Some(srflx),
            prflx_acceptance_min_wait: Some(prflx),
            relay_acceptance_min_wait: Some(relay),
            // The owner's timers decide.
            disconnected_timeout: Some(Duration::ZERO),
            failed_timeout: Some(Duration::ZERO),
            ..AgentConfig::default()
        };
        let crypto = rtc::crypto::default_provider();
        let crypto = crypto.map_err(|error| refused(Fault::Backend, OPERATION, error))?;
        let agent = Theirs::new(now, Arc::new(config), crypto);
        Ok(Agent {
            agent: agent.map_err(|error| refused(Fault::ApiMisuse, OPERATION, error))?,
            role,
        })
    }
}

impl IceAgent for Agent {
    fn add_local(&mut self, _: Instant, kind: LocalCandidate, addr: SocketAddr) -> Result<Option<Candidate>> {
        let base_config = CandidateConfig {
            network: "udp".to_owned(),
            address: addr.ip().to_string(),
            port: addr.port(),
            component: 1,
            ..CandidateConfig::default()
        };
        let made = match kind {
            LocalCandidate::Host => CandidateHostConfig {
                base_config,
                ..CandidateHostConfig::default()
            }
            .new_candidate_host(),
            LocalCandidate::ServerReflexive { base } => CandidateServerReflexiveConfig {
                base_config,
                rel_addr: base.ip().to_string(),
                rel_port: base.port(),
                ..CandidateServerReflexiveConfig::default()
            }
            .new_candidate_server_reflexive(),
            LocalCandidate::Relayed { base } => CandidateRelayConfig {
                base_config,
                rel_addr: base.ip().to_string(),
                rel_port: base.port(),
                ..CandidateRelayConfig::default()
            }
            .new_candidate_relay(),
        };
        let wrong = |error| refused(Fault::ApiMisuse, "add a local candidate", error);
        let made = made.map_err(wrong)?;
        let told = made.marshal();
        match self.agent.add_local_candidate(made).map_err(wrong)? {
            true => told.parse().map(Some),
            false => Ok(None),
        }
    }

    fn set_remote(&mut self, now: Instant, parameters: &IceParameters) -> Result<()> {
        let controlling = self.role == IceRole::Controlling;
        let IceParameters { ufrag, pwd, .. } = parameters.clone();
        self.agent
            .start_connectivity_checks(now, controlling, ufrag, pwd)
            .map_err(|error| refused(Fault::PeerMisbehaved, "take the peer's credentials", error))
    }

    fn add_remote(&mut self, _: Instant, candidate: &Candidate) -> Result<()> {
        const OPERATION: &str = "add a remote candidate";
        let useful = candidate.transport.eq_ignore_ascii_case("udp")
            && candidate.component == 1
            && candidate.kind != CandidateKind::PeerReflexive
            && candidate.socket_addr().is_some();
        if !useful {
            return Ok(());
        }
        let wrong = |error| refused(Fault::PeerMisbehaved, OPERATION, error);
        let theirs = unmarshal_candidate(&candidate.to_string()).map_err(wrong)?;
        self.agent.add_remote_candidate(theirs).map(drop).map_err(wrong)
    }

    fn handle_packet(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, data: &[u8]) -> bool {
        let packet = TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: local,
                peer_addr: remote,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            },
            message: data.into(),
        };
        self.agent.handle_read(packet).is_ok()
    }

    fn handle_timeout(&mut self, now: Instant) {
        // An error is about one pair, which is tried again.
        let _ = self.agent.handle_timeout(now);
    }

    fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let next = self.agent.poll_timeout()?;
        Some(next.max(now + Duration::from_millis(1)))
    }

    fn poll_transmit(&mut self) -> Option<Datagram> {
        self.agent.poll_write().map(|write| Datagram {
            local: write.transport.local_addr,
            remote: write.transport.peer_addr,
            data: write.message.to_vec(),
        })
    }

    fn poll_event(&mut self) -> Option<IceEvent> {
        loop {
            return Some(match self.agent.poll_event()?.event {
                Event::ConnectionStateChange(state) => IceEvent::State(match state {
                    ConnectionState::New | ConnectionState::Unspecified => IceState::New,
                    ConnectionState::Checking => IceState::Checking,
                    ConnectionState::Connected | ConnectionState::Completed => IceState::Connected,
                    ConnectionState::Disconnected => IceState::Disconnected,
                    ConnectionState::Failed => IceState::Failed,
                    ConnectionState::Closed => IceState::Closed,
                    _ => continue,
                }),
                Event::SelectedCandidatePairChange(local, remote) => IceEvent::Selected {
                    local: local.addr(),
                    remote: remote.addr(),
                },
                Event::RoleChange(controlling) => {
                    self.role = match controlling {
                        true => IceRole::Controlling,
                        false => IceRole::Controlled,
                    };
                    IceEvent::RoleChanged(self.role)
                }
                _ => continue,
            });
        }
    }
}

fn refused(
    fault: Fault,
    operation: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::new(fault, operation, "rtc-ice refuses it")
        .caused_by(error)
        .backend(crate::NAME)
}

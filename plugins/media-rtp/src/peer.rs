//! One peer.

use crate::driver::Shared;
use crate::dtls::Identity;
use crate::machine::{Agreement, Local, Machine, misuse};
use async_trait::async_trait;
use siprtc_core::ice::{Candidate, CandidateKind, CandidatePair};
use siprtc_core::media::{Direction, MediaPeer, RtpPacket, SdpKind, TransportStats};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Mutex;

/// See [`MediaPeer`].
pub(crate) struct Peer {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    identity: Option<Identity>,
}

impl Peer {
    pub(crate) fn new(shared: Arc<Shared>, machine: Machine) -> Self {
        Peer {
            shared,
            state: Mutex::new(State {
                machine,
                identity: None,
            }),
        }
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        match self.shared.is_closed() {
            true => Err(misuse(operation, "the media peer is closed").advice("make a new one")),
            false => Ok(()),
        }
    }

    /// What we are reached by, once gathering is over.
    async fn local(&self, operation: &'static str, state: &mut State) -> Result<Local> {
        if state.machine.wants_dtls() && state.identity.is_none() {
            state.identity = Some(Identity::fresh().map_err(|error| failed(operation, error))?);
        }
        let candidates = self.shared.rtp.gather().await;
        let rtp = default_candidate(&candidates).ok_or_else(|| nowhere(operation))?;
        let rtcp = match &self.shared.rtcp {
            Some(path) => default_candidate(&path.gather().await),
            None => None,
        };
        *self.shared.told.lock() = (Some(rtp), rtcp);
        Ok(Local {
            rtp: Some(rtp),
            rtcp,
            ice: state
                .machine
                .wants_ice()
                .then(|| (self.shared.rtp.parameters(), candidates)),
            fingerprint: (state.identity.as_ref())
                .filter(|_| state.machine.wants_dtls())
                .map(Identity::fingerprint),
        })
    }

    /// From now on it is as two descriptions agreed.
    fn agree(&self, operation: &'static str, state: &State, agreement: &Agreement) -> Result<()> {
        let has_ice = agreement.ice.is_some();
        self.shared.has_ice.store(has_ice, Ordering::Release);
        let where_to = agreement
            .rtp
            .filter(|_| !has_ice)
            .map(|rtp| (rtp, agreement.rtcp));
        self.shared
            .work(|transport, now| {
                transport.agree(
                    now,
                    &agreement.keys,
                    &agreement.formats,
                    where_to,
                    has_ice,
                    state.identity.as_ref(),
                )
            })
            .map_err(|error| failed(operation, error))?;
        if let Some((parameters, candidates)) = &agreement.ice {
            self.shared.rtp.set_remote(parameters, candidates)?;
        }
        self.shared.wake();
        Ok(())
    }
}

#[async_trait]
impl MediaPeer for Peer {
    async fn create_offer(&self) -> Result<String> {
        self.check_open("create offer")?;
        Ok(self.state.lock().await.machine.offer(&Local::default()))
    }

    async fn create_answer(&self) -> Result<String> {
        const OPERATION: &str = "create answer";
        self.check_open(OPERATION)?;
        let (sdp, _) = self
            .state
            .lock()
            .await
            .machine
            .answer(OPERATION, &Local::default())?;
        Ok(sdp)
    }

    async fn set_local(&self, kind: SdpKind, _sdp: &str) -> Result<String> {
        const OPERATION: &str = "set local description";
        self.check_open(OPERATION)?;
        let mut state = self.state.lock().await;
        if kind == SdpKind::Offer && state.machine.has_remote_offer() {
            return Err(misuse(OPERATION, "the peer's offer waits for an answer")
                .advice("answer or roll back the offer that is pending first"));
        }
        let local = self.local(OPERATION, &mut state).await?;
        self.check_open(OPERATION)?;
        if kind == SdpKind::Offer {
            let sdp = state.machine.offer(&local);
            state.machine.offered();
            return Ok(sdp);
        }
        let (sdp, agreement) = state.machine.answer(OPERATION, &local)?;
        if kind == SdpKind::Answer {
            state.machine.answered(&agreement);
        }
        self.agree(OPERATION, &state, &agreement)?;
        Ok(sdp)
    }

    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()> {
        const OPERATION: &str = "set remote description";
        self.check_open(OPERATION)?;
        let mut state = self.state.lock().await;
        if kind == SdpKind::Offer {
            return state.machine.set_remote_offer(OPERATION, sdp);
        }
        let is_final = kind == SdpKind::Answer;
        let agreement = state.machine.set_remote_answer(OPERATION, sdp, is_final)?;
        self.agree(OPERATION, &state, &agreement)
    }

    async fn rollback(&self) -> Result<()> {
        const OPERATION: &str = "roll back";
        self.check_open(OPERATION)?;
        self.shared.rtp.rollback();
        match self.state.lock().await.machine.rollback() {
            true => Ok(()),
            false => Err(misuse(OPERATION, "no offer is pending").advice("there is nothing to take back")),
        }
    }

    async fn set_direction(&self, direction: Direction) -> Result<()> {
        self.check_open("set direction")?;
        self.state.lock().await.machine.wanted = direction;
        Ok(())
    }

    async fn restart_ice(&self) -> Result<()> {
        self.check_open("restart ICE")?;
        // Without ICE the next description says where we are now, which is all that a restart is for.
        self.shared.rtp.restart()
    }

    async fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        self.check_open("add candidate")?;
        if self.shared.has_ice.load(Ordering::Acquire) {
            self.shared.rtp.add_remote(candidate);
        }
        Ok(())
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        self.send_now(packet)
    }

    fn sends_now(&self) -> bool {
        true
    }

    fn send_now(&self, packet: RtpPacket) -> Result<()> {
        const OPERATION: &str = "send RTP";
        if !self.shared.is_connected() {
            self.check_open(OPERATION)?;
            return Err(misuse(OPERATION, "the path is not up").advice("wait for MediaEvent::Connected"));
        }
        if !self.shared.transport.lock().may_send(packet.payload_type) {
            let message = format!("payload type {} was not negotiated", packet.payload_type);
            return Err(misuse(OPERATION, message).advice("send what NegotiatedAudio says"));
        }
        self.shared
            .send(&packet)
            .map_err(|error| failed(OPERATION, error))
    }

    async fn stats(&self) -> TransportStats {
        let transport = self.shared.transport.lock();
        let reports = &transport.reports;
        let (sent, received, remote) = (reports.sent(), reports.received(), reports.remote());
        let round_trip = self.shared.rtp.stats().round_trip;
        TransportStats {
            packets_sent: sent.packets,
            bytes_sent: sent.bytes,
            packets_received: received.packets,
            bytes_received: received.bytes,
            discarded: transport.dropped,
            round_trip: remote.and_then(|view| view.round_trip).or(round_trip),
            remote_loss: remote.map(|view| view.loss),
            remote_jitter: remote.and_then(|view| view.jitter),
        }
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        match self.shared.is_closed() {
            true => None,
            false => self.shared.rtp.stats().pair,
        }
    }

    async fn close(&self) {
        self.shared.close();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What a description without ICE names (RFC 8839 section 4.2.1.2): what works most surely, and IPv4 before IPv6.
fn default_candidate(candidates: &[Candidate]) -> Option<SocketAddr> {
    let rank = |candidate: &Candidate| match candidate.kind {
        CandidateKind::Relayed => 3,
        CandidateKind::ServerReflexive => 2,
        CandidateKind::Host => 1,
        CandidateKind::PeerReflexive => 0,
    };
    candidates
        .iter()
        .filter_map(|candidate| Some((rank(candidate), candidate.socket_addr()?)))
        .max_by_key(|(rank, addr)| (addr.is_ipv4(), *rank))
        .map(|(_, addr)| addr)
}

fn nowhere(operation: &'static str) -> Error {
    Error::new(
        Fault::TimedOut,
        operation,
        "there is no address that the peer could send to",
    )
    .backend(crate::NAME)
    .advice("with ice.policy = \"relay\" a TURN server must answer within ice.gather_budget")
}

fn failed(operation: &'static str, error: rtc_shared::error::Error) -> Error {
    Error::new(Fault::Backend, operation, "the SRTP or DTLS library refused")
        .backend(crate::NAME)
        .caused_by(error)
        .advice("the log says more")
}

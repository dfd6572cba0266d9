//! One peer.

use crate::driver::Shared;
use crate::dtls::Identity;
use crate::line::Lines;
use crate::machine::{Agreement, Local, Machine, Part, misuse};
use crate::video::VideoLine;
use async_trait::async_trait;
use siprtc_core::ice::{Candidate, CandidateKind, CandidatePair};
use siprtc_core::media::{
    Codec, Direction, Discarded, Feedback, ForkConfig, MediaPeer, RtpPacket, SdpKind, TransportStats,
    VideoWish,
};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Mutex;

/// See [`MediaPeer`].
pub(crate) struct Peer {
    pub(crate) shared: Arc<Shared>,
    /// As long as there is video, or is about to be.
    video: parking_lot::Mutex<Option<Arc<Shared>>>,
    pub(crate) state: Mutex<State>,
    pub(crate) lines: Lines,
}

/// Between the steps of offer and answer.
pub(crate) struct State {
    pub(crate) machine: Machine,
    /// For a peer that was made with video.
    pub(crate) video: Option<VideoLine>,
    pub(crate) identity: Option<Arc<Identity>>,
}

impl State {
    /// Whether our next description has video.
    fn has_video(&self, kind: SdpKind) -> Option<&VideoLine> {
        let video = self.video.as_ref().filter(|video| video.is_wanted())?;
        (kind == SdpKind::Offer || video.machine.has_remote_offer()).then_some(video)
    }
}

impl Peer {
    pub(crate) fn new(shared: Arc<Shared>, machine: Machine, video: Option<VideoLine>, lines: Lines) -> Self {
        let state = State {
            machine,
            video,
            identity: None,
        };
        Peer::with(shared, None, state, lines)
    }

    pub(crate) fn with(shared: Arc<Shared>, video: Option<Arc<Shared>>, state: State, lines: Lines) -> Self {
        Peer {
            shared,
            video: parking_lot::Mutex::new(video),
            state: Mutex::new(state),
            lines,
        }
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        match self.shared.is_closed() {
            true => Err(misuse(operation, "the media peer is closed").advice("make a new one")),
            false => Ok(()),
        }
    }

    pub(crate) fn video(&self) -> Option<Arc<Shared>> {
        self.video.lock().clone()
    }

    /// Video's sockets, opened if there are none.
    async fn opened(&self, line: &VideoLine) -> Result<Arc<Shared>> {
        if let Some(video) = self.video() {
            return Ok(video);
        }
        let opened = line.open().await?;
        self.video.lock().replace(opened.clone());
        // The peer was closed meanwhile.
        if self.shared.is_closed() {
            opened.close();
        }
        Ok(opened)
    }

    /// What video is reached by, if our next description has it. Without it the call is one of audio.
    async fn video_local(
        &self,
        operation: &'static str,
        state: &mut State,
        kind: SdpKind,
    ) -> Option<(Arc<Shared>, Local)> {
        let opened = self.opened(state.has_video(kind)?).await;
        let State { video, identity, .. } = state;
        let told = async {
            let shared = opened?;
            let machine = &video.as_ref().ok_or_else(|| nowhere(operation))?.machine;
            let local = local(&shared, operation, machine, identity).await?;
            Ok((shared, local))
        };
        told.await
            .inspect_err(|error: &Error| tracing::warn!(%error, "the call has no video"))
            .ok()
    }

    fn close_video(&self) {
        if let Some(video) = self.video.lock().take() {
            video.close();
        }
    }
}

/// What an m-line is reached by, once gathering is over.
async fn local(
    shared: &Shared,
    operation: &'static str,
    machine: &Machine,
    identity: &mut Option<Arc<Identity>>,
) -> Result<Local> {
    if machine.wants_dtls() && identity.is_none() {
        let fresh = Identity::fresh().map_err(|error| failed(operation, error))?;
        *identity = Some(Arc::new(fresh));
    }
    let candidates = shared.rtp.gather().await;
    let rtp = default_candidate(&candidates).ok_or_else(|| nowhere(operation))?;
    let rtcp = match &shared.rtcp {
        Some(path) => default_candidate(&path.gather().await),
        None => None,
    };
    *shared.told.lock() = (Some(rtp), rtcp);
    Ok(Local {
        rtp: Some(rtp),
        rtcp,
        ice: machine.wants_ice().then(|| (shared.rtp.parameters(), candidates)),
        fingerprint: (identity.as_ref())
            .filter(|_| machine.wants_dtls())
            .map(|identity| identity.fingerprint()),
        source: Some(shared.transport.lock().source()),
    })
}

/// From now on it is as two descriptions agreed.
fn agree(
    shared: &Shared,
    operation: &'static str,
    identity: Option<&Identity>,
    agreement: &Agreement,
) -> Result<()> {
    let has_ice = agreement.ice.is_some();
    shared.has_ice.store(has_ice, Ordering::Release);
    let where_to = agreement
        .rtp
        .filter(|_| !has_ice)
        .map(|rtp| (rtp, agreement.rtcp));
    shared
        .work(|transport, now| {
            transport.agree(
                now,
                &agreement.keys,
                &agreement.formats,
                where_to,
                has_ice,
                identity,
            )
        })
        .map_err(|error| failed(operation, error))?;
    if let Some((parameters, candidates)) = &agreement.ice {
        shared.rtp.set_remote(parameters, candidates)?;
    }
    shared.wake();
    Ok(())
}

#[async_trait]
impl MediaPeer for Peer {
    async fn create_offer(&self) -> Result<String> {
        self.check_open("create offer")?;
        let state = self.state.lock().await;
        let nowhere = Local::default();
        let video = state.has_video(SdpKind::Offer).map(|video| {
            video
                .machine
                .offer_part(&nowhere, state.machine.place_of("video"))
        });
        Ok(state.machine.offer(&nowhere, video.as_ref()))
    }

    async fn create_answer(&self) -> Result<String> {
        const OPERATION: &str = "create answer";
        self.check_open(OPERATION)?;
        let state = self.state.lock().await;
        let nowhere = Local::default();
        let video = (state.has_video(SdpKind::Answer))
            .and_then(|video| video.machine.answer_part(OPERATION, &nowhere).ok());
        let video = video.map(|(part, _)| part);
        let (sdp, _) = state.machine.answer(OPERATION, &nowhere, video.as_ref())?;
        Ok(sdp)
    }

    async fn set_local(&self, kind: SdpKind, _sdp: &str) -> Result<String> {
        const OPERATION: &str = "set local description";
        self.check_open(OPERATION)?;
        let mut state = self.state.lock().await;
        let state = &mut *state;
        if kind == SdpKind::Offer && state.machine.has_remote_offer() {
            return Err(misuse(OPERATION, "the peer's offer waits for an answer")
                .advice("answer or roll back the offer that is pending first"));
        }
        let own = local(&self.shared, OPERATION, &state.machine, &mut state.identity).await?;
        let beside = self.video_local(OPERATION, state, kind).await;
        self.check_open(OPERATION)?;
        if kind == SdpKind::Offer {
            let at = state.machine.place_of("video");
            let mut video = state.video.as_mut().map(|video| &mut video.machine);
            let part = match (&mut video, &beside) {
                (Some(video), Some((_, local))) => Some(video.offer_part(local, at)),
                _ => None,
            };
            let sdp = state.machine.offer(&own, part.as_ref());
            state
                .machine
                .offered(video.filter(|_| part.is_some()).map(|video| (at, video)));
            return Ok(sdp);
        }
        let is_final = kind == SdpKind::Answer;
        let mut part: Option<Part> = None;
        if let (Some(video), Some((shared, local))) = (&mut state.video, &beside)
            && let Ok((answer, agreement)) = video.machine.answer_part(OPERATION, local)
        {
            agree(shared, OPERATION, state.identity.as_deref(), &agreement)?;
            if is_final {
                video.machine.answered(&agreement);
            }
            part = Some(answer);
        }
        let (sdp, agreement) = state.machine.answer(OPERATION, &own, part.as_ref())?;
        if is_final {
            state.machine.answered(&agreement);
            if part.is_none() {
                self.close_video();
            }
        }
        agree(&self.shared, OPERATION, state.identity.as_deref(), &agreement)?;
        Ok(sdp)
    }

    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()> {
        const OPERATION: &str = "set remote description";
        self.check_open(OPERATION)?;
        let mut state = self.state.lock().await;
        let State {
            machine,
            video,
            identity,
        } = &mut *state;
        if kind == SdpKind::Offer {
            machine.set_remote_offer(OPERATION, sdp)?;
            if let Some(video) = video {
                video.machine.rollback();
                if let Err(error) = video.machine.set_remote_offer(OPERATION, sdp) {
                    tracing::debug!(%error, "no video is answered");
                }
            }
            return Ok(());
        }
        let is_final = kind == SdpKind::Answer;
        let agreement = machine.set_remote_answer(OPERATION, sdp, is_final)?;
        agree(&self.shared, OPERATION, identity.as_deref(), &agreement)?;
        let Some((video, shared)) = video.as_mut().zip(self.video()) else {
            return Ok(());
        };
        match video.machine.set_remote_answer(OPERATION, sdp, is_final) {
            Ok(agreement) => agree(&shared, OPERATION, identity.as_deref(), &agreement),
            Err(error) => {
                tracing::debug!(%error, "the peer takes no video");
                // Another fork may take it: then its ports are the ones that our offer named.
                if is_final && !machine.may_fork() {
                    self.close_video();
                }
                Ok(())
            }
        }
    }

    async fn rollback(&self) -> Result<()> {
        const OPERATION: &str = "roll back";
        self.check_open(OPERATION)?;
        self.shared.rtp.rollback();
        let mut state = self.state.lock().await;
        if let Some(video) = &mut state.video {
            video.machine.rollback();
        }
        if let Some(video) = self.video() {
            video.rtp.rollback();
        }
        match state.machine.rollback() {
            true => Ok(()),
            false => Err(misuse(OPERATION, "no offer is pending").advice("there is nothing to take back")),
        }
    }

    async fn fork(&self, config: ForkConfig) -> Result<Arc<dyn MediaPeer>> {
        Ok(Arc::new(self.forked(config).await?))
    }

    async fn set_codecs(&self, codecs: &[Codec]) -> Result<()> {
        self.check_open("set codecs")?;
        self.state.lock().await.machine.set_codecs(codecs);
        Ok(())
    }

    async fn set_direction(&self, direction: Direction) -> Result<()> {
        self.check_open("set direction")?;
        self.state.lock().await.machine.wanted = direction;
        Ok(())
    }

    async fn restart_ice(&self) -> Result<()> {
        self.check_open("restart ICE")?;
        // Without ICE the next description says where we are now, which is all that a restart is for.
        if let Some(video) = self.video() {
            video.rtp.restart()?;
        }
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
        send(&self.shared, OPERATION, &packet)
    }

    async fn set_video(&self, wish: Option<VideoWish>) -> Result<()> {
        const OPERATION: &str = "set video";
        self.check_open(OPERATION)?;
        match &mut self.state.lock().await.video {
            Some(video) => {
                video.set_wanted(wish);
                Ok(())
            }
            None if wish.is_none() => Ok(()),
            None => {
                Err(misuse(OPERATION, "the peer was made without video").advice("give it PeerConfig::video"))
            }
        }
    }

    fn send_video(&self, packet: RtpPacket) -> Result<()> {
        const OPERATION: &str = "send video";
        self.check_open(OPERATION)?;
        let video = self.video().filter(|video| video.is_connected());
        let video = video.ok_or_else(|| {
            misuse(OPERATION, "no video is negotiated, or its path is not up").advice("wait for it")
        })?;
        send(&video, OPERATION, &packet)
    }

    fn send_feedback(&self, feedback: Feedback) -> Result<()> {
        self.check_open("send feedback")?;
        if let Some(video) = self.video() {
            video.work(|transport, _| transport.tell(&feedback));
        }
        Ok(())
    }

    async fn stats(&self) -> TransportStats {
        stats(&self.shared)
    }

    async fn video_stats(&self) -> Option<TransportStats> {
        self.video().map(|video| stats(&video))
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        match self.shared.is_closed() {
            true => None,
            false => self.shared.rtp.stats().pair,
        }
    }

    async fn close(&self) {
        self.close_video();
        self.shared.close();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.close_video();
        self.shared.close();
    }
}

fn send(shared: &Shared, operation: &'static str, packet: &RtpPacket) -> Result<()> {
    if !shared.transport.lock().may_send(packet.payload_type) {
        let message = format!("payload type {} was not negotiated", packet.payload_type);
        return Err(misuse(operation, message).advice("send what was negotiated"));
    }
    shared.send(packet).map_err(|error| failed(operation, error))
}

fn stats(shared: &Shared) -> TransportStats {
    let transport = shared.transport.lock();
    let reports = &transport.reports;
    let (sent, received, remote) = (reports.sent(), reports.received(), reports.remote());
    let path = shared.rtp.stats();
    let other = shared.rtcp.as_ref().map(|path| path.stats()).unwrap_or_default();
    let discarded = Discarded {
        stranger: transport.discarded.stranger + path.strangers + other.strangers,
        unknown: transport.discarded.unknown + path.unknown + other.unknown,
        ..transport.discarded
    };
    TransportStats {
        packets_sent: sent.packets,
        bytes_sent: sent.bytes,
        packets_received: received.packets,
        bytes_received: received.bytes,
        discarded,
        round_trip: remote.and_then(|view| view.round_trip).or(path.round_trip),
        remote_loss: remote.map(|view| view.loss),
        remote_jitter: remote.and_then(|view| view.jitter),
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

//! One PeerConnection as a media peer.

use crate::codecs;
use crate::engine::Making;
use crate::events::Shared;
use crate::negotiation::{self, Negotiation, failed};
use crate::sdp as shown;
use crate::shim::Shim;
use crate::stats;
use crate::tap::VideoTap;
use futures_util::FutureExt;
use parking_lot::Mutex;
use rtc::rtp;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use siprtc_core::ice::{Candidate, CandidatePair};
use siprtc_core::media::{
    Codec, Direction, Discarded, Feedback, FeedbackKinds, ForkConfig, MediaPeer, RtpPacket, SdpKind,
    TransportStats, VideoCodec, VideoWish,
};
use siprtc_core::{Error, Fault, Result};
use siprtc_rtp::{PayloadTypes, Reports, format, sdp};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription};
use webrtc::rtp_transceiver::RtpTransceiver;

/// Host candidates come from the connection's own task: even without a budget that much is waited for.
const MIN_GATHER_BUDGET: Duration = Duration::from_millis(50);

const SEND: &str = "send RTP";

/// See [`MediaPeer`].
pub(crate) struct Peer {
    pub(crate) connection: Arc<dyn PeerConnection>,
    transceiver: Arc<dyn RtpTransceiver>,
    track: Arc<TrackLocalStaticRTP>,
    shared: Arc<Shared>,
    ssrc: u32,
    pub(crate) making: Making,
    pub(crate) negotiation: tokio::sync::Mutex<Negotiation>,
    shown_payload_type: u8,
    /// What may be sent.
    payload_types: PayloadTypes,
    video: Option<Arc<VideoTap>>,
    /// What can be told about the peer's video.
    feedback: Mutex<FeedbackKinds>,
}

impl Peer {
    pub(crate) fn new(
        connection: Arc<dyn PeerConnection>,
        transceiver: Arc<dyn RtpTransceiver>,
        (track, ssrc): (Arc<TrackLocalStaticRTP>, u32),
        shared: Arc<Shared>,
        negotiation: Negotiation,
        making: Making,
        video: Option<Arc<VideoTap>>,
    ) -> Self {
        Peer {
            connection,
            transceiver,
            track,
            shared,
            ssrc,
            making,
            negotiation: tokio::sync::Mutex::new(negotiation),
            shown_payload_type: codecs::shown().payload_type,
            payload_types: PayloadTypes::default(),
            video,
            feedback: Mutex::default(),
        }
    }

    pub(crate) fn shim(&self) -> Option<&Shim> {
        self.shared.shim.get().map(|shim| &**shim)
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.shared.is_closed() {
            return Err(misuse(operation, "the media peer is closed").advice("make a new one"));
        }
        Ok(())
    }

    /// The library derives the direction from the remote description and gets it wrong: it answers `sendrecv` to a
    /// hold, and stays `recvonly` after a resume. It is therefore told each time.
    pub(crate) async fn direct(&self, operation: &'static str, direction: Direction) -> Result<()> {
        let direction = match direction {
            Direction::Inactive => RTCRtpTransceiverDirection::Inactive,
            Direction::RecvOnly => RTCRtpTransceiverDirection::Recvonly,
            Direction::SendOnly => RTCRtpTransceiverDirection::Sendonly,
            Direction::SendRecv => RTCRtpTransceiverDirection::Sendrecv,
        };
        self.transceiver
            .set_direction(direction)
            .await
            .map_err(|error| failed(Fault::Backend, operation, error))
    }

    async fn apply_remote(&self, kind: SdpKind, sdp: String) -> Result<()> {
        const OPERATION: &str = "set remote description";
        let description =
            description(kind, sdp).map_err(|error| failed(Fault::PeerMisbehaved, OPERATION, error))?;
        let result = match AssertUnwindSafe(self.connection.set_remote_description(description))
            .catch_unwind()
            .await
        {
            Ok(result) => result.map_err(|error| failed(Fault::PeerMisbehaved, OPERATION, error)),
            Err(_) => Err(negotiation::panicked(OPERATION)),
        };
        if kind == SdpKind::Offer
            && result
                .as_ref()
                .is_err_and(|error| error.fault() != Fault::ApiMisuse)
        {
            // The library keeps an offer that it failed to read, and would refuse every other.
            if let Ok(rollback) = RTCSessionDescription::rollback(None) {
                let _ = self.connection.set_remote_description(rollback).await;
            }
        }
        result
    }

    /// Waits until gathering is complete, or its budget ends, once for each ICE generation.
    async fn gather(
        &self,
        state: &mut Negotiation,
        sdp: &str,
        mut gathered: tokio::sync::watch::Receiver<u64>,
    ) {
        let generation = sdp::ufrag(sdp).map(str::to_owned);
        if generation == state.gathered {
            return;
        }
        let budget = self.making.gather_budget().max(MIN_GATHER_BUDGET);
        if tokio::time::timeout(budget, gathered.changed()).await.is_err() {
            tracing::debug!(?budget, "gathering goes on; the SDP has what is there");
        }
        state.gathered = generation;
    }

    /// What was negotiated is in use from now on.
    fn use_formats(&self, state: &Negotiation) {
        let formats = state.current();
        self.payload_types
            .set(formats.iter().map(|format| format.payload_type));
        self.shared
            .reports
            .lock()
            .set_clock_rates(format::clock_rates(formats));
        if let Some(video) = &self.video {
            let types = || state.video.current().iter().map(|format| format.payload_type);
            video.payload_types.set(types());
            let clock = VideoCodec::CLOCK_RATE;
            video
                .reports
                .lock()
                .set_clock_rates(types().map(|payload_type| (payload_type, clock)));
            let element = state.video.transport_sequence().unwrap_or(0);
            video.transport_sequence.store(element, Ordering::Release);
            *self.feedback.lock() = state.video.feedback();
        }
    }

    /// A packet as the library takes it, if it may be sent.
    fn dress(&self, packet: RtpPacket) -> Result<rtp::Packet> {
        self.check_sends(&self.payload_types, packet.payload_type)?;
        Ok(self.dressed(packet))
    }

    fn check_sends(&self, allowed: &PayloadTypes, payload_type: u8) -> Result<()> {
        self.check_open(SEND)?;
        if !self.shared.is_connected() {
            return Err(misuse(SEND, "the path is not up").advice("wait for MediaEvent::Connected"));
        }
        if !allowed.has(payload_type) {
            let message = format!("payload type {payload_type} was not negotiated");
            return Err(misuse(SEND, message).advice("send what was negotiated"));
        }
        Ok(())
    }

    fn video(&self, operation: &'static str) -> Result<&VideoTap> {
        self.video.as_deref().ok_or_else(|| {
            misuse(operation, "the peer was made without video").advice("give it PeerConfig::video")
        })
    }

    /// Sends it if the library takes it at once: it waits only where its driver's queue is full.
    fn write_now(&self, packet: rtp::Packet) -> Result<()> {
        match self.track.write_rtp(packet).now_or_never() {
            Some(sent) => sent.map_err(|error| failed(Fault::Backend, SEND, error)),
            None => Err(full(SEND)),
        }
    }

    fn dressed(&self, packet: RtpPacket) -> rtp::Packet {
        let header = rtp::header::Header {
            version: 2,
            marker: packet.marker,
            payload_type: self.shown_payload_type,
            // The library sends but the payload type that it knows; the tap puts the real one from here.
            csrc: vec![u32::from(packet.payload_type)],
            sequence_number: packet.sequence,
            timestamp: packet.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        rtp::Packet {
            header,
            payload: packet.payload,
        }
    }
}

fn full(operation: &'static str) -> Error {
    Error::new(Fault::Backend, operation, "the connection's queue is full").backend(crate::NAME)
}

/// The numbers of one stream.
fn numbers(reports: &Reports) -> TransportStats {
    let (sent, received, remote) = (reports.sent(), reports.received(), reports.remote());
    TransportStats {
        packets_sent: sent.packets,
        bytes_sent: sent.bytes,
        packets_received: received.packets,
        bytes_received: received.bytes,
        // They are of the transport, not of one stream.
        discarded: Discarded::default(),
        round_trip: remote.and_then(|view| view.round_trip),
        remote_loss: remote.map(|view| view.loss),
        remote_jitter: remote.and_then(|view| view.jitter),
    }
}

#[async_trait::async_trait]
impl MediaPeer for Peer {
    async fn create_offer(&self) -> Result<String> {
        const OPERATION: &str = "create offer";
        self.check_open(OPERATION)?;
        let mut state = self.negotiation.lock().await;
        self.direct(OPERATION, state.wanted).await?;
        let offer = self
            .connection
            .create_offer(None)
            .await
            .map_err(|error| failed(Fault::Backend, OPERATION, error))?;
        Ok(state.created(offer.sdp, false, self.shim()))
    }

    async fn create_answer(&self) -> Result<String> {
        const OPERATION: &str = "create answer";
        self.check_open(OPERATION)?;
        let mut state = self.negotiation.lock().await;
        let offered = state.remote_offer.ok_or_else(|| {
            misuse(OPERATION, "there is no remote offer").advice("set the remote offer first")
        })?;
        self.direct(OPERATION, offered.answer(state.wanted)).await?;
        let answer = self
            .connection
            .create_answer(None)
            .await
            .map_err(|error| failed(Fault::PeerMisbehaved, OPERATION, error))?;
        Ok(state.created(answer.sdp, true, self.shim()))
    }

    async fn set_local(&self, kind: SdpKind, sdp: &str) -> Result<String> {
        const OPERATION: &str = "set local description";
        self.check_open(OPERATION)?;
        let mut state = self.negotiation.lock().await;
        let gathered = self.shared.gathered();
        let description = description(kind, state.original(sdp))
            .map_err(|error| failed(Fault::ApiMisuse, OPERATION, error))?;
        self.connection
            .set_local_description(description)
            .await
            .map_err(|error| failed(Fault::Backend, OPERATION, error))?;
        let candidates = match self.shim() {
            Some(shim) => Some(lines(&shim.path.gather().await)),
            None => {
                self.gather(&mut state, sdp, gathered).await;
                None
            }
        };
        self.check_open(OPERATION)?;
        state.is_out(kind);
        let local = self
            .connection
            .local_description()
            .await
            .map_or_else(|| sdp.to_owned(), |local| local.sdp);
        let is_answer = kind != SdpKind::Offer;
        if is_answer {
            state.answered(sdp::setup(sdp), kind);
        }
        let given = state.given(&local, state.version, is_answer);
        let given = match self.shim() {
            Some(shim) => shim.ours(&given, candidates.as_deref()),
            None => given,
        };
        let given = state.with_video(&given, is_answer);
        if is_answer {
            state.video.answered(kind == SdpKind::Answer);
            self.use_formats(&state);
        }
        Ok(given)
    }

    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()> {
        const OPERATION: &str = "set remote description";
        self.check_open(OPERATION)?;
        let mut state = self.negotiation.lock().await;
        let is_offer = kind == SdpKind::Offer;
        let common = state.check_remote(OPERATION, sdp, is_offer)?;
        if is_offer {
            // The library takes only a sendrecv transceiver for the sendrecv offer that it is shown.
            self.direct(OPERATION, Direction::SendRecv).await?;
        }
        let lines = state.lines();
        let hidden = match is_offer {
            true => state.video.hide_offer(sdp),
            false => state.video.hide_answer(sdp, lines),
        };
        let shown = shown::for_library(&hidden, codecs::shown());
        match self.shim() {
            Some(shim) => {
                self.apply_remote(kind, Shim::theirs(&shown)).await?;
                shim.set_remote(sdp)?;
            }
            None => self.apply_remote(kind, shown).await?,
        }
        if is_offer {
            state.offered(sdp, common);
        } else {
            state.was_answered(sdp, common);
            self.use_formats(&state);
        }
        Ok(())
    }

    async fn rollback(&self) -> Result<()> {
        const OPERATION: &str = "roll back";
        self.check_open(OPERATION)?;
        let mut state = self.negotiation.lock().await;
        if let Some(shim) = self.shim() {
            shim.path.rollback();
        }
        state.video.rollback();
        let rollback = RTCSessionDescription::rollback(None)
            .map_err(|error| failed(Fault::Backend, OPERATION, error))?;
        let result = if state.remote_offer.take().is_some() {
            self.connection.set_remote_description(rollback).await
        } else {
            self.connection.set_local_description(rollback).await
        };
        result.map_err(|error| failed(Fault::ApiMisuse, OPERATION, error))
    }

    async fn fork(&self, config: ForkConfig) -> Result<Arc<dyn MediaPeer>> {
        Ok(Arc::new(self.forked(config).await?))
    }

    async fn set_codecs(&self, codecs: &[Codec]) -> Result<()> {
        self.check_open("set codecs")?;
        self.negotiation.lock().await.set_codecs(codecs);
        Ok(())
    }

    async fn set_direction(&self, direction: Direction) -> Result<()> {
        self.check_open("set direction")?;
        self.negotiation.lock().await.wanted = direction;
        Ok(())
    }

    async fn restart_ice(&self) -> Result<()> {
        const OPERATION: &str = "restart ICE";
        self.check_open(OPERATION)?;
        if let Some(shim) = self.shim() {
            return shim.path.restart();
        }
        self.connection
            .restart_ice()
            .await
            .map_err(|error| failed(Fault::Backend, OPERATION, error))
    }

    async fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        const OPERATION: &str = "add candidate";
        self.check_open(OPERATION)?;
        if let Some(shim) = self.shim() {
            shim.path.add_remote(candidate);
            return Ok(());
        }
        let init = RTCIceCandidateInit {
            candidate: format!("candidate:{candidate}"),
            sdp_mline_index: Some(0),
            ..Default::default()
        };
        self.connection
            .add_ice_candidate(init)
            .await
            .map_err(|error| failed(Fault::PeerMisbehaved, OPERATION, error))
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        let packet = self.dress(packet)?;
        self.track
            .write_rtp(packet)
            .await
            .map_err(|error| failed(Fault::Backend, SEND, error))
    }

    fn sends_now(&self) -> bool {
        true
    }

    fn send_now(&self, packet: RtpPacket) -> Result<()> {
        self.write_now(self.dress(packet)?)
    }

    async fn set_video(&self, wish: Option<VideoWish>) -> Result<()> {
        self.check_open("set video")?;
        self.negotiation.lock().await.video.set_wanted(wish)
    }

    fn send_video(&self, packet: RtpPacket) -> Result<()> {
        let video = self.video(SEND)?;
        self.check_sends(&video.payload_types, packet.payload_type)?;
        // The library knows one stream, audio's; the tap tells them apart by the payload type.
        self.write_now(self.dressed(packet))
    }

    fn send_feedback(&self, feedback: Feedback) -> Result<()> {
        const OPERATION: &str = "send feedback";
        self.check_open(OPERATION)?;
        let kinds = *self.feedback.lock();
        let told = self.video(OPERATION)?.reports.lock().feedback(&feedback, kinds);
        let Some(told) = told.filter(|_| self.shared.is_connected()) else {
            return Ok(());
        };
        match self.track.write_rtcp(told).now_or_never() {
            Some(sent) => sent.map_err(|error| failed(Fault::Backend, OPERATION, error)),
            None => Err(full(OPERATION)),
        }
    }

    async fn stats(&self) -> TransportStats {
        let ice_round_trip = match self.shim() {
            Some(shim) => shim.path.stats().round_trip,
            None => stats::ice_round_trip(&stats::report(&*self.connection).await),
        };
        let told = numbers(&self.shared.reports.lock());
        let path = self.shim().map(|shim| shim.path.stats()).unwrap_or_default();
        let dropped = self.shared.gate.discarded();
        let discarded = Discarded {
            stranger: dropped.stranger + path.strangers,
            unknown: dropped.unknown + path.unknown,
            ..dropped
        };
        TransportStats {
            discarded,
            round_trip: told.round_trip.or(ice_round_trip),
            ..told
        }
    }

    async fn video_stats(&self) -> Option<TransportStats> {
        self.video.as_ref().map(|video| numbers(&video.reports.lock()))
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        if self.shared.is_closed() {
            return None;
        }
        match self.shim() {
            Some(shim) => shim.path.stats().pair,
            None => stats::selected_pair(&*self.connection).await,
        }
    }

    async fn close(&self) {
        if self.shared.begin_close() {
            close(&*self.connection).await;
            self.shared.close_path();
            self.shared.emit_closed();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.shared.begin_close() {
            let (connection, shared) = (self.connection.clone(), self.shared.clone());
            self.shared.handle.spawn(async move {
                close(&*connection).await;
                shared.close_path();
                shared.emit_closed();
            });
        }
    }
}

async fn close(connection: &dyn PeerConnection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "closing a media peer");
    }
}

fn lines(candidates: &[Candidate]) -> Vec<String> {
    candidates.iter().map(ToString::to_string).collect()
}

pub(crate) fn description(kind: SdpKind, sdp: String) -> rtc::shared::error::Result<RTCSessionDescription> {
    match kind {
        SdpKind::Answer => RTCSessionDescription::answer(sdp),
        SdpKind::Offer => RTCSessionDescription::offer(sdp),
        SdpKind::Pranswer => RTCSessionDescription::pranswer(sdp),
    }
}

pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message).backend(crate::NAME)
}

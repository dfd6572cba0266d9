//! One of several media peers of one offer, as one media peer.

use async_trait::async_trait;
use parking_lot::RwLock;
use siprtc_core::Result;
use siprtc_core::ice::{Candidate, CandidatePair};
use siprtc_core::media::{
    Codec, Direction, Feedback, ForkConfig, MediaPeer, RtpPacket, SdpKind, TransportStats, VideoWish,
};
use std::sync::Arc;

/// Whoever sends through it sends to the peer that is chosen at the time.
pub(crate) struct Chosen(RwLock<Arc<dyn MediaPeer>>);

impl Chosen {
    pub(crate) fn new(peer: Arc<dyn MediaPeer>) -> Self {
        Chosen(RwLock::new(peer))
    }

    pub(crate) fn choose(&self, peer: Arc<dyn MediaPeer>) {
        *self.0.write() = peer;
    }

    fn peer(&self) -> Arc<dyn MediaPeer> {
        Arc::clone(&self.0.read())
    }
}

#[async_trait]
impl MediaPeer for Chosen {
    async fn create_offer(&self) -> Result<String> {
        self.peer().create_offer().await
    }

    async fn create_answer(&self) -> Result<String> {
        self.peer().create_answer().await
    }

    async fn set_local(&self, kind: SdpKind, sdp: &str) -> Result<String> {
        self.peer().set_local(kind, sdp).await
    }

    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()> {
        self.peer().set_remote(kind, sdp).await
    }

    async fn rollback(&self) -> Result<()> {
        self.peer().rollback().await
    }

    async fn fork(&self, config: ForkConfig) -> Result<Arc<dyn MediaPeer>> {
        self.peer().fork(config).await
    }

    async fn set_codecs(&self, codecs: &[Codec]) -> Result<()> {
        self.peer().set_codecs(codecs).await
    }

    async fn set_direction(&self, direction: Direction) -> Result<()> {
        self.peer().set_direction(direction).await
    }

    async fn restart_ice(&self) -> Result<()> {
        self.peer().restart_ice().await
    }

    async fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        self.peer().add_candidate(candidate).await
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        self.peer().send(packet).await
    }

    fn sends_now(&self) -> bool {
        self.0.read().sends_now()
    }

    fn send_now(&self, packet: RtpPacket) -> Result<()> {
        self.peer().send_now(packet)
    }

    async fn set_video(&self, wish: Option<VideoWish>) -> Result<()> {
        self.peer().set_video(wish).await
    }

    fn send_video(&self, packet: RtpPacket) -> Result<()> {
        self.peer().send_video(packet)
    }

    fn send_feedback(&self, feedback: Feedback) -> Result<()> {
        self.peer().send_feedback(feedback)
    }

    async fn stats(&self) -> TransportStats {
        self.peer().stats().await
    }

    async fn video_stats(&self) -> Option<TransportStats> {
        self.peer().video_stats().await
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        self.peer().selected_pair().await
    }

    async fn close(&self) {
        self.peer().close().await;
    }
}

//! A media peer without another one: it negotiates nothing, and keeps what it is given to send.

use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::ice::CandidatePair;
use siprtc_core::media::{
    Direction, Feedback, IceMode, MediaEngine, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind,
    TransportStats, VideoPort,
};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// For tests of what is between a media peer and the rest: every description is fine with it, and the path is up unless
/// [`LonePeer::set_up`] says otherwise.
#[derive(Debug, Default)]
pub struct LonePeer {
    waits: bool,
    only_counts: bool,
    is_down: AtomicBool,
    count: AtomicU64,
    sent: Mutex<Vec<RtpPacket>>,
    shown: Mutex<Vec<RtpPacket>>,
    told: Mutex<Vec<Feedback>>,
}

impl LonePeer {
    /// One that must be waited for: it has no [`MediaPeer::send_now`].
    #[must_use]
    pub fn waiting() -> Self {
        LonePeer {
            waits: true,
            ..LonePeer::default()
        }
    }

    /// One that counts packets of audio and does not keep them: it allocates nothing.
    #[must_use]
    pub fn counting() -> Self {
        LonePeer {
            only_counts: true,
            ..LonePeer::default()
        }
    }

    /// Whether its path is up from now on.
    pub fn set_up(&self, is_up: bool) {
        self.is_down.store(!is_up, Ordering::Relaxed);
    }

    /// How many packets of audio it was given.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The packets of audio that it was given.
    #[must_use]
    pub fn sent(&self) -> Vec<RtpPacket> {
        self.sent.lock().clone()
    }

    /// The packets of video that it was given since this was asked last.
    pub fn take_shown(&self) -> Vec<RtpPacket> {
        std::mem::take(&mut self.shown.lock())
    }

    /// What it was to tell its peer of the video since this was asked last.
    pub fn take_told(&self) -> Vec<Feedback> {
        std::mem::take(&mut self.told.lock())
    }

    fn check(&self) -> Result<()> {
        match self.is_down.load(Ordering::Relaxed) {
            true => Err(Error::new(Fault::Backend, "send RTP", "the path is not up").backend("lone")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl MediaPeer for LonePeer {
    async fn create_offer(&self) -> Result<String> {
        Ok(String::new())
    }

    async fn create_answer(&self) -> Result<String> {
        Ok(String::new())
    }

    async fn set_local(&self, _: SdpKind, sdp: &str) -> Result<String> {
        Ok(sdp.to_owned())
    }

    async fn set_remote(&self, _: SdpKind, _: &str) -> Result<()> {
        Ok(())
    }

    async fn set_direction(&self, _: Direction) -> Result<()> {
        Ok(())
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        self.send_now(packet)
    }

    fn sends_now(&self) -> bool {
        !self.waits
    }

    fn send_now(&self, packet: RtpPacket) -> Result<()> {
        self.check()?;
        self.count.fetch_add(1, Ordering::Relaxed);
        if !self.only_counts {
            self.sent.lock().push(packet);
        }
        Ok(())
    }

    fn send_video(&self, packet: RtpPacket) -> Result<()> {
        self.check()?;
        self.shown.lock().push(packet);
        Ok(())
    }

    fn send_feedback(&self, feedback: Feedback) -> Result<()> {
        self.told.lock().push(feedback);
        Ok(())
    }

    async fn stats(&self) -> TransportStats {
        TransportStats::default()
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        None
    }

    async fn close(&self) {}
}

/// Has one [`LonePeer`], and gives out where its packets would come in.
pub struct LoneEngine {
    peer: Arc<LonePeer>,
    config: Mutex<Option<PeerConfig>>,
}

impl LoneEngine {
    /// An engine of this peer.
    #[must_use]
    pub fn of(peer: &Arc<LonePeer>) -> Arc<Self> {
        Arc::new(LoneEngine {
            peer: Arc::clone(peer),
            config: Mutex::default(),
        })
    }

    /// Where audio comes in, once somebody has asked for the peer.
    #[must_use]
    pub fn packets(&self) -> Option<Arc<dyn PacketSink>> {
        let config = self.config.lock();
        config.as_ref().map(|config| Arc::clone(&config.packets))
    }

    /// Where video comes in, if somebody has asked for a peer with video.
    #[must_use]
    pub fn video(&self) -> Option<Arc<dyn VideoPort>> {
        self.config.lock().as_ref()?.video.clone()
    }
}

#[async_trait]
impl MediaEngine for LoneEngine {
    fn name(&self) -> &'static str {
        "lone"
    }

    fn ice(&self) -> IceMode {
        IceMode::BuiltIn
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        *self.config.lock() = Some(config);
        Ok(Arc::clone(&self.peer) as Arc<dyn MediaPeer>)
    }
}

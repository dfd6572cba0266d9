//! A media engine whose packets carry the time at which they were sent.

use async_trait::async_trait;
use bytes::Bytes;
use siprtc_core::Result;
use siprtc_core::ice::{Candidate, CandidatePair};
use siprtc_core::media::{
    Codec, Dialect, Direction, IceMode, MediaEngine, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind,
    TransportStats,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

const MARK: &[u8; 8] = b"stamped:";
/// Octets of a packet: 20 ms of PCMU.
pub(crate) const PAYLOAD: usize = 160;

/// What became of the packets of all peers.
pub(crate) struct Seen {
    began: Instant,
    counting: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    /// µs.
    delays: Mutex<Vec<f64>>,
}

impl Seen {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Seen {
            began: Instant::now(),
            counting: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            delays: Mutex::default(),
        })
    }

    /// Packets that are sent from now on are counted, or no longer.
    pub(crate) fn count(&self, counting: bool) {
        self.counting.store(counting, Relaxed);
    }

    /// Sent, received, and how long those took, since the last time.
    pub(crate) fn take(&self) -> (u64, u64, Vec<f64>) {
        let delays = self.delays.lock().map(|mut delays| std::mem::take(&mut *delays));
        (
            self.sent.swap(0, Relaxed),
            self.received.swap(0, Relaxed),
            delays.unwrap_or_default(),
        )
    }

    fn stamp(&self, packet: RtpPacket) -> RtpPacket {
        let mut payload = vec![0x55; PAYLOAD];
        if self.counting.load(Relaxed) {
            let at = self.began.elapsed().as_nanos() as u64;
            payload[..8].copy_from_slice(MARK);
            payload[8..16].copy_from_slice(&at.to_be_bytes());
            self.sent.fetch_add(1, Relaxed);
        }
        RtpPacket {
            payload: Bytes::from(payload),
            ..packet
        }
    }

    fn read(&self, payload: &[u8]) {
        let Some((MARK, rest)) = payload.split_first_chunk::<8>() else {
            return;
        };
        if let Some((at, _)) = rest.split_first_chunk::<8>() {
            let took = self.began.elapsed().as_nanos() as u64 - u64::from_be_bytes(*at);
            self.received.fetch_add(1, Relaxed);
            if let Ok(mut delays) = self.delays.lock() {
                delays.push(took as f64 / 1e3);
            }
        }
    }
}

/// An engine around another.
pub(crate) struct Stamped {
    pub(crate) inner: Arc<dyn MediaEngine>,
    pub(crate) seen: Arc<Seen>,
}

struct Reader {
    inner: Arc<dyn PacketSink>,
    seen: Arc<Seen>,
}

impl PacketSink for Reader {
    fn push(&self, packet: RtpPacket) {
        self.seen.read(&packet.payload);
        self.inner.push(packet);
    }
}

struct Peer {
    inner: Arc<dyn MediaPeer>,
    seen: Arc<Seen>,
}

#[async_trait]
impl MediaEngine for Stamped {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn ice(&self) -> IceMode {
        self.inner.ice()
    }

    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    fn check_offer(&self, sdp: &str, codecs: &[Codec]) -> Result<()> {
        self.inner.check_offer(sdp, codecs)
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        let seen = Arc::clone(&self.seen);
        let packets = Arc::new(Reader {
            inner: config.packets,
            seen: Arc::clone(&seen),
        });
        let inner = self.inner.create_peer(PeerConfig { packets, ..config }).await?;
        Ok(Arc::new(Peer { inner, seen }))
    }
}

#[async_trait]
impl MediaPeer for Peer {
    async fn create_offer(&self) -> Result<String> {
        self.inner.create_offer().await
    }

    async fn create_answer(&self) -> Result<String> {
        self.inner.create_answer().await
    }

    async fn set_local(&self, kind: SdpKind, sdp: &str) -> Result<String> {
        self.inner.set_local(kind, sdp).await
    }

    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()> {
        self.inner.set_remote(kind, sdp).await
    }

    async fn rollback(&self) -> Result<()> {
        self.inner.rollback().await
    }

    async fn set_direction(&self, direction: Direction) -> Result<()> {
        self.inner.set_direction(direction).await
    }

    async fn restart_ice(&self) -> Result<()> {
        self.inner.restart_ice().await
    }

    async fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        self.inner.add_candidate(candidate).await
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        self.inner.send(self.seen.stamp(packet)).await
    }

    async fn stats(&self) -> TransportStats {
        self.inner.stats().await
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        self.inner.selected_pair().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

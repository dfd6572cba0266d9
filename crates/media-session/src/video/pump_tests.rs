use super::*;
use crate::video::FrameSource;
use async_trait::async_trait;
use bytes::Bytes;
use siprtc_core::ice::CandidatePair;
use siprtc_core::media::{Direction, FeedbackKinds, RtpPacket, SdpKind, TransportStats};
use siprtc_core::{Error, Fault, Result};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Its path is up when it is told so.
#[derive(Default)]
struct Peer {
    is_up: AtomicBool,
    sent: Mutex<Vec<RtpPacket>>,
}

#[async_trait]
impl MediaPeer for Peer {
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

    async fn send(&self, _: RtpPacket) -> Result<()> {
        Ok(())
    }

    fn send_video(&self, packet: RtpPacket) -> Result<()> {
        if !self.is_up.load(Ordering::Relaxed) {
            return Err(Error::new(Fault::Backend, "send", "there is no path yet"));
        }
        self.sent.lock().push(packet);
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

/// Thirty pictures a second; the first is a key frame, and each that is asked for.
#[derive(Default)]
struct Camera {
    count: AtomicU32,
    is_key_wanted: AtomicBool,
}

#[async_trait]
impl FrameSource for Camera {
    async fn next(&self, _: VideoCodec) -> Option<VideoFrame> {
        sleep(Duration::from_millis(33)).await;
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let is_key = count == 0 || self.is_key_wanted.swap(false, Ordering::Relaxed);
        let mut data = vec![0; 400];
        data[0] = u8::from(!is_key);
        Some(VideoFrame {
            data: Bytes::from(data),
            is_key,
            timestamp: count * 3_000,
        })
    }

    fn key_frame_wanted(&self) {
        self.is_key_wanted.store(true, Ordering::Relaxed);
    }
}

fn agreed(payload_type: u8) -> NegotiatedVideo {
    NegotiatedVideo {
        codec: VideoCodec::Vp8,
        payload_type,
        fragments: false,
        direction: Direction::SendRecv,
        feedback: FeedbackKinds::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_agreed_anew_before_the_path_is_up_is_what_goes_out() {
    let peer = Arc::new(Peer::default());
    let source = VideoSource::Frames(Arc::new(Camera::default()));
    let pumps = VideoPumps::start(
        VideoEnds {
            peer: peer.clone(),
            plan: VideoPlan::new(source, VideoSink::Null),
            queue: Arc::new(VideoQueue::default()),
            numbers: Arc::new(VideoNumbers::starting_at(7, 0)),
            events: Arc::new(Events::nowhere()),
        },
        agreed(96),
    );
    sleep(Duration::from_millis(200)).await;
    pumps.change(None);
    sleep(Duration::from_millis(200)).await;
    pumps.change(Some(agreed(97)));
    sleep(Duration::from_millis(200)).await;
    peer.is_up.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;
    let stats = pumps.stats();
    pumps.stop().await;
    let sent = peer.sent.lock();
    assert!(sent.iter().all(|packet| packet.payload_type == 97));
    // VP8's own first octet is the second of the payload (RFC 7741 section 4.2): its lowest bit is not set in a key frame.
    let first = sent.first().expect("something goes out");
    assert_eq!(first.payload.last(), Some(&0));
    assert!(
        first
            .payload
            .iter()
            .rev()
            .nth(399)
            .is_some_and(|octet| octet & 1 == 0),
        "a key frame first"
    );
    assert!((20..40).contains(&sent.len()), "{}", sent.len());
    assert!(stats.frames_sent >= 20, "{stats:?}");
}

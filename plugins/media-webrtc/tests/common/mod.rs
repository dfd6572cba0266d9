//! Two ends on loopback.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part of this"
)]

use bytes::Bytes;
use siprtc_core::ice::{IceConfig, IcePolicy, IceServer};
use siprtc_core::media::{
    Codec, Feedback, MediaEvent, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind, VideoPort,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longer than anything here may take; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

struct Packets(UnboundedSender<RtpPacket>);

impl PacketSink for Packets {
    fn push(&self, packet: RtpPacket) {
        let _ = self.0.send(packet);
    }
}

struct Video(UnboundedSender<RtpPacket>, UnboundedSender<Feedback>);

impl VideoPort for Video {
    fn push(&self, packet: RtpPacket) {
        let _ = self.0.send(packet);
    }

    fn feedback(&self, feedback: Feedback) {
        let _ = self.1.send(feedback);
    }
}

/// What an end is made of.
#[derive(Clone)]
pub struct Setup {
    pub codecs: Vec<Codec>,
    pub servers: Vec<IceServer>,
    pub policy: IcePolicy,
    pub budget: Duration,
    pub offer: Option<String>,
    /// Made for video.
    pub with_video: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            codecs: Codec::ALL.to_vec(),
            servers: Vec::new(),
            policy: IcePolicy::All,
            budget: Duration::from_secs(2),
            offer: None,
            with_video: false,
        }
    }
}

pub fn codecs(codecs: &[Codec]) -> Setup {
    Setup {
        codecs: codecs.to_vec(),
        ..Setup::default()
    }
}

/// One peer with all that it says.
pub struct End {
    pub peer: Arc<dyn MediaPeer>,
    pub packets: UnboundedReceiver<RtpPacket>,
    pub events: UnboundedReceiver<MediaEvent>,
    pub video: UnboundedReceiver<RtpPacket>,
    pub feedback: UnboundedReceiver<Feedback>,
    pub sequence: u16,
}

impl End {
    pub async fn new(setup: Setup) -> End {
        let (packet_sender, packets) = unbounded_channel();
        let (event_sender, events) = unbounded_channel();
        let (video_sender, video) = unbounded_channel();
        let (feedback_sender, feedback) = unbounded_channel();
        let config = PeerConfig {
            ice: IceConfig {
                bind: vec!["127.0.0.1:0".parse().unwrap()],
                servers: setup.servers,
                policy: setup.policy,
                gather_budget: setup.budget,
                paths: None,
            },
            codecs: setup.codecs,
            remote_offer: setup.offer,
            heard: None,
            video: setup
                .with_video
                .then(|| -> Arc<dyn VideoPort> { Arc::new(Video(video_sender, feedback_sender)) }),
            packets: Arc::new(Packets(packet_sender)),
            events: Arc::new(move |event| {
                let _ = event_sender.send(event);
            }),
        };
        let peer = siprtc_media_webrtc::engine().create_peer(config).await.unwrap();
        End {
            peer,
            packets,
            events,
            video,
            feedback,
            sequence: 1000,
        }
    }

    pub async fn offer(&self) -> String {
        let offer = self.peer.create_offer().await.unwrap();
        self.peer.set_local(SdpKind::Offer, &offer).await.unwrap()
    }

    pub async fn answer(&self, offer: &str) -> String {
        self.peer.set_remote(SdpKind::Offer, offer).await.unwrap();
        let answer = self.peer.create_answer().await.unwrap();
        self.peer.set_local(SdpKind::Answer, &answer).await.unwrap()
    }

    pub async fn accept(&self, answer: &str) {
        self.peer.set_remote(SdpKind::Answer, answer).await.unwrap();
    }

    /// The first event for which `wanted` has a value.
    pub async fn event<T>(&mut self, wanted: impl Fn(&MediaEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("events ended");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                if let MediaEvent::Failed(text) = event {
                    panic!("failed: {text}");
                }
            }
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .expect("the event never came")
    }

    pub async fn connected(&mut self) {
        self.event(|event| matches!(event, MediaEvent::Connected).then_some(()))
            .await;
    }

    pub fn packet(&mut self, payload_type: u8) -> RtpPacket {
        self.sequence = self.sequence.wrapping_add(1);
        RtpPacket {
            payload_type,
            marker: self.sequence.is_multiple_of(7),
            sequence: self.sequence,
            timestamp: u32::from(self.sequence) * 160,
            ssrc: 0,
            payload: Bytes::from(vec![payload_type; 20]),
        }
    }

    /// Sends one packet and waits until the other end has it.
    pub async fn reaches(&mut self, other: &mut End, payload_type: u8) {
        let sent = self.packet(payload_type);
        self.peer.send(sent.clone()).await.unwrap();
        let got = other.received().await;
        assert_eq!(RtpPacket { ssrc: 0, ..got }, sent);
    }

    /// Sends one video packet and waits until the other end has it.
    pub async fn shows(&mut self, other: &mut End, payload_type: u8) {
        let sent = self.packet(payload_type);
        self.peer.send_video(sent.clone()).unwrap();
        let got = tokio::time::timeout(PATIENCE, other.video.recv())
            .await
            .expect("no video came")
            .expect("port gone");
        assert_eq!(RtpPacket { ssrc: 0, ..got }, sent);
    }

    pub async fn told(&mut self) -> Feedback {
        tokio::time::timeout(PATIENCE, self.feedback.recv())
            .await
            .expect("no feedback came")
            .expect("port gone")
    }

    pub async fn received(&mut self) -> RtpPacket {
        tokio::time::timeout(PATIENCE, self.packets.recv())
            .await
            .expect("no packet came")
            .expect("sink gone")
    }
}

/// Connects two ends; returns them with the offer and the answer.
pub async fn connect_with(
    caller: Setup,
    callee: Setup,
    munge_offer: impl Fn(String) -> String,
    munge_answer: impl Fn(String) -> String,
) -> (End, End, String, String) {
    let mut a = End::new(caller).await;
    let offer = munge_offer(a.offer().await);
    let mut b = End::new(Setup {
        offer: Some(offer.clone()),
        ..callee
    })
    .await;
    let answer = munge_answer(b.answer(&offer).await);
    a.accept(&answer).await;
    a.connected().await;
    b.connected().await;
    (a, b, offer, answer)
}

pub async fn connect(caller: Setup, callee: Setup) -> (End, End) {
    let (a, b, _, _) = connect_with(caller, callee, |sdp| sdp, |sdp| sdp).await;
    (a, b)
}

/// Offer and answer again from `a`.
pub async fn renegotiate(a: &End, b: &End) -> (String, String) {
    let offer = a.offer().await;
    let answer = b.answer(&offer).await;
    a.accept(&answer).await;
    (offer, answer)
}

/// The payload types of the m-line, in order.
pub fn payload_types(sdp: &str) -> Vec<u8> {
    let line = sdp.lines().find(|line| line.starts_with("m=audio ")).unwrap();
    line.split_whitespace()
        .skip(3)
        .map(|word| word.parse().unwrap())
        .collect()
}

pub fn line<'a>(sdp: &'a str, prefix: &str) -> &'a str {
    sdp.lines()
        .find(|line| line.starts_with(prefix))
        .unwrap_or_else(|| panic!("no {prefix} in {sdp}"))
}

//! An INVITE that forks: two telephones with sound before anybody answers, and one that answers.

mod trickle;
mod video;

use crate::house::{SOON, event};
use bytes::Bytes;
use siprtc::core::ice::IceConfig;
use siprtc::core::media::{
    Codec, Direction, MediaEngine, MediaEvent, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind,
    VideoCodec, VideoPort, VideoWish,
};
use siprtc::core::sip::{
    ListenerConfig, Method, NameAddr, SipRequest, SipStack, SipUri, StackConfig, StackEvent, Transport, TxId,
};
use siprtc::media_session::AudioSink;
use siprtc::nat_agent::{InterfaceFilter, NatConfig, paths};
use siprtc::prelude::*;
use siprtc::registry;
use siprtc_testkit::sip::{RecordingSink, answer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use video::Screen;

/// Hears whether the voltage is up or down, and nothing else.
struct Voltmeter(watch::Sender<i64>);

impl AudioSink for Voltmeter {
    fn write(&self, _: u32, frame: &[i16]) {
        let sum: i64 = frame.iter().map(|sample| i64::from(*sample)).sum();
        let mean = sum / frame.len().max(1) as i64;
        if mean.abs() > 1_000 {
            self.0.send_replace(mean.signum());
        }
    }
}

struct Deaf;

impl PacketSink for Deaf {
    fn push(&self, _: RtpPacket) {}
}

/// One of those at whom it rings: it sends a constant voltage, in PCMU (ITU-T G.711).
struct Telephone {
    peer: Arc<dyn MediaPeer>,
    answer: String,
    speaker: tokio::task::JoinHandle<()>,
}

const UP: u8 = 0x90;
const DOWN: u8 = 0x10;

impl Drop for Telephone {
    fn drop(&mut self) {
        self.speaker.abort();
    }
}

impl Telephone {
    /// With a `screen` it shows itself and looks, too.
    async fn answering(
        engine: &Arc<dyn MediaEngine>,
        offer: &str,
        voltage: u8,
        screen: Option<Arc<Screen>>,
    ) -> Self {
        let nat = NatConfig {
            agent: registry::ice_agents().pop(),
            interfaces: InterfaceFilter {
                allow: vec!["127.0.0.1".to_owned()],
                ..InterfaceFilter::default()
            },
            ..NatConfig::default()
        };
        let (is_up, mut up) = watch::channel(false);
        let config = PeerConfig {
            ice: IceConfig {
                bind: vec!["127.0.0.1:0".parse().unwrap()],
                gather_budget: Duration::from_secs(5),
                paths: paths(&nat),
                ..IceConfig::default()
            },
            codecs: vec![Codec::Pcmu],
            remote_offer: Some(offer.to_owned()),
            heard: None,
            packets: Arc::new(Deaf),
            video: screen.clone().map(|screen| screen as Arc<dyn VideoPort>),
            events: Arc::new(move |event| {
                if matches!(event, MediaEvent::Connected) {
                    is_up.send_replace(true);
                }
            }),
        };
        let peer = engine.create_peer(config).await.unwrap();
        let wish = screen.as_ref().map(|_| VideoWish {
            direction: Direction::SendRecv,
            codecs: vec![VideoCodec::Vp8],
        });
        peer.set_video(wish).await.unwrap();
        peer.set_remote(SdpKind::Offer, offer).await.unwrap();
        let answer = peer.create_answer().await.unwrap();
        let answer = peer.set_local(SdpKind::Answer, &answer).await.unwrap();
        let speaking = peer.clone();
        if let Some(screen) = &screen {
            screen.reads(&answer);
        }
        let speaker = tokio::spawn(async move {
            let _ = up.wait_for(|up| *up).await;
            let mut clock = tokio::time::interval(Duration::from_millis(20));
            for number in 0_u16.. {
                clock.tick().await;
                let packet = RtpPacket {
                    payload_type: 0,
                    marker: number == 0,
                    sequence: number,
                    timestamp: u32::from(number) * 160,
                    ssrc: 0,
                    payload: Bytes::from(vec![voltage; 160]),
                };
                let _ = speaking.send(packet).await;
                if let Some(screen) = &screen {
                    screen.show(&*speaking, number, voltage);
                }
            }
        });
        Telephone {
            peer,
            answer,
            speaker,
        }
    }

    async fn heard(&self) -> u64 {
        self.peer.stats().await.packets_received
    }

    /// Alice is heard from now on.
    async fn is_spoken_to(&self) {
        let before = self.heard().await;
        let spoken = async {
            while self.heard().await < before + 5 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, spoken).await.expect("Alice is heard");
    }
}

/// What the two telephones are, and what Alice shows them.
struct Telephones {
    engine: Arc<dyn MediaEngine>,
    screens: [Option<Arc<Screen>>; 2],
    video: Option<VideoPlan>,
    /// What they make of her offer.
    reads: fn(&str) -> String,
}

impl Telephones {
    fn of(engine: Arc<dyn MediaEngine>) -> Self {
        Telephones {
            engine,
            screens: [None, None],
            video: None,
            reads: str::to_owned,
        }
    }
}

/// Both telephones behind the one address that Alice calls, and Alice.
struct Scene {
    stack: Arc<dyn SipStack>,
    sink: Arc<RecordingSink>,
    alice: Endpoint,
    call: Call,
    ear: watch::Receiver<i64>,
    tx: TxId,
    invite: SipRequest,
    up: Telephone,
    down: Telephone,
}

impl Scene {
    /// It rings.
    async fn new(engine: &str, policy: &str, media: &str) -> Self {
        // They answer in the words of the wire, whoever made the offer.
        let mut telephones = Telephones::of(registry::media_engine("rtp").unwrap());
        Scene::with(engine, policy, media, &mut telephones).await
    }

    async fn with(engine: &str, policy: &str, media: &str, telephones: &mut Telephones) -> Self {
        let sink = RecordingSink::with_patience(SOON);
        let config = StackConfig {
            listeners: vec![ListenerConfig {
                transport: Transport::Udp,
                bind: "127.0.0.1:0".parse().unwrap(),
                advertise: None,
            }],
            ..StackConfig::default()
        };
        let native = registry::sip_stack("native").unwrap();
        let stack = native.start(config, sink.clone()).await.unwrap();
        let config = Layers::new()
            .text("[sip]\nlisten = [\"udp:127.0.0.1:0\"]")
            .text("[ice]\nloopback = true\ninterfaces = [\"127.0.0.1\"]")
            .text(format!(
                "[media]\nengine = {engine:?}\nclassic = \"\"\ncodecs = [\"PCMU\"]\n{media}"
            ))
            .text(format!("[call]\nearly_media = {policy:?}"))
            .load()
            .unwrap();
        let alice = Endpoint::start(&config).await.unwrap();
        let target = SipUri::from_addr(stack.listeners()[0].advertised).with_user("bob");
        let (told, ear) = watch::channel(0);
        let plan = MediaPlan {
            source: Source::Tone {
                hz: 440.0,
                level_dbfs: -12.0,
            },
            sink: Sink::Samples(Arc::new(Voltmeter(told))),
            video: telephones.video.take(),
            ..MediaPlan::default()
        };
        let call = alice.dial(&target.to_string(), plan).await.unwrap();
        let (tx, invite, _) = sink.expect_request(Method::Invite).await;
        let offer = String::from_utf8(invite.body.to_vec()).unwrap();
        let offer = (telephones.reads)(&offer);
        let [screen, other] = telephones.screens.clone();
        let up = Telephone::answering(&telephones.engine, &offer, UP, screen).await;
        let down = Telephone::answering(&telephones.engine, &offer, DOWN, other).await;
        Scene {
            stack,
            sink,
            alice,
            call,
            ear,
            tx,
            invite,
            up,
            down,
        }
    }

    async fn respond(&self, status: u16, tag: &str, sdp: &str) {
        let mut response = answer(&self.invite, status, tag);
        let contact = SipUri::from_addr(self.stack.listeners()[0].advertised);
        response.headers.set("Contact", NameAddr::new(contact));
        let response = response.with_body("application/sdp", sdp.to_owned());
        self.stack.respond(self.tx, response).await.unwrap();
    }

    async fn hears(&mut self, sign: i64) {
        let heard = self.ear.wait_for(|heard| *heard == sign);
        let heard = tokio::time::timeout(SOON, heard).await;
        heard.expect("the other telephone is heard").unwrap();
    }

    /// That it stays so.
    async fn hears_only(&mut self, sign: i64) {
        self.hears(sign).await;
        // What was in the jitter buffer is over.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.hears(sign).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(*self.ear.borrow(), sign, "the other one is heard, too");
        }
    }

    /// `down` answers for good; no other INVITE follows.
    async fn the_second_answers(&mut self) {
        let sdp = self.down.answer.clone();
        self.respond(200, "down", &sdp).await;
        self.sink.expect_ack().await;
        event(&mut self.call, |kind| matches!(kind, CallEventKind::Confirmed)).await;
        self.hears_only(-1).await;
        self.down.is_spoken_to().await;
        while let Some(event) = self.sink.try_next() {
            let is_request = matches!(event, StackEvent::Request { .. });
            assert!(!is_request, "there is no re-INVITE: {event:?}");
        }
    }

    async fn end(self) {
        let sink = self.sink.clone();
        let stack = self.stack.clone();
        let over = tokio::spawn(async move {
            let (tx, bye, _) = sink.expect_request(Method::Bye).await;
            stack.respond(tx, answer(&bye, 200, "down")).await.unwrap();
        });
        self.call.hangup().await.unwrap();
        over.await.unwrap();
        self.alice.shutdown().await;
        self.stack.shutdown(Duration::ZERO).await;
    }
}

/// How Alice's media may be.
const KINDS: [(&str, &str); 5] = [
    ("webrtc", ""),
    ("rtp-web", ""),
    ("rtp", "[media.rtp]\nkeying = \"dtls\"\nice = true"),
    ("rtp", "[media.rtp]\nkeying = \"sdes\""),
    ("rtp", "[media.rtp]\nkeying = \"none\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_fork_is_heard_before_and_after_its_200_without_a_second_offer() {
    for (engine, media) in KINDS {
        let mut scene = Scene::new(engine, "latest", media).await;
        let (up, down) = (scene.up.answer.clone(), scene.down.answer.clone());
        scene.respond(183, "up", &up).await;
        scene.hears(1).await;
        scene.up.is_spoken_to().await;
        scene.respond(183, "down", &down).await;
        scene.hears_only(-1).await;
        scene.down.is_spoken_to().await;
        let before = scene.up.heard().await;
        scene.the_second_answers().await;
        assert_eq!(scene.up.heard().await, before, "Alice speaks with one of them");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_fork_is_heard_until_the_second_answers_without_a_second_offer() {
    for (engine, media) in KINDS {
        let mut scene = Scene::new(engine, "first", media).await;
        let (up, down) = (scene.up.answer.clone(), scene.down.answer.clone());
        scene.respond(183, "up", &up).await;
        scene.respond(183, "down", &down).await;
        scene.hears_only(1).await;
        scene.up.is_spoken_to().await;
        assert_eq!(scene.down.heard().await, 0);
        scene.the_second_answers().await;
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_early_media_the_200_decides() {
    for (engine, media) in KINDS {
        let mut scene = Scene::new(engine, "none", media).await;
        let (up, down) = (scene.up.answer.clone(), scene.down.answer.clone());
        scene.respond(183, "up", &up).await;
        scene.respond(183, "down", &down).await;
        scene.the_second_answers().await;
        assert_eq!(scene.up.heard().await, 0);
        scene.end().await;
    }
}

//! Silence: as comfort noise (RFC 3389) on the wire, and as what the application is told. Real engines, over loopback.

use crate::house::{SOON, config, home};
use async_trait::async_trait;
use siprtc::Parts;
use siprtc::prelude::*;
use siprtc_core::media::{
    Codec, Dialect, IceMode, MediaEngine, MediaPeer, PacketSink, PeerConfig, RtpPacket,
};
use siprtc_home_server::HomeServer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PCMU: u8 = 0;
const CN: u8 = 13;

/// What came in over an engine.
#[derive(Default)]
pub(crate) struct Seen {
    /// Packets by payload type, and the longest payload.
    packets: Mutex<BTreeMap<u8, (usize, usize)>>,
    pub(crate) offer: Mutex<Option<String>>,
}

/// An engine whose inbound packets are looked at.
struct Watched(Arc<dyn MediaEngine>, Arc<Seen>);

struct Tap(Arc<dyn PacketSink>, Arc<Seen>);

impl PacketSink for Tap {
    fn push(&self, packet: RtpPacket) {
        let mut packets = self.1.packets.lock().unwrap();
        let seen = packets.entry(packet.payload_type).or_default();
        *seen = (seen.0 + 1, seen.1.max(packet.payload.len()));
        drop(packets);
        self.0.push(packet);
    }
}

#[async_trait]
impl MediaEngine for Watched {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn ice(&self) -> IceMode {
        self.0.ice()
    }

    fn dialect(&self) -> Dialect {
        self.0.dialect()
    }

    fn check_offer(&self, sdp: &str, codecs: &[Codec]) -> Result<()> {
        self.0.check_offer(sdp, codecs)
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        self.1.offer.lock().unwrap().clone_from(&config.remote_offer);
        let packets = Arc::new(Tap(config.packets, Arc::clone(&self.1)));
        self.0.create_peer(PeerConfig { packets, ..config }).await
    }
}

pub(crate) fn media(home: &HomeServer, name: &str, text: &str) -> Config {
    let mut config = config(home, name);
    let other = Layers::new().text(text).load().unwrap();
    config.media = other.media;
    config
}

pub(crate) async fn started(config: &Config, seen: &Arc<Seen>) -> Endpoint {
    let mut parts = Parts::from_config(config).unwrap();
    parts.engine = Arc::new(Watched(parts.engine, Arc::clone(seen)));
    let endpoint = Endpoint::start_with(config, parts).await.unwrap();
    endpoint.registered(Duration::from_secs(10)).await.unwrap();
    endpoint
}

/// Alice calls, sends for two seconds, and what Bob's engine saw.
async fn two_seconds(engine: &str, [alice, bob]: [bool; 2], source: Source) -> Arc<Seen> {
    let home = home().await;
    let seen = Arc::new(Seen::default());
    let text = |comfort_noise: bool| {
        format!(
            "[media]\nengine = \"{engine}\"\nclassic = \"\"\ncodecs = [\"pcmu\"]\ncomfort_noise = {comfort_noise}\n\
             [media.rtp]\nkeying = \"none\"\n"
        )
    };
    let nobody = Arc::new(Seen::default());
    let alice = started(&media(&home, "alice", &text(alice)), &nobody).await;
    let mut bob = started(&media(&home, "bob", &text(bob)), &seen).await;
    let plan = MediaPlan {
        source,
        ..MediaPlan::default()
    };
    let mut call = alice.dial("bob", plan).await.unwrap();
    let ringing = tokio::time::timeout(SOON, bob.incoming()).await.unwrap().unwrap();
    let mut answered = ringing.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    let heard = async {
        while let Some(event) = answered.next().await {
            if matches!(event, CallEventKind::FirstPacket { inbound: true }) {
                return;
            }
        }
        panic!("the call ended first");
    };
    tokio::time::timeout(SOON, heard).await.expect("it is heard");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = answered.stats().await.unwrap();
    assert_eq!((stats.packets_lost, stats.unreadable), (0, 0), "{stats:?}");
    call.hangup().await.unwrap();
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    seen
}

fn count(seen: &Seen, payload_type: u8) -> usize {
    let packets = seen.packets.lock().unwrap();
    packets.get(&payload_type).map_or(0, |(count, _)| *count)
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_goes_out_as_comfort_noise_over_both_engines() {
    for engine in ["rtp", "webrtc"] {
        let seen = two_seconds(engine, [true, true], Source::Silence).await;
        let offer = seen.offer.lock().unwrap().clone().unwrap();
        assert!(offer.contains("a=rtpmap:13 CN/8000"), "{engine}: {offer}");
        // One every 400 ms, and no more than its level and its spectrum in each.
        let packets = seen.packets.lock().unwrap().clone();
        let (noise, longest) = packets.get(&CN).copied().unwrap_or_default();
        assert!((4..=9).contains(&noise) && longest <= 32, "{engine}: {packets:?}");
        assert_eq!(count(&seen, PCMU), 0, "{engine}: {packets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_silent_and_what_the_peer_does_not_take_is_sent_as_audio() {
    let tone = Source::Tone {
        hz: 440.0,
        level_dbfs: -12.0,
    };
    for (who, source) in [
        ([true, true], tone),
        ([true, false], Source::Silence),
        ([false, true], Source::Silence),
    ] {
        let seen = two_seconds("rtp", who, source).await;
        let packets = seen.packets.lock().unwrap().clone();
        assert!(
            count(&seen, PCMU) > 80 && count(&seen, CN) == 0,
            "{who:?}: {packets:?}"
        );
        let offer = seen.offer.lock().unwrap().clone().unwrap();
        assert_eq!(offer.contains("CN/8000"), who[0], "{offer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packet_time_that_is_configured_is_asked_for_and_sent() {
    for (engine, keying) in [("rtp", "none"), ("webrtc", "auto")] {
        // Who asks for none is sent what the other side has; who asks is sent that.
        for (of_alice, of_bob, sent) in [(40, 20, 40), (20, 60, 60), (10, 30, 30)] {
            let home = home().await;
            let seen = Arc::new(Seen::default());
            let nobody = Arc::new(Seen::default());
            let text = |ptime: u32| {
                let classic = if keying == "none" {
                    "[media.rtp]\nkeying = \"none\"\n"
                } else {
                    ""
                };
                format!(
                    "[media]\nengine = {engine:?}\nclassic = \"\"\ncodecs = [\"pcmu\"]\nptime_ms = {ptime}\n{classic}"
                )
            };
            let alice = started(&media(&home, "alice", &text(of_alice)), &nobody).await;
            let mut bob = started(&media(&home, "bob", &text(of_bob)), &seen).await;
            let plan = MediaPlan {
                source: Source::Tone {
                    hz: 440.0,
                    level_dbfs: -12.0,
                },
                ..MediaPlan::default()
            };
            let mut call = alice.dial("bob", plan).await.unwrap();
            let ringing = tokio::time::timeout(SOON, bob.incoming()).await.unwrap().unwrap();
            let answered = ringing.answer(MediaPlan::default()).await.unwrap();
            call.confirmed().await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let offer = seen.offer.lock().unwrap().clone().unwrap();
            let asked = format!("a=ptime:{of_alice}\r\n");
            assert_eq!(offer.contains(&asked), of_alice != 20, "{engine}: {offer}");
            let packets = seen.packets.lock().unwrap().clone();
            let (count, longest) = packets.get(&PCMU).copied().unwrap_or_default();
            assert!(count > 5 && longest == 8 * sent, "{engine} {sent}: {packets:?}");
            call.hangup().await.unwrap();
            drop(answered);
            alice.shutdown().await;
            bob.shutdown().await;
            home.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_falls_quiet_is_told_to_both_applications() {
    let home = home().await;
    let quiet = "[media]\nquiet_after_ms = 400\nquiet_dbov = -45.0\n";
    let nobody = Arc::new(Seen::default());
    let alice = started(&media(&home, "alice", quiet), &nobody).await;
    let mut bob = started(&media(&home, "bob", quiet), &nobody).await;
    let folder = std::env::temp_dir().join(format!("siprtc-quiet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tone.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    for n in 0..8_000u32 {
        wav.write_sample(((n as f32 * 0.3).sin() * 8_000.0) as i16)
            .unwrap();
    }
    wav.finalize().unwrap();
    let plan = MediaPlan {
        source: Source::File { path, repeat: false },
        ..MediaPlan::default()
    };
    let mut call = alice.dial("bob", plan).await.unwrap();
    let ringing = tokio::time::timeout(SOON, bob.incoming()).await.unwrap().unwrap();
    let mut answered = ringing.answer(MediaPlan::default()).await.unwrap();
    for (end, talker) in [(&mut call, Side::Local), (&mut answered, Side::Remote)] {
        let mut told = Vec::new();
        let all = async {
            while let Some(event) = end.next().await {
                match event {
                    CallEventKind::Voice { by } => told.push((by, "voice")),
                    CallEventKind::Quiet { by, since } => {
                        assert!(since >= Duration::from_millis(400), "{since:?}");
                        told.push((by, "quiet"));
                    }
                    _ => {}
                }
                if told.len() == 3 {
                    return;
                }
            }
            panic!("the call ended first");
        };
        tokio::time::timeout(SOON, all).await.expect("all is told");
        let of = |side| -> Vec<&str> {
            told.iter()
                .filter(|(by, _)| *by == side)
                .map(|(_, what)| *what)
                .collect()
        };
        let other = if talker == Side::Local {
            Side::Remote
        } else {
            Side::Local
        };
        assert_eq!((of(talker), of(other)), (vec!["voice", "quiet"], vec!["quiet"]));
    }
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    std::fs::remove_dir_all(folder).unwrap();
}

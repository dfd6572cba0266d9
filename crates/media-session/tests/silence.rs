//! Silence, packet times and stages, over the fake engine. Time is tokio's and paused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test programs, which use more of it"
)]
mod common;

use common::{End, audio, connect, folder, read_wav, speech, write_wav};
use siprtc_core::media::{Codec, NegotiatedAudio};
use siprtc_media_session::{
    AudioSink, Begin, Chain, Close, Gain, LevelMeter, Processing, QuietConfig, SessionEventKind, Sink,
    Source, Talker,
};
use siprtc_testkit::media::{FakeNetwork, Impairment};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{pause, sleep};

/// Alice's WAV of a voice, two seconds of silence and a voice; what Bob's session did and how many packets it took.
async fn voice_silence_voice(audio: NegotiatedAudio) -> (Vec<i16>, siprtc_media_session::SessionStats) {
    let codec = audio.codec;
    let folder = folder(&format!("silence-{codec}-{}", audio.ptime));
    let (music, record) = (folder.join("alice.wav"), folder.join("bob.wav"));
    let rate = codec.sample_rate();
    let mut played = speech(rate, 1.0);
    played.resize(played.len() + 2 * rate as usize, 0);
    played.extend(speech(rate, 1.0));
    write_wav(&music, rate, &played);
    let network = FakeNetwork::new(Impairment::default());
    let source = Source::File {
        path: music,
        repeat: false,
    };
    let processing = Processing {
        silence_detection: true,
        ..Processing::default()
    };
    let alice = End::processing(network.engine(), &[codec], source, Sink::Null, processing);
    let bob = End::new(
        &network,
        &[codec],
        Source::Silence,
        Sink::File { path: record.clone() },
    );
    connect(&alice, &bob, audio).await;
    while alice.count(|kind| matches!(kind, SessionEventKind::SourceEnded)) == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    alice.session.send(Close).await.unwrap().unwrap();
    sleep(Duration::from_millis(500)).await;
    let stats = bob.session.send(Close).await.unwrap().unwrap();
    let (_, recorded) = read_wav(&record);
    std::fs::remove_dir_all(folder).unwrap();
    let ratio = recorded.len() as f64 / played.len() as f64;
    assert!(
        (0.95..1.05).contains(&ratio),
        "{codec}: {} of {}",
        recorded.len(),
        played.len()
    );
    (recorded, stats)
}

#[actix_rt::test]
async fn silence_is_sent_as_comfort_noise_or_not_at_all_and_is_no_loss() {
    pause();
    for codec in Codec::ALL {
        let mut agreed = audio(codec);
        agreed.parameters.comfort_noise = (codec != Codec::Opus).then_some((13, 8_000));
        agreed.parameters.dtx = codec == Codec::Opus;
        let (_, stats) = voice_silence_voice(agreed).await;
        // Two seconds of voice, its hangover, and a packet of silence every 400 ms.
        assert!(
            (105..135).contains(&stats.packets_expected),
            "{codec}: {}",
            stats.packets_expected
        );
        assert_eq!(
            (stats.packets_lost, stats.packets_late, stats.unreadable),
            (0, 0, 0),
            "{codec}"
        );
        assert_eq!(stats.concealed, Duration::ZERO, "{codec}");
        assert!(stats.mos > 4.2, "{codec}: {}", stats.mos);
    }
}

#[actix_rt::test]
async fn silence_is_sent_as_audio_to_a_peer_that_said_nothing_of_it() {
    pause();
    let (_, stats) = voice_silence_voice(audio(Codec::Pcmu)).await;
    assert!(stats.packets_expected >= 200, "{}", stats.packets_expected);
}

#[actix_rt::test]
async fn the_packet_time_changes_in_mid_call() {
    pause();
    for codec in Codec::ALL {
        let network = FakeNetwork::new(Impairment::default());
        let source = Source::Tone {
            hz: 440.0,
            level_dbfs: -10.0,
        };
        let (sink, heard) = listener();
        let alice = End::new(&network, &[codec], source, Sink::Null);
        let bob = End::new(&network, &[codec], Source::Silence, Sink::Samples(sink));
        connect(&alice, &bob, audio(codec)).await;
        let mut expected = 0;
        for ptime in [20, 60, 10, 30, 50, 40] {
            let changed = NegotiatedAudio {
                ptime,
                ..audio(codec)
            };
            alice
                .session
                .send(Begin {
                    audio: changed,
                    video: None,
                })
                .await
                .unwrap()
                .unwrap();
            sleep(Duration::from_millis(600)).await;
            expected += 600 / u64::from(ptime);
        }
        alice.session.send(Close).await.unwrap().unwrap();
        sleep(Duration::from_millis(200)).await;
        let stats = bob.session.send(Close).await.unwrap().unwrap();
        assert!(
            stats.packets_expected.abs_diff(expected) <= 8,
            "{codec}: {}",
            stats.packets_expected
        );
        assert_eq!(
            (stats.packets_lost, stats.packets_late, stats.unreadable),
            (0, 0, 0),
            "{codec}"
        );
        let seconds = heard.lock().unwrap().len() as f64 / f64::from(codec.sample_rate());
        assert!((3.3..3.9).contains(&seconds), "{codec}: {seconds}");
    }
}

#[actix_rt::test]
async fn stages_work_on_both_ways() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let source = Source::Tone {
        hz: 440.0,
        level_dbfs: -10.0,
    };
    let mut sending = Chain::new();
    let (gain, _control) = Gain::new(-20.0);
    sending.add(gain).unwrap();
    let processing = Processing {
        sending,
        ..Processing::default()
    };
    let alice = End::processing(network.engine(), &[Codec::Pcmu], source, Sink::Null, processing);
    let mut receiving = Chain::new();
    let (meter, level) = LevelMeter::new();
    receiving.add(meter).unwrap();
    let (sink, heard) = listener();
    let processing = Processing {
        receiving,
        ..Processing::default()
    };
    let bob = End::processing(
        network.engine(),
        &[Codec::Pcmu],
        Source::Silence,
        Sink::Samples(sink),
        processing,
    );
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    sleep(Duration::from_millis(500)).await;
    assert!((level.dbov() + 33.0).abs() < 0.5, "{}", level.dbov());
    assert!(!heard.lock().unwrap().is_empty());
}

struct Keep(Arc<Mutex<Vec<i16>>>);

impl AudioSink for Keep {
    fn write(&self, _rate: u32, frame: &[i16]) {
        self.0.lock().unwrap().extend_from_slice(frame);
    }
}

fn listener() -> (Arc<Keep>, Arc<Mutex<Vec<i16>>>) {
    let heard: Arc<Mutex<Vec<i16>>> = Arc::default();
    (Arc::new(Keep(Arc::clone(&heard))), heard)
}

#[actix_rt::test]
async fn who_falls_quiet_and_who_is_heard_again_is_told_at_both_ends() {
    pause();
    let folder = folder("quiet");
    let path = folder.join("alice.wav");
    let mut played = speech(8_000, 1.0);
    played.resize(3 * 8_000, 0);
    played.extend(speech(8_000, 1.0));
    write_wav(&path, 8_000, &played);
    let processing = || Processing {
        quiet: Some(QuietConfig {
            dbov: -50.0,
            after: Duration::from_millis(500),
        }),
        ..Processing::default()
    };
    let network = FakeNetwork::new(Impairment::default());
    let codecs = [Codec::Pcmu];
    let source = Source::File { path, repeat: false };
    let alice = End::processing(network.engine(), &codecs, source, Sink::Null, processing());
    let bob = End::processing(
        network.engine(),
        &codecs,
        Source::Silence,
        Sink::Null,
        processing(),
    );
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    sleep(Duration::from_secs(6)).await;
    let told = |end: &End, whom: Talker| -> Vec<bool> {
        let of = |kind| match kind {
            SessionEventKind::Quiet { who, since } if who == whom => {
                assert!(
                    since >= Duration::from_millis(500) && since < Duration::from_millis(700),
                    "{since:?}"
                );
                Some(true)
            }
            SessionEventKind::Voice { who } if who == whom => Some(false),
            _ => None,
        };
        end.told().into_iter().filter_map(of).collect()
    };
    let alices = [false, true, false, true];
    assert_eq!(told(&alice, Talker::Us), alices);
    assert_eq!(told(&bob, Talker::Peer), alices);
    assert_eq!(told(&alice, Talker::Peer), [true]);
    assert_eq!(told(&bob, Talker::Us), [true]);
    std::fs::remove_dir_all(folder).unwrap();
}

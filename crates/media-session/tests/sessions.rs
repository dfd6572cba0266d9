//! Sessions over the fake engine. Time is tokio's and paused, so that minutes of audio pass in a moment; one test runs
//! at real pace.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test program, which uses more of it"
)]
mod common;

use common::{End, audio, connect, correlation, folder, read_wav, speech, write_wav};
use siprtc_core::Fault;
use siprtc_core::media::{Codec, Direction, NegotiatedAudio};
use siprtc_media_session::{
    AddCandidates, AnswerOffer, AudioSink, Begin, Close, CreateOffer, Fork, SendDtmf, SessionEventKind, Sink,
    Snapshot, Source,
};
use siprtc_testkit::media::{FakeNetwork, Impairment};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{pause, sleep};

/// Alice plays a WAV of `seconds`, Bob records it: what was played, what was recorded at its rate, and Bob's numbers.
async fn play_and_record(
    network: &Arc<FakeNetwork>,
    codec: Codec,
    seconds: f64,
    name: &str,
) -> (Vec<i16>, Vec<i16>, siprtc_media_session::SessionStats) {
    let folder = folder(&format!("{name}-{codec}"));
    let (music, record) = (folder.join("alice.wav"), folder.join("bob.wav"));
    let played = speech(codec.sample_rate(), seconds);
    write_wav(&music, codec.sample_rate(), &played);
    let alice = End::new(
        network,
        &[codec],
        Source::File {
            path: music,
            repeat: false,
        },
        Sink::Null,
    );
    let bob = End::new(
        network,
        &[codec],
        Source::Silence,
        Sink::File { path: record.clone() },
    );
    connect(&alice, &bob, audio(codec)).await;
    while alice.count(|kind| matches!(kind, SessionEventKind::SourceEnded)) == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    alice.session.send(Close).await.unwrap().unwrap();
    sleep(Duration::from_millis(500)).await;
    let stats = bob.session.send(Close).await.unwrap().unwrap();
    let (rate, recorded) = read_wav(&record);
    assert_eq!(rate, codec.sample_rate());
    std::fs::remove_dir_all(folder).unwrap();
    (played, recorded, stats)
}

fn assert_faithful(codec: Codec, played: &[i16], recorded: &[i16], least: f64) {
    let rate = codec.sample_rate() as usize;
    let ratio = recorded.len() as f64 / played.len() as f64;
    assert!(
        (0.97..1.06).contains(&ratio),
        "{codec}: {} of {}",
        recorded.len(),
        played.len()
    );
    let alike = correlation(played, recorded, rate / 10);
    assert!(alike > least, "{codec}: {alike}");
}

#[actix_rt::test]
async fn what_bob_records_at_real_pace_is_what_alice_plays() {
    let network = FakeNetwork::new(Impairment::default());
    let calls = Codec::ALL.map(|codec| {
        let network = Arc::clone(&network);
        actix_rt::spawn(async move { (codec, play_and_record(&network, codec, 3.0, "real").await) })
    });
    for call in calls {
        let (codec, (played, recorded, stats)) = call.await.unwrap();
        assert_faithful(codec, &played, &recorded, 0.93);
        assert_eq!((stats.packets_lost, stats.queue_dropped), (0, 0), "{codec}");
    }
}

#[actix_rt::test]
async fn a_recording_of_a_clean_call_has_no_concealment_and_no_drift() {
    pause();
    for codec in Codec::ALL {
        let network = FakeNetwork::new(Impairment::default());
        let (played, recorded, stats) = play_and_record(&network, codec, 20.0, "clean").await;
        assert_faithful(codec, &played, &recorded, 0.95);
        assert_eq!(stats.packets_lost + stats.packets_late + stats.duplicates, 0);
        assert_eq!(stats.concealed, Duration::ZERO, "{codec}");
        assert!(stats.mos > 4.2, "{codec}: {}", stats.mos);
        assert_eq!(
            stats.recorded.as_millis(),
            recorded.len() as u128 * 1_000 / u128::from(codec.sample_rate())
        );
    }
}

#[actix_rt::test]
async fn five_percent_of_loss_are_counted_and_concealed_and_the_recording_keeps_its_time() {
    pause();
    for codec in Codec::ALL {
        let network = FakeNetwork::new(Impairment {
            loss: 0.05,
            seed: 11,
            ..Impairment::default()
        });
        let (played, recorded, stats) = play_and_record(&network, codec, 20.0, "loss").await;
        assert!((0.02..0.09).contains(&stats.loss), "{codec}: {}", stats.loss);
        assert_eq!(
            stats.packets_lost,
            (stats.loss * stats.packets_expected as f64).round() as u64
        );
        let concealed = stats.concealed.as_secs_f64() / 20.0;
        assert!((0.02..0.13).contains(&concealed), "{codec}: {concealed}");
        assert!(stats.mos < 4.2, "{codec}: {}", stats.mos);
        assert_faithful(codec, &played, &recorded, 0.85);
    }
}

#[actix_rt::test]
async fn jitter_is_measured_and_bridged() {
    pause();
    for codec in Codec::ALL {
        let network = FakeNetwork::new(Impairment {
            delay: Duration::from_millis(30),
            jitter: Duration::from_millis(40),
            seed: 3,
            ..Impairment::default()
        });
        let (played, recorded, stats) = play_and_record(&network, codec, 10.0, "jitter").await;
        assert_eq!(stats.packets_lost, 0, "{codec}");
        // Uniform over 40 ms: the mean distance of two packets is a third of that.
        assert!(
            (8..20).contains(&stats.jitter.as_millis()),
            "{codec}: {:?}",
            stats.jitter
        );
        assert_eq!(stats.round_trip, Some(Duration::from_millis(60)));
        assert_faithful(codec, &played, &recorded, 0.93);
    }
}

#[actix_rt::test]
async fn packets_that_overtake_each_other_or_come_twice_are_not_heard() {
    pause();
    let network = FakeNetwork::new(Impairment {
        reordered: 0.1,
        duplicates: 0.1,
        seed: 5,
        ..Impairment::default()
    });
    let (played, recorded, stats) = play_and_record(&network, Codec::Pcmu, 10.0, "order").await;
    assert_eq!((stats.packets_lost, stats.packets_late), (0, 0));
    assert!((20..90).contains(&stats.duplicates), "{}", stats.duplicates);
    assert_faithful(Codec::Pcmu, &played, &recorded, 0.98);
}

#[actix_rt::test]
async fn with_nobody_listening_packets_are_still_counted_and_judged() {
    pause();
    let network = FakeNetwork::new(Impairment {
        loss: 0.1,
        jitter: Duration::from_millis(30),
        seed: 2,
        ..Impairment::default()
    });
    let alice = End::new(&network, &[Codec::Opus], Source::Silence, Sink::Null);
    let bob = End::new(&network, &[Codec::Opus], Source::Silence, Sink::Null);
    connect(&alice, &bob, audio(Codec::Opus)).await;
    sleep(Duration::from_secs(20)).await;
    let stats = bob.session.send(Snapshot).await.unwrap().unwrap();
    assert!(
        (990..=1_000).contains(&stats.packets_expected),
        "{}",
        stats.packets_expected
    );
    assert!((0.06..0.15).contains(&stats.loss), "{}", stats.loss);
    assert!(stats.concealed > Duration::from_secs(1), "{:?}", stats.concealed);
    assert!(stats.transport.packets_sent >= 990 && stats.selected_pair.is_some());
}

#[actix_rt::test]
async fn digits_go_both_ways_over_every_codec() {
    pause();
    for codec in Codec::ALL {
        let network = FakeNetwork::new(Impairment {
            loss: 0.05,
            seed: 9,
            ..Impairment::default()
        });
        let alice = End::new(
            &network,
            &[codec],
            Source::Tone {
                hz: 300.0,
                level_dbfs: -20.0,
            },
            Sink::Null,
        );
        let bob = End::new(&network, &[codec], Source::Silence, Sink::Null);
        connect(&alice, &bob, audio(codec)).await;
        sleep(Duration::from_millis(100)).await;
        let digits = |digits: &str| SendDtmf {
            digits: digits.into(),
            duration_ms: 100,
        };
        alice.session.send(digits("123*")).await.unwrap().unwrap();
        bob.session.send(digits("A0#,9")).await.unwrap().unwrap();
        sleep(Duration::from_secs(4)).await;
        let heard = |end: &End| {
            let digit = |kind| match kind {
                SessionEventKind::Dtmf { digit, duration } => Some((digit, duration)),
                _ => None,
            };
            end.told().into_iter().filter_map(digit).collect::<Vec<_>>()
        };
        let text = |end: &End| heard(end).iter().map(|(digit, _)| *digit).collect::<String>();
        assert_eq!(
            (text(&bob).as_str(), text(&alice).as_str()),
            ("123*", "A0#9"),
            "{codec}"
        );
        assert!(
            heard(&bob)
                .iter()
                .all(|(_, duration)| *duration == Duration::from_millis(100))
        );
    }
}

#[actix_rt::test]
async fn digits_are_refused_when_the_peer_does_not_take_them_or_we_do_not_send() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    let bob = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    let plain = NegotiatedAudio {
        telephone_event: None,
        ..audio(Codec::Pcmu)
    };
    connect(&alice, &bob, plain).await;
    let fault = async |digits: &str| {
        let message = SendDtmf {
            digits: digits.into(),
            duration_ms: 100,
        };
        alice.session.send(message).await.unwrap().unwrap_err().fault()
    };
    assert_eq!(fault("1").await, Fault::PeerIncompatible);
    let held = NegotiatedAudio {
        direction: Direction::RecvOnly,
        ..audio(Codec::Pcmu)
    };
    alice
        .session
        .send(Begin {
            audio: held,
            video: None,
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fault("1").await, Fault::ApiMisuse);
    alice
        .session
        .send(Begin {
            audio: audio(Codec::Pcmu),
            video: None,
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fault("x").await, Fault::ApiMisuse);
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn a_full_disk_is_told_once_and_the_call_goes_on() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(
        &network,
        &[Codec::Opus],
        Source::Tone {
            hz: 440.0,
            level_dbfs: -10.0,
        },
        Sink::Null,
    );
    let bob = End::new(
        &network,
        &[Codec::Opus],
        Source::Silence,
        Sink::File {
            path: "/dev/full".into(),
        },
    );
    connect(&alice, &bob, audio(Codec::Opus)).await;
    sleep(Duration::from_secs(5)).await;
    let failures: Vec<_> = bob
        .told()
        .into_iter()
        .filter_map(|kind| match kind {
            SessionEventKind::SinkFailed { error } => Some(error.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0].contains("/dev/full") && failures[0].contains("room"),
        "{failures:?}"
    );
    let before = bob
        .session
        .send(Snapshot)
        .await
        .unwrap()
        .unwrap()
        .packets_expected;
    sleep(Duration::from_secs(1)).await;
    let stats = bob.session.send(Close).await.unwrap().unwrap();
    assert!(
        stats.packets_expected >= before + 45,
        "{} after {before}",
        stats.packets_expected
    );
    assert_eq!(stats.recorded, Duration::ZERO);
}

#[actix_rt::test]
async fn files_that_cannot_be_used_are_told_before_an_offer_or_answer_is_made() {
    let network = FakeNetwork::new(Impairment::default());
    let file = |path: &str| Source::File {
        path: path.into(),
        repeat: false,
    };
    let no_wav = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (source, sink) in [
        (file("/nonexistent/a.wav"), Sink::Null),
        (file(no_wav), Sink::Null),
        (
            Source::Silence,
            Sink::File {
                path: "/nonexistent/b.wav".into(),
            },
        ),
        (Source::Silence, Sink::File { path: "/".into() }),
    ] {
        let end = End::new(&network, &[Codec::Pcmu], source, sink);
        let error = end.session.send(CreateOffer).await.unwrap().unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
        let error = end
            .session
            .send(AnswerOffer { sdp: "v=0".into() })
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
        assert!(error.next_step().is_some(), "{error}");
    }
    assert_eq!(network.open_peers(), 0);
}

#[actix_rt::test]
async fn a_peer_that_vanishes_is_told_once_per_silence() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    let bob = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    let silences = |end: &End| end.count(|kind| matches!(kind, SessionEventKind::NoMedia { .. }));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(silences(&bob), 0);
    network.cut(true);
    sleep(Duration::from_secs(9)).await;
    assert_eq!(silences(&bob), 0);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(silences(&bob), 1);
    network.cut(false);
    sleep(Duration::from_secs(1)).await;
    network.cut(true);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(silences(&bob), 2);
    // On hold nothing is expected.
    let held = NegotiatedAudio {
        direction: Direction::SendOnly,
        ..audio(Codec::Pcmu)
    };
    alice
        .session
        .send(Begin {
            audio: held,
            video: None,
        })
        .await
        .unwrap()
        .unwrap();
    let before = silences(&alice);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(silences(&alice), before);
}

#[actix_rt::test]
async fn a_pause_in_the_middle_is_kept_and_silence_at_the_end_is_not_recorded() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let record = folder("pause").join("bob.wav");
    let alice = End::new(
        &network,
        &[Codec::Pcmu],
        Source::Tone {
            hz: 440.0,
            level_dbfs: -10.0,
        },
        Sink::Null,
    );
    let bob = End::new(
        &network,
        &[Codec::Pcmu],
        Source::Silence,
        Sink::File { path: record.clone() },
    );
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    for (cut, seconds) in [(false, 3), (true, 7), (false, 2), (true, 30)] {
        network.cut(cut);
        sleep(Duration::from_secs(seconds)).await;
    }
    bob.session.send(Close).await.unwrap().unwrap();
    let (_, recorded) = read_wav(&record);
    assert!(
        recorded.len().abs_diff(12 * 8_000) < 8_000 / 5,
        "{}",
        recorded.len()
    );
    let loud = |from: usize, to: usize| {
        recorded[from * 8_000..to * 8_000]
            .iter()
            .filter(|s| s.unsigned_abs() > 500)
            .count()
    };
    assert!(loud(1, 2) > 6_000 && loud(4, 9) == 0 && loud(10, 11) > 4_000);
    std::fs::remove_dir_all(record.parent().unwrap()).unwrap();
}

#[actix_rt::test]
async fn the_codec_may_change_in_the_middle_of_a_call() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let record = folder("change").join("bob.wav");
    let codecs = [Codec::Opus, Codec::Pcmu, Codec::G722];
    let alice = End::new(
        &network,
        &codecs,
        Source::Tone {
            hz: 400.0,
            level_dbfs: -10.0,
        },
        Sink::Null,
    );
    let bob = End::new(
        &network,
        &codecs,
        Source::Silence,
        Sink::File { path: record.clone() },
    );
    connect(&alice, &bob, audio(Codec::Opus)).await;
    for codec in [Codec::Opus, Codec::Pcmu, Codec::G722, Codec::Opus] {
        for end in [&bob, &alice] {
            end.session
                .send(Begin {
                    audio: audio(codec),
                    video: None,
                })
                .await
                .unwrap()
                .unwrap();
        }
        sleep(Duration::from_secs(2)).await;
    }
    let stats = bob.session.send(Close).await.unwrap().unwrap();
    assert_eq!(stats.codec, Some(Codec::Opus));
    assert_eq!(stats.packets_lost, 0);
    let (rate, recorded) = read_wav(&record);
    assert_eq!(rate, 48_000);
    assert!(
        recorded.len().abs_diff(8 * 48_000) < 48_000 / 2,
        "{}",
        recorded.len()
    );
    // Every second of it sounds at 400 Hz.
    for second in recorded.chunks_exact(48_000) {
        let crossings = second
            .windows(2)
            .filter(|pair| pair[0] < 0 && pair[1] >= 0)
            .count();
        assert!((330..=420).contains(&crossings), "{crossings}");
    }
    std::fs::remove_dir_all(record.parent().unwrap()).unwrap();
}

struct Ears(Mutex<(u32, Vec<i16>)>);

impl AudioSink for Ears {
    fn write(&self, rate: u32, frame: &[i16]) {
        let mut heard = self.0.lock().unwrap();
        heard.0 = rate;
        heard.1.extend_from_slice(frame);
    }
}

#[actix_rt::test]
async fn an_application_hears_a_clean_call_as_it_was_sent() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let folder = folder("ears");
    let music = folder.join("alice.wav");
    let played = speech(16_000, 10.0);
    write_wav(&music, 16_000, &played);
    let ears = Arc::new(Ears(Mutex::default()));
    let alice = End::new(
        &network,
        &[Codec::G722],
        Source::File {
            path: music,
            repeat: true,
        },
        Sink::Null,
    );
    let bob = End::new(
        &network,
        &[Codec::G722],
        Source::Silence,
        Sink::Samples(Arc::clone(&ears) as Arc<_>),
    );
    connect(&alice, &bob, audio(Codec::G722)).await;
    sleep(Duration::from_secs(10)).await;
    bob.session.send(Close).await.unwrap().unwrap();
    let heard = ears.0.lock().unwrap();
    assert_eq!(heard.0, 16_000);
    let alike = correlation(&played[..heard.1.len()], &heard.1, 1_600);
    assert!(alike > 0.95, "{alike}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[actix::test]
async fn the_first_packet_goes_out_in_the_moment_in_which_the_path_comes_up() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let engine = network.engine();
    engine.need_candidate(7);
    let codecs = [Codec::Pcmu];
    let alice = End::over(
        engine,
        &codecs,
        Source::Tone {
            hz: 440.0,
            level_dbfs: -20.0,
        },
        Sink::Null,
    );
    let bob = End::new(&network, &codecs, Source::Silence, Sink::Null);
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    // Between two packet times.
    sleep(Duration::from_millis(47)).await;
    let sent = || alice.count(|kind| matches!(kind, SessionEventKind::FirstPacketSent));
    assert_eq!(sent(), 0);
    let candidates = vec!["1 1 UDP 1 192.0.2.1 7 typ host".parse().unwrap()];
    alice
        .session
        .send(AddCandidates {
            fork: Fork::FIRST,
            candidates,
        })
        .await
        .unwrap()
        .unwrap();
    sleep(Duration::from_millis(2)).await;
    assert_eq!(sent(), 1);
}

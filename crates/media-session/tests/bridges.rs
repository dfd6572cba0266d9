//! Sessions joined: two by a bridge, three by a conference; and their recordings. Over the fake engine, in paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test program, which uses more of it"
)]
mod common;

use common::{End, audio, connect, correlation, folder, read_wav, speech, write_wav};
use siprtc_core::media::{Codec, Direction, NegotiatedAudio};
use siprtc_core::{CallId, Fault};
use siprtc_media_session::{
    Begin, Bridge, BridgeConfig, Carriage, Close, Confer, Conference, ConferenceConfig, Join, OnEnd, Part,
    PartedBy, Record, SendDtmf, SessionEventKind, Sides, Sink, Snapshot, Source, StopRecording,
};
use siprtc_testkit::media::{FakeNetwork, Impairment};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{pause, sleep};

fn tone(hz: f32) -> Source {
    Source::Tone { hz, level_dbfs: -6.0 }
}

/// A peer with its own end, and the leg of ours that it talks to.
struct Leg {
    peer: End,
    own: End,
    file: PathBuf,
}

impl Leg {
    /// A peer that plays `source` and records what it hears; our own side plays a tone of 300 Hz until it is joined.
    async fn of(network: &Arc<FakeNetwork>, agreed: NegotiatedAudio, source: Source, file: PathBuf) -> Self {
        let sink = Sink::File { path: file.clone() };
        let codecs = [agreed.codec];
        let peer = End::new(network, &codecs, source, sink);
        let own = End::new(network, &codecs, tone(300.0), Sink::Null);
        connect(&peer, &own, agreed).await;
        Leg { peer, own, file }
    }

    /// Ends, and gives what the peer heard.
    async fn close(self) -> (u32, Vec<i16>) {
        self.own.session.send(Close).await.unwrap().unwrap();
        sleep(Duration::from_millis(300)).await;
        let stats = self.peer.session.send(Close).await.unwrap().unwrap();
        assert_eq!(
            (stats.packets_lost, stats.duplicates),
            (0, 0),
            "the peer saw one stream, whole"
        );
        // While codecs change, a packet of the old one may be under way.
        assert!(stats.unreadable < 4, "{}", stats.unreadable);
        read_wav(&self.file)
    }
}

async fn join(first: &Leg, second: &Leg, config: BridgeConfig) -> Bridge {
    let (bridge, [one, other]) = Bridge::between([CallId::fresh(), CallId::fresh()], config);
    first.own.session.send(Join { end: one }).await.unwrap().unwrap();
    second
        .own
        .session
        .send(Join { end: other })
        .await
        .unwrap()
        .unwrap();
    bridge
}

/// How alike a piece of what was heard is to a tone, whatever its phase.
fn share(hz: f64, rate: u32, heard: &[i16]) -> f64 {
    let (mut sine, mut cosine, mut power) = (0.0, 0.0, 1e-9);
    for (index, sample) in heard.iter().enumerate() {
        let angle = index as f64 * std::f64::consts::TAU * hz / f64::from(rate);
        let sample = f64::from(*sample);
        sine += sample * angle.sin();
        cosine += sample * angle.cos();
        power += sample * sample;
    }
    ((sine * sine + cosine * cosine) * 2.0 / (power * heard.len().max(1) as f64)).sqrt()
}

fn piece(heard: &[i16], rate: u32, from: f64, to: f64) -> &[i16] {
    let at = |seconds: f64| ((seconds * f64::from(rate)) as usize).min(heard.len());
    &heard[at(from)..at(to)]
}

fn parted(end: &End) -> Vec<(PartedBy, bool)> {
    let of = |kind: SessionEventKind| match kind {
        SessionEventKind::Parted { by, hang_up } => Some((by, hang_up)),
        _ => None,
    };
    end.told().into_iter().filter_map(of).collect()
}

fn carriages(end: &End) -> Vec<(Carriage, Carriage)> {
    let of = |kind: SessionEventKind| match kind {
        SessionEventKind::Bridged {
            from_peer, to_peer, ..
        } => Some((from_peer, to_peer)),
        _ => None,
    };
    end.told().into_iter().filter_map(of).collect()
}

#[actix_rt::test]
async fn what_one_peer_says_the_other_hears_both_ways_whatever_the_codecs() {
    pause();
    let opus_low = NegotiatedAudio {
        telephone_event: Some((96, 48_000)),
        ptime: 40,
        ..audio(Codec::Opus)
    };
    for (first, second, carriage, least) in [
        (
            audio(Codec::Pcmu),
            audio(Codec::Pcmu),
            Carriage::PassThrough,
            0.99,
        ),
        (
            audio(Codec::Opus),
            audio(Codec::Opus),
            Carriage::PassThrough,
            0.97,
        ),
        (audio(Codec::Opus), audio(Codec::Pcmu), Carriage::Transcoded, 0.9),
        (opus_low, audio(Codec::G722), Carriage::Transcoded, 0.9),
    ] {
        let network = FakeNetwork::new(Impairment::default());
        let folder = folder(&format!("bridge-{}-{}", first.codec, second.codec));
        let files = [folder.join("one.wav"), folder.join("other.wav")];
        let voices = [speech(8_000, 6.0), speech(8_000, 6.3).into_iter().rev().collect()];
        let says = |index: usize| {
            let path = folder.join(format!("says{index}.wav"));
            write_wav(&path, 8_000, &voices[index]);
            Source::File { path, repeat: false }
        };
        let one = Leg::of(&network, first, says(0), files[0].clone()).await;
        let other = Leg::of(&network, second, says(1), files[1].clone()).await;
        let bridge = join(&one, &other, BridgeConfig::default()).await;
        sleep(Duration::from_secs(7)).await;
        assert_eq!(bridge.carriage(), Some([carriage; 2]));
        let stats = bridge.stats();
        for way in stats {
            assert!(way.packets.sent > 100, "{stats:?}");
            assert_eq!((way.queue_dropped, way.packets.unreadable), (0, 0));
        }
        for (leg, voice) in [(one, &voices[1]), (other, &voices[0])] {
            assert_eq!(carriages(&leg.own), [(carriage, carriage)]);
            let (rate, heard) = leg.close().await;
            let heard: Vec<i16> = heard.iter().step_by(rate as usize / 8_000).copied().collect();
            let alike = correlation(&voice[..40_000], &heard, 4_000);
            assert!(alike > least, "{} to {}: {alike}", first.codec, second.codec);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[actix_rt::test]
async fn sources_wait_while_bridged_and_go_on_in_the_same_stream() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let folder = folder("part");
    let one = Leg::of(&network, audio(Codec::Pcmu), tone(700.0), folder.join("one.wav")).await;
    let other = Leg::of(
        &network,
        audio(Codec::Pcmu),
        tone(1_100.0),
        folder.join("other.wav"),
    )
    .await;
    sleep(Duration::from_secs(2)).await;
    let bridge = join(&one, &other, BridgeConfig::default()).await;
    sleep(Duration::from_secs(2)).await;
    other.own.session.send(Part).await.unwrap().unwrap();
    sleep(Duration::from_secs(2)).await;
    let again = other.own.session.send(Part).await.unwrap().unwrap_err();
    assert_eq!(again.fault(), Fault::ApiMisuse);
    assert_eq!(bridge.carriage(), None);
    for leg in [&one, &other] {
        assert_eq!(parted(&leg.own), [(PartedBy::Application, false)]);
    }
    // Once more, and this time the other leg ends.
    join(&one, &other, BridgeConfig::default()).await;
    sleep(Duration::from_secs(2)).await;
    other.close().await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(parted(&one.own)[1..], [(PartedBy::OtherEnded, false)]);
    let (rate, heard) = one.close().await;
    for (from, hz) in [
        (0.3, 300.0),
        (2.3, 1_100.0),
        (4.3, 300.0),
        (6.3, 1_100.0),
        (8.6, 300.0),
    ] {
        let share = share(hz, rate, piece(&heard, rate, from, from + 1.2));
        assert!(share > 0.95, "{hz} Hz at {from} s: {share}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[actix_rt::test]
async fn a_codec_that_changes_in_the_middle_changes_how_packets_go() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let folder = folder("change");
    let pcmu = audio(Codec::Pcmu);
    let one = Leg::of(&network, pcmu, tone(700.0), folder.join("one.wav")).await;
    let other = Leg::of(&network, pcmu, tone(1_100.0), folder.join("other.wav")).await;
    let bridge = join(&one, &other, BridgeConfig::default()).await;
    sleep(Duration::from_secs(2)).await;
    let renegotiate = async |leg: &Leg, audio: NegotiatedAudio| {
        leg.peer
            .session
            .send(Begin { audio, video: None })
            .await
            .unwrap()
            .unwrap();
        leg.own
            .session
            .send(Begin { audio, video: None })
            .await
            .unwrap()
            .unwrap();
    };
    for (leg, audio, carriage) in [
        (&one, audio(Codec::Opus), Carriage::Transcoded),
        (&other, audio(Codec::Opus), Carriage::PassThrough),
        (&other, pcmu, Carriage::Transcoded),
    ] {
        renegotiate(leg, audio).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(bridge.carriage(), Some([carriage; 2]));
    }
    // One side is put on hold by us: nothing is carried to it, or from it.
    let held = NegotiatedAudio {
        direction: Direction::Inactive,
        ..pcmu
    };
    other
        .own
        .session
        .send(Begin {
            audio: held,
            video: None,
        })
        .await
        .unwrap()
        .unwrap();
    let before = bridge.stats()[1].packets.sent;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bridge.carriage(), Some([Carriage::Held; 2]));
    assert_eq!(bridge.stats()[1].packets.sent, before);
    other
        .own
        .session
        .send(Begin {
            audio: pcmu,
            video: None,
        })
        .await
        .unwrap()
        .unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(carriages(&one.own).len(), 6);
    for (leg, hz) in [(one, 1_100.0), (other, 700.0)] {
        let (rate, heard) = leg.close().await;
        for from in [0.5, 2.5, 4.5, 6.5, 9.7] {
            let share = share(hz, rate, piece(&heard, rate, from, from + 1.0));
            assert!(share > 0.93, "{hz} Hz at {from} s: {share}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[actix_rt::test]
async fn a_recording_of_a_bridged_call_has_both_peers_aligned_in_time() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    for (codec, second) in [(Codec::Pcmu, Codec::Pcmu), (Codec::G722, Codec::Pcma)] {
        let folder = folder(&format!("record-{codec}"));
        let one = Leg::of(&network, audio(codec), tone(700.0), folder.join("one.wav")).await;
        let other = Leg::of(&network, audio(second), tone(1_100.0), folder.join("other.wav")).await;
        sleep(Duration::from_millis(500)).await;
        let path = folder.join("both.wav");
        let record = Record {
            path: path.clone(),
            sides: Sides::Both,
        };
        one.own.session.send(record).await.unwrap().unwrap();
        sleep(Duration::from_secs(2)).await;
        let bridge = join(&one, &other, BridgeConfig::default()).await;
        sleep(Duration::from_secs(2)).await;
        one.own.session.send(Part).await.unwrap().unwrap();
        sleep(Duration::from_secs(2)).await;
        let recorded = one.own.session.send(StopRecording).await.unwrap().unwrap();
        assert!(recorded.as_millis().abs_diff(6_000) < 200, "{recorded:?}");
        let twice = one.own.session.send(StopRecording).await.unwrap().unwrap_err();
        assert_eq!(twice.fault(), Fault::ApiMisuse);
        drop(bridge);
        let reader = hound::WavReader::open(&path).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate), (2, codec.sample_rate()));
        let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
        let side = |side: usize| {
            samples
                .iter()
                .skip(side)
                .step_by(2)
                .copied()
                .collect::<Vec<i16>>()
        };
        let (left, right) = (side(0), side(1));
        let rate = spec.sample_rate;
        for (from, hz) in [(0.2, 300.0), (2.3, 1_100.0), (4.3, 300.0)] {
            let share = share(hz, rate, piece(&left, rate, from, from + 1.5));
            assert!(share > 0.95, "left, {hz} Hz at {from} s: {share}");
        }
        let share = share(700.0, rate, piece(&right, rate, 0.5, 5.8));
        assert!(share > 0.9, "right: {share}");
        one.close().await;
        other.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[actix_rt::test]
async fn three_sessions_confer_and_who_leaves_plays_its_own() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let folder = folder("confer");
    let conference =
        Conference::open(ConferenceConfig::default(), &tokio::runtime::Handle::current()).unwrap();
    let mut legs = Vec::new();
    let who = [(Codec::Pcmu, 600.0), (Codec::G722, 900.0), (Codec::Opus, 1_400.0)];
    for (codec, hz) in who {
        let file = folder.join(format!("{codec}.wav"));
        let leg = Leg::of(&network, audio(codec), tone(hz), file).await;
        let seat = conference.seat().unwrap();
        let confer = Confer { seat: Some(seat) };
        leg.own.session.send(confer).await.unwrap().unwrap();
        legs.push(leg);
    }
    sleep(Duration::from_secs(4)).await;
    assert_eq!(conference.legs(), 3);
    let third = legs.pop().unwrap();
    third
        .own
        .session
        .send(Confer { seat: None })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(conference.legs(), 2);
    sleep(Duration::from_secs(3)).await;
    let (rate, heard) = third.close().await;
    let early = piece(&heard, rate, 1.0, 3.5);
    assert!(share(600.0, rate, early) > 0.6 && share(900.0, rate, early) > 0.6);
    assert!(share(1_400.0, rate, early) < 0.05, "it does not hear itself");
    assert!(
        share(300.0, rate, piece(&heard, rate, 4.6, 6.6)) > 0.95,
        "it is alone"
    );
    for (leg, hz) in legs.into_iter().zip([900.0, 600.0]) {
        let (rate, heard) = leg.close().await;
        let (early, late) = (piece(&heard, rate, 1.0, 3.5), piece(&heard, rate, 4.6, 6.6));
        assert!(share(hz, rate, early) > 0.6 && share(1_400.0, rate, early) > 0.6);
        assert!(share(hz, rate, late) > 0.9, "{}", share(hz, rate, late));
    }
    assert_eq!(conference.legs(), 0, "who closed has left");
    std::fs::remove_dir_all(folder).unwrap();
}

fn digits_told(end: &End) -> Vec<(char, Duration)> {
    let of = |kind: SessionEventKind| match kind {
        SessionEventKind::Dtmf { digit, duration } => Some((digit, duration)),
        _ => None,
    };
    end.told().into_iter().filter_map(of).collect()
}

fn digits(digits: &str) -> SendDtmf {
    SendDtmf {
        digits: digits.to_owned(),
        duration_ms: 100,
    }
}

const LONG: Duration = Duration::from_millis(100);

#[actix_rt::test]
async fn digits_pass_a_bridge() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let folder = folder("digits");
    let event = |payload_type| NegotiatedAudio {
        telephone_event: Some((payload_type, 8_000)),
        ..audio(Codec::Pcma)
    };
    let one = Leg::of(&network, event(101), Source::Silence, folder.join("one.wav")).await;
    let other = Leg::of(&network, event(96), Source::Silence, folder.join("other.wav")).await;
    join(
        &one,
        &other,
        BridgeConfig {
            on_end: OnEnd::HangUp,
            ..BridgeConfig::default()
        },
    )
    .await;
    sleep(Duration::from_secs(1)).await;
    one.peer.session.send(digits("42")).await.unwrap().unwrap();
    sleep(Duration::from_secs(2)).await;
    for end in [&one.own, &other.peer] {
        assert_eq!(digits_told(end), [('4', LONG), ('2', LONG)]);
    }
    let stats = one.own.session.send(Snapshot).await.unwrap().unwrap();
    assert!(
        stats.packets_expected > 100 && stats.packets_lost == 0,
        "{stats:?}"
    );
    one.close().await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(parted(&other.own), [(PartedBy::OtherEnded, true)]);
    other.close().await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[actix_rt::test]
async fn our_own_digits_go_into_a_bridge_in_the_same_stream() {
    pause();
    let opus = NegotiatedAudio {
        telephone_event: Some((96, 48_000)),
        ..audio(Codec::Opus)
    };
    for (first, second) in [
        (audio(Codec::Pcmu), audio(Codec::Pcmu)),
        (opus, audio(Codec::Pcmu)),
        (audio(Codec::G722), opus),
    ] {
        let network = FakeNetwork::new(Impairment::default());
        let folder = folder(&format!("dial-{}-{}", first.codec, second.codec));
        let one = Leg::of(&network, first, tone(700.0), folder.join("one.wav")).await;
        let other = Leg::of(&network, second, tone(1_100.0), folder.join("other.wav")).await;
        // Half of what is dialled is sent before the bridge, and what is left when it parts after it.
        one.own.session.send(digits("12345")).await.unwrap().unwrap();
        sleep(Duration::from_millis(390)).await;
        join(&one, &other, BridgeConfig::default()).await;
        sleep(Duration::from_secs(2)).await;
        // Ours waits for the end of the other side's.
        other.peer.session.send(digits("9")).await.unwrap().unwrap();
        sleep(Duration::from_millis(60)).await;
        one.own.session.send(digits("6,7")).await.unwrap().unwrap();
        sleep(Duration::from_secs(2)).await;
        one.own.session.send(digits("89")).await.unwrap().unwrap();
        sleep(Duration::from_millis(190)).await;
        one.own.session.send(Part).await.unwrap().unwrap();
        sleep(Duration::from_secs(2)).await;
        let told = digits_told(&one.peer);
        assert!(told.iter().all(|(_, duration)| *duration == LONG), "{told:?}");
        let told: String = told.iter().map(|(digit, _)| *digit).collect();
        assert_eq!(told, "1234596789");
        assert_eq!(
            digits_told(&other.own).len(),
            1,
            "what is dialled here is not the other side's"
        );
        assert_eq!(digits_told(&other.peer), []);
        // Numbers without a hole, one after the other, is what this looks at.
        let (rate, heard) = one.close().await;
        assert!(
            share(1_100.0, rate, piece(&heard, rate, 1.5, 2.2)) > 0.95,
            "the other side is heard between digits"
        );
        let (rate, heard) = other.close().await;
        assert!(
            share(700.0, rate, piece(&heard, rate, 1.5, 4.0)) > 0.95,
            "the other way is as it was"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}

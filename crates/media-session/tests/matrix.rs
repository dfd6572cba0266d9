//! Every codec with every packet time, towards every other: what was said is what is heard, and the recording is as long.
//! Over the fake engine, in paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test programs, which use more of it"
)]
mod common;

use common::{End, audio, connect, correlation, folder, read_wav, speech, write_wav};
use siprtc_core::CallId;
use siprtc_core::media::{AudioParameters, Codec, NegotiatedAudio, SdpKind};
use siprtc_media_session::{
    AcceptAnswer, AnswerOffer, Begin, Bridge, BridgeConfig, Carriage, Close, CreateOffer, Join, Processing,
    SessionStats, SetAudio, Sink, Source,
};
use siprtc_testkit::media::{FakeNetwork, Impairment};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{pause, sleep};

const PTIMES: [u32; 5] = [10, 20, 30, 40, 60];
/// A voice, a pause, the voice again, in seconds.
const VOICE: f64 = 0.5;
const PAUSE: f64 = 0.5;
const SAID: f64 = VOICE * 2.0 + PAUSE;
/// Of everything that is compared.
const RATE: u32 = 8_000;
/// Calls go on for so long after it.
const AFTER: f64 = 0.6;
/// A pause of less than a packet at the beginning and at the end of what is recorded.
const MORE_OR_LESS: f64 = 0.15;

/// What is allowed beside codec and packet time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beside {
    Nothing,
    /// Comfort noise, and `usedtx=1`: the pause is not sent as audio.
    Silence,
    /// `useinbandfec=1`.
    Correction,
    /// `maxaveragebitrate=16000`.
    Narrow,
}

impl Beside {
    const ALL: [Beside; 4] = [
        Beside::Nothing,
        Beside::Silence,
        Beside::Correction,
        Beside::Narrow,
    ];

    /// Only Opus has the others.
    fn concerns(self, codec: Codec) -> bool {
        matches!(self, Beside::Nothing | Beside::Silence) || codec == Codec::Opus
    }

    /// Which pairs of packet times are played: how an encoder is set has little to do with them.
    fn is_told(self, one: u32, other: u32) -> bool {
        matches!(self, Beside::Nothing | Beside::Silence) || one == other || one == 20
    }

    fn agreed(self, codec: Codec, ptime: u32) -> NegotiatedAudio {
        let is_silent = self == Beside::Silence;
        let parameters = AudioParameters {
            comfort_noise: (is_silent && codec != Codec::Opus).then_some((13, 8_000)),
            dtx: is_silent && codec == Codec::Opus,
            inband_fec: self == Beside::Correction,
            max_average_bitrate: (self == Beside::Narrow).then_some(16_000),
        };
        NegotiatedAudio {
            ptime,
            parameters,
            ..audio(codec)
        }
    }
}

/// How alike what was said and what was heard must be, at what both can carry.
fn least(codecs: [Codec; 2], beside: Beside) -> f64 {
    match (codecs.contains(&Codec::Opus), beside) {
        (_, Beside::Narrow) => 0.85,
        (true, _) => 0.93,
        (false, _) => 0.98,
    }
}

fn said() -> Vec<i16> {
    let mut said = speech(RATE, VOICE);
    said.resize(((VOICE + PAUSE) * f64::from(RATE)) as usize, 0);
    said.extend(speech(RATE, VOICE));
    said
}

fn player(folder: &Path) -> Source {
    let path = folder.join("said.wav");
    if !path.exists() {
        write_wav(&path, RATE, &said());
    }
    Source::File { path, repeat: false }
}

fn processing(beside: Beside) -> Processing {
    Processing {
        silence_detection: beside == Beside::Silence,
        ..Processing::default()
    }
}

/// Likeness and length of a recording, against what is wanted of it.
fn check(name: &str, file: &Path, codec: Codec, stats: &SessionStats, least: f64) {
    assert_eq!(stats.codec, Some(codec), "{name}");
    assert_eq!(
        (
            stats.packets_lost,
            stats.packets_late,
            stats.unreadable,
            stats.duplicates
        ),
        (0, 0, 0, 0),
        "{name}"
    );
    let (rate, heard) = read_wav(&file.to_path_buf());
    assert_eq!(rate, codec.sample_rate(), "{name}");
    let length = heard.len() as f64 / f64::from(rate);
    // Silence at the end is recorded as long as it is sent.
    let wanted = SAID - MORE_OR_LESS..SAID + AFTER + MORE_OR_LESS;
    assert!(
        wanted.contains(&length),
        "{name}: {length} s are recorded of {SAID} s"
    );
    assert!(
        (stats.recorded.as_secs_f64() - length).abs() < 0.001,
        "{name}: {:?} of {length} s",
        stats.recorded
    );
    let mut heard: Vec<i16> = heard.iter().step_by((rate / RATE) as usize).copied().collect();
    heard.resize(heard.len() + RATE as usize, 0);
    let alike = correlation(&said(), &heard, 1_600);
    assert!(alike > least, "{name}: {alike}");
}

/// How many packets of the voice's are expected at least, and of all at most.
fn check_packets(name: &str, ptime: u32, beside: Beside, stats: &SessionStats) {
    let packets = |seconds: f64| (seconds * 1_000.0 / f64::from(ptime)) as u64;
    // Where the pause is left out there is a packet of it now and then; after the file silence goes on.
    let least = if beside == Beside::Silence {
        VOICE * 2.0
    } else {
        SAID
    };
    assert!(
        (packets(least)..=packets(SAID + AFTER) + 4).contains(&stats.packets_expected),
        "{name}: {} packets of {ptime} ms",
        stats.packets_expected
    );
}

/// Each side has a packet time of its own.
async fn call(codec: Codec, ptimes: [u32; 2], beside: Beside, folder: &Path) {
    let name = format!("{codec} {ptimes:?} {beside:?}");
    let network = FakeNetwork::new(Impairment::default());
    let files = [folder.join("one.wav"), folder.join("other.wav")];
    let end = |file: &PathBuf| {
        let sink = Sink::File { path: file.clone() };
        End::processing(
            network.engine(),
            &[codec],
            player(folder),
            sink,
            processing(beside),
        )
    };
    let ends = [end(&files[0]), end(&files[1])];
    let [one, other] = &ends;
    let offer = one.session.send(CreateOffer).await.unwrap().unwrap();
    let sdp = other
        .session
        .send(AnswerOffer { sdp: offer })
        .await
        .unwrap()
        .unwrap();
    let kind = SdpKind::Answer;
    one.session
        .send(AcceptAnswer { sdp, kind })
        .await
        .unwrap()
        .unwrap();
    for (end, ptime) in ends.iter().zip(ptimes) {
        let audio = beside.agreed(codec, ptime);
        end.session
            .send(Begin { audio, video: None })
            .await
            .unwrap()
            .unwrap();
    }
    sleep(Duration::from_secs_f64(SAID + AFTER)).await;
    for (index, end) in ends.iter().enumerate() {
        let stats = end.session.send(Close).await.unwrap().unwrap();
        check(&name, &files[index], codec, &stats, least([codec; 2], beside));
        check_packets(&name, ptimes[1 - index], beside, &stats);
    }
}

#[actix_rt::test]
async fn a_call_is_heard_with_every_codec_and_packet_time_also_where_both_sides_differ() {
    pause();
    let folder = folder("matrix-calls");
    for codec in Codec::ALL {
        for beside in Beside::ALL.into_iter().filter(|beside| beside.concerns(codec)) {
            for one in PTIMES {
                for other in PTIMES.into_iter().filter(|other| *other >= one) {
                    call(codec, [one, other], beside, &folder).await;
                }
            }
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A peer, and the leg of ours that it talks to.
async fn leg(
    network: &std::sync::Arc<FakeNetwork>,
    agreed: NegotiatedAudio,
    beside: Beside,
    source: Source,
    sink: Sink,
) -> [End; 2] {
    let codecs = [agreed.codec];
    let peer = End::processing(network.engine(), &codecs, source, sink, processing(beside));
    let own = End::processing(
        network.engine(),
        &codecs,
        Source::Silence,
        Sink::Null,
        processing(beside),
    );
    connect(&peer, &own, agreed).await;
    [peer, own]
}

async fn bridge(codecs: [Codec; 2], ptimes: [u32; 2], beside: Beside, folder: &Path) {
    let name = format!("{codecs:?} {ptimes:?} {beside:?}");
    let network = FakeNetwork::new(Impairment::default());
    let file = folder.join("bridged.wav");
    let agreed = [0, 1].map(|side: usize| beside.agreed(codecs[side], ptimes[side]));
    // Joined first: what is said before is not heard.
    let [speaker, first] = leg(&network, agreed[0], beside, Source::Silence, Sink::Null).await;
    let sink = Sink::File { path: file.clone() };
    let [listener, second] = leg(&network, agreed[1], beside, Source::Silence, sink).await;
    let (bridge, ends) = Bridge::between([CallId::fresh(), CallId::fresh()], BridgeConfig::default());
    for (own, end) in [&first, &second].into_iter().zip(ends) {
        own.session.send(Join { end }).await.unwrap().unwrap();
    }
    let play = SetAudio {
        source: player(folder),
        sink: Sink::Null,
    };
    speaker.session.send(play).await.unwrap().unwrap();
    sleep(Duration::from_secs_f64(SAID + AFTER)).await;
    let is_same = codecs[0] == codecs[1] && beside != Beside::Narrow;
    let carriage = if is_same {
        Carriage::PassThrough
    } else {
        Carriage::Transcoded
    };
    assert_eq!(bridge.carriage().map(|ways| ways[0]), Some(carriage), "{name}");
    for way in bridge.stats() {
        assert_eq!((way.queue_dropped, way.packets.unreadable), (0, 0), "{name}");
    }
    for own in [&first, &second] {
        own.session.send(Close).await.unwrap().unwrap();
    }
    let stats = listener.session.send(Close).await.unwrap().unwrap();
    speaker.session.send(Close).await.unwrap().unwrap();
    check_bridged(&name, &file, codecs, &stats, least(codecs, beside));
}

/// As [`check`]; what was recorded before it was joined is silence, and is left out of the length.
fn check_bridged(name: &str, file: &Path, codecs: [Codec; 2], stats: &SessionStats, least: f64) {
    assert_eq!(stats.codec, Some(codecs[1]), "{name}");
    assert_eq!(
        (stats.packets_lost, stats.packets_late, stats.unreadable),
        (0, 0, 0),
        "{name}"
    );
    let (rate, heard) = read_wav(&file.to_path_buf());
    assert_eq!(rate, codecs[1].sample_rate(), "{name}");
    let mut heard: Vec<i16> = heard.iter().step_by((rate / RATE) as usize).copied().collect();
    let is_loud = |sample: &i16| sample.unsigned_abs() > 600;
    let begin = heard.iter().position(is_loud).unwrap_or_default();
    let end = heard.iter().rposition(is_loud).unwrap_or_default();
    let length = end.saturating_sub(begin) as f64 / f64::from(RATE);
    assert!(
        (length - SAID).abs() < MORE_OR_LESS,
        "{name}: {length} s are heard of {SAID} s"
    );
    heard.resize(heard.len() + RATE as usize, 0);
    check_words(name, &heard, least);
}

/// Each half by itself: where a pause is noise of our own, it ends with a whole packet.
fn check_words(name: &str, heard: &[i16], least: f64) {
    let voice = speech(RATE, VOICE);
    let (first, second) = heard.split_at((f64::from(RATE) * (VOICE + PAUSE / 2.0)) as usize);
    for (half, heard) in [first, second].into_iter().enumerate() {
        let heard = [heard, &[0; RATE as usize]].concat();
        let alike = correlation(&voice, &heard, 3_000);
        assert!(alike > least, "{name}, half {half}: {alike}");
    }
}

#[actix_rt::test]
async fn a_bridge_is_heard_from_every_codec_and_packet_time_to_every_other() {
    pause();
    let folder = folder("matrix-bridges");
    for from in Codec::ALL {
        for to in Codec::ALL {
            for beside in Beside::ALL
                .into_iter()
                .filter(|beside| beside.concerns(from) || beside.concerns(to))
            {
                for one in PTIMES {
                    for other in PTIMES.into_iter().filter(|other| beside.is_told(one, *other)) {
                        bridge([from, to], [one, other], beside, &folder).await;
                    }
                }
            }
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

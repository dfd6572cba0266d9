//! A hub between a WebRTC peer and a telephone with plain RTP, over the real engines: bridges, recordings, a conference.

use crate::house::{SOON, endpoint_with as endpoint, event, home, rings, until};
use siprtc::prelude::*;
use siprtc_testkit::Folder;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub(crate) const HEARD: Duration = Duration::from_millis(3_500);

fn webrtc(codec: &str) -> String {
    format!("[media]\ncodecs = [\"{codec}\"]\n")
}

fn telephone(codec: &str) -> String {
    format!(
        "[media]\ncodecs = [\"{codec}\"]\nengine = \"rtp\"\nclassic = \"\"\n[media.rtp]\nkeying = \"none\"\n"
    )
}

/// A file in `folder` with a voice's stand-in of its own.
pub(crate) fn voice_file(folder: &Folder, name: &str, pitch: f64) -> PathBuf {
    let path = folder.file(name);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in voice(pitch) {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    path
}

/// Harmonics of a moving pitch, in syllables, that never repeat themselves: twelve seconds at 8 kHz.
fn voice(pitch: f64) -> Vec<i16> {
    let mut phase = 0.0f64;
    (0..96_000)
        .map(|index| {
            let time = f64::from(index) / 8_000.0;
            let now = pitch + 40.0 * (time * 2.1).sin() + 15.0 * (time * time * 1.3).sin();
            phase += std::f64::consts::TAU * now / 8_000.0;
            let syllable = 0.25 + 0.75 * (time * pitch / 50.0 * std::f64::consts::PI).sin().abs();
            let sum: f64 = (1..9).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
            (sum * syllable * 7_000.0) as i16
        })
        .collect()
}

pub(crate) fn plays(path: PathBuf) -> Source {
    Source::File { path, repeat: false }
}

/// A channel of a recording at 8 kHz.
pub(crate) fn heard(path: &Path, channel: usize) -> Vec<i16> {
    let reader = hound::WavReader::open(path).unwrap();
    let spec = reader.spec();
    let step = usize::from(spec.channels) * (spec.sample_rate / 8_000) as usize;
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    samples.into_iter().skip(channel).step_by(step).collect()
}

/// How alike a second of what was heard, its last but a bit, is to the best place in the voice.
pub(crate) fn alike(heard: &[i16], pitch: f64) -> f64 {
    let end = heard.len().saturating_sub(3_000);
    let piece = &heard[end.saturating_sub(8_000)..end];
    assert_eq!(piece.len(), 8_000, "{} samples were heard", heard.len());
    let voice = voice(pitch);
    let square = |&sample: &i16| f64::from(sample) * f64::from(sample);
    // Of all before each place: the power of any piece is the difference of two.
    let mut powers = vec![1.0];
    powers.extend(voice.iter().map(square).scan(1.0, |sum, square| {
        *sum += square;
        Some(*sum)
    }));
    let own = piece.iter().map(square).sum::<f64>() + 1.0;
    let at = |start: usize, step: usize| {
        let there = &voice[start..start + piece.len()];
        let cross: f64 = piece
            .iter()
            .zip(there)
            .step_by(step)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum();
        cross * step as f64 / (own * (powers[start + piece.len()] - powers[start] + 1.0)).sqrt()
    };
    let best = (0..voice.len() - piece.len()).map(|start| (at(start, 16), start));
    let mut best: Vec<(f64, usize)> = best.collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    best.iter()
        .take(40)
        .map(|(_, start)| at(*start, 1))
        .fold(-1.0, f64::max)
}

/// `caller` calls the hub, playing and recording; both ends of the call once it is confirmed.
pub(crate) async fn call(
    caller: &Endpoint,
    hub: &mut Endpoint,
    media: MediaPlan,
    own: MediaPlan,
) -> (Call, Call) {
    let mut call = caller.dial("bob", media).await.unwrap();
    let ringing = rings(hub).await;
    let mut answered = ringing.answer(own).await.unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    (call, answered)
}

pub(crate) async fn bridged(call: &mut Call) -> Carriage {
    let event = event(call, |event| matches!(event, CallEventKind::Bridged { .. })).await;
    let CallEventKind::Bridged {
        from_peer, to_peer, ..
    } = event
    else {
        unreachable!("asked for above")
    };
    assert_eq!(from_peer, to_peer);
    from_peer
}

pub(crate) fn media(source: Source, sink: PathBuf) -> MediaPlan {
    MediaPlan {
        source,
        sink: Sink::File { path: sink },
        ..MediaPlan::default()
    }
}

/// Alice with WebRTC and Carol with plain RTP hear each other over Bob's bridge, who records both.
async fn over_a_bridge(codecs: [&str; 2], wanted: Carriage, least: f64) {
    let home = home().await;
    let folder = Folder::new(&codecs.concat());
    let alice = endpoint(&home, "alice", &webrtc(codecs[0])).await;
    let carol = endpoint(&home, "carol", &telephone(codecs[1])).await;
    let mut bob = endpoint(&home, "bob", "").await;
    let (says_a, says_c) = (
        voice_file(&folder, "alice-says.wav", 140.0),
        voice_file(&folder, "carol-says.wav", 210.0),
    );
    let [hears_a, hears_c] = ["alice.wav", "carol.wav"].map(|name| folder.file(name));
    let silence = MediaPlan::default;
    let (at_a, mut first) = call(&alice, &mut bob, media(plays(says_a), hears_a.clone()), silence()).await;
    let (at_c, mut second) = call(&carol, &mut bob, media(plays(says_c), hears_c.clone()), silence()).await;
    let bridge = bob.bridge(&first, &second).await.unwrap();
    assert_eq!(
        bob.bridge(&first, &second).await.unwrap_err().fault(),
        Fault::ApiMisuse
    );
    assert_eq!(
        (bridged(&mut first).await, bridged(&mut second).await),
        (wanted, wanted)
    );
    let both = folder.file("both.wav");
    first.record(&both, Sides::Both).await.unwrap();
    sleep(HEARD).await;
    let recorded = first.stop_recording().await.unwrap();
    assert!(
        recorded.as_millis().abs_diff(HEARD.as_millis()) < 400,
        "{recorded:?}"
    );
    let stats = bridge.stats();
    for way in stats {
        assert!(way.packets.sent > 150 && way.queue_dropped == 0, "{stats:?}");
    }
    // Alice ends: Carol's call at Bob's goes on, and hears Bob again.
    at_a.hangup().await.unwrap();
    at_a.finished().await.unwrap();
    let parted = event(&mut second, |event| matches!(event, CallEventKind::Parted(_))).await;
    assert!(
        matches!(parted, CallEventKind::Parted(PartedBy::OtherEnded)),
        "{parted:?}"
    );
    assert!(bridge.carriage().is_none() && bridge.part().await.is_err());
    sleep(Duration::from_millis(500)).await;
    assert!(second.stats().await.unwrap().packets_lost == 0);
    second.hangup().await.unwrap();
    let report = timeout(SOON, at_c.finished()).await.unwrap().unwrap();
    let stats = report.ending.stats.unwrap();
    assert_eq!(
        (stats.packets_lost, stats.unreadable),
        (0, 0),
        "one stream from begin to end"
    );
    alice.shutdown().await;
    carol.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    // Carol's last half second was Bob's silence.
    let at_carol = heard(&hears_c, 0);
    let end = at_carol
        .iter()
        .rposition(|sample| sample.unsigned_abs() > 500)
        .unwrap_or(0);
    for (who, heard, pitch) in [
        ("alice", heard(&hears_a, 0), 210.0),
        ("carol", at_carol[..end].to_vec(), 140.0),
        ("left", heard(&both, 0), 210.0),
        ("right", heard(&both, 1), 140.0),
    ] {
        let alike = alike(&heard, pitch);
        println!("{who}: {alike:.3}");
        assert!(alike > least, "{who}: {alike}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_peer_and_a_telephone_hear_each_other_without_transcoding() {
    over_a_bridge(["pcmu", "pcmu"], Carriage::PassThrough, 0.98).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opus_and_pcmu_meet_by_transcoding() {
    over_a_bridge(["opus", "pcmu"], Carriage::Transcoded, 0.9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_may_hang_the_other_call_up() {
    let home = home().await;
    let alice = endpoint(&home, "alice", "").await;
    let carol = endpoint(&home, "carol", &telephone("pcma")).await;
    let mut bob = endpoint(&home, "bob", "").await;
    let (at_a, first) = call(&alice, &mut bob, MediaPlan::default(), MediaPlan::default()).await;
    let (at_c, mut second) = call(&carol, &mut bob, MediaPlan::default(), MediaPlan::default()).await;
    let config = BridgeConfig {
        on_end: OnEnd::HangUp,
        ..BridgeConfig::default()
    };
    bob.bridge_with(&first, &second, config).await.unwrap();
    bridged(&mut second).await;
    at_a.hangup().await.unwrap();
    let report = timeout(SOON, at_c.finished()).await.expect("it ends").unwrap();
    assert_eq!(
        (report.ending.cause, report.ending.by),
        (Cause::Bye, Side::Remote)
    );
    alice.shutdown().await;
    carol.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conference_of_three_engines_and_codecs() {
    let home = home().await;
    let folder = Folder::new("conference");
    let mut bob = endpoint(&home, "bob", "").await;
    let who = [
        ("alice", webrtc("opus"), 140.0),
        ("carol", telephone("pcmu"), 210.0),
        ("dave", telephone("g722"), 290.0),
    ];
    let conference = bob.conference(ConferenceConfig::default()).unwrap();
    let mut parties = Vec::new();
    for (name, media_config, pitch) in &who {
        let party = endpoint(&home, name, media_config).await;
        let (says, hears) = (
            voice_file(&folder, &format!("{name}-says.wav"), *pitch),
            folder.file(name),
        );
        let (call, own) = call(
            &party,
            &mut bob,
            media(plays(says), hears.clone()),
            MediaPlan::default(),
        )
        .await;
        conference.join(&own).await.unwrap();
        parties.push((party, call, own, hears));
    }
    assert_eq!(conference.legs(), 3);
    // Dave is not heard: what the other two hear is one voice each.
    conference.set_muted(&parties[2].2, true).unwrap();
    let bridge = bob.bridge(&parties[0].2, &parties[1].2).await;
    assert_eq!(
        bridge.unwrap_err().fault(),
        Fault::ApiMisuse,
        "who confers is not bridged"
    );
    sleep(HEARD).await;
    let stats = conference.stats(&parties[0].2).unwrap().unwrap();
    assert!(stats.heard && stats.dropped_ms < 300, "{stats:?}");
    conference.leave(&parties[2].2).await.unwrap();
    assert_eq!(conference.legs(), 2);
    assert!(conference.leave(&parties[2].2).await.is_err());
    let mut files = Vec::new();
    for (party, call, _, hears) in parties {
        call.hangup().await.unwrap();
        call.finished().await.unwrap();
        party.shutdown().await;
        files.push(hears);
    }
    until("everybody has left", || conference.legs() == 0).await;
    bob.shutdown().await;
    home.shutdown().await;
    assert!(
        alike(&heard(&files[0], 0), 210.0) > 0.85,
        "{}",
        alike(&heard(&files[0], 0), 210.0)
    );
    assert!(
        alike(&heard(&files[1], 0), 140.0) > 0.85,
        "{}",
        alike(&heard(&files[1], 0), 140.0)
    );
}

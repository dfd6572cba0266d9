//! A session from its first request to its end: what each state allows, and what is left behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test program, which uses more of it"
)]
mod common;

use common::{End, audio, connect};
use siprtc_core::Fault;
use siprtc_core::media::{Codec, Direction, MediaEvent, SdpKind};
use siprtc_media_session::{
    AcceptAnswer, AnswerOffer, AudioSink, Begin, Close, Confer, Conference, ConferenceConfig, CreateOffer,
    Mute, Rollback, SessionEventKind, SetAudio, SetDirection, Sink, Snapshot, Source,
};
use siprtc_testkit::Folder;
use siprtc_testkit::media::{FakeNetwork, Impairment};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{pause, sleep};

#[actix_rt::test]
async fn first_packets_and_the_path_are_told() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    let bob = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    sleep(Duration::from_secs(1)).await;
    alice.session.send(Close).await.unwrap().unwrap();
    bob.session.send(Close).await.unwrap().unwrap();
    sleep(Duration::from_millis(100)).await;
    for end in [&alice, &bob] {
        assert_eq!(
            end.count(|kind| matches!(kind, SessionEventKind::FirstPacketSent)),
            1
        );
        assert_eq!(
            end.count(|kind| matches!(kind, SessionEventKind::FirstPacketReceived)),
            1
        );
        assert_eq!(
            end.count(|kind| matches!(kind, SessionEventKind::Media(MediaEvent::Connected))),
            1
        );
        assert!(matches!(
            end.told().last(),
            Some(SessionEventKind::Media(MediaEvent::Closed))
        ));
    }
}

#[actix_rt::test]
async fn a_session_refuses_what_its_state_does_not_allow() {
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    let early = alice
        .session
        .send(Begin {
            audio: audio(Codec::Pcmu),
            video: None,
        })
        .await
        .unwrap();
    assert_eq!(early.unwrap_err().fault(), Fault::ApiMisuse);
    alice
        .session
        .send(SetDirection {
            direction: Direction::SendOnly,
        })
        .await
        .unwrap()
        .unwrap();
    let offer = alice.session.send(CreateOffer).await.unwrap().unwrap();
    assert!(offer.contains("a=sendonly"));
    assert_eq!(
        alice
            .session
            .send(CreateOffer)
            .await
            .unwrap()
            .unwrap_err()
            .fault(),
        Fault::ApiMisuse
    );
    alice.session.send(Rollback).await.unwrap().unwrap();
    alice.session.send(CreateOffer).await.unwrap().unwrap();
    let bob = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    let answer = bob
        .session
        .send(AnswerOffer { sdp: offer })
        .await
        .unwrap()
        .unwrap();
    assert!(answer.contains("a=recvonly"));
    for kind in [SdpKind::Pranswer, SdpKind::Answer] {
        alice
            .session
            .send(AcceptAnswer {
                sdp: answer.clone(),
                kind,
            })
            .await
            .unwrap()
            .unwrap();
    }
    alice.session.send(Close).await.unwrap().unwrap();
    assert!(alice.session.send(Snapshot).await.is_err(), "the actor is gone");
}

#[actix_rt::test]
async fn an_offer_that_cannot_be_answered_leaves_a_session_that_can_answer_another() {
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(&network, &[Codec::G722], Source::Silence, Sink::Null);
    let carol = End::new(&network, &[Codec::Pcma], Source::Silence, Sink::Null);
    let bob = End::new(&network, &[Codec::Pcma], Source::Silence, Sink::Null);
    let strange = alice.session.send(CreateOffer).await.unwrap().unwrap();
    let error = bob
        .session
        .send(AnswerOffer { sdp: strange })
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    let offer = carol.session.send(CreateOffer).await.unwrap().unwrap();
    bob.session
        .send(AnswerOffer { sdp: offer })
        .await
        .unwrap()
        .unwrap();
}

/// An application's sink that counts what it hears.
struct Ears(Mutex<usize>);

impl AudioSink for Ears {
    fn write(&self, _rate: u32, frame: &[i16]) {
        *self.0.lock().unwrap() += frame.len();
    }
}

#[actix_rt::test]
async fn a_closed_or_stopped_session_leaves_nothing_behind() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let idle_tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let ears = Arc::new(Ears(Mutex::default()));
    for orderly in [true, false] {
        let sink = Sink::Samples(Arc::clone(&ears) as Arc<_>);
        let alice = End::new(
            &network,
            &[Codec::Opus],
            Source::Tone {
                hz: 1_000.0,
                level_dbfs: -3.0,
            },
            sink.clone(),
        );
        let bob = End::new(&network, &[Codec::Opus], Source::Silence, sink);
        connect(&alice, &bob, audio(Codec::Opus)).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(network.open_peers(), 2);
        assert!(Arc::strong_count(&ears) > 2);
        if orderly {
            alice.session.send(Close).await.unwrap().unwrap();
            bob.session.send(Close).await.unwrap().unwrap();
        }
        drop((alice, bob));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(network.open_peers(), 0);
        assert_eq!(Arc::strong_count(&ears), 1);
        assert_eq!(
            tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            idle_tasks
        );
    }
}

/// Keeps the loudest sample.
#[derive(Default)]
struct Loudest(Mutex<u16>);

impl AudioSink for Loudest {
    fn write(&self, _: u32, frame: &[i16]) {
        let loudest = frame.iter().map(|sample| sample.unsigned_abs()).max();
        let mut known = self.0.lock().unwrap();
        *known = loudest.unwrap_or_default().max(*known);
    }
}

#[actix_rt::test]
async fn a_mute_and_a_seat_from_before_audio_began_hold_from_its_beginning() {
    pause();
    for is_muted in [true, false] {
        let network = FakeNetwork::new(Impairment::default());
        let tone = Source::Tone {
            hz: 440.0,
            level_dbfs: -6.0,
        };
        let ear = Arc::new(Loudest::default());
        let alice = End::new(&network, &[Codec::Pcmu], tone, Sink::Null);
        let sink = Sink::Samples(Arc::clone(&ear) as Arc<dyn AudioSink>);
        let bob = End::new(&network, &[Codec::Pcmu], Source::Silence, sink);
        if is_muted {
            alice.session.send(Mute { muted: true }).await.unwrap().unwrap();
        } else {
            // Alone there she hears nobody, and is heard by nobody.
            let runtime = tokio::runtime::Handle::current();
            let conference = Conference::open(ConferenceConfig::default(), &runtime).unwrap();
            let seat = Some(conference.seat().unwrap());
            alice.session.send(Confer { seat }).await.unwrap().unwrap();
        }
        connect(&alice, &bob, audio(Codec::Pcmu)).await;
        sleep(Duration::from_secs(1)).await;
        let before = *ear.0.lock().unwrap();
        assert!(before < 100, "{before}: the source is heard");
        match is_muted {
            true => alice.session.send(Mute { muted: false }).await.unwrap().unwrap(),
            false => alice.session.send(Confer { seat: None }).await.unwrap().unwrap(),
        }
        sleep(Duration::from_secs(1)).await;
        assert!(*ear.0.lock().unwrap() > 1_000, "the source goes on");
    }
}

fn tone(level_dbfs: f32) -> Source {
    Source::Tone {
        hz: 440.0,
        level_dbfs,
    }
}

fn heard_by(ear: &Arc<Loudest>) -> Sink {
    Sink::Samples(Arc::clone(ear) as Arc<dyn AudioSink>)
}

/// What was heard since it was asked last.
fn loudest(ear: &Loudest) -> u16 {
    std::mem::take(&mut *ear.0.lock().unwrap())
}

#[actix_rt::test]
async fn another_source_is_heard_and_another_ear_hears_from_then_on() {
    pause();
    let folder = Folder::new("set-audio");
    let (wav, network) = (folder.file("heard.wav"), FakeNetwork::new(Impairment::default()));
    let (first, second) = (Arc::new(Loudest::default()), Arc::new(Loudest::default()));
    let alice = End::new(&network, &[Codec::Pcmu], tone(-40.0), Sink::Null);
    let bob = End::new(&network, &[Codec::Pcmu], Source::Silence, heard_by(&first));
    let set = async |end: &End, source: Source, sink: Sink| {
        end.session.send(SetAudio { source, sink }).await.unwrap()
    };
    // Before audio begins it is what audio begins with.
    set(&alice, tone(-30.0), Sink::Null).await.unwrap();
    connect(&alice, &bob, audio(Codec::Pcmu)).await;
    sleep(Duration::from_secs(1)).await;
    let quiet = loudest(&first);
    assert!((500..2_000).contains(&quiet), "{quiet}: -30 dBFS");
    set(&alice, tone(-6.0), Sink::Null).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(loudest(&first) > 10_000, "the other source is heard");

    set(&bob, Source::Silence, heard_by(&second)).await.unwrap();
    loudest(&first);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(loudest(&first), 0, "it listens no more");
    assert!(loudest(&second) > 10_000, "another one does");

    // A recording begins, goes on where it is meant again, and is complete when another ear takes its place.
    let recorded = Sink::File { path: wav.clone() };
    set(&bob, Source::Silence, recorded.clone()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    set(&bob, Source::Silence, recorded).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    set(&bob, Source::Silence, heard_by(&second)).await.unwrap();
    let reader = hound::WavReader::open(&wav).unwrap();
    let seconds = reader.duration() / reader.spec().sample_rate;
    assert!(
        (1..=2).contains(&seconds) && reader.duration() > 12_000,
        "{}",
        reader.duration()
    );

    // What cannot be read, or made, changes nothing.
    let nothing = Source::File {
        path: folder.file("nothing.wav"),
        repeat: false,
    };
    let nowhere = Sink::File {
        path: folder.file("no-folder").join("heard.wav"),
    };
    for (source, sink) in [(nothing, Sink::Null), (Source::Silence, nowhere)] {
        let refused = set(&bob, source, sink).await.unwrap_err();
        assert_eq!(refused.fault(), Fault::ConfigInvalid, "{refused}");
    }
    loudest(&second);
    sleep(Duration::from_secs(1)).await;
    assert!(loudest(&second) > 10_000, "it hears on");
}

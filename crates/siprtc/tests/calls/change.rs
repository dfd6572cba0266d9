//! What is changed of a call while it lasts: video that comes and goes, other codecs, silence.

use super::video::{FRAMES, film, is_negotiated, seen, telephone};
use crate::house::{SOON, endpoint_with as endpoint, event, home, rings};
use siprtc::core::media::{Codec, Direction};
use siprtc::media_session::AudioSink;
use siprtc::prelude::*;
use siprtc_testkit::Folder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The loudest sample since somebody looked.
#[derive(Default)]
struct Ear(AtomicU16);

impl AudioSink for Ear {
    fn write(&self, _: u32, frame: &[i16]) {
        let loudest = frame.iter().map(|sample| sample.unsigned_abs()).max();
        self.0.fetch_max(loudest.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Ear {
    /// Loud enough for the tone, which is a quarter of full scale.
    async fn hears(&self) -> bool {
        sleep(Duration::from_millis(300)).await;
        self.0.store(0, Ordering::Relaxed);
        sleep(Duration::from_millis(300)).await;
        self.0.load(Ordering::Relaxed) > 4_000
    }
}

fn tone() -> MediaPlan {
    MediaPlan {
        source: Source::Tone {
            hz: 440.0,
            level_dbfs: -12.0,
        },
        ..MediaPlan::default()
    }
}

async fn confirmed(from: &Endpoint, to: &mut Endpoint, plans: [MediaPlan; 2]) -> [Call; 2] {
    let [ours, theirs] = plans;
    let mut call = from.dial("bob", ours).await.unwrap();
    let mut answered = rings(to).await.answer(theirs).await.unwrap();
    for end in [&mut call, &mut answered] {
        event(end, |event| {
            matches!(event, CallEventKind::FirstPacket { inbound: true })
        })
        .await;
    }
    [call, answered]
}

async fn over(calls: [Call; 2]) {
    let [first, second] = calls;
    first.hangup().await.unwrap();
    for call in [first, second] {
        let report = timeout(SOON, call.finished()).await.unwrap().unwrap();
        assert_eq!(report.ending.cause, Cause::Bye);
    }
}

fn has_no_video(event: &CallEventKind) -> bool {
    matches!(event, CallEventKind::NegotiatedVideo(None))
}

fn is_changed(event: &CallEventKind) -> bool {
    assert!(!matches!(event, CallEventKind::MediaRefused));
    matches!(event, CallEventKind::MediaChanged)
}

async fn video_comes_and_goes(engine: &str, media: &str) {
    let home = home().await;
    let folder = Folder::new(engine);
    let [path, sink] = ["film.ivf", "seen.ivf"].map(|name| folder.file(name));
    film(&path, 9);
    let alice = endpoint(&home, "alice", media).await;
    let mut bob = endpoint(&home, "bob", media).await;
    let looks = MediaPlan {
        video: Some(VideoPlan {
            direction: Direction::RecvOnly,
            ..VideoPlan::new(VideoSource::None, VideoSink::File { path: sink.clone() })
        }),
        ..tone()
    };
    let mut calls = confirmed(&alice, &mut bob, [tone(), looks]).await;
    let nothing = VideoSource::File {
        path: folder.file("none.ivf"),
        repeat: false,
    };
    let error = calls[0]
        .set_video(Some(VideoPlan::new(nothing, VideoSink::Null)))
        .await;
    assert_eq!(error.unwrap_err().fault(), Fault::ConfigInvalid);
    let film = VideoSource::File { path, repeat: false };
    calls[0]
        .set_video(Some(VideoPlan::new(film, VideoSink::Null)))
        .await
        .unwrap();
    for end in &mut calls {
        event(end, is_negotiated).await;
    }
    event(&mut calls[0], is_changed).await;
    event(&mut calls[0], |event| {
        matches!(event, CallEventKind::VideoSourceEnded)
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    calls[0].set_video(None).await.unwrap();
    for end in &mut calls {
        event(end, has_no_video).await;
    }
    let stats = calls[1].stats().await.unwrap();
    assert_eq!(stats.packets_lost, 0, "audio goes on beside it: {stats:?}");
    over(calls).await;
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    let seen = seen(&sink, 9);
    assert!(seen >= FRAMES - 2, "{seen} frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn video_comes_and_goes_within_a_webrtc_call() {
    video_comes_and_goes("webrtc-change", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn video_comes_and_goes_within_a_telephones_call() {
    video_comes_and_goes("rtp-change", &telephone("sdes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_declines_video_keeps_the_call() {
    let home = home().await;
    let folder = Folder::new("declines");
    let path = folder.file("film.ivf");
    film(&path, 4);
    let mut bob = endpoint(&home, "bob", "").await;
    for media in [String::new(), telephone("none")] {
        let alice = endpoint(&home, "alice", &media).await;
        let mut calls = confirmed(&alice, &mut bob, [tone(), tone()]).await;
        for _ in 0..2 {
            let film = VideoSource::File {
                path: path.clone(),
                repeat: false,
            };
            calls[0]
                .set_video(Some(VideoPlan::new(film, VideoSink::Null)))
                .await
                .unwrap();
            event(&mut calls[0], has_no_video).await;
            event(&mut calls[0], is_changed).await;
        }
        over(calls).await;
        alice.shutdown().await;
    }
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codecs_change_within_a_call_and_a_refusal_leaves_them() {
    let home = home().await;
    for engine in ["[media]\n".to_owned(), telephone("sdes")] {
        let with = |codecs: &str| engine.replacen("[media]\n", &format!("[media]\ncodecs = [{codecs}]\n"), 1);
        let (ours, theirs) = (with("\"PCMU\", \"PCMA\", \"G722\""), with("\"PCMU\", \"PCMA\""));
        let alice = endpoint(&home, "alice", &ours).await;
        let mut bob = endpoint(&home, "bob", &theirs).await;
        let ear = Arc::new(Ear::default());
        let listens = MediaPlan {
            sink: Sink::Samples(ear.clone()),
            ..tone()
        };
        let mut calls = confirmed(&alice, &mut bob, [tone(), listens]).await;
        calls[0].set_codecs(&[Codec::Pcma]).await.unwrap();
        for end in &mut calls {
            event(
                end,
                |event| matches!(event, CallEventKind::Negotiated(audio) if audio.codec == Codec::Pcma),
            )
            .await;
        }
        event(&mut calls[0], is_changed).await;
        assert!(ear.hears().await);
        calls[0].set_codecs(&[Codec::G722]).await.unwrap();
        event(&mut calls[0], |event| {
            matches!(event, CallEventKind::MediaRefused)
        })
        .await;
        assert!(ear.hears().await);
        let stats = calls[0].stats().await.unwrap();
        assert_eq!(stats.codec, Some(Codec::Pcma));
        assert_eq!(
            calls[0].set_codecs(&[]).await.unwrap_err().fault(),
            Fault::ApiMisuse
        );
        over(calls).await;
        alice.shutdown().await;
        bob.shutdown().await;
    }
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_muted_is_not_heard_and_is_not_silent() {
    let home = home().await;
    let alice = endpoint(&home, "alice", "").await;
    let mut bob = endpoint(&home, "bob", "").await;
    let ear = Arc::new(Ear::default());
    let listens = MediaPlan {
        sink: Sink::Samples(ear.clone()),
        ..tone()
    };
    let calls = confirmed(&alice, &mut bob, [tone(), listens]).await;
    assert!(ear.hears().await);
    calls[0].set_muted(true).await.unwrap();
    let before = calls[1].stats().await.unwrap().transport.packets_received;
    assert!(!ear.hears().await);
    let after = calls[1].stats().await.unwrap().transport.packets_received;
    assert!(after > before + 20, "packets go on: {before}, {after}");
    // A new negotiation changes nothing of it.
    calls[0].hold().await.unwrap();
    calls[0].resume().await.unwrap();
    assert!(!ear.hears().await);
    calls[0].set_muted(false).await.unwrap();
    assert!(ear.hears().await);
    over(calls).await;
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

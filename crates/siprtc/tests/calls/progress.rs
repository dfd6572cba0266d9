//! Media before the callee answers: what a caller hears of it, whether the 183 is acknowledged or not.

use crate::house::{SOON, endpoint_with as endpoint, event, home, rings};
use crate::video::{film, is_negotiated};
use siprtc::media_session::AudioSink;
use siprtc::prelude::*;
use siprtc_testkit::Folder;
use std::f32::consts::TAU;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const RATE: u32 = 16_000;
const HZ: f32 = 700.0;

/// The callee's configuration: its 183 is acknowledged, or is not.
const KINDS: [(&str, &str); 2] = [("supported", "PRACK"), ("off", "")];

/// The other engine's.
const TELEPHONE: &str = "[media]\nengine = \"rtp\"\nclassic = \"\"\n[media.rtp]\nkeying = \"sdes\"\n";

fn relying(reliability: &str) -> String {
    format!("[call]\nreliable_provisionals = {reliability:?}")
}

/// A file of two seconds of [`HZ`].
fn announcement(folder: &Folder) -> PathBuf {
    let path = folder.path().join("announcement.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(&path, spec).unwrap();
    for index in 0..RATE * 2 {
        let phase = TAU * HZ * index as f32 / RATE as f32;
        file.write_sample((phase.sin() * 8_000.0) as i16).unwrap();
    }
    file.finalize().unwrap();
    path
}

fn playing(path: PathBuf) -> MediaPlan {
    MediaPlan {
        source: Source::File { path, repeat: false },
        ..MediaPlan::default()
    }
}

/// Knows the announcement by its tone: tells how many frames of it came.
struct Listener(watch::Sender<u32>);

impl AudioSink for Listener {
    fn write(&self, rate: u32, frame: &[i16]) {
        // Goertzel's: the share of the frame's power that is the tone's.
        let coefficient = 2.0 * (TAU * HZ / rate as f32).cos();
        let (mut last, mut before) = (0.0_f32, 0.0_f32);
        for sample in frame {
            let next = f32::from(*sample) + coefficient * last - before;
            (before, last) = (last, next);
        }
        let tone = (last * last + before * before - coefficient * last * before) * 2.0 / frame.len() as f32;
        let power: f32 = frame.iter().map(|sample| f32::from(*sample).powi(2)).sum();
        if power > 1e6 && tone / power > 0.8 {
            self.0.send_modify(|count| *count += 1);
        }
    }
}

fn listening() -> (MediaPlan, watch::Receiver<u32>) {
    let (told, ear) = watch::channel(0);
    let plan = MediaPlan {
        sink: Sink::Samples(Arc::new(Listener(told))),
        ..MediaPlan::default()
    };
    (plan, ear)
}

async fn hears_the_announcement(ear: &mut watch::Receiver<u32>) {
    let heard = tokio::time::timeout(SOON, ear.wait_for(|count| *count >= 20)).await;
    heard.expect("the announcement is heard").unwrap();
}

/// Alice calls Bob, and hears his announcement before he answers.
async fn announced(alice: &Endpoint, bob: &mut Endpoint, path: PathBuf) -> (Call, EarlyCall) {
    let (plan, mut ear) = listening();
    let mut call = alice.dial("bob", plan).await.unwrap();
    let early = rings(bob).await.early_media(playing(path)).await.unwrap();
    event(&mut call, |event| {
        matches!(
            event,
            CallEventKind::Progress {
                status: 183,
                early_media: true
            }
        )
    })
    .await;
    hears_the_announcement(&mut ear).await;
    (call, early)
}

async fn ended(call: Call) -> CallReport {
    tokio::time::timeout(SOON, call.finished())
        .await
        .expect("it ends")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_hears_the_callees_file_before_the_answer_and_goes_on_after_it() {
    let folder = Folder::new("early");
    let path = announcement(&folder);
    for engine in ["", TELEPHONE] {
        for (reliability, prack) in KINDS {
            let home = home().await;
            let alice = endpoint(&home, "alice", engine).await;
            let mut bob = endpoint(&home, "bob", &format!("{engine}{}", relying(reliability))).await;
            let (mut call, mut early) = announced(&alice, &mut bob, path.clone()).await;
            // It is played to its end, and nobody has answered.
            let over = async {
                while let Some(event) = early.next().await {
                    assert!(!matches!(event, CallEventKind::Accepted), "not answered");
                    if matches!(event, CallEventKind::SourceEnded) {
                        return;
                    }
                }
                panic!("the call ended");
            };
            tokio::time::timeout(SOON, over).await.expect("the file ends");
            let mut answered = early.answer().await.unwrap();
            call.confirmed().await.unwrap();
            answered.confirmed().await.unwrap();
            assert!(answered.stats().await.unwrap().transport.packets_received > 0);
            answered.hangup().await.unwrap();
            let report = ended(call).await;
            let ladder = report.ladder("alice", "home", "bob").to_text(100, false);
            assert!(ladder.contains("183"), "{ladder}");
            assert_eq!(ladder.contains("PRACK"), !prack.is_empty(), "{ladder}");
            assert_eq!(
                ladder.matches("─ INVITE ─").count(),
                2,
                "one without credentials, one with: {ladder}"
            );
            alice.shutdown().await;
            bob.shutdown().await;
            home.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gives_up_while_it_hears_the_callee_and_a_callee_refuses() {
    let folder = Folder::new("early");
    let path = announcement(&folder);
    for (reliability, _) in KINDS {
        let home = home().await;
        let alice = endpoint(&home, "alice", "").await;
        let mut bob = endpoint(&home, "bob", &relying(reliability)).await;

        let (call, mut early) = announced(&alice, &mut bob, path.clone()).await;
        call.hangup().await.unwrap();
        let given_up = tokio::time::timeout(SOON, early.given_up())
            .await
            .expect("Bob hears of it");
        let ending = &given_up.unwrap().ending;
        assert_eq!((ending.cause, ending.by), (Cause::Cancelled, Side::Remote));
        assert!(!ending.established);
        assert!(early.answer().await.is_err(), "there is nobody to answer");
        assert_eq!(ended(call).await.ending.cause, Cause::Cancelled);

        let (call, early) = announced(&alice, &mut bob, path.clone()).await;
        early.refuse(486).await.unwrap();
        let ending = ended(call).await.ending;
        assert_eq!(
            (ending.cause, ending.status, ending.established),
            (Cause::Busy, Some(486), false)
        );

        // Whoever forgets it declines it.
        let (call, early) = announced(&alice, &mut bob, path.clone()).await;
        drop(early);
        assert_eq!(ended(call).await.ending.cause, Cause::Declined);

        for endpoint in [&alice, &bob] {
            let left = async {
                while endpoint.open_calls().await > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(SOON, left).await.expect("no call is left");
        }
        alice.shutdown().await;
        bob.shutdown().await;
        home.shutdown().await;
    }
}

/// The early session is held and resumed before anybody answers, where the 183 is acknowledged; the call stands as it was agreed.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_held_by_either_side_before_it_is_answered() {
    let folder = Folder::new("early");
    let path = announcement(&folder);
    let home = home().await;
    let alice = endpoint(&home, "alice", "").await;
    let mut bob = endpoint(&home, "bob", "").await;
    let (mut call, mut early) = announced(&alice, &mut bob, path).await;
    let held = |by: Side| move |event: &CallEventKind| matches!(event, CallEventKind::Held { by: who } if *who == by);
    let resumed = |by: Side| move |event: &CallEventKind| matches!(event, CallEventKind::Resumed { by: who } if *who == by);
    early.call().hold().await.unwrap();
    event(&mut call, held(Side::Remote)).await;
    early.call().resume().await.unwrap();
    event(&mut call, resumed(Side::Remote)).await;
    call.hold().await.unwrap();
    event(&mut call, held(Side::Local)).await;
    while let Some(event) = early.next().await {
        if held(Side::Remote)(&event) {
            break;
        }
    }
    let mut answered = early.answer().await.unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    call.resume().await.unwrap();
    event(&mut call, resumed(Side::Local)).await;
    answered.hangup().await.unwrap();
    assert_eq!(ended(call).await.ending.cause, Cause::Bye);
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

/// An announcement that is sent only, then a talk both ways in which the callee is heard with another voice and hears the caller, whatever
/// became of the 183; and video with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_announced_one_way_is_answered_both_ways_and_with_video() {
    let folder = Folder::new("early-both");
    let path = announcement(&folder);
    let shown = folder.file("film.ivf");
    film(&shown, 7);
    for (engine, (reliability, _)) in ["", TELEPHONE]
        .into_iter()
        .flat_map(|engine| KINDS.map(|kind| (engine, kind)))
    {
        let home = home().await;
        let alice = endpoint(&home, "alice", engine).await;
        let mut bob = endpoint(&home, "bob", &format!("{engine}{}", relying(reliability))).await;
        let (plan, mut ear) = listening();
        let plan = MediaPlan {
            source: Source::File {
                path: path.clone(),
                repeat: true,
            },
            video: Some(VideoPlan::new(VideoSource::None, VideoSink::Null)),
            ..plan
        };
        let mut call = alice.dial("bob", plan).await.unwrap();
        let announced = MediaPlan {
            direction: Direction::SendOnly,
            ..playing(path.clone())
        };
        let early = rings(&mut bob).await.early_media(announced).await.unwrap();
        hears_the_announcement(&mut ear).await;
        let received = early.call().stats().await.unwrap().transport.packets_received;
        assert_eq!(received, 0, "nothing is to be heard of the caller yet");

        let (talk, mut at_bob) = listening();
        let film = VideoSource::File {
            path: shown.clone(),
            repeat: true,
        };
        let talk = MediaPlan {
            source: Source::File {
                path: path.clone(),
                repeat: true,
            },
            video: Some(VideoPlan::new(film, VideoSink::Null)),
            ..talk
        };
        let mut answered = early.answer_with(talk).await.unwrap();
        call.confirmed().await.unwrap();
        event(&mut answered, is_negotiated).await;
        event(&mut answered, |event| {
            matches!(event, CallEventKind::MediaChanged)
        })
        .await;
        hears_the_announcement(&mut at_bob).await;
        ear.mark_unchanged();
        let before = *ear.borrow();
        let goes_on = tokio::time::timeout(SOON, ear.wait_for(|count| *count >= before + 20)).await;
        goes_on.expect("the other file is heard").unwrap();
        event(&mut call, |event| matches!(event, CallEventKind::FirstFrame)).await;
        answered.hangup().await.unwrap();
        ended(call).await;
        alice.shutdown().await;
        bob.shutdown().await;
        home.shutdown().await;
    }
}

/// A plan that cannot be played declines the call, and nobody was told that it was answered.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_file_that_is_not_there_declines_the_call() {
    let folder = Folder::new("early-none");
    let home = home().await;
    let alice = endpoint(&home, "alice", "").await;
    let mut bob = endpoint(&home, "bob", "").await;
    let (call, early) = announced(&alice, &mut bob, announcement(&folder)).await;
    let refused = early
        .answer_with(playing(folder.file("nothing.wav")))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.fault(), Fault::ConfigInvalid, "{refused}");
    let ending = ended(call).await.ending;
    assert_eq!((ending.cause, ending.established), (Cause::Declined, false));
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

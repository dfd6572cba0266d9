//! Calls with video over the real engines: a file is shown, recorded at the other end, and compared frame by frame.

use crate::house::{SOON, endpoint_with as endpoint, event, home, rings};
use siprtc::core::media::{Direction, VideoCodec};
use siprtc::prelude::*;
use siprtc_testkit::Folder;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub(super) const FRAMES: usize = 90;
const KEYS: usize = 15;

pub(super) fn telephone(keying: &str) -> String {
    format!("[media]\nengine = \"rtp\"\nclassic = \"\"\n[media.rtp]\nkeying = \"{keying}\"\n")
}

/// Frame `number` of a film: nobody decodes it, but its first octets are VP8's, and no two are alike.
fn frame(seed: u8, number: usize) -> Vec<u8> {
    let is_key = number.is_multiple_of(KEYS);
    let mut frame: Vec<u8> = (0..if is_key { 40_000 } else { 2_500 })
        .map(|at: usize| (at as u8).wrapping_mul(31) ^ (number as u8) ^ seed)
        .collect();
    frame[..10].copy_from_slice(&[u8::from(!is_key), 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]);
    frame
}

/// A film of three seconds.
pub(super) fn film(path: &Path, seed: u8) {
    let mut ivf = b"DKIF\0\0\x20\0VP80\x40\x01\xf0\0".to_vec();
    ivf.extend(30_u32.to_le_bytes());
    ivf.extend(1_u32.to_le_bytes());
    ivf.extend([0; 8]);
    for number in 0..FRAMES {
        let frame = frame(seed, number);
        ivf.extend((frame.len() as u32).to_le_bytes());
        ivf.extend((number as u64).to_le_bytes());
        ivf.extend(frame);
    }
    std::fs::write(path, ivf).unwrap();
}

/// The frames of a recording, which is whole: its header says how many there are, and time goes forward.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let ivf = std::fs::read(path).unwrap();
    let mut rest = &ivf[32..];
    let mut frames = Vec::new();
    let mut last = None;
    while let Some((head, behind)) = rest.split_at_checked(12) {
        let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let time = u64::from_le_bytes(head[4..].try_into().unwrap());
        assert!(last < Some(time), "{last:?}, then {time}");
        last = Some(time);
        frames.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    assert!(rest.is_empty(), "{} octets too many", rest.len());
    let said = u32::from_le_bytes(ivf[24..28].try_into().unwrap()) as usize;
    assert_eq!(said, frames.len());
    frames
}

/// Whose frames were seen, by their films' seeds, and which: each run of one film begins with a key frame.
pub(super) fn seen_of(path: &Path, seeds: [u8; 2]) -> Vec<(u8, usize)> {
    let known = |seen: &Vec<u8>| {
        let films = seeds
            .iter()
            .flat_map(|seed| (0..FRAMES).map(|number| (*seed, number)));
        let mut films = films;
        films
            .find(|(seed, number)| frame(*seed, *number) == *seen)
            .expect("a frame of one of the films")
    };
    let seen: Vec<(u8, usize)> = frames(path).iter().map(known).collect();
    for run in seen.chunk_by(|one, next| one.0 == next.0) {
        assert!(run[0].1.is_multiple_of(KEYS), "{seen:?}");
    }
    seen
}

/// How many of the film's frames were seen: from a key frame on, each whole, none twice unless the peer asked for a key frame.
pub(super) fn seen(path: &Path, seed: u8) -> usize {
    let frames = frames(path);
    let number = |seen: &Vec<u8>| {
        (0..FRAMES)
            .find(|number| frame(seed, *number) == *seen)
            .expect("a frame of the film")
    };
    let numbers: Vec<usize> = frames.iter().map(number).collect();
    assert!(numbers[0].is_multiple_of(KEYS), "{numbers:?}");
    for pair in numbers.windows(2) {
        assert!(
            pair[1] == pair[0] + 1 || pair[1].is_multiple_of(KEYS),
            "{numbers:?}"
        );
    }
    let mut numbers = numbers;
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

fn shows(path: PathBuf, sink: PathBuf) -> MediaPlan {
    let source = VideoSource::File { path, repeat: false };
    MediaPlan {
        video: Some(VideoPlan::new(source, VideoSink::File { path: sink })),
        ..MediaPlan::default()
    }
}

async fn call(from: &Endpoint, to: &mut Endpoint, whom: &str, plans: [MediaPlan; 2]) -> (Call, Call) {
    let [ours, theirs] = plans;
    let call = from.dial(whom, ours).await.unwrap();
    let ringing = rings(to).await;
    let answered = ringing.answer(theirs).await.unwrap();
    (call, answered)
}

pub(super) fn is_negotiated(event: &CallEventKind) -> bool {
    matches!(event, CallEventKind::NegotiatedVideo(Some(video)) if video.codec == VideoCodec::Vp8)
}

/// Two endpoints show each other a film.
async fn both_see(name: &str, ours: &str, theirs: &str) {
    let home = home().await;
    let folder = Folder::new(name);
    let alice = endpoint(&home, "alice", ours).await;
    let mut bob = endpoint(&home, "bob", theirs).await;
    let files = ["a.ivf", "b.ivf", "seen-by-a.ivf", "seen-by-b.ivf"].map(|name| folder.file(name));
    let [film_a, film_b, at_a, at_b] = files.clone();
    film(&film_a, 0x11);
    film(&film_b, 0x77);
    let plans = [shows(film_a, at_a.clone()), shows(film_b, at_b.clone())];
    let (mut first, mut second) = call(&alice, &mut bob, "bob", plans).await;
    event(&mut first, is_negotiated).await;
    event(&mut second, is_negotiated).await;
    event(&mut first, |event| {
        matches!(event, CallEventKind::VideoSourceEnded)
    })
    .await;
    sleep(Duration::from_millis(500)).await;
    first.hangup().await.unwrap();
    for report in [
        first.finished().await.unwrap(),
        timeout(SOON, second.finished()).await.unwrap().unwrap(),
    ] {
        let stats = report.ending.stats.as_ref().unwrap();
        let video = stats.video.expect("there was video");
        assert!(
            video.frames_sent >= FRAMES as u64 && video.unsent == 0,
            "{video:?}"
        );
        assert!(
            video.transport.packets_sent > 200 && video.transport.packets_received > 200,
            "{video:?}"
        );
        assert_eq!(stats.packets_lost, 0, "of audio");
    }
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    for (path, seed) in [(&at_a, 0x77), (&at_b, 0x11)] {
        let seen = seen(path, seed);
        println!("{name}: {seen} of {FRAMES} frames");
        assert!(seen >= FRAMES - 2, "{name}: {seen} frames in {}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webrtc_endpoints_see_each_other_in_one_transport() {
    both_see("webrtc", "", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telephones_of_every_keying_see_each_other() {
    for keying in ["none", "sdes", "dtls"] {
        both_see(keying, &telephone(keying), &telephone("none")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_endpoint_shows_a_telephone_its_film_by_the_classic_engine() {
    both_see("classic", &telephone("sdes"), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_video_hears() {
    let home = home().await;
    let folder = Folder::new("declined");
    let mut bob = endpoint(&home, "bob", "").await;
    for media in [String::new(), telephone("none")] {
        let alice = endpoint(&home, "alice", &media).await;
        let path = folder.file("film.ivf");
        film(&path, 1);
        let plan = shows(path, folder.file("seen.ivf"));
        let (mut first, mut second) = call(&alice, &mut bob, "bob", [plan, MediaPlan::default()]).await;
        for end in [&mut first, &mut second] {
            let event = event(end, |event| {
                assert!(
                    !matches!(event, CallEventKind::NegotiatedVideo(Some(_))),
                    "{event:?}"
                );
                matches!(event, CallEventKind::FirstPacket { inbound: true })
            })
            .await;
            drop(event);
        }
        second.hangup().await.unwrap();
        let report = timeout(SOON, first.finished()).await.unwrap().unwrap();
        assert_eq!(report.ending.cause, Cause::Bye);
        alice.shutdown().await;
    }
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_held_shows_nothing_and_begins_again_with_a_key_frame() {
    let home = home().await;
    let folder = Folder::new("held");
    let [path, sink] = ["film.ivf", "seen.ivf"].map(|name| folder.file(name));
    film(&path, 3);
    let alice = endpoint(&home, "alice", "").await;
    let mut bob = endpoint(&home, "bob", "").await;
    let source = VideoSource::File { path, repeat: true };
    let plan = MediaPlan {
        video: Some(VideoPlan::new(source, VideoSink::Null)),
        ..MediaPlan::default()
    };
    let looks = MediaPlan {
        video: Some(VideoPlan {
            direction: Direction::RecvOnly,
            ..VideoPlan::new(VideoSource::None, VideoSink::File { path: sink.clone() })
        }),
        ..MediaPlan::default()
    };
    let (mut first, mut second) = call(&alice, &mut bob, "bob", [plan, looks]).await;
    event(&mut second, |event| matches!(event, CallEventKind::Confirmed)).await;
    sleep(Duration::from_millis(500)).await;
    second.hold().await.unwrap();
    event(&mut first, |event| matches!(event, CallEventKind::Held { .. })).await;
    sleep(Duration::from_millis(300)).await;
    let received = |stats: SessionStats| stats.video.unwrap().transport.packets_received;
    let before = received(second.stats().await.unwrap());
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        received(second.stats().await.unwrap()),
        before,
        "nothing comes while it is held"
    );
    second.resume().await.unwrap();
    event(&mut first, |event| matches!(event, CallEventKind::Resumed { .. })).await;
    sleep(Duration::from_millis(1_000)).await;
    assert!(received(second.stats().await.unwrap()) > before);
    first.hangup().await.unwrap();
    timeout(SOON, second.finished()).await.unwrap().unwrap();
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    assert!(seen(&sink, 3) > 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_is_no_film_is_said_before_anybody_is_called() {
    let home = home().await;
    let folder = Folder::new("none");
    let alice = endpoint(&home, "alice", "").await;
    let call = alice
        .dial("bob", shows(folder.file("none.ivf"), folder.file("seen.ivf")))
        .await
        .unwrap();
    let report = timeout(SOON, call.finished()).await.unwrap().unwrap();
    let ending = &report.ending;
    assert!(
        ending
            .sentence
            .as_ref()
            .is_some_and(|sentence| sentence.contains("none.ivf")),
        "{ending:?}"
    );
    alice.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn video_goes_over_a_bridge_of_two_engines_with_its_key_frames() {
    let home = home().await;
    let folder = Folder::new("bridge");
    let alice = endpoint(&home, "alice", "").await;
    let carol = endpoint(&home, "carol", &telephone("sdes")).await;
    let mut bob = endpoint(&home, "bob", "").await;
    let files = ["a.ivf", "c.ivf", "seen-by-a.ivf", "seen-by-c.ivf"].map(|name| folder.file(name));
    let [film_a, film_c, at_a, at_c] = files.clone();
    film(&film_a, 0x21);
    film(&film_c, 0x42);
    let looped = |path: PathBuf, sink: PathBuf| MediaPlan {
        video: Some(VideoPlan::new(
            VideoSource::File { path, repeat: true },
            VideoSink::File { path: sink },
        )),
        ..MediaPlan::default()
    };
    let between = || MediaPlan {
        video: Some(VideoPlan::new(VideoSource::None, VideoSink::Null)),
        ..MediaPlan::default()
    };
    let (first, mut own_first) =
        call(&alice, &mut bob, "bob", [looped(film_a, at_a.clone()), between()]).await;
    let (second, mut own_second) =
        call(&carol, &mut bob, "bob", [looped(film_c, at_c.clone()), between()]).await;
    for end in [&mut own_first, &mut own_second] {
        event(end, is_negotiated).await;
        event(end, |event| matches!(event, CallEventKind::Confirmed)).await;
    }
    bob.bridge(&own_first, &own_second).await.unwrap();
    for end in [&mut own_first, &mut own_second] {
        event(end, |event| {
            matches!(
                event,
                CallEventKind::VideoBridged {
                    from_peer: true,
                    to_peer: true,
                    ..
                }
            )
        })
        .await;
    }
    sleep(Duration::from_millis(4_000)).await;
    for call in [&first, &second] {
        let video = call.stats().await.unwrap().video.unwrap();
        assert!(
            video.frames_received > 60 && video.key_frames_wanted > 0,
            "{video:?}"
        );
    }
    for end in [&own_first, &own_second] {
        let video = end.stats().await.unwrap().video.unwrap();
        let received = video.transport.bytes_received * 8 / 5;
        let allowed = video.bitrate_allowed.expect("its peer was told");
        assert!(allowed > received, "{allowed} of {received} bit/s");
    }
    first.hangup().await.unwrap();
    second.hangup().await.unwrap();
    first.finished().await.unwrap();
    second.finished().await.unwrap();
    alice.shutdown().await;
    carol.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    assert!(seen(&at_a, 0x42) > 60);
    assert!(seen(&at_c, 0x21) > 60);
}

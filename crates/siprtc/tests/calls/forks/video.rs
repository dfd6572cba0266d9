//! The same with video: who is heard is seen, and sees.

use super::{DOWN, KINDS, Scene, Telephones, UP};
use crate::house::SOON;
use async_trait::async_trait;
use bytes::Bytes;
use siprtc::core::media::{Feedback, MediaPeer, RtpPacket, VideoCodec, VideoPort};
use siprtc::media_session::{FrameSink, FrameSource, VideoFrame};
use siprtc::prelude::*;
use siprtc::registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Whose pictures Alice shows.
const ALICE: u8 = 0x44;

/// A picture of VP8's whose content says whose it is.
fn picture(is_key: bool, whose: u8) -> Vec<u8> {
    let mut picture = vec![whose; 60];
    picture[..10].copy_from_slice(&[u8::from(!is_key), 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]);
    picture
}

/// A telephone's: it shows a key frame first, and whenever it is asked for one.
#[derive(Default)]
pub(super) struct Screen {
    payload_type: AtomicU8,
    is_key_wanted: AtomicBool,
    has_shown: AtomicBool,
    /// It does not ask.
    is_mute: AtomicBool,
    /// Alice's frames, since her first key frame.
    seen: AtomicU64,
}

impl Screen {
    /// What VP8 is called in the telephone's answer.
    pub(super) fn reads(&self, answer: &str) {
        let named = |line: &str| {
            line.strip_prefix("a=rtpmap:")?
                .strip_suffix(" VP8/90000")?
                .parse()
                .ok()
        };
        let number = answer.lines().find_map(named).expect("it has VP8");
        self.payload_type.store(number, Ordering::Relaxed);
    }

    /// Each packet time a picture, and a question as long as there is nothing to see.
    pub(super) fn show(&self, peer: &dyn MediaPeer, number: u16, whose: u8) {
        let is_first = !self.has_shown.load(Ordering::Relaxed);
        let is_key = is_first || self.is_key_wanted.swap(false, Ordering::Relaxed);
        // RFC 7741 section 4.2: S, and nothing else.
        let payload = [vec![0x10], picture(is_key, whose)].concat();
        let packet = RtpPacket {
            payload_type: self.payload_type.load(Ordering::Relaxed),
            marker: true,
            sequence: number,
            timestamp: u32::from(number) * 1_800,
            ssrc: 0,
            payload: Bytes::from(payload),
        };
        let is_shown = peer.send_video(packet).is_ok();
        self.has_shown.fetch_or(is_shown, Ordering::Relaxed);
        let has_seen = self.seen.load(Ordering::Relaxed) > 0 || self.is_mute.load(Ordering::Relaxed);
        if number.is_multiple_of(10) && !has_seen {
            let _ = peer.send_feedback(Feedback::KeyFrame);
        }
    }
}

impl VideoPort for Screen {
    fn push(&self, packet: RtpPacket) {
        // X with a picture id of two octets, as siprtc writes it.
        let Some(frame) = packet.payload.get(4..) else {
            return;
        };
        let is_hers = frame.last() == Some(&ALICE);
        let is_key = frame.first().is_some_and(|first| first & 1 == 0);
        if is_hers && (is_key || self.seen.load(Ordering::Relaxed) > 0) {
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn feedback(&self, feedback: Feedback) {
        if feedback == Feedback::KeyFrame {
            self.is_key_wanted.store(true, Ordering::Relaxed);
        }
    }
}

/// Alice's: a key frame first, and whenever she is asked for one.
#[derive(Default)]
struct Camera {
    count: AtomicU64,
    is_key_wanted: AtomicBool,
}

#[async_trait]
impl FrameSource for Camera {
    async fn next(&self, _: VideoCodec) -> Option<VideoFrame> {
        sleep(Duration::from_millis(33)).await;
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let is_key = count == 0 || self.is_key_wanted.swap(false, Ordering::Relaxed);
        Some(VideoFrame {
            data: Bytes::from(picture(is_key, ALICE)),
            is_key,
            timestamp: count as u32 * 3_000,
        })
    }

    fn key_frame_wanted(&self) {
        self.is_key_wanted.store(true, Ordering::Relaxed);
    }
}

/// Whom Alice sees, and how many pictures since the last key frame; nobody has begun with anything but one.
struct Eye(watch::Sender<(u8, u64)>);

impl FrameSink for Eye {
    fn write(&self, _: VideoCodec, frame: VideoFrame) {
        let whose = frame.data.last().copied().unwrap_or_default();
        let (before, count) = *self.0.borrow();
        assert!(frame.is_key || whose == before, "{whose:x} begins in the middle");
        self.0
            .send_replace((whose, if frame.is_key { 0 } else { count + 1 }));
    }
}

/// A scene in which these telephones have screens, and whom Alice sees.
struct Show {
    scene: Scene,
    eye: watch::Receiver<(u8, u64)>,
    screens: [Option<Arc<Screen>>; 2],
}

impl Show {
    async fn new((engine, media): (&str, &str), policy: &str, screens: [bool; 2]) -> Self {
        // In one transport with the audio, or in none.
        let mut telephones = Telephones::of(registry::media_engine(engine).unwrap());
        let screens = screens.map(|has_one| has_one.then(Arc::<Screen>::default));
        telephones.screens = screens.clone();
        let (told, eye) = watch::channel((0, 0));
        let source = VideoSource::Frames(Arc::new(Camera::default()));
        let mut plan = VideoPlan::new(source, VideoSink::Frames(Arc::new(Eye(told))));
        plan.codecs = vec![VideoCodec::Vp8];
        telephones.video = Some(plan);
        let scene = Scene::with(engine, policy, media, &mut telephones).await;
        Show { scene, eye, screens }
    }

    async fn sees(&mut self, whose: u8) {
        let seen = self.eye.wait_for(|(seen, _)| *seen == whose);
        timeout(SOON, seen).await.expect("Alice sees").unwrap();
    }

    /// Picture after picture, and nobody else's: then each would have to begin with a key frame again.
    async fn sees_only(&mut self, whose: u8) {
        self.sees(whose).await;
        let seen = self.eye.wait_for(|(seen, count)| *seen != whose || *count >= 20);
        let seen = timeout(SOON, seen).await.expect("Alice sees on").unwrap().0;
        assert_eq!(seen, whose, "the other one is seen, too");
    }

    /// One of them sees Alice.
    async fn is_seen_by(&self, which: usize) {
        let screen = self.screens[which].as_ref().unwrap();
        let before = screen.seen.load(Ordering::Relaxed);
        let seen = async {
            while screen.seen.load(Ordering::Relaxed) < before + 5 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, seen).await.expect("Alice is seen");
    }

    /// `down` answers for good: it alone is heard and seen.
    async fn the_second_answers(mut self) {
        self.scene.the_second_answers().await;
        self.sees_only(DOWN).await;
        self.is_seen_by(1).await;
        self.scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_fork_is_seen_and_sees_before_and_after_its_200() {
    for kind in KINDS {
        let mut show = Show::new(kind, "latest", [true, true]).await;
        let (up, down) = (show.scene.up.answer.clone(), show.scene.down.answer.clone());
        show.scene.respond(183, "up", &up).await;
        show.sees(UP).await;
        show.is_seen_by(0).await;
        show.scene.respond(183, "down", &down).await;
        show.sees_only(DOWN).await;
        show.is_seen_by(1).await;
        show.the_second_answers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_becomes_heard_has_a_key_frame_without_asking() {
    for kind in KINDS {
        let mut show = Show::new(kind, "latest", [true, true]).await;
        let (up, down) = (show.scene.up.answer.clone(), show.scene.down.answer.clone());
        show.scene.respond(183, "down", &down).await;
        show.sees(DOWN).await;
        show.is_seen_by(1).await;
        show.scene.respond(183, "up", &up).await;
        show.sees_only(UP).await;
        show.is_seen_by(0).await;
        // Its path has been up for long; it has forgotten what it saw, and waits.
        let screen = show.screens[1].as_ref().unwrap();
        screen.is_mute.store(true, Ordering::Relaxed);
        screen.seen.store(0, Ordering::Relaxed);
        show.the_second_answers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_fork_is_seen_until_the_second_answers() {
    for kind in KINDS {
        let mut show = Show::new(kind, "first", [true, true]).await;
        let (up, down) = (show.scene.up.answer.clone(), show.scene.down.answer.clone());
        show.scene.respond(183, "up", &up).await;
        show.scene.respond(183, "down", &down).await;
        show.sees(UP).await;
        show.is_seen_by(0).await;
        show.sees_only(UP).await;
        show.the_second_answers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn video_that_one_fork_refuses_is_not_refused_for_the_others() {
    for kind in KINDS {
        for policy in ["first", "latest", "none"] {
            let mut show = Show::new(kind, policy, [false, true]).await;
            let (up, down) = (show.scene.up.answer.clone(), show.scene.down.answer.clone());
            show.scene.respond(183, "up", &up).await;
            if policy != "none" {
                show.scene.hears(1).await;
            }
            show.scene.respond(183, "down", &down).await;
            if policy == "latest" {
                show.sees(DOWN).await;
            }
            show.the_second_answers().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_without_video_that_answers_ends_what_was_seen_of_the_first() {
    for kind in KINDS {
        let mut show = Show::new(kind, "first", [true, false]).await;
        let up = show.scene.up.answer.clone();
        show.scene.respond(183, "up", &up).await;
        show.sees(UP).await;
        show.is_seen_by(0).await;
        show.scene.the_second_answers().await;
        let seen = show.screens[0].as_ref().unwrap().seen.load(Ordering::Relaxed);
        show.eye.mark_unchanged();
        sleep(Duration::from_millis(300)).await;
        assert!(!show.eye.has_changed().unwrap(), "nobody is seen any more");
        assert_eq!(
            show.screens[0].as_ref().unwrap().seen.load(Ordering::Relaxed),
            seen
        );
        show.scene.end().await;
    }
}

//! One offer, several answers: a session with a media peer for each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test program, which uses more of it"
)]
mod common;

use common::{End, audio};
use parking_lot::Mutex;
use siprtc_core::Fault;
use siprtc_core::media::{Codec, MediaEvent, SdpKind};
use siprtc_media_session::{
    AcceptAnswer, AcceptFork, AddCandidates, AnswerOffer, AudioSink, Begin, Close, CreateOffer, Fork,
    SessionEventKind, Sink, Snapshot, Source, TakeFork,
};
use siprtc_testkit::media::{FakeNetwork, Impairment};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{pause, sleep};

/// Keeps the pitch of what it hears, by its zero crossings.
#[derive(Default)]
struct Pitch(Mutex<Vec<i16>>);

impl AudioSink for Pitch {
    fn write(&self, _: u32, frame: &[i16]) {
        self.0.lock().extend_from_slice(frame);
    }
}

impl Pitch {
    /// In Hz, of the second that comes.
    async fn of_the_next_second(&self) -> usize {
        self.0.lock().clear();
        sleep(Duration::from_secs(1)).await;
        let heard = self.0.lock();
        let crossings = heard.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0);
        crossings.count() * 8_000 / heard.len().max(1)
    }
}

fn tone(hz: f32) -> Source {
    let level_dbfs = -6.0;
    Source::Tone { hz, level_dbfs }
}

fn begin() -> Begin {
    Begin {
        audio: audio(Codec::Pcmu),
        video: None,
    }
}

/// Alice has offered; Bob, who plays 400 Hz, and Carol, who plays 1000 Hz, have answered her.
struct Scene {
    network: Arc<FakeNetwork>,
    alice: End,
    offer: String,
    pitch: Arc<Pitch>,
    bob: (End, String),
    carol: (End, String),
}

impl Scene {
    async fn new() -> Self {
        Scene::needing(None).await
    }

    /// Alice's media peers connect only with a candidate of this port.
    async fn needing(port: Option<u16>) -> Self {
        pause();
        let network = FakeNetwork::new(Impairment::default());
        let engine = network.engine();
        engine.let_fork();
        if let Some(port) = port {
            engine.need_candidate(port);
        }
        let pitch = Arc::new(Pitch::default());
        let codecs = [Codec::Pcmu];
        let alice = End::over(
            engine,
            &codecs,
            tone(250.0),
            Sink::Samples(Arc::clone(&pitch) as _),
        );
        let offer = alice.session.send(CreateOffer).await.unwrap().unwrap();
        let mut answered = Vec::new();
        for hz in [400.0, 1_000.0] {
            let end = End::new(&network, &codecs, tone(hz), Sink::Null);
            let sdp = offer.clone();
            let answer = end.session.send(AnswerOffer { sdp }).await.unwrap().unwrap();
            end.session.send(begin()).await.unwrap().unwrap();
            answered.push((end, answer));
        }
        let carol = answered.pop().unwrap();
        let bob = answered.pop().unwrap();
        Scene {
            network,
            alice,
            offer,
            pitch,
            bob,
            carol,
        }
    }

    /// Bob's answer came first, and Carol's early one next.
    async fn forked(begins: Option<Begin>) -> Self {
        let scene = Scene::new().await;
        scene.accept_bob().await;
        let alice = &scene.alice.session;
        let (fork, sdp) = (Fork(1), scene.carol.1.clone());
        let begin = begins;
        alice
            .send(AcceptFork { fork, sdp, begin })
            .await
            .unwrap()
            .unwrap();
        scene
    }

    async fn accept_bob(&self) {
        let (sdp, kind) = (self.bob.1.clone(), SdpKind::Answer);
        let alice = &self.alice.session;
        alice.send(AcceptAnswer { sdp, kind }).await.unwrap().unwrap();
        alice.send(begin()).await.unwrap().unwrap();
    }

    async fn take(&self, fork: Fork, end: &(End, String)) {
        let (sdp, begin) = (end.1.clone(), begin());
        let alice = &self.alice.session;
        alice.send(TakeFork { fork, sdp, begin }).await.unwrap().unwrap();
    }

    async fn hears(&self, hz: usize) {
        self.pitch.of_the_next_second().await;
        let heard = self.pitch.of_the_next_second().await;
        assert!(heard.abs_diff(hz) < 40, "{heard} Hz and not {hz}");
    }
}

async fn received(end: &End) -> u64 {
    let stats = end.session.send(Snapshot).await.unwrap().unwrap();
    stats.transport.packets_received
}

#[actix_rt::test]
async fn a_fork_aside_is_not_heard_until_it_is_taken() {
    let scene = Scene::forked(None).await;
    scene.hears(400).await;
    assert_eq!(received(&scene.carol.0).await, 0);
    scene.take(Fork(1), &scene.carol).await;
    scene.hears(1_000).await;
    let (bob, carol) = (received(&scene.bob.0).await, received(&scene.carol.0).await);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(received(&scene.bob.0).await, bob, "nobody speaks to Bob any more");
    assert!(received(&scene.carol.0).await > carol + 40);
    assert_eq!(
        scene.network.open_peers(),
        3,
        "Alice's first media peer is closed"
    );
}

#[actix_rt::test]
async fn the_latest_fork_is_heard_at_once_and_the_first_may_be_taken_all_the_same() {
    let scene = Scene::forked(Some(begin())).await;
    scene.hears(1_000).await;
    scene.take(Fork::FIRST, &scene.bob).await;
    scene.hears(400).await;
    assert_eq!(scene.network.open_peers(), 3);
}

#[actix_rt::test]
async fn a_fork_without_early_media_is_taken_at_once() {
    let scene = Scene::forked(None).await;
    let dave = End::new(&scene.network, &[Codec::Pcmu], tone(600.0), Sink::Null);
    let sdp = scene.offer.clone();
    let answer = dave.session.send(AnswerOffer { sdp }).await.unwrap().unwrap();
    dave.session.send(begin()).await.unwrap().unwrap();
    let dave = (dave, answer);
    scene.take(Fork(8), &dave).await;
    scene.hears(600).await;
    assert_eq!(scene.network.open_peers(), 4);
}

#[actix_rt::test]
async fn what_an_older_answer_agreed_on_changes_nothing_after_a_fork_was_taken() {
    let scene = Scene::forked(None).await;
    scene.take(Fork(1), &scene.carol).await;
    let late = Begin {
        audio: audio(Codec::Pcma),
        video: None,
    };
    scene.alice.session.send(late).await.unwrap().unwrap();
    let stats = scene.alice.session.send(Snapshot).await.unwrap().unwrap();
    assert_eq!(stats.codec, Some(Codec::Pcmu));
    // Another answer to the offer that is settled means nothing either.
    let (sdp, kind) = (scene.bob.1.clone(), SdpKind::Answer);
    let late = scene
        .alice
        .session
        .send(AcceptAnswer { sdp, kind })
        .await
        .unwrap();
    assert_eq!(late.unwrap_err().fault(), Fault::ApiMisuse);
}

#[actix_rt::test]
async fn a_session_that_closes_while_it_forks_closes_every_media_peer() {
    let scene = Scene::forked(Some(begin())).await;
    assert_eq!(scene.network.open_peers(), 4);
    scene.alice.session.send(Close).await.unwrap().unwrap();
    assert_eq!(scene.network.open_peers(), 2);
}

#[actix_rt::test]
async fn an_answer_that_no_media_peer_takes_leaves_the_others_alone() {
    let scene = Scene::forked(None).await;
    let (fork, sdp) = (Fork(2), "v=0\r\n".to_owned());
    let refused = scene.alice.session.send(AcceptFork {
        fork,
        sdp,
        begin: None,
    });
    assert_eq!(refused.await.unwrap().unwrap_err().fault(), Fault::PeerMisbehaved);
    assert_eq!(scene.network.open_peers(), 4);
    scene.hears(400).await;
}

#[actix_rt::test]
async fn an_engine_without_forks_says_so() {
    pause();
    let network = FakeNetwork::new(Impairment::default());
    let alice = End::new(&network, &[Codec::Pcmu], Source::Silence, Sink::Null);
    alice.session.send(CreateOffer).await.unwrap().unwrap();
    let (fork, sdp) = (Fork(1), "v=0\r\n".to_owned());
    let refused = alice.session.send(AcceptFork {
        fork,
        sdp,
        begin: None,
    });
    assert_eq!(refused.await.unwrap().unwrap_err().fault(), Fault::Unsupported);
}

#[actix_rt::test]
async fn that_a_fork_is_connected_is_told_when_it_is_heard() {
    let scene = Scene::forked(None).await;
    let connected =
        || (scene.alice).count(|kind| matches!(kind, SessionEventKind::Media(MediaEvent::Connected)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(connected(), 1);
    scene.take(Fork(1), &scene.carol).await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(connected(), 2);
}

#[actix_rt::test]
async fn a_fork_is_connected_by_candidates_that_come_after_its_answer() {
    let scene = Scene::needing(Some(7)).await;
    scene.accept_bob().await;
    let late = |fork, port: u16| AddCandidates {
        fork,
        candidates: vec![format!("1 1 UDP 1 192.0.2.1 {port} typ host").parse().unwrap()],
    };
    let alice = &scene.alice.session;
    let (fork, sdp) = (Fork(1), scene.carol.1.clone());
    let begin = None;
    alice
        .send(AcceptFork { fork, sdp, begin })
        .await
        .unwrap()
        .unwrap();
    alice.send(late(Fork::FIRST, 7)).await.unwrap().unwrap();
    scene.hears(400).await;
    let unknown = alice.send(late(Fork(2), 7)).await.unwrap();
    assert_eq!(unknown.unwrap_err().fault(), Fault::ApiMisuse);
    scene.take(Fork(1), &scene.carol).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(received(&scene.carol.0).await, 0, "there is no path yet");
    // There is one media peer only: whoever is named, it is meant.
    alice.send(late(Fork(1), 7)).await.unwrap().unwrap();
    scene.hears(1_000).await;
}

#[actix_rt::test]
async fn candidates_of_a_fork_aside_connect_it_before_it_is_heard() {
    let scene = Scene::needing(Some(7)).await;
    scene.accept_bob().await;
    let alice = &scene.alice.session;
    let (fork, sdp) = (Fork(1), scene.carol.1.clone());
    let begin = None;
    alice
        .send(AcceptFork { fork, sdp, begin })
        .await
        .unwrap()
        .unwrap();
    let candidates = vec!["1 1 UDP 1 192.0.2.1 7 typ host".parse().unwrap()];
    alice
        .send(AddCandidates { fork, candidates })
        .await
        .unwrap()
        .unwrap();
    let connected =
        || (scene.alice).count(|kind| matches!(kind, SessionEventKind::Media(MediaEvent::Connected)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(connected(), 0, "the first one is heard, and has no path");
    scene.take(Fork(1), &scene.carol).await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(connected(), 1);
    scene.hears(1_000).await;
}

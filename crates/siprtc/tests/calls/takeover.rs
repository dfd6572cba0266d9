//! A call that takes another's place goes on with what is joined to that one, and with its recordings.

use crate::bridges::{HEARD, alike, bridged, call, heard, media, plays, voice_file};
use crate::house::{SOON, endpoint, endpoint_with, event, found, home, rings};
use crate::video::{film, is_negotiated, seen_of};
use siprtc::prelude::*;
use siprtc_home_server::HomeServer;
use siprtc_testkit::Folder;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const ALICE: f64 = 140.0;
const CAROL: f64 = 210.0;
const DAVE: f64 = 175.0;

/// Of the conference's own rate neither has anything: the one is resampled up, the other down.
const MIXED: [&str; 2] = ["[media]\ncodecs = [\"opus\"]\n", "[media]\ncodecs = [\"pcmu\"]\n"];

/// Alice and Carol are in calls with Bob; Dave will come in Alice's place.
struct Four {
    home: HomeServer,
    folder: Folder,
    alice: Endpoint,
    bob: Endpoint,
    carol: Endpoint,
    dave: Endpoint,
    at_alice: Call,
    at_carol: Call,
    first: Call,
    second: Call,
}

impl Four {
    async fn new(story: &str, media_config: &str) -> Self {
        let home = home().await;
        let folder = Folder::new(story);
        let [alice, mut bob, carol, dave] = [
            endpoint_with(&home, "alice", media_config).await,
            endpoint_with(&home, "bob", media_config).await,
            endpoint_with(&home, "carol", media_config).await,
            endpoint_with(&home, "dave", media_config).await,
        ];
        let says = |name: &str, pitch| plays(voice_file(&folder, name, pitch));
        let of_alice = media(says("alice-says.wav", ALICE), folder.file("alice.wav"));
        let of_carol = media(says("carol-says.wav", CAROL), folder.file("carol.wav"));
        let sink = media(Source::Silence, folder.file("first.wav"));
        let (at_alice, first) = call(&alice, &mut bob, of_alice, sink).await;
        let (at_carol, second) = call(&carol, &mut bob, of_carol, MediaPlan::default()).await;
        Four {
            home,
            folder,
            alice,
            bob,
            carol,
            dave,
            at_alice,
            at_carol,
            first,
            second,
        }
    }

    fn of_dave(&self) -> MediaPlan {
        let says = voice_file(&self.folder, "dave-says.wav", DAVE);
        media(plays(says), self.folder.file("dave.wav"))
    }

    async fn dave_takes_alices_place(&mut self) -> (Call, Call) {
        let media = self.of_dave();
        takes_the_place(&self.at_alice, &mut self.first, &mut self.dave, media).await
    }

    /// Everybody hangs up; where their recordings are.
    async fn over(self, new: Call) -> (Folder, [PathBuf; 3]) {
        for call in [new, self.at_carol] {
            // Where the first to hang up ends the other one, too, it is over already.
            drop(call.hangup().await);
            timeout(SOON, call.finished()).await.expect("it ends").unwrap();
        }
        for endpoint in [self.alice, self.bob, self.carol, self.dave] {
            endpoint.shutdown().await;
        }
        self.home.shutdown().await;
        let files = ["carol.wav", "dave.wav", "first.wav"].map(|name| self.folder.file(name));
        (self.folder, files)
    }
}

/// The peer of `replaced` asks Dave, who calls Bob in its place; gives his end and Bob's.
async fn takes_the_place(
    at_peer: &Call,
    replaced: &mut Call,
    dave: &mut Endpoint,
    media: MediaPlan,
) -> (Call, Call) {
    let mut consulted = at_peer.consult("dave", MediaPlan::default()).await.unwrap();
    let ringing = rings(dave).await;
    let mut asked = ringing.answer(MediaPlan::default()).await.unwrap();
    consulted.confirmed().await.unwrap();
    asked.confirmed().await.unwrap();
    consulted.transfer_to(at_peer).await.unwrap();
    event(&mut asked, |event| {
        matches!(event, CallEventKind::TransferWanted { .. })
    })
    .await;
    let mut new = asked.accept_transfer(media).await.unwrap();
    new.confirmed().await.unwrap();
    let by = found(replaced, |event| match event {
        CallEventKind::Replaced { by } => Some(*by),
        _ => None,
    })
    .await;
    (new, replaced.take(by).await.unwrap())
}

async fn bridged_with(call: &mut Call, wanted: siprtc_core::CallId) {
    found(call, |event| match event {
        CallEventKind::Bridged { with, .. } => (*with == wanted).then_some(()),
        _ => None,
    })
    .await;
}

fn hears(who: &str, samples: &[i16], pitch: f64) {
    let alike = alike(samples, pitch);
    println!("{who}: {alike:.3}");
    assert!(alike > 0.85, "{who}: {alike}");
}

/// What was heard until the silence at the end.
fn speaking(mut samples: Vec<i16>) -> Vec<i16> {
    let end = samples.iter().rposition(|sample| sample.unsigned_abs() > 500);
    samples.truncate(end.unwrap_or(0));
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_replaces_another_goes_on_in_its_bridge_and_its_recordings() {
    let mut four = Four::new("takeover-replaces", "").await;
    let hang_up = BridgeConfig {
        on_end: OnEnd::HangUp,
        ..BridgeConfig::default()
    };
    let bridge = four
        .bob
        .bridge_with(&four.first, &four.second, hang_up)
        .await
        .unwrap();
    bridged(&mut four.second).await;
    let both = four.folder.file("both.wav");
    four.first.record(&both, Sides::Both).await.unwrap();
    sleep(HEARD).await; // Alice is heard for a while.
    let (new, mut instead) = four.dave_takes_alices_place().await;
    bridged_with(&mut four.second, instead.id()).await;
    let second = four.second.id();
    bridged_with(&mut instead, second).await;
    sleep(HEARD).await;
    let recorded = instead.stop_recording().await.unwrap();
    assert!(recorded > 2 * HEARD, "{recorded:?}: it began with Alice");
    assert!(bridge.carriage().is_some());
    // The handle of the bridge parts whoever sits at its ends.
    bridge.part().await.unwrap();
    let parted = event(&mut instead, |event| matches!(event, CallEventKind::Parted(_))).await;
    assert!(matches!(parted, CallEventKind::Parted(PartedBy::Application)));
    let (_folder, [at_carol, at_dave, first]) = four.over(new).await;
    hears("carol", &speaking(heard(&at_carol, 0)), DAVE);
    hears("dave", &speaking(heard(&at_dave, 0)), CAROL);
    hears("left", &heard(&both, 0), CAROL);
    hears("right", &heard(&both, 1), DAVE);
    let first = heard(&first, 0);
    hears("the sink's end", &first, DAVE);
    hears("the sink's begin", &first[..16_000], ALICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_call_that_a_peer_asks_for_goes_on_in_the_bridge() {
    let mut four = Four::new("takeover-refer", "").await;
    let hang_up = BridgeConfig {
        on_end: OnEnd::HangUp,
        ..BridgeConfig::default()
    };
    four.bob
        .bridge_with(&four.first, &four.second, hang_up)
        .await
        .unwrap();
    bridged(&mut four.second).await;
    four.at_alice.transfer("dave").await.unwrap();
    event(&mut four.first, |event| {
        matches!(event, CallEventKind::TransferWanted { .. })
    })
    .await;
    let mut instead = four.first.accept_transfer(MediaPlan::default()).await.unwrap();
    let plan = four.of_dave();
    let mut new = rings(&mut four.dave).await.answer(plan).await.unwrap();
    new.confirmed().await.unwrap();
    bridged_with(&mut four.second, instead.id()).await;
    let second = four.second.id();
    bridged_with(&mut instead, second).await;
    // Alice's call ends, and takes nobody along.
    event(&mut four.first, |event| matches!(event, CallEventKind::Ended(_))).await;
    sleep(HEARD).await;
    let (_folder, [at_carol, at_dave, first]) = four.over(new).await;
    hears("carol", &heard(&at_carol, 0), DAVE);
    hears("dave", &speaking(heard(&at_dave, 0)), CAROL);
    hears("the sink", &heard(&first, 0), DAVE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_joins_a_call_in_a_conference_and_one_that_names_none_is_refused() {
    let mut four = Four::new("takeover-join", MIXED[0]).await;
    let conference = four.bob.conference(ConferenceConfig::default()).unwrap();
    let mut options = DialOptions {
        joins: Some(four.second.dialog_name().await.unwrap()),
        ..DialOptions::default()
    };
    let mut new = four
        .dave
        .dial_with("bob", four.of_dave(), options.clone())
        .await
        .unwrap();
    let ringing = rings(&mut four.bob).await;
    assert_eq!(ringing.joins(), Some(four.second.id()));
    let joined = ringing
        .join_with(&four.second, &conference, MediaPlan::default())
        .await
        .unwrap();
    new.confirmed().await.unwrap();
    assert_eq!((conference.legs(), conference.seats(&joined)), (2, true));
    sleep(HEARD).await;
    for call in [&joined, &four.second] {
        assert!(conference.stats(call).unwrap().is_some_and(|stats| stats.heard));
    }
    // A call of nobody's.
    options.joins.as_mut().unwrap().local_tag.push('x');
    let refused = four
        .dave
        .dial_with("bob", MediaPlan::default(), options)
        .await
        .unwrap();
    let report = timeout(SOON, refused.finished()).await.unwrap().unwrap();
    assert_eq!(report.ending.status, Some(481));
    // Whom nobody asked for is not seated.
    let again = DialOptions {
        joins: Some(four.first.dialog_name().await.unwrap()),
        ..DialOptions::default()
    };
    let refused = four
        .dave
        .dial_with("bob", MediaPlan::default(), again)
        .await
        .unwrap();
    let wrong = rings(&mut four.bob)
        .await
        .join_with(&joined, &conference, MediaPlan::default())
        .await;
    assert_eq!(wrong.err().unwrap().fault(), Fault::ApiMisuse);
    let report = timeout(SOON, refused.finished()).await.unwrap().unwrap();
    assert_eq!(report.ending.cause, Cause::Declined);
    four.at_alice.hangup().await.unwrap();
    let (_folder, [at_carol, at_dave, _]) = four.over(new).await;
    hears("carol", &speaking(heard(&at_carol, 0)), DAVE);
    hears("dave", &speaking(heard(&at_dave, 0)), CAROL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_replaces_another_has_its_seat_in_a_conference() {
    for mixed in MIXED {
        has_its_seat(mixed).await;
    }
}

async fn has_its_seat(mixed: &str) {
    let mut four = Four::new("takeover-seat", mixed).await;
    let conference = four.bob.conference(ConferenceConfig::default()).unwrap();
    conference.join(&four.first).await.unwrap();
    conference.join(&four.second).await.unwrap();
    let (new, instead) = four.dave_takes_alices_place().await;
    sleep(HEARD).await;
    assert_eq!(conference.legs(), 2);
    assert!(
        conference
            .stats(&instead)
            .unwrap()
            .is_some_and(|stats| stats.heard)
    );
    assert!(conference.stats(&four.first).is_err(), "its place is taken");
    conference.leave(&instead).await.unwrap();
    assert_eq!(conference.legs(), 1);
    let (_folder, [at_carol, at_dave, _]) = four.over(new).await;
    // Alice was gone for longer than a second.
    hears("carol", &speaking(heard(&at_carol, 0)), DAVE);
    hears("dave", &speaking(heard(&at_dave, 0)), CAROL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_video_goes_on_in_the_call_that_replaces_another() {
    const ALICES: u8 = 0x21;
    // As far from the other as no two frames of a film are: they are told apart by what is in them.
    const DAVES: u8 = 0xc2;
    let home = home().await;
    let folder = Folder::new("takeover-video");
    let alice = endpoint(&home, "alice").await;
    let [mut bob, mut dave] = [endpoint(&home, "bob").await, endpoint(&home, "dave").await];
    let shows = |name: &str, seed| {
        let path = folder.file(name);
        film(&path, seed);
        let source = VideoSource::File { path, repeat: true };
        MediaPlan {
            video: Some(VideoPlan::new(source, VideoSink::Null)),
            ..MediaPlan::default()
        }
    };
    let path = folder.file("seen.ivf");
    let looks = MediaPlan {
        video: Some(VideoPlan::new(
            VideoSource::None,
            VideoSink::File { path: path.clone() },
        )),
        ..MediaPlan::default()
    };
    let (at_alice, mut first) = call(&alice, &mut bob, shows("alice.ivf", ALICES), looks).await;
    sleep(Duration::from_millis(1_500)).await; // Alice is seen for a while.
    let media = shows("dave.ivf", DAVES);
    let (new, mut instead) = takes_the_place(&at_alice, &mut first, &mut dave, media).await;
    event(&mut instead, is_negotiated).await;
    sleep(Duration::from_millis(2_000)).await;
    let asked = new.stats().await.unwrap().video.expect("there is video");
    assert!(asked.key_frames_wanted > 0, "{asked:?}");
    new.hangup().await.unwrap();
    timeout(SOON, instead.finished()).await.unwrap().unwrap();
    for endpoint in [alice, bob, dave] {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
    let seen = seen_of(&path, [ALICES, DAVES]);
    let runs: Vec<(u8, usize)> = (seen.chunk_by(|one, next| one.0 == next.0))
        .map(|run| (run[0].0, run.len()))
        .collect();
    println!("{runs:?}");
    let [(ALICES, of_alice), (DAVES, of_dave)] = runs[..] else {
        panic!("first Alice, then Dave: {seen:?}");
    };
    assert!(of_alice >= 30 && of_dave >= 30, "{of_alice}, {of_dave}");
}

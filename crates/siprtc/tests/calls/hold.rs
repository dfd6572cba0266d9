//! Hold and resume from both sides, over every engine: what is told, and what is heard.

use crate::house::{SOON, endpoint_with as endpoint, event, home, rings};
use siprtc::prelude::*;
use std::time::Duration;

const RTP: &str = "[media]\nengine = \"rtp\"\nclassic = \"\"\n[media.rtp]\nkeying = \"sdes\"\n";
const WEBRTC: &str = "";

/// How long it is listened whether somebody is heard: ten packets and more.
const LISTEN: Duration = Duration::from_millis(300);
/// What was under way when the flow changed is over by then.
const SETTLE: Duration = Duration::from_millis(150);

fn tone() -> MediaPlan {
    MediaPlan {
        source: Source::Tone {
            hz: 440.0,
            level_dbfs: -12.0,
        },
        ..MediaPlan::default()
    }
}

/// A call that stands, its caller's end first.
async fn stands(alice: &Endpoint, bob: &mut Endpoint) -> [Call; 2] {
    let mut call = alice.dial("bob", tone()).await.unwrap();
    let ringing = rings(bob).await;
    let mut answered = ringing.answer(tone()).await.unwrap();
    for end in [&mut call, &mut answered] {
        event(end, |event| {
            matches!(event, CallEventKind::FirstPacket { inbound: true })
        })
        .await;
    }
    [call, answered]
}

async fn held(call: &mut Call, who: Side) {
    event(
        call,
        |event| matches!(event, CallEventKind::Held { by } if *by == who),
    )
    .await;
}

async fn resumed(call: &mut Call, who: Side) {
    event(
        call,
        |event| matches!(event, CallEventKind::Resumed { by } if *by == who),
    )
    .await;
}

/// Whether each end hears the other.
async fn hear(ends: &[Call; 2]) -> [bool; 2] {
    let count = async || {
        let [one, other] = ends;
        [one.stats().await.unwrap(), other.stats().await.unwrap()]
            .map(|stats| stats.transport.packets_received)
    };
    tokio::time::sleep(SETTLE).await;
    let before = count().await;
    tokio::time::sleep(LISTEN).await;
    let after = count().await;
    [after[0] > before[0] + 5, after[1] > before[1] + 5]
}

/// Each holds in turn, both at once, and with music.
async fn through_every_hold(caller: &str, callee: &str) {
    let home = home().await;
    let alice = endpoint(&home, "alice", caller).await;
    let mut bob = endpoint(&home, "bob", callee).await;
    let mut ends = stands(&alice, &mut bob).await;
    assert_eq!(hear(&ends).await, [true, true]);
    for (holder, other) in [(0, 1), (1, 0)] {
        ends[holder].hold().await.unwrap();
        held(&mut ends[holder], Side::Local).await;
        held(&mut ends[other], Side::Remote).await;
        assert_eq!(hear(&ends).await, [false, false], "held by {holder}");
        ends[holder].resume().await.unwrap();
        resumed(&mut ends[holder], Side::Local).await;
        resumed(&mut ends[other], Side::Remote).await;
        assert_eq!(hear(&ends).await, [true, true], "resumed by {holder}");
    }
    ends[0].hold_playing().await.unwrap();
    held(&mut ends[0], Side::Local).await;
    assert_eq!(hear(&ends).await, [false, true], "music");
    // The other one holds, too; each resumes for itself.
    ends[1].hold().await.unwrap();
    held(&mut ends[1], Side::Local).await;
    held(&mut ends[0], Side::Remote).await;
    assert_eq!(hear(&ends).await, [false, false]);
    ends[0].resume().await.unwrap();
    resumed(&mut ends[0], Side::Local).await;
    assert_eq!(hear(&ends).await, [false, false], "still held by the other");
    ends[1].resume().await.unwrap();
    resumed(&mut ends[0], Side::Remote).await;
    assert_eq!(hear(&ends).await, [true, true]);
    let [call, answered] = ends;
    answered.hangup().await.unwrap();
    let report = call.finished().await.unwrap();
    assert_eq!(report.ending.cause, Cause::Bye);
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webrtc_calls_are_held_and_resumed() {
    through_every_hold(WEBRTC, WEBRTC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_calls_are_held_and_resumed() {
    through_every_hold(RTP, RTP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fell_back_is_held_and_resumed() {
    through_every_hold(WEBRTC, RTP).await;
}

/// Both say so at the same moment: one of the two offers gives way, and both holds are agreed.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_held_by_both_at_once() {
    let home = home().await;
    let alice = endpoint(&home, "alice", WEBRTC).await;
    let mut bob = endpoint(&home, "bob", WEBRTC).await;
    let [mut call, mut answered] = stands(&alice, &mut bob).await;
    let (one, other) = tokio::join!(call.hold(), answered.hold());
    one.unwrap();
    other.unwrap();
    for end in [&mut call, &mut answered] {
        let (mut ours, mut theirs) = (false, false);
        let both = async {
            while !(ours && theirs) {
                match end.next().await.expect("it goes on") {
                    CallEventKind::Held { by: Side::Local } => ours = true,
                    CallEventKind::Held { by: Side::Remote } => theirs = true,
                    CallEventKind::HoldRefused { .. } => panic!("refused"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, both).await.expect("both holds");
    }
    answered.hangup().await.unwrap();
    call.finished().await.unwrap();
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_rings_cannot_be_held() {
    let home = home().await;
    let alice = endpoint(&home, "alice", WEBRTC).await;
    let bob = endpoint(&home, "bob", WEBRTC).await;
    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let error = call.hold().await.unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse, "{error}");
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_goes_by_update_where_it_is_configured() {
    for (policy, method) in [("update", "UPDATE"), ("invite", "INVITE")] {
        let home = home().await;
        let alice = endpoint(&home, "alice", &format!("[call]\nreoffer = \"{policy}\"")).await;
        let mut bob = endpoint(&home, "bob", "").await;
        let mut ends = stands(&alice, &mut bob).await;
        ends[0].hold().await.unwrap();
        held(&mut ends[0], Side::Local).await;
        held(&mut ends[1], Side::Remote).await;
        assert_eq!(hear(&ends).await, [false, false]);
        ends[0].resume().await.unwrap();
        resumed(&mut ends[0], Side::Local).await;
        assert_eq!(hear(&ends).await, [true, true]);
        let [call, _answered] = ends;
        call.hangup().await.unwrap();
        let report = tokio::time::timeout(SOON, call.finished())
            .await
            .unwrap()
            .unwrap();
        let ladder = report.ladder("alice", "home", "bob").to_text(100, false);
        assert_eq!(ladder.contains("UPDATE"), method == "UPDATE", "{ladder}");
        alice.shutdown().await;
        bob.shutdown().await;
        home.shutdown().await;
    }
}

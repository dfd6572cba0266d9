//! Calls without WebRTC's transport: plain RTP, SRTP with keys in the SDP, DTLS-SRTP without ICE; and between the engines.

use crate::house::{SOON, endpoint_with as endpoint, home, rings};
use siprtc::prelude::*;
use std::time::Duration;

fn rtp(keying: &str) -> String {
    format!("[media]\nengine = \"rtp\"\nclassic = \"\"\n[media.rtp]\nkeying = \"{keying}\"\n")
}

/// ICE connected, and found the pair that carries the media.
fn went_over_ice(report: &CallReport) {
    assert!(
        report.timings.ice.is_some(),
        "ICE never connected: {:?}",
        report.timings
    );
    assert!(report.pair.is_some(), "no pair was selected");
}

/// Calls, waits until both hear, and hangs up: how the caller fared.
async fn hear(alice: &Endpoint, bob: &mut Endpoint) -> CallReport {
    let tone = || MediaPlan {
        source: Source::Tone {
            hz: 440.0,
            level_dbfs: -12.0,
        },
        ..MediaPlan::default()
    };
    let mut call = alice.dial("bob", tone()).await.unwrap();
    let ringing = rings(bob).await;
    let mut answered = ringing.answer(tone()).await.unwrap();
    for end in [&mut call, &mut answered] {
        let heard = async {
            while let Some(event) = end.next().await {
                if matches!(event, CallEventKind::FirstPacket { inbound: true }) {
                    return;
                }
            }
            panic!("the call ended first");
        };
        tokio::time::timeout(SOON, heard).await.expect("it is heard");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    answered.hangup().await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(
        (report.ending.cause, report.ending.by),
        (Cause::Bye, Side::Remote)
    );
    let stats = report.ending.stats.as_ref().expect("there was media");
    assert!(stats.packets_expected > 5 && stats.packets_lost == 0, "{stats:?}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn telephones_of_every_keying_hear_each_other() {
    let home = home().await;
    let mut bob = endpoint(&home, "bob", &rtp("none")).await;
    for keying in ["none", "opportunistic", "sdes", "dtls"] {
        let alice = endpoint(&home, "alice", &rtp(keying)).await;
        let report = hear(&alice, &mut bob).await;
        // What the test of the two engines looks for is not there without ICE.
        assert!(report.timings.ice.is_none(), "{:?}", report.timings);
        alice.shutdown().await;
    }
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webrtc_endpoint_takes_calls_of_every_keying_by_the_classic_engine() {
    let home = home().await;
    let mut bob = endpoint(&home, "bob", "").await;
    for keying in ["none", "opportunistic", "sdes", "dtls"] {
        let alice = endpoint(&home, "alice", &rtp(keying)).await;
        hear(&alice, &mut bob).await;
        alice.shutdown().await;
    }
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_engines_meet_over_ice_and_dtls_in_both_directions() {
    let home = home().await;
    let mut web = endpoint(&home, "bob", "").await;
    let ice = format!("{}ice = true\n", rtp("dtls"));
    for classic in [&ice, "[media]\nengine = \"rtp-web\"\n"] {
        let alice = endpoint(&home, "alice", classic).await;
        let report = hear(&alice, &mut web).await;
        assert!(report.timings.dtls.is_some());
        went_over_ice(&report);
        alice.shutdown().await;
    }
    web.shutdown().await;
    let alice = endpoint(&home, "alice", "").await;
    let mut bob = endpoint(&home, "bob", &ice).await;
    went_over_ice(&hear(&alice, &mut bob).await);
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_requires_encryption_refuses_a_plain_call_with_488() {
    let home = home().await;
    let strict = format!("{}require_encryption = true\n", rtp("sdes"));
    let bob = endpoint(&home, "bob", &strict).await;
    let alice = endpoint(&home, "alice", &rtp("none")).await;
    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(report.ending.status, Some(488), "{:?}", report.ending);
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_arrive_over_plain_rtp() {
    let home = home().await;
    let alice = endpoint(&home, "alice", &rtp("none")).await;
    let mut bob = endpoint(&home, "bob", &rtp("none")).await;
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let ringing = rings(&mut bob).await;
    let mut answered = ringing.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    call.send_dtmf("7").await.unwrap();
    let digit = async {
        while let Some(event) = answered.next().await {
            if let CallEventKind::Dtmf { digit, .. } = event {
                return digit;
            }
        }
        panic!("the call ended first");
    };
    assert_eq!(tokio::time::timeout(SOON, digit).await.expect("it arrives"), '7');
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

//! The facade as a program uses it, over the embedded home server and real sockets.

use crate::house::{config, endpoint, event, home};
use siprtc::Role;
use siprtc::prelude::*;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_reported_on_both_sides_with_times_pair_and_ladder() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let tone = MediaPlan {
        source: Source::Tone {
            hz: 440.0,
            level_dbfs: -12.0,
        },
        ..MediaPlan::default()
    };
    let mut call = alice.dial("bob", tone.clone()).await.unwrap();
    let incoming = bob.incoming().await.unwrap();
    assert_eq!(incoming.from().uri.to_string(), "sip:alice@house.test");
    let mut answered = incoming.answer(tone).await.unwrap();
    event(&mut call, |event| {
        matches!(event, CallEventKind::FirstPacket { inbound: true })
    })
    .await;
    event(&mut answered, |event| {
        matches!(event, CallEventKind::FirstPacket { inbound: true })
    })
    .await;
    answered.hangup().await.unwrap();
    let (caller, callee) = (call.finished().await.unwrap(), answered.finished().await.unwrap());

    assert_eq!((caller.role, callee.role), (Role::Caller, Role::Callee));
    assert_eq!(
        (caller.ending.cause, caller.ending.by),
        (Cause::Bye, Side::Remote)
    );
    assert_eq!((callee.ending.cause, callee.ending.by), (Cause::Bye, Side::Local));
    assert!(caller.pair.is_some() && caller.timings.dtls >= caller.timings.accepted);
    let text = caller
        .joint_ladder(&callee, ["Alice", "home", "Bob"])
        .to_text(100, false);
    for step in [
        "INVITE",
        "407",
        "180 Ringing",
        "200 OK",
        "ACK",
        "ICE connected",
        "DTLS connected",
        "first RTP",
        "BYE",
    ] {
        assert!(text.contains(step), "no {step} in\n{text}");
    }
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_arrive() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let mut answered = bob
        .incoming()
        .await
        .unwrap()
        .answer(MediaPlan::default())
        .await
        .unwrap();
    event(&mut call, |event| {
        matches!(event, CallEventKind::FirstPacket { inbound: true })
    })
    .await;
    call.send_dtmf("5#").await.unwrap();
    for expected in ['5', '#'] {
        let event = event(&mut answered, |event| matches!(event, CallEventKind::Dtmf { .. })).await;
        assert!(
            matches!(event, CallEventKind::Dtmf { digit, .. } if digit == expected),
            "{event:?}"
        );
    }
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_callee_an_absent_one_and_a_cancelled_call_have_their_causes() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;

    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    bob.incoming().await.unwrap().refuse(486).await.unwrap();
    let report = call.finished().await.unwrap();
    assert_eq!(
        (report.ending.cause, report.ending.status),
        (Cause::Busy, Some(486))
    );
    assert!(!report.ending.established);

    let report = alice
        .dial("carol", MediaPlan::default())
        .await
        .unwrap()
        .finished()
        .await
        .unwrap();
    assert_eq!(report.ending.cause, Cause::Unavailable);
    let report = alice
        .dial("nobody", MediaPlan::default())
        .await
        .unwrap()
        .finished()
        .await
        .unwrap();
    assert_eq!(report.ending.cause, Cause::NotFound);
    assert!(report.ending.sentence.is_some());

    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let ringing = bob.incoming().await.unwrap();
    event(&mut call, |event| matches!(event, CallEventKind::Progress { .. })).await;
    call.hangup().await.unwrap();
    assert_eq!(call.finished().await.unwrap().ending.cause, Cause::Cancelled);
    // The callee may try to answer a call that is gone: an error, or a call that ends at once.
    if let Ok(call) = ringing.answer(MediaPlan::default()).await {
        assert_eq!(call.finished().await.unwrap().ending.cause, Cause::Cancelled);
    }
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_once_and_not_tried_for_ever() {
    let home = home().await;
    let mut wrong = config(&home, "alice");
    wrong.account.password = "wrong".to_owned();
    let endpoint = Endpoint::start(&wrong).await.unwrap();
    let error = endpoint.registered(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.to_string().contains("password"), "{error}");
    endpoint.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named() {
    let home = home().await;
    let mut nowhere = config(&home, "alice");
    home.shutdown().await;
    nowhere.account.outbound = vec!["sip:127.0.0.1:9;transport=tcp".to_owned()];
    let endpoint = Endpoint::start(&nowhere).await.unwrap();
    let error = endpoint.registered(Duration::from_secs(3)).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
    let report = endpoint
        .dial("bob", MediaPlan::default())
        .await
        .unwrap()
        .finished()
        .await
        .unwrap();
    assert_eq!(report.ending.cause, Cause::ConnectionFailed);
    assert!(report.ending.sentence.unwrap().contains("127.0.0.1:9"));
    endpoint.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_hangs_up_and_the_other_side_hears_it() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let answered = bob
        .incoming()
        .await
        .unwrap()
        .answer(MediaPlan::default())
        .await
        .unwrap();
    call.confirmed().await.unwrap();
    alice.shutdown().await;
    let ended = tokio::time::timeout(Duration::from_secs(10), answered.finished())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!((ended.ending.cause, ended.ending.by), (Cause::Bye, Side::Remote));
    assert!(
        home.registrations()
            .iter()
            .all(|registration| registration.user != "alice")
    );
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_no_wav_is_an_error_that_names_it() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let source = Source::File {
        path: "no/such.wav".into(),
        repeat: false,
    };
    let call = alice
        .dial(
            "bob",
            MediaPlan {
                source,
                ..MediaPlan::default()
            },
        )
        .await
        .unwrap();
    let ending = call.finished().await.unwrap().ending;
    assert!(
        !ending.established && ending.sentence.clone().unwrap().contains("no/such.wav"),
        "{ending:?}"
    );
    alice.shutdown().await;
    home.shutdown().await;
}

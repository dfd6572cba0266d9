//! What is left of calls that never began, of futures that were given up, and of an endpoint whose peers do not answer.

use crate::house::{SOON, config, contacts, endpoint, event, home, rings};
use siprtc::prelude::*;
use std::time::Duration;
use tokio::time::{Instant, timeout};

async fn left(endpoint: &Endpoint, calls: usize) {
    let waiting = async {
        while endpoint.open_calls().await != calls {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, waiting).await.expect("no more is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_calls_that_were_refused_or_given_up_nothing_is_left() {
    let home = home().await;
    let mut one_call = config(&home, "alice");
    one_call.call.max_calls = 1;
    let alice = Endpoint::start(&one_call).await.unwrap();
    let mut bob = endpoint(&home, "bob").await;
    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    assert!(alice.dial("bob", MediaPlan::default()).await.is_err());
    assert!(call.accept_transfer(MediaPlan::default()).await.is_err());
    left(&alice, 1).await;
    drop(rings(&mut bob).await.answer(MediaPlan::default()).await.unwrap());
    call.hangup().await.unwrap();
    call.finished().await.unwrap();
    left(&alice, 0).await;
    // Given up at each of its first steps.
    for polls in 0..4 {
        let mut dial = Box::pin(alice.dial("bob", MediaPlan::default()));
        let mut done = None;
        std::future::poll_fn(|cx| {
            for _ in 0..polls {
                if let std::task::Poll::Ready(dialled) = dial.as_mut().poll(cx) {
                    done = Some(dialled);
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            std::task::Poll::Ready(())
        })
        .await;
        drop(dial);
        if let Some(call) = done {
            // It was quicker: somebody has it, and ends it.
            let call: Call = call.unwrap();
            call.hangup().await.unwrap();
            call.finished().await.unwrap();
        }
        left(&alice, 0).await;
    }
    // And it has room again.
    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    call.hangup().await.unwrap();
    call.finished().await.unwrap();
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_leaves_in_time_whether_or_not_anybody_answers() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
        let answered = rings(&mut bob).await.answer(MediaPlan::default()).await.unwrap();
        call.confirmed().await.unwrap();
        calls.push((call, answered));
    }
    // Who answers: both ends hear of it, and the binding is gone.
    let (first, answered) = calls.remove(0);
    alice.shutdown_within(Duration::from_secs(5)).await.unwrap();
    assert_eq!(first.finished().await.unwrap().ending.cause, Cause::Bye);
    assert_eq!(answered.finished().await.unwrap().ending.cause, Cause::Bye);
    assert!(contacts(&home, "alice").is_empty());
    drop(calls);

    // Nobody answers: neither the peer nor the registrar.
    let alice = endpoint(&home, "alice").await;
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let mut answered = rings(&mut bob).await.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    home.shutdown().await;
    let began = Instant::now();
    let deadline = Duration::from_secs(2);
    // It may say that not all was done; it does not take longer.
    drop(alice.shutdown_within(deadline).await);
    assert!(
        began.elapsed() < deadline + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    event(&mut call, |event| matches!(event, CallEventKind::Ended(_))).await;
    drop(bob.shutdown_within(deadline).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_while_it_rings_is_noticed_and_a_call_that_nobody_wants_is_declined() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let mut incoming = rings(&mut bob).await;
    let patience = Duration::from_millis(300);
    assert!(
        timeout(patience, incoming.given_up()).await.is_err(),
        "it rings still"
    );
    call.hangup().await.unwrap();
    let report = timeout(SOON, incoming.given_up()).await.unwrap();
    assert_eq!(report.unwrap().ending.cause, Cause::Cancelled);
    assert!(incoming.answer(MediaPlan::default()).await.is_err());

    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    drop(rings(&mut bob).await);
    let report = timeout(SOON, call.finished()).await.unwrap().unwrap();
    assert_eq!(report.ending.cause, Cause::Declined);

    // What was read beside it is not lost to whoever answers.
    let _call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let mut incoming = rings(&mut bob).await;
    assert!(timeout(patience, incoming.given_up()).await.is_err());
    let mut answered = incoming.answer(MediaPlan::default()).await.unwrap();
    answered.confirmed().await.unwrap();
    drop(answered);
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

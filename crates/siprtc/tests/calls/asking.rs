//! Endpoints that ask others for calls without a call (REFER, RFC 3515), through a proxy.

use crate::house::{SOON, endpoint, endpoint_with, event, found, home, rings};
use siprtc::gateway::ReferralEvent;
use siprtc::prelude::*;
use siprtc::{ReferOptions, Referrals, RequestedCall};
use siprtc_home_server::HomeServer;
use tokio::time::timeout;

/// Alice asks, Bob's telephone calls whom it is told to, Carol is called.
struct Trio {
    home: HomeServer,
    alice: Endpoint,
    bob: Endpoint,
    carol: Endpoint,
    at_bob: Referrals,
}

impl Trio {
    async fn new() -> Self {
        let home = home().await;
        let mut bob = endpoint_with(&home, "bob", "[call]\nreferrals = \"all\"").await;
        Trio {
            alice: endpoint(&home, "alice").await,
            carol: endpoint(&home, "carol").await,
            at_bob: bob.referrals().unwrap(),
            bob,
            home,
        }
    }

    /// What Bob's telephone is asked for next.
    async fn asked(&mut self) -> siprtc::Referral {
        let asked = timeout(SOON, self.at_bob.next()).await;
        asked.expect("somebody asks").unwrap()
    }

    async fn over(self) {
        for endpoint in [self.alice, self.bob, self.carol] {
            endpoint.shutdown().await;
        }
        self.home.shutdown().await;
    }
}

async fn next(call: &mut RequestedCall) -> ReferralEvent {
    let told = timeout(SOON, call.next()).await;
    told.expect("it is told").expect("it is not over")
}

/// What is told until the last word, as words.
async fn story(call: &mut RequestedCall) -> Vec<String> {
    let mut story = Vec::new();
    loop {
        let event = next(call).await;
        story.push(match &event {
            ReferralEvent::Accepted { tells } => format!("accepted, tells {tells}"),
            ReferralEvent::Failed(ending) => format!("failed: {}", ending.cause),
            ReferralEvent::Progress { status } => status.to_string(),
            ReferralEvent::Refused(ending) => format!("refused: {}", ending.cause),
            ReferralEvent::Succeeded => "succeeded".to_owned(),
            ReferralEvent::Untold { .. } => "untold".to_owned(),
        });
        if event.is_last() {
            assert!(call.next().await.is_none(), "nothing comes after the end");
            return story;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_another_to_call_a_third_hears_it_ring_and_be_answered() {
    let mut trio = Trio::new().await;
    let mut requested = trio.alice.refer("bob", "carol").await.unwrap();
    let referral = trio.asked().await;
    assert_eq!(referral.to().to_string(), "sip:carol@house.test");
    let by = referral.referred_by().unwrap().uri.to_string();
    assert_eq!(
        (by.as_str(), referral.replaces()),
        ("sip:alice@house.test", false)
    );
    assert!(matches!(
        next(&mut requested).await,
        ReferralEvent::Accepted { tells: true }
    ));
    let mut call = referral.accept(MediaPlan::default()).await.unwrap();
    let ringing = rings(&mut trio.carol).await;
    assert!(ringing.from().uri.to_string().starts_with("sip:bob@"));
    // Each word of it in its order: nobody answers before the ringing was heard of.
    let mut progress = Vec::new();
    while !progress.contains(&180) {
        match next(&mut requested).await {
            ReferralEvent::Progress { status } => progress.push(status),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(progress, [100, 180]);
    let mut answered = ringing.answer(MediaPlan::default()).await.unwrap();
    assert_eq!(story(&mut requested).await, ["succeeded"]);
    assert_eq!(requested.end().await.unwrap_err().fault(), Fault::ApiMisuse);
    call.confirmed().await.unwrap();
    // The call is theirs: it goes on without who asked for it.
    drop(requested);
    call.hangup().await.unwrap();
    event(&mut answered, |event| matches!(event, CallEventKind::Ended(_))).await;
    trio.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_made_or_comes_to_nothing_says_why() {
    let mut trio = Trio::new().await;
    let mut busy = trio.alice.refer("bob", "carol").await.unwrap();
    let call = trio.asked().await.accept(MediaPlan::default()).await.unwrap();
    rings(&mut trio.carol).await.refuse(486).await.unwrap();
    call.finished().await.unwrap();
    let heard = story(&mut busy).await;
    assert_eq!(
        heard.last().map(String::as_str),
        Some("failed: busy"),
        "{heard:?}"
    );

    let mut declined = trio.alice.refer("bob", "carol").await.unwrap();
    trio.asked().await.refuse(603).await.unwrap();
    let error = timeout(SOON, declined.answered()).await.unwrap().unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(error.to_string().contains("603"), "{error}");

    // Carol takes no such wishes, and nobody has that name.
    for (name, refused) in [("carol", "refused: declined"), ("nobody", "refused: not_found")] {
        let mut requested = trio.alice.refer(name, "bob").await.unwrap();
        assert_eq!(story(&mut requested).await, [refused], "{name}");
    }
    for to in ["tel:+4930123456", "sip:carol@house.test?Replaces=x"] {
        let error = trio.alice.refer("bob", to).await.err().unwrap();
        assert_eq!(error.fault(), Fault::ApiMisuse, "{error}");
    }
    trio.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_news_hears_that_it_is_taken_and_who_takes_leave_of_them_no_more() {
    let mut trio = Trio::new().await;
    let mut options = ReferOptions {
        untold: true,
        ..ReferOptions::default()
    };
    options.headers.push("Subject", "lunch");
    let mut requested = trio.alice.refer_with("bob", "carol", options).await.unwrap();
    assert_eq!(story(&mut requested).await, ["accepted, tells false"]);
    let call = trio.asked().await.accept(MediaPlan::default()).await.unwrap();
    rings(&mut trio.carol).await.refuse(486).await.unwrap();
    call.finished().await.unwrap();

    let mut requested = trio.alice.refer("bob", "carol").await.unwrap();
    let referral = trio.asked().await;
    next(&mut requested).await;
    requested.end().await.unwrap();
    let heard = story(&mut requested).await;
    assert_eq!(heard.last().map(String::as_str), Some("untold"), "{heard:?}");
    // The wish stands all the same.
    let call = referral.accept(MediaPlan::default()).await;
    rings(&mut trio.carol).await.refuse(486).await.unwrap();
    call.unwrap().finished().await.unwrap();
    trio.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_moves_to_another_telephone() {
    let mut trio = Trio::new().await;
    let mut call = trio.alice.dial("carol", MediaPlan::default()).await.unwrap();
    let mut at_carol = rings(&mut trio.carol)
        .await
        .answer(MediaPlan::default())
        .await
        .unwrap();
    call.confirmed().await.unwrap();
    let other = trio.bob.refer_call("bob", &call).await.err().unwrap();
    assert_eq!(other.fault(), Fault::ApiMisuse, "the call is Alice's");
    let mut requested = trio.alice.refer_call("bob", &call).await.unwrap();
    let referral = trio.asked().await;
    assert!(referral.replaces());
    let mut moved = referral.accept(MediaPlan::default()).await.unwrap();
    let by = found(&mut at_carol, |event| match event {
        CallEventKind::Replaced { by } => Some(*by),
        _ => None,
    })
    .await;
    let mut instead = at_carol.take(by).await.unwrap();
    moved.confirmed().await.unwrap();
    timeout(SOON, requested.answered()).await.unwrap().unwrap();
    // Carol hung up on Alice, for Bob took her place.
    let report = timeout(SOON, call.finished()).await.unwrap().unwrap();
    assert_eq!(
        (report.ending.cause, report.ending.by),
        (Cause::Bye, Side::Remote)
    );
    moved.hangup().await.unwrap();
    event(&mut instead, |event| matches!(event, CallEventKind::Ended(_))).await;
    trio.over().await;
}

//! Transfers among three endpoints, through a proxy: blind, attended, refused.

use crate::house::{SOON, endpoint, found, home, rings};
use siprtc::prelude::*;
use siprtc_home_server::HomeServer;

struct Trio {
    home: HomeServer,
    alice: Endpoint,
    bob: Endpoint,
    carol: Endpoint,
}

impl Trio {
    async fn new() -> Self {
        let home = home().await;
        let [alice, bob, carol] = [
            endpoint(&home, "alice").await,
            endpoint(&home, "bob").await,
            endpoint(&home, "carol").await,
        ];
        Trio {
            home,
            alice,
            bob,
            carol,
        }
    }

    async fn over(self) {
        for endpoint in [self.alice, self.bob, self.carol] {
            endpoint.shutdown().await;
        }
        self.home.shutdown().await;
    }
}

async fn hears(call: &mut Call) {
    found(call, |event| {
        matches!(event, CallEventKind::FirstPacket { inbound: true }).then_some(())
    })
    .await;
}

async fn ended(call: Call) -> CallReport {
    tokio::time::timeout(SOON, call.finished())
        .await
        .expect("it ends")
        .unwrap()
}

/// `one` calls `other`, who answers; each end hears the other.
async fn talk(one: &Endpoint, other: &mut Endpoint, name: &str) -> [Call; 2] {
    let mut call = one.dial(name, MediaPlan::default()).await.unwrap();
    let mut answered = rings(other).await.answer(MediaPlan::default()).await.unwrap();
    hears(&mut call).await;
    hears(&mut answered).await;
    [call, answered]
}

async fn wanted(call: &mut Call) -> (String, bool) {
    found(call, |event| match event {
        CallEventKind::TransferWanted { to, replaces, .. } => Some((to.to_string(), *replaces)),
        _ => None,
    })
    .await
}

async fn transferred(mut call: Call) {
    found(&mut call, |event| {
        matches!(event, CallEventKind::Transferred).then_some(())
    })
    .await;
    let report = ended(call).await;
    assert_eq!((report.ending.cause, report.ending.by), (Cause::Bye, Side::Local));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_transferred_blindly_and_the_two_others_talk() {
    let mut trio = Trio::new().await;
    let [call, mut at_bob] = talk(&trio.alice, &mut trio.bob, "bob").await;
    call.transfer("carol").await.unwrap();
    let (to, replaces) = wanted(&mut at_bob).await;
    assert!(to.starts_with("sip:carol@") && !replaces, "{to}");
    let mut new = at_bob.accept_transfer(MediaPlan::default()).await.unwrap();
    let ringing = rings(&mut trio.carol).await;
    assert!(ringing.from().uri.to_string().starts_with("sip:bob@"));
    let mut at_carol = ringing.answer(MediaPlan::default()).await.unwrap();
    transferred(call).await;
    assert_eq!(ended(at_bob).await.ending.by, Side::Remote);
    hears(&mut new).await;
    hears(&mut at_carol).await;
    new.hangup().await.unwrap();
    assert_eq!(ended(at_carol).await.ending.by, Side::Remote);
    ended(new).await;
    trio.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_transferred_to_whom_was_asked_before_and_takes_that_calls_place() {
    let mut trio = Trio::new().await;
    let [call, mut at_bob] = talk(&trio.alice, &mut trio.bob, "bob").await;
    call.hold().await.unwrap();
    let mut consulted = call.consult("carol", MediaPlan::default()).await.unwrap();
    let mut at_carol = rings(&mut trio.carol)
        .await
        .answer(MediaPlan::default())
        .await
        .unwrap();
    hears(&mut consulted).await;
    hears(&mut at_carol).await;
    call.transfer_to(&consulted).await.unwrap();
    let (to, replaces) = wanted(&mut at_bob).await;
    assert!(to.starts_with("sip:carol@") && replaces, "{to}");
    let mut new = at_bob.accept_transfer(MediaPlan::default()).await.unwrap();
    let by = found(&mut at_carol, |event| match event {
        CallEventKind::Replaced { by } => Some(*by),
        _ => None,
    })
    .await;
    let mut instead = at_carol.take(by).await.unwrap();
    hears(&mut new).await;
    hears(&mut instead).await;
    transferred(call).await;
    // Carol hung up on Alice, for Bob took her place.
    assert_eq!(ended(consulted).await.ending.by, Side::Remote);
    assert_eq!(ended(at_carol).await.ending.by, Side::Local);
    ended(at_bob).await;
    instead.hangup().await.unwrap();
    assert_eq!(ended(new).await.ending.by, Side::Remote);
    ended(instead).await;
    trio.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_comes_to_nothing_leaves_the_call() {
    let mut trio = Trio::new().await;
    let [mut call, mut at_bob] = talk(&trio.alice, &mut trio.bob, "bob").await;
    let refused = async |call: &mut Call| {
        found(call, |event| match event {
            CallEventKind::TransferRefused { status } => Some(*status),
            _ => None,
        })
        .await
    };
    call.transfer("carol").await.unwrap();
    wanted(&mut at_bob).await;
    at_bob.refuse_transfer().await.unwrap();
    assert_eq!(refused(&mut call).await, 603);
    // Carol is busy.
    call.transfer("carol").await.unwrap();
    wanted(&mut at_bob).await;
    let new = at_bob.accept_transfer(MediaPlan::default()).await.unwrap();
    rings(&mut trio.carol).await.refuse(486).await.unwrap();
    assert_eq!(ended(new).await.ending.cause, Cause::Busy);
    assert_eq!(refused(&mut call).await, 486);
    let error = at_bob.accept_transfer(MediaPlan::default()).await.err().unwrap();
    assert_eq!(error.fault(), Fault::ApiMisuse, "{error}");
    let error = call.transfer("tel:+4930123456").await.unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse, "{error}");
    call.hangup().await.unwrap();
    assert_eq!(ended(at_bob).await.ending.by, Side::Remote);
    ended(call).await;
    trio.over().await;
}

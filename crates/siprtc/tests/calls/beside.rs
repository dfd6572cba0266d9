//! What goes beside the call: messages, digits in INFOs, header fields, privacy, forwarding.

use crate::house::{SOON, config, endpoint, found, home, rings};
use siprtc::prelude::*;
use siprtc_home_server::HomeServer;

async fn stands(alice: &Endpoint, bob: &mut Endpoint) -> [Call; 2] {
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let mut answered = rings(bob).await.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    [call, answered]
}

async fn over(endpoints: impl IntoIterator<Item = Endpoint>, home: HomeServer) {
    for endpoint in endpoints {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_within_a_call_and_outside_of_any() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let mut inbox = bob.messages().unwrap();
    assert!(bob.messages().is_none(), "once");
    alice.send_message("bob", "shall I call?").await.unwrap();
    let note = tokio::time::timeout(SOON, inbox.recv()).await.unwrap().unwrap();
    assert_eq!(note.body, "shall I call?");
    assert!(note.from.uri.to_string().starts_with("sip:alice@"));
    let [mut call, mut answered] = stands(&alice, &mut bob).await;
    call.send_message("grüß dich").await.unwrap();
    answered.send_message("hello").await.unwrap();
    for (end, text) in [(&mut answered, "grüß dich"), (&mut call, "hello")] {
        let said = found(end, |event| match event {
            CallEventKind::Message(note) => Some(note.body.clone()),
            _ => None,
        });
        assert_eq!(said.await, text);
    }
    let error = alice.send_message("nobody", "hello?").await.unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible, "{error}");
    let error = alice.send_message("bob", &"x".repeat(1300)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse, "{error}");
    over([alice, bob], home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_go_in_infos_where_that_is_wanted() {
    let home = home().await;
    let mut ends = Vec::new();
    for name in ["alice", "bob"] {
        let mut config = config(&home, name);
        "info".clone_into(&mut config.call.dtmf);
        let endpoint = Endpoint::start(&config).await.unwrap();
        endpoint.registered(SOON).await.unwrap();
        ends.push(endpoint);
    }
    let [alice, mut bob] = <[Endpoint; 2]>::try_from(ends).ok().unwrap();
    let [call, mut answered] = stands(&alice, &mut bob).await;
    call.send_dtmf("1*D").await.unwrap();
    for digit in ['1', '*', 'D'] {
        let heard = found(&mut answered, |event| match event {
            CallEventKind::Dtmf { digit, .. } => Some(*digit),
            _ => None,
        });
        assert_eq!(heard.await, digit);
    }
    assert_eq!(call.send_dtmf("12x").await.unwrap_err().fault(), Fault::ApiMisuse);
    over([alice, bob], home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_brings_header_fields_and_hides_who_calls() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let mut options = DialOptions {
        anonymous: true,
        ..DialOptions::default()
    };
    options.headers.push("X-Order", "17");
    let mut call = alice
        .dial_with("bob", MediaPlan::default(), options)
        .await
        .unwrap();
    let ringing = rings(&mut bob).await;
    assert_eq!(ringing.from().uri.to_string(), "sip:anonymous@anonymous.invalid");
    assert_eq!(ringing.head().headers.value("X-Order"), Some("17"));
    assert_eq!(ringing.head().asserted, None);
    let mut headers = Headers::new();
    headers.push("X-Queue", "3");
    let answered = ringing
        .answer_with(MediaPlan::default(), headers.clone())
        .await
        .unwrap();
    call.confirmed().await.unwrap();
    answered.hangup_with(headers).await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(report.ending.by, Side::Remote);
    let mut own = DialOptions::default();
    own.headers.push("Contact", "<sip:mallory@example.com>");
    let mut call = alice.dial_with("bob", MediaPlan::default(), own).await.unwrap();
    assert!(call.confirmed().await.is_err());
    over([alice, bob], home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_sent_elsewhere_and_follows_if_it_likes() {
    let home = home().await;
    let alice = endpoint(&home, "alice").await;
    let mut bob = endpoint(&home, "bob").await;
    let mut carol = endpoint(&home, "carol").await;
    let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    rings(&mut bob).await.forward(&["carol"]).await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (report.ending.cause, report.ending.status),
        (Cause::Redirected, Some(302))
    );
    assert!(!report.ending.is_worth_a_retry());
    assert!(report.ending.contacts[0].to_string().starts_with("sip:carol@"));
    alice.shutdown().await;

    let mut follows = config(&home, "alice");
    "follow".clone_into(&mut follows.call.redirects);
    let alice = Endpoint::start(&follows).await.unwrap();
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    rings(&mut bob).await.forward(&["carol"]).await.unwrap();
    let mut answered = rings(&mut carol)
        .await
        .answer(MediaPlan::default())
        .await
        .unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    let mut busy = Headers::new();
    busy.push("Retry-After", "30");
    let call = alice.dial("carol", MediaPlan::default()).await.unwrap();
    rings(&mut carol).await.refuse_with(486, busy).await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .unwrap()
        .unwrap();
    assert!(report.ending.is_worth_a_retry());
    assert_eq!(
        report.ending.retry_after,
        Some(std::time::Duration::from_secs(30))
    );
    over([alice, bob, carol], home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_rings_reliably_where_both_require_it() {
    let home = home().await;
    let mut ends = Vec::new();
    for (name, policy) in [("alice", "required"), ("bob", "required"), ("carol", "off")] {
        let mut config = config(&home, name);
        policy.clone_into(&mut config.call.reliable_provisionals);
        let endpoint = Endpoint::start(&config).await.unwrap();
        endpoint.registered(SOON).await.unwrap();
        ends.push(endpoint);
    }
    let [alice, mut bob, carol] = <[Endpoint; 3]>::try_from(ends).ok().unwrap();
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let ringing = rings(&mut bob).await;
    found(&mut call, |event| {
        matches!(event, CallEventKind::Progress { status: 180, .. }).then_some(())
    })
    .await;
    // Longer than T1: were it not acknowledged, it would come again, and the ladder has what came.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    let answered = ringing.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    answered.hangup().await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .unwrap()
        .unwrap();
    let ladder = report.ladder("alice", "home", "bob").to_text(100, false);
    assert_eq!(ladder.matches(" PRACK ─").count(), 1, "{ladder}");
    assert_eq!(ladder.matches("180 Ringing").count(), 1, "{ladder}");
    let call = alice.dial("carol", MediaPlan::default()).await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(report.ending.status, Some(420));
    over([alice, bob, carol], home).await;
}

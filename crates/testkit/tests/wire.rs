//! The fake stack keeps the port's promises, on a paused clock.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use siprtc_core::Fault;
use siprtc_core::sip::{Headers, Method, Route, SipStack, SipUri, StackEvent, TxEnd, TxId, TxIds, TxOwner};
use siprtc_testkit::sip::{RecordingSink, Wire, answer, request};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct Bench {
    alice: Arc<dyn SipStack>,
    alice_hears: Arc<RecordingSink>,
    bob: Arc<dyn SipStack>,
    bob_hears: Arc<RecordingSink>,
    ids: TxIds,
}

impl Bench {
    fn new() -> Self {
        let (alice_hears, bob_hears) = (RecordingSink::new(), RecordingSink::new());
        let (alice, bob) = Wire::pair(alice_hears.clone(), bob_hears.clone());
        Bench {
            alice,
            alice_hears,
            bob,
            bob_hears,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    async fn ask(&self, method: Method) -> TxId {
        let tx = self.ids.mint();
        let asked = request(method, "sip:bob@example.com".parse::<SipUri>().unwrap());
        self.alice
            .send_request(tx, asked, Route::by_request())
            .await
            .unwrap();
        tx
    }
}

#[tokio::test(start_paused = true)]
async fn an_answered_request_ends_on_both_ends_at_once() {
    let bench = Bench::new();
    let tx = bench.ask(Method::Options).await;
    let (served, heard, _) = bench.bob_hears.expect_request(Method::Options).await;
    assert_eq!(heard.headers.max_forwards().unwrap(), Some(70));
    assert!(heard.headers.top_via().unwrap().branch().is_some());
    let before = Instant::now();
    bench
        .bob
        .respond(served, answer(&heard, 200, "bob"))
        .await
        .unwrap();
    let (answered, response) = bench.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    assert_eq!(response.headers.value("Via"), heard.headers.value("Via"));
    assert_eq!(bench.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert_eq!(bench.bob_hears.expect_ended(served).await, TxEnd::Done);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(
        bench
            .bob
            .respond(served, answer(&heard, 200, "bob"))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_times_out_after_64_t1() {
    let bench = Bench::new();
    for method in [Method::Options, Method::Invite] {
        let before = Instant::now();
        let tx = bench.ask(method).await;
        assert_eq!(bench.alice_hears.expect_ended(tx).await, TxEnd::TimedOut);
        assert_eq!(before.elapsed(), Duration::from_secs(32));
    }
}

#[tokio::test(start_paused = true)]
async fn a_ringing_invite_waits_and_its_2xx_lasts_64_t1() {
    let bench = Bench::new();
    let tx = bench.ask(Method::Invite).await;
    let (served, heard, _) = bench.bob_hears.expect_request(Method::Invite).await;
    bench
        .bob
        .respond(served, answer(&heard, 180, "bob"))
        .await
        .unwrap();
    bench.alice_hears.expect_response(180).await;
    bench.alice_hears.expect_silence(Duration::from_secs(300)).await;
    let before = Instant::now();
    for _ in 0..2 {
        bench
            .bob
            .respond(served, answer(&heard, 200, "bob"))
            .await
            .unwrap();
        bench.alice_hears.expect_response(200).await;
    }
    bench
        .alice
        .send_ack(request(Method::Ack, heard.uri.clone()), Route::by_request())
        .await
        .unwrap();
    bench.bob_hears.expect_ack().await;
    assert_eq!(bench.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert_eq!(bench.bob_hears.expect_ended(served).await, TxEnd::Done);
    assert_eq!(before.elapsed(), Duration::from_secs(32));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_told_once_and_a_487_ends_both_sides() {
    let bench = Bench::new();
    let tx = bench.ask(Method::Invite).await;
    let (served, heard, _) = bench.bob_hears.expect_request(Method::Invite).await;
    let early = bench.alice.cancel(tx, Headers::new()).await;
    assert_eq!(
        early.unwrap_err().fault(),
        Fault::ApiMisuse,
        "not before a provisional answer"
    );
    bench
        .bob
        .respond(served, answer(&heard, 180, "bob"))
        .await
        .unwrap();
    bench.alice_hears.expect_response(180).await;
    for _ in 0..2 {
        bench.alice.cancel(tx, Headers::new()).await.unwrap();
    }
    bench.bob_hears.expect_cancelled(served).await;
    bench.bob_hears.expect_silence(Duration::ZERO).await;
    bench
        .bob
        .respond(served, answer(&heard, 487, "bob"))
        .await
        .unwrap();
    bench.alice_hears.expect_response(487).await;
    assert_eq!(bench.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert_eq!(bench.bob_hears.expect_ended(served).await, TxEnd::Done);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_nobody_heeds_ends_after_64_t1() {
    let bench = Bench::new();
    let tx = bench.ask(Method::Invite).await;
    let (served, heard, _) = bench.bob_hears.expect_request(Method::Invite).await;
    bench
        .bob
        .respond(served, answer(&heard, 180, "bob"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let before = Instant::now();
    bench.alice.cancel(tx, Headers::new()).await.unwrap();
    assert_eq!(bench.alice_hears.expect_ended(tx).await, TxEnd::TimedOut);
    assert_eq!(before.elapsed(), Duration::from_secs(32));
}

#[tokio::test(start_paused = true)]
async fn a_full_sink_is_a_503() {
    let bench = Bench::new();
    bench.bob_hears.refuse_requests(true);
    let tx = bench.ask(Method::Invite).await;
    let (_, response) = bench.alice_hears.expect_response(503).await;
    assert_eq!(response.headers.retry_after().unwrap(), Some(10));
    assert_eq!(bench.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert!(bench.bob_hears.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_shut_down_hears_nothing_more() {
    let bench = Bench::new();
    let running = bench.ask(Method::Invite).await;
    let (_, heard, _) = bench.bob_hears.expect_request(Method::Invite).await;
    bench.bob.shutdown(Duration::ZERO).await;
    let lost = bench.ask(Method::Options).await;
    assert_eq!(bench.alice_hears.expect_ended(lost).await, TxEnd::TimedOut);
    assert_eq!(bench.alice_hears.expect_ended(running).await, TxEnd::TimedOut);
    assert!(
        bench
            .bob
            .send_request(lost, heard, Route::by_request())
            .await
            .is_err()
    );
    bench.alice.shutdown(Duration::ZERO).await;
    assert!(matches!(
        bench.bob_hears.try_next(),
        None | Some(StackEvent::TxEnded { .. })
    ));
}

//! INVITE: provisional answers, 2xx, rejection, CANCEL.

use super::{Network, Pair, respond};
use siprtc_core::sip::{Headers, Method, Route, SipRequest, SipResponse, SipStackFactory, TxEnd, TxId};
use std::time::Duration;

/// INVITE, 100, 180, 200, ACK, BYE, 200.
pub async fn a_dialog_runs_from_invite_to_bye(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let (invite, tx, served, heard) = ring(&pair).await;
    respond(&*pair.bob, served, &heard, 200).await;
    let (answered, ok) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    pair.alice
        .send_ack(in_dialog(&invite, &ok, Method::Ack, 1), Route::by_request())
        .await
        .unwrap();
    let ack = pair.bob_hears.expect_ack().await;
    let (ours, theirs) = (ack.headers.top_via().unwrap(), heard.headers.top_via().unwrap());
    assert_ne!(
        ours.branch(),
        theirs.branch(),
        "RFC 3261 section 17.1.1.3: an ACK of a 2xx has its own branch"
    );
    let bye = pair.ask(in_dialog(&invite, &ok, Method::Bye, 2)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Bye).await;
    respond(&*pair.bob, served, &heard, 200).await;
    let (answered, _) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, bye);
    pair.stop().await;
}

/// RFC 3261 section 13.3.1.4: its user repeats a 2xx, and every copy is heard.
pub async fn a_2xx_that_is_sent_again_is_heard_again(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let (_, tx, served, heard) = ring(&pair).await;
    for _ in 0..3 {
        respond(&*pair.bob, served, &heard, 200).await;
        let (answered, _) = pair.alice_hears.expect_response(200).await;
        assert_eq!(answered, tx);
    }
    pair.stop().await;
}

/// RFC 6026: timers L and M.
pub async fn a_2xx_keeps_both_transactions_for_64_t1(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start_hasty(factory, network).await;
    let (_, tx, served, heard) = ring(&pair).await;
    let before = tokio::time::Instant::now();
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    assert_eq!(pair.bob_hears.expect_ended(served).await, TxEnd::Done);
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert!(
        before.elapsed() >= super::SHORT_T1 * 64,
        "ended after {:?}",
        before.elapsed()
    );
    pair.stop().await;
}

/// RFC 3261 section 17.1.1.3: nobody's user hears of this ACK.
pub async fn a_rejected_invite_is_acknowledged_by_the_stack(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let (_, tx, served, heard) = ring(&pair).await;
    respond(&*pair.bob, served, &heard, 486).await;
    let (answered, _) = pair.alice_hears.expect_response(486).await;
    assert_eq!(answered, tx);
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert_eq!(
        pair.bob_hears.expect_ended(served).await,
        TxEnd::Done,
        "the ACK did not arrive"
    );
    pair.bob_hears.expect_silence(Duration::from_millis(50)).await;
    pair.stop().await;
}

/// RFC 3261 section 9: the CANCEL finds its INVITE, and the INVITE ends with its own 487.
pub async fn a_cancel_ends_the_invite_with_487(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let (_, tx, served, heard) = ring(&pair).await;
    let mut reason = Headers::new();
    reason.push("Reason", r#"SIP;cause=200;text="Call completed elsewhere""#);
    pair.alice.cancel(tx, reason).await.unwrap();
    pair.bob_hears.expect_cancelled(served).await;
    respond(&*pair.bob, served, &heard, 487).await;
    let (answered, _) = pair.alice_hears.expect_response(487).await;
    assert_eq!(answered, tx);
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert_eq!(pair.bob_hears.expect_ended(served).await, TxEnd::Done);
    pair.check_alive().await;
    pair.stop().await;
}

/// The 2xx wins: the call stands, and its user ends it with BYE.
pub async fn a_cancel_that_crosses_a_200_changes_nothing(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let (_, tx, served, heard) = ring(&pair).await;
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    // Whether the stack still knows the INVITE or not: no Cancelled, and nothing breaks.
    let _ = pair.alice.cancel(tx, Headers::new()).await;
    pair.bob_hears.expect_silence(Duration::from_millis(100)).await;
    pair.check_alive().await;
    pair.stop().await;
}

/// RFC 3261 section 9.1: not before a provisional answer.
pub async fn a_cancel_before_any_answer_is_refused(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let tx = pair.ask(pair.request(Method::Invite)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Invite).await;
    assert!(pair.alice.cancel(tx, Headers::new()).await.is_err());
    let unknown = pair.ids.mint();
    assert!(
        pair.alice.cancel(unknown, Headers::new()).await.is_err(),
        "there is no such INVITE"
    );
    respond(&*pair.bob, served, &heard, 486).await;
    pair.alice_hears.expect_response(486).await;
    pair.stop().await;
}

/// Timer B runs only until the first provisional answer.
pub async fn a_ringing_invite_outlives_64_t1(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start_hasty(factory, network).await;
    let (_, tx, served, heard) = ring(&pair).await;
    let longer = super::SHORT_T1 * 80;
    pair.alice_hears.expect_silence(longer).await;
    respond(&*pair.bob, served, &heard, 200).await;
    let (answered, _) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    pair.stop().await;
}

/// Timer B.
pub async fn an_invite_without_an_answer_times_out(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start_hasty(factory, network).await;
    let tx = pair.ask(pair.request(Method::Invite)).await;
    pair.bob_hears.expect_request(Method::Invite).await;
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::TimedOut);
    pair.bob_hears.expect_silence(Duration::ZERO).await;
    pair.stop().await;
}

/// An INVITE that Bob has answered with 100 and 180.
async fn ring(pair: &Pair) -> (SipRequest, TxId, TxId, SipRequest) {
    let invite = pair
        .request(Method::Invite)
        .with_body("application/sdp", "v=0\r\n");
    let tx = pair.ask(invite.clone()).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Invite).await;
    assert_eq!(&heard.body[..], b"v=0\r\n");
    for status in [100, 180] {
        respond(&*pair.bob, served, &heard, status).await;
        let (answered, _) = pair.alice_hears.expect_response(status).await;
        assert_eq!(answered, tx);
    }
    (invite, tx, served, heard)
}

/// A request in the dialog that `ok` has made, sent where the INVITE went.
fn in_dialog(invite: &SipRequest, ok: &SipResponse, method: Method, sequence: u32) -> SipRequest {
    let mut request = SipRequest::new(method.clone(), invite.uri.clone());
    request.headers.copy_from(&invite.headers, "From");
    request.headers.copy_from(&ok.headers, "To");
    request.headers.copy_from(&invite.headers, "Call-ID");
    request.headers.push("CSeq", format_args!("{sequence} {method}"));
    request
}

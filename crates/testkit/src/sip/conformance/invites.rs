//! INVITE: provisional answers, 2xx, rejection, CANCEL.

use super::{Pair, Setting, forks, respond};
use siprtc_core::sip::{Headers, Method, Route, SipRequest, SipResponse, TxEnd, TxId, TxIds, TxOwner};
use std::time::Duration;

/// INVITE: provisional answers, 2xx, rejection, CANCEL.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_invites {
    ($then:ident $given:tt) => {
        $crate::$then! { $given invites
            a_dialog_runs_from_invite_to_bye
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 3261 13" "INVITE, 100, 180, 200, ACK with a branch of its own, BYE, 200.";
            a_2xx_that_is_sent_again_is_heard_again
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 13.3.1.4" "Bob's user repeats its 2xx, and Alice's user hears every copy.";
            a_2xx_keeps_both_transactions_for_64_t1
                Pair [Udp Tcp | Udp6] []
                "RFC 6026 7" "Timers L and M: after a 2xx both transactions of an INVITE live for 64*T1.";
            a_rejected_invite_is_acknowledged_by_the_stack
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 3261 17.1.1.3" "The ACK of a 486 ends the server transaction, and no user hears of it.";
            a_cancel_ends_the_invite_with_487
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 3261 9" "A CANCEL finds its INVITE, and the INVITE ends with its own 487.";
            a_cancel_that_crosses_a_200_changes_nothing
                Pair [Udp Tcp | Udp6] []
                "RFC 3261 9.2" "The 2xx wins: the call stands.";
            a_cancel_before_any_answer_is_refused
                Alone [Udp Tcp] []
                "RFC 3261 9.1" "An INVITE is not cancelled before a provisional answer.";
            a_ringing_invite_outlives_64_t1
                Pair [Udp Tcp | Udp6] []
                "RFC 3261 17.1.1.2" "Timer B runs only until the first provisional answer.";
            an_invite_without_an_answer_times_out
                Alone [Udp Tcp Udp6] []
                "RFC 3261 17.1.1.2" "Timer B ends an INVITE that nobody answers.";
        }
    };
}

pub(super) async fn a_dialog_runs_from_invite_to_bye(on: Setting) {
    let pair = Pair::start(&on).await;
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

pub(super) async fn a_2xx_that_is_sent_again_is_heard_again(on: Setting) {
    let pair = Pair::start(&on).await;
    let (_, tx, served, heard) = ring(&pair).await;
    for _ in 0..3 {
        respond(&*pair.bob, served, &heard, 200).await;
        let (answered, _) = pair.alice_hears.expect_response(200).await;
        assert_eq!(answered, tx);
    }
    pair.stop().await;
}

pub(super) async fn a_2xx_keeps_both_transactions_for_64_t1(on: Setting) {
    let pair = Pair::start(&on).await;
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

pub(super) async fn a_rejected_invite_is_acknowledged_by_the_stack(on: Setting) {
    let pair = Pair::start(&on).await;
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

pub(super) async fn a_cancel_ends_the_invite_with_487(on: Setting) {
    let pair = Pair::start(&on).await;
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

pub(super) async fn a_cancel_that_crosses_a_200_changes_nothing(on: Setting) {
    let pair = Pair::start(&on).await;
    let (_, tx, served, heard) = ring(&pair).await;
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    // Whether the stack still knows the INVITE or not: no Cancelled, and nothing breaks.
    let _ = pair.alice.cancel(tx, Headers::new()).await;
    pair.bob_hears.expect_silence(Duration::from_millis(100)).await;
    pair.check_alive().await;
    pair.stop().await;
}

// The far end is only a socket here: a stack may answer 100 by itself (RFC 3261 section 17.2.1).
pub(super) async fn a_cancel_before_any_answer_is_refused(on: Setting) {
    let mut call = forks::call(&on).await;
    let early = call.stack.cancel(call.tx, Headers::new()).await;
    assert!(
        early.unwrap_err().next_step().is_some(),
        "an error says what to do next"
    );
    let unknown = TxIds::new(TxOwner::user(9)).mint();
    let unknown = call.stack.cancel(unknown, Headers::new()).await;
    assert!(unknown.is_err(), "there is no such INVITE");
    call.far.answer(&call.invite, 486, "far").await;
    call.hears.expect_response(486).await;
    call.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_ringing_invite_outlives_64_t1(on: Setting) {
    let pair = Pair::start(&on).await;
    let (_, tx, served, heard) = ring(&pair).await;
    let longer = super::SHORT_T1 * 80;
    pair.alice_hears.expect_silence(longer).await;
    respond(&*pair.bob, served, &heard, 200).await;
    let (answered, _) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    pair.stop().await;
}

pub(super) async fn an_invite_without_an_answer_times_out(on: Setting) {
    let call = forks::call(&on).await;
    assert_eq!(call.hears.expect_ended(call.tx).await, TxEnd::TimedOut);
    call.hears.expect_silence(Duration::ZERO).await;
    call.stack.shutdown(Duration::ZERO).await;
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

//! What a stack does on the wire, seen by a peer that is only a socket.

use super::bare::{Bare, ack_of, answer_bytes, receive};
use super::{SHORT_T1, Setting, respond};
use crate::sip::request;
use siprtc_core::sip::{Headers, Method, Route, SipMessage, SipUri, TxEnd};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;

/// What a stack does on the wire, seen by a peer that is only a socket.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_raw {
    ($then:ident $given:tt) => {
        $crate::$then! { $given raw
            a_request_is_repeated_with_the_same_branch_until_it_is_answered
                Alone [Udp Udp6] []
                "RFC 3261 17.1" "Timers A and E: each copy is the same, and the answer ends them.";
            a_cancel_is_repeated_until_the_invite_is_answered
                Alone [Udp Udp6] []
                "RFC 3261 9.1" "A lost CANCEL does not let a telephone ring on, and its Via is the INVITE's.";
            a_copy_of_a_request_gets_the_same_answer_again
                Alone [Udp Udp6] []
                "RFC 3261 17.2.2" "A copy of an answered request gets the same answer, and no user hears of it.";
            a_copy_of_a_ringing_invite_gets_the_last_provisional_answer_again
                Alone [Udp Udp6] []
                "RFC 3261 17.2.1" "A copy of an INVITE gets the last provisional answer while the user is silent.";
            a_rejection_is_repeated_until_it_is_acknowledged
                Alone [Udp Udp6] []
                "RFC 3261 17.2.1" "Timer G repeats a 603, and its ACK ends that.";
            a_rejection_that_is_never_acknowledged_times_out
                Alone [Udp Udp6] []
                "RFC 3261 17.2.1" "Timer H ends an INVITE whose 486 nobody acknowledges.";
            a_late_copy_of_an_acknowledged_invite_begins_nothing
                Alone [Udp Udp6] []
                "RFC 3261 17.2.1" "Timer I: a copy that the network had kept does not ring a second time.";
            a_cancel_for_nothing_is_answered_481
                Alone [Udp Udp6] []
                "RFC 3261 9.2" "A CANCEL that matches no INVITE by branch and sent-by is answered 481.";
            an_answer_goes_to_the_source_port_with_rport
                Alone [Udp] []
                "RFC 3581 4" "With rport an answer goes where the request came from, and its Via says so.";
            an_answer_goes_to_the_sent_by_port_without_rport
                Alone [Udp Udp6] []
                "RFC 3261 18.2.2" "Without rport an answer goes to the source address and the port of the sent-by.";
        }
    };
}

pub(super) async fn a_request_is_repeated_with_the_same_branch_until_it_is_answered(on: Setting) {
    let bare = Bare::start(&on).await;
    for method in [Method::Options, Method::Invite] {
        let tx = bare.ids.mint();
        let asked = request(method.clone(), SipUri::from_addr(bare.address()));
        bare.stack
            .send_request(tx, asked, Route::by_request())
            .await
            .unwrap();
        let first = bare.expect(method.clone()).await;
        for _ in 0..3 {
            assert_eq!(bare.expect(method.clone()).await, first, "a copy differs");
        }
        bare.send(&answer_bytes(&first, 404)).await;
        let (answered, _) = bare.hears.expect_response(404).await;
        assert_eq!(answered, tx);
        if method == Method::Invite {
            bare.expect_ack_behind_copies(&first).await;
        }
        bare.drain();
    }
    bare.expect_silence(SHORT_T1 * 20).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_cancel_is_repeated_until_the_invite_is_answered(on: Setting) {
    let bare = Bare::start(&on).await;
    let tx = bare.ids.mint();
    let asked = request(Method::Invite, SipUri::from_addr(bare.address()));
    bare.stack
        .send_request(tx, asked, Route::by_request())
        .await
        .unwrap();
    let invite = bare.expect(Method::Invite).await;
    bare.send(&answer_bytes(&invite, 180)).await;
    bare.hears.expect_response(180).await;
    let mut extra = Headers::new();
    extra.push("Reason", "Q.850;cause=16");
    bare.stack.cancel(tx, extra).await.unwrap();
    let mut cancels = Vec::new();
    while cancels.len() < 3 {
        match bare.next().await {
            SipMessage::Request(cancel) if cancel.method == Method::Cancel => cancels.push(cancel),
            SipMessage::Request(copy) => assert_eq!(copy, invite),
            SipMessage::Response(response) => panic!("an answer to nothing: {response:?}"),
        }
    }
    let cancel = &cancels[0];
    assert!(cancels.iter().all(|copy| copy == cancel));
    assert_eq!(cancel.uri, invite.uri);
    assert_eq!(
        cancel.headers.value("Via"),
        invite.headers.value("Via"),
        "the INVITE's own Via"
    );
    assert_eq!(cancel.headers.values("Via").count(), 1);
    for name in ["From", "To", "Call-ID"] {
        assert_eq!(cancel.headers.value(name), invite.headers.value(name), "{name}");
    }
    assert_eq!(cancel.headers.value("CSeq"), Some("1 CANCEL"));
    assert_eq!(cancel.headers.value("Reason"), Some("Q.850;cause=16"));
    bare.send(&answer_bytes(cancel, 200)).await;
    bare.send(&answer_bytes(&invite, 487)).await;
    let (answered, _) = bare.hears.expect_response(487).await;
    assert_eq!(answered, tx);
    while bare.next().await.headers().cseq().unwrap().method != Method::Ack {}
    bare.drain();
    bare.expect_silence(SHORT_T1 * 20).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_copy_of_a_request_gets_the_same_answer_again(on: Setting) {
    let bare = Bare::start(&on).await;
    let options = bare
        .request(Method::Options, "copy", bare.address(), ";rport")
        .to_bytes();
    bare.send(&options).await;
    bare.send(&options).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Options).await;
    respond(&*bare.stack, served, &heard, 200).await;
    let first = bare.expect_status(200).await;
    bare.send(&options).await;
    assert_eq!(bare.expect_status(200).await, first);
    bare.hears.expect_silence(Duration::from_millis(50)).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_copy_of_a_ringing_invite_gets_the_last_provisional_answer_again(on: Setting) {
    let bare = Bare::start(&on).await;
    let invite = bare
        .request(Method::Invite, "ringing", bare.address(), ";rport")
        .to_bytes();
    bare.send(&invite).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 100).await;
    respond(&*bare.stack, served, &heard, 180).await;
    bare.expect_status(100).await;
    let ringing = bare.expect_status(180).await;
    for _ in 0..2 {
        bare.send(&invite).await;
        assert_eq!(bare.expect_status(180).await, ringing);
    }
    bare.hears.expect_silence(Duration::from_millis(50)).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_rejection_is_repeated_until_it_is_acknowledged(on: Setting) {
    let bare = Bare::start(&on).await;
    let invite = bare.request(Method::Invite, "rejected", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 603).await;
    let first = bare.expect_status(603).await;
    for _ in 0..3 {
        assert_eq!(bare.expect_status(603).await, first);
    }
    bare.send(&ack_of(&invite, &first)).await;
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::Done);
    bare.drain();
    bare.expect_silence(SHORT_T1 * 20).await;
    bare.hears.expect_silence(Duration::ZERO).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_rejection_that_is_never_acknowledged_times_out(on: Setting) {
    let bare = Bare::start(&on).await;
    bare.send(
        &bare
            .request(Method::Invite, "unacknowledged", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 486).await;
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::TimedOut);
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_late_copy_of_an_acknowledged_invite_begins_nothing(on: Setting) {
    let bare = Bare::start(&on).await;
    let invite = bare.request(Method::Invite, "late", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 486).await;
    let busy = bare.expect_status(486).await;
    bare.send(&ack_of(&invite, &busy)).await;
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::Done);
    bare.send(&invite.to_bytes()).await;
    bare.hears.expect_silence(Duration::from_millis(100)).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_cancel_for_nothing_is_answered_481(on: Setting) {
    let bare = Bare::start(&on).await;
    bare.send(
        &bare
            .request(Method::Cancel, "nothing", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    bare.expect_status(481).await;
    // The same branch from another sent-by is another transaction (RFC 3261 section 17.2.3).
    bare.send(
        &bare
            .request(Method::Invite, "shared", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    bare.hears.expect_request(Method::Invite).await;
    let other = SocketAddr::from(([192, 0, 2, 1], 5060));
    bare.send(&bare.request(Method::Cancel, "shared", other, ";rport").to_bytes())
        .await;
    bare.expect_status(481).await;
    bare.send(
        &bare
            .request(Method::Cancel, "shared", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    bare.expect_status(200).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn an_answer_goes_to_the_source_port_with_rport(on: Setting) {
    let bare = Bare::start(&on).await;
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 5060));
    bare.send(
        &bare
            .request(Method::Options, "rport", elsewhere, ";rport")
            .to_bytes(),
    )
    .await;
    let (served, heard, _) = bare.hears.expect_request(Method::Options).await;
    respond(&*bare.stack, served, &heard, 200).await;
    let via = bare.expect_status(200).await.headers.top_via().unwrap();
    assert_eq!(
        via.params.value("rport"),
        Some(bare.address().port().to_string().as_str())
    );
    assert_eq!(
        via.params.value("received"),
        Some(bare.address().ip().to_string().as_str())
    );
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn an_answer_goes_to_the_sent_by_port_without_rport(on: Setting) {
    let bare = Bare::start(&on).await;
    let listening = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
    let sent_by = listening.local_addr().unwrap();
    bare.send(&bare.request(Method::Options, "sent-by", sent_by, "").to_bytes())
        .await;
    let (served, heard, _) = bare.hears.expect_request(Method::Options).await;
    respond(&*bare.stack, served, &heard, 200).await;
    assert!(matches!(receive(&listening).await, SipMessage::Response(response) if response.status == 200));
    bare.stack.shutdown(Duration::ZERO).await;
}

//! The session timer (RFC 4028), from both sides.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

const UPDATES: &str = "INVITE, ACK, BYE, CANCEL, UPDATE";
const NO_UPDATES: &str = "INVITE, ACK, BYE, CANCEL";

fn timed() -> Bench {
    Bench::with(DialogConfig {
        session_timer: Some(SessionTimer::default()),
        ..config()
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn expires(headers: &Headers) -> String {
    headers.value("Session-Expires").unwrap_or_default().to_owned()
}

/// A call of ours, whose 200 says this of Allow and Session-Expires.
fn calling(allow: &str, said: &str) -> (Bench, CallId, SipRequest) {
    let mut bench = timed();
    let (call, tx, invite) = bench.call();
    let mut ok = response(&invite, 200, "bob").with_body("application/sdp", ANSWER);
    ok.headers.push("Allow", allow);
    if !said.is_empty() {
        ok.headers.push("Session-Expires", said);
    }
    bench.answer(tx, ok);
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    bench.tx_ended(tx, TxEnd::Done);
    (bench, call, invite)
}

/// Bob's INVITE with these header fields, answered and acknowledged: our 200.
fn called(fields: &[(&'static str, &str)]) -> (Bench, SipRequest, SipResponse) {
    let mut bench = timed();
    let mut invite = peer_invite();
    for (name, value) in fields {
        invite.headers.push(*name, *value);
    }
    bench.request(invite.clone());
    bench.responded(100);
    assert!(matches!(bench.event(), DialogEventKind::Incoming { .. }));
    let call = bench.machine.calls().next().unwrap();
    let sdp = ANSWER.to_owned();
    bench.give(Input::Accept(Accept { call, sdp })).unwrap();
    let (_, ok) = bench.responded(200);
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1));
    assert_eq!(bench.event(), DialogEventKind::Confirmed { sdp: None });
    (bench, invite, ok)
}

fn answer(bench: &mut Bench, tx: TxId, request: &SipRequest, status: u16, said: &str) {
    let mut answer = response(request, status, "bob");
    if !said.is_empty() {
        let name = if status == 422 {
            "Min-SE"
        } else {
            "Session-Expires"
        };
        answer.headers.push(name, said);
    }
    bench.answer(tx, answer);
    bench.tx_ended(tx, TxEnd::Done);
}

#[test]
fn an_invite_asks_for_half_an_hour() {
    let (_, _, invite) = calling(UPDATES, "");
    assert_eq!(expires(&invite.headers), "1800");
    assert!(invite.headers.has_token("Supported", "timer"));
    assert!(!invite.headers.contains("Min-SE"));
}

#[test]
fn without_the_timer_nothing_is_said_of_it() {
    let (_, _, invite) = Bench::new().call();
    assert!(!invite.headers.contains("Session-Expires") && !invite.headers.has_token("Supported", "timer"));
}

#[test]
fn we_refresh_by_update_after_half_of_the_interval_again_and_again() {
    let (mut bench, _, _) = calling(UPDATES, "90;refresher=uac");
    for _ in 0..3 {
        bench.pass(seconds(44));
        bench.silent();
        bench.pass(seconds(1));
        let (tx, update) = bench.sent(Method::Update);
        assert_eq!(expires(&update.headers), "90;refresher=uac");
        assert!(update.body.is_empty() && update.headers.contains("Contact"));
        answer(&mut bench, tx, &update, 200, "90;refresher=uac");
        bench.silent();
    }
}

#[test]
fn a_peer_without_update_is_refreshed_by_a_re_invite_of_the_user_s() {
    let (mut bench, call, _) = calling(NO_UPDATES, "90;refresher=uac");
    bench.pass(seconds(45));
    assert_eq!(bench.event(), DialogEventKind::RefreshDue);
    let offer = OFFER.to_owned();
    bench
        .give(Input::Reinvite(Reinvite {
            call,
            offer,
            early: None,
        }))
        .unwrap();
    let (tx, invite) = bench.sent(Method::Invite);
    assert_eq!(expires(&invite.headers), "90;refresher=uac");
    let mut ok = response(&invite, 200, "bob").with_body("application/sdp", ANSWER);
    ok.headers.push("Session-Expires", "90;refresher=uac");
    bench.answer(tx, ok);
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::OfferAnswered { .. }));
    bench.tx_ended(tx, TxEnd::Done);
    bench.pass(seconds(44));
    bench.silent();
    bench.pass(seconds(1));
    assert_eq!(bench.event(), DialogEventKind::RefreshDue);
}

#[test]
fn a_refresh_that_nobody_makes_is_asked_for_again_and_then_the_session_ends() {
    let (mut bench, _, _) = calling(NO_UPDATES, "90;refresher=uac");
    bench.pass(seconds(45));
    assert_eq!(bench.event(), DialogEventKind::RefreshDue);
    bench.pass(seconds(11));
    assert_eq!(bench.event(), DialogEventKind::RefreshDue);
    bench.pass(seconds(4));
    let (tx, bye) = bench.sent(Method::Bye);
    assert!(bye.headers.value("Reason").unwrap().contains("408"));
    answer(&mut bench, tx, &bye, 200, "");
    let (cause, by, _, reason) = bench.ended();
    assert_eq!((cause, by), (Cause::TimedOut, Side::Local));
    assert!(reason.contains("RFC 4028"), "{reason}");
}

#[test]
fn a_peer_that_refreshes_keeps_the_call_and_one_that_stops_loses_it() {
    let (mut bench, _, invite) = calling(UPDATES, "90;refresher=uas");
    for sequence in 1..4 {
        bench.pass(seconds(45));
        bench.silent();
        let mut update = callee_request(&invite, "bob", Method::Update, sequence);
        update.headers.push("Supported", "timer");
        update.headers.push("Session-Expires", "90;refresher=uac");
        bench.request(update);
        let (_, ok) = bench.responded(200);
        assert_eq!(expires(&ok.headers), "90;refresher=uac");
        assert!(ok.headers.has_token("Require", "timer"));
    }
    // 90 s less a third of it.
    bench.pass(seconds(59));
    bench.silent();
    bench.pass(seconds(1));
    let (tx, bye) = bench.sent(Method::Bye);
    answer(&mut bench, tx, &bye, 200, "");
    assert_eq!(bench.ended().0, Cause::TimedOut);
}

#[test]
fn a_peer_that_knows_no_timer_is_left_alone() {
    let (mut bench, _, _) = calling(UPDATES, "");
    bench.pass(seconds(100_000));
    bench.silent();
    let (mut bench, _, ok) = called(&[]);
    assert!(!ok.headers.contains("Session-Expires"));
    bench.pass(seconds(100_000));
    bench.silent();
}

#[test]
fn a_422_is_followed_by_an_invite_for_longer_and_not_for_ever() {
    let mut bench = timed();
    let (_, mut tx, mut invite) = bench.call();
    for (asked, sequence) in [(2_000_u32, 2_u32), (3_000, 3), (4_000, 4)] {
        answer(&mut bench, tx, &invite, 422, &asked.to_string());
        (tx, invite) = bench.sent(Method::Invite);
        assert_eq!(expires(&invite.headers), asked.to_string());
        assert_eq!(invite.headers.value("Min-SE"), Some(&*asked.to_string()));
        assert_eq!(invite.headers.cseq().unwrap().sequence, sequence);
    }
    answer(&mut bench, tx, &invite, 422, "5000");
    assert_eq!(bench.ended().2, Some(422));
}

#[test]
fn a_422_that_asks_for_nothing_more_is_a_refusal() {
    for said in ["", "90", "4000000000", "soon"] {
        let mut bench = timed();
        let (_, tx, invite) = bench.call();
        answer(&mut bench, tx, &invite, 422, said);
        assert_eq!(bench.ended().2, Some(422), "{said}");
    }
}

/// RFC 4028 section 7.4: also in the middle of a call.
#[test]
fn a_422_to_a_refresh_is_followed_by_one_for_longer() {
    let (mut bench, call, _) = calling(UPDATES, "90;refresher=uac");
    bench.pass(seconds(45));
    let (tx, update) = bench.sent(Method::Update);
    answer(&mut bench, tx, &update, 422, "200");
    let (tx, update) = bench.sent(Method::Update);
    assert_eq!(expires(&update.headers), "200;refresher=uac");
    answer(&mut bench, tx, &update, 200, "200;refresher=uac");
    let offer = OFFER.to_owned();
    bench
        .give(Input::Reinvite(Reinvite {
            call,
            offer,
            early: None,
        }))
        .unwrap();
    let (tx, invite) = bench.sent(Method::Invite);
    answer(&mut bench, tx, &invite, 422, "300");
    let (_, invite) = bench.sent(Method::Invite);
    assert_eq!(expires(&invite.headers), "300;refresher=uac");
    bench.silent();
}

#[test]
fn an_interval_that_is_too_short_is_answered_422() {
    let mut bench = timed();
    let mut invite = peer_invite();
    invite.headers.push("Supported", "timer");
    invite.headers.push("Session-Expires", "60");
    bench.request(invite);
    let (_, refusal) = bench.responded(422);
    assert_eq!(refusal.headers.min_se().unwrap(), Some(90));
    bench.silent();
    // JsSIP's default is as short as can be.
    let (_, _, ok) = called(&[("Supported", "timer"), ("Session-Expires", "90")]);
    assert_eq!(expires(&ok.headers), "90;refresher=uac");
}

#[test]
fn who_refreshes_is_as_the_caller_says_and_else_the_caller() {
    let (mut bench, _, ok) = called(&[("Supported", "timer"), ("Session-Expires", "120;refresher=uas")]);
    assert_eq!(expires(&ok.headers), "120;refresher=uas");
    assert!(!ok.headers.contains("Require"));
    bench.pass(seconds(60));
    assert_eq!(bench.event(), DialogEventKind::RefreshDue);
    let (_, _, ok) = called(&[("Supported", "timer")]);
    assert_eq!(expires(&ok.headers), "1800;refresher=uac");
    assert!(ok.headers.has_token("Require", "timer"));
    // A proxy wants a timer of a caller that knows none.
    let (_, _, ok) = called(&[("Session-Expires", "600")]);
    assert_eq!(expires(&ok.headers), "600;refresher=uas");
    assert!(!ok.headers.contains("Require"));
}

#[test]
fn the_least_that_the_caller_or_its_proxies_take_is_kept() {
    let (_, _, ok) = called(&[
        ("Supported", "timer"),
        ("Session-Expires", "7200"),
        ("Min-SE", "3600"),
    ]);
    assert_eq!(expires(&ok.headers), "3600;refresher=uac");
}

#[test]
fn a_peer_that_lost_the_call_ends_it_at_the_refresh() {
    for status in [408, 481] {
        let (mut bench, _, _) = calling(UPDATES, "90;refresher=uac");
        bench.pass(seconds(45));
        let (tx, update) = bench.sent(Method::Update);
        answer(&mut bench, tx, &update, status, "");
        let (cause, by, told, _) = bench.ended();
        assert_eq!((cause, by, told), (Cause::TimedOut, Side::Remote, Some(status)));
        bench.sent(Method::Bye);
    }
}

#[test]
fn a_peer_that_does_not_take_update_after_all_is_sent_a_re_invite() {
    let (mut bench, _, _) = calling(UPDATES, "90;refresher=uac");
    bench.pass(seconds(45));
    let (tx, update) = bench.sent(Method::Update);
    answer(&mut bench, tx, &update, 501, "");
    assert_eq!(bench.event(), DialogEventKind::RefreshDue);
}

#[test]
fn a_refresh_that_fails_for_now_is_tried_again() {
    let (mut bench, _, _) = calling(UPDATES, "90;refresher=uac");
    bench.pass(seconds(45));
    let (tx, update) = bench.sent(Method::Update);
    answer(&mut bench, tx, &update, 500, "");
    bench.silent();
    bench.pass(seconds(11));
    bench.sent(Method::Update);
}

#[test]
fn an_interval_out_of_reason_does_not_have_us_refresh_without_end() {
    let (mut bench, _, _) = calling(UPDATES, "0;refresher=uac");
    bench.pass(seconds(14));
    bench.silent();
    bench.pass(seconds(1));
    bench.sent(Method::Update);
    bench.silent();
}

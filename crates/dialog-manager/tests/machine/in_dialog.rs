//! Requests within an established dialog, other than offers.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;

fn hang_up(bench: &mut Bench, call: CallId) -> (TxId, SipRequest) {
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye)
}

#[test]
fn our_bye_ends_the_call_when_it_is_answered() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let reason = Some("SIP;cause=200;text=\"done\"".to_owned());
    bench.give(Input::Hangup(Hangup { call, reason })).unwrap();
    let (tx, bye) = bench.sent(Method::Bye);
    assert_eq!(bye.headers.cseq().unwrap().to_string(), "2 BYE");
    assert_eq!(bye.headers.value("Reason"), Some("SIP;cause=200;text=\"done\""));
    bench.silent();
    bench.answer(tx, response(&bye, 200, "bob"));
    assert_eq!(bench.ended(), (Cause::Bye, Side::Local, None, String::new()));
    assert_eq!(bench.machine.calls().count(), 0);
}

#[test]
fn our_bye_ends_the_call_whatever_its_answer_is() {
    for status in [408, 481, 500] {
        let mut bench = Bench::new();
        let (call, _) = bench.established();
        let (tx, bye) = hang_up(&mut bench, call);
        bench.answer(tx, response(&bye, status, "bob"));
        assert_eq!(bench.ended().0, Cause::Bye);
    }
    for end in [TxEnd::TimedOut, TxEnd::Transport("gone".to_owned())] {
        let mut bench = Bench::new();
        let (call, _) = bench.established();
        let (tx, _) = hang_up(&mut bench, call);
        bench.tx_ended(tx, end);
        assert_eq!(bench.ended().0, Cause::Bye);
        bench.silent();
    }
}

#[test]
fn an_unanswered_bye_is_told_after_four_t1_and_only_once() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, _) = hang_up(&mut bench, call);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.silent();
    bench.pass(T1 * 4);
    assert_eq!(bench.ended().0, Cause::Bye);
    bench.tx_ended(tx, TxEnd::TimedOut);
    bench.silent();
}

#[test]
fn a_challenged_bye_is_sent_again_with_credentials() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, bye) = hang_up(&mut bench, call);
    let mut challenge = response(&bye, 401, "bob");
    challenge.headers.push(
        "WWW-Authenticate",
        "Digest realm=\"bob\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(tx, challenge);
    let (tx, again) = bench.sent(Method::Bye);
    assert_eq!(again.headers.cseq().unwrap().to_string(), "3 BYE");
    assert_eq!(again.headers.authorizations().unwrap()[0].realm, "bob");
    bench.silent();
    bench.answer(tx, response(&again, 200, "bob"));
    assert_eq!(bench.ended().0, Cause::Bye);
}

#[test]
fn the_callees_bye_ends_the_call_and_its_reason_is_told() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let mut bye = callee_request(&invite, "bob", Method::Bye, 1);
    bye.headers.push("Reason", "Q.850;cause=16");
    let tx = bench.request(bye);
    assert_eq!(bench.responded(200).0, tx);
    let (cause, by, _, reason) = bench.ended();
    assert_eq!((cause, by), (Cause::Bye, Side::Remote));
    assert!(reason.contains("Q.850;cause=16"), "{reason}");
    bench.request(callee_request(&invite, "bob", Method::Bye, 2));
    bench.responded(481);
    bench.silent();
}

#[test]
fn the_callers_bye_ends_the_call() {
    let mut bench = Bench::new();
    let (_, invite, ok) = bench.accepted();
    bench.request(peer_request(&invite, &ok, Method::Bye, 2));
    bench.responded(200);
    let (cause, by, ..) = bench.ended();
    assert_eq!((cause, by), (Cause::Bye, Side::Remote));
}

#[test]
fn byes_that_cross_are_both_answered_and_end_the_call_once() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, bye) = hang_up(&mut bench, call);
    bench.request(callee_request(&invite, "bob", Method::Bye, 1));
    bench.responded(200);
    let (cause, by, ..) = bench.ended();
    assert_eq!((cause, by), (Cause::Bye, Side::Local));
    bench.answer(tx, response(&bye, 481, "bob"));
    bench.silent();
}

#[test]
fn a_request_with_an_old_cseq_is_answered_500() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    bench.request(callee_request(&invite, "bob", Method::Info, 5));
    bench.responded(200);
    for old in [5, 4] {
        bench.request(callee_request(&invite, "bob", Method::Bye, old));
        bench.responded(500);
        bench.silent();
    }
    bench.request(callee_request(&invite, "bob", Method::Bye, 6));
    bench.responded(200);
    bench.ended();
}

#[test]
fn a_request_with_a_foreign_tag_is_answered_481() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    bench.request(callee_request(&invite, "mallory", Method::Bye, 1));
    bench.responded(481);
    bench.silent();
}

#[test]
fn info_and_options_are_accepted_and_other_methods_refused() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    bench.request(
        callee_request(&invite, "bob", Method::Info, 1).with_body("application/dtmf-relay", "Signal=5"),
    );
    bench.responded(200);
    assert!(matches!(bench.event(), DialogEventKind::Dtmf { digit: '5', .. }));
    bench.request(callee_request(&invite, "bob", Method::Options, 2));
    assert!(bench.responded(200).1.headers.has_token("Allow", "BYE"));
    let refused = [Method::Publish, Method::Subscribe];
    for (sequence, method) in (3..).zip(refused) {
        bench.request(callee_request(&invite, "bob", method, sequence));
        assert!(bench.responded(405).1.headers.contains("Allow"));
    }
    bench.request(callee_request(
        &invite,
        "bob",
        Method::Other("DANCE".to_owned()),
        9,
    ));
    bench.responded(501);
    bench.silent();
}

#[test]
fn a_required_extension_within_a_dialog_is_answered_420() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let mut info = callee_request(&invite, "bob", Method::Info, 1);
    info.headers.push("Require", "teleport");
    bench.request(info);
    assert_eq!(
        bench.responded(420).1.headers.value("Unsupported"),
        Some("teleport")
    );
}

#[test]
fn an_update_without_offer_moves_the_remote_target() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let mut update = callee_request(&invite, "bob", Method::Update, 1);
    update.headers.set("Contact", "<sip:bob@192.0.2.99>");
    bench.request(update);
    assert!(bench.responded(200).1.headers.contains("Contact"));
    bench.silent();
    assert_eq!(hang_up(&mut bench, call).1.uri.to_string(), "sip:bob@192.0.2.99");
}

//! MESSAGEs (RFC 3428) within calls and outside of them, and digits in INFOs.

use crate::bench::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;
use std::time::Duration;

fn deliver(bench: &mut Bench, call: CallId, carrier: Carrier, body: &str) -> CallId {
    let errand = CallId::fresh();
    bench
        .give(Input::Deliver(Deliver {
            call,
            errand,
            carrier,
            content_type: "text/plain".to_owned(),
            body: body.to_owned(),
        }))
        .unwrap();
    errand
}

fn message(bench: &mut Bench, body: &str) -> Result<CallId, siprtc_core::Error> {
    let errand = CallId::fresh();
    let target = "sip:bob@example.com".parse().unwrap();
    let message = SendMessage {
        errand,
        target,
        content_type: "text/plain".to_owned(),
        body: body.to_owned(),
        headers: fields(&[("Subject", "hello")]),
    };
    bench.give(Input::SendMessage(message)).map(|()| errand)
}

/// What became of which errand.
#[track_caller]
fn delivered(bench: &mut Bench) -> (CallId, u16) {
    match bench.outputs.pop_front() {
        Some(Output::Event(DialogEvent {
            call,
            kind: DialogEventKind::Delivered { status },
        })) => (call, status),
        other => panic!("expected Delivered, got {other:?}"),
    }
}

/// A MESSAGE of Bob's outside of any dialog.
fn peer_message(content_type: &str, body: impl Into<Vec<u8>>) -> SipRequest {
    let mut request = peer_invite();
    request.method = Method::Message;
    request.headers.set(
        "CSeq",
        CSeq {
            sequence: 1,
            method: Method::Message,
        },
    );
    request.headers.remove("Contact");
    request.headers.remove("Content-Type");
    request.with_body(content_type, body.into())
}

#[test]
fn messages_of_a_call_go_one_after_the_other_and_each_has_its_answer() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let first = deliver(&mut bench, call, Carrier::Message, "one");
    let second = deliver(&mut bench, call, Carrier::Info, "two");
    let (tx, one) = bench.sent(Method::Message);
    assert_eq!(one.body, "one");
    assert_eq!(one.headers.content_type().as_deref(), Some("text/plain"));
    bench.silent();
    bench.answer(tx, response(&one, 202, "bob"));
    assert_eq!(delivered(&mut bench), (first, 202));
    let (tx, two) = bench.sent(Method::Info);
    assert_eq!(two.body, "two");
    assert!(!two.headers.contains("Info-Package"));
    bench.answer(tx, response(&two, 415, "bob"));
    assert_eq!(delivered(&mut bench), (second, 415));
    bench.silent();
}

#[test]
fn a_message_that_is_lost_says_so_and_the_next_one_goes_out() {
    for (end, status) in [(TxEnd::TimedOut, 408), (TxEnd::Transport("gone".to_owned()), 503)] {
        let mut bench = Bench::new();
        let (call, _) = bench.established();
        let lost = deliver(&mut bench, call, Carrier::Message, "one");
        deliver(&mut bench, call, Carrier::Message, "two");
        let (tx, _) = bench.sent(Method::Message);
        bench.tx_ended(tx, end);
        assert_eq!(delivered(&mut bench), (lost, status));
        assert_eq!(bench.sent(Method::Message).1.body, "two");
    }
}

#[test]
fn what_still_waits_when_the_call_ends_is_told_before_the_end() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let errands = ["one", "two"].map(|text| deliver(&mut bench, call, Carrier::Message, text));
    bench.sent(Method::Message);
    bench.request(callee_request(&invite, "bob", Method::Bye, 1));
    bench.responded(200);
    for errand in errands {
        assert_eq!(delivered(&mut bench), (errand, 481));
    }
    bench.ended();
    bench.silent();
}

#[test]
fn a_call_has_a_bound_of_messages_that_wait() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    for _ in 0..65 {
        deliver(&mut bench, call, Carrier::Message, "x");
    }
    let one_more = Deliver {
        call,
        errand: CallId::fresh(),
        carrier: Carrier::Message,
        content_type: "text/plain".to_owned(),
        body: "x".to_owned(),
    };
    assert!(bench.give(Input::Deliver(one_more.clone())).is_err());
    let broken = Deliver {
        content_type: "text/plain\r\nX: y".to_owned(),
        ..one_more.clone()
    };
    assert!(bench.give(Input::Deliver(broken)).is_err());
    bench.outputs.clear();
    let (early, ..) = bench.incoming();
    let early = Deliver {
        call: early,
        ..one_more
    };
    assert!(bench.give(Input::Deliver(early)).is_err());
}

#[test]
fn a_message_of_the_peer_is_heard_within_a_call_and_outside_of_it() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let within =
        callee_request(&invite, "bob", Method::Message, 1).with_body("text/plain;charset=UTF-8", "grüß dich");
    bench.request(within);
    bench.responded(200);
    match bench.outputs.pop_front() {
        Some(Output::Event(DialogEvent {
            call: of,
            kind: DialogEventKind::Message(note),
        })) => assert_eq!((of, note.body.as_str()), (call, "grüß dich")),
        other => panic!("{other:?}"),
    }
    bench.request(peer_message("text/plain", "hello"));
    assert!(bench.responded(200).1.headers.to().unwrap().tag().is_some());
    let DialogEventKind::Message(note) = bench.event() else {
        panic!()
    };
    assert_eq!(
        (note.from.uri.to_string().as_str(), note.body.as_str()),
        ("sip:bob@example.com", "hello")
    );
    assert_eq!(bench.machine.calls().count(), 1);
}

#[test]
fn a_message_that_we_do_not_take_is_refused_by_its_reason() {
    let mut bench = Bench::new();
    bench.request(peer_message("text/html", "<b>hi</b>"));
    assert_eq!(bench.responded(415).1.headers.value("Accept"), Some("text/plain"));
    bench.request(peer_message("text/plain", vec![0xff, 0xfe]));
    bench.responded(400);
    bench.request(peer_message("text/plain", vec![b'x'; 70_000]));
    bench.responded(413);
    let mut zipped = peer_message("text/plain", "x");
    zipped.headers.push("Content-Encoding", "gzip");
    bench.request(zipped);
    bench.responded(415);
    let mut extended = peer_message("text/plain", "x");
    extended.headers.push("Require", "teleport");
    bench.request(extended);
    bench.responded(420);
    bench.silent();
    let mut config = config();
    config.control.take_messages = false;
    let mut bench = Bench::with(config);
    bench.request(peer_message("text/plain", "x"));
    bench.responded(405);
    bench.silent();
}

#[test]
fn a_message_goes_out_with_credentials_and_without_a_contact() {
    let mut bench = Bench::new();
    let errand = message(&mut bench, "hello").unwrap();
    let (tx, first) = bench.sent(Method::Message);
    assert_eq!(first.uri.to_string(), "sip:bob@example.com");
    assert!(!first.headers.contains("Contact"), "RFC 3428 section 4");
    let mut challenge = response(&first, 407, "p");
    challenge.headers.push(
        "Proxy-Authenticate",
        "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(tx, response(&first, 100, ""));
    bench.answer(tx, challenge);
    let (tx, again) = bench.sent(Method::Message);
    assert_eq!(again.headers.cseq().unwrap().sequence, 2);
    assert_eq!(again.headers.proxy_authorizations().unwrap()[0].realm, "r");
    bench.answer(tx, response(&again, 200, "bob"));
    assert_eq!(delivered(&mut bench), (errand, 200));
    bench.answer(tx, response(&again, 200, "bob"));
    bench.tx_ended(tx, TxEnd::Done);
    bench.silent();
}

#[test]
fn a_message_that_nobody_answers_says_so() {
    for (end, status) in [(TxEnd::TimedOut, 408), (TxEnd::Transport("gone".to_owned()), 503)] {
        let mut bench = Bench::new();
        let errand = message(&mut bench, "hello").unwrap();
        let (tx, _) = bench.sent(Method::Message);
        bench.tx_ended(tx, end);
        assert_eq!(delivered(&mut bench), (errand, status));
        bench.silent();
    }
}

#[test]
fn a_message_outside_of_a_call_is_no_longer_than_rfc_3428_allows_and_there_are_not_too_many() {
    let mut bench = Bench::new();
    assert!(message(&mut bench, &"x".repeat(1300)).is_err());
    for _ in 0..64 {
        message(&mut bench, &"x".repeat(500)).unwrap();
    }
    assert!(message(&mut bench, "one more").is_err());
}

#[test]
fn digits_in_infos_are_heard_and_what_is_no_digit_is_not() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let info = |sequence, content_type: &str, body: &str| {
        callee_request(&invite, "bob", Method::Info, sequence).with_body(content_type, body.to_owned())
    };
    bench.request(info(1, "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"));
    bench.responded(200);
    let duration = Duration::from_millis(160);
    assert_eq!(bench.event(), DialogEventKind::Dtmf { digit: '5', duration });
    bench.request(info(2, "application/dtmf", "#"));
    bench.responded(200);
    assert!(matches!(bench.event(), DialogEventKind::Dtmf { digit: '#', .. }));
    bench.request(info(3, "application/dtmf-relay", "Signal=flash"));
    bench.responded(400);
    bench.request(info(4, "application/media_control+xml", "<x/>"));
    bench.responded(200);
    bench.silent();
    let mut config = config();
    config.control.take_digits = false;
    let mut bench = Bench::with(config);
    let (_, invite) = bench.established();
    bench.request(
        callee_request(&invite, "bob", Method::Info, 1).with_body("application/dtmf-relay", "Signal=5"),
    );
    bench.responded(200);
    bench.silent();
}

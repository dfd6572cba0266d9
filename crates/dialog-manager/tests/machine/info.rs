//! INFOs within an established dialog (RFC 6086).

use crate::bench::*;
use crate::trickle::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;

#[test]
fn an_info_carries_its_package_and_body_within_the_dialog() {
    let (mut bench, call, invite) = established();
    give(&mut bench, trickle(call, BODY));
    let (tx, info) = bench.sent(Method::Info);
    assert_eq!(info.headers.value("Info-Package"), Some(PACKAGE));
    assert_eq!(info.headers.value("Content-Disposition"), Some("Info-Package"));
    assert_eq!(info.headers.content_type().as_deref(), Some(SDPFRAG));
    assert_eq!(body(&info), BODY);
    assert_eq!(info.headers.call_id().unwrap(), invite.headers.call_id().unwrap());
    assert_eq!(info.headers.to().unwrap().tag(), Some("bob"));
    assert_eq!(info.headers.cseq().unwrap().to_string(), "2 INFO");
    // RFC 6086 section 4.2: an INFO has no Recv-Info.
    assert!(!info.headers.contains("Recv-Info"));
    bench.answer(tx, response(&info, 200, "bob"));
    bench.silent();
}

#[test]
fn one_info_is_under_way_at_a_time_and_a_later_one_of_trickle_ice_replaces_what_waits() {
    let (mut bench, call, _) = established();
    for body in ["one", "two", "three"] {
        give(&mut bench, trickle(call, body));
    }
    let (tx, info) = bench.sent(Method::Info);
    assert_eq!(body(&info), "one");
    bench.silent();
    bench.answer(tx, response(&info, 200, "bob"));
    let (tx, info) = bench.sent(Method::Info);
    assert_eq!((body(&info), info.headers.cseq().unwrap().sequence), ("three", 3));
    bench.answer(tx, response(&info, 200, "bob"));
    bench.silent();
}

#[test]
fn infos_of_another_package_keep_their_order_and_no_more_than_sixteen_wait() {
    let mut bench = trickling();
    let (call, tx, invite) = bench.call();
    let mut ok = response(&invite, 200, "bob");
    ok.headers.push("Recv-Info", "weather, Clock;precise");
    bench.answer(tx, ok);
    bench.acked();
    assert_eq!(bench.supports("bob"), (false, false));
    bench.event();
    let clock = |body: usize| SendInfo {
        call,
        package: "clock".to_owned(),
        content_type: "text/plain".to_owned(),
        body: body.to_string(),
    };
    for number in 0..17 {
        give(&mut bench, clock(number));
    }
    let (mut tx, mut info) = bench.sent(Method::Info);
    bench.silent();
    assert!(misused(&mut bench, clock(17)).contains("16 INFOs"));
    for number in 0..17 {
        assert_eq!(body(&info), number.to_string());
        bench.answer(tx, response(&info, 200, "bob"));
        if number < 16 {
            (tx, info) = bench.sent(Method::Info);
        }
    }
    bench.silent();
}

#[test]
fn an_info_that_nobody_has_asked_for_is_misuse() {
    let mut bench = trickling();
    let (call, tx, invite) = bench.call();
    assert!(misused(&mut bench, trickle(call, BODY)).contains("no dialog"));
    bench.answer(tx, response(&invite, 180, "bob"));
    assert_eq!(bench.supports("bob"), (false, false));
    bench.event();
    assert!(misused(&mut bench, trickle(call, BODY)).contains("takes trickle-ice"));
    assert!(misused(&mut bench, trickle(CallId::fresh(), BODY)).contains("unknown"));
    let (mut bench, call, _) = established();
    for (package, content_type) in [
        ("two words", SDPFRAG),
        ("", SDPFRAG),
        (PACKAGE, "text/plain\r\nX: y"),
        (PACKAGE, ""),
    ] {
        let (package, content_type) = (package.to_owned(), content_type.to_owned());
        misused(
            &mut bench,
            SendInfo {
                package,
                content_type,
                ..trickle(call, BODY)
            },
        );
    }
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye);
    assert!(misused(&mut bench, trickle(call, BODY)).contains("ending"));
}

#[test]
fn an_info_of_the_peer_is_answered_and_told() {
    let (mut bench, _, invite) = established();
    let tx = bench.request(as_trickle(callee_request(&invite, "bob", Method::Info, 1)));
    assert_eq!(bench.responded(200).0, tx);
    received(&mut bench, "bob");
    let mut odd = callee_request(&invite, "bob", Method::Info, 2);
    odd.headers.push("Info-Package", "Trickle-ICE;x=y");
    bench.request(odd.with_body("Application/Trickle-ICE-SDPfrag; charset=utf-8", BODY));
    bench.responded(200);
    received(&mut bench, "bob");
    bench.silent();
}

#[test]
fn an_info_of_an_unknown_package_or_type_is_refused_and_the_call_goes_on() {
    let (mut bench, _, invite) = established();
    let mut other = callee_request(&invite, "bob", Method::Info, 1);
    other.headers.push("Info-Package", "weather");
    bench.request(other.with_body("text/plain", "rain"));
    assert_eq!(bench.responded(469).1.headers.value("Recv-Info"), Some(PACKAGE));
    let mut plain = callee_request(&invite, "bob", Method::Info, 2);
    plain.headers.push("Info-Package", PACKAGE);
    bench.request(plain.clone().with_body("text/plain", BODY));
    assert_eq!(bench.responded(415).1.headers.value("Accept"), Some(SDPFRAG));
    plain.headers.set(
        "CSeq",
        CSeq {
            sequence: 3,
            method: Method::Info,
        },
    );
    bench.request(plain);
    bench.responded(415);
    let mut coded = as_trickle(callee_request(&invite, "bob", Method::Info, 4));
    coded.headers.push("Content-Encoding", "gzip");
    bench.request(coded);
    assert_eq!(
        bench.responded(415).1.headers.value("Accept-Encoding"),
        Some("identity")
    );
    let mut binary = as_trickle(callee_request(&invite, "bob", Method::Info, 5));
    binary.body = vec![0xff, 0xfe].into();
    bench.request(binary);
    bench.responded(400);
    bench.silent();
    assert_eq!(bench.machine.calls().count(), 1);
}

#[test]
fn an_info_outside_of_any_dialog_is_answered_481() {
    let (mut bench, _, invite) = established();
    bench.request(as_trickle(callee_request(&invite, "mallory", Method::Info, 1)));
    bench.responded(481);
    let mut outside = as_trickle(callee_request(&invite, "bob", Method::Info, 1));
    outside.headers.set("To", "<sip:alice@example.com>");
    bench.request(outside);
    bench.responded(481);
    bench.silent();
}

#[test]
fn a_refused_package_is_not_tried_again_until_the_peer_names_it_anew() {
    for status in [405, 408, 415, 469, 481, 501] {
        let (mut bench, call, invite) = established();
        give(&mut bench, trickle(call, "one"));
        give(&mut bench, trickle(call, "two"));
        let (tx, info) = bench.sent(Method::Info);
        bench.answer(tx, response(&info, status, "bob"));
        refused(&mut bench, "bob", status);
        bench.silent();
        misused(&mut bench, trickle(call, "three"));
        assert_eq!(bench.machine.calls().count(), 1, "{status} ends no call");
        let mut update = callee_request(&invite, "bob", Method::Update, 1);
        update.headers.push("Recv-Info", PACKAGE);
        bench.request(update);
        assert_eq!(bench.supports("bob"), (true, true));
        bench.responded(200);
        give(&mut bench, trickle(call, "four"));
        assert_eq!(body(&bench.sent(Method::Info).1), "four");
    }
}

#[test]
fn a_passing_refusal_lets_the_next_one_go() {
    let (mut bench, call, _) = established();
    give(&mut bench, trickle(call, "one"));
    give(&mut bench, trickle(call, "two"));
    let (tx, info) = bench.sent(Method::Info);
    bench.answer(tx, response(&info, 500, "bob"));
    refused(&mut bench, "bob", 500);
    assert_eq!(body(&bench.sent(Method::Info).1), "two");
}

#[test]
fn an_info_that_is_lost_is_refused() {
    let ends = [
        (TxEnd::TimedOut, 408),
        (TxEnd::Transport("gone".to_owned()), 503),
        (TxEnd::Done, 500),
    ];
    for (end, status) in ends {
        let (mut bench, call, _) = established();
        give(&mut bench, trickle(call, BODY));
        let (tx, _) = bench.sent(Method::Info);
        bench.tx_ended(tx, end);
        refused(&mut bench, "bob", status);
        bench.silent();
    }
}

#[test]
fn a_challenged_info_is_sent_again_with_credentials_and_the_next_one_waits() {
    let (mut bench, call, _) = established();
    give(&mut bench, trickle(call, "one"));
    give(&mut bench, trickle(call, "two"));
    let (tx, info) = bench.sent(Method::Info);
    let mut challenge = response(&info, 407, "bob");
    challenge.headers.push(
        "Proxy-Authenticate",
        "Digest realm=\"p\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(tx, challenge);
    let (tx, again) = bench.sent(Method::Info);
    assert_eq!((body(&again), again.headers.cseq().unwrap().sequence), ("one", 3));
    assert_eq!(again.headers.proxy_authorizations().unwrap()[0].realm, "p");
    bench.silent();
    bench.answer(tx, response(&again, 200, "bob"));
    assert_eq!(body(&bench.sent(Method::Info).1), "two");
}

#[test]
fn a_call_that_is_hung_up_sends_and_tells_no_more_infos() {
    let (mut bench, call, invite) = established();
    give(&mut bench, trickle(call, "one"));
    give(&mut bench, trickle(call, "two"));
    let (tx, info) = bench.sent(Method::Info);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye);
    bench.request(as_trickle(callee_request(&invite, "bob", Method::Info, 1)));
    bench.responded(200);
    bench.answer(tx, response(&info, 481, "bob"));
    bench.silent();
}

//! The peer's INVITE, from its arrival to our final answer.

use crate::bench::*;
use siprtc_core::Cause;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

fn accept(bench: &mut Bench, call: siprtc_core::CallId) {
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
}

#[test]
fn an_invite_is_answered_with_100_at_once_and_told() {
    let mut bench = Bench::new();
    let tx = bench.request(peer_invite());
    let (answered, _) = bench.responded(100);
    assert_eq!(answered, tx);
    let DialogEventKind::Incoming {
        sip_call_id,
        from,
        to,
        offer,
        ..
    } = bench.event()
    else {
        panic!()
    };
    assert_eq!(sip_call_id, "bobs-call");
    assert_eq!((from.display.as_deref(), from.tag()), (Some("Bob"), Some("b")));
    assert_eq!(to.uri.to_string(), "sip:alice@example.com");
    assert_eq!(offer.as_deref(), Some(OFFER));
    bench.silent();
}

#[test]
fn a_180_and_a_183_carry_tag_contact_and_record_route() {
    let mut bench = Bench::new();
    let (call, _, invite) = bench.incoming();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    let (_, ringing) = bench.responded(180);
    let tag = ringing.headers.to().unwrap().tag().unwrap().to_owned();
    assert_eq!(
        ringing.headers.contact_uri().unwrap().to_string(),
        "sip:alice@127.0.0.1:5070"
    );
    assert_eq!(
        ringing.headers.record_routes().unwrap(),
        invite.headers.record_routes().unwrap()
    );
    bench
        .give(Input::Ring(Ring {
            call,
            answer: Some(ANSWER.to_owned()),
        }))
        .unwrap();
    let (_, progress) = bench.responded(183);
    assert_eq!(progress.headers.to().unwrap().tag(), Some(tag.as_str()));
    assert_eq!(progress.body, ANSWER);
}

#[test]
fn a_ringing_is_repeated_every_minute() {
    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    bench.responded(180);
    bench.pass(Duration::from_secs(125));
    bench.responded(180);
    bench.responded(180);
    bench.silent();
}

#[test]
fn a_200_is_repeated_from_t1_to_t2_until_its_ack() {
    let mut bench = Bench::new();
    let (call, _, invite) = bench.incoming();
    accept(&mut bench, call);
    let (tx, ok) = bench.responded(200);
    assert_eq!(ok.body, ANSWER);
    assert!(ok.headers.contains("Allow") && ok.headers.contains("Contact"));
    for milliseconds in [500, 1000, 2000, 4000, 4000] {
        bench.pass(Duration::from_millis(milliseconds - 1));
        bench.silent();
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.responded(200), (tx, ok.clone()));
    }
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1));
    assert_eq!(bench.event(), DialogEventKind::Confirmed { sdp: None });
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1));
    bench.pass(PATIENCE * 2);
    bench.silent();
}

#[test]
fn a_200_that_nobody_acknowledges_ends_in_bye() {
    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    accept(&mut bench, call);
    bench.pass(PATIENCE - Duration::from_millis(1));
    // T1 doubling to T2 within 32 s: at 0, 0.5, 1.5, 3.5, and then every 4 s.
    for _ in 0..11 {
        bench.responded(200);
    }
    bench.silent();
    bench.pass(Duration::from_millis(1));
    let (cause, by, _, reason) = bench.ended();
    assert_eq!((cause, by), (Cause::TimedOut, Side::Local));
    assert!(reason.contains("32 s") && reason.contains("Contact"), "{reason}");
    let (_, bye) = bench.sent(Method::Bye);
    assert_eq!(bye.headers.cseq().unwrap().to_string(), "1 BYE");
    bench.pass(PATIENCE);
    bench.silent();
}

#[test]
fn the_route_set_of_a_callee_keeps_its_order() {
    let mut bench = Bench::new();
    let (call, ..) = bench.accepted();
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    let (_, bye) = bench.sent(Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.7:5080;transport=tcp");
    let routes: Vec<_> = bye
        .headers
        .routes()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(routes, ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>"]);
    assert_eq!(bye.headers.to().unwrap().tag(), Some("b"));
}

#[test]
fn a_cancel_before_the_answer_is_answered_487() {
    let mut bench = Bench::new();
    let (_, tx, _) = bench.incoming();
    bench.stack(StackEvent::Cancelled { invite: tx });
    assert_eq!(bench.responded(487).0, tx);
    let (cause, by, status, _) = bench.ended();
    assert_eq!((cause, by, status), (Cause::Cancelled, Side::Remote, Some(487)));
    bench.pass(PATIENCE * 4);
    bench.silent();
}

#[test]
fn a_cancel_after_the_200_changes_nothing() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.incoming();
    accept(&mut bench, call);
    let (_, ok) = bench.responded(200);
    bench.stack(StackEvent::Cancelled { invite: tx });
    bench.silent();
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1));
    assert_eq!(bench.event(), DialogEventKind::Confirmed { sdp: None });
}

#[test]
fn a_bye_in_the_early_dialog_ends_the_invite_too() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.incoming();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    let (_, ringing) = bench.responded(180);
    let bye = bench.request(peer_request(&invite, &ringing, Method::Bye, 2));
    assert_eq!(bench.responded(200).0, bye);
    assert_eq!(bench.responded(487).0, tx);
    let (cause, by, ..) = bench.ended();
    assert_eq!((cause, by), (Cause::Cancelled, Side::Remote));
}

#[test]
fn a_reject_answers_with_its_status_and_ends_the_call() {
    for (status, cause) in [
        (486, Cause::Busy),
        (603, Cause::Declined),
        (488, Cause::IncompatibleMedia),
    ] {
        let mut bench = Bench::new();
        let (call, tx, _) = bench.incoming();
        bench.give(Input::Reject(Reject { call, status })).unwrap();
        let (answered, response) = bench.responded(status);
        assert_eq!(answered, tx);
        assert!(response.headers.to().unwrap().tag().is_some());
        assert_eq!(bench.ended(), (cause, Side::Local, Some(status), String::new()));
    }
    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    assert!(bench.give(Input::Reject(Reject { call, status: 200 })).is_err());
    bench.silent();
}

#[test]
fn a_hangup_declines_a_ringing_call() {
    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.responded(603);
    assert_eq!(bench.ended().0, Cause::Declined);
}

#[test]
fn a_hangup_after_the_200_waits_for_the_ack_before_its_bye() {
    let mut bench = Bench::new();
    let (call, _, invite) = bench.incoming();
    accept(&mut bench, call);
    let (_, ok) = bench.responded(200);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.silent();
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1));
    let (tx, bye) = bench.sent(Method::Bye);
    bench.silent();
    bench.answer(tx, response(&bye, 200, "b"));
    assert_eq!(bench.ended().0, Cause::Bye);
}

#[test]
fn an_offerless_invite_is_answered_with_an_offer_and_its_ack_has_the_answer() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.body = bytes::Bytes::new();
    invite.headers.remove("Content-Type");
    bench.request(invite.clone());
    bench.responded(100);
    let DialogEventKind::Incoming { offer, .. } = bench.event() else {
        panic!()
    };
    assert_eq!(offer, None);
    let call = bench.machine.calls().next().unwrap();
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: OFFER.to_owned(),
        }))
        .unwrap();
    let (_, ok) = bench.responded(200);
    assert_eq!(ok.body, OFFER);
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1).with_body("application/sdp", ANSWER));
    assert_eq!(
        bench.event(),
        DialogEventKind::Confirmed {
            sdp: Some(ANSWER.to_owned())
        }
    );
}

#[test]
fn a_call_that_nobody_takes_is_answered_480() {
    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    bench.pass(Duration::from_secs(180));
    bench.outputs.retain(|output| {
        !matches!(output, siprtc_dialog_manager::machine::Output::Respond { response, .. } if response.status == 180)
    });
    bench.responded(480);
    let (cause, by, status, _) = bench.ended();
    assert_eq!((cause, by, status), (Cause::NoAnswer, Side::Local, Some(480)));
}

#[test]
fn an_invitation_that_expires_is_answered_487() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.headers.push("Expires", "20");
    bench.request(invite);
    bench.responded(100);
    bench.event();
    bench.pass(Duration::from_secs(20));
    bench.responded(487);
    assert_eq!(bench.ended().0, Cause::NoAnswer);
}

#[test]
fn a_foreign_body_is_answered_415_with_what_we_accept() {
    for content_type in ["text/plain", "multipart/mixed;boundary=x"] {
        let mut bench = Bench::new();
        bench.request(peer_invite().with_body(content_type, "hello"));
        let (_, refusal) = bench.responded(415);
        assert_eq!(refusal.headers.value("Accept"), Some("application/sdp"));
        assert!(refusal.headers.to().unwrap().tag().is_some());
        bench.silent();
    }
}

/// RFC 8866 section 6.10: the session's name may be in another character set.
#[test]
fn an_offer_whose_name_is_in_latin_1_is_an_offer() {
    let mut bench = Bench::new();
    let body = [OFFER.as_bytes(), b"a=x-room:K\xfcche\r\n"].concat();
    let mut invite = peer_invite();
    invite.body = body.into();
    bench.request(invite);
    bench.responded(100);
    let DialogEventKind::Incoming { offer, .. } = bench.event() else {
        panic!()
    };
    let offer = offer.unwrap();
    assert!(
        offer.starts_with(OFFER) && offer.ends_with("a=x-room:K\u{fffd}che\r\n"),
        "{offer}"
    );
}

#[test]
fn an_encoded_body_is_answered_415_with_the_encoding_we_accept() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.headers.push("Content-Encoding", "gzip");
    bench.request(invite);
    assert_eq!(
        bench.responded(415).1.headers.value("Accept-Encoding"),
        Some("identity")
    );
}

#[test]
fn a_body_of_optional_handling_is_passed_over() {
    let mut bench = Bench::new();
    let mut invite = peer_invite().with_body("application/x-strange", "hello");
    invite
        .headers
        .push("Content-Disposition", "render; handling=optional");
    bench.request(invite);
    bench.responded(100);
    assert!(matches!(
        bench.event(),
        DialogEventKind::Incoming { offer: None, .. }
    ));
}

#[test]
fn an_invite_to_another_scheme_is_answered_416() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.uri = "tel:+12015550123".parse().unwrap();
    bench.request(invite);
    bench.responded(416);
    bench.silent();
}

#[test]
fn a_caller_that_cannot_read_a_description_is_answered_406() {
    for (accept, status) in [
        ("text/plain", 406),
        ("", 406),
        ("text/plain, Application/SDP;level=1", 100),
        ("application/*", 100),
        ("*/*;q=0.1", 100),
    ] {
        let mut bench = Bench::new();
        let mut invite = peer_invite();
        invite.headers.push("Accept", accept);
        bench.request(invite);
        bench.responded(status);
    }
}

#[test]
fn a_required_extension_that_we_do_not_know_is_answered_420() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.headers.push("Require", "teleport, gruu");
    bench.request(invite);
    assert_eq!(
        bench.responded(420).1.headers.value("Unsupported"),
        Some("teleport, gruu")
    );
    bench.silent();
}

#[test]
fn a_request_of_an_unknown_dialog_is_answered_481() {
    let mut bench = Bench::new();
    for method in [
        Method::Invite,
        Method::Bye,
        Method::Info,
        Method::Options,
        Method::Notify,
    ] {
        let mut request = peer_invite();
        request.method = method.clone();
        request.headers.set("To", "<sip:alice@example.com>;tag=unknown");
        request.headers.set("CSeq", CSeq { sequence: 2, method });
        bench.request(request);
        bench.responded(481);
        bench.silent();
    }
}

#[test]
fn a_call_beyond_the_configured_number_is_answered_486_with_retry_after() {
    let mut config = config();
    config.max_calls = 1;
    let mut bench = Bench::with(config);
    let (call, ..) = bench.incoming();
    let mut second = peer_invite();
    second.headers.set("Call-ID", "another-call");
    bench.request(second.clone());
    let (_, busy) = bench.responded(486);
    assert!(busy.headers.retry_after().unwrap().is_some());
    bench.silent();
    bench.give(Input::Reject(Reject { call, status: 486 })).unwrap();
    bench.responded(486);
    bench.ended();
    bench.request(second);
    bench.responded(100);
}

#[test]
fn a_merged_request_is_answered_482() {
    let mut bench = Bench::new();
    bench.incoming();
    let mut copy = peer_invite();
    copy.headers
        .set("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKother");
    bench.request(copy);
    bench.responded(482);
    bench.silent();
}

#[test]
fn methods_that_we_do_not_handle_are_answered_405_or_501() {
    let mut bench = Bench::new();
    let unknown = Method::Other("DANCE".to_owned());
    for (method, status) in [
        (Method::Subscribe, 405),
        (Method::Publish, 405),
        (Method::Register, 405),
        (unknown, 501),
    ] {
        let mut request = peer_invite();
        request.method = method.clone();
        request.headers.set("CSeq", CSeq { sequence: 1, method });
        bench.request(request);
        assert!(bench.responded(status).1.headers.has_token("Allow", "INVITE"));
        bench.silent();
    }
}

#[test]
fn options_are_answered_with_what_we_can_do_unless_configured_otherwise() {
    let mut options = peer_invite();
    options.method = Method::Options;
    options.headers.set("CSeq", "7 OPTIONS");
    options.body = bytes::Bytes::new();
    options.headers.remove("Content-Type");
    let mut bench = Bench::new();
    bench.request(options.clone());
    let (_, ok) = bench.responded(200);
    assert!(ok.headers.has_token("Allow", "INVITE"));
    assert_eq!(ok.headers.value("Accept"), Some("application/sdp"));
    assert!(ok.headers.contains("Supported"));
    let mut config = config();
    config.answer_options = false;
    let mut bench = Bench::with(config);
    bench.request(options);
    bench.responded(405);
}

#[test]
fn an_invite_without_contact_is_answered_400() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.headers.remove("Contact");
    bench.request(invite);
    bench.responded(400);
    bench.silent();
}

#[test]
fn an_invite_of_rfc_2543_needs_no_contact() {
    let mut bench = Bench::new();
    let mut invite = peer_invite();
    invite.headers.remove("Contact");
    invite.headers.set("Via", "SIP/2.0/UDP old.example.com");
    bench.request(invite);
    bench.responded(100);
    assert!(matches!(bench.event(), DialogEventKind::Incoming { .. }));
}

#[test]
fn a_transport_that_loses_the_invite_ends_the_call() {
    let mut bench = Bench::new();
    let (_, tx, _) = bench.incoming();
    bench.tx_ended(tx, TxEnd::Transport("connection reset".to_owned()));
    let (cause, _, _, reason) = bench.ended();
    assert_eq!(cause, Cause::ConnectionFailed);
    assert!(reason.contains("connection reset"), "{reason}");
}

#[test]
fn terminate_ends_every_call_in_its_own_way_and_refuses_new_ones() {
    let mut bench = Bench::new();
    let (_, out, invite) = bench.call();
    bench.answer(out, response(&invite, 180, "bob"));
    bench.event();
    bench.established();
    bench.incoming();
    bench.give(Input::Terminate).unwrap();
    bench.cancelled();
    bench.sent(Method::Bye);
    bench.responded(480);
    assert_eq!(bench.ended().0, Cause::Unavailable);
    bench.pass(T1 * 4);
    assert_eq!(bench.ended().0, Cause::Cancelled);
    assert_eq!(bench.ended().0, Cause::Bye);
    let mut invite = peer_invite();
    invite.headers.set("Call-ID", "after-the-end");
    bench.request(invite);
    bench.responded(480);
    bench.silent();
}

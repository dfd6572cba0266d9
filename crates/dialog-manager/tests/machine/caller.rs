//! Our own INVITE, from its departure to its final answer.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause, Error, Fault};
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;
use std::time::Duration;

fn hang_up(bench: &mut Bench, call: CallId) {
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
}

#[test]
fn an_invite_carries_what_rfc_3261_asks_for() {
    let (_, _, invite) = Bench::new().call();
    assert_eq!(invite.uri.to_string(), "sip:bob@example.com");
    assert_eq!(invite.headers.to().unwrap().to_string(), "<sip:bob@example.com>");
    let from = invite.headers.from().unwrap();
    assert_eq!(from.display.as_deref(), Some("Alice"));
    assert_eq!(from.uri.to_string(), "sip:alice@example.com");
    assert!(from.tag().unwrap().len() >= 8);
    assert_eq!(invite.headers.cseq().unwrap().to_string(), "1 INVITE");
    assert_eq!(
        invite.headers.contact_uri().unwrap().to_string(),
        "sip:alice@127.0.0.1:5070"
    );
    assert!(invite.headers.has_token("Allow", "UPDATE"));
    assert_eq!(invite.headers.content_type().as_deref(), Some("application/sdp"));
    assert_eq!(invite.body, OFFER);
}

#[test]
fn an_invite_goes_to_the_outbound_proxy_and_its_ack_does_not() {
    let mut config = config();
    config.account.outbound = Some("sip:proxy.example.com;lr".parse().unwrap());
    let mut bench = Bench::with(config);
    let target = "sip:bob@example.com".parse().unwrap();
    let invite = Invite {
        call: CallId::fresh(),
        target,
        offer: OFFER.to_owned(),
        headers: Headers::new(),
    };
    bench.give(Input::Invite(invite)).unwrap();
    let Some(Output::SendRequest {
        tx, request, route, ..
    }) = bench.outputs.pop_front()
    else {
        panic!()
    };
    assert_eq!(route.next_hop.unwrap().to_string(), "sip:proxy.example.com;lr");
    bench.event();
    bench.answer(tx, response(&request, 200, "bob"));
    let Some(Output::SendAck { route, request, .. }) = bench.outputs.pop_front() else {
        panic!()
    };
    assert!(route.next_hop.is_none());
    assert_eq!(request.uri.to_string(), "sip:bob@192.0.2.7:5080");
}

#[test]
fn a_call_progresses_from_trying_over_ringing_to_answered() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 100, ""));
    assert_eq!(bench.event(), DialogEventKind::Trying);
    bench.answer(tx, response(&invite, 180, "bob"));
    let dialog = DialogTag("bob".to_owned());
    assert_eq!(
        bench.event(),
        DialogEventKind::Ringing {
            dialog: dialog.clone(),
            status: 180,
            sdp: None,
            takes_offers: false,
        }
    );
    bench.answer(
        tx,
        response(&invite, 183, "bob").with_body("application/sdp", ANSWER),
    );
    let sdp = Some(ANSWER.to_owned());
    let early = DialogEventKind::Ringing {
        dialog: dialog.clone(),
        status: 183,
        sdp: sdp.clone(),
        takes_offers: false,
    };
    assert_eq!(bench.event(), early);
    bench.answer(
        tx,
        response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
    );
    let ack = bench.acked();
    assert_eq!(ack.headers.cseq().unwrap().to_string(), "1 ACK");
    assert_eq!(ack.headers.to().unwrap().tag(), Some("bob"));
    assert_eq!(bench.event(), DialogEventKind::Answered { dialog, sdp });
    bench.silent();
}

#[test]
fn a_second_100_is_not_told_again() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 100, ""));
    bench.answer(tx, response(&invite, 100, ""));
    assert_eq!(bench.event(), DialogEventKind::Trying);
    bench.silent();
}

#[test]
fn every_early_dialog_is_told_by_its_tag_up_to_the_bound() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    for fork in 0..40 {
        bench.answer(tx, response(&invite, 180, &format!("fork{fork}")));
    }
    let tags: std::collections::HashSet<_> = (0..32)
        .map(|_| match bench.event() {
            DialogEventKind::Ringing { dialog, .. } => dialog.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags.len(), 32);
    bench.silent();
}

#[test]
fn a_retransmitted_2xx_gets_the_same_ack_again() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 200, "bob"));
    let first = bench.acked();
    bench.event();
    bench.answer(tx, response(&invite, 200, "bob"));
    assert_eq!(bench.acked(), first);
    bench.silent();
}

#[test]
fn the_2xx_of_another_fork_is_acknowledged_and_hung_up() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 200, "first"));
    bench.acked();
    bench.event();
    bench.answer(tx, response(&invite, 200, "second"));
    assert_eq!(bench.acked().headers.to().unwrap().tag(), Some("second"));
    let (bye, request) = bench.sent(Method::Bye);
    assert_eq!(request.headers.to().unwrap().tag(), Some("second"));
    assert_eq!(request.headers.cseq().unwrap().to_string(), "2 BYE");
    bench.answer(bye, response(&request, 200, "second"));
    bench.silent();
}

#[test]
fn a_route_set_is_reversed_and_followed_loosely() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    let mut ok = response(&invite, 200, "bob");
    ok.headers.push(
        "Record-Route",
        "<sip:far.example.com;lr>, <sip:near.example.com;lr>",
    );
    bench.answer(tx, ok);
    let routes: Vec<_> = bench
        .acked()
        .headers
        .routes()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(routes, ["<sip:near.example.com;lr>", "<sip:far.example.com;lr>"]);
    bench.event();
    hang_up(&mut bench, call);
    let (_, bye) = bench.sent(Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.7:5080");
    assert_eq!(bye.headers.routes().unwrap().len(), 2);
}

#[test]
fn a_strict_router_becomes_the_request_uri() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    let mut ok = response(&invite, 200, "bob");
    ok.headers.push(
        "Record-Route",
        "<sip:far.example.com;lr>, <sip:strict.example.com>",
    );
    bench.answer(tx, ok);
    let ack = bench.acked();
    assert_eq!(ack.uri.to_string(), "sip:strict.example.com");
    let routes: Vec<_> = ack
        .headers
        .routes()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(routes, ["<sip:far.example.com;lr>", "<sip:bob@192.0.2.7:5080>"]);
}

#[test]
fn every_final_answer_has_its_cause_and_a_sentence() {
    let expected = [
        (302, Cause::Redirected),
        (404, Cause::NotFound),
        (408, Cause::NoAnswer),
        (422, Cause::Rejected),
        (480, Cause::Unavailable),
        (484, Cause::AddressIncomplete),
        (486, Cause::Busy),
        (487, Cause::Cancelled),
        (488, Cause::IncompatibleMedia),
        (500, Cause::ServerError),
        (503, Cause::ConnectionFailed),
        (600, Cause::Busy),
        (603, Cause::Declined),
    ];
    for (status, cause) in expected {
        let mut bench = Bench::new();
        let (_, tx, invite) = bench.call();
        bench.answer(tx, response(&invite, status, "x"));
        let ended = bench.ended();
        assert_eq!((ended.0, ended.1, ended.2), (cause, Side::Remote, Some(status)));
        assert!(
            ended.3.contains(&status.to_string()) && ended.3.len() > 20,
            "{}",
            ended.3
        );
    }
}

#[test]
fn a_call_that_was_refused_may_be_tried_again_under_its_id_and_one_that_lives_may_not() {
    let invite = |call| {
        Input::Invite(Invite {
            call,
            target: "sip:bob@example.com".parse().unwrap(),
            offer: OFFER.to_owned(),
            headers: Headers::new(),
        })
    };
    let mut bench = Bench::new();
    let (call, tx, first) = bench.call();
    assert!(bench.give(invite(call)).is_err());
    bench.answer(tx, response(&first, 180, "x"));
    bench.event();
    bench.answer(tx, response(&first, 488, "x"));
    bench.ended();
    bench.give(invite(call)).unwrap();
    let (second, again) = bench.sent(Method::Invite);
    assert_ne!(second, tx);
    assert!(matches!(bench.event(), DialogEventKind::Started { .. }));
    // What is left of the first is nobody's business.
    bench.tx_ended(tx, TxEnd::Transport("gone".to_owned()));
    bench.silent();
    bench.answer(second, response(&again, 180, "y"));
    assert!(matches!(bench.event(), DialogEventKind::Ringing { .. }));
}

#[test]
fn a_480_after_ringing_means_that_nobody_answered() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "x"));
    bench.event();
    bench.answer(tx, response(&invite, 480, "x"));
    assert_eq!(bench.ended().0, Cause::NoAnswer);
}

#[test]
fn the_peers_reason_warning_retry_after_and_contact_are_told() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    let mut refusal = response(&invite, 302, "x");
    refusal.headers.set("Contact", "<sip:bob@elsewhere.example.com>");
    refusal
        .headers
        .push("Reason", "Q.850;cause=16;text=\"Terminated\"");
    refusal.headers.push("Warning", "399 proxy \"Out of order\"");
    refusal.headers.push("Retry-After", "120");
    bench.answer(tx, refusal);
    let reason = bench.ended().3;
    for part in [
        "sip:bob@elsewhere.example.com",
        "Terminated",
        "Out of order",
        "120 s",
    ] {
        assert!(reason.contains(part), "{part} is missing in: {reason}");
    }
}

#[test]
fn a_hangup_waits_with_its_cancel_for_a_provisional_answer() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    let reason = Some("SIP;cause=200;text=\"Call completed elsewhere\"".to_owned());
    bench
        .give(Input::Hangup(Hangup {
            call,
            reason: reason.clone(),
        }))
        .unwrap();
    bench.silent();
    bench.answer(tx, response(&invite, 100, ""));
    let (cancelled, headers) = bench.cancelled();
    assert_eq!(cancelled, tx);
    assert_eq!(headers.value("Reason"), reason.as_deref());
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.silent();
    bench.answer(tx, response(&invite, 487, "bob"));
    let (cause, by, status, _) = bench.ended();
    assert_eq!((cause, by, status), (Cause::Cancelled, Side::Local, Some(487)));
}

#[test]
fn a_200_that_crosses_our_cancel_gets_ack_and_bye() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.event();
    hang_up(&mut bench, call);
    bench.cancelled();
    bench.answer(tx, response(&invite, 200, "bob"));
    bench.acked();
    let (bye, request) = bench.sent(Method::Bye);
    bench.silent();
    bench.answer(bye, response(&request, 200, "bob"));
    let (cause, by, ..) = bench.ended();
    assert_eq!((cause, by), (Cause::Cancelled, Side::Local));
}

#[test]
fn an_unanswered_hangup_is_told_after_four_t1_and_a_late_200_still_gets_ack_and_bye() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.event();
    hang_up(&mut bench, call);
    bench.cancelled();
    bench.pass(T1 * 4 - Duration::from_millis(1));
    bench.silent();
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.ended().0, Cause::Cancelled);
    bench.pass(Duration::from_secs(10));
    bench.answer(tx, response(&invite, 200, "bob"));
    bench.acked();
    let (bye, request) = bench.sent(Method::Bye);
    bench.answer(bye, response(&request, 200, "bob"));
    bench.silent();
}

#[test]
fn a_hung_up_call_is_forgotten_in_the_end() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.event();
    hang_up(&mut bench, call);
    bench.cancelled();
    bench.pass(PATIENCE * 4);
    assert_eq!(bench.ended().0, Cause::Cancelled);
    assert_eq!(bench.machine.poll_timeout(), None);
    bench.answer(tx, response(&invite, 200, "bob"));
    bench.silent();
}

#[test]
fn a_call_that_rings_too_long_is_cancelled() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.event();
    bench.pass(Duration::from_secs(179));
    bench.silent();
    bench.pass(Duration::from_secs(1));
    bench.cancelled();
    bench.answer(tx, response(&invite, 487, "bob"));
    let (cause, by, status, reason) = bench.ended();
    assert_eq!((cause, by, status), (Cause::NoAnswer, Side::Local, Some(487)));
    assert!(reason.contains("180 s"), "{reason}");
}

#[test]
fn an_invite_that_nobody_answers_times_out_and_names_the_next_hop() {
    let mut bench = Bench::new();
    let (_, tx, _) = bench.call();
    bench.tx_ended(tx, TxEnd::TimedOut);
    let (cause, by, status, reason) = bench.ended();
    assert_eq!((cause, by, status), (Cause::TimedOut, Side::Local, None));
    assert!(reason.contains("sip:bob@example.com within 32 s"), "{reason}");
}

#[test]
fn a_transport_failure_names_the_address_and_the_error() {
    let mut bench = Bench::new();
    let (_, tx, _) = bench.call();
    bench.tx_ended(tx, TxEnd::Transport("connection refused".to_owned()));
    let (cause, _, _, reason) = bench.ended();
    assert_eq!(cause, Cause::ConnectionFailed);
    assert!(
        reason.contains("sip:bob@example.com") && reason.contains("connection refused"),
        "{reason}"
    );

    let (_, tx, _) = bench.call();
    bench
        .give(Input::SendFailed {
            tx,
            error: Error::new(Fault::Backend, "send", "no route to host"),
        })
        .unwrap();
    let (cause, _, _, reason) = bench.ended();
    assert_eq!(cause, Cause::ConnectionFailed);
    assert!(reason.contains("no route to host"), "{reason}");
}

#[test]
fn an_ack_that_cannot_be_sent_ends_the_call() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 200, "bob"));
    bench.acked();
    bench.event();
    bench
        .give(Input::AckFailed {
            call,
            error: Error::new(Fault::Backend, "send ACK", "no such host"),
        })
        .unwrap();
    assert_eq!(bench.ended().0, Cause::ConnectionFailed);
    bench.sent(Method::Bye);
}

#[test]
fn a_final_answer_lost_inside_the_process_still_ends_the_call() {
    let mut bench = Bench::new();
    let (_, tx, _) = bench.call();
    bench.tx_ended(tx, TxEnd::Done);
    assert_eq!(bench.ended().0, Cause::Internal);
}

#[test]
fn a_callee_that_hangs_up_one_fork_leaves_the_others_ringing() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "one"));
    bench.answer(tx, response(&invite, 180, "two"));
    bench.event();
    bench.event();
    bench.request(callee_request(&invite, "one", Method::Bye, 1));
    bench.responded(200);
    bench.silent();
    bench.answer(tx, response(&invite, 200, "two"));
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
}

#[test]
fn headers_of_the_user_are_sent_and_those_of_the_manager_refused() {
    let mut bench = Bench::new();
    let mut invite = Invite {
        call: CallId::fresh(),
        target: "sip:bob@example.com".parse().unwrap(),
        offer: OFFER.to_owned(),
        headers: Headers::new(),
    };
    invite.headers.push("X-Queue", "sales");
    bench.give(Input::Invite(invite.clone())).unwrap();
    assert_eq!(
        bench.sent(Method::Invite).1.headers.value("X-Queue"),
        Some("sales")
    );
    bench.event();
    for (name, value) in [
        ("f", "<sip:mallory@example.com>"),
        ("X-Queue", "sales\r\nVia: SIP/2.0/UDP evil"),
    ] {
        let mut headers = Headers::new();
        headers.push(name, value);
        let invite = Invite {
            call: CallId::fresh(),
            headers,
            ..invite.clone()
        };
        assert_eq!(
            bench.give(Input::Invite(invite)).unwrap_err().fault(),
            Fault::ApiMisuse
        );
    }
    bench.silent();
}

#[test]
fn commands_to_unknown_calls_and_in_wrong_states_are_misuse() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    let sdp = ANSWER.to_owned();
    let wrong = [
        Input::Accept(Accept {
            call,
            sdp: sdp.clone(),
        }),
        Input::AcceptOffer(AcceptOffer {
            call,
            sdp: sdp.clone(),
        }),
        Input::Reinvite(Reinvite {
            call,
            offer: sdp.clone(),
            early: None,
        }),
        Input::Reject(Reject { call, status: 486 }),
        Input::RejectOffer(RejectOffer { call, status: 488 }),
        Input::Ring(Ring { call, answer: None }),
        Input::Hangup(Hangup {
            call,
            reason: Some("a\r\nb".to_owned()),
        }),
        Input::Hangup(Hangup {
            call: CallId::fresh(),
            reason: None,
        }),
    ];
    for input in wrong {
        assert_eq!(bench.give(input).unwrap_err().fault(), Fault::ApiMisuse);
    }
    bench.silent();
    bench.answer(tx, response(&invite, 404, "x"));
    bench.ended();
    let late = Input::Hangup(Hangup { call, reason: None });
    assert_eq!(bench.give(late).unwrap_err().fault(), Fault::ApiMisuse);
}

/// Its 200 was lost again and again until it gave up; the last one came later than its BYE.
#[test]
fn a_200_that_comes_after_the_bye_of_its_fork_makes_no_call() {
    for rings in [true, false] {
        let mut bench = Bench::new();
        let (_, tx, invite) = bench.call();
        if rings {
            bench.answer(tx, response(&invite, 180, "bob"));
            bench.event();
        }
        bench.request(callee_request(&invite, "bob", Method::Bye, 1));
        bench.responded(if rings { 200 } else { 481 });
        bench.silent();
        let ok = response(&invite, 200, "bob").with_body("application/sdp", ANSWER);
        bench.answer(tx, ok.clone());
        let ack = bench.acked();
        let (cause, by, ..) = bench.ended();
        assert_eq!((cause, by), (Cause::Bye, Side::Remote));
        bench.answer(tx, ok);
        assert_eq!(bench.acked(), ack);
        bench.silent();
    }
}

#[test]
fn no_more_calls_than_configured() {
    let mut config = config();
    config.max_calls = 1;
    let mut bench = Bench::with(config);
    let (call, tx, invite) = bench.call();
    let target: Uri = "sip:bob@example.com".parse().unwrap();
    let next = |call| Invite {
        call,
        target: target.clone(),
        offer: OFFER.to_owned(),
        headers: Headers::new(),
    };
    assert!(
        bench
            .give(Input::Invite(next(CallId::fresh())))
            .unwrap_err()
            .to_string()
            .contains("max_calls")
    );
    assert!(bench.give(Input::Invite(next(call))).is_err());
    bench.answer(tx, response(&invite, 486, "x"));
    bench.ended();
    bench.give(Input::Invite(next(CallId::fresh()))).unwrap();
}

//! Who calls, what is said beside the call, and where it is sent.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

fn dial(bench: &mut Bench, headers: Headers) -> (CallId, TxId, SipRequest) {
    let call = CallId::fresh();
    let target = "sip:bob@example.com".parse().unwrap();
    let offer = OFFER.to_owned();
    bench
        .give(Input::Invite(Invite {
            call,
            target,
            offer,
            headers,
        }))
        .unwrap();
    let (tx, invite) = bench.sent(Method::Invite);
    bench.event();
    (call, tx, invite)
}

fn head(bench: &mut Bench, more: &[(&'static str, &str)]) -> Head {
    let mut invite = peer_invite();
    for (name, value) in more {
        invite.headers.push(*name, value);
    }
    bench.request(invite);
    bench.responded(100);
    match bench.event() {
        DialogEventKind::Incoming { head, .. } => *head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_anonymous_call_names_its_caller_to_the_proxy_alone() {
    let mut bench = Bench::new();
    let (_, _, invite) = dial(&mut bench, fields(&[("Privacy", "id")]));
    let from = invite.headers.from().unwrap();
    assert_eq!(from.uri.to_string(), "sip:anonymous@anonymous.invalid");
    assert_eq!(from.display.as_deref(), Some("Anonymous"));
    assert!(from.tag().is_some());
    assert_eq!(
        invite.headers.value("P-Preferred-Identity"),
        Some("<sip:alice@example.com>")
    );
    assert_eq!(invite.headers.value("Privacy"), Some("id"));
    let (_, _, other) = dial(&mut bench, fields(&[("Privacy", "none")]));
    assert_eq!(
        other.headers.from().unwrap().uri.to_string(),
        "sip:alice@example.com"
    );
    assert!(!other.headers.contains("P-Preferred-Identity"));
}

#[test]
fn header_fields_of_the_applications_own_go_out_with_the_invite_the_answers_and_the_bye() {
    let mut bench = Bench::new();
    let (call, tx, invite) = dial(&mut bench, fields(&[("X-Order", "17")]));
    assert_eq!(invite.headers.value("X-Order"), Some("17"));
    bench.answer(
        tx,
        response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
    );
    bench.acked();
    bench.event();
    let attach = |call, to, headers| Input::Attach(Attach { call, to, headers });
    bench
        .give(attach(call, Occasion::Bye, fields(&[("X-Rating", "5")])))
        .unwrap();
    bench
        .give(attach(
            call,
            Occasion::Requests,
            fields(&[("X-Ticket", "9"), ("Refer-To", "x")]),
        ))
        .unwrap();
    let to = ReferTo::Uri("sip:carol@example.com".parse().unwrap());
    bench.give(Input::Refer(Refer { call, to })).unwrap();
    let (tx, refer) = bench.sent(Method::Refer);
    assert_eq!(refer.headers.value("X-Ticket"), Some("9"));
    let targets: Vec<_> = refer.headers.values("Refer-To").collect();
    assert_eq!(
        targets,
        ["<sip:carol@example.com>"],
        "what a request has already stays"
    );
    let mut challenge = response(&refer, 401, "bob");
    challenge
        .headers
        .push("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\"");
    bench.answer(tx, challenge);
    let (_, again) = bench.sent(Method::Refer);
    assert_eq!(again.headers.values("X-Ticket").count(), 1);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    let bye = bench.sent(Method::Bye).1;
    assert_eq!(
        (bye.headers.value("X-Rating"), bye.headers.value("X-Ticket")),
        (Some("5"), None)
    );

    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    for own in ["Contact", "To", "Supported"] {
        assert!(
            bench
                .give(attach(call, Occasion::Answers, fields(&[(own, "x")])))
                .is_err()
        );
    }
    let broken = fields(&[("X-A", "one\r\nX-B: two")]);
    assert!(
        broken.iter().all(|(_, value)| !value.contains('\n'))
            || bench.give(attach(call, Occasion::Answers, broken)).is_err()
    );
    bench
        .give(attach(call, Occasion::Answers, fields(&[("X-Queue", "3")])))
        .unwrap();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    assert_eq!(bench.responded(180).1.headers.value("X-Queue"), Some("3"));
    let sdp = ANSWER.to_owned();
    bench.give(Input::Accept(Accept { call, sdp })).unwrap();
    assert_eq!(bench.responded(200).1.headers.value("X-Queue"), Some("3"));
}

#[test]
fn who_calls_is_believed_only_from_a_proxy_that_is_trusted() {
    let asserted = [(
        "P-Asserted-Identity",
        "\"Boss\" <sip:boss@example.com>, <tel:+493012345>",
    )];
    let stranger = head(&mut Bench::new(), &asserted);
    assert_eq!(stranger.asserted, None);
    assert!(!stranger.headers.contains("P-Asserted-Identity"));
    let mut config = config();
    config.control.trusted = vec![flow().remote.ip()];
    let mut bench = Bench::with(config);
    let known = head(&mut bench, &asserted);
    assert_eq!(known.asserted.unwrap().uri.to_string(), "sip:boss@example.com");
    assert_eq!(known.headers.value("Call-ID"), Some("bobs-call"));
}

#[test]
fn who_had_the_call_before_is_told() {
    let mut bench = Bench::new();
    let diversion = [(
        "Diversion",
        "<sip:second@example.com>;reason=no-answer, <sip:first@example.com>;reason=user-busy",
    )];
    let names = |head: &Head| -> Vec<String> {
        let uris = head.diverted_by().into_iter();
        uris.map(|by| by.uri.as_sip().unwrap().user.clone().unwrap())
            .collect()
    };
    assert_eq!(names(&head(&mut bench, &diversion)), ["second", "first"]);
    let mut bench = Bench::new();
    let history = [(
        "History-Info",
        "<sip:first@example.com>;index=1, <sip:second@example.com>;index=1.1, <sip:alice@example.com>;index=1.2",
    )];
    assert_eq!(names(&head(&mut bench, &history)), ["second", "first"]);
    assert!(names(&head(&mut Bench::new(), &[])).is_empty());
}

#[test]
fn a_caller_is_sent_elsewhere() {
    let mut bench = Bench::new();
    let (call, ..) = bench.incoming();
    let contacts = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    assert!(
        bench
            .give(Input::Redirect(Redirect {
                call,
                contacts: contacts(&[])
            }))
            .is_err()
    );
    let two = contacts(&["<sip:carol@example.com>", "<sip:dave@example.com>;q=0.5"]);
    bench
        .give(Input::Redirect(Redirect { call, contacts: two }))
        .unwrap();
    let (_, moved) = bench.responded(302);
    assert_eq!(moved.headers.items("Contact").len(), 2);
    let (cause, by, status, _) = bench.ended();
    assert_eq!((cause, by, status), (Cause::Redirected, Side::Local, Some(302)));
}

/// A 302 with these contacts.
fn moved(request: &SipRequest, contacts: &str) -> SipResponse {
    let mut response = response(request, 302, "p");
    response.headers.set("Contact", contacts);
    response
}

#[test]
fn a_call_that_is_sent_elsewhere_ends_and_says_where() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(
        tx,
        moved(
            &invite,
            "<sip:low@example.com>;q=0.1, <sip:high@example.com>, <tel:+4930>;q=0.5",
        ),
    );
    match bench.event() {
        DialogEventKind::Ended { cause, contacts, .. } => {
            let contacts: Vec<String> = contacts.iter().map(ToString::to_string).collect();
            assert_eq!(cause, Cause::Redirected);
            assert_eq!(
                contacts,
                ["sip:high@example.com", "tel:+4930", "sip:low@example.com"]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_says_how_long_to_wait() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    let mut busy = response(&invite, 486, "bob");
    busy.headers.push("Retry-After", "120 (in a meeting)");
    bench.answer(tx, busy);
    match bench.event() {
        DialogEventKind::Ended { retry_after, .. } => assert_eq!(retry_after, Some(Duration::from_secs(120))),
        other => panic!("{other:?}"),
    }
}

fn following() -> Bench {
    let mut config = config();
    config.control.follow_redirects = true;
    Bench::with(config)
}

#[test]
fn a_call_follows_to_the_best_place_and_then_to_the_next() {
    let mut bench = following();
    let (_, tx, invite) = bench.call();
    bench.answer(
        tx,
        moved(
            &invite,
            "<sip:second@example.com>;q=0.2, <sip:first@example.com?X=y>;q=0.8",
        ),
    );
    let (tx, first) = bench.sent(Method::Invite);
    assert_eq!(first.uri.to_string(), "sip:first@example.com");
    assert_eq!(
        first.headers.to().unwrap().to_string(),
        "<sip:bob@example.com>",
        "RFC 3261 section 8.1.3.4"
    );
    assert_eq!(first.headers.cseq().unwrap().sequence, 2);
    assert_eq!(
        first.headers.call_id().unwrap(),
        invite.headers.call_id().unwrap()
    );
    assert_eq!(first.body, OFFER);
    bench.answer(tx, response(&first, 404, "x"));
    let (tx, second) = bench.sent(Method::Invite);
    assert_eq!(second.uri.to_string(), "sip:second@example.com");
    bench.answer(
        tx,
        response(&second, 200, "bob").with_body("application/sdp", ANSWER),
    );
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
}

#[test]
fn a_call_does_not_follow_in_circles_nor_for_ever() {
    let mut bench = following();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, moved(&invite, "<sip:bob@example.com>"));
    assert_eq!(bench.ended().0, Cause::Redirected);

    let mut bench = following();
    let (_, mut tx, mut invite) = bench.call();
    for place in 0..5 {
        bench.answer(tx, moved(&invite, &format!("<sip:place{place}@example.com>")));
        (tx, invite) = bench.sent(Method::Invite);
    }
    bench.answer(tx, moved(&invite, "<sip:one-more@example.com>"));
    assert_eq!(bench.ended().0, Cause::Redirected);
    bench.silent();
}

#[test]
fn a_callee_that_answers_for_every_place_is_believed() {
    let mut bench = following();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, moved(&invite, "<sip:one@example.com>, <sip:two@example.com>"));
    let (tx, one) = bench.sent(Method::Invite);
    bench.answer(tx, response(&one, 603, "x"));
    assert_eq!(bench.ended().0, Cause::Declined);
    bench.silent();
}

#[test]
fn a_secure_call_does_not_follow_into_the_clear() {
    let mut config = config();
    config.control.follow_redirects = true;
    let mut bench = Bench::with(config);
    let call = CallId::fresh();
    let target = "sips:bob@example.com".parse().unwrap();
    let (offer, headers) = (OFFER.to_owned(), Headers::new());
    bench
        .give(Input::Invite(Invite {
            call,
            target,
            offer,
            headers,
        }))
        .unwrap();
    let (tx, invite) = bench.sent(Method::Invite);
    bench.event();
    bench.answer(tx, moved(&invite, "<sip:one@example.com>, <tel:+4930>"));
    assert_eq!(bench.ended().0, Cause::Redirected);
}

//! Subscriptions to events (RFC 6665), as subscriber.

use crate::bench::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;
use std::time::Duration;

const SUMMARY: &str = "Messages-Waiting: yes\r\nVoice-Message: 2/0\r\n";

fn subscribe(bench: &mut Bench) -> (CallId, TxId, SipRequest) {
    let subscription = CallId::fresh();
    bench
        .give(Input::Subscribe(Subscribe {
            subscription,
            target: "sip:alice@example.com".parse().unwrap(),
            event: "message-summary".to_owned(),
            accept: "application/simple-message-summary".to_owned(),
            expires: 600,
            headers: fields(&[("X-Box", "7")]),
        }))
        .unwrap();
    let (tx, request) = bench.sent(Method::Subscribe);
    assert_eq!(request.headers.value("X-Box"), Some("7"));
    (subscription, tx, request)
}

fn ok(request: &SipRequest, expires: &str) -> SipResponse {
    let mut response = response(request, 200, "server");
    response.headers.push("Expires", expires);
    response
}

/// A NOTIFY of the notifier `tag`.
fn notify(request: &SipRequest, tag: &str, sequence: u32, state: &str) -> SipRequest {
    let mut notify = callee_request(request, tag, Method::Notify, sequence);
    notify.headers.push("Event", "message-summary");
    notify.headers.push("Subscription-State", state);
    notify
}

fn with_summary(request: SipRequest) -> SipRequest {
    request.with_body("application/simple-message-summary", SUMMARY)
}

/// It stands, for 600 s.
fn standing(bench: &mut Bench) -> (CallId, SipRequest) {
    let (id, tx, request) = subscribe(bench);
    bench.answer(tx, ok(&request, "600"));
    let expires = Duration::from_secs(600);
    assert_eq!(bench.event(), DialogEventKind::Subscribed { expires });
    (id, request)
}

#[track_caller]
fn ended(bench: &mut Bench, of: CallId) -> (Option<u16>, Option<String>, Option<Duration>) {
    match bench.outputs.pop_front() {
        Some(Output::Event(DialogEvent {
            call,
            kind:
                DialogEventKind::SubscriptionEnded {
                    status,
                    reason,
                    retry_after,
                    ..
                },
        })) if call == of => (status, reason, retry_after),
        other => panic!("expected SubscriptionEnded, got {other:?}"),
    }
}

#[test]
fn what_is_subscribed_to_is_told_until_the_notifier_ends_it() {
    let mut bench = Bench::new();
    let (id, tx, request) = subscribe(&mut bench);
    for (name, value) in [
        ("Event", "message-summary"),
        ("Expires", "600"),
        ("Accept", "application/simple-message-summary"),
    ] {
        assert_eq!(request.headers.value(name), Some(value));
    }
    assert!(request.headers.contains("Contact"));
    bench.answer(tx, ok(&request, "300"));
    let expires = Duration::from_secs(300);
    assert_eq!(bench.event(), DialogEventKind::Subscribed { expires });
    bench.request(with_summary(notify(&request, "server", 1, "active;expires=300")));
    bench.responded(200);
    assert_eq!(
        bench.event(),
        DialogEventKind::Notified {
            event: "message-summary".to_owned(),
            content_type: "application/simple-message-summary".to_owned(),
            body: SUMMARY.as_bytes().to_vec(),
        }
    );
    let last = notify(
        &request,
        "server",
        2,
        "terminated;reason=deactivated;retry-after=30",
    );
    bench.request(last);
    bench.responded(200);
    let (status, reason, retry_after) = ended(&mut bench, id);
    assert_eq!((status, reason.as_deref()), (None, Some("deactivated")));
    assert_eq!(retry_after, Some(Duration::from_secs(30)));
    bench.request(notify(&request, "server", 3, "active"));
    bench.responded(481);
    bench.pass(Duration::from_secs(10_000));
    bench.silent();
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_notify_that_overtakes_the_200_makes_the_dialog() {
    let mut bench = Bench::new();
    let (_, tx, request) = subscribe(&mut bench);
    bench.request(with_summary(notify(&request, "server", 1, "active;expires=600")));
    bench.responded(200);
    assert!(matches!(bench.event(), DialogEventKind::Notified { .. }));
    assert!(matches!(bench.event(), DialogEventKind::Subscribed { .. }));
    // Another fork's is not ours.
    bench.request(notify(&request, "other", 1, "active;expires=600"));
    bench.responded(481);
    bench.answer(tx, ok(&request, "600"));
    bench.silent();
    bench.pass(Duration::from_secs(568));
    assert_eq!(
        bench.sent(Method::Subscribe).1.headers.to().unwrap().tag(),
        Some("server")
    );
}

#[test]
fn a_subscription_is_renewed_within_its_dialog_before_it_is_over() {
    let mut bench = Bench::new();
    let (id, request) = standing(&mut bench);
    for round in 2..4 {
        bench.pass(Duration::from_secs(567));
        bench.silent();
        bench.pass(Duration::from_secs(1));
        let (tx, again) = bench.sent(Method::Subscribe);
        assert_eq!(again.headers.cseq().unwrap().sequence, round);
        assert_eq!(again.uri.to_string(), "sip:server@192.0.2.7:5080");
        assert_eq!(
            again.headers.call_id().unwrap(),
            request.headers.call_id().unwrap()
        );
        bench.answer(tx, ok(&again, "600"));
        bench.silent();
    }
    bench.pass(Duration::from_secs(568));
    let (tx, again) = bench.sent(Method::Subscribe);
    bench.answer(tx, response(&again, 481, "server"));
    assert_eq!(ended(&mut bench, id).0, Some(481));
}

#[test]
fn who_takes_leave_says_so_and_waits_for_the_last_word_but_not_for_ever() {
    let mut bench = Bench::new();
    let (id, request) = standing(&mut bench);
    let leave = || Input::Unsubscribe(Unsubscribe { subscription: id });
    bench.give(leave()).unwrap();
    let (tx, last) = bench.sent(Method::Subscribe);
    assert_eq!(last.headers.value("Expires"), Some("0"));
    assert!(bench.give(leave()).is_err(), "once");
    bench.answer(tx, ok(&last, "0"));
    bench.silent();
    bench.request(notify(&request, "server", 1, "terminated;reason=timeout"));
    bench.responded(200);
    assert_eq!(ended(&mut bench, id).1.as_deref(), Some("timeout"));

    let mut bench = Bench::new();
    let (id, _) = standing(&mut bench);
    bench
        .give(Input::Unsubscribe(Unsubscribe { subscription: id }))
        .unwrap();
    let (tx, last) = bench.sent(Method::Subscribe);
    bench.answer(tx, ok(&last, "0"));
    bench.pass(PATIENCE);
    ended(&mut bench, id);
    bench.silent();
}

#[test]
fn leave_that_is_taken_before_the_200_is_said_after_it() {
    let mut bench = Bench::new();
    let (id, tx, request) = subscribe(&mut bench);
    bench
        .give(Input::Unsubscribe(Unsubscribe { subscription: id }))
        .unwrap();
    bench.silent();
    bench.answer(tx, ok(&request, "600"));
    assert_eq!(
        bench.sent(Method::Subscribe).1.headers.value("Expires"),
        Some("0")
    );
    bench.silent();
}

#[test]
fn a_refusal_ends_it_and_a_423_asks_for_more() {
    let mut bench = Bench::new();
    let (_, tx, request) = subscribe(&mut bench);
    let mut brief = response(&request, 423, "server");
    brief.headers.push("Min-Expires", "3600");
    bench.answer(tx, brief);
    let (tx, again) = bench.sent(Method::Subscribe);
    assert_eq!(again.headers.value("Expires"), Some("3600"));
    assert_eq!(again.headers.cseq().unwrap().sequence, 2);
    bench.answer(tx, ok(&again, "3600"));
    assert!(matches!(bench.event(), DialogEventKind::Subscribed { .. }));

    let mut bench = Bench::new();
    let (id, tx, request) = subscribe(&mut bench);
    let mut bad = response(&request, 489, "server");
    bad.headers.push("Retry-After", "60");
    bench.answer(tx, bad);
    assert_eq!(
        ended(&mut bench, id),
        (Some(489), None, Some(Duration::from_secs(60)))
    );
    for (end, status) in [(TxEnd::TimedOut, 408), (TxEnd::Transport("gone".to_owned()), 503)] {
        let (id, tx, _) = subscribe(&mut bench);
        bench.tx_ended(tx, end);
        assert_eq!(ended(&mut bench, id).0, Some(status));
    }
    bench.silent();
}

#[test]
fn a_subscribe_is_sent_again_with_credentials() {
    let mut bench = Bench::new();
    let (_, tx, request) = subscribe(&mut bench);
    let mut challenge = response(&request, 401, "server");
    challenge.headers.push(
        "WWW-Authenticate",
        "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(tx, challenge);
    let (tx, again) = bench.sent(Method::Subscribe);
    assert_eq!(again.headers.authorizations().unwrap()[0].realm, "r");
    bench.answer(tx, ok(&again, "600"));
    assert!(matches!(bench.event(), DialogEventKind::Subscribed { .. }));
}

#[test]
fn a_notify_out_of_order_or_of_something_else_is_refused() {
    let mut bench = Bench::new();
    let (_, request) = standing(&mut bench);
    bench.request(notify(&request, "server", 5, "active"));
    bench.responded(200);
    bench.request(notify(&request, "server", 4, "terminated"));
    bench.responded(500);
    let mut other = notify(&request, "server", 6, "active");
    other.headers.set("Event", "presence");
    bench.request(other);
    bench.responded(489);
    bench.silent();
}

#[test]
fn waiting_messages_that_nobody_asked_for_are_told_where_that_is_wanted() {
    let unasked = |event: &str| {
        let mut notify = peer_invite();
        notify.method = Method::Notify;
        notify.headers.set(
            "CSeq",
            CSeq {
                sequence: 1,
                method: Method::Notify,
            },
        );
        notify.headers.remove("Content-Type");
        notify.headers.push("Event", event);
        with_summary(notify)
    };
    let mut bench = Bench::new();
    bench.request(unasked("message-summary"));
    bench.responded(481);
    let mut config = config();
    config.control.take_unasked_summaries = true;
    let mut bench = Bench::with(config);
    bench.request(unasked("message-summary"));
    bench.responded(200);
    assert!(matches!(bench.event(), DialogEventKind::Notified { .. }));
    bench.request(unasked("presence"));
    bench.responded(481);
    bench.silent();
}

#[test]
fn there_are_not_too_many_and_the_end_of_the_program_ends_all() {
    let mut bench = Bench::new();
    let (id, _) = standing(&mut bench);
    for _ in 1..64 {
        subscribe(&mut bench);
    }
    let one_more = Subscribe {
        subscription: CallId::fresh(),
        target: "sip:alice@example.com".parse().unwrap(),
        event: "dialog".to_owned(),
        accept: "application/dialog-info+xml".to_owned(),
        expires: 600,
        headers: Headers::new(),
    };
    assert!(bench.give(Input::Subscribe(one_more)).is_err());
    bench.give(Input::Terminate).unwrap();
    assert_eq!(
        bench.sent(Method::Subscribe).1.headers.value("Expires"),
        Some("0")
    );
    ended(&mut bench, id);
    bench.pass(Duration::from_secs(10_000));
    assert_eq!(bench.machine.poll_timeout(), None);
}

//! The notifier's side of subscriptions (RFC 6665).

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

fn bench(watchers: Admitted) -> Bench {
    let mut config = config();
    config.control.notifies = vec!["dialog".to_owned(), "presence".to_owned()];
    config.control.watchers = watchers;
    Bench::with(config)
}

fn subscribe(event: &str, expires: &str) -> SipRequest {
    let mut subscribe = peer_invite();
    subscribe.method = Method::Subscribe;
    subscribe.body = bytes::Bytes::new();
    subscribe.headers.remove("Content-Type");
    subscribe.headers.set("Call-ID", "watching");
    subscribe.headers.set("CSeq", "1 SUBSCRIBE");
    subscribe.headers.push("Event", event);
    subscribe.headers.push("Expires", expires);
    subscribe
}

/// Bob watches: our 200, and the first NOTIFY.
fn watched(bench: &mut Bench, event: &str) -> (SipResponse, TxId, SipRequest) {
    bench.request(subscribe(event, "600"));
    let (_, ok) = bench.responded(200);
    assert_eq!(ok.headers.value("Expires"), Some("600"));
    let (tx, notify) = bench.sent(Method::Notify);
    (ok, tx, notify)
}

fn state(notify: &SipRequest) -> &str {
    notify.headers.value("Subscription-State").unwrap()
}

fn told(bench: &mut Bench, body: &str) {
    let notify = Notify {
        event: "presence".to_owned(),
        content_type: "application/pidf+xml".to_owned(),
        body: body.into(),
    };
    bench.give(Input::Notify(notify)).unwrap();
}

#[test]
fn a_watcher_is_told_at_once_and_of_every_change_one_at_a_time() {
    let mut bench = bench(Admitted::All);
    let (_, tx, first) = watched(&mut bench, "presence");
    assert_eq!((state(&first), first.body.len()), ("active;expires=600", 0));
    told(&mut bench, "here");
    told(&mut bench, "away");
    bench.silent();
    bench.answer(tx, response(&first, 200, "b"));
    let (tx, second) = bench.sent(Method::Notify);
    assert_eq!(&second.body[..], b"away");
    bench.answer(tx, response(&second, 200, "b"));
    told(&mut bench, "away");
    bench.silent();
    told(&mut bench, "here");
    assert_eq!(&bench.sent(Method::Notify).1.body[..], b"here");
}

#[test]
fn a_subscription_is_renewed_ended_or_runs_out() {
    let mut bench = bench(Admitted::All);
    let (ok, tx, first) = watched(&mut bench, "presence");
    bench.answer(tx, response(&first, 200, "b"));
    bench.pass(Duration::from_secs(590));
    let again = |sequence, expires: &str| {
        let mut again = peer_request(&subscribe("presence", "600"), &ok, Method::Subscribe, sequence);
        again.headers.push("Event", "presence");
        again.headers.push("Expires", expires);
        again
    };
    bench.request(again(2, "120"));
    assert_eq!(bench.responded(200).1.headers.value("Expires"), Some("120"));
    let (tx, notify) = bench.sent(Method::Notify);
    assert_eq!(state(&notify), "active;expires=120");
    bench.answer(tx, response(&notify, 200, "b"));
    bench.request(again(2, "120"));
    bench.responded(500);
    bench.pass(Duration::from_secs(119));
    bench.silent();
    bench.pass(Duration::from_secs(1));
    let (tx, last) = bench.sent(Method::Notify);
    assert_eq!(state(&last), "terminated;reason=timeout");
    bench.answer(tx, response(&last, 200, "b"));
    bench.request(again(3, "120"));
    bench.responded(481);

    let mut bench = self::bench(Admitted::All);
    bench.request(subscribe("presence", "0"));
    bench.responded(200);
    let (tx, once) = bench.sent(Method::Notify);
    assert_eq!(state(&once), "terminated;reason=timeout");
    bench.answer(tx, response(&once, 200, "b"));
    told(&mut bench, "here");
    bench.silent();
}

#[test]
fn the_calls_are_told_as_they_stand() {
    let mut bench = bench(Admitted::All);
    let (_, tx, first) = watched(&mut bench, "dialog");
    let text = |notify: &SipRequest| String::from_utf8(notify.body.to_vec()).unwrap();
    assert!(text(&first).contains("version=\"0\"") && !text(&first).contains("<dialog "));
    bench.answer(tx, response(&first, 200, "b"));
    let (call, tx, invite) = bench.call();
    let (notify_tx, trying) = bench.sent(Method::Notify);
    assert!(
        text(&trying).contains("<state>trying</state>"),
        "{}",
        text(&trying)
    );
    bench.answer(notify_tx, response(&trying, 200, "b"));
    bench.answer(
        tx,
        response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
    );
    bench.acked();
    bench.event();
    let (notify_tx, confirmed) = bench.sent(Method::Notify);
    let words = text(&confirmed);
    let name = bench.machine.dialog_name(call).unwrap();
    for word in [
        "version=\"2\"",
        "<state>confirmed</state>",
        "direction=\"initiator\"",
        &format!("local-tag=\"{}\"", name.local_tag),
        "remote-tag=\"bob\"",
    ] {
        assert!(words.contains(word), "{word} in {words}");
    }
    bench.answer(notify_tx, response(&confirmed, 200, "b"));
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye);
    assert!(!text(&bench.sent(Method::Notify).1).contains("<dialog "));
}

#[test]
fn who_asks_what_we_can_is_told_of_the_packages() {
    let mut bench = bench(Admitted::All);
    let mut options = subscribe("presence", "0");
    options.method = Method::Options;
    options.headers.set("CSeq", "1 OPTIONS");
    bench.request(options);
    let headers = bench.responded(200).1.headers;
    assert!(headers.has_token("Allow", "SUBSCRIBE"));
    assert_eq!(headers.value("Allow-Events"), Some("dialog, presence"));
}

#[test]
fn who_may_not_watch_is_told_why() {
    let mut open = bench(Admitted::All);
    open.request(subscribe("winfo", "600"));
    let (_, refused) = open.responded(489);
    assert_eq!(refused.headers.value("Allow-Events"), Some("dialog, presence"));
    open.request(subscribe("presence", "5"));
    assert_eq!(open.responded(423).1.headers.value("Min-Expires"), Some("60"));
    let mut other = subscribe("presence", "600");
    other.headers.push("Accept", "text/plain");
    open.request(other);
    open.responded(406);
    for number in 0..64 {
        let mut one = subscribe("presence", "600");
        one.headers.set("Call-ID", format!("watching-{number}"));
        open.request(one);
        open.responded(200);
        open.sent(Method::Notify);
    }
    open.request(subscribe("presence", "600"));
    assert!(open.responded(503).1.headers.contains("Retry-After"));
    let mut closed = bench(Admitted::Trusted);
    closed.request(subscribe("presence", "600"));
    closed.responded(403);
    let mut none = Bench::new();
    none.request(subscribe("presence", "600"));
    none.responded(405);
}

#[test]
fn a_watcher_that_knows_of_nothing_is_forgotten() {
    for lost in [false, true] {
        let mut bench = bench(Admitted::All);
        let (_, tx, first) = watched(&mut bench, "presence");
        match lost {
            true => bench.tx_ended(tx, TxEnd::TimedOut),
            false => bench.answer(tx, response(&first, 481, "b")),
        }
        told(&mut bench, "here");
        bench.silent();
    }
    let mut bench = bench(Admitted::All);
    let (_, tx, first) = watched(&mut bench, "presence");
    bench.answer(tx, response(&first, 200, "b"));
    bench.give(Input::Terminate).unwrap();
    assert_eq!(
        state(&bench.sent(Method::Notify).1),
        "terminated;reason=deactivated"
    );
}

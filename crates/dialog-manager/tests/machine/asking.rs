//! Calls that we ask others for outside of any call (REFER, RFC 3515), and the subscription that tells how they go.

mod random;

use crate::bench::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;
use std::time::Duration;

const CAROL: &str = "sip:carol@example.com";
const ACTIVE: &str = "active;expires=180";
const DONE: &str = "terminated;reason=noresource";

fn wish() -> SendRefer {
    SendRefer {
        referral: CallId::fresh(),
        target: "sip:desk@example.com".parse().unwrap(),
        to: ReferTo::Uri(CAROL.parse().unwrap()),
        news: true,
        headers: Headers::new(),
    }
}

/// The REFER is out.
#[track_caller]
fn ask(bench: &mut Bench, wish: SendRefer) -> (CallId, TxId, SipRequest) {
    let id = wish.referral;
    bench.give(Input::SendRefer(wish)).unwrap();
    let (tx, refer) = bench.sent(Method::Refer);
    (id, tx, refer)
}

/// The desk telephone takes it.
#[track_caller]
fn accepted(bench: &mut Bench) -> (CallId, SipRequest) {
    let (id, tx, refer) = ask(bench, wish());
    bench.answer(tx, response(&refer, 202, "desk"));
    assert_eq!(told(bench, id), ReferralNews::Accepted { tells: true });
    (id, refer)
}

/// A NOTIFY of `tag` with the line, and our answer to it.
#[track_caller]
fn news(bench: &mut Bench, refer: &SipRequest, tag: &str, (sequence, state, line): (u32, &str, &str)) -> u16 {
    let mut notify = callee_request(refer, tag, Method::Notify, sequence);
    notify.headers.push("Event", "refer");
    notify.headers.push("Subscription-State", state);
    let notify = match line {
        "" => notify,
        line => notify.with_body("message/sipfrag;version=2.0", format!("{line}\r\n")),
    };
    answer_to(bench, notify)
}

#[track_caller]
fn answer_to(bench: &mut Bench, request: SipRequest) -> u16 {
    bench.request(request);
    match bench.outputs.pop_front() {
        Some(Output::Respond { response, .. }) => response.status,
        other => panic!("expected an answer, got {other:?}"),
    }
}

#[track_caller]
fn told(bench: &mut Bench, of: CallId) -> ReferralNews {
    match bench.outputs.pop_front() {
        Some(Output::Event(DialogEvent {
            call,
            kind: DialogEventKind::ReferralNews(news),
        })) if call == of => news,
        other => panic!("expected news, got {other:?}"),
    }
}

/// Nothing is left of it, and nothing more is said.
#[track_caller]
fn is_over(bench: &mut Bench, refer: &SipRequest, tag: &str) {
    bench.silent();
    assert_eq!(news(bench, refer, tag, (99, ACTIVE, "SIP/2.0 180 Ringing")), 481);
    bench.pass(Duration::from_secs(10_000));
    bench.silent();
    assert_eq!(bench.machine.poll_timeout(), None);
}

fn answered(status: u16) -> ReferralNews {
    ReferralNews::Answered { status }
}

fn refused(status: u16) -> ReferralNews {
    ReferralNews::Refused {
        status,
        contacts: Vec::new(),
        retry_after: None,
    }
}

#[track_caller]
fn untold(bench: &mut Bench, of: CallId) -> (String, Option<Duration>) {
    match told(bench, of) {
        ReferralNews::Untold { reason, retry_after } => (reason, retry_after),
        other => panic!("expected Untold, got {other:?}"),
    }
}

#[test]
fn who_is_asked_for_a_call_tells_how_it_goes_to_the_last_word() {
    for taken in [200, 202] {
        let mut bench = Bench::new();
        let mut wish = wish();
        wish.headers = fields(&[("X-Order", "17")]);
        let (id, tx, refer) = ask(&mut bench, wish);
        assert_eq!(refer.uri.to_string(), "sip:desk@example.com");
        for (name, value) in [
            ("Refer-To", "<sip:carol@example.com>"),
            ("Referred-By", "<sip:alice@example.com>"),
            ("X-Order", "17"),
        ] {
            assert_eq!(refer.headers.value(name), Some(value));
        }
        assert!(refer.headers.contains("Contact") && refer.headers.to().unwrap().tag().is_none());
        for absent in ["Refer-Sub", "Event", "Expires"] {
            assert!(!refer.headers.contains(absent), "{absent}");
        }
        bench.answer(tx, response(&refer, taken, "desk"));
        assert_eq!(told(&mut bench, id), ReferralNews::Accepted { tells: true });
        for (sequence, status) in [(1, 100), (2, 180)] {
            let line = format!("SIP/2.0 {status} Fine");
            assert_eq!(news(&mut bench, &refer, "desk", (sequence, ACTIVE, &line)), 200);
            assert_eq!(told(&mut bench, id), answered(status));
        }
        assert_eq!(news(&mut bench, &refer, "desk", (3, DONE, "SIP/2.0 200 OK")), 200);
        assert_eq!(told(&mut bench, id), answered(200));
        is_over(&mut bench, &refer, "desk");
    }
}

#[test]
fn news_that_overtake_the_202_are_told_after_it_was_accepted() {
    let mut bench = Bench::new();
    let (id, tx, refer) = ask(&mut bench, wish());
    assert_eq!(
        news(&mut bench, &refer, "desk", (1, ACTIVE, "SIP/2.0 100 Trying")),
        200
    );
    assert_eq!(told(&mut bench, id), ReferralNews::Accepted { tells: true });
    assert_eq!(told(&mut bench, id), answered(100));
    bench.answer(tx, response(&refer, 202, "desk"));
    bench.silent();
    assert_eq!(news(&mut bench, &refer, "desk", (2, DONE, "SIP/2.0 200 OK")), 200);
    assert_eq!(told(&mut bench, id), answered(200));
    is_over(&mut bench, &refer, "desk");

    // All of them.
    let (id, tx, refer) = ask(&mut bench, wish());
    assert_eq!(
        news(&mut bench, &refer, "desk", (1, DONE, "SIP/2.0 486 Busy Here")),
        200
    );
    assert_eq!(told(&mut bench, id), ReferralNews::Accepted { tells: true });
    assert_eq!(told(&mut bench, id), answered(486));
    bench.answer(tx, response(&refer, 202, "desk"));
    is_over(&mut bench, &refer, "desk");
}

#[test]
fn a_final_word_is_the_last_whatever_the_subscription_says() {
    for (state, status) in [(ACTIVE, 200), (ACTIVE, 503), (DONE, 302), (DONE, 603), ("", 200)] {
        let mut bench = Bench::new();
        let (id, refer) = accepted(&mut bench);
        let line = format!("SIP/2.0 {status} So it is");
        assert_eq!(news(&mut bench, &refer, "desk", (1, state, &line)), 200);
        assert_eq!(told(&mut bench, id), answered(status));
        is_over(&mut bench, &refer, "desk");
    }
}

#[test]
fn only_the_fork_whose_notify_comes_first_is_heard() {
    let mut bench = Bench::new();
    let (id, tx, refer) = ask(&mut bench, wish());
    assert_eq!(
        news(&mut bench, &refer, "one", (1, ACTIVE, "SIP/2.0 100 Trying")),
        200
    );
    told(&mut bench, id);
    told(&mut bench, id);
    assert_eq!(
        news(&mut bench, &refer, "two", (1, ACTIVE, "SIP/2.0 100 Trying")),
        481
    );
    // The 202 is the other one's: its Contact is not that of the dialog.
    bench.answer(tx, response(&refer, 202, "two"));
    bench
        .give(Input::Unsubscribe(Unsubscribe { subscription: id }))
        .unwrap();
    let (_, leave) = bench.sent(Method::Subscribe);
    assert_eq!(leave.uri.to_string(), "sip:bob@192.0.2.7:5080;transport=tcp");
    assert_eq!(leave.headers.to().unwrap().tag(), Some("one"));

    // The 202 was first.
    let mut bench = Bench::new();
    let (id, refer) = accepted(&mut bench);
    assert_eq!(
        news(&mut bench, &refer, "other", (1, DONE, "SIP/2.0 200 OK")),
        481
    );
    assert_eq!(news(&mut bench, &refer, "desk", (1, DONE, "SIP/2.0 200 OK")), 200);
    assert_eq!(told(&mut bench, id), answered(200));
}

#[test]
fn who_takes_it_and_says_nothing_is_not_waited_for_for_ever() {
    let mut bench = Bench::new();
    let (id, refer) = accepted(&mut bench);
    bench.pass(PATIENCE - Duration::from_millis(1));
    bench.silent();
    bench.pass(Duration::from_millis(1));
    assert_eq!(untold(&mut bench, id).0, "nobody says how it goes");
    is_over(&mut bench, &refer, "desk");
}

#[test]
fn news_that_nobody_wants_are_not_waited_for() {
    let silent = || SendRefer {
        news: false,
        ..wish()
    };
    let mut bench = Bench::new();
    let (id, tx, refer) = ask(&mut bench, silent());
    assert_eq!(refer.headers.value("Refer-Sub"), Some("false"));
    let mut granted = response(&refer, 200, "desk");
    granted.headers.push("Refer-Sub", "false");
    bench.answer(tx, granted);
    assert_eq!(told(&mut bench, id), ReferralNews::Accepted { tells: false });
    is_over(&mut bench, &refer, "desk");

    // Who knows nothing of RFC 4488 tells all the same.
    let (id, tx, refer) = ask(&mut bench, silent());
    bench.answer(tx, response(&refer, 202, "desk"));
    assert_eq!(told(&mut bench, id), ReferralNews::Accepted { tells: true });
    news(&mut bench, &refer, "desk", (1, DONE, "SIP/2.0 200 OK"));
    assert_eq!(told(&mut bench, id), answered(200));
}

#[test]
fn a_challenge_is_answered_and_a_second_one_ends_it() {
    for (status, name) in [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")] {
        let mut bench = Bench::new();
        let (id, tx, refer) = ask(&mut bench, wish());
        let mut challenge = response(&refer, status, "desk");
        let demand = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
        challenge.headers.push(name, demand);
        bench.answer(tx, challenge.clone());
        let (tx, again) = bench.sent(Method::Refer);
        assert_eq!(again.headers.cseq().unwrap().to_string(), "2 REFER");
        assert_eq!(again.headers.value("Refer-To"), refer.headers.value("Refer-To"));
        let credentials =
            again.headers.contains("Authorization") || again.headers.contains("Proxy-Authorization");
        assert!(credentials);
        bench.answer(tx, challenge);
        assert_eq!(told(&mut bench, id), refused(status));
        is_over(&mut bench, &refer, "desk");
    }
}

#[test]
fn a_refusal_says_where_else_and_how_soon() {
    for status in [403, 405, 481, 489, 501, 603] {
        let mut bench = Bench::new();
        let (id, tx, refer) = ask(&mut bench, wish());
        bench.answer(tx, response(&refer, status, "desk"));
        assert_eq!(told(&mut bench, id), refused(status));
        is_over(&mut bench, &refer, "desk");
    }
    let mut bench = Bench::new();
    let (id, tx, refer) = ask(&mut bench, wish());
    let mut elsewhere = refer.response(302);
    elsewhere.headers.push("Contact", "<sip:two@example.com>;q=0.2");
    elsewhere.headers.push("Contact", "<sip:one@example.com>;q=0.9");
    bench.answer(tx, elsewhere);
    let contacts = ["sip:one@example.com", "sip:two@example.com"].map(|uri| uri.parse().unwrap());
    assert_eq!(
        told(&mut bench, id),
        ReferralNews::Refused {
            status: 302,
            contacts: contacts.to_vec(),
            retry_after: None
        }
    );
    let (id, tx, refer) = ask(&mut bench, wish());
    let mut busy = response(&refer, 503, "desk");
    busy.headers.push("Retry-After", "60");
    bench.answer(tx, busy);
    assert_eq!(
        told(&mut bench, id),
        ReferralNews::Refused {
            status: 503,
            contacts: Vec::new(),
            retry_after: Some(Duration::from_secs(60))
        }
    );
    for (end, status) in [(TxEnd::TimedOut, 408), (TxEnd::Transport("gone".to_owned()), 503)] {
        let (id, tx, _) = ask(&mut bench, wish());
        bench.tx_ended(tx, end);
        assert_eq!(told(&mut bench, id), refused(status));
    }
    bench.silent();
}

#[test]
fn a_subscription_that_ends_without_a_word_on_the_call_says_why() {
    let mut bench = Bench::new();
    let (id, refer) = accepted(&mut bench);
    let state = "terminated;reason=giveup;retry-after=30";
    assert_eq!(
        news(&mut bench, &refer, "desk", (1, state, "SIP/2.0 180 Ringing")),
        200
    );
    assert_eq!(told(&mut bench, id), answered(180));
    assert_eq!(
        untold(&mut bench, id),
        ("giveup".to_owned(), Some(Duration::from_secs(30)))
    );
    is_over(&mut bench, &refer, "desk");
}

#[test]
fn a_long_ringing_is_heard_of_by_renewing_the_subscription() {
    let mut bench = Bench::new();
    let (id, refer) = accepted(&mut bench);
    news(&mut bench, &refer, "desk", (1, ACTIVE, "SIP/2.0 180 Ringing"));
    assert_eq!(told(&mut bench, id), answered(180));
    bench.pass(Duration::from_secs(148));
    let (tx, renewal) = bench.sent(Method::Subscribe);
    assert_eq!(renewal.headers.value("Event"), Some("refer"));
    assert_eq!(renewal.headers.value("Accept"), Some("message/sipfrag"));
    let mut ok = response(&renewal, 200, "desk");
    ok.headers.push("Expires", "600");
    bench.answer(tx, ok);
    // The notifier says again what is known.
    assert_eq!(
        news(&mut bench, &refer, "desk", (2, ACTIVE, "SIP/2.0 180 Ringing")),
        200
    );
    bench.pass(Duration::from_secs(100));
    bench.silent();
    news(&mut bench, &refer, "desk", (3, DONE, "SIP/2.0 200 OK"));
    assert_eq!(told(&mut bench, id), answered(200));
    is_over(&mut bench, &refer, "desk");
}

#[test]
fn who_does_not_renew_is_heard_to_the_end_and_no_longer() {
    for (status, lasts) in [(405, true), (501, true), (481, false)] {
        let mut bench = Bench::new();
        let (id, refer) = accepted(&mut bench);
        news(&mut bench, &refer, "desk", (1, ACTIVE, ""));
        bench.pass(Duration::from_secs(148));
        let (tx, renewal) = bench.sent(Method::Subscribe);
        bench.answer(tx, response(&renewal, status, "desk"));
        if lasts {
            bench.silent();
            assert_eq!(
                news(&mut bench, &refer, "desk", (2, "", "SIP/2.0 180 Ringing")),
                200
            );
            assert_eq!(told(&mut bench, id), answered(180));
            while bench.outputs.is_empty() {
                bench.pass(Duration::from_secs(1));
            }
            if let Some(Output::SendRequest { tx, request, .. }) = bench.outputs.front().cloned() {
                bench.outputs.clear();
                bench.answer(tx, response(&request, status, "desk"));
                bench.pass(Duration::from_secs(60));
            }
            untold(&mut bench, id);
        } else {
            assert!(untold(&mut bench, id).0.contains("481"));
        }
        is_over(&mut bench, &refer, "desk");
    }
}

#[test]
fn who_takes_leave_of_the_news_says_so_to_the_notifier() {
    let mut bench = Bench::new();
    let (id, refer) = accepted(&mut bench);
    news(&mut bench, &refer, "desk", (1, ACTIVE, "SIP/2.0 100 Trying"));
    told(&mut bench, id);
    let leave = || Input::Unsubscribe(Unsubscribe { subscription: id });
    bench.give(leave()).unwrap();
    let (tx, last) = bench.sent(Method::Subscribe);
    assert_eq!(last.headers.value("Expires"), Some("0"));
    assert!(bench.give(leave()).is_err(), "once");
    bench.answer(tx, response(&last, 200, "desk"));
    news(
        &mut bench,
        &refer,
        "desk",
        (2, "terminated;reason=timeout", "SIP/2.0 180 Ringing"),
    );
    assert_eq!(told(&mut bench, id), answered(180));
    assert_eq!(untold(&mut bench, id).0, "timeout");
    is_over(&mut bench, &refer, "desk");

    // Before the answer: after it.
    let (id, tx, refer) = ask(&mut bench, wish());
    bench
        .give(Input::Unsubscribe(Unsubscribe { subscription: id }))
        .unwrap();
    bench.silent();
    bench.answer(tx, response(&refer, 202, "desk"));
    assert_eq!(told(&mut bench, id), ReferralNews::Accepted { tells: true });
    let (tx, last) = bench.sent(Method::Subscribe);
    assert_eq!(last.headers.value("Expires"), Some("0"));
    bench.answer(tx, response(&last, 405, "desk"));
    untold(&mut bench, id);
    is_over(&mut bench, &refer, "desk");
}

#[test]
fn news_that_cannot_be_read_are_refused_and_nothing_is_told() {
    let mut bench = Bench::new();
    let (id, refer) = accepted(&mut bench);
    for (sequence, line) in [(1, "SIP/2.0 99 Low"), (2, "HTTP/1.1 200 OK"), (3, "x")] {
        assert_eq!(
            news(&mut bench, &refer, "desk", (sequence, ACTIVE, line)),
            400,
            "{line}"
        );
    }
    let mut other = callee_request(&refer, "desk", Method::Notify, 4);
    other.headers.push("Event", "refer");
    other.headers.push("Subscription-State", ACTIVE);
    assert_eq!(
        answer_to(&mut bench, other.clone().with_body("text/plain", "200")),
        415
    );
    other.headers.set("Event", "presence");
    other.headers.set("CSeq", "5 NOTIFY");
    assert_eq!(answer_to(&mut bench, other), 489);
    assert_eq!(
        news(&mut bench, &refer, "desk", (2, ACTIVE, "SIP/2.0 180 Late")),
        500
    );
    bench.silent();
    assert_eq!(news(&mut bench, &refer, "desk", (6, DONE, "SIP/2.0 200 OK")), 200);
    assert_eq!(told(&mut bench, id), answered(200));
}

#[test]
fn a_call_of_ours_may_be_taken_over_by_whoever_is_asked() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (_, _, refer) = ask(
        &mut bench,
        SendRefer {
            to: ReferTo::Call(call),
            ..wish()
        },
    );
    let to = refer.headers.value("Refer-To").unwrap();
    let own = invite.headers.from().unwrap();
    let expected = format!(
        "<sip:bob@example.com?Replaces={}%3Bto-tag%3Dbob%3Bfrom-tag%3D{}>",
        invite.headers.call_id().unwrap(),
        own.tag().unwrap()
    );
    assert_eq!(to, expected);

    // A dialog of others', by its name.
    let name = DialogName {
        call_id: "77@desk".to_owned(),
        local_tag: "l".to_owned(),
        remote_tag: "r".to_owned(),
    };
    let to = ReferTo::Uri(name.within(CAROL.parse().unwrap()));
    let (_, _, refer) = ask(&mut bench, SendRefer { to, ..wish() });
    assert_eq!(
        refer.headers.value("Refer-To"),
        Some("<sip:carol@example.com?Replaces=77%40desk%3Bto-tag%3Dl%3Bfrom-tag%3Dr>")
    );
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let mut bench = Bench::new();
    let own = |headers| SendRefer { headers, ..wish() };
    for wrong in [
        own(fields(&[("Call-ID", "x")])),
        own(fields(&[("X-Line", "a\r\nb")])),
        SendRefer {
            to: ReferTo::Call(CallId::fresh()),
            ..wish()
        },
        SendRefer {
            to: ReferTo::Uri("sip:carol@example.com?Replaces=nothing".parse().unwrap()),
            ..wish()
        },
    ] {
        assert!(bench.give(Input::SendRefer(wrong)).is_err());
        bench.silent();
    }
    let (_, _, refer) = ask(
        &mut bench,
        own(fields(&[("Referred-By", "<sip:boss@example.com>")])),
    );
    assert_eq!(refer.headers.values("Referred-By").count(), 1);
    assert_eq!(refer.headers.value("Referred-By"), Some("<sip:boss@example.com>"));
    for _ in 1..64 {
        ask(&mut bench, wish());
    }
    assert!(bench.give(Input::SendRefer(wish())).is_err());
    bench.give(Input::Terminate).unwrap();
    for _ in 0..64 {
        assert!(matches!(bench.event(), DialogEventKind::ReferralNews(_)));
    }
    bench.silent();
    assert_eq!(bench.machine.poll_timeout(), None);
}

//! Calls that somebody asks for outside of any call (RFC 3515).

use crate::bench::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;
use std::time::Duration;

fn bench(referrals: Admitted) -> Bench {
    let mut config = config();
    config.control.referrals = referrals;
    config.control.trusted = vec!["192.0.2.1".parse().unwrap()];
    Bench::with(config)
}

fn refer() -> SipRequest {
    let mut refer = peer_invite();
    refer.method = Method::Refer;
    refer.body = bytes::Bytes::new();
    refer.headers.remove("Content-Type");
    refer.headers.set("CSeq", "1 REFER");
    refer.headers.push("Refer-To", "<sip:carol@example.com>");
    refer.headers.push("Referred-By", "<sip:bob@example.com>");
    refer
}

/// Somebody wants us to call Carol, and was told 202 and 100.
#[track_caller]
fn asked(bench: &mut Bench, refer: SipRequest) -> CallId {
    bench.request(refer);
    let (_, accepted) = bench.responded(202);
    assert!(accepted.headers.to().unwrap().tag().is_some());
    let line = told(bench, "active;expires=180");
    assert_eq!(line, "SIP/2.0 100 Trying\r\n");
    wanted(bench)
}

#[track_caller]
fn wanted(bench: &mut Bench) -> CallId {
    match bench.outputs.pop_front() {
        Some(Output::Event(DialogEvent {
            call,
            kind: DialogEventKind::Asked(referral),
        })) => {
            assert_eq!(referral.target.to_string(), "sip:carol@example.com");
            assert_eq!(
                referral.headers.value("Referred-By"),
                Some("<sip:bob@example.com>")
            );
            call
        }
        other => panic!("expected Asked, got {other:?}"),
    }
}

/// Our NOTIFY in this state, which is answered: its line.
#[track_caller]
fn told(bench: &mut Bench, state: &str) -> String {
    let (tx, notify) = bench.sent(Method::Notify);
    assert_eq!(notify.headers.value("Event"), Some("refer"));
    assert_eq!(notify.headers.value("Subscription-State"), Some(state));
    bench.answer(tx, response(&notify, 200, "b"));
    String::from_utf8(notify.body.to_vec()).unwrap()
}

fn report(bench: &mut Bench, call: CallId, status: u16) -> siprtc_core::Result<()> {
    bench.give(Input::ReportReferral(ReportReferral { call, status }))
}

#[test]
fn who_may_have_us_call_somebody_hears_how_it_goes() {
    let mut bench = bench(Admitted::All);
    let call = asked(&mut bench, refer());
    report(&mut bench, call, 100).unwrap();
    bench.silent();
    bench.pass(Duration::from_secs(40));
    report(&mut bench, call, 180).unwrap();
    assert_eq!(told(&mut bench, "active;expires=180"), "SIP/2.0 180 Ringing\r\n");
    report(&mut bench, call, 200).unwrap();
    assert_eq!(
        told(&mut bench, "terminated;reason=noresource"),
        "SIP/2.0 200 OK\r\n"
    );
    assert!(report(&mut bench, call, 486).is_err(), "it is over");
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn nobody_may_by_default_and_a_proxys_friends_where_it_is_trusted() {
    let mut closed = bench(Admitted::Nobody);
    closed.request(refer());
    closed.responded(403);
    closed.silent();
    let mut elsewhere = bench(Admitted::Trusted);
    elsewhere.request(refer());
    elsewhere.responded(403);
    let mut config = config();
    config.control.referrals = Admitted::Trusted;
    config.control.trusted = vec![flow().remote.ip()];
    let mut trusting = Bench::with(config);
    asked(&mut trusting, refer());
}

#[test]
fn a_wish_that_nobody_answers_is_declined() {
    let mut bench = bench(Admitted::All);
    let call = asked(&mut bench, refer());
    bench.pass(Duration::from_secs(30));
    assert_eq!(
        told(&mut bench, "terminated;reason=noresource"),
        "SIP/2.0 603 Decline\r\n"
    );
    assert_eq!(bench.event(), DialogEventKind::ReferralLapsed);
    assert!(report(&mut bench, call, 200).is_err());
}

#[test]
fn who_wants_no_news_gets_none() {
    // RFC 4488, and RFC 7614.
    for (name, value) in [("Refer-Sub", "false"), ("Require", "nosub")] {
        let mut bench = bench(Admitted::All);
        let mut refer = refer();
        refer.headers.push(name, value);
        bench.request(refer);
        let (_, accepted) = bench.responded(202);
        assert_eq!(accepted.headers.value("Refer-Sub"), Some("false"));
        let call = wanted(&mut bench);
        for status in [180, 200] {
            report(&mut bench, call, status).unwrap();
            bench.silent();
        }
        assert_eq!(bench.machine.poll_timeout(), None, "nothing is left of it");
    }
}

#[test]
fn what_is_no_call_is_refused() {
    let mut bench = bench(Admitted::All);
    for (to, status) in [
        ("<sip:carol@example.com;method=BYE>", 403),
        ("<mailto:carol@example.com>", 416),
        ("<sip:carol@example.com", 400),
    ] {
        let mut refer = refer();
        refer.headers.set("Refer-To", to);
        bench.request(refer);
        bench.responded(status);
        bench.silent();
    }
}

#[test]
fn a_call_of_which_nothing_more_is_heard_is_no_longer_told_of() {
    let mut bench = bench(Admitted::All);
    let call = asked(&mut bench, refer());
    report(&mut bench, call, 180).unwrap();
    told(&mut bench, "active;expires=180");
    bench.pass(Duration::from_secs(180));
    assert_eq!(
        told(&mut bench, "terminated;reason=timeout"),
        "SIP/2.0 180 Ringing\r\n"
    );
    assert!(report(&mut bench, call, 200).is_err());
}

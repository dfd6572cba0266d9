//! Transfers (RFC 3515, RFC 3891, RFC 5589) from each of the three ends.

use crate::bench::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

const CAROL: &str = "sip:carol@example.com";

fn refer(bench: &mut Bench, call: CallId) -> (TxId, SipRequest) {
    let to = ReferTo::Uri(CAROL.parse().unwrap());
    bench.give(Input::Refer(Refer { call, to })).unwrap();
    bench.sent(Method::Refer)
}

/// A NOTIFY of the callee Bob, with the news `line` of the transfer.
fn news(invite: &SipRequest, sequence: u32, state: &str, line: &str) -> SipRequest {
    let mut notify = callee_request(invite, "bob", Method::Notify, sequence);
    notify.headers.push("Event", "refer");
    notify.headers.push("Subscription-State", state);
    match line {
        "" => notify,
        line => notify.with_body("message/sipfrag;version=2.0", format!("{line}\r\n")),
    }
}

fn referred(bench: &mut Bench, invite: &SipRequest, sequence: u32, to: &str) -> TxId {
    let mut refer = callee_request(invite, "bob", Method::Refer, sequence);
    refer.headers.push("Refer-To", to);
    refer.headers.push("Referred-By", "<sip:bob@example.com>");
    bench.request(refer)
}

/// Our NOTIFY: its state, and its line.
fn told(bench: &mut Bench) -> (TxId, SipRequest, String, String) {
    let (tx, notify) = bench.sent(Method::Notify);
    let value = |name| notify.headers.value(name).unwrap().to_owned();
    assert_eq!(notify.headers.content_type().as_deref(), Some("message/sipfrag"));
    let (state, line) = (
        value("Subscription-State"),
        String::from_utf8(notify.body.to_vec()).unwrap(),
    );
    (tx, notify, state, line)
}

/// Bob wants us to call Carol, and was told 202 and 100.
fn asked(bench: &mut Bench) -> (CallId, SipRequest) {
    let (call, invite) = bench.established();
    referred(bench, &invite, 1, &format!("<{CAROL}>"));
    bench.responded(202);
    let (tx, notify, ..) = told(bench);
    let DialogEventKind::Referred(_) = bench.event() else {
        panic!()
    };
    bench.answer(tx, response(&notify, 200, "bob"));
    bench.silent();
    (call, invite)
}

#[test]
fn a_blind_transfer_is_told_from_the_first_news_to_the_last() {
    for accepted in [200, 202] {
        let mut bench = Bench::new();
        let (call, invite) = bench.established();
        let (tx, refer) = refer(&mut bench, call);
        assert_eq!(refer.headers.value("Refer-To"), Some("<sip:carol@example.com>"));
        assert_eq!(
            refer.headers.value("Referred-By"),
            Some("<sip:alice@example.com>")
        );
        assert!(refer.headers.contains("Contact"));
        bench.answer(tx, response(&refer, accepted, "bob"));
        bench.silent();
        for (sequence, (line, status)) in
            (1..).zip([("SIP/2.0 100 Trying", 100), ("SIP/2.0 180 Ringing", 180)])
        {
            bench.request(news(&invite, sequence, "active;expires=60", line));
            bench.responded(200);
            assert_eq!(bench.event(), DialogEventKind::ReferralProgress { status });
        }
        bench.request(news(&invite, 3, "terminated;reason=noresource", "SIP/2.0 200 OK"));
        bench.responded(200);
        assert_eq!(bench.event(), DialogEventKind::ReferralSucceeded);
        bench.pass(Duration::from_secs(600));
        bench.silent();
        assert_eq!(bench.machine.calls().count(), 1, "the call goes on");
    }
}

#[test]
fn news_may_come_before_the_202() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, refer) = refer(&mut bench, call);
    bench.request(news(&invite, 1, "active", "SIP/2.0 100 Trying"));
    bench.responded(200);
    assert_eq!(bench.event(), DialogEventKind::ReferralProgress { status: 100 });
    bench.request(news(&invite, 2, "terminated", "SIP/2.0 200 OK"));
    bench.responded(200);
    assert_eq!(bench.event(), DialogEventKind::ReferralSucceeded);
    bench.answer(tx, response(&refer, 202, "bob"));
    bench.pass(Duration::from_secs(600));
    bench.silent();
}

#[test]
fn a_refused_transfer_leaves_the_call_and_may_be_tried_again() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, first) = refer(&mut bench, call);
    let to = ReferTo::Uri(CAROL.parse().unwrap());
    assert!(
        bench.give(Input::Refer(Refer { call, to })).is_err(),
        "one at a time"
    );
    bench.answer(tx, response(&first, 603, "bob"));
    assert_eq!(bench.event(), DialogEventKind::ReferralRefused { status: 603 });
    let (tx, second) = refer(&mut bench, call);
    bench.answer(tx, response(&second, 202, "bob"));
    // News of an older one are nobody's.
    let mut stale = news(&invite, 1, "terminated", "SIP/2.0 200 OK");
    stale.headers.set("Event", "refer;id=2");
    bench.request(stale);
    bench.responded(481);
    let mut own = news(&invite, 2, "terminated", "SIP/2.0 486 Busy Here");
    own.headers.set("Event", "refer;id=3");
    bench.request(own);
    bench.responded(200);
    assert_eq!(bench.event(), DialogEventKind::ReferralRefused { status: 486 });
}

#[test]
fn a_transfer_of_which_nothing_is_heard_is_given_up() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, refer) = refer(&mut bench, call);
    bench.answer(tx, response(&refer, 202, "bob"));
    bench.pass(PATIENCE);
    assert_eq!(bench.event(), DialogEventKind::ReferralRefused { status: 408 });
    bench.request(news(&invite, 1, "active", "SIP/2.0 100 Trying"));
    bench.responded(481);
    bench.silent();
}

#[test]
fn a_transfer_whose_news_stop_is_given_up() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, refer) = refer(&mut bench, call);
    bench.answer(tx, response(&refer, 202, "bob"));
    bench.request(news(&invite, 1, "active", "SIP/2.0 180 Ringing"));
    bench.responded(200);
    bench.event();
    bench.pass(PATIENCE);
    bench.silent();
    bench.pass(Duration::from_secs(180));
    assert_eq!(bench.event(), DialogEventKind::ReferralRefused { status: 408 });
}

#[test]
fn a_subscription_that_ends_without_an_outcome_ends_the_transfer() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, refer) = refer(&mut bench, call);
    bench.answer(tx, response(&refer, 202, "bob"));
    bench.request(news(&invite, 1, "terminated;reason=giveup", ""));
    bench.responded(200);
    assert_eq!(bench.event(), DialogEventKind::ReferralRefused { status: 408 });
}

#[test]
fn a_peer_that_will_not_say_how_it_goes_has_taken_the_transfer() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, refer) = refer(&mut bench, call);
    let mut ok = response(&refer, 200, "bob");
    ok.headers.push("Refer-Sub", "false");
    bench.answer(tx, ok);
    assert_eq!(bench.event(), DialogEventKind::ReferralSucceeded);
}

#[test]
fn a_refer_is_sent_again_with_credentials_and_its_new_number_is_the_one_that_counts() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, first) = refer(&mut bench, call);
    let mut challenge = response(&first, 407, "bob");
    challenge.headers.push(
        "Proxy-Authenticate",
        "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(tx, challenge);
    let (_, again) = bench.sent(Method::Refer);
    assert_eq!(again.headers.cseq().unwrap().sequence, 3);
    let mut notify = news(&invite, 1, "terminated", "SIP/2.0 200 OK");
    notify.headers.set("Event", "refer;id=3");
    bench.request(notify);
    bench.responded(200);
    assert_eq!(bench.event(), DialogEventKind::ReferralSucceeded);
}

#[test]
fn a_refer_that_cannot_be_sent_or_is_not_answered_is_refused() {
    for (end, status) in [(TxEnd::TimedOut, 408), (TxEnd::Transport("gone".to_owned()), 503)] {
        let mut bench = Bench::new();
        let (call, _) = bench.established();
        let (tx, _) = refer(&mut bench, call);
        bench.tx_ended(tx, end);
        assert_eq!(bench.event(), DialogEventKind::ReferralRefused { status });
    }
}

#[test]
fn only_a_confirmed_call_is_transferred() {
    let mut bench = Bench::new();
    let to = || ReferTo::Uri(CAROL.parse().unwrap());
    let (call, ..) = bench.call();
    assert!(bench.give(Input::Refer(Refer { call, to: to() })).is_err());
    let (call, ..) = bench.incoming();
    assert!(bench.give(Input::Refer(Refer { call, to: to() })).is_err());
    let sdp = ANSWER.to_owned();
    bench.give(Input::Accept(Accept { call, sdp })).unwrap();
    bench.responded(200);
    assert!(
        bench.give(Input::Refer(Refer { call, to: to() })).is_err(),
        "no ACK yet"
    );
}

#[test]
fn news_that_cannot_be_read_are_refused() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let stray = news(&invite, 1, "active", "SIP/2.0 100 Trying");
    bench.request(stray);
    bench.responded(481);
    let (tx, refer) = refer(&mut bench, call);
    bench.answer(tx, response(&refer, 202, "bob"));
    let mut other = news(&invite, 2, "active", "SIP/2.0 100 Trying");
    other.headers.set("Event", "presence");
    bench.request(other);
    assert_eq!(
        bench.responded(489).1.headers.value("Allow-Events"),
        Some("refer")
    );
    for (sequence, line) in (3..).zip(["nonsense", "SIP/2.0 999 Odd", "SIP/2.0", "SIP/3.0 200 OK"]) {
        bench.request(news(&invite, sequence, "active", line));
        bench.responded(400);
    }
    let html = news(&invite, 9, "active", "").with_body("text/html", "<b>200</b>");
    bench.request(html);
    bench.responded(415);
    bench.silent();
}

#[test]
fn a_peer_that_wants_us_to_call_somebody_hears_how_it_goes() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    referred(
        &mut bench,
        &invite,
        1,
        &format!("\"Carol\" <{CAROL};method=INVITE?Subject=x>"),
    );
    assert!(bench.responded(202).1.headers.contains("Contact"));
    let (tx, notify, state, line) = told(&mut bench);
    assert!(state.starts_with("active"), "{state}");
    assert_eq!(line, "SIP/2.0 100 Trying\r\n");
    assert_eq!(notify.headers.value("Event"), Some("refer"));
    let DialogEventKind::Referred(referral) = bench.event() else {
        panic!()
    };
    assert_eq!(referral.target.to_string(), CAROL);
    assert_eq!(
        referral.referred_by.as_ref().unwrap().uri.to_string(),
        "sip:bob@example.com"
    );
    assert!(!referral.replaces() && !referral.headers.contains("Subject"));
    assert_eq!(
        referral.headers.value("Referred-By"),
        Some("<sip:bob@example.com>")
    );
    // While one is on its way the newest waits, and the last word is never lost.
    for status in [100, 180, 183, 200, 180] {
        let _ = bench.give(Input::ReportReferral(ReportReferral { call, status }));
    }
    bench.silent();
    bench.answer(tx, response(&notify, 200, "bob"));
    let (tx, notify, state, line) = told(&mut bench);
    assert_eq!(
        (state.as_str(), line.as_str()),
        ("terminated;reason=noresource", "SIP/2.0 200 OK\r\n")
    );
    bench.answer(tx, response(&notify, 200, "bob"));
    assert!(
        bench
            .give(Input::ReportReferral(ReportReferral { call, status: 200 }))
            .is_err()
    );
    // A second one is told apart by its number.
    referred(&mut bench, &invite, 2, &format!("<{CAROL}>"));
    bench.responded(202);
    assert_eq!(told(&mut bench).1.headers.value("Event"), Some("refer;id=2"));
}

#[test]
fn an_attended_transfer_hands_its_dialog_on_and_nothing_else_of_the_uri() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let to = "<sip:carol@example.com?Replaces=1%40h%3Bto-tag%3Da%3Bfrom-tag%3Db&Route=%3Csip:evil%3E>";
    referred(&mut bench, &invite, 1, to);
    bench.responded(202);
    told(&mut bench);
    let DialogEventKind::Referred(referral) = bench.event() else {
        panic!()
    };
    assert!(referral.replaces());
    assert_eq!(
        referral.headers.value("Replaces"),
        Some("1@h;to-tag=a;from-tag=b")
    );
    assert!(!referral.headers.contains("Route"));
    assert_eq!(referral.target.to_string(), CAROL);
}

#[test]
fn a_wish_that_nobody_answers_is_declined_after_thirty_seconds() {
    let mut bench = Bench::new();
    let (call, _) = asked(&mut bench);
    bench.pass(Duration::from_secs(30));
    assert_eq!(told(&mut bench).3, "SIP/2.0 603 Decline\r\n");
    assert_eq!(bench.event(), DialogEventKind::ReferralLapsed);
    assert!(
        bench
            .give(Input::ReportReferral(ReportReferral { call, status: 100 }))
            .is_err()
    );
    bench.pass(PATIENCE);
    bench.silent();
}

#[test]
fn a_wish_that_is_granted_may_take_longer() {
    let mut bench = Bench::new();
    let (call, _) = asked(&mut bench);
    bench
        .give(Input::ReportReferral(ReportReferral { call, status: 100 }))
        .unwrap();
    bench.pass(Duration::from_secs(170));
    bench.silent();
    bench
        .give(Input::ReportReferral(ReportReferral { call, status: 486 }))
        .unwrap();
    assert_eq!(told(&mut bench).3, "SIP/2.0 486 Busy Here\r\n");
}

#[test]
fn a_transferor_that_wants_no_news_gets_none() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let mut refer = callee_request(&invite, "bob", Method::Refer, 1);
    refer.headers.push("Refer-To", format!("<{CAROL}>"));
    refer.headers.push("Refer-Sub", "false");
    refer.headers.push("Require", "norefersub");
    bench.request(refer);
    assert_eq!(bench.responded(202).1.headers.value("Refer-Sub"), Some("false"));
    assert!(matches!(bench.event(), DialogEventKind::Referred(_)));
    bench
        .give(Input::ReportReferral(ReportReferral { call, status: 180 }))
        .unwrap();
    bench
        .give(Input::ReportReferral(ReportReferral { call, status: 200 }))
        .unwrap();
    bench.silent();
}

#[test]
fn a_transferor_that_does_not_take_the_news_gets_no_more() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    referred(&mut bench, &invite, 1, &format!("<{CAROL}>"));
    bench.responded(202);
    let (tx, notify, ..) = told(&mut bench);
    bench.event();
    bench.answer(tx, response(&notify, 481, "bob"));
    assert!(
        bench
            .give(Input::ReportReferral(ReportReferral { call, status: 180 }))
            .is_err()
    );
    bench.silent();
}

#[test]
fn what_is_no_transfer_of_a_call_is_refused() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let long = format!("<sip:{}@example.com>", "c".repeat(2000));
    for (sequence, (to, status)) in (1..).zip([
        ("<tel:+4930123456>", 416),
        ("<http://example.com/>", 416),
        ("<sip:carol@example.com;method=BYE>", 403),
        ("nonsense", 400),
        ("<sip:carol@example.com?Replaces=x>", 400),
        (&long, 414),
    ]) {
        referred(&mut bench, &invite, sequence, to);
        bench.responded(status);
        bench.silent();
    }
    let mut two = callee_request(&invite, "bob", Method::Refer, 20);
    two.headers.push("Refer-To", "<sip:a@example.com>");
    two.headers.push("Refer-To", "<sip:b@example.com>");
    bench.request(two);
    bench.responded(400);
    bench.request(callee_request(&invite, "bob", Method::Refer, 21));
    bench.responded(400);
    // Nobody else may have us call somebody.
    let mut stranger = callee_request(&invite, "bob", Method::Refer, 22);
    stranger.headers.set("To", "<sip:alice@example.com>");
    stranger.headers.push("Refer-To", "<sip:premium@example.com>");
    bench.request(stranger);
    bench.responded(403);
    bench.silent();
}

#[test]
fn one_wish_is_heard_at_a_time() {
    let mut bench = Bench::new();
    let (_, invite) = asked(&mut bench);
    referred(&mut bench, &invite, 2, "<sip:dave@example.com>");
    bench.responded(491);
    bench.silent();
}

/// The transferor asks again with the last word in its hands, and its 200 to that is slower than its REFER.
#[test]
fn another_wish_is_heard_before_the_last_word_on_the_one_before_is_acknowledged() {
    let mut bench = Bench::new();
    let (call, invite) = asked(&mut bench);
    bench
        .give(Input::ReportReferral(ReportReferral { call, status: 603 }))
        .unwrap();
    let (tx, notify, ..) = told(&mut bench);
    referred(&mut bench, &invite, 2, "<sip:dave@example.com>");
    bench.responded(202);
    assert_eq!(told(&mut bench).1.headers.value("Event"), Some("refer;id=2"));
    assert!(matches!(bench.event(), DialogEventKind::Referred(_)));
    bench.answer(tx, response(&notify, 200, "bob"));
    bench.silent();
    bench
        .give(Input::ReportReferral(ReportReferral { call, status: 180 }))
        .unwrap();
}

#[test]
fn a_policy_of_refusal_declines_every_transfer() {
    let mut config = config();
    config.control.take_referrals = false;
    let mut bench = Bench::with(config);
    let (_, invite) = bench.established();
    referred(&mut bench, &invite, 1, &format!("<{CAROL}>"));
    bench.responded(603);
    bench.silent();
}

/// Bob hangs up: our 200.
fn bob_hangs_up(bench: &mut Bench, invite: &SipRequest, sequence: u32) {
    bench.request(callee_request(invite, "bob", Method::Bye, sequence));
    bench.responded(200);
    bench.ended();
}

#[test]
fn a_transferor_that_hangs_up_hears_how_it_went_all_the_same() {
    let mut bench = Bench::new();
    let (call, invite) = asked(&mut bench);
    let report = |status| Input::ReportReferral(ReportReferral { call, status });
    bench.give(report(180)).unwrap();
    let (tx, ringing, ..) = told(&mut bench);
    bench.answer(tx, response(&ringing, 200, "bob"));
    bob_hangs_up(&mut bench, &invite, 2);
    assert_eq!(bench.machine.calls().count(), 0);
    bench.pass(Duration::from_secs(120));
    bench.request(callee_request(&invite, "bob", Method::Info, 3));
    bench.responded(481);
    bench.give(report(200)).unwrap();
    let (tx, last, state, line) = told(&mut bench);
    assert_eq!(
        (&*state, &*line),
        ("terminated;reason=noresource", "SIP/2.0 200 OK\r\n")
    );
    let sequence = |request: &SipRequest| request.headers.cseq().unwrap().sequence;
    assert_eq!(sequence(&last), sequence(&ringing) + 1);
    bench.answer(tx, response(&last, 200, "bob"));
    assert!(bench.give(report(200)).is_err(), "nobody waits any more");
    assert_eq!(bench.machine.poll_timeout(), None, "nothing of the call is left");
}

#[test]
fn a_wish_that_is_open_when_its_call_ends_is_not_granted() {
    let mut bench = Bench::new();
    let (call, invite) = asked(&mut bench);
    bench.request(callee_request(&invite, "bob", Method::Bye, 2));
    bench.responded(200);
    let (.., state, line) = told(&mut bench);
    assert!(
        state.starts_with("terminated") && line.starts_with("SIP/2.0 487"),
        "{line}"
    );
    bench.ended();
    let late = Input::ReportReferral(ReportReferral { call, status: 200 });
    assert!(bench.give(late).is_err());
}

/// Bob has taken our REFER, and we have hung up.
fn left_early() -> (Bench, CallId, SipRequest) {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, refer) = refer(&mut bench, call);
    bench.answer(tx, response(&refer, 202, "bob"));
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    let (bye_tx, bye) = bench.sent(Method::Bye);
    bench.answer(bye_tx, response(&bye, 200, "bob"));
    bench.ended();
    (bench, call, invite)
}

#[test]
fn news_of_a_transfer_are_taken_after_the_call() {
    let (mut bench, _, invite) = left_early();
    for (sequence, state, line) in [
        (1, "active;expires=60", "SIP/2.0 180 Ringing"),
        (2, "terminated;reason=noresource", "SIP/2.0 200 OK"),
    ] {
        bench.request(news(&invite, sequence, state, line));
        bench.responded(200);
    }
    bench.silent();
    bench.request(news(&invite, 3, "terminated", "SIP/2.0 200 OK"));
    bench.responded(481);
}

#[test]
fn who_waits_for_news_in_vain_is_forgotten() {
    let (mut bench, call, _) = left_early();
    bench.pass(Duration::from_secs(600));
    assert_eq!(bench.machine.poll_timeout(), None);
    assert_eq!(bench.machine.sip_call_id(call), None);
}

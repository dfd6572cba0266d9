//! Client transactions (RFC 3261 section 17.1, RFC 6026 section 7.2).
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod support;

use siprtc_core::Fault;
use siprtc_core::sip::{Headers, Method, SipMessage, SipRequest, TxEnd};
use std::time::Duration;
use support::{Link, Out, Rig, T1, ack_of, none, request, response, tagged};

const UDP: Link = Link::Udp(1);
const TCP: Link = Link::Tcp(1);

#[test]
fn timer_a_doubles_without_a_bound_until_timer_b_gives_up() {
    let mut rig = Rig::new();
    rig.ask(&request(Method::Invite, "a"), UDP);
    assert_eq!(rig.words(), "INVITE");
    assert_eq!(
        rig.run(),
        "0.5 INVITE, 1.5 INVITE, 3.5 INVITE, 7.5 INVITE, 15.5 INVITE, 31.5 INVITE, 32 timed out"
    );
    assert!(rig.machine.is_empty());
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn timer_e_doubles_up_to_t2_until_timer_f_gives_up() {
    let mut rig = Rig::new();
    rig.ask(&request(Method::Bye, "a"), UDP);
    assert_eq!(rig.words(), "BYE");
    let times = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5];
    let copies = times.map(|at| format!("{at} BYE, ")).concat();
    assert_eq!(rig.run(), format!("{copies}32 timed out"));
    assert!(rig.machine.is_empty());
}

#[test]
fn a_provisional_answer_slows_timer_e_and_does_not_stop_timer_f() {
    let mut rig = Rig::new();
    let bye = request(Method::Bye, "a");
    rig.ask(&bye, UDP);
    rig.words();
    assert_eq!(rig.hear(UDP, response(&bye, 100)), "up 100");
    let times = [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5];
    let copies = times.map(|at| format!("{at} BYE, ")).concat();
    assert_eq!(rig.run(), format!("{copies}32 timed out"));
}

#[test]
fn over_a_connection_nothing_is_repeated_and_timers_b_and_f_run() {
    for method in [Method::Invite, Method::Options] {
        let mut rig = Rig::new();
        rig.ask(&request(method, "a"), TCP);
        rig.words();
        assert_eq!(rig.run(), "32 timed out");
    }
}

#[test]
fn a_ringing_invite_is_not_repeated_and_outlives_timer_b() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    rig.ask(&invite, UDP);
    rig.words();
    for status in [100, 180, 180] {
        assert_eq!(rig.hear(UDP, response(&invite, status)), format!("up {status}"));
    }
    assert_eq!(rig.run_for(T1 * 128), "");
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "up 200");
}

#[test]
fn an_invite_that_rings_for_an_hour_is_given_up() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    rig.ask(&invite, UDP);
    rig.hear(UDP, response(&invite, 180));
    assert_eq!(rig.run(), "3600 timed out");
    assert!(rig.machine.is_empty());
}

#[test]
fn every_2xx_is_passed_up_until_timer_m_and_nothing_else() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.ask(&invite, UDP);
    rig.words();
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "up 200");
    assert_eq!(rig.machine.active(), 0);
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "up 200", "a copy");
    assert_eq!(
        rig.hear(UDP, tagged(&invite, 202, "carol")),
        "up 202",
        "another fork's"
    );
    assert_eq!(rig.hear(UDP, response(&invite, 180)), "");
    assert_eq!(rig.hear(UDP, response(&invite, 486)), "");
    rig.now += T1 * 64 - Duration::from_millis(1);
    rig.machine.handle_timeout(rig.now);
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "up 200");
    let ended = rig.machine.cancel(tx, rig.now, &none());
    assert_eq!(ended.unwrap_err().fault(), Fault::ApiMisuse);
    assert_eq!(rig.pass(Duration::from_millis(1)), "done");
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "");
    assert!(rig.machine.is_empty());
    assert_eq!(rig.machine.strays(), 1);
}

#[test]
fn timer_m_runs_over_a_connection_too() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    rig.ask(&invite, TCP);
    rig.hear(TCP, response(&invite, 200));
    assert_eq!(rig.run(), "32 done");
}

#[test]
fn a_refusal_is_acknowledged_with_the_invites_branch_and_route_and_the_answers_to() {
    let mut rig = Rig::new();
    let mut invite = request(Method::Invite, "a").with_body("application/sdp", "v=0");
    invite.headers.set(
        "Via",
        "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa, SIP/2.0/UDP below;branch=z9hG4bKb",
    );
    let tx = rig.ask(&invite, UDP);
    rig.words();
    let mut busy = response(&invite, 486);
    busy.headers
        .set("Via", "SIP/2.0/UDP 192.0.2.1;received=192.0.2.9;branch=z9hG4bKa");
    rig.machine
        .receive(rig.now, Link::Udp(9), SipMessage::Response(busy.clone()));
    let outs = rig.outs();
    let [
        Out::Asked(UDP, ack, None),
        Out::Response(up, heard),
        Out::Ended(ended, TxEnd::Done),
    ] = &outs[..]
    else {
        panic!("{outs:?}");
    };
    assert_eq!((*up, *ended, heard), (tx, tx, &busy));
    assert_eq!(
        (&ack.method, &ack.uri, ack.body.len()),
        (&Method::Ack, &invite.uri, 0)
    );
    let values = |name: &'static str| ack.headers.values(name).collect::<Vec<_>>();
    assert_eq!(values("Via"), ["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa"]);
    assert_eq!(
        values("Route"),
        ["<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"]
    );
    assert_eq!(values("From"), ["<sip:alice@example.com>;tag=alice"]);
    assert_eq!(values("To"), ["<sip:bob@example.com>;tag=bob"]);
    assert_eq!(values("Call-ID"), ["a"]);
    assert_eq!(values("CSeq"), ["7 ACK"]);
    assert_eq!(values("Max-Forwards"), ["70"]);
    assert!(!ack.headers.contains("Contact") && !ack.headers.contains("Content-Type"));
    ack.validate().unwrap();
}

#[test]
fn a_refusal_that_comes_again_is_acknowledged_again_for_timer_d() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    rig.ask(&invite, UDP);
    assert_eq!(rig.hear(UDP, response(&invite, 486)), "INVITE, ACK, up 486, done");
    assert_eq!(rig.hear(UDP, response(&invite, 486)), "ACK");
    assert_eq!(rig.hear(UDP, response(&invite, 180)), "");
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "");
    rig.pass(Duration::from_millis(31_999));
    assert_eq!(rig.hear(UDP, response(&invite, 486)), "ACK");
    assert!(!rig.machine.is_empty());
    rig.pass(Duration::from_millis(1));
    assert!(rig.machine.is_empty());
    assert_eq!(rig.hear(UDP, response(&invite, 486)), "");
}

#[test]
fn timers_d_and_k_are_zero_over_a_connection() {
    for method in [Method::Invite, Method::Options] {
        let mut rig = Rig::new();
        let asked = request(method, "a");
        rig.ask(&asked, TCP);
        assert!(rig.hear(TCP, response(&asked, 404)).ends_with("up 404, done"));
        assert!(rig.machine.is_empty());
    }
}

#[test]
fn late_copies_of_an_answer_are_absorbed_for_timer_k() {
    let mut rig = Rig::new();
    let options = request(Method::Options, "a");
    rig.ask(&options, UDP);
    assert_eq!(rig.hear(UDP, response(&options, 200)), "OPTIONS, up 200, done");
    assert_eq!(rig.machine.active(), 0);
    rig.pass(Duration::from_millis(4999));
    assert_eq!(rig.hear(UDP, response(&options, 200)), "");
    assert_eq!(rig.machine.strays(), 0);
    rig.pass(Duration::from_millis(1));
    assert!(rig.machine.is_empty());
    assert_eq!(rig.hear(UDP, response(&options, 200)), "");
    assert_eq!(rig.machine.strays(), 1);
}

#[test]
fn a_cancel_has_the_invites_own_via_and_route() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a").with_body("application/sdp", "v=0");
    let tx = rig.ask(&invite, UDP);
    let refused = rig.machine.cancel(tx, rig.now, &none()).unwrap_err();
    assert_eq!(
        refused.fault(),
        Fault::ApiMisuse,
        "RFC 3261 section 9.1: not before a provisional answer"
    );
    rig.hear(UDP, response(&invite, 100));
    let mut extra = Headers::new();
    extra.push("Reason", "Q.850;cause=16");
    rig.machine.cancel(tx, rig.now, &extra).unwrap();
    let outs = rig.outs();
    let [Out::Asked(UDP, cancel, Some(_))] = &outs[..] else {
        panic!("{outs:?}");
    };
    assert_eq!(
        (&cancel.method, &cancel.uri, cancel.body.len()),
        (&Method::Cancel, &invite.uri, 0)
    );
    for name in ["Via", "Route", "From", "To", "Call-ID"] {
        let of = |request: &SipRequest| request.headers.items(name).join("|");
        assert_eq!(of(cancel), of(&invite), "{name}");
    }
    assert_eq!(cancel.headers.value("CSeq"), Some("7 CANCEL"));
    assert_eq!(cancel.headers.value("Reason"), Some("Q.850;cause=16"));
    cancel.validate().unwrap();
    rig.machine.cancel(tx, rig.now, &extra).unwrap();
    assert_eq!(rig.words(), "", "once is enough");
}

#[test]
fn a_cancel_is_a_transaction_of_which_nobody_hears() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.ask(&invite, UDP);
    rig.hear(UDP, response(&invite, 180));
    rig.machine.cancel(tx, rig.now, &none()).unwrap();
    let outs = rig.outs();
    let [Out::Asked(_, cancel, _)] = &outs[..] else {
        panic!("{outs:?}");
    };
    assert_eq!(rig.run_for(Duration::from_secs(2)), "0.5 CANCEL, 1.5 CANCEL");
    assert_eq!(rig.hear(UDP, response(cancel, 100)), "");
    assert_eq!(rig.run_for(Duration::from_secs(6)), "1.5 CANCEL, 5.5 CANCEL");
    assert_eq!(rig.hear(UDP, response(cancel, 200)), "");
    assert_eq!(rig.hear(UDP, response(cancel, 200)), "");
    assert_eq!(rig.hear(UDP, response(&invite, 487)), "ACK, up 487, done");
    assert_eq!(rig.run(), "");
    assert!(rig.machine.is_empty());
    assert_eq!(rig.machine.strays(), 0);
}

#[test]
fn an_invite_that_is_not_answered_64_t1_after_its_cancel_is_given_up() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.ask(&invite, TCP);
    rig.hear(TCP, response(&invite, 180));
    rig.pass(Duration::from_secs(60));
    rig.machine.cancel(tx, rig.now, &none()).unwrap();
    rig.words();
    assert_eq!(rig.run(), "32 timed out");
    assert!(rig.machine.is_empty());
}

#[test]
fn a_2xx_that_crosses_the_cancel_stands() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.ask(&invite, UDP);
    rig.hear(UDP, response(&invite, 180));
    rig.machine.cancel(tx, rig.now, &none()).unwrap();
    rig.words();
    assert_eq!(rig.hear(UDP, response(&invite, 200)), "up 200");
    assert!(rig.run_for(T1 * 64).ends_with("32 done"));
    rig.run();
    assert!(rig.machine.is_empty());
}

#[test]
fn an_answer_is_matched_by_branch_sent_by_and_the_method_of_its_cseq() {
    let mut rig = Rig::new();
    let options = request(Method::Options, "a");
    rig.ask(&options, UDP);
    rig.words();
    for (name, value) in [
        ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKb"),
        ("Via", "SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKa"),
        ("Via", "SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bKa"),
        ("Via", "no Via"),
        ("CSeq", "7 INVITE"),
        ("CSeq", "no CSeq"),
    ] {
        let mut stray = response(&options, 200);
        stray.headers.set(name, value);
        assert_eq!(rig.hear(UDP, stray), "", "{name}: {value}");
    }
    assert_eq!(rig.machine.strays(), 6);
    assert_eq!(
        rig.hear(TCP, response(&options, 200)),
        "up 200, done",
        "by whichever path"
    );
}

#[test]
fn what_cannot_be_sent_ends_its_client_transaction() {
    let mut rig = Rig::new();
    let (invite, options) = (request(Method::Invite, "a"), request(Method::Options, "b"));
    let (first, second) = (rig.ask(&invite, UDP), rig.ask(&options, UDP));
    rig.words();
    rig.machine.failed(first, "no route");
    rig.machine.failed(first, "no route");
    assert_eq!(rig.words(), "no route");
    assert_eq!(rig.hear(UDP, response(&options, 200)), "up 200, done");
    rig.machine.failed(second, "no route");
    assert_eq!(rig.words(), "", "it has ended already");
}

#[test]
fn a_cancel_that_cannot_be_sent_leaves_the_invite_alone() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.ask(&invite, UDP);
    rig.hear(UDP, response(&invite, 180));
    rig.machine.cancel(tx, rig.now, &none()).unwrap();
    let outs = rig.outs();
    let [Out::Asked(_, _, Some(cancel))] = outs[..] else {
        panic!("{outs:?}");
    };
    rig.machine.failed(cancel, "no route");
    assert_eq!(rig.words(), "");
    assert_eq!(rig.hear(UDP, response(&invite, 487)), "ACK, up 487, done");
}

#[test]
fn a_connection_that_is_gone_takes_only_what_waits_on_it() {
    let mut rig = Rig::new();
    let (waiting, ringing) = (request(Method::Options, "a"), request(Method::Invite, "b"));
    let (answered, elsewhere) = (request(Method::Invite, "c"), request(Method::Options, "d"));
    for asked in [&waiting, &ringing, &answered] {
        rig.ask(asked, TCP);
    }
    rig.ask(&elsewhere, Link::Tcp(2));
    let served = rig.words();
    assert_eq!(served, "OPTIONS, INVITE, INVITE, OPTIONS");
    rig.hear(TCP, response(&ringing, 180));
    rig.hear(TCP, response(&answered, 200));
    let tx = rig.served(TCP, &request(Method::Message, "e"));
    rig.machine.path_down(&|path| *path == TCP, "closed");
    assert_eq!(rig.words(), "closed, closed");
    assert_eq!(rig.hear(Link::Tcp(3), response(&answered, 200)), "up 200");
    assert_eq!(
        rig.answer(tx, response(&request(Method::Message, "e"), 200)),
        "200, done"
    );
    assert_eq!(rig.hear(Link::Tcp(2), response(&elsewhere, 200)), "up 200, done");
}

#[test]
fn what_is_no_request_to_begin_with_is_refused_and_nothing_is_announced() {
    let mut rig = Rig::with(2);
    let good = request(Method::Options, "good");
    let tx = rig.ask(&good, UDP);
    rig.words();
    let mut bad = vec![
        request(Method::Ack, "a"),
        request(Method::Cancel, "a"),
        good.clone(),
        request(Method::Options, "a"),
    ];
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let mut lacks = request(Method::Options, "a");
        lacks.headers.remove(name);
        bad.push(lacks);
    }
    for (name, value) in [("Via", "SIP/2.0/UDP h;branch=a"), ("CSeq", "7 INVITE")] {
        let mut odd = request(Method::Options, "a");
        odd.headers.set(name, value);
        bad.push(odd);
    }
    for (number, bad) in bad.into_iter().enumerate() {
        let id = if number == 3 { tx } else { rig.ids.mint() };
        let refused = rig.machine.send_request(rig.now, id, bad, UDP).unwrap_err();
        assert_eq!(refused.fault(), Fault::ApiMisuse, "{refused}");
        assert!(refused.next_step().is_some(), "{refused}");
    }
    assert_eq!((rig.words().as_str(), rig.machine.active()), ("", 1));
}

#[test]
fn beyond_max_transactions_a_request_is_an_error_until_one_is_answered() {
    let mut rig = Rig::with(2);
    let (one, two) = (request(Method::Options, "1"), request(Method::Invite, "2"));
    rig.ask(&one, UDP);
    rig.ask(&two, UDP);
    let (three, tx) = (request(Method::Options, "3"), rig.ids.mint());
    let full = rig
        .machine
        .send_request(rig.now, tx, three.clone(), UDP)
        .unwrap_err();
    assert_eq!(full.fault(), Fault::Backend);
    assert!(full.next_step().unwrap().contains("max_transactions"), "{full}");
    rig.words();
    rig.hear(UDP, response(&two, 200));
    rig.machine.send_request(rig.now, tx, three, UDP).unwrap();
    assert_eq!(rig.machine.active(), 2);
}

#[test]
fn everything_that_was_announced_ends_when_all_ends() {
    let mut rig = Rig::new();
    let asked = ["a", "b", "c", "d"].map(|branch| request(Method::Invite, branch));
    let txs = asked.each_ref().map(|asked| rig.ask(asked, UDP));
    rig.hear(UDP, response(&asked[0], 200));
    rig.hear(UDP, response(&asked[1], 486));
    rig.hear(UDP, response(&asked[2], 180));
    rig.machine.cancel(txs[2], rig.now, &none()).unwrap();
    rig.words();
    rig.machine.end_all("bye");
    assert_eq!(rig.words(), "bye, bye, bye");
    assert!(rig.machine.is_empty());
    assert_eq!(rig.machine.poll_timeout(), None);
    rig.machine.end_all("bye");
    assert_eq!(rig.run(), "");
    let again = ack_of(&asked[1], &response(&asked[1], 486));
    assert_eq!(rig.hear(UDP, again), "up ACK");
}

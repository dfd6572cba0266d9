//! Server transactions (RFC 3261 section 17.2, RFC 6026 section 7.1, RFC 4320).
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod support;

use siprtc_core::Fault;
use siprtc_core::sip::{Method, SipMessage, SipResponse, TxEnd, TxOwner};
use siprtc_sip_transactions::RETRY_AFTER;
use std::time::Duration;
use support::{Link, Out, Rig, T1, ack_of, ack_of_2xx, follow, request, response, tagged};

const UDP: Link = Link::Udp(1);
const TCP: Link = Link::Tcp(1);

#[test]
fn an_invite_that_its_user_leaves_alone_gets_a_100_after_200_ms() {
    for path in [UDP, TCP] {
        let mut rig = Rig::new();
        let mut invite = request(Method::Invite, "a");
        invite.headers.push("Timestamp", "54");
        let tx = rig.served(path, &invite);
        assert_eq!(tx.owner(), TxOwner::STACK);
        assert_eq!(rig.pass(Duration::from_millis(199)), "");
        rig.now += Duration::from_millis(1);
        rig.machine.handle_timeout(rig.now);
        let outs = rig.outs();
        let [Out::Answered(to, trying, Some(of))] = &outs[..] else {
            panic!("{outs:?}");
        };
        assert_eq!((*to, *of), (path, tx));
        assert_eq!(
            *trying,
            with_length(invite.response(100)),
            "To without a tag, Timestamp copied"
        );
        assert_eq!(rig.hear(path, invite), "100", "a copy gets it again");
        assert_eq!(rig.run(), "3599.8 timed out");
    }
}

#[test]
fn an_answer_of_its_user_takes_the_100s_place() {
    for status in [100, 180, 200, 486] {
        let mut rig = Rig::new();
        let invite = request(Method::Invite, "a");
        let tx = rig.served(TCP, &invite);
        rig.pass(Duration::from_millis(150));
        assert_eq!(rig.answer(tx, response(&invite, status)), status.to_string());
        assert_eq!(rig.run_for(Duration::from_secs(31)), "");
    }
}

#[test]
fn a_copy_gets_the_last_answer_again_on_its_own_path() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    assert_eq!(rig.hear(UDP, invite.clone()), "", "nothing was said yet");
    for status in [100, 180, 183] {
        rig.answer(tx, response(&invite, status));
        for _ in 0..2 {
            assert_eq!(rig.hear(UDP, invite.clone()), status.to_string());
        }
    }
    rig.answer(tx, response(&invite, 486));
    rig.machine
        .receive(rig.now, Link::Udp(2), SipMessage::Request(invite.clone()));
    let outs = rig.outs();
    assert!(
        matches!(&outs[..], [Out::Answered(Link::Udp(2), again, _)] if *again == with_length(response(&invite, 486))),
        "{outs:?}"
    );
}

#[test]
fn timer_g_doubles_up_to_t2_until_timer_h_gives_up() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    assert_eq!(rig.answer(tx, response(&invite, 486)), "486");
    assert_eq!(rig.machine.active(), 0);
    let times = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5];
    let copies = times.map(|at| format!("{at} 486, ")).concat();
    assert_eq!(rig.run(), format!("{copies}32 timed out"));
    assert!(rig.machine.is_empty());
}

#[test]
fn the_ack_of_a_refusal_ends_it_and_copies_are_absorbed_for_timer_i() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    let busy = response(&invite, 486);
    rig.answer(tx, busy.clone());
    assert_eq!(rig.hear(UDP, ack_of(&invite, &busy)), "done");
    assert_eq!(rig.hear(UDP, ack_of(&invite, &busy)), "");
    assert_eq!(rig.hear(UDP, invite.clone()), "");
    assert_eq!(rig.hear(UDP, follow(&invite, Method::Cancel)), "200");
    rig.pass(Duration::from_millis(4999));
    assert_eq!(rig.hear(UDP, invite.clone()), "");
    rig.pass(Duration::from_millis(1));
    assert!(rig.machine.is_empty());
    assert_eq!(rig.hear(UDP, invite), "up INVITE");
}

#[test]
fn over_a_connection_a_refusal_is_sent_once_and_timers_h_and_i_are_right() {
    let mut rig = Rig::new();
    let (one, two) = (request(Method::Invite, "1"), request(Method::Invite, "2"));
    for invite in [&one, &two] {
        let tx = rig.served(TCP, invite);
        assert_eq!(rig.answer(tx, response(invite, 603)), "603");
    }
    assert_eq!(rig.hear(TCP, ack_of(&one, &response(&one, 603))), "done");
    assert_eq!(rig.run(), "32 timed out");
    assert!(rig.machine.is_empty());
}

#[test]
fn a_2xx_is_its_users_to_repeat_until_timer_l() {
    for path in [UDP, TCP] {
        let mut rig = Rig::new();
        let invite = request(Method::Invite, "a");
        let tx = rig.served(path, &invite);
        assert_eq!(rig.answer(tx, response(&invite, 200)), "200");
        assert_eq!(rig.hear(path, invite.clone()), "", "RFC 6026 section 7.1");
        rig.pass(T1 * 64 - Duration::from_millis(1));
        for tag in ["bob", "carol"] {
            rig.machine
                .respond(rig.now, tx, tagged(&invite, 200, tag))
                .unwrap();
            let outs = rig.outs();
            let [Out::Answered(to, again, Some(of))] = &outs[..] else {
                panic!("{outs:?}");
            };
            assert_eq!((*to, *of), (path, tx));
            assert_eq!(*again, with_length(tagged(&invite, 200, tag)));
        }
        assert_eq!(rig.pass(Duration::from_millis(1)), "done");
        assert!(rig.machine.is_empty());
        assert!(rig.machine.respond(rig.now, tx, response(&invite, 200)).is_err());
    }
}

#[test]
fn after_a_2xx_there_is_no_other_answer_and_a_2xx_is_given_whole() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    rig.answer(tx, response(&invite, 200));
    let other = rig.ids.mint();
    for (tx, response) in [
        (tx, response(&invite, 180)),
        (tx, response(&invite, 486)),
        (tx, SipResponse::new(200)),
        (tx, without_to(response(&invite, 200))),
        (tx, response(&request(Method::Invite, "b"), 200)),
        (other, response(&invite, 200)),
    ] {
        let refused = rig.machine.respond(rig.now, tx, response).unwrap_err();
        assert_eq!(refused.fault(), Fault::ApiMisuse);
        assert!(refused.next_step().is_some());
    }
    assert_eq!(rig.words(), "");
}

#[test]
fn the_ack_of_a_2xx_goes_up_whatever_its_branch() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    let ok = response(&invite, 200);
    rig.answer(tx, ok.clone());
    assert_eq!(rig.hear(UDP, ack_of_2xx(&invite, &ok)), "up ACK");
    assert_eq!(
        rig.hear(UDP, ack_of_2xx(&invite, &ok)),
        "up ACK",
        "a copy may be another's"
    );
    assert_eq!(rig.hear(UDP, ack_of(&invite, &ok)), "up ACK", "an old client's");
}

#[test]
fn an_ack_before_any_answer_is_absorbed() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    assert_eq!(rig.hear(UDP, ack_of(&invite, &response(&invite, 486))), "");
    assert_eq!(rig.answer(tx, response(&invite, 486)), "486");
}

#[test]
fn another_request_is_over_with_its_answer_and_copies_get_it_again_for_timer_j() {
    let mut rig = Rig::new();
    let bye = request(Method::Bye, "a");
    let tx = rig.served(UDP, &bye);
    assert_eq!(rig.hear(UDP, bye.clone()), "");
    assert_eq!(rig.answer(tx, response(&bye, 200)), "200, done");
    assert_eq!((rig.machine.active(), rig.machine.is_empty()), (0, false));
    assert!(rig.machine.respond(rig.now, tx, response(&bye, 200)).is_err());
    rig.pass(T1 * 64 - Duration::from_millis(1));
    rig.machine
        .receive(rig.now, Link::Udp(2), SipMessage::Request(bye.clone()));
    let outs = rig.outs();
    assert!(
        matches!(&outs[..], [Out::Answered(Link::Udp(2), again, None)] if *again == with_length(response(&bye, 200))),
        "{outs:?}"
    );
    rig.pass(Duration::from_millis(1));
    assert!(rig.machine.is_empty());
    assert_eq!(rig.hear(UDP, bye), "up BYE");
}

#[test]
fn timer_j_is_zero_over_a_connection() {
    let mut rig = Rig::new();
    let bye = request(Method::Bye, "a");
    let tx = rig.served(TCP, &bye);
    assert_eq!(rig.answer(tx, response(&bye, 200)), "200, done");
    assert!(rig.machine.is_empty());
}

/// RFC 4320 section 4.1.
#[test]
fn another_request_gets_a_100_only_when_timer_e_has_reached_t2() {
    for path in [UDP, TCP] {
        let mut rig = Rig::new();
        let message = request(Method::Message, "a");
        rig.served(path, &message);
        assert_eq!(rig.run(), "3.5 100, 32 timed out");
        assert!(rig.machine.is_empty(), "no 408 was sent");
    }
}

/// RFC 4320 section 4.1.
#[test]
fn a_100_to_another_request_is_kept_back_over_udp_and_other_1xx_are_refused() {
    for (path, at_once) in [(UDP, ""), (TCP, "100")] {
        let mut rig = Rig::new();
        let message = request(Method::Message, "a");
        let tx = rig.served(path, &message);
        let refused = rig
            .machine
            .respond(rig.now, tx, response(&message, 183))
            .unwrap_err();
        assert_eq!(refused.fault(), Fault::ApiMisuse);
        assert_eq!(rig.answer(tx, response(&message, 100)), at_once);
        assert_eq!(rig.hear(path, message.clone()), at_once);
        let later = if path == UDP { "3.5 100" } else { "" };
        assert_eq!(rig.run_for(Duration::from_secs(20)), later);
        assert!(rig.answer(tx, response(&message, 200)).starts_with("200, done"));
    }
}

/// RFC 4320 section 4.2.
#[test]
fn a_408_to_another_request_is_not_sent_and_ends_it() {
    let mut rig = Rig::new();
    let message = request(Method::Message, "a");
    let tx = rig.served(UDP, &message);
    assert_eq!(rig.answer(tx, response(&message, 408)), "timed out");
    assert_eq!(rig.hear(UDP, message), "", "a copy begins nothing");
    let invite = request(Method::Invite, "b");
    let tx = rig.served(UDP, &invite);
    assert_eq!(
        rig.answer(tx, response(&invite, 408)),
        "408",
        "an INVITE may time out"
    );
}

#[test]
fn a_cancel_is_answered_200_and_told_once_while_there_is_no_final_answer() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let cancel = follow(&invite, Method::Cancel);
    assert_eq!(rig.hear(UDP, cancel.clone()), "481");
    let tx = rig.served(UDP, &invite);
    rig.machine
        .receive(rig.now, UDP, SipMessage::Request(cancel.clone()));
    let outs = rig.outs();
    let [Out::Answered(UDP, ok, None), Out::Cancelled(of)] = &outs[..] else {
        panic!("{outs:?}");
    };
    assert_eq!(
        (ok.status, ok.headers.value("CSeq"), *of),
        (200, Some("7 CANCEL"), tx)
    );
    assert!(ok.headers.to().unwrap().tag().is_some());
    ok.validate().unwrap();
    assert_eq!(rig.hear(UDP, cancel.clone()), "200");
    assert_eq!(rig.answer(tx, response(&invite, 487)), "487");
    assert_eq!(rig.hear(UDP, cancel.clone()), "200");
    assert_eq!(rig.hear(UDP, ack_of(&invite, &response(&invite, 487))), "done");
    assert_eq!(rig.hear(UDP, cancel), "200");
}

#[test]
fn a_cancel_that_crosses_a_2xx_is_answered_and_not_told() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(UDP, &invite);
    rig.answer(tx, response(&invite, 200));
    assert_eq!(rig.hear(UDP, follow(&invite, Method::Cancel)), "200");
}

#[test]
fn a_cancel_finds_no_request_but_its_invite() {
    let mut rig = Rig::new();
    let options = request(Method::Options, "a");
    rig.served(UDP, &options);
    assert_eq!(rig.hear(UDP, follow(&options, Method::Cancel)), "481");
    let invite = request(Method::Invite, "b");
    rig.served(UDP, &invite);
    let mut elsewhere = follow(&invite, Method::Cancel);
    elsewhere
        .headers
        .set("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKb");
    assert_eq!(rig.hear(UDP, elsewhere), "481");
}

#[test]
fn an_answer_has_the_requests_identity_whatever_its_user_wrote() {
    let mut rig = Rig::new();
    let mut invite = request(Method::Invite, "a");
    invite.headers.push("v", "SIP/2.0/TCP below;branch=z9hG4bKc");
    let tx = rig.served(UDP, &invite);
    let mut odd = SipResponse::new(183);
    for (name, value) in [
        ("Via", "SIP/2.0/UDP evil"),
        ("f", "<sip:evil@example.com>;tag=1"),
        ("CSeq", "9 BYE"),
        ("i", "evil"),
        ("To", "<sip:bob@example.com>;tag=mine"),
        ("X-Order", "1"),
        ("Server", "test"),
        ("x-order", "2"),
    ] {
        odd.headers.push(name, value);
    }
    let bare = SipResponse::new(486).with_body("text/plain", "busy");
    for (given, to) in [
        (odd, "<sip:bob@example.com>;tag=mine"),
        (bare, "<sip:bob@example.com>"),
    ] {
        rig.machine.respond(rig.now, tx, given.clone()).unwrap();
        let outs = rig.outs();
        let [Out::Answered(_, answer, _)] = &outs[..] else {
            panic!("{outs:?}");
        };
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            let theirs: Vec<_> = answer.headers.values(name).collect();
            assert_eq!(theirs, invite.headers.values(name).collect::<Vec<_>>(), "{name}");
        }
        assert_eq!(answer.headers.values("To").collect::<Vec<_>>(), [to]);
        let values = |response: &SipResponse| {
            response
                .headers
                .values("X-Order")
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(values(answer), values(&given));
        assert_eq!(answer.body, given.body);
    }
}

#[test]
fn who_must_not_answer_is_told_so() {
    let mut rig = Rig::new();
    let (invite, asked) = (request(Method::Invite, "a"), request(Method::Options, "b"));
    let client = rig.ask(&asked, UDP);
    rig.words();
    let tx = rig.served(UDP, &invite);
    for status in [0, 99, 700] {
        let mut odd = response(&invite, 200);
        odd.status = status;
        assert_eq!(
            rig.machine.respond(rig.now, tx, odd).unwrap_err().fault(),
            Fault::ApiMisuse
        );
    }
    assert!(
        rig.machine
            .respond(rig.now, client, response(&asked, 200))
            .is_err()
    );
    rig.answer(tx, response(&invite, 486));
    assert!(rig.machine.respond(rig.now, tx, response(&invite, 486)).is_err());
    assert!(rig.machine.respond(rig.now, tx, response(&invite, 200)).is_err());
}

#[test]
fn a_request_that_nobody_could_take_is_refused_and_forgotten() {
    let mut rig = Rig::new();
    for method in [Method::Invite, Method::Options] {
        let asked = request(method.clone(), "a");
        let tx = rig.served(UDP, &asked);
        rig.machine.refuse(rig.now, tx, 503, Some(7));
        let outs = rig.outs();
        let [Out::Answered(UDP, refusal, None)] = &outs[..] else {
            panic!("{outs:?}");
        };
        assert_eq!(
            (refusal.status, refusal.headers.value("Retry-After")),
            (503, Some("7"))
        );
        refusal.validate().unwrap();
        assert!(rig.machine.is_empty());
        assert!(rig.machine.respond(rig.now, tx, response(&asked, 200)).is_err());
        rig.machine.refuse(rig.now, tx, 503, Some(7));
        let ack = ack_of(&asked, refusal);
        assert_eq!(rig.hear(UDP, ack), "", "the ACK is known by its To-tag");
        assert_eq!(
            rig.hear(UDP, asked),
            format!("up {method}"),
            "a copy may be taken"
        );
        rig.machine.end_all("over");
        rig.words();
    }
}

#[test]
fn a_request_is_rejected_without_a_transaction_and_an_ack_is_not() {
    let mut rig = Rig::new();
    let bad = request(Method::Subscribe, "a");
    rig.machine.reject(TCP, &bad, 400, None);
    assert_eq!(rig.words(), "400");
    rig.machine.reject(TCP, &follow(&bad, Method::Ack), 400, None);
    assert_eq!(rig.words(), "");
    assert!(rig.machine.is_empty());
}

#[test]
fn beyond_max_transactions_a_request_is_answered_503_until_one_is_answered() {
    let mut rig = Rig::with(2);
    let (one, two, three) = (
        request(Method::Options, "1"),
        request(Method::Invite, "2"),
        request(Method::Invite, "3"),
    );
    rig.served(UDP, &one);
    let tx = rig.served(UDP, &two);
    rig.machine
        .receive(rig.now, UDP, SipMessage::Request(three.clone()));
    let outs = rig.outs();
    let [Out::Answered(UDP, full, None)] = &outs[..] else {
        panic!("{outs:?}");
    };
    assert_eq!(full.status, 503);
    assert_eq!(
        full.headers.value("Retry-After"),
        Some(RETRY_AFTER.to_string().as_str())
    );
    assert_eq!(rig.hear(UDP, ack_of(&three, full)), "");
    assert_eq!(rig.hear(UDP, one), "", "a copy is no new request");
    rig.answer(tx, response(&two, 486));
    assert_eq!(rig.machine.active(), 1);
    assert_eq!(rig.hear(UDP, three), "up INVITE");
}

#[test]
fn an_old_clients_requests_are_matched_by_rfc_2543s_rules() {
    let mut rig = Rig::new();
    let old = |method: Method, call_id: &str| {
        let mut old = request(method, call_id);
        old.headers.set("Via", "SIP/2.0/UDP 192.0.2.1");
        old
    };
    let (one, two) = (old(Method::Invite, "1"), old(Method::Invite, "2"));
    let first = rig.served(UDP, &one);
    let second = rig.served(UDP, &two);
    assert_eq!(rig.hear(UDP, one.clone()), "");
    assert_eq!(rig.hear(UDP, follow(&two, Method::Cancel)), "200, cancelled");
    rig.answer(second, response(&two, 487));
    assert_eq!(rig.hear(UDP, ack_of(&two, &response(&two, 487))), "done");
    rig.answer(first, response(&one, 200));
    assert_eq!(rig.hear(UDP, ack_of(&one, &response(&one, 200))), "up ACK");
    assert_eq!(rig.answer(first, response(&one, 200)), "200", "given again");
    let bye = old(Method::Bye, "1");
    rig.served(UDP, &bye);
    assert_eq!(rig.hear(UDP, bye), "");
}

#[test]
fn a_request_without_a_readable_via_is_dropped_and_counted() {
    let mut rig = Rig::new();
    let mut bad = request(Method::Options, "a");
    bad.headers.set("Via", "nonsense");
    assert_eq!(rig.hear(UDP, bad.clone()), "");
    bad.headers.remove("Via");
    assert_eq!(rig.hear(UDP, bad.clone()), "");
    bad.method = Method::Ack;
    assert_eq!(rig.hear(UDP, bad), "");
    assert_eq!(rig.machine.strays(), 3);
}

#[test]
fn a_stack_may_talk_with_itself() {
    let mut rig = Rig::new();
    let options = request(Method::Options, "a");
    let asked = rig.ask(&options, UDP);
    rig.words();
    let served = rig.served(UDP, &options);
    rig.machine
        .respond(rig.now, served, response(&options, 200))
        .unwrap();
    let outs = rig.outs();
    let [Out::Answered(_, ok, _), Out::Ended(ended, TxEnd::Done)] = &outs[..] else {
        panic!("{outs:?}");
    };
    assert_eq!(*ended, served);
    rig.machine
        .receive(rig.now, UDP, SipMessage::Response(ok.clone()));
    let outs = rig.outs();
    assert!(matches!(&outs[..], [Out::Response(tx, _), Out::Ended(end, _)] if (*tx, *end) == (asked, asked)));
}

#[test]
fn a_server_transaction_outlives_what_could_not_be_sent() {
    let mut rig = Rig::new();
    let invite = request(Method::Invite, "a");
    let tx = rig.served(TCP, &invite);
    rig.answer(tx, response(&invite, 180));
    rig.machine.failed(tx, "closed");
    rig.machine.path_down(&|_| true, "closed");
    assert_eq!(rig.words(), "");
    assert_eq!(rig.answer(tx, response(&invite, 200)), "200");
}

fn with_length(mut response: SipResponse) -> SipResponse {
    if !response.headers.contains("Content-Length") {
        response.headers.push("Content-Length", response.body.len());
    }
    response
}

fn without_to(mut response: SipResponse) -> SipResponse {
    response.headers.remove("To");
    response
}

//! Reliable provisional answers (RFC 3262), from both ends.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

fn with(reliability: Reliability) -> Bench {
    let mut config = config();
    config.control.reliability = reliability;
    Bench::with(config)
}

/// A reliable 180 of the callee `tag`.
fn ringing(invite: &SipRequest, tag: &str, rseq: &str) -> SipResponse {
    let mut response = response(invite, 180, tag);
    response.headers.push("Require", "100rel");
    response.headers.push("RSeq", rseq);
    response
}

/// Bob's INVITE, which requires that our answers are reliable.
fn required() -> SipRequest {
    let mut invite = peer_invite();
    invite.headers.push("Require", "100rel");
    invite
}

fn incoming(bench: &mut Bench, invite: SipRequest) -> CallId {
    bench.request(invite);
    bench.responded(100);
    bench.event();
    bench.machine.calls().next().unwrap()
}

fn ring(bench: &mut Bench, call: CallId, answer: Option<&str>) -> SipResponse {
    let answer = answer.map(str::to_owned);
    let status = if answer.is_some() { 183 } else { 180 };
    bench.give(Input::Ring(Ring { call, answer })).unwrap();
    bench.responded(status).1
}

fn prack(invite: &SipRequest, ringing: &SipResponse, sequence: u32, rack: &str) -> SipRequest {
    let mut prack = peer_request(invite, ringing, Method::Prack, sequence);
    prack.headers.push("RAck", rack);
    prack
}

#[test]
fn each_reliable_answer_is_acknowledged_once_and_in_order() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    assert!(invite.headers.has_token("Supported", "100rel"));
    assert!(!invite.headers.contains("Require"));
    bench.answer(tx, ringing(&invite, "bob", "9021"));
    let (prack_tx, first) = bench.sent(Method::Prack);
    assert_eq!(first.headers.value("RAck"), Some("9021 1 INVITE"));
    assert_eq!(first.headers.cseq().unwrap().sequence, 2);
    assert_eq!(first.headers.to().unwrap().tag(), Some("bob"));
    assert!(matches!(
        bench.event(),
        DialogEventKind::Ringing { status: 180, .. }
    ));
    bench.answer(prack_tx, response(&first, 200, "bob"));
    // It was lost on its way and comes again; the one after the next comes too early.
    for odd in ["9021", "9023", "1"] {
        bench.answer(tx, ringing(&invite, "bob", odd));
        bench.silent();
    }
    bench.answer(tx, ringing(&invite, "bob", "9022"));
    let (_, second) = bench.sent(Method::Prack);
    assert_eq!(second.headers.value("RAck"), Some("9022 1 INVITE"));
    assert_eq!(second.headers.cseq().unwrap().sequence, 3);
    bench.event();
    // Another fork counts for itself.
    bench.answer(tx, ringing(&invite, "carol", "1"));
    assert_eq!(
        bench.sent(Method::Prack).1.headers.to().unwrap().tag(),
        Some("carol")
    );
    bench.event();
    bench.answer(
        tx,
        response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
    );
    assert_eq!(bench.acked().headers.cseq().unwrap().sequence, 1);
    bench.event();
    let call = bench.machine.calls().next().unwrap();
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    assert_eq!(
        bench.sent(Method::Bye).1.headers.cseq().unwrap().sequence,
        4,
        "after both PRACKs"
    );
}

#[test]
fn a_fork_that_loses_is_hung_up_with_a_number_above_its_prack() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, ringing(&invite, "bob", "1"));
    bench.sent(Method::Prack);
    bench.event();
    bench.answer(
        tx,
        response(&invite, 200, "carol").with_body("application/sdp", ANSWER),
    );
    bench.acked();
    bench.event();
    bench.answer(
        tx,
        response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
    );
    bench.acked();
    assert_eq!(bench.sent(Method::Bye).1.headers.cseq().unwrap().sequence, 3);
}

#[test]
fn a_challenged_prack_goes_out_again_and_a_refused_one_changes_nothing() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, ringing(&invite, "bob", "5"));
    let (prack_tx, first) = bench.sent(Method::Prack);
    bench.event();
    let mut challenge = response(&first, 407, "bob");
    challenge.headers.push(
        "Proxy-Authenticate",
        "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(prack_tx, challenge);
    let (prack_tx, again) = bench.sent(Method::Prack);
    assert_eq!(again.headers.value("RAck"), Some("5 1 INVITE"));
    bench.answer(prack_tx, response(&again, 481, "bob"));
    bench.silent();
    bench.answer(
        tx,
        response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
    );
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
}

#[test]
fn a_number_that_cannot_be_read_is_no_reason_to_lose_the_call() {
    for rseq in ["", "many", "0", "4294967296"] {
        let mut bench = Bench::new();
        let (_, tx, invite) = bench.call();
        bench.answer(tx, ringing(&invite, "bob", rseq));
        assert!(matches!(bench.event(), DialogEventKind::Ringing { .. }), "{rseq}");
        bench.silent();
    }
}

#[test]
fn what_we_require_we_ask_for_and_refuse_callers_without() {
    let mut bench = with(Reliability::Required);
    let (_, tx, invite) = bench.call();
    assert_eq!(invite.headers.value("Require"), Some("100rel"));
    let mut refusal = response(&invite, 420, "bob");
    refusal.headers.push("Unsupported", "100rel");
    bench.answer(tx, refusal);
    assert_eq!(bench.ended().0, Cause::Rejected);
    bench.request(peer_invite());
    assert_eq!(bench.responded(421).1.headers.value("Require"), Some("100rel"));
    bench.silent();
    let mut able = peer_invite();
    able.headers.push("Supported", "100rel");
    let call = incoming(&mut bench, able);
    assert!(
        ring(&mut bench, call, None)
            .headers
            .has_token("Require", "100rel")
    );
}

#[test]
fn who_requires_what_is_switched_off_is_refused() {
    let mut bench = with(Reliability::Off);
    let (_, tx, invite) = bench.call();
    assert!(!invite.headers.has_token("Supported", "100rel"));
    bench.answer(tx, ringing(&invite, "bob", "1"));
    assert!(matches!(bench.event(), DialogEventKind::Ringing { .. }));
    bench.silent();
    bench.request(required());
    assert_eq!(
        bench.responded(420).1.headers.value("Unsupported"),
        Some("100rel")
    );
}

#[test]
fn an_18x_comes_again_until_its_prack_and_not_after() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    let first = ring(&mut bench, call, None);
    let rseq = first.headers.value("RSeq").unwrap().to_owned();
    for wait in [T1, T1 * 2, T1 * 4] {
        bench.pass(wait - Duration::from_millis(1));
        bench.silent();
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.responded(180).1.headers.value("RSeq"), Some(rseq.as_str()));
    }
    // What it does not name is not acknowledged.
    for (sequence, rack, status) in [
        (2, "99 1 INVITE".to_owned(), 481),
        (3, format!("{rseq} 7 INVITE"), 481),
        (4, "nonsense".to_owned(), 400),
        (5, format!("{rseq} 1 INVITE"), 200),
        (6, format!("{rseq} 1 INVITE"), 481),
    ] {
        bench.request(prack(&required(), &first, sequence, &rack));
        bench.responded(status);
    }
    bench.pass(Duration::from_secs(50));
    bench.silent();
    let second = ring(&mut bench, call, None);
    assert_ne!(second.headers.value("RSeq"), Some(rseq.as_str()));
}

#[test]
fn a_second_18x_waits_for_the_prack_of_the_first() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    let first = ring(&mut bench, call, None);
    bench
        .give(Input::Ring(Ring {
            call,
            answer: Some(ANSWER.to_owned()),
        }))
        .unwrap();
    bench.silent();
    bench.request(prack(&required(), &first, 2, "1 1 INVITE"));
    bench.responded(200);
    let (_, second) = bench.responded(183);
    assert_eq!(second.headers.value("RSeq"), Some("2"));
    assert_eq!(second.body, ANSWER);
}

#[test]
fn a_caller_that_never_acknowledges_is_given_up() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    ring(&mut bench, call, None);
    bench.pass(PATIENCE);
    bench.outputs.retain(|output| {
        !matches!(output, siprtc_dialog_manager::machine::Output::Respond { response, .. } if response.status == 180)
    });
    bench.responded(504);
    let (cause, by, status, _) = bench.ended();
    assert_eq!((cause, by, status), (Cause::TimedOut, Side::Local, Some(504)));
    bench.pass(PATIENCE);
    bench.silent();
}

#[test]
fn the_200_waits_for_the_prack_of_an_early_answer_and_for_no_other() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    let first = ring(&mut bench, call, Some(ANSWER));
    let accept = || {
        Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        })
    };
    bench.give(accept()).unwrap();
    bench.silent();
    bench.request(prack(&required(), &first, 2, "1 1 INVITE"));
    assert_eq!(bench.event(), known(None));
    bench.responded(200);
    let (_, ok) = bench.responded(200);
    assert!(ok.body.is_empty() && !ok.headers.contains("Content-Type"));

    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    let first = ring(&mut bench, call, None);
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
    let (_, ok) = bench.responded(200);
    assert_eq!(ok.body, ANSWER);
    // The PRACK crossed with it.
    bench.request(prack(&required(), &first, 2, "1 1 INVITE"));
    bench.responded(200);
    bench.pass(T1 - Duration::from_millis(1));
    bench.silent();
}

/// Our description is acknowledged, by a caller that takes no UPDATE.
fn known(sdp: Option<&str>) -> DialogEventKind {
    DialogEventKind::ProgressConfirmed {
        sdp: sdp.map(str::to_owned),
        takes_offers: false,
    }
}

fn accept(call: CallId, sdp: &str) -> Input {
    let sdp = sdp.to_owned();
    Input::Accept(Accept { call, sdp })
}

/// Bob's INVITE, whose answers may be reliable.
fn able() -> SipRequest {
    let mut invite = peer_invite();
    invite.headers.push("Supported", "100rel");
    invite
}

fn offerless(mut invite: SipRequest) -> SipRequest {
    invite.headers.remove("Content-Type");
    invite.body = bytes::Bytes::new();
    invite
}

#[test]
fn an_answer_in_an_18x_is_acknowledged_by_who_can_and_a_180_is_not() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, able());
    assert!(!ring(&mut bench, call, None).headers.contains("RSeq"));
    let early = ring(&mut bench, call, Some(ANSWER));
    assert!(early.headers.has_token("Require", "100rel"));
    assert!(early.headers.has_token("Allow", "UPDATE"));
    bench.request(prack(&able(), &early, 2, "1 1 INVITE"));
    assert_eq!(bench.event(), known(None));
    bench.responded(200);
    // What a proxy hears every minute says nothing anew.
    bench.pass(Duration::from_secs(60));
    let (_, again) = bench.responded(183);
    assert!(again.body.is_empty() && !again.headers.contains("RSeq"));
    bench.give(accept(call, "another")).unwrap();
    assert!(bench.responded(200).1.body.is_empty());
}

#[test]
fn an_answer_that_nobody_acknowledges_is_said_again_and_no_other() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, peer_invite());
    let early = ring(&mut bench, call, Some(ANSWER));
    assert!(!early.headers.contains("RSeq"));
    let answer = Some("another".to_owned());
    assert!(bench.give(Input::Ring(Ring { call, answer })).is_err());
    assert_eq!(ring(&mut bench, call, Some(ANSWER)).body, ANSWER);
    bench.give(accept(call, "another")).unwrap();
    assert_eq!(bench.responded(200).1.body, ANSWER);
}

#[test]
fn an_offer_in_an_18x_is_answered_in_the_prack() {
    for invite in [able(), required()] {
        let mut bench = Bench::new();
        let call = incoming(&mut bench, offerless(invite.clone()));
        let early = ring(&mut bench, call, Some(OFFER));
        assert_eq!(early.body, OFFER);
        bench.give(accept(call, OFFER)).unwrap();
        bench.silent();
        let answer = prack(&invite, &early, 2, "1 1 INVITE").with_body("application/sdp", ANSWER);
        bench.request(answer);
        assert_eq!(bench.event(), known(Some(ANSWER)));
        bench.responded(200);
        let (_, ok) = bench.responded(200);
        assert!(ok.body.is_empty());
        // Nothing is owed any more: what an ACK says means nothing.
        let ack = peer_request(&invite, &ok, Method::Ack, 1).with_body("application/sdp", ANSWER);
        bench.ack(ack);
        assert_eq!(bench.event(), DialogEventKind::Confirmed { sdp: None });
    }
}

#[test]
fn a_prack_that_owes_an_answer_and_has_none_is_told() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, offerless(able()));
    let early = ring(&mut bench, call, Some(OFFER));
    bench.request(prack(&able(), &early, 2, "1 1 INVITE"));
    assert_eq!(bench.event(), known(None));
    bench.responded(200);
}

#[test]
fn an_18x_that_nobody_acknowledges_offers_nothing() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, offerless(peer_invite()));
    let answer = Some(OFFER.to_owned());
    let error = bench.give(Input::Ring(Ring { call, answer })).unwrap_err();
    assert_eq!(error.fault(), siprtc_core::Fault::PeerIncompatible);
    bench.silent();
    bench.give(accept(call, OFFER)).unwrap();
    assert_eq!(bench.responded(200).1.body, OFFER);
}

#[test]
fn an_offer_in_the_prack_that_our_200_waits_for_is_refused() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    let early = ring(&mut bench, call, Some(ANSWER));
    bench.give(accept(call, ANSWER)).unwrap();
    let offer = prack(&required(), &early, 2, "1 1 INVITE").with_body("application/sdp", OFFER);
    bench.request(offer);
    assert_eq!(bench.event(), known(None));
    bench.responded(488);
    assert_eq!(
        bench.responded(200).1.headers.cseq().unwrap().method,
        Method::Invite
    );
}

#[test]
fn an_offer_in_a_prack_is_not_taken_and_the_18x_is_acknowledged() {
    let mut bench = Bench::new();
    let call = incoming(&mut bench, required());
    let first = ring(&mut bench, call, None);
    let offer = prack(&required(), &first, 2, "1 1 INVITE").with_body("application/sdp", OFFER);
    bench.request(offer);
    bench.responded(488);
    bench.pass(Duration::from_secs(30));
    bench.silent();
}

#[test]
fn an_invite_without_an_offer_hears_no_reliable_180() {
    let mut bench = Bench::new();
    let mut invite = required();
    invite.headers.remove("Content-Type");
    invite.body = bytes::Bytes::new();
    let call = incoming(&mut bench, invite);
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    bench.silent();
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: OFFER.to_owned(),
        }))
        .unwrap();
    assert_eq!(bench.responded(200).1.body, OFFER);
}

/// Over UDP, through a proxy, an INFO with candidates overtook the PRACK that went before it, which was answered 500.
#[test]
fn an_info_waits_for_the_answer_to_the_prack_before_it() {
    let lost = |bench: &mut Bench, tx, _: &SipRequest| bench.tx_ended(tx, TxEnd::TimedOut);
    let answered = |bench: &mut Bench, tx, prack: &SipRequest| bench.answer(tx, response(prack, 200, "bob"));
    let ends: [fn(&mut Bench, TxId, &SipRequest); 2] = [answered, lost];
    for end in ends {
        let mut bench = Bench::with(DialogConfig {
            trickle_ice: true,
            ..config()
        });
        let (call, tx, invite) = bench.call();
        let mut first = ringing(&invite, "bob", "1");
        first.headers.push("Supported", "trickle-ice");
        bench.answer(tx, first);
        let (prack_tx, prack) = bench.sent(Method::Prack);
        bench.supports("bob");
        assert!(matches!(bench.event(), DialogEventKind::Ringing { .. }));
        let info = crate::trickle::trickle(call, "a=ice-ufrag:u");
        bench.give(Input::SendInfo(info)).unwrap();
        bench.silent();
        end(&mut bench, prack_tx, &prack);
        let (_, info) = bench.sent(Method::Info);
        assert_eq!(info.headers.cseq().unwrap().sequence, 3);
        bench.silent();
    }
}

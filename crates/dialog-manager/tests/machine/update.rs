//! Offers in UPDATE (RFC 3311) and PRACK (RFC 3262 section 5), in both directions, after and before the call is answered.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

const SDP: &str = "application/sdp";

/// Whether our offers go by UPDATE where the peer takes them.
fn bench(reoffer: Reoffer) -> Bench {
    let mut config = config();
    config.control.reoffer = reoffer;
    Bench::with(config)
}

/// Bob answered, who takes UPDATE.
fn established(bench: &mut Bench) -> (CallId, SipRequest) {
    let (call, tx, invite) = bench.call();
    let mut ok = response(&invite, 200, "bob").with_body(SDP, ANSWER);
    ok.headers.push("Allow", "INVITE, ACK, BYE, UPDATE");
    bench.answer(tx, ok);
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    (call, invite)
}

fn offer(bench: &mut Bench, call: CallId, early: Option<&str>) {
    let early = early.map(|tag| DialogTag(tag.to_owned()));
    let offer = OFFER.to_owned();
    bench
        .give(Input::Reinvite(Reinvite { call, offer, early }))
        .unwrap();
}

fn answer() -> Option<String> {
    Some(ANSWER.to_owned())
}

fn accept(bench: &mut Bench, call: CallId) {
    let sdp = ANSWER.to_owned();
    bench.give(Input::AcceptOffer(AcceptOffer { call, sdp })).unwrap();
}

fn offered(tag: &str) -> DialogEventKind {
    DialogEventKind::Offered {
        dialog: DialogTag(tag.to_owned()),
        sdp: Some(OFFER.to_owned()),
    }
}

#[test]
fn an_offer_goes_by_update_where_it_is_wanted_and_taken() {
    for (wanted, taken, method) in [
        (Reoffer::Update, true, Method::Update),
        (Reoffer::Invite, true, Method::Invite),
        (Reoffer::Update, false, Method::Invite),
    ] {
        let mut bench = bench(wanted);
        let (call, _) = match taken {
            true => established(&mut bench),
            false => bench.established(),
        };
        offer(&mut bench, call, None);
        let (tx, request) = bench.sent(method.clone());
        assert_eq!(
            (&request.body[..], request.headers.contains("Contact")),
            (OFFER.as_bytes(), true)
        );
        let mut ok = response(&request, 200, "bob").with_body(SDP, ANSWER);
        ok.headers.set("Contact", "<sip:bob@192.0.2.99>");
        bench.answer(tx, ok);
        if method == Method::Invite {
            bench.acked();
        }
        assert_eq!(bench.event(), DialogEventKind::OfferAnswered { sdp: answer() });
        bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
        assert_eq!(bench.sent(Method::Bye).1.uri.to_string(), "sip:bob@192.0.2.99");
    }
}

#[test]
fn a_peer_that_takes_no_update_after_all_gets_the_same_offer_in_a_reinvite() {
    for (status, next) in [
        (405, Method::Invite),
        (501, Method::Invite),
        // It has to ask a person, this time.
        (504, Method::Update),
    ] {
        let mut bench = bench(Reoffer::Update);
        let (call, _) = established(&mut bench);
        offer(&mut bench, call, None);
        let (tx, update) = bench.sent(Method::Update);
        bench.answer(tx, response(&update, status, "bob"));
        let (tx, invite) = bench.sent(Method::Invite);
        assert_eq!(invite.body, update.body, "{status}");
        bench.answer(tx, response(&invite, 200, "bob").with_body(SDP, ANSWER));
        bench.acked();
        assert_eq!(bench.event(), DialogEventKind::OfferAnswered { sdp: answer() });
        offer(&mut bench, call, None);
        bench.sent(next);
    }
}

#[test]
fn an_update_that_meets_another_one_goes_out_again_when_it_may() {
    let waits = [
        (491, None, 4_000),
        (500, Some("3"), 3_000),
        (500, Some("900"), 10_000),
    ];
    for (status, wait, latest) in waits {
        let mut bench = bench(Reoffer::Update);
        let (call, _) = established(&mut bench);
        offer(&mut bench, call, None);
        for _ in 0..5 {
            let (tx, update) = bench.sent(Method::Update);
            let mut refusal = response(&update, status, "bob");
            wait.into_iter()
                .for_each(|wait| refusal.headers.push("Retry-After", wait));
            bench.answer(tx, refusal);
            bench.silent();
            bench.pass(Duration::from_millis(latest));
        }
        let (tx, update) = bench.sent(Method::Update);
        let mut refusal = response(&update, status, "bob");
        wait.into_iter()
            .for_each(|wait| refusal.headers.push("Retry-After", wait));
        bench.answer(tx, refusal);
        assert_eq!(bench.event(), DialogEventKind::OfferRejected { status });
        bench.pass(Duration::from_secs(60));
        bench.silent();
    }
}

#[test]
fn what_an_update_is_refused_with_leaves_the_session_or_ends_it() {
    for status in [400, 488, 500, 603] {
        let mut bench = bench(Reoffer::Update);
        let (call, _) = established(&mut bench);
        offer(&mut bench, call, None);
        let (tx, update) = bench.sent(Method::Update);
        bench.answer(tx, response(&update, status, "bob"));
        assert_eq!(bench.event(), DialogEventKind::OfferRejected { status });
        offer(&mut bench, call, None);
        bench.sent(Method::Update);
    }
    for status in [408, 481] {
        let mut bench = bench(Reoffer::Update);
        let (call, _) = established(&mut bench);
        offer(&mut bench, call, None);
        let (tx, update) = bench.sent(Method::Update);
        bench.answer(tx, response(&update, status, "bob"));
        let (cause, by, said, _) = bench.ended();
        assert_eq!((cause, by, said), (Cause::TimedOut, Side::Remote, Some(status)));
        bench.sent(Method::Bye);
    }
}

/// Bob's 183 with an answer that is to be acknowledged, and a place for UPDATEs.
fn early_answer(bench: &mut Bench, tx: TxId, invite: &SipRequest, tag: &str) -> (TxId, SipRequest) {
    let mut early = response(invite, 183, tag).with_body(SDP, ANSWER);
    early.headers.push("Require", "100rel");
    early.headers.push("RSeq", "1");
    early.headers.push("Allow", "INVITE, ACK, BYE, PRACK, UPDATE");
    bench.answer(tx, early);
    let prack = bench.sent(Method::Prack);
    let DialogEventKind::Ringing {
        takes_offers, sdp, ..
    } = bench.event()
    else {
        panic!("it rings");
    };
    assert!(takes_offers && sdp.is_some());
    prack
}

/// As [`early_answer`], and its PRACK is answered.
fn agreed(bench: &mut Bench, tag: &str) -> (CallId, TxId, SipRequest) {
    let (call, tx, invite) = bench.call();
    let (prack_tx, prack) = early_answer(bench, tx, &invite, tag);
    bench.answer(prack_tx, response(&prack, 200, tag));
    (call, tx, invite)
}

#[test]
fn an_early_dialog_takes_our_update_once_its_answer_is_acknowledged() {
    let mut bench = bench(Reoffer::Invite);
    let (call, tx, invite) = bench.call();
    let refused = |bench: &mut Bench| {
        let (early, offer) = (Some(DialogTag("bob".to_owned())), OFFER.to_owned());
        bench
            .give(Input::Reinvite(Reinvite { call, offer, early }))
            .is_err()
    };
    assert!(refused(&mut bench));
    let (prack_tx, prack) = early_answer(&mut bench, tx, &invite, "bob");
    offer(&mut bench, call, Some("bob"));
    assert!(refused(&mut bench), "one at a time");
    bench.silent(); // It would overtake the PRACK.
    bench.answer(prack_tx, response(&prack, 200, "bob"));
    let (update_tx, update) = bench.sent(Method::Update);
    assert_eq!(update.headers.cseq().unwrap().sequence, 3);
    assert!(!update.headers.contains("Session-Expires"));
    bench.answer(update_tx, response(&update, 200, "bob").with_body(SDP, ANSWER));
    assert_eq!(bench.event(), DialogEventKind::OfferAnswered { sdp: answer() });
    // Its refusal costs nobody the call.
    for status in [481, 408, 405] {
        offer(&mut bench, call, Some("bob"));
        let (tx, update) = bench.sent(Method::Update);
        bench.answer(tx, response(&update, status, "bob"));
        assert_eq!(bench.event(), DialogEventKind::OfferRejected { status });
    }
    // The INVITE's own patience goes on.
    bench.answer(tx, response(&invite, 200, "bob"));
    assert_eq!(bench.acked().headers.cseq().unwrap().sequence, 1);
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    offer(&mut bench, call, None);
    assert!(bench.sent(Method::Invite).1.headers.cseq().unwrap().sequence > 6);
}

#[test]
fn an_update_that_is_out_when_the_call_is_answered_is_answered_in_the_call() {
    let mut bench = bench(Reoffer::Invite);
    let (call, tx, invite) = agreed(&mut bench, "bob");
    offer(&mut bench, call, Some("bob"));
    let (update_tx, update) = bench.sent(Method::Update);
    bench.answer(tx, response(&invite, 200, "bob"));
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    bench.answer(update_tx, response(&update, 200, "bob").with_body(SDP, ANSWER));
    assert_eq!(bench.event(), DialogEventKind::OfferAnswered { sdp: answer() });
}

#[test]
fn the_peers_update_is_answered_in_the_early_dialog_once_ours_is_answered() {
    let mut bench = bench(Reoffer::Invite);
    let (call, tx, invite) = bench.call();
    // An answer that nobody acknowledges is none yet (RFC 6337 section 2.2).
    let unreliable = response(&invite, 183, "bob").with_body(SDP, ANSWER);
    bench.answer(tx, unreliable);
    bench.event();
    let update = |sequence| callee_request(&invite, "bob", Method::Update, sequence).with_body(SDP, OFFER);
    bench.request(update(1));
    bench.responded(491);
    let (prack_tx, prack) = early_answer(&mut bench, tx, &invite, "bob");
    bench.answer(prack_tx, response(&prack, 200, "bob"));
    bench.request(update(2));
    assert_eq!(bench.event(), offered("bob"));
    // RFC 3311 section 5.2.
    bench.request(update(3));
    assert!(bench.responded(500).1.headers.contains("Retry-After"));
    accept(&mut bench, call);
    let (_, ok) = bench.responded(200);
    assert_eq!(&ok.body[..], ANSWER.as_bytes());
    assert!(ok.headers.contains("Contact"));
    assert_eq!(bench.event(), DialogEventKind::OfferConfirmed { sdp: None });
    offer(&mut bench, call, Some("bob"));
    bench.sent(Method::Update);
    bench.request(update(4));
    bench.responded(491);
    // A re-INVITE has no place before the answer.
    bench.request(callee_request(&invite, "bob", Method::Invite, 5).with_body(SDP, OFFER));
    bench.responded(491);
}

#[test]
fn what_waits_in_a_fork_that_goes_or_loses_is_answered() {
    let mut bench = bench(Reoffer::Invite);
    let (call, tx, invite) = agreed(&mut bench, "bob");
    let update = callee_request(&invite, "bob", Method::Update, 1).with_body(SDP, OFFER);
    bench.request(update.clone());
    bench.event();
    bench.request(callee_request(&invite, "bob", Method::Bye, 2));
    bench.responded(200);
    bench.responded(487);
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 487 });
    assert!(
        bench
            .give(Input::AcceptOffer(AcceptOffer {
                call,
                sdp: ANSWER.to_owned()
            }))
            .is_err()
    );
    let (prack_tx, prack) = early_answer(&mut bench, tx, &invite, "carol");
    bench.answer(prack_tx, response(&prack, 200, "carol"));
    bench.request(callee_request(&invite, "carol", Method::Update, 1).with_body(SDP, OFFER));
    assert_eq!(bench.event(), offered("carol"));
    bench.answer(tx, response(&invite, 200, "dave").with_body(SDP, ANSWER));
    bench.acked();
    bench.responded(481);
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    offer(&mut bench, call, None);
    bench.sent(Method::Invite);
}

#[test]
fn our_offer_is_forgotten_with_the_fork_that_has_it() {
    let mut bench = bench(Reoffer::Invite);
    let (call, tx, invite) = agreed(&mut bench, "bob");
    offer(&mut bench, call, Some("bob"));
    let (update_tx, update) = bench.sent(Method::Update);
    bench.answer(tx, response(&invite, 200, "dave").with_body(SDP, ANSWER));
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    bench.answer(update_tx, response(&update, 481, "bob"));
    bench.silent();
    offer(&mut bench, call, None);
    bench.sent(Method::Invite);
}

/// Bob calls, and his early answer of ours waits for its PRACK.
fn answered_early(bench: &mut Bench) -> (CallId, SipRequest, SipResponse) {
    let mut invite = peer_invite();
    invite.headers.push("Require", "100rel");
    invite.headers.push("Allow", "INVITE, ACK, BYE, PRACK, UPDATE");
    bench.request(invite.clone());
    bench.responded(100);
    bench.event();
    let call = bench.machine.calls().next().unwrap();
    let answer = answer();
    bench.give(Input::Ring(Ring { call, answer })).unwrap();
    let (_, early) = bench.responded(183);
    (call, invite, early)
}

/// Our early answer is acknowledged.
fn known() -> DialogEventKind {
    DialogEventKind::ProgressConfirmed {
        sdp: None,
        takes_offers: true,
    }
}

fn prack(invite: &SipRequest, early: &SipResponse, sequence: u32) -> SipRequest {
    let mut prack = peer_request(invite, early, Method::Prack, sequence);
    let rseq = early.headers.value("RSeq").unwrap();
    prack.headers.push("RAck", format!("{rseq} 1 INVITE"));
    prack
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_200_and_ours_to_the_invite_waits() {
    let mut bench = bench(Reoffer::Invite);
    let (call, invite, early) = answered_early(&mut bench);
    bench.request(prack(&invite, &early, 2).with_body(SDP, OFFER));
    assert_eq!(bench.event(), known());
    assert_eq!(bench.event(), offered("b"));
    let sdp = ANSWER.to_owned();
    bench.give(Input::Accept(Accept { call, sdp })).unwrap();
    bench.silent();
    accept(&mut bench, call);
    let (_, ok) = bench.responded(200);
    assert_eq!(
        (ok.headers.cseq().unwrap().method, &ok.body[..]),
        (Method::Prack, ANSWER.as_bytes())
    );
    assert_eq!(bench.event(), DialogEventKind::OfferConfirmed { sdp: None });
    assert_eq!(
        bench.responded(200).1.headers.cseq().unwrap().method,
        Method::Invite
    );
}

#[test]
fn an_offer_in_a_prack_that_is_refused_or_forgotten_leaves_the_first_answer() {
    for waits in [false, true] {
        let mut bench = bench(Reoffer::Invite);
        let (call, invite, early) = answered_early(&mut bench);
        bench.request(prack(&invite, &early, 2).with_body(SDP, OFFER));
        assert_eq!(bench.event(), known());
        assert_eq!(bench.event(), offered("b"));
        match waits {
            true => bench.pass(PATIENCE / 2),
            false => bench
                .give(Input::RejectOffer(RejectOffer { call, status: 603 }))
                .unwrap(),
        }
        bench.responded(488);
        if waits {
            assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 500 });
        }
        let sdp = ANSWER.to_owned();
        bench.give(Input::Accept(Accept { call, sdp })).unwrap();
        bench.responded(200);
    }
}

#[test]
fn a_caller_may_update_once_it_has_acknowledged_our_early_answer_and_so_may_we() {
    let mut bench = bench(Reoffer::Invite);
    let (call, invite, early) = answered_early(&mut bench);
    let update = |sequence| peer_request(&invite, &early, Method::Update, sequence).with_body(SDP, OFFER);
    bench.request(update(2));
    assert!(bench.responded(500).1.headers.contains("Retry-After"));
    bench.request(prack(&invite, &early, 3));
    assert_eq!(bench.event(), known());
    bench.responded(200);
    bench.request(update(4));
    assert_eq!(bench.event(), offered("b"));
    accept(&mut bench, call);
    bench.responded(200);
    assert_eq!(bench.event(), DialogEventKind::OfferConfirmed { sdp: None });
    offer(&mut bench, call, None);
    let (tx, ours) = bench.sent(Method::Update);
    bench.answer(tx, response(&ours, 200, "b").with_body(SDP, ANSWER));
    assert_eq!(bench.event(), DialogEventKind::OfferAnswered { sdp: answer() });
    // The caller gives up: nothing of it is left.
    bench.request(update(5));
    bench.event();
    bench.request(peer_request(&invite, &early, Method::Bye, 6));
    bench.responded(200);
    let answers = [bench.responded(487).1, bench.responded(487).1];
    let methods = answers.map(|answer| answer.headers.cseq().unwrap().method);
    assert!(methods.contains(&Method::Invite) && methods.contains(&Method::Update));
    assert_eq!(bench.ended().0, Cause::Cancelled);
}

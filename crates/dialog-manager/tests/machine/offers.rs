//! Offers within an established dialog: re-INVITE and UPDATE, in both directions.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

const SDP: &str = "application/sdp";

fn reinvite(bench: &mut Bench, call: CallId) -> (TxId, SipRequest) {
    bench
        .give(Input::Reinvite(Reinvite {
            call,
            offer: OFFER.to_owned(),
            early: None,
        }))
        .unwrap();
    bench.sent(Method::Invite)
}

fn accept(bench: &mut Bench, call: CallId) {
    bench
        .give(Input::AcceptOffer(AcceptOffer {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
}

/// Bob, whom we called, offers anew.
fn bob_offers(bench: &mut Bench, invite: &SipRequest, method: Method, sequence: u32) -> TxId {
    bench.request(callee_request(invite, "bob", method, sequence).with_body(SDP, OFFER))
}

fn offered() -> DialogEventKind {
    offered_by("bob")
}

fn offered_by(tag: &str) -> DialogEventKind {
    DialogEventKind::Offered {
        dialog: DialogTag(tag.to_owned()),
        sdp: Some(OFFER.to_owned()),
    }
}

#[test]
fn our_reinvite_is_answered_and_acknowledged_and_moves_the_target() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    assert_eq!(request.headers.cseq().unwrap().to_string(), "2 INVITE");
    assert_eq!(request.headers.to().unwrap().tag(), Some("bob"));
    assert!(request.headers.contains("Contact"));
    bench.answer(tx, response(&request, 100, ""));
    bench.silent();
    let mut ok = response(&request, 200, "bob").with_body(SDP, ANSWER);
    ok.headers.set("Contact", "<sip:bob@192.0.2.99>");
    bench.answer(tx, ok.clone());
    let ack = bench.acked();
    assert_eq!(ack.uri.to_string(), "sip:bob@192.0.2.99");
    assert_eq!(ack.headers.cseq().unwrap().to_string(), "2 ACK");
    assert_eq!(
        bench.event(),
        DialogEventKind::OfferAnswered {
            sdp: Some(ANSWER.to_owned())
        }
    );
    bench.answer(tx, ok);
    assert_eq!(bench.acked(), ack);
    bench.silent();
}

#[test]
fn a_refused_reinvite_leaves_the_call_as_it_was() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    bench.answer(tx, response(&request, 488, "bob"));
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 488 });
    let (tx, request) = reinvite(&mut bench, call);
    bench.answer(tx, response(&request, 200, "bob").with_body(SDP, ANSWER));
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::OfferAnswered { .. }));
}

#[test]
fn a_reinvite_answered_408_or_481_or_not_at_all_ends_the_call() {
    for (status, cause) in [(408, Cause::TimedOut), (481, Cause::Rejected)] {
        let mut bench = Bench::new();
        let (call, _) = bench.established();
        let (tx, request) = reinvite(&mut bench, call);
        bench.answer(tx, response(&request, status, "bob"));
        let ended = bench.ended();
        assert_eq!((ended.0, ended.1, ended.2), (cause, Side::Remote, Some(status)));
        bench.sent(Method::Bye);
    }
    let ends = [
        (TxEnd::TimedOut, Cause::TimedOut),
        (TxEnd::Transport("gone".to_owned()), Cause::ConnectionFailed),
    ];
    for (end, cause) in ends {
        let mut bench = Bench::new();
        let (call, _) = bench.established();
        let (tx, _) = reinvite(&mut bench, call);
        bench.tx_ended(tx, end);
        assert_eq!(bench.ended().0, cause);
        bench.sent(Method::Bye);
    }
}

#[test]
fn a_challenged_reinvite_is_sent_again_with_credentials() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    let mut challenge = response(&request, 407, "bob");
    challenge.headers.push(
        "Proxy-Authenticate",
        "Digest realm=\"p\", nonce=\"n\", qop=\"auth\"",
    );
    bench.answer(tx, challenge);
    let (tx, again) = bench.sent(Method::Invite);
    assert_eq!(again.headers.cseq().unwrap().sequence, 3);
    bench.answer(tx, response(&again, 200, "bob").with_body(SDP, ANSWER));
    assert!(bench.acked().headers.contains("Proxy-Authorization"));
    assert!(matches!(bench.event(), DialogEventKind::OfferAnswered { .. }));
}

#[test]
fn after_glare_the_owner_of_the_call_id_waits_longer_and_tries_again() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    bench.answer(tx, response(&request, 491, "bob"));
    bench.pass(Duration::from_millis(2_099));
    bench.silent();
    bench.pass(Duration::from_millis(1_901));
    let (_, again) = bench.sent(Method::Invite);
    assert_eq!(again.headers.cseq().unwrap().sequence, 3);
    assert_eq!(again.body, OFFER);

    let mut bench = Bench::new();
    let (call, ..) = bench.accepted();
    let (tx, request) = reinvite(&mut bench, call);
    bench.answer(tx, response(&request, 491, "b"));
    bench.pass(Duration::from_secs(2));
    bench.sent(Method::Invite);
}

#[test]
fn glare_without_end_is_given_up() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (mut tx, mut request) = reinvite(&mut bench, call);
    for _ in 0..5 {
        bench.answer(tx, response(&request, 491, "bob"));
        bench.pass(Duration::from_secs(4));
        (tx, request) = bench.sent(Method::Invite);
    }
    bench.answer(tx, response(&request, 491, "bob"));
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 491 });
}

#[test]
fn the_peers_offer_goes_first_while_ours_waits_after_glare() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    bench.answer(tx, response(&request, 491, "bob"));
    bob_offers(&mut bench, &invite, Method::Invite, 1);
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 491 });
    bench.responded(100);
    assert_eq!(bench.event(), offered());
    accept(&mut bench, call);
    bench.responded(200);
}

#[test]
fn an_offer_that_meets_ours_is_answered_491() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    reinvite(&mut bench, call);
    bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(491);
    bob_offers(&mut bench, &invite, Method::Update, 2);
    bench.responded(491);
    bench.silent();
}

#[test]
fn the_peers_reinvite_is_told_accepted_and_confirmed() {
    let mut bench = Bench::new();
    let (call, invite, ok) = bench.accepted();
    let mut request = peer_request(&invite, &ok, Method::Invite, 2).with_body(SDP, OFFER);
    request.headers.set("Contact", "<sip:bob@192.0.2.99>");
    let tx = bench.request(request);
    assert_eq!(bench.responded(100).0, tx);
    assert_eq!(bench.event(), offered_by("b"));
    accept(&mut bench, call);
    let (_, accepted) = bench.responded(200);
    assert_eq!(accepted.body, ANSWER);
    bench.pass(T1);
    bench.responded(200);
    bench.ack(peer_request(&invite, &ok, Method::Ack, 2));
    assert_eq!(bench.event(), DialogEventKind::OfferConfirmed { sdp: None });
    bench.pass(PATIENCE * 2);
    bench.silent();
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    assert_eq!(bench.sent(Method::Bye).1.uri.to_string(), "sip:bob@192.0.2.99");
}

#[test]
fn an_offerless_reinvite_asks_for_our_offer() {
    let mut bench = Bench::new();
    let (call, invite, ok) = bench.accepted();
    bench.request(peer_request(&invite, &ok, Method::Invite, 2));
    bench.responded(100);
    assert!(matches!(
        bench.event(),
        DialogEventKind::Offered { sdp: None, .. }
    ));
    bench
        .give(Input::AcceptOffer(AcceptOffer {
            call,
            sdp: OFFER.to_owned(),
        }))
        .unwrap();
    bench.responded(200);
    bench.ack(peer_request(&invite, &ok, Method::Ack, 2).with_body(SDP, ANSWER));
    assert_eq!(
        bench.event(),
        DialogEventKind::OfferConfirmed {
            sdp: Some(ANSWER.to_owned())
        }
    );
}

#[test]
fn a_rejected_offer_of_the_peer_leaves_the_call_as_it_was() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let tx = bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    bench
        .give(Input::RejectOffer(RejectOffer { call, status: 488 }))
        .unwrap();
    assert_eq!(bench.responded(488).0, tx);
    assert!(
        bench
            .give(Input::AcceptOffer(AcceptOffer {
                call,
                sdp: ANSWER.to_owned()
            }))
            .is_err()
    );
    bob_offers(&mut bench, &invite, Method::Invite, 2);
    bench.responded(100);
    assert_eq!(bench.event(), offered());
}

#[test]
fn a_second_offer_of_the_peer_is_answered_500_with_retry_after() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    bob_offers(&mut bench, &invite, Method::Invite, 2);
    assert!(bench.responded(500).1.headers.contains("Retry-After"));
    bench.silent();
}

#[test]
fn no_reinvite_of_ours_while_another_exchange_is_under_way() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let ours = || {
        Input::Reinvite(Reinvite {
            call,
            offer: OFFER.to_owned(),
            early: None,
        })
    };
    bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    assert!(bench.give(ours()).is_err());
    accept(&mut bench, call);
    bench.responded(200);
    assert!(bench.give(ours()).is_err());
    bench.ack(callee_request(&invite, "bob", Method::Ack, 1));
    assert_eq!(bench.event(), DialogEventKind::OfferConfirmed { sdp: None });
    bench.give(ours()).unwrap();
    assert!(bench.give(ours()).is_err());
}

#[test]
fn a_withdrawn_offer_of_the_peer_is_told() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let tx = bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    bench.stack(StackEvent::Cancelled { invite: tx });
    bench.responded(487);
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 487 });
}

#[test]
fn an_offer_that_our_user_leaves_lying_is_answered_for_it() {
    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    bob_offers(&mut bench, &invite, Method::Update, 1);
    assert_eq!(bench.event(), offered());
    bench.pass(PATIENCE / 2);
    bench.responded(500);
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 500 });
}

#[test]
fn an_update_with_an_offer_is_confirmed_by_its_200() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let tx = bob_offers(&mut bench, &invite, Method::Update, 1);
    assert_eq!(bench.event(), offered());
    accept(&mut bench, call);
    let (answered, ok) = bench.responded(200);
    assert_eq!((answered, ok.body), (tx, ANSWER.into()));
    assert_eq!(bench.event(), DialogEventKind::OfferConfirmed { sdp: None });
    bench.pass(PATIENCE * 2);
    bench.silent();
}

#[test]
fn an_offer_before_the_call_is_answered_is_refused() {
    let mut bench = Bench::new();
    let (call, _, invite) = bench.incoming();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    let (_, ringing) = bench.responded(180);
    for (sequence, method) in [(2, Method::Invite), (3, Method::Update)] {
        bench.request(peer_request(&invite, &ringing, method, sequence).with_body(SDP, OFFER));
        assert!(bench.responded(500).1.headers.contains("Retry-After"));
    }
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.event();
    bob_offers(&mut bench, &invite, Method::Update, 1);
    bench.responded(491);
    bench.silent();
}

#[test]
fn a_reinvite_whose_200_is_never_acknowledged_ends_the_call() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    accept(&mut bench, call);
    bench.pass(PATIENCE);
    for _ in 0..11 {
        bench.responded(200);
    }
    assert_eq!(bench.ended().0, Cause::TimedOut);
    bench.sent(Method::Bye);
}

#[test]
fn a_bye_while_an_offer_is_pending_answers_the_offer_487() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    let offer = bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    assert_eq!(bench.responded(487).0, offer);
    bench.sent(Method::Bye);

    let mut bench = Bench::new();
    let (_, invite) = bench.established();
    let offer = bob_offers(&mut bench, &invite, Method::Invite, 1);
    bench.responded(100);
    bench.event();
    bench.request(callee_request(&invite, "bob", Method::Bye, 2));
    bench.responded(200);
    assert_eq!(bench.responded(487).0, offer);
    assert_eq!(bench.ended().0, Cause::Bye);
}

#[test]
fn a_reinvite_that_rings_too_long_is_cancelled_and_the_call_goes_on() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    bench.answer(tx, response(&request, 100, ""));
    bench.pass(Duration::from_secs(180));
    assert_eq!(bench.cancelled().0, tx);
    bench.answer(tx, response(&request, 487, "bob"));
    assert_eq!(bench.event(), DialogEventKind::OfferRejected { status: 487 });
    bench.pass(PATIENCE * 2);
    bench.silent();
}

#[test]
fn a_reinvite_accepted_after_our_bye_is_still_acknowledged() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (tx, request) = reinvite(&mut bench, call);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye);
    bench.answer(tx, response(&request, 200, "bob"));
    assert_eq!(bench.acked().headers.cseq().unwrap().sequence, 2);
    bench.silent();
}

//! Offers in an early dialog whose answer is acknowledged (RFC 3311): the peer's, and ours.

use crate::bench::*;
use siprtc_core::Fault;
use siprtc_dialog_manager::DialogEventKind as K;
use siprtc_gateway::machine::{Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};

/// Rings at two forks, the first of which has answered early and takes offers.
fn early() -> Bench {
    let mut bench = Bench::dialled();
    bench.settled("bob", "theirs-1");
    bench.step(Step::AnswerApplied);
    bench.ringing("carol", 180, None);
    assert_eq!(bench.state(), (Sip::Early, Jsep::Stable));
    bench
}

#[test]
fn the_peers_offer_is_answered_before_the_call_is() {
    let mut bench = early();
    assert_eq!(bench.offered_in("bob", Some("theirs-2")), ["answer theirs-2"]);
    assert_eq!(bench.ringing("bob", 180, None), ["Progress 180"]);
    assert_eq!(bench.answer_made(), ["200 re ours-2"]);
    assert_eq!(bench.dialog(K::OfferConfirmed { sdp: None }), NOBODY);
    assert_eq!(bench.answered("bob", None), ["Accepted", "Confirmed"]);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn the_call_may_be_answered_while_we_answer_an_update() {
    let mut bench = early();
    bench.offered_in("bob", Some("theirs-2"));
    assert_eq!(bench.answered("bob", None), ["Accepted", "Confirmed"]);
    assert_eq!(bench.answer_made(), ["200 re ours-2"]);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn another_fork_that_answers_takes_everything_back() {
    for deed in [0, 1, 2] {
        let mut bench = early();
        match deed {
            0 => drop(bench.offered_in("bob", Some("theirs-2"))),
            1 => drop(bench.on(Input::Hold(true))),
            _ => {
                bench.on(Input::Hold(true));
                bench.offer_made();
            }
        }
        assert_eq!(
            bench.answered("carol", Some("theirs-3")),
            ["Accepted", "replace", "offer"]
        );
        let offered = bench.offer_made();
        assert!(offered[0].starts_with("re-INVITE"), "{offered:?}");
    }
}

#[test]
fn an_offer_of_a_fork_that_is_not_heard_is_refused() {
    let mut bench = early();
    assert_eq!(bench.offered_in("carol", Some("theirs-2")), ["488 re"]);
    assert_eq!(bench.state(), (Sip::Early, Jsep::Stable));
    assert_eq!(bench.offered_in("bob", Some("theirs-2")), ["answer theirs-2"]);
}

#[test]
fn an_offer_that_cannot_be_answered_leaves_the_early_session() {
    let mut bench = early();
    bench.offered_in("bob", Some("theirs-2"));
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["undo", "488 re"]);
    assert_eq!(bench.answered("bob", None), ["Accepted", "Confirmed"]);
}

#[test]
fn a_call_is_held_before_it_is_answered() {
    let mut bench = early();
    assert_eq!(bench.on(Input::Hold(true)), ["set hold true", "offer"]);
    assert_eq!(bench.offer_made(), ["UPDATE ours-2 to bob"]);
    assert_eq!(bench.offered_in("bob", Some("theirs-2")), ["491 re"]);
    let sdp = Some("theirs-3".to_owned());
    assert_eq!(
        bench.dialog(K::OfferAnswered { sdp }),
        ["apply theirs-3 to ours-2"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), ["Held Local"]);
    assert_eq!(bench.answered("bob", None), ["Accepted", "Confirmed"]);
    // It is as it was said.
    assert_eq!(bench.on(Input::Hold(true)), NOBODY);
}

#[test]
fn a_hold_that_is_out_when_the_call_is_answered_is_answered_in_the_call() {
    let mut bench = early();
    bench.on(Input::Hold(true));
    bench.offer_made();
    assert_eq!(bench.answered("bob", None), ["Accepted", "Confirmed"]);
    assert_eq!(bench.state(), (Sip::ReInviting, Jsep::HaveLocalOffer));
    let sdp = Some("theirs-3".to_owned());
    bench.dialog(K::OfferAnswered { sdp });
    assert_eq!(bench.step(Step::AnswerApplied), ["Held Local"]);
}

#[test]
fn a_hold_that_comes_to_nothing_before_the_answer_is_told_and_tried_no_more() {
    for refused in [false, true] {
        let mut bench = early();
        bench.on(Input::Hold(true));
        bench.offer_made();
        let said = match refused {
            true => bench.refused(Command::ReInvite),
            false => bench.dialog(K::OfferRejected { status: 491 }),
        };
        assert_eq!(said, ["undo", "set hold false", "HoldRefused true"]);
        assert_eq!(bench.state(), (Sip::Early, Jsep::Stable));
    }
}

#[test]
fn a_peer_that_takes_no_update_is_not_held_before_it_answers() {
    let mut bench = Bench::dialled();
    bench.ringing("bob", 183, Some("theirs-1"));
    bench.step(Step::AnswerApplied);
    assert!(!bench.takes(Input::Hold(true)));
}

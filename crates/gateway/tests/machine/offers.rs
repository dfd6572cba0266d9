//! Offers within a call that stands.

use crate::bench::*;
use siprtc_core::{Cause, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, Side};
use siprtc_gateway::machine::{Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};

const STANDS: (Sip, Jsep) = (Sip::Confirmed, Jsep::Stable);

/// The call stands and ends like any other: nothing of what happened before is left in its ending.
fn stands(mut bench: Bench) {
    assert_eq!(bench.state(), STANDS);
    assert_eq!(bench.on(ended(Cause::Bye, Side::Remote, None)), ["close"]);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Ended bye", "forget"]);
    let ending = bench.ending.unwrap();
    assert_eq!((ending.by, ending.sentence), (Side::Remote, None));
}

#[test]
fn a_re_invite_is_answered_and_the_call_goes_on() {
    let mut bench = Bench::calling();
    for round in 2..4 {
        let offer = format!("theirs-{round}");
        assert_eq!(bench.offered(Some(&offer)), [format!("answer {offer}")]);
        // Confirmed was told before: once in a call.
        assert_eq!(bench.answer_made(), [format!("200 re ours-{round}")]);
        assert_eq!(bench.dialog(K::OfferConfirmed { sdp: None }), NOBODY);
    }
    stands(bench);
}

#[test]
fn a_re_invite_that_cannot_be_answered_is_refused_and_the_call_goes_on() {
    let mut bench = Bench::calling();
    bench.offered(Some("theirs-2"));
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["undo", "488 re"]);
    // Its refusal may cross with the peer's own CANCEL.
    assert_eq!(bench.dialog(K::OfferRejected { status: 487 }), NOBODY);
    assert_eq!(bench.refused(Command::RefuseOffer), NOBODY);
    stands(bench);
}

#[test]
fn a_re_invite_without_an_offer_gets_ours() {
    let mut bench = Bench::accepting();
    bench.dialog(K::Confirmed { sdp: None });
    assert_eq!(bench.offered(None), ["offer"]);
    assert_eq!(bench.offer_made(), ["200 re ours-2"]);
    assert_eq!(
        bench.dialog(K::OfferConfirmed {
            sdp: Some("theirs-2".into())
        }),
        ["apply theirs-2 to ours-2"]
    );
    assert_eq!(bench.offered(Some("theirs-3")), ["491 re"]);
    assert_eq!(bench.step(Step::AnswerApplied), NOBODY);
    stands(bench);
}

#[test]
fn an_offer_that_we_cannot_make_is_refused_and_the_call_goes_on() {
    let mut bench = Bench::calling();
    bench.offered(None);
    assert_eq!(bench.fails(Fault::Backend), ["undo", "488 re"]);
    stands(bench);
}

#[test]
fn an_ack_of_a_re_invite_that_owes_an_answer_ends_the_call_with_a_reason() {
    let mut bench = Bench::calling();
    bench.offered(None);
    bench.offer_made();
    let said = bench.dialog(K::OfferConfirmed { sdp: None });
    assert!(said[0].starts_with("hang up SIP;cause=488"), "{said:?}");
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Bye, Side::Local, None)),
        ["Ended protocol_error", "forget"]
    );
}

#[test]
fn a_re_invite_while_the_answer_is_being_applied_is_told_to_wait() {
    let mut bench = Bench::dialled();
    bench.answered("a", Some("theirs-1"));
    assert_eq!(bench.offered(Some("theirs-2")), ["491 re"]);
    assert_eq!(bench.offered(None), ["491 re"]);
    // The refused offer left no trace: the answer that is applied is still the first one.
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
    stands(bench);
}

#[test]
fn a_withdrawn_offer_that_our_peer_has_taken_is_followed_by_an_offer_of_ours() {
    let mut bench = Bench::calling();
    bench.offered(Some("theirs-2"));
    assert_eq!(bench.dialog(K::OfferRejected { status: 487 }), NOBODY);
    assert_eq!(bench.offered(Some("theirs-3")), ["491 re"]);
    assert_eq!(bench.answer_made(), ["offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-3"]);
    assert_eq!(
        bench.dialog(K::OfferAnswered {
            sdp: Some("theirs-4".into())
        }),
        ["apply theirs-4 to ours-3"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), NOBODY);
    stands(bench);
}

#[test]
fn a_withdrawn_offer_that_our_peer_could_not_take_is_forgotten() {
    let mut bench = Bench::calling();
    bench.offered(Some("theirs-2"));
    bench.dialog(K::OfferRejected { status: 487 });
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["undo"]);
    stands(bench);
}

#[test]
fn a_withdrawn_re_invite_without_an_offer_leaves_ours_to_be_sent() {
    let mut bench = Bench::calling();
    bench.offered(None);
    bench.dialog(K::OfferRejected { status: 487 });
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    assert_eq!(bench.dialog(K::OfferRejected { status: 488 }), ["undo"]);
    stands(bench);
}

#[test]
fn a_200_that_crosses_the_peer_s_cancel_is_followed_by_an_offer_of_ours() {
    let mut bench = Bench::calling();
    bench.offered(Some("theirs-2"));
    assert_eq!(bench.answer_made(), ["200 re ours-2"]);
    assert_eq!(bench.dialog(K::OfferRejected { status: 487 }), NOBODY);
    assert_eq!(bench.refused(Command::AcceptOffer), ["offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-3"]);
}

#[test]
fn our_offer_in_a_200_that_came_too_late_goes_out_in_a_re_invite() {
    let mut bench = Bench::calling();
    bench.offered(None);
    assert_eq!(bench.offer_made(), ["200 re ours-2"]);
    bench.dialog(K::OfferRejected { status: 487 });
    assert_eq!(bench.refused(Command::AcceptOffer), ["re-INVITE ours-2"]);
    // The peer's next re-INVITE meets ours.
    assert_eq!(bench.dialog(K::OfferRejected { status: 491 }), ["undo"]);
    assert_eq!(bench.offered(None), ["offer"]);
    assert_eq!(bench.offer_made(), ["200 re ours-3"]);
}

#[test]
fn a_late_word_about_our_200_does_not_disturb_the_next_offer() {
    let mut bench = Bench::calling();
    bench.offered(Some("theirs-2"));
    bench.answer_made();
    bench.dialog(K::OfferRejected { status: 487 });
    assert_eq!(bench.offered(Some("theirs-3")), ["answer theirs-3"]);
    assert_eq!(bench.refused(Command::AcceptOffer), NOBODY);
    assert_eq!(bench.answer_made(), ["200 re ours-3"]);
    stands(bench);
}

#[test]
fn a_silent_path_has_ice_begin_anew_inside_the_call() {
    let mut bench = Bench::calling();
    assert_eq!(bench.on(Input::PathBroken), ["restart ICE", "offer"]);
    // While that goes on, silence is no news.
    assert_eq!(bench.on(Input::PathBroken), NOBODY);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    assert_eq!(bench.on(Input::PathBroken), NOBODY);
    let answer = K::OfferAnswered {
        sdp: Some("theirs-2".into()),
    };
    assert_eq!(bench.dialog(answer), ["apply theirs-2 to ours-2"]);
    assert_eq!(bench.step(Step::AnswerApplied), NOBODY);
    stands(bench);
}

#[test]
fn a_peer_that_refuses_to_begin_anew_keeps_the_call_as_it_was() {
    let mut bench = Bench::calling();
    bench.on(Input::PathBroken);
    bench.offer_made();
    assert_eq!(bench.dialog(K::OfferRejected { status: 488 }), ["undo"]);
    stands(bench);
}

#[test]
fn before_the_call_stands_a_silent_path_means_nothing() {
    let mut bench = Bench::accepting();
    assert_eq!(bench.on(Input::PathBroken), NOBODY);
}

#[test]
fn a_session_is_refreshed_with_an_offer() {
    let mut bench = Bench::calling();
    assert_eq!(bench.dialog(K::RefreshDue), ["offer"]);
    assert_eq!(bench.dialog(K::RefreshDue), NOBODY, "it is being done");
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    let sdp = Some("theirs-2".into());
    assert_eq!(
        bench.dialog(K::OfferAnswered { sdp }),
        ["apply theirs-2 to ours-2"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), NOBODY);
    stands(bench);
}

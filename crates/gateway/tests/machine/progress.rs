//! Media before we answer (RFC 3261 section 13.3.1.1), with and without an acknowledgement of our 183 (RFC 3262).

use crate::bench::*;
use siprtc_core::media::Direction;
use siprtc_core::{Cause, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, Side};
use siprtc_gateway::machine::{Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::MediaChange;

fn acknowledged(sdp: Option<&str>) -> K {
    K::ProgressConfirmed {
        sdp: sdp.map(Into::into),
        takes_offers: true,
    }
}

/// Our answer `ours-1` is in a 183.
fn progressed() -> Bench {
    let mut bench = Bench::invited();
    assert_eq!(bench.on(Input::AnswerEarly), ["answer theirs-1"]);
    assert_eq!(bench.answer_made(), ["183 ours-1"]);
    assert_eq!(bench.state(), (Sip::Progressed, Jsep::Stable));
    bench
}

/// The same, and the caller has acknowledged it.
fn agreed() -> Bench {
    let mut bench = progressed();
    assert_eq!(bench.dialog(acknowledged(None)), NOBODY);
    bench
}

/// Our offer `ours-1` is in a 183 to an INVITE that had none.
fn offering() -> Bench {
    let mut bench = Bench::new();
    assert_eq!(bench.on(incoming_of(None, true)), ["180", "Incoming"]);
    assert_eq!(bench.on(Input::AnswerEarly), ["offer"]);
    assert_eq!(bench.offer_made(), ["183 ours-1"]);
    bench
}

#[test]
fn the_200_says_what_the_183_said() {
    for mut bench in [progressed(), agreed()] {
        assert_eq!(bench.on(Input::Answer), ["200 ours-1", "Accepted"]);
        assert_eq!(bench.dialog(K::Confirmed { sdp: None }), ["Confirmed"]);
        assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
    }
}

/// Both ways from now on.
fn both_ways() -> Input {
    Input::AnswerWith(MediaChange {
        direction: Some(Direction::SendRecv),
        ..MediaChange::default()
    })
}

const CHANGED: &str =
    "set hold false and MediaChange { codecs: None, direction: Some(SendRecv), video: None }";

/// The 200 says what the 183 said; what is to be otherwise is offered right after the ACK.
fn changes_after_the_ack(bench: &mut Bench) {
    assert_eq!(
        bench.dialog(K::Confirmed { sdp: None }),
        ["Confirmed", CHANGED, "offer"]
    );
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    bench.dialog(K::OfferAnswered {
        sdp: Some("theirs-2".into()),
    });
    assert_eq!(bench.step(Step::AnswerApplied), ["MediaChanged"]);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn an_answer_with_another_plan_is_followed_by_an_offer() {
    for mut bench in [progressed(), agreed()] {
        assert_eq!(bench.on(both_ways()), ["200 ours-1", "Accepted"]);
        assert!(!bench.takes(both_ways()), "once");
        changes_after_the_ack(&mut bench);
    }
    // The 183 is still being made, and becomes a 200.
    let mut bench = Bench::invited();
    bench.on(Input::AnswerEarly);
    assert_eq!(bench.on(both_ways()), NOBODY);
    assert_eq!(bench.answer_made(), ["200 ours-1", "Accepted"]);
    changes_after_the_ack(&mut bench);
}

#[test]
fn another_plan_waits_for_the_prack_that_has_the_answer() {
    let mut bench = offering();
    assert_eq!(bench.on(both_ways()), NOBODY);
    bench.dialog(acknowledged(Some("theirs-1")));
    assert_eq!(bench.step(Step::AnswerApplied), ["200 ours-1", "Accepted"]);
    changes_after_the_ack(&mut bench);
}

#[test]
fn another_plan_that_the_peer_refuses_leaves_what_the_183_said() {
    let mut bench = agreed();
    bench.on(both_ways());
    bench.dialog(K::Confirmed { sdp: None });
    bench.offer_made();
    assert_eq!(
        bench.dialog(K::OfferRejected { status: 488 }),
        ["undo", "set hold false", "MediaRefused"]
    );
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

/// Before the answer it goes by UPDATE, where the caller takes one, and the 200 still says what the 183 said.
#[test]
fn a_plan_that_changes_before_the_answer_is_not_offered_again_after_it() {
    assert!(!progressed().takes(Input::Change(MediaChange::default())));
    let mut bench = agreed();
    let Input::AnswerWith(change) = both_ways() else {
        panic!("it is an answer");
    };
    assert_eq!(bench.on(Input::Change(change)), [CHANGED, "offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    bench.dialog(K::OfferAnswered {
        sdp: Some("theirs-2".into()),
    });
    assert_eq!(bench.step(Step::AnswerApplied), ["MediaChanged"]);
    assert_eq!(bench.on(Input::Answer), ["200 ours-1", "Accepted"]);
    assert_eq!(bench.dialog(K::Confirmed { sdp: None }), ["Confirmed"]);
}

#[test]
fn another_plan_answers_a_call_that_rings_here_and_no_other() {
    assert!(!Bench::accepting().takes(both_ways()));
    assert!(!Bench::dialled().takes(both_ways()));
    let mut confirmed = Bench::calling();
    assert!(!confirmed.takes(both_ways()));
    assert_eq!(
        confirmed.offered(Some("theirs-2")),
        ["answer theirs-2"],
        "nothing is wanted of it"
    );
}

#[test]
fn an_offer_without_an_answer_needs_a_caller_that_acknowledges() {
    let mut bench = Bench::new();
    bench.on(incoming(None));
    assert!(!bench.takes(Input::AnswerEarly));
    assert!(bench.takes(Input::Answer));
}

#[test]
fn an_offer_in_the_183_is_answered_in_the_prack() {
    let mut bench = offering();
    assert_eq!(
        bench.dialog(acknowledged(Some("theirs-1"))),
        ["apply theirs-1 to ours-1"]
    );
    assert_eq!(bench.on(Input::Answer), NOBODY, "the answer is being applied");
    assert_eq!(bench.step(Step::AnswerApplied), ["200 ours-1", "Accepted"]);
    assert_eq!(bench.dialog(K::Confirmed { sdp: None }), ["Confirmed"]);
}

#[test]
fn an_answer_that_comes_before_the_prack_waits_for_it() {
    let mut bench = offering();
    assert_eq!(bench.on(Input::Answer), NOBODY);
    assert!(!bench.takes(Input::Answer), "once");
    bench.dialog(acknowledged(Some("theirs-1")));
    assert_eq!(bench.step(Step::AnswerApplied), ["200 ours-1", "Accepted"]);
}

#[test]
fn a_prack_that_owes_an_answer_and_has_none_is_the_end() {
    let mut bench = offering();
    assert_eq!(bench.dialog(acknowledged(None)), ["488", "close"]);
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::IncompatibleMedia, Side::Local, Some(488))),
        ["Failed protocol_error", "forget"]
    );
}

#[test]
fn an_answer_in_the_prack_that_does_not_fit_is_the_end() {
    let mut bench = offering();
    bench.dialog(acknowledged(Some("theirs-1")));
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["488", "close"]);
}

#[test]
fn who_answers_before_the_183_is_made_sends_none() {
    let mut bench = Bench::invited();
    bench.on(Input::AnswerEarly);
    assert_eq!(bench.on(Input::Answer), NOBODY);
    assert_eq!(bench.answer_made(), ["200 ours-1", "Accepted"]);
    let mut bench = Bench::new();
    bench.on(incoming_of(None, true));
    bench.on(Input::AnswerEarly);
    assert_eq!(bench.on(Input::Answer), NOBODY);
    assert_eq!(bench.offer_made(), ["200 ours-1", "Accepted"]);
    assert_eq!(
        bench.dialog(K::Confirmed {
            sdp: Some("theirs-1".into())
        }),
        ["apply theirs-1 to ours-1"]
    );
}

#[test]
fn it_may_still_be_refused_hung_up_or_given_up_by_the_caller() {
    for make in [progressed, agreed] {
        let mut bench = make();
        assert_eq!(bench.on(Input::Refuse { status: 486 }), ["486", "close"]);
        bench.on(Input::MediaClosed(None));
        assert_eq!(
            bench.on(ended(Cause::Busy, Side::Local, Some(486))),
            ["Failed busy", "forget"]
        );
        let mut bench = make();
        assert_eq!(bench.on(Input::Hangup), ["hang up", "close"]);
        bench.on(Input::MediaClosed(None));
        assert_eq!(
            bench.on(ended(Cause::Declined, Side::Local, Some(603))),
            ["Failed declined", "forget"]
        );
        let mut bench = make();
        assert_eq!(
            bench.on(ended(Cause::Cancelled, Side::Remote, Some(487))),
            ["close"]
        );
        assert_eq!(bench.on(Input::MediaClosed(None)), ["Failed cancelled", "forget"]);
    }
}

#[test]
fn a_media_path_that_is_lost_before_the_answer_refuses_the_call_here_and_nowhere_else() {
    let mut bench = agreed();
    assert_eq!(
        bench.on(Input::MediaLost("no pair works".into())),
        ["500", "close"]
    );
}

#[test]
fn a_description_that_cannot_be_made_refuses_the_call() {
    let mut bench = Bench::invited();
    bench.on(Input::AnswerEarly);
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["488", "close"]);
}

#[test]
fn the_callers_update_is_answered_before_the_call_is() {
    let mut bench = agreed();
    assert_eq!(bench.offered_in("alice", Some("theirs-2")), ["answer theirs-2"]);
    assert_eq!(bench.on(Input::Answer), NOBODY, "first things first");
    assert_eq!(bench.answer_made(), ["200 re ours-2"]);
    assert_eq!(
        bench.dialog(K::OfferConfirmed { sdp: None }),
        ["200 ours-1", "Accepted"]
    );
    bench.dialog(K::Confirmed { sdp: None });
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn an_answer_to_an_update_that_comes_too_late_is_offered_anew_before_the_200() {
    let mut bench = agreed();
    bench.offered_in("alice", Some("theirs-2"));
    bench.on(Input::Answer);
    bench.answer_made();
    assert_eq!(bench.refused(Command::AcceptOffer), ["offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-3"]);
    bench.dialog(K::OfferAnswered {
        sdp: Some("theirs-3".into()),
    });
    assert_eq!(bench.step(Step::AnswerApplied), ["200 ours-1", "Accepted"]);
}

#[test]
fn an_update_that_is_withdrawn_while_we_answer_it_is_followed_by_ours() {
    let mut bench = agreed();
    bench.offered_in("alice", Some("theirs-2"));
    assert_eq!(bench.dialog(K::OfferRejected { status: 500 }), NOBODY);
    assert_eq!(bench.offered_in("alice", Some("theirs-3")), ["491 re"]);
    assert_eq!(bench.answer_made(), ["offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-3"]);
}

#[test]
fn an_update_that_cannot_be_answered_leaves_what_was_agreed() {
    let mut bench = agreed();
    bench.offered_in("alice", Some("theirs-2"));
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["undo", "488 re"]);
    assert_eq!(bench.on(Input::Answer), ["200 ours-1", "Accepted"]);
}

#[test]
fn a_call_is_held_before_we_answer_it_where_the_caller_takes_it() {
    assert!(!progressed().takes(Input::Hold(true)), "nothing is acknowledged");
    let mut bench = agreed();
    assert_eq!(bench.on(Input::Hold(true)), ["set hold true", "offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    assert_eq!(bench.offered_in("alice", Some("theirs-2")), ["491 re"]);
    bench.dialog(K::OfferAnswered {
        sdp: Some("theirs-3".into()),
    });
    assert_eq!(bench.step(Step::AnswerApplied), ["Held Local"]);
    assert_eq!(bench.on(Input::Answer), ["200 ours-1", "Accepted"]);
}

#[test]
fn a_hold_that_is_refused_before_we_answer_is_told() {
    for refused in [false, true] {
        let mut bench = agreed();
        bench.on(Input::Hold(true));
        bench.offer_made();
        let said = match refused {
            true => bench.refused(Command::ReInvite),
            false => bench.dialog(K::OfferRejected { status: 491 }),
        };
        assert_eq!(said, ["undo", "set hold false", "HoldRefused true"]);
        assert_eq!(bench.on(Input::Answer), ["200 ours-1", "Accepted"]);
    }
}

#[test]
fn media_begins_once_and_in_a_call_that_rings_here() {
    assert!(!progressed().takes(Input::AnswerEarly));
    assert!(!Bench::accepting().takes(Input::AnswerEarly));
    assert!(!Bench::dialled().takes(Input::AnswerEarly));
}

#[test]
fn a_defect_refuses_the_call_with_500() {
    assert_eq!(agreed().on(Input::Condemned), ["500", "close"]);
}

//! We are called.

use crate::bench::*;
use siprtc_core::{Cause, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, Side};
use siprtc_gateway::machine::{Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};

fn confirmed(sdp: Option<&str>) -> K {
    K::Confirmed {
        sdp: sdp.map(Into::into),
    }
}

#[test]
fn a_call_rings_here_is_answered_and_hung_up_there() {
    let mut bench = Bench::accepting();
    assert_eq!(bench.dialog(confirmed(None)), ["Confirmed"]);
    assert_eq!(bench.on(ended(Cause::Bye, Side::Remote, None)), ["close"]);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Ended bye", "forget"]);
    assert_eq!(bench.ending.unwrap().by, Side::Remote);
}

#[test]
fn an_offer_without_audio_in_common_is_refused_before_it_rings() {
    let mut bench = Bench::new();
    bench.on(incoming(Some("theirs-1")));
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["488", "close"]);
    bench.on(Input::MediaClosed(None));
    let end = ended(Cause::IncompatibleMedia, Side::Local, Some(488));
    assert_eq!(bench.on(end), ["Failed incompatible_media", "forget"]);
    assert_eq!(bench.ending.unwrap().status, Some(488));
}

#[test]
fn a_fault_of_our_own_is_refused_with_500() {
    let mut bench = Bench::invited();
    bench.on(Input::Answer);
    assert_eq!(bench.fails(Fault::Backend), ["500", "close"]);
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::ServerError, Side::Local, Some(500))),
        ["Failed internal", "forget"]
    );
}

#[test]
fn an_invite_without_an_offer_gets_ours_in_the_200_and_answers_in_the_ack() {
    let mut bench = Bench::new();
    assert_eq!(bench.on(incoming(None)), ["180", "Incoming"]);
    assert_eq!(bench.on(Input::Answer), ["offer"]);
    assert_eq!(bench.offer_made(), ["200 ours-1", "Accepted"]);
    assert_eq!(
        bench.dialog(confirmed(Some("theirs-1"))),
        ["apply theirs-1 to ours-1"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
}

#[test]
fn an_ack_that_owes_an_answer_and_has_none_ends_the_call() {
    let mut bench = Bench::new();
    bench.on(incoming(None));
    bench.on(Input::Answer);
    bench.offer_made();
    let said = bench.dialog(confirmed(None));
    assert!(said[0].starts_with("hang up SIP;cause=488"), "{said:?}");
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Bye, Side::Local, None)),
        ["Ended protocol_error", "forget"]
    );
}

#[test]
fn sdp_in_an_ack_that_owes_none_changes_nothing() {
    let mut bench = Bench::accepting();
    assert_eq!(bench.dialog(confirmed(Some("theirs-2"))), ["Confirmed"]);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn an_ack_that_comes_again_says_nothing() {
    let mut bench = Bench::accepting();
    bench.dialog(confirmed(None));
    assert_eq!(bench.dialog(confirmed(None)), NOBODY);
    assert_eq!(bench.dialog(confirmed(Some("theirs-2"))), NOBODY);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn a_call_is_answered_or_refused_only_once() {
    let mut bench = Bench::invited();
    assert!(bench.takes(Input::Answer));
    assert!(!Bench::accepting().takes(Input::Answer));
    assert_eq!(
        bench.on(Input::Refuse { status: 486 }),
        ["answer theirs-1", "486", "close"]
    );
    assert!(!bench.takes(Input::Refuse { status: 603 }));
    assert!(!bench.takes(Input::Answer));
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Busy, Side::Local, Some(486))),
        ["Failed busy", "forget"]
    );
}

#[test]
fn a_call_that_rings_here_and_is_hung_up_was_declined() {
    let mut bench = Bench::invited();
    assert_eq!(bench.on(Input::Hangup), ["hang up", "close"]);
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Declined, Side::Local, Some(603))),
        ["Failed declined", "forget"]
    );
}

#[test]
fn an_answer_that_is_made_after_the_cancel_is_not_sent() {
    let mut bench = Bench::invited();
    bench.on(Input::Answer);
    assert_eq!(
        bench.on(ended(Cause::Cancelled, Side::Remote, Some(487))),
        ["close"]
    );
    assert_eq!(bench.answer_made(), NOBODY);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Failed cancelled", "forget"]);
}

#[test]
fn a_cancel_that_crosses_our_200_leaves_a_call_that_nobody_answered() {
    let mut bench = Bench::accepting();
    assert_eq!(
        bench.on(ended(Cause::Cancelled, Side::Remote, Some(487))),
        ["close"]
    );
    assert_eq!(bench.refused(Command::Accept), NOBODY);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Failed cancelled", "forget"]);
}

#[test]
fn an_answered_call_whose_ack_never_comes_was_established() {
    let mut bench = Bench::accepting();
    bench.on(ended(Cause::TimedOut, Side::Local, None));
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Ended timed_out", "forget"]);
}

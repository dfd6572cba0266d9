//! An INVITE of ours forks, and the engine has a media peer for each early dialog.

use crate::bench::*;
use siprtc_core::{CallId, Fault};
use siprtc_gateway::machine::{Call, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::Fork;

/// The INVITE is out; `latest`: the policy.
fn dialled(latest: bool) -> Bench {
    let mut bench = Bench::new();
    bench.call = Call::new(CallId::fresh()).forking(true, false, latest);
    bench.on(Input::Dial { target: target() });
    bench.offer_made();
    bench
}

/// Two early dialogs, `a` and `b`, with their media peers.
fn forked(latest: bool) -> Bench {
    let mut bench = dialled(latest);
    bench.ringing("a", 183, Some("theirs-a"));
    bench.step(Step::AnswerApplied);
    bench.ringing("b", 183, Some("theirs-b"));
    assert_eq!(bench.on(Input::Forked(Fork(1), Ok(()))), NOBODY);
    bench
}

#[test]
fn every_early_answer_has_a_media_peer_and_the_policy_says_who_is_heard() {
    for (latest, word) in [(false, "open"), (true, "hear")] {
        let mut bench = dialled(latest);
        assert_eq!(
            bench.ringing("a", 183, Some("theirs-a")),
            ["Progress 183 early", "apply theirs-a to ours-1"]
        );
        // One after the other: the first answer is still being applied.
        assert_eq!(bench.ringing("b", 183, Some("theirs-b")), ["Progress 183 early"]);
        assert_eq!(bench.ringing("c", 183, Some("theirs-c")), ["Progress 183 early"]);
        assert_eq!(
            bench.step(Step::AnswerApplied),
            [format!("{word} 1 with theirs-b to ours-1")]
        );
        assert_eq!(bench.ringing("b", 183, Some("theirs-b")), ["Progress 183 early"]);
        assert_eq!(
            bench.on(Input::Forked(Fork(1), Ok(()))),
            [format!("{word} 2 with theirs-c to ours-1")]
        );
        assert_eq!(bench.on(Input::Forked(Fork(2), Ok(()))), NOBODY);
        assert_eq!(bench.state(), (Sip::Early, Jsep::Stable));
    }
}

#[test]
fn a_200_takes_the_media_peer_of_its_dialog_and_nothing_is_offered_anew() {
    for latest in [false, true] {
        // The 200 need not repeat the answer (RFC 3262 section 5).
        for sdp in [Some("theirs-b"), None] {
            let mut bench = forked(latest);
            assert_eq!(
                bench.answered("b", sdp),
                ["Accepted", "take 1 with theirs-b to ours-1"]
            );
            assert_eq!(bench.offered(Some("theirs-x")), ["491 re"]);
            assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
            assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
        }
    }
}

#[test]
fn a_200_of_the_first_fork_closes_the_others() {
    let mut bench = forked(true);
    assert_eq!(
        bench.answered("a", None),
        ["Accepted", "take 0 with theirs-a to ours-1"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
}

#[test]
fn a_200_of_a_fork_that_was_silent_before_has_its_media_peer_at_once() {
    let mut bench = forked(false);
    let taken = bench.answered("c", Some("theirs-c"));
    assert_eq!(taken, ["Accepted", "take 8 with theirs-c to ours-1"]);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
    // While the first answer is still being applied: its result is nobody's business any more.
    let mut bench = dialled(false);
    bench.ringing("a", 183, Some("theirs-a"));
    let stale = bench.epoch;
    let taken = bench.answered("b", Some("theirs-b"));
    assert_eq!(taken, ["Accepted", "take 8 with theirs-b to ours-1"]);
    assert_eq!(bench.on(Input::Step(stale, Ok(Step::AnswerApplied))), NOBODY);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
}

#[test]
fn a_fork_that_cannot_have_a_media_peer_is_offered_anew_when_it_answers() {
    let mut bench = dialled(true);
    bench.ringing("a", 183, Some("theirs-a"));
    bench.step(Step::AnswerApplied);
    bench.ringing("b", 183, Some("theirs-b"));
    assert_eq!(
        bench.on(Input::Forked(Fork(1), Err(error(Fault::Unsupported)))),
        NOBODY
    );
    assert_eq!(bench.answered("b", None), ["Accepted", "replace", "offer"]);
    // The same when only the taking shows it.
    let mut bench = forked(true);
    bench.answered("c", Some("theirs-c"));
    assert_eq!(bench.fails(Fault::Unsupported), ["replace", "offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    // And without any fork the first peer's call is confirmed as ever.
    let mut bench = dialled(true);
    bench.ringing("a", 183, Some("theirs-a"));
    bench.step(Step::AnswerApplied);
    assert_eq!(bench.answered("a", None), ["Accepted", "Confirmed"]);
}

#[test]
fn a_fork_that_opens_after_the_call_is_answered_means_nothing() {
    let mut bench = dialled(true);
    bench.ringing("a", 183, Some("theirs-a"));
    bench.step(Step::AnswerApplied);
    bench.ringing("b", 183, Some("theirs-b"));
    assert_eq!(
        bench.answered("a", None),
        ["Accepted", "take 0 with theirs-a to ours-1"]
    );
    assert_eq!(bench.on(Input::Forked(Fork(1), Ok(()))), NOBODY);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
}

#[test]
fn more_forks_than_early_media_is_worth_have_their_media_peer_with_the_200() {
    let mut bench = dialled(false);
    bench.ringing("first", 183, Some("theirs-first"));
    bench.step(Step::AnswerApplied);
    for number in 1..=7 {
        let opened = bench.ringing(&format!("fork-{number}"), 183, Some(&format!("theirs-{number}")));
        assert!(opened[1].starts_with(&format!("open {number} ")), "{opened:?}");
        bench.on(Input::Forked(Fork(number), Ok(())));
    }
    assert_eq!(
        bench.ringing("last", 183, Some("theirs-last")),
        ["Progress 183 early"]
    );
    assert_eq!(
        bench.answered("last", Some("theirs-last")),
        ["Accepted", "take 8 with theirs-last to ours-1"]
    );
}

//! We call.

use crate::bench::*;
use siprtc_core::{CallId, Cause, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, Side};
use siprtc_gateway::machine::{Call, Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};

#[test]
fn a_call_rings_is_answered_and_hung_up() {
    let mut bench = Bench::dialled();
    assert_eq!(bench.ringing("a", 180, None), ["Progress 180"]);
    assert_eq!(
        bench.answered("a", Some("theirs-1")),
        ["Accepted", "apply theirs-1 to ours-1"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
    assert_eq!(bench.on(Input::Hangup), ["hang up", "close"]);
    assert_eq!(bench.on(Input::MediaClosed(None)), NOBODY);
    assert_eq!(
        bench.on(ended(Cause::Bye, Side::Local, None)),
        ["Ended bye", "forget"]
    );
    let ending = bench.ending.unwrap();
    assert_eq!(
        (ending.by, ending.status, ending.established),
        (Side::Local, None, true)
    );
}

#[test]
fn an_offer_that_does_not_suit_the_peer_is_made_once_more_by_the_classic_engine() {
    for status in [415, 488, 606] {
        let mut bench = Bench::new();
        bench.call = Call::new(CallId::fresh()).falling_back();
        assert_eq!(bench.on(Input::Dial { target: target() }), ["offer"]);
        assert_eq!(bench.offer_made(), ["INVITE ours-1"]);
        bench.ringing("a", 180, None);
        let refused = || ended(Cause::from_status(status), Side::Remote, Some(status));
        assert_eq!(bench.on(refused()), ["classic", "offer"], "{status}");
        assert_eq!(bench.offer_made(), ["INVITE ours-2"]);
        // The second refusal is the last word.
        assert_eq!(bench.on(refused()), ["close"], "{status}");
        bench.on(Input::MediaClosed(None));
        assert_eq!(bench.ending.and_then(|ending| ending.status), Some(status));
    }
}

#[test]
fn other_refusals_and_those_without_another_engine_end_the_call() {
    let mut bench = Bench::dialled();
    let unfit = ended(Cause::IncompatibleMedia, Side::Remote, Some(488));
    assert_eq!(bench.on(unfit), ["close"]);
    let mut bench = Bench::new();
    bench.call = Call::new(CallId::fresh()).falling_back();
    bench.on(Input::Dial { target: target() });
    bench.offer_made();
    assert_eq!(bench.on(ended(Cause::Busy, Side::Remote, Some(486))), ["close"]);
    // Nor is a call made anew that was answered, early or for good.
    let mut bench = Bench::new();
    bench.call = Call::new(CallId::fresh()).falling_back();
    bench.on(Input::Dial { target: target() });
    bench.offer_made();
    bench.ringing("a", 183, Some("theirs-1"));
    assert_eq!(
        bench.on(ended(Cause::IncompatibleMedia, Side::Remote, Some(488))),
        ["close"]
    );
}

#[test]
fn early_media_and_the_200_of_the_same_dialog_need_one_answer() {
    let mut bench = Bench::dialled();
    assert_eq!(
        bench.ringing("a", 183, Some("theirs-1")),
        ["Progress 183 early", "apply theirs-1 to ours-1"]
    );
    assert_eq!(bench.step(Step::AnswerApplied), NOBODY);
    assert_eq!(bench.ringing("a", 183, Some("theirs-1")), ["Progress 183 early"]);
    assert_eq!(bench.answered("a", Some("theirs-1")), ["Accepted", "Confirmed"]);
}

#[test]
fn early_answers_of_other_forks_are_only_told() {
    let mut bench = Bench::dialled();
    bench.ringing("a", 183, Some("theirs-1"));
    assert_eq!(bench.ringing("b", 183, Some("theirs-2")), ["Progress 183 early"]);
    bench.step(Step::AnswerApplied);
    assert_eq!(bench.ringing("b", 183, Some("theirs-2")), ["Progress 183 early"]);
    assert_eq!(bench.answered("a", Some("theirs-1")), ["Accepted", "Confirmed"]);
}

#[test]
fn a_200_that_overtakes_the_early_answer_s_setting_waits_for_it() {
    let mut bench = Bench::dialled();
    bench.ringing("a", 183, Some("theirs-1"));
    assert_eq!(bench.answered("a", Some("theirs-1")), ["Accepted"]);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
}

#[test]
fn a_200_of_another_fork_gets_a_new_media_peer_and_a_re_invite() {
    let mut bench = Bench::dialled();
    bench.ringing("a", 183, Some("theirs-1"));
    let stale = bench.epoch;
    assert_eq!(
        bench.answered("b", Some("theirs-2")),
        ["Accepted", "replace", "offer"]
    );
    // The old peer's result, good or bad, is nobody's business any more.
    assert_eq!(bench.on(Input::Step(stale, Ok(Step::AnswerApplied))), NOBODY);
    assert_eq!(bench.on(Input::Step(stale, Err(error(Fault::Backend)))), NOBODY);
    assert_eq!(bench.offered(Some("theirs-x")), ["491 re"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    assert_eq!(bench.offered(None), ["491 re"]);
    let answer = K::OfferAnswered {
        sdp: Some("theirs-3".into()),
    };
    assert_eq!(bench.dialog(answer), ["apply theirs-3 to ours-2"]);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn a_fork_that_refuses_the_re_invite_leaves_nothing_to_talk_over() {
    let mut bench = Bench::dialled();
    bench.ringing("a", 183, Some("theirs-1"));
    bench.step(Step::AnswerApplied);
    assert_eq!(bench.answered("b", None), ["Accepted", "replace", "offer"]);
    bench.offer_made();
    assert_eq!(
        bench.dialog(K::OfferRejected { status: 488 }),
        ["hang up", "close"]
    );
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Bye, Side::Local, None)),
        ["Ended incompatible_media", "forget"]
    );
    assert_eq!(bench.ending.unwrap().by, Side::Remote);
}

/// A bench whose re-INVITE after a fork met the peer's.
fn glaring() -> Bench {
    let mut bench = Bench::dialled();
    bench.ringing("a", 183, Some("theirs-1"));
    bench.step(Step::AnswerApplied);
    bench.answered("b", None);
    bench.offer_made();
    assert_eq!(bench.dialog(K::OfferRejected { status: 491 }), ["undo"]);
    bench
}

#[test]
fn after_glare_the_peer_s_offer_goes_first() {
    let mut bench = glaring();
    assert_eq!(bench.offered(Some("theirs-2")), ["answer theirs-2"]);
    assert_eq!(bench.answer_made(), ["200 re ours-3", "Confirmed"]);
    assert_eq!(bench.dialog(K::OfferConfirmed { sdp: None }), NOBODY);
    assert_eq!(bench.call.poll_timeout(), None);
}

#[test]
fn a_peer_that_never_offers_after_glare_is_not_awaited_for_ever() {
    let mut bench = glaring();
    assert_eq!(bench.wait_on(), ["hang up", "close"]);
    bench.on(Input::MediaClosed(None));
    assert_eq!(bench.wait_on(), ["Ended timed_out", "forget"]);
}

#[test]
fn without_any_session_an_offer_that_we_cannot_answer_ends_the_call() {
    let mut bench = glaring();
    bench.offered(Some("theirs-2"));
    assert_eq!(
        bench.fails(Fault::PeerIncompatible),
        ["hang up SIP;cause=488;text=\"it went wrong\"", "close"]
    );
}

#[test]
fn a_re_invite_that_the_dialog_manager_refuses_gives_way_to_the_peer_s() {
    let mut bench = Bench::dialled();
    bench.ringing("a", 183, Some("theirs-1"));
    bench.step(Step::AnswerApplied);
    bench.answered("b", None);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
    // The peer's re-INVITE was in our mailbox when ours was ready.
    assert_eq!(bench.offered(Some("theirs-2")), ["491 re"]);
    assert_eq!(bench.refused(Command::ReInvite), ["undo"]);
    assert_eq!(bench.offered(Some("theirs-3")), ["answer theirs-3"]);
}

#[test]
fn a_2xx_without_sdp_breaks_the_rules_and_ends_the_call() {
    let mut bench = Bench::dialled();
    let said = bench.answered("a", None);
    assert!(said[0].starts_with("hang up SIP;cause=488;text="), "{said:?}");
    assert_eq!(said[1], "close");
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Bye, Side::Local, None)),
        ["Failed protocol_error", "forget"]
    );
    assert!(bench.ending.unwrap().sentence.unwrap().contains("13.2.1"));
}

#[test]
fn an_answer_without_anything_in_common_ends_an_answered_call() {
    let mut bench = Bench::dialled();
    bench.answered("a", Some("theirs-1"));
    assert_eq!(
        bench.fails(Fault::PeerIncompatible),
        ["hang up SIP;cause=488;text=\"it went wrong\"", "close"]
    );
    bench.on(ended(Cause::Bye, Side::Local, None));
    assert_eq!(
        bench.on(Input::MediaClosed(None)),
        ["Ended incompatible_media", "forget"]
    );
    // The INVITE itself was accepted.
    assert_eq!(bench.ending.unwrap().status, None);
}

#[test]
fn a_refusal_tells_its_status_and_its_sentence() {
    let mut bench = Bench::dialled();
    let busy = K::Ended {
        cause: Cause::Busy,
        by: Side::Remote,
        status: Some(486),
        reason: Some("bob is busy".into()),
        contacts: Vec::new(),
        retry_after: None,
    };
    assert_eq!(bench.dialog(busy), ["close"]);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Failed busy", "forget"]);
    let ending = bench.ending.unwrap();
    assert_eq!(
        (ending.status, ending.sentence.as_deref()),
        (Some(486), Some("bob is busy"))
    );
}

#[test]
fn an_invite_that_the_dialog_manager_refuses_ends_the_call_with_its_words() {
    let mut bench = Bench::dialled();
    assert_eq!(bench.refused(Command::Invite), ["hang up", "close"]);
    bench.on(Input::MediaClosed(None));
    assert_eq!(bench.refused(Command::HangUp), ["Failed internal", "forget"]);
    assert!(bench.ending.unwrap().sentence.unwrap().contains("it went wrong"));
}

/// A caller that may fall back, with its first offer out.
fn falling_back() -> Bench {
    let mut bench = Bench::new();
    bench.call = siprtc_gateway::machine::Call::new(siprtc_core::CallId::fresh()).falling_back();
    bench.on(Input::Dial { target: target() });
    bench.offer_made();
    bench
}

#[test]
fn an_answer_that_is_no_use_is_followed_by_a_classic_offer_in_the_dialog() {
    for fault in [Fault::PeerIncompatible, Fault::PeerMisbehaved] {
        let mut bench = falling_back();
        bench.answered("a", Some("theirs-1"));
        assert_eq!(bench.fails(fault), ["classic as theirs-1", "offer"]);
        assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
        let sdp = Some("theirs-2".into());
        assert_eq!(
            bench.dialog(K::OfferAnswered { sdp }),
            ["apply theirs-2 to ours-2"]
        );
        assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
    }
}

#[test]
fn a_second_answer_that_is_no_use_ends_the_call() {
    let mut bench = falling_back();
    bench.answered("a", Some("theirs-1"));
    bench.fails(Fault::PeerIncompatible);
    bench.offer_made();
    let sdp = Some("theirs-2".into());
    bench.dialog(K::OfferAnswered { sdp });
    let said = bench.fails(Fault::PeerIncompatible);
    assert!(said[0].starts_with("hang up SIP;cause=488"), "{said:?}");
}

#[test]
fn an_early_answer_that_is_no_use_waits_for_the_dialog() {
    let mut bench = falling_back();
    bench.ringing("a", 183, Some("theirs-1"));
    assert_eq!(bench.fails(Fault::PeerIncompatible), ["classic as theirs-1"]);
    assert_eq!(bench.ringing("a", 183, Some("theirs-1")), ["Progress 183 early"]);
    let said = bench.answered("a", Some("theirs-1"));
    assert_eq!(said, ["Accepted", "replace", "offer"]);
    assert_eq!(bench.offer_made(), ["re-INVITE ours-2"]);
}

#[test]
fn a_fault_of_ours_is_no_reason_to_offer_anew() {
    let mut bench = falling_back();
    bench.answered("a", Some("theirs-1"));
    let said = bench.fails(Fault::Backend);
    assert!(said[0].starts_with("hang up"), "{said:?}");
}

fn waiting() -> Bench {
    let mut bench = Bench::new();
    bench.call = Call::new(CallId::fresh()).waiting_for_answer();
    bench.on(Input::Dial { target: target() });
    bench.offer_made();
    bench
}

#[test]
fn a_call_that_waits_for_its_answer_hears_no_fork_before_it() {
    let mut bench = waiting();
    assert_eq!(bench.ringing("a", 183, Some("theirs-1")), ["Progress 183"]);
    assert_eq!(bench.ringing("b", 183, Some("theirs-2")), ["Progress 183"]);
    assert_eq!(
        bench.answered("b", Some("theirs-2")),
        ["Accepted", "apply theirs-2 to ours-1"],
        "no media peer is made anew"
    );
}

#[test]
fn a_2xx_need_not_repeat_the_answer_of_its_own_reliable_183() {
    let mut bench = waiting();
    bench.ringing("a", 183, Some("theirs-1"));
    bench.ringing("b", 183, Some("theirs-2"));
    assert_eq!(
        bench.answered("b", None),
        ["Accepted", "apply theirs-2 to ours-1"]
    );
}

//! Candidates that come after their description.

use crate::bench::*;
use siprtc_core::CallId;
use siprtc_core::ice::Candidate;
use siprtc_dialog_manager::{DialogEventKind as K, DialogTag};
use siprtc_gateway::machine::{Call, Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::Fork;
use std::fmt::Write as _;

const ALL: bool = true;
const MORE: bool = false;

fn line(port: u16) -> String {
    format!("1 1 UDP 2130706431 192.0.2.1 {port} typ host")
}

fn candidate(port: u16) -> Input {
    let candidate: Candidate = line(port).parse().unwrap();
    Input::Candidate(candidate)
}

/// A description that trickles, with these candidates.
fn sdp(ufrag: &str, ports: &[u16], is_complete: bool) -> String {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=ice-options:trickle\r\n";
    format!("{head}{}", section(ufrag, ports, is_complete))
}

/// The same as one that knows nothing of trickle.
fn plain(ufrag: &str, ports: &[u16]) -> String {
    sdp(ufrag, ports, MORE).replace("a=ice-options:trickle\r\n", "")
}

fn section(ufrag: &str, ports: &[u16], is_complete: bool) -> String {
    let mut text = format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:password-of-22-octets-\r\na=mid:0\r\n"
    );
    for port in ports {
        let _ = write!(text, "a=candidate:{}\r\n", line(*port));
    }
    if is_complete {
        text.push_str("a=end-of-candidates\r\n");
    }
    text
}

fn tag(tag: &str) -> DialogTag {
    DialogTag(tag.to_owned())
}

fn supports(dialog: &str, info: bool) -> Input {
    Input::Dialog(K::PeerSupports {
        dialog: tag(dialog),
        option_tag: info,
        info,
    })
}

fn info(dialog: &str, ufrag: &str, ports: &[u16]) -> Input {
    Input::Dialog(K::Info {
        dialog: tag(dialog),
        package: "trickle-ice".to_owned(),
        content_type: "application/trickle-ice-sdpfrag".to_owned(),
        body: section(ufrag, ports, MORE),
    })
}

fn dialled(offer: &str) -> Bench {
    let mut bench = Bench::new();
    bench.on(Input::Dial { target: target() });
    assert_eq!(bench.step(Step::OfferMade(offer.to_owned())).len(), 1);
    bench
}

/// A caller's call whose descriptions are set, with a peer that takes INFOs or does not.
fn calling(offer: &str, answer: &str, takes: bool) -> Bench {
    let mut bench = dialled(offer);
    assert_eq!(bench.on(supports("a", takes)), NOBODY);
    assert_eq!(bench.answered("a", Some(answer)).len(), 2);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
    bench
}

#[test]
fn the_first_provisional_answer_of_a_peer_that_trickles_is_confirmed_by_an_info() {
    let mut bench = dialled(&sdp("u", &[1], MORE));
    assert_eq!(bench.on(supports("a", true)), NOBODY);
    assert_eq!(bench.ringing("a", 180, None), ["INFO 1", "Progress 180"]);
    assert_eq!(bench.ringing("a", 180, None), ["Progress 180"]);
    // Another fork's does not know of us yet.
    assert_eq!(bench.on(supports("b", true)), NOBODY);
    assert_eq!(bench.ringing("b", 180, None), ["INFO 1", "Progress 180"]);
    bench.on(supports("c", false));
    assert_eq!(bench.ringing("c", 180, None), ["Progress 180"]);
}

#[test]
fn each_info_repeats_what_went_before_and_the_last_says_so() {
    let mut bench = calling(&sdp("u", &[1], MORE), &sdp("v", &[9], ALL), true);
    assert_eq!(bench.on(candidate(2)), ["INFO 1 2"]);
    assert_eq!(bench.on(candidate(3)), ["INFO 1 2 3"]);
    // What the description has is no news.
    assert_eq!(bench.on(candidate(1)), NOBODY);
    assert_eq!(bench.on(Input::Gathered), ["INFO 1 2 3 all"]);
    assert_eq!(bench.on(Input::Gathered), NOBODY);
}

#[test]
fn what_is_found_before_anybody_rings_waits_for_who_does() {
    let mut bench = dialled(&sdp("u", &[1], MORE));
    assert_eq!(bench.on(candidate(2)), NOBODY);
    assert_eq!(bench.on(supports("a", true)), ["INFO 1 2"]);
}

#[test]
fn a_description_that_says_nothing_of_trickle_has_no_infos() {
    let mut bench = calling(&plain("u", &[1]), &plain("v", &[9]), true);
    bench.on(Input::PathUp);
    assert_eq!(bench.on(candidate(2)), NOBODY);
    assert_eq!(bench.on(Input::Gathered), NOBODY);
}

#[test]
fn without_infos_a_new_offer_brings_late_candidates_if_nothing_works() {
    let mut bench = calling(&sdp("u", &[1], MORE), &plain("v", &[9]), false);
    assert_eq!(bench.on(candidate(2)), NOBODY);
    // Now all are there.
    assert_eq!(bench.on(Input::Gathered), ["offer"]);
    let offer = sdp("u", &[1, 2], ALL);
    assert_eq!(
        bench.step(Step::OfferMade(offer.clone())),
        [format!("re-INVITE {offer}")]
    );
    // A peer that refuses it is not asked again and again.
    assert_eq!(bench.dialog(K::OfferRejected { status: 488 }), ["undo"]);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
    assert_eq!(bench.on(candidate(2)), NOBODY);
}

#[test]
fn late_candidates_that_nobody_needs_cost_no_offer() {
    let mut bench = calling(&sdp("u", &[1], MORE), &plain("v", &[9]), false);
    bench.on(candidate(2));
    assert_eq!(bench.on(Input::PathUp), NOBODY);
    assert_eq!(bench.on(Input::Gathered), NOBODY);
}

#[test]
fn late_candidates_wait_for_the_negotiation_that_runs() {
    let mut bench = dialled(&plain("u", &[1]));
    bench.on(candidate(2));
    assert_eq!(bench.on(Input::Gathered), NOBODY);
    bench.answered("a", Some(&plain("v", &[9])));
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed", "offer"]);
}

#[test]
fn a_peer_that_refuses_infos_gets_an_offer() {
    let mut bench = calling(&sdp("u", &[1], MORE), &sdp("v", &[9], ALL), true);
    assert_eq!(bench.on(candidate(2)), ["INFO 1 2"]);
    assert_eq!(bench.on(Input::Gathered), ["INFO 1 2 all"]);
    let refused = Input::Dialog(K::InfoRefused {
        dialog: tag("a"),
        package: "trickle-ice".to_owned(),
        status: 469,
    });
    assert_eq!(bench.on(refused), ["offer"]);
}

#[test]
fn an_info_that_nobody_takes_any_more_ends_no_call() {
    let mut bench = calling(&sdp("u", &[1], MORE), &sdp("v", &[9], ALL), true);
    bench.on(candidate(2));
    assert_eq!(bench.refused(Command::SendCandidates), NOBODY);
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
}

#[test]
fn the_peers_candidates_go_to_the_media_peer_once_its_description_is_set() {
    let mut bench = dialled(&sdp("u", &[1], ALL));
    bench.on(supports("a", true));
    bench.ringing("a", 180, None);
    assert_eq!(bench.on(info("a", "v", &[9, 10])), NOBODY);
    bench.answered("a", Some(&sdp("v", &[9], MORE)));
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed", "add 10"]);
    assert_eq!(bench.on(info("a", "v", &[9, 10, 11])), ["add 11"]);
    assert_eq!(bench.on(info("a", "v", &[9, 10, 11])), NOBODY);
}

#[test]
fn candidates_of_another_generation_or_of_no_sense_are_passed_over() {
    let mut bench = calling(&sdp("u", &[1], ALL), &sdp("v", &[9], MORE), true);
    assert_eq!(bench.on(info("a", "w", &[10])), NOBODY);
    let garbage = Input::Dialog(K::Info {
        dialog: tag("a"),
        package: "trickle-ice".to_owned(),
        content_type: "application/trickle-ice-sdpfrag".to_owned(),
        body: "a=candidate:garbage\0".to_owned(),
    });
    assert_eq!(bench.on(garbage), NOBODY);
    assert_eq!(bench.on(info("nobody", "v", &[10])), NOBODY);
    assert_eq!(bench.on(info("a", "v", &[9, 12])), ["add 12"]);
}

#[test]
fn a_callee_tells_a_caller_that_trickles_and_hears_it() {
    let offer = sdp("v", &[9], MORE);
    let mut bench = Bench::new();
    bench.on(incoming(Some(&offer)));
    assert_eq!(bench.on(supports("a", true)), NOBODY);
    bench.step(Step::ScreenPassed);
    bench.on(Input::Answer);
    assert!(bench.call.may_trickle());
    assert_eq!(bench.on(info("a", "v", &[9, 10])), NOBODY);
    assert_eq!(bench.on(candidate(2)), NOBODY);
    let answer = sdp("u", &[1], MORE);
    assert_eq!(
        bench.step(Step::AnswerMade(answer.clone())),
        [format!("200 {answer}").as_str(), "Accepted", "add 10", "INFO 1 2"]
    );
}

/// Our answer is in a 183, whose caller trickles.
fn speaking_early(answer: &str) -> Bench {
    let mut bench = Bench::new();
    bench.on(incoming(Some(&sdp("v", &[9], MORE))));
    assert_eq!(bench.on(supports("a", true)), NOBODY);
    bench.step(Step::ScreenPassed);
    bench.on(Input::AnswerEarly);
    assert!(bench.call.may_trickle());
    assert_eq!(bench.on(info("a", "v", &[9, 10])), NOBODY);
    assert_eq!(bench.on(candidate(2)), NOBODY);
    assert_eq!(
        bench.step(Step::AnswerMade(answer.to_owned())),
        [format!("183 {answer}").as_str(), "add 10", "INFO 1 2"]
    );
    bench
}

fn acknowledged() -> K {
    K::ProgressConfirmed {
        sdp: None,
        takes_offers: true,
    }
}

#[test]
fn a_callee_that_speaks_early_tells_and_hears_candidates_before_it_answers() {
    let answer = sdp("u", &[1], MORE);
    for is_acknowledged in [false, true] {
        let mut bench = speaking_early(&answer);
        if is_acknowledged {
            assert_eq!(bench.dialog(acknowledged()), NOBODY);
        }
        assert_eq!(bench.on(info("a", "v", &[9, 10, 11])), ["add 11"]);
        assert_eq!(bench.on(candidate(3)), ["INFO 1 2 3"]);
        assert_eq!(bench.state(), (Sip::Progressed, Jsep::Stable));
        // Of another generation.
        assert_eq!(bench.on(info("a", "w", &[12])), NOBODY);
        assert_eq!(
            bench.on(Input::Answer),
            [format!("200 {answer}").as_str(), "Accepted"]
        );
        assert_eq!(bench.on(candidate(4)), ["INFO 1 2 3 4"]);
        assert_eq!(bench.on(info("a", "v", &[9, 10, 11, 12])), ["add 12"]);
        assert_eq!(bench.dialog(K::Confirmed { sdp: None }), ["Confirmed"]);
        assert_eq!(bench.on(Input::Gathered), ["INFO 1 2 3 4 all"]);
    }
}

#[test]
fn an_update_before_the_answer_has_candidates_of_its_own() {
    let mut bench = speaking_early(&sdp("u", &[1], MORE));
    bench.dialog(acknowledged());
    let offer = sdp("v2", &[20], MORE);
    assert_eq!(
        bench.offered_in("alice", Some(&offer)),
        [format!("answer {offer}")]
    );
    // For the generation that is being answered, either side's; what was found for the one before is gone.
    assert_eq!(bench.on(info("a", "v2", &[20, 21])), NOBODY);
    assert_eq!(bench.on(candidate(31)), NOBODY);
    let answer = sdp("u2", &[30], MORE);
    assert_eq!(
        bench.step(Step::AnswerMade(answer.clone())),
        [format!("200 re {answer}").as_str(), "add 21", "INFO 30 31"]
    );
    assert_eq!(bench.on(candidate(32)), ["INFO 30 31 32"]);
    // The same credentials again: no restart, and nothing is forgotten.
    let offer = sdp("v2", &[20, 21, 22], MORE);
    bench.offered_in("alice", Some(&offer));
    let answer = sdp("u2", &[30], MORE);
    assert_eq!(
        bench.step(Step::AnswerMade(answer.clone())),
        [format!("200 re {answer}").as_str(), "INFO 30 31 32"]
    );
}

#[test]
fn a_caller_that_refuses_infos_before_the_answer_gets_an_offer_after_it() {
    let mut bench = speaking_early(&sdp("u", &[1], MORE));
    bench.on(Input::Gathered);
    let refused = Input::Dialog(K::InfoRefused {
        dialog: tag("a"),
        package: "trickle-ice".to_owned(),
        status: 469,
    });
    assert_eq!(bench.on(refused), NOBODY, "nobody has answered");
    bench.on(Input::Answer);
    assert_eq!(bench.dialog(K::Confirmed { sdp: None }), ["Confirmed", "offer"]);
}

#[test]
fn a_callee_does_not_count_on_a_caller_that_does_not_trickle() {
    let mut bench = Bench::new();
    bench.on(incoming(Some(&plain("v", &[9]))));
    bench.on(supports("a", true));
    assert!(!bench.call.may_trickle());
}

#[test]
fn a_restart_begins_with_no_late_candidates() {
    let mut bench = calling(&sdp("u", &[1], MORE), &sdp("v", &[9], ALL), true);
    bench.on(candidate(2));
    bench.on(Input::PathUp);
    assert_eq!(bench.on(Input::PathBroken), ["restart ICE", "offer"]);
    let offer = sdp("u2", &[5], MORE);
    assert_eq!(
        bench.step(Step::OfferMade(offer.clone())),
        [format!("re-INVITE {offer}")]
    );
    assert_eq!(bench.on(candidate(6)), ["INFO 5 6"]);
    // The offer comes to nothing: the old generation holds.
    assert_eq!(
        bench.dialog(K::OfferRejected { status: 488 }),
        ["undo", "INFO 1 6"]
    );
}

#[test]
fn no_more_candidates_are_kept_than_anybody_needs() {
    let mut bench = calling(&sdp("u", &[], MORE), &sdp("v", &[], ALL), true);
    let told = (1..200)
        .map(|port| bench.on(candidate(port)).len())
        .sum::<usize>();
    assert_eq!(told, 64);
}

#[test]
fn what_a_fork_trickles_goes_to_its_own_media_peer_before_and_after_it_answers() {
    for (who, fork, taken) in [("a", Fork::FIRST, "va"), ("b", Fork(1), "vb")] {
        let mut bench = Bench::new();
        bench.call = Call::new(CallId::fresh()).forking(true, false, true);
        bench.on(Input::Dial { target: target() });
        bench.step(Step::OfferMade(sdp("u", &[1], ALL)));
        bench.on(supports("a", true));
        bench.on(supports("b", true));
        bench.ringing("a", 183, Some(&sdp("va", &[10], MORE)));
        // Too early, for either: it waits for the media peer.
        assert_eq!(bench.on(info("a", "va", &[10, 11])), NOBODY);
        bench.ringing("b", 183, Some(&sdp("vb", &[20], MORE)));
        assert_eq!(bench.on(info("b", "vb", &[20, 21])), NOBODY);
        assert_eq!(bench.step(Step::AnswerApplied)[1..], ["add 11"]);
        assert_eq!(bench.on(Input::Forked(Fork(1), Ok(()))), ["add 21 to 1"]);
        assert_eq!(bench.on(info("a", "va", &[10, 11, 12])), ["add 12"]);
        assert_eq!(bench.on(info("b", "vb", &[20, 21, 22])), ["add 22 to 1"]);
        // Of nobody's description.
        assert_eq!(bench.on(info("b", "vx", &[30])), NOBODY);
        assert_eq!(bench.answered(who, None).len(), 2);
        assert_eq!(bench.on(info(who, taken, &[11, 12, 21, 22, 40])), NOBODY);
        let known = if fork == Fork::FIRST {
            "21 22 40"
        } else {
            "11 12 40 to 1"
        };
        assert_eq!(
            bench.step(Step::AnswerApplied),
            ["Confirmed".to_owned(), format!("add {known}")]
        );
        // The other one's media peer is closed.
        let (other, ufrag) = if who == "a" { ("b", "vb") } else { ("a", "va") };
        assert_eq!(bench.on(info(other, ufrag, &[50])), NOBODY);
    }
}

#[test]
fn a_fork_without_a_media_peer_has_its_candidates_when_it_answers() {
    let mut bench = Bench::new();
    bench.call = Call::new(CallId::fresh()).forking(true, false, false);
    bench.on(Input::Dial { target: target() });
    bench.step(Step::OfferMade(sdp("u", &[1], ALL)));
    bench.on(supports("a", true));
    bench.on(supports("b", true));
    bench.ringing("a", 183, Some(&sdp("va", &[10], MORE)));
    bench.step(Step::AnswerApplied);
    assert_eq!(bench.on(info("b", "vb", &[21])), NOBODY);
    assert_eq!(bench.answered("b", Some(&sdp("vb", &[20], MORE))).len(), 2);
    assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed", "add 21 to 8"]);
}

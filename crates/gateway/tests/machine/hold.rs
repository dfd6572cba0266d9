//! Hold and resume, from both sides (RFC 3264 section 8.4).

use crate::bench::*;
use siprtc_core::media::Codec;
use siprtc_core::{Cause, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, Side};
use siprtc_gateway::machine::{Command, Input, Step};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::MediaChange;

/// A description of the peer's with this direction.
fn theirs(direction: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 0\r\na={direction}\r\n"
    )
}

/// Our offer is out; the peer answers it. What comes of it.
fn answered(bench: &mut Bench, direction: &str) -> Vec<String> {
    let sdp = Some(theirs(direction));
    let said = bench.dialog(K::OfferAnswered { sdp });
    assert!(said[0].starts_with("apply"), "{said:?}");
    bench.step(Step::AnswerApplied)
}

/// The peer offers; we answer. What comes of it after the answer.
fn offers(bench: &mut Bench, direction: &str) -> Vec<String> {
    let said = bench.offered(Some(&theirs(direction)));
    assert!(said[0].starts_with("answer"), "{said:?}");
    let mut said = bench.answer_made();
    assert!(said.remove(0).starts_with("200 re"));
    said
}

fn wants(bench: &mut Bench, held: bool) {
    assert_eq!(
        bench.on(Input::Hold(held)),
        [format!("set hold {held}"), "offer".to_owned()]
    );
    let said = bench.offer_made();
    assert!(said[0].starts_with("re-INVITE"), "{said:?}");
}

fn held() -> Bench {
    let mut bench = Bench::calling();
    wants(&mut bench, true);
    assert_eq!(answered(&mut bench, "recvonly"), ["Held Local"]);
    bench
}

#[test]
fn we_hold_and_resume() {
    let mut bench = held();
    assert_eq!(bench.on(Input::Hold(true)), NOBODY, "it is");
    wants(&mut bench, false);
    assert_eq!(answered(&mut bench, "sendrecv"), ["Resumed Local"]);
    assert_eq!(bench.on(Input::Hold(false)), NOBODY);
}

#[test]
fn the_peer_holds_and_resumes_in_every_form() {
    let mut bench = Bench::accepting();
    bench.dialog(K::Confirmed { sdp: None });
    for form in ["sendonly", "inactive"] {
        assert_eq!(offers(&mut bench, form), ["Held Remote"]);
        assert_eq!(offers(&mut bench, form), NOBODY, "told once");
        assert_eq!(offers(&mut bench, "sendrecv"), ["Resumed Remote"]);
    }
}

#[test]
fn both_hold_and_each_resumes_for_itself() {
    let mut bench = held();
    assert_eq!(offers(&mut bench, "inactive"), ["Held Remote"]);
    wants(&mut bench, false);
    assert_eq!(answered(&mut bench, "sendonly"), ["Resumed Local"]);
    assert_eq!(offers(&mut bench, "sendrecv"), ["Resumed Remote"]);
}

#[test]
fn a_peer_that_refuses_our_hold_leaves_the_call_as_it_was() {
    let mut bench = Bench::calling();
    wants(&mut bench, true);
    assert_eq!(
        bench.dialog(K::OfferRejected { status: 488 }),
        ["undo", "set hold false", "HoldRefused true"]
    );
    assert_eq!(bench.state(), (Sip::Confirmed, Jsep::Stable));
    wants(&mut bench, true);
    assert_eq!(answered(&mut bench, "recvonly"), ["Held Local"]);
}

#[test]
fn a_hold_that_we_cannot_offer_leaves_the_call_as_it_was() {
    let mut bench = Bench::calling();
    bench.on(Input::Hold(true));
    assert_eq!(
        bench.fails(Fault::Backend),
        ["undo", "set hold false", "HoldRefused true"]
    );
}

#[test]
fn a_wish_during_another_negotiation_waits_for_its_end() {
    let mut bench = Bench::calling();
    bench.offered(Some(&theirs("sendrecv")));
    assert_eq!(bench.on(Input::Hold(true)), NOBODY);
    assert_eq!(bench.answer_made(), ["200 re ours-2", "set hold true", "offer"]);
    bench.offer_made();
    assert_eq!(answered(&mut bench, "recvonly"), ["Held Local"]);
}

#[test]
fn a_failed_offer_of_the_peer_does_not_cost_our_wish() {
    let mut bench = Bench::calling();
    bench.offered(Some(&theirs("sendrecv")));
    bench.on(Input::Hold(true));
    assert_eq!(
        bench.fails(Fault::PeerIncompatible),
        ["undo", "488 re", "set hold true", "offer"]
    );
}

fn codecs() -> MediaChange {
    MediaChange {
        codecs: Some(vec![Codec::Pcma]),
        ..MediaChange::default()
    }
}

fn no_video() -> MediaChange {
    MediaChange {
        video: Some(None),
        ..MediaChange::default()
    }
}

/// What the descriptions say of codecs and video.
const BOTH: &str =
    "set hold false and MediaChange { codecs: Some([Pcma]), direction: None, video: Some(None) }";
const ONE: &str = "set hold false and MediaChange { codecs: Some([Pcma]), direction: None, video: None }";

#[test]
fn codecs_and_video_change_one_after_the_other_and_together() {
    let mut bench = Bench::calling();
    assert_eq!(bench.on(Input::Change(codecs())), [ONE, "offer"]);
    bench.offer_made();
    assert_eq!(bench.on(Input::Change(no_video())), NOBODY, "it waits");
    assert_eq!(answered(&mut bench, "sendrecv"), ["MediaChanged", BOTH, "offer"]);
    bench.offer_made();
    assert_eq!(answered(&mut bench, "sendrecv"), ["MediaChanged"]);
    // The next hold says it still.
    assert_eq!(
        bench.on(Input::Hold(true)),
        [BOTH.replace("hold false", "hold true"), "offer".to_owned()]
    );
    bench.offer_made();
    assert_eq!(answered(&mut bench, "recvonly"), ["Held Local"]);
}

#[test]
fn a_change_that_is_refused_leaves_what_was_agreed_on() {
    let mut bench = Bench::calling();
    bench.on(Input::Change(codecs()));
    bench.offer_made();
    answered(&mut bench, "sendrecv");
    bench.on(Input::Change(no_video()));
    bench.on(Input::Hold(true));
    bench.offer_made();
    assert_eq!(
        bench.dialog(K::OfferRejected { status: 488 }),
        [
            "undo",
            ONE,
            "MediaRefused",
            ONE.replace("hold false", "hold true").as_str(),
            "offer"
        ],
        "the hold was not refused"
    );
}

#[test]
fn the_last_wish_counts() {
    let mut bench = Bench::calling();
    wants(&mut bench, true);
    assert_eq!(bench.on(Input::Hold(false)), NOBODY);
    assert_eq!(
        answered(&mut bench, "recvonly"),
        ["Held Local", "set hold false", "offer"]
    );
    bench.offer_made();
    assert_eq!(answered(&mut bench, "sendrecv"), ["Resumed Local"]);
}

/// Hold by both at once: the peer's offer goes first, and our answer to it says what our offer said.
#[test]
fn in_glare_our_answer_holds_as_our_offer_did() {
    let mut bench = Bench::calling();
    wants(&mut bench, true);
    assert_eq!(bench.dialog(K::OfferRejected { status: 491 }), ["undo"]);
    assert_eq!(offers(&mut bench, "sendonly"), ["Held Local", "Held Remote"]);
}

/// The wish is taken back while the peer's offer has its turn, which then comes to nothing.
#[test]
fn what_was_said_in_glare_and_never_agreed_on_is_not_said_again() {
    let mut bench = Bench::calling();
    wants(&mut bench, true);
    assert_eq!(bench.on(Input::Hold(false)), NOBODY);
    assert_eq!(bench.dialog(K::OfferRejected { status: 491 }), ["undo"]);
    let said = bench.offered(Some(&theirs("sendrecv")));
    assert!(said[0].starts_with("answer"), "{said:?}");
    let failed = bench.fails(Fault::PeerIncompatible);
    assert_eq!(failed, ["undo", "488 re", "set hold false"]);
}

#[test]
fn a_call_that_is_not_confirmed_cannot_be_held() {
    assert!(!Bench::dialled().takes(Input::Hold(true)));
    assert!(!Bench::invited().takes(Input::Hold(true)));
    assert!(!Bench::accepting().takes(Input::Hold(true)));
    let mut over = Bench::calling();
    over.on(ended(Cause::Bye, Side::Remote, None));
    assert!(!over.takes(Input::Hold(true)));
}

/// A silent path during a hold, and a refused command: the hold is neither lost nor told again.
#[test]
fn another_offer_says_the_same_of_hold() {
    let mut bench = held();
    assert_eq!(bench.on(Input::PathBroken), ["restart ICE", "offer"]);
    bench.offer_made();
    assert_eq!(answered(&mut bench, "recvonly"), NOBODY);
    assert_eq!(bench.on(Input::PathBroken), ["restart ICE", "offer"]);
    bench.offer_made();
    assert_eq!(bench.refused(Command::ReInvite), ["undo"]);
    assert_eq!(offers(&mut bench, "sendrecv"), NOBODY);
}

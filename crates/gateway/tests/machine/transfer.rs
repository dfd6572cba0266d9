//! Transfers as one call sees them: what its peer wants, and what became of what we wanted of the peer.

use crate::bench::*;
use siprtc_core::sip::Headers;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::{DialogEventKind as K, Referral, Side};
use siprtc_gateway::machine::{Call, Command, Input};

fn referred() -> K {
    K::Referred(Referral {
        target: "sip:carol@example.com".parse().unwrap(),
        headers: Headers::new(),
        referred_by: None,
    })
}

#[test]
fn the_application_is_asked_and_its_word_counts_once() {
    let mut bench = Bench::calling();
    assert!(!bench.takes(Input::AcceptTransfer), "nobody wants anything");
    assert_eq!(bench.dialog(referred()), ["TransferWanted sip:carol@example.com"]);
    assert_eq!(bench.on(Input::AcceptTransfer), ["call sip:carol@example.com"]);
    assert!(!bench.takes(Input::AcceptTransfer));
    assert!(!bench.takes(Input::RefuseTransfer { status: 603 }));
    assert_eq!(bench.dialog(referred()), ["TransferWanted sip:carol@example.com"]);
    assert_eq!(bench.on(Input::RefuseTransfer { status: 603 }), ["report 603"]);
    assert!(bench.ending.is_none(), "the call goes on");
}

#[test]
fn an_answer_that_comes_too_late_is_an_error() {
    let mut bench = Bench::calling();
    bench.dialog(referred());
    assert_eq!(bench.dialog(K::ReferralLapsed), ["TransferLapsed"]);
    assert!(!bench.takes(Input::AcceptTransfer));
}

#[test]
fn nobody_is_asked_where_every_transfer_is_taken() {
    let mut bench = Bench::calling();
    let granted = std::mem::replace(&mut bench.call, Call::new(CallId::fresh())).taking_transfers();
    bench.call = granted;
    assert_eq!(bench.dialog(referred()), ["call sip:carol@example.com"]);
}

#[test]
fn a_transferred_call_is_hung_up_and_a_refused_transfer_leaves_it() {
    let mut bench = Bench::calling();
    let progress = K::ReferralProgress { status: 180 };
    assert_eq!(bench.dialog(progress), ["TransferProgress 180"]);
    let refused = K::ReferralRefused { status: 486 };
    assert_eq!(bench.dialog(refused), ["TransferRefused 486"]);
    assert_eq!(
        bench.dialog(K::ReferralSucceeded),
        ["Transferred", "hang up", "close"]
    );
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Bye, Side::Local, None)),
        ["Ended bye", "forget"]
    );
    let ending = bench.ending.unwrap();
    assert_eq!((ending.by, ending.established), (Side::Local, true));
    assert!(ending.sentence.unwrap().contains("transferred"));
}

#[test]
fn a_call_whose_place_is_taken_is_hung_up_and_says_why() {
    let mut bench = Bench::calling();
    assert_eq!(bench.on(Input::Replaced), ["hang up", "close"]);
    bench.on(Input::MediaClosed(None));
    bench.on(ended(Cause::Bye, Side::Local, None));
    assert!(bench.ending.unwrap().sentence.unwrap().contains("RFC 3891"));
}

#[test]
fn news_of_a_transfer_that_cross_with_the_end_mean_nothing() {
    let mut bench = Bench::calling();
    assert_eq!(bench.on(Input::Hangup), ["hang up", "close"]);
    assert_eq!(bench.dialog(referred()), NOBODY);
    assert_eq!(bench.dialog(K::ReferralSucceeded), NOBODY);
    assert!(!bench.takes(Input::AcceptTransfer));
}

#[test]
fn a_report_that_nobody_waits_for_any_more_changes_nothing() {
    let mut bench = Bench::calling();
    assert_eq!(bench.refused(Command::ReportReferral), NOBODY);
    assert_eq!(bench.on(Input::Hangup), ["hang up", "close"]);
}

//! How calls end.

use crate::bench::*;
use siprtc_core::{Cause, Error, Fault};
use siprtc_dialog_manager::Side;
use siprtc_gateway::machine::{Command, Input};
use siprtc_gateway::table::{CLOSING, GRACE};
use siprtc_media_session::SessionStats;
use std::time::Duration;

#[test]
fn the_first_cause_is_the_one_that_is_told() {
    let mut bench = Bench::calling();
    bench.on(Input::MediaLost("no consent".into()));
    assert_eq!(bench.on(Input::Hangup), NOBODY);
    assert_eq!(bench.on(ended(Cause::Bye, Side::Remote, None)), NOBODY);
    assert_eq!(
        bench.on(Input::MediaClosed(None)),
        ["Ended media_failed", "forget"]
    );
    let ending = bench.ending.unwrap();
    assert_eq!(
        (ending.by, ending.sentence.as_deref()),
        (Side::Local, Some("no consent"))
    );
}

#[test]
fn a_lost_media_path_is_said_in_the_bye() {
    let mut bench = Bench::calling();
    assert_eq!(
        bench.on(Input::MediaLost("no consent".into())),
        ["hang up SIP;cause=500;text=\"media path lost\"", "close"]
    );
}

#[test]
fn a_hangup_before_the_invite_is_out_is_nobody_else_s_business() {
    let mut bench = Bench::new();
    bench.on(Input::Dial { target: target() });
    assert_eq!(bench.on(Input::Hangup), ["close"]);
    assert_eq!(bench.offer_made(), NOBODY);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Failed cancelled", "forget"]);
}

#[test]
fn an_offer_that_cannot_be_made_fails_the_call_without_a_message() {
    let mut bench = Bench::new();
    bench.on(Input::Dial { target: target() });
    assert_eq!(bench.fails(Fault::ConfigInvalid), ["close"]);
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Failed internal", "forget"]);
}

#[test]
fn a_command_at_the_wrong_time_leaves_no_trace() {
    let mut bench = Bench::calling();
    assert!(!bench.takes(Input::Refuse { status: 603 }));
    assert!(!bench.takes(Input::Answer));
    assert!(!bench.takes(Input::Dial { target: target() }));
    bench.on(ended(Cause::Bye, Side::Remote, None));
    assert_eq!(bench.on(Input::MediaClosed(None)), ["Ended bye", "forget"]);
}

#[test]
fn a_peer_that_says_nothing_more_does_not_keep_a_call() {
    let mut bench = Bench::calling();
    bench.on(Input::Hangup);
    bench.on(Input::MediaClosed(None));
    assert_eq!(bench.wait(GRACE - Duration::from_millis(1)), NOBODY);
    assert_eq!(bench.wait(Duration::from_millis(1)), ["Ended bye", "forget"]);
    assert_eq!(bench.call.poll_timeout(), None);
}

#[test]
fn a_media_peer_that_does_not_close_does_not_keep_a_call() {
    let mut bench = Bench::calling();
    bench.on(ended(Cause::Bye, Side::Remote, None));
    assert_eq!(bench.wait(CLOSING - Duration::from_millis(1)), NOBODY);
    assert_eq!(bench.wait(Duration::from_millis(1)), ["Ended bye", "forget"]);
    assert_eq!(bench.on(Input::MediaClosed(None)), NOBODY);
}

#[test]
fn neither_of_them_keeps_a_call_and_late_words_change_nothing() {
    let mut bench = Bench::calling();
    bench.on(Input::Hangup);
    assert_eq!(bench.wait(GRACE), NOBODY);
    assert_eq!(bench.on(ended(Cause::Bye, Side::Local, None)), NOBODY);
    assert_eq!(bench.wait(CLOSING), ["Ended bye", "forget"]);
}

#[test]
fn whoever_cannot_wait_may_give_up() {
    let mut bench = Bench::calling();
    bench.on(Input::Hangup);
    assert_eq!(bench.on(Input::GiveUp), NOBODY);
    assert_eq!(bench.on(Input::GiveUp), ["Ended bye", "forget"]);
    assert_eq!(bench.on(Input::GiveUp), NOBODY);
}

#[test]
fn the_last_numbers_come_with_the_end() {
    let mut bench = Bench::calling();
    bench.on(Input::Hangup);
    let stats = SessionStats {
        packets_expected: 7,
        ..SessionStats::default()
    };
    bench.on(Input::MediaClosed(Some(Box::new(stats))));
    bench.on(ended(Cause::Bye, Side::Local, None));
    assert_eq!(bench.ending.unwrap().stats.unwrap().packets_expected, 7);
}

#[test]
fn a_cancelled_call_tells_the_status_of_its_invite() {
    let mut bench = Bench::dialled();
    assert_eq!(bench.on(Input::Hangup), ["hang up", "close"]);
    bench.on(Input::MediaClosed(None));
    assert_eq!(
        bench.on(ended(Cause::Cancelled, Side::Local, Some(487))),
        ["Failed cancelled", "forget"]
    );
    assert_eq!(bench.ending.unwrap().status, Some(487));
}

#[test]
fn a_peer_s_words_cannot_break_out_of_our_reason() {
    let mut bench = Bench::dialled();
    bench.answered("a", Some("theirs-1"));
    let evil = Error::new(
        Fault::PeerIncompatible,
        "read answer",
        format!("a\"b\\c\r\nd\0e\t{}", "x".repeat(4000)),
    );
    let said = bench.on(Input::Step(bench.epoch, Err(evil)));
    let reason = said[0].strip_prefix("hang up ").unwrap();
    assert!(
        reason.starts_with("SIP;cause=488;text=\"a'b'c''d'e'x"),
        "{reason}"
    );
    assert!(
        reason.len() < 160 && reason.ends_with('"') && reason.matches('"').count() == 2,
        "{reason}"
    );
}

#[test]
fn a_dialog_manager_that_is_gone_ends_the_call_whatever_it_was_told() {
    for command in [
        Command::RefuseOffer,
        Command::AcceptOffer,
        Command::ReInvite,
        Command::Ring,
    ] {
        let mut bench = Bench::calling();
        let gone = Error::new(Fault::Backend, "command", "it is gone");
        assert_eq!(bench.on(Input::CommandFailed(command, gone)), ["close"]);
        assert_eq!(bench.on(Input::MediaClosed(None)), ["Ended internal", "forget"]);
    }
}

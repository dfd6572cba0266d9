//! Two telephones behind two NATs, with Kamailio and coturn on the public side, in network namespaces.

use siprtc_integration_tests::internet::{ALICE, BOB, Internet};
use siprtc_integration_tests::lab::Phone;
use siprtc_integration_tests::netns::Nat;
use siprtc_integration_tests::program::{Outcome, SOON};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::time::Duration;

/// The tunes last 4 s.
const TALK: &str = "6";
const CALL: Duration = Duration::from_secs(45);

/// Alice calls Bob from home to home; both must hear the other's tune.
fn call(internet: &Internet, transport: &'static str) -> (Outcome, Outcome) {
    let lab = &internet.lab;
    let (alice_plays, bob_plays) = (
        lab.folder.join("alice-plays.wav"),
        lab.folder.join("bob-plays.wav"),
    );
    wav::write_tune(&alice_plays, &CALLER);
    wav::write_tune(&bob_plays, &CALLEE);
    let files = ["bob-plays.wav", "bob-heard.wav"].map(|name| lab.file(name));
    let phone = Phone::of("bob").at(BOB).over(transport).with_turn(lab);
    let arguments = [
        "answer", "--calls", "1", "--play", &files[0], "--record", &files[1],
    ];
    let mut bob = lab.start_in(&internet.homes[1].place(), &phone, &arguments);
    bob.event("ready", SOON);

    let files = ["alice-plays.wav", "alice-heard.wav"].map(|name| lab.file(name));
    let phone = Phone::of("alice").at(ALICE).over(transport).with_turn(lab);
    let arguments = [
        "call",
        "bob",
        "--play",
        &files[0],
        "--record",
        &files[1],
        "--duration",
        TALK,
    ];
    let alice = lab
        .start_in(&internet.homes[0].place(), &phone, &arguments)
        .finish(CALL);
    let bob = bob.finish(SOON);
    alice.exits_with(0);
    bob.exits_with(0);
    wav::assert_heard(&CALLER, &alice_plays, &lab.folder.join("bob-heard.wav"));
    wav::assert_heard(&CALLEE, &bob_plays, &lab.folder.join("alice-heard.wav"));
    (alice, bob)
}

fn candidates(outcome: &Outcome) -> [&str; 2] {
    ["local_candidate", "remote_candidate"].map(|key| outcome.report()[key].as_str().unwrap_or("none"))
}

#[test]
fn behind_two_ordinary_nats_they_talk_without_a_relay() {
    let internet = Internet::new("nat", [Nat::PortRestricted, Nat::PortRestricted]);
    let (alice, bob) = call(&internet, "udp");
    // Each has learnt from coturn what its NAT makes of it, and says so.
    let log = internet.lab.registrar().log();
    for public in ["203.0.113.11", "203.0.113.12"] {
        let reflexive = |line: &str| {
            line.starts_with("a=candidate:") && line.contains(public) && line.contains("typ srflx")
        };
        assert!(
            log.lines().any(reflexive),
            "no srflx candidate at {public}:\n{log}"
        );
    }
    for outcome in [&alice, &bob] {
        assert!(!candidates(outcome).contains(&"relay"), "{:#}", outcome.report());
        assert!(
            candidates(outcome).iter().any(|kind| kind.ends_with("flx")),
            "{:#}",
            outcome.report()
        );
    }
}

#[test]
fn behind_two_symmetric_nats_they_talk_through_the_relay() {
    let internet = Internet::new("symmetric", [Nat::Symmetric, Nat::Symmetric]);
    let (alice, bob) = call(&internet, "udp");
    for outcome in [&alice, &bob] {
        assert!(candidates(outcome).contains(&"relay"), "{:#}", outcome.report());
    }
}

#[test]
fn behind_nats_signalling_over_tcp_reaches_the_callee() {
    let internet = Internet::new("nat-tcp", [Nat::PortRestricted, Nat::Symmetric]);
    call(&internet, "tcp");
}

//! Two telephones behind two NATs, with Kamailio and coturn on the public side, in network namespaces.

use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::netns::{Namespace, Nat};
use siprtc_integration_tests::program::{Outcome, SOON};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::net::Ipv4Addr;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Where the telephones are, each in a home of its own.
const ALICE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
/// The tunes last 4 s.
const TALK: &str = "6";
const CALL: Duration = Duration::from_secs(45);

/// A public network with the servers, and two homes behind NATs. The lab goes first: its processes live in the namespaces.
struct Internet {
    lab: Lab,
    homes: [Namespace; 2],
    _nats: [Namespace; 2],
    _wan: Namespace,
}

impl Internet {
    fn new(story: &str, nats: [Nat; 2]) -> Self {
        let wan = Namespace::new();
        wan.ip(&["link", "add", "br0", "type", "bridge"]);
        wan.ip(&["link", "set", "br0", "up"]);
        wan.ip(&["addr", "add", &format!("{SERVER}/24"), "dev", "br0"]);
        // Private addresses are lost at a router, as on the Internet, and not refused by the relay's own kernel: coturn gives
        // up an allocation whose sending fails.
        wan.ip(&["route", "add", "10.0.0.0/8", "via", "203.0.113.11"]);
        let home = |number: u8, nat: Nat| {
            let (router, home) = (Namespace::new(), Namespace::new());
            let port = format!("port{number}");
            router.cable("wan0", &wan, &port);
            wan.ip(&["link", "set", &port, "master", "br0"]);
            router.ip(&[
                "addr",
                "add",
                &format!("203.0.113.{}/24", 10 + number),
                "dev",
                "wan0",
            ]);
            router.cable("lan0", &home, "eth0");
            router.ip(&["addr", "add", &format!("10.{number}.0.1/24"), "dev", "lan0"]);
            home.ip(&["addr", "add", &format!("10.{number}.0.2/24"), "dev", "eth0"]);
            home.ip(&["route", "add", "default", "via", &format!("10.{number}.0.1")]);
            router.nat(nat);
            (router, home)
        };
        let ((nat_a, home_a), (nat_b, home_b)) = (home(1, nats[0]), home(2, nats[1]));
        let lab = Lab::at(story, wan.place(), SERVER).with_kamailio().with_coturn();
        Internet {
            lab,
            homes: [home_a, home_b],
            _nats: [nat_a, nat_b],
            _wan: wan,
        }
    }

    /// Alice calls Bob from home to home; both must hear the other's tune.
    fn call(&self, transport: &'static str) -> (Outcome, Outcome) {
        let lab = &self.lab;
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
        let mut bob = lab.start_in(&self.homes[1].place(), &phone, &arguments);
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
            .start_in(&self.homes[0].place(), &phone, &arguments)
            .finish(CALL);
        let bob = bob.finish(SOON);
        alice.exits_with(0);
        bob.exits_with(0);
        wav::assert_heard(&CALLER, &alice_plays, &lab.folder.join("bob-heard.wav"));
        wav::assert_heard(&CALLEE, &bob_plays, &lab.folder.join("alice-heard.wav"));
        (alice, bob)
    }
}

fn candidates(outcome: &Outcome) -> [&str; 2] {
    ["local_candidate", "remote_candidate"].map(|key| outcome.report()[key].as_str().unwrap_or("none"))
}

#[test]
fn behind_two_ordinary_nats_they_talk_without_a_relay() {
    let internet = Internet::new("nat", [Nat::PortRestricted, Nat::PortRestricted]);
    let (alice, bob) = internet.call("udp");
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
    let (alice, bob) = internet.call("udp");
    for outcome in [&alice, &bob] {
        assert!(candidates(outcome).contains(&"relay"), "{:#}", outcome.report());
    }
}

#[test]
fn behind_nats_signalling_over_tcp_reaches_the_callee() {
    Internet::new("nat-tcp", [Nat::PortRestricted, Nat::Symmetric]).call("tcp");
}

//! A telephone whose address changes during a call: the call, the registration and the way back to it survive.

use siprtc_integration_tests::internet::{ALICE, BOB, Internet};
use siprtc_integration_tests::lab::{KamailioSettings, Phone};
use siprtc_integration_tests::netns::Nat;
use siprtc_integration_tests::program::{Outcome, SOON, Siprtc};
use siprtc_integration_tests::wav;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Alice's other address at home.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
/// Her address in another network, behind another NAT.
const AWAY: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
/// How long the tone is that each plays, in seconds.
const TONE: f64 = 16.0;
/// How much of it must arrive.
const ENOUGH: f64 = 12.0;
/// When Bob hangs up, by which time the tone is over.
const CALL_S: &str = "18";
const CALL: Duration = Duration::from_secs(45);
/// How long the call has been going on when the address changes.
const SETTLED: Duration = Duration::from_secs(3);

fn internet(story: &str) -> Internet {
    Internet::new(story, [Nat::PortRestricted, Nat::PortRestricted])
}

/// With a Kamailio that speaks TLS and WebSocket, too.
fn secure(story: &str) -> Internet {
    let settings = KamailioSettings {
        secure: true,
        ..KamailioSettings::default()
    };
    Internet::with(story, [Nat::PortRestricted, Nat::PortRestricted], settings)
}

/// A telephone that listens on whatever addresses there are.
fn roaming(internet: &Internet, user: &str, at: Ipv4Addr, transport: &'static str) -> Phone {
    let phone = Phone::of(user).at(at).over(transport).with_turn(&internet.lab);
    let phone = match transport {
        "udp" | "tcp" => phone.set("sip.listen", "[\"udp:0.0.0.0:0\", \"tcp:0.0.0.0:0\"]"),
        _ => phone,
    };
    phone.set("ice.interfaces", "[]")
}

/// Another address in the same network; the default route is kept.
fn renumber(internet: &mut Internet) {
    let home = &internet.homes[0];
    // Of another prefix, else the kernel deletes it together with the one that is primary there.
    home.ip(&["addr", "add", &format!("{OTHER}/25"), "dev", "eth0"]);
    home.ip(&["addr", "del", &format!("{ALICE}/24"), "dev", "eth0"]);
    home.ip(&["route", "replace", "default", "via", "10.1.0.1"]);
}

/// Alice calls Bob; something happens to her address, and Bob hangs up.
fn call_through(
    internet: &mut Internet,
    transport: &'static str,
    happens: impl FnOnce(&mut Internet, &mut Siprtc),
) {
    let (mut alice, bob) = {
        let lab = &internet.lab;
        wav::write_tone(&lab.folder.join("tone.wav"), TONE, 20.0);
        let [tone, heard] = ["tone.wav", "bob-heard.wav"].map(|name| lab.file(name));
        let arguments = [
            "answer",
            "--calls",
            "1",
            "--duration",
            CALL_S,
            "--play",
            &tone,
            "--record",
            &heard,
        ];
        let phone = roaming(internet, "bob", BOB, transport);
        let mut bob = lab.start_in(&internet.homes[1].place(), &phone, &arguments);
        bob.event("ready", SOON);
        let heard = lab.file("alice-heard.wav");
        let arguments = ["call", "bob", "--play", &tone, "--record", &heard];
        let phone = roaming(internet, "alice", ALICE, transport);
        let alice = lab.start_in(&internet.homes[0].place(), &phone, &arguments);
        (alice, bob)
    };
    alice.event_where("first_packet", SOON, |line| line["direction"] == "in");
    std::thread::sleep(SETTLED);
    happens(internet, &mut alice);
    let (alice, bob) = (alice.finish(CALL), bob.finish(SOON));
    alice.exits_with(0);
    bob.exits_with(0);
    // Her own BYE would come when her file is over, half a minute after the change.
    ended_by(&alice, "remote");
    ended_by(&bob, "local");
    for name in ["bob-heard.wav", "alice-heard.wav"] {
        let tone = wav::tone(&internet.lab.folder.join(name));
        println!("{name}: {tone:?}");
        assert!(
            tone.heard > ENOUGH,
            "{name}: {tone:?}\n{}\n{}",
            alice.errors,
            bob.errors
        );
    }
}

fn ended_by(outcome: &Outcome, side: &str) {
    let ending = &outcome.report()["ending"];
    assert_eq!(ending["cause"], "bye", "{ending:#}");
    assert_eq!(ending["by"], side, "{ending:#}");
}

fn until_selected(alice: &mut Siprtc, at: Ipv4Addr) {
    let at = at.to_string();
    alice.event_where("selected", SOON, |line| {
        line["pair"].as_str().is_some_and(|pair| pair.contains(&at))
    });
}

#[test]
fn a_call_over_udp_survives_another_address() {
    call_through(&mut internet("roam-udp"), "udp", |internet, alice| {
        renumber(internet);
        until_selected(alice, OTHER);
    });
}

#[test]
fn a_call_over_tcp_survives_another_address() {
    call_through(&mut internet("roam-tcp"), "tcp", |internet, alice| {
        renumber(internet);
        until_selected(alice, OTHER);
    });
}

/// Nobody can open a WebSocket to Alice: the call goes on over the one that her registration opens.
#[test]
fn a_call_over_a_websocket_survives_another_address() {
    call_through(&mut secure("roam-ws"), "ws", |internet, alice| {
        renumber(internet);
        until_selected(alice, OTHER);
    });
}

#[test]
fn a_call_over_a_secure_websocket_survives_another_network() {
    call_through(&mut secure("roam-wss"), "wss", |internet, alice| {
        internet.replug(0, 3, Nat::PortRestricted);
        until_selected(alice, AWAY);
    });
}

#[test]
fn a_call_survives_another_network_behind_another_nat() {
    call_through(&mut internet("roam-away"), "udp", |internet, alice| {
        internet.replug(0, 3, Nat::PortRestricted);
        until_selected(alice, AWAY);
    });
}

#[test]
fn a_call_survives_three_seconds_without_an_address() {
    call_through(&mut internet("roam-gone"), "udp", |internet, _| {
        let home = &internet.homes[0];
        home.ip(&["addr", "del", &format!("{ALICE}/24"), "dev", "eth0"]);
        std::thread::sleep(Duration::from_secs(3));
        home.ip(&["addr", "add", &format!("{ALICE}/24"), "dev", "eth0"]);
        home.ip(&["route", "replace", "default", "via", "10.1.0.1"]);
    });
}

/// Bob reaches Alice, hangs up, and reaches her once more where she is by then.
fn registration_follows(story: &str, transport: &'static str, change: impl FnOnce(&mut Internet)) {
    let mut internet = internet(story);
    let phone = roaming(&internet, "alice", ALICE, transport);
    let place = internet.homes[0].place();
    let mut alice = internet.lab.start_in(&place, &phone, &["answer", "--calls", "2"]);
    alice.event("ready", SOON);
    let calls = |internet: &Internet| {
        let phone = roaming(internet, "bob", BOB, transport);
        let place = internet.homes[1].place();
        let bob = internet
            .lab
            .start_in(&place, &phone, &["call", "alice", "--duration", "1"]);
        let outcome = bob.finish(CALL);
        outcome.exits_with(0);
        ended_by(&outcome, "local");
    };
    calls(&internet);
    let registered = |internet: &Internet| {
        let log = internet.lab.registrar().log();
        log.lines()
            .filter(|line| line.contains("REGISTERED alice"))
            .count()
    };
    let before = registered(&internet);
    change(&mut internet);
    let again =
        siprtc_integration_tests::patience::wait(SOON, || (registered(&internet) > before).then_some(()));
    assert!(
        again.is_some(),
        "Alice did not register again:\n{}",
        alice.errors()
    );
    calls(&internet);
    alice.finish(CALL).exits_with(0);
}

#[test]
fn a_registration_over_udp_follows_another_address() {
    registration_follows("moved-udp", "udp", renumber);
}

#[test]
fn a_registration_over_tcp_follows_into_another_network() {
    registration_follows("moved-tcp", "tcp", |internet| {
        internet.replug(0, 3, Nat::Symmetric)
    });
}

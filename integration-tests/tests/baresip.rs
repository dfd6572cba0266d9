//! Calls to and from baresip, an independent telephone with its own SIP, ICE, DTLS-SRTP and Opus, through Kamailio.
//!
//! baresip offers no loopback addresses, so everybody lives in a network namespace with real ones.

use siprtc_integration_tests::baresip::{Baresip, Mode};
use siprtc_integration_tests::lab::{Lab, Phone, text};
use siprtc_integration_tests::netns::Namespace;
use siprtc_integration_tests::program::{Outcome, SOON};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::net::Ipv4Addr;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const THEIRS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);

/// The tunes last 4 s; ICE, and baresip's re-INVITE after it, come before them.
const TALK: &str = "7";
/// Talk and what surrounds it.
const CALL: Duration = Duration::from_secs(45);

/// How long a call is held, and talked between.
const HOLD: Duration = Duration::from_secs(2);

/// A namespace with Kamailio in it. The lab is dropped first: its processes live in the namespace.
struct World {
    lab: Lab,
    _namespace: Namespace,
}

impl World {
    fn new(story: &str) -> Self {
        let namespace = Namespace::machine(&[SERVER, OURS, THEIRS]);
        let lab = Lab::at(story, namespace.place(), SERVER).with_kamailio();
        World {
            lab,
            _namespace: namespace,
        }
    }
}

fn judge(
    lab: &Lab,
    siprtc: &Outcome,
    mut baresip: Baresip,
    mode: Mode,
    (ours, theirs): (&[usize], &[usize]),
) {
    siprtc.exits_with(0);
    let report = siprtc.report();
    assert_eq!(report["established"], true, "{report:#}");
    assert_eq!(report["media"]["codec"], "opus", "{report:#}");
    assert_eq!(
        (&report["local_candidate"], &report["remote_candidate"]),
        (&"host".into(), &"host".into()),
        "{report:#}"
    );
    assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
    let log = baresip.process.log();
    let word = match mode {
        Mode::Dtls | Mode::DtlsIce | Mode::Web => "DTLS-SRTP",
        Mode::Sdes | Mode::SdesOptional => "SRTP is Enabled",
        Mode::Plain => "",
    };
    assert!(log.contains(word), "baresip did not speak {word}:\n{log}");

    // Its end finishes its recordings: before it the sizes by which the longest is found say little.
    baresip.process.stop();
    let their_recording = baresip.heard();
    wav::assert_heard(
        theirs,
        &lab.folder.join("theirs.wav"),
        &lab.folder.join("heard.wav"),
    );
    wav::assert_heard(ours, &lab.folder.join("ours.wav"), &their_recording);
}

fn siprtc_calls(story: &str, mode: Mode) {
    let world = World::new(story);
    let lab = &world.lab;
    let (ours, theirs) = (lab.folder.join("ours.wav"), lab.folder.join("theirs.wav"));
    wav::write_tune(&ours, &CALLER);
    // baresip hangs up when its file is over.
    wav::write_tune_and_silence(&theirs, &CALLEE, 4.0);
    let bob = Baresip::start(lab, "bob", THEIRS, mode, &theirs, None);
    let heard = lab.file("heard.wav");
    let arguments = [
        "call",
        "bob",
        "--play",
        &text(&ours),
        "--record",
        &heard,
        "--duration",
        TALK,
    ];
    let alice = match mode {
        // It refuses everything but RTP/SAVP.
        Mode::Sdes => Phone::of("alice").set("media.rtp.keying", "sdes"),
        // It begins DTLS with where the WebRTC offer is, and not anew with the classic one: see ARCHITECTURE.md, known limits.
        Mode::Dtls => Phone::of("alice")
            .set("media.engine", "rtp")
            .set("media.rtp.keying", "dtls"),
        _ => Phone::of("alice"),
    };
    let alice = lab.start(&alice.at(OURS), &arguments).finish(CALL);
    judge(lab, &alice, bob, mode, (&CALLER, &CALLEE));
}

fn baresip_calls(story: &str, mode: Mode) {
    let world = World::new(story);
    let lab = &world.lab;
    let (ours, theirs) = (lab.folder.join("ours.wav"), lab.folder.join("theirs.wav"));
    wav::write_tune(&ours, &CALLEE);
    wav::write_tune_and_silence(&theirs, &CALLER, 4.0);
    let heard = lab.file("heard.wav");
    let arguments = [
        "--calls",
        "1",
        "--play",
        &text(&ours),
        "--record",
        &heard,
        "--duration",
        TALK,
    ];
    let bob = lab.answering(&Phone::of("bob").at(OURS), &arguments);
    let alice = Baresip::start(lab, "alice", THEIRS, mode, &theirs, Some("bob"));
    let bob = bob.finish(CALL);
    judge(lab, &bob, alice, mode, (&CALLEE, &CALLER));
}

#[test]
fn baresip_is_called_and_heard() {
    siprtc_calls("called", Mode::Web);
}

#[test]
fn baresip_calls_and_hears() {
    baresip_calls("calling", Mode::Web);
}

#[test]
fn a_plain_baresip_is_called_and_heard() {
    siprtc_calls("called-plain", Mode::Plain);
}

#[test]
fn a_plain_baresip_calls_and_hears() {
    baresip_calls("calling-plain", Mode::Plain);
}

#[test]
fn a_baresip_with_keys_in_its_sdp_is_called_and_heard() {
    siprtc_calls("called-sdes", Mode::Sdes);
}

#[test]
fn a_baresip_with_keys_in_its_sdp_calls_and_hears() {
    baresip_calls("calling-sdes", Mode::Sdes);
}

#[test]
fn a_baresip_that_would_rather_encrypt_is_called_and_heard() {
    siprtc_calls("called-optional", Mode::SdesOptional);
}

#[test]
fn a_baresip_that_would_rather_encrypt_calls_and_hears() {
    baresip_calls("calling-optional", Mode::SdesOptional);
}

#[test]
fn a_baresip_with_dtls_and_without_ice_is_called_and_heard() {
    siprtc_calls("called-dtls", Mode::Dtls);
}

#[test]
fn a_baresip_with_dtls_and_without_ice_calls_and_hears() {
    baresip_calls("calling-dtls", Mode::Dtls);
}

/// siprtc holds and resumes by orders, baresip by its menu: each is told, and both tunes arrive around the silence.
fn held_from_both_sides(story: &str, mode: Mode) {
    let world = World::new(story);
    let lab = &world.lab;
    let theirs = lab.folder.join("theirs.wav");
    wav::write_tone(&theirs, 40.0, 0.0);
    let bob = Baresip::start(lab, "bob", THEIRS, mode, &theirs, None);
    let phone = match mode {
        Mode::Sdes => Phone::of("alice").set("media.rtp.keying", "sdes"),
        _ => Phone::of("alice"),
    };
    let heard = lab.file("heard.wav");
    let arguments = ["call", "bob", "--tone", "440", "--record", &heard, "--control"];
    let mut alice = lab.start(&phone.at(OURS), &arguments);
    alice.event_where("first_packet", SOON, |line| line["direction"] == "in");
    // baresip offers anew by itself when its ICE is done.
    std::thread::sleep(HOLD);
    for (order, event) in [("hold", "held"), ("resume", "resumed")] {
        alice.say(order);
        alice.event_where(event, SOON, |line| line["by"] == "local");
        std::thread::sleep(HOLD);
    }
    for (command, event) in [("hold", "held"), ("resume", "resumed")] {
        bob.command(lab, command);
        alice.event_where(event, SOON, |line| line["by"] == "remote");
        std::thread::sleep(HOLD);
    }
    alice.say("hangup");
    let alice = alice.finish(SOON);
    alice.exits_with(0);
    let heard = wav::tone(&lab.folder.join("heard.wav"));
    let hold = HOLD.as_secs_f64();
    println!("{heard:?}");
    assert!(heard.heard > 3.0 * hold - 1.0, "{heard:?}");
    assert!(
        heard.heard < 3.0 * hold + 2.0,
        "{heard:?}: it was heard while it was held"
    );
}

#[test]
fn a_call_with_baresip_is_held_from_both_sides() {
    held_from_both_sides("hold-web", Mode::Web);
}

#[test]
fn a_plain_call_with_baresip_is_held_from_both_sides() {
    held_from_both_sides("hold-plain", Mode::Plain);
}

#[test]
fn a_call_with_keys_in_the_sdp_is_held_from_both_sides() {
    held_from_both_sides("hold-sdes", Mode::Sdes);
}

#[test]
fn a_call_to_a_phone_that_does_not_multiplex_rtcp_ends_with_a_reason() {
    // RFC 8834 section 4.5: a WebRTC endpoint has one port for RTP and RTCP. baresip waits for a second component for ever:
    // what must not be is a call that is established and silent until somebody hangs up.
    let world = World::new("no-mux");
    let lab = &world.lab;
    let theirs = lab.folder.join("theirs.wav");
    wav::write_tune(&theirs, &CALLEE);
    let _bob = Baresip::start(lab, "bob", THEIRS, Mode::DtlsIce, &theirs, None);
    let alice = lab
        .start(&Phone::of("alice").at(OURS), &["call", "bob", "--tone", "440"])
        .finish(CALL);
    alice.exits_with(7);
    assert!(
        alice.report()["ending"]["sentence"].is_string(),
        "{:#}",
        alice.report()
    );
}

#[test]
fn a_call_from_a_phone_that_does_not_multiplex_rtcp_ends_with_a_reason() {
    let world = World::new("no-mux-caller");
    let lab = &world.lab;
    let theirs = lab.folder.join("theirs.wav");
    wav::write_tune(&theirs, &CALLER);
    let bob = lab.answering(&Phone::of("bob").at(OURS), &["--calls", "1", "--tone", "440"]);
    let _alice = Baresip::start(lab, "alice", THEIRS, Mode::DtlsIce, &theirs, Some("bob"));
    let bob = bob.finish(CALL);
    bob.exits_with(7);
    assert!(
        bob.report()["ending"]["sentence"].is_string(),
        "{:#}",
        bob.report()
    );
}

#[test]
fn baresip_hangs_up_and_siprtc_is_done() {
    let world = World::new("bye");
    let lab = &world.lab;
    let theirs = lab.folder.join("theirs.wav");
    wav::write_tune(&theirs, &CALLEE);
    let mut bob = Baresip::start(lab, "bob", THEIRS, Mode::Web, &theirs, None);
    let mut alice = lab.start(&Phone::of("alice").at(OURS), &["call", "bob", "--tone", "440"]);
    alice.event_where("first_packet", SOON, |line| line["direction"] == "in");
    bob.process.stop();
    let alice = alice.finish(SOON);
    alice.exits_with(0);
    assert_eq!(alice.report()["ending"]["by"], "remote", "{:#}", alice.report());
}

const HERE: &str = "<?xml version=\"1.0\"?>\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:alice@siprtc.test\">\
                    <tuple id=\"t\"><status><basic>open</basic></status></tuple></presence>\n";

#[test]
fn baresip_hears_us_in_a_call_that_nobody_answers() {
    let world = World::new("baresip-early");
    let lab = &world.lab;
    let (ours, theirs) = (lab.folder.join("ours.wav"), lab.folder.join("theirs.wav"));
    wav::write_tune(&ours, &CALLEE);
    wav::write_tune_and_silence(&theirs, &CALLER, 4.0);
    let play = text(&ours);
    let arguments = ["--calls", "1", "--play", &play, "--early", "6", "--refuse", "486"];
    let bob = lab.answering(&Phone::of("bob").at(OURS), &arguments);
    let mut alice = Baresip::start(lab, "alice", THEIRS, Mode::Web, &theirs, Some("bob"));
    bob.finish(CALL).exits_with(0);
    alice.process.says("486 Busy Here", 1, SOON);
    let answered = lab.registrar().said("REPLY 200 OK to INVITE");
    assert_eq!(answered, 0, "{}", lab.registrar().log());
    alice.process.stop();
    wav::assert_heard(&CALLEE, &ours, &alice.heard());
}

#[test]
fn baresip_sees_that_we_are_there_and_that_we_are_gone() {
    let world = World::new("baresip-presence");
    let lab = &world.lab;
    std::fs::write(lab.folder.join("here.xml"), HERE).unwrap_or_else(|error| panic!("{error}"));
    let phone = Phone::of("alice")
        .at(OURS)
        .set("call.notifies", "presence")
        .set("call.trusted", SERVER);
    let tell = format!("presence={}", lab.file("here.xml"));
    let siprtc = lab.answering(&phone, &["--tell", &tell]);
    let mut baresip = Baresip::watching(lab, "bob", THEIRS, "alice");
    // The challenge, the subscription, and the state that baresip has taken from the NOTIFY.
    lab.registrar().says("REPLY 200 OK to NOTIFY", 1, SOON);
    let contacts = baresip.says_to(lab, "contacts");
    println!("{contacts}");
    assert!(contacts.contains("Online"), "{contacts}");
    let before = lab.registrar().said("REPLY 200 OK to NOTIFY");
    siprtc.interrupt();
    siprtc.finish(SOON).exits_with(0);
    // It is told that this one is over, and takes it.
    lab.registrar().says("REPLY 200 OK to NOTIFY", before + 1, SOON);
    baresip.process.stop();
}

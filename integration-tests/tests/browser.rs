//! Calls with a real browser: Chromium's PeerConnection and JsSIP over WebSocket, through the real Kamailio, which knows nothing of
//! WebRTC. What the browser hears is recorded in the browser.

use siprtc_integration_tests::baresip::{Baresip, Mode};
use siprtc_integration_tests::browser::{Brings, Browser};
use siprtc_integration_tests::film;
use siprtc_integration_tests::lab::{KamailioSettings, Lab, Phone, text};
use siprtc_integration_tests::netns::Namespace;
use siprtc_integration_tests::program::{Outcome, SOON};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const THEIRS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);

/// The tunes last 4 s; ICE and DTLS come before them.
const TALK: &str = "7";
/// Talk and what surrounds it.
const CALL: Duration = Duration::from_secs(45);

/// A namespace with Kamailio in it. The lab is dropped first: its processes live in the namespace.
struct World {
    lab: Lab,
    /// What we play, and what the browser plays.
    ours: PathBuf,
    theirs: PathBuf,
    _namespace: Namespace,
}

impl World {
    fn new(story: &str) -> Self {
        let namespace = Namespace::machine(&[SERVER, OURS, THEIRS]);
        let secure = KamailioSettings {
            secure: true,
            ..KamailioSettings::default()
        };
        let lab = Lab::at(story, namespace.place(), SERVER).with_kamailio_that(secure);
        let (ours, theirs) = (lab.folder.join("ours.wav"), lab.folder.join("theirs.wav"));
        wav::write_tune(&ours, &CALLEE);
        wav::write_tune(&theirs, &CALLER);
        World {
            lab,
            ours,
            theirs,
            _namespace: namespace,
        }
    }

    fn brings(&self, camera: bool) -> Brings<'_> {
        Brings {
            tune: &self.theirs,
            camera,
        }
    }

    /// Both tunes were heard, and nothing was lost.
    fn judge(&self, siprtc: &Outcome, browser: &mut Browser) {
        siprtc.exits_with(0);
        let report = siprtc.report();
        assert_eq!(report["media"]["codec"], "opus", "{report:#}");
        assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
        let there = self.lab.folder.join("there.wav");
        browser.heard(&there);
        wav::assert_heard(&CALLEE, &self.ours, &there);
        wav::assert_heard(&CALLER, &self.theirs, &self.lab.folder.join("heard.wav"));
    }
}

fn browser_is_called(story: &str, engine: &str) {
    let world = World::new(story);
    let lab = &world.lab;
    let mut bob = Browser::start(lab, "bob");
    bob.answers(world.brings(false));
    let (play, heard) = (text(&world.ours), lab.file("heard.wav"));
    let arguments = [
        "call",
        "bob",
        "--play",
        &play,
        "--record",
        &heard,
        "--duration",
        TALK,
    ];
    let alice = lab.start(
        &Phone::of("alice").at(OURS).set("media.engine", engine),
        &arguments,
    );
    bob.event("path connected");
    let alice = alice.finish(CALL);
    bob.event("ended");
    world.judge(&alice, &mut bob);
}

#[test]
fn a_browser_is_called_and_heard() {
    browser_is_called("browser-called", "webrtc");
}

#[test]
fn a_browser_is_called_and_heard_by_the_engine_without_the_library() {
    browser_is_called("browser-called-rtp", "rtp-web");
}

/// The browser holds and resumes, then we do: both are told, and what was said around it is heard.
#[test]
fn a_call_with_a_browser_is_held_from_both_sides() {
    let world = World::new("browser-hold");
    let lab = &world.lab;
    let heard = lab.file("heard.wav");
    let arguments = ["--calls", "1", "--tone", "440", "--record", &heard, "--control"];
    let mut bob = lab.answering(&Phone::of("bob").at(OURS), &arguments);
    let mut alice = Browser::start(lab, "alice");
    alice.calls("bob", world.brings(false));
    alice.event("path connected");
    alice.event("played");
    for (script, event) in [
        ("phone.session.hold()", "held"),
        ("phone.session.unhold()", "resumed"),
    ] {
        assert_eq!(alice.run(script), true, "{script}");
        bob.event_where(event, SOON, |line| line["by"] == "remote");
    }
    for (order, event, theirs) in [("hold", "held", "hold"), ("resume", "resumed", "unhold")] {
        bob.say(order);
        bob.event_where(event, SOON, |line| line["by"] == "local");
        // JsSIP tells of its own holds, too.
        let told = alice.event_of(theirs, "remote");
        assert_eq!(told["originator"], "remote", "{told}");
    }
    alice.run("phone.play()");
    std::thread::sleep(Duration::from_secs(5));
    alice.run("phone.session.terminate()");
    let bob = bob.finish(SOON);
    bob.exits_with(0);
    assert_eq!(bob.report()["ending"]["by"], "remote", "{:#}", bob.report());
    let notes = wav::notes(&lab.folder.join("heard.wav"));
    let whole = notes
        .windows(CALLER.len())
        .filter(|window| *window == CALLER)
        .count();
    assert_eq!(whole, 2, "before and after the holds: {notes:?}");
}

#[test]
fn the_digits_of_a_browser_are_understood() {
    let world = World::new("browser-digits");
    let lab = &world.lab;
    let mut bob = lab.answering(&Phone::of("bob").at(OURS), &["--calls", "1", "--tone", "440"]);
    let mut alice = Browser::start(lab, "alice");
    alice.calls("bob", world.brings(false));
    alice.event("path connected");
    // RFC 4733, by the browser's own sender.
    alice.run("phone.session.sendDTMF('4#', { transportType: 'RFC2833', duration: 120, interToneGap: 120 })");
    for digit in ["4", "#"] {
        bob.event_where("dtmf", SOON, |line| line["digit"] == digit);
    }
    alice.run("phone.session.terminate()");
    bob.finish(SOON).exits_with(0);
}

fn browser_and_video(story: &str, engine: &str) {
    let world = World::new(story);
    let lab = &world.lab;
    let film = lab.folder.join("film.ivf");
    film::shoot(&film, "libvpx", 8);
    let (play, heard) = (text(&world.ours), lab.file("heard.wav"));
    let (show, seen) = (text(&film), lab.file("seen.ivf"));
    let arguments = [
        "--calls",
        "1",
        "--play",
        &play,
        "--record",
        &heard,
        "--show",
        &show,
        "--record-video",
        &seen,
        "--duration",
        "8",
    ];
    let bob = lab.answering(&Phone::of("bob").at(OURS).set("media.engine", engine), &arguments);
    let mut alice = Browser::start(lab, "alice");
    alice.calls("bob", world.brings(true));
    alice.event("path connected");
    // The film is over before the call is.
    std::thread::sleep(Duration::from_secs(7));
    let pictures = alice.video("inbound-rtp");
    let allowed = alice.run("phone.bandwidth()");
    let bob = bob.finish(CALL);
    alice.event("ended");
    world.judge(&bob, &mut alice);
    println!("{pictures:#}");
    assert!(pictures["framesDecoded"].as_u64() >= Some(150), "{pictures:#}");
    assert_eq!(pictures["packetsLost"], 0, "{pictures:#}");
    // It is told when each packet came: by bit rates alone (REMB) it would have climbed from 300 to some 500 kbit/s by now.
    println!("the browser judges that the path carries {allowed} bit/s");
    assert!(allowed.as_f64() > Some(600_000.0), "{allowed}");
    // The made-up camera takes 20 pictures a second.
    let seen = film::pictures(&lab.folder.join("seen.ivf")).len();
    assert!(seen >= 100, "{seen} pictures of the browser's camera");
}

#[test]
fn a_browser_is_seen_and_sees() {
    browser_and_video("browser-video", "webrtc");
}

#[test]
fn a_browser_is_seen_and_sees_by_the_engine_without_the_library() {
    browser_and_video("browser-video-rtp", "rtp");
}

/// The browser on one side, a telephone with plain RTP on the other, and between them no server that knows of media.
#[test]
fn a_browser_and_a_telephone_are_joined() {
    let world = World::new("browser-bridge");
    let lab = &world.lab;
    let mut alice = Browser::start(lab, "alice");
    alice.answers(world.brings(false));
    // It begins before there is anybody to hear it, and baresip hangs up when its file is over.
    let tune = wav::samples(&world.ours);
    let play = lab.folder.join("phone.wav");
    wav::write_samples(&play, &[&tune[..], &tune, &vec![0; 8 * tune.len()]].concat());
    let mut bob = Baresip::start(lab, "bob", THEIRS, Mode::Plain, &play, None);
    let both = lab.file("both.wav");
    let mut hub = lab.start(
        &Phone::of("hub").at(OURS).set("media.engine", "rtp-web"),
        &["bridge", "alice", "bob", "--record", &both, "--duration", "11"],
    );
    for who in ["first", "second"] {
        hub.event_where("bridged", SOON, |line| line["who"] == who);
    }
    // What it played of itself began before there was anybody to hear it.
    alice.event("played");
    alice.run("phone.play()");
    let hub = hub.finish(CALL);
    hub.exits_with(0);
    alice.event("ended");
    let there = lab.folder.join("there.wav");
    alice.heard(&there);
    bob.process.stop();
    wav::assert_heard(&CALLER, &world.theirs, &bob.heard());
    wav::assert_heard(&CALLEE, &world.ours, &there);
}

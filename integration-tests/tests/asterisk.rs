//! Calls with Asterisk: a PBX that registers telephones, answers, plays, reads digits, calls, and stands between two calls
//! with media of its own. A telephone of each kind: plain RTP, keys in the SDP, DTLS without ICE, and WebRTC.

use siprtc_integration_tests::asterisk::Asterisk;
use siprtc_integration_tests::baresip::{Baresip, Mode};
use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::netns::Namespace;
use siprtc_integration_tests::program::{Outcome, SOON, Siprtc};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::net::Ipv4Addr;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const THEIRS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);

/// The tunes last 4 s.
const TALK: &str = "5.5";
/// Talk and what surrounds it.
const CALL: Duration = Duration::from_secs(30);

/// What an endpoint of Asterisk takes; it is that endpoint's name, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Plain,
    Sdes,
    Dtls,
    Web,
}

impl Kind {
    fn user(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Sdes => "sdes",
            Kind::Dtls => "dtls",
            Kind::Web => "web",
        }
    }

    /// The best codec of both.
    fn codec(self) -> &'static str {
        match self {
            Kind::Plain => "PCMU",
            Kind::Sdes => "G722",
            Kind::Dtls => "PCMA",
            Kind::Web => "opus",
        }
    }

    /// Our telephone of that kind, which waits for calls.
    fn waits(self) -> Phone {
        Phone::of(self.user()).at(OURS)
    }

    /// Our telephone of that kind, which calls.
    fn calls(self) -> Phone {
        let phone = self.waits();
        match self {
            Kind::Plain | Kind::Web => phone,
            // It refuses everything but RTP/SAVP.
            Kind::Sdes => phone.set("media.rtp.keying", "sdes"),
            // It takes a WebRTC offer and answers it without ICE: see ARCHITECTURE.md, known limits.
            Kind::Dtls => phone
                .set("media.engine", "rtp")
                .set("media.rtp.keying", "dtls"),
        }
    }
}

/// A namespace with Asterisk in it. Fields are dropped in their order: the processes live in the namespace.
struct World {
    asterisk: Asterisk,
    lab: Lab,
    _namespace: Namespace,
}

impl World {
    fn new(story: &str) -> Self {
        let namespace = Namespace::machine(&[SERVER, OURS, THEIRS]);
        let lab = Lab::at(story, namespace.place(), SERVER);
        let asterisk = Asterisk::start(&lab, &CALLEE);
        wav::write_tune(&lab.folder.join("ours.wav"), &CALLER);
        World {
            asterisk,
            lab,
            _namespace: namespace,
        }
    }

    /// `siprtc call` to its end.
    fn call(&self, phone: &Phone, target: &str, arguments: &[&str]) -> Outcome {
        self.dial(phone, target, arguments).finish(CALL)
    }

    fn dial(&self, phone: &Phone, target: &str, arguments: &[&str]) -> Siprtc {
        let mut all = vec!["call", target];
        all.extend(arguments);
        self.lab.start(phone, &all)
    }

    /// What plays our tune and records what is heard.
    fn with_sound<'a>(&self, files: &'a mut [String; 2], more: &[&'a str]) -> Vec<&'a str> {
        *files = ["ours.wav", "heard.wav"].map(|name| self.lab.file(name));
        let mut all = vec!["--play", &files[0], "--record", &files[1]];
        all.extend(more);
        all
    }

    /// Our recording holds `tune`, which was played from that file.
    fn heard(&self, tune: &[usize], played: &str) {
        wav::assert_heard(
            tune,
            &self.lab.folder.join(played),
            &self.lab.folder.join("heard.wav"),
        );
    }
}

/// The call was one, with that kind of media, and nothing of it was lost.
fn talked(outcome: &Outcome, kind: Kind) {
    outcome.exits_with(0);
    let report = outcome.report();
    assert_eq!(report["established"], true, "{report:#}");
    assert_eq!(report["ending"]["cause"], "bye", "{report:#}");
    assert_eq!(report["media"]["codec"], kind.codec(), "{report:#}");
    assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
}

/// Registers with digest, calls the echo, and hears itself.
fn echo(kind: Kind) {
    let world = World::new(&format!("echo-{}", kind.user()));
    let mut files = Default::default();
    let arguments = world.with_sound(&mut files, &["--duration", TALK]);
    let outcome = world.call(&kind.calls(), "600", &arguments);
    talked(&outcome, kind);
    let registered = format!("to AOR '{}'", kind.user());
    world.asterisk.process.says(&registered, 1, SOON);
    world.heard(&CALLER, "ours.wav");
    world.asterisk.is_idle(SOON);
}

/// Calls the prompt, hears it, and is hung up on.
fn prompt(kind: Kind) {
    let world = World::new(&format!("prompt-{}", kind.user()));
    let heard = world.lab.file("heard.wav");
    let outcome = world.call(&kind.calls(), "601", &["--tone", "440", "--record", &heard]);
    talked(&outcome, kind);
    assert_eq!(
        outcome.report()["ending"]["by"],
        "remote",
        "{:#}",
        outcome.report()
    );
    world.heard(&CALLEE, "asterisk/prompt.wav");
    world.asterisk.is_idle(SOON);
}

/// Is called by Asterisk with an offer of that kind, and hears itself.
fn called(kind: Kind) {
    let world = World::new(&format!("called-{}", kind.user()));
    let mut files = Default::default();
    let arguments = world.with_sound(&mut files, &["--calls", "1", "--duration", TALK]);
    let siprtc = world.lab.answering(&kind.waits(), &arguments);
    world.asterisk.calls(kind.user(), "600");
    let outcome = siprtc.finish(CALL);
    talked(&outcome, kind);
    world.heard(&CALLER, "ours.wav");
    world.asterisk.is_idle(SOON);
}

/// Calls a plain baresip through Asterisk; both hear each other.
fn through(kind: Kind) {
    let world = World::new(&format!("through-{}", kind.user()));
    let theirs = world.lab.folder.join("theirs.wav");
    // baresip hangs up when its file is over.
    wav::write_tune_and_silence(&theirs, &CALLEE, 4.0);
    let bob = Baresip::start(&world.lab, "bob", THEIRS, Mode::Plain, &theirs, None);
    let mut files = Default::default();
    let arguments = world.with_sound(&mut files, &["--duration", TALK]);
    let outcome = world.call(&kind.calls(), "bob", &arguments);
    both_heard(&world, kind, &outcome, bob);
}

/// Is called by a plain baresip through Asterisk; both hear each other.
fn from_through(kind: Kind) {
    let world = World::new(&format!("from-through-{}", kind.user()));
    let theirs = world.lab.folder.join("theirs.wav");
    wav::write_tune_and_silence(&theirs, &CALLEE, 4.0);
    let mut files = Default::default();
    let arguments = world.with_sound(&mut files, &["--calls", "1", "--duration", TALK]);
    let siprtc = world.lab.answering(&kind.waits(), &arguments);
    let bob = Baresip::start(
        &world.lab,
        "bob",
        THEIRS,
        Mode::Plain,
        &theirs,
        Some(kind.user()),
    );
    let outcome = siprtc.finish(CALL);
    both_heard(&world, kind, &outcome, bob);
}

fn both_heard(world: &World, kind: Kind, outcome: &Outcome, bob: Baresip) {
    talked(outcome, kind);
    world.asterisk.is_idle(SOON);
    let recording = bob.heard();
    // Its end finishes the header of its recording.
    drop(bob);
    world.heard(&CALLEE, "theirs.wav");
    wav::assert_heard(&CALLER, &world.lab.folder.join("ours.wav"), &recording);
}

/// Sends digits, which Asterisk reads and sends back.
fn digits(kind: Kind) {
    let world = World::new(&format!("digits-{}", kind.user()));
    let outcome = world.call(&kind.calls(), "608", &["--dtmf", "17*0"]);
    outcome.exits_with(0);
    world.asterisk.process.says("digits: 17*0.", 1, SOON);
    let back = outcome
        .events
        .iter()
        .filter(|line| line["event"] == "dtmf")
        .filter_map(|line| line["digit"].as_str());
    assert_eq!(back.collect::<String>(), "17*0");
}

#[test]
fn a_plain_phone_hears_itself() {
    echo(Kind::Plain);
}

#[test]
fn a_phone_with_keys_in_its_sdp_hears_itself() {
    echo(Kind::Sdes);
}

#[test]
fn a_phone_with_dtls_hears_itself() {
    echo(Kind::Dtls);
}

#[test]
fn a_webrtc_phone_hears_itself() {
    echo(Kind::Web);
}

#[test]
fn a_plain_phone_hears_the_prompt() {
    prompt(Kind::Plain);
}

#[test]
fn a_phone_with_keys_in_its_sdp_hears_the_prompt() {
    prompt(Kind::Sdes);
}

#[test]
fn a_phone_with_dtls_hears_the_prompt() {
    prompt(Kind::Dtls);
}

#[test]
fn a_webrtc_phone_hears_the_prompt() {
    prompt(Kind::Web);
}

#[test]
fn a_plain_phone_is_called() {
    called(Kind::Plain);
}

#[test]
fn a_phone_is_called_with_keys_in_the_sdp() {
    called(Kind::Sdes);
}

#[test]
fn a_phone_is_called_with_dtls() {
    called(Kind::Dtls);
}

#[test]
fn a_webrtc_phone_is_called() {
    called(Kind::Web);
}

#[test]
fn a_plain_phone_calls_a_baresip() {
    through(Kind::Plain);
}

#[test]
fn a_phone_with_keys_in_its_sdp_calls_a_plain_baresip() {
    through(Kind::Sdes);
}

#[test]
fn a_phone_with_dtls_calls_a_plain_baresip() {
    through(Kind::Dtls);
}

#[test]
fn a_webrtc_phone_calls_a_plain_baresip() {
    through(Kind::Web);
}

#[test]
fn a_baresip_calls_a_plain_phone() {
    from_through(Kind::Plain);
}

#[test]
fn a_plain_baresip_calls_a_phone_with_keys_in_its_sdp() {
    from_through(Kind::Sdes);
}

#[test]
fn a_plain_baresip_calls_a_phone_with_dtls() {
    from_through(Kind::Dtls);
}

#[test]
fn a_plain_baresip_calls_a_webrtc_phone() {
    from_through(Kind::Web);
}

#[test]
fn digits_go_to_asterisk_and_back_over_plain_rtp() {
    digits(Kind::Plain);
}

#[test]
fn digits_go_to_asterisk_and_back_over_webrtc() {
    digits(Kind::Web);
}

#[test]
fn a_wrong_password_is_refused() {
    let world = World::new("password");
    let mut phone = Kind::Plain.calls();
    phone.password = "wrong".to_owned();
    let registered = world.lab.start(&phone, &["register"]).finish(CALL);
    registered.exits_with(3).explains("password");
}

#[test]
fn a_service_that_is_busy_is_busy() {
    refused("604", 486);
}

#[test]
fn a_service_without_a_line_is_unavailable() {
    refused("613", 503);
}

#[test]
fn a_number_that_nobody_has_is_absent() {
    refused("699", 404);
}

fn refused(number: &str, status: u16) {
    let world = World::new(&format!("refused-{status}"));
    let outcome = world.call(&Kind::Web.calls(), number, &[]);
    outcome.exits_with(5);
    assert_eq!(outcome.report()["ending"]["status"], status, "{:#}", outcome.report());
    world.asterisk.is_idle(SOON);
}

#[test]
fn a_phone_that_is_busy_is_busy_through_asterisk() {
    let world = World::new("busy-through");
    let callee = world
        .lab
        .answering(&Kind::Web.waits(), &["--calls", "1", "--refuse", "486"]);
    let outcome = world.call(&Kind::Plain.calls(), "web", &[]);
    outcome.exits_with(5);
    assert_eq!(outcome.report()["ending"]["status"], 486, "{:#}", outcome.report());
    callee.finish(SOON).exits_with(0);
    world.asterisk.process.says("dialled web: BUSY.", 1, SOON);
}

#[test]
fn a_caller_who_gives_up_leaves_nothing_behind() {
    let world = World::new("gives-up");
    let mut caller = world.dial(&Kind::Web.calls(), "605", &[]);
    caller.event_where("progress", SOON, |line| line["status"] == 180);
    caller.interrupt();
    let outcome = caller.finish(SOON);
    outcome.exits_with(0);
    assert_eq!(
        outcome.report()["ending"]["status"],
        487,
        "{:#}",
        outcome.report()
    );
    world.asterisk.is_idle(SOON);
}

/// Hears what comes before the answer, and itself after it.
fn early(kind: Kind) {
    let world = World::new(&format!("early-{}", kind.user()));
    let heard = world.lab.file("heard.wav");
    // The tone is the tune's first note.
    let arguments = ["--tone", "440", "--record", &heard, "--duration", "2"];
    let outcome = world.call(&kind.calls(), "606", &arguments);
    talked(&outcome, kind);
    let progress = outcome.event("progress");
    assert_eq!(
        (&progress["status"], &progress["early_media"]),
        (&183.into(), &true.into())
    );
    world.heard(&CALLEE, "asterisk/prompt.wav");
    let notes = wav::notes(&world.lab.folder.join("heard.wav"));
    assert_eq!(notes.last(), Some(&0), "no echo after the prompt: {notes:?}");
}

#[test]
fn a_plain_phone_hears_the_prompt_before_the_answer() {
    early(Kind::Plain);
}

#[test]
fn a_webrtc_phone_hears_the_prompt_before_the_answer() {
    early(Kind::Web);
}

#[test]
fn two_phones_are_sent_to_each_other_and_go_on_talking() {
    let world = World::new("direct");
    let theirs = world.lab.folder.join("theirs.wav");
    // Played until the media has gone its new way, and longer.
    wav::write_tune(&theirs, &CALLEE);
    let files = ["theirs.wav", "theirs-heard.wav"].map(|name| world.lab.file(name));
    let far = world.lab.answering(
        &Phone::of("far").at(THEIRS),
        &["--calls", "1", "--play", &files[0], "--record", &files[1]],
    );
    let mut files = Default::default();
    let arguments = world.with_sound(&mut files, &["--duration", TALK]);
    let near = world.call(&Phone::of("near").at(OURS), "far", &arguments);
    let far = far.finish(SOON);
    for outcome in [&near, &far] {
        talked(outcome, Kind::Plain);
    }
    world.asterisk.is_idle(SOON);
    world.heard(&CALLEE, "theirs.wav");
    wav::assert_heard(
        &CALLER,
        &world.lab.folder.join("ours.wav"),
        &world.lab.folder.join("theirs-heard.wav"),
    );
}

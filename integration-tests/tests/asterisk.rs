//! Calls with Asterisk: a PBX that registers telephones, answers, plays, reads digits, calls, and stands between two calls
//! with media of its own. A telephone of each kind: plain RTP, keys in the SDP, DTLS without ICE, and WebRTC.

use serde_json::Value;
use siprtc_integration_tests::asterisk::Asterisk;
use siprtc_integration_tests::baresip::{Baresip, Mode};
use siprtc_integration_tests::film;
use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::netns::Namespace;
use siprtc_integration_tests::program::{Outcome, SOON, Siprtc};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const THEIRS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);

/// The tunes last 4 s; baresip plays as much silence after it, and all but two seconds of it must be heard.
const TALK: &str = "7";
/// Talk and what surrounds it.
const CALL: Duration = Duration::from_secs(30);

/// How long a call is held, and talked before and after.
const HOLD: Duration = Duration::from_secs(2);

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
            Kind::Plain | Kind::Sdes | Kind::Web => phone,
            // What else it is offered after its 488 it would accept with its audio rejected: ARCHITECTURE.md, known limits.
            Kind::Dtls => phone.set("media.rtp.keying", "dtls"),
        }
    }
}

/// A namespace with Asterisk in it. Fields are dropped in their order: the processes live in the namespace.
struct World {
    asterisk: Asterisk,
    lab: Lab,
    _namespace: Namespace,
}

/// A `siprtc` that plays our tune, and where it records what it hears.
struct Talker {
    siprtc: Siprtc,
    heard: PathBuf,
}

impl World {
    fn new(story: &str) -> Self {
        let namespace = Namespace::machine(&[SERVER, OURS, THEIRS]);
        let lab = Lab::at(story, namespace.place(), SERVER);
        let asterisk = Asterisk::start(&lab, &CALLEE);
        wav::write_tune(&lab.folder.join("ours.wav"), &CALLER);
        // baresip hangs up when its file is over.
        wav::write_tune_and_silence(&lab.folder.join("theirs.wav"), &CALLEE, 4.0);
        World {
            asterisk,
            lab,
            _namespace: namespace,
        }
    }

    /// `siprtc call` without a registration: Asterisk asks the INVITE itself for credentials.
    fn dial(&self, phone: &Phone, target: &str, arguments: &[&str]) -> Siprtc {
        let phone = phone.clone().set("account.register", false);
        let mut all = vec!["call", target];
        all.extend(arguments);
        self.lab.start(&phone, &all)
    }

    /// Calls, plays our tune and records.
    fn talk(&self, phone: &Phone, target: &str) -> Talker {
        let [ours, heard] =
            ["ours.wav".to_owned(), format!("{target}-heard.wav")].map(|name| self.lab.file(&name));
        let arguments = ["--play", &ours, "--record", &heard, "--duration", TALK];
        Talker {
            siprtc: self.dial(phone, target, &arguments),
            heard: heard.into(),
        }
    }

    /// Registers, waits for one call, plays our tune and records.
    fn wait(&self, phone: &Phone) -> Talker {
        let [ours, heard] = ["ours.wav", "called-heard.wav"].map(|name| self.lab.file(name));
        let arguments = [
            "--calls",
            "1",
            "--play",
            &ours,
            "--record",
            &heard,
            "--duration",
            TALK,
        ];
        Talker {
            siprtc: self.lab.answering(phone, &arguments),
            heard: heard.into(),
        }
    }

    fn baresip(&self, user: &str, dial: Option<&str>) -> Baresip {
        let theirs = self.lab.folder.join("theirs.wav");
        Baresip::start(&self.lab, user, THEIRS, Mode::Plain, &theirs, dial)
    }
}

impl Talker {
    /// The call was one, with that codec; the recording holds `tune`, which was played from that file.
    fn heard(self, world: &World, codec: &str, tune: &[usize], played: &str) -> Outcome {
        let outcome = self.siprtc.finish(CALL);
        talked(&outcome, codec);
        wav::assert_heard(tune, &world.lab.folder.join(played), &self.heard);
        outcome
    }
}

/// The call was one, with that codec, and nothing of it was lost.
fn talked(outcome: &Outcome, codec: &str) {
    outcome.exits_with(0);
    let report = outcome.report();
    assert_eq!(report["established"], true, "{report:#}");
    assert_eq!(report["ending"]["cause"], "bye", "{report:#}");
    assert_eq!(report["media"]["codec"], codec, "{report:#}");
    assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
}

/// baresip heard our tune.
fn was_heard_by(world: &World, mut baresip: Baresip) {
    // Its end finishes its recordings: before it the sizes by which the longest is found say little.
    baresip.process.stop();
    let recording = baresip.heard();
    wav::assert_heard(&CALLER, &world.lab.folder.join("ours.wav"), &recording);
}

/// Three telephones of a kind at once: one calls the echo and hears itself, one calls the prompt, hears it and is hung up on,
/// one is registered and called, and hears itself.
fn with_asterisk(kind: Kind) {
    let world = World::new(&format!("asterisk-{}", kind.user()));
    let called = world.wait(&kind.waits());
    let registered = format!("to AOR '{}'", kind.user());
    world.asterisk.process.says(&registered, 1, SOON);
    world.asterisk.calls(kind.user(), "600");
    let echo = world.talk(&kind.calls(), "600");
    let heard = world.lab.file("prompt-heard.wav");
    let prompt = world.dial(&kind.calls(), "601", &["--tone", "440", "--record", &heard]);

    let prompt = Talker {
        siprtc: prompt,
        heard: heard.into(),
    };
    let prompt = prompt.heard(&world, kind.codec(), &CALLEE, "asterisk/prompt.wav");
    assert_eq!(prompt.report()["ending"]["by"], "remote", "{:#}", prompt.report());
    echo.heard(&world, kind.codec(), &CALLER, "ours.wav");
    called.heard(&world, kind.codec(), &CALLER, "ours.wav");
    world.asterisk.is_idle(SOON);
}

/// A telephone of a kind calls a plain baresip through Asterisk, and another is called by one; all hear each other.
fn with_baresip(kind: Kind) {
    let world = World::new(&format!("baresip-{}", kind.user()));
    let bob = world.baresip("bob", None);
    let called = world.wait(&kind.waits());
    let caller = world.talk(&kind.calls(), "bob");
    let carol = world.baresip("carol", Some(kind.user()));
    caller.heard(&world, kind.codec(), &CALLEE, "theirs.wav");
    // Asterisk offers its caller's codec first.
    called.heard(&world, "PCMU", &CALLEE, "theirs.wav");
    was_heard_by(&world, bob);
    was_heard_by(&world, carol);
    world.asterisk.is_idle(SOON);
}

#[test]
fn plain_phones_talk_with_asterisk() {
    with_asterisk(Kind::Plain);
}

#[test]
fn phones_with_keys_in_their_sdp_talk_with_asterisk() {
    with_asterisk(Kind::Sdes);
}

#[test]
fn phones_with_dtls_talk_with_asterisk() {
    with_asterisk(Kind::Dtls);
}

#[test]
fn webrtc_phones_talk_with_asterisk() {
    with_asterisk(Kind::Web);
}

#[test]
fn plain_phones_talk_with_baresip_through_asterisk() {
    with_baresip(Kind::Plain);
}

#[test]
fn phones_with_keys_in_their_sdp_talk_with_a_plain_baresip_through_asterisk() {
    with_baresip(Kind::Sdes);
}

#[test]
fn phones_with_dtls_talk_with_a_plain_baresip_through_asterisk() {
    with_baresip(Kind::Dtls);
}

#[test]
fn webrtc_phones_talk_with_a_plain_baresip_through_asterisk() {
    with_baresip(Kind::Web);
}

#[test]
fn digits_go_to_asterisk_and_back_over_plain_rtp_and_webrtc() {
    let world = World::new("digits");
    let calls = [(Kind::Plain, "17*0"), (Kind::Web, "D295")].map(|(kind, digits)| {
        let call = world.dial(&kind.calls(), "608", &["--dtmf", digits]);
        (call, digits)
    });
    for (call, digits) in calls {
        let outcome = call.finish(CALL);
        outcome.exits_with(0);
        world
            .asterisk
            .process
            .says(&format!("digits: {digits}."), 1, SOON);
        let back = (outcome.events.iter())
            .filter(|line| line["event"] == "dtmf")
            .filter_map(|line| line["digit"].as_str());
        assert_eq!(back.collect::<String>(), digits);
    }
}

/// Calls the echo with films of several codecs, and sees them come back; what was recorded is decoded by ffmpeg.
fn sees_itself(user: &'static str, films: &[(&str, &str, &str)]) {
    let world = World::new(&format!("video-{user}"));
    let calls: Vec<(Siprtc, String, PathBuf, PathBuf)> = (films.iter())
        .map(|(codec, encoder, ending)| {
            let shown = world.lab.folder.join(format!("{codec}-shown.{ending}"));
            let seen = world.lab.folder.join(format!("{codec}-seen.{ending}"));
            film::shoot(&shown, encoder, 4);
            let [show, record] = [&shown, &seen].map(|path| path.to_str().expect("text").to_owned());
            let arguments = ["--show", &show, "--record-video", &record, "--tone", "440"];
            let call = world.dial(&Phone::of(user).at(OURS), "600", &arguments);
            (call, (*codec).to_owned(), shown, seen)
        })
        .collect();
    for (call, codec, shown, seen) in calls {
        let outcome = call.finish(CALL);
        outcome.exits_with(0);
        let agreed = outcome.event("negotiated_video");
        assert_eq!(agreed["codec"], codec, "{agreed:#}");
        outcome.event("first_frame");
        // The first ones may go before the echo is there.
        film::assert_seen(&shown, &seen, 3 * film::RATE);
    }
    world.asterisk.is_idle(SOON);
}

#[test]
fn plain_video_comes_back_from_asterisk_as_it_was_shown() {
    let films = [
        ("VP8", "libvpx", "ivf"),
        ("H264", "libx264", "h264"),
        ("VP9", "libvpx-vp9", "ivf"),
    ];
    sees_itself("eyes", &films);
}

#[test]
fn webrtc_video_comes_back_from_asterisk_as_it_was_shown() {
    let films = [("VP8", "libvpx", "ivf"), ("H264", "libx264", "h264")];
    sees_itself("webeyes", &films);
}

/// Each holds its echo and takes it up again.
#[test]
fn calls_are_held_and_resumed() {
    let world = World::new("held");
    let calls = [Kind::Plain, Kind::Sdes, Kind::Web].map(|kind| {
        let heard = world.lab.file(&format!("{}-heard.wav", kind.user()));
        let arguments = ["--tone", "440", "--record", &heard, "--control"];
        let mut call = world.dial(&kind.calls(), "600", &arguments);
        call.event_where("first_packet", SOON, |line| line["direction"] == "in");
        (call, heard)
    });
    for (mut call, heard) in calls {
        for (order, event) in [("hold", "held"), ("resume", "resumed")] {
            std::thread::sleep(HOLD);
            call.say(order);
            call.event_where(event, SOON, |line| line["by"] == "local");
        }
        std::thread::sleep(HOLD);
        call.say("hangup");
        call.finish(CALL).exits_with(0);
        let tone = wav::tone(Path::new(&heard));
        println!("{heard}: {tone:?}");
        let hold = HOLD.as_secs_f64();
        assert!(tone.heard > 1.5 * hold, "{tone:?}");
        assert!(tone.gap > 0.7 * hold, "{tone:?}: it was heard while it was held");
    }
    world.asterisk.is_idle(SOON);
}

/// Asterisk has its WebSocket at `/ws`.
#[test]
fn a_webrtc_phone_registers_calls_and_is_called_over_a_websocket() {
    let world = World::new("websocket");
    let over_websocket = |phone: Phone| phone.over("ws").set("sip.websocket_path", "/ws");
    let called = world.wait(&over_websocket(Kind::Web.waits()));
    world.asterisk.process.says("to AOR 'web'", 1, SOON);
    world.asterisk.calls("web", "600");
    let echo = world.talk(&over_websocket(Kind::Web.calls()), "600");
    echo.heard(&world, "opus", &CALLER, "ours.wav");
    called.heard(&world, "opus", &CALLER, "ours.wav");
    world.asterisk.is_idle(SOON);
}

#[test]
fn a_prompt_before_the_answer_is_heard() {
    let world = World::new("early");
    let calls = [Kind::Plain, Kind::Web].map(|kind| {
        let heard = world.lab.file(&format!("{}-heard.wav", kind.user()));
        // The tone is the first note of the scale.
        let arguments = ["--tone", "440", "--record", &heard, "--duration", "1.5"];
        (kind, world.dial(&kind.calls(), "606", &arguments), heard)
    });
    for (kind, call, heard) in calls {
        let outcome = call.finish(CALL);
        talked(&outcome, kind.codec());
        let progress = outcome.event("progress");
        assert_eq!(
            (&progress["status"], &progress["early_media"]),
            (&183.into(), &true.into())
        );
        // No correlation: what Asterisk sends before DTLS is done is lost, and an Opus decoder that begins in the middle of a
        // tone (libopus, too) is too loud until the tone ends.
        let notes = wav::notes(Path::new(&heard));
        let echo = notes.strip_prefix(&CALLEE[..]);
        assert_eq!(
            echo,
            Some(&[0][..]),
            "not the prompt and then the echo: {notes:?}"
        );
    }
    world.asterisk.is_idle(SOON);
}

#[test]
fn what_is_refused_has_its_cause() {
    let world = World::new("refused");
    for (number, status, cause, code) in [
        ("604", 486, "busy", 5),
        ("613", 503, "connection_failed", 4),
        ("699", 404, "not_found", 5),
    ] {
        let outcome = world.dial(&Kind::Web.calls(), number, &[]).finish(CALL);
        outcome.exits_with(code);
        let ending = &outcome.report()["ending"];
        assert_eq!(
            (&ending["status"], &ending["cause"]),
            (&status.into(), &cause.into()),
            "{ending}"
        );
    }
    let mut phone = Kind::Plain.waits();
    phone.password = "wrong".to_owned();
    let registered = world.lab.start(&phone, &["register"]).finish(CALL);
    registered.exits_with(3).explains("password");
    world.asterisk.is_idle(SOON);
}

#[test]
fn a_phone_that_is_busy_is_busy_through_asterisk() {
    let world = World::new("busy-through");
    let refuse = ["--calls", "1", "--refuse", "486"];
    let callee = world.lab.answering(&Kind::Web.waits(), &refuse);
    let outcome = world.dial(&Kind::Plain.calls(), "web", &[]).finish(CALL);
    outcome.exits_with(5);
    assert_eq!(
        outcome.report()["ending"]["status"],
        486,
        "{:#}",
        outcome.report()
    );
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

#[test]
fn two_phones_are_sent_to_each_other_and_go_on_talking() {
    let world = World::new("direct");
    let far = world.wait(&Phone::of("far").at(THEIRS));
    let near = world.talk(&Phone::of("near").at(OURS), "far");
    for (talker, there) in [(near, THEIRS), (far, OURS)] {
        let outcome = talker.siprtc.finish(CALL);
        outcome.exits_with(0);
        // What came from the new address before it was told is a stranger's: some packets are lost, not the call.
        wav::assert_heard(&CALLER, &world.lab.folder.join("ours.wav"), &talker.heard);
        // Whoever is hung up on is sent back to Asterisk first.
        let went_there = |line: &Value| {
            let pair = line["pair"].as_str().unwrap_or_default();
            line["event"] == "selected" && pair.contains(&format!(" {there}:"))
        };
        assert!(outcome.events.iter().any(went_there), "{:#?}", outcome.events);
    }
    world.asterisk.is_idle(SOON);
}

/// Somebody whom Asterisk connected us with is sent to the prompt, and hears it. How is this test's.
fn sends_bob_to_the_prompt(story: &str, kind: Kind, transfer: impl Fn(&mut Siprtc)) {
    let world = World::new(story);
    let bob = world.baresip("bob", None);
    let mut call = world.dial(&kind.calls(), "bob", &["--tone", "440", "--control"]);
    call.event_where("first_packet", SOON, |line| line["direction"] == "in");
    std::thread::sleep(HOLD);
    transfer(&mut call);
    call.event("transferred", SOON);
    let outcome = call.finish(CALL);
    outcome.exits_with(0);
    let ending = &outcome.report()["ending"];
    assert_eq!(
        (&ending["cause"], &ending["by"]),
        (&"bye".into(), &"local".into()),
        "{ending}"
    );
    // Asterisk hangs bob up when the prompt is over.
    world.asterisk.is_idle(CALL);
    let mut bob = bob;
    bob.process.stop();
    let notes = wav::notes(&bob.heard());
    assert!(notes.ends_with(&CALLEE), "bob did not hear the prompt: {notes:?}");
}

#[test]
fn we_transfer_a_telephone_blindly_through_asterisk() {
    for kind in [Kind::Plain, Kind::Web] {
        sends_bob_to_the_prompt(&format!("transfer-blind-{}", kind.user()), kind, |call| {
            call.say(&format!("transfer sip:601@{SERVER}"));
        });
    }
}

#[test]
fn we_transfer_a_telephone_to_whom_we_have_asked_before() {
    sends_bob_to_the_prompt("transfer-attended", Kind::Plain, |call| {
        call.say("consult 601");
        let is_other = |line: &Value| line["who"] == "consulted";
        call.event_where("confirmed", SOON, is_other);
        call.say("transfer");
    });
}

#[test]
fn asterisk_transfers_us_and_we_hear_whom_it_meant() {
    let world = World::new("transferred");
    let heard = world.lab.file("heard.wav");
    let phone = Kind::Plain.calls();
    let mut call = world.dial(&phone, "602", &["--tone", "440", "--record", &heard, "--control"]);
    let wanted = call.event("transfer_wanted", SOON);
    assert_eq!(wanted["to"], format!("sip:601@{SERVER}"), "{wanted}");
    call.say("accept");
    let outcome = call.finish(CALL);
    outcome.exits_with(0);
    world.asterisk.process.says("transferred: SUCCESS.", 1, SOON);
    wav::assert_heard(
        &CALLEE,
        &world.lab.folder.join("asterisk/prompt.wav"),
        // The call that took the first one's place has a file of its own.
        &world.lab.folder.join("heard-2.wav"),
    );
    world.asterisk.is_idle(SOON);
}

/// The telephone-event that both would take is not used.
#[test]
fn digits_go_to_asterisk_and_back_in_infos() {
    let world = World::new("digits-info");
    let phone = Phone::of("digits").at(OURS).set("call.dtmf", "info");
    let outcome = world.dial(&phone, "608", &["--dtmf", "1*9D"]).finish(CALL);
    outcome.exits_with(0);
    world.asterisk.process.says("digits: 1*9D.", 1, SOON);
    let back = (outcome.events.iter())
        .filter(|line| line["event"] == "dtmf")
        .filter_map(|line| line["digit"].as_str());
    assert_eq!(back.collect::<String>(), "1*9D");
    world.asterisk.is_idle(SOON);
}

#[test]
fn messages_come_from_asterisk_and_go_through_it_within_calls() {
    let world = World::new("messages");
    let outcome = world.dial(&Kind::Plain.calls(), "603", &[]).finish(CALL);
    outcome.exits_with(0);
    assert_eq!(outcome.event("message")["text"], "hello from the exchange");
    // It passes on what two telephones say to each other.
    let mut callee = world.lab.answering(&Kind::Web.waits(), &["--calls", "1"]);
    let mut call = world.dial(&Kind::Plain.calls(), "web", &["--control"]);
    call.event("confirmed", SOON);
    call.say("say grüß dich");
    callee.event_where("message", SOON, |line| line["text"] == "grüß dich");
    call.say("hangup");
    call.finish(CALL).exits_with(0);
    callee.finish(CALL).exits_with(0);
    world.asterisk.is_idle(SOON);
}

/// Asterisk's 200 waits for the PRACK of its 183.
#[test]
fn a_prompt_before_the_answer_is_acknowledged_where_asterisk_requires_it() {
    let world = World::new("reliable");
    let heard = world.lab.file("heard.wav");
    let phone = Phone::of("reliable").at(OURS);
    let arguments = ["--tone", "440", "--record", &heard, "--duration", "1.5"];
    let outcome = world.dial(&phone, "606", &arguments).finish(CALL);
    talked(&outcome, "PCMU");
    assert_eq!(outcome.event("progress")["status"], 183);
    let notes = wav::notes(Path::new(&heard));
    assert_eq!(notes.strip_prefix(&CALLEE[..]), Some(&[0][..]), "{notes:?}");
    // The other way round: Asterisk requires it of us.
    let called = world.wait(&phone);
    world.asterisk.process.says("to AOR 'reliable'", 1, SOON);
    world.asterisk.calls("reliable", "600");
    called.heard(&world, "PCMU", &CALLER, "ours.wav");
    world.asterisk.is_idle(SOON);
}

/// Nobody has left a message; that is told at once, and the leave is acknowledged.
#[test]
fn waiting_messages_are_subscribed_to() {
    let world = World::new("waiting");
    let phone = Kind::Plain.calls().set("account.register", false);
    let arguments = ["subscribe", "plain", "--duration", "3"];
    let outcome = world.lab.start(&phone, &arguments).finish(SOON);
    outcome.exits_with(0);
    outcome.event("subscribed");
    let notified = outcome.event("notified");
    assert_eq!(notified["content_type"], "application/simple-message-summary");
    let body = notified["body"].as_str().unwrap_or_default();
    assert!(body.contains("Messages-Waiting: no"), "{body}");
    outcome.event("subscription_ended");
    let gone = world.asterisk.console("pjsip show subscriptions inbound");
    assert!(!gone.contains("plain/"), "{gone}");
}

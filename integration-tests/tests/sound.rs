//! Calls over a sound card: ALSA's `file` device, whose samples pass through pipes. The test is the card's clock, and it is not the
//! call's: one runs fast, the other slow.

#![cfg(feature = "sound-card")]

use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::program::SOON;
use siprtc_integration_tests::wav;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Frames that the card moves at once, at 48 kHz: 10 ms.
const PERIOD: usize = 480;
/// How far the microphone's clock is from this machine's, and the loudspeaker's.
const DRIFT: [f64; 2] = [0.003, -0.003];

/// ALSA's configuration with a microphone and a loudspeaker that are pipes.
struct Card {
    config: PathBuf,
    microphone: PathBuf,
    loudspeaker: PathBuf,
}

impl Card {
    fn new(lab: &Lab) -> Self {
        let pipe = |name: &str| {
            let path = lab.folder.join(name);
            let made = Command::new("mkfifo").arg(&path).status();
            assert!(
                made.is_ok_and(|status| status.success()),
                "mkfifo {}",
                path.display()
            );
            path
        };
        let (microphone, loudspeaker) = (pipe("microphone"), pipe("loudspeaker"));
        let config = lab.folder.write(
            "asound.conf",
            format!(
                "pcm.null {{ type null }}\n\
                 pcm.desk-microphone {{\n type file\n slave.pcm null\n file /dev/null\n infile {}\n format raw\n \
                 hint {{ show on description \"A microphone on the desk\" }}\n}}\n\
                 pcm.desk-speaker {{\n type file\n slave.pcm null\n file {}\n format raw\n \
                 hint {{ show on description \"A loudspeaker on the desk\" }}\n}}\n",
                microphone.display(),
                loudspeaker.display()
            ),
        );
        Card {
            config,
            microphone,
            loudspeaker,
        }
    }
}

/// Both ends, so that nothing waits for the other side.
fn open(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Calls `each` once for each period of a clock that runs beside this machine's by `drift`, until it says no.
fn clock(drift: f64, mut each: impl FnMut() -> bool) {
    let (began, mut periods) = (Instant::now(), 0u32);
    let period = Duration::from_secs_f64(0.01 / (1.0 + drift));
    while each() {
        periods += 1;
        std::thread::sleep((period * periods).saturating_sub(began.elapsed()));
    }
}

/// A microphone that hears silence until it is given something to hear.
fn hear(path: &Path) -> Arc<Mutex<Vec<i16>>> {
    let said: Arc<Mutex<Vec<i16>>> = Arc::default();
    let (mut file, says) = (open(path), Arc::clone(&said));
    std::thread::spawn(move || {
        clock(DRIFT[0], || {
            let mut says = says.lock().expect("nobody panics with it");
            let count = says.len().min(PERIOD);
            let samples = says.drain(..count).chain(std::iter::repeat(0)).take(PERIOD);
            let octets: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
            drop(says);
            file.write_all(&octets).is_ok()
        });
    });
    said
}

/// What a loudspeaker plays.
fn play(path: &Path) -> Arc<Mutex<Vec<i16>>> {
    let played: Arc<Mutex<Vec<i16>>> = Arc::default();
    let (mut file, plays) = (open(path), Arc::clone(&played));
    std::thread::spawn(move || {
        clock(DRIFT[1], || {
            let mut octets = [0; PERIOD * 2];
            let read = file.read_exact(&mut octets).is_ok();
            let samples = octets
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            plays.lock().expect("nobody panics with it").extend(samples);
            read
        });
    });
    played
}

#[test]
fn a_call_over_a_sound_card_is_heard_on_both_sides_whatever_its_clock() {
    let lab = Lab::on_loopback("sound");
    let _home = lab.home(&["alice", "bob"]);
    let card = Card::new(&lab);
    let tune = lab.folder.join("tune.wav");
    wav::write_tune(&tune, &wav::CALLEE);
    let bob = lab.answering(
        &Phone::of("bob"),
        &[
            "--calls",
            "1",
            "--play",
            &lab.file("tune.wav"),
            "--repeat",
            "--record",
            &lab.file("bob.wav"),
        ],
    );
    let (said, played) = (hear(&card.microphone), play(&card.loudspeaker));
    let phone = Phone::of("alice").with_environment("ALSA_CONFIG_PATH", card.config.display());
    let mut alice = lab.start(
        &phone,
        &[
            "call",
            "bob",
            "--mic",
            "desk-microphone",
            "--speaker",
            "desk-speaker",
            "--duration",
            "20",
        ],
    );
    alice.event_where("first_packet", SOON, |line| line["direction"] == "in");
    std::thread::sleep(Duration::from_secs(1));
    // A tone of 16 s: what is dropped or left silent for the clock's sake is a gap in it.
    let tone = lab.folder.join("tone.wav");
    wav::write_tone(&tone, 16.0, 0.0);
    said.lock()
        .expect("nobody panics with it")
        .extend(wav::samples(&tone));
    let alice = alice.finish(Duration::from_secs(60));
    alice.exits_with(0);
    assert!(!alice.errors.contains("sound card failed"), "{}", alice.errors);
    bob.finish(SOON).exits_with(0);
    let heard = wav::tone(&lab.folder.join("bob.wav"));
    assert!(heard.heard > 15.5 && heard.gap <= 0.05, "Bob heard {heard:?}");
    let speaker = lab.folder.join("speaker.wav");
    wav::write_samples(&speaker, &played.lock().expect("nobody panics with it"));
    let notes = wav::notes(&speaker);
    let whole = notes
        .windows(wav::CALLEE.len())
        .filter(|notes| *notes == wav::CALLEE)
        .count();
    assert!(whole >= 3, "the tune sounds {whole} times in {notes:?}");
}

#[test]
fn devices_are_listed_and_what_is_not_there_is_told_in_a_sentence() {
    let lab = Lab::on_loopback("devices");
    let card = Card::new(&lab);
    let phone = Phone::of("alice").with_environment("ALSA_CONFIG_PATH", card.config.display());
    let devices = lab.start(&phone, &["devices"]).finish(SOON);
    devices.exits_with(0);
    let names = ["desk-microphone", "desk-speaker"];
    for name in names {
        let is_it = |line: &&serde_json::Value| line["event"] == "device" && line["id"] == name;
        let device = devices
            .events
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {name} in {:#?}", devices.events));
        assert!(
            device["name"]
                .as_str()
                .is_some_and(|text| text.contains("on the desk")),
            "{device}"
        );
    }
    let nobody = lab.start(
        &phone,
        &[
            "--set",
            "account.register=false",
            "call",
            "sip:x@127.0.0.1:9",
            "--mic",
            "attic",
        ],
    );
    nobody
        .finish(SOON)
        .exits_with(2)
        .explains("attic")
        .explains("desk-microphone");
    // Nothing at all: as on a machine without a card.
    let empty = lab.folder.write("empty.conf", "");
    let phone = Phone::of("alice").with_environment("ALSA_CONFIG_PATH", empty.display());
    let none = lab.start(
        &phone,
        &[
            "--set",
            "account.register=false",
            "call",
            "sip:x@127.0.0.1:9",
            "--speaker",
        ],
    );
    none.finish(SOON).exits_with(2).explains("no sound card");
}

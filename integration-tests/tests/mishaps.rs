//! What goes wrong in the middle: somebody changes their mind, a process is killed, a disk is full.

use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::program::SOON;
use siprtc_integration_tests::wav;
use std::process::Command;
use std::time::Duration;

/// A dead peer is noticed by ICE's consent (RFC 7675: 30 s) at the latest.
const NOTICED: Duration = Duration::from_secs(60);

#[test]
fn a_caller_who_changes_their_mind_while_it_rings_cancels() {
    let lab = Lab::on_loopback("cancel").with_kamailio();
    let mut bob = lab.answering(
        &Phone::of("bob"),
        &["--calls", "2", "--ring", "60", "--tone", "440"],
    );
    let mut alice = lab.start(&Phone::of("alice"), &["call", "bob"]);
    alice.event("progress", SOON);
    alice.interrupt();
    let alice = alice.finish(SOON);
    alice.exits_with(0);
    assert_eq!(alice.report()["ending"]["by"], "local", "{:#}", alice.report());
    assert_eq!(alice.report()["established"], false);
    lab.registrar().says("REQUEST CANCEL", 1, SOON);
    lab.registrar().says("REPLY 487", 1, SOON);
    assert!(bob.lives(), "one cancelled call ended the program");
}

#[test]
fn a_callee_sees_that_the_caller_has_cancelled() {
    let lab = Lab::on_loopback("cancelled").with_kamailio();
    let mut bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--ring", "4"]);
    let mut alice = lab.start(&Phone::of("alice"), &["call", "bob"]);
    alice.event("progress", SOON);
    bob.event("incoming", SOON);
    alice.interrupt();
    alice.finish(SOON).exits_with(0);
    let bob = bob.finish(NOTICED);
    let told = serde_json::Value::from(bob.events.clone()).to_string() + &bob.errors;
    assert!(told.contains("cancel"), "{told}");
    assert!(!bob.errors.contains("panicked"), "{}", bob.errors);
}

#[test]
fn ctrl_c_in_a_call_says_goodbye() {
    let lab = Lab::on_loopback("ctrl-c").with_kamailio();
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--tone", "440"]);
    let mut alice = lab.start(&Phone::of("alice"), &["call", "bob", "--tone", "880"]);
    alice.event("connected", SOON);
    alice.interrupt();
    alice.finish(SOON).exits_with(0);
    let bob = bob.finish(SOON);
    bob.exits_with(0);
    assert_eq!(bob.report()["ending"]["by"], "remote");
}

#[test]
fn a_caller_notices_that_the_callee_was_killed_and_keeps_its_recording() {
    let lab = Lab::on_loopback("killed").with_kamailio();
    let mut bob = lab.answering(&Phone::of("bob"), &["--tone", "440"]);
    let heard = lab.folder.join("heard.wav");
    let mut alice = lab.start(
        &Phone::of("alice"),
        &["call", "bob", "--tone", "880", "--record", &lab.file("heard.wav")],
    );
    alice.event_where("first_packet", SOON, |line| line["direction"] == "in");
    // A second of his tone, by his own clock, before the plug is pulled.
    std::thread::sleep(Duration::from_secs(1));
    bob.kill();
    // Silence is told long before the path is given up.
    alice.event("silent", NOTICED);
    let alice = alice.finish(NOTICED);
    // The silent path has ICE begin anew, and of the re-INVITE for it Kamailio says that nobody is there.
    alice.exits_with(4);
    let report = alice.report();
    assert_eq!(report["ending"]["cause"], "timed_out", "{report:#}");
    assert_eq!(report["ending"]["status"], 408, "{report:#}");
    assert!(
        alice.errors.contains("siprtc: "),
        "nothing was said: {}",
        alice.errors
    );
    assert!(
        wav::sox_seconds(&heard) >= 0.8,
        "the recording is not what was heard"
    );
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_call() {
    let lab = Lab::on_loopback("full").with_kamailio();
    let disk = TinyDisk::mount(&lab);
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--tone", "440"]);
    let record = disk.file("heard.wav");
    let mut alice = lab.start(
        &Phone::of("alice"),
        &[
            "call",
            "bob",
            "--tone",
            "880",
            "--record",
            &record,
            "--duration",
            "6",
        ],
    );
    let failed = alice.event("recording_failed", SOON);
    assert!(!alice.has("ended"), "the call ended with its recording");
    assert!(
        failed["sentence"]
            .as_str()
            .is_some_and(|sentence| sentence.contains("heard.wav")),
        "{failed}"
    );
    let alice = alice.finish(SOON);
    alice.exits_with(7).explains("heard.wav");
    let report = alice.report();
    assert_eq!(report["ending"]["cause"], "bye", "{report:#}");
    assert!(
        report["media"]["packets_received"]
            .as_u64()
            .is_some_and(|count| count > 200),
        "{report:#}"
    );
    bob.finish(SOON).exits_with(0);
    // A quarter of a second and more of 48 kHz fits: it is there and it is a WAV file.
    assert!(
        wav::sox_seconds(record.as_ref()) > 0.25,
        "what was recorded before is lost"
    );
}

#[test]
fn a_recording_that_cannot_be_begun_is_named_before_anybody_rings() {
    let lab = Lab::on_loopback("no-folder").with_kamailio();
    let _bob = lab.answering(&Phone::of("bob"), &[]);
    let alice = lab
        .start(
            &Phone::of("alice"),
            &["call", "bob", "--record", "/no/such/folder.wav"],
        )
        .finish(SOON);
    assert_ne!(alice.code, Some(0));
    alice.explains("/no/such/folder.wav");
}

/// A disk that a second of sound fills.
struct TinyDisk(std::path::PathBuf);

impl TinyDisk {
    fn mount(lab: &Lab) -> Self {
        let path = lab.folder.join("tiny");
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(&path)
            .status();
        assert!(
            status.as_ref().is_ok_and(|status| status.success()),
            "mounting a tmpfs needs root: {status:?}"
        );
        TinyDisk(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{} stays mounted",
            self.0.display()
        );
    }
}

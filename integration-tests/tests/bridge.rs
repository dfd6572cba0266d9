//! `siprtc bridge`: two programs that play a tone each, joined by a third, at the embedded home server.

use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::program::SOON;
use siprtc_integration_tests::wav;
use std::process::Command;

/// Bob's and Carol's tones, as places in the scale of [`wav::notes`].
const BOB: (usize, &str) = (0, "440");
const CAROL: (usize, &str) = (4, "1175");

#[test]
fn two_parties_hear_each_other_and_when_one_hangs_up_both_calls_end() {
    let lab = Lab::on_loopback("bridge");
    let _home = lab.home(&["alice", "bob", "carol"]);
    let answering = |name: &str, tone: &str, more: &[&str]| {
        let record = lab.file(&format!("{name}.wav"));
        let mut all = vec!["--calls", "1", "--tone", tone, "--record", &record];
        all.extend(more);
        lab.answering(&Phone::of(name), &all)
    };
    let bob = answering("bob", BOB.1, &["--duration", "5"]);
    // Another codec: what is not common is transcoded, and the program says so.
    let carol = lab.answering(
        &Phone::of("carol").set("media.codecs", "[\"pcmu\"]"),
        &[
            "--calls",
            "1",
            "--tone",
            CAROL.1,
            "--record",
            &lab.file("carol.wav"),
        ],
    );
    let both = lab.file("both.wav");
    let mut alice = lab.start(
        &Phone::of("alice"),
        &["bridge", "bob", "carol", "--record", &both],
    );
    for who in ["first", "second"] {
        let bridged = alice.event_where("bridged", SOON, |line| line["who"] == who);
        assert_eq!(bridged["from_peer"], "transcoded", "{bridged}");
    }
    let (bob, carol, alice) = (bob.finish(SOON), carol.finish(SOON), alice.finish(SOON));
    alice.exits_with(0);
    bob.exits_with(0);
    carol.exits_with(0);
    assert_eq!(bob.report()["ending"]["by"], "local", "{:#}", bob.report());
    assert_eq!(carol.report()["ending"]["by"], "remote", "{:#}", carol.report());
    let reports = alice
        .events
        .iter()
        .filter(|line| line["event"] == "report")
        .count();
    assert_eq!(reports, 2);
    assert_eq!(
        wav::notes(&lab.folder.join("bob.wav")),
        [CAROL.0],
        "what Bob heard"
    );
    assert_eq!(
        wav::notes(&lab.folder.join("carol.wav")),
        [BOB.0],
        "what Carol heard"
    );
    // The recording has the second on the left and the first on the right.
    for (channel, tone) in [("1", CAROL.0), ("2", BOB.0)] {
        let one = lab.folder.join(format!("channel-{channel}.wav"));
        let sox = Command::new("sox")
            .arg(&both)
            .arg(&one)
            .args(["remix", channel])
            .status();
        assert!(sox.is_ok_and(|status| status.success()), "sox on {both}");
        assert_eq!(wav::notes(&one), [tone], "channel {channel}");
        assert!(wav::sox_seconds(&one) > 3.0);
    }
}

#[test]
fn when_one_party_is_busy_the_other_is_hung_up_and_the_exit_code_says_so() {
    let lab = Lab::on_loopback("bridge-busy");
    let _home = lab.home(&["alice", "bob", "carol"]);
    let mut bob = lab.answering(&Phone::of("bob"), &["--tone", BOB.1]);
    let _carol = lab.answering(&Phone::of("carol"), &["--refuse", "486"]);
    let alice = lab
        .start(&Phone::of("alice"), &["bridge", "bob", "carol"])
        .finish(SOON);
    alice.exits_with(5).explains("486");
    assert!(!alice.has("bridged"));
    // Bob's call was answered, or cancelled before: he waits for the next one.
    assert!(bob.lives());
    bob.interrupt();
    bob.finish(SOON);
}

#[test]
fn ctrl_c_ends_both_calls() {
    let lab = Lab::on_loopback("bridge-ctrl-c");
    let _home = lab.home(&["alice", "bob", "carol"]);
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--tone", BOB.1]);
    let carol = lab.answering(&Phone::of("carol"), &["--calls", "1", "--tone", CAROL.1]);
    let mut alice = lab.start(&Phone::of("alice"), &["bridge", "bob", "carol"]);
    let bridged = alice.event("bridged", SOON);
    assert_eq!(bridged["from_peer"], "passed through", "{bridged}");
    alice.interrupt();
    alice.finish(SOON).exits_with(0);
    for party in [bob, carol] {
        let party = party.finish(SOON);
        party.exits_with(0);
        assert_eq!(party.report()["ending"]["by"], "remote");
    }
}

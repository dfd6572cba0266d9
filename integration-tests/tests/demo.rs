//! `siprtc demo` from the outside: what a stranger runs first.

use siprtc_integration_tests::folder::Folder;
use siprtc_integration_tests::patience::timed;
use siprtc_integration_tests::program::Siprtc;
use siprtc_integration_tests::wav;
use std::time::Duration;

/// The demo talks for four seconds; the rest is start, call set-up and comparison on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_demo_makes_a_call_that_is_heard_as_it_was_played() {
    let folder = Folder::new("demo");
    let out = folder.path().display().to_string();
    let (demo, took) = timed(|| Siprtc::run(&["demo", "--out", &out], LIMIT));
    demo.exits_with(0);
    assert!(took < LIMIT, "{took:?}");

    let likeness = demo.event("likeness");
    assert_eq!(likeness["same"], true, "{likeness}");
    let reports: Vec<_> = demo
        .events
        .iter()
        .filter(|line| line["event"] == "report")
        .collect();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    for report in reports {
        assert_eq!(report["established"], true, "{report:#}");
        assert!(report["pair"].is_string(), "{report:#}");
        assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
        assert!(
            report["media"]["mos"].as_f64().is_some_and(|mos| mos > 4.0),
            "{report:#}"
        );
        for moment in ["accepted", "ice", "dtls", "first_received", "ended"] {
            assert!(
                report["timings_ms"][moment].is_number(),
                "no {moment} in {report:#}"
            );
        }
    }
    assert_eq!(demo.errors, "", "a demo that works has nothing to warn of");
    assert!((3.0..8.0).contains(&wav::sox_seconds(&folder.join("bob-heard.wav"))));
}

#[test]
fn the_demo_draws_the_ladder_of_its_call() {
    let folder = Folder::new("ladder");
    let out = folder.path().display().to_string();
    Siprtc::run(&["demo", "--out", &out], LIMIT).exits_with(0);
    let svg = std::fs::read_to_string(folder.join("ladder.svg")).unwrap();
    let drawing = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("no XML: {error}\n{svg}"));
    assert_eq!(drawing.root_element().tag_name().name(), "svg");
    let text: String = drawing
        .descendants()
        .filter_map(|node| node.text())
        .collect::<Vec<_>>()
        .join(" ");
    for word in [
        "INVITE", "200", "ACK", "BYE", "ICE", "DTLS", "RTP", "Alice", "Bob",
    ] {
        assert!(text.contains(word), "the ladder does not show {word}: {text}");
    }
}

#[test]
fn the_environment_does_not_break_the_demo() {
    let folder = Folder::new("environment");
    let mut command = std::process::Command::new(siprtc_integration_tests::folder::siprtc());
    command.args(["--json", "demo", "--out"]).arg(folder.path());
    command
        .env("SIPRTC__ICE__POLICY", "relay")
        .env("SIPRTC__ACCOUNT__OUTBOUND", "sip:192.0.2.1");
    Siprtc::start("demo", &mut command, &folder.join("stderr"))
        .finish(LIMIT)
        .exits_with(0);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let demo = Siprtc::run(&["demo", "--out", "/proc/siprtc"], LIMIT);
    demo.exits_with(2).explains("/proc/siprtc");
}

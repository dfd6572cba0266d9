//! `siprtc sdp` over real descriptions of others.

use siprtc_integration_tests::folder::{Folder, corpus, siprtc};
use siprtc_integration_tests::program::{Outcome, SOON, Siprtc};
use std::process::Command;

const INCOMPATIBLE: i32 = 6;

fn sdp(arguments: &[&str]) -> Outcome {
    let mut all = vec!["sdp"];
    all.extend(arguments);
    Siprtc::run(&all, SOON)
}

fn file(name: &str) -> String {
    let path = corpus().join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    path.display().to_string()
}

fn checks(outcome: &Outcome) -> Vec<String> {
    let findings = outcome.event("lint")["findings"]
        .as_array()
        .expect("findings")
        .clone();
    findings
        .iter()
        .map(|finding| finding["check"].as_str().expect("a check").to_owned())
        .collect()
}

#[test]
fn lint_says_what_a_telephone_without_webrtc_refuses_of_a_browsers_offer() {
    let offer = file("sdp/chrome-jssip-av-2019.sdp");
    let outcome = sdp(&["lint", &offer, "--peer", "cisco"]);
    outcome.exits_with(INCOMPATIBLE);
    assert_eq!(outcome.event("lint")["refused"], true);
    let checks = checks(&outcome);
    assert!(checks.iter().any(|check| check == "peer-profile"), "{checks:?}");
    assert!(checks.iter().any(|check| check == "peer-keying"), "{checks:?}");
}

#[test]
fn explain_gives_every_change_with_its_rule_and_its_reason() {
    let offer = file("sdp/chrome-jssip-av-2019.sdp");
    let outcome = sdp(&["explain", &offer, "--to", "sip", "--peer", "asterisk-webrtc"]);
    outcome.exits_with(0);
    let told = &outcome.event("explanation")["explanation"];
    let changes = told["changes"].as_array().expect("changes");
    assert!(!changes.is_empty());
    for change in changes {
        for key in ["rule", "why"] {
            assert!(
                change[key].as_str().is_some_and(|text| !text.is_empty()),
                "{change}"
            );
        }
    }
    assert!(told["sdp"].as_str().is_some_and(|sdp| sdp.starts_with("v=0\r\n")));
}

#[test]
fn answer_answers_the_first_offer_of_rfc_4317_in_its_own_words() {
    let outcome = sdp(&[
        "answer",
        &file("rfc4317/2.1-1.offer.sdp"),
        "--codecs",
        "PCMU/8000",
        "--port",
        "49920",
    ]);
    outcome.exits_with(0);
    let answer = outcome.event("answer")["sdp"]
        .as_str()
        .expect("an answer")
        .to_owned();
    assert!(answer.contains("m=audio 49920 RTP/AVP 0\r\n"), "{answer}");
    assert!(answer.contains("m=video 0 RTP/AVP"), "{answer}");
}

#[test]
fn answer_answers_a_browser_and_a_telephone_with_keys() {
    let answer = |arguments: &[&str]| {
        let outcome = sdp(arguments);
        outcome.exits_with(0);
        let told = outcome.event("answer");
        assert_eq!(told["made_up"], true);
        told["sdp"].as_str().expect("an answer").to_owned()
    };
    let hash = "sha-256 00:11";
    let browser = file("sdp/chrome-jssip-av-2019.sdp");
    let made = answer(&["answer", &browser, "--fingerprint", hash, "--video", "VP8/90000"]);
    assert!(made.contains(&format!("a=fingerprint:{hash}\r\n")), "{made}");
    assert!(
        made.contains("a=group:BUNDLE ") && made.contains("a=ice-pwd:"),
        "{made}"
    );
    assert_eq!(made.matches("\r\nm=audio 40000 ").count(), 1, "{made}");
    assert_eq!(made.matches("\r\nm=video 40000 ").count(), 1, "{made}");
    let folder = Folder::new("sdp-answer");
    let words = "v=0\no=- 1 1 IN IP6 2001:db8::1\ns=-\nc=IN IP6 2001:db8::1\nt=0 0\nm=audio 5000 RTP/SAVP 8\n\
        a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\n";
    let offer = folder.write("sdes.sdp", words);
    let made = answer(&["answer", &offer.display().to_string()]);
    assert!(made.contains("c=IN IP6 2001:db8::2\r\n"), "{made}");
    assert!(
        made.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:"),
        "{made}"
    );
    assert!(!made.contains("d0RmdmcmVCspeEc3"), "the key is ours: {made}");
    folder.write("sdes.sdp", words.replace("RTP/SAVP 8", "TCP/TLS/RTP/SAVP 8"));
    let outcome = sdp(&["answer", &offer.display().to_string()]);
    outcome
        .exits_with(INCOMPATIBLE)
        .explains("m-line 0 (audio TCP/TLS/RTP/SAVP) is not RTP over UDP");
}

#[test]
fn every_command_says_what_carrying_the_description_needs() {
    let browser = file("sdp/chrome-jssip-av-2019.sdp");
    let needs = sdp(&["explain", &browser]).event("explanation")["needs"].clone();
    assert_eq!(
        needs["webrtc"]["carried"]["keying"],
        serde_json::json!(["dtls-srtp"]),
        "{needs}"
    );
    assert_eq!(needs["webrtc"]["carried"]["ice"], true);
    let plain = file("rfc4317/2.1-1.offer.sdp");
    for (command, event) in [("lint", "lint"), ("answer", "answer")] {
        let needs = sdp(&[command, &plain]).event(event)["needs"].clone();
        assert_eq!(needs["classic"]["carried"]["profile"], "RTP/AVP", "{needs}");
        assert_eq!(needs["classic"]["carried"]["keying"], serde_json::json!(["none"]));
        let refused = needs["webrtc"]["refused"]["what"].as_str().expect("why not");
        assert!(!refused.is_empty());
        // And for people, in sentences.
        let told = Command::new(siprtc())
            .args(["sdp", command, &plain])
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(
            told.contains("needs of a classic engine: m-line 0 (audio) over RTP/AVP, no encryption, no ICE"),
            "{told}"
        );
        assert!(
            told.contains(&format!("no webrtc engine can carry it: {refused}")),
            "{told}"
        );
    }
}

#[test]
fn what_is_no_description_and_who_is_no_peer_are_told_in_sentences() {
    let outcome = sdp(&["lint", "there-is-no-such-file.sdp"]);
    outcome.exits_with(2).explains("there-is-no-such-file.sdp");
    let outcome = sdp(&["lint", &file("INDEX.tsv"), "--peer", "nobody"]);
    outcome.exits_with(2).explains("nobody");
    let outcome = sdp(&["explain", &file("INDEX.tsv")]);
    outcome.exits_with(INCOMPATIBLE);
}

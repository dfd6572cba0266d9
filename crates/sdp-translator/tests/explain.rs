//! Explanations, over the corpus and over what breaks it.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::{Sample, sample, samples};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use siprtc_sdp_translator::{
    Check, Explanation, Finding, MAX_FINDINGS, PeerProfile, Rule, Severity, SipForm, Way, explain, lint,
    lint_answer, to_sip, to_webrtc,
};
use std::collections::BTreeSet;

const TO_SIP: Way<'_> = Way::ToSip {
    form: SipForm {
        octets: None,
        trickle: siprtc_sdp_translator::Trickle::None,
    },
};

fn peer(name: &str) -> PeerProfile {
    PeerProfile::named(name).unwrap()
}

fn peers() -> Vec<PeerProfile> {
    PeerProfile::names().map(peer).collect()
}

fn needed(told: &Explanation) -> BTreeSet<&'static str> {
    let needed = told.changes.iter().filter(|explained| explained.needed.is_some());
    needed.map(|explained| explained.change.rule.as_str()).collect()
}

fn refusals(findings: &[Finding]) -> Vec<(Check, Option<usize>)> {
    let refusing = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Refuses);
    refusing.map(|finding| (finding.check, finding.media)).collect()
}

#[test]
fn chromes_offer_has_no_chance_at_plain_endpoints_and_the_findings_say_why() {
    let chrome = sample("sdp/chrome-audio-2018.sdp");
    for name in ["asterisk", "cisco", "baresip"] {
        let findings = lint(&chrome, Some(&peer(name)));
        assert_eq!(
            refusals(&findings),
            [(Check::PeerKeying, Some(0)), (Check::PeerProfile, Some(0))],
            "{name}: {findings:#?}"
        );
    }
    assert_eq!(refusals(&lint(&chrome, Some(&peer("asterisk-webrtc")))), []);
    assert_eq!(refusals(&lint(&chrome, Some(&peer("chrome")))), []);
}

#[test]
fn asterisks_plain_offer_has_no_chance_at_chrome() {
    let asterisk = sample("sdp/voipms-asterisk.sdp");
    let findings = lint(&asterisk, Some(&peer("chrome")));
    assert_eq!(
        refusals(&findings),
        [
            (Check::PeerIce, Some(0)),
            (Check::PeerKeying, Some(0)),
            (Check::PeerRtcpMux, Some(0))
        ],
        "{findings:#?}"
    );
    let keying = findings
        .iter()
        .find(|finding| finding.check == Check::PeerKeying)
        .unwrap();
    assert_eq!(
        keying.what,
        "chrome takes keys from dtls-srtp, the m-line offers none"
    );
    assert_eq!(keying.number, Some(6));
    assert_eq!(refusals(&lint(&asterisk, Some(&peer("cisco")))), []);
    let told = explain(&asterisk, Way::ToWebrtc, Some(&peer("siprtc")));
    assert_eq!(told.refusal.unwrap().fault, "peer_incompatible");
}

#[test]
fn keys_twice_no_mux_and_keys_under_plain_rtp_are_found_where_they_were_recorded() {
    let has = |name: &str, with: Option<&str>, check: Check| {
        let with = with.map(peer);
        let findings = lint(&sample(name), with.as_ref());
        assert!(
            findings.iter().any(|finding| finding.check == check),
            "{name}: {findings:#?}"
        );
    };
    has("sdp/chrome-sipjs-audio.sdp", None, Check::KeyingTwice);
    has("sdp/pjsip-crypto-on-avp.sdp", None, Check::KeyingProfile);
    has("sdp/pjsip-savp-no-crypto.sdp", None, Check::KeyingMissing);
    has("sdp/chrome-two-video.sdp", None, Check::ConnectionMissing);
    has("sdp/t38-bad-origin.sdp", None, Check::LineMissing);
    has("sdp/chrome-mdns-v4v6.sdp", Some("freeswitch"), Check::PeerMdns);
    has(
        "sdp/rtpe-dtls-offer-linphone.sdp",
        Some("chrome"),
        Check::PeerRtcpMux,
    );
    has(
        "sdp/rtpe-dtls-offer-linphone.sdp",
        Some("siprtc"),
        Check::PeerHash,
    );
    has("rfc4317/5.2-1.offer.sdp", None, Check::HoldZero);
    let (offer, answer) = (
        sample("sdp/rtpe-gh1499-te-unoffered.offer.sdp"),
        sample("sdp/rtpe-gh1499-te-unoffered.answer.sdp"),
    );
    assert!(
        lint_answer(&offer, &answer, None)
            .iter()
            .all(|finding| finding.check != Check::AnswerMedia)
    );
}

#[test]
fn the_engine_needs_what_its_profile_says_and_the_changes_give_it() {
    let linphone = sample("sdp/rtpe-dtls-offer-linphone.sdp");
    let told = explain(&linphone, Way::ToWebrtc, Some(&peer("siprtc")));
    let needed = needed(&told);
    for rule in [Rule::FingerprintHash, Rule::Mid, Rule::RtcpMux] {
        assert!(needed.contains(rule.as_str()), "{rule}: {told}");
    }
    assert_eq!(refusals(&told.left), [], "{told}");
}

#[test]
fn an_explanation_reads_as_text_and_as_json() {
    let told = explain(
        &sample("sdp/chrome-mdns-v4v6.sdp"),
        TO_SIP,
        Some(&peer("freeswitch")),
    );
    let text = told.to_string();
    assert!(
        text.starts_with(&format!("to-sip: {} changes, ", told.changes.len())),
        "{text}"
    );
    assert!(
        text.contains("needed by freeswitch (refuses): freeswitch cannot use "),
        "{text}"
    );
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["peer"], "freeswitch");
    let change = json["changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|change| change["rule"] == "candidate-unusable")
        .unwrap();
    assert_eq!(change["needed"]["check"], "peer-mdns");
    assert!(change["before"].as_str().unwrap().contains(".local"));
    assert!(change["after"].is_null() && change["why"].as_str().unwrap().contains("RFC 8839"));
    let refused = explain("v=0\r\n", Way::ToWebrtc, None).to_string();
    assert!(
        refused.starts_with("to-webrtc: refused (peer_incompatible): "),
        "{refused}"
    );
}

/// What must hold of any text and any peer.
fn laws(text: &str, other: &str, peer: Option<&PeerProfile>) {
    let findings = lint(text, peer);
    assert!(findings.len() <= MAX_FINDINGS);
    for finding in &findings {
        assert_eq!(finding.line.is_some(), finding.number.is_some(), "{finding}");
    }
    let _ = lint_answer(other, text, peer);
    for way in [TO_SIP, Way::ToWebrtc, Way::AnswerToWebrtc { offer: other }] {
        let told = explain(text, way, peer);
        assert_eq!(told.sdp.is_none(), told.refusal.is_some());
    }
}

#[test]
fn every_description_of_the_corpus_is_explained_and_linted_for_every_peer() {
    let (mut findings, mut changes, mut needed) = (0, 0, 0);
    let peers = peers();
    let mut seen = BTreeSet::new();
    for Sample { name, text, .. } in samples() {
        for peer in &peers {
            let found = lint(&text, Some(peer));
            assert!(found.len() <= MAX_FINDINGS, "{name}");
            findings += found.len();
            seen.extend(found.iter().map(|finding| finding.check));
            for way in [TO_SIP, Way::ToWebrtc] {
                let told = explain(&text, way, Some(peer));
                let translated = match way {
                    Way::ToWebrtc => to_webrtc(&text),
                    _ => to_sip(&text),
                };
                assert_eq!(
                    told.sdp,
                    translated.as_ref().ok().map(|done| done.sdp.clone()),
                    "{name}"
                );
                let told_changes: Vec<_> = told.changes.iter().map(|explained| &explained.change).collect();
                let all: Vec<_> = translated.iter().flat_map(|done| &done.changes).collect();
                assert_eq!(told_changes, all, "{name}");
                changes += told.changes.len();
                needed += told
                    .changes
                    .iter()
                    .filter(|explained| explained.needed.is_some())
                    .count();
                serde_json::to_string(&told).unwrap();
            }
        }
    }
    assert!(
        findings > 5_000 && changes > 5_000 && needed > 500,
        "{findings} findings, {changes} changes, {needed} needed"
    );
    assert!(seen.len() > 35, "{} checks found something: {seen:?}", seen.len());
}

#[test]
fn a_description_that_the_corpus_calls_valid_is_not_refused_for_its_lines() {
    let lines = [
        Check::LineInvalid,
        Check::LineMissing,
        Check::MediaLine,
        Check::NotSdp,
    ];
    let mut wrong = Vec::new();
    for Sample { name, text, grade } in samples()
        .into_iter()
        .filter(|sample| sample.name.ends_with(".sdp"))
    {
        if grade == "valid" {
            let found = lint(&text, None)
                .into_iter()
                .filter(|finding| lines.contains(&finding.check));
            wrong.extend(found.map(|finding| format!("{name}: {finding}")));
        }
    }
    assert_eq!(wrong, [] as [String; 0], "{}", wrong.join("\n"));
}

#[test]
fn the_corpus_cut_at_each_line_is_linted_and_explained() {
    let siprtc = peer("siprtc");
    for Sample { text, .. } in samples() {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for end in 0..lines.len() {
            let cut = lines[..end].concat();
            let findings = lint_answer(&text, &cut, Some(&siprtc));
            assert!(findings.len() <= MAX_FINDINGS);
            let told = explain(&cut, Way::ToWebrtc, Some(&siprtc));
            assert_eq!(told.sdp.is_none(), told.refusal.is_some());
        }
    }
}

#[test]
fn an_m_line_of_ten_thousand_formats_is_told_within_the_bound() {
    let siprtc = peer("siprtc");
    let maps: String = (0..1_900)
        .map(|number| format!("a=rtpmap:{number} X/8000\r\n"))
        .collect();
    let room = 65_000 - maps.len() - 100;
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9 RTP/SAVPF";
    for format in [" 0", " 96", " x"] {
        let text = format!("{head}{}\r\n{maps}", format.repeat(room / format.len()));
        laws(&text, &text, Some(&siprtc));
        let findings = lint(&text, Some(&siprtc));
        assert_eq!(findings.last().unwrap().check, Check::More);
    }
}

#[test]
fn ten_thousand_lines_are_refused_by_the_bound_and_two_thousand_are_told_within_it() {
    let head =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let siprtc = peer("siprtc");
    for line in [
        "a=x\r\n",
        "a=mid:0\r\n",
        "a=rtpmap:96 X/1/1\r\n",
        "a=candidate:\r\n",
        "a=sendrecv\r\n",
        "hello\r\n",
    ] {
        let long = format!("{head}{}", line.repeat(10_000));
        let told = explain(&long, Way::ToWebrtc, Some(&siprtc));
        assert_eq!(told.refusal.unwrap().fault, "peer_misbehaved", "{line}");
        assert_eq!(lint(&long, Some(&siprtc)).len(), 1, "{line}");
        laws(&format!("{head}{}", line.repeat(1_990)), &long, Some(&siprtc));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, rng_seed: RngSeed::Fixed(9143), ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_linted_and_explained(
        text in "(?s).{0,200}",
        lines in "v=0\r\n((m=audio [0-9]{1,6} RTP/S?AVPF? [0-9 ]{0,9}\r\n)|(a=(mid|group|rtpmap|candidate|fingerprint|ice-ufrag|setup|extmap):?[ -~]{0,12}\r\n)|(c=[ -~]{0,20}\r\n)){0,20}",
        pick in any::<prop::sample::Index>(),
    ) {
        thread_local!(static PEERS: Vec<PeerProfile> = peers());
        PEERS.with(|peers| {
            let peer = &peers[pick.index(peers.len())];
            laws(&text, &lines, Some(peer));
            laws(&format!("v=0\r\n{text}"), &lines, Some(peer));
            laws(&lines, &text, Some(peer));
        });
    }

    #[test]
    fn the_corpus_with_lines_swapped_is_linted_and_explained(
        pick in any::<prop::sample::Index>(),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        thread_local!(static SAMPLES: Vec<Sample> = samples());
        thread_local!(static PEERS: Vec<PeerProfile> = peers());
        SAMPLES.with(|samples| PEERS.with(|peers| {
            let original = &samples[pick.index(samples.len())].text;
            let mut lines: Vec<&str> = original.split_inclusive('\n').collect();
            for (one, other) in swaps {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
            }
            laws(&lines.concat(), original, Some(&peers[pick.index(peers.len())]));
        }));
    }
}

//! Each check of `lint`, by a description that breaks it.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::web;
use siprtc_sdp_translator::{
    Check, Finding, MAX_FINDINGS, PeerProfile, Rule, Severity, lint, lint_answer, to_sip, to_webrtc,
};

const PLAIN: &str = "v=0\r\n\
o=- 1 1 IN IP4 192.0.2.1\r\n\
s=-\r\n\
c=IN IP4 192.0.2.1\r\n\
t=0 0\r\n\
m=audio 40000 RTP/AVP 0 101\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n";

const WEB: &str =
    web!("6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC");

/// A candidate that names no address.
const MDNS: &str = "a=mid:0\r\na=candidate:2 1 udp 1 0a.local 40000 typ host";
const TRICKLE: &str = "a=mid:0\r\na=ice-options:trickle";

/// The base, a line of it, and what stands there instead.
type Example = (Check, &'static str, &'static str, &'static str);

/// Broken by the RFCs, whoever reads.
const BROKEN: &[Example] = &[
    (Check::BundleOnly, WEB, "a=mid:0", "a=mid:0\r\na=bundle-only"),
    (
        Check::BundleTwice,
        WEB,
        "a=group:BUNDLE 0",
        "a=group:BUNDLE 0\r\na=group:BUNDLE 0",
    ),
    (
        Check::CandidateComponent,
        WEB,
        "a=mid:0",
        "a=mid:0\r\na=candidate:1 2 udp 2130706430 192.0.2.1 40000 typ host",
    ),
    (
        Check::CandidateInvalid,
        WEB,
        "a=mid:0",
        "a=mid:0\r\na=candidate:1 1 udp many 192.0.2.1 40000 typ host",
    ),
    (Check::CandidatePlace, WEB, "m=audio 40000", "m=audio 0"),
    (Check::ConnectionMissing, PLAIN, "c=IN IP4 192.0.2.1\r\n", ""),
    (
        Check::CryptoInvalid,
        PLAIN,
        "a=rtpmap:0",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:short\r\na=rtpmap:0",
    ),
    (
        Check::CryptoInvalid,
        PLAIN,
        "a=rtpmap:0",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\na=rtpmap:0",
    ),
    (
        Check::PtimeInvalid,
        PLAIN,
        "a=rtpmap:0",
        "a=ptime:0\r\na=rtpmap:0",
    ),
    (
        Check::PtimeInvalid,
        PLAIN,
        "a=rtpmap:0",
        "a=ptime:60\r\na=maxptime:40\r\na=rtpmap:0",
    ),
    (Check::MediaLine, PLAIN, "m=audio", "m=AUDIO"),
    (
        Check::DefaultCandidate,
        WEB,
        "c=IN IP4 192.0.2.1",
        "c=IN IP4 0.0.0.0",
    ),
    (
        Check::DirectionTwice,
        WEB,
        "a=sendrecv",
        "a=sendrecv\r\na=inactive",
    ),
    (
        Check::ExtmapInvalid,
        WEB,
        "a=mid:0",
        "a=mid:0\r\na=extmap:1 nothing",
    ),
    (Check::FingerprintInvalid, WEB, "sha-256 6B:", "sha-256 "),
    (
        Check::FingerprintWeak,
        WEB,
        "a=fingerprint:sha-256 6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:",
        "a=fingerprint:sha-1 ",
    ),
    (Check::HoldZero, PLAIN, "c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
    (
        Check::IceCredentialsHalf,
        WEB,
        "a=ice-pwd:passwordpasswordpassword\r\n",
        "",
    ),
    (
        Check::IceCredentialsLength,
        WEB,
        "a=ice-pwd:passwordpasswordpassword",
        "a=ice-pwd:short",
    ),
    (
        Check::IceCredentialsMissing,
        WEB,
        "a=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\n",
        "",
    ),
    (Check::IceMismatch, WEB, "m=audio 40000", "m=audio 40002"),
    (Check::KeyingMissing, PLAIN, "RTP/AVP", "RTP/SAVP"),
    (
        Check::KeyingProfile,
        PLAIN,
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:0 PCMU/8000\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:k",
    ),
    (
        Check::KeyingTwice,
        WEB,
        "a=mid:0",
        "a=mid:0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:k",
    ),
    (Check::LineEnd, PLAIN, "s=-\r\n", "s=-\n"),
    (Check::LineInvalid, PLAIN, "s=-\r\n", "s=-\r\nhello\r\n"),
    (Check::LineMissing, PLAIN, "t=0 0\r\n", ""),
    (
        Check::LineOrder,
        PLAIN,
        "s=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n",
        "t=0 0\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n",
    ),
    (Check::MediaLine, PLAIN, "m=audio 40000", "m=audio 400000"),
    (Check::MidMissing, WEB, "a=group:BUNDLE 0", "a=group:BUNDLE 0 1"),
    (Check::MidTwice, WEB, "a=mid:0", "a=mid:0\r\na=mid:0"),
    (Check::MonoChannel, PLAIN, "PCMU/8000", "PCMU/8000/1"),
    (
        Check::MulticastAddress,
        PLAIN,
        "c=IN IP4 192.0.2.1",
        "c=IN IP4 233.252.0.1/127",
    ),
    (Check::PayloadRange, PLAIN, "RTP/AVP 0", "RTP/AVP 200 0"),
    (Check::PayloadRtcp, WEB, "SAVPF 0 101", "SAVPF 0 72 101"),
    (Check::PayloadStray, PLAIN, "RTP/AVP 0 101", "RTP/AVP 0"),
    (Check::PayloadTwice, PLAIN, "RTP/AVP 0", "RTP/AVP 0 0"),
    (Check::PayloadUnmapped, PLAIN, "RTP/AVP 0", "RTP/AVP 96 0"),
    (Check::RtcpMuxBundle, WEB, "a=rtcp-mux\r\n", ""),
    (Check::RtcpMuxOnly, WEB, "a=rtcp-mux", "a=rtcp-mux-only"),
    (Check::SetupInvalid, WEB, "a=setup:actpass", "a=setup:server"),
    (Check::SetupMissing, WEB, "a=setup:actpass\r\n", ""),
    (
        Check::TelephoneEventClock,
        PLAIN,
        "telephone-event/8000",
        "telephone-event/48000",
    ),
];

/// What a peer of that name does not take.
const REFUSED: &[(&str, Example)] = &[
    (
        "asterisk",
        (Check::PeerAddress, WEB, "c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
    ),
    ("siprtc", (Check::PeerAttribute, WEB, "a=mid:0\r\n", "")),
    (
        "asterisk",
        (Check::PeerBundle, WEB, "a=group:BUNDLE 0", "a=group:BUNDLE 0 1"),
    ),
    (
        "asterisk",
        (Check::PeerBundleOnly, WEB, "a=mid:0", "a=mid:0\r\na=bundle-only"),
    ),
    ("asterisk", (Check::PeerCodec, PLAIN, "PCMU/8000", "L16/44100")),
    ("siprtc", (Check::PeerHash, WEB, "sha-256", "SHA-256")),
    (
        "chrome",
        (Check::PeerHold, WEB, "c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
    ),
    ("chrome", (Check::PeerIce, PLAIN, "", "")),
    ("chrome", (Check::PeerKeying, PLAIN, "", "")),
    (
        "asterisk",
        (
            Check::PeerMaxMedia,
            PLAIN,
            "t=0 0\r\n",
            "t=0 0\r\nm=text 0 RTP/AVP 98\r\nm=text 0 RTP/AVP 98\r\n",
        ),
    ),
    ("freeswitch", (Check::PeerMdns, WEB, "a=mid:0", MDNS)),
    ("baresip-ice", (Check::PeerMdnsIgnored, WEB, "a=mid:0", MDNS)),
    ("chrome", (Check::PeerMedium, PLAIN, "m=audio", "m=text")),
    ("cisco", (Check::PeerProfile, WEB, "", "")),
    (
        "yealink",
        (Check::PeerRtcp, WEB, "a=rtcp-mux", "a=rtcp:9\r\na=rtcp-mux"),
    ),
    ("chrome", (Check::PeerRtcpMux, WEB, "a=rtcp-mux\r\n", "")),
    ("siprtc", (Check::PeerRtpmap, WEB, "a=rtpmap:0 PCMU/8000\r\n", "")),
    (
        "cisco",
        (
            Check::PeerTelephoneEvent,
            PLAIN,
            "telephone-event/8000",
            "telephone-event/48000",
        ),
    ),
    ("baresip-ice", (Check::PeerTrickle, WEB, "a=mid:0", TRICKLE)),
];

fn has(findings: &[Finding], check: Check) -> bool {
    findings.iter().any(|finding| finding.check == check)
}

#[track_caller]
fn broken((check, base, from, to): Example) -> String {
    assert!(base.contains(from), "{check}: {from:?}");
    // A rejected m-line and a bundle-only one must differ in the port too.
    let text = if from.is_empty() {
        base.to_owned()
    } else {
        base.replacen(from, to, 1)
    };
    match check {
        Check::PeerBundleOnly => text.replace("m=audio 40000", "m=audio 0"),
        Check::PeerHold => text.replace("a=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\n", ""),
        _ => text,
    }
}

#[test]
fn what_keeps_to_the_rfcs_has_no_findings() {
    assert_eq!(lint(PLAIN, None), []);
    assert_eq!(lint(WEB, None), []);
    for (name, sdp) in [
        ("asterisk", PLAIN),
        ("cisco", PLAIN),
        ("chrome", WEB),
        ("siprtc", WEB),
        ("kamailio", WEB),
    ] {
        let peer = PeerProfile::named(name).unwrap();
        assert_eq!(lint(sdp, Some(&peer)), [], "{name}");
    }
}

#[test]
fn each_break_of_an_rfc_is_found_where_it_is() {
    for &example in BROKEN {
        let text = broken(example);
        let findings = lint(&text, None);
        assert!(has(&findings, example.0), "{}: {findings:#?}\n{text}", example.0);
        for finding in findings {
            let told = finding.number.and_then(|number| text.lines().nth(number - 1));
            assert_eq!(told, finding.line.as_deref(), "{finding}");
        }
    }
}

#[test]
fn what_is_unusual_and_right_is_not_found() {
    for lines in [
        "a=ptime:20.0\r\na=maxptime:20",
        "a=crypto:1 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|2^20|1:4",
    ] {
        let text = PLAIN.replace("a=rtpmap:0", &format!("{lines}\r\na=rtpmap:0"));
        let findings = lint(&text, None);
        assert!(
            !has(&findings, Check::PtimeInvalid) && !has(&findings, Check::CryptoInvalid),
            "{findings:#?}"
        );
    }
}

#[test]
fn each_fact_of_a_profile_is_held_against_the_description() {
    for &(name, example) in REFUSED {
        let (text, peer) = (broken(example), PeerProfile::named(name).unwrap());
        assert!(!has(&lint(&text, None), example.0), "{} needs no peer", example.0);
        let findings = lint(&text, Some(&peer));
        let finding = findings.iter().find(|finding| finding.check == example.0);
        let finding = finding.unwrap_or_else(|| panic!("{name} {}: {findings:#?}\n{text}", example.0));
        let sources = peer.sources();
        let source = finding.source.as_deref().unwrap();
        assert!(sources.iter().any(|(_, known)| *known == source), "{finding}");
        assert!(finding.what.starts_with(name), "{finding}");
    }
}

#[test]
fn each_check_has_an_example_and_says_why() {
    let answers = Check::ALL
        .iter()
        .filter(|check| check.as_str().starts_with("answer-"))
        .copied();
    let elsewhere = [
        Check::BundlePayload,
        Check::LongForDatagram,
        Check::More,
        Check::NotSdp,
    ];
    let mut shown: Vec<Check> = BROKEN.iter().map(|example| example.0).collect();
    shown.extend(REFUSED.iter().map(|(_, example)| example.0));
    shown.extend(answers.chain(elsewhere));
    for check in Check::ALL {
        assert!(shown.contains(check), "{check} has no example");
        assert!(!check.why().is_empty() && !check.advice().is_empty());
        let is_bound = *check == Check::More || *check == Check::PeerAttribute;
        assert!(
            is_bound || check.why().contains("RFC "),
            "{check}: {}",
            check.why()
        );
    }
}

#[test]
fn a_rule_that_is_said_to_correct_something_does() {
    let ours = [
        Check::CandidateComponent,
        Check::DefaultCandidate,
        Check::LineEnd,
        Check::LineInvalid,
        Check::LineMissing,
        Check::LineOrder,
        Check::MonoChannel,
    ];
    for &example in BROKEN.iter().filter(|example| ours.contains(&example.0)) {
        let text = broken(example);
        assert!(
            lint(&text, None).iter().any(|finding| finding.fixed_by.is_some()),
            "{}",
            example.0
        );
        let wire = to_sip(&text).unwrap().sdp;
        assert!(!has(&lint(&wire, None), example.0), "{}\n{wire}", example.0);
    }
    let peer = PeerProfile::named("siprtc").unwrap();
    for &(_, example) in REFUSED.iter().filter(|(name, _)| *name == "siprtc") {
        let shown = to_webrtc(&broken(example)).unwrap().sdp;
        assert_eq!(lint(&shown, Some(&peer)), [], "{}\n{shown}", example.0);
    }
}

#[test]
fn one_payload_type_of_two_encodings_in_a_bundle_is_found() {
    let second = "m=audio 40000 UDP/TLS/RTP/SAVPF 101\r\nc=IN IP4 192.0.2.1\r\na=mid:1\r\na=rtcp-mux\r\na=rtpmap:101 opus/48000/2\r\n";
    let text = format!("{}{second}", WEB.replace("BUNDLE 0", "BUNDLE 0 1"));
    let findings = lint(&text, None);
    let [finding] = findings.as_slice() else {
        panic!("{findings:#?}")
    };
    assert_eq!((finding.check, finding.media), (Check::BundlePayload, Some(1)));
    assert_eq!(
        finding.what,
        "101 is opus/48000 here and telephone-event/8000 in m-line 0"
    );
}

#[test]
fn what_is_no_description_or_too_much_of_it_is_one_finding() {
    let long = format!("{PLAIN}{}", "a=x\r\n".repeat(10_000));
    for text in ["", "hello", long.as_str()] {
        let findings = lint(text, None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            (findings[0].check, findings[0].severity),
            (Check::NotSdp, Severity::Refuses)
        );
    }
    assert!(lint(&long, None)[0].what.contains("more than 2000 lines"));
}

#[test]
fn findings_are_bounded_and_the_rest_is_counted() {
    let text = format!("{PLAIN}{}", "a=candidate:x\r\n".repeat(1_900));
    let findings = lint(&text, None);
    assert_eq!(findings.len(), MAX_FINDINGS);
    let last = findings.last().unwrap();
    assert_eq!(last.check, Check::More);
    // 1,900 candidates and the length.
    assert_eq!(
        last.what,
        format!("there are {} findings more", 1_901 - (MAX_FINDINGS - 1))
    );
    let long = format!("{PLAIN}{}", "a=x-long:0123456789\r\n".repeat(100));
    assert!(has(&lint(&long, None), Check::LongForDatagram));
}

#[test]
fn an_answer_is_held_against_its_offer() {
    let offer = WEB.replace("a=sendrecv", "a=sendonly");
    let right = offer
        .replace("actpass", "active")
        .replace("a=sendonly", "a=recvonly");
    assert_eq!(lint_answer(&offer, &right, None), []);
    for (check, from, to) in [
        (Check::AnswerDirection, "a=recvonly", "a=sendrecv"),
        (
            Check::AnswerFormats,
            "SAVPF 0 101",
            "SAVPF 8\r\na=rtpmap:8 PCMA/8000",
        ),
        (Check::AnswerMedia, "m=audio", "m=video"),
        (
            Check::AnswerMedia,
            "t=0 0\r\n",
            "t=0 0\r\nm=audio 0 RTP/AVP 0\r\n",
        ),
        (Check::AnswerMid, "a=mid:0", "a=mid:1"),
        (
            Check::AnswerPayload,
            "a=rtpmap:101 telephone-event/8000",
            "a=rtpmap:101 opus/48000/2",
        ),
        (Check::AnswerProfile, "UDP/TLS/RTP/SAVPF", "RTP/SAVPF"),
        (Check::AnswerSetup, "a=setup:active", "a=setup:actpass"),
    ] {
        assert!(right.contains(from), "{from}");
        let wrong = right.replacen(from, to, 1);
        assert!(has(&lint_answer(&offer, &wrong, None), check), "{check}\n{wrong}");
    }
    let bare = offer
        .replace("a=group:BUNDLE 0\r\n", "")
        .replace("a=mid:0\r\n", "")
        .replace("a=rtcp-mux\r\n", "");
    let extras = lint_answer(&bare, &right, None);
    let extras: Vec<_> = extras
        .iter()
        .filter(|finding| finding.check == Check::AnswerExtra)
        .collect();
    assert_eq!(extras.len(), 3, "{extras:#?}");
    assert!(
        extras
            .iter()
            .all(|finding| finding.fixed_by == Some(Rule::AnswerFit))
    );
    assert!(has(&lint_answer("none", &right, None), Check::NotSdp));
}

#[test]
fn a_finding_reads_as_a_sentence_and_as_json() {
    let text = PLAIN.replace("RTP/AVP", "RTP/SAVP");
    let finding = lint(&text, None).remove(0);
    assert_eq!(
        finding.to_string(),
        "refuses keying-missing (m-line 0, line 6 \"m=audio 40000 RTP/SAVP 0 101\"): RTP/SAVP has neither a=fingerprint \
         nor a=crypto, because a secure profile needs keys: a=fingerprint (RFC 5763 section 5) or a=crypto (RFC 4568 \
         section 6); add keys, or offer RTP/AVP"
    );
    let json = serde_json::to_value(&finding).unwrap();
    assert_eq!(json["severity"], "refuses");
    assert_eq!(json["check"], "keying-missing");
    assert_eq!(json["media"], 0);
    assert_eq!(json["number"], 6);
    assert!(json["fixed_by"].is_null());
}

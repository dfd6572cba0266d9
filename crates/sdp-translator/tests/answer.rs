//! Answers without an engine: the known ones of RFC 4317, and laws over generated offers.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::samples;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use siprtc_core::Fault;
use siprtc_core::media::Direction;
use siprtc_sdp_translator::{
    Check, Crypto, LocalMedia, LocalSession, LocalTransport, Severity, answer, check_answer, lint,
    lint_answer,
};

const FINGERPRINT: &str =
    "sha-256 6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC";

fn medium(medium: &str, port: u16, codecs: &[&str]) -> LocalMedia {
    LocalMedia {
        medium: medium.to_owned(),
        port,
        codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
        direction: Direction::SendRecv,
    }
}

fn local(media: Vec<LocalMedia>) -> LocalSession {
    LocalSession {
        origin: "bob 2808844564 2808844564 IN IP4 host.biloxi.example.com".to_owned(),
        connection: "IN IP4 host.biloxi.example.com".to_owned(),
        media,
        transport: None,
        keys: Vec::new(),
    }
}

fn transport() -> LocalTransport {
    LocalTransport {
        fingerprint: FINGERPRINT.to_owned(),
        ice_ufrag: "user".to_owned(),
        ice_pwd: "passwordpasswordpassword".to_owned(),
        candidates: vec!["1 1 udp 2130706431 192.0.2.2 40000 typ host".to_owned()],
    }
}

/// What a known answer's author has: each m-line that is not rejected, with its port, its encodings and the direction that
/// is its own wish.
fn author_of(known: &str, wish: Direction) -> LocalSession {
    let value = |prefix: &str| {
        common::lines(known, prefix)
            .first()
            .copied()
            .unwrap_or_default()
            .to_owned()
    };
    let mut media: Vec<LocalMedia> = Vec::new();
    let mut is_rejected = false;
    for line in known.lines().map(str::trim_end) {
        if let Some(value) = line.strip_prefix("m=") {
            let mut words = value.split_whitespace();
            let (name, port) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
            is_rejected = port == 0;
            if !is_rejected {
                media.push(medium(name, port, &[]));
                media.last_mut().unwrap().direction = wish;
            }
        } else if let Some(value) = line.strip_prefix("a=rtpmap:").filter(|_| !is_rejected) {
            let encoding = value.split_once(' ').unwrap().1;
            media.last_mut().unwrap().codecs.push(encoding.to_owned());
        }
    }
    LocalSession {
        origin: value("o="),
        connection: value("c="),
        media,
        transport: None,
        keys: Vec::new(),
    }
}

/// Every line in the order of the m-lines, without the session's name, of which the RFC writes a blank.
fn lines(sdp: &str) -> Vec<String> {
    let mut sections: Vec<Vec<String>> = vec![Vec::new()];
    for line in sdp.lines().filter(|line| !line.starts_with("s=")) {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap().push(line.trim_end().to_owned());
    }
    sections.concat()
}

/// What does not follow from an offer and the author's codecs in these exchanges.
const BEYOND: [(&str, &str); 4] = [
    (
        "2.3-1",
        "the author gives iLBC a payload type of his own, which RFC 3264 section 6.1 allows",
    ),
    ("2.8-1", "the author's video is on another host"),
    (
        "3.2-2",
        "the author adds a codec, and leaves the direction out that RFC 3264 section 6.1 asks for",
    ),
    ("4.1-2", "the author repeats the session's c= line"),
];

#[test]
fn the_known_answers_of_rfc_4317_are_those_that_are_made() {
    let samples = samples();
    let mut same = 0;
    let mut other = Vec::new();
    for sample in &samples {
        let Some(name) = sample
            .name
            .strip_prefix("rfc4317/")
            .and_then(|name| name.strip_suffix(".offer.sdp"))
        else {
            continue;
        };
        let known = common::sample(&format!("rfc4317/{name}.answer.sdp"));
        // Who puts a call on hold in an answer wants only to send (section 3.1).
        let wish = match known.contains("a=sendonly") && !sample.text.contains("a=recvonly") {
            true => Direction::SendOnly,
            false => Direction::SendRecv,
        };
        let made =
            answer(&sample.text, &author_of(&known, wish)).unwrap_or_else(|error| panic!("{name}: {error}"));
        match lines(&made) == lines(&known) {
            true => same += 1,
            false => other.push(format!("{name}\n{made}---\n{known}")),
        }
        let is_of_answers =
            |finding: &&siprtc_sdp_translator::Finding| finding.check.as_str().starts_with("answer-");
        let known_findings = lint_answer(&sample.text, &known, None);
        let wrong: Vec<Check> = known_findings
            .iter()
            .filter(is_of_answers)
            .map(|finding| finding.check)
            .collect();
        // The RFC's own slip: a sendonly offer, and an answer that is sendrecv because it says nothing.
        let slip: &[Check] = if name == "3.2-2" {
            &[Check::AnswerDirection]
        } else {
            &[]
        };
        assert_eq!(wrong, slip, "{name}: {known_findings:#?}");
        let findings = lint_answer(&sample.text, &made, None);
        assert!(
            findings
                .iter()
                .all(|finding| finding.severity == Severity::Note || finding.check == Check::HoldZero),
            "{name}: {findings:#?}"
        );
    }
    assert!(BEYOND.iter().all(|(_, why)| !why.is_empty()));
    let names: Vec<&str> = other.iter().filter_map(|text| text.lines().next()).collect();
    let beyond: Vec<&str> = BEYOND.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, beyond, "{}", other.join("\n"));
    assert_eq!(same, 23, "the other exchanges of the RFC");
}

#[test]
fn a_browsers_offer_is_answered_on_one_transport() {
    let offer = common::sample("sdp/chrome-jssip-av-2019.sdp");
    let mut bob = local(vec![
        medium("audio", 40_000, &["opus/48000/2", "telephone-event/48000"]),
        medium("video", 40_002, &["VP8/90000"]),
    ]);
    let error = answer(&offer, &bob).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible, "{error}");
    bob.transport = Some(transport());
    let made = answer(&offer, &bob).unwrap();
    check_answer(&offer, &made).unwrap_or_else(|error| panic!("{error}\n{made}"));
    let bad: Vec<_> = lint_answer(&offer, &made, None)
        .into_iter()
        .filter(|finding| finding.severity == Severity::Refuses)
        .collect();
    assert_eq!(bad, [], "{made}");
    assert!(made.contains("a=group:BUNDLE "), "{made}");
    assert!(
        common::lines(&made, "m=")
            .iter()
            .all(|line| line.split(' ').nth(1) == Some("40000")),
        "{made}"
    );
}

#[test]
fn plain_rtp_beside_sdes_takes_the_plain_line() {
    let offer = common::sample("sdp/3cx-savp-avp-dup.sdp");
    let made = answer(
        &offer,
        &local(vec![medium(
            "audio",
            4_000,
            &["PCMU/8000", "PCMA/8000", "G729/8000", "GSM/8000"],
        )]),
    )
    .unwrap();
    let ports: Vec<&str> = common::lines(&made, "m=")
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(ports, ["0", "4000"], "{made}");
}

#[test]
fn what_cannot_be_answered_is_an_error_with_a_next_step() {
    let offer = common::sample("rfc4317/2.1-1.offer.sdp");
    let error = answer(&offer, &local(vec![medium("audio", 4_000, &["opus/48000/2"])])).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(error.to_string().contains("488"), "{error}");
    let mut bob = local(Vec::new());
    bob.connection = "IN IP4 192.0.2.2\r\na=inactive".to_owned();
    assert_eq!(answer(&offer, &bob).unwrap_err().fault(), Fault::ApiMisuse);
    assert_eq!(
        answer("hello", &local(Vec::new())).unwrap_err().fault(),
        Fault::PeerMisbehaved
    );
}

/// An m-line of audio with PCMU, beside a session.
fn audio(line: &str, rest: &[&str]) -> String {
    let rest: String = rest.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio {line} 0\r\n{rest}"
    )
}

const THEIRS: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
const OURS: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

fn key() -> Crypto {
    format!("1 AES_CM_128_HMAC_SHA1_80 inline:{OURS}")
        .parse()
        .unwrap()
}

#[test]
fn keys_in_the_sdp_are_answered_with_ours_and_the_offers_tag() {
    let mut bob = local(vec![medium("audio", 4_000, &["PCMU/8000"])]);
    let line = |tag: u32, rest: &str| format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}{rest}");
    let lines = [
        "a=crypto:1 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm".to_owned(),
        line(2, " UNENCRYPTED_SRTCP"),
        line(3, " KDR=4"),
        line(4, "|2^20|1:4 WSH=64 -X"),
        line(5, ""),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for profile in ["RTP/SAVP", "RTP/SAVPF", "RTP/AVP"] {
        let offer = audio(&format!("5000 {profile}"), &lines);
        bob.keys.clear();
        let without = answer(&offer, &bob);
        assert_eq!(without.is_ok(), profile == "RTP/AVP", "{without:?}");
        bob.keys = vec![key()];
        let made = answer(&offer, &bob).unwrap();
        assert!(made.contains(&format!("m=audio 4000 {profile} 0\r\n")), "{made}");
        assert_eq!(
            common::lines(&made, "a=crypto:"),
            [format!("4 AES_CM_128_HMAC_SHA1_80 inline:{OURS}")],
            "{made}"
        );
        assert_eq!(
            lint_answer(&offer, &made, None)
                .iter()
                .filter(|f| f.severity == Severity::Refuses)
                .count(),
            0
        );
    }
    let error = answer(&audio("5000 RTP/SAVP", &lines[..3]), &bob).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("m-line 0 (audio RTP/SAVP) has no a=crypto"),
        "{error}"
    );
}

#[test]
fn dtls_is_answered_without_ice_where_the_offer_has_none_and_in_the_other_role() {
    let mut bob = local(vec![medium("audio", 4_000, &["PCMU/8000"])]);
    bob.transport = Some(transport());
    let fingerprint = format!("a=fingerprint:{FINGERPRINT}");
    for (setup, role) in [
        ("actpass", "active"),
        ("passive", "active"),
        ("active", "passive"),
    ] {
        let offer = audio(
            "5000 UDP/TLS/RTP/SAVP",
            &[&fingerprint, &format!("a=setup:{setup}")],
        );
        let made = answer(&offer, &bob).unwrap();
        assert_eq!(common::lines(&made, "a=setup:"), [role]);
        assert!(
            !made.contains("a=ice-") && !made.contains("a=candidate"),
            "{made}"
        );
    }
    let offer = audio("5000 UDP/TLS/RTP/SAVP", &[&fingerprint, "a=setup:holdconn"]);
    let error = answer(&offer, &bob).unwrap_err();
    assert!(error.to_string().contains("holdconn"), "{error}");
}

#[test]
fn each_m_line_that_cannot_be_answered_has_its_reason() {
    let bob = local(vec![medium("audio", 4_000, &["PCMA/8000"])]);
    for (line, rest, why) in [
        ("99999 RTP/AVP", "a=x", "has no port"),
        ("5000 RTP/AVP", "a=x", "has no codec of ours"),
        ("5000 udptl", "a=x", "is not RTP over UDP"),
        ("5000 RTP/SAVP", "a=x", "has no fingerprint"),
        (
            "5000 RTP/SAVPF",
            "a=fingerprint:sha-1 00",
            "no fingerprint to answer with",
        ),
        (
            "5000 RTP/SAVP",
            "a=crypto:1 X inline:y",
            "has no a=crypto that we have a key for",
        ),
        ("0 RTP/AVP", "a=bundle-only", "has no port of its own"),
    ] {
        let error = answer(&audio(line, &[rest]), &bob).unwrap_err();
        assert_eq!(error.fault(), Fault::PeerIncompatible);
        let told = error.to_string();
        assert!(told.contains("m-line 0 (audio ") && told.contains(why), "{told}");
    }
}

fn section() -> impl Strategy<Value = String> {
    let medium = prop::sample::select(vec!["audio", "video", "text", "application"]);
    let proto = prop::sample::select(vec![
        "RTP/AVP",
        "RTP/AVPF",
        "RTP/SAVP",
        "RTP/SAVPF",
        "UDP/TLS/RTP/SAVPF",
        "UDP/DTLS/SCTP",
        "udptl",
    ]);
    let format = prop::sample::select(vec!["0", "8", "9", "18", "97", "111", "101"]);
    let direction = prop::sample::select(vec![
        "",
        "a=sendonly\r\n",
        "a=recvonly\r\n",
        "a=inactive\r\n",
        "a=sendrecv\r\n",
    ]);
    let setup = prop::sample::select(vec![
        "",
        "a=setup:actpass\r\n",
        "a=setup:active\r\n",
        "a=setup:passive\r\n",
    ]);
    let port = prop::sample::select(vec![0_u16, 9, 40_000, 65_535]);
    let formats = prop::collection::vec(format, 1..6);
    (medium, port, proto, formats, direction, setup, any::<[bool; 3]>()).prop_map(
        |(medium, port, proto, formats, direction, setup, [mux, secure, crypto])| {
            let mut text = format!("m={medium} {port} {proto} {}\r\nc=IN IP4 192.0.2.1\r\n", formats.join(" "));
            text.push_str("a=rtpmap:97 iLBC/8000\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n");
            text.push_str(direction);
            text.push_str(setup);
            if mux {
                text.push_str("a=rtcp-mux\r\n");
            }
            if secure {
                text.push_str(&format!("a=fingerprint:{FINGERPRINT}\r\na=ice-ufrag:them\r\na=ice-pwd:passwordpasswordpassword\r\n"));
            }
            if crypto {
                text.push_str("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:k\r\n");
                text.push_str(&format!("a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}|2^31|1:1\r\n"));
            }
            text
        },
    )
}

prop_compose! {
    fn offers()(sections in prop::collection::vec(section(), 0..6), bundle in any::<bool>()) -> String {
        let mut text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n".to_owned();
        if bundle && !sections.is_empty() {
            let mids: Vec<String> = (0..sections.len()).map(|index| index.to_string()).collect();
            text.push_str(&format!("a=group:BUNDLE {}\r\n", mids.join(" ")));
        }
        for (index, section) in sections.iter().enumerate() {
            text.push_str(section);
            if bundle {
                text.push_str(&format!("a=mid:{index}\r\n"));
            }
        }
        text
    }
}

fn answers_fit(offer: &str, bob: &LocalSession) {
    let Ok(made) = answer(offer, bob) else { return };
    let findings = lint_answer(offer, &made, None);
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.check.as_str().starts_with("answer-") || finding.check == Check::NotSdp)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{offer}\n{made}");
    // A transport of DTLS-SRTP is what the engine demands.
    if made.contains("a=fingerprint:") {
        check_answer(offer, &made).unwrap_or_else(|error| panic!("{error}\n{offer}\n{made}"));
    }
    let own: Vec<_> = lint(&made, None)
        .into_iter()
        .filter(|finding| finding.severity == Severity::Refuses)
        .collect();
    assert!(own.is_empty(), "{own:#?}\n{offer}\n{made}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, rng_seed: RngSeed::Fixed(3264), ..ProptestConfig::default() })]

    #[test]
    fn an_answer_always_fits_its_offer(offer in offers(), secure in any::<bool>(), keyed in any::<bool>()) {
        let mut bob = local(vec![
            medium("audio", 40_000, &["PCMU/8000", "opus/48000/2", "telephone-event/8000"]),
            medium("audio", 40_002, &["iLBC/8000", "telephone-event/8000"]),
            medium("video", 40_004, &["PCMA/8000"]),
        ]);
        bob.connection = "IN IP4 192.0.2.2".to_owned();
        bob.transport = secure.then(transport);
        bob.keys = keyed.then(key).into_iter().collect();
        answers_fit(&offer, &bob);
    }
}

#[test]
fn answers_to_the_corpus_fit() {
    let mut bob = local(vec![
        medium(
            "audio",
            40_000,
            &["PCMU/8000", "PCMA/8000", "opus/48000/2", "telephone-event/8000"],
        ),
        medium("video", 40_002, &["VP8/90000"]),
    ]);
    bob.connection = "IN IP4 192.0.2.2".to_owned();
    bob.transport = Some(transport());
    let mut answered = 0;
    for sample in samples() {
        if let Ok(made) = answer(&sample.text, &bob) {
            answered += 1;
            let wrong: Vec<_> = lint_answer(&sample.text, &made, None)
                .into_iter()
                .filter(|finding| finding.check.as_str().starts_with("answer-"))
                .collect();
            assert_eq!(wrong, [], "{}\n{made}", sample.name);
        }
    }
    assert!(answered > 200, "{answered} answered");
}

/// A payload type whose configuration is not said is another format: packetization mode 0, another profile (RFC 6184 section 8.2.2).
#[test]
fn what_both_must_have_alike_is_the_offers_and_the_rest_is_not_said() {
    let offer = "v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 5000 RTP/AVP 96 111\r\na=rtpmap:96 AMR-WB/16000\r\na=fmtp:96 octet-align=1; mode-set=0,1,2; max-red=0\r\n\
        a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
        m=video 5002 RTP/AVP 102 104 98\r\na=rtpmap:102 H264/90000\r\n\
        a=fmtp:102 profile-level-id=42e01f;Packetization-Mode=1;sprop-parameter-sets=Z0LA,aM4G\r\na=rtpmap:104 h264/90000\r\n\
        a=rtpmap:98 VP9/90000\r\na=fmtp:98 max-fr=30\r\n";
    let bob = local(vec![
        medium("audio", 6000, &["AMR-WB/16000", "opus/48000/2"]),
        medium("video", 6002, &["H264/90000", "VP9/90000"]),
    ]);
    let answered = answer(offer, &bob).unwrap();
    assert_eq!(
        common::lines(&answered, "a=fmtp:"),
        [
            "96 octet-align=1;mode-set=0,1,2",
            "102 profile-level-id=42e01f;Packetization-Mode=1"
        ],
        "{answered}"
    );
    answers_fit(offer, &bob);
}

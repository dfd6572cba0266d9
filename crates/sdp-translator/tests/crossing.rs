//! Laws of the steps between WebRTC and classic descriptions, over made-up ones and over the corpus.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::{Sample, lines, samples};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use siprtc_core::Fault;
use siprtc_core::media::Direction;
use siprtc_sdp_translator::{
    Answerer, ClassicTransport, Crypto, Dtls, Hold, LocalMedia, LocalSession, LocalTransport, RtcpPort,
    RtpProfile, Setup, Target, WebrtcSide, answer, answer_from_classic, answer_to_classic, check_answer,
    check_classic_answer, check_classic_offer, check_offer, choose_crypto, from_classic, lint_answer, needs,
    negotiated_audio_as, to_classic, to_sip,
};
use std::collections::HashMap;

const FINGERPRINT: &str =
    "sha-256 6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC";
const KEYS: [&str; 3] = [
    "1 AES_CM_128_HMAC_SHA1_80 inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ|2^20|1:4",
    "2 AES_256_CM_HMAC_SHA1_32 inline:EPm8bCW0w2BvozGK++QzjF4m6ARVCpXrn8GAMAoIiDW8BQRDZ+fFRwDjLFALJQ==",
    "3 AEAD_AES_128_GCM inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5w==",
];

/// Offers of a browser: what it says beside, and in which direction it sends.
fn browser(media: &[(&str, &str)], direction: &str, more: &[&str]) -> String {
    let mids: Vec<String> = (0..media.len()).map(|mid| mid.to_string()).collect();
    let mut text = format!(
        "v=0\r\no=- 46117 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS s\r\n",
        mids.join(" ")
    );
    for (mid, (medium, formats)) in media.iter().enumerate() {
        text.push_str(&format!(
            "m={medium} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\na=ice-options:trickle\r\n\
             a=fingerprint:{FINGERPRINT}\r\na=setup:actpass\r\na=mid:{mid}\r\n\
             a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na={direction}\r\na=msid:s {medium}{mid}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
        ));
        for format in formats.split(' ') {
            let map = match format {
                "0" => "a=rtpmap:0 PCMU/8000\r\n",
                "8" => "a=rtpmap:8 PCMA/8000\r\n",
                "9" => "a=rtpmap:9 G722/8000\r\n",
                "63" => "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n",
                "96" => "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\n",
                "97" => "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
                "111" => {
                    "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
                }
                _ => "a=rtpmap:110 telephone-event/48000\r\n",
            };
            text.push_str(map);
        }
        for line in more {
            text.push_str(&format!("a={line}\r\n"));
        }
        text.push_str("a=ssrc:1001 cname:c\r\na=candidate:1 1 udp 2122260223 192.0.2.5 50000 typ host\r\n");
    }
    text
}

fn transport(at: usize, profile: RtpProfile, own_rtcp: bool) -> ClassicTransport {
    let port = 4_000 + 10 * u16::try_from(at).unwrap();
    let crypto = KEYS.iter().map(|key| key.parse::<Crypto>().unwrap()).collect();
    let dtls = Dtls {
        fingerprint: FINGERPRINT.to_owned(),
        setup: Setup::Actpass,
    };
    ClassicTransport {
        rtp: ([192, 0, 2, 9], port).into(),
        rtcp: own_rtcp.then(|| ([192, 0, 2, 9], port + 5).into()),
        crypto: if profile.is_secure() && !profile.is_dtls() {
            crypto
        } else {
            Vec::new()
        },
        dtls: profile.is_dtls().then_some(dtls),
    }
}

fn target(profile: RtpProfile, count: usize, own_rtcp: bool) -> Target {
    let transports = (0..count)
        .map(|at| Some(transport(at, profile, own_rtcp)))
        .collect();
    let mut target = Target::plain(transports);
    target.profile = profile;
    target
}

fn side(established: Option<Setup>) -> WebrtcSide {
    WebrtcSide {
        transport: LocalTransport {
            fingerprint: FINGERPRINT.to_owned(),
            ice_ufrag: "ours".to_owned(),
            ice_pwd: "ourpasswordourpassword00".to_owned(),
            candidates: vec!["1 1 udp 2130706431 192.0.2.10 6000 typ host".to_owned()],
        },
        established,
        payload_types: Vec::new(),
    }
}

/// What a classic endpoint answers, without an engine: RTP/AVP through `answer`; secure ones from the offer's text.
fn phone(offer: &str, codecs: &[&str], direction: Direction) -> siprtc_core::Result<String> {
    let plain = |text: &str| {
        RtpProfile::ALL
            .iter()
            .rev()
            .fold(text.to_owned(), |text, profile| {
                text.replace(&format!(" {profile} "), " RTP/AVP ")
            })
    };
    let media = ["audio", "video"].map(|medium| LocalMedia {
        medium: medium.to_owned(),
        port: 7_000,
        codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
        direction,
    });
    let local = LocalSession {
        origin: "phone 1 1 IN IP4 192.0.2.20".to_owned(),
        connection: "IN IP4 192.0.2.20".to_owned(),
        media: media.to_vec(),
        transport: None,
        keys: Vec::new(),
    };
    let answer = answer(&plain(offer), &local)?;
    let (asked, mut text, mut at) = (lines(offer, "m="), String::new(), 0);
    for line in answer.lines() {
        if line.starts_with("m=") {
            let proto = asked[at].split(' ').nth(2).unwrap();
            let mut words: Vec<&str> = line.split(' ').collect();
            words[2] = proto;
            text.push_str(&format!("{}\r\n", words.join(" ")));
            if words[1] != "0" {
                if let Ok(Some(crypto)) = choose_crypto(offer, at, &siprtc_sdp_translator::Suite::ALL) {
                    text.push_str(&format!("a=crypto:{crypto}\r\n"));
                }
                if proto.starts_with("UDP/TLS") {
                    text.push_str(&format!("a=setup:active\r\na=fingerprint:{FINGERPRINT}\r\n"));
                }
            }
            at += 1;
        } else {
            text.push_str(&format!("{line}\r\n"));
        }
    }
    Ok(text)
}

/// RFC 3264 section 6, told from the text alone.
fn fits(offer: &str, answer: &str) {
    let (asked, given) = (lines(offer, "m="), lines(answer, "m="));
    assert_eq!(asked.len(), given.len(), "{offer}\n{answer}");
    for (asked, given) in asked.iter().zip(&given) {
        let (asked, given): (Vec<&str>, Vec<&str>) = (asked.split(' ').collect(), given.split(' ').collect());
        assert_eq!(asked[0], given[0], "the medium");
        let is_bundle_only = offer.contains("a=bundle-only");
        if asked[1] == "0" && !is_bundle_only {
            assert_eq!(given[1], "0", "what is rejected stays so: {answer}");
        }
        if given[1] != "0" {
            assert_eq!(asked[2], given[2], "the profile");
            assert!(
                given[3..].iter().all(|format| asked[3..].contains(format)),
                "{asked:?} {given:?}"
            );
        }
    }
    let wrong = lint_answer(offer, answer, None);
    let wrong: Vec<_> = wrong
        .iter()
        .filter(|finding| finding.check.as_str().starts_with("answer-"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{offer}\n{answer}");
}

fn profiles() -> impl Strategy<Value = RtpProfile> {
    prop::sample::select(RtpProfile::ALL.to_vec())
}

fn directions() -> impl Strategy<Value = Direction> {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    prop::sample::select(vec![Inactive, RecvOnly, SendOnly, SendRecv])
}

fn media() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let one = prop::sample::select(vec![
        ("audio", "111 63 9 0 8 110"),
        ("audio", "0"),
        ("audio", "8 0 110"),
        ("video", "96 97"),
    ]);
    prop::collection::vec(one, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, rng_seed: RngSeed::Fixed(3264), ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_is_what_it_was(
        media in media(),
        direction in directions(),
        profile in profiles(),
        rtcp in prop::sample::select(vec![RtcpPort::Both, RtcpPort::Multiplexed, RtcpPort::Own]),
        own_rtcp in any::<bool>(),
        hold in prop::sample::select(vec![Hold::Direction, Hold::ZeroAddress]),
        numbers in prop::sample::select(vec![vec![], vec![(111, 96), (96, 111)], vec![(0, 100), (97, 35), (110, 101)]]),
        codecs in prop::sample::select(vec![None, Some(vec!["PCMU/8000".to_owned(), "opus/48000".to_owned()])]),
        extra in prop::sample::subsequence(vec!["simulcast:send 1;2", "rid:1 send", "bundle-only", "x-own:kept", "ptime:20", "label:1"], 0..=6),
        missing in 0..5_usize,
    ) {
        let ours = browser(&media, direction.as_str(), &extra);
        let mut target = target(profile, media.len(), own_rtcp);
        (target.rtcp, target.hold, target.payload_types, target.codecs) = (rtcp, hold, numbers, codecs);
        if let Some(transport) = target.transports.get_mut(missing) {
            *transport = None;
        }
        let classic = match to_classic(&ours, &target) {
            Ok(classic) => classic,
            Err(error) => {
                prop_assert_eq!(error.fault(), Fault::PeerIncompatible, "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(&classic.undo.restore(&classic.sdp).unwrap().sdp, &ours, "{}", classic.sdp);
        check_classic_offer(&classic.sdp).unwrap_or_else(|error| panic!("{error}\n{}", classic.sdp));
        // Nothing that only WebRTC has.
        for gone in ["a=group", "a=mid", "a=ice-", "a=candidate", "a=msid", "a=ssrc", "a=extmap", "a=rid", "a=simulcast", "a=bundle-only"] {
            prop_assert!(!classic.sdp.contains(gone), "{}", classic.sdp);
        }
        prop_assert_eq!(lines(&classic.sdp, "m=").len(), media.len());
        prop_assert_eq!(classic.sdp.contains("a=rtcp-fb"), profile.has_feedback() && ours_has_feedback(&classic.sdp));
        let carried = needs(&classic.sdp).unwrap().classic.unwrap();
        prop_assert_eq!(carried.profile, Some(profile));
        prop_assert_eq!(carried.rtcp_mux, rtcp != RtcpPort::Own);
        // Twice the same: what is classic already has only its addresses and keys put in again.
        let again = to_classic(&classic.sdp, &Target { payload_types: Vec::new(), ..target.clone() }).unwrap();
        let sorted = |sdp: &str| { let mut lines: Vec<String> = sdp.lines().map(str::to_owned).collect(); lines.sort(); lines };
        prop_assert_eq!(sorted(&again.sdp), sorted(&classic.sdp));
    }

    #[test]
    fn an_answer_over_the_bridge_fits_its_offer(
        media in media(),
        asked in directions(),
        given in directions(),
        profile in profiles(),
        numbers in prop::sample::select(vec![vec![], vec![(111, 96), (96, 111)], vec![(0, 100), (110, 101)]]),
        established in prop::sample::select(vec![None, Some(Setup::Active), Some(Setup::Passive)]),
    ) {
        let offer = browser(&media, asked.as_str(), &[]);
        let mut target = target(profile, media.len(), false);
        target.payload_types = numbers.clone();
        let classic = to_classic(&offer, &target).unwrap();
        let codecs = ["opus/48000/2", "PCMU/8000", "telephone-event/48000", "VP8/90000"];
        let Ok(reply) = phone(&classic.sdp, &codecs, given) else { return Ok(()) };
        fits(&classic.sdp, &reply);
        check_classic_answer(&classic.sdp, &reply).unwrap_or_else(|error| panic!("{error}\n{reply}"));
        let side = WebrtcSide { payload_types: numbers, ..side(established) };
        let back = answer_from_classic(&offer, &reply, &side).unwrap_or_else(|error| panic!("{error}\n{reply}"));
        fits(&offer, &back.sdp);
        check_answer(&offer, &back.sdp).unwrap_or_else(|error| panic!("{error}\n{}", back.sdp));
        prop_assert!(!back.sdp.contains("a=crypto"));
        let role = established.unwrap_or(Setup::Active);
        prop_assert!(lines(&back.sdp, "a=setup:").iter().all(|said| *said == role.as_str()), "{}", back.sdp);
        // What was rejected by the phone is rejected here.
        let rejected = |sdp: &str| lines(sdp, "m=").iter().map(|line| line.split(' ').nth(1) == Some("0")).collect::<Vec<_>>();
        prop_assert_eq!(rejected(&back.sdp), rejected(&reply));
    }

    #[test]
    fn a_phones_offer_over_the_bridge_is_answered_with_its_own_numbers_keys_and_profiles(
        media in media(),
        asked in directions(),
        given in directions(),
        profile in profiles(),
        key in 0..3_usize,
    ) {
        let offer = to_classic(&browser(&media, asked.as_str(), &[]), &target(profile, media.len(), true)).unwrap().sdp;
        let shown = from_classic(&offer, &side(None)).unwrap_or_else(|error| panic!("{error}\n{offer}")).sdp;
        check_offer(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        prop_assert_eq!(to_sip(&shown).unwrap().sdp, shown.clone(), "it goes over the wire as it is");
        let local = LocalSession {
            origin: "- 1 1 IN IP4 0.0.0.0".to_owned(),
            connection: "IN IP4 0.0.0.0".to_owned(),
            media: ["audio", "audio", "video"].map(|medium| LocalMedia {
                medium: medium.to_owned(),
                port: 9,
                codecs: vec!["PCMU/8000".to_owned(), "opus/48000/2".to_owned(), "VP8/90000".to_owned()],
                direction: given,
            }).to_vec(),
            transport: Some(side(None).transport),
            keys: Vec::new(),
        };
        let reply = answer(&shown, &local).unwrap();
        let mut ours = target(profile, media.len(), false);
        for own in ours.transports.iter_mut().flatten() {
            own.crypto = own.crypto.iter().skip(key).take(1).cloned().collect();
            if let Some(dtls) = &mut own.dtls {
                dtls.setup = Setup::Active;
            }
        }
        let wire = answer_to_classic(&offer, &reply, &ours).unwrap_or_else(|error| panic!("{error}\n{offer}\n{reply}"));
        fits(&offer, &wire.sdp);
        check_classic_answer(&offer, &wire.sdp).unwrap();
        prop_assert_eq!(wire.undo.restore(&wire.sdp).unwrap().sdp, reply);
        if media.iter().any(|(medium, _)| *medium == "audio") {
            negotiated_audio_as(&wire.sdp, &offer, Answerer::Local).unwrap();
        }
    }
}

/// Whether a format that has feedback is left.
fn ours_has_feedback(classic: &str) -> bool {
    ["opus/48000/2", "VP8/90000"]
        .iter()
        .any(|encoding| classic.contains(encoding))
}

#[test]
fn every_webrtc_description_of_the_corpus_goes_to_classic_and_comes_back() {
    let mut count = 0;
    for Sample { name, text, .. } in samples() {
        let Ok(carried) = needs(&text).unwrap().webrtc else {
            continue;
        };
        if carried.medium == "application" {
            let error = to_classic(&text, &target(RtpProfile::Avp, 1, false)).unwrap_err();
            assert_eq!(error.fault(), Fault::PeerIncompatible, "{name}");
            continue;
        }
        let repaired = to_sip(&text).unwrap().sdp;
        let media = lines(&repaired, "m=").len();
        for profile in RtpProfile::ALL {
            let classic = to_classic(&repaired, &target(profile, media, false))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let back = classic.undo.restore(&classic.sdp).unwrap().sdp;
            assert_eq!(back, repaired, "{name}\n{}", classic.sdp);
            check_classic_offer(&classic.sdp)
                .unwrap_or_else(|error| panic!("{name}: {error}\n{}", classic.sdp));
            let Ok(reply) = phone(
                &classic.sdp,
                &["PCMU/8000", "opus/48000/2", "VP8/90000", "H264/90000"],
                Direction::SendRecv,
            ) else {
                continue;
            };
            fits(&classic.sdp, &reply);
            let shown = answer_from_classic(&repaired, &reply, &side(None))
                .unwrap_or_else(|error| panic!("{name}: {error}\n{reply}"));
            fits_in_number(&repaired, &shown.sdp);
            check_answer(&repaired, &shown.sdp)
                .unwrap_or_else(|error| panic!("{name}: {error}\n{}", shown.sdp));
        }
        count += 1;
    }
    assert!(count >= 50, "{count}");
}

fn fits_in_number(offer: &str, answer: &str) {
    let kinds = |sdp: &str| -> Vec<String> {
        lines(sdp, "m=")
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kinds(offer), kinds(answer));
}

#[test]
fn every_classic_description_of_the_corpus_goes_to_webrtc_and_is_answered_in_its_own_words() {
    let (mut carried, mut refused) = (0, HashMap::new());
    for Sample { name, text, .. } in samples() {
        let shown = match from_classic(&text, &side(None)) {
            Ok(shown) => shown.sdp,
            Err(error) => {
                *refused.entry(error.message().to_owned()).or_insert(0) += 1;
                assert_eq!(error.fault(), Fault::PeerIncompatible, "{name}: {error}");
                continue;
            }
        };
        check_offer(&shown).unwrap_or_else(|error| panic!("{name}: {error}\n{text}\n{shown}"));
        fits_in_number(&text, &shown);
        let Ok(classic) = check_classic_offer(&text).and_then(|()| needs(&text)) else {
            continue;
        };
        let index = classic.classic.unwrap().index;
        let local = LocalSession {
            origin: "- 1 1 IN IP4 0.0.0.0".to_owned(),
            connection: "IN IP4 0.0.0.0".to_owned(),
            media: ["audio", "video"]
                .map(|medium| LocalMedia {
                    medium: medium.to_owned(),
                    port: 9,
                    codecs: vec![
                        "PCMU/8000".to_owned(),
                        "PCMA/8000".to_owned(),
                        "G729/8000".to_owned(),
                        "VP8/90000".to_owned(),
                    ],
                    direction: Direction::SendRecv,
                })
                .to_vec(),
            transport: Some(side(None).transport),
            keys: Vec::new(),
        };
        let Ok(reply) = answer(&shown, &local) else {
            continue;
        };
        let count = lines(&text, "m=").len();
        let transports = (0..count).map(|at| {
            let crypto = choose_crypto(&text, at, &siprtc_sdp_translator::Suite::ALL).unwrap();
            let mut own = transport(at, RtpProfile::Avp, false);
            own.crypto = crypto.into_iter().collect();
            own.dtls = text.contains("a=fingerprint").then(|| Dtls {
                fingerprint: FINGERPRINT.to_owned(),
                setup: Setup::Active,
            });
            Some(own)
        });
        let ours = Target::plain(transports.collect());
        match answer_to_classic(&text, &reply, &ours) {
            Ok(wire) => {
                fits_in_number(&text, &wire.sdp);
                carried += 1;
            }
            Err(error) => println!("{name} ({index}): {error}"),
        }
    }
    println!("{refused:#?}");
    assert!(carried >= 150, "{carried}");
}

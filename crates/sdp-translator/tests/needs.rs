//! Which engine a description needs, and what classic descriptions agree on.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::{Sample, sample, samples};
use siprtc_core::Fault;
use siprtc_core::media::{Codec, Direction};
use siprtc_sdp_translator::{
    Answerer, Carried, Crypto, Keying, Needs, RtpProfile, Suite, check_classic_answer, check_classic_offer,
    check_offer, needs, negotiated_audio, negotiated_audio_as,
};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
const CRYPTO: &str = "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ";
const FINGERPRINT: &str = "fingerprint:sha-256 AA:BB";
const ICE: [&str; 2] = ["ice-ufrag:user", "ice-pwd:passwordpasswordpassword"];

fn medium(line: &str, attributes: &[&str]) -> String {
    let attributes: String = attributes
        .iter()
        .map(|attribute| format!("a={attribute}\r\n"))
        .collect();
    format!("m={line}\r\n{attributes}")
}

fn sdp(line: &str, attributes: &[&str]) -> String {
    HEAD.to_owned() + &medium(line, attributes)
}

#[track_caller]
fn told(sdp: &str) -> Needs {
    needs(sdp).unwrap_or_else(|error| panic!("{error}\n{sdp}"))
}

#[track_caller]
fn classic(sdp: &str) -> Carried {
    told(sdp)
        .classic
        .unwrap_or_else(|refusal| panic!("{}\n{sdp}", refusal.what))
}

#[test]
fn profile_and_keys_are_told_together() {
    use Keying::{DtlsSrtp, None, Sdes};
    let rows: [(&str, &[&str], &[Keying]); 9] = [
        ("RTP/AVP", &[], &[None]),
        ("RTP/AVPF", &[], &[None]),
        // Best-effort SRTP (RFC 8643).
        ("RTP/AVP", &[CRYPTO], &[Sdes, None]),
        ("RTP/AVP", &[FINGERPRINT, CRYPTO], &[DtlsSrtp, Sdes, None]),
        ("RTP/SAVP", &[CRYPTO], &[Sdes]),
        ("RTP/SAVPF", &[FINGERPRINT, CRYPTO], &[DtlsSrtp, Sdes]),
        ("RTP/SAVP", &[FINGERPRINT], &[DtlsSrtp]),
        ("UDP/TLS/RTP/SAVP", &[FINGERPRINT], &[DtlsSrtp]),
        ("UDP/TLS/RTP/SAVPF", &[FINGERPRINT, CRYPTO], &[DtlsSrtp]),
    ];
    for (proto, attributes, keying) in rows {
        let text = sdp(&format!("audio 4000 {proto} 0"), attributes);
        let carried = classic(&text);
        assert_eq!(carried.keying, keying, "{text}");
        assert_eq!(carried.profile.map(RtpProfile::as_str), Some(proto));
        assert_eq!(carried.suites.is_empty(), !keying.contains(&Sdes));
        assert!(!carried.ice && !carried.rtcp_mux);
        assert!(told(&text).webrtc.is_err(), "without ICE: {text}");
        check_classic_offer(&text).unwrap();
    }
}

#[test]
fn what_has_ice_and_dtls_goes_either_way_as_long_as_it_has_an_address() {
    let attributes = [FINGERPRINT, ICE[0], ICE[1], "rtcp-mux"];
    let text = sdp("audio 4000 UDP/TLS/RTP/SAVPF 0", &attributes);
    let both = told(&text);
    let webrtc = both.webrtc.unwrap();
    assert!(webrtc.ice && webrtc.rtcp_mux && webrtc.keying == [Keying::DtlsSrtp]);
    assert!(both.classic.unwrap().ice);
    let trickled = text
        .replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0")
        .replace("4000", "9");
    let refusal = told(&trickled).classic.unwrap_err();
    assert_eq!(
        refusal.what,
        "m-line 0 (audio UDP/TLS/RTP/SAVPF) has no address but those of its candidates"
    );
    // Without ICE the same address is hold.
    classic(&sdp("audio 4000 RTP/AVP 0", &[]).replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"));
}

#[test]
fn the_sentence_says_why_neither_engine_can() {
    let rows: [(&str, &[&str], &str, Fault); 9] = [
        (
            "audio 4000 RTP/SAVP 0",
            &[],
            "neither a=crypto nor a fingerprint",
            Fault::PeerMisbehaved,
        ),
        (
            "audio 4000 UDP/TLS/RTP/SAVP 0",
            &[CRYPTO],
            "has no fingerprint",
            Fault::PeerMisbehaved,
        ),
        (
            "audio 4000 RTP/SAVP 0",
            &["crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA"],
            "suite \"F8_128_HMAC_SHA1_80\"",
            Fault::PeerIncompatible,
        ),
        (
            "audio 4000 RTP/SAVP 0",
            &["crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA"],
            "have 3 octets",
            Fault::PeerMisbehaved,
        ),
        (
            "image 4000 udptl t38",
            &[],
            "neither audio nor video",
            Fault::PeerIncompatible,
        ),
        (
            "audio 4000 TCP/RTP/AVP 0",
            &[],
            "over RTP and UDP",
            Fault::PeerIncompatible,
        ),
        ("audio 4000 RTP/AVP 96", &[], "no codec", Fault::PeerIncompatible),
        (
            "audio 0 RTP/AVP 0",
            &[],
            "rejected (port 0)",
            Fault::PeerIncompatible,
        ),
        (
            "audio 0 RTP/AVP 0",
            &["bundle-only"],
            "bundle-only",
            Fault::PeerIncompatible,
        ),
    ];
    for (line, attributes, what, fault) in rows {
        let text = sdp(line, attributes);
        let needs = told(&text);
        let refusal = needs.classic.unwrap_err();
        assert!(refusal.what.contains(what), "{}\n{text}", refusal.what);
        assert_eq!(refusal.fault, fault.as_str(), "{}", refusal.what);
        assert!(needs.webrtc.is_err());
        assert_eq!(check_classic_offer(&text).unwrap_err().fault(), fault);
        assert!(!refusal.what.contains("AAAA"), "no key in a sentence");
    }
    let bare = sdp("audio 4000 RTP/AVP 0", &[]).replace("c=IN IP4 192.0.2.1\r\n", "");
    assert!(told(&bare).classic.unwrap_err().what.contains("no c= line"));
    let group = sdp("audio 4000 RTP/AVP 0", &[]).replace("192.0.2.1", "233.252.0.1/127");
    assert!(told(&group).classic.unwrap_err().what.contains("multicast"));
}

#[test]
fn an_answer_that_takes_nothing_says_so_for_both_engines() {
    let answer = HEAD.to_owned() + &medium("audio 0 RTP/AVP 0", &[]) + &medium("video 0 RTP/AVP 31", &[]);
    let needs = told(&answer);
    assert!(needs.is_rejected);
    for refusal in [needs.webrtc.unwrap_err(), needs.classic.unwrap_err()] {
        assert_eq!(
            refusal.what,
            "every m-line of the description is rejected (port 0)"
        );
    }
    assert!(!told(&sdp("audio 4000 RTP/AVP 0", &[])).is_rejected);
    let offer =
        HEAD.to_owned() + &medium("audio 4000 RTP/AVP 0", &[]) + &medium("video 4002 RTP/AVP 31", &[]);
    assert_eq!(
        check_classic_answer(&offer, &answer).unwrap_err().fault(),
        Fault::PeerIncompatible
    );
}

#[test]
fn of_doubles_the_first_that_fits_is_carried() {
    let dup = told(&sample("sdp/3cx-savp-avp-dup.sdp")).classic.unwrap();
    assert_eq!((dup.index, dup.profile), (0, Some(RtpProfile::Savp)));
    let unknown = HEAD.to_owned()
        + &medium(
            "audio 4000 RTP/SAVP 0",
            &["crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA"],
        )
        + &medium("audio 4000 RTP/AVP 0", &[]);
    assert_eq!(classic(&unknown).index, 1);
    let video_first =
        HEAD.to_owned() + &medium("video 4002 RTP/AVP 31", &[]) + &medium("audio 4000 RTP/AVP 0", &[]);
    assert_eq!(classic(&video_first).medium, "audio");
}

#[test]
fn a_classic_answer_keeps_security_and_takes_an_offered_key() {
    let second = "crypto:2 AEAD_AES_128_GCM inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5w==";
    let offer = sdp("audio 4000 RTP/SAVP 0", &[CRYPTO, second]);
    let answer = |attributes: &[&str]| sdp("audio 5000 RTP/SAVP 0", attributes);
    check_classic_answer(&offer, &answer(&[second])).unwrap();
    check_classic_answer(&offer, &answer(&[CRYPTO])).unwrap();
    let refused = [
        (answer(&[CRYPTO, second]), "several a=crypto"),
        (
            answer(&[&second.replace("crypto:2", "crypto:1")]),
            "a=crypto 1 AEAD_AES_128_GCM, which",
        ),
        (answer(&[&CRYPTO.replace("crypto:1", "crypto:7")]), "a=crypto 7"),
        (answer(&[]), "neither a=crypto nor a fingerprint"),
        (
            sdp("audio 5000 RTP/AVP 0", &[]),
            "is RTP/SAVP in the offer and RTP/AVP in the answer",
        ),
        (sdp("video 5000 RTP/SAVP 31", &[CRYPTO]), "is audio in the offer"),
        (
            answer(&[CRYPTO]) + &medium("video 0 RTP/SAVP 31", &[]),
            "1 m-lines, the answer 2",
        ),
    ];
    for (answer, what) in refused {
        let error = check_classic_answer(&offer, &answer).unwrap_err();
        assert_eq!(error.fault(), Fault::PeerMisbehaved, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    // Phones answer without the F.
    check_classic_answer(
        &sdp("audio 4000 RTP/AVPF 0", &[]),
        &sdp("audio 5000 RTP/AVP 0", &[]),
    )
    .unwrap();
    // Best effort: the answer may take the keys or leave them (RFC 8643).
    let best = sdp("audio 4000 RTP/AVP 0", &[CRYPTO]);
    for attributes in [&[CRYPTO][..], &[]] {
        check_classic_answer(&best, &sdp("audio 5000 RTP/AVP 0", attributes)).unwrap();
    }
}

#[test]
fn classic_descriptions_agree_on_the_answers_first_codec() {
    let offer = sdp("audio 4000 RTP/AVP 0 8 101", &["rtpmap:101 telephone-event/8000"]);
    let answer = sdp(
        "audio 5000 RTP/AVP 8 0 97",
        &["rtpmap:97 telephone-event/8000", "ptime:30", "sendonly"],
    );
    let theirs = negotiated_audio_as(&offer, &answer, Answerer::Remote).unwrap();
    assert_eq!((theirs.codec, theirs.payload_type), (Codec::Pcma, 8));
    assert_eq!((theirs.telephone_event, theirs.ptime), (Some((97, 8_000)), 30));
    assert_eq!(theirs.direction, Direction::RecvOnly);
    let ours = negotiated_audio_as(&answer, &offer, Answerer::Local).unwrap();
    assert_eq!(
        (ours.codec, ours.telephone_event),
        (Codec::Pcma, Some((101, 8_000)))
    );
    // The same lists the other way round: the offer's first is what is taken.
    assert_eq!(
        negotiated_audio_as(&answer, &offer, Answerer::Remote)
            .unwrap()
            .codec,
        Codec::Pcmu
    );
    // A double that was rejected does not stand in the way.
    let doubles =
        HEAD.to_owned() + &medium("audio 4000 RTP/SAVP 8", &[CRYPTO]) + &medium("audio 4000 RTP/AVP 0", &[]);
    let second = HEAD.to_owned() + &medium("audio 0 RTP/SAVP 8", &[]) + &medium("audio 5000 RTP/AVP 0", &[]);
    assert_eq!(negotiated_audio(&doubles, &second).unwrap().codec, Codec::Pcmu);
}

#[test]
fn every_way_to_hold_a_classic_call_is_understood() {
    let ours = sdp("audio 4000 RTP/AVP 0", &[]);
    let at_zero = |attributes| {
        sdp("audio 5000 RTP/AVP 0", attributes).replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0")
    };
    let of_session = sdp("audio 5000 RTP/AVP 0", &[]).replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    let rows = [
        (sdp("audio 5000 RTP/AVP 0", &["sendonly"]), Direction::RecvOnly),
        (sdp("audio 5000 RTP/AVP 0", &["inactive"]), Direction::Inactive),
        (of_session, Direction::RecvOnly),
        (at_zero(&[]), Direction::RecvOnly),
        (at_zero(&["sendonly"]), Direction::RecvOnly),
        (at_zero(&["inactive"]), Direction::Inactive),
    ];
    for (theirs, direction) in rows {
        assert_eq!(
            negotiated_audio_as(&ours, &theirs, Answerer::Local)
                .unwrap()
                .direction,
            direction,
            "{theirs}"
        );
        classic(&theirs);
    }
}

#[test]
fn keys_are_read_checked_and_printed_as_they_were() {
    let lengths = [
        (Suite::AeadAes128Gcm, 28),
        (Suite::AeadAes256Gcm, 44),
        (Suite::AesCm128HmacSha1_32, 30),
    ];
    for (suite, octets) in lengths {
        assert_eq!(suite.key_len() + suite.salt_len(), octets);
    }
    let key = "WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ";
    let good = [
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
        format!("999999999 AES_CM_128_HMAC_SHA1_32 inline:{key}|2^31"),
        format!("2 AES_CM_128_HMAC_SHA1_32 inline:{key}|1000|66051:4 KDR=1 UNENCRYPTED_SRTCP WSH=128 -X=1"),
        format!("3 AES_CM_128_HMAC_SHA1_80 inline:{key}|1:2;inline:{key}|2^20|2:2 FEC_ORDER=FEC_SRTP"),
        "1 AES_256_CM_HMAC_SHA1_80 inline:EPm8bCW0w2BvozGK++QzjF4m6ARVCpXrn8GAMAoIiDW8BQRDZ+fFRwDjLFALJQ=="
            .to_owned(),
    ];
    for text in good {
        assert_eq!(text.parse::<Crypto>().unwrap().to_string(), text);
    }
    // Without padding, in another case, with blanks: as some devices write it.
    let bare =
        "1  aes_256_cm_hmac_sha1_80 INLINE:EPm8bCW0w2BvozGK++QzjF4m6ARVCpXrn8GAMAoIiDW8BQRDZ+fFRwDjLFALJQ ";
    assert_eq!(bare.parse::<Crypto>().unwrap().suite, Suite::AesCm256HmacSha1_80);
    let bad = [
        String::new(),
        format!("x AES_CM_128_HMAC_SHA1_80 inline:{key}"),
        format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
        "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}{key}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^99"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|0"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|256:1"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|1:129"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|1:4|2^20"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key};inline:{key}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|1:2;inline:{key}|1:2"),
        format!(
            "1 AES_CM_128_HMAC_SHA1_80 {}",
            vec![format!("inline:{key}"); 17].join(";")
        ),
    ];
    for text in bad {
        let error = text.parse::<Crypto>().unwrap_err();
        assert_eq!(error.fault(), Fault::PeerMisbehaved, "{error}");
        assert!(!error.to_string().contains(key));
    }
    for text in [
        format!("1 AES_CM_128_HMAC_SHA1_80 uri:{key}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key} NEW=1"),
    ] {
        assert_eq!(
            text.parse::<Crypto>().unwrap_err().fault(),
            Fault::PeerIncompatible
        );
    }
    let shown = format!(
        "{:?}",
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}")
            .parse::<Crypto>()
            .unwrap()
    );
    assert!(shown.contains("octets: 30") && !shown.contains("WnD7"), "{shown}");
}

#[test]
fn every_description_of_the_corpus_is_told_as_the_checks_see_it() {
    let (mut webrtc, mut plain, mut sdes, mut neither) = (0, 0, 0, 0);
    for Sample { name, text, .. } in samples() {
        let needs = told(&text);
        assert_eq!(needs.webrtc.is_ok(), check_offer(&text).is_ok(), "{name}");
        assert_eq!(
            needs.classic.is_ok(),
            check_classic_offer(&text).is_ok(),
            "{name}"
        );
        let sentences = [needs.webrtc.as_ref().err(), needs.classic.as_ref().err()];
        assert!(
            sentences.iter().flatten().all(|refusal| refusal.what.len() > 20),
            "{name}"
        );
        webrtc += usize::from(needs.webrtc.is_ok());
        match needs.classic {
            Ok(carried) => {
                plain += usize::from(carried.keying == [Keying::None]);
                sdes += usize::from(carried.keying.contains(&Keying::Sdes));
            }
            Err(refusal) => {
                println!("{name}: {}", refusal.what);
                neither += usize::from(needs.webrtc.is_err());
            }
        }
    }
    println!("{webrtc} by WebRTC, {plain} plain, {sdes} with a=crypto, {neither} by neither");
    assert!(
        webrtc >= 55 && plain >= 200 && sdes >= 10,
        "{webrtc} {plain} {sdes} {neither}"
    );
}

//! What nobody should send: errors that say whose fault it is, never a panic, and bounded work.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::{Sample, samples};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use siprtc_core::{Error, Fault};
use siprtc_sdp_translator::{
    Answerer, ClassicTransport, Crypto, LocalTransport, MAX_LINES, MAX_MEDIA, MAX_SDP, Suite, Target,
    WebrtcSide, answer_from_classic, answer_to_classic, check_classic_answer, check_classic_offer,
    check_offer, choose_crypto, from_classic, lint, needs, negotiated_audio_as, payload_types, to_classic,
    to_sip, to_webrtc,
};

const PLAIN: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

fn target() -> Target {
    let own = |at: usize| {
        let port = 4_000 + 2 * u16::try_from(at).unwrap();
        Some(ClassicTransport::plain(([192, 0, 2, 9], port).into()))
    };
    Target::plain((0..MAX_MEDIA).map(own).collect())
}

fn side() -> WebrtcSide {
    WebrtcSide {
        transport: LocalTransport {
            fingerprint: "sha-256 AA:BB".to_owned(),
            ice_ufrag: "ours".to_owned(),
            ice_pwd: "ourpasswordourpassword00".to_owned(),
            candidates: vec!["1 1 udp 2130706431 192.0.2.10 6000 typ host".to_owned()],
        },
        established: None,
        payload_types: Vec::new(),
    }
}

/// Everything that reads what a peer sent, and whose fault its errors are.
fn faults(text: &str, other: &str) -> Vec<Error> {
    let (target, side) = (target(), side());
    let classic = to_classic(text, &target);
    if let Ok(classic) = &classic {
        let back = classic.undo.restore(&classic.sdp).unwrap().sdp;
        assert_eq!(to_classic(&back, &target).unwrap().sdp, classic.sdp, "{text}");
        let _ = classic.undo.restore(other);
        // Peers narrow, hold and reject.
        for (from, to) in [
            (" RTP/AVP 0", " RTP/AVP 0 8"),
            ("m=audio 4000", "m=audio 0"),
            ("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0"),
        ] {
            let _ = classic.undo.restore(&classic.sdp.replace(from, to)).unwrap();
        }
    }
    if let Ok(shown) = from_classic(text, &side) {
        check_offer(&shown.sdp).unwrap_or_else(|error| panic!("{error}\n{text}\n{}", shown.sdp));
    }
    let results = [
        needs(text).map(drop),
        check_classic_offer(text),
        check_classic_answer(text, other),
        negotiated_audio_as(text, other, Answerer::Remote).map(drop),
        payload_types(text, other, 0).map(drop),
        choose_crypto(text, 0, &Suite::ALL).map(drop),
        classic.map(drop),
        answer_to_classic(text, other, &target).map(drop),
        from_classic(text, &side).map(drop),
        answer_from_classic(text, other, &side).map(drop),
        to_sip(text).map(drop),
        to_webrtc(text).map(drop),
    ];
    lint(text, None);
    results.into_iter().filter_map(Result::err).collect()
}

#[test]
fn too_much_of_a_description_is_the_peers_fault_and_said_in_one_sentence() {
    let media = "m=audio 4000 RTP/AVP 0\r\n";
    let rows = [
        (
            format!("{PLAIN}{}", "a=x\r\n".repeat(10_000)),
            "more than 2000 lines",
        ),
        (
            format!("{PLAIN}a=x:{}\r\n", "y".repeat(MAX_SDP)),
            "octets, more than 65536",
        ),
        (
            format!("{PLAIN}{}", media.repeat(MAX_MEDIA)),
            "more than 32 m-lines",
        ),
        (String::new(), "does not begin with \"v=\""),
        ("\0\0\0".to_owned(), "does not begin with \"v=\""),
        ("\u{feff}v=0\r\n".to_owned(), "does not begin with \"v=\""),
        (
            "INVITE sip:bob@example.org SIP/2.0\r\n".to_owned(),
            "does not begin with \"v=\"",
        ),
    ];
    for (text, what) in rows {
        let errors = faults(&text, PLAIN);
        assert!(errors.len() >= 11, "{errors:?}");
        for error in errors {
            assert_eq!(error.fault(), Fault::PeerMisbehaved, "{error}");
            assert!(
                error.message().contains(what) && error.next_step().is_some(),
                "{error}"
            );
        }
    }
    let many = MAX_LINES - PLAIN.lines().count();
    assert!(
        faults(&format!("{PLAIN}{}", "a=x\r\n".repeat(many)), PLAIN).len() < 11,
        "as much as may be is taken"
    );
}

#[test]
fn other_line_ends_are_read_and_what_is_one_line_by_them_is_named() {
    for text in [
        PLAIN.replace("\r\n", "\n"),
        PLAIN.replace("\r\n", "\r\r\n"),
        PLAIN.trim_end().to_owned(),
    ] {
        let classic = to_classic(&text, &target()).unwrap_or_else(|error| panic!("{error}"));
        assert!(
            classic.sdp.contains("m=audio 4000 RTP/AVP 0\r\n"),
            "{}",
            classic.sdp
        );
    }
    let bare = PLAIN.replace("\r\n", "\r");
    let error = check_classic_offer(&bare).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerMisbehaved, "{error}");
    assert!(error.to_string().contains("CR"), "{error}");
}

#[test]
fn a_nul_is_no_text() {
    let error = to_sip(&PLAIN.replace("audio", "aud\0io")).unwrap_err();
    assert!(error.message().contains("an m-line has a NUL"), "{error}");
    let kept = to_sip(&format!("{PLAIN}a=x:\0y\r\na=z:\r1\r\na=fine\r\n")).unwrap();
    assert_eq!(kept.sdp, format!("{PLAIN}a=fine\r\n"));
    assert_eq!(kept.changes.len(), 2, "{:?}", kept.changes);
}

#[test]
fn contradictions_are_read_one_way_and_never_twice() {
    let with = |lines: &str| format!("{PLAIN}{lines}");
    // The first of two counts (RFC 8866 says nothing; every reader here agrees).
    let two = with("a=sendonly\r\na=recvonly\r\n");
    let agreed = negotiated_audio_as(PLAIN, &two, Answerer::Local).unwrap();
    assert_eq!(agreed.direction.as_str(), "recvonly");
    let shown = from_classic(
        &with("a=mid:a\r\na=mid:b\r\na=setup:active\r\na=setup:passive\r\na=sendonly\r\na=inactive\r\n"),
        &side(),
    )
    .unwrap()
    .sdp;
    assert_eq!(shown.matches("a=setup:").count(), 1, "{shown}");
    assert_eq!(shown.matches("a=mid:").count(), 1, "{shown}");
    let twice = with("m=audio 4002 RTP/AVP 0\r\na=mid:a\r\n")
        .replace("RTP/AVP 0\r\nm=", "RTP/AVP 0\r\na=mid:a\r\nm=");
    let shown = from_classic(&twice, &side()).unwrap().sdp;
    let mids = common::lines(&shown, "a=mid:");
    assert!(mids.len() == 2 && mids[0] != mids[1], "{shown}");
}

#[test]
fn without_a_codec_in_common_both_lists_are_told() {
    let other = PLAIN.replace("RTP/AVP 0", "RTP/AVP 18");
    let error = negotiated_audio_as(PLAIN, &other, Answerer::Remote).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(
        error.message().contains("PCMU/8000") && error.message().contains("G729/8000"),
        "{error}"
    );
    let mut ours = target();
    ours.codecs = Some(vec!["opus/48000".to_owned()]);
    let error = to_classic(PLAIN, &ours).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, rng_seed: RngSeed::Fixed(4568), ..ProptestConfig::default() })]

    #[test]
    fn octets_in_any_order_never_panic(
        octets in prop::collection::vec(any::<u8>(), 0..300),
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        thread_local!(static SAMPLES: Vec<Sample> = samples());
        SAMPLES.with(|samples| {
            let original = &samples[pick.index(samples.len())].text;
            // What a broken sequence becomes on the way into a string.
            let noise = String::from_utf8_lossy(&octets).into_owned();
            let mut cut = at.index(original.len() + 1);
            while !original.is_char_boundary(cut) {
                cut -= 1;
            }
            let (head, tail) = original.split_at(cut);
            for error in faults(&format!("{head}{noise}{tail}"), original) {
                prop_assert!(matches!(error.fault(), Fault::PeerMisbehaved | Fault::PeerIncompatible | Fault::ApiMisuse), "{}", error);
            }
            Ok(())
        })?;
    }

    #[test]
    fn lines_from_anywhere_in_any_order_never_panic(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..60),
    ) {
        thread_local!(static SAMPLES: Vec<Sample> = samples());
        SAMPLES.with(|samples| {
            let mut text = "v=0\r\n".to_owned();
            for (sample, line) in picks {
                let original = &samples[sample.index(samples.len())].text;
                let lines: Vec<&str> = original.lines().collect();
                text.push_str(lines[line.index(lines.len())]);
                text.push_str("\r\n");
            }
            faults(&text, PLAIN);
            faults(PLAIN, &text);
        });
    }

    #[test]
    fn a_key_is_printed_as_it_was_read_or_refused(
        tag in 0..2_000_000_000_u32,
        suite in prop::sample::select(Suite::ALL.to_vec()),
        octets in prop::collection::vec(any::<u8>(), 46),
        lifetime in prop::option::of(1..=(1_u64 << 48)),
        mki in prop::option::of((0..300_u32, 1..4_u8)),
        tail in "( (KDR=[0-9]{1,2}|WSH=[0-9]{1,3}|UNENCRYPTED_SRTP|-[A-Z]{1,4}|[A-Z]{1,4})){0,2}",
        noise in "[ -~]{0,40}",
    ) {
        let key = base64(&octets[..suite.key_len() + suite.salt_len()]);
        let lifetime = lifetime.map(|packets| format!("|{packets}")).unwrap_or_default();
        let mki = mki.map(|(value, length)| format!("|{value}:{length}")).unwrap_or_default();
        let text = format!("{tag} {suite} inline:{key}{lifetime}{mki}{tail}");
        if let Ok(crypto) = text.parse::<Crypto>() {
            let printed = crypto.to_string();
            prop_assert_eq!(printed.parse::<Crypto>().unwrap(), crypto, "{}", printed);
        }
        if let Ok(crypto) = noise.parse::<Crypto>() {
            prop_assert_eq!(crypto.to_string().parse::<Crypto>().unwrap(), crypto);
        }
    }
}

/// Base64 with padding, apart from the library that the crate reads it with.
fn base64(octets: &[u8]) -> String {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    octets
        .chunks(3)
        .flat_map(|chunk| {
            let bits = (0..3).fold(0_u32, |bits, at| {
                bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0))
            });
            (0..4).map(move |at| match at <= chunk.len() {
                true => char::from(TABLE[(bits >> (18 - 6 * at) & 63) as usize]),
                false => '=',
            })
        })
        .collect()
}

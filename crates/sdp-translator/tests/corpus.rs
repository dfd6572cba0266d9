//! Every description of the corpus, through the rules and through the engine.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;
mod engine;

use common::{Sample, samples};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use siprtc_core::Fault;
use siprtc_sdp_translator::{answer_to_sip, candidates, check_offer, negotiated_audio, to_sip, to_webrtc};

/// Whether a DTLS-SRTP engine with ICE can take part of it; told from the text alone, without the translator's model.
fn is_webrtc(sdp: &str) -> bool {
    let lower = sdp.to_lowercase();
    let is_live_medium = |line: &str| {
        let mut words = line.split_whitespace();
        let (medium, port, proto) = (words.next(), words.next(), words.next().unwrap_or_default());
        let is_known = matches!(medium, Some("m=audio" | "m=video")) && proto.contains("rtp/")
            || line.trim_end().ends_with(" webrtc-datachannel");
        is_known && port != Some("0")
    };
    lower.contains("a=fingerprint:sha-256")
        && lower.contains("a=ice-ufrag:")
        && lower.lines().any(is_live_medium)
}

#[test]
fn what_webrtc_can_carry_is_translated_and_answered_by_the_engine_and_the_rest_is_refused_by_name() {
    let (mut carried, mut refused) = (0, 0);
    for Sample { name, text, .. } in samples() {
        let translated = to_webrtc(&text);
        assert_eq!(translated.is_ok(), check_offer(&text).is_ok(), "{name}");
        match translated {
            Ok(translation) => {
                assert!(is_webrtc(&text), "{name} was translated");
                carried += 1;
                let answer =
                    engine::block_on(async { engine::Engine::new().await.answer(&translation.sdp).await });
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}\n{}", translation.sdp));
                answer_fits(&name, &text, &answer);
            }
            Err(error) => {
                assert!(!is_webrtc(&text), "{name}: {error}");
                assert_eq!(error.fault(), Fault::PeerIncompatible, "{name}: {error}");
                refused += 1;
            }
        }
    }
    assert!(
        carried >= 55 && refused >= 250,
        "{carried} carried, {refused} refused"
    );
}

/// RFC 3264 section 6: the same m-lines, in number, order and kind; and audio on both sides where the offer has any.
fn answer_fits(name: &str, offer: &str, answer: &str) {
    let wire = answer_to_sip(offer, answer).unwrap_or_else(|error| panic!("{name}: {error}\n{answer}"));
    let kinds = |sdp: &str| -> Vec<String> {
        common::lines(sdp, "m=")
            .iter()
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(kinds(&wire.sdp), kinds(offer), "{name}");
    let has_audio = offer
        .lines()
        .any(|line| line.starts_with("m=audio ") && !line.starts_with("m=audio 0 "));
    assert_eq!(
        negotiated_audio(&wire.sdp, offer).is_ok(),
        has_audio,
        "{name}\n{}",
        wire.sdp
    );
}

#[test]
fn translating_there_and_back_twice_is_the_same_as_once() {
    for Sample { name, text, .. } in samples() {
        let wire = to_sip(&text)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .sdp;
        assert_eq!(
            to_sip(&wire).unwrap().sdp,
            wire,
            "{name}: the wire's form is stable"
        );
        let Ok(shown) = to_webrtc(&wire) else { continue };
        let again = to_sip(&shown.sdp).and_then(|wire| to_webrtc(&wire.sdp));
        assert_eq!(again.unwrap().sdp, shown.sdp, "{name}");
        assert_eq!(
            to_webrtc(&shown.sdp).unwrap().changes,
            [],
            "{name}: nothing is left to change"
        );
    }
}

#[test]
fn every_line_that_no_change_names_is_kept_byte_for_byte() {
    for Sample { name, text, .. } in samples() {
        for translation in [to_sip(&text), to_webrtc(&text)].into_iter().flatten() {
            let mut left: Vec<&str> = translation.sdp.split("\r\n").collect();
            for line in text.lines() {
                let is_named = translation
                    .changes
                    .iter()
                    .any(|change| change.before.as_deref() == Some(line));
                match left.iter().position(|other| *other == line) {
                    Some(at) => drop(left.remove(at)),
                    None => assert!(is_named, "{name}: {line:?} is gone without a word"),
                }
            }
            for line in left.into_iter().filter(|line| !line.is_empty()) {
                let is_named = translation
                    .changes
                    .iter()
                    .any(|change| change.after.as_deref() == Some(line));
                assert!(is_named, "{name}: {line:?} came without a word");
            }
        }
    }
}

/// Everything public, on anything.
fn all(text: &str, other: &str) {
    let _ = to_sip(text);
    let _ = candidates(text);
    let _ = check_offer(text);
    let _ = negotiated_audio(text, other);
    let _ = answer_to_sip(text, other);
    let _ = siprtc_sdp_translator::answer_to_webrtc(text, other);
    let _ = siprtc_sdp_translator::check_answer(text, other);
    if let Ok(shown) = to_webrtc(text) {
        assert_eq!(to_webrtc(&shown.sdp).unwrap().sdp, shown.sdp);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, rng_seed: RngSeed::Fixed(8866), ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}", other in "v=0\r\n(m=audio [0-9]{1,6} RTP/SAVPF 0\r\n(a=[a-z:]{0,9}\r\n){0,3}){0,3}") {
        all(&text, &other);
        all(&format!("v=0\r\n{text}"), &other);
        all(&other, &text);
    }

    #[test]
    fn lines_taken_out_doubled_or_cut_never_panic(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<prop::sample::Index>()), 1..8),
    ) {
        thread_local!(static SAMPLES: Vec<Sample> = samples());
        SAMPLES.with(|samples| {
            let original = &samples[pick.index(samples.len())].text;
            let mut lines: Vec<String> = original.split_inclusive('\n').map(str::to_owned).collect();
            for (at, edit, cut) in edits {
                if lines.is_empty() {
                    break;
                }
                let at = at.index(lines.len());
                match edit {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, lines[at].clone()),
                    2 => {
                        let other = cut.index(lines.len());
                        lines.swap(at, other);
                    }
                    _ => {
                        let chars = lines[at].chars().count();
                        lines[at] = lines[at].chars().take(cut.index(chars.max(1))).collect();
                    }
                }
            }
            all(&lines.concat(), original);
        });
    }
}

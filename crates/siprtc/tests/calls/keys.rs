//! What the keys of `[media]` say, as the peer sees it in the offer.

use crate::house::{home, rings};
use crate::silence::{Seen, media, started};
use siprtc::prelude::*;
use std::sync::Arc;

/// Lines of `[media]` and of `[media.rtp]`, and what stands in the offer then and what does not.
const KEYS: [(&str, &str, &[&str], &[&str]); 11] = [
    (
        "",
        "",
        &["RTP/AVP ", "a=crypto:1 ", "a=rtcp-mux\r\n", "opus/48000/2"],
        &["a=ptime:", "a=ice-ufrag:", "CN/8000"],
    ),
    (
        "codecs = [\"g722\"]",
        "",
        &["RTP/AVP 9 101\r\n"],
        &["opus", "PCMU", "PCMA"],
    ),
    (
        "codecs = [\"pcma\", \"pcmu\"]",
        "",
        &["RTP/AVP 8 0 101\r\n"],
        &["opus", "G722"],
    ),
    ("ptime_ms = 40", "", &["a=ptime:40\r\n"], &[]),
    ("comfort_noise = true", "", &["CN/8000"], &[]),
    (
        "",
        "keying = \"none\"",
        &["RTP/AVP "],
        &["a=crypto:", "a=fingerprint:"],
    ),
    (
        "",
        "keying = \"sdes\"",
        &["RTP/SAVP ", "a=crypto:1 AEAD_AES_256_GCM "],
        &["a=fingerprint:"],
    ),
    (
        "",
        "keying = \"sdes\"\nsuites = [\"AES_CM_128_HMAC_SHA1_80\"]",
        &["a=crypto:1 AES_CM_128_HMAC_SHA1_80 "],
        &["AEAD", "a=crypto:2 "],
    ),
    (
        "",
        "keying = \"dtls\"\nice = true",
        &["UDP/TLS/RTP/SAVP ", "a=fingerprint:", "a=ice-ufrag:"],
        &["a=crypto:"],
    ),
    ("", "rtcp_mux = false", &["a=rtcp:"], &["a=rtcp-mux"]),
    ("", "feedback = true", &["RTP/AVPF "], &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_an_offer_is_in_it() {
    let home = home().await;
    let seen = Arc::new(Seen::default());
    let text = |of_media: &str, of_rtp: &str| {
        format!("[media]\nengine = \"rtp\"\nclassic = \"\"\n{of_media}\n[media.rtp]\n{of_rtp}\n")
    };
    let mut bob = started(&media(&home, "bob", &text("", "")), &seen).await;
    for (of_media, of_rtp, there, absent) in KEYS {
        let nobody = Arc::new(Seen::default());
        let alice = started(&media(&home, "alice", &text(of_media, of_rtp)), &nobody).await;
        let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
        let ringing = rings(&mut bob).await;
        let _answered = ringing.answer(MediaPlan::default()).await.unwrap();
        call.confirmed().await.unwrap();
        let offer = seen.offer.lock().unwrap().take().unwrap();
        for text in there {
            assert!(offer.contains(text), "{of_media} {of_rtp}: no {text} in {offer}");
        }
        for text in absent {
            assert!(!offer.contains(text), "{of_media} {of_rtp}: {text} in {offer}");
        }
        call.hangup().await.unwrap();
        alice.shutdown().await;
    }
    bob.shutdown().await;
    home.shutdown().await;
}

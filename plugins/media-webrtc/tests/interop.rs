//! What other stacks write: each case is an SDP as the peer would send it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use siprtc_core::Fault;
use siprtc_core::media::{Codec, Direction, SdpKind};

fn same(sdp: String) -> String {
    sdp
}

fn without(prefix: &'static str) -> impl Fn(String) -> String {
    move |sdp| {
        sdp.lines()
            .filter(|line| !line.starts_with(prefix))
            .map(|line| format!("{line}\r\n"))
            .collect()
    }
}

#[tokio::test]
async fn an_active_offer_is_answered_passive_and_connects() {
    let active = |sdp: String| sdp.replace("a=setup:actpass", "a=setup:active");
    let (mut a, mut b, _, answer) = connect_with(Setup::default(), Setup::default(), active, same).await;
    assert_eq!(line(&answer, "a=setup:"), "a=setup:passive");
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
    // The role stays when the offer leaves the choice later.
    let (_, answer) = renegotiate(&a, &b).await;
    assert_eq!(line(&answer, "a=setup:"), "a=setup:passive");
    let (_, answer) = renegotiate(&b, &a).await;
    assert_eq!(line(&answer, "a=setup:"), "a=setup:active");
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
}

#[tokio::test]
async fn a_passive_offer_is_answered_active() {
    let passive = |sdp: String| sdp.replace("a=setup:actpass", "a=setup:passive");
    let (mut a, mut b, _, answer) = connect_with(Setup::default(), Setup::default(), passive, same).await;
    assert_eq!(line(&answer, "a=setup:"), "a=setup:active");
    a.reaches(&mut b, 0).await;
}

#[tokio::test]
async fn an_active_offer_to_a_peer_that_was_not_made_for_it_is_refused_in_words() {
    let a = End::new(Setup::default()).await;
    let offer = a.offer().await.replace("a=setup:actpass", "a=setup:active");
    let b = End::new(Setup::default()).await;
    let error = b.peer.set_remote(SdpKind::Offer, &offer).await.unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse);
    assert!(error.next_step().unwrap().contains("remote_offer"), "{error}");
}

#[tokio::test]
async fn a_stream_that_no_description_declares_arrives() {
    let (mut a, mut b, _, _) = connect_with(
        Setup::default(),
        Setup::default(),
        without("a=ssrc:"),
        without("a=ssrc:"),
    )
    .await;
    for payload_type in [0, 101, 111] {
        a.reaches(&mut b, payload_type).await;
        b.reaches(&mut a, payload_type).await;
    }
}

#[tokio::test]
async fn a_stream_other_than_the_declared_one_arrives() {
    // What a B2BUA does that passes the SDP of one leg and the media of another.
    let other = |sdp: String| {
        let ssrc = line(&sdp, "a=ssrc:").split([':', ' ']).nth(1).unwrap().to_owned();
        sdp.replace(&ssrc, "4242")
    };
    let (mut a, mut b, _, _) = connect_with(Setup::default(), Setup::default(), other, other).await;
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 101).await;
}

#[tokio::test]
async fn candidates_that_we_cannot_use_do_not_fail_the_call() {
    let strange = |sdp: String| {
        let mut strange =
            String::from("a=candidate:rubbish\r\na=candidate:1 1 udp 5 nobody.local 5000 typ host\r\n");
        strange.push_str("a=candidate:1 1 tcp 5 127.0.0.1 9 typ host tcptype active\r\n");
        strange.push_str("a=candidate:7 1 UDP 5 127.0.0.1 70000 typ host\r\n");
        for port in 2000..2400 {
            strange.push_str(&format!("a=candidate:1 1 UDP 5 127.0.0.1 {port} typ host\r\n"));
        }
        let first = format!("{}\r\n", line(&sdp, "a=candidate:"));
        sdp.replace(&first, &format!("{first}{strange}"))
    };
    let (mut a, mut b, _, _) = connect_with(Setup::default(), Setup::default(), strange, strange).await;
    a.reaches(&mut b, 0).await;
}

#[tokio::test]
async fn video_beside_audio_is_rejected_and_audio_goes_on() {
    let video = |sdp: String| {
        let bundle = line(&sdp, "a=group:BUNDLE").to_owned();
        let mut sdp = sdp.replace(&bundle, "a=group:BUNDLE 0 1");
        let copied: String = ["a=ice-ufrag:", "a=ice-pwd:"]
            .map(|name| format!("{}\r\n", line(&sdp, name)))
            .concat();
        sdp.push_str("m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=mid:1\r\n");
        sdp.push_str("a=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=ssrc:77 cname:x\r\n");
        sdp.push_str(&copied);
        sdp
    };
    let mut a = End::new(Setup::default()).await;
    let offer = video(a.offer().await);
    let mut b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    let answer = b.answer(&offer).await;
    assert!(line(&answer, "m=video ").starts_with("m=video 0 "), "{answer}");
    assert!(answer.contains("a=sendrecv\r\n"), "{answer}");
    let audio_only = answer
        .split("m=video")
        .next()
        .unwrap()
        .replace("BUNDLE 0 1", "BUNDLE 0");
    a.accept(&audio_only).await;
    a.connected().await;
    b.connected().await;
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
}

#[tokio::test]
async fn an_offer_without_a_codec_of_ours_is_the_peers_incompatibility() {
    let a = End::new(codecs(&[Codec::G722])).await;
    let offer = a.offer().await.replace(" 9 101\r\n", " 9\r\n");
    let b = End::new(codecs(&[Codec::Opus])).await;
    let refused = async {
        b.peer.set_remote(SdpKind::Offer, &offer).await?;
        b.peer.create_answer().await
    };
    let error = refused.await.unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible, "{error}");
    assert!(error.next_step().unwrap().contains("media.codecs"), "{error}");
}

#[tokio::test]
async fn telephone_event_alone_is_no_common_codec() {
    let a = End::new(codecs(&[Codec::G722])).await;
    let offer = a.offer().await;
    let b = End::new(codecs(&[Codec::Pcmu])).await;
    let refused = async {
        b.peer.set_remote(SdpKind::Offer, &offer).await?;
        b.peer.create_answer().await
    };
    assert_eq!(refused.await.unwrap_err().fault(), Fault::PeerIncompatible);
}

#[tokio::test]
async fn an_answer_that_rejects_audio_is_the_peers_incompatibility() {
    let a = End::new(Setup::default()).await;
    let offer = a.offer().await;
    let b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    let answer = b.answer(&offer).await.replace("m=audio 9 ", "m=audio 0 ");
    let error = a.peer.set_remote(SdpKind::Answer, &answer).await.unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
}

#[tokio::test]
async fn a_description_without_fingerprint_belongs_to_another_engine() {
    let a = End::new(Setup::default()).await;
    let offer = without("a=fingerprint:")(a.offer().await);
    let b = End::new(Setup::default()).await;
    let error = b.peer.set_remote(SdpKind::Offer, &offer).await.unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(error.next_step().unwrap().contains("rtp"), "{error}");
}

#[tokio::test]
async fn another_fingerprint_in_the_call_asks_for_a_new_peer_and_leaves_the_call_alone() {
    let (mut a, mut b) = connect(Setup::default(), Setup::default()).await;
    let stranger = End::new(Setup::default()).await;
    let error = b
        .peer
        .set_remote(SdpKind::Offer, &stranger.offer().await)
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(error.next_step().unwrap().contains("new media peer"), "{error}");
    a.reaches(&mut b, 0).await;
    renegotiate(&a, &b).await;
    b.reaches(&mut a, 0).await;
}

#[tokio::test]
async fn broken_descriptions_are_the_peers_fault_and_never_a_panic() {
    let a = End::new(Setup::default()).await;
    let good = a.offer().await;
    let mut broken = vec![
        String::new(),
        "\r\n\r\n".to_owned(),
        "v=0".to_owned(),
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".to_owned(),
        good.replace(
            "m=audio 9 UDP/TLS/RTP/SAVPF",
            "m=audio 999999999 UDP/TLS/RTP/SAVPF",
        ),
        good.replace("m=audio 9 UDP/TLS/RTP/SAVPF", "m=audio"),
        good.replace("a=ice-pwd:", "a=ice-pwd-not:"),
        good.replace("a=ice-ufrag:", "a=ice-ufrag-not:"),
        good.replace("a=fingerprint:sha-256", "a=fingerprint:"),
        good.replace("SAVPF 111", "SAVPF 300"),
        good.replace("SAVPF 111", "SAVPF -1"),
        good.replace("a=mid:0\r\n", ""),
        good.replace("s=-", "q=-"),
    ];
    broken.extend((0..good.len()).step_by(37).map(|end| good[..end].to_owned()));
    let mut refused = 0;
    for sdp in broken {
        let b = End::new(Setup {
            offer: Some(sdp.clone()),
            ..Setup::default()
        })
        .await;
        let result = async {
            b.peer.set_remote(SdpKind::Offer, &sdp).await?;
            b.peer.create_answer().await
        };
        if let Err(error) = result.await {
            let fault = error.fault();
            assert!(
                matches!(fault, Fault::PeerMisbehaved | Fault::PeerIncompatible),
                "{fault} for {sdp:?}: {error}"
            );
            assert!(error.next_step().is_some(), "{error}");
            refused += 1;
        }
        b.peer.close().await;
    }
    assert!(refused > 20, "{refused}");
}

#[tokio::test]
async fn a_good_offer_is_taken_after_one_that_was_refused() {
    let mut a = End::new(Setup::default()).await;
    let good = a.offer().await;
    let mut b = End::new(Setup {
        offer: Some(good.clone()),
        ..Setup::default()
    })
    .await;
    let refused = b
        .peer
        .set_remote(SdpKind::Offer, &good.replace("a=ice-pwd:", "a=ice-pwd-not:"))
        .await;
    assert_eq!(refused.unwrap_err().fault(), Fault::PeerMisbehaved);
    a.accept(&b.answer(&good).await).await;
    a.connected().await;
    b.connected().await;
    a.reaches(&mut b, 0).await;
}

#[tokio::test]
async fn steps_in_the_wrong_order_are_the_callers_fault() {
    let a = End::new(Setup::default()).await;
    assert_eq!(
        a.peer.create_answer().await.unwrap_err().fault(),
        Fault::ApiMisuse
    );
    let offer = a.offer().await;
    let b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    b.offer().await;
    let error = b.peer.set_remote(SdpKind::Offer, &offer).await.unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse, "glare: {error}");
    a.peer.close().await;
    for error in [
        a.peer.create_offer().await.unwrap_err(),
        a.peer.set_remote(SdpKind::Offer, &offer).await.unwrap_err(),
        a.peer.set_direction(Direction::Inactive).await.unwrap_err(),
    ] {
        assert_eq!(error.fault(), Fault::ApiMisuse);
    }
}

//! Two peers in a call: codecs, telephone-event, hold, re-offers, ICE restart, reports.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use siprtc_core::Fault;
use siprtc_core::ice::{CandidateKind, IceState};
use siprtc_core::media::{Codec, Direction, MediaEvent, SdpKind};
use std::time::Duration;

fn same(sdp: String) -> String {
    sdp
}

#[tokio::test]
async fn every_codec_and_telephone_event_pass_both_ways_on_one_stream() {
    let (mut a, mut b) = connect(Setup::default(), Setup::default()).await;
    for payload_type in [111, 9, 0, 8, 101, 110] {
        a.reaches(&mut b, payload_type).await;
        b.reaches(&mut a, payload_type).await;
    }
    let sent = a.packet(0);
    a.peer.send(sent).await.unwrap();
    let first = b.received().await.ssrc;
    let sent = a.packet(111);
    a.peer.send(sent).await.unwrap();
    assert_eq!(b.received().await.ssrc, first);
    assert_ne!(first, 0);
}

#[tokio::test]
async fn each_codec_alone_passes_whichever_side_prefers_another() {
    for codec in Codec::ALL {
        let everything_backwards: Vec<Codec> = Codec::ALL.into_iter().rev().collect();
        for (caller, callee) in [
            (vec![codec], everything_backwards.clone()),
            (everything_backwards, vec![codec]),
        ] {
            let (mut a, mut b) = connect(codecs(&caller), codecs(&callee)).await;
            a.reaches(&mut b, codec.payload_type()).await;
            b.reaches(&mut a, codec.payload_type()).await;
        }
    }
}

#[tokio::test]
async fn an_offer_lists_our_codecs_in_our_order_and_then_telephone_event() {
    let end = End::new(codecs(&[Codec::Pcma, Codec::Opus, Codec::Pcmu])).await;
    let offer = end.offer().await;
    assert_eq!(payload_types(&offer), [8, 111, 0, 101, 110]);
    assert_eq!(line(&offer, "a=rtpmap:101 "), "a=rtpmap:101 telephone-event/8000");
    assert_eq!(
        line(&offer, "a=rtpmap:110 "),
        "a=rtpmap:110 telephone-event/48000"
    );
    assert_eq!(
        line(&offer, "a=fmtp:111 "),
        "a=fmtp:111 minptime=10;useinbandfec=1"
    );
}

#[tokio::test]
async fn an_answer_keeps_the_offers_order_and_payload_types() {
    let offer = |sdp: String| {
        sdp.replace("SAVPF 8 111 101 110", "SAVPF 8 96 126 100")
            .replace("a=rtpmap:111 ", "a=rtpmap:96 ")
            .replace(
                "a=fmtp:111 minptime=10;useinbandfec=1",
                "a=fmtp:96 maxplaybackrate=16000;useinbandfec=0",
            )
            .replace("a=rtpmap:110 ", "a=rtpmap:126 ")
            .replace("a=fmtp:110 ", "a=fmtp:126 ")
            .replace("a=rtpmap:101 ", "a=rtpmap:100 ")
            .replace("a=fmtp:101 ", "a=fmtp:100 ")
    };
    let caller = codecs(&[Codec::Pcma, Codec::Opus]);
    let a = End::new(caller).await;
    let offer = offer(a.offer().await);
    let mut b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    let answer = b.answer(&offer).await;
    assert_eq!(payload_types(&offer), [8, 96, 126, 100]);
    assert_eq!(payload_types(&answer), [8, 96, 126, 100]);
    assert_eq!(
        line(&answer, "a=rtpmap:126 "),
        "a=rtpmap:126 telephone-event/48000"
    );
    assert_eq!(
        line(&answer, "a=rtpmap:100 "),
        "a=rtpmap:100 telephone-event/8000"
    );
    assert_eq!(
        line(&answer, "a=fmtp:96 "),
        "a=fmtp:96 minptime=10;useinbandfec=1"
    );
    let packet = b.packet(96);
    let error = b.peer.send(packet).await.unwrap_err();
    assert_eq!(
        error.fault(),
        Fault::ApiMisuse,
        "nothing can be sent before the path is up"
    );
}

#[tokio::test]
async fn the_payload_types_of_an_answer_that_renumbers_are_sent() {
    // RFC 3264 section 6.1: the answerer may choose other numbers for its own direction.
    let renumbered = |sdp: String| {
        sdp.replace("SAVPF 111 110", "SAVPF 96 97")
            .replace("a=rtpmap:111 ", "a=rtpmap:96 ")
            .replace("a=fmtp:111 ", "a=fmtp:96 ")
            .replace("a=rtpmap:110 ", "a=rtpmap:97 ")
            .replace("a=fmtp:110 ", "a=fmtp:97 ")
    };
    let opus = codecs(&[Codec::Opus]);
    let (mut a, mut b, _, answer) = connect_with(opus.clone(), opus, same, renumbered).await;
    assert_eq!(payload_types(&answer), [96, 97]);
    a.reaches(&mut b, 96).await;
    a.reaches(&mut b, 97).await;
    b.reaches(&mut a, 111).await;
}

#[tokio::test]
async fn a_payload_type_that_was_not_negotiated_is_refused() {
    let (mut a, _b) = connect(codecs(&[Codec::Pcmu]), Setup::default()).await;
    let packet = a.packet(111);
    let error = a.peer.send(packet).await.unwrap_err();
    assert_eq!(error.fault(), Fault::ApiMisuse);
    assert!(error.to_string().contains("111"), "{error}");
}

#[tokio::test]
async fn the_events_of_a_call_come_in_their_order() {
    let mut a = End::new(Setup::default()).await;
    let offer = a.offer().await;
    let b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    a.accept(&b.answer(&offer).await).await;
    let mut seen = Vec::new();
    let mut pair = None;
    while pair.is_none() || !seen.contains(&"connected") {
        let event = tokio::time::timeout(PATIENCE, a.events.recv())
            .await
            .unwrap()
            .unwrap();
        match event {
            MediaEvent::Ice(IceState::Checking) => seen.push("checking"),
            MediaEvent::Ice(IceState::Connected) => seen.push("ice"),
            MediaEvent::Selected(selected) => pair = Some(selected),
            MediaEvent::Connected => seen.push("connected"),
            MediaEvent::Candidate(_) | MediaEvent::Gathered => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(seen, ["checking", "ice", "connected"]);
    assert_eq!(pair, a.peer.selected_pair().await);
    assert_eq!(pair.unwrap().local.kind, CandidateKind::Host);
    a.peer.close().await;
    a.event(|event| matches!(event, MediaEvent::Closed).then_some(()))
        .await;
    assert!(a.events.try_recv().is_err(), "nothing follows Closed");
}

#[tokio::test]
async fn hold_and_resume_are_said_and_media_goes_on_after_them() {
    let (mut a, mut b, first_offer, first_answer) =
        connect_with(Setup::default(), Setup::default(), same, same).await;
    use Direction::*;
    for (offered, answered) in [
        (SendOnly, "a=recvonly"),
        (SendRecv, "a=sendrecv"),
        (Inactive, "a=inactive"),
        (SendRecv, "a=sendrecv"),
        (RecvOnly, "a=sendonly"),
        (Inactive, "a=inactive"),
        (SendOnly, "a=recvonly"),
        (SendRecv, "a=sendrecv"),
    ] {
        a.peer.set_direction(offered).await.unwrap();
        let (offer, answer) = renegotiate(&a, &b).await;
        assert!(offer.contains(&format!("a={offered}\r\n")), "{offer}");
        assert!(
            answer.contains(&format!("{answered}\r\n")),
            "{offered} was answered with {answer}"
        );
        // Neither credentials nor roles change with it: nothing begins anew.
        for attribute in ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"] {
            assert_eq!(
                line(&offer, attribute),
                line(&first_offer, attribute),
                "{offered}"
            );
            assert_eq!(
                line(&answer, attribute),
                line(&first_answer, attribute),
                "{offered}"
            );
        }
        assert_eq!(
            line(&answer, "a=setup:"),
            line(&first_answer, "a=setup:"),
            "{offered}"
        );
        if offered.sends() {
            a.reaches(&mut b, 0).await;
        }
        if offered.receives() {
            b.reaches(&mut a, 0).await;
        }
    }
}

#[tokio::test]
async fn the_answerer_may_hold_too() {
    let (a, b) = connect(Setup::default(), Setup::default()).await;
    b.peer.set_direction(Direction::SendOnly).await.unwrap();
    let (_, answer) = renegotiate(&a, &b).await;
    assert!(answer.contains("a=sendonly\r\n"), "{answer}");
    let (offer, answer) = renegotiate(&b, &a).await;
    assert!(
        offer.contains("a=sendonly\r\n") && answer.contains("a=recvonly\r\n"),
        "{offer}{answer}"
    );
}

#[tokio::test]
async fn a_call_that_begins_on_hold_can_be_resumed() {
    use Direction::*;
    for (direction, answered) in [
        (Inactive, "a=inactive"),
        (SendOnly, "a=recvonly"),
        (RecvOnly, "a=sendonly"),
    ] {
        let mut a = End::new(Setup::default()).await;
        a.peer.set_direction(direction).await.unwrap();
        let offer = a.offer().await;
        let mut b = End::new(Setup {
            offer: Some(offer.clone()),
            ..Setup::default()
        })
        .await;
        let answer = b.answer(&offer).await;
        assert!(
            answer.contains(&format!("{answered}\r\n")),
            "{direction}: {answer}"
        );
        a.accept(&answer).await;
        a.connected().await;
        b.connected().await;
        a.peer.set_direction(SendRecv).await.unwrap();
        let (_, answer) = renegotiate(&a, &b).await;
        assert_eq!(answer.matches("m=audio").count(), 1);
        assert!(answer.contains("a=sendrecv\r\n"), "{answer}");
        a.reaches(&mut b, 0).await;
        b.reaches(&mut a, 0).await;
    }
}

#[tokio::test]
async fn a_reoffer_from_either_side_keeps_roles_credentials_and_media() {
    let (mut a, mut b, first_offer, first_answer) =
        connect_with(Setup::default(), Setup::default(), same, same).await;
    assert_eq!(line(&first_answer, "a=setup:"), "a=setup:active");
    let (offer, answer) = renegotiate(&a, &b).await;
    assert_eq!(line(&offer, "a=setup:"), "a=setup:actpass");
    assert_eq!(line(&answer, "a=setup:"), "a=setup:active");
    assert_eq!(line(&offer, "a=ice-ufrag:"), line(&first_offer, "a=ice-ufrag:"));
    // Now the other way: the first offerer was the DTLS server, and stays it.
    let (_, answer) = renegotiate(&b, &a).await;
    assert_eq!(line(&answer, "a=setup:"), "a=setup:passive");
    assert_eq!(line(&answer, "a=ice-ufrag:"), line(&first_offer, "a=ice-ufrag:"));
    assert!(answer.contains("a=candidate:"), "{answer}");
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
}

#[tokio::test]
async fn the_version_of_our_descriptions_goes_up_by_one() {
    let (a, b, offer, answer) = connect_with(Setup::default(), Setup::default(), same, same).await;
    let version = |sdp: &str| line(sdp, "o=").split(' ').nth(2).unwrap().parse::<u64>().unwrap();
    let session = |sdp: &str| line(sdp, "o=").split(' ').nth(1).unwrap().to_owned();
    assert_eq!((version(&offer), version(&answer)), (1, 1));
    let (second_answer_offer, second_offer_answer) = renegotiate(&b, &a).await;
    assert_eq!(
        (version(&second_answer_offer), version(&second_offer_answer)),
        (2, 2)
    );
    assert_eq!(session(&offer), session(&second_offer_answer));
}

/// An SDP whose m-line has only these formats.
fn only(sdp: &str, formats: &[&str]) -> String {
    let m_line = line(sdp, "m=audio ").to_owned();
    let start = m_line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let described = |text: &str| {
        let rest = text.strip_prefix("a=rtpmap:").or(text.strip_prefix("a=fmtp:"));
        rest.is_none_or(|rest| {
            formats
                .iter()
                .any(|format| rest.starts_with(&format!("{format} ")))
        })
    };
    sdp.replace(&m_line, &format!("{start} {}", formats.join(" ")))
        .lines()
        .filter(|text| described(text))
        .map(|text| format!("{text}\r\n"))
        .collect()
}

#[tokio::test]
async fn a_reoffer_lists_all_our_codecs_and_its_answer_may_change_the_codec() {
    let caller = codecs(&[Codec::Pcmu, Codec::Opus]);
    let pcmu = |sdp: String| only(&sdp, &["0", "101"]);
    let (mut a, mut b, _, answer) = connect_with(caller, Setup::default(), pcmu, same).await;
    assert_eq!(payload_types(&answer), [0, 101]);
    a.reaches(&mut b, 0).await;
    // After a transfer another far end answers, with Opus.
    let offer = a.offer().await;
    assert_eq!(payload_types(&offer), [0, 101, 111, 110]);
    let answer = b.answer(&only(&offer, &["111", "110"])).await;
    assert_eq!(payload_types(&answer), [111, 110]);
    a.accept(&answer).await;
    a.reaches(&mut b, 111).await;
    b.reaches(&mut a, 110).await;
}

#[tokio::test]
async fn ice_restart_from_either_side_keeps_media() {
    let (mut a, mut b, first, _) = connect_with(Setup::default(), Setup::default(), same, same).await;
    a.peer.restart_ice().await.unwrap();
    let (offer, _) = renegotiate(&a, &b).await;
    assert_ne!(line(&offer, "a=ice-ufrag:"), line(&first, "a=ice-ufrag:"));
    assert!(offer.contains("a=candidate:"), "{offer}");
    a.event(|event| matches!(event, MediaEvent::Ice(IceState::Connected)).then_some(()))
        .await;
    b.event(|event| matches!(event, MediaEvent::Ice(IceState::Connected)).then_some(()))
        .await;
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
    b.peer.restart_ice().await.unwrap();
    let (_, answer) = renegotiate(&b, &a).await;
    assert_ne!(line(&answer, "a=ice-ufrag:"), line(&offer, "a=ice-ufrag:"));
    a.event(|event| matches!(event, MediaEvent::Ice(IceState::Connected)).then_some(()))
        .await;
    b.event(|event| matches!(event, MediaEvent::Ice(IceState::Connected)).then_some(()))
        .await;
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
}

#[tokio::test]
async fn an_offer_can_be_rolled_back_on_both_sides() {
    let (mut a, mut b) = connect(Setup::default(), Setup::default()).await;
    let offer = a.offer().await;
    b.peer.set_remote(SdpKind::Offer, &offer).await.unwrap();
    b.peer.rollback().await.unwrap();
    a.peer.rollback().await.unwrap();
    renegotiate(&b, &a).await;
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
}

#[tokio::test]
async fn statistics_know_what_the_other_side_received() {
    let (mut a, mut b) = connect(Setup::default(), Setup::default()).await;
    let talk = async {
        loop {
            a.reaches(&mut b, 0).await;
            b.reaches(&mut a, 0).await;
            let stats = a.peer.stats().await;
            if stats.remote_loss.is_some() && stats.remote_jitter.is_some() && stats.packets_sent > 100 {
                return (stats, b.peer.stats().await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (ours, theirs) = tokio::time::timeout(PATIENCE, talk)
        .await
        .expect("no report came");
    assert_eq!(ours.packets_sent, theirs.packets_received);
    assert_eq!(ours.bytes_sent, ours.packets_sent * 20);
    assert_eq!(ours.bytes_received, theirs.bytes_sent);
    assert_eq!(ours.remote_loss, Some(0.0));
    assert!(
        ours.round_trip.is_some_and(|time| time < Duration::from_secs(1)),
        "{ours:?}"
    );
}

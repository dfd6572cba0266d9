//! Video in the audio's transport.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{End, Setup, connect_with, renegotiate};
use siprtc_core::media::{Codec, Direction, Feedback, SdpKind, VideoCodec, VideoWish};
use siprtc_rtp::video::VideoSection;

fn with_video() -> Setup {
    Setup {
        with_video: true,
        ..Setup::default()
    }
}

fn both_ways(codecs: &[VideoCodec]) -> VideoWish {
    VideoWish {
        direction: Direction::SendRecv,
        codecs: codecs.to_vec(),
    }
}

/// Two ends that both want video from the beginning.
async fn connect(ours: &[VideoCodec], theirs: &[VideoCodec]) -> (End, End, String, String) {
    let mut a = End::new(with_video()).await;
    a.peer.set_video(Some(both_ways(ours))).await.unwrap();
    let offer = a.offer().await;
    let setup = with_video();
    let mut b = End::new(Setup {
        offer: Some(offer.clone()),
        ..setup
    })
    .await;
    b.peer.set_video(Some(both_ways(theirs))).await.unwrap();
    let answer = b.answer(&offer).await;
    a.accept(&answer).await;
    a.connected().await;
    b.connected().await;
    (a, b, offer, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn video_flows_both_ways_beside_the_audio_with_feedback() {
    let (mut a, mut b, _, answer) = connect(&VideoCodec::ALL, &[VideoCodec::H264]).await;
    let agreed = VideoSection::read(&answer).unwrap();
    assert!(
        agreed
            .formats
            .iter()
            .all(|format| format.codec == VideoCodec::H264)
    );
    let payload_type = agreed.formats[0].payload_type;
    a.reaches(&mut b, 111).await;
    a.shows(&mut b, payload_type).await;
    b.shows(&mut a, payload_type).await;
    for feedback in [
        Feedback::KeyFrame,
        Feedback::Lost(vec![7, 65_535]),
        Feedback::Bitrate(500_000),
    ] {
        a.peer.send_feedback(feedback.clone()).unwrap();
        assert_eq!(b.told().await, feedback);
    }
    a.reaches(&mut b, 111).await;
    let (audio, video) = (b.peer.stats().await, b.peer.video_stats().await.unwrap());
    assert_eq!(
        (audio.packets_received, video.packets_received, video.packets_sent),
        (2, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_may_be_sent_again() {
    let (a, mut b, _, answer) = connect(&[VideoCodec::Vp8], &[VideoCodec::Vp8]).await;
    let payload_type = VideoSection::read(&answer).unwrap().formats[0].payload_type;
    let mut sender = a;
    for _ in 0..3 {
        sender.shows(&mut b, payload_type).await;
    }
    let mut packet = sender.packet(payload_type);
    // It was lost on the way: SRTP's replay list does not know it, nor its later neighbours'.
    packet.sequence -= 1;
    let lost = siprtc_core::media::RtpPacket {
        sequence: packet.sequence + 3,
        ..packet.clone()
    };
    sender.peer.send_video(lost).unwrap();
    assert_eq!(b.video.recv().await.unwrap().sequence, packet.sequence + 3);
    packet.sequence += 1;
    sender.peer.send_video(packet.clone()).unwrap();
    assert_eq!(b.video.recv().await.unwrap().sequence, packet.sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_video_is_called_with_audio_alone() {
    // Made without it, with nothing in common, and not wanting any.
    let vp9 = both_ways(&[VideoCodec::Vp9]);
    for (with_video, wish) in [(false, None), (true, Some(vp9)), (true, None)] {
        let mut a = End::new(self::with_video()).await;
        a.peer
            .set_video(Some(both_ways(&[VideoCodec::Vp8])))
            .await
            .unwrap();
        let offer = a.offer().await;
        let mut b = End::new(Setup {
            offer: Some(offer.clone()),
            with_video,
            ..Setup::default()
        })
        .await;
        b.peer.set_video(wish).await.unwrap();
        let answer = b.answer(&offer).await;
        assert_eq!(VideoSection::read(&answer), None, "{answer}");
        assert!(answer.contains("m=video 0 "), "{answer}");
        a.accept(&answer).await;
        a.connected().await;
        b.connected().await;
        a.reaches(&mut b, 111).await;
        let packet = a.packet(96);
        assert!(a.peer.send_video(packet).is_err());
        // And an offer in the call is still one that the other end takes.
        renegotiate(&a, &b).await;
        renegotiate(&b, &a).await;
        b.reaches(&mut a, 111).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn video_comes_goes_and_comes_again_within_a_call_from_either_side() {
    let (mut a, mut b, _, _) = connect_with(with_video(), with_video(), |sdp| sdp, |sdp| sdp).await;
    for turn in 0..4 {
        let wanted = (turn % 2 == 0).then(|| both_ways(&[VideoCodec::Vp8]));
        a.peer.set_video(wanted.clone()).await.unwrap();
        b.peer.set_video(wanted.clone()).await.unwrap();
        let (_, answer) = match turn {
            0 | 3 => renegotiate(&a, &b).await,
            _ => renegotiate(&b, &a).await,
        };
        let video = VideoSection::read(&answer);
        assert_eq!(video.is_some(), wanted.is_some(), "turn {turn}: {answer}");
        a.reaches(&mut b, 111).await;
        if let Some(video) = video {
            a.shows(&mut b, video.formats[0].payload_type).await;
            b.shows(&mut a, video.formats[0].payload_type).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_rolled_back_leaves_video_as_it_was() {
    let (mut a, mut b, _, answer) = connect(&[VideoCodec::Vp8], &[VideoCodec::Vp8]).await;
    let payload_type = VideoSection::read(&answer).unwrap().formats[0].payload_type;
    let offer = b.offer().await;
    a.peer.set_remote(SdpKind::Offer, &offer).await.unwrap();
    a.peer.rollback().await.unwrap();
    b.peer.rollback().await.unwrap();
    a.shows(&mut b, payload_type).await;
    renegotiate(&a, &b).await;
    b.shows(&mut a, payload_type).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_video_says_so() {
    let a = End::new(Setup::default()).await;
    assert!(
        a.peer
            .set_video(Some(both_ways(&[VideoCodec::Vp8])))
            .await
            .is_err()
    );
    a.peer.set_video(None).await.unwrap();
    assert!(a.peer.send_feedback(Feedback::KeyFrame).is_err());
    assert!(a.peer.video_stats().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn codecs_change_within_a_call_and_a_rolled_back_change_is_none() {
    let (mut a, mut b, _, _) = connect_with(Setup::default(), Setup::default(), |sdp| sdp, |sdp| sdp).await;
    a.reaches(&mut b, 111).await;
    a.peer.set_codecs(&[Codec::G722, Codec::Pcma]).await.unwrap();
    let (offer, answer) = renegotiate(&a, &b).await;
    assert!(
        !offer.contains("opus") && offer.contains("a=rtpmap:9 G722"),
        "{offer}"
    );
    assert!(answer.contains("m=audio") && !answer.contains("opus"), "{answer}");
    a.reaches(&mut b, 9).await;
    let packet = a.packet(111);
    assert!(a.peer.send(packet).await.is_err(), "Opus is no more agreed on");
    // Everything again, in the order wanted now.
    a.peer.set_codecs(&[Codec::Pcma, Codec::Opus]).await.unwrap();
    let (offer, _) = renegotiate(&a, &b).await;
    let line = offer.lines().find(|line| line.starts_with("m=audio")).unwrap();
    assert!(line.contains("SAVPF 8 111"), "{line}");
    b.reaches(&mut a, 8).await;
    b.reaches(&mut a, 111).await;
}

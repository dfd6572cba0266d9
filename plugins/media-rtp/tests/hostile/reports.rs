//! RTCP that is cut, forged, wild, a stranger's, or too much.

use crate::call::*;
use crate::{ALIKE, both, discards, none};
use bytes::Bytes;
use rtc_rtcp::Packet;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::packet::marshal;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::*;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use siprtc_core::media::Discarded;
use std::time::Duration;
use tokio::net::UdpSocket;

fn wire(packets: Vec<Box<dyn Packet>>) -> Vec<u8> {
    marshal(&packets).unwrap().to_vec()
}

fn compound() -> Vec<u8> {
    let block = ReceptionReport {
        ssrc: 9,
        jitter: u32::MAX,
        ..ReceptionReport::default()
    };
    let report = SenderReport {
        ssrc: SSRC,
        ntp_time: u64::MAX,
        reports: vec![block; 3],
        ..SenderReport::default()
    };
    let name = SourceDescriptionItem {
        sdes_type: SdesType::SdesCname,
        text: Bytes::from(vec![b'x'; 255]),
    };
    let chunk = SourceDescriptionChunk {
        source: SSRC,
        items: vec![name; 3],
    };
    wire(vec![
        Box::new(report),
        Box::new(SourceDescription { chunks: vec![chunk] }),
    ])
}

#[actix_rt::test]
async fn a_compound_packet_that_is_cut_anywhere_is_malformed() {
    let insult = async |call: &mut Call| {
        let whole = compound();
        // Where it is cut between two packets it is a shorter compound packet.
        let report = 28 + 3 * 24;
        for length in (8..whole.len()).filter(|length| *length != report) {
            let sealed = call.sealed_rtcp(&whole[..length]);
            call.send(&sealed).await;
            if length % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        for length in 2..8 {
            call.send(&whole[..length]).await;
        }
        let sealed = call.sealed_rtcp(&whole);
        call.send(&sealed).await;
    };
    let expected = Discarded {
        malformed: compound().len() as u64 - 3,
        ..none()
    };
    discards(insult, [expected; 2]).await;
}

#[actix_rt::test]
async fn reports_under_srtp_that_are_repeated_forged_or_in_the_clear_are_dropped() {
    let mut call = Call::new(true).await;
    call.begin().await;
    let sealed = call.sealed_rtcp(&compound());
    call.send(&sealed).await;
    call.send(&sealed).await;
    let mut forged = call.sealed_rtcp(&compound());
    *forged.last_mut().unwrap() ^= 1;
    call.send(&forged).await;
    // RFC 3711 section 3.4: the flag that says whether it is encrypted, before index and tag.
    let mut bare = call.sealed_rtcp(&compound());
    let flag = bare.len() - 14;
    bare[flag] &= 0x7f;
    call.send(&bare).await;
    call.send(&compound()).await;
    let (likeness, stats, _) = call.end().await;
    assert!(likeness > ALIKE, "{likeness}");
    let expected = Discarded {
        forged: 3,
        replayed: 1,
        ..none()
    };
    assert_eq!(stats.transport.discarded, expected);
}

#[actix_rt::test]
async fn a_goodbye_from_anybody_ends_nothing_and_a_strangers_report_is_not_believed() {
    let insult = async |call: &mut Call| {
        let stranger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        let ours = u32::from_be_bytes(call.hear().await[0][8..12].try_into().unwrap());
        let lie = ReceptionReport {
            ssrc: ours,
            fraction_lost: 255,
            ..ReceptionReport::default()
        };
        let report = ReceiverReport {
            ssrc: SSRC,
            reports: vec![lie],
            ..ReceiverReport::default()
        };
        let goodbye = Goodbye {
            sources: vec![SSRC],
            reason: Bytes::from_static(b"gone"),
        };
        let said = wire(vec![Box::new(report), Box::new(goodbye.clone())]);
        stranger.send_to(&said, call.to).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(call.stats().await.transport.remote_loss, None);
        let sealed = call.sealed_rtcp(&wire(vec![
            Box::new(ReceiverReport::default()),
            Box::new(goodbye),
        ]));
        call.send(&sealed).await;
    };
    let expected = [
        Discarded {
            stranger: 1,
            ..none()
        },
        Discarded { forged: 1, ..none() },
    ];
    discards(insult, expected).await;
}

#[actix_rt::test]
async fn wild_times_make_no_wild_numbers() {
    let insult = async |call: &mut Call| {
        let ours = u32::from_be_bytes(call.hear().await[0][8..12].try_into().unwrap());
        // Whatever the time is, one of these was hours ago.
        let quarters = [1 << 30, 1 << 31, 3 << 30, u32::MAX].map(|last| (u64::MAX, last, 0));
        for (time, last, delay) in quarters.into_iter().chain([(0, 1, u32::MAX), (1, 0, 9)]) {
            let block = ReceptionReport {
                ssrc: ours,
                last_sender_report: last,
                delay,
                jitter: u32::MAX,
                fraction_lost: 255,
                ..ReceptionReport::default()
            };
            let report = SenderReport {
                ssrc: SSRC,
                ntp_time: time,
                rtp_time: u32::MAX,
                packet_count: u32::MAX,
                octet_count: u32::MAX,
                reports: vec![block],
                ..SenderReport::default()
            };
            let sealed = call.sealed_rtcp(&wire(vec![Box::new(report)]));
            call.send(&sealed).await;
            call.speak(2).await;
            let told = call.stats().await;
            let is_sane = told.round_trip.is_none_or(|time| time < Duration::from_secs(30));
            assert!(is_sane, "{told:?}");
        }
    };
    for stats in discards(insult, [none(); 2]).await {
        assert!(
            stats.round_trip.is_none_or(|time| time < Duration::from_secs(30)),
            "{stats:?}"
        );
        assert!(stats.mos >= 1.0 && stats.r_factor.is_finite(), "{stats:?}");
    }
}

/// Of a call without video nobody asks a picture; what is asked all the same is answered with nothing.
#[actix_rt::test]
async fn storms_of_feedback_are_read_and_not_answered() {
    let insult = async |call: &mut Call| {
        let heard = call.hear().await;
        let ours = u32::from_be_bytes(heard[0][8..12].try_into().unwrap());
        let nacks = (0..300).map(|number| NackPair {
            packet_id: number * 17,
            lost_packets: u16::MAX,
        });
        let nack = TransportLayerNack {
            sender_ssrc: SSRC,
            media_ssrc: ours,
            nacks: nacks.take(253).collect(),
        };
        let remb = ReceiverEstimatedMaximumBitrate {
            sender_ssrc: SSRC,
            bitrate: f32::MAX,
            ssrcs: (0..255).collect(),
        };
        let storm: Vec<Vec<u8>> = vec![
            wire(vec![Box::new(nack)]),
            wire(vec![Box::new(remb)]),
            wire(vec![Box::new(PictureLossIndication {
                sender_ssrc: SSRC,
                media_ssrc: ours,
            })]),
            wire(vec![Box::new(PictureLossIndication {
                sender_ssrc: SSRC,
                media_ssrc: 4_711,
            })]),
        ];
        call.hear().await;
        for _ in 0..40 {
            for packet in &storm {
                let sealed = call.sealed_rtcp(packet);
                call.send(&sealed).await;
            }
            call.speak(1).await;
        }
        // 0.8 s of audio, and a report.
        let answered = call.hear().await.len();
        assert!(answered <= 50, "{answered} packets");
    };
    let stats = both(insult).await;
    assert!(
        stats.iter().all(|stats| stats.transport.discarded.total() == 0),
        "{stats:#?}"
    );
}

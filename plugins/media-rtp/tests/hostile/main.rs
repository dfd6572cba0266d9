//! What a telephone, or who pretends to be one, may send: over a real socket, into a call with a media session. It is dropped and
//! counted under its name, the call's audio goes on, and a silence is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by panicking"
)]

mod call;
mod reports;

use call::*;
use siprtc_core::media::Discarded;
use siprtc_media_session::{SessionEventKind, SessionStats};
use std::time::Duration;
use tokio::net::UdpSocket;

/// How alike what was said and what was heard are at least: G.711 leaves less than 0.5 % of noise.
const ALIKE: f64 = 0.99;

/// Of a call in the clear and of one with SRTP: what each makes of the same insult, and how it fared.
async fn both<F: AsyncFn(&mut Call)>(insult: F) -> [SessionStats; 2] {
    let play = async |is_encrypted| {
        let mut call = Call::new(is_encrypted).await;
        call.begin().await;
        insult(&mut call).await;
        let (likeness, stats, told) = call.end().await;
        assert!(
            likeness > ALIKE,
            "encrypted {is_encrypted}: {likeness} {stats:#?}"
        );
        assert!(
            !told
                .iter()
                .any(|kind| matches!(kind, SessionEventKind::NoMedia { .. }))
        );
        stats
    };
    let (plain, encrypted) = tokio::join!(play(false), play(true));
    [plain, encrypted]
}

/// The same, and what was dropped on the way, of either call.
async fn discards<F: AsyncFn(&mut Call)>(insult: F, expected: [Discarded; 2]) -> [SessionStats; 2] {
    let stats = both(insult).await;
    let discarded = [0, 1].map(|at: usize| stats[at].transport.discarded);
    assert_eq!(discarded, expected);
    stats
}

/// Speaks in this form, and all of it is heard.
async fn is_heard(form: impl Fn(u16, Vec<u8>) -> Vec<u8>) -> [SessionStats; 2] {
    let play = async |is_encrypted| {
        let mut call = Call::new(is_encrypted).await;
        call.begin().await;
        let said = call.speak_in(70, &form).await;
        let (likeness, stats, _) = call.judge(&said).await;
        assert!(
            likeness > ALIKE,
            "encrypted {is_encrypted}: {likeness} {stats:#?}"
        );
        assert_eq!(stats.transport.discarded, Discarded::default());
        assert_eq!((stats.unreadable, stats.packets_lost), (0, 0));
        stats
    };
    let (plain, encrypted) = tokio::join!(play(false), play(true));
    [plain, encrypted]
}

/// Behind the fixed header, and this bit or number in its first octet.
fn with(packet: &[u8], bits: u8, inside: &[u8]) -> Vec<u8> {
    let mut formed = [&packet[..12], inside, &packet[12..]].concat();
    formed[0] |= bits;
    formed
}

fn none() -> Discarded {
    Discarded::default()
}

#[actix_rt::test]
async fn a_wrong_version_is_nobodys() {
    let insult = async |call: &mut Call| {
        for version in [0x00, 0x40, 0xc0] {
            let mut packet = call.packet(0, &[0; 160]);
            packet[0] = version;
            call.send(&packet).await;
        }
    };
    // What begins with 0 is STUN (RFC 7983), and of nobody whom we asked.
    let expected = Discarded {
        stranger: 1,
        unknown: 2,
        ..none()
    };
    discards(insult, [expected; 2]).await;
}

#[actix_rt::test]
async fn extensions_of_every_kind_are_passed_over() {
    let extensions: [&[u8]; 8] = [
        // RFC 8285: one octet, with padding inside; two octets; the id that ends it; elements longer than it is.
        &[0xbe, 0xde, 0, 2, 0x10, 7, 0, 0, 0x21, 1, 2, 0],
        &[0xbe, 0xde, 0, 0],
        &[0x10, 0x00, 0, 2, 1, 0, 2, 3, 1, 2, 3, 0],
        &[0xbe, 0xde, 0, 2, 0xf0, 1, 2, 3, 4, 5, 6, 7],
        &[0xbe, 0xde, 0, 1, 0x1f, 1, 2, 3],
        &[0x10, 0x0f, 0, 1, 1, 9, 2, 3],
        // A profile of somebody's own.
        &[0xab, 0xcd, 0, 1, 1, 2, 3, 4],
        &[0xbe, 0xde, 0, 1, 0, 0, 0, 0],
    ];
    is_heard(|number, packet| with(&packet, 0x10, extensions[usize::from(number) % extensions.len()])).await;
}

#[actix_rt::test]
async fn an_extension_that_is_longer_than_its_packet_is_malformed() {
    let insult = async |call: &mut Call| {
        let packet = call.packet(0, &[]);
        let cut: [&[u8]; 3] = [
            &[[0xbe, 0xde, 0, 41].as_slice(), &[0; 163]].concat(),
            &[0xbe, 0xde, 0xff, 0xff, 0],
            &[0xbe],
        ];
        for extension in cut {
            call.send(&with(&packet, 0x10, extension)).await;
        }
    };
    let expected = Discarded {
        malformed: 3,
        ..none()
    };
    discards(insult, [expected; 2]).await;
}

#[actix_rt::test]
async fn padding_is_not_heard() {
    is_heard(|number, mut packet| {
        let padding = number as u8 % 20 + 1;
        packet.extend(vec![0xaa; usize::from(padding) - 1]);
        packet.push(padding);
        packet[0] |= 0x20;
        packet
    })
    .await;
}

#[actix_rt::test]
async fn padding_of_none_and_of_more_than_there_is_is_malformed() {
    let insult = async |call: &mut Call| {
        for last in [0, 161, 255] {
            let mut packet = call.packet(0, &[0; 160]);
            packet[0] |= 0x20;
            packet[171] = last;
            let sealed = call.sealed(&packet);
            call.send(&sealed).await;
        }
    };
    let expected = Discarded {
        malformed: 3,
        ..none()
    };
    discards(insult, [expected; 2]).await;
}

#[actix_rt::test]
async fn fifteen_contributing_sources_are_passed_over() {
    is_heard(|number, packet| with(&packet, number as u8 % 16, &vec![9; usize::from(number % 16) * 4])).await;
}

#[actix_rt::test]
async fn more_contributing_sources_than_fit_are_malformed() {
    let insult = async |call: &mut Call| {
        let packet = call.packet(0, &[]);
        call.send(&with(&packet, 15, &[9; 59])).await;
        call.send(&with(&packet, 1, &[])).await;
    };
    let expected = Discarded {
        malformed: 2,
        ..none()
    };
    discards(insult, [expected; 2]).await;
}

#[actix_rt::test]
async fn what_came_before_is_not_heard_again() {
    let insult = async |call: &mut Call| {
        let packet = call.packet(0, &[0x80; 160]);
        let sealed = call.sealed(&packet);
        call.send(&sealed).await;
        call.send(&sealed).await;
        call.speak(5).await;
        call.send(&sealed).await;
        // Beyond the window (RFC 3711 section 3.3.2).
        call.sequence = call.sequence.wrapping_add(200);
        call.speak(5).await;
        call.send(&sealed).await;
    };
    let expected = [
        none(),
        Discarded {
            replayed: 3,
            ..none()
        },
    ];
    let [plain, encrypted] = discards(insult, expected).await;
    // In the clear the session sees it: two within reach, and one far off.
    assert_eq!((plain.duplicates, encrypted.duplicates), (2, 0));
}

#[actix_rt::test]
async fn what_is_forged_or_under_another_key_or_rollover_counter_is_dropped() {
    let insult = async |call: &mut Call| {
        let packet = call.packet(0, &[0x80; 160]);
        let mut forged = call.sealed(&packet);
        *forged.last_mut().unwrap() ^= 1;
        call.send(&forged).await;
        call.send(&call::context(&[1; 16]).encrypt_rtp(&packet).unwrap())
            .await;
        // The counter of the sender is 2 where ours is 1.
        let mut ahead = call::context(&KEY);
        for sequence in [65_535, 0, 30_000, 60_000, 30_u16] {
            let mut other = packet.clone();
            other[2..4].copy_from_slice(&sequence.to_be_bytes());
            let sealed = ahead.encrypt_rtp(&other).unwrap();
            if sequence == 30 {
                call.send(&sealed).await;
            }
        }
        // Not encrypted at all.
        call.send(&packet[..100]).await;
    };
    let play = async {
        let mut call = Call::new(true).await;
        call.begin().await;
        insult(&mut call).await;
        call.end().await
    };
    let (likeness, stats, _) = play.await;
    assert!(likeness > ALIKE, "{likeness}");
    assert_eq!(stats.transport.discarded, Discarded { forged: 4, ..none() });
}

#[actix_rt::test]
async fn another_source_and_jumps_of_the_timestamp_are_followed() {
    both(async |call: &mut Call| {
        call.ssrc = 7;
        (call.sequence, call.timestamp) = (12_345, 99);
        call.speak(20).await;
        for jump in [1_000_000, u32::MAX - 1_000_000, 1 << 31] {
            call.timestamp = call.timestamp.wrapping_add(jump);
            call.speak(20).await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_jump_of_the_numbers_is_followed_where_they_can_be_told() {
    both(async |call: &mut Call| {
        for jump in [3_000, 20_000, 1_u16.wrapping_sub(60)] {
            call.sequence = call.sequence.wrapping_add(jump);
            call.speak(20).await;
        }
    })
    .await;
    // Without encryption any.
    let mut call = Call::new(false).await;
    call.begin().await;
    for jump in [40_000, 1_u16.wrapping_sub(20_000)] {
        call.sequence = call.sequence.wrapping_add(jump);
        call.speak(20).await;
    }
    let (likeness, stats, _) = call.end().await;
    assert!(likeness > ALIKE, "{likeness} {stats:#?}");
}

/// RFC 3711 section 3.3.1: forward by more than half of the numbers is back. Until they meet again nothing can be heard, and it is told.
#[actix_rt::test]
async fn numbers_of_srtp_that_jump_too_far_are_a_silence_that_is_told() {
    let mut call = Call::new(true).await;
    call.begin().await;
    call.sequence = call.sequence.wrapping_add(40_000);
    call.speak(540).await;
    let (_, stats, told) = call.end().await;
    assert!(
        told.iter()
            .any(|kind| matches!(kind, SessionEventKind::NoMedia { .. })),
        "{told:?}"
    );
    assert!(stats.transport.discarded.total() > 500, "{stats:#?}");
}

#[actix_rt::test]
async fn our_own_source_is_a_loop_in_the_clear_and_a_chance_under_keys() {
    let insult = async |call: &mut Call| {
        let heard = call.hear().await;
        let ours = u32::from_be_bytes(heard[0][8..12].try_into().unwrap());
        let theirs = std::mem::replace(&mut call.ssrc, ours);
        call.speak(10).await;
        call.ssrc = theirs;
    };
    let expected = [Discarded { looped: 10, ..none() }, none()];
    discards(insult, expected).await;
}

#[actix_rt::test]
async fn a_marker_on_every_packet_changes_nothing() {
    is_heard(|_, mut packet| {
        packet[1] |= 0x80;
        packet
    })
    .await;
}

#[actix_rt::test]
async fn payload_types_that_were_not_negotiated_are_dropped() {
    let insult = async |call: &mut Call| {
        for payload_type in [8, 18, 34, 63, 96, 102, 127] {
            let packet = call.packet(payload_type, &[7; 4]);
            let sealed = call.sealed(&packet);
            call.send(&sealed).await;
        }
    };
    let expected = Discarded {
        payload_type: 7,
        ..none()
    };
    let stats = discards(insult, [expected; 2]).await;
    assert!(stats.iter().all(|stats| stats.unreadable == 0));
}

/// Comfort noise is not of this call; events are.
#[actix_rt::test]
async fn events_of_odd_lengths_are_unreadable_and_tell_no_digit_twice() {
    let play = async |is_encrypted| {
        let mut call = Call::new(is_encrypted).await;
        call.begin().await;
        let event = [5, 0x8a, 3, 0x20, 0xff, 0xff];
        for length in [0, 1, 2, 3, 4, 5, 6] {
            let timestamp = call.timestamp;
            let packet = call.packet(101, &event[..length]);
            // All of them say the same event.
            call.timestamp = timestamp;
            let sealed = call.sealed(&packet);
            call.send(&sealed).await;
        }
        call.timestamp += 800;
        call.speak(30).await;
        let (likeness, stats, told) = call.end().await;
        assert!(likeness > ALIKE, "{likeness} {stats:#?}");
        let digits = told
            .iter()
            .filter(|kind| matches!(kind, SessionEventKind::Dtmf { digit: '5', .. }));
        assert_eq!((stats.unreadable, digits.count()), (4, 1));
    };
    tokio::join!(play(false), play(true));
}

#[actix_rt::test]
async fn payloads_of_odd_lengths_are_unreadable_and_comfort_noise_of_any_length_is_heard() {
    let insult = async |call: &mut Call| {
        for (payload_type, length) in [(0, 0), (0, 1_601), (13, 0), (13, 1), (13, 40), (13, 900)] {
            let packet = call.packet(payload_type, &vec![60; length]);
            let sealed = call.sealed(&packet);
            call.send(&sealed).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let stats = both(insult).await;
    assert_eq!(stats.map(|stats| stats.unreadable), [3; 2]);
}

#[actix_rt::test]
async fn a_stranger_is_not_heard_while_the_peer_speaks() {
    let insult = async |call: &mut Call| {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut packet = call.packet(0, &[0x11; 160]);
        for sequence in 0..50_u16 {
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            stranger.send_to(&packet, call.to).await.unwrap();
        }
        // What the peer sends goes on, and so does what it hears.
        call.speak(5).await;
        let mut buffer = [0; 100];
        assert!(stranger.try_recv(&mut buffer).is_err(), "it is sent the call");
        assert!(!call.hear().await.is_empty());
    };
    let expected = [
        Discarded {
            stranger: 50,
            ..none()
        },
        Discarded { forged: 50, ..none() },
    ];
    discards(insult, expected).await;
}

#[actix_rt::test]
async fn a_stranger_before_the_peer_is_followed_neither_with_few_packets_nor_with_forged_ones() {
    for is_encrypted in [false, true] {
        let mut call = Call::latching(is_encrypted, false).await;
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let packet = call.packet(0, &[0x11; 160]);
        for _ in 0..3 {
            stranger.send_to(&packet, call.to).await.unwrap();
        }
        call.begin().await;
        let before = call.stats().await;
        let (likeness, stats, _) = call.end().await;
        assert!(likeness > ALIKE, "{is_encrypted} {likeness} {stats:#?}");
        let discarded = stats.transport.discarded;
        // In the clear three packets of the peer's are on probation, too.
        let expected = match is_encrypted {
            true => Discarded { forged: 3, ..none() },
            false => Discarded {
                stranger: 6,
                ..none()
            },
        };
        assert_eq!((before.transport.discarded, discarded), (expected, expected));
    }
}

#[actix_rt::test]
async fn a_flood_of_stun_and_every_first_octet_is_counted_and_does_no_harm() {
    let insult = async |call: &mut Call| {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        check.extend([9; 12]);
        for round in 0..40 {
            for _ in 0..50 {
                stranger.send_to(&check, call.to).await.unwrap();
            }
            if round % 10 == 0 {
                call.speak(1).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let before = call.stats().await.transport.discarded;
        assert_eq!(
            before,
            Discarded {
                stranger: 2_000,
                ..none()
            }
        );
        for first in 0..=255 {
            call.send(&[&[first][..], &[0xff; 39]].concat()).await;
        }
        call.speak(2).await;
        let after = call.stats().await.transport.discarded;
        assert_eq!(after.total() - before.total(), 256, "{after:?}");
    };
    both(insult).await;
}

/// Who sends what cannot be read is silent, and the application hears of it.
#[actix_rt::test]
async fn packets_that_nobody_can_read_are_a_silence_that_is_told() {
    let mut call = Call::new(false).await;
    call.begin().await;
    for _ in 0..110 {
        for payload in [&[][..], &[0; 3_000]] {
            let packet = call.packet(0, payload);
            call.send(&packet[..packet.len().min(2_000)]).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (likeness, stats, told) = call.end().await;
    let silences = told
        .iter()
        .filter(|kind| matches!(kind, SessionEventKind::NoMedia { .. }));
    assert_eq!(silences.count(), 1, "{stats:#?}");
    assert!(
        stats.unreadable == 220 && likeness > ALIKE,
        "{likeness} {stats:#?}"
    );
}

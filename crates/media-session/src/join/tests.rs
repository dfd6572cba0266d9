use super::way::WAITING;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use siprtc_core::media::{Codec, Direction, MediaPeer, RtpPacket};
use siprtc_testkit::media::LonePeer;
use tokio::time::Instant;

fn of(codec: Codec) -> NegotiatedAudio {
    NegotiatedAudio {
        telephone_event: Some((101, 8_000)),
        ..NegotiatedAudio::of(codec)
    }
}

fn packet(codec: Codec, number: u16) -> RtpPacket {
    let payload = match codec {
        Codec::Opus => Bytes::from_static(&[0xf8, 0xff, 0xfe]),
        _ => Bytes::from(vec![0xff; 160]),
    };
    RtpPacket {
        payload_type: codec.payload_type(),
        marker: false,
        sequence: number,
        timestamp: u32::from(number).wrapping_mul(codec.clock_rate() / 50),
        ssrc: 7,
        payload,
    }
}

fn outlet(peer: &Arc<LonePeer>, sequence: u16, timestamp: u32) -> Outlet {
    Outlet {
        peer: Arc::clone(peer) as Arc<dyn MediaPeer>,
        events: Arc::new(Events::nowhere()),
        sequence,
        timestamp,
        sent: None,
        started: true,
    }
}

/// A bridge that stands, its second side's peer being `peer`.
fn standing(audio: [NegotiatedAudio; 2], peer: &Arc<LonePeer>) -> (Bridge, [BridgeEnd; 2]) {
    let (bridge, ends) = Bridge::between([CallId::fresh(), CallId::fresh()], BridgeConfig::default());
    for (end, audio) in ends.iter().zip(audio) {
        end.bond().enter(audio, Arc::new(Events::nowhere())).unwrap();
    }
    ends[0].bond().lend(outlet(&Arc::default(), 0, 0));
    ends[1].bond().lend(outlet(peer, 1_000, 50_000));
    (bridge, ends)
}

#[tokio::test]
async fn packets_pass_at_once_with_the_streams_numbers_and_their_own_payload() {
    let peer = Arc::new(LonePeer::default());
    let (bridge, ends) = standing([of(Codec::Pcmu), of(Codec::Pcmu)], &peer);
    assert_eq!(bridge.carriage(), Some([Carriage::PassThrough; 2]));
    let way = ends[0].bond().way();
    let mut payloads = Vec::new();
    for number in 40..45 {
        let mut packet = packet(Codec::Pcmu, number);
        packet.marker = number == 43;
        payloads.push(packet.payload.as_ptr());
        let kept = way.forward(Instant::now(), packet, false);
        assert!(kept.bare && kept.packet.payload.is_empty() && kept.packet.sequence == number);
    }
    let sent = peer.sent();
    let numbers: Vec<_> = sent
        .iter()
        .map(|sent| (sent.sequence, sent.timestamp, sent.marker))
        .collect();
    let expected: Vec<_> = (0..5)
        .map(|index| {
            (
                1_000 + index,
                50_000 + 160 * u32::from(index),
                index == 0 || index == 3,
            )
        })
        .collect();
    assert_eq!(numbers, expected);
    assert!(sent.iter().map(|sent| sent.payload.as_ptr()).eq(payloads));
    let back = ends[1].bond().take_back().unwrap();
    assert_eq!((back.sequence, back.timestamp), (1_005, 50_800));
    assert!(
        way.forward(Instant::now(), packet(Codec::Pcmu, 45), false)
            .packet
            .payload
            .len()
            == 160
    );
    assert_eq!(bridge.stats()[0].packets.sent, 5);
}

#[tokio::test]
async fn what_must_be_waited_for_waits_in_a_bounded_queue_that_drops_its_oldest() {
    for (codecs, waits) in [
        ([Codec::Pcmu, Codec::Pcmu], true),
        ([Codec::Pcmu, Codec::Pcma], false),
    ] {
        let peer = Arc::new(if waits {
            LonePeer::waiting()
        } else {
            LonePeer::default()
        });
        let (bridge, ends) = standing(codecs.map(of), &peer);
        let way = ends[0].bond().way();
        // Nobody else runs meanwhile.
        for number in 0..WAITING as u16 + 9 {
            assert!(
                way.forward(Instant::now(), packet(Codec::Pcmu, number), false)
                    .bare
            );
        }
        assert!(peer.sent().is_empty());
        while peer.sent().len() < WAITING {
            tokio::task::yield_now().await;
        }
        let stats = bridge.stats()[0];
        assert_eq!(
            (stats.queue_dropped, stats.refused, stats.packets.sent),
            (9, 0, WAITING as u64)
        );
        let sent = peer.sent();
        assert!(
            sent.windows(2)
                .all(|pair| pair[1].sequence == pair[0].sequence + 1)
        );
        assert_eq!(sent[0].sequence, 1_000);
        let back = ends[1].bond().take_back().unwrap();
        assert_eq!(back.sequence, 1_000 + WAITING as u16);
    }
}

#[tokio::test]
async fn a_peer_whose_path_is_down_is_counted_and_nothing_ends() {
    let peer = Arc::new(LonePeer::default());
    let (bridge, ends) = standing([of(Codec::Pcma), of(Codec::Pcma)], &peer);
    let way = ends[0].bond().way();
    for number in 0..6 {
        peer.set_up(number >= 3);
        way.forward(Instant::now(), packet(Codec::Pcma, number), true);
    }
    assert_eq!((bridge.stats()[0].refused, peer.sent().len()), (3, 3));
}

#[tokio::test]
async fn an_end_that_is_dropped_parts_the_bridge_for_good() {
    let peer = Arc::new(LonePeer::default());
    let (bridge, [one, other]) = standing([of(Codec::Pcmu), of(Codec::Pcmu)], &peer);
    drop(one);
    assert!(other.bond().is_over() && !other.bond().is_together());
    assert_eq!(bridge.carriage(), None);
    let again = other.bond().enter(of(Codec::Pcmu), Arc::new(Events::nowhere()));
    assert_eq!(again.unwrap_err().fault(), Fault::ApiMisuse);
    assert_eq!(other.bond().take_back().unwrap().sequence, 1_000);
}

#[test]
fn what_a_side_cannot_take_is_transcoded() {
    let limited = |most| NegotiatedAudio {
        parameters: siprtc_core::media::AudioParameters {
            max_average_bitrate: Some(most),
            ..Default::default()
        },
        ..of(Codec::Opus)
    };
    let other_clock = NegotiatedAudio {
        telephone_event: Some((101, 48_000)),
        ..of(Codec::Opus)
    };
    let longer = NegotiatedAudio {
        ptime: 60,
        payload_type: 96,
        ..of(Codec::Opus)
    };
    for (to, expected) in [
        (of(Codec::Opus), true),
        (longer, true),
        (NegotiatedAudio::of(Codec::Opus), true),
        (limited(64_000), true),
        (limited(16_000), false),
        (other_clock, false),
        (of(Codec::Pcmu), false),
    ] {
        assert_eq!(passes(&of(Codec::Opus), &to), expected, "{to:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is agreed anew, lent and taken back: each stream's sequence numbers go up one by one, and none is used twice.
    #[test]
    fn a_peer_sees_one_stream_whatever_happens_to_the_bridge(
        steps in proptest::collection::vec((0u8..10, 0usize..4, any::<bool>()), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let peer = Arc::new(LonePeer::default());
            let mut audio = [of(Codec::Pcmu), of(Codec::Pcmu)];
            let (_bridge, ends) = standing(audio, &peer);
            let (mut lent, mut number) = (true, 0u16);
            for (what, codec, side) in steps {
                let side = usize::from(side);
                match what {
                    0 => {
                        audio[side] = of(Codec::ALL[codec]);
                        ends[side].bond().agree(audio[side]);
                    }
                    1 => {
                        let direction = [Direction::SendRecv, Direction::Inactive][codec % 2];
                        audio[side].direction = direction;
                        ends[side].bond().agree(audio[side]);
                    }
                    2 if lent => {
                        if let Some(mut own) = ends[1].bond().take_back() {
                            // The source sends one itself.
                            let sequence = own.sequence;
                            peer.send_now(RtpPacket { sequence, ..packet(Codec::Pcmu, 0) }).unwrap();
                            own.sequence = sequence.wrapping_add(1);
                            ends[1].bond().lend(own);
                        } else {
                            lent = false;
                        }
                    }
                    _ => {
                        let codec = audio[0].codec;
                        number = number.wrapping_add(1);
                        ends[0].bond().way().forward(Instant::now(), packet(codec, number), false);
                        for _ in 0..4 {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            }
            assert!(lent, "an outlet was lost");
            peer.sent()
        });
        for pair in outcome.windows(2) {
            prop_assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        }
    }
}

#[tokio::test]
async fn an_end_that_is_passed_on_keeps_both_streams_apart_and_parts_nobody() {
    let (at_last, at_next) = (Arc::new(LonePeer::default()), Arc::new(LonePeer::default()));
    let (bridge, [first, last]) = standing([of(Codec::Pcmu), of(Codec::Pcmu)], &at_last);
    let way = first.bond().way();
    way.forward(Instant::now(), packet(Codec::Pcmu, 1), false);
    // What the session that goes still holds.
    let held = last.bond().clone();
    let next = last.passed_on();
    assert_eq!((bridge.carriage(), held.is_together()), (None, false));
    assert!(!held.is_over());
    way.forward(Instant::now(), packet(Codec::Pcmu, 2), false);
    next.bond()
        .enter(of(Codec::Pcma), Arc::new(Events::nowhere()))
        .unwrap();
    first.bond().lend(first.bond().take_back().expect("it was lent"));
    next.bond().lend(outlet(&at_next, 7_000, 90_000));
    assert_eq!(bridge.carriage(), Some([Carriage::Transcoded; 2]));
    // The late one gets its own stream back, and not its successor's.
    let own = held.take_back().expect("it had lent a stream");
    assert_eq!(own.sequence, 1_001);
    assert!(held.take_back().is_none());
    held.lend(own);
    assert_eq!(bridge.carriage(), Some([Carriage::Transcoded; 2]));
    next.bond().agree(of(Codec::Pcmu));
    way.forward(Instant::now(), packet(Codec::Pcmu, 3), false);
    assert_eq!((at_last.sent().len(), at_next.sent()[0].sequence), (1, 7_000));
    assert!(bridge.part().is_ok() && bridge.part().is_err() && next.bond().is_over());
}

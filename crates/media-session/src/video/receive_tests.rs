use super::*;
use crate::video::payload::Payloader;
use proptest::prelude::*;
use siprtc_core::media::{Direction, FeedbackKinds, VideoCodec};

fn agreed(feedback: FeedbackKinds) -> NegotiatedVideo {
    NegotiatedVideo {
        codec: VideoCodec::Vp8,
        payload_type: 96,
        fragments: true,
        direction: Direction::SendRecv,
        feedback,
    }
}

/// So many frames, each of three packets; every tenth is a key frame. The numbers go through zero.
fn packets(frames: u32) -> Vec<RtpPacket> {
    let mut payloader = Payloader::new(VideoCodec::Vp8, true, 0);
    let mut sequence = 65_500_u16;
    let mut packets = Vec::new();
    for frame in 0..frames {
        let mut data = vec![frame as u8; 3_000];
        data[0] = u8::from(frame % 10 != 0);
        let payloads = payloader.payloads(&data.into()).unwrap();
        assert_eq!(payloads.len(), 3);
        for (index, payload) in payloads.into_iter().enumerate() {
            packets.push(RtpPacket {
                payload_type: 96,
                marker: index == 2,
                sequence,
                timestamp: frame * 3_000,
                ssrc: 5,
                payload,
            });
            sequence = sequence.wrapping_add(1);
        }
    }
    packets
}

struct Bench {
    receiver: Receiver,
    now: Instant,
    shown: Vec<u32>,
    told: Vec<Feedback>,
}

impl Bench {
    fn new(feedback: FeedbackKinds) -> Self {
        Bench {
            receiver: Receiver::new(agreed(feedback)),
            now: tokio::time::Instant::now().into_std(),
            shown: Vec::new(),
            told: Vec::new(),
        }
    }

    fn push(&mut self, packet: &RtpPacket) {
        self.receiver.push(self.now, packet.clone());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.receiver.poll() {
            match output {
                Output::Began => {}
                Output::Frame(frame) => self.shown.push(frame.timestamp / 3_000),
                Output::Tell(feedback) => self.told.push(feedback),
            }
        }
    }

    /// Until nothing is due within this time.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.receiver.poll_timeout().filter(|due| *due <= end) {
            assert!(due + Duration::from_secs(1) > self.now, "a timer in the past");
            self.now = self.now.max(due);
            self.receiver.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }
}

#[test]
fn what_comes_in_order_is_shown_at_once() {
    let mut bench = Bench::new(FeedbackKinds::OURS);
    for packet in &packets(30) {
        bench.push(packet);
    }
    assert_eq!(bench.shown, (0..30).collect::<Vec<_>>());
    assert_eq!(bench.receiver.poll_timeout(), None);
    assert_eq!(
        bench.told,
        [Feedback::KeyFrame],
        "the first packet alone is no key frame yet"
    );
}

#[test]
fn what_the_path_carries_is_told_to_who_understands_it() {
    let able = FeedbackKinds {
        transport_cc: false,
        ..FeedbackKinds::OURS
    };
    let unable = FeedbackKinds { remb: false, ..able };
    let rates = |bench: &mut Bench| -> Vec<u64> {
        (bench.told.drain(..))
            .filter_map(|told| match told {
                Feedback::Bitrate(rate) => Some(rate),
                _ => None,
            })
            .collect()
    };
    // Who hears when its packets came judges the path itself.
    for (feedback, is_told) in [(able, true), (unable, false), (FeedbackKinds::OURS, false)] {
        let mut bench = Bench::new(feedback);
        for part in [0, 1] {
            for frame in packets(90).chunks(3) {
                frame.iter().for_each(|packet| bench.push(packet));
                bench.wait(Duration::from_millis(33));
            }
            let told = rates(&mut bench);
            assert_eq!((2..=3).contains(&told.len()), is_told, "{part}: {told:?}");
            // 30 frames of 3,000 octets a second, and no queue.
            assert!(told.iter().all(|rate| *rate > 720_000), "{told:?}");
            bench.receiver.begin_anew();
        }
    }
}

#[test]
fn what_is_lost_is_asked_for_and_shown_when_it_comes() {
    let packets = packets(12);
    let mut bench = Bench::new(FeedbackKinds::OURS);
    for packet in packets
        .iter()
        .filter(|packet| ![65_504, 65_505].contains(&packet.sequence))
    {
        bench.push(packet);
    }
    assert_eq!(bench.shown, [0]);
    bench.told.clear();
    bench.wait(Duration::from_millis(70));
    let asked = Feedback::Lost(vec![65_504, 65_505]);
    assert_eq!(bench.told, [asked.clone(), asked]);
    bench.push(&packets[5]);
    bench.push(&packets[4]);
    assert_eq!(bench.shown, (0..12).collect::<Vec<_>>());
    let counts = bench.receiver.counts;
    assert_eq!((counts.recovered, counts.lost, counts.dropped), (2, 0, 0));
}

#[test]
fn what_never_comes_is_given_up_and_a_key_frame_asked_for() {
    for (feedback, patience) in [
        (FeedbackKinds::OURS, 450),
        (
            FeedbackKinds {
                nack: false,
                ..FeedbackKinds::OURS
            },
            70,
        ),
    ] {
        let packets = packets(25);
        let mut bench = Bench::new(feedback);
        for packet in packets.iter().take(15).filter(|packet| packet.sequence != 65_507) {
            bench.push(packet);
        }
        assert_eq!(bench.shown, [0, 1]);
        bench.told.clear();
        bench.wait(Duration::from_millis(patience));
        assert_eq!(bench.told.last(), Some(&Feedback::KeyFrame), "{feedback:?}");
        for packet in &packets[15..] {
            bench.push(packet);
        }
        assert_eq!(
            bench.shown[2..],
            (10..25).collect::<Vec<_>>(),
            "from the next key frame on"
        );
        assert_eq!(bench.receiver.counts.lost, 1);
    }
}

#[test]
fn who_begins_in_the_middle_asks_for_a_key_frame_again_and_again() {
    let packets = packets(9);
    let mut bench = Bench::new(FeedbackKinds::OURS);
    for packet in &packets[4..] {
        bench.push(packet);
    }
    bench.wait(Duration::from_millis(1_600));
    assert_eq!(bench.told, vec![Feedback::KeyFrame; 4]);
    assert!(bench.shown.is_empty());
}

#[test]
fn another_stream_and_a_jump_of_the_numbers_begin_anew() {
    let mut bench = Bench::new(FeedbackKinds::OURS);
    for packet in &packets(2) {
        bench.push(packet);
    }
    for packet in packets(2) {
        bench.push(&RtpPacket { ssrc: 6, ..packet });
    }
    for packet in packets(2) {
        let sequence = packet.sequence.wrapping_add(20_000);
        bench.push(&RtpPacket {
            ssrc: 6,
            sequence,
            ..packet
        });
    }
    assert_eq!(bench.shown, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn padding_and_other_payload_types_are_nothing_to_show() {
    let mut bench = Bench::new(FeedbackKinds::OURS);
    let packets = packets(2);
    for packet in &packets[..3] {
        bench.push(packet);
    }
    let padding = RtpPacket {
        sequence: 65_503,
        timestamp: 1,
        payload: Bytes::new(),
        ..packets[2].clone()
    };
    bench.push(&padding);
    bench.push(&RtpPacket {
        payload_type: 97,
        ..packets[3].clone()
    });
    for packet in &packets[3..] {
        let sequence = packet.sequence + 1;
        bench.push(&RtpPacket {
            sequence,
            ..packet.clone()
        });
    }
    assert_eq!(bench.shown, [0, 1]);
}

proptest! {
    /// Whatever is lost, doubled and reordered: what is shown is in order, begins with a key frame after each gap, and what is kept
    /// is bounded.
    #[test]
    fn what_is_shown_can_be_decoded(
        fate in proptest::collection::vec((0_u8..10, 0_usize..6), 120 * 3),
        nack in any::<bool>(),
    ) {
        let all = packets(120);
        let mut queue: Vec<(usize, &RtpPacket)> = Vec::new();
        for (at, (packet, (kind, shift))) in all.iter().zip(&fate).enumerate() {
            match kind {
                0 => {}
                1 => queue.extend([(at, packet), (at + shift, packet)]),
                _ => queue.push((at + shift, packet)),
            }
        }
        queue.sort_by_key(|(at, _)| *at);
        let mut bench = Bench::new(FeedbackKinds { nack, ..FeedbackKinds::OURS });
        for (_, packet) in queue {
            bench.push(packet);
            bench.wait(Duration::from_millis(8));
            prop_assert!(bench.receiver.waiting.len() <= MOST_WAITING + 1);
            prop_assert!(bench.receiver.missing.len() <= MOST_MISSING + 1);
        }
        bench.wait(Duration::from_secs(2));
        prop_assert!(bench.receiver.missing.is_empty());
        for pair in bench.shown.windows(2) {
            prop_assert!(pair[0] < pair[1], "{:?}", bench.shown);
            prop_assert!(pair[1] == pair[0] + 1 || pair[1] % 10 == 0, "{:?}", bench.shown);
        }
    }

    #[test]
    fn nothing_that_comes_makes_it_panic(
        packets in proptest::collection::vec((any::<u16>(), any::<bool>(), 0_u32..4, 0_u32..3, proptest::collection::vec(any::<u8>(), 0..9)), 0..200),
    ) {
        let mut bench = Bench::new(FeedbackKinds::OURS);
        for (sequence, marker, timestamp, ssrc, payload) in packets {
            bench.push(&RtpPacket { payload_type: 96, marker, sequence, timestamp, ssrc, payload: payload.into() });
            bench.wait(Duration::from_millis(5));
        }
        bench.wait(Duration::from_secs(5));
    }
}

#[test]
fn another_peer_begins_anew_though_its_numbers_go_on() {
    let packets = packets(25);
    let mut bench = Bench::new(FeedbackKinds::OURS);
    for packet in &packets[..6] {
        bench.push(packet);
    }
    assert_eq!(bench.shown, [0, 1]);
    bench.told.clear();
    bench.receiver.begin_anew();
    assert_eq!(bench.receiver.poll_timeout(), None, "nobody can be asked yet");
    for packet in &packets[6..] {
        bench.push(packet);
    }
    assert_eq!(bench.told, [Feedback::KeyFrame], "with its first packet");
    assert_eq!(bench.shown[2..], (10..25).collect::<Vec<_>>());
}

#[test]
fn for_an_onlooker_a_key_frame_is_asked_for_until_it_comes_and_nothing_is_dropped() {
    let packets = packets(12);
    let mut bench = Bench::new(FeedbackKinds::OURS);
    for packet in &packets[..6] {
        bench.push(packet);
    }
    bench.told.clear();
    assert!(!bench.receiver.is_beginning());
    bench.receiver.has_onlooker(bench.now);
    bench.wait(Duration::from_millis(600));
    assert_eq!(bench.told, [Feedback::KeyFrame, Feedback::KeyFrame]);
    for packet in &packets[6..30] {
        bench.push(packet);
    }
    assert!(bench.receiver.is_beginning());
    bench.told.clear();
    for packet in &packets[30..] {
        bench.push(packet);
    }
    bench.wait(Duration::from_millis(1_600));
    assert_eq!(bench.told, []);
    assert!(!bench.receiver.is_beginning());
    assert_eq!(bench.shown, (0..12).collect::<Vec<_>>());
}

#[test]
fn of_a_codec_whose_key_frames_nobody_can_tell_one_is_asked_for_once() {
    let mut bench = Bench::new(FeedbackKinds::OURS);
    bench.receiver.change(NegotiatedVideo {
        codec: VideoCodec::H263,
        ..agreed(FeedbackKinds::OURS)
    });
    for frame in packets(9).chunks(3) {
        frame.iter().for_each(|packet| bench.push(packet));
        bench.wait(Duration::from_millis(600));
    }
    assert_eq!(bench.told, [Feedback::KeyFrame]);
    assert!(!bench.receiver.is_beginning());
}

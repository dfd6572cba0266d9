use super::*;
use crate::video::Came;
use bytes::Bytes;
use siprtc_core::media::{Direction, FeedbackKinds, VideoCodec};
use siprtc_testkit::media::LonePeer;
use std::collections::VecDeque;
use std::time::Duration;

fn side(payload_type: u8, sequence: u16) -> (Arc<LonePeer>, Outlook) {
    let peer = Arc::new(LonePeer::default());
    let outlook = Outlook {
        events: Arc::new(Events::nowhere()),
        peer: peer.clone(),
        video: NegotiatedVideo {
            codec: VideoCodec::Vp8,
            payload_type,
            fragments: true,
            direction: Direction::SendRecv,
            feedback: FeedbackKinds::OURS,
        },
        numbers: Arc::new(VideoNumbers::starting_at(sequence, 70_000)),
        queue: Arc::default(),
    };
    (peer, outlook)
}

fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> RtpPacket {
    RtpPacket {
        payload_type: 96,
        marker: sequence.is_multiple_of(2),
        sequence,
        timestamp,
        ssrc,
        payload: Bytes::copy_from_slice(&sequence.to_be_bytes()),
    }
}

/// Whether somebody began to look since.
fn has_onlooker(queue: &VideoQueue) -> bool {
    let mut came = VecDeque::new();
    queue.drain(&mut came);
    matches!(came.make_contiguous(), [Came::Onlooker])
}

/// Of what it was given since.
fn numbers(viewer: &LonePeer) -> Vec<(u16, u32)> {
    let shown = viewer.take_shown();
    assert!(shown.iter().all(|packet| packet.payload_type == 120));
    (shown.iter())
        .map(|packet| (packet.sequence, packet.timestamp))
        .collect()
}

#[test]
fn packets_go_on_in_the_stream_of_the_other_side_whatever_their_source() {
    let (_, from) = side(96, 0);
    let (viewer, to) = side(120, 65_534);
    let queue = from.queue.clone();
    let stream = to.numbers.clone();
    let way = VideoWay::default();
    way.forward(packet(1, 500, 9_000));
    assert!(numbers(&viewer).is_empty(), "the way is closed");
    way.open(from, to);
    assert!(way.is_open() && has_onlooker(&queue), "a key frame is asked for");
    assert!(stream.is_lent());
    // One is lost before the bridge, and comes late; another source follows, and jumps.
    for packet in [
        packet(1, 500, 9_000),
        packet(1, 502, 9_000),
        packet(1, 501, 9_000),
        packet(2, 7, 0),
        packet(2, 20_007, 90),
    ] {
        way.forward(packet);
    }
    way.forward(RtpPacket {
        payload_type: 97,
        ..packet(2, 20_008, 90)
    });
    let first = 70_000 + STEP;
    assert_eq!(
        numbers(&viewer),
        [
            (65_534, first),
            (0, first),
            (65_535, first),
            (1, first + STEP),
            (2, first + 2 * STEP)
        ]
    );
    way.close();
    assert!(!way.is_open());
    assert!(!stream.is_lent());
    // The side's own source goes on behind.
    let mut shift = None;
    assert_eq!(stream.take(1_000, &mut shift), (3, first + 3 * STEP));
    assert_eq!(stream.take(4_000, &mut shift), (4, first + 3 * STEP + 3_000));
}

#[test]
fn what_is_missed_comes_from_here_or_from_the_sender() {
    let now = tokio::time::Instant::now().into_std();
    let (sender, from) = side(96, 0);
    let (viewer, to) = side(120, 1_000);
    let queue = from.queue.clone();
    let way = VideoWay::default();
    assert_eq!(way.feedback(now, Feedback::KeyFrame), Err(Feedback::KeyFrame));
    way.begin_anew();
    assert!(!has_onlooker(&queue), "the way is closed");
    way.open(from, to);
    assert!(has_onlooker(&queue));
    for sequence in [500, 501, 503] {
        way.forward(packet(1, sequence, 9_000));
    }
    numbers(&viewer);
    way.feedback(now, Feedback::Lost(vec![1_001, 1_002])).unwrap();
    assert_eq!(numbers(&viewer), [(1_001, 73_000)], "sent again from here");
    assert_eq!(
        sender.take_told(),
        [Feedback::Lost(vec![502])],
        "in the sender's own numbers"
    );
    way.feedback(now + Duration::from_secs(1), Feedback::Bitrate(7))
        .unwrap();
    way.feedback(now + Duration::from_secs(1), Feedback::KeyFrame)
        .unwrap();
    assert_eq!(sender.take_told(), [Feedback::Bitrate(7), Feedback::KeyFrame]);
    // Another peer has the viewer's place: it needs a key frame, and what is missed is the sender's to send again.
    way.begin_anew();
    assert!(has_onlooker(&queue));
    way.feedback(now + Duration::from_secs(2), Feedback::Lost(vec![1_001]))
        .unwrap();
    assert_eq!(numbers(&viewer), []);
    assert_eq!(sender.take_told(), [Feedback::Lost(vec![501])]);
}

/// The path from the sender, and what the viewer's side takes: the sender hears of the narrower one.
#[tokio::test(start_paused = true)]
async fn the_sender_is_told_what_the_narrowest_part_of_its_way_carries() {
    let (sender, from) = side(96, 0);
    let (_viewer, to) = side(120, 1_000);
    let queue = from.queue.clone();
    let way = VideoWay::default();
    way.open(from, to);
    let takes = |rate| {
        let now = tokio::time::Instant::now().into_std();
        way.feedback(now, Feedback::Bitrate(rate)).unwrap();
        sender.take_told()
    };
    assert_eq!(takes(300_000), [Feedback::Bitrate(300_000)]);
    assert_eq!(queue.carries(1_000_000), 300_000);
    assert_eq!(takes(2_000_000), [Feedback::Bitrate(1_000_000)]);
    assert_eq!(queue.carries(3_000_000), 2_000_000);
    // Whoever said it says it no more.
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(queue.carries(3_000_000), 3_000_000);
    takes(2_000_000);
    way.close();
    assert_eq!(queue.carries(3_000_000), 3_000_000, "it goes nowhere any more");
}

#[test]
fn only_what_the_other_side_takes_passes() {
    let ((_, from), (_, to)) = (side(96, 0), side(97, 0));
    assert!(from.passes_to(&to));
    let changed = |change: fn(&mut NegotiatedVideo)| {
        let mut other = to.clone();
        change(&mut other.video);
        other
    };
    assert!(!from.passes_to(&changed(|video| video.codec = VideoCodec::H264)));
    assert!(!from.passes_to(&changed(|video| video.direction = Direction::RecvOnly)));
    assert!(!from.passes_to(&changed(|video| video.fragments = false)));
    assert!(changed(|video| video.fragments = false).passes_to(&to));
    assert!(!changed(|video| video.direction = Direction::SendOnly).passes_to(&to));
}

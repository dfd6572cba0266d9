use super::*;
use crate::join::{Outlook, VideoNumbers, VideoWay};
use crate::video::FrameSource;
use crate::video::Relays;
use crate::video::file::{Reader, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use siprtc_core::media::{Direction, FeedbackKinds, VideoPort};
use siprtc_testkit::Folder;
use siprtc_testkit::media::LonePeer;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Thirty pictures a second; the first is a key frame, and each that is asked for.
#[derive(Default)]
struct Camera {
    count: AtomicU32,
    is_key_wanted: AtomicBool,
}

#[async_trait]
impl FrameSource for Camera {
    async fn next(&self, _: VideoCodec) -> Option<VideoFrame> {
        sleep(Duration::from_millis(33)).await;
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let is_key = count == 0 || self.is_key_wanted.swap(false, Ordering::Relaxed);
        let mut data = vec![0; 400];
        data[0] = u8::from(!is_key);
        Some(VideoFrame {
            data: Bytes::from(data),
            is_key,
            timestamp: count * 3_000,
        })
    }

    fn key_frame_wanted(&self) {
        self.is_key_wanted.store(true, Ordering::Relaxed);
    }
}

fn agreed(payload_type: u8) -> NegotiatedVideo {
    NegotiatedVideo {
        codec: VideoCodec::Vp8,
        payload_type,
        fragments: false,
        direction: Direction::SendRecv,
        feedback: FeedbackKinds::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_agreed_anew_before_the_path_is_up_is_what_goes_out() {
    let peer = Arc::new(LonePeer::default());
    peer.set_up(false);
    let source = VideoSource::Frames(Arc::new(Camera::default()));
    let pumps = VideoPumps::start(
        VideoEnds {
            peer: peer.clone(),
            plan: VideoPlan::new(source, VideoSink::Null),
            recorder: None,
            queue: Arc::new(VideoQueue::default()),
            numbers: Arc::new(VideoNumbers::starting_at(7, 0)),
            events: Arc::new(Events::nowhere()),
        },
        agreed(96),
    );
    sleep(Duration::from_millis(200)).await;
    pumps.change(None);
    sleep(Duration::from_millis(200)).await;
    pumps.change(Some(agreed(97)));
    sleep(Duration::from_millis(200)).await;
    peer.set_up(true);
    sleep(Duration::from_secs(1)).await;
    let stats = pumps.stats();
    pumps.stop().await;
    let sent = peer.take_shown();
    assert!(sent.iter().all(|packet| packet.payload_type == 97));
    // VP8's own first octet is the second of the payload (RFC 7741 section 4.2): its lowest bit is not set in a key frame.
    let first = sent.first().expect("something goes out");
    assert_eq!(first.payload.last(), Some(&0));
    assert!(
        first
            .payload
            .iter()
            .rev()
            .nth(399)
            .is_some_and(|octet| octet & 1 == 0),
        "a key frame first"
    );
    assert!((20..40).contains(&sent.len()), "{}", sent.len());
    assert!(stats.frames_sent >= 20, "{stats:?}");
}

/// Whether the first octet of VP8's own, behind a descriptor of four, says so (RFC 7741 sections 4.2 and 4.3).
fn is_key(packet: &RtpPacket) -> bool {
    packet.payload.get(4).is_some_and(|first| first & 1 == 0)
}

fn showing(source: VideoSource) -> (Arc<LonePeer>, Arc<VideoQueue>, VideoPumps) {
    let (peer, queue) = (Arc::new(LonePeer::default()), Arc::<VideoQueue>::default());
    let ends = VideoEnds {
        peer: peer.clone(),
        plan: VideoPlan::new(source, VideoSink::Null),
        recorder: None,
        queue: queue.clone(),
        numbers: Arc::new(VideoNumbers::starting_at(7, 0)),
        events: Arc::new(Events::nowhere()),
    };
    (peer, queue, VideoPumps::start(ends, agreed(96)))
}

#[tokio::test(start_paused = true)]
async fn another_peer_that_sees_us_has_a_key_frame_at_once_and_nothing_of_the_one_before() {
    let (peer, queue, pumps) = showing(VideoSource::Frames(Arc::new(Camera::default())));
    sleep(Duration::from_millis(500)).await;
    // The one before has just had one.
    queue.feedback(Feedback::KeyFrame);
    sleep(Duration::from_millis(120)).await;
    let before = peer.take_shown();
    assert_eq!(before.iter().filter(|packet| is_key(packet)).count(), 2);
    queue.begin_anew();
    queue.feedback(Feedback::Lost(vec![before[0].sequence]));
    sleep(Duration::from_millis(150)).await;
    let shown = peer.take_shown();
    assert_eq!(shown.iter().filter(|packet| is_key(packet)).count(), 1);
    assert!(shown.iter().all(|packet| packet.sequence != before[0].sequence));
    // The next one's path is not up yet.
    peer.set_up(false);
    queue.begin_anew();
    sleep(Duration::from_millis(400)).await;
    peer.set_up(true);
    sleep(Duration::from_millis(150)).await;
    let shown = peer.take_shown();
    assert!(
        shown[..3].iter().any(is_key),
        "it begins with what was kept for it"
    );
    assert_eq!(pumps.stats().key_frames_wanted, 1, "what the peers asked for");
    pumps.stop().await;
}

#[tokio::test]
async fn a_file_that_went_back_for_one_peer_goes_back_for_the_next() {
    let folder = Folder::new("video-next");
    let path = folder.file("film.ivf");
    let mut writer = Writer::create(&path, VideoCodec::Vp8).unwrap();
    for number in 0..90 {
        writer
            .write(&picture(VideoCodec::Vp8, number == 0, number))
            .unwrap();
    }
    drop(writer);
    let (peer, queue, pumps) = showing(VideoSource::File { path, repeat: false });
    let keys = || peer.take_shown().iter().filter(|packet| is_key(packet)).count();
    for asked in 0..5 {
        sleep(KEY_FRAME_INTERVAL + Duration::from_millis(50)).await;
        queue.feedback(Feedback::KeyFrame);
        assert_eq!(keys(), usize::from(asked < 4), "{asked}");
    }
    queue.begin_anew();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(keys(), 1);
    pumps.stop().await;
}

/// A session's video, in which nobody is shown anything.
struct Watching {
    peer: Arc<LonePeer>,
    queue: Arc<VideoQueue>,
    pumps: VideoPumps,
    sender: Sender,
    numbers: VideoNumbers,
    frames: u32,
}

impl Watching {
    fn new(codec: VideoCodec, sink: VideoSink, first: u32) -> Self {
        let (peer, queue) = (Arc::new(LonePeer::default()), Arc::new(VideoQueue::default()));
        let video = NegotiatedVideo {
            codec,
            // What the path carries is told by the clock, beside everything that is looked at here.
            feedback: FeedbackKinds {
                remb: false,
                ..FeedbackKinds::OURS
            },
            fragments: true,
            ..agreed(96)
        };
        let ends = VideoEnds {
            peer: peer.clone(),
            plan: VideoPlan::new(VideoSource::None, sink),
            recorder: None,
            queue: Arc::clone(&queue),
            numbers: Arc::new(VideoNumbers::starting_at(7, 0)),
            events: Arc::new(Events::nowhere()),
        };
        Watching {
            peer,
            queue,
            pumps: VideoPumps::start(ends, video),
            sender: Sender::new(video),
            numbers: VideoNumbers::starting_at(first as u16, first),
            frames: 0,
        }
    }

    /// The peer shows so many frames, a key frame first if it is `asked`; what they are.
    async fn sees(&mut self, count: u32, asked: bool) -> Vec<Bytes> {
        let mut shown = Vec::new();
        for number in 0..count {
            let frame = picture(
                self.pumps.stats().codec.unwrap(),
                asked && number == 0,
                self.frames,
            );
            shown.push(frame.data.clone());
            for packet in self.sender.packets(&frame, &self.numbers).unwrap() {
                VideoPort::push(&*self.queue, packet);
            }
            self.frames += 1;
            sleep(Duration::from_millis(33)).await;
        }
        shown
    }
}

/// Frame `number`, which no other is like.
fn picture(codec: VideoCodec, is_key: bool, number: u32) -> VideoFrame {
    let mut data = match (codec, is_key) {
        (VideoCodec::H264, true) => vec![
            0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 0x88,
        ],
        (VideoCodec::H264, false) => vec![0, 0, 0, 1, 0x41, 0x88],
        (_, is_key) => vec![u8::from(!is_key), 0, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xf0, 0],
    };
    data.extend(rand::random::<[u8; 16]>().map(|octet| octet | 4));
    VideoFrame {
        data: data.into(),
        is_key,
        timestamp: number * 3_000,
    }
}

#[tokio::test]
async fn a_recording_goes_on_in_another_session_with_a_key_frame_that_is_asked_for() {
    let folder = Folder::new("video-estate");
    for codec in [VideoCodec::Vp8, VideoCodec::H264] {
        let path = folder.file(codec.as_str());
        let mut first = Watching::new(codec, VideoSink::File { path: path.clone() }, 5);
        let mut second = Watching::new(codec, VideoSink::Null, 4_000_000_000);
        let mut shown = first.sees(5, true).await;
        second.sees(3, true).await;
        assert!(second.peer.take_told().is_empty(), "nobody looks there yet");
        let recorder = first.pumps.give_recorder().await.expect("it records");
        assert!(first.pumps.give_recorder().await.is_none());
        first.sees(3, true).await;
        sleep(Duration::from_millis(300)).await;
        second.pumps.take_recorder(recorder).await;
        // What depends on frames that are not in the file is not written.
        second.sees(3, false).await;
        assert_eq!(second.peer.take_told()[0], Feedback::KeyFrame);
        sleep(KEY_FRAME_INTERVAL).await;
        let again = second.peer.take_told();
        assert!(!again.is_empty(), "it is asked for until it comes");
        assert!(again.iter().all(|told| *told == Feedback::KeyFrame), "{again:?}");
        shown.extend(second.sees(4, true).await);
        assert!(second.peer.take_told().is_empty());
        first.pumps.stop().await;
        second.pumps.stop().await;
        let (mut reader, found) = Reader::open(&path).unwrap();
        assert_eq!(found, codec);
        let frames: Vec<VideoFrame> = std::iter::from_fn(|| reader.next(codec).unwrap()).collect();
        let written: Vec<Bytes> = frames.iter().map(|frame| frame.data.clone()).collect();
        assert_eq!(written, shown, "{codec}");
        assert!(frames[0].is_key && frames[5].is_key);
        if codec == VideoCodec::Vp8 {
            // A second and more after the last one, and thirty pictures a second.
            let gap = frames[5].timestamp - frames[4].timestamp;
            assert!((90_000..900_000).contains(&gap), "{gap}");
            assert_eq!(frames[8].timestamp - frames[5].timestamp, 9_000);
        }
    }
}

#[tokio::test]
async fn another_stream_of_the_same_call_follows_in_the_file_by_the_time_that_has_passed() {
    let folder = Folder::new("video-streams");
    let path = folder.file("two.ivf");
    let mut watching = Watching::new(VideoCodec::Vp8, VideoSink::File { path: path.clone() }, 5);
    watching.sees(2, true).await;
    // As far from the numbers before as another sender's are.
    watching.numbers = VideoNumbers::starting_at(30_000, 3_000_000_000);
    watching.sender = Sender::new(NegotiatedVideo {
        fragments: true,
        ..agreed(96)
    });
    watching.sees(2, true).await;
    watching.pumps.stop().await;
    let (mut reader, codec) = Reader::open(&path).unwrap();
    let frames: Vec<VideoFrame> = std::iter::from_fn(|| reader.next(codec).unwrap()).collect();
    let gap = frames[2].timestamp - frames[1].timestamp;
    assert_eq!(frames.len(), 4);
    assert!((2_900..90_000).contains(&gap), "{gap}");
}

#[tokio::test(start_paused = true)]
async fn over_a_bridge_another_peer_is_asked_for_a_key_frame_and_has_one_of_the_other_sides() {
    let mut forked = Watching::new(VideoCodec::Vp8, VideoSink::Null, 5);
    let mut other = Watching::new(VideoCodec::Vp8, VideoSink::Null, 9_000);
    let outlook = |watching: &Watching| Outlook {
        peer: watching.peer.clone(),
        video: NegotiatedVideo {
            fragments: true,
            feedback: FeedbackKinds::OURS,
            ..agreed(96)
        },
        numbers: Arc::new(VideoNumbers::starting_at(1, 1)),
        queue: watching.queue.clone(),
        events: Arc::new(Events::nowhere()),
    };
    let ways = [Arc::new(VideoWay::default()), Arc::new(VideoWay::default())];
    ways[0].open(outlook(&forked), outlook(&other));
    ways[1].open(outlook(&other), outlook(&forked));
    for (way, watching) in [&forked, &other].into_iter().enumerate() {
        watching.queue.relay(Relays {
            onward: Some(ways[way].clone()),
            inward: Some(ways[1 - way].clone()),
        });
    }
    forked.sees(3, true).await;
    other.sees(3, true).await;
    for watching in [&forked, &other] {
        watching.peer.take_told();
    }
    forked.queue.begin_anew();
    forked.sees(2, false).await;
    other.sees(2, false).await;
    for watching in [&forked, &other] {
        assert_eq!(watching.peer.take_told(), [Feedback::KeyFrame]);
    }
    sleep(KEY_FRAME_INTERVAL).await;
    for watching in [&mut forked, &mut other] {
        assert_eq!(watching.peer.take_told(), [Feedback::KeyFrame], "until it comes");
        watching.sees(3, true).await;
    }
    sleep(KEY_FRAME_INTERVAL * 2).await;
    for watching in [forked, other] {
        assert_eq!(watching.peer.take_told(), []);
        watching.pumps.stop().await;
    }
}

//! The two tasks of a call's video: one sends frames and what was lost of them, one makes frames of what comes.

use super::queue::{Came, Told, VideoQueue};
use super::receive::{Output, Receiver};
use super::recorder::VideoRecorder;
use super::send::Sender;
use super::source::Feed;
use super::{FrameSink, VideoFrame, VideoPlan, VideoSink, VideoSource, VideoStats};
use crate::SessionEventKind;
use crate::events::Events;
use crate::join::VideoNumbers;
use parking_lot::Mutex;
use siprtc_core::media::{Feedback, MediaPeer, NegotiatedVideo, RtpPacket, VideoCodec};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Packets that go out at once; then a pause, so that a key frame does not flood the queues on its way.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_millis(2);
/// How often it is looked whether the path is up.
const PATH_INTERVAL: Duration = Duration::from_millis(20);
/// The source is not asked for a key frame more often.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// Orders to the receiver that wait; whoever gives another one waits, too.
const MOST_ORDERS: usize = 4;
/// How long a recording may take to be finished on a slow disk.
const FINISH: Duration = Duration::from_secs(5);

/// Running video.
pub(crate) struct VideoPumps {
    agreed: watch::Sender<Option<NegotiatedVideo>>,
    stats: Arc<Mutex<VideoStats>>,
    queue: Arc<VideoQueue>,
    orders: mpsc::Sender<Order>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<()>,
}

/// A change of who looks while video runs.
enum Order {
    /// The recording goes on elsewhere; nobody looks here any more.
    GiveUp(oneshot::Sender<Option<VideoRecorder>>),
    /// A recording that was begun elsewhere goes on here.
    Take(VideoRecorder),
}

/// What the pumps work between.
pub(crate) struct VideoEnds {
    pub(crate) peer: Arc<dyn MediaPeer>,
    pub(crate) plan: VideoPlan,
    /// Begun elsewhere; it looks where the plan has nobody who does.
    pub(crate) recorder: Option<VideoRecorder>,
    pub(crate) queue: Arc<VideoQueue>,
    pub(crate) numbers: Arc<VideoNumbers>,
    pub(crate) events: Arc<Events>,
}

impl VideoPumps {
    /// Starts both tasks on the current runtime.
    pub(crate) fn start(ends: VideoEnds, video: NegotiatedVideo) -> Self {
        let VideoEnds {
            peer,
            plan,
            recorder,
            queue,
            numbers,
            events,
        } = ends;
        let (orders, ordered) = mpsc::channel(MOST_ORDERS);
        let (agreed, for_sender) = watch::channel(Some(video));
        let for_receiver = agreed.subscribe();
        let stats = Arc::new(Mutex::new(VideoStats::default()));
        let sending = Sending {
            peer: Arc::clone(&peer),
            queue: Arc::clone(&queue),
            numbers,
            stats: Arc::clone(&stats),
            events: Arc::clone(&events),
            asked: None,
            is_reached: false,
        };
        let receiving = Receiving {
            peer,
            queue: Arc::clone(&queue),
            stats: Arc::clone(&stats),
            viewer: match recorder {
                Some(recorder) => Viewer::going_on(recorder, &events),
                None => Viewer::new(plan.sink, &events),
            },
            events,
        };
        VideoPumps {
            agreed,
            stats,
            queue,
            orders,
            sender: tokio::spawn(sending.run(plan.source, video, for_sender)),
            receiver: tokio::spawn(receiving.run(video, for_receiver, ordered)),
        }
    }

    /// What was negotiated anew; `None`: there is no video for now.
    pub(crate) fn change(&self, video: Option<NegotiatedVideo>) {
        self.agreed
            .send_if_modified(|agreed| std::mem::replace(agreed, video) != video);
    }

    pub(crate) fn stats(&self) -> VideoStats {
        VideoStats {
            codec: (*self.agreed.borrow()).map(|video| video.codec),
            queue_dropped: self.queue.dropped(),
            ..*self.stats.lock()
        }
    }

    /// The recording goes on elsewhere, if the sink is one.
    pub(crate) async fn give_recorder(&self) -> Option<VideoRecorder> {
        let (given, recorder) = oneshot::channel();
        self.orders.send(Order::GiveUp(given)).await.ok()?;
        recorder.await.ok().flatten()
    }

    /// A recording that was begun elsewhere goes on here.
    pub(crate) async fn take_recorder(&self, recorder: VideoRecorder) {
        // It is gone only with its task, which was stopped.
        let _ = self.orders.send(Order::Take(recorder)).await;
    }

    /// Stops both tasks; the recording is complete afterwards.
    pub(crate) async fn stop(self) {
        let VideoPumps {
            agreed,
            sender,
            mut receiver,
            ..
        } = self;
        sender.abort();
        drop(agreed);
        let _ = sender.await;
        if timeout(FINISH, &mut receiver).await.is_err() {
            tracing::warn!("the video's recording was not finished in time");
            receiver.abort();
        }
    }
}

struct Sending {
    peer: Arc<dyn MediaPeer>,
    queue: Arc<VideoQueue>,
    numbers: Arc<VideoNumbers>,
    stats: Arc<Mutex<VideoStats>>,
    events: Arc<Events>,
    /// When the source was last asked for a key frame.
    asked: Option<Instant>,
    /// The peer's path took a frame of ours.
    is_reached: bool,
}

impl Sending {
    async fn run(
        mut self,
        source: VideoSource,
        video: NegotiatedVideo,
        mut agreed: watch::Receiver<Option<NegotiatedVideo>>,
    ) {
        let (codec, codec_of_source) = watch::channel(video.codec);
        let mut feed = Feed::start(&source, codec_of_source, Arc::clone(&self.events));
        let mut video = Some(video);
        let mut sender: Option<Sender> = None;
        let mut was_silent = false;
        loop {
            tokio::select! {
                biased;
                changed = agreed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    video = *agreed.borrow_and_update();
                    if let (Some(video), Some(sender)) = (video, &mut sender) {
                        sender.change(video);
                    }
                    if let Some(video) = video {
                        codec.send_if_modified(|codec| std::mem::replace(codec, video.codec) != video.codec);
                    }
                }
                () = self.queue.told.notified() => {
                    while let Some(told) = self.queue.next_told() {
                        match told {
                            Told::Feedback(feedback) => self.hear(feedback, &feed, &mut sender),
                            // The first of all begins with the source.
                            Told::Another if sender.is_some() => self.begin_anew(&feed, &mut sender),
                            Told::Another => {}
                        }
                    }
                }
                frame = feed.next() => {
                    let sends = video.filter(|video| video.direction.sends() && !self.numbers.is_lent());
                    let Some(video) = sends else {
                        was_silent = true;
                        continue;
                    };
                    if std::mem::take(&mut was_silent) && !frame.is_key {
                        // Whoever looks again cannot begin in the middle.
                        self.want_key(&feed);
                        was_silent = true;
                        continue;
                    }
                    if sender.is_none() && !frame.is_key {
                        // An encoder that has run before.
                        self.want_key(&feed);
                    }
                    let sender = sender.get_or_insert_with(|| Sender::new(video));
                    was_silent = !self.send(sender, &frame, &agreed).await;
                }
            }
        }
    }

    /// Another peer sees us: it has nothing yet, and what the one before asked for was not for it.
    fn begin_anew(&mut self, feed: &Feed, sender: &mut Option<Sender>) {
        self.is_reached = false;
        self.asked = Some(Instant::now());
        if let Some(sender) = sender {
            sender.forget();
        }
        feed.begin_anew();
    }

    /// The source is not asked more often than it must be.
    fn want_key(&mut self, feed: &Feed) {
        let now = Instant::now();
        if self.asked.is_none_or(|asked| asked + KEY_FRAME_INTERVAL <= now) {
            self.asked = Some(now);
            feed.want_key();
        }
    }

    fn hear(&mut self, told: Feedback, feed: &Feed, sender: &mut Option<Sender>) {
        let now = Instant::now();
        match told {
            Feedback::Bitrate(bits_per_second) => feed.bitrate(bits_per_second),
            Feedback::KeyFrame => {
                self.stats.lock().key_frames_wanted += 1;
                self.want_key(feed);
            }
            Feedback::Lost(lost) => {
                let again = sender.as_mut().map(|sender| sender.again(now.into_std(), &lost));
                for packet in again.unwrap_or_default() {
                    if self.peer.send_video(packet).is_ok() {
                        self.stats.lock().packets_resent += 1;
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether it went; if not, the peer's picture begins with the next key frame.
    async fn send(
        &mut self,
        sender: &mut Sender,
        frame: &VideoFrame,
        agreed: &watch::Receiver<Option<NegotiatedVideo>>,
    ) -> bool {
        let packets = match sender.packets(frame, &self.numbers) {
            Ok(packets) => packets,
            Err(why) => {
                tracing::debug!(call_id = %self.events.call, ?why, length = frame.data.len(), "a frame is not sent");
                self.stats.lock().unsent += 1;
                return true;
            }
        };
        let mut is_whole = true;
        for (index, packet) in packets.into_iter().enumerate() {
            if index % BURST == BURST - 1 {
                sleep(PAUSE).await;
            }
            if index == 0 && !self.is_reached {
                self.is_reached = self.reach(&packet, agreed).await;
                if !self.is_reached {
                    self.stats.lock().unsent += 1;
                    return false;
                }
                continue;
            }
            if let Err(error) = self.peer.send_video(packet) {
                tracing::trace!(call_id = %self.events.call, %error, "a video packet is not sent");
                is_whole = false;
            }
        }
        let mut stats = self.stats.lock();
        stats.frames_sent += 1;
        stats.unsent += u64::from(!is_whole);
        true
    }

    /// The first frame to a peer waits for its path; nothing else does. What is agreed anew meanwhile may have another payload
    /// type, or no video: then this frame is nobody's.
    async fn reach(&self, first: &RtpPacket, agreed: &watch::Receiver<Option<NegotiatedVideo>>) -> bool {
        loop {
            match self.peer.send_video(first.clone()) {
                Ok(()) => return true,
                Err(_) if agreed.has_changed().unwrap_or(true) => return false,
                Err(_) => sleep(PATH_INTERVAL).await,
            }
        }
    }
}

struct Receiving {
    peer: Arc<dyn MediaPeer>,
    queue: Arc<VideoQueue>,
    stats: Arc<Mutex<VideoStats>>,
    events: Arc<Events>,
    viewer: Viewer,
}

/// What becomes of the frames that come.
enum Viewer {
    Frames(Arc<dyn FrameSink>),
    Nobody,
    Recorder(VideoRecorder),
}

impl Viewer {
    fn new(sink: VideoSink, events: &Arc<Events>) -> Self {
        match sink {
            VideoSink::File { path } => Viewer::Recorder(VideoRecorder::new(path, Arc::clone(events))),
            VideoSink::Frames(sink) => Viewer::Frames(sink),
            VideoSink::Null => Viewer::Nobody,
        }
    }

    fn going_on(mut recorder: VideoRecorder, events: &Arc<Events>) -> Self {
        recorder.belongs_to(Arc::clone(events));
        Viewer::Recorder(recorder)
    }
}

impl Receiving {
    async fn run(
        mut self,
        mut video: NegotiatedVideo,
        mut agreed: watch::Receiver<Option<NegotiatedVideo>>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let mut receiver = Receiver::new(video);
        let mut batch = VecDeque::new();
        loop {
            let due = receiver.poll_timeout().map(Instant::from_std);
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = agreed.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if let Some(new) = *agreed.borrow_and_update() {
                        receiver.change(new);
                        video = new;
                    }
                }
                Some(order) = orders.recv() => self.obey(order, &mut receiver),
                () = self.queue.came.notified() => {
                    self.queue.drain(&mut batch);
                    for came in batch.drain(..) {
                        match came {
                            Came::Another => receiver.begin_anew(),
                            Came::Onlooker => receiver.has_onlooker(Instant::now().into_std()),
                            Came::Packet(at, packet) => receiver.push(at.into_std(), packet),
                        }
                    }
                }
                () = wait => receiver.handle_timeout(Instant::now().into_std()),
            }
            while let Some(output) = receiver.poll() {
                match output {
                    Output::Began => self.begin_anew(),
                    Output::Frame(frame) => self.show(video.codec, frame),
                    Output::Tell(Feedback::Bitrate(rate)) => self.limit(rate),
                    Output::Tell(feedback) => self.tell(feedback, receiver.is_beginning()),
                }
            }
            self.count(&receiver);
        }
        if let Viewer::Recorder(recorder) = self.viewer {
            recorder.finish().await;
        }
    }

    fn obey(&mut self, order: Order, receiver: &mut Receiver) {
        match order {
            Order::Take(recorder) => {
                self.viewer = Viewer::going_on(recorder, &self.events);
                // What came until now was nobody's, so that what follows cannot be begun with.
                receiver.want_key(Instant::now().into_std());
            }
            Order::GiveUp(whom) => {
                let given = match std::mem::replace(&mut self.viewer, Viewer::Nobody) {
                    Viewer::Recorder(recorder) => Some(recorder),
                    other => {
                        self.viewer = other;
                        None
                    }
                };
                if let Err(Some(unwanted)) = whom.send(given) {
                    self.viewer = Viewer::Recorder(unwanted);
                }
            }
        }
    }

    /// Another stream comes, whose timestamps have a beginning of their own.
    fn begin_anew(&mut self) {
        if let Viewer::Recorder(recorder) = &mut self.viewer {
            recorder.begin_anew();
        }
    }

    /// Where nobody looks nothing is missed. What a bridge brings to another is asked for by that one, but for what it begins with.
    fn tell(&self, feedback: Feedback, is_beginning: bool) {
        let is_key = feedback == Feedback::KeyFrame;
        let is_missed = match self.viewer {
            Viewer::Nobody => is_key && is_beginning && self.queue.is_passed_on(),
            _ => true,
        };
        if !is_missed {
            return;
        }
        self.stats.lock().key_frames_asked += u64::from(is_key);
        if let Err(error) = self.peer.send_feedback(feedback) {
            tracing::trace!(call_id = %self.events.call, %error, "feedback is not sent");
        }
    }

    /// Whoever looks or not: the path carries audio, too.
    fn limit(&self, carried: u64) {
        let allowed = self.queue.carries(carried);
        self.stats.lock().bitrate_allowed = Some(allowed);
        if let Err(error) = self.peer.send_feedback(Feedback::Bitrate(allowed)) {
            tracing::trace!(call_id = %self.events.call, %error, "feedback is not sent");
        }
    }

    fn show(&mut self, codec: VideoCodec, frame: VideoFrame) {
        if self.stats.lock().frames_received == 0 {
            self.events.emit(SessionEventKind::FirstFrameReceived);
        }
        let is_shown = match &mut self.viewer {
            Viewer::Nobody => true,
            Viewer::Frames(sink) => {
                sink.write(codec, frame);
                true
            }
            Viewer::Recorder(recorder) => recorder.write(Instant::now(), codec, frame),
        };
        if !is_shown {
            self.tell(Feedback::KeyFrame, false);
        }
    }

    fn count(&self, receiver: &Receiver) {
        let counts = receiver.counts;
        let mut stats = self.stats.lock();
        stats.frames_received = counts.frames;
        stats.key_frames_received = counts.key_frames;
        stats.packets_lost = counts.lost;
        stats.packets_recovered = counts.recovered;
        stats.frames_dropped = counts.dropped;
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;

//! A recording of video, on one line of time: what one stream brought, and what the next one brings that takes its place.

use super::VideoFrame;
use super::file::Writer;
use crate::SessionEventKind;
use crate::events::Events;
use parking_lot::Mutex;
use siprtc_core::media::VideoCodec;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// Frames that wait to be written. When there are more, nothing is written until the next key frame.
const UNWRITTEN: usize = 128;

/// A file that grows. It is made with the first frame, and has that one's codec. Dropped, it is complete but for what was not written
/// yet.
pub(crate) struct VideoRecorder {
    path: PathBuf,
    /// Whose it is.
    events: Arc<Mutex<Arc<Events>>>,
    thread: Option<Thread>,
    /// Added to the stream's timestamps, once it has brought a frame.
    shift: Option<u32>,
    /// The last frame's timestamp in the file, and when it came.
    last: Option<(u32, Instant)>,
    /// Nothing can be shown before a key frame.
    needs_key: bool,
}

/// The thread that writes.
struct Thread {
    frames: mpsc::Sender<VideoFrame>,
    handle: JoinHandle<()>,
    codec: VideoCodec,
}

impl VideoRecorder {
    pub(crate) fn new(path: PathBuf, events: Arc<Events>) -> Self {
        VideoRecorder {
            path,
            events: Arc::new(Mutex::new(events)),
            thread: None,
            shift: None,
            last: None,
            needs_key: true,
        }
    }

    /// It goes on in another session, and with another peer's stream.
    pub(crate) fn belongs_to(&mut self, events: Arc<Events>) {
        *self.events.lock() = events;
        self.begin_anew();
    }

    /// Another stream comes, with timestamps and key frames of its own: it follows the one before by as much as time has passed.
    pub(crate) fn begin_anew(&mut self) {
        self.shift = None;
        self.needs_key = true;
    }

    /// `false`: it could not take this one, and needs a key frame. When the codec changes, the file has ended.
    pub(crate) fn write(&mut self, now: Instant, codec: VideoCodec, mut frame: VideoFrame) -> bool {
        let thread = (self.thread).get_or_insert_with(|| Thread::start(&self.path, codec, &self.events));
        if codec != thread.codec || (self.needs_key && !frame.is_key) {
            return true;
        }
        let last = self.last;
        let shift = *self.shift.get_or_insert_with(|| {
            let next = last.map_or(frame.timestamp, |(timestamp, at)| {
                timestamp.wrapping_add(ticks(now, at))
            });
            next.wrapping_sub(frame.timestamp)
        });
        frame.timestamp = frame.timestamp.wrapping_add(shift);
        self.last = Some((frame.timestamp, now));
        self.needs_key = thread.frames.try_send(frame).is_err();
        !self.needs_key || thread.frames.is_closed()
    }

    /// Writes what is left.
    pub(crate) async fn finish(self) {
        if let Some(Thread { frames, handle, .. }) = self.thread {
            drop(frames);
            let _ = handle.await;
        }
    }
}

impl Thread {
    fn start(path: &Path, codec: VideoCodec, events: &Arc<Mutex<Arc<Events>>>) -> Self {
        let (frames, mut waiting) = mpsc::channel::<VideoFrame>(UNWRITTEN);
        let (path, events) = (path.to_owned(), Arc::clone(events));
        let handle = spawn_blocking(move || {
            let mut write = || {
                let mut writer = Writer::create(&path, codec)?;
                while let Some(frame) = waiting.blocking_recv() {
                    writer.write(&frame)?;
                }
                Ok(())
            };
            if let Err(error) = write() {
                let error = Arc::new(error);
                events.lock().emit(SessionEventKind::SinkFailed { error });
            }
        });
        Thread {
            frames,
            handle,
            codec,
        }
    }
}

/// Of the clock of video, which timestamps count; at least one.
fn ticks(now: Instant, before: Instant) -> u32 {
    let passed = now.saturating_duration_since(before).as_micros();
    (passed * u128::from(VideoCodec::CLOCK_RATE) / 1_000_000).max(1) as u32
}

//! The task that brings frames at their time, from a file or the application.

use super::file::Reader;
use super::{VideoFrame, VideoSource};
use crate::SessionEventKind;
use crate::events::Events;
use siprtc_core::media::VideoCodec;
use siprtc_core::{Error, Fault, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

/// Frames that wait for the sender: one that goes out, one that is next.
const AHEAD: usize = 2;
/// A peer that cannot go on may set a file back to the same key frame this often; then it waits for the next one, so that the file
/// is played to its end.
const MOST_REPETITIONS: u32 = 3;

/// What a file hears of whoever looks.
#[derive(Default)]
struct Wishes {
    key: AtomicBool,
    is_another: AtomicBool,
}

/// What a sender has of its source.
pub(crate) struct Feed {
    frames: mpsc::Receiver<VideoFrame>,
    wishes: Arc<Wishes>,
    source: VideoSource,
}

impl Feed {
    /// Begins to bring frames in the codec that `codec` says.
    pub(crate) fn start(
        source: &VideoSource,
        codec: watch::Receiver<VideoCodec>,
        events: Arc<Events>,
    ) -> Self {
        let (sender, frames) = mpsc::channel(AHEAD);
        let wishes = Arc::<Wishes>::default();
        match source.clone() {
            VideoSource::None => {}
            VideoSource::Frames(source) => {
                tokio::spawn(async move {
                    loop {
                        let codec = *codec.borrow();
                        let Some(frame) = source.next(codec).await else {
                            break;
                        };
                        if sender.send(frame).await.is_err() {
                            return;
                        }
                    }
                    events.emit(SessionEventKind::VideoSourceEnded);
                });
            }
            VideoSource::File { path, repeat } => {
                let wishes = Arc::clone(&wishes);
                tokio::spawn(async move {
                    let play = Play {
                        repeat,
                        wishes,
                        sender,
                    };
                    match play.run(path).await {
                        Ok(true) => events.emit(SessionEventKind::VideoSourceEnded),
                        Ok(false) => {}
                        Err(error) => events.emit(SessionEventKind::SourceFailed {
                            error: Arc::new(error),
                        }),
                    }
                });
            }
        }
        Feed {
            frames,
            wishes,
            source: source.clone(),
        }
    }

    /// The next frame, at its time. Never, once there are no more.
    pub(crate) async fn next(&mut self) -> VideoFrame {
        match self.frames.recv().await {
            Some(frame) => frame,
            None => std::future::pending().await,
        }
    }

    /// The peer needs a key frame.
    pub(crate) fn want_key(&self) {
        self.wishes.key.store(true, Ordering::Release);
        if let VideoSource::Frames(source) = &self.source {
            source.key_frame_wanted();
        }
    }

    /// Another peer looks, and needs one: how often the one before it did does not count.
    pub(crate) fn begin_anew(&self) {
        self.wishes.is_another.store(true, Ordering::Release);
        self.want_key();
    }

    pub(crate) fn bitrate(&self, bits_per_second: u64) {
        if let VideoSource::Frames(source) = &self.source {
            source.bitrate(bits_per_second);
        }
    }
}

/// A file that is played.
struct Play {
    repeat: bool,
    wishes: Arc<Wishes>,
    sender: mpsc::Sender<VideoFrame>,
}

impl Play {
    /// `true`: to its end; `false`: nobody takes its frames any more.
    async fn run(self, path: PathBuf) -> Result<bool> {
        let (mut reader, codec) = blocking(move || Reader::open(&path)).await?;
        let begin = Instant::now();
        let mut clock = Clock::default();
        // The key frame that was gone back to last, and how often.
        let mut repeated = (None, 0);
        loop {
            let key = reader.last_key();
            let is_wanted = self.wishes.key.swap(false, Ordering::AcqRel);
            if self.wishes.is_another.swap(false, Ordering::AcqRel) {
                repeated = (None, 0);
            }
            let is_tired = repeated == (key, MOST_REPETITIONS);
            if is_wanted && key.is_some() && !is_tired {
                repeated = (key, if repeated.0 == key { repeated.1 + 1 } else { 1 });
                reader = blocking(move || reader.back().map(|()| reader)).await?;
                clock.jump();
            }
            let next;
            (reader, next) = blocking(move || {
                let next = reader.next(codec)?;
                Ok((reader, next))
            })
            .await?;
            let Some(frame) = next else {
                if !self.repeat || clock.last.is_none() {
                    return Ok(true);
                }
                reader = blocking(move || reader.rewind().map(|()| reader)).await?;
                clock.jump();
                continue;
            };
            let at = clock.stream_time(frame.timestamp);
            sleep_until(begin + Duration::from_micros(at * 100 / 9)).await;
            let timestamp = at as u32;
            if self.sender.send(VideoFrame { timestamp, ..frame }).await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// From a file's timestamps, which jump, to a stream's, which do not.
#[derive(Default)]
struct Clock {
    /// Added to the file's.
    shift: u64,
    /// The last frame's in the stream.
    last: Option<u64>,
    /// Between the last two.
    step: u64,
    goes_on: bool,
}

impl Clock {
    /// The next frame is another than the next one.
    fn jump(&mut self) {
        self.goes_on = false;
    }

    fn stream_time(&mut self, own: u32) -> u64 {
        let own = u64::from(own);
        if !std::mem::replace(&mut self.goes_on, true) {
            let now = self.last.map_or(0, |last| last + self.step.max(1));
            self.shift = now.wrapping_sub(own);
        }
        let mut at = own.wrapping_add(self.shift);
        if let Some(last) = self.last {
            // A file whose time stands still, goes back, or jumps by more than a second is played on at its pace.
            if at <= last || at - last > u64::from(VideoCodec::CLOCK_RATE) {
                at = last + self.step.max(1);
                self.shift = at.wrapping_sub(own);
            }
            self.step = at - last;
        }
        self.last = Some(at);
        at
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| {
        Error::new(Fault::Backend, "read video file", "the reading thread ended").caused_by(error)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_time_goes_on_whatever_the_files_does() {
        let mut clock = Clock::default();
        let mut times = |own: &[u32]| own.iter().map(|own| clock.stream_time(*own)).collect::<Vec<_>>();
        assert_eq!(times(&[9_000, 12_000, 15_000]), [0, 3_000, 6_000]);
        assert_eq!(times(&[15_000, 15_000, 7]), [9_000, 12_000, 15_000]);
        clock.jump();
        assert_eq!(clock.stream_time(9_000), 18_000);
        assert_eq!(clock.stream_time(12_000), 21_000);
        assert_eq!(clock.stream_time(4_000_000_000), 24_000);
    }
}

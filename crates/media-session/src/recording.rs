//! A recording of one side or both, begun and ended while audio runs.

use crate::events::Events;
use crate::tracks::Tracks;
use crate::wav::WavSink;
use crate::{AudioSink, SessionEventKind};
use parking_lot::Mutex;
use siprtc_core::{Error, Fault, Result};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

/// How often audio goes to the file.
const WRITE: Duration = Duration::from_millis(250);
/// A disk that needs longer for that ends the recording.
const SLOW: Duration = Duration::from_secs(5);

/// Whom a recording has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sides {
    /// What is sent on the left, what is received on the right, in stereo and aligned in time.
    #[default]
    Both,
    /// What is received.
    Other,
    /// What is sent: of a bridged call what the other call's peer says.
    Own,
}

impl Sides {
    fn channels(self) -> u16 {
        if self == Sides::Both { 2 } else { 1 }
    }
}

/// A file that grows.
pub(crate) struct Recording {
    shared: Arc<Shared>,
    sides: Sides,
    writer: JoinHandle<Duration>,
}

struct Shared {
    tracks: Mutex<Tracks>,
    began: Instant,
    over: AtomicBool,
    ended: Notify,
    /// Whose it is.
    events: Mutex<Arc<Events>>,
}

impl Recording {
    /// Makes the file, and writes what comes until it is finished or dropped.
    pub(crate) async fn begin(path: PathBuf, sides: Sides, rate: u32, events: Arc<Events>) -> Result<Self> {
        let name = path.clone();
        let sink = spawn_blocking(move || {
            File::create(&path).and_then(|file| WavSink::create(Box::new(file), rate, sides.channels()))
        });
        let sink = sink
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| {
                failed(&name, Fault::ConfigInvalid, error).advice("name a file in a folder that exists")
            })?;
        let shared = Arc::new(Shared {
            tracks: Mutex::new(Tracks::new(rate, usize::from(sides.channels()))),
            began: Instant::now(),
            over: AtomicBool::new(false),
            ended: Notify::new(),
            events: Mutex::new(events),
        });
        let writer = tokio::spawn(write(Arc::clone(&shared), sink, name));
        Ok(Recording {
            shared,
            sides,
            writer,
        })
    }

    /// It goes on in another session.
    pub(crate) fn belongs_to(&self, events: Arc<Events>) {
        *self.shared.events.lock() = events;
    }

    /// Who takes what is sent.
    pub(crate) fn said(&self) -> Option<Arc<dyn AudioSink>> {
        (self.sides != Sides::Other).then(|| self.track(0))
    }

    /// Who takes what is received.
    pub(crate) fn heard(&self) -> Option<Arc<dyn AudioSink>> {
        (self.sides != Sides::Own).then(|| self.track(usize::from(self.sides == Sides::Both)))
    }

    fn track(&self, side: usize) -> Arc<dyn AudioSink> {
        Arc::new(Track {
            shared: Arc::clone(&self.shared),
            side,
        })
    }

    /// Writes the rest, and says how much it was.
    pub(crate) async fn finish(mut self) -> Duration {
        self.shared.end();
        let waited = timeout(SLOW, &mut self.writer).await;
        waited.ok().and_then(|recorded| recorded.ok()).unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_one();
    }
}

struct Track {
    shared: Arc<Shared>,
    side: usize,
}

impl AudioSink for Track {
    fn write(&self, rate: u32, frame: &[i16]) {
        if !self.shared.over.load(Ordering::Acquire) {
            let at = self.shared.began.elapsed();
            self.shared.tracks.lock().put(self.side, at, rate, frame);
        }
    }
}

/// The task: its own clock settles what both sides have said.
async fn write(shared: Arc<Shared>, sink: WavSink, name: PathBuf) -> Duration {
    let mut sink = Some(sink);
    loop {
        // In time or not: what is due is written.
        let _ = timeout(WRITE, shared.ended.notified()).await;
        let is_over = shared.over.load(Ordering::Acquire);
        let mut samples = Vec::new();
        shared
            .tracks
            .lock()
            .take(shared.began.elapsed(), is_over, &mut samples);
        let Some(mut file) = sink.take() else { break };
        let writing = spawn_blocking(move || {
            let result = file.append(&samples);
            (file, result)
        });
        let result = match timeout(SLOW, writing).await {
            Ok(Ok((file, result))) => {
                sink = Some(file);
                result
            }
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the disk is slower than the audio",
            )),
        };
        if let Err(error) = result {
            shared.over.store(true, Ordering::Release);
            let fault = Fault::Backend;
            let error = failed(&name, fault, error).advice("make room on that disk, or record elsewhere");
            let events = Arc::clone(&shared.events.lock());
            tracing::warn!(call_id = %events.call, session = %events.session, %error, "recording failed");
            events.emit(SessionEventKind::SinkFailed {
                error: Arc::new(error),
            });
            break;
        }
        if is_over {
            break;
        }
    }
    shared.tracks.lock().taken()
}

fn failed(path: &Path, fault: Fault, cause: io::Error) -> Error {
    let what = format!("{} cannot be written; what was recorded is kept", path.display());
    Error::new(fault, "record audio", what).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_recording_of_both_sides_is_stereo_and_one_of_one_side_is_not() {
        for (sides, channels) in [(Sides::Both, 2), (Sides::Own, 1), (Sides::Other, 1)] {
            let path = std::env::temp_dir().join(format!("siprtc-rec-{}-{sides:?}.wav", std::process::id()));
            let events = Arc::new(Events::nowhere());
            let recording = Recording::begin(path.clone(), sides, 16_000, events)
                .await
                .unwrap();
            for _ in 0..20 {
                recording.said().inspect(|said| said.write(16_000, &[1_000; 320]));
                recording
                    .heard()
                    .inspect(|heard| heard.write(8_000, &[-1_000; 160]));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let recorded = recording.finish().await;
            assert!(recorded >= Duration::from_millis(390), "{recorded:?}");
            let mut reader = hound::WavReader::open(&path).unwrap();
            assert_eq!(
                (reader.spec().channels, reader.spec().sample_rate),
                (channels, 16_000)
            );
            let samples: Vec<i16> = reader.samples().map(std::result::Result::unwrap).collect();
            let channels = usize::from(channels);
            let (left, right) = (
                samples[4_000 * channels],
                samples[4_000 * channels + channels - 1],
            );
            let loud = |sample: i16, wanted: i16| (sample - wanted).abs() < 100;
            assert!(
                loud(left, if sides == Sides::Other { -1_000 } else { 1_000 }),
                "{left}"
            );
            assert!(
                loud(right, if sides == Sides::Own { 1_000 } else { -1_000 }),
                "{right}"
            );
            std::fs::remove_file(path).unwrap();
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_is_the_configurations_fault() {
        let events = Arc::new(Events::nowhere());
        let begun = Recording::begin("/nonexistent/a.wav".into(), Sides::Both, 8_000, events).await;
        assert_eq!(begun.map(|_| ()).unwrap_err().fault(), Fault::ConfigInvalid);
    }
}

//! The recording: audio gathers in memory and goes to the file on a blocking thread, four times a second.

use crate::codec::to_i16;
use crate::resample::Resampler;
use crate::wav::{Storage, WavSink};
use siprtc_core::{Error, Fault, Result};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};

/// How much audio is gathered before it is written, in milliseconds.
const WRITE_MS: u32 = 250;
/// How much audio may wait for a slow disk, in milliseconds. Beyond it the recording ends with an error.
const BACKLOG_MS: u32 = 5_000;
/// Silence is written in pieces of this many samples; less than one piece is held with the audio.
const SILENCE: usize = 8_000;

type Opener = Box<dyn FnOnce() -> io::Result<Box<dyn Storage>> + Send>;
type Written = (Option<WavSink>, io::Result<()>);

/// Records one call end's audio. The file is created with the first audio, at that audio's rate; audio of another rate
/// is resampled to it.
pub(crate) struct Recorder {
    name: String,
    opener: Option<Opener>,
    sink: Option<WavSink>,
    writing: Option<JoinHandle<Written>>,
    rate: Option<u32>,
    resampler: Option<(u32, Resampler)>,
    waiting: Vec<i16>,
    /// Silence before what waits, in samples.
    lead: u64,
    /// Silence that is written once audio follows it.
    pending_silence: u64,
    accepted: u64,
    failed: bool,
}

impl Recorder {
    /// To a file; an older one is replaced.
    pub(crate) fn to_file(path: &Path) -> Self {
        let target = path.to_owned();
        Recorder::new(
            path.display().to_string(),
            Box::new(move || Ok(Box::new(File::create(target)?) as Box<dyn Storage>)),
        )
    }

    pub(crate) fn new(name: String, opener: Opener) -> Self {
        Recorder {
            name,
            opener: Some(opener),
            sink: None,
            writing: None,
            rate: None,
            resampler: None,
            waiting: Vec::new(),
            lead: 0,
            pending_silence: 0,
            accepted: 0,
            failed: false,
        }
    }

    /// Takes audio. An error is said once; from then on audio is dropped.
    pub(crate) async fn write(&mut self, rate: u32, samples: &[i16]) -> Result<()> {
        if self.failed {
            return Ok(());
        }
        self.catch_up_silence().await?;
        let file_rate = *self.rate.get_or_insert(rate);
        if rate == file_rate {
            self.waiting.extend_from_slice(samples);
            self.accepted += samples.len() as u64;
        } else {
            self.write_resampled(rate, file_rate, samples)?;
        }
        if self.waiting.len() as u64 >= u64::from(file_rate * WRITE_MS) / 1_000 {
            self.hand_over(false).await?;
        }
        Ok(())
    }

    /// Takes silence; it is written once audio follows it, so that a recording does not end in silence that nobody sent.
    pub(crate) fn silence(&mut self, time: Duration) {
        if let (Some(rate), false) = (self.rate, self.failed) {
            self.pending_silence += time.as_micros() as u64 * u64::from(rate) / 1_000_000;
        }
    }

    /// Writes what is left. Blocks no thread, but waits for the disk.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        if self.rate.is_none() {
            return Ok(());
        }
        if self.failed {
            // What was being written when it failed counts as recorded.
            if let Some(Ok((sink, _))) = match self.writing.take() {
                Some(writing) => Some(writing.await),
                None => None,
            } {
                self.sink = sink;
            }
            return Ok(());
        }
        self.hand_over(true).await?;
        self.hand_over(true).await
    }

    /// How much audio was taken.
    pub(crate) fn recorded(&self) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let samples = if self.failed {
            self.sink.as_ref().map_or(0, WavSink::samples)
        } else {
            self.accepted
        };
        Duration::from_micros(samples * 1_000_000 / u64::from(rate))
    }

    fn write_resampled(&mut self, from: u32, to: u32, samples: &[i16]) -> Result<()> {
        if self.resampler.as_ref().is_none_or(|(rate, _)| *rate != from) {
            self.resampler = Some((from, Resampler::new(from, to)?));
        }
        if let Some((_, resampler)) = &mut self.resampler {
            let input: Vec<f32> = samples
                .iter()
                .map(|&sample| f32::from(sample) / 32_768.0)
                .collect();
            let mut output = Vec::new();
            resampler.push(&input, &mut output);
            self.accepted += output.len() as u64;
            self.waiting.extend(output.into_iter().map(to_i16));
        }
        Ok(())
    }

    /// A long pause is not held in memory: the blocking thread makes its silence.
    async fn catch_up_silence(&mut self) -> Result<()> {
        let silence = std::mem::take(&mut self.pending_silence);
        self.accepted += silence;
        if silence <= SILENCE as u64 {
            self.waiting.resize(self.waiting.len() + silence as usize, 0);
            return Ok(());
        }
        self.hand_over(true).await?;
        self.lead += silence;
        Ok(())
    }

    async fn hand_over(&mut self, wait: bool) -> Result<()> {
        if let Some(writing) = &mut self.writing {
            if !wait && !writing.is_finished() {
                return self.check_backlog();
            }
            let finished = writing.await;
            self.writing = None;
            let (sink, result) = finished.unwrap_or_else(|error| (None, Err(io::Error::other(error))));
            self.sink = sink;
            result.map_err(|error| self.fail(error))?;
        }
        if self.waiting.is_empty() && self.lead == 0 {
            return Ok(());
        }
        let (sink, opener, rate) = (self.sink.take(), self.opener.take(), self.rate.unwrap_or(8_000));
        let (lead, samples) = (std::mem::take(&mut self.lead), std::mem::take(&mut self.waiting));
        self.writing = Some(spawn_blocking(move || write(sink, opener, rate, lead, &samples)));
        Ok(())
    }

    fn check_backlog(&mut self) -> Result<()> {
        let allowed = u64::from(self.rate.unwrap_or(8_000)) * u64::from(BACKLOG_MS) / 1_000;
        if self.waiting.len() as u64 <= allowed {
            return Ok(());
        }
        Err(self.fail(io::Error::new(
            io::ErrorKind::TimedOut,
            "the disk is slower than the audio",
        )))
    }

    fn fail(&mut self, cause: io::Error) -> Error {
        self.failed = true;
        self.waiting = Vec::new();
        let what = format!(
            "{} cannot be written; what was recorded is kept, and the call goes on",
            self.name
        );
        let advice = match cause.kind() {
            io::ErrorKind::StorageFull => "make room on that disk, or record elsewhere",
            io::ErrorKind::NotFound => "create the folder first",
            io::ErrorKind::PermissionDenied => "choose a folder that may be written to",
            _ => "record to another disk",
        };
        let fault = match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Fault::ConfigInvalid,
            _ => Fault::Backend,
        };
        Error::new(fault, "record audio", what)
            .advice(advice)
            .caused_by(cause)
    }
}

fn write(sink: Option<WavSink>, opener: Option<Opener>, rate: u32, lead: u64, samples: &[i16]) -> Written {
    let opened = match (sink, opener) {
        (Some(sink), _) => Ok(sink),
        (None, Some(opener)) => opener().and_then(|storage| WavSink::create(storage, rate, 1)),
        (None, None) => Err(io::Error::other("the file is not open")),
    };
    match opened {
        Err(error) => (None, Err(error)),
        Ok(mut sink) => {
            let result = append(&mut sink, lead, samples);
            (Some(sink), result)
        }
    }
}

fn append(sink: &mut WavSink, mut lead: u64, samples: &[i16]) -> io::Result<()> {
    if lead > 0 {
        let zeros = [0; SILENCE];
        while lead > 0 {
            let piece = lead.min(SILENCE as u64);
            sink.append(&zeros[..piece as usize])?;
            lead -= piece;
        }
    }
    if samples.is_empty() {
        Ok(())
    } else {
        sink.append(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav::tests::SmallDisk;
    use std::io::Cursor;

    fn on(disk: &SmallDisk) -> Recorder {
        let disk = disk.clone();
        Recorder::new(
            "small.wav".into(),
            Box::new(move || Ok(Box::new(disk) as Box<dyn Storage>)),
        )
    }

    fn read(disk: &SmallDisk) -> Vec<i16> {
        let bytes = disk.data.lock().get_ref().clone();
        hound::WavReader::new(Cursor::new(bytes))
            .unwrap()
            .into_samples()
            .map(Result::unwrap)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_said_once_and_what_was_recorded_is_kept() {
        let disk = SmallDisk::of(50_000);
        let mut recorder = on(&disk);
        let mut errors = Vec::new();
        for _ in 0..500 {
            errors.extend(recorder.write(8_000, &[9; 160]).await.err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        errors.extend(recorder.finish().await.err());
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("small.wav"), "{}", errors[0]);
        let kept = read(&disk);
        assert!(
            kept.len() > 20_000 && kept.iter().all(|&sample| sample == 9),
            "{}",
            kept.len()
        );
        assert_eq!(
            recorder.recorded(),
            Duration::from_micros(kept.len() as u64 * 125)
        );
    }

    #[tokio::test]
    async fn everything_is_in_the_file_once_it_is_finished() {
        let disk = SmallDisk::of(1 << 20);
        let mut recorder = on(&disk);
        let samples: Vec<i16> = (0..12_345).map(|index| index as i16).collect();
        for piece in samples.chunks(160) {
            recorder.write(8_000, piece).await.unwrap();
        }
        recorder.finish().await.unwrap();
        assert_eq!(read(&disk), samples);
    }

    #[tokio::test]
    async fn silence_is_kept_between_audio_and_left_out_at_the_end() {
        let disk = SmallDisk::of(1 << 20);
        let mut recorder = on(&disk);
        recorder.silence(Duration::from_secs(1));
        recorder.write(8_000, &[1; 160]).await.unwrap();
        recorder.silence(Duration::from_secs(1));
        recorder.write(8_000, &[2; 160]).await.unwrap();
        recorder.silence(Duration::from_millis(3_333));
        recorder.write(8_000, &[3; 160]).await.unwrap();
        recorder.silence(Duration::from_secs(1));
        recorder.finish().await.unwrap();
        let kept = read(&disk);
        let sounds: Vec<_> = (0..kept.len()).filter(|&index| kept[index] != 0).collect();
        assert_eq!(kept.len(), 160 + 8_000 + 160 + 26_664 + 160);
        assert_eq!((sounds[160], sounds[320], sounds.len()), (8_160, 34_984, 480));
        assert_eq!(
            recorder.recorded(),
            Duration::from_micros(kept.len() as u64 * 125)
        );
    }

    #[tokio::test]
    async fn audio_of_another_rate_is_resampled_to_the_first() {
        let disk = SmallDisk::of(1 << 20);
        let mut recorder = on(&disk);
        recorder.write(8_000, &[5; 8_000]).await.unwrap();
        for _ in 0..50 {
            recorder.write(48_000, &[5; 960]).await.unwrap();
        }
        recorder.finish().await.unwrap();
        assert!(read(&disk).len().abs_diff(16_000) < 100);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_a_fault_of_the_configuration() {
        let mut recorder = Recorder::to_file(Path::new("/nonexistent/call.wav"));
        recorder.write(8_000, &[0; 160]).await.unwrap();
        assert_eq!(recorder.finish().await.unwrap_err().fault(), Fault::ConfigInvalid);
    }

    #[tokio::test]
    async fn with_nothing_heard_no_file_is_made() {
        let mut recorder = Recorder::to_file(Path::new("/nonexistent/call.wav"));
        recorder.finish().await.unwrap();
        assert_eq!(recorder.recorded(), Duration::ZERO);
    }
}

//! Where the audio comes from that is sent. Files are read ahead on a blocking thread, a sixth of a second at a time.

use crate::codec::to_i16;
use crate::config::{AudioSource, Source};
use crate::resample::Resampler;
use crate::wav::WavSource;
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// How much of a file is read at a time: what memory a playing file takes goes with it.
const READ_AHEAD_MS: u32 = 160;

/// What a frame is.
#[derive(Debug)]
pub(crate) enum Filled {
    /// Audio.
    Audio,
    /// The file ended in this frame; said once.
    Ended,
    /// The file cannot be read on; said once.
    Failed(Error),
    /// Nothing but zeros.
    Silence,
}

/// An open source.
pub(crate) enum Feed {
    File(Box<FileFeed>),
    Samples(Arc<dyn AudioSource>),
    Silence,
    Tone { hz: f32, amplitude: f32, phase: f32 },
}

impl Feed {
    /// Opens it. Blocks.
    pub(crate) fn open(source: &Source) -> Result<Self> {
        Ok(match source {
            Source::File { path, repeat } => {
                Feed::File(Box::new(FileFeed::new(WavSource::open(path)?, *repeat)))
            }
            Source::Samples(samples) => Feed::Samples(Arc::clone(samples)),
            Source::Silence => Feed::Silence,
            Source::Tone { hz, level_dbfs } => {
                if !(hz.is_finite() && *hz > 0.0 && *hz < 24_000.0 && level_dbfs.is_finite()) {
                    let what = format!("a tone of {hz} Hz at {level_dbfs} dBFS");
                    return Err(Error::new(Fault::ConfigInvalid, "make a tone", what)
                        .advice("choose more than 0 and less than 24000 Hz, and a level of 0 dBFS or less"));
                }
                let amplitude = 32_767.0 * 10f32.powf(level_dbfs.min(0.0) / 20.0);
                Feed::Tone {
                    hz: *hz,
                    amplitude,
                    phase: 0.0,
                }
            }
        })
    }

    /// Fills a frame at `rate`. Waits only when a file is slower than its audio.
    pub(crate) async fn fill(&mut self, rate: u32, frame: &mut [i16]) -> Filled {
        match self {
            Feed::File(file) => file.fill(rate, frame).await,
            Feed::Samples(samples) => {
                let written = samples.read(rate, frame).min(frame.len());
                frame[written..].fill(0);
                Filled::Audio
            }
            Feed::Silence => {
                frame.fill(0);
                Filled::Silence
            }
            Feed::Tone { hz, amplitude, phase } => {
                for sample in frame {
                    *sample = ((*phase * std::f32::consts::TAU).sin() * *amplitude) as i16;
                    *phase = (*phase + *hz / rate as f32).fract();
                }
                Filled::Audio
            }
        }
    }
}

type Chunk = (WavSource, Result<Vec<f32>>);

/// A WAV file being played.
pub(crate) struct FileFeed {
    file_rate: u32,
    repeat: bool,
    reading: Option<JoinHandle<Chunk>>,
    /// Read after the end, or after an error: nothing more comes.
    drained: bool,
    said_end: bool,
    source: Option<WavSource>,
    resampler: Option<(u32, Resampler)>,
    /// At the rate asked for.
    ready: Vec<f32>,
    taken: usize,
}

impl FileFeed {
    fn new(source: WavSource, repeat: bool) -> Self {
        FileFeed {
            file_rate: source.rate(),
            repeat,
            reading: None,
            drained: false,
            said_end: false,
            source: Some(source),
            resampler: None,
            ready: Vec::new(),
            taken: 0,
        }
    }

    async fn fill(&mut self, rate: u32, frame: &mut [i16]) -> Filled {
        let mut failure = None;
        while self.ready.len() - self.taken < frame.len() && !self.drained {
            if let Err(error) = self.more(rate).await {
                failure = Some(error);
                self.drained = true;
                self.said_end = true;
            }
        }
        let count = frame.len().min(self.ready.len() - self.taken);
        for (sample, ready) in frame.iter_mut().zip(&self.ready[self.taken..]) {
            *sample = to_i16(*ready);
        }
        frame[count..].fill(0);
        self.taken += count;
        match failure {
            Some(error) => Filled::Failed(error),
            None if self.drained && self.taken == self.ready.len() && !self.said_end => {
                self.said_end = true;
                Filled::Ended
            }
            None if count == 0 => Filled::Silence,
            None => Filled::Audio,
        }
    }

    /// Takes the chunk that was read ahead, and begins to read the next.
    async fn more(&mut self, rate: u32) -> Result<()> {
        self.begin_reading();
        let Some(reading) = self.reading.as_mut() else {
            self.drained = true;
            return Ok(());
        };
        let finished = reading.await;
        self.reading = None;
        let (source, samples) = finished.map_err(|error| {
            Error::new(Fault::Backend, "read WAV file", "the reading thread ended").caused_by(error)
        })?;
        let samples = samples?;
        self.source = Some(source);
        self.ready.drain(..self.taken);
        self.taken = 0;
        if self.resampler.as_ref().is_none_or(|(to, _)| *to != rate) {
            // What is ready at another rate is less than READ_AHEAD_MS, and is left out when the codec changes.
            self.ready.clear();
            self.resampler = Some((rate, Resampler::new(self.file_rate, rate)?));
        }
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.push(&samples, &mut self.ready);
            if samples.is_empty() {
                resampler.flush(&mut self.ready);
                self.drained = true;
            }
        }
        if !self.drained {
            self.begin_reading();
        }
        Ok(())
    }

    fn begin_reading(&mut self) {
        if let (None, Some(mut source)) = (&self.reading, self.source.take()) {
            let frames = (self.file_rate * READ_AHEAD_MS / 1_000) as usize;
            let repeat = self.repeat;
            self.reading = Some(spawn_blocking(move || {
                let samples = read_chunk(&mut source, frames, repeat);
                (source, samples)
            }));
        }
    }
}

fn read_chunk(source: &mut WavSource, frames: usize, repeat: bool) -> Result<Vec<f32>> {
    let mut samples = Vec::with_capacity(frames);
    source.read(frames, &mut samples)?;
    if repeat && samples.len() < frames {
        source.rewind()?;
        let missing = frames - samples.len();
        source.read(missing, &mut samples)?;
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{delayed_correlation, speech};
    use std::path::{Path, PathBuf};

    fn wav(name: &str, rate: u32, samples: &[i16]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("siprtc-source-{}-{name}.wav", std::process::id()));
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        samples
            .iter()
            .for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        path
    }

    fn file(path: &Path, repeat: bool) -> Feed {
        Feed::open(&Source::File {
            path: path.to_owned(),
            repeat,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_file_at_the_codecs_rate_is_played_sample_for_sample_and_its_end_is_said_once() {
        let original = speech(16_000, 1.234);
        let path = wav("exact", 16_000, &original);
        let mut feed = file(&path, false);
        let (mut played, mut ends) = (Vec::new(), 0);
        for _ in 0..100 {
            let mut frame = [1; 320];
            ends += usize::from(matches!(feed.fill(16_000, &mut frame).await, Filled::Ended));
            played.extend_from_slice(&frame);
        }
        assert_eq!(ends, 1);
        assert_eq!(played[..original.len()], original[..]);
        assert!(played[original.len()..].iter().all(|&sample| sample == 0));
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_file_at_another_rate_keeps_its_length() {
        let path = wav("resampled", 44_100, &speech(44_100, 1.0));
        let mut feed = file(&path, false);
        let mut played = Vec::new();
        loop {
            let mut frame = [0; 160];
            let filled = feed.fill(8_000, &mut frame).await;
            played.extend_from_slice(&frame);
            if matches!(filled, Filled::Ended) {
                break;
            }
        }
        assert!(played.len().abs_diff(8_000) <= 160, "{}", played.len());
        let truth = speech(8_000, 1.0);
        let correlation =
            delayed_correlation(&truth, &played, 2).max(delayed_correlation(&played, &truth, 2));
        assert!(correlation > 0.95, "{correlation}");
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_repeated_file_has_no_gap() {
        let original = speech(8_000, 0.3);
        let path = wav("repeated", 8_000, &original);
        let mut feed = file(&path, true);
        let mut played = Vec::new();
        for _ in 0..100 {
            let mut frame = [0; 160];
            assert!(matches!(feed.fill(8_000, &mut frame).await, Filled::Audio));
            played.extend_from_slice(&frame);
        }
        for (index, sample) in played.iter().enumerate() {
            assert_eq!(*sample, original[index % original.len()], "at {index}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn an_empty_file_ends_at_once_even_if_it_shall_be_repeated() {
        let path = wav("empty", 8_000, &[]);
        for repeat in [false, true] {
            let mut feed = file(&path, repeat);
            let mut frame = [1; 160];
            assert!(matches!(feed.fill(8_000, &mut frame).await, Filled::Ended));
            assert_eq!(frame, [0; 160]);
            assert!(matches!(feed.fill(8_000, &mut frame).await, Filled::Silence));
        }
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_tone_has_its_frequency_and_level_and_does_not_jump_between_frames() {
        let mut feed = Feed::open(&Source::Tone {
            hz: 440.0,
            level_dbfs: -6.0,
        })
        .unwrap();
        let mut played = Vec::new();
        for _ in 0..50 {
            let mut frame = [0; 960];
            feed.fill(48_000, &mut frame).await;
            played.extend_from_slice(&frame);
        }
        let crossings = played
            .windows(2)
            .filter(|pair| pair[0] < 0 && pair[1] >= 0)
            .count();
        assert!((439..=441).contains(&crossings), "{crossings}");
        let loudest = played.iter().max().copied().unwrap();
        assert!((16_300..=16_500).contains(&loudest), "{loudest}");
        let steepest = played
            .windows(2)
            .map(|pair| pair[0].abs_diff(pair[1]))
            .max()
            .unwrap();
        assert!(steepest < 1_000, "{steepest}");
    }

    #[test]
    fn a_tone_that_cannot_be_is_a_fault_of_the_configuration() {
        for hz in [0.0, -1.0, f32::NAN, 30_000.0] {
            let error = Feed::open(&Source::Tone { hz, level_dbfs: 0.0 })
                .map(|_| ())
                .unwrap_err();
            assert_eq!(error.fault(), Fault::ConfigInvalid);
        }
    }
}

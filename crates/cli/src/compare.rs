//! How alike two recordings are: what was played, and what was heard after codecs, network and jitter buffer.
//!
//! A jitter buffer may shift the timeline by some milliseconds in the middle, so the recording is held against the
//! original in pieces: each piece may lie a little off where the whole does.

use siprtc_core::{Error, Fault, Result};
use std::path::Path;
use std::time::Duration;

/// The least correlation that counts as the same.
pub(crate) const ENOUGH: f64 = 0.85;
/// How much longer or shorter the recording may be.
pub(crate) const LENGTH_TOLERANCE: Duration = Duration::from_millis(700);

/// Both files are brought to this rate: telephone speech, and fast to correlate.
const RATE: usize = 8_000;
/// Length of a piece.
const PIECE: usize = RATE / 2;
/// How far a piece may lie off.
const SLACK: usize = RATE / 10;
/// How far the whole may lie off: what a recording may begin with before the first sound.
const MOST_DELAY: usize = 3 * RATE;
/// Longest stretch that is compared.
const MOST_SAMPLES: usize = 120 * RATE;

/// What the comparison found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Likeness {
    /// The middle one of the pieces' correlations, 1 is the same.
    pub(crate) correlation: f64,
    /// How much later than in the original the recording begins, in seconds; negative: its start is missing.
    pub(crate) delay: f64,
    /// The original's length in seconds.
    pub(crate) played: f64,
    /// How much of the original is there, in seconds: the pieces that correlate.
    pub(crate) found: f64,
    /// The recording's length in seconds.
    pub(crate) heard: f64,
}

impl Likeness {
    /// Same sound, and as good as all of it.
    pub(crate) fn is_same(&self, least: f64) -> bool {
        self.correlation >= least && self.played - self.found <= LENGTH_TOLERANCE.as_secs_f64()
    }
}

/// Compares two WAV files of any rate.
pub(crate) fn compare(played: &Path, heard: &Path) -> Result<Likeness> {
    let (original, recording) = (read(played)?, read(heard)?);
    if original.len() < PIECE || recording.len() < PIECE {
        return Err(Error::new(
            Fault::PeerIncompatible,
            "compare recordings",
            format!(
                "played {:.2} s and heard {:.2} s are too short",
                seconds(original.len()),
                seconds(recording.len())
            ),
        )
        .advice("half a second is the least that can be compared"));
    }
    let delay = whole_delay(&original, &recording);
    let mut correlations = Vec::new();
    for start in (0..=original.len() - PIECE).step_by(PIECE) {
        let piece = &original[start..start + PIECE];
        if energy(piece) / (PIECE as f64) < 1e-6 {
            continue; // Silence is like everything.
        }
        let at = start as isize + delay;
        let best = (at - SLACK as isize..=at + SLACK as isize)
            .filter_map(|lag| recording.get(usize::try_from(lag).ok()?..)?.get(..PIECE))
            .map(|stretch| correlation(piece, stretch))
            .fold(0.0f64, f64::max);
        correlations.push(best);
    }
    if correlations.is_empty() {
        return Err(Error::new(
            Fault::ApiMisuse,
            "compare recordings",
            format!("{} is silent", played.display()),
        )
        .advice("play something that can be heard"));
    }
    let found = correlations
        .iter()
        .filter(|value| **value >= ENOUGH * 0.8)
        .count() as f64
        / correlations.len() as f64;
    correlations.sort_by(f64::total_cmp);
    Ok(Likeness {
        correlation: correlations[correlations.len() / 2],
        delay: delay as f64 / RATE as f64,
        played: seconds(original.len()),
        found: found * seconds(original.len()),
        heard: seconds(recording.len()),
    })
}

fn seconds(samples: usize) -> f64 {
    samples as f64 / RATE as f64
}

/// Where the loudest piece of the original is found in the recording.
fn whole_delay(original: &[f32], recording: &[f32]) -> isize {
    let loudest = (0..=original.len() - PIECE)
        .step_by(PIECE / 2)
        .max_by(|a, b| energy(&original[*a..*a + PIECE]).total_cmp(&energy(&original[*b..*b + PIECE])))
        .unwrap_or(0);
    let piece = &original[loudest..loudest + PIECE];
    let first = loudest.saturating_sub(MOST_DELAY);
    let last = (loudest + MOST_DELAY).min(recording.len().saturating_sub(PIECE));
    let score = |at: usize| correlation(piece, &recording[at..at + PIECE]);
    (first.min(last)..=last)
        .map(|at| (at, score(at)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(0, |(at, _)| at as isize - loudest as isize)
}

fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum()
}

fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let scale = (energy(a) * energy(b)).sqrt();
    if scale < 1e-9 {
        0.0
    } else {
        f64::from(product) / scale
    }
}

/// Any WAV as mono at [`RATE`], by averaging: what lies above telephone speech is not compared.
fn read(path: &Path) -> Result<Vec<f32>> {
    let failed = |error: hound::Error| {
        Error::new(Fault::ConfigInvalid, "read WAV", path.display().to_string())
            .caused_by(error)
            .advice("give a readable WAV file")
    };
    let mut reader = hound::WavReader::open(path).map_err(failed)?;
    let spec = reader.spec();
    let samples: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().collect(),
        hound::SampleFormat::Int => {
            let full = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader
                .samples::<i32>()
                .map(|sample| sample.map(|sample| sample as f32 / full))
                .collect()
        }
    };
    let samples = samples.map_err(failed)?;
    let channels = usize::from(spec.channels.max(1));
    let frames = samples.len() / channels;
    let step = f64::from(spec.sample_rate.max(1)) / RATE as f64;
    let length = ((frames as f64 / step) as usize).min(MOST_SAMPLES);
    let mean = |range: std::ops::Range<usize>| {
        let slice = &samples[range.start * channels..range.end * channels];
        slice.iter().sum::<f32>() / slice.len().max(1) as f32
    };
    Ok((0..length)
        .map(|n| {
            let start = ((n as f64 * step) as usize).min(frames.saturating_sub(1));
            let end = (((n + 1) as f64 * step) as usize).clamp(start + 1, frames.max(start + 1));
            mean(start..end.min(frames))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn song_and(change: impl Fn(Vec<i16>) -> Vec<i16>) -> Likeness {
        let folder = std::env::temp_dir().join(format!(
            "siprtc-compare-{}-{}",
            std::process::id(),
            rand::random::<u64>()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let (played, heard) = (folder.join("played.wav"), folder.join("heard.wav"));
        crate::song::write(&played).unwrap();
        let mut reader = hound::WavReader::open(&played).unwrap();
        let samples = change(reader.samples::<i16>().map(Result::unwrap).collect());
        let mut writer = hound::WavWriter::create(&heard, reader.spec()).unwrap();
        samples
            .into_iter()
            .for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        let likeness = compare(&played, &heard).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        likeness
    }

    #[test]
    fn a_delayed_quieter_copy_is_the_same() {
        let likeness = song_and(|s| {
            std::iter::repeat_n(0, 24_000)
                .chain(s.into_iter().map(|v| v / 2))
                .collect()
        });
        assert!(likeness.is_same(0.99), "{likeness:?}");
        assert!((likeness.delay - 0.5).abs() < 0.01, "{likeness:?}");
    }

    #[test]
    fn noise_is_not_the_same() {
        let likeness = song_and(|s| {
            let mut seed = 1u32;
            s.iter()
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 18) as i16
                })
                .collect()
        });
        assert!(!likeness.is_same(ENOUGH), "{likeness:?}");
    }

    #[test]
    fn a_recording_that_stops_in_the_middle_is_not_the_same() {
        let likeness = song_and(|s| s[..s.len() / 2].to_vec());
        assert!(!likeness.is_same(ENOUGH), "{likeness:?}");
    }

    #[test]
    fn another_note_order_is_not_the_same() {
        let likeness = song_and(|mut s| {
            s.reverse();
            s
        });
        assert!(!likeness.is_same(ENOUGH), "{likeness:?}");
    }

    #[test]
    fn ten_milliseconds_inserted_in_the_middle_are_forgiven() {
        let likeness = song_and(|s| [&s[..96_000], &s[95_520..]].concat());
        assert!(likeness.is_same(ENOUGH), "{likeness:?}");
    }
}

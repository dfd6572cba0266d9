//! Sound: tunes to play, and two independent judgements of what was heard.

use crate::program::Siprtc;
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use std::f64::consts::TAU;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Samples per second of the tunes.
const RATE: u32 = 48_000;
/// How long a note sounds, in seconds.
const NOTE: f64 = 0.4;
/// The notes, in hertz: within telephone speech, none an overtone of another.
const SCALE: [f64; 6] = [440.0, 554.0, 698.0, 932.0, 1175.0, 1480.0];
/// A caller's tune, as places in the scale.
pub const CALLER: [usize; 10] = [0, 2, 4, 1, 3, 5, 2, 0, 3, 1];
/// A callee's tune.
pub const CALLEE: [usize; 10] = [5, 3, 1, 4, 0, 2, 5, 4, 1, 3];

/// Writes a tune as a WAV file of 4 s.
pub fn write_tune(path: &Path, tune: &[usize]) {
    write_tune_and_silence(path, tune, 0.0);
}

/// Writes a tune and some seconds of silence after it, for those who hang up when their file is over.
pub fn write_tune_and_silence(path: &Path, tune: &[usize], seconds: f64) {
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let failed = |error: hound::Error| -> ! { panic!("cannot write {}: {error}", path.display()) };
    let mut writer = WavWriter::create(path, spec).unwrap_or_else(|error| failed(error));
    let length = (NOTE * f64::from(RATE)) as usize;
    for note in tune {
        for n in 0..length {
            let t = n as f64 / f64::from(RATE);
            // Attack and release, so that no note begins or ends with a click.
            let loudness = (t / 0.02).min((NOTE - t) / 0.05).clamp(0.0, 1.0);
            let value = (SCALE[*note] * t * TAU).sin() * loudness * 11_000.0;
            writer
                .write_sample(value as i16)
                .unwrap_or_else(|error| failed(error));
        }
    }
    for _ in 0..(seconds * f64::from(RATE)) as usize {
        writer.write_sample(0i16).unwrap_or_else(|error| failed(error));
    }
    writer.finalize().unwrap_or_else(|error| failed(error));
}

/// Writes a tone of so many seconds, the first note of the scale, and silence after it.
pub fn write_tone(path: &Path, seconds: f64, silence: f64) {
    let (tone, silence) = (
        (seconds * f64::from(RATE)) as usize,
        (silence * f64::from(RATE)) as usize,
    );
    let value = |n: usize| (SCALE[0] * n as f64 / f64::from(RATE) * TAU).sin() * 11_000.0;
    let samples = (0..tone).map(value).chain(std::iter::repeat_n(0.0, silence));
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let write = || -> hound::Result<()> {
        let mut writer = WavWriter::create(path, spec)?;
        for sample in samples {
            writer.write_sample(sample as i16)?;
        }
        writer.finalize()
    };
    write().unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// A tune's samples, 16 bit at 48 kHz.
pub fn samples(path: &Path) -> Vec<i16> {
    let (rate, samples) = read(path);
    assert_eq!(rate, f64::from(RATE), "{}", path.display());
    samples
        .into_iter()
        .map(|sample| (sample * 32_768.0) as i16)
        .collect()
}

/// Writes samples of 48 kHz as a WAV file.
pub fn write_samples(path: &Path, samples: &[i16]) {
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let write = || -> hound::Result<()> {
        let mut writer = WavWriter::create(path, spec)?;
        for sample in samples {
            writer.write_sample(*sample)?;
        }
        writer.finalize()
    };
    write().unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// How much of a tone by [`write_tone`] a recording holds.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    /// Seconds of it.
    pub heard: f64,
    /// The longest time without it between its first and its last second.
    pub gap: f64,
}

/// Looks for the tone in windows of 50 ms.
pub fn tone(path: &Path) -> Tone {
    let (rate, samples) = read(path);
    let windows = samples.chunks_exact((rate / 20.0) as usize);
    let is_tone: Vec<bool> = windows.map(|window| note(window, rate) == Some(0)).collect();
    let seconds = |windows: usize| windows as f64 / 20.0;
    let places: Vec<usize> = (0..is_tone.len()).filter(|place| is_tone[*place]).collect();
    let gaps = places.windows(2).map(|pair| pair[1] - pair[0] - 1);
    Tone {
        heard: seconds(places.len()),
        gap: seconds(gaps.max().unwrap_or(0)),
    }
}

/// Asserts that `heard` holds the tune of `played`: by correlation, by its notes, and by sox.
pub fn assert_heard(tune: &[usize], played: &Path, heard: &Path) {
    let compared = Siprtc::run(
        &[
            "compare",
            &played.display().to_string(),
            &heard.display().to_string(),
        ],
        Duration::from_secs(60),
    );
    compared.exits_with(0);
    let notes = notes(heard);
    let want = collapsed(tune);
    assert!(
        notes.windows(want.len()).any(|window| window == want),
        "{}: the tune {want:?} is not among the notes heard: {notes:?}",
        heard.display()
    );
    let seconds = sox_seconds(heard);
    assert!(seconds >= 3.5, "{}: sox finds {seconds} s in it", heard.display());
}

/// The length of a WAV file by sox, which fails on a file whose header is wrong.
pub fn sox_seconds(path: &Path) -> f64 {
    let output = Command::new("sox").args(["--i", "-D"]).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("sox does not start: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| {
        panic!(
            "sox on {}: {text} {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The notes of a recording in their order, without repetitions: whatever is neither quiet nor a mixture.
pub fn notes(path: &Path) -> Vec<usize> {
    let (rate, samples) = read(path);
    let window = (rate / 20.0) as usize;
    let heard: Vec<usize> = samples
        .chunks_exact(window)
        .filter_map(|chunk| note(chunk, rate))
        .collect();
    // A note lasts eight windows: three alike are a note, fewer are a passage between two.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for note in heard {
        match runs.last_mut() {
            Some((last, count)) if *last == note => *count += 1,
            _ => runs.push((note, 1)),
        }
    }
    let long: Vec<usize> = runs
        .into_iter()
        .filter(|(_, count)| *count >= 3)
        .map(|(note, _)| note)
        .collect();
    collapsed(&long)
}

fn collapsed(notes: &[usize]) -> Vec<usize> {
    let mut notes = notes.to_vec();
    notes.dedup();
    notes
}

fn note(window: &[f64], rate: f64) -> Option<usize> {
    let energy: f64 = window.iter().map(|s| s * s).sum();
    if energy / (window.len() as f64) < 1e-4 {
        return None;
    }
    let shares = SCALE.map(|hz| share(window, rate, hz));
    let (best, share) = shares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    (*share > 0.6).then_some(best)
}

/// How much of the energy lies at one frequency, by Goertzel's algorithm.
fn share(window: &[f64], rate: f64, hz: f64) -> f64 {
    let turn = 2.0 * (TAU * hz / rate).cos();
    let (mut before, mut last) = (0.0, 0.0);
    for sample in window {
        (before, last) = (last, sample + turn * last - before);
    }
    let power = before * before + last * last - turn * before * last;
    let energy: f64 = window.iter().map(|s| s * s).sum();
    if energy <= 0.0 {
        0.0
    } else {
        power * 2.0 / (window.len() as f64) / energy
    }
}

/// Any WAV as mono from -1 to 1, with its rate.
fn read(path: &Path) -> (f64, Vec<f64>) {
    let failed = |error: hound::Error| -> ! { panic!("cannot read {}: {error}", path.display()) };
    let mut reader = WavReader::open(path).unwrap_or_else(|error| failed(error));
    let spec = reader.spec();
    let full = 2f64.powi(i32::from(spec.bits_per_sample) - 1);
    let samples: Vec<f64> = match spec.sample_format {
        SampleFormat::Float => reader
            .samples::<f32>()
            .map_while(Result::ok)
            .map(f64::from)
            .collect(),
        SampleFormat::Int => reader
            .samples::<i32>()
            .map_while(Result::ok)
            .map(|s| f64::from(s) / full)
            .collect(),
    };
    let mono = samples
        .into_iter()
        .step_by(usize::from(spec.channels.max(1)))
        .collect();
    (f64::from(spec.sample_rate), mono)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn a_tune_is_known_by_its_notes() {
        let folder = Folder::new("tune");
        let path = folder.join("tune.wav");
        write_tune(&path, &CALLER);
        assert_eq!(notes(&path), CALLER);
        assert!((sox_seconds(&path) - 4.0).abs() < 0.01);
    }

    #[test]
    fn a_tone_and_the_gap_in_it_are_measured() {
        let folder = Folder::new("tone");
        let path = folder.join("tone.wav");
        write_tone(&path, 2.0, 1.0);
        let whole = tone(&path);
        assert!(
            (1.9..=2.05).contains(&whole.heard) && whole.gap == 0.0,
            "{whole:?}"
        );
        // Its first note is the tone, and so is its eighth, 2.4 s later.
        write_tune(&path, &CALLER);
        let parts = tone(&path);
        assert!(
            (0.6..=0.9).contains(&parts.heard) && (2.2..=2.6).contains(&parts.gap),
            "{parts:?}"
        );
    }

    #[test]
    fn the_two_tunes_are_not_taken_for_each_other() {
        let folder = Folder::new("tunes");
        let path = folder.join("tune.wav");
        write_tune(&path, &CALLEE);
        assert_ne!(notes(&path), CALLER);
        assert_eq!(notes(&path), CALLEE);
    }
}

//! A made-up song: something to play when nobody brings a WAV. Two voices with vibrato and an envelope, so that every
//! stretch of it is different from every other and a recording can be held against it.

use siprtc_core::{Error, Fault, Result};
use std::f32::consts::TAU;
use std::path::Path;

const RATE: u32 = 48_000;
const NOTE_SECONDS: f32 = 0.25;
/// Semitones above A3, a note each.
const MELODY: [i32; 16] = [0, 7, 3, 10, 5, 12, 2, 9, 14, 4, 11, 1, 8, 15, 6, 13];

/// Writes the song, 16-bit mono at 48 kHz, four seconds.
pub(crate) fn write(path: &Path) -> Result<()> {
    let failed = |error: hound::Error| {
        Error::new(Fault::ConfigInvalid, "write the song", path.display().to_string())
            .caused_by(error)
            .advice("choose a folder that can be written, with --out")
    };
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).map_err(failed)?;
    let (mut low, mut high) = (0.0f32, 0.0f32);
    for n in 0..(RATE as f32 * NOTE_SECONDS) as u32 * MELODY.len() as u32 {
        let t = n as f32 / RATE as f32;
        let (note, within) = (
            (t / NOTE_SECONDS) as usize % MELODY.len(),
            (t % NOTE_SECONDS) / NOTE_SECONDS,
        );
        let pitch = 220.0 * 2f32.powf(MELODY[note] as f32 / 12.0) * (1.0 + 0.01 * (TAU * 5.5 * t).sin());
        low = (low + pitch / RATE as f32).fract();
        high = (high + 1.5 * pitch / RATE as f32).fract();
        let envelope = (within * 20.0).min(1.0) * (1.0 - within).powf(0.5);
        let voice = (TAU * low).sin() + 0.4 * (2.0 * TAU * low).sin() + 0.3 * (TAU * high).sin();
        writer
            .write_sample((voice * envelope * 0.35 * f32::from(i16::MAX)) as i16)
            .map_err(failed)?;
    }
    writer.finalize().map_err(failed)
}

//! A stream at one rate becomes a stream at another, without drift and without the filter's delay.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, WindowFunction};
use siprtc_core::{Error, Fault, Result};

/// Taps of the filter when rates go up; as many more as the ratio says when they go down, so that nothing folds back.
const TAPS: usize = 64;

/// Mono, of any pair of rates.
pub(crate) struct Resampler {
    /// `None` when the rates are equal.
    inner: Option<Inner>,
}

struct Inner {
    filter: Async<f32>,
    chunk: usize,
    waiting: Vec<f32>,
    output: Vec<f32>,
    /// Output samples that are only the filter's delay.
    skip: usize,
    ratio: f64,
    /// Input samples ever taken, and output samples ever given.
    taken: u64,
    given: u64,
}

impl Resampler {
    pub(crate) fn new(from: u32, to: u32) -> Result<Self> {
        if from == to {
            return Ok(Resampler { inner: None });
        }
        let ratio = f64::from(to) / f64::from(from);
        let down = (f64::from(from) / f64::from(to)).ceil().max(1.0) as usize;
        let parameters = SincInterpolationParameters::new(TAPS * down, WindowFunction::BlackmanHarris2)
            .oversampling_factor((128 / down).max(16));
        let chunk = (from as usize / 100).max(1);
        let filter =
            Async::new_sinc(ratio, 1.0, &parameters, chunk, 1, FixedAsync::Input).map_err(|error| {
                Error::new(
                    Fault::ConfigInvalid,
                    "resample audio",
                    format!("{from} Hz cannot become {to} Hz"),
                )
                .caused_by(error)
            })?;
        let delay = filter.output_delay();
        let output = vec![0.0; filter.output_frames_max()];
        Ok(Resampler {
            inner: Some(Inner {
                filter,
                chunk,
                waiting: Vec::new(),
                output,
                skip: delay,
                ratio,
                taken: 0,
                given: 0,
            }),
        })
    }

    /// Takes samples and appends those that are ready.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        match &mut self.inner {
            None => out.extend_from_slice(samples),
            Some(inner) => inner.push(samples, out),
        }
    }

    /// Appends what the filter still holds.
    pub(crate) fn flush(&mut self, out: &mut Vec<f32>) {
        if let Some(inner) = &mut self.inner {
            let wanted = (inner.taken as f64 * inner.ratio).round() as u64;
            let missing = wanted.saturating_sub(inner.given) as usize;
            let end = out.len() + missing;
            let held = (missing as f64 / inner.ratio).ceil() as usize;
            inner.push(
                &vec![0.0; held + 2 * inner.chunk + inner.filter.output_delay()],
                out,
            );
            out.truncate(end);
        }
    }
}

impl Inner {
    fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.waiting.extend_from_slice(samples);
        self.taken += samples.len() as u64;
        let mut done = 0;
        while self.waiting.len() - done >= self.chunk {
            self.chunk_at(done, out);
            done += self.chunk;
        }
        self.waiting.drain(..done);
    }

    fn chunk_at(&mut self, at: usize, out: &mut Vec<f32>) {
        let capacity = self.output.len();
        let input = InterleavedSlice::new(&self.waiting[at..at + self.chunk], 1, self.chunk)
            .expect("BUG: the slice is one chunk long");
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, capacity)
            .expect("BUG: the slice is as long as said");
        let (_, written) = self
            .filter
            .process_into_buffer(&input, &mut output, Some(&Indexing::new()))
            .expect("BUG: both buffers are large enough");
        let skipped = self.skip.min(written);
        self.skip -= skipped;
        self.given += (written - skipped) as u64;
        out.extend_from_slice(&self.output[skipped..written]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::to_i16;
    use crate::signal::{delayed_correlation, tone};

    fn through(from: u32, to: u32, hz: f64) -> Vec<i16> {
        let input: Vec<f32> = tone(from, hz, 1.0)
            .iter()
            .map(|&sample| f32::from(sample) / 32_768.0)
            .collect();
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        for piece in input.chunks(777) {
            resampler.push(piece, &mut out);
        }
        resampler.flush(&mut out);
        out.into_iter().map(to_i16).collect()
    }

    #[test]
    fn a_tone_keeps_its_pitch_length_and_place_at_every_pair_of_rates() {
        for from in [8_000, 11_025, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000] {
            for to in [8_000, 16_000, 48_000] {
                let out = through(from, to, 440.0);
                assert!(
                    out.len().abs_diff(to as usize) <= 2,
                    "{from} to {to}: {}",
                    out.len()
                );
                let truth = tone(to, 440.0, 1.0);
                let correlation =
                    delayed_correlation(&truth, &out, 1).max(delayed_correlation(&out, &truth, 1));
                assert!(correlation > 0.98, "{from} to {to}: {correlation}");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_does_not_fold_back() {
        let out = through(48_000, 8_000, 6_000.0);
        let loudest = out[100..out.len() - 100]
            .iter()
            .map(|sample| sample.unsigned_abs())
            .max()
            .unwrap();
        assert!(loudest < 160, "{loudest} of 16000");
    }
}

//! From one codec's rate to another's: 8, 16 and 48 kHz are whole multiples of each other, so that a filter with a fixed
//! set of phases does it, gives exactly as many samples as the ratio says, and costs a tenth of an arbitrary ratio.
//!
//! Unlike [`crate::resample::Resampler`] it keeps the filter's delay (half of [`TAPS`] at the lower rate, 3 ms at 8 kHz):
//! a packet that goes in comes out as a packet at once, where taking the delay out would hold each one back until the
//! next.

use std::sync::{Arc, OnceLock};

/// Taps of the filter at the lower rate.
const TAPS: usize = 48;
/// The middle of the filter's slope, of the lower rate: 3.68 kHz of 8 kHz. What folds back is what lies above 4 kHz.
const CUTOFF: f64 = 0.46;
/// Kaiser's shape: 70 dB of attenuation.
const BETA: f64 = 6.8;
/// How many products are summed side by side, so that the compiler makes vectors of them.
const LANES: usize = 8;

/// Mono, between 8, 16 and 48 kHz.
pub(crate) struct Polyphase {
    from: u32,
    to: u32,
    work: Work,
}

enum Work {
    Copy,
    /// Many samples become one: the filter, reversed.
    Down {
        ratio: usize,
        filter: Arc<Vec<f32>>,
        line: Vec<f32>,
    },
    /// One sample becomes many: one reversed filter for each.
    Up {
        phases: Arc<Vec<Vec<f32>>>,
        line: Vec<f32>,
    },
}

impl Polyphase {
    /// Rates that are no whole multiples of each other are copied as they are; no codec has such.
    pub(crate) fn new(from: u32, to: u32) -> Self {
        let work = if from > to && from.is_multiple_of(to.max(1)) {
            let ratio = (from / to.max(1)) as usize;
            let filter = filters(ratio).0;
            let line = vec![0.0; filter.len() - 1];
            Work::Down { ratio, filter, line }
        } else if to > from && to.is_multiple_of(from.max(1)) {
            let phases = filters((to / from.max(1)) as usize).1;
            let line = vec![0.0; TAPS - 1];
            Work::Up { phases, line }
        } else {
            Work::Copy
        };
        Polyphase { from, to, work }
    }

    pub(crate) fn rates(&self) -> (u32, u32) {
        (self.from, self.to)
    }

    /// Takes samples and appends those they become: of a multiple of the ratio (every packet is one) exactly their share.
    pub(crate) fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        match &mut self.work {
            Work::Copy => out.extend_from_slice(samples),
            Work::Down { ratio, filter, line } => {
                line.extend(samples.iter().map(|&sample| f32::from(sample)));
                let whole = (line.len() + 1).saturating_sub(filter.len()) / *ratio;
                let windows = line.windows(filter.len()).step_by(*ratio).take(whole);
                out.extend(windows.map(|window| dot(window, filter) as i16));
                line.drain(..whole * *ratio);
            }
            Work::Up { phases, line } => {
                line.extend(samples.iter().map(|&sample| f32::from(sample)));
                for window in line.windows(TAPS) {
                    out.extend(phases.iter().map(|phase| dot(window, phase) as i16));
                }
                let done = line.len() + 1 - TAPS;
                line.drain(..done);
            }
        }
    }
}

fn dot(window: &[f32], filter: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for (samples, taps) in window.chunks_exact(LANES).zip(filter.chunks_exact(LANES)) {
        for ((sum, sample), tap) in sums.iter_mut().zip(samples).zip(taps) {
            *sum += sample * tap;
        }
    }
    sums.iter().sum()
}

type Filters = (Arc<Vec<f32>>, Arc<Vec<Vec<f32>>>);

/// The filter of a ratio, whole for going down and in phases for going up: made once in a process.
fn filters(ratio: usize) -> Filters {
    static MADE: [OnceLock<Filters>; 3] = [const { OnceLock::new() }; 3];
    let place = match ratio {
        2 => 0,
        3 => 1,
        6 => 2,
        _ => return make(ratio),
    };
    MADE[place].get_or_init(|| make(ratio)).clone()
}

fn make(ratio: usize) -> Filters {
    let length = TAPS * ratio;
    // On a sample: the delay is a whole number of them at either rate.
    let middle = (length / 2) as f64;
    let cutoff = CUTOFF / ratio as f64;
    let taps: Vec<f64> = (0..length)
        .map(|index| {
            let place = index as f64 - middle;
            let angle = std::f64::consts::TAU * cutoff * place;
            let sinc = if place == 0.0 { 1.0 } else { angle.sin() / angle };
            let edge = (1.0 - (place / middle).powi(2)).max(0.0).sqrt();
            sinc * bessel(BETA * edge)
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    let down = taps.iter().rev().map(|tap| (tap / sum) as f32).collect();
    let up = (0..ratio)
        .map(|phase| {
            let mut taps: Vec<f32> = taps
                .iter()
                .skip(phase)
                .step_by(ratio)
                .map(|tap| *tap as f32)
                .collect();
            taps.reverse();
            let sum: f32 = taps.iter().sum();
            taps.iter_mut().for_each(|tap| *tap /= sum);
            taps
        })
        .collect();
    (Arc::new(down), Arc::new(up))
}

/// The modified Bessel function of order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..30 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{delayed_correlation, speech, tone};

    const RATES: [u32; 3] = [8_000, 16_000, 48_000];

    fn through(from: u32, to: u32, input: &[i16]) -> Vec<i16> {
        let mut resampler = Polyphase::new(from, to);
        let mut out = Vec::new();
        for packet in input.chunks(from as usize / 50) {
            let before = out.len();
            resampler.push(packet, &mut out);
            assert_eq!(out.len() - before, packet.len() * to as usize / from as usize);
        }
        out
    }

    #[test]
    fn every_packet_comes_out_whole_at_once_and_sounds_the_same() {
        for from in RATES {
            for to in RATES {
                let out = through(from, to, &tone(from, 900.0, 1.0));
                let correlation = delayed_correlation(&tone(to, 900.0, 1.0), &out, to as usize / 250);
                assert!(correlation > 0.99, "{from} to {to}: {correlation}");
            }
        }
    }

    #[test]
    fn up_and_down_again_gives_the_voice_back() {
        for (low, high) in [(8_000, 16_000), (8_000, 48_000), (16_000, 48_000)] {
            let voice = speech(low, 1.0);
            let back = through(high, low, &through(low, high, &voice));
            let correlation = delayed_correlation(&voice, &back, TAPS + 2);
            assert!(correlation > 0.99, "{low} {high}: {correlation}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_does_not_fold_back() {
        for (from, to, hz) in [
            (48_000, 8_000, 4_500.0),
            (16_000, 8_000, 5_000.0),
            (48_000, 16_000, 9_000.0),
        ] {
            let out = through(from, to, &tone(from, hz, 0.5));
            let loudest = out[200..]
                .iter()
                .map(|sample| sample.unsigned_abs())
                .max()
                .unwrap();
            assert!(loudest < 20, "{from} to {to}: {loudest} of 16000");
        }
    }
}

//! Comfort noise (RFC 3389): a level, and the spectrum as reflection coefficients if the sender sends them.
//!
//! RFC 3389 does not say which sign a reflection coefficient has. Here, as in libwebrtc, the first one of noise whose
//! energy is in low frequencies is negative.

use crate::level::{SILENT_DBOV, level_dbov, rms_of};
use bytes::{BufMut, Bytes, BytesMut};

/// RFC 3389 section 4: comfort noise at 8 kHz has this static payload type.
pub(crate) const PAYLOAD_TYPE: u8 = 13;
/// More coefficients than this are not used: a lattice may be cut short.
const MAX_ORDER: usize = 12;
/// How many we send, as G.711 appendix II does.
const ORDER: usize = 10;
/// A pole on the unit circle would ring for ever.
const MOST_REFLECTION: f32 = 0.98;
/// How fast the level follows what is told, per second of audio: 95 % within 60 ms.
const FOLLOW_HZ: f32 = 50.0;

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Description {
    pub(crate) dbov: f32,
    reflections: [f32; MAX_ORDER],
    order: usize,
}

impl Description {
    /// `None` for an empty payload.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (&level, spectrum) = payload.split_first()?;
        let mut reflections = [0.0; MAX_ORDER];
        for (reflection, &octet) in reflections.iter_mut().zip(spectrum) {
            // RFC 3389 section 3.2: 0 to 254 with 127 in the middle; 255 is reserved.
            *reflection = ((f32::from(octet) - 127.0) / 127.0).clamp(-MOST_REFLECTION, MOST_REFLECTION);
        }
        Some(Description {
            dbov: -f32::from(level & 0x7f),
            reflections,
            order: spectrum.len().min(MAX_ORDER),
        })
    }

    pub(crate) fn payload(&self) -> Bytes {
        let mut payload = BytesMut::with_capacity(1 + self.order);
        payload.put_u8((-self.dbov).round().clamp(0.0, 127.0) as u8);
        let octet = |reflection: &f32| (reflection * 127.0 + 127.0).round().clamp(0.0, 254.0) as u8;
        payload.extend(self.reflections.iter().take(self.order).map(octet));
        payload.freeze()
    }

    /// The same noise told without its spectrum: coefficients of one sampling rate mean nothing at another.
    pub(crate) fn without_spectrum(mut self) -> Self {
        self.order = 0;
        self.reflections = [0.0; MAX_ORDER];
        self
    }
}

/// Makes noise as described.
#[derive(Debug)]
pub(crate) struct NoiseMaker {
    rate: u32,
    described: Option<Description>,
    /// The excitation's gain now.
    gain: f32,
    backward: [f32; MAX_ORDER],
    random: u32,
}

impl NoiseMaker {
    pub(crate) fn new(rate: u32) -> Self {
        NoiseMaker {
            rate,
            described: None,
            gain: 0.0,
            backward: [0.0; MAX_ORDER],
            random: 0x9e37_79b9,
        }
    }

    pub(crate) fn describe(&mut self, description: Description) {
        let target = excitation(&description);
        if self.described.is_none() {
            self.gain = target;
        }
        self.described = Some(description);
    }

    /// Appends `count` samples.
    pub(crate) fn make(&mut self, count: usize, out: &mut Vec<i16>) {
        let Some(description) = self.described else {
            out.resize(out.len() + count, 0);
            return;
        };
        let target = excitation(&description);
        let follow = FOLLOW_HZ / self.rate as f32;
        for _ in 0..count {
            self.gain += (target - self.gain) * follow;
            let mut forward = self.white() * self.gain;
            // The lattice synthesis filter: its output has the excitation's power divided by the product of 1 - k^2.
            for index in (0..description.order).rev() {
                let reflection = description.reflections[index];
                let before = self.backward[index];
                forward -= reflection * before;
                if let Some(after) = self.backward.get_mut(index + 1) {
                    *after = before + reflection * forward;
                }
            }
            self.backward[0] = forward;
            out.push(forward as i16);
        }
    }

    /// Uniform, with a variance of 1.
    fn white(&mut self) -> f32 {
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        (self.random as f32 / u32::MAX as f32 - 0.5) * 12f32.sqrt()
    }
}

fn excitation(description: &Description) -> f32 {
    let left: f32 = description
        .reflections
        .iter()
        .take(description.order)
        .map(|k| 1.0 - k * k)
        .product();
    rms_of(description.dbov) * left.sqrt()
}

/// Follows the background's level and spectrum.
#[derive(Debug, Default)]
pub(crate) struct NoiseWatcher {
    correlation: [f64; ORDER + 1],
    power: f64,
    any: bool,
}

impl NoiseWatcher {
    /// Takes a frame of background; what it was before counts for half.
    pub(crate) fn watch(&mut self, frame: &[i16]) {
        let dbov = level_dbov(frame);
        let power = 10f64.powf(f64::from(dbov) / 10.0);
        let old = if self.any { 0.5 } else { 0.0 };
        self.any = true;
        self.power = self.power * old + power * (1.0 - old);
        for (lag, sum) in self.correlation.iter_mut().enumerate() {
            let later = frame.get(lag..).unwrap_or_default();
            let product: f64 = frame
                .iter()
                .zip(later)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            *sum = *sum * old + product * (1.0 - old);
        }
    }

    pub(crate) fn description(&self) -> Description {
        let dbov = if self.power > 0.0 {
            (10.0 * self.power.log10()) as f32
        } else {
            SILENT_DBOV
        };
        let mut reflections = [0.0; MAX_ORDER];
        let order = self.levinson(&mut reflections);
        Description {
            dbov: dbov.clamp(SILENT_DBOV, 0.0),
            reflections,
            order,
        }
    }

    /// Levinson and Durbin's recursion; how many coefficients it found.
    fn levinson(&self, reflections: &mut [f32; MAX_ORDER]) -> usize {
        // White noise 40 dB below keeps a pure tone from making an unstable filter.
        let mut error = self.correlation[0] * 1.0001;
        if error < 1.0 {
            return 0;
        }
        let mut filter = [0.0f64; ORDER + 1];
        filter[0] = 1.0;
        for order in 1..=ORDER {
            let sum: f64 = (0..order)
                .map(|index| filter[index] * self.correlation[order - index])
                .sum();
            let reflection = (-sum / error).clamp(-1.0, 1.0);
            let before = filter;
            for index in 1..=order {
                filter[index] = before[index] + reflection * before[order - index];
            }
            reflections[order - 1] = reflection as f32;
            error *= 1.0 - reflection * reflection;
            if error <= f64::EPSILON {
                return order;
            }
        }
        ORDER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise_of(payload: &[u8], rate: u32) -> Vec<i16> {
        let mut maker = NoiseMaker::new(rate);
        maker.describe(Description::parse(payload).unwrap());
        let mut out = Vec::new();
        maker.make(rate as usize, &mut out);
        out
    }

    #[test]
    fn the_noise_has_the_level_that_was_told_with_and_without_a_spectrum() {
        for level in [30u8, 45, 60] {
            for spectrum in [&[][..], &[27, 150, 127, 100], &[90; 12], &[160; 40]] {
                let payload = [&[level][..], spectrum].concat();
                for rate in [8_000, 16_000] {
                    let heard = level_dbov(&noise_of(&payload, rate));
                    assert!((heard + f32::from(level)).abs() < 2.0, "{payload:?}: {heard}");
                }
            }
        }
        assert_eq!(level_dbov(&noise_of(&[127], 8_000)), SILENT_DBOV);
    }

    /// Power below a quarter of the rate against all of it, by the first difference.
    fn low_share(samples: &[i16]) -> f64 {
        let sum = |sign: f64| -> f64 {
            samples
                .windows(2)
                .map(|pair| (f64::from(pair[1]) + sign * f64::from(pair[0])).powi(2))
                .sum()
        };
        sum(1.0) / (sum(1.0) + sum(-1.0))
    }

    #[test]
    fn noise_keeps_its_colour_through_description_and_remaking() {
        let mut white = NoiseMaker::new(8_000);
        white.describe(Description::parse(&[20]).unwrap());
        let mut source = Vec::new();
        white.make(8_000, &mut source);
        let mut state = 0.0f32;
        let low: Vec<i16> = source
            .iter()
            .map(|&sample| {
                state += (f32::from(sample) - state) * 0.2;
                state as i16
            })
            .collect();
        let mut watcher = NoiseWatcher::default();
        low.chunks(160).for_each(|frame| watcher.watch(frame));
        let payload = watcher.description().payload();
        assert_eq!(payload.len(), 1 + ORDER);
        let remade = noise_of(&payload, 8_000);
        assert!((level_dbov(&remade) - level_dbov(&low)).abs() < 2.0);
        let (was, is, white) = (low_share(&low), low_share(&remade), low_share(&source));
        assert!((was - is).abs() < 0.05, "{was} {is}");
        assert!(was > white + 0.3, "{was} {white}");
    }

    proptest! {
        #[test]
        fn no_payload_makes_noise_that_runs_away(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut maker = NoiseMaker::new(16_000);
            match Description::parse(&payload) {
                None => prop_assert!(payload.is_empty()),
                Some(description) => maker.describe(description),
            }
            let mut out = Vec::new();
            maker.make(1_600, &mut out);
            prop_assert_eq!(out.len(), 1_600);
            prop_assert!(maker.backward.iter().all(|value| value.is_finite()));
        }
    }
}

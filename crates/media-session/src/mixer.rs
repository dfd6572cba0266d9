//! A conference: each leg hears the sum of the others and not itself. No I/O, no clock.

use crate::level::{SILENT_DBOV, level_dbov};
use crate::polyphase::Polyphase;
use crate::stage::{factor_of, saturate};
use siprtc_core::{Error, Fault, Result};
use std::collections::BTreeMap;

/// Legs of one mixer; another one is refused.
const MAX_LEGS: usize = 128;
/// Audio of one leg that waits to be mixed; beyond it its oldest is dropped and counted.
const MAX_WAITING_MS: usize = 200;
/// Who is heard stays heard until somebody is louder by this: otherwise two equally loud voices would cut each other up.
const HYSTERESIS_DB: f32 = 3.0;
/// How much of a leg's level is the last frame's.
const NEW_SHARE: f32 = 0.3;

/// How a mixer works.
#[derive(Clone, Copy, Debug)]
pub struct MixerConfig {
    /// The rate that is mixed at: 8000, 16000 or 48000 Hz.
    pub rate: u32,
    /// How much is mixed at a time, in milliseconds: 10 to 60.
    pub frame_ms: u32,
    /// So many legs are heard at most, the loudest ones.
    pub loudest: usize,
}

impl Default for MixerConfig {
    fn default() -> Self {
        MixerConfig {
            rate: 16_000,
            frame_ms: 20,
            loudest: 3,
        }
    }
}

/// A leg of a [`Mixer`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LegId(u64);

/// A leg's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LegStats {
    /// Frames in whose time there was not enough audio: silence was mixed.
    pub late_frames: u64,
    /// Milliseconds of audio that were dropped because more came than was mixed.
    pub dropped_ms: u64,
    /// Its level, smoothed, in dBov.
    pub dbov: f32,
    /// Whether it was among the loudest.
    pub heard: bool,
}

/// Mixes the audio of its legs, a frame at a time.
///
/// ```
/// use siprtc_media_session::{Mixer, MixerConfig};
///
/// let mut mixer = Mixer::new(MixerConfig::default())?;
/// let (alice, bob) = (mixer.join(8_000)?, mixer.join(48_000)?);
/// mixer.feed(alice, &[1_000; 160]);
/// mixer.mix();
/// assert_eq!(mixer.heard(bob).len(), 960);
/// assert!(mixer.heard(alice).iter().all(|sample| *sample == 0));
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub struct Mixer {
    config: MixerConfig,
    legs: BTreeMap<LegId, Leg>,
    fresh: u64,
    sum: Vec<f32>,
    mixed: Vec<i16>,
}

struct Leg {
    inward: Polyphase,
    outward: Polyphase,
    waiting: Vec<i16>,
    /// What it adds to this frame.
    own: Vec<f32>,
    heard: Vec<i16>,
    gain: f32,
    /// The factor that the last frame ended with.
    factor: f32,
    level: f32,
    selected: bool,
    late_frames: u64,
    dropped: u64,
}

impl Mixer {
    /// Without legs.
    ///
    /// Errors: [`Fault::ApiMisuse`] for a rate or a frame that no codec has.
    pub fn new(config: MixerConfig) -> Result<Self> {
        check_rate(config.rate)?;
        if !(10..=60).contains(&config.frame_ms) {
            let what = format!("frames of {} ms", config.frame_ms);
            return Err(Error::new(Fault::ApiMisuse, MIX, what).advice("choose 10 to 60"));
        }
        Ok(Mixer {
            config,
            legs: BTreeMap::new(),
            fresh: 0,
            sum: Vec::new(),
            mixed: Vec::new(),
        })
    }

    /// A new leg, whose audio comes and goes at `rate` Hz.
    ///
    /// Errors: [`Fault::ApiMisuse`] for a rate that no codec has, or when there are 128 legs.
    pub fn join(&mut self, rate: u32) -> Result<LegId> {
        check_rate(rate)?;
        if self.legs.len() >= MAX_LEGS {
            return Err(
                Error::new(Fault::ApiMisuse, MIX, format!("{MAX_LEGS} legs are there"))
                    .advice("open another conference"),
            );
        }
        let id = LegId(self.fresh);
        self.fresh += 1;
        let leg = Leg {
            inward: Polyphase::new(rate, self.config.rate),
            outward: Polyphase::new(self.config.rate, rate),
            waiting: Vec::new(),
            own: Vec::new(),
            heard: vec![0; samples(rate, self.config.frame_ms)],
            gain: 1.0,
            factor: 0.0,
            level: SILENT_DBOV,
            selected: false,
            late_frames: 0,
            dropped: 0,
        };
        self.legs.insert(id, leg);
        Ok(id)
    }

    /// The leg is gone.
    pub fn leave(&mut self, leg: LegId) {
        self.legs.remove(&leg);
    }

    /// How loud a leg is for the others, in dB; -60 to 30.
    pub fn set_gain(&mut self, leg: LegId, db: f32) {
        if let Some(leg) = self.legs.get_mut(&leg) {
            leg.gain = factor_of(db);
        }
    }

    /// Takes a leg's audio at its rate, of any length. Of more than 200 ms that wait the oldest is dropped.
    pub fn feed(&mut self, leg: LegId, samples: &[i16]) {
        let Some(leg) = self.legs.get_mut(&leg) else {
            return;
        };
        leg.inward.push(samples, &mut leg.waiting);
        let most = self.config.rate as usize * MAX_WAITING_MS / 1_000;
        let surplus = leg.waiting.len().saturating_sub(most);
        leg.waiting.drain(..surplus);
        leg.dropped += surplus as u64;
    }

    /// Mixes one frame of what is there; a leg of which there is not enough is silent.
    pub fn mix(&mut self) {
        let frame = samples(self.config.rate, self.config.frame_ms);
        self.legs.values_mut().for_each(|leg| leg.take(frame));
        self.select();
        self.sum.clear();
        self.sum.resize(frame, 0.0);
        for leg in self.legs.values_mut() {
            leg.weigh();
            for (sum, own) in self.sum.iter_mut().zip(&leg.own) {
                *sum += own;
            }
        }
        for leg in self.legs.values_mut() {
            self.mixed.clear();
            self.mixed.extend(
                self.sum
                    .iter()
                    .zip(&leg.own)
                    .map(|(sum, own)| saturate(sum - own)),
            );
            leg.heard.clear();
            leg.outward.push(&self.mixed, &mut leg.heard);
        }
    }

    /// What a leg hears of the frame that was mixed last, at its rate; nothing for a leg that is gone.
    #[must_use]
    pub fn heard(&self, leg: LegId) -> &[i16] {
        self.legs.get(&leg).map_or(&[], |leg| &leg.heard)
    }

    /// A leg's numbers.
    #[must_use]
    pub fn stats(&self, leg: LegId) -> Option<LegStats> {
        self.legs.get(&leg).map(|leg| LegStats {
            late_frames: leg.late_frames,
            dropped_ms: leg.dropped * 1_000 / u64::from(self.config.rate),
            dbov: leg.level,
            heard: leg.selected,
        })
    }

    /// The loudest are heard; silence is not.
    fn select(&mut self) {
        let rank = |leg: &Leg| leg.level + if leg.selected { HYSTERESIS_DB } else { 0.0 };
        let mut ranks: Vec<(f32, LegId)> = self
            .legs
            .iter()
            .filter(|(_, leg)| leg.level > SILENT_DBOV)
            .map(|(id, leg)| (rank(leg), *id))
            .collect();
        ranks.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranks.truncate(self.config.loudest);
        for (id, leg) in &mut self.legs {
            leg.selected = ranks.iter().any(|(_, heard)| heard == id);
        }
    }
}

impl Leg {
    fn take(&mut self, frame: usize) {
        self.own.clear();
        if self.waiting.len() < frame {
            self.late_frames += 1;
            self.own.resize(frame, 0.0);
            self.level += (SILENT_DBOV - self.level) * NEW_SHARE;
            return;
        }
        let taken = self.waiting.get(..frame).unwrap_or_default();
        self.level += (level_dbov(taken) - self.level) * NEW_SHARE;
        if self.level < SILENT_DBOV + 0.5 {
            self.level = SILENT_DBOV;
        }
        self.own.extend(taken.iter().map(|&sample| f32::from(sample)));
        self.waiting.drain(..frame);
    }

    /// Puts its gain on what it adds; without a click when it begins or ends to be heard.
    fn weigh(&mut self) {
        let wanted = if self.selected { self.gain } else { 0.0 };
        let step = (wanted - self.factor) / self.own.len().max(1) as f32;
        for sample in &mut self.own {
            self.factor += step;
            *sample *= self.factor;
        }
        self.factor = wanted;
    }
}

const MIX: &str = "mix a conference";

fn samples(rate: u32, ms: u32) -> usize {
    (rate * ms / 1_000) as usize
}

fn check_rate(rate: u32) -> Result<()> {
    if [8_000, 16_000, 48_000].contains(&rate) {
        return Ok(());
    }
    Err(Error::new(Fault::ApiMisuse, MIX, format!("{rate} Hz")).advice("use 8000, 16000 or 48000"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{delayed_correlation, tone};
    use proptest::prelude::*;

    const RATES: [u32; 3] = [8_000, 16_000, 48_000];

    /// Each leg plays its tone for a second; what each heard.
    fn confer(config: MixerConfig, legs: &[(u32, f64, f32)]) -> Vec<Vec<i16>> {
        let mut mixer = Mixer::new(config).unwrap();
        let ids: Vec<LegId> = legs.iter().map(|(rate, ..)| mixer.join(*rate).unwrap()).collect();
        let tones: Vec<Vec<i16>> = legs
            .iter()
            .map(|(rate, hz, gain)| {
                tone(*rate, *hz, 1.0)
                    .iter()
                    .map(|sample| (f32::from(*sample) * gain) as i16)
                    .collect()
            })
            .collect();
        let mut heard = vec![Vec::new(); legs.len()];
        for index in 0..1_000 / config.frame_ms as usize {
            for ((id, wave), (rate, ..)) in ids.iter().zip(&tones).zip(legs) {
                let frame = samples(*rate, config.frame_ms);
                mixer.feed(*id, &wave[index * frame..(index + 1) * frame]);
            }
            mixer.mix();
            for (id, heard) in ids.iter().zip(&mut heard) {
                heard.extend_from_slice(mixer.heard(*id));
            }
        }
        heard
    }

    #[test]
    fn each_leg_hears_the_others_and_not_itself_at_any_rates() {
        for rate in RATES {
            let config = MixerConfig {
                rate,
                ..MixerConfig::default()
            };
            let legs = [(8_000, 440.0, 0.4), (16_000, 700.0, 0.4), (48_000, 1_130.0, 0.4)];
            for (own, (heard, (rate, ..))) in confer(config, &legs).iter().zip(legs).enumerate() {
                for (other, (_, hz, _)) in legs.iter().enumerate() {
                    let correlation = delayed_correlation(&tone(rate, *hz, 1.0), heard, rate as usize / 100);
                    if own == other {
                        assert!(correlation < 0.05, "{own} hears itself: {correlation}");
                    } else {
                        // Two tones, equally loud: each is 0.71 of the sum.
                        assert!(correlation > 0.68, "{own} hears {other} with {correlation}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_loudest_are_heard() {
        let config = MixerConfig {
            loudest: 2,
            ..MixerConfig::default()
        };
        let legs = [
            (16_000, 300.0, 0.5),
            (16_000, 500.0, 0.3),
            (16_000, 900.0, 0.05),
            (16_000, 1_300.0, 0.0),
        ];
        let heard = confer(config, &legs);
        let share = |leg: usize, hz: f64| delayed_correlation(&tone(16_000, hz, 1.0), &heard[leg], 100);
        assert!(share(3, 300.0) > 0.8 && share(3, 500.0) > 0.4 && share(3, 900.0) < 0.03);
        assert!(share(0, 500.0) > 0.9 && share(1, 300.0) > 0.9);
    }

    #[test]
    fn a_leg_that_is_late_is_silence_and_one_that_is_too_fast_loses_its_oldest() {
        let mut mixer = Mixer::new(MixerConfig::default()).unwrap();
        let (late, fast, other) = (
            mixer.join(16_000).unwrap(),
            mixer.join(16_000).unwrap(),
            mixer.join(16_000).unwrap(),
        );
        mixer.feed(late, &[5_000; 319]);
        mixer.feed(fast, &[0; 16_000]);
        mixer.mix();
        assert!(mixer.heard(other).iter().all(|sample| *sample == 0));
        assert_eq!(mixer.stats(late).unwrap().late_frames, 1);
        assert_eq!(mixer.stats(fast).unwrap().dropped_ms, 800);
        mixer.feed(late, &[5_000; 1]);
        mixer.mix();
        assert!(mixer.heard(other).iter().any(|sample| *sample > 2_000));
        mixer.leave(late);
        assert_eq!(mixer.heard(late), &[] as &[i16]);
        assert_eq!(mixer.stats(late), None);
    }

    #[test]
    fn a_gain_is_heard_by_the_others() {
        let mut mixer = Mixer::new(MixerConfig::default()).unwrap();
        let (speaker, listener) = (mixer.join(16_000).unwrap(), mixer.join(16_000).unwrap());
        mixer.set_gain(speaker, -20.0);
        for _ in 0..3 {
            mixer.feed(speaker, &[10_000; 320]);
            mixer.mix();
        }
        assert!(
            mixer
                .heard(listener)
                .iter()
                .all(|sample| sample.abs_diff(1_000) <= 2)
        );
    }

    proptest! {
        /// Whatever legs say, nobody's sum wraps around: all equally signed, the sum has their sign.
        #[test]
        fn many_loud_legs_saturate_and_do_not_wrap(legs in 2usize..20, loudness in 1i16..i16::MAX) {
            let mut mixer = Mixer::new(MixerConfig { loudest: 20, ..MixerConfig::default() }).unwrap();
            let ids: Vec<LegId> = (0..legs).map(|_| mixer.join(16_000).unwrap()).collect();
            for _ in 0..2 {
                ids.iter().for_each(|id| mixer.feed(*id, &[loudness; 320]));
                mixer.mix();
            }
            for id in ids {
                prop_assert!(mixer.heard(id).iter().all(|sample| *sample >= 0));
                let last = mixer.heard(id)[319];
                prop_assert!(i32::from(last) >= i32::from(loudness).min(24_000) - 2);
            }
        }

        #[test]
        fn no_order_of_calls_breaks_it(steps in proptest::collection::vec((0u8..5, 0u64..6, 0usize..2_000), 0..80)) {
            let mut mixer = Mixer::new(MixerConfig { frame_ms: 10, ..MixerConfig::default() }).unwrap();
            for (what, leg, count) in steps {
                match what {
                    0 => drop(mixer.join(RATES[count % 3])),
                    1 => mixer.leave(LegId(leg)),
                    2 => mixer.feed(LegId(leg), &vec![7; count]),
                    3 => mixer.set_gain(LegId(leg), count as f32),
                    _ => mixer.mix(),
                }
            }
        }
    }
}

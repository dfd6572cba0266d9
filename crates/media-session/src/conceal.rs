//! What is heard in place of a missing packet, and how surplus audio is taken out, for codecs that cannot do it
//! themselves. Both work on the pitch: speech repeats itself every 2.5 to 15 ms.

/// How much of what was heard is kept to repeat from.
const HISTORY_MS: u32 = 40;
/// Shortest pitch that is looked for.
const MIN_PITCH_US: u32 = 2_500;
/// Longest pitch that is looked for.
const MAX_PITCH_US: u32 = 15_000;
/// After this long, a repeated pitch sounds like a machine: it has faded to silence by then.
pub(crate) const FADE_MS: u32 = 60;
/// Over how long what comes next is blended in.
const BLEND_MS: u32 = 3;

/// Repeats the last pitch period, fading.
pub(crate) struct Concealer {
    rate: u32,
    history: Vec<i16>,
    period: usize,
    /// Samples made up since the last packet.
    made_up: usize,
}

impl Concealer {
    pub(crate) fn new(rate: u32) -> Self {
        Concealer {
            rate,
            history: Vec::new(),
            period: 0,
            made_up: 0,
        }
    }

    /// A packet was decoded. Its beginning is blended with what was made up before it.
    pub(crate) fn heard(&mut self, samples: &mut [i16]) {
        if self.made_up > 0 {
            let blend = ((self.rate * BLEND_MS / 1_000) as usize).min(samples.len());
            for (index, sample) in samples.iter_mut().take(blend).enumerate() {
                let weight = (index + 1) as f32 / (blend + 1) as f32;
                *sample =
                    (f32::from(self.repeated(index)) * (1.0 - weight) + f32::from(*sample) * weight) as i16;
            }
            self.made_up = 0;
        }
        let keep = (self.rate * HISTORY_MS / 1_000) as usize;
        self.history.extend_from_slice(samples);
        let surplus = self.history.len().saturating_sub(keep);
        self.history.drain(..surplus);
    }

    /// Appends `count` samples.
    pub(crate) fn conceal(&mut self, count: usize, out: &mut Vec<i16>) {
        if self.made_up == 0 {
            let (min, max) = pitch_range(self.rate);
            self.period =
                pitch(&self.history, min, max).map_or(max.min(self.history.len()), |(period, _)| period);
        }
        for index in 0..count {
            out.push(self.repeated(index));
        }
        self.made_up = self.made_up.saturating_add(count);
    }

    /// The sample `ahead` of those made up so far.
    fn repeated(&self, ahead: usize) -> i16 {
        let position = self.made_up.saturating_add(ahead);
        let fade = (self.rate * FADE_MS / 1_000) as usize;
        if self.period == 0 || position >= fade {
            return 0;
        }
        let index = self.history.len() - self.period + position % self.period;
        let gain = 1.0 - position as f32 / fade as f32;
        self.history
            .get(index)
            .map_or(0, |&sample| (f32::from(sample) * gain) as i16)
    }
}

/// Takes one pitch period out of a frame when that is not heard; how many samples went.
pub(crate) fn shorten(frame: &mut Vec<i16>, rate: u32) -> usize {
    let (min, max) = pitch_range(rate);
    let max = max.min(frame.len() / 2);
    let Some((period, similarity)) = pitch(&frame[..], min, max) else {
        return 0;
    };
    let loudest = frame
        .iter()
        .map(|sample| sample.unsigned_abs())
        .max()
        .unwrap_or(0);
    if similarity < 0.7 && loudest > 300 {
        return 0;
    }
    let start = frame.len() - 2 * period;
    for index in 0..period {
        let weight = (index + 1) as f32 / (period + 1) as f32;
        let (old, new) = (frame[start + index], frame[start + period + index]);
        frame[start + index] = (f32::from(old) * (1.0 - weight) + f32::from(new) * weight) as i16;
    }
    frame.truncate(frame.len() - period);
    period
}

fn pitch_range(rate: u32) -> (usize, usize) {
    let samples = |micros: u32| (u64::from(rate) * u64::from(micros) / 1_000_000) as usize;
    (samples(MIN_PITCH_US), samples(MAX_PITCH_US))
}

/// The lag at which the end of `samples` is most like what was before it, and how like (1 is the same).
fn pitch(samples: &[i16], min: usize, max: usize) -> Option<(usize, f32)> {
    let max = max.min(samples.len() / 2);
    // At 48 kHz every third sample tells enough.
    let step = (samples.len() / 640).clamp(1, 4);
    let mut best = None;
    for lag in (min.max(1)..=max).step_by(step) {
        let (recent, before) = (
            &samples[samples.len() - lag..],
            &samples[samples.len() - 2 * lag..],
        );
        let (mut cross, mut power, mut power_before) = (0.0f32, 1.0f32, 1.0f32);
        for (&new, &old) in recent.iter().zip(before).step_by(step) {
            let (new, old) = (f32::from(new), f32::from(old));
            cross += new * old;
            power += new * new;
            power_before += old * old;
        }
        let similarity = cross / (power * power_before).sqrt();
        if best.is_none_or(|(_, highest)| similarity > highest) {
            best = Some((lag, similarity));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::tone;

    #[test]
    fn a_tone_is_carried_over_a_missing_frame_in_phase() {
        let mut wave = tone(8_000, 200.0, 0.2);
        let truth = wave.split_off(wave.len() - 160);
        let mut concealer = Concealer::new(8_000);
        concealer.heard(&mut wave);
        let mut made = Vec::new();
        concealer.conceal(160, &mut made);
        let cross: f64 = made
            .iter()
            .zip(&truth)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum();
        let power = |samples: &[i16]| samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
        assert!(cross / (power(&made) * power(&truth)).sqrt() > 0.95);
    }

    #[test]
    fn a_tone_is_shortened_by_a_whole_period() {
        let mut wave = tone(8_000, 200.0, 0.02);
        let removed = shorten(&mut wave, 8_000);
        assert_eq!(removed % 40, 0, "{removed}");
        assert_eq!(wave.len(), 160 - removed);
        assert!(removed > 0);
    }

    #[test]
    fn with_nothing_heard_silence_is_made() {
        let mut made = Vec::new();
        Concealer::new(8_000).conceal(160, &mut made);
        assert_eq!(made, vec![0; 160]);
    }
}

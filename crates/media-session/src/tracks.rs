//! What two sides say, on one line of time. No I/O, no clock.

use crate::polyphase::Polyphase;
use std::time::Duration;

/// A side that is behind by more than this was silent; less is how tasks are run.
const TOLERANCE: Duration = Duration::from_millis(60);
/// A side that is ahead by more than this brings more than a side can say: it is dropped and counted.
const MAX_AHEAD: Duration = Duration::from_millis(400);
/// What came before this is complete, whoever said nothing.
const SETTLED: Duration = Duration::from_millis(500);

/// One or two sides' audio at one rate.
pub(crate) struct Tracks {
    rate: u32,
    sides: Vec<Track>,
    /// Frames that were taken out.
    done: u64,
}

#[derive(Default)]
struct Track {
    resampler: Option<Polyphase>,
    /// What follows `done`.
    waiting: Vec<i16>,
    dropped: u64,
}

impl Tracks {
    pub(crate) fn new(rate: u32, sides: usize) -> Self {
        let sides = (0..sides).map(|_| Track::default()).collect();
        Tracks { rate, sides, done: 0 }
    }

    /// Takes what a side says from `at` on, since the beginning.
    pub(crate) fn put(&mut self, side: usize, at: Duration, rate: u32, samples: &[i16]) {
        let (own, done) = (self.rate, self.done);
        let now = self.frames(at);
        let (tolerance, most) = (self.frames(TOLERANCE), self.frames(MAX_AHEAD));
        let Some(track) = self.sides.get_mut(side) else {
            return;
        };
        let next = done + track.waiting.len() as u64;
        if now > next + tolerance {
            // Never more than what is not settled yet.
            track
                .waiting
                .resize(track.waiting.len() + (now - next) as usize, 0);
        } else if next > now + most {
            track.dropped += samples.len() as u64;
            return;
        }
        let resampler = match &mut track.resampler {
            Some(resampler) if resampler.rates() == (rate, own) => resampler,
            resampler => resampler.insert(Polyphase::new(rate, own)),
        };
        resampler.push(samples, &mut track.waiting);
    }

    /// Takes out what is complete, the sides' samples in turns; with `all`, everything.
    pub(crate) fn take(&mut self, at: Duration, all: bool, out: &mut Vec<i16>) {
        let settled = self.frames(at.saturating_sub(SETTLED)).saturating_sub(self.done) as usize;
        let longest = self
            .sides
            .iter()
            .map(|track| track.waiting.len())
            .max()
            .unwrap_or(0);
        let shortest = self
            .sides
            .iter()
            .map(|track| track.waiting.len())
            .min()
            .unwrap_or(0);
        let count = if all {
            longest.max(settled)
        } else {
            shortest.max(settled)
        };
        for track in &mut self.sides {
            track.waiting.resize(track.waiting.len().max(count), 0);
        }
        out.reserve(count * self.sides.len());
        for index in 0..count {
            out.extend(self.sides.iter().filter_map(|track| track.waiting.get(index)));
        }
        for track in &mut self.sides {
            track.waiting.drain(..count);
        }
        self.done += count as u64;
    }

    /// How much was taken out.
    pub(crate) fn taken(&self) -> Duration {
        Duration::from_micros(self.done * 1_000_000 / u64::from(self.rate))
    }

    fn frames(&self, time: Duration) -> u64 {
        time.as_micros() as u64 * u64::from(self.rate) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn both_sides_keep_their_time_whatever_the_other_does() {
        let mut tracks = Tracks::new(8_000, 2);
        let mut out = Vec::new();
        for index in 0..100u64 {
            tracks.put(0, ms(index * 20), 8_000, &[1; 160]);
            // The other begins a second later, at another rate.
            if index >= 50 {
                tracks.put(1, ms(index * 20 + 7), 16_000, &[2_000; 320]);
            }
            tracks.take(ms(index * 20), false, &mut out);
        }
        tracks.take(ms(2_000), true, &mut out);
        let right: Vec<i16> = out.iter().skip(1).step_by(2).copied().collect();
        assert!(out.iter().step_by(2).take(16_000).all(|sample| *sample == 1));
        let begin = right.iter().position(|sample| *sample > 1_000).unwrap();
        assert!((7_990..8_120).contains(&begin), "{begin}");
        // It goes on to the end without a hole: 7 ms after the first side's.
        assert!(right[begin..16_000].iter().all(|sample| *sample > 1_000));
        assert_eq!(tracks.taken(), ms(2_007));
    }

    #[test]
    fn a_side_that_falls_silent_is_silence_and_one_that_talks_too_fast_loses_the_rest() {
        let mut tracks = Tracks::new(8_000, 1);
        let mut out = Vec::new();
        tracks.put(0, ms(0), 8_000, &[5; 160]);
        tracks.put(0, ms(1_000), 8_000, &[5; 160]);
        (0..100).for_each(|_| tracks.put(0, ms(1_000), 8_000, &[5; 160]));
        tracks.take(ms(1_020), true, &mut out);
        assert_eq!(out[..160], [5; 160]);
        assert!(out[160..8_000].iter().all(|sample| *sample == 0));
        assert!(out[8_000..].iter().all(|sample| *sample == 5));
        assert!((11_200..11_600).contains(&out.len()), "{}", out.len());
        assert!(tracks.sides[0].dropped > 10_000);
    }

    proptest! {
        /// Whatever comes when, what is held is bounded and what comes out has as many samples of either side.
        #[test]
        fn what_waits_is_bounded(steps in proptest::collection::vec((0usize..3, 0u64..400, 0usize..3, 0usize..2_000), 1..100)) {
            let (mut tracks, mut out, mut now) = (Tracks::new(16_000, 2), Vec::new(), 0);
            for (side, passed, rate, count) in steps {
                now += passed;
                tracks.put(side, ms(now), [8_000, 16_000, 48_000][rate], &vec![1; count]);
                tracks.take(ms(now), false, &mut out);
                let most = tracks.sides.iter().map(|track| track.waiting.len()).max().unwrap();
                prop_assert!(most <= 16 * 1_000 + 4_000, "{most}");
            }
            tracks.take(ms(now), true, &mut out);
            prop_assert_eq!(out.len() as u64, tracks.done * 2);
            prop_assert!(tracks.taken() + ms(501) >= ms(now));
        }
    }
}

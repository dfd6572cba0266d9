//! The card's clock and the call's: each side moves samples in its own time, and no two clocks agree.
//!
//! What waits in the ring is kept near a target by resampling a little faster or slower (1 % at most, which nobody hears),
//! in the same step that brings one rate to the other. Only what goes far beyond that is dropped or left silent.

use crate::ring::Shared;
use rtrb::{Consumer, Producer};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable as _, Async, FixedAsync, Resampler as _, SincInterpolationParameters, WindowFunction,
};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How far the resampling ratio may go from the nominal one.
const MOST: f64 = 0.01;
/// How much of that there is for a second too many in the ring: clocks that are 0.1 % apart wait 5 ms beside the target, and
/// 20 ms that come late for once bend the pitch by 0.4 %.
const GAIN: f64 = 0.2;
/// The ring's level is a mean of so many steps, a second as a rule: with [`GAIN`] it settles without swinging.
const STEPS: f64 = 50.0;
/// This much above the target is dropped at once: nobody wants to hear what is so old.
const TOO_MUCH: f64 = 0.2;
/// Beside what the card moves at once: a scheduler's delay.
const SPARE: f64 = 0.03;
/// Taps of the filter when rates go up; more when they go down, so that nothing folds back.
const TAPS: usize = 64;

/// Follows how much waits, and says by how much to stretch.
#[derive(Debug, Default)]
struct Level {
    /// In seconds beside the target.
    mean: f64,
}

impl Level {
    /// The ratio's factor: below 1 when too much waits, so that more goes in for what comes out, or less comes out.
    fn follow(&mut self, waiting: usize, target: usize, rate: u32) -> f64 {
        let beside = (waiting as f64 - target as f64) / f64::from(rate);
        self.mean += (beside - self.mean) / STEPS;
        1.0 - (self.mean * GAIN).clamp(-MOST, MOST)
    }
}

/// A resampler for pieces of one length.
struct Filter {
    inner: Async<f32>,
    rates: (u32, u32),
    piece: usize,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Filter {
    fn new(rates: (u32, u32), piece: usize, fixed: FixedAsync) -> Result<Self> {
        let (from, to) = (f64::from(rates.0.max(1)), f64::from(rates.1.max(1)));
        let down = (from / to).ceil().max(1.0) as usize;
        let parameters = SincInterpolationParameters::new(TAPS * down, WindowFunction::BlackmanHarris2)
            .oversampling_factor((128 / down).max(16));
        // Room for the ratio's ramp.
        let most = 1.0 + 2.0 * MOST;
        let inner =
            Async::new_sinc(to / from, most, &parameters, piece.max(1), 1, fixed).map_err(|error| {
                Error::new(
                    Fault::Unsupported,
                    "resample audio",
                    format!("{from} Hz cannot become {to} Hz"),
                )
                .backend(crate::NAME)
                .caused_by(error)
            })?;
        Ok(Filter {
            input: vec![0.0; inner.input_frames_max()],
            output: vec![0.0; inner.output_frames_max()],
            inner,
            rates,
            piece,
        })
    }

    fn fits(&self, rates: (u32, u32), piece: usize) -> bool {
        (self.rates, self.piece) == (rates, piece)
    }

    fn stretch(&mut self, factor: f64) {
        // An error would mean that it is out of the bounds that it was made with, which it is not.
        let _ = self.inner.set_resample_ratio_relative(factor, true);
    }

    /// What the first `count` of its input become.
    fn run(&mut self, count: usize) -> &[f32] {
        let capacity = self.output.len();
        let (Ok(input), Ok(mut output)) = (
            InterleavedSlice::new(self.input.get(..count).unwrap_or_default(), 1, count),
            InterleavedSlice::new_mut(&mut self.output, 1, capacity),
        ) else {
            return &[];
        };
        let written = self
            .inner
            .process_into_buffer(&input, &mut output, None)
            .map_or(0, |(_, written)| written);
        self.output.get(..written).unwrap_or_default()
    }
}

/// The call's end of the microphone.
pub(crate) struct Reader {
    from: Consumer<f32>,
    card: u32,
    shared: Arc<Shared>,
    filter: Option<Filter>,
    level: Level,
    flows: bool,
}

impl Reader {
    pub(crate) fn new(from: Consumer<f32>, card: u32, shared: Arc<Shared>) -> Self {
        Reader {
            from,
            card,
            shared,
            filter: None,
            level: Level::default(),
            flows: false,
        }
    }

    /// Fills a frame; how much of it there was: all or nothing.
    pub(crate) fn read(&mut self, rate: u32, frame: &mut [i16]) -> Result<usize> {
        let rates = (self.card, rate);
        let filter = match &mut self.filter {
            Some(filter) if filter.fits(rates, frame.len()) => filter,
            filter => filter.insert(Filter::new(rates, frame.len(), FixedAsync::Output)?),
        };
        let seconds = |seconds: f64| (f64::from(self.card) * seconds) as usize;
        let period = self.shared.period.load(Ordering::Relaxed) as usize;
        let target = filter.inner.input_frames_next() + period + seconds(SPARE);
        let mut waiting = self.from.slots();
        if waiting >= self.from.buffer().capacity() {
            // Nobody took anything for long: what is newest has been dropped, and what is here is old.
            if let Ok(chunk) = self.from.read_chunk(waiting) {
                chunk.commit_all();
            }
            self.flows = false;
            return Ok(0);
        }
        // What is old is not heard: neither what was said before the call began, nor what is beyond all drift.
        if !self.flows || waiting > target + seconds(TOO_MUCH) {
            let surplus = waiting.saturating_sub(target);
            if surplus > 0 && self.flows {
                self.shared.dropped.fetch_add(surplus as u64, Ordering::Relaxed);
            }
            if let Ok(chunk) = self.from.read_chunk(surplus) {
                chunk.commit_all();
            }
            waiting -= surplus;
        }
        if !self.flows && waiting < target {
            return Ok(0);
        }
        if !self.flows {
            (self.flows, self.level) = (true, Level::default());
        }
        filter.stretch(self.level.follow(waiting, target, self.card));
        let needed = filter.inner.input_frames_next();
        let Ok(chunk) = self.from.read_chunk(needed) else {
            self.flows = false;
            self.shared.starved.fetch_add(1, Ordering::Relaxed);
            return Ok(0);
        };
        for (to, from) in filter.input.iter_mut().zip(chunk) {
            *to = from;
        }
        let made = filter.run(needed);
        for (to, from) in frame.iter_mut().zip(made) {
            *to = to_i16(*from);
        }
        Ok(made.len().min(frame.len()))
    }
}

/// The call's end of the loudspeaker.
pub(crate) struct Writer {
    to: Producer<f32>,
    capacity: usize,
    card: u32,
    shared: Arc<Shared>,
    filter: Option<Filter>,
    level: Level,
    /// Less than a piece.
    rest: Vec<f32>,
}

impl Writer {
    pub(crate) fn new(to: Producer<f32>, card: u32, shared: Arc<Shared>) -> Self {
        Writer {
            capacity: to.slots(),
            to,
            card,
            shared,
            filter: None,
            level: Level::default(),
            rest: Vec::new(),
        }
    }

    /// Takes what the call hears.
    pub(crate) fn write(&mut self, rate: u32, frame: &[i16]) -> Result<()> {
        let (rates, piece) = ((rate, self.card), (rate / 100).max(1) as usize);
        let filter = match &mut self.filter {
            Some(filter) if filter.fits(rates, piece) => filter,
            filter => {
                self.rest.clear();
                filter.insert(Filter::new(rates, piece, FixedAsync::Input)?)
            }
        };
        let seconds = |seconds: f64| (f64::from(self.card) * seconds) as usize;
        let period = self.shared.period.load(Ordering::Relaxed) as usize;
        // The call brings a frame at a time, and the card takes a period.
        let frame_at_card = (frame.len() as u64 * u64::from(self.card) / u64::from(rate.max(1))) as usize;
        let target = frame_at_card + period + seconds(SPARE);
        self.shared
            .wanted
            .store(u32::try_from(target).unwrap_or(u32::MAX), Ordering::Relaxed);
        let waiting = self.capacity.saturating_sub(self.to.slots());
        if waiting > target + seconds(TOO_MUCH) {
            self.shared
                .dropped
                .fetch_add(frame_at_card as u64, Ordering::Relaxed);
            return Ok(());
        }
        filter.stretch(self.level.follow(waiting, target, self.card));
        self.rest
            .extend(frame.iter().map(|&sample| f32::from(sample) / 32_768.0));
        let mut done = 0;
        while let Some(samples) = self.rest.get(done..done + piece) {
            filter
                .input
                .iter_mut()
                .zip(samples)
                .for_each(|(to, from)| *to = *from);
            for &sample in filter.run(piece) {
                if self.to.push(sample).is_err() {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            done += piece;
        }
        self.rest.drain(..done);
        Ok(())
    }
}

fn to_i16(sample: f32) -> i16 {
    // A cast saturates.
    (sample * 32_768.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Capture, Playback, ring};

    /// A tone of 400 Hz by the card's own clock.
    fn card_tone(rate: u32, at: u64) -> f32 {
        (at as f64 * 400.0 * std::f64::consts::TAU / f64::from(rate)).sin() as f32 * 0.5
    }

    /// How much of the power lies at one frequency.
    fn share(samples: &[i16], rate: u32, hz: f64) -> f64 {
        let (mut sine, mut cosine, mut power) = (0.0, 0.0, 1e-9);
        for (index, sample) in samples.iter().enumerate() {
            let angle = index as f64 * std::f64::consts::TAU * hz / f64::from(rate);
            let sample = f64::from(*sample);
            sine += sample * angle.sin();
            cosine += sample * angle.cos();
            power += sample * sample;
        }
        (sine * sine + cosine * cosine) * 2.0 / (power * samples.len() as f64)
    }

    /// Runs both sides for a while of the call's time, in steps of a millisecond; `card` moves `period` frames at a time.
    fn in_time(
        seconds: u64,
        rate: u32,
        drift: f64,
        period: u64,
        mut card: impl FnMut(u64),
        mut call: impl FnMut(),
    ) {
        let (mut moved, per_ms) = (0, f64::from(rate) * (1.0 + drift) / 1_000.0);
        for ms in 0..seconds * 1_000 {
            while ((moved + period) as f64) < ms as f64 * per_ms {
                card(moved);
                moved += period;
            }
            if ms % 20 == 0 {
                call();
            }
        }
    }

    #[test]
    fn a_microphone_whose_clock_is_another_is_heard_without_a_gap() {
        for (card, rate) in [
            (48_000, 8_000),
            (48_000, 48_000),
            (44_100, 16_000),
            (16_000, 48_000),
        ] {
            for drift in [0.0, 0.005, -0.005] {
                for ms in [10, 43] {
                    let period = u64::from(card) * ms / 1_000;
                    let (to, from, shared) = ring(card);
                    let mut capture = Capture {
                        to,
                        channels: 1,
                        shared: Arc::clone(&shared),
                    };
                    let mut reader = Reader::new(from, card, Arc::clone(&shared));
                    let mut heard = Vec::new();
                    let mut frame = vec![0i16; rate as usize / 50];
                    let says = |at: u64| {
                        let samples: Vec<f32> = (at..at + period).map(|at| card_tone(card, at)).collect();
                        capture.heard(&samples, |sample| sample);
                    };
                    let hears = || {
                        let count = reader.read(rate, &mut frame).unwrap();
                        heard.push((count == frame.len(), frame.clone()));
                    };
                    in_time(60, card, drift, period, says, hears);
                    let case = format!("{card} to {rate}, {drift}, {ms} ms");
                    let first = heard.iter().position(|(whole, _)| *whole).unwrap();
                    // The first period may have shown to be longer than thought.
                    let gaps = heard[first + 25..].iter().filter(|(whole, _)| !whole).count();
                    assert_eq!((gaps, shared.dropped.load(Ordering::Relaxed)), (0, 0), "{case}");
                    // The first seconds find out where the level swings.
                    for start in (first + 250..heard.len() - 5).step_by(50) {
                        let piece: Vec<i16> = heard[start..start + 5]
                            .iter()
                            .flat_map(|(_, f)| f.clone())
                            .collect();
                        let alike = share(&piece, rate, 400.0 * (1.0 + drift));
                        assert!(alike > 0.8, "{case}: {alike} at {start}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_loudspeaker_whose_clock_is_another_plays_without_a_gap() {
        for (card, rate) in [(48_000, 8_000), (44_100, 48_000)] {
            for drift in [0.0, 0.005, -0.005] {
                let period = 480;
                let (to, from, shared) = ring(card);
                let mut playback = Playback {
                    from,
                    channels: 1,
                    shared: Arc::clone(&shared),
                    flows: false,
                };
                let mut writer = Writer::new(to, card, Arc::clone(&shared));
                let (mut played, mut said) = (Vec::new(), 0u64);
                let plays = |_| {
                    let mut samples = vec![0i16; period as usize];
                    playback.wanted(&mut samples, to_i16);
                    played.extend(samples);
                };
                let says = || {
                    let frame: Vec<i16> = (said..said + u64::from(rate / 50))
                        .map(|at| to_i16(card_tone(rate, at)))
                        .collect();
                    said += frame.len() as u64;
                    writer.write(rate, &frame).unwrap();
                };
                in_time(60, card, drift, period, plays, says);
                let case = format!("{rate} to {card}, {drift}");
                let counts = [&shared.starved, &shared.dropped].map(|count| count.load(Ordering::Relaxed));
                assert_eq!(counts, [0, 0], "{case}");
                for piece in played.chunks_exact(card as usize).skip(1) {
                    let alike = share(&piece[..card as usize / 10], card, 400.0 / (1.0 + drift));
                    assert!(alike > 0.8, "{case}: {alike}");
                }
            }
        }
    }

    #[test]
    fn a_ring_that_ran_full_is_heard_from_now_on() {
        let (to, from, shared) = ring(8_000);
        let mut capture = Capture {
            to,
            channels: 1,
            shared: Arc::clone(&shared),
        };
        for _ in 0..1_000 {
            capture.heard(&[0.5f32; 80], |sample| sample);
        }
        let mut reader = Reader::new(from, 8_000, Arc::clone(&shared));
        let mut frame = [0i16; 160];
        assert_eq!(reader.read(8_000, &mut frame).unwrap(), 0);
        for _ in 0..10 {
            capture.heard(&[-0.25f32; 80], |sample| sample);
        }
        assert_eq!(reader.read(8_000, &mut frame).unwrap(), 160);
        // What was old would be 16,384.
        assert!(
            frame.iter().all(|sample| *sample < 1_000) && frame[159] < -8_000,
            "{frame:?}"
        );
    }

    #[test]
    fn what_was_said_before_the_call_and_what_is_too_old_is_not_heard() {
        let (to, from, shared) = ring(8_000);
        let mut capture = Capture {
            to,
            channels: 1,
            shared: Arc::clone(&shared),
        };
        capture.heard(&[0.5f32; 80], |sample| sample);
        capture.heard(&vec![0.5f32; 3_000], |sample| sample);
        shared.period.store(80, Ordering::Relaxed);
        let mut reader = Reader::new(from, 8_000, Arc::clone(&shared));
        let mut frame = [0i16; 160];
        assert_eq!(reader.read(8_000, &mut frame).unwrap(), 160);
        assert!(reader.from.slots() < 800, "{}", reader.from.slots());
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 0);
        capture.heard(&vec![0.5f32; 3_000], |sample| sample);
        shared.period.store(80, Ordering::Relaxed);
        reader.read(8_000, &mut frame).unwrap();
        assert!(shared.dropped.load(Ordering::Relaxed) > 2_000);
    }
}

//! Between the card's callback and the call: samples that wait, without a lock, a wait or an allocation on the card's side.

use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// How much may wait. What comes when it is full is dropped and counted.
pub(crate) const SECONDS: f64 = 0.5;

/// What the two sides tell each other, and what is counted.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The most frames that the card moved at once: its clock is no finer.
    pub(crate) period: AtomicU32,
    /// Samples that are to wait before the loudspeaker begins.
    pub(crate) wanted: AtomicU32,
    /// Samples dropped because nobody took them.
    pub(crate) dropped: AtomicU64,
    /// Times that there was nothing when something was wanted.
    pub(crate) starved: AtomicU64,
    /// The card's own xruns.
    pub(crate) xruns: AtomicU64,
    pub(crate) gone: AtomicBool,
}

impl Shared {
    fn moved(&self, frames: usize) {
        self.period
            .fetch_max(u32::try_from(frames).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// Mono samples at the card's rate, and what is known of them at both ends.
pub(crate) fn ring(rate: u32) -> (Producer<f32>, Consumer<f32>, Arc<Shared>) {
    let (producer, consumer) = RingBuffer::new((f64::from(rate) * SECONDS) as usize);
    (producer, consumer, Arc::default())
}

/// The microphone's callback.
pub(crate) struct Capture {
    pub(crate) to: Producer<f32>,
    pub(crate) channels: usize,
    pub(crate) shared: Arc<Shared>,
}

impl Capture {
    /// Takes interleaved samples of the card: the call hears their mean.
    pub(crate) fn heard<T: Copy>(&mut self, samples: &[T], as_f32: impl Fn(T) -> f32) {
        let frames = samples.chunks_exact(self.channels.max(1));
        self.shared.moved(frames.len());
        for frame in frames {
            let sum: f32 = frame.iter().map(|&sample| as_f32(sample)).sum();
            if self.to.push(sum / frame.len() as f32).is_err() {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The loudspeaker's callback.
pub(crate) struct Playback {
    pub(crate) from: Consumer<f32>,
    pub(crate) channels: usize,
    pub(crate) shared: Arc<Shared>,
    /// Enough waited, and since then there was always something.
    pub(crate) flows: bool,
}

impl Playback {
    /// Fills the card's interleaved buffer; silence until enough waits.
    pub(crate) fn wanted<T: Copy>(&mut self, samples: &mut [T], from_f32: impl Fn(f32) -> T) {
        let channels = self.channels.max(1);
        self.shared.moved(samples.len() / channels);
        if !self.flows {
            let wanted = self.shared.wanted.load(Ordering::Relaxed);
            self.flows = wanted > 0 && self.from.slots() >= wanted as usize;
        }
        let flowed = self.flows;
        for frame in samples.chunks_mut(channels) {
            let sample = if self.flows { self.from.pop().ok() } else { None };
            self.flows = sample.is_some();
            frame.fill(from_f32(sample.unwrap_or(0.0)));
        }
        if flowed && !self.flows {
            self.shared.starved.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_mixed_on_their_way_in_and_spread_on_their_way_out() {
        let (to, from, shared) = ring(8_000);
        let mut capture = Capture {
            to,
            channels: 2,
            shared: Arc::clone(&shared),
        };
        capture.heard(&[100i16, 300, -50, 50], f32::from);
        shared.wanted.store(2, Ordering::Relaxed);
        let mut playback = Playback {
            from,
            channels: 3,
            shared: Arc::clone(&shared),
            flows: false,
        };
        let mut out = [9i16; 9];
        playback.wanted(&mut out, |sample| sample as i16);
        assert_eq!(out, [200, 200, 200, 0, 0, 0, 0, 0, 0]);
        // It ran dry, and begins again when enough waits.
        assert_eq!(shared.starved.load(Ordering::Relaxed), 1);
        capture.heard(&[1i16, 1], f32::from);
        playback.wanted(&mut out, |sample| sample as i16);
        assert_eq!(out, [0; 9]);
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let (to, from, shared) = ring(8_000);
        let mut capture = Capture {
            to,
            channels: 1,
            shared: Arc::clone(&shared),
        };
        capture.heard(&[0i16; 5_000], f32::from);
        assert_eq!(from.slots(), 4_000);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 1_000);
    }
}

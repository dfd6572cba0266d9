//! Audio as a program has it: samples at a rate of its own, asked for and given when it likes.

use crate::config::{AudioSink, AudioSource, Sink, Source};
use crate::polyphase::Polyphase;
use parking_lot::Mutex;
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, mpsc};

/// Frames that wait to be heard: 1.3 s of 20 ms each. **Policy when full**: what comes is dropped and counted.
const MAX_HEARD: usize = 64;

/// Most seconds that wait to be said. **Policy beyond**: no more is taken, and [`Voice::say`] says how much was.
const MAX_SAID: usize = 30;

/// A call's audio in a program's hands: what the peer says is heard from it, and what is said to it the peer hears.
///
/// ```
/// # async fn example() -> siprtc_core::Result<()> {
/// use siprtc_media_session::Voice;
///
/// let (mut voice, source, sink) = Voice::open(16_000)?; // Source and sink go into the call's media plan.
/// while let Some(samples) = voice.hear().await {
///     voice.say(&samples); // An echo.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Voice {
    heard: mpsc::Receiver<Vec<i16>>,
    speech: Arc<Speech>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Speech {
    rate: u32,
    waiting: Mutex<Waiting>,
    spoken: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    samples: VecDeque<i16>,
    /// The call is over, or its source was replaced.
    closed: bool,
}

impl Voice {
    /// A voice, and the two ends for one call's media.
    ///
    /// Errors: [`Fault::ApiMisuse`] for another `rate` than 8000, 16000 and 48000 Hz, the codecs'.
    pub fn open(rate: u32) -> Result<(Voice, Source, Sink)> {
        if !matches!(rate, 8_000 | 16_000 | 48_000) {
            return Err(Error::new(
                Fault::ApiMisuse,
                "open a voice",
                format!("{rate} Hz is no codec's rate"),
            )
            .advice("take 8000, 16000 or 48000 Hz, and resample to what you need"));
        }
        let (sender, heard) = mpsc::channel(MAX_HEARD);
        let dropped = Arc::new(AtomicU64::new(0));
        let speech = Arc::new(Speech {
            rate,
            waiting: Mutex::default(),
            spoken: Notify::new(),
        });
        let mouth = Mouth {
            speech: Arc::clone(&speech),
            work: Mutex::new((Polyphase::new(rate, rate), Vec::new(), VecDeque::new())),
        };
        let ear = Ear {
            rate,
            sender,
            dropped: Arc::clone(&dropped),
            filter: Mutex::new(Polyphase::new(rate, rate)),
        };
        let voice = Voice {
            heard,
            speech,
            dropped,
        };
        Ok((
            voice,
            Source::Samples(Arc::new(mouth)),
            Sink::Samples(Arc::new(ear)),
        ))
    }

    /// The next samples of the peer, a packet time's (20 ms, as a rule). `None` once the call is over. May be given up and
    /// asked again.
    pub async fn hear(&mut self) -> Option<Vec<i16>> {
        self.heard.recv().await
    }

    /// Says `samples` after what waits to be said, and how many of them were taken: 30 s may wait. Whenever nothing waits the peer
    /// hears silence.
    pub fn say(&self, samples: &[i16]) -> usize {
        let mut waiting = self.speech.waiting.lock();
        let most = self.speech.rate as usize * MAX_SAID;
        let taken = match waiting.closed {
            true => 0,
            false => samples.len().min(most.saturating_sub(waiting.samples.len())),
        };
        waiting.samples.extend(samples.iter().take(taken));
        taken
    }

    /// Waits until all that was to be said is said, or the call is over.
    pub async fn said(&self) {
        loop {
            let spoken = self.speech.spoken.notified();
            tokio::pin!(spoken);
            // Before the look: what is said in between must not be missed.
            spoken.as_mut().enable();
            let over = {
                let waiting = self.speech.waiting.lock();
                waiting.closed || waiting.samples.is_empty()
            };
            if over {
                return;
            }
            spoken.await;
        }
    }

    /// Says nothing of what still waits: the peer has interrupted.
    pub fn hush(&self) {
        self.speech.waiting.lock().samples.clear();
        self.speech.spoken.notify_waiters();
    }

    /// Samples that nobody heard in time.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Mouth {
    speech: Arc<Speech>,
    /// From the program's rate to the codec's, and what it brought beyond a frame.
    work: Mutex<(Polyphase, Vec<i16>, VecDeque<i16>)>,
}

impl AudioSource for Mouth {
    fn read(&self, rate: u32, frame: &mut [i16]) -> usize {
        let mut work = self.work.lock();
        let (filter, chunk, ready) = &mut *work;
        if filter.rates() != (self.speech.rate, rate) {
            *filter = Polyphase::new(self.speech.rate, rate);
            ready.clear();
        }
        let missing = frame.len().saturating_sub(ready.len());
        // 8, 16 and 48 kHz: one is a whole multiple of the other.
        let wanted = (missing as u64 * u64::from(self.speech.rate)).div_ceil(u64::from(rate.max(1))) as usize;
        chunk.clear();
        {
            let mut waiting = self.speech.waiting.lock();
            let there = wanted.min(waiting.samples.len());
            chunk.extend(waiting.samples.drain(..there));
            if waiting.samples.is_empty() {
                self.speech.spoken.notify_waiters();
            }
        }
        let mut made = Vec::with_capacity(missing);
        filter.push(chunk, &mut made);
        ready.extend(made);
        let there = frame.len().min(ready.len());
        for (slot, sample) in frame.iter_mut().zip(ready.drain(..there)) {
            *slot = sample;
        }
        there
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.speech.waiting.lock().closed = true;
        self.speech.spoken.notify_waiters();
    }
}

struct Ear {
    rate: u32,
    sender: mpsc::Sender<Vec<i16>>,
    dropped: Arc<AtomicU64>,
    filter: Mutex<Polyphase>,
}

impl AudioSink for Ear {
    fn write(&self, rate: u32, frame: &[i16]) {
        let mut samples = Vec::with_capacity(frame.len());
        {
            let mut filter = self.filter.lock();
            if filter.rates() != (rate, self.rate) {
                *filter = Polyphase::new(rate, self.rate);
            }
            filter.push(frame, &mut samples);
        }
        if let Err(error) = self.sender.try_send(samples) {
            let lost = error.into_inner().len() as u64;
            self.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(rate: u32) -> (Voice, Arc<dyn AudioSource>, Arc<dyn AudioSink>) {
        match Voice::open(rate).unwrap() {
            (voice, Source::Samples(source), Sink::Samples(sink)) => (voice, source, sink),
            _ => unreachable!("it gives samples"),
        }
    }

    #[tokio::test]
    async fn what_is_said_is_heard_at_every_codecs_rate_and_as_loud() {
        for own in [8_000_u32, 16_000, 48_000] {
            for codec in [8_000_u32, 16_000, 48_000] {
                let (mut voice, source, sink) = ends(own);
                let tone = |index: usize, rate: u32| {
                    let phase = index as f64 * 400.0 / f64::from(rate) * std::f64::consts::TAU;
                    (phase.sin() * 8_000.0) as i16
                };
                let words: Vec<i16> = (0..own as usize / 2).map(|index| tone(index, own)).collect();
                assert_eq!(voice.say(&words), words.len());
                let mut frame = vec![0; codec as usize / 50];
                let (mut read, mut power) = (0, 0.0);
                loop {
                    let there = source.read(codec, &mut frame);
                    read += there;
                    power += frame[..there].iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
                    sink.write(codec, &frame[..there]);
                    if there < frame.len() {
                        break;
                    }
                    let heard = voice.hear().await.unwrap();
                    assert_eq!(heard.len(), own as usize / 50, "{own} {codec}");
                }
                assert_eq!(read, codec as usize / 2, "{own} {codec}");
                let loud = (power / read as f64).sqrt();
                assert!((5_000.0..6_000.0).contains(&loud), "{own} {codec}: {loud}");
                voice.said().await;
            }
        }
    }

    #[tokio::test]
    async fn both_directions_are_bounded_and_end_with_the_call() {
        let (mut voice, source, sink) = ends(8_000);
        assert_eq!(voice.say(&vec![1; 8_000 * 31]), 8_000 * 30);
        assert_eq!(voice.say(&[1]), 0);
        voice.hush();
        voice.said().await;
        for _ in 0..70 {
            sink.write(8_000, &[0; 160]);
        }
        assert_eq!(voice.dropped(), 6 * 160);
        assert_eq!(voice.say(&[1]), 1);
        drop((source, sink));
        voice.said().await;
        let mut heard = 0;
        while voice.hear().await.is_some() {
            heard += 1;
        }
        assert_eq!((heard, voice.say(&[1])), (64, 0));
    }

    #[test]
    fn a_rate_that_no_codec_has_is_refused() {
        assert!(Voice::open(44_100).is_err());
    }
}

//! When a frame need not be sent: voice activity by level above the background, and discontinuous transmission.

use crate::comfort::{Description, NoiseWatcher};
use crate::level::level_dbov;
use bytes::Bytes;

/// This much above the background is a voice.
const ABOVE_DB: f32 = 9.0;
/// Whatever is quieter is silence.
const QUIET_DBOV: f32 = -70.0;
/// The background is never taken for louder than this, so that music of an even level stays what it is.
const LOUDEST_BACKGROUND_DBOV: f32 = -45.0;
/// What the background is before anything was heard.
const FIRST_BACKGROUND_DBOV: f32 = -60.0;
/// How fast the background may rise, per second.
const RISE_DB: f32 = 2.0;
/// The end of a word is quiet: so long nothing is taken for silence after it.
const HANGOVER_MS: u32 = 240;
/// What the background is like is said again after so long; RFC 7587 section 3.1.3 has 400 ms for Opus.
const UPDATE_MS: u32 = 400;
/// Or after this, when its level changed by [`CHANGE_DB`].
const SOON_MS: u32 = 100;
const CHANGE_DB: f32 = 3.0;

/// Tells voice from background.
#[derive(Debug)]
pub(crate) struct VoiceActivity {
    background: f32,
    quiet_ms: u32,
}

impl Default for VoiceActivity {
    fn default() -> Self {
        VoiceActivity {
            background: FIRST_BACKGROUND_DBOV,
            // A stream begins with silence until a voice is heard.
            quiet_ms: HANGOVER_MS,
        }
    }
}

impl VoiceActivity {
    /// Whether this frame is to be heard.
    pub(crate) fn is_active(&mut self, dbov: f32, ms: u32) -> bool {
        let voice = dbov > QUIET_DBOV && dbov > self.background + ABOVE_DB;
        if dbov < self.background {
            self.background = dbov.max(crate::level::SILENT_DBOV);
        } else {
            let rise = RISE_DB * ms as f32 / 1_000.0;
            self.background = (self.background + rise).min(dbov).min(LOUDEST_BACKGROUND_DBOV);
        }
        self.quiet_ms = if voice {
            0
        } else {
            self.quiet_ms.saturating_add(ms)
        };
        self.quiet_ms < HANGOVER_MS
    }
}

/// What is to be done with a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Transmit {
    /// It is sent.
    Audio,
    /// This comfort noise is sent in its place.
    Noise(Bytes),
    /// Nothing is sent.
    Nothing,
}

/// How a stream says silence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Means {
    /// RFC 3389.
    ComfortNoise,
    /// A frame of background now and then (RFC 7587 section 3.1.3).
    Frames,
}

/// Decides frame by frame.
#[derive(Debug, Default)]
pub(crate) struct Discontinuous {
    activity: VoiceActivity,
    watcher: NoiseWatcher,
    /// Since the last that was said of this silence, and its level; `None` while there is none.
    said: Option<(u32, f32)>,
}

impl Discontinuous {
    pub(crate) fn frame(&mut self, rate: u32, frame: &[i16], means: Means) -> Transmit {
        let ms = (frame.len() as u64 * 1_000 / u64::from(rate.max(1))) as u32;
        if self.activity.is_active(level_dbov(frame), ms) {
            self.said = None;
            return Transmit::Audio;
        }
        if self.said.is_none() {
            self.watcher = NoiseWatcher::default();
        }
        self.watcher.watch(frame);
        let description = self.watcher.description();
        if let Some((since, dbov)) = &mut self.said {
            *since += ms;
            let changed = *since >= SOON_MS && (description.dbov - *dbov).abs() >= CHANGE_DB;
            if *since < UPDATE_MS && !(changed && means == Means::ComfortNoise) {
                return Transmit::Nothing;
            }
        }
        self.said = Some((0, description.dbov));
        match means {
            Means::ComfortNoise => Transmit::Noise(Description::payload(&description)),
            Means::Frames => Transmit::Audio,
        }
    }

    /// Whether the last frame was part of a silence.
    pub(crate) fn is_silent(&self) -> bool {
        self.said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comfort::NoiseMaker;
    use crate::signal::{speech, tone};

    fn noise(level: u8, samples: usize) -> Vec<i16> {
        let mut maker = NoiseMaker::new(8_000);
        maker.describe(Description::parse(&[level]).unwrap());
        let mut out = Vec::new();
        maker.make(samples, &mut out);
        out
    }

    fn decide(samples: &[i16], means: Means) -> Vec<Transmit> {
        let mut decider = Discontinuous::default();
        samples
            .chunks_exact(160)
            .map(|frame| decider.frame(8_000, frame, means))
            .collect()
    }

    #[test]
    fn a_voice_is_sent_and_the_background_after_it_is_told_now_and_then() {
        let mut samples = noise(60, 8_000);
        samples.extend(speech(8_000, 1.0));
        samples.extend(noise(60, 16_000));
        let decided = decide(&samples, Means::ComfortNoise);
        assert!(!decided[..50].contains(&Transmit::Audio));
        assert!(decided[50..100].iter().all(|one| *one == Transmit::Audio));
        // The hangover, then silence of two seconds less that.
        let silence = &decided[100 + HANGOVER_MS as usize / 20..];
        let told: Vec<&Bytes> = silence
            .iter()
            .filter_map(|one| match one {
                Transmit::Noise(payload) => Some(payload),
                Transmit::Audio => panic!("silence is sent"),
                Transmit::Nothing => None,
            })
            .collect();
        assert!((4..=6).contains(&told.len()), "{}", told.len());
        assert!(told.iter().all(|payload| payload[0].abs_diff(60) <= 2));
    }

    #[test]
    fn music_of_an_even_level_is_never_silence() {
        let decided = decide(&tone(8_000, 440.0, 60.0), Means::ComfortNoise);
        assert!(decided.iter().all(|one| *one == Transmit::Audio));
    }

    #[test]
    fn opus_sends_a_frame_of_background_every_400_ms() {
        let decided = decide(&vec![0; 8_000 * 4], Means::Frames);
        let sent = decided.iter().filter(|one| **one == Transmit::Audio).count();
        assert_eq!(sent, 10);
    }
}

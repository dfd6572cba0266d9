//! Echo cancellation, noise suppression and automatic gain control by `sonora`, as two stages that belong together: what
//! the speaker plays goes through one, what the microphone hears through the other.

use crate::stage::Stage;
use parking_lot::Mutex;
use sonora::config::{AdaptiveDigital, EchoCanceller, GainController2, NoiseSuppression};
use sonora::{AudioProcessing, Config, StreamConfig};
use std::sync::Arc;

/// `sonora` takes frames of 10 ms.
const FRAMES_PER_SECOND: usize = 100;

/// What is done to what the microphone hears. The default is all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VoiceProcessing {
    /// What the speaker plays is taken out of what the microphone hears.
    pub echo_cancellation: bool,
    /// Steady noise is lowered.
    pub noise_suppression: bool,
    /// A voice is brought to an even level.
    pub gain_control: bool,
}

impl Default for VoiceProcessing {
    fn default() -> Self {
        VoiceProcessing {
            echo_cancellation: true,
            noise_suppression: true,
            gain_control: true,
        }
    }
}

impl VoiceProcessing {
    /// The stage for the sending chain (the microphone's) and the one for the receiving chain (the speaker's). Without the
    /// second one in place no echo is cancelled.
    #[must_use]
    pub fn stages(self) -> (MicrophoneStage, SpeakerStage) {
        let shared = Arc::new(Mutex::new(Shared {
            config: self,
            rates: (0, 0),
            inner: None,
        }));
        let microphone = MicrophoneStage {
            shared: Arc::clone(&shared),
            tens: Tens::default(),
        };
        let speaker = SpeakerStage {
            shared,
            tens: Tens::default(),
        };
        (microphone, speaker)
    }
}

struct Shared {
    config: VoiceProcessing,
    /// The microphone's and the speaker's, 0 while unknown.
    rates: (u32, u32),
    inner: Option<AudioProcessing>,
}

impl Shared {
    /// The processing for these rates; it begins anew when one of them changes.
    fn at(&mut self, microphone: Option<u32>, speaker: Option<u32>) -> &mut AudioProcessing {
        let rates = (
            microphone.unwrap_or(self.rates.0),
            speaker.unwrap_or(self.rates.1),
        );
        if rates != self.rates {
            self.rates = rates;
            self.inner = None;
        }
        let config = self.config;
        self.inner.get_or_insert_with(|| {
            let known = |rate: u32| StreamConfig::new(if rate == 0 { 16_000 } else { rate }, 1);
            AudioProcessing::builder()
                .config(Config {
                    echo_canceller: config.echo_cancellation.then(EchoCanceller::default),
                    noise_suppression: config.noise_suppression.then(NoiseSuppression::default),
                    gain_controller2: config.gain_control.then(|| GainController2 {
                        adaptive_digital: Some(AdaptiveDigital::default()),
                        ..GainController2::default()
                    }),
                    ..Config::default()
                })
                .capture_config(known(rates.0))
                .render_config(known(rates.1))
                .build()
        })
    }
}

/// Cuts frames of any length into those of 10 ms. As long as they are whole multiples, as every packet of ours is, nothing is
/// held back; with the first one that is not, 10 ms of delay begin.
#[derive(Default)]
struct Tens {
    waiting: Vec<i16>,
    ready: Vec<i16>,
    delayed: bool,
    rate: u32,
}

impl Tens {
    fn through(&mut self, rate: u32, frame: &mut [i16], mut work: impl FnMut(&[i16], &mut [i16])) {
        let ten = (rate as usize / FRAMES_PER_SECOND).max(1);
        if std::mem::replace(&mut self.rate, rate) != rate {
            *self = Tens {
                rate,
                ..Tens::default()
            };
        }
        if !self.delayed && !frame.len().is_multiple_of(ten) {
            self.delayed = true;
            self.ready.resize(ten, 0);
        }
        self.waiting.extend_from_slice(frame);
        let whole = self.waiting.len() / ten * ten;
        for piece in self.waiting.chunks_exact(ten) {
            let start = self.ready.len();
            self.ready.extend_from_slice(piece);
            work(piece, self.ready.get_mut(start..).unwrap_or_default());
        }
        self.waiting.drain(..whole);
        let count = frame.len().min(self.ready.len());
        frame
            .iter_mut()
            .zip(self.ready.drain(..count))
            .for_each(|(sample, done)| *sample = done);
    }
}

/// For the sending chain.
pub struct MicrophoneStage {
    shared: Arc<Mutex<Shared>>,
    tens: Tens,
}

impl Stage for MicrophoneStage {
    fn process(&mut self, rate: u32, frame: &mut [i16]) {
        let mut shared = self.shared.lock();
        let inner = shared.at(Some(rate), None);
        self.tens.through(rate, frame, |heard, out| {
            // Refused are only rates and lengths that no codec has: then the audio stays as it is.
            if let Err(error) = inner.process_capture_i16(heard, out) {
                tracing::trace!(?error, "microphone audio is not processed");
            }
        });
    }
}

/// For the receiving chain; does not change what is played.
pub struct SpeakerStage {
    shared: Arc<Mutex<Shared>>,
    tens: Tens,
}

impl Stage for SpeakerStage {
    fn process(&mut self, rate: u32, frame: &mut [i16]) {
        let mut shared = self.shared.lock();
        let inner = shared.at(None, Some(rate));
        let mut played = frame.to_vec();
        self.tens.through(rate, &mut played, |playing, out| {
            if let Err(error) = inner.process_render_i16(playing, out) {
                tracing::trace!(?error, "speaker audio is not analysed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comfort::{Description, NoiseMaker};
    use crate::level::level_dbov;
    use crate::signal::speech;

    const RATE: u32 = 16_000;
    const FRAME: usize = 320;

    fn noise(level: u8, seconds: usize) -> Vec<i16> {
        let mut maker = NoiseMaker::new(RATE);
        maker.describe(Description::parse(&[level]).unwrap());
        let mut out = Vec::new();
        maker.make(RATE as usize * seconds, &mut out);
        out
    }

    /// A voice over some noise, so that every frequency is in it.
    fn voice(seconds: usize) -> Vec<i16> {
        let voice = speech(RATE, seconds as f64);
        voice
            .iter()
            .zip(noise(40, seconds))
            .map(|(&voice, noise)| (voice / 2).saturating_add(noise))
            .collect()
    }

    #[test]
    fn an_echo_is_cancelled_and_the_near_voice_is_not() {
        let only = VoiceProcessing {
            echo_cancellation: true,
            noise_suppression: false,
            gain_control: false,
        };
        let (mut microphone, mut speaker) = only.stages();
        let far = voice(12);
        // A room: 30 ms of way and three reflections.
        let path = [(480usize, 0.4f32), (620, -0.2), (811, 0.12), (1_300, 0.06)];
        let echo: Vec<i16> = (0..far.len())
            .map(|at| {
                let sum: f32 = path
                    .iter()
                    .filter_map(|(delay, gain)| {
                        far.get(at.checked_sub(*delay)?).map(|s| f32::from(*s) * gain)
                    })
                    .sum();
                sum as i16
            })
            .collect();
        let mut left = Vec::new();
        for (played, heard) in far.chunks_exact(FRAME).zip(echo.chunks_exact(FRAME)) {
            speaker.process(RATE, &mut played.to_vec());
            let mut heard = heard.to_vec();
            microphone.process(RATE, &mut heard);
            left.extend(heard);
        }
        let late = 8 * RATE as usize;
        let erle = level_dbov(&echo[late..]) - level_dbov(&left[late..]);
        println!("echo return loss enhancement {erle:.1} dB");
        assert!(erle > 20.0, "{erle}");
        // The far end is silent now, and the near one speaks.
        let near = speech(RATE, 2.0);
        let mut sent = Vec::new();
        for frame in near.chunks_exact(FRAME) {
            speaker.process(RATE, &mut [0; FRAME]);
            let mut frame = frame.to_vec();
            microphone.process(RATE, &mut frame);
            sent.extend(frame);
        }
        let late = RATE as usize;
        let lost = level_dbov(&near[late..]) - level_dbov(&sent[late..]);
        assert!(lost.abs() < 3.0, "{lost}");
    }

    #[test]
    fn steady_noise_is_lowered() {
        let only = VoiceProcessing {
            echo_cancellation: false,
            noise_suppression: true,
            gain_control: false,
        };
        let (mut microphone, _speaker) = only.stages();
        let before = noise(45, 6);
        let mut after = before.clone();
        after
            .chunks_exact_mut(FRAME)
            .for_each(|frame| microphone.process(RATE, frame));
        let late = 3 * RATE as usize;
        let lowered = level_dbov(&before[late..]) - level_dbov(&after[late..]);
        println!("noise lowered by {lowered:.1} dB");
        assert!(lowered > 6.0, "{lowered}");
    }

    #[test]
    fn a_quiet_voice_is_made_louder() {
        let only = VoiceProcessing {
            echo_cancellation: false,
            noise_suppression: false,
            gain_control: true,
        };
        let (mut microphone, _speaker) = only.stages();
        let before: Vec<i16> = speech(RATE, 12.0).iter().map(|sample| sample / 20).collect();
        let mut after = before.clone();
        after
            .chunks_exact_mut(FRAME)
            .for_each(|frame| microphone.process(RATE, frame));
        let late = 8 * RATE as usize;
        let raised = level_dbov(&after[late..]) - level_dbov(&before[late..]);
        println!("voice raised by {raised:.1} dB");
        // A real voice is raised further: its detector learnt from people, and this is a stand-in.
        assert!(raised > 2.0, "{raised}");
    }

    #[test]
    fn frames_of_any_length_and_rate_pass() {
        let (mut microphone, mut speaker) = VoiceProcessing::default().stages();
        for rate in [8_000, 16_000, 48_000] {
            for length in [rate as usize / 100, 1, 77, 0, 4_801] {
                let mut frame = vec![100; length];
                speaker.process(rate, &mut frame);
                microphone.process(rate, &mut frame);
                assert_eq!(frame.len(), length);
            }
        }
    }
}

//! What is done to audio between codec and source or sink: a chain of stages, each of which can be switched on and off
//! while audio runs.

use crate::level::{SILENT_DBOV, level_dbov};
use crate::silence::VoiceActivity;
use siprtc_core::{Error, Fault, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A chain has no more stages than this; another one is refused.
const MAX_STAGES: usize = 16;

/// Works on frames of mono audio at the codec's rate, in place. Called on the media runtime for every packet: it must not
/// block.
pub trait Stage: Send {
    /// Takes a frame at `rate` Hz: 8000, 16000 or 48000, which may change with the codec. Its length is the packet's, 10 to
    /// 60 ms on the sending way and up to 200 ms on the receiving one.
    fn process(&mut self, rate: u32, frame: &mut [i16]);
}

/// Switches one stage; clones switch the same.
#[derive(Clone, Debug)]
pub struct StageSwitch(Arc<AtomicBool>);

impl StageSwitch {
    /// On or off, from the next frame on.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Stages, one after the other.
#[derive(Default)]
pub struct Chain(Vec<(StageSwitch, Box<dyn Stage>)>);

impl Chain {
    /// Without stages.
    #[must_use]
    pub fn new() -> Self {
        Chain::default()
    }

    /// Puts a stage at the end, switched on.
    ///
    /// Errors: [`Fault::ApiMisuse`] when the chain has 16 already.
    pub fn add(&mut self, stage: impl Stage + 'static) -> Result<StageSwitch> {
        if self.0.len() >= MAX_STAGES {
            let what = format!("the chain has {MAX_STAGES} stages");
            return Err(
                Error::new(Fault::ApiMisuse, "add a stage", what).advice("put several into one stage")
            );
        }
        let switch = StageSwitch(Arc::new(AtomicBool::new(true)));
        self.0.push((switch.clone(), Box::new(stage)));
        Ok(switch)
    }

    /// Whether there is no stage in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends a frame through the stages that are on.
    pub fn process(&mut self, rate: u32, frame: &mut [i16]) {
        for (switch, stage) in &mut self.0 {
            if switch.is_on() {
                stage.process(rate, frame);
            }
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(switch, _)| switch.is_on()))
            .finish()
    }
}

/// A number that another thread may read and set.
#[derive(Clone, Debug)]
struct Shared(Arc<AtomicU32>);

impl Shared {
    fn new(value: f32) -> Self {
        Shared(Arc::new(AtomicU32::new(value.to_bits())))
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f32) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// Makes audio louder or quieter; what is too loud is bent softly to full scale.
#[derive(Debug)]
pub struct Gain {
    wanted: GainControl,
    factor: f32,
}

/// Sets a [`Gain`]; clones set the same.
#[derive(Clone, Debug)]
pub struct GainControl(Shared);

impl GainControl {
    /// In dB; -60 to 30, and what is beyond is taken for the nearest.
    pub fn set_db(&self, db: f32) {
        self.0.set(factor_of(db));
    }
}

impl Gain {
    /// A gain of `db`, and what changes it.
    #[must_use]
    pub fn new(db: f32) -> (Self, GainControl) {
        let control = GainControl(Shared::new(factor_of(db)));
        let gain = Gain {
            wanted: control.clone(),
            factor: factor_of(db),
        };
        (gain, control)
    }
}

impl Stage for Gain {
    fn process(&mut self, _rate: u32, frame: &mut [i16]) {
        let wanted = self.wanted.0.get();
        let step = (wanted - self.factor) / frame.len().max(1) as f32;
        for sample in frame {
            self.factor += step;
            *sample = saturate(f32::from(*sample) * self.factor);
        }
        self.factor = wanted;
    }
}

/// Reads how loud the last frames were, without changing them.
#[derive(Debug)]
pub struct LevelMeter {
    shown: Level,
}

/// What a [`LevelMeter`] shows; clones show the same.
#[derive(Clone, Debug)]
pub struct Level(Shared);

impl Level {
    /// In dBov (RFC 6464): 0 is the loudest, -127 is silence. Rises at once and falls by 20 dB/s or faster.
    #[must_use]
    pub fn dbov(&self) -> f32 {
        self.0.get()
    }
}

impl LevelMeter {
    /// A meter, and what it shows.
    #[must_use]
    pub fn new() -> (Self, Level) {
        let shown = Level(Shared::new(SILENT_DBOV));
        (LevelMeter { shown: shown.clone() }, shown)
    }
}

impl Stage for LevelMeter {
    fn process(&mut self, rate: u32, frame: &mut [i16]) {
        let level = level_dbov(frame);
        let seconds = frame.len() as f32 / rate.max(1) as f32;
        let before = self.shown.0.get();
        // In the power's domain a fall is exponential: slower than 20 dB/s it would hide the pauses between words.
        self.shown
            .0
            .set(level.max(before - (20.0 * seconds).max((before - level) * 0.2)));
    }
}

/// Tells when a voice ends and begins again.
pub struct SilenceDetector {
    activity: VoiceActivity,
    silent: Option<bool>,
    tell: Box<dyn FnMut(bool) + Send>,
}

impl SilenceDetector {
    /// `tell` is called with `true` when silence begins and with `false` when it ends, and once at the beginning. It must
    /// not block.
    pub fn new(tell: impl FnMut(bool) + Send + 'static) -> Self {
        SilenceDetector {
            activity: VoiceActivity::default(),
            silent: None,
            tell: Box::new(tell),
        }
    }
}

impl Stage for SilenceDetector {
    fn process(&mut self, rate: u32, frame: &mut [i16]) {
        let ms = (frame.len() as u64 * 1_000 / u64::from(rate.max(1))) as u32;
        let silent = !self.activity.is_active(level_dbov(frame), ms);
        if self.silent.replace(silent) != Some(silent) {
            (self.tell)(silent);
        }
    }
}

/// The factor of a gain in dB.
pub(crate) fn factor_of(db: f32) -> f32 {
    10f32.powf(db.clamp(-60.0, 30.0) / 20.0)
}

/// Full scale is approached and never passed: what is louder than three quarters of it is bent.
pub(crate) fn saturate(sample: f32) -> i16 {
    const KNEE: f32 = 24_576.0;
    const ROOM: f32 = 32_767.0 - KNEE;
    if sample.abs() <= KNEE {
        return sample as i16;
    }
    (sample.signum() * (KNEE + ROOM * ((sample.abs() - KNEE) / ROOM).tanh())) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{speech, tone};
    use std::sync::Mutex;

    #[test]
    fn a_stage_that_is_switched_off_changes_nothing() {
        let mut chain = Chain::new();
        let (gain, control) = Gain::new(-6.0206);
        let switch = chain.add(gain).unwrap();
        let mut frame = [8_000; 160];
        switch.set(false);
        chain.process(8_000, &mut frame);
        assert_eq!(frame, [8_000; 160]);
        switch.set(true);
        chain.process(8_000, &mut frame);
        assert!(frame.iter().all(|sample| sample.abs_diff(4_000) <= 2));
        control.set_db(6.0206);
        chain.process(8_000, &mut frame);
        assert!(
            frame.windows(2).all(|pair| pair[1] >= pair[0]),
            "a gain changes without a click"
        );
        assert!(frame[159].abs_diff(8_000) <= 2);
    }

    #[test]
    fn too_loud_is_bent_and_never_wraps() {
        let (mut gain, _control) = Gain::new(30.0);
        let mut frame: Vec<i16> = (-300..300).map(|sample| sample * 100).collect();
        gain.process(8_000, &mut frame);
        assert!(frame.windows(2).all(|pair| pair[1] >= pair[0]));
        assert!(frame[0] < -32_000 && frame[599] > 32_000);
    }

    #[test]
    fn a_chain_of_sixteen_takes_no_more() {
        let mut chain = Chain::new();
        for _ in 0..MAX_STAGES {
            chain.add(LevelMeter::new().0).unwrap();
        }
        assert_eq!(
            chain.add(LevelMeter::new().0).unwrap_err().fault(),
            Fault::ApiMisuse
        );
    }

    #[test]
    fn the_meter_shows_the_level_and_falls_to_silence() {
        let (mut meter, level) = LevelMeter::new();
        assert_eq!(level.dbov(), -127.0);
        for frame in tone(16_000, 300.0, 0.2).chunks_mut(320) {
            meter.process(16_000, frame);
        }
        assert!((level.dbov() + 9.2).abs() < 0.5, "{}", level.dbov());
        for _ in 0..100 {
            meter.process(16_000, &mut [0; 320]);
        }
        assert_eq!(level.dbov(), -127.0);
    }

    #[test]
    fn silence_and_its_end_are_told_once_each() {
        let told: Arc<Mutex<Vec<bool>>> = Arc::default();
        let mut detector = SilenceDetector::new({
            let told = Arc::clone(&told);
            move |silent| told.lock().unwrap().push(silent)
        });
        let mut samples = vec![0; 8_000];
        samples.extend(speech(8_000, 2.0));
        samples.extend(vec![0; 8_000]);
        samples
            .chunks_mut(160)
            .for_each(|frame| detector.process(8_000, frame));
        assert_eq!(*told.lock().unwrap(), [true, false, true]);
    }
}

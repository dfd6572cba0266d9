//! Tells when a side falls quiet, by the level of what it says, and when it is heard again.

use crate::SessionEventKind;
use crate::events::Events;
use crate::level::level_dbov;
use std::time::Duration;

/// A click is no voice: so much of it is needed.
const ATTACK: Duration = Duration::from_millis(40);

/// When a side counts as quiet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuietConfig {
    /// What is no louder than this is quiet, in dBov: -127 to 0. A room is about -60, a voice about -30.
    pub dbov: f32,
    /// It is told when this long nothing was louder (the hang-over).
    pub after: Duration,
}

impl Default for QuietConfig {
    fn default() -> Self {
        QuietConfig {
            dbov: -50.0,
            after: Duration::from_secs(2),
        }
    }
}

/// Whose audio it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Talker {
    /// The peer's.
    Peer,
    /// Ours: what the source, or the conference, gives to be sent.
    Us,
}

/// Follows one side frame by frame.
#[derive(Debug)]
pub(crate) struct QuietWatch {
    config: QuietConfig,
    quiet: Duration,
    loud: Duration,
    /// What was told last.
    is_quiet: Option<bool>,
}

impl QuietWatch {
    pub(crate) fn new(config: QuietConfig) -> Self {
        QuietWatch {
            config,
            quiet: Duration::ZERO,
            loud: Duration::ZERO,
            is_quiet: None,
        }
    }

    /// Takes a frame; whether the side is quiet, when that is news.
    pub(crate) fn frame(&mut self, rate: u32, frame: &[i16]) -> Option<bool> {
        let time = Duration::from_micros(frame.len() as u64 * 1_000_000 / u64::from(rate.max(1)));
        if level_dbov(frame) <= self.config.dbov {
            return self.silence(time);
        }
        self.loud += time;
        if self.loud < ATTACK {
            return None;
        }
        self.quiet = Duration::ZERO;
        (self.is_quiet.replace(false) != Some(false)).then_some(false)
    }

    /// So long there was nothing at all.
    pub(crate) fn silence(&mut self, time: Duration) -> Option<bool> {
        self.loud = Duration::ZERO;
        self.quiet = self.quiet.saturating_add(time);
        if self.quiet < self.config.after {
            return None;
        }
        (self.is_quiet.replace(true) != Some(true)).then_some(true)
    }

    /// Tells it.
    pub(crate) fn tell(&self, events: &Events, who: Talker, is_quiet: bool) {
        events.emit(match is_quiet {
            true => SessionEventKind::Quiet {
                who,
                since: self.quiet,
            },
            false => SessionEventKind::Voice { who },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{speech, tone};

    fn told(watch: &mut QuietWatch, samples: &[i16]) -> Vec<(usize, bool)> {
        let frames = samples.chunks(160).enumerate();
        frames
            .filter_map(|(at, frame)| Some((at * 20, watch.frame(8_000, frame)?)))
            .collect()
    }

    #[test]
    fn quiet_is_told_after_the_hang_over_and_a_voice_at_once_each_once() {
        let mut watch = QuietWatch::new(QuietConfig {
            dbov: -50.0,
            after: Duration::from_millis(500),
        });
        assert_eq!(told(&mut watch, &speech(8_000, 2.0)), [(20, false)]);
        assert_eq!(told(&mut watch, &[3; 16_000]), [(480, true)]);
        assert_eq!(told(&mut watch, &speech(8_000, 1.0)), [(20, false)]);
        assert_eq!(watch.silence(Duration::from_secs(1)), Some(true));
        assert_eq!(watch.silence(Duration::from_secs(1)), None);
    }

    #[test]
    fn a_click_and_a_short_pause_are_no_news() {
        let mut watch = QuietWatch::new(QuietConfig::default());
        let mut samples = tone(8_000, 440.0, 1.0);
        samples.extend([0; 8_000]);
        samples.extend(tone(8_000, 440.0, 0.5));
        samples.extend([0; 12_000]);
        // The click, a frame of it, does not begin the hang-over anew.
        samples.extend(tone(8_000, 440.0, 0.02));
        samples.extend([0; 12_000]);
        assert_eq!(told(&mut watch, &samples), [(20, false), (4_500, true)]);
    }

    #[test]
    fn the_threshold_is_the_configured_one() {
        let at = |dbov| {
            let config = QuietConfig {
                dbov,
                after: Duration::from_millis(100),
            };
            told(&mut QuietWatch::new(config), &tone(8_000, 440.0, 0.4))
        };
        // The tone has -9.2 dBov.
        assert_eq!(at(-10.0), [(20, false)]);
        assert_eq!(at(-8.0), [(80, true)]);
    }
}

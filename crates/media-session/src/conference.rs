//! A conference of sessions: one [`Mixer`] with a clock, and a seat for each.

use crate::config::{AudioSink, AudioSource};
use crate::{LegId, LegStats, Mixer, MixerConfig};
use parking_lot::Mutex;
use siprtc_core::{CallId, Error, Fault, Result};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Mixed audio that waits to be sent; beyond it a leg's oldest is dropped.
const MAX_WAITING_MS: usize = 200;
/// What was not mixed in its time is mixed later, so that as much audio goes out as comes in; but not what is older than this, for
/// nobody waits for it any more.
const MAX_BEHIND: Duration = Duration::from_millis(MAX_WAITING_MS as u64);

/// How a conference works.
#[derive(Clone, Copy, Debug)]
pub struct ConferenceConfig {
    /// How it mixes.
    pub mixer: MixerConfig,
    /// Most seats, at most 128; another one is refused.
    pub max_legs: usize,
}

impl Default for ConferenceConfig {
    fn default() -> Self {
        ConferenceConfig {
            mixer: MixerConfig::default(),
            max_legs: 32,
        }
    }
}

/// Each leg hears all others and not itself. Cheap to clone; it mixes as long as somebody holds it or a seat.
///
/// ```
/// use siprtc_media_session::{Conference, ConferenceConfig};
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// let conference = Conference::open(ConferenceConfig::default(), runtime.handle())?;
/// let (alice, bob) = (conference.seat()?, conference.seat()?);
/// bob.set_gain(-6.0);
/// alice.set_muted(true);
/// assert_eq!(conference.legs(), 2);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Conference {
    room: Arc<Room>,
}

impl Conference {
    /// Opens one whose clock runs on `runtime`.
    ///
    /// Errors: [`Fault::ApiMisuse`] for a rate or a frame that no codec has.
    pub fn open(config: ConferenceConfig, runtime: &Handle) -> Result<Self> {
        let mixer = Mixer::new(config.mixer)?;
        let busy = Arc::new(Notify::new());
        let room = Arc::new(Room {
            config,
            busy: Arc::clone(&busy),
            table: Mutex::new(Table {
                mixer,
                tick: Duration::from_millis(u64::from(config.mixer.frame_ms)),
                due: None,
                legs: BTreeMap::new(),
                fresh: 0,
            }),
        });
        runtime.spawn(run(Arc::downgrade(&room), busy));
        Ok(Conference { room })
    }

    /// A seat for a session: give it to [`Confer`](crate::Confer).
    ///
    /// Errors: [`Fault::ApiMisuse`] when all are taken.
    pub fn seat(&self) -> Result<Arc<Seat>> {
        let mut table = self.room.table.lock();
        let most = self.room.config.max_legs;
        if table.legs.len() >= most {
            return Err(Error::new(
                Fault::ApiMisuse,
                "join a conference",
                format!("{most} legs are there"),
            )
            .advice("raise max_legs, or open another conference"));
        }
        let id = table.fresh;
        table.fresh += 1;
        table.legs.insert(id, Leg::default());
        drop(table);
        self.room.busy.notify_one();
        Ok(Arc::new(Seat {
            room: Arc::clone(&self.room),
            id,
            holder: Mutex::default(),
        }))
    }

    /// How many seats are taken.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.room.table.lock().legs.len()
    }
}

impl fmt::Debug for Conference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conference of {}", self.legs())
    }
}

struct Room {
    config: ConferenceConfig,
    table: Mutex<Table>,
    /// Somebody took a seat.
    busy: Arc<Notify>,
}

struct Table {
    mixer: Mixer,
    /// How much is mixed at a time.
    tick: Duration,
    /// When it is mixed next; `None`: nobody is there.
    due: Option<Instant>,
    legs: BTreeMap<u64, Leg>,
    fresh: u64,
}

#[derive(Default)]
struct Leg {
    /// In the mixer, at a rate, once its codec is known.
    place: Option<(LegId, u32)>,
    gain: f32,
    muted: bool,
    /// Mixed for it.
    heard: VecDeque<i16>,
    /// Enough waits that the next read does not run dry.
    primed: bool,
}

impl Table {
    /// A leg's place at this rate. A codec of another rate takes another one.
    fn place(&mut self, id: u64, rate: u32) -> Option<(LegId, &mut Leg)> {
        let leg = self.legs.get_mut(&id)?;
        let place = match leg.place {
            Some((place, own)) if own == rate => place,
            old => {
                if let Some((old, _)) = old {
                    self.mixer.leave(old);
                }
                // A rate that no codec has cannot come.
                let place = self.mixer.join(rate).ok()?;
                self.mixer.set_gain(place, leg.gain);
                leg.place = Some((place, rate));
                leg.heard.clear();
                leg.primed = false;
                place
            }
        };
        Some((place, leg))
    }

    /// Mixes what is due by now, and says when the next frame is.
    fn mix_until(&mut self, now: Instant) -> Option<Instant> {
        if self.legs.is_empty() {
            self.due = None;
            return None;
        }
        let mut due = self.due.unwrap_or(now);
        if now.saturating_duration_since(due) > MAX_BEHIND {
            due = now;
        }
        while due <= now {
            self.mix();
            due += self.tick;
        }
        self.due = Some(due);
        self.due
    }

    fn mix(&mut self) {
        self.mixer.mix();
        for leg in self.legs.values_mut() {
            let Some((place, rate)) = leg.place else { continue };
            leg.heard.extend(self.mixer.heard(place));
            let most = rate as usize * MAX_WAITING_MS / 1_000;
            let surplus = leg.heard.len().saturating_sub(most);
            leg.heard.drain(..surplus);
        }
    }
}

/// A seat in a [`Conference`].
pub struct Seat {
    room: Arc<Room>,
    id: u64,
    holder: Mutex<Option<CallId>>,
}

impl Seat {
    /// The call that sits there: a call that takes another's place has its seat, too. `None` before the first.
    #[must_use]
    pub fn holder(&self) -> Option<CallId> {
        *self.holder.lock()
    }

    pub(crate) fn sit(&self, call: CallId) {
        *self.holder.lock() = Some(call);
    }

    /// How loud this leg is for the others, in dB: -60 to 30.
    pub fn set_gain(&self, db: f32) {
        let table = &mut *self.room.table.lock();
        if let Some(leg) = table.legs.get_mut(&self.id) {
            leg.gain = db;
            if let Some((place, _)) = leg.place {
                table.mixer.set_gain(place, db);
            }
        }
    }

    /// The others do not hear this leg, or hear it again.
    pub fn set_muted(&self, muted: bool) {
        if let Some(leg) = self.room.table.lock().legs.get_mut(&self.id) {
            leg.muted = muted;
        }
    }

    /// Its numbers, once its audio has begun and as long as it sits.
    #[must_use]
    pub fn stats(&self) -> Option<LegStats> {
        let table = self.room.table.lock();
        let (place, _) = table.legs.get(&self.id)?.place?;
        table.mixer.stats(place)
    }

    /// Whether nobody has stood up from it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.room.table.lock().legs.contains_key(&self.id)
    }

    /// The seat is free for another.
    pub fn leave(&self) {
        let mut table = self.room.table.lock();
        if let Some((place, _)) = table.legs.remove(&self.id).and_then(|leg| leg.place) {
            table.mixer.leave(place);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({})", self.id)
    }
}

impl AudioSink for Seat {
    fn write(&self, rate: u32, frame: &[i16]) {
        let mut table = self.room.table.lock();
        if let Some((place, leg)) = table.place(self.id, rate)
            && !leg.muted
        {
            table.mixer.feed(place, frame);
        }
    }
}

impl AudioSource for Seat {
    fn read(&self, rate: u32, frame: &mut [i16]) -> usize {
        let mut table = self.room.table.lock();
        // Whoever sends may have the processor before the clock has.
        table.mix_until(Instant::now());
        let tick = rate as usize * self.room.config.mixer.frame_ms as usize / 1_000;
        let Some((_, leg)) = table.place(self.id, rate) else {
            return 0;
        };
        let least = if leg.primed {
            frame.len()
        } else {
            frame.len() + tick
        };
        leg.primed = leg.heard.len() >= least;
        if !leg.primed {
            return 0;
        }
        let count = frame.len().min(leg.heard.len());
        for (sample, heard) in frame.iter_mut().zip(leg.heard.drain(..count)) {
            *sample = heard;
        }
        count
    }
}

/// The clock: it stands while nobody is there.
async fn run(room: Weak<Room>, busy: Arc<Notify>) {
    loop {
        let due = {
            let Some(room) = room.upgrade() else { return };
            let mut table = room.table.lock();
            table.mix_until(Instant::now())
        };
        match due {
            Some(due) => sleep_until(due).await,
            None => busy.notified().await,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The clock may stand: it is to see that nobody will come.
        self.busy.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{delayed_correlation, tone};
    use tokio::time::{advance, interval};

    /// Legs at their rates talk for a second, each its tone; what each heard.
    async fn confer(legs: &[(u32, f64)], frame_ms: u32, prepare: impl Fn(&[Arc<Seat>])) -> Vec<Vec<i16>> {
        let conference = Conference::open(ConferenceConfig::default(), &Handle::current()).unwrap();
        let seats: Vec<Arc<Seat>> = legs.iter().map(|_| conference.seat().unwrap()).collect();
        prepare(&seats);
        let tones: Vec<Vec<i16>> = legs.iter().map(|(rate, hz)| tone(*rate, *hz, 2.0)).collect();
        let mut heard = vec![Vec::new(); legs.len()];
        let mut ticks = interval(Duration::from_millis(u64::from(frame_ms)));
        for index in 0..2_000 / frame_ms as usize {
            ticks.tick().await;
            for (leg, (rate, _)) in legs.iter().enumerate() {
                let frame = (rate * frame_ms / 1_000) as usize;
                seats[leg].write(*rate, &tones[leg][index * frame..(index + 1) * frame]);
                let mut out = vec![0; frame];
                seats[leg].read(*rate, &mut out);
                heard[leg].extend(out);
            }
        }
        heard
    }

    fn share(hz: f64, rate: u32, heard: &[i16]) -> f64 {
        // The second half: by then everybody is heard.
        let half = &heard[heard.len() / 2..];
        delayed_correlation(&tone(rate, hz, 0.9), half, rate as usize / 100)
    }

    #[tokio::test(start_paused = true)]
    async fn three_legs_of_three_rates_hear_the_others_and_not_themselves() {
        for frame_ms in [20, 40] {
            let legs = [(8_000, 440.0), (16_000, 700.0), (48_000, 1_130.0)];
            let heard = confer(&legs, frame_ms, |_| {}).await;
            for (own, (rate, _)) in legs.iter().enumerate() {
                for (other, (_, hz)) in legs.iter().enumerate() {
                    let share = share(*hz, *rate, &heard[own]);
                    if own == other {
                        assert!(share < 0.05, "{own} hears itself: {share}");
                    } else {
                        assert!(share > 0.65, "{own} hears {other} with {share}");
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_muted_leg_is_not_heard_and_a_quiet_one_is_quiet() {
        let legs = [(16_000, 440.0), (16_000, 700.0), (16_000, 1_130.0)];
        let heard = confer(&legs, 20, |seats| {
            seats[0].set_muted(true);
            seats[1].set_gain(-20.0);
        })
        .await;
        assert!(share(440.0, 16_000, &heard[2]) < 0.05);
        assert!(share(700.0, 16_000, &heard[2]) > 0.95);
        let loudest = heard[2][20_000..].iter().max().unwrap();
        assert!((1_500..1_700).contains(loudest), "{loudest}");
        // Who is muted hears.
        assert!(share(1_130.0, 16_000, &heard[0]) > 0.95);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_late_mixes_what_it_missed_and_nothing_is_dropped() {
        let conference = Conference::open(ConferenceConfig::default(), &Handle::current()).unwrap();
        let seats = [conference.seat().unwrap(), conference.seat().unwrap()];
        let (wave, mut heard, mut at) = (tone(16_000, 440.0, 8.0), Vec::new(), 0);
        while at + 960 <= wave.len() {
            // Every tenth time nobody runs for three packet times, whose packets come and go at once then.
            let frames = if at / 320 % 12 == 9 { 3 } else { 1 };
            advance(Duration::from_millis(20 * frames)).await;
            tokio::task::yield_now().await;
            for _ in 0..frames {
                let mut out = [0; 320];
                seats[0].write(16_000, &wave[at..at + 320]);
                seats[1].write(16_000, &[0; 320]);
                seats[1].read(16_000, &mut out);
                heard.extend(out);
                at += 320;
            }
        }
        let stats = seats[0].stats().unwrap();
        assert_eq!(stats.dropped_ms, 0, "{stats:?}");
        assert!(stats.late_frames < 10, "{stats:?}");
        assert!(
            share(440.0, 16_000, &heard) > 0.99,
            "{}",
            share(440.0, 16_000, &heard)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_bounded_and_free_again_when_somebody_leaves() {
        let config = ConferenceConfig {
            max_legs: 2,
            ..ConferenceConfig::default()
        };
        let conference = Conference::open(config, &Handle::current()).unwrap();
        let (first, second) = (conference.seat().unwrap(), conference.seat().unwrap());
        let refused = conference.seat().map(|_| ()).unwrap_err();
        assert_eq!(refused.fault(), Fault::ApiMisuse);
        first.leave();
        assert_eq!(first.read(8_000, &mut [0; 160]), 0);
        drop(second);
        assert_eq!(conference.legs(), 0);
        assert!(conference.seat().is_ok());
    }
}

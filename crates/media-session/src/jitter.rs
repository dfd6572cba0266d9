//! The jitter buffer: decides what is played when. No clock and no codec in here; **after `insert`, call `poll` until it
//! says `None`.**
//!
//! It follows the sender's timestamps, so that a steady stream comes out sample for sample as it went in:
//! * A packet that is missing while a later one is there is lost: its time is concealed, and the timeline stays.
//! * Nothing there at all: the network is late. Concealment is put in, and what comes later is played later: the delay
//!   grows by as much as was needed, and no more.
//! * A timestamp that jumps while the sequence number does not is the sender's own silence (discontinuous transmission), also
//!   when it was first taken for a late packet.
//! * Comfort noise (RFC 3389) goes on until the next packet's turn, and nothing in it is a loss.
//! * Surplus delay is taken out again only for a listener who hears it live.

use crate::queue::Arrived;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long the first packet waits: bridges a jitter of as much from the beginning on.
const START_DELAY: Duration = Duration::from_millis(60);
/// The delay that is aimed at is never more.
const MAX_TARGET: Duration = Duration::from_millis(400);
/// After nothing was there, this much must be there again before anything is played, so that one late packet is not
/// followed by many small holes.
const REBUFFER: Duration = Duration::from_millis(40);
/// More packets than this are never held; the oldest goes.
const CAPACITY: usize = 100;
/// After this long without packets playing stops, and begins anew with the next one.
const GIVE_UP: Duration = Duration::from_secs(1);
/// Comfort noise goes on for so long after the last word of it.
const MAX_NOISE: Duration = Duration::from_secs(60);
/// A longer pause is not made up for.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// A timestamp this far from the expected one begins the timeline anew.
const MAX_JUMP_BACK: Duration = Duration::from_secs(3);
/// How much more than the target must be there, all of the time, before audio is taken out.
const SURPLUS: Duration = Duration::from_millis(40);
/// For so long.
const SURPLUS_WINDOW: Duration = Duration::from_secs(1);

/// What shall be heard next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Play {
    /// Something in place of a lost packet, or of one that is late; `next` is the packet that follows the loss.
    Conceal { units: u32, next: Option<Bytes> },
    /// Comfort noise; the payload when the sender described it anew.
    Noise { units: u32, payload: Option<Bytes> },
    /// A packet; shortened if that can be done unheard.
    Packet { payload: Bytes, shorten: bool },
    /// Nothing came for so long and playing had stopped; now it begins again.
    Pause(Duration),
    /// The sender's own silence.
    Silence { units: u32 },
}

/// Holds packets back until it is their turn. Times on the line are in units of the RTP clock.
#[derive(Debug)]
pub(crate) struct JitterBuffer {
    clock: u32,
    live: bool,
    packets: VecDeque<Held>,
    state: State,
    /// The timestamp that is played next.
    next: u32,
    last_sequence: u16,
    /// When `next` is played.
    play_at: Instant,
    /// How long the last packet sounded.
    frame: u32,
    /// Audio put in since the last packet, without moving `next`.
    inserted: u32,
    /// The line up to here is silence that the sender meant (an event instead of audio).
    silent_until: Option<u32>,
    noise: Option<Noise>,
    delay: Delay,
    /// Lowest surplus seen, since when.
    surplus: Option<(Duration, Instant)>,
    pub(crate) late: u64,
    pub(crate) overflowed: u64,
    concealed: u64,
}

/// The sender's comfort noise.
#[derive(Debug)]
struct Noise {
    payload: Option<Bytes>,
    /// Units played since it was described.
    played: u32,
}

#[derive(Debug)]
struct Held {
    timestamp: u32,
    sequence: u16,
    /// 0 for comfort noise.
    units: u32,
    at: Instant,
    payload: Bytes,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// No packet yet.
    Empty,
    /// Nothing came for [`GIVE_UP`], since then.
    Idle(Instant),
    /// Packets are played, or wait for the first one's turn.
    Playing,
    /// Nothing was there to be played.
    Starved,
}

impl JitterBuffer {
    pub(crate) fn new(clock: u32, live: bool, now: Instant) -> Self {
        JitterBuffer {
            clock,
            live,
            packets: VecDeque::new(),
            state: State::Empty,
            next: 0,
            last_sequence: 0,
            play_at: now,
            frame: clock / 50,
            inserted: 0,
            silent_until: None,
            noise: None,
            delay: Delay::new(),
            surplus: None,
            late: 0,
            overflowed: 0,
            concealed: 0,
        }
    }

    /// Whether somebody hears it live: then surplus delay is taken out.
    pub(crate) fn set_live(&mut self, live: bool) {
        self.live = live;
    }

    /// The stream began anew: what is held belongs to the old one.
    pub(crate) fn restart(&mut self) {
        self.packets.clear();
        self.delay = Delay::new();
        self.silent_until = None;
        self.noise = None;
        if self.state != State::Empty {
            self.state = State::Idle(self.play_at);
        }
    }

    /// Takes a packet of comfort noise.
    pub(crate) fn insert_noise(&mut self, arrived: Arrived) {
        self.insert(arrived, 0);
    }

    /// Whether the sender said that it is silent.
    pub(crate) fn is_noise(&self) -> bool {
        self.noise.is_some()
    }

    /// Takes a packet that sounds for `units`.
    pub(crate) fn insert(&mut self, arrived: Arrived, units: u32) {
        let Arrived { at, packet, .. } = arrived;
        let ahead = packet.timestamp.wrapping_sub(self.next) as i32;
        let running = matches!(self.state, State::Playing | State::Starved);
        if self.state == State::Empty {
            self.begin(at, packet.timestamp);
        } else if running && self.is_jump(ahead) {
            self.restart();
        } else if running && ahead < 0 && !self.rewind(&packet, ahead) {
            self.late += 1;
            return;
        }
        self.delay.arrival(at, packet.timestamp, self.clock);
        if self.packets.len() >= CAPACITY {
            self.packets.pop_front();
            self.overflowed += 1;
        }
        let held = Held {
            timestamp: packet.timestamp,
            sequence: packet.sequence,
            units,
            at,
            payload: packet.payload,
        };
        let behind = |other: &Held| (other.timestamp.wrapping_sub(held.timestamp) as i32) <= 0;
        let place = self.packets.iter().rposition(behind).map_or(0, |index| index + 1);
        self.packets.insert(place, held);
    }

    /// The sender says that `timestamp` and `units` after it are an event (RFC 4733) and no audio.
    pub(crate) fn silence(&mut self, timestamp: u32, units: u32) {
        let ahead = timestamp.wrapping_sub(self.next) as i32;
        if units < self.clock * 10 && ahead.unsigned_abs() < self.clock * 10 {
            self.silent_until = Some(timestamp.wrapping_add(units));
        }
    }

    /// What is to be heard next, when its time has come. `stalled`: this process was not run for a while, so that
    /// packets may be here that nobody handed over yet.
    pub(crate) fn poll(&mut self, now: Instant, stalled: bool) -> Option<Play> {
        match self.state {
            State::Empty => None,
            State::Idle(since) => self.poll_idle(now, since),
            _ if self.play_at > now => None,
            State::Playing => self.poll_playing(now, stalled),
            State::Starved => self.poll_starved(),
        }
    }

    /// The oldest packet that still waits for its turn, once nothing more will come.
    pub(crate) fn take_rest(&mut self) -> Option<Bytes> {
        while let Some(held) = self.packets.pop_front() {
            if held.units > 0 {
                return Some(held.payload);
            }
        }
        None
    }

    /// `removed` units were taken out of the last packet.
    pub(crate) fn shortened(&mut self, removed: u32) {
        self.play_at -= self.time(removed);
        self.surplus = None;
    }

    /// How long packets are held back.
    pub(crate) fn delay(&self) -> Duration {
        self.delay.held
    }

    /// Audio that was made up.
    pub(crate) fn concealed(&self) -> Duration {
        Duration::from_micros(self.concealed * 1_000_000 / u64::from(self.clock))
    }

    fn begin(&mut self, at: Instant, timestamp: u32) {
        self.state = State::Playing;
        self.next = timestamp;
        self.inserted = 0;
        self.play_at = at + START_DELAY;
    }

    fn is_jump(&self, ahead: i32) -> bool {
        ahead < -self.units(MAX_JUMP_BACK) || ahead > self.units(MAX_PAUSE)
    }

    /// A packet from before the first one came after it, in time; or the first after noise, which went on for too long.
    fn rewind(&mut self, packet: &siprtc_core::media::RtpPacket, ahead: i32) -> bool {
        let nothing_played = self.delay.played == 0 && ahead > -self.units(START_DELAY);
        let after_noise = self.noise.is_some()
            && self.packets.is_empty()
            && packet.sequence.wrapping_sub(self.last_sequence) as i16 > 0;
        if nothing_played || after_noise {
            self.next = packet.timestamp;
        }
        nothing_played || after_noise
    }

    fn poll_idle(&mut self, now: Instant, since: Instant) -> Option<Play> {
        let front = self.packets.front()?;
        let (at, timestamp) = (front.at, front.timestamp);
        self.begin(at.max(since), timestamp);
        let pause = self.play_at.saturating_duration_since(since).min(MAX_PAUSE);
        if pause < Duration::from_millis(1) {
            return self.poll(now, false);
        }
        Some(Play::Pause(pause))
    }

    fn poll_playing(&mut self, now: Instant, stalled: bool) -> Option<Play> {
        let Some(front) = self.packets.front() else {
            return self.starve(now, stalled);
        };
        let ahead = front.timestamp.wrapping_sub(self.next) as i32;
        if ahead <= 0 && front.units == 0 {
            self.hear_noise();
            return self.poll_playing(now, stalled);
        }
        if ahead <= 0 {
            return self.play_front();
        }
        let gap = ahead as u32;
        if self.inserted > 0 {
            // What is missing was bridged already, at least in part.
            let bridged = gap.min(self.inserted);
            self.next = self.next.wrapping_add(bridged);
            if front.sequence == self.last_sequence.wrapping_add(1) {
                // Nothing was sent in that time: it was the sender's pause, and nobody missed anything.
                self.inserted -= bridged;
            }
            self.count_inserted();
            return self.poll_playing(now, stalled);
        }
        let units = gap.min(self.frame);
        if self.noise.is_some() {
            return self.play_noise(units);
        }
        let own_silence = front.sequence == self.last_sequence.wrapping_add(1) || self.is_silent();
        let next = (gap <= self.frame).then(|| front.payload.clone());
        self.forward(units);
        if own_silence {
            return Some(Play::Silence { units });
        }
        self.concealed += u64::from(units);
        Some(Play::Conceal { units, next })
    }

    /// The packet in front describes noise, which begins or changes with it.
    fn hear_noise(&mut self) {
        if let Some(held) = self.packets.pop_front() {
            self.count_inserted();
            self.last_sequence = held.sequence;
            self.noise = Some(Noise {
                payload: Some(held.payload),
                played: 0,
            });
        }
    }

    fn play_noise(&mut self, units: u32) -> Option<Play> {
        let noise = self.noise.as_mut()?;
        noise.played = noise.played.saturating_add(units);
        let payload = noise.payload.take();
        self.forward(units);
        Some(Play::Noise { units, payload })
    }

    fn play_front(&mut self) -> Option<Play> {
        let held = self.packets.pop_front()?;
        self.noise = None;
        self.next = held.timestamp;
        self.frame = held.units;
        self.last_sequence = held.sequence;
        self.count_inserted();
        self.delay.play(self.play_at.saturating_duration_since(held.at));
        let shorten = self.live && self.is_surplus();
        self.forward(held.units);
        Some(Play::Packet {
            payload: held.payload,
            shorten,
        })
    }

    fn starve(&mut self, now: Instant, stalled: bool) -> Option<Play> {
        let limit = self.clock.saturating_mul(MAX_NOISE.as_secs() as u32);
        match &self.noise {
            Some(noise) if noise.played < limit => return self.play_noise(self.frame),
            Some(_) => {
                self.noise = None;
                self.state = State::Idle(self.play_at);
                return None;
            }
            None => {}
        }
        if self.is_silent() {
            let units = self.frame;
            self.forward(units);
            return Some(Play::Silence { units });
        }
        if stalled {
            // Nobody listens to a process that does not run: its pause is no hole in the audio.
            self.play_at = now + self.time(self.frame);
            return None;
        }
        self.state = State::Starved;
        self.poll_starved()
    }

    fn poll_starved(&mut self) -> Option<Play> {
        if let Some(front) = self.packets.front() {
            let waited = self.play_at.saturating_duration_since(front.at);
            let held: u32 = self.packets.iter().map(|held| held.units).sum();
            if waited >= REBUFFER || self.time(held) > REBUFFER {
                self.state = State::Playing;
                return self.poll_playing(self.play_at, false);
            }
        } else if self.time(self.inserted) >= GIVE_UP {
            self.state = State::Idle(self.play_at);
            return None;
        }
        let units = self.frame;
        self.inserted = self.inserted.saturating_add(units);
        self.play_at += self.time(units);
        Some(Play::Conceal { units, next: None })
    }

    /// Something follows what was put in: it bridged a hole, and was not the end.
    fn count_inserted(&mut self) {
        self.concealed += u64::from(std::mem::take(&mut self.inserted));
    }

    fn is_silent(&self) -> bool {
        self.silent_until
            .is_some_and(|until| until.wrapping_sub(self.next) as i32 > 0)
    }

    /// Whether more than needed was there all through the window.
    fn is_surplus(&mut self) -> bool {
        let now = self.play_at;
        let over = self.delay.last_held.saturating_sub(self.delay.target());
        let (lowest, since) = self.surplus.unwrap_or((over, now));
        let lowest = lowest.min(over);
        if now.saturating_duration_since(since) < SURPLUS_WINDOW {
            self.surplus = Some((lowest, since));
            return false;
        }
        if lowest <= SURPLUS {
            self.surplus = None;
        }
        lowest > SURPLUS
    }

    fn forward(&mut self, units: u32) {
        self.next = self.next.wrapping_add(units);
        self.play_at += self.time(units);
    }

    fn time(&self, units: u32) -> Duration {
        Duration::from_nanos(u64::from(units) * 1_000_000_000 / u64::from(self.clock))
    }

    fn units(&self, time: Duration) -> i32 {
        i32::try_from(time.as_millis() as u64 * u64::from(self.clock) / 1_000).unwrap_or(i32::MAX)
    }
}

/// How unevenly packets come, and how long they wait.
#[derive(Debug)]
struct Delay {
    first: Option<(Instant, u32)>,
    /// The fastest packet's transit, relative to the first one's, in seconds. Follows slowly upwards, for clocks drift.
    fastest: f64,
    /// How much slower packets were lately, at most.
    peak: f64,
    last_held: Duration,
    /// Smoothed.
    held: Duration,
    played: u64,
}

impl Delay {
    fn new() -> Self {
        Delay {
            first: None,
            fastest: 0.0,
            peak: 0.0,
            last_held: Duration::ZERO,
            held: Duration::ZERO,
            played: 0,
        }
    }

    fn arrival(&mut self, at: Instant, timestamp: u32, clock: u32) {
        let (first, first_timestamp) = *self.first.get_or_insert((at, timestamp));
        let arrived = at.saturating_duration_since(first).as_secs_f64()
            - first.saturating_duration_since(at).as_secs_f64();
        let sent = f64::from(timestamp.wrapping_sub(first_timestamp) as i32) / f64::from(clock);
        let transit = arrived - sent;
        self.fastest = (self.fastest + 10e-6).min(transit);
        self.peak = (self.peak * 0.998).max(transit - self.fastest);
        if timestamp.wrapping_sub(first_timestamp) > clock * 3_600 {
            self.first = Some((at, timestamp));
            self.fastest -= transit;
        }
    }

    fn play(&mut self, held: Duration) {
        self.last_held = held;
        self.held = if self.played == 0 {
            held
        } else {
            (self.held * 15 + held) / 16
        };
        self.played += 1;
    }

    fn target(&self) -> Duration {
        START_DELAY
            .max(Duration::from_secs_f64(self.peak.clamp(0.0, 10.0)) + REBUFFER / 2)
            .min(MAX_TARGET)
    }
}

#[cfg(test)]
#[path = "jitter_tests.rs"]
mod tests;

//! How much video the path from the peer carries, for its sender to hear (REMB). No I/O, no clock.
//!
//! A queue on the way that fills up shows in frames that come later after one another than they were taken: the delay-based half of
//! Google's congestion control (draft-ietf-rmcat-gcc-02 section 5), whose filter, detector and controller are the library's. A queue
//! that stands grows no more: frames that stay late, and many that are lost (section 6), are the same. A frame counts with the first of
//! its packets that comes, so that a large frame is no delay.

use rtc_interceptor::{OveruseDetector, PacketReport, RateCalculator, RateController, SlopeEstimator, Usage};
use siprtc_core::media::RtpPacket;
use std::time::{Duration, Instant};

/// Ticks a second of every video format's clock.
const CLOCK: u32 = 90_000;
/// bit/s. Less is no video any more,
const FLOOR: f64 = 50_000.0;
/// and more is asked of nobody.
const CEILING: f64 = 30_000_000.0;
/// What has come says nothing of a path that carries much more (section 5.5): so many times as much is allowed,
const HEADROOM: f64 = 1.5;
/// and so many bit/s beside it.
const ALLOWANCE: f64 = 10_000.0;
/// The rate that comes is measured for so long before anything is said.
const WARM_UP: Duration = Duration::from_secs(1);
/// A longer pause in the stream says nothing of the path.
const PAUSE: Duration = Duration::from_secs(2);
/// Said again after so long,
const REPEAT: Duration = Duration::from_secs(1);
/// and at once when it has sunk below so much of what was said.
const SUNK: f64 = 0.97;
/// The filter's gradient is of one frame; the detector's threshold is meant for what so many add up to.
const MOST_FRAMES: u32 = 60;
/// Packets are counted for so long,
const COUNT: Duration = Duration::from_millis(500);
/// and more of them lost than so many are no chance (section 6).
const LOSSES: f64 = 0.1;
/// So much later than the earliest is late,
const LATE: f64 = 0.08;
/// and who was late for so long stands in a queue.
const STANDING: Duration = Duration::from_millis(300);
/// The earliest of so long a time, and of the one before it: clocks drift apart.
const EPOCH: Duration = Duration::from_secs(15);
/// Octets of an RTP header without extensions.
const HEADER: usize = 12;

/// See the module. Belongs to one stream; another SSRC begins anew.
#[derive(Default)]
pub(crate) struct Estimator {
    stream: Option<Stream>,
    rate: RateCalculator,
    control: Option<RateController>,
    told: Option<(Instant, f64)>,
}

struct Stream {
    ssrc: u32,
    /// When its first packet came, which is taken for the time at which that was sent, too.
    began: Instant,
    /// The timestamp of the newest frame, when that was taken, and when it began to come.
    timestamp: u32,
    taken: Instant,
    came: Instant,
    slope: SlopeEstimator,
    detector: OveruseDetector,
    frames: u32,
    losses: Losses,
    lateness: Lateness,
}

/// How much later frames come than the earliest did, in seconds.
struct Lateness {
    since: Instant,
    earliest: f64,
    /// Of the time before.
    earlier: f64,
    late_since: Option<Instant>,
}

impl Lateness {
    fn new(now: Instant) -> Self {
        Lateness {
            since: now,
            earliest: f64::INFINITY,
            earlier: f64::INFINITY,
            late_since: None,
        }
    }

    /// Whether frames stand in a queue.
    fn stands(&mut self, now: Instant, delay: f64) -> bool {
        if now.saturating_duration_since(self.since) >= EPOCH {
            (self.since, self.earlier, self.earliest) = (now, self.earliest, delay);
        }
        self.earliest = self.earliest.min(delay);
        if delay - self.earliest.min(self.earlier) < LATE {
            self.late_since = None;
            return false;
        }
        let since = *self.late_since.get_or_insert(now);
        now.saturating_duration_since(since) >= STANDING
    }
}

/// How many packets come of those that were sent.
struct Losses {
    since: Instant,
    /// The highest sequence number, then and now.
    first: u16,
    highest: u16,
    came: u16,
    /// Too many were lost the last time that it was counted.
    is_many: bool,
}

impl Losses {
    fn new(now: Instant, packet: &RtpPacket) -> Self {
        let before = packet.sequence.wrapping_sub(1);
        Losses {
            since: now,
            first: before,
            highest: before,
            came: 0,
            is_many: false,
        }
    }

    fn count(&mut self, now: Instant, packet: &RtpPacket) {
        if (packet.sequence.wrapping_sub(self.highest) as i16) > 0 {
            self.highest = packet.sequence;
        }
        self.came = self.came.saturating_add(1);
        if now.saturating_duration_since(self.since) < COUNT {
            return;
        }
        let sent = self.highest.wrapping_sub(self.first);
        let lost = sent.saturating_sub(self.came);
        let is_many = f64::from(lost) > LOSSES * f64::from(sent);
        *self = Losses {
            is_many,
            ..Losses::new(now, packet)
        };
        (self.first, self.highest) = (packet.sequence, packet.sequence);
    }
}

impl Stream {
    fn new(now: Instant, packet: &RtpPacket) -> Self {
        Stream {
            ssrc: packet.ssrc,
            began: now,
            timestamp: packet.timestamp,
            taken: now,
            came: now,
            slope: SlopeEstimator::new(),
            detector: OveruseDetector::new(),
            frames: 0,
            losses: Losses::new(now, packet),
            lateness: Lateness::new(now),
        }
    }

    /// Of the first packet of a frame: how the queues on the way do; `None` for one of a frame that is there, or was.
    fn usage(&mut self, now: Instant, packet: &RtpPacket) -> Option<Usage> {
        self.losses.count(now, packet);
        let step = packet.timestamp.wrapping_sub(self.timestamp);
        if step == 0 || step > u32::MAX / 2 {
            return None;
        }
        let step = Duration::from_secs_f64(f64::from(step) / f64::from(CLOCK));
        if step > PAUSE || now.saturating_duration_since(self.came) > PAUSE {
            let began = self.began;
            *self = Stream::new(now, packet);
            self.began = began;
            return None;
        }
        self.timestamp = packet.timestamp;
        self.taken += step;
        self.came = now;
        let delay = (now.saturating_duration_since(self.began).as_secs_f64())
            - self.taken.saturating_duration_since(self.began).as_secs_f64();
        let stands = self.lateness.stands(now, delay);
        let trend = self.slope.accumulate(&PacketReport {
            ssrc: packet.ssrc,
            id: 0,
            rtp_sequence_number: packet.sequence,
            is_twcc: false,
            twcc_sequence_number: 0,
            size: packet.payload.len(),
            arrived: true,
            departure: self.taken,
            arrival: Some(now.saturating_duration_since(self.began)),
            ecn: Default::default(),
        })?;
        self.frames = MOST_FRAMES.min(self.frames + 1);
        let usage = (self.detector).update(now, trend.estimate_ms * f64::from(self.frames));
        Some(if stands || self.losses.is_many {
            Usage::Over
        } else {
            usage
        })
    }
}

impl Estimator {
    /// A packet came, of any kind of video.
    pub(crate) fn push(&mut self, now: Instant, packet: &RtpPacket) {
        self.rate.add(now, HEADER + packet.payload.len());
        if self
            .stream
            .as_ref()
            .is_none_or(|stream| stream.ssrc != packet.ssrc)
        {
            self.stream = Some(Stream::new(now, packet));
        }
        let Some(stream) = &mut self.stream else { return };
        let Some(usage) = stream.usage(now, packet) else {
            return;
        };
        let (Some(received), true) = (
            self.rate.rate_bits_per_second(now),
            now.saturating_duration_since(stream.began) >= WARM_UP,
        ) else {
            return;
        };
        let control =
            (self.control).get_or_insert_with(|| RateController::new(most(received), FLOOR, CEILING));
        control.update(now, usage, Some(received));
    }

    /// What is to be told to the sender now, in bit/s.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<u64> {
        let received = self.rate.rate_bits_per_second(now)?;
        let carried = self.control.as_ref()?.target().min(most(received)).max(FLOOR);
        let is_due = self
            .told
            .is_none_or(|(at, told)| carried < SUNK * told || now.saturating_duration_since(at) >= REPEAT);
        is_due.then(|| {
            self.told = Some((now, carried));
            carried as u64
        })
    }
}

/// The most that may be concluded from what comes.
fn most(received: f64) -> f64 {
    HEADROOM * received + ALLOWANCE
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;

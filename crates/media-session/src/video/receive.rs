//! Packets to frames: in order, with what was lost asked for again. No I/O, no clock.
//!
//! **After each `push` or `handle_timeout`, call `poll` until it says `None`, then ask `poll_timeout`.**

use super::VideoFrame;
use super::estimate::Estimator;
use super::payload::{Unfit, assemble, is_key};
use bytes::Bytes;
use siprtc_core::media::{Feedback, FeedbackKinds, NegotiatedVideo, RtpPacket};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Packets that wait for one before them: a second of 8 Mbit/s. When there are more, the gap is given up.
const MOST_WAITING: usize = 1_024;
/// Packets that are asked for at the same time; a longer gap asks for a key frame instead.
const MOST_MISSING: usize = 256;
/// A gap may be nothing but reordering: it is not asked for before.
const REORDERING: Duration = Duration::from_millis(10);
/// Between two requests for the same packet.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long a missing packet is waited for: someone looks at this.
const PATIENCE: Duration = Duration::from_millis(400);
/// The same where it cannot be asked for.
const PATIENCE_UNASKED: Duration = Duration::from_millis(60);
/// Between two requests for a key frame.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    /// The frames that follow are another stream's, the first or one that takes the place of the one before.
    Began,
    Frame(VideoFrame),
    Tell(Feedback),
}

/// What came and what did not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) key_frames: u64,
    /// Never came, or too late.
    pub(crate) lost: u64,
    /// Came after they had been asked for.
    pub(crate) recovered: u64,
    /// Frames that could not be assembled, or not shown for want of one before them.
    pub(crate) dropped: u64,
    /// Packets that were there already.
    pub(crate) repeated: u64,
}

struct Missing {
    since: Instant,
    /// Asked for, last.
    asked: Option<Instant>,
}

/// See the module.
pub(crate) struct Receiver {
    video: NegotiatedVideo,
    ssrc: Option<u32>,
    /// Extended sequence numbers: the next one that a frame needs, and the highest that came.
    next: u64,
    highest: u64,
    waiting: BTreeMap<u64, RtpPacket>,
    missing: BTreeMap<u64, Missing>,
    /// Nothing can be shown before a key frame.
    needs_key: bool,
    /// There was a key frame since somebody began to look.
    has_begun: bool,
    asked_key: Option<Instant>,
    estimator: Estimator,
    outputs: VecDeque<Output>,
    pub(crate) counts: Counts,
}

impl Receiver {
    pub(crate) fn new(video: NegotiatedVideo) -> Self {
        Receiver {
            video,
            ssrc: None,
            next: 0,
            highest: 0,
            waiting: BTreeMap::new(),
            missing: BTreeMap::new(),
            needs_key: true,
            has_begun: false,
            asked_key: None,
            estimator: Estimator::default(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Something else was negotiated.
    pub(crate) fn change(&mut self, video: NegotiatedVideo) {
        if self.video.codec != video.codec {
            self.ssrc = None;
        }
        self.video = video;
    }

    pub(crate) fn push(&mut self, now: Instant, packet: RtpPacket) {
        if packet.payload_type != self.video.payload_type {
            return;
        }
        self.estimate(now, &packet);
        let jump = packet.sequence.wrapping_sub(self.highest as u16) as i16;
        if self.ssrc != Some(packet.ssrc) || usize::from(jump.unsigned_abs()) > 2 * MOST_WAITING {
            self.begin(&packet);
        }
        let jump = packet.sequence.wrapping_sub(self.highest as u16) as i16;
        let Some(number) = self.highest.checked_add_signed(i64::from(jump)) else {
            return;
        };
        if number < self.next || self.waiting.contains_key(&number) {
            self.counts.repeated += 1;
            return;
        }
        if let Some(missing) = self.missing.remove(&number) {
            self.counts.recovered += u64::from(missing.asked.is_some());
        }
        for lost in self.highest + 1..number {
            let fresh = Missing {
                since: now,
                asked: None,
            };
            self.missing.insert(lost, fresh);
        }
        self.highest = self.highest.max(number);
        self.waiting.insert(number, packet);
        if self.missing.len() > MOST_MISSING || self.waiting.len() > MOST_WAITING {
            self.give_up(self.highest + 1);
        }
        self.frames();
        self.ask_key(now);
    }

    fn begin(&mut self, packet: &RtpPacket) {
        self.ssrc = Some(packet.ssrc);
        self.waiting.clear();
        self.missing.clear();
        // Far from zero, so that what comes a little late has a number, too.
        self.next = 0x1_0000 + u64::from(packet.sequence);
        self.highest = self.next;
        (self.needs_key, self.has_begun, self.asked_key) = (true, false, None);
        self.outputs.push_back(Output::Began);
    }

    fn estimate(&mut self, now: Instant, packet: &RtpPacket) {
        // Who hears when its packets came judges the path itself.
        let FeedbackKinds {
            remb, transport_cc, ..
        } = self.video.feedback;
        if !remb || transport_cc {
            return;
        }
        self.estimator.push(now, packet);
        let carried = self.estimator.poll(now);
        let told = carried.map(|rate| Output::Tell(Feedback::Bitrate(rate)));
        self.outputs.extend(told);
    }

    /// Another peer's stream follows, whatever its numbers are.
    pub(crate) fn begin_anew(&mut self) {
        self.estimator = Estimator::default();
        self.ssrc = None;
        self.waiting.clear();
        self.missing.clear();
    }

    /// Whoever looks from now on has seen nothing yet: what comes is dropped until the key frame that is asked for.
    pub(crate) fn want_key(&mut self, now: Instant) {
        self.needs_key = true;
        self.has_onlooker(now);
    }

    /// The same of somebody who looks elsewhere: nothing is dropped here.
    pub(crate) fn has_onlooker(&mut self, now: Instant) {
        (self.has_begun, self.asked_key) = (false, None);
        self.ask_key(now);
    }

    /// Whether the key frame has yet to come that somebody begins with.
    pub(crate) fn is_beginning(&self) -> bool {
        !self.has_begun
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Receiver::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let missing = self.missing.values().map(|missing| self.due(missing));
        let key = self
            .asked_key
            .filter(|_| self.wants_key())
            .map(|asked| asked + KEY_FRAME_INTERVAL);
        missing.chain(key).min()
    }

    fn due(&self, missing: &Missing) -> Instant {
        let patience = missing.since + self.patience();
        match missing.asked {
            _ if !self.video.feedback.nack => patience,
            Some(asked) => patience.min(asked + ASK_AGAIN),
            None => missing.since + REORDERING,
        }
    }

    fn patience(&self) -> Duration {
        if self.video.feedback.nack {
            PATIENCE
        } else {
            PATIENCE_UNASKED
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let patience = self.patience();
        let hopeless = (self.missing.iter())
            .filter(|(_, missing)| missing.since + patience <= now)
            .map(|(number, _)| *number)
            .max();
        if let Some(hopeless) = hopeless {
            self.give_up(hopeless + 1);
            self.frames();
        }
        if self.video.feedback.nack {
            let mut asked = Vec::new();
            for (number, missing) in &mut self.missing {
                let last = missing
                    .asked
                    .map_or(missing.since + REORDERING, |asked| asked + ASK_AGAIN);
                if last <= now {
                    missing.asked = Some(now);
                    asked.push(*number as u16);
                }
            }
            if !asked.is_empty() {
                self.outputs.push_back(Output::Tell(Feedback::Lost(asked)));
            }
        }
        self.ask_key(now);
    }

    /// Before its first packet the peer cannot be asked: there is no name for its stream.
    fn wants_key(&self) -> bool {
        (self.needs_key || !self.has_begun) && self.ssrc.is_some()
    }

    fn ask_key(&mut self, now: Instant) {
        let is_due = self
            .asked_key
            .is_none_or(|asked| asked + KEY_FRAME_INTERVAL <= now);
        if self.wants_key() && is_due {
            self.asked_key = Some(now);
            self.outputs.push_back(Output::Tell(Feedback::KeyFrame));
        }
    }

    /// What is before this number is over. What depends on it cannot be shown: a key frame must come.
    fn give_up(&mut self, until: u64) {
        let later = self.missing.split_off(&until);
        self.counts.lost += self.missing.len() as u64;
        self.missing = later;
        let later = self.waiting.split_off(&until);
        let broken = self.waiting.values().next_back().map(|packet| packet.timestamp);
        self.waiting = later;
        self.next = until;
        // The rest of the frame that has a hole.
        let is_rest = |packet: &RtpPacket| Some(packet.timestamp) == broken;
        while self.waiting.get(&self.next).is_some_and(is_rest) {
            self.waiting.remove(&self.next);
            self.next += 1;
        }
        self.needs_key = true;
        self.counts.dropped += 1;
    }

    /// Every frame that is whole.
    fn frames(&mut self) {
        while let Some(last) = self.whole() {
            let mut packets: Vec<RtpPacket> = Vec::new();
            for number in self.next..=last {
                packets.extend(self.waiting.remove(&number));
            }
            self.next = last + 1;
            let timestamp = packets.first().map_or(0, |packet| packet.timestamp);
            let payloads: Vec<Bytes> = packets
                .into_iter()
                .map(|packet| packet.payload)
                .filter(|payload| !payload.is_empty())
                .collect();
            // Padding, as browsers send it to probe.
            if payloads.is_empty() {
                continue;
            }
            self.frame(timestamp, &payloads);
        }
    }

    fn frame(&mut self, timestamp: u32, payloads: &[Bytes]) {
        let codec = self.video.codec;
        let frame = match assemble(codec, payloads) {
            Ok(data) => VideoFrame {
                is_key: is_key(codec, &data),
                timestamp,
                data,
            },
            Err(Unfit::Unknown) => {
                // Whether it is a key frame nobody here can tell: one is asked for once.
                self.needs_key = false;
                self.has_begun |= self.asked_key.is_some();
                return;
            }
            Err(why) => {
                tracing::debug!(?why, %codec, "a frame cannot be assembled");
                self.counts.dropped += 1;
                self.needs_key = true;
                return;
            }
        };
        if self.needs_key && !frame.is_key {
            self.counts.dropped += 1;
            return;
        }
        if frame.is_key {
            // It was answered: the next need may be said at once.
            (self.needs_key, self.has_begun, self.asked_key) = (false, true, None);
        }
        self.counts.frames += 1;
        self.counts.key_frames += u64::from(frame.is_key);
        self.outputs.push_back(Output::Frame(frame));
    }

    /// The last number of the next frame, if all of it is there: it ends with the marker, or where another timestamp begins.
    fn whole(&self) -> Option<u64> {
        let first = self.waiting.get(&self.next)?.timestamp;
        let mut number = self.next;
        loop {
            let packet = self.waiting.get(&number)?;
            if packet.timestamp != first {
                return Some(number - 1);
            }
            if packet.marker {
                return Some(number);
            }
            number += 1;
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;

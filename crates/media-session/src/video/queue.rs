//! The bounded queues between the engine's task and ours: they never block, never wait, and drop their oldest.

use crate::join::VideoWay;
use parking_lot::Mutex;
use siprtc_core::media::{Feedback, RtpPacket, VideoPort};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Two seconds of 8 Mbit/s. When it is full the oldest is dropped and counted; a key frame will be asked for.
const PACKETS: usize = 2_048;
/// What the peer says of our stream. When it is full the oldest is dropped: the peer says again what it still misses.
const FEEDBACK: usize = 64;

/// What the other side of a bridge takes is believed for so long: it is said again every second or so.
const BELIEVED: Duration = Duration::from_secs(10);

/// What an engine brings, in order.
#[derive(Debug)]
pub(crate) enum Came {
    /// What follows is another peer's.
    Another,
    /// Somebody begins to look at it in another session.
    Onlooker,
    Packet(Instant, RtpPacket),
}

/// Of our stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    /// Another peer sees it from now on.
    Another,
    /// By the peer.
    Feedback(Feedback),
}

/// Where an engine's video goes.
#[derive(Default)]
pub(crate) struct VideoQueue {
    came_in: Mutex<VecDeque<Came>>,
    told_us: Mutex<VecDeque<Told>>,
    /// There is a packet, or there is feedback.
    pub(crate) came: Notify,
    pub(crate) told: Notify,
    dropped: AtomicU64,
    relays: Mutex<Relays>,
    limits: Mutex<Limits>,
}

/// How much the peer may send, in bit/s: what its path to us carries, and what the one takes to whom a bridge brings it.
#[derive(Default)]
struct Limits {
    carried: Option<u64>,
    taken: Option<(Instant, u64)>,
}

impl Limits {
    fn least(&self, now: Instant) -> Option<u64> {
        let taken = self.taken.filter(|(at, _)| *at + BELIEVED > now);
        self.carried.into_iter().chain(taken.map(|(_, rate)| rate)).min()
    }
}

/// What a bridge puts in the way.
#[derive(Clone, Default)]
pub(crate) struct Relays {
    /// Takes the packets that come.
    pub(crate) onward: Option<Arc<VideoWay>>,
    /// Sends to our peer, in our stream: it hears what the peer says of it.
    pub(crate) inward: Option<Arc<VideoWay>>,
}

impl VideoQueue {
    pub(crate) fn relay(&self, relays: Relays) {
        *self.relays.lock() = relays;
    }

    /// Moves what is there to the end of `batch`.
    pub(crate) fn drain(&self, batch: &mut VecDeque<Came>) {
        batch.append(&mut self.came_in.lock());
    }

    pub(crate) fn next_told(&self) -> Option<Told> {
        self.told_us.lock().pop_front()
    }

    /// Another peer is seen from now on, and sees us: neither side can begin in the middle. What the one before sent is over.
    pub(crate) fn begin_anew(&self) {
        self.came_in.lock().clear();
        self.limits.lock().carried = None;
        self.come(Came::Another);
        let inward = self.relays.lock().inward.clone();
        if let Some(inward) = inward {
            inward.begin_anew();
        }
        self.tell(Told::Another);
    }

    /// Somebody looks from now on to whom a bridge brings it.
    pub(crate) fn has_onlooker(&self) {
        self.come(Came::Onlooker);
    }

    /// Whether a bridge brings it to somebody.
    pub(crate) fn is_passed_on(&self) -> bool {
        let onward = self.relays.lock().onward.clone();
        onward.is_some_and(|onward| onward.is_open())
    }

    /// The path from the peer carries so many bit/s; how many it is to be told.
    pub(crate) fn carries(&self, rate: u64) -> u64 {
        let mut limits = self.limits.lock();
        limits.carried = Some(rate);
        limits.least(Instant::now()).unwrap_or(rate)
    }

    /// The same where a bridge brings it.
    pub(crate) fn is_taken(&self, rate: u64) -> u64 {
        let mut limits = self.limits.lock();
        let now = Instant::now();
        limits.taken = Some((now, rate));
        limits.least(now).unwrap_or(rate)
    }

    /// No bridge brings it anywhere any more.
    pub(crate) fn is_taken_no_more(&self) {
        self.limits.lock().taken = None;
    }

    fn come(&self, came: Came) {
        let mut waiting = self.came_in.lock();
        if waiting.len() >= PACKETS {
            waiting.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(came);
        drop(waiting);
        self.came.notify_one();
    }

    fn tell(&self, told: Told) {
        let mut waiting = self.told_us.lock();
        if waiting.len() >= FEEDBACK {
            waiting.pop_front();
        }
        waiting.push_back(told);
        drop(waiting);
        self.told.notify_one();
    }

    /// How many packets were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl VideoPort for VideoQueue {
    fn push(&self, packet: RtpPacket) {
        let at = Instant::now();
        let onward = self.relays.lock().onward.clone();
        if let Some(onward) = onward {
            onward.forward(packet.clone());
        }
        self.come(Came::Packet(at, packet));
    }

    fn feedback(&self, feedback: Feedback) {
        let inward = self.relays.lock().inward.clone();
        let feedback = match inward {
            Some(inward) => match inward.feedback(Instant::now().into_std(), feedback) {
                Ok(()) => return,
                Err(feedback) => feedback,
            },
            None => feedback,
        };
        self.tell(Told::Feedback(feedback));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn full_queues_drop_their_oldest() {
        let queue = VideoQueue::default();
        for number in 0..PACKETS as u32 + 3 {
            queue.push(RtpPacket {
                payload_type: 96,
                marker: false,
                sequence: number as u16,
                timestamp: number,
                ssrc: 1,
                payload: Bytes::new(),
            });
            queue.feedback(Feedback::Bitrate(u64::from(number)));
        }
        let mut batch = VecDeque::new();
        queue.drain(&mut batch);
        assert_eq!((batch.len(), queue.dropped()), (PACKETS, 3));
        assert!(matches!(&batch[0], Came::Packet(_, first) if first.timestamp == 3));
        let told: Vec<Told> = std::iter::from_fn(|| queue.next_told()).collect();
        let last = Told::Feedback(Feedback::Bitrate(PACKETS as u64 + 2));
        assert_eq!((told.len(), told.last()), (FEEDBACK, Some(&last)));
    }
}

//! The bounded queues between the engine's task and ours: they never block, never wait, and drop their oldest.

use crate::join::VideoWay;
use parking_lot::Mutex;
use siprtc_core::media::{Feedback, RtpPacket, VideoPort};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Two seconds of 8 Mbit/s. When it is full the oldest is dropped and counted; a key frame will be asked for.
const PACKETS: usize = 2_048;
/// What the peer says of our stream. When it is full the oldest is dropped: the peer says again what it still misses.
const FEEDBACK: usize = 64;

/// Where an engine's video goes.
#[derive(Default)]
pub(crate) struct VideoQueue {
    packets: Mutex<VecDeque<(Instant, RtpPacket)>>,
    feedback: Mutex<VecDeque<Feedback>>,
    /// There is a packet, or there is feedback.
    pub(crate) came: Notify,
    pub(crate) told: Notify,
    dropped: AtomicU64,
    relays: Mutex<Relays>,
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
    pub(crate) fn drain(&self, batch: &mut VecDeque<(Instant, RtpPacket)>) {
        batch.append(&mut self.packets.lock());
    }

    pub(crate) fn next_feedback(&self) -> Option<Feedback> {
        self.feedback.lock().pop_front()
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
        let mut packets = self.packets.lock();
        if packets.len() >= PACKETS {
            packets.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        packets.push_back((at, packet));
        drop(packets);
        self.came.notify_one();
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
        let mut waiting = self.feedback.lock();
        if waiting.len() >= FEEDBACK {
            waiting.pop_front();
        }
        waiting.push_back(feedback);
        drop(waiting);
        self.told.notify_one();
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
        assert_eq!(batch[0].1.timestamp, 3);
        let told: Vec<Feedback> = std::iter::from_fn(|| queue.next_feedback()).collect();
        assert_eq!(
            (told.len(), told.last()),
            (FEEDBACK, Some(&Feedback::Bitrate(PACKETS as u64 + 2)))
        );
    }
}

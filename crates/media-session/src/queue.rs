//! The bounded queue between the engine's task and ours: never blocks, never waits, drops its oldest.

use crate::SessionEventKind;
use crate::events::Events;
use crate::join::{Kept, Way};
use parking_lot::Mutex;
use siprtc_core::media::{PacketSink, RtpPacket};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::time::Instant;

/// Two and a half seconds of 20 ms packets. When it is full the oldest is dropped and counted.
const CAPACITY: usize = 128;

/// A packet and when it came.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) at: Instant,
    pub(crate) packet: RtpPacket,
    /// A bridge took its payload.
    pub(crate) bare: bool,
}

/// Where an engine's packets go.
pub(crate) struct PacketQueue {
    packets: Mutex<VecDeque<Arrived>>,
    dropped: AtomicU64,
    any: AtomicBool,
    /// Where packets go beside this queue.
    way: Mutex<Option<Arc<Way>>>,
    /// Whether somebody here hears them.
    heard: AtomicBool,
    events: Arc<Events>,
}

impl PacketQueue {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        PacketQueue {
            packets: Mutex::default(),
            dropped: AtomicU64::new(0),
            any: AtomicBool::new(false),
            way: Mutex::default(),
            heard: AtomicBool::new(true),
            events,
        }
    }

    /// From now on packets take this way, too.
    pub(crate) fn set_way(&self, way: Option<Arc<Way>>) {
        *self.way.lock() = way;
    }

    /// Whether somebody here hears the packets: else a bridge need not leave their payloads.
    pub(crate) fn set_heard(&self, heard: bool) {
        self.heard.store(heard, Ordering::Relaxed);
    }

    /// Moves what is there to the end of `batch`.
    pub(crate) fn drain(&self, batch: &mut VecDeque<Arrived>) {
        batch.append(&mut self.packets.lock());
    }

    /// How many were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl PacketSink for PacketQueue {
    fn push(&self, packet: RtpPacket) {
        let at = Instant::now();
        let kept = match &*self.way.lock() {
            Some(way) => way.forward(at, packet, self.heard.load(Ordering::Relaxed)),
            None => Kept { packet, bare: false },
        };
        let Kept { packet, bare } = kept;
        let arrived = Arrived { at, packet, bare };
        {
            let mut packets = self.packets.lock();
            if packets.len() >= CAPACITY {
                packets.pop_front();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            packets.push_back(arrived);
        }
        if !self.any.swap(true, Ordering::Relaxed) {
            self.events.emit(SessionEventKind::FirstPacketReceived);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_full_queue_drops_its_oldest_and_counts_it() {
        let queue = PacketQueue::new(Arc::new(Events::nowhere()));
        for sequence in 0..CAPACITY as u16 + 3 {
            queue.push(RtpPacket {
                payload_type: 0,
                marker: false,
                sequence,
                timestamp: 0,
                ssrc: 1,
                payload: Bytes::new(),
            });
        }
        let mut batch = VecDeque::new();
        queue.drain(&mut batch);
        assert_eq!((batch.len(), queue.dropped()), (CAPACITY, 3));
        assert_eq!(batch.front().map(|arrived| arrived.packet.sequence), Some(3));
    }
}

//! The way from one peer to another.

use siprtc_core::media::{PacketSink, RtpPacket};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// A packet on its way.
pub(super) struct UnderWay {
    pub(super) at: Instant,
    pub(super) order: u64,
    pub(super) packet: RtpPacket,
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for UnderWay {}

/// Hands packets over when their time has come, until the peer is closed or dropped.
pub(super) async fn deliver(mut arriving: mpsc::Receiver<UnderWay>, packets: Arc<dyn PacketSink>) {
    let mut under_way = BinaryHeap::new();
    loop {
        let next = under_way.peek().map(|Reverse(next): &Reverse<UnderWay>| next.at);
        tokio::select! {
            biased;
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let Some(Reverse(arrived)) = under_way.pop() {
                    packets.push(arrived.packet);
                }
            }
            packet = arriving.recv() => match packet {
                Some(packet) => under_way.push(Reverse(packet)),
                None => return,
            },
        }
    }
}

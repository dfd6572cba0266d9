//! Puts a stream's packets in order without a clock: a packet that is missing is waited for until a few later ones are
//! there, so that a clean stream is never held up.

use crate::stats::{Reception, Verdict};
use siprtc_core::media::RtpPacket;
use std::collections::VecDeque;

/// How many packets wait for one that is missing; with one more it is lost.
const REORDER: usize = 2;

/// What came in order.
#[derive(Debug)]
pub(super) struct Ordered {
    /// How many before it are lost.
    pub(super) lost: u16,
    pub(super) packet: RtpPacket,
}

/// What is to be made of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    Duplicate,
    Held,
    /// Its turn had passed.
    Late,
    /// The stream began anew with it; what was held of the old one is gone.
    Restarted,
    Stray,
}

#[derive(Debug, Default)]
pub(super) struct Inbound {
    reception: Reception,
    held: VecDeque<RtpPacket>,
    next: Option<u16>,
}

impl Inbound {
    pub(super) fn take(&mut self, packet: &RtpPacket) -> Taken {
        let mut taken = Taken::Held;
        match self.reception.packet(packet.ssrc, packet.sequence) {
            Verdict::Duplicate => return Taken::Duplicate,
            Verdict::Stray => return Taken::Stray,
            Verdict::Restarted => {
                self.held.clear();
                self.next = None;
                taken = Taken::Restarted;
            }
            Verdict::New => {}
        }
        let next = *self.next.get_or_insert(packet.sequence);
        let ahead = packet.sequence.wrapping_sub(next);
        if ahead > u16::MAX / 2 {
            return Taken::Late;
        }
        let before = |other: &RtpPacket| other.sequence.wrapping_sub(next) < ahead;
        let place = self.held.iter().rposition(before).map_or(0, |index| index + 1);
        self.held.insert(place, packet.clone());
        taken
    }

    /// What is in order; with `all`, what is held waits no longer.
    pub(super) fn next(&mut self, all: bool) -> Option<Ordered> {
        let lost = self.held.front()?.sequence.wrapping_sub(self.next?);
        if lost > 0 && !all && self.held.len() <= REORDER {
            return None;
        }
        let packet = self.held.pop_front()?;
        self.next = Some(packet.sequence.wrapping_add(1));
        Some(Ordered { lost, packet })
    }

    pub(super) fn lost(&self) -> u64 {
        self.reception.lost()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn packet(sequence: u16) -> RtpPacket {
        RtpPacket {
            payload_type: 0,
            marker: false,
            sequence,
            timestamp: 0,
            ssrc: 1,
            payload: Bytes::new(),
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_in_order_once_and_complete_where_it_can_be(
            first in any::<u16>(),
            fates in proptest::collection::vec(0u8..12, 1..200),
        ) {
            let mut sent: Vec<u16> = Vec::new();
            for (index, fate) in fates.iter().enumerate() {
                let number = first.wrapping_add(index as u16);
                match fate {
                    0 if index > 0 => {}
                    1 => sent.extend([number, number]),
                    2 if index > 1 => sent.insert(sent.len() - 1, number),
                    _ => sent.push(number),
                }
            }
            let mut inbound = Inbound::default();
            let (mut out, mut missing) = (Vec::new(), 0usize);
            for number in &sent {
                inbound.take(&packet(*number));
                while let Some(ordered) = inbound.next(false) {
                    missing += usize::from(ordered.lost);
                    out.push(ordered.packet.sequence);
                }
                prop_assert!(inbound.held.len() <= REORDER);
            }
            while let Some(ordered) = inbound.next(true) {
                missing += usize::from(ordered.lost);
                out.push(ordered.packet.sequence);
            }
            prop_assert!(out.windows(2).all(|pair| (pair[1].wrapping_sub(pair[0]) as i16) > 0));
            let span = usize::from(out[out.len() - 1].wrapping_sub(out[0])) + 1;
            prop_assert_eq!(out.len() + missing, span);
        }
    }
}

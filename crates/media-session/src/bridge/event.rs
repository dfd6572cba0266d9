//! telephone-event (RFC 4733) from one clock to another.

/// The longest duration that the field can say.
const LONGEST: u32 = u16::MAX as u32;

/// Follows one event from its first packet to its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventMap {
    code: u8,
    /// The inbound segment's timestamp and duration, and how long those before it were.
    segment: u32,
    duration: u32,
    before: u32,
    ended: bool,
    /// How long the outbound segments before this one were, and how long the event was when it was told last.
    closed: u32,
    told: u32,
    /// The outbound timestamp of the whole event.
    pub(super) out: u32,
}

/// What is sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mapped {
    pub(super) timestamp: u32,
    pub(super) payload: [u8; 4],
}

impl EventMap {
    pub(super) fn begin(code: u8, timestamp: u32, out: u32) -> Self {
        EventMap {
            code,
            segment: timestamp,
            duration: 0,
            before: 0,
            ended: false,
            closed: 0,
            told: 0,
            out,
        }
    }

    /// Whether a packet belongs to this event: same start, or its next segment (RFC 4733 section 2.5.1.3).
    pub(super) fn continues(&self, code: u8, timestamp: u32) -> bool {
        let passed = timestamp.wrapping_sub(self.segment);
        let next_segment =
            !self.ended && self.duration > 60_000 && passed >= self.duration / 2 && passed < 1 << 20;
        self.code == code && (passed == 0 || next_segment)
    }

    /// Maps a packet of this event; clocks as (events in, events out, audio out).
    pub(super) fn packet(&mut self, timestamp: u32, payload: [u8; 4], clocks: (u32, u32, u32)) -> Mapped {
        let [code, flags, high, low] = payload;
        if timestamp != self.segment {
            self.before = self.before.saturating_add(self.duration);
            self.segment = timestamp;
        }
        self.duration = u32::from(u16::from_be_bytes([high, low]));
        self.ended |= flags & 0x80 != 0;
        let (from, to, audio) = clocks;
        let scale = |units: u32, to: u32, from: u32| {
            u32::try_from(u64::from(units) * u64::from(to) / u64::from(from.max(1))).unwrap_or(u32::MAX)
        };
        let total = scale(self.before.saturating_add(self.duration), to, from);
        // RFC 4733 section 2.5.1.3: a new segment begins where the one before was last told to be. Where packets were lost
        // that may be too far back.
        if total.saturating_sub(self.closed) > LONGEST {
            self.closed = self.told.max(total - LONGEST);
        }
        self.told = total;
        let passed = scale(self.closed, audio, to);
        let [high, low] = (total.saturating_sub(self.closed) as u16).to_be_bytes();
        Mapped {
            timestamp: self.out.wrapping_add(passed),
            payload: [code, flags, high, low],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtmf::{EventReceiver, EventSender, steps};
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// What our own sender sends is heard by our own receiver behind the map, whatever the clocks are.
        #[test]
        fn a_digit_of_any_length_keeps_its_length_over_clocks(
            ms in 40u32..5_000,
            clocks in proptest::sample::select(vec![(8_000u32, 48_000u32), (48_000, 8_000), (8_000, 8_000), (48_000, 48_000)]),
        ) {
            let (from, to) = clocks;
            let (mut sender, mut receiver) = (EventSender::default(), EventReceiver::default());
            steps("5", ms).unwrap().into_iter().for_each(|step| sender.push(step));
            let (mut timestamp, mut map, mut heard) = (7_000u32, None::<EventMap>, Vec::new());
            while sender.is_busy() {
                if let Some(packet) = sender.next(timestamp, 20, (from, from)) {
                    let mut payload = [0; 4];
                    payload.copy_from_slice(&packet.payload);
                    let mut event = map
                        .filter(|map| map.continues(payload[0], packet.timestamp))
                        .unwrap_or_else(|| EventMap::begin(payload[0], packet.timestamp, 90_000));
                    let mapped = event.packet(packet.timestamp, payload, (from, to, to));
                    map = Some(event);
                    heard.extend(receiver.packet(mapped.timestamp, &mapped.payload, to).and_then(|heard| heard.digit));
                }
                timestamp += from / 50;
            }
            prop_assert_eq!(heard, vec![('5', Duration::from_millis(u64::from(ms)))]);
        }
    }
}

//! What the sequence numbers and arrival times say of the network (RFC 3550 appendices A.1, A.3 and A.8).

use std::time::Duration;
use tokio::time::Instant;

/// A forward jump up to this is loss; beyond it, the sender may have started anew (RFC 3550 appendix A.1).
const MAX_DROPOUT: u16 = 3_000;
/// A packet this much too old is out of order; beyond it, the sender may have started anew.
const MAX_MISORDER: u16 = 100;

/// What a packet's sequence number says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Came before.
    Duplicate,
    /// New.
    New,
    /// The first of a new stream.
    Restarted,
    /// Far from anything expected: ignored until a second one like it comes.
    Stray,
}

/// Counts of one peer's stream.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    stream: Option<Stream>,
    /// Of streams that ended.
    past_expected: u64,
    past_received: u64,
    duplicates: u64,
    jitter: f64,
    transit: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    base: u16,
    highest: u16,
    cycles: u64,
    received: u64,
    /// Which of the 128 numbers up to `highest` were received; bit 0 is `highest`.
    window: u128,
    /// The number that would make a second one of a strange jump.
    suspicious: Option<u16>,
}

impl Reception {
    /// Takes a packet's stream and number.
    pub(crate) fn packet(&mut self, ssrc: u32, sequence: u16) -> Verdict {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == ssrc) else {
            let first = self.stream.is_none();
            self.restart(ssrc, sequence);
            return if first { Verdict::New } else { Verdict::Restarted };
        };
        let ahead = sequence.wrapping_sub(stream.highest);
        if (1..MAX_DROPOUT).contains(&ahead) {
            stream.advance(sequence, ahead);
            return Verdict::New;
        }
        let behind = stream.highest.wrapping_sub(sequence);
        if behind <= MAX_MISORDER {
            return self.misordered(behind);
        }
        if stream.suspicious == Some(sequence) {
            self.restart(ssrc, sequence);
            return Verdict::Restarted;
        }
        stream.suspicious = Some(sequence.wrapping_add(1));
        Verdict::Stray
    }

    /// Takes an audio packet's arrival for the jitter (RFC 3550 section 6.4.1).
    pub(crate) fn arrival(&mut self, at: Instant, timestamp: u32, clock: u32) {
        if let Some((last, last_timestamp)) = self.transit {
            // Reordered packets have both differences negative; the distance between packets is the same.
            let arrived = at.saturating_duration_since(last).as_secs_f64()
                - last.saturating_duration_since(at).as_secs_f64();
            let sent = f64::from(timestamp.wrapping_sub(last_timestamp) as i32) / f64::from(clock);
            let distance = (arrived - sent).abs();
            // A jump of more than a second is a pause or a restart, and no jitter.
            if distance < 1.0 {
                self.jitter += (distance - self.jitter) / 16.0;
            }
        }
        self.transit = Some((at, timestamp));
    }

    /// How many packets the peer sent.
    pub(crate) fn expected(&self) -> u64 {
        self.past_expected + self.stream.as_ref().map_or(0, Stream::expected)
    }

    /// How many never came.
    pub(crate) fn lost(&self) -> u64 {
        let received = self.past_received + self.stream.as_ref().map_or(0, |stream| stream.received);
        self.expected().saturating_sub(received)
    }

    /// How many came again.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Interarrival jitter.
    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.jitter)
    }

    fn misordered(&mut self, behind: u16) -> Verdict {
        let Some(stream) = &mut self.stream else {
            return Verdict::Stray;
        };
        let bit = 1u128 << behind;
        // Older than the first packet: never expected (RFC 3550 counts from the first on).
        let before_first = stream.expected() <= u64::from(behind);
        if stream.window & bit != 0 || before_first {
            self.duplicates += u64::from(stream.window & bit != 0);
            return if before_first {
                Verdict::Stray
            } else {
                Verdict::Duplicate
            };
        }
        stream.window |= bit;
        stream.received += 1;
        Verdict::New
    }

    fn restart(&mut self, ssrc: u32, sequence: u16) {
        if let Some(stream) = self.stream.take() {
            self.past_expected += stream.expected();
            self.past_received += stream.received;
        }
        self.transit = None;
        self.stream = Some(Stream {
            ssrc,
            base: sequence,
            highest: sequence,
            cycles: 0,
            received: 1,
            window: 1,
            suspicious: None,
        });
    }
}

impl Stream {
    fn advance(&mut self, sequence: u16, ahead: u16) {
        if sequence < self.highest {
            self.cycles += 1 << 16;
        }
        self.highest = sequence;
        self.received += 1;
        self.window = if ahead >= 128 {
            1
        } else {
            (self.window << ahead) | 1
        };
        self.suspicious = None;
    }

    fn expected(&self) -> u64 {
        self.cycles + u64::from(self.highest) + 1 - u64::from(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_that_wrap_around_are_counted_on() {
        let mut reception = Reception::default();
        for number in 65_530..65_550u32 {
            assert_eq!(reception.packet(1, number as u16), Verdict::New);
        }
        assert_eq!((reception.expected(), reception.lost()), (20, 0));
    }

    #[test]
    fn a_late_packet_is_no_longer_lost_and_a_second_one_is_a_duplicate() {
        let mut reception = Reception::default();
        for number in [10, 11, 13, 14] {
            reception.packet(1, number);
        }
        assert_eq!(reception.lost(), 1);
        assert_eq!(reception.packet(1, 12), Verdict::New);
        assert_eq!(reception.packet(1, 12), Verdict::Duplicate);
        assert_eq!((reception.lost(), reception.duplicates()), (0, 1));
    }

    #[test]
    fn a_sender_that_starts_anew_keeps_the_old_counts() {
        let mut reception = Reception::default();
        for number in [1, 2, 4] {
            reception.packet(1, number);
        }
        assert_eq!(reception.packet(1, 40_000), Verdict::Stray);
        assert_eq!(reception.packet(1, 40_001), Verdict::Restarted);
        assert_eq!(reception.packet(2, 5), Verdict::Restarted);
        assert_eq!((reception.expected(), reception.lost()), (6, 1));
    }

    #[test]
    fn one_stray_packet_changes_nothing() {
        let mut reception = Reception::default();
        reception.packet(1, 1);
        assert_eq!(reception.packet(1, 30_000), Verdict::Stray);
        assert_eq!(reception.packet(1, 2), Verdict::New);
        assert_eq!((reception.expected(), reception.lost()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_has_no_jitter_and_an_unsteady_one_has() {
        let start = Instant::now();
        let jitter = |swing: u64| {
            let mut reception = Reception::default();
            for index in 0..500u64 {
                let at = start + Duration::from_millis(20 * index + swing * (index % 2));
                reception.arrival(at, (index * 160) as u32, 8_000);
            }
            reception.jitter()
        };
        assert!(jitter(0) < Duration::from_micros(10));
        assert!(jitter(10).as_millis().abs_diff(10) <= 1, "{:?}", jitter(10));
    }

    proptest! {
        /// A stream that the network drops from, doubles and swaps neighbours of.
        #[test]
        fn counts_are_those_of_the_stream(
            first in any::<u16>(),
            fates in proptest::collection::vec(0u8..10, 1..400),
            swaps in proptest::collection::vec(any::<bool>(), 400),
        ) {
            let mut sent = Vec::new();
            let (mut lost, mut doubled) = (0u64, 0u64);
            let last = fates.len() - 1;
            for (index, fate) in fates.iter().enumerate() {
                let number = first.wrapping_add(index as u16);
                // First and last always arrive, so that all between them are expected.
                match fate {
                    0 if index != 0 && index != last => lost += 1,
                    1 => {
                        sent.extend([number, number]);
                        doubled += 1;
                    }
                    _ => sent.push(number),
                }
            }
            for index in 1..sent.len().saturating_sub(1) {
                if swaps[index % swaps.len()] && sent[index] != first && sent[index + 1] != first {
                    sent.swap(index, index + 1);
                }
            }
            let mut reception = Reception::default();
            for number in sent {
                reception.packet(7, number);
            }
            prop_assert_eq!(reception.expected(), fates.len() as u64);
            prop_assert_eq!(reception.lost(), lost);
            prop_assert_eq!(reception.duplicates(), doubled);
        }

        #[test]
        fn no_sequence_of_numbers_makes_more_lost_than_expected(
            numbers in proptest::collection::vec((0u32..3, any::<u16>()), 0..300),
        ) {
            let mut reception = Reception::default();
            for (ssrc, number) in numbers {
                reception.packet(ssrc, number);
            }
            prop_assert!(reception.lost() <= reception.expected());
        }
    }
}

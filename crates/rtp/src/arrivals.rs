//! When packets came, for their sender to judge the path by (draft-holmer-rmcat-transport-wide-cc-extensions-01): each carries a number of
//! its transport's, and ten times a second the sender is told which came and when. No I/O, no clock.

use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Told so often.
const INTERVAL: Duration = Duration::from_millis(100);
/// Packets of one message, came or not; when a jump of the number is longer, what is before it is not told.
const MOST: u64 = 1_000;
/// µs: times are told in such steps,
const STEP: i64 = 250;
/// and the first of them in so many steps.
const REFERENCE: i64 = 256;
/// Symbols in a vector of two bits each; a shorter run of one symbol is no shorter as a run.
const VECTOR: usize = 7;
/// The longest run, 13 bits.
const RUN: usize = 0x1fff;

/// What came since it was last told.
pub(crate) struct Arrivals {
    /// Times are told from here on.
    start: Instant,
    /// By the number, which goes on where the 16 bits of it begin anew.
    came: BTreeMap<u64, Instant>,
    /// The number after the highest that came.
    next: Option<u64>,
    /// The first that was not told of.
    untold: u64,
    due: Option<Instant>,
    media_ssrc: u32,
    count: u8,
}

impl Arrivals {
    pub(crate) fn new(start: Instant) -> Self {
        Arrivals {
            start,
            came: BTreeMap::new(),
            next: None,
            untold: 0,
            due: None,
            media_ssrc: 0,
            count: 0,
        }
    }

    /// A packet of this stream came under this number.
    pub(crate) fn push(&mut self, now: Instant, ssrc: u32, number: u16) {
        // Far from zero, so that what comes a little late has a number, too.
        let next = *self.next.get_or_insert_with(|| {
            self.untold = 0x1_0000 + u64::from(number);
            self.untold
        });
        let jump = number.wrapping_sub(next as u16) as i16;
        let Some(number) = next.checked_add_signed(i64::from(jump)) else {
            return;
        };
        self.next = Some(next.max(number + 1));
        self.media_ssrc = ssrc;
        self.came.entry(number).or_insert(now);
        while self.came.len() as u64 > MOST {
            self.came.pop_first();
        }
        self.due.get_or_insert(now + INTERVAL);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What is due to be told, from the sender of this SSRC.
    pub(crate) fn handle_timeout(&mut self, now: Instant, ours: u32) -> Option<TransportLayerCc> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        let (first, last) = (*self.came.first_key_value()?.0, *self.came.last_key_value()?.0);
        let began = first.min(self.untold).max((last + 1).saturating_sub(MOST));
        self.untold = self.untold.max(last + 1);
        let came = std::mem::take(&mut self.came);
        let steps = |at: Instant| at.saturating_duration_since(self.start).as_micros() as i64 / STEP;
        let reference = came.values().min().map_or(0, |at| steps(*at)) / REFERENCE;
        let mut before = reference * REFERENCE;
        let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
        for number in began..=last {
            let delta = came.get(&number).map(|at| steps(*at) - before);
            let symbol = match delta {
                Some(0..=255) => SymbolTypeTcc::PacketReceivedSmallDelta,
                Some(-32_768..=32_767) => SymbolTypeTcc::PacketReceivedLargeDelta,
                _ => SymbolTypeTcc::PacketNotReceived,
            };
            symbols.push(symbol);
            if let Some(delta) = delta.filter(|_| symbol != SymbolTypeTcc::PacketNotReceived) {
                before += delta;
                deltas.push(RecvDelta {
                    type_tcc_packet: symbol,
                    delta: delta * STEP,
                });
            }
        }
        self.count = self.count.wrapping_add(1);
        Some(TransportLayerCc {
            sender_ssrc: ours,
            media_ssrc: self.media_ssrc,
            base_sequence_number: began as u16,
            packet_status_count: symbols.len() as u16,
            // 24 bits, in 64 ms.
            reference_time: (reference & 0xff_ffff) as u32,
            fb_pkt_count: self.count.wrapping_sub(1),
            packet_chunks: chunks(&symbols),
            recv_deltas: deltas,
        })
    }
}

/// Runs of one symbol where they are long, vectors where they are not.
fn chunks(mut symbols: &[SymbolTypeTcc]) -> Vec<PacketStatusChunk> {
    let mut chunks = Vec::new();
    while let Some(first) = symbols.first() {
        let run = symbols
            .iter()
            .take(RUN)
            .take_while(|symbol| *symbol == first)
            .count();
        let taken = if run >= VECTOR || run == symbols.len() {
            chunks.push(PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: *first,
                run_length: run as u16,
            }));
            run
        } else {
            let mut list: Vec<SymbolTypeTcc> = symbols.iter().copied().take(VECTOR).collect();
            let taken = list.len();
            // Behind the last packet they say nothing.
            list.resize(VECTOR, SymbolTypeTcc::PacketNotReceived);
            chunks.push(PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: SymbolSizeTypeTcc::TwoBit,
                symbol_list: list,
            }));
            taken
        };
        symbols = symbols.get(taken..).unwrap_or_default();
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc_rtcp::Packet;
    use rtc_rtcp::packet::{marshal, unmarshal};

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// What a sender reads of a message: each number, and when it came, in µs since the receiver's start.
    fn read(told: TransportLayerCc) -> Vec<(u16, Option<i64>)> {
        let told: Box<dyn Packet> = Box::new(told);
        let mut wire = marshal(&[told]).unwrap().freeze();
        let packets = unmarshal(&mut wire).unwrap();
        let told = packets[0].as_any().downcast_ref::<TransportLayerCc>().unwrap();
        let mut symbols: Vec<SymbolTypeTcc> = Vec::new();
        for chunk in &told.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(run) => {
                    symbols.extend(vec![run.packet_status_symbol; usize::from(run.run_length)]);
                }
                PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
            }
        }
        symbols.truncate(usize::from(told.packet_status_count));
        assert_eq!(symbols.len(), usize::from(told.packet_status_count));
        let mut deltas = told.recv_deltas.iter();
        let mut at = i64::from(told.reference_time) * 64_000;
        let mut number = told.base_sequence_number;
        let mut seen = Vec::new();
        for symbol in symbols {
            let came = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                at += deltas.next().unwrap().delta;
                at
            });
            seen.push((number, came));
            number = number.wrapping_add(1);
        }
        assert!(deltas.next().is_none());
        seen
    }

    #[test]
    fn what_came_and_what_did_not_is_told_ten_times_a_second() {
        let start = tokio::time::Instant::now().into_std();
        let mut arrivals = Arrivals::new(start);
        assert_eq!(arrivals.poll_timeout(), None);
        let begin = start + ms(1_000);
        // One is lost, one is late, one comes twice, and the number begins anew.
        for (number, at) in [(65_534, 0), (65_535, 1), (1, 20), (2, 21), (0, 25), (2, 30)] {
            arrivals.push(begin + ms(at), 9, number);
        }
        arrivals.push(begin + ms(40), 9, 4);
        assert_eq!(arrivals.poll_timeout(), Some(begin + INTERVAL));
        assert_eq!(arrivals.handle_timeout(begin + ms(99), 7), None);
        let told = arrivals.handle_timeout(begin + ms(100), 7).unwrap();
        assert_eq!((told.sender_ssrc, told.media_ssrc, told.fb_pkt_count), (7, 9, 0));
        let at = |after: i64| Some(1_000_000 + after * 1_000);
        let seen = vec![
            (65_534, at(0)),
            (65_535, at(1)),
            (0, at(25)),
            (1, at(20)),
            (2, at(21)),
            (3, None),
            (4, at(40)),
        ];
        assert_eq!(read(told), seen);
        // What came too late for it is told with the next ones; what stays away is told once.
        assert_eq!(arrivals.handle_timeout(begin + ms(300), 7), None);
        arrivals.push(begin + ms(300), 9, 3);
        arrivals.push(begin + ms(301), 9, 6);
        let told = arrivals.handle_timeout(begin + ms(400), 7).unwrap();
        assert_eq!(told.fb_pkt_count, 1);
        let seen = vec![(3, at(300)), (4, None), (5, None), (6, at(301))];
        assert_eq!(read(told), seen);
    }

    #[test]
    fn a_jump_is_not_told_packet_by_packet() {
        let start = tokio::time::Instant::now().into_std();
        let mut arrivals = Arrivals::new(start);
        arrivals.push(start, 9, 0);
        arrivals.push(start, 9, 30_000);
        let told = arrivals.handle_timeout(start + INTERVAL, 7).unwrap();
        assert_eq!(u64::from(told.packet_status_count), MOST);
        assert_eq!(read(told).last(), Some(&(30_000, Some(0))));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_told_as_it_came(
            packets in proptest::collection::vec((any::<u16>(), 0_u64..3_000), 1..200),
        ) {
            let start = tokio::time::Instant::now().into_std();
            let mut arrivals = Arrivals::new(start);
            let mut now = start + ms(64);
            for (number, after) in packets {
                now += Duration::from_micros(after * 250);
                arrivals.push(now, 9, number);
                if let Some(told) = arrivals.handle_timeout(now, 7) {
                    let seen = read(told);
                    prop_assert!(seen.len() as u64 <= MOST);
                    let at = now.saturating_duration_since(start).as_micros() as i64;
                    prop_assert!(seen.iter().any(|(seen, came)| *seen == number && *came == Some(at)) || seen.len() as u64 == MOST);
                }
            }
        }
    }
}

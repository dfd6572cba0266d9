//! Whose packets are the peer's, where there is no ICE to say so (RFC 4961), and where ours go.
//!
//! A telephone behind a NAT writes an address into its description that nobody can send to; its packets come from another.
//! So ours go to where its packets come from. That is also how a stranger would take a call over, so there are rules:
//! what can be authenticated (SRTP) moves the latch at once; what cannot must come from nowhere else, several in a row
//! (as Asterisk's strict RTP has it), while the address that is in use is silent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets in a row that make a source the peer's.
const PROBATION: u8 = 4;
/// How long the source in use must be silent before another may take its place.
const SILENCE: Duration = Duration::from_secs(2);
/// The widest gap in the sequence numbers of a source on probation.
const MOST_LOST: u16 = 8;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is the peer's.
    Accept,
    /// It is a stranger's.
    Drop,
    /// It is the peer's, and ours go there from now on.
    Move,
}

#[derive(Clone, Copy, Debug)]
struct Probation {
    from: SocketAddr,
    ssrc: u32,
    sequence: u16,
    count: u8,
}

/// The latch of one stream of datagrams.
#[derive(Debug)]
pub(crate) struct Latch {
    is_on: bool,
    /// Where the description says, or where the packets come from.
    target: Option<SocketAddr>,
    heard: Option<Instant>,
    probation: Option<Probation>,
}

impl Latch {
    pub(crate) fn new(is_on: bool) -> Self {
        Latch {
            is_on,
            target: None,
            heard: None,
            probation: None,
        }
    }

    /// The peer's description says so. One that says the same again, as when a call is held, moves nothing.
    pub(crate) fn signalled(&mut self, addr: SocketAddr) {
        *self = Latch {
            target: Some(addr),
            ..Latch::new(self.is_on)
        };
    }

    /// An RTP packet came; `authentic`: only the peer can have sent it.
    pub(crate) fn rtp(
        &mut self,
        now: Instant,
        from: SocketAddr,
        (ssrc, sequence): (u32, u16),
        authentic: bool,
    ) -> Verdict {
        if self.target == Some(from) {
            self.heard = Some(now);
            self.probation = None;
            return Verdict::Accept;
        }
        if !self.is_on {
            // Who speaks from where nobody sends to is heard all the same if it is surely the peer.
            return if authentic { Verdict::Accept } else { Verdict::Drop };
        }
        if authentic {
            return self.shift(now, from);
        }
        if self
            .heard
            .is_some_and(|heard| now.saturating_duration_since(heard) < SILENCE)
        {
            return Verdict::Drop;
        }
        let count = match self.probation {
            Some(before) if before.from == from && before.ssrc == ssrc => {
                let ahead = sequence.wrapping_sub(before.sequence);
                if (1..=MOST_LOST).contains(&ahead) {
                    before.count + 1
                } else {
                    1
                }
            }
            // Two sources that take turns convince nobody.
            _ => 1,
        };
        if count >= PROBATION {
            return self.shift(now, from);
        }
        self.probation = Some(Probation {
            from,
            ssrc,
            sequence,
            count,
        });
        Verdict::Drop
    }

    fn shift(&mut self, now: Instant, from: SocketAddr) -> Verdict {
        self.target = Some(from);
        self.heard = Some(now);
        self.probation = None;
        Verdict::Move
    }

    /// Where ours go.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4000))
    }

    struct Bench {
        latch: Latch,
        now: Instant,
        sequence: u16,
    }

    impl Bench {
        fn new(is_on: bool) -> Self {
            let mut latch = Latch::new(is_on);
            latch.signalled(addr(1));
            Bench {
                latch,
                now: Instant::from(tokio::time::Instant::now()),
                sequence: 65_530,
            }
        }

        fn packet(&mut self, from: SocketAddr, ssrc: u32, authentic: bool) -> Verdict {
            self.now += Duration::from_millis(20);
            self.sequence = self.sequence.wrapping_add(1);
            self.latch.rtp(self.now, from, (ssrc, self.sequence), authentic)
        }
    }

    #[test]
    fn who_speaks_from_where_it_said_is_heard_at_once() {
        let mut bench = Bench::new(true);
        assert_eq!(bench.packet(addr(1), 7, false), Verdict::Accept);
        assert_eq!(bench.latch.target(), Some(addr(1)));
    }

    #[test]
    fn who_is_behind_a_nat_is_followed_after_four_packets_also_when_the_numbers_wrap() {
        let mut bench = Bench::new(true);
        for _ in 0..3 {
            assert_eq!(bench.packet(addr(2), 7, false), Verdict::Drop);
        }
        assert_eq!(bench.packet(addr(2), 7, false), Verdict::Move);
        assert_eq!(bench.latch.target(), Some(addr(2)));
        for _ in 0..10 {
            assert_eq!(bench.packet(addr(2), 7, false), Verdict::Accept);
        }
    }

    #[test]
    fn a_stranger_takes_no_call_over_while_the_peer_speaks() {
        let mut bench = Bench::new(true);
        bench.packet(addr(1), 7, false);
        for _ in 0..500 {
            assert_eq!(bench.packet(addr(3), 7, false), Verdict::Drop);
            assert_eq!(bench.packet(addr(1), 7, false), Verdict::Accept);
        }
    }

    #[test]
    fn strangers_that_guess_convince_nobody() {
        let mut bench = Bench::new(true);
        for round in 0..100 {
            // Another SSRC each time, another source each time, numbers out of order.
            assert_eq!(bench.packet(addr(3), round, false), Verdict::Drop);
            assert_eq!(bench.packet(addr(4 + (round % 2) as u8), 7, false), Verdict::Drop);
            bench.sequence = bench.sequence.wrapping_add(1_000);
        }
        assert_eq!(bench.latch.target(), Some(addr(1)));
    }

    #[test]
    fn a_peer_that_moves_is_followed_once_its_old_address_is_silent() {
        let mut bench = Bench::new(true);
        bench.packet(addr(1), 7, false);
        let moved = (0..200).find(|_| bench.packet(addr(2), 9, false) == Verdict::Move);
        let waited = moved.map(|packets| Duration::from_millis(20) * packets);
        assert!(
            waited.is_some_and(|waited| waited >= SILENCE && waited < SILENCE * 2),
            "{waited:?}"
        );
    }

    #[test]
    fn what_is_authentic_moves_the_latch_at_once() {
        let mut bench = Bench::new(true);
        bench.packet(addr(1), 7, true);
        assert_eq!(bench.packet(addr(2), 7, true), Verdict::Move);
        assert_eq!(bench.packet(addr(1), 7, true), Verdict::Move);
    }

    #[test]
    fn switched_off_it_stays_where_the_description_says() {
        let mut bench = Bench::new(false);
        for _ in 0..200 {
            assert_eq!(bench.packet(addr(2), 7, false), Verdict::Drop);
        }
        assert_eq!(bench.packet(addr(2), 7, true), Verdict::Accept);
        assert_eq!(bench.latch.target(), Some(addr(1)));
    }
}

//! One stream's timestamps in terms of another's. Positions are 64 bits wide, so that nothing wraps inside.

use std::time::Duration;

/// A timestamp this far behind begins the line anew.
const MAX_BACK: Duration = Duration::from_secs(3);
/// Or this far ahead.
const MAX_AHEAD: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Line {
    clock_in: u32,
    clock_out: u32,
    /// The inbound timestamp seen last, and its position.
    last: Option<(u32, i64)>,
    /// Where the inbound audio goes on.
    pub(super) expected: i64,
    /// An inbound position and the outbound one that belongs to it.
    anchor: (i64, i64),
    /// The first outbound timestamp.
    start: u32,
    /// Where the outbound stream goes on.
    pub(super) next: i64,
}

/// Where a packet lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The first one, or far from everything: the line begins anew with it.
    Anew(i64),
    /// So many inbound units after what is expected; less than 0 where it overlaps.
    At(i64, i64),
}

impl Line {
    pub(super) fn new(clock_in: u32, clock_out: u32, start: u32) -> Self {
        Line {
            clock_in,
            clock_out,
            last: None,
            expected: 0,
            anchor: (0, 0),
            start,
            next: 0,
        }
    }

    /// Other clocks from now on; the outbound timestamps go on where they are.
    pub(super) fn change(&mut self, clock_in: u32, clock_out: u32) {
        (self.clock_in, self.clock_out) = (clock_in, clock_out);
        self.start = self.timestamp(self.next);
        self.next = 0;
        self.forget();
    }

    /// The next packet begins the line anew.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Where an inbound timestamp lies. Does not move anything.
    pub(super) fn place(&mut self, timestamp: u32) -> Place {
        let Some((last, position)) = self.last else {
            return Place::Anew(0);
        };
        let position = position + i64::from(timestamp.wrapping_sub(last) as i32);
        let ahead = position - self.expected;
        let units = |time: Duration| time.as_secs() as i64 * i64::from(self.clock_in);
        if ahead < -units(MAX_BACK) || ahead > units(MAX_AHEAD) {
            return Place::Anew(position);
        }
        Place::At(position, ahead)
    }

    /// The line begins with this packet, and the outbound stream goes on where it is.
    pub(super) fn begin(&mut self, timestamp: u32, position: i64) {
        self.seen(timestamp, position);
        self.expected = position;
        self.anchor = (position, self.next);
    }

    pub(super) fn seen(&mut self, timestamp: u32, position: i64) {
        self.last = Some((timestamp, position));
    }

    /// The inbound audio overlaps what came before it: it is taken as what follows.
    pub(super) fn slip(&mut self, ahead: i64) {
        self.expected += ahead;
        self.anchor.0 += ahead;
    }

    /// The outbound position of an inbound one.
    pub(super) fn map(&self, position: i64) -> i64 {
        let (inbound, outbound) = self.anchor;
        let passed = (position - inbound) * i64::from(self.clock_out) / i64::from(self.clock_in.max(1));
        outbound + passed
    }

    /// The timestamp of an outbound position.
    pub(super) fn timestamp(&self, position: i64) -> u32 {
        // The low 32 bits are what RTP says.
        self.start.wrapping_add(position as u32)
    }
}

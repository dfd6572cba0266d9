//! Transactions that have had their final answer: all of one kind last equally long, so they leave in the order in
//! which they came.

use crate::key::{Key, KeyMap, shrink};
use crate::timers::{Time, Timers};
use siprtc_core::sip::TxId;
use std::collections::VecDeque;

/// An INVITE from outside that was answered 2xx (RFC 6026: state Accepted).
pub(crate) struct Accepted<P> {
    pub(crate) tx: TxId,
    /// Where its user's repetitions of the 2xx go.
    pub(crate) path: P,
}

/// An INVITE of ours that was refused.
pub(crate) struct Acknowledged<P> {
    pub(crate) path: P,
    pub(crate) ack: Box<[u8]>,
}

/// Every finished transaction, by what it still has to do.
pub(crate) struct Finished<P> {
    /// Timer L.
    pub(crate) accepted: Line<Accepted<P>>,
    /// Timer J, with the final answer; an empty one is not repeated.
    pub(crate) answered: Line<Box<[u8]>>,
    /// Timer I.
    pub(crate) confirmed: Line<()>,
    /// Timer M: an INVITE of ours that had a 2xx.
    pub(crate) successful: Line<TxId>,
    /// Timer D.
    pub(crate) acknowledged: Line<Acknowledged<P>>,
    /// Timer K.
    pub(crate) heard: Line<()>,
}

impl<P> Finished<P> {
    pub(crate) fn new(timers: &Timers) -> Self {
        Finished {
            accepted: Line::new(timers.t1_64),
            answered: Line::new(timers.t1_64),
            confirmed: Line::new(timers.t4),
            successful: Line::new(timers.t1_64),
            acknowledged: Line::new(timers.d),
            heard: Line::new(timers.t4),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.accepted.len()
            + self.answered.len()
            + self.confirmed.len()
            + self.successful.len()
            + self.acknowledged.len()
            + self.heard.len()
    }

    /// When the first of them goes.
    pub(crate) fn next(&self) -> Option<Time> {
        self.fronts().into_iter().flatten().min()
    }

    /// Lets the first of them go; says whose user is to hear of it. `None`: there are none.
    pub(crate) fn drop_first(&mut self) -> Option<Option<TxId>> {
        let fronts = self.fronts();
        let first = (0..fronts.len())
            .filter(|line| fronts[*line].is_some())
            .min_by_key(|line| fronts[*line])?;
        match first {
            0 => self.accepted.pop().map(|accepted| Some(accepted.tx)),
            1 => self.successful.pop().map(Some),
            2 => self.answered.pop().map(|_| None),
            3 => self.confirmed.pop().map(|()| None),
            4 => self.acknowledged.pop().map(|_| None),
            _ => self.heard.pop().map(|()| None),
        }
    }

    /// How many could be kept without more memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.answered.by_key.capacity() + self.answered.pieces.capacity()
    }

    fn fronts(&self) -> [Option<Time>; 6] {
        [
            self.accepted.next(),
            self.successful.next(),
            self.answered.next(),
            self.confirmed.next(),
            self.acknowledged.next(),
            self.heard.next(),
        ]
    }
}

/// How many a piece of a line holds: what an idle stack keeps is small, and memory goes back piece by piece.
const PIECE: usize = 64;

struct Place<T> {
    key: Key,
    until: Time,
    what: T,
}

/// A queue in which whoever stands is found by key.
pub(crate) struct Line<T> {
    lasts: Time,
    /// Each but the last has had `PIECE` places; `gone` of the first one's are.
    pieces: VecDeque<VecDeque<Place<T>>>,
    gone: usize,
    len: usize,
    /// The front one's number. Numbers wrap around: there are never 2^32 at once.
    first: u32,
    by_key: KeyMap<u32>,
}

impl<T> Line<T> {
    fn new(lasts: Time) -> Self {
        Line {
            lasts,
            pieces: VecDeque::new(),
            gone: 0,
            len: 0,
            first: 0,
            by_key: KeyMap::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whoever stands there with the same key is not found any more.
    pub(crate) fn push(&mut self, now: Time, key: Key, what: T) {
        let until = now.saturating_add(self.lasts);
        self.by_key.insert(key, self.first.wrapping_add(self.len as u32));
        if self.gone + self.len == self.pieces.len() * PIECE {
            self.pieces.push_back(VecDeque::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.push_back(Place { key, until, what });
            self.len += 1;
        }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<&T> {
        let number = *self.by_key.get(key)?;
        let place = self.gone + number.wrapping_sub(self.first) as usize;
        let within = match place / PIECE {
            0 => place - self.gone,
            _ => place % PIECE,
        };
        self.pieces
            .get(place / PIECE)?
            .get(within)
            .map(|place| &place.what)
    }

    pub(crate) fn next(&self) -> Option<Time> {
        Some(self.pieces.front()?.front()?.until)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let place = self.pieces.front_mut()?.pop_front()?;
        if self.by_key.get(&place.key) == Some(&self.first) {
            self.by_key.remove(&place.key);
            shrink(&mut self.by_key);
        }
        self.first = self.first.wrapping_add(1);
        self.len -= 1;
        self.gone += 1;
        if self.len == 0 {
            (self.pieces, self.gone) = (VecDeque::new(), 0);
        } else if self.gone == PIECE {
            self.pieces.pop_front();
            self.gone = 0;
        }
        Some(place.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Keys;
    use siprtc_core::sip::{Method, Via};

    fn key(keys: &Keys, number: usize) -> Key {
        let via: Via = format!("SIP/2.0/UDP h;branch=z9hG4bK{number}").parse().unwrap();
        keys.client(&via, &Method::Options)
    }

    #[test]
    fn a_line_is_a_queue_with_keys() {
        let keys = Keys::default();
        let mut line = Line::new(5);
        let (mut from, mut to) = (0, 0);
        line.first = u32::MAX - 200;
        for step in 0..1000 {
            for _ in 0..(step % 7) {
                line.push(to as Time, key(&keys, to), to);
                to += 1;
            }
            for _ in 0..(step % 5) {
                if from < to {
                    assert_eq!(line.next(), Some(from as Time + 5));
                    assert_eq!(line.pop(), Some(from));
                    from += 1;
                }
            }
            for number in [from.wrapping_sub(1), from, (from + to) / 2, to - to.min(1), to] {
                let there = (from..to).contains(&number).then_some(&number);
                assert_eq!(line.find(&key(&keys, number)), there, "{number} of {from}..{to}");
            }
            assert_eq!(line.len(), to - from);
            assert!(line.pieces.len() <= (to - from).div_ceil(PIECE) + 1);
        }
        while line.pop().is_some() {}
        assert!(line.pieces.is_empty() && line.by_key.is_empty());
    }

    #[test]
    fn the_newer_of_two_with_one_key_is_found() {
        let keys = Keys::default();
        let mut line = Line::new(5);
        let key = key(&keys, 1);
        line.push(0, key, "old");
        line.push(1, key, "new");
        assert_eq!(line.find(&key), Some(&"new"));
        assert_eq!(line.pop(), Some("old"));
        assert_eq!(line.find(&key), Some(&"new"));
        assert_eq!(line.pop(), Some("new"));
        assert_eq!(line.find(&key), None);
    }
}

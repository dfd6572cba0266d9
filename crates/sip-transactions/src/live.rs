//! Transactions with timers of their own: those without a final answer, and those that wait for an ACK.

use crate::config::{Output, Path};
use crate::key::{Key, KeyMap, shrink};
use crate::timers::{Alarms, NEVER, Time};
use bytes::Bytes;
use siprtc_core::sip::{Headers, SipRequest, TxId};
use std::collections::HashMap;

/// What kind of transaction, and what only this kind needs.
pub(crate) enum Role {
    /// Our CANCEL: nobody's user hears of it.
    Cancel { proceeding: bool },
    /// An INVITE of ours.
    Invite(Box<Inviting>),
    /// Another request of ours.
    Other { proceeding: bool },
    /// A request from outside without a final answer.
    Served(Box<Serving>),
    /// An INVITE from outside that was refused and whose ACK has not come.
    Unacknowledged,
}

/// An INVITE of ours.
pub(crate) struct Inviting {
    /// What its ACK and its CANCEL are made from.
    pub(crate) request: SipRequest,
    pub(crate) proceeding: bool,
    pub(crate) cancelled: bool,
}

/// A request from outside.
pub(crate) struct Serving {
    pub(crate) invite: bool,
    /// What its answers are made from.
    pub(crate) identity: Headers,
    pub(crate) cancelled: bool,
}

pub(crate) struct Live<P> {
    pub(crate) key: Key,
    pub(crate) path: P,
    pub(crate) role: Role,
    /// What is sent again: the request, or the last answer; empty when nothing is.
    pub(crate) bytes: Bytes,
    /// When it is sent again by itself (timers A, E, G), or when a 100 is sent.
    pub(crate) wake: Time,
    /// How long it was from the time before until `wake`.
    pub(crate) interval: Time,
    /// Timers B, F, H, or the end of our patience.
    pub(crate) expires: Time,
    /// For when its alarm is set.
    alarm: Time,
}

impl<P: Path> Live<P> {
    /// A transaction that does not repeat anything yet.
    pub(crate) fn new(key: Key, path: P, role: Role, expires: Time) -> Self {
        Live {
            key,
            path,
            role,
            bytes: Bytes::new(),
            wake: NEVER,
            interval: 0,
            expires,
            alarm: NEVER,
        }
    }

    /// Has `bytes` sent again `interval` from `now`, unless the path does so itself.
    pub(crate) fn repeat(&mut self, now: Time, interval: Time, bytes: Bytes) {
        if !self.path.is_reliable() {
            (self.bytes, self.interval) = (bytes, interval);
            self.wake = now.saturating_add(interval);
        }
    }

    pub(crate) fn stop_repeating(&mut self) {
        (self.wake, self.bytes) = (NEVER, Bytes::new());
    }

    /// Whether its user waits for a final answer or owes one.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.role, Role::Cancel { .. } | Role::Unacknowledged)
    }

    pub(crate) fn is_client(&self) -> bool {
        matches!(
            self.role,
            Role::Cancel { .. } | Role::Invite(_) | Role::Other { .. }
        )
    }

    pub(crate) fn send(&self, tx: TxId, bytes: Bytes) -> Output<P> {
        Output::Send {
            path: self.path.clone(),
            bytes,
            tx: Some(tx),
        }
    }

    fn due(&self) -> Time {
        self.wake.min(self.expires)
    }
}

/// All of them, by id and by key, with their alarms.
pub(crate) struct Lives<P> {
    by_id: HashMap<TxId, Box<Live<P>>>,
    by_key: KeyMap<TxId>,
    alarms: Alarms,
    active: usize,
}

impl<P: Path> Lives<P> {
    pub(crate) fn new() -> Self {
        Lives {
            by_id: HashMap::new(),
            by_key: KeyMap::default(),
            alarms: Alarms::default(),
            active: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn active(&self) -> usize {
        self.active
    }

    pub(crate) fn by_key(&self, key: &Key) -> Option<TxId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn get(&self, tx: TxId) -> Option<&Live<P>> {
        self.by_id.get(&tx).map(|live| &**live)
    }

    /// To change it; [`Lives::set_alarm`] afterwards when its times have come nearer.
    pub(crate) fn get_mut(&mut self, tx: TxId) -> Option<&mut Live<P>> {
        self.by_id.get_mut(&tx).map(|live| &mut **live)
    }

    pub(crate) fn insert(&mut self, tx: TxId, live: Live<P>) {
        self.active += usize::from(live.is_active());
        self.by_key.insert(live.key, tx);
        self.by_id.insert(tx, Box::new(live));
        self.set_alarm(tx);
    }

    pub(crate) fn remove(&mut self, tx: TxId) -> Option<Live<P>> {
        let live = self.by_id.remove(&tx)?;
        self.active -= usize::from(live.is_active());
        if self.by_key.get(&live.key) == Some(&tx) {
            self.by_key.remove(&live.key);
        }
        shrink(&mut self.by_id);
        shrink(&mut self.by_key);
        let by_id = &self.by_id;
        self.alarms.tidy(by_id.len(), |at, tx| {
            by_id.get(&tx).is_some_and(|live| live.alarm == at)
        });
        Some(*live)
    }

    /// It has had its final answer and waits for the ACK.
    pub(crate) fn await_ack(&mut self, tx: TxId) {
        if let Some(live) = self.by_id.get_mut(&tx) {
            self.active -= usize::from(live.is_active());
            live.role = Role::Unacknowledged;
        }
    }

    /// After its times have changed. Later ones need no new alarm: the old one is put off when it goes.
    pub(crate) fn set_alarm(&mut self, tx: TxId) {
        if let Some(live) = self.by_id.get_mut(&tx)
            && live.due() < live.alarm
        {
            live.alarm = live.due();
            self.alarms.set(live.alarm, tx);
        }
    }

    /// The next of which something is due.
    pub(crate) fn due(&mut self, now: Time) -> Option<TxId> {
        while let Some((at, tx)) = self.alarms.due(now) {
            let Some(live) = self.by_id.get_mut(&tx) else {
                continue;
            };
            if live.alarm != at {
                continue;
            }
            live.alarm = NEVER;
            if live.due() <= now {
                return Some(tx);
            }
            self.set_alarm(tx);
        }
        None
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.alarms.next()
    }

    /// How many alarms are kept, those that are of no use any more among them.
    #[cfg(test)]
    pub(crate) fn alarms(&self) -> usize {
        self.alarms.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TxId, &Live<P>)> {
        self.by_id.iter().map(|(tx, live)| (*tx, &**live))
    }

    pub(crate) fn clear(&mut self) {
        *self = Lives::new();
    }
}

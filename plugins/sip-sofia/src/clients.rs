//! Client transactions, as their users know them. No I/O and no clock: time is an argument.
//!
//! nta runs the transactions (RFC 3261 section 17.1). Here is what it leaves open: the 64*T1 in which a 2xx of an INVITE
//! may come again, from the same fork or another (RFC 6026), and those after a CANCEL (RFC 3261 section 9.1).
//!
//! **A [`Step`] must be obeyed**: its transaction is forgotten here.

use siprtc_core::sip::{SipRequest, TxId};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// A client transaction; `H` is what the library knows it by.
struct Client<H> {
    key: usize,
    handle: Option<H>,
    /// The topmost Via's branch.
    branch: String,
    /// For INVITE: what a CANCEL is made of.
    invite: Option<SipRequest>,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// A 2xx has come; more may.
    Accepted,
    /// Nothing has come.
    Calling,
    Cancelled,
    Proceeding,
}

/// What an answer means for its transaction.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// It goes on.
    Continues(TxId),
    /// That was the last of it.
    Ends(TxId),
}

/// Why a CANCEL cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    Answered,
    NotInvite,
    TooEarly,
    Twice,
    Unknown,
}

pub(crate) struct Clients<H> {
    by_tx: HashMap<TxId, Client<H>>,
    by_key: HashMap<usize, TxId>,
    accepted: HashMap<String, TxId>,
    /// In order, for every deadline is 64*T1 after it was set.
    deadlines: VecDeque<(Instant, TxId, State)>,
    lifetime: Duration,
}

impl<H> Clients<H> {
    /// `lifetime` is 64*T1.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Clients {
            by_tx: HashMap::new(),
            by_key: HashMap::new(),
            accepted: HashMap::new(),
            deadlines: VecDeque::new(),
            lifetime,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_tx.len()
    }

    pub(crate) fn contains(&self, tx: TxId) -> bool {
        self.by_tx.contains_key(&tx)
    }

    pub(crate) fn begin(
        &mut self,
        tx: TxId,
        key: usize,
        handle: H,
        branch: String,
        invite: Option<SipRequest>,
    ) {
        self.by_key.insert(key, tx);
        let client = Client {
            key,
            handle: Some(handle),
            branch,
            invite,
            state: State::Calling,
        };
        self.by_tx.insert(tx, client);
    }

    /// An answer in the transaction. `None` when nobody waits for it any more.
    pub(crate) fn heard(&mut self, now: Instant, key: usize, status: u16) -> Option<Step> {
        let tx = *self.by_key.get(&key)?;
        let client = self.by_tx.get_mut(&tx)?;
        match status {
            0..200 => {
                if client.state == State::Calling {
                    client.state = State::Proceeding;
                }
                Some(Step::Continues(tx))
            }
            200..300 if client.invite.is_some() => {
                // From here on nta need not know of it: later 2xx are found by their branch.
                client.handle = None;
                if client.state != State::Accepted {
                    client.state = State::Accepted;
                    self.by_key.remove(&client.key);
                    self.accepted.insert(client.branch.clone(), tx);
                    self.deadlines
                        .push_back((now + self.lifetime, tx, State::Accepted));
                }
                Some(Step::Continues(tx))
            }
            _ => {
                self.forget(tx);
                Some(Step::Ends(tx))
            }
        }
    }

    /// Whose 2xx this is: one with `branch` that came outside every transaction of nta's.
    pub(crate) fn accepted(&self, branch: &str) -> Option<TxId> {
        self.accepted.get(branch).copied()
    }

    /// The transaction has ended without an answer.
    pub(crate) fn failed(&mut self, key: usize) -> Option<TxId> {
        let tx = *self.by_key.get(&key)?;
        self.forget(tx).then_some(tx)
    }

    /// The INVITE that a CANCEL is made of, and what the library knows it by.
    pub(crate) fn cancel(&mut self, now: Instant, tx: TxId) -> Result<(&SipRequest, &H), Refusal> {
        let client = self.by_tx.get_mut(&tx).ok_or(Refusal::Unknown)?;
        let invite = client.invite.as_ref().ok_or(Refusal::NotInvite)?;
        match client.state {
            State::Accepted => return Err(Refusal::Answered),
            State::Calling => return Err(Refusal::TooEarly),
            State::Cancelled => return Err(Refusal::Twice),
            State::Proceeding => client.state = State::Cancelled,
        }
        self.deadlines
            .push_back((now + self.lifetime, tx, State::Cancelled));
        let handle = client.handle.as_ref().ok_or(Refusal::Answered)?;
        Ok((invite, handle))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, ..)| *at)
    }

    /// Whose time is over: an accepted INVITE is done, a cancelled one has timed out (`true`).
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(TxId, bool)> {
        let mut over = Vec::new();
        while let Some((at, tx, state)) = self.deadlines.front().copied()
            && at <= now
        {
            self.deadlines.pop_front();
            if self.by_tx.get(&tx).is_some_and(|client| client.state == state) {
                self.forget(tx);
                over.push((tx, state == State::Cancelled));
            }
        }
        over
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) -> Vec<TxId> {
        self.by_key.clear();
        self.accepted.clear();
        self.deadlines.clear();
        std::mem::take(&mut self.by_tx).into_keys().collect()
    }

    fn forget(&mut self, tx: TxId) -> bool {
        let Some(client) = self.by_tx.remove(&tx) else {
            return false;
        };
        self.by_key.remove(&client.key);
        self.accepted.remove(&client.branch);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{Method, SipUri, TxIds, TxOwner};

    const LIFETIME: Duration = Duration::from_secs(32);

    fn invite() -> Option<SipRequest> {
        let uri: SipUri = "sip:bob@example.com".parse().unwrap();
        Some(SipRequest::new(Method::Invite, uri))
    }

    fn one(request: Option<SipRequest>) -> (Clients<()>, TxId) {
        let mut clients = Clients::new(LIFETIME);
        let tx = TxIds::new(TxOwner::user(1)).mint();
        clients.begin(tx, 7, (), "z9hg4bka".to_owned(), request);
        (clients, tx)
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_invite_takes_every_2xx_for_64_t1() {
        let (mut clients, tx) = one(invite());
        let now = Instant::now();
        assert_eq!(clients.heard(now, 7, 200), Some(Step::Continues(tx)));
        assert_eq!(clients.accepted("z9hg4bka"), Some(tx));
        assert_eq!(clients.next_deadline(), Some(now + LIFETIME));
        assert_eq!(clients.expire(now + LIFETIME / 2), []);
        assert_eq!(clients.expire(now + LIFETIME), [(tx, false)]);
        assert_eq!((clients.accepted("z9hg4bka"), clients.len()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_2xx_of_another_method_is_the_last_of_it() {
        let (mut clients, tx) = one(None);
        assert_eq!(clients.heard(Instant::now(), 7, 200), Some(Step::Ends(tx)));
        assert_eq!(clients.heard(Instant::now(), 7, 200), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_waits_for_a_provisional_answer_and_is_sent_once() {
        let (mut clients, tx) = one(invite());
        let now = Instant::now();
        assert_eq!(clients.cancel(now, tx).err(), Some(Refusal::TooEarly));
        clients.heard(now, 7, 180);
        assert!(clients.cancel(now, tx).is_ok());
        assert_eq!(clients.cancel(now, tx).err(), Some(Refusal::Twice));
        assert_eq!(
            clients.expire(now + LIFETIME),
            [(tx, true)],
            "an INVITE that ignores its CANCEL"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_invite_that_is_accepted_is_not_timed_out() {
        let (mut clients, tx) = one(invite());
        let now = Instant::now();
        clients.heard(now, 7, 180);
        clients.cancel(now, tx).unwrap();
        clients.heard(now + LIFETIME / 2, 7, 200);
        assert_eq!(clients.expire(now + LIFETIME), []);
        assert_eq!(clients.expire(now + LIFETIME * 2), [(tx, false)]);
    }
}

//! Server transactions, as their users know them. No I/O and no clock: time is an argument.
//!
//! nta runs the transactions (RFC 3261 section 17.2). Here is what it leaves open: an INVITE that was answered 2xx, for
//! 64*T1 (RFC 6026), in which its copies are absorbed and its user sends the 2xx again.

use siprtc_core::sip::{SipRequest, TxId, Via};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A server transaction; `H` is what the library knows it by, `P` the way to who asks.
struct Server<H, P> {
    key: usize,
    handle: Option<H>,
    peer: P,
    identity: Arc<SipRequest>,
    /// Of an INVITE.
    name: Option<Name>,
    cancelled: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// An INVITE with a 2xx.
    Accepted,
    /// An INVITE with another final answer, which waits for its ACK.
    Answered,
    Open,
}

/// What tells copies of an INVITE from other INVITEs (RFC 3261 section 17.2.3).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Name {
    pub(crate) branch: String,
    sent_by: String,
}

impl Name {
    /// `None` without a branch: such a request is told from others by nta alone.
    pub(crate) fn of(via: &Via) -> Option<Name> {
        let port = via.port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(Name {
            branch: crate::convert::branch_of(via)?,
            sent_by: format!("{}{port}", via.host).to_ascii_lowercase(),
        })
    }
}

/// How an answer is to be sent.
pub(crate) enum Way<H, P> {
    /// In its transaction, whose user hears of it no more.
    Last(H),
    /// Outside every transaction: a 2xx again.
    Again(P),
    /// In its transaction, which goes on; see [`Servers::with`].
    Within,
}

/// Why an answer cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    Answered,
    Unknown,
}

pub(crate) struct Servers<H, P> {
    by_tx: HashMap<TxId, Server<H, P>>,
    by_key: HashMap<usize, TxId>,
    invites: HashMap<Name, TxId>,
    /// In order, for every deadline is 64*T1 after it was set.
    deadlines: VecDeque<(Instant, TxId)>,
    lifetime: Duration,
}

impl<H, P: Clone> Servers<H, P> {
    /// `lifetime` is 64*T1.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Servers {
            by_tx: HashMap::new(),
            by_key: HashMap::new(),
            invites: HashMap::new(),
            deadlines: VecDeque::new(),
            lifetime,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_tx.len()
    }

    pub(crate) fn begin(
        &mut self,
        tx: TxId,
        key: usize,
        handle: H,
        peer: P,
        identity: SipRequest,
        name: Option<Name>,
    ) {
        self.by_key.insert(key, tx);
        if let Some(name) = &name {
            self.invites.insert(name.clone(), tx);
        }
        let server = Server {
            key,
            handle: Some(handle),
            peer,
            identity: Arc::new(identity),
            name,
            cancelled: false,
            state: State::Open,
        };
        self.by_tx.insert(tx, server);
    }

    /// The branch of an INVITE.
    pub(crate) fn branch(&self, tx: TxId) -> Option<&str> {
        Some(&self.by_tx.get(&tx)?.name.as_ref()?.branch)
    }

    /// Whether this is a copy of an INVITE that was answered 2xx.
    pub(crate) fn absorbs(&self, name: &Name) -> bool {
        let invite = self.invites.get(name).and_then(|tx| self.by_tx.get(tx));
        invite.is_some_and(|invite| invite.state == State::Accepted)
    }

    /// The INVITE that a CANCEL means: `None` when there is none, `Some(None)` when there is nothing to tell its user.
    pub(crate) fn cancel(&mut self, name: &Name) -> Option<Option<TxId>> {
        let tx = *self.invites.get(name)?;
        Some(self.note_cancel(tx).then_some(tx))
    }

    /// A CANCEL has come; says whether that is news.
    pub(crate) fn note_cancel(&mut self, tx: TxId) -> bool {
        match self.by_tx.get_mut(&tx) {
            Some(server) => !std::mem::replace(&mut server.cancelled, true) && server.state == State::Open,
            None => false,
        }
    }

    /// The request that `tx` answers, if it may still be answered with `status`.
    pub(crate) fn request(&self, tx: TxId, status: u16) -> Result<Arc<SipRequest>, Refusal> {
        let server = self.by_tx.get(&tx).ok_or(Refusal::Unknown)?;
        let again = server.state == State::Accepted && (200..300).contains(&status);
        match server.state {
            State::Open => Ok(server.identity.clone()),
            State::Accepted if again => Ok(server.identity.clone()),
            State::Accepted | State::Answered => Err(Refusal::Answered),
        }
    }

    /// An answer is about to be sent; the second word says whether the transaction has ended for its user.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        tx: TxId,
        status: u16,
    ) -> Result<(Way<H, P>, bool), Refusal> {
        let server = self.by_tx.get_mut(&tx).ok_or(Refusal::Unknown)?;
        if server.state == State::Accepted {
            return Ok((Way::Again(server.peer.clone()), false));
        }
        let invite = server.identity.method == siprtc_core::sip::Method::Invite;
        match status {
            0..200 => Ok((Way::Within, false)),
            200..300 if invite => {
                server.state = State::Accepted;
                self.by_key.remove(&server.key);
                self.deadlines.push_back((now + self.lifetime, tx));
                let handle = server.handle.take().ok_or(Refusal::Answered)?;
                Ok((Way::Last(handle), false))
            }
            _ if invite => {
                server.state = State::Answered;
                Ok((Way::Within, false))
            }
            _ => {
                let server = self.forget(tx).ok_or(Refusal::Unknown)?;
                let handle = server.handle.ok_or(Refusal::Answered)?;
                Ok((Way::Last(handle), true))
            }
        }
    }

    /// What the library knows a transaction by, as long as it does.
    pub(crate) fn with(&self, tx: TxId) -> Option<&H> {
        self.by_tx.get(&tx)?.handle.as_ref()
    }

    pub(crate) fn find(&self, key: usize) -> Option<TxId> {
        self.by_key.get(&key).copied()
    }

    /// Forgets the transaction, whose handle lets go of nta's.
    pub(crate) fn end(&mut self, tx: TxId) -> Option<H> {
        self.forget(tx)?.handle
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// Accepted INVITEs whose 64*T1 are over, and their names.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(TxId, Option<Name>)> {
        let mut over = Vec::new();
        while let Some((at, tx)) = self.deadlines.front().copied()
            && at <= now
        {
            self.deadlines.pop_front();
            if let Some(server) = self.forget(tx) {
                over.push((tx, server.name));
            }
        }
        over
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) -> Vec<(TxId, Option<H>)> {
        self.by_key.clear();
        self.invites.clear();
        self.deadlines.clear();
        let all = std::mem::take(&mut self.by_tx).into_iter();
        all.map(|(tx, server)| (tx, server.handle)).collect()
    }

    fn forget(&mut self, tx: TxId) -> Option<Server<H, P>> {
        let server = self.by_tx.remove(&tx)?;
        self.by_key.remove(&server.key);
        if let Some(name) = &server.name
            && self.invites.get(name) == Some(&tx)
        {
            self.invites.remove(name);
        }
        Some(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{Method, SipUri, TxIds, TxOwner};

    const LIFETIME: Duration = Duration::from_secs(32);

    fn name() -> Name {
        let via = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa".parse().unwrap();
        Name::of(&via).unwrap()
    }

    fn one(method: Method) -> (Servers<(), ()>, TxId) {
        let mut servers = Servers::new(LIFETIME);
        let tx = TxIds::new(TxOwner::STACK).mint();
        let uri: SipUri = "sip:bob@example.com".parse().unwrap();
        let name = (method == Method::Invite).then(name);
        servers.begin(tx, 7, (), (), SipRequest::new(method, uri), name);
        (servers, tx)
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_invite_is_answered_2xx_again_and_absorbs_copies_for_64_t1() {
        let (mut servers, tx) = one(Method::Invite);
        let now = Instant::now();
        assert!(!servers.absorbs(&name()));
        assert!(matches!(servers.answer(now, tx, 200), Ok((Way::Last(()), false))));
        assert!(servers.absorbs(&name()));
        assert!(servers.request(tx, 200).is_ok());
        assert_eq!(servers.request(tx, 486).err(), Some(Refusal::Answered));
        assert!(matches!(
            servers.answer(now, tx, 200),
            Ok((Way::Again(()), false))
        ));
        assert_eq!(servers.expire(now + LIFETIME / 2), []);
        assert_eq!(servers.expire(now + LIFETIME), [(tx, Some(name()))]);
        assert!(!servers.absorbs(&name()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_is_told_once_and_only_of_an_invite_without_a_final_answer() {
        let (mut servers, tx) = one(Method::Invite);
        assert_eq!(servers.cancel(&name()), Some(Some(tx)));
        assert_eq!(servers.cancel(&name()), Some(None));
        let (mut servers, tx) = one(Method::Invite);
        assert!(servers.answer(Instant::now(), tx, 200).is_ok());
        assert_eq!(servers.cancel(&name()), Some(None));
        let (mut servers, _) = one(Method::Options);
        assert_eq!(servers.cancel(&name()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_invite_waits_for_its_ack() {
        let (mut servers, tx) = one(Method::Invite);
        assert!(matches!(
            servers.answer(Instant::now(), tx, 486),
            Ok((Way::Within, false))
        ));
        assert_eq!(servers.request(tx, 200).err(), Some(Refusal::Answered));
        assert_eq!(servers.find(7), Some(tx));
        assert!(servers.end(tx).is_some());
        assert_eq!((servers.find(7), servers.len()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn another_request_has_ended_with_its_final_answer() {
        let (mut servers, tx) = one(Method::Options);
        assert!(matches!(
            servers.answer(Instant::now(), tx, 100),
            Ok((Way::Within, false))
        ));
        assert!(matches!(
            servers.answer(Instant::now(), tx, 404),
            Ok((Way::Last(()), true))
        ));
        assert_eq!(servers.request(tx, 200).err(), Some(Refusal::Unknown));
    }
}

//! Server transactions, decided without I/O (RFC 3261 section 17.2, RFC 6026).
//!
//! They are ours and not ezk's: ezk's `ServerInvTsx` cannot repeat its last provisional answer while its user is
//! idle, forgets the transaction at the ACK (so that a late copy of the INVITE begins a second call), queues copies
//! of a request without bound, and has its timers as constants.
//!
//! **Whoever calls [`ServerTransactions::handle_timeout`] or [`ServerTransactions::receive`] drains
//! [`ServerTransactions::poll_transmit`] and [`ServerTransactions::poll_ended`] until `None` afterwards.**

use bytes::Bytes;
use siprtc_core::sip::{Method, SipRequest, TimerConfig, TxEnd, TxId, Via};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an INVITE may stay without a final answer before its user is taken for dead.
const MAX_PROCEEDING: Duration = Duration::from_secs(3600);

/// What makes two requests the same transaction (RFC 3261 section 17.2.3).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key(String);

impl Key {
    /// The key of `request` as if its method were `method`: an ACK and a CANCEL are looked up as the INVITE's.
    pub(crate) fn of(request: &SipRequest, via: &Via, method: &Method) -> siprtc_core::Result<Self> {
        let method = if *method == Method::Ack {
            &Method::Invite
        } else {
            method
        };
        let branch = via.branch().unwrap_or_default();
        if branch.starts_with("z9hG4bK") {
            return Ok(Key(format!("{branch}\n{}\n{:?}\n{method}", via.host, via.port)));
        }
        // RFC 2543's way, for whoever still has no magic cookie: the ACK's To-tag differs, so it stays out.
        let headers = &request.headers;
        let (from, sequence) = (headers.from()?, headers.cseq()?.sequence);
        let tag = from.tag().unwrap_or_default();
        Ok(Key(format!(
            "{}\n{tag}\n{sequence}\n{via}\n{}\n{method}",
            headers.call_id()?,
            request.uri
        )))
    }
}

/// What to do with a request that has arrived.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Received {
    /// It belongs to a transaction, which has dealt with it.
    Absorbed,
    /// No transaction knows it.
    New,
    /// An ACK with the branch of an INVITE that was answered 2xx: for the transaction's user.
    PassUp,
}

/// How a respond was refused.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// It has had its final answer.
    Answered,
    /// No such transaction, or no longer.
    Unknown,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// A 2xx to an INVITE was sent: its user repeats it (RFC 6026 section 7.1).
    Accepted,
    /// A final answer was sent, which we repeat.
    Completed,
    /// The ACK has come: only late copies are still to be absorbed.
    Confirmed,
    /// No final answer yet. (RFC 3261's Trying is this state without a last response.)
    Proceeding,
}

struct Transaction<P> {
    key: Key,
    request: Arc<SipRequest>,
    peer: P,
    reliable: bool,
    state: State,
    last: Option<Bytes>,
    /// Timer G: when the final answer is repeated next, and the interval after that.
    repeat: Option<(Instant, Duration)>,
    /// Timers H, I, J, L, or the end of our patience.
    expires: Instant,
    cancelled: bool,
    /// Its end was told; what is left only absorbs copies.
    told: bool,
}

impl<P> Transaction<P> {
    fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    fn deadline(&self) -> Instant {
        self.repeat.map_or(self.expires, |(at, _)| at.min(self.expires))
    }
}

/// All server transactions of a stack. `P` is where answers go.
pub(crate) struct ServerTransactions<P> {
    timers: TimerConfig,
    by_key: HashMap<Key, TxId>,
    by_id: HashMap<TxId, Transaction<P>>,
    deadlines: BTreeSet<(Instant, TxId)>,
    /// How many of them only absorb copies.
    told: usize,
    /// Most of them, all kinds together.
    max: usize,
    transmits: VecDeque<(P, Bytes)>,
    ended: VecDeque<(TxId, TxEnd)>,
}

impl<P: Clone> ServerTransactions<P> {
    /// At most `max` are kept. Those with a user waiting are for the caller to bound; when there are as many with
    /// those that only absorb copies, the one of these that would go first goes at once.
    pub(crate) fn new(timers: TimerConfig, max: usize) -> Self {
        ServerTransactions {
            timers,
            told: 0,
            max,
            by_key: HashMap::new(),
            by_id: HashMap::new(),
            deadlines: BTreeSet::new(),
            transmits: VecDeque::new(),
            ended: VecDeque::new(),
        }
    }

    /// How many still have a user waiting.
    pub(crate) fn open(&self) -> usize {
        self.by_id.len() - self.told
    }

    /// A request has arrived; its copies and ACKs are dealt with here.
    pub(crate) fn receive(&mut self, now: Instant, key: &Key, method: &Method) -> Received {
        let Some(&tx) = self.by_key.get(key) else {
            return Received::New;
        };
        let Some(transaction) = self.by_id.get_mut(&tx) else {
            return Received::New;
        };
        if *method == Method::Ack {
            return match transaction.state {
                State::Accepted => Received::PassUp,
                State::Completed => {
                    self.confirm(now, tx);
                    Received::Absorbed
                }
                State::Confirmed | State::Proceeding => Received::Absorbed,
            };
        }
        if matches!(transaction.state, State::Completed | State::Proceeding)
            && let Some(last) = &transaction.last
        {
            self.transmits.push_back((transaction.peer.clone(), last.clone()));
        }
        Received::Absorbed
    }

    /// A new transaction; `request` is what its answers are made from.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        tx: TxId,
        key: Key,
        request: Arc<SipRequest>,
        reliable: bool,
        peer: P,
    ) {
        if self.by_id.len() >= self.max {
            let oldest = self
                .deadlines
                .iter()
                .find(|(_, tx)| self.by_id.get(tx).is_some_and(|t| t.told));
            if let Some(&(_, oldest)) = oldest {
                self.forget(oldest);
            }
        }
        let patience = match request.method {
            Method::Invite => MAX_PROCEEDING,
            // RFC 4320: a final answer after timer F is of no use to anybody.
            _ => self.timers.t1 * 64,
        };
        let transaction = Transaction {
            key: key.clone(),
            request,
            peer,
            reliable,
            state: State::Proceeding,
            last: None,
            repeat: None,
            expires: now + patience,
            cancelled: false,
            told: false,
        };
        self.deadlines.insert((transaction.deadline(), tx));
        self.by_key.insert(key, tx);
        self.by_id.insert(tx, transaction);
    }

    /// A CANCEL for `key` has come. `None`: no such INVITE. `Some(Some(tx))`: its user is to be told.
    pub(crate) fn cancel(&mut self, key: &Key) -> Option<Option<TxId>> {
        let tx = *self.by_key.get(key)?;
        let transaction = self.by_id.get_mut(&tx)?;
        let fresh = transaction.state == State::Proceeding && !transaction.cancelled;
        transaction.cancelled = true;
        Some(fresh.then_some(tx))
    }

    /// What the answers to `tx` are made from.
    pub(crate) fn request(&self, tx: TxId) -> Option<Arc<SipRequest>> {
        self.by_id.get(&tx).map(|transaction| transaction.request.clone())
    }

    /// An answer by the transaction's user: says where to send it.
    pub(crate) fn respond(
        &mut self,
        now: Instant,
        tx: TxId,
        status: u16,
        bytes: &Bytes,
    ) -> Result<P, Refusal> {
        let transaction = self.by_id.get_mut(&tx).ok_or(Refusal::Unknown)?;
        let peer = transaction.peer.clone();
        let before = transaction.deadline();
        let success = transaction.is_invite() && (200..300).contains(&status);
        match transaction.state {
            State::Accepted if success => return Ok(peer),
            State::Accepted | State::Completed | State::Confirmed => return Err(Refusal::Answered),
            State::Proceeding if status < 200 => {
                transaction.last = Some(bytes.clone());
                return Ok(peer);
            }
            State::Proceeding => transaction.expires = now + self.timers.t1 * 64,
        }
        if success {
            transaction.state = State::Accepted;
            transaction.last = None;
        } else {
            transaction.state = State::Completed;
            transaction.last = Some(bytes.clone());
            if transaction.is_invite() && !transaction.reliable {
                transaction.repeat = Some((now + self.timers.t1, self.timers.t1));
            }
        }
        let over = transaction.state == State::Completed && !transaction.is_invite();
        let gone = over && transaction.reliable;
        self.reschedule(tx, before);
        if over {
            self.tell(tx, TxEnd::Done);
        }
        if gone {
            self.forget(tx);
        }
        Ok(peer)
    }

    /// The transport could not carry the final answer (RFC 3261 section 17.2.4).
    pub(crate) fn fail(&mut self, tx: TxId, why: String) {
        self.tell(tx, TxEnd::Transport(why));
        self.forget(tx);
    }

    /// Every transaction ends at once.
    pub(crate) fn fail_all(&mut self, why: &str) {
        let all: Vec<TxId> = self.by_id.keys().copied().collect();
        for tx in all {
            self.fail(tx, why.to_owned());
        }
    }

    /// Takes back what [`ServerTransactions::begin`] did, without a word.
    pub(crate) fn forget(&mut self, tx: TxId) {
        if let Some(transaction) = self.by_id.remove(&tx) {
            self.told -= usize::from(transaction.told);
            self.deadlines.remove(&(transaction.deadline(), tx));
            self.by_key.remove(&transaction.key);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, tx)) = self.deadlines.first()
            && at <= now
        {
            let Some(transaction) = self.by_id.get_mut(&tx) else {
                self.deadlines.pop_first();
                continue;
            };
            if transaction.expires <= now {
                let end = match transaction.state {
                    State::Accepted | State::Confirmed => TxEnd::Done,
                    State::Completed | State::Proceeding => TxEnd::TimedOut,
                };
                self.tell(tx, end);
                self.forget(tx);
                continue;
            }
            let Some((_, interval)) = transaction.repeat else {
                continue;
            };
            // RFC 3261 17.2.1: timer G doubles up to T2.
            let interval = (interval * 2).min(self.timers.t2);
            transaction.repeat = Some((now + interval, interval));
            if let Some(last) = &transaction.last {
                self.transmits.push_back((transaction.peer.clone(), last.clone()));
            }
            self.reschedule(tx, at);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(P, Bytes)> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_ended(&mut self) -> Option<(TxId, TxEnd)> {
        self.ended.pop_front()
    }

    /// The ACK of a non-2xx: nothing more can be heard, but late copies of the INVITE are absorbed for timer I.
    fn confirm(&mut self, now: Instant, tx: TxId) {
        self.tell(tx, TxEnd::Done);
        let Some(transaction) = self.by_id.get_mut(&tx) else {
            return;
        };
        let before = transaction.deadline();
        transaction.state = State::Confirmed;
        transaction.repeat = None;
        transaction.last = None;
        transaction.expires = now + self.timers.t4;
        let reliable = transaction.reliable;
        self.reschedule(tx, before);
        if reliable {
            self.forget(tx);
        }
    }

    fn tell(&mut self, tx: TxId, end: TxEnd) {
        if let Some(transaction) = self.by_id.get_mut(&tx)
            && !transaction.told
        {
            transaction.told = true;
            self.told += 1;
            self.ended.push_back((tx, end));
        }
    }

    fn reschedule(&mut self, tx: TxId, before: Instant) {
        self.deadlines.remove(&(before, tx));
        if let Some(transaction) = self.by_id.get(&tx) {
            self.deadlines.insert((transaction.deadline(), tx));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{TxIds, TxOwner, Uri};

    const T1: Duration = Duration::from_millis(500);

    struct Bench {
        servers: ServerTransactions<u8>,
        ids: TxIds,
        now: Instant,
    }

    impl Bench {
        fn new(max: usize) -> Self {
            Bench {
                servers: ServerTransactions::new(TimerConfig::default(), max),
                ids: TxIds::new(TxOwner::STACK),
                now: Instant::now(),
            }
        }

        fn begin(&mut self, method: Method, key: &str, reliable: bool) -> TxId {
            let uri: Uri = "sip:bob@example.com".parse().unwrap();
            let (tx, request) = (self.ids.mint(), Arc::new(SipRequest::new(method, uri)));
            self.servers
                .begin(self.now, tx, Key(key.to_owned()), request, reliable, 7);
            tx
        }

        fn respond(&mut self, tx: TxId, status: u16) -> Result<u8, Refusal> {
            self.servers
                .respond(self.now, tx, status, &Bytes::from(status.to_string()))
        }

        fn hear(&mut self, method: Method, key: &str) -> Received {
            self.servers.receive(self.now, &Key(key.to_owned()), &method)
        }

        /// When each retransmission went out, relative to the start, until nothing more is due.
        fn run_out(&mut self) -> Vec<Duration> {
            let start = self.now;
            let mut sent = Vec::new();
            while let Some(at) = self.servers.poll_timeout() {
                self.now = at;
                self.servers.handle_timeout(at);
                while self.servers.poll_transmit().is_some() {
                    sent.push(at - start);
                }
            }
            sent
        }

        fn ended(&mut self) -> Vec<(TxId, TxEnd)> {
            std::iter::from_fn(|| self.servers.poll_ended()).collect()
        }
    }

    #[test]
    fn timer_g_doubles_up_to_t2_until_timer_h_ends_it() {
        let mut bench = Bench::new(9);
        let tx = bench.begin(Method::Invite, "k", false);
        assert_eq!(bench.respond(tx, 486), Ok(7));
        let sent = bench.run_out();
        let halves: Vec<u128> = sent.iter().map(|at| at.as_millis() / T1.as_millis()).collect();
        assert_eq!(halves, [1, 3, 7, 15, 23, 31, 39, 47, 55, 63]);
        assert_eq!(bench.ended(), [(tx, TxEnd::TimedOut)]);
        assert_eq!(bench.servers.by_id.len(), 0);
    }

    #[test]
    fn a_connection_repeats_nothing_and_still_waits_for_the_ack() {
        let mut bench = Bench::new(9);
        let tx = bench.begin(Method::Invite, "k", true);
        assert_eq!(bench.respond(tx, 486), Ok(7));
        assert_eq!(bench.hear(Method::Ack, "k"), Received::Absorbed);
        assert_eq!(bench.ended(), [(tx, TxEnd::Done)]);
        assert_eq!(bench.servers.by_id.len(), 0, "timer I is 0 on a connection");
        assert!(bench.run_out().is_empty());
    }

    #[test]
    fn an_invite_that_its_user_forgot_ends_some_day() {
        let mut bench = Bench::new(9);
        let tx = bench.begin(Method::Invite, "k", false);
        assert_eq!(bench.respond(tx, 180), Ok(7));
        assert!(bench.run_out().is_empty());
        assert_eq!(bench.ended(), [(tx, TxEnd::TimedOut)]);
    }

    #[test]
    fn an_ack_with_the_branch_of_an_accepted_invite_is_for_the_user() {
        let mut bench = Bench::new(9);
        let tx = bench.begin(Method::Invite, "k", false);
        assert_eq!(bench.respond(tx, 200), Ok(7));
        assert_eq!(bench.hear(Method::Invite, "k"), Received::Absorbed);
        assert!(
            bench.servers.poll_transmit().is_none(),
            "RFC 6026: the user repeats a 2xx"
        );
        assert_eq!(bench.hear(Method::Ack, "k"), Received::PassUp);
        assert_eq!(bench.respond(tx, 486), Err(Refusal::Answered));
        bench.run_out();
        assert_eq!(bench.ended(), [(tx, TxEnd::Done)]);
    }

    #[test]
    fn a_full_house_drops_who_only_absorbs_copies_and_nobody_else() {
        let mut bench = Bench::new(3);
        let waiting = bench.begin(Method::Options, "waiting", false);
        for key in ["a", "b", "c", "d"] {
            let tx = bench.begin(Method::Options, key, false);
            assert_eq!(bench.respond(tx, 200), Ok(7));
        }
        assert_eq!((bench.servers.by_id.len(), bench.servers.open()), (3, 1));
        assert_eq!(bench.hear(Method::Options, "a"), Received::New);
        assert_eq!(bench.hear(Method::Options, "d"), Received::Absorbed);
        assert_eq!(bench.respond(waiting, 200), Ok(7));
    }

    #[test]
    fn a_cancel_is_told_once_and_never_after_a_final_answer() {
        let mut bench = Bench::new(9);
        let tx = bench.begin(Method::Invite, "k", false);
        let key = Key("k".to_owned());
        assert_eq!(bench.servers.cancel(&key), Some(Some(tx)));
        assert_eq!(bench.servers.cancel(&key), Some(None));
        assert_eq!(bench.servers.cancel(&Key("other".to_owned())), None);
        let late = bench.begin(Method::Invite, "late", false);
        assert_eq!(bench.respond(late, 200), Ok(7));
        assert_eq!(bench.servers.cancel(&Key("late".to_owned())), Some(None));
    }
}

#![doc = include_str!("../README.md")]

mod client;
mod config;
mod finished;
mod key;
mod live;
mod server;
mod timers;
mod words;

use finished::Finished;
use key::Keys;
use live::{Lives, Role};
use siprtc_core::sip::{Headers, Method, SipMessage, SipRequest, SipResponse, TxEnd, TxId, TxIds, TxOwner};
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::time::Instant;
use timers::{Clock, Timers};

pub use config::{MAX_FINISHED, MAX_PROCEEDING, Output, Path, RETRY_AFTER, TRYING_AFTER, TransactionsConfig};

/// All transactions of a stack, client and server.
///
/// **After every call of a `&mut self` method drain [`Transactions::poll`] until `None`.** Instants that go back are
/// taken for the last one.
pub struct Transactions<P> {
    timers: Timers,
    max_transactions: usize,
    max_finished: usize,
    clock: Clock,
    keys: Keys,
    ids: TxIds,
    /// The To-tag of answers in no transaction: the ACK that brings it back is absorbed.
    stateless_tag: String,
    live: Lives<P>,
    finished: Finished<P>,
    outputs: VecDeque<Output<P>>,
    strays: u64,
}

impl<P: Path> Transactions<P> {
    /// A machine without transactions. T1 is taken for 1 ms when it is less, T2 for T1.
    pub fn new(config: TransactionsConfig) -> Self {
        let (timers, keys) = (Timers::new(config.timers), Keys::default());
        Transactions {
            timers,
            max_transactions: config.max_transactions,
            max_finished: MAX_FINISHED,
            clock: Clock::default(),
            ids: TxIds::new(TxOwner::STACK),
            stateless_tag: keys.secret(),
            keys,
            live: Lives::new(),
            finished: Finished::new(&timers),
            outputs: VecDeque::new(),
            strays: 0,
        }
    }

    /// Begins a client transaction and sends `request` over `path`. The request is complete: our own Via with its
    /// branch on top, From, To, Call-ID and CSeq readable.
    ///
    /// # Errors
    /// ACK, CANCEL, an id or a branch in use, an incomplete request: [`Fault::ApiMisuse`]. Too many transactions:
    /// [`Fault::Backend`]. Nothing of such a request is announced.
    pub fn send_request(&mut self, now: Instant, tx: TxId, request: SipRequest, path: P) -> Result<()> {
        let now = self.clock.hear(now);
        self.begin_client(now, tx, request, path)
    }

    /// Cancels an INVITE (RFC 3261 section 9.1); `extra` header fields (Reason) are added. Nothing when it has been
    /// cancelled already. The INVITE ends with its own final answer, or `TimedOut` 64*T1 from now.
    ///
    /// # Errors
    /// No INVITE without a final answer, or one without a provisional answer: [`Fault::ApiMisuse`].
    pub fn cancel(&mut self, invite: TxId, now: Instant, extra: &Headers) -> Result<()> {
        let now = self.clock.hear(now);
        self.begin_cancel(now, invite, extra)
    }

    /// Answers a server transaction. Via, From, Call-ID and CSeq are the request's, To too when absent.
    ///
    /// The request is forgotten with the first final answer. A 2xx to an INVITE may be given again for 64*T1, by
    /// another fork too (RFC 6026); it must then be whole, as [`SipRequest::response`] makes it. RFC 4320: a 100 to
    /// another request than INVITE is kept back over an unreliable transport until it may be sent, and a 408 to such a
    /// request is not sent but ends it.
    ///
    /// # Errors
    /// No such transaction, a second final answer, another provisional answer than 100 to another request than INVITE:
    /// [`Fault::ApiMisuse`].
    pub fn respond(&mut self, now: Instant, tx: TxId, response: SipResponse) -> Result<()> {
        let now = self.clock.hear(now);
        self.answer(now, tx, response)
    }

    /// A valid message has arrived; `received` and `rport` are in a request's top Via already, and `path` is where its
    /// answers go. One that is not valid is dropped and counted.
    pub fn receive(&mut self, now: Instant, path: P, message: SipMessage) {
        let now = self.clock.hear(now);
        match message {
            SipMessage::Request(request) => self.serve(now, path, request),
            SipMessage::Response(response) => self.hear(now, path, response),
        }
    }

    /// Answers a request in no transaction (400, 503): nothing is announced, and the ACK will be absorbed. An ACK is
    /// not answered.
    pub fn reject(&mut self, path: P, request: &SipRequest, status: u16, retry_after: Option<u32>) {
        if request.method != Method::Ack {
            self.answer_alone(path, &request.headers, status, retry_after);
        }
    }

    /// The user could not take an [`Output::Request`]: it is answered `status`, and `tx` is not heard of again.
    /// `retry_after` is in seconds.
    pub fn refuse(&mut self, now: Instant, tx: TxId, status: u16, retry_after: Option<u32>) {
        self.clock.hear(now);
        if !matches!(self.live.get(tx).map(|live| &live.role), Some(Role::Served(_))) {
            return;
        }
        if let Some(live) = self.live.remove(tx)
            && let Role::Served(serving) = live.role
        {
            self.answer_alone(live.path, &serving.identity, status, retry_after);
        }
    }

    /// A message of `tx` could not be sent: a client transaction ends; a server transaction goes on without it, for
    /// its answer may go over another connection (RFC 3261 section 18.2.2).
    pub fn failed(&mut self, tx: TxId, why: &str) {
        if self.live.get(tx).is_some_and(live::Live::is_client) {
            self.give_up(tx, TxEnd::Transport(why.to_owned()));
        }
    }

    /// A connection is gone: client transactions without a final answer over a path that `is_it` end.
    pub fn path_down(&mut self, is_it: &dyn Fn(&P) -> bool, why: &str) {
        let over_it = self
            .live
            .iter()
            .filter(|(_, live)| live.is_client() && is_it(&live.path));
        let mut over_it: Vec<TxId> = over_it.map(|(tx, _)| tx).collect();
        over_it.sort_unstable();
        for tx in over_it {
            self.give_up(tx, TxEnd::Transport(why.to_owned()));
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.hear(now);
        while let Some(tx) = self.live.due(now) {
            match self.live.get(tx).is_some_and(live::Live::is_client) {
                true => self.client_timeout(now, tx),
                false => self.server_timeout(now, tx),
            }
        }
        while self.finished.next().is_some_and(|at| at <= now) {
            self.drop_first();
        }
    }

    /// When to call [`Transactions::handle_timeout`] next; maybe earlier than anything is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = [self.live.next(), self.finished.next()];
        self.clock.instant(next.into_iter().flatten().min()?)
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output<P>> {
        /// Room that stays for the next time.
        const USUAL: usize = 64;
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > USUAL {
            self.outputs.shrink_to(USUAL);
        }
        output
    }

    /// How many transactions have had no final answer yet: what `max_transactions` bounds and a shutdown waits for.
    pub fn active(&self) -> usize {
        self.live.active()
    }

    /// From now on at most so many transactions without a final answer, for who has others elsewhere.
    pub fn set_max_transactions(&mut self, max_transactions: usize) {
        self.max_transactions = max_transactions;
    }

    /// Whether nothing is kept at all.
    pub fn is_empty(&self) -> bool {
        self.kept() + self.live.active() == 0
    }

    /// How many messages belonged to no transaction, or were not valid, and were dropped.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Everything that has been announced and has not ended ends with `why`, and nothing is kept.
    pub fn end_all(&mut self, why: &str) {
        let announced = |role: &Role| !matches!(role, Role::Cancel { .. });
        let live = self.live.iter().filter(|(_, live)| announced(&live.role));
        let mut open: Vec<TxId> = live.map(|(tx, _)| tx).collect();
        self.live.clear();
        while let Some(gone) = self.finished.drop_first() {
            open.extend(gone);
        }
        open.sort_unstable();
        for tx in open {
            self.end(tx, TxEnd::Transport(why.to_owned()));
        }
    }

    fn is_full(&self) -> bool {
        self.live.active() >= self.max_transactions
    }

    /// How many are kept that are not active.
    fn kept(&self) -> usize {
        self.finished.len() + self.live.len() - self.live.active()
    }

    /// Makes room for one more that is kept, at the oldest one's cost; `false` when there is none.
    fn make_room(&mut self) -> bool {
        while self.kept() >= self.max_finished {
            if !self.drop_first() {
                return false;
            }
        }
        true
    }

    fn drop_first(&mut self) -> bool {
        match self.finished.drop_first() {
            Some(Some(tx)) => self.end(tx, TxEnd::Done),
            Some(None) => (),
            None => return false,
        }
        true
    }

    fn end(&mut self, tx: TxId, end: TxEnd) {
        self.outputs.push_back(Output::Ended { tx, end });
    }
}

fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message)
}

#[cfg(test)]
mod tests;

//! The next target after one that failed (RFC 3263 section 4.3), without I/O and without a clock.
//!
//! A user's transaction (*outer*) is one after the other of the stack's (*inner*), each to another target with a
//! branch of its own. **Whatever a call returns is to be done in that order, outside the lock.** Every inner
//! transaction leaves the table with its `TxEnded`, or when it could not be begun.

use crate::cache::{DEAD_AT_MOST, DEAD_FOR};
use crate::machine::Target;
use siprtc_core::sip::{Flow, Headers, SipRequest, SipResponse, StackEvent, TxEnd, TxId, TxIds, TxOwner};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// RFC 3263 section 4.3.
const SERVICE_UNAVAILABLE: u16 = 503;

/// What an attempt needs besides its target.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) request: SipRequest,
    /// Whom a certificate must be for.
    pub(crate) server_name: Option<String>,
    /// A connection of its own.
    pub(crate) fresh: bool,
}

/// An attempt to be begun.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) inner: TxId,
    pub(crate) target: Target,
    pub(crate) order: Arc<Order>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Do {
    Alive(Target),
    Cancel(TxId, Headers),
    Dead(Target, Duration),
    Emit(Box<StackEvent>),
    Send(Sending),
}

/// What an attempt that could not be begun leads to.
#[derive(Debug)]
pub(crate) enum Failed {
    /// That was the last target of this outer transaction, which is forgotten.
    GaveUp(TxId),
    /// Its `TxEnded` came first and has led to whatever it leads to.
    Known,
    /// The next one.
    Next(Sending),
}

/// What a CANCEL of an outer transaction leads to.
#[derive(Debug)]
pub(crate) enum Cancelling {
    /// Kept until this target has answered provisionally (RFC 3261 section 9.1).
    Held,
    /// Now, with this id.
    Now(TxId, Headers),
}

#[derive(Debug)]
struct Attempt {
    outer: TxId,
    order: Arc<Order>,
    target: Target,
    ahead: VecDeque<Target>,
    heard: Heard,
    cancel: Option<Headers>,
}

/// What came from the current target.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Heard {
    Nothing,
    /// 100, which promises nothing.
    Trying,
    /// More, and the user knows: there is no other target from here on.
    More,
}

#[derive(Debug)]
enum Slot {
    /// Another attempt has taken its place; only its end is waited for.
    Abandoned,
    Current(Box<Attempt>),
}

/// Every transaction with more than one target.
#[derive(Debug)]
pub(crate) struct Failover {
    ids: TxIds,
    by_inner: HashMap<TxId, Slot>,
    by_outer: HashMap<TxId, TxId>,
    most: usize,
    closed: bool,
}

impl Failover {
    /// At most `most` inner transactions at once.
    pub(crate) fn new(most: usize) -> Self {
        Failover {
            ids: TxIds::new(TxOwner::LOCATE),
            by_inner: HashMap::new(),
            by_outer: HashMap::new(),
            most,
            closed: false,
        }
    }

    /// Whether an event of this transaction is ours.
    pub(crate) fn owns(tx: TxId) -> bool {
        tx.owner() == TxOwner::LOCATE
    }

    /// The first attempt of `outer`; `None` when the table is full.
    pub(crate) fn begin(&mut self, outer: TxId, targets: &[Target], order: Arc<Order>) -> Option<Sending> {
        let [target, ahead @ ..] = targets else {
            return None;
        };
        if self.by_inner.len() >= self.most || self.closed {
            return None;
        }
        Some(self.attempt(Attempt {
            outer,
            order,
            target: *target,
            ahead: ahead.iter().copied().collect(),
            heard: Heard::Nothing,
            cancel: None,
        }))
    }

    /// An inner transaction has got a response.
    pub(crate) fn response(&mut self, inner: TxId, response: SipResponse, flow: Option<Flow>) -> Vec<Do> {
        let Some(Slot::Current(attempt)) = self.by_inner.get_mut(&inner) else {
            return Vec::new();
        };
        let unavailable = response.status == SERVICE_UNAVAILABLE;
        if unavailable && attempt.heard < Heard::More && may_go_on(attempt, self.closed) {
            let dead = Do::Dead(attempt.target, retry_after(&response));
            let again = self.by_inner.insert(inner, Slot::Abandoned);
            let Some(Slot::Current(attempt)) = again else {
                return Vec::new();
            };
            return [dead]
                .into_iter()
                .chain(self.next(*attempt).map(Do::Send))
                .collect();
        }
        let mut todo = Vec::new();
        if attempt.heard == Heard::Nothing && !unavailable {
            todo.push(Do::Alive(attempt.target));
        }
        attempt.heard = attempt.heard.max(match response.status {
            100 => Heard::Trying,
            _ => Heard::More,
        });
        let cancel = attempt.cancel.take();
        let cancel = cancel.filter(|_| response.is_provisional());
        let tx = attempt.outer;
        todo.push(Do::Emit(Box::new(StackEvent::Response { tx, response, flow })));
        todo.extend(cancel.map(|extra| Do::Cancel(inner, extra)));
        todo
    }

    /// An inner transaction is over.
    pub(crate) fn ended(&mut self, inner: TxId, end: TxEnd) -> Vec<Do> {
        let Some(Slot::Current(attempt)) = self.by_inner.remove(&inner) else {
            return Vec::new();
        };
        let failed = match end {
            TxEnd::Done => false,
            TxEnd::TimedOut => attempt.heard == Heard::Nothing,
            TxEnd::Transport(_) => attempt.heard < Heard::More,
        };
        let mut todo = Vec::new();
        if failed {
            todo.push(Do::Dead(attempt.target, DEAD_FOR));
        }
        if failed && may_go_on(&attempt, self.closed) {
            todo.extend(self.next(*attempt).map(Do::Send));
            return todo;
        }
        self.by_outer.remove(&attempt.outer);
        let tx = attempt.outer;
        todo.push(Do::Emit(Box::new(StackEvent::TxEnded { tx, end })));
        todo
    }

    /// The stack refused to begin an inner transaction; another target may do better, or not.
    pub(crate) fn failed(&mut self, inner: TxId, go_on: bool) -> Failed {
        let Some(Slot::Current(attempt)) = self.by_inner.remove(&inner) else {
            return Failed::Known;
        };
        let outer = attempt.outer;
        if go_on
            && may_go_on(&attempt, self.closed)
            && let Some(next) = self.next(*attempt)
        {
            return Failed::Next(next);
        }
        self.by_outer.remove(&outer);
        Failed::GaveUp(outer)
    }

    /// A CANCEL for `outer`; `Err` gives the headers back when the transaction is not one of ours.
    pub(crate) fn cancel(&mut self, outer: TxId, extra: Headers) -> Result<Cancelling, Headers> {
        let Some(inner) = self.by_outer.get(&outer) else {
            return Err(extra);
        };
        match self.by_inner.get_mut(inner) {
            Some(Slot::Current(attempt)) if attempt.heard == Heard::Nothing => {
                attempt.cancel = Some(extra);
                Ok(Cancelling::Held)
            }
            _ => Ok(Cancelling::Now(*inner, extra)),
        }
    }

    /// From now on no other target is tried.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn next(&mut self, mut attempt: Attempt) -> Option<Sending> {
        attempt.target = attempt.ahead.pop_front()?;
        attempt.heard = Heard::Nothing;
        Some(self.attempt(attempt))
    }

    fn attempt(&mut self, attempt: Attempt) -> Sending {
        let inner = self.ids.mint();
        let sending = Sending {
            inner,
            target: attempt.target,
            order: attempt.order.clone(),
        };
        self.by_outer.insert(attempt.outer, inner);
        self.by_inner.insert(inner, Slot::Current(Box::new(attempt)));
        sending
    }
}

/// Whoever cancels wants an end and no other beginning.
fn may_go_on(attempt: &Attempt, closed: bool) -> bool {
    !closed && !attempt.ahead.is_empty() && attempt.cancel.is_none()
}

/// RFC 3261 section 21.5.4: `Retry-After: 18000;duration=3600 (comment)`.
fn retry_after(response: &SipResponse) -> Duration {
    let seconds = response.headers.value("Retry-After").and_then(|value| {
        let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    seconds.map_or(DEAD_FOR, Duration::from_secs).min(DEAD_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{Method, SipUri, Transport};

    fn target(last: u8) -> Target {
        Target {
            transport: Transport::Udp,
            addr: ([192, 0, 2, last], 5060).into(),
            forced: false,
        }
    }

    fn order() -> Arc<Order> {
        let uri: SipUri = "sip:bob@example.com".parse().unwrap();
        Arc::new(Order {
            request: SipRequest::new(Method::Invite, uri),
            server_name: None,
            fresh: false,
        })
    }

    struct Test {
        machine: Failover,
        outer: TxId,
        inner: TxId,
    }

    impl Test {
        fn with(targets: &[Target]) -> Self {
            let mut machine = Failover::new(100);
            let outer = TxIds::new(TxOwner::user(1)).mint();
            let sending = machine.begin(outer, targets, order()).unwrap();
            assert_eq!(sending.target, targets[0]);
            Test {
                machine,
                outer,
                inner: sending.inner,
            }
        }

        fn new() -> Self {
            Test::with(&[target(1), target(2)])
        }

        /// What is to be done, in short; follows to the next attempt.
        fn told(&mut self, todo: Vec<Do>) -> Vec<String> {
            todo.into_iter()
                .map(|todo| match todo {
                    Do::Alive(t) => format!("alive {}", t.addr.ip()),
                    Do::Cancel(tx, _) => {
                        assert_eq!(tx, self.inner);
                        "cancel".to_owned()
                    }
                    Do::Dead(t, time) => format!("dead {} {}", t.addr.ip(), time.as_secs()),
                    Do::Emit(event) => match *event {
                        StackEvent::Response { tx, response, .. } => {
                            assert_eq!(tx, self.outer);
                            response.status.to_string()
                        }
                        StackEvent::TxEnded { tx, end } => {
                            assert_eq!(tx, self.outer);
                            format!("{end:?}")
                        }
                        other => panic!("{other:?}"),
                    },
                    Do::Send(sending) => {
                        assert_ne!(sending.inner, self.inner);
                        self.inner = sending.inner;
                        format!("send {}", sending.target.addr.ip())
                    }
                })
                .collect()
        }

        fn response(&mut self, status: u16) -> Vec<String> {
            let todo = self.machine.response(self.inner, SipResponse::new(status), None);
            self.told(todo)
        }

        fn ended(&mut self, end: TxEnd) -> Vec<String> {
            let todo = self.machine.ended(self.inner, end);
            self.told(todo)
        }

        fn is_empty(&self) -> bool {
            self.machine.by_inner.is_empty() && self.machine.by_outer.is_empty()
        }
    }

    fn broken() -> TxEnd {
        TxEnd::Transport("refused".to_owned())
    }

    #[test]
    fn a_target_that_fails_is_followed_by_the_next_and_only_the_last_failure_is_told() {
        for (first, second) in [(broken(), TxEnd::TimedOut), (TxEnd::TimedOut, broken())] {
            let mut test = Test::new();
            assert_eq!(test.ended(first), ["dead 192.0.2.1 60", "send 192.0.2.2"]);
            assert_eq!(
                test.ended(second.clone()),
                ["dead 192.0.2.2 60".to_owned(), format!("{second:?}")]
            );
            assert!(test.is_empty());
        }
    }

    #[test]
    fn a_503_is_kept_from_the_user_and_its_end_too() {
        let mut test = Test::new();
        let first = test.inner;
        let mut unavailable = SipResponse::new(503);
        unavailable.headers.push("Retry-After", "5 (maintenance)");
        let todo = test.machine.response(first, unavailable, None);
        assert_eq!(test.told(todo), ["dead 192.0.2.1 5", "send 192.0.2.2"]);
        assert!(
            test.machine
                .response(first, SipResponse::new(503), None)
                .is_empty()
        );
        assert!(test.machine.ended(first, TxEnd::Done).is_empty());
        assert_eq!(test.response(180), ["alive 192.0.2.2", "180"]);
        assert_eq!(test.response(200), ["200"]);
        assert_eq!(test.response(200), ["200"]);
        assert_eq!(test.ended(TxEnd::Done), ["Done"]);
        assert!(test.is_empty());
    }

    #[test]
    fn the_last_503_is_told() {
        let mut test = Test::with(&[target(1)]);
        assert_eq!(test.response(503), ["503"]);
        assert_eq!(test.ended(TxEnd::Done), ["Done"]);
        assert!(test.is_empty());
    }

    #[test]
    fn after_more_than_a_100_there_is_no_other_target() {
        for end in [TxEnd::TimedOut, broken()] {
            let mut test = Test::new();
            assert_eq!(test.response(180), ["alive 192.0.2.1", "180"]);
            assert_eq!(test.ended(end.clone()), [format!("{end:?}")]);
            assert!(test.is_empty());
        }
        let mut test = Test::new();
        test.response(183);
        assert_eq!(test.response(503), ["503"]);
        // A 100 promises nothing.
        let mut test = Test::new();
        assert_eq!(test.response(100), ["alive 192.0.2.1", "100"]);
        assert_eq!(test.ended(broken()), ["dead 192.0.2.1 60", "send 192.0.2.2"]);
        // But who has sent one is there: its silence is the callee's.
        let mut test = Test::new();
        test.response(100);
        assert_eq!(test.ended(TxEnd::TimedOut), ["TimedOut"]);
    }

    #[test]
    fn other_failures_of_the_callee_are_the_callees() {
        for status in [404, 486, 500, 600] {
            let mut test = Test::new();
            assert_eq!(
                test.response(status),
                ["alive 192.0.2.1".to_owned(), status.to_string()]
            );
        }
    }

    #[test]
    fn an_attempt_that_cannot_be_begun_is_followed_by_the_next() {
        let mut test = Test::new();
        let Failed::Next(next) = test.machine.failed(test.inner, true) else {
            panic!()
        };
        assert_eq!(next.target, target(2));
        assert!(matches!(test.machine.failed(test.inner, true), Failed::Known));
        assert!(
            matches!(test.machine.failed(next.inner, true), Failed::GaveUp(outer) if outer == test.outer)
        );
        assert!(test.is_empty());
        // What is wrong with the request is wrong everywhere.
        let mut test = Test::new();
        assert!(matches!(
            test.machine.failed(test.inner, false),
            Failed::GaveUp(_)
        ));
        assert!(test.is_empty());
    }

    #[test]
    fn a_cancel_waits_for_the_current_target_and_ends_the_search() {
        let mut test = Test::new();
        test.response(100);
        test.ended(broken());
        assert!(matches!(
            test.machine.cancel(test.outer, Headers::new()),
            Ok(Cancelling::Held)
        ));
        assert_eq!(test.response(100), ["alive 192.0.2.2", "100", "cancel"]);
        assert_eq!(test.response(487), ["487"]);

        let mut test = Test::new();
        test.response(180);
        let now = test.machine.cancel(test.outer, Headers::new());
        assert!(matches!(now, Ok(Cancelling::Now(inner, _)) if inner == test.inner));

        let mut test = Test::new();
        test.machine.cancel(test.outer, Headers::new()).unwrap();
        assert_eq!(test.ended(broken()).last().unwrap(), &format!("{:?}", broken()));
        let other = TxIds::new(TxOwner::user(2)).mint();
        assert!(test.machine.cancel(other, Headers::new()).is_err());
    }

    #[test]
    fn a_full_or_closed_table_takes_no_more() {
        let mut machine = Failover::new(1);
        let ids = TxIds::new(TxOwner::user(1));
        let two = [target(1), target(2)];
        let sending = machine.begin(ids.mint(), &two, order()).unwrap();
        assert!(machine.begin(ids.mint(), &two, order()).is_none());
        machine.close();
        let todo = machine.ended(sending.inner, broken());
        let ended = |event: &StackEvent| matches!(event, StackEvent::TxEnded { .. });
        assert!(matches!(todo.last(), Some(Do::Emit(event)) if ended(event)));
        assert!(machine.begin(ids.mint(), &two, order()).is_none());
        assert!(machine.begin(ids.mint(), &[], order()).is_none());
    }
}

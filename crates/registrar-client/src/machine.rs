//! Decides; does nothing. No I/O, no clock, no actor: time and randomness are arguments.
//!
//! **The drain rule: after every [`Machine::handle`], call [`Machine::poll`] until it is `None`, then arm one timer for
//! [`Machine::poll_timeout`]; when it fires, handle [`Input::Timeout`].**
//!
//! An *attempt* is one REGISTER at one registrar with the exchanges it takes to get past challenges and a 423. A
//! *round* is an attempt at each registrar of the list in order, until one succeeds; after a round without success
//! comes the back-off and then the next round. A client that is registered at a later registrar stays there: it goes
//! back to the first one only when that later one fails, for a registration that works is worth more than its place in
//! the list.

use crate::answer::Binding;
use crate::digest::Keyring;
use crate::entropy::Entropy;
use crate::failure::Failure;
use crate::io::{Input, LeaveFailure, Output};
use crate::pace::Pace;
use crate::request::Author;
use crate::targets::Targets;
use crate::{RegistrarConfig, RegistrationEvent, RegistrationFailure};
use siprtc_core::sip::{FlowId, SipResponse, TxEnd, TxId, TxIds, TxOwner};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Keeps one address-of-record registered.
pub(crate) struct Machine {
    author: Author,
    backoff: crate::Backoff,
    bound: Option<Bound>,
    entropy: Entropy,
    /// Requests sent in this attempt.
    exchanges: u32,
    /// Seconds to ask for: the configured ones, or more after a 423.
    expires: u32,
    /// Flows lost in a row, each soon after it came up.
    flow_losses: u32,
    ids: TxIds,
    keys: Keyring,
    /// When those who wait for [`Output::Left`] are told that it takes too long.
    leave_by: Option<Instant>,
    /// Unregister was asked for and is not over.
    leaving: bool,
    outputs: VecDeque<Output>,
    pace: Pace,
    /// Where the application was last told that it is registered; `None` after a failure.
    reported: Option<usize>,
    /// Rounds without success in a row.
    rounds: u32,
    state: State,
    targets: Targets,
    wanted: bool,
}

/// A binding that the registrar may still hold.
#[derive(Clone, Copy, Debug)]
struct Bound {
    target: usize,
    until: Instant,
    flow: Option<(FlowId, Instant)>,
}

#[derive(Debug)]
enum State {
    /// A REGISTER is in flight.
    Asking {
        tx: TxId,
        purpose: Purpose,
        deadline: Instant,
    },
    /// Nothing to be done until asked.
    Idle,
    /// Registered.
    Kept { refresh: Instant },
    /// Nothing in flight, something to do later.
    Waiting { until: Instant, then: Then },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    Bind,
    Unbind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    /// Begin an attempt where we were registered.
    Again,
    /// Go on with the attempt: the pace allows the next request.
    GoOn(Purpose),
    /// Begin a new round.
    Round,
}

impl Machine {
    pub(crate) fn new(config: RegistrarConfig, owner: TxOwner, mut entropy: Entropy) -> Self {
        let (call_id, from_tag) = (entropy.token(), entropy.token());
        let author = Author::new(&config, call_id, from_tag);
        Machine {
            targets: Targets::new(config.registrars, author.request_uri()),
            author,
            backoff: config.backoff,
            bound: None,
            entropy,
            exchanges: 0,
            expires: config.expires,
            flow_losses: 0,
            ids: TxIds::new(owner),
            keys: Keyring::new(config.secret),
            leave_by: None,
            leaving: false,
            outputs: VecDeque::new(),
            pace: Pace::default(),
            reported: None,
            rounds: 0,
            state: State::Idle,
            wanted: false,
        }
    }

    /// Takes one input. `now` never goes back.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Ended { tx, end } => self.ended(now, tx, end),
            Input::FlowDown { id, reason } => self.flow_down(now, id, &reason),
            Input::Register => self.register(now),
            Input::Response { tx, response, flow } => self.response(now, tx, &response, flow),
            Input::Timeout => self.timeout(now),
            Input::Unregister => self.unregister(now),
        }
    }

    /// The next thing to be done; at most a handful after one input.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None` while nothing is awaited.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Asking { deadline, .. } => Some(deadline),
            State::Idle => None,
            State::Kept { refresh } => Some(refresh),
            State::Waiting { until, .. } => Some(until),
        };
        [state, self.leave_by].into_iter().flatten().min()
    }

    fn register(&mut self, now: Instant) {
        self.wanted = true;
        if !self.leaving && matches!(self.state, State::Idle) {
            self.rounds = 0;
            self.flow_losses = 0;
            self.targets.forgive();
            self.round(now);
        }
    }

    fn unregister(&mut self, now: Instant) {
        self.wanted = false;
        self.leaving = true;
        self.leave_by.get_or_insert(now + LEAVE_WAIT);
        match self.state {
            // RFC 3261 section 10.2: no new REGISTER before the last one is answered or has timed out.
            State::Asking { .. }
            | State::Waiting {
                then: Then::GoOn(Purpose::Unbind),
                ..
            } => {}
            State::Idle | State::Kept { .. } | State::Waiting { .. } => self.unbind(now),
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.leave_by.is_some_and(|at| at <= now) {
            self.tell_leavers(Err(self.too_slow(now)));
        }
        match self.state {
            State::Asking { deadline, .. } if deadline <= now => self.failed(now, Failure::timed_out()),
            State::Kept { refresh } if refresh <= now => self.again(now),
            State::Waiting { until, then } if until <= now => match then {
                Then::Again => self.again(now),
                Then::GoOn(purpose) => self.send(now, purpose),
                Then::Round => self.round(now),
            },
            _ => {}
        }
    }

    /// An attempt where the last one was.
    fn again(&mut self, now: Instant) {
        self.targets.begin_round();
        let target = self.bound.map_or(self.targets.current(), |bound| bound.target);
        self.attempt(now, target, Purpose::Bind);
    }

    /// An attempt at the first registrar that does not want to be left alone.
    fn round(&mut self, now: Instant) {
        self.targets.begin_round();
        match self.targets.next(now) {
            Some(target) => self.attempt(now, target, Purpose::Bind),
            None => {
                self.wait_for_round(now, Duration::ZERO);
            }
        }
    }

    fn attempt(&mut self, now: Instant, target: usize, purpose: Purpose) {
        if self.targets.go_to(target) {
            self.keys.clear();
        }
        self.keys.begin_attempt();
        self.exchanges = 0;
        self.send(now, purpose);
    }

    fn send(&mut self, now: Instant, purpose: Purpose) {
        if let Err(until) = self.pace.take(now) {
            self.state = State::Waiting {
                until,
                then: Then::GoOn(purpose),
            };
            return;
        }
        self.exchanges += 1;
        let expires = if purpose == Purpose::Bind { self.expires } else { 0 };
        let cnonce = self.entropy.token();
        let request = Box::new(self.author.write(expires, &mut self.keys, &cnonce));
        let tx = self.ids.mint();
        self.state = State::Asking {
            tx,
            purpose,
            deadline: now + ANSWER_WAIT,
        };
        self.outputs.push_back(Output::Send {
            tx,
            request,
            route: self.targets.route(),
        });
    }

    fn ended(&mut self, now: Instant, ended: TxId, end: TxEnd) {
        if !matches!(self.state, State::Asking { tx, .. } if tx == ended) {
            return;
        }
        match end {
            // Over without an answer that we have heard: the answer was lost on its way to us.
            TxEnd::Done | TxEnd::TimedOut => self.failed(now, Failure::timed_out()),
            TxEnd::Transport(reason) => self.failed(now, Failure::unreachable(&reason)),
        }
    }

    fn response(&mut self, now: Instant, of: TxId, response: &SipResponse, flow: Option<FlowId>) {
        let State::Asking { tx, purpose, .. } = self.state else {
            return;
        };
        let sequence = response.headers.cseq().ok().map(|cseq| cseq.sequence);
        let is_ours = tx == of && self.author.is_last(response.headers.call_id().ok(), sequence);
        if !is_ours || response.is_provisional() {
            return;
        }
        match (response.status, purpose) {
            (200..=299, Purpose::Bind) => self.accepted(now, response, flow),
            (200..=299, Purpose::Unbind) => self.left(now, Ok(())),
            (401 | 407, _) => self.challenged(now, response, purpose),
            (423, Purpose::Bind) => self.too_brief(now, response),
            _ => self.failed(now, Failure::status(response)),
        }
    }

    fn accepted(&mut self, now: Instant, response: &SipResponse, flow: Option<FlowId>) {
        let Binding { expires, contacts } = match Binding::read(response, self.author.contact(), self.expires)
        {
            Ok(binding) => binding,
            Err(what) => return self.failed(now, Failure::malformed(what)),
        };
        let target = self.targets.current();
        let expires = Duration::from_secs(expires.into());
        let since = self.bound.and_then(|bound| bound.flow);
        let flow = flow.map(|id| match since {
            Some((before, since)) if before == id => (id, since),
            _ => (id, now),
        });
        self.bound = Some(Bound {
            target,
            until: now + expires,
            flow,
        });
        self.rounds = 0;
        if self.leaving {
            return self.unbind(now);
        }
        self.state = State::Kept {
            refresh: now + refresh_after(expires),
        };
        let event = match self.reported.replace(target) {
            Some(before) if before == target => RegistrationEvent::Refreshed { expires },
            _ => RegistrationEvent::Registered {
                registrar: self.targets.name(),
                expires,
                contacts,
            },
        };
        self.report(event);
    }

    fn challenged(&mut self, now: Instant, response: &SipResponse, purpose: Purpose) {
        if let Err(refusal) = self.keys.challenged(self.author.request_uri(), response) {
            return self.failed(now, Failure::refusal(response.status, refusal));
        }
        if self.leaving && purpose == Purpose::Bind {
            return self.unbind(now);
        }
        self.go_on(now, response.status, purpose);
    }

    /// Section 10.2.8: ask again for at least Min-Expires.
    fn too_brief(&mut self, now: Instant, response: &SipResponse) {
        let least = response.headers.min_expires().ok().flatten();
        match least {
            Some(least) if least > self.expires && least <= MAX_MIN_EXPIRES => {
                self.expires = least;
                if self.leaving {
                    return self.unbind(now);
                }
                self.go_on(now, 423, Purpose::Bind);
            }
            _ => self.failed(now, Failure::interval(least, self.expires)),
        }
    }

    fn go_on(&mut self, now: Instant, status: u16, purpose: Purpose) {
        if self.exchanges >= MAX_EXCHANGES {
            return self.failed(now, Failure::endless(status));
        }
        self.send(now, purpose);
    }

    fn flow_down(&mut self, now: Instant, down: FlowId, reason: &str) {
        let Some(bound) = &mut self.bound else { return };
        let Some((id, since)) = bound.flow else { return };
        if id != down {
            return;
        }
        bound.flow = None;
        // While a REGISTER is in flight its own end says more.
        if !matches!(self.state, State::Kept { .. }) {
            return;
        }
        // RFC 5626 section 4.5: a flow that fails soon after it came up counts as a failure, else a server that
        // closes every connection would be asked without end.
        let steady = now.saturating_duration_since(since) >= STEADY;
        self.flow_losses = if steady {
            0
        } else {
            self.flow_losses.saturating_add(1)
        };
        let unit = self.entropy.unit();
        let delay = match self.flow_losses {
            0 | 1 => FLOW_LOST_SPREAD.mul_f64(unit),
            more => self.backoff.delay(more - 1, unit),
        };
        self.state = State::Waiting {
            until: now + delay,
            then: Then::Again,
        };
        self.report_failed(&Failure::flow_lost(reason), Some(delay), None);
    }

    /// The attempt came to nothing.
    fn failed(&mut self, now: Instant, failure: Failure) {
        let State::Asking { purpose, .. } = self.state else {
            return;
        };
        if purpose == Purpose::Unbind {
            let sentence = format!(
                "{} {} when asked to remove our contact",
                self.targets.name(),
                failure.what()
            );
            let advice = format!("{}; the binding ends by itself when it expires", failure.advice());
            return self.left(
                now,
                Err(LeaveFailure {
                    cause: failure.cause,
                    sentence,
                    advice,
                }),
            );
        }
        if self.leaving {
            return self.unbind(now);
        }
        if failure.is_final {
            self.state = State::Idle;
            self.wanted = false;
            self.keys.clear();
            return self.report_failed(&failure, None, None);
        }
        self.targets.failed(now, failure.retry_after);
        match self.targets.next(now) {
            Some(next) => {
                self.report_failed(&failure, Some(Duration::ZERO), Some(self.targets.name_of(next)));
                self.attempt(now, next, Purpose::Bind);
            }
            None => {
                self.rounds = self.rounds.saturating_add(1);
                let delay = self.backoff.delay(self.rounds, self.entropy.unit());
                let delay = self.wait_for_round(now, delay);
                self.report_failed(&failure, Some(delay), None);
            }
        }
    }

    /// Waits for `delay`, and longer when every registrar wants to be left alone for longer (Retry-After).
    fn wait_for_round(&mut self, now: Instant, delay: Duration) -> Duration {
        let until = (now + delay).max(self.targets.earliest().unwrap_or(now));
        self.state = State::Waiting {
            until,
            then: Then::Round,
        };
        until.saturating_duration_since(now)
    }

    /// Removes our binding, if there may be one; nothing is in flight.
    fn unbind(&mut self, now: Instant) {
        match self.bound {
            Some(bound) if bound.until > now => self.attempt(now, bound.target, Purpose::Unbind),
            _ => self.left(now, Ok(())),
        }
    }

    fn left(&mut self, now: Instant, result: Result<(), LeaveFailure>) {
        self.state = State::Idle;
        self.bound = None;
        self.leaving = false;
        self.tell_leavers(result);
        if self.wanted {
            self.register(now);
        }
    }

    fn tell_leavers(&mut self, result: Result<(), LeaveFailure>) {
        if self.leave_by.take().is_some() {
            self.outputs.push_back(Output::Left(result));
            self.reported = None;
            self.report(RegistrationEvent::Unregistered);
        }
    }

    fn too_slow(&self, now: Instant) -> LeaveFailure {
        let left = self
            .bound
            .map_or(Duration::ZERO, |bound| bound.until.saturating_duration_since(now));
        LeaveFailure {
            cause: RegistrationFailure::TimedOut,
            sentence: format!(
                "{} has not answered within {} s",
                self.targets.name(),
                LEAVE_WAIT.as_secs()
            ),
            advice: format!(
                "nothing to do: the binding ends by itself in {} s",
                left.as_secs()
            ),
        }
    }

    fn report_failed(&mut self, failure: &Failure, retry_in: Option<Duration>, elsewhere: Option<String>) {
        self.reported = None;
        let next = match (retry_in, elsewhere) {
            (_, Some(name)) => Some(format!("trying {name} now")),
            (Some(delay), None) => Some(format!("trying again in {:.1} s", delay.as_secs_f64())),
            (None, None) => None,
        };
        let sentence = failure.sentence(&self.targets.name(), &self.author.aor().to_string(), next);
        self.report(RegistrationEvent::Failed {
            cause: failure.cause,
            sentence,
            retry_in,
        });
    }

    fn report(&mut self, event: RegistrationEvent) {
        self.outputs.push_back(Output::Report(event));
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("state", &self.state)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

/// Early enough for an attempt that times out (32 s) and another one elsewhere, when the binding lasts some minutes;
/// never so often that a registrar which grants a second is asked all the time.
fn refresh_after(expires: Duration) -> Duration {
    expires.mul_f64(REFRESH_AT).max(MIN_REFRESH)
}

/// When nothing is heard of a REGISTER for so long, it is over. The stack says so itself after 64*T1 = 32 s
/// (RFC 3261 section 17.1.2.2); this is for an event that was dropped on its way to us.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(40);

/// How long [`crate::Unregister`] waits for the registrar.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Most requests of one attempt: without and with credentials at a proxy and at the registrar, a stale nonce, a 423,
/// and one to spare.
const MAX_EXCHANGES: u32 = 6;

/// A Min-Expires above this many seconds (a day) is not obeyed: nobody could take our contact away for that long.
const MAX_MIN_EXPIRES: u32 = 24 * 3600;

/// When a binding is refreshed, as a part of its life.
const REFRESH_AT: f64 = 0.85;

/// The shortest time from one registration to its refresh.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// Clients that lose a server's connections together come back spread over so long.
const FLOW_LOST_SPREAD: Duration = Duration::from_millis(500);

/// A flow that lasted so long was good.
const STEADY: Duration = Duration::from_secs(120);

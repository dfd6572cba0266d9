//! One binding of the address-of-record: one flow's when RFC 5626 is on, else the only one.
//!
//! An *attempt* is one REGISTER at one registrar with the exchanges it takes to get past challenges and a 423. A
//! *round* is an attempt at each registrar of the list in order, until one succeeds; after a round without success
//! comes the back-off and then the next round. A binding at a later registrar stays there: it goes back to the first one
//! only when that later one fails, for a registration that works is worth more than its place in the list.

mod recovery;

use crate::answer::Binding;
use crate::digest::Keyring;
use crate::failure::Failure;
use crate::io::{LeaveFailure, Note, Output};
use crate::keepalive::Watch;
use crate::request::Author;
use crate::scope::Scope;
use crate::targets::Targets;
use crate::{Backoff, RegistrarConfig, RegistrationFailure};
use siprtc_core::sip::{Flow, FlowId, NameAddr, Route, SipResponse, SipUri, TxEnd, TxId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Keeps one binding.
#[derive(Debug)]
pub(crate) struct Leg {
    author: Author,
    backoff: Backoff,
    bound: Option<Bound>,
    /// The flow of the REGISTER in flight is gone.
    broken: bool,
    /// Requests sent in this attempt.
    exchanges: u32,
    /// Seconds to ask for: the configured ones, or more after a 423.
    expires: u32,
    /// Flows lost in a row, each soon after it came up.
    flow_losses: u32,
    /// The next connection must be a new one.
    fresh: bool,
    /// RFC 5626 is on.
    keeps_flow: bool,
    keepalive: Option<Duration>,
    keys: Keyring,
    /// Unregister was asked for and is not over.
    leaving: bool,
    /// The contact changed while a REGISTER with the old one was in flight.
    moved: bool,
    notes: VecDeque<Note>,
    /// The flow that the next request has to take (RFC 5626 section 4.2.1: all of one registration go over one).
    path: Option<Flow>,
    recovery: Backoff,
    /// What the application was last told; `None` after a failure.
    reported: Option<Reported>,
    /// Rounds without success in a row.
    rounds: u32,
    /// Several flows may go to one registrar: each opens a connection of its own.
    separate: bool,
    state: State,
    targets: Targets,
    watch: Option<Watch>,
    /// A proxy on the way does not know RFC 5626 (439): the registration is bound to no flow.
    without_outbound: bool,
}

/// A binding that the registrar may still hold.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    target: usize,
    until: Instant,
    flow: Option<(Flow, Instant)>,
    /// The registrar keeps the flow.
    pub(crate) outbound: bool,
    pub(crate) public_gruu: Option<SipUri>,
    pub(crate) temporary_gruu: Option<SipUri>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Reported {
    target: usize,
    flow: Option<FlowId>,
    outbound: bool,
    public_gruu: Option<SipUri>,
    contact: NameAddr,
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

impl Leg {
    /// The flow `index`, from 0, of those that `config` wants.
    pub(crate) fn new(config: &RegistrarConfig, index: usize, call_id: String, from_tag: String) -> Self {
        let keeps_flow = config.flows > 0;
        let author = Author::new(config, keeps_flow.then_some(index + 1), call_id, from_tag);
        let registrars = Targets::share(&config.registrars, index, config.flows);
        Leg {
            targets: Targets::new(registrars, author.request_uri()),
            author,
            backoff: config.backoff.clone(),
            bound: None,
            broken: false,
            exchanges: 0,
            expires: config.expires,
            flow_losses: 0,
            fresh: false,
            keeps_flow,
            keepalive: config.keepalive,
            keys: Keyring::new(config.secret.clone(), config.weakest_digest),
            leaving: false,
            moved: false,
            notes: VecDeque::new(),
            path: None,
            recovery: config.recovery.clone(),
            reported: None,
            rounds: 0,
            separate: config.flows > 1,
            state: State::Idle,
            watch: None,
            without_outbound: false,
        }
    }

    /// What there is to say.
    pub(crate) fn note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// When [`Leg::timeout`] is due; `None` while nothing is awaited.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Asking { deadline, .. } => Some(deadline),
            State::Idle => None,
            State::Kept { refresh } => Some(refresh),
            State::Waiting { until, .. } => Some(until),
        };
        let watch = self.watch.as_ref().map(Watch::due);
        [state, watch].into_iter().flatten().min()
    }

    /// Has a transaction `tx` in flight.
    pub(crate) fn asks(&self, of: TxId) -> bool {
        matches!(self.state, State::Asking { tx, .. } if tx == of)
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// As far as the application was told.
    pub(crate) fn is_registered(&self) -> bool {
        self.reported.is_some()
    }

    /// The binding, while the registrar may hold it.
    pub(crate) fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    /// The flow that is registered, when RFC 5626 is on.
    pub(crate) fn flow(&self) -> Option<Flow> {
        let (flow, _) = self.bound.as_ref()?.flow?;
        self.keeps_flow.then_some(flow)
    }

    pub(crate) fn register(&mut self, scope: &mut Scope) {
        if self.leaving || !self.is_idle() {
            return;
        }
        self.rounds = 0;
        self.flow_losses = 0;
        self.without_outbound = false;
        self.targets.forgive();
        self.round(scope);
    }

    /// A [`Note::Left`] follows.
    pub(crate) fn leave(&mut self, scope: &mut Scope) {
        self.leaving = true;
        match self.state {
            // RFC 3261 section 10.2: no new REGISTER before the last one is answered or has timed out.
            State::Asking { .. }
            | State::Waiting {
                then: Then::GoOn(Purpose::Unbind),
                ..
            } => {}
            State::Idle | State::Kept { .. } | State::Waiting { .. } => self.unbind(scope),
        }
    }

    pub(crate) fn timeout(&mut self, scope: &mut Scope) {
        let now = scope.now;
        self.beat(scope);
        match self.state {
            State::Asking { deadline, .. } if deadline <= now => self.failed(scope, Failure::timed_out()),
            State::Kept { refresh } if refresh <= now => self.again(scope),
            State::Waiting { until, then } if until <= now => match then {
                Then::Again => self.again(scope),
                Then::GoOn(purpose) => self.send(scope, purpose),
                Then::Round => self.round(scope),
            },
            _ => {}
        }
    }

    /// An attempt where the last one was.
    fn again(&mut self, scope: &mut Scope) {
        self.targets.begin_round();
        let target = self
            .bound
            .as_ref()
            .map_or(self.targets.current(), |bound| bound.target);
        self.attempt(scope, target, Purpose::Bind);
    }

    /// An attempt at the first registrar that does not want to be left alone.
    fn round(&mut self, scope: &mut Scope) {
        self.targets.begin_round();
        match self.targets.next(scope.now) {
            Some(target) => self.attempt(scope, target, Purpose::Bind),
            None => {
                self.wait_for_round(scope, Duration::ZERO);
            }
        }
    }

    fn attempt(&mut self, scope: &mut Scope, target: usize, purpose: Purpose) {
        if self.targets.go_to(target) {
            self.keys.clear();
            self.without_outbound = false;
        }
        self.keys.begin_attempt();
        self.exchanges = 0;
        let bound = self
            .bound
            .as_ref()
            .filter(|bound| bound.target == target && self.keeps_flow);
        self.path = bound.and_then(|bound| bound.flow).map(|(flow, _)| flow);
        self.send(scope, purpose);
    }

    fn send(&mut self, scope: &mut Scope, purpose: Purpose) {
        if let Err(until) = scope.pace.take(scope.now) {
            self.state = State::Waiting {
                until,
                then: Then::GoOn(purpose),
            };
            return;
        }
        self.exchanges += 1;
        self.broken = false;
        self.moved = false;
        let expires = if purpose == Purpose::Bind { self.expires } else { 0 };
        let cnonce = scope.entropy.token();
        let outbound = !self.without_outbound;
        let request = Box::new(self.author.write(expires, outbound, &mut self.keys, &cnonce));
        let tx = scope.ids.mint();
        self.state = State::Asking {
            tx,
            purpose,
            deadline: scope.now + ANSWER_WAIT,
        };
        let route = self.route(scope);
        scope.push(Output::Send { tx, request, route });
    }

    fn route(&self, scope: &Scope) -> Route {
        Route {
            flow: self.path.map(|flow| flow.id),
            fresh: self.path.is_none() && (self.separate || self.fresh) && scope.abilities.flow_control,
            ..self.targets.route()
        }
    }

    pub(crate) fn ended(&mut self, scope: &mut Scope, ended: TxId, end: TxEnd) {
        if !self.asks(ended) {
            return;
        }
        let over_flow = (self.path.is_some() || self.broken) && self.is_binding() && !self.leaving;
        match (end, over_flow) {
            // Over without an answer that we have heard: the answer was lost on its way to us.
            (TxEnd::Done | TxEnd::TimedOut, _) => self.failed(scope, Failure::timed_out()),
            (TxEnd::Transport(reason), true) => self.broke(scope, &reason),
            (TxEnd::Transport(reason), false) => self.failed(scope, Failure::unreachable(&reason)),
        }
    }

    fn is_binding(&self) -> bool {
        matches!(
            self.state,
            State::Asking {
                purpose: Purpose::Bind,
                ..
            }
        )
    }

    pub(crate) fn response(
        &mut self,
        scope: &mut Scope,
        of: TxId,
        response: &SipResponse,
        flow: Option<Flow>,
    ) {
        let State::Asking { tx, purpose, .. } = self.state else {
            return;
        };
        let sequence = response.headers.cseq().ok().map(|cseq| cseq.sequence);
        let is_ours = tx == of && self.author.is_last(response.headers.call_id().ok(), sequence);
        if !is_ours || response.is_provisional() {
            return;
        }
        if self.keeps_flow {
            self.path = flow;
        }
        match (response.status, purpose) {
            (200..=299, Purpose::Bind) => self.accepted(scope, response, flow),
            (200..=299, Purpose::Unbind) => self.left(Ok(())),
            (401 | 407, _) => self.challenged(scope, response, purpose),
            (423, Purpose::Bind) => self.too_brief(scope, response),
            // RFC 5626 section 11.6: First Hop Lacks Outbound Support. Registered without it is better than not.
            (439, _) if self.keeps_flow && !self.without_outbound => {
                self.without_outbound = true;
                self.go_on(scope, 439, purpose);
            }
            _ => self.failed(scope, Failure::status(response)),
        }
    }

    fn accepted(&mut self, scope: &mut Scope, response: &SipResponse, flow: Option<Flow>) {
        let binding = match Binding::read(response, self.author.written(), self.expires) {
            Ok(binding) => binding,
            Err(what) => return self.failed(scope, Failure::malformed(what)),
        };
        let now = scope.now;
        let target = self.targets.current();
        let expires = Duration::from_secs(binding.expires.into());
        let outbound = binding.outbound && self.keeps_flow && !self.without_outbound;
        let since = self.bound.as_ref().and_then(|bound| bound.flow);
        let since = flow.map(|flow| match since {
            Some((before, since)) if before.id == flow.id => (flow, since),
            _ => (flow, now),
        });
        let reported = Reported {
            target,
            flow: flow.filter(|_| self.keeps_flow).map(|flow| flow.id),
            outbound,
            public_gruu: binding.public_gruu.clone(),
            contact: self.author.written().clone(),
        };
        self.author.accepted();
        self.bound = Some(Bound {
            target,
            until: now + expires,
            flow: since,
            outbound,
            public_gruu: binding.public_gruu,
            temporary_gruu: binding.temporary_gruu,
        });
        self.rounds = 0;
        self.fresh = false;
        let watch =
            flow.and_then(|flow| Watch::begin(scope, flow, outbound, binding.flow_timer, self.keepalive));
        self.watch = watch.map(|watch| watch.carry_on(self.watch.take()));
        if self.leaving {
            return self.unbind(scope);
        }
        self.state = State::Kept {
            refresh: now + refresh_after(expires),
        };
        let changed = self.reported.as_ref() != Some(&reported);
        self.reported = Some(reported);
        self.notes.push_back(Note::Bound {
            registrar: self.targets.name(),
            expires,
            contacts: binding.contacts,
            changed,
        });
        if self.moved {
            self.again(scope);
        }
    }

    fn challenged(&mut self, scope: &mut Scope, response: &SipResponse, purpose: Purpose) {
        if let Err(refusal) = self.keys.challenged(self.author.request_uri(), response) {
            return self.failed(scope, Failure::refusal(response.status, refusal));
        }
        if self.leaving && purpose == Purpose::Bind {
            return self.unbind(scope);
        }
        self.go_on(scope, response.status, purpose);
    }

    /// Section 10.2.8: ask again for at least Min-Expires.
    fn too_brief(&mut self, scope: &mut Scope, response: &SipResponse) {
        let least = response.headers.min_expires().ok().flatten();
        match least {
            Some(least) if least > self.expires && least <= MAX_MIN_EXPIRES => {
                self.expires = least;
                if self.leaving {
                    return self.unbind(scope);
                }
                self.go_on(scope, 423, Purpose::Bind);
            }
            _ => self.failed(scope, Failure::interval(least, self.expires)),
        }
    }

    fn go_on(&mut self, scope: &mut Scope, status: u16, purpose: Purpose) {
        if self.exchanges >= MAX_EXCHANGES {
            return self.failed(scope, Failure::endless(status));
        }
        self.send(scope, purpose);
    }

    /// The attempt came to nothing.
    fn failed(&mut self, scope: &mut Scope, failure: Failure) {
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
            return self.left(Err(LeaveFailure {
                cause: failure.cause,
                sentence,
                advice,
            }));
        }
        if self.leaving {
            return self.unbind(scope);
        }
        if failure.is_final {
            self.state = State::Idle;
            self.watch = None;
            self.keys.clear();
            return self.note_failed(&failure, None, None);
        }
        if failure.cause == RegistrationFailure::TimedOut {
            self.give_up_path(scope);
        }
        self.path = None;
        self.targets.failed(scope.now, failure.retry_after);
        match self.targets.next(scope.now) {
            Some(next) => {
                self.note_failed(&failure, Some(Duration::ZERO), Some(self.targets.name_of(next)));
                self.attempt(scope, next, Purpose::Bind);
            }
            None => {
                self.rounds = self.rounds.saturating_add(1);
                let unit = scope.entropy.unit();
                let delay = self.pause(scope, self.rounds, unit);
                let delay = self.wait_for_round(scope, delay);
                self.note_failed(&failure, Some(delay), None);
            }
        }
    }

    /// Waits for `delay`, and longer when every registrar wants to be left alone for longer (Retry-After).
    fn wait_for_round(&mut self, scope: &Scope, delay: Duration) -> Duration {
        let until = (scope.now + delay).max(self.targets.earliest().unwrap_or(scope.now));
        self.state = State::Waiting {
            until,
            then: Then::Round,
        };
        until.saturating_duration_since(scope.now)
    }

    /// Removes our binding, if there may be one; nothing is in flight.
    fn unbind(&mut self, scope: &mut Scope) {
        let bound = self.bound.as_ref().filter(|bound| bound.until > scope.now);
        match bound.map(|bound| bound.target) {
            Some(target) => self.attempt(scope, target, Purpose::Unbind),
            None => self.left(Ok(())),
        }
    }

    fn left(&mut self, result: Result<(), LeaveFailure>) {
        self.state = State::Idle;
        self.bound = None;
        self.path = None;
        self.watch = None;
        self.leaving = false;
        self.reported = None;
        self.notes.push_back(Note::Left(result));
    }

    /// What whoever waits for the end of the binding is told when it takes too long.
    pub(crate) fn too_slow(&self, now: Instant, waited: Duration) -> LeaveFailure {
        let left = self
            .bound
            .as_ref()
            .map_or(Duration::ZERO, |bound| bound.until.saturating_duration_since(now));
        LeaveFailure {
            cause: RegistrationFailure::TimedOut,
            sentence: format!(
                "{} has not answered within {} s",
                self.targets.name(),
                waited.as_secs()
            ),
            advice: format!(
                "nothing to do: the binding ends by itself in {} s",
                left.as_secs()
            ),
        }
    }

    fn note_failed(&mut self, failure: &Failure, retry_in: Option<Duration>, elsewhere: Option<String>) {
        self.reported = None;
        let next = match (retry_in, elsewhere) {
            (_, Some(name)) => Some(format!("trying {name} now")),
            (Some(delay), None) => Some(format!("trying again in {:.1} s", delay.as_secs_f64())),
            (None, None) => None,
        };
        let sentence = failure.sentence(&self.targets.name(), &self.author.aor().to_string(), next);
        self.notes.push_back(Note::Failed {
            cause: failure.cause,
            sentence,
            retry_in,
        });
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

/// Most requests of one attempt: without and with credentials at a proxy and at the registrar, a stale nonce, a 423,
/// and one to spare.
const MAX_EXCHANGES: u32 = 6;

/// A Min-Expires above this many seconds (a day) is not obeyed: nobody could take our contact away for that long.
const MAX_MIN_EXPIRES: u32 = 24 * 3600;

/// When a binding is refreshed, as a part of its life.
const REFRESH_AT: f64 = 0.85;

/// The shortest time from one registration to its refresh.
const MIN_REFRESH: Duration = Duration::from_secs(1);

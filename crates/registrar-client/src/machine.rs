//! Decides; does nothing. No I/O, no clock, no actor: time and randomness are arguments.
//!
//! **The drain rule: after every [`Machine::handle`], call [`Machine::poll`] until it is `None`, then arm one timer for
//! [`Machine::poll_timeout`]; when it fires, handle [`Input::Timeout`].**
//!
//! A registration has one [`Leg`], or one for each of its flows (RFC 5626). The first flow goes ahead: the others begin
//! when its registrar has said that it keeps flows, or when it fails and will be tried again. An account that is refused
//! is so once, and not once for each flow.

use crate::entropy::Entropy;
use crate::io::{Input, LeaveFailure, Note, Output};
use crate::leg::Leg;
use crate::pace::Pace;
use crate::scope::{Abilities, Scope};
use crate::{RegistrarConfig, RegistrationEvent, RegistrationFailure};
use siprtc_core::sip::{Flow, TxIds, TxOwner};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Keeps one address-of-record registered.
pub(crate) struct Machine {
    legs: Vec<Leg>,
    /// When those who wait for [`Output::Left`] are told that it takes too long.
    leave_by: Option<Instant>,
    /// What they will be told.
    left: Result<(), LeaveFailure>,
    /// The flows that the application knows of.
    told: Vec<Flow>,
    scope: Scope,
    wanted: bool,
}

impl Machine {
    pub(crate) fn new(
        config: &RegistrarConfig,
        owner: TxOwner,
        abilities: Abilities,
        mut entropy: Entropy,
        now: Instant,
    ) -> Self {
        let flows = config.flows.clamp(1, RegistrarConfig::MAX_FLOWS);
        let legs = (0..flows)
            .map(|index| Leg::new(config, index, entropy.token(), entropy.token()))
            .collect();
        Machine {
            legs,
            leave_by: None,
            left: Ok(()),
            told: Vec::new(),
            scope: Scope {
                abilities,
                entropy,
                ids: TxIds::new(owner),
                now,
                others_up: false,
                outputs: VecDeque::new(),
                pace: Pace::default(),
            },
            wanted: false,
        }
    }

    /// Takes one input. `now` never goes back.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        self.scope.now = now;
        match input {
            Input::Ended { tx, end } => {
                if let Some(index) = self.legs.iter().position(|leg| leg.asks(tx)) {
                    self.with(index, |leg, scope| leg.ended(scope, tx, end));
                }
            }
            Input::FlowDown { id, reason } => self.each(|leg, scope| leg.flow_down(scope, id, &reason)),
            Input::KeepaliveAnswered { id, mapped } => {
                self.each(|leg, scope| leg.keepalive_answered(scope, id, mapped));
            }
            Input::Moved { contact } => self.each(|leg, scope| leg.moved(scope, &contact)),
            Input::Register => self.register(),
            Input::Response { tx, response, flow } => {
                if let Some(index) = self.legs.iter().position(|leg| leg.asks(tx)) {
                    self.with(index, |leg, scope| leg.response(scope, tx, &response, flow));
                }
            }
            Input::Timeout => self.timeout(),
            Input::Unregister => self.unregister(),
        }
        self.tell_flows();
    }

    /// Whether the application wants to be registered.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The next thing to be done; at most a handful after one input.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.scope.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None` while nothing is awaited.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter_map(Leg::poll_timeout);
        legs.chain(self.leave_by).min()
    }

    fn register(&mut self) {
        self.wanted = true;
        if self.is_leaving() {
            return;
        }
        self.with(FIRST, Leg::register);
        if self.legs.first().is_some_and(opens_the_way) {
            self.begin_others();
        }
    }

    fn begin_others(&mut self) {
        for index in FIRST + 1..self.legs.len() {
            self.with(index, Leg::register);
        }
    }

    fn unregister(&mut self) {
        self.wanted = false;
        self.leave_by.get_or_insert(self.scope.now + LEAVE_WAIT);
        self.left = Ok(());
        for index in 0..self.legs.len() {
            // The note of the last one to leave is the end of it, so every one begins before the first is heard.
            self.act(index, |leg, scope| match leg.is_leaving() {
                true => {}
                false => leg.leave(scope),
            });
        }
        self.each(|_, _| {});
    }

    fn timeout(&mut self) {
        let now = self.scope.now;
        if self.leave_by.is_some_and(|at| at <= now) {
            let slow = self.legs.iter().find(|leg| leg.is_leaving());
            let slow = slow.map(|leg| leg.too_slow(now, LEAVE_WAIT));
            self.tell_leavers(slow.map_or(Ok(()), Err));
        }
        self.each(Leg::timeout);
    }

    fn is_leaving(&self) -> bool {
        self.legs.iter().any(Leg::is_leaving)
    }

    fn each(&mut self, act: impl Fn(&mut Leg, &mut Scope)) {
        for index in 0..self.legs.len() {
            self.with(index, &act);
        }
    }

    /// Lets a flow act and hears what it has to say.
    fn with(&mut self, index: usize, act: impl FnOnce(&mut Leg, &mut Scope)) {
        self.act(index, act);
        while let Some(note) = self.legs.get_mut(index).and_then(Leg::note) {
            self.note(index, note);
        }
    }

    fn act(&mut self, index: usize, act: impl FnOnce(&mut Leg, &mut Scope)) {
        self.scope.others_up = self.is_another_up(index);
        if let Some(leg) = self.legs.get_mut(index) {
            act(leg, &mut self.scope);
        }
    }

    fn is_another_up(&self, index: usize) -> bool {
        let mut others = self.legs.iter().enumerate().filter(|(at, _)| *at != index);
        others.any(|(_, leg)| leg.is_registered())
    }

    fn note(&mut self, index: usize, note: Note) {
        match note {
            Note::Bound {
                registrar,
                expires,
                contacts,
                changed,
            } => {
                self.bound(index, registrar, expires, contacts, changed);
                if index == FIRST && self.wanted && self.legs.first().is_some_and(opens_the_way) {
                    self.begin_others();
                }
            }
            Note::Failed {
                cause,
                sentence,
                retry_in,
            } => {
                self.failed(index, cause, sentence, retry_in);
                if index == FIRST && self.wanted && retry_in.is_some() {
                    self.begin_others();
                }
            }
            Note::Left(result) => {
                self.left = std::mem::replace(&mut self.left, Ok(())).and(result);
                if !self.is_leaving() {
                    let left = self.left.clone();
                    self.tell_leavers(left);
                    if self.wanted {
                        self.register();
                    }
                }
            }
        }
    }

    fn bound(&mut self, index: usize, registrar: String, expires: Duration, contacts: usize, changed: bool) {
        if !changed {
            return self.report(RegistrationEvent::Refreshed { expires });
        }
        self.told = self.flows();
        let bound = self.legs.get(index).and_then(Leg::bound);
        let event = RegistrationEvent::Registered {
            registrar,
            expires,
            contacts,
            flows: self.told.clone(),
            outbound: bound.is_some_and(|bound| bound.outbound),
            public_gruu: bound.and_then(|bound| bound.public_gruu.clone()),
            temporary_gruu: bound.and_then(|bound| bound.temporary_gruu.clone()),
        };
        self.report(event);
    }

    fn failed(
        &mut self,
        index: usize,
        cause: RegistrationFailure,
        sentence: String,
        retry_in: Option<Duration>,
    ) {
        if self.is_another_up(index) {
            return self.report(RegistrationEvent::FlowFailed {
                cause,
                sentence,
                retry_in,
            });
        }
        // Given up by one flow and not by all: something will be tried all the same.
        let others_try = self.legs.iter().any(|leg| !leg.is_idle());
        self.report(RegistrationEvent::Failed {
            cause,
            sentence,
            retry_in: retry_in.or(others_try.then_some(Duration::ZERO)),
        });
    }

    fn flows(&self) -> Vec<Flow> {
        self.legs.iter().filter_map(Leg::flow).collect()
    }

    /// Says which flows there are, when no other event has said it.
    fn tell_flows(&mut self) {
        let flows = self.flows();
        // Whoever leaves knows that they go.
        if self.wanted && !self.is_leaving() && flows != self.told {
            self.told.clone_from(&flows);
            self.report(RegistrationEvent::FlowsChanged { flows });
        }
    }

    fn tell_leavers(&mut self, result: Result<(), LeaveFailure>) {
        if self.leave_by.take().is_some() {
            self.scope.push(Output::Left(result));
            self.told.clear();
            self.report(RegistrationEvent::Unregistered);
        }
    }

    fn report(&mut self, event: RegistrationEvent) {
        self.scope.push(Output::Report(event));
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("legs", &self.legs)
            .finish_non_exhaustive()
    }
}

/// The registrar of the first flow keeps flows, so that others make sense: one that does not would take their contact
/// for one and the same.
fn opens_the_way(first: &Leg) -> bool {
    first.is_registered() && first.bound().is_some_and(|bound| bound.outbound)
}

const FIRST: usize = 0;

/// How long [`crate::Unregister`] waits for the registrar.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

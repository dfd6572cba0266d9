//! A flow that is watched, breaks, and is replaced (RFC 5626 sections 4.4 and 4.5).

use super::{Leg, State, Then};
use crate::failure::Failure;
use crate::io::Output;
use crate::keepalive::Beat;
use crate::scope::Scope;
use siprtc_core::sip::{FlowId, NameAddr};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

impl Leg {
    pub(super) fn beat(&mut self, scope: &mut Scope) {
        let unit = scope.entropy.unit();
        let Some(watch) = &mut self.watch else { return };
        let flow = watch.flow().id;
        match watch.timeout(scope.now, unit) {
            Beat::Nothing => {}
            Beat::Send(kind) => scope.push(Output::Keepalive { flow, kind }),
            Beat::Dead => {
                scope.close(flow);
                self.flow_lost(scope, flow, &Failure::flow_silent());
            }
        }
    }

    pub(crate) fn keepalive_answered(&mut self, scope: &mut Scope, id: FlowId, mapped: Option<SocketAddr>) {
        let unit = scope.entropy.unit();
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.flow().id == id) else {
            return;
        };
        let moved = watch.answered(scope.now, unit, scope.abilities, mapped);
        // RFC 5626 section 4.4.2: the registrar keeps an address that leads nowhere any more.
        if moved && matches!(self.state, State::Kept { .. }) {
            self.again(scope);
        }
    }

    pub(crate) fn flow_down(&mut self, scope: &mut Scope, down: FlowId, reason: &str) {
        self.flow_lost(scope, down, &Failure::flow_lost(reason));
    }

    /// This host's addresses changed.
    pub(crate) fn moved(&mut self, scope: &mut Scope, contact: &NameAddr) {
        let replaces = !self.without_outbound && self.bound.as_ref().is_some_and(|bound| bound.outbound);
        self.author.moved(contact, replaces);
        if self.leaving {
            return;
        }
        match self.state {
            State::Asking { .. } => self.moved = true,
            State::Kept { .. }
            | State::Waiting {
                then: Then::Again, ..
            } => self.again(scope),
            // What failed may have been the network that is gone. The pace and every Retry-After hold, and the next
            // failure waits as if nothing had happened.
            State::Waiting {
                then: Then::Round, ..
            } => self.round(scope),
            State::Idle
            | State::Waiting {
                then: Then::GoOn(_), ..
            } => {}
        }
    }

    /// The flow `down` is gone, or as good as gone.
    fn flow_lost(&mut self, scope: &mut Scope, down: FlowId, failure: &Failure) {
        let of_request = self.path.take_if(|path| path.id == down).is_some();
        self.watch.take_if(|watch| watch.flow().id == down);
        let bound = self.bound.as_mut();
        let since = bound.and_then(|bound| bound.flow.take_if(|(flow, _)| flow.id == down));
        match (&self.state, since) {
            (State::Kept { .. }, Some((_, since))) => self.recover(scope, since, failure),
            // While a REGISTER is in flight its own end says more.
            (State::Asking { .. }, _) => self.broken |= of_request,
            _ => {}
        }
    }

    /// The flow of a REGISTER in flight broke. Once that is no fault of the registrar's: there may be another flow to it.
    pub(super) fn broke(&mut self, scope: &mut Scope, reason: &str) {
        let path = self.path.take();
        self.watch
            .take_if(|watch| path.is_some_and(|path| path.id == watch.flow().id));
        let bound = self.bound.as_mut();
        let since = bound.and_then(|bound| {
            bound
                .flow
                .take_if(|(flow, _)| path.is_some_and(|path| path.id == flow.id))
        });
        let since = since.map_or(scope.now, |(_, since)| since);
        if self.flow_losses == 0 || is_steady(scope.now, since) {
            self.recover(scope, since, &Failure::flow_lost(reason));
        } else {
            self.failed(scope, Failure::unreachable(reason));
        }
    }

    /// Registers again over another flow, the first time at once (RFC 5626 section 4.5).
    fn recover(&mut self, scope: &mut Scope, since: Instant, failure: &Failure) {
        self.fresh = self.keeps_flow;
        // A flow that fails soon after it came up counts as a failure, else a server that closes every connection
        // would be asked without end.
        self.flow_losses = match is_steady(scope.now, since) {
            true => 0,
            false => self.flow_losses.saturating_add(1),
        };
        let unit = scope.entropy.unit();
        let delay = match self.flow_losses {
            0 | 1 => FLOW_LOST_SPREAD.mul_f64(unit),
            more => self.pause(scope, more - 1, unit),
        };
        self.state = State::Waiting {
            until: scope.now + delay,
            then: Then::Again,
        };
        self.note_failed(failure, Some(delay), None);
    }

    /// The wait after so many failures in a row.
    pub(super) fn pause(&self, scope: &Scope, failures: u32, unit: f64) -> Duration {
        let kept = self.bound.as_ref().is_some_and(|bound| bound.outbound);
        match kept || scope.others_up {
            true => self.recovery.recovery_delay(failures, scope.others_up, unit),
            false => self.backoff.delay(failures, unit),
        }
    }

    /// Nobody answers over the flow, though it seems to be there (RFC 5626 section 4.5: a REGISTER that times out fails
    /// its flow).
    pub(super) fn give_up_path(&mut self, scope: &mut Scope) {
        let Some(path) = self.path.take() else { return };
        scope.close(path.id);
        self.fresh = true;
        self.watch = None;
        if let Some(bound) = &mut self.bound {
            bound.flow = None;
        }
    }
}

/// It lasted so long that its end is an accident.
fn is_steady(now: Instant, since: Instant) -> bool {
    now.saturating_duration_since(since) >= STEADY
}

/// Clients that lose a server's connections together come back spread over so long.
const FLOW_LOST_SPREAD: Duration = Duration::from_millis(500);

/// A flow that lasted so long was good.
const STEADY: Duration = Duration::from_secs(120);

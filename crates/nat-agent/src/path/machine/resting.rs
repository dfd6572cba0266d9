//! A path at rest: its agent sleeps.

use super::{Health, Machine};
use crate::path::check::{Class, Message};
use siprtc_core::ice::LocalCandidate;
use std::net::SocketAddr;
use std::time::Instant;

impl Machine {
    /// Goes to rest when it is time and the pair is good; wakes up when it no longer is.
    pub(super) fn tick_rest(&mut self, now: Instant) {
        let is_good = (self.consent.as_ref()).is_some_and(|consent| consent.health(now) == Health::Consented);
        match self.rest.due() {
            Some(due) if due <= now && is_good && self.next.is_none() => self.rest.begin(),
            Some(due) if due <= now => self.rest.plan(now),
            _ if !is_good => self.wake(now),
            _ => {}
        }
    }

    /// Something has happened that needs an agent.
    pub(super) fn wake(&mut self, now: Instant) {
        if !self.rest.is_resting() {
            return;
        }
        self.rest.plan(now);
        let bases = &self.bases;
        let is_alive = |below: SocketAddr| !bases.iter().any(|base| base.addr == below && !base.is_alive);
        let locals = self.gathered.iter().copied().filter(|(kind, addr)| match kind {
            LocalCandidate::Host => is_alive(*addr),
            LocalCandidate::Relayed { base } | LocalCandidate::ServerReflexive { base } => is_alive(*base),
        });
        let renewed = self
            .current
            .renew(now, &*self.setup.factory, self.setup.role, locals);
        if let Err(error) = renewed {
            tracing::info!(%error, "an agent goes on where it was");
        }
    }

    /// Answers a check of the peer's. `false`: it is for the agent, for it nominates another pair, comes from somewhere new, or
    /// claims our role.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        message: &Message<'_>,
    ) -> bool {
        let is_known = self.known.contains(&(local, from));
        let nominates_another = message.nominates && self.selected != Some((local, from));
        let claims_ours = message.role.is_some_and(|(role, _)| role == self.setup.role);
        if message.class != Class::Request || !is_known || nominates_another || claims_ours {
            return false;
        }
        let Some(keys) = self.current.keys.clone() else {
            return false;
        };
        if !message.is_signed(&keys.ours) {
            return false;
        }
        self.send_from(now, local, from, keys.success(message.id, from));
        true
    }
}

//! The registrars in their order: which was tried, which wants to be left alone.

use siprtc_core::sip::{Route, SipUri, Uri};
use std::time::{Duration, Instant};

/// At least one, and one of them current.
#[derive(Debug)]
pub(crate) struct Targets {
    list: Vec<Target>,
    current: usize,
}

#[derive(Debug)]
struct Target {
    /// As told to people.
    name: String,
    route: Route,
    /// Failed in this round.
    tried: bool,
    /// Asked to be left alone until then (Retry-After).
    not_before: Option<Instant>,
}

impl Targets {
    /// `registrars`, or when there are none the Request-URI itself.
    pub(crate) fn new(registrars: Vec<SipUri>, request_uri: &Uri) -> Self {
        let target = |name, route| Target {
            name,
            route,
            tried: false,
            not_before: None,
        };
        let mut list: Vec<Target> = registrars
            .into_iter()
            .map(|uri| target(uri.to_string(), Route::via(uri)))
            .collect();
        if list.is_empty() {
            list.push(target(request_uri.to_string(), Route::by_request()));
        }
        Targets { list, current: 0 }
    }

    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// Makes `target` current and says whether it was not.
    pub(crate) fn go_to(&mut self, target: usize) -> bool {
        std::mem::replace(&mut self.current, target) != target
    }

    pub(crate) fn name(&self) -> String {
        self.name_of(self.current)
    }

    pub(crate) fn name_of(&self, target: usize) -> String {
        self.list
            .get(target)
            .map(|target| target.name.clone())
            .unwrap_or_default()
    }

    pub(crate) fn route(&self) -> Route {
        self.list
            .get(self.current)
            .map(|target| target.route.clone())
            .unwrap_or_default()
    }

    /// Nothing was tried yet.
    pub(crate) fn begin_round(&mut self) {
        self.list.iter_mut().for_each(|target| target.tried = false);
    }

    /// The current one failed.
    pub(crate) fn failed(&mut self, now: Instant, retry_after: Option<Duration>) {
        if let Some(target) = self.list.get_mut(self.current) {
            target.tried = true;
            target.not_before = retry_after.map(|wait| now + wait);
        }
    }

    /// Forgets what was asked for by Retry-After: a person asks now.
    pub(crate) fn forgive(&mut self) {
        self.list.iter_mut().for_each(|target| target.not_before = None);
    }

    /// The share of the flow `index` of `flows` in `registrars`: every one has its own as long as there are enough, and
    /// those that are left over are spares (RFC 5626 section 4.2.1).
    pub(crate) fn share(registrars: &[SipUri], index: usize, flows: usize) -> Vec<SipUri> {
        let flows = flows.max(1);
        if registrars.len() >= flows {
            return registrars.iter().skip(index).step_by(flows).cloned().collect();
        }
        let shared = index
            .checked_rem(registrars.len())
            .and_then(|place| registrars.get(place));
        shared.into_iter().cloned().collect()
    }

    /// The first that was not tried in this round and may be asked.
    pub(crate) fn next(&self, now: Instant) -> Option<usize> {
        self.list
            .iter()
            .position(|target| !target.tried && target.not_before.is_none_or(|at| at <= now))
    }

    /// When the first of them may be asked; `None` when one always may.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.list.iter().map(|target| target.not_before).min().flatten()
    }
}

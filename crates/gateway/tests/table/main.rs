//! The JSEP x SIP table, walked from its first state to its last: what it must hold on every way, and its drawing.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod association;
mod document;
mod nothing;
mod walk;

use siprtc_gateway::table::{Jsep, On, Sip, lookup};
use std::collections::BTreeSet;

type State = (Sip, Jsep);

/// Every state to which the world can bring a call.
fn reachable() -> BTreeSet<State> {
    let mut found = BTreeSet::from([(Sip::Idle, Jsep::Stable)]);
    let mut todo: Vec<State> = found.iter().copied().collect();
    while let Some(state) = todo.pop() {
        for (_, next) in transitions(state) {
            if found.insert(next) {
                todo.push(next);
            }
        }
    }
    found
}

/// What can happen in `state`, and where that leads.
fn transitions((sip, jsep): State) -> impl Iterator<Item = (On, State)> {
    let happens = move |on: &&On| !nothing::is_never((sip, jsep), **on);
    On::ALL
        .iter()
        .filter(happens)
        .filter_map(move |on| Some((*on, lookup(sip, jsep, *on)?.0)))
}

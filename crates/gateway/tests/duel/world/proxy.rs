//! A stateful proxy that forks (RFC 3261 section 16): one INVITE becomes two, and its caller hears the best of their answers.

use super::{Side, Wire};
use rand::Rng;
use rand::rngs::StdRng;
use siprtc_core::sip::*;
use siprtc_sip_transactions::{Output, Transactions, TransactionsConfig};
use std::time::Instant;

/// One INVITE, and what became of its two copies.
struct Fork {
    invite: TxId,
    request: SipRequest,
    branches: Vec<Branch>,
    /// The others go on ringing when one has answered: so that both may answer.
    is_lazy: bool,
    /// Its caller has a final answer.
    is_answered: bool,
    /// Its caller has given up, or somebody has answered.
    is_cancelled: bool,
}

struct Branch {
    tx: TxId,
    /// It rings.
    is_known: bool,
    refusal: Option<SipResponse>,
    is_over: bool,
}

pub(super) struct Proxy {
    pub(super) stack: Transactions<Wire>,
    ids: TxIds,
    forks: Vec<Fork>,
    branches: u64,
}

impl Proxy {
    pub(super) fn new() -> Self {
        Proxy {
            stack: Transactions::new(TransactionsConfig {
                timers: TimerConfig::default(),
                max_transactions: 100_000,
            }),
            ids: TxIds::new(TxOwner::user(2)),
            forks: Vec::new(),
            branches: 0,
        }
    }

    /// What its transactions say, but for messages for the wire.
    pub(super) fn hear(&mut self, now: Instant, output: Output<Wire>, random: &mut StdRng) {
        match output {
            Output::Request { tx, request, .. } if request.method == Method::Invite => {
                self.fork(now, tx, &request, random.random_bool(0.3));
            }
            Output::Request { tx, request, .. } => {
                drop(self.stack.respond(now, tx, request.response(481)));
            }
            Output::Response { tx, response, .. } => self.answered(now, tx, response),
            Output::Cancelled { invite } => {
                if let Some(fork) = self.forks.iter_mut().find(|fork| fork.invite == invite) {
                    fork.is_cancelled = true;
                }
                self.cancel(now);
            }
            Output::Ended { tx, .. } => self.ended(now, tx),
            Output::Ack { .. } | Output::Send { .. } => {}
        }
    }

    fn fork(&mut self, now: Instant, invite: TxId, request: &SipRequest, is_lazy: bool) {
        let caller = request.headers.from().expect("an INVITE has one");
        let callees = Side::ALL.into_iter().filter(|side| {
            let user = caller.uri.as_sip().and_then(|uri| uri.user.clone());
            user.as_deref() != Some(side.name())
        });
        let mut branches = Vec::new();
        for callee in callees.take(2) {
            self.branches += 1;
            let mut copy = request.clone();
            copy.uri = callee.uri();
            let via = format!(
                "SIP/2.0/UDP proxy.example.com;branch=z9hG4bKfork{}",
                self.branches
            );
            copy.headers.push_front("Via", via);
            let tx = self.ids.mint();
            self.stack
                .send_request(now, tx, copy, Wire)
                .expect("a copy of what was sent can be sent");
            branches.push(Branch {
                tx,
                is_known: false,
                refusal: None,
                is_over: false,
            });
        }
        drop(self.stack.respond(now, invite, request.response(100)));
        self.forks.push(Fork {
            invite,
            request: request.clone(),
            branches,
            is_lazy,
            is_answered: false,
            is_cancelled: false,
        });
    }

    fn answered(&mut self, now: Instant, tx: TxId, mut response: SipResponse) {
        let is_its = |branch: &Branch| branch.tx == tx;
        let Some(fork) = self
            .forks
            .iter_mut()
            .find(|fork| fork.branches.iter().any(is_its))
        else {
            return;
        };
        let branch = fork.branches.iter_mut().find(|branch| branch.tx == tx);
        let Some(branch) = branch else { return };
        branch.is_known = true;
        let vias: Vec<String> = response
            .headers
            .values("Via")
            .skip(1)
            .map(str::to_owned)
            .collect();
        response.headers.remove("Via");
        for via in vias.iter().rev() {
            response.headers.push_front("Via", via);
        }
        match response.status {
            100 => {}
            101..200 => drop(self.stack.respond(now, fork.invite, response)),
            200..300 => {
                branch.is_over = true;
                fork.is_answered = true;
                fork.is_cancelled |= !fork.is_lazy;
                drop(self.stack.respond(now, fork.invite, response));
            }
            _ => {
                branch.is_over = true;
                branch.refusal = Some(response);
            }
        }
        self.cancel(now);
        self.conclude(now);
    }

    fn ended(&mut self, now: Instant, tx: TxId) {
        let branches = self.forks.iter_mut().flat_map(|fork| &mut fork.branches);
        for branch in branches.filter(|branch| branch.tx == tx) {
            branch.is_over = true;
        }
        self.conclude(now);
    }

    /// Those that can be cancelled by now: an INVITE that nobody has heard of cannot (section 9.1).
    fn cancel(&mut self, now: Instant) {
        for fork in self.forks.iter().filter(|fork| fork.is_cancelled) {
            let ringing = |branch: &&Branch| branch.is_known && !branch.is_over;
            for branch in fork.branches.iter().filter(ringing) {
                drop(self.stack.cancel(branch.tx, now, &Headers::new()));
            }
        }
    }

    /// Who has nothing but refusals is told the best of them (section 16.7).
    fn conclude(&mut self, now: Instant) {
        for fork in &mut self.forks {
            if fork.is_answered || fork.branches.iter().any(|branch| !branch.is_over) {
                continue;
            }
            fork.is_answered = true;
            let refusals = fork
                .branches
                .iter_mut()
                .filter_map(|branch| branch.refusal.take());
            let best = refusals.min_by_key(|response| (response.status / 100 != 6, response.status));
            let best = best.unwrap_or_else(|| fork.request.response(408));
            drop(self.stack.respond(now, fork.invite, best));
        }
    }
}

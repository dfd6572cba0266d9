//! Decides: which server is asked what and when, and what a call may count on. No I/O, no clock.
//!
//! **Drain rule: after every [`Machine::handle`], call [`Machine::poll_output`] until it says `None`, then ask
//! [`Machine::poll_timeout`].**
//!
//! Each server is probed when the agent starts and then once per interval: a STUN server by a Binding request, a TURN
//! server by a whole Allocate with credentials, given back at once. A call takes what is known; it waits, for the
//! budget and no longer, only for a server that nothing is known of or whose good news is too old.

use crate::credentials;
use crate::report::{ServerReport, ServerState};
use crate::stun::{Answer, Ask, Auth, Outcome, Request, request};
use crate::{MAX_SERVERS, MAX_WAITING, NatConfig, NatEvent};
use rtc_stun::message::TransactionId;
use siprtc_core::ice::{IcePolicy, IceServer, IceServerKind, IceServerTransport};
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// The first retransmission (RFC 8489 section 6.2.1); each further one comes after twice the time.
const RTO: Duration = Duration::from_millis(500);
/// How long a probe goes on. Longer than a call waits, so that a slow server is known to the next call.
const PROBE_LIMIT: Duration = Duration::from_millis(3_500);
/// The shortest time between two probes of a server; a shorter one in the configuration would be a flood.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest one that still means something.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);
/// A call waits no longer than this, whatever the configuration says.
const MAX_BUDGET: Duration = Duration::from_secs(10);
/// How often one probe starts its Allocate anew: for a stale nonce, and for an old allocation in the way.
const MAX_RETRIES: u8 = 2;

/// What happened.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// A datagram came in.
    Packet { from: SocketAddr, data: &'a [u8] },
    /// A call asks; it is answered under this id.
    Plan { id: u64 },
    /// A name has an address, or has none for this reason.
    Resolved {
        index: usize,
        result: Result<SocketAddr, String>,
    },
    /// Nothing but time.
    Tick,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Output {
    Event(NatEvent),
    Plan { id: u64, result: Result<Plan> },
    Resolve { index: usize, host: String, port: u16 },
    Send { to: SocketAddr, data: Vec<u8> },
}

/// A call's servers.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) live: Vec<IceServer>,
    pub(crate) reports: Vec<ServerReport>,
}

pub(crate) struct Machine {
    /// The wall clock's time then.
    born: (Instant, SystemTime),
    entries: Vec<Entry>,
    policy: IcePolicy,
    probe_timeout: Duration,
    probe_interval: Duration,
    waiting: Vec<Waiter>,
    outputs: VecDeque<Output>,
}

struct Entry {
    server: IceServer,
    addr: Option<SocketAddr>,
    known: Option<(Instant, ServerState)>,
    next_probe: Option<Instant>,
    probe: Option<Probe>,
}

struct Probe {
    step: Step,
    give_up: Instant,
    retries: u8,
    auth: Option<Auth>,
    transaction: Option<Transaction>,
    /// A call has waited for it in vain; no other does.
    is_overdue: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// Allocate without credentials, to be challenged.
    Allocate,
    AllocateWithCredentials,
    Binding,
    /// The verdict is known; the allocation is being given back.
    Free,
    /// An allocation of an earlier probe is in the way (437): give it back, then allocate again.
    FreeOld,
    Resolve,
}

struct Transaction {
    ask: Ask,
    id: TransactionId,
    to: SocketAddr,
    data: Vec<u8>,
    sent: Instant,
    resend: Instant,
    rto: Duration,
}

struct Waiter {
    id: u64,
    deadline: Instant,
}

impl Machine {
    pub(crate) fn new(now: Instant, wall: SystemTime, config: &NatConfig) -> Self {
        if config.servers.len() > MAX_SERVERS {
            tracing::warn!(
                count = config.servers.len(),
                MAX_SERVERS,
                "too many ice.servers: the last ones are left out"
            );
        }
        let entry = |server: &IceServer| Entry {
            server: server.clone(),
            addr: None,
            known: None,
            next_probe: None,
            probe: None,
        };
        Machine {
            born: (now, wall),
            entries: config.servers.iter().take(MAX_SERVERS).map(entry).collect(),
            policy: config.policy,
            probe_timeout: config.probe_timeout.min(MAX_BUDGET),
            probe_interval: config.probe_interval.clamp(MIN_INTERVAL, MAX_INTERVAL),
            waiting: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Packet { from, data } => self.packet(now, from, data),
            Input::Plan { id } => self.plan(now, id),
            Input::Resolved { index, result } => self.resolved(now, index, result),
            Input::Tick => {}
        }
        self.tick(now);
        self.answer_waiting(now);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.entries.iter().flat_map(|entry| match &entry.probe {
            Some(probe) => [
                Some(probe.give_up),
                probe.transaction.as_ref().map(|transaction| transaction.resend),
            ],
            None => [entry.next_probe, None],
        });
        probes
            .flatten()
            .chain(self.waiting.iter().map(|waiter| waiter.deadline))
            .min()
    }

    /// Whether the machine expects anything from this address: others need not be listened to.
    pub(crate) fn expects(&self, from: SocketAddr) -> bool {
        self.transactions().any(|transaction| transaction.to == from)
    }

    fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.entries
            .iter()
            .filter_map(|entry| entry.probe.as_ref()?.transaction.as_ref())
    }

    fn plan(&mut self, now: Instant, id: u64) {
        for index in 0..self.entries.len() {
            if self.is_stale(now, index) && self.entries[index].probe.is_none() {
                self.begin(now, index);
            }
        }
        let budget = if self.waiting.len() < MAX_WAITING {
            self.probe_timeout
        } else {
            Duration::ZERO
        };
        self.waiting.push(Waiter {
            id,
            deadline: now + budget,
        });
    }

    /// Nothing is known, or the last good news is too old. Old bad news is good enough not to wait for.
    fn is_stale(&self, now: Instant, index: usize) -> bool {
        match &self.entries[index].known {
            None => true,
            Some((at, state)) => {
                state.is_alive() && now.saturating_duration_since(*at) >= self.probe_interval
            }
        }
    }

    fn answer_waiting(&mut self, now: Instant) {
        let is_worth_waiting = (0..self.entries.len()).any(|index| {
            let probe = self.entries[index].probe.as_ref();
            self.is_stale(now, index) && probe.is_some_and(|probe| !probe.is_overdue)
        });
        let mut ready = Vec::new();
        self.waiting.retain(|waiter| {
            let is_ready = !is_worth_waiting || waiter.deadline <= now;
            if is_ready {
                ready.push(waiter.id);
            }
            !is_ready
        });
        if ready.is_empty() {
            return;
        }
        if is_worth_waiting {
            self.mark_overdue(now);
        }
        for id in ready {
            let result = self.make_plan(now);
            self.outputs.push_back(Output::Plan { id, result });
        }
    }

    fn mark_overdue(&mut self, now: Instant) {
        for index in 0..self.entries.len() {
            let is_stale = self.is_stale(now, index);
            if let Some(probe) = self.entries[index].probe.as_mut().filter(|_| is_stale) {
                probe.is_overdue = true;
            }
        }
    }

    fn make_plan(&self, now: Instant) -> Result<Plan> {
        let reports: Vec<ServerReport> = (0..self.entries.len()).map(|index| self.report(index)).collect();
        let live: Vec<IceServer> = (reports.iter())
            .filter(|report| report.state.is_alive())
            .filter_map(|report| {
                let mut server = report.server.clone();
                server.addr = Some(report.addr?);
                // Whoever allocates gets credentials that are good from now on.
                if let Some((username, password)) = credentials::of(&server.kind, self.wall(now)) {
                    server.kind = IceServerKind::Turn { username, password };
                }
                Some(server)
            })
            .collect();
        let has_relay = live.iter().any(|server| server.kind.is_turn());
        if self.policy == IcePolicy::Relay && !has_relay {
            return Err(no_relay(&reports));
        }
        Ok(Plan { live, reports })
    }

    fn wall(&self, now: Instant) -> SystemTime {
        self.born.1 + now.saturating_duration_since(self.born.0)
    }

    fn report(&self, index: usize) -> ServerReport {
        let entry = &self.entries[index];
        let state = entry
            .known
            .as_ref()
            .map_or(ServerState::Silent, |(_, state)| state.clone());
        ServerReport {
            index,
            server: entry.server.clone(),
            addr: entry.addr,
            state,
        }
    }

    fn begin(&mut self, now: Instant, index: usize) {
        let entry = &mut self.entries[index];
        entry.next_probe = Some(now + self.probe_interval);
        entry.probe = Some(Probe {
            step: Step::Resolve,
            give_up: now + PROBE_LIMIT,
            retries: 0,
            auth: None,
            transaction: None,
            is_overdue: false,
        });
        let IceServer { host, port, .. } = entry.server.clone();
        match host.parse::<IpAddr>() {
            Ok(ip) => self.resolved(now, index, Ok(SocketAddr::new(ip, port))),
            Err(_) => self.outputs.push_back(Output::Resolve { index, host, port }),
        }
    }

    fn resolved(&mut self, now: Instant, index: usize, result: Result<SocketAddr, String>) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if !entry
            .probe
            .as_ref()
            .is_some_and(|probe| probe.step == Step::Resolve)
        {
            return;
        }
        match result {
            Ok(addr) => {
                entry.addr = Some(addr);
                if entry.server.transport != IceServerTransport::Udp {
                    return self.settle(now, index, ServerState::Untried, None);
                }
                let step = match entry.server.kind.is_turn() {
                    false => Step::Binding,
                    true => Step::Allocate,
                };
                self.ask(now, index, step);
            }
            Err(why) => self.settle(now, index, ServerState::Unresolvable(why), None),
        }
    }

    /// Sends what `step` asks.
    fn ask(&mut self, now: Instant, index: usize, step: Step) {
        let entry = &mut self.entries[index];
        let (Some(probe), Some(to)) = (entry.probe.as_mut(), entry.addr) else {
            return;
        };
        let ask = match step {
            Step::Allocate | Step::AllocateWithCredentials => Ask::Allocate,
            Step::Binding | Step::Resolve => Ask::Binding,
            Step::Free | Step::FreeOld => Ask::Free,
        };
        let Some(Request { id, data }) = request(ask, probe.auth.as_ref()) else {
            let reason = "user name or realm are longer than RFC 8489 allows".to_owned();
            return self.settle(now, index, ServerState::Refused { code: 400, reason }, None);
        };
        probe.step = step;
        probe.transaction = Some(Transaction {
            ask,
            id,
            to,
            data: data.clone(),
            sent: now,
            resend: now + RTO,
            rto: RTO,
        });
        self.outputs.push_back(Output::Send { to, data });
    }

    fn packet(&mut self, now: Instant, from: SocketAddr, data: &[u8]) {
        let Some(mut answer) = Answer::read(data) else {
            return;
        };
        let Some(index) = self.entries.iter().position(|entry| {
            let transaction = entry.probe.as_ref().and_then(|probe| probe.transaction.as_ref());
            transaction
                .is_some_and(|asked| asked.id == answer.id && asked.to == from && answer.answers(asked.ask))
        }) else {
            return;
        };
        let Some(probe) = self.entries[index].probe.as_mut() else {
            return;
        };
        let outcome = answer.outcome();
        // RFC 8489 section 9.2.5: a success that is not signed is as if it never came.
        let is_success = matches!(outcome, Outcome::Success { .. });
        if is_success && probe.auth.as_ref().is_some_and(|auth| !answer.is_signed_by(auth)) {
            return;
        }
        let sent = probe
            .transaction
            .take()
            .map_or(now, |transaction| transaction.sent);
        let round_trip = now.saturating_duration_since(sent);
        self.outcome(now, index, outcome, round_trip);
    }

    fn outcome(&mut self, now: Instant, index: usize, outcome: Outcome, round_trip: Duration) {
        let Some(probe) = self.entries[index].probe.as_mut() else {
            return;
        };
        let step = probe.step;
        match (step, outcome) {
            (Step::Free, _) => self.entries[index].probe = None,
            (Step::FreeOld, _) => self.ask(now, index, Step::AllocateWithCredentials),
            (Step::Binding, Outcome::Success { mapped: Some(mapped) }) => {
                self.settle(now, index, ServerState::Alive { round_trip, mapped }, None);
            }
            (Step::AllocateWithCredentials, Outcome::Success { mapped: Some(mapped) }) => {
                self.settle(
                    now,
                    index,
                    ServerState::Alive { round_trip, mapped },
                    Some(Step::Free),
                );
            }
            (Step::Allocate, Outcome::Success { .. }) => {
                // A TURN server without passwords: nothing that we could check, and nothing that we could count on.
                let reason = "it relays for everybody and asks for no password".to_owned();
                self.settle(
                    now,
                    index,
                    ServerState::Refused { code: 0, reason },
                    Some(Step::Free),
                );
            }
            (_, Outcome::Success { .. }) => {
                let reason = "its answer lacks XOR-MAPPED-ADDRESS".to_owned();
                self.settle(now, index, ServerState::Refused { code: 0, reason }, None);
            }
            (
                _,
                Outcome::Error {
                    code,
                    reason,
                    challenge,
                },
            ) => self.refused(now, index, code, reason, challenge),
        }
    }

    fn refused(
        &mut self,
        now: Instant,
        index: usize,
        code: u16,
        reason: String,
        challenge: Option<(String, String)>,
    ) {
        let Entry {
            server,
            probe: Some(probe),
            ..
        } = &mut self.entries[index]
        else {
            return;
        };
        let is_challenge = (probe.step == Step::Allocate && code == 401)
            || (probe.step == Step::AllocateWithCredentials && code == 438 && probe.retries < MAX_RETRIES);
        let known = credentials::of(
            &server.kind,
            self.born.1 + now.saturating_duration_since(self.born.0),
        );
        if let (true, Some((realm, nonce)), Some((username, password))) = (is_challenge, challenge, known) {
            probe.retries += u8::from(code == 438);
            probe.auth = Auth::new(&username, &password, realm, nonce);
            if probe.auth.is_some() {
                return self.ask(now, index, Step::AllocateWithCredentials);
            }
        } else if probe.step == Step::AllocateWithCredentials && code == 437 && probe.retries < MAX_RETRIES {
            probe.retries += 1;
            return self.ask(now, index, Step::FreeOld);
        }
        self.settle(now, index, ServerState::Refused { code, reason }, None);
    }

    /// The verdict of a probe; `then` is what is left to do.
    fn settle(&mut self, now: Instant, index: usize, state: ServerState, then: Option<Step>) {
        let entry = &mut self.entries[index];
        let before = entry.known.replace((now, state.clone()));
        let is_news = before
            .is_none_or(|(_, before)| std::mem::discriminant(&before) != std::mem::discriminant(&state));
        if is_news {
            let report = self.report(index);
            let event = if state.is_alive() {
                NatEvent::ServerUp(report)
            } else {
                NatEvent::ServerDown(report)
            };
            self.outputs.push_back(Output::Event(event));
        }
        match then {
            Some(step) => self.ask(now, index, step),
            None => self.entries[index].probe = None,
        }
    }

    fn tick(&mut self, now: Instant) {
        for index in 0..self.entries.len() {
            self.tick_one(now, index);
        }
    }

    fn tick_one(&mut self, now: Instant, index: usize) {
        let entry = &mut self.entries[index];
        let Some(probe) = &mut entry.probe else {
            if entry.next_probe.is_none_or(|at| at <= now) {
                self.begin(now, index);
            }
            return;
        };
        if probe.give_up <= now {
            return match probe.step {
                // The verdict stands; the server ends the allocation by itself (RFC 8656 section 3.2).
                Step::Free => entry.probe = None,
                Step::Resolve => {
                    let why = format!("no answer from the DNS in {PROBE_LIMIT:?}");
                    self.settle(now, index, ServerState::Unresolvable(why), None);
                }
                _ => self.settle(now, index, ServerState::Silent, None),
            };
        }
        if let Some(transaction) = probe
            .transaction
            .as_mut()
            .filter(|transaction| transaction.resend <= now)
        {
            transaction.rto *= 2;
            transaction.sent = now;
            transaction.resend = now + transaction.rto;
            self.outputs.push_back(Output::Send {
                to: transaction.to,
                data: transaction.data.clone(),
            });
        }
    }
}

fn no_relay(reports: &[ServerReport]) -> Error {
    let turn: Vec<&ServerReport> = reports
        .iter()
        .filter(|report| report.server.kind.is_turn())
        .collect();
    if turn.is_empty() {
        return Error::new(
            Fault::ConfigInvalid,
            "plan call",
            "ice.policy = \"relay\" without any TURN server",
        )
        .advice("add one to ice.servers, or set ice.policy = \"all\"");
    }
    let is_silent = turn.iter().any(|report| report.state == ServerState::Silent);
    let fault = if is_silent {
        Fault::TimedOut
    } else {
        Fault::ConfigInvalid
    };
    let told: Vec<String> = turn.iter().map(ToString::to_string).collect();
    Error::new(
        fault,
        "plan call",
        format!(
            "ice.policy = \"relay\", and no TURN server works: {}",
            told.join("; ")
        ),
    )
    .advice("or set ice.policy = \"all\"")
}

#[cfg(test)]
mod tests;

//! Decides: which agent a packet is for, what is gathered, over which pair datagrams go, and when a path is lost. No
//! sockets, no clock.

mod bypass;
mod fork;
mod gathering;
mod names;
mod packets;
mod resting;

use super::consent::{Consent, Health};
use super::gather::Reflexive;
use super::generation::Generation;
use super::relay::{Relay, Standing, Way};
use super::rest::Rest;
use super::socket::Use;
use siprtc_core::ice::{
    Candidate, CandidateKind, CandidatePair, IceAgentFactory, IceEvent, IceParameters, IcePolicy, IceRole,
    IceServer, IceState, LocalCandidate, PairEnd, PathEvent, PathStats,
};
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A path that finds no pair for so long has failed (RFC 8445 section 8.1.2 leaves it open): agents differ, this does not.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest time between two calls of an agent's: one that names the past again and again must not keep its reader.
const LEAST: Duration = Duration::from_millis(1);
/// Datagrams that wait for a pair to be selected: a DTLS flight and its repetition. The oldest is dropped for one more.
const MOST_HELD: usize = 16;
/// Datagrams of a handshake that are kept until the peer's description comes; the oldest is dropped for one more.
const MOST_EARLY: usize = 4;
/// Pairs that datagrams are taken from: those on which a check has succeeded.
const MOST_KNOWN: usize = 64;

/// Names of candidates that are asked for; those beyond are dropped.
const MOST_NAMES: usize = 4;

/// What a path begins with.
pub(super) struct Setup {
    pub(super) factory: Arc<dyn IceAgentFactory>,
    pub(super) role: IceRole,
    /// Servers with their addresses.
    pub(super) servers: Vec<IceServer>,
    pub(super) policy: IcePolicy,
    /// Where the beats of consent are counted from, for all paths of a process.
    pub(super) origin: Instant,
    /// Whether candidates that are mDNS names are resolved.
    pub(super) resolves: bool,
    pub(super) credentials: Box<dyn FnMut() -> IceParameters + Send>,
    /// 0 to 1, a fresh one at each call.
    pub(super) random: Box<dyn FnMut() -> f64 + Send>,
}

/// What has happened.
pub(super) enum Input<'a> {
    /// A datagram came to the socket `base`.
    Datagram {
        base: usize,
        from: SocketAddr,
        data: &'a [u8],
    },
    /// The connection to the server of `relay` is lost, or cannot be made.
    Broken { relay: usize },
    /// The connection to the server of `relay` is up.
    Connected { relay: usize, local: SocketAddr },
    /// Octets came over the connection of `relay`.
    Streamed { relay: usize, data: &'a [u8] },
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Output {
    /// A connection to the TURN server of `relay` is wanted.
    Connect {
        relay: usize,
    },
    Event(PathEvent),
    /// A check between the socket `base` and this address has been verified.
    Known {
        base: usize,
        addr: SocketAddr,
    },
    /// Whoever sends to the socket `base` from this address is another path's.
    Left {
        base: usize,
        addr: SocketAddr,
    },
    /// The user fragments that checks for this path name from now on.
    Named(Vec<String>),
    /// The address of this candidate of the peer with the user fragment `of` is to be found.
    Resolve {
        of: String,
        candidate: Candidate,
    },
    Send {
        base: usize,
        to: SocketAddr,
        data: Vec<u8>,
    },
    Stream {
        relay: usize,
        data: Vec<u8>,
    },
}

/// Where a datagram of the engine's goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    Direct { base: usize, to: SocketAddr },
    Relayed { relay: usize, to: SocketAddr },
}

/// A socket of the path's.
struct Base {
    addr: SocketAddr,
    /// Its address is this machine's still.
    is_alive: bool,
}

/// The path, without its sockets.
pub(super) struct Machine {
    setup: Setup,
    bases: Vec<Base>,
    relays: Vec<Relay>,
    reflexive: Reflexive,
    /// Everything gathered so far, for the agents to come.
    gathered: Vec<(LocalCandidate, SocketAddr)>,
    is_told: bool,
    current: Generation,
    /// The restart under way.
    next: Option<Generation>,
    state: IceState,
    selected: Option<(SocketAddr, SocketAddr)>,
    consent: Option<Consent>,
    route: Option<Route>,
    fails_at: Option<Instant>,
    /// Whether the current agent is left alone.
    rest: Rest,
    held: VecDeque<Vec<u8>>,
    /// Pairs of ours and theirs on which a check has succeeded.
    known: Vec<(SocketAddr, SocketAddr)>,
    tie_breaker: u64,
    pub(super) stats: PathStats,
    outputs: VecDeque<Output>,
    /// What came before anything was known of the peer, with where it came from: see [`Machine::take_early`].
    early: VecDeque<(Vec<u8>, SocketAddr)>,
    /// Names that were asked for.
    names: Vec<String>,
    /// The peer has no ICE: the agent is left alone, and whatever comes is the engine's to judge.
    is_bypassed: bool,
    /// Of `known`, those that were heard before the peer's answer, with the user fragments that they go by.
    guests: Vec<((SocketAddr, SocketAddr), Vec<u8>)>,
    /// Our user fragment that forks have in common: checks are told apart by the peer's.
    forked: Option<String>,
}

impl Machine {
    pub(super) fn new(now: Instant, mut setup: Setup, bases: &[(SocketAddr, Use)]) -> Result<Self> {
        let ours = (setup.credentials)();
        let current = Generation::new(now, &*setup.factory, setup.role, ours)?;
        let tie_breaker = ((setup.random)() * u64::MAX as f64) as u64;
        let mut machine = Machine::blank(setup, current, tie_breaker);
        machine.tell_names();
        for (addr, purpose) in bases {
            machine.add_base(now, *addr, *purpose);
        }
        machine.connect_relays(now);
        Ok(machine)
    }

    /// Nothing is bound, gathered or known of the peer.
    fn blank(setup: Setup, current: Generation, tie_breaker: u64) -> Self {
        Machine {
            setup,
            bases: Vec::new(),
            relays: Vec::new(),
            reflexive: Reflexive::default(),
            gathered: Vec::new(),
            is_told: false,
            current,
            next: None,
            state: IceState::New,
            selected: None,
            consent: None,
            route: None,
            fails_at: None,
            rest: Rest::default(),
            held: VecDeque::new(),
            known: Vec::new(),
            tie_breaker,
            stats: PathStats::default(),
            outputs: VecDeque::new(),
            early: VecDeque::new(),
            names: Vec::new(),
            is_bypassed: false,
            guests: Vec::new(),
            forked: None,
        }
    }

    fn newest(&self) -> &Generation {
        self.next.as_ref().unwrap_or(&self.current)
    }

    pub(super) fn parameters(&self) -> IceParameters {
        self.newest().ours.clone()
    }

    /// New credentials, a new agent, and all that is gathered from sockets that live. `alive` says which do.
    pub(super) fn restart(&mut self, now: Instant, alive: &dyn Fn(SocketAddr) -> bool) -> Result<()> {
        for base in &mut self.bases {
            base.is_alive = alive(base.addr);
        }
        let ours = (self.setup.credentials)();
        let mut next = Generation::new(now, &*self.setup.factory, self.setup.role, ours)?;
        let hides = self.setup.policy == IcePolicy::Relay;
        for (kind, addr) in &self.gathered {
            let below = match kind {
                LocalCandidate::Host => *addr,
                LocalCandidate::Relayed { base } | LocalCandidate::ServerReflexive { base } => *base,
            };
            let dead = (self.bases.iter()).any(|base| base.addr == below && !base.is_alive);
            if !dead {
                next.add_local(now, *kind, *addr, hides);
            }
        }
        self.is_told = false;
        self.next = Some(next);
        self.tell_names();
        Ok(())
    }

    pub(super) fn rollback(&mut self) {
        self.next = None;
        self.is_told = true;
        self.tell_names();
    }

    pub(super) fn set_remote(
        &mut self,
        now: Instant,
        theirs: &IceParameters,
        candidates: &[Candidate],
    ) -> Result<()> {
        check(theirs)?;
        self.is_bypassed = false;
        let known = self.current.theirs.as_ref();
        let is_restart =
            known.is_some_and(|known| (&known.ufrag, &known.pwd) != (&theirs.ufrag, &theirs.pwd));
        if is_restart && self.next.is_none() {
            self.restart(now, &|_| true)?;
        }
        let generation = match &mut self.next {
            Some(next) if is_restart => next,
            _ => &mut self.current,
        };
        if generation.theirs.is_none() {
            generation.set_remote(now, theirs)?;
            self.fails_at = Some(now + PATIENCE);
            self.part_from_guests(&theirs.ufrag);
            if self.forked.is_some() {
                self.tell_names();
            }
            if self.state == IceState::New {
                self.become_state(IceState::Checking);
            }
        }
        for candidate in candidates {
            self.add_remote(now, candidate);
        }
        self.tick(now);
        Ok(())
    }

    pub(super) fn add_remote(&mut self, now: Instant, candidate: &Candidate) {
        if candidate.socket_addr().is_none() {
            return self.ask_for(candidate);
        }
        if self.next.as_ref().is_none_or(|next| next.theirs.is_none()) {
            self.wake(now);
        }
        let generation = match &mut self.next {
            Some(next) if next.theirs.is_some() => next,
            _ => &mut self.current,
        };
        if !generation.add_remote(now, candidate) {
            return;
        }
        if let Some(addr) = candidate.socket_addr() {
            for relay in &mut self.relays {
                relay.permit(now, addr.ip());
            }
        }
        self.tick(now);
    }

    /// Takes what has happened; a datagram of the peer's that came through a relay goes to `deliver`.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        deliver: &mut dyn FnMut(SocketAddr, &[u8]),
    ) {
        match input {
            Input::Datagram { base, from, data } => self.datagram(now, base, from, data, deliver),
            Input::Broken { relay } => {
                if let Some(relay) = self.relays.get_mut(relay) {
                    relay.lose();
                }
            }
            Input::Connected { relay, local } => {
                if let Some(relay) = self.relays.get_mut(relay) {
                    relay.begin(local);
                }
            }
            Input::Streamed { relay, data } => drop(self.relayed(now, relay, data, deliver)),
            Input::Tick => {}
        }
        self.tick(now);
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let awake = (self.current.due).filter(|_| !self.rest.is_resting() && !self.is_bypassed);
        let agents = [awake, self.next.as_ref().and_then(|next| next.due)];
        let rest = [
            self.reflexive.due(),
            self.consent.as_ref().map(Consent::due),
            self.fails_at,
            self.rest.due(),
        ];
        let relays = self.relays.iter().map(|relay| relay.due);
        agents.into_iter().chain(rest).chain(relays).flatten().min()
    }

    fn tick(&mut self, now: Instant) {
        for (base, to, data) in self.reflexive.tick(now) {
            self.outputs.push_back(Output::Send { base, to, data });
        }
        for relay in 0..self.relays.len() {
            self.tick_relay(now, relay);
        }
        for is_next in [true, false] {
            self.tick_agent(now, is_next);
        }
        self.tick_consent(now);
        self.tick_rest(now);
        if self.fails_at.is_some_and(|at| at <= now) {
            self.fails_at = None;
            if self.next.take().is_some() {
                self.tell_names();
            }
            if self.selected.is_none() {
                self.become_state(IceState::Failed);
            }
        }
    }

    fn tick_relay(&mut self, now: Instant, at: usize) {
        let before = self.relays[at].standing;
        for data in self.relays[at].poll(now) {
            self.send_to_server(at, data);
        }
        let relay = &mut self.relays[at];
        let (Standing::Allocated(addr), true) = (relay.standing, relay.standing != before) else {
            return;
        };
        let peers = self
            .current
            .remote
            .iter()
            .chain(self.next.iter().flat_map(|next| &next.remote));
        for peer in peers.filter_map(Candidate::socket_addr) {
            relay.permit(now, peer.ip());
        }
        let base = match relay.way {
            Way::Socket(base) => self.bases[base].addr,
            Way::Stream => addr,
        };
        let asked = relay.poll(now);
        self.add_local(now, LocalCandidate::Relayed { base }, addr);
        for data in asked {
            self.send_to_server(at, data);
        }
    }

    fn tick_agent(&mut self, now: Instant, is_next: bool) {
        let generation = match is_next {
            false if self.rest.is_resting() || self.is_bypassed => return,
            false => &mut self.current,
            true => match &mut self.next {
                Some(next) => next,
                None => return,
            },
        };
        if generation.due.is_some_and(|at| at <= now) {
            generation.agent.handle_timeout(now);
        }
        let (mut sendings, mut chosen) = (Vec::new(), None);
        while let Some(datagram) = generation.agent.poll_transmit() {
            sendings.push(datagram);
        }
        while let Some(event) = generation.agent.poll_event() {
            match event {
                IceEvent::Selected { local, remote } => chosen = Some((local, remote)),
                IceEvent::RoleChanged(role) => self.setup.role = role,
                // When a path is lost is decided here, the same for every agent.
                _ => {}
            }
        }
        generation.due = generation.agent.poll_timeout(now).map(|at| at.max(now + LEAST));
        for datagram in sendings {
            self.send_from(now, datagram.local, datagram.remote, datagram.data);
        }
        if let Some(pair) = chosen {
            self.adopt(now, is_next, pair);
            self.rest.plan(now);
        }
    }

    fn adopt(&mut self, now: Instant, is_next: bool, pair: (SocketAddr, SocketAddr)) {
        if is_next && let Some(next) = self.next.take() {
            self.current = next;
            self.selected = None;
            self.rest = Rest::default();
            self.tell_names();
        }
        self.select(now, pair);
    }

    fn select(&mut self, now: Instant, pair: (SocketAddr, SocketAddr)) {
        let (local, remote) = pair;
        let direct = self.bases.iter().position(|base| base.addr == local);
        let route = match (direct, self.relay_at(local)) {
            (Some(base), _) => Route::Direct { base, to: remote },
            (None, Some(relay)) => Route::Relayed { relay, to: remote },
            (None, None) => return,
        };
        let Some(keys) = self.current.keys.clone().filter(|_| self.selected != Some(pair)) else {
            return;
        };
        self.selected = Some(pair);
        self.route = Some(route);
        self.fails_at = None;
        self.know(local, remote);
        if let Route::Relayed { relay, to } = route {
            self.relays[relay].bind(now, to);
        }
        self.consent = Some(Consent::new(now, pair, keys, self.tie_breaker, self.setup.origin));
        let pair = self.pair(pair);
        self.stats.pair = Some(pair);
        self.outputs.push_back(Output::Event(PathEvent::Selected(pair)));
        self.become_state(IceState::Connected);
        for data in std::mem::take(&mut self.held) {
            self.send_from(now, local, remote, data);
        }
    }

    fn pair(&self, (local, remote): (SocketAddr, SocketAddr)) -> CandidatePair {
        let ours = match self.relay_at(local) {
            Some(_) => CandidateKind::Relayed,
            None => CandidateKind::Host,
        };
        let theirs = (self.current.remote.iter())
            .find(|candidate| candidate.socket_addr() == Some(remote))
            .map_or(CandidateKind::PeerReflexive, |candidate| candidate.kind);
        let end = |kind, addr| PairEnd { kind, addr };
        CandidatePair {
            local: end(ours, local),
            remote: end(theirs, remote),
        }
    }

    fn tick_consent(&mut self, now: Instant) {
        let jitter = (self.setup.random)();
        let Some(consent) = &mut self.consent else { return };
        self.stats.round_trip = consent.round_trip;
        let (health, local, remote) = (consent.health(now), consent.local, consent.remote);
        match health {
            Health::Expired => {
                self.consent = None;
                self.route = None;
                self.selected = None;
                return self.become_state(IceState::Failed);
            }
            Health::Consented => self.become_state(IceState::Connected),
            Health::Silent => self.become_state(IceState::Disconnected),
        }
        let check = (self.consent.as_mut()).and_then(|consent| consent.check(now, self.setup.role, jitter));
        if let Some(data) = check {
            self.send_from(now, local, remote, data);
        }
    }

    fn become_state(&mut self, state: IceState) {
        if self.state != state {
            self.state = state;
            self.outputs.push_back(Output::Event(PathEvent::State(state)));
        }
    }

    /// Gives the allocations back; nothing follows but what is to be sent for it.
    pub(super) fn close(&mut self, now: Instant) {
        for relay in 0..self.relays.len() {
            for data in self.relays[relay].give_back(now) {
                self.send_to_server(relay, data);
            }
        }
        self.become_state(IceState::Closed);
    }
}

/// RFC 8839 section 5.4: 4 to 256 characters, 22 to 256.
fn check(theirs: &IceParameters) -> Result<()> {
    let is_written = |text: &str, least: usize| {
        let allowed = |byte: u8| byte.is_ascii_graphic();
        (least..=256).contains(&text.len()) && text.bytes().all(allowed)
    };
    if is_written(&theirs.ufrag, 4) && is_written(&theirs.pwd, 22) {
        return Ok(());
    }
    Err(Error::new(
        Fault::PeerMisbehaved,
        "set the peer's ICE credentials",
        "its a=ice-ufrag or a=ice-pwd is not what RFC 8839 section 5.4 allows",
    )
    .advice("the peer's SDP is at fault; its text is in the log"))
}

#[cfg(test)]
mod tests;

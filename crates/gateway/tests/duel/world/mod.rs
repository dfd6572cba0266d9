//! Endpoints without I/O: calls, dialogs and transactions of each, a proxy that forks, a telephone that offers nothing, and a wire
//! between them that loses, copies, delays and reorders. All from a seed, in made-up time.

mod deeds;
mod forks;
mod phone;
mod proxy;
mod wire;

use super::media::Peer;
use bytes::Bytes;
use phone::Phone;
use proxy::Proxy;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::sip::*;
use siprtc_core::{CallId, Error};
use siprtc_dialog_manager::machine::{Input as DialogInput, Machine};
use siprtc_dialog_manager::{Account, Control, DialogConfig, Reliability, Reoffer, SessionTimer};
use siprtc_gateway::machine::{Call, Epoch, Input, Told};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::Fork;
use siprtc_sip_transactions::{Path, Transactions, TransactionsConfig};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use wire::{Farewells, Said};

/// How bad the wire is, and the media.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    pub(crate) copies: f64,
    /// Longest delay of a message, in milliseconds.
    pub(crate) delay: u64,
    /// How many of a media peer's steps fail.
    pub(crate) failures: f64,
    /// How long such a step takes at most, in milliseconds.
    pub(crate) step: u64,
    /// Each side has a session timer and reliable answers, or not, and offers by re-INVITE or UPDATE, as the seed wants.
    pub(crate) extensions: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Alice,
    Bob,
    Carol,
}

/// Whom an INVITE to nobody in particular rings: all but its caller.
const ALL_OTHERS: &str = "others";

impl Side {
    pub(crate) const ALL: [Side; 3] = [Side::Alice, Side::Bob, Side::Carol];

    fn name(self) -> &'static str {
        match self {
            Side::Alice => "alice",
            Side::Bob => "bob",
            Side::Carol => "carol",
        }
    }

    pub(crate) fn uri(self) -> Uri {
        format!("sip:{}@example.com", self.name()).parse().unwrap()
    }
}

/// Whom an INVITE rings that the proxy forks.
pub(crate) fn others() -> Uri {
    format!("sip:{ALL_OTHERS}@example.com").parse().unwrap()
}

/// Who sends and receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Node {
    Party(Side),
    Phone,
    Proxy,
}

#[derive(Clone, Debug, PartialEq)]
struct Wire;

impl Path for Wire {
    fn is_reliable(&self) -> bool {
        false
    }
}

/// A step of a media peer.
#[derive(Debug)]
enum Work {
    Answer(String),
    Apply(String),
    Offer,
    Screen,
    Take(Fork, String),
}

#[derive(Debug)]
enum Event<O> {
    Arrives(Node, Bytes),
    CallTimer(Side, CallId),
    Closed(Side, CallId),
    DialogTimer(Side),
    Forked(Side, CallId, u32, Fork, String),
    Order(O),
    /// A 200 of the phone's goes out again; it asks for an offer again.
    PhoneRepeats(usize),
    PhoneRetries(usize),
    StackTimer(Node),
    Stepped(Side, CallId, u32, Epoch, Work),
}

/// A call of one side.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) call: Call,
    pub(crate) media: Option<Peer>,
    /// Media peers of early dialogs beside the first.
    forks: BTreeMap<u32, Peer>,
    timer: Option<Instant>,
    /// The call whose peer asked for this one, and what that wants in its INVITE.
    reports_to: Option<CallId>,
    headers: Headers,
    /// The call in whose place it comes.
    replaces: Option<CallId>,
}

struct Party {
    dialogs: Machine,
    stack: Transactions<Wire>,
    calls: BTreeMap<CallId, Box<Life>>,
    /// Calls that may have something to say.
    busy: VecDeque<CallId>,
    timer: Option<Instant>,
}

/// The shortest that RFC 4028 allows: a call is refreshed several times.
const SHORT: SessionTimer = SessionTimer {
    interval: Duration::from_secs(90),
    least: Duration::from_secs(90),
};
const REOFFERS: [Reoffer; 2] = [Reoffer::Invite, Reoffer::Update];
const RELIABILITIES: [Reliability; 3] = [Reliability::Off, Reliability::Supported, Reliability::Required];

impl Party {
    fn new(side: Side, seed: u64, extensions: bool, now: Instant) -> Self {
        let name = side.name();
        let contact = format!("<sip:{name}@192.0.2.1:5060>").parse().unwrap();
        let aor = format!("sip:{name}@example.com").parse().unwrap();
        let config = DialogConfig {
            max_calls: 100_000,
            ..DialogConfig::new(Account::new(aor, contact))
        };
        let timers = config.timers;
        let mut random = StdRng::seed_from_u64(seed ^ side as u64);
        let config = match extensions {
            true => DialogConfig {
                session_timer: random.random_bool(0.5).then_some(SHORT),
                control: Control {
                    reliability: RELIABILITIES[random.random_range(0..RELIABILITIES.len())],
                    reoffer: REOFFERS[random.random_range(0..REOFFERS.len())],
                    ..config.control
                },
                ..config
            },
            false => config,
        };
        let entropy = Box::new(move || random.random::<u64>());
        Party {
            dialogs: Machine::new(config, TxOwner::user(1), entropy, now),
            stack: Transactions::new(TransactionsConfig {
                timers,
                max_transactions: 100_000,
            }),
            calls: BTreeMap::new(),
            busy: VecDeque::new(),
            timer: None,
        }
    }
}

/// `O` is what an application may do later on.
pub(crate) struct World<O> {
    weather: Weather,
    pub(crate) random: StdRng,
    start: Instant,
    pub(crate) now: Instant,
    parties: [Party; 3],
    proxy: Proxy,
    phone: Phone,
    /// When whose transactions want to be asked next.
    stack_timers: [Option<Instant>; 5],
    events: BTreeMap<(Instant, u64), Event<O>>,
    number: u64,
    branches: u64,
    descriptions: u32,
    peers: u32,
    /// What the applications were told and have not read.
    pub(crate) told: VecDeque<(Side, CallId, Told)>,
    /// Every state in which a call was.
    pub(crate) states: BTreeSet<(Sip, Jsep)>,
    said: Said,
    farewells: Farewells,
    /// The messages that were carried, or lost, the last ones.
    log: Option<VecDeque<String>>,
}

const LOG: usize = 200;

impl<O: std::fmt::Debug> World<O> {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let start = tokio::time::Instant::now().into_std();
        World {
            weather,
            random: StdRng::seed_from_u64(seed),
            start,
            now: start,
            parties: Side::ALL.map(|side| Party::new(side, seed, weather.extensions, start)),
            proxy: Proxy::new(),
            phone: Phone::new(),
            stack_timers: [None; 5],
            said: Said::default(),
            farewells: Farewells::default(),
            events: BTreeMap::new(),
            number: 0,
            branches: 0,
            descriptions: 0,
            peers: 0,
            told: VecDeque::new(),
            states: BTreeSet::new(),
            log: None,
        }
    }

    /// Keeps what happens, to be printed when it goes wrong.
    pub(crate) fn logging(mut self) -> Self {
        self.log = Some(VecDeque::new());
        self
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn log(&self) -> String {
        self.log.iter().flatten().map(String::as_str).collect()
    }

    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        let at = self.since_start();
        if let Some(log) = &mut self.log {
            if log.len() >= LOG {
                log.pop_front();
            }
            log.push_back(format!("{:>10.3} {}\n", at.as_secs_f64(), text()));
        }
    }

    pub(crate) fn later(&mut self, wait: Duration, order: O) {
        self.at(self.now + wait, Event::Order(order));
    }

    fn at(&mut self, at: Instant, event: Event<O>) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    fn party(&mut self, side: Side) -> &mut Party {
        &mut self.parties[side as usize]
    }

    pub(crate) fn life(&self, side: Side, id: CallId) -> Option<&Life> {
        self.parties[side as usize].calls.get(&id).map(Box::as_ref)
    }

    pub(crate) fn calls(&self, side: Side) -> impl Iterator<Item = (CallId, &Life)> {
        self.parties[side as usize]
            .calls
            .iter()
            .map(|(id, life)| (*id, life.as_ref()))
    }

    /// Who is at the other end of a call that stands.
    pub(crate) fn partner(&self, side: Side, id: CallId) -> Option<Side> {
        let maker = self.life(side, id)?.media.as_ref()?.agreed.as_ref()?.theirs.maker;
        let is_its = |side: &Side| {
            let mut peers = self.calls(*side).filter_map(|(_, life)| life.media.as_ref());
            peers.any(|peer| peer.number == maker)
        };
        Side::ALL.into_iter().find(is_its)
    }

    /// Why this is not the end: whatever is left of anything.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (side, party) in Side::ALL.into_iter().zip(&self.parties) {
            let counts = [
                ("calls", party.calls.len()),
                ("dialogs", party.dialogs.calls().count()),
                (
                    "timers of dialogs",
                    usize::from(party.dialogs.poll_timeout().is_some()),
                ),
                ("transactions", party.stack.active()),
                ("kept transactions", usize::from(!party.stack.is_empty())),
            ];
            for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                left.push(format!("{side:?} has {count} {what}"));
            }
        }
        for (who, stack) in [("the proxy", &self.proxy.stack), ("the phone", &self.phone.stack)] {
            if !stack.is_empty() {
                left.push(format!("{who} has transactions"));
            }
        }
        if !self.phone.is_idle() {
            left.push("the phone has calls".to_owned());
        }
        left
    }

    /// The next thing happens. `Some(Some(order))`: it is the application's turn; `None`: nothing will ever happen again.
    pub(crate) fn step(&mut self) -> Option<Option<O>> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = self.now.max(at);
        match event {
            Event::Order(order) => return Some(Some(order)),
            Event::Arrives(node, bytes) => {
                let message =
                    SipMessage::parse(&bytes, &Limits::default()).expect("we write what we can read");
                let now = self.now;
                self.stack(node).receive(now, Wire, message);
                self.settle_node(node);
            }
            Event::CallTimer(side, id) => {
                let now = self.now;
                if let Some(life) = self.party(side).calls.get_mut(&id)
                    && life.timer.take_if(|timer| *timer <= now).is_some()
                {
                    life.call.handle_timeout(now);
                    self.party(side).busy.push_back(id);
                    self.settle(side);
                }
            }
            Event::Closed(side, id) => {
                self.tell(side, id, Input::MediaClosed(None));
            }
            Event::DialogTimer(side) => {
                let now = self.now;
                if self.party(side).timer.take_if(|timer| *timer <= now).is_some() {
                    self.dialog(side, DialogInput::Timeout)
                        .expect("a timeout cannot be wrong");
                    self.settle(side);
                }
            }
            Event::Forked(side, id, number, fork, answer) => self.forked(side, id, number, fork, &answer),
            Event::PhoneRepeats(line) => {
                let said = self.phone.repeat(self.now, line);
                self.phone_says(said);
                self.settle_node(Node::Phone);
            }
            Event::PhoneRetries(line) => self.phone_asks(line),
            Event::StackTimer(node) => {
                let now = self.now;
                let timer = &mut self.stack_timers[node.index()];
                if timer.take_if(|timer| *timer <= now).is_some() {
                    self.stack(node).handle_timeout(now);
                    self.settle_node(node);
                }
            }
            Event::Stepped(side, id, peer, epoch, work) => self.stepped(side, id, peer, epoch, work),
        }
        Some(None)
    }

    /// Calls, with a call of any kind.
    pub(crate) fn dial(&mut self, side: Side, target: Uri, call: impl FnOnce(CallId) -> Call) -> CallId {
        self.dial_for(side, target, call, None, Headers::new())
    }

    /// The same for another call's peer, with more in its INVITE.
    fn dial_for(
        &mut self,
        side: Side,
        target: Uri,
        call: impl FnOnce(CallId) -> Call,
        reports_to: Option<CallId>,
        headers: Headers,
    ) -> CallId {
        let id = CallId::fresh();
        let life = Box::new(Life {
            reports_to,
            headers,
            ..self.life_of(call(id))
        });
        self.party(side).calls.insert(id, life);
        self.tell(side, id, Input::Dial { target });
        id
    }

    fn life_of(&mut self, call: Call) -> Life {
        Life {
            call,
            media: Some(self.new_peer(false)),
            forks: BTreeMap::new(),
            timer: None,
            reports_to: None,
            headers: Headers::new(),
            replaces: None,
        }
    }

    fn new_peer(&mut self, held: bool) -> Peer {
        self.peers += 1;
        Peer::new(self.peers, held)
    }

    /// Gives a call an input and does all that comes of it. `false`: it means nothing now.
    pub(crate) fn tell(&mut self, side: Side, id: CallId, input: Input) -> bool {
        let now = self.now;
        let party = self.party(side);
        let Some(life) = party.calls.get_mut(&id) else {
            return false;
        };
        let taken = life.call.handle(now, input);
        party.busy.push_back(id);
        self.settle(side);
        taken
    }

    /// A command of the application to the dialogs.
    pub(crate) fn command(&mut self, side: Side, input: DialogInput) -> Result<(), Error> {
        let done = self.dialog(side, input);
        self.settle(side);
        done
    }

    fn dialog(&mut self, side: Side, input: DialogInput) -> Result<(), Error> {
        let now = self.now;
        self.party(side).dialogs.handle(now, input)
    }

    /// Until nobody has anything to do any more.
    fn settle(&mut self, side: Side) {
        loop {
            if let Some(output) = self.party(side).dialogs.poll() {
                self.dialogs_say(side, output);
            } else if let Some(output) = self.party(side).stack.poll() {
                self.stack_says(side, output);
            } else if let Some(id) = self.party(side).busy.pop_front() {
                while let Some(output) = self
                    .party(side)
                    .calls
                    .get_mut(&id)
                    .and_then(|life| life.call.poll())
                {
                    self.perform(side, id, output);
                }
                self.set_call_timer(side, id);
            } else {
                break;
            }
        }
        let party = self.party(side);
        let due = party.dialogs.poll_timeout();
        // A timer that is set too early is asked again when it is due.
        if let Some(at) = due.filter(|due| party.timer.is_none_or(|timer| *due < timer)) {
            party.timer = Some(at);
            self.at(at, Event::DialogTimer(side));
        }
        self.set_stack_timer(Node::Party(side));
    }

    fn set_stack_timer(&mut self, node: Node) {
        let due = self.stack(node).poll_timeout();
        let timer = &mut self.stack_timers[node.index()];
        if let Some(at) = due.filter(|due| timer.is_none_or(|timer| *due < timer)) {
            *timer = Some(at);
            self.at(at, Event::StackTimer(node));
        }
    }

    fn set_call_timer(&mut self, side: Side, id: CallId) {
        let Some(life) = self.party(side).calls.get_mut(&id) else {
            return;
        };
        let (due, state) = (life.call.poll_timeout(), life.call.state());
        if due != life.timer {
            life.timer = due;
            if let Some(at) = due {
                self.at(at, Event::CallTimer(side, id));
            }
        }
        self.states.insert(state);
    }
}

//! Two machines and a wire that loses, copies, delays and reorders, from a seed and in made-up time.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod support;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::sip::{Limits, Method, SipMessage, SipRequest, TxEnd, TxId};
use siprtc_sip_transactions::Output;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use support::{Link, Rig, T1, ack_of_2xx, none, request, response, tagged};

/// How bad a wire is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: f64,
    copies: f64,
    /// Longest delay in milliseconds.
    delay: u64,
}

/// Copies come before the timers that absorb them have run out: every request is heard once.
const ROUGH: Weather = Weather {
    loss: 0.35,
    copies: 0.3,
    delay: 400,
};

/// Copies may come after them.
const AWFUL: Weather = Weather {
    loss: 0.6,
    copies: 0.6,
    delay: 20_000,
};

const FINE: Weather = Weather {
    loss: 0.0,
    copies: 0.0,
    delay: 50,
};

#[test]
fn over_a_rough_wire_every_request_is_heard_once_and_everything_ends_once() {
    for seed in 0..300 {
        let mut world = World::new(seed, ROUGH, Link::Udp(1));
        world.play(25);
        world.check_branches_heard_once();
    }
}

#[test]
fn over_an_awful_wire_everything_still_ends_once() {
    for seed in 0..300 {
        World::new(seed, AWFUL, Link::Udp(1)).play(25);
    }
}

#[test]
fn over_a_fine_wire_every_answer_is_the_one_that_was_given() {
    for (seed, link) in [Link::Udp(1), Link::Tcp(1)]
        .into_iter()
        .cycle()
        .take(100)
        .enumerate()
    {
        let mut world = World::new(seed as u64, FINE, link);
        world.play(25);
        world.check_branches_heard_once();
        world.check_answers_arrived();
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Side {
    Alice,
    Bob,
}

#[derive(Debug)]
enum Event {
    Arrives(Side, Bytes),
    Ask,
    Cancel(TxId),
    Answer(TxId, u16),
    /// The 2xx of this INVITE is given again, and after this interval once more.
    Again(TxId, Duration),
}

/// What Alice has asked.
struct Asked {
    request: SipRequest,
    finals: Vec<u16>,
    provisional: bool,
    ended: Option<TxEnd>,
}

/// What Bob was asked.
struct Served {
    request: SipRequest,
    given: Option<u16>,
    acknowledged: bool,
    cancelled: bool,
    ended: Option<TxEnd>,
}

struct World {
    weather: Weather,
    link: Link,
    random: StdRng,
    alice: Rig,
    bob: Rig,
    events: BTreeMap<(Duration, u64), Event>,
    number: u64,
    asked: HashMap<TxId, Asked>,
    served: HashMap<TxId, Served>,
    seed: u64,
}

impl World {
    fn new(seed: u64, weather: Weather, link: Link) -> Self {
        let (alice, mut bob) = (Rig::new(), Rig::new());
        bob.start = alice.start;
        bob.now = alice.now;
        World {
            weather,
            link,
            random: StdRng::seed_from_u64(seed),
            alice,
            bob,
            events: BTreeMap::new(),
            number: 0,
            asked: HashMap::new(),
            served: HashMap::new(),
            seed,
        }
    }

    /// Plays `count` exchanges to their end.
    fn play(&mut self, count: u64) {
        for _ in 0..count {
            let at = Duration::from_millis(self.random.random_range(0..60_000));
            self.at(at, Event::Ask);
        }
        for _ in 0..200_000 {
            if !self.step() {
                return self.check_end();
            }
        }
        panic!("seed {}: it never ends", self.seed);
    }

    /// One event or timeout, whichever is first; `false` when there is none.
    fn step(&mut self) -> bool {
        let start = self.alice.start;
        let due = |rig: &Rig| rig.machine.poll_timeout().map(|at| at - start);
        let event = self.events.keys().next().map(|(at, _)| *at);
        let timeout = [due(&self.alice), due(&self.bob)].into_iter().flatten().min();
        let Some(at) = [event, timeout].into_iter().flatten().min() else {
            return false;
        };
        let now = start + at.max(self.alice.now - start);
        (self.alice.now, self.bob.now) = (now, now);
        if event == Some(at) {
            let (_, event) = self.events.pop_first().unwrap();
            self.happen(event);
        } else {
            self.alice.machine.handle_timeout(now);
            self.bob.machine.handle_timeout(now);
        }
        self.drain();
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(side, bytes) => {
                let message = SipMessage::parse(&bytes, &Limits::default()).unwrap();
                message.validate().unwrap();
                let rig = if side == Side::Alice {
                    &mut self.alice
                } else {
                    &mut self.bob
                };
                rig.machine.receive(rig.now, self.link, message);
            }
            Event::Ask => self.ask(),
            Event::Cancel(tx) => {
                let asked = &self.asked[&tx];
                let cancelled = self.alice.machine.cancel(tx, self.alice.now, &none());
                let open = asked.ended.is_none() && asked.finals.is_empty();
                assert_eq!(cancelled.is_ok(), open, "seed {}: {cancelled:?}", self.seed);
            }
            Event::Answer(tx, status) => self.answer(tx, status),
            Event::Again(tx, interval) => {
                let served = &self.served[&tx];
                if !served.acknowledged && served.ended.is_none() {
                    let ok = response(&served.request, 200);
                    self.bob.machine.respond(self.bob.now, tx, ok).unwrap();
                    self.later(interval, Event::Again(tx, (interval * 2).min(T1 * 8)));
                }
            }
        }
    }

    fn ask(&mut self) {
        let methods = [Method::Invite, Method::Invite, Method::Options, Method::Bye];
        let method = methods[self.random.random_range(0..methods.len())].clone();
        let asked = request(method, &format!("{}-{}", self.seed, self.asked.len()));
        let tx = self.alice.ask(&asked, self.link);
        self.asked.insert(
            tx,
            Asked {
                request: asked,
                finals: Vec::new(),
                provisional: false,
                ended: None,
            },
        );
    }

    /// Bob makes a plan.
    fn plan(&mut self, tx: TxId, invite: bool) {
        let mut time = Duration::ZERO;
        let mut soon = |world: &mut World, longest: u64, status: u16| {
            time += Duration::from_millis(world.random.random_range(0..longest));
            world.later(time, Event::Answer(tx, status));
        };
        if invite {
            if self.random.random_bool(0.5) {
                soon(self, 300, 100);
            }
            if self.random.random_bool(0.8) {
                soon(self, 3000, 180);
            }
            let status = [200, 200, 486, 603][self.random.random_range(0..4)];
            soon(self, 20_000, status);
        } else if self.random.random_bool(0.9) {
            soon(self, 6000, 200);
        }
    }

    fn answer(&mut self, tx: TxId, status: u16) {
        let served = self.served.get_mut(&tx).unwrap();
        if served.given.is_some() || served.ended.is_some() {
            return;
        }
        if status >= 200 {
            served.given = Some(status);
        }
        let answer = response(&served.request, status);
        let invite = served.request.method == Method::Invite;
        self.bob.machine.respond(self.bob.now, tx, answer).unwrap();
        if invite && status == 200 {
            if self.random.random_bool(0.2) {
                // Another fork's.
                let fork = tagged(&self.served[&tx].request, 200, "carol");
                self.bob.machine.respond(self.bob.now, tx, fork).unwrap();
            }
            self.later(T1, Event::Again(tx, T1 * 2));
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.alice.machine.poll() {
            self.alice_hears(output);
        }
        while let Some(output) = self.bob.machine.poll() {
            self.bob_hears(output);
        }
    }

    fn alice_hears(&mut self, output: Output<Link>) {
        let seed = self.seed;
        match output {
            Output::Send { bytes, .. } => self.carry(Side::Bob, bytes),
            Output::Response { tx, response, .. } => {
                let asked = self.asked.get_mut(&tx).unwrap();
                assert!(asked.ended.is_none(), "seed {seed}: {tx} has ended");
                if response.is_provisional() {
                    let first = !std::mem::replace(&mut asked.provisional, true);
                    if first && asked.request.method == Method::Invite && self.random.random_bool(0.3) {
                        let patience = Duration::from_millis(self.random.random_range(0..8000));
                        self.later(patience, Event::Cancel(tx));
                    }
                    return;
                }
                let repeatable = asked.request.method == Method::Invite && response.is_success();
                assert!(
                    asked.finals.is_empty()
                        || (repeatable && asked.finals.iter().all(|status| *status == 200)),
                    "seed {seed}: {} after {:?}",
                    response.status,
                    asked.finals
                );
                asked.finals.push(response.status);
                if repeatable {
                    let ack = ack_of_2xx(&asked.request, &response);
                    self.carry(Side::Bob, ack.to_bytes());
                }
            }
            Output::Ended { tx, end } => {
                let ended = self.asked.get_mut(&tx).unwrap().ended.replace(end);
                assert_eq!(ended, None, "seed {seed}: {tx} ended twice");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }

    fn bob_hears(&mut self, output: Output<Link>) {
        let seed = self.seed;
        match output {
            Output::Send { bytes, .. } => self.carry(Side::Alice, bytes),
            Output::Request { tx, request, .. } => {
                let invite = request.method == Method::Invite;
                let served = Served {
                    request,
                    given: None,
                    acknowledged: false,
                    cancelled: false,
                    ended: None,
                };
                assert!(
                    self.served.insert(tx, served).is_none(),
                    "seed {seed}: {tx} is used twice"
                );
                self.plan(tx, invite);
            }
            Output::Ack { request, .. } => {
                let call = request.headers.call_id().unwrap().to_owned();
                let of_call = |served: &&mut Served| served.request.headers.call_id().unwrap() == call;
                // One that comes when its transaction is long gone cannot be told from another.
                let timely = self.weather.delay <= ROUGH.delay;
                for served in self.served.values_mut().filter(of_call) {
                    assert!(
                        !timely || served.given == Some(200),
                        "seed {seed}: an ACK of a refusal came up"
                    );
                    served.acknowledged = true;
                }
            }
            Output::Cancelled { invite } => {
                let served = self.served.get_mut(&invite).unwrap();
                assert_eq!(
                    served.given, None,
                    "seed {seed}: cancelled behind its final answer"
                );
                assert!(
                    !std::mem::replace(&mut served.cancelled, true),
                    "seed {seed}: cancelled twice"
                );
                self.later(Duration::from_millis(10), Event::Answer(invite, 487));
            }
            Output::Ended { tx, end } => {
                let ended = self.served.get_mut(&tx).unwrap().ended.replace(end);
                assert_eq!(ended, None, "seed {seed}: {tx} ended twice");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }

    /// Over the wire. A connection neither loses nor copies nor reorders.
    fn carry(&mut self, to: Side, bytes: Bytes) {
        if self.link == Link::Tcp(1) {
            return self.later(Duration::from_millis(30), Event::Arrives(to, bytes));
        }
        let copies = 1 + usize::from(self.random.random_bool(self.weather.copies));
        for _ in 0..copies {
            if !self.random.random_bool(self.weather.loss) {
                let delay = Duration::from_millis(self.random.random_range(1..=self.weather.delay));
                self.later(delay, Event::Arrives(to, bytes.clone()));
            }
        }
    }

    fn later(&mut self, time: Duration, event: Event) {
        self.at(self.alice.now - self.alice.start + time, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    fn check_end(&self) {
        for rig in [&self.alice, &self.bob] {
            assert!(
                rig.machine.is_empty() && rig.machine.active() == 0,
                "seed {}",
                self.seed
            );
        }
        for asked in self.asked.values() {
            assert!(
                asked.ended.is_some(),
                "seed {}: {:?} never ended",
                self.seed,
                asked.request.method
            );
            if asked.ended == Some(TxEnd::Done) {
                assert!(
                    !asked.finals.is_empty(),
                    "seed {}: done without an answer",
                    self.seed
                );
            } else {
                assert!(
                    asked.finals.is_empty(),
                    "seed {}: timed out with an answer",
                    self.seed
                );
            }
        }
        for served in self.served.values() {
            assert!(
                served.ended.is_some(),
                "seed {}: {:?} never ended",
                self.seed,
                served.request.method
            );
        }
    }

    fn check_branches_heard_once(&self) {
        let mut calls: Vec<_> = self
            .served
            .values()
            .map(|served| served.request.headers.call_id().unwrap())
            .collect();
        let all = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), all, "seed {}: a request was heard twice", self.seed);
    }

    fn check_answers_arrived(&self) {
        let given: HashMap<_, _> = self
            .served
            .values()
            .map(|served| (served.request.headers.call_id().unwrap(), served.given))
            .collect();
        assert_eq!(given.len(), self.asked.len(), "seed {}", self.seed);
        for asked in self.asked.values() {
            let call = asked.request.headers.call_id().unwrap();
            assert_eq!(
                asked.finals.first().copied(),
                given[call],
                "seed {}: {call}",
                self.seed
            );
        }
    }
}

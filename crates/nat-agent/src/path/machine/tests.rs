//! What a path decides, in virtual time: two of them, joined by a wire that can be cut and that can lie.

mod resting;

use super::*;
use proptest::prelude::*;
use siprtc_core::ice::CandidateKind;

/// One way.
const DELAY: Duration = Duration::from_millis(10);

struct End {
    machine: Machine,
    addr: SocketAddr,
    events: Vec<PathEvent>,
    delivered: Vec<Vec<u8>>,
    /// Names that are to be resolved.
    asked: Vec<String>,
}

impl End {
    fn new(now: Instant, role: IceRole, name: &str, addr: &str) -> Self {
        let (mut number, ufrag) = (0, name.to_owned());
        let setup = Setup {
            factory: siprtc_ice_is::factory(),
            role,
            servers: Vec::new(),
            policy: IcePolicy::All,
            origin: now,
            resolves: true,
            credentials: Box::new(move || {
                number += 1;
                IceParameters {
                    ufrag: format!("{ufrag}{number}"),
                    pwd: format!("{ufrag}-password-of-a-fair-length-{number}"),
                    lite: false,
                }
            }),
            random: Box::new(|| 0.5),
        };
        let addr = addr.parse().unwrap();
        End {
            machine: Machine::new(now, setup, &[(addr, Use::All)]).unwrap(),
            addr,
            events: Vec::new(),
            delivered: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn last_state(&self) -> Option<IceState> {
        self.events.iter().rev().find_map(|event| match event {
            PathEvent::State(state) => Some(*state),
            _ => None,
        })
    }
}

/// A datagram under way: when it arrives, at which end, from where, what.
type Flying = (Instant, usize, SocketAddr, Vec<u8>);

struct World {
    now: Instant,
    ends: [End; 2],
    flying: Vec<Flying>,
    /// How many datagrams.
    sent: usize,
    is_cut: bool,
    /// Every datagram arrives changed in one bit of its last octet but those of a FINGERPRINT, so that only its signature is
    /// wrong.
    forges: bool,
}

impl World {
    fn new() -> Self {
        let now = tokio::time::Instant::now().into_std();
        let ends = [
            End::new(now, IceRole::Controlling, "caller", "192.0.2.1:5000"),
            End::new(now, IceRole::Controlled, "callee", "198.51.100.1:5000"),
        ];
        World {
            now,
            ends,
            flying: Vec::new(),
            sent: 0,
            is_cut: false,
            forges: false,
        }
    }

    fn connected() -> Self {
        let mut world = World::new();
        world.introduce(0, 1);
        world.introduce(1, 0);
        world.pass(Duration::from_secs(1));
        for end in &world.ends {
            assert_eq!(end.last_state(), Some(IceState::Connected));
        }
        world
    }

    /// `whom` learns of `of`.
    fn introduce(&mut self, of: usize, whom: usize) {
        let parameters = self.ends[of].machine.parameters();
        let candidates = self.ends[of].machine.tell_candidates();
        let learnt = self.ends[whom]
            .machine
            .set_remote(self.now, &parameters, &candidates);
        learnt.unwrap();
        self.drain(whom);
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.ends[at].machine.poll_output() {
            match output {
                Output::Event(event) => self.ends[at].events.push(event),
                Output::Send { to, data, .. } => self.send(at, to, data),
                Output::Known { .. } | Output::Left { .. } | Output::Named(_) => {}
                Output::Resolve { candidate, .. } => self.ends[at].asked.push(candidate.host),
                Output::Connect { .. } | Output::Stream { .. } => unreachable!("BUG: there is no server"),
            }
        }
    }

    fn send(&mut self, at: usize, to: SocketAddr, mut data: Vec<u8>) {
        let other = 1 - at;
        self.sent += 1;
        if self.is_cut || self.ends[other].addr != to {
            return;
        }
        if self.forges
            && let Some(octet) = data.len().checked_sub(12).and_then(|place| data.get_mut(place))
        {
            *octet ^= 1;
        }
        let from = self.ends[at].addr;
        self.flying.push((self.now + DELAY, other, from, data));
    }

    fn give(&mut self, at: usize, from: SocketAddr, data: &[u8]) {
        let End {
            machine, delivered, ..
        } = &mut self.ends[at];
        let input = Input::Datagram { base: 0, from, data };
        machine.handle(self.now, input, &mut |_, datagram| {
            delivered.push(datagram.to_vec())
        });
        self.drain(at);
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let timeouts = self.ends.iter().filter_map(|end| end.machine.poll_timeout());
            let arrivals = self.flying.iter().map(|(at, ..)| *at);
            let next = timeouts.chain(arrivals).min().map_or(end, |at| at.min(end));
            // Never twice the same moment: a machine that asks for the past is asked a little later.
            self.now = next.max(self.now + Duration::from_micros(100));
            let (arrived, flying) = std::mem::take(&mut self.flying)
                .into_iter()
                .partition(|(at, ..)| *at <= self.now);
            self.flying = flying;
            let arrived: Vec<Flying> = arrived;
            for (_, at, from, data) in arrived {
                self.give(at, from, &data);
            }
            for at in 0..2 {
                self.ends[at]
                    .machine
                    .handle(self.now, Input::Tick, &mut |_, _| ());
                self.drain(at);
            }
        }
    }
}

#[test]
fn two_that_know_each_other_are_connected_after_one_round_trip() {
    let mut world = World::new();
    world.introduce(0, 1);
    world.introduce(1, 0);
    world.pass(DELAY * 2 + Duration::from_millis(2));
    let pair = world.ends[0].machine.stats.pair.unwrap();
    assert_eq!(pair.local.kind, CandidateKind::Host);
    assert_eq!(pair.remote.addr, world.ends[1].addr);
}

#[test]
fn a_path_that_hears_nothing_is_disconnected_then_failed_and_sends_no_more() {
    let mut world = World::connected();
    world.is_cut = true;
    world.pass(Duration::from_secs(14));
    assert_eq!(world.ends[0].last_state(), Some(IceState::Disconnected));
    assert!(world.ends[0].machine.route(b"\x80").is_some());
    world.pass(Duration::from_secs(20));
    assert_eq!(world.ends[0].last_state(), Some(IceState::Failed));
    assert_eq!(world.ends[0].machine.route(b"\x80"), None);
}

#[test]
fn a_path_that_comes_back_in_time_is_connected_again() {
    let mut world = World::connected();
    world.is_cut = true;
    world.pass(Duration::from_secs(14));
    world.is_cut = false;
    world.pass(Duration::from_secs(8));
    assert_eq!(world.ends[0].last_state(), Some(IceState::Connected));
    assert_eq!(world.ends[0].machine.stats.round_trip, Some(DELAY * 2));
}

#[test]
fn an_answer_that_is_not_signed_is_no_consent() {
    let mut world = World::connected();
    world.forges = true;
    world.pass(Duration::from_secs(40));
    assert_eq!(world.ends[0].last_state(), Some(IceState::Failed));
}

#[test]
fn a_path_without_an_answer_fails_after_half_a_minute() {
    let mut world = World::new();
    world.is_cut = true;
    world.introduce(1, 0);
    world.pass(Duration::from_secs(29));
    assert_eq!(world.ends[0].last_state(), Some(IceState::Checking));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.ends[0].last_state(), Some(IceState::Failed));
}

#[test]
fn a_thousand_candidates_of_the_peers_are_thirty_two() {
    let mut world = World::new();
    let parameters = world.ends[1].machine.parameters();
    let candidates: Vec<Candidate> = (0..1_000)
        .map(|number| {
            let port = 10_000 + number;
            format!("1 1 udp 2130706431 203.0.113.9 {port} typ host")
                .parse()
                .unwrap()
        })
        .collect();
    let now = world.now;
    world.ends[0]
        .machine
        .set_remote(now, &parameters, &candidates)
        .unwrap();
    assert_eq!(world.ends[0].machine.current.remote.len(), 32);
    assert_eq!(world.ends[0].machine.current.refused, 968);
}

#[test]
fn credentials_that_are_none_are_the_peers_fault() {
    let mut world = World::new();
    let mut parameters = world.ends[1].machine.parameters();
    parameters.pwd = "short".to_owned();
    let now = world.now;
    let error = world.ends[0]
        .machine
        .set_remote(now, &parameters, &[])
        .unwrap_err();
    assert_eq!(error.fault(), Fault::PeerMisbehaved);
}

#[test]
fn a_restart_of_the_peers_is_answered_with_new_credentials_and_the_old_pair_carries_on() {
    let mut world = World::connected();
    let before = world.ends[1].machine.parameters();
    let now = world.now;
    world.ends[0].machine.restart(now, &|_| true).unwrap();
    world.introduce(0, 1);
    let after = world.ends[1].machine.parameters();
    assert_ne!(before.ufrag, after.ufrag);
    assert!(world.ends[1].machine.route(b"\x80").is_some());
    world.introduce(1, 0);
    world.pass(Duration::from_secs(2));
    for end in &world.ends {
        assert!(end.machine.next.is_none(), "the new generation has taken over");
        assert_eq!(end.last_state(), Some(IceState::Connected));
    }
}

#[test]
fn a_handshake_that_overtakes_the_answer_of_a_peer_without_ice_is_kept_for_it() {
    let mut world = World::new();
    let (now, from) = (world.now, "198.51.100.9:7000".parse().unwrap());
    let machine = &mut world.ends[0].machine;
    let local = machine.tell_candidates()[0].socket_addr().unwrap();
    let hello = |number: u8| vec![22, 254, 253, number];
    for number in 0..=4 {
        assert!(!machine.is_peer(from, &hello(number)));
    }
    assert!(
        !machine.is_peer(from, b"\x80\x00media"),
        "nothing says yet how it is encrypted"
    );
    machine.bypass(now, local, from).unwrap();
    let early: Vec<Vec<u8>> = machine.take_early().into_iter().map(|(data, _)| data).collect();
    assert_eq!(
        early,
        (1..=4).map(hello).collect::<Vec<_>>(),
        "bounded, the newest stay"
    );
    assert_eq!(machine.stats.strangers, 2);
    assert!(machine.is_peer(from, &hello(9)));
    assert!(machine.take_early().is_empty());
}

#[test]
fn nothing_of_strangers_is_kept_while_ice_finds_the_peer() {
    let mut world = World::connected();
    let machine = &mut world.ends[0].machine;
    assert!(!machine.is_peer("203.0.113.66:9".parse().unwrap(), &[22, 254, 253]));
    assert!(machine.take_early().is_empty());
}

#[test]
fn addresses_that_are_gone_are_not_offered_after_a_restart() {
    let mut world = World::connected();
    let now = world.now;
    let machine = &mut world.ends[0].machine;
    machine.add_base(now, "192.0.2.7:5000".parse().unwrap(), Use::All);
    machine
        .restart(now, &|addr| addr.ip().to_string() == "192.0.2.7")
        .unwrap();
    let told: Vec<String> = machine
        .tell_candidates()
        .into_iter()
        .map(|told| told.host)
        .collect();
    assert_eq!(told, ["192.0.2.7"]);
}

#[test]
fn a_flood_of_answers_that_nobody_asked_for_is_counted_and_changes_nothing() {
    let mut world = World::connected();
    let from = "203.0.113.66:9".parse().unwrap();
    let before = world.ends[0].machine.stats.strangers;
    for number in 0..10_000_u32 {
        let mut forged = vec![1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        forged.extend([0; 8]);
        forged.extend(number.to_be_bytes());
        world.give(0, from, &forged);
    }
    assert_eq!(world.ends[0].machine.stats.strangers - before, 10_000);
    assert!(world.ends[0].machine.known.len() < MOST_KNOWN);
    assert_eq!(world.ends[0].last_state(), Some(IceState::Connected));
}

proptest! {
    #[test]
    fn nothing_that_comes_makes_it_panic(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50),
        stun in any::<bool>(),
    ) {
        let mut world = World::connected();
        for mut datagram in datagrams {
            if stun && datagram.len() > 8 {
                datagram[0] &= 3;
                datagram[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
            let from = world.ends[1].addr;
            world.give(0, from, &datagram);
        }
        prop_assert_eq!(world.ends[0].last_state(), Some(IceState::Connected));
    }
}

use super::*;
use crate::peers::Network;
use crate::testing::start;
use crate::testing::words::{self, Words};
use crate::wire::TAILROOM;
use proptest::prelude::*;
use turn_types::attribute::{
    AdditionalAddressFamily, DontFragment, EvenPort, RequestedAddressFamily, RequestedTransport,
    ReservationToken, XorPeerAddress,
};
use turn_types::stun::attribute::RawAttribute;
use turn_types::stun::message::TransactionId;
use turn_types::stun::prelude::{AttributeStaticType, AttributeWrite};

const RELAYED: &str = "198.51.100.1:50000";

/// One machine with one client, in a time of its own.
struct World {
    machine: Machine,
    now: Now,
    flow: Flow,
    words: Words,
}

fn flow(port: u16) -> Flow {
    Flow {
        socket: 0,
        client: ([192, 0, 2, 1], port).into(),
    }
}

fn peer(last: u8) -> SocketAddr {
    ([203, 0, 113, last], 4000).into()
}

impl World {
    fn new() -> Self {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let epoch = start();
        let mut rules = Rules {
            realm: "realm.example".to_owned(),
            credentials: Credentials::named([("alice", "one"), ("bob", "two")]).with_secret("north"),
            peers: PeerPolicy::default(),
            families: vec![Family::V4],
            permissions: 4,
            challenges_per_s: 100,
            lifetime: Duration::from_secs(3600),
            epoch,
            nonces: Nonces::new(&[1; 32], epoch, Duration::from_secs(3600)),
            ledger: Ledger::new(3, 2),
        };
        change(&mut rules);
        World {
            machine: Machine::new(Arc::new(rules), Arc::default()),
            now: Now {
                instant: epoch,
                unix: 1000,
            },
            flow: flow(1000),
            words: Words::new("alice", "one"),
        }
    }

    /// With an allocation.
    fn allocated() -> Self {
        let mut world = World::new();
        assert_eq!(words::code(&world.allocate()), 0);
        world
    }

    fn later(&mut self, seconds: u64) {
        self.now.instant += Duration::from_secs(seconds);
        self.now.unix += seconds;
        self.machine.expire(self.now.instant);
    }

    /// The answer to a request; every port opens.
    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        assert_eq!(self.machine.client(self.now, self.flow, request), Verdict::Done);
        self.answer().expect("no answer")
    }

    fn answer(&mut self) -> Option<Vec<u8>> {
        let mut answer = None;
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Open { relay, .. } => self.machine.opened(relay, Some(RELAYED.parse().unwrap())),
                Output::Reply { flow, message } => {
                    assert_eq!(flow, self.flow);
                    assert!(answer.replace(message).is_none(), "two answers");
                }
                Output::Close { .. } => {}
            }
        }
        answer
    }

    fn challenge(&mut self) {
        self.words.nonce.clear();
        let request = self.words.allocate();
        let challenge = self.ask(&request);
        assert_eq!(words::code(&challenge), 401);
        self.words.learn(&challenge);
    }

    fn allocate(&mut self) -> Vec<u8> {
        self.challenge();
        let request = self.words.allocate();
        self.ask(&request)
    }

    fn permit(&mut self, peers: &[SocketAddr]) -> u16 {
        let request = self.words.permit(peers);
        words::code(&self.ask(&request))
    }

    fn bind(&mut self, number: u16, peer: SocketAddr) -> u16 {
        let request = self.words.bind(number, peer);
        words::code(&self.ask(&request))
    }

    /// What of a client's message is relayed to whom.
    fn relays(&mut self, message: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        match self.machine.client(self.now, self.flow, message) {
            Verdict::Done => {
                assert!(self.machine.poll().is_none(), "an answer to a packet");
                None
            }
            Verdict::Relay { peer, payload, .. } => Some((peer, message[payload].to_vec())),
        }
    }

    /// What a client gets of a peer's packet.
    fn delivers(&mut self, peer: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let relay = *self.machine.flows.get(&self.flow)?;
        let mut buffer = vec![0; HEADROOM + data.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + data.len()].copy_from_slice(data);
        let (flow, range) = self
            .machine
            .peer(self.now, relay, peer, &mut buffer, data.len())?;
        assert_eq!(flow, self.flow);
        Some(buffer[range].to_vec())
    }

    fn dropped(&self, why: Dropped) -> u64 {
        let meter = crate::Meter {
            workers: Arc::new([self.machine.counters.clone()]),
        };
        meter.snapshot().dropped.get(&why).copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        let machine = &self.machine;
        machine.allocations.is_empty() && machine.flows.is_empty() && machine.ends.is_empty()
    }
}

#[test]
fn a_binding_request_is_told_its_address() {
    let mut world = World::new();
    let answer = world.ask(&world.words.clone().request(BINDING, &[]));
    assert_eq!(words::mapped(&answer), world.flow.client);
}

#[test]
fn a_challenge_costs_no_state_and_a_source_gets_no_more_of_them_than_it_may() {
    let mut world = World::new();
    let mut answers = 0;
    for port in 0..10_000 {
        world.flow = flow(port);
        let request = world.words.allocate();
        world.machine.client(world.now, world.flow, &request);
        if let Some(answer) = world.answer() {
            assert_eq!(words::code(&answer), 401);
            assert!(answer.len() < 160, "an answer must not amplify: {}", answer.len());
            answers += 1;
        }
    }
    assert_eq!(answers, 100);
    assert_eq!(world.dropped(Dropped::Flooding), 9_900);
    assert!(world.is_empty());
    world.later(1);
    assert_eq!(words::code(&world.allocate()), 0);
}

#[test]
fn an_allocation_lives_as_long_as_it_is_refreshed() {
    let mut world = World::new();
    let answer = world.allocate();
    assert_eq!(words::relayed(&answer), RELAYED.parse().unwrap());
    assert_eq!(words::mapped(&answer), world.flow.client);
    assert_eq!(words::lifetime(&answer), 600);
    assert!(words::is_signed(&answer, &world.words.key()));
    for (asked, granted) in [(700, 700), (1, 600), (u32::MAX, 3600)] {
        let answer = world.ask(&world.words.clone().refresh(asked));
        assert_eq!((words::code(&answer), words::lifetime(&answer)), (0, granted));
        world.later(u64::from(granted) - 1);
        assert!(!world.is_empty());
        world.challenge();
    }
    world.later(1);
    assert_eq!(world.machine.poll(), Some(Output::Close { relay: 0 }));
    assert!(world.is_empty());
    assert_eq!(words::code(&world.ask(&world.words.clone().refresh(600))), 437);
}

#[test]
fn a_lifetime_of_zero_ends_an_allocation_and_no_other() {
    let mut world = World::allocated();
    let (one, other) = (world.flow, flow(2000));
    world.flow = other;
    assert_eq!(words::code(&world.allocate()), 0);
    let answer = world.ask(&world.words.clone().refresh(0));
    assert_eq!((words::code(&answer), words::lifetime(&answer)), (0, 0));
    assert!(world.machine.holds(&one) && !world.machine.holds(&other));
    world.machine.closed(&one);
    assert!(world.is_empty());
    assert_eq!(world.machine.poll(), Some(Output::Close { relay: 0 }));
}

#[test]
fn a_repeated_allocate_is_answered_alike_and_another_on_the_same_flow_is_a_mismatch() {
    let mut world = World::new();
    world.challenge();
    let request = world.words.allocate();
    let (first, again) = (world.ask(&request), world.ask(&request));
    assert_eq!((words::code(&first), &first), (0, &again));
    assert_eq!(words::code(&world.ask(&world.words.clone().allocate())), 437);
    assert_eq!(world.machine.allocations.len(), 1);
}

#[test]
fn without_an_allocation_everything_is_a_mismatch() {
    let mut world = World::new();
    world.challenge();
    assert_eq!(world.permit(&[peer(1)]), 437);
    assert_eq!(world.bind(0x4000, peer(1)), 437);
    assert_eq!(words::code(&world.ask(&world.words.clone().refresh(600))), 437);
    assert_eq!(world.relays(&words::send(peer(1), b"x")), None);
    assert_eq!(world.relays(&words::channel(0x4000, b"x")), None);
    assert_eq!(world.dropped(Dropped::NoAllocation), 2);
}

#[test]
fn wrong_credentials_are_challenged_and_a_stale_nonce_is_said_to_be_stale() {
    let mut world = World::new();
    world.challenge();
    for (name, password) in [("alice", "two"), ("carol", "one"), ("", "")] {
        let mut other = world.words.clone();
        (other.name, other.password) = (name.to_owned(), password.to_owned());
        let answer = world.ask(&other.allocate());
        assert_eq!(words::code(&answer), 401, "{name}");
        other.learn(&answer);
    }
    let forged = Words {
        nonce: "0000000000112233445566778899".to_owned(),
        ..world.words.clone()
    };
    assert_eq!(words::code(&world.ask(&forged.allocate())), 438);
    world.later(3601);
    let old = world.words.allocate();
    let answer = world.ask(&old);
    assert_eq!(words::code(&answer), 438);
    world.words.learn(&answer);
    assert_eq!(words::code(&world.ask(&world.words.clone().allocate())), 0);
}

#[test]
fn anothers_allocation_is_not_to_be_had() {
    let mut world = World::allocated();
    let mut bob = Words::new("bob", "two");
    (bob.realm, bob.nonce) = (world.words.realm.clone(), world.words.nonce.clone());
    assert_eq!(words::code(&world.ask(&bob.refresh(0))), 441);
    assert_eq!(words::code(&world.ask(&bob.permit(&[peer(1)]))), 441);
    assert_eq!(words::code(&world.ask(&bob.allocate())), 437);
    bob.name = "alice".to_owned();
    assert_eq!(words::code(&world.ask(&bob.refresh(0))), 401);
    assert!(!world.is_empty());
}

#[test]
fn a_time_limited_name_is_good_until_its_time_and_a_call_outlives_it() {
    let mut world = World::new();
    world.words = Words::new("1500:dave", &crate::rest_password("north", "1500:dave"));
    assert_eq!(words::code(&world.allocate()), 0);
    world.later(550);
    assert_eq!(words::code(&world.ask(&world.words.clone().refresh(600))), 0);
    world.flow = flow(2000);
    world.words.nonce.clear();
    assert_eq!(
        words::code(&world.allocate()),
        401,
        "a name that has expired makes no allocation"
    );
    world.words = Words::new("2500:dave", &crate::rest_password("south", "2500:dave"));
    assert_eq!(words::code(&world.allocate()), 401, "another's secret");
}

#[test]
fn quotas_and_the_servers_bound_are_told_apart_and_given_back() {
    let mut world = World::allocated();
    let mut codes = Vec::new();
    for (port, name, password) in [
        (1, "alice", "one"),
        (2, "alice", "one"),
        (3, "bob", "two"),
        (4, "bob", "two"),
    ] {
        world.flow = flow(port);
        world.words = Words::new(name, password);
        codes.push(words::code(&world.allocate()));
    }
    assert_eq!(codes, [0, 486, 0, 508]);
    world.flow = flow(1);
    world.words = Words::new("alice", "one");
    world.challenge();
    assert_eq!(words::code(&world.ask(&world.words.clone().refresh(0))), 0);
    world.flow = flow(2);
    assert_eq!(words::code(&world.allocate()), 0);
}

#[test]
fn a_user_cannot_escape_the_quota_by_names_of_other_times() {
    let mut world = World::new();
    let mut codes = Vec::new();
    for time in 1500..1503_u16 {
        let name = format!("{time}:dave");
        world.flow = flow(time);
        world.words = Words::new(&name, &crate::rest_password("north", &name));
        codes.push(words::code(&world.allocate()));
    }
    assert_eq!(codes, [0, 0, 486]);
}

#[test]
fn a_port_that_cannot_be_opened_is_no_capacity_and_leaves_nothing() {
    let mut world = World::new();
    for _ in 0..9 {
        world.challenge();
        let request = world.words.allocate();
        world.machine.client(world.now, world.flow, &request);
        let Some(Output::Open { relay, .. }) = world.machine.poll() else {
            panic!("nothing opens")
        };
        world.machine.opened(relay, None);
        assert_eq!(words::code(&world.answer().unwrap()), 508);
        assert!(world.is_empty());
    }
}

#[test]
fn what_an_allocate_may_not_ask_has_its_code() {
    let udp = RequestedTransport::new(RequestedTransport::UDP);
    let (v4, v6) = (turn_types::AddressFamily::IPV4, turn_types::AddressFamily::IPV6);
    let cases: [(u16, &[&dyn AttributeWrite]); 11] = [
        (400, &[]),
        (442, &[&RequestedTransport::new(6)]),
        (440, &[&udp, &RequestedAddressFamily::new(v6)]),
        (
            400,
            &[
                &udp,
                &RequestedAddressFamily::new(v4),
                &AdditionalAddressFamily::new(v6),
            ],
        ),
        (
            400,
            &[
                &udp,
                &RawAttribute::new(AdditionalAddressFamily::TYPE, &[1, 0, 0, 0]),
            ],
        ),
        (420, &[&udp, &DontFragment::new()]),
        (508, &[&udp, &EvenPort::new(true)]),
        (508, &[&udp, &ReservationToken::new(7)]),
        (400, &[&udp, &ReservationToken::new(7), &EvenPort::new(false)]),
        (400, &[&udp, &RawAttribute::new(EvenPort::TYPE, &[])]),
        (
            0,
            &[&udp, &EvenPort::new(false), &RequestedAddressFamily::new(v4)],
        ),
    ];
    let mut world = World::new();
    world.challenge();
    for (index, (code, attributes)) in cases.into_iter().enumerate() {
        let answer = world.ask(&world.words.clone().request(ALLOCATE, attributes));
        assert_eq!(words::code(&answer), code, "case {index}");
        assert!(words::is_signed(&answer, &world.words.key()), "case {index}");
    }
}

#[test]
fn packets_pass_for_permitted_peers_only_and_as_long_as_they_are() {
    let mut world = World::allocated();
    assert_eq!(world.relays(&words::send(peer(1), b"early")), None);
    assert_eq!(world.delivers(peer(1), b"early"), None);
    assert_eq!(world.permit(&[peer(1)]), 0);
    assert_eq!(
        world.relays(&words::send(peer(1), b"hello")),
        Some((peer(1), b"hello".to_vec()))
    );
    assert_eq!(world.relays(&words::send(peer(2), b"other")), None);
    let indication = world.delivers(peer(1), b"answer").unwrap();
    assert_eq!(words::data(&indication), (peer(1), b"answer".to_vec()));
    assert_eq!(world.delivers(peer(2), b"other"), None);
    world.later(299);
    assert!(world.delivers(peer(1), b"still").is_some());
    world.later(1);
    assert_eq!(world.delivers(peer(1), b"late"), None);
    assert_eq!(world.relays(&words::send(peer(1), b"late")), None);
    assert_eq!(world.dropped(Dropped::NoPermission), 6);
}

#[test]
fn a_channel_carries_packets_both_ways_as_long_as_it_is_bound_and_permitted() {
    let mut world = World::allocated();
    assert_eq!(world.relays(&words::channel(0x4000, b"early")), None);
    assert_eq!(world.bind(0x4000, peer(1)), 0);
    assert_eq!(
        world.relays(&words::channel(0x4000, b"hello")),
        Some((peer(1), b"hello".to_vec()))
    );
    assert_eq!(
        world.delivers(peer(1), b"1234"),
        Some(words::channel(0x4000, b"1234"))
    );
    assert_eq!(world.relays(&words::channel(0x4001, b"x")), None);
    assert_eq!(
        world.relays(&words::channel(0x4000, b"hello")[..6]),
        None,
        "cut short"
    );
    world.later(300);
    assert_eq!(
        world.relays(&words::channel(0x4000, b"x")),
        None,
        "the permission is over"
    );
    assert_eq!(world.permit(&[peer(1)]), 0);
    assert!(world.relays(&words::channel(0x4000, b"x")).is_some());
    world.later(299);
    assert!(world.relays(&words::channel(0x4000, b"x")).is_some());
    assert_eq!(words::code(&world.ask(&world.words.clone().refresh(600))), 0);
    world.later(1);
    assert_eq!(world.permit(&[peer(1)]), 0);
    assert_eq!(
        world.relays(&words::channel(0x4000, b"x")),
        None,
        "the channel is over"
    );
    let indication = world.delivers(peer(1), b"x").unwrap();
    assert_eq!(words::data(&indication).0, peer(1));
}

#[test]
fn a_channel_has_one_peer_and_a_peer_one_channel() {
    let mut world = World::allocated();
    assert_eq!(world.bind(0x4000, peer(1)), 0);
    assert_eq!(world.bind(0x4000, peer(1)), 0, "refreshed");
    assert_eq!(world.bind(0x4000, peer(2)), 400);
    assert_eq!(world.bind(0x4001, peer(1)), 400);
    assert_eq!(world.bind(0x3fff, peer(2)), 400);
    assert_eq!(world.bind(0x8000, peer(2)), 400);
    assert_eq!(world.bind(0x7fff, peer(2)), 0);
    let nameless = world.words.request(CHANNEL_BIND, &[]);
    assert_eq!(words::code(&world.ask(&nameless)), 400);
}

#[test]
fn permissions_and_channels_have_a_bound() {
    let mut world = World::allocated();
    let codes = [1, 2, 3, 4, 5].map(|last| world.permit(&[peer(last)]));
    assert_eq!(codes, [0, 0, 0, 0, 508]);
    assert_eq!(world.bind(0x4000, peer(5)), 508);
    assert_eq!(world.bind(0x4000, peer(4)), 0);
    world.later(300);
    assert_eq!(world.permit(&[5, 6, 7, 8].map(peer)), 0);
    assert_eq!(world.permit(&[9].map(peer)), 508);
}

#[test]
fn private_peers_are_refused_unless_they_are_allowed_by_name() {
    let local: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut world = World::allocated();
    assert_eq!(world.permit(&[local]), 403);
    assert_eq!(world.bind(0x4000, local), 403);
    assert_eq!(world.permit(&[peer(1), local]), 403);
    assert_eq!(world.relays(&words::send(peer(1), b"x")), None, "all or none");
    assert_eq!(world.permit(&["[2001:db8::1]:9".parse().unwrap()]), 443);
    assert_eq!(world.permit(&[]), 400);
    let mut world = World::with(|rules| rules.peers.allow = vec![Network::new(local.ip(), 32)]);
    world.allocate();
    assert_eq!(world.permit(&[local]), 0);
}

/// Whatever arrives: nothing panics, nothing is kept and nothing is relayed for who has no allocation.
fn survives(message: &[u8]) {
    let mut world = World::allocated();
    for flow in [flow(1), world.flow] {
        let verdict = world.machine.client(world.now, flow, message);
        let outputs = std::iter::from_fn(|| world.machine.poll()).count();
        assert!(outputs <= 1);
        if flow != world.flow {
            assert_eq!(verdict, Verdict::Done);
        }
    }
    assert!(world.machine.allocations.len() <= 1);
}

proptest! {
    #[test]
    fn no_datagram_does_harm(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&message);
    }

    #[test]
    fn no_attribute_does_harm(
        method in 0_u16..12,
        class in 0_u16..4,
        attributes in proptest::collection::vec((0_u16..0x30, proptest::collection::vec(any::<u8>(), 0..24)), 0..8),
    ) {
        let mut message = Vec::new();
        for (kind, value) in attributes {
            message.extend(kind.to_be_bytes());
            message.extend((value.len() as u16).to_be_bytes());
            message.extend(&value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let kind = method & 0xf | (class & 1) << 4 | (class & 2) << 7;
        let mut whole = kind.to_be_bytes().to_vec();
        whole.extend((message.len() as u16).to_be_bytes());
        whole.extend([0x21, 0x12, 0xa4, 0x42]);
        whole.extend([7; 12]);
        whole.extend(message);
        survives(&whole);
    }

    #[test]
    fn no_spoiled_request_does_harm(at in any::<prop::sample::Index>(), octet in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut world = World::allocated();
        let id = TransactionId::generate();
        let peer = XorPeerAddress::new(peer(1), id);
        for mut request in [world.words.request_as(id, CREATE_PERMISSION, &[&peer]), words::send(([1, 1, 1, 1], 1).into(), b"abcd")] {
            let index = at.index(request.len());
            request[index] = octet;
            let length = cut.index(request.len() + 1);
            world.machine.client(world.now, world.flow, &request);
            world.machine.client(world.now, world.flow, &request[..length]);
        }
    }
}

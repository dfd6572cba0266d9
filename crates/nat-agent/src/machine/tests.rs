//! The machine against servers made of test code, with time as an argument.

use super::*;
use crate::stun::Auth;
use proptest::prelude::*;
use rtc_stun::attributes::{
    ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS,
};
use rtc_stun::crypto::default_provider;
use rtc_stun::error_code::{ErrorCode, ErrorCodeAttribute};
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE, METHOD_BINDING, METHOD_REFRESH,
    MessageType, Setter,
};
use rtc_stun::textattrs::TextAttribute;
use rtc_stun::xoraddr::XorMappedAddress;

type StunMessage = rtc_stun::message::Message;

const MAPPED: &str = "203.0.113.9:4242";
const BUDGET: Duration = Duration::from_millis(200);
const INTERVAL: Duration = Duration::from_secs(30);

/// The machine, its clock, and everything it said.
struct Bench {
    machine: Machine,
    now: Instant,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    plans: Vec<(u64, Result<Plan>)>,
    events: Vec<NatEvent>,
    lookups: Vec<(usize, String, u16)>,
}

fn stun(host: &str) -> IceServer {
    IceServer {
        host: host.to_owned(),
        port: 3478,
        kind: IceServerKind::Stun,
    }
}

fn turn(host: &str) -> IceServer {
    let kind = IceServerKind::Turn {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    };
    IceServer {
        host: host.to_owned(),
        port: 3478,
        kind,
    }
}

impl Bench {
    fn new(servers: &[IceServer], policy: IcePolicy) -> Self {
        let config = NatConfig {
            servers: servers.to_vec(),
            policy,
            probe_timeout: BUDGET,
            probe_interval: INTERVAL,
            ..NatConfig::default()
        };
        let mut bench = Bench {
            machine: Machine::new(&config),
            // Any instant serves: the machine only compares and adds.
            now: tokio::time::Instant::now().into_std(),
            sent: Vec::new(),
            plans: Vec::new(),
            events: Vec::new(),
            lookups: Vec::new(),
        };
        bench.input(Input::Tick);
        bench
    }

    fn input(&mut self, input: Input<'_>) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Plan { id, result } => self.plans.push((id, result)),
                Output::Resolve { index, host, port } => self.lookups.push((index, host, port)),
                Output::Send { to, data } => self.sent.push((to, data)),
            }
        }
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            assert!(
                at >= self.now || self.machine.poll_timeout().is_some(),
                "a timer in the past never fires"
            );
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    fn request(&self) -> StunMessage {
        read(&self.sent.last().expect("something was sent").1)
    }

    /// The server answers the last request.
    fn reply(&mut self, make: impl FnOnce(&StunMessage) -> Vec<u8>) {
        let (to, data) = self.sent.last().expect("something was sent").clone();
        let answer = make(&read(&data));
        self.input(Input::Packet {
            from: to,
            data: &answer,
        });
    }

    fn plan(&mut self, id: u64) {
        self.input(Input::Plan { id });
    }

    /// The servers of the last plan.
    fn live(&self) -> Vec<&str> {
        let (_, result) = self.plans.last().expect("a plan");
        result
            .as_ref()
            .expect("a plan that works")
            .live
            .iter()
            .map(|server| server.host.as_str())
            .collect()
    }

    fn state(&self, index: usize) -> &ServerState {
        &self.machine.entries[index].known.as_ref().expect("a verdict").1
    }

    /// From the first Allocate to the one with credentials.
    fn challenge(&mut self) {
        self.reply(|request| refuse(request, 401, Some("nonce-1")));
    }
}

fn read(data: &[u8]) -> StunMessage {
    let mut message = StunMessage::new();
    message.unmarshal_binary(data).expect("STUN");
    message
}

fn answer_to(request: &StunMessage, class: rtc_stun::message::MessageClass) -> StunMessage {
    let mut message = StunMessage::new();
    message.transaction_id = request.transaction_id;
    message.write_header();
    message.set_type(MessageType::new(request.typ.method, class));
    message
}

fn accept(request: &StunMessage) -> Vec<u8> {
    let mut message = answer_to(request, CLASS_SUCCESS_RESPONSE);
    let mapped: SocketAddr = MAPPED.parse().unwrap();
    let mapped = XorMappedAddress {
        ip: mapped.ip(),
        port: mapped.port(),
    };
    mapped.add_to_as(&mut message, ATTR_XORMAPPED_ADDRESS).unwrap();
    message.raw
}

fn accept_signed(request: &StunMessage, password: &str) -> Vec<u8> {
    let mut message = read(&accept(request));
    let crypto = default_provider().unwrap();
    let [username, realm, password] = ["alice", "here", password].map(str::to_owned);
    MessageIntegrity::new_long_term_integrity_with_provider(username, realm, password, crypto.crypto())
        .unwrap()
        .add_to(&mut message)
        .unwrap();
    message.raw
}

fn refuse(request: &StunMessage, code: u16, nonce: Option<&str>) -> Vec<u8> {
    let mut message = answer_to(request, CLASS_ERROR_RESPONSE);
    ErrorCodeAttribute {
        code: ErrorCode(code),
        reason: b"Because".to_vec(),
    }
    .add_to(&mut message)
    .unwrap();
    if let Some(nonce) = nonce {
        TextAttribute::new(ATTR_REALM, "here".to_owned())
            .add_to(&mut message)
            .unwrap();
        TextAttribute::new(ATTR_NONCE, nonce.to_owned())
            .add_to(&mut message)
            .unwrap();
    }
    message.raw
}

#[test]
fn without_servers_a_call_is_planned_at_once() {
    let mut bench = Bench::new(&[], IcePolicy::All);
    bench.plan(1);
    assert!(bench.live().is_empty());
    assert_eq!(
        bench.machine.poll_timeout(),
        None,
        "and nothing wakes an idle agent"
    );
}

#[test]
fn a_stun_server_that_answers_is_in_the_plan_by_address() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    assert_eq!(bench.request().typ.method, METHOD_BINDING);
    bench.plan(1);
    assert!(bench.plans.is_empty(), "nothing is known yet: the call waits");
    bench.pass(Duration::from_millis(12));
    bench.reply(accept);
    assert_eq!(bench.live(), ["192.0.2.1"]);
    let alive = ServerState::Alive {
        round_trip: Duration::from_millis(12),
        mapped: MAPPED.parse().unwrap(),
    };
    assert_eq!(bench.state(0), &alive);
    assert!(matches!(bench.events.as_slice(), [NatEvent::ServerUp(report)] if report.state == alive));
}

#[test]
fn a_name_is_resolved_before_it_is_asked() {
    let mut bench = Bench::new(&[stun("stun.example.com")], IcePolicy::All);
    assert_eq!(bench.lookups, [(0, "stun.example.com".to_owned(), 3478)]);
    assert!(bench.sent.is_empty());
    bench.input(Input::Resolved {
        index: 0,
        result: Ok("192.0.2.7:3478".parse().unwrap()),
    });
    bench.reply(accept);
    bench.plan(1);
    assert_eq!(
        bench.live(),
        ["192.0.2.7"],
        "the engine need not ask the DNS again"
    );
}

#[test]
fn a_name_without_an_address_holds_nobody_up() {
    let mut bench = Bench::new(&[stun("stun.example.com")], IcePolicy::All);
    bench.plan(1);
    bench.input(Input::Resolved {
        index: 0,
        result: Err("no such name".to_owned()),
    });
    assert!(bench.live().is_empty());
    assert_eq!(
        bench.state(0),
        &ServerState::Unresolvable("no such name".to_owned())
    );
    bench.input(Input::Resolved {
        index: 0,
        result: Ok("192.0.2.7:3478".parse().unwrap()),
    });
    bench.input(Input::Resolved {
        index: 9,
        result: Err(String::new()),
    });
    assert!(
        bench.sent.is_empty(),
        "an answer that nobody waits for is no answer"
    );
}

#[test]
fn a_resolver_that_never_answers_is_told_apart_from_a_silent_server() {
    let mut bench = Bench::new(&[stun("stun.example.com")], IcePolicy::All);
    bench.pass(PROBE_LIMIT);
    assert!(matches!(bench.state(0), ServerState::Unresolvable(_)));
}

#[test]
fn a_dead_server_delays_the_first_call_by_the_budget_and_no_other() {
    let mut bench = Bench::new(&[stun("192.0.2.1"), stun("192.0.2.2")], IcePolicy::All);
    let (to, request) = bench.sent[0].clone();
    bench.plan(1);
    bench.input(Input::Packet {
        from: to,
        data: &accept(&read(&request)),
    });
    bench.pass(BUDGET - Duration::from_millis(1));
    assert!(bench.plans.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.live(), ["192.0.2.1"]);
    for id in 2..5 {
        bench.plan(id);
        assert_eq!(
            bench.plans.last().map(|(id, _)| *id),
            Some(id),
            "at once, while the probe goes on and after it"
        );
        bench.pass(PROBE_LIMIT);
    }
}

#[test]
fn a_slow_server_serves_the_next_call() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    bench.plan(1);
    bench.pass(Duration::from_millis(300));
    assert!(bench.live().is_empty());
    bench.reply(accept);
    bench.plan(2);
    assert_eq!(bench.live(), ["192.0.2.1"]);
}

#[test]
fn requests_are_sent_again_as_rfc_8489_says_and_then_the_server_is_silent() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    for (step, count) in [(499, 1), (1, 2), (999, 2), (1, 3), (1_999, 3)] {
        bench.pass(Duration::from_millis(step));
        assert_eq!(bench.sent.len(), count);
    }
    assert!(bench.events.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.state(0), &ServerState::Silent);
    assert!(
        bench.sent.iter().all(|(_, data)| *data == bench.sent[0].1),
        "one transaction, sent three times"
    );
}

#[test]
fn what_is_fresh_is_not_asked_again_and_what_is_old_is() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    bench.reply(accept);
    bench.pass(INTERVAL - Duration::from_millis(1));
    bench.plan(1);
    assert_eq!((bench.live(), bench.sent.len()), (vec!["192.0.2.1"], 1));
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sent.len(), 2, "the agent asks by itself, once per interval");
    bench.plan(2);
    assert_eq!(
        bench.plans.len(),
        1,
        "good news as old as that is worth a short wait"
    );
    bench.reply(accept);
    assert_eq!(bench.live(), ["192.0.2.1"]);
}

#[test]
fn a_server_that_dies_and_comes_back_is_told_once_each_time() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    bench.reply(accept);
    bench.pass(INTERVAL);
    bench.reply(accept);
    assert_eq!(bench.events.len(), 1, "still up is no news");
    bench.pass(INTERVAL + PROBE_LIMIT);
    assert!(
        matches!(bench.events.as_slice(), [_, NatEvent::ServerDown(_)]),
        "{:?}",
        bench.events
    );
    bench.pass(INTERVAL - PROBE_LIMIT);
    assert_eq!(bench.events.len(), 2, "still down is no news");
    bench.reply(accept);
    assert!(
        matches!(bench.events.as_slice(), [_, _, NatEvent::ServerUp(_)]),
        "{:?}",
        bench.events
    );
}

#[test]
fn times_that_make_no_sense_are_brought_within_reason() {
    for time in [Duration::ZERO, Duration::MAX] {
        let config = NatConfig {
            servers: vec![stun("192.0.2.1")],
            probe_timeout: time,
            probe_interval: time,
            ..NatConfig::default()
        };
        let mut machine = Machine::new(&config);
        let now = tokio::time::Instant::now().into_std();
        machine.handle(now, Input::Plan { id: 1 });
        assert!(machine.poll_timeout().is_some_and(|at| at <= now + MAX_BUDGET));
    }
}

#[test]
fn a_turn_server_is_alive_once_it_let_us_in_and_the_allocation_goes_back() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::Relay);
    bench.plan(1);
    let first = bench.request();
    assert_eq!(first.typ.method, METHOD_ALLOCATE);
    assert!(!first.contains(ATTR_USERNAME));
    bench.challenge();
    assert!(bench.request().contains(ATTR_USERNAME) && bench.request().contains(ATTR_MESSAGE_INTEGRITY));
    bench.reply(|request| accept_signed(request, "secret"));
    assert_eq!(bench.live(), ["192.0.2.1"]);
    let refresh = bench.request();
    assert_eq!(refresh.typ.method, METHOD_REFRESH);
    assert_eq!(refresh.get(ATTR_LIFETIME).unwrap(), [0; 4]);
    assert!(refresh.contains(ATTR_MESSAGE_INTEGRITY));
    bench.reply(|request| accept_signed(request, "secret"));
    let sent = bench.sent.len();
    bench.pass(INTERVAL - Duration::from_millis(1));
    assert_eq!(bench.sent.len(), sent, "and that was all");
}

#[test]
fn a_lost_refresh_is_repeated_and_spoils_nothing() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    bench.reply(|request| accept_signed(request, "secret"));
    let sent = bench.sent.len();
    bench.pass(PROBE_LIMIT);
    assert!(bench.sent.len() > sent);
    assert!(bench.state(0).is_alive());
    assert_eq!(bench.events.len(), 1);
}

#[test]
fn a_wrong_password_is_refused_with_its_code() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::Relay);
    bench.plan(1);
    bench.challenge();
    bench.reply(|request| refuse(request, 401, Some("nonce-2")));
    assert_eq!(
        bench.state(0),
        &ServerState::Refused {
            code: 401,
            reason: "Because".to_owned()
        }
    );
    let (_, result) = &bench.plans[0];
    let error = result.as_ref().unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    assert!(
        error
            .to_string()
            .contains("refuses user alice (401): check ice.servers[0].username/password"),
        "{error}"
    );
}

#[test]
fn a_stale_nonce_is_renewed_but_not_for_ever() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    for nonce in ["nonce-2", "nonce-3"] {
        bench.reply(|request| refuse(request, 438, Some(nonce)));
        assert_eq!(bench.request().get(ATTR_NONCE).unwrap(), nonce.as_bytes());
    }
    bench.reply(|request| refuse(request, 438, Some("nonce-4")));
    assert!(matches!(bench.state(0), ServerState::Refused { code: 438, .. }));
}

#[test]
fn an_old_allocation_in_the_way_is_given_back_first() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    bench.reply(|request| refuse(request, 437, None));
    assert_eq!(bench.request().typ.method, METHOD_REFRESH);
    bench.reply(|request| accept_signed(request, "secret"));
    assert_eq!(bench.request().typ.method, METHOD_ALLOCATE);
    bench.reply(|request| accept_signed(request, "secret"));
    assert!(bench.state(0).is_alive());
}

#[test]
fn answers_from_anybody_else_are_as_if_they_never_came() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    let (to, data) = bench.sent.last().unwrap().clone();
    let request = read(&data);
    let elsewhere = "192.0.2.66:3478".parse().unwrap();
    let other_id = read(&crate::stun::request(Ask::Allocate, None).unwrap().data);
    let mut other_method = request.clone();
    other_method.typ.method = METHOD_BINDING;
    for (from, packet) in [
        (elsewhere, accept_signed(&request, "secret")),
        (to, accept_signed(&other_id, "secret")),
        (to, accept_signed(&other_method, "secret")),
        (to, accept_signed(&request, "guessed")),
        (to, accept(&request)),
        (to, data.clone()),
        (to, b"hello".to_vec()),
    ] {
        bench.input(Input::Packet { from, data: &packet });
        assert!(bench.events.is_empty() && bench.sent.last().unwrap().1 == data);
    }
    assert!(!bench.machine.expects(elsewhere) && bench.machine.expects(to));
    bench.reply(|request| accept_signed(request, "secret"));
    assert!(bench.state(0).is_alive());
}

#[test]
fn a_server_that_answers_without_an_address_or_lets_everybody_in_is_not_used() {
    let mut bench = Bench::new(&[stun("192.0.2.1"), turn("192.0.2.2")], IcePolicy::All);
    for (to, data) in bench.sent.clone() {
        let request = read(&data);
        let packet = if request.typ.method == METHOD_BINDING {
            answer_to(&request, CLASS_SUCCESS_RESPONSE).raw
        } else {
            accept(&request)
        };
        bench.input(Input::Packet {
            from: to,
            data: &packet,
        });
    }
    bench.plan(1);
    assert!(bench.live().is_empty());
}

#[test]
fn relayed_only_without_a_turn_server_says_what_is_wrong() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::Relay);
    bench.reply(accept);
    bench.plan(1);
    let error = bench.plans[0].1.as_ref().unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::Relay);
    bench.plan(1);
    bench.pass(BUDGET);
    let error = bench.plans[0].1.as_ref().unwrap_err();
    assert_eq!(error.fault(), Fault::TimedOut);
    assert!(
        error
            .to_string()
            .contains("TURN server 192.0.2.1:3478 does not answer"),
        "{error}"
    );
}

#[test]
fn more_waiting_calls_than_the_bound_are_planned_with_what_is_known() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    for id in 0..MAX_WAITING as u64 {
        bench.plan(id);
    }
    assert!(bench.plans.is_empty());
    bench.plan(u64::MAX);
    assert_eq!(bench.plans.len(), 1);
    assert_eq!(bench.plans[0].0, u64::MAX);
    bench.pass(BUDGET);
    assert_eq!(bench.plans.len(), MAX_WAITING + 1);
}

#[test]
fn more_servers_than_the_bound_are_left_out() {
    let servers: Vec<IceServer> = (0..MAX_SERVERS + 3)
        .map(|n| stun(&format!("192.0.2.{n}")))
        .collect();
    assert_eq!(Bench::new(&servers, IcePolicy::All).sent.len(), MAX_SERVERS);
}

#[test]
fn credentials_longer_than_rfc_8489_allows_are_no_panic() {
    let mut server = turn("192.0.2.1");
    server.kind = IceServerKind::Turn {
        username: "x".repeat(600),
        password: "p".to_owned(),
    };
    let mut bench = Bench::new(&[server], IcePolicy::All);
    bench.challenge();
    assert!(matches!(bench.state(0), ServerState::Refused { code: 400, .. }));
    assert!(Auth::new("", "", String::new(), String::new()).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_makes_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        kind in 0..4_u8,
    ) {
        let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
        if kind > 1 {
            bench.challenge();
        }
        let (to, data) = bench.sent.last().unwrap().clone();
        bench.input(Input::Packet { from: to, data: &bytes });
        let request = read(&data);
        let mut packet = match kind {
            0 => refuse(&request, 401, Some("nonce")),
            1 => accept(&request),
            2 => accept_signed(&request, "secret"),
            _ => refuse(&request, 438, Some("nonce")),
        };
        // The header stays ours, so that the rest is looked at.
        for (at, byte) in flips {
            let at = 20 + at.index(packet.len() - 20);
            packet[at] = byte;
        }
        let shorter = 20 + cut.index(packet.len() - 19);
        bench.input(Input::Packet { from: to, data: &packet[..shorter] });
        bench.input(Input::Packet { from: to, data: &packet });
        bench.pass(INTERVAL * 2);
        prop_assert!(bench.machine.poll_timeout().is_some());
    }
}

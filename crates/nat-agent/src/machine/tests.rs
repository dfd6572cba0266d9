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

mod turn;

type StunMessage = rtc_stun::message::Message;

const MAPPED: &str = "203.0.113.9:4242";
const BUDGET: Duration = Duration::from_millis(200);
const INTERVAL: Duration = Duration::from_secs(30);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

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
    IceServer::udp(host, 3478, IceServerKind::Stun)
}

fn turn(host: &str) -> IceServer {
    let kind = IceServerKind::Turn {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    };
    IceServer::udp(host, 3478, kind)
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
            machine: Machine::new(now(), SystemTime::UNIX_EPOCH, &config),
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
    /// The addresses of the servers in the last plan.
    fn live(&self) -> Vec<String> {
        let (_, result) = self.plans.last().expect("a plan");
        result
            .as_ref()
            .expect("a plan that works")
            .live
            .iter()
            .map(|server| server.addr.expect("an address").ip().to_string())
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
    assert_eq!(
        (bench.live(), bench.sent.len()),
        (vec!["192.0.2.1".to_owned()], 1)
    );
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
        let mut machine = Machine::new(now(), SystemTime::UNIX_EPOCH, &config);
        let now = tokio::time::Instant::now().into_std();
        machine.handle(now, Input::Plan { id: 1 });
        assert!(machine.poll_timeout().is_some_and(|at| at <= now + MAX_BUDGET));
    }
}

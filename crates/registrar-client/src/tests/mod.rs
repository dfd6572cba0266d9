//! The machine against a registrar played by the test, in time that the test makes pass.

mod credentials;
mod failover;
mod flows;
mod keepalives;
mod leaving;
mod random;
mod registering;
mod roaming;

use crate::entropy::Entropy;
use crate::io::{Input, LeaveFailure, Output};
use crate::machine::Machine;
use crate::scope::Abilities;
use crate::{RegistrarConfig, RegistrationEvent};
use siprtc_core::sip::{
    DigestSecret, Feature, Flow, FlowId, Gap, Keepalive, Route, SipCapability, SipRequest, SipResponse,
    SipUri, Transport, TxEnd, TxId, TxOwner,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A REGISTER as the registrar sees it.
#[derive(Debug)]
struct Sent {
    tx: TxId,
    request: SipRequest,
    route: Route,
}

impl Sent {
    fn sequence(&self) -> u32 {
        self.request.headers.cseq().unwrap().sequence
    }

    fn expires(&self) -> u32 {
        self.request.headers.expires().unwrap().unwrap()
    }

    /// The next hop, or nothing.
    fn hop(&self) -> String {
        self.route
            .next_hop
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// A 200 that lists the contact as it was sent.
    fn ok(&self) -> SipResponse {
        let mut ok = self.request.response(200);
        ok.headers.copy_from(&self.request.headers, "Contact");
        ok
    }

    fn answer(&self, status: u16) -> SipResponse {
        self.request.response(status)
    }
}

struct Bench {
    machine: Machine,
    now: Instant,
    sent: Vec<Sent>,
    /// How many there were.
    count: usize,
    events: Vec<RegistrationEvent>,
    left: Vec<Result<(), LeaveFailure>>,
    /// Keepalives sent, and when.
    beats: Vec<(FlowId, Keepalive, Instant)>,
    closed: Vec<FlowId>,
    /// What the flows of answers are over.
    transport: Transport,
}

impl Bench {
    fn new(config: RegistrarConfig) -> Self {
        Bench::over(config, CAPABLE)
    }

    fn over(config: RegistrarConfig, capability: SipCapability) -> Self {
        config.validate().unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let entropy = Entropy::new(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        });
        let now = tokio::time::Instant::now().into_std();
        let abilities = Abilities::of(&capability);
        Bench {
            machine: Machine::new(&config, TxOwner::user(3), abilities, entropy, now),
            now,
            sent: Vec::new(),
            count: 0,
            events: Vec::new(),
            left: Vec::new(),
            beats: Vec::new(),
            closed: Vec::new(),
            transport: Transport::Tcp,
        }
    }

    /// Begun, with its first REGISTER.
    fn begun(config: RegistrarConfig) -> (Self, Sent) {
        let mut bench = Bench::new(config);
        bench.input(Input::Register);
        let first = bench.take();
        (bench, first)
    }

    /// Registered, the event taken.
    fn registered(config: RegistrarConfig) -> (Self, Sent) {
        let (mut bench, first) = Bench::begun(config);
        bench.respond(&first, first.ok());
        assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
        (bench, first)
    }

    fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::CloseFlow(flow) => self.closed.push(flow),
                Output::Keepalive { flow, kind } => self.beats.push((flow, kind, self.now)),
                Output::Left(result) => self.left.push(result),
                Output::Report(event) => self.events.push(event),
                Output::Send { tx, request, route } => {
                    self.count += 1;
                    self.sent.push(Sent {
                        tx,
                        request: *request,
                        route,
                    });
                }
            }
        }
    }

    fn respond(&mut self, to: &Sent, response: SipResponse) {
        self.respond_on(to, response, 7);
    }

    fn respond_on(&mut self, to: &Sent, response: SipResponse, flow: u64) {
        self.input(Input::Response {
            tx: to.tx,
            response,
            flow: Some(flow_of(flow, self.transport)),
        });
        self.input(Input::Ended {
            tx: to.tx,
            end: TxEnd::Done,
        });
    }

    fn ended(&mut self, tx: TxId, end: TxEnd) {
        self.input(Input::Ended { tx, end });
    }

    fn flow_down(&mut self, id: u64) {
        self.input(Input::FlowDown {
            id: FlowId(id),
            reason: "closed by peer".to_owned(),
        });
    }

    /// To the next timer; says how long that was.
    fn sleep(&mut self) -> Duration {
        let due = self.machine.poll_timeout().expect("a timer is armed");
        let slept = due.saturating_duration_since(self.now);
        self.now += slept;
        self.input(Input::Timeout);
        slept
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.input(Input::Timeout);
    }

    /// The one REGISTER that was sent.
    fn take(&mut self) -> Sent {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        self.sent.remove(0)
    }

    /// The one event that was reported.
    fn event(&mut self) -> RegistrationEvent {
        assert_eq!(self.events.len(), 1, "{:?}", self.events);
        self.events.remove(0)
    }

    fn is_quiet(&self) -> bool {
        self.sent.is_empty() && self.events.is_empty() && self.left.is_empty()
    }
}

/// A stack that can do everything.
const CAPABLE: SipCapability = SipCapability {
    transports: &[Transport::Tcp, Transport::Udp],
    keepalives: &[Keepalive::Crlf, Keepalive::Stun],
    gaps: &[],
};

/// A stack that chooses its connections itself and says nothing of keepalives.
const PLAIN: SipCapability = SipCapability {
    gaps: &[
        Gap {
            feature: Feature::FlowControl,
            why: "a test",
        },
        Gap {
            feature: Feature::KeepaliveAnswers,
            why: "a test",
        },
    ],
    ..CAPABLE
};

fn flow_of(id: u64, transport: Transport) -> Flow {
    Flow {
        id: FlowId(id),
        transport,
        local: SocketAddr::from(([192, 0, 2, 7], 5062)),
        remote: SocketAddr::from(([192, 0, 2, 1], 5060)),
    }
}

fn uri(text: &str) -> SipUri {
    text.parse().unwrap()
}

fn config() -> RegistrarConfig {
    let contact = "<sip:alice@192.0.2.7:5062>".parse().unwrap();
    RegistrarConfig::new(uri("sip:alice@example.com"), contact)
}

fn with_registrars(registrars: &[&str]) -> RegistrarConfig {
    RegistrarConfig {
        registrars: registrars.iter().map(|text| uri(text)).collect(),
        ..config()
    }
}

fn with_secret() -> RegistrarConfig {
    let secret = DigestSecret {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    };
    RegistrarConfig {
        secret: Some(secret),
        ..config()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

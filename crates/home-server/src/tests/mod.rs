//! The machine, driven by scripted messages: no socket, no clock.

mod calls;
mod flows;
mod forks;
mod hostile;
mod registrations;
mod relay;

use crate::config::Users;
use crate::machine::{Machine, MachineConfig, Output};
use crate::registrar::RegistrarConfig;
use bytes::Bytes;
use siprtc_core::sip::{
    Challenge, DigestClient, DigestSecret, Flow, FlowId, Headers, Limits, Listener, NameAddr, Route,
    SipMessage, SipRequest, SipResponse, StackEvent, Transport, TxEnd, TxId, TxIds, TxOwner, Uri,
};
use std::time::{Duration, Instant};

const DOMAIN: &str = "home.example";
const SERVER_UDP: &str = "192.0.2.1:5060";
const SERVER_TCP: &str = "192.0.2.1:5070";
/// 64 * T1.
const SPAN: Duration = Duration::from_secs(32);

/// A request that the machine sent on.
#[derive(Clone, Debug)]
struct Sent {
    tx: TxId,
    request: SipRequest,
    route: Route,
}

struct Rig {
    machine: Machine,
    now: Instant,
    stack_ids: TxIds,
    serial: u32,
    /// What came out and has not been looked at.
    out: Vec<Output>,
}

impl Rig {
    fn new() -> Self {
        Rig::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut MachineConfig)) -> Self {
        let listener = |transport, addr: &str| {
            let addr = addr.parse().expect("an address");
            Listener {
                transport,
                bound: addr,
                advertised: addr,
            }
        };
        let mut config = MachineConfig {
            realm: DOMAIN.to_owned(),
            domain: DOMAIN.parse().expect("a host"),
            listeners: vec![
                listener(Transport::Udp, SERVER_UDP),
                listener(Transport::Tcp, SERVER_TCP),
            ],
            users: Users::named(["alice", "bob", "carol"].map(|name| (name, format!("{name}'s secret")))),
            key: [7; 32],
            registrar: RegistrarConfig {
                min_expires: 60,
                max_expires: 7200,
                max_bindings: 3,
                max_users: 100,
                flow_timer: 120,
                keeps_udp: true,
            },
            max_forwarded: 50,
            t1: Duration::from_millis(500),
            record_route: true,
        };
        change(&mut config);
        let now = tokio::time::Instant::now().into_std();
        let machine = Machine::new(now, config);
        Rig {
            machine,
            now,
            stack_ids: TxIds::new(TxOwner::STACK),
            serial: 0,
            out: Vec::new(),
        }
    }

    fn handle(&mut self, event: StackEvent) {
        self.machine.handle(self.now, event);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll() {
            self.out.push(output);
        }
    }

    /// Lets time pass, with every timeout on the way.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.machine.handle_timeout(self.now);
            self.drain();
            assert!(
                self.machine.poll_timeout().is_none_or(|next| next > at),
                "a timeout that does not go away"
            );
        }
        self.now = until;
    }

    /// A request from `user`'s phone; see [`phone`].
    fn request(&mut self, method: &str, user: &str, uri: &str, to: &str, extra: &str) -> SipRequest {
        self.serial += 1;
        let n = self.serial;
        let Flow {
            remote, transport, ..
        } = phone(user);
        request(&format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {remote};branch=z9hG4bK{n};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@{DOMAIN}>;tag=from-{user}\r\n\
             To: {to}\r\n\
             Call-ID: call-of-{user}\r\n\
             CSeq: {n} {method}\r\n\
             {extra}\r\n"
        ))
    }

    fn receive(&mut self, request: SipRequest, flow: Flow) -> TxId {
        let tx = self.stack_ids.mint();
        self.handle(StackEvent::Request { tx, request, flow });
        tx
    }

    /// Sends a request, satisfies the challenge, and gives the transaction of the second try.
    fn authenticated(&mut self, user: &str, request: SipRequest) -> TxId {
        let flow = phone(user);
        let tx = self.receive(request.clone(), flow);
        let challenge = self.answer(tx);
        let request = self.with_credentials(user, request, &challenge);
        self.receive(request, flow)
    }

    fn with_credentials(
        &mut self,
        user: &str,
        mut request: SipRequest,
        challenge: &SipResponse,
    ) -> SipRequest {
        let (name, challenges): (_, Vec<Challenge>) = match challenge.status {
            401 => (
                "Authorization",
                challenge.headers.www_challenges().expect("challenges"),
            ),
            407 => (
                "Proxy-Authorization",
                challenge.headers.proxy_challenges().expect("challenges"),
            ),
            other => panic!("{other} is no challenge"),
        };
        let secret = DigestSecret {
            username: user.to_owned(),
            password: format!("{user}'s secret"),
        };
        let credentials = DigestClient::new(secret)
            .answer(&challenges, &request.method, &request.uri, "cnonce")
            .expect("credentials");
        request.headers.push(name, credentials);
        self.serial += 1;
        let method = request.method.clone();
        request.headers.set("CSeq", format!("{} {method}", self.serial));
        request
    }

    fn register(&mut self, user: &str, extra: &str) -> SipResponse {
        let to = format!("<sip:{user}@{DOMAIN}>");
        let request = self.request("REGISTER", user, &format!("sip:{DOMAIN}"), &to, extra);
        let tx = self.authenticated(user, request);
        self.answer(tx)
    }

    /// Registers the phone's own contact.
    fn at_home(&mut self, user: &str) {
        let contact = contact(user);
        assert_eq!(
            self.register(user, &format!("Contact: <{contact}>\r\n")).status,
            200
        );
    }

    /// An INVITE that has passed the challenge, and its branches.
    fn call(&mut self, caller: &str, callee: &str) -> (TxId, Vec<Sent>) {
        let uri = format!("sip:{callee}@{DOMAIN}");
        let extra = format!("Contact: <{}>\r\n", contact(caller));
        let invite = self.request("INVITE", caller, &uri, &format!("<{uri}>"), &extra);
        let tx = self.authenticated(caller, invite);
        assert_eq!(self.answer(tx).status, 100);
        let sent = self.sent();
        (tx, sent)
    }

    /// A response on a branch, with the stack's own Via on top.
    fn respond(&mut self, branch: &Sent, status: u16) {
        let tx = branch.tx;
        let response = response(branch, status);
        self.handle(StackEvent::Response {
            tx,
            response,
            flow: None,
        });
    }

    fn end(&mut self, branch: &Sent, end: TxEnd) {
        self.handle(StackEvent::TxEnded { tx: branch.tx, end });
    }

    /// The next answer to a server transaction.
    fn answer(&mut self, tx: TxId) -> SipResponse {
        let place = self
            .out
            .iter()
            .position(|output| matches!(output, Output::Respond { tx: t, .. } if *t == tx));
        let place = place.unwrap_or_else(|| panic!("no answer to {tx} in {:?}", self.out));
        match self.out.remove(place) {
            Output::Respond { response, .. } => response,
            _ => unreachable!(),
        }
    }

    fn sent(&mut self) -> Vec<Sent> {
        let (sent, rest) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|o| matches!(o, Output::Request { .. }));
        self.out = rest;
        let of = |output| match output {
            Output::Request { tx, request, route } => Sent { tx, request, route },
            _ => unreachable!(),
        };
        Vec::into_iter(sent).map(of).collect()
    }

    fn acks(&mut self) -> Vec<(SipRequest, Route)> {
        let (acks, rest) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|o| matches!(o, Output::Ack { .. }));
        self.out = rest;
        let of = |output| match output {
            Output::Ack { request, route } => (request, route),
            _ => unreachable!(),
        };
        Vec::into_iter(acks).map(of).collect()
    }

    /// The branches cancelled since the last look.
    fn cancels(&mut self) -> Vec<(TxId, Headers)> {
        let (cancels, rest) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|o| matches!(o, Output::Cancel { .. }));
        self.out = rest;
        let of = |output| match output {
            Output::Cancel { invite, extra } => (invite, extra),
            _ => unreachable!(),
        };
        Vec::into_iter(cancels).map(of).collect()
    }

    /// Nothing came out that the test has not looked at.
    fn silent(&self) {
        assert!(self.out.is_empty(), "unexpected: {:?}", self.out);
    }
}

fn request(text: &str) -> SipRequest {
    match SipMessage::parse(&Bytes::from(text.to_owned()), &Limits::default()) {
        Ok(SipMessage::Request(request)) => request,
        other => panic!("no request: {other:?} from {text}"),
    }
}

fn response(branch: &Sent, status: u16) -> SipResponse {
    let mut response = branch.request.response(status);
    response
        .headers
        .push_front("Via", format!("SIP/2.0/UDP {SERVER_UDP};branch=z9hG4bK-home"));
    let to = response.headers.to().expect("a To");
    if status > 100 && to.tag().is_none() {
        response
            .headers
            .set("To", to.with_tag(format!("tag-{}", branch.tx)));
    }
    response
}

/// alice and carol are on UDP, bob on a TCP connection; dave, a stranger, on UDP.
fn phone(user: &str) -> Flow {
    let (id, transport, remote, local) = match user {
        "alice" => (1, Transport::Udp, "192.0.2.10:5060", SERVER_UDP),
        "bob" => (2, Transport::Tcp, "192.0.2.20:49152", SERVER_TCP),
        "carol" => (3, Transport::Udp, "192.0.2.30:5060", SERVER_UDP),
        _ => (4, Transport::Udp, "192.0.2.40:5060", SERVER_UDP),
    };
    Flow {
        id: FlowId(id),
        transport,
        local: local.parse().expect("an address"),
        remote: remote.parse().expect("an address"),
    }
}

fn contact(user: &str) -> String {
    let Flow {
        transport, remote, ..
    } = phone(user);
    match transport {
        Transport::Tcp => format!("sip:{user}@{};transport=tcp", remote.ip()),
        _ => format!("sip:{user}@{remote}"),
    }
}

fn uri(text: &str) -> Uri {
    text.parse().expect("a URI")
}

fn routes(headers: &Headers, name: &str) -> Vec<NameAddr> {
    match name {
        "Record-Route" => headers.record_routes().expect("Record-Route"),
        _ => headers.routes().expect("Route"),
    }
}

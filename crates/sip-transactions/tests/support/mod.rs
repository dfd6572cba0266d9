//! A machine with a made-up clock, and messages for it.
#![allow(dead_code, reason = "every test file uses another part")]

pub(crate) mod steps;

use siprtc_core::sip::{
    Headers, Limits, Method, SipMessage, SipRequest, SipResponse, TimerConfig, TxEnd, TxId, TxIds, TxOwner,
    Uri,
};
use siprtc_sip_transactions::{Output, Path, Transactions, TransactionsConfig};
use std::time::{Duration, Instant};

pub(crate) const T1: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    Tcp(u8),
    Udp(u8),
}

impl Path for Link {
    fn is_reliable(&self) -> bool {
        matches!(self, Link::Tcp(_))
    }
}

/// What came out of a machine, with messages read back.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Ack(SipRequest),
    Cancelled(TxId),
    Ended(TxId, TxEnd),
    Request(TxId, SipRequest),
    Response(TxId, SipResponse),
    Asked(Link, SipRequest, Option<TxId>),
    Answered(Link, SipResponse, Option<TxId>),
}

impl Out {
    /// In one word each.
    pub(crate) fn word(&self) -> String {
        match self {
            Out::Ack(_) => "up ACK".to_owned(),
            Out::Cancelled(_) => "cancelled".to_owned(),
            Out::Ended(_, TxEnd::Done) => "done".to_owned(),
            Out::Ended(_, TxEnd::TimedOut) => "timed out".to_owned(),
            Out::Ended(_, TxEnd::Transport(why)) => why.clone(),
            Out::Request(_, request) => format!("up {}", request.method),
            Out::Response(_, response) => format!("up {}", response.status),
            Out::Asked(_, request, _) => request.method.to_string(),
            Out::Answered(_, response, _) => response.status.to_string(),
        }
    }
}

pub(crate) struct Rig {
    pub(crate) machine: Transactions<Link>,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) ids: TxIds,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Rig::with(100)
    }

    pub(crate) fn with(max_transactions: usize) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an instant can only be had from the clock; from here on time is made up"
        )]
        let start = Instant::now();
        Rig {
            machine: Transactions::new(TransactionsConfig {
                timers: TimerConfig::default(),
                max_transactions,
            }),
            start,
            now: start,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    pub(crate) fn outs(&mut self) -> Vec<Out> {
        std::iter::from_fn(|| self.machine.poll()).map(read).collect()
    }

    /// The words of what came out.
    pub(crate) fn words(&mut self) -> String {
        words(&self.outs())
    }

    pub(crate) fn ask(&mut self, request: &SipRequest, path: Link) -> TxId {
        let tx = self.ids.mint();
        self.machine
            .send_request(self.now, tx, request.clone(), path)
            .unwrap();
        tx
    }

    pub(crate) fn hear(&mut self, path: Link, message: impl Into<Heard>) -> String {
        self.machine.receive(self.now, path, message.into().0);
        self.words()
    }

    pub(crate) fn answer(&mut self, tx: TxId, response: SipResponse) -> String {
        self.machine.respond(self.now, tx, response).unwrap();
        self.words()
    }

    /// A request from outside that the machine announces.
    pub(crate) fn served(&mut self, path: Link, request: &SipRequest) -> TxId {
        self.machine
            .receive(self.now, path, SipMessage::Request(request.clone()));
        match &self.outs()[..] {
            [Out::Request(tx, heard)] if heard == request => *tx,
            other => panic!("expected a request, but came {other:?}"),
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        self.machine.handle_timeout(self.now);
        self.words()
    }

    /// Lets time go by until nothing more is due for an hour, and says what came out when, in seconds from now.
    pub(crate) fn run(&mut self) -> String {
        self.run_for(Duration::from_secs(3601))
    }

    pub(crate) fn run_for(&mut self, time: Duration) -> String {
        let (from, until) = (self.now, self.now + time);
        let mut said = Vec::new();
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            for out in self.outs() {
                said.push(format!("{} {}", (self.now - from).as_secs_f64(), out.word()));
            }
        }
        self.now = until;
        said.join(", ")
    }
}

pub(crate) struct Heard(pub(crate) SipMessage);

impl From<SipRequest> for Heard {
    fn from(request: SipRequest) -> Self {
        Heard(SipMessage::Request(request))
    }
}

impl From<SipResponse> for Heard {
    fn from(response: SipResponse) -> Self {
        Heard(SipMessage::Response(response))
    }
}

pub(crate) fn words(outs: &[Out]) -> String {
    outs.iter().map(Out::word).collect::<Vec<_>>().join(", ")
}

fn read(output: Output<Link>) -> Out {
    match output {
        Output::Ack { request, .. } => Out::Ack(request),
        Output::Cancelled { invite } => Out::Cancelled(invite),
        Output::Ended { tx, end } => Out::Ended(tx, end),
        Output::Request { tx, request, .. } => Out::Request(tx, request),
        Output::Response { tx, response, .. } => Out::Response(tx, response),
        Output::Send { path, bytes, tx } => match SipMessage::parse(&bytes, &Limits::default()).unwrap() {
            SipMessage::Request(request) => Out::Asked(path, request, tx),
            SipMessage::Response(response) => Out::Answered(path, response, tx),
        },
    }
}

/// A whole request with `branch` behind the cookie.
pub(crate) fn request(method: Method, branch: &str) -> SipRequest {
    let cseq = format!("7 {method}");
    let mut request = SipRequest::new(method, "sip:bob@example.com".parse::<Uri>().unwrap());
    for (name, value) in [
        (
            "Via",
            format!("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch};rport").as_str(),
        ),
        ("Route", "<sip:p1.example.com;lr>"),
        ("Route", "<sip:p2.example.com;lr>"),
        ("Max-Forwards", "70"),
        ("From", "<sip:alice@example.com>;tag=alice"),
        ("To", "<sip:bob@example.com>"),
        ("Call-ID", branch),
        ("CSeq", cseq.as_str()),
        ("Contact", "<sip:alice@192.0.2.1>"),
        ("Content-Length", "0"),
    ] {
        request.headers.push(name, value);
    }
    request
}

/// With a To-tag.
pub(crate) fn response(request: &SipRequest, status: u16) -> SipResponse {
    tagged(request, status, "bob")
}

pub(crate) fn tagged(request: &SipRequest, status: u16, tag: &str) -> SipResponse {
    let mut response = request.response(status);
    if status > 100 {
        let to = response.headers.to().unwrap().with_tag(tag);
        response.headers.set("To", to);
    }
    response
}

/// RFC 3261 section 17.1.1.3.
pub(crate) fn ack_of(invite: &SipRequest, response: &SipResponse) -> SipRequest {
    let mut ack = follow(invite, Method::Ack);
    ack.headers.set("To", response.headers.value("To").unwrap());
    ack
}

/// The ACK or CANCEL of `invite`, with its branch.
pub(crate) fn follow(invite: &SipRequest, method: Method) -> SipRequest {
    let mut request = SipRequest::new(method.clone(), invite.uri.clone());
    for name in ["Via", "Route", "Max-Forwards", "From", "To", "Call-ID"] {
        request.headers.copy_from(&invite.headers, name);
    }
    request.headers.push(
        "CSeq",
        format!("{} {method}", invite.headers.cseq().unwrap().sequence),
    );
    request
}

/// The ACK of a 2xx: a branch of its own.
pub(crate) fn ack_of_2xx(invite: &SipRequest, response: &SipResponse) -> SipRequest {
    let mut ack = ack_of(invite, response);
    ack.headers
        .set("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKacks;rport");
    ack
}

pub(crate) fn none() -> Headers {
    Headers::new()
}

//! What one stack makes of octets from a stranger.

use super::{RecordingSink, Stranger, request};
use bytes::Bytes;
use siprtc_core::sip::{
    EventSink, Limits, ListenerConfig, Method, SipMessage, SipRequest, SipStack, SipStackFactory, SipUri,
    StackConfig, StackEvent, Transport,
};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// How long an honest request may take through a stack behind whatever came before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long something may still come after the honest request has passed: threads do not keep an order.
const SETTLE: Duration = Duration::from_millis(150);

/// The same when something has come already.
const SETTLE_MORE: Duration = Duration::from_millis(1);

/// What a stack made of a message.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Its user heard an ACK, in no transaction.
    Ack(SipRequest),
    /// The stack itself answered.
    Answered(u16),
    /// The user heard that something unreadable had come, and the peer heard nothing.
    Malformed,
    /// Neither side heard anything.
    Nothing,
    /// Its user heard a request.
    Request(SipRequest),
    /// More than one of these.
    Several(Vec<Heard>),
}

/// A stack that listens, a stranger that speaks, and a user that says nothing.
pub struct Hearing {
    factory: Arc<dyn SipStackFactory>,
    transport: Transport,
    stack: Arc<dyn SipStack>,
    sink: Arc<RecordingSink>,
    stranger: Stranger,
    /// The transactions that the stack knows: another message of one would be taken for a copy.
    known: HashSet<String>,
}

impl Hearing {
    /// Starts a stack that listens on `transport`.
    pub async fn over(factory: &Arc<dyn SipStackFactory>, transport: Transport) -> Self {
        let sink = RecordingSink::new();
        Hearing {
            factory: factory.clone(),
            transport,
            stack: start_on_loopback(factory, &[transport], sink.clone()).await,
            sink,
            stranger: Stranger::new().await,
            known: HashSet::new(),
        }
    }

    /// Sends `octets`, and an honest OPTIONS behind them. Panics when the OPTIONS is not heard: nothing that a stranger
    /// says may stop a stack.
    pub async fn hear(&mut self, octets: &Bytes) -> Heard {
        let transaction = transaction(octets);
        if transaction
            .as_ref()
            .is_none_or(|known| self.known.contains(known))
        {
            self.start_anew().await;
        }
        self.known.extend(transaction);
        let to = self.stack.listeners()[0].bound;
        self.stranger.say(self.transport, to, octets).await;
        let honest = self.honest();
        let call_id = honest.headers.value("Call-ID");
        self.stranger.say(self.transport, to, &honest.to_bytes()).await;

        let mut ear = Ear::default();
        let alive = async { while !ear.is_honest(self.sink.next().await, call_id) {} };
        if tokio::time::timeout(PATIENCE, alive).await.is_err() {
            panic!("the stack is deaf after {:?}", String::from_utf8_lossy(octets));
        }
        let settle = if ear.heard.is_empty() { SETTLE } else { SETTLE_MORE };
        let answer = self.stranger.answer(settle).await;
        while let Some(event) = self.sink.try_next() {
            ear.is_honest(event, call_id);
        }
        ear.heard
            .extend(answer.map(|answer| Heard::Answered(answer.status)));
        self.stranger.forget().await;
        ear.verdict()
    }

    /// Ends the stack.
    pub async fn stop(self) {
        self.stack.shutdown(Duration::ZERO).await;
    }

    async fn start_anew(&mut self) {
        self.stack.shutdown(Duration::ZERO).await;
        self.known.clear();
        self.sink = RecordingSink::new();
        self.stack = start_on_loopback(&self.factory, &[self.transport], self.sink.clone()).await;
    }

    fn honest(&self) -> SipRequest {
        let uri = SipUri::from_addr(self.stack.listeners()[0].bound).with_transport(self.transport);
        let mut honest = request(Method::Options, uri);
        let (branch, own) = (rand::random::<u64>(), self.stranger.address());
        honest.headers.push_front(
            "Via",
            format_args!("SIP/2.0/{} {own};branch=z9hG4bK{branch:x};rport", self.transport),
        );
        honest.headers.push("Max-Forwards", 70);
        honest
    }
}

#[derive(Default)]
struct Ear {
    heard: Vec<Heard>,
    malformed: bool,
}

impl Ear {
    /// Keeps what is heard, and tells whether it is the request with `call_id`.
    fn is_honest(&mut self, event: StackEvent, call_id: Option<&str>) -> bool {
        match event {
            StackEvent::Request { request, .. } if request.headers.value("Call-ID") == call_id => {
                return true;
            }
            StackEvent::Request { request, .. } => self.heard.push(Heard::Request(request)),
            StackEvent::Ack { request, .. } => self.heard.push(Heard::Ack(request)),
            StackEvent::ParseError { .. } => self.malformed = true,
            _ => {}
        }
        false
    }

    fn verdict(mut self) -> Heard {
        match (self.heard.pop(), self.heard.is_empty()) {
            (None, _) if self.malformed => Heard::Malformed,
            (None, _) => Heard::Nothing,
            (Some(only), true) => only,
            (Some(last), false) => {
                self.heard.push(last);
                Heard::Several(self.heard)
            }
        }
    }
}

/// Starts a stack that listens on each of `transports` on 127.0.0.1, with RFC 3261's timers.
pub async fn start_on_loopback(
    factory: &Arc<dyn SipStackFactory>,
    transports: &[Transport],
    sink: Arc<dyn EventSink>,
) -> Arc<dyn SipStack> {
    let listener = |transport: &Transport| ListenerConfig {
        transport: *transport,
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: None,
    };
    let config = StackConfig {
        listeners: transports.iter().map(listener).collect(),
        ..StackConfig::default()
    };
    let started = factory.start(config, sink).await;
    started.unwrap_or_else(|error| panic!("the stack did not start: {error}"))
}

/// What RFC 3261 section 17.2.3 tells transactions apart by; `None` for what is no readable request.
fn transaction(octets: &Bytes) -> Option<String> {
    match SipMessage::parse(octets, &Limits::default()) {
        Ok(SipMessage::Request(request)) => {
            let via = request.headers.top_via().ok()?;
            let port = via.port.unwrap_or_default();
            let method = match request.method {
                Method::Ack => Method::Invite,
                method => method,
            };
            Some(format!("{method} {}:{port} {:?}", via.host, via.branch()))
        }
        _ => None,
    }
}

//! What the library says, and what is made of it.

use crate::convert::{self, branch_of};
use crate::engine::{Engine, Peer};
use crate::servers::Name;
use crate::sofia::{Arrival, Connection, Heard, Message, Said, TransportId, recent_log};
use bytes::Bytes;
use siprtc_core::Error;
use siprtc_core::sip::{
    Flow, Host, Method, SipMessage, SipRequest, SipResponse, StackEvent, Transport, TxEnd, TxId, Via,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// How many octets of an unreadable message are reported.
const REPORTED: usize = 2048;

/// Seconds after which whoever got a 503 may try again.
const RETRY_AFTER: u32 = 10;

/// The answer that nta makes up when a transaction's time is over.
const TIMED_OUT: u16 = 408;

impl Engine {
    pub(crate) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Closed { transport, errno } => self.closed(transport, errno),
            Heard::Connected { connection, accepted } => self.connected(connection, accepted),
            Heard::Incoming { key, said } => self.incoming(key, said),
            Heard::Message { message, arrival } => self.message(message, &arrival),
            Heard::Pong { transport } => self.pong(transport),
            Heard::Response {
                key,
                status,
                octets: Some(octets),
                arrival,
            } => self.response(key, status, &octets, arrival.as_ref()),
            Heard::Response { key, status, .. } => self.failed(key, status),
            Heard::Woken => self.woken(),
        }
    }

    fn closed(&mut self, transport: TransportId, errno: i32) {
        let reason = match errno {
            0 => "the connection was closed".to_owned(),
            errno => std::io::Error::from_raw_os_error(errno).to_string(),
        };
        if let Some(id) = self.flows.closed(transport) {
            self.emit(StackEvent::FlowDown { id, reason });
        }
    }

    fn connected(&mut self, connection: Connection, accepted: bool) {
        let ident = connection.transport().ident();
        let protocol = self.socket(&ident).map(|socket| socket.listener.transport);
        let flow = protocol.and_then(|protocol| self.flows.opened(connection, protocol, accepted));
        if let Some(flow) = flow {
            self.emit(StackEvent::FlowUp(flow));
        }
    }

    fn pong(&mut self, transport: TransportId) {
        if let Some(flow) = self.flows.id_of(transport) {
            self.emit(StackEvent::KeepaliveAnswered { flow, mapped: None });
        }
    }

    fn incoming(&mut self, key: usize, said: Said) {
        let Some(tx) = self.servers.find(key) else { return };
        let end = match said {
            Said::Cancelled => {
                self.servers.note_cancel(tx);
                self.emit(StackEvent::Cancelled { invite: tx });
                return;
            }
            Said::Acknowledged => TxEnd::Done,
            Said::TimedOut => TxEnd::TimedOut,
        };
        drop(self.servers.end(tx));
        self.emit(StackEvent::TxEnded { tx, end });
    }

    fn failed(&mut self, key: usize, status: u16) {
        let Some(tx) = self.clients.failed(key) else {
            return;
        };
        let end = match status {
            TIMED_OUT => TxEnd::TimedOut,
            _ => TxEnd::Transport(
                recent_log().unwrap_or_else(|| "the connection was refused or closed".to_owned()),
            ),
        };
        self.emit(StackEvent::TxEnded { tx, end });
    }

    /// An answer in one of nta's transactions.
    fn response(&mut self, key: usize, status: u16, octets: &Bytes, arrival: Option<&Arrival>) {
        let flow = arrival.and_then(|arrival| self.seen(arrival));
        let response = match self.parsed_response(octets, flow) {
            Some(response) => response,
            // nta has taken a final answer for final, so nothing more can come.
            None if status >= 200 => return self.failed(key, status),
            None => return,
        };
        let Some(step) = self.clients.heard(Instant::now(), key, status) else {
            return;
        };
        let (tx, over) = match step {
            crate::clients::Step::Continues(tx) => (tx, false),
            crate::clients::Step::Ends(tx) => (tx, true),
        };
        self.emit(StackEvent::Response { tx, response, flow });
        if over {
            self.emit(StackEvent::TxEnded { tx, end: TxEnd::Done });
        }
    }

    fn parsed_response(&self, octets: &Bytes, flow: Option<Flow>) -> Option<SipResponse> {
        let parsed = SipMessage::parse(octets, &self.shared.config.limits)
            .and_then(|message| message.validate().map(|()| message));
        match parsed {
            Ok(SipMessage::Response(response)) => Some(response),
            Ok(SipMessage::Request(_)) => None,
            Err(error) => {
                if let Some(flow) = flow {
                    self.report(flow, octets, error);
                }
                None
            }
        }
    }

    /// A message that belongs to none of nta's transactions.
    fn message(&mut self, message: Message, arrival: &Arrival) {
        let Some(flow) = self.seen(arrival) else { return };
        let octets = message.octets();
        match SipMessage::parse(&octets, &self.shared.config.limits) {
            Ok(SipMessage::Request(request)) => self.request(message, request, &octets, flow, arrival),
            Ok(SipMessage::Response(response)) => self.stray(response, flow),
            Err(error) => {
                self.refuse_unread(message, &octets);
                self.report(flow, &octets, error);
            }
        }
    }

    /// A 2xx of an INVITE that nta has done with: from another fork, or again.
    fn stray(&mut self, response: SipResponse, flow: Flow) {
        let invite = response.is_success()
            && response
                .headers
                .cseq()
                .is_ok_and(|cseq| cseq.method == Method::Invite);
        let branch = response.headers.top_via().ok().and_then(|via| branch_of(&via));
        let Some(tx) = branch
            .filter(|_| invite)
            .and_then(|branch| self.clients.accepted(&branch))
        else {
            tracing::debug!(status = response.status, "an answer to nothing");
            return;
        };
        let flow = Some(flow);
        self.emit(StackEvent::Response { tx, response, flow });
    }

    fn request(
        &mut self,
        message: Message,
        mut request: SipRequest,
        octets: &Bytes,
        flow: Flow,
        arrival: &Arrival,
    ) {
        let via = match request.headers.top_via() {
            Ok(via) => stamp(&mut request, via, flow.remote),
            Err(error) => {
                self.refuse_unread(message, octets);
                return self.report(flow, octets, error);
            }
        };
        if let Err(error) = request.validate() {
            if request.method != Method::Ack {
                self.refuse(message, &request, 400, None);
            }
            return self.report(flow, octets, error);
        }
        match request.method {
            Method::Ack => {
                let to = request.headers.to();
                if to.is_ok_and(|to| to.tag() != Some(&self.stateless_tag)) {
                    self.emit(StackEvent::Ack { request, flow });
                }
            }
            Method::Cancel => self.cancelled(message, &request, &via),
            _ => self.begin(message, request, &via, flow, arrival),
        }
    }

    /// A CANCEL that nta finds no INVITE for: it compares Call-ID, From-tag and CSeq too, RFC 3261 section 9.2 only the
    /// branch and the sent-by.
    fn cancelled(&mut self, message: Message, request: &SipRequest, via: &Via) {
        let found = Name::of(via).and_then(|name| self.servers.cancel(&name));
        let status = if found.is_some() { 200 } else { 481 };
        self.refuse(message, request, status, None);
        if let Some(Some(invite)) = found {
            self.emit(StackEvent::Cancelled { invite });
        }
    }

    fn begin(&mut self, message: Message, request: SipRequest, via: &Via, flow: Flow, arrival: &Arrival) {
        let name = Name::of(via).filter(|_| request.method == Method::Invite);
        if name.as_ref().is_some_and(|name| self.servers.absorbs(name)) {
            return;
        }
        let full = self.open() >= self.shared.config.max_transactions;
        if full || self.shared.closing.load(Ordering::Acquire) {
            return self.refuse(message, &request, 503, Some(RETRY_AFTER));
        }
        let key = self.key();
        let identity = convert::identity(&request);
        // The message has come with whatever was read with it, and would be kept as long as its transaction.
        let small = Message::parse(&convert::for_nta(&identity, &request).to_bytes()).unwrap_or(message);
        let Some(incoming) = self.agent.serve(small, &arrival.transport, key) else {
            tracing::error!("nta begins no transaction for a request");
            return;
        };
        let tx = self.ids.mint();
        let peer = Peer {
            transport: arrival.transport.clone(),
            protocol: flow.transport,
            to: answer_to(via, flow),
        };
        self.servers.begin(tx, key, incoming, peer, identity, name);
        self.shared.idle.set(self.open());
        // Begun before it is told, for the answer may come from another thread before this one goes on.
        if self.try_emit(StackEvent::Request { tx, request, flow }).is_err() {
            self.turn_away(tx);
        }
    }

    /// The sink is full: 503 in the transaction, which nobody has heard of.
    fn turn_away(&mut self, tx: TxId) {
        let Ok(identity) = self.servers.request(tx, 503) else {
            return;
        };
        let reply = self.alone(&identity, 503, Some(RETRY_AFTER));
        if let (Some(incoming), Some(reply)) = (self.servers.end(tx), reply) {
            incoming.reply(reply);
        }
    }

    /// Answers a request of which too little can be read to make an answer of our own.
    fn refuse_unread(&self, message: Message, octets: &[u8]) {
        if octets.starts_with(b"SIP/") || octets.starts_with(b"ACK ") || !has_via(octets) {
            return;
        }
        let (status, phrase) = match other_version(octets) {
            true => (505, c"Version Not Supported"),
            false => (400, c"Bad Request"),
        };
        self.agent.answer_alone(message, status, phrase, None);
    }

    /// Answers without keeping anything, as a stateless server does (RFC 3261 section 8.2.7).
    fn refuse(&self, message: Message, request: &SipRequest, status: u16, retry_after: Option<u32>) {
        let reply = self.alone(request, status, retry_after);
        if !self.agent.answer_alone(message, status, c"Refused", reply) {
            tracing::debug!(status, "an answer was not sent");
        }
    }

    fn alone(&self, request: &SipRequest, status: u16, retry_after: Option<u32>) -> Option<Message> {
        let mut response = request.response(status);
        if let Ok(to) = response.headers.to()
            && to.tag().is_none()
        {
            response
                .headers
                .set("To", to.with_tag(self.stateless_tag.as_str()));
        }
        if let Some(seconds) = retry_after {
            response.headers.push("Retry-After", seconds);
        }
        if !self.shared.config.user_agent.is_empty() {
            response.headers.push("Server", &self.shared.config.user_agent);
        }
        Message::parse(&response.to_bytes())
    }

    fn report(&self, flow: Flow, octets: &Bytes, error: Error) {
        self.emit(StackEvent::ParseError {
            flow,
            raw: octets.slice(..octets.len().min(REPORTED)),
            error: Arc::new(error),
        });
    }
}

/// RFC 3261 section 18.2.1 and RFC 3581 section 4: writes down where the request really came from.
fn stamp(request: &mut SipRequest, mut via: Via, source: SocketAddr) -> Via {
    let rport = via.params.contains("rport");
    if rport {
        via.params.set("rport", source.port().to_string());
    }
    if rport || via.host != Host::Ip(source.ip()) {
        via.params.set("received", source.ip().to_string());
    }
    request.headers.replace_first("Via", &via);
    via
}

/// Whether there is a Via, readable or not: without one nobody says where an answer is to go.
fn has_via(octets: &[u8]) -> bool {
    octets.split(|octet| *octet == b'\n').any(|line| {
        let name = line
            .split(|octet| *octet == b':')
            .next()
            .unwrap_or_default()
            .trim_ascii_end();
        name.eq_ignore_ascii_case(b"Via") || name.eq_ignore_ascii_case(b"v")
    })
}

/// Whether a request line ends with another version of SIP than ours (RFC 3261 section 21.5.6).
fn other_version(octets: &[u8]) -> bool {
    let line = octets
        .split(|octet| matches!(octet, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let version = line.rsplit(|octet| *octet == b' ').next().unwrap_or_default();
    version.len() > 4 && version[..4].eq_ignore_ascii_case(b"SIP/") && !version[4..].starts_with(b"2.0")
}

/// RFC 3261 section 18.2.2, RFC 3581 section 4.
fn answer_to(via: &Via, flow: Flow) -> SocketAddr {
    if flow.transport != Transport::Udp || via.params.contains("rport") {
        return flow.remote;
    }
    SocketAddr::new(flow.remote.ip(), via.port.unwrap_or(5060))
}

//! What arrives: from octets to the transaction machine.

use crate::budget::Verdict;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::framing::{Broken, BrokenKind};
use crate::malformed::{self, stamp};
use crate::path::{Path, UdpPath};
use crate::stun::{self, Heard};
use bytes::Bytes;
use siprtc_core::sip::{Flow, SipMessage, StackEvent};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Octets of an unreadable message that are reported.
const REPORTED: usize = 2048;

impl Engine {
    /// A datagram has arrived.
    pub(crate) fn datagram(self: &Arc<Self>, socket: u16, from: SocketAddr, raw: Bytes) {
        // What some send to keep a binding of a NAT open: nothing, line ends, NULs.
        if raw.len() <= 4 && raw.iter().all(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return;
        }
        let path = UdpPath::new(socket, from);
        if stun::is_stun(&raw) {
            return self.stun(path, &raw);
        }
        self.received(Path::Udp(path), from, raw);
    }

    /// A message has arrived on a connection.
    pub(crate) fn message(self: &Arc<Self>, connection: &Arc<Connection>, flow: Flow, raw: Bytes) {
        self.received(Path::Connection(connection.clone()), flow.remote, raw);
    }

    /// A connection cannot be read any further. Its task closes it.
    pub(crate) fn broken(self: &Arc<Self>, connection: &Arc<Connection>, flow: Flow, broken: &Broken) {
        let advice = match broken.kind {
            BrokenKind::Http => "a WebSocket client needs a WS or WSS listener; a browser is wrong here",
            BrokenKind::Tls => "connect to a TLS listener",
            BrokenKind::TooLong { .. } => "the peer should send less, or raise the limit of message octets",
            _ => "the peer's SIP is broken: tell whoever maintains it",
        };
        let error = self
            .error(Fault::PeerMisbehaved, "read a stream", broken.kind.to_string())
            .advice(advice);
        let status = match broken.kind {
            BrokenKind::TooLong { .. } => 513,
            _ => 400,
        };
        let path = Path::Connection(connection.clone());
        self.malformed(&path, flow.remote, &broken.raw, status, error);
    }

    fn received(self: &Arc<Self>, path: Path, source: SocketAddr, raw: Bytes) {
        if !self.budget.admits(source.ip(), self.second()) {
            if let Path::Connection(connection) = &path {
                connection.close("too much of what the peer sends is no SIP");
            }
            return;
        }
        match self.read(&raw, &path, source) {
            Ok((path, message)) => self.input(|machine, now| machine.receive(now, path, message)),
            Err(error) => {
                let status = if raw.len() > self.config.limits.message {
                    513
                } else {
                    400
                };
                self.malformed(&path, source, &raw, status, error);
            }
        }
    }

    /// A panic of the parser's must not make a socket deaf: it is an error of the message like others.
    fn read(&self, raw: &Bytes, path: &Path, source: SocketAddr) -> Result<(Path, SipMessage)> {
        let read = AssertUnwindSafe(|| {
            let message = self.parser.parse(raw, &self.config.limits)?;
            admit(message, path, source)
        });
        catch_unwind(read).unwrap_or_else(|_| {
            Err(self
                .error(Fault::Backend, "read a message", "the parser panicked")
                .advice("this is a defect: report it with the message"))
        })
    }

    /// Answers what can be answered, and tells of it (at most so often: see [`crate::budget`]).
    fn malformed(self: &Arc<Self>, path: &Path, source: SocketAddr, raw: &Bytes, status: u16, error: Error) {
        if self.budget.charge(source.ip(), self.second()) == Verdict::Drop {
            return;
        }
        if let Some(answer) = malformed::answer(raw, source, status, error.message(), &self.stateless_tag) {
            let bytes = answer.response.to_bytes();
            let sent = match path {
                // No other connection is opened for it.
                Path::Connection(connection) => connection.push(bytes),
                Path::Udp(path) => self.send_udp(&answer_path(*path, &answer.via), &bytes),
            };
            if let Err(why) = sent {
                tracing::debug!(why, "a malformed request was not answered");
            }
        }
        if let Some(flow) = self.flow(path) {
            self.emit(StackEvent::ParseError {
                flow,
                raw: raw.slice(..raw.len().min(REPORTED)),
                error: Arc::new(error),
            });
        }
    }

    fn stun(&self, path: UdpPath, raw: &[u8]) {
        match stun::read(raw, path.peer) {
            Some(Heard::Answer(answer)) => {
                if let Err(why) = self.send_udp(&path, &answer) {
                    tracing::debug!(why, "a STUN request was not answered");
                }
            }
            Some(Heard::Mapped(id, mapped)) => {
                let answered = self.probes.lock().answered(id);
                // Only whoever was asked may answer.
                if let Some(flow) = answered
                    && flow == self.udp_flows.id(path.socket, path.peer)
                {
                    self.emit(StackEvent::KeepaliveAnswered { flow, mapped });
                }
            }
            None => tracing::trace!(from = %path.peer, "a STUN message that is no Binding"),
        }
    }
}

/// Checks a message and fills in where it came from; says where its answers go.
fn admit(mut message: SipMessage, path: &Path, source: SocketAddr) -> Result<(Path, SipMessage)> {
    message.validate()?;
    let SipMessage::Request(request) = &mut message else {
        return Ok((path.clone(), message));
    };
    let mut via = request.headers.top_via()?;
    stamp(&mut request.headers, &mut via, source);
    let path = match path {
        Path::Connection(_) => path.clone(),
        Path::Udp(path) => Path::Udp(answer_path(*path, &via)),
    };
    Ok((path, message))
}

/// RFC 3261 section 18.2.2, RFC 3581 section 4. `maddr` is not followed: it would let anybody aim our answers.
fn answer_path(path: UdpPath, via: &siprtc_core::sip::Via) -> UdpPath {
    match via.params.contains("rport") {
        true => path,
        false => UdpPath {
            port: via.port.unwrap_or(5060),
            ..path
        },
    }
}

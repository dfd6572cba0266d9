//! What users ask for.

use crate::clients;
use crate::convert::{self, backend, check_lines, misuse, stopped, token};
use crate::engine::{Command, Engine};
use crate::servers::{self, Way};
use crate::sofia::{Hop, Message, Outgoing};
use crate::target::{self, Destination, Socket};
use siprtc_core::sip::{
    CSeq, FlowId, Headers, Keepalive, Method, SipRequest, SipResponse, StackEvent, Transport, TxEnd, TxId,
};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// Most octets of a UDP payload over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// What a client transaction is to the library, and where its request went.
pub(crate) struct Sent {
    outgoing: Outgoing,
    to: SocketAddr,
}

/// A way that a request can leave by.
struct Exit {
    hop: Hop,
    socket: Socket,
    to: SocketAddr,
    /// Whether it takes a new connection.
    connects: bool,
}

impl Engine {
    pub(crate) fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Ack(ack, destination) => self.send_ack(ack, &destination),
            Command::Cancel(invite, extra) => self.cancel(invite, &extra),
            Command::CloseFlow(flow) => self.close_flow(flow),
            Command::Keepalive(flow, kind) => self.keepalive(flow, kind),
            Command::Request(tx, request, destination) => self.send_request(tx, request, &destination),
            Command::Respond(tx, response) => self.respond(tx, response),
        }
    }

    fn send_request(&mut self, tx: TxId, mut request: SipRequest, destination: &Destination) -> Result<()> {
        const OPERATION: &str = "send request";
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(stopped(OPERATION));
        }
        if self.clients.contains(tx) {
            return Err(misuse(OPERATION, format!("{tx} is in use")).advice("mint an id for every request"));
        }
        if self.open() >= self.shared.config.max_transactions {
            let most = self.shared.config.max_transactions;
            return Err(backend(OPERATION, format!("{most} transactions are under way"))
                .advice("wait until some have ended, or raise sip.max_transactions"));
        }
        convert::complete(&mut request, &self.shared.config.user_agent, OPERATION)?;
        let exit = self.exit(destination, OPERATION)?;
        self.check_room(&exit, OPERATION)?;
        let branch = push_via(&mut request, &exit);
        let message = self.message_of(&request, &exit, OPERATION)?;
        let key = self.key();
        let outgoing = self
            .agent
            .request(message, &exit.hop, key)
            .ok_or_else(|| unsent(OPERATION, exit.to))?;
        let invite = (request.method == Method::Invite).then_some(request);
        let sent = Sent {
            outgoing,
            to: exit.to,
        };
        self.clients.begin(tx, key, sent, branch, invite);
        Ok(())
    }

    fn send_ack(&mut self, mut ack: SipRequest, destination: &Destination) -> Result<()> {
        const OPERATION: &str = "send ACK";
        if ack.method != Method::Ack {
            return Err(misuse(OPERATION, format!("{} is no ACK", ack.method)).advice("use send_request"));
        }
        convert::complete(&mut ack, "", OPERATION)?;
        let exit = self.exit(destination, OPERATION)?;
        push_via(&mut ack, &exit);
        let message = self.message_of(&ack, &exit, OPERATION)?;
        match self.agent.send_alone(message, &exit.hop) {
            true => Ok(()),
            false => Err(unsent(OPERATION, exit.to)),
        }
    }

    /// nta's own CANCEL ends its INVITE at once on a connection, so that the 487 belongs to nothing: this one is made
    /// here.
    fn cancel(&mut self, tx: TxId, extra: &Headers) -> Result<()> {
        const OPERATION: &str = "cancel";
        check_lines(extra, OPERATION)?;
        let refused = |refusal| match refusal {
            clients::Refusal::Answered => {
                misuse(OPERATION, format!("{tx} has its final answer")).advice("end the call with BYE")
            }
            clients::Refusal::NotInvite => {
                misuse(OPERATION, format!("{tx} is no INVITE")).advice("cancel INVITEs only")
            }
            clients::Refusal::TooEarly => misuse(OPERATION, format!("{tx} has no answer yet"))
                .advice("wait for a provisional answer (RFC 3261 section 9.1)"),
            clients::Refusal::Twice => {
                misuse(OPERATION, format!("{tx} is cancelled already")).advice("wait for its final answer")
            }
            clients::Refusal::Unknown => misuse(OPERATION, format!("there is no transaction {tx}"))
                .advice("it has ended, or never was"),
        };
        let (invite, sent) = self.clients.cancel(Instant::now(), tx).map_err(refused)?;
        let (cancel, to) = (cancel_of(invite, extra), sent.to);
        let gone =
            || backend(OPERATION, "the way that the INVITE went is gone").advice("wait for the INVITE's end");
        let transport = sent.outgoing.transport().ok_or_else(gone)?;
        let socket = self.socket(&transport.ident()).ok_or_else(gone)?;
        let protocol = socket.listener.transport.as_str();
        let hop = match transport.is_connection() {
            true => Hop::over(transport, protocol, to),
            false => Hop::address(protocol, to, &socket.ident, false),
        };
        let message = Message::parse(&cancel.to_bytes()).ok_or_else(|| unreadable(OPERATION))?;
        match self.agent.request_unheard(message, &hop) {
            true => Ok(()),
            false => Err(unsent(OPERATION, to)),
        }
    }

    fn respond(&mut self, tx: TxId, response: SipResponse) -> Result<()> {
        const OPERATION: &str = "respond";
        let status = response.status;
        if !(100..700).contains(&status) {
            return Err(misuse(OPERATION, format!("{status} is no status")).advice("use 100 to 699"));
        }
        let refused = |refusal| match refusal {
            servers::Refusal::Answered => {
                misuse(OPERATION, format!("{tx} has had its final answer")).advice("answer once")
            }
            servers::Refusal::Unknown => misuse(OPERATION, format!("there is no server transaction {tx}"))
                .advice("it has ended, or never was"),
        };
        let request = self.servers.request(tx, status).map_err(refused)?;
        let response =
            convert::complete_response(&request, response, &self.shared.config.user_agent, OPERATION)?;
        let message = Message::parse(&response.to_bytes()).ok_or_else(|| unreadable(OPERATION))?;
        let (way, over) = self.servers.answer(Instant::now(), tx, status).map_err(refused)?;
        let sent = match way {
            Way::Again(peer) => peer.transport.send(&message, peer.protocol.as_str(), peer.to),
            Way::Last(incoming) => {
                if let Some(branch) = self.servers.branch(tx) {
                    self.agent.divert(branch, true);
                }
                incoming.reply(message)
            }
            Way::Within => self
                .servers
                .with(tx)
                .is_some_and(|incoming| incoming.reply(message)),
        };
        if over {
            self.emit(StackEvent::TxEnded { tx, end: TxEnd::Done });
        }
        if !sent {
            return Err(backend(OPERATION, format!("could not send the {status}"))
                .advice("the peer's connection may be gone; it will ask again"));
        }
        Ok(())
    }

    fn close_flow(&mut self, flow: FlowId) -> Result<()> {
        let (_, transport) = self.find_flow(flow, "close flow")?;
        transport.close();
        Ok(())
    }

    fn keepalive(&mut self, flow: FlowId, kind: Keepalive) -> Result<()> {
        const OPERATION: &str = "keepalive";
        self.find_flow(flow, OPERATION)?;
        let connection = self.flows.connection(flow).filter(|_| kind == Keepalive::Crlf);
        let Some(connection) = connection else {
            return Err(Error::new(
                Fault::Unsupported,
                OPERATION,
                format!("sofia sends no {kind:?} keepalive on this flow"),
            )
            .advice("keep it alive with OPTIONS, or use TCP or another stack")
            .backend(crate::NAME));
        };
        connection.ping().map_err(|error| {
            backend(OPERATION, "the connection takes nothing")
                .caused_by(error)
                .advice("close the flow and register again")
        })
    }

    fn find_flow(
        &mut self,
        id: FlowId,
        operation: &'static str,
    ) -> Result<(siprtc_core::sip::Flow, crate::sofia::Transport)> {
        self.flows
            .find(id)
            .filter(|(_, transport)| !transport.is_closed())
            .ok_or_else(|| {
                backend(operation, format!("flow {} is gone", id.0))
                    .advice("send by address, or register again")
            })
    }

    fn exit(&mut self, destination: &Destination, operation: &'static str) -> Result<Exit> {
        match *destination {
            Destination::Flow(id) => {
                let (flow, transport) = self.find_flow(id, operation)?;
                let protocol = flow.transport.as_str();
                let socket = self
                    .socket(&transport.ident())
                    .cloned()
                    .ok_or_else(|| unsent(operation, flow.remote))?;
                let hop = match transport.is_connection() {
                    true => Hop::over(transport, protocol, flow.remote),
                    false => Hop::address(protocol, flow.remote, &socket.ident, false),
                };
                Ok(Exit {
                    hop,
                    socket,
                    to: flow.remote,
                    connects: false,
                })
            }
            Destination::Address { transport, to, fresh } => {
                let socket = target::pick(&self.sockets, transport, to)
                    .cloned()
                    .ok_or_else(|| target::no_socket(transport, to, operation))?;
                let connects = transport.is_reliable() && (fresh || !self.flows.reaches(transport, to));
                Ok(Exit {
                    hop: Hop::address(transport.as_str(), to, &socket.ident, fresh),
                    socket,
                    to,
                    connects,
                })
            }
        }
    }

    fn check_room(&self, exit: &Exit, operation: &'static str) -> Result<()> {
        let most = self.shared.config.max_connections;
        if exit.connects && self.flows.connections() >= most {
            return Err(backend(operation, format!("{most} connections are open"))
                .advice("close some, or raise sip.max_connections"));
        }
        Ok(())
    }

    fn message_of(&self, request: &SipRequest, exit: &Exit, operation: &'static str) -> Result<Message> {
        let octets = request.to_bytes();
        if exit.socket.listener.transport == Transport::Udp && octets.len() > MAX_DATAGRAM {
            let length = octets.len();
            return Err(
                misuse(operation, format!("{length} octets do not fit a datagram"))
                    .advice("send it over TCP (RFC 3261 section 18.1.1)"),
            );
        }
        Message::parse(&octets).ok_or_else(|| unreadable(operation))
    }
}

/// Puts our Via on top, with a branch that was never used, and says which.
fn push_via(request: &mut SipRequest, exit: &Exit) -> String {
    let branch = token("z9hG4bK");
    let (transport, sent_by) = (exit.socket.listener.transport, exit.socket.sent_by(exit.to));
    request.headers.push_front(
        "Via",
        format_args!("SIP/2.0/{transport} {sent_by};rport;branch={branch}"),
    );
    branch.to_ascii_lowercase()
}

/// RFC 3261 section 9.1.
fn cancel_of(invite: &SipRequest, extra: &Headers) -> SipRequest {
    let mut cancel = SipRequest::new(Method::Cancel, invite.uri.clone());
    if let Some(via) = invite.headers.items("Via").first() {
        cancel.headers.push("Via", via);
    }
    for name in ["Route", "From", "To", "Call-ID", "Max-Forwards", "User-Agent"] {
        cancel.headers.copy_from(&invite.headers, name);
    }
    if let Ok(CSeq { sequence, .. }) = invite.headers.cseq() {
        cancel.headers.push("CSeq", format_args!("{sequence} CANCEL"));
    }
    for (name, value) in extra.iter() {
        cancel.headers.push(name.clone(), value);
    }
    cancel
}

fn unreadable(operation: &'static str) -> Error {
    misuse(operation, "sofia-sip cannot read this message")
        .advice("check From, To, Call-ID, CSeq and the Request-URI (RFC 3261 section 25)")
}

fn unsent(operation: &'static str, to: SocketAddr) -> Error {
    backend(operation, format!("sofia-sip does not send to {to}"))
        .advice("look into its log: RUST_LOG=sofia=debug")
}

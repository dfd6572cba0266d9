//! Client transactions: ezk's, driven by our timers.
//!
//! ezk matches answers and acknowledges a non-2xx. Its timers are constants, its first retransmission of a
//! non-INVITE comes after 4 s instead of 500 ms, and it gives an INVITE up two minutes after its last provisional
//! answer: so we retransmit and we decide when it is over, and call `receive` often enough that ezk's own timers do
//! not fire first.

use crate::clock::{Clock, Phase};
use crate::convert;
use crate::engine::Engine;
use crate::flows;
use crate::shared::{Peer, Shared};
use crate::target::{self, Target};
use bytes::Bytes;
use ezk_sip_core::transaction::{ClientInvTsx, ClientTsx, TsxResponse};
use ezk_sip_core::transport::TargetTransportInfo;
use ezk_sip_core::{Endpoint, Error as EzkError};
use ezk_sip_types::Name;
use parking_lot::Mutex;
use siprtc_core::sip::{
    CSeq, Headers, Method, Route, SipMessage, SipRequest, SipResponse, StackEvent, TimerConfig, TxEnd, TxId,
};
use siprtc_core::{Error, Fault, Result};
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// After its own timeout ezk's `receive` returns at once while nothing has come: we look this often.
const AFTER_EZK_TIMED_OUT: Duration = Duration::from_millis(50);

/// A client transaction as its user's calls see it.
pub(crate) struct Client {
    /// The request without a Via, for CANCEL.
    request: SipRequest,
    state: Mutex<State>,
    /// 64*T1 have gone by since the CANCEL.
    give_up: Notify,
    answered: Notify,
}

#[derive(Default)]
struct State {
    /// Set once the request has left.
    sent: Option<(String, Peer)>,
    provisional: bool,
    answered: bool,
    cancelled: bool,
}

/// Begins a client transaction. Runs inside the engine's own runtime.
pub(crate) async fn send(
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    tx: TxId,
    mut request: SipRequest,
    route: Route,
) -> Result<()> {
    const OPERATION: &str = "send request";
    if matches!(request.method, Method::Ack | Method::Cancel) {
        return Err(
            convert::misuse(OPERATION, format!("{} begins no transaction", request.method))
                .advice("call send_ack or cancel"),
        );
    }
    convert::complete(&mut request, &shared.config.user_agent, OPERATION)?;
    let ezk = convert::to_ezk(&request, OPERATION)?;
    let mut place = Place::reserve(&shared, tx, request, OPERATION)?;
    let target = target::find(&engine, &shared, &place.client.request, &route, OPERATION).await?;
    let endpoint = engine.endpoint(OPERATION)?;
    let transaction = begin(&endpoint, ezk, &target)
        .await
        .map_err(|error| not_sent(&target.peer, error))?;
    place.client.state.lock().sent = Some((transaction.via(), target.peer.clone()));
    place.announced = true;
    tokio::spawn(
        Driver {
            shared,
            target,
            transaction,
            place,
            tx,
        }
        .run(),
    );
    Ok(())
}

/// Cancels an INVITE (RFC 3261 section 9.1). Runs inside the engine's own runtime.
pub(crate) async fn cancel(shared: Arc<Shared>, invite: TxId, extra: Headers) -> Result<()> {
    const OPERATION: &str = "cancel";
    convert::check_lines(&extra, OPERATION)?;
    let client = shared.clients.lock().get(&invite).cloned();
    let client = client
        .filter(|client| client.request.method == Method::Invite)
        .ok_or_else(|| {
            convert::misuse(OPERATION, format!("there is no INVITE transaction {invite}"))
                .advice("cancel only what has not ended")
        })?;
    let (via, peer) = {
        let mut state = client.state.lock();
        if state.answered || state.cancelled {
            // The final answer and the CANCEL have crossed: nothing is left to cancel.
            return Ok(());
        }
        let sent = state.sent.clone().filter(|_| state.provisional).ok_or_else(|| {
            convert::misuse(OPERATION, format!("{invite} has had no provisional answer"))
                .advice("wait for one (RFC 3261 section 9.1)")
        })?;
        state.cancelled = true;
        sent
    };
    let bytes = cancel_of(&client.request, &via, &extra, OPERATION)?.to_bytes();
    peer.send(&bytes)
        .await
        .map_err(|error| not_sent(&peer, error.into()))?;
    tokio::spawn(repeat_cancel(shared.config.timers, client, peer, bytes));
    Ok(())
}

/// Sends the ACK of a 2xx, outside any transaction. Runs inside the engine's own runtime.
pub(crate) async fn send_ack(
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    mut ack: SipRequest,
    route: Route,
) -> Result<()> {
    const OPERATION: &str = "send ACK";
    convert::complete(&mut ack, &shared.config.user_agent, OPERATION)?;
    let target = target::find(&engine, &shared, &ack, &route, OPERATION).await?;
    ack.headers.push_front("Via", target.new_via());
    target
        .peer
        .send(&ack.to_bytes())
        .await
        .map_err(|error| not_sent(&target.peer, error.into()))
}

async fn begin(
    endpoint: &Endpoint,
    request: ezk_sip_core::Request,
    target: &Target,
) -> Result<Transaction, EzkError> {
    let mut over = TargetTransportInfo {
        via_host_port: Some(target.ezk_sent_by()),
        transport: Some((target.peer.handle.clone(), target.peer.to)),
    };
    if request.line.method == ezk_sip_types::Method::INVITE {
        return Ok(Transaction::Invite(
            endpoint.send_invite(request, &mut over).await?,
        ));
    }
    Ok(Transaction::Other(
        endpoint.send_request(request, &mut over).await?,
    ))
}

/// RFC 3261 section 9.1: the INVITE's own Via, and what else makes the two match.
fn cancel_of(invite: &SipRequest, via: &str, extra: &Headers, operation: &'static str) -> Result<SipRequest> {
    let mut cancel = SipRequest::new(Method::Cancel, invite.uri.clone());
    cancel.headers.push("Via", via);
    for name in ["Max-Forwards", "Route", "From", "To", "Call-ID"] {
        cancel.headers.copy_from(&invite.headers, name);
    }
    let sequence = invite
        .headers
        .cseq()
        .map_err(|e| convert::misuse(operation, "no CSeq").caused_by(e))?
        .sequence;
    cancel.headers.push(
        "CSeq",
        CSeq {
            sequence,
            method: Method::Cancel,
        },
    );
    cancel.headers.copy_from(&invite.headers, "User-Agent");
    for (name, value) in extra.iter() {
        cancel.headers.push(name.clone(), value);
    }
    Ok(cancel)
}

/// Timer E for the CANCEL. ezk does not tell us of its 200, so the INVITE's final answer ends the repetition; without
/// one the INVITE is given up 64*T1 later (RFC 3261 section 9.1).
async fn repeat_cancel(timers: TimerConfig, client: Arc<Client>, peer: Peer, bytes: Bytes) {
    let give_up = Instant::now() + timers.t1 * 64;
    let mut interval = timers.t1;
    loop {
        let answered = client.answered.notified();
        if client.state.lock().answered {
            return;
        }
        let next = give_up.min(Instant::now() + interval);
        if timeout_at(next, answered).await.is_ok() {
            continue;
        }
        if Instant::now() >= give_up {
            client.give_up.notify_one();
            return;
        }
        if peer.handle.is_udp()
            && let Err(error) = peer.send(&bytes).await
        {
            tracing::debug!(%error, "a CANCEL was not repeated");
        }
        interval = (interval * 2).min(timers.t2);
    }
}

fn not_sent(peer: &Peer, error: EzkError) -> Error {
    let too_long =
        matches!(&error, EzkError::Io(io) if io.raw_os_error().is_some_and(|code| TOO_LONG.contains(&code)));
    let advice = if too_long {
        "the message does not fit a datagram: use TCP"
    } else {
        "check the address and the network; a connection may just have been closed"
    };
    convert::backend("send", format!("could not send to {}", peer.to))
        .caused_by(error)
        .advice(advice)
}

/// "Message too long" on Linux and Android, on macOS and iOS, and on Windows.
const TOO_LONG: [i32; 3] = [90, 40, 10_040];

/// A seat among the client transactions, given up when dropped; an announced one then ends with a word.
struct Place {
    shared: Arc<Shared>,
    client: Arc<Client>,
    tx: TxId,
    announced: bool,
}

impl Place {
    fn reserve(shared: &Arc<Shared>, tx: TxId, request: SipRequest, operation: &'static str) -> Result<Self> {
        let full = shared.open() >= shared.config.max_transactions;
        let client = Arc::new(Client {
            request,
            state: Mutex::new(State::default()),
            give_up: Notify::new(),
            answered: Notify::new(),
        });
        let mut clients = shared.clients.lock();
        let Entry::Vacant(vacant) = clients.entry(tx) else {
            return Err(
                convert::misuse(operation, format!("{tx} is in use")).advice("mint an id for each request")
            );
        };
        if full {
            return Err(convert::backend(operation, "too many transactions at once")
                .advice("send fewer requests at once, or raise max_transactions"));
        }
        vacant.insert(client.clone());
        drop(clients);
        Ok(Place {
            shared: shared.clone(),
            client,
            tx,
            announced: false,
        })
    }

    fn end(mut self, end: TxEnd) {
        self.announced = false;
        let (shared, tx) = (self.shared.clone(), self.tx);
        drop(self);
        shared.emit(StackEvent::TxEnded { tx, end });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.clients.lock().remove(&self.tx);
        if self.announced {
            let end = TxEnd::Transport("the stack was stopped".to_owned());
            self.shared.emit(StackEvent::TxEnded { tx: self.tx, end });
        }
    }
}

enum Transaction {
    Invite(ClientInvTsx),
    Other(ClientTsx),
}

impl Transaction {
    async fn receive(&mut self) -> Result<Option<TsxResponse>, EzkError> {
        match self {
            Transaction::Invite(transaction) => transaction.receive().await,
            Transaction::Other(transaction) => transaction.receive().await.map(Some),
        }
    }

    fn is_invite(&self) -> bool {
        matches!(self, Transaction::Invite(_))
    }

    fn request(&self) -> &ezk_sip_core::transport::OutgoingRequest {
        match self {
            Transaction::Invite(transaction) => transaction.request(),
            Transaction::Other(transaction) => transaction.request(),
        }
    }

    /// The Via that ezk has put on top.
    fn via(&self) -> String {
        self.request()
            .msg
            .headers
            .get_raw(&Name::VIA)
            .next()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// The task of one client transaction.
struct Driver {
    shared: Arc<Shared>,
    target: Target,
    transaction: Transaction,
    place: Place,
    tx: TxId,
}

impl Driver {
    async fn run(mut self) {
        let end = self.listen().await;
        let state = &self.place.client.state;
        state.lock().answered = true;
        self.place.client.answered.notify_waiters();
        self.place.end(end);
    }

    async fn listen(&mut self) -> TxEnd {
        let reliable = !self.target.peer.handle.is_udp();
        let invite = self.transaction.is_invite();
        let mut clock = Clock::start(Instant::now(), self.shared.config.timers, invite, reliable);
        let bytes = self.transaction.request().parts.buffer.clone();
        let client = self.place.client.clone();
        let peer = &self.target.peer;
        let gone = flows::closed(peer.handle.watch_state(), peer.to);
        tokio::pin!(gone);
        loop {
            let next = clock.next(Instant::now());
            tokio::select! {
                biased;
                heard = timeout_at(next, self.transaction.receive()) => match heard {
                    Ok(Ok(Some(heard))) => {
                        if let Some(end) = self.hear(heard, &mut clock) {
                            return end;
                        }
                    }
                    Ok(Ok(None)) => return TxEnd::Done,
                    Ok(Err(EzkError::RequestTimedOut)) => {
                        let pause = Instant::now() + AFTER_EZK_TIMED_OUT;
                        tokio::time::sleep_until(pause.min(clock.expires)).await;
                    }
                    Ok(Err(error)) => return TxEnd::Transport(error.to_string()),
                    Err(_) => (),
                },
                () = client.give_up.notified() => return TxEnd::TimedOut,
                why = &mut gone, if reliable => {
                    return if clock.phase == Phase::Accepted { TxEnd::Done } else { TxEnd::Transport(why) };
                }
            }
            let now = Instant::now();
            if now >= clock.expires {
                return if clock.phase == Phase::Accepted {
                    TxEnd::Done
                } else {
                    TxEnd::TimedOut
                };
            }
            if clock.repeats(now)
                && let Err(error) = self.target.peer.send(&bytes).await
            {
                return TxEnd::Transport(error.to_string());
            }
        }
    }

    /// Passes an answer on; says how the transaction ends if it does.
    fn hear(&mut self, heard: TsxResponse, clock: &mut Clock) -> Option<TxEnd> {
        let now = Instant::now();
        let status = heard.line.code.into_u16();
        // RFC 6026 section 7.2: after a 2xx only 2xx are passed on.
        if clock.phase == Phase::Accepted && !(200..300).contains(&status) {
            return None;
        }
        let accepted = self.transaction.is_invite() && (200..300).contains(&status);
        match status {
            ..200 => {
                self.place.client.state.lock().provisional = true;
                clock.provisional(now);
            }
            _ => {
                self.place.client.state.lock().answered = true;
                self.place.client.answered.notify_waiters();
                if accepted {
                    clock.accepted(now);
                }
            }
        }
        let info = &heard.tp_info;
        let flow = self.shared.flow_seen(&info.transport, info.source);
        match self.read(&info.buffer) {
            Ok(response) => {
                let event = StackEvent::Response {
                    tx: self.tx,
                    response,
                    flow: Some(flow),
                };
                self.shared.emit(event);
            }
            Err(error) => {
                let text = error.to_string();
                let raw = crate::inbound::start_of(&info.buffer);
                self.shared.emit(StackEvent::ParseError {
                    flow,
                    raw,
                    error: Arc::new(error),
                });
                if status >= 200 && !accepted {
                    return Some(TxEnd::Transport(format!(
                        "the final answer cannot be read: {text}"
                    )));
                }
            }
        }
        (status >= 200 && !accepted).then_some(TxEnd::Done)
    }

    fn read(&self, buffer: &Bytes) -> Result<SipResponse> {
        match SipMessage::parse(buffer, &self.shared.config.limits)? {
            SipMessage::Response(response) => Ok(response),
            SipMessage::Request(_) => Err(Error::new(
                Fault::PeerMisbehaved,
                "read answer",
                "it is a request",
            )),
        }
    }
}

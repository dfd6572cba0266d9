//! Two SIP stacks joined in memory.

use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::sip::{
    EventSink, Feature, Flow, FlowId, Gap, Headers, Keepalive, Listener, Method, Route, SipCapability,
    SipRequest, SipResponse, SipStack, StackEvent, TimerConfig, Transport, TxEnd, TxId, TxIds, TxOwner,
};
use siprtc_core::{Error, Fault, Result};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The plugin name that errors of this fake carry.
const NAME: &str = "wire";

/// Most transactions that one wire keeps, both ends together.
const MAX_TRANSACTIONS: usize = 10_000;

/// The one flow that an end has.
const FLOW: FlowId = FlowId(1);

/// Two SIP stacks joined in memory: what one sends, the other's sink hears before the call returns.
///
/// Nothing is lost, repeated or reordered. Timers run on tokio's clock: a client transaction without a final answer
/// ends `TimedOut` after 64*T1, an INVITE only while nothing provisional has come, or 64*T1 after its CANCEL. A 2xx to
/// an INVITE keeps both transactions for 64*T1, then `TxEnded { Done }`; every other transaction ends at once with its
/// final answer, the ACK of a non-2xx being understood. An end that was shut down hears nothing more, so that its
/// peer's requests time out.
#[derive(Debug)]
pub struct Wire;

impl Wire {
    /// Both ends, with RFC 3261's timers.
    pub fn pair(
        sink_a: Arc<dyn EventSink>,
        sink_b: Arc<dyn EventSink>,
    ) -> (Arc<dyn SipStack>, Arc<dyn SipStack>) {
        Wire::pair_with(TimerConfig::default(), sink_a, sink_b)
    }

    /// Both ends, with other timers.
    pub fn pair_with(
        timers: TimerConfig,
        sink_a: Arc<dyn EventSink>,
        sink_b: Arc<dyn EventSink>,
    ) -> (Arc<dyn SipStack>, Arc<dyn SipStack>) {
        let state = Arc::new(Mutex::new(State {
            ends: [End::new(sink_a), End::new(sink_b)],
            branches: 0,
            calls: HashMap::new(),
        }));
        let patience = timers.t1 * 64;
        let a = WireEnd {
            state: state.clone(),
            side: 0,
            patience,
        };
        let b = WireEnd {
            state,
            side: 1,
            patience,
        };
        (Arc::new(a), Arc::new(b))
    }
}

/// One end's half of what both ends share.
struct End {
    sink: Arc<dyn EventSink>,
    ids: TxIds,
    closed: bool,
    /// Server transactions that have begun here: which client transaction of the other end each one serves.
    served: HashMap<TxId, TxId>,
}

impl End {
    fn new(sink: Arc<dyn EventSink>) -> Self {
        End {
            sink,
            ids: TxIds::new(TxOwner::STACK),
            closed: false,
            served: HashMap::new(),
        }
    }

    /// A fake drops what a full sink refuses, as the port says; only a request's refusal has an answer.
    fn tell(&self, event: StackEvent) {
        if !self.closed {
            let _ = self.sink.try_emit(event);
        }
    }
}

/// A request that is under way, seen from both ends.
struct Exchange {
    /// `None` when the other end was shut down and never heard the request.
    server: Option<TxId>,
    request: SipRequest,
    state: Progress,
    cancelled: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Progress {
    Calling,
    Proceeding,
    /// A 2xx to an INVITE was sent (RFC 6026): more of them may follow.
    Accepted,
}

struct State {
    ends: [End; 2],
    branches: u64,
    /// By the client's side and id.
    calls: HashMap<(usize, TxId), Exchange>,
}

impl State {
    /// Ends the exchange on both ends.
    fn end(&mut self, side: usize, tx: TxId, end: TxEnd) {
        let Some(exchange) = self.calls.remove(&(side, tx)) else {
            return;
        };
        if let Some(server) = exchange.server {
            let server_end = match end {
                TxEnd::TimedOut if exchange.state != Progress::Accepted => TxEnd::TimedOut,
                _ => TxEnd::Done,
            };
            self.ends[1 - side].served.remove(&server);
            self.ends[1 - side].tell(StackEvent::TxEnded {
                tx: server,
                end: server_end,
            });
        }
        self.ends[side].tell(StackEvent::TxEnded { tx, end });
    }

    fn flow(side: usize) -> Flow {
        Flow {
            id: FLOW,
            transport: Transport::Udp,
            local: address(side),
            remote: address(1 - side),
        }
    }
}

struct WireEnd {
    state: Arc<Mutex<State>>,
    side: usize,
    patience: Duration,
}

impl WireEnd {
    /// Ends the exchange after 64*T1 when `still` holds then.
    fn end_later(&self, side: usize, tx: TxId, end: TxEnd, still: fn(&Exchange) -> bool) {
        let state = self.state.clone();
        let patience = self.patience;
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let mut state = state.lock();
            if state.calls.get(&(side, tx)).is_some_and(still) {
                state.end(side, tx, end);
            }
        });
    }

    fn check(&self, state: &State, operation: &'static str, route: &Route) -> Result<()> {
        if state.ends[self.side].closed {
            return Err(misuse(operation, "this end was shut down").advice("make a new pair"));
        }
        match route.flow {
            Some(flow) if flow != FLOW => Err(misuse(operation, format!("there is no flow {}", flow.0))
                .advice("send on a flow that an event has named")),
            _ => Ok(()),
        }
    }

    fn complete(&self, state: &mut State, request: &mut SipRequest) {
        state.branches += 1;
        let (address, branch) = (address(self.side), state.branches);
        request.headers.push_front(
            "Via",
            format_args!("SIP/2.0/UDP {address};rport;branch=z9hG4bKwire{branch}"),
        );
        if !request.headers.contains("Max-Forwards") {
            request.headers.push("Max-Forwards", 70);
        }
        if !request.headers.contains("User-Agent") {
            request.headers.push("User-Agent", "siprtc-testkit");
        }
        request.headers.set("Content-Length", request.body.len());
    }
}

#[async_trait]
impl SipStack for WireEnd {
    fn capability(&self) -> SipCapability {
        SipCapability {
            transports: &[Transport::Udp],
            keepalives: &[],
            gaps: &[
                Gap {
                    feature: Feature::Ipv6,
                    why: "its addresses are made up, and all IPv4",
                },
                Gap {
                    feature: Feature::FlowControl,
                    why: "it has no connections",
                },
            ],
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let address = address(self.side);
        vec![Listener {
            transport: Transport::Udp,
            bound: address,
            advertised: address,
        }]
    }

    async fn send_request(&self, tx: TxId, mut request: SipRequest, route: Route) -> Result<()> {
        const OPERATION: &str = "send request";
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return Err(
                misuse(OPERATION, format!("{} begins no transaction", request.method))
                    .advice("call send_ack or cancel"),
            );
        }
        let mut state = self.state.lock();
        self.check(&state, OPERATION, &route)?;
        if state.calls.contains_key(&(self.side, tx)) {
            return Err(
                misuse(OPERATION, format!("{tx} is in use")).advice("mint a new id for every request")
            );
        }
        if state.calls.len() >= MAX_TRANSACTIONS {
            return Err(Error::new(Fault::Backend, OPERATION, "too many transactions").backend(NAME));
        }
        self.complete(&mut state, &mut request);
        let invite = request.method == Method::Invite;
        let far = 1 - self.side;
        let server = (!state.ends[far].closed).then(|| state.ends[far].ids.mint());
        let exchange = Exchange {
            server,
            request: request.clone(),
            state: Progress::Calling,
            cancelled: false,
        };
        state.calls.insert((self.side, tx), exchange);
        if let Some(server) = server {
            state.ends[far].served.insert(server, tx);
            let event = StackEvent::Request {
                tx: server,
                request: request.clone(),
                flow: State::flow(far),
            };
            if state.ends[far].sink.try_emit(event).is_err() {
                state.ends[far].served.remove(&server);
                state.calls.remove(&(self.side, tx));
                let mut busy = request.response(503);
                busy.headers.push("Retry-After", 10);
                let flow = Some(State::flow(self.side));
                state.ends[self.side].tell(StackEvent::Response {
                    tx,
                    response: busy,
                    flow,
                });
                state.ends[self.side].tell(StackEvent::TxEnded { tx, end: TxEnd::Done });
                return Ok(());
            }
        }
        drop(state);
        // Timer F runs whatever is provisional, timer B only until the first provisional answer.
        let unanswered: fn(&Exchange) -> bool = match invite {
            true => |exchange| exchange.state == Progress::Calling,
            false => |_| true,
        };
        self.end_later(self.side, tx, TxEnd::TimedOut, unanswered);
        Ok(())
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        const OPERATION: &str = "cancel";
        // What a CANCEL carries is not told to the other end's user: the port's `Cancelled` has no room for it.
        let _ = extra;
        let mut state = self.state.lock();
        self.check(&state, OPERATION, &Route::default())?;
        let far = 1 - self.side;
        let exchange = match state.calls.get_mut(&(self.side, invite)) {
            Some(exchange) if exchange.request.method == Method::Invite => exchange,
            _ => {
                return Err(
                    misuse(OPERATION, format!("there is no INVITE transaction {invite}"))
                        .advice("cancel only what has not ended"),
                );
            }
        };
        match exchange.state {
            Progress::Calling => {
                return Err(
                    misuse(OPERATION, format!("{invite} has had no provisional answer"))
                        .advice("wait for one (RFC 3261 section 9.1)"),
                );
            }
            // The 2xx and the CANCEL have crossed: nothing is left to cancel.
            Progress::Accepted => return Ok(()),
            Progress::Proceeding if exchange.cancelled => return Ok(()),
            Progress::Proceeding => exchange.cancelled = true,
        }
        if let Some(server) = exchange.server {
            state.ends[far].tell(StackEvent::Cancelled { invite: server });
        }
        drop(state);
        self.end_later(self.side, invite, TxEnd::TimedOut, |exchange| {
            exchange.state != Progress::Accepted
        });
        Ok(())
    }

    async fn send_ack(&self, mut ack: SipRequest, route: Route) -> Result<()> {
        let mut state = self.state.lock();
        self.check(&state, "send ACK", &route)?;
        self.complete(&mut state, &mut ack);
        let far = 1 - self.side;
        state.ends[far].tell(StackEvent::Ack {
            request: ack,
            flow: State::flow(far),
        });
        Ok(())
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        const OPERATION: &str = "respond";
        let mut state = self.state.lock();
        self.check(&state, OPERATION, &Route::default())?;
        let far = 1 - self.side;
        let no_such =
            || misuse(OPERATION, format!("there is no server transaction {tx}")).advice("it has ended");
        let client = *state.ends[self.side].served.get(&tx).ok_or_else(no_such)?;
        let exchange = state.calls.get_mut(&(far, client)).ok_or_else(no_such)?;
        if exchange.state == Progress::Accepted && !response.is_success() {
            return Err(misuse(OPERATION, format!("{tx} was already answered with a 2xx"))
                .advice("end the dialog with BYE"));
        }
        let accepted = exchange.request.method == Method::Invite && response.is_success();
        let again = exchange.state == Progress::Accepted;
        exchange.state = if accepted {
            Progress::Accepted
        } else {
            Progress::Proceeding
        };
        let response = complete_response(&exchange.request, response);
        let is_final = response.is_final();
        state.ends[far].tell(StackEvent::Response {
            tx: client,
            response,
            flow: Some(State::flow(far)),
        });
        if is_final && !accepted {
            state.end(far, client, TxEnd::Done);
        }
        drop(state);
        if accepted && !again {
            self.end_later(far, client, TxEnd::Done, |_| true);
        }
        Ok(())
    }

    async fn keepalive(&self, flow: FlowId, _kind: Keepalive) -> Result<()> {
        self.check(&self.state.lock(), "keepalive", &Route::over(flow))
    }

    async fn close_flow(&self, _flow: FlowId) -> Result<()> {
        Ok(())
    }

    async fn shutdown(&self, grace: Duration) {
        let own = |state: &State| -> Vec<TxId> {
            state
                .calls
                .keys()
                .filter(|(side, _)| *side == self.side)
                .map(|(_, tx)| *tx)
                .collect()
        };
        if !own(&self.state.lock()).is_empty() {
            tokio::time::sleep(grace).await;
        }
        let mut state = self.state.lock();
        for tx in own(&state) {
            state.end(
                self.side,
                tx,
                TxEnd::Transport("the stack was shut down".to_owned()),
            );
        }
        state.ends[self.side].closed = true;
    }
}

/// What the port promises of a response: identity from the request, To when absent, Content-Length.
fn complete_response(request: &SipRequest, mut response: SipResponse) -> SipResponse {
    let mut own = Headers::new();
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let keep_to = name == "To" && response.headers.contains("To");
        own.copy_from(
            if keep_to {
                &response.headers
            } else {
                &request.headers
            },
            name,
        );
        response.headers.remove(name);
    }
    for (name, value) in response.headers.iter() {
        own.push(name.as_str(), value);
    }
    own.set("Content-Length", response.body.len());
    response.headers = own;
    response
}

fn address(side: usize) -> SocketAddr {
    let host = if side == 0 { 1 } else { 2 };
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), 5060))
}

fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message).backend(NAME)
}

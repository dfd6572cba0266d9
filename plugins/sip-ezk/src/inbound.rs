//! Requests from outside: ezk hands them over, our server transactions take them.

use crate::convert;
use crate::server::{Key, Received};
use crate::shared::{Peer, Shared};
use bytes::Bytes;
use ezk_sip_core::transport::{MessageTpInfo, TpHandle};
use ezk_sip_core::{Endpoint, IncomingRequest, Layer, MayTake};
use siprtc_core::Result;
use siprtc_core::sip::{Flow, Headers, Method, SipMessage, SipRequest, SipResponse, StackEvent, Via};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// How many octets of an unreadable message are reported.
const REPORTED: usize = 2048;

/// Seconds after which whoever got a 503 may try again.
const RETRY_AFTER: u32 = 10;

/// ezk calls this for every request that none of its own transactions knows: for every request, since we leave it
/// without any server transaction.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Inbound { shared }
    }
}

#[async_trait::async_trait]
impl Layer for Inbound {
    fn name(&self) -> &'static str {
        "siprtc"
    }

    async fn receive(&self, _endpoint: &Endpoint, request: MayTake<'_, IncomingRequest>) {
        // With the request goes ezk's registration of its transaction: the next copy comes here again.
        let info = request.take().tp_info;
        receive(&self.shared, info).await;
    }
}

/// The start of a message, for a report.
pub(crate) fn start_of(raw: &Bytes) -> Bytes {
    raw.slice(..raw.len().min(REPORTED))
}

async fn receive(shared: &Arc<Shared>, info: MessageTpInfo) {
    let flow = shared.flow_seen(&info.transport, info.source);
    let mut request = match SipMessage::parse(&info.buffer, &shared.config.limits) {
        Ok(SipMessage::Request(request)) => request,
        Ok(SipMessage::Response(_)) => return,
        Err(error) => {
            shared.emit(StackEvent::ParseError {
                flow,
                raw: start_of(&info.buffer),
                error: Arc::new(error),
            });
            return;
        }
    };
    let original = match request.headers.top_via() {
        Ok(via) => via,
        Err(error) => {
            shared.emit(StackEvent::ParseError {
                flow,
                raw: start_of(&info.buffer),
                error: Arc::new(error),
            });
            return;
        }
    };
    let via = stamp(&mut request.headers, original.clone(), info.source);
    let peer = answer_to(info.transport, &via, info.source);
    if let Err(error) = request.validate() {
        if request.method != Method::Ack {
            answer_alone(shared, &request, &peer, 400, None).await;
        }
        shared.emit(StackEvent::ParseError {
            flow,
            raw: start_of(&info.buffer),
            error: Arc::new(error),
        });
        return;
    }
    let Ok(key) = Key::of(&request, &original, &request.method) else {
        return;
    };
    match request.method {
        Method::Ack => ack(shared, request, flow, &key).await,
        Method::Cancel => cancel(shared, &request, &original, &peer).await,
        _ => begin(shared, request, flow, key, peer).await,
    }
}

async fn ack(shared: &Arc<Shared>, request: SipRequest, flow: Flow, key: &Key) {
    let received = shared.servers.lock().receive(Instant::now(), key, &Method::Ack);
    shared.deadlines_moved.notify_one();
    shared.flush().await;
    if received == Received::Absorbed {
        return;
    }
    // The ACK of an answer that we gave without a transaction.
    if request
        .headers
        .to()
        .is_ok_and(|to| to.tag() == Some(&shared.stateless_tag))
    {
        return;
    }
    shared.emit(StackEvent::Ack { request, flow });
}

/// RFC 3261 section 9.2. A copy of the CANCEL gets the same answer again, and its user hears nothing.
async fn cancel(shared: &Arc<Shared>, request: &SipRequest, via: &Via, peer: &Peer) {
    let Ok(invite) = Key::of(request, via, &Method::Invite) else {
        return;
    };
    let found = shared.servers.lock().cancel(&invite);
    let status = if found.is_some() { 200 } else { 481 };
    answer_alone(shared, request, peer, status, None).await;
    if let Some(Some(invite)) = found {
        shared.emit(StackEvent::Cancelled { invite });
    }
}

async fn begin(shared: &Arc<Shared>, request: SipRequest, flow: Flow, key: Key, peer: Peer) {
    let now = Instant::now();
    if shared.servers.lock().receive(now, &key, &request.method) == Received::Absorbed {
        shared.flush().await;
        return;
    }
    let full = shared.open() >= shared.config.max_transactions;
    if full || shared.closing.load(Ordering::Acquire) {
        answer_alone(shared, &request, &peer, 503, Some(RETRY_AFTER)).await;
        return;
    }
    let tx = shared.ids.mint();
    let identity = Arc::new(convert::identity(&request));
    let reliable = !peer.handle.is_udp();
    shared
        .servers
        .lock()
        .begin(now, tx, key, identity, reliable, peer.clone());
    shared.deadlines_moved.notify_one();
    // Begun before it is told, for the answer may come from another thread before this one goes on.
    let event = StackEvent::Request { tx, request, flow };
    if shared.try_emit(event).is_err() {
        let identity = {
            let mut servers = shared.servers.lock();
            let identity = servers.request(tx);
            servers.forget(tx);
            identity
        };
        if let Some(identity) = identity {
            answer_alone(shared, &identity, &peer, 503, Some(RETRY_AFTER)).await;
        }
    }
}

/// Answers without keeping anything, as a stateless server does (RFC 3261 section 8.2.7).
async fn answer_alone(
    shared: &Arc<Shared>,
    request: &SipRequest,
    peer: &Peer,
    status: u16,
    retry_after: Option<u32>,
) {
    let mut response: SipResponse = request.response(status);
    if let Ok(to) = response.headers.to()
        && to.tag().is_none()
    {
        response
            .headers
            .set("To", to.with_tag(shared.stateless_tag.as_str()));
    }
    if let Some(seconds) = retry_after {
        response.headers.push("Retry-After", seconds);
    }
    if !shared.config.user_agent.is_empty() {
        response.headers.push("Server", &shared.config.user_agent);
    }
    if let Err(error) = peer.send(&response.to_bytes()).await {
        tracing::debug!(%error, status, "an answer was not sent");
    }
}

/// RFC 3261 section 18.2.1 and RFC 3581 section 4: writes down where the request really came from.
fn stamp(headers: &mut Headers, mut via: Via, source: SocketAddr) -> Via {
    let rport = via.params.contains("rport");
    if rport {
        via.params.set("rport", source.port().to_string());
    }
    if rport || via.host != siprtc_core::sip::Host::Ip(source.ip()) {
        via.params.set("received", source.ip().to_string());
    }
    let lower: Vec<String> = headers
        .items("Via")
        .into_iter()
        .skip(1)
        .map(ToOwned::to_owned)
        .collect();
    headers.remove("Via");
    for value in lower.iter().rev() {
        headers.push_front("Via", value);
    }
    headers.push_front("Via", &via);
    via
}

/// RFC 3261 section 18.2.2, RFC 3581 section 4. `maddr` is not followed: it would let anybody aim our answers.
fn answer_to(handle: TpHandle, via: &Via, source: SocketAddr) -> Peer {
    let to = match (handle.connection_remote(), via.params.contains("rport")) {
        (Some(remote), _) => remote,
        (None, true) => source,
        (None, false) => SocketAddr::new(source.ip(), via.port.unwrap_or(5060)),
    };
    Peer { handle, to }
}

/// Answers a server transaction. Runs inside the engine's own runtime.
pub(crate) async fn respond(
    shared: Arc<Shared>,
    tx: siprtc_core::sip::TxId,
    response: SipResponse,
) -> Result<()> {
    const OPERATION: &str = "respond";
    let status = response.status;
    if !(100..700).contains(&status) {
        return Err(convert::misuse(OPERATION, format!("{status} is no status")).advice("use 100 to 699"));
    }
    let unknown = || {
        convert::misuse(OPERATION, format!("there is no server transaction {tx}"))
            .advice("it has ended, or never was")
    };
    let request = shared.servers.lock().request(tx).ok_or_else(unknown)?;
    let response = convert::complete_response(&request, response, &shared.config.user_agent, OPERATION)?;
    let bytes = response.to_bytes();
    let responded = shared.servers.lock().respond(Instant::now(), tx, status, &bytes);
    let peer = responded.map_err(|refusal| match refusal {
        crate::server::Refusal::Unknown => unknown(),
        crate::server::Refusal::Answered => {
            convert::misuse(OPERATION, format!("{tx} has had its final answer")).advice("answer once")
        }
    })?;
    shared.deadlines_moved.notify_one();
    let sent = peer.send(&bytes).await;
    if let Err(error) = &sent
        && status >= 200
    {
        shared.servers.lock().fail(tx, error.to_string());
    }
    shared.flush().await;
    sent.map_err(|error| {
        convert::backend(OPERATION, format!("could not send the {status} to {}", peer.to))
            .caused_by(error)
            .advice("the peer's connection may be gone; it will ask again")
    })
}

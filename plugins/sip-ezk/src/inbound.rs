//! Requests from outside: ezk hands them over, the server transactions take them.

use crate::convert;
use crate::shared::{Peer, Shared, Way};
use bytes::Bytes;
use ezk_sip_core::transport::{MessageTpInfo, TpHandle};
use ezk_sip_core::{Endpoint, IncomingRequest, Layer, MayTake};
use siprtc_core::Result;
use siprtc_core::sip::{Headers, SipMessage, SipResponse, StackEvent, Via};
use std::net::SocketAddr;
use std::sync::Arc;

/// How many octets of an unreadable message are reported.
const REPORTED: usize = 2048;

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
    let via = match request.headers.top_via() {
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
    let via = stamp(&mut request.headers, via, info.source);
    let peer = answer_to(info.transport, &via, info.source);
    let way = Way { peer, flow };
    if let Err(error) = request.validate() {
        // What cannot be sent is logged there.
        let _ = shared
            .serve(|servers, _| servers.reject(way, &request, 400, None))
            .await;
        shared.emit(StackEvent::ParseError {
            flow,
            raw: start_of(&info.buffer),
            error: Arc::new(error),
        });
        return;
    }
    let request = SipMessage::Request(request);
    let _ = shared
        .serve(|servers, now| servers.receive(now, way, request))
        .await;
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
    headers.replace_first("Via", &via);
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
    let response = convert::complete_response(response, &shared.config.user_agent, OPERATION)?;
    let (responded, sent) = shared
        .serve(|servers, now| servers.respond(now, tx, response))
        .await;
    responded.map_err(|error| error.backend(crate::NAME))?;
    sent.map_err(|error| {
        convert::backend(OPERATION, format!("could not send the {status}"))
            .caused_by(error)
            .advice("the peer's connection may be gone; it will ask again")
    })
}

//! What comes in: to whom it goes.

use crate::client;
use crate::key::Key;
use crate::peer::Peer;
use crate::read::{self, Incoming, Refused};
use crate::server::{self, Known, RETRY_AFTER, add_tag};
use crate::shared::Shared;
use bytes::Bytes;
use siprtc_core::sip::{Flow, Method, SipRequest, SipResponse, StackEvent};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many octets of an unreadable message are reported.
const REPORTED: usize = 2048;

/// Takes one message; `peer` says how to reach an address on its flow. `false` when it was nothing that could be
/// answered.
pub(crate) fn receive(
    shared: &Arc<Shared>,
    octets: &[u8],
    datagram: bool,
    flow: Flow,
    peer: impl FnOnce(SocketAddr) -> Peer,
) -> bool {
    match read::read(octets, &shared.config.limits, flow.remote, datagram) {
        Ok(Incoming::Request {
            request,
            key,
            answer_to,
        }) => match request.method {
            Method::Ack => acknowledge(shared, request, &key, flow),
            Method::Cancel => cancel(shared, &request, &key, &peer(answer_to)),
            _ => begin(shared, request, key, peer(answer_to), flow),
        },
        Ok(Incoming::Response { response, key }) => client::hear(shared, &key, response, flow, peer),
        Err(Refused { error, answer }) => {
            let answered = answer.is_some();
            if let Some((status, request, to)) = answer {
                answer_alone(shared, &peer(to), request.response(status));
            }
            shared.emit(StackEvent::ParseError {
                flow,
                raw: Bytes::copy_from_slice(&octets[..octets.len().min(REPORTED)]),
                error: Arc::new(error),
            });
            return answered;
        }
    }
    true
}

fn begin(shared: &Arc<Shared>, request: SipRequest, key: Key, peer: Peer, flow: Flow) {
    let known = shared.servers.lock().of_key(&key);
    match known {
        Some(Known::Server(server)) => return server.copy(),
        Some(Known::Over(last)) => {
            if let Some(last) = last {
                peer.send_or_lose(last);
            }
            return;
        }
        None => (),
    }
    if shared.closing.load(Ordering::Acquire) || !shared.try_open() {
        let mut response = request.response(503);
        response.headers.push("Retry-After", RETRY_AFTER);
        return answer_alone(shared, &peer, response);
    }
    if let Err(response) = server::begin(shared, request, key, peer.clone(), flow) {
        answer_alone(shared, &peer, response);
    }
}

/// An ACK of a 2xx has a branch of its own (RFC 3261 section 13.2.2.4), except from old user agents.
fn acknowledge(shared: &Arc<Shared>, request: SipRequest, key: &Key, flow: Flow) {
    let known = shared.servers.lock().of_key(key);
    let absorbed = match known {
        Some(Known::Server(server)) => server.acknowledge(shared, &request),
        Some(Known::Over(_)) => true,
        None => false,
    };
    if absorbed {
        return;
    }
    // Of an answer that was given without a transaction.
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
fn cancel(shared: &Arc<Shared>, request: &SipRequest, key: &Key, peer: &Peer) {
    let known = shared.servers.lock().of_key(key);
    let mut response = request.response(if known.is_some() { 200 } else { 481 });
    if let Some(Known::Server(server)) = known
        && let Some(to) = server.cancel(shared)
    {
        response.headers.set("To", to);
    }
    answer_alone(shared, peer, response);
}

/// Answers without keeping anything, as a stateless server does (RFC 3261 section 8.2.7).
fn answer_alone(shared: &Shared, peer: &Peer, mut response: SipResponse) {
    add_tag(&mut response.headers, &shared.stateless_tag);
    if !shared.config.user_agent.is_empty() {
        response.headers.push("Server", &shared.config.user_agent);
    }
    peer.send_or_lose(response.to_bytes());
}

//! Where a request goes, over which flow, and what its Via says (RFC 3261 sections 8.1.2 and 18.1.1).

use crate::connect::{self, Place};
use crate::convert::{backend, misuse, unsupported};
use crate::flows::{local_address, source_towards};
use crate::peer::Peer;
use crate::shared::Shared;
use crate::udp::Socket;
use siprtc_core::sip::{FlowId, Host, Route, SipRequest, SipUri, Transport, Uri};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest time to resolve a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// `prefix` and 128 random bits.
pub(crate) fn token(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

/// Finds the destination and opens a connection where one is needed.
pub(crate) async fn find(
    shared: &Arc<Shared>,
    request: &SipRequest,
    route: &Route,
    operation: &'static str,
) -> Result<Peer> {
    let peer = select(shared, request, route, operation).await?;
    let secure = matches!(peer.flow().transport, Transport::Tls | Transport::Wss);
    match &request.uri {
        // RFC 3261 section 26.2.2.
        Uri::Sip(uri) if uri.secure && !secure => {
            let message = format!("{} would go in the clear, over {}", uri, peer.flow().transport);
            Err(misuse(operation, message).advice("send a sips: URI over TLS or WSS, or write sip:"))
        }
        _ => Ok(peer),
    }
}

async fn select(
    shared: &Arc<Shared>,
    request: &SipRequest,
    route: &Route,
    operation: &'static str,
) -> Result<Peer> {
    if let Some(id) = route.flow {
        return over_flow(shared, id, operation);
    }
    let hop = next_hop(request, route, operation)?;
    let transport = match hop.params.value("transport") {
        Some(other) if hop.transport().is_none() => {
            return Err(unsupported(operation, format!("no way to speak {other}"))
                .advice("use UDP, TCP, TLS, WS or WSS"));
        }
        _ => hop.hop_transport(),
    };
    if hop.secure && transport == Transport::Udp {
        return Err(unsupported(operation, format!("{hop} asks for TLS and for UDP"))
            .advice("leave its transport parameter out"));
    }
    let name = route.server_name.clone().unwrap_or_else(|| hop.host.to_string());
    let (host, port) = (effective_host(&hop, operation)?, port(&hop, transport));
    if let (Host::Ip(ip), Transport::Udp) = (&host, transport) {
        return over_udp(shared, SocketAddr::new(*ip, port), operation);
    }
    // Names are resolved and connections opened where the stack lives, not where the caller does.
    let (here, fresh) = (shared.clone(), route.fresh);
    let going = shared.runtime.spawn(async move {
        let to = SocketAddr::new(resolve(&here, &host, transport, operation).await?, port);
        match transport {
            Transport::Udp => over_udp(&here, to, operation),
            _ => {
                let place = Place { transport, to, name };
                connect::connect(here, place, fresh).await.map(Peer::Connection)
            }
        }
    });
    going
        .await
        .unwrap_or_else(|_| Err(crate::shared::stopped(operation)))
}

pub(crate) fn over_flow(shared: &Arc<Shared>, id: FlowId, operation: &'static str) -> Result<Peer> {
    if let Some(connection) = shared.flows.connection(id) {
        return Ok(Peer::Connection(connection));
    }
    let (flow, socket) = shared.flows.find_udp(id).ok_or_else(|| {
        backend(operation, format!("flow {} is gone", id.0)).advice("send by address, or register again")
    })?;
    Ok(Peer::Udp {
        socket,
        to: flow.remote,
        flow,
    })
}

fn over_udp(shared: &Arc<Shared>, to: SocketAddr, operation: &'static str) -> Result<Peer> {
    let socket = pick_udp(&shared.sockets(), to).ok_or_else(|| no_socket(to, operation))?;
    let flow = shared.flows.udp(&socket, to);
    Ok(Peer::Udp { socket, to, flow })
}

/// RFC 3261 section 8.1.2: an explicit hop, else the topmost Route, else the Request-URI.
fn next_hop(request: &SipRequest, route: &Route, operation: &'static str) -> Result<SipUri> {
    if let Some(hop) = &route.next_hop {
        return Ok(hop.clone());
    }
    let readable = |error| misuse(operation, "the Route cannot be read").caused_by(error);
    let uri = match request.headers.routes().map_err(readable)?.into_iter().next() {
        Some(top) => top.uri,
        None => request.uri.clone(),
    };
    match uri {
        Uri::Sip(uri) => Ok(uri),
        Uri::Other(text) => Err(unsupported(operation, format!("no way to reach {text}"))
            .advice("give a next hop, such as the account's outbound proxy")),
    }
}

/// RFC 3261 section 16.6 step 7: maddr overrides the host.
fn effective_host(hop: &SipUri, operation: &'static str) -> Result<Host> {
    match hop.params.value("maddr") {
        Some(maddr) => maddr
            .parse()
            .map_err(|error: Error| misuse(operation, "maddr cannot be read").caused_by(error)),
        None => Ok(hop.host.clone()),
    }
}

fn port(hop: &SipUri, transport: Transport) -> u16 {
    hop.port.unwrap_or(match transport {
        Transport::Tls => 5061,
        // RFC 7118 section 5.2.2 gives WebSocket HTTP's ports.
        Transport::Ws => 80,
        Transport::Wss => 443,
        _ => 5060,
    })
}

/// A and AAAA only: what RFC 3263 says comes before is done above the port.
async fn resolve(
    shared: &Shared,
    host: &Host,
    transport: Transport,
    operation: &'static str,
) -> Result<std::net::IpAddr> {
    let name = match host {
        Host::Ip(ip) => return Ok(*ip),
        Host::Name(name) => name,
    };
    let unknown = |why: String| {
        backend(operation, format!("the name {name} leads nowhere"))
            .caused_by(why)
            .advice("check the name and the DNS servers")
    };
    let looking = tokio::net::lookup_host((name.as_str(), 0));
    let found = match tokio::time::timeout(RESOLVE_TIMEOUT, looking).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Err(_) => return Err(unknown(format!("no answer in {RESOLVE_TIMEOUT:?}"))),
    };
    let reachable = |to: &SocketAddr| {
        transport != Transport::Udp || shared.sockets().iter().any(|socket| same_family(socket, *to))
    };
    let mut found = found.filter(reachable);
    found
        .next()
        .map(|to| to.ip())
        .ok_or_else(|| unknown("no address of a family that we listen on".to_owned()))
}

/// The socket that the system's routes to `to` leave from, else one on every address, else any of that family.
fn pick_udp(sockets: &[Arc<Socket>], to: SocketAddr) -> Option<Arc<Socket>> {
    let candidates: Vec<&Arc<Socket>> = sockets.iter().filter(|socket| same_family(socket, to)).collect();
    if candidates.len() > 1
        && let Some(source) = source_towards(to)
        && let Some(best) = candidates.iter().find(|socket| socket.bound.ip() == source.ip())
    {
        return Some(Arc::clone(best));
    }
    let any = candidates
        .iter()
        .find(|socket| socket.bound.ip().is_unspecified());
    any.or(candidates.first()).map(|socket| Arc::clone(socket))
}

fn same_family(socket: &Socket, to: SocketAddr) -> bool {
    socket.bound.is_ipv4() == to.is_ipv4()
}

/// A branch that was never used.
pub(crate) fn new_branch() -> String {
    token("z9hG4bK")
}

/// A whole Via value. The sent-by is where answers would come if the request's own
/// path were gone (RFC 3261 section 18.1.1).
pub(crate) fn new_via(shared: &Shared, peer: &Peer, branch: &str) -> String {
    let flow = peer.flow();
    let listener = shared.listeners().iter().find(|listener| match peer {
        Peer::Udp { socket, .. } => listener.transport == Transport::Udp && listener.bound == socket.bound,
        Peer::Connection(_) => {
            listener.transport == flow.transport && listener.bound.is_ipv4() == flow.local.is_ipv4()
        }
    });
    let sent_by = match (listener, flow.transport) {
        (Some(listener), _) if listener.advertised != listener.bound => listener.advertised,
        (Some(listener), _) => local_address(listener.bound, peer.to()),
        // RFC 7118 section 5: a client behind a WebSocket cannot be connected to, and says so.
        (None, Transport::Ws | Transport::Wss) => {
            let host = &shared.invalid_host;
            return format!("SIP/2.0/{} {host};rport;branch={branch}", flow.transport);
        }
        (None, _) => flow.local,
    };
    format!("SIP/2.0/{} {sent_by};rport;branch={branch}", flow.transport)
}

fn no_socket(to: SocketAddr, operation: &'static str) -> Error {
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    let message = format!("no UDP listener for {family}, which {to} needs");
    Error::new(Fault::ConfigInvalid, operation, message)
        .advice(format!("add a UDP listener with an {family} address"))
        .backend(crate::NAME)
}

//! Where a request goes, over which socket, and what its Via says (RFC 3261 sections 8.1.2 and 18.1.1).

use crate::connection;
use crate::convert::{backend, misuse, no_websocket};
use crate::engine::Engine;
use crate::flows::{self, local_address, source_towards};
use crate::shared::{Peer, Shared};
use ezk_sip_core::transport::TpHandle;
use ezk_sip_types::host::HostPort;
use siprtc_core::sip::{Host, Route, SipRequest, SipUri, Transport, Uri};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest time to resolve a name and to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A destination that is ready to be sent to.
pub(crate) struct Target {
    pub(crate) peer: Peer,
    /// The Via's sent-by.
    pub(crate) sent_by: SocketAddr,
    transport: Transport,
}

impl Target {
    /// A whole Via value with a branch that was never used.
    pub(crate) fn new_via(&self) -> String {
        format!(
            "SIP/2.0/{} {};rport;branch={}",
            self.transport,
            self.sent_by,
            token("z9hG4bK")
        )
    }

    /// What ezk is to write as the sent-by. It has no way to add `rport` (RFC 3581), so that rides along.
    pub(crate) fn ezk_sent_by(&self) -> HostPort {
        HostPort::host_name(format!("{};rport", self.sent_by))
    }
}

/// `prefix` and 128 random bits.
pub(crate) fn token(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

/// Finds the destination and opens a connection where one is needed. Must run inside the engine's own runtime.
pub(crate) async fn find(
    engine: &Engine,
    shared: &Arc<Shared>,
    request: &SipRequest,
    route: &Route,
    operation: &'static str,
) -> Result<Target> {
    let peer = match route.flow {
        Some(id) => {
            let (flow, handle) = shared.flows.find(id).ok_or_else(|| {
                backend(operation, format!("flow {} is gone", id.0))
                    .advice("send by address, or register again")
            })?;
            Peer {
                handle,
                to: flow.remote,
            }
        }
        None => {
            let uri = next_hop(request, route, operation)?;
            let selecting = select(engine, shared, &uri, route.server_name.as_deref(), operation);
            match tokio::time::timeout(CONNECT_TIMEOUT, selecting).await {
                Ok(peer) => peer?,
                Err(_) => return Err(timed_out(&uri, operation)),
            }
        }
    };
    let transport = shared.flow_seen(&peer.handle, peer.to).transport;
    let sent_by = sent_by(engine, &peer, transport);
    Ok(Target {
        peer,
        sent_by,
        transport,
    })
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
        Uri::Other(text) => Err(
            Error::new(Fault::Unsupported, operation, format!("no way to reach {text}"))
                .advice("give a next hop, such as the account's outbound proxy")
                .backend(crate::NAME),
        ),
    }
}

async fn select(
    engine: &Engine,
    shared: &Shared,
    uri: &SipUri,
    server_name: Option<&str>,
    operation: &'static str,
) -> Result<Peer> {
    let wanted = wanted(uri, operation)?;
    let mut failed = misuse(operation, format!("{uri} has no address"));
    for to in addresses(uri, wanted, operation).await? {
        let peer = match (wanted, pick_udp(engine, to)) {
            // RFC 3263 section 4.1: UDP for an address without a transport, where we have it.
            (Some(Transport::Udp) | None, Some(handle)) => Ok(Peer { handle, to }),
            (Some(Transport::Udp), None) => Err(no_socket(to, operation)),
            (Some(Transport::Tls), _) => {
                let name = match server_name {
                    Some(name) => name.to_owned(),
                    None => uri.host.to_string(),
                };
                connection::tls(engine, shared, to, &name, operation).await
            }
            _ => connection::tcp(engine, shared, to, operation).await,
        };
        match peer {
            Ok(peer) => return Ok(peer),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The transport that the URI asks for. RFC 3261 section 26.2.2: `sips:` is TLS.
fn wanted(uri: &SipUri, operation: &'static str) -> Result<Option<Transport>> {
    match (uri.params.value("transport"), uri.transport(), uri.secure) {
        (None, _, false) => Ok(None),
        (None, _, true) | (_, Some(Transport::Tcp), true) => Ok(Some(Transport::Tls)),
        (_, Some(Transport::Udp), true) => {
            Err(misuse(operation, "sips: is never spoken over UDP").advice("leave transport=udp away"))
        }
        (_, Some(known @ (Transport::Tcp | Transport::Tls | Transport::Udp)), _) => Ok(Some(known)),
        (Some(other), _, _) => Err(no_websocket(other, operation)),
    }
}

/// Where the URI leads, without NAPTR and SRV records: those are followed before it comes here.
async fn addresses(
    uri: &SipUri,
    wanted: Option<Transport>,
    operation: &'static str,
) -> Result<Vec<SocketAddr>> {
    // RFC 3261 section 16.6 step 7: maddr overrides the host.
    let host = match uri.params.value("maddr") {
        Some(maddr) => maddr
            .parse()
            .map_err(|e| misuse(operation, "maddr cannot be read").caused_by(e))?,
        None => uri.host.clone(),
    };
    let default = if wanted == Some(Transport::Tls) {
        5061
    } else {
        5060
    };
    let port = uri.port.unwrap_or(default);
    match host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        Host::Name(name) => match tokio::net::lookup_host((name.as_str(), port)).await {
            Ok(found) => Ok(found.take(MAX_ADDRESSES).collect()),
            Err(error) => Err(backend(operation, format!("{name} has no address"))
                .caused_by(error)
                .advice("check the spelling of the name, and the name server")),
        },
    }
}

/// The socket that the system's routes to `to` leave from, else one on every address, else any of that family.
fn pick_udp(engine: &Engine, to: SocketAddr) -> Option<TpHandle> {
    let mut candidates = engine.udp(to);
    if candidates.len() > 1
        && let Some(source) = source_towards(to)
        && let Some(best) = candidates
            .iter()
            .position(|handle| handle.bound().ip() == source.ip())
    {
        return Some(candidates.swap_remove(best));
    }
    let any = candidates
        .iter()
        .position(|handle| handle.bound().ip().is_unspecified());
    match any {
        Some(any) => Some(candidates.swap_remove(any)),
        None => candidates.into_iter().next(),
    }
}

/// RFC 3261 section 18.1.1: where answers would come if the request's own path were gone.
fn sent_by(engine: &Engine, peer: &Peer, transport: Transport) -> SocketAddr {
    let bound = peer.handle.bound();
    let listener = engine.listeners().iter().find(|listener| match transport {
        Transport::Udp => listener.transport == transport && listener.bound == bound,
        _ => listener.transport == transport && listener.bound.is_ipv4() == bound.is_ipv4(),
    });
    match listener {
        Some(listener) if listener.advertised != listener.bound => listener.advertised,
        Some(listener) => local_address(listener.bound, peer.to),
        None => flows::local_address(bound, peer.to),
    }
}

fn no_socket(to: SocketAddr, operation: &'static str) -> Error {
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    Error::new(
        Fault::ConfigInvalid,
        operation,
        format!("no UDP listener for {family}, which {to} needs"),
    )
    .advice(format!("add a UDP listener with an {family} address"))
    .backend(crate::NAME)
}

fn timed_out(uri: &SipUri, operation: &'static str) -> Error {
    Error::new(
        Fault::TimedOut,
        operation,
        format!("no connection to {uri} in {CONNECT_TIMEOUT:?}"),
    )
    .advice("check the address and the firewalls between")
    .backend(crate::NAME)
}

//! Where a request goes and what its Via says (RFC 3261 sections 8.1.2 and 18.1.1).

use crate::convert::{backend, misuse};
use siprtc_core::sip::{FlowId, Host, Listener, Route, SipRequest, SipUri, Transport, Uri};
use siprtc_core::{Error, Fault, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Longest time to resolve a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What connections are opened from where nobody listens for their transport.
pub(crate) const CLIENT_IDENT: &str = "out";

/// A socket of the library.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    /// What the library calls it.
    pub(crate) ident: String,
    pub(crate) listener: Listener,
    /// Whether anybody can reach it.
    pub(crate) listens: bool,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    Address {
        transport: Transport,
        to: SocketAddr,
        fresh: bool,
    },
    Flow(FlowId),
}

impl Socket {
    /// Whether a request over `transport` can leave from here to `to`.
    pub(crate) fn reaches(&self, transport: Transport, to: SocketAddr) -> bool {
        let bound = self.listener.bound.ip();
        self.listener.transport == transport
            && (!self.listens || bound.is_ipv4() == to.is_ipv4())
            // The system sends nothing from a loopback address to another host.
            && (!bound.is_loopback() || to.ip().is_loopback())
    }

    /// RFC 3261 section 18.1.1: where answers would come if the request's own path were gone.
    pub(crate) fn sent_by(&self, to: SocketAddr) -> String {
        let Listener {
            bound, advertised, ..
        } = self.listener;
        let address = match advertised == bound {
            true => local_address(bound, to),
            false => advertised,
        };
        match address.port() {
            // Nobody listens: a host is all that can be said.
            0 => Host::Ip(address.ip()).to_string(),
            _ => address.to_string(),
        }
    }
}

/// The socket for `to`: one that the system's routes leave from, else one that may do.
pub(crate) fn pick(sockets: &[Socket], transport: Transport, to: SocketAddr) -> Option<&Socket> {
    let candidates: Vec<&Socket> = sockets
        .iter()
        .filter(|socket| socket.reaches(transport, to))
        .collect();
    let [first, _, ..] = candidates.as_slice() else {
        return candidates.first().copied();
    };
    let source = source_towards(to).map(|source| source.ip());
    let best = candidates
        .iter()
        .find(|socket| socket.listens && Some(socket.listener.bound.ip()) == source)
        .or_else(|| candidates.iter().find(|socket| socket.listens));
    Some(best.unwrap_or(first))
}

/// RFC 3261 section 8.1.2: a flow, an explicit hop, the topmost Route, the Request-URI.
pub(crate) async fn destination(
    sockets: &[Socket],
    request: &SipRequest,
    route: &Route,
    operation: &'static str,
) -> Result<Destination> {
    if let Some(flow) = route.flow {
        return Ok(Destination::Flow(flow));
    }
    let uri = next_hop(request, route, operation)?;
    let transport = uri.hop_transport();
    let named = uri.params.contains("transport");
    if (named && uri.transport().is_none()) || !matches!(transport, Transport::Tcp | Transport::Udp) {
        let asked = uri.params.value("transport").unwrap_or(transport.as_str());
        return Err(unsupported(format!("no way to send over {asked}"), operation)
            .advice("use UDP or TCP, or another stack"));
    }
    let to = address(sockets, &uri, operation).await?;
    // RFC 3263 section 4.1: UDP for an address without a transport, where we have it.
    let transport = match named || pick(sockets, Transport::Udp, to).is_some() {
        true => transport,
        false => Transport::Tcp,
    };
    if pick(sockets, transport, to).is_none() {
        return Err(no_socket(transport, to, operation));
    }
    Ok(Destination::Address {
        transport,
        to,
        fresh: route.fresh,
    })
}

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
        Uri::Other(text) => Err(unsupported(format!("no way to reach {text}"), operation)
            .advice("give a next hop, such as the account's outbound proxy")),
    }
}

/// Addresses only (RFC 3263 is `siprtc-sip-locate`'s): the first whose family we have a socket for.
async fn address(sockets: &[Socket], uri: &SipUri, operation: &'static str) -> Result<SocketAddr> {
    // RFC 3261 section 16.6 step 7: maddr overrides the host.
    let host = match uri.params.value("maddr") {
        Some(maddr) => maddr
            .parse()
            .map_err(|e| misuse(operation, "maddr cannot be read").caused_by(e))?,
        None => uri.host.clone(),
    };
    let port = uri.port.unwrap_or(uri.default_port());
    let name = match host {
        Host::Ip(ip) => return Ok(SocketAddr::new(ip, port)),
        Host::Name(name) => name,
    };
    let looking = tokio::net::lookup_host((name.as_str(), port));
    let found = match tokio::time::timeout(RESOLVE_TIMEOUT, looking).await {
        Ok(found) => found.map_err(|error| {
            backend(operation, format!("{name} has no address"))
                .caused_by(error)
                .advice("check the name and the system's resolver")
        })?,
        Err(_) => {
            let message = format!("{name} was not resolved in {RESOLVE_TIMEOUT:?}");
            return Err(Error::new(Fault::TimedOut, operation, message)
                .advice("check the system's resolver")
                .backend(crate::NAME));
        }
    };
    let found: Vec<SocketAddr> = found.collect();
    let usable = |to: &&SocketAddr| {
        let transports = [Transport::Udp, Transport::Tcp];
        transports
            .into_iter()
            .any(|transport| pick(sockets, transport, **to).is_some())
    };
    found
        .iter()
        .find(usable)
        .or(found.first())
        .copied()
        .ok_or_else(|| backend(operation, format!("{name} has no address")).advice("check the name"))
}

/// `bound`, or what the system would choose towards `remote` when bound to every address. Sends nothing.
pub(crate) fn local_address(bound: SocketAddr, remote: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    match source_towards(remote) {
        Some(source) => SocketAddr::new(source.ip(), bound.port()),
        None => bound,
    }
}

/// The address that the system's routes give a packet to `remote`.
fn source_towards(remote: SocketAddr) -> Option<SocketAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a datagram socket only asks the routing table.
    probe.connect(remote).ok()?;
    probe.local_addr().ok()
}

pub(crate) fn no_socket(transport: Transport, to: SocketAddr, operation: &'static str) -> Error {
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    Error::new(
        Fault::ConfigInvalid,
        operation,
        format!("no {transport} listener for {family}, which {to} needs"),
    )
    .advice(format!("add a {transport} listener with an {family} address"))
    .backend(crate::NAME)
}

fn unsupported(message: String, operation: &'static str) -> Error {
    Error::new(Fault::Unsupported, operation, message).backend(crate::NAME)
}

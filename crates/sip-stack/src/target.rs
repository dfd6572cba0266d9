//! Where a request goes, over which socket or connection, and what its Via says (RFC 3261 sections 8.1.2 and 18.1.1).

use crate::complete::misuse;
use crate::connection::{Connection, Reached};
use crate::dial;
use crate::engine::Engine;
use crate::path::{Path, UdpPath};
use siprtc_core::sip::{Host, Listener, Route, SipRequest, SipUri, Transport, Uri};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest time to resolve a name.
const RESOLVE_TIME: Duration = Duration::from_secs(10);

/// A destination that is ready to be sent to.
pub(crate) struct Target {
    pub(crate) path: Path,
    transport: Transport,
    /// The Via's sent-by.
    sent_by: String,
}

impl Target {
    /// A whole Via value with a branch that was never used (RFC 3261 section 8.1.1.7, RFC 3581).
    pub(crate) fn new_via(&self) -> String {
        let branch = token("z9hG4bK");
        format!(
            "SIP/2.0/{} {};rport;branch={branch}",
            self.transport, self.sent_by
        )
    }
}

/// `prefix` and 128 random bits.
pub(crate) fn token(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

/// A destination, as a URI and a route say it.
struct Hop<'a> {
    transport: Option<Transport>,
    host: Host,
    port: Option<u16>,
    name: Option<&'a str>,
    fresh: bool,
}

/// Finds the destination and opens a connection where one is needed.
pub(crate) async fn find(
    engine: &Arc<Engine>,
    request: &SipRequest,
    route: &Route,
    operation: &'static str,
) -> Result<Target> {
    let secure = request.uri.as_sip().is_some_and(|uri| uri.secure);
    let path = match route.flow {
        Some(id) => {
            let udp = engine
                .udp_flows
                .find(id)
                .filter(|path| engine.udp_bound(path.socket).is_some());
            let path = match udp {
                Some(path) => Some(Path::Udp(path)),
                None => engine.connections.find(id).map(Path::Connection),
            };
            let path = path.ok_or_else(|| {
                engine
                    .error(Fault::Backend, operation, format!("flow {} is gone", id.0))
                    .advice("send by address, or register again")
            })?;
            check_secure(engine, secure, transport_of(&path), operation)?;
            path
        }
        None => {
            let uri = next_hop(engine, request, route, operation)?;
            let hop = Hop::of(engine, &uri, route, operation)?;
            hop.reach(engine, secure, operation).await?
        }
    };
    engine.target(path, operation)
}

/// RFC 3261 section 8.1.2: an explicit hop, else the topmost Route, else the Request-URI.
fn next_hop(engine: &Engine, request: &SipRequest, route: &Route, operation: &'static str) -> Result<SipUri> {
    if let Some(hop) = &route.next_hop {
        return Ok(hop.clone());
    }
    let readable = |error| misuse(operation, "the Route cannot be read").caused_by(error);
    let uri = match request.headers.contains("Route") {
        true => match request.headers.routes().map_err(readable)?.into_iter().next() {
            Some(top) => top.uri,
            None => request.uri.clone(),
        },
        false => request.uri.clone(),
    };
    match uri {
        Uri::Sip(uri) => Ok(uri),
        Uri::Other(text) => Err(engine
            .error(Fault::Unsupported, operation, format!("no way to reach {text}"))
            .advice("give a next hop, such as the account's outbound proxy")),
    }
}

/// RFC 3261 section 8.1.2 and 26.2.2: what is asked for as `sips:` travels in TLS or not at all.
fn check_secure(engine: &Engine, secure: bool, transport: Transport, operation: &'static str) -> Result<()> {
    if !secure || matches!(transport, Transport::Tls | Transport::Wss) {
        return Ok(());
    }
    let message = format!("a sips: URI must not go over {transport}");
    Err(engine
        .error(Fault::Unsupported, operation, message)
        .advice("use a proxy with TLS (transport=tls, or sips:), or a sip: URI"))
}

impl<'a> Hop<'a> {
    fn of(engine: &Engine, uri: &SipUri, route: &'a Route, operation: &'static str) -> Result<Self> {
        let unsupported = |message: String| engine.error(Fault::Unsupported, operation, message);
        let transport = match (uri.params.value("transport"), uri.transport(), uri.secure) {
            (None, _, false) => None,
            (None, _, true) => Some(Transport::Tls),
            (Some(_), Some(Transport::Tcp), true) => Some(Transport::Tls),
            (Some(_), Some(Transport::Ws), true) => Some(Transport::Wss),
            (Some(_), Some(Transport::Udp), true) => {
                return Err(unsupported(format!("{uri} asks for TLS over UDP"))
                    .advice("leave transport=udp away, which means TLS over TCP"));
            }
            (Some(_), Some(known), _) => Some(known),
            (Some(other), None, _) => {
                return Err(unsupported(format!("there is no transport \"{other}\""))
                    .advice("use udp, tcp, tls, ws or wss"));
            }
        };
        // RFC 3261 section 16.6 step 7: maddr overrides the host.
        let host = match uri.params.value("maddr") {
            Some(maddr) => maddr
                .parse()
                .map_err(|e| misuse(operation, "maddr cannot be read").caused_by(e))?,
            None => uri.host.clone(),
        };
        Ok(Hop {
            transport,
            host,
            port: uri.port,
            name: route.server_name.as_deref(),
            fresh: route.fresh,
        })
    }

    async fn reach(&self, engine: &Arc<Engine>, secure: bool, operation: &'static str) -> Result<Path> {
        if let Some(transport) = self.transport {
            check_secure(engine, secure, transport, operation)?;
        }
        let remote = self.address(engine, operation).await?;
        let socket = pick_udp(engine, remote);
        let transport = match (self.transport, socket) {
            // RFC 3263 section 4.1: UDP for an address without a transport, where we have it.
            (Some(Transport::Udp) | None, Some(socket)) => {
                check_secure(engine, secure, Transport::Udp, operation)?;
                return Ok(Path::Udp(UdpPath::new(socket, remote)));
            }
            (Some(Transport::Udp), None) => return Err(no_socket(engine, remote, operation)),
            (None, None) => Transport::Tcp,
            (Some(transport), _) => transport,
        };
        check_secure(engine, secure, transport, operation)?;
        let own = match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        };
        let name = (transport != Transport::Tcp).then_some(self.name.unwrap_or(&own));
        let reached = engine.connections.reach(transport, remote, name, self.fresh);
        let connection = match reached.map_err(|_| too_many(engine, operation))? {
            Reached::Known(connection) => connection,
            Reached::New(connection) => {
                engine.spawn(dial::open(engine.clone(), connection.clone()));
                connection
            }
        };
        match connection.open().await {
            Ok(_) => Ok(Path::Connection(connection)),
            Err(failure) => Err(failure.to_error(operation).backend(engine.name)),
        }
    }

    /// The first address of the host, of a family that we listen on.
    async fn address(&self, engine: &Arc<Engine>, operation: &'static str) -> Result<SocketAddr> {
        let port = self.port.unwrap_or(match self.transport {
            Some(Transport::Tls) => 5061,
            Some(Transport::Ws) => 80,
            Some(Transport::Wss) => 443,
            _ => 5060,
        });
        let name = match &self.host {
            Host::Ip(ip) => return Ok(SocketAddr::new(*ip, port)),
            Host::Name(name) => name.clone(),
        };
        let families: Vec<bool> = engine
            .listeners
            .iter()
            .map(|listener| listener.bound.is_ipv4())
            .collect();
        let asked = name.clone();
        let asking = engine.runtime.spawn(async move {
            let found = tokio::time::timeout(RESOLVE_TIME, tokio::net::lookup_host((asked, port))).await;
            found.map(|found| found.map(|addresses| addresses.collect::<Vec<_>>()))
        });
        let unresolved = |fault, message| {
            engine
                .error(fault, operation, message)
                .advice("check the name, and the name server of this host")
        };
        let found = match asking.await {
            Ok(Ok(Ok(addresses))) => addresses.into_iter().find(|to| families.contains(&to.is_ipv4())),
            Ok(Ok(Err(error))) => {
                let message = format!("the name {name} has no address");
                return Err(unresolved(Fault::Backend, message).caused_by(error));
            }
            Ok(Err(_)) => {
                let message = format!(
                    "no name server says the address of {name} in {} s",
                    RESOLVE_TIME.as_secs()
                );
                return Err(unresolved(Fault::TimedOut, message));
            }
            Err(_) => None,
        };
        found.ok_or_else(|| {
            let message = format!("the name {name} has no address of a family that is listened on");
            unresolved(Fault::ConfigInvalid, message)
        })
    }
}

/// The socket that the system's routes to `to` leave from, else one on every address, else any of that family.
fn pick_udp(engine: &Engine, to: SocketAddr) -> Option<u16> {
    let udp = engine.listeners.iter().filter(|l| l.transport == Transport::Udp);
    let candidates = (0_u16..)
        .zip(udp)
        .filter(|(_, l)| l.bound.is_ipv4() == to.is_ipv4());
    best(engine, candidates, to, |(_, listener)| listener.bound).map(|(number, _)| number)
}

/// Of those who are bound somewhere, the one that the system's routes to `to` leave from.
fn best<T: Copy>(
    engine: &Engine,
    candidates: impl Iterator<Item = T>,
    to: SocketAddr,
    bound: impl Fn(T) -> SocketAddr,
) -> Option<T> {
    let candidates: Vec<T> = candidates.collect();
    if candidates.len() < 2 {
        return candidates.first().copied();
    }
    let source = engine.udp_flows.source(to).map(|source| source.ip());
    let from_there = candidates.iter().find(|c| Some(bound(**c).ip()) == source);
    let from_all = candidates.iter().find(|c| bound(**c).ip().is_unspecified());
    from_there.or(from_all).or(candidates.first()).copied()
}

impl Engine {
    /// What a request over `path` says about itself.
    pub(crate) fn target(&self, path: Path, operation: &'static str) -> Result<Target> {
        let transport = transport_of(&path);
        let sent_by = match &path {
            Path::Udp(path) => {
                let mut udp = self.listeners.iter().filter(|l| l.transport == Transport::Udp);
                let listener = udp.nth(usize::from(path.socket));
                listener.map(|listener| self.reachable(listener, path.peer).to_string())
            }
            Path::Connection(connection) => self.sent_by(connection),
        };
        let sent_by = sent_by.ok_or_else(|| {
            self.error(Fault::Backend, operation, "the flow is gone")
                .advice("send by address, or register again")
        })?;
        Ok(Target {
            path,
            transport,
            sent_by,
        })
    }

    /// RFC 3261 section 18.1.1: where answers would come if the request's own connection were gone. `None`: it is gone.
    fn sent_by(&self, connection: &Connection) -> Option<String> {
        let flow = connection.flow()?;
        let opened = connection.name().is_some();
        if opened && matches!(flow.transport, Transport::Ws | Transport::Wss) {
            return Some(self.invalid_host.clone());
        }
        let listening = self
            .listeners
            .iter()
            .filter(|l| l.transport == flow.transport && l.bound.is_ipv4() == flow.remote.is_ipv4());
        let at = match best(self, listening, flow.remote, |listener| listener.bound) {
            Some(listener) => self.reachable(listener, flow.remote),
            None => flow.local,
        };
        Some(at.to_string())
    }

    /// Where `remote` finds a listener.
    fn reachable(&self, listener: &Listener, remote: SocketAddr) -> SocketAddr {
        match listener.advertised == listener.bound {
            true => self.udp_flows.local(listener.bound, remote),
            false => listener.advertised,
        }
    }
}

pub(crate) fn transport_of(path: &Path) -> Transport {
    match path {
        Path::Connection(connection) => connection.transport(),
        Path::Udp(_) => Transport::Udp,
    }
}

fn no_socket(engine: &Engine, to: SocketAddr, operation: &'static str) -> Error {
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    let message = format!("no UDP listener for {family}, which {to} needs");
    engine
        .error(Fault::ConfigInvalid, operation, message)
        .advice(format!("add a UDP listener with an {family} address"))
}

fn too_many(engine: &Engine, operation: &'static str) -> Error {
    let message = format!(
        "there are {} connections, which is the limit",
        engine.config.max_connections
    );
    engine
        .error(Fault::Backend, operation, message)
        .advice("raise max_connections, or send over a flow that is there")
}

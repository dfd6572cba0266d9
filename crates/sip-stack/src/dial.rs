//! Connections that we open.

use crate::connection::{Connection, Failure, Reached};
use crate::drive;
use crate::engine::Engine;
use crate::stream::{Explain, StreamWire};
use crate::tls::explain_io;
use crate::websocket::{self, WsWire};
use bytes::Bytes;
use siprtc_core::sip::{Host, SipMessage, Transport};
use siprtc_core::{Error, Fault, Result};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longest time to open a connection, handshakes included.
pub(crate) const OPEN_TIME: Duration = Duration::from_secs(15);

/// A peer that is gone without a word is noticed in 2 minutes; on Linux, where `UNACKNOWLEDGED_TIME` holds for probes
/// too, in 75 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
#[cfg(not(windows))]
const KEEPALIVE_PROBES: u32 = 4;

/// How long what was sent may stay without acknowledgement.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED_TIME: Duration = Duration::from_secs(30);

const OPERATION: &str = "connect";

/// Opens the connection and runs it in a task of its own.
pub(crate) async fn open(engine: Arc<Engine>, connection: Arc<Connection>) {
    let opening = timeout(OPEN_TIME, connect(&engine, &connection));
    let opened = tokio::select! {
        biased;
        () = engine.stop.requested() => Err(engine.error(Fault::Backend, OPERATION, "the stack was shut down").into()),
        opened = opening => opened.unwrap_or_else(|_| Err(timed_out(&connection).into())),
    };
    if let Err(failure) = opened {
        drive::abandon(&engine, &connection, failure);
    }
}

async fn connect(engine: &Arc<Engine>, connection: &Arc<Connection>) -> Result<(), Failure> {
    let (transport, remote) = (connection.transport(), connection.remote());
    let limits = engine.config.limits;
    let stream = connect_tcp(engine, remote)
        .await
        .map_err(|error| no_connection(transport, remote, error))?;
    tune(&stream);
    let local = stream
        .local_addr()
        .map_err(|e| no_connection(transport, remote, e))?;
    let name = connection.peer_name();
    let (host, _) = websocket::split_path(&name);
    let (engine_, connection_, explain) = (engine.clone(), connection.clone(), explainer(connection));
    match transport {
        Transport::Tls => {
            let stream = engine.tls.connect(stream, host).await?;
            let wire = StreamWire::new(stream, limits, explain);
            engine.spawn(drive::run(engine_, connection_, local, wire));
        }
        Transport::Ws => {
            let stream = websocket::connect(stream, transport, remote, &name, &limits).await?;
            engine.spawn(drive::run(
                engine_,
                connection_,
                local,
                WsWire::new(stream, explain),
            ));
        }
        Transport::Wss => {
            let stream = engine.tls.connect(stream, host).await?;
            let stream = websocket::connect(stream, transport, remote, &name, &limits).await?;
            engine.spawn(drive::run(
                engine_,
                connection_,
                local,
                WsWire::new(stream, explain),
            ));
        }
        _ => {
            let wire = StreamWire::new(stream, limits, explain);
            engine.spawn(drive::run(engine_, connection_, local, wire));
        }
    }
    Ok(())
}

/// RFC 3261 section 18.2.2: the connection on which the request came is gone, so its answer takes one to the address
/// that it came from, at the port of its sent-by. Only TCP and TLS: nobody can connect with a WebSocket client.
pub(crate) fn answer_elsewhere(
    engine: &Arc<Engine>,
    gone: &Connection,
    response: Bytes,
) -> Result<(), String> {
    let transport = gone.transport();
    let default = match transport {
        Transport::Tcp => 5060,
        Transport::Tls => 5061,
        _ => return Err("the connection is gone".to_owned()),
    };
    let message = SipMessage::parse(&response, &engine.config.limits).map_err(|error| error.to_string())?;
    let via = message.headers().top_via().map_err(|error| error.to_string())?;
    let remote = SocketAddr::new(gone.remote().ip(), via.port.unwrap_or(default));
    let name = match (transport, &via.host) {
        (Transport::Tls, Host::Name(name)) => Some(name.clone()),
        (Transport::Tls, Host::Ip(ip)) => Some(ip.to_string()),
        _ => None,
    };
    let reached = engine
        .connections
        .reach(transport, remote, name.as_deref(), false);
    match reached.map_err(|_| "there are too many connections".to_owned())? {
        Reached::Known(connection) => connection.push(response),
        Reached::New(connection) => {
            let pushed = connection.push(response);
            engine.spawn(open(engine.clone(), connection));
            pushed
        }
    }
}

async fn connect_tcp(engine: &Engine, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = match remote {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = source(engine, remote) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(remote).await
}

/// Who listens on one of this host's addresses also connects from it: a peer's firewall may know only that one. `None`:
/// the system's choice is right.
fn source(engine: &Engine, remote: SocketAddr) -> Option<IpAddr> {
    let listening: Vec<IpAddr> = engine
        .listeners
        .iter()
        .filter(|listener| listener.transport.is_reliable() && listener.bound.is_ipv4() == remote.is_ipv4())
        .map(|listener| listener.bound.ip())
        .collect();
    if listening.is_empty() || listening.iter().any(IpAddr::is_unspecified) {
        return None;
    }
    let chosen = engine.udp_flows.source(remote)?.ip();
    if listening.contains(&chosen) {
        return None;
    }
    let reachable = |ip: &IpAddr| ip.is_loopback() == remote.ip().is_loopback();
    listening.into_iter().find(reachable)
}

/// What every connection of ours has, accepted ones too. Not all systems have all of it, so errors are no matter.
pub(crate) fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME));
}

/// Says an I/O error of this connection.
pub(crate) fn explainer(connection: &Connection) -> Explain {
    let name = connection.peer_name();
    Box::new(move |error| explain_io(error, &name))
}

fn no_connection(transport: Transport, remote: SocketAddr, error: io::Error) -> Error {
    let wrong = |message: String| Error::new(Fault::Backend, OPERATION, message);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => wrong(format!("nobody listens on {transport} {remote}"))
            .advice("check the address and the port, and that the peer runs"),
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            wrong(format!("{remote} cannot be reached over {transport}"))
                .caused_by(error)
                .advice("check the address, the network and the firewalls between")
        }
        _ => wrong(format!("no {transport} connection to {remote}"))
            .caused_by(error)
            .advice("check the address, and how many files this process may open"),
    }
}

fn timed_out(connection: &Connection) -> Error {
    let (transport, remote) = (connection.transport(), connection.remote());
    let message = format!(
        "no {transport} connection to {remote} in {} s",
        OPEN_TIME.as_secs()
    );
    Error::new(Fault::TimedOut, OPERATION, message).advice("check the address and the firewalls between")
}

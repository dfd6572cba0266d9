//! Listeners, and the connections that they accept.

use crate::connection::{Connection, Failure};
use crate::dial::{OPEN_TIME, explainer, tune};
use crate::drive;
use crate::engine::Engine;
use crate::stream::StreamWire;
use crate::websocket::{self, WsWire};
use siprtc_core::sip::{Listener, ListenerConfig, Transport};
use siprtc_core::{Error, Fault, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Octets that a UDP socket keeps while we are busy, if the system allows as many: a second at 4000 messages.
const UDP_BUFFER: usize = 4 << 20;

/// Connections that the system keeps until we accept them.
const BACKLOG: i32 = 1024;

/// The pause after the system could not accept a connection: it has no file descriptors left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPERATION: &str = "start SIP stack";

/// A bound socket.
pub(crate) enum Bound {
    Stream(TcpListener),
    Udp(UdpSocket),
}

/// Binds a listener.
pub(crate) fn bind(wanted: &ListenerConfig) -> Result<(Listener, Bound)> {
    let open = || -> io::Result<(SocketAddr, Bound)> {
        let socket = match wanted.transport {
            Transport::Udp => bind_udp(wanted.bind).map(Bound::Udp)?,
            _ => bind_stream(wanted.bind).map(Bound::Stream)?,
        };
        let bound = match &socket {
            Bound::Stream(socket) => socket.local_addr()?,
            Bound::Udp(socket) => socket.local_addr()?,
        };
        Ok((bound, socket))
    };
    let (bound, socket) = open().map_err(|error| cannot_bind(wanted, error))?;
    let mut advertised = wanted.advertise.unwrap_or(bound);
    if advertised.port() == 0 {
        advertised.set_port(bound.port());
    }
    let listener = Listener {
        transport: wanted.transport,
        bound,
        advertised,
    };
    Ok((listener, socket))
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // More than the system allows is cut down without an error.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    prepare(&socket, address)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn bind_stream(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows it would let two programs share the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    prepare(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Each family has a listener of its own, so that both can be had at once and no address is a mapped one.
        socket.set_only_v6(true)?;
    }
    Ok(())
}

fn cannot_bind(wanted: &ListenerConfig, error: io::Error) -> Error {
    let (transport, address) = (wanted.transport, wanted.bind);
    let wrong = |message: String| Error::new(Fault::ConfigInvalid, OPERATION, message);
    match error.kind() {
        io::ErrorKind::AddrInUse => wrong(format!("{transport} {address} is taken by another program"))
            .advice("stop that program, or choose another port; 0 lets the system choose"),
        io::ErrorKind::AddrNotAvailable => wrong(format!(
            "no interface of this host has the address {}",
            address.ip()
        ))
        .advice("use one of the host's addresses, or 0.0.0.0 or [::] for all"),
        io::ErrorKind::PermissionDenied => {
            wrong(format!("this program may not listen on {transport} {address}"))
                .advice("choose a port above 1023")
        }
        _ => wrong(format!("no listening on {transport} {address}"))
            .caused_by(error)
            .advice("check the address, and that the host has that address family"),
    }
}

/// Accepts connections until the stack stops.
pub(crate) async fn accept(engine: Arc<Engine>, listener: Listener, socket: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = engine.stop.requested() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => welcome(&engine, listener.transport, stream, remote),
            Err(error) => {
                tracing::warn!(%error, listener = %listener.bound, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn welcome(engine: &Arc<Engine>, transport: Transport, stream: TcpStream, remote: SocketAddr) {
    // The system's queue may still hold connections when no new ones are wanted.
    if engine.open_for_requests(OPERATION).is_err() {
        return;
    }
    let Ok(local) = stream.local_addr() else { return };
    match engine.connections.accept(transport, remote) {
        Ok(connection) => {
            tune(&stream);
            if transport == Transport::Tcp {
                let wire = StreamWire::new(stream, engine.config.limits, explainer(&connection));
                engine.spawn(drive::run(engine.clone(), connection, local, wire));
            } else {
                engine.spawn(open(engine.clone(), connection, stream, local));
            }
        }
        Err(_) => tracing::debug!(%remote, "a connection was closed at once: there are too many"),
    }
}

/// The handshakes before SIP.
async fn open(engine: Arc<Engine>, connection: Arc<Connection>, stream: TcpStream, local: SocketAddr) {
    let opening = timeout(OPEN_TIME, handshake(&engine, &connection, stream, local));
    let opened = tokio::select! {
        biased;
        () = engine.stop.requested() => Err(engine.error(Fault::Backend, "accept", "the stack was shut down").into()),
        opened = opening => opened.unwrap_or_else(|_| {
            let message = format!("no handshake in {} s", OPEN_TIME.as_secs());
            Err(Error::new(Fault::TimedOut, "accept", message).into())
        }),
    };
    if let Err(failure) = opened {
        let (transport, remote) = (connection.transport(), connection.remote());
        tracing::debug!(%transport, %remote, error = %failure.to_error("accept"), "a handshake failed");
        drive::abandon(&engine, &connection, failure);
    }
}

async fn handshake(
    engine: &Arc<Engine>,
    connection: &Arc<Connection>,
    stream: TcpStream,
    local: SocketAddr,
) -> Result<(), Failure> {
    let limits = engine.config.limits;
    let (engine_, connection_, explain) = (engine.clone(), connection.clone(), explainer(connection));
    let name = connection.peer_name();
    match connection.transport() {
        Transport::Ws => {
            let stream = websocket::accept(stream, &limits).await.map_err(no_websocket)?;
            engine.spawn(drive::run(
                engine_,
                connection_,
                local,
                WsWire::new(stream, explain),
            ));
        }
        Transport::Wss => {
            let stream = engine.tls.accept(stream, &name).await?;
            let stream = websocket::accept(stream, &limits).await.map_err(no_websocket)?;
            engine.spawn(drive::run(
                engine_,
                connection_,
                local,
                WsWire::new(stream, explain),
            ));
        }
        _ => {
            let stream = engine.tls.accept(stream, &name).await?;
            let wire = StreamWire::new(stream, limits, explain);
            engine.spawn(drive::run(engine_, connection_, local, wire));
        }
    }
    Ok(())
}

fn no_websocket(error: tokio_tungstenite::tungstenite::Error) -> Failure {
    Error::new(
        Fault::PeerIncompatible,
        "accept",
        "the peer makes no WebSocket with the subprotocol sip",
    )
    .caused_by(error)
    .into()
}

//! Connections of our own.

use crate::connection::{Connection, Link, Origin};
use crate::convert::backend;
use crate::flows::ReuseKey;
use crate::listen::HANDSHAKE_TIMEOUT;
use crate::shared::Shared;
use crate::websocket;
use siprtc_core::sip::{Flow, Transport};
use siprtc_core::{Error, Fault, Result};
use siprtc_sip_locate::tls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time to open a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to, and whom the user means by that.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) transport: Transport,
    pub(crate) to: SocketAddr,
    /// The name that a certificate must be for, and the Host of a WebSocket handshake.
    pub(crate) name: String,
}

impl Place {
    /// What must be equal for two requests to share a connection. Over TLS also whose certificate was seen: a name
    /// that leads to the same address is another peer (RFC 5923 section 9.1).
    fn key(&self) -> ReuseKey {
        let name = self.is_secure().then(|| self.name.to_ascii_lowercase());
        (self.transport, self.to, name)
    }

    fn is_secure(&self) -> bool {
        matches!(self.transport, Transport::Tls | Transport::Wss)
    }
}

/// A connection to `place`, one that is there already unless it is to be `fresh`. Must run inside the stack's own
/// runtime, and to its end.
pub(crate) async fn connect(shared: Arc<Shared>, place: Place, fresh: bool) -> Result<Arc<Connection>> {
    if fresh {
        return dial(&shared, &place, None).await;
    }
    let key = place.key();
    if let Some(connection) = shared.flows.reuse(&key) {
        return Ok(connection);
    }
    // Those who want to go to the same place at once wait for the first.
    let gate = shared.dials.lock().entry(key.clone()).or_default().clone();
    let _turn = gate.lock().await;
    if let Some(connection) = shared.flows.reuse(&key) {
        return Ok(connection);
    }
    let dialled = dial(&shared, &place, Some(key.clone())).await;
    shared.dials.lock().remove(&key);
    dialled
}

async fn dial(shared: &Arc<Shared>, place: &Place, reuse: Option<ReuseKey>) -> Result<Arc<Connection>> {
    const OPERATION: &str = "connect";
    let seat = shared.seats.clone().try_acquire_owned().map_err(|_| {
        backend(OPERATION, "too many connections at once").advice("close some, or raise max_connections")
    })?;
    let refused = |error: std::io::Error| {
        backend(
            OPERATION,
            format!("no connection to {} {}", place.transport, place.to),
        )
        .caused_by(error)
        .advice("check the address, the port and that somebody listens there")
    };
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(place.to)).await;
    let stream = connecting.map_err(|_| timed_out(place))?.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let flow = Flow {
        id: shared.flows.mint(),
        transport: place.transport,
        local: stream.local_addr().map_err(refused)?,
        remote: place.to,
    };
    let origin = Origin {
        ours: true,
        reuse,
        seat,
    };
    let shaking = shake_hands(shared, place, stream, flow, origin);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
        Ok(connection) => connection,
        Err(_) => Err(timed_out(place)),
    }
}

async fn shake_hands(
    shared: &Arc<Shared>,
    place: &Place,
    stream: TcpStream,
    flow: Flow,
    origin: Origin,
) -> Result<Arc<Connection>> {
    let max = shared.config.limits.message;
    let opened = if place.is_secure() {
        let name = tls::server_name(&place.name)?;
        let connecting = TlsConnector::from(shared.tls_client.clone()).connect(name, stream);
        let failed = |error: std::io::Error| tls::explain(&error, &place.name).backend(crate::NAME);
        let stream = connecting.await.map_err(failed)?;
        match place.transport {
            Transport::Wss => {
                let socket = websocket::connect(stream, &host(place), max).await?;
                Connection::open(shared, Link::WebSocket(Box::new(socket)), flow, origin).await
            }
            _ => Connection::open(shared, Link::Stream(stream), flow, origin).await,
        }
    } else if place.transport == Transport::Ws {
        let socket = websocket::connect(stream, &host(place), max).await?;
        Connection::open(shared, Link::WebSocket(Box::new(socket)), flow, origin).await
    } else {
        Connection::open(shared, Link::Stream(stream), flow, origin).await
    };
    opened
        .map_err(|error| backend("connect", "rsipstack refused the connection").caused_by(error.to_string()))
}

/// RFC 9110 section 7.2: with the port, unless it is the scheme's own.
fn host(place: &Place) -> String {
    let port = place.to.port();
    match (place.transport, port) {
        (Transport::Ws, 80) | (Transport::Wss, 443) => place.name.clone(),
        _ => format!("{}:{port}", place.name),
    }
}

fn timed_out(place: &Place) -> Error {
    let message = format!("no connection to {} {} in time", place.transport, place.to);
    Error::new(Fault::TimedOut, "connect", message)
        .advice("check the address and the firewalls between")
        .backend(crate::NAME)
}

//! Listeners for connections.

use crate::connection::{Connection, Link, Origin};
use crate::shared::Shared;
use crate::udp::bind_error;
use crate::websocket;
use siprtc_core::Result;
use siprtc_core::sip::{Flow, ListenerConfig, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;

/// Longest time for the handshakes of TLS and WebSocket.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// When the system gives no more connections, we ask again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Acceptor {
    listener: TcpListener,
    pub(crate) bound: SocketAddr,
    transport: Transport,
    tls: Option<TlsAcceptor>,
}

impl Acceptor {
    /// `tls` is there for TLS and WSS.
    pub(crate) async fn bind(config: &ListenerConfig, tls: Option<TlsAcceptor>) -> Result<Self> {
        let taken = |error: io::Error| bind_error(config, error);
        let listener = TcpListener::bind(config.bind).await.map_err(taken)?;
        Ok(Acceptor {
            bound: listener.local_addr().map_err(taken)?,
            listener,
            transport: config.transport,
            tls,
        })
    }

    /// Accepts until the stack stops.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        loop {
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, transport = %self.transport, "no connection accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(seat) = shared.seats.clone().try_acquire_owned() else {
                tracing::warn!(%remote, "too many connections: one was closed at once");
                continue;
            };
            let establishing = establish(
                shared.clone(),
                stream,
                remote,
                self.transport,
                self.tls.clone(),
                seat,
            );
            shared.spawn(async move {
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, establishing).await {
                    Ok(Ok(())) => (),
                    Ok(Err(why)) => tracing::debug!(%remote, why, "a connection was not established"),
                    Err(_) => tracing::debug!(%remote, "a handshake took too long"),
                }
            });
        }
    }
}

async fn establish(
    shared: Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
    transport: Transport,
    tls: Option<TlsAcceptor>,
    seat: OwnedSemaphorePermit,
) -> Result<(), String> {
    fn told(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let local = stream.local_addr().map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    let flow = Flow {
        id: shared.flows.mint(),
        transport,
        local,
        remote,
    };
    // A request to this very address may go back over it. Not with TLS: who connects has not shown whose address it is.
    let reuse = tls.is_none().then_some((transport, remote, None));
    let origin = Origin {
        ours: false,
        reuse,
        seat,
    };
    let max = shared.config.limits.message;
    let opened = match (tls, transport) {
        (Some(tls), Transport::Wss) => {
            let stream = tls.accept(stream).await.map_err(told)?;
            let socket = websocket::accept(stream, max).await.map_err(told)?;
            Connection::open(&shared, Link::WebSocket(Box::new(socket)), flow, origin).await
        }
        (Some(tls), _) => {
            let stream = tls.accept(stream).await.map_err(told)?;
            Connection::open(&shared, Link::Stream(stream), flow, origin).await
        }
        (None, Transport::Ws) => {
            let socket = websocket::accept(stream, max).await.map_err(told)?;
            Connection::open(&shared, Link::WebSocket(Box::new(socket)), flow, origin).await
        }
        (None, _) => Connection::open(&shared, Link::Stream(stream), flow, origin).await,
    };
    opened.map(|_| ()).map_err(told)
}

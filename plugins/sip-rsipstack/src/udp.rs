//! UDP sockets: ours, so that what rsipstack would drop in silence can be answered, and so that STUN shares the port.

use crate::convert::backend;
use crate::inbound;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::stun::{self, Stun};
use parking_lot::Mutex;
use rsipstack::platform::net::UdpSocket as RsipstackSocket;
use siprtc_core::sip::{FlowId, Keepalive, ListenerConfig, StackEvent};
use siprtc_core::{Error, Fault, Result};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// The largest datagram that IP can carry.
const LARGEST: usize = 65_535;

pub(crate) struct Socket {
    socket: UdpSocket,
    pub(crate) bound: SocketAddr,
    stun: Stun,
}

impl Socket {
    pub(crate) async fn bind(listener: &ListenerConfig) -> Result<Arc<Self>> {
        let taken = |error: io::Error| bind_error(listener, error);
        let socket = UdpSocket::bind(listener.bind).await.map_err(taken)?;
        let bound = socket.local_addr().map_err(taken)?;
        Ok(Arc::new(Socket {
            socket,
            bound,
            stun: Stun::default(),
        }))
    }

    /// Hears until the stack stops.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut buffer = vec![0; LARGEST];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, source)) => self.hear(&shared, &buffer[..length], source),
                // On some systems an ICMP error of an earlier send ends up here.
                Err(error) => tracing::debug!(%error, "no datagram"),
            }
        }
    }

    fn hear(self: &Arc<Self>, shared: &Arc<Shared>, datagram: &[u8], source: SocketAddr) {
        if stun::is_stun(datagram) {
            return self.hear_stun(shared, datagram, source);
        }
        if datagram == b"\r\n\r\n" {
            // RFC 5626 section 3.5.1 has no ping on UDP, but there are who send one.
            let _ = self.try_send(b"\r\n", source);
        }
        if datagram.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let flow = shared.flows.udp(self, source);
        inbound::receive(shared, datagram, true, flow, |to| Peer::Udp {
            socket: self.clone(),
            to,
            flow,
        });
    }

    fn hear_stun(&self, shared: &Arc<Shared>, datagram: &[u8], source: SocketAddr) {
        match self.stun.hear(datagram, source) {
            Some(stun::Heard::Answer { flow, mapped }) => shared.emit(StackEvent::KeepaliveAnswered {
                flow,
                mapped: Some(mapped),
            }),
            Some(stun::Heard::Request { answer }) => {
                let _ = self.try_send(&answer, source);
            }
            None => (),
        }
    }

    pub(crate) async fn keepalive(&self, flow: FlowId, to: SocketAddr, kind: Keepalive) -> Result<()> {
        const OPERATION: &str = "keepalive";
        let octets = match kind {
            Keepalive::Stun => self.stun.request(Instant::now(), flow, to).ok_or_else(|| {
                backend(OPERATION, "too many STUN keepalives are unanswered").advice("send fewer")
            })?,
            _ => b"\r\n\r\n".to_vec(),
        };
        self.socket
            .send_to(&octets, to)
            .await
            .map(|_| ())
            .map_err(|error| {
                backend(OPERATION, "the flow is dead")
                    .caused_by(error)
                    .advice("register again")
            })
    }

    pub(crate) fn try_send(&self, octets: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.try_send_to(octets, to).map(|_| ())
    }
}

/// What a socket cannot be bound for.
pub(crate) fn bind_error(listener: &ListenerConfig, error: io::Error) -> Error {
    let message = format!("cannot listen on {} {}", listener.transport, listener.bind);
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has the port: stop it, or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: choose one that it has, or 0.0.0.0"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose one above",
        _ => "check the address and the port",
    };
    Error::new(Fault::ConfigInvalid, "start SIP stack", message)
        .caused_by(error)
        .advice(advice)
        .backend(crate::NAME)
}

/// The way from one of our sockets to one address, for rsipstack to send through. It remembers the last error, of
/// which rsipstack tells nobody.
pub(crate) struct Outlet {
    socket: Arc<Socket>,
    to: SocketAddr,
    failure: Mutex<Option<io::Error>>,
}

impl Outlet {
    pub(crate) fn new(socket: Arc<Socket>, to: SocketAddr) -> Self {
        Outlet {
            socket,
            to,
            failure: Mutex::new(None),
        }
    }

    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }
}

#[async_trait::async_trait]
impl RsipstackSocket for Outlet {
    /// Never: [`Socket::run`] hears.
    async fn recv_from(&self, _: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        std::future::pending().await
    }

    /// To our address, whatever rsipstack thinks.
    async fn send_to(&self, octets: &[u8], _: SocketAddr) -> rsipstack::Result<usize> {
        let sent = self.socket.socket.send_to(octets, self.to).await;
        let told = sent
            .as_ref()
            .map(|length| *length)
            .map_err(|error| rsipstack::Error::Error(error.to_string()));
        *self.failure.lock() = sent.err();
        told
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.socket.bound)
    }
}

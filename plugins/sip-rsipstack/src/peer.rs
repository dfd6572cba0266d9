//! Where a transaction's messages go, as rsipstack's transactions want it: a `SipConnection`.

use crate::connection::Connection;
use crate::udp::{Outlet, Socket};
use bytes::Bytes;
use rsipstack::sip::{self as rs, SipMessage};
use rsipstack::transport::udp::{UdpConnection, UdpInner};
use rsipstack::transport::{SipAddr, SipConnection};
use siprtc_core::sip::Flow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) enum Peer {
    Connection(Arc<Connection>),
    Udp {
        socket: Arc<Socket>,
        to: SocketAddr,
        flow: Flow,
    },
}

/// A peer in rsipstack's words.
pub(crate) struct Handle {
    pub(crate) connection: SipConnection,
    pub(crate) destination: Option<SipAddr>,
    /// What became of what was sent: rsipstack only logs it.
    pub(crate) outlet: Option<Arc<Outlet>>,
}

impl Handle {
    /// Sends outside of any transaction.
    pub(crate) async fn send(&self, message: SipMessage) -> io::Result<()> {
        let sent = self.connection.send(message, self.destination.as_ref()).await;
        match (sent, self.failure()) {
            (_, Some(error)) => Err(error),
            (Ok(()), None) => Ok(()),
            (Err(error), None) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Why the last thing sent did not leave.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.outlet.as_ref().and_then(|outlet| outlet.failure())
    }
}

impl Peer {
    pub(crate) fn flow(&self) -> Flow {
        match self {
            Peer::Connection(connection) => connection.flow,
            Peer::Udp { flow, .. } => *flow,
        }
    }

    pub(crate) fn to(&self) -> SocketAddr {
        match self {
            Peer::Connection(connection) => connection.flow.remote,
            Peer::Udp { to, .. } => *to,
        }
    }

    pub(crate) async fn handle(&self) -> Handle {
        match self {
            Peer::Connection(connection) => Handle {
                connection: SipConnection::Channel(connection.channel.clone()),
                destination: None,
                outlet: None,
            },
            Peer::Udp { socket, to, .. } => {
                let outlet = Arc::new(Outlet::new(socket.clone(), *to));
                let addr = SipAddr::new(rs::Transport::Udp, (*to).into());
                let inner = UdpInner {
                    conn: outlet.clone(),
                    addr: addr.clone(),
                };
                Handle {
                    connection: SipConnection::Udp(UdpConnection::attach(inner, None, None).await),
                    destination: Some(addr),
                    outlet: Some(outlet),
                }
            }
        }
    }

    /// Sends what belongs to no transaction: an answer without one, or a copy of an answer. When it cannot leave at
    /// once it is lost, as a datagram may be: whoever waits for it asks again.
    pub(crate) fn send_or_lose(&self, octets: Bytes) {
        let sent = match self {
            Peer::Connection(connection) => connection.send_octets(octets),
            Peer::Udp { socket, to, .. } => socket.try_send(&octets, *to),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, to = %self.to(), "an answer was not sent");
        }
    }
}

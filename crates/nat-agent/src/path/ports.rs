//! Which local ports media uses: any, or those that a firewall lets through.

use super::OPERATION;
use siprtc_core::{Error, Fault, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::UdpSocket;

/// The range that sockets are bound in, in turns: a port that was just freed is the last to be taken again.
#[derive(Debug)]
pub struct Ports {
    range: Option<(u16, u16)>,
    next: AtomicU32,
}

impl Ports {
    /// Whichever port is free.
    pub fn any() -> Self {
        Ports {
            range: None,
            next: AtomicU32::new(0),
        }
    }

    /// `first` to `last`, both included.
    ///
    /// # Errors
    /// `ConfigInvalid`: an empty range, or port 0.
    pub fn range(first: u16, last: u16) -> Result<Self> {
        if first == 0 || last < first {
            return Err(Error::new(
                Fault::ConfigInvalid,
                "choose media ports",
                format!("{first} to {last} is no range of ports"),
            )
            .advice("write the first and the last port, such as [40000, 40099]"));
        }
        Ok(Ports {
            range: Some((first, last)),
            next: AtomicU32::new(0),
        })
    }

    /// Called on a tokio runtime.
    pub(super) fn bind(&self, ip: IpAddr) -> Result<UdpSocket> {
        let bind = |port| {
            let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, port))?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let Some((first, last)) = self.range else {
            return bind(0).map_err(|error| refused(format!("UDP {ip} cannot be bound")).caused_by(error));
        };
        let count = u32::from(last - first) + 1;
        for _ in 0..count {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % count;
            // Below 65,536: `last` is a port.
            if let Ok(socket) = bind(first + turn as u16) {
                return Ok(socket);
            }
        }
        Err(
            refused(format!("every port from {first} to {last} of {ip} is taken"))
                .advice("widen ice.ports, or allow fewer calls at once (call.max_calls)"),
        )
    }
}

fn refused(message: String) -> Error {
    Error::new(Fault::Backend, OPERATION, message)
}

//! UDP sockets.

use crate::engine::Engine;
use crate::scratch;
use bytes::Bytes;
use parking_lot::RwLock;
use socket2::{SockAddr, SockRef};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// Datagrams that are read from a socket before others have their turn.
const BATCH: usize = 64;

/// The pause after an error of the system's that says nothing about the socket, so that it cannot make the task spin.
const PAUSE: Duration = Duration::from_millis(5);

/// The stack's UDP sockets, by number. Empty once it has been shut down.
#[derive(Default)]
pub(crate) struct UdpSockets(RwLock<Vec<Arc<UdpSocket>>>);

impl UdpSockets {
    pub(crate) fn new(sockets: Vec<Arc<UdpSocket>>) -> Self {
        UdpSockets(RwLock::new(sockets))
    }

    pub(crate) fn clear(&self) {
        self.0.write().clear();
    }

    /// Sends a datagram, or loses it as the network may: when the system has no room for it, retransmission repairs it.
    pub(crate) fn send(&self, socket: u16, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let sockets = self.0.read();
        let socket = sockets
            .get(usize::from(socket))
            .ok_or_else(|| io::Error::other("the stack was shut down"))?;
        // Past tokio, which sends nothing before it has heard that the socket is writable.
        match SockRef::from(&**socket).send_to(bytes, &SockAddr::from(to)) {
            Ok(_) => Ok(()),
            Err(error) if is_transient(&error) => {
                tracing::debug!(%to, %error, "a datagram was dropped");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    /// "No buffer space available" on Linux and Android, on macOS and iOS, and on Windows.
    const NO_BUFFERS: [i32; 3] = [105, 55, 10_055];
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            // What an ICMP message has said about an earlier datagram, which may have gone to somebody else.
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    ) || error
        .raw_os_error()
        .is_some_and(|code| NO_BUFFERS.contains(&code))
}

/// Why a datagram could not be sent.
pub(crate) fn explain(to: SocketAddr, error: &io::Error) -> String {
    /// "Message too long".
    const TOO_LONG: [i32; 3] = [90, 40, 10_040];
    match error.raw_os_error() {
        Some(code) if TOO_LONG.contains(&code) => {
            format!("the message does not fit a datagram to {to}: use TCP")
        }
        _ => format!("no datagram can be sent to {to}: {error}"),
    }
}

/// Reads a socket until the stack stops.
pub(crate) async fn receive(engine: Arc<Engine>, number: u16, socket: Arc<UdpSocket>) {
    loop {
        tokio::select! {
            biased;
            () = engine.stop.requested() => return,
            // An error is seen again by the read.
            _ = socket.readable() => (),
        }
        for _ in 0..BATCH {
            match read(&socket) {
                Ok((datagram, from)) => engine.datagram(number, from, datagram),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_transient(&error) => (),
                Err(error) => {
                    tracing::debug!(%error, "reading a UDP socket failed");
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            }
        }
    }
}

fn read(socket: &UdpSocket) -> io::Result<(Bytes, SocketAddr)> {
    scratch::with(|room| {
        let (_, from) = socket.try_recv_buf_from(room)?;
        Ok((Bytes::copy_from_slice(room), from))
    })
}

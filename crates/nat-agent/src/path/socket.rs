//! A socket of a path's: its own, or its place at one that many share.

use super::shared::{Seat, Shared};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// What a socket is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Use {
    /// Peers and servers.
    All,
    /// Peers, and servers that say how they see us. A TURN server knows its clients by their addresses (RFC 8656 section
    /// 5): two allocations of one socket's are a mismatch, so what is shared has none.
    Peers,
    /// TURN servers only.
    Relays,
}

pub(super) enum Socket {
    Own(UdpSocket),
    Shared(Seat),
}

impl Socket {
    pub(super) fn addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Own(socket) => socket.local_addr(),
            Socket::Shared(seat) => Ok(seat.addr()),
        }
    }

    /// Another path's place at the same socket, which is shared from now on. Called on a tokio runtime.
    pub(super) fn fork(&mut self) -> io::Result<Socket> {
        let full = || io::Error::other("too many paths share the socket");
        if let Socket::Own(socket) = self {
            let same = SockRef::from(&*socket).try_clone()?;
            let shared = Shared::open_for_forks(UdpSocket::from_std(same.into())?)?;
            *self = Socket::Shared(shared.sit().ok_or_else(full)?);
        }
        match self {
            Socket::Own(_) => Err(full()),
            Socket::Shared(seat) => seat.beside().map(Socket::Shared).ok_or_else(full),
        }
    }

    pub(super) fn send(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        match self {
            // Past tokio, which knows of a new socket only from its next look at all of them on that it can be written: the
            // first requests, on which a call waits, would be dropped.
            Socket::Own(socket) => SockRef::from(socket).send_to(data, &to.into()),
            Socket::Shared(seat) => seat.send(data, to),
        }
    }

    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        match self {
            Socket::Own(socket) => {
                let mut read = ReadBuf::new(buffer);
                let from = ready!(socket.poll_recv_from(cx, &mut read))?;
                Poll::Ready(Ok((read.filled().len(), from)))
            }
            Socket::Shared(seat) => seat.poll_receive(cx, buffer).map(Ok),
        }
    }

    /// The user fragments that the path goes by.
    pub(super) fn name(&self, fragments: &[String]) {
        if let Socket::Shared(seat) = self {
            seat.name(fragments);
        }
    }

    /// `addr` is no peer's of this path's.
    pub(super) fn release(&self, addr: SocketAddr) {
        if let Socket::Shared(seat) = self {
            seat.release(addr);
        }
    }

    /// `addr` is a peer's.
    pub(super) fn claim(&self, now: Instant, addr: SocketAddr) {
        if let Socket::Shared(seat) = self {
            seat.claim(now, addr);
        }
    }
}

//! Many datagrams in one system call, each in a buffer that is never copied.

use crate::machine::{BUFFER, MOST_PAYLOAD};
use crate::wire::HEADROOM;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockaddrLike, SockaddrStorage, recvmmsg, sendmmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Most datagrams of one call.
pub(crate) const BATCH: usize = 32;

/// A buffer for one datagram, with room before it for what is put in front. Only the pages that are used take memory.
type Buffer = Box<[u8]>;

fn buffer() -> Buffer {
    vec![0; BUFFER].into_boxed_slice()
}

/// What a call has received.
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    pub(crate) length: usize,
    /// It did not fit.
    pub(crate) truncated: bool,
}

/// A UDP socket that does not block, and its family.
pub(crate) struct Port {
    pub(crate) socket: UdpSocket,
    is_v6: bool,
}

impl Port {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let is_v6 = socket.local_addr()?.is_ipv6();
        Ok(Port { socket, is_v6 })
    }
}

/// Receives.
pub(crate) struct Receiver {
    buffers: Vec<Buffer>,
    // The kernel leaves the length of the last address in a header, so that those of IPv4 cannot hold one of IPv6.
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    received: Vec<Option<Received>>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Receiver {
            buffers: (0..BATCH).map(|_| buffer()).collect(),
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what waits at a socket, `most` datagrams at most. Fewer than `most`: the socket is empty.
    pub(crate) fn receive(&mut self, port: &Port, most: usize) -> io::Result<usize> {
        self.received.clear();
        let headers = if port.is_v6 { &mut self.v6 } else { &mut self.v4 };
        // One small allocation for the whole batch.
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = Vec::with_capacity(most);
        for buffer in self.buffers.iter_mut().take(most) {
            // A buffer is BUFFER long.
            slices.push([IoSliceMut::new(&mut buffer[HEADROOM..HEADROOM + MOST_PAYLOAD])]);
        }
        let results = recvmmsg(
            port.socket.as_raw_fd(),
            headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        self.received.extend(results.map(|result| {
            Some(Received {
                from: std_address(result.address.as_ref()?)?,
                length: result.bytes,
                truncated: result.flags.contains(MsgFlags::MSG_TRUNC),
            })
        }));
        Ok(self.received.len())
    }

    /// The datagram `index` of the last [`Receiver::receive`], at [`HEADROOM`] of its buffer.
    pub(crate) fn take(&mut self, index: usize) -> Option<(Received, &mut Buffer)> {
        Some((
            self.received.get_mut(index)?.take()?,
            self.buffers.get_mut(index)?,
        ))
    }
}

fn std_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into())),
        AddressFamily::Inet6 => address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

/// Collects what is to be sent from one socket.
pub(crate) struct Sender {
    slots: Vec<Slot>,
    addresses: Vec<Option<SockaddrStorage>>,
    headers: MultiHeaders<SockaddrStorage>,
}

struct Slot {
    buffer: Buffer,
    range: Range<usize>,
}

impl Sender {
    pub(crate) fn new() -> Self {
        let slot = || Slot {
            buffer: buffer(),
            range: 0..0,
        };
        Sender {
            slots: (0..BATCH).map(|_| slot()).collect(),
            addresses: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.addresses.len() >= BATCH
    }

    /// Takes `range` of a buffer, and leaves another buffer in its place. The sender must not be full.
    pub(crate) fn push(&mut self, buffer: &mut Buffer, range: Range<usize>, to: SocketAddr) {
        if let Some(slot) = self.slots.get_mut(self.addresses.len()) {
            std::mem::swap(&mut slot.buffer, buffer);
            slot.range = range;
            self.addresses.push(Some(to.into()));
        }
    }

    /// Sends everything; how many the system did not take.
    pub(crate) fn flush(&mut self, port: &Port) -> usize {
        let (mut at, mut lost) = (0, 0);
        let all = self.addresses.len();
        while at < all {
            let slots = self.slots.get(at..all).unwrap_or_default();
            let slices: Vec<[IoSlice<'_>; 1]> = slots
                .iter()
                .map(|slot| {
                    [IoSlice::new(
                        slot.buffer.get(slot.range.clone()).unwrap_or_default(),
                    )]
                })
                .collect();
            let addresses = self.addresses.get(at..all).unwrap_or_default();
            let sent = sendmmsg(
                port.socket.as_raw_fd(),
                &mut self.headers,
                slices.iter(),
                addresses,
                [],
                MsgFlags::MSG_DONTWAIT,
            )
            .map_or(0, Iterator::count);
            at += sent;
            // The one that failed is lost; those behind it may go elsewhere.
            if at < all && sent == 0 {
                at += 1;
                lost += 1;
            }
        }
        self.addresses.clear();
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ip: &str) -> (Port, Port) {
        let socket = || {
            let socket = UdpSocket::bind(format!("{ip}:0")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Port::new(socket).unwrap()
        };
        (socket(), socket())
    }

    #[test]
    fn what_a_sender_sends_a_receiver_receives_in_order_with_its_source() {
        let (mut receiver, mut sender) = (Receiver::new(), Sender::new());
        // IPv4 first: its headers must not be used for IPv6.
        for ip in ["127.0.0.1", "[::1]"] {
            let (here, there) = pair(ip);
            let mut spare = buffer();
            for octet in 0..BATCH {
                spare[HEADROOM] = octet as u8;
                sender.push(
                    &mut spare,
                    HEADROOM..HEADROOM + 1 + octet,
                    there.socket.local_addr().unwrap(),
                );
            }
            assert!(sender.is_full());
            assert_eq!(sender.flush(&here), 0);
            assert!(sender.is_empty());
            assert_eq!(receiver.receive(&there, BATCH).unwrap(), BATCH);
            for octet in 0..BATCH {
                let (received, buffer) = receiver.take(octet).unwrap();
                assert_eq!(received.from, here.socket.local_addr().unwrap());
                assert_eq!((received.length, buffer[HEADROOM]), (1 + octet, octet as u8));
                assert!(!received.truncated);
            }
            assert!(receiver.take(BATCH).is_none());
            let empty = receiver.receive(&there, BATCH).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn one_that_cannot_be_sent_keeps_no_other_back() {
        let (here, there) = pair("127.0.0.1");
        let mut sender = Sender::new();
        let mut spare = buffer();
        for to in ["[::1]:9", "127.0.0.1:0"] {
            sender.push(&mut spare, HEADROOM..HEADROOM + 1, to.parse().unwrap());
            sender.push(
                &mut spare,
                HEADROOM..HEADROOM + 1,
                there.socket.local_addr().unwrap(),
            );
        }
        assert_eq!(sender.flush(&here), 2);
        let mut receiver = Receiver::new();
        assert_eq!(receiver.receive(&there, BATCH).unwrap(), 2);
    }
}

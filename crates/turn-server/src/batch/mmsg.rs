//! Batches where the system has calls for them.

use super::{BATCH, Buffer, Port, Received, buffer};
use crate::machine::MOST_PAYLOAD;
use crate::wire::HEADROOM;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockaddrLike, SockaddrStorage, recvmmsg, sendmmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;

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

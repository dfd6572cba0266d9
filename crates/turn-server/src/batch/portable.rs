//! The same one by one, for systems without calls for batches.

use super::{BATCH, Buffer, Port, Received, buffer};
use crate::machine::MOST_PAYLOAD;
use crate::wire::HEADROOM;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;

/// Receives.
pub(crate) struct Receiver {
    buffers: Vec<Buffer>,
    received: Vec<Option<Received>>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Receiver {
            buffers: (0..BATCH).map(|_| buffer()).collect(),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what waits at a socket, `most` datagrams at most. Fewer than `most`: the socket is empty.
    pub(crate) fn receive(&mut self, port: &Port, most: usize) -> io::Result<usize> {
        self.received.clear();
        for buffer in self.buffers.iter_mut().take(most) {
            // A buffer is BUFFER long.
            match port
                .socket
                .recv_from(&mut buffer[HEADROOM..HEADROOM + MOST_PAYLOAD])
            {
                Ok((length, from)) => self.received.push(Some(Received {
                    from,
                    length,
                    truncated: false,
                })),
                Err(error) if self.received.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
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

/// Collects what is to be sent from one socket.
pub(crate) struct Sender {
    slots: Vec<Buffer>,
    filled: Vec<(Range<usize>, SocketAddr)>,
}

impl Sender {
    pub(crate) fn new() -> Self {
        Sender {
            slots: (0..BATCH).map(|_| buffer()).collect(),
            filled: Vec::with_capacity(BATCH),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.filled.len() >= BATCH
    }

    /// Takes `range` of a buffer, and leaves another buffer in its place. The sender must not be full.
    pub(crate) fn push(&mut self, buffer: &mut Buffer, range: Range<usize>, to: SocketAddr) {
        if let Some(slot) = self.slots.get_mut(self.filled.len()) {
            std::mem::swap(slot, buffer);
            self.filled.push((range, to));
        }
    }

    /// Sends everything; how many the system did not take.
    pub(crate) fn flush(&mut self, port: &Port) -> usize {
        let all = self.slots.iter().zip(self.filled.drain(..));
        all.filter(|(buffer, (range, to))| {
            let message = buffer.get(range.clone()).unwrap_or_default();
            port.socket.send_to(message, to).is_err()
        })
        .count()
    }
}

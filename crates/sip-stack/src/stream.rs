//! SIP over a stream of octets: TCP and TLS.

use crate::drive::{Incoming, Wire};
use crate::framing::{Frame, Framer};
use crate::scratch;
use bytes::{Buf, Bytes};
use siprtc_core::sip::Limits;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Messages that are handed to the system in one call.
const WRITE_BATCH: usize = 16;

/// Most octets that are read and thrown away while a connection closes.
const MAX_DISCARDED: usize = 1 << 20;

pub(crate) struct StreamWire<S> {
    stream: S,
    framer: Framer,
    explain: Explain,
    unflushed: bool,
    shut: bool,
    discarded: usize,
}

/// Says an I/O error in a sentence.
pub(crate) type Explain = Box<dyn Fn(&io::Error) -> String + Send + Sync>;

impl<S: AsyncRead + AsyncWrite + Send + Unpin> StreamWire<S> {
    pub(crate) fn new(stream: S, limits: Limits, explain: Explain) -> Self {
        StreamWire {
            stream,
            framer: Framer::new(limits),
            explain,
            unflushed: false,
            shut: false,
            discarded: 0,
        }
    }

    /// Feeds what can be read at once; says how many octets.
    fn poll_read(&mut self, cx: &mut Context<'_>, keep: bool) -> Poll<io::Result<usize>> {
        scratch::with(|room| {
            let mut read = ReadBuf::uninit(room.spare_capacity_mut());
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if keep {
                self.framer.feed(read.filled());
            }
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_BATCH];
            let count = slices
                .iter_mut()
                .zip(queue.iter())
                .map(|(slice, bytes)| *slice = IoSlice::new(bytes))
                .count();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            consume(queue, written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn consume(queue: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = queue.front_mut() {
        if first.len() > written {
            return first.advance(written);
        }
        written -= first.len();
        queue.pop_front();
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for StreamWire<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            match self.framer.poll() {
                Ok(Some(Frame::Message(message))) => return Poll::Ready(Incoming::Message(message)),
                Ok(Some(Frame::Ping)) => return Poll::Ready(Incoming::Ping),
                Ok(Some(Frame::Pong)) => return Poll::Ready(Incoming::Pong),
                Ok(None) => (),
                Err(broken) => return Poll::Ready(Incoming::Broken(broken)),
            }
            let end = match ready!(self.poll_read(cx, true)) {
                Ok(0) if self.framer.is_partial() => {
                    "the peer closed the connection in the middle of a message".to_owned()
                }
                Ok(0) => "the peer closed the connection".to_owned(),
                Ok(_) => continue,
                Err(error) => (self.explain)(&error),
            };
            return Poll::Ready(Incoming::End(end));
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<Result<(), String>> {
        self.poll_write(cx, queue).map_err(|error| (self.explain)(&error))
    }

    /// What the peer still sends is read: a socket that is closed with unread octets resets the connection, and the
    /// peer would not get the answer that says why.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.shut = true;
        }
        while self.discarded < MAX_DISCARDED {
            match ready!(self.poll_read(cx, false)) {
                Ok(0) | Err(_) => break,
                Ok(length) => self.discarded += length,
            }
        }
        Poll::Ready(())
    }

    fn expect_pong(&mut self) {
        self.framer.expect_pong();
    }

    fn is_partial(&self) -> bool {
        self.framer.is_partial()
    }
}

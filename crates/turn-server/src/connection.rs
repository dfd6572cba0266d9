//! One TCP or TLS connection of a client: octets to messages and back (RFC 8656 section 3.1).

use crate::machine::Flow;
use crate::wire::{Kind, TAILROOM};
use mio::net::TcpStream;
use rustls::ServerConnection;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Instant;

/// The longest message: 65,535 octets behind the longest header.
const MOST_FRAME: usize = 20 + 65_535 + TAILROOM;
/// Octets that are read at a time, into a buffer that all connections of a worker share.
pub(crate) const CHUNK: usize = 16 << 10;
/// Octets that may wait to be sent; beyond it packets are dropped, as a network would.
const MOST_WAITING: usize = 64 << 10;

/// A connection, and what it has not worked off.
pub(crate) struct Connection {
    pub(crate) flow: Flow,
    /// When a whole message came, or the connection itself.
    pub(crate) heard: Instant,
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    input: Vec<u8>,
    /// Octets of `input` that are worked off.
    read: usize,
    output: Vec<u8>,
    /// Octets of `output` that are sent.
    sent: usize,
}

/// What a reading came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// There may be more.
    Some,
    /// Nothing more waits.
    Empty,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, tls: Option<ServerConnection>, flow: Flow, now: Instant) -> Self {
        Connection {
            flow,
            heard: now,
            stream,
            tls: tls.map(Box::new),
            input: Vec::new(),
            read: 0,
            output: Vec::new(),
            sent: 0,
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads once. An error ends the connection.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        self.input.drain(..self.read);
        self.read = 0;
        match &mut self.tls {
            None => match retry(|| self.stream.read(scratch))? {
                None => Ok(Progress::Empty),
                Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(got) => {
                    self.input.extend(scratch.iter().take(got));
                    Ok(Progress::Some)
                }
            },
            Some(tls) => {
                let got = retry(|| tls.read_tls(&mut self.stream))?;
                if got == Some(0) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let state = tls.process_new_packets().map_err(io::Error::other);
                if let Ok(state) = &state {
                    let length = self.input.len();
                    self.input.resize(length + state.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut self.input[length..])?;
                }
                // An alert says why it ends.
                self.encrypt()?;
                self.flush()?;
                state?;
                Ok(if got.is_some() {
                    Progress::Some
                } else {
                    Progress::Empty
                })
            }
        }
    }

    /// The next whole message, as a part of [`Connection::input`]; an error when what comes is no message, or longer
    /// than one can be.
    pub(crate) fn next_message(&mut self) -> io::Result<Option<Range<usize>>> {
        let rest = self.input.get(self.read..).unwrap_or_default();
        if rest.len() < 4 {
            return Ok(None);
        }
        let kind = Kind::of(rest).ok_or(io::ErrorKind::InvalidData)?;
        let length = kind.framed();
        if length > MOST_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let range = self.read..self.read + length;
        self.read = range.end;
        Ok(Some(range))
    }

    pub(crate) fn input(&self, range: Range<usize>) -> &[u8] {
        self.input.get(range).unwrap_or_default()
    }

    /// Sends a whole message; `Ok(false)` when too much waits already. An error ends the connection.
    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<bool> {
        if self.output.len() - self.sent > MOST_WAITING {
            return Ok(false);
        }
        match &mut self.tls {
            None => self.output.extend_from_slice(message),
            Some(tls) => {
                tls.writer().write_all(message)?;
                self.encrypt()?;
            }
        }
        self.flush()?;
        Ok(true)
    }

    fn encrypt(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.output)?;
            }
        }
        Ok(())
    }

    /// Sends what waits, as far as it goes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match retry(|| self.stream.write(&self.output[self.sent..]))? {
                Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                Some(sent) => self.sent += sent,
                None => break,
            }
        }
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        } else if self.sent > MOST_WAITING {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

/// `None` where it would block.
fn retry(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match attempt() {
            Ok(octets) => return Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

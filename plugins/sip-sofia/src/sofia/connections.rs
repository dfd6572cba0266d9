//! TCP connections and their sockets, which the library does not tell of by itself.
//!
//! Its kinds of transports are tables of functions, and it takes further ones (`tport_register_type`). Ours are its own TCP
//! with two functions in front of sofia's: one that sees every new socket, one that sees what is about to be read. The
//! table is in no public header: before anything is registered, both places are compared with the functions that must
//! stand there.

use super::calls::{Heard, tell};
use super::transport::{Transport, TransportId};
use crate::ffi;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, RawFd};
use std::sync::OnceLock;

/// The system's buffer of what has come and is not read yet: sofia reads all of it at once and copies what is left behind
/// each message, so a small one keeps that in bounds. SIP needs no more.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// RFC 5626 section 4.4.1.
const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";

thread_local! {
    /// How many more connections there may be. Ours are not held against it, so it may be less than none.
    static ROOM: Cell<isize> = const { Cell::new(isize::MAX) };
    /// Connections whose peer owes a pong.
    static PINGED: RefCell<HashMap<TransportId, RawFd>> = RefCell::default();
}

/// A TCP connection and its socket.
pub(crate) struct Connection {
    transport: Transport,
    fd: RawFd,
}

impl Connection {
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.socket()?.local_addr().ok().map(unmapped)
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.socket()?.peer_addr().ok().map(unmapped)
    }

    /// Sends a ping, whose answer is heard as [`Heard::Pong`].
    pub(crate) fn ping(&self) -> io::Result<()> {
        let socket = self.socket().ok_or(io::ErrorKind::NotConnected)?;
        if self.transport.is_busy() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if (&*socket).write(PING)? < PING.len() {
            self.transport.close();
            return Err(io::ErrorKind::WriteZero.into());
        }
        PINGED.with_borrow_mut(|pinged| pinged.insert(self.transport.id(), self.fd));
        Ok(())
    }

    fn socket(&self) -> Option<ManuallyDrop<TcpStream>> {
        if self.transport.is_closed() {
            return None;
        }
        // SAFETY: sofia marks a connection as closed before it closes its socket, `self` holds the connection, and who
        // asks is done with the socket before the library runs again.
        Some(unsafe { borrowed(self.fd) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        ROOM.set(ROOM.get().saturating_add(1));
        PINGED.with_borrow_mut(|pinged| pinged.remove(&self.transport.id()));
    }
}

/// Sets how many connections there may be on this thread: one that others open beyond it is closed at once.
pub(super) fn limit(connections: usize) {
    ROOM.set(isize::try_from(connections).unwrap_or(isize::MAX));
}

/// Puts our functions before sofia's, once for the process.
pub(super) fn watch() -> io::Result<()> {
    static WATCHED: OnceLock<bool> = OnceLock::new();
    match WATCHED.get_or_init(register) {
        true => Ok(()),
        false => Err(io::Error::other(
            "its transports are not those of sofia-sip 1.12.11",
        )),
    }
}

fn register() -> bool {
    // SAFETY: both tables are static and as long as is said, or the symbols would not be there: they are compared with
    // what must stand in them, and only read. Ours are leaked, for the library keeps them for good.
    unsafe {
        [ffi::tport_tcp_vtable, ffi::tport_tcp_client_vtable]
            .into_iter()
            .all(|ffi::Vtable(mut words)| {
                let init = ffi::tport_tcp_init_secondary as *const () as usize;
                let recv = ffi::tport_recv_stream as *const () as usize;
                if words[ffi::INIT_SECONDARY] != init || words[ffi::RECV] != recv {
                    return false;
                }
                words[ffi::INIT_SECONDARY] = init_secondary as *const () as usize;
                words[ffi::RECV] = recv_stream as *const () as usize;
                ffi::tport_register_type(Box::leak(Box::new(ffi::Vtable(words)))) == 0
            })
    }
}

unsafe extern "C" fn init_secondary(
    tport: *mut ffi::Tport,
    socket: c_int,
    accepted: c_int,
    reason: *mut *const c_char,
) -> c_int {
    // SAFETY: as sofia has called us.
    let done = unsafe { ffi::tport_tcp_init_secondary(tport, socket, accepted, reason) };
    if done < 0 {
        return done;
    }
    if accepted != 0 && ROOM.get() <= 0 {
        // SAFETY: sofia gives a place for a text, which must be a static one.
        unsafe { *reason = c"there are too many connections".as_ptr() };
        return -1;
    }
    tell(|home| {
        // SAFETY: the socket is open, and sofia closes it in later calls only.
        let stream = unsafe { borrowed(socket) };
        let _ = SockRef::from(&*stream).set_recv_buffer_size(RECEIVE_BUFFER);
        let connection = Connection {
            transport: Transport::borrowed(home, tport)?,
            fd: socket,
        };
        ROOM.set(ROOM.get().saturating_sub(1));
        Some(Heard::Connected {
            connection,
            accepted: accepted != 0,
        })
    });
    done
}

unsafe extern "C" fn recv_stream(tport: *mut ffi::Tport) -> c_int {
    tell(|_| {
        let transport = TransportId::of(tport);
        let fd = PINGED.with_borrow(|pinged| pinged.get(&transport).copied())?;
        // SAFETY: sofia reads from it, so it is open.
        let socket = unsafe { borrowed(fd) };
        if !has_pong(&socket) {
            return None;
        }
        PINGED.with_borrow_mut(|pinged| pinged.remove(&transport));
        Some(Heard::Pong { transport })
    });
    // SAFETY: as sofia has called us.
    unsafe { ffi::tport_recv_stream(tport) }
}

/// Whether what is about to be read begins with a pong; a ping begins like one.
fn has_pong(socket: &TcpStream) -> bool {
    let mut start = [0; PING.len()];
    let length = socket.peek(&mut start).unwrap_or(0);
    let start = &start[..length.min(PING.len())];
    start.starts_with(PONG) && start != PING
}

/// # Safety
/// The descriptor must be a socket that stays open as long as what is returned, which does not close it.
unsafe fn borrowed(fd: RawFd) -> ManuallyDrop<TcpStream> {
    // SAFETY: by the caller.
    ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd) })
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

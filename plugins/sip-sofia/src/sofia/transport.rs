//! Transports of the library: sockets that listen ("primaries") and connections ("secondaries").

use super::calls::transport_failed;
use super::{Home, Message};
use crate::ffi;
use std::ffi::{CStr, CString, c_char, c_int};
use std::net::{IpAddr, SocketAddr};
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// A transport, and one reference to it. Two are equal when they are the same transport.
pub(crate) struct Transport {
    raw: NonNull<ffi::Tport>,
    home: Rc<Home>,
}

/// Which transport: good as long as somebody holds it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct TransportId(usize);

/// Where a message came from.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) transport: Transport,
    pub(crate) remote: SocketAddr,
}

impl Transport {
    /// Takes a reference to `raw`, if there is one.
    pub(super) fn borrowed(home: &Rc<Home>, raw: *mut ffi::Tport) -> Option<Transport> {
        let raw = NonNull::new(raw)?;
        // SAFETY: the library has just handed it out, so it is alive.
        unsafe { ffi::tport_ref(raw.as_ptr()) };
        Some(Transport {
            raw,
            home: home.clone(),
        })
    }

    /// Takes over a reference, if there is one.
    pub(super) fn owned(home: &Rc<Home>, raw: *mut ffi::Tport) -> Option<Transport> {
        Some(Transport {
            raw: NonNull::new(raw)?,
            home: home.clone(),
        })
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::Tport {
        self.raw.as_ptr()
    }

    pub(crate) fn id(&self) -> TransportId {
        TransportId::of(self.as_ptr())
    }

    /// What the socket that it belongs to is called.
    pub(crate) fn ident(&self) -> String {
        // SAFETY: the transport is alive, and with it its parent.
        self.text_of(unsafe { ffi::tport_parent(self.as_ptr()) }, |name| name.ident)
    }

    /// The bound address of a socket, the peer's of a connection.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let host = self.text_of(self.as_ptr(), |name| name.host);
        let port = self.text_of(self.as_ptr(), |name| name.port);
        let host: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(host, port.parse().ok()?))
    }

    pub(crate) fn is_connection(&self) -> bool {
        // SAFETY: the transport is alive.
        unsafe { ffi::tport_is_secondary(self.as_ptr()) != 0 }
    }

    pub(crate) fn is_connected(&self) -> bool {
        // SAFETY: the transport is alive.
        unsafe { ffi::tport_is_connected(self.as_ptr()) != 0 }
    }

    pub(crate) fn is_closed(&self) -> bool {
        // SAFETY: the transport is alive.
        unsafe { ffi::tport_is_closed(self.as_ptr()) != 0 }
    }

    /// Closes a connection.
    pub(crate) fn close(&self) {
        // SAFETY: the transport is alive; for a socket that listens this does nothing.
        unsafe { ffi::tport_shutdown(self.as_ptr(), 2) };
    }

    /// Whether messages wait to be sent.
    pub(super) fn is_busy(&self) -> bool {
        // SAFETY: the transport is alive.
        unsafe { ffi::tport_queuelen(self.as_ptr()) > 0 }
    }

    /// Tells when the connection is gone ([`super::Heard::Closed`]).
    pub(crate) fn watch(&self) -> Watch {
        // SAFETY: the transport is alive; the callback lives as long as the program; there is no client to dereference.
        let pending =
            unsafe { ffi::tport_pend(self.as_ptr(), ptr::null_mut(), transport_failed, ptr::null_mut()) };
        Watch {
            transport: self.clone(),
            pending,
        }
    }

    /// Sends `message` to `hop`, outside every transaction.
    pub(crate) fn send(&self, message: &Message, protocol: &str, to: SocketAddr) -> bool {
        let texts = [
            protocol.to_ascii_lowercase(),
            to.ip().to_string(),
            to.port().to_string(),
            self.ident(),
        ];
        let Ok(texts) = texts.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>() else {
            return false;
        };
        let name = ffi::TransportName {
            proto: texts[0].as_ptr(),
            canon: texts[1].as_ptr(),
            host: texts[1].as_ptr(),
            port: texts[2].as_ptr(),
            comp: ptr::null(),
            ident: texts[3].as_ptr(),
        };
        // SAFETY: transport, message and name are alive for the call, which copies the name and takes references of its
        // own; the null tag ends the list.
        let sent =
            unsafe { ffi::tport_tsend(self.as_ptr(), message.as_ptr(), &raw const name, ptr::null(), 0) };
        !sent.is_null()
    }

    fn text_of(&self, of: *mut ffi::Tport, field: impl Fn(&ffi::TransportName) -> *const c_char) -> String {
        // SAFETY: `of` is this transport or its parent, so it and its name are alive; texts in it end with a NUL.
        unsafe {
            let Some(name) = ffi::tport_name(of).as_ref() else {
                return String::new();
            };
            let text = field(name);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

impl Clone for Transport {
    fn clone(&self) -> Self {
        // SAFETY: the transport is alive.
        unsafe { ffi::tport_ref(self.as_ptr()) };
        Transport {
            raw: self.raw,
            home: self.home.clone(),
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // SAFETY: one reference is ours, and the agent is still there.
        unsafe { ffi::tport_unref(self.as_ptr()) };
    }
}

impl TransportId {
    pub(super) fn of(raw: *mut ffi::Tport) -> Self {
        TransportId(raw.addr())
    }
}

/// A registration for the end of a connection.
pub(crate) struct Watch {
    transport: Transport,
    pending: c_int,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the transport is alive; the same arguments as in `Transport::watch`.
        unsafe {
            ffi::tport_release(
                self.transport.as_ptr(),
                self.pending,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                0,
            );
        }
    }
}

/// Where a request goes: an address from a socket, or a connection.
pub(crate) struct Hop {
    route: String,
    ident: String,
    connection: Option<Transport>,
    fresh: bool,
}

impl Hop {
    /// To `to` from the socket that is called `ident`, over a connection of its own if `fresh`.
    pub(crate) fn address(protocol: &str, to: SocketAddr, ident: &str, fresh: bool) -> Self {
        Hop {
            route: format!("sip:{to};transport={}", protocol.to_ascii_lowercase()),
            ident: ident.to_owned(),
            connection: None,
            fresh,
        }
    }

    /// Over `connection`.
    pub(crate) fn over(connection: Transport, protocol: &str, to: SocketAddr) -> Self {
        Hop {
            connection: Some(connection.clone()),
            ..Hop::address(protocol, to, &connection.ident(), false)
        }
    }

    pub(super) fn route(&self) -> &str {
        &self.route
    }

    pub(super) fn ident(&self) -> &str {
        &self.ident
    }

    pub(super) fn connection(&self) -> Option<&Transport> {
        self.connection.as_ref()
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }
}

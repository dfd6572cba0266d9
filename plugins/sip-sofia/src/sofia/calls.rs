//! What the library says: every callback, each turned into a [`Heard`] for this thread.
//!
//! **No panic unwinds into C**: each callback catches it and logs it; the message at hand is lost.

use super::connections::Connection;
use super::transport::{Arrival, Transport, TransportId};
use super::{Home, Message};
use crate::ffi;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

/// Room for any address: `struct sockaddr_storage` has 128 octets.
const ADDRESS_OCTETS: usize = 128;

/// What the library has said.
pub(crate) enum Heard {
    /// A connection is gone; 0 when the peer has closed it.
    Closed { transport: TransportId, errno: i32 },
    /// A new connection, the peer's or ours.
    Connected { connection: Connection, accepted: bool },
    /// To a server transaction.
    Incoming { key: usize, said: Said },
    /// A message that belongs to no transaction: a request, or an answer to none.
    Message { message: Message, arrival: Arrival },
    /// A connection's peer has answered a ping (RFC 5626 section 4.4.1).
    Pong { transport: TransportId },
    /// To a client transaction. Without octets: nta has made up the answer, as it got none.
    Response {
        key: usize,
        status: u16,
        octets: Option<Bytes>,
        arrival: Option<Arrival>,
    },
    /// The descriptor that wakes the loop is readable.
    Woken,
}

/// What happens to a server transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    /// The ACK of an answer other than 2xx.
    Acknowledged,
    /// A CANCEL, which nta has answered.
    Cancelled,
    /// No ACK (timer H).
    TimedOut,
}

/// Takes what is heard on this thread.
pub(crate) type Hear = fn(Heard);

thread_local! {
    static HEAR: Cell<Option<Hear>> = const { Cell::new(None) };
    static HOME: RefCell<Weak<Home>> = const { RefCell::new(Weak::new()) };
}

pub(super) fn listen(hear: Hear) {
    HEAR.set(Some(hear));
}

pub(super) fn settle(home: &Rc<Home>) {
    HOME.with_borrow_mut(|place| *place = Rc::downgrade(home));
}

pub(super) fn deafen() {
    HEAR.set(None);
}

pub(super) fn tell(what: impl FnOnce(&Rc<Home>) -> Option<Heard>) {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let Some(home) = HOME.with_borrow(Weak::upgrade) else {
            return;
        };
        if let (Some(heard), Some(hear)) = (what(&home), HEAR.get()) {
            hear(heard);
        }
    }));
    if told.is_err() {
        tracing::error!("a panic while the SIP stack was told something: what it was told is lost");
    }
}

pub(super) extern "C" fn woken(_root: *mut c_void, _wait: *mut ffi::Wait, _arg: *mut c_void) -> c_int {
    tell(|_| Some(Heard::Woken));
    0
}

pub(super) extern "C" fn message_heard(
    _magic: *mut c_void,
    _agent: *mut ffi::NtaAgent,
    message: *mut ffi::Msg,
    _sip: *mut ffi::Pub,
) -> c_int {
    tell(|home| {
        // nta hands the message over.
        let message = Message::owned(NonNull::new(message)?);
        let arrival = arrival(home, &message)?;
        Some(Heard::Message { message, arrival })
    });
    0
}

pub(super) extern "C" fn response_heard(
    key: *mut c_void,
    outgoing: *mut ffi::NtaOutgoing,
    sip: *const ffi::Pub,
) -> c_int {
    tell(|home| {
        // SAFETY: nta calls with a transaction that is alive and with its latest answer, or none; the message comes with
        // a reference of its own.
        let (status, internal, message) = unsafe {
            (
                ffi::nta_outgoing_status(outgoing),
                ffi::nta_sip_is_internal(sip) != 0,
                NonNull::new(ffi::nta_outgoing_getresponse(outgoing)).map(Message::owned),
            )
        };
        let message = message.filter(|_| !internal);
        Some(Heard::Response {
            key: key.addr(),
            status: u16::try_from(status).unwrap_or(0),
            arrival: message.as_ref().and_then(|message| arrival(home, message)),
            octets: message.map(|message| message.octets()),
        })
    });
    0
}

pub(super) extern "C" fn incoming_heard(
    key: *mut c_void,
    incoming: *mut ffi::NtaIncoming,
    sip: *const ffi::Pub,
) -> c_int {
    tell(|_| {
        // SAFETY: nta calls with a transaction that is alive.
        let status = unsafe { ffi::nta_incoming_status(incoming) };
        // nta calls only for these three: for a CANCEL before the final answer, for an ACK behind it, and with nothing.
        let said = match (sip.is_null(), status >= 200) {
            (true, _) => Said::TimedOut,
            (false, true) => Said::Acknowledged,
            (false, false) => Said::Cancelled,
        };
        Some(Heard::Incoming {
            key: key.addr(),
            said,
        })
    });
    0
}

pub(super) extern "C" fn transport_failed(
    _agent: *mut ffi::NtaAgent,
    _client: *mut c_void,
    transport: *mut ffi::Tport,
    _message: *mut ffi::Msg,
    errno: c_int,
) {
    tell(|_| {
        Some(Heard::Closed {
            transport: TransportId::of(transport),
            errno,
        })
    });
}

/// Where the message that is being delivered came from.
fn arrival(home: &Rc<Home>, message: &Message) -> Option<Arrival> {
    // SAFETY: agent and message are alive; what the library finds is alive while it delivers.
    let transport = unsafe { ffi::tport_delivered_by(ffi::nta_agent_tports(home.agent), message.as_ptr()) };
    let transport = Transport::borrowed(home, transport)?;
    let mut address = [0_u8; ADDRESS_OCTETS];
    let mut length = ADDRESS_OCTETS as u32;
    // SAFETY: the message is alive; sofia writes at most as many octets as there is room for, and says how many.
    let got = unsafe { ffi::msg_get_address(message.as_ptr(), address.as_mut_ptr().cast(), &raw mut length) };
    (got == 0)
        .then(|| socket_addr(&address))
        .flatten()
        .map(|remote| Arrival { transport, remote })
}

/// A `struct sockaddr`: the family in the machine's order, then the port, then the address.
fn socket_addr(octets: &[u8; ADDRESS_OCTETS]) -> Option<SocketAddr> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let port = u16::from_be_bytes([octets[2], octets[3]]);
    match u16::from_ne_bytes([octets[0], octets[1]]) {
        AF_INET => {
            let ip: [u8; 4] = octets[4..8].try_into().ok()?;
            Some((Ipv4Addr::from(ip), port).into())
        }
        AF_INET6 => {
            let ip: [u8; 16] = octets[8..24].try_into().ok()?;
            let ip = Ipv6Addr::from(ip);
            match ip.to_ipv4_mapped() {
                Some(v4) => Some((v4, port).into()),
                None => Some((ip, port).into()),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(start: &[u8]) -> [u8; ADDRESS_OCTETS] {
        let mut octets = [0; ADDRESS_OCTETS];
        octets[..start.len()].copy_from_slice(start);
        octets
    }

    #[test]
    fn a_socket_address_is_read_as_the_system_lays_it_out() {
        let mut v4 = 2_u16.to_ne_bytes().to_vec();
        v4.extend([0x13, 0xc4, 192, 0, 2, 1]);
        assert_eq!(socket_addr(&octets(&v4)), Some("192.0.2.1:5060".parse().unwrap()));
        let mut v6 = 10_u16.to_ne_bytes().to_vec();
        v6.extend([0x13, 0xc5, 0, 0, 0, 0]);
        v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(
            socket_addr(&octets(&v6)),
            Some("[2001:db8::1]:5061".parse().unwrap())
        );
        assert_eq!(socket_addr(&octets(&[9, 9])), None);
    }
}

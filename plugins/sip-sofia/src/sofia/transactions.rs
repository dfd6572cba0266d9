//! Transactions of nta.

use super::calls::incoming_heard;
use super::tags::Tags;
use super::{Home, Message, Transport};
use crate::ffi;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// A client transaction; dropped, it goes on by itself as long as RFC 3261 wants, and is not heard any more.
pub(crate) struct Outgoing {
    raw: NonNull<ffi::NtaOutgoing>,
    home: Rc<Home>,
}

impl Outgoing {
    pub(super) fn new(home: &Rc<Home>, raw: NonNull<ffi::NtaOutgoing>) -> Self {
        Outgoing {
            raw,
            home: home.clone(),
        }
    }

    /// The transport that it was sent over, if it was sent.
    pub(crate) fn transport(&self) -> Option<Transport> {
        // SAFETY: the transaction is alive; a transport comes with a reference of its own. Without one the function
        // would take a reference to nothing, which `su_home_ref` answers with nothing.
        Transport::owned(&self.home, unsafe {
            ffi::nta_outgoing_transport(self.raw.as_ptr())
        })
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // SAFETY: nta keeps a transaction until its user destroys it, which happens here only, and the agent is there.
        unsafe { ffi::nta_outgoing_destroy(self.raw.as_ptr()) };
    }
}

/// A server transaction; dropped, it goes on by itself as long as RFC 3261 wants, and is not heard any more. One that was
/// not answered is answered 500 then.
pub(crate) struct Incoming {
    raw: NonNull<ffi::NtaIncoming>,
    _home: Rc<Home>,
    abandoned: bool,
}

impl Incoming {
    pub(super) fn begin(
        home: &Rc<Home>,
        message: Message,
        transport: &Transport,
        key: usize,
    ) -> Option<Incoming> {
        let tags = Tags::new().pointer(&raw const ffi::ntatag_tport, transport.as_ptr());
        let (tag, value) = tags.list();
        // SAFETY: agent and transport are alive; the message is a whole request and is handed over, whether it succeeds
        // or not; there is no leg; the tags outlive the call; the magic is a number that is never dereferenced.
        let raw = unsafe {
            let raw = ffi::nta_incoming_create(
                home.agent,
                ptr::null_mut(),
                message.into_raw().as_ptr(),
                ptr::null_mut(),
                tag,
                value,
            );
            NonNull::new(raw)?
        };
        let tags = Tags::new().number(&raw const ffi::ntatag_extra_100, 0);
        let (tag, value) = tags.list();
        // SAFETY: the transaction is alive, and the tags outlive the call.
        unsafe {
            ffi::nta_incoming_bind(
                raw.as_ptr(),
                Some(incoming_heard),
                ptr::without_provenance_mut(key),
            );
            ffi::nta_incoming_set_params(raw.as_ptr(), tag, value);
        }
        Some(Incoming {
            raw,
            _home: home.clone(),
            abandoned: false,
        })
    }

    /// Leaves it to the agent, which is about to end, and sends nothing.
    pub(crate) fn abandon(mut self) {
        self.abandoned = true;
    }

    /// Sends an answer; the message must be one to this request.
    pub(crate) fn reply(&self, message: Message) -> bool {
        // SAFETY: the transaction is alive; the message is whole and handed over, whether it succeeds or not.
        unsafe { ffi::nta_incoming_mreply(self.raw.as_ptr(), message.into_raw().as_ptr()) >= 0 }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.abandoned {
            return;
        }
        // SAFETY: nta keeps a transaction until its user destroys it, which happens here only, and the agent is there.
        unsafe { ffi::nta_incoming_destroy(self.raw.as_ptr()) };
    }
}

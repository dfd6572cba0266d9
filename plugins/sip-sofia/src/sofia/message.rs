//! Messages of the library: octets in, octets out.

use super::class;
use crate::ffi;
use bytes::Bytes;
use std::ptr::{self, NonNull};

/// How many pieces of a message are gathered without asking for room.
const PIECES: usize = 32;

/// A message of the library's, and one reference to it.
pub(crate) struct Message(NonNull<ffi::Msg>);

impl Message {
    /// Reads a message that is to be sent. `None` when the library cannot read it or when it lacks what every message
    /// has: nta relies on that.
    pub(crate) fn parse(octets: &[u8]) -> Option<Message> {
        let length = isize::try_from(octets.len()).ok()?;
        // SAFETY: the octets are readable for the call, which copies them.
        let raw = unsafe {
            ffi::msg_make(
                class::ours(),
                ffi::EXTRACT_COPY.cast_signed(),
                octets.as_ptr().cast(),
                length,
            )
        };
        let message = Message(NonNull::new(raw)?);
        // SAFETY: the message is alive, and so is the object in it.
        let sane = unsafe {
            ffi::msg_get_flags(raw, ffi::FLAG_ERROR) == 0 && ffi::sip_sanity_check(ffi::msg_object(raw)) == 0
        };
        sane.then_some(message)
    }

    /// Takes over a reference.
    pub(super) fn owned(raw: NonNull<ffi::Msg>) -> Message {
        Message(raw)
    }

    /// Gives the reference away.
    pub(super) fn into_raw(self) -> NonNull<ffi::Msg> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::Msg {
        self.0.as_ptr()
    }

    /// The octets as they came.
    pub(crate) fn octets(&self) -> Bytes {
        let raw = self.as_ptr();
        class::restore_vias(raw);
        // SAFETY: the message is alive; `msg_prepare` wants a chain that is not empty, which is checked first.
        let prepared = unsafe {
            let head = ffi::msg_chain_head(raw);
            !head.is_null() && !(*head).is_null() && ffi::msg_prepare(raw) >= 0
        };
        if !prepared {
            return Bytes::new();
        }
        let mut pieces = vec![EMPTY; PIECES];
        let mut count = gather(raw, &mut pieces);
        if count > pieces.len() {
            pieces.resize(count, EMPTY);
            count = gather(raw, &mut pieces);
        }
        let pieces = &pieces[..count.min(pieces.len())];
        let mut octets = Vec::with_capacity(pieces.iter().map(|piece| piece.len).sum());
        for piece in pieces.iter().filter(|piece| !piece.base.is_null()) {
            // SAFETY: each piece is what `msg_iovec` says of a message that is alive and not changed meanwhile.
            octets.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.base, piece.len) });
        }
        octets.into()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: one reference is ours.
        unsafe { ffi::msg_destroy(self.0.as_ptr()) };
    }
}

const EMPTY: ffi::IoVec = ffi::IoVec {
    base: ptr::null(),
    len: 0,
};

/// Fills `pieces` as far as they go and says how many there are.
fn gather(message: *mut ffi::Msg, pieces: &mut [ffi::IoVec]) -> usize {
    // SAFETY: the message is alive and prepared; sofia writes at most as many pieces as there is room for.
    let count = unsafe { ffi::msg_iovec(message, pieces.as_mut_ptr(), pieces.len().cast_signed()) };
    usize::try_from(count).unwrap_or(0)
}

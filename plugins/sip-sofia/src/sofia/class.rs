//! How the library reads messages: as little as nta needs, and without changing what it has read.
//!
//! sofia's own class reads every header field that it knows and refuses a message for each of them that it does not like.
//! This one knows the fields that transactions need; every other is carried along as it is, and what it means is found out
//! above, by the parser that every stack is held against. Three things are done differently:
//!
//! | sofia 1.12.11 | here |
//! |---|---|
//! | a CRLF before a start line, which RFC 3261 section 7.5 lets anybody send, cuts that line short | skipped |
//! | a request is dropped in silence when its request line or its Via cannot be read, or its Via names another transport than it came over; a 505 goes to whatever the sent-by resolves to | sofia sees of a request line the method, and of such a Via one that fits |
//! | a copy of an INVITE is answered again with its 2xx (RFC 6026 section 7.1: it is absorbed) | handed up as another request, and absorbed there |

use crate::ffi;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

/// The header fields that nta reads. With Route it makes the ACK of a non-2xx, of Timestamp the answer's.
const READ: [&CStr; 9] = [
    c"Call-ID:",
    c"Content-Length:",
    c"CSeq:",
    c"From:",
    c"Max-Forwards:",
    c"Route:",
    c"Timestamp:",
    c"To:",
    c"Via:",
];

/// What sofia sees of the request line of a request that has come, behind the method: nothing that it does with such a
/// request depends on where it goes.
const ANY_URI: &[u8] = b" sip:any.invalid SIP/2.0";

/// What sofia sees of a Via that it cannot read: the answer goes to where the request came from.
const ANY_VIA: &CStr = c"SIP/2.0/UDP unreadable.invalid;rport;branch=z9hG4bK.unreadable";

/// The branch by which a request is handed up although a transaction has it.
const NO_BRANCH: &CStr = c"z9hG4bK.absorbed";

/// Most octets that are read for one message, and behind it for the next ones of a connection; beyond it sofia answers
/// 413 and reads no more from there.
pub(super) const MOST_OCTETS: usize = 1 << 20;

thread_local! {
    /// Most octets of a body; a longer one is answered 413.
    static MOST_BODY: Cell<u32> = const { Cell::new(u32::MAX) };
    /// Branches in lower case.
    static DIVERTED: RefCell<HashSet<String>> = RefCell::default();
}

/// From now on, or no longer, requests with `branch` (in lower case) are handed up although a transaction has them.
pub(super) fn divert(branch: &str, on: bool) {
    DIVERTED.with_borrow_mut(|diverted| match on {
        true => drop(diverted.insert(branch.to_owned())),
        false => drop(diverted.remove(branch)),
    });
}

/// Where the octets of one Via are, before nta changes it; a list of these is kept in the message's own memory.
struct Kept {
    data: *const u8,
    len: u32,
    next: *mut Kept,
}

/// The class, made once for the process.
pub(super) fn ours() -> *const ffi::MessageClass {
    static CLASS: OnceLock<usize> = OnceLock::new();
    ptr::with_exposed_provenance(*CLASS.get_or_init(|| make().expose_provenance()))
}

fn make() -> *const ffi::MessageClass {
    // SAFETY: the default class is static; the clone is ours, is complete before anybody else sees it, and is never
    // freed. The header classes are leaked for the same reason; theirs differ in nothing but the function that reads.
    unsafe {
        let default = ffi::sip_default_mclass();
        let class = ffi::msg_mclass_clone(default, 0, 1);
        if class.is_null() {
            return default;
        }
        for name in READ {
            let mut content = 0;
            let found = ffi::msg_find_hclass(default, name.as_ptr(), &raw mut content);
            ffi::msg_mclass_insert(class, found);
        }
        (*class).extract_body = extract_body;
        (*class).request.class = Box::leak(Box::new(ffi::HeaderClass {
            parse: read_request_line,
            ..ffi::sip_request_class
        }));
        (*class).status.class = Box::leak(Box::new(ffi::HeaderClass {
            parse: read_status_line,
            ..ffi::sip_status_class
        }));
        class
    }
}

/// Sets the most octets of a body on this thread.
pub(super) fn limit_body(octets: usize) {
    MOST_BODY.set(u32::try_from(octets).unwrap_or(u32::MAX));
}

/// Gives the Via header fields the octets back with which they came.
pub(super) fn restore_vias(message: *mut ffi::Msg) {
    // SAFETY: the message is alive, and what hangs on it was put there by `keep_vias`: only our class reads messages, and
    // nobody else uses `msg_user`.
    unsafe {
        let sip = ffi::msg_object(message);
        let mut kept = (*sip).user.cast::<Kept>();
        let mut via = via_of(sip);
        while !kept.is_null() && !via.is_null() {
            (*via).common.data = (*kept).data;
            (*via).common.len = (*kept).len;
            (kept, via) = ((*kept).next, (*via).next);
        }
    }
}

unsafe extern "C" fn extract_body(
    message: *mut ffi::Msg,
    sip: *mut ffi::Pub,
    data: *mut c_char,
    len: isize,
    end: c_int,
) -> isize {
    // SAFETY: sofia calls with a message that is alive and its object; the call goes on as it came.
    unsafe {
        if (*sip).flags & ffi::FLAG_BODY == 0 && (*sip).user.is_null() && is_received(message) {
            // Whether what it could not read matters is found out above; what it needs it looks for itself.
            (*sip).flags &= !ffi::FLAG_ERROR;
            let read = !via_of(sip).is_null() || add_via(message, sip);
            keep_vias(message, sip);
            if read {
                fit_via(message, sip);
            }
            if body_is_too_long(sip) {
                (*sip).flags |= ffi::FLAG_TOO_LARGE;
                return -1;
            }
        }
        // The length is an `int` or a word: its lower half is good in both.
        let len = isize::try_from(len as c_int).unwrap_or(0);
        ffi::sip_extract_body(message, sip, data, len, end)
    }
}

/// # Safety
/// The message must be alive and `sip` its object.
unsafe fn keep_vias(message: *mut ffi::Msg, sip: *mut ffi::Pub) {
    // SAFETY: by the caller; a message begins with its home (`msg_home`), and what is allocated there lives as long.
    unsafe {
        let mut via = via_of(sip);
        let mut last = (&raw mut (*sip).user).cast::<*mut Kept>();
        while !via.is_null() {
            let home = message.cast::<ffi::Home>();
            let kept = ffi::su_alloc(home, size_of::<Kept>().cast_signed()).cast::<Kept>();
            if kept.is_null() {
                return;
            }
            kept.write(Kept {
                data: (*via).common.data,
                len: (*via).common.len,
                next: ptr::null_mut(),
            });
            last.write(kept);
            last = &raw mut (*kept).next;
            via = (*via).next;
        }
    }
}

/// # Safety
/// The message must be alive and `sip` its object, with a Via.
unsafe fn fit_via(message: *mut ffi::Msg, sip: *mut ffi::Pub) {
    // SAFETY: by the caller; the names are static texts.
    unsafe {
        let via = via_of(sip);
        if (*sip).request.is_null() {
            return;
        }
        (*via).protocol = match (*ffi::msg_addrinfo(message)).socktype {
            ffi::DATAGRAM => &raw const ffi::sip_transport_udp,
            _ => &raw const ffi::sip_transport_tcp,
        };
        if is_diverted((*via).branch) {
            (*via).branch = NO_BRANCH.as_ptr();
        }
    }
}

/// # Safety
/// `sip` must be alive.
unsafe fn body_is_too_long(sip: *mut ffi::Pub) -> bool {
    // SAFETY: by the caller; what is kept as Content-Length is one.
    unsafe {
        let class = &raw const ffi::sip_content_length_class;
        let length = ffi::msg_header_access(sip, class).cast::<ffi::ContentLength>();
        !length.is_null() && (*length).length > MOST_BODY.get()
    }
}

/// # Safety
/// The branch must be a text that ends with a NUL, or null.
unsafe fn is_diverted(branch: *const c_char) -> bool {
    let diverted = catch_unwind(AssertUnwindSafe(|| {
        DIVERTED.with_borrow(|diverted| {
            if diverted.is_empty() || branch.is_null() {
                return false;
            }
            // SAFETY: by the caller.
            let branch = unsafe { CStr::from_ptr(branch) };
            diverted.contains(&branch.to_string_lossy().to_ascii_lowercase())
        })
    }));
    diverted.unwrap_or(false)
}

/// Gives a message whose Via cannot be read another, which is not seen above.
///
/// # Safety
/// The message must be alive and `sip` its object.
unsafe fn add_via(message: *mut ffi::Msg, sip: *mut ffi::Pub) -> bool {
    // SAFETY: by the caller.
    unsafe {
        if !has_via_line(message) {
            return false;
        }
        let class = &raw const ffi::sip_via_class;
        if ffi::msg_header_add_make(message, sip, class, ANY_VIA.as_ptr()) < 0 || via_of(sip).is_null() {
            return false;
        }
        (*via_of(sip)).common.data = ANY_VIA.as_ptr().cast();
        (*via_of(sip)).common.len = 0;
        true
    }
}

/// Without any Via nobody says where an answer is to go.
///
/// # Safety
/// The message must be alive.
unsafe fn has_via_line(message: *mut ffi::Msg) -> bool {
    // SAFETY: by the caller; the fields of a message are a list that ends with null.
    unsafe {
        let mut field = *ffi::msg_chain_head(message);
        while !field.is_null() {
            let octets = octets_of(field);
            let name = octets
                .split(|octet| *octet == b':')
                .next()
                .unwrap_or_default()
                .trim_ascii_end();
            if name.eq_ignore_ascii_case(b"Via") || name.eq_ignore_ascii_case(b"v") {
                return true;
            }
            field = (*field).succ;
        }
        false
    }
}

/// # Safety
/// `sip` must be alive.
unsafe fn via_of(sip: *mut ffi::Pub) -> *mut ffi::Via {
    // SAFETY: by the caller; what is kept as Via is one.
    unsafe { ffi::msg_header_access(sip, &raw const ffi::sip_via_class).cast() }
}

/// Whether a message has come over a transport: those that we make have no address yet.
///
/// # Safety
/// The message must be alive.
unsafe fn is_received(message: *mut ffi::Msg) -> bool {
    // SAFETY: by the caller; the address is a part of the message.
    unsafe {
        matches!(
            (*ffi::msg_addrinfo(message)).socktype,
            ffi::DATAGRAM | ffi::STREAM
        )
    }
}

unsafe extern "C" fn read_request_line(
    home: *mut ffi::Home,
    line: *mut ffi::Header,
    text: *mut c_char,
    len: isize,
) -> isize {
    // SAFETY: as sofia has called us; the home that a start line is allocated from is its message's (`msg_home`).
    unsafe {
        let own = ffi::sip_request_class.parse;
        skip_blank(line);
        // What follows another message on a connection has no limit of its own.
        ffi::msg_maxsize(home.cast::<ffi::Msg>(), MOST_OCTETS);
        if !is_received(home.cast::<ffi::Msg>()) {
            return own(home, line, text, isize::try_from(len as c_int).unwrap_or(0)) as c_int as isize;
        }
        match any_request_line(octets_of(line)) {
            Some(any) => read_text(own, home, line, &any),
            None => -1,
        }
    }
}

unsafe extern "C" fn read_status_line(
    home: *mut ffi::Home,
    line: *mut ffi::Header,
    text: *mut c_char,
    len: isize,
) -> isize {
    // SAFETY: as sofia has called us; as for a request line.
    unsafe {
        let own = ffi::sip_status_class.parse;
        ffi::msg_maxsize(home.cast::<ffi::Msg>(), MOST_OCTETS);
        match skip_blank(line) {
            true => read_text(own, home, line, octets_of(line)),
            false => own(home, line, text, isize::try_from(len as c_int).unwrap_or(0)) as c_int as isize,
        }
    }
}

/// Leaves out the line ends before a start line, and says whether there were any.
///
/// # Safety
/// The line must be alive.
unsafe fn skip_blank(line: *mut ffi::Header) -> bool {
    // SAFETY: by the caller; what is left is a part of what was there.
    unsafe {
        let octets = octets_of(line);
        let blank = octets
            .iter()
            .take_while(|octet| octet.is_ascii_whitespace())
            .count();
        (*line).data = (*line).data.add(blank);
        (*line).len -= u32::try_from(blank).unwrap_or(0);
        blank > 0
    }
}

/// # Safety
/// As for the function that reads it in sofia.
unsafe fn read_text(
    own: ffi::ReadHeader,
    home: *mut ffi::Home,
    line: *mut ffi::Header,
    octets: &[u8],
) -> isize {
    let trimmed = octets.trim_ascii_end();
    // SAFETY: by the caller; the copy lives as long as the message.
    unsafe {
        let copy = ffi::su_strndup(home, trimmed.as_ptr().cast(), trimmed.len().cast_signed());
        if copy.is_null() {
            return -1;
        }
        own(home, line, copy, trimmed.len().cast_signed()) as c_int as isize
    }
}

/// # Safety
/// The line must be alive, and its octets must not change while they are looked at.
unsafe fn octets_of<'a>(line: *mut ffi::Header) -> &'a [u8] {
    // SAFETY: by the caller; with `MSG_DO_EXTRACT_COPY` sofia has set both before it reads.
    unsafe {
        match (*line).data.is_null() {
            true => &[],
            false => std::slice::from_raw_parts((*line).data, (*line).len as usize),
        }
    }
}

fn any_request_line(octets: &[u8]) -> Option<Vec<u8>> {
    let length = octets.iter().position(|octet| !octet.is_ascii_graphic())?;
    let method = octets.get(..length).filter(|method| !method.is_empty())?;
    Some([method, ANY_URI].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sofia_sees_the_method_of_a_request_line() {
        let made = any_request_line(b"INVITE <sip:user@example.com> SIP/2.0\r\n");
        assert_eq!(made.as_deref(), Some(&b"INVITE sip:any.invalid SIP/2.0"[..]));
        assert_eq!(any_request_line(b" x"), None);
        assert_eq!(any_request_line(b"nothing-else"), None);
    }
}

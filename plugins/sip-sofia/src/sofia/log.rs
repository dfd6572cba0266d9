//! sofia's log, which would go to standard error: into `tracing`, and the latest lines kept as the reason of a failure.

use crate::ffi;
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Once;

/// Longest line that is kept.
const LINE: usize = 512;

/// How many of the latest lines are kept; beyond it the oldest goes.
const KEPT: usize = 8;

thread_local! {
    static RECENT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes over the log of every part of the library, once for the process.
pub(super) fn redirect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a null log is sofia's default one, which every part without a logger of its own uses; the function
        // lives as long as the program, and its stream is never read.
        unsafe { ffi::su_log_redirect(ptr::null_mut(), Some(line), ptr::null_mut()) };
    });
}

/// What this thread's library has said since the last [`forget`], the latest last.
pub(crate) fn recent() -> Option<String> {
    RECENT.with_borrow(|lines| (!lines.is_empty()).then(|| lines.join("; ")))
}

/// Begins anew.
pub(super) fn forget() {
    RECENT.with_borrow_mut(Vec::clear);
}

extern "C" fn line(_stream: *mut c_void, format: *const c_char, args: *mut c_void) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let mut buffer = [0_u8; LINE];
        // SAFETY: the buffer is as long as is said; format and arguments are sofia's own and fit each other.
        let length = unsafe { ffi::vsnprintf(buffer.as_mut_ptr().cast(), LINE, format, args) };
        keep(&buffer, length);
    }));
}

fn keep(buffer: &[u8], length: c_int) {
    // vsnprintf says how long it would have been, and ends with a NUL.
    let length = usize::try_from(length).unwrap_or(0).min(LINE - 1);
    let text = String::from_utf8_lossy(&buffer[..length]);
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    tracing::debug!(target: "sofia", "{text}");
    RECENT.with_borrow_mut(|lines| {
        if lines.len() == KEPT {
            lines.remove(0);
        }
        lines.push(text.to_owned());
    });
}

//! Room to read into, one for each thread: a socket that waits holds none.

use std::cell::RefCell;

/// The longest datagram.
const ROOM: usize = 1 << 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the room, empty, to `read`, which must not ask for it again. Pages that were never read into take no memory.
pub(crate) fn with<R>(read: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    SCRATCH.with_borrow_mut(|room| {
        room.clear();
        room.reserve_exact(ROOM);
        read(room)
    })
}

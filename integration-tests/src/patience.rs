//! Waiting for something outside this process: always for a reason, never longer than said.

use std::time::{Duration, Instant};

/// How often something outside is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` finds something, at most `limit` long.
///
/// Returns `None` when the time is over.
#[allow(
    clippy::disallowed_methods,
    reason = "other processes live by the wall's clock, which no test can pause"
)]
pub fn wait<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Does something and says how long it took.
#[allow(
    clippy::disallowed_methods,
    reason = "other processes live by the wall's clock, which no test can pause"
)]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

//! What the tests of this crate share.

use std::time::Instant;

#[path = "../tests/common/words.rs"]
pub(crate) mod words;

/// Some moment.
#[allow(clippy::disallowed_methods, reason = "a test's clock has to start somewhere")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

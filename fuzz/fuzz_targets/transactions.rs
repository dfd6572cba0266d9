//! The transaction machine: whatever is called and arrives in whatever order, nothing panics, and what was announced
//! ends once. Every four octets are a step.
#![no_main]

#[path = "../../crates/sip-transactions/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (steps, _) = data.as_chunks::<4>();
    support::steps::play(&steps[..steps.len().min(256)]);
});

//! The framer of streams: it does not matter in which pieces the octets come. The first octet says how long they are.
#![no_main]

// Alone, for the stack around it would have to be built with it.
#[path = "../../crates/sip-stack/src/framing.rs"]
mod framing;

use framing::{Frame, Framer};
use libfuzzer_sys::fuzz_target;
use siprtc_core::sip::Limits;

const LIMITS: Limits = Limits {
    message: 2000,
    header_fields: 50,
    header_line: 1000,
};

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else {
        return;
    };
    let pings = piece % 3;
    let whole = frames(pings, stream.chunks(stream.len().max(1)));
    assert_eq!(frames(pings, stream.chunks(usize::from(*piece).max(1))), whole);
    assert_eq!(frames(pings, stream.chunks(1)), whole);
});

/// What a stream in these pieces holds, after so many pings of ours. Of two things that are wrong with it another one may
/// be seen first, so what is wrong does not count.
fn frames<'a>(pings: u8, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Frame>> {
    let mut framer = Framer::new(LIMITS);
    (0..pings).for_each(|_| framer.expect_pong());
    let mut frames = Vec::new();
    for piece in pieces {
        framer.feed(piece);
        loop {
            match framer.poll() {
                Ok(Some(frame)) => frames.push(Some(frame)),
                Ok(None) => break,
                Err(_) => frames.push(None),
            }
        }
        let _ = framer.is_partial();
    }
    frames
}

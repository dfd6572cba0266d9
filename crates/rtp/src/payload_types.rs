//! A set of payload types that one task changes and others ask.

use std::sync::atomic::{AtomicU64, Ordering};

/// Payload types (RFC 3550 section 5.1: 0 to 127).
#[derive(Debug, Default)]
pub struct PayloadTypes([AtomicU64; 2]);

impl PayloadTypes {
    /// These, and only these.
    pub fn set(&self, payload_types: impl Iterator<Item = u8>) {
        let bits = payload_types.fold(0_u128, |bits, number| bits | 1 << (number & 0x7f));
        self.0[0].store(bits as u64, Ordering::Release);
        self.0[1].store((bits >> 64) as u64, Ordering::Release);
    }

    /// Whether it is one of them.
    pub fn has(&self, payload_type: u8) -> bool {
        let half = &self.0[usize::from(payload_type & 0x40 != 0)];
        payload_type < 128 && half.load(Ordering::Acquire) >> (payload_type & 0x3f) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_set_last() {
        let types = PayloadTypes::default();
        types.set([0, 63, 64, 127].into_iter());
        let has = |types: &PayloadTypes| (0..=255).filter(|number| types.has(*number)).collect::<Vec<u8>>();
        assert_eq!(has(&types), [0, 63, 64, 127]);
        types.set([5].into_iter());
        assert_eq!(has(&types), [5]);
    }
}

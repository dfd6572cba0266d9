//! Randomness, injected so that a test can repeat it.

/// Numbers uniform over all of `u64`. In production from a cryptographic generator: a cnonce and the Call-ID must not
/// be guessable.
pub(crate) struct Entropy(Box<dyn FnMut() -> u64 + Send>);

impl Entropy {
    pub(crate) fn new(source: impl FnMut() -> u64 + Send + 'static) -> Self {
        Entropy(Box::new(source))
    }

    /// 128 bits in hex.
    pub(crate) fn token(&mut self) -> String {
        format!("{:016x}{:016x}", (self.0)(), (self.0)())
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        ((self.0)() >> 11) as f64 / (1u64 << 53) as f64
    }
}

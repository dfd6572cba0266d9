//! The message parser: a start line, header fields, a body.

/// What the parser accepts. Beyond a limit a message is an error, never a guess.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Most octets of a message, 65,535 by default.
    pub message: usize,
    /// Most header field lines, 256 by default.
    pub header_fields: usize,
    /// Most octets of one header field line after unfolding, 16,384 by default.
    pub header_line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message: 65_535, header_fields: 256, header_line: 16_384 }
    }
}

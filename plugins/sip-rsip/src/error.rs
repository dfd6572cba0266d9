//! Errors of this plugin.

use siprtc_core::{Error, Fault};

/// Most characters of rsip's own words in an error: they quote what rsip could not read, up to the whole message.
const QUOTED: usize = 120;

pub(crate) fn malformed(message: impl Into<String>) -> Error {
    Error::new(Fault::PeerMisbehaved, "read SIP", message)
        .advice("see RFC 3261 section 7")
        .backend(crate::NAME)
}

/// `what` could not be read, as rsip tells it. Whether the peer is wrong or rsip is not known here.
pub(crate) fn unreadable(what: &str, error: &rsip::Error) -> Error {
    let text = error.to_string();
    let mut words: String = text.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED).is_some() {
        words.push_str("...");
    }
    Error::new(
        Fault::PeerMisbehaved,
        "read SIP",
        format!("rsip cannot read {what}: {words}"),
    )
    .advice("see whether the message is valid; if it is, use another stack: sip.stack")
    .backend(crate::NAME)
}

//! What is read in a description.

use siprtc_core::media::{Codec, Direction};

/// The peer that a description is of.
pub(super) fn remote_id(sdp: &str) -> Option<u64> {
    let fragment = sdp
        .lines()
        .find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:fake"))?;
    fragment.split('x').next()?.parse().ok()
}

pub(super) fn offers(sdp: &str, codec: Codec) -> bool {
    let name = format!(" {}/", codec.as_str().to_ascii_lowercase());
    sdp.lines()
        .any(|line| line.starts_with("a=rtpmap:") && line.to_ascii_lowercase().contains(&name))
}

pub(super) fn direction_of(sdp: &str) -> Direction {
    use Direction::*;
    [Inactive, RecvOnly, SendOnly, SendRecv]
        .into_iter()
        .find(|direction| {
            sdp.lines()
                .any(|line| line.trim_end().strip_prefix("a=") == Some(direction.as_str()))
        })
        .unwrap_or_default()
}

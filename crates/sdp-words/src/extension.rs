//! Elements of RTP's header extension by name (`a=extmap`, RFC 8285 section 5).

/// What a packet carries whose sender is told when it came: its number of its transport's
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
pub const TRANSPORT_SEQUENCE: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// The number that a value of `a=extmap` gives this element, if its writer sends it, and if it is one that fits into half an octet
/// (1 to 14, RFC 8285 section 4.2).
///
/// ```
/// use siprtc_sdp_words::{TRANSPORT_SEQUENCE, element_number};
///
/// assert_eq!(element_number(&format!("5/sendonly {TRANSPORT_SEQUENCE}"), TRANSPORT_SEQUENCE), Some(5));
/// assert_eq!(element_number(&format!("5/recvonly {TRANSPORT_SEQUENCE}"), TRANSPORT_SEQUENCE), None);
/// ```
pub fn element_number(value: &str, uri: &str) -> Option<u8> {
    let (number, rest) = value.trim().split_once([' ', '\t'])?;
    let (number, direction) = number.split_once('/').unwrap_or((number, "sendrecv"));
    let number = number.parse().ok()?;
    let is_sent = !matches!(direction, "recvonly" | "inactive");
    let is_it = rest.split_ascii_whitespace().next() == Some(uri);
    (is_it && is_sent && (1..=14).contains(&number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_with_and_without_direction_and_attributes() {
        for (value, number) in [
            ("1 urn:x", Some(1)),
            ("14/sendrecv urn:x with attributes", Some(14)),
            ("3\turn:x", Some(3)),
            ("1/recvonly urn:x", None),
            ("1/inactive urn:x", None),
            ("0 urn:x", None),
            ("15 urn:x", None),
            ("256 urn:x", None),
            ("x urn:x", None),
            ("1 urn:y", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(element_number(value, "urn:x"), number, "{value:?}");
        }
    }
}

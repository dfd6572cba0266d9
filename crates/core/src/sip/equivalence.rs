//! When two SIP URIs mean the same (RFC 3261 section 19.1.4).

use super::{Params, SipUri};

/// [`SipUri::is_equivalent`].
pub(super) fn same_uri(one: &SipUri, other: &SipUri) -> bool {
    one.secure == other.secure
        && same_text(one.user.as_deref(), other.user.as_deref())
        && same_text(one.password.as_deref(), other.password.as_deref())
        && one.host == other.host
        && one.port == other.port
        && same_params(&one.params, &other.params)
        && same_headers(one.headers.as_deref(), other.headers.as_deref())
}

/// Resolves the escapes whose octet is `wanted`; what is no escape stays.
pub(super) fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = (byte == b'%')
            .then(|| after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(octet) if wanted(octet) => {
                decoded.push(octet);
                rest = &after[2..];
            }
            Some(_) => {
                // Hexadecimal digits compare without case.
                decoded.push(byte);
                decoded.extend(after[..2].iter().map(u8::to_ascii_uppercase));
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}

/// RFC 3261 section 19.1.4: an escape equals its character unless that is a reserved one.
fn canonical(text: &str) -> Vec<u8> {
    decode(text, |octet| !b";/?:@&=+$,%".contains(&octet))
}

fn same_text(one: Option<&str>, other: Option<&str>) -> bool {
    one.map(canonical) == other.map(canonical)
}

fn same_params(one: &Params, other: &Params) -> bool {
    // These never match their absence; any other parameter that only one URI has is ignored.
    const STRICT: [&str; 5] = ["maddr", "method", "transport", "ttl", "user"];
    let lower = |text: &str| canonical(text).to_ascii_lowercase();
    let find = |params: &Params, name: &[u8]| -> Option<Option<Vec<u8>>> {
        params
            .iter()
            .find(|(n, _)| lower(n) == name)
            .map(|(_, value)| value.map(lower))
    };
    let names = one.iter().chain(other.iter()).map(|(name, _)| lower(name));
    names
        .into_iter()
        .all(|name| match (find(one, &name), find(other, &name)) {
            (Some(one), Some(other)) => one == other,
            _ => !STRICT.iter().any(|strict| strict.as_bytes() == name),
        })
}

fn same_headers(one: Option<&str>, other: Option<&str>) -> bool {
    let sorted = |headers: Option<&str>| {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = headers
            .into_iter()
            .flat_map(|headers| headers.split('&'))
            .map(|field| field.split_once('=').unwrap_or((field, "")))
            .map(|(name, value)| (canonical(name).to_ascii_lowercase(), canonical(value)))
            .collect();
        fields.sort();
        fields
    };
    sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equivalent(one: &str, other: &str) -> bool {
        let (one, other): (SipUri, SipUri) = (one.parse().unwrap(), other.parse().unwrap());
        let found = one.is_equivalent(&other);
        assert_eq!(found, other.is_equivalent(&one), "equivalence has no direction");
        found
    }

    #[test]
    fn the_rfcs_equivalent_uris_are_equivalent() {
        for (one, other) in [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtLanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:carol@chicago.com;newparam=5",
                "sip:carol@chicago.com;security=on",
            ),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(equivalent(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_rfcs_different_uris_are_different() {
        for (one, other) in [
            (
                "SIP:ALICE@AtLanTa.CoM;Transport=udp",
                "sip:alice@AtLanTa.CoM;Transport=UDP",
            ),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            (
                "sip:carol@chicago.com",
                "sip:carol@chicago.com?Subject=next%20meeting",
            ),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ] {
            assert!(!equivalent(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_parameter_of_both_must_match_and_reserved_characters_differ_from_their_escapes() {
        // RFC 3261's note: equivalence is not transitive.
        assert!(!equivalent(
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off"
        ));
        assert!(!equivalent("sips:a@h", "sip:a@h"));
        assert!(!equivalent("sip:a@h;maddr=192.0.2.1", "sip:a@h"));
        assert!(!equivalent("sip:a%2Bb@h", "sip:a+b@h"));
        assert!(equivalent("sip:a%2bb@h", "sip:a%2Bb@h"));
        assert!(!equivalent("sip:a:x@h", "sip:a:X@h"));
        assert!(!equivalent("sip:a@h;lr", "sip:a@h;lr=on"));
    }
}

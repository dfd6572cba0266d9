//! What a stack must be able to do to read a message.

use siprtc_core::sip::{Contacts, Feature, Host, Method, NameAddr, SipRequest, Uri};
use std::collections::BTreeSet;

/// The features without which `request`, which was read from `octets`, cannot be delivered as it is.
pub fn needs(octets: &[u8], request: &SipRequest) -> BTreeSet<Feature> {
    let headers = &request.headers;
    let mut addresses: Vec<NameAddr> = [headers.from(), headers.to()].into_iter().flatten().collect();
    // Bindings are read by a registrar, not by a stack.
    let makes_dialog = request.method != Method::Register;
    if let Ok(Contacts::List(contacts)) = headers.contacts()
        && makes_dialog
    {
        addresses.extend(contacts);
    }
    let uris = || addresses.iter().map(|address| &address.uri).chain([&request.uri]);
    let sip = || uris().filter_map(Uri::as_sip);
    let hosts = || {
        let vias = headers.vias().unwrap_or_default().into_iter().map(|via| via.host);
        sip().map(|uri| uri.host.clone()).chain(vias)
    };
    let head = head(octets);
    let all = [
        (
            Feature::CompactNames,
            headers.iter().any(|(name, _)| name.as_str() != name.canonical()),
        ),
        (
            Feature::ContactParameters,
            makes_dialog && contact_parameters(request),
        ),
        (Feature::EscapedNul, head.contains(&0)),
        (
            Feature::EscapedUsers,
            sip().any(|uri| {
                uri.user
                    .as_deref()
                    .is_some_and(|user| user.contains([';', '%', '?']))
            }),
        ),
        (
            Feature::FoldedLines,
            head.windows(2)
                .any(|two| two[0] == b'\n' && matches!(two[1], b' ' | b'\t')),
        ),
        (
            Feature::Ipv6,
            hosts().any(|host| matches!(host, Host::Ip(ip) if ip.is_ipv6())),
        ),
        (Feature::NonUtf8, std::str::from_utf8(head).is_err()),
        (
            Feature::OtherSchemes,
            uris().any(|uri| matches!(uri, Uri::Other(_))),
        ),
        (
            Feature::QuotedNames,
            fields(request, &["From", "To", "Contact"]).any(|value| value.starts_with('"')),
        ),
        (Feature::Rfc2543, of_rfc_2543(request)),
        (Feature::SeveralValues, several_values(request)),
        (
            Feature::UnknownMethods,
            matches!(request.method, Method::Other(_)),
        ),
        (Feature::UriHeaders, sip().any(|uri| uri.headers.is_some())),
        (Feature::WhiteSpace, white_space(request)),
    ];
    all.into_iter()
        .filter_map(|(feature, needed)| needed.then_some(feature))
        .collect()
}

/// Up to the empty line.
fn head(octets: &[u8]) -> &[u8] {
    let end = octets.windows(2).position(|two| two == b"\n\r" || two == b"\n\n");
    &octets[..end.unwrap_or(octets.len())]
}

fn fields<'a>(request: &'a SipRequest, names: &'static [&'static str]) -> impl Iterator<Item = &'a str> {
    names.iter().flat_map(|name| request.headers.values(name))
}

/// A quote behind the address: `+sip.instance="<urn:uuid:...>"`.
fn contact_parameters(request: &SipRequest) -> bool {
    fields(request, &["Contact"]).any(|value| {
        value
            .split_once('>')
            .is_some_and(|(_, params)| params.contains('"'))
    })
}

/// RFC 3261 section 8.1.1.7: who knows that RFC says so with the start of its branch, and gives From a tag.
fn of_rfc_2543(request: &SipRequest) -> bool {
    let via = request.headers.top_via();
    let cookie = via.is_ok_and(|via| via.branch().is_some_and(|branch| branch.starts_with("z9hG4bK")));
    let tag = request.headers.from().is_ok_and(|from| from.tag().is_some());
    !cookie || !tag
}

fn several_values(request: &SipRequest) -> bool {
    ["Contact", "Record-Route", "Route", "Via"]
        .into_iter()
        .any(|name| request.headers.items(name).len() > request.headers.values(name).count())
}

/// Around a slash, a semicolon or an equals sign, outside of quotes.
fn white_space(request: &SipRequest) -> bool {
    fields(request, &["Contact", "CSeq", "From", "To", "Via"]).any(|value| {
        let bare: String = value.split('"').step_by(2).collect();
        ["/", ";", "="]
            .iter()
            .any(|mark| bare.contains(&format!(" {mark}")) || bare.contains(&format!("{mark} ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::corpus_files;
    use siprtc_core::sip::{Limits, SipMessage};

    #[test]
    fn what_a_torture_message_needs_is_seen() {
        let of = |wanted: &str| {
            let files = corpus_files("rfc4475");
            let (_, octets) = files.iter().find(|(name, _)| name == wanted).unwrap();
            match SipMessage::parse(&octets.clone().into(), &Limits::default()).unwrap() {
                SipMessage::Request(request) => needs(octets, &request),
                SipMessage::Response(_) => panic!("{wanted} is a response"),
            }
        };
        use Feature::*;
        for (name, features) in [
            ("lwsdisp.dat", &[CompactNames][..]),
            (
                "wsinv.dat",
                &[
                    CompactNames,
                    FoldedLines,
                    QuotedNames,
                    Rfc2543,
                    SeveralValues,
                    WhiteSpace,
                ],
            ),
            ("unkscm.dat", &[OtherSchemes]),
            ("esc02.dat", &[CompactNames, QuotedNames, UnknownMethods]),
            ("semiuri.dat", &[CompactNames, EscapedUsers, FoldedLines]),
            ("regescrt.dat", &[CompactNames]),
            ("transports.dat", &[CompactNames]),
            ("inv2543.dat", &[Rfc2543]),
        ] {
            assert_eq!(of(name), features.iter().copied().collect(), "{name}");
        }
    }
}

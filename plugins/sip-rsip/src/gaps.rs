//! What rsip's parser cannot read. A message with one of these in it is answered 400, or dropped when it is an answer.

use siprtc_core::sip::{Feature, Gap};

pub(crate) const GAPS: &[Gap] = &[
    Gap {
        feature: Feature::ContactParameters,
        why: "rsip takes a parameter's value for a token: a Contact with a quoted one makes no dialog",
    },
    Gap {
        feature: Feature::EscapedUsers,
        why: "rsip takes a user part with a dot in it for a host: with a ; or : behind the dot it cannot read the URI",
    },
    Gap {
        feature: Feature::Ipv6,
        why: "rsip ends a host at its first colon, in a URI as in a Via",
    },
    Gap {
        feature: Feature::NonUtf8,
        why: "rsip refuses a message with an octet that is no UTF-8 in any header field",
    },
    Gap {
        feature: Feature::OtherSchemes,
        why: "rsip finds a scheme other than sip and sips only before ://, and takes what follows tel: for a port",
    },
    Gap {
        feature: Feature::QuotedNames,
        why: "rsip takes the first < of From, To and Contact for the address's, even within a quoted display name",
    },
    Gap {
        feature: Feature::SeveralValues,
        why: "rsip reads one Contact on a line, and no other beside it",
    },
    Gap {
        feature: Feature::UnknownMethods,
        why: "rsip knows the methods of RFC 3261 and of its extensions up to 2012, and no other",
    },
    Gap {
        feature: Feature::UriHeaders,
        why: "rsip takes the header fields of a URI for a part of its host, and a colon in them for its port",
    },
    Gap {
        feature: Feature::WhiteSpace,
        why: "rsip knows no blank around the slashes of a Via, nor before a Contact's semicolon",
    },
];

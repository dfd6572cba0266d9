//! What a stack can do, and what it says that it cannot.

use super::{Keepalive, Transport};
use std::fmt;

/// What a stack can do. Declared truthfully; the conformance suite holds it against what happens: a scenario that needs
/// a [`Feature`] in `gaps` must fail, as declared, and every other one must pass.
#[derive(Clone, Copy, Debug)]
pub struct SipCapability {
    /// Transports that can be listened on and connected with.
    pub transports: &'static [Transport],
    /// Keepalives that can be sent.
    pub keepalives: &'static [Keepalive],
    /// What every SIP stack should do and this one does not.
    pub gaps: &'static [Gap],
}

impl SipCapability {
    /// The gap, if `feature` is one.
    pub fn gap(&self, feature: Feature) -> Option<&'static Gap> {
        self.gaps.iter().find(|gap| gap.feature == feature)
    }

    /// Whether `transport` can be listened on and connected with.
    pub fn speaks(&self, transport: Transport) -> bool {
        self.transports.contains(&transport)
    }
}

/// Something that a stack does not do, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// What.
    pub feature: Feature,
    /// One sentence: what happens instead, and whose defect it is.
    pub why: &'static str,
}

/// What RFC 3261 and its updates ask of every stack, as far as the libraries differ in it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Feature {
    /// This host's addresses may change: a listener on every address leaves, in each datagram and each new connection, from
    /// the one that the system's routes choose then, its Via says which, and
    /// [`SipStack::addresses_changed`](super::SipStack) does what it says. Without it a listener is bound to one address.
    AddressChanges,
    /// A request that cannot be parsed is answered 400 when enough of it is readable; else it is only reported.
    AnswersMalformed,
    /// Compact header field names (RFC 3261 section 7.3.3).
    CompactNames,
    /// Beyond [`StackConfig::max_connections`](super::StackConfig) a connection that comes in is closed at once.
    ConnectionLimit,
    /// Contact parameters such as `+sip.instance="<urn:uuid:...>"` (RFC 5626).
    ContactParameters,
    /// A NUL that is escaped in a display name (RFC 3261 section 25.1; RFC 4475 section 3.1.1.2 sends one).
    EscapedNul,
    /// A user part with `;`, `%`, `?` or an escaped octet in it (RFC 3261 section 19.1.2).
    EscapedUsers,
    /// [`Route::fresh`](super::Route) and [`SipStack::close_flow`](super::SipStack): flows of one's own (RFC 5626).
    FlowControl,
    /// Header fields folded over several lines (RFC 3261 section 7.3.1).
    FoldedLines,
    /// Header fields arrive in the order in which they were sent, whatever their names.
    HeaderOrder,
    /// IPv6 addresses to bind, to connect with and in URIs.
    Ipv6,
    /// The answer to every keepalive that it sends is told ([`StackEvent::KeepaliveAnswered`](super::StackEvent)).
    KeepaliveAnswers,
    /// Octets that are no UTF-8, in a header field that nobody needs to read.
    NonUtf8,
    /// A connection that comes in and never finishes its TLS or WebSocket handshake keeps no other one waiting.
    OpenHandshakes,
    /// URIs of other schemes than sip and sips: in a Request-URI they reach the user, who answers 416 (RFC 3261 section
    /// 8.2.2.1); in From, To and Contact they harm nothing.
    OtherSchemes,
    /// Display names with quotes, commas and escapes in them (RFC 3261 section 25.1).
    QuotedNames,
    /// Requests of RFC 2543: without a tag in From, and with a branch of another making (RFC 3261 section 17.2.3).
    Rfc2543,
    /// Several values of a header field on one line (RFC 3261 section 7.3.1).
    SeveralValues,
    /// STUN Binding requests on a UDP listener get a response of RFC 5389 (RFC 5626 section 4.4.2).
    StunAnswers,
    /// Methods outside the known set pass through (RFC 3261 section 8.2.1).
    UnknownMethods,
    /// Header fields in the URI of a Contact (RFC 3261 section 19.1.1): `<sip:a@b?Route=%3Csip:c%3E>`.
    UriHeaders,
    /// White space around the separators inside a header field (RFC 3261 section 25.1): `SIP / 2.0 / UDP`.
    WhiteSpace,
}

impl Feature {
    /// In a table: `unknown methods`.
    pub fn as_str(self) -> &'static str {
        match self {
            Feature::AddressChanges => "changes of address",
            Feature::AnswersMalformed => "answers malformed requests",
            Feature::CompactNames => "compact names",
            Feature::ConnectionLimit => "connection limit",
            Feature::ContactParameters => "Contact parameters",
            Feature::EscapedNul => "an escaped NUL",
            Feature::EscapedUsers => "escaped users",
            Feature::FlowControl => "flow control",
            Feature::FoldedLines => "folded lines",
            Feature::HeaderOrder => "header order",
            Feature::Ipv6 => "IPv6",
            Feature::KeepaliveAnswers => "answers to keepalives",
            Feature::NonUtf8 => "octets that are no UTF-8",
            Feature::OpenHandshakes => "open handshakes",
            Feature::OtherSchemes => "other URI schemes",
            Feature::QuotedNames => "quoted display names",
            Feature::Rfc2543 => "RFC 2543",
            Feature::SeveralValues => "several values on a line",
            Feature::StunAnswers => "answers to STUN",
            Feature::UnknownMethods => "unknown methods",
            Feature::UriHeaders => "header fields in a URI",
            Feature::WhiteSpace => "white space around separators",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

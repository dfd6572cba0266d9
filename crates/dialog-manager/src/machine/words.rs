//! Header values and answers that several states need.

use super::Scope;
use super::prack::RELIABLE;
use super::refresh::TIMER;
use crate::control::Reliability;
use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse};
use siprtc_core::{Error, Fault};

/// The methods handled within a dialog.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE, PRACK";
/// And where others may subscribe.
const ALLOW_AND_NOTIFY: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE, PRACK, SUBSCRIBE";
/// The one body that is understood.
pub(super) const SDP: &str = "application/sdp";
/// The option-tag and the Info Package of trickle ICE (RFC 8840 section 10).
pub(super) const TRICKLE_ICE: &str = "trickle-ice";
/// The body of its INFOs.
pub(super) const SDPFRAG: &str = "application/trickle-ice-sdpfrag";
/// Longest wait that a 500 asks of a second INVITE, in seconds (RFC 3261 section 14.2).
const MAX_RETRY_AFTER: u64 = 10;

pub(super) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message)
}

/// A stack's error without its advice, for a sentence.
pub(super) fn told(error: &Error) -> String {
    error.to_string()
}

/// What we say that we can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    trickle_ice: bool,
    timer: bool,
    reliable: bool,
    notifies: bool,
}

/// The option-tag of RFC 3891.
pub(super) const REPLACES: &str = "replaces";
/// And of RFC 3911.
const JOIN: &str = "join";
/// The option-tag of RFC 4488; understood, and not worth its octets in every INVITE.
const NO_REFER_SUB: &str = "norefersub";
/// The option-tag of RFC 7614 for a REFER without a subscription; likewise.
pub(super) const NO_SUB: &str = "nosub";

impl Scope {
    pub(super) fn abilities(&self) -> Abilities {
        Abilities {
            trickle_ice: self.config.trickle_ice,
            timer: self.config.session_timer.is_some(),
            reliable: self.config.control.reliability != Reliability::Off,
            notifies: !self.config.control.notifies.is_empty(),
        }
    }
}

impl Abilities {
    /// Extensions (option-tags) that are understood. The header field says so (RFC 3261 section 20.37).
    pub(super) fn supported(self) -> Vec<&'static str> {
        let optional = [
            (self.reliable, RELIABLE),
            (self.timer, TIMER),
            (self.trickle_ice, TRICKLE_ICE),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(is_on, tag)| is_on.then_some(tag));
        [REPLACES, JOIN].into_iter().chain(optional).collect()
    }

    fn understands(self, tag: &str) -> bool {
        let mut known = self.supported().into_iter().chain([NO_REFER_SUB, NO_SUB]);
        known.any(|known| known.eq_ignore_ascii_case(tag))
    }

    /// The methods.
    pub(super) fn allow(self) -> &'static str {
        if self.notifies { ALLOW_AND_NOTIFY } else { ALLOW }
    }

    /// The Info Packages that we take.
    pub(super) fn packages(self) -> &'static [&'static str] {
        if self.trickle_ice { &[TRICKLE_ICE] } else { &[] }
    }

    /// For an INVITE.
    pub(super) fn push(self, headers: &mut Headers) {
        headers.push("Allow", self.allow());
        self.push_extensions(headers);
        if !self.packages().is_empty() {
            headers.push("Recv-Info", self.packages().join(", "));
        }
    }

    /// For a 2xx to an INVITE or UPDATE.
    pub(super) fn push_answering(self, request: &SipRequest, headers: &mut Headers) {
        headers.push("Allow", self.allow());
        self.push_early(request, headers);
    }

    /// For an 18x: what lets the caller trickle. Recv-Info answers Recv-Info (RFC 6086 section 5.2.2).
    pub(super) fn push_early(self, request: &SipRequest, headers: &mut Headers) {
        self.push_extensions(headers);
        if !self.packages().is_empty() && request.headers.contains("Recv-Info") {
            headers.push("Recv-Info", self.packages().join(", "));
        }
    }

    pub(super) fn push_extensions(self, headers: &mut Headers) {
        headers.push("Supported", self.supported().join(", "));
    }
}

/// A message's session description.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Description {
    Absent,
    Sdp(String),
    /// A body that we do not understand.
    Foreign,
}

impl Description {
    pub(super) fn of(headers: &Headers, body: &[u8]) -> Self {
        if body.is_empty() {
            return Description::Absent;
        }
        let plain = headers
            .value("Content-Encoding")
            .is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        let is_sdp = plain && headers.content_type().as_deref() == Some(SDP);
        match is_optional(headers) {
            // Names may be in another character set (`a=charset`, RFC 8866 section 6.10): what counts is ASCII.
            _ if is_sdp => Description::Sdp(String::from_utf8_lossy(body).into_owned()),
            true => Description::Absent,
            false => Description::Foreign,
        }
    }

    pub(super) fn sdp(self) -> Option<String> {
        match self {
            Description::Sdp(sdp) => Some(sdp),
            Description::Absent | Description::Foreign => None,
        }
    }
}

/// The SDP of a response, if it has one.
pub(super) fn sdp_of(response: &SipResponse) -> Option<String> {
    Description::of(&response.headers, &response.body).sdp()
}

/// RFC 3261 section 20.11: a body that need not be understood.
fn is_optional(headers: &Headers) -> bool {
    headers.value("Content-Disposition").is_some_and(|value| {
        value
            .split(';')
            .skip(1)
            .any(|param| param.replace(' ', "").eq_ignore_ascii_case("handling=optional"))
    })
}

/// What is wrong with a request before anybody looks at its meaning (RFC 3261 section 8.2).
pub(super) fn objection(abilities: Abilities, request: &SipRequest) -> Option<SipResponse> {
    // RFC 3261 section 8.2.2.1.
    if request.uri.as_sip().is_none() {
        return Some(request.response(416));
    }
    let unknown: Vec<_> = request
        .headers
        .items("Require")
        .into_iter()
        .filter(|tag| !tag.is_empty())
        .filter(|tag| !abilities.understands(tag))
        .collect();
    if !unknown.is_empty() {
        let mut response = request.response(420);
        response.headers.push("Unsupported", unknown.join(", "));
        return Some(response);
    }
    let with_session = matches!(request.method, Method::Invite | Method::Update);
    if with_session && Description::of(&request.headers, &request.body) == Description::Foreign {
        return Some(unsupported_body(request, SDP));
    }
    // RFC 3261 section 21.4.7: an answer of ours has a description.
    if request.method == Method::Invite && !accepts_sdp(&request.headers) {
        return Some(request.response(406));
    }
    None
}

/// Whether the peer can read our descriptions; who sends no Accept can (RFC 3261 section 20.1).
fn accepts_sdp(headers: &Headers) -> bool {
    let range = |item: &str| {
        item.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    };
    !headers.contains("Accept")
        || headers
            .items("Accept")
            .into_iter()
            .any(|item| [SDP, "application/*", "*/*"].contains(&range(item).as_str()))
}

pub(super) fn unsupported_body(request: &SipRequest, wanted: &str) -> SipResponse {
    let mut response = request.response(415);
    response.headers.push("Accept", wanted);
    // RFC 3261 section 8.2.3: say what was wrong, the type or its encoding.
    if request.headers.contains("Content-Encoding") {
        response.headers.push("Accept-Encoding", "identity");
    }
    response
}

/// A 200 to OPTIONS: what an INVITE would find (RFC 3261 section 11.2).
pub(super) fn answer_to_options(abilities: Abilities, request: &SipRequest) -> SipResponse {
    let mut response = request.response(200);
    response.headers.push("Allow", abilities.allow());
    response.headers.push("Accept", SDP);
    response
        .headers
        .push("Supported", abilities.supported().join(", "));
    response
}

/// A method that we do not handle: known ones are not allowed (405), others not implemented (501).
pub(super) fn not_allowed(abilities: Abilities, request: &SipRequest) -> SipResponse {
    let mut response = request.response(if matches!(request.method, Method::Other(_)) {
        501
    } else {
        405
    });
    response.headers.push("Allow", abilities.allow());
    response
}

/// 500 with a random Retry-After (RFC 3261 section 14.2).
pub(super) fn busy_dialog(scope: &mut Scope, request: &SipRequest) -> SipResponse {
    let mut response = request.response(500);
    response
        .headers
        .push("Retry-After", scope.pick(0..=MAX_RETRY_AFTER));
    response
}

pub(super) fn push_all(headers: &mut Headers, more: &Headers) {
    for (name, value) in more.iter() {
        headers.push(name.clone(), value);
    }
}

/// Those of `more` whose names are not there yet.
pub(super) fn push_missing(headers: &mut Headers, more: &Headers) {
    let missing: Vec<_> = more
        .iter()
        .filter(|(name, _)| !headers.contains(name.as_str()))
        .collect();
    for (name, value) in missing {
        headers.push(name.clone(), value);
    }
}

/// Header fields that are ours to write.
const OWN: [&str; 23] = [
    "Allow",
    "Authorization",
    "CSeq",
    "Call-ID",
    "Contact",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "From",
    "Info-Package",
    "Min-SE",
    "Max-Forwards",
    "Proxy-Authorization",
    "Record-Route",
    "Recv-Info",
    "Require",
    "Route",
    "Session-Expires",
    "Supported",
    "To",
    "Unsupported",
    "Via",
];

pub(super) fn check_headers(operation: &'static str, headers: &Headers) -> Result<(), Error> {
    for (name, value) in headers.iter() {
        if OWN.iter().any(|own| name.is(own)) {
            return Err(misuse(
                operation,
                format!("the header field {name} is the dialog manager's to write"),
            )
            .advice("leave it out"));
        }
        if !is_one_line(name.as_str()) || !is_one_line(value) {
            return Err(
                misuse(operation, format!("the header field {name:?} has a line break"))
                    .advice("give each header field as one line"),
            );
        }
    }
    Ok(())
}

/// RFC 3261 section 25.1.
pub(super) fn is_token(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_fine)
}

/// Text for a header field: a line break in it would become another header field.
pub(super) fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

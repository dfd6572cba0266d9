//! Our words to rsipstack's and back, header field by header field: nothing is printed to be parsed again.

use rsipstack::sip::{self as rs, Header};
use siprtc_core::sip::{HeaderName, Headers, Method, NameAddr, SipRequest, SipResponse};
use siprtc_core::{Error, Fault, Result};
use std::borrow::Cow;

/// RFC 3261 section 8.1.1.6.
const MAX_FORWARDS: u8 = 70;

/// Completes and checks what a user hands in, before it gets a Via.
pub(crate) fn complete(request: &mut SipRequest, user_agent: &str, operation: &'static str) -> Result<()> {
    if !request.headers.contains("Max-Forwards") {
        request.headers.push("Max-Forwards", MAX_FORWARDS);
    }
    if !user_agent.is_empty() && !request.headers.contains("User-Agent") {
        request.headers.push("User-Agent", user_agent);
    }
    check_lines(&request.headers, operation)?;
    check_text(&request.uri.to_string(), "the Request-URI", operation)?;
    let readable = |error: Error| {
        misuse(
            operation,
            "the request lacks what every request has (RFC 3261 section 8.1.1)",
        )
        .caused_by(error)
        .advice("set From with a tag, To, Call-ID and CSeq")
    };
    request.headers.from().map_err(readable)?;
    request.headers.to().map_err(readable)?;
    request.headers.call_id().map_err(readable)?;
    let cseq = request.headers.cseq().map_err(readable)?;
    if cseq.method != request.method {
        let message = format!("CSeq says {}, the request {}", cseq.method, request.method);
        return Err(misuse(operation, message).advice("write the request's method into CSeq"));
    }
    Ok(())
}

/// An answer in rsipstack's words, with what the port promises of every answer: identity from the request, To when
/// absent, our name. `tag` is for a To that has none.
pub(crate) fn to_response(
    identity: &Headers,
    response: &SipResponse,
    user_agent: &str,
    tag: Option<&str>,
    operation: &'static str,
) -> Result<rs::Response> {
    check_lines(&response.headers, operation)?;
    check_text(&response.reason, "the reason phrase", operation)?;
    let mut headers = Vec::with_capacity(response.headers.len() + 4);
    let to = response
        .headers
        .value("To")
        .or(identity.value("To"))
        .unwrap_or_default();
    for (name, value) in identity.iter() {
        headers.push(match name.is("To") {
            true => Header::To(tagged(to, tag).into_owned().into()),
            false => to_header(name, value),
        });
    }
    let mut named = user_agent.is_empty();
    for (name, value) in response.headers.iter() {
        if !name.is("Content-Length") && !is_identity(name) {
            named |= name.is("Server");
            headers.push(Header::Other(name.as_str().to_owned(), value.to_owned()));
        }
    }
    if !named {
        headers.push(Header::Server(user_agent.into()));
    }
    headers.push(Header::ContentLength(response.body.len().to_string().into()));
    Ok(rs::Response {
        status_code: status_code(response.status, &response.reason),
        wire_reason: None,
        version: rs::Version::V2,
        headers: headers.into(),
        body: response.body.to_vec(),
    })
}

fn tagged<'a>(to: &'a str, tag: Option<&str>) -> Cow<'a, str> {
    match (tag, to.parse::<NameAddr>()) {
        (Some(tag), Ok(parsed)) if parsed.tag().is_none() => parsed.with_tag(tag).to_string().into(),
        _ => to.into(),
    }
}

/// The part of a request that its answers are made from.
pub(crate) fn identity(request: &SipRequest) -> Headers {
    let mut identity = Headers::new();
    for (name, value) in request.headers.iter().filter(|(name, _)| is_identity(name)) {
        identity.push(name.clone(), value);
    }
    identity
}

/// What every answer takes from its request (RFC 3261 section 8.2.6.2).
fn is_identity(name: &HeaderName) -> bool {
    ["Via", "From", "To", "Call-ID", "CSeq"]
        .iter()
        .any(|own| name.is(own))
}

/// The request in rsipstack's words, with `via` on top. `None` when rsipstack has no word for its method.
///
/// Content-Length is rsipstack's to add.
pub(crate) fn to_request(request: &SipRequest, via: &str) -> Option<rs::Request> {
    let mut headers = Vec::with_capacity(request.headers.len() + 2);
    headers.push(Header::Via(via.into()));
    push_all(&mut headers, &request.headers);
    Some(rs::Request {
        method: to_method(&request.method)?,
        uri: opaque(request.uri.to_string()),
        version: rs::Version::V2,
        headers: headers.into(),
        body: request.body.to_vec(),
    })
}

/// `Other` for a reason phrase of one's own: rsipstack writes the standard one for a status that it knows.
pub(crate) fn status_code(status: u16, reason: &str) -> rs::StatusCode {
    let known = rs::StatusCode::from(status);
    match known {
        known if known.text() == reason => known,
        _ => rs::StatusCode::Other(status, reason.to_owned()),
    }
}

/// rsipstack's header fields as ours, with the `names` that were written: rsipstack writes compact ones out, and knows
/// one spelling of each.
pub(crate) fn from_headers(headers: &rs::Headers, names: Vec<&str>) -> Headers {
    let mut ours = Headers::new();
    let alike = headers.iter().count() == names.len();
    for (number, header) in headers.iter().enumerate() {
        match names.get(number).filter(|_| alike) {
            Some(name) => ours.push(*name, header.value().trim()),
            None => ours.push(header.name(), header.value().trim()),
        }
    }
    ours
}

pub(crate) fn to_method(method: &Method) -> Option<rs::Method> {
    Some(match method {
        Method::Ack => rs::Method::Ack,
        Method::Bye => rs::Method::Bye,
        Method::Cancel => rs::Method::Cancel,
        Method::Info => rs::Method::Info,
        Method::Invite => rs::Method::Invite,
        Method::Message => rs::Method::Message,
        Method::Notify => rs::Method::Notify,
        Method::Options => rs::Method::Options,
        Method::Other(_) => return None,
        Method::Prack => rs::Method::PRack,
        Method::Publish => rs::Method::Publish,
        Method::Refer => rs::Method::Refer,
        Method::Register => rs::Method::Register,
        Method::Subscribe => rs::Method::Subscribe,
        Method::Update => rs::Method::Update,
    })
}

/// rsipstack would resolve a user part's escapes and write others: the URI travels as one opaque host name.
fn opaque(uri: String) -> rs::Uri {
    rs::Uri {
        host_with_port: rs::Domain::from(uri).into(),
        ..rs::Uri::default()
    }
}

fn push_all(headers: &mut Vec<Header>, from: &Headers) {
    headers.extend(
        from.iter()
            .filter(|(name, _)| !name.is("Content-Length"))
            .map(|(name, value)| to_header(name, value)),
    );
}

/// A word of its own only for what rsipstack reads; every other name stays as it is written.
fn to_header(name: &HeaderName, value: &str) -> Header {
    let is = |known| name.is(known);
    match () {
        () if is("Via") => Header::Via(value.into()),
        () if is("From") => Header::From(value.into()),
        () if is("To") => Header::To(value.into()),
        () if is("Call-ID") => Header::CallId(value.into()),
        () if is("CSeq") => Header::CSeq(value.into()),
        () if is("Route") => Header::Route(value.into()),
        () => Header::Other(name.as_str().to_owned(), value.to_owned()),
    }
}

/// A line break in a header field would let a value write header fields of its own.
pub(crate) fn check_lines(headers: &Headers, operation: &'static str) -> Result<()> {
    for (name, value) in headers.iter() {
        let token = |octet: u8| octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet);
        if name.as_str().is_empty() || !name.as_str().bytes().all(token) {
            let message = format!("{:?} is no header field's name", name.as_str());
            return Err(misuse(operation, message).advice("a name is a token (RFC 3261 section 25.1)"));
        }
        check_text(value, name.as_str(), operation)?;
    }
    Ok(())
}

fn check_text(text: &str, what: &str, operation: &'static str) -> Result<()> {
    let odd = text
        .bytes()
        .fold(false, |odd, octet| odd | matches!(octet, b'\r' | b'\n' | 0));
    if odd {
        return Err(misuse(operation, format!("{what} contains a line break"))
            .advice("check what a user or a peer wrote before it goes into a message"));
    }
    Ok(())
}

pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message).backend(crate::NAME)
}

pub(crate) fn backend(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::Backend, operation, message).backend(crate::NAME)
}

pub(crate) fn unsupported(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::Unsupported, operation, message).backend(crate::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::Uri;

    fn request(uri: &str) -> SipRequest {
        let mut request = SipRequest::new(Method::Message, uri.parse::<Uri>().unwrap());
        for (name, value) in [
            ("From", "\"A, \\\"B\\\"\" <sip:a%20b@example.com>;tag=1"),
            ("x-Case", "kept"),
            ("Via", "SIP/2.0/UDP lower;branch=z9hG4bK1"),
            ("To", "<sip:c@example.com>"),
            ("Call-ID", "1@host"),
            ("CSeq", "1 MESSAGE"),
            ("Content-Length", "99"),
            ("Subject", "caf\u{e9}"),
        ] {
            request.headers.push(name, value);
        }
        request
    }

    #[test]
    fn what_rsipstack_prints_is_what_was_meant() {
        for uri in [
            "sip:a%20b;x=%3a@example.com;transport=tcp?x=y",
            "urn:service:sos",
            "tel:+1-201-555-0123;phone-context=example.com",
            "sips:[2001:db8::1]:5061",
        ] {
            let printed = to_request(&request(uri), "SIP/2.0/UDP top;branch=z9hG4bK2")
                .unwrap()
                .to_string();
            let fields: Vec<&str> = printed.split("\r\n").collect();
            let start = format!("MESSAGE {uri} SIP/2.0");
            let expected = [
                start.as_str(),
                "Via: SIP/2.0/UDP top;branch=z9hG4bK2",
                "From: \"A, \\\"B\\\"\" <sip:a%20b@example.com>;tag=1",
                "x-Case: kept",
                "Via: SIP/2.0/UDP lower;branch=z9hG4bK1",
                "To: <sip:c@example.com>",
                "Call-ID: 1@host",
                "CSeq: 1 MESSAGE",
                "Subject: caf\u{e9}",
                "",
                "",
            ];
            assert_eq!(fields, expected);
        }
    }

    #[test]
    fn a_reason_phrase_of_ones_own_is_printed() {
        for (status, reason) in [
            (200, "OK"),
            (403, "Not today"),
            (499, "Odd"),
            (404, ""),
            (603, "Decline"),
        ] {
            let mut response = SipResponse::new(status);
            response.reason = reason.to_owned();
            let printed = to_response(&Headers::new(), &response, "", None, "test")
                .unwrap()
                .to_string();
            assert!(
                printed.starts_with(&format!("SIP/2.0 {status} {reason}\r\n")),
                "{printed}"
            );
        }
    }

    #[test]
    fn a_name_that_is_no_token_never_leaves() {
        let mut headers = Headers::new();
        headers.push("X Evil: yes", "1");
        assert!(check_lines(&headers, "test").is_err());
    }

    #[test]
    fn a_method_without_a_word_of_its_own_is_none() {
        let mut odd = request("sip:a@b");
        odd.method = Method::Other("ODD".to_owned());
        assert!(to_request(&odd, "v").is_none());
    }
}

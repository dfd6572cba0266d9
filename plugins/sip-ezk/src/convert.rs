//! Our words to ezk's, so that ezk prints exactly what we mean.
//!
//! The way back needs no conversion: ezk hands out the octets of every message, and our own parser reads them, which
//! keeps the order and the spelling of header fields.

use ezk_sip_core::Request;
use ezk_sip_types::host::HostPort;
use ezk_sip_types::uri::SipUri as EzkUri;
use ezk_sip_types::{Method as EzkMethod, Name};
use siprtc_core::sip::{Headers, SipRequest, SipResponse, Uri};
use siprtc_core::{Error, Fault, Result};

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
        Error::new(
            Fault::ApiMisuse,
            operation,
            "the request lacks what every request has (RFC 3261 section 8.1.1)",
        )
        .caused_by(error)
        .advice("set From, To, Call-ID and CSeq")
        .backend(crate::NAME)
    };
    request.headers.from().map_err(readable)?;
    request.headers.to().map_err(readable)?;
    request.headers.call_id().map_err(readable)?;
    let cseq = request.headers.cseq().map_err(readable)?;
    if cseq.method != request.method {
        return Err(misuse(
            operation,
            format!("CSeq says {}, the request {}", cseq.method, request.method),
        )
        .advice("write the request's method into CSeq"));
    }
    Ok(())
}

/// The request in ezk's words; ezk puts its Via before it.
pub(crate) fn to_ezk(request: &SipRequest, operation: &'static str) -> Result<Request> {
    let Uri::Sip(_) = &request.uri else {
        return Err(Error::new(
            Fault::Unsupported,
            operation,
            format!("ezk cannot send to {}", request.uri),
        )
        .advice("use a sip: URI; a proxy translates tel: numbers written as sip:number@domain")
        .backend(crate::NAME));
    };
    // ezk would resolve the user part's escapes and write others: the URI travels as one opaque host name.
    let text = request.uri.to_string();
    let rest = text
        .split_once(':')
        .map_or(text.as_str(), |(_, rest)| rest)
        .to_owned();
    let uri = EzkUri::new(HostPort::host_name(rest));
    let mut ezk = Request::new(EzkMethod::from(request.method.as_str()), uri);
    // ezk appends its own Via to those that are there, so a proxy's would be on top. They ride behind Max-Forwards.
    let lower_vias: String = request
        .headers
        .values("Via")
        .map(|via| format!("\r\nVia: {via}"))
        .collect();
    for (name, value) in request.headers.iter() {
        if name.is("Via") || name.is("Content-Length") {
            continue;
        }
        if name.is("Max-Forwards") && !lower_vias.is_empty() {
            ezk.headers
                .insert(Name::MAX_FORWARDS, format!("{value}{lower_vias}"));
            continue;
        }
        ezk.headers
            .insert(Name::from(name.as_str().to_owned()), value.to_owned());
    }
    ezk.body = request.body.clone();
    Ok(ezk)
}

/// What the port promises of every answer: identity from the request, To when absent, our name.
pub(crate) fn complete_response(
    request: &SipRequest,
    response: SipResponse,
    user_agent: &str,
    operation: &'static str,
) -> Result<SipResponse> {
    check_lines(&response.headers, operation)?;
    check_text(&response.reason, "the reason phrase", operation)?;
    let mut headers = Headers::new();
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let theirs = name == "To" && response.headers.contains("To");
        headers.copy_from(
            if theirs {
                &response.headers
            } else {
                &request.headers
            },
            name,
        );
    }
    for (name, value) in response.headers.iter() {
        if !["Via", "From", "To", "Call-ID", "CSeq", "Content-Length"]
            .iter()
            .any(|own| name.is(own))
        {
            headers.push(name.clone(), value);
        }
    }
    if !user_agent.is_empty() && !headers.contains("Server") {
        headers.push("Server", user_agent);
    }
    Ok(SipResponse { headers, ..response })
}

/// The part of a request that its answers are made from.
pub(crate) fn identity(request: &SipRequest) -> SipRequest {
    let mut identity = SipRequest::new(request.method.clone(), request.uri.clone());
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        identity.headers.copy_from(&request.headers, name);
    }
    identity
}

/// A line break in a header field would let a value write header fields of its own.
pub(crate) fn check_lines(headers: &Headers, operation: &'static str) -> Result<()> {
    for (name, value) in headers.iter() {
        check_text(name.as_str(), "a header field's name", operation)?;
        check_text(value, name.as_str(), operation)?;
    }
    Ok(())
}

fn check_text(text: &str, what: &str, operation: &'static str) -> Result<()> {
    if text.contains(['\r', '\n', '\0']) {
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

//! What the port promises of every message, before the library gets it.

use siprtc_core::sip::{Headers, Host, SipRequest, SipResponse, SipUri, Via};
use siprtc_core::{Error, Fault, Result};

/// RFC 3261 section 8.1.1.6.
const MAX_FORWARDS: u8 = 70;

/// What an answer always takes from its request.
const IDENTITY: [&str; 5] = ["Via", "From", "To", "Call-ID", "CSeq"];

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
    for name in IDENTITY {
        let theirs = name == "To" && response.headers.contains("To");
        let from = if theirs {
            &response.headers
        } else {
            &request.headers
        };
        headers.copy_from(from, name);
    }
    for (name, value) in response.headers.iter() {
        if !IDENTITY.iter().any(|own| name.is(own)) && !name.is("Content-Length") {
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
    for name in IDENTITY {
        identity.headers.copy_from(&request.headers, name);
    }
    identity
}

/// What nta needs of a request to run its transaction. Its URI is what nta sees of every request's.
pub(crate) fn for_nta(identity: &SipRequest, request: &SipRequest) -> SipRequest {
    let any = SipUri::new(Host::Name("any.invalid".to_owned()));
    let mut small = SipRequest::new(request.method.clone(), any);
    small.headers = identity.headers.clone();
    // Which it sends back (RFC 3261 section 8.2.6.1).
    small.headers.copy_from(&request.headers, "Timestamp");
    small
}

/// The topmost Via's branch without case, by which a transaction is found.
pub(crate) fn branch_of(via: &Via) -> Option<String> {
    via.branch().map(str::to_ascii_lowercase)
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

/// `prefix` and 128 random bits.
pub(crate) fn token(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message).backend(crate::NAME)
}

pub(crate) fn backend(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::Backend, operation, message).backend(crate::NAME)
}

pub(crate) fn stopped(operation: &'static str) -> Error {
    misuse(operation, "the stack was shut down").advice("start another one")
}

//! What the stack adds to its user's messages, and what it refuses in them.

use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse};
use siprtc_core::{Error, Fault, Result};

/// RFC 3261 section 8.1.1.6.
const MAX_FORWARDS: u8 = 70;

/// Max-Forwards and User-Agent where absent. (The Via follows when the destination is known, Content-Length when it is
/// printed.)
pub(crate) fn request(request: &mut SipRequest, user_agent: &str, operation: &'static str) -> Result<()> {
    if !request.headers.contains("Max-Forwards") {
        request.headers.push("Max-Forwards", MAX_FORWARDS);
    }
    if !user_agent.is_empty() && !request.headers.contains("User-Agent") {
        request.headers.push("User-Agent", user_agent);
    }
    check_headers(&request.headers, operation)?;
    check_text(&request.uri.to_string(), "the Request-URI", operation)?;
    check_text(request.method.as_str(), "the method", operation)?;
    let unreadable = |error: Error| {
        misuse(
            operation,
            "the request lacks what every request has (RFC 3261 section 8.1.1)",
        )
        .caused_by(error)
        .advice("set From, To, Call-ID and CSeq")
    };
    request.headers.from().map_err(unreadable)?;
    request.headers.to().map_err(unreadable)?;
    request.headers.call_id().map_err(unreadable)?;
    let cseq = request.headers.cseq().map_err(unreadable)?;
    if cseq.method != request.method {
        let message = format!("CSeq says {}, the request {}", cseq.method, request.method);
        return Err(misuse(operation, message).advice("write the request's method into CSeq"));
    }
    Ok(())
}

/// Server where absent.
pub(crate) fn response(response: &mut SipResponse, server: &str, operation: &'static str) -> Result<()> {
    if !(100..700).contains(&response.status) {
        return Err(misuse(operation, format!("{} is no status", response.status)).advice("use 100 to 699"));
    }
    check_headers(&response.headers, operation)?;
    check_text(&response.reason, "the reason phrase", operation)?;
    if !server.is_empty() && !response.headers.contains("Server") {
        response.headers.push("Server", server);
    }
    Ok(())
}

/// RFC 3261 section 17: which requests begin a client transaction.
pub(crate) fn begins_transaction(method: &Method, operation: &'static str) -> Result<()> {
    if matches!(method, Method::Ack | Method::Cancel) {
        return Err(
            misuse(operation, format!("{method} begins no transaction")).advice("call send_ack or cancel")
        );
    }
    Ok(())
}

/// A line break in a header field would let a value write header fields of its own.
pub(crate) fn check_headers(headers: &Headers, operation: &'static str) -> Result<()> {
    for (name, value) in headers.iter() {
        check_text(name.as_str(), "a header field's name", operation)?;
        check_text(value, name.as_str(), operation)?;
    }
    Ok(())
}

fn check_text(text: &str, what: &str, operation: &'static str) -> Result<()> {
    let odd = text
        .bytes()
        .fold(false, |odd, octet| odd | matches!(octet, b'\r' | b'\n' | 0));
    if odd && !is_escaped(text) {
        return Err(
            misuse(operation, format!("{what} contains a line break or a NUL"))
                .advice("check what a user or a peer wrote before it goes into a message"),
        );
    }
    Ok(())
}

/// Whether what is odd in it are NULs in quoted-pairs only (RFC 3261 section 25.1): an answer repeats them.
fn is_escaped(text: &str) -> bool {
    let mut escaped = false;
    text.bytes().all(|octet| {
        let fits = match octet {
            b'\r' | b'\n' => false,
            0 => escaped,
            _ => true,
        };
        escaped = octet == b'\\' && !escaped;
        fits
    })
}

pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message)
}

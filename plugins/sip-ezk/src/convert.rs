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
    let Uri::Sip(sip) = &request.uri else {
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
    let uri = EzkUri::new(HostPort::host_name(rest)).sips(sip.secure);
    let mut ezk = Request::new(EzkMethod::from(request.method.as_str()), uri);
    // ezk appends its own Via to those that are there, so a proxy's would be on top. They ride behind Max-Forwards.
    let lower_vias: String = request
        .headers
        .values("Via")
        .map(|via| format!("\r\nVia: {via}"))
        .collect();
    let mut riders = Riders::default();
    for (name, value) in request.headers.iter() {
        if name.is("Via") || name.is("Content-Length") {
            continue;
        }
        let value = match name.is("Max-Forwards") {
            true => format!("{value}{lower_vias}"),
            false => value.to_owned(),
        };
        if READ_BY_EZK.iter().any(|read| name.is(read)) {
            riders.alight(&mut ezk);
            ezk.headers.insert(Name::from(name.as_str().to_owned()), value);
        } else {
            riders.board(&mut ezk, name.as_str(), value);
        }
    }
    riders.alight(&mut ezk);
    ezk.body = request.body.clone();
    Ok(ezk)
}

/// What ezk copies into the ACK of a non-2xx, or needs the value of.
const READ_BY_EZK: [&str; 4] = ["Call-ID", "CSeq", "From", "To"];

/// ezk prints header fields of one name together. So those that it does not read ride one behind the other, in the
/// value of the first; only where such a first one has a name that was there before, the two stand together.
#[derive(Default)]
struct Riders(Option<(Name, String)>);

impl Riders {
    fn board(&mut self, ezk: &mut Request, name: &str, value: String) {
        let first = Name::from(name.to_owned());
        match &mut self.0 {
            Some((_, text)) => {
                text.push_str("\r\n");
                text.push_str(name);
                text.push_str(": ");
                text.push_str(&value);
            }
            None if ezk.headers.contains(&first) => ezk.headers.insert(first, value),
            None => self.0 = Some((first, value)),
        }
    }

    fn alight(&mut self, ezk: &mut Request) {
        if let Some((name, text)) = self.0.take() {
            ezk.headers.insert(name, text);
        }
    }
}

/// What the port promises of every answer, except its identity, which the transaction gives it.
pub(crate) fn complete_response(
    mut response: SipResponse,
    user_agent: &str,
    operation: &'static str,
) -> Result<SipResponse> {
    check_lines(&response.headers, operation)?;
    check_text(&response.reason, "the reason phrase", operation)?;
    if !user_agent.is_empty() && !response.headers.contains("Server") {
        response.headers.push("Server", user_agent);
    }
    Ok(response)
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

/// ezk 0.9 has no WebSocket (RFC 7118), nor anything else beyond UDP, TCP and TLS.
pub(crate) fn no_websocket(transport: &str, operation: &'static str) -> Error {
    Error::new(
        Fault::Unsupported,
        operation,
        format!("ezk does not speak {}", transport.to_ascii_uppercase()),
    )
    .advice("it speaks UDP, TCP and TLS; for WS and WSS choose sip.stack = \"native\" or \"rsipstack\"")
    .backend(crate::NAME)
}

pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message).backend(crate::NAME)
}

pub(crate) fn backend(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::Backend, operation, message).backend(crate::NAME)
}

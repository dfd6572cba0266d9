//! rsip's parser, and the way from its types to ours.

use crate::error::{malformed, unreadable};
use crate::lines::Head;
use bytes::Bytes;
use rsip::headers::UntypedHeader;
use rsip::message::{HasHeaders, HeadersExt};
use rsip::prelude::ToTypedHeader;
use siprtc_core::Result;
use siprtc_core::sip::{Headers, Limits, SipMessage, SipRequest, SipResponse, Uri};

/// Reads one message that fills a datagram: octets past Content-Length are ignored, missing ones an error, and without
/// Content-Length the rest is the body (RFC 3261 section 18.3). Never panics.
pub fn parse(octets: &Bytes, limits: &Limits) -> Result<SipMessage> {
    let head = Head::read(octets, limits)?;
    let message = rsip::SipMessage::try_from(head.octets.as_slice())
        .map_err(|error| unreadable("the message", &error))?;
    check_fields(&message)?;
    let headers = headers(&message, &head)?;
    let body = body(octets, &message, &head)?;
    match message {
        rsip::SipMessage::Request(request) => Ok(SipMessage::Request(SipRequest {
            headers,
            body,
            ..request_line(&request, &head)?
        })),
        rsip::SipMessage::Response(response) => Ok(SipMessage::Response(SipResponse {
            headers,
            body,
            ..status_line(&response, &head)?
        })),
    }
}

/// The header fields without which there is no transaction and no dialog, by rsip's own types.
fn check_fields(message: &rsip::SipMessage) -> Result<()> {
    let read = |name: &str, result: Result<(), rsip::Error>| result.map_err(|error| unreadable(name, &error));
    read("Via", message.via_header().and_then(|via| via.typed()).map(drop))?;
    read(
        "From",
        message.from_header().and_then(|from| from.typed()).map(drop),
    )?;
    read("To", message.to_header().and_then(|to| to.typed()).map(drop))?;
    read("Call-ID", message.call_id_header().map(drop))?;
    let cseq = message.cseq_header().and_then(|cseq| cseq.typed());
    // An ACK's Contact refreshes no target (RFC 3261 section 12.2), and those of a REGISTER and its answer are
    // bindings, not all of them ours: one that cannot be read must not hide the others.
    let no_target = |method| matches!(method, rsip::Method::Ack | rsip::Method::Register);
    let makes_no_dialog = cseq.as_ref().is_ok_and(|cseq| no_target(cseq.method));
    read("CSeq", cseq.map(drop))?;
    for contact in message.contact_headers().into_iter().filter(|_| !makes_no_dialog) {
        read("Contact", contact.typed().map(drop))?;
    }
    Ok(())
}

/// rsip's values under the peer's own names: rsip forgets how a name that it knows was written.
fn headers(message: &rsip::SipMessage, head: &Head) -> Result<Headers> {
    let mut headers = Headers::new();
    let mut names = head.names.iter();
    for header in message.headers().iter() {
        let line = header.to_string();
        let (Some(name), Some((_, value))) = (names.next(), line.split_once(": ")) else {
            return Err(malformed("rsip found a header field where there is none"));
        };
        headers.push(name.clone(), value);
    }
    match names.next() {
        None => Ok(headers),
        Some(name) => Err(malformed(format!("rsip did not find the header field {name}"))),
    }
}

fn body(octets: &Bytes, message: &rsip::SipMessage, head: &Head) -> Result<Bytes> {
    let there = octets.len() - head.body;
    let mut lengths = message.headers().iter().filter_map(|header| match header {
        rsip::Header::ContentLength(length) => Some(length),
        _ => None,
    });
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => there,
        (Some(length), None) => length
            .length()
            .ok()
            // rsip takes a sign.
            .filter(|_| length.value().bytes().all(|octet| octet.is_ascii_digit()))
            .and_then(|length| usize::try_from(length).ok())
            .ok_or_else(|| malformed("Content-Length is no number of octets"))?,
        (Some(_), Some(_)) => return Err(malformed("Content-Length appears twice")),
    };
    if length > there {
        return Err(malformed(format!(
            "Content-Length is {length}, but only {there} octets follow the header fields"
        )));
    }
    Ok(octets.slice(head.body..head.body + length))
}

/// rsip reads a known method in any case, an URI up to wherever its parts seem to end, and every version 2: so what it
/// has read must be what stands there.
fn request_line(request: &rsip::Request, head: &Head) -> Result<SipRequest> {
    let line = String::from_utf8_lossy(head.start_line());
    let read = format!("{} {} {}", request.method, request.uri, request.version);
    let words = line
        .split_once(' ')
        .and_then(|(method, rest)| Some((method, rest.rsplit_once(' ')?.0)));
    let (Some((method, uri)), true) = (words, read.eq_ignore_ascii_case(&line)) else {
        return Err(malformed(
            "rsip reads something else in the request line than stands there",
        ));
    };
    if method != request.method.to_string() {
        return Err(malformed("rsip knows the method in capitals only"));
    }
    if request.uri.scheme.is_none() {
        return Err(malformed("rsip finds no scheme in the Request-URI"));
    }
    // rsip's Uri takes `john.doe@host` for a host name and forgets the case of transports: the text is taken over.
    Ok(SipRequest::new(method.parse()?, uri.parse::<Uri>()?))
}

/// rsip forgets the reason phrase of a status that it knows.
fn status_line(response: &rsip::Response, head: &Head) -> Result<SipResponse> {
    let line = String::from_utf8_lossy(head.start_line());
    let mut words = line.splitn(3, ' ');
    let (version, code, reason) = (words.next(), words.next(), words.next());
    let status = response.status_code.code();
    if version != Some("SIP/2.0") {
        return Err(malformed("the version is not SIP/2.0").advice("see RFC 3261 section 7.2"));
    }
    if code != Some(status.to_string().as_str()) || !(100..700).contains(&status) {
        return Err(malformed("the status code is not 100 to 699"));
    }
    let mut ours = SipResponse::new(status);
    reason.unwrap_or_default().clone_into(&mut ours.reason);
    Ok(ours)
}

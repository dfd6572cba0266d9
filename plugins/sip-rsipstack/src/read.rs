//! Octets to a message that is worth passing on: rsipstack parses, and what it lets pass or reads wrongly is caught
//! here. Decides without I/O.

use crate::convert;
use crate::key::Key;
use rsipstack::sip::{self as rs, Header};
use siprtc_core::sip::{
    HeaderName, Headers, Host, Limits, Method, SipMessage, SipRequest, SipResponse, Uri, Via,
};
use siprtc_core::{Error, Fault};
use std::borrow::Cow;
use std::net::SocketAddr;

const OPERATION: &str = "read message";

/// A message that is valid, with its transaction's key.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request {
        request: SipRequest,
        key: Key,
        answer_to: SocketAddr,
    },
    Response {
        response: SipResponse,
        key: Key,
    },
}

/// Something that is no valid message.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// The status to answer with, to what, and where, when enough of a request could be read.
    pub(crate) answer: Option<(u16, SipRequest, SocketAddr)>,
}

/// Reads one whole message that came from `source`, in a datagram or cut out of a stream.
#[allow(
    clippy::result_large_err,
    reason = "a refusal is rare, and carries what is answered"
)]
pub(crate) fn read(
    octets: &[u8],
    limits: &Limits,
    source: SocketAddr,
    datagram: bool,
) -> Result<Incoming, Refused> {
    let refuse = |status: u16, error: Error| Refused {
        error,
        answer: salvage(octets, limits, source).map(|(request, to)| (status, request, to)),
    };
    if octets.len() > limits.message {
        let message = format!(
            "a message of {} octets is longer than {}",
            octets.len(),
            limits.message
        );
        return Err(refuse(513, malformed(message)));
    }
    let head = Head::scan(octets, limits).map_err(|error| refuse(400, error))?;
    let start = StartLine::parse(head.start_line()).map_err(|(status, error)| refuse(status, error))?;
    // rsipstack stops reading header fields at the first line that is no UTF-8, without a word.
    let parsed = rs::SipMessage::try_from(&*head.utf8());
    let mut message = parsed.map_err(|error| refuse(400, parse_error(&error)))?;
    let body = head
        .body(&mut message, datagram)
        .map_err(|error| refuse(400, error))?;
    match (start, message) {
        (StartLine::Request { method, uri }, rs::SipMessage::Request(parsed)) => {
            let headers = convert::from_headers(&parsed.headers, head.names());
            let mut request = SipRequest {
                method,
                uri,
                headers,
                body: body.into(),
            };
            let invalid = |error| refuse(400, error);
            request.validate().map_err(invalid)?;
            let via = request.headers.top_via().map_err(invalid)?;
            let key = Key::of_request(&request, &via).map_err(invalid)?;
            let answer_to = stamp(&mut request.headers, via, source);
            Ok(Incoming::Request {
                request,
                key,
                answer_to,
            })
        }
        (StartLine::Response { reason }, rs::SipMessage::Response(parsed)) => {
            let response = SipResponse {
                status: parsed.status_code.code(),
                reason: reason.to_owned(),
                headers: convert::from_headers(&parsed.headers, head.names()),
                body: body.into(),
            };
            let alone = |error| Refused { error, answer: None };
            response.validate().map_err(alone)?;
            let key = Key::of_response(&response).map_err(alone)?;
            Ok(Incoming::Response { response, key })
        }
        _ => Err(refuse(400, malformed("neither a request nor a response"))),
    }
}

/// Parses one message as it comes to a stack of this plugin, for who compares parsers.
///
/// # Errors
/// What rsipstack cannot read, and what it reads and RFC 3261 forbids.
pub fn parse(octets: &[u8], limits: &Limits) -> siprtc_core::Result<SipMessage> {
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 5060));
    match read(octets, limits, nowhere, true) {
        Ok(Incoming::Request { request, .. }) => Ok(SipMessage::Request(request)),
        Ok(Incoming::Response { response, .. }) => Ok(SipMessage::Response(response)),
        Err(refused) => Err(refused.error),
    }
}

/// Where the head of a message ends: at its first empty line.
pub(crate) fn end_of_head(octets: &[u8]) -> Option<usize> {
    octets.windows(4).position(|window| window == b"\r\n\r\n")
}

struct Head<'a> {
    /// Without the line ends before the start line (RFC 3261 section 7.5).
    octets: &'a [u8],
    /// Of the empty line.
    end: usize,
}

impl<'a> Head<'a> {
    /// Finds the head and holds its lines against what rsipstack lets pass: a bare CR, a NUL, a line that is no
    /// header field, and too many or too long ones.
    fn scan(octets: &'a [u8], limits: &Limits) -> siprtc_core::Result<Self> {
        let Some(start) = octets.iter().position(|octet| !matches!(octet, b'\r' | b'\n')) else {
            return Err(malformed("nothing but line ends"));
        };
        let octets = &octets[start..];
        let end = end_of_head(octets)
            .ok_or_else(|| malformed("the message has no empty line that ends its header fields"))?;
        let mut length = 0;
        let mut fields = 0;
        for (number, line) in octets[..end].split(|octet| *octet == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.contains(&b'\r') || has_nul(line) {
                return Err(malformed("a line has a CR without LF, or a NUL, in it"));
            }
            let folded = matches!(line.first(), Some(b' ' | b'\t'));
            length = if folded { length + line.len() } else { line.len() };
            if length > limits.header_line {
                let message = format!("a line is longer than {} octets", limits.header_line);
                return Err(malformed(message));
            }
            match number {
                0 => continue,
                1 if folded => return Err(malformed("the first header field begins with a blank")),
                _ if folded => continue,
                _ => fields += 1,
            }
            if fields > limits.header_fields {
                let message = format!("there are more than {} header fields", limits.header_fields);
                return Err(malformed(message));
            }
            let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
            let name = name.trim_ascii_end();
            if name.len() == line.len() || name.is_empty() || name.contains(&b' ') {
                return Err(malformed("a line has no header field name and colon"));
            }
        }
        Ok(Head { octets, end })
    }

    /// The header fields' names as they are written.
    fn names(&self) -> Vec<&'a str> {
        let lines = self.octets[..self.end].split(|octet| *octet == b'\n').skip(1);
        let fields = lines.filter(|line| !matches!(line.first(), Some(b' ' | b'\t')));
        fields
            .filter_map(|line| line.split(|octet| *octet == b':').next())
            .filter_map(|name| str::from_utf8(name.trim_ascii_end()).ok())
            .collect()
    }

    fn start_line(&self) -> Cow<'a, str> {
        let line = self
            .octets
            .split(|octet| *octet == b'\n')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The whole message with a head that is UTF-8.
    fn utf8(&self) -> Cow<'a, [u8]> {
        match String::from_utf8_lossy(&self.octets[..self.end]) {
            Cow::Borrowed(_) => Cow::Borrowed(self.octets),
            Cow::Owned(head) => Cow::Owned([head.as_bytes(), &self.octets[self.end..]].concat()),
        }
    }

    /// RFC 3261 section 18.3. rsipstack takes a body that is too short, and none when there is no Content-Length.
    fn body(&self, message: &mut rs::SipMessage, datagram: bool) -> siprtc_core::Result<Vec<u8>> {
        let (headers, body) = match message {
            rs::SipMessage::Request(request) => (&request.headers, &mut request.body),
            rs::SipMessage::Response(response) => (&response.headers, &mut response.body),
        };
        let there = &self.octets[self.end + 4..];
        let declared = headers.iter().find_map(|header| match header {
            Header::ContentLength(length) => Some(length.value()),
            _ => None,
        });
        match declared {
            Some(length) if length.parse().is_ok_and(|length: usize| length <= there.len()) => {
                Ok(std::mem::take(body))
            }
            Some(length) => {
                let message = format!(
                    "Content-Length is {length:?}, and {} octets follow the header fields",
                    there.len()
                );
                Err(malformed(message))
            }
            None if datagram => Ok(there.to_vec()),
            None => Ok(Vec::new()),
        }
    }
}

/// A NUL may stand in a quoted-pair (RFC 3261 section 25.1).
fn has_nul(line: &[u8]) -> bool {
    line.contains(&0) && (line[0] == 0 || line.windows(2).any(|pair| pair[1] == 0 && pair[0] != b'\\'))
}

#[derive(Debug)]
enum StartLine {
    Request { method: Method, uri: Uri },
    Response { reason: String },
}

impl StartLine {
    /// rsipstack reads methods in any case, more blanks than one, and any version; it would also resolve the escapes
    /// of the URI. The status says what a request with this error is answered.
    fn parse(line: Cow<'_, str>) -> Result<Self, (u16, Error)> {
        let wrong = |status, what: &str| (status, malformed(format!("the start line {what}")));
        if line
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("SIP/"))
        {
            let (version, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let digits = code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit());
            if !version.eq_ignore_ascii_case("SIP/2.0")
                || !digits
                || !(b'1'..=b'6').contains(&code.as_bytes()[0])
            {
                return Err(wrong(400, "has another version than SIP/2.0, or no status"));
            }
            let reason = reason.to_owned();
            return Ok(StartLine::Response { reason });
        }
        let words: Vec<&str> = line.split(' ').collect();
        let &[method, uri, version] = words.as_slice() else {
            return Err(wrong(400, "is not a method, a URI and a version"));
        };
        if !version.eq_ignore_ascii_case("SIP/2.0") {
            let other = version
                .get(..4)
                .is_some_and(|start| start.eq_ignore_ascii_case("SIP/"));
            return Err(wrong(
                if other { 505 } else { 400 },
                "has another version than SIP/2.0",
            ));
        }
        let method: Method = method.parse().map_err(|error| (400, error))?;
        let uri: Uri = uri.parse().map_err(|error| (400, error))?;
        if matches!(method, Method::Other(_)) {
            let message = format!("rsipstack has no word for the method {method}");
            return Err((
                501,
                Error::new(Fault::Unsupported, OPERATION, message).backend(crate::NAME),
            ));
        }
        Ok(StartLine::Request { method, uri })
    }
}

/// RFC 3261 section 18.2.1 and RFC 3581 section 4: writes down where the request really came from. rsipstack's own
/// way adds `rport` to who has not asked for it, so that its answers go to the wrong port.
///
/// Returns where answers go. `maddr` is not followed: it would let anybody aim our answers.
fn stamp(headers: &mut Headers, mut via: Via, source: SocketAddr) -> SocketAddr {
    let rport = via.params.contains("rport");
    if rport || via.host != Host::Ip(source.ip()) {
        if rport {
            via.params.set("rport", source.port().to_string());
        }
        via.params.set("received", source.ip().to_string());
        replace_top_via(headers, &via);
    }
    answer_to(&via, source)
}

fn answer_to(via: &Via, source: SocketAddr) -> SocketAddr {
    match via.params.contains("rport") {
        true => source,
        false => SocketAddr::new(source.ip(), via.port.unwrap_or(5060)),
    }
}

/// Several Vias may stand on one line.
fn replace_top_via(headers: &mut Headers, via: &Via) {
    let first = headers.items("Via").first().copied().unwrap_or_default();
    let line = headers.value("Via").unwrap_or_default();
    let rest = line.find(first).map_or("", |at| &line[at + first.len()..]);
    let line = format!("{via}{rest}");
    if headers.values("Via").count() == 1 {
        return headers.set("Via", line);
    }
    let mut rebuilt = Headers::new();
    let mut replaced = false;
    for (name, value) in headers.iter() {
        if !replaced && name.is("Via") {
            rebuilt.push(name.clone(), &line);
            replaced = true;
        } else {
            rebuilt.push(name.clone(), value);
        }
    }
    *headers = rebuilt;
}

/// The request's identity out of a message that is no valid one, if it is a request other than ACK with a Via and a CSeq:
/// only then it can be told (RFC 3261 section 21.4.1).
fn salvage(octets: &[u8], limits: &Limits, source: SocketAddr) -> Option<(SipRequest, SocketAddr)> {
    let octets = octets.trim_ascii_start();
    let head = &octets[..end_of_head(octets).unwrap_or(octets.len()).min(limits.message)];
    let text = String::from_utf8_lossy(head);
    let mut lines = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    let start = lines.next()?;
    let is_request = start
        .split_ascii_whitespace()
        .last()?
        .get(..4)?
        .eq_ignore_ascii_case("SIP/");
    if !is_request || start.starts_with("SIP/") || start.starts_with("ACK ") {
        return None;
    }
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in lines.take(limits.header_fields) {
        match line.strip_prefix([' ', '\t']) {
            Some(folded) => {
                let (_, value) = fields.last_mut()?;
                value.push(' ');
                value.push_str(folded.trim());
            }
            None => {
                let Some((name, value)) = line.split_once(':') else {
                    continue;
                };
                fields.push((name.trim(), value.trim().to_owned()));
            }
        }
    }
    let mut headers = Headers::new();
    for (name, value) in fields {
        let name = HeaderName::from(name);
        let wanted = ["Via", "From", "To", "Call-ID", "CSeq"]
            .iter()
            .any(|own| name.is(own));
        if wanted && (name.is("Via") || !headers.contains(name.canonical())) {
            headers.push(name, value);
        }
    }
    let text = headers.items("Via").first().copied()?;
    headers.value("CSeq")?;
    let answer_to = match text.parse::<Via>() {
        Ok(via) => stamp(&mut headers, via, source),
        // It goes back as it came, for its sender alone knows how to read it.
        Err(_) => answer_to(&Via::salvage(text)?, source),
    };
    let uri = Uri::Other("unread:".to_owned());
    let mut request = SipRequest::new(Method::Options, uri);
    request.headers = headers;
    Some((request, answer_to))
}

fn parse_error(error: &dyn std::fmt::Display) -> Error {
    malformed(format!("rsipstack cannot read it: {error}"))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(Fault::PeerMisbehaved, OPERATION, message)
        .advice("the peer's message breaks RFC 3261")
        .backend(crate::NAME)
}

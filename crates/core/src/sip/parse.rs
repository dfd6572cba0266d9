//! The message parser: a start line, header fields, a body.

use super::scan::{digits, excerpt, is_token, malformed, trim};
use super::{HeaderName, Headers, SipMessage, SipRequest, SipResponse};
use crate::Result;
use bytes::Bytes;
use std::borrow::Cow;

/// What the parser accepts. Beyond a limit a message is an error, never a guess.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Most octets of a message, 65,535 by default.
    pub message: usize,
    /// Most header field lines, 256 by default.
    pub header_fields: usize,
    /// Most octets of one header field line after unfolding, 16,384 by default.
    pub header_line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message: 65_535,
            header_fields: 256,
            header_line: 16_384,
        }
    }
}

/// [`SipMessage::parse`].
pub(super) fn parse(datagram: &Bytes, limits: &Limits) -> Result<SipMessage> {
    const RULE: &str = "RFC 3261 section 7";
    if datagram.len() > limits.message {
        let message = format!(
            "a message of {} octets is longer than {}",
            datagram.len(),
            limits.message
        );
        return Err(
            malformed(message, RULE).advice("raise the limit of message octets, or refuse it with 513")
        );
    }
    // RFC 3261 section 7.5: CRLFs before the start line are ignored.
    let Some(start) = datagram.iter().position(|octet| !matches!(octet, b'\r' | b'\n')) else {
        return Err(malformed(
            "nothing but line ends: a keepalive and no message",
            "RFC 5626 section 3.5.1",
        ));
    };
    let mut lines = Lines {
        octets: datagram,
        at: start,
    };
    let start_line = lines.next()?;
    if start_line.len() > limits.header_line {
        return Err(too_long("the start line", limits));
    }
    let start_line = text(start_line);
    let mut message = parse_start_line(&start_line)?;
    let headers = parse_headers(&mut lines, limits)?;
    let body = lines.body(datagram, &headers)?;
    match &mut message {
        SipMessage::Request(request) => (request.headers, request.body) = (headers, body),
        SipMessage::Response(response) => (response.headers, response.body) = (headers, body),
    }
    Ok(message)
}

/// Lines end with CRLF; a bare LF is taken too, for old senders, a bare CR never is: those who read it as a line end
/// and those who do not would see different header fields.
struct Lines<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8]> {
        const RULE: &str = "RFC 3261 section 7";
        let rest = &self.octets[self.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return Err(malformed(
                "the message ends before the empty line that ends its header fields",
                RULE,
            ));
        };
        self.at += end + 1;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        if memchr::memchr2(b'\r', 0, line).is_some()
            && !line
                .iter()
                .enumerate()
                .all(|(i, octet)| allowed(*octet, i.checked_sub(1).map(|i| line[i])))
        {
            return Err(malformed("a line has a CR without LF, or a NUL, in it", RULE));
        }
        Ok(line)
    }

    /// RFC 3261 section 18.3: what follows the body is discarded; without Content-Length the rest is the body.
    fn body(&self, datagram: &Bytes, headers: &Headers) -> Result<Bytes> {
        const RULE: &str = "RFC 3261 sections 18.3 and 20.14";
        let there = datagram.len() - self.at;
        let lines = headers.values("Content-Length").count();
        if lines > 1 {
            return Err(malformed(format!("Content-Length appears {lines} times"), RULE));
        }
        let length = headers.content_length()?.unwrap_or(there);
        if length > there {
            let message =
                format!("Content-Length is {length}, but only {there} octets follow the header fields");
            return Err(malformed(message, RULE));
        }
        Ok(datagram.slice(self.at..self.at + length))
    }
}

/// Octets that are no UTF-8 are replaced. Almost every line is: that is asked first, for it is the quicker question.
fn text(line: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed)
}

/// A NUL may stand in a quoted-pair (RFC 3261 section 25.1, and RFC 4475 section 3.1.1.2 sends one).
fn allowed(octet: u8, before: Option<u8>) -> bool {
    match octet {
        b'\r' => false,
        0 => before == Some(b'\\'),
        _ => true,
    }
}

fn too_long(what: &str, limits: &Limits) -> crate::Error {
    malformed(
        format!("{what} is longer than {} octets", limits.header_line),
        "RFC 3261 section 7.3",
    )
    .advice("raise the limit of header line octets, or refuse it with 400")
}

fn parse_start_line(line: &str) -> Result<SipMessage> {
    match line.get(..4) {
        Some(start) if start.eq_ignore_ascii_case("SIP/") => {
            parse_status_line(line).map(SipMessage::Response)
        }
        _ => parse_request_line(line).map(SipMessage::Request),
    }
}

/// RFC 3261 section 7.1: one blank between the three elements, and none elsewhere.
fn parse_request_line(line: &str) -> Result<SipRequest> {
    const RULE: &str = "RFC 3261 section 7.1";
    let mut words = line.split(' ');
    let (method, uri, version) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(uri), Some(version), None) => (method, uri, version),
        (_, _, _, Some(_)) => {
            let message = format!(
                "the request line \"{}\" has white space where none may be",
                excerpt(line)
            );
            return Err(malformed(message, RULE));
        }
        _ => {
            let message = format!(
                "the request line \"{}\" has no URI or no SIP version",
                excerpt(line)
            );
            return Err(malformed(message, RULE));
        }
    };
    check_version(version)?;
    Ok(SipRequest::new(method.parse()?, uri.parse::<super::Uri>()?))
}

/// RFC 3261 section 7.2. The blank before an empty reason phrase may be missing, for it often is.
fn parse_status_line(line: &str) -> Result<SipResponse> {
    let (version, rest) = line.split_once(' ').unwrap_or((line, ""));
    check_version(version)?;
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = Some(code).filter(|code| code.len() == 3).and_then(digits::<u16>);
    let Some(status) = status.filter(|status| (100..700).contains(status)) else {
        let message = format!("the status code \"{}\" is not 100 to 699", excerpt(code));
        return Err(malformed(message, "RFC 3261 section 7.2"));
    };
    let mut response = SipResponse::new(status);
    if response.reason != reason {
        response.reason = reason.to_owned();
    }
    Ok(response)
}

fn check_version(version: &str) -> Result<()> {
    if version.eq_ignore_ascii_case("SIP/2.0") {
        return Ok(());
    }
    let message = format!("the version \"{}\" is not SIP/2.0", excerpt(version));
    Err(malformed(message, "RFC 3261 section 7.1").advice("refuse it with 505"))
}

fn parse_headers(lines: &mut Lines<'_>, limits: &Limits) -> Result<Headers> {
    const RULE: &str = "RFC 3261 section 7.3.1";
    let mut headers = Headers::new();
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            return Ok(headers);
        }
        let text = text(line);
        if text.starts_with([' ', '\t']) {
            let Some((name, value)) = headers.last_mut() else {
                return Err(malformed("the first header field line begins with a blank", RULE));
            };
            unfold(value, &text);
            if name.as_str().len() + value.len() > limits.header_line {
                return Err(too_long(
                    &format!("the header field {}", excerpt(name.as_str())),
                    limits,
                ));
            }
            continue;
        }
        if headers.len() >= limits.header_fields {
            let message = format!("more than {} header fields", limits.header_fields);
            return Err(
                malformed(message, RULE).advice("raise the limit of header fields, or refuse it with 400")
            );
        }
        let Some((name, value)) = text.split_once(':') else {
            return Err(malformed(
                format!("the line \"{}\" has no colon", excerpt(&text)),
                RULE,
            ));
        };
        let name = name.trim_end_matches([' ', '\t']);
        if line.len() > limits.header_line {
            return Err(too_long(&format!("the header field {}", excerpt(name)), limits));
        }
        if !is_token(name) {
            return Err(malformed(
                format!("\"{}\" is no header field name", excerpt(name)),
                RULE,
            ));
        }
        headers.append(HeaderName::from(name), trim(value).to_owned());
    }
}

/// A line end with the blanks around it is one blank.
fn unfold(value: &mut String, line: &str) {
    let more = trim(line);
    if !value.is_empty() && !more.is_empty() {
        value.push(' ');
    }
    value.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = concat!(
        "OPTIONS sip:a@example.com SIP/2.0\r\n",
        "Via: SIP/2.0/UDP host;branch=z9hG4bK1\r\n",
        "From: <sip:b@example.com>;tag=1\r\n",
        "To: <sip:a@example.com>\r\n",
        "Call-ID: 1@host\r\n",
        "CSeq: 1 OPTIONS\r\n"
    );

    fn parsed(text: impl Into<Vec<u8>>) -> Result<SipMessage> {
        SipMessage::parse(&Bytes::from(text.into()), &Limits::default())
    }

    fn error(text: impl Into<Vec<u8>>) -> String {
        parsed(text).unwrap_err().to_string()
    }

    #[test]
    fn folded_lines_compact_names_and_blanks_before_the_colon_are_read() {
        let text =
            format!("\r\n\r\n{OPTIONS}s :\r\n \t one\r\n\t two  \r\nX-Empty:\r\n   \r\nl\t: 0\r\n\r\n");
        let message = parsed(text).unwrap();
        message.validate().unwrap();
        assert_eq!(message.headers().value("Subject"), Some("one two"));
        assert_eq!(message.headers().value("x-empty"), Some(""));
        assert_eq!(
            message.headers().iter().last().map(|(name, _)| name.as_str()),
            Some("l")
        );
    }

    #[test]
    fn the_body_is_a_slice_of_the_datagram_as_long_as_content_length_says() {
        let datagram = Bytes::from(format!("{OPTIONS}Content-Length: 4\r\n\r\nbodytrailing"));
        let SipMessage::Request(request) = SipMessage::parse(&datagram, &Limits::default()).unwrap() else {
            panic!("no request")
        };
        assert_eq!(request.body, "body");
        assert!(datagram.as_ptr_range().contains(&request.body.as_ptr()));
        let SipMessage::Request(request) = parsed(format!("{OPTIONS}\r\nall of it")).unwrap() else {
            panic!("no request")
        };
        assert_eq!(request.body, "all of it");
    }

    #[test]
    fn a_line_may_end_with_a_bare_lf_but_never_with_a_bare_cr() {
        parsed(OPTIONS.replace('\r', "") + "\n")
            .unwrap()
            .validate()
            .unwrap();
        assert!(error(format!("{OPTIONS}X: a\rEvil: b\r\n\r\n")).contains("CR without LF"));
        assert!(error(format!("{OPTIONS}X: a\0b\r\n\r\n")).contains("NUL"));
        parsed(format!("{OPTIONS}X: \"a\\\0b\"\r\n\r\n")).unwrap();
    }

    #[test]
    fn limits_are_kept() {
        let limits = Limits {
            message: 1000,
            header_fields: 7,
            header_line: 100,
        };
        let parse = |text: String| SipMessage::parse(&Bytes::from(text), &limits);
        let fits = |tail: &str| parse(format!("{OPTIONS}{tail}\r\n"));
        fits(&format!("X: {}\r\nY: 1\r\n", "x".repeat(97))).unwrap();
        for (tail, word) in [
            ("X: 1\r\nY: 2\r\nZ: 3\r\n".to_owned(), "more than 7"),
            (format!("X: {}\r\n", "x".repeat(98)), "100 octets"),
            (
                format!("X: {}\r\n {}\r\n", "x".repeat(50), "x".repeat(50)),
                "100 octets",
            ),
            ("x".repeat(1000), "longer than 1000"),
        ] {
            let error = fits(&tail).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let long = format!("OPTIONS sip:{} SIP/2.0\r\n\r\n", "x".repeat(100));
        assert!(parse(long).unwrap_err().to_string().contains("start line"));
    }

    #[test]
    fn the_start_line_is_strict_but_for_the_case_of_its_version() {
        parsed("OPTIONS sip:a sip/2.0\r\n\r\n").unwrap();
        let SipMessage::Response(response) = parsed("SIP/2.0 200\r\n\r\n").unwrap() else {
            panic!("no response")
        };
        assert_eq!((response.status, response.reason.as_str()), (200, ""));
        for (line, word) in [
            ("OPTIONS  sip:a SIP/2.0", "white space"),
            ("OPTIONS sip:a SIP/2.0 ", "white space"),
            ("OPTIONS sip:a", "no SIP version"),
            ("OPTIONS sip:a SIP/3.0", "version"),
            ("OPT(IONS) sip:a SIP/2.0", "no method"),
            ("OPTIONS <sip:a> SIP/2.0", "enclosed in <>"),
            ("SIP/2.0 99 Low", "status code"),
            ("SIP/2.0 700 High", "status code"),
            ("SIP/2.0 2000 Long", "status code"),
            ("SIP/2.0 +20 Sign", "status code"),
            ("SIP/2.1 200 OK", "version"),
        ] {
            let error = error(format!("{line}\r\n\r\n"));
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_that_says_why() {
        for (text, word) in [
            ("".to_owned(), "keepalive"),
            ("\r\n\r\n".to_owned(), "keepalive"),
            (OPTIONS.to_owned(), "empty line"),
            (
                "OPTIONS sip:a SIP/2.0\r\n X: 1\r\n\r\n".to_owned(),
                "begins with a blank",
            ),
            (format!("{OPTIONS}Foobar roobar\r\n\r\n"), "no colon"),
            (format!("{OPTIONS}Foo bar: 1\r\n\r\n"), "no header field name"),
            (format!("{OPTIONS}: 1\r\n\r\n"), "no header field name"),
            (
                format!("{OPTIONS}Content-Length: 5\r\nl: 5\r\n\r\n12345"),
                "2 times",
            ),
            (
                format!("{OPTIONS}Content-Length: 6\r\n\r\n12345"),
                "only 5 octets",
            ),
        ] {
            let error = error(text.clone());
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn octets_that_are_no_utf_8_are_replaced_in_header_fields_and_kept_in_bodies() {
        let mut datagram = format!("{OPTIONS}Subject: a").into_bytes();
        datagram.extend_from_slice(b"\xff\r\n\r\n\xff");
        let SipMessage::Request(request) = parsed(datagram).unwrap() else {
            panic!("no request")
        };
        assert_eq!(request.headers.value("Subject"), Some("a\u{fffd}"));
        assert_eq!(request.body, &b"\xff"[..]);
    }
}

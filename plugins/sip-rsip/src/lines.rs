//! The lines of a message as rsip can read them: one for each header field, under its long name.

use crate::error::malformed;
use siprtc_core::Result;
use siprtc_core::sip::{HeaderName, Limits};

/// What stands before the body, rewritten for rsip, and what the rewriting must not lose.
pub(crate) struct Head {
    /// The start line and `Name: value` lines, each ended by CRLF, then the empty line.
    pub(crate) octets: Vec<u8>,
    /// How long the start line is in `octets`.
    start_line: usize,
    /// The header fields' names as the peer wrote them, in order.
    pub(crate) names: Vec<HeaderName>,
    /// Where the body begins in what was received.
    pub(crate) body: usize,
}

impl Head {
    /// Unfolds lines (RFC 3261 section 7.3.1), expands compact names (section 7.3.3), takes out the blanks that may
    /// stand around a field's colon and at its end, and writes CRLF where a line ends with LF alone.
    pub(crate) fn read(message: &[u8], limits: &Limits) -> Result<Self> {
        if message.len() > limits.message {
            return Err(malformed(format!(
                "a message of {} octets is longer than {}",
                message.len(),
                limits.message
            )));
        }
        let (start_line, mut at) = start_line(message)?;
        let mut head = Head {
            octets: Vec::with_capacity(message.len().min(4096)),
            start_line: start_line.len(),
            names: Vec::new(),
            body: 0,
        };
        check_length(start_line.len(), limits)?;
        head.octets.extend_from_slice(start_line);
        let mut field = 0;
        loop {
            let line = next_line(message, &mut at)?;
            match line.first() {
                None => break,
                Some(b' ' | b'\t') if head.names.is_empty() => {
                    return Err(malformed("the first header field line begins with a blank"));
                }
                Some(b' ' | b'\t') => head.unfold(line, field),
                Some(_) => {
                    field = head.octets.len();
                    head.begin(line, limits)?;
                }
            }
            check_length(head.octets.len() - field, limits)?;
        }
        head.octets.extend_from_slice(b"\r\n\r\n");
        head.body = at;
        Ok(head)
    }

    pub(crate) fn start_line(&self) -> &[u8] {
        &self.octets[..self.start_line]
    }

    fn begin(&mut self, line: &[u8], limits: &Limits) -> Result<()> {
        if self.names.len() >= limits.header_fields {
            return Err(malformed(format!(
                "more than {} header fields",
                limits.header_fields
            )));
        }
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            return Err(malformed("a header field line has no colon"));
        };
        let name = String::from_utf8_lossy(trim(&line[..colon]));
        let name = HeaderName::from(&*name);
        self.octets.extend_from_slice(b"\r\n");
        self.octets.extend_from_slice(name.canonical().as_bytes());
        self.octets.extend_from_slice(b": ");
        self.octets.extend_from_slice(trim(&line[colon + 1..]));
        self.names.push(name);
        Ok(())
    }

    /// A line end with the blanks around it is one blank; `field` is where its header field begins.
    fn unfold(&mut self, line: &[u8], field: usize) {
        let more = trim(line);
        if more.is_empty() {
            return;
        }
        if !self.octets[field..].ends_with(b": ") {
            self.octets.push(b' ');
        }
        self.octets.extend_from_slice(more);
    }
}

/// RFC 3261 section 7.5: line ends before the start line are ignored.
fn start_line(message: &[u8]) -> Result<(&[u8], usize)> {
    let Some(mut at) = message.iter().position(|octet| !matches!(octet, b'\r' | b'\n')) else {
        return Err(malformed("nothing but line ends: a keepalive and no message"));
    };
    let line = next_line(message, &mut at)?;
    Ok((line, at))
}

/// rsip would take a CR without LF into a value, where others read a line end.
fn next_line<'a>(message: &'a [u8], at: &mut usize) -> Result<&'a [u8]> {
    let rest = &message[*at..];
    let Some(end) = rest.iter().position(|octet| *octet == b'\n') else {
        return Err(malformed(
            "the message ends before the empty line that ends its header fields",
        ));
    };
    *at += end + 1;
    let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    let quoted = |index: usize| index > 0 && line[index - 1] == b'\\';
    if line
        .iter()
        .enumerate()
        .any(|(index, octet)| *octet == b'\r' || (*octet == 0 && !quoted(index)))
    {
        return Err(malformed("a line has a CR without LF, or a NUL, in it"));
    }
    Ok(line)
}

fn check_length(length: usize, limits: &Limits) -> Result<()> {
    if length > limits.header_line {
        return Err(malformed(format!(
            "a line is longer than {} octets",
            limits.header_line
        )));
    }
    Ok(())
}

/// Without the blanks at both ends: only those that SIP knows.
fn trim(text: &[u8]) -> &[u8] {
    let blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let start = text.iter().position(|octet| !blank(octet)).unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|octet| !blank(octet))
        .map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head> {
        Head::read(text.as_bytes(), &Limits::default())
    }

    fn rewritten(text: &str) -> String {
        String::from_utf8(head(text).unwrap().octets).unwrap()
    }

    #[test]
    fn each_header_field_gets_one_line_under_its_long_name() {
        assert_eq!(
            rewritten(
                "\r\n\r\nOPTIONS sip:a SIP/2.0\r\ns :\r\n \t one\r\n\t two  \r\nX-Empty:\r\n   \r\nv\t:  1 \n\r\nbody"
            ),
            "OPTIONS sip:a SIP/2.0\r\nSubject: one two\r\nX-Empty: \r\nVia: 1\r\n\r\n"
        );
    }

    #[test]
    fn names_are_remembered_as_they_were_written_and_the_body_is_found() {
        let text = "OPTIONS sip:a SIP/2.0\r\nv: 1\r\nCALL-id: 2\r\n\r\nbody";
        let head = head(text).unwrap();
        let names: Vec<_> = head.names.iter().map(HeaderName::as_str).collect();
        assert_eq!(names, ["v", "CALL-id"]);
        assert_eq!(&text[head.body..], "body");
        assert_eq!(head.start_line(), b"OPTIONS sip:a SIP/2.0");
    }

    #[test]
    fn what_is_no_message_is_an_error_that_says_why() {
        for (text, word) in [
            ("", "keepalive"),
            ("\r\n\r\n", "keepalive"),
            ("OPTIONS sip:a SIP/2.0\r\nA: b\r\n", "empty line"),
            ("OPTIONS sip:a SIP/2.0\r\n A: b\r\n\r\n", "begins with a blank"),
            ("OPTIONS sip:a SIP/2.0\r\nA b\r\n\r\n", "no colon"),
            ("OPTIONS sip:a SIP/2.0\r\nA: b\rB: c\r\n\r\n", "CR without LF"),
            ("OPTIONS sip:a SIP/2.0\r\nA: b\0\r\n\r\n", "NUL"),
        ] {
            let error = head(text).err().map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|error| error.contains(word)),
                "{text:?}: {error:?}"
            );
        }
    }

    #[test]
    fn limits_are_kept() {
        let limits = Limits {
            message: 200,
            header_fields: 2,
            header_line: 50,
        };
        let read =
            |tail: &str| Head::read(format!("OPTIONS sip:a SIP/2.0\r\n{tail}\r\n").as_bytes(), &limits);
        read("A: 1\r\nB: 2\r\n").unwrap();
        for (tail, word) in [
            ("A: 1\r\nB: 2\r\nC: 3\r\n".to_owned(), "more than 2"),
            (format!("A: {}\r\n", "x".repeat(48)), "50 octets"),
            (format!("A: {0}\r\n {0}\r\n", "x".repeat(25)), "50 octets"),
            ("x".repeat(200), "longer than 200"),
        ] {
            let error = read(&tail).err().map(|error| error.to_string());
            assert!(
                error.as_deref().is_some_and(|error| error.contains(word)),
                "{tail:?}: {error:?}"
            );
        }
    }
}

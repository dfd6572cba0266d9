//! Messages out of a stream of octets (RFC 3261 sections 7.5, 18.3 and 20.14, RFC 5626 section 3.5.1).
//!
//! No I/O and no clock: octets in by [`Framer::feed`], frames out by [`Framer::poll`]. **After each `feed` call `poll`
//! until it says `None`.**

use bytes::Bytes;
use siprtc_core::sip::Limits;
use std::fmt;

/// What stands in a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A whole message: a start line, header fields, and as much body as Content-Length says.
    Message(Bytes),
    /// CRLF CRLF between two messages: the peer wants a CRLF.
    Ping,
    /// The CRLF that answers a ping of ours, see [`Framer::expect_pong`].
    Pong,
}

/// Why nothing more can be read: where the next message would begin is not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// What is wrong.
    pub kind: BrokenKind,
    /// The start of the message, with its header fields as far as they are there.
    pub raw: Bytes,
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BrokenKind {
    /// Content-Length is no number, or there are several that differ.
    BadContentLength,
    /// The peer speaks HTTP.
    Http,
    /// RFC 3261 section 18.3: a stream cannot be framed without it.
    NoContentLength,
    /// Neither a request line nor a status line.
    NotSip,
    /// The peer speaks TLS.
    Tls,
    /// Longer than [`Limits::message`].
    TooLong {
        /// The limit in octets.
        limit: usize,
    },
}

impl fmt::Display for BrokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenKind::BadContentLength => f.write_str("Content-Length is no number, or not the only one"),
            BrokenKind::Http => f.write_str("the peer speaks HTTP, and this is a SIP port"),
            BrokenKind::NoContentLength => f.write_str("Content-Length is missing, which a stream needs"),
            BrokenKind::NotSip => f.write_str("the peer sends something that is no SIP"),
            BrokenKind::Tls => f.write_str("the peer speaks TLS, and this port does not"),
            BrokenKind::TooLong { limit } => write!(f, "a message is longer than {limit} octets"),
        }
    }
}

/// Cuts a stream into frames. Holds no memory between two messages.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: Vec<u8>,
    /// Where in `buffer` the current message begins.
    start: usize,
    /// How far the current message has been searched for the end of its header fields.
    searched: usize,
    /// The start line has been looked at.
    recognised: bool,
    /// Octets of the current message, once its header fields are there.
    length: Option<usize>,
    /// Pings of ours that are unanswered.
    awaited: u32,
    broken: bool,
}

impl Framer {
    /// For a stream that begins.
    pub fn new(limits: Limits) -> Self {
        Framer {
            limits,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            recognised: false,
            length: None,
            awaited: 0,
            broken: false,
        }
    }

    /// Octets have arrived. Nothing after [`Framer::poll`] has said that the stream is broken.
    pub fn feed(&mut self, octets: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// A ping was sent: the next CRLF between messages answers it.
    pub fn expect_pong(&mut self) {
        // A line end that somebody has left behind a message answers nothing.
        if self.rest() == b"\r\n" {
            self.start += 2;
        }
        self.awaited = self.awaited.saturating_add(1);
    }

    /// Whether a message has begun and is not whole.
    pub fn is_partial(&self) -> bool {
        !matches!(self.rest(), b"" | b"\r" | b"\r\n" | b"\r\n\r")
    }

    /// The next frame, if it is whole.
    ///
    /// # Errors
    /// Once, when the stream cannot be read any further.
    pub fn poll(&mut self) -> Result<Option<Frame>, Broken> {
        if self.broken {
            return Ok(None);
        }
        let found = self.next();
        match &found {
            Ok(None) => self.compact(),
            Ok(Some(_)) => (),
            Err(_) => {
                self.broken = true;
                self.buffer = Vec::new();
                self.start = 0;
            }
        }
        found
    }

    fn next(&mut self) -> Result<Option<Frame>, Broken> {
        if self.searched == 0
            && let Some(frame) = self.line_ends()
        {
            return Ok(Some(frame));
        }
        // What is left of line ends may be half of a ping.
        if !self.is_partial() {
            return Ok(None);
        }
        self.recognise()?;
        let length = match self.length {
            Some(length) => length,
            None => match self.measure()? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        let rest = self.rest();
        if rest.len() < length {
            return Ok(None);
        }
        // A copy, so that a body that somebody keeps does not keep its neighbours.
        let message = Bytes::copy_from_slice(&rest[..length]);
        self.start += length;
        (self.searched, self.recognised, self.length) = (0, false, None);
        Ok(Some(Frame::Message(message)))
    }

    /// Line ends between messages. In whatever pieces they come: each answers a ping of ours, else two of them are a
    /// ping, else they mean nothing (RFC 3261 section 7.5).
    fn line_ends(&mut self) -> Option<Frame> {
        loop {
            let rest = self.rest();
            if rest.starts_with(b"\r\n") && self.awaited > 0 {
                self.awaited -= 1;
                self.start += 2;
                return Some(Frame::Pong);
            }
            if rest.starts_with(b"\r\n\r\n") {
                self.start += 4;
                return Some(Frame::Ping);
            }
            self.start += match rest {
                [b'\n', ..] => 1,
                [b'\r', b'\n', next, ..] if *next != b'\r' => 2,
                [b'\r', b'\n', b'\r', next, ..] if *next != b'\n' => 2,
                _ => return None,
            };
        }
    }

    /// Says early what can never become a SIP message: who waits for an answer in another language should not wait long.
    fn recognise(&mut self) -> Result<(), Broken> {
        if self.recognised {
            return Ok(());
        }
        let rest = self.rest();
        match rest {
            [0x16, 0x03, ..] => return Err(self.fail(BrokenKind::Tls)),
            [0x16] => return Ok(()),
            [first, ..] if !is_token(*first) => return Err(self.fail(BrokenKind::NotSip)),
            _ => (),
        }
        let end = rest.iter().position(|octet| *octet == b'\n');
        // The same in one piece as in many.
        if end.unwrap_or(rest.len()) > self.limits.header_line {
            return Err(self.fail(BrokenKind::NotSip));
        }
        let Some(end) = end else {
            return Ok(());
        };
        let line = &rest[..end];
        if contains(line, b" HTTP/") || starts_with(line, b"HTTP/") {
            return Err(self.fail(BrokenKind::Http));
        }
        if !contains(line, b"SIP/") {
            return Err(self.fail(BrokenKind::NotSip));
        }
        self.recognised = true;
        Ok(())
    }

    /// How long the message is, once its header fields are there.
    fn measure(&mut self) -> Result<Option<usize>, Broken> {
        let limit = self.limits.message;
        let rest = self.rest();
        let Some(head) = head_end(rest, self.searched) else {
            if rest.len() > limit {
                return Err(self.fail(BrokenKind::TooLong { limit }));
            }
            // The end may have been cut in "\n\r\n".
            self.searched = rest.len().saturating_sub(2).max(1);
            return Ok(None);
        };
        let length = match content_length(&rest[..head]) {
            Ok(Some(body)) => head.saturating_add(body),
            Ok(None) => return Err(self.fail(BrokenKind::NoContentLength)),
            Err(()) => return Err(self.fail(BrokenKind::BadContentLength)),
        };
        if length > limit {
            return Err(self.fail(BrokenKind::TooLong { limit }));
        }
        self.searched = head;
        self.length = Some(length);
        Ok(Some(length))
    }

    fn fail(&self, kind: BrokenKind) -> Broken {
        let rest = self.rest();
        let end = head_end(rest, 0).unwrap_or(rest.len().min(self.limits.message));
        Broken {
            kind,
            raw: Bytes::copy_from_slice(&rest[..end]),
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn compact(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
    }
}

/// Where the body begins: behind the first empty line. A bare LF ends a line too, as for the parser.
fn head_end(octets: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(1);
    loop {
        at += octets.get(at..)?.iter().position(|octet| *octet == b'\n')? + 1;
        match octets.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => (),
        }
    }
}

/// `Err`: it cannot be relied on.
fn content_length(head: &[u8]) -> Result<Option<usize>, ()> {
    let mut found = None;
    let mut lines = head.split(|octet| *octet == b'\n').peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            continue;
        };
        let name = line[..colon].trim_ascii_end();
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let mut value = line[colon + 1..].trim_ascii();
        // Folded (RFC 3261 section 7.3.1).
        while let Some(more) = lines.next_if(|next| next.starts_with(b" ") || next.starts_with(b"\t")) {
            match (value.is_empty(), more.trim_ascii()) {
                (true, more) => value = more,
                (false, b"") => (),
                (false, _) => return Err(()),
            }
        }
        let length = digits(value).ok_or(())?;
        if found.is_some_and(|before| before != length) {
            return Err(());
        }
        found = Some(length);
    }
    Ok(found)
}

fn digits(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_usize, |sum, octet| {
        let digit = octet.is_ascii_digit().then(|| usize::from(octet - b'0'))?;
        // More than any limit is as good as infinite.
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// RFC 3261 section 25.1.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet)
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len())
        .any(|part| part.eq_ignore_ascii_case(word))
}

fn starts_with(line: &[u8], word: &[u8]) -> bool {
    line.get(..word.len())
        .is_some_and(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "OPTIONS sip:a@h SIP/2.0\r\nCall-ID: 1\r\n";

    fn message(fields: &str, body: &str) -> String {
        format!("{HEAD}{fields}\r\n\r\n{body}")
    }

    fn limits() -> Limits {
        Limits {
            message: 1000,
            header_line: 200,
            ..Limits::default()
        }
    }

    /// Everything that `pieces` are cut into.
    fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, Broken> {
        let mut framer = Framer::new(limits());
        let mut all = Vec::new();
        for piece in pieces {
            framer.feed(piece);
            while let Some(frame) = framer.poll()? {
                all.push(frame);
            }
        }
        assert!(!framer.is_partial(), "{framer:?}");
        assert!(framer.buffer.len() <= 2);
        Ok(all)
    }

    fn broken(text: impl AsRef<[u8]>) -> Broken {
        frames([text.as_ref()]).unwrap_err()
    }

    #[test]
    fn a_stream_is_cut_into_the_same_frames_wherever_it_is_split() {
        let one = message("Content-Length: 5", "hello");
        let two = message("l :\r\n 4", "\r\n\r\n");
        let three = message("Subject: content-length: 9\r\nCONTENT-LENGTH:0", "").replace('\r', "");
        let stream = format!("\r\n\r\n{one}\r\n{two}\r\n\r\n\r\n\r\n{three}\n\n{one}{two}\r\n");
        let wanted = [
            Frame::Ping,
            Frame::Message(one.clone().into()),
            Frame::Message(two.clone().into()),
            Frame::Ping,
            Frame::Ping,
            Frame::Message(three.into()),
            Frame::Message(one.into()),
            Frame::Message(two.into()),
        ];
        let octets = stream.as_bytes();
        for cut in 0..octets.len() {
            let (left, right) = octets.split_at(cut);
            assert_eq!(frames([left, right]).unwrap(), wanted, "cut at {cut}");
        }
        assert_eq!(frames(octets.chunks(1)).unwrap(), wanted);
        assert_eq!(frames(octets.chunks(7)).unwrap(), wanted);
    }

    #[test]
    fn line_ends_answer_our_pings_first_and_are_pings_of_the_peers_then() {
        for pieces in [&[&b"\r\n\r\n\r\n"[..]][..], &[b"\r", b"\n\r\n", b"\r\n"]] {
            let mut framer = Framer::new(limits());
            framer.expect_pong();
            let mut all = Vec::new();
            for piece in pieces {
                framer.feed(piece);
                while let Some(frame) = framer.poll().unwrap() {
                    all.push(frame);
                }
            }
            assert_eq!(all, [Frame::Pong, Frame::Ping], "{pieces:?}");
        }
        let mut framer = Framer::new(limits());
        framer.feed(b"\r\n");
        assert_eq!(framer.poll(), Ok(None));
        framer.expect_pong();
        assert_eq!(
            framer.poll(),
            Ok(None),
            "what came before the ping is no answer to it"
        );
        framer.feed(b"\r\n");
        assert_eq!(framer.poll(), Ok(Some(Frame::Pong)));
    }

    #[test]
    fn a_message_without_a_length_that_can_be_relied_on_ends_the_stream() {
        for (fields, kind) in [
            ("Subject: x", BrokenKind::NoContentLength),
            ("Content-Length:", BrokenKind::BadContentLength),
            ("Content-Length: -1", BrokenKind::BadContentLength),
            ("Content-Length: +1", BrokenKind::BadContentLength),
            ("Content-Length: 1 2", BrokenKind::BadContentLength),
            ("Content-Length: 1\r\n 2", BrokenKind::BadContentLength),
            ("Content-Length: 1\r\nl: 2", BrokenKind::BadContentLength),
            ("Content-Length: 5000", BrokenKind::TooLong { limit: 1000 }),
            (
                "Content-Length: 99999999999999999999999999",
                BrokenKind::TooLong { limit: 1000 },
            ),
        ] {
            let text = message(fields, "");
            let broken = broken(&text);
            assert_eq!(broken.kind, kind, "{fields}");
            assert_eq!(broken.raw, text, "the header fields are kept for an answer");
        }
    }

    #[test]
    fn other_protocols_are_recognised_by_their_first_words() {
        for (text, kind) in [
            (&b"GET / HTTP/1.1\r\n"[..], BrokenKind::Http),
            (b"HTTP/1.1 400 Bad Request\r\n", BrokenKind::Http),
            (b"PRI * HTTP/2.0\r\n", BrokenKind::Http),
            (b"\x16\x03\x01", BrokenKind::Tls),
            (b"\x16\x04", BrokenKind::NotSip),
            (b"\x00", BrokenKind::NotSip),
            (b"SSH-2.0-OpenSSH_9.2\r\n", BrokenKind::NotSip),
            (b"EHLO example.com\r\n", BrokenKind::NotSip),
        ] {
            assert_eq!(broken(text).kind, kind, "{text:?}");
        }
        assert_eq!(broken("A".repeat(201)).kind, BrokenKind::NotSip);
        let long = format!("OPTIONS sip:{} SIP/2.0\r\nl: 0\r\n\r\n", "a".repeat(200));
        assert_eq!(broken(&long).kind, BrokenKind::NotSip);
        let mut framer = Framer::new(limits());
        framer.feed(b"\x16");
        assert_eq!(framer.poll(), Ok(None));
    }

    #[test]
    fn header_fields_without_an_end_are_not_kept_for_ever() {
        let text = format!("{HEAD}{}", "X: y\r\n".repeat(200));
        let broken = broken(&text);
        assert_eq!(broken.kind, BrokenKind::TooLong { limit: 1000 });
        assert_eq!(broken.raw, text[..1000]);
    }

    #[test]
    fn nothing_is_read_behind_the_break_and_nothing_is_kept() {
        let mut framer = Framer::new(limits());
        framer.feed(b"GET / HTTP/1.1\r\n\r\n");
        framer.poll().unwrap_err();
        framer.feed(message("l: 0", "").as_bytes());
        assert_eq!(framer.poll(), Ok(None));
        assert_eq!(framer.buffer.capacity(), 0);
        let mut framer = Framer::new(limits());
        framer.feed(message("l: 0", "").as_bytes());
        assert!(framer.poll().unwrap().is_some() && framer.poll().unwrap().is_none());
        assert_eq!(framer.buffer.capacity(), 0, "an idle connection holds no memory");
    }
}

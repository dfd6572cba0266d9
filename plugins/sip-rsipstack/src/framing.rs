//! Messages out of a stream of octets (RFC 3261 section 18.3, RFC 5626 section 3.5.1), without I/O.
//!
//! rsipstack's own codec overflows on a large Content-Length, takes half a ping for a pong, and gives a connection up
//! for the first message that it cannot parse.

use crate::read::end_of_head;
use bytes::{Buf, Bytes, BytesMut};
use siprtc_core::sip::HeaderName;

/// What stands next in the stream.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    /// A whole message.
    Message(Bytes),
    /// CRLF CRLF: a pong is owed.
    Ping,
    /// CRLF, when one was awaited.
    Pong,
}

/// The rest of the stream cannot be cut into messages.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Lost {
    pub(crate) why: &'static str,
    /// What was to be a message.
    pub(crate) octets: Bytes,
}

/// Cuts one stream. **After each [`Framing::feed`] drain [`Framing::poll`] until `None`.**
pub(crate) struct Framing {
    buffer: BytesMut,
    /// Most octets of a message.
    max: usize,
    /// How much of the buffer is known to hold no end of a head.
    searched: usize,
    /// The last thing was a CRLF that nobody awaited: with another behind it the two are a ping.
    half_ping: bool,
}

impl Framing {
    pub(crate) fn new(max: usize) -> Self {
        Framing {
            buffer: BytesMut::new(),
            max,
            searched: 0,
            half_ping: false,
        }
    }

    /// Where to read into.
    pub(crate) fn feed(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// `awaited`: pings of ours that are unanswered.
    pub(crate) fn poll(&mut self, awaited: u32) -> Result<Option<Frame>, Lost> {
        while self.buffer.starts_with(b"\r\n") {
            let both = self.buffer.starts_with(b"\r\n\r\n");
            if both && !self.half_ping && awaited < 2 {
                self.buffer.advance(4);
                return Ok(Some(Frame::Ping));
            }
            self.buffer.advance(2);
            if awaited > 0 {
                return Ok(Some(Frame::Pong));
            }
            self.half_ping = !self.half_ping;
            if !self.half_ping {
                return Ok(Some(Frame::Ping));
            }
        }
        if self.buffer.is_empty() || self.buffer[..] == b"\r"[..] {
            return Ok(None);
        }
        self.half_ping = false;
        let Some(end) = end_of_head(&self.buffer[self.searched..]) else {
            // The end may begin with the last three octets.
            self.searched = self.buffer.len().saturating_sub(3);
            return match self.buffer.len() > self.max {
                true => Err(self.lost("a message that does not end")),
                false => Ok(None),
            };
        };
        let head = self.searched + end + 4;
        self.searched += end;
        let Some(body) = content_length(&self.buffer[..head]) else {
            return Err(self.lost("a Content-Length that is no number, or several"));
        };
        match head.checked_add(body) {
            Some(length) if length > self.max => Err(self.lost("a message that is too long")),
            Some(length) if length <= self.buffer.len() => {
                self.searched = 0;
                Ok(Some(Frame::Message(self.buffer.split_to(length).freeze())))
            }
            Some(_) => Ok(None),
            None => Err(self.lost("a message that is too long")),
        }
    }

    fn lost(&mut self, why: &'static str) -> Lost {
        let octets = self.buffer.split().freeze();
        Lost { why, octets }
    }
}

/// 0 without one, for some forget it when there is no body. `None`: who else reads it may see another.
fn content_length(head: &[u8]) -> Option<usize> {
    let mut found = None;
    for line in head.split(|octet| *octet == b'\n') {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            continue;
        };
        let Ok(name) = str::from_utf8(line[..colon].trim_ascii()) else {
            continue;
        };
        // The length tells most names apart at once.
        if !matches!(name.len(), 1 | 14) || !HeaderName::from(name).is("Content-Length") {
            continue;
        }
        let digits = line[colon + 1..].trim_ascii();
        if found.is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // Too many digits are too long a message, which is not the same as no number.
        let text = str::from_utf8(digits).ok()?;
        found = Some(text.parse().unwrap_or(usize::MAX));
    }
    Some(found.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1000;

    fn message(length: &str, body: &str) -> String {
        format!("A sip:b SIP/2.0\r\nX: 1\r\n{length}\r\n{body}")
    }

    fn cut(octets: &[u8], step: usize) -> (Vec<Frame>, Option<&'static str>) {
        let mut framing = Framing::new(MAX);
        let mut frames = Vec::new();
        for chunk in octets.chunks(step) {
            framing.feed().extend_from_slice(chunk);
            loop {
                match framing.poll(0) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(lost) => return (frames, Some(lost.why)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn messages_are_cut_alike_however_the_stream_was_split() {
        let (one, two) = (message("l: 4\r\n", "body"), message("", ""));
        let three = message("CONTENT-LENGTH :  2 \r\n", "\r\n");
        let stream = [one.as_str(), &two, &three].concat();
        for step in 1..stream.len() {
            let (frames, lost) = cut(stream.as_bytes(), step);
            let whole = [&one, &two, &three].map(|text| Frame::Message(text.clone().into()));
            assert_eq!((frames, lost), (whole.into(), None), "in steps of {step}");
        }
    }

    #[test]
    fn a_ping_is_a_ping_in_two_segments_too() {
        let ping_at_once = cut(b"\r\n\r\nA", 9).0;
        assert_eq!(ping_at_once, [Frame::Ping]);
        let halves = cut(b"\r\n\r\nA", 2).0;
        assert_eq!(halves, [Frame::Ping]);
        assert_eq!(cut(b"\r\n\r\n\r\n\r\n", 8).0, [Frame::Ping, Frame::Ping]);
        let after = [b"\r\n".as_slice(), message("", "").as_bytes(), b"\r\n"].concat();
        assert_eq!(cut(&after, 99).0, [Frame::Message(message("", "").into())]);
    }

    #[test]
    fn a_pong_is_one_only_where_it_is_awaited() {
        let mut framing = Framing::new(MAX);
        framing.feed().extend_from_slice(b"\r\n");
        assert_eq!(framing.poll(1), Ok(Some(Frame::Pong)));
        framing.feed().extend_from_slice(b"\r\n");
        assert_eq!(framing.poll(1), Ok(Some(Frame::Pong)), "no half of a ping");
        framing.feed().extend_from_slice(b"\r\n");
        assert_eq!(framing.poll(0), Ok(None));
    }

    #[test]
    fn a_length_that_lies_ends_the_stream() {
        for (length, word) in [
            ("Content-Length: 18446744073709551615\r\n", "too long"),
            ("Content-Length: 99999999999999999999999\r\n", "too long"),
            ("l: 1001\r\n", "too long"),
            ("l: -1\r\n", "no number"),
            ("l: \r\n", "no number"),
            ("l: 1\r\nContent-Length: 1\r\n", "several"),
        ] {
            let (frames, lost) = cut(message(length, "").as_bytes(), 7);
            assert!(frames.is_empty());
            assert!(lost.is_some_and(|why| why.contains(word)), "{length}: {lost:?}");
        }
        let (_, lost) = cut(&[b'A'; MAX + 1], 100);
        assert!(lost.is_some_and(|why| why.contains("does not end")));
    }
}

//! A rejected m-line in the one form that the engine can carry from an offer into its answer.
//!
//! The engine drops m-lines that are neither audio nor video from its answer, and gives its audio transceiver to the
//! first audio m-line, rejected or not. So every such m-line is shown to it as a video m-line, and what it really is
//! travels in its mid, which the engine repeats: the way back needs no memory.

use crate::sdp::Section;

/// No endpoint's own mid begins so.
const PREFIX: &str = "siprtc!";

/// What a rejected m-line really is.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Rejected {
    pub(crate) media: String,
    pub(crate) proto: String,
    pub(crate) format: String,
    pub(crate) mid: Option<String>,
}

impl Rejected {
    pub(crate) fn of(section: &Section<'_>) -> Self {
        let line = section.media_line();
        Rejected {
            media: line.media.to_owned(),
            proto: line.proto.to_owned(),
            format: (*line.formats.first().unwrap_or(&"")).to_owned(),
            mid: section.attribute("mid").map(str::to_owned),
        }
    }

    /// The mid that stands for it in m-line number `index`; unique, because of the index.
    pub(crate) fn to_mid(&self, index: usize) -> String {
        let words = [
            &self.media,
            &self.proto,
            &self.format,
            self.mid.as_deref().unwrap_or_default(),
        ];
        words
            .iter()
            .fold(format!("{PREFIX}{index}"), |mid, word| mid + "!" + &escape(word))
    }

    pub(crate) fn from_mid(mid: &str) -> Option<Self> {
        let words: Vec<String> = mid
            .strip_prefix(PREFIX)?
            .split('!')
            .map(unescape)
            .collect::<Option<_>>()?;
        let [_, media, proto, format, mid] = <[String; 5]>::try_from(words).ok()?;
        Some(Rejected {
            media,
            proto,
            format,
            mid: Some(mid).filter(|mid| !mid.is_empty()),
        })
    }

    /// The m= line for the wire. At least one format must stand there, whichever (RFC 3264 section 6).
    pub(crate) fn media_line(&self) -> String {
        let format = if self.format.is_empty() { "0" } else { &self.format };
        let proto = if self.proto.is_empty() {
            "RTP/AVP"
        } else {
            &self.proto
        };
        format!(
            "m={} 0 {proto} {format}",
            if self.media.is_empty() {
                "audio"
            } else {
                &self.media
            }
        )
    }
}

/// A mid is a token (RFC 8866 section 9): whatever else stands in a word goes in as `%hh`.
fn escape(word: &str) -> String {
    word.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02x}")),
        }
        text
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    // A line end here would make two lines of one.
    String::from_utf8(bytes)
        .ok()
        .filter(|word| !word.contains(|c: char| c.is_control() || c.is_whitespace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rejected_line_is_survives_in_its_mid() {
        for mid in [None, Some("fax%1".to_owned())] {
            let line = Rejected {
                media: "message".to_owned(),
                proto: "TCP/MSRP".to_owned(),
                format: "*".to_owned(),
                mid,
            };
            let mid = line.to_mid(3);
            assert!(!mid.contains('/'), "{mid} is a token");
            assert_eq!(Rejected::from_mid(&mid), Some(line));
        }
    }

    #[test]
    fn a_mid_made_to_smuggle_a_line_in_is_no_disguise() {
        assert_eq!(Rejected::from_mid("siprtc!0!audio%0d%0aa=x!RTP%2fAVP!0!"), None);
        assert_eq!(Rejected::from_mid("siprtc!0!audio%+1!RTP%2fAVP!0!"), None);
    }
}

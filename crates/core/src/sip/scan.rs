//! The lexical rules that every header field shares (RFC 3261 section 25.1).

use crate::{Error, Fault};
use std::fmt::{self, Write};

/// The error of a text that breaks `rule` ("RFC 3261 section 20.20").
pub(super) fn malformed(message: impl Into<String>, rule: &'static str) -> Error {
    Error::new(Fault::PeerMisbehaved, "read SIP", message).advice(format!("see {rule}"))
}

/// `text` short enough for an error message and without control characters.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Without the blanks at both ends: only those that SIP knows.
pub(super) fn trim(text: &str) -> &str {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    // Most texts have none, and this is asked for every item of every field line.
    if !ends.iter().any(|octet| matches!(octet, Some(b' ' | b'\t'))) {
        return text;
    }
    text.trim_matches([' ', '\t'])
}

/// A quoted-string at the start of `text`: what is between its quotes, and what follows. `None` when `text` does not
/// begin with a quote or the quote is never closed.
pub(super) fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    for (index, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&inner[..index], &inner[index + 1..])),
            _ => {}
        }
    }
    None
}

/// What a quoted-string's inside means: `\x` is `x`.
pub(super) fn unescape(inner: &str) -> String {
    if !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.extend(chars.next()),
            char => plain.push(char),
        }
    }
    plain
}

/// Writes `text` as a quoted-string. A quoted-pair may hold any ASCII character but CR and LF (RFC 3261 section
/// 25.1); those two become blanks, for nothing that we print may begin a new line.
pub(super) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for char in text.chars() {
        match char {
            '\r' | '\n' => f.write_char(' ')?,
            '"' | '\\' => {
                f.write_char('\\')?;
                f.write_char(char)?;
            }
            '\t' => f.write_char(char)?,
            char if char.is_ascii_control() => {
                f.write_char('\\')?;
                f.write_char(char)?;
            }
            char => f.write_char(char)?,
        }
    }
    f.write_char('"')
}

/// Writes part of a URI as it is, but for what could end the URI or the line that carries it, and for `also`: those
/// are escaped.
pub(super) fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, also: &str) -> fmt::Result {
    for char in text.chars() {
        match char {
            '\0'..=' ' | '\x7f' | '<' | '>' => write!(f, "%{:02X}", char as u32)?,
            char if char.is_ascii() && also.contains(char) => write!(f, "%{:02X}", char as u32)?,
            char => f.write_char(char)?,
        }
    }
    Ok(())
}

/// Whether a URI may carry this: not what [`write_escaped`] escapes. A quote may not stand in one either, but
/// `sigcomp-id="urn:..."` is in use, and between angle brackets it ends nothing.
pub(super) fn is_uri_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'<' && byte != b'>'
}

/// Splits at `separator` outside of quoted-strings and angle brackets. An unclosed quote or bracket runs to the end:
/// whoever parses the item says so.
pub(super) fn split_outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = find_outside_quotes(text, separator);
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

fn find_outside_quotes(text: &str, separator: u8) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    let mut bracketed = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracketed => quoted = !quoted,
            _ if quoted => {}
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            _ if byte == separator && !bracketed => return Some(index),
            _ => {}
        }
    }
    None
}

/// An unsigned number of ASCII digits only (`parse` alone would take a sign).
pub(super) fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_string_ends_at_its_own_quote_and_not_at_an_escaped_one() {
        assert_eq!(split_quoted(r#""a \" b" <x>"#), Some((r#"a \" b"#, " <x>")));
        assert_eq!(
            split_quoted(r#""J Rosenberg \\\"" <x>"#),
            Some((r#"J Rosenberg \\\""#, " <x>"))
        );
        assert_eq!(split_quoted(r#""never closed \""#), None);
        assert_eq!(split_quoted("token"), None);
    }

    #[test]
    fn commas_inside_quotes_and_angle_brackets_do_not_split() {
        let items: Vec<&str> = split_outside_quotes(r#""a, b" <sip:c,d@e>;x="f,\",g", h"#, b',').collect();
        assert_eq!(items, [r#""a, b" <sip:c,d@e>;x="f,\",g""#, " h"]);
    }

    #[test]
    fn numbers_take_no_sign_and_no_blank() {
        assert_eq!(digits::<u8>("0068"), Some(68));
        assert_eq!(digits::<u8>("300"), None);
        assert_eq!(digits::<u32>("+1"), None);
        assert_eq!(digits::<u32>("-999"), None);
        assert_eq!(digits::<u32>(" 1"), None);
        assert_eq!(digits::<u32>(""), None);
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt("a\r\nb"), "a\\r\\nb");
        assert_eq!(excerpt(&"x".repeat(100)), format!("{}...", "x".repeat(60)));
    }
}

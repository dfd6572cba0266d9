//! `;name=value` parameters, as on URIs and header fields.

use super::scan::{
    excerpt, is_token, is_token_byte, malformed, split_quoted, trim, unescape, write_escaped, write_quoted,
};
use crate::Result;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;

/// Parameters in their order. Names compare without case; values keep their quotes off and get them back when needed.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Params(Vec<Param>);

/// A value remembers whether it came in quotes: `methods="INVITE"` may not be printed without them (RFC 3840 section
/// 9), and an odd tag that came without must go back without, or the peer would not know it again.
#[derive(Clone, Debug, Eq)]
struct Param {
    name: String,
    value: Option<String>,
    quoted: bool,
}

impl PartialEq for Param {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

impl Hash for Param {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.value.hash(state);
    }
}

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Params::default()
    }

    /// Parses `;a=b;c;d="e f"` (a leading `;` is optional, nothing is fine).
    ///
    /// # Errors
    /// An empty parameter, an unterminated quoted string, or characters that no parameter may have.
    pub fn parse(text: &str) -> Result<Self> {
        let mut params = Params::new();
        let text = trim(text);
        if text.is_empty() {
            return Ok(params);
        }
        let mut rest = text.strip_prefix(';').unwrap_or(text);
        loop {
            let (param, after) = next_param(rest)?;
            params.0.push(param);
            match after.strip_prefix(';') {
                Some(next) => rest = next,
                None => return Ok(params),
            }
        }
    }

    /// Parses a URI's parameters, where neither quotes nor blanks exist (RFC 3261 section 19.1.1).
    pub(super) fn parse_uri(text: &str) -> Result<Self> {
        let mut params = Params::new();
        for part in text.split(';') {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            if name.is_empty() {
                return Err(malformed(
                    "the URI has an empty parameter",
                    "RFC 3261 section 19.1.1",
                ));
            }
            params.0.push(Param {
                name: name.to_owned(),
                value: value.map(str::to_owned),
                quoted: false,
            });
        }
        Ok(params)
    }

    /// Whether the parameter is there, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value, unquoted; `None` when absent or without a value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(|param| param.value.as_deref())
    }

    /// Sets a parameter with a value, in place when it is there.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        let quoted = needs_quotes(&value);
        self.put(name, Some(value), quoted);
    }

    /// Sets a parameter whose value is printed in quotes even when it is a token, as the feature tags of RFC 3840
    /// want.
    pub fn set_quoted(&mut self, name: &str, value: impl Into<String>) {
        self.put(name, Some(value.into()), true);
    }

    /// Sets a parameter without a value (`lr`, `rport`).
    pub fn set_flag(&mut self, name: &str) {
        self.put(name, None, false);
    }

    /// Removes it, and says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|param| !param.name.eq_ignore_ascii_case(name));
        self.0.len() != before
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0
            .iter()
            .map(|param| (param.name.as_str(), param.value.as_deref()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them as a URI's: never quoted, and what may not stand there escaped, with the characters of `also`.
    pub(super) fn write_uri(&self, f: &mut fmt::Formatter<'_>, also: &str) -> fmt::Result {
        for param in &self.0 {
            f.write_char(';')?;
            write_escaped(f, &param.name, [";?=", also].concat().as_str())?;
            if let Some(value) = &param.value {
                f.write_char('=')?;
                write_escaped(f, value, [";?", also].concat().as_str())?;
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    fn put(&mut self, name: &str, value: Option<String>, quoted: bool) {
        match self
            .0
            .iter_mut()
            .find(|param| param.name.eq_ignore_ascii_case(name))
        {
            Some(param) => (param.value, param.quoted) = (value, quoted),
            None => self.0.push(Param {
                name: name.to_owned(),
                value,
                quoted,
            }),
        }
    }
}

/// `;a=b;c`, with quotes where a value is no token.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Param { name, value, quoted } in &self.0 {
            f.write_char(';')?;
            for char in name.chars() {
                f.write_char(if char.is_ascii() && !is_name_byte(char as u8) {
                    '_'
                } else {
                    char
                })?;
            }
            match value {
                Some(value) if *quoted => {
                    f.write_char('=')?;
                    write_quoted(f, value)?;
                }
                Some(value) => write!(f, "={value}")?,
                None => {}
            }
        }
        Ok(())
    }
}

fn next_param(text: &str) -> Result<(Param, &str)> {
    const RULE: &str = "RFC 3261 section 7.3.1";
    let end = text.find([';', '=']).unwrap_or(text.len());
    let name = trim(&text[..end]);
    if name.is_empty() {
        return Err(malformed("a parameter is empty", RULE));
    }
    if !name.bytes().all(is_name_byte) {
        return Err(malformed(format!("{} is no parameter name", excerpt(name)), RULE));
    }
    let name = name.to_owned();
    let Some(after) = text[end..].strip_prefix('=') else {
        return Ok((
            Param {
                name,
                value: None,
                quoted: false,
            },
            &text[end..],
        ));
    };
    let after = after.trim_start_matches([' ', '\t']);
    if after.starts_with('"') {
        let Some((inner, rest)) = split_quoted(after) else {
            return Err(malformed(
                format!("the quoted string of parameter {name} is not terminated"),
                RULE,
            ));
        };
        let rest = trim(rest);
        if !rest.is_empty() && !rest.starts_with(';') {
            return Err(malformed(
                format!("{} follows the value of parameter {name}", excerpt(rest)),
                RULE,
            ));
        }
        return Ok((
            Param {
                name,
                value: Some(unescape(inner)),
                quoted: true,
            },
            rest,
        ));
    }
    let end = after.find(';').unwrap_or(after.len());
    let value = trim(&after[..end]);
    if !value.bytes().all(is_bare_byte) {
        return Err(malformed(
            format!("{} is no value for parameter {name}", excerpt(value)),
            RULE,
        ));
    }
    Ok((
        Param {
            name,
            value: Some(value.to_owned()),
            quoted: false,
        },
        &after[end..],
    ))
}

/// A token's bytes, and those of a URI's parameter names.
fn is_name_byte(byte: u8) -> bool {
    is_token_byte(byte) || b"[]/:&+$".contains(&byte)
}

/// More than a token's or a host's bytes, because tags and branches that break the rule are in use; never what would
/// end the value somewhere else.
fn is_bare_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b"\",;<>\\".contains(&byte)
}

/// gen-value is a token, a host or a quoted-string; RFC 5118 section 4.5 asks to leave IPv6 addresses bare.
fn needs_quotes(value: &str) -> bool {
    let address = value
        .strip_prefix('[')
        .and_then(|v| v.strip_suffix(']'))
        .unwrap_or(value);
    !is_token(value) && address.parse::<Ipv6Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_come_off_and_go_back_on() {
        let params = Params::parse(r#" ;a=b ; c;D = "e \"f\"" "#).unwrap();
        assert_eq!(params.value("A"), Some("b"));
        assert!(params.contains("c"));
        assert_eq!(params.value("c"), None);
        assert_eq!(params.value("d"), Some(r#"e "f""#));
        assert_eq!(params.to_string(), r#";a=b;c;D="e \"f\"""#);
    }

    #[test]
    fn a_value_is_printed_as_it_came_when_it_came_from_outside() {
        for text in [
            r#";methods="INVITE""#,
            ";tag=a/b@c",
            ";received=2001:db8::9:255",
            ";lr=",
        ] {
            assert_eq!(Params::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_value_that_is_set_gets_quotes_only_when_it_needs_them() {
        let mut params = Params::new();
        params.set("tag", "abc");
        params.set("received", "2001:db8::1");
        params.set("text", "a b");
        params.set_quoted("methods", "INVITE");
        params.set_flag("lr");
        assert_eq!(
            params.to_string(),
            r#";tag=abc;received=2001:db8::1;text="a b";methods="INVITE";lr"#
        );
        assert!(params.remove("TEXT"));
        assert!(!params.remove("TEXT"));
    }

    #[test]
    fn empty_parameters_and_open_quotes_are_errors() {
        for text in [
            ";;",
            ";a;",
            ";=b",
            r#";a="b"#,
            r#";a="b"c"#,
            ";a=b c",
            ";a=b,c",
            ";a=<b>",
        ] {
            assert!(Params::parse(text).is_err(), "{text}");
        }
        assert!(Params::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_value_cannot_begin_a_new_line() {
        let mut params = Params::new();
        params.set("tag", "a\r\nEvil: yes");
        params.set_flag("x\r\nEvil: yes");
        assert!(!params.to_string().contains(['\r', '\n']));
    }
}

//! `"Display" <uri>;params`: From, To, Contact, Route, Record-Route and their like.

use super::scan::{digits, excerpt, malformed, split_quoted, trim, unescape, write_quoted};
use super::{Params, Uri};
use crate::Result;
use std::fmt;
use std::str::FromStr;

/// A name-addr or addr-spec with header parameters (RFC 3261 section 20.10).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NameAddr {
    /// The display name, unquoted.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Header parameters: `tag`, `expires`, `q`, `+sip.instance`, `reg-id` ...
    pub params: Params,
}

impl NameAddr {
    /// `<uri>`.
    pub fn new(uri: impl Into<Uri>) -> Self {
        NameAddr {
            display: None,
            uri: uri.into(),
            params: Params::new(),
        }
    }

    /// The `tag` of a From or To.
    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag")
    }

    /// With a `tag`.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.params.set("tag", tag);
        self
    }

    /// With a display name.
    #[must_use]
    pub fn with_display(mut self, display: impl Into<String>) -> Self {
        self.display = Some(display.into());
        self
    }

    /// The `expires` of a Contact, in seconds.
    pub fn expires(&self) -> Option<u32> {
        self.params.value("expires").and_then(digits)
    }

    /// `+sip.instance` (RFC 5626 section 4.1), without its angle brackets.
    pub fn instance(&self) -> Option<&str> {
        self.params
            .value("+sip.instance")
            .map(|v| v.trim_start_matches('<').trim_end_matches('>'))
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write_quoted(f, display)?;
            f.write_str(" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

const RULE: &str = "RFC 3261 section 20.10";

impl FromStr for NameAddr {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let Parts {
            display,
            uri,
            is_bare,
            params,
        } = Parts::of(s)?;
        let address: Uri = uri.parse()?;
        if is_bare && (uri.contains(',') || address.as_sip().is_some_and(|uri| uri.headers.is_some())) {
            let message = format!("the URI {uri} has a ? or a comma and must be enclosed in <>");
            return Err(malformed(message, RULE));
        }
        Ok(NameAddr {
            display,
            uri: address,
            params: Params::parse(params)?,
        })
    }
}

/// The `tag` of a From or To, whatever its address is; empty where there is none.
pub(super) fn tag_of(text: &str) -> Result<String> {
    let params = Params::parse(Parts::of(text)?.params)?;
    Ok(params.value("tag").unwrap_or_default().to_owned())
}

/// What a name-addr or addr-spec is made of.
struct Parts<'a> {
    display: Option<String>,
    uri: &'a str,
    /// The URI has no <>: parameters after it are the header field's, and it may have no headers.
    is_bare: bool,
    params: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self> {
        let text = trim(text);
        if text.starts_with('"') {
            let (display, rest) = split_quoted(text).ok_or_else(|| {
                malformed(
                    format!("the quoted display name of {} is not terminated", excerpt(text)),
                    RULE,
                )
            })?;
            return in_brackets(Some(unescape(display)), trim(rest), text);
        }
        // In an addr-spec without <>, a `<` can only stand inside a parameter.
        match text.find(['<', ';']) {
            Some(bracket) if text[bracket..].starts_with('<') => {
                let display = plain_display(trim(&text[..bracket]))?;
                in_brackets(display, &text[bracket..], text)
            }
            bracket => {
                let end = bracket.unwrap_or(text.len());
                Ok(Parts {
                    display: None,
                    uri: trim(&text[..end]),
                    is_bare: true,
                    params: &text[end..],
                })
            }
        }
    }
}

/// `<uri>;params`, after the display name.
fn in_brackets<'a>(display: Option<String>, text: &'a str, whole: &str) -> Result<Parts<'a>> {
    let Some((uri, params)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        let message = format!("{} has a display name, but no URI in <> after it", excerpt(whole));
        return Err(malformed(message, RULE));
    };
    let params = trim(params);
    if !params.is_empty() && !params.starts_with(';') {
        return Err(malformed(
            format!("{} follows the address {}", excerpt(params), excerpt(uri)),
            RULE,
        ));
    }
    Ok(Parts {
        display,
        uri,
        is_bare: false,
        params,
    })
}

/// Tokens and blanks; other characters are let through as long as nobody can read them in another way.
fn plain_display(text: &str) -> Result<Option<String>> {
    if let Some(odd) = text
        .chars()
        .find(|char| char.is_control() || ",;:<>@".contains(*char))
    {
        let message = format!(
            "the display name {} has the character {odd:?} in it and is not quoted: it may only be tokens",
            excerpt(text)
        );
        return Err(malformed(message, RULE));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// What the Contact header fields of a message say together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Contacts {
    /// `Contact: *`, in a REGISTER that removes every binding.
    All,
    /// The contacts in order, none when the message has no Contact.
    List(Vec<NameAddr>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_addr(text: &str) -> NameAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_quoted_display_name_keeps_commas_brackets_and_escapes() {
        let addr = name_addr(r#""Bell, \"A.\" <x>" <sip:a@example.com;lr>;tag=1"#);
        assert_eq!(addr.display.as_deref(), Some(r#"Bell, "A." <x>"#));
        assert_eq!(addr.uri.to_string(), "sip:a@example.com;lr");
        assert_eq!(addr.tag(), Some("1"));
        assert_eq!(
            addr.to_string(),
            r#""Bell, \"A.\" <x>" <sip:a@example.com;lr>;tag=1"#
        );
    }

    #[test]
    fn a_display_name_of_tokens_needs_no_quotes_and_no_blank_before_the_bracket() {
        assert_eq!(
            name_addr("caller<sip:c@example.com>").display.as_deref(),
            Some("caller")
        );
        assert_eq!(
            name_addr("A. Bell <sip:c@example.com>").display.as_deref(),
            Some("A. Bell")
        );
        assert_eq!(name_addr("<sip:c@example.com>").display, None);
        assert_eq!(
            name_addr(r#"\"user\" <sip:c@example.com>"#).to_string(),
            r#""\\\"user\\\"" <sip:c@example.com>"#
        );
        assert_eq!(name_addr(r#"""<sip:c@example.com>"#).display.as_deref(), Some(""));
    }

    #[test]
    fn parameters_after_a_bare_address_belong_to_the_header_field() {
        let addr = name_addr("sip:u@example.com ;  tag   = 77;user=phone");
        assert!(addr.uri.as_sip().unwrap().params.is_empty());
        assert_eq!(addr.tag(), Some("77"));
        assert_eq!(addr.params.value("user"), Some("phone"));
    }

    #[test]
    fn a_tag_is_the_same_whether_the_address_is_read_or_not() {
        for text in [
            "<sip:a@h>;tag=1",
            "<sip:a@h>",
            "sip:a@h;tag=2",
            "sip:a@h",
            r#""Bell <sip:x>;tag=0" <sip:a@h;tag=9>;x=y;TAG=3"#,
            "Bell <sip:a@h>;tag",
        ] {
            assert_eq!(
                tag_of(text).unwrap(),
                name_addr(text).tag().unwrap_or_default(),
                "{text}"
            );
        }
        for text in [
            r#""Bell <sip:a@h>;tag=1"#,
            "<sip:a@h;tag=1",
            "<sip:a@h> tag=1",
            "sip:a@h;;",
        ] {
            assert!(
                tag_of(text).is_err() && text.parse::<NameAddr>().is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn an_instance_id_may_hold_angle_brackets_and_stand_on_a_bare_address() {
        let urn = "urn:uuid:00000000-0000-1000-8000-000A95A0E128";
        let quoted = name_addr(&format!(
            r#"<sip:u@h>;reg-id=1;+sip.instance="<{urn}>";expires=60"#
        ));
        assert_eq!(quoted.instance(), Some(urn));
        assert_eq!(quoted.expires(), Some(60));
        assert!(
            quoted
                .to_string()
                .contains(&format!(r#"+sip.instance="<{urn}>""#))
        );
        assert_eq!(
            name_addr(&format!(r#"sip:u@h;+sip.instance="<{urn}>""#)).instance(),
            Some(urn)
        );
    }

    #[test]
    fn other_schemes_pass_through_as_written() {
        assert_eq!(
            name_addr("<tel:+1-201-555-0123;phone-context=x>;q=0.5")
                .uri
                .to_string(),
            "tel:+1-201-555-0123;phone-context=x"
        );
        assert_eq!(
            name_addr("isbn:2983792873").uri,
            Uri::Other("isbn:2983792873".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            (r#""Mr. J. User <sip:j@example.com>"#, "not terminated"),
            ("Bell, Alexander <sip:a@example.com>", "','"),
            (r#""W" < sip:t@example.org >"#, "white space"),
            ("sip:user@example.com?Route=x", "enclosed in <>"),
            (r#""Bob" sip:bob@example.com"#, "no URI in <>"),
            ("<sip:bob@example.com", "no URI in <>"),
            ("<sip:bob@example.com> x", "follows"),
            ("alan@example.com", "no scheme"),
            ("", "no scheme"),
        ] {
            let error = text.parse::<NameAddr>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn an_expires_that_is_no_number_of_seconds_is_none() {
        assert_eq!(name_addr("<sip:u@h>;expires=280297596632815").expires(), None);
        assert_eq!(name_addr("<sip:u@h>;expires=-1").expires(), None);
    }
}

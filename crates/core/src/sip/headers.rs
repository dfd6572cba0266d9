//! An order-keeping header list with lazily parsed typed accessors.

use super::scan::{split_outside_quotes, trim};
use std::borrow::Cow;
use std::fmt;

/// A header field's name: compares without case, and a compact form equals its long one (RFC 3261 section 7.3.3);
/// written as it came.
#[derive(Clone, Debug)]
pub struct HeaderName(Cow<'static, str>);

impl HeaderName {
    /// A name known at compile time.
    pub const fn from_static(name: &'static str) -> Self {
        HeaderName(Cow::Borrowed(name))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The long form when this is a compact one (`v` is `Via`), else as written.
    pub fn canonical(&self) -> &str {
        long_form(&self.0)
    }

    /// Compares with a name, without case and with compact forms resolved.
    #[inline]
    pub fn is(&self, name: &str) -> bool {
        // Names of one length are equal as they are or not at all: this is asked for every field line of every message.
        if self.0.len() == name.len() {
            return self.0.as_ref() == name || self.0.eq_ignore_ascii_case(name);
        }
        (self.0.len() == 1 || name.len() == 1) && long_form(&self.0).eq_ignore_ascii_case(long_form(name))
    }
}

/// RFC 3261 section 7.3.3 and the registry since.
fn long_form(name: &str) -> &str {
    let &[letter] = name.as_bytes() else { return name };
    match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => name,
    }
}

/// Names that most messages carry: they cost no allocation.
const USUAL: [&str; 28] = [
    "Accept",
    "Allow",
    "Authorization",
    "CSeq",
    "Call-ID",
    "Contact",
    "Content-Length",
    "Content-Type",
    "Date",
    "Event",
    "Expires",
    "From",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Reason",
    "Record-Route",
    "Require",
    "Route",
    "Server",
    "Session-Expires",
    "Supported",
    "To",
    "User-Agent",
    "Via",
    "WWW-Authenticate",
];

impl From<&str> for HeaderName {
    fn from(name: &str) -> Self {
        match USUAL.iter().find(|usual| **usual == name) {
            Some(usual) => HeaderName::from_static(usual),
            None => HeaderName(Cow::Owned(name.to_owned())),
        }
    }
}

impl From<String> for HeaderName {
    fn from(name: String) -> Self {
        HeaderName(Cow::Owned(name))
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.as_str())
    }
}

impl Eq for HeaderName {}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn split_list(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    split_outside_quotes(value, separator)
        .map(trim)
        .filter(|item| !item.is_empty())
}

/// What separates the items of a field line: a comma, or a line end, which no value holds.
fn separator(name: &str) -> u8 {
    let name = long_form(name);
    if SINGLE.iter().any(|single| single.eq_ignore_ascii_case(name)) {
        b'\n'
    } else {
        b','
    }
}

/// Header fields in which a comma separates nothing.
const SINGLE: [&str; 29] = [
    "Authorization",
    "Authentication-Info",
    "CSeq",
    "Call-ID",
    "Content-Disposition",
    "Content-Length",
    "Content-Type",
    "Date",
    "Event",
    "Expires",
    "From",
    "Identity",
    "MIME-Version",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "Organization",
    "Priority",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Referred-By",
    "Replaces",
    "Retry-After",
    "Server",
    "Subject",
    "Timestamp",
    "To",
    "User-Agent",
    "WWW-Authenticate",
];

/// Header fields in their order. Unknown ones pass through untouched.
///
/// Values are unfolded, trimmed text. A typed accessor parses when it is called; its error names the header field and
/// what is wrong with it. One field line may carry several comma-separated values: the list accessors see them all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<(HeaderName, String)>);

impl Headers {
    /// None.
    pub fn new() -> Self {
        Headers::default()
    }

    /// Appends a field line.
    pub fn push(&mut self, name: impl Into<HeaderName>, value: impl fmt::Display) {
        self.0.push((name.into(), value.to_string()));
    }

    /// Appends a field line that needs no printing.
    pub(super) fn append(&mut self, name: HeaderName, value: String) {
        self.0.push((name, value));
    }

    /// The last field line.
    pub(super) fn last_mut(&mut self) -> Option<(&HeaderName, &mut String)> {
        self.0.last_mut().map(|(name, value)| (&*name, value))
    }

    /// Puts a field line before all others.
    pub fn push_front(&mut self, name: impl Into<HeaderName>, value: impl fmt::Display) {
        self.0.insert(0, (name.into(), value.to_string()));
    }

    /// Replaces every field line of this name by one, at the place of the first.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl fmt::Display) {
        let name = name.into();
        let value = value.to_string();
        match self.0.iter().position(|(n, _)| *n == name) {
            Some(first) => {
                self.0[first].1 = value;
                let mut index = 0;
                self.0.retain(|(n, _)| {
                    index += 1;
                    index - 1 <= first || *n != name
                });
            }
            None => self.0.push((name, value)),
        }
    }

    /// Puts `value` in the place of the first item of this name; what else stands on its field line stays. Says whether
    /// there was one.
    pub fn replace_first(&mut self, name: &str, value: impl fmt::Display) -> bool {
        let separator = separator(name);
        let lines = self.0.iter_mut().filter(|(n, _)| n.is(name)).map(|(_, v)| v);
        for line in lines {
            let rest = {
                let mut items = split_list(line, separator);
                match items.next() {
                    None => continue,
                    Some(_) => items.collect::<Vec<_>>().join(", "),
                }
            };
            *line = value.to_string();
            if !rest.is_empty() {
                line.push_str(", ");
                line.push_str(&rest);
            }
            return true;
        }
        false
    }

    /// Removes every field line of this name and says how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.0.len();
        self.0.retain(|(n, _)| !n.is(name));
        before - self.0.len()
    }

    /// The first field line's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.is(name)).map(|(_, v)| v.as_str())
    }

    /// Every field line's value of this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.is(name))
            .map(|(_, v)| v.as_str())
    }

    /// Every comma-separated item of this name's field lines, commas inside quotes and angle brackets kept.
    ///
    /// Header fields in which a comma separates nothing (Authorization and its kin, Call-ID, CSeq, Date, From,
    /// Organization, Retry-After, Server, Subject, To, User-Agent and every other that holds one value) come whole, a
    /// field line each. Of an unknown one the comma is taken for a separator.
    pub fn items(&self, name: &str) -> Vec<&str> {
        let separator = separator(name);
        let lines = self.0.iter().filter(|(n, _)| n.is(name));
        lines
            .flat_map(|(_, value)| split_list(value, separator))
            .collect()
    }

    /// As [`Headers::items`], one by one: who wants the first need not split the others.
    pub(super) fn split_items<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let separator = separator(name);
        self.values(name)
            .flat_map(move |value| split_list(value, separator))
    }

    /// Whether a list header (Supported, Require, Allow ...) carries `token`, without case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.items(name)
            .iter()
            .any(|item| item.eq_ignore_ascii_case(token))
    }

    /// Whether a field of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// All field lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.0.iter().map(|(n, v)| (n, v.as_str()))
    }

    /// How many field lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies every field line of this name from `other`, in order.
    pub fn copy_from(&mut self, other: &Headers, name: &str) {
        for (n, v) in other.0.iter().filter(|(n, _)| n.is(name)) {
            self.0.push((n.clone(), v.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_with_their_compact_forms() {
        let name = HeaderName::from("v");
        assert_eq!(name.as_str(), "v");
        assert_eq!(name.canonical(), "Via");
        assert!(name.is("VIA") && name.is("V") && HeaderName::from("via").is("v"));
        assert!(!name.is("Vi") && !name.is("f"));
        assert_eq!(HeaderName::from("I"), HeaderName::from("call-id"));
    }

    #[test]
    fn the_first_item_is_replaced_and_the_others_stay() {
        let mut headers = Headers::new();
        headers.push("Via", "");
        headers.push("v", "a;x=\",\" , b,c");
        headers.push("Via", "d");
        assert!(headers.replace_first("Via", "A, and more"));
        assert_eq!(headers.items("Via"), ["A", "and more", "b", "c", "d"]);
        assert!(headers.replace_first("Via", 1) && !headers.replace_first("Route", 1));
        assert_eq!(headers.items("Via").len(), 5);
    }

    #[test]
    fn items_of_all_field_lines_come_in_order() {
        let mut headers = Headers::new();
        headers.push("Supported", "100rel, timer");
        headers.push("Subject", "a, b");
        headers.push("k", " path ,, outbound");
        headers.push("Supported", "");
        assert_eq!(
            headers.items("supported"),
            ["100rel", "timer", "path", "outbound"]
        );
        assert!(headers.has_token("k", "TIMER"));
        assert!(!headers.has_token("k", "tim"));
        assert_eq!(headers.items("s"), ["a, b"]);
        assert!(headers.items("Require").is_empty());
    }

    #[test]
    fn set_replaces_every_line_at_the_place_of_the_first() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("a-a", "1"),
            ("v", "2"),
            ("b-b", "3"),
            ("Via", "4"),
            ("c-c", "5"),
            ("VIA", "6"),
        ] {
            headers.push(name, value);
        }
        headers.set("via", "7");
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        assert_eq!(lines, [("a-a", "1"), ("v", "7"), ("b-b", "3"), ("c-c", "5")]);
        headers.set("d-d", "8");
        headers.push_front("e-e", 9);
        assert_eq!(
            (headers.len(), headers.value("D-D"), headers.value("E-E")),
            (6, Some("8"), Some("9"))
        );
        assert_eq!(headers.remove("v"), 1);
        assert!(!headers.contains("Via"));
    }

    #[test]
    fn copying_keeps_the_order_and_the_way_the_names_are_written() {
        let mut from = Headers::new();
        from.push("v", "1");
        from.push("To", "x");
        from.push("VIA", "2");
        let mut to = Headers::new();
        to.copy_from(&from, "Via");
        assert_eq!(
            to.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["v", "VIA"]
        );
        assert_eq!(to.values("via").collect::<Vec<_>>(), ["1", "2"]);
    }
}

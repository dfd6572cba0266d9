//! An order-keeping header list with lazily parsed typed accessors.

use super::{CSeq, Challenge, Contacts, Credentials, NameAddr, SessionExpires, SipUri, Via};
use crate::Result;
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
        unimplemented!()
    }

    /// Compares with a name, without case and with compact forms resolved.
    pub fn is(&self, name: &str) -> bool {
        let _ = name;
        unimplemented!()
    }
}

impl From<&str> for HeaderName {
    fn from(name: &str) -> Self {
        HeaderName(Cow::Owned(name.to_owned()))
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
        self.0.iter().filter(move |(n, _)| n.is(name)).map(|(_, v)| v.as_str())
    }

    /// Every comma-separated item of this name's field lines, commas inside quotes and angle brackets kept.
    pub fn items(&self, name: &str) -> Vec<&str> {
        let _ = name;
        unimplemented!()
    }

    /// Whether a list header (Supported, Require, Allow ...) carries `token`, without case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.items(name).iter().any(|item| item.eq_ignore_ascii_case(token))
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

    /// `Call-ID`.
    pub fn call_id(&self) -> Result<&str> {
        unimplemented!()
    }

    /// `From`.
    pub fn from(&self) -> Result<NameAddr> {
        unimplemented!()
    }

    /// `To`.
    pub fn to(&self) -> Result<NameAddr> {
        unimplemented!()
    }

    /// `CSeq`.
    pub fn cseq(&self) -> Result<CSeq> {
        unimplemented!()
    }

    /// All Via values, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>> {
        unimplemented!()
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via> {
        unimplemented!()
    }

    /// The Contact header fields together.
    pub fn contacts(&self) -> Result<Contacts> {
        unimplemented!()
    }

    /// The first contact's SIP URI: the remote target of a dialog (RFC 3261 section 12.1).
    pub fn contact_uri(&self) -> Result<SipUri> {
        unimplemented!()
    }

    /// Route values in order.
    pub fn routes(&self) -> Result<Vec<NameAddr>> {
        unimplemented!()
    }

    /// Record-Route values in order.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>> {
        unimplemented!()
    }

    /// `Content-Length`, `None` when absent.
    pub fn content_length(&self) -> Result<Option<usize>> {
        unimplemented!()
    }

    /// `Content-Type` without parameters, in lower case; `None` when absent.
    pub fn content_type(&self) -> Option<String> {
        unimplemented!()
    }

    /// `Expires` in seconds, `None` when absent.
    pub fn expires(&self) -> Result<Option<u32>> {
        unimplemented!()
    }

    /// `Min-Expires` in seconds, `None` when absent.
    pub fn min_expires(&self) -> Result<Option<u32>> {
        unimplemented!()
    }

    /// `Max-Forwards`, `None` when absent.
    pub fn max_forwards(&self) -> Result<Option<u8>> {
        unimplemented!()
    }

    /// `Retry-After` in seconds (comment and parameters ignored), `None` when absent.
    pub fn retry_after(&self) -> Result<Option<u32>> {
        unimplemented!()
    }

    /// `Session-Expires` (RFC 4028), `None` when absent.
    pub fn session_expires(&self) -> Result<Option<SessionExpires>> {
        unimplemented!()
    }

    /// `Min-SE` in seconds (RFC 4028), `None` when absent.
    pub fn min_se(&self) -> Result<Option<u32>> {
        unimplemented!()
    }

    /// `WWW-Authenticate` values that are Digest challenges; other schemes are skipped.
    pub fn www_challenges(&self) -> Result<Vec<Challenge>> {
        unimplemented!()
    }

    /// `Proxy-Authenticate` values that are Digest challenges; other schemes are skipped.
    pub fn proxy_challenges(&self) -> Result<Vec<Challenge>> {
        unimplemented!()
    }

    /// `Authorization` values that are Digest credentials; other schemes are skipped.
    pub fn authorizations(&self) -> Result<Vec<Credentials>> {
        unimplemented!()
    }

    /// `Proxy-Authorization` values that are Digest credentials; other schemes are skipped.
    pub fn proxy_authorizations(&self) -> Result<Vec<Credentials>> {
        unimplemented!()
    }
}

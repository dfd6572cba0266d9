//! `"Display" <uri>;params`: From, To, Contact, Route, Record-Route and their like.

use super::{Params, Uri};
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
        NameAddr { display: None, uri: uri.into(), params: Params::new() }
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
        self.params.value("expires").and_then(|value| value.parse().ok())
    }

    /// `+sip.instance` (RFC 5626 section 4.1), without its angle brackets.
    pub fn instance(&self) -> Option<&str> {
        self.params.value("+sip.instance").map(|v| v.trim_start_matches('<').trim_end_matches('>'))
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl FromStr for NameAddr {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
    }
}

/// What the Contact header fields of a message say together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Contacts {
    /// `Contact: *`, in a REGISTER that removes every binding.
    All,
    /// The contacts in order, none when the message has no Contact.
    List(Vec<NameAddr>),
}

//! SIP methods.

use super::scan::{excerpt, is_token, malformed};
use std::fmt;
use std::str::FromStr;

/// A SIP method; the set is open (RFC 3261 section 7.1).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Method {
    /// RFC 3261.
    Ack,
    /// RFC 3261.
    Bye,
    /// RFC 3261.
    Cancel,
    /// RFC 6086.
    Info,
    /// RFC 3261.
    Invite,
    /// RFC 3428.
    Message,
    /// RFC 6665.
    Notify,
    /// RFC 3261.
    Options,
    /// Any other token, case kept: methods are case-sensitive.
    Other(String),
    /// RFC 3262.
    Prack,
    /// RFC 3903.
    Publish,
    /// RFC 3515.
    Refer,
    /// RFC 3261.
    Register,
    /// RFC 6665.
    Subscribe,
    /// RFC 3311.
    Update,
}

impl Method {
    /// As on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Info => "INFO",
            Method::Invite => "INVITE",
            Method::Message => "MESSAGE",
            Method::Notify => "NOTIFY",
            Method::Options => "OPTIONS",
            Method::Other(name) => name,
            Method::Prack => "PRACK",
            Method::Publish => "PUBLISH",
            Method::Refer => "REFER",
            Method::Register => "REGISTER",
            Method::Subscribe => "SUBSCRIBE",
            Method::Update => "UPDATE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = crate::Error;

    /// Accepts any token (RFC 3261 section 25.1).
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match s {
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "INFO" => Method::Info,
            "INVITE" => Method::Invite,
            "MESSAGE" => Method::Message,
            "NOTIFY" => Method::Notify,
            "OPTIONS" => Method::Options,
            "PRACK" => Method::Prack,
            "PUBLISH" => Method::Publish,
            "REFER" => Method::Refer,
            "REGISTER" => Method::Register,
            "SUBSCRIBE" => Method::Subscribe,
            "UPDATE" => Method::Update,
            other if is_token(other) => Method::Other(other.to_owned()),
            other => {
                let message = format!("{} is no method: a method is a token", excerpt(other));
                return Err(malformed(message, "RFC 3261 section 7.1"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive_and_open() {
        assert_eq!("INVITE".parse::<Method>().unwrap(), Method::Invite);
        assert_eq!(
            "invite".parse::<Method>().unwrap(),
            Method::Other("invite".to_owned())
        );
        assert_eq!(
            "RE%47IST%45R".parse::<Method>().unwrap().to_string(),
            "RE%47IST%45R"
        );
    }

    #[test]
    fn every_known_method_comes_back_from_its_name() {
        let all =
            "ACK BYE CANCEL INFO INVITE MESSAGE NOTIFY OPTIONS PRACK PUBLISH REFER REGISTER SUBSCRIBE UPDATE";
        for name in all.split(' ') {
            let method: Method = name.parse().unwrap();
            assert!(!matches!(method, Method::Other(_)), "{name}");
            assert_eq!(method.as_str(), name);
        }
    }

    #[test]
    fn what_is_no_token_is_no_method() {
        for text in ["", "IN VITE", "INVITE\r\n", "a/b", "é"] {
            assert!(text.parse::<Method>().is_err(), "{text:?}");
        }
    }
}

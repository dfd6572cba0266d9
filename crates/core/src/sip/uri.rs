//! SIP and other URIs (RFC 3261 section 19.1).

use super::host::parse_host_port;
use super::scan::{excerpt, is_uri_byte, malformed, write_escaped};
use super::{Host, Params, Transport, equivalence};
use crate::Result;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::str::FromStr;

/// A `sip:` or `sips:` URI. Equality is by component, as written; [`SipUri::is_equivalent`] is RFC 3261's.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    /// The user part with its escapes as written, without a password.
    pub user: Option<String>,
    /// The password, if somebody still writes one.
    pub password: Option<String>,
    /// The host.
    pub host: Host,
    /// The port, if written.
    pub port: Option<u16>,
    /// `;transport=tcp;lr` ...
    pub params: Params,
    /// What follows `?`, as written.
    pub headers: Option<String>,
}

impl SipUri {
    /// `sip:host`.
    pub fn new(host: Host) -> Self {
        SipUri {
            secure: false,
            user: None,
            password: None,
            host,
            port: None,
            params: Params::new(),
            headers: None,
        }
    }

    /// `sip:192.0.2.1:5060`.
    pub fn from_addr(addr: SocketAddr) -> Self {
        SipUri {
            port: Some(addr.port()),
            ..SipUri::new(Host::Ip(addr.ip()))
        }
    }

    /// With a user part; what may not stand there is escaped.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        let mut escaped = String::with_capacity(user.len());
        for byte in user.bytes() {
            match byte {
                byte if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) => {
                    escaped.push(byte as char);
                }
                byte => escaped.push_str(&format!("%{byte:02X}")),
            }
        }
        self.user = Some(escaped);
        self
    }

    /// With `;transport=`.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.params
            .set("transport", transport.as_str().to_ascii_lowercase());
        self
    }

    /// The `transport` parameter, if it is one that we know.
    pub fn transport(&self) -> Option<Transport> {
        self.params.value("transport").and_then(Transport::from_name)
    }

    /// The transport that a request to this URI asks for: its `transport` parameter, `sips:` meaning TLS below it
    /// (RFC 5630 section 3.1.3, RFC 7118 section 5.2); UDP when nothing is said (RFC 3263 section 4.1).
    pub fn hop_transport(&self) -> Transport {
        match (self.secure, self.transport()) {
            (true, None | Some(Transport::Tcp)) => Transport::Tls,
            (true, Some(Transport::Ws)) => Transport::Wss,
            (_, Some(transport)) => transport,
            (false, None) => Transport::Udp,
        }
    }

    /// Loose routing (RFC 3261 section 16.12).
    pub fn is_loose_router(&self) -> bool {
        self.params.contains("lr")
    }

    /// The user part with its escapes resolved.
    pub fn decoded_user(&self) -> Option<String> {
        let user = self.user.as_deref()?;
        Some(String::from_utf8_lossy(&equivalence::decode(user, |_| true)).into_owned())
    }

    /// The address when the host is one; the port defaults to 5060, or 5061 for `sips:` and TLS.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let Host::Ip(ip) = self.host else { return None };
        Some(SocketAddr::new(ip, self.port.unwrap_or(self.default_port())))
    }

    /// 5060, or 5061 for `sips:` and TLS.
    pub fn default_port(&self) -> u16 {
        if self.secure || self.transport() == Some(Transport::Tls) {
            5061
        } else {
            5060
        }
    }

    /// `sip:user@host[:port]`: what registrars and accounts call an address-of-record (RFC 3261 section 10.3 step 5).
    #[must_use]
    pub fn address_of_record(&self) -> SipUri {
        SipUri {
            params: Params::new(),
            headers: None,
            password: None,
            ..self.clone()
        }
    }

    /// RFC 3261 section 19.1.4.
    pub fn is_equivalent(&self, other: &SipUri) -> bool {
        equivalence::same_uri(self, other)
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            write_escaped(f, user, "\":@")?;
            if let Some(password) = &self.password {
                f.write_char(':')?;
                write_escaped(f, password, "\"@")?;
            }
            f.write_char('@')?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        // The first @ ends the user part: without one, no other may appear.
        let also = if self.user.is_some() { "" } else { "@" };
        self.params.write_uri(f, also)?;
        match &self.headers {
            Some(headers) => {
                f.write_char('?')?;
                write_escaped(f, headers, also)
            }
            None => Ok(()),
        }
    }
}

impl FromStr for SipUri {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = split_scheme(s)?;
        parse_known(scheme, rest).unwrap_or_else(|| {
            Err(
                malformed(format!("{} is no SIP URI scheme", excerpt(scheme)), RULE)
                    .advice("write it as sip:user@host or sips:user@host"),
            )
        })
    }
}

const RULE: &str = "RFC 3261 section 19.1.1";

/// The scheme, and what follows its colon; no URI has blanks or angle brackets.
fn split_scheme(s: &str) -> Result<(&str, &str)> {
    if s.starts_with('<') {
        return Err(malformed(
            format!("the URI {} is enclosed in <>", excerpt(s)),
            RULE,
        ));
    }
    if let Some(byte) = s.bytes().find(|byte| !is_uri_byte(*byte)) {
        let what = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => "white space".to_owned(),
            byte => format!("the character {:?}", byte as char),
        };
        return Err(malformed(
            format!("the URI \"{}\" has {what} in it", excerpt(s)),
            RULE,
        ));
    }
    let no_scheme = || {
        malformed(format!("\"{}\" is no URI: it has no scheme", excerpt(s)), RULE)
            .advice("write it as sip:user@host")
    };
    let (scheme, rest) = s.split_once(':').ok_or_else(no_scheme)?;
    let letters = scheme
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !letters || !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || rest.is_empty() {
        return Err(no_scheme());
    }
    Ok((scheme, rest))
}

/// `None`: a scheme that is not SIP's.
fn parse_known(scheme: &str, rest: &str) -> Option<Result<SipUri>> {
    let secure = scheme.eq_ignore_ascii_case("sips");
    (secure || scheme.eq_ignore_ascii_case("sip")).then(|| parse_sip(rest, secure))
}

fn parse_sip(rest: &str, secure: bool) -> Result<SipUri> {
    // A user part may hold `;` and `?` (RFC 4475 sections 3.1.1.2 and 3.1.1.9), so the @ is looked for first.
    let (userinfo, address) = match rest.split_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, rest),
    };
    let (user, password) = match userinfo.map(|userinfo| userinfo.split_once(':').ok_or(userinfo)) {
        None => (None, None),
        Some(Ok((user, password))) => (Some(user), Some(password)),
        Some(Err(user)) => (Some(user), None),
    };
    if user.is_some_and(str::is_empty) {
        return Err(malformed("the URI has an empty user part", RULE));
    }
    if userinfo.is_some_and(|userinfo| userinfo.contains('"')) {
        return Err(malformed("the user part of the URI has a quote in it", RULE));
    }
    let (address, headers) = match address.split_once('?') {
        Some((address, headers)) => (address, Some(headers)),
        None => (address, None),
    };
    let (address, params) = match address.split_once(';') {
        Some((address, params)) => (address, Params::parse_uri(params)?),
        None => (address, Params::new()),
    };
    let (host, port) = parse_host_port(address, RULE)?;
    let (user, password) = (user.map(str::to_owned), password.map(str::to_owned));
    Ok(SipUri {
        secure,
        user,
        password,
        host,
        port,
        params,
        headers: headers.map(str::to_owned),
    })
}

/// Any URI: ours are SIP, the others (`tel:`, `urn:`, unknown schemes) pass through as written.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Uri {
    /// Any other scheme, whole, as written.
    Other(String),
    /// `sip:` or `sips:`.
    Sip(SipUri),
}

impl Uri {
    /// The SIP URI, if it is one.
    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Uri::Other(_) => None,
            Uri::Sip(uri) => Some(uri),
        }
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Uri::Sip(uri)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uri::Other(text) => write_escaped(f, text, ""),
            Uri::Sip(uri) => uri.fmt(f),
        }
    }
}

impl FromStr for Uri {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = split_scheme(s)?;
        match parse_known(scheme, rest) {
            Some(uri) => uri.map(Uri::Sip),
            None => Ok(Uri::Other(s.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> SipUri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_part_of_a_sip_uri_is_read_and_written_back() {
        let text = "sips:alice:secret@example.com:5081;transport=tcp;lr?subject=project%20x&priority=urgent";
        let parsed = uri(text);
        assert!(parsed.secure && parsed.is_loose_router());
        assert_eq!(
            (parsed.user.as_deref(), parsed.password.as_deref()),
            (Some("alice"), Some("secret"))
        );
        assert_eq!(
            (parsed.port, parsed.transport()),
            (Some(5081), Some(Transport::Tcp))
        );
        assert_eq!(
            parsed.headers.as_deref(),
            Some("subject=project%20x&priority=urgent")
        );
        assert_eq!(parsed.to_string(), text);
        assert_eq!(
            parsed.address_of_record().to_string(),
            "sips:alice@example.com:5081"
        );
    }

    #[test]
    fn a_user_part_may_hold_what_ends_other_parts() {
        let parsed =
            uri("sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d@example.com");
        assert_eq!(
            parsed.user.as_deref(),
            Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
        );
        assert_eq!(parsed.host, Host::Name("example.com".to_owned()));
        let parsed = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!(parsed.decoded_user().as_deref(), Some("user;par=u@example.net"));
        assert!(parsed.params.is_empty());
    }

    #[test]
    fn a_user_is_escaped_when_put_in_and_unescaped_when_asked_for() {
        let plain = "sips:I have 100% @ ü";
        let escaped = SipUri::new(Host::Name("h".to_owned())).with_user(plain);
        assert_eq!(
            escaped.to_string(),
            "sip:sips%3AI%20have%20100%25%20%40%20%C3%BC@h"
        );
        assert_eq!(uri(&escaped.to_string()).decoded_user().as_deref(), Some(plain));
        assert_eq!(
            uri("sip:null-%00-%zz-%e@h").decoded_user().as_deref(),
            Some("null-\0-%zz-%e")
        );
        assert_eq!(uri("sip:h").decoded_user(), None);
    }

    #[test]
    fn addresses_are_hosts_and_ipv6_needs_brackets() {
        assert_eq!(
            uri("sip:[2001:db8::10]:5070").socket_addr(),
            Some("[2001:db8::10]:5070".parse().unwrap())
        );
        assert_eq!(uri("sip:[2001:db8::10:5070]").port, None);
        assert_eq!(
            uri("sip:a@192.0.2.1").socket_addr(),
            Some("192.0.2.1:5060".parse().unwrap())
        );
        assert_eq!(
            uri("sips:a@192.0.2.1").socket_addr(),
            Some("192.0.2.1:5061".parse().unwrap())
        );
        assert_eq!(uri("sip:a@h").socket_addr(), None);
        assert_eq!(
            SipUri::from_addr("[::1]:5060".parse().unwrap()).to_string(),
            "sip:[::1]:5060"
        );
        assert_eq!(
            uri("sip:u@[2001:db8:::192.0.2.1]"),
            uri("sip:u@[2001:db8::192.0.2.1]")
        );
        assert_eq!(uri("sip:Example.COM").to_string(), "sip:example.com");
    }

    #[test]
    fn what_is_no_sip_uri_is_named() {
        for (text, word) in [
            ("sip:2001:db8::10", "no brackets"),
            ("sip:[2001:db8::10", "no IPv6 address"),
            ("sip:[fe80::1%eth0]", "no IPv6 address"),
            ("sip:999.0.2.1", "no IPv4 address"),
            ("sip:h:65536", "no port"),
            ("sip:h:", "no port"),
            ("sip:h:-1", "no port"),
            ("sip:@h", "empty user"),
            ("sip:\"a\"@h", "quote"),
            ("sip:a@b@c", "no host"),
            ("sip:a@", "no host"),
            ("sip:h;;lr", "empty parameter"),
            ("sip:h;", "empty parameter"),
            ("sip:a b@h", "white space"),
            ("sip:a@h\r\nX: y", "white space"),
            ("sip:a\0@h", "character"),
            ("<sip:a@h>", "enclosed in <>"),
            ("tel:+1", "no SIP URI scheme"),
            ("sip:", "no scheme"),
            ("example.com", "no scheme"),
            ("", "no scheme"),
        ] {
            let error = text.parse::<SipUri>().unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn other_schemes_pass_through_and_only_sip_is_taken_apart() {
        for text in [
            "tel:+1-201-555-0123",
            "soap.beep://192.0.2.103:3002",
            "nobodyKnowsThisScheme:totallyopaquecontent",
        ] {
            let parsed: Uri = text.parse().unwrap();
            assert_eq!(parsed, Uri::Other(text.to_owned()));
            assert_eq!(parsed.to_string(), text);
        }
        assert!("SIP:a@h".parse::<Uri>().unwrap().as_sip().is_some());
        assert!("sip:a@@".parse::<Uri>().is_err());
        assert!("1:a".parse::<Uri>().is_err());
    }
}

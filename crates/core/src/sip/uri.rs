//! SIP and other URIs (RFC 3261 section 19.1).

use super::{Params, Transport};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A host name or address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Host {
    /// An address; IPv6 is written in brackets.
    Ip(IpAddr),
    /// A name, in lower case.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Host {
    type Err = crate::Error;

    /// `example.com`, `192.0.2.1`, `[2001:db8::1]`; an IPv6 address without brackets is an error.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
    }
}

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
        SipUri { port: Some(addr.port()), ..SipUri::new(Host::Ip(addr.ip())) }
    }

    /// With a user part; what may not stand there is escaped.
    #[must_use]
    pub fn with_user(self, user: &str) -> Self {
        let _ = user;
        unimplemented!()
    }

    /// With `;transport=`.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.params.set("transport", transport.as_str().to_ascii_lowercase());
        self
    }

    /// The `transport` parameter, if it is one that we know.
    pub fn transport(&self) -> Option<Transport> {
        self.params.value("transport").and_then(Transport::from_name)
    }

    /// Loose routing (RFC 3261 section 16.12).
    pub fn is_loose_router(&self) -> bool {
        self.params.contains("lr")
    }

    /// The user part with its escapes resolved.
    pub fn decoded_user(&self) -> Option<String> {
        unimplemented!()
    }

    /// The address when the host is one; the port defaults to 5060, or 5061 for `sips:` and TLS.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let Host::Ip(ip) = self.host else { return None };
        Some(SocketAddr::new(ip, self.port.unwrap_or(self.default_port())))
    }

    /// 5060, or 5061 for `sips:` and TLS.
    pub fn default_port(&self) -> u16 {
        if self.secure || self.transport() == Some(Transport::Tls) { 5061 } else { 5060 }
    }

    /// `sip:user@host[:port]`: what registrars and accounts call an address-of-record (RFC 3261 section 10.3 step 5).
    #[must_use]
    pub fn address_of_record(&self) -> SipUri {
        SipUri { params: Params::new(), headers: None, password: None, ..self.clone() }
    }

    /// RFC 3261 section 19.1.4.
    pub fn is_equivalent(&self, other: &SipUri) -> bool {
        let _ = other;
        unimplemented!()
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl FromStr for SipUri {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
    }
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
            Uri::Other(text) => f.write_str(text),
            Uri::Sip(uri) => uri.fmt(f),
        }
    }
}

impl FromStr for Uri {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
    }
}

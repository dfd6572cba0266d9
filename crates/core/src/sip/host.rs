//! Hosts and ports, as URIs and Vias write them (RFC 3261 section 25.1, RFC 5118).

use super::scan::{digits, excerpt, malformed};
use crate::Result;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
            Host::Name(name) => {
                // A name that was put together by hand may not end the header field that carries it.
                name.chars()
                    .try_for_each(|c| f.write_char(if is_host_char(c) { c } else { '-' }))
            }
        }
    }
}

impl FromStr for Host {
    type Err = crate::Error;

    /// `example.com`, `192.0.2.1`, `[2001:db8::1]`; an IPv6 address without brackets is an error.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "RFC 3261 section 25.1 and RFC 5118 section 4.1";
        if let Some(reference) = s.strip_prefix('[') {
            let address = reference.strip_suffix(']').and_then(parse_ipv6);
            let address =
                address.ok_or_else(|| malformed(format!("{} is no IPv6 address", excerpt(s)), RULE))?;
            return Ok(Host::Ip(IpAddr::V6(address)));
        }
        if let Ok(address) = s.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(IpAddr::V4(address)));
        }
        if is_bare_ipv6(s) {
            return Err(malformed(format!("the IPv6 address {s} has no brackets"), RULE));
        }
        if s.is_empty() || !s.chars().all(is_host_char) {
            return Err(malformed(format!("\"{}\" is no host", excerpt(s)), RULE));
        }
        if s.split('.').count() == 4 && s.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(malformed(format!("{} is no IPv4 address", excerpt(s)), RULE));
        }
        Ok(Host::Name(s.to_ascii_lowercase()))
    }
}

/// The underscore is no letter of host names, and yet in use.
fn is_host_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '.' | '_')
}

/// RFC 5118 section 4.10: RFC 3261's grammar allowed three colons where two were meant.
fn parse_ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse()
        .or_else(|_| text.replacen(":::", "::", 1).parse())
        .ok()
}

/// Two colons at least: a host with its port has one, and is not tried.
fn is_bare_ipv6(text: &str) -> bool {
    text.bytes().filter(|octet| *octet == b':').nth(1).is_some() && text.parse::<Ipv6Addr>().is_ok()
}

/// A host and maybe a port, as in a URI and in a Via.
pub(super) fn parse_host_port(text: &str, rule: &'static str) -> Result<(Host, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']').map_or(text.len(), |end| end + 1),
        None if is_bare_ipv6(text) => text.len(),
        None => text.find(':').unwrap_or(text.len()),
    };
    let host = text[..end].trim_end_matches([' ', '\t']).parse()?;
    let port = text[end..].trim_start_matches([' ', '\t']);
    if port.is_empty() {
        return Ok((host, None));
    }
    let number = port
        .strip_prefix(':')
        .map(|port| port.trim_start_matches([' ', '\t']))
        .and_then(digits);
    match number {
        Some(port) => Ok((host, Some(port))),
        None => Err(malformed(
            format!("\"{}\" is no port in {}", excerpt(port), excerpt(text)),
            rule,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_name_in_lower_case() {
        for (text, printed) in [
            ("Example.COM", "example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:DB8::0:1]", "[2001:db8::1]"),
            ("[::ffff:192.0.2.10]", "[::ffff:192.0.2.10]"),
            ("hlau_4100", "hlau_4100"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.to_string(), printed);
            assert_eq!(
                matches!(host, Host::Ip(_)),
                printed.parse::<Ipv4Addr>().is_ok() || printed.contains('[')
            );
        }
        for text in ["", "::1", "[::1", "[]", "1.2.3.256", "a b", "a;b", "ü"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_may_follow_after_blanks() {
        let read = |text: &str| parse_host_port(text, "test").map(|(host, port)| (host.to_string(), port));
        assert_eq!(read("h : 5060").unwrap(), ("h".to_owned(), Some(5060)));
        assert_eq!(read("[::1]:1").unwrap(), ("[::1]".to_owned(), Some(1)));
        assert_eq!(read("[::1]").unwrap(), ("[::1]".to_owned(), None));
        for text in ["h:", "h:x", "h:65536", "[::1]x", "::1:5060"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_put_together_by_hand_ends_nothing() {
        assert_eq!(Host::Name("a\r\nb>;c".to_owned()).to_string(), "a--b--c");
    }
}

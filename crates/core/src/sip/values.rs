//! Typed header field values that are neither addresses nor credentials.

use super::host::parse_host_port;
use super::scan::{digits, excerpt, is_token, malformed, trim};
use super::{Host, Method, Params, Transport};
use crate::Result;
use std::fmt;
use std::str::FromStr;

/// RFC 3261 section 20.16.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CSeq {
    /// Less than 2^31.
    pub sequence: u32,
    /// The request's method.
    pub method: Method,
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sequence, self.method)
    }
}

impl FromStr for CSeq {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "RFC 3261 section 20.16";
        let (number, method) = trim(s).split_once([' ', '\t']).ok_or_else(|| {
            malformed(
                format!("CSeq \"{}\" is not a number and a method", excerpt(s)),
                RULE,
            )
        })?;
        // RFC 3261 section 8.1.1.5: less than 2^31.
        let sequence = digits(number)
            .filter(|sequence| *sequence < 1 << 31)
            .ok_or_else(|| {
                malformed(
                    format!("the CSeq number {} is no number below 2^31", excerpt(number)),
                    RULE,
                )
            })?;
        Ok(CSeq {
            sequence,
            method: trim(method).parse()?,
        })
    }
}

/// One Via value (RFC 3261 section 20.42).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Via {
    /// The transport as written: any token is legal.
    pub transport: String,
    /// The sent-by host.
    pub host: Host,
    /// The sent-by port, if written.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, `maddr` ...
    pub params: Params,
}

impl Via {
    /// The transaction's branch.
    pub fn branch(&self) -> Option<&str> {
        self.params.value("branch")
    }

    /// What can be made out of a Via that cannot be read: transport, sent-by and whether `rport` is asked for. Enough
    /// to tell its sender what is wrong (RFC 3261 section 21.4.1); no parameter is kept.
    pub fn salvage(text: &str) -> Option<Via> {
        let mut parts = text.splitn(3, '/');
        let (name, _version, rest) = (parts.next()?, parts.next()?, parts.next()?);
        if !name.trim().eq_ignore_ascii_case("SIP") {
            return None;
        }
        let sent_by = rest.split(';').next()?;
        let mut via: Via = format!("SIP/2.0/{sent_by}").parse().ok()?;
        if rest.contains(";rport") {
            via.params.set_flag("rport");
        }
        Some(via)
    }

    /// The transport, if it is one that we know.
    pub fn known_transport(&self) -> Option<Transport> {
        Transport::from_name(&self.transport)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)
    }
}

impl FromStr for Via {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "RFC 3261 section 20.42";
        let wrong = |what: &str| malformed(format!("the Via \"{}\" has {what}", excerpt(s)), RULE);
        // Blanks may stand around both slashes, and must stand after the transport.
        let (name, rest) = s.split_once('/').ok_or_else(|| wrong("no SIP/2.0/transport"))?;
        let (version, rest) = rest
            .split_once('/')
            .ok_or_else(|| wrong("no SIP/2.0/transport"))?;
        if !trim(name).eq_ignore_ascii_case("SIP") || trim(version) != "2.0" {
            return Err(wrong("another version than SIP/2.0"));
        }
        let (transport, rest) = trim(rest)
            .split_once([' ', '\t'])
            .ok_or_else(|| wrong("no sent-by after its transport"))?;
        if !is_token(transport) {
            return Err(wrong("a transport that is no token"));
        }
        let (sent_by, params) = match rest.find(';') {
            Some(end) => (&rest[..end], Params::parse(&rest[end..])?),
            None => (rest, Params::new()),
        };
        let (host, port) = parse_host_port(trim(sent_by), RULE)?;
        Ok(Via {
            transport: transport.to_owned(),
            host,
            port,
            params,
        })
    }
}

/// Who refreshes a session (RFC 4028 section 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refresher {
    /// The side that sent the INVITE or UPDATE.
    Uac,
    /// The side that answered it.
    Uas,
}

/// RFC 4028 section 4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionExpires {
    /// Seconds.
    pub interval: u32,
    /// Who refreshes, when said.
    pub refresher: Option<Refresher>,
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.interval)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

impl FromStr for SessionExpires {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "RFC 4028 section 4";
        let (interval, params) = match s.find(';') {
            Some(end) => (trim(&s[..end]), Params::parse(&s[end..])?),
            None => (trim(s), Params::new()),
        };
        let interval = digits(interval).ok_or_else(|| {
            malformed(
                format!(
                    "the session interval {} is no number of seconds",
                    excerpt(interval)
                ),
                RULE,
            )
        })?;
        let refresher = match params.value("refresher") {
            Some(word) if word.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(word) if word.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(word) => {
                return Err(malformed(
                    format!("the refresher {} is neither uac nor uas", excerpt(word)),
                    RULE,
                ));
            }
            None => None,
        };
        Ok(SessionExpires { interval, refresher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cseq_is_a_number_below_2_to_the_31_and_a_method() {
        let cseq: CSeq = "0009   INVITE".parse().unwrap();
        assert_eq!(
            cseq,
            CSeq {
                sequence: 9,
                method: Method::Invite
            }
        );
        assert_eq!(cseq.to_string(), "9 INVITE");
        assert!("2147483647 INVITE".parse::<CSeq>().is_ok());
        for text in [
            "2147483648 INVITE",
            "36893488147419103232 REGISTER",
            "-1 INVITE",
            "INVITE",
            "1",
            "",
            "1 IN VITE",
        ] {
            assert!(text.parse::<CSeq>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_via_may_have_blanks_around_its_slashes_and_colon() {
        let via: Via = "SIP  / 2.0  / TCP     Spindle.example.com : 5070  ;  branch  =   z9hG4bK9ikj8"
            .parse()
            .unwrap();
        assert_eq!(via.known_transport(), Some(Transport::Tcp));
        assert_eq!(
            (via.host.to_string(), via.port),
            ("spindle.example.com".to_owned(), Some(5070))
        );
        assert_eq!(via.branch(), Some("z9hG4bK9ikj8"));
        assert_eq!(
            via.to_string(),
            "SIP/2.0/TCP spindle.example.com:5070;branch=z9hG4bK9ikj8"
        );
    }

    #[test]
    fn a_via_may_name_any_transport_and_an_ipv6_address() {
        let text = "SIP/2.0/UNKNOWN [2001:db8::9:1]:6050;received=2001:db8::9:255;branch=z9hG4bKas3;rport";
        let via: Via = text.parse().unwrap();
        assert_eq!(via.known_transport(), None);
        assert_eq!(via.params.value("received"), Some("2001:db8::9:255"));
        assert!(via.params.contains("rport"));
        assert_eq!(via.to_string(), text);
    }

    #[test]
    fn a_broken_via_is_named() {
        for (text, word) in [
            ("SIP/2.0/UDP 192.0.2.15;;", "empty"),
            ("SIP/7.0/UDP c.example.com", "version"),
            ("SIP/2.0/UDP", "sent-by"),
            ("SIP/2.0/UDP 2001:db8::1;branch=z9hG4bK1", "brackets"),
            ("SIP/2.0/UDP host:99999", "port"),
            ("UDP host", "SIP/2.0"),
        ] {
            let error = text.parse::<Via>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_session_interval_names_its_refresher() {
        let expires: SessionExpires = "1800 ; refresher=UAC;other".parse().unwrap();
        assert_eq!(
            expires,
            SessionExpires {
                interval: 1800,
                refresher: Some(Refresher::Uac)
            }
        );
        assert_eq!(expires.to_string(), "1800;refresher=uac");
        assert_eq!("90".parse::<SessionExpires>().unwrap().to_string(), "90");
        assert!("soon".parse::<SessionExpires>().is_err());
        assert!("90;refresher=me".parse::<SessionExpires>().is_err());
    }
}

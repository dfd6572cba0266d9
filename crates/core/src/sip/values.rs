//! Typed header field values that are neither addresses nor credentials.

use super::{Host, Method, Params, Transport};
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
        let _ = s;
        unimplemented!()
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

    /// The transport, if it is one that we know.
    pub fn known_transport(&self) -> Option<Transport> {
        Transport::from_name(&self.transport)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl FromStr for Via {
    type Err = crate::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
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
        let _ = s;
        unimplemented!()
    }
}

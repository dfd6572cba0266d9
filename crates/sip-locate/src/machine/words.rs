//! What the machine is told and what it tells.

use crate::config::Ipv6;
use siprtc_core::sip::Transport;
use siprtc_core::{Error, Fault};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a name server is asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Question {
    /// Without a dot at its end.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Naptr,
    Srv,
}

/// What it says.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// There is nothing of this kind; `exists` is false for NXDOMAIN.
    Absent { exists: bool },
    /// No answer, or none that helps.
    Failed(Failure),
    /// At least one record.
    Found(Vec<Record>),
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) ttl: Duration,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Address(IpAddr),
    Naptr(Naptr),
    Srv(Srv),
}

#[derive(Clone, Debug)]
pub(crate) struct Naptr {
    pub(crate) order: u16,
    pub(crate) preference: u16,
    pub(crate) flags: String,
    pub(crate) service: String,
    pub(crate) replacement: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Srv {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// Empty for `.`: the service is decidedly not there (RFC 2782).
    pub(crate) target: String,
}

/// What the stack can do with what is found.
#[derive(Clone, Debug)]
pub(crate) struct Usable {
    /// What the stack is called.
    pub(crate) stack: &'static str,
    /// UDP only when there is a UDP listener: requests leave from it.
    pub(crate) transports: Vec<Transport>,
    /// Whether a UDP listener is bound to an address of that family.
    pub(crate) udp_v4: bool,
    pub(crate) udp_v6: bool,
    pub(crate) ipv6: Ipv6,
}

impl Usable {
    pub(super) fn speaks(&self, transport: Transport) -> bool {
        self.transports.contains(&transport)
    }

    pub(super) fn reaches(&self, target: &Target) -> bool {
        match target.transport {
            Transport::Udp if target.addr.is_ipv4() => self.udp_v4,
            Transport::Udp => self.udp_v6,
            _ => true,
        }
    }
}

/// Where a request may go.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) addr: SocketAddr,
    /// The domain itself chose the transport (NAPTR), so that the size of a request does not change it.
    pub(crate) forced: bool,
}

/// Targets in the order in which to try them.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) targets: Vec<Target>,
    /// The shortest of the records; `None` when no name server was needed.
    pub(crate) ttl: Option<Duration>,
}

/// Why nothing was found. An [`Error`] that can be kept and told again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) message: String,
    pub(crate) advice: String,
}

impl Failure {
    pub(crate) fn new(fault: Fault, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Failure {
            fault,
            message: message.into(),
            advice: advice.into(),
        }
    }

    pub(crate) fn error(&self, operation: &'static str) -> Error {
        Error::new(self.fault, operation, self.message.clone()).advice(self.advice.clone())
    }
}

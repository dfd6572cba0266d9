//! What a TURN server is told when it starts.

use crate::credentials::Credentials;
use crate::peers::Network;
use siprtc_core::{Error, Fault, Result};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How clients reach the server (RFC 8656 section 3.1).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// UDP.
    Udp,
}

impl Transport {
    /// The word used in configuration and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One place where clients are listened to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listener {
    /// By which transport.
    pub transport: Transport,
    /// Where; port 0 lets the system choose.
    pub bind: SocketAddr,
}

/// `udp:192.0.2.1:3478`, `tls:[2001:db8::1]:5349`.
impl FromStr for Listener {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: &str| {
            invalid(format!("{text:?} is no listener: {what}"))
                .advice("write transport:address:port, such as udp:192.0.2.1:3478 or tls:[2001:db8::1]:5349; the transports are udp, tcp and tls")
        };
        let (transport, bind) = text.split_once(':').ok_or_else(|| bad("no transport"))?;
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            "udp" => Transport::Udp,
            _ => return Err(bad("unknown transport")),
        };
        Ok(Listener {
            transport,
            bind: bind.parse().map_err(|_| bad("unreadable address"))?,
        })
    }
}

/// An address on which relayed ports are opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relay {
    /// An address of this machine; not a wildcard.
    pub bind: IpAddr,
    /// What clients are told instead, where a one-to-one NAT stands before the machine.
    pub advertise: IpAddr,
}

impl From<IpAddr> for Relay {
    fn from(ip: IpAddr) -> Self {
        Relay {
            bind: ip,
            advertise: ip,
        }
    }
}

/// `192.0.2.1`, or `10.0.0.5=192.0.2.1` behind a one-to-one NAT.
impl FromStr for Relay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            invalid(format!("{text:?} is no relay address")).advice(
                "write an address of this machine, or address=address-that-clients-are-told, of one family",
            )
        };
        let (bind, advertise) = text.split_once('=').unwrap_or((text, text));
        let relay = Relay {
            bind: bind.parse().map_err(|_| bad())?,
            advertise: advertise.parse().map_err(|_| bad())?,
        };
        match relay.bind.is_ipv4() == relay.advertise.is_ipv4() {
            true => Ok(relay),
            false => Err(bad()),
        }
    }
}

/// The certificate that listeners on TLS show, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The server's certificate and those between it and its authority.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The bounds of a server, and what happens at each.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most allocations at once; beyond it 508 (Insufficient Capacity). 10,000 by default.
    pub allocations: usize,
    /// Most allocations of one user; beyond it 486 (Allocation Quota Reached). 100 by default.
    pub allocations_per_user: usize,
    /// Most peers (addresses) that one allocation has permissions for, and most channels of it; beyond it 508. 64 by
    /// default.
    pub permissions: usize,
    /// Most TCP and TLS connections at once; beyond it one in is closed. 4,096 by default.
    pub connections: usize,
    /// Most requests without valid credentials that one source address gets an answer to in a second; the others are
    /// dropped, so that the server answers no flood for somebody else. 1,000 by default; 0 for no bound.
    pub challenges_per_s: u32,
    /// Longest life of an allocation between two refreshes, at least the ten minutes of RFC 8656 section 3.2. An hour
    /// by default.
    pub lifetime: Duration,
    /// How long a nonce is good; an older one is answered 438 (Stale Nonce). An hour by default, which is the longest
    /// that RFC 8656 section 5 recommends.
    pub nonce: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            allocations: 10_000,
            allocations_per_user: 100,
            permissions: 64,
            connections: 4096,
            challenges_per_s: 1000,
            lifetime: Duration::from_secs(3600),
            nonce: Duration::from_secs(3600),
        }
    }
}

/// How a [`Server`](crate::Server) is set up.
#[derive(Clone, Debug)]
pub struct TurnConfig {
    /// Where clients are listened to; at least one.
    pub listeners: Vec<Listener>,
    /// Where relayed ports are opened: at most one address of each family. A family without one is answered 440.
    pub relays: Vec<Relay>,
    /// The relayed ports, chosen at random; `0..=0` lets the system choose. 49152 to 65535 by default.
    pub ports: RangeInclusive<u16>,
    /// The realm of the long-term credential mechanism (RFC 8489 section 9.2), at most 127 characters.
    pub realm: String,
    /// Who may relay.
    pub credentials: Credentials,
    /// What TLS listeners show; needed when there is one.
    pub identity: Option<Identity>,
    /// Peers that clients may reach although they are in a range that is refused by default (RFC 8656 section 21.1.4):
    /// private, shared, loopback, link-local, multicast and reserved addresses. Empty by default.
    pub allow_peers: Vec<Network>,
    /// Peers that clients may not reach in any case. Empty by default.
    pub deny_peers: Vec<Network>,
    /// The bounds.
    pub limits: Limits,
    /// Threads that serve; 0 for one for each core. Clients are spread over them by the system.
    pub workers: usize,
}

impl TurnConfig {
    /// UDP and TCP on 127.0.0.1 with ports that the system chooses, relaying on loopback to loopback: for tests and
    /// demonstrations.
    pub fn loopback(realm: impl Into<String>, credentials: Credentials) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = |transport| Listener {
            transport,
            bind: SocketAddr::new(ip, 0),
        };
        TurnConfig {
            listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
            relays: vec![ip.into()],
            ports: 49152..=65535,
            realm: realm.into(),
            credentials,
            identity: None,
            allow_peers: vec![Network::new(ip, 8)],
            deny_peers: Vec::new(),
            limits: Limits::default(),
            workers: 1,
        }
    }

    /// Refuses what cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |message: String, advice: &str| Err(invalid(message).advice(advice));
        if self.listeners.is_empty() {
            return refuse(
                "there is no listener".to_owned(),
                "name at least one, such as udp:192.0.2.1:3478",
            );
        }
        let tls = self.listeners.iter().any(|l| l.transport == Transport::Tls);
        if tls && self.identity.is_none() {
            return refuse(
                "a TLS listener has no certificate".to_owned(),
                "give a certificate and its key",
            );
        }
        if let Some(relay) = self.relays.iter().find(|relay| relay.bind.is_unspecified()) {
            return refuse(
                format!(
                    "the relay address {} is a wildcard, which no peer can send to",
                    relay.bind
                ),
                "name one address of this machine",
            );
        }
        let families = |v4: bool| {
            self.relays
                .iter()
                .filter(|relay| relay.bind.is_ipv4() == v4)
                .count()
        };
        if self.relays.is_empty() || families(true) > 1 || families(false) > 1 {
            return refuse(
                format!("{} relay addresses", self.relays.len()),
                "name one address to relay on, or one of each family",
            );
        }
        if self.ports.is_empty() || (*self.ports.start() == 0 && *self.ports.end() != 0) {
            return refuse(
                format!(
                    "the relayed ports {} to {} are no range",
                    self.ports.start(),
                    self.ports.end()
                ),
                "write the lower port first, such as 49152 to 65535, or 0 to 0",
            );
        }
        if self.realm.is_empty() || self.realm.chars().count() > 127 || self.realm.contains(['"', '\\']) {
            return refuse(
                format!("{:?} is no realm", self.realm),
                "use a domain name, at most 127 characters",
            );
        }
        let limits = &self.limits;
        if limits.allocations == 0 || limits.allocations_per_user == 0 || limits.permissions == 0 {
            return refuse(
                "a bound of 0 allows nothing".to_owned(),
                "set each bound to at least 1",
            );
        }
        if limits.nonce < Duration::from_secs(1) || limits.lifetime < crate::machine::DEFAULT_LIFETIME {
            return refuse(
                format!(
                    "a lifetime of {:?} and nonces of {:?}",
                    limits.lifetime, limits.nonce
                ),
                "let allocations live at least 600 s and nonces at least 1 s",
            );
        }
        Ok(())
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Fault::ConfigInvalid, "start TURN server", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_and_relays_are_read_and_what_is_neither_is_refused_with_advice() {
        let listener: Listener = "tls:[::1]:5349".parse().unwrap();
        assert_eq!(listener.transport, Transport::Tls);
        assert_eq!(listener.bind, "[::1]:5349".parse().unwrap());
        for bad in ["192.0.2.1:3478", "dtls:192.0.2.1:1", "udp:host:1", "udp"] {
            let error = bad.parse::<Listener>().unwrap_err();
            assert!(error.next_step().is_some(), "{bad}: {error}");
        }
        let relay: Relay = "10.0.0.5=192.0.2.1".parse().unwrap();
        assert_eq!(relay.advertise, "192.0.2.1".parse::<IpAddr>().unwrap());
        assert!("10.0.0.5=::1".parse::<Relay>().is_err());
    }

    #[test]
    fn what_cannot_work_is_refused_before_a_socket_is_opened() {
        let good = || TurnConfig::loopback("realm", Credentials::any("secret"));
        assert!(good().validate().is_ok());
        type Spoil = fn(&mut TurnConfig);
        let spoils: [Spoil; 8] = [
            |c| c.listeners.clear(),
            |c| c.listeners[0].transport = Transport::Tls,
            |c| c.relays.clear(),
            |c| c.relays.push(c.relays[0]),
            |c| c.relays[0].bind = IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            |c| c.ports = RangeInclusive::new(9, 8),
            |c| c.realm.clear(),
            |c| c.limits.allocations = 0,
        ];
        for (index, spoil) in spoils.iter().enumerate() {
            let mut config = good();
            spoil(&mut config);
            let error = config.validate().expect_err(&format!("spoil {index}"));
            assert_eq!(error.fault(), Fault::ConfigInvalid);
            assert!(error.next_step().is_some(), "{error}");
        }
    }
}

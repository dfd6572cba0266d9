//! The ICE port, sans-IO (RFC 8445), and the words around it: servers, candidates, pairs.
//!
//! Gathering lives outside an agent, with the owner of the sockets; candidates cross as the value of an SDP
//! `a=candidate` line. **Drain rule: after every call that takes `now`, call [`IceAgent::poll_transmit`] and
//! [`IceAgent::poll_event`] until each says `None`, then ask [`IceAgent::poll_timeout`].**

mod path;

use crate::Result;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use path::{IcePath, IcePaths, PathEvent, PathEventSink, PathStats};

/// User fragment and password of one side (RFC 8839 section 5.4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IceParameters {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
    /// `a=ice-lite`.
    pub lite: bool,
}

/// Which side nominates (RFC 8445 section 6.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IceRole {
    /// Nominated by the other side.
    Controlled,
    /// Nominates.
    Controlling,
}

/// Where connectivity stands; the words are JSEP's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum IceState {
    /// Pairs are being checked.
    Checking,
    /// Closed by us.
    Closed,
    /// A pair works.
    Connected,
    /// A pair worked, and is silent now.
    Disconnected,
    /// No pair works.
    Failed,
    /// Nothing began.
    New,
}

impl fmt::Display for IceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IceState::Checking => "checking",
            IceState::Closed => "closed",
            IceState::Connected => "connected",
            IceState::Disconnected => "disconnected",
            IceState::Failed => "failed",
            IceState::New => "new",
        })
    }
}

/// A candidate's type (RFC 8445 section 5.1.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CandidateKind {
    /// An interface's own address.
    Host,
    /// Seen only in a check from the peer.
    PeerReflexive,
    /// A TURN server's address.
    Relayed,
    /// A NAT's address.
    ServerReflexive,
}

impl CandidateKind {
    /// As in SDP: `host`, `prflx`, `relay`, `srflx`.
    pub fn as_str(self) -> &'static str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relayed => "relay",
            CandidateKind::ServerReflexive => "srflx",
        }
    }

    /// From SDP.
    pub fn from_name(name: &str) -> Option<Self> {
        use CandidateKind::*;
        [Host, PeerReflexive, Relayed, ServerReflexive]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One end of a candidate pair.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PairEnd {
    /// Its type.
    pub kind: CandidateKind,
    /// Its address.
    pub addr: SocketAddr,
}

impl fmt::Display for PairEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.addr)
    }
}

/// The pair that carries media.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CandidatePair {
    /// Our end.
    pub local: PairEnd,
    /// Theirs.
    pub remote: PairEnd,
}

impl fmt::Display for CandidatePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.local, self.remote)
    }
}

/// Which candidates may be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IcePolicy {
    /// Host, server-reflexive and relayed.
    #[default]
    All,
    /// Relayed only: the peer never learns our addresses.
    Relay,
}

/// What a STUN or TURN server is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum IceServerKind {
    /// Tells our address (RFC 8489).
    Stun,
    /// Relays (RFC 8656).
    Turn {
        /// Long-term user name.
        username: String,
        /// Long-term password.
        password: String,
    },
    /// Relays, for whoever shares a secret with it: user name and password are made from it for a time (TURN's REST API,
    /// coturn's `use-auth-secret`).
    TurnSecret {
        /// Who it is for, in the server's log; may be empty.
        user: String,
        /// The secret that is shared with the server.
        secret: String,
    },
}

impl IceServerKind {
    /// Whether it relays.
    pub fn is_turn(&self) -> bool {
        !matches!(self, IceServerKind::Stun)
    }
}

/// What a STUN or TURN server is spoken to over.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum IceServerTransport {
    /// `turn:...?transport=tcp`: TURN only. What is relayed stays UDP.
    Tcp,
    /// `turns:`: TURN over TLS over TCP.
    Tls,
    /// UDP.
    #[default]
    Udp,
}

impl fmt::Display for IceServerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IceServerTransport::Tcp => "TCP",
            IceServerTransport::Tls => "TLS",
            IceServerTransport::Udp => "UDP",
        })
    }
}

/// A STUN or TURN server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IceServer {
    /// Host name or address; with TLS, what the certificate must be for.
    pub host: String,
    /// 3478 by default, 5349 with TLS.
    pub port: u16,
    /// Over UDP, TCP or TLS.
    pub transport: IceServerTransport,
    /// Its use.
    pub kind: IceServerKind,
    /// `host`, resolved.
    pub addr: Option<SocketAddr>,
}

impl IceServer {
    /// One over UDP, not resolved.
    pub fn udp(host: impl Into<String>, port: u16, kind: IceServerKind) -> Self {
        IceServer {
            host: host.into(),
            port,
            transport: IceServerTransport::Udp,
            kind,
            addr: None,
        }
    }

    /// `stun:host:port`, `turn:host:port?transport=udp` or `turns:host:port?transport=tcp` (RFC 7064, RFC 7065), without
    /// credentials. The resolved address stands for the host, but with TLS.
    pub fn url(&self) -> String {
        let resolved = self.addr.filter(|_| self.transport != IceServerTransport::Tls);
        let host = resolved.map_or_else(|| self.host.clone(), |addr| addr.ip().to_string());
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let port = resolved.map_or(self.port, |addr| addr.port());
        match (&self.kind, self.transport) {
            (IceServerKind::Stun, _) => format!("stun:{host}:{port}"),
            (_, IceServerTransport::Udp) => format!("turn:{host}:{port}?transport=udp"),
            (_, IceServerTransport::Tcp) => format!("turn:{host}:{port}?transport=tcp"),
            (_, IceServerTransport::Tls) => format!("turns:{host}:{port}?transport=tcp"),
        }
    }
}

/// What a media peer needs to know of the network.
#[derive(Clone, Debug, Default)]
pub struct IceConfig {
    /// Local addresses to bind one UDP socket each on; port 0 lets the system choose.
    pub bind: Vec<SocketAddr>,
    /// Servers that are known to answer, addresses resolved.
    pub servers: Vec<IceServer>,
    /// Which candidates may be used.
    pub policy: IcePolicy,
    /// How long gathering may delay an offer or answer; what is there by then is used.
    pub gather_budget: Duration,
    /// Who does ICE; `None`: the media engine's own agent.
    pub paths: Option<Arc<dyn IcePaths>>,
}

/// The value of an `a=candidate` line (RFC 8839 section 5.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Groups candidates of one base and server.
    pub foundation: String,
    /// 1 is RTP, 2 is RTCP.
    pub component: u16,
    /// `UDP` or `TCP`, as written.
    pub transport: String,
    /// Higher is better.
    pub priority: u32,
    /// An address, or an mDNS name (`*.local`).
    pub host: String,
    /// The port.
    pub port: u16,
    /// Its type.
    pub kind: CandidateKind,
    /// `raddr` and `rport`.
    pub related: Option<(String, u16)>,
}

impl Candidate {
    /// The address, unless it is a name.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Candidate {
    /// The value of an `a=candidate` line, without `candidate:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate {
            foundation,
            component,
            transport,
            priority,
            host,
            port,
            kind,
            related,
        } = self;
        write!(
            f,
            "{foundation} {component} {transport} {priority} {host} {port} typ {}",
            kind.as_str()
        )?;
        match related {
            Some((addr, port)) => write!(f, " raddr {addr} rport {port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Candidate {
    type Err = crate::Error;

    /// With or without the leading `candidate:`.
    fn from_str(s: &str) -> Result<Self> {
        use crate::{Error, Fault};
        let bad = |what: &str| {
            Error::new(
                Fault::PeerMisbehaved,
                "parse ICE candidate",
                format!("{what} in {s:?}"),
            )
            .advice("the peer's SDP breaks RFC 8839 section 5.1")
        };
        let text = s.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        let words: Vec<&str> = text
            .strip_prefix("candidate:")
            .unwrap_or(text)
            .split_whitespace()
            .collect();
        let [
            foundation,
            component,
            transport,
            priority,
            host,
            port,
            typ,
            kind,
            rest @ ..,
        ] = words.as_slice()
        else {
            return Err(bad("fewer than 8 fields"));
        };
        if *typ != "typ" {
            return Err(bad("no \"typ\""));
        }
        let value = |name: &str| {
            rest.chunks(2)
                .find(|pair| pair[0] == name)
                .and_then(|pair| pair.get(1))
        };
        let related = match (value("raddr"), value("rport").and_then(|port| port.parse().ok())) {
            (Some(addr), Some(port)) => Some(((*addr).to_owned(), port)),
            _ => None,
        };
        Ok(Candidate {
            foundation: (*foundation).to_owned(),
            component: component.parse().map_err(|_| bad("unreadable component"))?,
            transport: (*transport).to_owned(),
            priority: priority.parse().map_err(|_| bad("unreadable priority"))?,
            host: (*host).to_owned(),
            port: port.parse().map_err(|_| bad("unreadable port"))?,
            kind: CandidateKind::from_name(kind).ok_or_else(|| bad("unknown type"))?,
            related,
        })
    }
}

/// The kind of a local candidate given to an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalCandidate {
    /// A bound socket.
    Host,
    /// A TURN allocation made from `base`.
    Relayed {
        /// The socket below it.
        base: SocketAddr,
    },
    /// A NAT's mapping of `base`.
    ServerReflexive {
        /// The socket below it.
        base: SocketAddr,
    },
}

/// A datagram that an agent wants sent.
#[derive(Debug)]
pub struct Datagram {
    /// From this local candidate's address.
    pub local: SocketAddr,
    /// To this address.
    pub remote: SocketAddr,
    /// The octets.
    pub data: Vec<u8>,
}

/// What an agent has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum IceEvent {
    /// A role conflict was resolved the other way (RFC 8445 section 7.3.1.1).
    RoleChanged(IceRole),
    /// This pair carries media from now on. May come again: the last one counts.
    Selected {
        /// Our end.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
    },
    /// Connectivity changed.
    State(IceState),
}

/// What an agent lacks of what every agent should do. Declared truthfully: `docs/ice.md` shows what comes of it.
#[derive(Clone, Copy, Debug)]
pub struct IceCapability {
    /// Each with its reason.
    pub gaps: &'static [IceGap],
}

impl IceCapability {
    /// The gap, if `feature` is one.
    pub fn gap(&self, feature: IceFeature) -> Option<&'static IceGap> {
        self.gaps.iter().find(|gap| gap.feature == feature)
    }
}

/// Something that an agent does not do, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IceGap {
    /// What.
    pub feature: IceFeature,
    /// One sentence: what happens instead, and whose defect it is.
    pub why: &'static str,
}

/// What the agents differ in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum IceFeature {
    /// Takes [`LocalCandidate::Relayed`].
    Relay,
    /// When both sides take the same role, one of them gives in (RFC 8445 section 7.3.1.1).
    RoleConflict,
}

impl fmt::Display for IceFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IceFeature::Relay => "relayed candidates",
            IceFeature::RoleConflict => "role conflicts",
        })
    }
}

/// Makes agents. A plugin's one public entry.
pub trait IceAgentFactory: Send + Sync {
    /// The word that selects it in the configuration.
    fn name(&self) -> &'static str;

    /// What its agents lack.
    fn capability(&self) -> IceCapability;

    /// An agent with these credentials of ours. There is no restart: RFC 8445 section 9 flushes all that an agent knows,
    /// so a restart is a new agent with new credentials.
    ///
    /// Errors: the library refuses the credentials.
    fn make(&self, now: Instant, role: IceRole, local: &IceParameters) -> Result<Box<dyn IceAgent>>;
}

/// An ICE agent for one component (RTP and RTCP on one port, RFC 5761), without I/O and without a clock.
pub trait IceAgent: Send {
    /// Adds a gathered candidate; what to tell the peer, or `None` when it is redundant.
    ///
    /// Errors: an address that cannot be one; a kind that is a declared gap.
    fn add_local(
        &mut self,
        now: Instant,
        kind: LocalCandidate,
        addr: SocketAddr,
    ) -> Result<Option<Candidate>>;

    /// The peer's user fragment and password: checks begin.
    fn set_remote(&mut self, now: Instant, parameters: &IceParameters) -> Result<()>;

    /// The peer's candidate; may come at any time (trickle), also before its credentials. One of a kind or transport
    /// that the agent has no use for is passed over.
    fn add_remote(&mut self, now: Instant, candidate: &Candidate) -> Result<()>;

    /// A STUN packet that came to the local candidate `local`: a relayed one's own address for what the relay hands over.
    /// `false` when it was none of this agent's.
    fn handle_packet(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, data: &[u8]) -> bool;

    /// The time asked for by [`IceAgent::poll_timeout`] has come.
    fn handle_timeout(&mut self, now: Instant);

    /// When to call [`IceAgent::handle_timeout`].
    fn poll_timeout(&mut self, now: Instant) -> Option<Instant>;

    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Datagram>;

    /// The next event.
    fn poll_event(&mut self) -> Option<IceEvent>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_candidate_is_read_with_its_related_address() {
        let candidate: Candidate =
            "candidate:1 1 udp 41885439 203.0.113.5 49170 typ relay raddr 10.0.0.2 rport 5000"
                .parse()
                .unwrap();
        assert_eq!(candidate.kind, CandidateKind::Relayed);
        assert_eq!(
            candidate.socket_addr(),
            Some("203.0.113.5:49170".parse().unwrap())
        );
        assert_eq!(candidate.related, Some(("10.0.0.2".to_owned(), 5000)));
        assert_eq!(candidate.to_string().parse::<Candidate>().unwrap(), candidate);
    }

    #[test]
    fn an_mdns_candidate_has_no_address() {
        let candidate: Candidate = "0 1 UDP 2122252543 abc.local 54321 typ host".parse().unwrap();
        assert_eq!(candidate.socket_addr(), None);
    }

    #[test]
    fn a_truncated_candidate_is_the_peers_fault() {
        let error = "1 1 udp 5".parse::<Candidate>().unwrap_err();
        assert_eq!(error.fault(), crate::Fault::PeerMisbehaved);
    }
}

//! What a home server is told when it starts.

use siprtc_core::sip::{Host, ListenerConfig, SipUri, TimerConfig, TlsConfig, Transport};
use siprtc_core::{Error, Fault, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Seconds that a binding lives when the REGISTER does not say (RFC 3261 section 10.2.1.1 suggests an hour).
pub(crate) const DEFAULT_EXPIRES: u32 = 3600;

/// How a [`HomeServer`](crate::HomeServer) is set up.
#[derive(Clone, Debug)]
pub struct HomeConfig {
    /// The digest realm and the SIP domain: `alice` is `sip:alice@<realm>`. A host name or an address.
    pub realm: String,
    /// Where SIP is spoken; at least one. A wildcard address needs `advertise`, because it is written into
    /// Record-Route.
    pub sip: Vec<ListenerConfig>,
    /// What the listeners on TLS and WSS show, and whom connections to clients trust.
    pub tls: TlsConfig,
    /// The STUN and TURN server; `None` for none.
    pub turn: Option<TurnConfig>,
    /// Who may register, call and relay.
    pub users: Users,
    /// Shortest registration in seconds; a shorter one is answered 423 (RFC 3261 section 10.2.8). 60 by default.
    pub min_expires: u32,
    /// Longest registration in seconds; a longer one is shortened. 7,200 by default.
    pub max_expires: u32,
    /// Seconds that a registered flow may be silent before its client must send a keepalive (Flow-Timer, RFC 5626); over
    /// UDP at most 30. 0: registrations are not bound to flows. 120 by default.
    pub flow_timer: u32,
    /// Most contacts of one address-of-record, and so most branches of one fork; beyond it a REGISTER is answered
    /// 503. 10 by default.
    pub max_bindings: usize,
    /// Most addresses-of-record with bindings; beyond it a REGISTER is answered 503. 10,000 by default.
    pub max_users: usize,
    /// Most forwarded requests without a final answer; beyond it a request is answered 503. 10,000 by default.
    pub max_forwarded: usize,
    /// Stay in the path of the dialogs (RFC 3261 section 16.6 step 4). True by default: clients behind a NAT or on a
    /// connection need it.
    pub record_route: bool,
    /// The transaction timers of the stack; 64 times `t1` is also how long a cancelled branch is waited for.
    pub timers: TimerConfig,
}

impl HomeConfig {
    /// One UDP and one TCP listener and a TURN server, all on 127.0.0.1 with ports that the system chooses.
    pub fn loopback(realm: impl Into<String>, users: Users) -> Self {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = |transport| ListenerConfig {
            transport,
            bind,
            advertise: None,
        };
        HomeConfig {
            realm: realm.into(),
            sip: vec![listener(Transport::Udp), listener(Transport::Tcp)],
            tls: TlsConfig::default(),
            turn: Some(TurnConfig::on(bind)),
            users,
            min_expires: 60,
            max_expires: 7200,
            flow_timer: 120,
            max_bindings: 10,
            max_users: 10_000,
            max_forwarded: 10_000,
            record_route: true,
            timers: TimerConfig::default(),
        }
    }

    /// The address-of-record of a user of this server.
    ///
    /// # Errors
    /// [`Fault::ConfigInvalid`] when the realm is no host.
    pub fn address_of_record(&self, user: &str) -> Result<SipUri> {
        Ok(SipUri::new(self.domain()?).with_user(user))
    }

    /// The realm as a host.
    pub(crate) fn domain(&self) -> Result<Host> {
        self.realm.parse().map_err(|error: Error| {
            Error::new(
                Fault::ConfigInvalid,
                "start home server",
                format!("the realm {:?} is no SIP domain", self.realm),
            )
            .caused_by(error)
            .advice("use a host name such as home.example, or an address")
        })
    }

    /// Refuses what cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let invalid = |message: String, advice: &str| {
            Err(Error::new(Fault::ConfigInvalid, "start home server", message).advice(advice))
        };
        self.domain()?;
        if self.sip.is_empty() {
            return invalid(
                "there is no SIP listener".to_owned(),
                "name at least one in `sip`",
            );
        }
        if let Some(listener) = self
            .sip
            .iter()
            .find(|l| l.bind.ip().is_unspecified() && l.advertise.is_none())
        {
            return invalid(
                format!(
                    "the listener {} {} has no address to tell others",
                    listener.transport, listener.bind
                ),
                "bind one address, or set `advertise`",
            );
        }
        if self.min_expires == 0 || self.min_expires > self.max_expires {
            return invalid(
                format!(
                    "min_expires {} and max_expires {} allow nothing",
                    self.min_expires, self.max_expires
                ),
                "keep 0 < min_expires <= max_expires",
            );
        }
        if self.max_bindings == 0 || self.max_users == 0 || self.max_forwarded == 0 {
            return invalid(
                "a bound of 0 allows nothing".to_owned(),
                "set each max_ to at least 1",
            );
        }
        Ok(())
    }
}

/// The STUN and TURN server over UDP (RFC 8489, RFC 8656), with the long-term credentials of the same users.
#[derive(Clone, Copy, Debug)]
pub struct TurnConfig {
    /// Where to listen; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// The address on which relayed ports are opened and that is told to clients.
    pub relay_ip: IpAddr,
    /// Most allocations at once; beyond it an Allocate request is answered 508 (Insufficient Capacity).
    pub max_allocations: usize,
}

impl TurnConfig {
    /// Listens and relays on the address of `bind`, for at most 200 allocations.
    pub fn on(bind: SocketAddr) -> Self {
        TurnConfig {
            bind,
            relay_ip: bind.ip(),
            max_allocations: 200,
        }
    }
}

/// Who may register, call and relay. Passwords are never printed.
#[derive(Clone)]
pub enum Users {
    /// Every name exists, with this one password: for tests and demonstrations.
    Any {
        /// Everybody's.
        password: String,
    },
    /// Name to password.
    Named(BTreeMap<String, String>),
}

impl Users {
    /// From pairs of name and password.
    pub fn named<N: Into<String>, P: Into<String>>(users: impl IntoIterator<Item = (N, P)>) -> Self {
        Users::Named(
            users
                .into_iter()
                .map(|(name, password)| (name.into(), password.into()))
                .collect(),
        )
    }

    /// The user's password, `None` for a name that does not exist.
    pub fn password(&self, name: &str) -> Option<&str> {
        match self {
            Users::Any { password } => Some(password),
            Users::Named(users) => users.get(name).map(String::as_str),
        }
    }

    /// Whether there is such a user.
    pub fn contains(&self, name: &str) -> bool {
        self.password(name).is_some()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Users::Any { .. } => f.debug_struct("Any").finish_non_exhaustive(),
            Users::Named(users) => f.debug_set().entries(users.keys()).finish(),
        }
    }
}

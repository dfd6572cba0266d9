#![doc = include_str!("../README.md")]

mod actor;
mod credentials;
mod driver;
mod hosts;
mod machine;
mod path;
mod report;
mod stun;

use actix::Message;
use siprtc_core::Result;
use siprtc_core::ice::{IceAgentFactory, IceConfig, IcePaths, IcePolicy, IceServer};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::ClientConfig;

pub use actor::NatAgent;
pub use hosts::{InterfaceFilter, host_addresses};
pub use path::{Mdns, Ports, SharedStats, complete};
pub use report::{ServerReport, ServerState};

/// The most STUN and TURN servers; those beyond are left out with a warning.
pub const MAX_SERVERS: usize = 16;

/// The most calls that wait for a server's first answer; one more is planned at once with what is known.
pub const MAX_WAITING: usize = 256;

/// What a call may be reached by, and how long finding out may take.
#[derive(Clone)]
pub struct NatConfig {
    /// Which of the host's addresses are used.
    pub interfaces: InterfaceFilter,
    /// STUN and TURN servers, by name or by address.
    pub servers: Vec<IceServer>,
    /// Which candidates may be used.
    pub policy: IcePolicy,
    /// How long a call waits for a server that nothing is known of yet, at most 10 s. A slower server is of use to the
    /// next call.
    pub probe_timeout: Duration,
    /// How long gathering may delay an offer or an answer; see [`IceConfig::gather_budget`].
    pub gather_budget: Duration,
    /// How often each server is asked again; at least 1 s, at most a day.
    pub probe_interval: Duration,
    /// Who does ICE for media engines that let it be done for them; `None`: they do it themselves.
    pub agent: Option<Arc<dyn IceAgentFactory>>,
    /// Which ports sockets of media are bound to; an engine that does ICE itself binds any.
    pub ports: Arc<Ports>,
    /// Who is asked for the addresses of candidates that are mDNS names; `None`: they are dropped.
    pub mdns: Option<Mdns>,
    /// Whom TURN over TLS trusts; `None`: it is not spoken.
    pub tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for NatConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatConfig")
            .field("interfaces", &self.interfaces)
            .field("servers", &self.servers.len())
            .field("policy", &self.policy)
            .field("agent", &self.agent.as_ref().map(|agent| agent.name()))
            .finish_non_exhaustive()
    }
}

impl Default for NatConfig {
    fn default() -> Self {
        NatConfig {
            interfaces: InterfaceFilter::default(),
            servers: Vec::new(),
            policy: IcePolicy::default(),
            probe_timeout: Duration::from_millis(200),
            gather_budget: Duration::from_millis(200),
            probe_interval: Duration::from_secs(30),
            agent: None,
            ports: Arc::new(Ports::any()),
            mdns: Some(Mdns::default()),
            tls: None,
        }
    }
}

/// What opens paths with the ICE agent of `config`; `None` when it names none.
pub fn paths(config: &NatConfig) -> Option<Arc<dyn IcePaths>> {
    path::Paths::of(config)
}

/// Asks for what the next call gathers with.
///
/// # Errors
/// `ConfigInvalid` when no interface is left, or when only relayed candidates are wanted and no TURN server can work
/// as configured; `TimedOut` when those TURN servers are silent; `Backend` when the agent is overloaded or gone.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<CallPlan>")]
pub struct PlanCall;

/// What a call gathers with.
#[derive(Clone, Debug)]
pub struct CallPlan {
    /// The addresses to bind (port 0), and the servers that answer, by address.
    pub ice: IceConfig,
    /// What is known of every server, in the configuration's order.
    pub servers: Vec<ServerReport>,
}

/// A server's health changed; the first finding is a change too.
#[derive(Clone, Debug, Eq, Message, PartialEq)]
#[rtype(result = "()")]
pub enum NatEvent {
    /// An interface came or went, or an address changed: what calls may use from now on, for a second at
    /// least.
    AddressesChanged(Vec<IpAddr>),
    /// It does not answer, refuses us, or has no address.
    ServerDown(ServerReport),
    /// It answers.
    ServerUp(ServerReport),
}

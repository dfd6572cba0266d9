//! Paths under a media engine (see [`siprtc_core::ice::IcePath`]): sockets, gathering, relays, consent, and the ICE agent
//! that the configuration names.

mod check;
mod consent;
mod gather;
mod generation;
mod io;
mod machine;
mod mdns;
mod ports;
mod relay;
mod rest;
mod roles;
mod shared;
mod socket;
mod stream;

use crate::NatConfig;
use crate::hosts::host_addresses;
use async_trait::async_trait;
use machine::{Machine, Setup};
use siprtc_core::ice::{
    IceAgentFactory, IceConfig, IceFeature, IceParameters, IcePath, IcePaths, IcePolicy, IceRole, IceServer,
    PathEventSink,
};
use siprtc_core::{Error, Fault, Result};
use socket::{Socket, Use};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio_rustls::rustls::ClientConfig;

pub use mdns::Mdns;
pub use ports::Ports;
pub use roles::complete;
pub use shared::SharedStats;

const OPERATION: &str = "open an ICE path";
/// RFC 8839 section 5.4: at least 24 and 128 bits at random.
const UFRAG: usize = 8;
const PWD: usize = 24;
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What every path of an endpoint shares.
pub(crate) struct Options {
    pub(crate) agent: Arc<dyn IceAgentFactory>,
    /// Which ports sockets are bound to.
    pub(crate) ports: Arc<Ports>,
    /// For TURN over TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The host's addresses as they are at the call.
    pub(crate) addresses: Box<dyn Fn() -> Result<Vec<IpAddr>> + Send + Sync>,
    pub(crate) budget: Duration,
    /// Who is asked for mDNS names; `None`: candidates that are names are dropped.
    pub(crate) mdns: Option<Mdns>,
}

impl Options {
    fn setup(&self, role: IceRole, policy: IcePolicy, servers: &[IceServer]) -> Setup {
        Setup {
            factory: self.agent.clone(),
            role,
            servers: servers.to_vec(),
            policy,
            origin: *ORIGIN,
            resolves: self.mdns.is_some(),
            credentials: Box::new(credentials),
            random: Box::new(rand::random::<f64>),
        }
    }
}

/// Where the beats of consent are counted from.
static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(|| tokio::time::Instant::now().into_std());

/// Opens paths with one agent.
pub(crate) struct Paths(Arc<Options>);

impl Paths {
    /// Of the agent that `config` names, if it names one.
    pub(crate) fn of(config: &NatConfig) -> Option<Arc<dyn IcePaths>> {
        let interfaces = config.interfaces.clone();
        Some(Arc::new(Paths(Arc::new(Options {
            agent: complete(config.agent.clone()?),
            ports: config.ports.clone(),
            tls: config.tls.clone(),
            addresses: Box::new(move || host_addresses(&interfaces)),
            budget: config.gather_budget,
            mdns: config.mdns,
        }))))
    }
}

impl fmt::Debug for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Paths").field(&self.0.agent.name()).finish()
    }
}

#[async_trait]
impl IcePaths for Paths {
    fn agent(&self) -> &'static str {
        self.0.agent.name()
    }

    async fn open(
        &self,
        config: &IceConfig,
        role: IceRole,
        events: Arc<dyn PathEventSink>,
    ) -> Result<Arc<dyn IcePath>> {
        check(config.policy, &*self.0.agent)?;
        let mut sockets = Vec::new();
        let mut refused = None;
        for addr in &config.bind {
            match self.0.ports.open(addr.ip(), config.policy, &config.servers) {
                Ok(opened) => sockets.extend(opened),
                Err(error) => {
                    tracing::warn!(%error, "an address is left out");
                    refused = Some(error);
                }
            }
        }
        if let (true, Some(error)) = (sockets.is_empty(), refused) {
            return Err(error);
        }
        Ok(self.start(config, role, events, sockets)?)
    }

    async fn open_pair(
        &self,
        config: &IceConfig,
        role: IceRole,
        events: Arc<dyn PathEventSink>,
    ) -> Result<(Arc<dyn IcePath>, Arc<dyn IcePath>)> {
        check(config.policy, &*self.0.agent)?;
        let addr = config.bind.first().ok_or_else(|| {
            Error::new(Fault::ApiMisuse, OPERATION, "there is no local address to bind")
                .advice("give IceConfig::bind at least one address")
        })?;
        let (rtp, rtcp) = self.0.ports.open_pair(addr.ip())?;
        let rtp = self.start(config, role, events, vec![(rtp, Use::All)])?;
        let rtcp = self.start(config, role, Arc::new(|_| ()), vec![(rtcp, Use::All)])?;
        Ok((rtp, rtcp))
    }
}

impl Paths {
    fn start(
        &self,
        config: &IceConfig,
        role: IceRole,
        events: Arc<dyn PathEventSink>,
        sockets: Vec<(Socket, Use)>,
    ) -> Result<Arc<io::Path>> {
        let options = self.0.clone();
        let mut bases = Vec::new();
        for (socket, purpose) in &sockets {
            bases.push((socket.addr().map_err(no_address)?, *purpose));
        }
        let setup = options.setup(role, config.policy, &config.servers);
        let now = tokio::time::Instant::now().into_std();
        let machine = Machine::new(now, setup, &bases)?;
        let sockets = sockets.into_iter().map(|(socket, _)| socket).collect();
        Ok(io::Path::open(
            machine,
            sockets,
            config.gather_budget,
            options,
            events,
        ))
    }
}

fn check(policy: IcePolicy, agent: &dyn IceAgentFactory) -> Result<()> {
    match agent.capability().gap(IceFeature::Relay) {
        Some(gap) if policy == IcePolicy::Relay => Err(Error::new(
            Fault::ConfigInvalid,
            OPERATION,
            format!(
                "ice.policy = \"relay\", and ice.agent = {:?} has none: {}",
                agent.name(),
                gap.why
            ),
        )
        .advice("choose another ice.agent")),
        _ => Ok(()),
    }
}

fn no_address(error: std::io::Error) -> Error {
    Error::new(Fault::Backend, OPERATION, "a socket has no address").caused_by(error)
}

fn credentials() -> IceParameters {
    let word = |length| {
        let letter = |_| char::from(ICE_CHARS[usize::from(rand::random::<u8>() & 63)]);
        (0..length).map(letter).collect()
    };
    IceParameters {
        ufrag: word(UFRAG),
        pwd: word(PWD),
        lite: false,
    }
}

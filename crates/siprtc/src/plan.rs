//! What the configuration's words mean, before anything starts.

use crate::config::{self, AccountConfig, CallConfig, Config, SipConfig, invalid};
use crate::registry;
use crate::tls_files;
use siprtc_core::ice::{IceServer, IceServerTransport};
use siprtc_core::sip::{
    DigestAlgorithm, DigestSecret, Feature, Host, Listener, ListenerConfig, NameAddr, SipCapability, SipUri,
    StackConfig, TimerConfig, Transport,
};
use siprtc_core::{Error, Fault, Result};
use siprtc_gateway::{Account, ContactNow, SessionTimer};
use siprtc_nat_agent::{InterfaceFilter, NatConfig, Ports};
use siprtc_registrar_client::Backoff;
use siprtc_sip_locate::{Ipv6, LocateConfig};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// A configuration that makes sense.
pub(crate) struct Plan {
    pub(crate) stack: StackConfig,
    pub(crate) locate: LocateConfig,
    pub(crate) nat: NatConfig,
    aor: SipUri,
    outbound: Vec<SipUri>,
    registrars: Vec<SipUri>,
    /// Where the account's server is, when it has one.
    towards: Option<SipUri>,
    /// What the way to the account's server is over.
    transport: Transport,
    flows: usize,
    weakest_digest: DigestAlgorithm,
}

impl Plan {
    pub(crate) fn read(config: &Config) -> Result<Self> {
        let account = &config.account;
        let aor: SipUri = match account.uri.as_str() {
            "" => "sip:anonymous@anonymous.invalid".parse()?,
            uri => config::sip_uri("account.uri", uri)?,
        };
        let outbound = uris("account.outbound", &account.outbound, &aor)?;
        let mut registrars = uris("account.registrars", &account.registrars, &aor)?;
        if registrars.is_empty() {
            registrars.clone_from(&outbound);
        }
        let towards = outbound.first().or(registrars.first());
        let transport = towards.unwrap_or(&aor).hop_transport();
        let flows = flows(account, transport, &registrars)?;
        Ok(Plan {
            stack: stack_config(config, towards, transport)?,
            towards: towards.cloned(),
            locate: locate_config(&config.sip)?,
            nat: nat_config(config)?,
            aor,
            outbound,
            registrars,
            transport,
            flows,
            weakest_digest: weakest_digest(&account.weakest_digest)?,
        })
    }

    /// Refuses what the stack called `name` cannot do.
    pub(crate) fn check(&self, name: &str, capability: &SipCapability) -> Result<()> {
        for listener in &self.stack.listeners {
            registry::check_transport("sip.listen", listener.transport, name, capability)?;
        }
        if !(self.outbound.is_empty() && self.registrars.is_empty()) {
            registry::check_transport("account.outbound", self.transport, name, capability)?;
        }
        if self.flows > self.registrars.len().max(1)
            && let Some(gap) = capability.gap(Feature::FlowControl)
        {
            return Err(wiring(format!(
                "account.flows = {} needs connections of one's own to one proxy, and sip.stack = {name:?} has none: {}",
                self.flows, gap.why
            ))
            .advice("give account.outbound a proxy for each flow, or choose another sip.stack"));
        }
        Ok(())
    }

    /// Binds a listener on every address to one, where the stack needs that.
    pub(crate) fn settle(&mut self, capability: Option<&SipCapability>) {
        if capability.is_some_and(|capability| capability.gap(Feature::AddressChanges).is_none()) {
            return;
        }
        for listener in &mut self.stack.listeners {
            // Nobody can answer 0.0.0.0: others are told the address that the way to the server starts from.
            if listener.bind.ip().is_unspecified() && listener.advertise.is_none() {
                let own = own_address(listener.bind.ip(), self.towards.as_ref());
                listener.bind.set_ip(own.unwrap_or(loopback(listener.bind.ip())));
            }
        }
    }

    /// The listener by which the account's server reaches us; `None`: over connections of ours only.
    fn reached_by<'a>(&self, listeners: &'a [Listener]) -> Option<&'a Listener> {
        let own = listeners
            .iter()
            .find(|listener| listener.transport == self.transport);
        match self.transport {
            Transport::Udp => own.or(listeners.first()),
            // RFC 7118 section 5.2: nobody opens a WebSocket to a client, wherever it listens.
            Transport::Ws | Transport::Wss => None,
            _ => own,
        }
    }

    /// How the contact is found out again when addresses have changed; `None`: it does not depend on them.
    pub(crate) fn contact_now(&self, listeners: &[Listener]) -> Option<ContactNow> {
        let listener = *self.reached_by(listeners)?;
        if !listener.advertised.ip().is_unspecified() {
            return None;
        }
        let (aor, towards) = (self.aor.clone(), self.towards.clone());
        Some(Arc::new(move || {
            let own = own_address(listener.advertised.ip(), towards.as_ref())?;
            Some(NameAddr::new(contact(&aor, &at(listener, own))))
        }))
    }

    pub(crate) fn account(&self, config: &Config, listeners: &[Listener]) -> Result<Account> {
        let account = &config.account;
        let user = self.aor.decoded_user();
        let reached_by = self.reached_by(listeners);
        let contact = match reached_by {
            Some(listener) => {
                let told = listener.advertised.ip();
                let own = match told.is_unspecified() {
                    true => own_address(told, self.towards.as_ref()).unwrap_or(loopback(told)),
                    false => told,
                };
                contact(&self.aor, &at(*listener, own))
            }
            None => self.connected_contact(user.as_deref())?,
        };
        let secret = (!account.password.is_empty()).then(|| DigestSecret {
            username: if account.auth_user.is_empty() {
                user.unwrap_or_default()
            } else {
                account.auth_user.clone()
            },
            password: account.password.clone(),
        });
        let asks_for_instance = self.flows > 0 || account.gruu;
        let instance = match account.instance.as_str() {
            "" => asks_for_instance.then(random_urn),
            urn => Some(instance(urn)?),
        };
        Ok(Account {
            display_name: Some(account.display_name.clone()).filter(|name| !name.is_empty()),
            secret,
            outbound: self.outbound.first().cloned(),
            registrars: self.registrars.clone(),
            expires: account.expires_s,
            backoff: Backoff {
                first: Duration::from_millis(account.backoff_first_ms),
                most: Duration::from_secs(account.backoff_most_s),
                ..Backoff::default()
            },
            instance,
            flows: self.flows,
            recovery: Backoff {
                first: Duration::from_secs(account.recovery_first_s),
                most: Duration::from_secs(account.recovery_most_s),
                ..Backoff::recovery()
            },
            keepalive: (account.keepalive_s > 0).then(|| Duration::from_secs(account.keepalive_s)),
            gruu: account.gruu,
            weakest_digest: self.weakest_digest,
            connected_only: self.transport.is_reliable() && reached_by.is_none(),
            ..Account::new(self.aor.clone(), NameAddr::new(contact))
        })
    }

    /// For who can be reached over its own connection only: a host that nobody resolves (RFC 7118 section 5.2, RFC 2606).
    fn connected_contact(&self, user: Option<&str>) -> Result<SipUri> {
        let host: Host = format!("{:012x}.invalid", rand::random::<u64>() >> 16).parse()?;
        let mut contact = with_scheme(&self.aor, SipUri::new(host), user);
        contact = match self.transport {
            Transport::Ws | Transport::Wss => contact.with_transport(Transport::Ws),
            Transport::Tls if contact.secure => contact,
            transport => contact.with_transport(transport),
        };
        if matches!(self.transport, Transport::Tcp | Transport::Tls) {
            contact.params.set_flag("ob");
        }
        Ok(contact)
    }
}

/// A listener on every address, as it is reached at one.
fn at(listener: Listener, own: IpAddr) -> Listener {
    let advertised = SocketAddr::new(own, listener.advertised.port());
    Listener {
        advertised,
        ..listener
    }
}

/// What others reach a listener by.
fn contact(aor: &SipUri, listener: &Listener) -> SipUri {
    let user = aor.decoded_user();
    let contact = with_scheme(aor, SipUri::from_addr(listener.advertised), user.as_deref());
    match listener.transport {
        Transport::Udp => contact,
        // RFC 5630 section 3.1.3: sips: says TLS already.
        Transport::Tls if contact.secure => contact,
        transport => contact.with_transport(transport),
    }
}

/// RFC 5630 section 3.1.2: who is reached by sips: says so in its Contact.
fn with_scheme(aor: &SipUri, uri: SipUri, user: Option<&str>) -> SipUri {
    let uri = SipUri {
        secure: aor.secure,
        ..uri
    };
    match user {
        Some(user) => uri.with_user(user),
        None => uri,
    }
}

/// The URIs of `key`; those of a sips: account are reached over TLS.
fn uris(key: &str, texts: &[String], aor: &SipUri) -> Result<Vec<SipUri>> {
    let read = |text: &String| {
        let uri = config::sip_uri(key, text)?;
        if aor.secure && !uri.hop_transport().is_secure() {
            return Err(wiring(format!(
                "{key} = {text:?} is reached without TLS, and account.uri is sips:"
            ))
            .advice("write it as sips:host, or with transport=tls or wss: sips: is never downgraded"));
        }
        Ok(uri)
    };
    texts.iter().map(read).collect()
}

fn flows(account: &AccountConfig, transport: Transport, registrars: &[SipUri]) -> Result<usize> {
    let most = siprtc_registrar_client::RegistrarConfig::MAX_FLOWS;
    if account.flows > most {
        return Err(
            wiring(format!("account.flows = {} is more than {most}", account.flows))
                .advice("two are enough to survive the loss of one"),
        );
    }
    // Two flows between the same two UDP addresses are one.
    if transport == Transport::Udp && account.flows > registrars.len().max(1) {
        return Err(wiring(format!(
            "account.flows = {} over UDP to fewer proxies",
            account.flows
        ))
        .advice("give account.outbound a proxy for each flow, or use TCP, TLS or a WebSocket"));
    }
    Ok(account.flows)
}

fn weakest_digest(text: &str) -> Result<DigestAlgorithm> {
    DigestAlgorithm::from_name(text).ok_or_else(|| {
        wiring(format!("account.weakest_digest = {text:?} is not known"))
            .advice("choose one of: md5, sha-256")
    })
}

/// RFC 5626 section 4.1: a URN.
fn instance(urn: &str) -> Result<String> {
    let fits = urn.len() <= 255
        && urn
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>\"\\".contains(&byte));
    if fits
        && urn
            .get(..4)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("urn:"))
    {
        return Ok(urn.to_owned());
    }
    Err(wiring(format!("account.instance = {urn:?} is no URN"))
        .advice("write urn:uuid: and a UUID that stays the same for this device, or leave it empty"))
}

/// A random one (RFC 4122 section 4.4), as good as any until this endpoint stops.
fn random_urn() -> String {
    let random: u128 = rand::random();
    let uuid = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    let [a, b, c, d, e] =
        [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    format!("urn:uuid:{a}-{b}-{c}-{d}-{e}")
}

fn wiring(message: String) -> Error {
    Error::new(Fault::ConfigInvalid, "wire the endpoint", message)
}

fn stack_config(config: &Config, towards: Option<&SipUri>, transport: Transport) -> Result<StackConfig> {
    let sip = &config.sip;
    let listeners: Result<Vec<_>> = sip
        .listen
        .iter()
        .map(|text| config::listener("sip.listen", text))
        .collect();
    let listeners = listeners?;
    if listeners.is_empty() && (towards.is_none() || !transport.is_reliable()) {
        return Err(wiring("sip.listen is empty".to_owned()).advice(
            "write at least one listener, such as udp:0.0.0.0:0, or reach account.outbound over tcp, tls, ws or wss",
        ));
    }
    let tls = tls_files::read(&sip.tls)?;
    if let Some(listener) = listeners.iter().find(|listener| needs_certificate(listener))
        && tls.identity.is_none()
    {
        return Err(wiring(format!(
            "sip.listen has {} on {} and sip.tls.certificate is empty",
            listener.transport, listener.bind
        ))
        .advice("give sip.tls.certificate and sip.tls.key, or take the listener out"));
    }
    let defaults = StackConfig::default();
    Ok(StackConfig {
        listeners,
        user_agent: if sip.user_agent.is_empty() {
            defaults.user_agent
        } else {
            sip.user_agent.clone()
        },
        timers: TimerConfig {
            t1: Duration::from_millis(sip.t1_ms),
            t2: Duration::from_millis(sip.t2_ms),
            t4: Duration::from_millis(sip.t4_ms),
        },
        limits: defaults.limits,
        max_transactions: sip.max_transactions,
        max_connections: sip.max_connections,
        tls,
    })
}

/// RFC 4028 section 5: no Min-SE is below 90 s.
const SESSION: std::ops::RangeInclusive<u64> = 90..=86_400;

/// `call.session_timer_s` and `call.session_timer_least_s`.
pub(crate) fn session_timer(call: &CallConfig) -> Result<Option<SessionTimer>> {
    let (interval, least) = (call.session_timer_s, call.session_timer_least_s);
    if interval == 0 {
        return Ok(None);
    }
    for (key, seconds) in [
        ("call.session_timer_s", interval),
        ("call.session_timer_least_s", least),
    ] {
        if !SESSION.contains(&seconds) {
            return Err(
                invalid(format!("{key} = {seconds} is no session interval")).advice(
                    "give 90 to 86400 s (RFC 4028 section 5); session_timer_s = 0 switches the timer off",
                ),
            );
        }
    }
    Ok(Some(SessionTimer {
        interval: Duration::from_secs(interval),
        least: Duration::from_secs(least),
    }))
}

fn needs_certificate(listener: &ListenerConfig) -> bool {
    listener.transport.is_secure()
}

fn locate_config(sip: &SipConfig) -> Result<LocateConfig> {
    let nameservers: Result<Vec<_>> = sip.dns.iter().map(|text| name_server(text)).collect();
    let ipv6 = match sip.dns_ipv6.as_str() {
        "first" => Ipv6::First,
        "last" => Ipv6::Last,
        "never" => Ipv6::Never,
        other => {
            return Err(invalid(format!("sip.dns_ipv6 = {other:?} is not known"))
                .advice("choose one of: first, last, never"));
        }
    };
    Ok(LocateConfig {
        nameservers: nameservers?,
        timeout: Duration::from_millis(sip.dns_timeout_ms),
        udp_limit: sip.udp_limit,
        ipv6,
        websocket_path: websocket_path(&sip.websocket_path)?,
    })
}

/// Longest path of a WebSocket.
const MAX_PATH: usize = 256;

/// A path as it may stand in an HTTP request (RFC 3986 section 3.3), without a query.
fn websocket_path(text: &str) -> Result<String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if text.starts_with('/') && text.len() <= MAX_PATH && text.bytes().all(is_fine) {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("sip.websocket_path = {text:?} is no path"))
        .advice("write it as the server has it: \"/\", or \"/ws\" for Asterisk"))
}

/// A name server: an address, with its port when that is not 53.
fn name_server(text: &str) -> Result<SocketAddr> {
    let with_port = text.parse::<SocketAddr>();
    let bare = |_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    with_port.or_else(bare).map_err(|_| {
        invalid(format!("sip.dns: {text:?} is no address")).advice("write 192.0.2.53 or 192.0.2.53:5353")
    })
}

/// Our own address on the way to `towards` (no packet is sent), or on the way out; `None`: no route leads there.
fn own_address(unspecified: IpAddr, towards: Option<&SipUri>) -> Option<IpAddr> {
    let ways = [
        towards.and_then(SipUri::socket_addr),
        Some(SocketAddr::new(
            if unspecified.is_ipv4() {
                IpAddr::from([192, 0, 2, 1])
            } else {
                IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
            },
            9,
        )),
    ];
    let own = |way: SocketAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(unspecified, 0)).ok()?;
        socket.connect(way).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    };
    ways.into_iter()
        .flatten()
        .filter(|way| way.is_ipv4() == unspecified.is_ipv4())
        .find_map(own)
}

fn loopback(unspecified: IpAddr) -> IpAddr {
    match unspecified {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

fn ports(range: &[u16], share: bool) -> Result<Ports> {
    match range {
        [] if share => Err(
            wiring("ice.share_ports = true, and ice.ports names none".to_owned())
                .advice("write the port or ports to share, such as ice.ports = [40000, 40000]"),
        ),
        [] => Ok(Ports::any()),
        [first, last] if share => Ports::shared(*first, *last),
        [first, last] => Ports::range(*first, *last),
        _ => Err(wiring(format!(
            "ice.ports = {range:?} is neither empty nor a first and a last port"
        ))
        .advice("write it like [40000, 40099]")),
    }
}

fn nat_config(config: &Config) -> Result<NatConfig> {
    let ice = &config.ice;
    let servers: Result<Vec<IceServer>> = ice.servers.iter().map(config::IceServerConfig::parse).collect();
    let servers = servers?;
    let streams = |server: &&IceServer| server.transport != IceServerTransport::Udp;
    if let Some(server) = servers
        .iter()
        .find(streams)
        .filter(|_| ice.agent == registry::BUILT_IN)
    {
        return Err(wiring(format!(
            "ice.servers: {:?}: ice.agent = \"builtin\" speaks TURN over UDP only",
            server.url()
        ))
        .advice("choose another ice.agent: is, rtc"));
    }
    let tls = match servers
        .iter()
        .any(|server| server.transport == IceServerTransport::Tls)
    {
        true => Some(siprtc_sip_locate::tls::client_config(&tls_files::authorities(
            "ice.tls",
            &ice.tls.ca,
            ice.tls.verify,
        )?)?),
        false => None,
    };
    Ok(NatConfig {
        interfaces: InterfaceFilter {
            allow: ice.interfaces.clone(),
            deny: ice.interfaces_deny.clone(),
            loopback: ice.loopback,
            ipv6: ice.ipv6,
            link_local: ice.link_local,
        },
        servers,
        policy: ice.policy()?,
        probe_timeout: Duration::from_millis(ice.probe_timeout_ms),
        gather_budget: Duration::from_millis(ice.gather_budget_ms),
        probe_interval: Duration::from_secs(ice.probe_interval_s),
        // Whoever does ICE for the first engine, another may need sockets.
        agent: registry::ice_agent(&ice.agent).or(registry::ice_agent(registry::DEFAULT_ICE_AGENT)),
        ports: Arc::new(ports(&ice.ports, ice.share_ports)?),
        mdns: ice.mdns()?,
        tls,
    })
}

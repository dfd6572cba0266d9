//! Does: the sockets, the resolver and the timer around the machine, as one task on the shared runtime.

use crate::hosts::host_addresses;
use crate::machine::{Input, Machine, Output, Plan};
use crate::path::Paths;
use crate::{CallPlan, MAX_SERVERS, NatConfig, NatEvent};
use actix::Recipient;
use siprtc_core::Result;
use siprtc_core::ice::{IceConfig, IcePaths};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// How long the resolver may take for one name.
const DNS_LIMIT: Duration = Duration::from_secs(3);
/// No answer to a probe is longer: RFC 8489 section 6.1 keeps STUN below the path's MTU.
const MAX_PACKET: usize = 1_500;
/// How often the interfaces are looked at. What the system tells by itself differs from one to the next; a look costs some
/// 30 microseconds.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing may happen when the machine asks for nothing.
const IDLE: Duration = Duration::from_secs(3_600);

/// A call waits for its plan here.
pub(crate) type Reply = oneshot::Sender<Result<CallPlan>>;

pub(crate) struct Driver {
    config: NatConfig,
    events: Recipient<NatEvent>,
    machine: Machine,
    /// With an ICE agent of ours.
    paths: Option<Arc<dyn IcePaths>>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// At most one lookup per server: the machine asks for no second one while one runs.
    lookups: JoinSet<(usize, Result<SocketAddr, String>)>,
    replies: HashMap<u64, Reply>,
    next_id: u64,
    /// As told.
    addresses: Vec<IpAddr>,
    /// At the last look.
    seen: Vec<IpAddr>,
}

impl Driver {
    /// Runs until every sender of `calls` is gone.
    pub(crate) async fn run(
        config: NatConfig,
        events: Recipient<NatEvent>,
        mut calls: mpsc::Receiver<Reply>,
    ) {
        // Without a server to probe there is no reason for an open port.
        let probes = !config.servers.is_empty();
        let v4 = bind_if(probes, Ipv4Addr::UNSPECIFIED.into()).await;
        let v6 = bind_if(probes && config.interfaces.ipv6, Ipv6Addr::UNSPECIFIED.into()).await;
        let addresses = host_addresses(&config.interfaces).unwrap_or_default();
        let mut driver = Driver {
            machine: Machine::new(Instant::now().into_std(), SystemTime::now(), &config),
            paths: Paths::of(&config),
            config,
            events,
            v4,
            v6,
            lookups: JoinSet::new(),
            replies: HashMap::new(),
            next_id: 0,
            addresses,
            seen: Vec::new(),
        };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        driver.turn(Input::Tick).await;
        let (mut packet4, mut packet6) = ([0; MAX_PACKET], [0; MAX_PACKET]);
        loop {
            let now = Instant::now();
            let wake = driver
                .machine
                .poll_timeout()
                .map_or(now + IDLE, Instant::from_std);
            tokio::select! {
                call = calls.recv() => match call {
                    Some(reply) => driver.call(reply).await,
                    None => return,
                },
                (length, from) = receive(driver.v4.as_ref(), &mut packet4) => driver.packet(from, &packet4[..length]).await,
                (length, from) = receive(driver.v6.as_ref(), &mut packet6) => driver.packet(from, &packet6[..length]).await,
                Some(done) = driver.lookups.join_next() => if let Ok((index, result)) = done {
                    driver.turn(Input::Resolved { index, result }).await;
                },
                _ = looks.tick() => driver.look(),
                () = sleep_until(wake) => driver.turn(Input::Tick).await,
            }
        }
    }

    /// Whether the interfaces are what they were.
    fn look(&mut self) {
        let addresses = host_addresses(&self.config.interfaces).unwrap_or_default();
        // Without any there is nothing to be done but to wait; and routes come after addresses: what is told has lasted from
        // one look to the next.
        let is_new = !addresses.is_empty() && addresses != self.addresses;
        if is_new && addresses == self.seen {
            self.addresses.clone_from(&addresses);
            self.tell(NatEvent::AddressesChanged(addresses.clone()));
        }
        self.seen = addresses;
    }

    async fn call(&mut self, reply: Reply) {
        self.replies.retain(|_, reply| !reply.is_closed());
        let id = self.next_id;
        self.next_id += 1;
        self.replies.insert(id, reply);
        self.turn(Input::Plan { id }).await;
    }

    async fn packet(&mut self, from: SocketAddr, data: &[u8]) {
        if self.machine.expects(from) {
            self.turn(Input::Packet { from, data }).await;
        }
    }

    async fn turn(&mut self, input: Input<'_>) {
        self.machine.handle(Instant::now().into_std(), input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Event(event) => self.tell(event),
                Output::Plan { id, result } => self.reply(id, result),
                Output::Resolve { index, host, port } => self.resolve(index, host, port),
                Output::Send { to, data } => self.send(to, &data).await,
            }
        }
    }

    /// A full mailbox costs only this event: the report stands in every plan.
    fn tell(&self, event: NatEvent) {
        match &event {
            NatEvent::AddressesChanged(addresses) => tracing::info!(?addresses, "addresses changed"),
            NatEvent::ServerDown(report) => tracing::warn!(%report, "ICE server down"),
            NatEvent::ServerUp(report) => tracing::info!(%report, "ICE server up"),
        }
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "nobody took the event");
        }
    }

    fn reply(&mut self, id: u64, result: Result<Plan>) {
        let Some(reply) = self.replies.remove(&id) else {
            return;
        };
        let plan = result.and_then(|plan| {
            let addresses = host_addresses(&self.config.interfaces)?;
            let ice = IceConfig {
                bind: addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect(),
                servers: plan.live,
                policy: self.config.policy,
                gather_budget: self.config.gather_budget,
                paths: self.paths.clone(),
            };
            Ok(CallPlan {
                ice,
                servers: plan.reports,
            })
        });
        // A caller that no longer waits is gone, and so is its call.
        let _ = reply.send(plan);
    }

    fn resolve(&mut self, index: usize, host: String, port: u16) {
        if self.lookups.len() >= MAX_SERVERS {
            return;
        }
        let ipv6 = self.config.interfaces.ipv6;
        self.lookups.spawn(async move {
            let lookup = timeout(DNS_LIMIT, tokio::net::lookup_host((host, port)));
            let result = match lookup.await {
                Ok(Ok(found)) => choose(found.collect(), ipv6),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer from the DNS in {DNS_LIMIT:?}")),
            };
            (index, result)
        });
    }

    async fn send(&self, to: SocketAddr, data: &[u8]) {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else {
            return tracing::debug!(%to, "no socket of that family");
        };
        // The machine sends again, and then calls the server silent: which is what it is from here.
        if let Err(error) = socket.send_to(data, to).await {
            tracing::debug!(%to, %error, "probe not sent");
        }
    }
}

/// IPv4 first, like the host's own addresses.
fn choose(found: Vec<SocketAddr>, ipv6: bool) -> Result<SocketAddr, String> {
    let v4 = found.iter().find(|addr| addr.is_ipv4());
    let v6 = found.iter().find(|addr| addr.is_ipv6());
    match (v4, v6) {
        (Some(addr), _) => Ok(*addr),
        (None, Some(addr)) if ipv6 => Ok(*addr),
        (None, Some(_)) => Err("only IPv6 addresses, and ice.interfaces.ipv6 is off".to_owned()),
        (None, None) => Err("the name has no address".to_owned()),
    }
}

async fn bind_if(wanted: bool, addr: IpAddr) -> Option<UdpSocket> {
    if !wanted {
        return None;
    }
    UdpSocket::bind((addr, 0))
        .await
        .inspect_err(|error| tracing::warn!(%addr, %error, "no socket for probes"))
        .ok()
}

/// The next datagram; never, without a socket. An ICMP error shows up here as an error of the socket: it says nothing
/// that silence does not say.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        match socket.recv_from(buffer).await {
            Ok(received) => return received,
            Err(error) => {
                tracing::debug!(%error, "probe socket");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

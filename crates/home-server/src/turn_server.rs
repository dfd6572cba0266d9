//! The STUN and TURN server over UDP for the users that register: `siprtc-turn-server` with a home's rules.

use crate::config::{TurnConfig, Users};
use siprtc_core::Result;
use siprtc_turn_server::{Credentials, Limits, Listener, Network, Relay, Server, Transport};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A running TURN server.
#[derive(Debug)]
pub(crate) struct TurnServer {
    server: Server,
    addr: SocketAddr,
}

impl TurnServer {
    pub(crate) fn start(config: TurnConfig, realm: &str, users: &Users) -> Result<Self> {
        let credentials = match users {
            Users::Any { password } => Credentials::any(password),
            Users::Named(users) => Credentials::named(users),
        };
        let server = Server::start(siprtc_turn_server::TurnConfig {
            listeners: vec![Listener {
                transport: Transport::Udp,
                bind: config.bind,
            }],
            relays: vec![Relay::from(config.relay_ip)],
            ports: 0..=0,
            realm: realm.to_owned(),
            credentials,
            identity: None,
            // Whoever calls at home has a private address.
            allow_peers: vec![
                Network::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
                Network::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
            ],
            deny_peers: Vec::new(),
            limits: Limits {
                allocations: config.max_allocations,
                allocations_per_user: config.max_allocations,
                ..Limits::default()
            },
            workers: 1,
        })?;
        let addr = server
            .listeners()
            .first()
            .map_or(config.bind, |listener| listener.bind);
        Ok(TurnServer { server, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Relayed ports that are open.
    pub(crate) fn allocations(&self) -> usize {
        usize::try_from(self.server.meter().snapshot().allocations).unwrap_or(usize::MAX)
    }

    /// Closes every allocation and frees the ports before it returns.
    pub(crate) async fn shutdown(self) {
        // It waits some milliseconds for its thread.
        drop(tokio::task::spawn_blocking(|| self.server.shutdown()).await);
    }
}

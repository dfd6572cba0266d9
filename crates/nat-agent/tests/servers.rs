//! The agent against servers on loopback: a real TURN server in this process, and sockets that say nothing.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

use actix::{Actor, Addr, Context, Handler};
use siprtc_core::Fault;
use siprtc_core::ice::{IcePolicy, IceServer, IceServerKind};
use siprtc_nat_agent::{
    CallPlan, InterfaceFilter, NatAgent, NatConfig, NatEvent, PlanCall, ServerState, host_addresses,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

const REALM: &str = "loopback";

struct OneUser;

impl AuthHandler for OneUser {
    fn auth_handle(&self, username: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        if username == "alice" {
            Ok(generate_auth_key("alice", realm, "secret"))
        } else {
            Err(turn::Error::ErrNoSuchUser)
        }
    }
}

async fn turn_server() -> (Server, SocketAddr) {
    turn_server_on("127.0.0.1:0").await
}

async fn turn_server_on(bind: &str) -> (Server, SocketAddr) {
    let conn = Arc::new(UdpSocket::bind(bind).await.unwrap());
    let addr = conn.local_addr().unwrap();
    let relay = RelayAddressGeneratorStatic {
        relay_address: addr.ip(),
        address: "127.0.0.1".to_owned(),
        net: Arc::new(Net::new(None)),
    };
    let config = ServerConfig {
        conn_configs: vec![ConnConfig {
            conn,
            relay_addr_generator: Box::new(relay),
        }],
        realm: REALM.to_owned(),
        auth_handler: Arc::new(OneUser),
        channel_bind_timeout: Duration::ZERO,
        alloc_close_notify: None,
    };
    (Server::new(config).await.unwrap(), addr)
}

/// Passes the agent's events on.
struct Listener(mpsc::UnboundedSender<NatEvent>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<NatEvent> for Listener {
    type Result = ();

    fn handle(&mut self, event: NatEvent, _: &mut Self::Context) {
        let _ = self.0.send(event);
    }
}

fn stun(addr: SocketAddr) -> IceServer {
    IceServer::udp(addr.ip().to_string(), addr.port(), IceServerKind::Stun)
}

fn turn_as(addr: SocketAddr, username: &str, password: &str) -> IceServer {
    let kind = IceServerKind::Turn {
        username: username.to_owned(),
        password: password.to_owned(),
    };
    IceServer { kind, ..stun(addr) }
}

fn agent(
    servers: Vec<IceServer>,
    change: impl FnOnce(&mut NatConfig),
) -> (Addr<NatAgent>, mpsc::UnboundedReceiver<NatEvent>) {
    let mut config = NatConfig {
        interfaces: InterfaceFilter {
            loopback: true,
            ..InterfaceFilter::default()
        },
        servers,
        // A whole second: what answers, answers long before, however slow this machine is.
        probe_timeout: Duration::from_secs(1),
        ..NatConfig::default()
    };
    change(&mut config);
    let (sender, events) = mpsc::unbounded_channel();
    let listener = Listener(sender).start().recipient();
    (
        NatAgent::new(config, tokio::runtime::Handle::current(), listener).start(),
        events,
    )
}

async fn plan(agent: &Addr<NatAgent>) -> siprtc_core::Result<CallPlan> {
    agent.send(PlanCall).await.unwrap()
}

#[actix_rt::test]
async fn live_servers_are_in_the_plan_with_the_addresses_to_bind() {
    let (server, addr) = turn_server().await;
    let (agent, mut events) = agent(vec![stun(addr), turn_as(addr, "alice", "secret")], |_| ());
    let plan = plan(&agent).await.unwrap();
    let hosts: Vec<String> = plan.ice.servers.iter().map(IceServer::url).collect();
    assert_eq!(
        hosts,
        [format!("stun:{addr}"), format!("turn:{addr}?transport=udp")]
    );
    assert!(
        plan.ice.bind.contains(&"127.0.0.1:0".parse().unwrap()),
        "{:?}",
        plan.ice.bind
    );
    for report in &plan.servers {
        let ServerState::Alive { mapped, .. } = &report.state else {
            panic!("{report}")
        };
        assert_eq!(mapped.ip().to_string(), "127.0.0.1", "{report}");
    }
    assert!(matches!(events.recv().await, Some(NatEvent::ServerUp(_))));
    assert!(matches!(events.recv().await, Some(NatEvent::ServerUp(_))));
    server.close().await.unwrap();
}

#[actix_rt::test]
async fn a_server_on_ipv6_is_asked_over_ipv6() {
    let (server, addr) = turn_server_on("[::1]:0").await;
    let (agent, _events) = agent(vec![stun(addr)], |config| config.interfaces.ipv6 = true);
    let plan = plan(&agent).await.unwrap();
    assert_eq!(plan.ice.servers[0].url(), format!("stun:{addr}"));
    assert!(
        plan.ice.bind.contains(&"[::1]:0".parse().unwrap()),
        "{:?}",
        plan.ice.bind
    );
    server.close().await.unwrap();
}

#[actix_rt::test]
async fn a_probe_leaves_no_allocation_behind() {
    let (server, addr) = turn_server().await;
    let (agent, _events) = agent(vec![turn_as(addr, "alice", "secret")], |_| ());
    plan(&agent).await.unwrap();
    for _ in 0..200 {
        if server.get_allocations_info(None).await.unwrap().is_empty() {
            return server.close().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the allocation stayed");
}

#[actix_rt::test]
async fn wrong_credentials_are_told_before_the_first_call() {
    let (server, addr) = turn_server().await;
    let servers = vec![
        turn_as(addr, "alice", "guessed"),
        turn_as(addr, "mallory", "secret"),
    ];
    let (agent, mut events) = agent(servers, |config| config.policy = IcePolicy::Relay);
    let Some(NatEvent::ServerDown(report)) = events.recv().await else {
        panic!("must be down")
    };
    assert!(matches!(report.state, ServerState::Refused { .. }), "{report}");
    let error = plan(&agent).await.unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
    assert!(error.to_string().contains("refuses user alice"), "{error}");
    assert!(error.to_string().contains("refuses user mallory"), "{error}");
    server.close().await.unwrap();
}

#[actix_rt::test]
async fn silent_and_nameless_servers_are_left_out_and_named() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A label of more than 63 octets never leaves for the DNS.
    let nameless = IceServer::udp(format!("{}.invalid", "x".repeat(70)), 3478, IceServerKind::Stun);
    let servers = vec![stun(silent.local_addr().unwrap()), nameless];
    let (agent, _events) = agent(servers, |config| {
        config.probe_timeout = Duration::from_millis(300)
    });
    let plan = plan(&agent).await.unwrap();
    assert!(plan.ice.servers.is_empty());
    assert_eq!(plan.servers[0].state, ServerState::Silent);
    assert!(
        matches!(plan.servers[1].state, ServerState::Unresolvable(_)),
        "{}",
        plan.servers[1]
    );
    let mut request = [0; 100];
    let (length, _) = silent.recv_from(&mut request).await.unwrap();
    assert!(
        rtc_stun::message::is_stun_message(&request[..length]),
        "it was asked"
    );
}

#[actix_rt::test]
async fn an_interface_that_is_not_there_is_the_configurations_fault() {
    let (agent, _events) = agent(Vec::new(), |config| {
        config.interfaces.allow = vec!["no-such-interface".to_owned()]
    });
    assert_eq!(plan(&agent).await.unwrap_err().fault(), Fault::ConfigInvalid);
}

#[test]
fn loopback_is_there_when_asked_for() {
    let filter = InterfaceFilter {
        allow: vec!["127.0.0.1".to_owned()],
        ..InterfaceFilter::default()
    };
    assert_eq!(
        host_addresses(&filter).unwrap(),
        ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
}

//! Two ends of a path, as media engines would drive them.

use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::ice::{
    Candidate, IceAgentFactory, IceConfig, IcePath, IceRole, IceServer, IceServerKind, IceState, PathEvent,
    PathEventSink,
};
use siprtc_nat_agent::{InterfaceFilter, NatConfig, Ports, paths};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

const USER: &str = "alice";
const PASSWORD: &str = "secret";
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn agents() -> Vec<Arc<dyn IceAgentFactory>> {
    vec![
        siprtc_ice_ezk::factory(),
        siprtc_ice_is::factory(),
        siprtc_ice_rtc::factory(),
    ]
}

pub(crate) struct End {
    pub(crate) path: Arc<dyn IcePath>,
    pub(crate) candidates: Vec<Candidate>,
    events: Events,
    heard: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

type Events = Arc<Mutex<Vec<PathEvent>>>;

fn ear() -> (Events, Arc<dyn PathEventSink>) {
    let events = Events::default();
    let told = events.clone();
    (events, Arc::new(move |event| told.lock().push(event)))
}

impl Drop for End {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl End {
    async fn new(agent: &Arc<dyn IceAgentFactory>, role: IceRole, config: &IceConfig) -> Self {
        End::with(&nat(agent), role, config).await
    }

    pub(crate) async fn with(nat: &NatConfig, role: IceRole, config: &IceConfig) -> Self {
        let (events, sink) = ear();
        let path = paths(nat).unwrap().open(config, role, sink).await.unwrap();
        End::over(path, events).await
    }

    /// Another path over the same sockets.
    pub(crate) async fn fork(&self) -> siprtc_core::Result<Self> {
        let (events, sink) = ear();
        Ok(End::over(self.path.fork(sink)?, events).await)
    }

    /// Two of a peer's that may have no ICE.
    pub(crate) async fn rtp_and_rtcp(nat: &NatConfig, role: IceRole) -> (Self, Self) {
        let (events, sink) = ear();
        let opened = paths(nat).unwrap().open_pair(&loopback(), role, sink).await;
        let (rtp, rtcp) = opened.unwrap();
        (
            End::over(rtp, events).await,
            End::over(rtcp, Events::default()).await,
        )
    }

    async fn over(path: Arc<dyn IcePath>, events: Events) -> Self {
        let (sender, heard) = mpsc::channel(1_000);
        let read = path.clone();
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 2_048];
            loop {
                let (length, _) = std::future::poll_fn(|cx| read.poll_receive(cx, &mut buffer)).await;
                if sender.send(buffer[..length].to_vec()).await.is_err() {
                    return;
                }
            }
        });
        let candidates = path.gather().await;
        End {
            path,
            candidates,
            events,
            heard: tokio::sync::Mutex::new(heard),
            reader,
        }
    }

    /// Neither knows of the other yet.
    pub(crate) async fn both(
        caller: &Arc<dyn IceAgentFactory>,
        callee: &Arc<dyn IceAgentFactory>,
        change: impl Fn(&mut IceConfig),
    ) -> (End, End) {
        let mut config = loopback();
        change(&mut config);
        (
            End::new(caller, IceRole::Controlling, &config).await,
            End::new(callee, IceRole::Controlled, &config).await,
        )
    }

    /// Offer and answer.
    pub(crate) async fn introduce(a: &End, b: &End) {
        b.path.set_remote(&a.path.parameters(), &a.candidates).unwrap();
        a.path.set_remote(&b.path.parameters(), &b.candidates).unwrap();
        for end in [a, b] {
            end.until(|event| matches!(event, PathEvent::Selected(_))).await;
        }
    }

    pub(crate) async fn receive(&self) -> Vec<u8> {
        self.heard.lock().await.recv().await.unwrap()
    }

    /// `count` datagrams arrive, whole and in order.
    pub(crate) async fn exchange(&self, to: &End, count: u8) {
        for number in 0..count {
            let datagram = [&[128, number][..], &[number; 200]].concat();
            self.path.send(&datagram);
            let heard = tokio::time::timeout(PATIENCE, to.receive())
                .await
                .expect("a datagram is lost");
            assert_eq!(heard, datagram);
        }
    }

    /// Waits for an event, and forgets those before it.
    pub(crate) async fn until(&self, wanted: impl Fn(&PathEvent) -> bool) {
        let came = async {
            loop {
                let at = self.events.lock().iter().position(&wanted);
                if let Some(at) = at {
                    return drop(self.events.lock().drain(..=at));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let agent = self.path.parameters().ufrag;
        let came = tokio::time::timeout(PATIENCE, came).await;
        came.unwrap_or_else(|_| panic!("{agent} heard only {:?}", self.events.lock()));
    }

    /// The last one told.
    pub(crate) fn state(&self) -> Option<IceState> {
        let events = self.events.lock();
        let last = events.iter().rev().find_map(|event| match event {
            PathEvent::State(state) => Some(*state),
            _ => None,
        });
        last.or(Some(IceState::Connected))
    }
}

/// On loopback, with nothing but this agent.
pub(crate) fn nat(agent: &Arc<dyn IceAgentFactory>) -> NatConfig {
    NatConfig {
        agent: Some(agent.clone()),
        interfaces: InterfaceFilter {
            allow: vec!["127.0.0.1".to_owned()],
            ..InterfaceFilter::default()
        },
        ..NatConfig::default()
    }
}

/// The same with one port for all its paths, that was free a moment ago.
pub(crate) fn sharing(agent: &Arc<dyn IceAgentFactory>) -> NatConfig {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    NatConfig {
        ports: Arc::new(Ports::shared(port, port).unwrap()),
        ..nat(agent)
    }
}

pub(crate) fn loopback() -> IceConfig {
    IceConfig {
        bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        gather_budget: Duration::from_secs(5),
        ..IceConfig::default()
    }
}

/// Two ends with a path between them.
pub(crate) async fn pair(
    caller: &Arc<dyn IceAgentFactory>,
    callee: &Arc<dyn IceAgentFactory>,
    change: impl Fn(&mut IceConfig),
) -> (End, End) {
    let (a, b) = End::both(caller, callee, change).await;
    End::introduce(&a, &b).await;
    (a, b)
}

pub(crate) fn turn_server(addr: SocketAddr) -> IceServer {
    let kind = IceServerKind::Turn {
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
    };
    IceServer {
        addr: Some(addr),
        ..IceServer::udp(addr.ip().to_string(), addr.port(), kind)
    }
}

/// A TURN server on loopback.
pub(crate) struct Turn {
    server: Server,
    addr: SocketAddr,
}

struct Passwords;

#[async_trait]
impl AuthHandler for Passwords {
    fn auth_handle(&self, username: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        Ok(generate_auth_key(username, realm, PASSWORD))
    }
}

impl Turn {
    pub(crate) async fn start() -> Self {
        let conn = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = conn.local_addr().unwrap();
        let server = Server::new(ServerConfig {
            conn_configs: vec![ConnConfig {
                conn: Arc::new(conn),
                relay_addr_generator: Box::new(RelayAddressGeneratorStatic {
                    relay_address: Ipv4Addr::LOCALHOST.into(),
                    address: "127.0.0.1".to_owned(),
                    net: Arc::new(Net::new(None)),
                }),
            }],
            realm: "here".to_owned(),
            auth_handler: Arc::new(Passwords),
            channel_bind_timeout: Duration::ZERO,
            alloc_close_notify: None,
        })
        .await
        .unwrap();
        Turn { server, addr }
    }

    pub(crate) fn server(&self) -> IceServer {
        turn_server(self.addr)
    }

    pub(crate) async fn expect_allocations(&self, count: usize) {
        let reached = async {
            while self.server.get_allocations_info(None).await.unwrap().len() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "there are not {count} allocations");
    }
}

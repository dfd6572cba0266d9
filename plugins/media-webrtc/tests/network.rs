//! Gathering and paths: TURN, STUN, dead servers, and datagrams that nobody asked for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use siprtc_core::Fault;
use siprtc_core::ice::{CandidateKind, IceConfig, IcePolicy, IceServer, IceServerKind};
use siprtc_core::media::{MediaEvent, PeerConfig};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};

const USER: &str = "alice";
const PASSWORD: &str = "secret";
const REALM: &str = "example.org";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct OneUser;

impl AuthHandler for OneUser {
    fn auth_handle(&self, user: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        if user == USER {
            Ok(generate_auth_key(user, realm, PASSWORD))
        } else {
            Err(turn::Error::ErrFakeErr)
        }
    }
}

async fn turn_server() -> (Server, SocketAddr) {
    let socket = Arc::new(UdpSocket::bind((LOOPBACK, 0)).await.unwrap());
    let addr = socket.local_addr().unwrap();
    let relay = RelayAddressGeneratorStatic {
        relay_address: LOOPBACK,
        address: LOOPBACK.to_string(),
        net: Arc::new(webrtc_util::vnet::net::Net::new(None)),
    };
    let server = Server::new(ServerConfig {
        conn_configs: vec![ConnConfig {
            conn: socket,
            relay_addr_generator: Box::new(relay),
        }],
        realm: REALM.to_owned(),
        auth_handler: Arc::new(OneUser),
        channel_bind_timeout: Duration::ZERO,
        alloc_close_notify: None,
    })
    .await
    .unwrap();
    (server, addr)
}

fn server(addr: SocketAddr, kind: IceServerKind) -> IceServer {
    IceServer::udp(addr.ip().to_string(), addr.port(), kind)
}

fn turn(addr: SocketAddr) -> IceServer {
    server(
        addr,
        IceServerKind::Turn {
            username: USER.to_owned(),
            password: PASSWORD.to_owned(),
        },
    )
}

#[tokio::test]
async fn with_relay_policy_only_the_relay_is_told_and_used() {
    let (relay, addr) = turn_server().await;
    let setup = Setup {
        servers: vec![turn(addr)],
        policy: IcePolicy::Relay,
        ..Setup::default()
    };
    let (mut a, mut b, offer, answer) = connect_with(setup.clone(), setup, |sdp| sdp, |sdp| sdp).await;
    for sdp in [offer, answer] {
        let candidates: Vec<&str> = sdp
            .lines()
            .filter(|line| line.starts_with("a=candidate:"))
            .collect();
        assert!(
            !candidates.is_empty() && candidates.iter().all(|line| line.contains("typ relay")),
            "{sdp}"
        );
    }
    let pair = a.peer.selected_pair().await.unwrap();
    assert_eq!(
        (pair.local.kind, pair.remote.kind),
        (CandidateKind::Relayed, CandidateKind::Relayed)
    );
    a.reaches(&mut b, 0).await;
    b.reaches(&mut a, 0).await;
    a.peer.close().await;
    b.peer.close().await;
    relay.close().await.unwrap();
}

#[tokio::test]
async fn a_stun_server_tells_a_reflexive_candidate() {
    // The embedded server answers Binding requests too. Its mapping equals the host's here, so that it is told
    // apart by type alone.
    let (relay, addr) = turn_server().await;
    let setup = Setup {
        servers: vec![server(addr, IceServerKind::Stun)],
        ..Setup::default()
    };
    let end = End::new(setup).await;
    let offer = end.offer().await;
    assert!(
        offer.contains("typ srflx") && offer.contains("typ host"),
        "{offer}"
    );
    assert!(offer.contains("a=end-of-candidates"), "{offer}");
    end.peer.close().await;
    relay.close().await.unwrap();
}

#[tokio::test]
async fn a_direct_path_is_preferred_to_a_relay_that_works() {
    let (relay, addr) = turn_server().await;
    let setup = Setup {
        servers: vec![turn(addr)],
        ..Setup::default()
    };
    let (a, b, offer, _) = connect_with(setup.clone(), setup, |sdp| sdp, |sdp| sdp).await;
    assert!(offer.contains("typ relay"), "{offer}");
    assert_eq!(
        a.peer.selected_pair().await.unwrap().local.kind,
        CandidateKind::Host
    );
    a.peer.close().await;
    b.peer.close().await;
    relay.close().await.unwrap();
}

#[tokio::test]
async fn a_silent_server_costs_its_budget_and_not_the_call() {
    let silent = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let servers = vec![server(silent.local_addr().unwrap(), IceServerKind::Stun)];
    let budget = Duration::from_millis(300);
    let mut a = End::new(Setup {
        servers,
        budget,
        ..Setup::default()
    })
    .await;
    let begin = tokio::time::Instant::now();
    let offer = a.offer().await;
    let first = begin.elapsed();
    assert!(first >= budget, "the server was not waited for: {first:?}");
    assert!(offer.contains("typ host"), "{offer}");
    assert!(
        !offer.contains("a=end-of-candidates"),
        "gathering is not at its end: {offer}"
    );
    let mut b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    a.accept(&b.answer(&offer).await).await;
    a.connected().await;
    b.connected().await;
    // The second negotiation has its candidates already: nothing is waited for.
    let begin = tokio::time::Instant::now();
    let (offer, _) = renegotiate(&a, &b).await;
    assert!(begin.elapsed() < budget, "{:?}", begin.elapsed());
    assert!(offer.contains("typ host"), "{offer}");
    a.reaches(&mut b, 0).await;
}

#[tokio::test]
async fn without_a_budget_there_are_host_candidates_still() {
    let end = End::new(Setup {
        budget: Duration::ZERO,
        ..Setup::default()
    })
    .await;
    assert!(end.offer().await.contains("typ host"));
}

#[tokio::test]
async fn rubbish_on_the_media_socket_does_not_disturb_the_call() {
    let (mut a, mut b) = connect(Setup::default(), Setup::default()).await;
    let target = a.peer.selected_pair().await.unwrap().local.addr;
    let stranger = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let stun_header = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    let mut long_stun = stun_header.to_vec();
    long_stun[3] = 0xff;
    let mut rubbish: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 1500],
        stun_header.to_vec(),
        stun_header[..11].to_vec(),
        long_stun,
        vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 0],
        vec![22, 254, 253],
        vec![0x80, 0],
        vec![
            0x9f, 0x80, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0xff, 0xff,
        ],
        vec![0x80, 200, 0, 6, 0, 0, 0, 0],
        vec![0x40, 1, 0xff, 0xff, 0],
    ];
    let mut seed = 1_u32;
    for length in 0..400_usize {
        rubbish.push(
            (0..length % 97)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect(),
        );
    }
    for datagram in &rubbish {
        stranger.send_to(datagram, target).await.unwrap();
        a.reaches(&mut b, 0).await;
        b.reaches(&mut a, 0).await;
    }
    while let Ok(event) = a.events.try_recv() {
        assert!(
            !matches!(event, MediaEvent::Failed(_) | MediaEvent::Closed),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_fingerprint_fails_the_call_and_says_so() {
    let mut a = End::new(Setup::default()).await;
    let offer = a.offer().await;
    let b = End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    })
    .await;
    let answer = b.answer(&offer).await;
    let right = line(&answer, "a=fingerprint:").to_owned();
    let wrong = format!("a=fingerprint:sha-256 {}", ["AA"; 32].join(":"));
    a.accept(&answer.replace(&right, &wrong)).await;
    let failed = async {
        loop {
            match a.events.recv().await.unwrap() {
                MediaEvent::Failed(text) => return text,
                MediaEvent::Connected => panic!("connected to a stranger"),
                _ => {}
            }
        }
    };
    let text = tokio::time::timeout(PATIENCE, failed)
        .await
        .expect("no failure was told");
    assert!(text.contains("DTLS"), "{text}");
    b.peer.close().await;
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_an_error_that_names_it() {
    let config = |bind: Vec<SocketAddr>| PeerConfig {
        ice: IceConfig {
            bind,
            ..IceConfig::default()
        },
        codecs: siprtc_core::media::Codec::ALL.to_vec(),
        remote_offer: None,
        heard: None,
        video: None,
        packets: Arc::new(Nowhere),
        events: Arc::new(|_| {}),
    };
    let engine = siprtc_media_webrtc::engine();
    let error = engine
        .create_peer(config(vec!["192.0.2.1:0".parse().unwrap()]))
        .await
        .err()
        .unwrap();
    assert_eq!(error.fault(), Fault::Backend);
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
    let error = engine.create_peer(config(Vec::new())).await.err().unwrap();
    assert_eq!(error.fault(), Fault::ApiMisuse);
}

struct Nowhere;

impl siprtc_core::media::PacketSink for Nowhere {
    fn push(&self, _: siprtc_core::media::RtpPacket) {}
}

//! The STUN and TURN server, on loopback sockets, with the `turn` crate's own client.

use crate::config::{TurnConfig, Users};
use crate::turn_server::TurnServer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

const REALM: &str = "home.example";
/// Long enough for a slow machine; never waited out when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

async fn server(max_allocations: usize) -> TurnServer {
    let config = TurnConfig {
        max_allocations,
        ..TurnConfig::on(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    TurnServer::start(config, REALM, &Users::named([("alice", "secret")])).expect("a TURN server")
}

async fn client(server: &TurnServer, password: &str) -> Client {
    let addr = server.addr().to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let client = Client::new(ClientConfig {
        stun_serv_addr: addr.clone(),
        turn_serv_addr: addr,
        username: "alice".to_owned(),
        password: password.to_owned(),
        realm: REALM.to_owned(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(socket),
        vnet: None,
    })
    .await
    .expect("a client");
    client.listen().await.expect("listening");
    client
}

/// Polls until `check` holds.
async fn eventually(check: impl Fn() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it never happened");
}

#[tokio::test]
async fn a_binding_request_tells_the_clients_own_address() {
    let server = server(1).await;
    let client = client(&server, "unused").await;
    let mapped = client.send_binding_request().await.expect("an answer");
    assert!(mapped.ip().is_loopback());
    assert_ne!(mapped.port(), server.addr().port());
    client.close().await.expect("closed");
    server.shutdown().await;
}

#[tokio::test]
async fn an_allocation_relays_both_ways() {
    let server = server(1).await;
    let client = client(&server, "secret").await;
    let relay = client.allocate().await.expect("an allocation");
    assert_eq!(server.allocations(), 1);
    let relayed = relay.local_addr().expect("an address");
    let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let peer_addr = peer.local_addr().expect("an address");
    relay.send_to(b"hello", peer_addr).await.expect("sent");
    let mut buffer = [0; 100];
    let (length, from) = tokio::time::timeout(PATIENCE, peer.recv_from(&mut buffer))
        .await
        .expect("in time")
        .expect("received");
    assert_eq!((&buffer[..length], from), (&b"hello"[..], relayed));
    peer.send_to(b"hi", relayed).await.expect("sent");
    let (length, from) = tokio::time::timeout(PATIENCE, relay.recv_from(&mut buffer))
        .await
        .expect("in time")
        .expect("received");
    assert_eq!((&buffer[..length], from), (&b"hi"[..], peer_addr));
    relay.close().await.expect("closed");
    eventually(|| server.allocations() == 0).await;
    client.close().await.expect("closed");
    server.shutdown().await;
}

#[tokio::test]
async fn a_wrong_password_and_one_allocation_too_many_are_refused() {
    let server = server(1).await;
    let wrong = client(&server, "guessed").await;
    assert!(wrong.allocate().await.is_err());
    assert_eq!(server.allocations(), 0);
    let first = client(&server, "secret").await;
    let relay = first.allocate().await.expect("an allocation");
    let second = client(&server, "secret").await;
    let refused = second.allocate().await.err().expect("508").to_string();
    assert!(
        refused.contains("508") || refused.contains("Insufficient"),
        "{refused}"
    );
    assert_eq!(server.allocations(), 1);
    drop(relay);
    for client in [wrong, first, second] {
        client.close().await.expect("closed");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn shutdown_frees_the_listening_port_and_the_relayed_ones() {
    let server = server(3).await;
    let addr = server.addr();
    let client = client(&server, "secret").await;
    let relay = client.allocate().await.expect("an allocation");
    let relayed = relay.local_addr().expect("an address");
    server.shutdown().await;
    for addr in [addr, relayed] {
        UdpSocket::bind(addr).await.expect("the port is free again");
    }
    client.close().await.expect("closed");
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let server = server(1).await;
    let noise = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut seed = 1u32;
    for length in 0..300 {
        let octets: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        noise.send_to(&octets, server.addr()).await.expect("sent");
        // The same noise behind a STUN header, so that it is read further.
        let mut stun = vec![0, (length % 12) as u8, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        let body = octets.get(12..).unwrap_or_default();
        stun[2..4].copy_from_slice(&(body.len() as u16).to_be_bytes());
        stun.extend([9; 12]);
        stun.extend(body);
        noise.send_to(&stun, server.addr()).await.expect("sent");
    }
    let client = client(&server, "secret").await;
    client
        .send_binding_request()
        .await
        .expect("the server still answers");
    client.close().await.expect("closed");
    server.shutdown().await;
}

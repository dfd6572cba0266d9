//! The server over real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use common::words::{self, channel, code, data, mapped, relayed, send};
use common::{Client, SILENCE, TRANSPORTS, address, peer, server};
use siprtc_core::Fault;
use siprtc_turn_server::{Credentials, Dropped, Listener, Server, Transport, TurnConfig};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[test]
fn each_transport_relays_indications_and_channels_both_ways() {
    for workers in [1, 3] {
        let (server, authority) = server(|config| config.workers = workers);
        for transport in TRANSPORTS {
            let (peer, mut client) = (peer(), Client::new(&server, transport, &authority));
            let to = peer.local_addr().unwrap();
            let answer = client.allocate();
            assert_eq!(code(&answer), 0, "{transport}");
            assert_eq!(mapped(&answer), client.local(), "{transport}");
            let relayed = relayed(&answer);
            let mut buffer = vec![0; 65_536];

            assert_eq!(code(&client.ask(&client.words.clone().permit(&[to]))), 0);
            client.say(&send(to, b"indication"));
            let (length, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(
                (&buffer[..length], from),
                (&b"indication"[..], relayed),
                "{transport}"
            );
            peer.send_to(b"back", relayed).unwrap();
            assert_eq!(data(&client.hear()), (to, b"back".to_vec()), "{transport}");

            assert_eq!(code(&client.ask(&client.words.clone().bind(0x4001, to))), 0);
            // Longer than a segment and than one TLS record, and of every alignment.
            for length in [0, 1, 2, 3, 4, 1400, 20_000, 60_001] {
                let payload = vec![length as u8; length];
                client.say(&channel(0x4001, &payload));
                let (got, _) = peer.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..got], payload, "{transport}");
                peer.send_to(&payload, relayed).unwrap();
                let message = client.hear();
                assert_eq!(
                    message[..4],
                    channel(0x4001, &payload)[..4],
                    "{transport} {length}"
                );
                assert_eq!(message[4..4 + length], payload, "{transport} {length}");
            }

            // A permission is for an address, whatever the port (RFC 8656 section 9).
            let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
            stranger.send_to(b"no", relayed).unwrap();
            client.patience(SILENCE);
            assert!(
                client.try_hear().is_err(),
                "{transport}: a peer without permission was heard"
            );
            client.patience(Duration::from_secs(10));
            assert_eq!(code(&client.ask(&client.words.clone().refresh(0))), 0);
            assert!(
                UdpSocket::bind(relayed).is_ok(),
                "{transport}: the relayed port is still open"
            );
        }
        let metrics = server.meter().snapshot();
        assert_eq!((metrics.allocations, metrics.allocated), (0, 3));
        assert_eq!(metrics.to_peers.packets, 3 * 9);
        assert_eq!(metrics.to_clients.packets, 3 * 9);
        assert_eq!(metrics.dropped.get(&Dropped::NoPermission), Some(&3));
        assert_eq!(metrics.refused[&401], 3);
    }
}

#[test]
fn messages_that_arrive_in_pieces_and_together_are_taken_apart() {
    let (server, authority) = server(|_| {});
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut client = Client::new(&server, transport, &authority);
        for octet in client
            .words
            .clone()
            .request(turn_types::stun::message::BINDING, &[])
        {
            client.say(&[octet]);
        }
        assert_eq!(mapped(&client.hear()), client.local());
        assert_eq!(code(&client.allocate()), 0);
        let peer = peer();
        let to = peer.local_addr().unwrap();
        assert_eq!(code(&client.ask(&client.words.clone().bind(0x4001, to))), 0);
        let together: Vec<u8> = (0..100).flat_map(|octet| channel(0x4001, &[octet; 5])).collect();
        client.say(&together);
        let mut buffer = [0; 16];
        for octet in 0..100 {
            assert_eq!(peer.recv(&mut buffer).unwrap(), 5);
            assert_eq!(buffer[..5], [octet; 5]);
        }
    }
}

#[test]
fn a_connection_that_ends_takes_its_allocation_along_and_one_that_talks_nonsense_is_ended() {
    let (server, authority) = server(|_| {});
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut client = Client::new(&server, transport, &authority);
        let port = relayed(&client.allocate());
        assert_eq!(server.meter().snapshot().allocations, 1);
        drop(client);
        until(|| UdpSocket::bind(port).is_ok());
        assert_eq!(server.meter().snapshot().allocations, 0);
        let mut client = Client::new(&server, transport, &authority);
        client.say(&[0xff; 64]);
        assert!(client.try_hear().is_err());
    }
    until(|| server.meter().snapshot().connections == 0);
}

/// Waits until it is so.
fn until(so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("10 s went by");
}

#[test]
fn connections_have_a_bound() {
    let (server, authority) = server(|config| config.limits.connections = 2);
    let clients: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(address(&server, Transport::Tcp)).unwrap())
        .collect();
    until(|| server.meter().snapshot().connections == 2);
    let mut third = Client::new(&server, Transport::Tcp, &authority);
    assert!(third.try_hear().is_err(), "it is closed without a word");
    drop(clients);
    until(|| server.meter().snapshot().connections == 0);
    let mut client = Client::new(&server, Transport::Tcp, &authority);
    assert_eq!(code(&client.allocate()), 0);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up_and_no_memory() {
    let (server, authority) = server(|_| {});
    let (peer, mut lazy) = (peer(), Client::new(&server, Transport::Tcp, &authority));
    let to = peer.local_addr().unwrap();
    let port = relayed(&lazy.allocate());
    assert_eq!(code(&lazy.ask(&lazy.words.clone().bind(0x4001, to))), 0);
    let payload = [7; 1200];
    until(|| {
        (0..200).for_each(|_| drop(peer.send_to(&payload, port)));
        server
            .meter()
            .snapshot()
            .dropped
            .contains_key(&Dropped::Congested)
    });
    let mut client = Client::new(&server, Transport::Udp, &authority);
    assert_eq!(code(&client.allocate()), 0);
    // What was queued before is whole.
    for _ in 0..100 {
        assert_eq!(lazy.hear(), channel(0x4001, &payload));
    }
}

#[test]
fn shutdown_frees_every_port() {
    let (server, authority) = server(|config| config.workers = 2);
    let listeners = server.listeners().to_vec();
    let mut clients: Vec<Client> = TRANSPORTS
        .iter()
        .map(|transport| Client::new(&server, *transport, &authority))
        .collect();
    let ports: Vec<SocketAddr> = clients
        .iter_mut()
        .map(|client| relayed(&client.allocate()))
        .collect();
    assert!(UdpSocket::bind(ports[0]).is_err(), "the test sees an open port");
    drop(clients);
    server.shutdown();
    for port in ports {
        UdpSocket::bind(port).unwrap();
    }
    let (again, _) = common::server(|config| config.listeners = listeners.clone());
    assert_eq!(again.listeners(), listeners);
    drop(again);
    for Listener { transport, bind } in listeners {
        match transport {
            Transport::Udp => drop(UdpSocket::bind(bind).unwrap()),
            Transport::Tcp | Transport::Tls => drop(TcpListener::bind(bind).unwrap()),
        }
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let (first, _) = server(|config| config.workers = 2);
    for (index, transport) in TRANSPORTS.into_iter().enumerate() {
        let mut config = TurnConfig::loopback("realm", Credentials::any("x"));
        config.listeners = vec![first.listeners()[index]];
        config.workers = 2;
        if transport == Transport::Tls {
            config.listeners[0].transport = Transport::Tcp;
        }
        let error = Server::start(config).unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        let text = error.to_string();
        assert!(
            text.contains(&first.listeners()[index].bind.to_string()),
            "{text}"
        );
        assert!(text.contains("choose another port"), "{text}");
    }
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let mut config = TurnConfig::loopback("realm", Credentials::any("x"));
    for (chain, key) in [
        ("", ""),
        ("-----BEGIN CERTIFICATE-----\nxx", ""),
        ("nothing", "nothing"),
    ] {
        config.identity = Some(siprtc_turn_server::Identity {
            chain: chain.into(),
            key: key.into(),
        });
        let error = Server::start(config.clone()).unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        assert!(error.to_string().contains("PEM"), "{error}");
    }
}

#[test]
fn time_limited_credentials_are_good_until_they_expire() {
    let secret = "north";
    let (server, authority) = server(|config| config.credentials = Credentials::none().with_secret(secret));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (expiry, wanted) in [(now + 60, 0), (now - 1, 401)] {
        let mut client = Client::new(&server, Transport::Udp, &authority);
        client.words.name = format!("{expiry}:alice");
        client.words.password = siprtc_turn_server::rest_password(secret, &client.words.name);
        assert_eq!(code(&client.allocate()), wanted);
    }
}

#[test]
fn hundreds_of_allocations_live_side_by_side_and_a_flood_of_requests_costs_no_memory() {
    let (server, authority) = server(|config| {
        config.workers = 2;
        config.limits.allocations_per_user = 2000;
        config.limits.challenges_per_s = 0;
    });
    let mut clients: Vec<Client> = (0..300)
        .map(|_| Client::new(&server, Transport::Udp, &authority))
        .collect();
    for client in &mut clients {
        assert_eq!(code(&client.allocate()), 0);
    }
    assert_eq!(server.meter().snapshot().allocations, 300);
    let before = resident();
    let flood = peer();
    let request = words::Words::new("x", "y").allocate();
    for _ in 0..20_000 {
        drop(flood.send_to(&request, address(&server, Transport::Udp)));
    }
    until(|| server.meter().snapshot().refused[&401] > 1000);
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 8 << 20,
        "{grown} octets for requests that have no credentials"
    );
    // A refresh may be lost while the flood still fills the socket.
    for _ in 0..100 {
        clients
            .iter_mut()
            .for_each(|client| client.say(&client.words.clone().refresh(0)));
        std::thread::sleep(Duration::from_millis(50));
        if server.meter().snapshot().allocations == 0 {
            return;
        }
    }
    panic!("the allocations do not end");
}

/// Octets of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn both_families_are_served_where_there_is_an_address_of_each() {
    let v6: SocketAddr = "[::1]:0".parse().unwrap();
    let (server, authority) = server(|config| {
        config.listeners = vec![Listener {
            transport: Transport::Udp,
            bind: v6,
        }];
        config.relays.push(v6.ip().into());
        config.allow_peers.push("::1".parse().unwrap());
    });
    let socket = UdpSocket::bind(v6).unwrap();
    socket.connect(address(&server, Transport::Udp)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut words = words::Words::new("alice", "one");
    let mut buffer = [0; 1500];
    let mut ask = |request: Vec<u8>| {
        socket.send(&request).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    words.learn(&ask(words.allocate()));
    let udp = turn_types::attribute::RequestedTransport::new(17);
    let family = turn_types::attribute::RequestedAddressFamily::new(turn_types::AddressFamily::IPV6);
    let answer = ask(words.request(turn_types::message::ALLOCATE, &[&udp, &family]));
    assert_eq!(code(&answer), 0);
    assert!(relayed(&answer).is_ipv6());
    let peer = UdpSocket::bind(v6).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(code(&ask(words.bind(0x4001, peer.local_addr().unwrap()))), 0);
    socket.send(&channel(0x4001, b"six")).unwrap();
    let (length, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"six"[..], relayed(&answer)));
    drop(authority);
}

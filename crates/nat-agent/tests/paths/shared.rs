//! Many paths over one port.

use super::bench::{self, End, Turn, agents, loopback, nat, sharing};
use siprtc_core::ice::{CandidateKind, IcePolicy, IceRole, PathEvent};
use siprtc_nat_agent::{NatConfig, Ports, SharedStats};
use std::sync::Arc;
use std::time::Duration;

/// A path of `alice`'s to one of `bob`'s.
async fn call(alice: &NatConfig, bob: &NatConfig) -> (End, End) {
    let config = loopback();
    let a = End::with(alice, IceRole::Controlling, &config).await;
    let b = End::with(bob, IceRole::Controlled, &config).await;
    End::introduce(&a, &b).await;
    (a, b)
}

fn port(end: &End) -> u16 {
    end.candidates[0].port
}

#[tokio::test]
async fn every_agent_reaches_every_other_over_shared_ports() {
    for caller in agents() {
        for callee in agents() {
            let (a, b) = call(&sharing(&caller), &sharing(&callee)).await;
            a.exchange(&b, 20).await;
            b.exchange(&a, 20).await;
        }
    }
}

/// `count` calls over one port: each hears its own datagrams, in the order in which they were sent, and nothing else.
async fn calls(count: u8) {
    let (server, client) = (sharing(&agents()[1]), nat(&agents()[1]));
    let mut ends = Vec::new();
    for _ in 0..count {
        ends.push(call(&client, &server).await);
    }
    let shared = port(&ends[0].1);
    assert!(ends.iter().all(|(_, b)| port(b) == shared), "there is one port");
    for round in 0..5 {
        for (number, (a, b)) in (0..).zip(&ends) {
            a.path.send(&[128, number, round]);
            b.path.send(&[128, number, round, 1]);
        }
    }
    for round in 0..5 {
        for (number, (a, b)) in (0..).zip(&ends) {
            let heard = tokio::time::timeout(Duration::from_secs(5), async {
                (b.receive().await, a.receive().await)
            });
            let (of_a, of_b) = heard.await.expect("a datagram is lost");
            assert_eq!(of_a, [128, number, round]);
            assert_eq!(of_b, [128, number, round, 1]);
        }
    }
    let stats = server.ports.stats();
    assert_eq!((stats.sockets, stats.paths), (1, usize::from(count)));
    assert_eq!(stats.addresses, usize::from(count), "{stats:?}");
    while let Some((a, b)) = ends.pop() {
        b.path.close();
        assert_eq!(
            server.ports.stats().paths,
            ends.len(),
            "what is closed has no entry"
        );
        drop((a, b));
    }
    let SharedStats {
        paths,
        fragments,
        addresses,
        requests,
        ..
    } = server.ports.stats();
    assert_eq!([paths, fragments, addresses, requests], [0; 4]);
}

#[tokio::test]
async fn two_calls_over_one_port_hear_each_their_own() {
    calls(2).await;
}

#[tokio::test]
async fn fifty_calls_over_one_port_hear_each_their_own() {
    calls(50).await;
}

#[tokio::test]
async fn a_stranger_at_a_shared_port_is_counted_and_not_heard() {
    let (server, client) = (sharing(&agents()[1]), nat(&agents()[1]));
    let (a, b) = call(&client, &server).await;
    let to = b.candidates[0].socket_addr().unwrap();
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&[128, 0, 9, 9], to).await.unwrap();
    // A check with the right name and no signature lets nobody in: what follows it is a stranger's still.
    let name = format!("{}:{}", b.path.parameters().ufrag, a.path.parameters().ufrag);
    stranger.send_to(&check(&name), to).await.unwrap();
    stranger.send_to(&check("nobody:here"), to).await.unwrap();
    stranger.send_to(&[128, 0, 8, 8], to).await.unwrap();
    a.exchange(&b, 3).await;
    let stats = server.ports.stats();
    assert_eq!((stats.strangers, stats.addresses), (3, 1), "{stats:?}");
}

/// A Binding request without a signature.
fn check(username: &str) -> Vec<u8> {
    let padded = username.len().next_multiple_of(4);
    let mut data = vec![0, 1, 0, (padded + 4) as u8, 0x21, 0x12, 0xa4, 0x42];
    data.extend([7; 12]);
    data.extend([0, 6, 0, username.len() as u8]);
    data.extend(username.as_bytes());
    data.resize(24 + padded, 0);
    data
}

#[tokio::test]
async fn a_restart_over_a_shared_port_is_known_by_its_new_name() {
    for agent in agents() {
        let (server, client) = (sharing(&agent), sharing(&agent));
        let (a, b) = call(&client, &server).await;
        b.path.restart().unwrap();
        assert_eq!(server.ports.stats().fragments, 2);
        let offered = b.path.gather().await;
        a.path.set_remote(&b.path.parameters(), &offered).unwrap();
        let answered = a.path.gather().await;
        b.path.set_remote(&a.path.parameters(), &answered).unwrap();
        b.until(|event| matches!(event, PathEvent::Selected(_))).await;
        a.exchange(&b, 5).await;
        b.exchange(&a, 5).await;
        let named = async {
            while server.ports.stats().fragments != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let named = tokio::time::timeout(Duration::from_secs(5), named).await;
        assert!(
            named.is_ok(),
            "the old name is forgotten: {:?}",
            server.ports.stats()
        );
    }
}

#[tokio::test]
async fn two_calls_between_two_that_share_take_two_ports_where_there_are_two() {
    let agent = &agents()[1];
    let two = || {
        let range = (0..).map(|_| 20_000 + rand_port() % 20_000).find(|first| {
            [*first, *first + 1]
                .iter()
                .all(|port| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok())
        });
        let first = range.unwrap();
        NatConfig {
            ports: Arc::new(Ports::shared(first, first + 1).unwrap()),
            ..nat(agent)
        }
    };
    let (alice, bob) = (two(), two());
    let (a, b) = call(&alice, &bob).await;
    let (c, d) = call(&alice, &bob).await;
    assert_ne!(port(&a), port(&c));
    a.exchange(&b, 5).await;
    c.exchange(&d, 5).await;
    d.exchange(&c, 5).await;
    b.exchange(&a, 5).await;
}

fn rand_port() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u16
}

/// Nothing but the two addresses tells the media of two such calls apart, so the second has no pair; the first does not suffer.
#[tokio::test]
async fn a_second_call_between_the_same_two_ports_takes_nothing_from_the_first() {
    let agent = &agents()[1];
    let (alice, bob) = (sharing(agent), sharing(agent));
    let (a, b) = call(&alice, &bob).await;
    let config = loopback();
    let c = End::with(&alice, IceRole::Controlling, &config).await;
    let d = End::with(&bob, IceRole::Controlled, &config).await;
    d.path.set_remote(&c.path.parameters(), &c.candidates).unwrap();
    c.path.set_remote(&d.path.parameters(), &d.candidates).unwrap();
    let refused = async {
        while bob.ports.stats().taken == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .unwrap();
    a.exchange(&b, 5).await;
    b.exchange(&a, 5).await;
    assert_eq!(d.path.stats().pair, None);
}

/// Two allocations of one socket's are a mismatch to a TURN server (RFC 8656 section 7.2): relays have sockets of their own.
#[tokio::test]
async fn two_calls_over_one_port_have_each_an_allocation() {
    let turn = Turn::start().await;
    let agent = &agents()[1];
    let (server, client) = (sharing(agent), nat(agent));
    let mut config = loopback();
    config.servers = vec![turn.server()];
    let mut ends = Vec::new();
    for _ in 0..2 {
        let a = End::with(&server, IceRole::Controlling, &config).await;
        let b = End::with(&client, IceRole::Controlled, &loopback()).await;
        let relayed = |end: &End| {
            end.candidates
                .iter()
                .filter(|candidate| candidate.kind == CandidateKind::Relayed)
                .count()
        };
        assert_eq!(relayed(&a), 1, "{:?}", a.candidates);
        End::introduce(&a, &b).await;
        a.exchange(&b, 5).await;
        ends.push((a, b));
    }
    turn.expect_allocations(2).await;
    assert_eq!(server.ports.stats().sockets, 1);
    drop(ends);
    turn.expect_allocations(0).await;
    config.policy = IcePolicy::Relay;
    let (a, b) = (
        End::with(&server, IceRole::Controlling, &config).await,
        End::with(&server, IceRole::Controlled, &config).await,
    );
    End::introduce(&a, &b).await;
    a.exchange(&b, 5).await;
    assert_eq!(
        server.ports.stats().paths,
        0,
        "who only relays needs no shared port"
    );
}

#[test]
fn no_more_ports_than_a_hand_full_are_shared() {
    assert!(Ports::shared(40_000, 40_063).is_ok());
    assert!(Ports::shared(40_000, 40_064).is_err());
    assert!(Ports::shared(0, 4).is_err());
    assert_eq!(bench::agents().len(), 3);
}

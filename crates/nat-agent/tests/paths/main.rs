//! Paths over real sockets, with each of the three agents, directly and through a TURN server.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod bench;
mod forks;
mod names;
mod roles;
mod shared;

use bench::{End, Turn, agents, pair};
use siprtc_core::ice::{CandidateKind, IcePolicy, IceState, PathEvent};
use std::time::Duration;

#[tokio::test]
async fn every_agent_finds_a_path_to_every_other_and_datagrams_go_both_ways() {
    for caller in agents() {
        for callee in agents() {
            let (a, b) = pair(&caller, &callee, |_| ()).await;
            a.exchange(&b, 20).await;
            b.exchange(&a, 20).await;
        }
    }
}

#[tokio::test]
async fn agents_find_a_path_over_ipv6_alone_and_over_both() {
    // ezk-ice takes ::1 for an IPv4-compatible address and has no candidate of it; of others it has.
    for agent in agents().into_iter().filter(|agent| agent.name() != "ezk") {
        for bind in [&["[::1]:0"][..], &["127.0.0.1:0", "[::1]:0"]] {
            let (a, b) = pair(&agent, &agent, |config| {
                config.bind = bind.iter().map(|addr| addr.parse().unwrap()).collect();
            })
            .await;
            let families = |end: &End| {
                end.candidates
                    .iter()
                    .filter_map(|one| one.socket_addr())
                    .collect::<Vec<_>>()
            };
            assert!(
                families(&a).iter().any(|addr| addr.is_ipv6()),
                "{:?}",
                a.candidates
            );
            a.exchange(&b, 5).await;
            b.exchange(&a, 5).await;
        }
    }
}

#[tokio::test]
async fn a_relay_carries_what_nothing_else_may() {
    let turn = Turn::start().await;
    for agent in agents().into_iter().filter(|agent| agent.name() != "ezk") {
        let (a, b) = pair(&agent, &agent, |config| {
            config.policy = IcePolicy::Relay;
            config.servers = vec![turn.server()];
        })
        .await;
        a.exchange(&b, 20).await;
        b.exchange(&a, 20).await;
        let pair = a.path.stats().pair.unwrap();
        assert_eq!(pair.local.kind, CandidateKind::Relayed, "{pair}");
        assert!(
            a.candidates
                .iter()
                .all(|candidate| candidate.kind == CandidateKind::Relayed)
        );
        assert!(
            a.candidates
                .iter()
                .all(|candidate| candidate.related == Some(("0.0.0.0".to_owned(), 9))),
            "{:?}",
            a.candidates
        );
        turn.expect_allocations(2).await;
        a.path.close();
        turn.expect_allocations(1).await;
        // One that is dropped gives its allocation back as well.
        drop(b);
        turn.expect_allocations(0).await;
    }
}

#[tokio::test]
async fn what_is_sent_before_a_pair_is_selected_arrives_after_it() {
    let agent = &agents()[1];
    let (a, b) = End::both(agent, agent, |_| ()).await;
    a.path.send(&[22, 1, 2, 3]);
    End::introduce(&a, &b).await;
    let heard = tokio::time::timeout(Duration::from_secs(5), b.receive())
        .await
        .unwrap();
    assert_eq!(heard, [22, 1, 2, 3]);
}

#[tokio::test]
async fn a_stranger_is_not_heard() {
    let agent = &agents()[1];
    let (a, b) = pair(agent, agent, |_| ()).await;
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = a.candidates[0].socket_addr().unwrap();
    stranger.send_to(&[128, 0, 9, 9], to).await.unwrap();
    b.path.send(&[128, 0, 1, 1]);
    let heard = tokio::time::timeout(Duration::from_secs(5), a.receive())
        .await
        .unwrap();
    assert_eq!(heard, [128, 0, 1, 1]);
    assert!(a.path.stats().strangers >= 1);
}

#[tokio::test]
async fn a_restart_keeps_the_datagrams_flowing_and_finds_a_new_pair() {
    for agent in agents() {
        let (a, b) = pair(&agent, &agent, |_| ()).await;
        let before = a.path.parameters();
        a.path.restart().unwrap();
        assert_ne!(a.path.parameters().ufrag, before.ufrag);
        a.exchange(&b, 5).await;
        let offered = a.path.gather().await;
        b.path.set_remote(&a.path.parameters(), &offered).unwrap();
        let answered = b.path.gather().await;
        a.path.set_remote(&b.path.parameters(), &answered).unwrap();
        a.until(|event| matches!(event, PathEvent::Selected(_))).await;
        a.exchange(&b, 5).await;
        b.exchange(&a, 5).await;
        assert_eq!(a.state(), Some(IceState::Connected));
    }
}

#[tokio::test]
async fn a_restart_that_comes_to_nothing_leaves_everything_as_it_was() {
    let agent = &agents()[1];
    let (a, b) = pair(agent, agent, |_| ()).await;
    let before = a.path.parameters();
    a.path.restart().unwrap();
    a.path.rollback();
    assert_eq!(a.path.parameters(), before);
    a.exchange(&b, 5).await;
}

#[tokio::test]
async fn a_dead_turn_server_delays_nobody_longer_than_the_budget() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let began = tokio::time::Instant::now();
    let agent = &agents()[1];
    let (a, b) = pair(agent, agent, |config| {
        config.servers = vec![bench::turn_server(silent.local_addr().unwrap())];
        config.gather_budget = Duration::from_millis(100);
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    a.exchange(&b, 5).await;
}

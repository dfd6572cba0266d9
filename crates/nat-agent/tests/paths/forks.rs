//! Several peers that answer one offer.

use super::bench::{End, Turn, agents, loopback, nat, sharing};
use siprtc_core::Fault;
use siprtc_core::ice::{IceRole, PathEvent};
use siprtc_nat_agent::NatConfig;
use std::time::Duration;

/// Answers the offer of `caller`.
async fn answer(caller: &End, nat: &NatConfig) -> End {
    let callee = End::with(nat, IceRole::Controlled, &loopback()).await;
    End::introduce(caller, &callee).await;
    callee
}

/// Both ways at the same time, and each hears its own.
async fn converse(a: &(End, End), b: &(End, End)) {
    for _ in 0..3 {
        for (one, other) in [a, b] {
            one.exchange(other, 5).await;
            other.exchange(one, 5).await;
        }
    }
}

#[tokio::test]
async fn two_peers_that_answer_one_offer_are_heard_apart_with_every_agent() {
    for agent in agents() {
        let first = End::with(&nat(&agent), IceRole::Controlling, &loopback()).await;
        let a = answer(&first, &nat(&agent)).await;
        let second = first.fork().await.unwrap();
        assert_eq!(second.path.parameters(), first.path.parameters());
        let port = |end: &End| end.candidates[0].port;
        assert_eq!(port(&second), port(&first));
        let b = answer(&second, &nat(&agent)).await;
        let (first, second) = ((first, a), (second, b));
        converse(&first, &second).await;
        // The one that stays has the port for itself.
        first.0.path.close();
        second.0.exchange(&second.1, 5).await;
        second.1.exchange(&second.0, 5).await;
    }
}

#[tokio::test]
async fn a_fork_that_checks_before_the_first_answer_comes_is_not_taken_for_it() {
    for agent in agents() {
        for config in [nat(&agent), sharing(&agent)] {
            let first = End::with(&config, IceRole::Controlling, &loopback()).await;
            let callee = || async { End::with(&nat(&agent), IceRole::Controlled, &loopback()).await };
            let (a, b) = (callee().await, callee().await);
            for end in [&a, &b] {
                end.path
                    .set_remote(&first.path.parameters(), &first.candidates)
                    .unwrap();
            }
            // Both check already.
            tokio::time::sleep(Duration::from_millis(300)).await;
            first
                .path
                .set_remote(&a.path.parameters(), &a.candidates)
                .unwrap();
            first.until(|event| matches!(event, PathEvent::Selected(_))).await;
            let second = first.fork().await.unwrap();
            second
                .path
                .set_remote(&b.path.parameters(), &b.candidates)
                .unwrap();
            // Long before an address that is silent is given up (8 s).
            let selected = second.until(|event| matches!(event, PathEvent::Selected(_)));
            let selected = tokio::time::timeout(Duration::from_secs(4), selected).await;
            assert!(selected.is_ok(), "{} finds no pair", agent.name());
            converse(&(first, a), &(second, b)).await;
        }
    }
}

#[tokio::test]
async fn paths_fork_over_a_port_that_other_calls_share() {
    let agent = &agents()[1];
    let sharing = sharing(agent);
    let first = End::with(&sharing, IceRole::Controlling, &loopback()).await;
    let a = answer(&first, &nat(agent)).await;
    let second = first.fork().await.unwrap();
    let b = answer(&second, &nat(agent)).await;
    let stranger = End::with(&sharing, IceRole::Controlling, &loopback()).await;
    let c = answer(&stranger, &nat(agent)).await;
    converse(&(first, a), &(second, b)).await;
    stranger.exchange(&c, 3).await;
    c.exchange(&stranger, 3).await;
}

#[tokio::test]
async fn peers_without_ice_are_told_apart_by_the_addresses_that_their_answers_name() {
    let agent = &agents()[1];
    let (first, first_rtcp) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlling).await;
    let (second, _second_rtcp) = (first.fork().await.unwrap(), first_rtcp.fork().await.unwrap());
    let (a, _) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlled).await;
    let (b, _) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlled).await;
    let at = |end: &End| end.candidates[0].socket_addr().unwrap();
    for (one, other) in [(&first, &a), (&second, &b)] {
        one.path.bypass(at(one), at(other)).unwrap();
        other.path.bypass(at(other), at(one)).unwrap();
        one.until(|event| matches!(event, PathEvent::Selected(_))).await;
    }
    let (c, _) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlled).await;
    c.path.bypass(at(&c), at(&first)).unwrap();
    c.path.send(&[128, 99]);
    converse(&(first, a), &(second, b)).await;
}

#[tokio::test]
async fn what_comes_from_nobody_named_is_for_the_last_path_alone() {
    let agent = &agents()[1];
    let (first, _rtcp) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlling).await;
    let second = first.fork().await.unwrap();
    let at = |end: &End| end.candidates[0].socket_addr().unwrap();
    let (a, _) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlled).await;
    let (b, _) = End::rtp_and_rtcp(&nat(agent), IceRole::Controlled).await;
    first.path.bypass(at(&first), at(&a)).unwrap();
    // Behind a NAT: it says one address and sends from another.
    second
        .path
        .bypass(at(&second), "127.0.0.1:9".parse().unwrap())
        .unwrap();
    b.path.bypass(at(&b), at(&second)).unwrap();
    b.path.send(&[128, 1]);
    let heard = tokio::time::timeout(Duration::from_millis(100), second.receive()).await;
    assert!(heard.is_err(), "{heard:?} may be anybody's");
    first.path.close();
    b.path.send(&[128, 2]);
    let heard = tokio::time::timeout(Duration::from_secs(5), second.receive()).await;
    assert_eq!(heard.unwrap(), [128, 2]);
}

#[tokio::test]
async fn a_path_with_a_relay_says_that_it_does_not_fork() {
    let turn = Turn::start().await;
    let mut config = loopback();
    config.servers = vec![turn.server()];
    let path = End::with(&nat(&agents()[1]), IceRole::Controlling, &config).await;
    let refused = path.fork().await.err().unwrap();
    assert_eq!(refused.fault(), Fault::Unsupported);
}

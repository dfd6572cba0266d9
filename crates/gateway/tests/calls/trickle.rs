//! Candidates that are found after descriptions, between two gateways.

use crate::bench::*;
use siprtc_core::ice::Candidate;
use siprtc_gateway::{CallEventKind, Reliability, Trickle};
use std::time::Duration;

fn candidate(port: u16) -> Candidate {
    format!("7 1 UDP 1694498815 192.0.2.1 {port} typ host")
        .parse()
        .unwrap()
}

fn set(trickle: [Trickle; 2]) -> Setup {
    Setup {
        trickle,
        ..Setup::default()
    }
}

fn ports(phone: &Phone) -> Vec<u16> {
    phone
        .engine
        .added()
        .iter()
        .map(|candidate| candidate.port)
        .collect()
}

async fn soon() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[test]
fn both_ends_tell_each_other_what_they_find_later() {
    set_up(set([Trickle::Half; 2]), |mut alice, mut bob| async move {
        alice.engine.gather_late();
        bob.engine.gather_late();
        let calling = alice.dial(&bob).await;
        let called = bob.incoming().await;
        soon().await;
        // While it rings: bob knows it once he has a media peer.
        alice.engine.find(&candidate(41));
        soon().await;
        bob.answer(called).await;
        alice.confirmed().await;
        bob.confirmed().await;
        soon().await;
        assert_eq!(ports(&bob), [41]);
        bob.engine.find(&candidate(51));
        alice.engine.find(&candidate(42));
        bob.engine.finish_gathering();
        alice.engine.finish_gathering();
        soon().await;
        assert_eq!((ports(&alice), ports(&bob)), (vec![51], vec![41, 42]));
        alice.hang_up(calling).await;
        assert!(alice.over().await.is_ok());
    });
}

#[test]
fn a_call_that_only_a_late_candidate_can_connect_connects() {
    set_up(set([Trickle::Full; 2]), |mut alice, mut bob| async move {
        alice.engine.gather_late();
        bob.engine.need_candidate(41);
        connect(&mut alice, &mut bob).await;
        alice.engine.find(&candidate(41));
        bob.until(|kind| matches!(kind, CallEventKind::Connected)).await;
        // No offer was needed for it.
        assert_eq!(ports(&bob), [41]);
    });
}

#[test]
fn a_peer_that_does_not_trickle_gets_a_new_offer() {
    for takes in [
        [Trickle::Half, Trickle::Off],
        [Trickle::Off, Trickle::Half],
        [Trickle::Off; 2],
    ] {
        set_up(set(takes), |mut alice, mut bob| async move {
            alice.engine.gather_late();
            alice.engine.need_candidate(9);
            bob.engine.need_candidate(41);
            connect(&mut alice, &mut bob).await;
            alice.engine.find(&candidate(41));
            alice.engine.finish_gathering();
            bob.until(|kind| matches!(kind, CallEventKind::Connected)).await;
            assert!(ports(&bob).is_empty(), "it came in an offer");
        });
    }
}

#[test]
fn who_does_not_wait_and_is_not_understood_still_connects() {
    set_up(
        set([Trickle::Full, Trickle::Off]),
        |mut alice, mut bob| async move {
            alice.engine.gather_late();
            alice.engine.need_candidate(9);
            bob.engine.need_candidate(41);
            connect(&mut alice, &mut bob).await;
            alice.engine.find(&candidate(41));
            alice.engine.finish_gathering();
            bob.until(|kind| matches!(kind, CallEventKind::Connected)).await;
        },
    );
}

/// Both find more candidates while the callee is heard, and nobody has answered.
#[test]
fn a_callee_that_speaks_before_it_answers_tells_and_hears_what_is_found_later() {
    for reliability in [Reliability::Supported, Reliability::Off] {
        let setup = Setup {
            reliability: [Reliability::Supported, reliability],
            ..set([Trickle::Half; 2])
        };
        set_up(setup, |mut alice, mut bob| async move {
            alice.engine.gather_late();
            bob.engine.gather_late();
            let calling = alice.dial(&bob).await;
            let called = bob.incoming().await;
            bob.answer_early(called).await;
            soon().await;
            alice.engine.find(&candidate(41));
            bob.engine.find(&candidate(51));
            soon().await;
            assert_eq!((ports(&alice), ports(&bob)), (vec![51], vec![41]));
            bob.answer(called).await;
            alice.confirmed().await;
            bob.confirmed().await;
            bob.engine.find(&candidate(52));
            bob.engine.finish_gathering();
            alice.engine.finish_gathering();
            soon().await;
            assert_eq!((ports(&alice), ports(&bob)), (vec![51, 52], vec![41]));
            alice.hang_up(calling).await;
            assert!(alice.over().await.is_ok());
        });
    }
}

#[test]
fn a_candidate_that_a_callee_finds_while_it_speaks_connects_the_early_media() {
    set_up(set([Trickle::Full; 2]), |mut alice, mut bob| async move {
        bob.engine.gather_late();
        alice.engine.need_candidate(51);
        let _calling = alice.dial(&bob).await;
        let called = bob.incoming().await;
        bob.answer_early(called).await;
        soon().await;
        bob.engine.find(&candidate(51));
        alice.until(|kind| matches!(kind, CallEventKind::Connected)).await;
        assert_eq!(ports(&alice), [51]);
        bob.answer(called).await;
        alice.confirmed().await;
    });
}

//! A path at rest, and what wakes it.

use super::*;

fn at_rest() -> World {
    let mut world = World::connected();
    world.pass(Duration::from_secs(8));
    for end in &world.ends {
        assert!(end.machine.rest.is_resting());
    }
    world
}

#[test]
fn a_path_at_rest_sends_consent_and_answers_and_nothing_else() {
    let mut world = at_rest();
    world.sent = 0;
    world.pass(Duration::from_secs(60));
    // A check and an answer every 4 to 6 s from either end: `random` says 5.
    assert!(
        (46..=50).contains(&world.sent),
        "{} datagrams in a minute",
        world.sent
    );
    for end in &world.ends {
        assert_eq!(end.last_state(), Some(IceState::Connected));
        assert_eq!(end.machine.stats.strangers, 0);
    }
}

#[test]
fn a_peer_that_a_nat_moves_is_followed() {
    let mut world = at_rest();
    let moved: SocketAddr = "198.51.100.1:6000".parse().unwrap();
    world.ends[1].addr = moved;
    world.pass(Duration::from_secs(7));
    let pair = world.ends[0].machine.stats.pair.unwrap();
    assert_eq!(pair.remote.addr, moved);
    world.pass(Duration::from_secs(20));
    for end in &world.ends {
        assert_eq!(end.last_state(), Some(IceState::Connected));
        assert!(end.machine.rest.is_resting());
    }
}

#[test]
fn a_check_that_is_not_signed_wakes_nobody() {
    let mut world = at_rest();
    let theirs = world.ends[1].machine.parameters();
    let ours = world.ends[0].machine.parameters();
    let forged = IceParameters {
        pwd: "not-the-password-that-is-used".to_owned(),
        ..ours
    };
    let keys = crate::path::check::Keys::new(&theirs, &forged);
    let data = keys.request([7; 12], IceRole::Controlled, 1);
    world.give(0, "203.0.113.66:9".parse().unwrap(), &data);
    assert!(world.ends[0].machine.rest.is_resting());
    assert_eq!(world.ends[0].machine.stats.strangers, 1);
}

#[test]
fn a_candidate_that_comes_late_is_checked() {
    let mut world = at_rest();
    let late = "1 1 udp 2130706431 203.0.113.9 9 typ host".parse().unwrap();
    let now = world.now;
    world.ends[0].machine.add_remote(now, &late);
    assert!(!world.ends[0].machine.rest.is_resting());
    world.pass(Duration::from_secs(20));
    assert!(world.ends[0].machine.rest.is_resting());
    assert_eq!(world.ends[0].last_state(), Some(IceState::Connected));
}

#[test]
fn a_path_that_falls_silent_looks_for_another_pair() {
    let mut world = at_rest();
    world.is_cut = true;
    world.pass(Duration::from_secs(14));
    assert!(!world.ends[0].machine.rest.is_resting());
    world.is_cut = false;
    world.pass(Duration::from_secs(20));
    for end in &world.ends {
        assert_eq!(end.last_state(), Some(IceState::Connected));
        assert!(end.machine.rest.is_resting());
    }
}

#[test]
fn names_of_the_past_are_not_resolved_into_a_restart() {
    let mut world = World::connected();
    let name = "0f6d3fb2-1c2d-4e5f-8a9b-0c1d2e3f4a5b.local";
    let hidden: Candidate = format!("1 1 udp 2130706431 {name} 9 typ host").parse().unwrap();
    let now = world.now;
    let of = world.ends[1].machine.parameters().ufrag;
    world.ends[0].machine.add_remote(now, &hidden);
    world.drain(0);
    assert_eq!(world.ends[0].asked, [name]);
    world.ends[1].machine.restart(now, &|_| true).unwrap();
    world.introduce(1, 0);
    let found = Some("203.0.113.9".parse().unwrap());
    world.ends[0].machine.resolved(now, &of, &hidden, found);
    assert!(
        world.ends[0]
            .machine
            .newest()
            .remote
            .iter()
            .all(|candidate| candidate.port != 9)
    );
    let of = world.ends[1].machine.parameters().ufrag;
    world.ends[0].machine.resolved(now, &of, &hidden, found);
    assert!(
        world.ends[0]
            .machine
            .newest()
            .remote
            .iter()
            .any(|candidate| candidate.port == 9)
    );
}

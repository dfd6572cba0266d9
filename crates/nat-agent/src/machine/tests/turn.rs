//! TURN servers, bounds, and packets from anybody.

use super::*;

#[test]
fn a_turn_server_is_alive_once_it_let_us_in_and_the_allocation_goes_back() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::Relay);
    bench.plan(1);
    let first = bench.request();
    assert_eq!(first.typ.method, METHOD_ALLOCATE);
    assert!(!first.contains(ATTR_USERNAME));
    bench.challenge();
    assert!(bench.request().contains(ATTR_USERNAME) && bench.request().contains(ATTR_MESSAGE_INTEGRITY));
    bench.reply(|request| accept_signed(request, "secret"));
    assert_eq!(bench.live(), ["192.0.2.1"]);
    let refresh = bench.request();
    assert_eq!(refresh.typ.method, METHOD_REFRESH);
    assert_eq!(refresh.get(ATTR_LIFETIME).unwrap(), [0; 4]);
    assert!(refresh.contains(ATTR_MESSAGE_INTEGRITY));
    bench.reply(|request| accept_signed(request, "secret"));
    let sent = bench.sent.len();
    bench.pass(INTERVAL - Duration::from_millis(1));
    assert_eq!(bench.sent.len(), sent, "and that was all");
}

#[test]
fn a_lost_refresh_is_repeated_and_spoils_nothing() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    bench.reply(|request| accept_signed(request, "secret"));
    let sent = bench.sent.len();
    bench.pass(PROBE_LIMIT);
    assert!(bench.sent.len() > sent);
    assert!(bench.state(0).is_alive());
    assert_eq!(bench.events.len(), 1);
}

#[test]
fn a_wrong_password_is_refused_with_its_code() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::Relay);
    bench.plan(1);
    bench.challenge();
    bench.reply(|request| refuse(request, 401, Some("nonce-2")));
    assert_eq!(
        bench.state(0),
        &ServerState::Refused {
            code: 401,
            reason: "Because".to_owned()
        }
    );
    let (_, result) = &bench.plans[0];
    let error = result.as_ref().unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    assert!(
        error
            .to_string()
            .contains("refuses user alice (401): check ice.servers[0].username/password"),
        "{error}"
    );
}

#[test]
fn a_stale_nonce_is_renewed_but_not_for_ever() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    for nonce in ["nonce-2", "nonce-3"] {
        bench.reply(|request| refuse(request, 438, Some(nonce)));
        assert_eq!(bench.request().get(ATTR_NONCE).unwrap(), nonce.as_bytes());
    }
    bench.reply(|request| refuse(request, 438, Some("nonce-4")));
    assert!(matches!(bench.state(0), ServerState::Refused { code: 438, .. }));
}

#[test]
fn an_old_allocation_in_the_way_is_given_back_first() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    bench.reply(|request| refuse(request, 437, None));
    assert_eq!(bench.request().typ.method, METHOD_REFRESH);
    bench.reply(|request| accept_signed(request, "secret"));
    assert_eq!(bench.request().typ.method, METHOD_ALLOCATE);
    bench.reply(|request| accept_signed(request, "secret"));
    assert!(bench.state(0).is_alive());
}

#[test]
fn answers_from_anybody_else_are_as_if_they_never_came() {
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
    bench.challenge();
    let (to, data) = bench.sent.last().unwrap().clone();
    let request = read(&data);
    let elsewhere = "192.0.2.66:3478".parse().unwrap();
    let other_id = read(&crate::stun::request(Ask::Allocate, None).unwrap().data);
    let mut other_method = request.clone();
    other_method.typ.method = METHOD_BINDING;
    for (from, packet) in [
        (elsewhere, accept_signed(&request, "secret")),
        (to, accept_signed(&other_id, "secret")),
        (to, accept_signed(&other_method, "secret")),
        (to, accept_signed(&request, "guessed")),
        (to, accept(&request)),
        (to, data.clone()),
        (to, b"hello".to_vec()),
    ] {
        bench.input(Input::Packet { from, data: &packet });
        assert!(bench.events.is_empty() && bench.sent.last().unwrap().1 == data);
    }
    assert!(!bench.machine.expects(elsewhere) && bench.machine.expects(to));
    bench.reply(|request| accept_signed(request, "secret"));
    assert!(bench.state(0).is_alive());
}

#[test]
fn a_server_that_answers_without_an_address_or_lets_everybody_in_is_not_used() {
    let mut bench = Bench::new(&[stun("192.0.2.1"), turn("192.0.2.2")], IcePolicy::All);
    for (to, data) in bench.sent.clone() {
        let request = read(&data);
        let packet = if request.typ.method == METHOD_BINDING {
            answer_to(&request, CLASS_SUCCESS_RESPONSE).raw
        } else {
            accept(&request)
        };
        bench.input(Input::Packet {
            from: to,
            data: &packet,
        });
    }
    bench.plan(1);
    assert!(bench.live().is_empty());
}

#[test]
fn relayed_only_without_a_turn_server_says_what_is_wrong() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::Relay);
    bench.reply(accept);
    bench.plan(1);
    let error = bench.plans[0].1.as_ref().unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::Relay);
    bench.plan(1);
    bench.pass(BUDGET);
    let error = bench.plans[0].1.as_ref().unwrap_err();
    assert_eq!(error.fault(), Fault::TimedOut);
    assert!(
        error
            .to_string()
            .contains("TURN server 192.0.2.1:3478 does not answer"),
        "{error}"
    );
}

#[test]
fn more_waiting_calls_than_the_bound_are_planned_with_what_is_known() {
    let mut bench = Bench::new(&[stun("192.0.2.1")], IcePolicy::All);
    for id in 0..MAX_WAITING as u64 {
        bench.plan(id);
    }
    assert!(bench.plans.is_empty());
    bench.plan(u64::MAX);
    assert_eq!(bench.plans.len(), 1);
    assert_eq!(bench.plans[0].0, u64::MAX);
    bench.pass(BUDGET);
    assert_eq!(bench.plans.len(), MAX_WAITING + 1);
}

#[test]
fn more_servers_than_the_bound_are_left_out() {
    let servers: Vec<IceServer> = (0..MAX_SERVERS + 3)
        .map(|n| stun(&format!("192.0.2.{n}")))
        .collect();
    assert_eq!(Bench::new(&servers, IcePolicy::All).sent.len(), MAX_SERVERS);
}

#[test]
fn credentials_longer_than_rfc_8489_allows_are_no_panic() {
    let mut server = turn("192.0.2.1");
    server.kind = IceServerKind::Turn {
        username: "x".repeat(600),
        password: "p".to_owned(),
    };
    let mut bench = Bench::new(&[server], IcePolicy::All);
    bench.challenge();
    assert!(matches!(bench.state(0), ServerState::Refused { code: 400, .. }));
    assert!(Auth::new("", "", String::new(), String::new()).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_makes_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        kind in 0..4_u8,
    ) {
        let mut bench = Bench::new(&[turn("192.0.2.1")], IcePolicy::All);
        if kind > 1 {
            bench.challenge();
        }
        let (to, data) = bench.sent.last().unwrap().clone();
        bench.input(Input::Packet { from: to, data: &bytes });
        let request = read(&data);
        let mut packet = match kind {
            0 => refuse(&request, 401, Some("nonce")),
            1 => accept(&request),
            2 => accept_signed(&request, "secret"),
            _ => refuse(&request, 438, Some("nonce")),
        };
        // The header stays ours, so that the rest is looked at.
        for (at, byte) in flips {
            let at = 20 + at.index(packet.len() - 20);
            packet[at] = byte;
        }
        let shorter = 20 + cut.index(packet.len() - 19);
        bench.input(Input::Packet { from: to, data: &packet[..shorter] });
        bench.input(Input::Packet { from: to, data: &packet });
        bench.pass(INTERVAL * 2);
        prop_assert!(bench.machine.poll_timeout().is_some());
    }
}

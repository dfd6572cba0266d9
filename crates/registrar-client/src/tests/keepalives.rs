//! Flows that are kept alive, and those that are dead (RFC 5626 section 4.4).

use super::flows::{outbound, outbound_ok};
use super::*;
use crate::RegistrationFailure;

/// Registered over a flow that the registrar keeps, which wants a keepalive every `timer` seconds.
fn watched(config: RegistrarConfig, transport: Transport, timer: Option<u32>) -> Bench {
    let mut bench = Bench::new(config);
    bench.transport = transport;
    bench.input(Input::Register);
    let first = bench.take();
    let mut ok = outbound_ok(&first);
    if let Some(timer) = timer {
        ok.headers.push("Flow-Timer", timer);
    }
    bench.respond(&first, ok);
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    bench
}

impl Bench {
    /// To the next keepalive, answered; says how long that was.
    fn beat(&mut self) -> Duration {
        let before = self.now;
        while self.beats.is_empty() {
            self.sleep();
        }
        let (flow, _, at) = self.beats.remove(0);
        assert!(self.beats.is_empty());
        self.pong(flow.0, None);
        at - before
    }

    fn pong(&mut self, flow: u64, mapped: Option<&str>) {
        self.input(Input::KeepaliveAnswered {
            id: FlowId(flow),
            mapped: mapped.map(|addr| addr.parse().unwrap()),
        });
    }
}

#[test]
fn keepalives_go_at_random_between_80_and_100_percent_of_the_flow_timer() {
    for (transport, kind) in [
        (Transport::Tcp, Keepalive::Crlf),
        (Transport::Udp, Keepalive::Stun),
    ] {
        let mut bench = watched(outbound(1), transport, Some(100));
        let first = bench.sleep();
        assert_eq!(bench.beats, [(FlowId(7), kind, bench.now)]);
        bench.beats.clear();
        bench.pong(7, None);
        let mut pauses = vec![first];
        pauses.extend((0..10).map(|_| bench.beat()));
        assert!(
            pauses
                .iter()
                .all(|pause| (seconds(80)..=seconds(100)).contains(pause)),
            "{pauses:?}"
        );
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]), "{pauses:?}");
    }
}

#[test]
fn without_a_flow_timer_the_rfcs_own_times_hold() {
    for (transport, least, most) in [
        (Transport::Tcp, 95, 120),
        (Transport::Wss, 95, 120),
        (Transport::Udp, 23, 29),
    ] {
        let mut bench = watched(outbound(1), transport, None);
        let pause = bench.beat();
        assert!(
            (seconds(least)..=seconds(most)).contains(&pause),
            "{transport}: {pause:?}"
        );
    }
}

#[test]
fn the_shorter_of_flow_timer_and_configuration_counts() {
    for (timer, configured, most) in [(100, 20, 20), (20, 100, 20)] {
        let config = RegistrarConfig {
            keepalive: Some(seconds(configured)),
            ..outbound(1)
        };
        let mut bench = watched(config, Transport::Tcp, Some(timer));
        assert!(bench.beat() <= seconds(most));
    }
}

#[test]
fn a_registrar_that_keeps_no_flows_is_sent_keepalives_only_when_that_is_configured() {
    let mut bench = Bench::registered(config()).0;
    assert_eq!(bench.sleep(), seconds(3060));
    assert!(bench.beats.is_empty());

    let config = RegistrarConfig {
        keepalive: Some(seconds(30)),
        ..config()
    };
    let mut bench = Bench::registered(config).0;
    for _ in 0..5 {
        bench.sleep();
    }
    assert_eq!(
        bench.beats.len(),
        5,
        "nobody has promised an answer, so none is missed"
    );
    assert!(bench.is_quiet());
}

#[test]
fn a_server_that_has_answered_once_is_expected_to_do_so_again() {
    let config = RegistrarConfig {
        keepalive: Some(seconds(30)),
        ..config()
    };
    let (mut bench, _) = Bench::registered(config);
    bench.sleep();
    bench.pong(7, None);
    bench.sleep();
    assert_eq!(bench.sleep(), seconds(10));
    assert_eq!(bench.closed, [FlowId(7)]);
}

#[test]
fn a_pong_that_is_missing_for_ten_seconds_closes_the_flow_and_registers_over_a_new_one() {
    let mut bench = watched(outbound(1), Transport::Tcp, Some(100));
    bench.pass(seconds(300) - seconds(200));
    bench.beats.clear();
    assert_eq!(bench.sleep(), seconds(10));
    assert_eq!(bench.closed, [FlowId(7)]);
    let [
        RegistrationEvent::Failed {
            cause: RegistrationFailure::Unreachable,
            sentence,
            retry_in: Some(wait),
        },
        RegistrationEvent::FlowsChanged { flows },
    ] = &bench.events[..]
    else {
        panic!("{:?}", bench.events)
    };
    assert!(sentence.contains("keepalive within 10 s"), "{sentence}");
    assert!(*wait <= Duration::from_millis(500) && flows.is_empty());
    bench.events.clear();
    bench.flow_down(7);
    assert!(bench.is_quiet(), "its end is no news");
    bench.sleep();
    let again = bench.take();
    assert!(again.route.fresh && again.route.flow.is_none());
    bench.respond_on(&again, outbound_ok(&again), 8);
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
}

#[test]
fn a_lost_datagram_is_no_dead_flow() {
    let mut bench = watched(outbound(1), Transport::Udp, Some(100));
    bench.sleep();
    let start = bench.now;
    for after in [500, 1500, 3500] {
        bench.sleep();
        assert_eq!(bench.now - start, Duration::from_millis(after));
    }
    assert_eq!(bench.beats.len(), 4);
    bench.pong(7, None);
    assert!(bench.sleep() >= seconds(80), "it is answered");
    assert!(bench.is_quiet() && bench.closed.is_empty());
}

#[test]
fn a_silent_udp_flow_is_dead_after_ten_seconds_and_five_copies() {
    let mut bench = watched(outbound(1), Transport::Udp, Some(100));
    bench.sleep();
    let start = bench.now;
    while bench.closed.is_empty() {
        bench.sleep();
    }
    assert_eq!((bench.now - start, bench.beats.len()), (seconds(10), 5));
}

#[test]
fn another_address_at_the_nat_is_registered_at_once() {
    let mut bench = watched(outbound(1), Transport::Udp, Some(100));
    for mapped in ["203.0.113.9:1024", "203.0.113.9:1024"] {
        bench.sleep();
        bench.pong(7, Some(mapped));
        assert!(bench.is_quiet(), "the first one is nothing new");
    }
    bench.sleep();
    bench.pong(7, Some("203.0.113.9:2048"));
    let again = bench.take();
    assert_eq!(again.route.flow, Some(FlowId(7)), "the socket is the same");
    bench.respond(&again, outbound_ok(&again));
    assert!(matches!(bench.event(), RegistrationEvent::Refreshed { .. }));
    bench.pong(7, Some("203.0.113.9:2048"));
    assert!(bench.is_quiet());
}

#[test]
fn a_refresh_over_the_same_flow_forgets_no_keepalive() {
    let mut bench = watched(outbound(1), Transport::Tcp, Some(4000));
    assert_eq!(bench.sleep(), seconds(3060), "the refresh");
    let refresh = bench.take();
    let mut ok = outbound_ok(&refresh);
    ok.headers.push("Flow-Timer", 4000);
    bench.respond(&refresh, ok);
    assert!(matches!(bench.event(), RegistrationEvent::Refreshed { .. }));
    assert!(bench.sleep() <= seconds(940));
    assert_eq!(bench.beats.len(), 1);
}

#[test]
fn a_stack_that_tells_no_answers_is_not_expected_to() {
    let mut bench = Bench::over(outbound(1), PLAIN);
    bench.input(Input::Register);
    let first = bench.take();
    bench.respond(&first, outbound_ok(&first));
    bench.events.clear();
    for _ in 0..5 {
        bench.sleep();
    }
    assert_eq!((bench.beats.len(), bench.closed.len()), (5, 0));
    assert!(bench.is_quiet());
}

#[test]
fn a_stack_without_a_keepalive_sends_none() {
    let capability = SipCapability {
        keepalives: &[Keepalive::Stun],
        ..CAPABLE
    };
    let mut bench = Bench::over(outbound(1), capability);
    bench.input(Input::Register);
    let first = bench.take();
    bench.respond(&first, outbound_ok(&first));
    assert_eq!(bench.sleep(), seconds(3060));
    assert!(bench.beats.is_empty());
}

#[test]
fn an_absurd_flow_timer_is_no_flood() {
    let mut bench = watched(outbound(1), Transport::Tcp, Some(0));
    assert!(bench.beat() >= Duration::from_millis(1600));
}

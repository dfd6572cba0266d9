//! Registrations that are bound to flows (RFC 5626) and GRUUs (RFC 5627).

use super::*;
use crate::targets::Targets;
use crate::{Backoff, RegistrationFailure};
use siprtc_core::sip::{DigestAlgorithm, FlowId};

const URN: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
const AB: &[&str] = &[
    "sip:a.example.com;transport=tcp",
    "sip:b.example.com;transport=tcp",
];

/// `flows` of them, to one registrar.
pub(super) fn outbound(flows: usize) -> RegistrarConfig {
    RegistrarConfig {
        flows,
        instance: Some(URN.to_owned()),
        registrars: vec![uri(AB[0])],
        ..config()
    }
}

fn over_ab(flows: usize) -> RegistrarConfig {
    RegistrarConfig {
        registrars: AB.iter().map(|text| uri(text)).collect(),
        ..outbound(flows)
    }
}

/// A 200 of a registrar that keeps the flow.
pub(super) fn outbound_ok(to: &Sent) -> SipResponse {
    let mut ok = to.ok();
    ok.headers.push("Require", "outbound");
    ok
}

fn contact(sent: &Sent) -> siprtc_core::sip::NameAddr {
    sent.request.headers.value("Contact").unwrap().parse().unwrap()
}

fn supported(sent: &Sent) -> &str {
    sent.request.headers.value("Supported").unwrap()
}

/// Both flows up: the first is flow 1, the second flow 2.
fn two(config: RegistrarConfig) -> Bench {
    let (mut bench, first) = Bench::begun(config);
    bench.respond_on(&first, outbound_ok(&first), 1);
    let second = bench.take();
    bench.respond_on(&second, outbound_ok(&second), 2);
    bench.events.clear();
    bench
}

fn flow_ids(flows: &[Flow]) -> Vec<u64> {
    flows.iter().map(|flow| flow.id.0).collect()
}

#[test]
fn a_register_for_a_flow_names_its_instance_and_reg_id() {
    let (_, first) = Bench::begun(outbound(1));
    let sent = contact(&first);
    assert_eq!(
        (sent.instance(), sent.params.value("reg-id")),
        (Some(URN), Some("1"))
    );
    assert_eq!(supported(&first), "path, outbound");
    assert!(!first.route.fresh, "the only flow may share a connection");

    let (_, first) = Bench::begun(RegistrarConfig {
        gruu: true,
        ..outbound(1)
    });
    assert_eq!(supported(&first), "path, outbound, gruu");
    let (_, first) = Bench::begun(config());
    assert_eq!(supported(&first), "path");
    assert!(!contact(&first).params.contains("reg-id"));
}

#[test]
fn what_follows_on_a_register_goes_over_its_flow() {
    let mut config = outbound(1);
    config.secret = with_secret().secret;
    let (mut bench, first) = Bench::begun(config);
    let mut challenge = first.answer(401);
    challenge
        .headers
        .push("WWW-Authenticate", r#"Digest realm="r", nonce="n", qop="auth""#);
    bench.respond_on(&first, challenge, 5);
    let second = bench.take();
    assert_eq!(second.route.flow, Some(FlowId(5)), "the answer to the challenge");
    bench.respond_on(&second, outbound_ok(&second), 5);
    let event = bench.event();
    let RegistrationEvent::Registered {
        flows,
        outbound: true,
        ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(flow_ids(&flows), [5]);
    let mut refresh = None;
    while refresh.is_none() {
        bench.sleep();
        bench
            .beats
            .drain(..)
            .for_each(|(flow, ..)| assert_eq!(flow, FlowId(5)));
        bench.input(Input::KeepaliveAnswered {
            id: FlowId(5),
            mapped: None,
        });
        refresh = bench.sent.pop();
    }
    let refresh = refresh.unwrap();
    assert_eq!(refresh.route.flow, Some(FlowId(5)), "the refresh");
    bench.respond_on(&refresh, outbound_ok(&refresh), 5);
    bench.events.clear();
    bench.input(Input::Unregister);
    let bye = bench.take();
    assert_eq!((bye.route.flow, bye.expires()), (Some(FlowId(5)), 0));
    assert_eq!(contact(&bye).params.value("reg-id"), Some("1"));
}

#[test]
fn the_second_flow_begins_when_the_first_one_is_kept() {
    let (mut bench, first) = Bench::begun(over_ab(2));
    assert_eq!(first.hop(), AB[0]);
    bench.respond_on(&first, outbound_ok(&first), 1);
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    let second = bench.take();
    assert_eq!(second.hop(), AB[1]);
    assert_eq!(contact(&second).params.value("reg-id"), Some("2"));
    assert_eq!(contact(&second).instance(), Some(URN));
    bench.respond_on(&second, outbound_ok(&second), 2);
    let event = bench.event();
    let RegistrationEvent::Registered { flows, registrar, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!((flow_ids(&flows), registrar.as_str()), (vec![1, 2], AB[1]));
}

#[test]
fn flows_to_one_proxy_have_a_connection_each() {
    let (mut bench, first) = Bench::begun(outbound(2));
    assert!(first.route.fresh);
    bench.respond_on(&first, outbound_ok(&first), 1);
    let second = bench.take();
    assert!(second.route.fresh && second.hop() == AB[0]);
    let (_, first) = Bench::begun(outbound(1));
    assert!(!first.route.fresh);
    let mut bench = Bench::over(outbound(2), PLAIN);
    bench.input(Input::Register);
    assert!(
        !bench.take().route.fresh,
        "what the stack cannot do is not asked of it"
    );
}

#[test]
fn a_registrar_that_keeps_no_flows_gets_one_binding() {
    let (mut bench, first) = Bench::begun(over_ab(2));
    bench.respond_on(&first, first.ok(), 1);
    let event = bench.event();
    assert!(
        matches!(event, RegistrationEvent::Registered { outbound: false, .. }),
        "{event:?}"
    );
    assert!(bench.is_quiet());
    bench.input(Input::Register);
    assert!(bench.is_quiet());
}

#[test]
fn a_first_flow_that_fails_lets_the_second_one_try() {
    let (mut bench, first) = Bench::begun(over_ab(2));
    bench.ended(first.tx, TxEnd::Transport("refused".to_owned()));
    let event = bench.event();
    assert!(
        matches!(
            event,
            RegistrationEvent::Failed {
                retry_in: Some(_),
                ..
            }
        ),
        "{event:?}"
    );
    let second = bench.take();
    assert_eq!(second.hop(), AB[1]);
    bench.respond_on(&second, outbound_ok(&second), 2);
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
}

#[test]
fn an_account_that_is_refused_is_so_once() {
    let (mut bench, first) = Bench::begun(over_ab(3));
    bench.respond(&first, first.answer(403));
    let event = bench.event();
    assert!(
        matches!(event, RegistrationEvent::Failed { retry_in: None, .. }),
        "{event:?}"
    );
    assert!(bench.is_quiet());
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn one_lost_flow_of_two_is_recovered_and_the_account_stays_registered() {
    let mut bench = two(over_ab(2));
    bench.flow_down(2);
    let [
        RegistrationEvent::FlowFailed {
            cause: RegistrationFailure::Unreachable,
            retry_in: Some(wait),
            ..
        },
        RegistrationEvent::FlowsChanged { flows },
    ] = &bench.events[..]
    else {
        panic!("{:?}", bench.events)
    };
    assert!(*wait <= Duration::from_millis(500), "at once");
    assert_eq!(flow_ids(flows), [1]);
    bench.events.clear();
    bench.sleep();
    let again = bench.take();
    assert!(again.route.fresh && again.route.flow.is_none());
    assert_eq!(
        (again.hop().as_str(), contact(&again).params.value("reg-id")),
        (AB[1], Some("2"))
    );
    bench.respond_on(&again, outbound_ok(&again), 9);
    let event = bench.event();
    assert!(
        matches!(&event, RegistrationEvent::Registered { flows, .. } if flow_ids(flows) == [1, 9]),
        "{event:?}"
    );
}

/// Lets a flow's REGISTERs fail again and again; says how long it waited before each, in seconds.
fn waits(bench: &mut Bench, flow: u64, rounds: usize) -> Vec<f64> {
    bench.flow_down(flow);
    let mut waits = Vec::new();
    let mut last = bench.now;
    while waits.len() < rounds {
        bench.sleep();
        let beats: Vec<_> = bench.beats.drain(..).collect();
        for (flow, ..) in beats {
            bench.input(Input::KeepaliveAnswered {
                id: flow,
                mapped: None,
            });
        }
        for sent in std::mem::take(&mut bench.sent) {
            if let Some(FlowId(flow)) = sent.route.flow {
                // The other flow is refreshed.
                bench.respond_on(&sent, outbound_ok(&sent), flow);
                continue;
            }
            waits.push((bench.now - last).as_secs_f64());
            last = bench.now;
            bench.ended(sent.tx, TxEnd::Transport("refused".to_owned()));
        }
    }
    waits
}

#[test]
fn the_pauses_are_the_rfcs_when_no_flow_is_left() {
    let (mut bench, first) = Bench::begun(outbound(1));
    bench.respond_on(&first, outbound_ok(&first), 1);
    bench.pass(Duration::from_secs(60));
    let waits = waits(&mut bench, 1, 9);
    assert!(waits[0] <= 0.5, "{waits:?}");
    for (failures, wait) in waits.iter().enumerate().skip(1) {
        let most = (30.0 * 2f64.powi(failures as i32)).min(1800.0);
        assert!((most / 2.0..=most).contains(wait), "{failures}: {waits:?}");
    }
}

#[test]
fn the_pauses_are_three_times_as_long_while_another_flow_is_up() {
    let mut bench = two(over_ab(2));
    let waits = waits(&mut bench, 2, 7);
    for (failures, wait) in waits.iter().enumerate().skip(1) {
        let most = (90.0 * 2f64.powi(failures as i32)).min(1800.0);
        assert!((most / 2.0..=most).contains(wait), "{failures}: {waits:?}");
    }
}

#[test]
fn the_pauses_of_recovery_can_be_configured() {
    let recovery = Backoff {
        first: Duration::from_millis(10),
        most: Duration::from_millis(40),
        ..Backoff::recovery()
    };
    let (mut bench, first) = Bench::begun(RegistrarConfig {
        recovery,
        ..outbound(1)
    });
    bench.respond_on(&first, outbound_ok(&first), 1);
    let waits = waits(&mut bench, 1, 5);
    assert!(waits[1..].iter().all(|wait| *wait <= 0.04), "{waits:?}");
}

#[test]
fn a_flow_that_breaks_under_a_refresh_is_recovered_at_once() {
    for down_first in [true, false] {
        let mut bench = two(over_ab(2));
        let refresh = loop {
            bench.sleep();
            let flow = bench.beats.pop().map(|(flow, ..)| flow);
            flow.into_iter()
                .for_each(|id| bench.input(Input::KeepaliveAnswered { id, mapped: None }));
            if let Some(sent) = bench.sent.pop() {
                break sent;
            }
        };
        bench.events.clear();
        let flow = refresh.route.flow.unwrap();
        if down_first {
            bench.flow_down(flow.0);
        }
        bench.ended(refresh.tx, TxEnd::Transport("the connection is gone".to_owned()));
        let failed = bench.events.iter().find_map(|event| match event {
            RegistrationEvent::FlowFailed { retry_in, .. } => *retry_in,
            _ => None,
        });
        assert!(
            failed.is_some_and(|wait| wait <= Duration::from_millis(500)),
            "{:?}",
            bench.events
        );
        bench.events.clear();
        let fresh = loop {
            bench.sleep();
            let sent = bench.sent.drain(..).find(|sent| sent.route.flow.is_none());
            if let Some(sent) = sent {
                break sent;
            }
        };
        assert!(fresh.route.fresh);
    }
}

#[test]
fn a_refresh_that_nobody_answers_closes_its_flow() {
    let (mut bench, first) = Bench::begun(outbound(1));
    bench.respond_on(&first, outbound_ok(&first), 1);
    let refresh = loop {
        bench.sleep();
        bench.beats.clear();
        bench.input(Input::KeepaliveAnswered {
            id: FlowId(1),
            mapped: None,
        });
        if let Some(sent) = bench.sent.pop() {
            break sent;
        }
    };
    bench.ended(refresh.tx, TxEnd::TimedOut);
    assert_eq!(bench.closed, [FlowId(1)]);
}

#[test]
fn a_first_hop_without_outbound_gets_a_plain_registration() {
    let (mut bench, first) = Bench::begun(outbound(2));
    bench.respond_on(&first, first.answer(439), 1);
    let again = bench.take();
    assert!(!contact(&again).params.contains("reg-id"));
    assert_eq!(
        (contact(&again).instance(), supported(&again)),
        (Some(URN), "path")
    );
    bench.respond_on(&again, outbound_ok(&again), 1);
    let event = bench.event();
    assert!(
        matches!(event, RegistrationEvent::Registered { outbound: false, .. }),
        "{event:?}"
    );
    assert!(bench.is_quiet(), "and no second flow");

    let (mut bench, first) = Bench::begun(config());
    bench.respond(&first, first.answer(439));
    let event = bench.event();
    assert!(
        matches!(
            event,
            RegistrationEvent::Failed {
                cause: RegistrationFailure::Rejected(439),
                retry_in: None,
                ..
            }
        ),
        "who did not ask for it is refused: {event:?}"
    );
}

#[test]
fn unregister_removes_every_flow_and_is_answered_once() {
    let mut bench = two(over_ab(2));
    bench.input(Input::Unregister);
    let byes = std::mem::take(&mut bench.sent);
    assert_eq!(byes.len(), 2);
    let ids: Vec<_> = byes
        .iter()
        .map(|bye| contact(bye).params.value("reg-id").map(str::to_owned))
        .collect();
    assert_eq!(ids, [Some("1".to_owned()), Some("2".to_owned())]);
    bench.respond(&byes[0], byes[0].answer(200));
    assert!(bench.left.is_empty());
    bench.respond(&byes[1], byes[1].answer(500));
    assert_eq!(bench.left.len(), 1);
    assert!(bench.left[0].is_err(), "one of them could not be removed");
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn registering_again_while_leaving_waits_for_every_flow() {
    let mut bench = two(over_ab(2));
    bench.input(Input::Unregister);
    bench.input(Input::Register);
    let byes = std::mem::take(&mut bench.sent);
    bench.respond(&byes[0], byes[0].answer(200));
    assert!(bench.is_quiet());
    bench.respond(&byes[1], byes[1].answer(200));
    assert_eq!((bench.take().expires(), bench.left.len()), (3600, 1));
}

#[test]
fn the_binding_of_another_flow_is_not_taken_for_ours() {
    let (mut bench, first) = Bench::begun(over_ab(2));
    bench.respond_on(&first, outbound_ok(&first), 1);
    bench.events.clear();
    let second = bench.take();
    let mut ok = second.answer(200);
    let other = format!("<sip:alice@192.0.2.7:5062>;reg-id=1;+sip.instance=\"<{URN}>\";expires=50");
    let ours = format!("<sip:alice@192.0.2.7:5062>;reg-id=2;+sip.instance=\"<{URN}>\";expires=90");
    ok.headers.push("Contact", other);
    ok.headers.push("Contact", ours);
    bench.respond_on(&second, ok, 2);
    let event = bench.event();
    assert!(
        matches!(event, RegistrationEvent::Registered { expires, contacts: 2, .. } if expires == seconds(90)),
        "{event:?}"
    );
}

#[test]
fn gruus_are_told_and_a_new_public_one_is_told_again() {
    let (mut bench, first) = Bench::begun(RegistrarConfig {
        gruu: true,
        ..outbound(1)
    });
    let ok = |to: &Sent, public: &str, temporary: &str| {
        let mut ok = to.answer(200);
        let contact = format!(
            "<sip:alice@192.0.2.7:5062>;reg-id=1;+sip.instance=\"<{URN}>\";expires=60;\
             pub-gruu=\"{public}\";temp-gruu=\"{temporary}\""
        );
        ok.headers.push("Contact", contact);
        ok
    };
    let public = format!("sip:alice@example.com;gr={URN}");
    bench.respond(&first, ok(&first, &public, "sip:tgruu.1@example.com;gr"));
    let event = bench.event();
    let RegistrationEvent::Registered {
        public_gruu,
        temporary_gruu,
        ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(public_gruu, Some(uri(&public)));
    assert_eq!(temporary_gruu, Some(uri("sip:tgruu.1@example.com;gr")));
    bench.sleep();
    let refresh = bench.take();
    bench.respond(&refresh, ok(&refresh, &public, "sip:tgruu.2@example.com;gr"));
    assert!(matches!(bench.event(), RegistrationEvent::Refreshed { .. }));
    bench.sleep();
    let refresh = bench.take();
    bench.respond(&refresh, ok(&refresh, "not a uri", "sip:tgruu.3@example.com;gr"));
    let event = bench.event();
    assert!(
        matches!(
            event,
            RegistrationEvent::Registered {
                public_gruu: None,
                ..
            }
        ),
        "{event:?}"
    );
}

#[test]
fn a_digest_weaker_than_configured_is_never_sent() {
    let mut config = with_secret();
    config.weakest_digest = DigestAlgorithm::Sha256;
    let (mut bench, first) = Bench::begun(config.clone());
    let mut weak = first.answer(401);
    weak.headers
        .push("WWW-Authenticate", r#"Digest realm="r", nonce="n", qop="auth""#);
    bench.respond(&first, weak.clone());
    let event = bench.event();
    let RegistrationEvent::Failed {
        cause: RegistrationFailure::WeakChallenge,
        sentence,
        retry_in: None,
    } = event
    else {
        panic!("{event:?}")
    };
    assert!(
        sentence.contains("MD5") && sentence.contains("SHA-256"),
        "{sentence}"
    );
    assert!(bench.is_quiet());

    let (mut bench, first) = Bench::begun(config);
    weak.headers.push(
        "WWW-Authenticate",
        r#"Digest realm="r", nonce="m", algorithm=SHA-256, qop="auth""#,
    );
    bench.respond(&first, weak);
    let given = bench.take().request.headers.authorizations().unwrap();
    assert_eq!(
        (given.len(), given[0].algorithm),
        (1, Some(DigestAlgorithm::Sha256))
    );
}

#[test]
fn registrars_are_shared_out_among_the_flows() {
    let all: Vec<SipUri> = ["a", "b", "c", "d", "e"]
        .map(|host| uri(&format!("sip:{host}")))
        .to_vec();
    let share = |count: usize, index, flows| {
        let share = Targets::share(&all[..count], index, flows);
        share
            .iter()
            .map(|uri| uri.host.to_string())
            .collect::<Vec<_>>()
            .concat()
    };
    assert_eq!(share(5, 0, 0), "abcde");
    assert_eq!(share(5, 0, 1), "abcde");
    assert_eq!(
        (share(5, 0, 2), share(5, 1, 2)),
        ("ace".to_owned(), "bd".to_owned())
    );
    assert_eq!(
        (share(2, 0, 3), share(2, 1, 3), share(2, 2, 3)),
        ("a".to_owned(), "b".to_owned(), "a".to_owned())
    );
    assert_eq!(share(0, 1, 2), "");
}

#[test]
fn flows_without_an_instance_and_too_many_of_them_are_refused() {
    let without = RegistrarConfig {
        instance: None,
        ..outbound(1)
    };
    assert!(without.validate().unwrap_err().to_string().contains("instance"));
    assert!(outbound(RegistrarConfig::MAX_FLOWS).validate().is_ok());
    assert!(outbound(RegistrarConfig::MAX_FLOWS + 1).validate().is_err());
}

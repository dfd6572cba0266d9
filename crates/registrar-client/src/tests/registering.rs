//! Getting registered and staying it.

use super::*;
use crate::RegistrationFailure;
use siprtc_core::sip::{Method, NameAddr};

#[test]
fn the_first_register_says_who_where_and_for_how_long() {
    let mut config = config();
    config.aor = uri("sip:alice@example.com:5070;transport=tcp");
    config.instance = Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned());
    let (_, first) = Bench::begun(config);
    let headers = &first.request.headers;
    assert_eq!(first.request.method, Method::Register);
    assert_eq!(
        first.request.uri.to_string(),
        "sip:example.com:5070;transport=tcp"
    );
    assert_eq!(headers.to().unwrap().to_string(), "<sip:alice@example.com:5070>");
    assert_eq!(headers.from().unwrap().uri, headers.to().unwrap().uri);
    assert!(headers.from().unwrap().tag().is_some_and(|tag| tag.len() == 32));
    assert_eq!(first.sequence(), 1);
    let contact: NameAddr = headers.value("Contact").unwrap().parse().unwrap();
    assert_eq!(contact.expires(), Some(3600));
    assert_eq!(
        contact.instance(),
        Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    );
    assert_eq!(first.expires(), 3600);
    assert_eq!(first.hop(), "", "without a list the Request-URI says where");
}

#[test]
fn every_register_keeps_call_id_and_from_tag_and_counts_cseq_up_by_one() {
    let (mut bench, first) = Bench::registered(config());
    let mut last = first.sequence();
    for _ in 0..5 {
        bench.sleep();
        let next = bench.take();
        assert_eq!(next.sequence(), last + 1);
        assert_eq!(
            next.request.headers.call_id().unwrap(),
            first.request.headers.call_id().unwrap()
        );
        assert_eq!(
            next.request.headers.from().unwrap(),
            first.request.headers.from().unwrap()
        );
        last = next.sequence();
        bench.respond(&next, next.ok());
    }
}

#[test]
fn a_binding_is_refreshed_before_it_expires() {
    let (mut bench, _) = Bench::registered(config());
    assert_eq!(bench.sleep(), seconds(3060));
    let refresh = bench.take();
    bench.respond(&refresh, refresh.ok());
    assert_eq!(
        bench.event(),
        RegistrationEvent::Refreshed {
            expires: seconds(3600)
        }
    );
}

#[test]
fn the_contacts_own_expires_wins_over_the_header_and_the_header_over_what_was_asked() {
    for (contact, header, lasts) in [
        ("<sip:alice@192.0.2.7:5062>;expires=100", Some(200), 100),
        ("<sip:alice@192.0.2.7:5062>", Some(200), 200),
        ("<sip:alice@192.0.2.7:5062>", None, 3600),
        (
            "<sip:bob@198.51.100.1>;expires=5, <sip:alice@192.0.2.7:5062>;expires=60",
            Some(7),
            60,
        ),
    ] {
        let (mut bench, first) = Bench::begun(config());
        let mut ok = first.answer(200);
        ok.headers.push("Contact", contact);
        if let Some(header) = header {
            ok.headers.push("Expires", header);
        }
        bench.respond(&first, ok);
        let contacts = contact.split(", ").count();
        let registrar = "sip:example.com".to_owned();
        let expected = RegistrationEvent::Registered {
            registrar,
            expires: seconds(lasts),
            contacts,
            flows: Vec::new(),
            outbound: false,
            public_gruu: None,
            temporary_gruu: None,
        };
        assert_eq!(bench.event(), expected, "{contact}");
    }
}

#[test]
fn our_contact_is_known_by_its_instance_whatever_its_address_has_become() {
    let mut config = config();
    config.instance = Some("urn:uuid:1".to_owned());
    let (mut bench, first) = Bench::begun(config);
    let mut ok = first.answer(200);
    ok.headers
        .push("Contact", r#"<sip:alice@198.51.100.1>;expires=60"#);
    ok.headers.push(
        "Contact",
        r#"<sip:x@203.0.113.9:1024>;expires=90;+sip.instance="<URN:UUID:1>""#,
    );
    bench.respond(&first, ok);
    assert!(matches!(bench.event(), RegistrationEvent::Registered { expires, .. } if expires == seconds(90)));
}

#[test]
fn a_contact_that_the_registrar_rewrote_for_a_nat_is_still_ours() {
    let (mut bench, first) = Bench::begun(config());
    let mut ok = first.answer(200);
    ok.headers.push(
        "Contact",
        "<sip:alice@203.0.113.9:40001;x-ast-orig-host=192.0.2.7:5062>;expires=120",
    );
    bench.respond(&first, ok);
    assert!(
        matches!(bench.event(), RegistrationEvent::Registered { expires, .. } if expires == seconds(120))
    );
}

#[test]
fn a_200_without_our_contact_is_a_failure_and_is_tried_again() {
    for contact in [
        None,
        Some("<sip:bob@198.51.100.1>"),
        Some("*"),
        Some("<sip:alice@192.0.2.7:5062>;expires=0"),
    ] {
        let (mut bench, first) = Bench::begun(config());
        let mut ok = first.answer(200);
        if let Some(contact) = contact {
            ok.headers.push("Contact", contact);
        }
        bench.respond(&first, ok);
        let event = bench.event();
        let RegistrationEvent::Failed {
            cause: RegistrationFailure::Malformed,
            retry_in: Some(wait),
            ..
        } = event
        else {
            panic!("{contact:?}: {event:?}")
        };
        assert_eq!(bench.sleep(), wait);
        let again = bench.take();
        bench.respond(&again, again.ok());
        assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    }
}

#[test]
fn a_423_is_asked_again_for_min_expires_and_remembered() {
    let (mut bench, first) = Bench::begun(RegistrarConfig {
        expires: 60,
        ..config()
    });
    let mut brief = first.answer(423);
    brief.headers.push("Min-Expires", 600);
    bench.respond(&first, brief);
    let second = bench.take();
    assert_eq!((second.expires(), second.sequence()), (600, 2));
    bench.respond(&second, second.ok());
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    bench.sleep();
    assert_eq!(bench.take().expires(), 600);
}

#[test]
fn a_423_without_a_sane_min_expires_is_a_failure() {
    for least in [None, Some("60"), Some("86401"), Some("soon")] {
        let (mut bench, first) = Bench::begun(RegistrarConfig {
            expires: 60,
            ..config()
        });
        let mut brief = first.answer(423);
        if let Some(least) = least {
            brief.headers.push("Min-Expires", least);
        }
        bench.respond(&first, brief);
        let event = bench.event();
        let failed = matches!(
            event,
            RegistrationEvent::Failed {
                cause: RegistrationFailure::Rejected(423),
                retry_in: Some(_),
                ..
            }
        );
        assert!(failed && bench.is_quiet(), "{least:?}: {event:?}");
    }
}

#[test]
fn a_registrar_that_raises_min_expires_without_end_is_left_after_a_few_requests() {
    let (mut bench, mut last) = Bench::begun(RegistrarConfig {
        expires: 60,
        ..config()
    });
    for least in 61.. {
        let mut brief = last.answer(423);
        brief.headers.push("Min-Expires", least);
        bench.respond(&last, brief);
        if bench.sent.is_empty() {
            break;
        }
        last = bench.take();
    }
    assert_eq!(last.sequence(), 6);
    assert!(matches!(
        bench.event(),
        RegistrationEvent::Failed {
            retry_in: Some(_),
            ..
        }
    ));
}

#[test]
fn a_flow_lost_while_registered_is_registered_again_at_once_with_jitter() {
    let (mut bench, _) = Bench::registered(config());
    bench.pass(seconds(200));
    bench.flow_down(8);
    assert!(bench.is_quiet(), "another flow is not ours");
    bench.flow_down(7);
    let event = bench.event();
    let RegistrationEvent::Failed {
        cause: RegistrationFailure::Unreachable,
        retry_in: Some(wait),
        ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_millis(500),
        "{wait:?}"
    );
    assert_eq!(bench.sleep(), wait);
    let again = bench.take();
    bench.respond_on(&again, again.ok(), 9);
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
}

#[test]
fn flows_that_never_last_are_asked_for_less_and_less_often() {
    let (mut bench, _) = Bench::registered(config());
    let mut waits = Vec::new();
    for flow in 7..20 {
        bench.flow_down(flow);
        bench.events.clear();
        waits.push(bench.sleep());
        let again = bench.take();
        bench.respond_on(&again, again.ok(), flow + 1);
        bench.events.clear();
    }
    assert!(waits[0] <= seconds(1));
    assert!(waits.last().unwrap() >= &seconds(150), "{waits:?}");
}

#[test]
fn asking_twice_to_register_sends_one_register() {
    let (mut bench, first) = Bench::begun(config());
    bench.input(Input::Register);
    assert!(bench.is_quiet());
    bench.respond(&first, first.ok());
    bench.events.clear();
    bench.input(Input::Register);
    assert!(bench.is_quiet());
}

#[test]
fn provisional_late_and_foreign_answers_change_nothing() {
    let (mut bench, first) = Bench::begun(config());
    bench.respond_on_without_end(&first, first.answer(100));
    let mut foreign = first.answer(403);
    foreign.headers.set("Call-ID", "somebody-elses");
    bench.respond_on_without_end(&first, foreign);
    assert!(bench.is_quiet());
    bench.respond(&first, first.ok());
    bench.events.clear();
    bench.respond(&first, first.answer(500));
    bench.ended(first.tx, TxEnd::TimedOut);
    assert!(bench.is_quiet());
}

impl Bench {
    fn respond_on_without_end(&mut self, to: &Sent, response: SipResponse) {
        self.input(Input::Response {
            tx: to.tx,
            response,
            flow: None,
        });
    }
}

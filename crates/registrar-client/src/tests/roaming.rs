//! This host's address changes while it is registered, or tries to be.

use super::flows::{outbound, outbound_ok};
use super::*;
use siprtc_core::sip::NameAddr;

const OLD: &str = "sip:alice@192.0.2.7:5062";
const NEW: &str = "sip:alice@192.0.2.8:5062";

fn moved(bench: &mut Bench, to: &str) {
    let contact = NameAddr::new(uri(to));
    bench.input(Input::Moved { contact });
}

/// The URIs of its Contacts, and for how long.
fn contacts(sent: &Sent) -> Vec<(String, u32)> {
    let values = sent.request.headers.iter();
    let values = values.filter(|(name, _)| name.as_str().eq_ignore_ascii_case("Contact"));
    let contacts = values.map(|(_, value)| value.parse::<NameAddr>().unwrap());
    contacts
        .map(|contact| (contact.uri.to_string(), contact.expires().unwrap()))
        .collect()
}

fn of(list: &[(&str, u32)]) -> Vec<(String, u32)> {
    list.iter()
        .map(|(uri, expires)| ((*uri).to_owned(), *expires))
        .collect()
}

/// A 200 that lists the first Contact alone, as a registrar does that has removed the others.
fn kept(to: &Sent) -> SipResponse {
    let mut ok = to.request.response(200);
    ok.headers
        .push("Contact", to.request.headers.value("Contact").unwrap());
    ok
}

#[test]
fn a_new_address_is_registered_at_once_and_the_old_one_removed_by_the_same_request() {
    let (mut bench, first) = Bench::registered(config());
    assert_eq!(contacts(&first), of(&[(OLD, 3600)]));
    moved(&mut bench, NEW);
    let second = bench.take();
    assert_eq!(contacts(&second), of(&[(NEW, 3600), (OLD, 0)]));
    assert_eq!(second.sequence(), first.sequence() + 1);
    let call_id = |sent: &Sent| sent.request.headers.call_id().unwrap().to_owned();
    assert_eq!(call_id(&second), call_id(&first));
    bench.respond(&second, kept(&second));
    assert!(matches!(
        bench.event(),
        RegistrationEvent::Registered { contacts: 1, .. }
    ));
    while bench.sent.is_empty() {
        bench.sleep();
    }
    assert_eq!(contacts(&bench.take()), of(&[(NEW, 3600)]), "it is removed once");
}

#[test]
fn the_same_contact_behind_another_address_is_registered_again_and_nothing_removed() {
    let (mut bench, _) = Bench::registered(config());
    moved(&mut bench, OLD);
    assert_eq!(contacts(&bench.take()), of(&[(OLD, 3600)]));
}

#[test]
fn where_the_registrar_keeps_flows_the_new_binding_replaces_the_old_one() {
    let (mut bench, first) = Bench::begun(outbound(1));
    bench.respond_on(&first, outbound_ok(&first), 1);
    bench.events.clear();
    moved(&mut bench, NEW);
    let second = bench.take();
    assert_eq!(contacts(&second), of(&[(NEW, 3600)]));
    let contact: NameAddr = second.request.headers.value("Contact").unwrap().parse().unwrap();
    assert_eq!(contact.params.value("reg-id"), Some("1"));
    assert!(contact.instance().is_some());
}

#[test]
fn a_registrar_that_knows_no_flows_is_asked_to_remove_the_old_contact_by_its_uri() {
    let (mut bench, first) = Bench::begun(outbound(1));
    bench.respond_on(&first, first.ok(), 1);
    bench.events.clear();
    moved(&mut bench, NEW);
    let second = bench.take();
    assert_eq!(contacts(&second), of(&[(NEW, 3600), (OLD, 0)]));
    let all: Vec<_> = second
        .request
        .headers
        .iter()
        .map(|(_, value)| value.to_owned())
        .collect();
    let named = all.iter().filter(|value| value.contains("+sip.instance")).count();
    assert_eq!(named, 1, "the instance names the binding that stays: {all:?}");
}

#[test]
fn a_register_in_flight_is_waited_for_and_the_new_address_follows() {
    let (mut bench, first) = Bench::begun(config());
    moved(&mut bench, NEW);
    assert!(bench.is_quiet(), "RFC 3261 section 10.2: never two at once");
    bench.respond(&first, first.ok());
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    let second = bench.take();
    assert_eq!(contacts(&second), of(&[(NEW, 3600), (OLD, 0)]));
    bench.respond(&second, kept(&second));
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    assert!(bench.is_quiet());
}

#[test]
fn who_comes_back_to_an_address_does_not_remove_it() {
    let (mut bench, _) = Bench::registered(config());
    moved(&mut bench, NEW);
    let second = bench.take();
    moved(&mut bench, OLD);
    bench.respond(&second, kept(&second));
    bench.events.clear();
    let third = bench.take();
    assert_eq!(contacts(&third), of(&[(OLD, 3600), (NEW, 0)]));
}

#[test]
fn a_failure_is_tried_again_at_once_but_retry_after_holds() {
    let (mut bench, first) = Bench::begun(config());
    bench.ended(first.tx, TxEnd::Transport("Network is unreachable".to_owned()));
    bench.event();
    moved(&mut bench, NEW);
    let second = bench.take();
    assert_eq!(contacts(&second), of(&[(NEW, 3600), (OLD, 0)]));
    let mut busy = second.answer(503);
    busy.headers.push("Retry-After", "60");
    bench.respond(&second, busy);
    bench.event();
    moved(&mut bench, OLD);
    assert!(bench.is_quiet(), "the registrar has asked for a minute");
    assert!(bench.sleep() >= seconds(59));
    assert_eq!(contacts(&bench.take())[0], (OLD.to_owned(), 3600));
}

#[test]
fn who_is_not_registered_stays_so() {
    let mut bench = Bench::new(config());
    moved(&mut bench, NEW);
    assert!(bench.is_quiet());
    bench.input(Input::Register);
    assert_eq!(
        contacts(&bench.take()),
        of(&[(NEW, 3600)]),
        "what was never said needs no removal"
    );
}

#[test]
fn an_address_that_flaps_costs_no_more_than_the_pace_allows() {
    let (mut bench, _) = Bench::registered(config());
    for flap in 0..200 {
        moved(&mut bench, if flap % 2 == 0 { NEW } else { OLD });
        if let Some(sent) = bench.sent.pop() {
            assert!(contacts(&sent).len() <= 5);
            bench.respond(&sent, kept(&sent));
        }
        bench.pass(Duration::from_millis(10));
    }
    // A burst of 32, then one a second: 2 s have passed.
    assert!((20..=36).contains(&bench.count), "{}", bench.count);
    let due = bench.machine.poll_timeout().unwrap();
    assert!(due > bench.now, "and the rest waits");
}

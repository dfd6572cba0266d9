//! Unregister.

use super::*;
use crate::RegistrationFailure;

#[test]
fn unregister_removes_our_contact_and_no_other() {
    let (mut bench, _) = Bench::registered(config());
    bench.input(Input::Unregister);
    let bye = bench.take();
    assert_eq!(bye.expires(), 0);
    let contact = bye.request.headers.value("Contact").unwrap();
    assert_eq!(contact, "<sip:alice@192.0.2.7:5062>;expires=0");
    assert!(bench.is_quiet(), "nobody is told before the answer");
    bench.respond(&bye, bye.answer(200));
    assert_eq!(bench.left, [Ok(())]);
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn unregister_is_answered_at_once_when_nothing_was_registered() {
    let mut bench = Bench::new(config());
    bench.input(Input::Unregister);
    assert_eq!(bench.left, [Ok(())]);
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    assert!(bench.sent.is_empty());
}

#[test]
fn unregister_during_a_back_off_ends_it() {
    let (mut bench, first) = Bench::begun(config());
    bench.ended(first.tx, TxEnd::TimedOut);
    bench.events.clear();
    bench.input(Input::Unregister);
    assert_eq!(bench.left, [Ok(())]);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn unregister_waits_for_a_register_in_flight_and_then_removes_what_it_bound() {
    let (mut bench, first) = Bench::begun(config());
    bench.input(Input::Unregister);
    assert!(bench.is_quiet());
    bench.respond(&first, first.ok());
    assert!(
        bench.events.is_empty(),
        "nobody is told of a registration that is being removed"
    );
    let bye = bench.take();
    assert_eq!((bye.expires(), bye.sequence()), (0, 2));
    bench.respond(&bye, bye.answer(200));
    assert_eq!(bench.left, [Ok(())]);
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
}

#[test]
fn unregister_during_a_register_that_fails_needs_no_other() {
    let (mut bench, first) = Bench::begun(config());
    bench.input(Input::Unregister);
    bench.respond(&first, first.answer(500));
    assert_eq!(bench.left, [Ok(())]);
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    assert!(bench.is_quiet_but_left());
}

#[test]
fn unregister_answers_a_challenge() {
    let (mut bench, _) = Bench::registered(with_secret());
    bench.input(Input::Unregister);
    let bye = bench.take();
    let mut challenge = bye.answer(401);
    challenge
        .headers
        .push("WWW-Authenticate", r#"Digest realm="r", nonce="n", qop="auth""#);
    bench.respond(&bye, challenge);
    let again = bench.take();
    assert_eq!(again.expires(), 0);
    assert!(again.request.headers.contains("Authorization"));
    bench.respond(&again, again.answer(200));
    assert_eq!(bench.left, [Ok(())]);
}

#[test]
fn a_refused_unregister_is_an_error_and_yet_the_end() {
    let (mut bench, _) = Bench::registered(config());
    bench.input(Input::Unregister);
    let bye = bench.take();
    bench.respond(&bye, bye.answer(500));
    let failure = bench.left[0].clone().unwrap_err();
    assert_eq!(failure.cause, RegistrationFailure::ServerError(500));
    assert!(failure.advice.contains("ends by itself"), "{failure:?}");
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn unregister_is_not_waited_for_longer_than_two_seconds() {
    let (mut bench, _) = Bench::registered(config());
    bench.input(Input::Unregister);
    let bye = bench.take();
    assert_eq!(bench.sleep(), seconds(2));
    assert_eq!(
        bench.left[0].clone().unwrap_err().cause,
        RegistrationFailure::TimedOut
    );
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    bench.respond(&bye, bye.answer(200));
    assert_eq!((bench.left.len(), bench.events.len()), (1, 0), "told once");
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_binding_made_after_the_two_seconds_is_still_removed() {
    let (mut bench, first) = Bench::begun(config());
    bench.input(Input::Unregister);
    assert_eq!(bench.sleep(), seconds(2));
    bench.events.clear();
    bench.respond(&first, first.ok());
    let bye = bench.take();
    assert_eq!(bye.expires(), 0);
}

#[test]
fn a_register_asked_for_while_leaving_follows_the_leaving() {
    let (mut bench, _) = Bench::registered(config());
    bench.input(Input::Unregister);
    let bye = bench.take();
    bench.input(Input::Register);
    assert!(bench.is_quiet());
    bench.respond(&bye, bye.answer(200));
    assert_eq!(bench.left, [Ok(())]);
    assert_eq!(bench.event(), RegistrationEvent::Unregistered);
    let anew = bench.take();
    assert_eq!(anew.expires(), 3600);
    bench.respond(&anew, anew.ok());
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
}

#[test]
fn a_binding_whose_refresh_fails_is_removed_where_it_was_made() {
    let (mut bench, _) = Bench::registered(with_registrars(&["sip:a.example.com", "sip:b.example.com"]));
    bench.sleep();
    let refresh = bench.take();
    bench.ended(refresh.tx, TxEnd::TimedOut);
    let elsewhere = bench.take();
    bench.ended(elsewhere.tx, TxEnd::TimedOut);
    bench.input(Input::Unregister);
    assert_eq!(bench.take().hop(), "sip:a.example.com");
}

impl Bench {
    fn is_quiet_but_left(&self) -> bool {
        self.sent.is_empty() && self.events.is_empty()
    }
}

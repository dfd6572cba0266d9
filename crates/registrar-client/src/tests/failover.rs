//! Registrars that fail, and those after them.

use super::*;
use crate::RegistrationFailure;

const AB: &[&str] = &["sip:a.example.com", "sip:b.example.com;transport=tcp"];

/// Cause and wait of the one event.
fn failure(bench: &mut Bench) -> (RegistrationFailure, Option<Duration>) {
    match bench.event() {
        RegistrationEvent::Failed { cause, retry_in, .. } => (cause, retry_in),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_registrar_that_fails_is_followed_by_the_next_at_once() {
    for (cause, fail) in [
        (RegistrationFailure::Unreachable, 0),
        (RegistrationFailure::TimedOut, 1),
        (RegistrationFailure::TimedOut, 408),
        (RegistrationFailure::ServerError(500), 500),
        (RegistrationFailure::ServerError(503), 503),
        (RegistrationFailure::Rejected(480), 480),
    ] {
        let (mut bench, first) = Bench::begun(with_registrars(AB));
        assert_eq!(first.hop(), AB[0]);
        match fail {
            0 => bench.ended(first.tx, TxEnd::Transport("connection refused".to_owned())),
            1 => bench.ended(first.tx, TxEnd::TimedOut),
            status => bench.respond(&first, first.answer(status)),
        }
        assert_eq!(failure(&mut bench), (cause, Some(Duration::ZERO)));
        let second = bench.take();
        assert_eq!((second.hop().as_str(), second.sequence()), (AB[1], 2));
        assert_eq!(
            second.request.uri.to_string(),
            "sip:example.com",
            "the domain stays the same"
        );
        bench.respond(&second, second.ok());
        let event = bench.event();
        assert!(
            matches!(&event, RegistrationEvent::Registered { registrar, .. } if registrar == AB[1]),
            "{event:?}"
        );
    }
}

#[test]
fn after_the_last_registrar_comes_a_back_off_that_doubles_with_jitter_up_to_its_most() {
    let (mut bench, mut last) = Bench::begun(with_registrars(AB));
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(last.hop(), AB[0]);
        bench.ended(last.tx, TxEnd::TimedOut);
        let second = bench.take();
        bench.events.clear();
        bench.ended(second.tx, TxEnd::TimedOut);
        let (_, wait) = failure(&mut bench);
        let slept = bench.sleep();
        assert_eq!(wait, Some(slept));
        waits.push(slept.as_secs_f64());
        last = bench.take();
    }
    for (round, wait) in waits.iter().enumerate() {
        let most = 2f64.powi(round as i32).min(300.0);
        assert!((most / 2.0..=most).contains(wait), "round {round}: {wait}");
    }
    let factors: Vec<_> = waits[9..].iter().map(|wait| wait / 300.0).collect();
    assert!(
        factors.windows(2).any(|pair| pair[0] != pair[1]),
        "no jitter: {factors:?}"
    );
}

#[test]
fn a_success_forgets_the_back_off() {
    let (mut bench, mut last) = Bench::begun(config());
    for _ in 0..6 {
        bench.ended(last.tx, TxEnd::TimedOut);
        bench.sleep();
        last = bench.take();
    }
    bench.respond(&last, last.ok());
    bench.events.clear();
    bench.sleep();
    let refresh = bench.take();
    bench.ended(refresh.tx, TxEnd::TimedOut);
    assert!(failure(&mut bench).1.unwrap() <= seconds(1));
}

#[test]
fn a_client_registered_at_a_later_registrar_stays_there_until_that_one_fails() {
    let (mut bench, first) = Bench::begun(with_registrars(AB));
    bench.ended(first.tx, TxEnd::TimedOut);
    let second = bench.take();
    bench.respond(&second, second.ok());
    bench.events.clear();
    for _ in 0..3 {
        bench.sleep();
        let refresh = bench.take();
        assert_eq!(refresh.hop(), AB[1]);
        bench.respond(&refresh, refresh.ok());
        assert!(matches!(bench.event(), RegistrationEvent::Refreshed { .. }));
    }
    bench.sleep();
    let refresh = bench.take();
    bench.ended(refresh.tx, TxEnd::TimedOut);
    assert_eq!(failure(&mut bench).1, Some(Duration::ZERO));
    let back = bench.take();
    assert_eq!(back.hop(), AB[0]);
    bench.respond(&back, back.ok());
    let event = bench.event();
    assert!(
        matches!(&event, RegistrationEvent::Registered { registrar, .. } if registrar == AB[0]),
        "{event:?}"
    );
}

#[test]
fn retry_after_is_honoured_up_to_an_hour() {
    for (asked, least, most) in [
        ("120", 120, 121),
        ("120 (at lunch);duration=60", 120, 121),
        ("99999999", 3600, 3601),
    ] {
        let (mut bench, first) = Bench::begun(config());
        let mut busy = first.answer(503);
        busy.headers.push("Retry-After", asked);
        bench.respond(&first, busy);
        let (cause, wait) = failure(&mut bench);
        assert_eq!(cause, RegistrationFailure::ServerError(503));
        let wait = wait.unwrap();
        assert!(
            wait >= seconds(least) && wait <= seconds(most),
            "{asked}: {wait:?}"
        );
        assert_eq!(bench.sleep(), wait);
        bench.take();
    }
}

#[test]
fn a_registrar_that_asked_to_be_left_alone_is_passed_over_in_the_next_round() {
    let (mut bench, first) = Bench::begun(with_registrars(AB));
    let mut busy = first.answer(503);
    busy.headers.push("Retry-After", 60);
    bench.respond(&first, busy);
    let second = bench.take();
    bench.ended(second.tx, TxEnd::TimedOut);
    bench.events.clear();
    assert!(bench.sleep() <= seconds(1));
    let third = bench.take();
    assert_eq!(third.hop(), AB[1]);
    bench.pass(seconds(61) - seconds(30));
    bench.ended(third.tx, TxEnd::TimedOut);
    bench.pass(seconds(30));
    assert_eq!(bench.take().hop(), AB[0]);
}

#[test]
fn a_definite_answer_gives_up_and_says_whose_fault_it_is() {
    for (status, cause) in [
        (302, RegistrationFailure::Rejected(302)),
        (400, RegistrationFailure::Rejected(400)),
        (403, RegistrationFailure::Forbidden),
        (404, RegistrationFailure::UnknownUser),
        (410, RegistrationFailure::UnknownUser),
        (604, RegistrationFailure::UnknownUser),
        (606, RegistrationFailure::Rejected(606)),
    ] {
        let (mut bench, first) = Bench::begun(with_registrars(AB));
        bench.respond(&first, first.answer(status));
        let event = bench.event();
        let RegistrationEvent::Failed {
            cause: found,
            sentence,
            retry_in: None,
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!(found, cause);
        assert!(sentence.contains(&status.to_string()), "{sentence}");
        assert!(sentence.contains("not tried again until asked to"), "{sentence}");
        assert!(bench.is_quiet());
        assert_eq!(bench.machine.poll_timeout(), None);
    }
}

#[test]
fn a_stack_that_says_nothing_at_all_is_not_waited_for_without_end() {
    let (mut bench, _) = Bench::begun(config());
    assert_eq!(bench.sleep(), seconds(40));
    assert_eq!(failure(&mut bench).0, RegistrationFailure::TimedOut);
}

#[test]
fn a_transaction_that_ends_without_its_answer_is_tried_again() {
    let (mut bench, first) = Bench::begun(config());
    bench.ended(first.tx, TxEnd::Done);
    assert_eq!(failure(&mut bench).0, RegistrationFailure::TimedOut);
}

#[test]
fn a_sentence_is_whole() {
    let (mut bench, first) = Bench::begun(with_registrars(&AB[..1]));
    let mut busy = first.answer(503);
    busy.reason = "Busy\r\nEvil".to_owned();
    bench.respond(&first, busy);
    let RegistrationEvent::Failed { sentence, .. } = bench.event() else {
        panic!()
    };
    let start = "register sip:alice@example.com: sip:a.example.com answered 503 BusyEvil; the fault is on the \
                 server's side and may pass by itself; trying again in ";
    assert!(
        sentence.starts_with(start) && sentence.ends_with(" s"),
        "{sentence}"
    );
}

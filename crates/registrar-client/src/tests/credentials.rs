//! Digest challenges.

use super::*;
use crate::RegistrationFailure;
use siprtc_core::sip::{Challenge, Credentials, DigestAlgorithm, DigestServer, Method, Verdict};

fn challenge(nonce: &str) -> Challenge {
    Challenge {
        realm: "example.com".to_owned(),
        nonce: nonce.to_owned(),
        opaque: Some("o".to_owned()),
        stale: false,
        algorithm: Some(DigestAlgorithm::Md5),
        qop_auth: true,
    }
}

fn challenged(to: &Sent, status: u16, challenges: &[Challenge]) -> SipResponse {
    let name = if status == 407 {
        "Proxy-Authenticate"
    } else {
        "WWW-Authenticate"
    };
    let mut response = to.answer(status);
    challenges
        .iter()
        .for_each(|challenge| response.headers.push(name, challenge));
    response
}

fn credentials(sent: &Sent) -> Credentials {
    let mut all = sent.request.headers.authorizations().unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn a_401_is_answered_and_the_registrar_accepts_it_in_both_hashes() {
    for algorithm in [DigestAlgorithm::Md5, DigestAlgorithm::Sha256] {
        let server = DigestServer::new("example.com", [7; 32], 60);
        let offered: Vec<_> = server
            .challenges(5, false)
            .into_iter()
            .filter(|c| c.algorithm == Some(algorithm))
            .collect();
        let (mut bench, first) = Bench::begun(with_secret());
        assert!(!first.request.headers.contains("Authorization"));
        bench.respond(&first, challenged(&first, 401, &offered));
        let second = bench.take();
        let given = credentials(&second);
        assert_eq!(given.algorithm, Some(algorithm));
        assert_eq!((given.qop.as_deref(), given.nonce_count), (Some("auth"), Some(1)));
        assert_eq!(
            server.verify(6, &given, &Method::Register, "secret"),
            Verdict::Accepted
        );
        bench.respond(&second, second.ok());
        assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
    }
}

#[test]
fn a_proxy_and_a_registrar_that_both_challenge_get_one_register_with_both_answers() {
    let (mut bench, first) = Bench::begun(with_secret());
    let proxy = Challenge {
        realm: "proxy".to_owned(),
        ..challenge("p1")
    };
    bench.respond(&first, challenged(&first, 407, &[proxy]));
    let second = bench.take();
    assert_eq!(second.request.headers.proxy_authorizations().unwrap().len(), 1);
    bench.respond(&second, challenged(&second, 401, &[challenge("r1")]));
    let third = bench.take();
    assert_eq!(
        third.request.headers.proxy_authorizations().unwrap()[0].nonce_count,
        Some(2)
    );
    assert_eq!(credentials(&third).nonce, "r1");
    bench.respond(&third, third.ok());
    assert!(matches!(bench.event(), RegistrationEvent::Registered { .. }));
}

#[test]
fn a_refresh_answers_the_last_nonce_before_it_is_asked_and_counts_on() {
    let (mut bench, first) = Bench::begun(with_secret());
    bench.respond(&first, challenged(&first, 401, &[challenge("n1")]));
    let second = bench.take();
    bench.respond(&second, second.ok());
    bench.sleep();
    let refresh = bench.take();
    let given = credentials(&refresh);
    assert_eq!((given.nonce.as_str(), given.nonce_count), ("n1", Some(2)));
    assert_ne!(given.cnonce, credentials(&second).cnonce);
}

#[test]
fn an_old_nonce_refused_with_or_without_stale_is_replaced_by_the_new_one() {
    for stale in [true, false] {
        let (mut bench, first) = Bench::begun(with_secret());
        bench.respond(&first, challenged(&first, 401, &[challenge("n1")]));
        let second = bench.take();
        bench.respond(&second, second.ok());
        bench.events.clear();
        bench.sleep();
        let refresh = bench.take();
        bench.respond(
            &refresh,
            challenged(
                &refresh,
                401,
                &[Challenge {
                    stale,
                    ..challenge("n2")
                }],
            ),
        );
        let again = bench.take();
        assert_eq!(
            (
                credentials(&again).nonce.as_str(),
                credentials(&again).nonce_count
            ),
            ("n2", Some(1))
        );
        bench.respond(&again, again.ok());
        assert!(matches!(bench.event(), RegistrationEvent::Refreshed { .. }));
    }
}

#[test]
fn a_fresh_nonce_called_stale_is_replaced_a_few_times_and_no_more() {
    let (mut bench, mut last) = Bench::begun(with_secret());
    for round in 0.. {
        let stale = Challenge {
            stale: round > 0,
            ..challenge(&format!("n{round}"))
        };
        bench.respond(&last, challenged(&last, 401, &[stale]));
        if bench.sent.is_empty() {
            break;
        }
        last = bench.take();
    }
    assert_eq!(last.sequence(), 6);
    let event = bench.event();
    let tried_again = matches!(
        event,
        RegistrationEvent::Failed {
            cause: RegistrationFailure::Rejected(401),
            retry_in: Some(_),
            ..
        }
    );
    assert!(tried_again, "{event:?}");
}

#[test]
fn a_fresh_nonce_refused_means_wrong_credentials_and_nothing_is_sent_any_more() {
    let (mut bench, first) = Bench::begun(RegistrarConfig {
        registrars: vec![uri("sip:a.example.com"), uri("sip:b.example.com")],
        ..with_secret()
    });
    bench.respond(&first, challenged(&first, 401, &[challenge("n1")]));
    let second = bench.take();
    bench.respond(&second, challenged(&second, 401, &[challenge("n2")]));
    let event = bench.event();
    let RegistrationEvent::Failed {
        cause: RegistrationFailure::WrongCredentials,
        sentence,
        retry_in: None,
    } = event
    else {
        panic!("{event:?}")
    };
    assert!(
        sentence.contains("sip:a.example.com") && sentence.contains("check the account"),
        "{sentence}"
    );
    assert!(!sentence.contains("secret"));
    assert_eq!(bench.machine.poll_timeout(), None);
    assert!(bench.is_quiet());
}

#[test]
fn a_client_that_gave_up_begins_anew_when_asked() {
    let (mut bench, first) = Bench::begun(with_secret());
    bench.respond(&first, challenged(&first, 401, &[challenge("n1")]));
    let second = bench.take();
    bench.respond(&second, challenged(&second, 401, &[challenge("n2")]));
    bench.events.clear();
    bench.input(Input::Register);
    let anew = bench.take();
    assert!(
        !anew.request.headers.contains("Authorization"),
        "what was refused is not sent again"
    );
    assert_eq!(anew.sequence(), 3);
}

#[test]
fn a_challenge_without_a_configured_password_says_so_and_gives_up() {
    let (mut bench, first) = Bench::begun(config());
    bench.respond(&first, challenged(&first, 407, &[challenge("n1")]));
    let event = bench.event();
    let RegistrationEvent::Failed {
        cause: RegistrationFailure::WrongCredentials,
        sentence,
        retry_in: None,
    } = event
    else {
        panic!("{event:?}")
    };
    assert!(sentence.contains("none is configured"), "{sentence}");
}

#[test]
fn a_hash_that_nobody_knows_gives_up_and_a_challenge_that_nobody_can_read_is_tried_again() {
    let (mut bench, first) = Bench::begun(with_secret());
    let mut odd = first.answer(401);
    odd.headers.push(
        "WWW-Authenticate",
        r#"Digest realm="a", nonce="b", algorithm=MD6"#,
    );
    bench.respond(&first, odd);
    let event = bench.event();
    let gave_up = matches!(
        event,
        RegistrationEvent::Failed {
            cause: RegistrationFailure::Rejected(401),
            retry_in: None,
            ..
        }
    );
    assert!(gave_up, "{event:?}");

    for unreadable in [None, Some("Basic realm=\"a\""), Some("Digest realm=\"a\"")] {
        let (mut bench, first) = Bench::begun(with_secret());
        let mut odd = first.answer(401);
        if let Some(value) = unreadable {
            odd.headers.push("WWW-Authenticate", value);
        }
        bench.respond(&first, odd);
        let event = bench.event();
        let retried = matches!(
            event,
            RegistrationEvent::Failed {
                cause: RegistrationFailure::Malformed,
                retry_in: Some(_),
                ..
            }
        );
        assert!(retried, "{unreadable:?}: {event:?}");
    }
}

#[test]
fn another_registrar_does_not_see_answers_to_the_first_ones_nonce() {
    let (mut bench, first) = Bench::begun(RegistrarConfig {
        registrars: vec![uri("sip:a.example.com"), uri("sip:b.example.com")],
        ..with_secret()
    });
    bench.respond(&first, challenged(&first, 401, &[challenge("n1")]));
    let second = bench.take();
    bench.ended(second.tx, TxEnd::TimedOut);
    let elsewhere = bench.take();
    assert_eq!(elsewhere.hop(), "sip:b.example.com");
    assert!(!elsewhere.request.headers.contains("Authorization"));
}

//! TLS: who is believed, what an error says, and that `sips:` never travels without.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod common;

use common::{Authority, Side, authority, for_names, issue, on, serving, talk, trusting};
use rcgen::CertificateParams;
use siprtc_core::Fault;
use siprtc_core::sip::{Method, Route, SipUri, StackConfig, TlsConfig, Transport};
use siprtc_testkit::sip::{RecordingSink, request};
use tokio::net::TcpListener;

fn with(transports: &[Transport], tls: TlsConfig) -> StackConfig {
    StackConfig {
        tls,
        ..on(transports)
    }
}

async fn bob(ca: &Authority, params: &CertificateParams) -> Side {
    Side::start(with(&[Transport::Tls], serving(issue(ca, params)))).await
}

async fn alice(tls: TlsConfig) -> Side {
    Side::start(with(&[Transport::Tcp], tls)).await
}

/// Bob's listener, whatever his name.
fn named(name: &str) -> Route {
    Route {
        server_name: Some(name.to_owned()),
        ..Route::default()
    }
}

#[tokio::test]
async fn a_request_travels_in_tls_and_its_connection_is_used_again_for_the_same_name() {
    let ca = authority("house");
    let bob = bob(
        &ca,
        &for_names(&["127.0.0.1", "bob.example.com", "other.example.com"]),
    )
    .await;
    let alice = alice(trusting(&ca)).await;
    let sips = SipUri {
        secure: true,
        params: Default::default(),
        ..bob.uri(0)
    };
    let (by_address, heard) = alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    assert_eq!(by_address.transport, Transport::Tls);
    let via = heard.headers.top_via().unwrap();
    assert_eq!(via.known_transport(), Some(Transport::Tls));
    let (again, _) = alice.ask(&bob, sips.clone(), Route::by_request()).await;
    assert_eq!(again.id, by_address.id);
    let (by_name, _) = alice.ask(&bob, sips.clone(), named("bob.example.com")).await;
    assert_ne!(
        by_name.id, by_address.id,
        "its certificate was not verified for this name"
    );
    let (again, _) = alice.ask(&bob, sips.clone(), named("bob.example.com")).await;
    assert_eq!(again.id, by_name.id);
    // Back over the connection that Alice has opened.
    bob.ask(
        &alice,
        SipUri::from_addr(by_name.remote).with_transport(Transport::Tls),
        Route::by_request(),
    )
    .await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_an_error_that_says_why() {
    let (ca, stranger) = (authority("house"), authority("stranger"));
    let mut expired = for_names(&["127.0.0.1"]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    for (by, params, word) in [
        (&ca, &expired, "expired"),
        (&ca, &for_names(&["example.com"]), "is for example.com"),
        (&stranger, &for_names(&["127.0.0.1"]), "sip.tls.ca"),
    ] {
        let (alice, bob) = (alice(trusting(&ca)).await, bob(by, params).await);
        let error = alice
            .send(request(Method::Options, bob.uri(0)), Route::by_request())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(
            error.next_step().is_some() && error.backend_name() == Some("test"),
            "{error}"
        );
        let unverified = common::Side::start(with(
            &[Transport::Tcp],
            TlsConfig {
                verify: false,
                ..TlsConfig::default()
            },
        ))
        .await;
        unverified.ask(&bob, bob.uri(0), Route::by_request()).await;
        unverified.stop().await;
        alice.stop().await;
        bob.stop().await;
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_to_a_server_that_asks() {
    let (ca, clients) = (authority("house"), authority("clients"));
    let asking = TlsConfig {
        client_ca: Some(clients.pem().into()),
        ..serving(issue(&ca, &for_names(&["127.0.0.1"])))
    };
    let bob = Side::start(with(&[Transport::Tls], asking)).await;
    let known = TlsConfig {
        identity: Some(issue(&clients, &for_names(&["alice.example.com"]))),
        ..trusting(&ca)
    };
    let known = alice(known).await;
    known.ask(&bob, bob.uri(0), Route::by_request()).await;
    let anonymous = alice(trusting(&ca)).await;
    let why = match anonymous
        .send(request(Method::Options, bob.uri(0)), Route::by_request())
        .await
    {
        Err(error) => error.to_string(),
        // With TLS 1.3 the server refuses behind the handshake.
        Ok(tx) => match anonymous.hears.expect_ended(tx).await {
            siprtc_core::sip::TxEnd::Transport(why) => why,
            other => panic!("{other:?}"),
        },
    };
    assert!(why.contains("certificate"), "{why}");
    known.stop().await;
    anonymous.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_peer_without_tls_is_told_apart_on_either_side() {
    let ca = authority("house");
    let bob = bob(&ca, &for_names(&["127.0.0.1"])).await;
    let alice = Side::start(with(&[Transport::Tcp], trusting(&ca))).await;
    // TLS towards a TCP listener.
    let plain = SipUri::from_addr(alice.bound(0)).with_transport(Transport::Tls);
    let error = alice
        .send(request(Method::Options, plain), Route::by_request())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("TLS") && error.next_step().is_some(),
        "{error}"
    );
    let (_, reported) = alice.expect_parse_error().await;
    assert!(reported.contains("the peer speaks TLS"), "{reported}");
    // SIP and HTTP towards a TLS listener: an alert and nothing else.
    for octets in [&b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let answer = talk(bob.bound(0), octets).await;
        assert!(answer.len() < 10, "{answer:?}");
    }
    alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_as_sips_never_leaves_without_tls() {
    let everything = [Transport::Udp, Transport::Tcp, Transport::Ws];
    let (alice, bob) = (Side::on(&everything).await, Side::on(&everything).await);
    let sips: SipUri = "sips:bob@127.0.0.1;transport=udp".parse().unwrap();
    let mut routes = vec![(sips, Route::by_request())];
    for listener in 0..3 {
        let plain = bob.uri(listener);
        let (_, _, flow) = alice.ask_and_see(&bob, plain.clone(), Route::by_request()).await;
        for route in [Route::via(plain), Route::over(flow.id)] {
            routes.push(("sips:bob@example.com".parse().unwrap(), route));
        }
    }
    for (uri, route) in routes {
        let error = alice
            .send(request(Method::Options, uri), route.clone())
            .await
            .unwrap_err();
        assert_eq!(error.fault(), Fault::Unsupported, "{route:?}: {error}");
        assert!(error.next_step().is_some());
    }
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_tls_listener_without_a_certificate_does_not_start() {
    for transport in [Transport::Tls, Transport::Wss] {
        let error = common::try_start(on(&[transport]), RecordingSink::new())
            .await
            .err()
            .unwrap();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        assert!(
            error.to_string().contains("certificate") && error.next_step().is_some(),
            "{error}"
        );
    }
    let garbage = TlsConfig {
        ca: Some("no certificate".into()),
        ..TlsConfig::default()
    };
    let error = common::try_start(with(&[Transport::Udp], garbage), RecordingSink::new())
        .await
        .err()
        .unwrap();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let ca = authority("house");
    let alice = alice(trusting(&ca)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
        let to = SipUri::from_addr(silent.local_addr().unwrap()).with_transport(transport);
        let error = alice
            .send(request(Method::Options, to), Route::by_request())
            .await
            .unwrap_err();
        assert_eq!(error.fault(), Fault::TimedOut, "{error}");
        assert!(error.to_string().contains("in 15 s"), "{error}");
    }
    alice.stop().await;
}

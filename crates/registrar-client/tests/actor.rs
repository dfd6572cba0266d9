//! The actor over two stacks joined in memory, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use actix::prelude::*;
use common::{Events, Registrar, ToClient, ok};
use siprtc_core::Fault;
use siprtc_core::sip::{DigestSecret, DigestServer, Method, SipRequest, TxOwner, Verdict};
use siprtc_registrar_client::{
    Register, RegistrarClient, RegistrarConfig, RegistrationEvent, RegistrationFailure, Unregister,
};
use siprtc_testkit::sip::{RecordingSink, Wire};
use std::time::Duration;

fn config() -> RegistrarConfig {
    let contact = "<sip:alice@192.0.2.1>".parse().unwrap();
    let mut config = RegistrarConfig::new("sip:alice@example.com".parse().unwrap(), contact);
    config.secret = Some(DigestSecret {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    });
    config
}

fn house(config: RegistrarConfig) -> (Addr<RegistrarClient>, Events, Registrar) {
    let (client, events, registrar, _) = house_with_sink(config);
    (client, events, registrar)
}

fn house_with_sink(config: RegistrarConfig) -> (Addr<RegistrarClient>, Events, Registrar, ToClient) {
    let (to_client, sink) = (ToClient::default(), RecordingSink::new());
    let (near, far) = Wire::pair(to_client.sink(), sink.clone());
    let (recipient, events) = Events::new();
    let client = RegistrarClient::new(config, near, TxOwner::user(9), recipient).start();
    to_client.set(client.clone());
    (client, events, Registrar { stack: far, sink }, to_client)
}

/// Runs on a clock that jumps to the next timer when everybody waits.
fn run(test: impl Future<Output = ()>) {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    })
    .block_on(test);
}

#[test]
fn a_client_registers_with_digest_refreshes_and_unregisters() {
    run(async {
        let (client, mut events, registrar) = house(config());
        let server = DigestServer::new("example.com", [1; 32], 86_400);
        client.send(Register).await.unwrap().unwrap();
        registrar
            .answer(|request| {
                let mut response = request.response(401);
                server
                    .challenges(1, false)
                    .iter()
                    .for_each(|c| response.headers.push("WWW-Authenticate", c));
                response
            })
            .await;
        let verified = |request: &SipRequest| {
            let credentials = &request.headers.authorizations().unwrap()[0];
            assert_eq!(
                server.verify(2, credentials, &Method::Register, "secret"),
                Verdict::Accepted
            );
            ok(request)
        };
        registrar.answer(verified).await;
        let expires = Duration::from_secs(3600);
        let registrar_name = "sip:example.com".to_owned();
        let registered = RegistrationEvent::Registered {
            registrar: registrar_name,
            expires,
            contacts: 1,
            flows: Vec::new(),
            outbound: false,
            public_gruu: None,
            temporary_gruu: None,
        };
        assert_eq!(events.next().await, registered);

        registrar.sink.expect_silence(Duration::from_secs(3059)).await;
        registrar.answer(verified).await;
        assert_eq!(events.next().await, RegistrationEvent::Refreshed { expires });

        let leaving = client.send(Unregister);
        let last = async {
            let bye = registrar.answer(verified).await;
            assert_eq!(bye.headers.expires().unwrap(), Some(0));
        };
        let (left, ()) = tokio::join!(leaving, last);
        left.unwrap().unwrap();
        assert_eq!(events.next().await, RegistrationEvent::Unregistered);
    });
}

#[test]
fn a_registrar_that_is_silent_times_out_and_is_asked_again_later() {
    run(async {
        let (client, mut events, registrar) = house(config());
        client.send(Register).await.unwrap().unwrap();
        let event = events.next().await;
        let RegistrationEvent::Failed {
            cause: RegistrationFailure::TimedOut,
            retry_in: Some(wait),
            ..
        } = event
        else {
            panic!("{event:?}")
        };
        assert!(wait <= Duration::from_secs(1));
        // The one that was left without an answer.
        registrar.sink.expect_request(Method::Register).await;
        registrar.answer(ok).await;
        assert!(matches!(
            events.next().await,
            RegistrationEvent::Registered { .. }
        ));
    });
}

#[test]
fn a_stack_that_refuses_to_send_is_unreachable() {
    run(async {
        let (to_client, sink) = (ToClient::default(), RecordingSink::new());
        let (near, _far) = Wire::pair(to_client.sink(), sink);
        near.shutdown(Duration::ZERO).await;
        let (recipient, mut events) = Events::new();
        let client = RegistrarClient::new(config(), near, TxOwner::user(9), recipient).start();
        to_client.set(client.clone());
        client.send(Register).await.unwrap().unwrap();
        let event = events.next().await;
        assert!(
            matches!(
                event,
                RegistrationEvent::Failed {
                    cause: RegistrationFailure::Unreachable,
                    ..
                }
            ),
            "{event:?}"
        );
    });
}

#[test]
fn unregister_gives_up_after_two_seconds_and_everybody_who_waits_is_told() {
    run(async {
        let (client, mut events, registrar) = house(config());
        client.send(Register).await.unwrap().unwrap();
        registrar.answer(ok).await;
        assert!(matches!(
            events.next().await,
            RegistrationEvent::Registered { .. }
        ));
        let before = tokio::time::Instant::now();
        let (one, other) = tokio::join!(client.send(Unregister), client.send(Unregister));
        assert_eq!(before.elapsed().as_secs(), 2);
        for result in [one, other] {
            let error = result.unwrap().unwrap_err();
            assert_eq!(error.fault(), Fault::TimedOut);
            assert!(error.to_string().contains("ends by itself in 3"), "{error}");
        }
    });
}

#[test]
fn a_configuration_that_cannot_work_is_refused_in_one_sentence() {
    run(async {
        let mut broken = config();
        broken.expires = 0;
        let (client, mut events, _registrar) = house(broken);
        let error = client.send(Register).await.unwrap().unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        assert!(
            error
                .to_string()
                .starts_with("register: expires = 0 seconds; choose"),
            "{error}"
        );
        assert!(events.is_empty());
    });
}

#[test]
fn a_client_that_nobody_can_reach_any_more_ends_and_sends_nothing() {
    run(async {
        let (client, mut events, registrar, to_client) = house_with_sink(config());
        client.send(Register).await.unwrap().unwrap();
        registrar.answer(ok).await;
        assert!(matches!(
            events.next().await,
            RegistrationEvent::Registered { .. }
        ));
        to_client.forget();
        drop(client);
        registrar.sink.expect_silence(Duration::from_secs(7200)).await;
    });
}

//! The actor over the ezk plugin against a scripted registrar, on loopback and in real time.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use actix::prelude::*;
use common::{Events, Registrar, ToClient, ok};
use siprtc_core::sip::{
    DigestSecret, DigestServer, EventSink, ListenerConfig, Method, SipStack, SipUri, StackConfig, Transport,
    TxOwner, Verdict,
};
use siprtc_registrar_client::{
    Register, RegistrarClient, RegistrarConfig, RegistrationEvent, RegistrationFailure, Unregister,
};
use siprtc_testkit::sip::RecordingSink;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

async fn stack(transport: Transport, sink: Arc<dyn EventSink>) -> (Arc<dyn SipStack>, SocketAddr) {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listeners = vec![ListenerConfig {
        transport,
        bind,
        advertise: None,
    }];
    let config = StackConfig {
        listeners,
        ..StackConfig::default()
    };
    let stack = siprtc_sip_ezk::factory().start(config, sink).await.unwrap();
    let bound = stack.listeners()[0].bound;
    (stack, bound)
}

fn at(address: SocketAddr, transport: Transport) -> SipUri {
    SipUri::from_addr(address).with_transport(transport)
}

#[actix_rt::test]
async fn a_client_registers_over_each_transport_past_a_423_and_a_401_and_leaves() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let sink = RecordingSink::new();
        let (far, address) = stack(transport, sink.clone()).await;
        let registrar = Registrar { stack: far, sink };
        let to_client = ToClient::default();
        let (near, local) = stack(transport, to_client.sink()).await;

        let contact = format!("<{}>", at(local, transport).with_user("alice"))
            .parse()
            .unwrap();
        let mut config = RegistrarConfig::new("sip:alice@example.test".parse().unwrap(), contact);
        config.registrars = vec![at(address, transport)];
        config.expires = 60;
        config.instance = Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned());
        config.secret = Some(DigestSecret {
            username: "alice".to_owned(),
            password: "secret".to_owned(),
        });
        let (recipient, mut events) = Events::new();
        let client = RegistrarClient::new(config, near.clone(), TxOwner::user(3), recipient).start();
        to_client.set(client.clone());

        client.send(Register).await.unwrap().unwrap();
        registrar
            .answer(|request| {
                let mut brief = request.response(423);
                brief.headers.push("Min-Expires", 120);
                brief
            })
            .await;
        let server = DigestServer::new("example.test", [3; 32], 60);
        registrar
            .answer(|request| {
                let mut challenge = request.response(401);
                server
                    .challenges(1, false)
                    .iter()
                    .for_each(|c| challenge.headers.push("WWW-Authenticate", c));
                challenge
            })
            .await;
        let asked = registrar.answer(ok).await;
        let credentials = &asked.headers.authorizations().unwrap()[0];
        assert_eq!(
            server.verify(2, credentials, &Method::Register, "secret"),
            Verdict::Accepted
        );
        assert_eq!(asked.headers.expires().unwrap(), Some(120));
        assert_eq!(asked.uri.to_string(), "sip:example.test");
        let event = events.next().await;
        let expires = Duration::from_secs(120);
        assert!(
            matches!(&event, RegistrationEvent::Registered { expires: e, contacts: 1, .. } if *e == expires),
            "{event:?}"
        );

        let (left, bye) = tokio::join!(client.send(Unregister), registrar.answer(ok));
        left.unwrap().unwrap();
        assert_eq!(bye.headers.expires().unwrap(), Some(0));
        assert_eq!(events.next().await, RegistrationEvent::Unregistered);
        near.shutdown(Duration::ZERO).await;
        registrar.stack.shutdown(Duration::ZERO).await;
    }
}

#[actix_rt::test]
async fn a_registrar_that_nobody_listens_at_is_unreachable_and_the_next_one_is_asked() {
    let sink = RecordingSink::new();
    let (far, address) = stack(Transport::Tcp, sink.clone()).await;
    let registrar = Registrar { stack: far, sink };
    let to_client = ToClient::default();
    let (near, local) = stack(Transport::Tcp, to_client.sink()).await;
    // Bound and dropped: nobody listens there.
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();

    let contact = format!("<{}>", at(local, Transport::Tcp).with_user("alice"))
        .parse()
        .unwrap();
    let mut config = RegistrarConfig::new("sip:alice@example.test".parse().unwrap(), contact);
    config.registrars = vec![at(nobody, Transport::Tcp), at(address, Transport::Tcp)];
    let (recipient, mut events) = Events::new();
    let client = RegistrarClient::new(config, near.clone(), TxOwner::user(3), recipient).start();
    to_client.set(client.clone());

    client.send(Register).await.unwrap().unwrap();
    registrar.answer(ok).await;
    let event = events.next().await;
    let moved_on = matches!(
        event,
        RegistrationEvent::Failed {
            cause: RegistrationFailure::Unreachable,
            retry_in: Some(Duration::ZERO),
            ..
        }
    );
    assert!(moved_on, "{event:?}");
    assert!(matches!(
        events.next().await,
        RegistrationEvent::Registered { .. }
    ));

    // The connection breaks when the registrar goes away; coming back at once finds nobody.
    registrar.stack.shutdown(Duration::ZERO).await;
    let event = events.next().await;
    let lost = matches!(
        event,
        RegistrationEvent::Failed {
            cause: RegistrationFailure::Unreachable,
            ..
        }
    );
    assert!(lost, "{event:?}");
    near.shutdown(Duration::ZERO).await;
}

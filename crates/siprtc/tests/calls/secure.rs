//! Accounts over TLS, WebSocket and secure WebSocket: the stack of our own on both sides, certificates of the test's own.

use crate::house::{REALM, SOON, config, contacts, endpoint, talk};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use siprtc::prelude::*;
use siprtc::registry;
use siprtc_core::sip::{ListenerConfig, TlsConfig, TlsIdentity, Transport};
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// An authority, as a file that is gone in the end, and what a server at 127.0.0.1 shows.
struct Authority {
    file: PathBuf,
    server: TlsIdentity,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let chain = server.signed_by(&key, &issuer).unwrap().pem();
        let file = std::env::temp_dir().join(format!("siprtc-{name}-{}.pem", std::process::id()));
        std::fs::write(&file, pem).unwrap();
        let server = TlsIdentity {
            chain: chain.into(),
            key: key.serialize_pem().into(),
        };
        Authority { file, server }
    }

    fn path(&self) -> String {
        self.file.to_string_lossy().into_owned()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.file));
    }
}

/// UDP for Bob, `transport` for Alice.
async fn home(authority: &Authority, transport: Transport) -> HomeServer {
    let users = ["alice", "bob"].map(|name| (name, "secret"));
    let mut config = HomeConfig::loopback(REALM, Users::named(users));
    config.tls = TlsConfig {
        identity: Some(authority.server.clone()),
        ..TlsConfig::default()
    };
    config.sip.truncate(1);
    config.sip.push(ListenerConfig {
        transport,
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        advertise: None,
    });
    HomeServer::start(config, registry::sip_stack("native").unwrap())
        .await
        .unwrap()
}

fn alice(home: &HomeServer, authority: &Authority, transport: Transport) -> Config {
    let port = home.listeners()[1].bound.port();
    let word = transport.as_str().to_ascii_lowercase();
    let mut config = config(home, "alice");
    config.sip.stack = "native".to_owned();
    config.sip.listen.clear();
    config.sip.tls.ca = authority.path();
    config.account.outbound = vec![format!("sip:127.0.0.1:{port};transport={word};lr")];
    config
}

async fn calls_and_is_called(transport: Transport, change: impl FnOnce(&mut Config)) {
    let authority = Authority::new(&format!("{transport}-{}", rand::random::<u32>()));
    let home = home(&authority, transport).await;
    let mut config = alice(&home, &authority, transport);
    change(&mut config);
    let mut alice = Endpoint::start(&config).await.unwrap();
    alice.registered(SOON).await.unwrap();
    let contact = contacts(&home, "alice").remove(0);
    assert!(contact.host.to_string().ends_with(".invalid"), "{contact}");
    let mut bob = endpoint(&home, "bob").await;
    talk(&bob, "alice", &mut alice).await;
    talk(&alice, &format!("sip:bob@{REALM}"), &mut bob).await;
    alice.shutdown().await;
    assert!(contacts(&home, "alice").is_empty(), "it left");
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_over_tls_calls_and_is_called() {
    calls_and_is_called(Transport::Tls, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_over_a_websocket_calls_and_is_called() {
    calls_and_is_called(Transport::Ws, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_over_a_secure_websocket_calls_and_is_called() {
    calls_and_is_called(Transport::Wss, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_of_ones_own_for_each_registration_over_one_proxy() {
    calls_and_is_called(Transport::Ws, |config| config.account.flows = 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sips_account_registers_over_tls_and_calls_in_clear_are_refused() {
    let authority = Authority::new("sips");
    let home = home(&authority, Transport::Tls).await;
    let mut config = alice(&home, &authority, Transport::Tls);
    config.account.uri = format!("sips:alice@{REALM}");
    let alice = Endpoint::start(&config).await.unwrap();
    alice.registered(SOON).await.unwrap();
    assert!(contacts(&home, "alice")[0].secure);
    let bob = endpoint(&home, "bob").await;
    let call = alice
        .dial(&format!("sips:bob@{REALM}"), MediaPlan::default())
        .await
        .unwrap();
    let ending = call.finished().await.unwrap().ending;
    assert_eq!(ending.status, Some(480), "bob is on UDP: {ending:?}");
    let call = bob
        .dial(&format!("sips:alice@{REALM}"), MediaPlan::default())
        .await
        .unwrap();
    let sentence = call.finished().await.unwrap().ending.sentence.unwrap();
    assert!(sentence.contains("asks for TLS"), "{sentence}");
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_is_not_registered_at() {
    let (authority, other) = (Authority::new("known"), Authority::new("unknown"));
    let home = home(&other, Transport::Tls).await;
    let alice = Endpoint::start(&alice(&home, &authority, Transport::Tls))
        .await
        .unwrap();
    let mut state = alice.registration();
    let failed = state.wait_for(|state| matches!(state, Registration::Failed { .. }));
    let failed = tokio::time::timeout(SOON, failed)
        .await
        .expect("it fails")
        .unwrap()
        .clone();
    let Registration::Failed { sentence, .. } = failed else {
        panic!("{failed:?}")
    };
    assert!(sentence.to_lowercase().contains("certificate"), "{sentence}");
    assert!(contacts(&home, "alice").is_empty());
    alice.shutdown().await;
    home.shutdown().await;
}

//! Registered flows (RFC 5626), GRUUs (RFC 5627) and what the wiring refuses, over real sockets and the home server.

use crate::house::{REALM, SOON, config, contacts, endpoint, talk, until};
use siprtc::prelude::*;
use siprtc::registry;
use siprtc_core::sip::{ListenerConfig, Transport};
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A home server with a UDP listener and two on TCP; `tcp` is the first one's port.
async fn home_at(tcp: u16) -> HomeServer {
    let users = ["alice", "bob"].map(|name| (name, "secret"));
    let mut config = HomeConfig::loopback(REALM, Users::named(users));
    let listener = |port| ListenerConfig {
        transport: Transport::Tcp,
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        advertise: None,
    };
    config.sip.truncate(1);
    config.sip.extend([listener(tcp), listener(0)]);
    HomeServer::start(config, registry::sip_stack("ezk").unwrap())
        .await
        .unwrap()
}

fn tcp_ports(home: &HomeServer) -> Vec<u16> {
    let tcp = home
        .listeners()
        .iter()
        .filter(|listener| listener.transport == Transport::Tcp);
    tcp.map(|listener| listener.bound.port()).collect()
}

fn proxies(home: &HomeServer) -> Vec<String> {
    let uri = |port| format!("sip:127.0.0.1:{port};transport=tcp;lr");
    tcp_ports(home).into_iter().map(uri).collect()
}

/// Alice's account over TCP, where nobody can open a connection to her.
fn connected(home: &HomeServer) -> Config {
    let mut alice = config(home, "alice");
    alice.account.outbound = proxies(home)[..1].to_vec();
    alice.sip.listen = vec!["udp:127.0.0.1:0".to_owned()];
    alice
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_nowhere_is_called_over_the_connection_of_its_registration() {
    let home = home_at(0).await;
    let mut alice = Endpoint::start(&connected(&home)).await.unwrap();
    alice.registered(SOON).await.unwrap();
    let mut bob = endpoint(&home, "bob").await;
    let contact = &contacts(&home, "alice")[0];
    assert!(contact.host.to_string().ends_with(".invalid"), "{contact}");
    assert!(
        contact.params.contains("ob") && contact.transport() == Some(Transport::Tcp),
        "{contact}"
    );
    talk(&bob, "alice", &mut alice).await;
    talk(&alice, "bob", &mut bob).await;
    alice.shutdown().await;
    assert!(contacts(&home, "alice").is_empty(), "it left");
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_edge_proxies_make_two_flows_and_a_call_rings_once() {
    let home = home_at(0).await;
    let mut both = connected(&home);
    both.account.outbound = proxies(&home);
    both.account.flows = 2;
    let mut alice = Endpoint::start(&both).await.unwrap();
    alice.registered(SOON).await.unwrap();
    until("two bindings", || contacts(&home, "alice").len() == 2).await;
    let bob = endpoint(&home, "bob").await;
    talk(&bob, "alice", &mut alice).await;
    let again = tokio::time::timeout(Duration::from_millis(300), alice.incoming()).await;
    assert!(again.is_err(), "one call, one telephone, one ring");
    alice.shutdown().await;
    assert!(contacts(&home, "alice").is_empty(), "both flows are gone");
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_gets_its_flow_back_and_can_call_over_it() {
    let home = home_at(0).await;
    let port = tcp_ports(&home)[0];
    let mut config = connected(&home);
    config.account.recovery_first_s = 1;
    config.account.recovery_most_s = 1;
    let mut alice = Endpoint::start(&config).await.unwrap();
    alice.registered(SOON).await.unwrap();
    home.shutdown().await;
    let error = {
        let mut state = alice.registration();
        let failed = state.wait_for(|state| matches!(state, Registration::Failed { .. }));
        tokio::time::timeout(SOON, failed)
            .await
            .expect("it is noticed")
            .unwrap();
        let call = alice.dial("bob", MediaPlan::default()).await.unwrap();
        call.finished().await.unwrap().ending.sentence.unwrap()
    };
    assert!(error.contains("no flow to"), "{error}");

    let home = home_at(port).await;
    until("a new flow", || !contacts(&home, "alice").is_empty()).await;
    let bob = endpoint(&home, "bob").await;
    talk(&bob, "alice", &mut alice).await;
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gruu_reaches_the_caller_within_the_dialog() {
    let home = home_at(0).await;
    let mut config = connected(&home);
    config.account.gruu = true;
    config.account.instance = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned();
    let mut alice = Endpoint::start(&config).await.unwrap();
    alice.registered(SOON).await.unwrap();
    let mut bob = endpoint(&home, "bob").await;
    // Bob's BYE goes to the Contact of Alice's INVITE, which is her GRUU: only the server knows where that is.
    talk(&alice, "bob", &mut bob).await;
    let gruu = format!("sip:alice@{REALM};gr={}", config.account.instance);
    talk(&bob, &gruu, &mut alice).await;
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
}

async fn refused(config: &Config) -> String {
    match Endpoint::start(config).await {
        Ok(_) => panic!("it starts"),
        Err(error) => {
            assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
            error.to_string()
        }
    }
}

fn laptop(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Layers::new()
        .set("sip.stack", "ezk")
        .set("account.uri", "sip:alice@example.com")
        .set("account.outbound", "sip:127.0.0.1:9;transport=tcp")
        .text("[sip]\nlisten = [\"tcp:127.0.0.1:0\"]")
        .load()
        .unwrap();
    change(&mut config);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stack_cannot_do_is_refused_in_one_sentence() {
    let listen = |text: &str| laptop(|config| config.sip.listen = vec![text.to_owned()]);
    let error = refused(&listen("ws:127.0.0.1:0")).await;
    assert!(
        error.contains("sip.listen asks for WS") && error.contains("\"ezk\""),
        "{error}"
    );
    let error = refused(&laptop(|config| {
        config.account.outbound = vec!["sip:h;transport=wss".to_owned()]
    }))
    .await;
    assert!(error.contains("account.outbound asks for WSS"), "{error}");
    let error = refused(&laptop(|config| config.account.flows = 2)).await;
    assert!(
        error.contains("account.flows = 2") && error.contains("ezk chooses"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sips_account_is_not_taken_to_a_proxy_without_tls() {
    let error = refused(&laptop(|config| {
        config.account.uri = "sips:alice@example.com".to_owned()
    }))
    .await;
    assert!(
        error.contains("account.outbound") && error.contains("without TLS"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sips_call_over_tcp_fails_and_says_why() {
    let endpoint = Endpoint::start(&laptop(|config| config.account.register = false))
        .await
        .unwrap();
    let call = endpoint
        .dial("sips:bob@example.com", MediaPlan::default())
        .await
        .unwrap();
    let sentence = call.finished().await.unwrap().ending.sentence.unwrap();
    assert!(sentence.contains("asks for TLS"), "{sentence}");
    endpoint.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_work_names_its_key() {
    let tls = "-----BEGIN CERTIFICATE-----\n";
    let path = std::env::temp_dir().join(format!("siprtc-flows-{}.pem", std::process::id()));
    std::fs::write(&path, tls).unwrap();
    let name = path.to_string_lossy().into_owned();
    for (config, wanted) in [
        (laptop(|config| config.account.flows = 9), "account.flows = 9"),
        (
            laptop(|config| config.account.weakest_digest = "sha-1".to_owned()),
            "choose one of: md5, sha-256",
        ),
        (
            laptop(|config| config.account.instance = "my telephone".to_owned()),
            "account.instance",
        ),
        (
            laptop(|config| config.sip.tls.ca = "no/such.pem".to_owned()),
            "sip.tls.ca: no/such.pem",
        ),
        (
            laptop(|config| config.sip.tls.certificate.clone_from(&name)),
            "sip.tls.key is not",
        ),
        (
            laptop(|config| config.sip.listen = vec!["tls:127.0.0.1:0".to_owned()]),
            "sip.tls.certificate is empty",
        ),
        (
            laptop(|config| config.sip.dns = vec!["ns.example.com".to_owned()]),
            "sip.dns",
        ),
        (
            laptop(|config| {
                config.sip.listen.clear();
                config.account.outbound = vec!["sip:127.0.0.1:9".to_owned()];
            }),
            "sip.listen is empty",
        ),
        (
            laptop(|config| {
                config.account.flows = 2;
                config.account.outbound = vec!["sip:127.0.0.1:9".to_owned()];
            }),
            "over UDP",
        ),
    ] {
        let error = refused(&config).await;
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    std::fs::remove_file(&path).unwrap();
}

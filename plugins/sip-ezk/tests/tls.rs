//! TLS over ezk: whom it trusts, by which name, and what it says when it does not.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use siprtc_core::sip::{
    Flow, ListenerConfig, Method, Route, SipStack, SipUri, StackConfig, StackEvent, TlsConfig, TlsIdentity,
    Transport, TxEnd, TxIds, TxOwner,
};
use siprtc_core::{Error, Fault};
use siprtc_sip_locate::{LocateConfig, located};
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn issue(authority: &Authority, params: &CertificateParams) -> TlsIdentity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    TlsIdentity {
        chain: certificate.pem().into(),
        key: key.serialize_pem().into(),
    }
}

/// Trusts `authority` and shows a certificate of it for `names`.
fn house(authority: &Authority, names: &[&str]) -> TlsConfig {
    TlsConfig {
        ca: Some(authority.pem().into()),
        identity: Some(issue(authority, &certificate(names))),
        ..TlsConfig::default()
    }
}

struct Party {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    ids: TxIds,
}

impl Party {
    async fn with(tls: TlsConfig, transports: &[Transport]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let listen = |transport: &Transport| ListenerConfig {
            transport: *transport,
            bind: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
        };
        let config = StackConfig {
            listeners: transports.iter().map(listen).collect(),
            tls,
            ..StackConfig::default()
        };
        let hears = RecordingSink::new();
        // Names are found as in the house: the plugin below gets addresses.
        let factory = located(siprtc_sip_ezk::factory(), LocateConfig::default());
        let stack = factory.start(config, hears.clone()).await.unwrap();
        let owner = 1 + (NUMBER.fetch_add(1, Ordering::Relaxed) % 200) as u8;
        let ids = TxIds::new(TxOwner::user(owner));
        Party { stack, hears, ids }
    }

    async fn new(tls: TlsConfig) -> Self {
        Party::with(tls, &[Transport::Tls]).await
    }

    /// `sip:127.0.0.1:port;transport=tls` of the last listener.
    fn uri(&self) -> SipUri {
        let listener = *self.stack.listeners().last().unwrap();
        SipUri::from_addr(listener.bound).with_transport(Transport::Tls)
    }

    async fn try_ask(&self, to: SipUri, route: Route) -> Result<(), Error> {
        let options = request(Method::Options, to);
        self.stack.send_request(self.ids.mint(), options, route).await
    }

    /// Asks `to` by `route` and is answered; the flow is the other side's.
    async fn ask(&self, other: &Party, to: SipUri, route: Route) -> Flow {
        self.try_ask(to, route).await.unwrap();
        let (served, heard, flow) = other.hears.expect_request(Method::Options).await;
        let via = heard.headers.top_via().unwrap();
        assert_eq!(via.known_transport(), Some(Transport::Tls));
        other
            .stack
            .respond(served, answer(&heard, 200, "bob"))
            .await
            .unwrap();
        self.hears.expect_response(200).await;
        assert_eq!(flow.transport, Transport::Tls);
        flow
    }

    async fn stop(self) {
        self.stack.shutdown(Duration::ZERO).await;
    }
}

fn named(hop: SipUri, name: &str) -> Route {
    Route {
        server_name: Some(name.to_owned()),
        ..Route::via(hop)
    }
}

#[tokio::test]
async fn requests_go_both_ways_over_one_verified_connection() {
    let ca = authority("house");
    let alice = Party::new(house(&ca, &["127.0.0.1"])).await;
    let bob = Party::new(house(&ca, &["127.0.0.1"])).await;
    let first = alice.ask(&bob, bob.uri(), Route::by_request()).await;
    let again = alice.ask(&bob, bob.uri(), Route::by_request()).await;
    assert_eq!(first.id, again.id, "a second connection was opened");
    assert_eq!(first.local, bob.stack.listeners()[0].bound);
    // Back over the same connection: its port is no listener's.
    let back = bob.ask(&alice, alice.uri(), Route::over(first.id)).await;
    assert_eq!(back.local, first.remote);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn an_address_found_for_a_name_must_show_the_names_certificate() {
    let ca = authority("house");
    let alice = Party::new(house(&ca, &["127.0.0.1"])).await;
    let bob = Party::new(house(&ca, &["sip.example.com"])).await;
    let hop = bob.uri();
    let to: SipUri = "sips:bob@sip.example.com".parse().unwrap();
    let flow = alice
        .ask(&bob, to.clone(), named(hop.clone(), "sip.example.com"))
        .await;
    let again = alice
        .ask(&bob, to.clone(), named(hop.clone(), "SIP.example.com"))
        .await;
    assert_eq!(flow.id, again.id);

    // A connection that was verified for one name is not taken for another.
    for name in ["other.example.com", "127.0.0.1"] {
        let error = alice
            .try_ask(to.clone(), named(hop.clone(), name))
            .await
            .unwrap_err();
        assert_eq!(error.fault(), Fault::Unsupported, "{error}");
        assert!(error.to_string().contains("not verified to be"), "{error}");
    }
    let carol = Party::new(house(&ca, &["127.0.0.1"])).await;
    for name in ["other.example.com", "127.0.0.1"] {
        let error = carol
            .try_ask(to.clone(), named(hop.clone(), name))
            .await
            .unwrap_err();
        assert_eq!(error.fault(), Fault::PeerMisbehaved, "{error}");
        assert!(error.to_string().contains("is for sip.example.com"), "{error}");
    }
    assert!(
        bob.hears
            .try_next()
            .is_none_or(|event| !matches!(event, StackEvent::Request { .. }))
    );
    for party in [alice, bob, carol] {
        party.stop().await;
    }
}

#[tokio::test]
async fn a_name_is_found_and_verified_by_the_name() {
    let ca = authority("house");
    let alice = Party::new(house(&ca, &["127.0.0.1"])).await;
    let bob = Party::new(house(&ca, &["localhost"])).await;
    let port = bob.stack.listeners()[0].bound.port();
    let to: SipUri = format!("sips:bob@localhost:{port}").parse().unwrap();
    alice.try_ask(to, Route::by_request()).await.unwrap();
    let (_, heard, _) = bob.hears.expect_request(Method::Options).await;
    assert_eq!(heard.uri.to_string(), format!("sips:bob@localhost:{port}"));
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_or_a_port_is_said() {
    let ca = authority("house");
    let alice = Party::with(house(&ca, &["127.0.0.1"]), &[Transport::Udp, Transport::Tls]).await;
    let mut old = certificate(&["127.0.0.1"]);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = TlsConfig {
        identity: Some(issue(&ca, &old)),
        ..TlsConfig::default()
    };
    let strange = house(&authority("stranger"), &["127.0.0.1"]);
    for (tls, told) in [
        (expired, " expired "),
        (strange, "put its certificate into sip.tls.ca"),
    ] {
        let bob = Party::new(tls).await;
        let error = alice.try_ask(bob.uri(), Route::by_request()).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        bob.stop().await;
    }

    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = SipUri::from_addr(http.local_addr().unwrap()).with_transport(Transport::Tls);
    let speaking = tokio::spawn(async move {
        loop {
            let (mut stream, _) = http.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = alice.try_ask(uri, Route::by_request()).await.unwrap_err();
    assert!(error.to_string().contains("answers, but not with TLS"), "{error}");
    speaking.abort();

    let nobody = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap()
    };
    for transport in [Transport::Tls, Transport::Tcp] {
        let uri = SipUri::from_addr(nobody).with_transport(transport);
        let error = alice.try_ask(uri, Route::by_request()).await.unwrap_err();
        assert!(error.to_string().contains("somebody listens there"), "{error}");
    }
    // And the endpoint goes on.
    let bob = Party::new(house(&ca, &["127.0.0.1"])).await;
    alice.ask(&bob, bob.uri(), Route::by_request()).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_listener_with_a_client_ca_takes_only_clients_with_a_certificate_of_it() {
    let ca = authority("house");
    let bob = Party::new(TlsConfig {
        client_ca: Some(ca.pem().into()),
        ..house(&ca, &["127.0.0.1"])
    })
    .await;
    let alice = Party::new(house(&ca, &["alice.example.com"])).await;
    alice.ask(&bob, bob.uri(), Route::by_request()).await;

    let without = TlsConfig {
        ca: Some(ca.pem().into()),
        ..TlsConfig::default()
    };
    let carol = Party::with(without, &[Transport::Tcp]).await;
    let tx = carol.ids.mint();
    let sent = carol
        .stack
        .send_request(tx, request(Method::Options, bob.uri()), Route::by_request())
        .await;
    // In TLS 1.3 the client hears of it only after the handshake.
    let told = match sent {
        Err(error) => error.to_string(),
        Ok(()) => match carol.hears.expect_ended(tx).await {
            TxEnd::Transport(why) => why,
            end => panic!("{end:?}"),
        },
    };
    assert!(told.contains("wants a client certificate"), "{told}");
    for party in [alice, bob, carol] {
        party.stop().await;
    }
}

#[tokio::test]
async fn a_burst_to_one_server_shares_one_connection() {
    let ca = authority("house");
    let alice = Party::new(house(&ca, &["127.0.0.1"])).await;
    let bob = Party::new(house(&ca, &["sip.example.com"])).await;
    let asking = (0..20).map(|_| alice.try_ask(bob.uri(), named(bob.uri(), "sip.example.com")));
    for asked in futures_util::future::join_all(asking).await {
        asked.unwrap();
    }
    let mut flows = Vec::new();
    for _ in 0..20 {
        let (served, heard, flow) = bob.hears.expect_request(Method::Options).await;
        bob.stack
            .respond(served, answer(&heard, 200, "bob"))
            .await
            .unwrap();
        flows.push(flow.id);
    }
    flows.dedup();
    assert_eq!(flows.len(), 1, "{flows:?}");
    alice.stop().await;
    bob.stop().await;
}

//! What is ezk's own, beyond the port's conformance suite.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use siprtc_core::Fault;
use siprtc_core::sip::{
    FlowId, Keepalive, ListenerConfig, Method, Route, SipStack, SipUri, StackConfig, StackEvent, Transport,
    TxEnd, TxIds, TxOwner,
};
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// A datagram that panics ezk 0.9.2's UDP reader.
const DEADLY: &[u8] = b"MESSAGE sip:x@y SIP/2.0\r\nContent-Length: 18446744073709551615\r\n\r\n";

fn listen(transport: Transport, bind: &str) -> ListenerConfig {
    ListenerConfig {
        transport,
        bind: bind.parse().unwrap(),
        advertise: None,
    }
}

async fn start(listeners: Vec<ListenerConfig>) -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    let hears = RecordingSink::new();
    let config = StackConfig {
        listeners,
        ..StackConfig::default()
    };
    let stack = siprtc_sip_ezk::factory()
        .start(config, hears.clone())
        .await
        .unwrap();
    (stack, hears)
}

fn uri(stack: &dyn SipStack, listener: usize) -> SipUri {
    let listener = stack.listeners()[listener];
    SipUri::from_addr(listener.bound).with_transport(listener.transport)
}

/// Alice asks Bob at one of his listeners; says which flow Bob saw.
async fn ask(
    alice: (&dyn SipStack, &RecordingSink),
    bob: (&dyn SipStack, &RecordingSink),
    ids: &TxIds,
    to: SipUri,
) -> siprtc_core::sip::Flow {
    alice
        .0
        .send_request(ids.mint(), request(Method::Options, to), Route::by_request())
        .await
        .unwrap();
    let (served, heard, flow) = bob.1.expect_request(Method::Options).await;
    bob.0.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice.1.expect_response(200).await;
    flow
}

#[tokio::test]
async fn one_stack_listens_on_every_transport_and_family_at_once() {
    let everywhere = || {
        vec![
            listen(Transport::Udp, "127.0.0.1:0"),
            listen(Transport::Udp, "[::1]:0"),
            listen(Transport::Tcp, "127.0.0.1:0"),
            listen(Transport::Tcp, "[::1]:0"),
        ]
    };
    let (alice, alice_hears) = start(everywhere()).await;
    let (bob, bob_hears) = start(everywhere()).await;
    let ids = TxIds::new(TxOwner::user(1));
    for listener in 0..4 {
        let flow = ask(
            (&*alice, &alice_hears),
            (&*bob, &bob_hears),
            &ids,
            uri(&*bob, listener),
        )
        .await;
        assert_eq!(flow.transport, bob.listeners()[listener].transport);
        assert_eq!(flow.local, bob.listeners()[listener].bound);
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_stack_without_a_socket_of_the_right_family_says_so() {
    let (alice, _) = start(vec![listen(Transport::Udp, "127.0.0.1:0")]).await;
    let ids = TxIds::new(TxOwner::user(1));
    let to =
        SipUri::from_addr(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 5060))).with_transport(Transport::Udp);
    let sent = alice
        .send_request(ids.mint(), request(Method::Options, to), Route::by_request())
        .await;
    assert_eq!(sent.unwrap_err().fault(), Fault::ConfigInvalid);
    for text in [
        "sip:bob@127.0.0.1;transport=ws",
        "sips:bob@127.0.0.1;transport=ws",
        "sip:bob@127.0.0.1;transport=wss",
        "sip:bob@127.0.0.1;transport=carrier-pigeon",
    ] {
        let to: SipUri = text.parse().unwrap();
        let sent = alice
            .send_request(ids.mint(), request(Method::Options, to), Route::by_request())
            .await;
        let error = sent.unwrap_err();
        assert_eq!(error.fault(), Fault::Unsupported, "{text}");
        let next = error.next_step().unwrap();
        assert!(next.contains("native") && next.contains("rsipstack"), "{next}");
    }
    alice.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    for (listeners, fault) in [
        (vec![listen(Transport::Ws, "127.0.0.1:0")], Fault::Unsupported),
        (vec![listen(Transport::Wss, "127.0.0.1:0")], Fault::Unsupported),
        // Without a certificate.
        (vec![listen(Transport::Tls, "127.0.0.1:0")], Fault::ConfigInvalid),
        (
            vec![listen(Transport::Udp, "192.0.2.1:5060")],
            Fault::ConfigInvalid,
        ),
    ] {
        let config = StackConfig {
            listeners,
            ..StackConfig::default()
        };
        let error = siprtc_sip_ezk::factory()
            .start(config, RecordingSink::new())
            .await
            .err()
            .unwrap();
        assert_eq!(error.fault(), fault, "{error}");
        assert!(error.next_step().is_some(), "{error}");
    }
}

#[tokio::test]
async fn a_wildcard_listener_names_an_address_that_can_be_reached() {
    let (alice, alice_hears) = start(vec![listen(Transport::Udp, "0.0.0.0:0")]).await;
    let (bob, bob_hears) = start(vec![listen(Transport::Udp, "127.0.0.1:0")]).await;
    let ids = TxIds::new(TxOwner::user(1));
    alice
        .send_request(
            ids.mint(),
            request(Method::Options, uri(&*bob, 0)),
            Route::by_request(),
        )
        .await
        .unwrap();
    let (served, heard, flow) = bob_hears.expect_request(Method::Options).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(
        (via.host.to_string().as_str(), via.port),
        ("127.0.0.1", Some(flow.remote.port()))
    );
    bob.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice_hears.expect_response(200).await;
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_advertised_address_is_what_via_says() {
    let advertise = Some("198.51.100.7:0".parse().unwrap());
    let (alice, _) = start(vec![ListenerConfig {
        advertise,
        ..listen(Transport::Udp, "127.0.0.1:0")
    }])
    .await;
    let (bob, bob_hears) = start(vec![listen(Transport::Udp, "127.0.0.1:0")]).await;
    let port = alice.listeners()[0].bound.port();
    assert_eq!(
        alice.listeners()[0].advertised,
        SocketAddr::from(([198, 51, 100, 7], port))
    );
    let ids = TxIds::new(TxOwner::user(1));
    alice
        .send_request(
            ids.mint(),
            request(Method::Options, uri(&*bob, 0)),
            Route::by_request(),
        )
        .await
        .unwrap();
    let (_, heard, _) = bob_hears.expect_request(Method::Options).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(
        (via.host.to_string().as_str(), via.port),
        ("198.51.100.7", Some(port))
    );
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_deaf_socket_is_noticed_and_hears_again_on_the_same_port() {
    let both = || {
        vec![
            listen(Transport::Udp, "127.0.0.1:0"),
            listen(Transport::Tcp, "127.0.0.1:0"),
        ]
    };
    let (alice, alice_hears) = start(both()).await;
    let (bob, bob_hears) = start(both()).await;
    let ids = TxIds::new(TxOwner::user(1));
    ask((&*alice, &alice_hears), (&*bob, &bob_hears), &ids, uri(&*bob, 1)).await;
    let listeners = bob.listeners();
    let under_way = ids.mint();
    bob.send_request(
        under_way,
        request(Method::Invite, uri(&*alice, 1)),
        Route::by_request(),
    )
    .await
    .unwrap();
    alice_hears.expect_request(Method::Invite).await;

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(DEADLY, listeners[0].bound).await.unwrap();
    let end = bob_hears.expect_ended(under_way).await;
    assert!(
        matches!(end, TxEnd::Transport(_)),
        "what was under way is told to be lost, not {end:?}"
    );

    assert_eq!(bob.listeners(), listeners);
    for listener in [0, 1] {
        ask_patiently(
            (&*alice, &alice_hears),
            (&*bob, &bob_hears),
            &ids,
            uri(&*bob, listener),
        )
        .await;
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

/// As `ask`, but a request may fail while the stack is on its way back.
async fn ask_patiently(
    alice: (&dyn SipStack, &RecordingSink),
    bob: (&dyn SipStack, &RecordingSink),
    ids: &TxIds,
    to: SipUri,
) {
    for _ in 0..50 {
        let tx = ids.mint();
        let asked = request(Method::Options, to.clone());
        if alice
            .0
            .send_request(tx, asked, Route::by_request())
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let round_trip = async {
            loop {
                tokio::select! {
                    event = bob.1.next() => if let StackEvent::Request { tx: served, request, .. } = event {
                        // An error: it is lost with the stack, and asked again.
                        let _ = bob.0.respond(served, answer(&request, 200, "bob")).await;
                    },
                    event = alice.1.next() => match event {
                        StackEvent::Response { tx: answered, .. } if answered == tx => return true,
                        StackEvent::TxEnded { tx: ended, .. } if ended == tx => return false,
                        _ => (),
                    },
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(2), round_trip).await == Ok(true) {
            return;
        }
    }
    panic!("it does not hear again");
}

#[test]
fn calls_may_come_from_other_runtimes_than_the_one_that_started_it() {
    let single = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let home = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = || vec![listen(Transport::Udp, "127.0.0.1:0")];
    let (alice, alice_hears) = home.block_on(start(listener()));
    let (bob, bob_hears) = home.block_on(start(listener()));
    let ids = TxIds::new(TxOwner::user(1));
    let asking = single();
    asking.block_on(async {
        alice
            .send_request(
                ids.mint(),
                request(Method::Invite, uri(&*bob, 0)),
                Route::by_request(),
            )
            .await
            .unwrap();
    });
    // The runtime of the caller may be gone before the transaction is.
    drop(asking);
    let (served, heard) = single().block_on(async {
        let (served, heard, _) = bob_hears.expect_request(Method::Invite).await;
        bob.respond(served, answer(&heard, 180, "bob")).await.unwrap();
        (served, heard)
    });
    single().block_on(async {
        alice_hears.expect_response(180).await;
        bob.respond(served, answer(&heard, 486, "bob")).await.unwrap();
        alice_hears.expect_response(486).await;
        assert_eq!(bob_hears.expect_ended(served).await, TxEnd::Done);
    });
    single().block_on(alice.shutdown(Duration::ZERO));
    single().block_on(bob.shutdown(Duration::ZERO));
}

#[tokio::test]
async fn a_dropped_stack_lets_its_ports_go() {
    let (stack, _) = start(vec![
        listen(Transport::Udp, "127.0.0.1:0"),
        listen(Transport::Tcp, "127.0.0.1:0"),
    ])
    .await;
    let bound = stack.listeners();
    drop(stack);
    let again = async {
        loop {
            let udp = std::net::UdpSocket::bind(bound[0].bound);
            let tcp = std::net::TcpListener::bind(bound[1].bound);
            if udp.is_ok() && tcp.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(20), again).await.is_ok(),
        "the ports are still taken"
    );
}

#[tokio::test]
async fn shutdown_waits_for_what_is_running_as_long_as_it_may() {
    let listener = || vec![listen(Transport::Udp, "127.0.0.1:0")];
    let (alice, alice_hears) = start(listener()).await;
    let (bob, bob_hears) = start(listener()).await;
    let ids = TxIds::new(TxOwner::user(1));
    alice
        .send_request(
            ids.mint(),
            request(Method::Options, uri(&*bob, 0)),
            Route::by_request(),
        )
        .await
        .unwrap();
    let (served, heard, _) = bob_hears.expect_request(Method::Options).await;
    let closing = tokio::spawn({
        let alice = alice.clone();
        async move { alice.shutdown(Duration::from_secs(30)).await }
    });
    bob.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice_hears.expect_response(200).await;
    closing.await.unwrap();
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_flow_is_kept_alive_in_its_own_way() {
    let both = || {
        vec![
            listen(Transport::Udp, "127.0.0.1:0"),
            listen(Transport::Tcp, "127.0.0.1:0"),
        ]
    };
    let (alice, alice_hears) = start(both()).await;
    let (bob, bob_hears) = start(both()).await;
    let ids = TxIds::new(TxOwner::user(1));
    let udp = ask((&*alice, &alice_hears), (&*bob, &bob_hears), &ids, uri(&*bob, 0)).await;
    let tcp = ask((&*alice, &alice_hears), (&*bob, &bob_hears), &ids, uri(&*bob, 1)).await;
    bob.keepalive(udp.id, Keepalive::Stun).await.unwrap();
    bob.keepalive(udp.id, Keepalive::Crlf).await.unwrap();
    bob.keepalive(tcp.id, Keepalive::Crlf).await.unwrap();
    assert_eq!(
        bob.keepalive(tcp.id, Keepalive::Stun).await.unwrap_err().fault(),
        Fault::Unsupported
    );
    assert_eq!(
        bob.keepalive(FlowId(u64::MAX), Keepalive::Crlf)
            .await
            .unwrap_err()
            .fault(),
        Fault::Backend
    );
    // Neither kind may disturb what speaks SIP on the same flow.
    ask((&*alice, &alice_hears), (&*bob, &bob_hears), &ids, uri(&*bob, 0)).await;
    ask((&*alice, &alice_hears), (&*bob, &bob_hears), &ids, uri(&*bob, 1)).await;
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_request_that_ezk_can_read_and_rfc_3261_forbids_is_answered_400() {
    let (bob, bob_hears) = start(vec![listen(Transport::Udp, "127.0.0.1:0")]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut wrong = request(Method::Options, uri(&*bob, 0));
    wrong
        .headers
        .push_front("Via", "SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bKwrong");
    wrong.headers.set("CSeq", "1 BYE");
    socket
        .send_to(&wrong.to_bytes(), bob.listeners()[0].bound)
        .await
        .unwrap();
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert!(
        buffer[..length].starts_with(b"SIP/2.0 400 "),
        "{}",
        String::from_utf8_lossy(&buffer[..length])
    );
    assert!(matches!(bob_hears.next().await, StackEvent::ParseError { .. }));
    bob.shutdown(Duration::ZERO).await;
}

//! What is sofia's own, beyond the port's conformance suite.

#![cfg(feature = "link")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use siprtc_core::Fault;
use siprtc_core::sip::{
    FlowId, Host, Keepalive, ListenerConfig, Method, Route, SipStack, SipUri, StackConfig, StackEvent,
    Transport, TxEnd, TxIds, TxOwner,
};
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How often a stack is started and shut down to see that nothing is left behind.
const CYCLES: usize = 1000;

fn listen(transport: Transport, bind: &str) -> ListenerConfig {
    ListenerConfig {
        transport,
        bind: bind.parse().unwrap(),
        advertise: None,
    }
}

async fn start(config: StackConfig) -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    let hears = RecordingSink::new();
    let stack = siprtc_sip_sofia::factory().start(config, hears.clone()).await;
    (stack.unwrap(), hears)
}

async fn listening(listeners: &[(Transport, &str)]) -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    let listeners = listeners
        .iter()
        .map(|(transport, bind)| listen(*transport, bind))
        .collect();
    start(StackConfig {
        listeners,
        ..StackConfig::default()
    })
    .await
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
    route: Route,
) -> siprtc_core::sip::Flow {
    let sent = alice
        .0
        .send_request(ids.mint(), request(Method::Options, to), route)
        .await;
    sent.unwrap();
    let (served, heard, flow) = bob.1.expect_request(Method::Options).await;
    bob.0.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice.1.expect_response(200).await;
    flow
}

#[tokio::test]
async fn one_stack_listens_on_every_transport_and_family_at_once() {
    let everywhere = [
        (Transport::Udp, "127.0.0.1:0"),
        (Transport::Udp, "[::1]:0"),
        (Transport::Tcp, "127.0.0.1:0"),
        (Transport::Tcp, "[::1]:0"),
    ];
    let (alice, alice_hears) = listening(&everywhere).await;
    let (bob, bob_hears) = listening(&everywhere).await;
    let ids = TxIds::new(TxOwner::user(1));
    for listener in 0..4 {
        let to = uri(&*bob, listener);
        let flow = ask(
            (&*alice, &alice_hears),
            (&*bob, &bob_hears),
            &ids,
            to,
            Route::by_request(),
        )
        .await;
        assert_eq!(flow.transport, bob.listeners()[listener].transport);
        assert_eq!(flow.local, bob.listeners()[listener].bound);
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_stack_without_listeners_opens_connections() {
    let (alice, alice_hears) = listening(&[]).await;
    let (bob, bob_hears) =
        listening(&[(Transport::Tcp, "127.0.0.1:0"), (Transport::Udp, "127.0.0.1:0")]).await;
    let ids = TxIds::new(TxOwner::user(1));
    let (alice_side, bob_side) = ((&*alice, &*alice_hears), (&*bob, &*bob_hears));
    ask(alice_side, bob_side, &ids, uri(&*bob, 0), Route::by_request()).await;
    let sent = alice
        .send_request(
            ids.mint(),
            request(Method::Options, uri(&*bob, 1)),
            Route::by_request(),
        )
        .await;
    assert_eq!(
        sent.unwrap_err().fault(),
        Fault::ConfigInvalid,
        "there is no UDP without a socket"
    );
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_fresh_connection_is_another_one_and_can_be_closed() {
    let (alice, alice_hears) = listening(&[(Transport::Tcp, "127.0.0.1:0")]).await;
    let (bob, bob_hears) = listening(&[(Transport::Tcp, "127.0.0.1:0")]).await;
    let ids = TxIds::new(TxOwner::user(1));
    let (alice_side, bob_side) = ((&*alice, &*alice_hears), (&*bob, &*bob_hears));
    let first = ask(alice_side, bob_side, &ids, uri(&*bob, 0), Route::by_request()).await;
    let same = ask(alice_side, bob_side, &ids, uri(&*bob, 0), Route::by_request()).await;
    assert_eq!(first.id, same.id);
    let fresh = Route {
        fresh: true,
        ..Route::default()
    };
    let second = ask(alice_side, bob_side, &ids, uri(&*bob, 0), fresh).await;
    assert_ne!(
        first.remote, second.remote,
        "the connection that was there has been used"
    );
    bob.close_flow(second.id).await.unwrap();
    let down = loop {
        if let StackEvent::FlowDown { id, .. } = bob_hears.next().await {
            break id;
        }
    };
    assert_eq!(down, second.id);
    assert_eq!(
        bob.close_flow(second.id).await.unwrap_err().fault(),
        Fault::Backend,
        "it is gone"
    );
    ask(alice_side, bob_side, &ids, uri(&*bob, 0), Route::by_request()).await;
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    for listeners in [
        vec![listen(Transport::Wss, "127.0.0.1:0")],
        vec![listen(Transport::Udp, "192.0.2.1:5060")],
    ] {
        let config = StackConfig {
            listeners,
            ..StackConfig::default()
        };
        let started = siprtc_sip_sofia::factory()
            .start(config, RecordingSink::new())
            .await;
        let error = started.err().unwrap();
        assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
        assert!(error.next_step().is_some(), "{error}");
    }
}

#[tokio::test]
async fn what_it_cannot_do_is_said_in_a_sentence() {
    let (alice, alice_hears) = listening(&[(Transport::Udp, "127.0.0.1:0")]).await;
    let (bob, bob_hears) = listening(&[(Transport::Udp, "127.0.0.1:0")]).await;
    let ids = TxIds::new(TxOwner::user(1));
    for text in [
        "sips:bob@127.0.0.1",
        "sip:bob@127.0.0.1;transport=ws",
        "tel:+12025550100",
    ] {
        let to: siprtc_core::sip::Uri = text.parse().unwrap();
        let sent = alice
            .send_request(ids.mint(), request(Method::Options, to), Route::by_request())
            .await;
        assert_eq!(sent.unwrap_err().fault(), Fault::Unsupported, "{text}");
    }
    let flow = ask(
        (&*alice, &alice_hears),
        (&*bob, &bob_hears),
        &ids,
        uri(&*bob, 0),
        Route::by_request(),
    )
    .await;
    for kind in [Keepalive::Crlf, Keepalive::Stun] {
        assert_eq!(
            bob.keepalive(flow.id, kind).await.unwrap_err().fault(),
            Fault::Unsupported,
            "{kind:?} on UDP"
        );
    }
    let gone = bob.keepalive(FlowId(u64::MAX), Keepalive::Crlf).await;
    assert_eq!(gone.unwrap_err().fault(), Fault::Backend);
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_wildcard_listener_names_an_address_that_can_be_reached() {
    for (wildcard, loopback) in [("0.0.0.0:0", "127.0.0.1:0"), ("[::]:0", "[::1]:0")] {
        let (alice, alice_hears) = listening(&[(Transport::Udp, wildcard), (Transport::Tcp, wildcard)]).await;
        let (bob, bob_hears) = listening(&[(Transport::Udp, loopback), (Transport::Tcp, loopback)]).await;
        let ids = TxIds::new(TxOwner::user(1));
        for listener in [0, 1] {
            let asked = request(Method::Options, uri(&*bob, listener));
            alice
                .send_request(ids.mint(), asked, Route::by_request())
                .await
                .unwrap();
            let (served, heard, _) = bob_hears.expect_request(Method::Options).await;
            let via = heard.headers.top_via().unwrap();
            let own = alice.listeners()[listener].bound;
            let reached = loopback.parse::<std::net::SocketAddr>().unwrap().ip();
            assert_eq!((via.host, via.port), (Host::Ip(reached), Some(own.port())));
            assert!(own.ip().is_unspecified());
            bob.respond(served, answer(&heard, 200, "bob")).await.unwrap();
            alice_hears.expect_response(200).await;
        }
        alice.shutdown(Duration::ZERO).await;
        bob.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn an_advertised_address_is_what_via_says() {
    let config = StackConfig {
        listeners: vec![ListenerConfig {
            advertise: Some("198.51.100.7:0".parse().unwrap()),
            ..listen(Transport::Udp, "127.0.0.1:0")
        }],
        ..StackConfig::default()
    };
    let (alice, _) = start(config).await;
    let (bob, bob_hears) = listening(&[(Transport::Udp, "127.0.0.1:0")]).await;
    let listener = alice.listeners()[0];
    assert_eq!(
        listener.advertised.to_string(),
        format!("198.51.100.7:{}", listener.bound.port())
    );
    let ids = TxIds::new(TxOwner::user(1));
    let asked = request(Method::Options, uri(&*bob, 0));
    alice
        .send_request(ids.mint(), asked, Route::by_request())
        .await
        .unwrap();
    let (_, heard, _) = bob_hears.expect_request(Method::Options).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(via.host.to_string(), "198.51.100.7");
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_line_end_before_a_request_is_skipped() {
    let (bob, bob_hears) =
        listening(&[(Transport::Udp, "127.0.0.1:0"), (Transport::Tcp, "127.0.0.1:0")]).await;
    for transport in [Transport::Udp, Transport::Tcp] {
        let to = bob.listeners()[usize::from(transport == Transport::Tcp)].bound;
        let mut early = request(Method::Options, SipUri::from_addr(to));
        early.headers.push_front(
            "Via",
            format_args!("SIP/2.0/{transport} 192.0.2.1;rport;branch=z9hG4bKearly"),
        );
        let octets = [b"\r\n\r\n", &early.to_bytes()[..]].concat();
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.send_to(&octets, to).await.unwrap();
            }
            _ => {
                let mut stream = TcpStream::connect(to).await.unwrap();
                stream.write_all(&octets).await.unwrap();
                bob_hears.expect_request(Method::Options).await;
                continue;
            }
        }
        bob_hears.expect_request(Method::Options).await;
    }
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_request_line_that_sofia_cannot_read_is_answered_400() {
    let (bob, bob_hears) = listening(&[(Transport::Udp, "127.0.0.1:0")]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut wrong = request(Method::Options, uri(&*bob, 0));
    wrong
        .headers
        .push_front("Via", "SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bKwrong");
    let text = String::from_utf8(wrong.to_bytes().to_vec()).unwrap();
    let line = text.lines().next().unwrap();
    let text = text.replace(line, "OPTIONS <sip:bob@example.com> SIP/2.0");
    socket
        .send_to(text.as_bytes(), bob.listeners()[0].bound)
        .await
        .unwrap();
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).await.unwrap();
    let heard = String::from_utf8_lossy(&buffer[..length]);
    assert!(heard.starts_with("SIP/2.0 400 "), "{heard}");
    assert!(matches!(bob_hears.next().await, StackEvent::ParseError { .. }));
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_ping_is_answered_with_a_pong() {
    let (bob, _) = listening(&[(Transport::Tcp, "127.0.0.1:0")]).await;
    let mut stream = TcpStream::connect(bob.listeners()[0].bound).await.unwrap();
    stream.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n");
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_dropped_stack_lets_its_ports_go() {
    let (stack, _) = listening(&[(Transport::Udp, "127.0.0.1:0"), (Transport::Tcp, "127.0.0.1:0")]).await;
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
    let (alice, alice_hears) = listening(&[(Transport::Udp, "127.0.0.1:0")]).await;
    let (bob, bob_hears) = listening(&[(Transport::Udp, "127.0.0.1:0")]).await;
    let ids = TxIds::new(TxOwner::user(1));
    let tx = ids.mint();
    alice
        .send_request(tx, request(Method::Options, uri(&*bob, 0)), Route::by_request())
        .await
        .unwrap();
    let (served, heard, _) = bob_hears.expect_request(Method::Options).await;
    let closing = tokio::spawn({
        let alice = alice.clone();
        async move { alice.shutdown(Duration::from_secs(30)).await }
    });
    bob.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice_hears.expect_response(200).await;
    assert_eq!(alice_hears.expect_ended(tx).await, TxEnd::Done);
    let ended = tokio::time::timeout(Duration::from_secs(10), closing).await;
    ended.expect("shutdown waits although nothing runs").unwrap();
    bob.shutdown(Duration::ZERO).await;
}

/// How many threads and descriptors this process has.
fn possessions() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[tokio::test]
async fn a_thousand_stacks_leave_no_thread_and_no_descriptor() {
    let cycle = || async {
        let (stack, _) = listening(&[(Transport::Udp, "127.0.0.1:0"), (Transport::Tcp, "127.0.0.1:0")]).await;
        stack.shutdown(Duration::ZERO).await;
    };
    cycle().await;
    let before = possessions();
    for _ in 0..CYCLES {
        cycle().await;
    }
    assert_eq!(possessions(), before);
}

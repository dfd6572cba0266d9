//! UDP: several sockets and families, STUN, floods, and what cannot be sent.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod common;

use common::{PATIENCE, Side, from_stranger, listen, on};
use siprtc_core::Fault;
use siprtc_core::sip::{
    FlowId, Keepalive, ListenerConfig, Method, Route, SipUri, StackConfig, StackEvent, Transport, TxEnd,
};
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

async fn receive(socket: &UdpSocket) -> String {
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = received.expect("no datagram came").unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn one_stack_listens_on_every_transport_and_family_at_once() {
    let everywhere = || StackConfig {
        listeners: ["127.0.0.1:0", "[::1]:0"]
            .iter()
            .flat_map(|bind| {
                [
                    listen(Transport::Udp, bind),
                    listen(Transport::Tcp, bind),
                    listen(Transport::Ws, bind),
                ]
            })
            .collect(),
        ..StackConfig::default()
    };
    let (alice, bob) = (Side::start(everywhere()).await, Side::start(everywhere()).await);
    for number in 0..6 {
        let (flow, heard) = alice.ask(&bob, bob.uri(number), Route::by_request()).await;
        let listener = bob.stack.listeners()[number];
        assert_eq!((flow.transport, flow.local), (listener.transport, listener.bound));
        let via = heard.headers.top_via().unwrap();
        if flow.transport != Transport::Ws {
            let sent_by = format!("{}:{}", via.host, via.port.unwrap());
            assert_eq!(
                sent_by,
                alice.bound(number).to_string(),
                "the listener of the right kind and family"
            );
        }
    }
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn both_families_can_have_the_same_port() {
    let port = Side::on(&[Transport::Udp]).await;
    let number = port.bound(0).port();
    port.stop().await;
    let both = |transport| {
        [
            listen(transport, &format!("0.0.0.0:{number}")),
            listen(transport, &format!("[::]:{number}")),
        ]
    };
    let bob = Side::start(StackConfig {
        listeners: [both(Transport::Udp), both(Transport::Tcp)].concat(),
        ..StackConfig::default()
    })
    .await;
    let alice = Side::start(StackConfig {
        listeners: vec![
            listen(Transport::Udp, "0.0.0.0:0"),
            listen(Transport::Udp, "[::]:0"),
        ],
        ..StackConfig::default()
    })
    .await;
    for loopback in ["127.0.0.1", "::1"] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let at = SocketAddr::new(loopback.parse().unwrap(), number);
            let to = SipUri::from_addr(at).with_transport(transport);
            let (flow, heard) = alice.ask(&bob, to, Route::by_request()).await;
            assert_eq!(
                (flow.local, flow.remote.ip()),
                (at, at.ip()),
                "the address that was really used"
            );
            let via = heard.headers.top_via().unwrap();
            assert_eq!(
                via.host,
                siprtc_core::sip::Host::Ip(at.ip()),
                "an address that can be reached"
            );
        }
    }
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn an_advertised_address_is_what_via_says() {
    let advertise = Some("198.51.100.7:0".parse().unwrap());
    let alice = Side::start(StackConfig {
        listeners: [Transport::Udp, Transport::Tcp]
            .map(|transport| ListenerConfig {
                advertise,
                ..listen(transport, "127.0.0.1:0")
            })
            .to_vec(),
        ..StackConfig::default()
    })
    .await;
    let bob = Side::on(&[Transport::Udp, Transport::Tcp]).await;
    for number in [0, 1] {
        let advertised = SocketAddr::from(([198, 51, 100, 7], alice.bound(number).port()));
        assert_eq!(alice.stack.listeners()[number].advertised, advertised);
        let (_, heard) = alice.ask(&bob, bob.uri(number), Route::by_request()).await;
        let via = heard.headers.top_via().unwrap();
        assert_eq!(
            format!("{}:{}", via.host, via.port.unwrap()),
            advertised.to_string()
        );
    }
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_stack_without_a_socket_of_the_right_family_says_so() {
    let alice = Side::on(&[Transport::Udp]).await;
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 5060));
    let to = SipUri::from_addr(to).with_transport(Transport::Udp);
    let error = alice
        .send(request(Method::Options, to), Route::by_request())
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    assert!(error.to_string().contains("IPv6"), "{error}");
    let to: SipUri = "sip:bob@127.0.0.1;transport=carrier-pigeon".parse().unwrap();
    let error = alice
        .send(request(Method::Options, to), Route::by_request())
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::Unsupported);
    alice.stop().await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let wrong = [
        StackConfig {
            listeners: vec![listen(Transport::Udp, "192.0.2.1:5060")],
            ..StackConfig::default()
        },
        StackConfig {
            user_agent: "a\r\nb".to_owned(),
            ..on(&[Transport::Udp])
        },
    ];
    for config in wrong {
        let error = common::try_start(config, RecordingSink::new())
            .await
            .err()
            .unwrap();
        assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
        assert!(
            error.next_step().is_some() && error.backend_name() == Some("test"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn stun_keepalives_are_answered_and_tell_the_mapped_address() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let config = || StackConfig {
            listeners: vec![listen(Transport::Udp, bind)],
            ..StackConfig::default()
        };
        let (alice, bob) = (Side::start(config()).await, Side::start(config()).await);
        let (flow, _) = alice.ask(&bob, bob.uri(0), Route::by_request()).await;
        bob.stack.keepalive(flow.id, Keepalive::Crlf).await.unwrap();
        bob.stack.keepalive(flow.id, Keepalive::Stun).await.unwrap();
        assert_eq!(
            bob.expect_keepalive_answered().await,
            (flow.id, Some(bob.bound(0)))
        );
        assert!(bob.stack.close_flow(flow.id).await.is_ok(), "nothing on UDP");
        alice.ask(&bob, bob.uri(0), Route::by_request()).await;
        let gone = bob
            .stack
            .keepalive(FlowId(u64::MAX), Keepalive::Stun)
            .await
            .unwrap_err();
        assert!(gone.next_step().is_some());
        alice.stop().await;
        bob.stop().await;
    }
}

#[tokio::test]
async fn a_lost_stun_keepalive_is_sent_again_and_an_answer_of_a_stranger_is_none() {
    let bob = Side::on(&[Transport::Udp]).await;
    let (peer, stranger) = (
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    );
    let asked = from_stranger(Method::Options, Transport::Udp, bob.bound(0));
    peer.send_to(&asked.to_bytes(), bob.bound(0)).await.unwrap();
    let (_, _, flow) = bob.hears.expect_request(Method::Options).await;
    bob.stack.keepalive(flow.id, Keepalive::Stun).await.unwrap();
    let mut buffer = [0; 100];
    let length = peer.recv(&mut buffer).await.unwrap();
    let first = buffer[..length].to_vec();
    let length = peer.recv(&mut buffer).await.unwrap();
    assert_eq!(buffer[..length], first, "sent again");
    let answer = [&[1, 1, 0, 0][..], &first[4..]].concat();
    stranger.send_to(&answer, bob.bound(0)).await.unwrap();
    bob.hears.expect_silence(Duration::from_millis(50)).await;
    bob.stop().await;
}

#[tokio::test]
async fn a_flood_of_garbage_from_one_address_does_not_starve_another() {
    let bob = Side::on(&[Transport::Udp]).await;
    let flooder = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let good = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut malformed = from_stranger(Method::Options, Transport::Udp, bob.bound(0));
    malformed.headers.set("CSeq", "none");
    malformed.headers.push("X-Room", "x".repeat(100));
    let malformed = malformed.to_bytes();
    let mut answered = 0;
    for round in 0..50 {
        for _ in 0..200 {
            flooder.send_to(&malformed, bob.bound(0)).await.unwrap();
        }
        if round % 10 == 9 {
            let asked = from_stranger(Method::Options, Transport::Udp, bob.bound(0)).to_bytes();
            let waiting = async {
                loop {
                    good.send_to(&asked, bob.bound(0)).await.unwrap();
                    let event = tokio::time::timeout(Duration::from_millis(200), async {
                        loop {
                            if let StackEvent::Request { tx, request, .. } = bob.next().await {
                                return (tx, request);
                            }
                        }
                    });
                    if let Ok(event) = event.await {
                        return event;
                    }
                }
            };
            let (tx, heard) = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
            bob.stack.respond(tx, answer(&heard, 200, "bob")).await.unwrap();
            assert!(receive(&good).await.starts_with("SIP/2.0 200 OK"));
            answered += 1;
        }
    }
    assert_eq!(answered, 5);
    let mut buffer = [0; 2048];
    let mut answers = 0;
    while flooder.try_recv(&mut buffer).is_ok() {
        answers += 1;
    }
    assert!(
        answers > 0 && answers < 2000,
        "{answers} answers to 10000 malformed requests"
    );
    bob.stop().await;
}

#[tokio::test]
async fn what_keeps_a_nats_binding_open_is_no_error() {
    let bob = Side::on(&[Transport::Udp]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for octets in [&b""[..], b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\r\n"] {
        socket.send_to(octets, bob.bound(0)).await.unwrap();
    }
    socket.send_to(b"hello", bob.bound(0)).await.unwrap();
    let (raw, _) = bob.expect_parse_error().await;
    assert_eq!(raw, "hello", "the first that is reported");
    bob.stop().await;
}

#[tokio::test]
async fn a_message_too_long_for_a_datagram_ends_its_transaction_with_advice() {
    let (alice, bob) = (
        Side::on(&[Transport::Udp]).await,
        Side::on(&[Transport::Udp]).await,
    );
    let long = request(Method::Message, bob.uri(0)).with_body("text/plain", vec![b'x'; 66_000]);
    let tx = alice.send(long, Route::by_request()).await.unwrap();
    let TxEnd::Transport(why) = alice.hears.expect_ended(tx).await else {
        panic!("another end")
    };
    assert!(why.contains("use TCP"), "{why}");
    // Nobody listens there, and the system says so to whoever reads the socket next.
    let nobody = SipUri::from_addr(SocketAddr::from(([127, 0, 0, 1], 9)));
    alice
        .send(request(Method::Options, nobody), Route::by_request())
        .await
        .unwrap();
    alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    alice.stop().await;
    bob.stop().await;
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
    let both = [Transport::Udp, Transport::Tcp];
    let (alice, bob) = home.block_on(async { (Side::on(&both).await, Side::on(&both).await) });
    for number in [0, 1] {
        let asking = single();
        let to = SipUri {
            host: "localhost".parse().unwrap(),
            ..bob.uri(number)
        };
        asking
            .block_on(alice.send(request(Method::Invite, to), Route::by_request()))
            .unwrap();
        // The runtime of the caller may be gone before the transaction is.
        drop(asking);
        single().block_on(async {
            let (served, heard, _) = bob.hears.expect_request(Method::Invite).await;
            bob.stack
                .respond(served, answer(&heard, 486, "bob"))
                .await
                .unwrap();
            alice.hears.expect_response(486).await;
            assert_eq!(bob.hears.expect_ended(served).await, TxEnd::Done);
        });
    }
    single().block_on(alice.stop());
    single().block_on(bob.stop());
}

#[tokio::test]
async fn shutdown_waits_for_what_is_running_as_long_as_it_may() {
    let (alice, bob) = (
        Side::on(&[Transport::Udp]).await,
        Side::on(&[Transport::Udp]).await,
    );
    alice
        .send(request(Method::Options, bob.uri(0)), Route::by_request())
        .await
        .unwrap();
    let (served, heard, _) = bob.hears.expect_request(Method::Options).await;
    let closing = tokio::spawn({
        let alice = alice.stack.clone();
        async move { alice.shutdown(Duration::from_secs(30)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Nothing new begins meanwhile.
    bob.send(request(Method::Options, alice.uri(0)), Route::by_request())
        .await
        .unwrap();
    bob.hears.expect_response(503).await;
    assert!(!closing.is_finished());
    bob.stack
        .respond(served, answer(&heard, 200, "bob"))
        .await
        .unwrap();
    alice.hears.expect_response(200).await;
    closing.await.unwrap();
    bob.stop().await;
}

struct Panicking;

impl siprtc_sip_stack::MessageParser for Panicking {
    fn parse(
        &self,
        message: &bytes::Bytes,
        limits: &siprtc_core::sip::Limits,
    ) -> siprtc_core::Result<siprtc_core::sip::SipMessage> {
        assert!(!message.ends_with(b"panic"), "as asked for");
        siprtc_core::sip::SipMessage::parse(message, limits)
    }
}

#[tokio::test]
async fn a_parser_that_panics_makes_no_socket_deaf() {
    let hears = RecordingSink::new();
    let config = on(&[Transport::Udp]);
    let stack = siprtc_sip_stack::start("test", std::sync::Arc::new(Panicking), &[], config, hears.clone());
    let bob = Side {
        stack: stack.await.unwrap(),
        hears,
        ids: siprtc_core::sip::TxIds::new(siprtc_core::sip::TxOwner::user(1)),
    };
    let alice = Side::on(&[Transport::Udp]).await;
    let deadly =
        from_stranger(Method::Message, Transport::Udp, bob.bound(0)).with_body("text/plain", "panic");
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&deadly.to_bytes(), bob.bound(0)).await.unwrap();
    assert!(
        receive(&socket)
            .await
            .starts_with("SIP/2.0 400 the parser panicked")
    );
    bob.expect_parse_error().await;
    alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    alice.stop().await;
    bob.stop().await;
}

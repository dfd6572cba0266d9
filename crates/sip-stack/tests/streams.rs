//! TCP: what peers get wrong, connections that are slow, idle or too many, keepalives and flows.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod common;

use common::{Side, from_stranger, listen, on, read_until, talk};
use siprtc_core::Fault;
use siprtc_core::sip::{Keepalive, Limits, Method, Route, SipUri, StackConfig, StackEvent, Transport, TxEnd};
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_peer_that_speaks_another_protocol_is_told_apart_and_closed() {
    let bob = Side::on(&[Transport::Tcp]).await;
    for (octets, word) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no SIP"),
    ] {
        assert_eq!(
            talk(bob.bound(0), octets).await,
            "",
            "nothing that they would understand"
        );
        let (raw, error) = bob.expect_parse_error().await;
        assert!(octets.starts_with(&raw), "{raw:?}");
        assert!(error.contains(word), "{error}");
        let (_, reason) = bob.expect_flow_down().await;
        assert!(reason.contains(word), "{reason}");
    }
    bob.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_framed_is_answered_and_its_connection_closed() {
    let bob = Side::start(StackConfig {
        limits: Limits {
            message: 4000,
            ..Limits::default()
        },
        ..on(&[Transport::Tcp])
    })
    .await;
    let whole = from_stranger(Method::Message, Transport::Tcp, bob.bound(0)).to_bytes();
    let whole = String::from_utf8_lossy(&whole).into_owned();
    let padding = format!("\r\nX: {}\r\n", "x".repeat(100));
    for (length, status) in [
        (padding.clone(), "SIP/2.0 400 Content-Length is missing"),
        (
            format!("{padding}Content-Length: many\r\n"),
            "SIP/2.0 400 Content-Length is no number",
        ),
        (
            format!("{padding}Content-Length: 5000\r\n"),
            "SIP/2.0 513 a message is longer than 4000",
        ),
    ] {
        let text = whole.replace("\r\nContent-Length: 0\r\n", &length);
        let answer = talk(bob.bound(0), text.as_bytes()).await;
        assert!(answer.starts_with(status), "{answer}");
        assert_eq!(answer.matches("SIP/2.0 ").count(), 1, "one answer: {answer}");
        bob.expect_parse_error().await;
        bob.expect_flow_down().await;
    }
    bob.stop().await;
}

#[tokio::test]
async fn a_malformed_message_whose_length_is_known_costs_its_connection_nothing() {
    let bob = Side::on(&[Transport::Tcp]).await;
    let good = from_stranger(Method::Options, Transport::Tcp, bob.bound(0)).to_bytes();
    let mut bad = from_stranger(Method::Options, Transport::Tcp, bob.bound(0));
    bad.headers.set("CSeq", "1 BYE");
    bad.headers.push("X-Room-For-A-Reason", "x".repeat(100));
    let mut stream = TcpStream::connect(bob.bound(0)).await.unwrap();
    stream
        .write_all(&[&bad.to_bytes()[..], &good].concat())
        .await
        .unwrap();
    let (_, error) = bob.expect_parse_error().await;
    assert!(error.contains("CSeq"), "{error}");
    let (served, heard, _) = bob.hears.expect_request(Method::Options).await;
    bob.stack
        .respond(served, answer(&heard, 200, "bob"))
        .await
        .unwrap();
    let answers = read_until(&mut stream, |text| text.contains("SIP/2.0 200 OK")).await;
    assert!(
        answers.starts_with("SIP/2.0 400 the CSeq says BYE, but the method is OPTIONS\r\n"),
        "{answers}"
    );
    bob.stop().await;
}

#[tokio::test]
async fn messages_arrive_whole_however_they_are_split_and_joined() {
    let bob = Side::on(&[Transport::Tcp]).await;
    let requests: Vec<_> = (0..20)
        .map(|n| {
            let body = "b\r\n".repeat(n * 7);
            from_stranger(Method::Message, Transport::Tcp, bob.bound(0)).with_body("text/plain", body)
        })
        .collect();
    let octets: Vec<u8> = requests.iter().flat_map(|request| request.to_bytes()).collect();
    let mut stream = TcpStream::connect(bob.bound(0)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in octets.chunks(97) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(&octets).await.unwrap();
    for asked in &requests {
        let (_, heard, _) = bob.hears.expect_request(Method::Message).await;
        assert_eq!(heard.body, asked.body);
        assert_eq!(heard.headers.value("Call-ID"), asked.headers.value("Call-ID"));
    }
    // The second time they are copies.
    bob.hears.expect_silence(Duration::from_millis(50)).await;
    bob.stop().await;
}

#[tokio::test]
async fn pings_are_answered_and_pongs_are_told() {
    let (alice, bob) = (
        Side::on(&[Transport::Tcp]).await,
        Side::on(&[Transport::Tcp]).await,
    );
    let (flow, _) = alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    for _ in 0..2 {
        bob.stack.keepalive(flow.id, Keepalive::Crlf).await.unwrap();
        assert_eq!(bob.expect_keepalive_answered().await, (flow.id, None));
    }
    let stun = bob.stack.keepalive(flow.id, Keepalive::Stun).await.unwrap_err();
    assert_eq!(stun.fault(), Fault::Unsupported);
    alice.ask(&bob, bob.uri(0), Route::by_request()).await;

    let mut bare = TcpStream::connect(bob.bound(0)).await.unwrap();
    for ping in [&b"\r\n\r\n"[..], b"\r", b"\n\r", b"\n"] {
        bare.write_all(ping).await.unwrap();
    }
    assert_eq!(
        read_until(&mut bare, |text| text.len() == 4).await,
        "\r\n\r\n",
        "a CRLF for each ping"
    );
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_flow_of_its_own_is_made_and_closed_on_demand() {
    let (alice, bob) = (
        Side::on(&[Transport::Tcp]).await,
        Side::on(&[Transport::Tcp]).await,
    );
    let (shared, _, first) = alice.ask_and_see(&bob, bob.uri(0), Route::by_request()).await;
    let fresh = Route {
        fresh: true,
        ..Route::default()
    };
    let (own, _, second) = alice.ask_and_see(&bob, bob.uri(0), fresh).await;
    assert_ne!((shared.id, first.id), (own.id, second.id));
    assert_ne!(first.local, second.local);
    let (again, _) = alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    assert_eq!(again.id, shared.id);
    let (over, _) = alice.ask(&bob, bob.uri(0), Route::over(second.id)).await;
    assert_eq!(over.id, own.id);

    let under_way = alice
        .send(request(Method::Invite, bob.uri(0)), Route::over(second.id))
        .await
        .unwrap();
    bob.hears.expect_request(Method::Invite).await;
    alice.stack.close_flow(second.id).await.unwrap();
    assert!(matches!(
        alice.hears.expect_ended(under_way).await,
        TxEnd::Transport(_)
    ));
    assert_eq!(alice.expect_flow_down().await.0, second.id);
    assert_eq!(bob.expect_flow_down().await.0, own.id);
    let gone = alice.stack.close_flow(second.id).await.unwrap_err();
    assert!(gone.next_step().is_some());
    alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn an_answer_whose_connection_is_gone_goes_to_the_sent_by() {
    let bob = Side::on(&[Transport::Tcp]).await;
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sent_by = listening.local_addr().unwrap();
    let mut asked = request(Method::Options, bob.uri(0));
    asked
        .headers
        .push_front("Via", format_args!("SIP/2.0/TCP {sent_by};branch=z9hG4bKgone"));
    let mut stream = TcpStream::connect(bob.bound(0)).await.unwrap();
    stream.write_all(&asked.to_bytes()).await.unwrap();
    let (served, heard, _) = bob.hears.expect_request(Method::Options).await;
    drop(stream);
    bob.expect_flow_down().await;
    bob.stack
        .respond(served, answer(&heard, 200, "bob"))
        .await
        .unwrap();
    let (mut stream, _) = listening.accept().await.unwrap();
    let text = read_until(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
    assert!(text.starts_with("SIP/2.0 200 OK"), "{text}");
    bob.stop().await;
}

#[tokio::test]
async fn there_are_never_more_connections_than_allowed() {
    let few = StackConfig {
        max_connections: 2,
        ..on(&[Transport::Tcp])
    };
    let (alice, bob) = (Side::start(few.clone()).await, Side::start(few).await);
    let (first, _) = alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    let mut second = TcpStream::connect(bob.bound(0)).await.unwrap();
    second.write_all(b"\r\n\r\n").await.unwrap();
    read_until(&mut second, |text| text.len() == 2).await;
    assert_eq!(talk(bob.bound(0), b"").await, "", "the third is closed at once");
    // Those that are there go on.
    let (again, _) = alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    assert_eq!(first.id, again.id);
    let fresh = Route {
        fresh: true,
        ..Route::default()
    };
    let _to_bare = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bare = SipUri::from_addr(_to_bare.local_addr().unwrap()).with_transport(Transport::Tcp);
    alice
        .send(request(Method::Options, bare.clone()), Route::by_request())
        .await
        .unwrap();
    let out = alice
        .send(request(Method::Options, bare), fresh)
        .await
        .unwrap_err();
    assert_eq!(out.fault(), Fault::Backend);
    assert!(out.to_string().contains("max_connections"), "{out}");
    drop(second);
    bob.expect_flow_down().await;
    let mut third = TcpStream::connect(bob.bound(0)).await.unwrap();
    third.write_all(b"\r\n\r\n").await.unwrap();
    read_until(&mut third, |text| text.len() == 2).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_message_that_does_not_become_whole_and_a_connection_that_idles_are_closed_in_their_time() {
    let bob = Side::on(&[Transport::Tcp]).await;
    let mut slow = TcpStream::connect(bob.bound(0)).await.unwrap();
    let up = bob.expect_flow_up().await;
    slow.write_all(b"OPTIONS sip:a@b SIP/2.0\r\nVia: ").await.unwrap();
    // Longer than the time that it takes to arrive, in the clock of the wall.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = tokio::time::Instant::now();
    tokio::time::pause();
    let (id, reason) = bob.expect_flow_down().await;
    assert_eq!(id, up.id);
    assert!(reason.contains("whole for 30 s"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
    tokio::time::resume();

    let idle = TcpStream::connect(bob.bound(0)).await.unwrap();
    let up = bob.expect_flow_up().await;
    let begun = tokio::time::Instant::now();
    tokio::time::pause();
    // Longer than the sink of the tests waits.
    tokio::time::sleep(Duration::from_secs(3590)).await;
    assert!(bob.hears.try_next().is_none());
    let (id, reason) = bob.expect_flow_down().await;
    assert_eq!(id, up.id);
    assert!(
        reason.contains("nothing was sent or received for 3600 s"),
        "{reason}"
    );
    assert!(begun.elapsed() < Duration::from_secs(3605));
    drop((slow, idle));
    tokio::time::resume();
    bob.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up_and_the_others_are_served() {
    let (alice, bob) = (
        Side::on(&[Transport::Tcp]).await,
        Side::on(&[Transport::Tcp]).await,
    );
    let deaf = TcpStream::connect(bob.bound(0)).await.unwrap();
    let flow = bob.expect_flow_up().await;
    let large = request(Method::Message, bob.uri(0)).with_body("text/plain", vec![b'x'; 60_000]);
    let mut sent = Vec::new();
    loop {
        match bob.send(large.clone(), Route::over(flow.id)).await {
            Ok(tx) => sent.push(tx),
            Err(_) => break,
        }
        assert!(sent.len() < 2000, "nothing stops it");
    }
    for tx in sent {
        assert!(matches!(bob.hears.expect_ended(tx).await, TxEnd::Transport(_)));
    }
    let (id, reason) = bob.expect_flow_down().await;
    assert_eq!(id, flow.id);
    assert!(reason.contains("does not read"), "{reason}");
    alice.ask(&bob, bob.uri(0), Route::by_request()).await;
    drop(deaf);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_peer_that_reads_late_gets_all_of_it() {
    const MANY: usize = 300;
    let bob = Side::on(&[Transport::Tcp]).await;
    let mut late = TcpStream::connect(bob.bound(0)).await.unwrap();
    let flow = bob.expect_flow_up().await;
    let body = "x".repeat(12_000);
    for _ in 0..MANY {
        // Slowly enough that several are queued behind one that does not fit.
        tokio::task::yield_now().await;
        let message = request(Method::Message, bob.uri(0)).with_body("text/plain", body.clone());
        bob.send(message, Route::over(flow.id)).await.unwrap();
    }
    let mut octets = 0;
    let mut buffer = vec![0; 65_536];
    let reading = async {
        while octets < MANY * body.len() {
            octets += late.read(&mut buffer).await.unwrap();
        }
    };
    let read = tokio::time::timeout(common::PATIENCE, reading).await;
    assert!(read.is_ok(), "only {octets} octets came");
    bob.stop().await;
}

#[tokio::test]
async fn a_connection_that_dies_ends_what_runs_over_it_and_is_opened_anew() {
    let alice = Side::on(&[Transport::Tcp]).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = SipUri::from_addr(server.local_addr().unwrap()).with_transport(Transport::Tcp);
    for _ in 0..2 {
        let tx = alice
            .send(request(Method::Invite, to.clone()), Route::by_request())
            .await
            .unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        let mut octets = [0; 7];
        stream.read_exact(&mut octets).await.unwrap();
        assert_eq!(&octets, b"INVITE ");
        drop(stream);
        let TxEnd::Transport(why) = alice.hears.expect_ended(tx).await else {
            panic!("another end")
        };
        assert!(why.contains("the peer"), "{why}");
    }
    alice.stop().await;
}

#[tokio::test]
async fn a_closed_port_is_an_error_that_says_so() {
    let alice = Side::on(&[Transport::Tcp]).await;
    let nobody: SocketAddr = {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        taken.local_addr().unwrap()
    };
    let to = SipUri::from_addr(nobody).with_transport(Transport::Tcp);
    let error = alice
        .send(request(Method::Options, to), Route::by_request())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("nobody listens on TCP {nobody}")),
        "{error}"
    );
    assert!(error.next_step().is_some());
    assert!(
        alice.hears.try_next().is_none(),
        "a connection that never was does not go down"
    );
    alice.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let bob = Side::on(&[Transport::Tcp, Transport::Udp]).await;
    for (number, transport) in [(0, Transport::Tcp), (1, Transport::Udp)] {
        let taken = StackConfig {
            listeners: vec![listen(transport, &bob.bound(number).to_string())],
            ..StackConfig::default()
        };
        let error = common::try_start(taken, RecordingSink::new())
            .await
            .err()
            .unwrap();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        let text = error.to_string();
        assert!(
            text.contains(&format!("{transport} {} is taken", bob.bound(number)))
                && text.contains("another port"),
            "{text}"
        );
    }
    bob.stop().await;
}

#[tokio::test]
async fn a_dropped_stack_lets_go_of_its_ports_and_connections() {
    let bob = Side::on(&[Transport::Tcp, Transport::Udp]).await;
    let (tcp, udp) = (bob.bound(0), bob.bound(1));
    let mut stream = TcpStream::connect(tcp).await.unwrap();
    bob.expect_flow_up().await;
    drop(bob.stack);
    read_until(&mut stream, |_| false).await;
    let again = async {
        loop {
            if std::net::UdpSocket::bind(udp).is_ok() && TcpListener::bind(tcp).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(common::PATIENCE, again).await.is_ok());
    assert!(matches!(bob.hears.next().await, StackEvent::FlowDown { .. }));
}

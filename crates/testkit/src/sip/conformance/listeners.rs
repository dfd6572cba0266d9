//! Listeners: several at once, taken ports, and guests that speak something else or nothing.

use super::line::{Line, Port};
use super::{Network, Setting, config, hears, listener, respond, start_one};
use crate::sip::{RecordingSink, request};
use siprtc_core::Fault;
use siprtc_core::sip::{
    ListenerConfig, Method, Route, SipStack, SipUri, StackConfig, StackEvent, TxEnd, TxIds, TxOwner,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Listeners: several at once, taken ports, and guests that speak something else or nothing.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_listeners {
    ($then:ident $given:tt) => {
        $crate::$then! { $given listeners
            ipv4_and_ipv6_are_listened_on_at_once
                Pair [Udp Tcp] [Ipv6]
                "RFC 3261 18.1.1" "Two stacks with UDP and TCP listeners of both families reach each other over all four.";
            a_port_that_is_taken_is_an_error_that_names_it
                Alone [Udp Tcp Tls Ws] []
                "RFC 3261 18.2.1" "A stack that cannot bind does not start, and says which address was taken.";
            several_listeners_of_one_transport_are_told_apart
                Alone [Udp Tcp] []
                "RFC 3261 18.2.1" "A request is heard with the listener on which it came, and answered from there.";
            a_peer_that_speaks_http_harms_nobody
                Alone [Udp Tcp Tls] []
                "RFC 3261 18.3" "A GET at the SIP port is no request, and others are served.";
            a_connection_that_says_half_a_message_harms_nobody
                Alone [Tcp Tls Ws] []
                "RFC 3261 18.3" "Ten connections that stop in the middle of a message, or say nothing, do not hinder others.";
            a_connection_that_never_finishes_its_handshake_harms_nobody
                Alone [Tls Ws Wss] [OpenHandshakes]
                "RFC 3261 18.3" "Ten connections that begin no handshake, or half of one, do not hinder others.";
            more_connections_than_allowed_are_closed
                Alone [Tcp] [ConnectionLimit]
                "RFC 3261 18.2.1" "Beyond max_connections a connection is closed at once; those that stand are served.";
            a_server_that_accepts_and_says_nothing_is_a_time_out
                Alone [Tcp] []
                "RFC 3261 17.1.2.2" "Timer F ends a request to a peer that takes it and never answers.";
        }
    };
}

pub(super) async fn ipv4_and_ipv6_are_listened_on_at_once(on: Setting) {
    let everywhere = || StackConfig {
        listeners: [Network::Udp, Network::Udp6, Network::Tcp, Network::Tcp6]
            .map(listener)
            .to_vec(),
        ..config(on.network)
    };
    let (alice_hears, bob_hears) = (hears(), hears());
    let alice = start_one(&on.alice, everywhere(), alice_hears.clone()).await;
    let bob = start_one(&on.bob, everywhere(), bob_hears.clone()).await;
    let ids = TxIds::new(TxOwner::user(1));
    assert_eq!(bob.listeners().len(), 4);
    for listener in bob.listeners() {
        let to = SipUri::from_addr(listener.bound).with_transport(listener.transport);
        alice
            .send_request(ids.mint(), request(Method::Options, to), Route::by_request())
            .await
            .unwrap();
        let (served, heard, flow) = bob_hears.expect_request(Method::Options).await;
        assert_eq!((flow.transport, flow.local), (listener.transport, listener.bound));
        respond(&*bob, served, &heard, 200).await;
        alice_hears.expect_response(200).await;
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_port_that_is_taken_is_an_error_that_names_it(on: Setting) {
    let (_udp, _tcp);
    let bind = match on.network {
        Network::Udp => {
            _udp = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
            _udp.local_addr().unwrap()
        }
        _ => {
            _tcp = TcpListener::bind(on.network.loopback(0)).await.unwrap();
            _tcp.local_addr().unwrap()
        }
    };
    let taken = StackConfig {
        listeners: vec![ListenerConfig {
            bind,
            ..listener(on.network)
        }],
        ..config(on.network)
    };
    let error = on
        .alice
        .start(taken, hears())
        .await
        .err()
        .expect("it listens where somebody else does");
    assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
    assert!(
        error.next_step().is_some(),
        "an error says what to do next: {error}"
    );
    assert!(
        error.to_string().contains(&bind.port().to_string()),
        "which port? {error}"
    );
}

pub(super) async fn several_listeners_of_one_transport_are_told_apart(on: Setting) {
    let hears = hears();
    let three = StackConfig {
        listeners: vec![listener(on.network); 3],
        ..config(on.network)
    };
    let stack = start_one(&on.alice, three, hears.clone()).await;
    for (number, place) in stack.listeners().into_iter().enumerate() {
        let branch = format!("listener{number}");
        if on.network == Network::Udp {
            let socket = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
            // A connected socket hears nothing from another port.
            socket.connect(place.bound).await.unwrap();
            let mut options = request(Method::Options, SipUri::from_addr(place.bound));
            let sent_by = socket.local_addr().unwrap();
            options.headers.push_front(
                "Via",
                format_args!("SIP/2.0/UDP {sent_by};branch=z9hG4bK{branch};rport"),
            );
            options.headers.push("Max-Forwards", 70);
            socket.send(&options.to_bytes()).await.unwrap();
            serve(&*stack, &hears, place.bound).await;
            super::bare::receive(&socket).await;
        } else {
            let mut line = Line::to(on.network, place.bound).await;
            let options = line.request(Method::Options, place.bound, &branch);
            line.send(&options.to_bytes()).await;
            serve(&*stack, &hears, place.bound).await;
            line.expect_status(200).await;
        }
    }
    stack.shutdown(Duration::ZERO).await;
}

async fn serve(stack: &dyn SipStack, hears: &RecordingSink, at: SocketAddr) {
    let (served, heard, flow) = hears.expect_request(Method::Options).await;
    assert_eq!(flow.local, at);
    respond(stack, served, &heard, 200).await;
}

pub(super) async fn a_peer_that_speaks_http_harms_nobody(on: Setting) {
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    if on.network == Network::Udp {
        let socket = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
        socket.send_to(GET, to).await.unwrap();
        // The same socket talks SIP behind it.
        let bare = super::bare::Bare::at(stack, hears, socket).await;
        let options = bare.request(Method::Options, "http", bare.address(), ";rport");
        bare.send(&options.to_bytes()).await;
        serve_at_last(&*bare.stack, &bare.hears).await;
        bare.expect_status(200).await;
        bare.hears.expect_silence(Duration::from_millis(20)).await;
        return bare.stack.shutdown(Duration::ZERO).await;
    }
    let mut web = Line::to(on.network, to).await;
    web.send(GET).await;
    others_are_served(&on, &*stack, &hears).await;
    stack.shutdown(Duration::ZERO).await;
}

/// Somebody new is served; a peer before may have been reported as unreadable.
async fn others_are_served(on: &Setting, stack: &dyn SipStack, hears: &RecordingSink) {
    let to = stack.listeners()[0].bound;
    let mut line = Line::to(on.network, to).await;
    let options = line.request(Method::Options, to, "others");
    line.send(&options.to_bytes()).await;
    serve_at_last(stack, hears).await;
    line.expect_status(200).await;
}

/// As [`serve`], behind what may be told about an unreadable peer.
async fn serve_at_last(stack: &dyn SipStack, hears: &RecordingSink) {
    loop {
        match hears.next().await {
            StackEvent::Request { tx, request, .. } => {
                assert_eq!(request.method, Method::Options);
                return respond(stack, tx, &request, 200).await;
            }
            StackEvent::Response { response, .. } => panic!("an answer to nothing: {response:?}"),
            _ => (),
        }
    }
}

pub(super) async fn a_connection_that_says_half_a_message_harms_nobody(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    let mut stuck = Vec::new();
    for number in 0..10 {
        let mut line = Line::to(on.network, to).await;
        let whole = line.request(Method::Message, to, &format!("stuck{number}"));
        let whole = whole.with_body("text/plain", "never sent").to_bytes();
        let said = whole.len() * number / 10;
        if said > 0 {
            line.send(&whole[..said]).await;
        }
        stuck.push(line);
    }
    others_are_served(&on, &*stack, &hears).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_connection_that_never_finishes_its_handshake_harms_nobody(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    let mut stuck = Vec::new();
    for number in 0..10 {
        let mut tcp = TcpStream::connect(to).await.unwrap();
        // Half of a ClientHello, or of an HTTP request.
        let half: &[u8] = match on.network {
            Network::Ws => b"GET / HTTP/1.1\r\nUpgrade: webso",
            _ => &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
        };
        if number % 2 == 0 {
            tcp.write_all(half).await.unwrap();
        }
        stuck.push(tcp);
    }
    others_are_served(&on, &*stack, &hears).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn more_connections_than_allowed_are_closed(on: Setting) {
    const FEW: usize = 5;
    let hears = hears();
    let small = StackConfig {
        max_connections: FEW,
        ..config(on.network)
    };
    let stack = start_one(&on.alice, small, hears.clone()).await;
    let to = stack.listeners()[0].bound;
    let mut lines = Vec::new();
    for number in 0..FEW {
        let mut line = Line::to(on.network, to).await;
        let options = line.request(Method::Options, to, &format!("few{number}"));
        line.send(&options.to_bytes()).await;
        serve(&*stack, &hears, to).await;
        line.expect_status(200).await;
        lines.push(line);
    }
    let mut beyond = TcpStream::connect(to).await.unwrap();
    let closed = tokio::time::timeout(super::PATIENCE, beyond.read(&mut [0; 1])).await;
    assert!(
        !matches!(closed, Err(_) | Ok(Ok(1..))),
        "a connection too many stays open"
    );
    for (number, line) in lines.iter_mut().enumerate() {
        let options = line.request(Method::Options, to, &format!("more{number}"));
        line.send(&options.to_bytes()).await;
        serve(&*stack, &hears, to).await;
        line.expect_status(200).await;
    }
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_server_that_accepts_and_says_nothing_is_a_time_out(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let mut port = Port::open(on.network).await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    stack
        .send_request(tx, request(Method::Options, port.uri()), Route::by_request())
        .await
        .unwrap();
    let mut line = port.accept().await;
    line.expect(Method::Options).await;
    assert_eq!(hears.expect_ended(tx).await, TxEnd::TimedOut);
    stack.shutdown(Duration::ZERO).await;
}

//! WebSocket (RFC 7118).

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod common;

use bytes::Bytes;
use common::{
    PATIENCE, Side, authority, for_names, from_stranger, issue, listen, on, serving, talk, trusting,
};
use futures_util::{SinkExt, StreamExt};
use siprtc_core::Fault;
use siprtc_core::sip::{Host, Keepalive, Limits, Method, Route, SipMessage, SipUri, StackConfig, Transport};
use siprtc_testkit::sip::{answer, request};
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

type Socket = WebSocketStream<TcpStream>;

/// A browser.
async fn connect(to: SocketAddr, subprotocol: Option<&str>) -> Result<Socket, WsError> {
    let stream = TcpStream::connect(to).await.unwrap();
    let mut request = ClientRequestBuilder::new(format!("ws://{to}/ws").parse().unwrap());
    if let Some(subprotocol) = subprotocol {
        request = request.with_sub_protocol(subprotocol);
    }
    client_async(request, stream).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

fn parsed(message: Message) -> SipMessage {
    SipMessage::parse(&message.into_data(), &Limits::default()).unwrap()
}

#[tokio::test]
async fn a_handshake_without_the_subprotocol_is_refused() {
    let bob = Side::on(&[Transport::Ws]).await;
    for subprotocol in [None, Some("msrp")] {
        match connect(bob.bound(0), subprotocol).await {
            Err(WsError::Http(refusal)) => {
                assert_eq!(refusal.status(), 400);
                let body = refusal.into_body().unwrap();
                assert!(String::from_utf8_lossy(&body).contains("subprotocol sip"));
            }
            other => panic!("{subprotocol:?}: {other:?}"),
        }
    }
    connect(bob.bound(0), Some("sip")).await.unwrap();
    // SIP without a WebSocket.
    assert_eq!(talk(bob.bound(0), b"OPTIONS sip:a@b SIP/2.0\r\n\r\n").await, "");
    bob.stop().await;
}

#[tokio::test]
async fn a_browser_without_an_address_is_asked_and_answered_over_its_own_connection() {
    let bob = Side::on(&[Transport::Ws]).await;
    let mut browser = connect(bob.bound(0), Some("sip")).await.unwrap();
    for binary in [false, true] {
        let mut asked = request(Method::Options, bob.uri(0));
        asked.headers.push_front(
            "Via",
            format_args!("SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK{binary}"),
        );
        // Without Content-Length: the frame says how long it is.
        let text = String::from_utf8(asked.to_bytes().to_vec())
            .unwrap()
            .replace("Content-Length: 0\r\n", "");
        let frame = match binary {
            true => Message::Binary(text.into()),
            false => Message::text(text),
        };
        browser.send(frame).await.unwrap();
        let (served, heard, flow) = bob.hears.expect_request(Method::Options).await;
        assert_eq!(flow.transport, Transport::Ws);
        let via = heard.headers.top_via().unwrap();
        assert_eq!(via.params.value("received"), Some("127.0.0.1"));
        bob.stack
            .respond(served, answer(&heard, 200, "bob"))
            .await
            .unwrap();
        let frame = next(&mut browser).await;
        assert!(frame.is_text(), "one message in each frame, and UTF-8 is text");
        assert!(matches!(parsed(frame), SipMessage::Response(r) if r.status == 200));

        let contact: SipUri = "sip:browser@df7jal23ls0d.invalid;transport=ws".parse().unwrap();
        let tx = bob
            .send(request(Method::Message, contact), Route::over(flow.id))
            .await
            .unwrap();
        let SipMessage::Request(asked) = parsed(next(&mut browser).await) else {
            panic!("no request")
        };
        let via = asked.headers.top_via().unwrap();
        assert_eq!(
            (via.known_transport(), via.host, via.port),
            (
                Some(Transport::Ws),
                Host::Ip(bob.bound(0).ip()),
                Some(bob.bound(0).port())
            )
        );
        browser
            .send(Message::binary(answer(&asked, 202, "b").to_bytes()))
            .await
            .unwrap();
        assert_eq!(bob.hears.expect_response(202).await.0, tx);
    }
    bob.stop().await;
}

#[tokio::test]
async fn octets_that_are_no_utf8_travel_in_a_binary_frame() {
    let bob = Side::on(&[Transport::Ws]).await;
    let mut browser = connect(bob.bound(0), Some("sip")).await.unwrap();
    let flow = bob.expect_flow_up().await;
    let latin = request(Method::Message, bob.uri(0)).with_body("text/plain", &b"caf\xe9"[..]);
    bob.send(latin, Route::over(flow.id)).await.unwrap();
    let frame = next(&mut browser).await;
    assert!(frame.is_binary());
    assert!(matches!(parsed(frame), SipMessage::Request(request) if request.body == b"caf\xe9"[..]));
    bob.stop().await;
}

#[tokio::test]
async fn pings_of_both_kinds_are_answered_and_pongs_are_told() {
    let bob = Side::on(&[Transport::Ws]).await;
    let mut browser = connect(bob.bound(0), Some("sip")).await.unwrap();
    let flow = bob.expect_flow_up().await;
    browser
        .send(Message::Ping(Bytes::from_static(b"x")))
        .await
        .unwrap();
    assert!(matches!(next(&mut browser).await, Message::Pong(content) if content == "x"));
    browser.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(next(&mut browser).await.into_data(), "\r\n");
    bob.stack.keepalive(flow.id, Keepalive::Crlf).await.unwrap();
    assert_eq!(next(&mut browser).await.into_data(), "\r\n\r\n");
    browser.send(Message::text("\r\n")).await.unwrap();
    assert_eq!(bob.expect_keepalive_answered().await, (flow.id, None));
    browser.close(None).await.unwrap();
    assert_eq!(bob.expect_flow_down().await.0, flow.id);
    bob.stop().await;
}

#[tokio::test]
async fn a_frame_that_is_no_sip_is_answered_or_told_and_one_that_is_too_long_ends_the_connection() {
    let bob = Side::start(StackConfig {
        limits: Limits {
            message: 2000,
            ..Limits::default()
        },
        ..on(&[Transport::Ws])
    })
    .await;
    let mut browser = connect(bob.bound(0), Some("sip")).await.unwrap();
    browser.send(Message::text("hello")).await.unwrap();
    bob.expect_parse_error().await;
    let mut bad = from_stranger(Method::Options, Transport::Ws, bob.bound(0));
    bad.headers.set("Max-Forwards", "many");
    bad.headers.push("X-Room", "x".repeat(100));
    browser.send(Message::binary(bad.to_bytes())).await.unwrap();
    assert!(matches!(parsed(next(&mut browser).await), SipMessage::Response(r) if r.status == 400));
    browser.send(Message::text("x".repeat(2001))).await.unwrap();
    bob.expect_flow_down().await;
    bob.stop().await;
}

#[tokio::test]
async fn our_own_client_names_no_address_and_goes_on_over_its_connection() {
    let ca = authority("house");
    let bob = Side::start(StackConfig {
        listeners: vec![
            listen(Transport::Ws, "127.0.0.1:0"),
            listen(Transport::Wss, "127.0.0.1:0"),
        ],
        tls: serving(issue(&ca, &for_names(&["pbx.example.com"]))),
        ..StackConfig::default()
    })
    .await;
    let alice = Side::start(StackConfig {
        tls: trusting(&ca),
        ..on(&[Transport::Udp])
    })
    .await;
    let named = |name: &str| Route {
        server_name: Some(name.to_owned()),
        ..Route::default()
    };
    for (listener, transport) in [(0, Transport::Ws), (1, Transport::Wss)] {
        let (flow, heard) = alice.ask(&bob, bob.uri(listener), named("pbx.example.com")).await;
        assert_eq!(flow.transport, transport);
        let via = heard.headers.top_via().unwrap();
        assert_eq!(via.known_transport(), Some(transport));
        let Host::Name(host) = via.host else {
            panic!("an address")
        };
        assert!(host.ends_with(".invalid") && host.len() > 20, "{host}");
        let (again, _) = alice.ask(&bob, bob.uri(listener), named("pbx.example.com")).await;
        assert_eq!(again.id, flow.id);
        // In-dialog requests of Bob's go back over it.
        let back: SipUri = "sip:alice@nowhere.invalid;transport=ws".parse().unwrap();
        bob.ask(&alice, back, Route::over(flow.id)).await;
    }
    // What stands behind the name's slash is the path, and no part of the certificate's name.
    alice.ask(&bob, bob.uri(1), named("pbx.example.com/ws")).await;
    let wrong = alice
        .send(request(Method::Options, bob.uri(1)), named("other.example.com"))
        .await
        .unwrap_err();
    assert!(wrong.to_string().contains("is for pbx.example.com"), "{wrong}");
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn our_own_client_asks_for_the_subprotocol_the_path_and_the_host_and_wants_the_subprotocol() {
    let alice = Side::on(&[Transport::Udp]).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = server.local_addr().unwrap();
    for agrees in [true, false] {
        let to = SipUri::from_addr(at).with_transport(Transport::Ws);
        let route = Route {
            server_name: Some("pbx.example.com/sip/ws".to_owned()),
            fresh: true,
            ..Route::default()
        };
        let serving = async {
            let (stream, _) = server.accept().await.unwrap();
            let mut seen = None;
            #[allow(clippy::result_large_err, reason = "the handshake's callback is made so")]
            let look = |request: &Request, mut response: Response| {
                let field = |name| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
                seen = Some((
                    request.uri().to_string(),
                    field("Host"),
                    field("Sec-WebSocket-Protocol"),
                ));
                if agrees {
                    response
                        .headers_mut()
                        .insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
                }
                Ok(response)
            };
            let socket = accept_hdr_async(stream, look).await.unwrap();
            (socket, seen.unwrap())
        };
        let (sent, (_socket, seen)) = tokio::join!(alice.send(request(Method::Options, to), route), serving);
        assert_eq!(seen.1, format!("pbx.example.com:{}", at.port()));
        assert_eq!((seen.0.as_str(), seen.2.as_str()), ("/sip/ws", "sip"));
        match sent {
            Ok(_) => assert!(agrees),
            Err(error) => {
                assert!(!agrees, "{error}");
                assert_eq!(error.fault(), Fault::PeerIncompatible);
                assert!(error.to_string().contains("subprotocol"), "{error}");
            }
        }
    }
    alice.stop().await;
}

//! WebSocket, RFC 7118.

use super::line::{Line, Port};
use super::{Network, Setting, config, hears, listener, respond, start_one, why_not};
use crate::sip::{RecordingSink, answer, request};
use futures_util::StreamExt;
use siprtc_core::sip::{
    Host, Keepalive, Method, Route, SipRequest, SipStack, SipUri, StackConfig, StackEvent, TxIds, TxOwner,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// WebSocket, RFC 7118.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_websocket {
    ($then:ident $given:tt) => {
        $crate::$then! { $given websocket
            a_client_behind_a_websocket_has_an_invalid_host_in_its_via
                Alone [Ws Wss] []
                "RFC 7118 5.1" "A stack that only connects writes a Via whose host ends in .invalid, and hears its answer.";
            a_request_reaches_a_client_over_the_websocket_that_it_opened
                Alone [Ws Wss] []
                "RFC 7118 5.2" "A request on the flow of an earlier one is heard, and answered on the same WebSocket.";
            a_dialog_behind_a_websocket_keeps_to_it
                Alone [Ws Wss] []
                "RFC 7118 5.2" "INVITE, 200, ACK and a BYE from the server's side share one WebSocket.";
            a_handshake_without_the_subprotocol_is_refused
                Alone [Ws] []
                "RFC 7118 4.1" "A listener does not agree to a WebSocket that does not offer the subprotocol sip.";
            a_server_that_does_not_agree_to_the_subprotocol_is_refused
                Alone [Ws] []
                "RFC 7118 4.1" "A connection whose server does not confirm the subprotocol sip is not used.";
            text_and_binary_frames_are_both_read
                Alone [Ws Wss] []
                "RFC 7118 4.2" "A SIP message may arrive in a text frame or in a binary one.";
            a_ping_is_answered_with_a_pong
                Alone [Ws Wss] []
                "RFC 6455 5.5.2" "A ping of the peer is answered, and SIP goes on.";
            a_keepalive_goes_over_a_websocket
                Alone [Ws Wss] [KeepaliveAnswers]
                "RFC 7118 6" "A CRLF keepalive is sent in a frame of its own, and its pong is told.";
        }
    };
}

/// A stack that listens on UDP alone, and a WebSocket server of the kit's.
struct Client {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    port: Port,
    ids: TxIds,
}

impl Client {
    async fn start(on: &Setting) -> Self {
        let hears = hears();
        let config = StackConfig {
            listeners: vec![listener(Network::Udp)],
            ..config(on.network)
        };
        Client {
            stack: start_one(&on.alice, config, hears.clone()).await,
            hears,
            port: Port::open(on.network).await,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    /// An answered OPTIONS; the WebSocket that it has opened.
    async fn connect(&mut self) -> Line {
        let asked = request(Method::Options, self.port.uri());
        let tx = self.ids.mint();
        let sent = self.stack.send_request(tx, asked, Route::by_request()).await;
        sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
        let mut line = self.port.accept().await;
        let heard = line.expect(Method::Options).await;
        line.send(&answer(&heard, 200, "far").to_bytes()).await;
        let (answered, _) = self.hears.expect_response(200).await;
        assert_eq!(answered, tx);
        line
    }
}

pub(super) async fn a_client_behind_a_websocket_has_an_invalid_host_in_its_via(on: Setting) {
    let mut client = Client::start(&on).await;
    let tx = client.ids.mint();
    let asked = request(Method::Register, client.port.uri());
    let sent = client.stack.send_request(tx, asked, Route::by_request()).await;
    sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
    let mut line = client.port.accept().await;
    let heard = line.expect(Method::Register).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(via.known_transport(), Some(on.network.transport()));
    let invalid = matches!(&via.host, Host::Name(name) if name.ends_with(".invalid"));
    assert!(invalid, "a Via of {}, which nobody can reach", via.host);
    line.send(&answer(&heard, 200, "far").to_bytes()).await;
    let (answered, _) = client.hears.expect_response(200).await;
    assert_eq!(answered, tx);
    client.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_request_reaches_a_client_over_the_websocket_that_it_opened(on: Setting) {
    let mut client = Client::start(&on).await;
    let mut line = client.connect().await;
    let back = line.request(Method::Message, client.port.address(), "back");
    line.send(&back.to_bytes()).await;
    let (served, heard, _) = client.hears.expect_request(Method::Message).await;
    respond(&*client.stack, served, &heard, 200).await;
    line.expect_status(200).await;
    client.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_dialog_behind_a_websocket_keeps_to_it(on: Setting) {
    let mut client = Client::start(&on).await;
    let mut line = client.connect().await;
    client
        .stack
        .send_request(
            client.ids.mint(),
            request(Method::Invite, client.port.uri()),
            Route::by_request(),
        )
        .await
        .unwrap();
    let invite = line.expect(Method::Invite).await;
    line.send(&answer(&invite, 200, "far").to_bytes()).await;
    let (_, ok) = client.hears.expect_response(200).await;
    let mut ack = SipRequest::new(Method::Ack, client.port.uri());
    ack.headers.copy_from(&invite.headers, "From");
    ack.headers.copy_from(&ok.headers, "To");
    ack.headers.copy_from(&invite.headers, "Call-ID");
    ack.headers.push("CSeq", "1 ACK");
    client.stack.send_ack(ack, Route::by_request()).await.unwrap();
    line.expect(Method::Ack).await;
    let bye = line.request(Method::Bye, client.port.address(), "bye");
    line.send(&bye.to_bytes()).await;
    let (served, heard, _) = client.hears.expect_request(Method::Bye).await;
    respond(&*client.stack, served, &heard, 200).await;
    line.expect_status(200).await;
    client.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_handshake_without_the_subprotocol_is_refused(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    for offer in ["", "Sec-WebSocket-Protocol: chat\r\n"] {
        let mut tcp = TcpStream::connect(to).await.unwrap();
        let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let ask = format!(
            "GET / HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}{offer}\r\n"
        );
        tcp.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(super::PATIENCE, tcp.read_exact(&mut answer)).await;
        let agreed = matches!(read, Ok(Ok(_))) && answer.starts_with(b"HTTP/1.1 101");
        assert!(!agreed, "it agreed to a WebSocket that offers {offer:?}");
    }
    // One that offers it among others.
    let mut line = Line::to(on.network, to).await;
    let options = line.request(Method::Options, to, "agreed");
    line.send(&options.to_bytes()).await;
    let (served, heard, _) = hears.expect_request(Method::Options).await;
    respond(&*stack, served, &heard, 200).await;
    line.expect_status(200).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_server_that_does_not_agree_to_the_subprotocol_is_refused(on: Setting) {
    let client = Client::start(&on).await;
    let rude = TcpListener::bind(on.network.loopback(0)).await.unwrap();
    let to = SipUri::from_addr(rude.local_addr().unwrap()).with_transport(on.network.transport());
    let agree_to_anything = async {
        loop {
            let (tcp, _) = rude.accept().await.unwrap();
            if let Ok(mut socket) = tokio_tungstenite::accept_async(tcp).await
                && let Some(Ok(message)) = socket.next().await
            {
                assert!(
                    message.into_data().is_empty(),
                    "the request was sent all the same"
                );
            }
        }
    };
    let asked = request(Method::Options, to);
    tokio::select! {
        _ = why_not(&*client.stack, &client.hears, asked, Route::by_request()) => (),
        () = agree_to_anything => unreachable!("BUG: it never ends"),
    }
    client.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn text_and_binary_frames_are_both_read(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    let mut line = Line::to(on.network, to).await;
    for (text, branch) in [(true, "text"), (false, "binary"), (true, "again")] {
        let octets = line
            .request(Method::Message, to, branch)
            .with_body("text/plain", "caf\u{e9}")
            .to_bytes();
        match text {
            true => line.send_text(std::str::from_utf8(&octets).unwrap()).await,
            false => line.send(&octets).await,
        }
        let (served, heard, _) = hears.expect_request(Method::Message).await;
        assert_eq!(heard.body, "caf\u{e9}".as_bytes());
        respond(&*stack, served, &heard, 200).await;
        line.expect_status(200).await;
    }
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_ping_is_answered_with_a_pong(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    let mut line = Line::to(on.network, to).await;
    line.ping().await;
    let options = line.request(Method::Options, to, "pinged");
    line.send(&options.to_bytes()).await;
    let (served, heard, _) = hears.expect_request(Method::Options).await;
    respond(&*stack, served, &heard, 200).await;
    line.expect_status(200).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_keepalive_goes_over_a_websocket(on: Setting) {
    let mut client = Client::start(&on).await;
    let asked = request(Method::Options, client.port.uri());
    let sent = client
        .stack
        .send_request(client.ids.mint(), asked, Route::by_request())
        .await;
    sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
    let mut line = client.port.accept().await;
    let heard = line.expect(Method::Options).await;
    line.send(&answer(&heard, 200, "far").to_bytes()).await;
    let flow = loop {
        if let StackEvent::Response { flow, .. } = client.hears.next().await {
            break flow.expect("an answer that came on no flow").id;
        }
    };
    client.stack.keepalive(flow, Keepalive::Crlf).await.unwrap();
    assert_eq!(line.octets().await.as_deref(), Some(&b"\r\n\r\n"[..]));
    line.send(b"\r\n").await;
    loop {
        match client.hears.next().await {
            StackEvent::KeepaliveAnswered { flow: answered, .. } => break assert_eq!(answered, flow),
            StackEvent::FlowUp(_) | StackEvent::TxEnded { .. } => (),
            other => panic!("expected a pong, but came {other:?}"),
        }
    }
    client.stack.shutdown(Duration::ZERO).await;
}

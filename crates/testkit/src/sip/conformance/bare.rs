//! A peer that is only a UDP socket.

use super::{PATIENCE, Setting, config, hears, start_one};
use crate::sip::{RecordingSink, request};
use bytes::Bytes;
use siprtc_core::sip::{
    Limits, Method, SipMessage, SipRequest, SipResponse, SipStack, SipUri, TxIds, TxOwner,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// One stack with short timers, and a bare socket that talks with it.
pub(super) struct Bare {
    pub(super) stack: Arc<dyn SipStack>,
    pub(super) hears: Arc<RecordingSink>,
    pub(super) socket: UdpSocket,
    pub(super) ids: TxIds,
}

impl Bare {
    pub(super) async fn start(on: &Setting) -> Self {
        let hears = hears();
        let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
        let socket = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
        Bare::at(stack, hears, socket).await
    }

    /// A stack that runs already, and a socket that from now on talks with it only.
    pub(super) async fn at(stack: Arc<dyn SipStack>, hears: Arc<RecordingSink>, socket: UdpSocket) -> Self {
        socket.connect(stack.listeners()[0].bound).await.unwrap();
        Bare {
            stack,
            hears,
            socket,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A request to the stack with a Via of `sent_by`.
    pub(super) fn request(
        &self,
        method: Method,
        branch: &str,
        sent_by: SocketAddr,
        rport: &str,
    ) -> SipRequest {
        let mut request = request(method, SipUri::from_addr(self.stack.listeners()[0].bound));
        request.headers.push_front(
            "Via",
            format_args!("SIP/2.0/UDP {sent_by}{rport};branch=z9hG4bK{branch}"),
        );
        request.headers.push("Max-Forwards", 70);
        request
    }

    pub(super) async fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).await.unwrap();
    }

    pub(super) async fn next(&self) -> SipMessage {
        receive(&self.socket).await
    }

    /// The next message must be a response with `status`, but for a 100 that the stack sends by itself.
    pub(super) async fn expect_status(&self, status: u16) -> SipResponse {
        loop {
            match self.next().await {
                SipMessage::Response(response) if response.status == status => return response,
                SipMessage::Response(response) if response.status == 100 => (),
                other => panic!("expected a {status}, but came {other:?}"),
            }
        }
    }

    pub(super) async fn expect(&self, method: Method) -> SipRequest {
        match self.next().await {
            SipMessage::Request(request) if request.method == method => request,
            other => panic!("expected a {method}, but came {other:?}"),
        }
    }

    /// The ACK of a non-2xx (RFC 3261 section 17.1.1.3), behind copies of the INVITE that were under way already.
    pub(super) async fn expect_ack_behind_copies(&self, invite: &SipRequest) {
        loop {
            match self.next().await {
                SipMessage::Request(ack) if ack.method == Method::Ack => {
                    assert_eq!(ack.headers.value("Via"), invite.headers.value("Via"));
                    assert_eq!(ack.headers.to().unwrap().tag(), Some("bare"));
                    return;
                }
                SipMessage::Request(copy) => assert_eq!(copy, *invite),
                SipMessage::Response(response) => panic!("an answer to nothing: {response:?}"),
            }
        }
    }

    /// Forgets what has arrived already.
    pub(super) fn drain(&self) {
        let mut buffer = [0; 2048];
        while self.socket.try_recv(&mut buffer).is_ok() {}
    }

    pub(super) async fn expect_silence(&self, time: Duration) {
        let mut buffer = [0; 2048];
        if let Ok(heard) = tokio::time::timeout(time, self.socket.recv(&mut buffer)).await {
            let text = String::from_utf8_lossy(&buffer[..heard.unwrap()]).into_owned();
            panic!("expected silence for {time:?}, but came {text}");
        }
    }
}

pub(super) async fn receive(socket: &UdpSocket) -> SipMessage {
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = received
        .unwrap_or_else(|_| panic!("no datagram in {PATIENCE:?}"))
        .unwrap();
    let datagram = Bytes::copy_from_slice(&buffer[..length]);
    SipMessage::parse(&datagram, &Limits::default()).unwrap_or_else(|error| panic!("{error}: {datagram:?}"))
}

/// As [`receive`], on a socket that talks with whoever speaks to it first.
pub(super) async fn receive_and_connect(socket: &UdpSocket) -> SipMessage {
    if socket.peer_addr().is_err() {
        let mut buffer = [0; 1];
        let first = tokio::time::timeout(PATIENCE, socket.peek_from(&mut buffer)).await;
        let (_, from) = first
            .unwrap_or_else(|_| panic!("no datagram in {PATIENCE:?}"))
            .unwrap();
        socket.connect(from).await.unwrap();
    }
    receive(socket).await
}

pub(super) fn answer_bytes(request: &SipRequest, status: u16) -> Bytes {
    crate::sip::answer(request, status, "bare").to_bytes()
}

/// RFC 3261 section 17.1.1.3.
pub(super) fn ack_of(invite: &SipRequest, response: &SipResponse) -> Bytes {
    let mut ack = SipRequest::new(Method::Ack, invite.uri.clone());
    ack.headers.copy_from(&invite.headers, "Via");
    ack.headers.copy_from(&invite.headers, "From");
    ack.headers.copy_from(&response.headers, "To");
    ack.headers.copy_from(&invite.headers, "Call-ID");
    ack.headers.push("CSeq", "1 ACK");
    ack.headers.push("Max-Forwards", 70);
    ack.to_bytes()
}

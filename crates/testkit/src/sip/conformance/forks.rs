//! One INVITE, several answers: a proxy on the way has forked it.

use super::line::Port;
use super::{Network, Setting, config, hears, start_one};
use crate::sip::{answer, request};
use siprtc_core::sip::{Method, Route, SipMessage, SipRequest, SipUri, TxEnd, TxIds, TxOwner};
use std::time::Duration;
use tokio::net::UdpSocket;

/// One INVITE, several answers: a proxy on the way has forked it.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_forks {
    ($then:ident $given:tt) => {
        $crate::$then! { $given forks
            every_fork_that_rings_is_heard
                Alone [Udp Tcp] []
                "RFC 3261 13.2.2.4" "180 answers with three To-tags reach the user, under one transaction.";
            a_2xx_of_every_fork_is_heard_and_acknowledged
                Alone [Udp Tcp Tls Ws] []
                "RFC 6026 7.1" "Two 200 answers with different To-tags reach the user, and each gets an ACK of its own.";
            a_rejection_behind_a_2xx_is_not_heard
                Alone [Udp Tcp] []
                "RFC 6026 7.1" "Once a 2xx has come, a late 486 of another fork means nothing.";
        }
    };
}

/// The far end of an INVITE: a socket or a connection.
pub(super) enum Far {
    Udp(UdpSocket),
    Port(Port, Option<super::line::Line>),
}

impl Far {
    async fn open(network: Network) -> Self {
        match network {
            Network::Udp | Network::Udp6 => Far::Udp(UdpSocket::bind(network.loopback(0)).await.unwrap()),
            _ => Far::Port(Port::open(network).await, None),
        }
    }

    fn uri(&self) -> SipUri {
        match self {
            Far::Udp(socket) => SipUri::from_addr(socket.local_addr().unwrap()),
            Far::Port(port, _) => port.uri(),
        }
    }

    /// The next request that is no copy of an INVITE that was heard before.
    async fn next(&mut self, heard: Option<&SipRequest>) -> SipRequest {
        loop {
            let message = match self {
                Far::Udp(socket) => super::bare::receive_and_connect(socket).await,
                Far::Port(port, line) => {
                    if line.is_none() {
                        *line = Some(port.accept().await);
                    }
                    line.as_mut().unwrap().next().await
                }
            };
            match message {
                SipMessage::Request(request) if Some(&request) == heard => (),
                SipMessage::Request(request) => return request,
                SipMessage::Response(response) => panic!("an answer to nothing: {response:?}"),
            }
        }
    }

    pub(super) async fn answer(&mut self, invite: &SipRequest, status: u16, tag: &str) {
        let octets = answer(invite, status, tag).to_bytes();
        match self {
            Far::Udp(socket) => drop(socket.send(&octets).await.unwrap()),
            Far::Port(_, line) => line.as_mut().unwrap().send(&octets).await,
        }
    }
}

/// An INVITE that is under way.
pub(super) struct Forked {
    pub(super) stack: std::sync::Arc<dyn siprtc_core::sip::SipStack>,
    pub(super) hears: std::sync::Arc<crate::sip::RecordingSink>,
    pub(super) far: Far,
    pub(super) invite: SipRequest,
    pub(super) tx: siprtc_core::sip::TxId,
}

/// An INVITE that has arrived at the far end, which is only a socket.
pub(super) async fn call(on: &Setting) -> Forked {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let mut far = Far::open(on.network).await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let asked = request(Method::Invite, far.uri());
    stack.send_request(tx, asked, Route::by_request()).await.unwrap();
    let invite = far.next(None).await;
    assert_eq!(invite.method, Method::Invite);
    Forked {
        stack,
        hears,
        far,
        invite,
        tx,
    }
}

pub(super) async fn every_fork_that_rings_is_heard(on: Setting) {
    let mut call = call(&on).await;
    for tag in ["one", "two", "three"] {
        call.far.answer(&call.invite, 180, tag).await;
        let (tx, ringing) = call.hears.expect_response(180).await;
        assert_eq!(tx, call.tx);
        assert_eq!(ringing.headers.to().unwrap().tag(), Some(tag));
    }
    call.far.answer(&call.invite, 486, "one").await;
    call.hears.expect_response(486).await;
    assert_eq!(call.hears.expect_ended(call.tx).await, TxEnd::Done);
    call.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_2xx_of_every_fork_is_heard_and_acknowledged(on: Setting) {
    let mut call = call(&on).await;
    for tag in ["one", "two"] {
        call.far.answer(&call.invite, 200, tag).await;
        let (tx, ok) = call.hears.expect_response(200).await;
        assert_eq!(tx, call.tx);
        assert_eq!(ok.headers.to().unwrap().tag(), Some(tag));
        let mut ack = SipRequest::new(Method::Ack, call.far.uri());
        ack.headers.copy_from(&call.invite.headers, "From");
        ack.headers.copy_from(&ok.headers, "To");
        ack.headers.copy_from(&call.invite.headers, "Call-ID");
        ack.headers.push("CSeq", "1 ACK");
        call.stack.send_ack(ack, Route::by_request()).await.unwrap();
        let acked = call.far.next(Some(&call.invite)).await;
        assert_eq!(acked.method, Method::Ack);
        assert_eq!(acked.headers.to().unwrap().tag(), Some(tag));
    }
    assert_eq!(call.hears.expect_ended(call.tx).await, TxEnd::Done);
    call.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_rejection_behind_a_2xx_is_not_heard(on: Setting) {
    let mut call = call(&on).await;
    call.far.answer(&call.invite, 200, "one").await;
    call.hears.expect_response(200).await;
    call.far.answer(&call.invite, 486, "two").await;
    call.hears.expect_silence(Duration::from_millis(100)).await;
    assert_eq!(call.hears.expect_ended(call.tx).await, TxEnd::Done);
    call.stack.shutdown(Duration::ZERO).await;
}

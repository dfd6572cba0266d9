//! What somebody may send who wishes a stack ill.

use super::{Pair, Setting};
use crate::sip::request;
use siprtc_core::sip::{Method, SipUri};
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

/// What somebody may send who wishes a stack ill.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_hostile {
    ($then:ident $given:tt) => {
        $crate::$then! { $given hostile
            garbage_between_two_requests_is_ignored
                Alone [Udp Udp6] []
                "RFC 3261 18.3" "Noise, halves and lies about lengths in datagrams do not stop a stack.";
            garbage_on_a_connection_harms_no_other
                Alone [Tcp Tcp6] []
                "RFC 3261 18.3" "Noise, halves and lies about lengths on one connection do not harm another.";
        }
    };
}

pub(super) async fn garbage_between_two_requests_is_ignored(on: Setting) {
    let pair = Pair::start(&on).await;
    let target = pair.bob.listeners()[0].bound;
    let socket = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
    for garbage in garbage() {
        socket.send_to(&garbage, target).await.unwrap();
    }
    alive_behind_garbage(&pair).await;
    for garbage in garbage() {
        socket.send_to(&garbage, target).await.unwrap();
        alive_behind_garbage(&pair).await;
    }
    pair.stop().await;
}

pub(super) async fn garbage_on_a_connection_harms_no_other(on: Setting) {
    let pair = Pair::start(&on).await;
    pair.check_alive().await;
    for garbage in garbage() {
        let mut stream = TcpStream::connect(pair.bob.listeners()[0].bound).await.unwrap();
        // The stack may close at once.
        let _ = stream.write_all(&garbage).await;
        let _ = stream.shutdown().await;
        alive_behind_garbage(&pair).await;
    }
    pair.stop().await;
}

/// An OPTIONS of Alice's is answered, whatever else Bob's stack thinks that it has heard.
async fn alive_behind_garbage(pair: &Pair) {
    let tx = pair.ask(pair.request(Method::Options)).await;
    loop {
        if let siprtc_core::sip::StackEvent::Request {
            tx: served, request, ..
        } = pair.bob_hears.next().await
        {
            // A request may also have come out of the garbage.
            let _ = pair
                .bob
                .respond(served, crate::sip::answer(&request, 200, "bob"))
                .await;
            if request.method == Method::Options {
                break;
            }
        }
    }
    let (answered, _) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
}

/// What somebody might send: noise, halves, lies about lengths, and mixed line ends.
fn garbage() -> Vec<Vec<u8>> {
    let whole = request(
        Method::Message,
        SipUri::from_addr(SocketAddr::from(([192, 0, 2, 1], 5060))),
    );
    let mut whole = whole.with_body("text/plain", "hello");
    whole
        .headers
        .push_front("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKgarbage;rport");
    let whole = whole.to_bytes();
    let head = |line: &str| {
        let via = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n";
        let rest = "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 MESSAGE\r\n";
        format!("MESSAGE sip:x@y SIP/2.0\r\n{via}{rest}{line}\r\n\r\n").into_bytes()
    };
    let mut all = vec![
        Vec::new(),
        b"\0".to_vec(),
        b"\r\n".to_vec(),
        vec![0xff; 1500],
        vec![b'A'; 60_000],
        vec![b'\n'; 3000],
        b"SIP/2.0 99999999999 x\r\n\r\n".to_vec(),
        b"SIP/2.0 200 OK\r\nVia: \r\nFrom: \r\n\r\n".to_vec(),
        b"OPTIONS\r\n\r\n".to_vec(),
        b"OPTIONS sip: SIP/2.0\r\n\r\n".to_vec(),
        b"A sip:a SIP/2.0\r\nV: x\r\n\n".to_vec(),
        b"A sip:a SIP/2.0\r\nContent-Length: 0\r\n\nB".to_vec(),
        head("Content-Length: 18446744073709551615"),
        head("Content-Length: 9223372036854775807"),
        head("Content-Length: 4294967296"),
        head("Content-Length: -1"),
        head("Content-Length: 65535"),
        head("Content-Length"),
        head(": no name"),
        head(&"X-Many: 1\r\n".repeat(1000)),
        head(&format!("X-Long: {}", "(".repeat(40_000))),
        [vec![0, 1, 0xff, 0xff, 0x21, 0x12, 0xa4, 0x42], vec![0; 20]].concat(),
        [
            vec![1, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42],
            vec![0; 12],
            vec![0, 0x20, 0, 0xff, 0, 1, 2, 3],
        ]
        .concat(),
    ];
    all.extend((1..whole.len()).step_by(17).map(|cut| whole[..cut].to_vec()));
    all
}

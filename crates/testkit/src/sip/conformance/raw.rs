//! What a stack does on the wire, seen by a peer that is only a socket.

use super::{Network, Pair, SHORT_T1, hasty, respond, start_one};
use crate::sip::{RecordingSink, request};
use bytes::Bytes;
use siprtc_core::sip::{
    Headers, Limits, Method, Route, SipMessage, SipRequest, SipResponse, SipStack, SipStackFactory, SipUri,
    StackConfig, TxEnd, TxIds, TxOwner,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

/// Longest wait for a datagram.
const PATIENCE: Duration = Duration::from_secs(20);

/// One stack with short timers, and a bare socket that talks with it.
struct Bare {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    socket: UdpSocket,
    ids: TxIds,
}

impl Bare {
    async fn start(factory: &dyn SipStackFactory, network: Network) -> Self {
        let hears = RecordingSink::new();
        let config = StackConfig {
            timers: hasty(),
            ..StackConfig::default()
        };
        let stack = start_one(factory, network, config, hears.clone()).await;
        let socket = UdpSocket::bind(network.loopback(0)).await.unwrap();
        socket.connect(stack.listeners()[0].bound).await.unwrap();
        Bare {
            stack,
            hears,
            socket,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A request to the stack with a Via of `sent_by`.
    fn request(&self, method: Method, branch: &str, sent_by: SocketAddr, rport: &str) -> SipRequest {
        let mut request = request(method, SipUri::from_addr(self.stack.listeners()[0].bound));
        request.headers.push_front(
            "Via",
            format_args!("SIP/2.0/UDP {sent_by}{rport};branch=z9hG4bK{branch}"),
        );
        request.headers.push("Max-Forwards", 70);
        request
    }

    async fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).await.unwrap();
    }

    async fn next(&self) -> SipMessage {
        receive(&self.socket).await
    }

    async fn expect_status(&self, status: u16) -> SipResponse {
        match self.next().await {
            SipMessage::Response(response) if response.status == status => response,
            other => panic!("expected a {status}, but came {other:?}"),
        }
    }

    async fn expect(&self, method: Method) -> SipRequest {
        match self.next().await {
            SipMessage::Request(request) if request.method == method => request,
            other => panic!("expected a {method}, but came {other:?}"),
        }
    }

    /// The ACK of a non-2xx (RFC 3261 section 17.1.1.3), behind copies of the INVITE that were under way already.
    async fn expect_ack_behind_copies(&self, invite: &SipRequest) {
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
    fn drain(&self) {
        let mut buffer = [0; 2048];
        while self.socket.try_recv(&mut buffer).is_ok() {}
    }

    async fn expect_silence(&self, time: Duration) {
        let mut buffer = [0; 2048];
        if let Ok(heard) = tokio::time::timeout(time, self.socket.recv(&mut buffer)).await {
            let text = String::from_utf8_lossy(&buffer[..heard.unwrap()]).into_owned();
            panic!("expected silence for {time:?}, but came {text}");
        }
    }
}

/// Timers E and F; the branch stays (RFC 3261 section 17.1.2).
pub async fn a_request_is_repeated_with_the_same_branch_until_it_is_answered(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    for method in [Method::Options, Method::Invite] {
        let tx = bare.ids.mint();
        let asked = request(method.clone(), SipUri::from_addr(bare.address()));
        bare.stack
            .send_request(tx, asked, Route::by_request())
            .await
            .unwrap();
        let first = bare.expect(method.clone()).await;
        for _ in 0..3 {
            assert_eq!(bare.expect(method.clone()).await, first, "a copy differs");
        }
        bare.send(&answer_bytes(&first, 404)).await;
        let (answered, _) = bare.hears.expect_response(404).await;
        assert_eq!(answered, tx);
        if method == Method::Invite {
            bare.expect_ack_behind_copies(&first).await;
        }
        bare.drain();
    }
    bare.expect_silence(SHORT_T1 * 20).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// RFC 3261 section 9.1: a CANCEL is a request like others, its loss must not let a phone ring on.
pub async fn a_cancel_is_repeated_until_the_invite_is_answered(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    let tx = bare.ids.mint();
    let asked = request(Method::Invite, SipUri::from_addr(bare.address()));
    bare.stack
        .send_request(tx, asked, Route::by_request())
        .await
        .unwrap();
    let invite = bare.expect(Method::Invite).await;
    bare.send(&answer_bytes(&invite, 180)).await;
    bare.hears.expect_response(180).await;
    let mut extra = Headers::new();
    extra.push("Reason", "Q.850;cause=16");
    bare.stack.cancel(tx, extra).await.unwrap();
    let mut cancels = Vec::new();
    while cancels.len() < 3 {
        match bare.next().await {
            SipMessage::Request(cancel) if cancel.method == Method::Cancel => cancels.push(cancel),
            SipMessage::Request(copy) => assert_eq!(copy, invite),
            SipMessage::Response(response) => panic!("an answer to nothing: {response:?}"),
        }
    }
    let cancel = &cancels[0];
    assert!(cancels.iter().all(|copy| copy == cancel));
    assert_eq!(cancel.uri, invite.uri);
    assert_eq!(
        cancel.headers.value("Via"),
        invite.headers.value("Via"),
        "the INVITE's own Via"
    );
    assert_eq!(cancel.headers.values("Via").count(), 1);
    for name in ["From", "To", "Call-ID"] {
        assert_eq!(cancel.headers.value(name), invite.headers.value(name), "{name}");
    }
    assert_eq!(cancel.headers.value("CSeq"), Some("1 CANCEL"));
    assert_eq!(cancel.headers.value("Reason"), Some("Q.850;cause=16"));
    bare.send(&answer_bytes(cancel, 200)).await;
    bare.send(&answer_bytes(&invite, 487)).await;
    let (answered, _) = bare.hears.expect_response(487).await;
    assert_eq!(answered, tx);
    while bare.next().await.headers().cseq().unwrap().method != Method::Ack {}
    bare.drain();
    bare.expect_silence(SHORT_T1 * 20).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// RFC 3261 section 17.2.2.
pub async fn a_copy_of_a_request_gets_the_same_answer_again(factory: &dyn SipStackFactory, network: Network) {
    let bare = Bare::start(factory, network).await;
    let options = bare
        .request(Method::Options, "copy", bare.address(), ";rport")
        .to_bytes();
    bare.send(&options).await;
    bare.send(&options).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Options).await;
    respond(&*bare.stack, served, &heard, 200).await;
    let first = bare.expect_status(200).await;
    bare.send(&options).await;
    assert_eq!(bare.expect_status(200).await, first);
    bare.hears.expect_silence(Duration::from_millis(50)).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// RFC 3261 section 17.2.1: also while the user is silent.
pub async fn a_copy_of_a_ringing_invite_gets_the_last_provisional_answer_again(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    let invite = bare
        .request(Method::Invite, "ringing", bare.address(), ";rport")
        .to_bytes();
    bare.send(&invite).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 100).await;
    respond(&*bare.stack, served, &heard, 180).await;
    bare.expect_status(100).await;
    let ringing = bare.expect_status(180).await;
    for _ in 0..2 {
        bare.send(&invite).await;
        assert_eq!(bare.expect_status(180).await, ringing);
    }
    bare.hears.expect_silence(Duration::from_millis(50)).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// Timer G.
pub async fn a_rejection_is_repeated_until_it_is_acknowledged(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    let invite = bare.request(Method::Invite, "rejected", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 603).await;
    let first = bare.expect_status(603).await;
    for _ in 0..3 {
        assert_eq!(bare.expect_status(603).await, first);
    }
    bare.send(&ack_of(&invite, &first)).await;
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::Done);
    bare.drain();
    bare.expect_silence(SHORT_T1 * 20).await;
    bare.hears.expect_silence(Duration::ZERO).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// Timer H.
pub async fn a_rejection_that_is_never_acknowledged_times_out(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    bare.send(
        &bare
            .request(Method::Invite, "unacknowledged", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 486).await;
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::TimedOut);
    bare.stack.shutdown(Duration::ZERO).await;
}

/// Timer I: a copy that the network had kept must not ring a second time.
pub async fn a_late_copy_of_an_acknowledged_invite_begins_nothing(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    let invite = bare.request(Method::Invite, "late", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 486).await;
    let busy = bare.expect_status(486).await;
    bare.send(&ack_of(&invite, &busy)).await;
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::Done);
    bare.send(&invite.to_bytes()).await;
    bare.hears.expect_silence(Duration::from_millis(100)).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// RFC 3261 section 9.2.
pub async fn a_cancel_for_nothing_is_answered_481(factory: &dyn SipStackFactory, network: Network) {
    let bare = Bare::start(factory, network).await;
    bare.send(
        &bare
            .request(Method::Cancel, "nothing", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    bare.expect_status(481).await;
    // The same branch from another sent-by is another transaction (RFC 3261 section 17.2.3).
    bare.send(
        &bare
            .request(Method::Invite, "shared", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    bare.hears.expect_request(Method::Invite).await;
    let other = SocketAddr::from(([192, 0, 2, 1], 5060));
    bare.send(&bare.request(Method::Cancel, "shared", other, ";rport").to_bytes())
        .await;
    bare.expect_status(481).await;
    bare.send(
        &bare
            .request(Method::Cancel, "shared", bare.address(), ";rport")
            .to_bytes(),
    )
    .await;
    bare.expect_status(200).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

/// RFC 3581.
pub async fn an_answer_goes_to_the_source_port_with_rport(factory: &dyn SipStackFactory, network: Network) {
    let bare = Bare::start(factory, network).await;
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 5060));
    bare.send(
        &bare
            .request(Method::Options, "rport", elsewhere, ";rport")
            .to_bytes(),
    )
    .await;
    let (served, heard, _) = bare.hears.expect_request(Method::Options).await;
    respond(&*bare.stack, served, &heard, 200).await;
    let via = bare.expect_status(200).await.headers.top_via().unwrap();
    assert_eq!(
        via.params.value("rport"),
        Some(bare.address().port().to_string().as_str())
    );
    assert_eq!(
        via.params.value("received"),
        Some(bare.address().ip().to_string().as_str())
    );
    bare.stack.shutdown(Duration::ZERO).await;
}

/// RFC 3261 section 18.2.2: the source address, and the port of the sent-by.
pub async fn an_answer_goes_to_the_sent_by_port_without_rport(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let bare = Bare::start(factory, network).await;
    let listening = UdpSocket::bind(network.loopback(0)).await.unwrap();
    let sent_by = listening.local_addr().unwrap();
    bare.send(&bare.request(Method::Options, "sent-by", sent_by, "").to_bytes())
        .await;
    let (served, heard, _) = bare.hears.expect_request(Method::Options).await;
    respond(&*bare.stack, served, &heard, 200).await;
    assert!(matches!(receive(&listening).await, SipMessage::Response(response) if response.status == 200));
    bare.stack.shutdown(Duration::ZERO).await;
}

/// Nothing that arrives in a datagram may stop a stack.
pub async fn garbage_between_two_requests_is_ignored(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let target = pair.bob.listeners()[0].bound;
    let socket = UdpSocket::bind(network.loopback(0)).await.unwrap();
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

/// Nothing that arrives on a connection may harm another.
pub async fn garbage_on_a_connection_harms_no_other(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

async fn receive(socket: &UdpSocket) -> SipMessage {
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = received
        .unwrap_or_else(|_| panic!("no datagram in {PATIENCE:?}"))
        .unwrap();
    let datagram = Bytes::copy_from_slice(&buffer[..length]);
    SipMessage::parse(&datagram, &Limits::default()).unwrap_or_else(|error| panic!("{error}: {datagram:?}"))
}

fn answer_bytes(request: &SipRequest, status: u16) -> Bytes {
    crate::sip::answer(request, status, "bare").to_bytes()
}

/// RFC 3261 section 17.1.1.3.
fn ack_of(invite: &SipRequest, response: &SipResponse) -> Bytes {
    let mut ack = SipRequest::new(Method::Ack, invite.uri.clone());
    ack.headers.copy_from(&invite.headers, "Via");
    ack.headers.copy_from(&invite.headers, "From");
    ack.headers.copy_from(&response.headers, "To");
    ack.headers.copy_from(&invite.headers, "Call-ID");
    ack.headers.push("CSeq", "1 ACK");
    ack.headers.push("Max-Forwards", 70);
    ack.to_bytes()
}

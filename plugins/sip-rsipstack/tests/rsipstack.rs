//! What is this plugin's own, beyond the port's conformance suite: what rsipstack does otherwise.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use bytes::Bytes;
use siprtc_core::Fault;
use siprtc_core::sip::{
    Limits, ListenerConfig, Method, Route, SipMessage, SipRequest, SipStack, SipUri, StackConfig, StackEvent,
    TimerConfig, Transport, TxEnd, TxIds, TxOwner,
};
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

fn listen(transport: Transport, bind: &str) -> ListenerConfig {
    ListenerConfig {
        transport,
        bind: bind.parse().unwrap(),
        advertise: None,
    }
}

async fn start_with(config: StackConfig) -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    let hears = RecordingSink::new();
    let factory = siprtc_sip_rsipstack::factory();
    (factory.start(config, hears.clone()).await.unwrap(), hears)
}

async fn start(listeners: Vec<ListenerConfig>) -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    let config = StackConfig {
        listeners,
        ..StackConfig::default()
    };
    start_with(config).await
}

async fn start_udp() -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    start(vec![listen(Transport::Udp, "127.0.0.1:0")]).await
}

fn uri(stack: &dyn SipStack, listener: usize) -> SipUri {
    let listener = stack.listeners()[listener];
    SipUri::from_addr(listener.bound).with_transport(listener.transport)
}

/// Alice asks Bob at one of his listeners.
async fn ask(alice: (&dyn SipStack, &RecordingSink), bob: (&dyn SipStack, &RecordingSink), to: SipUri) {
    let tx = TxIds::new(TxOwner::user(rand_owner())).mint();
    let asked = request(Method::Options, to);
    alice
        .0
        .send_request(tx, asked, Route::by_request())
        .await
        .unwrap();
    let (served, heard, _) = bob.1.expect_request(Method::Options).await;
    bob.0.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice.1.expect_response(200).await;
    alice.1.expect_ended(tx).await;
}

/// Each `ask` begins its ids anew.
fn rand_owner() -> u8 {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A bare UDP peer.
struct Bare(UdpSocket);

impl Bare {
    async fn new() -> Self {
        Bare(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    fn uri(&self) -> SipUri {
        SipUri::from_addr(self.0.local_addr().unwrap())
    }

    async fn next(&self) -> (SipMessage, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let receiving = tokio::time::timeout(Duration::from_secs(20), self.0.recv_from(&mut buffer));
        let (length, from) = receiving.await.expect("nothing came").unwrap();
        let octets = Bytes::copy_from_slice(&buffer[..length]);
        (SipMessage::parse(&octets, &Limits::default()).unwrap(), from)
    }

    async fn expect(&self, method: Method) -> (SipRequest, SocketAddr) {
        loop {
            match self.next().await {
                (SipMessage::Request(request), from) if request.method == method => return (request, from),
                (SipMessage::Request(_), _) => continue,
                (SipMessage::Response(other), _) => panic!("expected {method}, but came {other:?}"),
            }
        }
    }

    /// Sends a request as it is written and says what the answer begins with.
    async fn ask(&self, to: SocketAddr, octets: &[u8]) -> String {
        self.0.send_to(octets, to).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let receiving = tokio::time::timeout(Duration::from_secs(20), self.0.recv(&mut buffer));
        let length = receiving.await.expect("no answer").unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        text.split("\r\n").next().unwrap().to_owned()
    }
}

fn written(start_line: &str, more: &str) -> Vec<u8> {
    let method = start_line.split(' ').next().unwrap();
    format!(
        "{start_line}\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK{:x};rport\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:c@d>\r\nCall-ID: 1@b\r\nCSeq: 1 {method}\r\n{more}\r\n",
        rand::random::<u64>()
    )
    .into_bytes()
}

#[tokio::test]
async fn one_stack_listens_on_every_transport_and_family_at_once() {
    let everywhere = || {
        let transports = [Transport::Udp, Transport::Tcp, Transport::Ws];
        let listeners = transports
            .iter()
            .flat_map(|transport| ["127.0.0.1:0", "[::1]:0"].map(|bind| listen(*transport, bind)));
        listeners.collect::<Vec<_>>()
    };
    let (alice, alice_hears) = start(everywhere()).await;
    let (bob, bob_hears) = start(everywhere()).await;
    for listener in 0..6 {
        ask((&*alice, &alice_hears), (&*bob, &bob_hears), uri(&*bob, listener)).await;
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    for listeners in [
        vec![listen(Transport::Tls, "127.0.0.1:0")],
        vec![listen(Transport::Wss, "127.0.0.1:0")],
        vec![listen(Transport::Udp, "192.0.2.1:5060")],
        vec![listen(Transport::Tcp, "192.0.2.1:5060")],
    ] {
        let config = StackConfig {
            listeners,
            ..StackConfig::default()
        };
        let factory = siprtc_sip_rsipstack::factory();
        let error = factory.start(config, RecordingSink::new()).await.err().unwrap();
        assert_eq!(error.fault(), Fault::ConfigInvalid, "{error}");
        assert!(error.next_step().is_some(), "{error}");
    }
}

/// rsipstack knows fourteen methods, and takes them in any case; RFC 3261 section 7.1 knows no limit, and methods are
/// case-sensitive.
#[tokio::test]
async fn a_method_that_rsipstack_has_no_word_for_is_answered_501() {
    let (bob, bob_hears) = start_udp().await;
    let bare = Bare::new().await;
    let to = bob.listeners()[0].bound;
    for line in ["FOO sip:c@d SIP/2.0", "invite sip:c@d SIP/2.0"] {
        let status = bare.ask(to, &written(line, "Content-Length: 0\r\n")).await;
        assert_eq!(status, "SIP/2.0 501 Not Implemented", "{line}");
        assert!(matches!(bob_hears.next().await, StackEvent::ParseError { .. }));
    }
    bob.shutdown(Duration::ZERO).await;
}

/// Each of these passes rsipstack's parser, or is dropped by its sockets without a word.
#[tokio::test]
async fn what_rsipstack_lets_pass_and_rfc_3261_forbids_is_answered_400() {
    let (bob, bob_hears) = start_udp().await;
    let bare = Bare::new().await;
    let to = bob.listeners()[0].bound;
    for (line, more) in [
        ("OPTIONS sip:c@d SIP/2.0", "No colon\r\n"),
        ("OPTIONS sip:c@d SIP/2.0", "X: a\rEvil: b\r\n"),
        ("OPTIONS sip:c@d SIP/2.0", "Content-Length: 99\r\n"),
        ("OPTIONS sip:c@d SIP/2.0", "Content-Length: -1\r\n"),
        ("OPTIONS sip:c@d SIP/2.0", "Max-Forwards: 256\r\n"),
        ("OPTIONS  sip:c@d SIP/2.0", ""),
        ("OPTIONS sip:c@d:99999 SIP/2.0", ""),
    ] {
        let status = bare.ask(to, &written(line, more)).await;
        assert_eq!(status, "SIP/2.0 400 Bad Request", "{line} {more}");
        assert!(matches!(bob_hears.next().await, StackEvent::ParseError { .. }));
    }
    let status = bare.ask(to, &written("OPTIONS sip:c@d SIP/3.0", "")).await;
    assert_eq!(status, "SIP/2.0 505 Version Not Supported");
    let long = format!("X: {}\r\n", "x".repeat(60_000));
    let config = StackConfig {
        listeners: vec![listen(Transport::Udp, "127.0.0.1:0")],
        limits: Limits {
            message: 50_000,
            ..Limits::default()
        },
        ..StackConfig::default()
    };
    let (strict, _) = start_with(config).await;
    let status = bare
        .ask(
            strict.listeners()[0].bound,
            &written("OPTIONS sip:c@d SIP/2.0", &long),
        )
        .await;
    assert_eq!(status, "SIP/2.0 513 Message Too Large");
    strict.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

/// rsipstack's parser ends at the first line that is no UTF-8, and takes no body without a Content-Length.
#[tokio::test]
async fn header_fields_behind_a_line_that_is_no_utf_8_are_read_and_so_is_a_body_without_length() {
    let (bob, bob_hears) = start_udp().await;
    let bare = Bare::new().await;
    let mut octets = written("MESSAGE sip:c@d SIP/2.0", "Subject: a");
    octets.truncate(octets.len() - 2);
    octets.extend_from_slice(b"\xff\r\nX-After: yes\r\n\r\nthe body \xff");
    bare.0.send_to(&octets, bob.listeners()[0].bound).await.unwrap();
    let (_, heard, _) = bob_hears.expect_request(Method::Message).await;
    assert_eq!(heard.headers.value("Subject"), Some("a\u{fffd}"));
    assert_eq!(heard.headers.value("X-After"), Some("yes"));
    assert_eq!(&heard.body[..], b"the body \xff");
    bob.shutdown(Duration::ZERO).await;
}

/// rsipstack would write `%2520`.
#[tokio::test]
async fn the_request_uri_is_sent_and_heard_as_it_is_written() {
    let (alice, _) = start_udp().await;
    let (bob, bob_hears) = start_udp().await;
    let ids = TxIds::new(TxOwner::user(1));
    for text in [
        "sip:a%20b;c=%3a?d@example.com;transport=udp",
        "urn:service:sos",
        "tel:+1-201-555-0123;phone-context=example.com",
    ] {
        let mut asked = request(Method::Options, uri(&*bob, 0));
        asked.uri = text.parse().unwrap();
        let route = Route::via(uri(&*bob, 0));
        alice.send_request(ids.mint(), asked, route).await.unwrap();
        let (_, heard, _) = bob_hears.expect_request(Method::Options).await;
        assert_eq!(heard.uri.to_string(), text);
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

/// rsipstack writes the standard phrase for a status that it knows.
#[tokio::test]
async fn a_reason_phrase_of_ones_own_arrives() {
    let (alice, alice_hears) = start_udp().await;
    let (bob, bob_hears) = start_udp().await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let asked = request(Method::Options, uri(&*bob, 0));
    alice.send_request(tx, asked, Route::by_request()).await.unwrap();
    let (served, heard, _) = bob_hears.expect_request(Method::Options).await;
    let mut response = answer(&heard, 403, "bob");
    "Not today".clone_into(&mut response.reason);
    bob.respond(served, response).await.unwrap();
    let (_, response) = alice_hears.expect_response(403).await;
    assert_eq!(response.reason, "Not today");
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

/// rsipstack takes the second for a copy, for they have the same status and body.
#[tokio::test]
async fn every_fork_rings() {
    let (alice, alice_hears) = start_udp().await;
    let bare = Bare::new().await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let asked = request(Method::Invite, bare.uri());
    alice.send_request(tx, asked, Route::by_request()).await.unwrap();
    let (invite, from) = bare.expect(Method::Invite).await;
    for fork in ["one", "two", "three"] {
        let ringing = answer(&invite, 180, fork).to_bytes();
        bare.0.send_to(&ringing, from).await.unwrap();
        let (_, heard) = alice_hears.expect_response(180).await;
        assert_eq!(heard.headers.to().unwrap().tag(), Some(fork));
    }
    alice.shutdown(Duration::ZERO).await;
}

/// RFC 3261 section 17.1.1.3. rsipstack copies every Via of the answer, and sends the ACK to a copy of the rejection
/// where the Request-URI leads.
#[tokio::test]
async fn the_ack_of_a_rejection_has_the_invites_one_via_and_goes_where_the_invite_went() {
    let (alice, alice_hears) = start_udp().await;
    let bare = Bare::new().await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let nowhere: SipUri = "sip:bob@nowhere.invalid".parse().unwrap();
    let mut asked = request(Method::Invite, nowhere);
    asked
        .headers
        .push("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKlower");
    alice
        .send_request(tx, asked, Route::via(bare.uri()))
        .await
        .unwrap();
    let (invite, from) = bare.expect(Method::Invite).await;
    let mut busy = answer(&invite, 600, "bare");
    let mut top = busy.headers.top_via().unwrap();
    top.params.set("received", "192.0.2.77");
    let lower: Vec<String> = busy
        .headers
        .values("Via")
        .skip(1)
        .map(ToOwned::to_owned)
        .collect();
    busy.headers.remove("Via");
    lower.iter().for_each(|via| busy.headers.push_front("Via", via));
    busy.headers.push_front("Via", &top);
    for _ in 0..2 {
        bare.0.send_to(&busy.to_bytes(), from).await.unwrap();
        let (ack, _) = bare.expect(Method::Ack).await;
        let vias: Vec<&str> = ack.headers.values("Via").collect();
        assert_eq!(vias, [invite.headers.value("Via").unwrap()]);
        assert_eq!(ack.headers.to().unwrap().tag(), Some("bare"));
        assert_eq!(ack.uri, invite.uri);
    }
    alice_hears.expect_response(600).await;
    assert_eq!(alice_hears.expect_ended(tx).await, TxEnd::Done);
    alice.shutdown(Duration::ZERO).await;
}

/// rsipstack writes to a peer inside the loop that receives everything.
#[tokio::test]
async fn a_peer_that_does_not_read_its_connection_holds_nobody_up() {
    let both = || {
        vec![
            listen(Transport::Udp, "127.0.0.1:0"),
            listen(Transport::Tcp, "127.0.0.1:0"),
        ]
    };
    let (alice, alice_hears) = start(both()).await;
    let (bob, bob_hears) = start(both()).await;
    let mut deaf = TcpStream::connect(bob.listeners()[1].bound).await.unwrap();
    let padding = format!("X-Padding: {}\r\n", "x".repeat(8000));
    let flood = async {
        // Each is answered 400, with as much of it as an answer repeats: until nothing more can be written.
        let request = written(
            "OPTIONS sip:c@d SIP/2.0",
            &format!("Max-Forwards: 999\r\n{padding}Content-Length: 0\r\n"),
        );
        loop {
            if deaf.write_all(&request).await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), flood).await;
    while bob_hears.try_next().is_some() {}
    for listener in [0, 1] {
        ask_beside_noise((&*alice, &alice_hears), (&*bob, &bob_hears), uri(&*bob, listener)).await;
    }
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

/// As `ask`, while Bob also hears what he cannot read.
async fn ask_beside_noise(
    alice: (&dyn SipStack, &RecordingSink),
    bob: (&dyn SipStack, &RecordingSink),
    to: SipUri,
) {
    let tx = TxIds::new(TxOwner::user(rand_owner())).mint();
    let asked = request(Method::Options, to);
    alice
        .0
        .send_request(tx, asked, Route::by_request())
        .await
        .unwrap();
    let (served, heard) = loop {
        if let StackEvent::Request { tx, request, .. } = bob.1.next().await {
            break (tx, request);
        }
    };
    bob.0.respond(served, answer(&heard, 200, "bob")).await.unwrap();
    alice.1.expect_response(200).await;
}

/// A Content-Length that overflows rsipstack's codec.
#[tokio::test]
async fn a_length_that_lies_ends_its_connection_with_an_answer() {
    let (bob, _) = start(vec![listen(Transport::Tcp, "127.0.0.1:0")]).await;
    for length in ["18446744073709551615", "99999999999999999999999999", "4294967296"] {
        let mut stream = TcpStream::connect(bob.listeners()[0].bound).await.unwrap();
        let lie = written(
            "OPTIONS sip:c@d SIP/2.0",
            &format!("Content-Length: {length}\r\n"),
        );
        stream.write_all(&lie).await.unwrap();
        let mut heard = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut heard));
        reading.await.expect("the connection stays open").unwrap();
        assert!(
            heard.starts_with(b"SIP/2.0 400 "),
            "{}",
            String::from_utf8_lossy(&heard)
        );
    }
    bob.shutdown(Duration::ZERO).await;
}

/// RFC 7118 section 4.1.
#[tokio::test]
async fn a_websocket_for_something_else_than_sip_is_refused() {
    let (bob, _) = start(vec![listen(Transport::Ws, "127.0.0.1:0")]).await;
    let mut stream = TcpStream::connect(bob.listeners()[0].bound).await.unwrap();
    let handshake = "GET / HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: chat\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut heard = [0; 12];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"HTTP/1.1 400");
    bob.shutdown(Duration::ZERO).await;
}

/// What rsipstack keeps of ended transactions has no bound.
#[tokio::test]
async fn a_full_house_forgets_whose_copies_came_longest_ago() {
    let config = StackConfig {
        listeners: vec![listen(Transport::Udp, "127.0.0.1:0")],
        max_transactions: 3,
        ..StackConfig::default()
    };
    let (bob, bob_hears) = start_with(config).await;
    let bare = Bare::new().await;
    let to = bob.listeners()[0].bound;
    let requests: Vec<Vec<u8>> = (0..5).map(|_| written("OPTIONS sip:c@d SIP/2.0", "")).collect();
    for octets in &requests {
        bare.0.send_to(octets, to).await.unwrap();
        let (served, heard, _) = bob_hears.expect_request(Method::Options).await;
        bob.respond(served, answer(&heard, 200, "bob")).await.unwrap();
        bare.next().await;
        bob_hears.expect_ended(served).await;
    }
    bare.0.send_to(&requests[4], to).await.unwrap();
    bare.next().await;
    bob_hears.expect_silence(Duration::from_millis(50)).await;
    bare.0.send_to(&requests[0], to).await.unwrap();
    bob_hears.expect_request(Method::Options).await;
    bob.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_advertised_address_is_what_via_says() {
    let advertise = Some("198.51.100.7:0".parse().unwrap());
    let (alice, _) = start(vec![ListenerConfig {
        advertise,
        ..listen(Transport::Udp, "127.0.0.1:0")
    }])
    .await;
    let port = alice.listeners()[0].bound.port();
    assert_eq!(
        alice.listeners()[0].advertised,
        SocketAddr::from(([198, 51, 100, 7], port))
    );
    let bare = Bare::new().await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let asked = request(Method::Options, bare.uri());
    alice.send_request(tx, asked, Route::by_request()).await.unwrap();
    let (heard, _) = bare.expect(Method::Options).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(
        (via.host.to_string().as_str(), via.port),
        ("198.51.100.7", Some(port))
    );
    alice.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_wildcard_listener_names_an_address_that_can_be_reached() {
    let (alice, _) = start(vec![listen(Transport::Udp, "0.0.0.0:0")]).await;
    let bare = Bare::new().await;
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let asked = request(Method::Options, bare.uri());
    alice.send_request(tx, asked, Route::by_request()).await.unwrap();
    let (heard, from) = bare.expect(Method::Options).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(
        (via.host.to_string().as_str(), via.port),
        ("127.0.0.1", Some(from.port()))
    );
    alice.shutdown(Duration::ZERO).await;
}

#[test]
fn calls_may_come_from_other_runtimes_than_the_one_that_started_it() {
    let single = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let home = builder.worker_threads(1).enable_all().build().unwrap();
    for transport in [Transport::Udp, Transport::Tcp] {
        let listener = || vec![listen(transport, "127.0.0.1:0")];
        let (alice, alice_hears) = home.block_on(start(listener()));
        let (bob, bob_hears) = home.block_on(start(listener()));
        let tx = TxIds::new(TxOwner::user(1)).mint();
        let asked = request(Method::Invite, uri(&*bob, 0));
        let asking = single();
        asking
            .block_on(alice.send_request(tx, asked, Route::by_request()))
            .unwrap();
        // The runtime of the caller may be gone before the transaction is.
        drop(asking);
        let (served, heard) = single().block_on(async {
            let (served, heard, _) = bob_hears.expect_request(Method::Invite).await;
            bob.respond(served, answer(&heard, 180, "bob")).await.unwrap();
            (served, heard)
        });
        single().block_on(async {
            alice_hears.expect_response(180).await;
            bob.respond(served, answer(&heard, 486, "bob")).await.unwrap();
            alice_hears.expect_response(486).await;
            assert_eq!(bob_hears.expect_ended(served).await, TxEnd::Done);
        });
        single().block_on(alice.shutdown(Duration::ZERO));
        single().block_on(bob.shutdown(Duration::ZERO));
    }
}

#[tokio::test]
async fn a_dropped_stack_lets_its_ports_go() {
    let both = vec![
        listen(Transport::Udp, "127.0.0.1:0"),
        listen(Transport::Tcp, "127.0.0.1:0"),
    ];
    let (stack, _) = start(both).await;
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
    let freed = tokio::time::timeout(Duration::from_secs(20), again).await;
    assert!(freed.is_ok(), "the ports are still taken");
}

/// rsipstack has no timer for a request outside INVITE that its user never answers.
#[tokio::test]
async fn a_request_that_its_user_never_answers_ends() {
    let t1 = Duration::from_millis(10);
    let config = StackConfig {
        listeners: vec![listen(Transport::Udp, "127.0.0.1:0")],
        timers: TimerConfig {
            t1,
            t2: t1 * 8,
            t4: t1 * 10,
        },
        ..StackConfig::default()
    };
    let (bob, bob_hears) = start_with(config).await;
    let bare = Bare::new().await;
    let octets = written("OPTIONS sip:c@d SIP/2.0", "");
    bare.0.send_to(&octets, bob.listeners()[0].bound).await.unwrap();
    let (served, heard, _) = bob_hears.expect_request(Method::Options).await;
    assert_eq!(bob_hears.expect_ended(served).await, TxEnd::TimedOut);
    assert!(bob.respond(served, heard.response(200)).await.is_err());
    // A last copy, under way when it ended, begins nothing.
    bare.0.send_to(&octets, bob.listeners()[0].bound).await.unwrap();
    bob_hears.expect_silence(Duration::from_millis(50)).await;
    bob.shutdown(Duration::ZERO).await;
}

//! When a stack repeats itself, when it stops, and what it absorbs, as a bare socket sees it.

use super::bare::{Bare, ack_of, answer_bytes};
use super::{PATIENCE, SHORT_T1, Setting, config, hasty, hears, respond, start_one};
use crate::sip::{RecordingSink, answer, request};
use bytes::Bytes;
use siprtc_core::sip::{
    Limits, Method, Route, SipMessage, SipRequest, SipStack, SipUri, Transport, TxEnd, TxIds, TxOwner,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// When a stack repeats itself, when it stops, and what it absorbs.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_timers {
    ($then:ident $given:tt) => {
        $crate::$then! { $given timers
            timer_a_doubles_until_timer_b_ends_the_invite
                Alone [Udp] []
                "RFC 3261 17.1.1.2" "An INVITE that nobody answers is sent seven times in 64*T1, at doubling intervals.";
            timer_e_doubles_up_to_t2_until_timer_f_ends_the_request
                Alone [Udp] []
                "RFC 3261 17.1.2.2" "A request that nobody answers is sent eleven times in 64*T1, at intervals of T2 in the end.";
            a_provisional_answer_stops_timer_a
                Alone [Udp] []
                "RFC 3261 17.1.1.2" "An INVITE that was answered 180 is not sent again, and timer B does not end it.";
            a_provisional_answer_slows_timer_e_to_t2
                Alone [Udp] []
                "RFC 3261 17.1.2.2" "A request that was answered 100 is sent again at intervals of T2.";
            timer_d_acknowledges_copies_of_a_rejection_that_is_heard_once
                Alone [Udp Tcp] []
                "RFC 3261 17.1.1.2" "Each copy of a 486 is acknowledged like the first, and its user hears one.";
            timer_k_absorbs_copies_of_a_final_answer
                Alone [Udp] []
                "RFC 3261 17.1.2.2" "A 200 to OPTIONS that comes three times is heard once.";
            timer_m_lets_forked_answers_through_for_64_t1
                Alone [Udp] []
                "RFC 6026 8.4" "A second 2xx, of another fork, is heard in the same transaction, which ends after 64*T1.";
            timer_g_doubles_up_to_t2_until_timer_h_ends_the_rejection
                Alone [Udp] []
                "RFC 3261 17.2.1" "A 486 that nobody acknowledges is repeated for 64*T1, at intervals of T2 in the end, and no longer.";
            timer_i_absorbs_copies_of_the_ack
                Alone [Udp] []
                "RFC 3261 17.2.1" "Copies of the ACK of a rejection are heard by nobody and answered by nobody.";
            timer_j_forgets_a_request_after_64_t1
                Alone [Udp] []
                "RFC 3261 17.2.2" "A copy of a request within 64*T1 of its answer is answered again, a later one is a new request.";
            timer_l_absorbs_copies_of_an_accepted_invite
                Alone [Udp] []
                "RFC 6026 8.7" "After a 2xx, which the stack does not repeat, copies of the INVITE are absorbed, and each ACK is heard.";
            a_reliable_transport_carries_nothing_twice
                Alone [Tcp] []
                "RFC 3261 17.1.1.1" "Over a connection timers A, E and G do not run.";
        }
    };
}

/// 64*T1.
const LIFETIME: Duration = SHORT_T1.saturating_mul(64);

/// Long enough to see that nothing is repeated.
const QUIET: Duration = SHORT_T1.saturating_mul(20);

/// How much later than due something may come: many tests share few cores.
const LATE: Duration = Duration::from_secs(3);

/// In units of T1: when timer A sends a copy. Sixty-four times T1 is the end.
const TIMER_A: [u32; 7] = [0, 1, 3, 7, 15, 31, 63];

/// In units of T1, with T2 = 8*T1: when timers E and G send a copy.
const TIMER_E: [u32; 11] = [0, 1, 3, 7, 15, 23, 31, 39, 47, 55, 63];

/// Sends `method` to the bare socket, which does not answer.
async fn ask(bare: &Bare, method: Method) -> siprtc_core::sip::TxId {
    let tx = bare.ids.mint();
    let asked = request(method, SipUri::from_addr(bare.address()));
    let sent = bare.stack.send_request(tx, asked, Route::by_request()).await;
    sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
    tx
}

/// Everything that comes until `over`, with how long after `since` it came.
async fn copies_until(bare: &Bare, since: Instant, over: impl Future<Output = ()>) -> Vec<(Duration, Bytes)> {
    let mut copies = Vec::new();
    let mut buffer = vec![0; 65_535];
    tokio::pin!(over);
    loop {
        tokio::select! {
            received = bare.socket.recv(&mut buffer) => {
                let octets = Bytes::copy_from_slice(&buffer[..received.unwrap()]);
                copies.push((since.elapsed(), octets));
            }
            () = &mut over => return copies,
        }
    }
}

/// The copies are the same, none came early, and as many came as `due` says. A busy machine may miss a turn: two may be
/// missing, none may be too many.
fn check(copies: &[(Duration, Bytes)], due: &[u32]) {
    let times: Vec<Duration> = copies.iter().map(|(time, _)| *time).collect();
    assert!(
        copies.len() <= due.len() && copies.len() + 2 >= due.len(),
        "{} copies instead of {}: {times:?}",
        copies.len(),
        due.len()
    );
    for ((time, octets), due) in copies.iter().zip(due) {
        assert_eq!(octets, &copies[0].1, "a copy differs");
        // Clocks of one millisecond.
        let due = (SHORT_T1 * *due).saturating_sub(Duration::from_millis(2));
        assert!(
            *time >= due,
            "a copy came at {time:?} instead of {due:?}: {times:?}"
        );
    }
}

async fn is_silent_to_its_end(bare: &Bare, method: Method, due: &[u32]) {
    let since = Instant::now();
    let tx = ask(bare, method).await;
    let over = async { assert_eq!(bare.hears.expect_ended(tx).await, TxEnd::TimedOut) };
    let copies = copies_until(bare, since, over).await;
    let lived = since.elapsed();
    check(&copies, due);
    assert!(
        lived >= LIFETIME && lived < LIFETIME + LATE,
        "it ended after {lived:?}"
    );
    bare.expect_silence(QUIET).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_a_doubles_until_timer_b_ends_the_invite(on: Setting) {
    is_silent_to_its_end(&Bare::start(&on).await, Method::Invite, &TIMER_A).await;
}

pub(super) async fn timer_e_doubles_up_to_t2_until_timer_f_ends_the_request(on: Setting) {
    is_silent_to_its_end(&Bare::start(&on).await, Method::Message, &TIMER_E).await;
}

pub(super) async fn a_provisional_answer_stops_timer_a(on: Setting) {
    let bare = Bare::start(&on).await;
    let tx = ask(&bare, Method::Invite).await;
    let invite = bare.expect(Method::Invite).await;
    bare.send(&answer_bytes(&invite, 180)).await;
    bare.hears.expect_response(180).await;
    bare.drain();
    bare.expect_silence(LIFETIME + QUIET).await;
    bare.send(&answer_bytes(&invite, 486)).await;
    assert_eq!(bare.hears.expect_response(486).await.0, tx);
    bare.expect(Method::Ack).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_provisional_answer_slows_timer_e_to_t2(on: Setting) {
    let bare = Bare::start(&on).await;
    let since = Instant::now();
    let tx = ask(&bare, Method::Options).await;
    let first = bare.expect(Method::Options).await;
    bare.send(&answer_bytes(&first, 100)).await;
    bare.hears.expect_response(100).await;
    // Timer E was running already: the copy behind it comes as before, the others T2 apart.
    let over = async { assert_eq!(bare.hears.expect_ended(tx).await, TxEnd::TimedOut) };
    let copies = copies_until(&bare, since, over).await;
    assert!(
        copies.len() <= 9 && copies.len() >= 5,
        "{} copies behind the first",
        copies.len()
    );
    let (second, last) = (copies[1].0, copies[copies.len() - 1].0);
    assert!(
        second >= hasty().t2,
        "T2 is {:?}, but the next copy came at {second:?}",
        hasty().t2
    );
    assert!(last <= LIFETIME + LATE);
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_d_acknowledges_copies_of_a_rejection_that_is_heard_once(on: Setting) {
    let mut peer = Peer::called_by(&on, Method::Invite).await;
    let invite = peer.asked.clone();
    for _ in 0..3 {
        peer.send(&answer_bytes(&invite, 486)).await;
        let ack = peer.next_but_copies_of(&invite).await;
        assert_eq!(
            (&ack.method, ack.headers.value("Via")),
            (&Method::Ack, invite.headers.value("Via"))
        );
        // RFC 3261 section 17.1.1.2: over a reliable transport timer D is zero, and there are no copies.
        if on.network.transport().is_reliable() {
            break;
        }
    }
    peer.hears.expect_response(486).await;
    peer.hears.expect_silence(QUIET).await;
    peer.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_k_absorbs_copies_of_a_final_answer(on: Setting) {
    let bare = Bare::start(&on).await;
    let tx = ask(&bare, Method::Options).await;
    let options = bare.expect(Method::Options).await;
    for _ in 0..3 {
        bare.send(&answer_bytes(&options, 200)).await;
    }
    assert_eq!(bare.hears.expect_response(200).await.0, tx);
    assert_eq!(bare.hears.expect_ended(tx).await, TxEnd::Done);
    bare.send(&answer_bytes(&options, 200)).await;
    bare.hears.expect_silence(QUIET).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_m_lets_forked_answers_through_for_64_t1(on: Setting) {
    let bare = Bare::start(&on).await;
    let tx = ask(&bare, Method::Invite).await;
    let invite = bare.expect(Method::Invite).await;
    let since = Instant::now();
    for fork in ["one", "two"] {
        bare.send(&answer(&invite, 200, fork).to_bytes()).await;
        let (answered, response) = bare.hears.expect_response(200).await;
        assert_eq!((answered, response.headers.to().unwrap().tag()), (tx, Some(fork)));
    }
    bare.drain();
    assert_eq!(bare.hears.expect_ended(tx).await, TxEnd::Done);
    let lived = since.elapsed();
    assert!(
        lived >= LIFETIME && lived < LIFETIME + LATE,
        "it ended after {lived:?}"
    );
    bare.expect_silence(Duration::ZERO).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_g_doubles_up_to_t2_until_timer_h_ends_the_rejection(on: Setting) {
    let bare = Bare::start(&on).await;
    let invite = bare.request(Method::Invite, "g", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    let since = Instant::now();
    respond(&*bare.stack, served, &heard, 486).await;
    let over = async { assert_eq!(bare.hears.expect_ended(served).await, TxEnd::TimedOut) };
    let copies = copies_until(&bare, since, over).await;
    check(&copies, &TIMER_E);
    bare.expect_silence(QUIET).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_i_absorbs_copies_of_the_ack(on: Setting) {
    let bare = Bare::start(&on).await;
    let invite = bare.request(Method::Invite, "i", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 486).await;
    let busy = bare.expect_status(486).await;
    for _ in 0..3 {
        bare.send(&ack_of(&invite, &busy)).await;
    }
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::Done);
    bare.drain();
    bare.expect_silence(SHORT_T1 * 4).await;
    bare.hears.expect_silence(Duration::ZERO).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_j_forgets_a_request_after_64_t1(on: Setting) {
    let bare = Bare::start(&on).await;
    let message = bare
        .request(Method::Message, "j", bare.address(), ";rport")
        .to_bytes();
    bare.send(&message).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Message).await;
    respond(&*bare.stack, served, &heard, 200).await;
    let first = bare.expect_status(200).await;
    tokio::time::sleep(LIFETIME / 4).await;
    bare.send(&message).await;
    assert_eq!(bare.expect_status(200).await, first);
    bare.hears.expect_silence(LIFETIME + QUIET).await;
    bare.send(&message).await;
    let (again, ..) = bare.hears.expect_request(Method::Message).await;
    assert_ne!(again, served);
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn timer_l_absorbs_copies_of_an_accepted_invite(on: Setting) {
    let bare = Bare::start(&on).await;
    let invite = bare.request(Method::Invite, "l", bare.address(), ";rport");
    bare.send(&invite.to_bytes()).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Invite).await;
    respond(&*bare.stack, served, &heard, 200).await;
    let accepted = bare.expect_status(200).await;
    for _ in 0..3 {
        bare.send(&invite.to_bytes()).await;
    }
    bare.expect_silence(QUIET).await;
    let mut ack = bare.request(Method::Ack, "another", bare.address(), "");
    for (name, from) in [
        ("From", &invite.headers),
        ("To", &accepted.headers),
        ("Call-ID", &invite.headers),
    ] {
        ack.headers.remove(name);
        ack.headers.copy_from(from, name);
    }
    for _ in 0..2 {
        bare.send(&ack.to_bytes()).await;
        let heard = bare.hears.expect_ack().await;
        assert_eq!(heard.headers.value("Call-ID"), invite.headers.value("Call-ID"));
    }
    assert_eq!(bare.hears.expect_ended(served).await, TxEnd::Done);
    bare.hears.expect_silence(Duration::ZERO).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_reliable_transport_carries_nothing_twice(on: Setting) {
    for method in [Method::Invite, Method::Options] {
        let mut peer = Peer::called_by(&on, method).await;
        peer.expect_silence(QUIET).await;
        peer.stack.shutdown(Duration::ZERO).await;
    }
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let mut stream = TcpStream::connect(stack.listeners()[0].bound).await.unwrap();
    let mut invite = request(Method::Invite, SipUri::from_addr(stack.listeners()[0].bound));
    let own = stream.local_addr().unwrap();
    invite
        .headers
        .push_front("Via", format_args!("SIP/2.0/TCP {own};branch=z9hG4bKg"));
    stream.write_all(&invite.to_bytes()).await.unwrap();
    let (served, heard, _) = hears.expect_request(Method::Invite).await;
    respond(&*stack, served, &heard, 486).await;
    let mut unread = Vec::new();
    let busy = read_one(&mut stream, &mut unread).await;
    let SipMessage::Response(busy) = busy else {
        panic!("{busy:?} is no answer")
    };
    assert_eq!(busy.status, 486);
    // Line ends are keepalives (RFC 5626 section 3.5.1).
    let only_line_ends = |unread: &[u8]| unread.iter().all(|octet| b"\r\n".contains(octet));
    let more = async {
        while only_line_ends(&unread) && stream.read_buf(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    let more = tokio::time::timeout(QUIET, more).await;
    assert!(more.is_err(), "{:?}", String::from_utf8_lossy(&unread));
    stream.write_all(&ack_of(&invite, &busy)).await.unwrap();
    assert_eq!(hears.expect_ended(served).await, TxEnd::Done);
    stack.shutdown(Duration::ZERO).await;
}

/// A peer that a stack has sent a request to, over either transport.
struct Peer {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    asked: SipRequest,
    wire: Wire,
}

enum Wire {
    Connection(TcpStream, Vec<u8>),
    Datagrams(Box<Bare>),
}

impl Peer {
    async fn called_by(on: &Setting, method: Method) -> Self {
        if on.network.transport() == Transport::Udp {
            let bare = Bare::start(on).await;
            ask(&bare, method.clone()).await;
            return Peer {
                stack: bare.stack.clone(),
                hears: bare.hears.clone(),
                asked: bare.expect(method).await,
                wire: Wire::Datagrams(Box::new(bare)),
            };
        }
        let hears = hears();
        let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
        let listener = TcpListener::bind(on.network.loopback(0)).await.unwrap();
        let target = SipUri::from_addr(listener.local_addr().unwrap()).with_transport(Transport::Tcp);
        let tx = TxIds::new(TxOwner::user(1)).mint();
        let sent = stack.send_request(tx, request(method.clone(), target), Route::by_request());
        let (sent, accepted) = tokio::join!(sent, listener.accept());
        sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
        let (mut stream, _) = accepted.unwrap();
        let mut unread = Vec::new();
        match read_one(&mut stream, &mut unread).await {
            SipMessage::Request(asked) if asked.method == method => Peer {
                stack,
                hears,
                asked,
                wire: Wire::Connection(stream, unread),
            },
            other => panic!("expected a {method}, but came {other:?}"),
        }
    }

    async fn send(&mut self, octets: &[u8]) {
        match &mut self.wire {
            Wire::Connection(stream, _) => stream.write_all(octets).await.unwrap(),
            Wire::Datagrams(bare) => bare.send(octets).await,
        }
    }

    async fn next_but_copies_of(&mut self, request: &SipRequest) -> SipRequest {
        loop {
            let next = match &mut self.wire {
                Wire::Connection(stream, unread) => read_one(stream, unread).await,
                Wire::Datagrams(bare) => bare.next().await,
            };
            match next {
                SipMessage::Request(next) if next != *request => return next,
                SipMessage::Request(_) => {}
                SipMessage::Response(response) => panic!("an answer to nothing: {response:?}"),
            }
        }
    }

    /// Line ends are keepalives (RFC 5626 section 3.5.1), and nothing.
    async fn expect_silence(&mut self, time: Duration) {
        match &mut self.wire {
            Wire::Connection(stream, unread) => {
                let _ = tokio::time::timeout(time, async {
                    while stream.read_buf(unread).await.unwrap() > 0 {}
                })
                .await;
                unread.retain(|octet| !matches!(octet, b'\r' | b'\n'));
                assert!(unread.is_empty(), "{:?}", String::from_utf8_lossy(unread));
            }
            Wire::Datagrams(bare) => bare.expect_silence(time).await,
        }
    }
}

/// The next message on a connection; every one has a Content-Length.
async fn read_one(stream: &mut TcpStream, unread: &mut Vec<u8>) -> SipMessage {
    let reading = async {
        loop {
            let start = unread.iter().position(|octet| !matches!(octet, b'\r' | b'\n'));
            unread.drain(..start.unwrap_or(unread.len()));
            let message = SipMessage::parse(&Bytes::copy_from_slice(unread), &Limits::default());
            if let Ok(message) = message {
                let end = unread
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                    .unwrap_or_default()
                    + 4;
                let body = message.headers().content_length().unwrap().unwrap_or_default();
                unread.drain(..end + body);
                return message;
            }
            assert_ne!(
                stream.read_buf(unread).await.unwrap(),
                0,
                "the connection was closed"
            );
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    read.unwrap_or_else(|_| panic!("no message in {PATIENCE:?}"))
}

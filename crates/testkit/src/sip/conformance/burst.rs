//! Ten thousand requests at once, and peers that do not listen: memory is bounded, and the stack is there afterwards.

use super::line::Line;
use super::{Network, PATIENCE, Setting, config, hears, respond, start_one};
use crate::sip::RecordingSink;
use siprtc_core::sip::{Method, SipMessage, SipStack, StackEvent};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Ten thousand requests at once, and peers that do not listen.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_burst {
    ($then:ident $given:tt) => {
        $crate::$then! { $given burst
            a_burst_on_a_connection_is_answered_503_where_there_is_no_room
                Undisturbed [Tcp Tls Ws] []
                "RFC 3261 21.5.4" "Of 10,000 requests at once each gets an answer, 503 with Retry-After where its user is full, in bounded memory.";
            a_burst_of_datagrams_is_survived
                Undisturbed [Udp] []
                "RFC 3261 21.5.4" "10,000 datagrams at once to a user who is full cost bounded memory; those that arrive are answered 503.";
            a_burst_of_invites_is_survived
                Undisturbed [Udp] []
                "RFC 3261 21.5.4" "10,000 INVITEs at once that nobody acknowledges cost bounded memory, and their 503 are repeated only so long.";
            a_peer_that_sends_and_never_reads_harms_nobody
                Undisturbed [Tcp] []
                "RFC 3261 18.3" "A connection that takes no answers is not waited for: memory is bounded, and others are served.";
        }
    };
}

/// A burst.
const MANY: usize = 10_000;

/// As many requests as the user takes.
const ROOM: usize = 100;

/// What the process may grow by: 12 kB for each request of a burst.
const MOST_GROWTH: usize = 120 << 20;

/// Octets of this process that are in memory, where the system tells (Linux).
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

struct Flooded {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    before: usize,
}

impl Flooded {
    /// A stack that has served one request already.
    async fn start(on: &Setting) -> Self {
        let hears = hears();
        let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
        let flooded = Flooded {
            stack,
            hears,
            before: 0,
        };
        flooded.serves_others(on, "before").await;
        Flooded {
            before: resident(),
            ..flooded
        }
    }

    async fn serves_others(&self, on: &Setting, branch: &str) {
        let to = self.stack.listeners()[0].bound;
        let answer = async {
            loop {
                if let StackEvent::Request { tx, request, .. } = self.hears.next().await
                    && request.method == Method::Options
                {
                    break respond(&*self.stack, tx, &request, 200).await;
                }
            }
        };
        if on.network == Network::Udp {
            let socket = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
            let bare = super::bare::Bare::at(self.stack.clone(), self.hears.clone(), socket).await;
            let options = bare.request(Method::Options, branch, bare.address(), ";rport");
            bare.send(&options.to_bytes()).await;
            answer.await;
            bare.expect_status(200).await;
        } else {
            let mut line = Line::to(on.network, to).await;
            let options = line.request(Method::Options, to, branch);
            line.send(&options.to_bytes()).await;
            answer.await;
            line.expect_status(200).await;
        }
    }

    fn check_memory(&self) {
        let grown = resident().saturating_sub(self.before);
        assert!(
            grown < MOST_GROWTH,
            "{MANY} requests made the process grow by {} MB",
            grown >> 20
        );
    }

    async fn stop(self) {
        self.stack.shutdown(Duration::ZERO).await;
    }
}

pub(super) async fn a_burst_on_a_connection_is_answered_503_where_there_is_no_room(on: Setting) {
    let flooded = Flooded::start(&on).await;
    let to = flooded.stack.listeners()[0].bound;
    let mut line = Line::to(on.network, to).await;
    let taken = Arc::new(AtomicUsize::new(0));
    // A task of its own: an answer under way is never dropped.
    let mut user = tokio::spawn(serve(flooded.stack.clone(), flooded.hears.clone(), taken.clone()));
    let (mut served, mut refused) = (0, 0);
    // In pieces, and reading between them, as a peer does that has one thread.
    for piece in 0..MANY / 1000 {
        let mut octets = Vec::new();
        for number in 0..1000 {
            let request = line
                .request(Method::Message, to, &format!("burst{piece}x{number}"))
                .to_bytes();
            match on.network {
                Network::Ws | Network::Wss => line.send(&request).await,
                _ => octets.extend_from_slice(&request),
            }
        }
        line.send(&octets).await;
        while served + refused < (piece + 1) * 1000 {
            let answer = tokio::select! {
                answer = next_answer(&mut line) => answer,
                gone = &mut user => panic!("after {taken:?} requests the user could not answer: {gone:?}"),
            };
            match answer {
                (100, _) => (),
                (200, _) => served += 1,
                (503, true) => refused += 1,
                (status, _) => panic!("a {status}, or one without Retry-After"),
            }
        }
    }
    let taken = taken.load(Ordering::Relaxed);
    assert_eq!(
        (served + refused, served),
        (MANY, taken),
        "answers, and those of the user"
    );
    assert!(refused >= MANY / 2, "the user took {taken}");
    flooded.check_memory();
    user.abort();
    let _ = user.await;
    flooded.hears.refuse_requests(false);
    flooded.serves_others(&on, "after").await;
    flooded.stop().await;
}

/// A user who takes [`ROOM`] requests, and what came before he said that he is full.
async fn serve(stack: Arc<dyn SipStack>, hears: Arc<RecordingSink>, taken: Arc<AtomicUsize>) {
    loop {
        if let StackEvent::Request { tx, request, .. } = hears.next().await {
            let before = taken.fetch_add(1, Ordering::Relaxed);
            hears.refuse_requests(before + 1 >= ROOM);
            respond(&*stack, tx, &request, 200).await;
        }
    }
}

/// The status of the next answer and whether it has Retry-After.
async fn next_answer(line: &mut Line) -> (u16, bool) {
    match line.next().await {
        SipMessage::Response(answer) => (answer.status, answer.headers.contains("Retry-After")),
        SipMessage::Request(request) => panic!("a request from nowhere: {request:?}"),
    }
}

pub(super) async fn a_burst_of_datagrams_is_survived(on: Setting) {
    flood(&on, Method::Message).await;
}

pub(super) async fn a_burst_of_invites_is_survived(on: Setting) {
    flood(&on, Method::Invite).await;
}

async fn flood(on: &Setting, method: Method) {
    let flooded = Flooded::start(on).await;
    flooded.hears.refuse_requests(true);
    let socket = UdpSocket::bind(on.network.loopback(0)).await.unwrap();
    let bare = super::bare::Bare::at(flooded.stack.clone(), flooded.hears.clone(), socket).await;
    let mut answered = 0;
    let mut buffer = [0; 2048];
    for number in 0..MANY {
        let request = bare.request(
            method.clone(),
            &format!("flood{number}"),
            bare.address(),
            ";rport",
        );
        // A full socket drops it, as a network does.
        let _ = bare.socket.try_send(&request.to_bytes());
        if number % 50 == 0 {
            tokio::task::yield_now().await;
        }
        while let Ok(length) = bare.socket.try_recv(&mut buffer) {
            answered += usize::from(buffer[..length].starts_with(b"SIP/2.0 503"));
        }
    }
    // 64*T1 passes: what was repeated is over.
    let quiet = tokio::time::timeout(PATIENCE, async {
        while let Ok(Ok(length)) =
            tokio::time::timeout(super::SHORT_T1 * 20, bare.socket.recv(&mut buffer)).await
        {
            answered += usize::from(buffer[..length].starts_with(b"SIP/2.0 503"));
        }
    });
    assert!(quiet.await.is_ok(), "503 answers are repeated without an end");
    assert!(answered > 0, "no request was answered 503");
    flooded.check_memory();
    flooded.hears.refuse_requests(false);
    flooded.serves_others(on, "after").await;
    flooded.stop().await;
}

pub(super) async fn a_peer_that_sends_and_never_reads_harms_nobody(on: Setting) {
    let flooded = Flooded::start(&on).await;
    flooded.hears.refuse_requests(true);
    let to = flooded.stack.listeners()[0].bound;
    let mut deaf = Line::to(on.network, to).await;
    let padding = "x".repeat(400);
    let send = async {
        for number in 0..MANY {
            let mut request = deaf.request(Method::Message, to, &format!("deaf{number}"));
            // It comes back in the answer, and fills what nobody reads.
            request
                .headers
                .set("Call-ID", format_args!("{number}-{padding}@example.com"));
            if deaf.try_send(&request.to_bytes()).await.is_err() {
                break;
            }
        }
    };
    // The stack may stop reading, or close.
    let _ = tokio::time::timeout(Duration::from_secs(3), send).await;
    flooded.check_memory();
    flooded.hears.refuse_requests(false);
    flooded.serves_others(&on, "after").await;
    flooded.check_memory();
    drop(deaf);
    flooded.stop().await;
}

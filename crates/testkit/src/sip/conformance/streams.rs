//! Messages on a connection: framing, halves, several at once, large ones.

use super::line::Line;
use super::{Pair, Setting, config, hears, respond, start_one};
use crate::sip::{RecordingSink, answer};
use siprtc_core::sip::{Method, SipStack};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Messages on a connection: framing, halves, several at once, large ones.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_streams {
    ($then:ident $given:tt) => {
        $crate::$then! { $given streams
            a_request_in_two_segments_is_one_wherever_it_is_split
                Alone [Tcp Tcp6 Tls] []
                "RFC 3261 18.3" "Content-Length alone says where a message on a connection ends, not the segments.";
            a_request_that_arrives_octet_by_octet_is_one
                Alone [Tcp Tls] []
                "RFC 3261 18.3" "A message may arrive in as many segments as it has octets.";
            three_requests_in_one_segment_are_three
                Alone [Tcp Tcp6 Tls] []
                "RFC 3261 18.3" "Requests that arrive together are heard one by one, in their order, with their bodies.";
            line_ends_before_a_request_are_ignored
                Alone [Tcp Tls Ws] []
                "RFC 3261 7.5" "CRLFs before, between and behind requests harm none of them.";
            a_body_of_60_kilobytes_arrives_whole
                Pair [Tcp Tls Ws | Tcp6 Wss] []
                "RFC 3261 18.1.1" "A message of nearly 65,535 octets passes over a connection, in both directions.";
            a_body_of_8_kilobytes_arrives_in_a_datagram
                Pair [Udp | Udp6] []
                "RFC 3261 18.1.1" "A fragmented datagram is a message like another.";
            answers_of_many_requests_keep_apart_on_one_connection
                Alone [Tcp Tls Ws] []
                "RFC 3261 17.1.3" "Fifty requests of one connection are answered backwards, each to its own branch.";
        }
    };
}

/// A stack, and a connection to it.
struct Caller {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    line: Line,
    to: SocketAddr,
}

impl Caller {
    async fn start(on: &Setting) -> Self {
        let hears = hears();
        let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
        let to = stack.listeners()[0].bound;
        let line = Line::to(on.network, to).await;
        Caller {
            stack,
            hears,
            line,
            to,
        }
    }

    fn message(&self, branch: &str, body: &str) -> Vec<u8> {
        let request = self.line.request(Method::Message, self.to, branch);
        request
            .with_body("text/plain", body.to_owned())
            .to_bytes()
            .to_vec()
    }

    /// The next request has this branch and this body; it is answered.
    async fn serve(&mut self, branch: &str, body: &str) {
        let (served, heard, _) = self.hears.expect_request(Method::Message).await;
        let via = heard.headers.top_via().unwrap();
        assert_eq!(via.branch(), Some(format!("z9hG4bK{branch}").as_str()));
        assert_eq!(heard.body, body.as_bytes());
        respond(&*self.stack, served, &heard, 200).await;
        let answered = self.line.expect_status(200).await;
        assert_eq!(answered.headers.top_via().unwrap().branch(), via.branch());
    }

    async fn stop(self) {
        self.stack.shutdown(Duration::ZERO).await;
    }
}

pub(super) async fn a_request_in_two_segments_is_one_wherever_it_is_split(on: Setting) {
    let mut caller = Caller::start(&on).await;
    let whole = caller.message("split0", "hello");
    let head = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let around_the_empty_line = head - 1..head + 6;
    let splits: Vec<usize> = (1..whole.len())
        .step_by(37)
        .chain(around_the_empty_line)
        .chain([whole.len() - 1])
        .collect();
    for (number, split) in splits.into_iter().enumerate() {
        let branch = format!("split{number:03}");
        let whole = caller.message(&branch, "hello");
        let (one, other) = whole.split_at(split.min(whole.len() - 1));
        caller.line.send(one).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        caller.line.send(other).await;
        caller.serve(&branch, "hello").await;
    }
    caller.stop().await;
}

pub(super) async fn a_request_that_arrives_octet_by_octet_is_one(on: Setting) {
    let mut caller = Caller::start(&on).await;
    for octet in caller.message("octets", "hi") {
        caller.line.send(&[octet]).await;
        tokio::task::yield_now().await;
    }
    caller.serve("octets", "hi").await;
    caller.stop().await;
}

pub(super) async fn three_requests_in_one_segment_are_three(on: Setting) {
    let mut caller = Caller::start(&on).await;
    let bodies = ["one", "", "three\r\n\r\nMESSAGE sip:not@a.message SIP/2.0\r\n"];
    let together: Vec<Vec<u8>> = (0..3)
        .map(|number| caller.message(&format!("together{number}"), bodies[number]))
        .collect();
    caller.line.send(&together.concat()).await;
    for (number, body) in bodies.into_iter().enumerate() {
        caller.serve(&format!("together{number}"), body).await;
    }
    // One and a half, then the other half with another behind it.
    let next: Vec<Vec<u8>> = (3..6)
        .map(|number| caller.message(&format!("together{number}"), "more"))
        .collect();
    let (early, late) = next[1].split_at(next[1].len() / 2);
    caller.line.send(&[&next[0], early].concat()).await;
    caller.serve("together3", "more").await;
    caller.line.send(&[late, &next[2]].concat()).await;
    caller.serve("together4", "more").await;
    caller.serve("together5", "more").await;
    caller.stop().await;
}

pub(super) async fn line_ends_before_a_request_are_ignored(on: Setting) {
    let mut caller = Caller::start(&on).await;
    for (number, ends) in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n"].into_iter().enumerate() {
        let branch = format!("ends{number}");
        let message = caller.message(&branch, "text");
        match on.network.transport().as_str() {
            // RFC 7118 section 5: a WebSocket message is one SIP message; line ends are a keepalive of their own.
            "WS" | "WSS" => {
                caller.line.send(ends.as_bytes()).await;
                caller.line.send(&message).await;
            }
            _ => {
                caller
                    .line
                    .send(&[ends.as_bytes(), &message, ends.as_bytes()].concat())
                    .await
            }
        }
        caller.serve(&branch, "text").await;
    }
    caller.hears.expect_silence(Duration::from_millis(20)).await;
    caller.stop().await;
}

pub(super) async fn a_body_of_60_kilobytes_arrives_whole(on: Setting) {
    echo(&on, 60_000).await;
}

pub(super) async fn a_body_of_8_kilobytes_arrives_in_a_datagram(on: Setting) {
    echo(&on, 8_000).await;
}

async fn echo(on: &Setting, length: u32) {
    let pair = Pair::start_patient(on).await;
    let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let asked = pair.request(Method::Message);
    pair.ask(asked.with_body("application/octet-stream", body.clone()))
        .await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    assert!(heard.body == body, "the body changed on its way");
    let echo = answer(&heard, 200, "bob").with_body("application/octet-stream", body.clone());
    pair.bob.respond(served, echo).await.unwrap();
    let (_, heard) = pair.alice_hears.expect_response(200).await;
    assert!(heard.body == body, "the body changed on its way back");
    pair.stop().await;
}

pub(super) async fn answers_of_many_requests_keep_apart_on_one_connection(on: Setting) {
    const MANY: usize = 50;
    let mut caller = Caller::start(&on).await;
    let mut open = Vec::new();
    for number in 0..MANY {
        let message = caller.message(&format!("apart{number}"), "text");
        caller.line.send(&message).await;
    }
    for _ in 0..MANY {
        open.push(caller.hears.expect_request(Method::Message).await);
    }
    let mut unanswered = BTreeSet::new();
    for (served, heard, _) in open.into_iter().rev() {
        unanswered.extend(heard.headers.top_via().unwrap().branch().map(str::to_owned));
        respond(&*caller.stack, served, &heard, 200).await;
    }
    assert_eq!(unanswered.len(), MANY);
    // In any order: a stack may have a task for each.
    for _ in 0..MANY {
        let answered = caller.line.expect_status(200).await;
        let branch = answered.headers.top_via().unwrap().branch().map(str::to_owned);
        assert!(
            branch.as_ref().is_some_and(|branch| unanswered.remove(branch)),
            "{branch:?} was answered twice, or never asked"
        );
    }
    caller.stop().await;
}

//! Subscriptions from end to end (RFC 6665): the facade, a socket, and a notifier that is forty lines of a test.

use crate::house::SOON;
use siprtc::Subscription;
use siprtc::gateway::SubscriptionEvent;
use siprtc::prelude::*;
use siprtc_core::sip::{CSeq, Limits, Method, SipMessage, SipRequest, SipResponse};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;

const SUMMARY: &str = "Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n";

/// Somebody who has messages.
struct Notifier {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    sequence: u32,
}

impl Notifier {
    async fn new() -> Self {
        Notifier {
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            peer: None,
            sequence: 0,
        }
    }

    fn uri(&self) -> String {
        format!("sip:box@{}", self.socket.local_addr().unwrap())
    }

    async fn hear(&mut self) -> SipMessage {
        let mut datagram = vec![0; 4096];
        let heard = tokio::time::timeout(SOON, self.socket.recv_from(&mut datagram));
        let (length, from) = heard.await.expect("something comes").unwrap();
        self.peer = Some(from);
        SipMessage::parse(&datagram[..length].to_vec().into(), &Limits::default()).unwrap()
    }

    async fn subscribed(&mut self, expires: &str) -> SipRequest {
        match self.hear().await {
            SipMessage::Request(request) if request.method == Method::Subscribe => {
                assert_eq!(request.headers.value("Event"), Some("message-summary"));
                assert_eq!(request.headers.value("Expires"), Some(expires));
                request
            }
            other => panic!("a SUBSCRIBE was expected: {other:?}"),
        }
    }

    async fn say(&self, message: impl Into<Vec<u8>>) {
        let message: Vec<u8> = message.into();
        self.socket.send_to(&message, self.peer.unwrap()).await.unwrap();
    }

    async fn answer(&self, request: &SipRequest, status: u16, expires: u32) {
        let mut response = request.response(status);
        let to = response.headers.to().unwrap().with_tag("n");
        response.headers.set("To", to);
        response.headers.push("Contact", format!("<{}>", self.uri()));
        response.headers.push("Expires", expires);
        self.say(response.to_bytes()).await;
    }

    /// Notifies the subscriber of `request`; gives its answer.
    async fn notify(&mut self, request: &SipRequest, state: &str, body: &str) -> SipResponse {
        self.sequence += 1;
        let mut notify = SipRequest::new(Method::Notify, request.headers.contact_uri().unwrap());
        let address = self.socket.local_addr().unwrap();
        notify.headers.push(
            "Via",
            format!("SIP/2.0/UDP {address};branch=z9hG4bKn{}", self.sequence),
        );
        notify.headers.push("Max-Forwards", 70);
        notify
            .headers
            .push("From", request.headers.to().unwrap().with_tag("n"));
        notify.headers.push("To", request.headers.from().unwrap());
        notify.headers.push("Call-ID", request.headers.call_id().unwrap());
        let cseq = CSeq {
            sequence: self.sequence,
            method: Method::Notify,
        };
        notify.headers.push("CSeq", cseq);
        notify.headers.push("Contact", format!("<{}>", self.uri()));
        notify.headers.push("Event", "message-summary");
        notify.headers.push("Subscription-State", state);
        let notify = notify.with_body("application/simple-message-summary", body.to_owned());
        self.say(notify.to_bytes()).await;
        match self.hear().await {
            SipMessage::Response(response) => response,
            SipMessage::Request(request) => panic!("an answer was expected: {request:?}"),
        }
    }
}

async fn next(subscription: &mut Subscription) -> SubscriptionEvent {
    let told = tokio::time::timeout(SOON, subscription.next()).await;
    told.expect("it tells something").expect("it is not over")
}

async fn alice() -> Endpoint {
    let config = Layers::new()
        .set("account.uri", "sip:alice@house.test")
        .set("account.register", "false")
        .text("[sip]\nlisten = [\"udp:127.0.0.1:0\"]")
        .load()
        .unwrap();
    Endpoint::start(&config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_messages_are_told_until_we_take_leave() {
    let (alice, mut notifier) = (alice().await, Notifier::new().await);
    let mut subscription = alice.subscribe(&notifier.uri(), "message-summary").await.unwrap();
    let first = notifier.subscribed("3600").await;
    notifier.answer(&first, 200, 600).await;
    let told = notifier.notify(&first, "active;expires=600", SUMMARY).await;
    assert_eq!(told.status, 200);
    let mut seen = [next(&mut subscription).await, next(&mut subscription).await];
    seen.sort_by_key(|event| matches!(event, SubscriptionEvent::Notified(_)));
    let [
        SubscriptionEvent::Active { expires },
        SubscriptionEvent::Notified(notice),
    ] = seen
    else {
        panic!("{seen:?}");
    };
    assert_eq!(expires, Duration::from_secs(600));
    assert_eq!(
        (notice.event.as_str(), notice.body.as_slice()),
        ("message-summary", SUMMARY.as_bytes())
    );
    // It leaves within its dialog, and hears the last word.
    subscription.end().await.unwrap();
    let leave = notifier.subscribed("0").await;
    assert_eq!(leave.headers.call_id().unwrap(), first.headers.call_id().unwrap());
    assert_eq!(leave.headers.to().unwrap().tag(), Some("n"));
    notifier.answer(&leave, 200, 0).await;
    notifier
        .notify(&leave, "terminated;reason=timeout", SUMMARY)
        .await;
    loop {
        match next(&mut subscription).await {
            SubscriptionEvent::Ended { .. } => break,
            SubscriptionEvent::Notified(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(subscription.next().await.is_none(), "nothing comes after the end");
    // Whoever goes on telling is told that there is no such subscription.
    let late = notifier.notify(&leave, "active;expires=600", SUMMARY).await;
    assert_eq!(late.status, 481);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_refused_or_ended_says_why() {
    let (alice, mut notifier) = (alice().await, Notifier::new().await);
    let mut refused = alice.subscribe(&notifier.uri(), "message-summary").await.unwrap();
    let asked = notifier.subscribed("3600").await;
    notifier.answer(&asked, 489, 0).await;
    let ended = next(&mut refused).await;
    assert!(
        matches!(
            ended,
            SubscriptionEvent::Ended {
                status: Some(489),
                ..
            }
        ),
        "{ended:?}"
    );

    let mut rejected = alice.subscribe(&notifier.uri(), "message-summary").await.unwrap();
    let asked = notifier.subscribed("3600").await;
    notifier.answer(&asked, 200, 600).await;
    notifier
        .notify(&asked, "terminated;reason=rejected;retry-after=30", "")
        .await;
    let reason = loop {
        if let SubscriptionEvent::Ended { reason, .. } = next(&mut rejected).await {
            break reason;
        }
    };
    assert!(
        reason
            .as_deref()
            .is_some_and(|reason| reason.contains("rejected")),
        "{reason:?}"
    );
    alice.shutdown().await;
}

//! Others who subscribe to what an endpoint tells (RFC 6665, RFC 4235), and who ask it for calls (RFC 3515).

use crate::house::{SOON, endpoint, endpoint_with, event, home, rings};
use siprtc::Subscription;
use siprtc::gateway::SubscriptionEvent;
use siprtc::prelude::*;
use siprtc_core::sip::{Limits, Method, SipMessage, SipRequest};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The next body that tells of `word`; what came before it is passed over.
async fn told(subscription: &mut Subscription, word: &str) -> String {
    let mut seen = Vec::new();
    let search = async {
        while let Some(event) = subscription.next().await {
            if let SubscriptionEvent::Notified(notice) = event {
                let body = String::from_utf8(notice.body).unwrap();
                if body.contains(word) {
                    return Some(body);
                }
                seen.push(body);
            }
        }
        None
    };
    let told = timeout(SOON, search).await;
    told.ok()
        .flatten()
        .unwrap_or_else(|| panic!("nothing of {word}, only {seen:#?}"))
}

async fn ended(subscription: &mut Subscription) -> (Option<u16>, Option<String>) {
    let search = async {
        loop {
            let told = subscription.next().await.expect("its end is told");
            if let SubscriptionEvent::Ended { status, reason, .. } = told {
                return (status, reason);
            }
        }
    };
    timeout(SOON, search).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colleague_sees_the_calls_come_and_go() {
    let home = home().await;
    let watched = "[call]\nnotifies = [\"dialog\"]\nwatchers = \"all\"";
    let bob = endpoint_with(&home, "bob", watched).await;
    let (alice, mut carol) = (endpoint(&home, "alice").await, endpoint(&home, "carol").await);
    let mut watching = alice.subscribe("bob", "dialog").await.unwrap();
    let first = told(&mut watching, "entity=\"sip:bob@house.test\"").await;
    assert!(
        first.contains("state=\"full\"") && !first.contains("<dialog "),
        "{first}"
    );

    let mut call = bob.dial("carol", MediaPlan::default()).await.unwrap();
    told(&mut watching, "<state>early</state>").await;
    let mut answered = rings(&mut carol)
        .await
        .answer(MediaPlan::default())
        .await
        .unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    let confirmed = told(&mut watching, "<state>confirmed</state>").await;
    let name = call.dialog_name().await.unwrap();
    for word in [
        "direction=\"initiator\"".to_owned(),
        format!("call-id=\"{}\"", name.call_id),
        format!("local-tag=\"{}\"", name.local_tag),
        format!("remote-tag=\"{}\"", name.remote_tag),
        "<identity>sip:carol@house.test</identity>".to_owned(),
    ] {
        assert!(confirmed.contains(&word), "{word} in {confirmed}");
    }
    call.hangup().await.unwrap();
    let last = told(&mut watching, "</dialog-info>").await;
    assert!(!last.contains("<dialog "), "{last}");

    bob.shutdown().await;
    let (_, reason) = ended(&mut watching).await;
    assert!(reason.is_some_and(|reason| reason.contains("deactivated")));
    for endpoint in [alice, carol] {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_what_the_application_says() {
    let home = home().await;
    let watched = "[call]\nnotifies = [\"presence\"]\nwatchers = \"all\"";
    let bob = endpoint_with(&home, "bob", watched).await;
    let alice = endpoint(&home, "alice").await;
    bob.notify("presence", "<presence>away</presence>").await.unwrap();
    let mut watching = alice.subscribe("bob", "presence").await.unwrap();
    told(&mut watching, "away").await;
    bob.notify("presence", "<presence>here</presence>").await.unwrap();
    told(&mut watching, "here").await;
    watching.end().await.unwrap();
    ended(&mut watching).await;

    let mut other = alice.subscribe("bob", "dialog").await.unwrap();
    assert_eq!(ended(&mut other).await.0, Some(489));
    for event in ["dialog", "message-summary"] {
        let refused = bob.notify(event, "x").await.unwrap_err();
        assert_eq!(refused.fault(), Fault::ApiMisuse);
    }
    for endpoint in [alice, bob] {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
}

/// Somebody who asks for calls, and hears how they go.
struct Desktop(UdpSocket);

impl Desktop {
    async fn new() -> Self {
        Desktop(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    /// Asks the endpoint at `to` to call `target`: the status of its answer.
    async fn asks(&self, to: std::net::SocketAddr, target: &str, number: u32) -> u16 {
        let own = self.0.local_addr().unwrap();
        let refer = format!(
            "REFER sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKr{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:desktop@house.test>;tag=d{number}\r\nTo: <sip:bob@house.test>\r\nCall-ID: click-{number}\r\nCSeq: 1 REFER\r\n\
             Contact: <sip:desktop@{own}>\r\nRefer-To: <{target}>\r\nReferred-By: <sip:desktop@house.test>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.0.send_to(refer.as_bytes(), to).await.unwrap();
        match self.hear().await.0 {
            SipMessage::Response(response) => response.status,
            SipMessage::Request(request) => panic!("an answer was expected: {request:?}"),
        }
    }

    async fn hear(&self) -> (SipMessage, std::net::SocketAddr) {
        let mut datagram = vec![0; 4096];
        let heard = timeout(SOON, self.0.recv_from(&mut datagram)).await;
        let (length, from) = heard.expect("something comes").unwrap();
        let message = SipMessage::parse(&datagram[..length].to_vec().into(), &Limits::default()).unwrap();
        (message, from)
    }

    /// The next line that is told, and whether it is the last one.
    async fn news(&self) -> (String, bool) {
        loop {
            let (message, from) = self.hear().await;
            let SipMessage::Request(notify) = message else {
                continue;
            };
            assert_eq!(notify.method, Method::Notify);
            self.0
                .send_to(&notify.response(200).to_bytes(), from)
                .await
                .unwrap();
            return read(&notify);
        }
    }
}

fn read(notify: &SipRequest) -> (String, bool) {
    assert_eq!(notify.headers.value("Event"), Some("refer"));
    let state = notify.headers.value("Subscription-State").unwrap();
    let line = String::from_utf8(notify.body.to_vec()).unwrap();
    (line.trim().to_owned(), state.starts_with("terminated"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_asks_for_a_call_and_hears_how_it_goes() {
    let home = home().await;
    let mut bob = endpoint_with(&home, "bob", "[call]\nreferrals = \"all\"").await;
    let mut carol = endpoint(&home, "carol").await;
    let at = bob.listeners()[0].bound;
    let desktop = Desktop::new().await;
    let mut referrals = bob.referrals().unwrap();
    assert!(bob.referrals().is_none(), "one reads them");

    assert_eq!(desktop.asks(at, "sip:carol@house.test", 1).await, 202);
    assert_eq!(desktop.news().await, ("SIP/2.0 100 Trying".to_owned(), false));
    let referral = timeout(SOON, referrals.next()).await.unwrap().unwrap();
    assert_eq!(referral.to().to_string(), "sip:carol@house.test");
    let by = referral.referred_by().unwrap().uri.to_string();
    assert_eq!(
        (by.as_str(), referral.replaces()),
        ("sip:desktop@house.test", false)
    );
    let mut call = referral.accept(MediaPlan::default()).await.unwrap();
    let ringing = rings(&mut carol).await;
    let mut answered = ringing.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    let mut lines = Vec::new();
    loop {
        let (line, is_last) = desktop.news().await;
        lines.push(line);
        if is_last {
            break;
        }
    }
    assert_eq!(
        lines.last().map(String::as_str),
        Some("SIP/2.0 200 OK"),
        "{lines:?}"
    );
    call.hangup().await.unwrap();
    event(&mut answered, |event| matches!(event, CallEventKind::Ended(_))).await;

    assert_eq!(desktop.asks(at, "sip:carol@house.test", 2).await, 202);
    desktop.news().await;
    let referral = timeout(SOON, referrals.next()).await.unwrap().unwrap();
    referral.refuse(486).await.unwrap();
    assert_eq!(desktop.news().await, ("SIP/2.0 486 Busy Here".to_owned(), true));
    for endpoint in [bob, carol] {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_for_calls_or_watches_who_has_not_said_so() {
    let home = home().await;
    let (alice, bob) = (endpoint(&home, "alice").await, endpoint(&home, "bob").await);
    let desktop = Desktop::new().await;
    let at = bob.listeners()[0].bound;
    assert_eq!(desktop.asks(at, "sip:carol@house.test", 1).await, 403);
    let mut watching = alice.subscribe("bob", "dialog").await.unwrap();
    assert_eq!(ended(&mut watching).await.0, Some(405));
    for endpoint in [alice, bob] {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
}

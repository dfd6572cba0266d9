//! The decorator over a stack that sends nothing and a name server on loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dns;
mod fake;

use dns::NameServer;
use fake::{Does, Fake, FakeFactory};
use siprtc_core::Fault;
use siprtc_core::sip::{
    FlowId, Headers, Method, Route, SipRequest, SipStack, StackConfig, StackEvent, Transport, TxEnd, TxId,
    TxIds, TxOwner, Uri,
};
use siprtc_sip_locate::{LocateConfig, located};
use siprtc_testkit::sip::RecordingSink;
use std::sync::Arc;
use std::time::Duration;

const CLEAR: &[Transport] = &[Transport::Udp, Transport::Tcp];
const ALL: &[Transport] = &[Transport::Udp, Transport::Tcp, Transport::Tls];

/// Longest that anything here may take; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    fake: Arc<Fake>,
    stack: Arc<dyn SipStack>,
    sink: Arc<RecordingSink>,
    ids: TxIds,
}

impl Bench {
    async fn new(dns: &NameServer, transports: &'static [Transport], does: &[(&str, Does)]) -> Self {
        let fake = Fake::new(transports, does);
        let config = LocateConfig {
            nameservers: vec![dns.addr],
            timeout: Duration::from_millis(600),
            ..LocateConfig::default()
        };
        let sink = RecordingSink::new();
        let factory = located(Arc::new(FakeFactory(fake.clone())), config);
        assert_eq!(factory.name(), "fake");
        let stack = factory.start(StackConfig::default(), sink.clone()).await.unwrap();
        let ids = TxIds::new(TxOwner::user(1));
        Bench {
            fake,
            stack,
            sink,
            ids,
        }
    }

    async fn try_send(&self, request: SipRequest, route: Route) -> siprtc_core::Result<TxId> {
        let tx = self.ids.mint();
        let sending = self.stack.send_request(tx, request, route);
        tokio::time::timeout(PATIENCE, sending).await.unwrap()?;
        Ok(tx)
    }

    async fn send(&self, uri: &str) -> TxId {
        self.try_send(to(uri), Route::by_request()).await.unwrap()
    }

    /// The answers to `tx` and how it ended, in order; anything about another transaction fails.
    async fn heard(&self, tx: TxId) -> (Vec<u16>, TxEnd) {
        let mut statuses = Vec::new();
        loop {
            match self.sink.next().await {
                StackEvent::Response { tx: of, response, .. } => {
                    assert_eq!(of, tx);
                    statuses.push(response.status);
                }
                StackEvent::TxEnded { tx: of, end } => {
                    assert_eq!(of, tx);
                    return (statuses, end);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn to(uri: &str) -> SipRequest {
    let uri: Uri = uri.parse().unwrap();
    SipRequest::new(Method::Invite, uri)
}

fn big(uri: &str) -> SipRequest {
    to(uri).with_body("text/plain", vec![b'x'; 1200])
}

/// Two servers over UDP, and TLS beside them.
const ZONE: &[&str] = &[
    "example.com NAPTR 10 10 s SIPS+D2T _sips._tcp.example.com",
    "example.com NAPTR 20 10 s SIP+D2U _sip._udp.example.com",
    "_sips._tcp.example.com SRV 0 0 5061 edge.provider.net",
    "_sip._udp.example.com SRV 0 0 5060 one.example.com",
    "_sip._udp.example.com SRV 1 0 5060 two.example.com",
    "one.example.com A 192.0.2.1",
    "two.example.com A 192.0.2.2",
    "edge.provider.net A 192.0.2.9",
    // No NAPTR.
    "_sip._udp.plain.example SRV 0 0 5060 one.example.com",
    "_sip._udp.plain.example SRV 1 0 5060 two.example.com",
    // Nothing but addresses.
    "bare.example A 192.0.2.3",
    "clear.example NAPTR 10 10 s SIP+D2T _sip._tcp.clear.example",
];

#[tokio::test]
async fn a_name_becomes_addresses_and_its_certificate_must_still_be_for_the_name() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, ALL, &[]).await;
    let tx = bench.send("sip:bob@example.com").await;
    assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
    let tx = bench.send("sips:bob@example.com").await;
    assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
    assert_eq!(bench.fake.log(), ["TLS 192.0.2.9:5061", "TLS 192.0.2.9:5061"]);
    for sent in bench.fake.sent.lock().unwrap().iter() {
        // Not for edge.provider.net, to which only the DNS leads (RFC 5922 section 7.1).
        assert_eq!(sent.route.server_name.as_deref(), Some("example.com"));
    }
    let tx = bench.send("sip:192.0.2.8:5071;transport=tls").await;
    assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
    let sent = bench.fake.sent.lock().unwrap()[2].clone();
    assert_eq!(
        (sent.to.as_str(), sent.route.server_name),
        ("TLS 192.0.2.8:5071", None)
    );
    // One target: the transaction is the user's own.
    assert_eq!(sent.tx, Some(tx));
}

#[tokio::test]
async fn a_target_that_refuses_breaks_times_out_or_is_unavailable_is_followed_by_the_next() {
    for failure in [
        Does::Refuses,
        Does::Breaks,
        Does::TimesOut,
        Does::Answers(&[503]),
        Does::Answers(&[100, 503]),
    ] {
        let dns = NameServer::with(ZONE).await;
        let bench = Bench::new(&dns, CLEAR, &[("UDP 192.0.2.1:5060", failure.clone())]).await;
        let tx = bench.send("sip:bob@plain.example").await;
        let (statuses, end) = bench.heard(tx).await;
        assert_eq!((statuses.last(), end), (Some(&200), TxEnd::Done));
        assert!(!statuses.contains(&503));
        assert_eq!(bench.fake.log(), ["UDP 192.0.2.1:5060", "UDP 192.0.2.2:5060"]);
        let ids: Vec<_> = bench
            .fake
            .sent
            .lock()
            .unwrap()
            .iter()
            .map(|sent| sent.tx)
            .collect();
        assert_ne!(ids[0], ids[1]);
        // The dead one is tried last from now on, by the ACK too.
        let tx = bench.send("sip:bob@plain.example").await;
        bench.heard(tx).await;
        let ack = SipRequest::new(Method::Ack, "sip:bob@plain.example".parse::<Uri>().unwrap());
        bench.stack.send_ack(ack, Route::by_request()).await.unwrap();
        assert_eq!(
            bench.fake.log()[2..],
            ["UDP 192.0.2.2:5060", "UDP 192.0.2.2:5060"]
        );
        bench.sink.expect_silence(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn when_every_target_fails_the_last_failure_is_told_once() {
    for (second, told) in [
        (
            Does::Breaks,
            (vec![], TxEnd::Transport("the connection broke".to_owned())),
        ),
        (Does::TimesOut, (vec![], TxEnd::TimedOut)),
        (Does::Answers(&[503]), (vec![503], TxEnd::Done)),
    ] {
        let dns = NameServer::with(ZONE).await;
        let first = ("UDP 192.0.2.1:5060", Does::Breaks);
        let bench = Bench::new(&dns, CLEAR, &[first, ("UDP 192.0.2.2:5060", second)]).await;
        let tx = bench.send("sip:bob@plain.example").await;
        assert_eq!(bench.heard(tx).await, told);
        bench.sink.expect_silence(Duration::from_millis(20)).await;
    }
    let dns = NameServer::with(ZONE).await;
    let refuse = [
        ("UDP 192.0.2.1:5060", Does::Refuses),
        ("UDP 192.0.2.2:5060", Does::Refuses),
    ];
    let bench = Bench::new(&dns, CLEAR, &refuse).await;
    let error = bench
        .try_send(to("sip:bob@plain.example"), Route::by_request())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    bench.sink.expect_silence(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_target_that_rings_is_the_target() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, CLEAR, &[("UDP 192.0.2.1:5060", Does::Answers(&[180, 503]))]).await;
    let tx = bench.send("sip:bob@plain.example").await;
    assert_eq!(bench.heard(tx).await, (vec![180, 503], TxEnd::Done));
    assert_eq!(bench.fake.log().len(), 1);
}

#[tokio::test]
async fn a_cancel_goes_to_the_target_that_rings() {
    let dns = NameServer::with(ZONE).await;
    let does = [
        ("UDP 192.0.2.1:5060", Does::Breaks),
        ("UDP 192.0.2.2:5060", Does::Holds(&[100, 180])),
    ];
    let bench = Bench::new(&dns, CLEAR, &does).await;
    let tx = bench.send("sip:bob@plain.example").await;
    bench.sink.expect_response(100).await;
    bench.sink.expect_response(180).await;
    bench.stack.cancel(tx, Headers::new()).await.unwrap();
    assert_eq!(bench.heard(tx).await, (vec![487], TxEnd::Done));
    let second = bench.fake.sent.lock().unwrap()[1].tx.unwrap();
    assert_eq!(*bench.fake.cancelled.lock().unwrap(), [second]);
    // One of a single target is cancelled by its own name.
    let tx = bench.send("sip:192.0.2.2").await;
    bench.sink.expect_response(100).await;
    bench.stack.cancel(tx, Headers::new()).await.unwrap();
    assert_eq!(bench.fake.cancelled.lock().unwrap()[1], tx);
}

#[tokio::test]
async fn sips_is_not_sent_in_the_clear() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, ALL, &[]).await;
    let error = bench
        .try_send(to("sips:bob@clear.example"), Route::by_request())
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(
        error.to_string().contains("none of it secure, which sips: needs"),
        "{error}"
    );
    let deaf = Bench::new(&dns, CLEAR, &[]).await;
    for uri in [
        "sips:bob@example.com",
        "sips:192.0.2.1",
        "sip:192.0.2.1;transport=tls",
    ] {
        let error = deaf.try_send(to(uri), Route::by_request()).await.unwrap_err();
        assert!(
            matches!(error.fault(), Fault::Unsupported | Fault::PeerIncompatible),
            "{error}"
        );
    }
    assert!(bench.fake.log().is_empty() && deaf.fake.log().is_empty());
}

#[tokio::test]
async fn a_large_request_goes_over_tcp_and_over_udp_where_tcp_fails() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, CLEAR, &[("TCP 192.0.2.3:5060", Does::Refuses)]).await;
    let cases: [(&str, &[&str]); 3] = [
        ("sip:192.0.2.7", &["TCP 192.0.2.7:5060"]),
        ("sip:bare.example", &["TCP 192.0.2.3:5060", "UDP 192.0.2.3:5060"]),
        // NAPTR says UDP and nothing else that is spoken here.
        ("sip:example.com", &["UDP 192.0.2.1:5060"]),
    ];
    for (uri, expected) in cases {
        bench.fake.sent.lock().unwrap().clear();
        let tx = bench.try_send(big(uri), Route::by_request()).await.unwrap();
        assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
        assert_eq!(bench.fake.log(), expected, "{uri}");
    }
    bench.fake.sent.lock().unwrap().clear();
    let tx = bench.send("sip:192.0.2.7").await;
    assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
    assert_eq!(bench.fake.log(), ["UDP 192.0.2.7:5060"]);
    // Who has no TCP sends it as it is.
    let udp = Bench::new(&dns, &[Transport::Udp], &[]).await;
    let tx = udp
        .try_send(big("sip:192.0.2.7"), Route::by_request())
        .await
        .unwrap();
    assert_eq!(udp.heard(tx).await, (vec![200], TxEnd::Done));
    assert_eq!(udp.fake.log(), ["UDP 192.0.2.7:5060"]);
}

#[tokio::test]
async fn the_next_hop_is_the_routes_or_the_requests_and_a_flow_is_left_alone() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, CLEAR, &[]).await;
    let mut routed = to("sip:bob@nowhere.invalid");
    routed.headers.push("Route", "<sip:bare.example;lr>");
    let via = Route {
        fresh: true,
        ..Route::via("sip:192.0.2.5;transport=tcp".parse().unwrap())
    };
    for (request, route) in [
        (routed.clone(), Route::by_request()),
        (routed.clone(), via),
        (routed, Route::over(FlowId(7))),
    ] {
        let tx = bench.try_send(request, route).await.unwrap();
        assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
    }
    assert_eq!(
        bench.fake.log(),
        ["UDP 192.0.2.3:5060", "TCP 192.0.2.5:5060", "flow 7"]
    );
    assert!(bench.fake.sent.lock().unwrap()[1].route.fresh);
    let error = bench
        .try_send(to("tel:+15551234"), Route::by_request())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("give a next hop"), "{error}");
}

#[tokio::test]
async fn a_burst_to_one_name_asks_every_question_once() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, CLEAR, &[]).await;
    let sending = (0..500).map(|_| bench.send("sip:bob@plain.example"));
    futures_util::future::join_all(sending).await;
    let mut asked = dns.asked();
    let all = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), all, "{asked:?}");
    assert_eq!(bench.fake.log().len(), 500);
}

#[tokio::test]
async fn what_does_not_exist_is_said_so_and_not_asked_for_again_at_once() {
    let dns = NameServer::with(ZONE).await;
    let bench = Bench::new(&dns, CLEAR, &[]).await;
    for _ in 0..2 {
        let error = bench
            .try_send(to("sip:bob@typo.example"), Route::by_request())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("there is no typo.example in the DNS"),
            "{error}"
        );
    }
    let asked = dns.asked();
    let naptr = asked
        .iter()
        .filter(|asked| *asked == "typo.example NAPTR")
        .count();
    assert_eq!(naptr, 1, "{asked:?}");
}

#[tokio::test]
async fn a_name_server_that_does_not_answer_is_named_and_addresses_and_flows_work_on() {
    let dns = NameServer::silent().await;
    let bench = Bench::new(&dns, CLEAR, &[]).await;
    let lost = async {
        let error = bench
            .try_send(to("sip:bob@example.com"), Route::by_request())
            .await
            .unwrap_err();
        assert_eq!(error.fault(), Fault::TimedOut);
        let text = error.to_string();
        assert!(
            text.contains(&dns.addr.to_string()) && text.contains("sip.dns"),
            "{text}"
        );
    };
    let fine = async {
        for route in [
            Route::over(FlowId(1)),
            Route::via("sip:192.0.2.1".parse().unwrap()),
        ] {
            let tx = bench.try_send(to("sip:bob@example.com"), route).await.unwrap();
            assert_eq!(bench.heard(tx).await, (vec![200], TxEnd::Done));
        }
        // While the other still waits for the name server.
        assert!(dns.asked().len() < 6);
    };
    tokio::join!(lost, fine);
    // Remembered for a moment: a burst of requests does not wait one after the other.
    let asked = dns.asked().len();
    bench
        .try_send(to("sip:bob@example.com"), Route::by_request())
        .await
        .unwrap_err();
    assert_eq!(dns.asked().len(), asked);
}

//! Requests and answers outside INVITE.

use super::{Network, Pair, Setting, respond};
use crate::sip::{answer, request};
use siprtc_core::sip::{Method, Route, SipUri, StackEvent, TxEnd};
use std::collections::HashSet;
use std::net::SocketAddr;

/// Requests and answers outside INVITE.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_basics {
    ($then:ident $given:tt) => {
        $crate::$then! { $given basics
            an_options_makes_a_round_trip
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 3261 17.1.2" "OPTIONS is answered with 200, and both transactions end.";
            an_unknown_method_passes_through
                Pair [Udp Tcp | Udp6 Tls Ws] [UnknownMethods]
                "RFC 3261 7.1" "A method that nobody has registered reaches Bob as it was written, and his 405 comes back.";
            header_fields_pass_untouched_and_in_order
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 7.3.1" "Values arrive as they were written, those of one name in their order, in both directions.";
            the_request_is_completed_by_the_stack
                Pair [Udp Tcp | Udp6 Tcp6 Tls] []
                "RFC 3261 8.1.1" "The stack adds Via with branch and rport, Max-Forwards 70, User-Agent and the true Content-Length.";
            a_proxys_vias_stay_below_the_stacks_own
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 16.6" "Via values that a proxy has put in stay below the stack's own, and come back.";
            a_body_of_30_kilobytes_arrives_whole
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 3261 7.4" "A body of any octets is the same at the other end, in both directions.";
            the_answer_keeps_the_requests_identity
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 8.2.6.2" "Whatever the user writes, an answer's Via, From, Call-ID and CSeq are the request's.";
            a_route_is_stronger_than_the_request_uri
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 8.1.2" "A topmost Route is where a request goes, and it stays in the request.";
            a_next_hop_is_stronger_than_a_route
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 8.1.2" "An outbound proxy that the user names is where a request goes, whatever Route it has.";
            a_request_goes_over_the_flow_it_names
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 5626 5.3" "Bob reaches Alice over the flow on which she asked.";
            many_requests_at_once_are_all_answered
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 17.1.3" "A hundred requests at once get an answer of their own each.";
            one_connection_carries_both_directions
                Pair [Tcp Tls Ws | Tcp6 Wss] []
                "RFC 3261 18" "Answers come back over the connection of the request, and the next request uses it again.";
            a_connection_that_closes_is_told
                Pair [Tcp Tls Ws | Tcp6 Wss] []
                "RFC 3261 18" "A new connection is told to both users, and so is its end.";
        }
    };
}

pub(super) async fn an_options_makes_a_round_trip(on: Setting) {
    let pair = Pair::start(&on).await;
    let tx = pair.ask(pair.request(Method::Options)).await;
    let (served, options, flow) = pair.bob_hears.expect_request(Method::Options).await;
    assert_eq!(flow.transport, on.network.transport());
    assert_eq!(flow.local, pair.bob.listeners()[0].bound);
    respond(&*pair.bob, served, &options, 200).await;
    let (answered, response) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    assert_eq!(response.reason, "OK");
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    assert_eq!(pair.bob_hears.expect_ended(served).await, TxEnd::Done);
    pair.stop().await;
}

pub(super) async fn an_unknown_method_passes_through(on: Setting) {
    let pair = Pair::start(&on).await;
    let odd = Method::Other("x-Odd.Method".to_owned());
    pair.ask(pair.request(odd.clone())).await;
    let (served, asked, _) = pair.bob_hears.expect_request(odd).await;
    assert_eq!(asked.headers.cseq().unwrap().method.as_str(), "x-Odd.Method");
    respond(&*pair.bob, served, &asked, 405).await;
    pair.alice_hears.expect_response(405).await;
    pair.stop().await;
}

pub(super) async fn header_fields_pass_untouched_and_in_order(on: Setting) {
    const FIELDS: [(&str, &str); 4] = [
        ("X-Research", r#"a, b;c="d, e" <sip:x@y;z>"#),
        ("X-Empty-Is-Fine", ""),
        ("X-Research", "second; of=its name"),
        ("Subject", "caf\u{e9} \u{2615}"),
    ];
    let pair = Pair::start(&on).await;
    let mut asked = pair.request(Method::Message);
    for (name, value) in FIELDS {
        asked.headers.push(name, value);
    }
    pair.ask(asked).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    let in_order: Vec<&str> = heard.headers.values("X-Research").collect();
    assert_eq!(in_order, [FIELDS[0].1, FIELDS[2].1]);
    assert_eq!(heard.headers.value("X-Empty-Is-Fine"), Some(""));
    assert_eq!(heard.headers.value("Subject"), Some(FIELDS[3].1));

    let mut response = answer(&heard, 200, "bob");
    for (name, value) in FIELDS {
        response.headers.push(name, value);
    }
    pair.bob.respond(served, response).await.unwrap();
    let (_, heard) = pair.alice_hears.expect_response(200).await;
    let in_order: Vec<&str> = heard.headers.values("X-Research").collect();
    assert_eq!(in_order, [FIELDS[0].1, FIELDS[2].1]);
    assert_eq!(heard.headers.value("Subject"), Some(FIELDS[3].1));
    pair.stop().await;
}

pub(super) async fn the_request_is_completed_by_the_stack(on: Setting) {
    let pair = Pair::start(&on).await;
    let mut asked = pair.request(Method::Message).with_body("text/plain", "four");
    asked.headers.push("Content-Length", 999);
    pair.ask(asked).await;
    let (served, heard, flow) = pair.bob_hears.expect_request(Method::Message).await;
    let via = heard.headers.top_via().unwrap();
    assert_eq!(via.known_transport(), Some(on.network.transport()));
    let listening = pair.alice.listeners()[0].advertised;
    let sent_by = SipUri {
        port: via.port,
        ..SipUri::new(via.host.clone())
    }
    .socket_addr();
    assert_eq!(sent_by, Some(listening), "sent-by is where Alice can be reached");
    assert!(
        via.branch()
            .is_some_and(|branch| branch.starts_with("z9hG4bK") && branch.len() > 12)
    );
    let port = flow.remote.port().to_string();
    assert_eq!(
        via.params.value("rport"),
        Some(port.as_str()),
        "RFC 3581: asked for and filled in"
    );
    assert_eq!(
        via.params.value("received"),
        Some(flow.remote.ip().to_string().as_str())
    );
    assert_eq!(heard.headers.max_forwards().unwrap(), Some(70));
    assert_eq!(heard.headers.content_length().unwrap(), Some(4));
    assert_eq!(heard.headers.values("Content-Length").count(), 1);
    assert!(
        heard
            .headers
            .value("User-Agent")
            .is_some_and(|name| name.starts_with("siprtc/"))
    );
    assert_eq!(&heard.body[..], b"four");
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    pair.stop().await;
}

pub(super) async fn a_proxys_vias_stay_below_the_stacks_own(on: Setting) {
    const LOWER: [&str; 2] = [
        "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKlower1;received=192.0.2.8",
        "SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKlower2",
    ];
    let pair = Pair::start(&on).await;
    let mut asked = pair.request(Method::Options);
    for via in LOWER.iter().rev() {
        asked.headers.push_front("Via", via);
    }
    let tx = pair.ask(asked).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    let branches: Vec<String> = heard
        .headers
        .vias()
        .unwrap()
        .iter()
        .filter_map(|via| via.branch().map(str::to_owned))
        .collect();
    assert_eq!(
        branches.len(),
        3,
        "one Via of the stack's own and both of the proxy's: {branches:?}"
    );
    assert_eq!(branches[1..], ["z9hG4bKlower1", "z9hG4bKlower2"]);
    respond(&*pair.bob, served, &heard, 200).await;
    let (answered, response) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    assert_eq!(
        response.headers.vias().unwrap().len(),
        3,
        "an answer carries every Via back"
    );
    pair.stop().await;
}

pub(super) async fn a_body_of_30_kilobytes_arrives_whole(on: Setting) {
    let pair = Pair::start(&on).await;
    let body: Vec<u8> = (0..30_000_u32).map(|n| (n % 251) as u8).collect();
    pair.ask(
        pair.request(Method::Message)
            .with_body("application/octet-stream", body.clone()),
    )
    .await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    assert!(heard.body == body, "the body changed on its way");
    let echo = answer(&heard, 200, "bob").with_body("application/octet-stream", body.clone());
    pair.bob.respond(served, echo).await.unwrap();
    let (_, heard) = pair.alice_hears.expect_response(200).await;
    assert!(heard.body == body, "the body changed on its way back");
    pair.stop().await;
}

pub(super) async fn the_answer_keeps_the_requests_identity(on: Setting) {
    let pair = Pair::start(&on).await;
    let tx = pair.ask(pair.request(Method::Options)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    let mut response = siprtc_core::sip::SipResponse::new(200);
    response
        .headers
        .push("Via", "SIP/2.0/UDP 192.0.2.66;branch=z9hG4bKwrong");
    response.headers.push("CSeq", "77 BYE");
    response.headers.push("Call-ID", "wrong");
    pair.bob.respond(served, response).await.unwrap();
    let (answered, response) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx);
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        assert_eq!(response.headers.value(name), heard.headers.value(name), "{name}");
        assert_eq!(response.headers.values(name).count(), 1, "{name}");
    }
    assert_eq!(response.headers.content_length().unwrap(), Some(0));
    pair.stop().await;
}

pub(super) async fn a_route_is_stronger_than_the_request_uri(on: Setting) {
    let pair = Pair::start(&on).await;
    let mut asked = request(Method::Options, unreachable_uri(on.network));
    asked
        .headers
        .push("Route", format_args!("<{};lr>", pair.bobs_uri()));
    pair.ask(asked).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    assert_eq!(heard.uri, unreachable_uri(on.network).into());
    assert_eq!(heard.headers.routes().unwrap().len(), 1);
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    pair.stop().await;
}

pub(super) async fn a_next_hop_is_stronger_than_a_route(on: Setting) {
    let pair = Pair::start(&on).await;
    let mut asked = request(Method::Options, unreachable_uri(on.network));
    asked
        .headers
        .push("Route", format_args!("<{};lr>", unreachable_uri(on.network)));
    let sent = pair
        .alice
        .send_request(pair.ids.mint(), asked, Route::via(pair.bobs_uri()))
        .await;
    sent.unwrap();
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    pair.stop().await;
}

pub(super) async fn a_request_goes_over_the_flow_it_names(on: Setting) {
    let pair = Pair::start(&on).await;
    pair.ask(pair.request(Method::Options)).await;
    let (served, heard, flow) = pair.bob_hears.expect_request(Method::Options).await;
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    let back = request(Method::Message, unreachable_uri(on.network));
    let tx = pair.ids.mint();
    pair.bob
        .send_request(tx, back, Route::over(flow.id))
        .await
        .unwrap();
    let (served, heard, flow_back) = pair.alice_hears.expect_request(Method::Message).await;
    assert_eq!(
        (flow_back.local, flow_back.remote),
        (flow.remote, flow.local),
        "another path was taken"
    );
    respond(&*pair.alice, served, &heard, 202).await;
    let (answered, _) = pair.bob_hears.expect_response(202).await;
    assert_eq!(answered, tx);
    pair.stop().await;
}

pub(super) async fn many_requests_at_once_are_all_answered(on: Setting) {
    const MANY: usize = 100;
    let pair = Pair::start(&on).await;
    let mut open = HashSet::new();
    for _ in 0..MANY {
        open.insert(pair.ask(pair.request(Method::Options)).await);
    }
    for _ in 0..MANY {
        let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
        respond(&*pair.bob, served, &heard, 200).await;
    }
    for _ in 0..MANY {
        let (answered, _) = pair.alice_hears.expect_response(200).await;
        assert!(
            open.remove(&answered),
            "{answered} was answered twice, or never asked"
        );
    }
    pair.stop().await;
}

pub(super) async fn one_connection_carries_both_directions(on: Setting) {
    let pair = Pair::start(&on).await;
    let mut paths = HashSet::new();
    for _ in 0..3 {
        pair.ask(pair.request(Method::Options)).await;
        let (served, heard, flow) = pair.bob_hears.expect_request(Method::Options).await;
        paths.insert((flow.id, flow.local, flow.remote));
        respond(&*pair.bob, served, &heard, 200).await;
        pair.alice_hears.expect_response(200).await;
    }
    assert_eq!(paths.len(), 1, "three requests took {paths:?}");
    pair.stop().await;
}

pub(super) async fn a_connection_that_closes_is_told(on: Setting) {
    let pair = Pair::start(&on).await;
    pair.ask(pair.request(Method::Options)).await;
    let StackEvent::FlowUp(up) = pair.bob_hears.next().await else {
        panic!("no FlowUp before the request")
    };
    let (served, heard, flow) = pair.bob_hears.expect_request(Method::Options).await;
    assert_eq!(up, flow);
    respond(&*pair.bob, served, &heard, 200).await;
    let StackEvent::FlowUp(_) = pair.alice_hears.next().await else {
        panic!("no FlowUp where it began")
    };
    pair.alice_hears.expect_response(200).await;
    pair.alice.shutdown(std::time::Duration::ZERO).await;
    loop {
        match pair.bob_hears.next().await {
            StackEvent::FlowDown { id, .. } => break assert_eq!(id, flow.id),
            StackEvent::TxEnded { .. } => (),
            other => panic!("expected the end of the flow, but came {other:?}"),
        }
    }
    pair.stop().await;
}

/// A loopback address where nothing ever listens: the discard port.
fn unreachable_uri(network: Network) -> SipUri {
    let nobody: SocketAddr = network.loopback(9);
    SipUri::from_addr(nobody).with_transport(network.transport())
}

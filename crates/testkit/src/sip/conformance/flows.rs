//! Flows of RFC 5626: keepalives, connections of one's own, and closing them.

use super::bare::Bare;
use super::line::Line;
use super::{Pair, Setting, config, hears, respond, start_one};
use siprtc_core::sip::{FlowId, Keepalive, Method, Route, StackEvent, TxEnd};
use std::collections::HashSet;
use std::time::Duration;

/// Flows of RFC 5626: keepalives, connections of one's own, and closing them.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_flows {
    ($then:ident $given:tt) => {
        $crate::$then! { $given flows
            a_ping_of_a_peer_is_answered
                Alone [Tcp Tls Ws] []
                "RFC 5626 4.4.1" "CRLF CRLF on a connection gets CRLF.";
            a_binding_request_of_a_peer_is_answered
                Alone [Udp] [StunAnswers]
                "RFC 5626 4.4.2" "A STUN Binding request gets a response with the address that it came from.";
            a_ping_is_answered_and_the_user_hears_so
                Pair [Tcp | Tls Ws] [KeepaliveAnswers]
                "RFC 5626 4.4.1" "Alice keeps a connection alive, and hears of Bob's pong.";
            a_binding_request_is_answered_and_the_user_hears_so
                Pair [Udp | Udp6] [KeepaliveAnswers StunAnswers]
                "RFC 5626 4.4.2" "Alice keeps a UDP flow alive, and hears her own address as Bob sees it.";
            a_keepalive_on_a_flow_that_is_gone_is_an_error
                Alone [Udp Tcp] []
                "RFC 5626 4.4" "A keepalive on a flow that never was is refused with advice.";
            a_fresh_flow_is_a_connection_of_its_own
                Pair [Tcp | Tls Ws] [FlowControl]
                "RFC 5626 4.2.1" "A request that asks for a fresh flow does not take the connection that is there.";
            what_runs_over_a_flow_that_its_user_closes_ends
                Pair [Tcp | Tls Ws] [FlowControl]
                "RFC 5626 4.3" "Alice closes a flow: both sides hear so, and her request ends with it.";
            a_flow_that_is_gone_is_no_route
                Pair [Tcp | Tls Ws] [FlowControl]
                "RFC 5626 5.3.1" "Once Alice has closed a flow, Bob's request over it is refused or ends.";
        }
    };
}

/// A STUN Binding request (RFC 5389 section 6) without attributes.
const BINDING: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

pub(super) async fn a_ping_of_a_peer_is_answered(on: Setting) {
    let hears = hears();
    let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
    let to = stack.listeners()[0].bound;
    let mut line = Line::to(on.network, to).await;
    for _ in 0..2 {
        line.send(b"\r\n\r\n").await;
        let pong = line.octets().await.unwrap_or_default();
        // A ping of the stack's own may come with it.
        assert!(
            pong.starts_with(b"\r\n") && pong.iter().all(|octet| b"\r\n".contains(octet)),
            "no pong, but {pong:?}"
        );
    }
    let options = line.request(Method::Options, to, "behind");
    line.send(&options.to_bytes()).await;
    let (served, heard, _) = hears.expect_request(Method::Options).await;
    respond(&*stack, served, &heard, 200).await;
    line.expect_status(200).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_binding_request_of_a_peer_is_answered(on: Setting) {
    let bare = Bare::start(&on).await;
    bare.send(&BINDING).await;
    let mut buffer = [0; 1500];
    let received = tokio::time::timeout(super::PATIENCE, bare.socket.recv(&mut buffer)).await;
    let length = received.expect("no Binding response").unwrap();
    let response = &buffer[..length];
    assert_eq!(response[..2], [1, 1], "a Binding success response: {response:?}");
    assert_eq!(response[4..20], BINDING[4..20], "cookie and transaction id");
    let port = bare.address().port() ^ 0x2112;
    let mapped = [&[0, 0x20, 0, 8, 0, 1][..], &port.to_be_bytes()].concat();
    let found = response.windows(mapped.len()).any(|window| window == mapped);
    assert!(
        found,
        "no XOR-MAPPED-ADDRESS with port {}: {response:?}",
        bare.address().port()
    );
    bare.stack.shutdown(Duration::ZERO).await;
}

/// The flow that Alice has to Bob.
async fn alices_flow(pair: &Pair) -> FlowId {
    pair.ask(pair.request(Method::Options)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    respond(&*pair.bob, served, &heard, 200).await;
    loop {
        if let StackEvent::Response { response, flow, .. } = pair.alice_hears.next().await {
            assert_eq!(response.status, 200);
            return flow.expect("an answer that came on no flow").id;
        }
    }
}

pub(super) async fn a_ping_is_answered_and_the_user_hears_so(on: Setting) {
    keepalive_is_answered(&on, Keepalive::Crlf).await;
}

pub(super) async fn a_binding_request_is_answered_and_the_user_hears_so(on: Setting) {
    keepalive_is_answered(&on, Keepalive::Stun).await;
}

async fn keepalive_is_answered(on: &Setting, kind: Keepalive) {
    let pair = Pair::start(on).await;
    let flow = alices_flow(&pair).await;
    for _ in 0..2 {
        pair.alice.keepalive(flow, kind).await.unwrap();
        loop {
            match pair.alice_hears.next().await {
                StackEvent::KeepaliveAnswered {
                    flow: answered,
                    mapped,
                } => {
                    assert_eq!(answered, flow);
                    let own = pair.alice.listeners()[0].bound;
                    let expected = (kind == Keepalive::Stun).then_some(own);
                    assert_eq!(mapped, expected, "Alice's address as Bob sees it");
                    break;
                }
                StackEvent::FlowUp(_) | StackEvent::TxEnded { .. } => (),
                other => panic!("expected a pong, but came {other:?}"),
            }
        }
    }
    pair.bob_hears.expect_silence(Duration::from_millis(20)).await;
    pair.check_alive().await;
    pair.stop().await;
}

pub(super) async fn a_keepalive_on_a_flow_that_is_gone_is_an_error(on: Setting) {
    let stack = start_one(&on.alice, config(on.network), hears()).await;
    for kind in stack.capability().keepalives {
        let sent = stack.keepalive(FlowId(u64::MAX), *kind).await;
        assert!(
            sent.unwrap_err().next_step().is_some(),
            "an error says what to do next"
        );
    }
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_fresh_flow_is_a_connection_of_its_own(on: Setting) {
    let pair = Pair::start(&on).await;
    let mut paths = HashSet::new();
    for fresh in [false, true, true] {
        let route = Route {
            fresh,
            ..Route::default()
        };
        let asked = pair.request(Method::Options);
        pair.alice
            .send_request(pair.ids.mint(), asked, route)
            .await
            .unwrap();
        let (served, heard, flow) = pair.bob_hears.expect_request(Method::Options).await;
        paths.insert((flow.id, flow.remote));
        respond(&*pair.bob, served, &heard, 200).await;
        pair.alice_hears.expect_response(200).await;
    }
    assert_eq!(paths.len(), 3, "three requests took {paths:?}");
    pair.stop().await;
}

pub(super) async fn what_runs_over_a_flow_that_its_user_closes_ends(on: Setting) {
    let pair = Pair::start(&on).await;
    let flow = alices_flow(&pair).await;
    let tx = pair.ask(pair.request(Method::Options)).await;
    pair.bob_hears.expect_request(Method::Options).await;
    pair.alice.close_flow(flow).await.unwrap();
    let ended = pair.alice_hears.expect_ended(tx).await;
    assert!(matches!(ended, TxEnd::Transport(_)), "{ended:?}");
    for hears in [&pair.alice_hears, &pair.bob_hears] {
        while !matches!(hears.next().await, StackEvent::FlowDown { .. }) {}
    }
    // The next request makes a new connection.
    pair.check_alive().await;
    pair.stop().await;
}

pub(super) async fn a_flow_that_is_gone_is_no_route(on: Setting) {
    let pair = Pair::start(&on).await;
    pair.ask(pair.request(Method::Options)).await;
    let (served, heard, bobs_flow) = pair.bob_hears.expect_request(Method::Options).await;
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    let flow = alices_flow(&pair).await;
    pair.alice.close_flow(flow).await.unwrap();
    while !matches!(pair.bob_hears.next().await, StackEvent::FlowDown { id, .. } if id == bobs_flow.id) {}
    let tx = pair.ids.mint();
    let asked = crate::sip::request(Method::Message, pair.bobs_uri());
    match pair.bob.send_request(tx, asked, Route::over(bobs_flow.id)).await {
        Err(error) => assert!(
            error.next_step().is_some(),
            "an error says what to do next: {error}"
        ),
        Ok(()) => assert!(matches!(
            pair.bob_hears.expect_ended(tx).await,
            TxEnd::Transport(_)
        )),
    }
    pair.stop().await;
}

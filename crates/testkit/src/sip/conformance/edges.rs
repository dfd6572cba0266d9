//! Limits, misuse, silence and the end.

use super::{Pair, Setting, config, hears, listener, respond, start_one, why_not};
use crate::sip::{RecordingSink, request};
use siprtc_core::Fault;
use siprtc_core::sip::{
    FlowId, ListenerConfig, Method, Route, SipUri, StackConfig, StackEvent, TimerConfig, TxEnd,
};
use std::time::Duration;

/// Limits, misuse, silence and the end.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_edges {
    ($then:ident $given:tt) => {
        $crate::$then! { $given edges
            a_request_without_an_answer_times_out
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 17.1.2.2" "Bob's user never answers: timer F ends Alice's transaction, and Bob hears of one request.";
            a_full_sink_is_answered_503_with_retry_after
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 21.5.4" "A request that Bob's user has no room for is answered 503 with Retry-After, and the next is served.";
            too_many_transactions_are_refused
                Pair [Udp Tcp | Udp6] []
                "RFC 3261 21.5.4" "At the limit of transactions a request out is an error and a request in is answered 503.";
            an_unknown_name_is_an_error
                Alone [Udp Tcp Udp6 Tls Ws] []
                "RFC 3263 4" "A host name that cannot exist is an error now, or the transaction's end.";
            a_port_where_nobody_listens_is_an_error_at_once
                Alone [Tcp Tcp6 Tls Ws] []
                "RFC 3261 18.4" "A refused connection is found out at once, not by a timer.";
            an_unreachable_flow_is_an_error
                Alone [Udp Tcp Udp6 Tls Ws] []
                "RFC 5626 5.3" "A request over a flow that never was is refused with advice.";
            an_ack_is_no_request_to_begin_with
                Alone [Udp Tcp] []
                "RFC 3261 17.1" "ACK and CANCEL begin no transaction: they have calls of their own.";
            an_id_is_used_once
                Pair [Udp Tcp] []
                "RFC 3261 17.1.3" "A second request under a running transaction's id is refused and does not disturb the first.";
            a_transaction_is_answered_once
                Pair [Udp Tcp] []
                "RFC 3261 17.2" "A second final answer, and one to a transaction that never was, are refused.";
            a_header_value_with_a_line_break_is_refused
                Pair [Udp Tcp] []
                "RFC 3261 25.1" "A value that would write header fields of its own never leaves.";
            shutdown_ends_what_is_running
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 17" "Everything that was begun is told to have ended, and later calls are errors.";
            shutdown_frees_the_ports
                Alone [Udp Tcp Udp6 Tcp6 Tls Ws] []
                "RFC 3261 18" "The ports of a stack that was shut down can be bound again at once, many times over.";
        }
    };
}

pub(super) async fn a_request_without_an_answer_times_out(on: Setting) {
    let pair = Pair::start(&on).await;
    let tx = pair.ask(pair.request(Method::Options)).await;
    pair.bob_hears.expect_request(Method::Options).await;
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::TimedOut);
    // The copies that Alice's stack has sent meanwhile were absorbed.
    pair.bob_hears.expect_silence(Duration::ZERO).await;
    pair.stop().await;
}

pub(super) async fn a_full_sink_is_answered_503_with_retry_after(on: Setting) {
    let pair = Pair::start(&on).await;
    pair.bob_hears.refuse_requests(true);
    for method in [Method::Options, Method::Invite] {
        let tx = pair.ask(pair.request(method)).await;
        let (answered, response) = pair.alice_hears.expect_response(503).await;
        assert_eq!(answered, tx);
        assert!(response.headers.retry_after().unwrap().is_some());
        assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    }
    pair.bob_hears.expect_silence(Duration::from_millis(50)).await;
    assert_eq!(
        ends(&pair.bob_hears),
        0,
        "a transaction that was never announced has ended"
    );
    pair.bob_hears.refuse_requests(false);
    pair.check_alive().await;
    pair.stop().await;
}

pub(super) async fn too_many_transactions_are_refused(on: Setting) {
    let small = StackConfig {
        max_transactions: 2,
        timers: TimerConfig::default(),
        ..config(on.network)
    };
    let pair = Pair::start_with(&on, small).await;
    let roomy = hears();
    let carol = start_one(&on.alice, config(on.network), roomy.clone()).await;
    for _ in 0..2 {
        pair.ask(pair.request(Method::Invite)).await;
        pair.bob_hears.expect_request(Method::Invite).await;
    }
    let out = pair
        .alice
        .send_request(
            pair.ids.mint(),
            pair.request(Method::Options),
            Route::by_request(),
        )
        .await;
    assert_eq!(out.unwrap_err().fault(), Fault::Backend);
    let tx = pair.ids.mint();
    carol
        .send_request(tx, pair.request(Method::Options), Route::by_request())
        .await
        .unwrap();
    let (answered, response) = roomy.expect_response(503).await;
    assert_eq!(answered, tx);
    assert!(response.headers.retry_after().unwrap().is_some());
    carol.shutdown(Duration::ZERO).await;
    pair.stop().await;
}

pub(super) async fn an_unknown_name_is_an_error(on: Setting) {
    let pair = Pair::start(&on).await;
    let nowhere: SipUri = "sip:nobody.invalid".parse().unwrap();
    let asked = request(Method::Options, nowhere.with_transport(on.network.transport()));
    why_not(&*pair.alice, &pair.alice_hears, asked, Route::by_request()).await;
    pair.stop().await;
}

pub(super) async fn a_port_where_nobody_listens_is_an_error_at_once(on: Setting) {
    let pair = Pair::start(&on).await;
    let nobody = SipUri::from_addr(on.network.loopback(9)).with_transport(on.network.transport());
    why_not(
        &*pair.alice,
        &pair.alice_hears,
        request(Method::Options, nobody),
        Route::by_request(),
    )
    .await;
    pair.stop().await;
}

pub(super) async fn an_unreachable_flow_is_an_error(on: Setting) {
    let pair = Pair::start(&on).await;
    let route = Route::over(FlowId(u64::MAX));
    let sent = pair
        .alice
        .send_request(pair.ids.mint(), pair.request(Method::Options), route)
        .await;
    assert!(
        sent.unwrap_err().next_step().is_some(),
        "an error says what to do next"
    );
    pair.stop().await;
}

pub(super) async fn an_ack_is_no_request_to_begin_with(on: Setting) {
    let pair = Pair::start(&on).await;
    for method in [Method::Ack, Method::Cancel] {
        let sent = pair
            .alice
            .send_request(pair.ids.mint(), pair.request(method), Route::by_request())
            .await;
        assert_eq!(sent.unwrap_err().fault(), Fault::ApiMisuse);
    }
    pair.bob_hears.expect_silence(Duration::from_millis(20)).await;
    pair.stop().await;
}

pub(super) async fn an_id_is_used_once(on: Setting) {
    let pair = Pair::start(&on).await;
    let tx = pair.ask(pair.request(Method::Options)).await;
    let again = pair
        .alice
        .send_request(tx, pair.request(Method::Options), Route::by_request())
        .await;
    assert_eq!(again.unwrap_err().fault(), Fault::ApiMisuse);
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    respond(&*pair.bob, served, &heard, 200).await;
    let (answered, _) = pair.alice_hears.expect_response(200).await;
    assert_eq!(answered, tx, "the refused one must not disturb the first");
    pair.stop().await;
}

pub(super) async fn a_transaction_is_answered_once(on: Setting) {
    let pair = Pair::start(&on).await;
    pair.ask(pair.request(Method::Options)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Options).await;
    respond(&*pair.bob, served, &heard, 404).await;
    assert!(pair.bob.respond(served, heard.response(200)).await.is_err());
    assert!(
        pair.bob
            .respond(pair.ids.mint(), heard.response(200))
            .await
            .is_err()
    );
    pair.alice_hears.expect_response(404).await;
    pair.alice_hears.expect_silence(Duration::from_millis(50)).await;
    pair.stop().await;
}

pub(super) async fn a_header_value_with_a_line_break_is_refused(on: Setting) {
    let pair = Pair::start(&on).await;
    let mut asked = pair.request(Method::Message);
    asked.headers.push("Subject", "hello\r\nX-Injected: yes");
    let sent = pair
        .alice
        .send_request(pair.ids.mint(), asked, Route::by_request())
        .await;
    assert_eq!(sent.unwrap_err().fault(), Fault::ApiMisuse);
    pair.ask(pair.request(Method::Message)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    assert!(!heard.headers.contains("X-Injected"));
    let mut response = heard.response(200);
    response.headers.push("X-Note", "a\nX-Injected: yes");
    assert_eq!(
        pair.bob.respond(served, response).await.unwrap_err().fault(),
        Fault::ApiMisuse
    );
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    pair.stop().await;
}

pub(super) async fn shutdown_ends_what_is_running(on: Setting) {
    let pair = Pair::start(&on).await;
    let tx = pair.ask(pair.request(Method::Invite)).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Invite).await;
    pair.alice.shutdown(Duration::ZERO).await;
    assert!(matches!(
        pair.alice_hears.expect_ended(tx).await,
        TxEnd::Transport(_)
    ));
    let late = pair
        .alice
        .send_request(
            pair.ids.mint(),
            pair.request(Method::Options),
            Route::by_request(),
        )
        .await;
    assert_eq!(late.unwrap_err().fault(), Fault::ApiMisuse);
    pair.bob.shutdown(Duration::ZERO).await;
    assert!(matches!(
        pair.bob_hears.expect_ended(served).await,
        TxEnd::Transport(_)
    ));
    assert!(pair.bob.respond(served, heard.response(200)).await.is_err());
    pair.stop().await;
}

pub(super) async fn shutdown_frees_the_ports(on: Setting) {
    let transport = on.network.transport();
    let mut bind = on.network.loopback(0);
    for _ in 0..5 {
        let listeners = vec![ListenerConfig {
            bind,
            ..listener(on.network)
        }];
        let config = StackConfig {
            listeners,
            ..config(on.network)
        };
        let heard = hears();
        let stack = start_one(&on.alice, config.clone(), heard.clone()).await;
        bind = stack.listeners()[0].bound;
        assert_ne!(bind.port(), 0);
        let other = start_one(&on.alice, super::config(on.network), hears()).await;
        let uri = SipUri::from_addr(bind).with_transport(transport);
        let ids = siprtc_core::sip::TxIds::new(siprtc_core::sip::TxOwner::user(1));
        other
            .send_request(ids.mint(), request(Method::Options, uri), Route::by_request())
            .await
            .unwrap();
        heard.expect_request(Method::Options).await;
        // The side that closes a TCP connection keeps its port busy: let the asking side be it.
        other.shutdown(Duration::ZERO).await;
        stack.shutdown(Duration::ZERO).await;
    }
}

fn ends(sink: &RecordingSink) -> usize {
    let heard = std::iter::from_fn(|| sink.try_next());
    heard
        .filter(|event| matches!(event, StackEvent::TxEnded { .. }))
        .count()
}

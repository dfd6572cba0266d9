//! Limits, misuse, silence and the end.

use super::{Network, Pair, hasty, respond, start_one};
use crate::sip::{RecordingSink, request};
use siprtc_core::Fault;
use siprtc_core::sip::{
    FlowId, ListenerConfig, Method, Route, SipStackFactory, SipUri, StackConfig, StackEvent, Transport, TxEnd,
};
use std::time::Duration;

/// Timer F: Bob's user never answers.
pub async fn a_request_without_an_answer_times_out(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start_hasty(factory, network).await;
    let tx = pair.ask(pair.request(Method::Options)).await;
    pair.bob_hears.expect_request(Method::Options).await;
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::TimedOut);
    // The copies that Alice's stack has sent meanwhile were absorbed.
    pair.bob_hears.expect_silence(Duration::ZERO).await;
    pair.stop().await;
}

/// The port's policy when a sink is full. The ACK of an INVITE's 503 stays inside the stack.
pub async fn a_full_sink_is_answered_503_with_retry_after(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

/// `max_transactions`: a request out is an error, a request in is answered 503.
pub async fn too_many_transactions_are_refused(factory: &dyn SipStackFactory, network: Network) {
    let config = StackConfig {
        max_transactions: 2,
        ..StackConfig::default()
    };
    let pair = Pair::start_with(factory, network, config).await;
    let roomy = RecordingSink::new();
    let carol = start_one(factory, network, StackConfig::default(), roomy.clone()).await;
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

/// A name that cannot exist (RFC 6761): an error now, or the transaction's end.
pub async fn an_unknown_name_is_an_error(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let nowhere: SipUri = "sip:nobody.invalid".parse().unwrap();
    let asked = request(Method::Options, nowhere.with_transport(network.transport()));
    check_fails(&pair, asked).await;
    pair.stop().await;
}

/// Connection refused is found out at once, not by a timer.
pub async fn a_port_where_nobody_listens_is_an_error_at_once(
    factory: &dyn SipStackFactory,
    network: Network,
) {
    let pair = Pair::start(factory, network).await;
    let nobody = SipUri::from_addr(network.loopback(9)).with_transport(network.transport());
    check_fails(&pair, request(Method::Options, nobody)).await;
    pair.stop().await;
}

/// A flow that never was.
pub async fn an_unreachable_flow_is_an_error(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
    let route = Route {
        flow: Some(FlowId(u64::MAX)),
        next_hop: None,
    };
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

/// ACK and CANCEL have calls of their own.
pub async fn an_ack_is_no_request_to_begin_with(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

/// A second request under a running transaction's id.
pub async fn an_id_is_used_once(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

/// A final answer is final; an id that never was is an error too.
pub async fn a_transaction_is_answered_once(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

/// A value that would write header fields of its own never leaves.
pub async fn a_header_value_with_a_line_break_is_refused(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

/// Everything that was begun is told to have ended, and later calls are errors.
pub async fn shutdown_ends_what_is_running(factory: &dyn SipStackFactory, network: Network) {
    let pair = Pair::start(factory, network).await;
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

/// The ports can be bound again at once, by another stack, many times over.
pub async fn shutdown_frees_the_ports(factory: &dyn SipStackFactory, network: Network) {
    let transport = network.transport();
    let mut bind = network.loopback(0);
    for _ in 0..5 {
        let config = StackConfig {
            listeners: vec![ListenerConfig {
                transport,
                bind,
                advertise: None,
            }],
            timers: hasty(),
            ..StackConfig::default()
        };
        let hears = RecordingSink::new();
        let stack = factory.start(config.clone(), hears.clone()).await.unwrap();
        bind = stack.listeners()[0].bound;
        assert_ne!(bind.port(), 0);
        let other = start_one(factory, network, StackConfig::default(), RecordingSink::new()).await;
        let uri = SipUri::from_addr(bind).with_transport(transport);
        let ids = siprtc_core::sip::TxIds::new(siprtc_core::sip::TxOwner::user(1));
        other
            .send_request(ids.mint(), request(Method::Options, uri), Route::by_request())
            .await
            .unwrap();
        hears.expect_request(Method::Options).await;
        if transport == Transport::Udp {
            let listeners = vec![ListenerConfig {
                transport,
                bind,
                advertise: None,
            }];
            let again = StackConfig { listeners, ..config };
            let taken = factory.start(again, RecordingSink::new()).await.err();
            let taken = taken.expect("two stacks listen on one port");
            assert_eq!(taken.fault(), Fault::ConfigInvalid);
        }
        // The side that closes a TCP connection keeps its port busy: let the asking side be it.
        other.shutdown(Duration::ZERO).await;
        stack.shutdown(Duration::ZERO).await;
    }
}

async fn check_fails(pair: &Pair, asked: siprtc_core::sip::SipRequest) {
    let tx = pair.ids.mint();
    match pair.alice.send_request(tx, asked, Route::by_request()).await {
        Err(error) => assert!(
            error.next_step().is_some(),
            "an error says what to do next: {error}"
        ),
        Ok(()) => assert!(matches!(
            pair.alice_hears.expect_ended(tx).await,
            TxEnd::Transport(_)
        )),
    }
}

fn ends(sink: &RecordingSink) -> usize {
    let heard = std::iter::from_fn(|| sink.try_next());
    heard
        .filter(|event| matches!(event, StackEvent::TxEnded { .. }))
        .count()
}

//! Requests outside a dialog go over the registered flows, and `sips:` over TLS or not at all.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause, Error, Fault};
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;

fn flow_of(id: u64, transport: Transport) -> Flow {
    Flow {
        id: FlowId(id),
        transport,
        ..flow()
    }
}

fn reach(flows: Option<Vec<Flow>>) -> Reach {
    Reach {
        contact: "<sip:alice@example.com;gr=urn:uuid:1>".parse().unwrap(),
        flows,
    }
}

fn over(flows: &[u64]) -> Bench {
    let mut config = config();
    config.account.outbound = Some("sip:edge.example.com;transport=tcp".parse().unwrap());
    let mut bench = Bench::with(config);
    let flows = flows.iter().map(|id| flow_of(*id, Transport::Tcp)).collect();
    bench.give(Input::Reach(reach(Some(flows)))).unwrap();
    bench
}

fn invite(bench: &mut Bench, target: &str) -> Result<(), Error> {
    bench.give(Input::Invite(Invite {
        call: CallId::fresh(),
        target: target.parse().unwrap(),
        offer: OFFER.to_owned(),
        headers: Headers::new(),
    }))
}

fn sent(bench: &mut Bench) -> (TxId, SipRequest, Route) {
    match bench.outputs.pop_front() {
        Some(Output::SendRequest {
            tx, request, route, ..
        }) => (tx, request, route),
        other => panic!("{other:?}"),
    }
}

fn flow_down(bench: &mut Bench, id: u64) {
    bench.stack(StackEvent::FlowDown {
        id: FlowId(id),
        reason: "closed by peer".to_owned(),
    });
}

#[test]
fn an_invite_goes_over_the_first_flow_with_the_contact_of_the_registration() {
    let mut bench = over(&[1, 2]);
    invite(&mut bench, "sip:bob@example.com").unwrap();
    let (tx, request, route) = sent(&mut bench);
    assert_eq!((route.flow, route.next_hop), (Some(FlowId(1)), None));
    let contact = request.headers.contact_uri().unwrap().to_string();
    assert_eq!(contact, "sip:alice@example.com;gr=urn:uuid:1");
    bench.event();
    bench.answer(tx, response(&request, 200, "bob"));
    let Some(Output::SendAck { route, .. }) = bench.outputs.pop_front() else {
        panic!()
    };
    assert_eq!(route.flow, None, "within a dialog the route set decides");
}

#[test]
fn a_dialog_stays_on_its_websocket_until_that_is_gone() {
    let mut bench = over(&[1]);
    let flows = vec![flow_of(7, Transport::Wss)];
    bench.give(Input::Reach(reach(Some(flows)))).unwrap();
    invite(&mut bench, "sip:bob@example.com").unwrap();
    let (tx, request, _) = sent(&mut bench);
    bench.event();
    bench.stack(StackEvent::Response {
        tx,
        response: response(&request, 200, "bob"),
        flow: Some(flow_of(7, Transport::Wss)),
    });
    let Some(Output::SendAck { call, route, .. }) = bench.outputs.pop_front() else {
        panic!()
    };
    assert_eq!(route.flow, Some(FlowId(7)), "transport=ws does not say wss");
    bench.event();
    flow_down(&mut bench, 7);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    let (.., route) = sent(&mut bench);
    assert_eq!(route.flow, None, "the route set decides again");
}

/// A call over the WebSocket 7, confirmed.
fn call_over_websocket() -> (Bench, CallId) {
    let mut bench = over(&[]);
    bench
        .give(Input::Reach(reach(Some(vec![flow_of(7, Transport::Wss)]))))
        .unwrap();
    invite(&mut bench, "sip:bob@example.com").unwrap();
    let (tx, request, _) = sent(&mut bench);
    bench.event();
    bench.stack(StackEvent::Response {
        tx,
        response: response(&request, 200, "bob"),
        flow: Some(flow_of(7, Transport::Wss)),
    });
    let Some(Output::SendAck { call, .. }) = bench.outputs.pop_front() else {
        panic!()
    };
    bench.event();
    (bench, call)
}

fn offer(bench: &mut Bench, call: CallId) {
    let offer = OFFER.to_owned();
    bench
        .give(Input::Reinvite(Reinvite {
            call,
            offer,
            early: None,
        }))
        .unwrap();
}

fn registered_over(bench: &mut Bench, flows: &[u64]) {
    let flows = flows.iter().map(|id| flow_of(*id, Transport::Wss)).collect();
    bench.give(Input::Reach(reach(Some(flows)))).unwrap();
}

#[test]
fn an_offer_waits_for_the_websocket_that_the_registration_opens() {
    let (mut bench, call) = call_over_websocket();
    flow_down(&mut bench, 7);
    offer(&mut bench, call);
    bench.silent();
    registered_over(&mut bench, &[]);
    bench.silent();
    registered_over(&mut bench, &[8]);
    let (_, request, route) = sent(&mut bench);
    assert_eq!((request.method, route.flow), (Method::Invite, Some(FlowId(8))));
    registered_over(&mut bench, &[8]);
    bench.silent();
}

#[test]
fn an_offer_whose_websocket_breaks_goes_over_the_next_one() {
    let (mut bench, call) = call_over_websocket();
    offer(&mut bench, call);
    let (tx, first, route) = sent(&mut bench);
    assert_eq!(route.flow, Some(FlowId(7)));
    bench.tx_ended(tx, TxEnd::Transport("the connection is gone".to_owned()));
    bench.silent();
    registered_over(&mut bench, &[8]);
    let (_, second, route) = sent(&mut bench);
    assert_eq!(route.flow, Some(FlowId(8)));
    let sequence = |request: &SipRequest| request.headers.cseq().unwrap().sequence;
    assert!(sequence(&second) > sequence(&first));
}

#[test]
fn a_call_whose_websocket_never_comes_back_ends() {
    let (mut bench, call) = call_over_websocket();
    flow_down(&mut bench, 7);
    offer(&mut bench, call);
    bench.pass(T1 * 64);
    let (cause, side, _, reason) = bench.ended();
    assert_eq!((cause, side), (Cause::ConnectionFailed, Side::Local));
    assert!(reason.contains("no WebSocket"));
}

#[test]
fn a_flow_that_is_gone_is_followed_by_the_next_and_without_any_a_call_is_an_error() {
    let mut bench = over(&[1, 2]);
    flow_down(&mut bench, 1);
    invite(&mut bench, "sip:bob@example.com").unwrap();
    assert_eq!(sent(&mut bench).2.flow, Some(FlowId(2)));
    bench.event();
    flow_down(&mut bench, 2);
    let error = invite(&mut bench, "sip:bob@example.com").unwrap_err();
    assert_eq!(error.fault(), Fault::Backend);
    assert!(
        error.to_string().contains("no flow to sip:edge.example.com"),
        "{error}"
    );
    bench.silent();
}

#[test]
fn an_invite_whose_flow_breaks_unheard_goes_out_again_over_the_next() {
    let mut bench = over(&[1, 2]);
    invite(&mut bench, "sip:bob@example.com").unwrap();
    let (tx, first, _) = sent(&mut bench);
    bench.event();
    bench.tx_ended(tx, TxEnd::Transport("the connection is gone".to_owned()));
    let (tx, second, route) = sent(&mut bench);
    assert_eq!(route.flow, Some(FlowId(2)));
    assert_eq!(
        second.headers.call_id().unwrap(),
        first.headers.call_id().unwrap()
    );
    assert_eq!(second.headers.cseq().unwrap().sequence, 2);
    bench.tx_ended(tx, TxEnd::Transport("the connection is gone".to_owned()));
    let (cause, side, ..) = bench.ended();
    assert_eq!((cause, side), (Cause::ConnectionFailed, Side::Local));
}

#[test]
fn an_invite_that_was_heard_is_not_sent_again() {
    let mut bench = over(&[1, 2]);
    invite(&mut bench, "sip:bob@example.com").unwrap();
    let (tx, request, _) = sent(&mut bench);
    bench.event();
    bench.answer(tx, response(&request, 100, ""));
    bench.event();
    bench.tx_ended(tx, TxEnd::Transport("the connection is gone".to_owned()));
    assert_eq!(bench.ended().0, Cause::ConnectionFailed);
    bench.silent();
}

#[test]
fn an_end_of_the_registration_gives_the_outbound_proxy_back() {
    let mut bench = over(&[1]);
    bench.give(Input::Reach(reach(None))).unwrap();
    invite(&mut bench, "sip:bob@example.com").unwrap();
    let route = sent(&mut bench).2;
    assert!(route.flow.is_none() && route.next_hop.is_some());
}

#[test]
fn a_sips_call_over_a_flow_or_proxy_without_tls_is_refused() {
    let mut bench = over(&[1]);
    let error = invite(&mut bench, "sips:bob@example.com").unwrap_err();
    assert!(error.to_string().contains("asks for TLS"), "{error}");
    let flows = vec![flow_of(1, Transport::Tcp), flow_of(2, Transport::Wss)];
    bench.give(Input::Reach(reach(Some(flows)))).unwrap();
    invite(&mut bench, "sips:bob@example.com").unwrap();
    assert_eq!(sent(&mut bench).2.flow, Some(FlowId(2)));
    bench.event();
    bench.give(Input::Reach(reach(None))).unwrap();
    let error = invite(&mut bench, "sips:bob@example.com").unwrap_err();
    assert!(
        error.to_string().contains("sip:edge.example.com;transport=tcp"),
        "{error}"
    );
    bench.silent();
}

#[test]
fn a_sips_dialog_stays_on_tls_whatever_contact_the_peer_gives() {
    let mut bench = Bench::new();
    invite(&mut bench, "sips:bob@example.com").unwrap();
    let (tx, request, _) = sent(&mut bench);
    bench.event();
    bench.answer(tx, response(&request, 200, "bob"));
    let Some(Output::SendAck { request, route, .. }) = bench.outputs.pop_front() else {
        panic!()
    };
    assert_eq!(request.uri.to_string(), "sips:bob@192.0.2.7:5080");
    assert!(route.refuse_downgrade(&request).is_ok());
}

#[test]
fn a_call_to_our_own_gruu_rings_here() {
    let mut bench = over(&[1]);
    let mut invite = peer_invite();
    invite.uri = "sip:alice@example.com;gr=urn:uuid:1".parse().unwrap();
    bench.request(invite);
    bench.responded(100);
    assert!(matches!(bench.event(), DialogEventKind::Incoming { .. }));
}

#[test]
fn a_challenge_weaker_than_configured_ends_the_call_and_names_the_hash() {
    let mut config = config();
    config.account.weakest_digest = DigestAlgorithm::Sha256;
    let mut bench = Bench::with(config);
    let (_, tx, request) = bench.call();
    let mut challenge = response(&request, 407, "p");
    challenge
        .headers
        .push("Proxy-Authenticate", r#"Digest realm="r", nonce="n", qop="auth""#);
    bench.answer(tx, challenge);
    let (_, _, status, reason) = bench.ended();
    assert_eq!(status, Some(407));
    assert!(reason.contains("MD5") && reason.contains("SHA-256"), "{reason}");
}

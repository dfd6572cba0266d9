//! Flows (RFC 5626) through the actor, over a stack that does as the test says, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use actix::prelude::*;
use async_trait::async_trait;
use common::{Events, ok};
use siprtc_core::Result;
use siprtc_core::sip::{
    Flow, FlowId, Headers, Keepalive, Listener, Route, SipCapability, SipRequest, SipResponse, SipStack,
    StackEvent, Transport, TxEnd, TxId, TxOwner,
};
use siprtc_registrar_client::{
    FromStack, Register, RegistrarClient, RegistrarConfig, RegistrationEvent, RegistrationFailure, Unregister,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the client has asked of its stack.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a test has a few of them")]
enum Asked {
    Close(FlowId),
    Keepalive(FlowId, Keepalive),
    Register(TxId, SipRequest, Route),
}

struct Script(mpsc::UnboundedSender<Asked>);

impl Script {
    fn note(&self, asked: Asked) -> Result<()> {
        let _ = self.0.send(asked);
        Ok(())
    }
}

#[async_trait]
impl SipStack for Script {
    fn capability(&self) -> SipCapability {
        SipCapability {
            transports: &[Transport::Tcp],
            keepalives: &[Keepalive::Crlf],
            gaps: &[],
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        Vec::new()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        self.note(Asked::Register(tx, request, route))
    }

    async fn cancel(&self, _: TxId, _: Headers) -> Result<()> {
        Ok(())
    }

    async fn send_ack(&self, _: SipRequest, _: Route) -> Result<()> {
        Ok(())
    }

    async fn respond(&self, _: TxId, _: SipResponse) -> Result<()> {
        Ok(())
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        self.note(Asked::Keepalive(flow, kind))
    }

    async fn close_flow(&self, flow: FlowId) -> Result<()> {
        self.note(Asked::Close(flow))
    }

    async fn shutdown(&self, _: Duration) {}
}

struct Bench {
    client: Addr<RegistrarClient>,
    events: Events,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Bench {
    fn new(config: RegistrarConfig) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let (recipient, events) = Events::new();
        let client = RegistrarClient::new(config, Arc::new(Script(sender)), TxOwner::user(9), recipient);
        Bench {
            client: client.start(),
            events,
            asked,
        }
    }

    async fn asked(&mut self) -> Asked {
        let patience = Duration::from_secs(7200);
        tokio::time::timeout(patience, self.asked.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn register(&mut self) -> (TxId, SipRequest, Route) {
        match self.asked().await {
            Asked::Register(tx, request, route) => (tx, request, route),
            other => panic!("{other:?}"),
        }
    }

    async fn stack(&self, event: StackEvent) {
        self.client.send(FromStack(event)).await.unwrap();
    }

    /// Accepts a REGISTER over `flow`, which wants a keepalive every 20 s.
    async fn accept(&self, tx: TxId, request: &SipRequest, flow: u64) {
        let mut response = ok(request);
        response.headers.push("Require", "outbound");
        response.headers.push("Flow-Timer", 20);
        let flow = Some(flow_of(flow));
        self.stack(StackEvent::Response { tx, response, flow }).await;
        self.stack(StackEvent::TxEnded { tx, end: TxEnd::Done }).await;
    }
}

fn flow_of(id: u64) -> Flow {
    let addr = SocketAddr::from(([192, 0, 2, 1], 5060));
    Flow {
        id: FlowId(id),
        transport: Transport::Tcp,
        local: addr,
        remote: addr,
    }
}

fn config(flows: usize) -> RegistrarConfig {
    let contact = "<sip:alice@abc.invalid;transport=tcp;ob>".parse().unwrap();
    RegistrarConfig {
        flows,
        instance: Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned()),
        registrars: [
            "sip:a.example.com;transport=tcp",
            "sip:b.example.com;transport=tcp",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec(),
        ..RegistrarConfig::new("sip:alice@example.com".parse().unwrap(), contact)
    }
}

/// Runs on a clock that jumps to the next timer when everybody waits.
fn run(test: impl Future<Output = ()>) {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    })
    .block_on(test);
}

#[test]
fn of_two_flows_the_one_that_falls_silent_is_closed_and_replaced() {
    run(async {
        let mut bench = Bench::new(config(2));
        bench.client.send(Register).await.unwrap().unwrap();
        for flow in [1, 2] {
            let (tx, request, _) = bench.register().await;
            bench.accept(tx, &request, flow).await;
            let event = bench.events.next().await;
            assert!(
                matches!(&event, RegistrationEvent::Registered { flows, .. } if flows.len() == flow as usize),
                "{event:?}"
            );
        }
        let start = Instant::now();
        let mut silent_since = None;
        loop {
            match bench.asked().await {
                Asked::Keepalive(flow, Keepalive::Crlf) if flow == FlowId(1) => {
                    let answered = StackEvent::KeepaliveAnswered { flow, mapped: None };
                    bench.stack(answered).await;
                }
                Asked::Keepalive(flow, _) => {
                    assert_eq!((flow, silent_since.replace(Instant::now())), (FlowId(2), None));
                    let passed = start.elapsed().as_secs_f64();
                    assert!((16.0..=20.1).contains(&passed), "{passed}");
                }
                Asked::Close(flow) => break assert_eq!(flow, FlowId(2)),
                Asked::Register(..) => panic!("too early"),
            }
        }
        assert_eq!(silent_since.unwrap().elapsed().as_secs(), 10);
        let event = bench.events.next().await;
        assert!(matches!(event, RegistrationEvent::FlowFailed { .. }), "{event:?}");
        let event = bench.events.next().await;
        assert_eq!(
            event,
            RegistrationEvent::FlowsChanged {
                flows: vec![flow_of(1)]
            }
        );
        let (tx, request, route) = bench.register().await;
        assert!(route.fresh && route.flow.is_none());
        assert_eq!(route.next_hop.unwrap().host.to_string(), "b.example.com");
        bench.accept(tx, &request, 3).await;
        let event = bench.events.next().await;
        assert!(matches!(event, RegistrationEvent::Registered { .. }), "{event:?}");

        let leaving = tokio::spawn(bench.client.send(Unregister));
        for flow in [1, 3] {
            let (tx, request, route) = loop {
                if let Asked::Register(tx, request, route) = bench.asked().await {
                    break (tx, request, route);
                }
            };
            assert_eq!(
                (route.flow, request.headers.expires().unwrap()),
                (Some(FlowId(flow)), Some(0))
            );
            bench.accept(tx, &request, flow).await;
        }
        leaving.await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn a_registration_of_a_sips_address_does_not_go_out_in_clear() {
    run(async {
        let mut secure = config(1);
        secure.aor = "sips:alice@example.com".parse().unwrap();
        let mut bench = Bench::new(secure);
        bench.client.send(Register).await.unwrap().unwrap();
        let event = bench.events.next().await;
        let RegistrationEvent::Failed {
            cause: RegistrationFailure::Unreachable,
            sentence,
            ..
        } = event
        else {
            panic!("{event:?}")
        };
        assert!(sentence.contains("asks for TLS"), "{sentence}");
        assert!(bench.asked.is_empty());
    });
}

//! Traces and metrics reach a collector over OTLP/gRPC when one is configured.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[path = "calls/house/mod.rs"]
mod house;

use http::{HeaderMap, HeaderValue, Response};
use siprtc::prelude::*;
use siprtc::telemetry;
use siprtc_turn_server::Server;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The octets received for each gRPC method.
type Received = Arc<Mutex<HashMap<String, Vec<u8>>>>;

async fn collect(socket: TcpStream, received: Received) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let received = received.clone();
        tokio::spawn(async move {
            let method = request.uri().path().to_owned();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                received
                    .lock()
                    .unwrap()
                    .entry(method.clone())
                    .or_default()
                    .extend_from_slice(&data);
            }
            let head = Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            // An empty message: everything was accepted.
            stream.send_data(vec![0, 0, 0, 0, 0].into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers).unwrap();
        });
    }
}

fn holds(octets: &[u8], text: &str) -> bool {
    octets.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A collector, and telemetry that goes there.
async fn exporting() -> (Received, telemetry::Telemetry) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Received::default();
    let store = received.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(collect(socket, store.clone()));
        }
    });
    let config = Layers::new()
        .set("telemetry.otlp_endpoint", format!("http://{address}"))
        .set("telemetry.service_name", "front-door")
        .load()
        .unwrap();
    let telemetry = telemetry::install(&config.log, &config.telemetry).unwrap();
    (received, telemetry)
}

/// Exports what is left, and ends.
async fn end(telemetry: telemetry::Telemetry) {
    tokio::time::timeout(
        Duration::from_secs(20),
        tokio::task::spawn_blocking(move || drop(telemetry)),
    )
    .await
    .expect("the exporters end")
    .unwrap();
}

const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_span_and_a_set_of_metrics_at_the_collector() {
    let (received, telemetry) = exporting().await;

    let home = house::home().await;
    let alice = house::endpoint(&home, "alice").await;
    let mut bob = house::endpoint(&home, "bob").await;
    let mut call = alice.dial("bob", MediaPlan::default()).await.unwrap();
    let answered = bob
        .incoming()
        .await
        .unwrap()
        .answer(MediaPlan::default())
        .await
        .unwrap();
    call.confirmed().await.unwrap();
    while !matches!(
        call.next().await,
        Some(CallEventKind::FirstPacket { inbound: true }) | None
    ) {}
    call.hangup().await.unwrap();
    call.finished().await.unwrap();
    answered.finished().await.unwrap();
    alice.shutdown().await;
    bob.shutdown().await;
    home.shutdown().await;
    end(telemetry).await;

    let received = received.lock().unwrap();
    let traces = &received["/opentelemetry.proto.collector.trace.v1.TraceService/Export"];
    for text in ["front-door", "call", "call_id", "sip_call_id", "caller", "callee"] {
        assert!(holds(traces, text), "no {text:?} in the traces");
    }
    let metrics = &received[METRICS];
    for text in [
        "siprtc.calls",
        "siprtc.call.setup",
        "siprtc.call.mos",
        "siprtc.registrations",
    ] {
        assert!(holds(metrics, text), "no {text:?} in the metrics");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_servers_figures_are_metrics_at_the_collector() {
    let (received, telemetry) = exporting().await;
    let config = Layers::new()
        .set("turn.listen", "[\"udp:127.0.0.1:0\"]")
        .set("turn.users", "[{ name = \"alice\", password = \"secret\" }]")
        .load()
        .unwrap();
    let server = Server::start(siprtc::turn::config(&config.turn).unwrap()).unwrap();
    telemetry::observe_turn(server.meter());
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // An Allocate request without attributes: 401 (RFC 8656 section 7.2).
    let mut request = [0_u8; 20];
    request[..8].copy_from_slice(&[0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    client
        .send_to(&request, server.listeners()[0].bind)
        .await
        .unwrap();
    let mut answer = [0; 1500];
    let answered = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut answer));
    assert!(answered.await.unwrap().unwrap() > 20);
    assert_eq!(&answer[..2], &[0x01, 0x13], "an error response to Allocate");
    end(telemetry).await;
    server.shutdown();

    let received = received.lock().unwrap();
    for text in [
        "siprtc.turn.allocations",
        "siprtc.turn.allocated",
        "siprtc.turn.connections",
        "siprtc.turn.refused",
        "siprtc.turn.packets",
        "siprtc.turn.octets",
    ] {
        assert!(holds(&received[METRICS], text), "no {text:?} in the metrics");
    }
}

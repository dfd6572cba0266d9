//! Transactions per second of one stack: two of it in this process, OPTIONS and 200.

use crate::callee::{MOST, config};
use siprtc::registry;
use siprtc_benches::figure::Figure;
use siprtc_core::Result;
use siprtc_core::sip::{
    Method, Route, SipRequest, SipStack, SipUri, StackConfig, StackEvent, Transport, TxIds, TxOwner,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

/// How many are under way at once.
const IN_FLIGHT: usize = 50;
const DURATION: Duration = Duration::from_secs(3);

pub(crate) async fn run(name: &str) -> Result<Figure> {
    let factory = registry::sip_stack(name)?;
    let setup = StackConfig {
        max_transactions: MOST,
        ..config(Transport::Udp)
    };
    let (requests, mut heard) = mpsc::channel(4096);
    let bob = factory
        .start(
            setup.clone(),
            Arc::new(move |event| match event {
                StackEvent::Request { tx, request, .. } => requests
                    .try_send((tx, request))
                    .map_err(|_| siprtc_core::sip::SinkFull),
                _ => Ok(()),
            }),
        )
        .await?;
    let answering = bob.clone();
    let answerer = tokio::spawn(async move {
        while let Some((tx, request)) = heard.recv().await {
            drop(answering.respond(tx, request.response(200)).await);
        }
    });
    let (permits, answered) = (Arc::new(Semaphore::new(IN_FLIGHT)), Arc::new(AtomicU64::new(0)));
    let (back, count) = (permits.clone(), answered.clone());
    let alice: Arc<OnceLock<Arc<dyn SipStack>>> = Arc::new(OnceLock::new());
    let started = factory
        .start(
            setup,
            Arc::new(move |event| {
                if let StackEvent::Response { .. } = event {
                    count.fetch_add(1, Ordering::Relaxed);
                    back.add_permits(1);
                }
                Ok(())
            }),
        )
        .await?;
    let alice = alice.get_or_init(|| started);
    let uri = SipUri::from_addr(bob.listeners()[0].bound);
    let (ids, began) = (TxIds::new(TxOwner::user(1)), Instant::now());
    while began.elapsed() < DURATION {
        let Ok(Ok(permit)) = tokio::time::timeout(Duration::from_secs(1), permits.acquire()).await else {
            break;
        };
        permit.forget();
        let tx = ids.mint();
        alice
            .send_request(tx, options(&uri, tx), Route::by_request())
            .await?;
    }
    let per_second = answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
    answerer.abort();
    Ok(
        Figure::new("stacks", format!("{name}: transactions a second"), per_second, "").note(format!(
            "OPTIONS and 200, {IN_FLIGHT} under way, both ends in one process"
        )),
    )
}

fn options(uri: &SipUri, tx: siprtc_core::sip::TxId) -> SipRequest {
    let mut request = SipRequest::new(Method::Options, uri.clone());
    request.headers.push("From", "<sip:alice@example.com>;tag=1");
    request.headers.push("To", "<sip:bob@example.com>");
    request.headers.push("Call-ID", tx);
    request.headers.push("CSeq", "1 OPTIONS");
    request
}

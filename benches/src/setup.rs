//! The own cost of setting a call up: everything but ICE, DTLS and the network.

use crate::house::{self, PATIENCE};
use crate::process;
use async_trait::async_trait;
use siprtc::gateway::MediaPlan;
use siprtc::{Endpoint, Parts};
use siprtc_benches::figure::{Figure, Series};
use siprtc_core::media::MediaEngine;
use siprtc_core::sip::{EventSink, SinkFull, SipStack, SipStackFactory, StackConfig, StackEvent};
use siprtc_core::{Error, Fault, Result};
use siprtc_testkit::media::{FakeNetwork, Impairment};
use siprtc_testkit::sip::Wire;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;

const CALLS: usize = 300;

/// A sink that is known only after the wire is there.
#[derive(Default)]
struct LateSink(OnceLock<Arc<dyn EventSink>>);

impl EventSink for LateSink {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        self.0.get().ok_or(SinkFull)?.try_emit(event)
    }
}

/// One end of a wire, as a factory that an endpoint can be started over.
struct WireEnd {
    stack: Arc<dyn SipStack>,
    sink: Arc<LateSink>,
}

#[async_trait]
impl SipStackFactory for WireEnd {
    fn name(&self) -> &'static str {
        "wire"
    }

    async fn start(&self, _: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        match self.sink.0.set(sink) {
            Ok(()) => Ok(self.stack.clone()),
            Err(_) => Err(Error::new(
                Fault::ApiMisuse,
                "start a wire's end",
                "it is started already",
            )),
        }
    }
}

async fn endpoints() -> Result<(Endpoint, Endpoint)> {
    let sinks = [Arc::new(LateSink::default()), Arc::new(LateSink::default())];
    let (a, b) = Wire::pair(sinks[0].clone(), sinks[1].clone());
    let network = FakeNetwork::new(Impairment::default());
    let start = |name: &'static str, stack, sink: &Arc<LateSink>| {
        let parts = Parts {
            stack: Arc::new(WireEnd {
                stack,
                sink: sink.clone(),
            }),
            classic: None,
            engine: network.engine() as Arc<dyn MediaEngine>,
        };
        async move {
            let mut config = house::account(name, "")?;
            config.account.register = false;
            Endpoint::start_with(&config, parts).await
        }
    };
    Ok((
        start("alice", a, &sinks[0]).await?,
        start("bob", b, &sinks[1]).await?,
    ))
}

/// One call: ms from the dial until both sides are confirmed.
async fn call(alice: &Endpoint, bob: &mut Endpoint) -> Result<f64> {
    let began = Instant::now();
    let calling = async {
        let mut call = alice.dial("sip:bob@192.0.2.2", MediaPlan::default()).await?;
        call.confirmed().await?;
        Ok::<_, Error>(call)
    };
    let answering = async {
        let incoming = bob
            .incoming()
            .await
            .ok_or_else(|| Error::new(Fault::Backend, "answer", "shut down"))?;
        let mut call = incoming.answer(MediaPlan::default()).await?;
        call.confirmed().await?;
        Ok::<_, Error>(call)
    };
    let (caller, callee) = tokio::try_join!(calling, answering)?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    caller.hangup().await?;
    tokio::try_join!(caller.finished(), callee.finished())?;
    Ok(took)
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let (alice, mut bob) = endpoints().await?;
    for _ in 0..20 {
        call(&alice, &mut bob).await?;
    }
    let processor = process::processor_ms();
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let one = tokio::time::timeout(PATIENCE, call(&alice, &mut bob)).await;
        took.push(one.map_err(|_| Error::new(Fault::TimedOut, "set a call up", "it does not confirm"))??);
    }
    let processor = (process::processor_ms() - processor) / CALLS as f64;
    alice.shutdown().await;
    bob.shutdown().await;
    let took = Series::new(took);
    let note = format!(
        "{} calls one by one; both ends, gateways, SDP translation, codecs; SIP in memory, ICE and DTLS absent",
        took.len()
    );
    Ok(vec![
        Figure::new(
            "setup",
            "dial to confirmed on both sides, p50",
            took.median(),
            "ms",
        )
        .at_most(1.0)
        .note(note),
        Figure::new("setup", "the same, p99", took.percentile(99.0), "ms"),
        Figure::new(
            "setup",
            "processor time of a whole call, both ends",
            processor,
            "ms",
        )
        .note("dial to the end, mean"),
    ])
}

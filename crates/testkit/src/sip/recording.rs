//! A sink that a test reads.

use parking_lot::Mutex;
use siprtc_core::sip::{EventSink, Flow, Method, SinkFull, SipRequest, SipResponse, StackEvent, TxEnd, TxId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an `expect_*` waits. Longer than 64*T1 (32 s), so that a paused clock may run a transaction out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most events that are kept; beyond it the sink is full.
const ROOM: usize = 10_000;

/// Keeps a stack's events in their order and hands them to a test.
///
/// The `expect_*` words look at the next event. They skip flow events, and they leave every `TxEnded` in place for
/// [`RecordingSink::expect_ended`]: when a transaction ends is seldom what a scenario is about. They panic with
/// what came instead, so that a test fails in one clear sentence.
#[derive(Debug)]
pub struct RecordingSink {
    patience: Duration,
    events: Mutex<VecDeque<StackEvent>>,
    arrived: Notify,
    refusing: AtomicBool,
}

impl RecordingSink {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        RecordingSink::with_patience(PATIENCE)
    }

    /// An empty one whose `expect_*` wait for at most `patience`.
    pub fn with_patience(patience: Duration) -> Arc<Self> {
        Arc::new(RecordingSink {
            patience,
            events: Mutex::default(),
            arrived: Notify::new(),
            refusing: AtomicBool::new(false),
        })
    }

    /// From now on refuses every `Request` as a full queue would, or takes them again.
    pub fn refuse_requests(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    /// The next event, whatever it is. Panics when none comes in time: 60 seconds of tokio's clock, unless
    /// [`RecordingSink::with_patience`] says otherwise.
    pub async fn next(&self) -> StackEvent {
        self.wait("any event", |events| events.pop_front()).await
    }

    /// The next event, if one is there already.
    pub fn try_next(&self) -> Option<StackEvent> {
        self.events.lock().pop_front()
    }

    /// The next event must be a request of `method`.
    pub async fn expect_request(&self, method: Method) -> (TxId, SipRequest, Flow) {
        match self.next_of_interest(&format!("a {method} request")).await {
            StackEvent::Request { tx, request, flow } if request.method == method => (tx, request, flow),
            other => panic!("expected a {method} request, but came {other:?}"),
        }
    }

    /// The next event must be a response with `status`. Behind a 100 too, which a stack may send by itself at any time
    /// (RFC 3261 section 17.2.1).
    pub async fn expect_response(&self, status: u16) -> (TxId, SipResponse) {
        loop {
            match self.next_of_interest(&format!("a {status} response")).await {
                StackEvent::Response { tx, response, .. } if response.status == status => {
                    return (tx, response);
                }
                StackEvent::Response { response, .. } if response.status == 100 => (),
                other => panic!("expected a {status} response, but came {other:?}"),
            }
        }
    }

    /// The next event must be the ACK of a 2xx.
    pub async fn expect_ack(&self) -> SipRequest {
        match self.next_of_interest("an ACK").await {
            StackEvent::Ack { request, .. } => request,
            other => panic!("expected an ACK, but came {other:?}"),
        }
    }

    /// The next event must say that this INVITE was cancelled.
    pub async fn expect_cancelled(&self, tx: TxId) {
        match self.next_of_interest("a CANCEL").await {
            StackEvent::Cancelled { invite } if invite == tx => (),
            other => panic!("expected {tx} to be cancelled, but came {other:?}"),
        }
    }

    /// Waits for the end of `tx`, leaving every other event in place.
    pub async fn expect_ended(&self, tx: TxId) -> TxEnd {
        let ended =
            |event: &StackEvent| matches!(event, StackEvent::TxEnded { tx: which, .. } if *which == tx);
        let event = self
            .wait(&format!("the end of {tx}"), |events| {
                let place = events.iter().position(ended)?;
                events.remove(place)
            })
            .await;
        match event {
            StackEvent::TxEnded { end, .. } => end,
            other => unreachable!("BUG: waited for an end, got {other:?}"),
        }
    }

    /// Nothing but flow events and ends of transactions may come within `time`.
    pub async fn expect_silence(&self, time: Duration) {
        tokio::time::sleep(time).await;
        let events = self.events.lock();
        let heard: Vec<_> = events.iter().filter(|event| is_of_interest(event)).collect();
        assert!(
            heard.is_empty(),
            "expected silence for {time:?}, but came {heard:?}"
        );
    }

    async fn next_of_interest(&self, what: &str) -> StackEvent {
        self.wait(what, |events| {
            events.retain(|event| !is_flow(event));
            let place = events.iter().position(is_of_interest)?;
            events.remove(place)
        })
        .await
    }

    async fn wait(
        &self,
        what: &str,
        mut take: impl FnMut(&mut VecDeque<StackEvent>) -> Option<StackEvent>,
    ) -> StackEvent {
        let waiting = async {
            loop {
                // Registered before the look, so that an event between the two is not missed.
                let arrived = self.arrived.notified();
                if let Some(event) = take(&mut self.events.lock()) {
                    return event;
                }
                arrived.await;
            }
        };
        match tokio::time::timeout(self.patience, waiting).await {
            Ok(event) => event,
            Err(_) => panic!(
                "waited {:?} for {what}; still unheard: {:?}",
                self.patience,
                self.events.lock()
            ),
        }
    }
}

impl EventSink for RecordingSink {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        if self.refusing.load(Ordering::SeqCst) && matches!(event, StackEvent::Request { .. }) {
            return Err(SinkFull);
        }
        let mut events = self.events.lock();
        if events.len() >= ROOM {
            return Err(SinkFull);
        }
        events.push_back(event);
        drop(events);
        self.arrived.notify_waiters();
        Ok(())
    }
}

fn is_flow(event: &StackEvent) -> bool {
    matches!(event, StackEvent::FlowUp(_) | StackEvent::FlowDown { .. })
}

fn is_of_interest(event: &StackEvent) -> bool {
    !is_flow(event) && !matches!(event, StackEvent::TxEnded { .. })
}

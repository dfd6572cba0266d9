//! A stack that sends nothing: it remembers what it was told, and its targets do what the test says.

use async_trait::async_trait;
use siprtc_core::sip::{
    EventSink, FlowId, Headers, Keepalive, Listener, Route, SipCapability, SipRequest, SipResponse, SipStack,
    SipStackFactory, StackConfig, StackEvent, Transport, TxEnd, TxId,
};
use siprtc_core::{Error, Fault, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// These answers, the last of them final.
    Answers(&'static [u16]),
    /// These, and nothing after them.
    Holds(&'static [u16]),
    /// The stack cannot even begin.
    Refuses,
    Breaks,
    TimesOut,
}

#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) tx: Option<TxId>,
    pub(crate) to: String,
    pub(crate) route: Route,
}

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) transports: &'static [Transport],
    does: Mutex<HashMap<String, Does>>,
    pub(crate) sent: Mutex<Vec<Sent>>,
    pub(crate) cancelled: Mutex<Vec<TxId>>,
}

impl Fake {
    pub(crate) fn new(transports: &'static [Transport], does: &[(&str, Does)]) -> Arc<Self> {
        let fake = Fake {
            transports,
            ..Fake::default()
        };
        for (to, what) in does {
            fake.does.lock().unwrap().insert((*to).to_owned(), what.clone());
        }
        Arc::new(fake)
    }

    /// Where requests and ACKs went, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.sent
            .lock()
            .unwrap()
            .iter()
            .map(|sent| sent.to.clone())
            .collect()
    }

    fn remember(&self, tx: Option<TxId>, request: &SipRequest, route: Route) -> Does {
        let to = match (&route.flow, &route.next_hop) {
            (Some(flow), _) => format!("flow {}", flow.0),
            (None, Some(hop)) => format!("{} {}", hop.transport().unwrap(), hop.socket_addr().unwrap()),
            (None, None) => request.uri.to_string(),
        };
        let does = self.does.lock().unwrap().get(&to).cloned();
        self.sent.lock().unwrap().push(Sent { tx, to, route });
        does.unwrap_or(Does::Answers(&[200]))
    }
}

pub(crate) struct FakeFactory(pub(crate) Arc<Fake>);

#[async_trait]
impl SipStackFactory for FakeFactory {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn start(&self, _: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        Ok(Arc::new(FakeStack {
            fake: self.0.clone(),
            sink,
        }))
    }
}

struct FakeStack {
    fake: Arc<Fake>,
    sink: Arc<dyn EventSink>,
}

#[async_trait]
impl SipStack for FakeStack {
    fn capability(&self) -> SipCapability {
        SipCapability {
            transports: self.fake.transports,
            keepalives: &[],
            gaps: &[],
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let bound = "127.0.0.1:5060".parse().unwrap();
        vec![Listener {
            transport: Transport::Udp,
            bound,
            advertised: bound,
        }]
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        let does = self.fake.remember(Some(tx), &request, route);
        let (statuses, end): (&[u16], _) = match does {
            Does::Refuses => return Err(Error::new(Fault::Backend, "send request", "connection refused")),
            Does::Answers(statuses) => (statuses, Some(TxEnd::Done)),
            Does::Holds(statuses) => (statuses, None),
            Does::Breaks => (&[], Some(TxEnd::Transport("the connection broke".to_owned()))),
            Does::TimesOut => (&[], Some(TxEnd::TimedOut)),
        };
        let sink = self.sink.clone();
        tokio::spawn(async move {
            for status in statuses {
                let response = SipResponse::new(*status);
                let event = StackEvent::Response {
                    tx,
                    response,
                    flow: None,
                };
                sink.try_emit(event).unwrap();
            }
            if let Some(end) = end {
                sink.try_emit(StackEvent::TxEnded { tx, end }).unwrap();
            }
        });
        Ok(())
    }

    async fn cancel(&self, invite: TxId, _: Headers) -> Result<()> {
        self.fake.cancelled.lock().unwrap().push(invite);
        let response = SipResponse::new(487);
        let (sink, flow) = (self.sink.clone(), None);
        tokio::spawn(async move {
            sink.try_emit(StackEvent::Response {
                tx: invite,
                response,
                flow,
            })
            .unwrap();
            sink.try_emit(StackEvent::TxEnded {
                tx: invite,
                end: TxEnd::Done,
            })
            .unwrap();
        });
        Ok(())
    }

    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()> {
        match self.fake.remember(None, &ack, route) {
            Does::Refuses => Err(Error::new(Fault::Backend, "send ACK", "connection refused")),
            _ => Ok(()),
        }
    }

    async fn respond(&self, _: TxId, _: SipResponse) -> Result<()> {
        Ok(())
    }

    async fn keepalive(&self, _: FlowId, _: Keepalive) -> Result<()> {
        Ok(())
    }

    async fn close_flow(&self, _: FlowId) -> Result<()> {
        Ok(())
    }

    async fn shutdown(&self, _: Duration) {}
}

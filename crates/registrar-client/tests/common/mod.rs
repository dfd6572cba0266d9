//! What both test programs share: a collector of events, a sink that feeds the client, a registrar that follows a
//! script.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may end here")]

use actix::prelude::*;
use siprtc_core::sip::{EventSink, SinkFull, SipRequest, SipResponse, SipStack, StackEvent};
use siprtc_registrar_client::{FromStack, RegistrarClient, RegistrationEvent};
use siprtc_testkit::sip::RecordingSink;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Hands every event to the test.
pub(crate) struct Collector(mpsc::UnboundedSender<RegistrationEvent>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<RegistrationEvent> for Collector {
    type Result = ();

    fn handle(&mut self, event: RegistrationEvent, _: &mut Self::Context) {
        let _ = self.0.send(event);
    }
}

/// The events of a client, awaited.
pub(crate) struct Events(mpsc::UnboundedReceiver<RegistrationEvent>);

impl Events {
    pub(crate) fn new() -> (Recipient<RegistrationEvent>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Collector(sender).start().recipient(), Events(receiver))
    }

    pub(crate) async fn next(&mut self) -> RegistrationEvent {
        let patience = Duration::from_secs(7200);
        tokio::time::timeout(patience, self.0.recv())
            .await
            .expect("an event came")
            .expect("collector is running")
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.0.is_empty()
    }
}

/// A sink whose events go to a client that is made later.
#[derive(Clone, Default)]
pub(crate) struct ToClient(Arc<Mutex<Option<Addr<RegistrarClient>>>>);

impl ToClient {
    pub(crate) fn set(&self, client: Addr<RegistrarClient>) {
        *self.0.lock().unwrap() = Some(client);
    }

    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap() = None;
    }

    pub(crate) fn sink(&self) -> Arc<dyn EventSink> {
        let client = self.0.clone();
        Arc::new(move |event: StackEvent| match &*client.lock().unwrap() {
            Some(client) => client.try_send(FromStack(event)).map_err(|_| SinkFull),
            None => Err(SinkFull),
        })
    }
}

/// A registrar's side: hears requests and answers them one by one.
pub(crate) struct Registrar {
    pub(crate) stack: Arc<dyn SipStack>,
    pub(crate) sink: Arc<RecordingSink>,
}

impl Registrar {
    /// Answers the next REGISTER and gives it back.
    pub(crate) async fn answer(&self, answer: impl FnOnce(&SipRequest) -> SipResponse) -> SipRequest {
        let (tx, request, _) = self.sink.expect_request(siprtc_core::sip::Method::Register).await;
        let mut response = answer(&request);
        response
            .headers
            .set("To", request.headers.to().unwrap().with_tag("r"));
        self.stack.respond(tx, response).await.unwrap();
        request
    }
}

/// A 200 with the contacts of the request.
pub(crate) fn ok(request: &SipRequest) -> SipResponse {
    let mut ok = request.response(200);
    ok.headers.copy_from(&request.headers, "Contact");
    ok
}

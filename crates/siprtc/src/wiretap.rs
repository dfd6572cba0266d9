//! A decorator of the SIP port that remembers what passed, per Call-ID, for the ladder. It works over every stack.
//!
//! It sees what crosses the port: a stack's own retransmissions, and its ACK of a refusal, stay inside the stack.

use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::Result;
use siprtc_core::sip::{
    EventSink, FlowId, Headers, Keepalive, Listener, Method, Route, SinkFull, SipCapability, SipRequest,
    SipResponse, SipStack, SipStackFactory, StackConfig, StackEvent, TxId,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Most Call-IDs remembered; the oldest is forgotten first.
const MAX_DIALOGS: usize = 512;
/// Most messages remembered per Call-ID; later ones are dropped.
const MAX_MESSAGES: usize = 256;
/// Most transactions whose request is remembered, to name a response or a CANCEL; the oldest is forgotten first.
const MAX_TRANSACTIONS: usize = 4096;

/// One SIP message that passed.
#[derive(Clone, Debug)]
pub struct Passed {
    /// When.
    pub at: Instant,
    /// We sent it.
    pub outbound: bool,
    /// `INVITE`, or `180 Ringing`.
    pub label: String,
    /// `CSeq`, and octets of the body.
    pub detail: String,
}

#[derive(Default)]
struct Tape {
    order: VecDeque<String>,
    dialogs: HashMap<String, Vec<Passed>>,
    tx_order: VecDeque<TxId>,
    transactions: HashMap<TxId, (String, String)>,
}

impl Tape {
    /// Whether there was room for it.
    fn note(&mut self, call_id: &str, outbound: bool, label: String, detail: String) -> bool {
        if !self.dialogs.contains_key(call_id) {
            if self.order.len() >= MAX_DIALOGS
                && let Some(oldest) = self.order.pop_front()
            {
                self.forget(&oldest);
            }
            self.order.push_back(call_id.to_owned());
        }
        let messages = self.dialogs.entry(call_id.to_owned()).or_default();
        let room = messages.len() < MAX_MESSAGES;
        if room {
            messages.push(Passed {
                at: Instant::now(),
                outbound,
                label,
                detail,
            });
        }
        room
    }

    /// The transactions go with their Call-ID: a transaction that stays would name nothing but a late response, and that
    /// response would make the Call-ID known again.
    fn forget(&mut self, call_id: &str) {
        self.dialogs.remove(call_id);
        self.order.retain(|known| known != call_id);
        self.transactions.retain(|_, (known, _)| known != call_id);
        let transactions = &self.transactions;
        self.tx_order.retain(|tx| transactions.contains_key(tx));
    }

    fn remember(&mut self, tx: TxId, call_id: &str, cseq: &str) {
        if self.tx_order.len() >= MAX_TRANSACTIONS
            && let Some(oldest) = self.tx_order.pop_front()
        {
            self.transactions.remove(&oldest);
        }
        self.tx_order.push_back(tx);
        self.transactions
            .insert(tx, (call_id.to_owned(), cseq.to_owned()));
    }
}

/// What passed, shared between the decorator and whoever draws.
#[derive(Clone, Default)]
pub struct Wiretap {
    tape: Arc<Mutex<Tape>>,
}

impl Wiretap {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Wiretap::default()
    }

    /// The same stacks, listened to.
    pub fn over(&self, inner: Arc<dyn SipStackFactory>) -> Arc<dyn SipStackFactory> {
        Arc::new(TappedFactory {
            inner,
            tap: self.clone(),
        })
    }

    /// What passed with this Call-ID, in order.
    pub fn passed(&self, sip_call_id: &str) -> Vec<Passed> {
        self.tape
            .lock()
            .dialogs
            .get(sip_call_id)
            .cloned()
            .unwrap_or_default()
    }

    /// Forgets a Call-ID and its transactions; what comes late for them is not remembered.
    pub fn forget(&self, sip_call_id: &str) {
        self.tape.lock().forget(sip_call_id);
    }

    fn request(&self, tx: Option<TxId>, request: &SipRequest, outbound: bool) {
        let call_id = request.headers.value("Call-ID").unwrap_or_default();
        let cseq = request.headers.value("CSeq").unwrap_or_default();
        let mut tape = self.tape.lock();
        if !tape.dialogs.contains_key(call_id) && is_within_a_dialog(request) {
            return;
        }
        let noted = tape.note(
            call_id,
            outbound,
            request.method.to_string(),
            detail(cseq, request.body.len()),
        );
        // Where a request has no room, neither has its response: a registration keeps its Call-ID for as long as it lives.
        if let Some(tx) = tx.filter(|_| noted) {
            tape.remember(tx, call_id, cseq);
        }
    }

    fn response(&self, tx: TxId, response: &SipResponse, outbound: bool) {
        let mut tape = self.tape.lock();
        let Some((call_id, cseq)) = tape.transactions.get(&tx).cloned() else {
            return;
        };
        let label = format!("{} {}", response.status, response.reason);
        tape.note(
            &call_id,
            outbound,
            label.trim_end().to_owned(),
            detail(&cseq, response.body.len()),
        );
    }

    fn cancel(&self, tx: TxId, outbound: bool) {
        let mut tape = self.tape.lock();
        let Some((call_id, cseq)) = tape.transactions.get(&tx).cloned() else {
            return;
        };
        let number = cseq.split_whitespace().next().unwrap_or_default().to_owned();
        tape.note(
            &call_id,
            outbound,
            Method::Cancel.to_string(),
            format!("CSeq {number} CANCEL"),
        );
    }

    fn event(&self, event: &StackEvent) {
        match event {
            StackEvent::Ack { request, .. } => self.request(None, request, false),
            StackEvent::Cancelled { invite } => self.cancel(*invite, false),
            StackEvent::Request { tx, request, .. } => self.request(Some(*tx), request, false),
            StackEvent::Response { tx, response, .. } => self.response(*tx, response, false),
            _ => {}
        }
    }
}

/// Such a request continues a call; where its Call-ID is not known, the call is over and its report written: an ACK of a 2xx
/// that was repeated, a BYE that crossed ours (RFC 3261 section 12.2).
fn is_within_a_dialog(request: &SipRequest) -> bool {
    request.headers.to().is_ok_and(|to| to.tag().is_some())
}

fn detail(cseq: &str, body: usize) -> String {
    if body == 0 {
        format!("CSeq {cseq}")
    } else {
        format!("CSeq {cseq}, {body} octets of body")
    }
}

struct TappedFactory {
    inner: Arc<dyn SipStackFactory>,
    tap: Wiretap,
}

#[async_trait]
impl SipStackFactory for TappedFactory {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capability(&self) -> Option<SipCapability> {
        self.inner.capability()
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        let tap = self.tap.clone();
        let listening = move |event: StackEvent| -> std::result::Result<(), SinkFull> {
            tap.event(&event);
            sink.try_emit(event)
        };
        let inner = self.inner.start(config, Arc::new(listening)).await?;
        Ok(Arc::new(TappedStack {
            inner,
            tap: self.tap.clone(),
        }))
    }
}

struct TappedStack {
    inner: Arc<dyn SipStack>,
    tap: Wiretap,
}

#[async_trait]
impl SipStack for TappedStack {
    fn capability(&self) -> SipCapability {
        self.inner.capability()
    }

    fn listeners(&self) -> Vec<Listener> {
        self.inner.listeners()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        self.tap.request(Some(tx), &request, true);
        self.inner.send_request(tx, request, route).await
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        self.tap.cancel(invite, true);
        self.inner.cancel(invite, extra).await
    }

    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()> {
        self.tap.request(None, &ack, true);
        self.inner.send_ack(ack, route).await
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        self.tap.response(tx, &response, true);
        self.inner.respond(tx, response).await
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        self.inner.keepalive(flow, kind).await
    }

    async fn close_flow(&self, flow: FlowId) -> Result<()> {
        self.inner.close_flow(flow).await
    }

    fn addresses_changed(&self) {
        self.inner.addresses_changed();
    }

    async fn shutdown(&self, grace: Duration) {
        self.inner.shutdown(grace).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{SipUri, TxIds, TxOwner, Uri};

    fn request(method: Method, call_id: &str) -> SipRequest {
        let uri: SipUri = "sip:bob@example.com".parse().unwrap();
        let mut request = SipRequest::new(method, Uri::Sip(uri));
        request.headers.push("Call-ID", call_id);
        request.headers.push("CSeq", "1 INVITE");
        request
    }

    #[test]
    fn a_response_is_filed_under_its_requests_call_id() {
        let tap = Wiretap::new();
        let tx = TxIds::new(TxOwner::user(1)).mint();
        tap.request(Some(tx), &request(Method::Invite, "a"), true);
        tap.response(tx, &SipResponse::new(180), false);
        tap.cancel(tx, true);
        let labels: Vec<String> = tap.passed("a").into_iter().map(|passed| passed.label).collect();
        assert_eq!(labels, ["INVITE", "180 Ringing", "CANCEL"]);
    }

    /// Call-IDs, transactions, and the order of either.
    fn sizes(tap: &Wiretap) -> [usize; 4] {
        let tape = tap.tape.lock();
        let (dialogs, transactions) = (tape.dialogs.len(), tape.transactions.len());
        [dialogs, tape.order.len(), transactions, tape.tx_order.len()]
    }

    #[test]
    fn calls_that_are_over_leave_nothing_behind() {
        let tap = Wiretap::new();
        let (users, stacks) = (TxIds::new(TxOwner::user(1)), TxIds::new(TxOwner::STACK));
        let held = users.mint();
        tap.request(Some(held), &request(Method::Invite, "held"), true);
        for n in 0..100 {
            let (call_id, invite, bye) = (n.to_string(), users.mint(), stacks.mint());
            tap.request(Some(invite), &request(Method::Invite, &call_id), true);
            tap.response(invite, &SipResponse::new(200), false);
            tap.request(None, &request(Method::Ack, &call_id), true);
            tap.request(Some(bye), &request(Method::Bye, &call_id), false);
            tap.forget(&call_id);
            // Whoever reads the call's last event may be faster than the answer to the BYE, and a 2xx may be repeated.
            tap.response(bye, &SipResponse::new(200), true);
            let mut ack = request(Method::Ack, &call_id);
            ack.headers.push("To", "<sip:bob@example.com>;tag=b");
            tap.request(None, &ack, true);
        }
        assert_eq!(sizes(&tap), [1; 4]);
        tap.response(held, &SipResponse::new(180), false);
        assert_eq!(tap.passed("held").len(), 2);
    }

    #[test]
    fn a_registration_that_is_refreshed_for_months_stays_bounded() {
        let (tap, users) = (Wiretap::new(), TxIds::new(TxOwner::user(1)));
        for _ in 0..MAX_MESSAGES {
            let tx = users.mint();
            tap.request(Some(tx), &request(Method::Register, "registration"), true);
            tap.response(tx, &SipResponse::new(200), false);
        }
        assert_eq!(sizes(&tap), [1, 1, MAX_MESSAGES / 2, MAX_MESSAGES / 2]);
    }

    #[test]
    fn a_flood_of_call_ids_and_messages_stays_bounded() {
        let (tap, stacks) = (Wiretap::new(), TxIds::new(TxOwner::STACK));
        for n in 0..MAX_DIALOGS + 10 {
            let tx = Some(stacks.mint());
            tap.request(tx, &request(Method::Invite, &n.to_string()), false);
        }
        assert_eq!(sizes(&tap), [MAX_DIALOGS; 4]);
        for _ in 0..MAX_MESSAGES + 10 {
            tap.request(None, &request(Method::Invite, "last"), false);
        }
        let tape = tap.tape.lock();
        assert_eq!(tape.dialogs.len(), MAX_DIALOGS);
        assert_eq!(tape.dialogs["last"].len(), MAX_MESSAGES);
        assert!(!tape.dialogs.contains_key("0"));
    }
}

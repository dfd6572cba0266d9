//! Client transactions: rsipstack's, each in a task of its own.
//!
//! rsipstack retransmits, times out and acknowledges a rejection. Answers are told to the user where they are heard,
//! in their order, and rsipstack gets as much of them as it looks at. An INVITE that was answered 2xx leaves it, for
//! it would hear neither the copies nor the other forks: it stays in our table for timer M (RFC 6026 section 7.2).

mod send;

use crate::convert;
use crate::key::Key;
use crate::peer::Peer;
use crate::shared::{Later, Shared};
use bytes::Bytes;
use parking_lot::Mutex;
use rsipstack::sip::{self as rs, Header, SipMessage};
use rsipstack::transaction::key::TransactionKey;
use rsipstack::transaction::transaction::{Transaction, TransactionEvent, TransactionEventSender};
use rsipstack::transport::SipConnection;
use siprtc_core::sip::{Flow, FlowId, SipRequest, SipResponse, StackEvent, TxEnd, TxId};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use send::{cancel, send, send_ack};

#[derive(Default)]
pub(crate) struct Clients {
    by_id: HashMap<TxId, Arc<Client>>,
    by_key: HashMap<Key, Slot>,
}

/// Whose answers come with a key.
#[derive(Clone)]
enum Slot {
    /// A rejected INVITE's: copies of the rejection get this ACK again (timer D).
    Acknowledged(Bytes),
    /// A CANCEL's: nobody hears of them but rsipstack.
    Cancel(TransactionEventSender),
    User(Arc<Client>),
}

impl Clients {
    /// Those over a flow of these.
    pub(crate) fn all(&self, over: impl Fn(FlowId) -> bool) -> Vec<Arc<Client>> {
        let is_over = |client: &&Arc<Client>| match &client.state.lock().peer {
            Some(peer) => over(peer.flow().id),
            None => false,
        };
        self.by_id.values().filter(is_over).cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
        self.by_key.clear();
    }
}

pub(crate) struct Client {
    tx: TxId,
    invite: bool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// A 2xx to an INVITE has come.
    Accepted,
    /// Another final answer has come.
    Answered,
    Calling,
    Proceeding,
}

struct State {
    phase: Phase,
    key: Option<Key>,
    /// What rsipstack calls it.
    name: Option<TransactionKey>,
    /// Where the request went. `None` until it has.
    peer: Option<Peer>,
    /// The way to rsipstack's transaction, while there is one.
    transaction: Option<TransactionEventSender>,
    /// What rsipstack is to send an INVITE's ACK over.
    connection: Option<SipConnection>,
    /// The INVITE as its CANCEL and the ACK of its rejection need it: with its Via.
    invite: Option<Box<SipRequest>>,
    cancelled: bool,
    /// `send_request` has said that it is under way.
    announced: bool,
    /// Its end was told.
    told: bool,
}

/// An answer has come.
pub(crate) fn hear(
    shared: &Arc<Shared>,
    key: &Key,
    response: SipResponse,
    flow: Flow,
    peer: impl FnOnce(SocketAddr) -> Peer,
) {
    let known = shared.clients.lock().by_key.get(key).cloned();
    match known {
        Some(Slot::User(client)) => client.hear(shared, response, flow),
        Some(Slot::Cancel(transaction)) => {
            let _ = transaction.send(received(stub(&response, Vec::new()), None));
        }
        Some(Slot::Acknowledged(ack)) if response.status >= 300 => peer(flow.remote).send_or_lose(ack),
        Some(Slot::Acknowledged(_)) | None => (),
    }
}

/// Timer M.
pub(crate) fn expire(shared: &Shared, tx: TxId) {
    let client = shared.clients.lock().by_id.get(&tx).cloned();
    if let Some(client) = client {
        client.end(shared, TxEnd::Done);
    }
}

/// RFC 3261 section 9.1: an INVITE without a final answer 64*T1 after its CANCEL is over.
pub(crate) fn give_up(shared: &Shared, tx: TxId) {
    let Some(client) = shared.clients.lock().by_id.get(&tx).cloned() else {
        return;
    };
    let phase = client.state.lock().phase;
    if matches!(phase, Phase::Calling | Phase::Proceeding) {
        client.end(shared, TxEnd::TimedOut);
    }
}

impl Client {
    fn hear(&self, shared: &Shared, response: SipResponse, flow: Flow) {
        let status = response.status;
        let success = self.invite && response.is_success();
        let mut state = self.state.lock();
        let state = &mut *state;
        let open = matches!(state.phase, Phase::Calling | Phase::Proceeding);
        // RFC 6026 section 7.2: after a 2xx only 2xx are passed on.
        if state.told || !(open || (success && state.phase == Phase::Accepted)) {
            return;
        }
        let event = match (state.phase, status) {
            (Phase::Accepted, _) => None,
            (_, ..200) => {
                // It changes only with the first: more would queue up for nothing.
                let first = std::mem::replace(&mut state.phase, Phase::Proceeding) == Phase::Calling;
                first.then(|| received(stub(&response, Vec::new()), None))
            }
            _ if success => {
                state.phase = Phase::Accepted;
                shared.later(Later::Client(self.tx));
                state.name.clone().map(TransactionEvent::Terminate)
            }
            _ => {
                state.phase = Phase::Answered;
                let identity = state.identity(&response);
                Some(received(stub(&response, identity), state.connection.take()))
            }
        };
        shared.emit(StackEvent::Response {
            tx: self.tx,
            response,
            flow: Some(flow),
        });
        if let (Some(event), Some(transaction)) = (event, &state.transaction) {
            let _ = transaction.send(event);
        }
    }

    /// Ends the transaction, unless it has ended.
    pub(crate) fn end(&self, shared: &Shared, end: TxEnd) {
        let key = {
            let mut state = self.state.lock();
            if state.announced && !std::mem::replace(&mut state.told, true) {
                shared.emit(StackEvent::TxEnded { tx: self.tx, end });
            }
            if let (Some(transaction), Some(name)) = (state.transaction.take(), state.name.take()) {
                let _ = transaction.send(TransactionEvent::Terminate(name));
            }
            state.key.clone()
        };
        let mut clients = shared.clients.lock();
        // One that is not announced still has its seat to give up.
        if clients
            .by_id
            .get(&self.tx)
            .is_some_and(|known| std::ptr::eq(&raw const **known, self))
        {
            clients.by_id.remove(&self.tx);
            shared.closed();
        }
        if let Some(key) = key {
            clients.by_key.remove(&key);
        }
    }

    /// The task that owns rsipstack's transaction.
    async fn run(self: Arc<Self>, shared: Arc<Shared>, mut transaction: Transaction) {
        let mut end = TxEnd::Done;
        while let Some(message) = transaction.receive().await {
            // rsipstack takes the second answer with the same status and body for a copy, whichever fork it is of.
            transaction.last_response = None;
            let answered = self.state.lock().phase == Phase::Answered;
            // A final answer that nobody has sent is rsipstack's own word for an end.
            if let SipMessage::Response(response) = message
                && !answered
                && response.status_code.code() >= 300
            {
                end = match response.status_code {
                    rs::StatusCode::RequestTimeout => TxEnd::TimedOut,
                    other => TxEnd::Transport(other.to_string()),
                };
            }
        }
        let (phase, key) = {
            let mut state = self.state.lock();
            state.transaction = None;
            (state.phase, state.key.clone())
        };
        let name = transaction.key.clone();
        // RFC 3261 section 17.1.1.2: timer D is 0 on a connection.
        let unreliable = transaction
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_reliable());
        drop(transaction);
        let kept = shared.endpoint.finished_transactions.remove(&name).flatten();
        if phase == Phase::Accepted {
            return;
        }
        self.end(&shared, end);
        if let (Some(SipMessage::Request(ack)), Some(key), Phase::Answered, true) =
            (kept, key, phase, unreliable)
        {
            let slot = Slot::Acknowledged(ack.to_bytes().into());
            shared.clients.lock().by_key.insert(key.clone(), slot);
            shared.lingers(key);
        }
    }
}

/// Copies of a rejection are not acknowledged any longer.
pub(crate) fn forget(shared: &Shared, key: &Key) {
    shared.clients.lock().by_key.remove(key);
}

impl State {
    /// What rsipstack makes the ACK of a rejection from (RFC 3261 section 17.1.1.3): the INVITE's own fields, whatever
    /// the answer says, and the answer's To.
    fn identity(&self, response: &SipResponse) -> Vec<Header> {
        let Some(invite) = &self.invite else {
            return Vec::new();
        };
        let own = |name| invite.headers.value(name).unwrap_or_default();
        vec![
            Header::Via(own("Via").into()),
            Header::From(own("From").into()),
            Header::To(response.headers.value("To").unwrap_or_default().into()),
            Header::CallId(own("Call-ID").into()),
            Header::CSeq(own("CSeq").into()),
        ]
    }
}

fn received(response: rs::Response, over: Option<SipConnection>) -> TransactionEvent {
    TransactionEvent::Received(SipMessage::Response(response), over)
}

/// As much of an answer as rsipstack's transaction looks at.
fn stub(response: &SipResponse, headers: Vec<Header>) -> rs::Response {
    rs::Response {
        status_code: convert::status_code(response.status, &response.reason),
        headers: headers.into(),
        ..rs::Response::default()
    }
}

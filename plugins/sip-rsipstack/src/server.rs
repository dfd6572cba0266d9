//! Server transactions: rsipstack's, each in a task of its own.
//!
//! rsipstack sends the answers, repeats a rejection (timer G) and waits for its ACK (H, I). An INVITE that was answered
//! 2xx leaves it: rsipstack would repeat the 2xx itself, which is its user's duty, and would forget the transaction at
//! the first ACK (RFC 6026 section 7.1). Our table keeps it for timer L, and everything else for as long as copies of
//! the request may come (timer J).

use crate::convert::{self, misuse};
use crate::key::{self, Key};
use crate::peer::{Handle, Peer};
use crate::shared::{Later, Shared};
use crate::target::token;
use bytes::Bytes;
use parking_lot::Mutex;
use rsipstack::sip::{self as rs, Header, HeadersExt, SipMessage};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::{Transaction, TransactionEvent, TransactionEventSender};
use siprtc_core::Result;
use siprtc_core::sip::{Flow, FlowId, Headers, Method, SipRequest, SipResponse, StackEvent, TxEnd, TxId};
use std::collections::HashMap;
use std::sync::Arc;

/// Seconds after which whoever got a 503 may try again.
pub(crate) const RETRY_AFTER: u32 = 10;

#[derive(Default)]
pub(crate) struct Servers {
    by_id: HashMap<TxId, Arc<Server>>,
    by_key: HashMap<Key, Known>,
}

/// Who deals with a request that has come before.
#[derive(Clone)]
pub(crate) enum Known {
    /// Nobody any more: a copy gets the last answer again (timers I and J).
    Over(Option<Bytes>),
    Server(Arc<Server>),
}

impl Servers {
    pub(crate) fn of_key(&self, key: &Key) -> Option<Known> {
        self.by_key.get(key).cloned()
    }

    /// Those over a flow of these.
    pub(crate) fn all(&self, over: impl Fn(FlowId) -> bool) -> Vec<Arc<Server>> {
        let all = self.by_id.values();
        all.filter(|server| over(server.peer.flow().id))
            .cloned()
            .collect()
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
        self.by_key.clear();
    }
}

pub(crate) struct Server {
    tx: TxId,
    key: Key,
    /// What rsipstack calls it.
    name: TransactionKey,
    invite: bool,
    /// What every answer takes from the request.
    identity: Headers,
    peer: Peer,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// A 2xx to an INVITE was sent.
    Accepted,
    /// Another final answer was sent.
    Completed,
    Proceeding,
}

struct State {
    phase: Phase,
    /// The way to rsipstack's transaction, while there is one.
    transaction: Option<TransactionEventSender>,
    /// Its end was told.
    told: bool,
    cancelled: bool,
    acknowledged: bool,
    /// What a copy of the request is answered.
    last: Option<Bytes>,
    /// 2xx answers that its task is to send.
    accept: Vec<rs::Response>,
    /// The To of the last answer, for the answer to a late CANCEL (RFC 3261 section 9.2).
    to: Option<String>,
}

/// Begins a server transaction. One of `max_transactions` is taken already.
///
/// # Errors
/// What to answer instead, when its user cannot hear of it.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    request: SipRequest,
    key: Key,
    peer: Peer,
    flow: Flow,
) -> Result<(), SipResponse> {
    let tx = shared.ids.mint();
    let invite = request.method == Method::Invite;
    let stub = stub(&request);
    let name = key::name(TransactionRole::Server, tx, stub.method).map_err(|_| {
        shared.closed();
        request.response(500)
    })?;
    let transaction = Transaction::new_server(name.clone(), stub, shared.endpoint.clone(), None);
    let server = Arc::new(Server {
        tx,
        key: key.clone(),
        name,
        invite,
        identity: convert::identity(&request),
        peer,
        state: Mutex::new(State {
            phase: Phase::Proceeding,
            transaction: Some(transaction.tu_sender.clone()),
            told: false,
            cancelled: false,
            acknowledged: false,
            last: None,
            accept: Vec::new(),
            to: None,
        }),
    });
    {
        let mut servers = shared.servers.lock();
        servers.by_id.insert(tx, server.clone());
        servers.by_key.insert(key, Known::Server(server.clone()));
    }
    if !invite {
        // RFC 4320: after timer F nobody wants an answer any more.
        shared.later(Later::Server(tx));
    }
    // Begun before it is told, for the answer may come from another thread before this one goes on.
    if shared
        .try_emit(StackEvent::Request { tx, request, flow })
        .is_err()
    {
        server.forget(shared);
        shared.closed();
        return Err(server.refusal());
    }
    shared.spawn(server.run(shared.clone(), transaction));
    Ok(())
}

/// Timer L, and the end of our patience with a user.
pub(crate) fn expire(shared: &Shared, tx: TxId) {
    let Some(server) = shared.servers.lock().by_id.get(&tx).cloned() else {
        return;
    };
    let phase = server.state.lock().phase;
    match phase {
        Phase::Accepted => server.end(shared, TxEnd::Done),
        // Its task is about to end it.
        Phase::Completed if !server.invite => (),
        Phase::Completed => server.end(shared, TxEnd::TimedOut),
        Phase::Proceeding => server.give_up(shared),
    }
}

/// Copies of a request are not absorbed any longer.
pub(crate) fn forget(shared: &Shared, key: &Key) {
    shared.servers.lock().by_key.remove(key);
}

/// Answers a server transaction.
pub(crate) async fn respond(shared: &Arc<Shared>, tx: TxId, response: SipResponse) -> Result<()> {
    const OPERATION: &str = "respond";
    if !(100..700).contains(&response.status) {
        let message = format!("{} is no status", response.status);
        return Err(misuse(OPERATION, message).advice("use 100 to 699"));
    }
    let server = shared.servers.lock().by_id.get(&tx).cloned();
    let unknown = || {
        misuse(OPERATION, format!("there is no server transaction {tx}")).advice("it has ended, or never was")
    };
    let server = server.ok_or_else(unknown)?;
    // rsipstack cannot keep a rejection without a tag, and RFC 3261 section 8.2.6.2 wants one.
    let tag = (server.invite && response.status >= 300).then(|| token("s"));
    let user_agent = &shared.config.user_agent;
    let response = convert::to_response(&server.identity, &response, user_agent, tag.as_deref(), OPERATION)?;
    if let Some(again) = server.take(shared, response, OPERATION)? {
        let handle = server.peer.handle().await;
        handle.send(SipMessage::Response(again)).await.map_err(|error| {
            convert::backend(
                OPERATION,
                format!("could not send the 2xx to {}", server.peer.to()),
            )
            .caused_by(error)
            .advice("the peer's connection may be gone; it will ask again")
        })?;
    }
    Ok(())
}

impl Server {
    /// A copy of the request: gets the last answer again.
    pub(crate) fn copy(&self) {
        let state = self.state.lock();
        if let Some(last) = &state.last {
            self.peer.send_or_lose(last.clone());
        }
    }

    /// An ACK with the INVITE's branch. `false`: it is the user's.
    pub(crate) fn acknowledge(&self, shared: &Shared, ack: &SipRequest) -> bool {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Accepted => return false,
            Phase::Completed if !state.acknowledged => {
                state.acknowledged = true;
                if let Some(transaction) = &state.transaction {
                    let ack = SipMessage::Request(stub(ack));
                    let _ = transaction.send(TransactionEvent::Received(ack, None));
                }
                // Nothing more can be heard of it; rsipstack goes on to absorb copies for timer I.
                self.tell(shared, &mut state, TxEnd::Done);
            }
            Phase::Completed | Phase::Proceeding => (),
        }
        drop(state);
        if self.is_told() {
            shared.servers.lock().by_id.remove(&self.tx);
        }
        true
    }

    /// A CANCEL of the INVITE: its user hears of the first. Returns the To that the CANCEL's 200 should have.
    pub(crate) fn cancel(&self, shared: &Shared) -> Option<String> {
        let mut state = self.state.lock();
        if state.phase == Phase::Proceeding && !state.cancelled {
            state.cancelled = true;
            shared.emit(StackEvent::Cancelled { invite: self.tx });
        }
        state.to.clone()
    }

    /// Ends the transaction, unless it has ended.
    pub(crate) fn end(&self, shared: &Shared, end: TxEnd) {
        let mut state = self.state.lock();
        self.tell(shared, &mut state, end);
        if let Some(transaction) = state.transaction.take() {
            let _ = transaction.send(TransactionEvent::Terminate(self.name.clone()));
        }
        drop(state);
        self.forget(shared);
    }

    /// Its user has not answered in time. The last copy of the request may still be under way.
    fn give_up(&self, shared: &Shared) {
        let mut state = self.state.lock();
        self.tell(shared, &mut state, TxEnd::TimedOut);
        if let Some(transaction) = state.transaction.take() {
            let _ = transaction.send(TransactionEvent::Terminate(self.name.clone()));
        }
        drop(state);
        self.linger(shared, None);
    }

    /// Its end was told; copies of the request may still be under way.
    fn linger(&self, shared: &Shared, last: Option<Bytes>) {
        let mut servers = shared.servers.lock();
        servers.by_id.remove(&self.tx);
        if !self.is_udp() {
            // RFC 3261 section 17.2: timers I and J are 0.
            servers.by_key.remove(&self.key);
            return;
        }
        servers.by_key.insert(self.key.clone(), Known::Over(last));
        drop(servers);
        shared.lingers(self.key.clone());
    }

    /// Hands the answer to rsipstack's transaction. `Some`: it has none any more, the caller is to send this.
    fn take(
        &self,
        shared: &Shared,
        response: rs::Response,
        operation: &'static str,
    ) -> Result<Option<rs::Response>> {
        let status = response.status_code.code();
        let success = self.invite && (200..300).contains(&status);
        let mut state = self.state.lock();
        let state = &mut *state;
        match state.phase {
            _ if state.told => {
                let message = format!("the server transaction {} has ended", self.tx);
                return Err(misuse(operation, message).advice("answer before 64*T1 have gone by"));
            }
            Phase::Accepted if success && state.transaction.is_none() => return Ok(Some(response)),
            Phase::Accepted if success => {
                state.accept.push(response);
                return Ok(None);
            }
            Phase::Proceeding => (),
            Phase::Accepted | Phase::Completed => {
                let message = format!("{} has had its final answer", self.tx);
                return Err(misuse(operation, message).advice("answer once"));
            }
        }
        if self.invite {
            state.to = response.to_header().ok().map(|to| to.value().to_owned());
        }
        let event = if success {
            state.phase = Phase::Accepted;
            state.last = None;
            state.accept.push(response);
            TransactionEvent::Terminate(self.name.clone())
        } else {
            let provisional = status < 200;
            if !provisional {
                state.phase = Phase::Completed;
            }
            // Nobody copies a request over a connection.
            state.last = self.is_udp().then(|| response.to_bytes().into());
            if !provisional && self.invite {
                shared.later(Later::Server(self.tx));
            }
            TransactionEvent::Respond(response)
        };
        if let Some(transaction) = &state.transaction {
            let _ = transaction.send(event);
        }
        Ok(None)
    }

    /// The sink is full.
    fn refusal(&self) -> SipResponse {
        let mut response = SipResponse::new(503);
        response.headers = self.identity.clone();
        response.headers.push("Retry-After", RETRY_AFTER);
        response
    }

    /// The task that owns rsipstack's transaction.
    async fn run(self: Arc<Self>, shared: Arc<Shared>, mut transaction: Transaction) {
        let handle = self.peer.handle().await;
        transaction.connection = Some(handle.connection.clone());
        transaction.destination.clone_from(&handle.destination);
        // Of what comes through here our table knows already: only the end is news.
        while transaction.receive().await.is_some() {}
        let (phase, acknowledged, accepted) = {
            let mut state = self.state.lock();
            state.transaction = None;
            (state.phase, state.acknowledged, std::mem::take(&mut state.accept))
        };
        // Else rsipstack would keep it too.
        transaction.last_response = None;
        drop(transaction);
        shared.endpoint.finished_transactions.remove(&self.name);
        let end = match handle.failure() {
            _ if phase == Phase::Accepted => return self.accept(&shared, &handle, accepted).await,
            _ if phase == Phase::Proceeding => return,
            Some(error) => TxEnd::Transport(error.to_string()),
            None if self.invite && !acknowledged => TxEnd::TimedOut,
            None => TxEnd::Done,
        };
        let mut state = self.state.lock();
        self.tell(&shared, &mut state, end);
        let last = state.last.take();
        drop(state);
        self.linger(&shared, last);
    }

    async fn accept(&self, shared: &Shared, handle: &Handle, responses: Vec<rs::Response>) {
        shared.later(Later::Server(self.tx));
        for response in responses {
            if let Err(error) = handle.send(SipMessage::Response(response)).await {
                return self.end(shared, TxEnd::Transport(error.to_string()));
            }
        }
    }

    fn tell(&self, shared: &Shared, state: &mut State, end: TxEnd) {
        if std::mem::replace(&mut state.told, true) {
            return;
        }
        shared.closed();
        shared.emit(StackEvent::TxEnded { tx: self.tx, end });
    }

    fn is_udp(&self) -> bool {
        matches!(self.peer, Peer::Udp { .. })
    }

    fn is_told(&self) -> bool {
        self.state.lock().told
    }

    fn forget(&self, shared: &Shared) {
        let mut servers = shared.servers.lock();
        servers.by_id.remove(&self.tx);
        servers.by_key.remove(&self.key);
    }
}

/// As much of a request as rsipstack's transaction looks at: its CSeq.
fn stub(request: &SipRequest) -> rs::Request {
    let cseq = request.headers.value("CSeq").unwrap_or_default();
    rs::Request {
        method: convert::to_method(&request.method).unwrap_or(rs::Method::Options),
        uri: rs::Uri::default(),
        version: rs::Version::V2,
        headers: Header::CSeq(cseq.into()).into(),
        body: Vec::new(),
    }
}

/// Gives the To a tag if it has none.
pub(crate) fn add_tag(headers: &mut Headers, tag: &str) {
    if let Ok(to) = headers.to()
        && to.tag().is_none()
    {
        headers.set("To", to.with_tag(tag));
    }
}

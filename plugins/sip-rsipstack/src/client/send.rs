//! What a user asks for: a request, a CANCEL, an ACK.

use super::{Client, Phase, Slot, State};
use crate::convert::{self, backend, misuse, unsupported};
use crate::key::{self, Key};
use crate::peer::{Handle, Peer};
use crate::shared::{Later, Shared};
use crate::target;
use parking_lot::Mutex;
use rsipstack::sip::{self as rs, Header, SipMessage};
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::Transaction;
use siprtc_core::sip::{CSeq, Headers, Method, Route, SipRequest, TxEnd, TxId};
use siprtc_core::{Error, Result};
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Begins a client transaction.
pub(crate) async fn send(
    shared: &Arc<Shared>,
    tx: TxId,
    mut request: SipRequest,
    route: Route,
) -> Result<()> {
    const OPERATION: &str = "send request";
    if matches!(request.method, Method::Ack | Method::Cancel) {
        let message = format!("{} begins no transaction", request.method);
        return Err(misuse(OPERATION, message).advice("call send_ack or cancel"));
    }
    convert::complete(&mut request, &shared.config.user_agent, OPERATION)?;
    let place = Place::reserve(shared, tx, &request, OPERATION)?;
    let peer = target::find(shared, &request, &route, OPERATION).await?;
    let branch = target::new_branch();
    let via = target::new_via(shared, &peer, &branch);
    let Some(theirs) = convert::to_request(&request, &via) else {
        return Err(no_word(&request.method, OPERATION));
    };
    let key = Key::of_branch(&branch, &request.method);
    let client = place.client.clone();
    let handle = peer.handle().await;
    let mut transaction = transaction(shared, tx, theirs, &handle, OPERATION)?;
    {
        let mut state = client.state.lock();
        state.key = Some(key.clone());
        state.name = Some(transaction.key.clone());
        state.transaction = Some(transaction.tu_sender.clone());
        if client.invite {
            state.connection = Some(handle.connection.clone());
            state.invite = Some(Box::new(essence(request, &via)));
        }
        state.peer = Some(peer.clone());
    }
    shared
        .clients
        .lock()
        .by_key
        .insert(key, Slot::User(client.clone()));
    let sent = transaction.send().await;
    let failure = handle
        .failure()
        .or(sent.err().map(|error| io::Error::other(error.to_string())));
    if let Some(error) = failure {
        return Err(not_sent(&peer, error));
    }
    client.state.lock().announced = true;
    place.keep();
    // The connection may have ended before the transaction was there to be ended with it.
    if shared.closing.load(Ordering::Acquire) || is_gone(shared, &peer) {
        client.end(shared, TxEnd::Transport("the connection has ended".to_owned()));
    }
    shared.spawn(client.run(shared.clone(), transaction));
    Ok(())
}

/// Cancels an INVITE (RFC 3261 section 9.1). The CANCEL is a transaction of rsipstack's like others.
pub(crate) async fn cancel(shared: &Arc<Shared>, invite: TxId, extra: Headers) -> Result<()> {
    const OPERATION: &str = "cancel";
    convert::check_lines(&extra, OPERATION)?;
    let client = shared.clients.lock().by_id.get(&invite).cloned();
    let client = client.filter(|client| client.invite).ok_or_else(|| {
        misuse(OPERATION, format!("there is no INVITE transaction {invite}"))
            .advice("cancel only what has not ended")
    })?;
    let (cancelled, peer) = {
        let mut state = client.state.lock();
        match (state.phase, &state.invite, &state.peer) {
            // The final answer and the CANCEL have crossed: nothing is left to cancel.
            (Phase::Accepted | Phase::Answered, ..) => return Ok(()),
            (Phase::Proceeding, Some(invite), Some(peer)) => {
                let cancelled = (invite.clone(), peer.clone());
                if std::mem::replace(&mut state.cancelled, true) {
                    return Ok(());
                }
                cancelled
            }
            _ => {
                let message = format!("{invite} has had no provisional answer");
                return Err(misuse(OPERATION, message).advice("wait for one (RFC 3261 section 9.1)"));
            }
        }
    };
    let (branch, via, cancel) = cancel_of(*cancelled, &extra, OPERATION)?;
    let theirs = convert::to_request(&cancel, &via).ok_or_else(|| no_word(&Method::Cancel, OPERATION))?;
    let key = Key::of_branch(&branch, &Method::Cancel);
    let handle = peer.handle().await;
    let mut transaction = transaction(shared, invite, theirs, &handle, OPERATION)?;
    let slot = Slot::Cancel(transaction.tu_sender.clone());
    shared.clients.lock().by_key.insert(key.clone(), slot);
    shared.later(Later::Cancelled(invite));
    let here = shared.clone();
    shared.spawn_until_stop(async move {
        let sent = transaction.send().await;
        while sent.is_ok() && transaction.receive().await.is_some() {}
        here.clients.lock().by_key.remove(&key);
    });
    Ok(())
}

/// rsipstack's transaction. Its name has the method in it: a CANCEL may have its INVITE's id.
fn transaction(
    shared: &Shared,
    tx: TxId,
    request: rs::Request,
    handle: &Handle,
    operation: &'static str,
) -> Result<Transaction> {
    let name = key::name(TransactionRole::Client, tx, request.method)
        .map_err(|error| backend(operation, "rsipstack has no name for it").caused_by(error.to_string()))?;
    let connection = Some(handle.connection.clone());
    let mut transaction = Transaction::new_client(name, request, shared.endpoint.clone(), connection);
    transaction.destination.clone_from(&handle.destination);
    Ok(transaction)
}

/// Sends the ACK of a 2xx, outside any transaction.
pub(crate) async fn send_ack(shared: &Arc<Shared>, mut ack: SipRequest, route: Route) -> Result<()> {
    const OPERATION: &str = "send ACK";
    convert::complete(&mut ack, &shared.config.user_agent, OPERATION)?;
    let peer = target::find(shared, &ack, &route, OPERATION).await?;
    let via = target::new_via(shared, &peer, &target::new_branch());
    let Some(mut theirs) = convert::to_request(&ack, &via) else {
        return Err(no_word(&ack.method, OPERATION));
    };
    let length = Header::ContentLength(ack.body.len().to_string().into());
    theirs.headers.push(length);
    let handle: Handle = peer.handle().await;
    let sent = handle.send(SipMessage::Request(theirs)).await;
    sent.map_err(|error| not_sent(&peer, error))
}

/// A seat among the client transactions, given up when dropped.
struct Place {
    shared: Arc<Shared>,
    client: Arc<Client>,
    kept: bool,
}

impl Place {
    fn reserve(
        shared: &Arc<Shared>,
        tx: TxId,
        request: &SipRequest,
        operation: &'static str,
    ) -> Result<Self> {
        let client = Arc::new(Client {
            tx,
            invite: request.method == Method::Invite,
            state: Mutex::new(State {
                phase: Phase::Calling,
                key: None,
                name: None,
                peer: None,
                transaction: None,
                connection: None,
                invite: None,
                cancelled: false,
                announced: false,
                told: false,
            }),
        });
        let mut clients = shared.clients.lock();
        let Entry::Vacant(vacant) = clients.by_id.entry(tx) else {
            return Err(misuse(operation, format!("{tx} is in use")).advice("mint an id for each request"));
        };
        if !shared.try_open() {
            return Err(backend(operation, "too many transactions at once")
                .advice("send fewer requests at once, or raise max_transactions"));
        }
        vacant.insert(client.clone());
        drop(clients);
        Ok(Place {
            shared: shared.clone(),
            client,
            kept: false,
        })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.client.end(&self.shared, TxEnd::Done);
        }
    }
}

/// What CANCEL and ACK repeat of an INVITE.
fn essence(invite: SipRequest, via: &str) -> SipRequest {
    let mut essence = SipRequest::new(Method::Invite, invite.uri);
    essence.headers.push("Via", via);
    for name in [
        "Max-Forwards",
        "Route",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "User-Agent",
    ] {
        essence.headers.copy_from(&invite.headers, name);
    }
    essence
}

/// RFC 3261 section 9.1: the INVITE's own Via, and what else makes the two match.
fn cancel_of(
    invite: SipRequest,
    extra: &Headers,
    operation: &'static str,
) -> Result<(String, String, SipRequest)> {
    let unreadable = |error| misuse(operation, "the INVITE cannot be read").caused_by(error);
    let branch = invite
        .headers
        .top_via()
        .map_err(unreadable)?
        .branch()
        .unwrap_or_default()
        .to_owned();
    let via = invite.headers.value("Via").unwrap_or_default().to_owned();
    let sequence = invite.headers.cseq().map_err(unreadable)?.sequence;
    let mut cancel = SipRequest {
        method: Method::Cancel,
        ..invite
    };
    cancel.headers.remove("Via");
    let method = Method::Cancel;
    cancel.headers.set("CSeq", CSeq { sequence, method });
    for (name, value) in extra.iter() {
        cancel.headers.push(name.clone(), value);
    }
    Ok((branch, via, cancel))
}

fn is_gone(shared: &Shared, peer: &Peer) -> bool {
    matches!(peer, Peer::Connection(connection) if shared.flows.connection(connection.flow.id).is_none())
}

fn no_word(method: &Method, operation: &'static str) -> Error {
    unsupported(
        operation,
        format!("rsipstack has no word for the method {method}"),
    )
    .advice("use another stack for it")
}

fn not_sent(peer: &Peer, error: io::Error) -> Error {
    let too_long = error.raw_os_error().is_some_and(|code| TOO_LONG.contains(&code));
    let advice = if too_long {
        "the message does not fit a datagram: use TCP"
    } else {
        "check the address and the network; a connection may just have been closed"
    };
    backend("send", format!("could not send to {}", peer.to()))
        .caused_by(error)
        .advice(advice)
}

/// "Message too long" on Linux and Android, on macOS and iOS, and on Windows.
const TOO_LONG: [i32; 3] = [90, 40, 10_040];

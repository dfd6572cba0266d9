//! A connection as the rest of the stack sees it, and the table of all connections.
//!
//! What is to be sent waits in a bounded queue, which the connection's own task empties. **Policy when it is full**:
//! the peer does not read, so the connection is taken for dead and closed.

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use siprtc_core::sip::{Flow, FlowId, Transport};
use siprtc_core::{Error, Fault};
use std::collections::{HashMap, VecDeque};
use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::Notify;

/// Most messages that wait to be sent on a connection.
pub(crate) const MAX_QUEUED: usize = 8192;

/// Most octets of them.
pub(crate) const MAX_QUEUED_OCTETS: usize = 4 << 20;

/// RFC 5626 section 3.5.1.
pub(crate) const PING: Bytes = Bytes::from_static(b"\r\n\r\n");
pub(crate) const PONG: Bytes = Bytes::from_static(b"\r\n");

/// A connection, from the moment that it is wished for.
pub(crate) struct Connection {
    id: FlowId,
    transport: Transport,
    remote: SocketAddr,
    /// What it was opened for: the name that the peer's certificate is for. `None`: accepted, or of no matter.
    name: Option<Box<str>>,
    state: Mutex<State>,
    /// It is no longer opening.
    decided: Notify,
    /// Wakes its task: there is something to send, or it is to be closed.
    waker: AtomicWaker,
}

struct State {
    phase: Phase,
    queue: VecDeque<Bytes>,
    octets: usize,
    pings: u32,
}

#[derive(Clone)]
enum Phase {
    Closed(Failure),
    Closing(String),
    Open(Flow),
    Opening,
}

/// An error that can be told to several.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    fault: Fault,
    message: String,
    advice: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = match error.source() {
            Some(source) => format!("{}: {source}", error.message()),
            None => error.message().to_owned(),
        };
        Failure {
            fault: error.fault(),
            message,
            advice: error.next_step().map(str::to_owned),
        }
    }
}

impl Failure {
    pub(crate) fn to_error(&self, operation: &'static str) -> Error {
        let error = Error::new(self.fault, operation, self.message.clone());
        match &self.advice {
            Some(advice) => error.advice(advice.clone()),
            None => error,
        }
    }

    fn gone(why: &str) -> Self {
        Failure {
            fault: Fault::Backend,
            message: format!("the connection is closed: {why}"),
            advice: Some("send again, which opens a new one".to_owned()),
        }
    }
}

/// What a connection's task is to do.
#[derive(Default)]
pub(crate) struct Orders {
    /// Pings were sent: answers are to come.
    pub(crate) pings: u32,
    /// Send what is queued, then close, for this reason.
    pub(crate) close: Option<String>,
}

impl Connection {
    pub(crate) fn id(&self) -> FlowId {
        self.id
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// What others call the peer.
    pub(crate) fn peer_name(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => self.remote.to_string(),
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The flow, while it is open.
    pub(crate) fn flow(&self) -> Option<Flow> {
        match self.state.lock().phase {
            Phase::Open(flow) => Some(flow),
            _ => None,
        }
    }

    /// Waits until it is open, or cannot be opened.
    pub(crate) async fn open(&self) -> Result<Flow, Failure> {
        loop {
            let decided = self.decided.notified();
            tokio::pin!(decided);
            // Registered before the look, so that a decision between the two is not missed.
            decided.as_mut().enable();
            match &self.state.lock().phase {
                Phase::Open(flow) => return Ok(*flow),
                Phase::Closed(failure) => return Err(failure.clone()),
                Phase::Closing(why) => return Err(Failure::gone(why)),
                Phase::Opening => (),
            }
            decided.await;
        }
    }

    /// Sends a message as soon as there is room; one that is opening is waited for.
    pub(crate) fn push(&self, bytes: Bytes) -> Result<(), String> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Closing(why) => return Err(why.clone()),
            Phase::Closed(failure) => return Err(failure.message.clone()),
            Phase::Open(_) | Phase::Opening => (),
        }
        let full = state.queue.len() >= MAX_QUEUED || state.octets + bytes.len() > MAX_QUEUED_OCTETS;
        if full && !state.queue.is_empty() {
            let why = "the peer does not read what is sent to it";
            state.phase = Phase::Closing(why.to_owned());
            drop(state);
            self.waker.wake();
            return Err(why.to_owned());
        }
        state.octets += bytes.len();
        state.queue.push_back(bytes);
        drop(state);
        self.waker.wake();
        Ok(())
    }

    /// Sends a ping, whose answer is told.
    pub(crate) fn ping(&self) -> Result<(), String> {
        self.state.lock().pings += 1;
        self.push(PING)
    }

    /// Sends what is queued, then closes it.
    pub(crate) fn close(&self, why: &str) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open(_) | Phase::Opening) {
            state.phase = Phase::Closing(why.to_owned());
        }
        drop(state);
        self.decided.notify_waiters();
        self.waker.wake();
    }

    /// Its task: it is open now. `Err`: it has been closed meanwhile.
    pub(crate) fn opened(&self, local: SocketAddr) -> Result<Flow, String> {
        let flow = Flow {
            id: self.id,
            transport: self.transport,
            local,
            remote: self.remote,
        };
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Closing(why) => return Err(why.clone()),
            Phase::Closed(failure) => return Err(failure.message.clone()),
            Phase::Open(_) | Phase::Opening => state.phase = Phase::Open(flow),
        }
        drop(state);
        self.decided.notify_waiters();
        Ok(flow)
    }

    /// Its task: nothing more can be sent.
    pub(crate) fn closed(&self, why: Failure) {
        let mut state = self.state.lock();
        state.phase = Phase::Closed(why);
        state.queue = VecDeque::new();
        state.octets = 0;
        drop(state);
        self.decided.notify_waiters();
    }

    /// Its task: what is to be done. The queue is exchanged for `sent`, which is empty.
    pub(crate) fn orders(&self, waker: &Waker, sent: &mut VecDeque<Bytes>) -> Orders {
        self.waker.register(waker);
        let mut state = self.state.lock();
        if sent.is_empty() {
            if sent.capacity() > 64 {
                *sent = VecDeque::new();
            }
            std::mem::swap(&mut state.queue, sent);
            state.octets = 0;
        }
        Orders {
            pings: std::mem::take(&mut state.pings),
            close: match &state.phase {
                Phase::Closing(why) => Some(why.clone()),
                _ => None,
            },
        }
    }
}

/// What makes two requests share a connection (RFC 3261 section 18.1.1): the name because a certificate was verified for
/// it.
type Key = (Transport, SocketAddr, Option<Box<str>>);

/// The connections of a stack, opening ones included.
pub(crate) struct Connections {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    by_id: HashMap<FlowId, Arc<Connection>>,
    by_key: HashMap<Key, Arc<Connection>>,
}

/// There are `max_connections` already.
#[derive(Debug)]
pub(crate) struct TooMany;

/// What [`Connections::reach`] found.
pub(crate) enum Reached {
    /// One that is there.
    Known(Arc<Connection>),
    /// One that its caller is to open.
    New(Arc<Connection>),
}

impl Connections {
    pub(crate) fn new(max: usize) -> Self {
        Connections {
            max,
            table: Mutex::default(),
        }
    }

    /// A connection that was accepted.
    pub(crate) fn accept(
        &self,
        transport: Transport,
        remote: SocketAddr,
    ) -> Result<Arc<Connection>, TooMany> {
        self.table.lock().add(self.max, (transport, remote, None))
    }

    /// A connection to `remote`, a new one if it must be. `name`: whose certificate it must be, for the transports that
    /// verify one or tell the peer its name.
    pub(crate) fn reach(
        &self,
        transport: Transport,
        remote: SocketAddr,
        name: Option<&str>,
        fresh: bool,
    ) -> Result<Reached, TooMany> {
        let mut table = self.table.lock();
        let key = (transport, remote, name.map(Into::into));
        if !fresh {
            let known = table.by_key.get(&key).or_else(|| {
                // One that the peer has opened has no name: only its address was asked for.
                let address = name.is_some_and(|name| is_address(name, remote));
                table.by_key.get(&(transport, remote, None)).filter(|_| address)
            });
            if let Some(known) = known.filter(|known| !known.is_over()) {
                return Ok(Reached::Known(known.clone()));
            }
        }
        table.add(self.max, key).map(Reached::New)
    }

    pub(crate) fn find(&self, id: FlowId) -> Option<Arc<Connection>> {
        self.table.lock().by_id.get(&id).cloned()
    }

    pub(crate) fn remove(&self, connection: &Connection) {
        let mut table = self.table.lock();
        table.by_id.remove(&connection.id);
        let key = connection.key();
        if table
            .by_key
            .get(&key)
            .is_some_and(|known| known.id == connection.id)
        {
            table.by_key.remove(&key);
        }
        if table.by_id.is_empty() {
            (table.by_id, table.by_key) = Default::default();
        }
    }

    /// Closes those from addresses for which `is_gone` holds: nothing that is sent from there arrives, and the system
    /// would repeat it for minutes. One that is still opening has its own limit.
    pub(crate) fn close_from(&self, is_gone: impl Fn(IpAddr) -> bool) {
        let mut asked = HashMap::new();
        for connection in self.all() {
            let Some(flow) = connection.flow() else { continue };
            let local = flow.local.ip();
            if *asked.entry(local).or_insert_with(|| is_gone(local)) {
                connection.close(&format!("this host has its address {local} no more"));
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.table.lock().by_id.values().cloned().collect()
    }
}

impl Table {
    fn add(&mut self, max: usize, key: Key) -> Result<Arc<Connection>, TooMany> {
        if self.by_id.len() >= max {
            return Err(TooMany);
        }
        self.last += 1;
        let (transport, remote, name) = key.clone();
        let connection = Arc::new(Connection {
            id: FlowId(self.last),
            transport,
            remote,
            name,
            state: Mutex::new(State {
                phase: Phase::Opening,
                queue: VecDeque::new(),
                octets: 0,
                pings: 0,
            }),
            decided: Notify::new(),
            waker: AtomicWaker::new(),
        });
        self.by_id.insert(connection.id, connection.clone());
        // The first stays the one that is shared, unless it is on its way out.
        let shared = self.by_key.get(&key).is_some_and(|known| !known.is_over());
        if !shared {
            self.by_key.insert(key, connection.clone());
        }
        Ok(connection)
    }
}

impl Connection {
    fn key(&self) -> Key {
        (self.transport, self.remote, self.name.clone())
    }

    fn is_over(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Closed(_) | Phase::Closing(_))
    }
}

fn is_address(name: &str, remote: SocketAddr) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse() == Ok(remote.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> SocketAddr {
        "192.0.2.1:5061".parse().unwrap()
    }

    fn reach(table: &Connections, name: Option<&str>, fresh: bool) -> (FlowId, bool) {
        match table.reach(Transport::Tls, remote(), name, fresh).unwrap() {
            Reached::Known(connection) => (connection.id(), false),
            Reached::New(connection) => (connection.id(), true),
        }
    }

    #[test]
    fn a_connection_is_shared_by_those_who_ask_for_the_same_name_at_the_same_address() {
        let table = Connections::new(10);
        let (first, new) = reach(&table, Some("a.example"), false);
        assert!(new);
        assert_eq!(reach(&table, Some("a.example"), false), (first, false));
        assert_ne!(
            reach(&table, Some("b.example"), false).0,
            first,
            "another certificate"
        );
        let (fresh, new) = reach(&table, Some("a.example"), true);
        assert!(new && fresh != first);
        assert_eq!(reach(&table, Some("a.example"), false), (first, false));
        table.find(first).unwrap().close("test");
        let (next, new) = reach(&table, Some("a.example"), false);
        assert!(new && next != first && next != fresh);
    }

    #[test]
    fn an_accepted_connection_is_used_for_its_address_and_for_no_name() {
        let table = Connections::new(10);
        let accepted = table.accept(Transport::Tls, remote()).unwrap();
        assert_eq!(reach(&table, Some("192.0.2.1"), false), (accepted.id(), false));
        assert!(reach(&table, Some("a.example"), false).1);
        table.remove(&accepted);
        assert!(reach(&table, Some("192.0.2.1"), false).1);
    }

    #[test]
    fn connections_from_an_address_that_is_gone_are_closed_and_no_others() {
        let table = Connections::new(10);
        let [gone, here, opening] = [1, 2, 3].map(|port| {
            let remote = SocketAddr::new(remote().ip(), port);
            table.accept(Transport::Tcp, remote).unwrap()
        });
        let [old, new] = ["192.0.2.7:1", "192.0.2.8:1"].map(|local| local.parse::<SocketAddr>().unwrap());
        gone.opened(old).unwrap();
        here.opened(new).unwrap();
        table.close_from(|ip| ip == old.ip());
        let why = |connection: &Connection| connection.orders(Waker::noop(), &mut VecDeque::new()).close;
        assert!(why(&gone).is_some_and(|why| why.contains("192.0.2.7")));
        assert_eq!((why(&here), why(&opening)), (None, None));
        let reached = table.reach(Transport::Tcp, gone.remote(), None, false).unwrap();
        assert!(
            matches!(reached, Reached::New(_)),
            "nobody waits for it to be closed"
        );
    }

    #[test]
    fn there_are_never_more_connections_than_allowed() {
        let table = Connections::new(1);
        let only = table.accept(Transport::Tcp, remote()).unwrap();
        assert!(table.accept(Transport::Tcp, remote()).is_err());
        assert!(table.reach(Transport::Tcp, remote(), None, true).is_err());
        assert!(table.reach(Transport::Tcp, remote(), None, false).is_ok());
        table.remove(&only);
        assert!(table.reach(Transport::Tcp, remote(), None, false).is_ok());
    }

    #[test]
    fn a_peer_that_does_not_read_is_given_up_and_not_waited_for() {
        let table = Connections::new(1);
        let connection = table.accept(Transport::Tcp, remote()).unwrap();
        let large = Bytes::from(vec![0; MAX_QUEUED_OCTETS * 2]);
        connection.push(large.clone()).unwrap();
        assert!(connection.push(PONG).unwrap_err().contains("does not read"));
        assert!(connection.push(PONG).is_err());
        let mut sent = VecDeque::new();
        let orders = connection.orders(Waker::noop(), &mut sent);
        assert!(orders.close.is_some_and(|why| why.contains("does not read")));
        let connection = {
            table.remove(&connection);
            table.accept(Transport::Tcp, remote()).unwrap()
        };
        for _ in 0..MAX_QUEUED {
            connection.push(PONG).unwrap();
        }
        assert!(connection.push(PONG).is_err());
    }
}

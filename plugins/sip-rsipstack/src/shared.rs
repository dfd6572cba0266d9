//! What the parts of one stack share.

use crate::client::{self, Clients};
use crate::connection::Connection;
use crate::flows::{Flows, ReuseKey};
use crate::key::Key;
use crate::server::{self, Servers};
use crate::target::token;
use crate::udp::Socket;
use parking_lot::{Mutex, RwLock};
use rsipstack::transaction::TransactionTimer;
use rsipstack::transaction::endpoint::{EndpointInner, EndpointInnerRef, EndpointOption};
use rsipstack::transaction::transaction::TransactionEvent;
use rsipstack::transport::transport_layer::DomainResolver;
use rsipstack::transport::{SipAddr, TransportLayer};
use siprtc_core::Error;
use siprtc_core::sip::{EventSink, Listener, SinkFull, StackConfig, StackEvent, TxEnd, TxId, TxIds, TxOwner};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a full sink is spoken of in the log: once, then every so many events.
const DROPPED_STRIDE: u64 = 1000;

/// How often rsipstack's timers are looked at, in the shortest of them: each is seen before it is due, and then waited
/// for.
const LOOKS: u32 = 4;

/// A configuration with shorter ones is served with this precision.
const SHORTEST_TIMER: Duration = Duration::from_millis(4);

/// rsipstack's timer C would end an INVITE that rings on. How long it rings is its user's to decide.
const NO_TIMER_C: Duration = Duration::from_secs(365 * 24 * 3600);

/// What our tasks have to do 64*T1 after something.
pub(crate) enum Later {
    /// An INVITE was cancelled.
    Cancelled(TxId),
    /// An INVITE of ours was answered 2xx.
    Client(TxId),
    /// A request has come, or was answered.
    Server(TxId),
}

pub(crate) struct Shared {
    pub(crate) config: StackConfig,
    sink: Arc<dyn EventSink>,
    pub(crate) ids: TxIds,
    pub(crate) endpoint: EndpointInnerRef,
    pub(crate) runtime: Handle,
    /// Ends every task.
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    pub(crate) flows: Flows,
    pub(crate) dials: Mutex<HashMap<ReuseKey, Arc<tokio::sync::Mutex<()>>>>,
    /// `max_connections`.
    pub(crate) seats: Arc<Semaphore>,
    pub(crate) tls_client: Arc<ClientConfig>,
    sockets: RwLock<Arc<[Arc<Socket>]>>,
    listeners: OnceLock<Vec<Listener>>,
    pub(crate) servers: Mutex<Servers>,
    pub(crate) clients: Mutex<Clients>,
    /// Transactions whose end was not told.
    open: AtomicUsize,
    /// In the order in which they are due, for all wait alike.
    later: Mutex<VecDeque<(Instant, Later)>>,
    /// Ended transactions that still absorb copies, in the same order.
    lingering: Mutex<VecDeque<(Instant, Key)>>,
    pub(crate) closing: AtomicBool,
    /// The To-tag of answers that we give without a transaction: the ACK that brings it back is absorbed.
    pub(crate) stateless_tag: String,
    /// The sent-by of a WebSocket client.
    pub(crate) invalid_host: String,
    dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: StackConfig, sink: Arc<dyn EventSink>, tls_client: Arc<ClientConfig>) -> Self {
        let stop = CancellationToken::new();
        Shared {
            sink,
            ids: TxIds::new(TxOwner::STACK),
            endpoint: endpoint(&config, &stop),
            runtime: Handle::current(),
            stop,
            tasks: TaskTracker::new(),
            flows: Flows::default(),
            dials: Mutex::default(),
            seats: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            tls_client,
            sockets: RwLock::new(Arc::from([])),
            listeners: OnceLock::new(),
            servers: Mutex::default(),
            clients: Mutex::default(),
            open: AtomicUsize::new(0),
            later: Mutex::default(),
            lingering: Mutex::default(),
            closing: AtomicBool::new(false),
            stateless_tag: token("sl"),
            invalid_host: token("") + ".invalid",
            dropped: AtomicU64::new(0),
            config,
        }
    }

    pub(crate) fn listen(&self, sockets: Vec<Arc<Socket>>, listeners: Vec<Listener>) {
        *self.sockets.write() = sockets.into();
        let _ = self.listeners.set(listeners);
    }

    pub(crate) fn sockets(&self) -> Arc<[Arc<Socket>]> {
        self.sockets.read().clone()
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        self.listeners.get().map_or(&[], Vec::as_slice)
    }

    /// Runs `task` until it ends or the stack stops.
    pub(crate) fn spawn_until_stop(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Runs `task`, which looks at `stop` itself, in the stack's own runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // tokio moves a task five times before it ends, and one with a transaction of rsipstack's is large.
        self.tasks.spawn_on(Box::pin(task), &self.runtime);
    }

    /// Hands over an event whose loss is like a lost packet's.
    pub(crate) fn emit(&self, event: StackEvent) {
        if self.try_emit(event).is_err() {
            let before = self.dropped.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(DROPPED_STRIDE) {
                tracing::warn!(
                    dropped = before + 1,
                    "the SIP event queue is full: events are dropped"
                );
            }
        }
    }

    pub(crate) fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        self.sink.try_emit(event)
    }

    /// Takes one of `max_transactions`.
    pub(crate) fn try_open(&self) -> bool {
        let more = |open| (open < self.config.max_transactions).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Gives it back.
    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many transactions have a user waiting.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Has `what` looked at in 64*T1.
    pub(crate) fn later(&self, what: Later) {
        let due = Instant::now() + self.config.timers.t1 * 64;
        self.later.lock().push_back((due, what));
    }

    /// A transaction that has ended absorbs copies for 64*T1. At most `max_transactions` do; with more of them the one
    /// that would go first goes at once.
    pub(crate) fn lingers(&self, key: Key) {
        let due = Instant::now() + self.config.timers.t1 * 64;
        let mut lingering = self.lingering.lock();
        lingering.push_back((due, key));
        let over = lingering.len() > self.config.max_transactions;
        let oldest = over.then(|| lingering.pop_front()).flatten();
        drop(lingering);
        if let Some((_, key)) = oldest {
            self.forget(&key);
        }
    }

    fn forget(&self, key: &Key) {
        server::forget(self, key);
        client::forget(self, key);
    }

    /// Drives rsipstack's timers. Its own loop is woken for every timer that is set, and misses those that are set
    /// between its look and its sleep.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        let timers = self.config.timers;
        let period = timers.t1.min(timers.t4).max(SHORTEST_TIMER) / LOOKS;
        loop {
            let latest = Instant::now() + period;
            let due = self
                .endpoint
                .timers
                .next_deadline()
                .map_or(latest, Instant::from_std);
            tokio::time::sleep_until(due.min(latest)).await;
            let now = Instant::now();
            for timer in self.endpoint.timers.poll(now.into_std()) {
                if let TransactionTimer::TimerCleanup(key) = &timer {
                    self.endpoint.transactions.remove(key);
                    self.endpoint.finished_transactions.remove(key);
                } else if let Some(transaction) = self.endpoint.transactions.get(timer.key()) {
                    // Nobody hears it when the transaction is being dropped.
                    let _ = transaction.send(TransactionEvent::Timer(timer));
                }
            }
            // rsipstack's own table of whom an ACK may be for, which nobody asks: it would only grow.
            if !self.endpoint.waiting_ack.is_empty() {
                self.endpoint.waiting_ack.retain(|_, _| false);
            }
            self.run_later(now);
        }
    }

    fn run_later(&self, now: Instant) {
        loop {
            let due = pop_due(&mut self.later.lock(), now);
            match due {
                Some((_, Later::Cancelled(tx))) => client::give_up(self, tx),
                Some((_, Later::Client(tx))) => client::expire(self, tx),
                Some((_, Later::Server(tx))) => server::expire(self, tx),
                None => break,
            }
        }
        loop {
            let due = pop_due(&mut self.lingering.lock(), now);
            match due {
                Some((_, key)) => self.forget(&key),
                None => return,
            }
        }
    }

    /// A connection has ended, and so does what runs over it.
    pub(crate) fn connection_down(&self, connection: &Connection, why: &str) {
        let id = connection.flow.id;
        if !self.flows.disconnected(id) {
            return;
        }
        let over = |flow| flow == id;
        self.end_transactions(over, &format!("the connection has ended: {why}"));
        self.emit(StackEvent::FlowDown {
            id,
            reason: why.to_owned(),
        });
    }

    /// Ends every transaction over a flow of these.
    pub(crate) fn end_transactions(&self, over: impl Fn(siprtc_core::sip::FlowId) -> bool, why: &str) {
        let servers = self.servers.lock().all(&over);
        let clients = self.clients.lock().all(&over);
        for server in servers {
            server.end(self, TxEnd::Transport(why.to_owned()));
        }
        for client in clients {
            client.end(self, TxEnd::Transport(why.to_owned()));
        }
    }

    /// Stops every task, lets everything go and says so.
    pub(crate) fn let_go(&self, why: &str) {
        self.closing.store(true, Ordering::Release);
        self.end_transactions(|_| true, why);
        self.stop.cancel();
        *self.sockets.write() = Arc::from([]);
        self.flows.clear_udp();
        self.later.lock().clear();
        self.lingering.lock().clear();
        self.servers.lock().clear();
        self.clients.lock().clear();
        self.tasks.close();
    }

    /// Waits until every task has ended.
    pub(crate) async fn wait(&self) {
        self.tasks.wait().await;
        // Whatever had no task left.
        for connection in self.flows.connections() {
            self.connection_down(&connection, "the stack was shut down");
        }
    }
}

/// The error of every call after `shutdown`.
pub(crate) fn stopped(operation: &'static str) -> Error {
    crate::convert::misuse(operation, "the stack was shut down").advice("start a new one")
}

fn endpoint(config: &StackConfig, stop: &CancellationToken) -> EndpointInnerRef {
    let timers = config.timers;
    let option = EndpointOption {
        t1: timers.t1,
        t2: timers.t2,
        t4: timers.t4,
        t1x64: timers.t1 * 64,
        timerc: NO_TIMER_C,
        // RFC 6026: the ACK of a 2xx is its user's.
        auto_ack_2xx: false,
        ..EndpointOption::default()
    };
    // The ACK of a rejection carries it, and an empty one is against the grammar.
    let name = if config.user_agent.is_empty() {
        "-"
    } else {
        &config.user_agent
    };
    EndpointInner::new(
        name.to_owned(),
        TransportLayer::new_with_domain_resolver(stop.child_token(), Box::new(NoNames)),
        stop.child_token(),
        None,
        Vec::new(),
        Some(option),
        None,
        None,
        None,
    )
}

/// rsipstack is given addresses only.
struct NoNames;

#[async_trait::async_trait]
impl DomainResolver for NoNames {
    async fn resolve(&self, target: &SipAddr) -> rsipstack::Result<SipAddr> {
        Err(rsipstack::Error::DnsResolutionError(target.to_string()))
    }
}

/// The first of those whose time has come.
fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<(Instant, T)> {
    let is_due = queue.front().is_some_and(|(due, _)| *due <= now);
    is_due.then(|| queue.pop_front()).flatten()
}

//! The thread of a stack: sofia's event loop, and between its turns what users ask for.
//!
//! **Order.** What the library says goes into an inbox, in the order in which it says it, and is handled from there: a
//! message at once, because the next one in the same turn may belong to the transaction that it begins; the rest when
//! the library has returned, because it may not be asked to destroy what it is speaking of.

use crate::clients::Clients;
use crate::flows::Flows;
use crate::servers::Servers;
use crate::sofia::{Agent, Behaviour, Heard, Said, Transport as Socketed};
use crate::target::{CLIENT_IDENT, Destination, Socket};
use siprtc_core::sip::{
    EventSink, Flow, FlowId, Headers, Keepalive, Listener, SinkFull, SipRequest, SipResponse, StackConfig,
    StackEvent, Transport, TxEnd, TxId, TxIds, TxOwner,
};
use siprtc_core::{Error, Fault, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Most calls that wait for the thread; beyond it callers wait.
pub(crate) const COMMANDS: usize = 1024;

/// Most calls that are served before the library gets its next turn.
const TURN: usize = 64;

/// The longest turn: long enough to be no polling.
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// How often a full sink is spoken of in the log: once, then every so many events.
const DROPPED_STRIDE: u64 = 1000;

/// What the thread is asked for.
pub(crate) enum Command {
    Ack(SipRequest, Destination),
    Cancel(TxId, Headers),
    CloseFlow(FlowId),
    Keepalive(FlowId, Keepalive),
    Request(TxId, SipRequest, Destination),
    Respond(TxId, SipResponse),
}

/// A [`Command`] and where its outcome goes.
pub(crate) type Asked = (Command, oneshot::Sender<Result<()>>);

/// What the thread and its callers share.
pub(crate) struct Shared {
    pub(crate) config: StackConfig,
    sink: Arc<dyn EventSink>,
    /// No new requests.
    pub(crate) closing: AtomicBool,
    /// The thread is to end.
    stop: AtomicBool,
    /// A wake-up is on its way.
    waking: AtomicBool,
    waker: UnixStream,
    /// Told when the last transaction has ended, if somebody asks.
    pub(crate) idle: parking::Idle,
    dropped: AtomicU64,
}

impl Shared {
    /// Makes the thread look what is asked for.
    pub(crate) fn wake(&self) {
        if !self.waking.swap(true, Ordering::AcqRel) {
            // Full means that it will be awake anyhow.
            let _ = (&self.waker).write(&[1]);
        }
    }

    pub(crate) fn stop(&self) {
        self.closing.store(true, Ordering::Release);
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Hands over an event whose loss is like a lost packet's.
    fn emit(&self, event: StackEvent) {
        if self.sink.try_emit(event).is_err() {
            let before = self.dropped.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(DROPPED_STRIDE) {
                tracing::warn!(
                    dropped = before + 1,
                    "the SIP event queue is full: events are dropped"
                );
            }
        }
    }
}

/// Tells one waiter that nothing runs any more.
pub(crate) mod parking {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    /// How many transactions are open, and who waits for none.
    #[derive(Default)]
    pub(crate) struct Idle {
        open: AtomicUsize,
        none: Notify,
    }

    impl Idle {
        pub(crate) fn set(&self, open: usize) {
            self.open.store(open, Ordering::Release);
            if open == 0 {
                self.none.notify_waiters();
            }
        }

        /// Returns when no transaction is open.
        pub(crate) async fn reached(&self) {
            loop {
                let none = self.none.notified();
                if self.open.load(Ordering::Acquire) == 0 {
                    return;
                }
                none.await;
            }
        }
    }
}

/// How a peer is answered outside every transaction.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) transport: Socketed,
    pub(crate) protocol: Transport,
    pub(crate) to: SocketAddr,
}

pub(crate) struct Engine {
    pub(crate) agent: Agent,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) flows: Flows,
    pub(crate) clients: Clients<crate::outbound::Sent>,
    pub(crate) servers: Servers<crate::sofia::Incoming, Peer>,
    pub(crate) ids: TxIds,
    /// The To-tag of answers that we give without a transaction: the ACK that brings it back is absorbed.
    pub(crate) stateless_tag: String,
    /// What the library will name the next transaction by; 0 is nobody's.
    keys: usize,
    commands: mpsc::Receiver<Asked>,
    awake: UnixStream,
}

thread_local! {
    static ENGINE: RefCell<Option<Rc<RefCell<Engine>>>> = const { RefCell::new(None) };
    static INBOX: RefCell<VecDeque<Heard>> = const { RefCell::new(VecDeque::new()) };
}

/// A running thread.
pub(crate) struct Started {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) commands: mpsc::Sender<Asked>,
    pub(crate) thread: std::thread::JoinHandle<()>,
    /// Resolves when the thread has let everything go.
    pub(crate) over: oneshot::Receiver<()>,
}

/// Starts the thread and waits until its sockets are bound.
pub(crate) async fn start(config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Started> {
    const OPERATION: &str = "start SIP stack";
    let failed = |error: std::io::Error| {
        Error::new(
            Fault::Backend,
            OPERATION,
            "the system gives no thread or no socket pair",
        )
        .caused_by(error)
        .advice("check the limits of open files and threads")
        .backend(crate::NAME)
    };
    let (waker, awake) = UnixStream::pair().map_err(failed)?;
    waker.set_nonblocking(true).map_err(failed)?;
    awake.set_nonblocking(true).map_err(failed)?;
    let shared = Arc::new(Shared {
        config,
        sink,
        closing: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        waking: AtomicBool::new(false),
        waker,
        idle: parking::Idle::default(),
        dropped: AtomicU64::new(0),
    });
    let (commands, asked) = mpsc::channel(COMMANDS);
    let (bound, ready) = oneshot::channel();
    let (gone, over) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("siprtc-sofia".to_owned())
        .spawn({
            let shared = shared.clone();
            move || {
                run(shared, asked, awake, bound);
                let _ = gone.send(());
            }
        })
        .map_err(failed)?;
    let sockets = match ready.await {
        Ok(Ok(sockets)) => sockets,
        Ok(Err(error)) => {
            let _ = thread.join();
            return Err(error);
        }
        Err(_) => {
            return Err(
                Error::new(Fault::Backend, OPERATION, "the stack's thread panicked")
                    .advice("report this with the log")
                    .backend(crate::NAME),
            );
        }
    };
    Ok(Started {
        shared,
        sockets,
        commands,
        thread,
        over,
    })
}

fn run(
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Asked>,
    awake: UnixStream,
    bound: oneshot::Sender<Result<Vec<Socket>>>,
) {
    let (agent, sockets) = match open(&shared.config, &awake) {
        Ok(open) => open,
        Err(error) => {
            let _ = bound.send(Err(error));
            return;
        }
    };
    let lifetime = shared.config.timers.t1 * 64;
    let engine = Rc::new(RefCell::new(Engine {
        agent: agent.clone(),
        shared: shared.clone(),
        sockets: sockets.clone(),
        flows: Flows::default(),
        clients: Clients::new(lifetime),
        servers: Servers::new(lifetime),
        ids: TxIds::new(TxOwner::STACK),
        stateless_tag: crate::convert::token("sl"),
        keys: 0,
        commands,
        awake,
    }));
    ENGINE.with_borrow_mut(|place| *place = Some(engine.clone()));
    let _ = bound.send(Ok(sockets));
    let mut turn = Duration::ZERO;
    while !shared.stop.load(Ordering::Acquire) {
        agent.step(turn);
        handle_inbox();
        turn = engine.borrow_mut().serve();
        handle_inbox();
    }
    engine.borrow_mut().let_go("the stack was shut down");
    ENGINE.with_borrow_mut(|place| *place = None);
    INBOX.with_borrow_mut(VecDeque::clear);
}

fn open(config: &StackConfig, awake: &UnixStream) -> Result<(Agent, Vec<Socket>)> {
    const OPERATION: &str = "start SIP stack";
    let failed = |error: std::io::Error| {
        Error::new(Fault::Backend, OPERATION, "sofia-sip does not start")
            .caused_by(error)
            .advice("check the limits of open files")
            .backend(crate::NAME)
    };
    let behaviour = Behaviour {
        timers: config.timers,
        message_octets: config.limits.message,
        connections: config.max_connections,
    };
    let wake = OwnedFd::from(awake.try_clone().map_err(failed)?);
    let agent = Agent::start(&behaviour, wake, hear).map_err(failed)?;
    let mut sockets = Vec::new();
    for (number, wanted) in config.listeners.iter().enumerate() {
        let ident = number.to_string();
        let protocol = wanted.transport.as_str().to_ascii_lowercase();
        let cannot = || format!("it cannot listen on {} {}", wanted.transport, wanted.bind);
        let refused = |error: std::io::Error| {
            Error::new(Fault::ConfigInvalid, OPERATION, cannot())
                .caused_by(error)
                .advice("choose an address of this machine and a port that is free")
                .backend(crate::NAME)
        };
        agent
            .add_transport(&format!("sip:{};transport={protocol}", wanted.bind), &ident, true)
            .map_err(refused)?;
        let bound = agent
            .transport(&ident)
            .and_then(|transport| transport.address())
            .ok_or_else(|| refused(std::io::Error::other("its address cannot be told")))?;
        // sofia calls a socket that is bound to every address by one of the machine's.
        let bound = SocketAddr::new(wanted.bind.ip(), bound.port());
        let advertised = match wanted.advertise {
            Some(told) if told.port() == 0 => SocketAddr::new(told.ip(), bound.port()),
            Some(told) => told,
            None => bound,
        };
        sockets.push(Socket {
            ident,
            listener: Listener {
                transport: wanted.transport,
                bound,
                advertised,
            },
            listens: true,
        });
    }
    agent
        .add_transport("sip:*:*;transport=tcp", CLIENT_IDENT, false)
        .map_err(failed)?;
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    sockets.push(Socket {
        ident: CLIENT_IDENT.to_owned(),
        listener: Listener {
            transport: Transport::Tcp,
            bound: nowhere,
            advertised: nowhere,
        },
        listens: false,
    });
    Ok((agent, sockets))
}

/// What the library calls; see this module's words on order.
fn hear(heard: Heard) {
    let message = matches!(heard, Heard::Message { .. });
    let timed = match &heard {
        Heard::Closed { .. } => true,
        Heard::Incoming { said, .. } => *said == Said::TimedOut,
        Heard::Response { octets, .. } => octets.is_none(),
        Heard::Connected { .. } | Heard::Message { .. } | Heard::Pong { .. } | Heard::Woken => false,
    };
    INBOX.with_borrow_mut(|inbox| inbox.push_back(heard));
    if message {
        handle_inbox();
    }
    // sofia looks at its timers and its own messages first and waits for the network then, in one step.
    if timed
        && let Some(engine) = ENGINE.with_borrow(Clone::clone)
        && let Ok(engine) = engine.try_borrow()
    {
        engine.shared.wake();
    }
}

/// Does nothing while the engine is at work: it will look again.
fn handle_inbox() {
    let Some(engine) = ENGINE.with_borrow(Clone::clone) else {
        return;
    };
    let Ok(mut engine) = engine.try_borrow_mut() else {
        return;
    };
    while let Some(heard) = INBOX.with_borrow_mut(VecDeque::pop_front) {
        engine.hear(heard);
    }
}

impl Engine {
    /// Serves what users ask for and what time asks for, and says how long the library may wait.
    fn serve(&mut self) -> Duration {
        let mut more = false;
        for served in 0..=TURN {
            more = served == TURN;
            if more {
                break;
            }
            let Ok((command, outcome)) = self.commands.try_recv() else {
                break;
            };
            let outcome_is = self.obey(command);
            // Before anybody knows: a shutdown that follows must wait for what this has begun.
            self.shared.idle.set(self.open());
            let _ = outcome.send(outcome_is);
        }
        self.expire();
        for flow in self.flows.connected() {
            self.emit(StackEvent::FlowUp(flow));
        }
        self.shared.idle.set(self.open());
        if more {
            return Duration::ZERO;
        }
        let next = [self.clients.next_deadline(), self.servers.next_deadline()];
        match next.into_iter().flatten().min() {
            // A turn ends on a whole millisecond: one more, so as not to end before.
            Some(at) => {
                (at.saturating_duration_since(Instant::now()) + Duration::from_millis(1)).min(LONGEST_TURN)
            }
            None => LONGEST_TURN,
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for (tx, cancelled) in self.clients.expire(now) {
            let end = if cancelled { TxEnd::TimedOut } else { TxEnd::Done };
            self.emit(StackEvent::TxEnded { tx, end });
        }
        for (tx, name) in self.servers.expire(now) {
            if let Some(name) = name {
                self.agent.divert(&name.branch, false);
            }
            self.emit(StackEvent::TxEnded { tx, end: TxEnd::Done });
        }
    }

    pub(crate) fn woken(&mut self) {
        let mut octets = [0; 64];
        // The octets first: one that is written between the two would be read here and leave `waking` set for good.
        while matches!((&self.awake).read(&mut octets), Ok(read) if read > 0) {}
        // What is asked for from here on writes again; what was asked for before is served behind this, and seen there,
        // for this has read what `wake` has written.
        self.shared.waking.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn emit(&self, event: StackEvent) {
        self.shared.emit(event);
    }

    pub(crate) fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        self.shared.sink.try_emit(event)
    }

    /// How many transactions have a user waiting.
    pub(crate) fn open(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// What the library will name a new transaction by.
    pub(crate) fn key(&mut self) -> usize {
        self.keys = self.keys.wrapping_add(1).max(1);
        self.keys
    }

    pub(crate) fn socket(&self, ident: &str) -> Option<&Socket> {
        self.sockets.iter().find(|socket| socket.ident == ident)
    }

    /// The flow of a message that has come.
    pub(crate) fn seen(&mut self, arrival: &crate::sofia::Arrival) -> Option<Flow> {
        let listener = self.socket(&arrival.transport.ident())?.listener;
        let (flow, news) = self.flows.seen(arrival, &listener)?;
        if news {
            self.emit(StackEvent::FlowUp(flow));
        }
        Some(flow)
    }

    fn let_go(&mut self, why: &str) {
        let mut ended = self.clients.clear();
        for (tx, incoming) in self.servers.clear() {
            ended.push(tx);
            if let Some(incoming) = incoming {
                incoming.abandon();
            }
        }
        for tx in ended {
            let end = TxEnd::Transport(why.to_owned());
            self.emit(StackEvent::TxEnded { tx, end });
        }
        for id in self.flows.clear() {
            self.emit(StackEvent::FlowDown {
                id,
                reason: why.to_owned(),
            });
        }
        self.shared.idle.set(0);
    }
}

//! What the parts of one stack share: the transaction machine, its clock, and the way out to sockets and to the user.
//!
//! The machine sits behind one lock, which is held while it decides and never while something is sent or told. What it
//! wants done is done in its order by one thread at a time, see [`Engine::input`].

use crate::MessageParser;
use crate::budget::Budget;
use crate::connection::Connections;
use crate::path::{Path, UdpFlows, UdpPath};
use crate::stun::Probes;
use crate::tls::Tls;
use crate::udp::{self, UdpSockets};
use bytes::Bytes;
use parking_lot::Mutex;
use siprtc_core::sip::{EventSink, Flow, Gap, Listener, SinkFull, StackConfig, StackEvent, Transport};
use siprtc_core::{Error, Fault};
use siprtc_sip_transactions::{Output, Transactions, TransactionsConfig};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Seconds after which whoever got a 503 may try again.
const RETRY_AFTER: u32 = 10;

/// How often a full sink is spoken of in the log: once, then every so many events.
const DROPPED_STRIDE: u64 = 1000;

/// How often a shutdown looks whether the last transaction has ended.
const GRACE_STEP: Duration = Duration::from_millis(10);

/// How long a shutdown waits for its tasks, whatever their peers do.
const STOP_TIME: Duration = Duration::from_secs(3);

pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) gaps: &'static [Gap],
    pub(crate) parser: Arc<dyn MessageParser>,
    pub(crate) config: StackConfig,
    pub(crate) runtime: Handle,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) tls: Tls,
    pub(crate) udp: UdpSockets,
    pub(crate) udp_flows: UdpFlows,
    pub(crate) connections: Connections,
    pub(crate) budget: Budget,
    pub(crate) probes: Mutex<Probes>,
    pub(crate) stop: Stop,
    /// No new transactions.
    pub(crate) closing: AtomicBool,
    /// The To-tag of answers that we give without a transaction: the ACK that brings it back is absorbed.
    pub(crate) stateless_tag: String,
    /// RFC 7118 section 5: the sent-by of those who cannot be connected with.
    pub(crate) invalid_host: String,
    machine: Mutex<Transactions<Path>>,
    /// How many have put something into the machine since somebody began to empty it.
    inputs: AtomicUsize,
    timer: Timer,
    sink: Arc<dyn EventSink>,
    dropped: AtomicU64,
    tasks: Tasks,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) name: &'static str,
    pub(crate) gaps: &'static [Gap],
    pub(crate) parser: Arc<dyn MessageParser>,
    pub(crate) config: StackConfig,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) udp: UdpSockets,
    pub(crate) tls: Tls,
}

impl Engine {
    /// Its tasks will run on the runtime on which this is called.
    pub(crate) fn new(parts: Parts) -> Self {
        let config = parts.config;
        Engine {
            name: parts.name,
            gaps: parts.gaps,
            parser: parts.parser,
            runtime: Handle::current(),
            listeners: parts.listeners,
            tls: parts.tls,
            udp: parts.udp,
            udp_flows: UdpFlows::default(),
            connections: Connections::new(config.max_connections),
            budget: Budget::default(),
            probes: Mutex::default(),
            stop: Stop::default(),
            closing: AtomicBool::new(false),
            stateless_tag: format!("{:08x}", rand::random::<u32>()),
            invalid_host: format!("{}.invalid", crate::target::token("")),
            machine: Mutex::new(Transactions::new(TransactionsConfig {
                timers: config.timers,
                max_transactions: config.max_transactions,
            })),
            inputs: AtomicUsize::new(0),
            timer: Timer::new(),
            sink: parts.sink,
            dropped: AtomicU64::new(0),
            tasks: Tasks::default(),
            config,
        }
    }

    /// Runs a task of the stack's; it ends when [`Engine::stop`] is requested.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::begin(self.clone());
        self.runtime.spawn(async move {
            task.await;
            drop(running);
        });
    }

    /// Tells the machine something, and does what it wants done.
    ///
    /// Whoever finds another thread at doing leaves the rest to that one, which looks again before it goes: so events
    /// are told in the machine's order, and neither the machine nor the sink is waited for with a lock held.
    pub(crate) fn input<R>(self: &Arc<Self>, tell: impl FnOnce(&mut Transactions<Path>, Instant) -> R) -> R {
        let result = self.tell(tell);
        if self.inputs.fetch_add(1, Ordering::AcqRel) == 0 {
            self.drain();
        }
        result
    }

    fn tell<R>(&self, tell: impl FnOnce(&mut Transactions<Path>, Instant) -> R) -> R {
        let now = now();
        let mut machine = self.machine.lock();
        let result = tell(&mut machine, now);
        self.timer.rearm(machine.poll_timeout());
        result
    }

    fn drain(self: &Arc<Self>) {
        /// A panic in the sink must not make the stack deaf.
        struct Leave<'a>(&'a AtomicUsize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Release);
            }
        }
        let leave = Leave(&self.inputs);
        let mut seen = 1;
        loop {
            loop {
                let next = self.machine.lock().poll();
                match next {
                    Some(output) => self.act(output),
                    None => break,
                }
            }
            match self
                .inputs
                .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => break std::mem::forget(leave),
                Err(more) => seen = more,
            }
        }
    }

    fn act(self: &Arc<Self>, output: Output<Path>) {
        match output {
            Output::Send { path, bytes, tx } => {
                if let Err(why) = self.send(&path, bytes)
                    && let Some(tx) = tx
                {
                    tracing::debug!(%tx, why, "a message was not sent");
                    self.tell(|machine, _| machine.failed(tx, &why));
                }
            }
            Output::Request { tx, request, path } => {
                let event = self
                    .flow(&path)
                    .map(|flow| StackEvent::Request { tx, request, flow });
                let taken = match event {
                    _ if self.closing.load(Ordering::Acquire) => Err(SinkFull),
                    Some(event) => self.sink.try_emit(event),
                    None => Err(SinkFull),
                };
                if taken.is_err() {
                    self.tell(|machine, now| machine.refuse(now, tx, 503, Some(RETRY_AFTER)));
                }
            }
            // The ACK of an answer that was given without a transaction.
            Output::Ack { request, .. }
                if request
                    .headers
                    .to()
                    .is_ok_and(|to| to.tag() == Some(&self.stateless_tag)) => {}
            Output::Ack { request, path } => {
                if let Some(flow) = self.flow(&path) {
                    self.emit(StackEvent::Ack { request, flow });
                }
            }
            Output::Cancelled { invite } => self.emit(StackEvent::Cancelled { invite }),
            Output::Response { tx, response, path } => {
                let flow = self.flow(&path);
                self.emit(StackEvent::Response { tx, response, flow });
            }
            Output::Ended { tx, end } => self.emit(StackEvent::TxEnded { tx, end }),
        }
    }

    /// Sends a message; the error says why it cannot leave.
    pub(crate) fn send(self: &Arc<Self>, path: &Path, bytes: Bytes) -> Result<(), String> {
        match path {
            Path::Udp(path) => self.send_udp(path, &bytes),
            Path::Connection(connection) => match connection.push(bytes.clone()) {
                // RFC 3261 section 18.2.2: an answer may take another connection when its own is gone.
                Err(_) if bytes.starts_with(b"SIP/") => {
                    crate::dial::answer_elsewhere(self, connection, bytes)
                }
                pushed => pushed,
            },
        }
    }

    pub(crate) fn send_udp(&self, path: &UdpPath, bytes: &[u8]) -> Result<(), String> {
        let to = path.to();
        self.udp
            .send(path.socket, to, bytes)
            .map_err(|error| udp::explain(to, &error))
    }

    /// The flow of a path; `None` when it is a connection that is gone.
    pub(crate) fn flow(&self, path: &Path) -> Option<Flow> {
        match path {
            Path::Connection(connection) => connection.flow(),
            Path::Udp(path) => Some(Flow {
                id: self.udp_flows.id(path.socket, path.peer),
                transport: Transport::Udp,
                local: self.udp_flows.local(self.udp_bound(path.socket)?, path.peer),
                remote: path.peer,
            }),
        }
    }

    /// Where a UDP socket is bound.
    pub(crate) fn udp_bound(&self, socket: u16) -> Option<SocketAddr> {
        let mut udp = self
            .listeners
            .iter()
            .filter(|listener| listener.transport == Transport::Udp);
        udp.nth(usize::from(socket)).map(|listener| listener.bound)
    }

    /// Hands over an event whose loss is like a lost packet's.
    pub(crate) fn emit(&self, event: StackEvent) {
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

    pub(crate) fn error(&self, fault: Fault, operation: &'static str, message: impl Into<String>) -> Error {
        Error::new(fault, operation, message).backend(self.name)
    }

    /// An error once the stack closes.
    pub(crate) fn open_for_requests(&self, operation: &'static str) -> Result<(), Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(self
                .error(Fault::ApiMisuse, operation, "the stack was shut down")
                .advice("start a new one"));
        }
        Ok(())
    }

    /// Whole seconds since the stack began.
    pub(crate) fn second(&self) -> u64 {
        now().saturating_duration_since(self.timer.epoch).as_secs()
    }

    /// Sends a STUN keepalive. `Err`: too many are unanswered.
    pub(crate) fn probe(&self, path: &UdpPath) -> Result<(), String> {
        let flow = self.udp_flows.id(path.socket, path.peer);
        let now = now();
        let begun = {
            let mut probes = self.probes.lock();
            let begun = probes.begin(now, flow);
            self.timer.rearm(probes.poll_timeout());
            begun
        };
        let request = begun.map_err(|_| "too many STUN keepalives are unanswered".to_owned())?;
        self.send_udp(path, &request)
    }

    /// Drives the timers of transactions and keepalives, until the stack stops.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            // The notification is kept while nobody waits for it.
            let next = {
                let machine = self.machine.lock();
                let probes = self.probes.lock().poll_timeout();
                let next = [machine.poll_timeout(), probes].into_iter().flatten().min();
                self.timer.set(next);
                next
            };
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.requested() => return,
                () = self.timer.moved.notified() => continue,
                () = due => (),
            }
            self.input(|machine, now| machine.handle_timeout(now));
            let again = self.probes.lock().handle_timeout(now());
            for (flow, request) in again {
                if let Some(path) = self.udp_flows.find(flow)
                    && let Err(why) = self.send_udp(&path, &request)
                {
                    tracing::debug!(why, "a keepalive was not repeated");
                }
            }
        }
    }

    /// RFC 3261 has no word for it: lets what runs come to its end, then ends everything.
    pub(crate) async fn shutdown(self: Arc<Self>, grace: Duration) {
        self.closing.store(true, Ordering::Release);
        let deadline = tokio::time::Instant::now() + grace;
        while self.tell(|machine, _| machine.active()) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(GRACE_STEP).await;
        }
        self.end("the stack was shut down");
        if tokio::time::timeout(STOP_TIME, self.tasks.all_ended())
            .await
            .is_err()
        {
            tracing::warn!("a task of the SIP stack did not end in time");
        }
    }

    /// Ends everything; its tasks end as soon as they have their turn.
    pub(crate) fn end(self: &Arc<Self>, why: &str) {
        self.closing.store(true, Ordering::Release);
        self.input(|machine, _| machine.end_all(why));
        self.stop.request();
        for connection in self.connections.all() {
            connection.close(why);
        }
        self.udp.clear();
    }
}

/// The machine's time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wakes the timer task when something is due earlier than it sleeps.
struct Timer {
    epoch: Instant,
    /// Nanoseconds after `epoch` until which the timer task sleeps.
    armed: AtomicU64,
    moved: Notify,
}

impl Timer {
    fn new() -> Self {
        Timer {
            epoch: now(),
            armed: AtomicU64::new(u64::MAX),
            moved: Notify::new(),
        }
    }

    fn set(&self, next: Option<Instant>) {
        self.armed.store(self.nanos(next), Ordering::Release);
    }

    fn rearm(&self, next: Option<Instant>) {
        let next = self.nanos(next);
        if self.armed.fetch_min(next, Ordering::AcqRel) > next {
            self.moved.notify_one();
        }
    }

    fn nanos(&self, at: Option<Instant>) -> u64 {
        at.map_or(u64::MAX, |at| {
            at.saturating_duration_since(self.epoch).as_nanos() as u64
        })
    }
}

/// Asks every task to end.
#[derive(Default)]
pub(crate) struct Stop {
    requested: AtomicBool,
    notify: Notify,
}

impl Stop {
    fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    pub(crate) async fn requested(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        // Registered before the look, so that a request between the two is not missed.
        notified.as_mut().enable();
        if !self.is_requested() {
            notified.await;
        }
    }
}

/// How many tasks run.
#[derive(Default)]
struct Tasks {
    running: AtomicUsize,
    ended: Notify,
}

impl Tasks {
    async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

struct Running(Arc<Engine>);

impl Running {
    fn begin(engine: Arc<Engine>) -> Self {
        engine.tasks.running.fetch_add(1, Ordering::AcqRel);
        Running(engine)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.running.fetch_sub(1, Ordering::AcqRel);
        self.0.tasks.ended.notify_waiters();
    }
}

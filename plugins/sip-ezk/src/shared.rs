//! What the parts of one stack share, and what survives when ezk is started anew.

use crate::client::Client;
use crate::flows::{self, Flows};
use bytes::Bytes;
use ezk_sip_core::transport::TpHandle;
use parking_lot::Mutex;
use siprtc_core::sip::{EventSink, Flow, SinkFull, StackConfig, StackEvent, TxId};
use siprtc_sip_transactions::{Output, Path, RETRY_AFTER, Transactions, TransactionsConfig};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest time that one message may take to leave: a peer that does not read must not hold us.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a full sink is spoken of in the log: once, then every so many events.
const DROPPED_STRIDE: u64 = 1000;

/// Where a message goes.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) handle: TpHandle,
    pub(crate) to: SocketAddr,
}

impl Peer {
    pub(crate) async fn send(&self, bytes: &Bytes) -> io::Result<()> {
        match tokio::time::timeout(SEND_TIMEOUT, self.handle.send(bytes, self.to)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not read its connection",
            )),
        }
    }
}

/// Where a request came from, and where its answers go.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) peer: Peer,
    pub(crate) flow: Flow,
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        (self.flow.id, self.peer.to) == (other.flow.id, other.peer.to)
    }
}

impl Path for Way {
    fn is_reliable(&self) -> bool {
        !self.peer.handle.is_udp()
    }
}

/// TLS, both ways.
pub(crate) struct Tls {
    pub(crate) client: Arc<rustls::ClientConfig>,
    /// `None` without a certificate.
    pub(crate) server: Option<Arc<rustls::ServerConfig>>,
}

pub(crate) struct Shared {
    pub(crate) config: StackConfig,
    pub(crate) tls: Tls,
    sink: Arc<dyn EventSink>,
    pub(crate) flows: Flows,
    /// Server transactions only: ezk has the client ones.
    servers: Mutex<Transactions<Way>>,
    /// A server transaction's deadline may have moved forward.
    deadlines_moved: Notify,
    pub(crate) clients: Mutex<HashMap<TxId, Arc<Client>>>,
    pub(crate) closing: AtomicBool,
    dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: StackConfig, tls: Tls, sink: Arc<dyn EventSink>) -> Self {
        Shared {
            tls,
            sink,
            flows: Flows::default(),
            servers: Mutex::new(Transactions::new(TransactionsConfig {
                timers: config.timers,
                max_transactions: config.max_transactions,
            })),
            deadlines_moved: Notify::new(),
            clients: Mutex::new(HashMap::new()),
            closing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            config,
        }
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

    /// Remembers the flow; a new connection is announced and watched. Must be called inside the stack's own runtime.
    pub(crate) fn flow_seen(self: &Arc<Self>, handle: &TpHandle, remote: SocketAddr) -> Flow {
        let seen = self.flows.seen(handle, remote);
        for (id, reason) in seen.down {
            self.emit(StackEvent::FlowDown {
                id,
                reason: reason.to_owned(),
            });
        }
        if seen.up {
            self.emit(StackEvent::FlowUp(seen.flow));
            // Ends with the connection, of which the table keeps at most MAX_FLOWS.
            let (shared, state, id) = (self.clone(), handle.watch_state(), seen.flow.id);
            let ends = (handle.bound(), remote);
            tokio::spawn(async move {
                let reason = flows::closed(state, remote).await;
                shared.flows.closed(ends);
                if shared.flows.forget(id) {
                    shared.emit(StackEvent::FlowDown { id, reason });
                }
            });
        }
        seen.flow
    }

    /// Tells the server transactions something and does what they want done. Also says whether all of it could be sent.
    pub(crate) async fn serve<R>(
        &self,
        tell: impl FnOnce(&mut Transactions<Way>, std::time::Instant) -> R,
    ) -> (R, io::Result<()>) {
        let (result, mut outputs) = self.tell(tell);
        let mut sent = Ok(());
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Send { path, bytes, .. } => {
                    if let Err(error) = path.peer.send(&bytes).await {
                        tracing::debug!(%error, to = %path.peer.to, "an answer was not sent");
                        sent = Err(error);
                    }
                }
                Output::Request { tx, request, path } => {
                    let flow = path.flow;
                    let closing = self.closing.load(Ordering::Acquire);
                    if closing || self.try_emit(StackEvent::Request { tx, request, flow }).is_err() {
                        let refuse = |servers: &mut Transactions<Way>, now| {
                            servers.refuse(now, tx, 503, Some(RETRY_AFTER));
                        };
                        outputs.extend(self.tell(refuse).1);
                    }
                }
                Output::Ack { request, path } => self.emit(StackEvent::Ack {
                    request,
                    flow: path.flow,
                }),
                Output::Cancelled { invite } => self.emit(StackEvent::Cancelled { invite }),
                Output::Ended { tx, end } => self.emit(StackEvent::TxEnded { tx, end }),
                // Of a client transaction, and those are ezk's.
                Output::Response { .. } => (),
            }
        }
        (result, sent)
    }

    fn tell<R>(
        &self,
        tell: impl FnOnce(&mut Transactions<Way>, std::time::Instant) -> R,
    ) -> (R, VecDeque<Output<Way>>) {
        let clients = self.clients.lock().len();
        let mut servers = self.servers.lock();
        servers.set_max_transactions(self.config.max_transactions.saturating_sub(clients));
        let result = tell(&mut servers, Instant::now().into_std());
        let outputs = std::iter::from_fn(|| servers.poll()).collect();
        drop(servers);
        self.deadlines_moved.notify_one();
        (result, outputs)
    }

    /// Drives the server transactions' timers. Ends with its runtime.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            let moved = self.deadlines_moved.notified();
            let next = self.servers.lock().poll_timeout();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => (),
                        () = moved => continue,
                    }
                }
                None => {
                    moved.await;
                    continue;
                }
            }
            // What cannot be sent is logged there.
            let _ = self.serve(Transactions::handle_timeout).await;
        }
    }

    /// How many transactions have a user waiting.
    pub(crate) fn open(&self) -> usize {
        let clients = self.clients.lock().len();
        clients + self.servers.lock().active()
    }

    /// Ends every server transaction and every flow. (Clients end with their tasks.)
    pub(crate) fn let_go(&self, why: &str) {
        for output in self.tell(|servers, _| servers.end_all(why)).1 {
            if let Output::Ended { tx, end } = output {
                self.emit(StackEvent::TxEnded { tx, end });
            }
        }
        for id in self.flows.clear() {
            self.emit(StackEvent::FlowDown {
                id,
                reason: why.to_owned(),
            });
        }
    }
}

//! What the parts of one stack share, and what survives when ezk is started anew.

use crate::client::Client;
use crate::flows::{self, Flows};
use crate::server::ServerTransactions;
use bytes::Bytes;
use ezk_sip_core::transport::TpHandle;
use parking_lot::Mutex;
use siprtc_core::sip::{EventSink, Flow, SinkFull, StackConfig, StackEvent, TxId, TxIds, TxOwner};
use std::collections::HashMap;
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

pub(crate) struct Shared {
    pub(crate) config: StackConfig,
    sink: Arc<dyn EventSink>,
    pub(crate) ids: TxIds,
    pub(crate) flows: Flows,
    pub(crate) servers: Mutex<ServerTransactions<Peer>>,
    /// A server transaction's deadline may have moved forward.
    pub(crate) deadlines_moved: Notify,
    pub(crate) clients: Mutex<HashMap<TxId, Arc<Client>>>,
    pub(crate) closing: AtomicBool,
    /// The To-tag of answers that we give without a transaction: the ACK that brings it back is absorbed.
    pub(crate) stateless_tag: String,
    dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: StackConfig, sink: Arc<dyn EventSink>) -> Self {
        Shared {
            sink,
            ids: TxIds::new(TxOwner::STACK),
            flows: Flows::default(),
            servers: Mutex::new(ServerTransactions::new(config.timers, config.max_transactions)),
            deadlines_moved: Notify::new(),
            clients: Mutex::new(HashMap::new()),
            closing: AtomicBool::new(false),
            stateless_tag: crate::target::token("sl"),
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
            tokio::spawn(async move {
                let reason = flows::closed(state).await;
                if shared.flows.forget(id) {
                    shared.emit(StackEvent::FlowDown { id, reason });
                }
            });
        }
        seen.flow
    }

    /// Does what the server transactions have decided.
    pub(crate) async fn flush(&self) {
        loop {
            let (transmit, ended) = {
                let mut servers = self.servers.lock();
                (servers.poll_transmit(), servers.poll_ended())
            };
            if transmit.is_none() && ended.is_none() {
                return;
            }
            if let Some((tx, end)) = ended {
                self.emit(StackEvent::TxEnded { tx, end });
            }
            if let Some((peer, bytes)) = transmit
                && let Err(error) = peer.send(&bytes).await
            {
                tracing::debug!(%error, to = %peer.to, "a retransmission was not sent");
            }
        }
    }

    /// Drives the server transactions' timers. Ends with its runtime.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            let moved = self.deadlines_moved.notified();
            let next = self.servers.lock().poll_timeout();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => (),
                        () = moved => continue,
                    }
                }
                None => {
                    moved.await;
                    continue;
                }
            }
            self.servers.lock().handle_timeout(Instant::now());
            self.flush().await;
        }
    }

    /// How many transactions have a user waiting.
    pub(crate) fn open(&self) -> usize {
        self.clients.lock().len() + self.servers.lock().open()
    }

    /// Ends every server transaction and every flow. (Clients end with their tasks.)
    pub(crate) fn let_go(&self, why: &str) {
        let ended = {
            let mut servers = self.servers.lock();
            servers.fail_all(why);
            std::iter::from_fn(|| servers.poll_ended()).collect::<Vec<_>>()
        };
        for (tx, end) in ended {
            self.emit(StackEvent::TxEnded { tx, end });
        }
        for id in self.flows.clear() {
            self.emit(StackEvent::FlowDown {
                id,
                reason: why.to_owned(),
            });
        }
    }
}

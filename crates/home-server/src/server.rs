//! Does: one task that feeds the machine from the stack and carries out what it decides.

use crate::config::HomeConfig;
use crate::identity::listener_uri;
use crate::machine::{HomeStats, Machine, MachineConfig, Output};
use crate::registrar::{RegistrarConfig, Registration};
use crate::turn_server::TurnServer;
use parking_lot::Mutex;
use siprtc_core::Result;
use siprtc_core::sip::{
    EventSink, Feature, Listener, SinkFull, SipStack, SipStackFactory, SipUri, StackConfig, StackEvent,
    TxEnd, TxId,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Most events of the stack that wait for the task.
const EVENT_QUEUE: usize = 4096;
/// The part of the queue that new requests may not take: answers and ends of what is running go first. Policy when a
/// request finds less room: the stack answers it 503.
const RESERVED_FOR_RUNNING: usize = EVENT_QUEUE / 4;
/// Most requests and ACKs being handed to the stack at once (a connection may have to be opened first). Policy when
/// full: a request counts as not sent, which is a 503 on its branch; an ACK is dropped, as the network might.
const MAX_SENDING: usize = 4096;
/// How long running transactions get at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// A running registrar, forking proxy and TURN server.
///
/// It is no actix actor: it stands beside the endpoint as a server on another host would, its stack calls it from any
/// thread, and it must keep serving while an actor is restarted. One task on the runtime on which it was started runs
/// everything that is SIP; dropping the value without [`HomeServer::shutdown`] ends that task too.
#[derive(Debug)]
pub struct HomeServer {
    machine: Arc<Mutex<Machine>>,
    listeners: Vec<Listener>,
    overflowed: Arc<AtomicU64>,
    turn: Option<TurnServer>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl HomeServer {
    /// Binds everything and serves.
    ///
    /// # Errors
    /// [`Fault::ConfigInvalid`](siprtc_core::Fault::ConfigInvalid) for a configuration that cannot work, and what the
    /// stack says when it cannot bind.
    pub async fn start(config: HomeConfig, factory: Arc<dyn SipStackFactory>) -> Result<HomeServer> {
        config.validate()?;
        let turn = match config.turn {
            Some(turn) => Some(TurnServer::start(turn, &config.realm, &config.users)?),
            None => None,
        };
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let overflowed = Arc::new(AtomicU64::new(0));
        let sink = Arc::new(QueueSink {
            events,
            overflowed: overflowed.clone(),
        });
        let stack = match factory.start(stack_config(&config), sink).await {
            Ok(stack) => stack,
            Err(error) => {
                if let Some(turn) = turn {
                    turn.shutdown().await;
                }
                return Err(error);
            }
        };
        let listeners = stack.listeners();
        let keeps_udp = stack.capability().gap(Feature::StunAnswers).is_none();
        let machine = Machine::new(
            Instant::now().into_std(),
            machine_config(&config, listeners.clone(), keeps_udp)?,
        );
        let machine = Arc::new(Mutex::new(machine));
        let (stop, stopped) = oneshot::channel();
        let task = Task {
            machine: machine.clone(),
            stack,
            queue,
            sending: JoinSet::new(),
        };
        let task = tokio::spawn(task.run(stopped));
        Ok(HomeServer {
            machine,
            listeners,
            overflowed,
            turn,
            stop: Some(stop),
            task: Some(task),
        })
    }

    /// The outbound proxy and registrar to give to clients: the first listener, with `lr`.
    pub fn sip_uri(&self) -> SipUri {
        let mut uri = self.listeners.first().map(listener_uri).unwrap_or_else(|| {
            // A stack that starts without a listener has broken its port's contract; say so in an address that
            // nobody answers at.
            SipUri::from_addr(SocketAddr::from(([127, 0, 0, 1], 9)))
        });
        uri.params.set_flag("lr");
        uri
    }

    /// Where SIP is spoken.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Where STUN and TURN are spoken, over UDP.
    pub fn turn_addr(&self) -> Option<SocketAddr> {
        self.turn.as_ref().map(TurnServer::addr)
    }

    /// Who is registered, in the order of names.
    pub fn registrations(&self) -> Vec<Registration> {
        self.machine.lock().registrations(Instant::now().into_std())
    }

    /// What the server has done so far.
    pub fn stats(&self) -> HomeStats {
        HomeStats {
            overflowed: self.overflowed.load(Ordering::Relaxed),
            ..self.machine.lock().stats()
        }
    }

    /// TURN allocations at the moment.
    pub fn allocations(&self) -> usize {
        self.turn.as_ref().map_or(0, TurnServer::allocations)
    }

    /// Stops listening, gives running transactions half a second, and frees every port before it returns.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        if let Some(turn) = self.turn.take() {
            turn.shutdown().await;
        }
    }
}

fn stack_config(config: &HomeConfig) -> StackConfig {
    StackConfig {
        listeners: config.sip.clone(),
        user_agent: concat!("siprtc-home-server/", env!("CARGO_PKG_VERSION")).to_owned(),
        timers: config.timers,
        tls: config.tls.clone(),
        ..StackConfig::default()
    }
}

fn machine_config(config: &HomeConfig, listeners: Vec<Listener>, keeps_udp: bool) -> Result<MachineConfig> {
    Ok(MachineConfig {
        realm: config.realm.clone(),
        domain: config.domain()?,
        listeners,
        users: config.users.clone(),
        key: rand::random(),
        registrar: RegistrarConfig {
            min_expires: config.min_expires,
            max_expires: config.max_expires,
            max_bindings: config.max_bindings,
            max_users: config.max_users,
            flow_timer: config.flow_timer,
            keeps_udp,
        },
        max_forwarded: config.max_forwarded,
        t1: config.timers.t1,
        record_route: config.record_route,
    })
}

/// The stack's side of the queue.
struct QueueSink {
    events: mpsc::Sender<StackEvent>,
    overflowed: Arc<AtomicU64>,
}

impl EventSink for QueueSink {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        let begins = matches!(event, StackEvent::Request { .. });
        if begins && self.events.capacity() <= RESERVED_FOR_RUNNING {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return Err(SinkFull);
        }
        self.events.try_send(event).map_err(|_| SinkFull)
    }
}

/// Hands one request or ACK to the stack; a request that could not be sent comes back with its id.
type Sent = Option<(TxId, siprtc_core::Error)>;

struct Task {
    machine: Arc<Mutex<Machine>>,
    stack: Arc<dyn SipStack>,
    queue: mpsc::Receiver<StackEvent>,
    sending: JoinSet<Sent>,
}

impl Task {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let timeout = self.machine.lock().poll_timeout();
            let event = tokio::select! {
                // The sender's drop means that the HomeServer was dropped: stop as well.
                _ = &mut stopped => break,
                event = self.queue.recv() => match event {
                    Some(event) => Some(event),
                    None => break,
                },
                Some(sent) = self.sending.join_next() => match sent {
                    Ok(Some((tx, error))) => Some(failed(tx, &error)),
                    Ok(None) | Err(_) => continue,
                },
                () = sleep_until(timeout) => None,
            };
            self.step(event).await;
        }
        self.sending.abort_all();
        self.stack.shutdown(SHUTDOWN_GRACE).await;
    }

    /// One event, or none when it is time to look at the clock.
    async fn step(&mut self, event: Option<StackEvent>) {
        let now = Instant::now().into_std();
        match event {
            Some(event) => {
                trace(&event);
                self.machine.lock().handle(now, event);
            }
            None => self.machine.lock().handle_timeout(now),
        }
        loop {
            let output = self.machine.lock().poll();
            match output {
                Some(output) => self.perform(output).await,
                None => return,
            }
        }
    }

    async fn perform(&mut self, output: Output) {
        let stack = self.stack.clone();
        match output {
            Output::Request { tx, .. } if self.sending.len() >= MAX_SENDING => {
                let event = StackEvent::TxEnded {
                    tx,
                    end: TxEnd::Transport("too busy".to_owned()),
                };
                self.machine.lock().handle(Instant::now().into_std(), event);
            }
            Output::Request { tx, request, route } => {
                self.sending.spawn(async move {
                    stack
                        .send_request(tx, request, route)
                        .await
                        .err()
                        .map(|error| (tx, error))
                });
            }
            Output::Ack { .. } if self.sending.len() >= MAX_SENDING => {}
            Output::Ack { request, route } => {
                self.sending.spawn(async move {
                    if let Err(error) = stack.send_ack(request, route).await {
                        tracing::debug!(%error, "an ACK could not be forwarded");
                    }
                    None
                });
            }
            // In order, on one transaction: a 180 must not overtake its 100.
            Output::Respond { tx, response } => {
                let status = response.status;
                if let Err(error) = stack.respond(tx, response).await {
                    tracing::debug!(%tx, status, %error, "a response could not be sent");
                }
            }
            Output::Cancel { invite, extra } => {
                if let Err(error) = stack.cancel(invite, extra).await {
                    tracing::debug!(tx = %invite, %error, "a branch could not be cancelled");
                }
            }
        }
    }
}

/// A request that could not be handed over is a transaction that ended at once.
fn failed(tx: TxId, error: &siprtc_core::Error) -> StackEvent {
    tracing::debug!(%tx, %error, "a branch could not be sent");
    StackEvent::TxEnded {
        tx,
        end: TxEnd::Transport(error.to_string()),
    }
}

fn trace(event: &StackEvent) {
    match event {
        StackEvent::Request { tx, request, flow } => {
            tracing::debug!(%tx, method = %request.method, uri = %request.uri, from = %flow.remote, "request");
        }
        StackEvent::Response { tx, response, .. } => {
            tracing::debug!(%tx, status = response.status, "response");
        }
        StackEvent::ParseError { flow, error, .. } => {
            tracing::debug!(from = %flow.remote, %error, "not a SIP message");
        }
        _ => {}
    }
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{Flow, FlowId, SipRequest, Transport, TxIds, TxOwner};

    #[test]
    fn a_full_queue_refuses_requests_and_still_takes_what_is_running() {
        let (events, _queue) = mpsc::channel(EVENT_QUEUE);
        let sink = QueueSink {
            events,
            overflowed: Arc::default(),
        };
        let ids = TxIds::new(TxOwner::STACK);
        let addr = SocketAddr::from(([127, 0, 0, 1], 5060));
        let flow = Flow {
            id: FlowId(1),
            transport: Transport::Udp,
            local: addr,
            remote: addr,
        };
        let request = || StackEvent::Request {
            tx: ids.mint(),
            request: SipRequest::new(siprtc_core::sip::Method::Options, SipUri::from_addr(addr)),
            flow,
        };
        let taken = (0..EVENT_QUEUE)
            .take_while(|_| sink.try_emit(request()).is_ok())
            .count();
        assert_eq!(taken, EVENT_QUEUE - RESERVED_FOR_RUNNING);
        let over = || StackEvent::TxEnded {
            tx: ids.mint(),
            end: TxEnd::Done,
        };
        let running = (0..EVENT_QUEUE)
            .take_while(|_| sink.try_emit(over()).is_ok())
            .count();
        assert_eq!(running, RESERVED_FOR_RUNNING);
        assert_eq!(sink.overflowed.load(Ordering::Relaxed), 1);
    }
}

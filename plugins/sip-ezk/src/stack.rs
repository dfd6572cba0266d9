//! The running stack: hands every call to the engine's own runtime, and starts a new engine in place of a deaf one.

use crate::convert::{backend, misuse};
use crate::engine::{self, Engine};
use crate::shared::Shared;
use crate::{client, inbound};
use async_trait::async_trait;
use parking_lot::RwLock;
use siprtc_core::sip::{
    Feature, FlowId, Gap, Headers, Keepalive, Listener, ListenerConfig, Route, SipCapability, SipRequest,
    SipResponse, SipStack, StackEvent, Transport, TxId,
};
use siprtc_core::{Error, Fault, Result};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// How often the listeners of a deaf engine are bound anew before the stack gives up.
const RESTART_ATTEMPTS: usize = 100;

/// The pause between two of those attempts.
const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// How often a shutdown looks whether the last transaction has ended.
const GRACE_STEP: Duration = Duration::from_millis(10);

/// Most STUN keepalives under way at once; beyond it another is refused.
const MAX_KEEPALIVES: usize = 64;

/// How long a STUN keepalive waits for its answer.
const STUN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct EzkStack {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    engine: RwLock<Option<Arc<Engine>>>,
    keepalives: Arc<Semaphore>,
}

impl EzkStack {
    pub(crate) async fn start(shared: Arc<Shared>, wanted: &[ListenerConfig]) -> Result<Arc<Self>> {
        let engine = Engine::start(&shared, wanted).await?;
        let stack = Arc::new(EzkStack {
            shared,
            listeners: engine.listeners().to_vec(),
            engine: RwLock::new(Some(engine.clone())),
            keepalives: Arc::new(Semaphore::new(MAX_KEEPALIVES)),
        });
        if let Some(deaf) = engine.deaf() {
            tokio::spawn(supervise(Arc::downgrade(&stack), deaf));
        }
        Ok(stack)
    }

    fn engine(&self, operation: &'static str) -> Result<Arc<Engine>> {
        self.engine
            .read()
            .clone()
            .ok_or_else(|| engine::stopped(operation))
    }

    /// Runs `work` inside the engine's own runtime, from whichever runtime the caller is on.
    async fn run<W>(
        &self,
        operation: &'static str,
        work: impl FnOnce(Arc<Engine>, Arc<Shared>) -> W,
    ) -> Result<()>
    where
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let engine = self.engine(operation)?;
        let task = engine.work().spawn(work(engine.clone(), self.shared.clone()));
        match task.await {
            Ok(done) => done,
            Err(error) if error.is_panic() => Err(backend(operation, "ezk panicked").caused_by(error)),
            Err(_) if self.shared.closing.load(Ordering::Acquire) => Err(engine::stopped(operation)),
            Err(_) => {
                Err(backend(operation, "the stack is being started anew").advice("try again in a second"))
            }
        }
    }

    fn open_for_requests(&self, operation: &'static str) -> Result<()> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(engine::stopped(operation));
        }
        Ok(())
    }

    /// Puts a new engine in place of one whose UDP reader has died. The transactions under way are lost.
    async fn restart(&self) -> Option<Arc<Engine>> {
        const WHY: &str = "ezk's UDP reader died of a datagram and was started anew";
        tracing::error!("{WHY}");
        let deaf = self.engine.read().clone();
        if let Some(deaf) = deaf {
            deaf.stop().await;
        }
        self.shared.let_go(WHY);
        let again: Vec<ListenerConfig> = self.listeners.iter().map(same_again).collect();
        for _ in 0..RESTART_ATTEMPTS {
            match Engine::start(&self.shared, &again).await {
                Ok(engine) => return self.install(engine).await,
                Err(error) => tracing::warn!(%error, "the SIP stack is not back yet"),
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
        tracing::error!("the SIP stack could not be started anew");
        *self.engine.write() = None;
        None
    }

    /// Makes `engine` the one that is used, unless the stack was shut down meanwhile.
    async fn install(&self, engine: Arc<Engine>) -> Option<Arc<Engine>> {
        let installed = {
            let mut place = self.engine.write();
            // `shutdown` first says that it closes and then takes what it finds here.
            let open = !self.shared.closing.load(Ordering::Acquire);
            *place = open.then(|| engine.clone());
            open
        };
        if !installed {
            engine.stop().await;
        }
        installed.then_some(engine)
    }
}

impl Drop for EzkStack {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // Dropping the engine stops its threads, and with them its sockets.
        self.shared.let_go("the stack was dropped");
    }
}

pub(crate) const CAPABILITY: SipCapability = SipCapability {
    transports: &[Transport::Udp, Transport::Tcp, Transport::Tls],
    keepalives: &[Keepalive::Crlf, Keepalive::Stun],
    gaps: &[
        Gap {
            feature: Feature::AddressChanges,
            why: "ezk closes no connection whose own address is gone, so its listeners stay on the address they began with",
        },
        Gap {
            feature: Feature::AnswersMalformed,
            why: "ezk drops a message whose start line or whose From, To, Call-ID, CSeq or Via it cannot read",
        },
        Gap {
            feature: Feature::ConnectionLimit,
            why: "ezk accepts every connection, without asking and without a way to close one",
        },
        Gap {
            feature: Feature::FlowControl,
            why: "ezk chooses and closes connections itself",
        },
        Gap {
            feature: Feature::NonUtf8,
            why: "ezk drops a message whose head is not all UTF-8",
        },
        Gap {
            feature: Feature::OpenHandshakes,
            why: "ezk does the TLS handshake in its accept loop, so the next connection waits for it without end",
        },
        Gap {
            feature: Feature::OtherSchemes,
            why: "ezk drops a message with a tel: or urn: URI in its start line, From or To",
        },
        Gap {
            feature: Feature::QuotedNames,
            why: "ezk drops a message with an escaped quote in a display name in From or To",
        },
        Gap {
            feature: Feature::Rfc2543,
            why: "ezk drops a request without a tag in From when its branch is of another making",
        },
        Gap {
            feature: Feature::KeepaliveAnswers,
            why: "ezk pings on connections by itself, and tells nobody of an answer",
        },
        Gap {
            feature: Feature::StunAnswers,
            why: "ezk answers no STUN request",
        },
    ],
};

#[async_trait]
impl SipStack for EzkStack {
    fn capability(&self) -> SipCapability {
        CAPABILITY
    }

    fn listeners(&self) -> Vec<Listener> {
        self.listeners.clone()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        self.open_for_requests("send request")?;
        self.run("send request", |engine, shared| {
            client::send(engine, shared, tx, request, route)
        })
        .await
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        self.run("cancel", |_, shared| client::cancel(shared, invite, extra))
            .await
    }

    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()> {
        self.run("send ACK", |engine, shared| {
            client::send_ack(engine, shared, ack, route)
        })
        .await
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        self.run("respond", |_, shared| inbound::respond(shared, tx, response))
            .await
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        let keepalives = self.keepalives.clone();
        self.run("keepalive", move |engine, shared| {
            keepalive(engine, shared, keepalives, flow, kind)
        })
        .await
    }

    async fn close_flow(&self, _flow: FlowId) -> Result<()> {
        Err(unsupported(
            "ezk closes connections itself",
            "wait until the connection has idled out",
        ))
    }

    async fn shutdown(&self, grace: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        let deadline = tokio::time::Instant::now() + grace;
        while self.shared.open() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(GRACE_STEP).await;
        }
        let engine = self.engine.write().take();
        self.shared.let_go("the stack was shut down");
        if let Some(engine) = engine {
            engine.stop().await;
        }
    }
}

/// Waits for the engine to go deaf. Keeps neither the stack nor the engine alive.
async fn supervise(stack: Weak<EzkStack>, mut deaf: oneshot::Receiver<()>) {
    while deaf.await.is_ok() {
        let Some(stack) = stack.upgrade() else { return };
        match stack.restart().await.and_then(|engine| engine.deaf()) {
            Some(again) => deaf = again,
            None => return,
        }
    }
}

fn same_again(listener: &Listener) -> ListenerConfig {
    ListenerConfig {
        transport: listener.transport,
        bind: listener.bound,
        advertise: Some(listener.advertised),
    }
}

async fn keepalive(
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    keepalives: Arc<Semaphore>,
    id: FlowId,
    kind: Keepalive,
) -> Result<()> {
    const OPERATION: &str = "keepalive";
    let (flow, handle) = shared
        .flows
        .find(id)
        .ok_or_else(|| backend(OPERATION, format!("flow {} is gone", id.0)).advice("register again"))?;
    match kind {
        Keepalive::Crlf => handle.send(b"\r\n\r\n", flow.remote).await.map_err(|e| {
            backend(OPERATION, "the flow is dead")
                .caused_by(e)
                .advice("register again")
        }),
        Keepalive::Stun if flow.transport == Transport::Udp => {
            let busy = |_| backend(OPERATION, "too many STUN keepalives are unanswered").advice("send fewer");
            let permit = keepalives.try_acquire_owned().map_err(busy)?;
            let endpoint = engine.endpoint(OPERATION)?;
            tokio::spawn(async move {
                let asking = endpoint.discover_public_address(flow.remote, &handle);
                match tokio::time::timeout(STUN_TIMEOUT, asking).await {
                    Ok(Ok(mapped)) => shared.emit(StackEvent::KeepaliveAnswered {
                        flow: id,
                        mapped: Some(mapped),
                    }),
                    _ => tracing::debug!(flow = id.0, "STUN keepalive unanswered"),
                }
                drop(permit);
            });
            Ok(())
        }
        Keepalive::Stun => Err(unsupported(
            "STUN keepalives are for UDP",
            "send CRLF on a connection",
        )),
        _ => Err(misuse(OPERATION, "an unknown kind of keepalive")),
    }
}

fn unsupported(message: &str, advice: &str) -> Error {
    Error::new(Fault::Unsupported, "keepalive", message)
        .advice(advice)
        .backend(crate::NAME)
}

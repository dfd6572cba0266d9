//! The running stack: hands every call to the engine's thread.

use crate::convert::{misuse, stopped};
use crate::engine::{Asked, Command, Shared, Started};
use crate::target::{self, Socket};
use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::Result;
use siprtc_core::sip::{
    Feature, FlowId, Gap, Headers, Keepalive, Listener, Method, Route, SipCapability, SipRequest,
    SipResponse, SipStack, Transport, TxId,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What every stack of this plugin can do.
pub(crate) const CAPABILITY: SipCapability = SipCapability {
    transports: &[Transport::Tcp, Transport::Udp],
    keepalives: &[Keepalive::Crlf],
    gaps: &[
        Gap {
            feature: Feature::AddressChanges,
            why: "its adapter closes no connection whose own address is gone, so its listeners stay on the address they began with",
        },
        Gap {
            feature: Feature::EscapedNul,
            why: "sofia ends a header field at a NUL, also at one that is escaped in a display name, and drops the message",
        },
        Gap {
            feature: Feature::StunAnswers,
            why: "sofia answers STUN requests as RFC 3489 wants it, without XOR-MAPPED-ADDRESS, and sends none",
        },
    ],
};

pub(crate) struct SofiaStack {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    commands: mpsc::Sender<Asked>,
    /// The thread, until somebody has waited for it.
    thread: Mutex<Option<(JoinHandle<()>, oneshot::Receiver<()>)>>,
}

impl SofiaStack {
    pub(crate) fn new(started: Started) -> Self {
        SofiaStack {
            shared: started.shared,
            sockets: started.sockets,
            commands: started.commands,
            thread: Mutex::new(Some((started.thread, started.over))),
        }
    }

    async fn ask(&self, operation: &'static str, command: Command) -> Result<()> {
        let (outcome, done) = oneshot::channel();
        // Waits when COMMANDS calls are waiting already.
        if self.commands.send((command, outcome)).await.is_err() {
            return Err(stopped(operation));
        }
        self.shared.wake();
        done.await.unwrap_or_else(|_| Err(stopped(operation)))
    }

    fn open_for_requests(&self, operation: &'static str) -> Result<()> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(stopped(operation));
        }
        Ok(())
    }
}

impl Drop for SofiaStack {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

#[async_trait]
impl SipStack for SofiaStack {
    fn capability(&self) -> SipCapability {
        CAPABILITY
    }

    fn listeners(&self) -> Vec<Listener> {
        let sockets = self.sockets.iter().filter(|socket| socket.listens);
        sockets.map(|socket| socket.listener).collect()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        const OPERATION: &str = "send request";
        self.open_for_requests(OPERATION)?;
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return Err(
                misuse(OPERATION, format!("{} begins no transaction", request.method))
                    .advice("use send_ack or cancel"),
            );
        }
        let destination = target::destination(&self.sockets, &request, &route, OPERATION).await?;
        self.ask(OPERATION, Command::Request(tx, request, destination))
            .await
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        self.ask("cancel", Command::Cancel(invite, extra)).await
    }

    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()> {
        const OPERATION: &str = "send ACK";
        let destination = target::destination(&self.sockets, &ack, &route, OPERATION).await?;
        self.ask(OPERATION, Command::Ack(ack, destination)).await
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        self.ask("respond", Command::Respond(tx, response)).await
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        self.ask("keepalive", Command::Keepalive(flow, kind)).await
    }

    async fn close_flow(&self, flow: FlowId) -> Result<()> {
        self.ask("close flow", Command::CloseFlow(flow)).await
    }

    async fn shutdown(&self, grace: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        let _ = tokio::time::timeout(grace, self.shared.idle.reached()).await;
        self.shared.stop();
        let thread = self.thread.lock().take();
        if let Some((thread, over)) = thread {
            let _ = over.await;
            // It has let everything go and is on its last instructions.
            let _ = thread.join();
        }
    }
}

//! The port.

use crate::convert::{backend, unsupported};
use crate::peer::Peer;
use crate::shared::{Shared, stopped};
use crate::{client, server};
use async_trait::async_trait;
use siprtc_core::Result;
use siprtc_core::sip::{
    Feature, FlowId, Gap, Headers, Keepalive, Listener, Route, SipCapability, SipRequest, SipResponse,
    SipStack, Transport, TxId,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often a shutdown looks whether the running transactions have ended.
const GRACE_STEP: Duration = Duration::from_millis(10);

/// Longest wait for the tasks to end: each has a connection to say goodbye on.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct RsipstackStack {
    shared: Arc<Shared>,
}

impl RsipstackStack {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        RsipstackStack { shared }
    }

    fn open(&self, operation: &'static str) -> Result<&Arc<Shared>> {
        match self.shared.closing.load(Ordering::Acquire) {
            true => Err(stopped(operation)),
            false => Ok(&self.shared),
        }
    }
}

impl Drop for RsipstackStack {
    fn drop(&mut self) {
        self.shared.let_go("the stack was dropped");
    }
}

pub(crate) const CAPABILITY: SipCapability = SipCapability {
    transports: &[
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Ws,
        Transport::Wss,
    ],
    keepalives: &[Keepalive::Crlf, Keepalive::Stun],
    gaps: &[
        Gap {
            feature: Feature::AddressChanges,
            why: "its adapter closes no connection whose own address is gone, so its listeners stay on the address they began with",
        },
        Gap {
            feature: Feature::UnknownMethods,
            why: "rsipstack's methods are a closed list: a request with another is answered 501, or not sent",
        },
    ],
};

#[async_trait]
impl SipStack for RsipstackStack {
    fn capability(&self) -> SipCapability {
        CAPABILITY
    }

    fn listeners(&self) -> Vec<Listener> {
        self.shared.listeners().to_vec()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        client::send(self.open("send request")?, tx, request, route).await
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        client::cancel(&self.shared, invite, extra).await
    }

    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()> {
        client::send_ack(&self.shared, ack, route).await
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        server::respond(&self.shared, tx, response).await
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        const OPERATION: &str = "keepalive";
        match crate::target::over_flow(&self.shared, flow, OPERATION)? {
            Peer::Udp { socket, to, .. } => socket.keepalive(flow, to, kind).await,
            Peer::Connection(_) if kind == Keepalive::Stun => {
                Err(unsupported(OPERATION, "STUN keepalives are for UDP").advice("send CRLF on a connection"))
            }
            Peer::Connection(connection) => {
                let dead = |error| {
                    backend(OPERATION, "the flow is dead")
                        .caused_by(error)
                        .advice("register again")
                };
                connection.ping().map_err(dead)
            }
        }
    }

    async fn close_flow(&self, flow: FlowId) -> Result<()> {
        const OPERATION: &str = "close flow";
        match crate::target::over_flow(&self.shared, flow, OPERATION)? {
            Peer::Connection(connection) => connection.close("its user closed it"),
            Peer::Udp { .. } => (),
        }
        Ok(())
    }

    async fn shutdown(&self, grace: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        let deadline = Instant::now() + grace;
        while self.shared.open() > 0 && Instant::now() < deadline {
            sleep(GRACE_STEP).await;
        }
        self.shared.let_go("the stack was shut down");
        if timeout(STOP_TIMEOUT, self.shared.wait()).await.is_err() {
            tracing::warn!("a task of the SIP stack has not ended yet");
        }
    }
}

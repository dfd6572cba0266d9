//! The running stack: the port's calls.

use crate::MessageParser;
use crate::complete;
use crate::engine::{Engine, Parts};
use crate::listen::{self, Bound};
use crate::path::{MAX_UDP, Path, is_gone};
use crate::target;
use crate::tls::Tls;
use crate::udp::{self, UdpSockets};
use async_trait::async_trait;
use siprtc_core::sip::{
    EventSink, FlowId, Gap, Headers, Keepalive, Listener, Route, SipCapability, SipRequest, SipResponse,
    SipStack, StackConfig, Transport, TxId,
};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::time::Duration;

const TRANSPORTS: &[Transport] = &[
    Transport::Udp,
    Transport::Tcp,
    Transport::Tls,
    Transport::Ws,
    Transport::Wss,
];

const KEEPALIVES: &[Keepalive] = &[Keepalive::Crlf, Keepalive::Stun];

pub(crate) const fn capability(gaps: &'static [Gap]) -> SipCapability {
    SipCapability {
        transports: TRANSPORTS,
        keepalives: KEEPALIVES,
        gaps,
    }
}

/// Its tasks hold the engine; when its user lets go of this, they end.
pub(crate) struct Stack(Arc<Engine>);

impl Stack {
    pub(crate) fn start(
        name: &'static str,
        parser: Arc<dyn MessageParser>,
        gaps: &'static [Gap],
        mut config: StackConfig,
        sink: Arc<dyn EventSink>,
    ) -> Result<Self> {
        let named = |error: Error| error.backend(name);
        check(&config).map_err(named)?;
        let tls = Tls::new(std::mem::take(&mut config.tls), &config.listeners).map_err(named)?;
        let (mut listeners, mut streams, mut udp) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in &config.listeners {
            let (listener, bound) = listen::bind(wanted).map_err(named)?;
            listeners.push(listener);
            match bound {
                Bound::Stream(socket) => streams.push((listener, socket)),
                Bound::Udp(socket) => udp.push(Arc::new(socket)),
            }
        }
        let engine = Arc::new(Engine::new(Parts {
            name,
            gaps,
            parser,
            config,
            sink,
            listeners,
            udp: UdpSockets::new(udp.clone()),
            tls,
        }));
        engine.spawn(engine.clone().run_timers());
        for (number, socket) in (0..).zip(udp) {
            engine.spawn(udp::receive(engine.clone(), number, socket));
        }
        for (listener, socket) in streams {
            engine.spawn(listen::accept(engine.clone(), listener, socket));
        }
        Ok(Stack(engine))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.0.end("the stack was dropped");
    }
}

#[async_trait]
impl SipStack for Stack {
    fn capability(&self) -> SipCapability {
        capability(self.0.gaps)
    }

    fn listeners(&self) -> Vec<Listener> {
        self.0.listeners.clone()
    }

    async fn send_request(&self, tx: TxId, mut request: SipRequest, route: Route) -> Result<()> {
        const OPERATION: &str = "send request";
        let engine = &self.0;
        let named = |error: Error| error.backend(engine.name);
        engine.open_for_requests(OPERATION)?;
        complete::begins_transaction(&request.method, OPERATION).map_err(named)?;
        complete::request(&mut request, &engine.config.user_agent, OPERATION).map_err(named)?;
        let target = target::find(engine, &request, &route, OPERATION).await?;
        engine.open_for_requests(OPERATION)?;
        request.headers.push_front("Via", target.new_via());
        let sent = engine.input(|machine, now| machine.send_request(now, tx, request, target.path));
        sent.map_err(named)
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        let named = |error: Error| error.backend(self.0.name);
        complete::check_headers(&extra, "cancel").map_err(named)?;
        let cancelled = self.0.input(|machine, now| machine.cancel(invite, now, &extra));
        cancelled.map_err(named)
    }

    async fn send_ack(&self, mut ack: SipRequest, route: Route) -> Result<()> {
        const OPERATION: &str = "send ACK";
        let engine = &self.0;
        complete::request(&mut ack, &engine.config.user_agent, OPERATION)
            .map_err(|e| e.backend(engine.name))?;
        let target = target::find(engine, &ack, &route, OPERATION).await?;
        ack.headers.push_front("Via", target.new_via());
        engine.send(&target.path, ack.to_bytes()).map_err(|why| {
            engine
                .error(Fault::Backend, OPERATION, why)
                .advice("the peer repeats its 2xx, so try again then")
        })
    }

    async fn respond(&self, tx: TxId, mut response: SipResponse) -> Result<()> {
        let named = |error: Error| error.backend(self.0.name);
        complete::response(&mut response, &self.0.config.user_agent, "respond").map_err(named)?;
        let answered = self.0.input(|machine, now| machine.respond(now, tx, response));
        answered.map_err(named)
    }

    async fn keepalive(&self, id: FlowId, kind: Keepalive) -> Result<()> {
        const OPERATION: &str = "keepalive";
        let engine = &self.0;
        let unsupported = |message: &str, advice: &str| {
            Err(engine
                .error(Fault::Unsupported, OPERATION, message)
                .advice(advice))
        };
        let path = match engine.udp_flows.find(id) {
            Some(path) => Some(Path::Udp(path)),
            None => engine.connections.find(id).map(Path::Connection),
        };
        let gone = || {
            engine
                .error(Fault::Backend, OPERATION, format!("flow {} is gone", id.0))
                .advice("register again")
        };
        let sent = match (path.ok_or_else(gone)?, kind) {
            // Nobody answers it there (RFC 5626 section 3.5.1), but it keeps the binding of a NAT open.
            (Path::Udp(path), Keepalive::Crlf) => engine.send_udp(&path, b"\r\n\r\n"),
            (Path::Udp(path), Keepalive::Stun) => engine.probe(&path),
            (Path::Connection(connection), Keepalive::Crlf) => connection.ping(),
            (Path::Connection(_), Keepalive::Stun) => {
                return unsupported("STUN keepalives are for UDP", "send CRLF on a connection");
            }
            _ => return unsupported("an unknown kind of keepalive", "use CRLF or STUN"),
        };
        sent.map_err(|why| {
            engine
                .error(Fault::Backend, OPERATION, why)
                .advice("register again")
        })
    }

    async fn close_flow(&self, id: FlowId) -> Result<()> {
        if self.0.udp_flows.find(id).is_some() {
            return Ok(());
        }
        let connection = self.0.connections.find(id).ok_or_else(|| {
            self.0
                .error(Fault::Backend, "close flow", format!("flow {} is gone", id.0))
                .advice("nothing is left to close")
        })?;
        connection.close("its user closed it");
        Ok(())
    }

    fn addresses_changed(&self) {
        self.0.udp_flows.forget_sources();
        self.0.connections.close_from(is_gone);
    }

    async fn shutdown(&self, grace: Duration) {
        // On the stack's own runtime, whose clock its timers read. When that is gone, so is the stack.
        let _ = self.0.runtime.spawn(self.0.clone().shutdown(grace)).await;
    }
}

fn check(config: &StackConfig) -> Result<()> {
    let wrong = |message: &str| Error::new(Fault::ConfigInvalid, "start SIP stack", message);
    if config.listeners.len() > MAX_UDP {
        return Err(wrong("there are too many listeners").advice("one on 0.0.0.0 hears all addresses"));
    }
    if config.timers.t1.is_zero() || config.timers.t2 < config.timers.t1 {
        return Err(wrong("timer T1 must not be 0 and T2 not less than T1")
            .advice("leave the timers at their defaults of 500 ms and 4 s"));
    }
    if config.user_agent.contains(['\r', '\n', '\0']) {
        return Err(wrong("user_agent contains a line break").advice("write it on one line"));
    }
    Ok(())
}

//! The decorator: every request is sent to an address that was found for it, and to the next when that fails.

use crate::cache::DEAD_FOR;
use crate::config::{LocateConfig, ROOT};
use crate::failover::{Cancelling, Do, Failed, Failover, Order, Sending};
use crate::finder::Finder;
use crate::machine::{Target, Usable};
use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::sip::{
    EventSink, FlowId, Headers, Host, Keepalive, Listener, Route, SinkFull, SipCapability, SipRequest,
    SipResponse, SipStack, SipStackFactory, SipUri, StackConfig, StackEvent, Transport, TxEnd, TxId, Uri,
};
use siprtc_core::{Error, Fault, Result};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// What a stack adds to a request before it is on the wire: its Via, Max-Forwards, User-Agent, Content-Length
/// (RFC 3261 section 18.1.1 leaves as much to the path).
const ADDED: usize = 200;

/// Most targets that an ACK is offered to: it has no transaction that could fail over later.
const ACK_TARGETS: usize = 3;

/// The same stacks, with RFC 3263 before them.
///
/// A stack that is started so finds the targets of every request that goes over no given flow, and gives the one
/// below only addresses to send to. When a target fails (its transport, a timeout without any answer, or a 503) the
/// next one is tried in a new transaction; what its user sees is one. Without a name in it a request costs next to
/// nothing. The resolver is made when a name is first met.
pub fn located(inner: Arc<dyn SipStackFactory>, config: LocateConfig) -> Arc<dyn SipStackFactory> {
    Arc::new(LocatedFactory { inner, config })
}

struct LocatedFactory {
    inner: Arc<dyn SipStackFactory>,
    config: LocateConfig,
}

#[async_trait]
impl SipStackFactory for LocatedFactory {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capability(&self) -> Option<SipCapability> {
        self.inner.capability()
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        let core = Arc::new(Core {
            below: OnceLock::new(),
            failover: Mutex::new(Failover::new(config.max_transactions)),
            sink,
        });
        let stack = self.inner.start(config, Arc::new(Tap(core.clone()))).await?;
        let usable = usable(self.name(), &*stack, &self.config);
        let finder = Arc::new(Finder::new(self.config.clone(), usable));
        // Until here no transaction was ours.
        let _ = core.below.set((Arc::downgrade(&stack), finder.clone()));
        Ok(Arc::new(Located { stack, finder, core }))
    }
}

fn usable(name: &'static str, stack: &dyn SipStack, config: &LocateConfig) -> Usable {
    let listeners = stack.listeners();
    let udp = |v4: bool| {
        listeners
            .iter()
            .any(|l| l.transport == Transport::Udp && l.bound.is_ipv4() == v4)
    };
    let (udp_v4, udp_v6) = (udp(true), udp(false));
    let spoken = stack.capability().transports.iter().copied();
    Usable {
        stack: name,
        transports: spoken
            .filter(|transport| *transport != Transport::Udp || udp_v4 || udp_v6)
            .collect(),
        udp_v4,
        udp_v6,
        ipv6: config.ipv6,
    }
}

/// What the stack below and its user share. The stack holds it through its sink, so it holds the stack only weakly.
struct Core {
    below: OnceLock<(Weak<dyn SipStack>, Arc<Finder>)>,
    failover: Mutex<Failover>,
    sink: Arc<dyn EventSink>,
}

struct Tap(Arc<Core>);

impl EventSink for Tap {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        let todo = match event {
            StackEvent::Response { tx, response, flow } if Failover::owns(tx) => {
                self.0.failover.lock().response(tx, response, flow)
            }
            StackEvent::TxEnded { tx, end } if Failover::owns(tx) => self.0.failover.lock().ended(tx, end),
            other => return self.0.sink.try_emit(other),
        };
        self.0.run(todo)
    }
}

impl Core {
    fn run(self: &Arc<Self>, todo: Vec<Do>) -> Result<(), SinkFull> {
        let mut taken = Ok(());
        for what in todo {
            if let Do::Emit(event) = what {
                taken = self.sink.try_emit(*event);
                continue;
            }
            let Some((stack, finder)) = self.below.get() else {
                continue;
            };
            match what {
                Do::Alive(target) => finder.is_alive(target),
                Do::Dead(target, time) => finder.is_dead(target, time),
                Do::Cancel(inner, extra) => {
                    let stack = stack.upgrade();
                    // Ends with the call; there is one for each cancelled INVITE.
                    finder.runtime().spawn(async move {
                        if let Some(stack) = stack
                            && let Err(error) = stack.cancel(inner, extra).await
                        {
                            tracing::debug!(%error, "a CANCEL was not sent");
                        }
                    });
                }
                Do::Send(sending) => {
                    let (core, stack) = (self.clone(), stack.upgrade());
                    // Ends when one of its targets is tried; `Failover` bounds how many there are.
                    finder.runtime().spawn(async move {
                        let Some(stack) = stack else { return };
                        if let Err((tx, error)) = core.send(&*stack, sending).await {
                            let end = TxEnd::Transport(error.to_string());
                            let _ = core.sink.try_emit(StackEvent::TxEnded { tx, end });
                        }
                    });
                }
                Do::Emit(_) => {}
            }
        }
        taken
    }

    /// Begins attempts until the stack takes one. The error is that of the last.
    async fn send(&self, stack: &dyn SipStack, mut sending: Sending) -> Result<(), (TxId, Error)> {
        loop {
            let Sending { inner, target, order } = sending;
            let path = self
                .below
                .get()
                .map_or(ROOT, |(_, finder)| &finder.config().websocket_path);
            let route = route(target, &order.server_name, order.fresh, path);
            let Err(error) = stack.send_request(inner, order.request.clone(), route).await else {
                return Ok(());
            };
            // What is wrong with the request is so for every target.
            let ours = error.fault() == Fault::ApiMisuse;
            if let Some((_, finder)) = self.below.get()
                && !ours
            {
                finder.is_dead(target, DEAD_FOR);
            }
            sending = match self.failover.lock().failed(inner, !ours) {
                Failed::GaveUp(outer) => return Err((outer, error)),
                Failed::Known => return Ok(()),
                Failed::Next(next) => next,
            };
            tracing::debug!(%error, next = %sending.target.addr, "the next SIP target is tried");
        }
    }
}

struct Located {
    stack: Arc<dyn SipStack>,
    finder: Arc<Finder>,
    core: Arc<Core>,
}

impl Located {
    /// Where `request` may go, best first, and the name that it was found by.
    async fn targets(
        &self,
        request: &SipRequest,
        route: &Route,
        operation: &'static str,
    ) -> Result<(Vec<Target>, Option<String>)> {
        let uri = next_hop(request, route, operation)?;
        let found = self.finder.targets(&uri, operation).await?;
        let mut targets = self.by_size(found, request);
        self.finder.put_dead_last(&mut targets);
        let name = route.server_name.clone().or_else(|| certified_name(&uri));
        Ok((targets, name))
    }

    async fn send_to(&self, target: Target, tx: TxId, order: Order) -> Result<()> {
        let path = &self.finder.config().websocket_path;
        let route = route(target, &order.server_name, order.fresh, path);
        self.stack.send_request(tx, order.request, route).await
    }

    /// RFC 3261 section 18.1.1: what may not fit into a datagram goes over TCP, and over UDP where TCP fails.
    fn by_size(&self, found: Vec<Target>, request: &SipRequest) -> Vec<Target> {
        let may_switch = |target: &Target| target.transport == Transport::Udp && !target.forced;
        let usable = &self.finder.usable().transports;
        if !usable.contains(&Transport::Tcp)
            || !found.iter().any(may_switch)
            || size(request) + ADDED <= self.finder.config().udp_limit
        {
            return found;
        }
        let mut targets = Vec::with_capacity(2 * found.len());
        for target in found {
            let tcp = Target {
                transport: Transport::Tcp,
                ..target
            };
            for choice in [tcp, target].into_iter().skip(usize::from(!may_switch(&target))) {
                if !targets.contains(&choice) {
                    targets.push(choice);
                }
            }
        }
        targets
    }
}

#[async_trait]
impl SipStack for Located {
    fn capability(&self) -> SipCapability {
        self.stack.capability()
    }

    fn listeners(&self) -> Vec<Listener> {
        self.stack.listeners()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        if route.flow.is_some() {
            return self.stack.send_request(tx, request, route).await;
        }
        const OPERATION: &str = "send request";
        let (targets, server_name) = self.targets(&request, &route, OPERATION).await?;
        let order = Order {
            request,
            server_name,
            fresh: route.fresh,
        };
        let first = match targets.split_first() {
            None => return Err(runtime_gone(OPERATION)),
            // Nothing to fail over to, and nothing to keep.
            Some((only, [])) => return self.send_to(*only, tx, order).await,
            Some((first, _)) => *first,
        };
        let order = Arc::new(order);
        let begun = self.core.failover.lock().begin(tx, &targets, order.clone());
        let Some(sending) = begun else {
            return self.send_to(first, tx, Arc::unwrap_or_clone(order)).await;
        };
        let (core, stack) = (self.core.clone(), self.stack.clone());
        // A task, so that it is carried through even if its caller is dropped.
        let task = self
            .finder
            .runtime()
            .spawn(async move { core.send(&*stack, sending).await });
        match task.await {
            Ok(sent) => sent.map_err(|(_, error)| error),
            Err(_) => Err(runtime_gone(OPERATION)),
        }
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        let cancelling = self.core.failover.lock().cancel(invite, extra);
        match cancelling {
            Ok(Cancelling::Held) => Ok(()),
            Ok(Cancelling::Now(inner, extra)) => self.stack.cancel(inner, extra).await,
            Err(extra) => self.stack.cancel(invite, extra).await,
        }
    }

    async fn send_ack(&self, ack: SipRequest, given: Route) -> Result<()> {
        if given.flow.is_some() {
            return self.stack.send_ack(ack, given).await;
        }
        let (targets, server_name) = self.targets(&ack, &given, "send ACK").await?;
        let path = &self.finder.config().websocket_path;
        let mut sent = Err(runtime_gone("send ACK"));
        for target in targets.into_iter().take(ACK_TARGETS) {
            sent = self
                .stack
                .send_ack(ack.clone(), route(target, &server_name, given.fresh, path))
                .await;
            match &sent {
                Err(error) if error.fault() != Fault::ApiMisuse => self.finder.is_dead(target, DEAD_FOR),
                _ => break,
            }
        }
        sent
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        self.stack.respond(tx, response).await
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        self.stack.keepalive(flow, kind).await
    }

    async fn close_flow(&self, flow: FlowId) -> Result<()> {
        self.stack.close_flow(flow).await
    }

    fn addresses_changed(&self) {
        // What was not reached from the old ones says nothing of the new ones.
        self.finder.forget_dead();
        self.stack.addresses_changed();
    }

    async fn shutdown(&self, grace: Duration) {
        self.core.failover.lock().close();
        self.stack.shutdown(grace).await;
    }
}

/// RFC 3261 section 8.1.2: an explicit hop, else the topmost Route, else the Request-URI.
fn next_hop(request: &SipRequest, route: &Route, operation: &'static str) -> Result<SipUri> {
    if let Some(hop) = &route.next_hop {
        return Ok(hop.clone());
    }
    let unreadable =
        |error| Error::new(Fault::ApiMisuse, operation, "the Route cannot be read").caused_by(error);
    let uri = match request.headers.routes().map_err(unreadable)?.into_iter().next() {
        Some(top) => top.uri,
        None => request.uri.clone(),
    };
    match uri {
        Uri::Sip(uri) => Ok(uri),
        Uri::Other(text) => Err(
            Error::new(Fault::Unsupported, operation, format!("no way to reach {text}"))
                .advice("give a next hop, such as the account's outbound proxy"),
        ),
    }
}

/// RFC 5922 section 7.1: the domain that was asked for, whatever the DNS made of it.
fn certified_name(uri: &SipUri) -> Option<String> {
    match &uri.host {
        Host::Name(name) => Some(name.trim_end_matches('.').to_owned()),
        Host::Ip(_) => None,
    }
}

fn route(target: Target, server_name: &Option<String>, fresh: bool, path: &str) -> Route {
    let plain = matches!(target.transport, Transport::Tcp | Transport::Udp);
    let websocket = matches!(target.transport, Transport::Ws | Transport::Wss);
    let mut server_name = server_name.clone().filter(|_| !plain);
    let has_path = |name: &String| name.contains('/');
    if websocket && path != ROOT && !server_name.as_ref().is_some_and(has_path) {
        let name = server_name.unwrap_or_else(|| target.addr.ip().to_string());
        server_name = Some(name + path);
    }
    Route {
        next_hop: Some(SipUri::from_addr(target.addr).with_transport(target.transport)),
        server_name,
        fresh,
        ..Route::default()
    }
}

/// In octets, as it is handed in.
fn size(request: &SipRequest) -> usize {
    let headers: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let line = request.method.as_str().len() + request.uri.to_string().len() + " SIP/2.0\r\n ".len();
    line + headers + 2 + request.body.len()
}

fn runtime_gone(operation: &'static str) -> Error {
    Error::new(Fault::Backend, operation, "the stack's runtime has ended").advice("start the stack again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_websocket_stands_behind_the_name() {
        let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 8088));
        let named = |transport, name: Option<&str>, path| {
            let target = Target {
                transport,
                addr,
                forced: false,
            };
            route(target, &name.map(str::to_owned), false, path).server_name
        };
        let name = Some("pbx.example.com");
        let is = |found: Option<String>, wanted: Option<&str>| assert_eq!(found.as_deref(), wanted);
        is(named(Transport::Wss, name, "/ws"), Some("pbx.example.com/ws"));
        is(named(Transport::Ws, None, "/ws"), Some("192.0.2.1/ws"));
        is(named(Transport::Wss, name, ROOT), name);
        is(named(Transport::Tls, name, "/ws"), name);
        is(named(Transport::Udp, name, "/ws"), None);
        let own = Some("pbx.example.com/own");
        is(named(Transport::Ws, own, "/ws"), own);
    }
}

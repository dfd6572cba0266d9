//! Decides: what a registrar and proxy does with a request, without I/O and without a clock.
//!
//! **After every [`Machine::handle`] and [`Machine::handle_timeout`], call [`Machine::poll`] until it returns `None` and
//! do what it said in that order; call `handle_timeout` when [`Machine::poll_timeout`] says so.**

use crate::config::Users;
use crate::gate::{Asking, Gate};
use crate::identity::Identity;
use crate::proxy::{Proxy, Target};
use crate::refusal::{Refusal, answer};
use crate::registrar::{Binding, Registrar, RegistrarConfig, Registration};
use siprtc_core::sip::{
    Flow, Headers, Host, Listener, Method, NameAddr, Route, SipRequest, SipResponse, SipUri, StackEvent,
    Transport, TxId, Uri,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a request may pass through this server on its way before it is called a loop (482). A call from one user
/// to another through a second proxy is here twice.
const MAX_VISITS: usize = 3;
/// Max-Forwards of a request that has none (RFC 3261 section 16.6 step 3).
const MAX_FORWARDS: u8 = 70;
/// What the server itself can be asked.
const ALLOW: &str = "REGISTER, OPTIONS";

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Forward the ACK of a 2xx.
    Ack { request: SipRequest, route: Route },
    /// Cancel a branch.
    Cancel { invite: TxId, extra: Headers },
    /// Begin a client transaction.
    Request {
        tx: TxId,
        request: SipRequest,
        route: Route,
    },
    /// Answer a server transaction.
    Respond { tx: TxId, response: SipResponse },
}

/// How a machine is set up.
#[derive(Debug)]
pub(crate) struct MachineConfig {
    pub(crate) realm: String,
    pub(crate) domain: Host,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) users: Users,
    /// Random and secret: nonces, tags and the marks in Record-Route are made with it.
    pub(crate) key: [u8; 32],
    pub(crate) registrar: RegistrarConfig,
    pub(crate) max_forwarded: usize,
    pub(crate) t1: Duration,
    pub(crate) record_route: bool,
}

/// What a server has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HomeStats {
    /// Requests received, ACK and CANCEL not counted.
    pub requests: u64,
    /// Branches begun: copies of requests that went out.
    pub branches: u64,
    /// Requests that the server answered itself with 300 or above, challenges included.
    pub refused: u64,
    /// Requests forwarded and not over yet.
    pub forwarding: usize,
    /// Requests that the stack refused with 503 because the server's queue was full.
    pub overflowed: u64,
}

/// The registrar and proxy.
#[derive(Debug)]
pub(crate) struct Machine {
    identity: Identity,
    gate: Gate,
    registrar: Registrar,
    proxy: Proxy,
    record_route: bool,
    stats: HomeStats,
    out: VecDeque<Output>,
}

impl Machine {
    pub(crate) fn new(now: Instant, config: MachineConfig) -> Self {
        let MachineConfig {
            realm,
            domain,
            listeners,
            users,
            key,
            registrar,
            ..
        } = config;
        Machine {
            identity: Identity {
                domain,
                listeners,
                key,
            },
            gate: Gate::new(now, &realm, users, key),
            registrar: Registrar::new(registrar),
            proxy: Proxy::new(config.max_forwarded, config.t1),
            record_route: config.record_route,
            stats: HomeStats::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes what the stack has to say.
    pub(crate) fn handle(&mut self, now: Instant, event: StackEvent) {
        match event {
            StackEvent::Ack { request, flow } => self.ack(now, request, flow),
            StackEvent::Cancelled { invite } => {
                self.proxy.cancelled(now, invite, &self.identity, &mut self.out);
            }
            StackEvent::FlowDown { id, .. } => self.registrar.flow_down(id),
            StackEvent::Request { tx, request, flow } => self.request(now, tx, request, flow),
            StackEvent::Response { tx, response, .. } => {
                self.proxy
                    .response(now, tx, response, &self.identity, &mut self.out);
            }
            StackEvent::TxEnded { tx, end } => {
                self.proxy.ended(now, tx, end, &self.identity, &mut self.out);
            }
            // FlowUp and ParseError: nothing to decide.
            _ => {}
        }
    }

    /// Fires what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.registrar.sweep(now);
        self.proxy.timeout(now, &self.identity, &mut self.out);
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.out.pop_front();
        if matches!(output, Some(Output::Request { .. })) {
            self.stats.branches += 1;
        }
        output
    }

    /// When [`Machine::handle_timeout`] is wanted.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.proxy.next_timeout(), self.registrar.next_sweep()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Everything that is registered.
    pub(crate) fn registrations(&self, now: Instant) -> Vec<Registration> {
        self.registrar.registrations(now)
    }

    pub(crate) fn stats(&self) -> HomeStats {
        HomeStats {
            forwarding: self.proxy.len(),
            ..self.stats
        }
    }

    fn request(&mut self, now: Instant, tx: TxId, request: SipRequest, flow: Flow) {
        self.stats.requests += 1;
        let received = request.clone();
        if let Err(refusal) = self.process(now, tx, request, flow) {
            self.stats.refused += 1;
            let response = refusal.answer(&received, &self.identity);
            self.out.push_back(Output::Respond { tx, response });
        }
    }

    /// RFC 3261 sections 16.3 to 16.6.
    fn process(
        &mut self,
        now: Instant,
        tx: TxId,
        mut request: SipRequest,
        flow: Flow,
    ) -> Result<(), Refusal> {
        request.validate().map_err(|_| Refusal::new(400))?;
        let received = request.clone();
        let marked = self.strip_own_routes(&mut request)?;
        let Some(uri) = request.uri.as_sip().cloned() else {
            return Err(Refusal::new(416));
        };
        if uri.secure && !self.identity.speaks(Transport::Tls) {
            return Err(Refusal::new(416));
        }
        let here = !request.headers.contains("Route") && self.identity.is_own(&uri);
        if here && (uri.user.is_none() || request.method == Method::Register) {
            return self.serve(now, tx, &request, flow);
        }
        self.admit(now, &request, marked)?;
        let targets = self.targets(now, &request, here, marked, flow)?;
        if !self.proxy.has_room() {
            return Err(Refusal::busy());
        }
        if request.method == Method::Invite {
            // RFC 3261 section 17.2.1: at once, for the branches may take more than 200 ms.
            let response = answer(&received, 100, &self.identity);
            self.out.push_back(Output::Respond { tx, response });
        }
        self.proxy.begin(now, tx, received, targets, &mut self.out);
        Ok(())
    }

    /// Requests to the server itself.
    fn serve(&mut self, now: Instant, tx: TxId, request: &SipRequest, flow: Flow) -> Result<(), Refusal> {
        refuse_extensions(request, "Require")?;
        let response = match request.method {
            Method::Register => self.register(now, request, flow)?,
            Method::Options => {
                let mut response = answer(request, 200, &self.identity);
                response.headers.push("Allow", ALLOW);
                response
            }
            // An INVITE needs a user to go to.
            Method::Invite => return Err(Refusal::new(404)),
            _ => return Err(Refusal::new(405).with("Allow", ALLOW)),
        };
        self.out.push_back(Output::Respond { tx, response });
        Ok(())
    }

    /// RFC 3261 section 10.3.
    fn register(&mut self, now: Instant, request: &SipRequest, flow: Flow) -> Result<SipResponse, Refusal> {
        let to = request.headers.to().map_err(|_| Refusal::new(400))?;
        let user = self.own_user(&to.uri).ok_or_else(|| Refusal::new(404))?;
        self.gate.check(now, Asking::AsRegistrar, request, &user)?;
        let accepted = self
            .registrar
            .register(now, &user, request, flow, &self.identity)?;
        let mut response = answer(request, 200, &self.identity);
        for contact in accepted.contacts {
            response.headers.push("Contact", contact);
        }
        if let Some(seconds) = accepted.flow_timer {
            response.headers.push("Require", "outbound");
            response.headers.push("Flow-Timer", seconds);
        }
        Ok(response)
    }

    /// What every forwarded request has to pass (RFC 3261 section 16.3).
    fn admit(&self, now: Instant, request: &SipRequest, marked: bool) -> Result<(), Refusal> {
        let headers = &request.headers;
        if headers.max_forwards().map_err(|_| Refusal::new(400))? == Some(0) {
            return Err(Refusal::new(483));
        }
        let vias = headers.vias().map_err(|_| Refusal::new(400))?;
        if self.identity.visits(&vias) >= MAX_VISITS {
            return Err(Refusal::new(482));
        }
        refuse_extensions(request, "Proxy-Require")?;
        let from = headers.from().map_err(|_| Refusal::new(400))?;
        match self.own_user(&from.uri) {
            // Whoever calls himself one of ours must prove it; a marked request belongs to a dialog that did.
            Some(user) if !marked => self.gate.check(now, Asking::AsProxy, request, &user),
            _ => Ok(()),
        }
    }

    /// Where a request goes (RFC 3261 section 16.5), each copy ready to send (section 16.6).
    fn targets(
        &self,
        now: Instant,
        request: &SipRequest,
        here: bool,
        marked: bool,
        flow: Flow,
    ) -> Result<Vec<Target>, Refusal> {
        let request = &self.forwarded(request)?;
        let uri = request.uri.as_sip().ok_or_else(|| Refusal::new(416))?;
        if here {
            let user = uri.decoded_user().ok_or_else(|| Refusal::new(404))?;
            if !self.gate.knows(&user) {
                return Err(Refusal::new(404));
            }
            let targets: Vec<Target> = self
                .registrar
                .targets(now, &user, uri.params.value("gr"))
                .into_iter()
                // RFC 3261 section 26.2.2: over TLS to the last hop, or not at all.
                .filter(|binding| !uri.secure || binding.transport().is_secure())
                .map(|binding| self.to_binding(request, binding, flow))
                .collect();
            return if targets.is_empty() {
                Err(Refusal::new(480))
            } else {
                Ok(targets)
            };
        }
        self.onward(now, request.clone(), marked)
            .map(|target| vec![target])
    }

    /// The one way on of a request that is not for our domain: inside a dialog that was set up through here, or to a
    /// contact that is registered here. Anything else would be an open relay.
    fn onward(&self, now: Instant, mut request: SipRequest, marked: bool) -> Result<Target, Refusal> {
        let mut routes = request.headers.routes().map_err(|_| Refusal::new(400))?;
        if !routes.is_empty() {
            if !marked {
                return Err(Refusal::new(403));
            }
            if routes
                .first()
                .is_some_and(|next| next.uri.as_sip().is_some_and(SipUri::is_loose_router))
            {
                return Ok(Target {
                    request,
                    route: Route::by_request(),
                });
            }
            // RFC 3261 section 16.6 step 6: the next hop is a strict router.
            let next = routes.remove(0).uri;
            let hop = next.as_sip().cloned().ok_or_else(|| Refusal::new(400))?;
            routes.push(NameAddr::new(std::mem::replace(&mut request.uri, next)));
            set_routes(&mut request.headers, &routes);
            return Ok(Target {
                request,
                route: Route::via(hop),
            });
        }
        let uri = request.uri.as_sip().ok_or_else(|| Refusal::new(416))?;
        match self.registrar.binding_of_contact(now, uri) {
            Some(binding) => Ok(Target {
                route: binding.route(),
                request,
            }),
            None if marked => Ok(Target {
                request,
                route: Route::by_request(),
            }),
            None => Err(Refusal::new(403)),
        }
    }

    fn to_binding(&self, request: &SipRequest, binding: &Binding, arrived: Flow) -> Target {
        let mut request = request.clone();
        request.uri = binding.target();
        if self.record_route && sets_up_dialog(&request) {
            let arrival = self.identity.arrival(arrived.transport, arrived.local);
            let departure = self
                .identity
                .departure(binding.transport(), binding.remote().map(|addr| addr.ip()));
            if let (Some(arrival), departure) = (arrival, departure) {
                self.identity
                    .record_route(&mut request, arrival, departure.unwrap_or(arrival));
            }
        }
        Target {
            request,
            route: binding.route(),
        }
    }

    /// The ACK of a 2xx has no transaction and cannot be answered: it goes on, or nowhere.
    fn ack(&mut self, now: Instant, mut request: SipRequest, flow: Flow) {
        if request.validate().is_err() || request.headers.max_forwards().is_ok_and(|hops| hops == Some(0)) {
            return;
        }
        let Ok(marked) = self.strip_own_routes(&mut request) else {
            return;
        };
        let own = request.uri.as_sip().filter(|uri| self.identity.is_own(uri));
        let own = own.filter(|_| !request.headers.contains("Route"));
        let targets = match own.map(|uri| uri.params.contains("gr")) {
            // A dialog's remote target may be a GRUU of ours (RFC 5627).
            Some(true) => self.targets(now, &request, true, marked, flow),
            Some(false) => return,
            None => self
                .forwarded(&request)
                .and_then(|request| self.onward(now, request, marked))
                .map(|target| vec![target]),
        };
        for Target { request, route } in targets.unwrap_or_default() {
            self.out.push_back(Output::Ack { request, route });
        }
    }

    /// Takes our own Route values off the top (RFC 3261 section 16.4), and says whether one of them proves that the
    /// dialog was set up through here.
    fn strip_own_routes(&self, request: &mut SipRequest) -> Result<bool, Refusal> {
        let mut routes = request.headers.routes().map_err(|_| Refusal::new(400))?;
        if routes.is_empty() {
            return Ok(false);
        }
        let mut marked = false;
        // A strict router before us put our Record-Route into the Request-URI and the target last.
        if request
            .uri
            .as_sip()
            .is_some_and(|uri| self.identity.carries_mark(uri, &request.headers))
            && let Some(target) = routes.pop()
        {
            request.uri = target.uri;
            marked = true;
        }
        let is_own = |uri: &Uri| uri.as_sip().is_some_and(|uri| self.identity.is_own(uri));
        while routes.first().is_some_and(|top| is_own(&top.uri)) {
            let own = routes.remove(0);
            marked |= own
                .uri
                .as_sip()
                .is_some_and(|uri| self.identity.carries_mark(uri, &request.headers));
        }
        set_routes(&mut request.headers, &routes);
        Ok(marked)
    }

    /// The copy of a request that goes on: one hop fewer, without the credentials that were for us.
    fn forwarded(&self, request: &SipRequest) -> Result<SipRequest, Refusal> {
        let mut request = request.clone();
        let hops = request.headers.max_forwards().map_err(|_| Refusal::new(400))?;
        request.headers.set(
            "Max-Forwards",
            hops.map_or(MAX_FORWARDS, |hops| hops.saturating_sub(1)),
        );
        self.gate.strip(&mut request.headers);
        Ok(request)
    }

    /// The user of an address-of-record of this server.
    fn own_user(&self, uri: &Uri) -> Option<String> {
        uri.as_sip()
            .filter(|uri| self.identity.is_own(uri))?
            .decoded_user()
    }
}

/// Dialogs begin with these outside of one (RFC 3261 section 12, RFC 6665, RFC 3515).
fn sets_up_dialog(request: &SipRequest) -> bool {
    matches!(request.method, Method::Invite | Method::Refer | Method::Subscribe)
        && request.headers.to().is_ok_and(|to| to.tag().is_none())
}

/// RFC 3261 sections 8.2.2.3 and 16.3 step 5: no extension is needed here, and none is understood.
fn refuse_extensions(request: &SipRequest, header: &str) -> Result<(), Refusal> {
    let unsupported = request.headers.items(header);
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(420).with("Unsupported", unsupported.join(", ")))
}

fn set_routes(headers: &mut Headers, routes: &[NameAddr]) {
    headers.remove("Route");
    for route in routes {
        headers.push("Route", route);
    }
}

//! The registrar and its location service (RFC 3261 section 10.3): which contacts an address-of-record has, and by
//! which way each is reached.

use crate::config::DEFAULT_EXPIRES;
use crate::identity::{Identity, uri_transport};
use crate::refusal::Refusal;
use siprtc_core::sip::{Contacts, Flow, FlowId, Host, NameAddr, Route, SipRequest, SipUri, Transport, Uri};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often expired bindings are swept out. A lookup never returns an expired one, swept or not.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Longest Flow-Timer over UDP: NATs forget sooner than that of TCP (RFC 5626 section 4.4.2).
const UDP_FLOW_TIMER: u32 = 30;

/// The registrar's bounds and times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegistrarConfig {
    pub(crate) min_expires: u32,
    pub(crate) max_expires: u32,
    pub(crate) max_bindings: usize,
    pub(crate) max_users: usize,
    /// Seconds that a flow may be silent (RFC 5626 section 4.4); 0: flows are not kept.
    pub(crate) flow_timer: u32,
    /// STUN requests on the SIP sockets are answered, so that flows over UDP can be kept too.
    pub(crate) keeps_udp: bool,
}

/// What a REGISTER has come to.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The Contacts of the 200.
    pub(crate) contacts: Vec<NameAddr>,
    /// The flow is kept: the Flow-Timer of the 200, in seconds.
    pub(crate) flow_timer: Option<u32>,
}

/// A contact of a user, as [`HomeServer::registrations`](crate::HomeServer::registrations) shows it.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The user part of the address-of-record.
    pub user: String,
    /// Where the user is.
    pub contact: SipUri,
    /// Where the REGISTER came from.
    pub source: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// How long the binding still lives.
    pub expires_in: Duration,
}

/// One contact of one address-of-record.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    contact: NameAddr,
    uri: SipUri,
    call_id: String,
    cseq: u32,
    expires_at: Instant,
    flow: Flow,
    reach: Reach,
    /// Of an instance that keeps several flows to one device (RFC 5626): only one of them is called.
    outbound: bool,
    /// The device wants to know its GRUU (RFC 5627).
    gruu: bool,
    updated: Instant,
}

/// The way back to a contact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    /// As the contact's own URI says.
    Contact,
    /// Over the connection that the REGISTER came by.
    Flow(FlowId),
    /// To where the REGISTER came from: the contact names an address behind a NAT.
    Source(SocketAddr),
}

impl Binding {
    /// The Request-URI of a request to this contact (RFC 3261 section 16.6 step 2).
    pub(crate) fn target(&self) -> Uri {
        let mut uri = self.uri.clone();
        uri.headers = None;
        uri.params.remove("method");
        Uri::Sip(uri)
    }

    /// The way there.
    pub(crate) fn route(&self) -> Route {
        match self.reach {
            Reach::Contact => Route::by_request(),
            Reach::Flow(id) => Route::over(id),
            Reach::Source(addr) => Route::via(SipUri::from_addr(addr)),
        }
    }

    /// The transport of that way.
    pub(crate) fn transport(&self) -> Transport {
        match self.reach {
            Reach::Contact => uri_transport(&Uri::Sip(self.uri.clone())),
            Reach::Flow(_) | Reach::Source(_) => self.flow.transport,
        }
    }

    /// Where requests to this contact go, when that is known.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        match self.reach {
            Reach::Contact => self.uri.socket_addr(),
            Reach::Flow(_) | Reach::Source(_) => Some(self.flow.remote),
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.expires_at > now
    }

    /// The device, when it says which it is.
    fn instance(&self) -> Option<&str> {
        self.contact.instance()
    }

    /// The Contact of a 200, with the seconds that are left (RFC 3261 section 10.3 step 8) and its GRUU (RFC 5627
    /// section 5.3).
    fn listed(&self, now: Instant, user: &str, identity: &Identity) -> NameAddr {
        let mut contact = self.contact.clone();
        if let Some(instance) = self.instance().filter(|_| self.gruu) {
            let mut gruu = SipUri::new(identity.domain.clone()).with_user(user);
            gruu.params.set("gr", instance);
            contact.params.set_quoted("pub-gruu", gruu.to_string());
        }
        // Rounded up, so that a fresh binding of 60 s says 60.
        let left = self
            .expires_at
            .saturating_duration_since(now)
            .as_millis()
            .div_ceil(1000);
        contact.params.set("expires", left.to_string());
        contact
    }

    fn is_same(&self, uri: &SipUri, contact: &NameAddr) -> bool {
        let outbound = |c: &NameAddr| Some((c.instance()?.to_owned(), c.params.value("reg-id")?.to_owned()));
        // RFC 5626 section 6: instance and reg-id name the flow, whatever port the contact has by now.
        match (outbound(&self.contact), outbound(contact)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.uri.is_equivalent(uri),
        }
    }
}

/// The bindings of every address-of-record of the domain.
#[derive(Debug)]
pub(crate) struct Registrar {
    config: RegistrarConfig,
    users: HashMap<String, Vec<Binding>>,
    /// Whose a contact is, for requests inside dialogs, which name the contact and not the address-of-record.
    owners: HashMap<ContactKey, String>,
    next_sweep: Option<Instant>,
}

type ContactKey = (Option<String>, Host, Option<u16>, Transport);

impl Registrar {
    pub(crate) fn new(config: RegistrarConfig) -> Self {
        Registrar {
            config,
            users: HashMap::new(),
            owners: HashMap::new(),
            next_sweep: None,
        }
    }

    /// Processes an authenticated REGISTER for `user`; answers with the Contacts of the 200. A refusal has changed
    /// nothing (RFC 3261 section 10.3 step 7: all or none).
    pub(crate) fn register(
        &mut self,
        now: Instant,
        user: &str,
        request: &SipRequest,
        flow: Flow,
        identity: &Identity,
    ) -> Result<Accepted, Refusal> {
        let update = Update::read(request, &self.config, flow, identity)?;
        let current = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        if current.is_empty() && !update.contacts.is_empty() && self.users.len() >= self.config.max_users {
            return Err(Refusal::busy());
        }
        let live = current
            .iter()
            .filter(|binding| binding.is_live(now))
            .cloned()
            .collect();
        let flow_timer = update.flow_timer(&self.config);
        let updated = update.apply(now, live)?;
        if updated.len() > self.config.max_bindings {
            return Err(Refusal::busy());
        }
        let contacts = updated
            .iter()
            .map(|binding| binding.listed(now, user, identity))
            .collect();
        self.replace(user, updated);
        self.next_sweep.get_or_insert(now + SWEEP_INTERVAL);
        Ok(Accepted { contacts, flow_timer })
    }

    /// The bindings that a request for a user goes to: of a device with several flows only the one that was registered
    /// last (RFC 5626 section 5.2), and with the `gr` of a GRUU that device only (RFC 5627 section 5.1).
    pub(crate) fn targets(&self, now: Instant, user: &str, gr: Option<&str>) -> Vec<&Binding> {
        let mut targets: Vec<&Binding> = Vec::new();
        for binding in self.bindings(now, user) {
            let instance = binding.instance();
            if gr.is_some_and(|gr| !instance.is_some_and(|instance| instance.eq_ignore_ascii_case(gr))) {
                continue;
            }
            let same = |other: &&&Binding| other.outbound && binding.outbound && other.instance() == instance;
            match targets.iter().position(|other| same(&other)) {
                Some(place) if targets[place].updated <= binding.updated => targets[place] = binding,
                Some(_) => {}
                None => targets.push(binding),
            }
        }
        targets
    }

    /// The live bindings of a user.
    pub(crate) fn bindings(&self, now: Instant, user: &str) -> impl Iterator<Item = &Binding> {
        self.users
            .get(user)
            .into_iter()
            .flatten()
            .filter(move |binding| binding.is_live(now))
    }

    /// The live binding whose contact this URI is.
    pub(crate) fn binding_of_contact(&self, now: Instant, uri: &SipUri) -> Option<&Binding> {
        let key = contact_key(uri);
        let user = self.owners.get(&key)?;
        self.bindings(now, user)
            .find(|binding| contact_key(&binding.uri) == key)
    }

    /// A connection is gone. Contacts that only it could reach are gone with it (RFC 5626 section 7); the others are
    /// reached by their own URI from now on.
    pub(crate) fn flow_down(&mut self, id: FlowId) {
        let touched: Vec<String> = self
            .users
            .iter()
            .filter(|(_, bindings)| bindings.iter().any(|b| b.reach == Reach::Flow(id)))
            .map(|(user, _)| user.clone())
            .collect();
        for user in touched {
            let mut bindings = self.users.get(&user).cloned().unwrap_or_default();
            bindings.retain(|b| b.reach != Reach::Flow(id) || !needs_flow(&b.contact, &b.uri));
            for binding in bindings.iter_mut().filter(|b| b.reach == Reach::Flow(id)) {
                binding.reach = Reach::Contact;
            }
            self.replace(&user, bindings);
        }
    }

    /// When [`Registrar::sweep`] wants to be called.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Forgets expired bindings.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|at| at > now) {
            return;
        }
        let expired: Vec<String> = self
            .users
            .iter()
            .filter(|(_, bindings)| bindings.iter().any(|b| !b.is_live(now)))
            .map(|(user, _)| user.clone())
            .collect();
        for user in expired {
            let live = self.bindings(now, &user).cloned().collect();
            self.replace(&user, live);
        }
        self.next_sweep = (!self.users.is_empty()).then_some(now + SWEEP_INTERVAL);
    }

    /// Everything that is registered.
    pub(crate) fn registrations(&self, now: Instant) -> Vec<Registration> {
        let mut all: Vec<Registration> = self
            .users
            .iter()
            .flat_map(|(user, bindings)| bindings.iter().map(move |binding| (user, binding)))
            .filter(|(_, binding)| binding.is_live(now))
            .map(|(user, binding)| Registration {
                user: user.clone(),
                contact: binding.uri.clone(),
                source: binding.flow.remote,
                transport: binding.flow.transport,
                expires_in: binding.expires_at.saturating_duration_since(now),
            })
            .collect();
        all.sort_by(|a, b| a.user.cmp(&b.user));
        all
    }

    fn replace(&mut self, user: &str, bindings: Vec<Binding>) {
        for old in self.users.remove(user).into_iter().flatten() {
            let key = contact_key(&old.uri);
            if self.owners.get(&key).is_some_and(|owner| owner == user) {
                self.owners.remove(&key);
            }
        }
        for binding in &bindings {
            self.owners.insert(contact_key(&binding.uri), user.to_owned());
        }
        if !bindings.is_empty() {
            self.users.insert(user.to_owned(), bindings);
        }
    }
}

/// What one REGISTER wants.
struct Update {
    call_id: String,
    cseq: u32,
    flow: Flow,
    /// Remove every binding: `Contact: *`.
    clear: bool,
    contacts: Vec<Wanted>,
}

struct Wanted {
    contact: NameAddr,
    uri: SipUri,
    seconds: u32,
    reach: Reach,
    outbound: bool,
    gruu: bool,
}

impl Update {
    fn read(
        request: &SipRequest,
        config: &RegistrarConfig,
        flow: Flow,
        identity: &Identity,
    ) -> Result<Self, Refusal> {
        let bad = |_| Refusal::new(400);
        let headers = &request.headers;
        let call_id = headers.call_id().map_err(bad)?.to_owned();
        let cseq = headers.cseq().map_err(bad)?.sequence;
        let expires = headers.expires().map_err(bad)?;
        let mut update = Update {
            call_id,
            cseq,
            flow,
            clear: false,
            contacts: Vec::new(),
        };
        match headers.contacts().map_err(bad)? {
            // RFC 3261 section 10.3 step 6: `*` alone, and only to remove.
            Contacts::All if expires == Some(0) => update.clear = true,
            Contacts::All => return Err(Refusal::new(400)),
            Contacts::List(contacts) if contacts.len() > config.max_bindings => return Err(Refusal::busy()),
            Contacts::List(contacts) => {
                for contact in contacts {
                    update
                        .contacts
                        .push(Wanted::read(contact, expires, config, request, flow, identity)?);
                }
            }
        }
        Ok(update)
    }

    /// Seconds that the flow of this REGISTER may be silent, when a contact of it is bound to its flow.
    fn flow_timer(&self, config: &RegistrarConfig) -> Option<u32> {
        let keeps = self
            .contacts
            .iter()
            .any(|wanted| wanted.outbound && wanted.seconds > 0);
        keeps.then(|| match self.flow.transport {
            Transport::Udp => config.flow_timer.min(UDP_FLOW_TIMER),
            _ => config.flow_timer,
        })
    }

    /// The bindings after this REGISTER.
    fn apply(self, now: Instant, mut bindings: Vec<Binding>) -> Result<Vec<Binding>, Refusal> {
        if self.clear {
            bindings.iter().try_for_each(|old| self.in_order(old))?;
            return Ok(Vec::new());
        }
        for wanted in &self.contacts {
            let place = bindings
                .iter()
                .position(|old| old.is_same(&wanted.uri, &wanted.contact));
            if let Some(old) = place {
                self.in_order(&bindings[old])?;
            }
            match (place, wanted.seconds) {
                (Some(old), 0) => drop(bindings.remove(old)),
                (Some(old), _) => bindings[old] = self.binding(now, wanted),
                (None, 0) => {}
                (None, _) => bindings.push(self.binding(now, wanted)),
            }
        }
        Ok(bindings)
    }

    /// RFC 3261 section 10.3 steps 6 and 7: within one Call-ID a REGISTER that is not newer is out of order.
    fn in_order(&self, old: &Binding) -> Result<(), Refusal> {
        match old.call_id == self.call_id && self.cseq <= old.cseq {
            true => Err(Refusal::new(500)),
            false => Ok(()),
        }
    }

    fn binding(&self, now: Instant, wanted: &Wanted) -> Binding {
        Binding {
            contact: wanted.contact.clone(),
            uri: wanted.uri.clone(),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            expires_at: now + Duration::from_secs(u64::from(wanted.seconds)),
            flow: self.flow,
            reach: wanted.reach,
            outbound: wanted.outbound,
            gruu: wanted.gruu,
            updated: now,
        }
    }
}

impl Wanted {
    fn read(
        contact: NameAddr,
        expires: Option<u32>,
        config: &RegistrarConfig,
        request: &SipRequest,
        flow: Flow,
        identity: &Identity,
    ) -> Result<Self, Refusal> {
        // A proxy of SIP reaches SIP contacts only.
        let uri = contact.uri.as_sip().cloned().ok_or_else(|| Refusal::new(400))?;
        // A contact that names this server would be a loop with a fork in it (RFC 5393 section 3).
        if identity.is_own(&uri) {
            return Err(Refusal::new(403));
        }
        let asked = contact.expires().or(expires).unwrap_or(DEFAULT_EXPIRES);
        if asked != 0 && asked < config.min_expires {
            return Err(Refusal::new(423).with("Min-Expires", config.min_expires));
        }
        let outbound = keeps_flow(&contact, config, request, flow)?;
        let reach = match outbound {
            true => Reach::Flow(flow.id),
            false => reach(&contact, &uri, request, flow),
        };
        let gruu = contact.instance().is_some() && request.headers.has_token("Supported", "gruu");
        // Ours to give (RFC 5627 section 5.3).
        let mut contact = contact;
        contact.params.remove("pub-gruu");
        contact.params.remove("temp-gruu");
        Ok(Wanted {
            contact,
            uri,
            seconds: asked.min(config.max_expires),
            reach,
            outbound,
            gruu,
        })
    }
}

/// Whether the contact is bound to the flow that its REGISTER came by (RFC 5626 section 6).
fn keeps_flow(
    contact: &NameAddr,
    config: &RegistrarConfig,
    request: &SipRequest,
    flow: Flow,
) -> Result<bool, Refusal> {
    let asked = request.headers.has_token("Supported", "outbound")
        && contact.instance().is_some()
        && contact.params.contains("reg-id");
    if !asked || config.flow_timer == 0 || (flow.transport == Transport::Udp && !config.keeps_udp) {
        return Ok(false);
    }
    // The flow is that of the first hop, which would have to say that it keeps it, with `ob` in a Path.
    match request.headers.vias().map_err(|_| Refusal::new(400))?.len() {
        1 => Ok(true),
        _ => Err(Refusal::new(439)),
    }
}

/// How a contact is reached: back the way that its REGISTER came when it names the sender, else by its own URI, for
/// one element may register another (RFC 3261 section 10.2).
fn reach(contact: &NameAddr, uri: &SipUri, request: &SipRequest, flow: Flow) -> Reach {
    let direct = request.headers.vias().ok().filter(|vias| vias.len() == 1);
    let Some(via) = direct.as_ref().and_then(|vias| vias.first()) else {
        return Reach::Contact;
    };
    let at_source = uri.host == Host::Ip(flow.remote.ip());
    let names_sender = at_source || uri.host == via.host || needs_flow(contact, uri);
    let other_transport = uri
        .transport()
        .is_some_and(|transport| transport != flow.transport);
    match (names_sender, flow.transport) {
        (false, _) => Reach::Contact,
        // `transport=` is what the contact's own listener speaks; WSS says `ws`, so connections need a closer look.
        (true, Transport::Udp) if other_transport || at_source => Reach::Contact,
        (true, Transport::Udp) => Reach::Source(flow.remote),
        (true, _) if uri.transport() == Some(Transport::Udp) => Reach::Contact,
        (true, _) => Reach::Flow(flow.id),
    }
}

/// Contacts that exist only at the other end of their flow: RFC 5626 clients, and browsers, whose host is `.invalid`.
fn needs_flow(contact: &NameAddr, uri: &SipUri) -> bool {
    contact.params.contains("reg-id")
        || uri.params.contains("ob")
        || matches!(&uri.host, Host::Name(name) if name.ends_with(".invalid"))
}

fn contact_key(uri: &SipUri) -> ContactKey {
    (
        uri.user.clone(),
        uri.host.clone(),
        uri.port,
        uri_transport(&Uri::Sip(uri.clone())),
    )
}

//! Where a SIP URI leads (RFC 3263 section 4), without a name server and without a clock.
//!
//! **Call [`Locator::poll`]; while it asks, hand it the answers in the order of the questions and poll again.**

mod srv;
mod words;

#[cfg(test)]
mod tests;

use crate::config::Ipv6;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use siprtc_core::Fault;
use siprtc_core::sip::{Host, SipUri, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use words::{Answer, Data, Failure, Found, Kind, Naptr, Question, Record, Srv, Target, Usable};

/// Most SRV names that a NAPTR answer may lead to; the least preferred are not asked for.
const MAX_SERVICES: usize = 8;

/// Most hosts whose addresses are asked for; the least preferred are not.
const MAX_PLACES: usize = 8;

/// Most targets of one name; the least preferred are dropped.
const MAX_TARGETS: usize = 16;

/// The first that the stack speaks.
const DEFAULTS: [Transport; 5] = [
    Transport::Udp,
    Transport::Tcp,
    Transport::Tls,
    Transport::Wss,
    Transport::Ws,
];

/// What [`Locator::poll`] wants.
#[derive(Debug)]
pub(crate) enum Step {
    Ask(Vec<Question>),
    Done(Result<Found, Failure>),
}

/// An SRV name, and the transport that it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Service {
    transport: Transport,
    name: String,
    forced: bool,
}

/// A host and port, and the transport to be spoken there.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    transport: Transport,
    name: String,
    port: u16,
    forced: bool,
}

#[derive(Debug)]
enum Phase {
    Naptr,
    Srv(Vec<Service>),
    Addresses(Vec<Place>),
    Done(Result<Found, Failure>),
}

/// Finds the targets of one URI.
#[derive(Debug)]
pub(crate) struct Locator {
    usable: Arc<Usable>,
    name: String,
    secure: bool,
    port: Option<u16>,
    phase: Phase,
    ttl: Option<Duration>,
    /// The first question that got no answer.
    failed: Option<Failure>,
    random: SmallRng,
}

impl Locator {
    /// `fixed`: the host stands in this machine's hosts file, where there are neither NAPTR nor SRV records.
    pub(crate) fn new(uri: &SipUri, usable: Arc<Usable>, fixed: bool, seed: u64) -> Self {
        let mut locator = Locator {
            usable,
            name: String::new(),
            secure: uri.secure,
            port: uri.port,
            phase: Phase::Naptr,
            ttl: None,
            failed: None,
            random: SmallRng::seed_from_u64(seed),
        };
        locator.phase = locator
            .first(uri, fixed)
            .unwrap_or_else(|why| Phase::Done(Err(why)));
        locator
    }

    /// Questions, or the end.
    pub(crate) fn poll(&self) -> Step {
        match &self.phase {
            Phase::Naptr => Step::Ask(vec![question(&self.name, Kind::Naptr)]),
            Phase::Srv(services) => Step::Ask(
                services
                    .iter()
                    .map(|service| question(&service.name, Kind::Srv))
                    .collect(),
            ),
            Phase::Addresses(places) => Step::Ask(self.address_questions(places)),
            Phase::Done(result) => Step::Done(result.clone()),
        }
    }

    /// The answers, in the order of the questions.
    pub(crate) fn handle(&mut self, answers: Vec<Answer>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Naptr);
        let next = match phase {
            Phase::Naptr => self.naptr(answers),
            Phase::Srv(services) => self.srv(&services, answers),
            Phase::Addresses(places) => self.addresses(&places, answers),
            Phase::Done(result) => Ok(Phase::Done(result)),
        };
        self.phase = next.unwrap_or_else(|why| Phase::Done(Err(why)));
    }

    fn first(&mut self, uri: &SipUri, fixed: bool) -> Result<Phase, Failure> {
        let wanted = wanted(uri, &self.usable)?;
        match target_host(uri)? {
            Host::Ip(ip) => {
                let transport = self.or_default(wanted)?;
                let port = uri.port.unwrap_or(default_port(transport));
                let target = Target {
                    transport,
                    addr: SocketAddr::new(ip, port),
                    forced: false,
                };
                self.done(vec![target])
            }
            Host::Name(name) => {
                self.name = name.trim_end_matches('.').to_owned();
                match wanted {
                    // RFC 3263 sections 4.1 and 4.2: a port means an address record.
                    _ if fixed || uri.port.is_some() => self.plain_host(self.or_default(wanted)?),
                    Some(transport) => Ok(Phase::Srv(vec![self.service(transport)])),
                    None => Ok(Phase::Naptr),
                }
            }
        }
    }

    /// RFC 3263 section 4.1, the NAPTR records.
    fn naptr(&mut self, answers: Vec<Answer>) -> Result<Phase, Failure> {
        let mut offered: Vec<(u16, u16, Option<Transport>, Naptr)> = Vec::new();
        for record in self.records(answers) {
            if let Data::Naptr(naptr) = record.data
                && let Some(transport) = naptr_transport(&naptr.service)
            {
                offered.push((naptr.order, naptr.preference, transport, naptr));
            }
        }
        if offered.is_empty() {
            return Ok(Phase::Srv(self.usual_services()?));
        }
        offered.sort_by_key(|(order, preference, ..)| (*order, *preference));
        let mut services = Vec::new();
        let mut places = Vec::new();
        for (_, _, transport, naptr) in &offered {
            let Some(transport) = transport.filter(|transport| self.may_use(*transport)) else {
                continue;
            };
            let name = naptr.replacement.trim_end_matches('.').to_owned();
            match naptr.flags.to_ascii_lowercase().as_str() {
                _ if name.is_empty() => {}
                "s" => services.push(Service {
                    transport,
                    name,
                    forced: true,
                }),
                "a" => places.push(Place {
                    transport,
                    name,
                    port: default_port(transport),
                    forced: true,
                }),
                _ => {}
            }
        }
        services.truncate(MAX_SERVICES);
        match (services.is_empty(), places.is_empty()) {
            (false, _) => Ok(Phase::Srv(services)),
            (true, false) => Ok(Phase::Addresses(places)),
            (true, true) => {
                Err(self.nothing_shared(offered.iter().map(|(.., naptr)| naptr.service.as_str())))
            }
        }
    }

    /// RFC 3263 section 4.2, the SRV records.
    fn srv(&mut self, services: &[Service], answers: Vec<Answer>) -> Result<Phase, Failure> {
        let mut places = Vec::new();
        let mut declined = false;
        for (service, answer) in services.iter().zip(answers) {
            let records: Vec<Srv> = self
                .records(vec![answer])
                .into_iter()
                .filter_map(|record| match record.data {
                    Data::Srv(srv) => Some(srv),
                    _ => None,
                })
                .collect();
            for srv in srv::order(records, &mut self.random) {
                let name = srv.target.trim_end_matches('.').to_owned();
                if name.is_empty() || srv.port == 0 {
                    declined = true;
                    continue;
                }
                places.push(Place {
                    transport: service.transport,
                    name,
                    port: srv.port,
                    forced: service.forced,
                });
            }
        }
        if !places.is_empty() {
            return Ok(Phase::Addresses(places));
        }
        if declined {
            return Err(Failure::new(
                Fault::PeerIncompatible,
                format!("{} says that it has no SIP server (RFC 2782)", self.name),
                "check the domain, or give the server's own name and port",
            ));
        }
        // RFC 3263 section 4.2: without SRV records the addresses of the name itself.
        let transport = match services.first() {
            Some(service) if services.len() == 1 || service.forced => service.transport,
            _ => self.or_default(None)?,
        };
        self.plain_host(transport)
    }

    fn addresses(&mut self, places: &[Place], answers: Vec<Answer>) -> Result<Phase, Failure> {
        let questions = self.address_questions(places);
        let mut by_name: Vec<(String, IpAddr)> = Vec::new();
        let mut exists = false;
        for (question, answer) in questions.into_iter().zip(answers) {
            exists |= !matches!(answer, Answer::Absent { exists: false });
            for record in self.records(vec![answer]) {
                if let Data::Address(ip) = record.data {
                    by_name.push((question.name.clone(), ip));
                }
            }
        }
        let mut targets: Vec<Target> = Vec::new();
        for place in places {
            for (_, ip) in by_name.iter().filter(|(name, _)| *name == place.name) {
                let target = Target {
                    transport: place.transport,
                    addr: SocketAddr::new(*ip, place.port),
                    forced: place.forced,
                };
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        if targets.is_empty() {
            return Err(self.no_address(exists));
        }
        self.done(targets)
    }

    fn done(&self, mut targets: Vec<Target>) -> Result<Phase, Failure> {
        targets.retain(|target| self.usable.reaches(target));
        targets.truncate(MAX_TARGETS);
        if targets.is_empty() {
            let family = if self.usable.udp_v4 { "IPv6" } else { "IPv4" };
            return Err(Failure::new(
                Fault::ConfigInvalid,
                format!(
                    "the other side is reached over UDP and {family} only, and no UDP listener is bound to that"
                ),
                format!("add a UDP listener with an {family} address"),
            ));
        }
        let ttl = self.ttl;
        Ok(Phase::Done(Ok(Found { targets, ttl })))
    }

    fn plain_host(&self, transport: Transport) -> Result<Phase, Failure> {
        Ok(Phase::Addresses(vec![Place {
            transport,
            name: self.name.clone(),
            port: self.port.unwrap_or(default_port(transport)),
            forced: false,
        }]))
    }

    /// The records that are there; what is not is remembered. A question without an answer is taken for one with
    /// none: many a router drops questions for NAPTR and SRV and still answers those for addresses.
    fn records(&mut self, answers: Vec<Answer>) -> Vec<Record> {
        let mut all = Vec::new();
        for answer in answers {
            match answer {
                Answer::Absent { .. } => {}
                Answer::Failed(why) => {
                    self.failed.get_or_insert(why);
                }
                Answer::Found(records) => all.extend(records),
            }
        }
        let shortest = all.iter().map(|record| record.ttl).min();
        self.ttl = self.ttl.into_iter().chain(shortest).min();
        all
    }

    fn address_questions(&self, places: &[Place]) -> Vec<Question> {
        let mut names: Vec<&str> = Vec::new();
        for place in places {
            if !names.contains(&place.name.as_str()) {
                names.push(&place.name);
            }
        }
        let kinds: &[Kind] = match self.usable.ipv6 {
            Ipv6::First => &[Kind::Aaaa, Kind::A],
            Ipv6::Last => &[Kind::A, Kind::Aaaa],
            Ipv6::Never => &[Kind::A],
        };
        names
            .into_iter()
            .take(MAX_PLACES)
            .flat_map(|name| kinds.iter().map(move |kind| question(name, *kind)))
            .collect()
    }

    /// RFC 3263 section 4.1, without NAPTR records: one question for each transport.
    fn usual_services(&self) -> Result<Vec<Service>, Failure> {
        let order: &[Transport] = match self.secure {
            true => &[Transport::Tls, Transport::Wss],
            false => &[Transport::Udp, Transport::Tcp],
        };
        let services: Vec<Service> = order
            .iter()
            .filter(|transport| self.usable.speaks(**transport))
            .map(|transport| self.service(*transport))
            .collect();
        match services.is_empty() {
            false => Ok(services),
            true => Ok(vec![self.service(self.or_default(None)?)]),
        }
    }

    fn service(&self, transport: Transport) -> Service {
        let label = match transport {
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
            Transport::Ws => "_sip._ws",
            Transport::Wss => "_sips._ws",
            _ => "_sip._udp",
        };
        Service {
            transport,
            name: format!("{label}.{}", self.name),
            forced: false,
        }
    }

    /// RFC 3263 section 4.1: without a wish UDP, and TLS for `sips:`; else what the stack has.
    fn or_default(&self, wanted: Option<Transport>) -> Result<Transport, Failure> {
        let what = if self.secure {
            "TLS, which sips: needs"
        } else {
            "any transport"
        };
        wanted
            .or_else(|| DEFAULTS.into_iter().find(|transport| self.may_use(*transport)))
            .ok_or_else(|| unspoken(what, &self.usable))
    }

    /// RFC 3261 section 26.2.2: `sips:` is never spoken in the clear.
    fn may_use(&self, transport: Transport) -> bool {
        self.usable.speaks(transport) && (!self.secure || is_secure(transport))
    }

    fn nothing_shared<'a>(&self, services: impl Iterator<Item = &'a str>) -> Failure {
        let offered: Vec<&str> = services.take(MAX_SERVICES).collect();
        let (why, advice) = match self.secure {
            true => (
                "none of it secure, which sips: needs",
                "call it by a sip: URI if it need not be secret, or ask its operator for SIP over TLS",
            ),
            false => (
                "which this stack does not speak",
                "choose a stack that does (sip.stack)",
            ),
        };
        Failure::new(
            Fault::PeerIncompatible,
            format!("{} offers {}, {why}", self.name, offered.join(", ")),
            advice,
        )
    }

    fn no_address(&self, exists: bool) -> Failure {
        if let Some(failed) = &self.failed {
            return failed.clone();
        }
        let message = match exists {
            true => format!("{} has no address in the DNS", self.name),
            false => format!("there is no {} in the DNS", self.name),
        };
        Failure::new(Fault::PeerMisbehaved, message, "check the spelling of the domain")
    }
}

fn question(name: &str, kind: Kind) -> Question {
    Question {
        name: name.to_owned(),
        kind,
    }
}

/// The transport that the URI itself asks for.
fn wanted(uri: &SipUri, usable: &Usable) -> Result<Option<Transport>, Failure> {
    let Some(text) = uri.params.value("transport") else {
        return Ok(None);
    };
    let transport = match (uri.transport(), uri.secure) {
        (None, _) => return Err(unspoken(text, usable)),
        (Some(Transport::Udp), true) => {
            return Err(Failure::new(
                Fault::ApiMisuse,
                "sips: is never spoken over UDP (RFC 3261 section 26.2.2)",
                "leave transport=udp away, or write sip:",
            ));
        }
        // RFC 3261 section 26.2.2 and RFC 7118 section 5.2.4: the transport below TLS is named.
        (Some(Transport::Tcp | Transport::Tls), true) => Transport::Tls,
        (Some(Transport::Ws | Transport::Wss), true) => Transport::Wss,
        (Some(transport), _) => transport,
    };
    match usable.speaks(transport) {
        true => Ok(Some(transport)),
        false => Err(unspoken(transport.as_str(), usable)),
    }
}

/// RFC 3263 section 4: `maddr` is the target where it is there.
fn target_host(uri: &SipUri) -> Result<Host, Failure> {
    match uri.params.value("maddr") {
        None => Ok(uri.host.clone()),
        Some(maddr) => maddr.parse().map_err(|_| {
            Failure::new(
                Fault::PeerMisbehaved,
                format!("the maddr parameter of {uri} is no host"),
                "it must be a name or an address",
            )
        }),
    }
}

fn unspoken(what: &str, usable: &Usable) -> Failure {
    let spoken: Vec<&str> = usable
        .transports
        .iter()
        .map(|transport| transport.as_str())
        .collect();
    Failure::new(
        Fault::Unsupported,
        format!(
            "the {} stack, as it is started, does not speak {what}",
            usable.stack
        ),
        format!(
            "it speaks {}; add a listener or choose another stack (sip.stack)",
            spoken.join(", ")
        ),
    )
}

/// `None` for what is no SIP service; `Some(None)` for one over a transport that we do not know, such as SCTP.
#[expect(
    clippy::option_option,
    reason = "the two are different answers to two questions"
)]
fn naptr_transport(service: &str) -> Option<Option<Transport>> {
    let service = service.to_ascii_uppercase();
    match service.as_str() {
        "SIP+D2U" => Some(Some(Transport::Udp)),
        "SIP+D2T" => Some(Some(Transport::Tcp)),
        "SIPS+D2T" => Some(Some(Transport::Tls)),
        "SIP+D2W" => Some(Some(Transport::Ws)),
        "SIPS+D2W" => Some(Some(Transport::Wss)),
        other if other.starts_with("SIP+D2") || other.starts_with("SIPS+D2") => Some(None),
        _ => None,
    }
}

fn is_secure(transport: Transport) -> bool {
    matches!(transport, Transport::Tls | Transport::Wss)
}

/// RFC 3261 section 19.1.2 and RFC 7118 section 7.
pub(crate) fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tls => 5061,
        Transport::Ws => 80,
        Transport::Wss => 443,
        _ => 5060,
    }
}

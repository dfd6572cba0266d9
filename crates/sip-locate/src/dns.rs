//! The machine's questions, asked of real name servers.

use crate::config::LocateConfig;
use crate::machine::{Answer, Data, Failure, Kind, Naptr, Question, Record, Srv};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use parking_lot::Mutex;
use siprtc_core::Fault;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::{Handle, Id};

/// Answers that the resolver itself remembers, for names that several URIs lead to. What URIs lead to is remembered
/// in `cache.rs`.
const REMEMBERED: u64 = 32;

/// NAPTR, SRV, addresses: each may take this part of a lookup's time.
pub(crate) const STAGES: u32 = 3;

/// How often a question is asked within its stage: a lost datagram is asked for again.
const TRIES: u32 = 2;

pub(crate) struct Dns {
    resolver: TokioResolver,
    hosts: Hosts,
    /// For people.
    servers: String,
}

/// The resolver of this runtime for these name servers, made when it is first needed and dropped with its last user.
pub(crate) fn shared(config: &LocateConfig, runtime: &Handle) -> Result<Arc<Dns>, Failure> {
    type Key = (Id, Vec<SocketAddr>, Duration);
    static KNOWN: Mutex<Vec<(Key, Weak<Dns>)>> = Mutex::new(Vec::new());
    let key = (runtime.id(), config.nameservers.clone(), config.timeout);
    let mut known = KNOWN.lock();
    known.retain(|(_, dns)| dns.strong_count() > 0);
    if let Some(dns) = known
        .iter()
        .find(|(other, _)| *other == key)
        .and_then(|(_, dns)| dns.upgrade())
    {
        return Ok(dns);
    }
    let dns = Arc::new(Dns::new(config)?);
    known.push((key, Arc::downgrade(&dns)));
    Ok(dns)
}

impl Dns {
    fn new(config: &LocateConfig) -> Result<Self, Failure> {
        let (servers, mut options) = match config.nameservers.is_empty() {
            true => read_system_conf().map_err(|e| unusable(&e.to_string()))?,
            false => (explicit(&config.nameservers), ResolverOpts::default()),
        };
        if servers.name_servers().is_empty() {
            return Err(unusable("it names no name server"));
        }
        options.timeout = config.timeout / (STAGES * TRIES);
        options.attempts = TRIES as usize - 1;
        options.cache_size = REMEMBERED;
        let told: Vec<String> = servers.name_servers().iter().map(told).collect();
        let mut builder = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Dns {
            resolver: builder.build().map_err(|e| unusable(&e.to_string()))?,
            hosts: Hosts::from_system().unwrap_or_default(),
            servers: told.join(", "),
        })
    }

    /// Whether this machine's hosts file has the name.
    pub(crate) fn is_fixed(&self, name: &str) -> bool {
        let Ok(name) = Name::from_ascii(name) else {
            return false;
        };
        [RecordType::A, RecordType::AAAA].into_iter().any(|kind| {
            self.hosts
                .lookup_static_host(&Query::query(name.clone(), kind))
                .is_some()
        })
    }

    pub(crate) async fn ask(&self, question: &Question) -> Answer {
        let (name, kind) = match record(question) {
            Ok(record) => record,
            Err(why) => return Answer::Failed(why),
        };
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) => {
                let records: Vec<Record> = lookup
                    .answers()
                    .iter()
                    .filter_map(|record| {
                        Some(Record {
                            ttl: Duration::from_secs(record.ttl.into()),
                            data: data(&record.data)?,
                        })
                    })
                    .collect();
                match records.is_empty() {
                    true => Answer::Absent { exists: true },
                    false => Answer::Found(records),
                }
            }
            Err(error) => self.absent_or_failed(&question.name, error),
        }
    }

    /// The failure of a question that nobody answered.
    pub(crate) fn silent(&self) -> Failure {
        Failure::new(
            Fault::TimedOut,
            format!("the name server does not answer (asked {})", self.servers),
            "check it, or name one that answers in sip.dns; an address instead of a name needs none",
        )
    }

    fn absent_or_failed(&self, name: &str, error: NetError) -> Answer {
        let code = match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => return Answer::Absent { exists: false },
                ResponseCode::NoError => return Answer::Absent { exists: true },
                code => code,
            },
            NetError::Dns(DnsError::ResponseCode(code)) => code,
            NetError::Timeout => return Answer::Failed(self.silent()),
            other => {
                tracing::debug!(name, error = %other, "a DNS question failed");
                return Answer::Failed(Failure::new(
                    Fault::Backend,
                    format!(
                        "the name server cannot be asked for {name} (tried {}): {other}",
                        self.servers
                    ),
                    "check the network, or name another in sip.dns",
                ));
            }
        };
        Answer::Failed(Failure::new(
            Fault::Backend,
            format!(
                "the name server refuses to answer for {name}: {code} (asked {})",
                self.servers
            ),
            "ask its operator, or name another in sip.dns",
        ))
    }
}

fn explicit(servers: &[SocketAddr]) -> ResolverConfig {
    let with_port = |mut connection: ConnectionConfig, port| {
        connection.port = port;
        connection
    };
    let servers = servers.iter().map(|server| {
        let connections = vec![
            with_port(ConnectionConfig::udp(), server.port()),
            with_port(ConnectionConfig::tcp(), server.port()),
        ];
        NameServerConfig::new(server.ip(), true, connections)
    });
    ResolverConfig::from_name_servers(servers.collect())
}

fn told(server: &NameServerConfig) -> String {
    match server.connections.first() {
        Some(connection) => SocketAddr::new(server.ip, connection.port).to_string(),
        None => server.ip.to_string(),
    }
}

fn record(question: &Question) -> Result<(Name, RecordType), Failure> {
    let kind = match question.kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Naptr => RecordType::NAPTR,
        Kind::Srv => RecordType::SRV,
    };
    // Only a bare host name is sought in the system's search domains; a domain is absolute.
    let bare = kind.is_ip_addr() && !question.name.contains('.');
    let name = Name::from_ascii(&question.name).map(|mut name| {
        name.set_fqdn(!bare);
        name
    });
    match name {
        Ok(name) => Ok((name, kind)),
        Err(e) => Err(Failure::new(
            Fault::PeerMisbehaved,
            format!("{} is no DNS name: {e}", question.name),
            "check the spelling of the domain",
        )),
    }
}

fn data(data: &RData) -> Option<Data> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let name = |name: &Name| {
        let name = name.to_ascii().to_ascii_lowercase();
        name.trim_end_matches('.').to_owned()
    };
    match data {
        RData::A(a) => Some(Data::Address(a.0.into())),
        RData::AAAA(aaaa) => Some(Data::Address(aaaa.0.into())),
        RData::NAPTR(naptr) => Some(Data::Naptr(Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            replacement: name(&naptr.replacement),
        })),
        RData::SRV(srv) => Some(Data::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: name(&srv.target),
        })),
        _ => None,
    }
}

fn unusable(why: &str) -> Failure {
    Failure::new(
        Fault::ConfigInvalid,
        format!("the system's resolver configuration cannot be used: {why}"),
        "name a name server in sip.dns, or mend /etc/resolv.conf",
    )
}

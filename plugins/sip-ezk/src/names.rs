//! Names for ezk's TLS connections.
//!
//! ezk takes the host of a URI for both: what it connects with, and whom the certificate must be for (and the name that
//! it shows to the server, SNI). Here the two differ: an address was found for a name. So ezk gets the name, and its
//! resolver asks a little name server of our own, on loopback, which gives it the address that we hold for it.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

/// It sits in the same process.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Largest question (RFC 1035 section 4.2.1).
const LARGEST: usize = 512;

/// Which name is where, while a connection to it is made.
#[derive(Default)]
pub(crate) struct Names {
    held: Mutex<HashMap<String, IpAddr>>,
    let_go: Notify,
}

impl Names {
    /// Gives ezk its resolver, and answers it. Ends with the runtime.
    pub(crate) async fn start(self: Arc<Self>) -> io::Result<TokioResolver> {
        let socket = match UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await {
            Ok(socket) => socket,
            Err(_) => UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await?,
        };
        let address = socket.local_addr()?;
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![connection]);
        let mut options = ResolverOpts::default();
        // What it hears holds for one connection.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = TIMEOUT;
        options.attempts = 1;
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        tokio::spawn(self.answer(socket));
        builder.build().map_err(io::Error::other)
    }

    /// Says where `name` is until what it returns is dropped. Waits while somebody else holds the name.
    pub(crate) async fn hold(self: &Arc<Self>, name: &str, ip: IpAddr) -> Held {
        loop {
            let let_go = self.let_go.notified();
            tokio::pin!(let_go);
            // From here on none is missed.
            let_go.as_mut().enable();
            let name = name.to_ascii_lowercase();
            if let std::collections::hash_map::Entry::Vacant(place) = self.held.lock().entry(name.clone()) {
                place.insert(ip);
                return Held {
                    names: self.clone(),
                    name,
                };
            }
            let_go.await;
        }
    }

    async fn answer(self: Arc<Self>, socket: UdpSocket) {
        let mut buffer = [0; LARGEST];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let answer = Message::from_vec(&buffer[..length])
                .ok()
                .and_then(|question| self.message(&question));
            if let Some(answer) = answer.and_then(|answer| answer.to_vec().ok()) {
                // A lost answer is asked for again.
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }

    fn message(&self, question: &Message) -> Option<Message> {
        let query = question.queries.first()?;
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        if let Some(record) = self.record(query) {
            answer.add_answer(record);
        }
        Some(answer)
    }

    fn record(&self, query: &Query) -> Option<Record> {
        let name = query.name().to_ascii().to_ascii_lowercase();
        let ip = *self.held.lock().get(name.trim_end_matches('.'))?;
        let data = match (ip, query.query_type()) {
            (IpAddr::V4(ip), RecordType::A) => RData::A(ip.into()),
            (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(ip.into()),
            _ => return None,
        };
        Some(Record::from_rdata(query.name().clone(), 0, data))
    }
}

/// A name that is held.
pub(crate) struct Held {
    names: Arc<Names>,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.names.held.lock().remove(&self.name);
        self.names.let_go.notify_waiters();
    }
}

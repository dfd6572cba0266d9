//! Flows: where messages came from, by a name that stays.

use ezk_sip_core::transport::{TpHandle, TransportCloseReason, TransportState};
use parking_lot::Mutex;
use siprtc_core::sip::{Flow, FlowId, Transport};
use siprtc_sip_locate::tls;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::sync::watch;

/// Most flows that are remembered; beyond it the one that was silent longest is forgotten.
pub(crate) const MAX_FLOWS: usize = 4096;

type Key = (Transport, SocketAddr, SocketAddr);

/// A connection: our address and theirs.
type Ends = (SocketAddr, SocketAddr);

struct Entry {
    flow: Flow,
    key: Key,
    handle: TpHandle,
    used: u64,
}

#[derive(Default)]
struct Table {
    next: u64,
    uses: u64,
    by_key: HashMap<Key, FlowId>,
    by_id: HashMap<FlowId, Entry>,
    /// Those of `by_id` that are no UDP.
    connections: usize,
    /// The TLS connections that we opened, and whose certificate they showed. As many as ezk has open.
    verified: HashMap<Ends, String>,
    /// Connections that come in there are TLS.
    tls_ports: Vec<u16>,
}

/// The flows of a stack.
#[derive(Default)]
pub(crate) struct Flows(Mutex<Table>);

/// What [`Flows::seen`] found out.
pub(crate) struct Seen {
    pub(crate) flow: Flow,
    /// A connection that was not known before.
    pub(crate) up: bool,
    /// Connections that this one replaces or pushes out, and why they are gone.
    pub(crate) down: Vec<(FlowId, &'static str)>,
}

impl Flows {
    /// Remembers where a message came from or goes to.
    pub(crate) fn seen(&self, handle: &TpHandle, remote: SocketAddr) -> Seen {
        let mut table = self.0.lock();
        let transport = table.transport(handle, remote);
        let key = (transport, handle.bound(), remote);
        table.uses += 1;
        let uses = table.uses;
        let mut down = Vec::new();
        if let Some(&id) = table.by_key.get(&key)
            && let Some(entry) = table.by_id.get_mut(&id)
        {
            if same_transport(&entry.handle, handle) {
                entry.used = uses;
                return Seen {
                    flow: entry.flow,
                    up: false,
                    down,
                };
            }
            table.remove(id);
            down.push((id, "the peer opened a new connection from the same address"));
        }
        if table.by_id.len() >= MAX_FLOWS
            && let Some(oldest) = table
                .by_id
                .values()
                .min_by_key(|entry| entry.used)
                .map(|entry| entry.flow)
        {
            table.remove(oldest.id);
            if oldest.transport != Transport::Udp {
                down.push((oldest.id, "it was silent longest when there were too many flows"));
            }
        }
        table.next += 1;
        let id = FlowId(table.next);
        let flow = Flow {
            id,
            transport,
            local: local_address(handle.bound(), remote),
            remote,
        };
        table.by_key.insert(key, id);
        table.connections += usize::from(transport != Transport::Udp);
        table.by_id.insert(
            id,
            Entry {
                flow,
                key,
                handle: handle.clone(),
                used: uses,
            },
        );
        Seen {
            flow,
            up: transport != Transport::Udp,
            down,
        }
    }

    /// ezk does not say which of its connections are TLS: those that come in at these ports are.
    pub(crate) fn listens_for_tls(&self, ports: Vec<u16>) {
        self.0.lock().tls_ports = ports;
    }

    /// An open TLS connection to `remote` whose certificate was for `name`.
    pub(crate) fn verified(&self, remote: SocketAddr, name: &str) -> Option<TpHandle> {
        let table = self.0.lock();
        let ends = table
            .verified
            .iter()
            .filter(|((_, to), known)| *to == remote && known.eq_ignore_ascii_case(name))
            .map(|((bound, to), _)| (Transport::Tls, *bound, *to));
        ends.filter_map(|key| table.by_id.get(table.by_key.get(&key)?))
            .map(|entry| entry.handle.clone())
            .find(is_open)
    }

    /// ezk has a TLS connection to `remote`, which it opened for `name` or had before. `false`: it had it before, and
    /// not for that name.
    pub(crate) fn verify(&self, handle: &TpHandle, remote: SocketAddr, name: &str) -> bool {
        let mut table = self.0.lock();
        let bound = handle.bound();
        if table.tls_ports.contains(&bound.port()) {
            return false;
        }
        let known = table
            .verified
            .entry((bound, remote))
            .or_insert_with(|| name.to_owned());
        known.eq_ignore_ascii_case(name)
    }

    /// The connection between these two is gone.
    pub(crate) fn closed(&self, ends: Ends) {
        self.0.lock().verified.remove(&ends);
    }

    /// Whether there are fewer than `most` connections, or one of them leads to `remote` already.
    pub(crate) fn may_connect(&self, remote: SocketAddr, most: usize) -> bool {
        let table = self.0.lock();
        let leads_there = |e: &Entry| e.flow.transport != Transport::Udp && e.flow.remote == remote;
        table.connections < most || table.by_id.values().any(leads_there)
    }

    /// The flow, if it is still there; this counts as a use.
    pub(crate) fn find(&self, id: FlowId) -> Option<(Flow, TpHandle)> {
        let mut table = self.0.lock();
        table.uses += 1;
        let uses = table.uses;
        let entry = table.by_id.get_mut(&id)?;
        entry.used = uses;
        Some((entry.flow, entry.handle.clone()))
    }

    /// Forgets the flow, and says whether it was there.
    pub(crate) fn forget(&self, id: FlowId) -> bool {
        self.0.lock().remove(id)
    }

    /// Forgets all, and says which of them were connections.
    pub(crate) fn clear(&self) -> Vec<FlowId> {
        let mut table = self.0.lock();
        table.by_key.clear();
        table.verified.clear();
        table.connections = 0;
        let gone = std::mem::take(&mut table.by_id);
        drop(table);
        gone.into_values()
            .filter(|e| e.flow.transport != Transport::Udp)
            .map(|e| e.flow.id)
            .collect()
    }
}

impl Table {
    fn transport(&self, handle: &TpHandle, remote: SocketAddr) -> Transport {
        let bound = handle.bound();
        if handle.is_udp() {
            Transport::Udp
        } else if self.tls_ports.contains(&bound.port()) || self.verified.contains_key(&(bound, remote)) {
            Transport::Tls
        } else {
            Transport::Tcp
        }
    }

    fn remove(&mut self, id: FlowId) -> bool {
        let Some(entry) = self.by_id.remove(&id) else {
            return false;
        };
        self.by_key.remove(&entry.key);
        self.connections -= usize::from(entry.flow.transport != Transport::Udp);
        true
    }
}

/// Waits until the connection is gone and says why. Holds no handle, so that a forgotten connection can idle out.
pub(crate) async fn closed(mut state: watch::Receiver<TransportState>, remote: SocketAddr) -> String {
    loop {
        if let TransportState::Closed(reason) = &*state.borrow_and_update() {
            return why(reason, remote);
        }
        if state.changed().await.is_err() {
            return "its reader ended".to_owned();
        }
    }
}

fn why(reason: &TransportCloseReason, remote: SocketAddr) -> String {
    match reason {
        TransportCloseReason::Inactivity => "it was idle".to_owned(),
        // A client certificate that the server wants or does not like shows only after the handshake (TLS 1.3).
        TransportCloseReason::Err(error) if is_of_tls(error) => {
            tls::explain(error, &remote.to_string()).to_string()
        }
        TransportCloseReason::Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection".to_owned()
        }
        TransportCloseReason::Err(error) => error.to_string(),
    }
}

fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn is_open(handle: &TpHandle) -> bool {
    matches!(*handle.watch_state().borrow(), TransportState::Ok)
}

/// `bound`, or what the system would choose towards `remote` when bound to every address. Sends nothing.
pub(crate) fn local_address(bound: SocketAddr, remote: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    match source_towards(remote) {
        Some(source) => SocketAddr::new(source.ip(), bound.port()),
        None => bound,
    }
}

/// The address that the system's routes give a packet to `remote`.
pub(crate) fn source_towards(remote: SocketAddr) -> Option<SocketAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = UdpSocket::bind(any).ok()?;
    // Connecting a datagram socket only asks the routing table.
    probe.connect(remote).ok()?;
    probe.local_addr().ok()
}

/// ezk has no equality of handles, but each transport has its own state channel.
fn same_transport(one: &TpHandle, other: &TpHandle) -> bool {
    one.watch_state().same_channel(&other.watch_state())
}

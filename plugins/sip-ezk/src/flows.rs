//! Flows: where messages came from, by a name that stays.

use ezk_sip_core::transport::{TpHandle, TransportState};
use parking_lot::Mutex;
use siprtc_core::sip::{Flow, FlowId, Transport};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::sync::watch;

/// Most flows that are remembered; beyond it the one that was silent longest is forgotten.
pub(crate) const MAX_FLOWS: usize = 4096;

type Key = (Transport, SocketAddr, SocketAddr);

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
        let transport = transport_of(handle);
        let key = (transport, handle.bound(), remote);
        let mut table = self.0.lock();
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
        let gone = std::mem::take(&mut table.by_id);
        drop(table);
        gone.into_values()
            .filter(|e| e.flow.transport != Transport::Udp)
            .map(|e| e.flow.id)
            .collect()
    }
}

impl Table {
    fn remove(&mut self, id: FlowId) -> bool {
        let Some(entry) = self.by_id.remove(&id) else {
            return false;
        };
        self.by_key.remove(&entry.key);
        true
    }
}

/// Waits until the connection is gone and says why. Holds no handle, so that a forgotten connection can idle out.
pub(crate) async fn closed(mut state: watch::Receiver<TransportState>) -> String {
    loop {
        if let TransportState::Closed(reason) = &*state.borrow_and_update() {
            return format!("{reason:?}");
        }
        if state.changed().await.is_err() {
            return "its reader ended".to_owned();
        }
    }
}

pub(crate) fn transport_of(handle: &TpHandle) -> Transport {
    if handle.is_udp() {
        Transport::Udp
    } else {
        Transport::Tcp
    }
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

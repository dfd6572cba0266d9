//! Flows: where messages came from, by a name that stays.

use crate::connection::Connection;
use crate::udp::Socket;
use parking_lot::Mutex;
use siprtc_core::sip::{Flow, FlowId, Transport};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Most UDP flows of a generation. When one is full the generation before it is forgotten, so that a flow that was
/// used among the last so many others is always known, and two times as many are held at most.
const GENERATION: usize = 4096;

/// A connection that requests to the same place share: where to, and whose certificate it has shown.
pub(crate) type ReuseKey = (Transport, SocketAddr, Option<String>);

#[derive(Default)]
struct Generation {
    by_path: HashMap<(SocketAddr, SocketAddr), FlowId>,
    by_id: HashMap<FlowId, (Flow, Arc<Socket>)>,
}

#[derive(Default)]
struct Table {
    next: u64,
    current: Generation,
    previous: Generation,
    connections: HashMap<FlowId, Arc<Connection>>,
    reusable: HashMap<ReuseKey, FlowId>,
}

/// The flows of a stack.
#[derive(Default)]
pub(crate) struct Flows(Mutex<Table>);

impl Flows {
    /// The flow between a socket of ours and `remote`.
    pub(crate) fn udp(&self, socket: &Arc<Socket>, remote: SocketAddr) -> Flow {
        let path = (socket.bound, remote);
        let mut table = self.0.lock();
        if let Some(id) = table.current.by_path.get(&path)
            && let Some((flow, _)) = table.current.by_id.get(id)
        {
            return *flow;
        }
        let known = table.previous.by_path.remove(&path);
        let flow = match known.and_then(|id| table.previous.by_id.remove(&id)) {
            Some((flow, _)) => flow,
            None => Flow {
                id: table.mint(),
                transport: Transport::Udp,
                local: local_address(socket.bound, remote),
                remote,
            },
        };
        if table.current.by_id.len() >= GENERATION {
            table.previous = std::mem::take(&mut table.current);
        }
        table.current.by_path.insert(path, flow.id);
        table.current.by_id.insert(flow.id, (flow, socket.clone()));
        flow
    }

    /// The UDP flow, if it is still known.
    pub(crate) fn find_udp(&self, id: FlowId) -> Option<(Flow, Arc<Socket>)> {
        let table = self.0.lock();
        let found = table
            .current
            .by_id
            .get(&id)
            .or_else(|| table.previous.by_id.get(&id));
        found.cloned()
    }

    pub(crate) fn mint(&self) -> FlowId {
        self.0.lock().mint()
    }

    pub(crate) fn connection(&self, id: FlowId) -> Option<Arc<Connection>> {
        self.0.lock().connections.get(&id).cloned()
    }

    /// The connection that a request to `key` may use.
    pub(crate) fn reuse(&self, key: &ReuseKey) -> Option<Arc<Connection>> {
        let table = self.0.lock();
        table.connections.get(table.reusable.get(key)?).cloned()
    }

    pub(crate) fn connected(&self, connection: &Arc<Connection>, key: Option<ReuseKey>) {
        let mut table = self.0.lock();
        let id = connection.flow.id;
        table.connections.insert(id, connection.clone());
        if let Some(key) = key {
            table.reusable.insert(key, id);
        }
    }

    /// Forgets a connection; says whether it was there.
    pub(crate) fn disconnected(&self, id: FlowId) -> bool {
        let mut table = self.0.lock();
        table.reusable.retain(|_, known| *known != id);
        table.connections.remove(&id).is_some()
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.0.lock().connections.values().cloned().collect()
    }

    /// Forgets every UDP flow, and with them the sockets.
    pub(crate) fn clear_udp(&self) {
        let mut table = self.0.lock();
        table.current = Generation::default();
        table.previous = Generation::default();
    }
}

impl Table {
    fn mint(&mut self) -> FlowId {
        self.next += 1;
        FlowId(self.next)
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

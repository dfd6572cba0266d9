//! Which flows there are, and what each is to the library.

use crate::sofia::{Arrival, Connection, Transport, TransportId, Watch};
use siprtc_core::sip::{Flow, FlowId, Listener, Transport as Protocol};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Most pairs of UDP addresses that are remembered; beyond it the one not used for longest is forgotten.
const MAX_UDP_FLOWS: usize = 4096;

struct Entry {
    flow: Flow,
    way: Way,
    /// Whether its users know of it.
    announced: bool,
    used: u64,
}

/// What a flow is to the library.
enum Way {
    Connection {
        connection: Connection,
        /// Tells its end.
        _watch: Watch,
    },
    Socket(Transport),
}

#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Key {
    Connection(TransportId),
    Datagrams(TransportId, SocketAddr),
}

/// The flows of a stack. How many connections there are is the library's side to bound: see `Agent::start`.
#[derive(Default)]
pub(crate) struct Flows {
    by_id: HashMap<FlowId, Entry>,
    by_key: HashMap<Key, FlowId>,
    connections: usize,
    /// Connections of ours that were not connected when they were last looked at.
    connecting: Vec<FlowId>,
    next: u64,
    uses: u64,
}

impl Flows {
    /// A connection has been opened; `remote` is whom ours go to. Returns the flow of one that stands already.
    pub(crate) fn opened(
        &mut self,
        connection: Connection,
        protocol: Protocol,
        accepted: bool,
    ) -> Option<Flow> {
        let transport = connection.transport();
        let remote = match accepted {
            true => connection.remote().or(transport.address()),
            false => transport.address(),
        };
        let (local, remote) = (connection.local()?, remote?);
        let (key, watch) = (Key::Connection(transport.id()), transport.watch());
        let way = Way::Connection {
            connection,
            _watch: watch,
        };
        let flow = self.add(key, way, protocol, local, remote);
        self.connections += 1;
        if !accepted {
            self.connecting.push(flow.id);
            return None;
        }
        self.announce(flow.id);
        Some(flow)
    }

    /// The flow that a message came over; the other word says that nobody has heard of it yet.
    pub(crate) fn seen(&mut self, arrival: &Arrival, listener: &Listener) -> Option<(Flow, bool)> {
        self.uses += 1;
        let (transport, remote) = (&arrival.transport, arrival.remote);
        let connection = transport.is_connection();
        let key = match connection {
            true => Key::Connection(transport.id()),
            false => Key::Datagrams(transport.id(), remote),
        };
        if let Some(id) = self.by_key.get(&key) {
            let entry = self.by_id.get_mut(id)?;
            entry.used = self.uses;
            let news = !std::mem::replace(&mut entry.announced, true);
            return Some((entry.flow, news));
        }
        if connection {
            return None;
        }
        self.make_room();
        let local = crate::target::local_address(listener.bound, remote);
        let way = Way::Socket(transport.clone());
        let flow = self.add(key, way, listener.transport, local, remote);
        self.announce(flow.id);
        Some((flow, false))
    }

    /// Connections of ours that have come up since this was last asked.
    pub(crate) fn connected(&mut self) -> Vec<Flow> {
        let mut up = Vec::new();
        let by_id = &mut self.by_id;
        self.connecting.retain(|id| match by_id.get_mut(id) {
            Some(entry) if entry.announced => false,
            Some(entry) if entry.way.transport().is_connected() => {
                entry.announced = true;
                up.push(entry.flow);
                false
            }
            Some(_) => true,
            None => false,
        });
        up
    }

    pub(crate) fn find(&mut self, id: FlowId) -> Option<(Flow, Transport)> {
        self.uses += 1;
        let uses = self.uses;
        let entry = self.by_id.get_mut(&id)?;
        entry.used = uses;
        Some((entry.flow, entry.way.transport().clone()))
    }

    /// The connection that a flow is, if it is one.
    pub(crate) fn connection(&self, id: FlowId) -> Option<&Connection> {
        match &self.by_id.get(&id)?.way {
            Way::Connection { connection, .. } => Some(connection),
            Way::Socket(_) => None,
        }
    }

    /// The flow of a connection.
    pub(crate) fn id_of(&self, transport: TransportId) -> Option<FlowId> {
        self.by_key.get(&Key::Connection(transport)).copied()
    }

    /// Whether there is a connection to `remote`.
    pub(crate) fn reaches(&self, transport: Protocol, remote: SocketAddr) -> bool {
        self.by_id
            .values()
            .any(|entry| entry.flow.transport == transport && entry.flow.remote == remote)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections
    }

    /// Forgets a connection that is gone, and says which flow that was if anybody knows of it.
    pub(crate) fn closed(&mut self, transport: TransportId) -> Option<FlowId> {
        let id = self.by_key.remove(&Key::Connection(transport))?;
        let entry = self.by_id.remove(&id)?;
        self.connections -= 1;
        entry.announced.then_some(id)
    }

    /// Forgets all, and says which connections anybody knows of.
    pub(crate) fn clear(&mut self) -> Vec<FlowId> {
        let gone = std::mem::take(&mut self.by_id);
        self.by_key.clear();
        self.connections = 0;
        gone.into_values()
            .filter(|entry| entry.announced && matches!(entry.way, Way::Connection { .. }))
            .map(|entry| entry.flow.id)
            .collect()
    }

    fn add(
        &mut self,
        key: Key,
        way: Way,
        transport: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Flow {
        self.next += 1;
        let flow = Flow {
            id: FlowId(self.next),
            transport,
            local,
            remote,
        };
        self.by_key.insert(key, flow.id);
        let entry = Entry {
            flow,
            way,
            announced: false,
            used: self.uses,
        };
        self.by_id.insert(flow.id, entry);
        flow
    }

    fn announce(&mut self, id: FlowId) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.announced = true;
        }
    }

    fn make_room(&mut self) {
        if self.by_id.len() - self.connections < MAX_UDP_FLOWS {
            return;
        }
        let oldest = self
            .by_id
            .values()
            .filter(|entry| matches!(entry.way, Way::Socket(_)))
            .min_by_key(|entry| entry.used)
            .map(|entry| (entry.flow, entry.way.transport().id()));
        if let Some((flow, transport)) = oldest {
            self.by_id.remove(&flow.id);
            self.by_key.remove(&Key::Datagrams(transport, flow.remote));
        }
    }
}

impl Way {
    fn transport(&self) -> &Transport {
        match self {
            Way::Connection { connection, .. } => connection.transport(),
            Way::Socket(transport) => transport,
        }
    }
}

//! Where messages go and come from, and the names of flows.
//!
//! A UDP flow over IPv4 is named by its own address: such a name needs no memory, and no flood can push it out of a
//! table. IPv6 addresses are too long for that: the last [`MAX_IPV6_FLOWS`] are remembered.

use crate::connection::Connection;
use parking_lot::Mutex;
use siprtc_core::sip::FlowId;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Most UDP listeners of a stack: their number stands in the names of flows.
pub(crate) const MAX_UDP: usize = 1 << 14;

/// Most UDP flows over IPv6 that are remembered; beyond it those that were silent longest are forgotten.
pub(crate) const MAX_IPV6_FLOWS: usize = 8192;

/// Most remote addresses whose source address is remembered; beyond it all are asked for anew.
const MAX_SOURCES: usize = 1024;

/// How long the system's choice of a source address is believed, unless somebody says that addresses changed.
const SOURCE_LIFE: Duration = Duration::from_secs(1);

const UDP: u64 = 1 << 63;
const IPV6: u64 = 1 << 62;

/// Where a message goes to or came from.
#[derive(Clone)]
pub(crate) enum Path {
    /// A connection, which may be gone.
    Connection(Arc<Connection>),
    /// A pair of addresses.
    Udp(UdpPath),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct UdpPath {
    /// Which of the stack's UDP sockets.
    pub(crate) socket: u16,
    pub(crate) peer: SocketAddr,
    /// Where the peer is sent to: its own port, unless its Via asks for another (RFC 3261 section 18.2.2).
    pub(crate) port: u16,
}

impl UdpPath {
    pub(crate) fn new(socket: u16, peer: SocketAddr) -> Self {
        UdpPath {
            socket,
            peer,
            port: peer.port(),
        }
    }

    pub(crate) fn to(&self) -> SocketAddr {
        let mut to = self.peer;
        to.set_port(self.port);
        to
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Path::Connection(one), Path::Connection(other)) => one.id() == other.id(),
            (Path::Udp(one), Path::Udp(other)) => one == other,
            _ => false,
        }
    }
}

impl siprtc_sip_transactions::Path for Path {
    fn is_reliable(&self) -> bool {
        matches!(self, Path::Connection(_))
    }
}

/// The UDP flows of a stack.
#[derive(Default)]
pub(crate) struct UdpFlows {
    ipv6: Mutex<Ipv6Flows>,
    sources: Mutex<HashMap<SocketAddr, (Option<SocketAddr>, Instant)>>,
}

/// Two generations: what is used moves to the younger, and when that is full the older is forgotten.
#[derive(Default)]
struct Ipv6Flows {
    last: u64,
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    by_peer: HashMap<(u16, SocketAddrV6), u64>,
    by_id: HashMap<u64, (u16, SocketAddrV6)>,
}

impl UdpFlows {
    /// The flow's name.
    pub(crate) fn id(&self, socket: u16, peer: SocketAddr) -> FlowId {
        match peer {
            SocketAddr::V4(peer) => FlowId(
                UDP | u64::from(socket) << 48 | u64::from(peer.ip().to_bits()) << 16 | u64::from(peer.port()),
            ),
            SocketAddr::V6(peer) => FlowId(UDP | IPV6 | self.ipv6.lock().id(socket, peer)),
        }
    }

    /// The flow of that name; `None` when it is a connection's, or forgotten.
    pub(crate) fn find(&self, FlowId(id): FlowId) -> Option<UdpPath> {
        if id & UDP == 0 {
            return None;
        }
        if id & IPV6 != 0 {
            let (socket, peer) = self.ipv6.lock().find(id & !(UDP | IPV6))?;
            return Some(UdpPath::new(socket, peer.into()));
        }
        let ip = Ipv4Addr::from_bits((id >> 16) as u32);
        Some(UdpPath::new(
            (id >> 48) as u16 & (MAX_UDP as u16 - 1),
            SocketAddr::new(ip.into(), id as u16),
        ))
    }

    /// `bound`, or what the system chooses towards `remote` when bound to every address.
    pub(crate) fn local(&self, bound: SocketAddr, remote: SocketAddr) -> SocketAddr {
        if !bound.ip().is_unspecified() {
            return bound;
        }
        match self.source(remote) {
            Some(source) => SocketAddr::new(source.ip(), bound.port()),
            None => bound,
        }
    }

    /// The system's routes may choose other addresses from now on.
    pub(crate) fn forget_sources(&self) {
        self.sources.lock().clear();
    }

    /// The address that the system's routes give a packet to `remote`, at most [`SOURCE_LIFE`] old.
    pub(crate) fn source(&self, mut remote: SocketAddr) -> Option<SocketAddr> {
        // The port makes no difference to the routes, but 0 is refused.
        remote.set_port(9);
        let now = Instant::now();
        let mut sources = self.sources.lock();
        if let Some((source, until)) = sources.get(&remote)
            && now < *until
        {
            return *source;
        }
        if sources.len() >= MAX_SOURCES {
            sources.clear();
        }
        let source = ask_for_source(remote);
        sources.insert(remote, (source, now + SOURCE_LIFE));
        source
    }
}

impl Ipv6Flows {
    fn id(&mut self, socket: u16, peer: SocketAddrV6) -> u64 {
        let key = (socket, peer);
        if let Some(id) = self.young.by_peer.get(&key) {
            return *id;
        }
        let id = match self.old.by_peer.remove(&key) {
            Some(id) => {
                self.old.by_id.remove(&id);
                id
            }
            None => {
                self.last += 1;
                self.last
            }
        };
        self.keep(id, key);
        id
    }

    fn find(&mut self, id: u64) -> Option<(u16, SocketAddrV6)> {
        if let Some(key) = self.young.by_id.get(&id) {
            return Some(*key);
        }
        let key = self.old.by_id.remove(&id)?;
        self.old.by_peer.remove(&key);
        self.keep(id, key);
        Some(key)
    }

    fn keep(&mut self, id: u64, key: (u16, SocketAddrV6)) {
        if self.young.by_id.len() >= MAX_IPV6_FLOWS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.by_peer.insert(key, id);
        self.young.by_id.insert(id, key);
    }
}

/// Connecting a datagram socket only asks the routing table: nothing is sent.
fn ask_for_source(remote: SocketAddr) -> Option<SocketAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = UdpSocket::bind(any).ok()?;
    probe.connect(remote).ok()?;
    probe.local_addr().ok()
}

/// Whether this host had the address and has it no more. Binding asks; nothing is sent. (Where the system lets anybody bind
/// any address, `net.ipv4.ip_nonlocal_bind`, it never says so.)
pub(crate) fn is_gone(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(last: u16, port: u16) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), port).into()
    }

    #[test]
    fn the_name_of_a_udp_flow_says_which_socket_and_which_peer() {
        let flows = UdpFlows::default();
        let last = MAX_UDP as u16 - 1;
        for (socket, peer) in [
            (0, "0.0.0.0:0".parse().unwrap()),
            (3, "192.0.2.1:5060".parse().unwrap()),
            (last, "255.255.255.255:65535".parse().unwrap()),
            (0, v6(1, 5060)),
            (last, v6(2, 65535)),
        ] {
            let id = flows.id(socket, peer);
            assert_eq!(flows.id(socket, peer), id);
            assert_eq!(flows.find(id), Some(UdpPath::new(socket, peer)));
        }
        assert_ne!(flows.id(0, v6(1, 5060)), flows.id(1, v6(1, 5060)));
        assert_eq!(flows.find(FlowId(7)), None, "a connection's");
        assert_eq!(flows.find(FlowId(u64::MAX)), None);
    }

    #[test]
    fn an_ipv6_flow_in_use_outlives_a_flood_of_others() {
        let flows = UdpFlows::default();
        let (used, unused) = (flows.id(0, v6(1, 1)), flows.id(0, v6(1, 2)));
        for port in 0..u16::MAX {
            flows.id(0, v6(2, port));
            if port % 1000 == 0 {
                assert_eq!(flows.find(used), Some(UdpPath::new(0, v6(1, 1))));
            }
        }
        assert_eq!(flows.find(unused), None);
        let table = flows.ipv6.lock();
        assert!(table.young.by_id.len() + table.old.by_id.len() <= MAX_IPV6_FLOWS);
        assert_eq!(table.young.by_id.len(), table.young.by_peer.len());
        assert_eq!(table.old.by_id.len(), table.old.by_peer.len());
    }

    #[test]
    fn an_address_that_no_interface_has_is_gone() {
        for gone in ["192.0.2.77", "2001:db8::77"] {
            // A host without IPv6 says something else of it, which must not count.
            assert!(is_gone(gone.parse().unwrap()) || gone.contains(':'), "{gone}");
        }
        for here in ["127.0.0.1", "0.0.0.0"] {
            assert!(!is_gone(here.parse().unwrap()), "{here}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_address_is_asked_for_anew_when_addresses_changed() {
        let flows = UdpFlows::default();
        let remote: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let before: SocketAddr = "192.0.2.77:1".parse().unwrap();
        let remember = || {
            let until = Instant::now() + SOURCE_LIFE;
            flows.sources.lock().insert(remote, (Some(before), until));
        };
        remember();
        assert_eq!(flows.source(remote), Some(before), "believed for a while");
        flows.forget_sources();
        assert_eq!(flows.source(remote).unwrap().ip(), remote.ip());
        remember();
        tokio::time::advance(SOURCE_LIFE).await;
        assert_eq!(flows.source(remote).unwrap().ip(), remote.ip(), "not for long");
    }

    #[test]
    fn the_source_of_a_packet_to_this_host_is_this_host() {
        let flows = UdpFlows::default();
        let (any, remote) = ("0.0.0.0:5060".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
        assert_eq!(flows.local(any, remote), "127.0.0.1:5060".parse().unwrap());
        let bound = "192.0.2.1:5060".parse().unwrap();
        assert_eq!(flows.local(bound, remote), bound);
    }
}

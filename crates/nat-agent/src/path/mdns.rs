//! Candidates that are mDNS names (draft-ietf-mmusic-mdns-ice-candidates, RFC 8828 section 5.2): a browser hides its addresses
//! behind `<uuid>.local`, which only its own network can resolve (RFC 6762).
//!
//! One-shot queries over IPv4 (RFC 6762 section 5.1): from a port of its own, so that no other querier of this host is
//! disturbed; answers are taken there and, for responders that answer to all, at the group. Who lies in an answer gains
//! no more than the peer, who could have named any address in the first place.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// A name that is not resolved by then is dropped; the call goes on all the while.
const PATIENCE: Duration = Duration::from_secs(3);
/// RFC 6762 section 5.2: at least one second between the first two queries.
const AGAIN: Duration = Duration::from_secs(1);
/// RFC 6762 section 17.
const LONGEST: usize = 9_000;
/// RFC 6762 section 5.4: the top bit of a question's class wants a unicast answer; of a record's class, it is the only one.
const TOP_BIT: u16 = 0x8000;
/// Interfaces that are asked on.
const MOST_INTERFACES: usize = 16;

/// Where names under `.local` are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mdns {
    group: SocketAddrV4,
}

impl Default for Mdns {
    /// 224.0.0.251, port 5353.
    fn default() -> Self {
        Mdns::at(SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353))
    }
}

impl Mdns {
    /// Another group, or a single responder: for laboratories.
    pub fn at(group: SocketAddrV4) -> Self {
        Mdns { group }
    }

    /// The address of `name` that `accepts` takes, asked for from these of ours.
    pub(super) async fn resolve(
        self,
        name: &str,
        ours: &[Ipv4Addr],
        accepts: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let name = Name::from_ascii(format!("{name}.")).ok()?;
        let (id, mut sockets) = (rand::random::<u16>(), Vec::new());
        for ip in ours.iter().take(MOST_INTERFACES) {
            match asking(*ip) {
                Ok(socket) => sockets.push(socket),
                Err(error) => tracing::debug!(%ip, %error, "no mDNS from here"),
            }
        }
        let asking = sockets.len();
        if self.group.ip().is_multicast() {
            match listening(self.group, ours) {
                Ok(socket) => sockets.push(socket),
                Err(error) => tracing::debug!(%error, "mDNS answers to all are not heard"),
            }
        }
        let question = question(id, &name)?;
        let found = async {
            loop {
                for socket in &sockets[..asking] {
                    if let Err(error) = SockRef::from(socket).send_to(&question, &self.group.into()) {
                        tracing::debug!(%error, "an mDNS question is not sent");
                    }
                }
                let answer = poll_fn(|cx| poll_answer(cx, &sockets, asking, id, &name, &accepts));
                if let Ok(found) = tokio::time::timeout(AGAIN, answer).await {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.ok()
    }
}

/// Whether a candidate's host is a name to ask for: a UUID under `.local`, and nothing else, so that a peer cannot have us look
/// for the printer.
pub(super) fn is_name(host: &str) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let Some((uuid, rest)) = host.split_at_checked(36) else {
        return false;
    };
    let is_right = |(at, octet): (usize, u8)| match DASHES.contains(&at) {
        true => octet == b'-',
        false => octet.is_ascii_hexdigit(),
    };
    rest.eq_ignore_ascii_case(".local") && uuid.bytes().enumerate().all(is_right)
}

fn asking(ip: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    let options = SockRef::from(&socket);
    options.set_multicast_if_v4(&ip)?;
    // RFC 6762 section 11: 255.
    options.set_multicast_ttl_v4(255)?;
    options.set_multicast_loop_v4(true)?;
    UdpSocket::from_std(socket)
}

fn listening(group: SocketAddrV4, ours: &[Ipv4Addr]) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The host's own responder has the port too.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, group.port()).into())?;
    for ip in ours.iter().take(MOST_INTERFACES) {
        if let Err(error) = socket.join_multicast_v4(group.ip(), ip) {
            tracing::debug!(%ip, %error, "mDNS answers to all are not heard here");
        }
    }
    UdpSocket::from_std(socket.into())
}

fn question(id: u16, name: &Name) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    for kind in [RecordType::A, RecordType::AAAA] {
        let mut query = Query::query(name.clone(), kind);
        query.query_class = DNSClass::from(u16::from(DNSClass::IN) | TOP_BIT);
        message.add_query(query);
    }
    message.to_vec().ok()
}

fn poll_answer(
    cx: &mut Context<'_>,
    sockets: &[UdpSocket],
    asking: usize,
    id: u16,
    name: &Name,
    accepts: &impl Fn(IpAddr) -> bool,
) -> Poll<IpAddr> {
    let mut buffer = vec![0; LONGEST];
    for (at, socket) in sockets.iter().enumerate() {
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match socket.poll_recv_from(cx, &mut read) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => {}
                Poll::Ready(Ok(_)) => {
                    // RFC 6762 section 6.7: an answer to us alone repeats our id; one to all has none.
                    let id = (at < asking).then_some(id);
                    if let Some(ip) = answer(read.filled(), id, name, accepts) {
                        return Poll::Ready(ip);
                    }
                }
            }
        }
    }
    Poll::Pending
}

/// The first address of `name` in an answer that `accepts` takes.
fn answer(data: &[u8], id: Option<u16>, name: &Name, accepts: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let message = Message::from_vec(data).ok()?;
    let metadata = &message.metadata;
    if metadata.message_type != MessageType::Response || id.is_some_and(|id| id != metadata.id) {
        return None;
    }
    message.answers.iter().find_map(|record| {
        let is_internet = u16::from(record.dns_class) & !TOP_BIT == u16::from(DNSClass::IN);
        let ip = match &record.data {
            RData::A(ip) => IpAddr::V4(ip.0),
            RData::AAAA(ip) => IpAddr::V6(ip.0),
            _ => return None,
        };
        (is_internet && record.name == *name && is_address(ip) && accepts(ip)).then_some(ip)
    })
}

/// Whether it can be a single host's.
fn is_address(ip: IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        // It means nothing without its interface.
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_unspecified() && !ip.is_multicast() && !is_local
}

/// The addresses of ours that a question leaves from.
pub(super) fn interfaces(addresses: impl Iterator<Item = SocketAddr>) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    for addr in addresses {
        if let IpAddr::V4(ip) = addr.ip()
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests;

//! Opens sockets.

use crate::config::{Listener, Transport};
use rand::Rng;
use siprtc_core::{Error, Fault, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

/// Octets that a listening UDP socket may have waiting: a burst of 32 clients' video. The system may give less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Ports that are tried before a client is told that there is none.
const TRIES: usize = 64;

/// A listening socket for each worker, all on one address. The system spreads clients over them by their addresses.
pub(crate) fn listen(listener: Listener, workers: usize) -> Result<Vec<Socket>> {
    let cannot = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "end the program that has it, or choose another port",
            io::ErrorKind::AddrNotAvailable => "name an address of this machine",
            io::ErrorKind::PermissionDenied => "choose a port from 1024 on, or run with CAP_NET_BIND_SERVICE",
            _ => "check the address",
        };
        let what = format!("{} {} cannot be bound", listener.transport, listener.bind);
        Error::new(Fault::ConfigInvalid, "start TURN server", what)
            .caused_by(error)
            .advice(advice)
    };
    // The first is bound alone: two that share a port would share it with another program's too, without a word.
    let first = bind(listener.transport, listener.bind, false).map_err(cannot)?;
    if workers <= 1 {
        return Ok(vec![ready(first, listener.transport).map_err(cannot)?]);
    }
    let address = first
        .local_addr()
        .map_err(cannot)?
        .as_socket()
        .unwrap_or(listener.bind);
    drop(first);
    (0..workers)
        .map(|_| {
            bind(listener.transport, address, true)
                .and_then(|socket| ready(socket, listener.transport))
                .map_err(cannot)
        })
        .collect()
}

fn bind(transport: Transport, address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp | Transport::Tls => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_reuse_port(shared)?;
    if kind == Type::STREAM {
        // Connections of a server that has just ended do not keep the port.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn ready(socket: Socket, transport: Transport) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    match transport {
        Transport::Udp => socket.set_recv_buffer_size(RECEIVE_BUFFER)?,
        Transport::Tcp | Transport::Tls => socket.listen(BACKLOG)?,
    }
    Ok(socket)
}

/// A relayed port. Which one cannot be guessed (RFC 8656 section 7.2).
pub(crate) fn relay(ip: IpAddr, ports: &RangeInclusive<u16>, even: bool) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = match *ports.start() {
            0 => 0,
            _ => rand::rng().random_range(ports.clone()),
        };
        let port = if even { port & !1 } else { port };
        if port != 0 && !ports.contains(&port) {
            continue;
        }
        match UdpSocket::bind((ip, port)) {
            Ok(socket) if even && socket.local_addr()?.port() % 2 == 1 => {}
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                return Ok(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Lets the process have as many sockets as it may: every allocation is one.
pub(crate) fn raise_descriptor_limit(needed: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let needed = needed as u64;
    if soft < needed
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard)
    {
        tracing::warn!(%error, soft, "the limit of open files stays");
    }
    if hard < needed {
        tracing::warn!(
            needed,
            hard,
            "fewer open files are allowed than allocations; raise `ulimit -n`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn listener(transport: Transport, port: u16) -> Listener {
        Listener {
            transport,
            bind: SocketAddr::new(LOCALHOST, port),
        }
    }

    #[test]
    fn several_workers_share_one_port_and_nobody_else_does() {
        for transport in [Transport::Udp, Transport::Tcp] {
            for workers in [1, 3] {
                let sockets = listen(listener(transport, 0), workers).unwrap();
                let port = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap().port();
                assert!(sockets.iter().all(|socket| port(socket) == port(&sockets[0])));
                assert_eq!(sockets.len(), workers);
                let error = listen(listener(transport, port(&sockets[0])), workers).unwrap_err();
                assert_eq!(error.fault(), Fault::ConfigInvalid);
                assert!(error.to_string().contains("choose another port"), "{error}");
            }
        }
    }

    #[test]
    fn relayed_ports_are_in_their_range_and_even_when_asked() {
        for _ in 0..50 {
            let port = relay(LOCALHOST, &(50_001..=60_000), true)
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            assert!(
                (50_001..=60_000).contains(&port) && port.is_multiple_of(2),
                "{port}"
            );
        }
        assert_ne!(
            relay(LOCALHOST, &(0..=0), false)
                .unwrap()
                .local_addr()
                .unwrap()
                .port(),
            0
        );
        let one = relay(LOCALHOST, &(50_003..=50_003), false).unwrap();
        let taken = relay(LOCALHOST, &(50_003..=50_003), false).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(one);
    }
}

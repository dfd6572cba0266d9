//! Which local ports media uses: any, those that a firewall lets through, or few that all calls share.

use super::OPERATION;
use super::shared::{Shared, SharedStats};
use super::socket::{Socket, Use};
use parking_lot::Mutex;
use siprtc_core::ice::{IcePolicy, IceServer, IceServerTransport};
use siprtc_core::{Error, Fault, Result};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::UdpSocket;

/// Ports that are shared at each address; more are a mistake in the configuration.
const MOST_SHARED: u16 = 64;
/// Sockets that are shared; for one more, those without a path are closed. A host has 16 addresses at most.
const MOST_SOCKETS: usize = 16 * MOST_SHARED as usize;

/// Even ports that are tried where any will do.
const MOST_TRIES: u32 = 64;

/// The range that sockets are bound in, in turns: a port that was just freed is the last to be taken again.
pub struct Ports {
    range: Option<(u16, u16)>,
    next: AtomicU32,
    /// The sockets that paths share, if they do. They stay open: a port that one call leaves is the next one's.
    shared: Option<Mutex<HashMap<SocketAddr, Arc<Shared>>>>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports")
            .field("range", &self.range)
            .field("shared", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}

impl Ports {
    /// Whichever port is free.
    pub fn any() -> Self {
        Ports {
            range: None,
            next: AtomicU32::new(0),
            shared: None,
        }
    }

    /// `first` to `last`, both included, a socket for each call and address.
    ///
    /// # Errors
    /// `ConfigInvalid`: an empty range, or port 0.
    pub fn range(first: u16, last: u16) -> Result<Self> {
        if first == 0 || last < first {
            return Err(invalid(format!("{first} to {last} is no range of ports"))
                .advice("write the first and the last port, such as [40000, 40099]"));
        }
        Ok(Ports {
            range: Some((first, last)),
            ..Ports::any()
        })
    }

    /// `first` to `last`, both included, a socket for each port and address, which all calls share. A call takes the port
    /// with the fewest: two calls between the same two endpoints that both share their ports need two at one of them.
    ///
    /// # Errors
    /// `ConfigInvalid`: an empty range, port 0, or more than 64 ports.
    pub fn shared(first: u16, last: u16) -> Result<Self> {
        let ports = Ports::range(first, last)?;
        if last - first >= MOST_SHARED {
            return Err(invalid(format!(
                "{first} to {last} are more than {MOST_SHARED} ports to share"
            ))
            .advice("share fewer, or give each call its own"));
        }
        Ok(Ports {
            shared: Some(Mutex::default()),
            ..ports
        })
    }

    /// How those who share ports fare; nothing where none are shared.
    pub fn stats(&self) -> SharedStats {
        let mut stats = SharedStats::default();
        if let Some(shared) = &self.shared {
            for socket in shared.lock().values() {
                socket.add_to(&mut stats);
            }
        }
        stats
    }

    /// The sockets at `ip` of a path with these servers. Called on a tokio runtime.
    pub(super) fn open(
        &self,
        ip: IpAddr,
        policy: IcePolicy,
        servers: &[IceServer],
    ) -> Result<Vec<(Socket, Use)>> {
        let Some(shared) = &self.shared else {
            return Ok(vec![(Socket::Own(self.bind(ip)?), Use::All)]);
        };
        let relays = servers.iter().any(|server| {
            let is_near = server.addr.is_some_and(|addr| addr.is_ipv4() == ip.is_ipv4());
            is_near && server.kind.is_turn() && server.transport == IceServerTransport::Udp
        });
        let mut sockets = Vec::new();
        if policy == IcePolicy::All {
            let mut shared = shared.lock();
            sockets.push((Socket::Shared(self.sit(&mut shared, ip)?), Use::Peers));
        }
        // Its port is no matter: only the server's answers come to it.
        if relays {
            sockets.push((Socket::Own(Ports::any().bind(ip)?), Use::Relays));
        }
        Ok(sockets)
    }

    /// Two sockets of a call's own at `ip`, at an even port and the next (RFC 3550 section 11).
    pub(super) fn open_pair(&self, ip: IpAddr) -> Result<(Socket, Socket)> {
        let tries = match self.range {
            Some((first, last)) => u32::from(last - first) + 1,
            None => MOST_TRIES,
        };
        for _ in 0..tries {
            let even = match self.range {
                Some((first, last)) => {
                    let count = u32::from(last - first) + 1;
                    // Below 65,536: `last` is a port.
                    first + (self.next.fetch_add(1, Ordering::Relaxed) % count) as u16
                }
                // The system's choice tells where ports are free; its odd ones have an even one below.
                None => match bind(SocketAddr::new(ip, 0)).and_then(|socket| socket.local_addr()) {
                    Ok(free) => free.port() & !1,
                    Err(error) => {
                        return Err(refused(format!("UDP {ip} cannot be bound")).caused_by(error));
                    }
                },
            };
            let fits = self.range.is_none_or(|(_, last)| even < last);
            if even % 2 == 1 || even == 0 || !fits {
                continue;
            }
            let at = |port| bind(SocketAddr::new(ip, port)).ok();
            if let (Some(rtp), Some(rtcp)) = (at(even), at(even + 1)) {
                return Ok((Socket::Own(rtp), Socket::Own(rtcp)));
            }
        }
        Err(refused(format!("no even port and the next of {ip} are free"))
            .advice("widen ice.ports, or allow fewer calls at once (call.max_calls)"))
    }

    /// A place at the port of `ip` where the fewest are.
    fn sit(&self, shared: &mut HashMap<SocketAddr, Arc<Shared>>, ip: IpAddr) -> Result<super::shared::Seat> {
        let (first, last) = self.range.unwrap_or_default();
        let count = u32::from(last - first) + 1;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut ports: Vec<(usize, SocketAddr)> = (0..count)
            .map(|number| {
                // Below 65,536: `last` is a port.
                let port = first + (turn.wrapping_add(number) % count) as u16;
                let addr = SocketAddr::new(ip, port);
                (shared.get(&addr).map_or(0, |socket| socket.paths()), addr)
            })
            .collect();
        ports.sort_by_key(|(paths, _)| *paths);
        let mut cause = None;
        for (_, addr) in ports {
            let socket = match shared.get(&addr) {
                Some(socket) => socket.clone(),
                None => match bind(addr).and_then(Shared::open) {
                    Ok(socket) => {
                        if shared.len() == MOST_SOCKETS {
                            shared.retain(|_, socket| socket.paths() > 0);
                        }
                        shared.insert(addr, socket.clone());
                        socket
                    }
                    Err(error) => {
                        cause = Some(error);
                        continue;
                    }
                },
            };
            if let Some(seat) = socket.sit() {
                return Ok(seat);
            }
        }
        let error = refused(format!("no port from {first} to {last} of {ip} can be shared"))
            .advice("see who else has them, or share more (ice.ports)");
        Err(match cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        })
    }

    fn bind(&self, ip: IpAddr) -> Result<UdpSocket> {
        let bind = |port| bind(SocketAddr::new(ip, port));
        let Some((first, last)) = self.range else {
            return bind(0).map_err(|error| refused(format!("UDP {ip} cannot be bound")).caused_by(error));
        };
        let count = u32::from(last - first) + 1;
        for _ in 0..count {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % count;
            // Below 65,536: `last` is a port.
            if let Ok(socket) = bind(first + turn as u16) {
                return Ok(socket);
            }
        }
        Err(
            refused(format!("every port from {first} to {last} of {ip} is taken"))
                .advice("widen ice.ports, or allow fewer calls at once (call.max_calls)"),
        )
    }
}

fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn invalid(message: String) -> Error {
    Error::new(Fault::ConfigInvalid, "choose media ports", message)
}

fn refused(message: String) -> Error {
    Error::new(Fault::Backend, OPERATION, message)
}

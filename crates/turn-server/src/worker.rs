//! One thread of the server: waits for its sockets, asks the machine, does what it says.

mod connections;

use self::connections::SWEEP;
use crate::batch::{BATCH, Port, Receiver, Sender};
use crate::connection::{CHUNK, Connection};
use crate::machine::{Flow, Machine, Now, Output, Verdict};
use crate::meter::{Counters, Dropped};
use crate::sockets;
use crate::wire::{Family, HEADROOM};
use crate::{Relay, Transport};
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Readiness that is told at a time.
const EVENTS: usize = 1024;
/// Batches or readings from one socket before the others have their turn.
const TURNS: usize = 4;
/// Datagrams that are taken from a relayed port at a time: one client's, so fewer than from a listener.
const RELAY_BATCH: usize = 8;

/// What readiness is for, in a token: its kind in the last bits, its number in the others.
#[derive(Clone, Copy)]
enum Place {
    Connection(u64),
    Relay(usize),
    Stop,
    Tcp(usize),
    Udp(usize),
}

impl Place {
    fn token(self) -> Token {
        let (kind, number) = match self {
            Place::Stop => (0, 0),
            Place::Udp(index) => (1, index),
            Place::Tcp(index) => (2, index),
            Place::Relay(index) => (3, index),
            Place::Connection(id) => (4, id as usize),
        };
        Token(number << 3 | kind)
    }

    fn of(token: Token) -> Self {
        let number = token.0 >> 3;
        match token.0 & 7 {
            1 => Place::Udp(number),
            2 => Place::Tcp(number),
            3 => Place::Relay(number),
            4 => Place::Connection(number as u64),
            _ => Place::Stop,
        }
    }
}

pub(crate) const STOP: Token = Token(0);

/// How a worker opens relayed ports.
#[derive(Clone)]
pub(crate) struct RelayPorts {
    pub(crate) relays: Vec<Relay>,
    pub(crate) ports: RangeInclusive<u16>,
}

struct Accepting {
    listener: TcpListener,
    tls: bool,
}

/// All that a worker needs before its thread begins.
pub(crate) struct Worker {
    pub(crate) poll: Poll,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) machine: Machine,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ports: RelayPorts,
    pub(crate) most_connections: usize,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) sockets: Sockets,
}

/// Where clients are listened to.
#[derive(Default)]
pub(crate) struct Sockets {
    udp: Vec<Port>,
    tcp: Vec<Accepting>,
}

impl Sockets {
    /// Listens there too.
    pub(crate) fn listen(
        &mut self,
        poll: &Poll,
        transport: Transport,
        socket: socket2::Socket,
    ) -> io::Result<()> {
        let registry = poll.registry();
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::from(socket);
                let token = Place::Udp(self.udp.len()).token();
                registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
                self.udp.push(Port::new(socket)?);
            }
            Transport::Tcp | Transport::Tls => {
                let mut listener = TcpListener::from_std(socket.into());
                let token = Place::Tcp(self.tcp.len()).token();
                registry.register(&mut listener, token, Interest::READABLE)?;
                let tls = transport == Transport::Tls;
                self.tcp.push(Accepting { listener, tls });
            }
        }
        Ok(())
    }
}

impl Worker {
    /// Serves until it is told to stop; every socket is closed when this returns.
    pub(crate) fn run(self) {
        Running {
            poll: self.poll,
            stop: self.stop,
            machine: self.machine,
            counters: self.counters,
            udp: self.sockets.udp,
            tcp: self.sockets.tcp,
            tls: self.tls,
            ports: self.ports,
            relays: Vec::new(),
            connections: HashMap::new(),
            most_connections: self.most_connections,
            last_connection: 0,
            receiver: Receiver::new(),
            sender: Sender::new(),
            sender_of: 0,
            scratch: vec![0; CHUNK].into_boxed_slice(),
            again: Vec::new(),
            later: Vec::new(),
            swept: clock(),
        }
        .run();
    }
}

/// A worker in its thread.
struct Running {
    poll: Poll,
    stop: Arc<AtomicBool>,
    machine: Machine,
    counters: Arc<Counters>,
    udp: Vec<Port>,
    tcp: Vec<Accepting>,
    tls: Option<Arc<ServerConfig>>,
    ports: RelayPorts,
    relays: Vec<Option<Port>>,
    connections: HashMap<u64, Connection>,
    most_connections: usize,
    last_connection: u64,
    receiver: Receiver,
    /// What goes to clients, from one listening socket at a time.
    sender: Sender,
    sender_of: usize,
    scratch: Box<[u8]>,
    /// Sockets that had more than their turn.
    again: Vec<Token>,
    /// Listeners that the system gave no connection from, to be asked again at the next sweep.
    later: Vec<Token>,
    swept: Instant,
}

impl Running {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stop.load(Ordering::Acquire) {
            let wait = self.wait();
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "a TURN worker cannot wait for its sockets and ends");
                    return;
                }
                _ => {}
            }
            let now = Now {
                instant: clock(),
                unix: SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs()),
            };
            for token in std::mem::take(&mut self.again) {
                self.ready(now, token);
            }
            for event in &events {
                self.ready(now, event.token());
            }
            self.machine.expire(now.instant);
            self.outputs();
            self.flush();
            self.sweep(now);
        }
    }

    fn wait(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let end = self.machine.next();
        let idle = self.connections.is_empty() && self.later.is_empty();
        let sweep = (!idle).then(|| self.swept + SWEEP);
        let next = end.into_iter().chain(sweep).min()?;
        Some(next.saturating_duration_since(clock()))
    }

    fn ready(&mut self, now: Now, token: Token) {
        match Place::of(token) {
            Place::Udp(index) => self.datagrams(now, index),
            Place::Relay(relay) => self.relayed_port(now, relay),
            Place::Tcp(index) => self.accept(now, index),
            Place::Connection(id) => self.connection(now, id),
            Place::Stop => {}
        }
    }

    /// Clients' datagrams.
    fn datagrams(&mut self, now: Now, index: usize) {
        for _ in 0..TURNS {
            let Some(port) = self.udp.get(index) else { return };
            let Ok(count) = self.receiver.receive(port, BATCH) else {
                return;
            };
            for datagram in 0..count {
                self.datagram(now, index, datagram);
            }
            if count < BATCH {
                return;
            }
        }
        self.again.push(Place::Udp(index).token());
    }

    fn datagram(&mut self, now: Now, index: usize, datagram: usize) {
        let Some((received, buffer)) = self.receiver.take(datagram) else {
            return;
        };
        let message = buffer
            .get(HEADROOM..HEADROOM + received.length)
            .unwrap_or_default();
        let flow = Flow {
            socket: index as u64,
            client: received.from,
        };
        match self.machine.client(now, flow, message) {
            Verdict::Done => self.outputs(),
            Verdict::Relay { relay, peer, payload } => {
                let payload = message.get(payload).unwrap_or_default();
                to_peer(&self.relays, &self.counters, relay, peer, payload);
            }
        }
    }

    /// Peers' datagrams at a relayed port.
    fn relayed_port(&mut self, now: Now, relay: usize) {
        for _ in 0..TURNS {
            let Some(Some(port)) = self.relays.get(relay) else {
                return;
            };
            let Ok(count) = self.receiver.receive(port, RELAY_BATCH) else {
                return;
            };
            for datagram in 0..count {
                self.deliver(now, relay, datagram);
            }
            if count < RELAY_BATCH {
                return;
            }
        }
        self.again.push(Place::Relay(relay).token());
    }

    fn deliver(&mut self, now: Now, relay: usize, datagram: usize) {
        let Some((received, buffer)) = self.receiver.take(datagram) else {
            return;
        };
        if received.truncated {
            return self.counters.dropped(Dropped::Oversized);
        }
        let wrapped = self
            .machine
            .peer(now, relay, received.from, buffer, received.length);
        let Some((flow, range)) = wrapped else { return };
        if let Some(id) = flow.socket.checked_sub(Flow::CONNECTIONS) {
            let message = buffer.get(range).unwrap_or_default();
            let sent = self
                .connections
                .get_mut(&id)
                .map(|connection| connection.send(message));
            return self.sent(id, sent);
        }
        let index = flow.socket as usize;
        if self.sender.is_full() || (self.sender_of != index && !self.sender.is_empty()) {
            flush(&self.udp, &mut self.sender, self.sender_of, &self.counters);
        }
        self.sender_of = index;
        self.sender.push(buffer, range, flow.client);
    }

    fn flush(&mut self) {
        flush(&self.udp, &mut self.sender, self.sender_of, &self.counters);
    }

    /// What the machine wants beside.
    fn outputs(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Close { relay } => {
                    // Closing takes it out of the readiness list as well.
                    if let Some(place) = self.relays.get_mut(relay) {
                        *place = None;
                    }
                }
                Output::Open { relay, family, even } => {
                    let opened = self.open(relay, family, even);
                    if let Err(error) = &opened {
                        tracing::warn!(%error, "no relayed port");
                    }
                    self.machine.opened(relay, opened.ok());
                }
                Output::Reply { flow, message } => self.reply(&flow, &message),
            }
        }
    }

    fn open(&mut self, relay: usize, family: Family, even: bool) -> io::Result<SocketAddr> {
        let of_family = |known: &&Relay| Family::of(known.bind) == family;
        let known = self
            .ports
            .relays
            .iter()
            .find(of_family)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = sockets::relay(known.bind, &self.ports.ports, even)?;
        let port = socket.local_addr()?.port();
        let token = Place::Relay(relay).token();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        let address = SocketAddr::new(known.advertise, port);
        if self.relays.len() <= relay {
            self.relays.resize_with(relay + 1, || None);
        }
        if let Some(place) = self.relays.get_mut(relay) {
            *place = Some(Port::new(socket)?);
        }
        Ok(address)
    }

    fn reply(&mut self, flow: &Flow, message: &[u8]) {
        match flow.socket.checked_sub(Flow::CONNECTIONS) {
            Some(id) => {
                let sent = self
                    .connections
                    .get_mut(&id)
                    .map(|connection| connection.send(message));
                self.sent(id, sent);
            }
            None => {
                let port = self.udp.get(flow.socket as usize);
                if port.is_none_or(|port| port.socket.send_to(message, flow.client).is_err()) {
                    self.counters.dropped(Dropped::Congested);
                }
            }
        }
    }

    fn sent(&mut self, id: u64, sent: Option<io::Result<bool>>) {
        match sent {
            Some(Ok(true)) | None => {}
            Some(Ok(false)) => self.counters.dropped(Dropped::Congested),
            Some(Err(error)) => self.close(id, &error),
        }
    }
}

fn to_peer(relays: &[Option<Port>], counters: &Counters, relay: usize, peer: SocketAddr, payload: &[u8]) {
    let port = relays.get(relay).and_then(Option::as_ref);
    if port.is_none_or(|port| port.socket.send_to(payload, peer).is_err()) {
        counters.dropped(Dropped::Congested);
    }
}

fn flush(udp: &[Port], sender: &mut Sender, index: usize, counters: &Counters) {
    if sender.is_empty() {
        return;
    }
    let lost = udp.get(index).map_or(0, |port| sender.flush(port));
    for _ in 0..lost {
        counters.dropped(Dropped::Congested);
    }
}

/// The only clock of the server.
#[allow(
    clippy::disallowed_methods,
    reason = "no actor and no tokio here; the machine takes time as an argument"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

//! Does: the sockets, connections and timer around a path's machine.
//!
//! There is no task: whoever reads the path's datagrams drives it. One lock guards the machine; the reader and the writer
//! of a media engine are one task as a rule, so it is never waited for.

use super::machine::{Input, Machine, Output, Route};
use super::socket::Socket;
use super::stream::{self, Streams};
use super::{Options, mdns};
use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::ice::{Candidate, IceParameters, IcePath, IceRole, PathEvent, PathEventSink, PathStats};
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// Datagrams that came through a connection to a TURN server and wait for their reader; the oldest is dropped for one more.
const MOST_WAITING: usize = 64;
/// When the machine asks for nothing.
const IDLE: Duration = Duration::from_secs(3_600);
/// ICMP errors that are read past before the socket's turn is over.
const MOST_ERRORS: usize = 8;

/// Everything behind the lock.
struct Inner {
    machine: Machine,
    sockets: Vec<Socket>,
    streams: Streams,
    /// Came through a stream while nobody was reading, or before it was known whose it is.
    waiting: VecDeque<(Vec<u8>, SocketAddr)>,
    timer: Pin<Box<Sleep>>,
    reader: Option<Waker>,
    next_socket: usize,
    budget_ends: Instant,
    is_closed: bool,
}

/// See [`IcePath`].
pub(super) struct Path {
    inner: Mutex<Inner>,
    events: Arc<dyn PathEventSink>,
    options: Arc<Options>,
    handle: Handle,
    gathered: watch::Sender<bool>,
    own: Weak<Path>,
}

impl Path {
    pub(super) fn open(
        machine: Machine,
        sockets: Vec<Socket>,
        budget: Duration,
        options: Arc<Options>,
        events: Arc<dyn PathEventSink>,
    ) -> Arc<Self> {
        let gathered = machine.is_told();
        let path = Arc::new_cyclic(|own| Path {
            inner: Mutex::new(Inner {
                machine,
                sockets,
                streams: Streams::default(),
                waiting: VecDeque::new(),
                timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
                reader: None,
                next_socket: 0,
                budget_ends: Instant::now() + budget,
                is_closed: false,
            }),
            events,
            options,
            handle: Handle::current(),
            gathered: watch::Sender::new(gathered),
            own: own.clone(),
        });
        path.flush(&mut path.inner.lock());
        path
    }

    /// Carries out what the machine wants, and has the reader look at the clock again.
    fn flush(&self, inner: &mut Inner) {
        while let Some(output) = inner.machine.poll_output() {
            match output {
                Output::Connect { relay } => self.connect(inner, relay),
                Output::Event(event) => self.events.emit(event),
                Output::Known { base, addr } => {
                    if let Some(socket) = inner.sockets.get(base) {
                        socket.claim(Instant::now().into_std(), addr);
                    }
                }
                Output::Left { base, addr } => {
                    if let Some(socket) = inner.sockets.get(base) {
                        socket.release(addr);
                    }
                }
                Output::Named(names) => {
                    inner.sockets.iter().for_each(|socket| socket.name(&names));
                }
                Output::Resolve { of, candidate } => self.resolve(inner, of, candidate),
                Output::Send { base, to, data } => inner.send(base, to, &data),
                Output::Stream { relay, data } => inner.stream(relay, data),
            }
        }
        let is_gathered = inner.machine.is_gathered();
        if is_gathered != *self.gathered.borrow() {
            self.gathered.send_replace(is_gathered);
            if is_gathered && inner.machine.is_told() {
                self.events.emit(PathEvent::Gathered);
            }
        }
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
    }

    fn connect(&self, inner: &mut Inner, relay: usize) {
        let Some(server) = inner.machine.stream_server(relay).cloned() else {
            return;
        };
        let own = self.own.clone();
        let tls = self.options.tls.clone();
        let (sender, task) = stream::connect(&self.handle, server, tls, move |told| {
            let Some(path) = own.upgrade() else { return false };
            path.streamed(relay, told);
            true
        });
        inner.streams.insert(relay, sender, task);
    }

    fn resolve(&self, inner: &Inner, of: String, candidate: Candidate) {
        let Some(mdns) = self.options.mdns else { return };
        let ours: Vec<SocketAddr> = inner.machine.addresses().collect();
        let own = self.own.clone();
        self.handle.spawn(async move {
            let accepts = |ip: IpAddr| ours.iter().any(|addr| addr.is_ipv4() == ip.is_ipv4());
            let asking = mdns::interfaces(ours.iter().copied());
            let found = mdns.resolve(&candidate.host, &asking, accepts).await;
            if let Some(path) = own.upgrade() {
                path.command(|inner, now| inner.machine.resolved(now, &of, &candidate, found));
            }
        });
    }

    fn streamed(&self, relay: usize, told: stream::Told<'_>) {
        let now = Instant::now().into_std();
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return;
        }
        let input = match told {
            stream::Told::Connected(local) => Input::Connected { relay, local },
            stream::Told::Lost => Input::Broken { relay },
            stream::Told::Octets(data) => Input::Streamed { relay, data },
        };
        let Inner { machine, waiting, .. } = &mut *inner;
        machine.handle(now, input, &mut |from, datagram| {
            if waiting.len() == MOST_WAITING {
                waiting.pop_front();
            }
            waiting.push_back((datagram.to_vec(), from));
        });
        self.flush(&mut inner);
    }

    /// A command of the engine's.
    fn command<T>(&self, work: impl FnOnce(&mut Inner, std::time::Instant) -> T) -> T {
        let mut inner = self.inner.lock();
        let done = work(&mut inner, Instant::now().into_std());
        self.flush(&mut inner);
        done
    }

    /// One socket's next datagram of the peer's.
    fn poll_socket(
        &self,
        inner: &mut Inner,
        at: usize,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<(usize, SocketAddr)> {
        let mut errors = 0;
        loop {
            let (length, from) = match inner.sockets[at].poll_receive(cx, buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(came)) => came,
                // An ICMP error of something sent before: it says nothing that silence does not say.
                Poll::Ready(Err(_)) if errors < MOST_ERRORS => {
                    errors += 1;
                    continue;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a path's socket");
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            };
            let first = buffer.first().copied().filter(|_| length > 0);
            // RFC 7983: 20 to 63 is DTLS, 128 to 191 RTP and RTCP; 0 to 3 is STUN, 64 to 79 ChannelData.
            if matches!(first, Some(20..=63 | 128..=191)) {
                if inner.machine.is_peer(from, &buffer[..length]) {
                    return Poll::Ready((length, from));
                }
                continue;
            }
            if let Some(taken) = self.take(inner, at, from, &mut buffer[..], length) {
                return Poll::Ready(taken);
            }
        }
    }

    /// Gives a datagram to the machine; the length and the source of what is for the engine, in `buffer`.
    fn take(
        &self,
        inner: &mut Inner,
        base: usize,
        from: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<(usize, SocketAddr)> {
        let now = Instant::now().into_std();
        let data = &buffer[..length];
        let mut inside = None;
        let begin = data.as_ptr() as usize;
        let mut copied: Option<(Vec<u8>, SocketAddr)> = None;
        inner.machine.handle(
            now,
            Input::Datagram { base, from, data },
            &mut |peer, datagram| {
                // What was relayed stands inside of the packet that it came in, and stays there.
                match (datagram.as_ptr() as usize).checked_sub(begin) {
                    Some(offset) if offset + datagram.len() <= length => {
                        inside = Some((offset..offset + datagram.len(), peer))
                    }
                    _ => copied = Some((datagram.to_vec(), peer)),
                }
            },
        );
        self.flush_quietly(inner);
        if let Some((range, peer)) = inside {
            let length = range.len();
            buffer.copy_within(range, 0);
            return Some((length, peer));
        }
        copied.map(|(datagram, peer)| (copy(&datagram, buffer), peer))
    }

    /// Like [`Path::flush`], for the reader itself, which looks at the clock anyway.
    fn flush_quietly(&self, inner: &mut Inner) {
        let reader = inner.reader.take();
        self.flush(inner);
        inner.reader = reader;
    }
}

/// Nobody reads any more: a server keeps no allocation for half an hour for nobody.
impl Drop for Path {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn send(&mut self, base: usize, to: SocketAddr, data: &[u8]) {
        let sent = match self.sockets.get(base) {
            Some(socket) => socket.send(data, to),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = sent {
            self.machine.stats.unsent += 1;
            tracing::debug!(%to, %error, "a datagram is not sent");
        }
    }

    fn stream(&mut self, relay: usize, data: Vec<u8>) {
        if !self.streams.send(relay, data) {
            self.machine.stats.unsent += 1;
        }
    }
}

fn fork_refused(fault: Fault, why: &'static str) -> Error {
    Error::new(fault, "fork an ICE path", why)
}

fn copy(datagram: &[u8], buffer: &mut [u8]) -> usize {
    let length = datagram.len().min(buffer.len());
    buffer[..length].copy_from_slice(&datagram[..length]);
    length
}

#[async_trait]
impl IcePath for Path {
    fn parameters(&self) -> IceParameters {
        self.inner.lock().machine.parameters()
    }

    async fn gather(&self) -> Vec<Candidate> {
        let mut gathered = self.gathered.subscribe();
        let ends = self.inner.lock().budget_ends;
        // What `wait_for` gives holds the channel's lock, which is taken within the path's: it must be gone before.
        let is_complete = tokio::time::timeout_at(ends, gathered.wait_for(|complete| *complete))
            .await
            .is_ok();
        if !is_complete {
            tracing::debug!("gathering goes on; the SDP has what is there");
        }
        self.inner.lock().machine.tell_candidates()
    }

    fn is_gathered(&self) -> bool {
        self.inner.lock().machine.is_gathered()
    }

    fn set_remote(&self, parameters: &IceParameters, candidates: &[Candidate]) -> Result<()> {
        self.command(|inner, now| inner.machine.set_remote(now, parameters, candidates))
    }

    fn add_remote(&self, candidate: &Candidate) {
        self.command(|inner, now| inner.machine.add_remote(now, candidate));
    }

    fn restart(&self) -> Result<()> {
        let addresses = (self.options.addresses)()?;
        let _runtime = self.handle.enter();
        self.command(|inner, now| {
            inner
                .machine
                .restart(now, &|addr| addresses.contains(&addr.ip()))?;
            let bound = |inner: &Inner, ip| {
                (inner.sockets.iter()).any(|socket| socket.addr().is_ok_and(|addr| addr.ip() == ip))
            };
            for ip in addresses
                .iter()
                .filter(|ip| !bound(inner, **ip))
                .collect::<Vec<_>>()
            {
                let (policy, servers) = inner.machine.servers();
                for (socket, purpose) in self.options.ports.open(*ip, policy, servers)? {
                    let addr = socket.addr().map_err(super::no_address)?;
                    socket.name(&inner.machine.names());
                    inner.sockets.push(socket);
                    inner.machine.add_base(now, addr, purpose);
                }
            }
            inner.budget_ends = Instant::now() + self.options.budget;
            Ok(())
        })
    }

    fn rollback(&self) {
        self.command(|inner, _| inner.machine.rollback());
    }

    fn bypass(&self, local: SocketAddr, remote: SocketAddr) -> Result<()> {
        self.command(|inner, now| {
            inner.machine.bypass(now, local, remote)?;
            inner.waiting.append(&mut inner.machine.take_early());
            Ok(())
        })
    }

    fn fork(&self, events: Arc<dyn PathEventSink>) -> Result<Arc<dyn IcePath>> {
        let _runtime = self.handle.enter();
        self.command(|inner, now| {
            if inner.is_closed {
                return Err(fork_refused(Fault::ApiMisuse, "it is closed"));
            }
            let (policy, servers) = inner.machine.servers();
            // RFC 8445 section 6.1.1: who offered controls, whatever the first peer made of it.
            let setup = self.options.setup(IceRole::Controlling, policy, servers);
            let machine = inner.machine.fork(now, setup)?;
            let sockets: io::Result<Vec<Socket>> = inner.sockets.iter_mut().map(Socket::fork).collect();
            let sockets = sockets.map_err(|error| {
                fork_refused(Fault::Backend, "its sockets cannot be shared").caused_by(error)
            })?;
            let options = self.options.clone();
            let path: Arc<dyn IcePath> = Path::open(machine, sockets, Duration::ZERO, options, events);
            Ok(path)
        })
    }

    fn send(&self, datagram: &[u8]) {
        let mut inner = self.inner.lock();
        match inner.machine.route(datagram) {
            Some(Route::Direct { base, to }) => inner.send(base, to, datagram),
            Some(Route::Relayed { relay, to }) => {
                let now = Instant::now().into_std();
                inner.machine.relay(now, relay, to, datagram);
                self.flush_quietly(&mut inner);
            }
            None => {}
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<(usize, SocketAddr)> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.is_closed {
            return Poll::Pending;
        }
        loop {
            if let Some((datagram, from)) = inner.waiting.pop_front() {
                return Poll::Ready((copy(&datagram, buffer), from));
            }
            let sockets = inner.sockets.len();
            for turn in 0..sockets {
                let at = (inner.next_socket + turn) % sockets;
                if let Poll::Ready(taken) = self.poll_socket(inner, at, cx, buffer) {
                    inner.next_socket = at;
                    return Poll::Ready(taken);
                }
            }
            let now = Instant::now();
            let wake = (inner.machine.poll_timeout()).map_or(now + IDLE, Instant::from_std);
            if wake > now {
                if inner.timer.deadline() != wake {
                    inner.timer.as_mut().reset(wake);
                }
                if inner.timer.as_mut().poll(cx).is_pending() {
                    inner.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            let waiting = &mut inner.waiting;
            inner
                .machine
                .handle(now.into_std(), Input::Tick, &mut |from, datagram| {
                    waiting.push_back((datagram.to_vec(), from));
                });
            self.flush(inner);
        }
    }

    fn stats(&self) -> PathStats {
        self.inner.lock().machine.stats
    }

    fn close(&self) {
        self.command(|inner, now| {
            if !std::mem::replace(&mut inner.is_closed, true) {
                inner.machine.close(now);
            }
        });
        let mut inner = self.inner.lock();
        inner.sockets.clear();
        inner.streams.close();
    }
}

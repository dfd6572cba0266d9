//! Does: one socket under many paths: of many calls that share a port, or of one call that forks.
//!
//! A task reads the socket and puts each datagram into its path's queue; whoever reads the path is woken. A path cannot read
//! the socket itself, as it does one of its own: the system wakes one reader of a socket, and with many paths that is nearly
//! always the wrong one, who would have to wake the right one all the same. Sending is direct.

mod table;

use socket2::SockRef;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use table::Table;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

pub(super) use table::username;

/// Datagrams that wait for one path's reader: two seconds of calls, or a burst of video. The oldest is dropped for one more.
const MOST_WAITING: usize = 256;
/// Datagrams that are read in one turn of the task's.
const MOST_AT_ONCE: usize = 64;
/// The longest datagram of a peer's that is read; what is longer is cut, which its signature then shows.
const LONGEST: usize = 2_048;
/// Asked of the system for what comes while the task waits for its turn; it may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// How the paths of shared ports fare.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SharedStats {
    /// Sockets.
    pub sockets: usize,
    /// Paths over them.
    pub paths: usize,
    /// User fragments that checks are told apart by.
    pub fragments: usize,
    /// Peers' addresses that datagrams are told apart by.
    pub addresses: usize,
    /// Requests whose answers are awaited.
    pub requests: usize,
    /// Datagrams that no path knows the sender of: each dropped.
    pub strangers: u64,
    /// Checks and answers from an address that another path speaks with: each dropped.
    pub taken: u64,
    /// Datagrams for a path whose reader was too slow: each the oldest that waited.
    pub overflown: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

#[derive(Default)]
struct Desk {
    table: Table,
    queues: HashMap<u64, Arc<parking_lot::Mutex<Queue>>>,
    overflown: u64,
}

/// The socket.
pub(super) struct Shared {
    socket: Arc<UdpSocket>,
    addr: SocketAddr,
    desk: Arc<parking_lot::Mutex<Desk>>,
    reader: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shared {
    /// Under many calls. Called on a tokio runtime.
    pub(super) fn open(socket: UdpSocket) -> io::Result<Arc<Self>> {
        if let Err(error) = SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER) {
            tracing::debug!(%error, "a shared port's buffer stays as it is");
        }
        Shared::over(socket, Table::default())
    }

    /// Under the forks of one call. Called on a tokio runtime.
    pub(super) fn open_for_forks(socket: UdpSocket) -> io::Result<Arc<Self>> {
        Shared::over(socket, Table::of_one_call())
    }

    fn over(socket: UdpSocket, table: Table) -> io::Result<Arc<Self>> {
        let addr = socket.local_addr()?;
        let socket = Arc::new(socket);
        let desk = Arc::new(parking_lot::Mutex::new(Desk {
            table,
            ..Desk::default()
        }));
        let reader = tokio::spawn(read(socket.clone(), desk.clone())).abort_handle();
        Ok(Arc::new(Shared {
            socket,
            addr,
            desk,
            reader,
        }))
    }

    pub(super) fn paths(&self) -> usize {
        self.desk.lock().queues.len()
    }

    /// `None`: too many paths are here.
    pub(super) fn sit(self: &Arc<Self>) -> Option<Seat> {
        let mut desk = self.desk.lock();
        let number = desk.table.sit()?;
        let queue = Arc::<parking_lot::Mutex<Queue>>::default();
        desk.queues.insert(number, queue.clone());
        Some(Seat {
            shared: self.clone(),
            number,
            queue,
        })
    }

    pub(super) fn add_to(&self, stats: &mut SharedStats) {
        let desk = self.desk.lock();
        let [paths, fragments, addresses, requests] = desk.table.entries();
        stats.sockets += 1;
        stats.paths += paths;
        stats.fragments += fragments;
        stats.addresses += addresses;
        stats.requests += requests;
        stats.strangers += desk.table.refused.strangers;
        stats.taken += desk.table.refused.taken;
        stats.overflown += desk.overflown;
    }
}

async fn read(socket: Arc<UdpSocket>, desk: Arc<parking_lot::Mutex<Desk>>) {
    let mut buffer = vec![0; LONGEST];
    let mut woken = Vec::new();
    loop {
        if let Err(error) = socket.readable().await {
            // The runtime ends.
            tracing::debug!(%error, "a shared port is read no more");
            return;
        }
        let now = tokio::time::Instant::now().into_std();
        {
            let mut desk = desk.lock();
            for _ in 0..MOST_AT_ONCE {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        woken.extend(buffer.get(..length).and_then(|data| desk.take(now, from, data)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error of something sent before: it says nothing that silence does not say.
                    Err(_) => {}
                }
            }
        }
        for reader in woken.drain(..) {
            reader.wake();
        }
        // Under a flood the calls' own tasks have their turn.
        tokio::task::consume_budget().await;
    }
}

impl Desk {
    /// Who is to be woken for a datagram.
    fn take(&mut self, now: Instant, from: SocketAddr, data: &[u8]) -> Option<Waker> {
        let seat = self.table.whose(now, from, data)?;
        let mut queue = self.queues.get(&seat)?.lock();
        if queue.waiting.len() == MOST_WAITING {
            queue.waiting.pop_front();
            self.overflown += 1;
        }
        queue.waiting.push_back((from, data.to_vec()));
        queue.reader.take()
    }
}

/// One path's place at a shared socket.
pub(super) struct Seat {
    shared: Arc<Shared>,
    number: u64,
    queue: Arc<parking_lot::Mutex<Queue>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut desk = self.shared.desk.lock();
        desk.table.leave(self.number);
        desk.queues.remove(&self.number);
    }
}

impl Seat {
    pub(super) fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Another one at the same socket.
    pub(super) fn beside(&self) -> Option<Seat> {
        self.shared.sit()
    }

    pub(super) fn name(&self, fragments: &[String]) {
        self.shared.desk.lock().table.name(self.number, fragments);
    }

    pub(super) fn release(&self, addr: SocketAddr) {
        self.shared.desk.lock().table.release(self.number, addr);
    }

    pub(super) fn claim(&self, now: Instant, addr: SocketAddr) {
        self.shared.desk.lock().table.claim(now, self.number, addr);
    }

    pub(super) fn send(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        if data.first().is_some_and(|first| *first < 4) {
            self.shared.desk.lock().table.ask(self.number, data);
        }
        SockRef::from(&*self.shared.socket).send_to(data, &to.into())
    }

    pub(super) fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<(usize, SocketAddr)> {
        let mut queue = self.queue.lock();
        if let Some((from, data)) = queue.waiting.pop_front() {
            let length = data.len().min(buffer.len());
            buffer[..length].copy_from_slice(&data[..length]);
            return Poll::Ready((length, from));
        }
        match &queue.reader {
            Some(reader) if reader.will_wake(cx.waker()) => {}
            _ => queue.reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

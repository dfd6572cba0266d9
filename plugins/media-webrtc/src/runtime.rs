//! The runtime that a PeerConnection sees: one tokio runtime, named at the peer's birth.
//!
//! The library's own `TokioRuntime` uses the runtime that happens to be current. Our methods are called from actor
//! arbiters, which are other, single-threaded runtimes; the peer's tasks, timers and sockets must not land there.

use crate::gate::Gate;
use crate::shim::{self, Shim};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;
use tokio::runtime::Handle;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Rounds that the driver makes after each wake until DTLS is up, and later too when a relay is in use. In one round it
/// sends what the TURN client has, gives to that client what ICE, DTLS and RTP have to send, takes what came through the
/// relay, and sleeps: what is to be sent would lie with the client until the next timer or packet, 20 to 200 ms later.
/// And DTLS's first flight, made when ICE tells its success, is sent only when a timer has run out: 50 ms later, the
/// next check's. The longest chain is that of the check that completes ICE: taken, told as an event, answered with
/// DTLS's first flight, given to the client, sent.
const EXTRA_ROUNDS: u8 = 4;

/// Spawns, sleeps and opens sockets on one tokio runtime, whoever asks.
pub(crate) struct PeerRuntime {
    handle: Handle,
    /// Another does ICE: the connection has no socket of its own.
    shim: Option<Arc<Shim>>,
    /// Called when the connection's driver task has ended, for whatever reason.
    driver_ended: Arc<dyn Fn() + Send + Sync>,
    driver: OnceLock<tokio::task::Id>,
    /// Whether datagrams may go through a TURN server.
    relay: Arc<AtomicBool>,
    /// DTLS is up.
    connected: Arc<AtomicBool>,
    /// How many more rounds the driver makes before it really sleeps.
    rounds: AtomicU8,
    gate: Arc<Gate>,
}

impl PeerRuntime {
    pub(crate) fn new(
        handle: Handle,
        shim: Option<Arc<Shim>>,
        relay: Arc<AtomicBool>,
        connected: Arc<AtomicBool>,
        driver_ended: Arc<dyn Fn() + Send + Sync>,
        gate: Arc<Gate>,
    ) -> Self {
        PeerRuntime {
            handle,
            shim,
            driver_ended,
            driver: OnceLock::new(),
            relay,
            connected,
            rounds: AtomicU8::new(EXTRA_ROUNDS),
            gate,
        }
    }

    /// How long a sleep may be: none at all while the driver has rounds left to make.
    fn nap(&self, duration: Duration) -> Duration {
        let from_driver = tokio::task::try_id().is_some_and(|task| self.driver.get() == Some(&task));
        let calm = self.connected.load(Ordering::Acquire) && !self.relay.load(Ordering::Acquire);
        if !from_driver || calm {
            return duration;
        }
        // Only the driver comes here, so there is nothing to race with.
        match self.rounds.load(Ordering::Acquire) {
            0 => {
                self.rounds.store(EXTRA_ROUNDS, Ordering::Release);
                duration
            }
            left => {
                self.rounds.store(left - 1, Ordering::Release);
                Duration::ZERO
            }
        }
    }
}

impl fmt::Debug for PeerRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerRuntime")
    }
}

impl Runtime for PeerRuntime {
    fn spawn(&self, future: BoxedFuture<'static, ()>) -> Box<dyn JoinHandle> {
        Box::new(Task(self.handle.spawn(future)))
    }

    /// The library spawns its driver here when a "dedicated reactor" is asked for. We ask for one because only then
    /// does dropping a connection without closing it end the driver; we give it a task and not a thread.
    fn spawn_reactor(&self, _pool_size: usize, future: BoxedFuture<'static, ()>) -> Box<dyn JoinHandle> {
        let ended = CallOnDrop(self.driver_ended.clone());
        let task = self.handle.spawn(async move {
            let _ended = ended;
            future.await;
        });
        let _ = self.driver.set(task.id());
        Box::new(Task(task))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        if let Some(shim) = &self.shim {
            let local = socket.local_addr()?;
            let shim = shim.clone();
            return Ok(Arc::new(shim::Socket { shim, local }));
        }
        let _runtime = self.handle.enter();
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let gate = self.gate.clone();
        Ok(Arc::new(Socket { socket, gate }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        let _runtime = self.handle.enter();
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> BoxedFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxedFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(bracketed(host)).await?.collect()) })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep(&self, duration: Duration) -> BoxedFuture<'static, ()> {
        let _runtime = self.handle.enter();
        Box::pin(tokio::time::sleep(self.nap(duration)))
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        let _runtime = self.handle.enter();
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.handle.block_on(future);
    }

    fn name(&self) -> &'static str {
        "siprtc"
    }
}

/// The library writes a TURN server's IPv6 address and port without brackets.
fn bracketed(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((address, port)) if address.contains(':') && !address.starts_with('[') => {
            format!("[{address}]:{port}")
        }
        _ => host.to_owned(),
    }
}

struct CallOnDrop(Arc<dyn Fn() + Send + Sync>);

impl Drop for CallOnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

struct Task(tokio::task::JoinHandle<()>);

impl JoinHandle for Task {
    fn detach(&self) {}

    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// One datagram at a time. The library's own socket coalesces datagrams (GRO) and for that holds two buffers of
/// 96 kB for each socket, which a call with 50 packets a second never fills.
struct Socket {
    socket: tokio::net::UdpSocket,
    gate: Arc<Gate>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.socket
            .poll_send_to(cx, transmit.contents, transmit.destination)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buf), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        self.gate.next();
        loop {
            let mut buf = ReadBuf::new(&mut buf[..]);
            let from = std::task::ready!(self.socket.poll_recv_from(cx, &mut buf))?;
            let now = tokio::time::Instant::now().into_std();
            if self.gate.admits(now, buf.filled()) {
                meta.addr = from;
                meta.len = buf.filled().len();
                meta.stride = meta.len;
                return Poll::Ready(Ok(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(relay: bool, connected: bool) -> Arc<PeerRuntime> {
        Arc::new(PeerRuntime::new(
            Handle::current(),
            None,
            Arc::new(AtomicBool::new(relay)),
            Arc::new(AtomicBool::new(connected)),
            Arc::new(|| {}),
            Arc::default(),
        ))
    }

    /// How often a driver's sleep is cut short before one is not.
    async fn rounds_before_sleep(runtime: Arc<PeerRuntime>) -> u32 {
        let (tell, mut told) = tokio::sync::mpsc::channel(100);
        let clock = runtime.clone();
        let driver = runtime.spawn_reactor(
            1,
            Box::pin(async move {
                while tell.send(()).await.is_ok() {
                    clock.sleep(Duration::from_secs(3600)).await;
                }
            }),
        );
        let mut rounds = 0;
        while tokio::time::timeout(Duration::from_millis(500), told.recv())
            .await
            .is_ok()
        {
            rounds += 1;
            assert!(rounds < 10, "the driver never sleeps");
        }
        driver.abort();
        rounds - 1
    }

    #[tokio::test]
    async fn with_a_relay_or_before_dtls_is_up_the_driver_makes_more_rounds_before_it_sleeps() {
        assert_eq!(
            rounds_before_sleep(runtime(true, true)).await,
            u32::from(EXTRA_ROUNDS)
        );
        assert_eq!(
            rounds_before_sleep(runtime(false, false)).await,
            u32::from(EXTRA_ROUNDS)
        );
        assert_eq!(rounds_before_sleep(runtime(false, true)).await, 0);
    }

    #[tokio::test]
    async fn a_sleep_that_is_not_the_drivers_is_never_cut_short() {
        let runtime = runtime(true, false);
        let sleep = runtime.sleep(Duration::from_secs(3600));
        assert!(
            tokio::time::timeout(Duration::from_millis(100), sleep)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn the_end_of_the_driver_is_told() {
        let ended = Arc::new(tokio::sync::Notify::new());
        let tell = ended.clone();
        let relay = Arc::new(AtomicBool::new(false));
        let told = Arc::new(move || tell.notify_one());
        let runtime = PeerRuntime::new(
            Handle::current(),
            None,
            relay.clone(),
            relay,
            told,
            Arc::default(),
        );
        runtime.spawn_reactor(1, Box::pin(async { panic!("as a library may") }));
        tokio::time::timeout(Duration::from_secs(10), ended.notified())
            .await
            .unwrap();
    }

    #[test]
    fn an_ipv6_address_gets_its_brackets_and_nothing_else_changes() {
        assert_eq!(bracketed("2001:db8::1:3478"), "[2001:db8::1]:3478");
        assert_eq!(bracketed("[2001:db8::1]:3478"), "[2001:db8::1]:3478");
        assert_eq!(bracketed("192.0.2.1:3478"), "192.0.2.1:3478");
        assert_eq!(bracketed("turn.example.org:3478"), "turn.example.org:3478");
    }
}

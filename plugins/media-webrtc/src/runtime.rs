//! The runtime that a PeerConnection sees: one tokio runtime, named at the peer's birth.
//!
//! The library's own `TokioRuntime` uses the runtime that happens to be current. Our methods are called from actor
//! arbiters, which are other, single-threaded runtimes; the peer's tasks, timers and sockets must not land there.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::ReadBuf;
use tokio::runtime::Handle;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Spawns, sleeps and opens sockets on one tokio runtime, whoever asks.
pub(crate) struct PeerRuntime {
    handle: Handle,
    /// Called when the connection's driver task has ended, for whatever reason.
    driver_ended: Arc<dyn Fn() + Send + Sync>,
}

impl PeerRuntime {
    pub(crate) fn new(handle: Handle, driver_ended: Arc<dyn Fn() + Send + Sync>) -> Self {
        PeerRuntime { handle, driver_ended }
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
        Box::new(Task(self.handle.spawn(async move {
            let _ended = ended;
            future.await;
        })))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _runtime = self.handle.enter();
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Socket(tokio::net::UdpSocket::from_std(socket)?)))
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
        Box::pin(tokio::time::sleep(duration))
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
        Some((address, port)) if address.contains(':') && !address.starts_with('[') => format!("[{address}]:{port}"),
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
#[derive(Debug)]
struct Socket(tokio::net::UdpSocket);

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_send_to(cx, transmit.contents, transmit.destination)
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
        let mut buf = ReadBuf::new(buf);
        match self.0.poll_recv_from(cx, &mut buf) {
            Poll::Ready(Ok(from)) => {
                meta.addr = from;
                meta.len = buf.filled().len();
                meta.stride = meta.len;
                Poll::Ready(Ok(1))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_gets_its_brackets_and_nothing_else_changes() {
        assert_eq!(bracketed("2001:db8::1:3478"), "[2001:db8::1]:3478");
        assert_eq!(bracketed("[2001:db8::1]:3478"), "[2001:db8::1]:3478");
        assert_eq!(bracketed("192.0.2.1:3478"), "192.0.2.1:3478");
        assert_eq!(bracketed("turn.example.org:3478"), "turn.example.org:3478");
    }
}

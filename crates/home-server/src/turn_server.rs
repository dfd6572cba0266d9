//! The STUN and TURN server over UDP (RFC 8489, RFC 8656): the `turn` crate, with the bounds that it lacks.

use crate::challenger::{Challenger, Verdict};
use crate::config::{TurnConfig, Users};
use async_trait::async_trait;
use parking_lot::Mutex;
use siprtc_core::{Error, Fault, Result};
use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::RelayAddressGenerator;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::Conn;

/// How long [`TurnServer::shutdown`] waits for the library's tasks to let go of their sockets.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

/// A running TURN server.
pub(crate) struct TurnServer {
    server: Server,
    addr: SocketAddr,
    free: Arc<Semaphore>,
    max_allocations: usize,
    /// Ends when the last socket is closed.
    sockets: mpsc::Receiver<()>,
}

impl TurnServer {
    pub(crate) async fn start(config: TurnConfig, realm: &str, users: Users) -> Result<Self> {
        let cannot =
            |message: String| Error::new(Fault::Backend, "start TURN server", message).backend("turn");
        let socket = UdpSocket::bind(config.bind).await.map_err(|error| {
            cannot(format!("UDP {} cannot be bound", config.bind))
                .caused_by(error)
                .advice("choose a free port, or port 0")
        })?;
        let addr = socket
            .local_addr()
            .map_err(|error| cannot("the socket has no address".to_owned()).caused_by(error))?;
        let (open, sockets) = mpsc::channel(1);
        let free = Arc::new(Semaphore::new(config.max_allocations));
        let challenger = Mutex::new(Challenger::new(realm));
        let generator = BoundedRelay {
            ip: config.relay_ip,
            free: free.clone(),
            open: open.clone(),
        };
        let server = Server::new(ServerConfig {
            conn_configs: vec![ConnConfig {
                conn: Arc::new(Front {
                    socket,
                    challenger,
                    _open: open,
                }),
                relay_addr_generator: Box::new(generator),
            }],
            realm: realm.to_owned(),
            auth_handler: Arc::new(LongTerm { users }),
            // The library's default of ten minutes (RFC 8656 section 12).
            channel_bind_timeout: Duration::ZERO,
            alloc_close_notify: None,
        })
        .await
        .map_err(|error| cannot("the server did not start".to_owned()).caused_by(error))?;
        Ok(TurnServer {
            server,
            addr,
            free,
            max_allocations: config.max_allocations,
            sockets,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Relayed ports that are open.
    pub(crate) fn allocations(&self) -> usize {
        self.max_allocations.saturating_sub(self.free.available_permits())
    }

    /// Closes every allocation and frees the ports before it returns.
    pub(crate) async fn shutdown(mut self) {
        if let Err(error) = self.server.close().await {
            tracing::debug!(%error, "closing the TURN server");
        }
        // The library tells its tasks to end and does not wait for them; the sockets are the proof.
        drop(self.server);
        if tokio::time::timeout(SHUTDOWN_WAIT, self.sockets.recv())
            .await
            .is_err()
        {
            tracing::warn!(addr = %self.addr, "the TURN server's sockets are still open");
        }
    }
}

impl std::fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnServer")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Keys of the same users that register (RFC 8489 section 9.2: the long-term credential mechanism).
struct LongTerm {
    users: Users,
}

impl AuthHandler for LongTerm {
    fn auth_handle(&self, username: &str, realm: &str, _: SocketAddr) -> Result<Vec<u8>, turn::Error> {
        let password = self.users.password(username).ok_or(turn::Error::ErrNoSuchUser)?;
        Ok(generate_auth_key(username, realm, password))
    }
}

/// Opens relayed ports, no more than allowed: the library answers 508 (Insufficient Capacity) to an error.
struct BoundedRelay {
    ip: IpAddr,
    free: Arc<Semaphore>,
    open: mpsc::Sender<()>,
}

#[async_trait]
impl RelayAddressGenerator for BoundedRelay {
    fn validate(&self) -> Result<(), turn::Error> {
        Ok(())
    }

    async fn allocate_conn(
        &self,
        use_ipv4: bool,
        requested_port: u16,
    ) -> Result<(Arc<dyn Conn + Send + Sync>, SocketAddr), turn::Error> {
        // RFC 8656 section 7.2: the family is the client's choice, and there is one address.
        if use_ipv4 != self.ip.is_ipv4() {
            return Err(turn::Error::ErrPeerAddressFamilyMismatch);
        }
        let permit = self
            .free
            .clone()
            .try_acquire_owned()
            .map_err(|_| turn::Error::ErrMaxRetriesExceeded)?;
        let cannot = |_| turn::Error::ErrListeningAddressInvalid;
        let socket = UdpSocket::bind((self.ip, requested_port)).await.map_err(cannot)?;
        let addr = socket.local_addr().map_err(cannot)?;
        Ok((
            Arc::new(Relay {
                socket,
                _permit: permit,
                _open: self.open.clone(),
            }),
            addr,
        ))
    }
}

/// A relayed port; its permit goes back when the library drops it.
struct Relay {
    socket: UdpSocket,
    _permit: OwnedSemaphorePermit,
    _open: mpsc::Sender<()>,
}

/// The socket that clients talk to. Challenges are answered here: see [`Challenger`].
struct Front {
    socket: UdpSocket,
    challenger: Mutex<Challenger>,
    _open: mpsc::Sender<()>,
}

impl Front {
    async fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        loop {
            let (length, source) = match self.socket.recv_from(buffer).await {
                Ok(received) => received,
                // An ICMP error of some client must not end the server.
                Err(error) => {
                    tracing::debug!(%error, "TURN socket");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let verdict = self.challenger.lock().inspect(Instant::now(), &buffer[..length]);
            match verdict {
                Verdict::Pass => return (length, source),
                Verdict::Answer(challenge) => drop(self.socket.send_to(&challenge, source).await),
            }
        }
    }
}

#[async_trait]
impl Conn for Front {
    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Err(webrtc_util::Error::ErrUseClosedNetworkConn)
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        Ok(self.receive(buffer).await.0)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        Ok(self.receive(buffer).await)
    }

    async fn send(&self, _: &[u8]) -> Result<usize, webrtc_util::Error> {
        Err(webrtc_util::Error::ErrNoRemAddr)
    }

    async fn send_to(&self, data: &[u8], target: SocketAddr) -> Result<usize, webrtc_util::Error> {
        self.challenger.lock().learn(Instant::now(), data);
        Ok(self.socket.send_to(data, target).await?)
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    // The library closes the shared socket with every single allocation: a close must do nothing.
    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[async_trait]
impl Conn for Relay {
    async fn connect(&self, addr: SocketAddr) -> Result<(), webrtc_util::Error> {
        Ok(self.socket.connect(addr).await?)
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        Ok(self.socket.recv(buffer).await?)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        Ok(self.socket.recv_from(buffer).await?)
    }

    async fn send(&self, data: &[u8]) -> Result<usize, webrtc_util::Error> {
        Ok(self.socket.send(data).await?)
    }

    async fn send_to(&self, data: &[u8], target: SocketAddr) -> Result<usize, webrtc_util::Error> {
        Ok(self.socket.send_to(data, target).await?)
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

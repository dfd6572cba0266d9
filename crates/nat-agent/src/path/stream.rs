//! The connection to a TURN server over TCP or TLS (RFC 8656 section 2.1): a task for each, for it cannot be polled like a
//! socket of datagrams.

use siprtc_core::ice::{IceServer, IceServerTransport};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long a connection may take to come up, TLS included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that wait for the connection to take them; one more is dropped, as a network would.
const MOST_UNSENT: usize = 64;
/// How long what is left to send may take once the path is closed: the allocation's end.
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest message of a TURN server's that is read at once.
const CHUNK: usize = 4_096;

/// What a connection tells.
pub(super) enum Told<'a> {
    Connected(SocketAddr),
    Lost,
    Octets(&'a [u8]),
}

/// The connections of a path.
#[derive(Default)]
pub(super) struct Streams(HashMap<usize, (mpsc::Sender<Vec<u8>>, AbortHandle)>);

impl Streams {
    pub(super) fn insert(&mut self, relay: usize, sender: mpsc::Sender<Vec<u8>>, task: AbortHandle) {
        self.0.insert(relay, (sender, task));
    }

    pub(super) fn send(&self, relay: usize, data: Vec<u8>) -> bool {
        (self.0.get(&relay)).is_some_and(|(sender, _)| sender.try_send(data).is_ok())
    }

    /// What is left is sent, and the connections close.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for (_, task) in self.0.values() {
            task.abort();
        }
    }
}

/// Opens a connection. `tell` says whether anybody still listens.
pub(super) fn connect(
    runtime: &Handle,
    server: IceServer,
    tls: Option<Arc<ClientConfig>>,
    tell: impl Fn(Told<'_>) -> bool + Send + Sync + 'static,
) -> (mpsc::Sender<Vec<u8>>, AbortHandle) {
    let (sender, queue) = mpsc::channel(MOST_UNSENT);
    let task = runtime.spawn(async move {
        if let Err(error) = run(&server, tls, queue, &tell).await {
            tracing::info!(server = %server.url(), %error, "no connection to the TURN server");
        }
        tell(Told::Lost);
    });
    (sender, task.abort_handle())
}

async fn run(
    server: &IceServer,
    tls: Option<Arc<ClientConfig>>,
    queue: mpsc::Receiver<Vec<u8>>,
    tell: &(impl Fn(Told<'_>) -> bool + Send + Sync),
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let addr = server.addr.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let opened = tokio::time::timeout(PATIENCE, TcpStream::connect(addr));
    let stream = opened.await.map_err(late)??;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    if server.transport != IceServerTransport::Tls {
        return pump(stream, local, queue, tell).await;
    }
    let config = tls.ok_or_else(|| io::Error::other("there is no TLS configuration"))?;
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let shaken = tokio::time::timeout(PATIENCE, TlsConnector::from(config).connect(name, stream));
    let stream = shaken.await.map_err(late)??;
    pump(stream, local, queue, tell).await
}

/// Both ways, until either ends.
async fn pump(
    stream: impl AsyncRead + AsyncWrite + Send,
    local: SocketAddr,
    mut queue: mpsc::Receiver<Vec<u8>>,
    tell: &(impl Fn(Told<'_>) -> bool + Send + Sync),
) -> io::Result<()> {
    if !tell(Told::Connected(local)) {
        return Ok(());
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = reader.read(&mut buffer).await?;
            if length == 0 || !tell(Told::Octets(&buffer[..length])) {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let writing = async {
        while let Some(data) = queue.recv().await {
            writer.write_all(&data).await?;
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        done = reading => done,
        done = writing => {
            done?;
            tokio::time::timeout(FAREWELL, writer.shutdown()).await.unwrap_or(Ok(()))
        }
    }
}

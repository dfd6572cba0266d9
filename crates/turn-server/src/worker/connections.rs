//! A worker's TCP and TLS connections.

use super::{Place, Running, TURNS, to_peer};
use crate::batch::BATCH;
use crate::connection::{Connection, Progress};
use crate::machine::{Flow, Now, Verdict};
use crate::meter::Dropped;
use mio::Interest;
use rustls::ServerConnection;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How often connections are looked through.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// How long a connection may hold no allocation and send no whole message.
const IDLE: Duration = Duration::from_secs(30);

impl Running {
    pub(super) fn accept(&mut self, now: Now, index: usize) {
        for _ in 0..BATCH {
            let Some(accepting) = self.tcp.get(index) else {
                return;
            };
            let (stream, client) = match accepting.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A client that is gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    // No descriptor is left. Readiness was told once, so nobody will tell it again.
                    tracing::warn!(%error, "a connection cannot be taken");
                    return self.later.push(Place::Tcp(index).token());
                }
            };
            let tls = accepting.tls;
            if self.connections.len() >= self.most_connections {
                tracing::debug!(%client, "too many connections");
                self.counters.dropped(Dropped::Congested);
                continue;
            }
            if let Err(error) = self.accepted(now, stream, client, tls) {
                tracing::debug!(%error, %client, "a connection that does not begin");
            }
        }
        self.again.push(Place::Tcp(index).token());
    }

    fn accepted(
        &mut self,
        now: Now,
        mut stream: mio::net::TcpStream,
        client: SocketAddr,
        tls: bool,
    ) -> io::Result<()> {
        let tls = match (&self.tls, tls) {
            (Some(config), true) => Some(ServerConnection::new(config.clone()).map_err(io::Error::other)?),
            (None, true) => return Err(io::ErrorKind::InvalidInput.into()),
            (_, false) => None,
        };
        // Packets must not wait for each other.
        stream.set_nodelay(true)?;
        self.last_connection += 1;
        let id = self.last_connection;
        let token = Place::Connection(id).token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, token, interest)?;
        let flow = Flow {
            socket: Flow::CONNECTIONS + id,
            client,
        };
        let connection = Connection::new(stream, tls, flow, now.instant);
        self.connections.insert(id, connection);
        self.counters.connections(self.connections.len());
        Ok(())
    }

    pub(super) fn connection(&mut self, now: Now, id: u64) {
        if let Err(error) = self.serve(now, id) {
            self.close(id, &error);
        }
    }

    fn serve(&mut self, now: Now, id: u64) -> io::Result<()> {
        for _ in 0..TURNS {
            let Some(connection) = self.connections.get_mut(&id) else {
                return Ok(());
            };
            connection.flush()?;
            let progress = connection.read(&mut self.scratch)?;
            while let Some(connection) = self.connections.get_mut(&id) {
                let Some(range) = connection.next_message()? else {
                    break;
                };
                connection.heard = now.instant;
                let message = connection.input(range);
                match self.machine.client(now, connection.flow, message) {
                    Verdict::Done => self.outputs(),
                    Verdict::Relay { relay, peer, payload } => {
                        let payload = message.get(payload).unwrap_or_default();
                        to_peer(&self.relays, &self.counters, relay, peer, payload);
                    }
                }
            }
            if progress == Progress::Empty {
                return Ok(());
            }
        }
        self.again.push(Place::Connection(id).token());
        Ok(())
    }

    pub(super) fn close(&mut self, id: u64, why: &io::Error) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        tracing::debug!(client = %connection.flow.client, %why, "a connection ends");
        if let Err(error) = self.poll.registry().deregister(connection.stream()) {
            tracing::debug!(%error, "a connection's readiness");
        }
        self.counters.connections(self.connections.len());
        self.machine.closed(&connection.flow);
        self.outputs();
    }

    /// Ends connections that do nothing.
    pub(super) fn sweep(&mut self, now: Now) {
        if now.instant < self.swept + SWEEP {
            return;
        }
        self.swept = now.instant;
        self.again.append(&mut self.later);
        let idle = |connection: &Connection| {
            now.instant >= connection.heard + IDLE && !self.machine.holds(&connection.flow)
        };
        let ids = self.connections.iter().filter(|(_, connection)| idle(connection));
        for id in ids.map(|(id, _)| *id).collect::<Vec<u64>>() {
            self.close(id, &io::ErrorKind::TimedOut.into());
        }
    }
}

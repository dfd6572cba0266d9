//! Starts and ends the workers.

use crate::config::{Identity, TurnConfig, invalid};
use crate::ledger::Ledger;
use crate::machine::{Machine, Rules};
use crate::meter::Meter;
use crate::nonce::Nonces;
use crate::peers::PeerPolicy;
use crate::wire::Family;
use crate::worker::{self, RelayPorts, STOP, Sockets, Worker};
use crate::{Listener, sockets};
use mio::{Poll, Waker};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Descriptors beside those of allocations and connections.
const OTHER_DESCRIPTORS: usize = 256;
/// Most threads, whatever the machine has.
const MOST_WORKERS: usize = 64;

/// A running STUN and TURN server. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    meter: Meter,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    handle: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds every listener and starts to serve, on threads of its own.
    ///
    /// # Errors
    /// [`Fault::ConfigInvalid`] for a configuration that cannot work, a certificate that cannot be used, and an address
    /// that cannot be bound; [`Fault::Backend`] when the system refuses threads or sockets.
    pub fn start(config: TurnConfig) -> Result<Self> {
        config.validate()?;
        let tls = config.identity.as_ref().map(tls).transpose()?;
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let workers = if config.workers == 0 {
            cores()
        } else {
            config.workers
        }
        .min(MOST_WORKERS);
        let limits = config.limits;
        sockets::raise_descriptor_limit(limits.allocations + limits.connections + OTHER_DESCRIPTORS);
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            sockets.push((listener.transport, sockets::listen(*listener, workers)?));
        }
        let listeners = sockets
            .iter()
            .zip(&config.listeners)
            .map(|((transport, sockets), asked)| {
                let bound = sockets
                    .first()
                    .and_then(|socket| socket.local_addr().ok()?.as_socket());
                Listener {
                    transport: *transport,
                    bind: bound.unwrap_or(asked.bind),
                }
            })
            .collect();
        let ports = RelayPorts {
            relays: config.relays.clone(),
            ports: config.ports.clone(),
        };
        let rules = Arc::new(rules(config));
        let mut server = Server {
            listeners,
            meter: Meter {
                workers: (0..workers).map(|_| Arc::default()).collect(),
            },
            threads: Vec::new(),
        };
        let most_connections = limits.connections.div_ceil(workers);
        for counters in server.meter.workers.clone().iter() {
            let mine = sockets
                .iter_mut()
                .filter_map(|(transport, sockets)| Some((*transport, sockets.pop()?)));
            let make = |poll, stop, sockets| Worker {
                poll,
                stop,
                machine: Machine::new(rules.clone(), counters.clone()),
                counters: counters.clone(),
                ports: ports.clone(),
                most_connections,
                tls: tls.clone(),
                sockets,
            };
            server.threads.push(spawn(make, mine)?);
        }
        Ok(server)
    }

    /// Where it listens, in the order of the configuration, with the ports that the system chose.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Reads its figures, also from another thread.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// Closes every allocation and frees every port before it returns, which takes some milliseconds.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for thread in &self.threads {
            thread.stop.store(true, Ordering::Release);
            if let Err(error) = thread.waker.wake() {
                tracing::warn!(%error, "a TURN worker cannot be told to stop");
            }
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take()
                && handle.join().is_err()
            {
                tracing::error!("a TURN worker had a defect and ended before its time");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn rules(config: TurnConfig) -> Rules {
    let epoch = worker::clock();
    let limits = config.limits;
    Rules {
        realm: config.realm,
        credentials: config.credentials,
        peers: PeerPolicy {
            allow: config.allow_peers,
            deny: config.deny_peers,
        },
        families: config.relays.iter().map(|relay| Family::of(relay.bind)).collect(),
        permissions: limits.permissions,
        challenges_per_s: limits.challenges_per_s,
        lifetime: limits.lifetime,
        epoch,
        nonces: Nonces::new(&rand::random(), epoch, limits.nonce),
        ledger: Ledger::new(limits.allocations, limits.allocations_per_user),
    }
}

fn spawn(
    make: impl FnOnce(Poll, Arc<AtomicBool>, Sockets) -> Worker,
    sockets: impl Iterator<Item = (crate::Transport, socket2::Socket)>,
) -> Result<Thread> {
    let cannot = |error: std::io::Error| {
        Error::new(
            Fault::Backend,
            "start TURN server",
            "the system gives no thread or no socket",
        )
        .caused_by(error)
        .advice("see whether `ulimit -n` and `ulimit -u` allow more")
    };
    let poll = Poll::new().map_err(cannot)?;
    let waker = Waker::new(poll.registry(), STOP).map_err(cannot)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut mine = Sockets::default();
    for (transport, socket) in sockets {
        mine.listen(&poll, transport, socket).map_err(cannot)?;
    }
    let worker = make(poll, stop.clone(), mine);
    let run = move || worker.run();
    let handle = thread::Builder::new()
        .name("turn".to_owned())
        .spawn(run)
        .map_err(cannot)?;
    Ok(Thread {
        stop,
        waker,
        handle: Some(handle),
    })
}

fn tls(identity: &Identity) -> Result<Arc<ServerConfig>> {
    let unusable = |what: &str| {
        invalid(format!("{what} cannot be used"))
            .advice("give PEM files: the certificate with those between it and its authority, and its key")
    };
    let chain = CertificateDer::pem_slice_iter(&identity.chain)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| unusable("the certificate").caused_by(error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("a file without a certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|error| unusable("the key").caused_by(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS").caused_by(error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable("the certificate with this key").caused_by(error))?;
    Ok(Arc::new(config))
}

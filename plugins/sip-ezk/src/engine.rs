//! One running ezk endpoint, on threads of its own.
//!
//! ezk's receive and accept loops have no end: they stop only with their runtime. And ezk spawns a task for every
//! message, so that a runtime with several workers lets a CANCEL overtake its INVITE. Both are answered by two
//! single-threaded runtimes that belong to the engine: `receive` runs ezk's UDP readers and nothing lasting besides,
//! `work` runs everything else. A UDP reader that panics (some datagrams do that to ezk 0.9.2, see the README) shows
//! as a missing task on `receive`; the stack then starts a new engine in place of the deaf one.

use crate::convert::backend;
use crate::inbound::Inbound;
use crate::names::Names;
use crate::shared::Shared;
use ezk_sip_core::transport::TpHandle;
use ezk_sip_core::{Endpoint, EndpointBuilder};
use parking_lot::Mutex;
use siprtc_core::sip::{Listener, ListenerConfig, Transport};
use siprtc_core::{Error, Fault, Result};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const OPERATION: &str = "start SIP stack";

/// How often the UDP readers are counted.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// How often a free TCP port is sought: between finding it and binding it somebody else may take it.
const PORT_ATTEMPTS: usize = 16;

/// Longest wait for an engine's threads to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Most readiness events taken from the system at once; more wait for the next turn. An engine has a few sockets, and
/// tokio's own 1,024 take 12 kB of each runtime.
const EVENTS: usize = 64;

/// A thread with a runtime, which ends when `stop` is dropped.
struct Reactor {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Receiver<()>>,
}

impl Reactor {
    fn start(name: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_io_events_per_tick(EVENTS)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, wait) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = runtime.block_on(wait);
            // Every task is dropped here, and with it every socket that it held.
            drop(runtime);
            let _ = done.send(());
        })?;
        Ok(Reactor {
            handle,
            stop: Some(stop),
            stopped: Some(stopped),
        })
    }
}

pub(crate) struct Engine {
    endpoint: Mutex<Option<Endpoint>>,
    names: Arc<Names>,
    udp: Mutex<Vec<TpHandle>>,
    listeners: Vec<Listener>,
    work: Handle,
    reactors: Mutex<Vec<Reactor>>,
    deaf: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What ezk was made of.
struct Built {
    endpoint: Endpoint,
    names: Arc<Names>,
    udp: Vec<TpHandle>,
    listeners: Vec<Listener>,
}

impl Engine {
    /// Binds every listener and starts.
    pub(crate) async fn start(shared: &Arc<Shared>, wanted: &[ListenerConfig]) -> Result<Arc<Self>> {
        let no_thread = |error| backend(OPERATION, "no thread for the SIP stack").caused_by(error);
        let receive = Reactor::start("sip-ezk-receive").map_err(no_thread)?;
        let work = Reactor::start("sip-ezk").map_err(no_thread)?;
        let built = build(shared, wanted, &receive.handle, &work.handle).await;
        let reactors = vec![receive, work];
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                stop(reactors).await;
                return Err(error);
            }
        };
        let (deaf, is_deaf) = oneshot::channel();
        let (readers, receive, work) = (built.udp.len(), &reactors[0].handle, reactors[1].handle.clone());
        work.spawn(watch_readers(receive.clone(), readers, deaf));
        work.spawn(shared.clone().run_timers());
        Ok(Arc::new(Engine {
            endpoint: Mutex::new(Some(built.endpoint)),
            names: built.names,
            udp: Mutex::new(built.udp),
            listeners: built.listeners,
            work,
            reactors: Mutex::new(reactors),
            deaf: Mutex::new(Some(is_deaf)),
        }))
    }

    /// Where everything that calls into ezk must run.
    pub(crate) fn work(&self) -> &Handle {
        &self.work
    }

    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    pub(crate) fn endpoint(&self, operation: &'static str) -> Result<Endpoint> {
        self.endpoint.lock().clone().ok_or_else(|| stopped(operation))
    }

    /// The UDP sockets of one address family.
    pub(crate) fn udp(&self, like: SocketAddr) -> Vec<TpHandle> {
        let same_family = |handle: &&TpHandle| handle.bound().is_ipv4() == like.is_ipv4();
        self.udp.lock().iter().filter(same_family).cloned().collect()
    }

    /// Resolves when a UDP reader has died; never when the engine was stopped. To be taken once.
    pub(crate) fn deaf(&self) -> Option<oneshot::Receiver<()>> {
        self.deaf.lock().take()
    }

    /// Ends every task and closes every socket.
    pub(crate) async fn stop(&self) {
        let reactors = std::mem::take(&mut *self.reactors.lock());
        stop(reactors).await;
        self.udp.lock().clear();
        let endpoint = self.endpoint.lock().take();
        drop(endpoint);
    }
}

/// The error of every call after `shutdown`.
pub(crate) fn stopped(operation: &'static str) -> Error {
    crate::convert::misuse(operation, "the stack was shut down").advice("start a new one")
}

async fn stop(reactors: Vec<Reactor>) {
    let mut waiting = Vec::new();
    for mut reactor in reactors {
        drop(reactor.stop.take());
        waiting.extend(reactor.stopped.take());
    }
    for stopped in waiting {
        if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err() {
            tracing::warn!("a thread of the SIP stack has not ended yet");
        }
    }
}

async fn watch_readers(receive: Handle, readers: usize, deaf: oneshot::Sender<()>) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        if receive.metrics().num_alive_tasks() < readers {
            let _ = deaf.send(());
            return;
        }
    }
}

async fn build(
    shared: &Arc<Shared>,
    wanted: &[ListenerConfig],
    receive: &Handle,
    work: &Handle,
) -> Result<Built> {
    let (udp, streams): (Vec<_>, Vec<_>) = wanted
        .iter()
        .copied()
        .partition(|w| w.transport == Transport::Udp);
    let mut builder = Endpoint::builder();
    builder.add_layer(Inbound::new(shared.clone()));
    let (builder, udp) = receive.spawn(bind_udp(builder, udp)).await.map_err(panicked)??;
    let names = Arc::new(Names::default());
    let binding = bind_streams(builder, streams, shared.clone(), names.clone());
    let (endpoint, streams) = work.spawn(binding).await.map_err(panicked)??;
    let (udp, mut listeners): (Vec<_>, Vec<_>) = udp.into_iter().unzip();
    listeners.extend(streams);
    Ok(Built {
        endpoint,
        names,
        udp,
        listeners,
    })
}

async fn bind_udp(
    mut builder: EndpointBuilder,
    wanted: Vec<ListenerConfig>,
) -> Result<(EndpointBuilder, Vec<(TpHandle, Listener)>)> {
    let mut bound = Vec::with_capacity(wanted.len());
    for config in wanted {
        let handle = builder
            .bind_udp(config.bind)
            .await
            .map_err(|error| cannot_bind(&config, error))?;
        let listener = listener(&config, handle.bound());
        bound.push((handle, listener));
    }
    Ok((builder, bound))
}

/// Ends with the endpoint being built. It gets our resolver: its own would panic without `/etc/resolv.conf`.
async fn bind_streams(
    mut builder: EndpointBuilder,
    wanted: Vec<ListenerConfig>,
    shared: Arc<Shared>,
    names: Arc<Names>,
) -> Result<(Endpoint, Vec<Listener>)> {
    let mut bound = Vec::with_capacity(wanted.len());
    for config in wanted {
        let acceptor = match config.transport {
            Transport::Tls => shared.tls.server.clone().map(TlsAcceptor::from),
            _ => None,
        };
        let address = listen_free(&mut builder, config.bind, acceptor)
            .await
            .map_err(|e| cannot_bind(&config, e))?;
        bound.push(listener(&config, address));
    }
    let tls = bound.iter().filter(|l| l.transport == Transport::Tls);
    shared
        .flows
        .listens_for_tls(tls.map(|l| l.bound.port()).collect());
    let resolver = names.start().await;
    let resolver = resolver.map_err(|e| backend(OPERATION, "no names for TLS connections").caused_by(e))?;
    builder.set_dns_resolver(resolver);
    builder.use_rustls_connector(TlsConnector::from(shared.tls.client.clone()));
    Ok((builder.build(), bound))
}

/// ezk does not say which port a listener got, so a free one is sought first.
async fn listen_free(
    builder: &mut EndpointBuilder,
    bind: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) -> io::Result<SocketAddr> {
    if bind.port() != 0 {
        listen(builder, bind, acceptor).await?;
        return Ok(bind);
    }
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_ATTEMPTS {
        let free = std::net::TcpListener::bind(bind)?.local_addr()?;
        match listen(builder, free, acceptor.clone()).await {
            Ok(()) => return Ok(free),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

async fn listen(
    builder: &mut EndpointBuilder,
    bind: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) -> io::Result<()> {
    match acceptor {
        Some(acceptor) => builder.listen_rustls(bind, acceptor).await,
        None => builder.listen_tcp(bind).await,
    }
}

fn listener(config: &ListenerConfig, bound: SocketAddr) -> Listener {
    let advertised = match config.advertise {
        Some(told) if told.port() == 0 => SocketAddr::new(told.ip(), bound.port()),
        Some(told) => told,
        None => bound,
    };
    Listener {
        transport: config.transport,
        bound,
        advertised,
    }
}

fn cannot_bind(config: &ListenerConfig, error: io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: choose another port, or 0",
        io::ErrorKind::AddrNotAvailable => "the address is not one of this machine's",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another port",
        _ => "check the listener's address",
    };
    let message = format!("cannot listen on {} {}", config.transport, config.bind);
    Error::new(Fault::ConfigInvalid, OPERATION, message)
        .caused_by(error)
        .advice(advice)
        .backend(crate::NAME)
}

fn panicked(error: tokio::task::JoinError) -> Error {
    backend(OPERATION, "ezk panicked while it was set up").caused_by(error)
}

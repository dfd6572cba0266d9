//! ICE agents side by side: how soon there is a pair, what a path costs a packet, and what a thousand of them cost idle.

use crate::children;
use crate::process;
use siprtc::nat_agent::{NatConfig, Ports, paths};
use siprtc::registry;
use siprtc_benches::figure::{Figure, Series};
use siprtc_core::ice::{IceAgentFactory, IceConfig, IcePath, IcePaths, IceRole, PathEvent};
use siprtc_core::media::{
    Codec, MediaEngine, MediaEvent, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind,
};
use siprtc_core::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Calls of each agent, in turns.
const CALLS: usize = 40;
/// Paths that are idle at once.
const IDLE: usize = 1_000;
/// From the last pair on: agents are left alone 5 s after theirs is nominated.
const CALM: Duration = Duration::from_secs(8);
/// How long they are.
const REST: Duration = Duration::from_secs(20);
/// Datagrams of a run, and how many are under way: fewer than a socket's buffer holds.
const DATAGRAMS: usize = 200_000;
const AT_ONCE: usize = 32;
/// An RTP packet of Opus, with SRTP's tag.
const OCTETS: usize = 110;
/// A pair that is not there by then will never be.
const PATIENCE: Duration = Duration::from_secs(10);

struct Nowhere;

impl PacketSink for Nowhere {
    fn push(&self, _: RtpPacket) {}
}

fn failed(what: &str) -> Error {
    children::failed("measure paths", what)
}

fn of(agent: &Arc<dyn IceAgentFactory>) -> Option<Arc<dyn IcePaths>> {
    paths(&NatConfig {
        agent: Some(agent.clone()),
        ..NatConfig::default()
    })
}

/// With one port for all paths, of each of two endpoints.
fn sharing(agent: &Arc<dyn IceAgentFactory>) -> Result<[Arc<dyn IcePaths>; 2]> {
    let endpoint = || {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = free.map_err(|error| failed("no socket").caused_by(error))?.port();
        let nat = NatConfig {
            agent: Some(agent.clone()),
            ports: Arc::new(Ports::shared(port, port)?),
            ..NatConfig::default()
        };
        paths(&nat).ok_or_else(|| failed("no paths"))
    };
    Ok([endpoint()?, endpoint()?])
}

fn config(paths: Option<Arc<dyn IcePaths>>) -> IceConfig {
    IceConfig {
        bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        gather_budget: Duration::from_secs(1),
        paths,
        ..IceConfig::default()
    }
}

/// A media peer, and what it says of its pair and of DTLS.
async fn peer(
    engine: &dyn MediaEngine,
    paths: Option<Arc<dyn IcePaths>>,
    remote_offer: Option<String>,
) -> Result<(Arc<dyn MediaPeer>, mpsc::UnboundedReceiver<(bool, Instant)>)> {
    let (sender, heard) = mpsc::unbounded_channel();
    let events = move |event| {
        let is_dtls = match event {
            MediaEvent::Selected(_) => false,
            MediaEvent::Connected => true,
            _ => return,
        };
        // Whoever no longer listens has heard enough.
        let _ = sender.send((is_dtls, Instant::now()));
    };
    let made = engine.create_peer(PeerConfig {
        ice: config(paths),
        codecs: vec![Codec::Opus],
        remote_offer,
        heard: None,
        video: None,
        packets: Arc::new(Nowhere),
        events: Arc::new(events),
    });
    Ok((made.await?, heard))
}

/// When it says so for the first time.
async fn first(heard: &mut mpsc::UnboundedReceiver<(bool, Instant)>, dtls: bool) -> Result<Instant> {
    let waited = async {
        while let Some((is_dtls, at)) = heard.recv().await {
            if is_dtls == dtls {
                return Ok(at);
            }
        }
        Err(failed("a media peer is gone"))
    };
    tokio::time::timeout(PATIENCE, waited)
        .await
        .unwrap_or_else(|_| Err(failed("no pair is found")))
}

/// From both descriptions known to a pair at both ends, and to DTLS at both ends, ms.
async fn call(paths: Option<Arc<dyn IcePaths>>) -> Result<(f64, f64)> {
    let engine = registry::media_engine("webrtc")?;
    let (a, mut hears_a) = peer(&*engine, paths.clone(), None).await?;
    let offer = a.create_offer().await?;
    let offer = a.set_local(SdpKind::Offer, &offer).await?;
    let (b, mut hears_b) = peer(&*engine, paths, Some(offer.clone())).await?;
    b.set_remote(SdpKind::Offer, &offer).await?;
    let answer = b.create_answer().await?;
    let answer = b.set_local(SdpKind::Answer, &answer).await?;
    let began = Instant::now();
    a.set_remote(SdpKind::Answer, &answer).await?;
    let pair = first(&mut hears_a, false)
        .await?
        .max(first(&mut hears_b, false).await?);
    let dtls = first(&mut hears_a, true)
        .await?
        .max(first(&mut hears_b, true).await?);
    a.close().await;
    b.close().await;
    let ms = |at: Instant| at.saturating_duration_since(began).as_secs_f64() * 1e3;
    Ok((ms(pair), ms(dtls)))
}

async fn pairs() -> Result<Vec<Figure>> {
    let agents = registry::ice_agents();
    let mut taken = vec![(Vec::new(), Vec::new()); agents.len() + 1];
    for _ in 0..CALLS {
        for (at, taken) in taken.iter_mut().enumerate() {
            let (pair, dtls) = call(agents.get(at).and_then(of)).await?;
            taken.0.push(pair);
            taken.1.push(dtls);
        }
    }
    let taken: Vec<(Series, Series)> = taken
        .into_iter()
        .map(|(pair, dtls)| (Series::new(pair), Series::new(dtls)))
        .collect();
    let (own, mut figures) = (&taken[agents.len()], Vec::new());
    for (agent, (pair, dtls)) in agents.iter().zip(&taken) {
        let figure = |what: &str, value: f64, own: f64| {
            Figure::new("paths", format!("{}: {what}", agent.name()), value, "ms").beside("builtin", own)
        };
        figures.extend([
            figure(
                "descriptions known to a pair at both ends, p50",
                pair.median(),
                own.0.median(),
            )
            .at_most(30.0)
            .note(format!(
                "{CALLS} calls of each in turns, the engine webrtc, loopback"
            )),
            figure("the same, p99", pair.percentile(99.0), own.0.percentile(99.0)),
            figure(
                "descriptions known to DTLS at both ends, p50",
                dtls.median(),
                own.1.median(),
            ),
        ]);
    }
    Ok(figures)
}

/// One end, read by a task of its own as an engine would.
struct End {
    path: Arc<dyn IcePath>,
    selected: mpsc::UnboundedReceiver<()>,
    heard: Arc<std::sync::atomic::AtomicUsize>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn end(paths: &Arc<dyn IcePaths>, role: IceRole) -> Result<End> {
    let (sender, selected) = mpsc::unbounded_channel();
    let events = move |event| {
        if matches!(event, PathEvent::Selected(_)) {
            let _ = sender.send(());
        }
    };
    let path = paths.open(&config(None), role, Arc::new(events)).await?;
    let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (read, count) = (path.clone(), heard.clone());
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 2_048];
        loop {
            std::future::poll_fn(|cx| read.poll_receive(cx, &mut buffer)).await;
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    Ok(End {
        path,
        selected,
        heard,
        reader,
    })
}

async fn connected([of_a, of_b]: [&Arc<dyn IcePaths>; 2]) -> Result<[End; 2]> {
    let mut a = end(of_a, IceRole::Controlling).await?;
    let mut b = end(of_b, IceRole::Controlled).await?;
    let (of_a, of_b) = (a.path.gather().await, b.path.gather().await);
    b.path.set_remote(&a.path.parameters(), &of_a)?;
    a.path.set_remote(&b.path.parameters(), &of_b)?;
    for end in [&mut a, &mut b] {
        let came = tokio::time::timeout(PATIENCE, end.selected.recv()).await;
        came.map_err(|_| failed("no pair is found"))?;
    }
    Ok([a, b])
}

/// Microseconds of processor a datagram over a path takes, both ends together; and over bare sockets.
async fn packet(paths: [&Arc<dyn IcePaths>; 2]) -> Result<(f64, f64)> {
    let [a, b] = connected(paths).await?;
    let datagram = [&[128_u8][..], &[0; OCTETS - 1]].concat();
    let before = process::processor_ms();
    let mut sent = 0;
    while sent < DATAGRAMS {
        for _ in 0..AT_ONCE {
            a.path.send(&datagram);
        }
        sent += AT_ONCE;
        let began = Instant::now();
        while b.heard.load(std::sync::atomic::Ordering::Relaxed) < sent {
            tokio::task::yield_now().await;
            if began.elapsed() > PATIENCE {
                return Err(failed("a datagram is lost on loopback"));
            }
        }
    }
    let over_path = (process::processor_ms() - before) * 1e3 / sent as f64;
    Ok((over_path, bare(&datagram).await?))
}

/// The same with a tokio socket that is read by a task.
async fn bare(datagram: &[u8]) -> Result<f64> {
    let lost = |error: std::io::Error| failed("no socket").caused_by(error);
    let bind = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket)
    };
    let (a, b) = (bind().map_err(lost)?, bind().map_err(lost)?);
    let to = b.local_addr().map_err(lost)?;
    let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = heard.clone();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 2_048];
        while b.recv_from(&mut buffer).await.is_ok() {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    a.writable().await.map_err(lost)?;
    let before = process::processor_ms();
    let mut sent = 0;
    while sent < DATAGRAMS {
        for _ in 0..AT_ONCE {
            a.send_to(datagram, to).await.map_err(lost)?;
        }
        sent += AT_ONCE;
        while heard.load(std::sync::atomic::Ordering::Relaxed) < sent {
            tokio::task::yield_now().await;
        }
    }
    reader.abort();
    Ok((process::processor_ms() - before) * 1e3 / sent as f64)
}

/// Percent of a core that [`IDLE`] connected paths take: both ends of half as many pairs, all in this process.
async fn idle(paths: &Arc<dyn IcePaths>) -> Result<f64> {
    let mut ends = Vec::new();
    for _ in 0..IDLE / 2 {
        ends.extend(connected([paths; 2]).await?);
    }
    tokio::time::sleep(CALM).await;
    let began = process::processor_ms();
    tokio::time::sleep(REST).await;
    Ok((process::processor_ms() - began) / REST.as_millis() as f64 * 100.0)
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let mut figures = pairs().await?;
    for agent in registry::ice_agents() {
        let paths = of(&agent).ok_or_else(|| failed("no paths"))?;
        let named = |what: &str| format!("{}: {what}", agent.name());
        let (over_path, bare) = packet([&paths; 2]).await?;
        figures.push(
            Figure::new(
                "paths",
                named("processor a datagram, sent and received"),
                over_path,
                "µs",
            )
            .at_most(bare + 2.0)
            .beside("two sockets", bare)
            .note(format!(
                "{DATAGRAMS} of {OCTETS} octets on loopback, {AT_ONCE} under way"
            )),
        );
        let [a, b] = sharing(&agent)?;
        let (over_shared, bare) = packet([&a, &b]).await?;
        figures.push(
            Figure::new(
                "paths",
                named("the same over ports that all calls share"),
                over_shared,
                "µs",
            )
            .beside("two sockets", bare)
            .note("a task reads the port and wakes the path's reader".to_owned()),
        );
        let percent = idle(&paths).await?;
        figures.push(
            Figure::new(
                "paths",
                named("processor of 1000 connected paths, idle"),
                percent,
                "%",
            )
            .at_most(3.0)
            .note(format!(
                "of one core, over {} s; agents of both ends of 500 pairs, consent of each every 4 to 6 s",
                REST.as_secs()
            )),
        );
    }
    Ok(figures)
}

//! `bridge`: WebRTC peers and telephones with plain RTP, joined by our endpoint and by Janus in turns, in a network namespace of
//! its own, for Janus offers no loopback addresses.

use crate::children::{ADDRESS, Folder, Program, failed};
use crate::janus::{self, WebCall};
use crate::load::heard;
use crate::process;
use crate::stamped::{Seen, Stamped};
use siprtc::gateway::{CallEventKind, MediaPlan};
use siprtc::registry;
use siprtc::{Call, Config, Endpoint, Parts};
use siprtc_benches::figure::{Figure, Series};
use siprtc_core::media::{Codec, MediaEngine, NegotiatedAudio, RtpPacket};
use siprtc_core::{Error, Fault, Result};
use siprtc_media_session::bench::{Decoder, Encoder};
use siprtc_media_session::{TranscodeOptions, Transcoder};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// Calls at once.
const CALLS: [usize; 2] = [50, 200];
const AT_ONCE: usize = 4;
const TALK: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(20);

/// The engines that a WebRTC peer is answered with: the library's whole PeerConnection, and the engine that speaks DTLS-SRTP
/// over ICE without one.
const ENGINES: [&str; 2] = ["webrtc", LIGHT];
const LIGHT: &str = "rtp-web";

const NETWORK: &str = "set -e
ulimit -n $(ulimit -Hn)
sysctl -qw net.ipv6.conf.all.disable_ipv6=1
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip addr add 203.0.113.1/24 dev v0
\"$0\" bridges --json
exec chrt --fifo 5 \"$0\" promptly --json";

/// Makes the network, and measures in it.
pub(crate) fn apart() -> Result<Vec<Figure>> {
    for (program, package) in [
        ("janus", "janus"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("chrt", "util-linux"),
    ] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program} >/dev/null")])
            .status();
        if !found.is_ok_and(|status| status.success()) {
            let missing = format!("there is no {program}, and nothing is compared without it");
            return Err(Error::new(Fault::ConfigInvalid, "compare with Janus", missing)
                .advice(format!("apt-get install {package}")));
        }
    }
    crate::child(
        Command::new("unshare")
            .args(["--net", "sh", "-c", NETWORK])
            .arg(crate::own()?),
    )
}

fn config(name: &str) -> Result<Config> {
    let mut config = Config::defaults()?;
    config.account.uri = format!("sip:{name}@{ADDRESS}");
    config.account.register = false;
    config.sip.listen = vec![format!("udp:{ADDRESS}:0"), format!("tcp:{ADDRESS}:0")];
    config.media.codecs = vec!["PCMU".to_owned()];
    config.call.max_calls = 1_024;
    Ok(config)
}

fn uri(endpoint: &Endpoint, name: &str) -> Result<String> {
    let listeners = endpoint.listeners();
    let listener = listeners.first().ok_or_else(|| failed("listen", "no listener"))?;
    Ok(format!("sip:{name}@{}", listener.bound))
}

/// `hub TELEPHONE ENGINE`: answers calls with that engine, calls the telephone for each, and bridges the two, until it is
/// ended.
pub(crate) async fn serve(telephone: &str, engine: &str) -> Result<Vec<Figure>> {
    let mut inward = config("hub")?;
    inward.media.engine = engine.to_owned();
    let mut endpoint = Endpoint::start(&inward).await?;
    let mut outward = config("out")?;
    outward.media.engine = "rtp".to_owned();
    outward.media.classic = String::new();
    let outward = Arc::new(Endpoint::start(&outward).await?);
    println!("serving {}", uri(&endpoint, "hub")?);
    while let Some(incoming) = endpoint.incoming().await {
        let (outward, telephone) = (Arc::clone(&outward), telephone.to_owned());
        tokio::spawn(async move {
            let answered = async {
                let mut first = incoming.answer(MediaPlan::default()).await?;
                first.confirmed().await?;
                let mut second = outward.dial(&telephone, MediaPlan::default()).await?;
                let joined = join(&outward, &mut first, &mut second).await;
                second.hangup().await?;
                joined
            };
            if let Err(error) = answered.await {
                eprintln!("a call is not bridged: {error}");
            }
        });
    }
    Ok(Vec::new())
}

/// Joins two calls until the first is over.
async fn join(hub: &Endpoint, first: &mut Call, second: &mut Call) -> Result<()> {
    second.confirmed().await?;
    hub.bridge(first, second).await?;
    while let Some(event) = first.next().await {
        if matches!(event, CallEventKind::Ended(_) | CallEventKind::Failed(_)) {
            break;
        }
    }
    Ok(())
}

/// The telephones: one endpoint that answers every call.
struct Telephones {
    uri: String,
    answered: mpsc::Receiver<Call>,
    kept: Vec<Call>,
}

impl Telephones {
    async fn start(seen: &Arc<Seen>, direct: bool) -> Result<Self> {
        let mut config = config("telephone")?;
        config.media.engine = "rtp".to_owned();
        config.media.classic = String::new();
        if direct {
            config.media.rtp.keying = "dtls".to_owned();
            config.media.rtp.ice = true;
        }
        let parts = Parts::from_config(&config)?;
        let endpoint = Endpoint::start_with(
            &config,
            Parts {
                engine: Arc::new(Stamped {
                    inner: parts.engine,
                    seen: Arc::clone(seen),
                }),
                ..parts
            },
        )
        .await?;
        let uri = uri(&endpoint, "telephone")?;
        let answered = crate::house::answer_all(endpoint);
        Ok(Telephones {
            uri,
            answered,
            kept: Vec::new(),
        })
    }

    fn keep(&mut self) {
        while let Ok(call) = self.answered.try_recv() {
            self.kept.push(call);
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Who {
    Direct,
    Janus,
    /// Our hub, with this engine towards WebRTC.
    Ours(&'static str),
}

/// What one of them came to.
#[derive(Default)]
struct Measured {
    failed: usize,
    /// ms of processor a second and call.
    processor: f64,
    /// kB a call.
    memory: f64,
    sent: u64,
    lost: u64,
    delays: Vec<f64>,
}

enum Web {
    Endpoint(Arc<Endpoint>, String),
    Janus(Arc<dyn MediaEngine>, String),
}

enum WebEnd {
    Endpoint(Box<Call>),
    Janus(WebCall),
}

impl Web {
    async fn dial(&self) -> Result<WebEnd> {
        match self {
            Web::Endpoint(endpoint, target) => {
                let mut call = endpoint.dial(target, MediaPlan::default()).await?;
                heard(&mut call).await?;
                Ok(WebEnd::Endpoint(Box::new(call)))
            }
            Web::Janus(engine, target) => WebCall::dial(engine, target).await.map(WebEnd::Janus),
        }
    }
}

impl WebEnd {
    async fn end(self) {
        match self {
            WebEnd::Endpoint(call) => {
                drop(call.hangup().await);
                drop(timeout(PATIENCE, call.finished()).await);
            }
            WebEnd::Janus(call) => call.end().await,
        }
    }
}

/// The engine of the WebRTC peers. It is the lighter one: with the other the load alone, with all that is measured, wants more than
/// two cores at 200 calls, and what is measured then is who waits for a core.
fn web_engine(seen: &Arc<Seen>) -> Result<Arc<dyn MediaEngine>> {
    let mut config = config("web")?;
    config.media.engine = LIGHT.to_owned();
    config.media.classic = String::new();
    Ok(Arc::new(Stamped {
        inner: Parts::from_config(&config)?.engine,
        seen: Arc::clone(seen),
    }))
}

async fn measure(who: Who, calls: usize) -> Result<Measured> {
    let folder = Folder::new(&format!("bridge-{calls}"))?;
    let seen = Seen::new();
    let mut telephones = Telephones::start(&seen, who == Who::Direct).await?;
    let engine = web_engine(&seen)?;
    let (program, target) = match who {
        Who::Direct => (None, telephones.uri.clone()),
        Who::Janus => (Some(janus::start(&folder).await?), telephones.uri.clone()),
        Who::Ours(engine) => {
            let own = crate::own()?.to_string_lossy().into_owned();
            let mut program = Program::start(folder.path(), "hub", &own, &["hub", &telephones.uri, engine])?;
            program.says("serving ").await?;
            let log = std::fs::read_to_string(folder.path().join("hub.log")).unwrap_or_default();
            let uri = log.lines().find_map(|line| line.strip_prefix("serving "));
            let uri = uri
                .ok_or_else(|| failed("start the hub", "it does not say where"))?
                .to_owned();
            (Some(program), uri)
        }
    };
    let web = match who {
        Who::Janus => Web::Janus(engine, target),
        Who::Direct | Who::Ours(_) => {
            let config = config("web")?;
            let parts = Parts {
                stack: registry::sip_stack(&config.sip.stack)?,
                engine,
                classic: None,
            };
            Web::Endpoint(Arc::new(Endpoint::start_with(&config, parts).await?), target)
        }
    };
    web.dial().await?.end().await;
    sleep(Duration::from_secs(1)).await;
    let id = program.as_ref().map(Program::id);
    let before = id.map_or(0.0, process::resident_kb_of);

    let (web, permits) = (Arc::new(web), Arc::new(Semaphore::new(AT_ONCE)));
    let dialling: Vec<_> = (0..calls)
        .map(|_| {
            let (web, permits) = (Arc::clone(&web), Arc::clone(&permits));
            tokio::spawn(async move {
                let _permit = permits.acquire().await;
                web.dial().await
            })
        })
        .collect();
    let (mut ends, mut measured) = (Vec::new(), Measured::default());
    for dialled in dialling {
        match dialled.await {
            Ok(Ok(end)) => ends.push(end),
            Ok(Err(error)) => {
                measured.failed += 1;
                eprintln!("a call failed: {error}");
            }
            Err(error) => return Err(failed("call", error.to_string())),
        }
        telephones.keep();
    }
    sleep(Duration::from_secs(2)).await;
    seen.count(true);
    let processor = id.map_or(0.0, process::processor_ms_of);
    let began = Instant::now();
    sleep(TALK).await;
    let processor = id.map_or(0.0, process::processor_ms_of) - processor;
    let talked = began.elapsed().as_secs_f64();
    seen.count(false);
    let resident = id.map_or(0.0, process::resident_kb_of) - before;
    sleep(Duration::from_millis(500)).await;
    let (sent, received, delays) = seen.take();
    let there = ends.len().max(1) as f64;
    measured.processor = processor / talked / there;
    measured.memory = resident / there;
    (measured.sent, measured.lost, measured.delays) = (sent, sent.saturating_sub(received), delays);
    for end in ends {
        end.end().await;
    }
    Ok(measured)
}

/// `promptly`: within the network, with everybody before all others, the kernel's own threads included: what is left is the delay of
/// who joins.
pub(crate) async fn promptly() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for calls in CALLS {
        let direct = measure(Who::Direct, calls).await?;
        let janus = measure(Who::Janus, calls).await?;
        for engine in ENGINES {
            let ours = measure(Who::Ours(engine), calls).await?;
            let of = format!("{calls} calls, {engine}");
            figures.push(
                added(
                    &of,
                    "added one-way delay, p99, real-time priority",
                    &direct,
                    &ours,
                    &janus,
                )
                .at_most(1_000.0),
            );
        }
    }
    Ok(figures)
}

/// What the 99th percentile is above the direct path's median.
fn added(of: &str, name: &str, direct: &Measured, ours: &Measured, janus: &Measured) -> Figure {
    let series = |measured: &Measured| Series::new(measured.delays.clone());
    let direct = series(direct);
    let above = |measured: &Measured| series(measured).percentile(99.0) - direct.median();
    Figure::new("bridge", format!("{of}: {name}"), above(ours), "µs")
        .beside("janus", above(janus))
        .note(format!(
            "less the direct path's p50; its own p99 is {:.0} µs",
            direct.percentile(99.0)
        ))
}

/// `bridges`: within the network.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let mut figures = transcoding();
    for calls in CALLS {
        let direct = measure(Who::Direct, calls).await?;
        let janus = measure(Who::Janus, calls).await?;
        for engine in ENGINES {
            let ours = measure(Who::Ours(engine), calls).await?;
            figures.extend(tell(&format!("{calls} calls, {engine}"), &direct, ours, &janus));
        }
    }
    Ok(figures)
}

fn tell(of: &str, direct: &Measured, ours: Measured, janus: &Measured) -> Vec<Figure> {
    let figure = |name: &str, ours: f64, unit: &str, janus: f64| {
        Figure::new("bridge", format!("{of}: {name}"), ours, unit).beside("janus", janus)
    };
    let machine = format!("load {}", process::load());
    let series = |measured: &Measured| Series::new(measured.delays.clone());
    let (failed, lost) = ((ours.failed, janus.failed), (ours.lost, janus.lost));
    let (sent, sent_janus) = (ours.sent, janus.sent);
    let mut figures = vec![
        figure("that failed", failed.0 as f64, "", failed.1 as f64)
            .at_most(0.0)
            .note("WebRTC to plain RTP, PCMU passed through; peers of both kinds and the load in another process on the same two cores"),
        figure("processor a call", ours.processor, "ms/s", janus.processor).at_most(janus.processor / 2.0).note(machine),
        figure("resident memory a call", ours.memory, "kB", janus.memory).at_most(janus.memory / 2.0),
        figure("packets lost", lost.0 as f64, "", lost.1 as f64)
            .at_most(0.0)
            .note(format!("of {sent} and {sent_janus}")),
    ];
    let median = series(direct).median();
    figures.push(
        figure("one-way delay, p50", series(&ours).median(), "µs", series(janus).median())
            .note(format!("from the sender's engine to the receiver's; {median:.0} µs between the same peers without anything between")),
    );
    figures.push(added(of, "added one-way delay, p99", direct, &ours, janus));
    figures
}

/// Opus to PCMU and back beside the bare codecs.
fn transcoding() -> Vec<Figure> {
    let pairs = [(Codec::Opus, Codec::Pcmu), (Codec::Pcmu, Codec::Opus)];
    let figure = |(from, to): (Codec, Codec)| {
        let packets = packets(from);
        let (mut bare, mut whole) = (f64::MAX, f64::MAX);
        for _ in 0..7 {
            bare = bare.min(codecs_alone(from, to, &packets));
            whole = whole.min(transcoded(from, to, &packets));
        }
        Figure::new("bridge", format!("{from} to {to}, 20 ms"), whole, "µs")
            .beside("bare codecs", bare)
            .at_most(bare * 1.5)
            .note("the best of 7 rounds of 5 s of audio, decoding and encoding alone beside the transcoder")
    };
    pairs.map(figure).to_vec()
}

fn voice(rate: u32) -> Vec<i16> {
    let mut phase = 0.0f64;
    (0..rate * 5)
        .map(|index| {
            let time = f64::from(index) / f64::from(rate);
            phase += std::f64::consts::TAU * (150.0 + 40.0 * (time * 3.0).sin()) / f64::from(rate);
            let sum: f64 = (1..12).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
            (sum * 6_000.0) as i16
        })
        .collect()
}

fn packets(codec: Codec) -> Vec<RtpPacket> {
    let mut encoder = Encoder::new(codec);
    let packet = |(index, samples): (usize, &[i16])| RtpPacket {
        payload_type: codec.payload_type(),
        marker: index == 0,
        sequence: index as u16,
        timestamp: index as u32 * codec.clock_rate() / 50,
        ssrc: 1,
        payload: bytes::Bytes::copy_from_slice(encoder.encode(samples)),
    };
    let voice = voice(codec.sample_rate());
    voice
        .chunks_exact(codec.sample_rate() as usize / 50)
        .enumerate()
        .map(packet)
        .collect()
}

/// µs for each packet.
fn codecs_alone(from: Codec, to: Codec, packets: &[RtpPacket]) -> f64 {
    let voice = voice(to.sample_rate());
    let (mut decoder, mut encoder) = (Decoder::new(from), Encoder::new(to));
    let begin = Instant::now();
    for (packet, frame) in packets
        .iter()
        .zip(voice.chunks_exact(to.sample_rate() as usize / 50))
    {
        std::hint::black_box(decoder.decode(&packet.payload));
        std::hint::black_box(encoder.encode(frame));
    }
    begin.elapsed().as_secs_f64() * 1e6 / packets.len() as f64
}

fn transcoded(from: Codec, to: Codec, packets: &[RtpPacket]) -> f64 {
    let (from, to) = (NegotiatedAudio::of(from), NegotiatedAudio::of(to));
    let mut transcoder = Transcoder::new(from, to, TranscodeOptions::default());
    let mut out = Vec::new();
    let begin = Instant::now();
    for packet in packets {
        out.clear();
        transcoder.push(packet, &mut out);
        std::hint::black_box(&out);
    }
    begin.elapsed().as_secs_f64() * 1e6 / packets.len() as f64
}

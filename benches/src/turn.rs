//! `turn`: our TURN server beside coturn, the same load on each in turns.

use crate::children::{Folder, Program, failed};
use crate::process;
use crate::turn_client::{CHANNEL, Client, NAME};
use siprtc_benches::figure::{Figure, Series};
use siprtc_core::Result;
use siprtc_turn_server::{Credentials, Limits, Listener, Server, Transport, TurnConfig};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Calls that are relayed at once, and packets of each that are under way.
const CALLS: usize = 100;
const WINDOW: usize = 4;
/// Octets of a packet: Opus in SRTP.
const PAYLOAD: usize = 120;
const BUSY: Duration = Duration::from_secs(4);
/// Packets a second of each call in the run at a steady pace, as audio has them.
const PACE: u32 = 50;
const ROUNDS: usize = 3;
/// Allocations that are held for the figures of memory and latency.
const ALLOCATIONS: usize = 1000;

/// `relay ADDRESS`: our server in a process of its own, until it is ended.
pub(crate) fn serve(address: &str) -> Result<Vec<Figure>> {
    let bind = address
        .parse()
        .map_err(|_| failed("serve", format!("{address:?} is no address")))?;
    let config = TurnConfig {
        listeners: vec![Listener {
            transport: Transport::Udp,
            bind,
        }],
        limits: Limits {
            allocations_per_user: 2 * ALLOCATIONS,
            challenges_per_s: 0,
            ..Limits::default()
        },
        workers: 0,
        ..TurnConfig::loopback("bench", Credentials::named([(NAME, NAME)]))
    };
    let _server = Server::start(config)?;
    println!("serving");
    loop {
        std::thread::park();
    }
}

/// What one server came to.
#[derive(Default)]
struct Measured {
    /// Relayed packets a second of processor time.
    busy: Vec<f64>,
    paced: Vec<f64>,
    /// Of the packets of the paced run.
    lost: Vec<f64>,
    /// kB.
    memory: Vec<f64>,
    /// µs.
    latency: Vec<f64>,
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let folder = Folder::new("turn")?;
    let (mut ours, mut coturn) = (Measured::default(), Measured::default());
    for _ in 0..ROUNDS {
        for (is_ours, measured) in [(true, &mut ours), (false, &mut coturn)] {
            load(is_ours, folder.path(), measured).await?;
            hold(is_ours, folder.path(), measured).await?;
        }
    }
    let median = |values: &[f64]| Series::new(values.to_vec()).median();
    let beside = |name: &str, unit: &str, of: fn(&Measured) -> &Vec<f64>| {
        Figure::new("turn", name, median(of(&ours)), unit).beside("coturn", median(of(&coturn)))
    };
    let latency = |name: &str, percent: f64| {
        let of = |measured: &Measured| Series::new(measured.latency.clone()).percentile(percent);
        Figure::new("turn", name, of(&ours), "µs").beside("coturn", of(&coturn))
    };
    Ok(vec![
        beside("relayed packets a second of one core, as many as go", "/s", |measured| &measured.busy).note(format!(
            "{CALLS} clients on channels over UDP, {WINDOW} packets of {PAYLOAD} octets of each under way, echoed by the peer; relayed packets by the processor time of the server's process; median of {ROUNDS} runs in turns"
        )),
        beside("relayed packets a second of one core, paced", "/s", |measured| &measured.paced)
            .note(format!("the same clients, each {PACE} packets a second, echoed")),
        beside("packets lost when paced", "%", |measured| &measured.lost),
        beside("resident memory an allocation", "kB", |measured| &measured.memory)
            .note(format!("{ALLOCATIONS} allocations over UDP, on top of the idle server")),
        latency("Allocate to its answer, p50", 50.0).note(format!("{ALLOCATIONS} one by one, in each of {ROUNDS} runs")),
        latency("the same, p99", 99.0),
    ])
}

/// A server's process.
struct Served {
    program: Program,
    address: SocketAddr,
    /// Keeps its port, so that nobody else comes from there: its allocation lives on.
    _first: Client,
}

async fn start(ours: bool, folder: &Path) -> Result<Served> {
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = free.map_err(|error| failed("start a server", "no free port").caused_by(error))?;
    if ours {
        let own = std::env::current_exe()
            .map_err(|error| failed("start a server", "no own path").caused_by(error))?;
        let mut program = Program::start(
            folder,
            "siprtc",
            &own.to_string_lossy(),
            &["relay", &address.to_string()],
        )?;
        program.says("serving").await?;
        return Ok(Served {
            program,
            address,
            _first: Client::allocate(address).await?,
        });
    }
    let (port, user) = (address.port().to_string(), format!("{NAME}:{NAME}"));
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (database, pid) = (file("coturn.sqlite"), file("coturn.pid"));
    let program = Program::start(
        folder,
        "coturn",
        "turnserver",
        &[
            "-n",
            "--lt-cred-mech",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "--no-rfc5780",
            "--no-tcp",
            "--log-file=stdout",
            "--simple-log",
            "--allow-loopback-peers",
            "--listening-ip=127.0.0.1",
            "--relay-ip=127.0.0.1",
            "--realm=bench",
            "--listening-port",
            &port,
            "--user",
            &user,
            "--userdb",
            &database,
            "--pidfile",
            &pid,
        ],
    )?;
    for _ in 0..100 {
        if let Ok(first) = Client::allocate(address).await {
            return Ok(Served {
                program,
                address,
                _first: first,
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(failed("start coturn", "it gives no allocation").advice("install Debian's coturn; its log says more"))
}

/// Relays, as many packets as go and then at a steady pace.
async fn load(is_ours: bool, folder: &Path, measured: &mut Measured) -> Result<()> {
    let served = start(is_ours, folder).await?;
    let echo = Echo::start()?;
    let mut clients = Vec::new();
    for _ in 0..CALLS {
        let client = Client::allocate(served.address).await?;
        client.bind(echo.address).await?;
        clients.push(Arc::new(client));
    }
    let before = process::processor_ms_of(served.program.id());
    let (_, back) = drive(&clients, None).await;
    let took = process::processor_ms_of(served.program.id()) - before;
    // Each went to the peer and came back.
    measured.busy.push(2.0 * back as f64 / took * 1e3);
    sleep(Duration::from_millis(500)).await;
    let before = process::processor_ms_of(served.program.id());
    let (sent, back) = drive(&clients, Some(PACE)).await;
    let took = process::processor_ms_of(served.program.id()) - before;
    measured.paced.push(2.0 * back as f64 / took * 1e3);
    measured
        .lost
        .push(100.0 * sent.saturating_sub(back) as f64 / sent as f64);
    Ok(())
}

/// How many packets were sent, and how many came back.
async fn drive(clients: &[Arc<Client>], pace: Option<u32>) -> (u64, u64) {
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let tasks: Vec<_> = clients
        .iter()
        .map(|client| {
            let (client, counts) = (client.clone(), counts.clone());
            tokio::spawn(async move {
                match pace {
                    None => windowed(&client, &counts).await,
                    Some(pace) => paced(&client, &counts, pace).await,
                }
            })
        })
        .collect();
    for task in tasks {
        drop(task.await);
    }
    (counts[0].load(Relaxed), counts[1].load(Relaxed))
}

fn packet() -> Vec<u8> {
    let mut packet = vec![0x55; 4 + PAYLOAD];
    packet[..2].copy_from_slice(&CHANNEL.to_be_bytes());
    packet[2..4].copy_from_slice(&(PAYLOAD as u16).to_be_bytes());
    packet
}

/// One packet out for each that comes back; lost ones are made good.
async fn windowed(client: &Client, counts: &[AtomicU64; 2]) {
    let (packet, mut buffer) = (packet(), [0; 2048]);
    let send = || {
        let sent = client.socket.try_send(&packet).is_ok();
        counts[0].fetch_add(u64::from(sent), Relaxed);
    };
    (0..WINDOW).for_each(|_| send());
    let end = Instant::now() + BUSY;
    while Instant::now() < end {
        match timeout(Duration::from_millis(50), client.socket.recv(&mut buffer)).await {
            Ok(_) => {
                counts[1].fetch_add(1, Relaxed);
                send();
            }
            Err(_) => (0..WINDOW).for_each(|_| send()),
        }
    }
}

async fn paced(client: &Client, counts: &[AtomicU64; 2], pace: u32) {
    let (packet, mut buffer) = (packet(), [0; 2048]);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / pace);
    let end = Instant::now() + BUSY;
    let last = end + Duration::from_millis(200);
    while Instant::now() < last {
        tokio::select! {
            _ = tick.tick() => if Instant::now() < end {
                let sent = client.socket.try_send(&packet).is_ok();
                counts[0].fetch_add(u64::from(sent), Relaxed);
            },
            received = client.socket.recv(&mut buffer) => {
                counts[1].fetch_add(u64::from(received.is_ok()), Relaxed);
            }
        }
    }
}

/// The peer of every client: it sends back what it gets.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Echo {
    fn start() -> Result<Self> {
        let broken = |error: std::io::Error| failed("start an echo", "no socket").caused_by(error);
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(broken)?;
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(broken)?;
        let address = socket.local_addr().map_err(broken)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    drop(socket.send_to(&buffer[..length], from));
                }
            }
        });
        Ok(Echo { address, stop })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Allocations that live side by side.
async fn hold(is_ours: bool, folder: &Path, measured: &mut Measured) -> Result<()> {
    let served = start(is_ours, folder).await?;
    let before = process::resident_kb_of(served.program.id());
    // Their ports stay taken: a second client from one of them would find an allocation of somebody else.
    let mut clients = Vec::new();
    for _ in 0..ALLOCATIONS {
        let client = Client::allocate(served.address).await?;
        measured.latency.push(client.took.as_secs_f64() * 1e6);
        clients.push(client);
    }
    let after = process::resident_kb_of(served.program.id());
    measured.memory.push((after - before) / ALLOCATIONS as f64);
    Ok(())
}

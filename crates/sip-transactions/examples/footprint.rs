//! What a transaction costs: octets of resident memory while its copies are absorbed, and time. Linux.
//!
//! `cargo run --release -p siprtc-sip-transactions --example footprint`

use siprtc_core::sip::{Method, SipMessage, SipRequest, SipResponse, TimerConfig, TxIds, TxOwner, Uri};
use siprtc_core::{Error, Fault, Result};
use siprtc_sip_transactions::{Output, Path, Transactions, TransactionsConfig};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// As many as 64*T1 have at 6,000 per second.
const COUNT: usize = 192_000;

/// What a path usually is: a socket's number and an address.
#[derive(Clone, PartialEq)]
struct Udp(u32, SocketAddr);

impl Path for Udp {
    fn is_reliable(&self) -> bool {
        false
    }
}

struct Bench {
    machine: Transactions<Udp>,
    now: Instant,
    ids: TxIds,
    /// Octets that the machine has to keep to say them again.
    kept: usize,
}

const KINDS: [(&str, bool, Method, u16); 5] = [
    ("INVITE in, answered 200", true, Method::Invite, 200),
    ("INVITE in, answered 486, acknowledged", true, Method::Invite, 486),
    ("BYE in, answered 200", true, Method::Bye, 200),
    ("INVITE out, answered 200", false, Method::Invite, 200),
    (
        "INVITE out, answered 486, acknowledged",
        false,
        Method::Invite,
        486,
    ),
];

fn main() -> Result<()> {
    // Each kind in a process of its own, for none gives all its memory back to the system.
    match std::env::args()
        .nth(1)
        .and_then(|kind| kind.parse::<usize>().ok())
    {
        Some(kind) => measure(&KINDS[kind % KINDS.len()]),
        None => {
            println!(
                "{:<40} {:>7} {:>14} {:>11}",
                "transaction", "octets", "its message's", "per second"
            );
            (0..KINDS.len()).try_for_each(run_alone)
        }
    }
}

fn run_alone(kind: usize) -> Result<()> {
    let itself = std::env::current_exe();
    let ran = itself.and_then(|itself| std::process::Command::new(itself).arg(kind.to_string()).status());
    match ran {
        Ok(status) if status.success() => Ok(()),
        other => Err(unmeasured(format!("{other:?}"))),
    }
}

fn measure((name, served, method, status): &(&str, bool, Method, u16)) -> Result<()> {
    let mut bench = Bench::new();
    let messages = |number: usize| {
        let request = request(method.clone(), number)?;
        let answer = answer(&request, *status)?;
        bench_input(request, answer)
    };
    let before = busy()?;
    for number in 0..COUNT {
        std::hint::black_box(messages(number)?);
    }
    let (making, memory) = (busy()? - before, resident()?);
    for number in 0..COUNT {
        let input = messages(number)?;
        match served {
            true => bench.serve(input)?,
            false => bench.ask(input)?,
        }
    }
    let spent = busy()? - before - making * 2;
    let octets = (resident()? - memory) / COUNT;
    let rate = COUNT as f64 / spent.as_secs_f64();
    println!("{name:<40} {octets:>7} {:>14} {rate:>11.0}", bench.kept / COUNT);
    Ok(())
}

impl Bench {
    fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "time stands still here")]
        let now = Instant::now();
        let config = TransactionsConfig {
            timers: TimerConfig::default(),
            max_transactions: 20_000,
        };
        Bench {
            machine: Transactions::new(config),
            now,
            ids: TxIds::new(TxOwner::user(1)),
            kept: 0,
        }
    }

    fn serve(&mut self, Input { request, answer, ack }: Input) -> Result<()> {
        let repeated = request.method != Method::Invite;
        self.machine
            .receive(self.now, path(), SipMessage::Request(request));
        let served = std::iter::from_fn(|| self.machine.poll()).last();
        if let Some(Output::Request { tx, .. }) = served {
            self.machine.respond(self.now, tx, answer)?;
        }
        while let Some(output) = self.machine.poll() {
            if let Output::Send { bytes, .. } = output {
                self.kept += if repeated { bytes.len() } else { 0 };
            }
        }
        if let Some(ack) = ack {
            self.machine.receive(self.now, path(), SipMessage::Request(ack));
            while self.machine.poll().is_some() {}
        }
        Ok(())
    }

    fn ask(&mut self, Input { request, answer, .. }: Input) -> Result<()> {
        self.machine
            .send_request(self.now, self.ids.mint(), request, path())?;
        self.machine
            .receive(self.now, path(), SipMessage::Response(answer));
        while let Some(output) = self.machine.poll() {
            if let Output::Send { bytes, tx: None, .. } = output {
                self.kept += bytes.len();
            }
        }
        Ok(())
    }
}

/// What a transaction is made of.
struct Input {
    request: SipRequest,
    answer: SipResponse,
    ack: Option<SipRequest>,
}

fn bench_input(request: SipRequest, answer: SipResponse) -> Result<Input> {
    let refused = request.method == Method::Invite && answer.status >= 300;
    let ack = refused.then(|| SipRequest {
        method: Method::Ack,
        ..request.clone()
    });
    Ok(Input { request, answer, ack })
}

fn path() -> Udp {
    Udp(1, SocketAddr::from(([192, 0, 2, 1], 5060)))
}

fn request(method: Method, number: usize) -> Result<SipRequest> {
    let uri: Uri = "sip:bob@example.com".parse()?;
    let cseq = format!("1 {method}");
    let mut request = SipRequest::new(method, uri);
    for (name, value) in [
        (
            "Via",
            format!("SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK-{number:016x}").as_str(),
        ),
        ("Max-Forwards", "70"),
        ("From", "\"Alice\" <sip:alice@example.com>;tag=1928301774"),
        ("To", "<sip:bob@example.com>"),
        ("Call-ID", format!("{number:016x}@192.0.2.1").as_str()),
        ("CSeq", &cseq),
        ("Contact", "<sip:alice@192.0.2.1:5060>"),
    ] {
        request.headers.push(name, value);
    }
    Ok(request)
}

fn answer(request: &SipRequest, status: u16) -> Result<SipResponse> {
    let mut response = request.response(status);
    let to = response.headers.to()?.with_tag("a6c85cf");
    response.headers.set("To", to);
    Ok(response)
}

/// Octets of memory in use.
fn resident() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").map_err(|error| unmeasured(error.to_string()))?;
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages
        .map(|pages| pages * 4096)
        .ok_or_else(|| unmeasured("no number of pages".to_owned()))
}

/// Time on a processor: what else the machine does is not counted.
fn busy() -> Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/self/schedstat").map_err(|error| unmeasured(error.to_string()))?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| unmeasured("no time".to_owned()))
}

fn unmeasured(why: String) -> Error {
    Error::new(Fault::Backend, "measure", why).advice("run it on Linux")
}

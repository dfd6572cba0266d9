//! `stacks`: the SIP stacks side by side, SIPp calling each, and the bare libraries beside their plugins.

use crate::callee::Look;
use crate::children::failed;
use crate::transactions;
use siprtc::registry;
use siprtc_benches::figure::{Figure, Series};
use siprtc_core::Result;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// Calls per second of the run that looks at latency, and of the run that looks at memory.
const RATES: [u32; 2] = [5_000, 6_000];
/// How long each of them lasts.
const SECONDS: u32 = 5;
/// What is not over by then has failed: a stack that does not keep up leaves SIPp waiting.
const PATIENCE: Duration = Duration::from_secs(20);
/// Dialogs that are alive at once.
const DIALOGS: [u32; 2] = [1_000, 10_000];

/// A callee in a process of its own, which ends when its standard input does.
struct Callee {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Callee {
    fn start(stack: &str) -> Result<Self> {
        let own = std::env::current_exe()
            .map_err(|error| failed("start a callee", "no own path").caused_by(error))?;
        let mut child = Command::new(own)
            .args(["callee", stack])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed("start a callee", "the process cannot be started").caused_by(error))?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let output = BufReader::new(output.ok_or_else(|| failed("start a callee", "no output"))?);
        let mut callee = Callee {
            child,
            input,
            output,
            address: String::new(),
        };
        callee.address = callee.line()?;
        Ok(callee)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        match read {
            Ok(octets) if octets > 0 => Ok(line.trim().to_owned()),
            _ => Err(failed("hear a callee", "it has ended")),
        }
    }

    fn look(&mut self) -> Result<Look> {
        if let Some(input) = &mut self.input {
            let asked = writeln!(input).and_then(|()| input.flush());
            asked.map_err(|error| failed("ask a callee", "it has ended").caused_by(error))?;
        }
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|error| failed("hear a callee", line).caused_by(error))
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// What SIPp has seen.
struct Called {
    failed: f64,
    succeeded: f64,
    per_second: f64,
    /// INVITE to 200, ms.
    setup: Series,
}

struct Sipp {
    child: Child,
    folder: PathBuf,
    began: Instant,
    calls: u32,
}

impl Sipp {
    /// `calls` calls of `hold`, `rate` a second, each over when the callee has answered the BYE. SIPp ends by itself.
    fn start(folder: &Path, address: &str, rate: u32, calls: u32, hold: Duration) -> Result<Self> {
        let started = std::fs::create_dir_all(folder).and_then(|()| {
            Command::new("sipp")
                .args(["-sn", "uac", address, "-i", "127.0.0.1", "-nostdin", "-trace_rtt"])
                .args([
                    "-trace_stat",
                    "-stf",
                    "stat.csv",
                    "-fd",
                    "1",
                    "-deadcall_wait",
                    "0",
                ])
                .args(["-r", &rate.to_string(), "-m", &calls.to_string(), "-l", "30000"])
                .args(["-d", &hold.as_millis().to_string(), "-timeout", "30"])
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        let child = started.map_err(|error| {
            failed("start SIPp", "it does not start")
                .advice("install Debian's sip-tester")
                .caused_by(error)
        })?;
        Ok(Sipp {
            child,
            folder: folder.to_owned(),
            began: Instant::now(),
            calls,
        })
    }

    fn finish(mut self) -> Result<Called> {
        let lost = |error| failed("wait for SIPp", "it is lost").caused_by(error);
        while self.child.try_wait().map_err(lost)?.is_none() {
            if self.began.elapsed() > PATIENCE {
                drop(self.child.kill());
                self.child.wait().map_err(lost)?;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let text = std::fs::read_to_string(self.folder.join("stat.csv"))
            .map_err(|error| failed("read SIPp's figures", "no stat.csv").caused_by(error))?;
        let succeeded = column(&text, "SuccessfulCall(C)")?;
        Ok(Called {
            failed: (f64::from(self.calls) - succeeded).max(0.0),
            succeeded,
            per_second: succeeded / seconds,
            setup: Series::new(round_trips(&self.folder)),
        })
    }
}

/// The last line's value under `name`.
fn column(text: &str, name: &str) -> Result<f64> {
    let unreadable = || failed("read SIPp's figures", format!("no {name} in stat.csv"));
    let mut lines = text.lines();
    let at = lines
        .next()
        .and_then(|head| head.split(';').position(|column| column == name));
    let (at, last) = (
        at.ok_or_else(unreadable)?,
        lines.next_back().ok_or_else(unreadable)?,
    );
    last.split(';')
        .nth(at)
        .and_then(|value| value.parse().ok())
        .ok_or_else(unreadable)
}

fn round_trips(folder: &Path) -> Vec<f64> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let texts = files
        .filter(|file| file.file_name().to_string_lossy().ends_with("_rtt.csv"))
        .filter_map(|file| std::fs::read_to_string(file.path()).ok());
    texts
        .flat_map(|text| {
            let values = text
                .lines()
                .filter_map(|line| line.split(';').nth(1)?.parse().ok());
            values.collect::<Vec<f64>>()
        })
        .collect()
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("siprtc-benches-stacks-{}", std::process::id()));
    let [(_, names), ..] = registry::names();
    let mut figures = Vec::new();
    for name in names {
        eprintln!("stacks: {name} ...");
        let bare = crate::bare::of(name);
        for rate in RATES {
            let ours = flood(&folder, name, rate).await?;
            figures.extend(ours.figures(name, rate));
            if let Some(bare) = bare
                && rate == RATES[0]
            {
                figures.extend(port(&folder, name, bare).await?);
            }
        }
        figures.extend(dialogs(&folder, name).await?);
        figures.push(transactions::run(name).await?);
    }
    drop(std::fs::remove_dir_all(&folder));
    Ok(figures)
}

/// A run's outcome.
struct Flood {
    called: Called,
    processor_us: f64,
    resident_mb: f64,
}

async fn flood(folder: &Path, stack: &str, rate: u32) -> Result<Flood> {
    let mut callee = Callee::start(stack)?;
    let before = callee.look()?;
    let folder = folder.join(format!("{stack}-{rate}"));
    let sipp = Sipp::start(&folder, &callee.address, rate, rate * SECONDS, Duration::ZERO)?;
    let called = blocking(move || sipp.finish()).await?;
    let after = callee.look()?;
    let calls = (called.succeeded + called.failed).max(1.0);
    Ok(Flood {
        processor_us: (after.processor_ms - before.processor_ms) * 1e3 / calls,
        resident_mb: after.resident_kb / 1e3,
        called,
    })
}

impl Flood {
    fn figures(&self, name: &str, rate: u32) -> Vec<Figure> {
        let figure = |what: &str, value: f64, unit: &str| {
            Figure::new("stacks", format!("{name}: {what} at {rate} calls/s"), value, unit)
        };
        let called = &self.called;
        let mut figures = vec![
            figure("calls that failed", called.failed, "")
                .at_most(0.0)
                .note(format!(
                    "of {:.0}; {:.0} a second done",
                    called.failed + called.succeeded,
                    called.per_second
                )),
            figure("INVITE to 200, p50", called.setup.median(), "ms"),
            figure("the same, p99", called.setup.percentile(99.0), "ms").at_most(20.0),
            figure("processor a call", self.processor_us, "µs"),
            figure("resident memory", self.resident_mb, "MB"),
        ];
        if rate == RATES[1]
            && name == registry::DEFAULT_SIP_STACK
            && let Some(last) = figures.pop()
        {
            figures.push(last.at_most(200.0));
        }
        figures
    }
}

/// The port beside the bare library, in turns, so that a busy machine slows both; the medians of three.
async fn port(folder: &Path, name: &str, bare: &str) -> Result<Vec<Figure>> {
    let mut taken = [Vec::new(), Vec::new()];
    for turn in 0..3 {
        for (taken, callee) in taken.iter_mut().zip([format!("port-{name}"), bare.to_owned()]) {
            taken.push(flood(&folder.join(turn.to_string()), &callee, RATES[0] / 2).await?);
        }
    }
    let rate = RATES[0] / 2;
    let figure = |what: &str, unit: &str, of: fn(&Flood) -> f64| {
        let [ours, theirs] =
            [0, 1].map(|side: usize| Series::new(taken[side].iter().map(of).collect()).median());
        Figure::new(
            "stacks",
            format!("{name}: the port alone, {what} at {rate} calls/s"),
            ours,
            unit,
        )
        .beside(bare, theirs)
    };
    let processor = figure("processor a call", "µs", |flood| flood.processor_us);
    let limit = processor.peer.as_ref().map_or(0.0, |(_, bare)| bare * 1.1);
    Ok(vec![
        processor
            .at_most(limit)
            .note("medians of three runs each, in turns"),
        figure("resident memory", "MB", |flood| flood.resident_mb),
    ])
}

/// Memory with many calls alive at once.
async fn dialogs(folder: &Path, name: &str) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for count in DIALOGS {
        let mut callee = Callee::start(name)?;
        let before = callee.look()?;
        let folder = folder.join(format!("{name}-{count}"));
        // All are there after five seconds, and stay for ten more.
        let sipp = Sipp::start(
            &folder,
            &callee.address,
            count / 5,
            count,
            Duration::from_secs(10),
        )?;
        tokio::time::sleep(Duration::from_secs(7)).await;
        let during = callee.look()?;
        let called = blocking(move || sipp.finish()).await?;
        let each = (during.resident_kb - before.resident_kb) / f64::from(count);
        figures.push(
            Figure::new(
                "stacks",
                format!("{name}: resident memory a dialog, {count} alive"),
                each,
                "kB",
            )
            .at_most(20.0)
            .note(format!(
                "{:.0} MB in all; {:.0} calls failed",
                during.resident_kb / 1e3,
                called.failed
            )),
        );
    }
    Ok(figures)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed("measure", "a thread was lost").caused_by(error))?
}

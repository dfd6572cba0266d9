//! What a process has cost, on Linux.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Ended calls.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<AtomicU64>);

impl Calls {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where to listen, and for how many seconds.
pub(crate) fn arguments() -> Result<(SocketAddr, Duration), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bind), Some(seconds)) = (arguments.next(), arguments.next()) else {
        return Err("usage: ADDRESS:PORT SECONDS".into());
    };
    Ok((bind.parse()?, Duration::from_secs(seconds.parse()?)))
}

pub(crate) async fn wait_and_tell(name: &str, time: Duration, calls: &Calls) {
    tokio::time::sleep(time).await;
    let calls = calls.0.load(Ordering::Relaxed);
    let processor = processor_ms().unwrap_or_default();
    let per_call = processor / calls.max(1) as f64;
    let (now, peak) = (status_kb("VmRSS:"), status_kb("VmHWM:"));
    println!(
        "{name}: {calls} calls, {processor:.0} ms CPU, {per_call:.4} ms CPU/call, {} MB resident, {} MB at most",
        now / 1024,
        peak / 1024
    );
}

/// User and system time, in the kernel's ticks of 10 ms.
fn processor_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks * 10.0)
}

fn status_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

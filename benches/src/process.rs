//! What the system says of this process and this machine (Linux `/proc`).

use std::fs;

fn status(process: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap_or_default();
    line.trim_start_matches(':')
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

/// Resident memory in kB.
pub(crate) fn resident_kb() -> f64 {
    status("self", "VmRSS") as f64
}

/// Of another process.
pub(crate) fn resident_kb_of(id: u32) -> f64 {
    status(&id.to_string(), "VmRSS") as f64
}

/// Processor time of another process's threads so far, in ms, by the scheduler's clock.
pub(crate) fn processor_ms_of(id: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e6
}

pub(crate) fn threads() -> f64 {
    status("self", "Threads") as f64
}

pub(crate) fn descriptors() -> f64 {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64
}

/// Processor time used so far, in ms, in steps of 10 ms (`times` of proc(5), 100 ticks a second).
pub(crate) fn processor_ms() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
    let fields = text
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 * 10.0
}

/// Tasks alive on the current runtime.
pub(crate) fn tasks() -> f64 {
    tokio::runtime::Handle::current().metrics().num_alive_tasks() as f64
}

/// The load of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// Cores, model, memory, kernel.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap_or_default();
    let total: u64 = total
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores, {}, {:.1} GiB, Linux {}",
        model.trim_start_matches([':', ' ', '\t']),
        total as f64 / 1048576.0,
        kernel.trim()
    )
}

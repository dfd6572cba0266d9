//! Endpoints that are registered and do nothing else.

use crate::house;
use crate::process;
use siprtc_benches::figure::Figure;
use siprtc_core::sip::TimerConfig;
use siprtc_core::{Error, Fault, Result};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

const ENDPOINTS: usize = 100;

/// A home server in a process of its own, which ends when its standard input does.
struct Apart(Child);

impl Apart {
    fn start() -> Result<(Self, String)> {
        let failed = |error: std::io::Error| {
            Error::new(
                Fault::Backend,
                "start a home server",
                "the process cannot be started",
            )
            .caused_by(error)
        };
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("home")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut uri = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut uri).map_err(failed)?;
        }
        Ok((Apart(child), uri.trim().to_owned()))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// `home`: the process that [`Apart`] starts.
pub(crate) async fn serve() -> Result<Vec<Figure>> {
    let home = house::home(TimerConfig::default()).await?;
    println!("{}", home.sip_uri());
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    drop(ended.await);
    home.shutdown().await;
    Ok(Vec::new())
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let (_home, uri) = Apart::start()?;
    // The first one brings what all share: the actors' thread, the media engine's tables.
    let first = house::registered(&house::account("first", &uri)?).await?;
    let (memory, threads, descriptors) = (process::resident_kb(), process::threads(), process::descriptors());
    let processor = process::processor_ms();
    let mut endpoints = Vec::with_capacity(ENDPOINTS);
    for number in 0..ENDPOINTS {
        endpoints.push(house::registered(&house::account(&format!("user{number}"), &uri)?).await?);
    }
    let starting = process::processor_ms() - processor;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let each = |now: f64, then: f64| (now - then) / ENDPOINTS as f64;
    let memory = each(process::resident_kb(), memory);
    let threads = each(process::threads(), threads);
    let descriptors = each(process::descriptors(), descriptors);
    let processor = process::processor_ms();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let idling = process::processor_ms() - processor;
    for endpoint in endpoints.into_iter().chain([first]) {
        endpoint.shutdown().await;
    }
    Ok(vec![
        Figure::new("idle", "resident memory a registered endpoint", memory, "kB").at_most(100.0).note(format!(
            "{ENDPOINTS} endpoints, one UDP listener each; the home server in another process; {threads:.1} threads and {descriptors:.1} descriptors each"
        )),
        Figure::new("idle", "processor a registered endpoint", idling / 10.0 / ENDPOINTS as f64, "ms/s")
            .note(format!("while idle, over 10 s; starting and registering took {:.1} ms each", starting / ENDPOINTS as f64)),
    ])
}

//! A hundred calls at once.

use crate::house::{self, PATIENCE};
use crate::process;
use siprtc::gateway::{CallEventKind, MediaPlan};
use siprtc::{Call, CallReport, Endpoint};
use siprtc_benches::figure::Figure;
use siprtc_core::sip::TimerConfig;
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

const CALLS: usize = 100;
/// Calls being set up at the same time.
const AT_ONCE: usize = 8;
const TALK: Duration = Duration::from_secs(10);

/// Waits for the first packet heard.
pub(crate) async fn heard(call: &mut Call) -> Result<()> {
    let first = async {
        while let Some(event) = call.next().await {
            match event {
                CallEventKind::FirstPacket { inbound: true } => return Ok(()),
                CallEventKind::Ended(ending) | CallEventKind::Failed(ending) => {
                    let sentence = ending.sentence.unwrap_or_else(|| ending.cause.to_string());
                    return Err(Error::new(Fault::Backend, "wait for media", sentence));
                }
                _ => {}
            }
        }
        Err(Error::new(Fault::Backend, "wait for media", "the call is over"))
    };
    let timed_out = |_| Error::new(Fault::TimedOut, "wait for media", "no packet is heard");
    tokio::time::timeout(PATIENCE, first).await.map_err(timed_out)?
}

async fn pair(alice: &Endpoint, answered: &mut mpsc::Receiver<Call>) -> Result<(Call, Call)> {
    let mut caller = alice.dial("bob", MediaPlan::default()).await?;
    let mut callee = answered
        .recv()
        .await
        .ok_or_else(|| Error::new(Fault::Backend, "call", "nobody answers"))?;
    heard(&mut caller).await?;
    heard(&mut callee).await?;
    Ok((caller, callee))
}

async fn warm_up(alice: &Endpoint, answered: &mut mpsc::Receiver<Call>) -> Result<()> {
    let (caller, callee) = pair(alice, answered).await?;
    caller.hangup().await?;
    tokio::try_join!(caller.finished(), callee.finished())?;
    Ok(())
}

async fn dial_all(alice: &Arc<Endpoint>) -> (Vec<Call>, usize) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let dialling: Vec<_> = (0..CALLS)
        .map(|_| {
            let (alice, permits) = (alice.clone(), permits.clone());
            tokio::spawn(async move {
                let _permit = permits.acquire().await;
                let mut call = alice.dial("bob", MediaPlan::default()).await?;
                heard(&mut call).await.map(|()| call)
            })
        })
        .collect();
    let (mut calls, mut failed) = (Vec::new(), 0);
    for dialled in dialling {
        match dialled.await {
            Ok(Ok(call)) => calls.push(call),
            Ok(Err(error)) => {
                failed += 1;
                eprintln!("a call failed: {error}");
            }
            Err(error) => {
                failed += 1;
                eprintln!("a call's task failed: {error}");
            }
        }
    }
    (calls, failed)
}

async fn finish(calls: Vec<Call>) -> Vec<CallReport> {
    let mut reports = Vec::new();
    for call in calls {
        match tokio::time::timeout(PATIENCE, call.finished()).await {
            Ok(Ok(report)) => reports.push(report),
            Ok(Err(error)) => eprintln!("no report: {error}"),
            Err(_) => eprintln!("a call does not end"),
        }
    }
    reports
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let home = house::home(TimerConfig::default()).await?;
    let outbound = home.sip_uri().to_string();
    let alice = Arc::new(house::registered(&house::account("alice", &outbound)?).await?);
    let mut answered = house::answer_all(house::registered(&house::account("bob", &outbound)?).await?);
    warm_up(&alice, &mut answered).await?;

    let before = process::resident_kb();
    let began = Instant::now();
    let (callers, failed) = dial_all(&alice).await;
    let setting_up = began.elapsed();
    let mut callees = Vec::new();
    while let Ok(call) = answered.try_recv() {
        callees.push(call);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let processor = process::processor_ms();
    tokio::time::sleep(TALK).await;
    let processor = process::processor_ms() - processor;
    let resident = process::resident_kb() - before;
    let threads = process::threads();

    for call in &callers {
        call.hangup().await?;
    }
    let ends = callers.len() + callees.len();
    let mut reports = finish(callers).await;
    reports.extend(finish(callees).await);
    let stats: Vec<_> = reports
        .iter()
        .filter_map(|report| report.ending.stats.as_deref())
        .collect();
    let count = |of: fn(&siprtc::media_session::SessionStats) -> u64| {
        stats.iter().map(|stats| of(stats)).sum::<u64>()
    };
    let (sent, received) = (
        count(|s| s.transport.packets_sent),
        count(|s| s.transport.packets_received),
    );
    let (lost, late, dropped) = (
        count(|s| s.packets_lost),
        count(|s| s.packets_late),
        count(|s| s.queue_dropped),
    );
    let codec = stats
        .iter()
        .find_map(|stats| stats.codec)
        .map_or_else(String::new, |codec| codec.to_string());
    home.shutdown().await;

    Ok(vec![
        Figure::new("load", format!("calls of {CALLS} at once that failed"), failed as f64, "").at_most(0.0).note(format!(
            "{ends} call ends, {codec} silence, home server in the same process; all heard after {:.1} s, {AT_ONCE} set up at a time",
            setting_up.as_secs_f64()
        )),
        Figure::new("load", "packets lost on loopback", lost as f64, "").at_most(0.0).note(format!(
            "by sequence numbers, of {received} received; {sent} sent (the last ones while the peer hung up); {late} too late to be played, {dropped} dropped by a full queue"
        )),
        Figure::new("load", "resident memory a call end", resident / ends.max(1) as f64, "kB").at_most(400.0),
        Figure::new("load", "processor a call end", processor / TALK.as_secs_f64() / ends.max(1) as f64, "ms/s")
            .note(format!("{:.0} % of one core in all, {threads:.0} threads", processor / TALK.as_secs_f64() / 10.0)),
    ])
}

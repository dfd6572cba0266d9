//! Calls one after another, in parts: nothing may grow over the last thousand of them.

use crate::house::{self, PATIENCE};
use crate::process;
use siprtc::Endpoint;
use siprtc::gateway::MediaPlan;
use siprtc_benches::figure::Figure;
use siprtc_core::sip::TimerConfig;
use siprtc_core::{Error, Fault, Result};
use std::time::Duration;
use tokio::time::Instant;

/// Parts of the same size and pace, so that as many transactions linger in each at the most.
const PART: usize = 336;
const PARTS: usize = 5;
/// The first parts bring whatever a process needs once, and the allocator's high-water mark; growth is what the others add.
const WARM: usize = 2;
/// 64*T1 and a little: a stack keeps the transaction of an answered INVITE so long (RFC 6026). A smaller T1 would not
/// shorten it, for timer D is 32 s at least (RFC 3261 table 4).
const LINGER: Duration = Duration::from_secs(34);
/// How many run side by side.
const LANES: usize = 4;
/// The whole run takes no longer.
const BUDGET: Duration = Duration::from_secs(300);

#[derive(Clone, Copy)]
struct Mark {
    memory: f64,
    threads: f64,
    descriptors: f64,
    tasks: f64,
}

impl Mark {
    /// Once every transaction is over: 64*T1 after the last call.
    async fn settled() -> Self {
        tokio::time::sleep(LINGER).await;
        Mark {
            memory: process::resident_kb(),
            threads: process::threads(),
            descriptors: process::descriptors(),
            tasks: process::tasks(),
        }
    }
}

async fn call(alice: &Endpoint) -> Result<()> {
    let mut call = alice.dial("bob", MediaPlan::default()).await?;
    call.confirmed().await?;
    call.hangup().await?;
    call.finished().await.map(drop)
}

/// `count` calls on some lanes; how many were made and how many of them failed.
async fn calls(alice: &Endpoint, count: usize, until: Instant) -> (usize, usize) {
    let lane = |calls: usize| async move {
        let (mut made, mut failed) = (0, 0);
        while made < calls && Instant::now() < until {
            made += 1;
            let one = tokio::time::timeout(PATIENCE, call(alice)).await;
            let late = |_| Err(Error::new(Fault::TimedOut, "call", "it does not end"));
            if let Err(error) = one.unwrap_or_else(late) {
                failed += 1;
                eprintln!("a call failed: {error}");
            }
        }
        (made, failed)
    };
    let each = count / LANES;
    let (a, b, c, d) = tokio::join!(lane(each), lane(each), lane(each), lane(each));
    [a, b, c, d]
        .into_iter()
        .fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1))
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let until = Instant::now() + BUDGET - LINGER;
    let home = house::home(TimerConfig::default()).await?;
    let outbound = home.sip_uri().to_string();
    let alice = house::registered(&house::account("alice", &outbound)?).await?;
    let mut answered = house::answer_all(house::registered(&house::account("bob", &outbound)?).await?);
    tokio::spawn(async move {
        while let Some(call) = answered.recv().await {
            tokio::spawn(async move { drop(call.finished().await) });
        }
    });

    let (mut made, mut failed, mut marks) = (0, 0, Vec::new());
    let (mut busy, mut warm) = (Duration::ZERO, 0);
    for part in 0..PARTS {
        let began = Instant::now();
        let (more, not) = calls(&alice, PART, until).await;
        busy += began.elapsed();
        (made, failed) = (made + more, failed + not);
        if part < WARM {
            warm = made;
        }
        marks.push(Mark::settled().await);
    }
    let pace = made as f64 / busy.as_secs_f64();
    alice.shutdown().await;
    home.shutdown().await;

    let course = |of: fn(&Mark) -> f64| {
        marks
            .iter()
            .map(|mark| format!("{:.0}", of(mark)))
            .collect::<Vec<_>>()
            .join(" → ")
    };
    let growth = |of: fn(&Mark) -> f64| of(&marks[PARTS - 1]) - of(&marks[WARM - 1]);
    let counted = made - warm;
    let grown = |name: &str, of: fn(&Mark) -> f64| {
        Figure::new("soak", format!("{name}, growth"), growth(of), "")
            .at_most(0.0)
            .note(course(of))
    };
    Ok(vec![
        Figure::new("soak", "calls that failed", failed as f64, "").at_most(0.0).note(format!(
            "of {made} ({LANES} side by side, {pace:.1} a second): dial, confirmed, hang up; marks after each part of {PART}, 64*T1 after its last call; growth over the last {counted}"
        )),
        grown("threads", |mark| mark.threads),
        grown("file descriptors", |mark| mark.descriptors),
        grown("tasks", |mark| mark.tasks),
        Figure::new("soak", "resident memory a call, growth", growth(|mark| mark.memory) / counted.max(1) as f64, "kB")
            .at_most(1.0)
            .note(format!("{} kB in all", course(|mark| mark.memory))),
    ])
}

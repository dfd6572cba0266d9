//! A thousand calls one after another: nothing may grow.

use crate::figure::Figure;
use crate::house::{self, PATIENCE, SHORT};
use crate::process;
use siprtc::Endpoint;
use siprtc::gateway::MediaPlan;
use siprtc_core::{Error, Fault, Result};
use std::time::Duration;
use tokio::time::Instant;

const CALLS: usize = 1000;
/// The first mark; whatever a process needs once is there by then.
const FIRST: usize = 200;
/// How many run side by side.
const LANES: usize = 4;
/// The whole run takes no longer.
const BUDGET: Duration = Duration::from_secs(110);

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
        tokio::time::sleep(SHORT.t1 * 64 + Duration::from_secs(1)).await;
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
    let until = Instant::now() + BUDGET;
    let home = house::home(SHORT).await?;
    let outbound = home.sip_uri().to_string();
    let account = |name| Ok::<_, Error>(house::with_timers(house::account(name, &outbound)?, SHORT));
    let alice = house::registered(&account("alice")?).await?;
    let mut answered = house::answer_all(house::registered(&account("bob")?).await?);
    tokio::spawn(async move {
        while let Some(call) = answered.recv().await {
            tokio::spawn(async move { drop(call.finished().await) });
        }
    });

    let (first, first_failed) = calls(&alice, FIRST, until).await;
    let before = Mark::settled().await;
    let began = Instant::now();
    let (more, failed) = calls(&alice, CALLS - FIRST, until).await;
    let pace = more as f64 / began.elapsed().as_secs_f64();
    let after = Mark::settled().await;
    alice.shutdown().await;
    home.shutdown().await;

    let made = first + more;
    let grown = |name: &str, of: fn(&Mark) -> f64| {
        let (then, now) = (of(&before), of(&after));
        Figure::new("soak", format!("{name}, growth"), now - then, "")
            .at_most(0.0)
            .note(format!("{then:.0} → {now:.0}"))
    };
    Ok(vec![
        Figure::new("soak", "calls that failed", (failed + first_failed) as f64, "").at_most(0.0).note(format!(
            "of {made} ({LANES} side by side, {pace:.1} a second): dial, confirmed, hang up; marks after {first} and {made} calls, each 64*T1 after the last"
        )),
        grown("threads", |mark| mark.threads),
        grown("file descriptors", |mark| mark.descriptors),
        grown("tasks", |mark| mark.tasks),
        Figure::new("soak", "resident memory a call, growth", (after.memory - before.memory) / more.max(1) as f64, "kB")
            .at_most(1.0)
            .note(format!("{:.0} → {:.0} kB in all", before.memory, after.memory)),
    ])
}

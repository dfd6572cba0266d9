//! `siprtc bridge FIRST SECOND`: calls two parties and joins them.

use crate::args::BridgeArgs;
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use serde_json::json;
use siprtc::gateway::{CallEventKind, MediaPlan, Side};
use siprtc::media_session::{BridgeConfig, OnEnd, Sides};
use siprtc::{Call, CallReport, Config, Endpoint};
use siprtc_core::Result;
use std::time::Duration;
use tokio::time::Instant;

/// How long a registration may keep the calls from being dialled.
const REGISTER_WAIT: Duration = Duration::from_secs(5);
/// The two, in what is said of them.
const WHO: [&str; 2] = ["first", "second"];

pub(crate) async fn run(config: &Config, args: &BridgeArgs, output: &Output) -> Exit {
    let endpoint = match Endpoint::start(config).await {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    let exit = bridge(&endpoint, config, args, output)
        .await
        .unwrap_or_else(|error| output.error(&error));
    endpoint.shutdown().await;
    exit
}

/// One of the two calls.
struct Leg {
    call: Call,
    confirmed: bool,
    over: bool,
}

impl Leg {
    async fn dial(endpoint: &Endpoint, target: &str) -> Result<Self> {
        Ok(Leg {
            call: endpoint.dial(target, MediaPlan::default()).await?,
            confirmed: false,
            over: false,
        })
    }
}

async fn bridge(endpoint: &Endpoint, config: &Config, args: &BridgeArgs, output: &Output) -> Result<Exit> {
    if config.account.register && !config.account.uri.is_empty() {
        output.progress(format!("registering {}", config.account.uri));
        // Calling needs no registration: say what is wrong, and call.
        if let Err(error) = endpoint.registered(REGISTER_WAIT).await {
            eprintln!("siprtc: {error}; calling without a registration");
        }
    }
    output.progress(format!("calling {} and {}", args.first, args.second));
    let first = Leg::dial(endpoint, &args.first).await?;
    let second = Leg::dial(endpoint, &args.second).await;
    let mut legs = match second {
        Ok(second) => [first, second],
        Err(error) => {
            first.call.hangup().await?;
            return Err(error);
        }
    };
    let lived = live(endpoint, &mut legs, args, output).await;
    if lived.is_err() {
        hang_up(&legs).await;
    }
    let [first, second] = legs;
    let reports = [first.call.finished().await?, second.call.finished().await?];
    for (report, (who, target)) in reports.iter().zip(WHO.iter().zip([&args.first, &args.second])) {
        output.say(&format!("{who} ({target})"));
        output.report(report);
    }
    lived.map(|lived| lived.exit(&reports))
}

/// How the two fared, beside their reports.
#[derive(Default)]
struct Lived {
    /// Whose end came first.
    ended: Option<usize>,
    /// Ctrl-C, or the time was over.
    wished: bool,
    recording_failed: bool,
}

impl Lived {
    fn exit(&self, reports: &[CallReport; 2]) -> Exit {
        let of = |index: usize| {
            reports
                .get(index)
                .map(|report| Exit::of_cause(report.ending.cause))
        };
        let first = self.ended.and_then(of).unwrap_or(Exit::Internal);
        // What became of the other is our doing, unless something went wrong with it.
        let other = self.ended.and_then(|index| reports.get(1 - index.min(1)));
        let other = other
            .filter(|report| report.ending.by == Side::Remote)
            .map_or(Exit::Ok, |report| Exit::of_cause(report.ending.cause));
        match (first, other) {
            (Exit::Refused | Exit::Ok, _) if self.wished => self.recorded(),
            (Exit::Ok, Exit::Ok) => self.recorded(),
            (Exit::Ok, exit) | (exit, _) => exit,
        }
    }

    fn recorded(&self) -> Exit {
        if self.recording_failed {
            Exit::Media
        } else {
            Exit::Ok
        }
    }
}

/// Both calls, to the end of the second of them.
async fn live(endpoint: &Endpoint, legs: &mut [Leg; 2], args: &BridgeArgs, output: &Output) -> Result<Lived> {
    let mut lived = Lived::default();
    let mut interrupts = Interrupts::new();
    let mut hangup_at: Option<Instant> = None;
    let mut joined = None;
    while legs.iter().any(|leg| !leg.over) {
        let [first, second] = &mut *legs;
        let wait = hangup_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let (index, event) = tokio::select! {
            event = first.call.next(), if !first.over => (0, event),
            event = second.call.next(), if !second.over => (1, event),
            () = tokio::time::sleep_until(wait), if hangup_at.is_some() => {
                (hangup_at, lived.wished) = (None, true);
                hang_up(legs).await;
                continue;
            }
            () = interrupts.next(), if !lived.wished => {
                lived.wished = true;
                output.progress("hanging up");
                hang_up(legs).await;
                continue;
            }
        };
        if let (Some(event), Some(who)) = (&event, WHO.get(index)) {
            output.event(who, event);
        }
        let Some(leg) = legs.get_mut(index) else { continue };
        match event {
            Some(CallEventKind::Confirmed) => leg.confirmed = true,
            Some(CallEventKind::SinkFailed(_)) => lived.recording_failed = true,
            None | Some(CallEventKind::Ended(_) | CallEventKind::Failed(_)) => {
                leg.over = true;
                lived.ended.get_or_insert(index);
                hang_up(legs).await;
            }
            Some(_) => {}
        }
        if joined.is_none() && legs.iter().all(|leg| leg.confirmed && !leg.over) {
            joined = Some(join(endpoint, legs, args, output).await?);
            let duration = args
                .duration
                .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)));
            hangup_at = duration.map(|duration| Instant::now() + duration);
        }
    }
    Ok(lived)
}

/// Joins the two, and records who wants it.
async fn join(
    endpoint: &Endpoint,
    legs: &[Leg; 2],
    args: &BridgeArgs,
    output: &Output,
) -> Result<siprtc::Bridge> {
    let [first, second] = legs;
    let config = BridgeConfig {
        on_end: OnEnd::HangUp,
        ..BridgeConfig::default()
    };
    if let Some(path) = &args.record {
        // Before they are joined: nothing of what they say to each other is missing.
        first.call.record(path, Sides::Both).await?;
        output.emit(json!({ "event": "recording", "wav": path.display().to_string() }));
    }
    let bridge = endpoint.bridge_with(&first.call, &second.call, config).await?;
    output.say(&format!("{} and {} are joined", args.first, args.second));
    Ok(bridge)
}

async fn hang_up(legs: &[Leg; 2]) {
    for leg in legs.iter().filter(|leg| !leg.over) {
        // An error: it has ended by itself since.
        drop(leg.call.hangup().await);
    }
}

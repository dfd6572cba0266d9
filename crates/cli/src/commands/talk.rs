//! What `call`, `answer` and `demo` have in common: a call lived through from its first event to its last.

use crate::control::{Control, Others};
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use siprtc::gateway::{CallEventKind, MediaPlan};
use siprtc::{Call, CallReport};
use siprtc_core::Result;
use std::time::Duration;
use tokio::time::Instant;

/// How long after a file's end the last packets may be on their way.
const TAIL: Duration = Duration::from_millis(300);

/// When to hang up by ourselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// This long after the call is confirmed.
    pub(crate) duration: Option<Duration>,
    /// When the file is played.
    pub(crate) at_source_end: bool,
    /// The same of its video.
    pub(crate) at_video_end: bool,
    /// Digits to send once confirmed.
    pub(crate) dtmf: Option<String>,
    /// For a call that takes this one's place because the peer asked for it, and for one beside it; each is recorded into a file of its
    /// own, see `Others::media`. A call that takes this one's place by Replaces goes on in this one's file.
    pub(crate) media: MediaPlan,
}

/// Lives a call through, and after it the one that took its place: by a transfer, or by an INVITE with Replaces.
pub(crate) async fn live(
    call: Call,
    who: &str,
    plan: Plan,
    control: &mut Control,
    output: &Output,
) -> Result<(CallReport, Exit)> {
    let (mut call, mut others) = (call, Others::default());
    loop {
        let (report, exit, successor) = one(call, who, &plan, (control, &mut others), output).await?;
        match successor {
            None => return Ok((report, exit)),
            Some(next) => {
                output.report(&report);
                call = next;
            }
        }
    }
}

async fn one(
    mut call: Call,
    who: &str,
    plan: &Plan,
    (control, others): (&mut Control, &mut Others),
    output: &Output,
) -> Result<(CallReport, Exit, Option<Call>)> {
    let mut hangup_at: Option<Instant> = None;
    let mut recording_failed = false;
    let mut interrupted = false;
    let mut interrupts = Interrupts::new();
    let mut pulse = tokio::time::interval(Duration::from_secs(1));
    let mut confirmed = false;
    loop {
        let wait = hangup_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            event = call.next() => {
                let Some(event) = event else { break };
                output.event(who, &event);
                match &event {
                    CallEventKind::Confirmed => {
                        confirmed = true;
                        hangup_at = plan.duration.map(|duration| Instant::now() + duration).or(hangup_at);
                        if let Some(digits) = &plan.dtmf {
                            call.send_dtmf(digits).await?;
                        }
                    }
                    CallEventKind::SourceEnded if plan.at_source_end && plan.duration.is_none() => {
                        hangup_at = Some(Instant::now() + TAIL);
                    }
                    CallEventKind::VideoSourceEnded | CallEventKind::NegotiatedVideo(None) if plan.at_video_end && plan.duration.is_none() => {
                        hangup_at = Some(Instant::now() + TAIL);
                    }
                    CallEventKind::Replaced { by: next } | CallEventKind::TransferTaken { call: next }
                        if others.successor.is_none() =>
                    {
                        others.successor = Some(call.take(*next).await?);
                    }
                    CallEventKind::SinkFailed(_) => recording_failed = true,
                    CallEventKind::Ended(_) | CallEventKind::Failed(_) => break,
                    _ => {}
                }
            }
            () = tokio::time::sleep_until(wait), if hangup_at.is_some() => {
                hangup_at = None;
                call.hangup().await?;
            }
            _ = pulse.tick(), if confirmed && !output.json() => {
                if let Ok(stats) = call.stats().await {
                    output.progress(format!(
                        "{who}: {} packets in, loss {:.1} %, jitter {:.1} ms, MOS {:.2}",
                        stats.transport.packets_received,
                        stats.loss * 100.0,
                        stats.jitter.as_secs_f64() * 1e3,
                        stats.mos,
                    ));
                }
            }
            event = others.next() => match event {
                Some(event) => output.event("consulted", &event),
                None => others.consulted = None,
            },
            order = control.next() => {
                // A wrong word costs nobody the call.
                let done = match order {
                    Ok(order) => order.obey(&call, others, &plan.media).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = done {
                    output.error(&error);
                }
            }
            () = interrupts.next(), if !interrupted => {
                interrupted = true;
                output.progress(format!("{who}: hanging up"));
                call.hangup().await?;
            }
        }
    }
    if let Some(consulted) = others.consulted.take() {
        // The transfer may have ended it already.
        if consulted.hangup().await.is_ok() {
            consulted.finished().await?;
        }
    }
    let report = call.finished().await?;
    let exit = match Exit::of_cause(report.ending.cause) {
        Exit::Ok if recording_failed => Exit::Media,
        // Whoever asked for the end got what they asked for.
        Exit::Refused if interrupted => Exit::Ok,
        exit => exit,
    };
    Ok((report, exit, others.successor.take()))
}

//! `siprtc answer`.

use super::talk::{self, Plan};
use crate::args::AnswerArgs;
use crate::control::Control;
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use serde_json::json;
use siprtc::gateway::MediaPlan;
use siprtc::{CallReport, Config, Endpoint, IncomingCall, Referral, Referrals};
use siprtc_core::sip::NameAddr;
use siprtc_core::{Error, Fault, Result};
use std::time::Duration;

/// The status for a call that cannot be heard: the sound card does not open.
const UNAVAILABLE: u16 = 480;
/// How long the first registration may take before the program gives up.
const REGISTER_WAIT: Duration = Duration::from_secs(35);

pub(crate) async fn run(config: &Config, args: &AnswerArgs, output: &Output) -> Exit {
    let mut endpoint = match Endpoint::start(config).await {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    let exit = serve(&mut endpoint, config, args, output)
        .await
        .unwrap_or_else(|error| output.error(&error));
    endpoint.shutdown().await;
    exit
}

async fn serve(endpoint: &mut Endpoint, config: &Config, args: &AnswerArgs, output: &Output) -> Result<Exit> {
    if config.account.register && !config.account.uri.is_empty() {
        output.progress(format!("registering {}", config.account.uri));
        if let Err(error) = endpoint.registered(REGISTER_WAIT).await {
            output.error(&error);
            return Ok(super::register::exit_of(
                &endpoint.registration().borrow(),
                &error,
            ));
        }
    }
    for (event, file) in &args.tell {
        let body = std::fs::read(file).map_err(|error| {
            Error::new(
                Fault::ConfigInvalid,
                "tell",
                format!("{} is not readable", file.display()),
            )
            .advice("name a file with what there is to tell: --tell presence=here.xml")
            .caused_by(error)
        })?;
        endpoint.notify(event, body).await?;
    }
    let contact = endpoint.contact().uri.to_string();
    output.emit(json!({ "event": "ready", "contact": contact }));
    output.say(&format!("waiting for calls at {contact}"));
    let mut interrupts = Interrupts::new();
    let mut control = Control::new(args.control);
    let mut worst = Exit::Ok;
    let mut referrals = endpoint.referrals();
    for _ in 0..args.calls.unwrap_or(usize::MAX) {
        output.progress("waiting for a call");
        let wanted = tokio::select! {
            incoming = endpoint.incoming() => incoming.map(Wanted::Here),
            asked = next(&mut referrals) => asked.map(Wanted::Elsewhere),
            () = interrupts.next() => None,
        };
        let Some(wanted) = wanted else { break };
        let served = match wanted {
            Wanted::Elsewhere(referral) => asked(referral, args, &mut control, output).await,
            Wanted::Here(incoming) => one(incoming, args, &mut control, output).await,
        };
        // One call that goes wrong is that call's business: the next one is served.
        worst = match served {
            Ok(Exit::Ok) => worst,
            Ok(exit) => exit,
            Err(error) => output.error(&error),
        };
    }
    output.done();
    Ok(worst)
}

/// What somebody wants of us.
enum Wanted {
    /// A call that we make (`call.referrals`).
    Elsewhere(Referral),
    /// A call that we answer.
    Here(IncomingCall),
}

async fn next(referrals: &mut Option<Referrals>) -> Option<Referral> {
    match referrals {
        Some(referrals) => referrals.next().await,
        None => std::future::pending().await,
    }
}

/// Somebody wants us to call somebody (REFER): with the media of an answer.
async fn asked(
    referral: Referral,
    args: &AnswerArgs,
    control: &mut Control,
    output: &Output,
) -> Result<Exit> {
    let to = referral.to().to_string();
    let by = referral.referred_by().map(ToString::to_string);
    output.emit(json!({ "event": "asked", "to": to, "by": by, "replaces": referral.replaces() }));
    if let Some(status) = args.refuse {
        referral.refuse(status).await?;
        output.say(&format!("refused to call {to} with {status}"));
        return Ok(Exit::Ok);
    }
    let media = match args.media.plan().await {
        Ok(media) => media,
        Err(error) => {
            referral.refuse(UNAVAILABLE).await?;
            return Err(error);
        }
    };
    output.progress(format!("calling {to}"));
    let call = referral.accept(media.clone()).await?;
    let (report, exit) = talk::live(call, "asked", plan(args, media), control, output).await?;
    over(&report, &to, args, output)?;
    Ok(exit)
}

fn plan(args: &AnswerArgs, media: MediaPlan) -> Plan {
    Plan {
        duration: args
            .duration
            .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))),
        at_source_end: false,
        at_video_end: false,
        dtmf: None,
        media,
    }
}

async fn one(
    mut incoming: IncomingCall,
    args: &AnswerArgs,
    control: &mut Control,
    output: &Output,
) -> Result<Exit> {
    let from = incoming.from().uri.to_string();
    let head = incoming.head();
    let texts = |parties: &[NameAddr]| parties.iter().map(ToString::to_string).collect::<Vec<_>>();
    output.emit(json!({
        "event": "incoming",
        "from": from,
        "to": incoming.to().to_string(),
        "asserted": head.asserted.as_ref().map(ToString::to_string),
        "diverted_by": texts(&head.diverted_by()),
    }));
    output.progress(format!("call from {from}"));
    if let Some(target) = &args.forward {
        incoming.forward(&[target]).await?;
        output.say(&format!("sent {from} to {target}"));
        return Ok(Exit::Ok);
    }
    if let (Some(status), None) = (args.refuse, args.early) {
        incoming.refuse(status).await?;
        output.say(&format!("refused {from} with {status}"));
        return Ok(Exit::Ok);
    }
    tokio::select! {
        () = seconds(args.ring) => {}
        report = incoming.given_up() => return given_up(report, &from, args, output),
    }
    let media = match args.media.plan().await {
        Ok(media) => media,
        Err(error) => {
            incoming.refuse(UNAVAILABLE).await?;
            return Err(error);
        }
    };
    let call = match args.early {
        None => incoming.answer(media.clone()).await?,
        Some(early) => {
            let mut speaking = incoming.early_media(media.clone()).await?;
            tokio::select! {
                () = seconds(early) => {}
                report = speaking.given_up() => return given_up(report, &from, args, output),
            }
            if let Some(status) = args.refuse {
                speaking.refuse(status).await?;
                output.say(&format!("refused {from} with {status}"));
                return Ok(Exit::Ok);
            }
            speaking.answer().await?
        }
    };
    let (report, exit) = talk::live(call, "answer", plan(args, media), control, output).await?;
    over(&report, &from, args, output)?;
    Ok(exit)
}

fn seconds(seconds: f64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)))
}

fn given_up(report: Option<&CallReport>, from: &str, args: &AnswerArgs, output: &Output) -> Result<Exit> {
    match report {
        Some(report) => over(report, from, args, output),
        None => Ok(Exit::Ok),
    }
}

/// What is said and written of a call that is over.
fn over(report: &CallReport, from: &str, args: &AnswerArgs, output: &Output) -> Result<Exit> {
    let ladder = report.ladder("me", "server", from);
    output.report(report);
    output.ladder(&ladder, args.ladder.as_deref())?;
    Ok(Exit::of_cause(report.ending.cause))
}

//! `siprtc refer WHO TARGET`: click-to-dial.

use crate::args::ReferArgs;
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::{Output, ending_json};
use serde_json::{Value, json};
use siprtc::gateway::{Ending, ReferralEvent};
use siprtc::{Config, Endpoint, ReferOptions, RequestedCall, header_field};
use siprtc_core::Result;

pub(crate) async fn run(config: &Config, args: &ReferArgs, output: &Output) -> Exit {
    let endpoint = match Endpoint::start(config).await {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    let exit = refer(&endpoint, args, output).await;
    let exit = exit.unwrap_or_else(|error| output.error(&error));
    endpoint.shutdown().await;
    exit
}

async fn refer(endpoint: &Endpoint, args: &ReferArgs, output: &Output) -> Result<Exit> {
    let mut options = ReferOptions {
        untold: args.untold,
        ..ReferOptions::default()
    };
    for field in &args.headers {
        let (name, value) = header_field(field)?;
        options.headers.push(name, value);
    }
    let call = endpoint.refer_with(&args.target, &args.to, options).await?;
    output.progress(format!("asking {} to call {}", args.target, args.to));
    follow(call, args, output).await
}

async fn follow(mut call: RequestedCall, args: &ReferArgs, output: &Output) -> Result<Exit> {
    let mut interrupts = Interrupts::new();
    let mut leaving = false;
    let mut exit = Exit::Ok;
    loop {
        let event = tokio::select! {
            event = call.next() => event,
            () = interrupts.next(), if !leaving => {
                leaving = true;
                call.end().await?;
                continue;
            }
        };
        let Some(event) = event else { return Ok(exit) };
        let (line, sentence) = words(&event, args);
        output.emit(line);
        output.say(&sentence);
        exit = match &event {
            ReferralEvent::Failed(ending) | ReferralEvent::Refused(ending) => Exit::of_cause(ending.cause),
            // Whoever asked for the end got what they asked for.
            ReferralEvent::Untold { .. } if !leaving => Exit::Unreachable,
            _ => exit,
        };
    }
}

/// For programs, and for people.
fn words(event: &ReferralEvent, args: &ReferArgs) -> (Value, String) {
    let ReferArgs { target, to, .. } = args;
    match event {
        ReferralEvent::Accepted { tells } => (
            json!({ "event": "referral_accepted", "tells": tells }),
            format!("{target} calls {to}"),
        ),
        ReferralEvent::Progress { status } => (
            json!({ "event": "referral_progress", "status": status }),
            format!("{to}: {status}"),
        ),
        ReferralEvent::Succeeded => (
            json!({ "event": "referral_succeeded" }),
            format!("{to} has answered"),
        ),
        ReferralEvent::Failed(ending) => over("referral_failed", ending),
        ReferralEvent::Refused(ending) => over("referral_refused", ending),
        ReferralEvent::Untold { sentence, .. } => (
            json!({ "event": "referral_untold", "reason": sentence }),
            sentence.clone(),
        ),
    }
}

fn over(event: &str, ending: &Ending) -> (Value, String) {
    let sentence = ending.sentence.clone().unwrap_or_default();
    (json!({ "event": event, "ending": ending_json(ending) }), sentence)
}

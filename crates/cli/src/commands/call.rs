//! `siprtc call URI`.

use super::talk::{self, Plan};
use crate::args::CallArgs;
use crate::control::Control;
use crate::exit::Exit;
use crate::output::Output;
use siprtc::{Config, DialOptions, Endpoint, header_field};
use siprtc_core::Result;
use std::time::Duration;

/// How long a registration may keep a call from being dialled.
const REGISTER_WAIT: Duration = Duration::from_secs(5);

pub(crate) async fn run(config: &Config, args: &CallArgs, output: &Output) -> Exit {
    let endpoint = match Endpoint::start(config).await {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    let exit = call(&endpoint, config, args, output)
        .await
        .unwrap_or_else(|error| output.error(&error));
    endpoint.shutdown().await;
    exit
}

async fn call(endpoint: &Endpoint, config: &Config, args: &CallArgs, output: &Output) -> Result<Exit> {
    if config.account.register && !config.account.uri.is_empty() {
        output.progress(format!("registering {}", config.account.uri));
        // Calling needs no registration: say what is wrong, and call.
        if let Err(error) = endpoint.registered(REGISTER_WAIT).await {
            eprintln!("siprtc: {error}; calling without a registration");
        }
    }
    output.progress(format!("calling {}", args.target));
    // A card that is not there is told before anybody's telephone rings.
    let media = args.media.plan().await?;
    let mut options = DialOptions {
        anonymous: args.anonymous,
        ..DialOptions::default()
    };
    for field in &args.headers {
        let (name, value) = header_field(field)?;
        options.headers.push(name, value);
    }
    let call = endpoint.dial_with(&args.target, media.clone(), options).await?;
    let plan = Plan {
        duration: args
            .duration
            .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))),
        at_source_end: args.media.ends(),
        at_video_end: args.media.ends_with_video(),
        dtmf: args.dtmf.clone(),
        media,
    };
    let (report, exit) = talk::live(call, "call", plan, &mut Control::new(args.control), output).await?;
    let ladder = report.ladder("me", "server", &args.target);
    output.report(&report);
    output.ladder(&ladder, args.ladder.as_deref())?;
    Ok(exit)
}

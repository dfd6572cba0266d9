//! `siprtc subscribe URI`.

use crate::args::SubscribeArgs;
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use serde_json::json;
use siprtc::gateway::SubscriptionEvent;
use siprtc::{Config, Endpoint, Subscription};
use siprtc_core::Result;
use std::time::Duration;

pub(crate) async fn run(config: &Config, args: &SubscribeArgs, output: &Output) -> Exit {
    let endpoint = match Endpoint::start(config).await {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    let exit = match endpoint.subscribe(&args.target, &args.event).await {
        Ok(subscription) => follow(subscription, args, output).await,
        Err(error) => Err(error),
    };
    let exit = exit.unwrap_or_else(|error| output.error(&error));
    endpoint.shutdown().await;
    exit
}

async fn follow(mut subscription: Subscription, args: &SubscribeArgs, output: &Output) -> Result<Exit> {
    let mut interrupts = Interrupts::new();
    let seconds = args.duration.unwrap_or(86_400.0).clamp(0.0, 86_400.0);
    let enough = tokio::time::sleep(Duration::from_secs_f64(seconds));
    tokio::pin!(enough);
    let mut leaving = false;
    loop {
        let event = tokio::select! {
            event = subscription.next() => event,
            () = &mut enough, if !leaving => {
                leaving = true;
                subscription.end().await?;
                continue;
            }
            () = interrupts.next(), if !leaving => {
                leaving = true;
                subscription.end().await?;
                continue;
            }
        };
        match event {
            Some(SubscriptionEvent::Active { expires }) => {
                output.emit(json!({ "event": "subscribed", "expires_s": expires.as_secs() }));
                output.say(&format!("subscribed to {} of {}", args.event, args.target));
            }
            Some(SubscriptionEvent::Notified(notice)) => {
                let text = String::from_utf8_lossy(&notice.body).into_owned();
                output
                    .emit(json!({ "event": "notified", "content_type": notice.content_type, "body": text }));
                output.say(text.trim_end());
            }
            Some(SubscriptionEvent::Ended { status, reason, .. }) => {
                output.emit(json!({ "event": "subscription_ended", "status": status, "reason": reason }));
                output.say(&format!("over: {}", reason.unwrap_or_default()));
                return Ok(if leaving { Exit::Ok } else { Exit::Refused });
            }
            None => return Ok(Exit::Refused),
        }
    }
}

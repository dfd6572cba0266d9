//! `siprtc register`.

use crate::args::RegisterArgs;
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use serde_json::json;
use siprtc::{Config, Endpoint, Registration};
use siprtc_core::{Error, Fault};
use siprtc_registrar_client::RegistrationFailure;
use std::time::Duration;

pub(crate) async fn run(config: &Config, args: &RegisterArgs, output: &Output) -> Exit {
    if config.account.uri.is_empty() {
        let error = Error::new(Fault::ConfigInvalid, "register", "account.uri is empty")
            .advice("set it, such as --set account.uri=sip:alice@example.com");
        return output.error(&error);
    }
    let mut config = config.clone();
    config.account.register = true;
    let endpoint = match Endpoint::start(&config).await {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    output.progress(format!("registering {}", config.account.uri));
    let wait = Duration::from_secs_f64(args.wait.clamp(0.1, 3600.0));
    let exit = match endpoint.registered(wait).await {
        Ok(registrar) => {
            output.emit(json!({ "event": "registered", "registrar": registrar, "contact": endpoint.contact().to_string() }));
            output.say(&format!(
                "registered {} at {registrar} as {}",
                config.account.uri,
                endpoint.contact().uri
            ));
            hold(args, output).await;
            Exit::Ok
        }
        Err(error) => {
            output.error(&error);
            exit_of(&endpoint.registration().borrow(), &error)
        }
    };
    output.done();
    endpoint.shutdown().await;
    exit
}

async fn hold(args: &RegisterArgs, output: &Output) {
    let Some(seconds) = args.hold else { return };
    output.progress("registered; Ctrl-C unregisters");
    let mut interrupts = Interrupts::new();
    let wait = Duration::from_secs_f64(if seconds <= 0.0 {
        31_536_000.0
    } else {
        seconds.min(31_536_000.0)
    });
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = interrupts.next() => {}
    }
}

/// The exit code of a registration that failed.
pub(crate) fn exit_of(registration: &Registration, error: &Error) -> Exit {
    match registration {
        Registration::Failed {
            cause: RegistrationFailure::WrongCredentials | RegistrationFailure::Forbidden,
            ..
        } => Exit::Credentials,
        Registration::Failed {
            cause: RegistrationFailure::TimedOut | RegistrationFailure::Unreachable,
            ..
        } => Exit::Unreachable,
        Registration::Failed { .. } => Exit::Refused,
        _ => Exit::of_error(error),
    }
}

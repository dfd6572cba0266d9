//! Endpoints and a home server in one process, on loopback.

use siprtc::gateway::MediaPlan;
use siprtc::{Call, Config, Endpoint, registry};
use siprtc_core::Result;
use siprtc_core::sip::TimerConfig;
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::time::Duration;

const REALM: &str = "siprtc.home";
const PASSWORD: &str = "secret";

/// How long anything may take before it counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn home(timers: TimerConfig) -> Result<HomeServer> {
    let users = Users::Any {
        password: PASSWORD.to_owned(),
    };
    let config = HomeConfig {
        timers,
        turn: None,
        ..HomeConfig::loopback(REALM, users)
    };
    HomeServer::start(config, registry::sip_stack(registry::DEFAULT_SIP_STACK)?).await
}

/// An account at `outbound`, if that is not empty; everything on 127.0.0.1.
pub(crate) fn account(name: &str, outbound: &str) -> Result<Config> {
    let mut config = Config::defaults()?;
    config.account.uri = format!("sip:{name}@{REALM}");
    config.account.password = PASSWORD.to_owned();
    config.account.outbound = Some(outbound.to_owned())
        .into_iter()
        .filter(|uri| !uri.is_empty())
        .collect();
    config.sip.listen = vec!["udp:127.0.0.1:0".to_owned()];
    config.ice.loopback = true;
    config.ice.interfaces = vec!["127.0.0.1".to_owned()];
    Ok(config)
}

pub(crate) async fn registered(config: &Config) -> Result<Endpoint> {
    let endpoint = Endpoint::start(config).await?;
    endpoint.registered(PATIENCE).await?;
    Ok(endpoint)
}

/// Answers every call with silence, and hands it on.
pub(crate) fn answer_all(mut endpoint: Endpoint) -> tokio::sync::mpsc::Receiver<Call> {
    let (sender, receiver) = tokio::sync::mpsc::channel(256);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.incoming().await {
            match incoming.answer(MediaPlan::default()).await {
                Ok(call) => {
                    if sender.send(call).await.is_err() {
                        break;
                    }
                }
                Err(error) => eprintln!("a call could not be answered: {error}"),
            }
        }
        endpoint.shutdown().await;
    });
    receiver
}

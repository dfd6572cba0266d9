//! `siprtc serve-home`.

use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use serde_json::json;
use siprtc::{Config, registry};
use siprtc_core::sip::TimerConfig;
use siprtc_core::{Error, Fault, Result};
use siprtc_home_server::{HomeConfig, HomeServer, TurnConfig, Users};
use std::time::Duration;

pub(crate) async fn run(config: &Config, output: &Output) -> Exit {
    let home = match start(config).await {
        Ok(home) => home,
        Err(error) => return output.error(&error),
    };
    let listeners: Vec<String> = home
        .listeners()
        .iter()
        .map(|listener| format!("{} {}", listener.transport, listener.bound))
        .collect();
    let turn = home.turn_addr().map(|addr| addr.to_string());
    output.emit(json!({ "event": "serving", "sip": listeners, "turn": turn, "realm": config.home.realm }));
    output.say(&format!(
        "SIP domain {} at {}",
        config.home.realm,
        listeners.join(", ")
    ));
    if let Some(turn) = turn {
        output.say(&format!("STUN and TURN at {turn}"));
    }
    Interrupts::new().next().await;
    home.shutdown().await;
    Exit::Ok
}

async fn start(config: &Config) -> Result<HomeServer> {
    let home = &config.home;
    if home.users.is_empty() {
        return Err(Error::new(
            Fault::ConfigInvalid,
            "serve home",
            "home.users is empty: nobody could register",
        )
        .advice("add [[home.users]] with name and password, see config/home.toml"));
    }
    let sip: Result<Vec<_>> = home
        .listen
        .iter()
        .map(|text| siprtc::config::listener("home.listen", text))
        .collect();
    let turn = match home.turn.as_str() {
        "" => None,
        text => Some(TurnConfig::on(text.parse().map_err(|_| {
            Error::new(
                Fault::ConfigInvalid,
                "serve home",
                format!("home.turn = {text:?} is no address"),
            )
            .advice("write address:port, such as 127.0.0.1:3478, or leave it empty")
        })?)),
    };
    let users = home
        .users
        .iter()
        .map(|user| (user.name.clone(), user.password.clone()));
    let base = HomeConfig::loopback(home.realm.clone(), Users::named(users));
    let config_home = HomeConfig {
        sip: sip?,
        turn,
        min_expires: home.min_expires_s,
        max_expires: home.max_expires_s,
        timers: TimerConfig {
            t1: Duration::from_millis(config.sip.t1_ms),
            t2: Duration::from_millis(config.sip.t2_ms),
            t4: Duration::from_millis(config.sip.t4_ms),
        },
        ..base
    };
    HomeServer::start(config_home, registry::sip_stack(&config.sip.stack)?).await
}

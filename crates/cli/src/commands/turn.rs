//! `siprtc turn`.

use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output::Output;
use serde_json::{Map, Value, json};
use siprtc::Config;
use siprtc_turn_server::{Metrics, Server, Traffic};

pub(crate) async fn run(config: &Config, output: &Output) -> Exit {
    let started = siprtc::turn::config(&config.turn).and_then(|turn| {
        let relays: Vec<String> = turn
            .relays
            .iter()
            .map(|relay| relay.advertise.to_string())
            .collect();
        Ok((Server::start(turn)?, relays))
    });
    let (server, relays) = match started {
        Ok(started) => started,
        Err(error) => return output.error(&error),
    };
    let mut interrupts = Interrupts::new();
    siprtc::telemetry::observe_turn(server.meter());
    let listeners: Vec<String> = server
        .listeners()
        .iter()
        .map(|listener| format!("{} {}", listener.transport, listener.bind))
        .collect();
    let realm = &config.turn.realm;
    output.emit(json!({ "event": "serving", "turn": listeners, "relay": relays, "realm": realm }));
    output.say(&format!(
        "STUN and TURN of {realm} at {}, relaying at {}",
        listeners.join(", "),
        relays.join(", ")
    ));
    interrupts.next().await;
    let meter = server.meter();
    server.shutdown();
    let figures = meter.snapshot();
    output.emit(served(&figures));
    output.say(&format!(
        "{} allocations, {} packets to peers, {} to clients",
        figures.allocated, figures.to_peers.packets, figures.to_clients.packets
    ));
    Exit::Ok
}

fn served(figures: &Metrics) -> Value {
    let traffic = |traffic: &Traffic| json!({ "packets": traffic.packets, "octets": traffic.octets });
    let refused: Map<String, Value> = figures
        .refused
        .iter()
        .map(|(code, count)| (code.to_string(), json!(count)))
        .collect();
    let dropped: Map<String, Value> = figures
        .dropped
        .iter()
        .map(|(why, count)| (why.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "event": "served",
        "allocated": figures.allocated,
        "to_peers": traffic(&figures.to_peers),
        "to_clients": traffic(&figures.to_clients),
        "refused": refused,
        "dropped": dropped,
    })
}

//! A home server and endpoints on loopback, for the tests beside this folder.

use siprtc::prelude::*;
use siprtc::registry;
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::time::Duration;

pub(crate) const REALM: &str = "house.test";

pub(crate) async fn home() -> HomeServer {
    let users = ["alice", "bob", "carol"].map(|name| (name, "secret"));
    HomeServer::start(
        HomeConfig::loopback(REALM, Users::named(users)),
        registry::sip_stack("ezk").unwrap(),
    )
    .await
    .unwrap()
}

pub(crate) fn config(home: &HomeServer, name: &str) -> Config {
    Layers::new()
        .set("account.uri", format!("sip:{name}@{REALM}"))
        .set("account.password", "secret")
        .set("account.outbound", home.sip_uri().to_string())
        .text("[sip]\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]")
        .text("[ice]\nloopback = true\ninterfaces = [\"127.0.0.1\"]")
        .load()
        .unwrap()
}

pub(crate) async fn endpoint(home: &HomeServer, name: &str) -> Endpoint {
    let endpoint = Endpoint::start(&config(home, name)).await.unwrap();
    endpoint.registered(Duration::from_secs(10)).await.unwrap();
    endpoint
}

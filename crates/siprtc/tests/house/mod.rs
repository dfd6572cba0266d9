//! A home server and endpoints on loopback, for the tests beside this folder.
#![allow(dead_code, reason = "each test program uses its part")]

use siprtc::prelude::*;
use siprtc::registry;
use siprtc_core::sip::SipUri;
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::time::Duration;

pub(crate) const REALM: &str = "house.test";

/// Long enough for a slow machine; never waited out when all is well.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn home() -> HomeServer {
    let users = ["alice", "bob", "carol", "dave"].map(|name| (name, "secret"));
    HomeServer::start(
        HomeConfig::loopback(REALM, Users::named(users)),
        registry::sip_stack("ezk").unwrap(),
    )
    .await
    .unwrap()
}

pub(crate) fn config(home: &HomeServer, name: &str) -> Config {
    config_with(home, name, "")
}

/// With more configuration as text: `[media]`, say.
fn config_with(home: &HomeServer, name: &str, more: &str) -> Config {
    Layers::new()
        .set("account.uri", format!("sip:{name}@{REALM}"))
        .set("account.password", "secret")
        .set("account.outbound", home.sip_uri().to_string())
        .text("[sip]\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]")
        .text("[ice]\nloopback = true\ninterfaces = [\"127.0.0.1\"]")
        .text(more)
        .load()
        .unwrap()
}

/// A registered endpoint with `[media]` as in `media`.
pub(crate) async fn endpoint_with(home: &HomeServer, name: &str, media: &str) -> Endpoint {
    registered(&config_with(home, name, media)).await
}

async fn registered(config: &Config) -> Endpoint {
    let endpoint = Endpoint::start(config).await.unwrap();
    endpoint.registered(Duration::from_secs(10)).await.unwrap();
    endpoint
}

pub(crate) async fn endpoint(home: &HomeServer, name: &str) -> Endpoint {
    registered(&config(home, name)).await
}

//! A home server and endpoints on loopback, for the tests beside this folder.
#![allow(dead_code, reason = "the test of OTLP, a program of its own, uses a part")]

use siprtc::prelude::*;
use siprtc::registry;
use siprtc_core::sip::SipUri;
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::ops::ControlFlow;
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

/// A registered endpoint with more configuration as text: `[media]`, say.
pub(crate) async fn endpoint_with(home: &HomeServer, name: &str, more: &str) -> Endpoint {
    registered(&config_with(home, name, more)).await
}

async fn registered(config: &Config) -> Endpoint {
    let endpoint = Endpoint::start(config).await.unwrap();
    endpoint.registered(Duration::from_secs(10)).await.unwrap();
    endpoint
}

pub(crate) async fn endpoint(home: &HomeServer, name: &str) -> Endpoint {
    registered(&config(home, name)).await
}
pub(crate) fn contacts(home: &HomeServer, user: &str) -> Vec<SipUri> {
    let all = home.registrations().into_iter();
    all.filter(|registration| registration.user == user)
        .map(|registration| registration.contact)
        .collect()
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// The call that comes in next.
pub(crate) async fn rings(endpoint: &mut Endpoint) -> IncomingCall {
    let ringing = tokio::time::timeout(SOON, endpoint.incoming()).await;
    ringing.expect("it rings").unwrap()
}

/// The next event of `call` that fits; what came before it is passed over.
pub(crate) async fn event(call: &mut Call, fits: impl Fn(&CallEventKind) -> bool) -> CallEventKind {
    let sort = |event| {
        if fits(&event) {
            ControlFlow::Break(event)
        } else {
            ControlFlow::Continue(event)
        }
    };
    search(call, sort).await
}

/// What `fits` finds in the events of `call`; what came before it is passed over.
pub(crate) async fn found<T>(call: &mut Call, fits: impl Fn(&CallEventKind) -> Option<T>) -> T {
    let sort = |event| match fits(&event) {
        Some(found) => ControlFlow::Break(found),
        None => ControlFlow::Continue(event),
    };
    search(call, sort).await
}

async fn search<T>(call: &mut Call, sort: impl Fn(CallEventKind) -> ControlFlow<T, CallEventKind>) -> T {
    let mut seen = Vec::new();
    let search = async {
        while let Some(event) = call.next().await {
            match sort(event) {
                ControlFlow::Break(found) => return Some(found),
                ControlFlow::Continue(other) => seen.push(other),
            }
        }
        None
    };
    match tokio::time::timeout(SOON, search).await {
        Ok(Some(found)) => found,
        Ok(None) => panic!("the call ended first, after {seen:#?}"),
        Err(_) => panic!("it did not come, only {seen:#?}"),
    }
}

/// `caller` calls `user`, who is `callee`; who answered hangs up. Gives what passed at the caller's.
pub(crate) async fn talk(caller: &Endpoint, user: &str, callee: &mut Endpoint) -> CallReport {
    let mut call = caller.dial(user, MediaPlan::default()).await.unwrap();
    let ringing = tokio::time::timeout(SOON, callee.incoming())
        .await
        .expect("it rings")
        .unwrap();
    let mut answered = ringing.answer(MediaPlan::default()).await.unwrap();
    call.confirmed().await.unwrap();
    answered.confirmed().await.unwrap();
    answered.hangup().await.unwrap();
    let report = tokio::time::timeout(SOON, call.finished())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(
        (report.ending.cause, report.ending.by),
        (Cause::Bye, Side::Remote)
    );
    report
}

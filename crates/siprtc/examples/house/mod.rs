//! What the examples stand on: the account in the arguments, or an embedded home server with everybody's.
#![allow(dead_code, reason = "each example uses a part")]

use siprtc::prelude::*;
use siprtc::registry;
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::time::Duration;

pub(crate) struct House {
    home: Option<HomeServer>,
}

impl House {
    /// `sip:user@domain password sip:proxy` lead to a server; without arguments there is one here.
    pub(crate) async fn open(arguments: &[String]) -> Result<House> {
        let home = match arguments {
            [] => {
                let users = ["agent", "alice", "bob", "customer"].map(|name| (name, "secret"));
                let config = HomeConfig::loopback("house.test", Users::named(users));
                Some(HomeServer::start(config, registry::sip_stack("native")?).await?)
            }
            [_, _, _, ..] => None,
            _ => {
                return Err(
                    Error::new(Fault::ApiMisuse, "start", "three arguments are needed, or none")
                        .advice("give sip:user@domain, its password and sip:proxy"),
                );
            }
        };
        Ok(House { home })
    }

    /// Nobody but the example itself is there to call.
    pub(crate) fn is_alone(&self) -> bool {
        self.home.is_some()
    }

    /// The account of the arguments, or `name`'s of the embedded server; registered.
    pub(crate) async fn endpoint(&self, name: &str, arguments: &[String]) -> Result<Endpoint> {
        let layers = match (&self.home, arguments) {
            (None, [user, password, proxy, ..]) => Layers::new()
                .set("account.uri", user)
                .set("account.password", password)
                .set("account.outbound", proxy),
            (Some(home), _) => Layers::new()
                .set("account.uri", format!("sip:{name}@house.test"))
                .set("account.password", "secret")
                .set("account.outbound", home.sip_uri().to_string())
                .text("[sip]\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]")
                .text("[ice]\nloopback = true\ninterfaces = [\"127.0.0.1\"]"),
            (None, _) => Layers::new(),
        };
        let endpoint = Endpoint::start(&layers.load()?).await?;
        endpoint.registered(Duration::from_secs(10)).await?;
        Ok(endpoint)
    }

    pub(crate) async fn close(self, endpoints: Vec<Endpoint>) {
        for endpoint in endpoints {
            if let Err(error) = endpoint.shutdown_within(Duration::from_secs(5)).await {
                eprintln!("{error}");
            }
        }
        if let Some(home) = self.home {
            home.shutdown().await;
        }
    }
}

/// Waits for the next event that fits; `false`: the call ended first.
pub(crate) async fn until(call: &mut Call, fits: impl Fn(&CallEventKind) -> bool) -> bool {
    while let Some(event) = call.next().await {
        if fits(&event) {
            return true;
        }
    }
    false
}

/// What is typed, line by line.
pub(crate) fn typed() -> tokio::sync::mpsc::Receiver<String> {
    let (typed, lines) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        let mut read = std::io::stdin().lines().map_while(std::result::Result::ok);
        read.try_for_each(|line| typed.blocking_send(line))
    });
    lines
}

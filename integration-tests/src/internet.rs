//! A public network with the servers, and homes behind NATs, in network namespaces.

use crate::lab::{KamailioSettings, Lab};
use crate::netns::{Namespace, Nat};
use std::net::Ipv4Addr;

/// The servers' address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Where the telephones are, each in a home of its own.
pub const ALICE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// See [`ALICE`].
pub const BOB: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// A public network with the servers, and two homes behind NATs. The lab goes first: its processes live in the namespaces.
#[derive(Debug)]
pub struct Internet {
    /// The servers.
    pub lab: Lab,
    /// Alice's and Bob's.
    pub homes: [Namespace; 2],
    routers: Vec<Namespace>,
    wan: Namespace,
}

impl Internet {
    /// With Kamailio and coturn, and what the NATs of Alice's and Bob's homes do.
    pub fn new(story: &str, nats: [Nat; 2]) -> Self {
        Internet::with(story, nats, KamailioSettings::default())
    }

    /// With such a Kamailio.
    pub fn with(story: &str, nats: [Nat; 2], settings: KamailioSettings) -> Self {
        let wan = Namespace::new();
        wan.ip(&["link", "add", "br0", "type", "bridge"]);
        wan.ip(&["link", "set", "br0", "up"]);
        wan.ip(&["addr", "add", &format!("{SERVER}/24"), "dev", "br0"]);
        // Private addresses are lost at a router, as on the Internet, and not refused by the relay's own kernel: coturn gives
        // up an allocation whose sending fails.
        wan.ip(&["route", "add", "10.0.0.0/8", "via", "203.0.113.11"]);
        let homes = [Namespace::new(), Namespace::new()];
        let routers = (1..).zip(&homes).zip(nats);
        let routers = routers
            .map(|((number, home), nat)| connect(&wan, home, number, nat))
            .collect();
        let lab = Lab::at(story, wan.place(), SERVER)
            .with_kamailio_that(settings)
            .with_coturn();
        Internet {
            lab,
            homes,
            routers,
            wan,
        }
    }

    /// Takes the cable out of a home and another router's in: `10.number.0.2` behind `203.0.113.(10 + number)`.
    pub fn replug(&mut self, home: usize, number: u8, nat: Nat) {
        self.homes[home].ip(&["link", "del", "eth0"]);
        let router = connect(&self.wan, &self.homes[home], number, nat);
        self.routers.push(router);
    }
}

/// A router with a NAT between the public network and a home.
fn connect(wan: &Namespace, home: &Namespace, number: u8, nat: Nat) -> Namespace {
    let router = Namespace::new();
    let port = format!("port{number}");
    router.cable("wan0", wan, &port);
    wan.ip(&["link", "set", &port, "master", "br0"]);
    router.ip(&[
        "addr",
        "add",
        &format!("203.0.113.{}/24", 10 + number),
        "dev",
        "wan0",
    ]);
    router.cable("lan0", home, "eth0");
    router.ip(&["addr", "add", &format!("10.{number}.0.1/24"), "dev", "lan0"]);
    home.ip(&["addr", "add", &format!("10.{number}.0.2/24"), "dev", "eth0"]);
    home.ip(&["route", "add", "default", "via", &format!("10.{number}.0.1")]);
    router.nat(nat);
    router
}

#![doc = include_str!("../README.md")]

mod allocation;
mod batch;
mod config;
mod connection;
mod credentials;
mod ledger;
mod machine;
mod meter;
mod nonce;
mod peers;
mod server;
mod sockets;
#[cfg(test)]
mod testing;
mod wire;
mod worker;

pub use config::{Identity, Limits, Listener, Relay, Transport, TurnConfig};
pub use credentials::{Credentials, rest_password};
pub use meter::{Dropped, Meter, Metrics, Traffic};
pub use peers::Network;
pub use server::Server;

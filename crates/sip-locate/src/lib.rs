#![doc = include_str!("../README.md")]

mod cache;
mod config;
mod dns;
mod failover;
mod finder;
mod machine;
mod stack;
pub mod tls;

pub use config::{Ipv6, LocateConfig};
pub use stack::located;

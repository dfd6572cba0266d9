#![doc = include_str!("../README.md")]

mod crypto;
mod setup;

pub use crypto::{Crypto, MAX_KEYS, MasterKey, Mki, SessionParameter, Suite};
pub use setup::Setup;

#![doc = include_str!("../README.md")]

mod crypto;
mod extension;
mod setup;

pub use crypto::{Crypto, MAX_KEYS, MasterKey, Mki, SessionParameter, Suite};
pub use extension::{TRANSPORT_SEQUENCE, element_number};
pub use setup::Setup;

#![doc = include_str!("../README.md")]

pub mod call;
pub mod error;
pub mod ice;
pub mod media;
pub mod sip;

pub use call::{CallId, Cause};
pub use error::{Error, Fault, Result};

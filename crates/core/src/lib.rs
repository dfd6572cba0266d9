//! siprtc's nouns, errors and ports.
//!
//! A *port* is a trait that an outer part implements: [`sip::SipStack`], [`ice::IceAgent`] and
//! [`media::MediaEngine`]. Everything that crosses a port is one of our own light types, so that no library's types
//! leak from one side of the house to another. This crate knows no actor system, no runtime and no backend.

pub mod call;
pub mod error;
pub mod ice;
pub mod media;
pub mod sip;

pub use call::{CallId, Cause};
pub use error::{Error, Fault, Result};

#![doc = include_str!("../README.md")]

#[cfg(feature = "link")]
mod adapt;
#[cfg(feature = "link")]
mod card;
#[cfg(feature = "link")]
mod ring;

#[cfg(feature = "link")]
pub use card::{CardStats, Device, Loudspeaker, Microphone, devices};

/// The library behind it, in what is said of devices.
pub const NAME: &str = "cpal";

#![doc = include_str!("../README.md")]

pub mod format;
mod reports;
pub mod sdp;

pub use format::Format;
pub use reports::{Count, REPORT_INTERVAL, RemoteView, Reports};

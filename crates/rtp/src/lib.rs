#![doc = include_str!("../README.md")]

mod arrivals;
pub mod feedback;
pub mod format;
mod packet;
mod payload_types;
mod reports;
pub mod sdp;
pub mod video;

pub use format::Format;
pub use packet::Header;
pub use payload_types::PayloadTypes;
pub use reports::{Count, REPORT_INTERVAL, RemoteView, Reports};

#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod event;
mod lanes;
pub mod machine;
mod message;

pub use actor::DialogManager;
pub use config::{Account, DialogConfig, SessionTimer};
pub use event::{DialogEvent, DialogEventKind, DialogTag, Side};
pub use message::{
    Accept, AcceptOffer, FromStack, Hangup, Invite, MeasureInvite, Reach, Reinvite, Reject, RejectOffer,
    Ring, SendInfo, Terminate,
};

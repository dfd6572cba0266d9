#![doc = include_str!("../README.md")]

mod actor;
mod config;
mod control;
mod event;
mod lanes;
pub mod machine;
mod message;

pub use actor::DialogManager;
pub use config::{Account, DialogConfig, SessionTimer};
pub use control::{Admitted, Control, Reliability, Reoffer};
pub use event::{
    DialogEvent, DialogEventKind, DialogName, DialogTag, Head, Note, Referral, ReferralNews, Side,
};
pub use message::{
    Accept, AcceptOffer, Attach, Carrier, Deliver, FromStack, Hangup, Invite, MeasureInvite, NameDialog,
    Notify, Occasion, Reach, Redirect, Refer, ReferTo, Reinvite, Reject, RejectOffer, ReportReferral, Ring,
    SendInfo, SendMessage, SendRefer, Subscribe, Terminate, Unsubscribe,
};

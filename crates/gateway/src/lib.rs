#![doc = include_str!("../README.md")]

// The tests inside share a bench with those outside, which call the crate by its name.
#[cfg(test)]
extern crate self as siprtc_gateway;

mod actor;
mod asking;
mod bridge;
mod calls;
mod change;
mod control;
mod errands;
pub mod keeper;
pub mod machine;
mod messages;
mod reach;
mod referrals;
mod router;
mod subscriptions;
pub mod table;

pub use actor::Gateway;
pub use asking::{AskForCall, ReferralEvent};
pub use bridge::{Bridge, Confer, NameDialog, Record, StopRecording, Unbridge};
pub use change::{ChangeMedia, Mute, SetAudio};
pub use control::{AcceptTransfer, CallControl, EarlyMedia, RefuseTransfer, Transfer, TransferTo, Transfers};
pub use errands::{DtmfWay, MessageTo, SendMessage};
pub use messages::{
    Account, Answer, AnswerEarly, Attach, CallEvent, CallEventKind, ContactNow, Dial, Ending, GatewayConfig,
    GatewayEvent, Hangup, Hold, MediaPlan, Redirect, Refuse, SendDtmf, Shutdown, Snapshot, StartRegistration,
    Trickle,
};
pub use referrals::{AcceptReferral, AskedCall, Notify, RefuseReferral};
pub use router::Router;
pub use siprtc_dialog_manager::{
    Admitted, Control, DialogName, Head, Note, Occasion, Reliability, Reoffer, SessionTimer, Side,
};
pub use subscriptions::{Notice, Subscribe, SubscriptionEvent, Unsubscribe};

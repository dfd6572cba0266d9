#![doc = include_str!("../README.md")]

mod actor;
mod calls;
pub mod machine;
mod messages;
mod router;
pub mod table;

pub use actor::Gateway;
pub use messages::{
    Account, Answer, CallEvent, CallEventKind, Dial, Ending, GatewayConfig, GatewayEvent, Hangup, MediaPlan, Refuse,
    SendDtmf, Shutdown, Snapshot, StartRegistration,
};
pub use router::Router;
pub use siprtc_dialog_manager::Side;

//! Calls joined to others, seated in conferences, and recorded: what a call's media session does beside its negotiation. The
//! gateway only passes it on: a bridge may lead to a call of another gateway.

use crate::actor::Gateway;
use crate::calls::ask;
use actix::prelude::*;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, DialogName};
use siprtc_media_session::{self as media, BridgeEnd, Seat, Sides};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Joins a call's media to another's: one end of [`media::Bridge::between`] goes to each call. `Bridged` tells that it stands.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Bridge {
    /// Which call.
    pub call: CallId,
    /// Its end.
    pub end: BridgeEnd,
}

/// Parts a call from the one that it is bridged to; both hear `Parted`.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Unbridge {
    /// Which call.
    pub call: CallId,
}

/// Seats a call in a conference, or has it leave.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Confer {
    /// Which call.
    pub call: CallId,
    /// Where; `None`: it leaves.
    pub seat: Option<Arc<Seat>>,
}

/// What names a call's dialog to others: for a Join (RFC 3911), which an INVITE of theirs to us may carry.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when it has no confirmed dialog.
#[derive(Debug, Message)]
#[rtype(result = "Result<DialogName, Error>")]
pub struct NameDialog {
    /// Which call.
    pub call: CallId,
}

/// Records a call from now on.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Record {
    /// Which call.
    pub call: CallId,
    /// Where to; an older file is replaced.
    pub path: PathBuf,
    /// Whom.
    pub sides: Sides,
}

/// Ends a call's recording; the answer is how much was recorded.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, Error>")]
pub struct StopRecording {
    /// Which call.
    pub call: CallId,
}

impl Handler<Bridge> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Bridge, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("bridge", message.call);
        Box::pin(async move { ask(&session?, media::Join { end: message.end }).await })
    }
}

impl Handler<Unbridge> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Unbridge, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("part a bridge", message.call);
        Box::pin(async move { ask(&session?, media::Part).await })
    }
}

impl Handler<Confer> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Confer, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("join a conference", message.call);
        Box::pin(async move { ask(&session?, media::Confer { seat: message.seat }).await })
    }
}

impl Handler<NameDialog> for Gateway {
    type Result = ResponseFuture<Result<DialogName>>;

    fn handle(&mut self, message: NameDialog, ctx: &mut Context<Self>) -> Self::Result {
        let (call, house) = (message.call, self.house(ctx));
        Box::pin(async move {
            let name = house?
                .dialogs
                .send(dialog::NameDialog { call })
                .await
                .ok()
                .flatten();
            name.ok_or_else(|| {
                let what = format!("{call} has no confirmed dialog");
                Error::new(Fault::ApiMisuse, "name a dialog", what).advice("ask between Confirmed and Ended")
            })
        })
    }
}

impl Handler<Record> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Record, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("record", message.call);
        let Record { path, sides, .. } = message;
        Box::pin(async move { ask(&session?, media::Record { path, sides }).await })
    }
}

impl Handler<StopRecording> for Gateway {
    type Result = ResponseFuture<Result<Duration>>;

    fn handle(&mut self, message: StopRecording, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("end a recording", message.call);
        Box::pin(async move { ask(&session?, media::StopRecording).await })
    }
}

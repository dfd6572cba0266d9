//! What becomes of calls when a part of the house breaks down, this actor included.

use super::Gateway;
use crate::keeper::watch;
use crate::machine::{Command, Ending, Input};
use crate::messages::CallEventKind;
use actix::prelude::*;
use siprtc_core::{CallId, Cause, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, Side};
use siprtc_media_session::{MediaSession, SessionId};
use std::time::Duration;
use tracing::Instrument;

/// How soon the addresses are looked at when a look was under way.
const LOOK: Duration = Duration::from_secs(1);

type Act = dyn FnOnce(&mut Gateway, &mut Context<Gateway>) + Send;

/// What became of work outside of this actor's context.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Then(Box<Act>);

impl Handler<Then> for Gateway {
    type Result = ();

    fn handle(&mut self, Then(then): Then, ctx: &mut Context<Self>) {
        then(self, ctx);
    }
}

/// An actor broke down too often to be kept.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Gone {
    pub(super) name: &'static str,
}

impl Handler<Gone> for Gateway {
    type Result = ();

    fn handle(&mut self, Gone { name }: Gone, ctx: &mut Context<Self>) {
        tracing::error!(
            actor = name,
            "an actor is gone for good: report this with the log above"
        );
        if self.house.as_ref().is_some_and(|house| house.dialogs.connected()) {
            return; // The others keep no dialog: what they are asked for fails, and says so.
        }
        for id in self.ids() {
            let error = Error::new(
                Fault::Backend,
                "go on with the call",
                "the dialog manager is gone",
            );
            self.input(ctx, id, Input::CommandFailed(Command::HangUp, error));
        }
    }
}

/// A media session ended that nobody had closed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SessionGone {
    call: CallId,
    session: SessionId,
}

/// Starts a media session whose end is noticed.
pub(super) fn session(session: MediaSession, call: CallId, hub: Addr<Gateway>) -> Addr<MediaSession> {
    let (gone, hub) = (
        SessionGone {
            call,
            session: session.id(),
        },
        hub.downgrade(),
    );
    watch("media session", session, move || {
        if let Some(hub) = hub.upgrade() {
            actix::spawn(async move { _ = hub.send(gone).await });
        }
    })
}

impl Handler<SessionGone> for Gateway {
    type Result = ();

    fn handle(&mut self, SessionGone { call, session }: SessionGone, ctx: &mut Context<Self>) {
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        if entry
            .session
            .as_ref()
            .is_none_or(|(current, _)| *current != session)
        {
            return; // It was closed, or replaced.
        }
        entry.session = None;
        tracing::error!(call_id = %call, "the media session broke down: report this with the log above");
        let what = "the media session broke down: a defect of siprtc";
        match entry.call.awaited() {
            Some(epoch) => {
                let error = Error::new(Fault::Backend, "go on with the call", what);
                self.input(ctx, call, Input::Step(epoch, Err(error)));
                // What was agreed before cannot go on without it.
                self.input(ctx, call, Input::MediaLost(what.to_owned()))
            }
            None => self.input(ctx, call, Input::MediaLost(what.to_owned())),
        };
    }
}

impl Gateway {
    /// Has `work` done beside this actor, whose restart it survives, and goes on with `then`.
    pub(crate) fn detach<T: Send + 'static>(
        &self,
        ctx: &Context<Self>,
        id: CallId,
        work: impl Future<Output = Result<T>> + 'static,
        then: impl FnOnce(Result<T>, &mut Gateway, &mut Context<Gateway>) + Send + 'static,
    ) {
        let (hub, work) = (ctx.address(), actix::spawn(work.instrument(self.span(id))));
        actix::spawn(async move {
            let result = work.await.unwrap_or_else(|error| {
                Err(
                    Error::new(Fault::Backend, "go on with the call", "a step of it broke down")
                        .advice("this is a defect of siprtc: report it with the log above this line")
                        .caused_by(error),
                )
            });
            let then = Then(Box::new(move |act, ctx| {
                let outer = act.in_hand.replace(id);
                then(result, act, ctx);
                act.in_hand = outer;
            }));
            let _ = hub.send(then).await; // An error: the gateway is gone, and the call with it.
        });
    }

    /// The call over which this actor broke down ends: twice, and nothing is asked of it any more.
    fn condemn(&mut self, ctx: &mut Context<Self>, id: CallId) {
        let Some(entry) = self.calls.get_mut(&id) else {
            return;
        };
        tracing::error!(call_id = %id, "the gateway broke down over this call, which ends: report this with the log above");
        if !std::mem::replace(&mut entry.is_condemned, true) {
            self.input(ctx, id, Input::Condemned);
            return;
        }
        entry.session = None; // The last address of it: it stops, and closes its peer.
        if let Some(house) = &self.house {
            let reason = Some("SIP;cause=500;text=\"internal error\"".to_owned());
            // Policy when its mailbox is full: the peer hears nothing, and ends the call by its own timers.
            drop(house.dialogs.try_send(dialog::Hangup { call: id, reason }));
        }
        self.tell(
            id,
            CallEventKind::Failed(Ending {
                cause: Cause::Internal,
                by: Side::Local,
                status: None,
                sentence: Some("a defect of this program ended the call: report it with the log".to_owned()),
                contacts: Vec::new(),
                retry_after: None,
                established: false,
                stats: None,
            }),
        );
        self.forget(ctx, id);
    }
}

/// Every call is as it was, with what its steps bring; timers are set anew.
impl Supervised for Gateway {
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.calls.values_mut().for_each(|entry| entry.timer = None);
        if let Some(id) = self.in_hand {
            self.condemn(ctx, id);
            self.in_hand = None;
        }
        for id in self.ids() {
            self.in_hand = Some(id);
            self.drain(ctx, id);
            self.in_hand = None;
        }
        if self.wayless.take().is_some() {
            self.wayless = Some(ctx.run_later(LOOK, |act, ctx| act.moved(ctx, Vec::new())));
        }
    }
}

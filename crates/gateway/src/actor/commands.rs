//! What the application says.

use super::Gateway;
use crate::calls::{Entry, ask};
use crate::control::{EarlyMedia, Transfers};
use crate::machine::{Input, wrong_state};
use crate::messages::*;
use actix::prelude::*;
use siprtc_core::sip::Uri;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, Terminate};
use siprtc_media_session::{self as media, MediaSession};
use siprtc_registrar_client as registrar;
use std::time::Duration;
use tokio::sync::oneshot;

/// The least time that unregistering gets, whatever is left of a shutdown's grace.
const LEAVE: Duration = Duration::from_millis(100);

impl Gateway {
    pub(crate) fn session(&self, operation: &'static str, id: CallId) -> Result<Addr<MediaSession>> {
        let entry = self.calls.get(&id).ok_or_else(|| unknown(operation, id))?;
        let session = entry.session.as_ref().map(|(_, session)| session.clone());
        session.ok_or_else(|| wrong_state(operation, id, entry.call.state()))
    }

    pub(super) fn ids(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }

    /// Ends every call that is left: first what its dialog owes, then its media.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        for id in self.ids() {
            self.input(ctx, id, Input::GiveUp);
            self.input(ctx, id, Input::GiveUp);
        }
    }

    /// An application's command: an error when the call is unknown or in no state for it.
    pub(crate) fn command_input(
        &mut self,
        ctx: &mut Context<Self>,
        op: &'static str,
        id: CallId,
        input: Input,
    ) -> Result<()> {
        let state = self.calls.get(&id).ok_or_else(|| unknown(op, id))?.call.state();
        if self.input(ctx, id, input) {
            Ok(())
        } else {
            Err(wrong_state(op, id, state))
        }
    }
}

fn unknown(operation: &'static str, id: CallId) -> Error {
    Error::new(Fault::ApiMisuse, operation, format!("{id} is unknown or over"))
        .advice("a call is over after its Ended or Failed event")
}

impl Gateway {
    /// Whether another call may begin.
    pub(crate) fn has_room(&self, operation: &'static str, id: CallId) -> Result<()> {
        if self.closing || self.calls.len() >= self.config.max_calls {
            let most = self.config.max_calls;
            return Err(Error::new(
                Fault::ApiMisuse,
                operation,
                format!("{most} calls are the most, or we are closing"),
            )
            .advice("raise call.max_calls, or hang a call up first"));
        }
        if self.calls.contains_key(&id) {
            return Err(
                Error::new(Fault::ApiMisuse, operation, format!("{id} exists already"))
                    .advice("take a CallId::fresh() for every call"),
            );
        }
        Ok(())
    }

    /// A call of ours begins.
    pub(crate) fn begin(&mut self, ctx: &mut Context<Self>, mut entry: Entry, id: CallId, target: Uri) {
        if self.config.classic.is_some() {
            entry.call = entry.call.falling_back();
        }
        let classic = self
            .config
            .classic
            .as_ref()
            .is_some_and(|classic| classic.forks());
        let forks = (self.config.engine.forks(), classic);
        entry.call = match self.config.control.early_media {
            EarlyMedia::First => entry.call.forking(forks.0, forks.1, false),
            EarlyMedia::Latest => entry.call.forking(forks.0, forks.1, true),
            EarlyMedia::None => entry.call.waiting_for_answer(),
        };
        self.admit(id, entry);
        self.input(ctx, id, Input::Dial { target });
    }

    /// A call belongs to this gateway, and to its policies.
    pub(crate) fn admit(&mut self, id: CallId, mut entry: Entry) {
        if self.config.control.transfers == Transfers::Accept {
            entry.call = entry.call.taking_transfers();
        }
        self.calls.entry(id).or_insert(entry);
    }
}

impl Handler<Dial> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Dial, ctx: &mut Context<Self>) -> Result<()> {
        let id = message.call;
        self.has_room("dial", id)?;
        let mut entry = Entry::new(id, "caller", message.media);
        entry.headers = message.headers;
        self.begin(ctx, entry, id, message.target);
        Ok(())
    }
}

impl Handler<Attach> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Attach, ctx: &mut Context<Self>) -> Self::Result {
        let Attach { call, to, headers } = message;
        let house = self.house(ctx);
        Box::pin(async move { ask(&house?.dialogs, dialog::Attach { call, to, headers }).await })
    }
}

impl Handler<Redirect> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Redirect, ctx: &mut Context<Self>) -> Result<()> {
        let Redirect { call, contacts } = message;
        if contacts.is_empty() {
            return Err(Error::new(
                Fault::ApiMisuse,
                "redirect",
                "there is nowhere to send the caller",
            )
            .advice("give one address at least"));
        }
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.redirect = contacts;
        }
        self.command_input(ctx, "redirect", call, Input::Refuse { status: 302 })
    }
}

impl Handler<Answer> for Gateway {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, message: Answer, ctx: &mut Context<Self>) -> Self::Result {
        let Answer { call, media } = message;
        let ringing = self.calls.get(&call).filter(|entry| entry.call.rings_here());
        let running = ringing.and_then(|entry| entry.session.clone());
        if let (Some((_, session)), Some(media)) = (running, media.clone()) {
            return self.answer_otherwise(call, session, media);
        }
        let answered = self.command_input(ctx, "answer", call, Input::Answer);
        // In time: the media peer that needs it is not made before its plan has come.
        if let (Ok(()), Some(media), Some(entry)) = (&answered, media, self.calls.get_mut(&call)) {
            entry.media = media;
        }
        Box::pin(fut::ready(answered))
    }
}

impl Handler<AnswerEarly> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: AnswerEarly, ctx: &mut Context<Self>) -> Result<()> {
        const OPERATION: &str = "answer early";
        let AnswerEarly { call, media } = message;
        if self
            .calls
            .get(&call)
            .is_some_and(|entry| !entry.call.has_early_media())
        {
            let what = "the INVITE has no offer, and its caller acknowledges no 183 (RFC 3262)";
            return Err(
                Error::new(Fault::PeerIncompatible, OPERATION, what).advice("answer: then the 200 offers")
            );
        }
        self.command_input(ctx, OPERATION, call, Input::AnswerEarly)?;
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.media = media;
        }
        Ok(())
    }
}

impl Handler<Refuse> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Refuse, ctx: &mut Context<Self>) -> Result<()> {
        if !(400..700).contains(&message.status) {
            return Err(Error::new(
                Fault::ApiMisuse,
                "refuse",
                format!("{} refuses nothing", message.status),
            )
            .advice("choose a status from 400 to 699, such as 486 (busy) or 603 (decline)"));
        }
        self.command_input(
            ctx,
            "refuse",
            message.call,
            Input::Refuse {
                status: message.status,
            },
        )
    }
}

impl Handler<Hangup> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Hangup, ctx: &mut Context<Self>) -> Result<()> {
        // Hanging up a call that is ending already is what two people do at once: no error.
        self.calls
            .get(&message.call)
            .ok_or_else(|| unknown("hang up", message.call))?;
        self.input(ctx, message.call, Input::Hangup);
        Ok(())
    }
}

impl Handler<Hold> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Hold, ctx: &mut Context<Self>) -> Result<()> {
        let Hold { call, held, plays_on } = message;
        // Before the call hears of it: what it asks for now is done with this.
        let before = self
            .calls
            .get_mut(&call)
            .map(|entry| std::mem::replace(&mut entry.plays_on, plays_on));
        let done = self.command_input(ctx, if held { "hold" } else { "resume" }, call, Input::Hold(held));
        if let (Err(_), Some(before), Some(entry)) = (&done, before, self.calls.get_mut(&call)) {
            entry.plays_on = before;
        }
        done
    }
}

impl Handler<Snapshot> for Gateway {
    type Result = ResponseFuture<Result<media::SessionStats>>;

    fn handle(&mut self, message: Snapshot, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("read statistics", message.call);
        Box::pin(async move { ask(&session?, media::Snapshot).await })
    }
}

impl Handler<StartRegistration> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, _: StartRegistration, ctx: &mut Context<Self>) -> Self::Result {
        let house = self.house(ctx);
        Box::pin(async move { ask(&house?.registrar, registrar::Register).await })
    }
}

impl Handler<Shutdown> for Gateway {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        self.closing = true;
        let (sender, idle) = oneshot::channel();
        if !self.calls.is_empty() {
            self.idle.push(sender);
        }
        for id in self.ids() {
            self.input(ctx, id, Input::Hangup);
        }
        let house = self.house(ctx);
        let wait = async move {
            // An error: there was no call to wait for, or there is none any more.
            drop(tokio::time::timeout(message.grace, idle).await);
            let house = house?;
            ask(&house.dialogs, Terminate).await?;
            let unregister = ask(&house.registrar, registrar::Unregister);
            let patience = message.grace.max(LEAVE);
            tokio::time::timeout(patience, unregister)
                .await
                .unwrap_or_else(|error| {
                    Err(
                        Error::new(Fault::TimedOut, "unregister", "the registrar did not answer")
                            .caused_by(error),
                    )
                })
        };
        Box::pin(wait.into_actor(self).map(|left, act, ctx| {
            if let Err(error) = left {
                tracing::warn!(%error, "could not leave in peace");
            }
            act.give_up(ctx);
            act.leave.take();
            ctx.stop();
        }))
    }
}

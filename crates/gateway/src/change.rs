//! What the application changes of a call's media while it lasts: codecs, video, silence.

use crate::actor::Gateway;
use crate::calls::ask;
use crate::machine::Input;
use actix::prelude::*;
use siprtc_core::media::Codec;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_media_session::{self as media, MediaChange, VideoPlan};
use std::sync::Arc;

/// Offers the peer other codecs or other video, or none (RFC 3264 section 8), with a re-INVITE.
/// [`CallEventKind::MediaChanged`](crate::CallEventKind), or `MediaRefused`, tells how it went, and `Negotiated` and `NegotiatedVideo`
/// what came of it: a peer may take the offer and decline its video. During another negotiation the wish waits for its end.
///
/// Errors: [`Fault::ApiMisuse`] before the call is confirmed, and without a codec; [`Fault::ConfigInvalid`] when a file of the plan
/// cannot be read, or made.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ChangeMedia {
    /// Which.
    pub call: CallId,
    /// Codecs to offer and to accept from now on, best first; `None`: as before.
    pub codecs: Option<Vec<Codec>>,
    /// Video from now on, `Some(None)` for none; `None`: as before.
    pub video: Option<Option<VideoPlan>>,
}

/// Sends silence in the place of the source, or the source again. The peer is not told. What a bridge or a conference brings is not
/// muted.
///
/// Errors: [`Fault::ApiMisuse`] when the call has no media yet, or no more.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Mute {
    /// Which.
    pub call: CallId,
    /// From now on.
    pub muted: bool,
}

impl Handler<ChangeMedia> for Gateway {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, message: ChangeMedia, _: &mut Context<Self>) -> Self::Result {
        const OPERATION: &str = "change media";
        let ChangeMedia { call, codecs, video } = message;
        let change = MediaChange {
            codecs,
            video: video.map(|plan| plan.map(|plan| Arc::new(plan.or_codecs(&self.config.video_codecs)))),
        };
        let session = self.session(OPERATION, call);
        // Before anybody is asked: what cannot be shown is not offered.
        let checked = async move {
            if change.codecs.as_ref().is_some_and(Vec::is_empty) {
                return Err(Error::new(Fault::ApiMisuse, OPERATION, "there is no codec in it")
                    .advice("name at least one; to be silent, mute the call"));
            }
            let check = media::CheckMedia {
                change: Arc::new(change.clone()),
            };
            ask(&session?, check).await.map(|()| change)
        };
        Box::pin(
            checked
                .into_actor(self)
                .map(move |change, act, ctx| act.command_input(ctx, OPERATION, call, Input::Change(change?))),
        )
    }
}

impl Handler<Mute> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Mute, _: &mut Context<Self>) -> Self::Result {
        let Mute { call, muted } = message;
        let session = self.session("mute", call);
        // What is answered with an error changes nothing.
        if let (Ok(_), Some(entry)) = (&session, self.calls.get_mut(&call)) {
            entry.is_muted = muted;
        }
        Box::pin(async move { ask(&session?, media::Mute { muted }).await })
    }
}

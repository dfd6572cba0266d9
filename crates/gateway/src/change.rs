//! What the application changes of a call's media while it lasts: codecs, video, silence.

use crate::actor::Gateway;
use crate::calls::ask;
use crate::machine::Input;
use crate::messages::MediaPlan;
use actix::prelude::*;
use siprtc_core::media::{Codec, Direction};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_media_session::{self as media, MediaChange, MediaSession, Sink, Source, VideoPlan};
use std::sync::Arc;

/// Offers the peer other codecs, another direction or other video, or none (RFC 3264 section 8), with a re-INVITE.
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
    /// Which way audio shall flow from now on, from our side; `None`: as before. A hold is on top of it.
    pub direction: Option<Direction>,
    /// Video from now on, `Some(None)` for none; `None`: as before.
    pub video: Option<Option<VideoPlan>>,
}

/// Another source and another sink of audio from now on. The peer is not told. What is the same as before goes on; what a bridge or a
/// conference brings has precedence.
///
/// Errors: [`Fault::ApiMisuse`] when the call has no media yet, or no more; [`Fault::ConfigInvalid`] when a file cannot be read, or made.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct SetAudio {
    /// Which.
    pub call: CallId,
    /// What is sent.
    pub source: Source,
    /// What becomes of what is received.
    pub sink: Sink,
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
        let ChangeMedia {
            call,
            codecs,
            direction,
            video,
        } = message;
        let change = MediaChange {
            codecs,
            direction,
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

impl Handler<SetAudio> for Gateway {
    type Result = ResponseActFuture<Self, Result<()>>;

    fn handle(&mut self, message: SetAudio, _: &mut Context<Self>) -> Self::Result {
        let SetAudio { call, source, sink } = message;
        let session = self.session("change audio", call);
        self.set_audio(call, session, (source, sink))
    }
}

impl Gateway {
    fn set_audio(
        &self,
        call: CallId,
        session: Result<Addr<MediaSession>>,
        (source, sink): (Source, Sink),
    ) -> ResponseActFuture<Self, Result<()>> {
        let set = media::SetAudio {
            source: source.clone(),
            sink: sink.clone(),
        };
        let set = async move { ask(&session?, set).await };
        Box::pin(set.into_actor(self).map(move |done, act, _| {
            done?;
            if let Some(entry) = act.calls.get_mut(&call) {
                (entry.media.source, entry.media.sink) = (source, sink);
            }
            Ok(())
        }))
    }

    /// Answers a call whose media runs already, with another plan.
    pub(crate) fn answer_otherwise(
        &mut self,
        call: CallId,
        session: Addr<MediaSession>,
        media: MediaPlan,
    ) -> ResponseActFuture<Self, Result<()>> {
        const OPERATION: &str = "answer";
        let change = match self.calls.get(&call) {
            Some(entry) => entry.change_to(&media, &self.config.video_codecs),
            None => MediaChange::default(),
        };
        let check = media::CheckMedia {
            change: Arc::new(change.clone()),
        };
        let checking = session.clone();
        let checked = async move { ask(&checking, check).await };
        let MediaPlan { source, sink, .. } = media;
        Box::pin(checked.into_actor(self).then(move |checked, act, _| {
            let set = act.set_audio(call, checked.map(|()| session), (source, sink));
            set.map(move |set, act, ctx| {
                set?;
                act.command_input(ctx, OPERATION, call, Input::AnswerWith(change))
            })
        }))
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

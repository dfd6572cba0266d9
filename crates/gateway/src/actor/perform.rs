//! Does what a call's machine says.

use super::{Gateway, House};
use crate::calls::{self, Done, ask};
use crate::machine::{Command, Epoch, Input, Output, TRICKLE_ICE, Terms, Told};
use crate::messages::*;
use actix::dev::ToEnvelope;
use actix::prelude::*;
use siprtc_core::media::{Dialect, IceMode, MediaEngine};
use siprtc_core::sip::Headers;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, DialogManager};
use siprtc_media_session::{self as media, Fork, MediaChange, MediaSession};
use siprtc_nat_agent::{CallPlan, PlanCall};
use siprtc_sdp_translator::Negotiated;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The body of an INFO with candidates (RFC 8840 section 9).
const SDPFRAG: &str = "application/trickle-ice-sdpfrag";

impl Gateway {
    /// Gives an input to a call and does all that it asks for. `false`: the call is unknown, or it means nothing now.
    pub(crate) fn input(&mut self, ctx: &mut Context<Self>, id: CallId, input: Input) -> bool {
        let Some(entry) = self.calls.get_mut(&id) else {
            return false;
        };
        let span = entry.span.clone();
        let _entered = span.enter();
        let outer = self.in_hand.replace(id);
        let taken = entry.call.handle(tokio::time::Instant::now().into_std(), input);
        self.drain(ctx, id);
        self.in_hand = outer;
        taken
    }

    pub(super) fn drain(&mut self, ctx: &mut Context<Self>, id: CallId) {
        while let Some(output) = self.calls.get_mut(&id).and_then(|entry| entry.call.poll()) {
            self.perform(ctx, id, output);
        }
        let Some(entry) = self.calls.get_mut(&id) else {
            return;
        };
        if let (Some(at), None) = (entry.call.poll_timeout(), entry.timer) {
            let wait = at.saturating_duration_since(tokio::time::Instant::now().into_std());
            entry.timer = Some(ctx.run_later(wait, move |act, ctx| {
                if let Some(entry) = act.calls.get_mut(&id) {
                    entry.timer = None;
                    let outer = act.in_hand.replace(id);
                    entry.call.handle_timeout(tokio::time::Instant::now().into_std());
                    act.drain(ctx, id);
                    act.in_hand = outer;
                }
            }));
        }
    }

    fn perform(&mut self, ctx: &mut Context<Self>, id: CallId, output: Output) {
        use Command as C;
        match output {
            Output::Accept(sdp) => self.command(ctx, id, C::Accept, dialog::Accept { call: id, sdp }),
            Output::AcceptFork {
                fork,
                offer,
                answer,
                is_heard,
            } => self.accept_fork(ctx, id, (fork, is_heard), (offer, answer)),
            Output::AcceptOffer(sdp) => {
                self.command(ctx, id, C::AcceptOffer, dialog::AcceptOffer { call: id, sdp });
            }
            Output::AddCandidates { fork, candidates } => {
                if let Some((_, session)) = self.calls.get(&id).and_then(|entry| entry.session.clone()) {
                    let added = session.send(media::AddCandidates { fork, candidates });
                    actix::spawn(async move {
                        if let Ok(Err(error)) = added.await {
                            tracing::warn!(call_id = %id, %error, "candidates of the peer's are not used");
                        }
                    });
                }
            }
            Output::ApplyAnswer { epoch, offer, answer } => {
                let quiet = self.is_quiet(id);
                self.step(ctx, id, epoch, move |session, house, dialect| {
                    calls::apply_answer(session, house.translator, (offer, answer), dialect, quiet)
                })
            }
            Output::CloseMedia => self.close_media(ctx, id),
            Output::Forget => self.forget(ctx, id),
            Output::HangUp { reason } => {
                self.command(ctx, id, C::HangUp, dialog::Hangup { call: id, reason });
            }
            Output::Invite { target, offer } => {
                let headers = self.headers(id);
                self.command(
                    ctx,
                    id,
                    C::Invite,
                    dialog::Invite {
                        call: id,
                        target,
                        offer,
                        headers,
                    },
                );
            }
            Output::MakeAnswer { epoch, offer } => {
                let (codecs, trickle) = (self.config.codecs.clone(), self.config.trickle);
                let quiet = self.is_quiet(id);
                self.step(ctx, id, epoch, move |session, house, dialect| {
                    calls::make_answer(
                        session,
                        house.translator,
                        (offer, codecs),
                        trickle,
                        dialect,
                        quiet,
                    )
                });
            }
            Output::MakeOffer { epoch } => {
                let (trickle, room) = (self.config.trickle, self.room(id));
                self.step(ctx, id, epoch, move |session, house, dialect| {
                    calls::make_offer(session, house, trickle, room, dialect)
                });
            }
            Output::Progress(sdp) => self.ring(ctx, id, Some(sdp)),
            Output::ReInvite { offer, early } => {
                let message = dialog::Reinvite {
                    call: id,
                    offer,
                    early,
                };
                self.command(ctx, id, C::ReInvite, message);
            }
            Output::Refuse(302) => {
                let entry = self.calls.get_mut(&id);
                let contacts = entry.map_or_else(Vec::new, |entry| std::mem::take(&mut entry.redirect));
                self.command(ctx, id, C::Refuse, dialog::Redirect { call: id, contacts });
            }
            Output::Refuse(status) => self.command(ctx, id, C::Refuse, dialog::Reject { call: id, status }),
            Output::RefuseOffer(status) => {
                self.command(ctx, id, C::RefuseOffer, dialog::RejectOffer { call: id, status });
            }
            Output::ReportReferral(status) => self.report_referral(ctx, id, status),
            Output::ReplaceMedia => self.replace_media(id),
            Output::RestartIce => {
                if let Some((_, session)) = self.calls.get(&id).and_then(|entry| entry.session.clone()) {
                    // Before the offer in the same mailbox. An engine that cannot offers what it has.
                    let restarted = session.send(media::RestartIce);
                    actix::spawn(async move {
                        if let Ok(Err(error)) = restarted.await {
                            tracing::warn!(call_id = %id, %error, "ICE is not restarted");
                        }
                    });
                }
            }
            Output::Ring => self.ring(ctx, id, None),
            Output::Screen { epoch, offer } => match self.house(ctx) {
                Ok(house) => {
                    let codecs = self.config.codecs.clone();
                    let engines = (self.config.engine.clone(), self.config.classic.clone());
                    self.run(
                        ctx,
                        id,
                        epoch,
                        calls::screen(house.translator, offer, codecs, engines),
                    );
                }
                Err(error) => self.stepped(ctx, id, epoch, Err(error)),
            },
            Output::SendCandidates(body) => self.command(
                ctx,
                id,
                C::SendCandidates,
                dialog::SendInfo {
                    call: id,
                    package: TRICKLE_ICE.to_owned(),
                    content_type: SDPFRAG.to_owned(),
                    body,
                },
            ),
            Output::SetMedia(terms) => self.set_media(id, terms),
            Output::TakeFork {
                epoch,
                fork,
                offer,
                answer,
            } => self.step(ctx, id, epoch, move |session, house, dialect| {
                calls::take_fork(session, house.translator, (offer, answer), dialect, fork)
            }),
            Output::TakeReferral(referral) => self.take_referral(ctx, id, referral),
            Output::Tell(told) => {
                let takes_place = matches!(
                    told,
                    Told::Incoming {
                        replaces: Some(_),
                        ..
                    }
                );
                self.concerns_another(ctx, id, &told);
                self.tell_told(id, told);
                if takes_place {
                    self.take_place(ctx, id);
                }
            }
            Output::UndoOffer => {
                if let Some((_, session)) = self.calls.get(&id).and_then(|entry| entry.session.clone()) {
                    // `send` takes its place in the mailbox here and now: before the next step. A peer that did not
                    // get as far as an offer has nothing to take back, and says so.
                    let undone = session.send(media::Rollback);
                    actix::spawn(async move { drop(undone.await) });
                }
            }
            Output::UseClassic { heard } => {
                self.replace_media(id);
                if let Some(entry) = self.calls.get_mut(&id) {
                    entry.is_classic = true;
                    entry.heard = heard;
                }
            }
        }
    }

    fn ring(&mut self, ctx: &mut Context<Self>, call: CallId, answer: Option<String>) {
        self.command(ctx, call, Command::Ring, dialog::Ring { call, answer });
    }

    fn set_media(&mut self, id: CallId, terms: Terms) {
        let Some(entry) = self.calls.get_mut(&id) else {
            return;
        };
        let Terms { held, change } = terms;
        entry.held = held;
        let before = std::mem::replace(&mut entry.change, change.clone());
        let plan = |change: &Option<Arc<MediaChange>>| change.as_ref()?.video.clone().flatten();
        entry.asks_for_video |= match (plan(&before), plan(&change)) {
            (Some(before), Some(plan)) => !Arc::ptr_eq(&before, &plan),
            (None, plan) => plan.is_some(),
            (Some(_), None) => false,
        };
        let is_changed = change.is_some() || before.is_some();
        let direction = entry.direction();
        let Some((_, session)) = entry.session.clone() else {
            return;
        };
        // Before the offer in the same mailbox: `send` takes its place there here and now. A hold is said on top of the change.
        let changed = is_changed.then(|| {
            session.send(media::SetMedia {
                change: change.unwrap_or_default(),
            })
        });
        let directed = session.send(media::SetDirection { direction });
        actix::spawn(async move {
            let mut set = vec![directed.await];
            if let Some(changed) = changed {
                set.push(changed.await);
            }
            for error in set.into_iter().flatten().filter_map(Result::err) {
                tracing::warn!(call_id = %id, %error, "the next description does not say what it should");
            }
        });
    }

    /// The call is held, and nothing is to be heard of us.
    fn is_quiet(&self, id: CallId) -> bool {
        self.calls
            .get(&id)
            .is_some_and(|entry| entry.held && !entry.plays_on)
    }

    fn replace_media(&mut self, id: CallId) {
        if let Some(session) = self.take_session(id) {
            actix::spawn(async move { drop(ask(&session, media::Close).await) });
        }
    }

    /// The engine that carries a call.
    fn engine(&self, id: CallId) -> &Arc<dyn MediaEngine> {
        let is_classic = self.calls.get(&id).is_some_and(|entry| entry.is_classic);
        let classic = self.config.classic.as_ref().filter(|_| is_classic);
        classic.unwrap_or(&self.config.engine)
    }

    fn tell_told(&mut self, id: CallId, told: Told) {
        let kind = match told {
            Told::Accepted => CallEventKind::Accepted,
            Told::Confirmed => CallEventKind::Confirmed,
            Told::Ended(ending) => {
                if let Some(entry) = self.calls.get(&id) {
                    entry.span.record("cause", ending.cause.as_str());
                }
                tracing::info!(call_id = %id, cause = %ending.cause, status = ending.status, sentence = ending.sentence, "call over");
                if ending.established {
                    CallEventKind::Ended(ending)
                } else {
                    CallEventKind::Failed(ending)
                }
            }
            Told::Held(by) => CallEventKind::Held { by },
            Told::HoldRefused(held) => CallEventKind::HoldRefused { held },
            Told::MediaChanged => CallEventKind::MediaChanged,
            Told::MediaRefused => CallEventKind::MediaRefused,
            Told::Incoming {
                from,
                to,
                replaces,
                head,
            } => CallEventKind::Incoming {
                from,
                to,
                replaces,
                head,
            },
            Told::Progress { status, early_media } => CallEventKind::Progress { status, early_media },
            Told::Resumed(by) => CallEventKind::Resumed { by },
            Told::TransferLapsed => CallEventKind::TransferLapsed,
            Told::TransferProgress(status) => CallEventKind::TransferProgress { status },
            Told::TransferRefused(status) => CallEventKind::TransferRefused { status },
            Told::TransferWanted(referral) => CallEventKind::TransferWanted {
                replaces: referral.replaces(),
                to: referral.target,
                referred_by: referral.referred_by,
            },
            Told::Transferred => CallEventKind::Transferred,
        };
        self.tell(id, kind);
    }

    /// A command to the dialog manager; the call hears of it when it fails.
    pub(crate) fn command<M>(&mut self, ctx: &mut Context<Self>, id: CallId, command: Command, message: M)
    where
        M: Message<Result = Result<()>> + Send + 'static,
        DialogManager: Handler<M>,
        <DialogManager as Actor>::Context: ToEnvelope<DialogManager, M>,
    {
        let Ok(house) = self.house(ctx) else { return };
        // `send` takes its place in the mailbox here and now, so commands keep their order.
        let sent = house.dialogs.send(message);
        let answer = async move {
            sent.await.unwrap_or_else(|error| {
                Err(
                    Error::new(Fault::Backend, "command the dialog manager", "it is gone")
                        .advice("this is a defect of siprtc: report it with the log above this line")
                        .caused_by(error),
                )
            })
        };
        self.detach(ctx, id, answer, move |result, act, ctx| {
            if let Err(error) = result {
                tracing::debug!(call_id = %id, ?command, %error, "the dialog manager refuses");
                act.input(ctx, id, Input::CommandFailed(command, error));
            }
        });
    }

    /// A step of the call's media peer, which is made first when there is none.
    fn step<F, Fut>(&mut self, ctx: &mut Context<Self>, id: CallId, epoch: Epoch, work: F)
    where
        F: FnOnce(Addr<MediaSession>, House, Dialect) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Done>> + 'static,
    {
        let house = match self.house(ctx) {
            Ok(house) => house,
            Err(error) => return self.stepped(ctx, id, epoch, Err(error)),
        };
        let dialect = self.engine(id).dialect();
        let session = self.calls.get(&id).and_then(|entry| entry.session.clone());
        if let Some((_, session)) = session {
            return self.run(ctx, id, epoch, work(session, house, dialect));
        }
        let nat = house.nat.clone();
        let plan = async move { ask(&nat, PlanCall).await };
        self.detach(ctx, id, plan, move |plan, act, ctx| {
            if !act.awaits(id, epoch) {
                return;
            }
            match plan.and_then(|plan| act.open_session(ctx, id, plan)) {
                Ok(session) => act.run(ctx, id, epoch, work(session, house, dialect)),
                Err(error) => act.stepped(ctx, id, epoch, Err(error)),
            }
        });
    }

    fn run<Fut>(&mut self, ctx: &mut Context<Self>, id: CallId, epoch: Epoch, work: Fut)
    where
        Fut: Future<Output = Result<Done>> + 'static,
    {
        self.detach(ctx, id, work, move |result, act, ctx| {
            act.stepped(ctx, id, epoch, result)
        });
    }

    fn stepped(&mut self, ctx: &mut Context<Self>, id: CallId, epoch: Epoch, result: Result<Done>) {
        if let (Ok(Done { is_classic: true, .. }), Some(entry)) = (&result, self.calls.get_mut(&id)) {
            entry.is_classic = true;
        }
        let agreed = result.as_ref().ok().and_then(|done| done.agreed);
        if let Some(agreed) = agreed.filter(|_| self.awaits(id, epoch)) {
            self.tell_agreed(id, agreed);
        }
        self.input(ctx, id, Input::Step(epoch, result.map(|done| done.step)));
    }

    fn tell_agreed(&mut self, id: CallId, agreed: Negotiated) {
        let mut video = None;
        if let Some(entry) = self.calls.get_mut(&id) {
            entry.telephone_event = agreed.audio.telephone_event.is_some();
            let is_asked = std::mem::take(&mut entry.asks_for_video);
            let is_new = std::mem::replace(&mut entry.video, agreed.video) != agreed.video;
            video = (is_new || is_asked).then_some(agreed.video);
        }
        self.tell(id, CallEventKind::Negotiated(agreed.audio));
        if let Some(video) = video {
            self.tell(id, CallEventKind::NegotiatedVideo(video));
        }
    }

    fn accept_fork(
        &mut self,
        ctx: &mut Context<Self>,
        id: CallId,
        (fork, is_heard): (Fork, bool),
        offer_and_answer: (String, String),
    ) {
        let session = self.calls.get(&id).and_then(|entry| entry.session.clone());
        let (Some((_, session)), Ok(house)) = (session, self.house(ctx)) else {
            return;
        };
        let dialect = self.engine(id).dialect();
        let (translator, which) = (house.translator, (fork, is_heard));
        let opened = calls::accept_fork(session, translator, offer_and_answer, dialect, which);
        self.detach(ctx, id, opened, move |opened, act, ctx| {
            let is_awaited = (act.calls.get(&id)).is_some_and(|entry| entry.call.awaits_fork(fork));
            if let (Ok(Some(agreed)), true) = (&opened, is_awaited) {
                act.tell_agreed(id, *agreed);
            }
            act.input(ctx, id, Input::Forked(fork, opened.map(drop)));
        });
    }

    fn awaits(&self, id: CallId, epoch: Epoch) -> bool {
        self.calls.get(&id).is_some_and(|entry| entry.call.awaits(epoch))
    }

    fn open_session(
        &mut self,
        ctx: &mut Context<Self>,
        id: CallId,
        plan: CallPlan,
    ) -> Result<Addr<MediaSession>> {
        let engine = self.engine(id).clone();
        let config = &self.config;
        let mut ice = plan.ice;
        if engine.ice() != IceMode::External && config.builtin_ice {
            ice.paths = None;
        }
        let entry = self
            .calls
            .get_mut(&id)
            .ok_or_else(|| Error::new(Fault::ApiMisuse, "open a media peer", "the call is over already"))?;
        if config.trickle == Trickle::Full && entry.call.may_trickle() {
            ice.gather_budget = Duration::ZERO;
        }
        let mut processing = media::Processing {
            silence_detection: config.silence_detection,
            quiet: config.quiet,
            ..media::Processing::default()
        };
        entry.media.stages.put_into(&mut processing)?;
        let session = MediaSession::new(
            media::SessionConfig {
                call: id,
                engine,
                runtime: config.runtime.clone(),
                ice,
                codecs: config.codecs.clone(),
                source: entry.media.source.clone(),
                sink: entry.media.sink.clone(),
                direction: entry.direction(),
                ptime: config.ptime,
                video: entry
                    .media
                    .video
                    .clone()
                    .map(|plan| plan.or_codecs(&config.video_codecs)),
                heard: entry.heard.clone(),
            },
            ctx.address().recipient(),
        )
        .with_processing(processing);
        let session_id = session.id();
        let session = super::watch::session(session, id, ctx.address());
        entry.session = Some((session_id, session.clone()));
        // A peer in another's place goes on with what was changed. Its mailbox is empty, and takes it.
        if let Some(change) = entry.change.clone() {
            drop(session.try_send(media::SetMedia { change }));
        }
        if entry.is_muted {
            drop(session.try_send(media::Mute { muted: true }));
        }
        Ok(session)
    }

    /// What the application, or the peer that asked for the call, wants in its INVITE.
    fn headers(&self, id: CallId) -> Headers {
        let entry = self.calls.get(&id);
        entry.map_or_else(Headers::new, |entry| entry.headers.clone())
    }

    /// For whom an offer has to fit into a datagram.
    fn room(&self, id: CallId) -> Option<dialog::MeasureInvite> {
        Some(dialog::MeasureInvite {
            target: self.calls.get(&id)?.call.target()?.clone(),
            headers: self.headers(id),
            datagram: self.config.datagram?,
        })
    }

    fn take_session(&mut self, id: CallId) -> Option<Addr<MediaSession>> {
        let (_, session) = self.calls.get_mut(&id)?.session.take()?;
        Some(session)
    }

    fn close_media(&mut self, ctx: &mut Context<Self>, id: CallId) {
        let Some(session) = self.take_session(id) else {
            self.input(ctx, id, Input::MediaClosed(None));
            return;
        };
        let close = async move { ask(&session, media::Close).await };
        self.detach(ctx, id, close, move |stats, act, ctx| {
            let stats =
                stats.inspect_err(|error| tracing::warn!(call_id = %id, %error, "media did not close clean"));
            act.input(ctx, id, Input::MediaClosed(stats.ok().map(Box::new)));
        });
    }

    pub(super) fn forget(&mut self, ctx: &mut Context<Self>, id: CallId) {
        if let Some(timer) = self.calls.remove(&id).and_then(|entry| entry.timer) {
            ctx.cancel_future(timer);
        }
        if self.calls.is_empty() {
            for waiting in self.idle.drain(..) {
                let _ = waiting.send(()); // Whoever waited may have given up.
            }
        }
    }

    pub(super) fn span(&self, id: CallId) -> tracing::Span {
        self.calls
            .get(&id)
            .map_or_else(tracing::Span::none, |entry| entry.span.clone())
    }
}

//! The hub: the only actor that knows the other five. It asks [`Call`](crate::machine::Call) what to do, and does it.

use crate::calls::{self, Done, Entry, ask};
use crate::machine::{Epoch, Input, Output, Told, wrong_state};
use crate::messages::*;
use crate::router::{DIALOGS, REGISTRAR, Router};
use actix::prelude::*;
use siprtc_core::media::MediaEvent;
use siprtc_core::sip::{Headers, SipStack};
use siprtc_core::{CallId, Cause, Error, Fault, Result};
use siprtc_dialog_manager as dialog;
use siprtc_dialog_manager::{DialogEvent, DialogEventKind, DialogManager, Side};
use siprtc_media_session::{self as media, MediaSession, SessionEvent, SessionEventKind};
use siprtc_nat_agent::{CallPlan, NatAgent, NatEvent, PlanCall};
use siprtc_registrar_client::{self as registrar, RegistrarClient, RegistrarConfig, RegistrationEvent};
use siprtc_sdp_translator::SdpTranslator;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::Instrument;

/// The SIPRTC local gateway: one endpoint's calls.
///
/// Started on an arbiter, it starts the other actors on the same one; media and sockets run on the configuration's
/// runtime.
pub struct Gateway {
    config: GatewayConfig,
    stack: Arc<dyn SipStack>,
    router: Arc<Router>,
    events: Recipient<GatewayEvent>,
    house: Option<House>,
    calls: HashMap<CallId, Entry>,
    idle: Vec<oneshot::Sender<()>>,
    closing: bool,
}

/// The actors around the hub.
#[derive(Clone)]
struct House {
    dialogs: Addr<DialogManager>,
    registrar: Addr<RegistrarClient>,
    translator: Addr<SdpTranslator>,
    nat: Addr<NatAgent>,
}

impl Gateway {
    /// Commands and events that may wait; beyond it the sender's own policy holds.
    pub const MAILBOX: usize = 1024;

    /// A gateway over a stack that was started with `router` as its sink.
    pub fn new(
        config: GatewayConfig,
        stack: Arc<dyn SipStack>,
        router: Arc<Router>,
        events: Recipient<GatewayEvent>,
    ) -> Self {
        Gateway {
            config,
            stack,
            router,
            events,
            house: None,
            calls: HashMap::new(),
            idle: Vec::new(),
            closing: false,
        }
    }

    fn furnish(&self, hub: &Addr<Gateway>) -> House {
        let account = &self.config.account;
        let dialogs = DialogManager::new(
            dialog::DialogConfig {
                account: dialog::Account {
                    aor: account.aor.clone(),
                    display_name: account.display_name.clone(),
                    contact: account.contact.clone(),
                    secret: account.secret.clone(),
                    outbound: account.outbound.clone(),
                },
                timers: self.config.timers,
                max_calls: self.config.max_calls,
                answer_options: true,
                no_answer: self.config.no_answer,
            },
            self.stack.clone(),
            DIALOGS,
            hub.clone().recipient(),
        );
        let registrar = RegistrarClient::new(
            RegistrarConfig {
                aor: account.aor.clone(),
                contact: account.contact.clone(),
                registrars: account.registrars.clone(),
                secret: account.secret.clone(),
                expires: account.expires,
                backoff: account.backoff.clone(),
                instance: account.instance.clone(),
            },
            self.stack.clone(),
            REGISTRAR,
            hub.clone().recipient(),
        );
        House {
            dialogs: dialogs.start(),
            registrar: registrar.start(),
            translator: SdpTranslator::default().start(),
            nat: self.nat_agent(hub),
        }
    }

    fn nat_agent(&self, hub: &Addr<Gateway>) -> Addr<NatAgent> {
        NatAgent::new(self.config.nat.clone(), self.config.runtime.clone(), hub.clone().recipient()).start()
    }

    /// The other actors. Supervision does not bring an actor back after a panic: the two that keep no call's state are
    /// made anew here, and no call notices.
    fn house(&mut self, ctx: &Context<Self>) -> Result<House> {
        let hub = ctx.address();
        let nat_is_gone = self.house.as_ref().is_some_and(|house| !house.nat.connected());
        let nat = nat_is_gone.then(|| self.nat_agent(&hub));
        let Some(house) = &mut self.house else {
            return Err(Error::new(Fault::ApiMisuse, "use the gateway", "it is not started or already stopped"));
        };
        if let Some(nat) = nat {
            tracing::error!("the NAT agent was gone and is made anew: report this with the log above");
            house.nat = nat;
        }
        if !house.translator.connected() {
            tracing::error!("the SDP translator was gone and is made anew: report this with the log above");
            house.translator = SdpTranslator::default().start();
        }
        Ok(house.clone())
    }

    fn tell(&self, call: CallId, kind: CallEventKind) {
        let event = CallEvent { call, at: tokio::time::Instant::now(), kind };
        self.tell_all(GatewayEvent::Call(event));
    }

    fn tell_all(&self, event: GatewayEvent) {
        // Policy: an application that does not read its events loses them; calls go on.
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "the application does not take its events");
        }
    }

    /// Gives an input to a call and does all that it asks for. `false`: the call is unknown, or it means nothing now.
    fn input(&mut self, ctx: &mut Context<Self>, id: CallId, input: Input) -> bool {
        let Some(entry) = self.calls.get_mut(&id) else { return false };
        let span = entry.span.clone();
        let _entered = span.enter();
        let taken = entry.call.handle(tokio::time::Instant::now().into_std(), input);
        self.drain(ctx, id);
        taken
    }

    fn drain(&mut self, ctx: &mut Context<Self>, id: CallId) {
        while let Some(output) = self.calls.get_mut(&id).and_then(|entry| entry.call.poll()) {
            self.perform(ctx, id, output);
        }
        let Some(entry) = self.calls.get_mut(&id) else { return };
        if let (Some(at), None) = (entry.call.poll_timeout(), entry.timer) {
            let wait = at.saturating_duration_since(tokio::time::Instant::now().into_std());
            entry.timer = Some(ctx.run_later(wait, move |act, ctx| {
                if let Some(entry) = act.calls.get_mut(&id) {
                    entry.timer = None;
                    entry.call.handle_timeout(tokio::time::Instant::now().into_std());
                    act.drain(ctx, id);
                }
            }));
        }
    }

    fn perform(&mut self, ctx: &mut Context<Self>, id: CallId, output: Output) {
        match output {
            Output::Accept(sdp) => self.command(ctx, id, dialog::Accept { call: id, sdp }),
            Output::AcceptOffer(sdp) => self.command(ctx, id, dialog::AcceptOffer { call: id, sdp }),
            Output::ApplyAnswer { epoch, offer, answer } => self.step(ctx, id, epoch, |session, house| {
                calls::apply_answer(session, house.translator, offer, answer)
            }),
            Output::CloseMedia => self.close_media(ctx, id),
            Output::Forget => self.forget(ctx, id),
            Output::HangUp { reason } => self.command(ctx, id, dialog::Hangup { call: id, reason }),
            Output::Invite { target, offer } => {
                self.command(ctx, id, dialog::Invite { call: id, target, offer, headers: Headers::new() })
            }
            Output::MakeAnswer { epoch, offer } => {
                self.step(ctx, id, epoch, |session, house| calls::make_answer(session, house.translator, offer))
            }
            Output::MakeOffer { epoch } => {
                self.step(ctx, id, epoch, |session, house| calls::make_offer(session, house.translator))
            }
            Output::Refuse(status) => self.command(ctx, id, dialog::Reject { call: id, status }),
            Output::RefuseOffer { status, undo } => {
                if undo && let Some((_, session)) = self.calls.get(&id).and_then(|entry| entry.session.clone()) {
                    // The peer may not have got as far as an offer: then there is nothing to take back.
                    ctx.spawn(async move { drop(ask(&session, media::Rollback).await) }.into_actor(self));
                }
                self.command(ctx, id, dialog::RejectOffer { call: id, status });
            }
            Output::ReInvite(offer) => self.command(ctx, id, dialog::Reinvite { call: id, offer }),
            Output::ReplaceMedia => {
                if let Some((_, session)) = self.calls.get_mut(&id).and_then(|entry| entry.session.take()) {
                    ctx.spawn(async move { drop(ask(&session, media::Close).await) }.into_actor(self));
                }
            }
            Output::Ring => self.command(ctx, id, dialog::Ring { call: id, answer: None }),
            Output::Screen { epoch, offer } => match self.house(ctx) {
                Ok(house) => self.run(ctx, id, epoch, calls::screen(house.translator, offer)),
                Err(error) => self.stepped(ctx, id, epoch, Err(error)),
            },
            Output::Tell(told) => self.tell_told(id, told),
        }
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
                if ending.established { CallEventKind::Ended(ending) } else { CallEventKind::Failed(ending) }
            }
            Told::Incoming { from, to } => CallEventKind::Incoming { from, to },
            Told::Progress { status, early_media } => CallEventKind::Progress { status, early_media },
        };
        self.tell(id, kind);
    }

    /// A command to the dialog manager. One that fails ends the call, for the two would disagree from then on.
    fn command<M>(&mut self, ctx: &mut Context<Self>, id: CallId, message: M)
    where
        M: Message<Result = Result<()>> + Send + 'static,
        DialogManager: Handler<M>,
        <DialogManager as Actor>::Context: actix::dev::ToEnvelope<DialogManager, M>,
    {
        let Ok(house) = self.house(ctx) else { return };
        let span = self.span(id);
        // `send` takes its place in the mailbox here and now, so commands keep their order.
        let sent = house.dialogs.send(message);
        let answer = async move {
            sent.await.unwrap_or_else(|error| {
                Err(Error::new(Fault::Backend, "command the dialog manager", "it is gone").caused_by(error))
            })
        };
        ctx.spawn(answer.instrument(span).into_actor(self).map(move |result, act, ctx| {
            if let Err(error) = result {
                tracing::warn!(call_id = %id, %error, "the dialog manager refuses");
                let ended = DialogEventKind::Ended {
                    cause: if error.fault() == Fault::ApiMisuse { Cause::Internal } else { Cause::ConnectionFailed },
                    by: Side::Local,
                    status: None,
                    reason: Some(error.to_string()),
                };
                act.input(ctx, id, Input::Dialog(ended));
            }
        }));
    }

    /// A step of the call's media peer, which is made first when there is none.
    fn step<F, Fut>(&mut self, ctx: &mut Context<Self>, id: CallId, epoch: Epoch, work: F)
    where
        F: FnOnce(Addr<MediaSession>, House) -> Fut + 'static,
        Fut: Future<Output = Result<Done>> + 'static,
    {
        let house = match self.house(ctx) {
            Ok(house) => house,
            Err(error) => return self.stepped(ctx, id, epoch, Err(error)),
        };
        let session = self.calls.get(&id).and_then(|entry| entry.session.clone());
        if let Some((_, session)) = session {
            return self.run(ctx, id, epoch, work(session, house));
        }
        let nat = house.nat.clone();
        let plan = async move { ask(&nat, PlanCall).await }.instrument(self.span(id));
        ctx.spawn(plan.into_actor(self).map(move |plan, act, ctx| {
            match plan.and_then(|plan| act.open_session(ctx, id, plan)) {
                Ok(session) => act.run(ctx, id, epoch, work(session, house)),
                Err(error) => act.stepped(ctx, id, epoch, Err(error)),
            }
        }));
    }

    fn run<Fut>(&mut self, ctx: &mut Context<Self>, id: CallId, epoch: Epoch, work: Fut)
    where
        Fut: Future<Output = Result<Done>> + 'static,
    {
        let work = work.instrument(self.span(id));
        ctx.spawn(work.into_actor(self).map(move |result, act, ctx| act.stepped(ctx, id, epoch, result)));
    }

    fn stepped(&mut self, ctx: &mut Context<Self>, id: CallId, epoch: Epoch, result: Result<Done>) {
        let result = result.map(|done| {
            if let Some(audio) = done.audio {
                self.tell(id, CallEventKind::Negotiated(audio));
            }
            done.step
        });
        self.input(ctx, id, Input::Step(epoch, result));
    }

    fn open_session(&mut self, ctx: &mut Context<Self>, id: CallId, plan: CallPlan) -> Result<Addr<MediaSession>> {
        let config = &self.config;
        let entry = self.calls.get_mut(&id).filter(|entry| !entry.closing).ok_or_else(|| {
            Error::new(Fault::ApiMisuse, "open a media peer", "the call is over already")
        })?;
        let session = MediaSession::new(
            media::SessionConfig {
                call: id,
                engine: config.engine.clone(),
                runtime: config.runtime.clone(),
                ice: plan.ice,
                codecs: config.codecs.clone(),
                source: entry.media.source.clone(),
                sink: entry.media.sink.clone(),
                direction: entry.media.direction,
                ptime: config.ptime,
            },
            ctx.address().recipient(),
        );
        let session_id = session.id();
        let session = session.start();
        entry.session = Some((session_id, session.clone()));
        Ok(session)
    }

    fn close_media(&mut self, ctx: &mut Context<Self>, id: CallId) {
        let Some(entry) = self.calls.get_mut(&id) else { return };
        entry.closing = true;
        let Some((_, session)) = entry.session.take() else {
            self.input(ctx, id, Input::MediaClosed(None));
            return;
        };
        let close = async move { ask(&session, media::Close).await }.instrument(self.span(id));
        ctx.spawn(close.into_actor(self).map(move |stats, act, ctx| {
            let stats = stats.inspect_err(|error| tracing::warn!(call_id = %id, %error, "media did not close clean"));
            act.input(ctx, id, Input::MediaClosed(stats.ok().map(Box::new)));
        }));
    }

    fn forget(&mut self, ctx: &mut Context<Self>, id: CallId) {
        if let Some(timer) = self.calls.remove(&id).and_then(|entry| entry.timer) {
            ctx.cancel_future(timer);
        }
        if self.calls.is_empty() {
            for waiting in self.idle.drain(..) {
                let _ = waiting.send(()); // Whoever waited may have given up.
            }
        }
    }

    fn span(&self, id: CallId) -> tracing::Span {
        self.calls.get(&id).map_or_else(tracing::Span::none, |entry| entry.span.clone())
    }

    fn session(&self, operation: &'static str, id: CallId) -> Result<Addr<MediaSession>> {
        let entry = self.calls.get(&id).ok_or_else(|| unknown(operation, id))?;
        let session = entry.session.as_ref().map(|(_, session)| session.clone());
        session.ok_or_else(|| wrong_state(operation, id, entry.call.state()))
    }

    /// An application's command: an error when the call is unknown or in no state for it.
    fn command_input(&mut self, ctx: &mut Context<Self>, op: &'static str, id: CallId, input: Input) -> Result<()> {
        let state = self.calls.get(&id).ok_or_else(|| unknown(op, id))?.call.state();
        if self.input(ctx, id, input) { Ok(()) } else { Err(wrong_state(op, id, state)) }
    }
}

fn unknown(operation: &'static str, id: CallId) -> Error {
    Error::new(Fault::ApiMisuse, operation, format!("{id} is unknown or over"))
        .advice("a call is over after its Ended or Failed event")
}

impl Actor for Gateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(Gateway::MAILBOX);
        let house = self.furnish(&ctx.address());
        self.router.bind(house.dialogs.clone().recipient(), house.registrar.clone().recipient());
        self.house = Some(house);
    }
}

impl Handler<Dial> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Dial, ctx: &mut Context<Self>) -> Result<()> {
        if self.closing || self.calls.len() >= self.config.max_calls {
            let most = self.config.max_calls;
            return Err(Error::new(Fault::ApiMisuse, "dial", format!("{most} calls are the most, or we are closing"))
                .advice("raise call.max_calls, or hang a call up first"));
        }
        let id = message.call;
        if self.calls.contains_key(&id) {
            return Err(Error::new(Fault::ApiMisuse, "dial", format!("{id} exists already"))
                .advice("take a CallId::fresh() for every call"));
        }
        self.calls.insert(id, Entry::new(id, "caller", message.media));
        self.input(ctx, id, Input::Dial { target: message.target });
        Ok(())
    }
}

impl Handler<Answer> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Answer, ctx: &mut Context<Self>) -> Result<()> {
        if let Some(entry) = self.calls.get_mut(&message.call)
            && entry.session.is_none()
        {
            entry.media = message.media;
        }
        self.command_input(ctx, "answer", message.call, Input::Answer)
    }
}

impl Handler<Refuse> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Refuse, ctx: &mut Context<Self>) -> Result<()> {
        if !(400..700).contains(&message.status) {
            return Err(Error::new(Fault::ApiMisuse, "refuse", format!("{} refuses nothing", message.status))
                .advice("choose a status from 400 to 699, such as 486 (busy) or 603 (decline)"));
        }
        self.command_input(ctx, "refuse", message.call, Input::Refuse { status: message.status })
    }
}

impl Handler<Hangup> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: Hangup, ctx: &mut Context<Self>) -> Result<()> {
        // Hanging up a call that is ending already is what two people do at once: no error.
        self.calls.get(&message.call).ok_or_else(|| unknown("hang up", message.call))?;
        self.input(ctx, message.call, Input::Hangup);
        Ok(())
    }
}

impl Handler<SendDtmf> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: SendDtmf, _: &mut Context<Self>) -> Self::Result {
        let session = self.session("send DTMF", message.call);
        Box::pin(async move {
            let duration_ms = message.duration.as_millis().min(u128::from(u32::MAX)) as u32;
            ask(&session?, media::SendDtmf { digits: message.digits, duration_ms }).await
        })
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
        if self.calls.is_empty() {
            drop(sender);
        } else {
            self.idle.push(sender);
            let ids: Vec<CallId> = self.calls.keys().copied().collect();
            for id in ids {
                self.input(ctx, id, Input::Hangup);
            }
        }
        let registrar = self.house(ctx).map(|house| house.registrar);
        let wait = async move {
            drop(tokio::time::timeout(message.grace, idle).await);
            let unregister = async { ask(&registrar?, registrar::Unregister).await };
            match tokio::time::timeout(message.grace.max(Duration::from_millis(100)), unregister).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "could not unregister"),
                Err(_) => tracing::warn!("the registrar did not confirm that we are gone"),
            }
        };
        Box::pin(wait.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

impl Handler<DialogEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: DialogEvent, ctx: &mut Context<Self>) {
        let id = event.call;
        if let DialogEventKind::Incoming { .. } = &event.kind {
            self.calls.entry(id).or_insert_with(|| Entry::new(id, "callee", MediaPlan::default()));
        }
        if let DialogEventKind::Incoming { sip_call_id, .. } | DialogEventKind::Started { sip_call_id } = &event.kind {
            self.span(id).record("sip_call_id", sip_call_id.as_str());
            self.tell(id, CallEventKind::Signalling { sip_call_id: sip_call_id.clone() });
        }
        self.input(ctx, id, Input::Dialog(event.kind));
    }
}

impl Handler<SessionEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, ctx: &mut Context<Self>) {
        let id = event.call;
        // What a replaced or closing peer still says concerns nobody.
        let current = self.calls.get(&id).and_then(|entry| entry.session.as_ref());
        if current.is_none_or(|(session, _)| *session != event.session) {
            return;
        }
        let kind = match event.kind {
            SessionEventKind::Media(MediaEvent::Failed(text)) => {
                self.input(ctx, id, Input::MediaLost(text));
                return;
            }
            SessionEventKind::Media(MediaEvent::Connected) => CallEventKind::Connected,
            SessionEventKind::Media(MediaEvent::Ice(state)) => CallEventKind::Ice(state),
            SessionEventKind::Media(MediaEvent::Selected(pair)) => CallEventKind::Selected(pair),
            SessionEventKind::FirstPacketSent => CallEventKind::FirstPacket { inbound: false },
            SessionEventKind::FirstPacketReceived => CallEventKind::FirstPacket { inbound: true },
            SessionEventKind::SourceEnded => CallEventKind::SourceEnded,
            SessionEventKind::Dtmf { digit, duration } => CallEventKind::Dtmf { digit, duration },
            SessionEventKind::SinkFailed { error } => CallEventKind::SinkFailed(error),
            SessionEventKind::SourceFailed { error } => CallEventKind::SourceFailed(error),
            SessionEventKind::NoMedia { since } => CallEventKind::Silent(since),
            _ => return,
        };
        self.tell(id, kind);
    }
}

impl Handler<RegistrationEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: RegistrationEvent, _: &mut Context<Self>) {
        self.tell_all(GatewayEvent::Registration(event));
    }
}

impl Handler<NatEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: NatEvent, _: &mut Context<Self>) {
        self.tell_all(GatewayEvent::Nat(event));
    }
}

//! The actor: takes requests, asks the machine which may run, and runs them on the media runtime.

use crate::events::Events;
use crate::machine::{Input, Machine, Output, Request, Ticket};
use crate::work::Work;
use crate::{
    AcceptAnswer, AcceptFork, AddCandidates, AnswerOffer, Begin, CheckMedia, Close, Confer, CreateOffer,
    Estate, HandOver, Inherit, Join, Mute, Part, Processing, Record, RestartIce, Rollback, SendDtmf,
    SessionConfig, SessionEvent, SessionId, SessionStats, SetAudio, SetDirection, SetMedia, Snapshot,
    StopRecording, TakeFork,
};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use actix::{ActorContext, fut};
use siprtc_core::{Error, Fault, Result};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

/// One media peer's audio.
///
/// Every message is answered with a `Result`. End it with [`Close`]; an actor that is stopped in another way closes its
/// peer in the background.
pub struct MediaSession {
    id: SessionId,
    runtime: Handle,
    machine: Machine,
    work: Arc<Mutex<Work>>,
    jobs: HashMap<Ticket, Job>,
    tickets: u64,
    closed: bool,
}

type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs with the session's work, or answers with an error; says whether it succeeded.
type Job = Box<dyn FnOnce(Result<Arc<Mutex<Work>>>) -> Running<'static, bool> + Send>;

impl MediaSession {
    /// The bound of its mailbox.
    pub const MAILBOX: usize = 64;

    /// A session that did nothing yet. `events` is told what happens.
    pub fn new(config: SessionConfig, events: Recipient<SessionEvent>) -> Self {
        let id = SessionId::fresh();
        let events = Arc::new(Events::new(config.call, id, events));
        MediaSession {
            id,
            runtime: config.runtime.clone(),
            machine: Machine::new(),
            work: Arc::new(Mutex::new(Work::new(config, events))),
            jobs: HashMap::new(),
            tickets: 0,
            closed: false,
        }
    }

    /// What is done to audio on its way, both ways. To be said before audio begins; stages are switched on and off through
    /// their [`StageSwitch`](crate::StageSwitch).
    #[must_use]
    pub fn with_processing(mut self, processing: Processing) -> Self {
        if let Some(work) = Arc::get_mut(&mut self.work) {
            work.get_mut().set_processing(processing);
        }
        self
    }

    /// Its id, as in every [`SessionEvent`].
    pub fn id(&self) -> SessionId {
        self.id
    }

    fn ask<T: Send + 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        request: Request,
        operation: impl for<'a> FnOnce(&'a mut Work) -> Running<'a, Result<T>> + Send + 'static,
    ) -> ResponseFuture<Result<T>> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |work| {
            Box::pin(async move {
                let result = match work {
                    Ok(work) => operation(&mut *work.lock().await).await,
                    Err(error) => Err(error),
                };
                let ok = result.is_ok();
                // Whoever asked may be gone.
                let _ = reply.send(result);
                ok
            })
        });
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.jobs.insert(ticket, job);
        self.machine.handle(Input::Ask(ticket, request));
        self.drain(ctx);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(Error::new(
                    Fault::Backend,
                    "use media session",
                    "the session ended before it answered",
                ))
            })
        })
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Refuse(ticket, error) => {
                    if let Some(job) = self.jobs.remove(&ticket) {
                        self.runtime.spawn(job(Err(error)));
                    }
                }
                Output::Run(ticket) => self.run(ticket, ctx),
                Output::Stop => {
                    self.closed = true;
                    ctx.stop();
                }
            }
        }
    }

    fn run(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(job) = self.jobs.remove(&ticket) else {
            return;
        };
        let running = self.runtime.spawn(job(Ok(Arc::clone(&self.work))));
        let done = running
            .into_actor(self)
            .then(|result, session: &mut MediaSession, ctx| {
                // An operation that panicked did not succeed; whoever asked is told by the dropped reply.
                session.machine.handle(Input::Done(result.unwrap_or(false)));
                session.drain(ctx);
                fut::ready(())
            });
        ctx.spawn(done);
    }
}

impl Actor for MediaSession {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        if !self.closed {
            let work = Arc::clone(&self.work);
            self.runtime.spawn(async move {
                // The numbers have nobody to go to.
                let _ = work.lock().await.close().await;
            });
        }
    }
}

impl Handler<CreateOffer> for MediaSession {
    type Result = ResponseFuture<Result<String>>;

    fn handle(&mut self, _: CreateOffer, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::CreateOffer, |work| Box::pin(work.create_offer()))
    }
}

impl Handler<AcceptAnswer> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: AcceptAnswer, ctx: &mut Self::Context) -> Self::Result {
        let AcceptAnswer { sdp, kind } = message;
        self.ask(ctx, Request::AcceptAnswer(kind), move |work| {
            Box::pin(async move { work.accept_answer(kind, &sdp).await })
        })
    }
}

impl Handler<AnswerOffer> for MediaSession {
    type Result = ResponseFuture<Result<String>>;

    fn handle(&mut self, message: AnswerOffer, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::AnswerOffer, move |work| {
            Box::pin(async move { work.answer_offer(&message.sdp).await })
        })
    }
}

impl Handler<Begin> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Begin, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Begin, move |work| {
            Box::pin(work.begin(message.audio, message.video))
        })
    }
}

impl Handler<AcceptFork> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: AcceptFork, ctx: &mut Self::Context) -> Self::Result {
        let AcceptFork { fork, sdp, begin } = message;
        self.ask(ctx, Request::AcceptFork, move |work| {
            Box::pin(async move { work.accept_fork(fork, &sdp, begin).await })
        })
    }
}

impl Handler<TakeFork> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: TakeFork, ctx: &mut Self::Context) -> Self::Result {
        let TakeFork { fork, sdp, begin } = message;
        self.ask(ctx, Request::TakeFork, move |work| {
            Box::pin(async move { work.take_fork(fork, &sdp, begin).await })
        })
    }
}

impl Handler<SendDtmf> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: SendDtmf, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::SendDtmf, move |work| {
            Box::pin(async move { work.send_dtmf(&message.digits, message.duration_ms).await })
        })
    }
}

impl Handler<SetDirection> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: SetDirection, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::SetDirection, move |work| {
            Box::pin(work.set_direction(message.direction))
        })
    }
}

impl Handler<SetMedia> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: SetMedia, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::SetMedia, move |work| {
            Box::pin(work.set_media(message.change))
        })
    }
}

impl Handler<SetAudio> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: SetAudio, ctx: &mut Self::Context) -> Self::Result {
        let SetAudio { source, sink } = message;
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(work.set_audio(source, sink))
        })
    }
}

impl Handler<CheckMedia> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: CheckMedia, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::SetMedia, move |work| {
            Box::pin(async move { work.check_media(&message.change).await })
        })
    }
}

impl Handler<Mute> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Mute, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(async move { work.mute(message.muted) })
        })
    }
}

impl Handler<AddCandidates> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: AddCandidates, ctx: &mut Self::Context) -> Self::Result {
        let AddCandidates { fork, candidates } = message;
        self.ask(ctx, Request::AddCandidates, move |work| {
            Box::pin(async move { work.add_candidates(fork, &candidates).await })
        })
    }
}

impl Handler<RestartIce> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, _: RestartIce, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::RestartIce, |work| Box::pin(work.restart_ice()))
    }
}

impl Handler<Join> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Join, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(async move { work.join(message.end) })
        })
    }
}

impl Handler<Part> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, _: Part, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, |work| Box::pin(async { work.part() }))
    }
}

impl Handler<Confer> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Confer, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(async move { work.confer(message.seat) })
        })
    }
}

impl Handler<Record> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Record, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(work.record(message.path, message.sides))
        })
    }
}

impl Handler<StopRecording> for MediaSession {
    type Result = ResponseFuture<Result<Duration>>;

    fn handle(&mut self, _: StopRecording, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, |work| Box::pin(work.stop_recording()))
    }
}

impl Handler<HandOver> for MediaSession {
    type Result = ResponseFuture<Result<Estate>>;

    fn handle(&mut self, message: HandOver, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(async move { Ok(work.hand_over(message).await) })
        })
    }
}

impl Handler<Inherit> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Inherit, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Connect, move |work| {
            Box::pin(work.inherit(message.estate))
        })
    }
}

impl Handler<Rollback> for MediaSession {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, _: Rollback, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Rollback, |work| Box::pin(work.rollback()))
    }
}

impl Handler<Snapshot> for MediaSession {
    type Result = ResponseFuture<Result<SessionStats>>;

    fn handle(&mut self, _: Snapshot, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Snapshot, |work| Box::pin(work.snapshot()))
    }
}

impl Handler<Close> for MediaSession {
    type Result = ResponseFuture<Result<SessionStats>>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        self.ask(ctx, Request::Close, |work| Box::pin(work.close()))
    }
}

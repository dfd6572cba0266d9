//! Does what the machine decides.

use crate::config::DialogConfig;
use crate::event::{DialogEvent, DialogEventKind};
use crate::lanes::{Lane, Lanes, perform};
use crate::machine::{Input, Machine, Output};
use crate::message::{
    Accept, AcceptOffer, Attach, Deliver, FromStack, Hangup, Invite, MeasureInvite, NameDialog, Notify,
    Reach, Redirect, Refer, Reinvite, Reject, RejectOffer, ReportReferral, Ring, SendInfo, SendMessage,
    SendRefer, Subscribe, Terminate, Unsubscribe,
};
use actix::prelude::*;
use siprtc_core::sip::{SipStack, TxOwner};
use siprtc_core::{Error, Fault};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, trace, warn};

/// Most events that wait for a user whose mailbox is full. **Policy when full**: the call whose event cannot be kept is
/// hung up, with a warning; its Ended is always kept.
const MAX_BACKLOG: usize = 1024;

/// How soon waiting events are tried again.
const BACKLOG_RETRY: Duration = Duration::from_millis(10);

/// The actor that keeps the dialogs of one account.
///
/// It drives a [`Machine`] by tokio's clock. The stack's calls of one call are made one after the other, in lanes of
/// their own, so that an ACK never overtakes its INVITE and a slow connection of one call holds up no other.
pub struct DialogManager {
    machine: Machine,
    stack: Arc<dyn SipStack>,
    events: Recipient<DialogEvent>,
    lanes: Lanes,
    backlog: VecDeque<DialogEvent>,
    backlog_timer: bool,
    /// Nobody takes events any more.
    deaf: bool,
    alarm: Option<(Instant, SpawnHandle)>,
}

impl DialogManager {
    /// Most messages that wait in its mailbox; a sender whose `try_send` fails keeps to its own policy (the stack's
    /// sink says `SinkFull`).
    pub const MAILBOX: usize = 1024;

    /// A manager without calls. Its client transactions are minted for `tx_owner`, which nobody else on this stack may
    /// use.
    pub fn new(
        config: DialogConfig,
        stack: Arc<dyn SipStack>,
        tx_owner: TxOwner,
        events: Recipient<DialogEvent>,
    ) -> Self {
        let entropy = Box::new(rand::random::<u64>);
        DialogManager {
            machine: Machine::new(config, tx_owner, entropy, now()),
            stack,
            events,
            lanes: Lanes::default(),
            backlog: VecDeque::new(),
            backlog_timer: false,
            deaf: false,
            alarm: None,
        }
    }

    /// Feeds the machine and drains it; what goes wrong on the way is fed to it again.
    fn drive(&mut self, ctx: &mut Context<Self>, input: Input) -> Result<(), Error> {
        let mut more = VecDeque::new();
        let done = self.feed(ctx, input, &mut more);
        self.feed_all(ctx, more);
        self.set_alarm(ctx);
        done
    }

    fn feed_all(&mut self, ctx: &mut Context<Self>, mut more: VecDeque<Input>) {
        while let Some(input) = more.pop_front() {
            if let Err(error) = self.feed(ctx, input, &mut more) {
                debug!(%error, "nothing left to do");
            }
        }
    }

    fn feed(
        &mut self,
        ctx: &mut Context<Self>,
        input: Input,
        more: &mut VecDeque<Input>,
    ) -> Result<(), Error> {
        let done = self.machine.handle(now(), input);
        self.drain(ctx, more);
        done
    }

    fn drain(&mut self, ctx: &mut Context<Self>, more: &mut VecDeque<Input>) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Event(event) => self.report(ctx, event, more),
                output => self.enqueue(ctx, output, more),
            }
        }
    }

    fn enqueue(&mut self, ctx: &mut Context<Self>, output: Output, more: &mut VecDeque<Input>) {
        trace_output(&output);
        let lane = output.call();
        match self.lanes.enter(lane, output) {
            Lane::Free(output) => self.run(ctx, output),
            Lane::Queued => {}
            Lane::Full(output) => {
                warn!(call_id = ?lane.map(|call| call.to_string()), "the SIP stack is too slow: a message was dropped");
                let error = Error::new(
                    Fault::Backend,
                    "send",
                    "the SIP stack does not take messages any more",
                );
                more.extend(failure(&output, error));
            }
        }
    }

    /// Does the first of a lane's outputs; the next one follows when it is done.
    fn run(&mut self, ctx: &mut Context<Self>, output: Output) {
        let stack = self.stack.clone();
        let (copy, this) = (output.clone(), ctx.address());
        // A task of its own: it goes on when this actor has to begin again, and a stack that panics ends only this.
        let work = actix::spawn(async move { perform(&*stack, copy).await });
        actix::spawn(async move {
            let done = work.await.unwrap_or_else(|error| {
                Err(Error::new(Fault::Backend, "send", "the SIP stack broke down").caused_by(error))
            });
            let _ = this.send(Done { output, done }).await; // An error: the manager is gone, and the call with it.
        });
    }

    fn report(&mut self, ctx: &mut Context<Self>, event: DialogEvent, more: &mut VecDeque<Input>) {
        let sip_call_id = self.machine.sip_call_id(event.call).unwrap_or_default();
        debug!(call_id = %event.call, sip_call_id, kind = ?event.kind, "call event");
        if self.deaf {
            return;
        }
        if !self.backlog.is_empty() {
            return self.keep(ctx, event, more);
        }
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(SendError::Full(event)) => self.keep(ctx, event, more),
            Err(SendError::Closed(event)) => {
                warn!(call_id = %event.call, "nobody takes the calls' events any more: hanging up every call");
                self.deaf = true;
                more.push_back(Input::Terminate);
            }
        }
    }

    fn keep(&mut self, ctx: &mut Context<Self>, event: DialogEvent, more: &mut VecDeque<Input>) {
        let last = matches!(event.kind, DialogEventKind::Ended { .. });
        if self.backlog.len() >= MAX_BACKLOG && !last {
            warn!(call_id = %event.call, "the calls' user is too slow: an event is lost and its call is hung up");
            return more.push_back(Input::Hangup(Hangup {
                call: event.call,
                reason: None,
            }));
        }
        self.backlog.push_back(event);
        self.retry_backlog(ctx);
    }

    fn retry_backlog(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.backlog_timer, true) {
            return;
        }
        ctx.run_later(BACKLOG_RETRY, |actor, ctx| {
            actor.backlog_timer = false;
            while let Some(event) = actor.backlog.pop_front() {
                match actor.events.try_send(event) {
                    Ok(()) => {}
                    Err(SendError::Full(event)) => {
                        actor.backlog.push_front(event);
                        return actor.retry_backlog(ctx);
                    }
                    Err(SendError::Closed(_)) => actor.backlog.clear(),
                }
            }
        });
    }

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let due = self.machine.poll_timeout();
        if self.alarm.map(|(at, _)| at) == due {
            return;
        }
        if let Some((_, handle)) = self.alarm.take() {
            ctx.cancel_future(handle);
        }
        let Some(at) = due else { return };
        let handle = ctx.run_later(at.saturating_duration_since(now()), |actor, ctx| {
            actor.alarm = None;
            let fed = actor.drive(ctx, Input::Timeout);
            debug_assert!(fed.is_ok(), "only a command can fail");
        });
        self.alarm = Some((at, handle));
    }
}

/// The stack has taken an output, or has not.
#[derive(Message)]
#[rtype(result = "()")]
struct Done {
    output: Output,
    done: Result<(), Error>,
}

impl Handler<Done> for DialogManager {
    type Result = ();

    fn handle(&mut self, Done { output, done }: Done, ctx: &mut Context<Self>) {
        if let Some(next) = self.lanes.leave(output.call()) {
            self.run(ctx, next);
        }
        let Err(error) = done else { return };
        warn!(call_id = ?output.call().map(|call| call.to_string()), %error, "the SIP stack refused a message");
        if let Some(input) = failure(&output, error) {
            let fed = self.drive(ctx, input);
            debug_assert!(fed.is_ok(), "only a command can fail");
        }
    }
}

/// Every dialog is as it was, with its CSeqs, route set, tags and timers; the call that was in hand is ended, for nobody
/// knows how far its change got.
impl Supervised for DialogManager {
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.alarm = None;
        if std::mem::take(&mut self.backlog_timer) {
            self.retry_backlog(ctx);
        }
        self.machine.recover(now());
        let mut more = VecDeque::new();
        self.drain(ctx, &mut more);
        self.feed_all(ctx, more);
        self.set_alarm(ctx);
    }
}

impl Actor for DialogManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
    }
}

macro_rules! commands {
    ($($message:ident),*) => {$(
        impl Handler<$message> for DialogManager {
            type Result = Result<(), Error>;

            fn handle(&mut self, message: $message, ctx: &mut Context<Self>) -> Self::Result {
                let call = message.call;
                debug!(
                    call_id = %call,
                    sip_call_id = self.machine.sip_call_id(call).unwrap_or_default(),
                    command = stringify!($message),
                    "call command"
                );
                self.drive(ctx, Input::$message(message))
            }
        }
    )*};
}

commands!(
    Accept,
    AcceptOffer,
    Attach,
    Deliver,
    Hangup,
    Invite,
    Redirect,
    Refer,
    Reinvite,
    Reject,
    RejectOffer,
    ReportReferral,
    Ring,
    SendInfo
);

impl Handler<Terminate> for DialogManager {
    type Result = Result<(), Error>;

    fn handle(&mut self, _: Terminate, ctx: &mut Context<Self>) -> Self::Result {
        self.drive(ctx, Input::Terminate)
    }
}

impl Handler<SendMessage> for DialogManager {
    type Result = Result<(), Error>;

    fn handle(&mut self, message: SendMessage, ctx: &mut Context<Self>) -> Self::Result {
        self.drive(ctx, Input::SendMessage(message))
    }
}

impl Handler<SendRefer> for DialogManager {
    type Result = Result<(), Error>;

    fn handle(&mut self, message: SendRefer, ctx: &mut Context<Self>) -> Self::Result {
        self.drive(ctx, Input::SendRefer(message))
    }
}

impl Handler<Subscribe> for DialogManager {
    type Result = Result<(), Error>;

    fn handle(&mut self, message: Subscribe, ctx: &mut Context<Self>) -> Self::Result {
        self.drive(ctx, Input::Subscribe(message))
    }
}

impl Handler<Unsubscribe> for DialogManager {
    type Result = Result<(), Error>;

    fn handle(&mut self, message: Unsubscribe, ctx: &mut Context<Self>) -> Self::Result {
        self.drive(ctx, Input::Unsubscribe(message))
    }
}

impl Handler<MeasureInvite> for DialogManager {
    type Result = Option<usize>;

    fn handle(&mut self, message: MeasureInvite, _: &mut Context<Self>) -> Self::Result {
        self.machine.measure_invite(&message)
    }
}

impl Handler<Notify> for DialogManager {
    type Result = Result<(), Error>;

    fn handle(&mut self, message: Notify, ctx: &mut Context<Self>) -> Self::Result {
        self.drive(ctx, Input::Notify(message))
    }
}

impl Handler<NameDialog> for DialogManager {
    type Result = MessageResult<NameDialog>;

    fn handle(&mut self, message: NameDialog, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.machine.dialog_name(message.call))
    }
}

impl Handler<Reach> for DialogManager {
    type Result = ();

    fn handle(&mut self, message: Reach, ctx: &mut Context<Self>) {
        let fed = self.drive(ctx, Input::Reach(message));
        debug_assert!(fed.is_ok(), "it is never refused");
    }
}

impl Handler<FromStack> for DialogManager {
    type Result = ();

    fn handle(&mut self, message: FromStack, ctx: &mut Context<Self>) {
        trace!(event = ?message.0, "from the SIP stack");
        let fed = self.drive(ctx, Input::Stack(message.0));
        debug_assert!(fed.is_ok(), "only a command can fail");
    }
}

/// What the machine is told of something that could not be done. A CANCEL that fails is nothing: the call's patience
/// ends it.
fn failure(output: &Output, error: Error) -> Option<Input> {
    match output {
        Output::Respond { tx, .. } | Output::SendRequest { tx, .. } => {
            Some(Input::SendFailed { tx: *tx, error })
        }
        Output::SendAck { call, .. } => Some(Input::AckFailed { call: *call, error }),
        Output::Cancel { .. } | Output::Event(_) => None,
    }
}

fn trace_output(output: &Output) {
    let call_id = output.call().map(|call| call.to_string()).unwrap_or_default();
    match output {
        Output::Respond { response, .. } => {
            let sip_call_id = response.headers.call_id().unwrap_or_default();
            debug!(call_id, sip_call_id, status = response.status, "responding");
        }
        Output::SendAck { request, .. } | Output::SendRequest { request, .. } => {
            let sip_call_id = request.headers.call_id().unwrap_or_default();
            debug!(call_id, sip_call_id, method = %request.method, uri = %request.uri, "sending");
        }
        Output::Cancel { tx, .. } => debug!(call_id, %tx, "cancelling"),
        Output::Event(_) => {}
    }
}

/// Tokio's clock: a test may pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

//! Does what the machine decides.

use crate::entropy::Entropy;
use crate::io::{Input, LeaveFailure, Output};
use crate::leg::ANSWER_WAIT;
use crate::machine::Machine;
use crate::scope::Abilities;
use crate::{
    FromStack, Moved, Register, RegistrarConfig, RegistrationEvent, RegistrationFailure, Unregister,
};
use actix::dev::SendError;
use actix::prelude::*;
use siprtc_core::sip::{FlowId, Keepalive, Route, SipRequest, SipStack, StackEvent, TxEnd, TxId, TxOwner};
use siprtc_core::{Error, Fault};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// Keeps one address-of-record registered over a stack: an actor, see the crate's documentation.
///
/// It ends when its last address is dropped. Without [`Unregister`] before, that sends nothing and waits for nothing:
/// the binding ends when it expires.
pub struct RegistrarClient {
    config: RegistrarConfig,
    config_error: Option<Arc<Error>>,
    events: Recipient<RegistrationEvent>,
    leavers: Vec<oneshot::Sender<Result<(), Error>>>,
    machine: Machine,
    /// The machine is at work: were this actor to break down now, it could not be trusted any more.
    in_hand: bool,
    owner: TxOwner,
    stack: Arc<dyn SipStack>,
    timer: Option<(std::time::Instant, SpawnHandle)>,
}

impl RegistrarClient {
    /// Most messages waiting for this actor. A sender that finds it full drops the event: what the stack had to say
    /// is then made up for by the transaction's end or by the client's own timer.
    pub const MAILBOX: usize = 64;

    /// Most [`Unregister`]s waiting for one answer; one more is an error.
    pub const MAX_LEAVERS: usize = 32;

    /// Registers as `config` says over `stack`, in transactions of `tx_owner`, which nobody else uses on that stack.
    /// `events` should have room: an event that does not fit is dropped with a warning.
    ///
    /// Does nothing before [`Register`].
    pub fn new(
        config: RegistrarConfig,
        stack: Arc<dyn SipStack>,
        tx_owner: TxOwner,
        events: Recipient<RegistrationEvent>,
    ) -> Self {
        let config_error = config.validate().err().map(Arc::new);
        let machine = machine(&config, tx_owner, &*stack);
        RegistrarClient {
            config,
            config_error,
            events,
            leavers: Vec::new(),
            machine,
            in_hand: false,
            owner: tx_owner,
            stack,
            timer: None,
        }
    }

    fn input(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.in_hand = true;
        self.machine.handle(Instant::now().into_std(), input);
        self.in_hand = false;
        self.drain(ctx);
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::CloseFlow(flow) => self.close_flow(flow, ctx),
                Output::Keepalive { flow, kind } => self.keepalive(flow, kind, ctx),
                Output::Left(result) => self.left(result),
                Output::Report(event) => self.report(event),
                Output::Send { tx, request, route } => self.send(tx, *request, route, ctx),
            }
        }
        self.arm(ctx);
    }

    fn send(&self, tx: TxId, request: SipRequest, route: Route, ctx: &mut Context<Self>) {
        let stack = Arc::clone(&self.stack);
        let work = async move {
            if let Err(error) = route.refuse_downgrade(&request) {
                return Some(TxEnd::Transport(error.to_string()));
            }
            // A stack hands over at once; one that does not must not pile up futures here.
            match tokio::time::timeout(ANSWER_WAIT, stack.send_request(tx, request, route)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(TxEnd::Transport(error.to_string())),
                Err(_) => Some(TxEnd::TimedOut),
            }
        };
        ctx.spawn(work.into_actor(self).map(move |end, actor, ctx| {
            if let Some(end) = end {
                actor.input(Input::Ended { tx, end }, ctx);
            }
        }));
    }

    fn keepalive(&self, flow: FlowId, kind: Keepalive, ctx: &mut Context<Self>) {
        let stack = Arc::clone(&self.stack);
        let work = async move {
            match tokio::time::timeout(ANSWER_WAIT, stack.keepalive(flow, kind)).await {
                Ok(Ok(())) => {}
                // A dead flow is told as such, or is noticed by the answer that does not come.
                Ok(Err(error)) => debug!(flow = flow.0, %error, "a keepalive could not be sent"),
                Err(_) => debug!(flow = flow.0, "the stack does not take a keepalive"),
            }
        };
        ctx.spawn(work.into_actor(self));
    }

    fn close_flow(&self, flow: FlowId, ctx: &mut Context<Self>) {
        let stack = Arc::clone(&self.stack);
        let work = async move {
            if let Ok(Err(error)) = tokio::time::timeout(ANSWER_WAIT, stack.close_flow(flow)).await {
                debug!(flow = flow.0, %error, "a dead flow could not be closed");
            }
        };
        ctx.spawn(work.into_actor(self));
    }

    fn report(&self, event: RegistrationEvent) {
        match &event {
            RegistrationEvent::Failed { sentence, .. } | RegistrationEvent::FlowFailed { sentence, .. } => {
                warn!("{sentence}");
            }
            RegistrationEvent::FlowsChanged { flows } => debug!(flows = flows.len(), "flows changed"),
            RegistrationEvent::Refreshed { expires } => debug!(?expires, "registration refreshed"),
            RegistrationEvent::Registered {
                registrar,
                expires,
                contacts,
                flows,
                outbound,
                ..
            } => {
                let flows = flows.len();
                info!(registrar, ?expires, contacts, flows, outbound, "registered");
            }
            RegistrationEvent::Unregistered => info!("unregistered"),
        }
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(SendError::Closed(_)) => debug!("nobody listens to registration events any more"),
            Err(SendError::Full(event)) => warn!(
                ?event,
                "registration event dropped: its receiver's mailbox is full"
            ),
        }
    }

    fn left(&mut self, result: Result<(), LeaveFailure>) {
        for leaver in self.leavers.drain(..) {
            // Whoever asked may have gone.
            let _ = leaver.send(result.clone().map_err(error_of));
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let due = self.machine.poll_timeout();
        if due == self.timer.map(|(at, _)| at) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        self.timer = due.map(|at| {
            let wait = at.saturating_duration_since(Instant::now().into_std());
            let handle = ctx.run_later(wait, |actor, ctx| {
                actor.timer = None;
                // A timer keeps an actix actor alive after its last address is gone: nobody could stop it any more.
                if !ctx.connected() {
                    return ctx.stop();
                }
                actor.input(Input::Timeout, ctx);
            });
            (at, handle)
        });
    }
}

impl Actor for RegistrarClient {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
    }
}

fn machine(config: &RegistrarConfig, owner: TxOwner, stack: &dyn SipStack) -> Machine {
    let entropy = Entropy::new(rand::random::<u64>);
    let abilities = Abilities::of(&stack.capability());
    Machine::new(config, owner, abilities, entropy, Instant::now().into_std())
}

/// Bindings and timers are as they were; a REGISTER that was being handed over is made up for by its own patience. A
/// machine that broke down itself gives way to a new one, which registers the same contact again.
impl Supervised for RegistrarClient {
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        if std::mem::take(&mut self.in_hand) {
            let (wanted, leaves) = (self.machine.is_wanted(), !self.leavers.is_empty());
            self.machine = machine(&self.config, self.owner, &*self.stack);
            match (wanted, leaves) {
                (true, _) => self.input(Input::Register, ctx),
                // Who waits for the end hears that there is nobody to bring it: the binding ends when it expires.
                (false, true) => self.leavers.clear(),
                (false, false) => {}
            }
        }
        self.drain(ctx);
    }
}

impl Handler<Register> for RegistrarClient {
    type Result = Result<(), Error>;

    fn handle(&mut self, _: Register, ctx: &mut Self::Context) -> Self::Result {
        if let Some(error) = &self.config_error {
            let copy = Error::new(error.fault(), error.operation(), error.message());
            return Err(copy.advice(error.next_step().unwrap_or_default()));
        }
        self.input(Input::Register, ctx);
        Ok(())
    }
}

impl Handler<Unregister> for RegistrarClient {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, _: Unregister, ctx: &mut Self::Context) -> Self::Result {
        if self.leavers.len() >= Self::MAX_LEAVERS {
            let what = format!("{} others wait for the same answer", self.leavers.len());
            let error = Error::new(Fault::ApiMisuse, OPERATION, what).advice("send Unregister once");
            return Box::pin(async { Err(error) });
        }
        let (told, answer) = oneshot::channel();
        self.leavers.push(told);
        self.input(Input::Unregister, ctx);
        Box::pin(async {
            answer.await.unwrap_or_else(|_| {
                Err(Error::new(
                    Fault::Backend,
                    OPERATION,
                    "the registrar client stopped before the answer came",
                )
                .advice("nothing to do: the binding ends by itself when it expires"))
            })
        })
    }
}

impl Handler<Moved> for RegistrarClient {
    type Result = ();

    fn handle(&mut self, Moved { contact }: Moved, ctx: &mut Self::Context) {
        self.config.contact.clone_from(&contact);
        self.input(Input::Moved { contact }, ctx);
    }
}

impl Handler<FromStack> for RegistrarClient {
    type Result = ();

    fn handle(&mut self, FromStack(event): FromStack, ctx: &mut Self::Context) {
        let input = match event {
            StackEvent::FlowDown { id, reason } => Input::FlowDown { id, reason },
            StackEvent::KeepaliveAnswered { flow, mapped } => Input::KeepaliveAnswered { id: flow, mapped },
            StackEvent::Response { tx, response, flow } if tx.owner() == self.owner => {
                Input::Response { tx, response, flow }
            }
            StackEvent::TxEnded { tx, end } if tx.owner() == self.owner => Input::Ended { tx, end },
            _ => return,
        };
        self.input(input, ctx);
    }
}

fn error_of(failure: LeaveFailure) -> Error {
    let fault = match failure.cause {
        RegistrationFailure::Malformed => Fault::PeerMisbehaved,
        RegistrationFailure::TimedOut => Fault::TimedOut,
        RegistrationFailure::Unreachable => Fault::Backend,
        RegistrationFailure::WrongCredentials => Fault::ConfigInvalid,
        RegistrationFailure::Forbidden
        | RegistrationFailure::Rejected(_)
        | RegistrationFailure::ServerError(_)
        | RegistrationFailure::UnknownUser
        | RegistrationFailure::WeakChallenge => Fault::PeerIncompatible,
    };
    Error::new(fault, OPERATION, failure.sentence).advice(failure.advice)
}

const OPERATION: &str = "unregister";

//! The actor: a mailbox in front of the driver's task.

use crate::driver::{Driver, Reply};
use crate::{CallPlan, NatConfig, NatEvent, PlanCall};
use actix::{Actor, Context, Handler, Recipient, ResponseFuture, Supervised};
use siprtc_core::{Error, Fault, Result};
use tokio::sync::{mpsc, oneshot};

/// Knows which STUN and TURN servers live, and which addresses a call may bind.
///
/// It begins to probe when it starts and ends when it stops; its socket and timers are a task on the runtime that it
/// was given.
pub struct NatAgent {
    config: NatConfig,
    runtime: tokio::runtime::Handle,
    events: Recipient<NatEvent>,
    calls: Option<mpsc::Sender<Reply>>,
}

impl NatAgent {
    /// How many calls may wait in the mailbox, and how many before the task; one more gets an error.
    pub const MAILBOX: usize = 256;

    /// An agent whose I/O runs on `runtime` and who reports changes to `events`.
    pub fn new(config: NatConfig, runtime: tokio::runtime::Handle, events: Recipient<NatEvent>) -> Self {
        NatAgent {
            config,
            runtime,
            events,
            calls: None,
        }
    }

    fn spawn(&mut self) {
        let (sender, receiver) = mpsc::channel(Self::MAILBOX);
        self.calls = Some(sender);
        self.runtime
            .spawn(Driver::run(self.config.clone(), self.events.clone(), receiver));
    }
}

impl Actor for NatAgent {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
        // After a restart the task is there as before.
        if self.calls.as_ref().is_none_or(mpsc::Sender::is_closed) {
            self.spawn();
        }
    }
}

/// What it knows lives in its task, which goes on meanwhile.
impl Supervised for NatAgent {}

impl Handler<PlanCall> for NatAgent {
    type Result = ResponseFuture<Result<CallPlan>>;

    fn handle(&mut self, _: PlanCall, _: &mut Self::Context) -> Self::Result {
        if self.calls.as_ref().is_none_or(mpsc::Sender::is_closed) {
            tracing::error!("the NAT agent's task ended: a new one starts");
            self.spawn();
        }
        let (reply, plan) = oneshot::channel();
        let is_sent = self
            .calls
            .as_ref()
            .is_some_and(|calls| calls.try_send(reply).is_ok());
        Box::pin(async move {
            if !is_sent {
                return Err(failed("too many calls wait for their plan").advice("try again"));
            }
            plan.await.unwrap_or_else(|_| Err(failed("its task ended")))
        })
    }
}

fn failed(what: &'static str) -> Error {
    Error::new(Fault::Backend, "plan call", what)
}

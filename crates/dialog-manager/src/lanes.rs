//! One queue a call in front of the stack.
//!
//! Why lanes and not one queue: [`SipStack::send_request`] may have to open a connection, and a next hop that does not
//! answer would hold up every other call. Why not a task for every message: an ACK must not overtake a BYE.

use crate::machine::Output;
use siprtc_core::sip::SipStack;
use siprtc_core::{CallId, Error, Fault, Result};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Most messages of one call that wait for the stack, and most answers to requests that belong to no call.
/// **Policy when full**: the message is dropped, and the machine is told that it failed.
const MAX_WAITING: usize = 256;

/// How long the stack may take to take one message: as long as a transaction of RFC 3261 may wait for its answer.
const STACK_PATIENCE: Duration = Duration::from_secs(32);

/// The lanes in use: one is there from its first output until its last one is done.
#[derive(Default)]
pub(crate) struct Lanes(HashMap<Option<CallId>, VecDeque<Output>>);

/// What became of an output.
pub(crate) enum Lane {
    /// Do it now.
    Free(Output),
    /// It is dropped.
    Full(Output),
    /// It comes out of [`Lanes::leave`].
    Queued,
}

impl Lanes {
    pub(crate) fn enter(&mut self, lane: Option<CallId>, output: Output) -> Lane {
        match self.0.get_mut(&lane) {
            None => {
                self.0.insert(lane, VecDeque::new());
                Lane::Free(output)
            }
            Some(queue) if queue.len() >= MAX_WAITING => Lane::Full(output),
            Some(queue) => {
                queue.push_back(output);
                Lane::Queued
            }
        }
    }

    /// One is done: the next one of the same lane.
    pub(crate) fn leave(&mut self, lane: Option<CallId>) -> Option<Output> {
        let next = self.0.get_mut(&lane).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.0.remove(&lane);
        }
        next
    }
}

pub(crate) async fn perform(stack: &dyn SipStack, output: Output) -> Result<()> {
    match tokio::time::timeout(STACK_PATIENCE, hand_over(stack, output)).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(
            Fault::TimedOut,
            "send",
            "the SIP stack did not take the message in time",
        )),
    }
}

async fn hand_over(stack: &dyn SipStack, output: Output) -> Result<()> {
    match output {
        Output::Cancel { tx, headers, .. } => stack.cancel(tx, headers).await,
        Output::Event(_) => Ok(()),
        Output::Respond { tx, response, .. } => stack.respond(tx, response).await,
        Output::SendAck { request, route, .. } => {
            route.refuse_downgrade(&request)?;
            stack.send_ack(request, route).await
        }
        Output::SendRequest {
            tx, request, route, ..
        } => {
            route.refuse_downgrade(&request)?;
            stack.send_request(tx, request, route).await
        }
    }
}

//! What stands behind an endpoint's handles: the actors, or a test ([`fake`](crate::fake)).

use crate::desk::{Abandon, CallFeed, Claim, Count, Desk, Expect, Follow, FollowReferral, News, Notices};
use crate::fake::State;
use actix::prelude::*;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::Gateway;
use std::any::Any;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) enum Hub {
    Actors {
        gateway: Addr<Gateway>,
        desk: Addr<Desk>,
    },
    Fake(Arc<State>),
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Hub::Actors { .. } => "Actors",
            Hub::Fake(_) => "Fake",
        })
    }
}

impl PartialEq for Hub {
    fn eq(&self, other: &Hub) -> bool {
        match (self, other) {
            (Hub::Actors { gateway, .. }, Hub::Actors { gateway: other, .. }) => gateway == other,
            (Hub::Fake(state), Hub::Fake(other)) => Arc::ptr_eq(state, other),
            _ => false,
        }
    }
}

impl Hub {
    /// Opens a call before its first event.
    pub(crate) async fn expect(&self, call: CallId) -> Result<Option<CallFeed>> {
        match self {
            Hub::Actors { desk, .. } => tell(desk, Expect { call }).await,
            Hub::Fake(state) => Ok(state.desk(|desk| desk.expect(call))),
        }
    }

    /// The events of a call that began by itself.
    pub(crate) async fn claim(&self, call: CallId) -> Result<Option<CallFeed>> {
        match self {
            Hub::Actors { desk, .. } => tell(desk, Claim { call }).await,
            Hub::Fake(state) => Ok(state.desk(|desk| desk.claim(call))),
        }
    }

    /// What a subscription will tell.
    pub(crate) async fn follow(&self, subscription: CallId) -> Result<Notices> {
        match self {
            Hub::Actors { desk, .. } => tell(desk, Follow { subscription }).await,
            Hub::Fake(state) => state
                .desk(|desk| Some(desk.follow(subscription)))
                .ok_or_else(is_shut_down),
        }
    }

    /// What becomes of a call that somebody is to be asked for.
    pub(crate) async fn follow_referral(&self, referral: CallId) -> Result<News> {
        match self {
            Hub::Actors { desk, .. } => tell(desk, FollowReferral { referral }).await,
            Hub::Fake(state) => state
                .desk(|desk| Some(desk.follow_referral(referral)))
                .ok_or_else(is_shut_down),
        }
    }

    pub(crate) async fn open_calls(&self) -> usize {
        match self {
            Hub::Actors { desk, .. } => tell(desk, Count).await.unwrap_or_default(),
            Hub::Fake(state) => state.desk(|desk| desk.count()),
        }
    }

    fn abandon(&self, call: CallId) {
        match self {
            Hub::Actors { desk, .. } => {
                // Policy when its mailbox is full: the call goes on until the peer or a timer ends it.
                if let Err(error) = desk.try_send(Abandon { call }) {
                    tracing::warn!(call_id = %call, %error, "a call that nobody has is not ended");
                }
            }
            Hub::Fake(state) => state.abandon(call),
        }
    }
}

/// Dropped before its time it ends the call: the future that would have given the handle was given up, or failed.
#[derive(Debug)]
pub(crate) struct Guard(Option<(Hub, CallId)>);

impl Guard {
    pub(crate) fn new(hub: &Hub, call: CallId) -> Self {
        Guard(Some((hub.clone(), call)))
    }

    /// Somebody has the call.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((hub, call)) = self.0.take() {
            hub.abandon(call);
        }
    }
}

fn is_shut_down() -> Error {
    Error::new(Fault::ApiMisuse, "use the endpoint", "it is shut down")
}

pub(crate) async fn tell<A, M>(addr: &Addr<A>, message: M) -> Result<M::Result>
where
    A: Actor + Handler<M>,
    A::Context: actix::dev::ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    addr.send(message)
        .await
        .map_err(|error| is_shut_down().caused_by(error))
}

pub(crate) async fn ask<M, T>(hub: &Hub, message: M) -> Result<T>
where
    Gateway: Handler<M>,
    M: Message<Result = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    match hub {
        Hub::Actors { gateway, .. } => tell(gateway, message).await?,
        Hub::Fake(state) => {
            let answer = state.take(Box::new(message))?;
            let answer: Result<Box<T>, Box<dyn Any>> = answer.downcast();
            answer.map(|answer| *answer).map_err(|_| {
                Error::new(
                    Fault::Unsupported,
                    "use the fake endpoint",
                    "it has no such answer",
                )
            })
        }
    }
}

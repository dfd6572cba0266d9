//! Subscriptions to events of others (RFC 6665). The dialog manager keeps them; the gateway passes on what they tell.

use crate::actor::Gateway;
use crate::calls::ask;
use crate::messages::GatewayEvent;
use actix::prelude::*;
use siprtc_core::sip::Uri;
use siprtc_core::{CallId, Error, Result};
use siprtc_dialog_manager::{self as dialog, DialogEventKind};
use std::time::Duration;

pub use siprtc_dialog_manager::{Subscribe, Unsubscribe};

/// What a subscription tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubscriptionEvent {
    /// It stands.
    Active {
        /// For this long; it is renewed before.
        expires: Duration,
    },
    /// It is over: its last event.
    Ended {
        /// The answer that ended it, when one did; 408 when none came.
        status: Option<u16>,
        /// What the notifier says, or what went wrong.
        reason: Option<String>,
        /// Where to ask instead (300 to 399), best first.
        contacts: Vec<Uri>,
        /// How long to wait before another try.
        retry_after: Option<Duration>,
    },
    /// What there is to tell.
    Notified(Notice),
}

/// What a notifier tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// The event package: `message-summary`, `dialog`, `presence` ...
    pub event: String,
    /// The media type of the body.
    pub content_type: String,
    /// The body, as it came.
    pub body: Vec<u8>,
}

impl Gateway {
    /// `true`: it was a subscription's, or what a server tells unasked.
    pub(crate) fn heard_of_subscription(&mut self, id: CallId, kind: &DialogEventKind) -> bool {
        let event = match kind.clone() {
            DialogEventKind::Subscribed { expires } => SubscriptionEvent::Active { expires },
            DialogEventKind::SubscriptionEnded {
                status,
                reason,
                contacts,
                retry_after,
            } => SubscriptionEvent::Ended {
                status,
                reason,
                contacts,
                retry_after,
            },
            DialogEventKind::Notified {
                event,
                content_type,
                body,
            } => SubscriptionEvent::Notified(Notice {
                event,
                content_type,
                body,
            }),
            _ => return false,
        };
        self.tell_all(GatewayEvent::Subscription(id, event));
        true
    }
}

impl Handler<Subscribe> for Gateway {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, message: Subscribe, ctx: &mut Context<Self>) -> Self::Result {
        let house = self.house(ctx);
        Box::pin(async move { ask(&house?.dialogs, message).await })
    }
}

impl Handler<Unsubscribe> for Gateway {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, message: Unsubscribe, ctx: &mut Context<Self>) -> Self::Result {
        let house = self.house(ctx);
        let dialog::Unsubscribe { subscription } = message;
        Box::pin(async move { ask(&house?.dialogs, dialog::Unsubscribe { subscription }).await })
    }
}

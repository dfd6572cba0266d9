//! Subscriptions to events of others (RFC 6665): waiting messages, the calls of a colleague, presence.

use crate::desk::Notices;
use crate::endpoint::{Endpoint, House, ask, read_target};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::{Subscribe, SubscriptionEvent, Unsubscribe};

/// How long a subscription is asked for at a time, in seconds.
const EXPIRES: u32 = 3600;

/// A subscription. Dropping it does not end it; [`Subscription::end`] does.
pub struct Subscription {
    id: CallId,
    house: House,
    notices: Notices,
}

impl Endpoint {
    /// Subscribes to `event` of `target`, a SIP URI or a bare user name of the account's own domain: `message-summary` (RFC 3842),
    /// `dialog` (RFC 4235), `presence` (RFC 3856). It is renewed until it ends.
    ///
    /// Errors: [`Fault::ApiMisuse`] for a package whose bodies are not known here; see [`Endpoint::subscribe_to`].
    pub async fn subscribe(&self, target: &str, event: &str) -> Result<Subscription> {
        let accept = match event {
            "dialog" => "application/dialog-info+xml",
            "message-summary" => "application/simple-message-summary",
            "presence" => "application/pidf+xml",
            _ => {
                let what = format!("what {event:?} has in its bodies is not known here");
                return Err(Error::new(Fault::ApiMisuse, "subscribe", what)
                    .advice("call subscribe_to with the media types that you understand"));
            }
        };
        self.subscribe_to(target, event, accept).await
    }

    /// As [`Endpoint::subscribe`], to any package, with the media types of bodies that are understood.
    pub async fn subscribe_to(&self, target: &str, event: &str, accept: &str) -> Result<Subscription> {
        let house = self.house();
        let target = read_target(&house.aor, target)?;
        let id = CallId::fresh();
        let notices = house.hub.follow(id).await?;
        let subscribe = Subscribe {
            subscription: id,
            target,
            event: event.to_owned(),
            accept: accept.to_owned(),
            expires: EXPIRES,
        };
        ask(&house.hub, subscribe).await?;
        Ok(Subscription { id, house, notices })
    }
}

impl Subscription {
    /// The next thing that it tells. `None` after the last one, `Ended`. 64 wait; more are lost, with a warning.
    pub async fn next(&mut self) -> Option<SubscriptionEvent> {
        self.notices.recv().await
    }

    /// Takes leave; `Ended` follows.
    pub async fn end(&self) -> Result<()> {
        let subscription = self.id;
        ask(&self.house.hub, Unsubscribe { subscription }).await
    }
}

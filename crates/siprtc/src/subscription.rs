//! Subscriptions (RFC 6665) to events of others, and of others to ours: waiting messages, the calls of a colleague, presence.

use crate::desk::Notices;
use crate::endpoint::{Endpoint, House, ask, read_target};
use siprtc_core::sip::Headers;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::{Notify, Subscribe, SubscriptionEvent, Unsubscribe};

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
        let Some(accept) = media_type(event) else {
            let what = format!("what {event:?} has in its bodies is not known here");
            return Err(Error::new(Fault::ApiMisuse, "subscribe", what)
                .advice("call subscribe_to with the media types that you understand"));
        };
        self.subscribe_to(target, event, accept).await
    }

    /// As [`Endpoint::subscribe`], to any package, with the media types of bodies that are understood.
    pub async fn subscribe_to(&self, target: &str, event: &str, accept: &str) -> Result<Subscription> {
        self.subscribe_with(target, event, accept, Headers::new()).await
    }

    /// As [`Endpoint::subscribe_to`], with header fields of one's own in each SUBSCRIBE.
    pub async fn subscribe_with(
        &self,
        target: &str,
        event: &str,
        accept: &str,
        headers: Headers,
    ) -> Result<Subscription> {
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
            headers,
        };
        ask(&house.hub, subscribe).await?;
        Ok(Subscription { id, house, notices })
    }

    /// Says what there is to tell of `presence` (RFC 3863: `application/pidf+xml`) or `message-summary` (RFC 3842:
    /// `application/simple-message-summary`) to those who have subscribed to it, and to those who will: the whole state, which takes the
    /// place of the one before. Who may subscribe say `call.notifies` and `call.watchers`; of `dialog` (RFC 4235) nothing need be
    /// said, the endpoint's calls are told as they come and go.
    ///
    /// ```
    /// # async fn shown(endpoint: &siprtc::Endpoint) -> siprtc::core::Result<()> {
    /// let summary = "Messages-Waiting: yes\r\nVoice-Message: 2/8\r\n";
    /// endpoint.notify("message-summary", summary).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Errors: [`Fault::ApiMisuse`] for a package that `call.notifies` does not name, for `dialog`, and for a body of more than
    /// 65,536 octets.
    pub async fn notify(&self, event: &str, body: impl Into<Vec<u8>>) -> Result<()> {
        let notify = Notify {
            event: event.to_owned(),
            content_type: media_type(event).unwrap_or("application/octet-stream").to_owned(),
            body: body.into(),
        };
        ask(&self.house().hub, notify).await
    }
}

/// What the bodies of a package are (RFC 4235, RFC 3842, RFC 3863).
fn media_type(event: &str) -> Option<&'static str> {
    Some(match event {
        "dialog" => "application/dialog-info+xml",
        "message-summary" => "application/simple-message-summary",
        "presence" => "application/pidf+xml",
        _ => return None,
    })
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

//! Calls that others are asked for, outside of any call (REFER, RFC 3515): "telephone, call that one".

use crate::desk::News;
use crate::endpoint::{Call, Endpoint, House, ask, read_target};
use siprtc_core::sip::{Headers, SipUri, Uri};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::{AskForCall, DialogName, ReferralEvent, TransferTo, Unsubscribe};

const OPERATION: &str = "ask for a call";

/// What a wish for a call says beside whom to call.
#[derive(Clone, Debug, Default)]
pub struct ReferOptions {
    /// More header fields for the REFER; a Referred-By (RFC 3892) takes the place of the account's. Those that SIP needs itself are an
    /// error.
    pub headers: Headers,
    /// How the call goes had better not be told (RFC 4488): less traffic. Who knows nothing of that tells all the same.
    pub untold: bool,
    /// The call is to take the place of that one of its callee's (RFC 3891), named as the callee knows it: by
    /// [`Call::dialog_name`] over there, or by what it tells in the event package `dialog`.
    pub replaces: Option<DialogName>,
}

/// A call that somebody was asked to make. Dropping it changes nothing; [`RequestedCall::end`] asks for no more news. The call is
/// theirs: nothing here takes it back.
pub struct RequestedCall {
    id: CallId,
    house: House,
    news: News,
}

impl Endpoint {
    /// Asks `target` to call `to`, outside of any call: click-to-dial. Each is a SIP URI, or a bare user name of the account's own
    /// domain. Whoever is asked has to be willing (`call.referrals`, where it is of this kit).
    ///
    /// ```
    /// # async fn dialled(endpoint: &siprtc::Endpoint) -> siprtc::core::Result<()> {
    /// let mut call = endpoint.refer("desk-telephone", "sip:carol@example.com").await?;
    /// call.answered().await?; // Or `next`, for 100 and 180, too.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Errors: [`Fault::ApiMisuse`] for what is no SIP URI, and when 64 subscriptions stand.
    pub async fn refer(&self, target: &str, to: &str) -> Result<RequestedCall> {
        self.refer_with(target, to, ReferOptions::default()).await
    }

    /// As [`Endpoint::refer`], with header fields of one's own, without news, or in the place of another call.
    pub async fn refer_with(&self, target: &str, to: &str, options: ReferOptions) -> Result<RequestedCall> {
        let to = sip(OPERATION, read_target(&self.house().aor, to)?)?;
        let to = match &options.replaces {
            Some(name) => name.within(to),
            None => to,
        };
        self.request(target, TransferTo::Uri(to), options).await
    }

    /// Asks `target` to take that call's place: to call its peer, who hangs up on us for it (RFC 3891). A call moves to another telephone.
    ///
    /// Errors: [`Fault::ApiMisuse`] before the call is confirmed, and for one of another endpoint.
    pub async fn refer_call(&self, target: &str, call: &Call) -> Result<RequestedCall> {
        if *call.gateway() != self.house().hub {
            return Err(
                Error::new(Fault::ApiMisuse, OPERATION, "the call is of another endpoint")
                    .advice("ask from the endpoint that has the call"),
            );
        }
        let to = TransferTo::Call(call.id());
        self.request(target, to, ReferOptions::default()).await
    }

    async fn request(&self, target: &str, to: TransferTo, options: ReferOptions) -> Result<RequestedCall> {
        let house = self.house();
        let target = read_target(&house.aor, target)?;
        let id = CallId::fresh();
        let news = house.hub.follow_referral(id).await?;
        let wish = AskForCall {
            referral: id,
            target,
            to,
            news: !options.untold,
            headers: options.headers,
        };
        ask(&house.hub, wish).await?;
        Ok(RequestedCall { id, house, news })
    }
}

impl RequestedCall {
    /// The next thing that is told of it. `None` after the last one. 64 wait; more are lost, with a warning. Cancel-safe.
    pub async fn next(&mut self) -> Option<ReferralEvent> {
        self.news.recv().await
    }

    /// Waits until the call is answered, or is made and nobody will say how it goes (`untold`).
    ///
    /// Errors: why it is not made, came to nothing, or is not told of: [`Fault::PeerIncompatible`]; [`Fault::TimedOut`] when nobody says
    /// it.
    pub async fn answered(&mut self) -> Result<()> {
        while let Some(event) = self.next().await {
            let (fault, sentence) = match event {
                ReferralEvent::Succeeded | ReferralEvent::Accepted { tells: false } => return Ok(()),
                ReferralEvent::Accepted { tells: true } | ReferralEvent::Progress { .. } => continue,
                ReferralEvent::Failed(ending) | ReferralEvent::Refused(ending) => {
                    let sentence = ending.sentence.unwrap_or_else(|| ending.cause.to_string());
                    (Fault::PeerIncompatible, sentence)
                }
                ReferralEvent::Untold { sentence, .. } => (Fault::TimedOut, sentence),
            };
            return Err(Error::new(fault, OPERATION, sentence));
        }
        Err(Error::new(
            Fault::ApiMisuse,
            OPERATION,
            "its last word was read already",
        ))
    }

    /// Asks for no more news; the last event follows. The call is made all the same.
    ///
    /// Errors: [`Fault::ApiMisuse`] after the last event.
    pub async fn end(&self) -> Result<()> {
        let subscription = self.id;
        ask(&self.house.hub, Unsubscribe { subscription }).await
    }
}

/// REFER knows no other kind of address here.
pub(crate) fn sip(operation: &'static str, uri: Uri) -> Result<SipUri> {
    match uri {
        Uri::Sip(uri) => Ok(uri),
        Uri::Other(other) => Err(
            Error::new(Fault::ApiMisuse, operation, format!("{other:?} is no SIP URI"))
                .advice("write a SIP URI such as sip:carol@example.com"),
        ),
    }
}

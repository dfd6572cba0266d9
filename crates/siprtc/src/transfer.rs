//! Transfers, as a call's handle offers them.

use crate::asking::sip;
use crate::endpoint::{Call, ask, read_target};
use siprtc_core::sip::Headers;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::{AcceptTransfer, MediaPlan, RefuseTransfer, Transfer, TransferTo};

impl Call {
    /// Has the peer call `target` instead: a blind transfer. [`Transferred`](siprtc_gateway::CallEventKind::Transferred) ends this
    /// call; after `TransferRefused` it goes on. `target` is a SIP URI, or a bare user name of the account's own domain.
    pub async fn transfer(&self, target: &str) -> Result<()> {
        let to = TransferTo::Uri(sip("transfer", read_target(&self.house().aor, target)?)?);
        ask(self.gateway(), Transfer { call: self.id(), to }).await
    }

    /// Another call of the same endpoint: to whom this one may be transferred ([`Call::transfer_to`]), or to ask before.
    pub async fn consult(&self, target: &str, media: MediaPlan) -> Result<Call> {
        self.house().dial(target, media, Headers::new()).await
    }

    /// Has the peer call the other call's peer, in the place of that call: an attended transfer. Both calls end when it succeeds.
    /// The two must be of one endpoint.
    pub async fn transfer_to(&self, other: &Call) -> Result<()> {
        if self.gateway() != other.gateway() {
            let what = "the two calls are of two endpoints";
            return Err(Error::new(Fault::ApiMisuse, "transfer", what)
                .advice("make both calls from one endpoint, or bridge them"));
        }
        let to = TransferTo::Call(other.id());
        ask(self.gateway(), Transfer { call: self.id(), to }).await
    }

    /// Makes the call that the peer asked for with [`TransferWanted`](siprtc_gateway::CallEventKind::TransferWanted), and gives
    /// its handle. The peer hangs this one up when the new one stands, which goes on in this one's bridge, conference and recordings; in a
    /// file of this one's plan only where `media` has none of its own.
    pub async fn accept_transfer(&self, media: MediaPlan) -> Result<Call> {
        let call = self.id();
        self.house()
            .begin(|new| AcceptTransfer { call, new, media })
            .await
    }

    /// Does not make the call that the peer asked for: 603. This call goes on.
    pub async fn refuse_transfer(&self) -> Result<()> {
        let refusal = RefuseTransfer {
            call: self.id(),
            status: 603,
        };
        ask(self.gateway(), refusal).await
    }

    /// The handle of a call that began by itself; it goes on in this one's bridge, conference and recordings: the one that takes this one's place
    /// ([`Replaced`](siprtc_gateway::CallEventKind::Replaced)), or the one that the peer asked for and that `call.transfer =
    /// "accept"` made ([`TransferTaken`](siprtc_gateway::CallEventKind::TransferTaken)). Once for each.
    pub async fn take(&self, call: CallId) -> Result<Call> {
        let feed = self.house().hub.claim(call).await?;
        self.house().call(call, feed)
    }
}

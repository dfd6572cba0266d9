//! Calls that others ask for, outside of any call (REFER, RFC 3515): click-to-dial.

use crate::endpoint::{Call, Endpoint, House, ask};
use siprtc_core::sip::{NameAddr, Uri};
use siprtc_core::{CallId, Result};
use siprtc_gateway::{AcceptReferral, AskedCall, MediaPlan, RefuseReferral};
use tokio::sync::mpsc;

/// Those who ask for calls, one after another.
pub struct Referrals {
    house: House,
    asked: mpsc::Receiver<AskedCall>,
}

/// Somebody wants this endpoint to call somebody. Without an answer within 30 s, it is declined.
pub struct Referral {
    house: House,
    asked: AskedCall,
}

impl Endpoint {
    /// Those who ask for calls without a call (`call.referrals`), once: 64 wait, more are declined after 30 s.
    ///
    /// ```
    /// # async fn dialled(mut endpoint: siprtc::Endpoint) -> siprtc::core::Result<()> {
    /// let mut referrals = endpoint.referrals().expect("nobody has them yet");
    /// while let Some(referral) = referrals.next().await {
    ///     match referral.to().to_string().starts_with("sip:") {
    ///         true => drop(referral.accept(siprtc::gateway::MediaPlan::default()).await?),
    ///         false => referral.refuse(603).await?,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn referrals(&mut self) -> Option<Referrals> {
        let asked = self.asked.take()?;
        let house = self.house();
        Some(Referrals { house, asked })
    }
}

impl Referrals {
    /// The next one; `None` when the endpoint is shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<Referral> {
        let asked = self.asked.recv().await?;
        let house = self.house.clone();
        Some(Referral { house, asked })
    }
}

impl Referral {
    /// Whom to call.
    pub fn to(&self) -> &Uri {
        &self.asked.to
    }

    /// Who says that it asks (RFC 3892). Nobody has made sure of it.
    pub fn referred_by(&self) -> Option<&NameAddr> {
        self.asked.referred_by.as_ref()
    }

    /// Whether the call is to take another one's place (RFC 3891).
    pub fn replaces(&self) -> bool {
        self.asked.replaces
    }

    /// Makes the call; whoever asked hears how it goes.
    ///
    /// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault::ApiMisuse) when nobody waits for it any more, and without room for another call.
    pub async fn accept(self, media: MediaPlan) -> Result<Call> {
        let referral = self.asked.referral;
        self.house
            .begin(|new: CallId| AcceptReferral { referral, new, media })
            .await
    }

    /// Does not make it: 603 is decline.
    ///
    /// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault::ApiMisuse) when nobody waits for it any more, and for a status that refuses nothing.
    pub async fn refuse(self, status: u16) -> Result<()> {
        let referral = self.asked.referral;
        ask(&self.house.hub, RefuseReferral { referral, status }).await
    }
}

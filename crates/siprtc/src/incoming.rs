//! A call that rings here.

use crate::CallReport;
use crate::endpoint::Call;
use crate::hub::{Guard, ask};
use siprtc_core::Result;
use siprtc_core::sip::NameAddr;
use siprtc_gateway::{Answer, Head, MediaPlan, Refuse};

/// A call that rings here. Dropped it is declined.
pub struct IncomingCall {
    pub(crate) call: Call,
    from: NameAddr,
    to: NameAddr,
    pub(crate) head: Box<Head>,
    pub(crate) guard: Guard,
}

impl IncomingCall {
    pub(crate) fn new(call: Call, from: NameAddr, to: NameAddr, head: Box<Head>) -> Self {
        let guard = Guard::new(call.gateway(), call.id());
        IncomingCall {
            call,
            from,
            to,
            head,
            guard,
        }
    }

    /// Who calls.
    pub fn from(&self) -> &NameAddr {
        &self.from
    }

    /// Whom they called.
    pub fn to(&self) -> &NameAddr {
        &self.to
    }

    /// Waits until the call is over without us: the caller gave up, or nobody answered in time. Given up and asked again it misses
    /// nothing, so that it can stand in a `select!` beside whoever decides.
    pub async fn given_up(&mut self) -> Option<&CallReport> {
        self.call.over().await;
        self.call.report()
    }

    /// Takes the call. Given up before it is done, the call is over.
    pub async fn answer(self, media: MediaPlan) -> Result<Call> {
        let call = self.call.id();
        ask(self.call.gateway(), Answer { call, media }).await?;
        self.guard.disarm();
        Ok(self.call)
    }

    /// Refuses it: 486 is busy here, 603 is decline.
    pub async fn refuse(self, status: u16) -> Result<()> {
        let call = self.call.id();
        ask(self.call.gateway(), Refuse { call, status }).await?;
        self.guard.disarm();
        Ok(())
    }
}

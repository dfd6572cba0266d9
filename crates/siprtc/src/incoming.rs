//! A call that rings here.

use crate::CallReport;
use crate::endpoint::Call;
use crate::hub::{Guard, ask};
use siprtc_core::Result;
use siprtc_core::sip::NameAddr;
use siprtc_gateway::{Answer, AnswerEarly, CallEventKind, Head, MediaPlan, Refuse};

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

    /// Speaks before it answers: a ringback tone, an announcement, a voice that asks first (early media, RFC 3261 section 13.3.1.1).
    /// The caller hears it without having been answered, and pays nothing yet; it may not be heard where the caller, or a network
    /// between, lets nothing through before the answer. Our description goes into a 183, acknowledged where the caller can (RFC 3262).
    ///
    /// ```no_run
    /// # use siprtc::prelude::*;
    /// /// Says that the line is recorded, and answers then.
    /// async fn warn_first(incoming: IncomingCall) -> Result<Call> {
    ///     let announcement = Source::File { path: "recorded.wav".into(), repeat: false };
    ///     let media = MediaPlan { source: announcement, ..MediaPlan::default() };
    ///     let mut early = incoming.early_media(media).await?;
    ///     while let Some(event) = early.next().await {
    ///         if matches!(event, CallEventKind::SourceEnded) {
    ///             break;
    ///         }
    ///     }
    ///     // An error when the caller has given up meanwhile.
    ///     early.answer().await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Fault::PeerIncompatible`](siprtc_core::Fault) when the INVITE has no offer and its caller acknowledges no 183
    /// ([`Head::reliable`]); the call is declined then, like any that is dropped.
    pub async fn early_media(self, media: MediaPlan) -> Result<EarlyCall> {
        let call = self.call.id();
        ask(self.call.gateway(), AnswerEarly { call, media }).await?;
        Ok(EarlyCall(self))
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

/// A call that is heard and not answered: [`IncomingCall::early_media`]. Dropped it is declined.
pub struct EarlyCall(IncomingCall);

impl EarlyCall {
    /// Who calls.
    pub fn from(&self) -> &NameAddr {
        self.0.from()
    }

    /// Whom they called.
    pub fn to(&self) -> &NameAddr {
        self.0.to()
    }

    /// The call: its statistics, a recording, a hold before it is answered, which needs a caller that takes UPDATE.
    pub fn call(&self) -> &Call {
        &self.0.call
    }

    /// The next thing that happens: the announcement's end (`SourceEnded`), a digit ... `None` after `Failed`: the caller gave up.
    pub async fn next(&mut self) -> Option<CallEventKind> {
        self.0.call.next().await
    }

    /// As [`IncomingCall::given_up`].
    pub async fn given_up(&mut self) -> Option<&CallReport> {
        self.0.given_up().await
    }

    /// Answers. The media goes on as it is. Given up before it is done, the call is over.
    pub async fn answer(self) -> Result<Call> {
        // What began goes on; the plan is not read.
        self.0.answer(MediaPlan::default()).await
    }

    /// Refuses it all the same: 486 is busy here, 603 is decline.
    pub async fn refuse(self, status: u16) -> Result<()> {
        self.0.refuse(status).await
    }
}

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
        self.take(Some(media)).await
    }

    /// `None`: with the media that runs.
    async fn take(self, media: Option<MediaPlan>) -> Result<Call> {
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
        self.0.take(None).await
    }

    /// Answers with another plan: an announcement that was sent only, then a talk both ways; video after a voice. What both plans have alike
    /// goes on: a file does not begin anew.
    ///
    /// Source and sink change at once. The 200 can say nothing that the 183 did not (RFC 3261 section 13.2.1), so another direction, or
    /// video, is offered right after the ACK, by re-INVITE or UPDATE as `call.reoffer` says:
    /// [`MediaChanged`](CallEventKind::MediaChanged) or `MediaRefused` tells how that went, and `NegotiatedVideo` what came of
    /// video. To change it before the answer, use [`EarlyCall::call`]: `set_direction` and `set_video` send an UPDATE (RFC 3311) to a caller
    /// that has acknowledged the 183 and takes one.
    ///
    /// ```no_run
    /// # use siprtc::prelude::*;
    /// /// Says that the line is recorded, and listens from then on.
    /// async fn warn_first(incoming: IncomingCall, talk: MediaPlan) -> Result<Call> {
    ///     let announcement = MediaPlan {
    ///         source: Source::File { path: "recorded.wav".into(), repeat: false },
    ///         direction: Direction::SendOnly,
    ///         ..MediaPlan::default()
    ///     };
    ///     let mut early = incoming.early_media(announcement).await?;
    ///     while !matches!(early.next().await, Some(CallEventKind::SourceEnded) | None) {}
    ///     early.answer_with(talk).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Fault::ConfigInvalid`](siprtc_core::Fault) when a file of the plan cannot be read, or made: the call is declined then, like any
    /// that is dropped.
    pub async fn answer_with(self, media: MediaPlan) -> Result<Call> {
        self.0.take(Some(media)).await
    }

    /// Refuses it all the same: 486 is busy here, 603 is decline.
    pub async fn refuse(self, status: u16) -> Result<()> {
        self.0.refuse(status).await
    }
}

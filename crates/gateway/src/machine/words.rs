//! What goes into a call's machine and what comes out.

use super::terms::Terms;
use siprtc_core::ice::Candidate;
use siprtc_core::sip::{NameAddr, Uri};
use siprtc_core::{CallId, Cause, Error};
use siprtc_dialog_manager::{DialogEventKind, DialogTag, Head, Referral, Side};
use siprtc_media_session::{Fork, MediaChange, SessionStats};
use std::time::Duration;

/// The step of a media peer that a result belongs to; results of an older step are stale and ignored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch(pub(super) u32);

/// What happened to a call.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a handful in a call's life, each moved once; a box would only be in the way"
)]
pub enum Input {
    /// The application lets the call be transferred.
    AcceptTransfer,
    /// The application answers.
    Answer,
    /// The application wants media before it answers.
    AnswerEarly,
    /// The application answers, and wants the media that runs to be otherwise as soon as the call is confirmed.
    AnswerWith(MediaChange),
    /// The media peer found a candidate after its description was made.
    Candidate(Candidate),
    /// The application wants other codecs, or other video, or none.
    Change(MediaChange),
    /// The dialog manager refuses a command, or is gone.
    CommandFailed(Command, Error),
    /// A defect of ours: nobody knows how much of what it was about to do is done.
    Condemned,
    /// The application dials.
    Dial {
        /// Whom.
        target: Uri,
    },
    /// The dialog manager speaks.
    Dialog(DialogEventKind),
    /// The media peer of [`Output::AcceptFork`] is there, or cannot be.
    Forked(Fork, Result<(), Error>),
    /// The media peer has found all candidates, after its description was made.
    Gathered,
    /// Nobody can wait for this call any longer: whatever it waits for took too long.
    GiveUp,
    /// The application ends the call.
    Hangup,
    /// The application wants the call held, or resumed.
    Hold(bool),
    /// The media peer is closed; its last numbers, if it ever ran.
    MediaClosed(Option<Box<SessionStats>>),
    /// The media path is lost for good.
    MediaLost(String),
    /// The media path is silent, or this machine's addresses have changed.
    PathBroken,
    /// A pair was found.
    PathUp,
    /// The application refuses the call.
    Refuse {
        /// 400 to 699.
        status: u16,
    },
    /// The application does not let the call be transferred.
    RefuseTransfer {
        /// 400 to 699.
        status: u16,
    },
    /// Another call has taken this one's place.
    Replaced,
    /// A step that an output began is done.
    Step(Epoch, Result<Step, Error>),
}

/// The commands to the dialog manager, which may fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// [`Output::Accept`].
    Accept,
    /// [`Output::AcceptOffer`].
    AcceptOffer,
    /// [`Output::HangUp`].
    HangUp,
    /// [`Output::Invite`].
    Invite,
    /// [`Output::ReInvite`].
    ReInvite,
    /// [`Output::Refuse`].
    Refuse,
    /// [`Output::RefuseOffer`].
    RefuseOffer,
    /// [`Output::ReportReferral`].
    ReportReferral,
    /// [`Output::Ring`] and [`Output::Progress`].
    Ring,
    /// [`Output::SendCandidates`].
    SendCandidates,
}

/// The result of a step.
#[derive(Debug)]
pub enum Step {
    /// Of [`Output::ApplyAnswer`] and [`Output::TakeFork`].
    AnswerApplied,
    /// Of [`Output::MakeAnswer`]: the answer for the wire.
    AnswerMade(String),
    /// Of [`Output::MakeOffer`]: the offer for the wire.
    OfferMade(String),
    /// Of [`Output::Screen`].
    ScreenPassed,
}

/// What the gateway has to do for a call.
#[derive(Debug)]
pub enum Output {
    /// 200 to the initial INVITE.
    Accept(String),
    /// Make a media peer for the early answer of another dialog; then [`Input::Forked`].
    AcceptFork {
        /// Which.
        fork: Fork,
        /// What we offered.
        offer: String,
        /// The peer's answer.
        answer: String,
        /// It is heard from now on, in the place of whoever was.
        is_heard: bool,
    },
    /// 200 to the peer's re-INVITE.
    AcceptOffer(String),
    /// Candidates of a peer's that its media peer does not know yet.
    AddCandidates {
        /// Whose, while several early dialogs have a media peer each.
        fork: Fork,
        /// Those that are new.
        candidates: Vec<Candidate>,
    },
    /// Translate and set the peer's answer to our offer; then [`Step::AnswerApplied`].
    ApplyAnswer {
        /// For the result.
        epoch: Epoch,
        /// What we offered.
        offer: String,
        /// The peer's answer.
        answer: String,
    },
    /// Close the media peer; then [`Input::MediaClosed`].
    CloseMedia,
    /// The call is over and told; nothing of it is left.
    Forget,
    /// CANCEL, BYE or a refusal.
    HangUp {
        /// For a Reason header (RFC 3326).
        reason: Option<String>,
    },
    /// INVITE.
    Invite {
        /// Whom.
        target: Uri,
        /// What we offer.
        offer: String,
    },
    /// Set the peer's offer and make an answer; then [`Step::AnswerMade`].
    MakeAnswer {
        /// For the result.
        epoch: Epoch,
        /// What the peer offers.
        offer: String,
    },
    /// Make an offer; then [`Step::OfferMade`].
    MakeOffer {
        /// For the result.
        epoch: Epoch,
    },
    /// re-INVITE, or an UPDATE.
    ReInvite {
        /// What we offer.
        offer: String,
        /// In that early dialog, of a call that nobody has answered.
        early: Option<DialogTag>,
    },
    /// A final refusal of the initial INVITE.
    Refuse(u16),
    /// A refusal of the peer's re-INVITE: 488 or 491.
    RefuseOffer(u16),
    /// 183 with our description.
    Progress(String),
    /// Put a new media peer in the place of the old one.
    ReplaceMedia,
    /// How the call goes that the peer asked for.
    ReportReferral(u16),
    /// New ICE credentials with the next offer.
    RestartIce,
    /// 180.
    Ring,
    /// Read the peer's offer; then [`Step::ScreenPassed`].
    Screen {
        /// For the result.
        epoch: Epoch,
        /// What the peer offers.
        offer: String,
    },
    /// What the next descriptions say of the media.
    SetMedia(Terms),
    /// INFO with our candidates, as the body of a `trickle-ice` package.
    SendCandidates(String),
    /// Take this fork's media peer for the call, which may still have to be made, and close all others; then
    /// [`Step::AnswerApplied`].
    TakeFork {
        /// For the result.
        epoch: Epoch,
        /// Which.
        fork: Fork,
        /// What we offered.
        offer: String,
        /// The peer's answer.
        answer: String,
    },
    /// Make the call that the peer asked for.
    TakeReferral(Referral),
    /// Tell the application.
    Tell(Told),
    /// Roll the media peer's offer back, if it holds one.
    UndoOffer,
    /// Put a new media peer of the classic engine in the place of the old one.
    UseClassic {
        /// What the peer answered to our first offer: the next one had better speak as it did.
        heard: Option<String>,
    },
}

/// What the application is told, before it becomes an event of the crate's API.
#[derive(Debug)]
pub enum Told {
    /// Answered.
    Accepted,
    /// The dialog is confirmed and the session description settled.
    Confirmed,
    /// Over.
    Ended(Ending),
    /// A side holds the call.
    Held(Side),
    /// An offer that was to hold the call (`true`) or to resume it came to nothing.
    HoldRefused(bool),
    /// What was offered of codecs and video is agreed on.
    MediaChanged,
    /// What was offered of codecs and video came to nothing; what was agreed before holds.
    MediaRefused,
    /// Somebody calls.
    Incoming {
        /// Who.
        from: NameAddr,
        /// Whom.
        to: NameAddr,
        /// The call of ours in whose place it comes.
        replaces: Option<CallId>,
        /// What else its INVITE says.
        head: Box<Head>,
    },
    /// A provisional answer.
    Progress {
        /// 180, 183 ...
        status: u16,
        /// It carried an SDP answer.
        early_media: bool,
    },
    /// A side holds the call no more.
    Resumed(Side),
    /// The peer was told 603, for nobody answered its wish.
    TransferLapsed,
    /// What the peer says of the call that we asked for.
    TransferProgress(u16),
    /// It came to nothing.
    TransferRefused(u16),
    /// The peer wants us to call somebody else.
    TransferWanted(Referral),
    /// The peer talks to whom we sent it to.
    Transferred,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// Who ended it.
    pub by: Side,
    /// The final status of the INVITE, when it was refused.
    pub status: Option<u16>,
    /// A sentence for people: whose fault and what next.
    pub sentence: Option<String>,
    /// Where the callee is, best first, when the call was sent elsewhere (300 to 399).
    pub contacts: Vec<Uri>,
    /// How long to wait before another try, when the answer said so (Retry-After).
    pub retry_after: Option<Duration>,
    /// Whether both sides had agreed to talk.
    pub established: bool,
    /// The media's numbers, when there was media.
    pub stats: Option<Box<SessionStats>>,
}

impl Ending {
    /// Whether the same call may well succeed a little later: nobody said that it will not.
    pub fn is_worth_a_retry(&self) -> bool {
        let passes = matches!(
            self.cause,
            Cause::Busy
                | Cause::ConnectionFailed
                | Cause::NoAnswer
                | Cause::ServerError
                | Cause::TimedOut
                | Cause::Unavailable
        );
        // RFC 3261 sections 21.5.2, 21.5.6, 21.5.7 and 21.6: the server cannot; a 6xx speaks for every place.
        let is_for_good = matches!(self.status, Some(501 | 505 | 513 | 600..));
        !self.established && (self.retry_after.is_some() || passes && !is_for_good)
    }
}

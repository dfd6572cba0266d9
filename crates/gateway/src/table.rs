//! The JSEP x SIP table, as data.
//!
//! One row says: in this SIP state and this JSEP state, when this happens, do these things and be in that state. There
//! is no other place that decides what a call does. The four steps of a call read like this:
//!
//! 1. `Dial` makes an offer (candidates gathered), the offer made becomes an INVITE;
//! 2. the callee screens the offer, rings (180), and its answer becomes the 200;
//! 3. the answer is applied (`setRemoteDescription`), the dialog manager has sent the ACK, media flows;
//! 4. whoever hangs up sends CANCEL or BYE, media closes, and the call is over when both are done.
//!
//! An event without a row, here or in [`FALLBACK`], means nothing in that state: it changes nothing. `tests/table` says
//! of each such pair why, and `docs/gateway.md` is this table drawn.

use std::time::Duration;

/// Makes an enum of words, each of which knows its meaning: its own documentation.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[doc = $meaning:literal])+ $word:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name { $($(#[doc = $meaning])+ $word,)+ }

        impl $name {
            /// All of them, in the order of the alphabet.
            pub const ALL: &'static [$name] = &[$($name::$word),+];

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $($name::$word => concat!($($meaning),+).trim_ascii(),)+ }
            }
        }
    };
}

words! {
    /// Where the SIP side of a call stands.
    pub enum Sip {
        /// Our 200 is out, the ACK is not in.
        Accepting,
        /// The dialog is confirmed and no re-INVITE is on its way.
        Confirmed,
        /// A provisional answer created an early dialog.
        Early,
        /// The peer's UPDATE in the early dialog waits for our answer.
        EarlyOffered,
        /// Our UPDATE in the early dialog is out.
        EarlyOffering,
        /// The dialog is over.
        Ended,
        /// CANCEL, BYE or a refusal is out.
        Ending,
        /// Nothing is on the wire.
        Idle,
        /// An INVITE came in and has no final answer.
        Incoming,
        /// Our INVITE is out, nothing but 100 came back.
        Inviting,
        /// Our 183 with our description is out: media runs, and nobody has answered the call.
        Progressed,
        /// The same, and the peer's offer in an UPDATE or a PRACK waits for our answer.
        ProgressedOffered,
        /// The description for our 183 is being made.
        Progressing,
        /// Our re-INVITE is out; or, with JSEP stable, it gave way to the peer's, which must come now.
        ReInviting,
        /// The peer's re-INVITE waits for our answer, or for the ACK that answers our offer.
        ReOffered,
    }
}

words! {
    /// Where the session description stands: JSEP's signalling state (RFC 9429 section 3.2), with the steps that take
    /// time as states of their own.
    pub enum Jsep {
        /// `setRemoteDescription(answer)` is running.
        ApplyingAnswer,
        /// The media peer is closed.
        Closed,
        /// The media peer is being closed.
        Closing,
        /// Our offer is out.
        HaveLocalOffer,
        /// `setRemoteDescription(offer)`, `createAnswer` and gathering are running.
        MakingAnswer,
        /// `createOffer` and gathering are running.
        MakingOffer,
        /// The peer's offer is being read before anybody's telephone rings.
        Screening,
        /// No negotiation is running.
        Stable,
    }
}

words! {
    /// What can happen to a call.
    pub enum On {
        /// Our 200 to the peer's re-INVITE came too late: the peer had withdrawn it.
        AcceptFailed,
        /// The application answers an INVITE with an offer.
        Answer,
        /// The answer is applied: the media peer knows both sides.
        AnswerApplied,
        /// The application wants media before it answers an INVITE with an offer.
        AnswerEarly,
        /// The application wants media before it answers an INVITE without an offer.
        AnswerEarlyOfferless,
        /// The answer is made and complete with candidates.
        AnswerMade,
        /// The application answers an INVITE without an offer.
        AnswerOfferless,
        /// The first answer does not suit our offer (no ICE, rejected audio), and there is another engine to offer with.
        AnswerUnfit,
        /// A 2xx with the first answer that this call sees.
        Answered,
        /// A 2xx of another early dialog than the one whose early answer is applied, which can have no media peer of the same offer.
        AnsweredElsewhere,
        /// A 2xx of one of several early dialogs that have, or may have, a media peer of our offer each.
        AnsweredFork,
        /// A 2xx of the early dialog whose answer is applied already.
        AnsweredSame,
        /// Candidates came after their description, nothing works without them, and the peer takes no INFOs.
        CandidatesUntold,
        /// The application wants the call held or resumed, or other codecs, or other video, or none.
        ChangeWanted,
        /// The dialog manager refuses a command: the two would disagree about the call from now on.
        CommandFailed,
        /// The peer's ACK arrived, without SDP.
        Confirmed,
        /// The peer's ACK arrived and carries the answer to the offer in our 200.
        ConfirmedWithAnswer,
        /// The application dials.
        Dial,
        /// The dialog manager says that the dialog is over, or knows of none.
        DialogEnded,
        /// A provisional answer with an SDP answer.
        EarlyAnswer,
        /// The media peer of the fork that answered cannot be had.
        ForkFailed,
        /// The application asked for the end.
        Hangup,
        /// An INVITE with an offer.
        Invited,
        /// An INVITE without an offer.
        InvitedOfferless,
        /// The media peer is closed.
        MediaClosed,
        /// A step of the media peer or the translator failed, or the peer owes an answer; nothing agreed before holds.
        MediaError,
        /// The media path is lost for good.
        MediaLost,
        /// An offer within the call, ours or the peer's, came to nothing; what was agreed before holds.
        OfferFailed,
        /// Our offer is made and complete with candidates.
        OfferMade,
        /// Our offer is refused as unfit for the peer (RFC 3261 sections 21.4.13, 21.4.26 and 21.6.4), and there is another
        /// engine to offer with.
        OfferUnfit,
        /// The peer withdrew its re-INVITE (CANCEL), or ran out of patience.
        OfferWithdrawn,
        /// The peer's re-INVITE, UPDATE or PRACK carries an offer.
        Offered,
        /// The peer's re-INVITE carries no offer.
        OfferedOfferless,
        /// The media path is silent, or this machine's addresses have changed.
        PathBroken,
        /// Our re-INVITE or UPDATE was answered, or, by a PRACK, the offer in our 183.
        ReAnswered,
        /// The peer's ACK of its re-INVITE arrived, without SDP.
        ReConfirmed,
        /// The peer's ACK of its offerless re-INVITE arrived, with the answer.
        ReConfirmedWithAnswer,
        /// Both sides offered at once (491), and the peer's offer goes first.
        ReGlare,
        /// Our re-INVITE was refused, and nothing agreed before holds.
        ReRefused,
        /// The session has to be refreshed with an offer (RFC 4028).
        RefreshDue,
        /// The application refuses the call.
        Refuse,
        /// 180 or another provisional answer without SDP.
        Ringing,
        /// The peer's offer can be answered.
        ScreenPassed,
        /// What this state waits for did not come in time, see [`patience`].
        TookTooLong,
    }
}

words! {
    /// What the gateway does. Data (an SDP, a status) comes from the event or from what the call remembers.
    pub enum Do {
        /// 200 to the initial INVITE with our SDP.
        Accept,
        /// 200 to the peer's re-INVITE or UPDATE with our SDP.
        AcceptOffer,
        /// Translate the peer's answer and set it.
        ApplyAnswer,
        /// Stop the pumps, close the media peer, collect its last numbers.
        CloseMedia,
        /// Forget the call: nothing of it is left.
        Forget,
        /// BYE, CANCEL or a refusal, as the dialog's state wants.
        HangUp,
        /// INVITE with our offer.
        Invite,
        /// Set the peer's offer, make an answer, gather, translate.
        MakeAnswer,
        /// Make an offer, gather, translate.
        MakeOffer,
        /// 183 with our SDP.
        Progress,
        /// re-INVITE, or an UPDATE, with our offer.
        ReInvite,
        /// 488 to the initial INVITE, or 500 when the fault is ours.
        RefuseMedia,
        /// 488 to the peer's re-INVITE or UPDATE.
        RefuseOffer,
        /// 491 to the peer's re-INVITE or UPDATE: an offer is pending (RFC 3261 section 14.2).
        RefusePending,
        /// The status that the application chose, to the initial INVITE.
        RefuseWithStatus,
        /// A new media peer in the place of the old one, which closes.
        ReplaceMedia,
        /// New ICE credentials with the next offer (RFC 8445 section 9).
        RestartIce,
        /// 180.
        Ring,
        /// Read the peer's offer: is there audio in common?
        Screen,
        /// The next description says which way media shall flow from now on (RFC 3264 section 8.4), in which codecs, and whether
        /// there is video.
        SetMedia,
        /// The media peer of the fork that answered is the call's, all others close.
        TakeFork,
        /// Tell the application: answered by the peer.
        TellAccepted,
        /// Tell the application, once in a call: the dialog is confirmed, both descriptions are set.
        TellConfirmed,
        /// Tell the application: over, with cause and numbers.
        TellEnded,
        /// Tell the application: somebody calls.
        TellIncoming,
        /// Tell the application: it rings there.
        TellProgress,
        /// Take our offer back: the media peer is stable again (rollback, RFC 9429 section 4.1.10.2).
        UndoOffer,
        /// A new media peer of the classic engine in the place of the old one, which closes.
        UseClassic,
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// In this SIP state,
    pub sip: Sip,
    /// and this JSEP state,
    pub jsep: Jsep,
    /// when this happens,
    pub on: On,
    /// be in this state,
    pub next: (Sip, Jsep),
    /// and do this.
    pub actions: &'static [Do],
}

const fn row(sip: Sip, jsep: Jsep, on: On, next: (Sip, Jsep), actions: &'static [Do]) -> Row {
    Row {
        sip,
        jsep,
        on,
        next,
        actions,
    }
}

/// The rows that belong to one pair of states each, in the order of a call.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // Step 1, the caller: gather, offer, INVITE.
    row(Sip::Idle, Jsep::Stable, On::Dial, (Sip::Idle, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Idle, Jsep::MakingOffer, On::OfferMade, (Sip::Inviting, Jsep::HaveLocalOffer), &[Do::Invite]),
    // Before the INVITE is out there is no dialog to end.
    row(Sip::Idle, Jsep::MakingOffer, On::Hangup, (Sip::Ended, Jsep::Closing), &[Do::CloseMedia]),
    row(Sip::Idle, Jsep::MakingOffer, On::MediaError, (Sip::Ended, Jsep::Closing), &[Do::CloseMedia]),
    row(Sip::Idle, Jsep::MakingOffer, On::MediaLost, (Sip::Ended, Jsep::Closing), &[Do::CloseMedia]),

    // Step 2, the caller: 180 and 200.
    row(Sip::Inviting, Jsep::HaveLocalOffer, On::Ringing, (Sip::Early, Jsep::HaveLocalOffer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::HaveLocalOffer, On::Ringing, (Sip::Early, Jsep::HaveLocalOffer), &[Do::TellProgress]),
    row(Sip::Inviting, Jsep::HaveLocalOffer, On::EarlyAnswer, (Sip::Early, Jsep::ApplyingAnswer), &[Do::TellProgress, Do::ApplyAnswer]),
    row(Sip::Early, Jsep::HaveLocalOffer, On::EarlyAnswer, (Sip::Early, Jsep::ApplyingAnswer), &[Do::TellProgress, Do::ApplyAnswer]),
    row(Sip::Early, Jsep::ApplyingAnswer, On::AnswerApplied, (Sip::Early, Jsep::Stable), &[]),
    // One media peer takes one answer: a second early answer is only told (RFC 3264 section 5, RFC 3261 section 13.2.1: later SDP
    // of the same dialog repeats the first). That of another dialog has a media peer of its own, beside this table (`machine/forks.rs`).
    row(Sip::Early, Jsep::ApplyingAnswer, On::EarlyAnswer, (Sip::Early, Jsep::ApplyingAnswer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::ApplyingAnswer, On::Ringing, (Sip::Early, Jsep::ApplyingAnswer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::Stable, On::EarlyAnswer, (Sip::Early, Jsep::Stable), &[Do::TellProgress]),
    row(Sip::Early, Jsep::Stable, On::Ringing, (Sip::Early, Jsep::Stable), &[Do::TellProgress]),

    // The early answer was acknowledged (PRACK): either side may offer anew by an UPDATE before anybody has answered the call
    // (RFC 3311 section 5). What comes of it is what a 2xx of this dialog confirms; that of another one makes all of it void.
    row(Sip::Early, Jsep::Stable, On::Offered, (Sip::EarlyOffered, Jsep::MakingAnswer), &[Do::MakeAnswer]),
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::AnswerMade, (Sip::Early, Jsep::Stable), &[Do::AcceptOffer]),
    row(Sip::Early, Jsep::Stable, On::ReConfirmed, (Sip::Early, Jsep::Stable), &[]),
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::OfferFailed, (Sip::Early, Jsep::Stable), &[Do::UndoOffer, Do::RefuseOffer]),
    // As in a confirmed dialog: our media peer moves on, so we offer anew.
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::OfferWithdrawn, (Sip::Early, Jsep::MakingAnswer), &[]),
    row(Sip::Early, Jsep::MakingAnswer, On::AnswerMade, (Sip::Early, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Early, Jsep::MakingAnswer, On::OfferFailed, (Sip::Early, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::Early, Jsep::Stable, On::AcceptFailed, (Sip::Early, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Early, Jsep::Stable, On::ChangeWanted, (Sip::Early, Jsep::MakingOffer), &[Do::SetMedia, Do::MakeOffer]),
    row(Sip::Early, Jsep::MakingOffer, On::OfferMade, (Sip::EarlyOffering, Jsep::HaveLocalOffer), &[Do::ReInvite]),
    row(Sip::Early, Jsep::MakingOffer, On::OfferFailed, (Sip::Early, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::ReAnswered, (Sip::Early, Jsep::ApplyingAnswer), &[Do::ApplyAnswer]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::OfferFailed, (Sip::Early, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::Early, Jsep::ApplyingAnswer, On::Offered, (Sip::Early, Jsep::ApplyingAnswer), &[Do::RefusePending]),
    row(Sip::Early, Jsep::MakingAnswer, On::Offered, (Sip::Early, Jsep::MakingAnswer), &[Do::RefusePending]),
    row(Sip::Early, Jsep::MakingOffer, On::Offered, (Sip::Early, Jsep::MakingOffer), &[Do::RefusePending]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::Offered, (Sip::EarlyOffering, Jsep::HaveLocalOffer), &[Do::RefusePending]),
    row(Sip::Early, Jsep::MakingAnswer, On::Ringing, (Sip::Early, Jsep::MakingAnswer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::MakingAnswer, On::EarlyAnswer, (Sip::Early, Jsep::MakingAnswer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::MakingOffer, On::Ringing, (Sip::Early, Jsep::MakingOffer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::MakingOffer, On::EarlyAnswer, (Sip::Early, Jsep::MakingOffer), &[Do::TellProgress]),
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::Ringing, (Sip::EarlyOffered, Jsep::MakingAnswer), &[Do::TellProgress]),
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::EarlyAnswer, (Sip::EarlyOffered, Jsep::MakingAnswer), &[Do::TellProgress]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::Ringing, (Sip::EarlyOffering, Jsep::HaveLocalOffer), &[Do::TellProgress]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::EarlyAnswer, (Sip::EarlyOffering, Jsep::HaveLocalOffer), &[Do::TellProgress]),
    row(Sip::Early, Jsep::MakingAnswer, On::AnsweredSame, (Sip::Confirmed, Jsep::MakingAnswer), &[Do::TellAccepted, Do::TellConfirmed]),
    row(Sip::Early, Jsep::MakingOffer, On::AnsweredSame, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::TellConfirmed]),
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::AnsweredSame, (Sip::ReOffered, Jsep::MakingAnswer), &[Do::TellAccepted, Do::TellConfirmed]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::AnsweredSame, (Sip::ReInviting, Jsep::HaveLocalOffer), &[Do::TellAccepted, Do::TellConfirmed]),
    row(Sip::Early, Jsep::MakingAnswer, On::AnsweredElsewhere, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::ReplaceMedia, Do::MakeOffer]),
    row(Sip::Early, Jsep::MakingOffer, On::AnsweredElsewhere, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::ReplaceMedia, Do::MakeOffer]),
    row(Sip::EarlyOffered, Jsep::MakingAnswer, On::AnsweredElsewhere, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::ReplaceMedia, Do::MakeOffer]),
    row(Sip::EarlyOffering, Jsep::HaveLocalOffer, On::AnsweredElsewhere, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::ReplaceMedia, Do::MakeOffer]),

    // A peer that cannot do WebRTC's transport is called again, once, with what telephones have.
    row(Sip::Inviting, Jsep::HaveLocalOffer, On::OfferUnfit, (Sip::Idle, Jsep::MakingOffer), &[Do::UseClassic, Do::MakeOffer]),
    row(Sip::Early, Jsep::HaveLocalOffer, On::OfferUnfit, (Sip::Idle, Jsep::MakingOffer), &[Do::UseClassic, Do::MakeOffer]),

    // The same when it finds nothing wrong with the offer and answers something else: a new media peer offers inside the
    // dialog, once that is confirmed.
    row(Sip::Early, Jsep::ApplyingAnswer, On::AnswerUnfit, (Sip::Early, Jsep::Stable), &[Do::UseClassic]),
    row(Sip::Confirmed, Jsep::ApplyingAnswer, On::AnswerUnfit, (Sip::Confirmed, Jsep::MakingOffer), &[Do::UseClassic, Do::MakeOffer]),

    // Step 3, the caller: setRemoteDescription; the ACK is out already.
    row(Sip::Inviting, Jsep::HaveLocalOffer, On::Answered, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::TellAccepted, Do::ApplyAnswer]),
    row(Sip::Early, Jsep::HaveLocalOffer, On::Answered, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::TellAccepted, Do::ApplyAnswer]),
    row(Sip::Confirmed, Jsep::ApplyingAnswer, On::AnswerApplied, (Sip::Confirmed, Jsep::Stable), &[Do::TellConfirmed]),
    row(Sip::Early, Jsep::ApplyingAnswer, On::AnsweredSame, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::TellAccepted]),
    row(Sip::Early, Jsep::Stable, On::AnsweredSame, (Sip::Confirmed, Jsep::Stable), &[Do::TellAccepted, Do::TellConfirmed]),
    // There is a media peer for each fork: that of the 2xx stays.
    row(Sip::Early, Jsep::ApplyingAnswer, On::AnsweredFork, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::TellAccepted, Do::TakeFork]),
    row(Sip::Early, Jsep::Stable, On::AnsweredFork, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::TellAccepted, Do::TakeFork]),
    row(Sip::Confirmed, Jsep::ApplyingAnswer, On::ForkFailed, (Sip::Confirmed, Jsep::MakingOffer), &[Do::ReplaceMedia, Do::MakeOffer]),
    // Or there is not, and another fork answered than the one whose early media we hear: its answer belongs to our old offer, which one
    // media peer cannot apply twice. A new peer offers anew inside the confirmed dialog.
    row(Sip::Early, Jsep::ApplyingAnswer, On::AnsweredElsewhere, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::ReplaceMedia, Do::MakeOffer]),
    row(Sip::Early, Jsep::Stable, On::AnsweredElsewhere, (Sip::Confirmed, Jsep::MakingOffer), &[Do::TellAccepted, Do::ReplaceMedia, Do::MakeOffer]),

    // Steps 1 to 3, the callee.
    row(Sip::Idle, Jsep::Stable, On::Invited, (Sip::Incoming, Jsep::Screening), &[Do::Screen]),
    row(Sip::Idle, Jsep::Stable, On::InvitedOfferless, (Sip::Incoming, Jsep::Stable), &[Do::Ring, Do::TellIncoming]),
    row(Sip::Incoming, Jsep::Screening, On::ScreenPassed, (Sip::Incoming, Jsep::Stable), &[Do::Ring, Do::TellIncoming]),
    row(Sip::Incoming, Jsep::Screening, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Incoming, Jsep::Stable, On::Answer, (Sip::Incoming, Jsep::MakingAnswer), &[Do::MakeAnswer]),
    row(Sip::Incoming, Jsep::MakingAnswer, On::AnswerMade, (Sip::Accepting, Jsep::Stable), &[Do::Accept, Do::TellAccepted]),
    row(Sip::Incoming, Jsep::MakingAnswer, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Accepting, Jsep::Stable, On::Confirmed, (Sip::Confirmed, Jsep::Stable), &[Do::TellConfirmed]),
    // An INVITE without an offer: ours goes into the 200, the answer comes in the ACK (RFC 3261 section 13.2.1).
    row(Sip::Incoming, Jsep::Stable, On::AnswerOfferless, (Sip::Incoming, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Incoming, Jsep::MakingOffer, On::OfferMade, (Sip::Accepting, Jsep::HaveLocalOffer), &[Do::Accept, Do::TellAccepted]),
    row(Sip::Incoming, Jsep::MakingOffer, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Accepting, Jsep::HaveLocalOffer, On::ConfirmedWithAnswer, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::ApplyAnswer]),
    // The ACK owes an answer and has none: the peer broke RFC 3261 section 13.2.2.4.
    row(Sip::Accepting, Jsep::HaveLocalOffer, On::Confirmed, (Sip::Ending, Jsep::Closing), &[Do::HangUp, Do::CloseMedia]),
    row(Sip::Incoming, Jsep::Screening, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Incoming, Jsep::Stable, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Incoming, Jsep::MakingAnswer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Incoming, Jsep::MakingOffer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),

    // Media before the answer (RFC 3261 section 13.3.1.1): a 183 has what the 200 would say, and the 200 says the same, or, where the
    // 183 was acknowledged (RFC 3262), nothing. Whether it was is the dialog manager's business; offers follow only if it was.
    row(Sip::Incoming, Jsep::Stable, On::AnswerEarly, (Sip::Progressing, Jsep::MakingAnswer), &[Do::MakeAnswer]),
    row(Sip::Progressing, Jsep::MakingAnswer, On::AnswerMade, (Sip::Progressed, Jsep::Stable), &[Do::Progress]),
    row(Sip::Progressing, Jsep::MakingAnswer, On::Answer, (Sip::Incoming, Jsep::MakingAnswer), &[]),
    row(Sip::Progressing, Jsep::MakingAnswer, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::Stable, On::Answer, (Sip::Accepting, Jsep::Stable), &[Do::Accept, Do::TellAccepted]),
    // An INVITE without an offer: ours goes into the 183, the answer comes in the PRACK (RFC 3262 section 5).
    row(Sip::Incoming, Jsep::Stable, On::AnswerEarlyOfferless, (Sip::Progressing, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Progressing, Jsep::MakingOffer, On::OfferMade, (Sip::Progressed, Jsep::HaveLocalOffer), &[Do::Progress]),
    row(Sip::Progressing, Jsep::MakingOffer, On::AnswerOfferless, (Sip::Incoming, Jsep::MakingOffer), &[]),
    row(Sip::Progressing, Jsep::MakingOffer, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::HaveLocalOffer, On::ReAnswered, (Sip::Progressed, Jsep::ApplyingAnswer), &[Do::ApplyAnswer]),
    row(Sip::Progressed, Jsep::HaveLocalOffer, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::ApplyingAnswer, On::AnswerApplied, (Sip::Progressed, Jsep::Stable), &[]),
    row(Sip::Progressed, Jsep::ApplyingAnswer, On::MediaError, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    // Either side may offer anew once the 183 is acknowledged, as where we call.
    row(Sip::Progressed, Jsep::Stable, On::Offered, (Sip::ProgressedOffered, Jsep::MakingAnswer), &[Do::MakeAnswer]),
    row(Sip::ProgressedOffered, Jsep::MakingAnswer, On::AnswerMade, (Sip::Progressed, Jsep::Stable), &[Do::AcceptOffer]),
    row(Sip::Progressed, Jsep::Stable, On::ReConfirmed, (Sip::Progressed, Jsep::Stable), &[]),
    row(Sip::ProgressedOffered, Jsep::MakingAnswer, On::OfferFailed, (Sip::Progressed, Jsep::Stable), &[Do::UndoOffer, Do::RefuseOffer]),
    row(Sip::ProgressedOffered, Jsep::MakingAnswer, On::OfferWithdrawn, (Sip::Progressed, Jsep::MakingAnswer), &[]),
    row(Sip::Progressed, Jsep::MakingAnswer, On::AnswerMade, (Sip::Progressed, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Progressed, Jsep::MakingAnswer, On::OfferFailed, (Sip::Progressed, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::Progressed, Jsep::Stable, On::AcceptFailed, (Sip::Progressed, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Progressed, Jsep::Stable, On::ChangeWanted, (Sip::Progressed, Jsep::MakingOffer), &[Do::SetMedia, Do::MakeOffer]),
    row(Sip::Progressed, Jsep::MakingOffer, On::OfferMade, (Sip::Progressed, Jsep::HaveLocalOffer), &[Do::ReInvite]),
    row(Sip::Progressed, Jsep::MakingOffer, On::OfferFailed, (Sip::Progressed, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::Progressed, Jsep::HaveLocalOffer, On::OfferFailed, (Sip::Progressed, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::Progressed, Jsep::ApplyingAnswer, On::Offered, (Sip::Progressed, Jsep::ApplyingAnswer), &[Do::RefusePending]),
    row(Sip::Progressed, Jsep::MakingAnswer, On::Offered, (Sip::Progressed, Jsep::MakingAnswer), &[Do::RefusePending]),
    row(Sip::Progressed, Jsep::MakingOffer, On::Offered, (Sip::Progressed, Jsep::MakingOffer), &[Do::RefusePending]),
    row(Sip::Progressed, Jsep::HaveLocalOffer, On::Offered, (Sip::Progressed, Jsep::HaveLocalOffer), &[Do::RefusePending]),
    // Nobody has answered: the INVITE is refused. A path that is lost is our affair (500), and no reason to stop other forks (603).
    row(Sip::Progressing, Jsep::MakingAnswer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressing, Jsep::MakingOffer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::Stable, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::ApplyingAnswer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::HaveLocalOffer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::MakingAnswer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::MakingOffer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::ProgressedOffered, Jsep::MakingAnswer, On::Refuse, (Sip::Ending, Jsep::Closing), &[Do::RefuseWithStatus, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::Stable, On::MediaLost, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::ApplyingAnswer, On::MediaLost, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::HaveLocalOffer, On::MediaLost, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::MakingAnswer, On::MediaLost, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::Progressed, Jsep::MakingOffer, On::MediaLost, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),
    row(Sip::ProgressedOffered, Jsep::MakingAnswer, On::MediaLost, (Sip::Ending, Jsep::Closing), &[Do::RefuseMedia, Do::CloseMedia]),

    // The peer offers anew in the confirmed dialog.
    row(Sip::Confirmed, Jsep::Stable, On::Offered, (Sip::ReOffered, Jsep::MakingAnswer), &[Do::MakeAnswer]),
    row(Sip::ReOffered, Jsep::MakingAnswer, On::AnswerMade, (Sip::Confirmed, Jsep::Stable), &[Do::AcceptOffer, Do::TellConfirmed]),
    row(Sip::ReOffered, Jsep::MakingAnswer, On::OfferFailed, (Sip::Confirmed, Jsep::Stable), &[Do::UndoOffer, Do::RefuseOffer]),
    row(Sip::Confirmed, Jsep::Stable, On::ReConfirmed, (Sip::Confirmed, Jsep::Stable), &[]),
    row(Sip::Confirmed, Jsep::Stable, On::OfferedOfferless, (Sip::ReOffered, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::ReOffered, Jsep::MakingOffer, On::OfferMade, (Sip::ReOffered, Jsep::HaveLocalOffer), &[Do::AcceptOffer]),
    row(Sip::ReOffered, Jsep::MakingOffer, On::OfferFailed, (Sip::Confirmed, Jsep::Stable), &[Do::UndoOffer, Do::RefuseOffer]),
    row(Sip::ReOffered, Jsep::HaveLocalOffer, On::ReConfirmedWithAnswer, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::ApplyAnswer]),
    row(Sip::ReOffered, Jsep::HaveLocalOffer, On::ReConfirmed, (Sip::Ending, Jsep::Closing), &[Do::HangUp, Do::CloseMedia]),
    // The peer takes its offer back while we work on it. Our media peer moves on all the same, so we offer anew: else
    // the two ends might no longer mean the same session.
    row(Sip::ReOffered, Jsep::MakingAnswer, On::OfferWithdrawn, (Sip::Confirmed, Jsep::MakingAnswer), &[]),
    row(Sip::Confirmed, Jsep::MakingAnswer, On::AnswerMade, (Sip::Confirmed, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Confirmed, Jsep::MakingAnswer, On::OfferFailed, (Sip::Confirmed, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::ReOffered, Jsep::MakingOffer, On::OfferWithdrawn, (Sip::Confirmed, Jsep::MakingOffer), &[]),
    // The same when its CANCEL and our 200 cross.
    row(Sip::Confirmed, Jsep::Stable, On::AcceptFailed, (Sip::Confirmed, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::ReOffered, Jsep::HaveLocalOffer, On::AcceptFailed, (Sip::ReInviting, Jsep::HaveLocalOffer), &[Do::ReInvite]),
    // No second offer while a negotiation runs: 491 (RFC 3261 section 14.2), and the peer tries again.
    row(Sip::Confirmed, Jsep::ApplyingAnswer, On::Offered, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::RefusePending]),
    row(Sip::Confirmed, Jsep::ApplyingAnswer, On::OfferedOfferless, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::RefusePending]),
    row(Sip::Confirmed, Jsep::MakingAnswer, On::Offered, (Sip::Confirmed, Jsep::MakingAnswer), &[Do::RefusePending]),
    row(Sip::Confirmed, Jsep::MakingAnswer, On::OfferedOfferless, (Sip::Confirmed, Jsep::MakingAnswer), &[Do::RefusePending]),
    row(Sip::Confirmed, Jsep::MakingOffer, On::Offered, (Sip::Confirmed, Jsep::MakingOffer), &[Do::RefusePending]),
    row(Sip::Confirmed, Jsep::MakingOffer, On::OfferedOfferless, (Sip::Confirmed, Jsep::MakingOffer), &[Do::RefusePending]),
    row(Sip::ReInviting, Jsep::HaveLocalOffer, On::Offered, (Sip::ReInviting, Jsep::HaveLocalOffer), &[Do::RefusePending]),
    row(Sip::ReInviting, Jsep::HaveLocalOffer, On::OfferedOfferless, (Sip::ReInviting, Jsep::HaveLocalOffer), &[Do::RefusePending]),

    // We offer anew in the confirmed dialog.
    row(Sip::Confirmed, Jsep::MakingOffer, On::OfferMade, (Sip::ReInviting, Jsep::HaveLocalOffer), &[Do::ReInvite]),
    // Dialog, DTLS and SRTP stay; ICE begins anew with what there is of addresses now. The old pair stays in use until
    // another is found, and should the peer refuse, it is as before: a path that stays silent ends the call by itself.
    row(Sip::Confirmed, Jsep::Stable, On::PathBroken, (Sip::Confirmed, Jsep::MakingOffer), &[Do::RestartIce, Do::MakeOffer]),
    // The same credentials with more candidates: no restart (RFC 8839 section 4.4.1.1.1).
    row(Sip::Confirmed, Jsep::Stable, On::CandidatesUntold, (Sip::Confirmed, Jsep::MakingOffer), &[Do::MakeOffer]),
    // A wish during another negotiation waits for its end.
    row(Sip::Confirmed, Jsep::Stable, On::ChangeWanted, (Sip::Confirmed, Jsep::MakingOffer), &[Do::SetMedia, Do::MakeOffer]),
    // The peer is asked whether it is still there: any offer will do.
    row(Sip::Confirmed, Jsep::Stable, On::RefreshDue, (Sip::Confirmed, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::Confirmed, Jsep::MakingOffer, On::OfferFailed, (Sip::Confirmed, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::ReInviting, Jsep::HaveLocalOffer, On::ReAnswered, (Sip::Confirmed, Jsep::ApplyingAnswer), &[Do::ApplyAnswer]),
    row(Sip::ReInviting, Jsep::HaveLocalOffer, On::OfferFailed, (Sip::Confirmed, Jsep::Stable), &[Do::UndoOffer]),
    // A refused offer leaves the session as it was (RFC 3261 section 14.1). Without any there is nothing to keep.
    row(Sip::ReInviting, Jsep::HaveLocalOffer, On::ReRefused, (Sip::Ending, Jsep::Closing), &[Do::HangUp, Do::CloseMedia]),
    row(Sip::ReInviting, Jsep::HaveLocalOffer, On::ReGlare, (Sip::ReInviting, Jsep::Stable), &[Do::UndoOffer]),
    row(Sip::ReInviting, Jsep::Stable, On::Offered, (Sip::ReOffered, Jsep::MakingAnswer), &[Do::MakeAnswer]),
    row(Sip::ReInviting, Jsep::Stable, On::OfferedOfferless, (Sip::ReOffered, Jsep::MakingOffer), &[Do::MakeOffer]),
    row(Sip::ReInviting, Jsep::Stable, On::TookTooLong, (Sip::Ending, Jsep::Closing), &[Do::HangUp, Do::CloseMedia]),

    // Step 4: both ends of the end. Neither a silent peer nor a stuck media engine keeps a call alive.
    row(Sip::Ending, Jsep::Closing, On::MediaClosed, (Sip::Ending, Jsep::Closed), &[]),
    row(Sip::Ending, Jsep::Closing, On::DialogEnded, (Sip::Ended, Jsep::Closing), &[]),
    row(Sip::Ending, Jsep::Closing, On::TookTooLong, (Sip::Ended, Jsep::Closing), &[]),
    row(Sip::Ending, Jsep::Closed, On::DialogEnded, (Sip::Ended, Jsep::Closed), &[Do::TellEnded, Do::Forget]),
    row(Sip::Ending, Jsep::Closed, On::TookTooLong, (Sip::Ended, Jsep::Closed), &[Do::TellEnded, Do::Forget]),
    row(Sip::Ended, Jsep::Closing, On::MediaClosed, (Sip::Ended, Jsep::Closed), &[Do::TellEnded, Do::Forget]),
    row(Sip::Ended, Jsep::Closing, On::TookTooLong, (Sip::Ended, Jsep::Closed), &[Do::TellEnded, Do::Forget]),
];

/// The rows that hold in every state but those of step 4, unless [`TABLE`] has one: how each call ends.
pub const FALLBACK: &[(On, (Sip, Jsep), &[Do])] = &[
    // The application gives up, or the media did: CANCEL, BYE or a refusal by the dialog manager, which knows.
    (
        On::Hangup,
        (Sip::Ending, Jsep::Closing),
        &[Do::HangUp, Do::CloseMedia],
    ),
    (
        On::MediaError,
        (Sip::Ending, Jsep::Closing),
        &[Do::HangUp, Do::CloseMedia],
    ),
    (
        On::MediaLost,
        (Sip::Ending, Jsep::Closing),
        &[Do::HangUp, Do::CloseMedia],
    ),
    (
        On::CommandFailed,
        (Sip::Ending, Jsep::Closing),
        &[Do::HangUp, Do::CloseMedia],
    ),
    // The other side ended it, or the transaction did.
    (On::DialogEnded, (Sip::Ended, Jsep::Closing), &[Do::CloseMedia]),
];

/// How long the answer to a BYE, a CANCEL or a refusal may keep a call from ending. The dialog manager itself waits 2 s
/// (4*T1), so this is for one that says nothing at all.
pub const GRACE: Duration = Duration::from_secs(3);

/// How long a media peer may take to close; it goes on closing by itself after that.
pub const CLOSING: Duration = Duration::from_secs(6);

/// How long the peer's own re-INVITE may be awaited after glare: it waits up to 4 s (RFC 3261 section 14.1).
pub const GLARE: Duration = Duration::from_secs(6);

/// How long a state may last before [`On::TookTooLong`]. `None`: whatever this state waits for has its own limit (a
/// transaction's timers, a telephone's ringing, a step of the media peer).
pub const fn patience(sip: Sip, jsep: Jsep) -> Option<Duration> {
    match (sip, jsep) {
        (Sip::Ending, _) => Some(GRACE),
        (Sip::Ended, Jsep::Closing) => Some(CLOSING),
        (Sip::ReInviting, Jsep::Stable) => Some(GLARE),
        _ => None,
    }
}

/// The row for an event: [`TABLE`]'s own, else [`FALLBACK`]'s. `None`: this event means nothing in this state.
pub fn lookup(sip: Sip, jsep: Jsep, on: On) -> Option<((Sip, Jsep), &'static [Do])> {
    if let Some(row) = TABLE
        .iter()
        .find(|row| (row.sip, row.jsep, row.on) == (sip, jsep, on))
    {
        return Some((row.next, row.actions));
    }
    if matches!(sip, Sip::Ending | Sip::Ended) {
        return None;
    }
    FALLBACK
        .iter()
        .find(|(event, ..)| *event == on)
        .map(|(_, next, actions)| (*next, *actions))
}

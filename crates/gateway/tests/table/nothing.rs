//! The events that mean nothing in a state, with the reason why: together with the table's rows these are all pairs of a
//! state and an event.

use crate::State;
use Jsep::*;
use siprtc_gateway::table::{Jsep, On, Sip, patience};

/// Whether it happens at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// It may come and changes nothing.
    Ignored,
    /// It cannot come.
    Never,
}

/// These events in these states mean nothing.
pub(crate) struct Nothing {
    pub(crate) on: &'static [On],
    pub(crate) at: fn(Sip, Jsep) -> bool,
    pub(crate) at_words: &'static str,
    pub(crate) kind: Kind,
    pub(crate) why: &'static str,
}

const fn never(
    on: &'static [On],
    at_words: &'static str,
    at: fn(Sip, Jsep) -> bool,
    why: &'static str,
) -> Nothing {
    Nothing {
        on,
        at,
        at_words,
        kind: Kind::Never,
        why,
    }
}

const fn ignored(
    on: &'static [On],
    at_words: &'static str,
    at: fn(Sip, Jsep) -> bool,
    why: &'static str,
) -> Nothing {
    Nothing {
        on,
        at,
        at_words,
        kind: Kind::Ignored,
        why,
    }
}

/// No step of the end has begun.
fn alive(sip: Sip) -> bool {
    !matches!(sip, Sip::Ending | Sip::Ended)
}

/// Neither at its end nor before its first event.
fn begun(sip: Sip, jsep: Jsep) -> bool {
    alive(sip) && (sip, jsep) != (Sip::Idle, Stable)
}

/// The dialog is confirmed.
fn talking(sip: Sip) -> bool {
    matches!(sip, Sip::Confirmed | Sip::ReInviting | Sip::ReOffered)
}

/// Nobody has answered our call, and the early dialog may take offers: its answer is applied, or about to be.
fn early(sip: Sip, jsep: Jsep) -> bool {
    matches!(sip, Sip::Early | Sip::EarlyOffered | Sip::EarlyOffering)
        && (sip, jsep) != (Sip::Early, HaveLocalOffer)
}

/// Media runs, and we have not answered.
fn progressed(sip: Sip) -> bool {
    matches!(sip, Sip::Progressed | Sip::ProgressedOffered)
}

/// We have not answered.
fn rings_here(sip: Sip) -> bool {
    progressed(sip) || matches!(sip, Sip::Incoming | Sip::Progressing)
}

fn calling(sip: Sip) -> bool {
    matches!(sip, Sip::Inviting | Sip::Early)
}

#[rustfmt::skip]
pub(crate) const NOTHING: &[Nothing] = &[
    // The beginning and the end.
    never(&[
        On::AcceptFailed, On::Answer, On::AnswerEarly, On::AnswerEarlyOfferless, On::AnswerOfferless, On::AnswerApplied, On::AnswerMade, On::AnswerUnfit, On::Answered,
        On::AnsweredElsewhere, On::AnsweredFork, On::AnsweredSame, On::ForkFailed, On::CandidatesUntold, On::CommandFailed, On::Confirmed, On::ConfirmedWithAnswer,
        On::DialogEnded, On::EarlyAnswer, On::Hangup, On::ChangeWanted, On::MediaClosed, On::MediaError, On::MediaLost, On::OfferFailed,
        On::OfferMade, On::OfferUnfit, On::OfferWithdrawn, On::Offered, On::OfferedOfferless, On::PathBroken, On::ReAnswered, On::ReConfirmed,
        On::ReConfirmedWithAnswer, On::ReGlare, On::ReRefused, On::RefreshDue, On::Refuse, On::Ringing, On::ScreenPassed,
        On::TookTooLong,
    ], "Idle, Stable", |sip, jsep| (sip, jsep) == (Sip::Idle, Stable),
        "a call is dialled or invited in the moment in which it is made"),
    never(&[On::Dial, On::Invited, On::InvitedOfferless], "all but Idle, Stable", begun,
        "a call begins once, with an id of its own"),
    never(On::ALL, "Ended, Closed", |sip, jsep| (sip, jsep) == (Sip::Ended, Closed), "the call is forgotten"),
    never(&[On::CommandFailed, On::DialogEnded], "Idle, MakingOffer", |sip, jsep| (sip, jsep) == (Sip::Idle, MakingOffer),
        "the dialog manager knows nothing of this call yet"),
    never(&[On::MediaClosed], "media not closing", |sip, jsep| begun(sip, jsep) || (sip, jsep) == (Sip::Ending, Closed),
        "media closes once, after CloseMedia"),
    never(&[On::TookTooLong], "states without patience", |sip, jsep| begun(sip, jsep) && patience(sip, jsep).is_none(),
        "what this state waits for has its own limit"),
    ignored(&[
        On::AcceptFailed, On::Answer, On::AnswerEarly, On::AnswerEarlyOfferless, On::AnswerOfferless, On::AnswerApplied, On::AnswerMade, On::AnswerUnfit, On::Answered,
        On::AnsweredElsewhere, On::AnsweredFork, On::AnsweredSame, On::ForkFailed, On::CandidatesUntold, On::CommandFailed, On::Confirmed, On::ConfirmedWithAnswer, On::Dial,
        On::EarlyAnswer, On::Hangup, On::ChangeWanted, On::Invited, On::InvitedOfferless, On::MediaError, On::MediaLost, On::OfferFailed,
        On::OfferMade, On::OfferUnfit, On::OfferWithdrawn, On::Offered, On::OfferedOfferless, On::PathBroken, On::ReAnswered, On::ReConfirmed,
        On::ReConfirmedWithAnswer, On::ReGlare, On::ReRefused, On::RefreshDue, On::Refuse, On::Ringing, On::ScreenPassed,
    ], "Ending; Ended, Closing", |sip, jsep| !alive(sip) && (sip, jsep) != (Sip::Ended, Closed),
        "it crossed with the end: the dialog manager answers the peer itself, and steps that still run are for nobody"),
    ignored(&[On::DialogEnded], "Ended, Closing", |sip, jsep| (sip, jsep) == (Sip::Ended, Closing),
        "the dialog manager's word comes after our patience was over"),

    // What the application asks at the wrong time: it gets an error, and the call goes on.
    ignored(&[On::Answer], "all but Incoming, Stable; Progressing, MakingAnswer; Progressed; ProgressedOffered",
        |sip, jsep| begun(sip, jsep) && !matches!((sip, jsep), (Sip::Incoming, Stable) | (Sip::Progressing, MakingAnswer)) && !progressed(sip),
        "only a call that rings here, and only once, can be answered: the application gets an error"),
    never(&[On::Answer], "all of Progressed and ProgressedOffered but Progressed, Stable",
        |sip, jsep| progressed(sip) && (sip, jsep) != (Sip::Progressed, Stable),
        "it is kept until the negotiation that runs is over"),
    ignored(&[On::AnswerOfferless], "all but Incoming, Stable; Progressing, MakingOffer; Progressed; ProgressedOffered",
        |sip, jsep| begun(sip, jsep) && !matches!((sip, jsep), (Sip::Incoming, Stable) | (Sip::Progressing, MakingOffer)) && !progressed(sip),
        "only a call that rings here, and only once, can be answered: the application gets an error"),
    never(&[On::AnswerOfferless], "Progressed; ProgressedOffered", |sip, _| progressed(sip),
        "the offer that the INVITE had not was in our 183: the answer is kept until the PRACK's is applied"),
    ignored(&[On::AnswerEarly, On::AnswerEarlyOfferless], "all but Incoming, Stable",
        |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::Incoming, Stable),
        "media begins once, in a call that rings here: the application gets an error"),
    ignored(&[On::Refuse], "all but Incoming and those with media before the answer", |sip, jsep| begun(sip, jsep) && !rings_here(sip),
        "only a call that rings here can be refused: the application gets an error"),

    // Steps.
    never(&[On::AnswerApplied], "all but ApplyingAnswer", |sip, jsep| begun(sip, jsep) && jsep != ApplyingAnswer,
        "a step's result comes while it runs; an older step's is dropped by its epoch"),
    never(&[On::AnswerMade], "all but MakingAnswer", |sip, jsep| begun(sip, jsep) && jsep != MakingAnswer,
        "a step's result comes while it runs; an older step's is dropped by its epoch"),
    never(&[On::OfferMade], "all but MakingOffer", |sip, jsep| begun(sip, jsep) && jsep != MakingOffer,
        "a step's result comes while it runs; an older step's is dropped by its epoch"),
    never(&[On::ScreenPassed], "all but Screening", |sip, jsep| begun(sip, jsep) && jsep != Screening,
        "a step's result comes while it runs; an older step's is dropped by its epoch"),

    // The initial INVITE.
    never(&[On::Ringing, On::EarlyAnswer], "all but Inviting and the early ones", |sip, jsep| begun(sip, jsep) && !calling(sip) && !early(sip, jsep),
        "provisional answers come to our INVITE, before its final one"),
    never(&[On::Answered], "all but HaveLocalOffer in Inviting and Early",
        |sip, jsep| begun(sip, jsep) && !(calling(sip) && jsep == HaveLocalOffer),
        "the first 2xx is told once; with an early answer applied it is AnsweredSame, AnsweredFork or AnsweredElsewhere"),
    never(&[On::OfferUnfit], "all but HaveLocalOffer in Inviting and Early",
        |sip, jsep| begun(sip, jsep) && !(calling(sip) && jsep == HaveLocalOffer),
        "a refusal of our offer comes instead of an answer"),
    never(&[On::AnswerUnfit], "all but ApplyingAnswer in Early and Confirmed",
        |sip, jsep| begun(sip, jsep) && !(matches!(sip, Sip::Early | Sip::Confirmed) && jsep == ApplyingAnswer),
        "no answer is being applied"),
    never(&[On::ForkFailed], "all but Confirmed, ApplyingAnswer",
        |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::Confirmed, ApplyingAnswer),
        "no fork's media peer is being taken"),
    never(&[On::AnsweredSame, On::AnsweredElsewhere], "all but the early ones with an answer", |sip, jsep| begun(sip, jsep) && !early(sip, jsep),
        "no early answer is applied"),
    never(&[On::AnsweredFork], "all but ApplyingAnswer and Stable in Early",
        |sip, jsep| begun(sip, jsep) && !(sip == Sip::Early && matches!(jsep, ApplyingAnswer | Stable)),
        "no early answer is applied, or what it agreed on has been offered anew since, and no other dialog has a media peer"),
    never(&[On::Confirmed], "all but Accepting", |sip, jsep| begun(sip, jsep) && sip != Sip::Accepting,
        "the ACK of our 200 is told once"),
    never(&[On::ConfirmedWithAnswer], "all but Accepting, HaveLocalOffer",
        |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::Accepting, HaveLocalOffer),
        "an ACK's SDP is heard only where it owes an answer"),

    // re-INVITEs of the peer.
    never(&[On::Offered], "before there is an answer", |sip, jsep| begun(sip, jsep) && !talking(sip) && !early(sip, jsep) && !progressed(sip),
        "the dialog manager answers an offer itself, with 491 or 500, until the first one is answered"),
    never(&[On::OfferedOfferless], "before the dialog is confirmed", |sip, jsep| begun(sip, jsep) && !talking(sip),
        "the dialog manager answers a re-INVITE itself, with 491 or 500, until the ACK of the first INVITE"),
    never(&[On::Offered], "EarlyOffered; ProgressedOffered; ReOffered",
        |sip, _| matches!(sip, Sip::EarlyOffered | Sip::ProgressedOffered | Sip::ReOffered),
        "the dialog manager answers a second offer itself, with 500 or 491, until the one before is done with"),
    never(&[On::OfferedOfferless], "ReOffered", |sip, _| sip == Sip::ReOffered,
        "the dialog manager answers a second re-INVITE itself, with 500 or 491, until the ACK of the one before"),
    never(&[On::OfferWithdrawn, On::AcceptFailed], "before there is an answer",
        |sip, jsep| begun(sip, jsep) && !talking(sip) && !early(sip, jsep) && !progressed(sip),
        "there is no offer of the peer's before the first one is answered"),
    ignored(&[On::OfferWithdrawn], "all but EarlyOffered, ProgressedOffered and ReOffered before our answer",
        |sip, jsep| early(sip, jsep) && sip != Sip::EarlyOffered || sip == Sip::Progressed
            || talking(sip) && !(sip == Sip::ReOffered && jsep != HaveLocalOffer),
        "it crossed with our answer or our refusal: AcceptFailed follows if it was an answer"),
    ignored(&[On::AcceptFailed], "all but Stable in Confirmed, Early and Progressed; ReOffered, HaveLocalOffer",
        |sip, jsep| (talking(sip) || early(sip, jsep) || progressed(sip))
            && !matches!((sip, jsep), (Sip::Confirmed | Sip::Early | Sip::Progressed, Stable) | (Sip::ReOffered, HaveLocalOffer)),
        "the next negotiation runs already and brings both ends together"),
    never(&[On::ReConfirmed], "all but Confirmed, Stable; the early ones; Progressed; ProgressedOffered; ReOffered, HaveLocalOffer",
        |sip, jsep| begun(sip, jsep) && !early(sip, jsep) && !progressed(sip)
            && !matches!((sip, jsep), (Sip::Confirmed, Stable) | (Sip::ReOffered, HaveLocalOffer)),
        "no 200 of ours to a re-INVITE is without its ACK"),
    ignored(&[On::ReConfirmed], "the early ones, Progressed and ProgressedOffered, but Stable",
        |sip, jsep| (early(sip, jsep) || progressed(sip)) && jsep != Stable,
        "the answer to an UPDATE is out, and the next negotiation runs already"),
    never(&[On::ReConfirmedWithAnswer], "all but ReOffered, HaveLocalOffer",
        |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::ReOffered, HaveLocalOffer),
        "an ACK's SDP is heard only where it owes an answer"),

    // The path.
    ignored(&[On::PathBroken], "all but Confirmed, Stable", |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::Confirmed, Stable),
        "the first negotiation is not over, or another runs: it brings new candidates, or the path says again that it is silent"),

    never(&[On::CandidatesUntold], "all but Confirmed, Stable",
        |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::Confirmed, Stable),
        "it is kept until the negotiation that runs is over"),
    never(&[On::ChangeWanted], "all but Stable in Confirmed, Early and Progressed",
        |sip, jsep| begun(sip, jsep) && !matches!((sip, jsep), (Sip::Confirmed | Sip::Early | Sip::Progressed, Stable)),
        "it is kept until the negotiation that runs is over"),

    never(&[On::RefreshDue], "before the dialog is confirmed", |sip, jsep| begun(sip, jsep) && !talking(sip),
        "a session stands when its dialog is confirmed"),
    ignored(&[On::RefreshDue], "all but Confirmed, Stable", |sip, jsep| talking(sip) && (sip, jsep) != (Sip::Confirmed, Stable),
        "the negotiation that runs is a refresh; should it fail, the dialog manager says it again"),

    // re-INVITEs of ours.
    never(&[On::ReAnswered], "all but HaveLocalOffer in ReInviting, EarlyOffering and Progressed",
        |sip, jsep| begun(sip, jsep) && !matches!((sip, jsep), (Sip::ReInviting | Sip::EarlyOffering | Sip::Progressed, HaveLocalOffer)),
        "no re-INVITE or UPDATE of ours is out, and no offer in a 183"),
    never(&[On::ReRefused], "all but ReInviting, HaveLocalOffer",
        |sip, jsep| begun(sip, jsep) && (sip, jsep) != (Sip::ReInviting, HaveLocalOffer),
        "no re-INVITE of ours is out"),
    never(&[On::ReGlare], "before the dialog is confirmed", |sip, jsep| begun(sip, jsep) && !talking(sip),
        "no re-INVITE of ours is out"),
    ignored(&[On::ReGlare], "all but ReInviting, HaveLocalOffer",
        |sip, jsep| talking(sip) && (sip, jsep) != (Sip::ReInviting, HaveLocalOffer),
        "a late word about a re-INVITE that came to nothing already"),
    never(&[On::OfferFailed], "nothing offered anew",
        |sip, jsep| begun(sip, jsep) && !matches!((sip, jsep),
            (Sip::Confirmed | Sip::ReOffered | Sip::Early | Sip::Progressed, MakingAnswer | MakingOffer)
                | (Sip::EarlyOffered | Sip::ProgressedOffered, MakingAnswer)
                | (Sip::ReInviting | Sip::EarlyOffering | Sip::Progressed, HaveLocalOffer)),
        "only an offer within a call that has a session can fail without harm"),
];

pub(crate) fn reasons((sip, jsep): State, on: On) -> impl Iterator<Item = &'static Nothing> {
    NOTHING
        .iter()
        .filter(move |nothing| nothing.on.contains(&on) && (nothing.at)(sip, jsep))
}

/// Whether the world cannot bring this event about.
pub(crate) fn is_never(state: State, on: On) -> bool {
    reasons(state, on).any(|nothing| nothing.kind == Kind::Never)
}

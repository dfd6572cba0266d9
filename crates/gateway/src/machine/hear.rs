//! Names the table's event for each input, with the data that comes along.

use super::{Call, Command, Input, Output, Step};
use crate::table::{Jsep, On, Sip};
use siprtc_core::sip::Uri;
use siprtc_core::{Cause, Error, Fault};
use siprtc_dialog_manager::{DialogEventKind, DialogTag, Side};
use siprtc_media_session::Fork;
use siprtc_sdp_translator::SdpFrag;
use std::time::Duration;

/// Early answers that wait for a 2xx, as many as the dialog manager knows forks. **Policy when full**: later ones do not wait, and a 2xx
/// of theirs without SDP ends the call.
const MOST_EARLY_ANSWERS: usize = 32;

/// Most characters of an error's message that go into a Reason header field: a BYE should fit a datagram.
const MAX_REASON: usize = 120;

/// Final answers that say that a session does not suit the peer: unsupported media type (what some send for a profile that
/// they do not know), not acceptable here, not acceptable anywhere.
const UNFIT: [u16; 3] = [415, 488, 606];

/// The Info Package of candidates (RFC 8840 section 10).
pub(crate) const TRICKLE_ICE: &str = "trickle-ice";

/// An event, and what is kept of it if the table has a row.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) on: On,
    /// The peer's description.
    pub(super) sdp: Option<String>,
    /// The early dialog that it is of.
    pub(super) dialog: Option<DialogTag>,
    /// Why the call is over, if this ends it.
    pub(super) why: Option<Why>,
}

impl From<On> for Heard {
    fn from(on: On) -> Self {
        Heard {
            on,
            sdp: None,
            dialog: None,
            why: None,
        }
    }
}

/// Why a call ends.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) cause: Cause,
    pub(super) by: Side,
    pub(super) status: Option<u16>,
    pub(super) sentence: Option<String>,
    /// What our refusal of the INVITE says.
    pub(super) refusal: Option<u16>,
    /// What our BYE or CANCEL says (RFC 3326).
    pub(super) reason: Option<String>,
    /// Where the callee is instead.
    pub(super) contacts: Vec<Uri>,
    pub(super) retry_after: Option<Duration>,
}

impl Why {
    pub(super) fn new(cause: Cause, by: Side) -> Self {
        Why {
            cause,
            by,
            status: None,
            sentence: None,
            refusal: None,
            reason: None,
            contacts: Vec::new(),
            retry_after: None,
        }
    }

    pub(super) fn saying(self, sentence: impl Into<String>) -> Self {
        Why {
            sentence: Some(sentence.into()),
            ..self
        }
    }

    /// An error of ours or the peer's that ends the call.
    fn error(error: &Error) -> Self {
        let (cause, status) = match error.fault() {
            Fault::PeerIncompatible => (Cause::IncompatibleMedia, 488),
            Fault::PeerMisbehaved => (Cause::ProtocolError, 488),
            _ => (Cause::Internal, 500),
        };
        Why {
            refusal: Some(status),
            reason: Some(reason(status, error.message())),
            ..Why::new(cause, Side::Local).saying(error.to_string())
        }
    }
}

/// A Reason header field's value. The text may quote the peer: nothing of it may end the line or the string.
fn reason(status: u16, text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() || matches!(c, '"' | '\\') {
            '\''
        } else {
            c
        }
    };
    let text: String = text.chars().take(MAX_REASON).map(harmless).collect();
    format!("SIP;cause={status};text=\"{text}\"")
}

impl Call {
    /// `None`: handled already, or stale.
    pub(super) fn hear(&mut self, input: Input) -> Option<Heard> {
        Some(match input {
            Input::AcceptTransfer | Input::RefuseTransfer { .. } => {
                self.answer_wish(&input);
                return None;
            }
            Input::Answer => return self.hear_answer(),
            Input::AnswerEarly => self.hear_early_answer(),
            Input::Candidate(candidate) => {
                self.trickle.found(candidate);
                return None;
            }
            Input::CommandFailed(command, error) => return self.hear_refusal(command, &error),
            Input::Condemned => self.hear_defect(),
            Input::Dial { target } => {
                self.target = Some(target);
                On::Dial.into()
            }
            Input::Dialog(kind) => return self.hear_dialog(kind),
            Input::Forked(fork, opened) => {
                if let Err(error) = &opened {
                    tracing::info!(call_id = %self.id, %error, "a fork is not heard before it answers for good");
                }
                self.fork_opened(fork, opened.is_ok());
                return None;
            }
            Input::Gathered => {
                self.trickle.complete();
                return None;
            }
            Input::GiveUp => {
                let why = Why::new(Cause::TimedOut, Side::Local)
                    .saying("after both sides had offered at once, the peer's own offer never came");
                Heard {
                    why: Some(why),
                    ..On::TookTooLong.into()
                }
            }
            Input::Hangup => {
                let cause = match self.accepted {
                    _ if self.rings_here() => Cause::Declined,
                    true => Cause::Bye,
                    false => Cause::Cancelled,
                };
                Heard {
                    why: Some(Why::new(cause, Side::Local)),
                    ..On::Hangup.into()
                }
            }
            Input::AnswerWith(change) => {
                if !self.rings_here() {
                    return Some(On::Answer.into());
                }
                self.hold.want_change(change);
                return self.hear_answer();
            }
            Input::Change(change) => {
                self.hold.want_change(change);
                return None;
            }
            Input::Hold(held) => {
                self.hold.want_held(held);
                return None;
            }
            Input::MediaClosed(stats) => {
                if let Some(ending) = &mut self.ending {
                    ending.stats = stats;
                }
                On::MediaClosed.into()
            }
            Input::MediaLost(text) => {
                let why = Why {
                    refusal: Some(500),
                    reason: Some(reason(500, "media path lost")),
                    ..Why::new(Cause::MediaFailed, Side::Local).saying(text)
                };
                Heard {
                    why: Some(why),
                    ..On::MediaLost.into()
                }
            }
            Input::PathBroken => On::PathBroken.into(),
            Input::PathUp => {
                self.trickle.is_up();
                return None;
            }
            Input::Refuse { status } => {
                let why = Why {
                    refusal: Some(status),
                    ..Why::new(Cause::from_status(status), Side::Local)
                };
                Heard {
                    why: Some(why),
                    ..On::Refuse.into()
                }
            }
            Input::Replaced => self.hear_replaced(),
            Input::Step(epoch, _) if !self.awaits(epoch) => return None,
            Input::Step(_, Ok(step)) => self.hear_step(step),
            Input::Step(_, Err(error)) => self.hear_error(&error),
        })
    }

    fn hear_step(&mut self, step: Step) -> Heard {
        match step {
            Step::AnswerApplied => {
                self.has_agreed = true;
                self.settle();
                self.taken = None;
                On::AnswerApplied
            }
            Step::AnswerMade(sdp) => {
                self.trickle.describe(&sdp);
                self.has_agreed = true;
                self.settle();
                self.ours = Some(sdp);
                On::AnswerMade
            }
            Step::OfferMade(sdp) => {
                self.trickle.describe(&sdp);
                self.ours = Some(sdp);
                On::OfferMade
            }
            Step::ScreenPassed => On::ScreenPassed,
        }
        .into()
    }

    /// An early answer, unless it has to wait for the 2xx, which need not repeat it (RFC 3262 section 5).
    fn early_answer(&mut self, dialog: &DialogTag, sdp: Option<String>) -> Option<String> {
        if !self.waits_for_answer {
            return sdp;
        }
        let is_new = !self.early_answers.iter().any(|(known, _)| known == dialog);
        if let Some(sdp) = sdp.filter(|_| is_new && self.early_answers.len() < MOST_EARLY_ANSWERS) {
            self.early_answers.push((dialog.clone(), sdp));
        }
        None
    }

    fn kept(&self, dialog: &DialogTag) -> Option<String> {
        let kept = self.early_answers.iter().find(|(known, _)| known == dialog);
        kept.map(|(_, sdp)| sdp.clone())
    }

    fn settle(&mut self) {
        if let Some(theirs) = &self.theirs {
            self.trickle.settle(self.taken.unwrap_or(Fork::FIRST), theirs);
            self.hold.settle(theirs);
        }
    }

    /// A fragment of candidates. One that cannot be read costs candidates and no call.
    fn hear_info(&mut self, dialog: &DialogTag, package: &str, body: &str) {
        match body.parse::<SdpFrag>() {
            _ if package != TRICKLE_ICE => {}
            Ok(frag) => self.trickle.hear(dialog, frag),
            Err(error) => {
                tracing::warn!(call_id = %self.id, %error, "candidates of the peer's are passed over")
            }
        }
    }

    /// An INVITE that has no final answer yet gets a 500, everything else its BYE or CANCEL.
    fn hear_defect(&mut self) -> Heard {
        let error = Error::new(
            Fault::Backend,
            "go on with the call",
            "a part of this program broke down",
        )
        .advice("this is a defect of siprtc: report it with the log above this line");
        let on = match self.rings_here() {
            true => On::Refuse,
            false => On::MediaError,
        };
        Heard {
            why: Some(Why::error(&error)),
            ..on.into()
        }
    }

    /// A step failed. While something is offered anew, what was agreed before goes on (RFC 3261 section 14.1).
    fn hear_error(&mut self, error: &Error) -> Heard {
        tracing::warn!(call_id = %self.id, %error, sip = ?self.sip, jsep = ?self.jsep, "media step failed");
        let offering = matches!(self.jsep, Jsep::MakingAnswer | Jsep::MakingOffer);
        match self.has_session() && offering {
            true => On::OfferFailed.into(),
            false if self.is_answered_unfit(error) => {
                tracing::info!(call_id = %self.id, "the peer's answer is no use: it is offered the classic way");
                On::AnswerUnfit.into()
            }
            // The path, or the engine, has room for one peer after all.
            false if self.taken.take().is_some() && self.jsep == Jsep::ApplyingAnswer => {
                On::ForkFailed.into()
            }
            false => Heard {
                why: Some(Why::error(error)),
                ..On::MediaError.into()
            },
        }
    }

    fn hear_refusal(&mut self, command: Command, error: &Error) -> Option<Heard> {
        let why = || Some(Why::new(Cause::Internal, Side::Local).saying(error.to_string()));
        // It knows of no such dialog; or it is gone, and every dialog with it.
        let over = matches!(command, Command::HangUp | Command::Refuse) || error.fault() == Fault::Backend;
        Some(match command {
            _ if over => Heard {
                why: why(),
                ..On::DialogEnded.into()
            },
            Command::AcceptOffer => {
                self.early_media.offer_is_answered();
                On::AcceptFailed.into()
            }
            // The peer's re-INVITE is in our mailbox already: it was quicker.
            Command::ReInvite if self.is_offering_early() => On::OfferFailed.into(),
            Command::ReInvite => On::ReGlare.into(),
            // Whatever was to be refused is gone: just as well.
            Command::RefuseOffer => return None,
            // Nobody takes them any more.
            Command::ReportReferral | Command::SendCandidates => return None,
            _ => Heard {
                why: why(),
                ..On::CommandFailed.into()
            },
        })
    }

    fn hear_dialog(&mut self, kind: DialogEventKind) -> Option<Heard> {
        use DialogEventKind as K;
        Some(match kind {
            // Nothing that the table knows: the hub has taken them.
            K::Asked(_)
            | K::Delivered { .. }
            | K::Dtmf { .. }
            | K::Message(_)
            | K::Notified { .. }
            | K::ReferralNews(_)
            | K::Subscribed { .. }
            | K::SubscriptionEnded { .. } => return None,
            K::Started { .. } | K::Trying => return None,
            K::Info {
                dialog,
                package,
                body,
                ..
            } => {
                self.hear_info(&dialog, &package, &body);
                return None;
            }
            K::InfoRefused { dialog, status, .. } => {
                tracing::info!(call_id = %self.id, status, "the peer takes no candidates in INFOs");
                self.trickle.refused(&dialog);
                return None;
            }
            K::PeerSupports { dialog, info, .. } => {
                self.trickle.supports(dialog, info);
                return None;
            }
            K::Incoming {
                from,
                to,
                offer,
                replaces,
                head,
                ..
            } => {
                self.early_media.invited(head.reliable);
                self.head = head;
                self.parties = Some((from, to));
                self.replaces = replaces;
                with_sdp(offer, On::Invited, On::InvitedOfferless)
            }
            K::Ringing {
                dialog,
                status,
                sdp,
                takes_offers,
            } => {
                if takes_offers {
                    self.may_offer_in(&dialog);
                }
                let sdp = self.early_answer(&dialog, sdp);
                self.progress = (status, sdp.is_some());
                if let Some(sdp) = &sdp {
                    self.hear_fork(&dialog, sdp);
                }
                if let Some(fragment) = self.trickle.rings(&dialog) {
                    self.outputs.push_back(Output::SendCandidates(fragment));
                }
                Heard {
                    dialog: Some(dialog),
                    ..with_sdp(sdp, On::EarlyAnswer, On::Ringing)
                }
            }
            K::Answered { dialog, sdp } => self.hear_2xx(dialog, sdp),
            K::Confirmed { sdp } => self.hear_ack(sdp, On::Confirmed, On::ConfirmedWithAnswer),
            K::Offered { dialog, sdp } => match self.hear_offer(dialog, sdp) {
                Some(heard) => heard,
                None => {
                    self.outputs.push_back(Output::RefuseOffer(488));
                    return None;
                }
            },
            K::OfferConfirmed { sdp } => {
                self.early_media.offer_is_answered();
                self.hear_ack(sdp, On::ReConfirmed, On::ReConfirmedWithAnswer)
            }
            K::OfferAnswered { sdp } => Heard {
                dialog: self.early.clone().filter(|_| self.is_early()),
                ..owed(sdp, On::ReAnswered, "2xx")
            },
            K::OfferRejected { status } => self.hear_rejection(status),
            K::ProgressConfirmed { .. } => return self.hear_prack(kind),
            K::Referred(_)
            | K::ReferralLapsed
            | K::ReferralProgress { .. }
            | K::ReferralRefused { .. }
            | K::ReferralSucceeded => return self.hear_referral(kind),
            K::RefreshDue => On::RefreshDue.into(),
            K::Ended { status, .. } if self.falls_back && self.is_refused_as_unfit(status) => {
                tracing::info!(call_id = %self.id, ?status, "the peer refuses our offer: it is called again the classic way");
                On::OfferUnfit.into()
            }
            K::Ended {
                cause,
                by,
                status,
                reason,
                contacts,
                retry_after,
            } => {
                if let Some(ending) = &mut self.ending {
                    ending.status = ending.status.or(status);
                }
                let why = Why {
                    status,
                    sentence: reason,
                    contacts,
                    retry_after,
                    ..Why::new(cause, by)
                };
                Heard {
                    why: Some(why),
                    ..On::DialogEnded.into()
                }
            }
        })
    }

    /// A 2xx: of the dialog whose early answer is applied, of another one that has or may have a media peer beside it, or of one
    /// that has to be offered anew.
    fn hear_2xx(&mut self, dialog: DialogTag, sdp: Option<String>) -> Heard {
        let Some(early) = self.early.clone().filter(|_| !self.offers_anew) else {
            return match self.offers_anew {
                true => On::AnsweredElsewhere.into(),
                false => owed(sdp.or_else(|| self.kept(&dialog)), On::Answered, "2xx"),
            };
        };
        let is_first = early == dialog;
        if is_first && !self.forks.has_any() {
            return On::AnsweredSame.into();
        }
        let taken = match is_first {
            true => self.theirs.clone().map(|answer| (Fork::FIRST, answer)),
            false => self.forks.take(&dialog, sdp),
        };
        let Some((fork, answer)) = taken else {
            return On::AnsweredElsewhere.into();
        };
        self.taken = Some(fork);
        Heard {
            sdp: Some(answer),
            dialog: Some(dialog),
            ..On::AnsweredFork.into()
        }
    }

    /// The first answer, of a telephone that took a WebRTC offer and did not mean it.
    fn is_answered_unfit(&self, error: &Error) -> bool {
        let is_first = !self.has_agreed && !self.confirmed && self.jsep == Jsep::ApplyingAnswer;
        let is_theirs = matches!(error.fault(), Fault::PeerIncompatible | Fault::PeerMisbehaved);
        self.falls_back && is_first && is_theirs && matches!(self.sip, Sip::Confirmed | Sip::Early)
    }

    fn is_refused_as_unfit(&self, status: Option<u16>) -> bool {
        let is_out = matches!(self.sip, Sip::Inviting | Sip::Early) && self.jsep == Jsep::HaveLocalOffer;
        is_out && status.is_some_and(|status| UNFIT.contains(&status))
    }

    /// An ACK. SDP means something only where an answer is owed.
    fn hear_ack(&self, sdp: Option<String>, without: On, with: On) -> Heard {
        match (self.jsep, sdp) {
            (Jsep::HaveLocalOffer, Some(sdp)) => with_sdp(Some(sdp), with, without),
            (Jsep::HaveLocalOffer, None) => Heard {
                why: Some(Why::error(&no_answer("ACK"))),
                ..without.into()
            },
            _ => without.into(),
        }
    }

    /// An offer of ours or of the peer's came to nothing.
    fn hear_rejection(&self, status: u16) -> Heard {
        match (self.sip, self.jsep, status) {
            _ if self.is_offering_early() => On::OfferFailed.into(),
            (Sip::ReInviting, Jsep::HaveLocalOffer, 491) => On::ReGlare.into(),
            (Sip::ReInviting, Jsep::HaveLocalOffer, _) if self.confirmed => On::OfferFailed.into(),
            (Sip::ReInviting, Jsep::HaveLocalOffer, _) => {
                let why = Why::new(Cause::from_status(status), Side::Remote).saying(format!(
                    "the peer refused our new offer with {status}, and no other session is agreed"
                ));
                Heard {
                    why: Some(why),
                    ..On::ReRefused.into()
                }
            }
            _ => On::OfferWithdrawn.into(),
        }
    }
}

fn with_sdp(sdp: Option<String>, with: On, without: On) -> Heard {
    let on = if sdp.is_some() { with } else { without };
    Heard { sdp, ..on.into() }
}

/// An answer that must be there: without it the peer broke RFC 3261 section 13.2.1.
pub(super) fn owed(sdp: Option<String>, on: On, message: &str) -> Heard {
    match sdp {
        Some(_) => Heard { sdp, ..on.into() },
        None => Heard {
            why: Some(Why::error(&no_answer(message))),
            ..On::MediaError.into()
        },
    }
}

fn no_answer(message: &str) -> Error {
    Error::new(
        Fault::PeerMisbehaved,
        "read answer",
        format!("the peer's {message} owes an SDP answer and has none"),
    )
    .advice("the peer breaks RFC 3261 section 13.2.1; call it with another endpoint to confirm")
}

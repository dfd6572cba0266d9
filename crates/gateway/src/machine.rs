//! One call's state: turns what happened into an event of the [`table`](crate::table), and the table's actions into
//! outputs with their data. No I/O, no clock, no actor.
//!
//! **Drain rule: after every [`Call::handle`], call [`Call::poll`] until it says `None`, then ask
//! [`Call::poll_timeout`].**

use crate::table::{Do, Jsep, On, Sip, lookup};
use siprtc_core::sip::{NameAddr, Uri};
use siprtc_core::{CallId, Cause, Error, Fault};
use siprtc_dialog_manager::{DialogEventKind, DialogTag, Side};
use siprtc_media_session::SessionStats;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long the answer to a BYE, a CANCEL or a refusal may keep a call from ending. The transaction itself goes on
/// (64*T1); the application need not wait for a peer that has vanished.
pub const GRACE: Duration = Duration::from_secs(2);

/// The step of a media peer that a result belongs to; results of an older step are stale and ignored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch(u32);

/// What happened to a call.
#[derive(Debug)]
pub enum Input {
    /// The application answers.
    Answer,
    /// The application dials.
    Dial {
        /// Whom.
        target: Uri,
    },
    /// The dialog manager speaks.
    Dialog(DialogEventKind),
    /// The application ends the call.
    Hangup,
    /// The media peer is closed; its last numbers, if it ever ran.
    MediaClosed(Option<Box<SessionStats>>),
    /// The media path is lost for good.
    MediaLost(String),
    /// The application refuses the call.
    Refuse {
        /// 400 to 699.
        status: u16,
    },
    /// A step that an output began is done.
    Step(Epoch, Result<Step, Error>),
}

/// The result of a step.
#[derive(Debug)]
pub enum Step {
    /// Of [`Output::ApplyAnswer`].
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
    /// 200 to the peer's re-INVITE.
    AcceptOffer(String),
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
    /// A final refusal of the initial INVITE.
    Refuse(u16),
    /// A refusal of the peer's re-INVITE; `undo` says that a media peer may hold half of a negotiation.
    RefuseOffer {
        /// 488 or 491.
        status: u16,
        /// Roll the media peer back to stable.
        undo: bool,
    },
    /// re-INVITE.
    ReInvite(String),
    /// Put a new media peer in the place of the old one.
    ReplaceMedia,
    /// 180.
    Ring,
    /// Read the peer's offer; then [`Step::ScreenPassed`].
    Screen {
        /// For the result.
        epoch: Epoch,
        /// What the peer offers.
        offer: String,
    },
    /// Tell the application.
    Tell(Told),
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
    /// Somebody calls.
    Incoming {
        /// Who.
        from: NameAddr,
        /// Whom.
        to: NameAddr,
    },
    /// A provisional answer.
    Progress {
        /// 180, 183 ...
        status: u16,
        /// It carried an SDP answer.
        early_media: bool,
    },
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// Who ended it.
    pub by: Side,
    /// The final status, when there was one.
    pub status: Option<u16>,
    /// A sentence for people: whose fault and what next.
    pub sentence: Option<String>,
    /// Whether both sides had agreed to talk.
    pub established: bool,
    /// The media's numbers, when there was media.
    pub stats: Option<Box<SessionStats>>,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    sip: Sip,
    jsep: Jsep,
    epoch: Epoch,
    target: Option<Uri>,
    parties: Option<(NameAddr, NameAddr)>,
    ours: Option<String>,
    theirs: Option<String>,
    early: Option<DialogTag>,
    progress: (u16, bool),
    refusal: u16,
    reason: Option<String>,
    ending: Option<Ending>,
    accepted: bool,
    deadline: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Call {
    /// A call to which nothing has happened.
    pub fn new(id: CallId) -> Self {
        Call {
            id,
            sip: Sip::Idle,
            jsep: Jsep::Stable,
            epoch: Epoch::default(),
            target: None,
            parties: None,
            ours: None,
            theirs: None,
            early: None,
            progress: (0, false),
            refusal: 603,
            reason: None,
            ending: None,
            accepted: false,
            deadline: None,
            outputs: VecDeque::new(),
        }
    }

    /// Its states, for logs and tests.
    pub fn state(&self) -> (Sip, Jsep) {
        (self.sip, self.jsep)
    }

    /// Takes what happened. An input that means nothing in this state changes nothing; `false` says so, for the
    /// application's own commands become an error then.
    pub fn handle(&mut self, now: Instant, input: Input) -> bool {
        let Some(on) = self.classify(input) else { return true };
        let Some((next, actions)) = lookup(self.sip, self.jsep, on) else {
            tracing::debug!(call_id = %self.id, ?on, sip = ?self.sip, jsep = ?self.jsep, "nothing to do");
            return false;
        };
        tracing::debug!(call_id = %self.id, ?on, from = ?self.state(), to = ?next, "call");
        (self.sip, self.jsep) = next;
        if self.sip == Sip::Ending && self.deadline.is_none() {
            self.deadline = Some(now + GRACE);
        }
        for action in actions {
            self.act(*action);
        }
        true
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Call::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.sip == Sip::Ending { self.deadline } else { None }
    }

    /// The time of [`Call::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|deadline| deadline <= now)
            && let Some((next, actions)) = lookup(self.sip, self.jsep, On::TookTooLong)
        {
            (self.sip, self.jsep) = next;
            actions.iter().for_each(|action| self.act(*action));
        }
    }

    /// Keeps the input's data and names the event. `None`: handled, or stale.
    fn classify(&mut self, input: Input) -> Option<On> {
        Some(match input {
            Input::Answer if self.theirs.is_none() => On::AnswerOfferless,
            Input::Answer => On::Answer,
            Input::Dial { target } => {
                self.target = Some(target);
                On::Dial
            }
            Input::Dialog(kind) => return self.classify_dialog(kind),
            Input::Hangup => {
                self.note_end(Cause::Cancelled, Side::Local, None);
                On::Hangup
            }
            Input::MediaClosed(stats) => {
                if let Some(ending) = &mut self.ending {
                    ending.stats = stats;
                }
                On::MediaClosed
            }
            Input::MediaLost(text) => {
                self.note_end(Cause::MediaFailed, Side::Local, Some(text));
                self.reason = Some("SIP;cause=500;text=\"media path lost\"".to_owned());
                On::MediaLost
            }
            Input::Refuse { status } => {
                self.refusal = status;
                self.note_end(Cause::Declined, Side::Local, None);
                On::Refuse
            }
            Input::Step(epoch, _) if epoch != self.epoch => return None,
            Input::Step(_, Ok(step)) => match step {
                Step::AnswerApplied => On::AnswerApplied,
                Step::AnswerMade(sdp) => {
                    self.ours = Some(sdp);
                    On::AnswerMade
                }
                Step::OfferMade(sdp) => {
                    self.ours = Some(sdp);
                    On::OfferMade
                }
                Step::ScreenPassed => On::ScreenPassed,
            },
            Input::Step(_, Err(error)) => {
                self.note_error(&error);
                On::MediaError
            }
        })
    }

    fn classify_dialog(&mut self, kind: DialogEventKind) -> Option<On> {
        use DialogEventKind as K;
        Some(match kind {
            K::Started { .. } | K::Trying => return None,
            K::Incoming { from, to, offer, .. } => {
                self.parties = Some((from, to));
                self.offered(offer, On::Invited, On::InvitedOfferless)
            }
            K::Ringing { dialog, status, sdp } => {
                self.progress = (status, sdp.is_some());
                match sdp {
                    None => On::Ringing,
                    Some(sdp) => {
                        if self.jsep == Jsep::HaveLocalOffer {
                            self.theirs = Some(sdp);
                            self.early = Some(dialog);
                        }
                        On::EarlyAnswer
                    }
                }
            }
            K::Answered { dialog, sdp } => match (&self.early, sdp) {
                (Some(early), _) if *early == dialog => On::AnsweredSame,
                (Some(_), _) => On::AnsweredElsewhere,
                (None, sdp) => self.answered(sdp, On::Answered),
            },
            K::Confirmed { sdp: None } => self.acknowledged(On::Confirmed),
            K::Confirmed { sdp } => self.answered(sdp, On::ConfirmedWithAnswer),
            K::Offered { sdp } => {
                if (self.sip, self.jsep) == (Sip::Confirmed, Jsep::Stable) {
                    self.offered(sdp, On::Offered, On::OfferedOfferless)
                } else {
                    On::Offered
                }
            }
            K::OfferConfirmed { sdp: None } => self.acknowledged(On::ReConfirmed),
            K::OfferConfirmed { sdp } => self.answered(sdp, On::ReConfirmedWithAnswer),
            K::OfferAnswered { sdp } => self.answered(sdp, On::ReAnswered),
            K::OfferRejected { status } => {
                self.note_end(
                    Cause::from_status(status),
                    Side::Remote,
                    Some(format!("the peer refused our new offer with {status}")),
                );
                On::ReRefused
            }
            K::Ended { cause, by, status, reason } => {
                if self.ending.is_none() {
                    self.ending = Some(self.ending(cause, by, reason));
                }
                if let Some(ending) = &mut self.ending {
                    ending.status = ending.status.or(status);
                }
                On::DialogEnded
            }
        })
    }

    fn offered(&mut self, offer: Option<String>, with: On, without: On) -> On {
        self.theirs = offer;
        if self.theirs.is_some() { with } else { without }
    }

    /// An answer that must be there: without it the peer broke RFC 3261 section 13.2.1.
    fn answered(&mut self, sdp: Option<String>, on: On) -> On {
        match sdp {
            Some(sdp) => {
                self.theirs = Some(sdp);
                on
            }
            None => {
                self.note_error(
                    &Error::new(Fault::PeerMisbehaved, "read answer", "the peer accepted our offer without an SDP answer")
                        .advice("the peer breaks RFC 3261 section 13.2.1; call it with another endpoint to confirm"),
                );
                On::MediaError
            }
        }
    }

    /// An ACK without SDP; where it owed an answer, the table ends the call and this says why.
    fn acknowledged(&mut self, on: On) -> On {
        if self.jsep == Jsep::HaveLocalOffer {
            self.note_end(
                Cause::ProtocolError,
                Side::Local,
                Some("the peer's ACK owed an SDP answer to the offer in our 200 (RFC 3261 section 13.2.2.4)".to_owned()),
            );
        }
        on
    }

    fn note_error(&mut self, error: &Error) {
        let (cause, status) = match error.fault() {
            Fault::PeerIncompatible => (Cause::IncompatibleMedia, 488),
            Fault::PeerMisbehaved => (Cause::ProtocolError, 488),
            _ => (Cause::Internal, 500),
        };
        let failed_offer = self.sip == Sip::ReOffered;
        tracing::warn!(call_id = %self.id, %error, sip = ?self.sip, jsep = ?self.jsep, "media step failed");
        if failed_offer {
            return; // The call goes on with what was agreed before.
        }
        let text = error.message().replace(['"', '\\', '\r', '\n'], "'");
        self.reason = Some(format!("SIP;cause={status};text=\"{text}\""));
        self.refusal = status;
        self.note_end(cause, Side::Local, Some(error.to_string()));
        if let Some(ending) = &mut self.ending {
            ending.status = Some(status);
        }
    }

    /// The first reason to end is the one that is told.
    fn note_end(&mut self, cause: Cause, by: Side, sentence: Option<String>) {
        if self.ending.is_none() && !matches!(self.sip, Sip::Ending | Sip::Ended) {
            let cause = if self.accepted && cause == Cause::Cancelled { Cause::Bye } else { cause };
            self.ending = Some(self.ending(cause, by, sentence));
        }
    }

    fn ending(&self, cause: Cause, by: Side, sentence: Option<String>) -> Ending {
        Ending { cause, by, status: None, sentence, established: self.accepted, stats: None }
    }

    fn step(&mut self) -> Epoch {
        self.epoch.0 = self.epoch.0.wrapping_add(1);
        self.epoch
    }

    fn act(&mut self, action: Do) {
        let ours = || self.ours.clone().unwrap_or_default();
        let theirs = || self.theirs.clone().unwrap_or_default();
        let output = match action {
            Do::Accept => Output::Accept(ours()),
            Do::AcceptOffer => Output::AcceptOffer(ours()),
            Do::ApplyAnswer => {
                let (offer, answer) = (ours(), theirs());
                Output::ApplyAnswer { epoch: self.step(), offer, answer }
            }
            Do::CloseMedia => Output::CloseMedia,
            Do::Forget => Output::Forget,
            Do::HangUp => Output::HangUp { reason: self.reason.take() },
            Do::Invite => match self.target.clone() {
                Some(target) => Output::Invite { target, offer: ours() },
                None => return,
            },
            Do::MakeAnswer => {
                let offer = theirs();
                Output::MakeAnswer { epoch: self.step(), offer }
            }
            Do::MakeOffer => Output::MakeOffer { epoch: self.step() },
            Do::RefuseMedia => Output::Refuse(if self.refusal >= 500 { self.refusal } else { 488 }),
            Do::RefuseOffer => Output::RefuseOffer { status: 488, undo: true },
            Do::RefusePending => Output::RefuseOffer { status: 491, undo: false },
            Do::RefuseWithStatus => Output::Refuse(self.refusal),
            Do::ReInvite => Output::ReInvite(ours()),
            Do::ReplaceMedia => {
                self.early = None;
                Output::ReplaceMedia
            }
            Do::Ring => Output::Ring,
            Do::Screen => {
                let offer = theirs();
                Output::Screen { epoch: self.step(), offer }
            }
            Do::TellAccepted => {
                self.accepted = true;
                Output::Tell(Told::Accepted)
            }
            Do::TellConfirmed => Output::Tell(Told::Confirmed),
            Do::TellEnded => match self.ending.clone() {
                Some(ending) => Output::Tell(Told::Ended(ending)),
                None => Output::Tell(Told::Ended(self.ending(Cause::Internal, Side::Local, None))),
            },
            Do::TellIncoming => match self.parties.clone() {
                Some((from, to)) => Output::Tell(Told::Incoming { from, to }),
                None => return,
            },
            Do::TellProgress => Output::Tell(Told::Progress { status: self.progress.0, early_media: self.progress.1 }),
        };
        self.outputs.push_back(output);
    }
}

/// Shared by the actor and tests: an error that stands for "this call is not in a state for that".
pub(crate) fn wrong_state(operation: &'static str, call: CallId, state: (Sip, Jsep)) -> Error {
    Error::new(Fault::ApiMisuse, operation, format!("{call} is {:?}/{:?}", state.0, state.1))
        .advice("watch the call's events: each command fits only some states")
}


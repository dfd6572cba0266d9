//! One call's state: turns what happened into an event of the [`table`](crate::table), and the table's actions into
//! outputs with their data. No I/O, no clock, no actor.
//!
//! **Drain rule: after every [`Call::handle`], call [`Call::poll`] until it says `None`, then ask
//! [`Call::poll_timeout`].**

mod early;
mod forks;
mod hear;
mod progress;
mod terms;
mod transfer;
mod trickle;
mod words;

use crate::table::{Do, Jsep, On, Sip, lookup, patience};
use forks::Forks;
use hear::{Heard, Why};
use progress::Progress;
use siprtc_core::sip::{NameAddr, Uri};
use siprtc_core::{CallId, Cause, Error, Fault};
use siprtc_dialog_manager::{DialogTag, Head, Side};
use siprtc_media_session::Fork;
use siprtc_sdp_translator::says_trickle;
use std::collections::VecDeque;
use std::time::Instant;
use terms::Hold;
use transfer::Wish;
use trickle::Trickle;

pub(crate) use hear::TRICKLE_ICE;
pub use terms::Terms;
pub use words::{Command, Ending, Epoch, Input, Output, Step, Told};

/// One call.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    sip: Sip,
    jsep: Jsep,
    epoch: Epoch,
    target: Option<Uri>,
    parties: Option<(NameAddr, NameAddr)>,
    /// The call in whose place it comes.
    replaces: Option<CallId>,
    head: Box<Head>,
    wish: Wish,
    /// The last description that we made, and the last of the peer's that is or was to be applied.
    ours: Option<String>,
    theirs: Option<String>,
    /// The early dialog whose answer is applied.
    early: Option<DialogTag>,
    /// That early dialog takes offers before the call is answered.
    takes_early_offers: Option<DialogTag>,
    /// Media before we answer.
    early_media: Progress,
    /// A negotiation with this media peer has come to its end.
    has_agreed: bool,
    /// Early answers are not heard: they wait for the 2xx.
    waits_for_answer: bool,
    forks: Forks,
    /// The fork that is being taken.
    taken: Option<Fork>,
    /// What waits.
    early_answers: Vec<(DialogTag, String)>,
    progress: (u16, bool),
    refusal: u16,
    reason: Option<String>,
    ending: Option<Ending>,
    /// A 2xx came, or went.
    accepted: bool,
    /// The application knows that both descriptions are set: there is a session to fall back on.
    confirmed: bool,
    /// There is another engine to offer with, should the peer refuse the first one's offer.
    falls_back: bool,
    /// The early answer was no use: the 2xx is followed by an offer.
    offers_anew: bool,
    hold: Hold,
    deadline: Option<Instant>,
    trickle: Trickle,
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
            replaces: None,
            head: Box::default(),
            wish: Wish::default(),
            ours: None,
            theirs: None,
            early: None,
            takes_early_offers: None,
            early_media: Progress::default(),
            has_agreed: false,
            waits_for_answer: false,
            forks: Forks::default(),
            taken: None,
            early_answers: Vec::new(),
            progress: (0, false),
            refusal: 488,
            reason: None,
            ending: None,
            accepted: false,
            confirmed: false,
            falls_back: false,
            offers_anew: false,
            hold: Hold::default(),
            deadline: None,
            trickle: Trickle::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Should the peer refuse our first offer as unfit, it is called again with [`Output::UseClassic`].
    pub fn falling_back(self) -> Self {
        Call {
            falls_back: true,
            ..self
        }
    }

    /// The 2xx decides which fork is heard: no answer is set before it.
    pub fn waiting_for_answer(self) -> Self {
        Call {
            waits_for_answer: true,
            ..self
        }
    }

    /// Its states, for logs and tests.
    pub fn state(&self) -> (Sip, Jsep) {
        (self.sip, self.jsep)
    }

    /// Both descriptions are set, and the application knows.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whom it calls; `None` for a call that came in.
    pub(crate) fn target(&self) -> Option<&Uri> {
        self.target.as_ref()
    }

    /// Whether the result of this step would still mean something.
    pub fn awaits(&self, epoch: Epoch) -> bool {
        self.epoch == epoch && !self.is_ending()
    }

    /// The step whose result it waits for.
    pub(crate) fn awaited(&self) -> Option<Epoch> {
        let in_step = matches!(
            self.jsep,
            Jsep::ApplyingAnswer | Jsep::MakingAnswer | Jsep::MakingOffer | Jsep::Screening
        );
        (in_step && !self.is_ending()).then_some(self.epoch)
    }

    /// Takes what happened. An input that means nothing in this state changes nothing; `false` says so, for the
    /// application's own commands become an error then.
    pub fn handle(&mut self, now: Instant, input: Input) -> bool {
        if matches!(input, Input::Change(_) | Input::Hold(_)) && !self.may_change() {
            return false;
        }
        let answers = matches!(input, Input::Answer | Input::AnswerEarly | Input::AnswerWith(_));
        if answers && !self.may_answer(&input) {
            return false;
        }
        let is_answer = matches!(input, Input::AcceptTransfer | Input::RefuseTransfer { .. });
        if is_answer && !self.is_asked() {
            return false;
        }
        let taken = match self.hear(input) {
            Some(heard) => self.take(now, heard),
            None => true,
        };
        self.open_forks();
        self.trickle(now);
        self.answer(now);
        self.hold(now);
        taken
    }

    /// Whether INFOs may bring the peer what is gathered later: then nobody has to wait for it.
    pub fn may_trickle(&self) -> bool {
        match (&self.target, &self.theirs) {
            (Some(_), _) => true,
            (None, Some(theirs)) => self.trickle.is_taken() && says_trickle(theirs),
            (None, None) => false,
        }
    }

    /// Candidates of either side that the other does not know yet.
    fn trickle(&mut self, now: Instant) {
        if self.is_ending() {
            return;
        }
        let new = self.trickle.new_candidates().into_iter();
        self.outputs
            .extend(new.map(|(fork, candidates)| Output::AddCandidates { fork, candidates }));
        if let Some(fragment) = self.trickle.news() {
            self.outputs.push_back(Output::SendCandidates(fragment));
        }
        if self.state() == (Sip::Confirmed, Jsep::Stable) && self.trickle.takes_offer() {
            self.take(now, On::CandidatesUntold.into());
        }
    }

    /// Once a negotiation is over, it is told who holds the call and what has changed; a wish that came meanwhile begins another.
    fn hold(&mut self, now: Instant) {
        if self.jsep != Jsep::Stable || !(self.sip == Sip::Confirmed || self.offers_early()) {
            return;
        }
        self.outputs
            .extend(self.hold.news().into_iter().map(Output::Tell));
        if self.hold.is_pending() {
            self.take(now, On::ChangeWanted.into());
        }
        self.outputs.extend(self.hold.take_back().map(Output::SetMedia));
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Call::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time of [`Call::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.handle(now, Input::GiveUp);
        }
    }

    fn is_ending(&self) -> bool {
        matches!(self.sip, Sip::Ending | Sip::Ended)
    }

    /// Looks the event up, keeps its data if there is a row, and acts.
    fn take(&mut self, now: Instant, heard: Heard) -> bool {
        let Heard { on, sdp, dialog, why } = heard;
        let Some((next, actions)) = lookup(self.sip, self.jsep, on) else {
            tracing::debug!(call_id = %self.id, ?on, sip = ?self.sip, jsep = ?self.jsep, "nothing to do");
            return false;
        };
        tracing::debug!(call_id = %self.id, ?on, from = ?self.state(), to = ?next, "call");
        let reads = |action: &Do| {
            matches!(
                action,
                Do::ApplyAnswer | Do::MakeAnswer | Do::Screen | Do::TakeFork
            )
        };
        if sdp.is_some() && actions.iter().any(reads) {
            if let (Some(theirs), true) = (&sdp, actions.contains(&Do::MakeAnswer)) {
                self.trickle.offered(theirs);
            }
            self.theirs = sdp;
            self.trickle.unsettle();
            self.early = dialog;
        }
        if matches!(next.0, Sip::Ending | Sip::Ended) && self.ending.is_none() {
            self.end(why);
        }
        let was = self.jsep;
        self.offers_anew |= (on, self.sip) == (On::AnswerUnfit, Sip::Early);
        self.enter(now, next);
        for action in actions {
            self.act(*action);
        }
        if on == On::OfferFailed && matches!(was, Jsep::HaveLocalOffer | Jsep::MakingOffer) {
            self.hold_failed();
        }
        true
    }

    /// What we said of the media came to nothing with the offer that said it.
    fn hold_failed(&mut self) {
        if let Some((said, refused)) = self.hold.give_up() {
            self.outputs.push_back(Output::SetMedia(said));
            self.outputs.extend(refused.into_iter().map(Output::Tell));
        }
    }

    fn enter(&mut self, now: Instant, next: (Sip, Jsep)) {
        let limit = patience(next.0, next.1);
        let goes_on = next.0 == self.sip && self.deadline.is_some();
        if limit.is_none() || !goes_on {
            self.deadline = limit.and_then(|limit| now.checked_add(limit));
        }
        (self.sip, self.jsep) = next;
    }

    /// The first reason to end is the one that is told.
    fn end(&mut self, why: Option<Why>) {
        let why = why.unwrap_or_else(|| Why::new(Cause::Internal, Side::Local));
        if let Some(status) = why.refusal {
            self.refusal = status;
        }
        self.reason = why.reason;
        self.ending = Some(Ending {
            cause: why.cause,
            by: why.by,
            status: why.status,
            sentence: why.sentence,
            contacts: why.contacts,
            retry_after: why.retry_after,
            // An INVITE that was refused in the end was never answered, whatever we had just sent.
            established: self.accepted && !(self.sip == Sip::Accepting && why.status.is_some()),
            stats: None,
        });
    }

    /// A new step begins: results of older ones are stale.
    fn step(&mut self) -> Epoch {
        self.epoch.0 = self.epoch.0.wrapping_add(1);
        self.epoch
    }

    fn act(&mut self, action: Do) {
        if matches!(action, Do::MakeAnswer | Do::MakeOffer) {
            self.offer_anew();
        }
        if let Some(output) = self.output(action) {
            self.outputs.push_back(output);
        }
    }

    fn output(&mut self, action: Do) -> Option<Output> {
        let ours = || self.ours.clone().unwrap_or_default();
        let theirs = || self.theirs.clone().unwrap_or_default();
        Some(match action {
            Do::Accept => Output::Accept(self.early_media.said().unwrap_or_else(ours)),
            Do::AcceptOffer => {
                let answer = ours();
                self.early_media.answers_offer(self.sip);
                Output::AcceptOffer(answer)
            }
            Do::ApplyAnswer => {
                let (offer, answer) = (ours(), theirs());
                Output::ApplyAnswer {
                    epoch: self.step(),
                    offer,
                    answer,
                }
            }
            Do::CloseMedia => Output::CloseMedia,
            Do::Forget => Output::Forget,
            Do::HangUp => Output::HangUp {
                reason: self.reason.take(),
            },
            Do::Invite => Output::Invite {
                target: self.target.clone()?,
                offer: ours(),
            },
            Do::MakeAnswer => {
                let offer = theirs();
                Output::MakeAnswer {
                    epoch: self.step(),
                    offer,
                }
            }
            Do::MakeOffer => Output::MakeOffer { epoch: self.step() },
            Do::Progress => {
                let description = ours();
                Output::Progress(self.early_media.say(description))
            }
            Do::ReInvite => Output::ReInvite {
                offer: ours(),
                early: self.early.clone().filter(|_| self.is_early()),
            },
            Do::RefuseMedia | Do::RefuseWithStatus => Output::Refuse(self.refusal),
            Do::RefuseOffer => Output::RefuseOffer(488),
            Do::RefusePending => Output::RefuseOffer(491),
            Do::ReplaceMedia => {
                self.early = None;
                self.has_agreed = false;
                self.forks.clear();
                self.trickle.restart();
                self.trickle.unsettle();
                Output::ReplaceMedia
            }
            Do::RestartIce => {
                self.trickle.restart();
                Output::RestartIce
            }
            Do::Ring => Output::Ring,
            Do::Screen => {
                let offer = theirs();
                Output::Screen {
                    epoch: self.step(),
                    offer,
                }
            }
            Do::SetMedia => Output::SetMedia(self.hold.say()),
            Do::TakeFork => {
                let (fork, offer, answer) = (self.taken?, ours(), theirs());
                Output::TakeFork {
                    epoch: self.step(),
                    fork,
                    offer,
                    answer,
                }
            }
            Do::UndoOffer => {
                self.trickle.undo();
                Output::UndoOffer
            }
            Do::UseClassic => {
                self.trickle = Trickle::default();
                self.has_agreed = false;
                self.forks.become_classic();
                self.falls_back = false;
                Output::UseClassic {
                    heard: self.theirs.take(),
                }
            }
            Do::TellAccepted | Do::TellConfirmed | Do::TellEnded | Do::TellIncoming | Do::TellProgress => {
                Output::Tell(self.told(action)?)
            }
        })
    }

    fn told(&mut self, action: Do) -> Option<Told> {
        Some(match action {
            Do::TellAccepted => {
                self.accepted = true;
                Told::Accepted
            }
            Do::TellConfirmed if std::mem::replace(&mut self.confirmed, true) => return None,
            Do::TellConfirmed => Told::Confirmed,
            Do::TellEnded => Told::Ended(self.ending.clone()?),
            Do::TellIncoming => {
                let (from, to) = self.parties.clone()?;
                Told::Incoming {
                    from,
                    to,
                    replaces: self.replaces,
                    head: std::mem::take(&mut self.head),
                }
            }
            Do::TellProgress => Told::Progress {
                status: self.progress.0,
                early_media: self.progress.1,
            },
            _ => return None,
        })
    }
}

/// An error that stands for "this call is not in a state for that".
pub(crate) fn wrong_state(operation: &'static str, call: CallId, state: (Sip, Jsep)) -> Error {
    Error::new(
        Fault::ApiMisuse,
        operation,
        format!("{call} is {:?}/{:?}", state.0, state.1),
    )
    .advice("watch the call's events: each command fits only some states")
}

//! Media before we answer a call (RFC 3261 section 13.3.1.1): our description goes into a 183.

use super::hear::Heard;
use super::{Call, Input};
use crate::table::{Jsep, On, Sip};
use siprtc_dialog_manager::DialogEventKind;
use std::time::Instant;

/// What the table does not know of it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The caller acknowledges an 18x with a description.
    is_reliable: bool,
    /// What our 183 says, and no answer to this INVITE says anything else.
    said: Option<String>,
    /// It has, and takes UPDATE.
    takes_offers: bool,
    /// The application has answered; a negotiation runs.
    is_answered: bool,
    /// Our answer to the caller's offer is on its way, and may come too late.
    answers_offer: bool,
}

impl Progress {
    pub(super) fn invited(&mut self, is_reliable: bool) {
        self.is_reliable = is_reliable;
    }

    pub(super) fn say(&mut self, description: String) -> String {
        self.said.insert(description).clone()
    }

    pub(super) fn said(&self) -> Option<String> {
        self.said.clone()
    }

    pub(super) fn takes_offers(&self) -> bool {
        self.takes_offers
    }

    pub(super) fn answers_offer(&mut self, sip: Sip) {
        self.answers_offer = sip == Sip::Progressed;
    }

    /// Our answer has arrived, or came too late.
    pub(super) fn offer_is_answered(&mut self) {
        self.answers_offer = false;
    }
}

impl Call {
    /// Media runs, and we have not answered.
    pub(super) fn has_progressed(&self) -> bool {
        matches!(self.sip, Sip::Progressed | Sip::ProgressedOffered)
    }

    /// We have not answered.
    pub(crate) fn rings_here(&self) -> bool {
        self.has_progressed() || matches!(self.sip, Sip::Incoming | Sip::Progressing)
    }

    /// Whether there may be media before the answer: without an offer in the INVITE ours must be acknowledged (RFC 3262 section 5).
    pub(crate) fn has_early_media(&self) -> bool {
        self.theirs.is_some() || self.early_media.is_reliable
    }

    /// Whether an answer of the application's, early or for good, means something.
    pub(super) fn may_answer(&self, input: &Input) -> bool {
        match input {
            Input::AnswerEarly => self.has_early_media(),
            _ => !self.early_media.is_answered,
        }
    }

    pub(super) fn hear_answer(&mut self) -> Option<Heard> {
        if self.has_progressed() {
            self.early_media.is_answered = true;
            return None;
        }
        let on = match self.theirs {
            Some(_) => On::Answer,
            None => On::AnswerOfferless,
        };
        Some(on.into())
    }

    pub(super) fn hear_early_answer(&self) -> Heard {
        match self.theirs {
            Some(_) => On::AnswerEarly.into(),
            None => On::AnswerEarlyOfferless.into(),
        }
    }

    /// Our 183 is acknowledged; the PRACK has the answer if it had an offer.
    pub(super) fn hear_prack(&mut self, kind: DialogEventKind) -> Option<Heard> {
        let DialogEventKind::ProgressConfirmed { sdp, takes_offers } = kind else {
            return None;
        };
        self.early_media.takes_offers = takes_offers;
        let is_owed = self.jsep == Jsep::HaveLocalOffer && !self.has_agreed;
        is_owed.then(|| super::hear::owed(sdp, On::ReAnswered, "PRACK"))
    }

    /// Once no negotiation runs, the 200 goes out that the application wanted: what follows it may not be what the caller
    /// offered before.
    pub(super) fn answer(&mut self, now: Instant) {
        let is_due = self.early_media.is_answered && !self.early_media.answers_offer;
        if is_due && self.state() == (Sip::Progressed, Jsep::Stable) {
            self.take(now, On::Answer.into());
        }
    }
}

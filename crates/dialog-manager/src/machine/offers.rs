//! Offers within a call beside the re-INVITE: UPDATE (RFC 3311), also before the call is answered, and PRACK (RFC 3262 section 5).
//!
//! Before the answer an offer may be made once the first one is answered for good: in an 18x that is acknowledged by PRACK (RFC 6337
//! section 2.2). One of ours and one of the peer's are under way at most, whatever carries them.

use super::Scope;
use super::call::{Call, Phase, is_challenge};
use super::end::End;
use super::reinvite::Ours;
use super::session::Unacked;
use super::timers::Timer;
use super::uas::check_refusal;
use super::words::{SDP, busy_dialog, misuse, sdp_of};
use crate::control::Reoffer;
use crate::event::{DialogEventKind, DialogTag};
use siprtc_core::sip::{Method, SipRequest, SipResponse, TxId};
use siprtc_core::{Cause, Result};
use std::time::Duration;

/// Longest Retry-After of a 500 that is waited for, in seconds; RFC 3311 section 5.2 allows no more.
const LONGEST_WAIT: u32 = 10;

/// The offers under way, and where one may be made.
#[derive(Default)]
pub(super) struct Offers {
    pub(super) ours: Option<Ours>,
    pub(super) theirs: Option<Theirs>,
    /// The early dialogs, by the peer's tag, in which the first offer is answered. No more than there are forks.
    agreed: Vec<String>,
}

/// The peer's offer, while our user thinks.
pub(super) struct Theirs {
    pub(super) tx: TxId,
    /// An INVITE, an UPDATE or a PRACK.
    pub(super) request: SipRequest,
    tag: String,
    /// It had no offer: our 200 has it.
    offerless: bool,
}

impl Call {
    /// Nobody has answered the call.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.phase, Phase::Calling(_) | Phase::Inviting(_))
    }

    /// An offer waits for its answer, or our 200 for its ACK.
    pub(super) fn is_negotiating(&self) -> bool {
        let unacked = matches!(&self.phase, Phase::Established(session) if session.unacked.is_some());
        self.offers.ours.is_some() || self.offers.theirs.is_some() || unacked
    }

    /// The first offer is answered in the early dialog with `tag`.
    pub(super) fn has_agreed(&mut self, tag: &str) {
        if !self.offers.agreed.iter().any(|known| known == tag) {
            self.offers.agreed.push(tag.to_owned());
        }
    }

    /// Whether an UPDATE of ours may offer in that early dialog.
    pub(super) fn takes_early_offers(&self, tag: &str) -> bool {
        self.refresh.takes_update && self.is_agreed_on(tag)
    }

    /// The first offer is answered for good in the early dialog with `tag`.
    pub(super) fn is_agreed_on(&self, tag: &str) -> bool {
        self.offers.agreed.iter().any(|known| known == tag)
    }

    /// In which dialog an offer of ours goes.
    pub(super) fn offer_dialog(&self, early: Option<&DialogTag>) -> Option<String> {
        match &self.phase {
            Phase::Established(session) => Some(session.dialog.remote_tag().to_owned()),
            Phase::Calling(_) => early.map(|tag| tag.0.clone()),
            Phase::Inviting(_) => Some(self.caller_tag.clone()),
            Phase::Closing(_) | Phase::Over => None,
        }
        .filter(|tag| !self.is_early() || self.takes_early_offers(tag))
    }

    pub(super) fn goes_by_update(&self, scope: &Scope) -> bool {
        let is_wanted = scope.config.control.reoffer == Reoffer::Update && self.refresh.takes_update;
        let is_refused = self.offers.ours.as_ref().is_some_and(|ours| ours.is_for_invite);
        self.is_early() || is_wanted && !is_refused
    }

    /// Over UDP it might be there before the PRACK, which would be out of order then.
    pub(super) fn offer_waits_for_prack(&mut self) {
        if let Some(ours) = self.ours() {
            ours.waits_for_prack = true;
        }
    }

    pub(super) fn next_offer(&mut self, scope: &mut Scope, tag: &str) {
        let waits = |ours: &mut Ours| ours.tag == tag && std::mem::take(&mut ours.waits_for_prack);
        if self.ours().is_some_and(waits) {
            self.send_reinvite(scope);
        }
    }

    /// A final answer to our UPDATE.
    pub(super) fn offer_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        if !self.is_current_reinvite(tx) {
            return;
        }
        let is_early = self.is_early();
        let wait = response.headers.retry_after().ok().flatten();
        match (response.status, wait) {
            (200..=299, _) => self.update_accepted(scope, response),
            (401 | 407, _) if is_challenge(response) => match self.retry(scope, tx, response) {
                Ok(tx) => self.reinvite_is_out(tx),
                Err(_) => self.reinvite_failed(scope, response.status),
            },
            (422, _) if self.refresh.raise(response) => self.send_reinvite(scope),
            (491, _) => self.glare(scope),
            // Section 5.2: the peer is busy with another one.
            (500, Some(seconds)) => {
                let pause = Duration::from_secs(seconds.min(LONGEST_WAIT).into());
                self.offer_again_after(scope, pause, 500);
            }
            // It takes no UPDATE after all, or has to ask a person (504): that is what a re-INVITE is for (section 5.1).
            (405 | 501 | 504, _) if !is_early => {
                self.refresh.takes_update &= response.status == 504;
                if let Some(ours) = self.ours() {
                    ours.is_for_invite = true;
                }
                self.send_reinvite(scope);
            }
            (408 | 481, _) if !is_early => {
                let reason = format!(
                    "{} does not know this call any more ({} to our UPDATE): it was restarted, or ended the call unheard",
                    self.peer, response.status
                );
                self.dialog_lost(scope, End::local(Cause::TimedOut, reason), response.status);
            }
            (status, _) => self.reinvite_failed(scope, status),
        }
    }

    fn update_accepted(&mut self, scope: &mut Scope, response: &SipResponse) {
        let tag = self.ours().map(|ours| ours.tag.clone()).unwrap_or_default();
        if let Some(dialog) = self.dialog(&tag) {
            dialog.refresh_target(&response.headers);
        }
        self.hear_abilities(scope, &tag, &response.headers);
        self.forget_ours(scope);
        if !self.is_early() {
            self.hear_timer(scope, &response.headers);
        }
        let sdp = sdp_of(response);
        self.tell(scope, DialogEventKind::OfferAnswered { sdp });
    }

    /// Whether the peer's INVITE, UPDATE or PRACK may offer now, or what refuses it (RFC 3311 section 5.2, RFC 3261 section 14.2).
    pub(super) fn may_offer(&self, scope: &mut Scope, request: &SipRequest) -> Result<(), SipResponse> {
        let from = request.headers.from().ok();
        let tag = from.as_ref().and_then(|from| from.tag()).unwrap_or_default();
        let is_agreed = self.is_agreed_on(tag);
        let ours_is_out = self.offers.ours.as_ref().is_some_and(Ours::is_out);
        let is_pending = ours_is_out || self.is_ending();
        match &self.phase {
            _ if self.offers.theirs.is_some() => Err(busy_dialog(scope, request)),
            Phase::Established(session) if is_pending || session.unacked.is_some() => {
                Err(request.response(491))
            }
            Phase::Established(_) => Ok(()),
            Phase::Calling(_) | Phase::Inviting(_) if is_agreed && request.method != Method::Invite => {
                if is_pending {
                    Err(request.response(491))
                } else {
                    Ok(())
                }
            }
            // Our offer is out and unanswered.
            Phase::Calling(_) => Err(request.response(491)),
            // The peer's is.
            Phase::Inviting(_) => Err(busy_dialog(scope, request)),
            Phase::Closing(_) | Phase::Over => Err(request.response(481)),
        }
    }

    pub(super) fn peer_offers(
        &mut self,
        scope: &mut Scope,
        tx: TxId,
        request: SipRequest,
        sdp: Option<String>,
    ) {
        // Our own offer waits for its second try after glare: the peer was quicker.
        self.reinvite_failed(scope, 491);
        scope.owners.insert(tx, self.id);
        let patience = if request.method == Method::Invite {
            scope.respond(Some(self.id), tx, request.response(100));
            scope.config.no_answer
        } else {
            // Half of the peer's timer F.
            scope.patience() / 2
        };
        scope.set_timer(self.id, Timer::OfferPatience, patience);
        let from = request.headers.from().ok();
        let tag = from
            .and_then(|from| from.tag().map(str::to_owned))
            .unwrap_or_default();
        self.offers.theirs = Some(Theirs {
            tx,
            request,
            tag: tag.clone(),
            offerless: sdp.is_none(),
        });
        let dialog = DialogTag(tag);
        self.tell(scope, DialogEventKind::Offered { dialog, sdp });
    }

    pub(super) fn accept_offer(&mut self, scope: &mut Scope, sdp: String) -> Result<()> {
        let (id, theirs) = (self.id, self.take_theirs("accept offer")?);
        scope.timers.cancel(id, Timer::OfferPatience);
        let mut response = theirs.request.response(200).with_body(SDP, sdp);
        if theirs.request.method == Method::Prack {
            scope.respond(Some(id), theirs.tx, response);
            self.tell(scope, DialogEventKind::OfferConfirmed { sdp: None });
            self.go_on_ringing(scope);
            return Ok(());
        }
        response.headers.push("Contact", &scope.config.account.contact);
        scope
            .abilities()
            .push_answering(&theirs.request, &mut response.headers);
        if !self.is_early() {
            self.answer_timer(scope, &theirs.request, &mut response.headers);
        }
        if let Some(dialog) = self.dialog(&theirs.tag) {
            // RFC 6141 section 4: the target changes with the 2xx.
            dialog.refresh_target(&theirs.request.headers);
        }
        if theirs.request.method == Method::Update {
            scope.respond(Some(id), theirs.tx, response);
            self.tell(scope, DialogEventKind::OfferConfirmed { sdp: None });
            return Ok(());
        }
        let sequence = theirs.request.headers.cseq()?.sequence;
        let (interval, offered) = (scope.config.timers.t1, theirs.offerless);
        let unacked = Unacked {
            tx: theirs.tx,
            sequence,
            response,
            interval,
            initial: false,
            offered,
        };
        self.send_success(scope, unacked);
        Ok(())
    }

    pub(super) fn reject_offer(&mut self, scope: &mut Scope, status: u16) -> Result<()> {
        check_refusal("reject offer", status)?;
        let theirs = self.take_theirs("reject offer")?;
        scope.timers.cancel(self.id, Timer::OfferPatience);
        let is_prack = theirs.request.method == Method::Prack;
        // RFC 6337 section 2.2: nothing else refuses an offer without refusing the PRACK.
        let status = if is_prack { 488 } else { status };
        scope.respond(Some(self.id), theirs.tx, theirs.request.response(status));
        if is_prack {
            self.go_on_ringing(scope);
        }
        Ok(())
    }

    fn take_theirs(&mut self, operation: &'static str) -> Result<Theirs> {
        self.offers.theirs.take().ok_or_else(|| {
            misuse(
                operation,
                format!("{} has no offer of the peer that waits for an answer", self.id),
            )
            .advice("answer an Offered once, and not after OfferRejected")
        })
    }

    /// Our user was too slow.
    pub(super) fn offer_unanswered(&mut self, scope: &mut Scope) {
        let Some(theirs) = self.offers.theirs.take() else {
            return;
        };
        let is_prack = theirs.request.method == Method::Prack;
        let response = match is_prack {
            true => theirs.request.response(488),
            false => busy_dialog(scope, &theirs.request),
        };
        scope.respond(Some(self.id), theirs.tx, response);
        self.tell(scope, DialogEventKind::OfferRejected { status: 500 });
        if is_prack {
            self.go_on_ringing(scope);
        }
    }

    /// The peer's offer comes to nothing, unheard by our user.
    pub(super) fn answer_theirs(&mut self, scope: &mut Scope, status: u16) {
        if let Some(theirs) = self.offers.theirs.take() {
            scope.timers.cancel(self.id, Timer::OfferPatience);
            scope.respond(Some(self.id), theirs.tx, theirs.request.response(status));
        }
    }

    /// A fork took its leave before anybody answered: what was under way with it comes to nothing.
    pub(super) fn early_dialog_is_gone(&mut self, scope: &mut Scope, tag: &str) {
        self.offers.agreed.retain(|known| known != tag);
        if self.ours().is_some_and(|ours| ours.tag == tag) {
            self.reinvite_failed(scope, 481);
        }
        if self
            .offers
            .theirs
            .as_ref()
            .is_some_and(|theirs| theirs.tag == tag)
        {
            self.answer_theirs(scope, 487);
            self.tell(scope, DialogEventKind::OfferRejected { status: 487 });
        }
    }

    /// The fork with `tag` has answered: whatever was under way with others is nobody's business any more.
    pub(super) fn leave_other_forks(&mut self, scope: &mut Scope, tag: &str) {
        self.offers.agreed.clear();
        if self.ours().is_some_and(|ours| ours.tag != tag) {
            self.forget_ours(scope);
        }
        if self
            .offers
            .theirs
            .as_ref()
            .is_some_and(|theirs| theirs.tag != tag)
        {
            self.answer_theirs(scope, 481);
        }
    }

    /// The INVITE goes out again, and its early dialogs are gone.
    pub(super) fn leave_all_forks(&mut self, scope: &mut Scope) {
        self.offers.agreed.clear();
        self.forget_ours(scope);
        self.answer_theirs(scope, 481);
    }
}

//! The peer's requests within a dialog, and our 2xx until its ACK (RFC 3261 sections 12.2.2, 13.3.1.4, 14.2 and 15).

use super::Scope;
use super::call::{Call, Phase};
use super::dialog::Dialog;
use super::end::End;
use super::refresh::too_short;
use super::reinvite::Ours;
use super::timers::Timer;
use super::uas::check_refusal;
use super::words::{Description, SDP, answer_to_options, busy_dialog, misuse, not_allowed, objection};
use crate::event::DialogEventKind;
use siprtc_core::sip::{Method, SipRequest, SipResponse, TxEnd, TxId};
use siprtc_core::{Cause, Result};
use std::time::Duration;

/// An established dialog.
pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) ours: Option<Ours>,
    pub(super) theirs: Option<Theirs>,
    pub(super) unacked: Option<Unacked>,
    /// We made the Call-ID: decides who waits longer after glare (RFC 3261 section 14.1).
    pub(super) owns_call_id: bool,
}

impl Session {
    pub(super) fn of_caller(dialog: Dialog) -> Self {
        Session {
            dialog,
            ours: None,
            theirs: None,
            unacked: None,
            owns_call_id: true,
        }
    }

    pub(super) fn of_callee(dialog: Dialog) -> Self {
        Session {
            owns_call_id: false,
            ..Session::of_caller(dialog)
        }
    }
}

/// The peer's re-INVITE or UPDATE, while our user thinks.
pub(super) struct Theirs {
    pub(super) tx: TxId,
    pub(super) request: SipRequest,
    /// It had no offer: our 200 has it.
    offerless: bool,
}

/// Our 2xx to an INVITE, until its ACK.
pub(super) struct Unacked {
    pub(super) tx: TxId,
    pub(super) sequence: u32,
    pub(super) response: SipResponse,
    pub(super) interval: Duration,
    /// To the INVITE that began the call.
    pub(super) initial: bool,
    /// It carried the offer: the ACK has the answer.
    pub(super) offered: bool,
}

impl Call {
    pub(super) fn requested(&mut self, scope: &mut Scope, tx: TxId, request: SipRequest) {
        let (Ok(from), Ok(cseq)) = (request.headers.from(), request.headers.cseq()) else {
            return self.respond(scope, tx, request.response(400));
        };
        let tag = from.tag().unwrap_or_default();
        let Some(dialog) = self.dialog(tag) else {
            return self.respond(scope, tx, request.response(481));
        };
        if !dialog.take_sequence(cseq.sequence) {
            let response = busy_dialog(scope, &request);
            return self.respond(scope, tx, response);
        }
        self.dialog_is_known(scope, tag);
        let abilities = scope.abilities();
        if let Some(response) = objection(abilities, &request) {
            return self.respond(scope, tx, response);
        }
        if let Some(response) = too_short(scope, &request).filter(|_| is_refresh(&request.method)) {
            return self.respond(scope, tx, response);
        }
        match request.method {
            Method::Bye => self.peer_hangs_up(scope, tx, &request),
            Method::Info => self.informed(scope, tx, &request, tag),
            Method::Invite | Method::Update => {
                self.hear_abilities(scope, tag, &request.headers);
                self.peer_refreshes(scope, tx, request);
            }
            Method::Message if scope.config.control.take_messages => self.messaged(scope, tx, &request),
            Method::Notify => self.notified(scope, tx, &request),
            Method::Options => self.respond(scope, tx, answer_to_options(abilities, &request)),
            Method::Prack => self.acknowledged_progress(scope, tx, &request),
            Method::Refer => self.referred(scope, tx, &request),
            _ => self.respond(scope, tx, not_allowed(&request)),
        }
    }

    pub(super) fn dialog(&mut self, remote_tag: &str) -> Option<&mut Dialog> {
        let dialog = match &mut self.phase {
            Phase::Calling(calling) => return calling.dialog(remote_tag),
            Phase::Closing(dialog) => dialog,
            Phase::Established(session) => &mut session.dialog,
            Phase::Inviting(inviting) => &mut inviting.dialog,
            Phase::Over => return None,
        };
        (dialog.remote_tag() == remote_tag).then_some(dialog)
    }

    fn respond(&self, scope: &mut Scope, tx: TxId, response: SipResponse) {
        scope.respond(Some(self.id), tx, response);
    }

    fn peer_hangs_up(&mut self, scope: &mut Scope, tx: TxId, bye: &SipRequest) {
        self.respond(scope, tx, bye.response(200));
        match &mut self.phase {
            // Only that fork is gone; the INVITE still has its final answer to come.
            Phase::Calling(calling) => {
                let tag = bye
                    .headers
                    .from()
                    .ok()
                    .and_then(|from| from.tag().map(str::to_owned));
                calling.forget_dialog(&tag.unwrap_or_default());
            }
            // RFC 3261 section 15.1.2: whatever is pending is answered 487.
            Phase::Inviting(_) => {
                self.refuse(
                    scope,
                    487,
                    End::by_peer(Cause::Cancelled, Some(&bye.headers)),
                    None,
                );
            }
            Phase::Established(session) => {
                if let Some(theirs) = session.theirs.take() {
                    scope.respond(Some(self.id), theirs.tx, theirs.request.response(487));
                }
                self.ended_by_peer(scope, End::by_peer(Cause::Bye, Some(&bye.headers)));
            }
            Phase::Closing(_) => self.ended_by_peer(scope, End::by_peer(Cause::Bye, Some(&bye.headers))),
            Phase::Over => {}
        }
    }

    /// A re-INVITE or an UPDATE.
    fn peer_refreshes(&mut self, scope: &mut Scope, tx: TxId, request: SipRequest) {
        let description = Description::of(&request.headers, &request.body);
        if request.method == Method::Update && description == Description::Absent {
            return self.refresh_target(scope, tx, &request);
        }
        let Phase::Established(session) = &mut self.phase else {
            let response = match &self.phase {
                // Our offer is out and unanswered.
                Phase::Calling(_) => request.response(491),
                Phase::Inviting(_) => busy_dialog(scope, &request),
                _ => request.response(481),
            };
            return self.respond(scope, tx, response);
        };
        if session.theirs.is_some() {
            let response = busy_dialog(scope, &request);
            return self.respond(scope, tx, response);
        }
        let ours_is_out = session.ours.as_ref().is_some_and(Ours::is_out);
        if ours_is_out || session.unacked.is_some() || self.is_ending() {
            return self.respond(scope, tx, request.response(491));
        }
        self.peer_offers(scope, tx, request, description.sdp());
    }

    fn peer_offers(&mut self, scope: &mut Scope, tx: TxId, request: SipRequest, sdp: Option<String>) {
        // Our own offer waits for its second try after glare: the peer was quicker.
        self.reinvite_failed(scope, 491);
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        scope.owners.insert(tx, self.id);
        let patience = if request.method == Method::Invite {
            scope.respond(Some(self.id), tx, request.response(100));
            scope.config.no_answer
        } else {
            // Half of the peer's timer F.
            scope.patience() / 2
        };
        scope.set_timer(self.id, Timer::OfferPatience, patience);
        session.theirs = Some(Theirs {
            tx,
            request,
            offerless: sdp.is_none(),
        });
        self.tell(scope, DialogEventKind::Offered { sdp });
    }

    fn refresh_target(&mut self, scope: &mut Scope, tx: TxId, update: &SipRequest) {
        let tag = update
            .headers
            .from()
            .ok()
            .and_then(|from| from.tag().map(str::to_owned))
            .unwrap_or_default();
        if let Some(dialog) = self.dialog(&tag) {
            dialog.refresh_target(&update.headers);
        }
        let mut response = update.response(200);
        response.headers.push("Contact", &scope.config.account.contact);
        scope.abilities().push_answering(update, &mut response.headers);
        self.answer_timer(scope, update, &mut response.headers);
        self.respond(scope, tx, response);
    }

    pub(super) fn accept_offer(&mut self, scope: &mut Scope, sdp: String) -> Result<()> {
        let (id, theirs) = (self.id, self.take_theirs("accept offer")?);
        scope.timers.cancel(id, Timer::OfferPatience);
        let mut response = theirs.request.response(200).with_body(SDP, sdp);
        response.headers.push("Contact", &scope.config.account.contact);
        scope
            .abilities()
            .push_answering(&theirs.request, &mut response.headers);
        self.answer_timer(scope, &theirs.request, &mut response.headers);
        if let Phase::Established(session) = &mut self.phase {
            // RFC 6141 section 4: the target changes with the 2xx.
            session.dialog.refresh_target(&theirs.request.headers);
        }
        if theirs.request.method == Method::Update {
            self.respond(scope, theirs.tx, response);
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
        self.respond(scope, theirs.tx, theirs.request.response(status));
        Ok(())
    }

    fn take_theirs(&mut self, operation: &'static str) -> Result<Theirs> {
        let theirs = match &mut self.phase {
            Phase::Established(session) => session.theirs.take(),
            _ => None,
        };
        theirs.ok_or_else(|| {
            misuse(
                operation,
                format!("{} has no offer of the peer that waits for an answer", self.id),
            )
            .advice("answer an Offered once, and not after OfferRejected")
        })
    }

    /// Our user was too slow.
    pub(super) fn offer_unanswered(&mut self, scope: &mut Scope) {
        let Ok(theirs) = self.take_theirs("answer") else {
            return;
        };
        let response = busy_dialog(scope, &theirs.request);
        self.respond(scope, theirs.tx, response);
        self.tell(scope, DialogEventKind::OfferRejected { status: 500 });
    }

    /// Sends a 2xx to an INVITE, again and again until its ACK (RFC 3261 section 13.3.1.4).
    pub(super) fn send_success(&mut self, scope: &mut Scope, unacked: Unacked) {
        self.respond(scope, unacked.tx, unacked.response.clone());
        scope.set_timer(self.id, Timer::Retransmit, unacked.interval);
        scope.set_timer(self.id, Timer::AckWait, scope.patience());
        if let Phase::Established(session) = &mut self.phase {
            session.unacked = Some(unacked);
        }
    }

    pub(super) fn retransmit(&mut self, scope: &mut Scope) {
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        let Some(unacked) = &mut session.unacked else {
            return;
        };
        unacked.interval = (unacked.interval * 2).min(scope.config.timers.t2);
        scope.set_timer(self.id, Timer::Retransmit, unacked.interval);
        scope.respond(Some(self.id), unacked.tx, unacked.response.clone());
    }

    pub(super) fn acknowledged(&mut self, scope: &mut Scope, ack: &SipRequest) {
        let (Ok(from), Ok(cseq)) = (ack.headers.from(), ack.headers.cseq()) else {
            return;
        };
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        if session.dialog.remote_tag() != from.tag().unwrap_or_default() {
            return;
        }
        let Some(unacked) = session
            .unacked
            .take_if(|unacked| unacked.sequence == cseq.sequence)
        else {
            return;
        };
        scope.timers.cancel(self.id, Timer::AckWait);
        scope.timers.cancel(self.id, Timer::Retransmit);
        if self.is_ending() {
            return self.send_bye(scope);
        }
        let tag = from.tag().unwrap_or_default();
        self.hear_abilities(scope, tag, &ack.headers);
        let sdp = if unacked.offered {
            Description::of(&ack.headers, &ack.body).sdp()
        } else {
            None
        };
        let kind = match unacked.initial {
            true => DialogEventKind::Confirmed { sdp },
            false => DialogEventKind::OfferConfirmed { sdp },
        };
        self.tell(scope, kind);
        self.dialog_is_known(scope, tag);
    }

    pub(super) fn ack_missing(&mut self, scope: &mut Scope) {
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        session.unacked = None;
        let reason = format!(
            "{} never acknowledged our 200 (no ACK within {} s): its ACK may be sent to an address of ours that cannot \
             be reached, see the Contact",
            self.peer,
            scope.patience().as_secs()
        );
        self.abort(scope, End::local(Cause::TimedOut, reason));
    }

    /// A server transaction is gone.
    pub(super) fn server_lost(&mut self, scope: &mut Scope, tx: TxId, end: TxEnd) {
        match &mut self.phase {
            Phase::Inviting(inviting) if inviting.tx == tx => {
                let told = match end {
                    TxEnd::Transport(told) => told,
                    TxEnd::Done | TxEnd::TimedOut => "its INVITE is gone".to_owned(),
                };
                self.connection_lost(scope, &told);
            }
            Phase::Established(session) => {
                let Some(_) = session.theirs.take_if(|theirs| theirs.tx == tx) else {
                    return;
                };
                scope.timers.cancel(self.id, Timer::OfferPatience);
                self.tell(scope, DialogEventKind::OfferRejected { status: 500 });
            }
            _ => {}
        }
    }
}

/// Whether it refreshes the session (RFC 4028).
fn is_refresh(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

//! The peer's requests within a dialog, and our 2xx until its ACK (RFC 3261 sections 12.2.2, 13.3.1.4, 14.2 and 15).

use super::Scope;
use super::call::{Call, Phase};
use super::dialog::Dialog;
use super::end::End;
use super::refresh::too_short;
use super::timers::Timer;
use super::words::{Description, answer_to_options, busy_dialog, not_allowed, objection};
use crate::event::DialogEventKind;
use siprtc_core::Cause;
use siprtc_core::sip::{Method, SipRequest, SipResponse, TxEnd, TxId};
use std::time::Duration;

/// An established dialog.
pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) unacked: Option<Unacked>,
}

impl Session {
    pub(super) fn new(dialog: Dialog) -> Self {
        Session {
            dialog,
            unacked: None,
        }
    }
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
        let (Ok(tag), Ok(cseq)) = (request.headers.from_tag(), request.headers.cseq()) else {
            return self.respond(scope, tx, request.response(400));
        };
        let Some(dialog) = self.dialog(&tag) else {
            if request.method == Method::Bye {
                self.fork_hangs_up(scope, &tag);
            }
            return self.respond(scope, tx, request.response(481));
        };
        if !dialog.take_sequence(cseq.sequence) {
            let response = busy_dialog(scope, &request);
            return self.respond(scope, tx, response);
        }
        // The INVITE's usage of the dialog is over (RFC 5057); what a transfer tells is not.
        if self.has_ended() && !matches!(request.method, Method::Bye | Method::Notify) {
            return self.respond(scope, tx, request.response(481));
        }
        self.dialog_is_known(scope, &tag);
        let abilities = scope.abilities();
        if let Some(response) = objection(abilities, &request) {
            return self.respond(scope, tx, response);
        }
        if let Some(response) = too_short(scope, &request).filter(|_| is_refresh(&request.method)) {
            return self.respond(scope, tx, response);
        }
        match request.method {
            Method::Bye => self.peer_hangs_up(scope, tx, &request),
            Method::Info => self.informed(scope, tx, &request, &tag),
            Method::Invite | Method::Update => {
                self.hear_abilities(scope, &tag, &request.headers);
                self.peer_refreshes(scope, tx, request);
            }
            Method::Message if scope.config.control.take_messages => self.messaged(scope, tx, &request),
            Method::Notify => self.notified(scope, tx, &request),
            Method::Options => self.respond(scope, tx, answer_to_options(abilities, &request)),
            Method::Prack => self.acknowledged_progress(scope, tx, &request),
            Method::Refer => self.referred(scope, tx, &request),
            _ => self.respond(scope, tx, not_allowed(abilities, &request)),
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
        match &self.phase {
            Phase::Calling(_) => {
                self.fork_hangs_up(scope, &bye.headers.from_tag().unwrap_or_default());
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
            Phase::Established(_) | Phase::Closing(_) => {
                self.ended_by_peer(scope, End::by_peer(Cause::Bye, Some(&bye.headers)))
            }
            Phase::Over => {}
        }
    }

    /// A re-INVITE or an UPDATE.
    fn peer_refreshes(&mut self, scope: &mut Scope, tx: TxId, request: SipRequest) {
        let description = Description::of(&request.headers, &request.body);
        if request.method == Method::Update && description == Description::Absent {
            return self.refresh_target(scope, tx, &request);
        }
        if let Err(response) = self.may_offer(scope, &request) {
            return self.respond(scope, tx, response);
        }
        self.peer_offers(scope, tx, request, description.sdp());
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
        let (Ok(tag), Ok(cseq)) = (ack.headers.from_tag(), ack.headers.cseq()) else {
            return;
        };
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        if session.dialog.remote_tag() != tag {
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
        self.hear_abilities(scope, &tag, &ack.headers);
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
        self.dialog_is_known(scope, &tag);
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
            _ => {
                if self.offers.theirs.take_if(|theirs| theirs.tx == tx).is_some() {
                    scope.timers.cancel(self.id, Timer::OfferPatience);
                    self.tell(scope, DialogEventKind::OfferRejected { status: 500 });
                }
            }
        }
    }
}

/// Whether it refreshes the session (RFC 4028).
fn is_refresh(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

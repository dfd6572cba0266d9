//! Our offers within a call: re-INVITEs (RFC 3261 section 14.1); and UPDATEs (RFC 3311), whose own rules are in
//! [`super::offers`].

use super::call::{Call, Client, Departure, Phase, Purpose, is_challenge};
use super::end::End;
use super::errand::status_of;
use super::timers::Timer;
use super::words::{SDP, misuse, sdp_of};
use super::{Output, Scope};
use crate::event::{DialogEventKind, DialogTag, Side};
use siprtc_core::sip::{Headers, Method, SipResponse, TxEnd, TxId};
use siprtc_core::{Cause, Result};
use std::time::Duration;

/// Most tries of one offer after 491, or after a 500 that says when.
const MAX_GLARE: u8 = 5;

/// Most WebSockets that break under one offer.
const MAX_DETOURS: u8 = 5;

/// Our offer, until its answer.
pub(super) struct Ours {
    /// `None` while we wait for another try after glare, for the answer to a PRACK, or for a way to the peer.
    tx: Option<TxId>,
    /// The dialog, by the peer's tag.
    pub(super) tag: String,
    sdp: String,
    /// The peer did not take it in an UPDATE.
    pub(super) is_for_invite: bool,
    glares: u8,
    detours: u8,
    waits_for_way: bool,
    pub(super) waits_for_prack: bool,
    provisional: bool,
    cancelled: bool,
}

impl Ours {
    /// It is on its way.
    pub(super) fn is_out(&self) -> bool {
        self.tx.is_some()
    }
}

impl Call {
    pub(super) fn reinvite(
        &mut self,
        scope: &mut Scope,
        sdp: String,
        early: Option<DialogTag>,
    ) -> Result<()> {
        const OPERATION: &str = "re-INVITE";
        let tag = self.offer_dialog(early.as_ref()).ok_or_else(|| {
            misuse(
                OPERATION,
                format!("{} is not established, and no early dialog takes offers", self.id),
            )
        })?;
        // RFC 3261 section 14.1: no INVITE while another one is under way, in either direction.
        if self.is_ending() || self.is_negotiating() {
            return Err(misuse(
                OPERATION,
                format!("{} is in the middle of another offer and answer", self.id),
            )
            .advice("wait for Confirmed, OfferConfirmed, OfferAnswered or OfferRejected"));
        }
        self.offers.ours = Some(Ours {
            tx: None,
            tag,
            sdp,
            is_for_invite: false,
            glares: 0,
            detours: 0,
            waits_for_way: false,
            waits_for_prack: false,
            provisional: false,
            cancelled: false,
        });
        self.send_reinvite(scope);
        Ok(())
    }

    pub(super) fn send_reinvite(&mut self, scope: &mut Scope) {
        let route = self.way(scope);
        let is_cut_off = self.is_cut_off(scope);
        let goes_by_update = self.goes_by_update(scope);
        let Some(ours) = &mut self.offers.ours else { return };
        ours.waits_for_way = is_cut_off;
        if is_cut_off {
            return scope.set_timer(self.id, Timer::ReinviteRetry, scope.patience());
        }
        let (tag, sdp) = (ours.tag.clone(), ours.sdp.clone());
        if self.awaits_prack(&tag) {
            return self.offer_waits_for_prack();
        }
        let (method, purpose) = match goes_by_update {
            true => (Method::Update, Purpose::Update),
            false => (Method::Invite, Purpose::Reinvite),
        };
        let Some(dialog) = self.dialog(&tag) else { return };
        let (mut request, sequence) = dialog.request(method);
        request.headers.push("Contact", &scope.config.account.contact);
        scope.abilities().push(&mut request.headers);
        if !self.is_early() {
            self.refresh.ask(scope, &mut request.headers);
        }
        let request = request.with_body(SDP, sdp);
        let tx = self.send(scope, Departure::within(purpose, (request, sequence), route));
        self.reinvite_is_out(tx);
    }

    pub(super) fn reinvite_is_out(&mut self, tx: TxId) {
        if let Some(ours) = self.ours() {
            ours.tx = Some(tx);
            ours.provisional = false;
        }
    }

    pub(super) fn ours(&mut self) -> Option<&mut Ours> {
        self.offers.ours.as_mut()
    }

    pub(super) fn is_current_reinvite(&mut self, tx: TxId) -> bool {
        self.ours().is_some_and(|ours| ours.tx == Some(tx))
    }

    pub(super) fn retry_reinvite(&mut self, scope: &mut Scope) {
        let is_cut_off = self.is_cut_off(scope);
        match self.ours() {
            Some(ours) if ours.waits_for_way && is_cut_off => {
                let reason = format!(
                    "no WebSocket to {} came back: the registration says why",
                    self.peer
                );
                self.forget_ours(scope);
                self.abort(scope, End::local(Cause::ConnectionFailed, reason));
            }
            Some(ours) if !ours.is_out() => self.send_reinvite(scope),
            _ => {}
        }
    }

    /// The registration has other flows than before: an offer that waited for one goes out.
    pub(super) fn flows_changed(&mut self, scope: &mut Scope) {
        if !self.is_cut_off(scope) && self.ours().is_some_and(|ours| ours.waits_for_way) {
            scope.timers.cancel(self.id, Timer::ReinviteRetry);
            self.send_reinvite(scope);
        }
    }

    /// The WebSocket of our re-INVITE broke, maybe with this host's address: it goes out over the next one.
    fn takes_detour(&mut self, scope: &mut Scope, client: &Client) -> bool {
        let Some(flow) = client
            .route
            .flow
            .filter(|_| self.needs_websocket() && !self.is_ending())
        else {
            return false;
        };
        self.flow_down(flow);
        scope.flows.forget(flow);
        let Some(ours) = self
            .ours()
            .filter(|ours| !ours.cancelled && ours.detours < MAX_DETOURS)
        else {
            return false;
        };
        ours.detours += 1;
        ours.tx = None;
        scope.timers.cancel(self.id, Timer::NoAnswer);
        self.send_reinvite(scope);
        true
    }

    pub(super) fn reinvite_progresses(&mut self, scope: &mut Scope, tx: TxId) {
        if !self.is_current_reinvite(tx) {
            return;
        }
        let Some(ours) = self.ours() else { return };
        if !std::mem::replace(&mut ours.provisional, true) {
            scope.set_timer(self.id, Timer::NoAnswer, scope.config.no_answer);
        }
    }

    /// The peer's user thinks too long.
    pub(super) fn cancel_reinvite(&mut self, scope: &mut Scope) {
        let call = self.id;
        let Some(ours) = self.ours() else { return };
        let Some(tx) = ours.tx.filter(|_| ours.provisional && !ours.cancelled) else {
            return;
        };
        ours.cancelled = true;
        scope.push(Output::Cancel {
            call,
            tx,
            headers: Headers::new(),
        });
        scope.set_timer(call, Timer::CancelGiveUp, scope.patience());
    }

    pub(super) fn reinvite_accepted(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let call = self.id;
        let current = self.is_current_reinvite(tx);
        let route = self.way(scope);
        let Some(client) = self.clients.iter_mut().find(|client| client.tx == tx) else {
            return;
        };
        if let Some((_, ack)) = client.acks.first() {
            let request = ack.clone();
            return scope.push(Output::SendAck { call, request, route });
        }
        let dialog = match &mut self.phase {
            Phase::Closing(dialog) => dialog,
            Phase::Established(session) => &mut session.dialog,
            _ => return client.finished = true,
        };
        dialog.refresh_target(&response.headers);
        let request = dialog.ack(&client.request, client.sequence);
        client.acks.push((String::new(), request.clone()));
        client.finished = true;
        scope.push(Output::SendAck { call, request, route });
        let tag = response
            .headers
            .to()
            .ok()
            .and_then(|to| to.tag().map(str::to_owned));
        self.hear_abilities(scope, &tag.unwrap_or_default(), &response.headers);
        if current {
            self.forget_ours(scope);
            self.hear_timer(scope, &response.headers);
            self.tell(
                scope,
                DialogEventKind::OfferAnswered {
                    sdp: sdp_of(response),
                },
            );
        }
    }

    pub(super) fn reinvite_refused(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        if !self.is_current_reinvite(tx) {
            return;
        }
        let cancelled = self.ours().is_some_and(|ours| ours.cancelled);
        match response.status {
            401 | 407 if !cancelled && is_challenge(response) => match self.retry(scope, tx, response) {
                Ok(tx) => self.reinvite_is_out(tx),
                Err(_) => self.reinvite_failed(scope, response.status),
            },
            408 => {
                let reason = format!("{} did not answer our re-INVITE (408): it may be gone", self.peer);
                self.dialog_lost(scope, End::local(Cause::TimedOut, reason), response.status);
            }
            481 => {
                let reason = format!(
                    "{} does not know this call any more (481): it was restarted, or ended the call unheard",
                    self.peer
                );
                self.dialog_lost(scope, End::local(Cause::Rejected, reason), response.status);
            }
            422 if !cancelled && self.refresh.raise(response) => self.send_reinvite(scope),
            491 if !cancelled => self.glare(scope),
            status => self.reinvite_failed(scope, status),
        }
    }

    /// RFC 3261 section 12.2.1.2: 481 and 408 end the dialog. The BYE is for a peer that is there after all.
    pub(super) fn dialog_lost(&mut self, scope: &mut Scope, end: End, status: u16) {
        self.forget_ours(scope);
        self.abort(
            scope,
            End {
                by: Side::Remote,
                ..end
            }
            .with_status(status),
        );
    }

    /// RFC 3261 section 14.1: the owner of the Call-ID waits 2.1 to 4 s, the other side up to 2 s, in units of 10 ms.
    pub(super) fn glare(&mut self, scope: &mut Scope) {
        let steps = match self.begun_by {
            None => scope.pick(210..=400),
            Some(_) => scope.pick(0..=200),
        };
        self.offer_again_after(scope, Duration::from_millis(steps * 10), 491);
    }

    /// The offer goes out once more, or comes to nothing with `status`.
    pub(super) fn offer_again_after(&mut self, scope: &mut Scope, pause: Duration, status: u16) {
        let Some(ours) = self.ours() else { return };
        ours.glares += 1;
        if ours.glares > MAX_GLARE {
            return self.reinvite_failed(scope, status);
        }
        ours.tx = None;
        self.stop_waiting_for_final(scope);
        scope.set_timer(self.id, Timer::ReinviteRetry, pause);
    }

    /// Before the call is answered that timer is the INVITE's.
    fn stop_waiting_for_final(&self, scope: &mut Scope) {
        if !self.is_early() {
            scope.timers.cancel(self.id, Timer::NoAnswer);
        }
    }

    /// Our offer came to nothing; the call goes on. Does nothing without an offer of ours.
    pub(super) fn reinvite_failed(&mut self, scope: &mut Scope, status: u16) {
        if self.ours().is_some() {
            self.forget_ours(scope);
            self.tell(scope, DialogEventKind::OfferRejected { status });
        }
    }

    pub(super) fn forget_ours(&mut self, scope: &mut Scope) {
        self.offers.ours = None;
        scope.timers.cancel(self.id, Timer::ReinviteRetry);
        self.stop_waiting_for_final(scope);
        if !self.is_early() {
            scope.timers.cancel(self.id, Timer::CancelGiveUp);
        }
    }

    pub(super) fn reinvite_lost(&mut self, scope: &mut Scope, client: &Client, end: TxEnd) {
        if !self.is_current_reinvite(client.tx) {
            return;
        }
        if matches!(end, TxEnd::Transport(_)) && self.takes_detour(scope, client) {
            return;
        }
        if self.is_early() {
            // Whether the call comes about is for the INVITE to say.
            return self.reinvite_failed(scope, status_of(&end));
        }
        let end = match end {
            TxEnd::TimedOut => End::local(
                Cause::TimedOut,
                format!(
                    "{} did not answer our re-INVITE: it, or the way to it, is gone",
                    self.peer
                ),
            ),
            TxEnd::Transport(told) => End::local(
                Cause::ConnectionFailed,
                format!("no connection to {} for our re-INVITE: {told}", self.peer),
            ),
            // The answer was lost inside this process; the session is what it was.
            TxEnd::Done => return self.reinvite_failed(scope, 500),
        };
        self.forget_ours(scope);
        self.abort(scope, end);
    }
}

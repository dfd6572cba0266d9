//! One call: its phase, its client transactions and its end.

use super::auth::Authenticator;
pub(super) use super::client::{Client, Departure, Purpose, is_challenge};
use super::dialog::Dialog;
use super::end::End;
use super::errand::Errands;
use super::info::Infos;
use super::offers::Offers;
use super::prack::Pracks;
use super::refresh::Refresh;
use super::session::Session;
use super::timers::Timer;
use super::transfer::Transfers;
use super::uac::Calling;
use super::uas::Inviting;
use super::words::{check_headers, is_one_line, misuse, push_all, push_missing};
use super::{Output, Scope};
use crate::event::{DialogEvent, DialogEventKind, Side};
use crate::message::Occasion;
use siprtc_core::sip::{CSeq, Flow, FlowId, Headers, Route, SipResponse, Transport, TxEnd, TxId};
use siprtc_core::{CallId, Cause, Result};

/// Most client transactions of one call that are remembered; the oldest finished one goes first.
const MAX_CLIENTS: usize = 64;
/// Most dialogs of one INVITE (forks) that are told apart. Beyond it an early dialog is not reported, and a 2xx is
/// neither acknowledged nor hung up: its callee gives up after 64*T1.
pub(super) const MAX_FORKS: usize = 32;

pub(crate) struct Call {
    pub(super) id: CallId,
    pub(super) sip_call_id: String,
    pub(super) local_tag: String,
    /// The tag of the peer that began it; empty when we did.
    pub(super) caller_tag: String,
    pub(super) phase: Phase,
    pub(super) clients: Vec<Client>,
    pub(super) auth: Authenticator,
    /// Whom the sentences speak of.
    pub(super) peer: String,
    /// The CSeq of the INVITE that began it, when the peer calls.
    pub(super) begun_by: Option<u32>,
    /// What Ended will say once the peer has confirmed that we hang up.
    ending: Option<End>,
    /// The value of a Reason header field for our CANCEL or BYE.
    pub(super) hangup_reason: Option<String>,
    /// The application's own, for our answers and for our BYE.
    pub(super) attached: [Headers; 3],
    pub(super) errands: Errands,
    pub(super) infos: Infos,
    pub(super) offers: Offers,
    pub(super) pracks: Pracks,
    pub(super) refresh: Refresh,
    pub(super) transfers: Transfers,
    /// The WebSocket that the call runs over, while it is up.
    websocket: Option<FlowId>,
    /// It runs over WebSockets: there is no way to the peer without one.
    needs_websocket: bool,
    /// Ended has been told.
    ended: bool,
}

/// Where a call stands.
pub(super) enum Phase {
    /// Caller: no final answer yet.
    Calling(Calling),
    /// A BYE is out.
    Closing(Box<Dialog>),
    /// A 2xx was sent or received.
    Established(Box<Session>),
    /// Callee: no final answer yet.
    Inviting(Box<Inviting>),
    /// No dialog any more.
    Over,
}

impl Call {
    pub(super) fn new(
        scope: &Scope,
        id: CallId,
        (sip_call_id, local_tag): (String, String),
        peer: String,
        phase: Phase,
    ) -> Self {
        Call {
            id,
            sip_call_id,
            local_tag,
            caller_tag: String::new(),
            phase,
            clients: Vec::new(),
            auth: Authenticator::new(
                scope.config.account.secret.as_ref(),
                scope.config.account.weakest_digest,
            ),
            peer,
            begun_by: None,
            ending: None,
            hangup_reason: None,
            attached: [Headers::new(), Headers::new(), Headers::new()],
            errands: Errands::default(),
            infos: Infos::default(),
            offers: Offers::default(),
            pracks: Pracks::default(),
            refresh: Refresh::default(),
            transfers: Transfers::default(),
            websocket: None,
            needs_websocket: false,
            ended: false,
        }
    }

    /// A message of the call came over `flow`.
    pub(super) fn heard_over(&mut self, flow: &Flow) {
        if matches!(flow.transport, Transport::Ws | Transport::Wss) {
            self.websocket = Some(flow.id);
            self.needs_websocket = true;
        }
    }

    pub(super) fn needs_websocket(&self) -> bool {
        self.needs_websocket
    }

    pub(super) fn flow_down(&mut self, id: FlowId) {
        self.websocket = self.websocket.filter(|websocket| *websocket != id);
    }

    /// Within a dialog the route set decides (RFC 3261 section 12.2.1.1). A WebSocket is kept: nobody can open one to
    /// a browser, and `transport=ws` in a route set does not say whether the one that is there is secure (RFC 7118
    /// section 5.2.4). When it is gone, the one that the registration opens takes its place.
    pub(super) fn way(&self, scope: &Scope) -> Route {
        let next = || scope.flows.websocket().filter(|_| self.needs_websocket);
        self.websocket
            .or_else(next)
            .map_or_else(Route::by_request, Route::over)
    }

    /// Its WebSocket is gone, and the registration has not opened another one yet.
    pub(super) fn is_cut_off(&self, scope: &Scope) -> bool {
        let flows = &scope.flows;
        self.needs_websocket && self.websocket.is_none() && flows.are_used() && flows.websocket().is_none()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Ended, and nothing more is owed to anybody.
    pub(super) fn is_over(&self) -> bool {
        let waits_for_ack = matches!(&self.phase, Phase::Established(session) if session.unacked.is_some());
        self.ended
            && !waits_for_ack
            && !self.transfers.are_under_way()
            && self.clients.iter().all(Client::is_settled)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ended || self.ending.is_some()
    }

    pub(super) fn hangup(&mut self, scope: &mut Scope, reason: Option<String>) -> Result<()> {
        if reason.as_deref().is_some_and(|reason| !is_one_line(reason)) {
            return Err(misuse(
                "hang up",
                "the reason has a line break or another control character",
            )
            .advice("give the value of a Reason header field: SIP;cause=488;text=\"...\""));
        }
        match &self.phase {
            Phase::Calling(_) => self.hang_up(scope, End::wanted(Cause::Cancelled), reason),
            Phase::Inviting(_) => self.refuse(scope, 603, End::wanted(Cause::Declined), reason),
            Phase::Closing(_) | Phase::Established(_) | Phase::Over => {
                self.hang_up(scope, End::wanted(Cause::Bye), reason);
            }
        }
        Ok(())
    }

    /// The program ends. A call that rings here is not declined, it finds nobody (480): other forks may ring on.
    pub(super) fn terminate(&mut self, scope: &mut Scope) {
        match &self.phase {
            Phase::Inviting(_) => self.refuse(scope, 480, End::wanted(Cause::Unavailable), None),
            Phase::Calling(_) => self.hang_up(scope, End::wanted(Cause::Cancelled), None),
            _ => self.hang_up(scope, End::wanted(Cause::Bye), None),
        }
    }

    /// Ends the call in the peer's agreement: Ended is told when it has answered, or when our patience is over.
    pub(super) fn hang_up(&mut self, scope: &mut Scope, end: End, reason: Option<String>) {
        if self.is_ending() {
            return;
        }
        self.ending = Some(end);
        self.hangup_reason = reason;
        self.cancel_waits(scope);
        scope.set_timer(self.id, Timer::HangupPatience, scope.config.timers.t1 * 4);
        match &self.phase {
            Phase::Calling(_) => self.try_cancel(scope),
            // RFC 3261 section 15: the callee waits for the ACK, or for its loss, before it says BYE.
            Phase::Established(session) if session.unacked.is_none() => self.send_bye(scope),
            _ => {}
        }
    }

    /// Ends the call at once; the peer gets a BYE if there is a dialog, and nobody waits for its answer.
    pub(super) fn abort(&mut self, scope: &mut Scope, end: End) {
        self.end(scope, end);
        if let Phase::Inviting(_) = self.phase {
            self.phase = Phase::Over;
        }
        self.send_bye(scope);
    }

    /// Tells Ended, once. A wish of our own outranks `end`.
    pub(super) fn end(&mut self, scope: &mut Scope, end: End) {
        if self.ended {
            return;
        }
        let mut told = self.ending.take().unwrap_or_else(|| end.clone());
        told.status = told.status.or(end.status);
        self.ended = true;
        self.forget_errands(scope);
        self.answer_theirs(scope, 487);
        scope.ended.insert(self.id);
        self.cancel_waits(scope);
        self.referrals_outlive(scope);
        // Whatever is still owed (an ACK, a BYE to a late 2xx) takes no longer than two transactions; news of a transfer may.
        let owed = scope.patience() * 3;
        let linger = match self.transfers.are_under_way() {
            true => owed.max(scope.config.no_answer.saturating_add(scope.patience())),
            false => owed,
        };
        scope.set_timer(self.id, Timer::Linger, linger);
        let End {
            cause,
            by,
            status,
            reason,
            contacts,
            retry_after,
        } = told;
        let kind = DialogEventKind::Ended {
            cause,
            by,
            status,
            reason,
            contacts,
            retry_after,
        };
        scope.push(Output::Event(DialogEvent { call: self.id, kind }));
    }

    pub(super) fn attach(&mut self, to: Occasion, headers: Headers) -> Result<()> {
        check_headers("attach", &headers)?;
        let [answers, bye, requests] = &mut self.attached;
        match to {
            Occasion::Answers => *answers = headers,
            Occasion::Bye => *bye = headers,
            Occasion::Requests => *requests = headers,
        }
        Ok(())
    }

    pub(super) fn attached(&self, to: Occasion) -> &Headers {
        let [answers, bye, requests] = &self.attached;
        match to {
            Occasion::Answers => answers,
            Occasion::Bye => bye,
            Occasion::Requests => requests,
        }
    }

    fn cancel_waits(&self, scope: &mut Scope) {
        use Timer::{
            HangupPatience, NoAnswer, OfferPatience, ProgressRefresh, ReferralAnswer, ReferralNews,
            ReinviteRetry, ReliableProgress, SessionExpiry, SessionRefresh,
        };
        for timer in [
            HangupPatience,
            NoAnswer,
            OfferPatience,
            ProgressRefresh,
            ReferralAnswer,
            ReferralNews,
            ReinviteRetry,
            ReliableProgress,
            SessionExpiry,
            SessionRefresh,
        ] {
            scope.timers.cancel(self.id, timer);
        }
    }

    /// Tells what happens, unless the user has already hung up.
    pub(super) fn tell(&self, scope: &mut Scope, kind: DialogEventKind) {
        if !self.is_ending() {
            scope.push(Output::Event(DialogEvent { call: self.id, kind }));
        }
    }

    pub(super) fn send(&mut self, scope: &mut Scope, departure: Departure) -> TxId {
        let Departure {
            purpose,
            mut request,
            sequence,
            attempts,
            route,
        } = departure;
        if !matches!(purpose, Purpose::Bye | Purpose::ForkBye | Purpose::Invite) {
            push_missing(&mut request.headers, self.attached(Occasion::Requests));
        }
        let tx = scope.tx_ids.mint();
        scope.owners.insert(tx, self.id);
        let client = Client {
            tx,
            purpose,
            request: request.clone(),
            sequence,
            attempts,
            acks: Vec::new(),
            finished: false,
            route: route.clone(),
        };
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = self
                .clients
                .iter()
                .position(|client| client.finished)
                .unwrap_or(0);
            let oldest = self.clients.remove(oldest);
            scope.owners.remove(oldest.tx);
        }
        self.clients.push(client);
        scope.push(Output::SendRequest {
            call: self.id,
            tx,
            request,
            route,
        });
        tx
    }

    pub(super) fn client(&mut self, tx: TxId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.tx == tx)
    }

    pub(super) fn send_bye(&mut self, scope: &mut Scope) {
        let mut session = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Established(session) => session,
            other => return self.phase = other,
        };
        scope.timers.cancel(self.id, Timer::AckWait);
        scope.timers.cancel(self.id, Timer::Retransmit);
        self.answer_theirs(scope, 487);
        self.bye(scope, &mut session.dialog, Purpose::Bye);
        self.phase = Phase::Closing(Box::new(session.dialog));
    }

    pub(super) fn bye(&mut self, scope: &mut Scope, dialog: &mut Dialog, purpose: Purpose) {
        let (mut bye, sequence) = dialog.request(siprtc_core::sip::Method::Bye);
        if purpose == Purpose::Bye {
            push_all(&mut bye.headers, self.attached(Occasion::Bye));
        }
        if let (Purpose::Bye, Some(reason)) = (purpose, &self.hangup_reason) {
            bye.headers.push("Reason", reason);
        }
        self.send(
            scope,
            Departure::within(purpose, (bye, sequence), self.way(scope)),
        );
    }

    pub(super) fn answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let Some(client) = self.client(tx) else { return };
        let purpose = client.purpose;
        // A 2xx comes again until its ACK arrives, and from every fork.
        match purpose {
            Purpose::Invite if response.is_success() => return self.invite_accepted(scope, tx, response),
            Purpose::Reinvite if response.is_success() => return self.reinvite_accepted(scope, tx, response),
            _ if client.finished => return,
            _ => client.finished = response.is_final(),
        }
        match (purpose, response.is_provisional()) {
            (Purpose::Invite, true) => self.invite_progresses(scope, tx, response),
            (Purpose::Invite, false) => self.invite_refused(scope, tx, response),
            (Purpose::Reinvite, true) => self.reinvite_progresses(scope, tx),
            (Purpose::Reinvite, false) => self.reinvite_refused(scope, tx, response),
            (Purpose::Info, false) => self.info_answered(scope, tx, response),
            (Purpose::Refresh, false) => self.update_answered(scope, tx, response),
            (Purpose::Errand, false) => self.errand_answered(scope, tx, response),
            (Purpose::Notify, false) => self.notify_answered(scope, tx, response),
            (Purpose::Prack, false) => self.prack_answered(scope, tx, response),
            (Purpose::Refer, false) => self.refer_answered(scope, tx, response),
            (Purpose::Update, false) => self.offer_answered(scope, tx, response),
            (_, true) => {}
            (Purpose::Bye | Purpose::ForkBye, false) => self.bye_answered(scope, tx, purpose, response),
        }
    }

    /// Whatever the answer, the dialog is over (RFC 3261 section 15.1.1); only a challenge is worth another try.
    fn bye_answered(&mut self, scope: &mut Scope, tx: TxId, purpose: Purpose, response: &SipResponse) {
        if is_challenge(response) && self.retry(scope, tx, response).is_ok() {
            return;
        }
        if purpose == Purpose::Bye {
            self.end(scope, End::wanted(Cause::Bye));
        }
    }

    /// The same request again, with credentials and the next CSeq (RFC 3261 section 22.2).
    pub(super) fn retry(
        &mut self,
        scope: &mut Scope,
        tx: TxId,
        response: &SipResponse,
    ) -> Result<TxId, String> {
        let Some(client) = self.client(tx) else {
            return Err("the transaction is gone".to_owned());
        };
        let (purpose, last, route) = (client.purpose, client.sequence, client.route.clone());
        let mut request = client.request.clone();
        let mut attempts = std::mem::take(&mut client.attempts);
        self.auth.answer(&mut attempts, response, &mut request, scope)?;
        let tag = request
            .headers
            .to()
            .ok()
            .and_then(|to| to.tag().map(str::to_owned));
        let within = matches!(
            purpose,
            Purpose::Bye
                | Purpose::Errand
                | Purpose::Info
                | Purpose::Notify
                | Purpose::Prack
                | Purpose::Refer
                | Purpose::Refresh
                | Purpose::Reinvite
                | Purpose::Update
        );
        let sequence = match self.dialog(&tag.unwrap_or_default()).filter(|_| within) {
            Some(dialog) => dialog.next_sequence(),
            None => last + 1,
        };
        request.headers.set(
            "CSeq",
            CSeq {
                sequence,
                method: request.method.clone(),
            },
        );
        Ok(self.send(
            scope,
            Departure {
                purpose,
                request,
                sequence,
                attempts,
                route,
            },
        ))
    }

    pub(super) fn transaction_ended(&mut self, scope: &mut Scope, tx: TxId, end: TxEnd) {
        match self.clients.iter().position(|client| client.tx == tx) {
            Some(index) => {
                let client = self.clients.remove(index);
                if !client.finished {
                    self.client_lost(scope, &client, end);
                }
            }
            None => self.server_lost(scope, tx, end),
        }
    }

    /// A client transaction ended without a final answer.
    fn client_lost(&mut self, scope: &mut Scope, client: &Client, end: TxEnd) {
        match client.purpose {
            Purpose::Info => self.info_lost(scope, client, &end),
            Purpose::Errand => self.errand_lost(scope, client.tx, &end),
            Purpose::Notify => self.notify_lost(client.tx),
            Purpose::Refer => self.refer_lost(scope, client.tx, &end),
            Purpose::Refresh => self.update_lost(scope, client, &end),
            Purpose::Invite => self.invite_lost(scope, client, end),
            Purpose::Reinvite | Purpose::Update => self.reinvite_lost(scope, client, end),
            Purpose::Bye => self.end(scope, End::wanted(Cause::Bye)),
            Purpose::Prack => self.prack_is_over(scope, &client.request),
            Purpose::ForkBye => {}
        }
    }

    /// An ACK could not be sent: without it the peer will hang up anyway.
    pub(super) fn connection_lost(&mut self, scope: &mut Scope, told: &str) {
        let reason = format!("{} cannot be reached: {told}", self.peer);
        self.abort(scope, End::local(Cause::ConnectionFailed, reason));
    }

    pub(super) fn timeout(&mut self, scope: &mut Scope, timer: Timer) {
        match timer {
            Timer::AckWait => self.ack_missing(scope),
            Timer::CancelGiveUp => self.cancel_unanswered(scope),
            Timer::HangupPatience => self.end(scope, End::wanted(Cause::Bye)),
            Timer::NoAnswer => self.rang_too_long(scope),
            Timer::OfferPatience => self.offer_unanswered(scope),
            Timer::ProgressRefresh => self.refresh_progress(scope),
            Timer::ReferralAnswer => self.referral_unanswered(scope),
            Timer::ReferralNews => self.referral_unheard(scope),
            Timer::ReinviteRetry => self.retry_reinvite(scope),
            Timer::ReliableProgress => self.repeat_progress(scope),
            Timer::Retransmit => self.retransmit(scope),
            Timer::SessionExpiry => self.session_expired(scope),
            Timer::SessionRefresh => self.refresh_session(scope),
            // The machine's own: it forgets the call, and keeps subscriptions.
            Timer::Linger | Timer::SubscriptionEnd | Timer::SubscriptionRefresh => {}
        }
    }

    fn rang_too_long(&mut self, scope: &mut Scope) {
        let seconds = scope.config.no_answer.as_secs();
        match &self.phase {
            Phase::Calling(_) => {
                let reason = format!(
                    "{} did not answer within {seconds} s, the longest time configured",
                    self.peer
                );
                self.hang_up(scope, End::local(Cause::NoAnswer, reason), None);
            }
            Phase::Inviting(inviting) => {
                let status = if inviting.expires { 487 } else { 480 };
                let reason = format!("nobody answered the call from {} in time", self.peer);
                self.refuse(scope, status, End::local(Cause::NoAnswer, reason), None);
            }
            Phase::Established(_) => self.cancel_reinvite(scope),
            Phase::Closing(_) | Phase::Over => {}
        }
    }

    fn cancel_unanswered(&mut self, scope: &mut Scope) {
        match &self.phase {
            // The INVITE's transaction stays known: a 2xx that comes now gets its ACK and a BYE.
            Phase::Calling(_) => self.end(scope, End::wanted(Cause::Cancelled)),
            _ => self.reinvite_failed(scope, 408),
        }
    }

    /// The peer hung up.
    pub(super) fn ended_by_peer(&mut self, scope: &mut Scope, end: End) {
        debug_assert_eq!(end.by, Side::Remote);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Established(session) if self.transfers.are_under_way() => {
                Phase::Closing(Box::new(session.dialog))
            }
            Phase::Closing(dialog) if self.transfers.are_under_way() => Phase::Closing(dialog),
            _ => Phase::Over,
        };
        for timer in [Timer::AckWait, Timer::CancelGiveUp, Timer::Retransmit] {
            scope.timers.cancel(self.id, timer);
        }
        self.end(scope, end);
    }
}

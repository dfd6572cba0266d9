//! The caller's INVITE: from Calling to its final answer (RFC 3261 sections 9.1 and 13.2).

use super::auth::Attempts;
use super::call::{Call, Client, Departure, MAX_FORKS, Phase, Purpose, is_challenge};
use super::dialog::Dialog;
use super::end::{Circumstances, End, contacts};
use super::prack;
use super::refresh::Refresh;
use super::session::Session;
use super::timers::Timer;
use super::words::{SDP, check_headers, push_all, sdp_of};
use super::{Output, Scope};
use crate::event::{DialogEventKind, DialogTag};
use crate::message::{Invite, MeasureInvite};
use siprtc_core::sip::{
    CSeq, Headers, Host, Method, NameAddr, SipRequest, SipResponse, SipUri, TxEnd, TxId, Uri,
};
use siprtc_core::{CallId, Cause, Result};
use std::collections::VecDeque;

/// Most places that a call follows to. **Policy beyond**: it ends with the last answer.
const MAX_REDIRECTS: usize = 5;

/// An INVITE without a final answer.
pub(super) struct Calling {
    tx: TxId,
    /// A CANCEL may go only after a provisional answer (RFC 3261 section 9.1).
    provisional: bool,
    trying_told: bool,
    cancelled: bool,
    rang: bool,
    early: Vec<Dialog>,
    /// Forks that have answered and hung up, by their tags: what they said before may still be on its way.
    hung_up: Vec<String>,
    next_hop: String,
    /// Where it was sent elsewhere to (RFC 3261 section 8.1.3.4), and where it may still go.
    tried: Vec<Uri>,
    left: VecDeque<Uri>,
}

impl Calling {
    pub(super) fn dialog(&mut self, remote_tag: &str) -> Option<&mut Dialog> {
        self.early
            .iter_mut()
            .find(|dialog| dialog.remote_tag() == remote_tag)
    }

    /// The peer's tag in the first early dialog that stands.
    pub(super) fn first_tag(&self) -> Option<&str> {
        self.early.first().map(Dialog::remote_tag)
    }

    /// Somebody has the INVITE.
    pub(super) fn is_proceeding(&self) -> bool {
        self.provisional
    }

    pub(super) fn knows(&self, remote_tag: &str) -> bool {
        self.early.iter().any(|dialog| dialog.remote_tag() == remote_tag)
    }

    /// **Policy when full**: it is taken for one that has not.
    fn hang_up(&mut self, remote_tag: &str) {
        self.early.retain(|dialog| dialog.remote_tag() != remote_tag);
        if self.hung_up.len() < MAX_FORKS {
            self.hung_up.push(remote_tag.to_owned());
        }
    }
}

impl Call {
    pub(super) fn start(scope: &mut Scope, message: Invite) -> Result<Self> {
        check_headers("invite", &message.headers)?;
        let sip_call_id = scope.token() + &scope.token();
        let local_tag = scope.token();
        let request = initial_invite(scope, &message, &sip_call_id, &local_tag);
        let (route, next_hop) = scope.way_out(&request)?;
        let ids = (sip_call_id.clone(), local_tag);
        let mut call = Call::new(scope, message.call, ids, message.target.to_string(), Phase::Over);
        let attempts = Attempts::default();
        let departure = Departure {
            purpose: Purpose::Invite,
            request,
            sequence: 1,
            attempts,
            route,
        };
        let tx = call.send(scope, departure);
        call.phase = Phase::Calling(Calling {
            tx,
            provisional: false,
            trying_told: false,
            cancelled: false,
            rang: false,
            early: Vec::new(),
            hung_up: Vec::new(),
            next_hop,
            tried: vec![message.target],
            left: VecDeque::new(),
        });
        call.tell(scope, DialogEventKind::Started { sip_call_id });
        Ok(call)
    }

    /// A BYE before anybody has answered, as far as we know: its 2xx is late, or lost. The INVITE still has its final answer to come.
    pub(super) fn fork_hangs_up(&mut self, scope: &mut Scope, tag: &str) {
        if let Phase::Calling(calling) = &mut self.phase {
            calling.hang_up(tag);
            self.early_dialog_is_gone(scope, tag);
        }
    }

    /// Sends the CANCEL that is wished for, as soon as it may go.
    pub(super) fn try_cancel(&mut self, scope: &mut Scope) {
        let Phase::Calling(calling) = &mut self.phase else {
            return;
        };
        if !calling.provisional || calling.cancelled {
            return;
        }
        calling.cancelled = true;
        let mut headers = Headers::new();
        if let Some(reason) = &self.hangup_reason {
            headers.push("Reason", reason);
        }
        scope.push(Output::Cancel {
            call: self.id,
            tx: calling.tx,
            headers,
        });
        scope.set_timer(self.id, Timer::CancelGiveUp, scope.patience());
    }

    pub(super) fn invite_progresses(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let ending = self.is_ending();
        let Phase::Calling(calling) = &mut self.phase else {
            return;
        };
        if calling.tx != tx {
            return;
        }
        if !calling.provisional {
            calling.provisional = true;
            if !ending {
                scope.set_timer(self.id, Timer::NoAnswer, scope.config.no_answer);
            }
        }
        if ending {
            return self.try_cancel(scope);
        }
        if response.status == 100 {
            if !std::mem::replace(&mut calling.trying_told, true) {
                self.tell(scope, DialogEventKind::Trying);
            }
            return;
        }
        calling.rang = true;
        let Some(dialog) = self.early_dialog(tx, response) else {
            return;
        };
        if !self.acknowledge_progress(scope, &dialog.0, response) {
            return;
        }
        self.hear_abilities(scope, &dialog.0, &response.headers);
        let sdp = sdp_of(response);
        if sdp.is_some() && prack::is_reliable(scope, response) {
            self.has_agreed(&dialog.0);
        }
        let kind = DialogEventKind::Ringing {
            takes_offers: self.takes_early_offers(&dialog.0),
            dialog,
            status: response.status,
            sdp,
        };
        self.tell(scope, kind);
    }

    /// Notes the early dialog of a 1xx, by To-tag. `None` when there are too many or it cannot be read.
    fn early_dialog(&mut self, tx: TxId, response: &SipResponse) -> Option<DialogTag> {
        let tag = response.headers.to_tag().ok()?;
        let client = self.client(tx)?;
        let fresh = Dialog::of_caller(&client.request, client.sequence, response).ok()?;
        let Phase::Calling(calling) = &mut self.phase else {
            return None;
        };
        if calling.dialog(&tag).is_none() {
            if calling.early.len() >= MAX_FORKS || calling.hung_up.contains(&tag) {
                return None;
            }
            calling.early.push(fresh);
        }
        Some(DialogTag(tag))
    }

    /// A 2xx: every one is acknowledged, the first makes the call, the others are hung up (RFC 3261 section 13.2.2.4).
    pub(super) fn invite_accepted(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let tag = response
            .headers
            .to()
            .ok()
            .and_then(|to| to.tag().map(str::to_owned))
            .unwrap_or_default();
        let call = self.id;
        let route = self.way(scope);
        let Some(client) = self.client(tx) else { return };
        if let Some((_, ack)) = client.acks.iter().find(|(known, _)| *known == tag) {
            let request = ack.clone();
            return scope.push(Output::SendAck { call, request, route });
        }
        if client.acks.len() >= MAX_FORKS {
            return;
        }
        let mut dialog = match Dialog::of_caller(&client.request, client.sequence, response) {
            Ok(dialog) => dialog,
            Err(error) => return self.unreadable_answer(scope, tx, &error),
        };
        let request = dialog.ack(&client.request, client.sequence);
        client.acks.push((tag.clone(), request.clone()));
        client.finished = true;
        scope.push(Output::SendAck { call, request, route });
        let (first, is_over) = match &self.phase {
            Phase::Calling(calling) if calling.tx == tx => (true, calling.hung_up.contains(&tag)),
            _ => (false, false),
        };
        if is_over {
            return self.ended_by_peer(scope, End::by_peer(Cause::Bye, None));
        }
        // The CSeq goes on where the early dialog stood, after its INFOs.
        dialog.continue_after(
            self.infos
                .last_sequence(&tag)
                .max(self.pracks.last_sequence(&tag)),
        );
        if !first {
            return self.bye(scope, &mut dialog, Purpose::ForkBye);
        }
        self.establish(scope, dialog, response);
    }

    fn establish(&mut self, scope: &mut Scope, mut dialog: Dialog, response: &SipResponse) {
        if let Phase::Calling(calling) = &mut self.phase
            && let Some(early) = calling.dialog(dialog.remote_tag())
        {
            dialog.continue_from(early);
        }
        scope.timers.cancel(self.id, Timer::NoAnswer);
        scope.timers.cancel(self.id, Timer::CancelGiveUp);
        let tag = DialogTag(dialog.remote_tag().to_owned());
        self.leave_other_forks(scope, &tag.0);
        self.phase = Phase::Established(Box::new(Session::new(dialog)));
        if self.is_ending() {
            // The 200 and our CANCEL crossed: the call exists, and nobody wants it any more.
            return self.send_bye(scope);
        }
        self.hear_abilities(scope, &tag.0, &response.headers);
        self.hear_timer(scope, &response.headers);
        self.tell(
            scope,
            DialogEventKind::Answered {
                dialog: tag,
                sdp: sdp_of(response),
            },
        );
    }

    fn unreadable_answer(&mut self, scope: &mut Scope, tx: TxId, error: &siprtc_core::Error) {
        if !matches!(&self.phase, Phase::Calling(calling) if calling.tx == tx) {
            return;
        }
        if let Some(client) = self.client(tx) {
            client.finished = true;
        }
        self.phase = Phase::Over;
        let reason = format!("the 200 of {} makes no dialog: {error}", self.peer);
        self.end(scope, End::local(Cause::ProtocolError, reason).with_status(200));
    }

    pub(super) fn invite_refused(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let Phase::Calling(calling) = &self.phase else {
            return;
        };
        if calling.tx != tx {
            return;
        }
        let rang = calling.rang;
        let authenticated = self.client(tx).is_some_and(|client| !client.attempts.is_empty());
        let circumstances = Circumstances {
            target: &self.peer,
            authenticated,
            rang,
        };
        let mut end = End::refused(response, circumstances);
        if is_challenge(response) && !self.is_ending() {
            match self.retry(scope, tx, response) {
                Ok(tx) => return self.sent_again(scope, tx),
                Err(reason) => end.reason = Some(reason),
            }
        }
        if !self.is_ending() && self.refresh.raise(response) {
            return self.invite_for_longer(scope, tx);
        }
        if scope.config.control.follow_redirects
            && !self.is_ending()
            && self.goes_elsewhere(scope, tx, response)
        {
            return;
        }
        scope.timers.cancel(self.id, Timer::CancelGiveUp);
        self.phase = Phase::Over;
        self.end(scope, end);
    }

    /// The same INVITE to where it was sent, or to the next such place after a refusal. Whatever answers 6xx answers for all.
    fn goes_elsewhere(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) -> bool {
        let Phase::Calling(calling) = &mut self.phase else {
            return false;
        };
        if response.status >= 600 {
            return false;
        }
        let is_secure = |uri: &Uri| uri.as_sip().is_some_and(|uri| uri.secure);
        // RFC 3261 section 8.1.3.4: a `sips:` call does not become a `sip:` one.
        let secure = calling.tried.first().is_some_and(is_secure);
        for contact in contacts(response) {
            let is_new = !calling.tried.contains(&contact) && !calling.left.contains(&contact);
            if contact.as_sip().is_some() && is_new && (is_secure(&contact) || !secure) {
                calling.left.push_back(contact);
            }
        }
        if calling.tried.len() > MAX_REDIRECTS {
            return false;
        }
        let Some(target) = calling.left.pop_front() else {
            return false;
        };
        calling.tried.push(target.clone());
        let Some(client) = self.client(tx) else {
            return false;
        };
        let (mut request, sequence) = (client.request.clone(), client.sequence + 1);
        request.uri = match target {
            Uri::Sip(uri) => Uri::Sip(SipUri { headers: None, ..uri }),
            other => other,
        };
        // Credentials were for another Request-URI.
        request.headers.remove("Authorization");
        request.headers.remove("Proxy-Authorization");
        let method = Method::Invite;
        request.headers.set("CSeq", CSeq { sequence, method });
        let Ok((route, next_hop)) = scope.way_out(&request) else {
            return false;
        };
        let departure = Departure {
            purpose: Purpose::Invite,
            request,
            sequence,
            attempts: Attempts::default(),
            route,
        };
        let tx = self.send(scope, departure);
        self.sent_again(scope, tx);
        if let Phase::Calling(calling) = &mut self.phase {
            calling.next_hop = next_hop;
        }
        true
    }

    /// The same INVITE for a session that the peer does not find too short (RFC 4028 section 7.3).
    fn invite_for_longer(&mut self, scope: &mut Scope, tx: TxId) {
        let Some(client) = self.client(tx) else { return };
        let (mut request, sequence) = (client.request.clone(), client.sequence + 1);
        let (attempts, route) = (client.attempts.clone(), client.route.clone());
        let method = Method::Invite;
        request.headers.set("CSeq", CSeq { sequence, method });
        request.headers.remove("Session-Expires");
        request.headers.remove("Min-SE");
        self.refresh.ask(scope, &mut request.headers);
        let departure = Departure {
            purpose: Purpose::Invite,
            request,
            sequence,
            attempts,
            route,
        };
        let tx = self.send(scope, departure);
        self.sent_again(scope, tx);
    }

    /// The INVITE is out again: a new transaction, and the early dialogs of the last one are gone.
    fn sent_again(&mut self, scope: &mut Scope, tx: TxId) {
        let Phase::Calling(calling) = &mut self.phase else {
            return;
        };
        calling.tx = tx;
        calling.provisional = false;
        calling.early.clear();
        calling.hung_up.clear();
        self.infos.begin_anew();
        self.leave_all_forks(scope);
        scope.timers.cancel(self.id, Timer::NoAnswer);
    }

    /// The flow of an INVITE broke before anybody has answered: it goes out over the next one (RFC 5626 section 4.3).
    fn take_next_flow(&mut self, scope: &mut Scope, client: &Client) -> bool {
        let Some(flow) = client.route.flow.filter(|_| !self.is_ending()) else {
            return false;
        };
        scope.flows.forget(flow);
        let Ok((route, _)) = scope.way_out(&client.request) else {
            return false;
        };
        let sequence = client.sequence + 1;
        let mut request = client.request.clone();
        let method = Method::Invite;
        request.headers.set("CSeq", CSeq { sequence, method });
        let departure = Departure {
            purpose: Purpose::Invite,
            request,
            sequence,
            attempts: client.attempts.clone(),
            route,
        };
        let tx = self.send(scope, departure);
        self.sent_again(scope, tx);
        true
    }

    pub(super) fn invite_lost(&mut self, scope: &mut Scope, client: &Client, end: TxEnd) {
        let Phase::Calling(calling) = &self.phase else {
            return;
        };
        if calling.tx != client.tx {
            return;
        }
        if matches!(end, TxEnd::Transport(_)) && !calling.provisional && self.take_next_flow(scope, client) {
            return;
        }
        let Phase::Calling(calling) = &self.phase else {
            return;
        };
        let hop = calling.next_hop.clone();
        let seconds = scope.patience().as_secs();
        let end = match end {
            TxEnd::TimedOut if calling.provisional => End::local(
                Cause::TimedOut,
                format!(
                    "{} never gave a final answer: try again, or see the server's log",
                    self.peer
                ),
            ),
            TxEnd::TimedOut => End::local(
                Cause::TimedOut,
                format!(
                    "no answer from {hop} within {seconds} s: is the server up, and is the address right?"
                ),
            ),
            TxEnd::Transport(told) => End::local(
                Cause::ConnectionFailed,
                format!(
                    "no connection to {hop}: {told}; check the address, the port, the transport and the firewall"
                ),
            ),
            TxEnd::Done => End::local(
                Cause::Internal,
                "the final answer was lost inside this process, which is overloaded: try again".to_owned(),
            ),
        };
        scope.timers.cancel(self.id, Timer::CancelGiveUp);
        self.phase = Phase::Over;
        self.end(scope, end);
    }
}

/// What a stack adds: Via, Max-Forwards, User-Agent, Content-Length.
pub(super) const ADDED: usize = 200;
/// `Content-Type: application/sdp`.
const CONTENT_TYPE: usize = 31;
/// A Call-ID and a tag of ours.
const CALL_ID: &str = "00000000000000000000000000000000";
const TAG: &str = "0000000000000000";

/// How many octets of the datagram are left beside the header fields.
pub(super) fn room_for_description(scope: &Scope, message: &MeasureInvite) -> Option<usize> {
    let invite = Invite {
        call: CallId::fresh(),
        target: message.target.clone(),
        offer: String::new(),
        headers: message.headers.clone(),
    };
    let request = initial_invite(scope, &invite, CALL_ID, TAG);
    if !scope.is_datagram(&request) {
        return None;
    }
    let line = request.method.as_str().len() + request.uri.to_string().len() + " SIP/2.0\r\n ".len();
    let headers: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    Some(
        message
            .datagram
            .saturating_sub(line + headers + CONTENT_TYPE + ADDED + 2),
    )
}

fn initial_invite(scope: &Scope, message: &Invite, sip_call_id: &str, local_tag: &str) -> SipRequest {
    let account = &scope.config.account;
    let ours = NameAddr::new(account.aor.address_of_record());
    let mut request = SipRequest::new(Method::Invite, message.target.clone());
    let from = match wants_privacy(&message.headers) {
        true => anonymous(),
        false => NameAddr {
            display: account.display_name.clone(),
            ..ours.clone()
        },
    };
    request.headers.push("From", from.with_tag(local_tag));
    request.headers.push("To", NameAddr::new(to_uri(&message.target)));
    request.headers.push("Call-ID", sip_call_id);
    request.headers.push(
        "CSeq",
        CSeq {
            sequence: 1,
            method: Method::Invite,
        },
    );
    request.headers.push("Contact", &account.contact);
    scope.abilities().push(&mut request.headers);
    Refresh::default().ask(scope, &mut request.headers);
    prack::ask(scope, &mut request.headers);
    push_all(&mut request.headers, &message.headers);
    if wants_privacy(&message.headers) && !message.headers.contains(PREFERRED) {
        request.headers.push(PREFERRED, ours);
    }
    request.with_body(SDP, message.offer.clone())
}

/// Who we are, for the proxy alone (RFC 3325 section 9.2).
const PREFERRED: &str = "P-Preferred-Identity";

/// RFC 3325 section 9.3: `Privacy: id`.
fn wants_privacy(headers: &Headers) -> bool {
    let mut values = headers.value("Privacy").unwrap_or_default().split(';');
    values.any(|value| value.trim().eq_ignore_ascii_case("id"))
}

/// RFC 3323 section 4.1.1.3.
fn anonymous() -> NameAddr {
    let uri = SipUri::new(Host::Name("anonymous.invalid".to_owned())).with_user("anonymous");
    NameAddr::new(uri).with_display("Anonymous")
}

/// A To carries neither headers nor a transport (RFC 3261 table 1).
pub(super) fn to_uri(target: &Uri) -> Uri {
    match target {
        Uri::Other(_) => target.clone(),
        Uri::Sip(uri) => Uri::Sip(uri.address_of_record()),
    }
}

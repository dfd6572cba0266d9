//! The callee's INVITE: from its arrival to our final answer (RFC 3261 section 13.3).

use super::Scope;
use super::call::{Call, Phase};
use super::dialog::Dialog;
use super::end::End;
use super::prack::Owed;
use super::requests::Wanted;
use super::session::{Session, Unacked};
use super::timers::Timer;
use super::words::{Description, SDP, misuse, push_all};
use crate::event::{DialogEventKind, Head};
use crate::message::Occasion;
use bytes::Bytes;
use siprtc_core::sip::{NameAddr, SipRequest, SipResponse, TxId};
use siprtc_core::{CallId, Cause, Error, Fault, Result};
use std::time::Duration;

/// RFC 3261 section 13.3.1.1: a provisional answer every minute keeps a proxy from cancelling.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);

/// How often a caller's silence doubles the interval of an 18x that it must hear of, as RFC 3262 section 3 does it: T1, 2*T1
/// ... 32*T1.
const MAX_DOUBLINGS: u32 = 5;

const ASSERTED: &str = "P-Asserted-Identity";

/// An INVITE that we have not answered finally.
pub(super) struct Inviting {
    pub(super) tx: TxId,
    pub(super) request: SipRequest,
    pub(super) dialog: Dialog,
    /// The caller's Expires runs out before our own patience.
    pub(super) expires: bool,
    progress: Option<SipResponse>,
    /// The 18x goes out again and again, in this interval, until the caller shows that it has it (RFC 8840 section 4.3.2).
    insistence: Option<Duration>,
    /// The INVITE had no offer: our 200 has it, or a reliable 18x.
    offerless: bool,
    /// What our 18x says of the session: what the 200 says, too.
    description: Option<String>,
}

impl Call {
    /// A peer calls. The error's message says what is wrong with the INVITE (400).
    pub(super) fn invited(
        scope: &mut Scope,
        tx: TxId,
        invite: &SipRequest,
        (wanted, trusts, owed): (Wanted, bool, Owed),
    ) -> Result<Self> {
        let id = CallId::fresh();
        let (from, to) = (invite.headers.from()?, invite.headers.to()?);
        let sip_call_id = invite.headers.call_id()?.to_owned();
        let offer = Description::of(&invite.headers, &invite.body).sdp();
        let local_tag = scope.token();
        let no_answer = scope.config.no_answer;
        // RFC 3261 section 13.3.1: an Expires bounds the invitation, not the session.
        let expires = invite
            .headers
            .expires()
            .ok()
            .flatten()
            .map(|s| Duration::from_secs(s.into()));
        let inviting = Inviting {
            tx,
            request: invite.clone(),
            dialog: Dialog::of_callee(invite, &local_tag)?,
            expires: expires.is_some_and(|expires| expires < no_answer),
            progress: None,
            insistence: None,
            offerless: offer.is_none(),
            description: None,
        };
        let phase = Phase::Inviting(Box::new(inviting));
        let mut call = Call::new(
            scope,
            id,
            (sip_call_id.clone(), local_tag),
            from.uri.to_string(),
            phase,
        );
        call.caller_tag = from.tag().unwrap_or_default().to_owned();
        call.begun_by = Some(invite.headers.cseq()?.sequence);
        call.pracks.owed = owed;
        scope.owners.insert(tx, id);
        scope.respond(Some(id), tx, invite.response(100));
        scope.set_timer(
            id,
            Timer::NoAnswer,
            expires.map_or(no_answer, |expires| expires.min(no_answer)),
        );
        call.tell(
            scope,
            DialogEventKind::Incoming {
                sip_call_id,
                from,
                to,
                offer,
                replaces: wanted.place,
                head: Box::new(Head {
                    joins: wanted.company,
                    reliable: owed != Owed::None,
                    ..head(invite, trusts)
                }),
            },
        );
        let tag = call.caller_tag.clone();
        call.hear_abilities(scope, &tag, &invite.headers);
        Ok(call)
    }

    /// Whether this call came from a copy of `invite` that took another way (RFC 3261 section 8.2.2.2).
    pub(super) fn was_begun_by(&self, invite: &SipRequest) -> bool {
        let sequence = invite.headers.cseq().ok().map(|cseq| cseq.sequence);
        sequence.is_some() && self.begun_by == sequence
    }

    pub(super) fn ring(&mut self, scope: &mut Scope, answer: Option<String>) -> Result<()> {
        let status = if answer.is_some() { 183 } else { 180 };
        let mut response = self.answer_to_invite(scope, status, "ring")?;
        let with_sdp = answer.is_some();
        if let Some(sdp) = answer {
            self.describe(&sdp)?;
            response = response.with_body(SDP, sdp);
        }
        let insistence = self.progress_is_owed(scope).then_some(scope.config.timers.t1);
        let is_reliable = self.is_acknowledged(with_sdp);
        if is_reliable && with_sdp {
            // RFC 3311 section 5.1: the caller may offer anew from now on.
            response.headers.push("Allow", scope.abilities().allow());
        }
        let Phase::Inviting(inviting) = &mut self.phase else {
            return Ok(());
        };
        scope
            .abilities()
            .push_early(&inviting.request, &mut response.headers);
        inviting.progress = Some(response.clone());
        let (is_offerless, tx) = (inviting.offerless, inviting.tx);
        inviting.insistence = insistence.filter(|_| !is_reliable);
        let insistence = inviting.insistence;
        match is_reliable {
            true if is_offerless && !with_sdp => {}
            true => self.progress_reliably(scope, response),
            false => scope.respond(Some(self.id), tx, response),
        }
        scope.set_timer(
            self.id,
            Timer::ProgressRefresh,
            insistence.unwrap_or(PROGRESS_INTERVAL),
        );
        Ok(())
    }

    /// What an 18x says of the session stands: no other says something else (RFC 3261 section 13.3.1.1).
    fn describe(&mut self, sdp: &str) -> Result<()> {
        let is_reliable = self.is_acknowledged(true);
        let Phase::Inviting(inviting) = &mut self.phase else {
            return Ok(());
        };
        if inviting.offerless && !is_reliable {
            return Err(Error::new(
                Fault::PeerIncompatible,
                "ring",
                "the INVITE has no offer, and its caller acknowledges no 18x: none may offer (RFC 3262 section 5)",
            )
            .advice("accept the call: then the 200 offers"));
        }
        if inviting.description.as_ref().is_some_and(|said| said != sdp) {
            return Err(
                misuse("ring", "an earlier 18x says something else of the session")
                    .advice("say the same again, or wait for ProgressConfirmed and offer anew"),
            );
        }
        inviting.description = Some(sdp.to_owned());
        Ok(())
    }

    /// The INVITE has no offer.
    pub(super) fn asks_for_offer(&self) -> bool {
        matches!(&self.phase, Phase::Inviting(inviting) if inviting.offerless)
    }

    /// The caller has our description for good: repeated, it would be another.
    pub(super) fn progress_needs_no_description(&mut self) {
        if let Phase::Inviting(inviting) = &mut self.phase
            && let Some(response) = &mut inviting.progress
        {
            response.headers.remove("Content-Type");
            response.body = Bytes::new();
        }
    }

    /// What our 200 says of the session: what an 18x has said, or nothing where that was acknowledged (RFC 6337 section 3.1.1).
    fn last_word(&self, sdp: String) -> Option<String> {
        let Phase::Inviting(inviting) = &self.phase else {
            return Some(sdp);
        };
        match &inviting.description {
            None => Some(sdp),
            Some(_) if self.is_agreed_on(&self.caller_tag) => None,
            Some(said) => Some(said.clone()),
        }
    }

    pub(super) fn refresh_progress(&mut self, scope: &mut Scope) {
        let Phase::Inviting(inviting) = &mut self.phase else {
            return;
        };
        let Some(response) = inviting.progress.clone() else {
            return;
        };
        let (is_offerless, tx) = (inviting.offerless, inviting.tx);
        if self.pracks.owed == Owed::All {
            if !is_offerless {
                self.progress_reliably(scope, response);
            }
            return scope.set_timer(self.id, Timer::ProgressRefresh, PROGRESS_INTERVAL);
        }
        scope.respond(Some(self.id), tx, response);
        let longest = scope.config.timers.t1 * 2_u32.pow(MAX_DOUBLINGS);
        let doubled = inviting.insistence.map(|interval| interval * 2);
        inviting.insistence = doubled.filter(|interval| *interval <= longest);
        scope.set_timer(
            self.id,
            Timer::ProgressRefresh,
            inviting.insistence.unwrap_or(PROGRESS_INTERVAL),
        );
    }

    /// The caller has our 18x: it need not be repeated but for proxies.
    pub(super) fn progress_is_heard(&mut self, scope: &mut Scope) {
        if let Phase::Inviting(inviting) = &mut self.phase
            && inviting.insistence.take().is_some()
        {
            scope.set_timer(self.id, Timer::ProgressRefresh, PROGRESS_INTERVAL);
        }
    }

    pub(super) fn accept(&mut self, scope: &mut Scope, sdp: String) -> Result<()> {
        let response = self.answer_to_invite(scope, 200, "accept")?;
        if self.holds_answer(&sdp) {
            return Ok(());
        }
        let said = self.last_word(sdp);
        let mut response = match &said {
            Some(sdp) => response.with_body(SDP, sdp.clone()),
            None => response,
        };
        if let Phase::Inviting(inviting) = &self.phase {
            scope
                .abilities()
                .push_answering(&inviting.request, &mut response.headers);
            let request = inviting.request.clone();
            self.answer_timer(scope, &request, &mut response.headers);
        }
        let inviting = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Inviting(inviting) => inviting,
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        scope.timers.cancel(self.id, Timer::NoAnswer);
        scope.timers.cancel(self.id, Timer::ProgressRefresh);
        scope.timers.cancel(self.id, Timer::ReliableProgress);
        let unacked = Unacked {
            tx: inviting.tx,
            sequence: self.begun_by.unwrap_or_default(),
            response,
            interval: scope.config.timers.t1,
            initial: true,
            offered: inviting.offerless && said.is_some(),
        };
        self.phase = Phase::Established(Box::new(Session::new(inviting.dialog)));
        self.send_success(scope, unacked);
        Ok(())
    }

    pub(super) fn reject(&mut self, scope: &mut Scope, status: u16) -> Result<()> {
        check_refusal("reject", status)?;
        if !matches!(self.phase, Phase::Inviting(_)) {
            return Err(self.not_inviting("reject"));
        }
        self.refuse(scope, status, End::wanted(Cause::from_status(status)), None);
        Ok(())
    }

    /// Answers the INVITE finally and not with 2xx.
    pub(super) fn refuse(&mut self, scope: &mut Scope, status: u16, end: End, reason: Option<String>) {
        self.refuse_with(scope, status, end, reason, &[]);
    }

    /// Sends the caller elsewhere.
    pub(super) fn redirect(&mut self, scope: &mut Scope, contacts: &[NameAddr]) -> Result<()> {
        if contacts.is_empty() {
            return Err(
                misuse("redirect", "there is nowhere to send the caller").advice("give one address at least")
            );
        }
        if !matches!(self.phase, Phase::Inviting(_)) {
            return Err(self.not_inviting("redirect"));
        }
        self.refuse_with(scope, 302, End::wanted(Cause::Redirected), None, contacts);
        Ok(())
    }

    fn refuse_with(
        &mut self,
        scope: &mut Scope,
        status: u16,
        end: End,
        reason: Option<String>,
        contacts: &[NameAddr],
    ) {
        let Phase::Inviting(inviting) = &self.phase else {
            return;
        };
        let mut response = inviting.request.response(status);
        set_tag(&mut response, &self.local_tag);
        for contact in contacts {
            response.headers.push("Contact", contact);
        }
        push_all(&mut response.headers, self.attached(Occasion::Answers));
        if let Some(reason) = reason {
            // RFC 6432 section 3 lets a final answer carry a Reason.
            response.headers.push("Reason", reason);
        }
        scope.respond(Some(self.id), inviting.tx, response);
        self.phase = Phase::Over;
        self.end(scope, end.with_status(status));
    }

    /// The caller's CANCEL; after a 2xx it has no effect (RFC 3261 section 9.2).
    pub(super) fn cancelled(&mut self, scope: &mut Scope, invite: TxId) {
        match &mut self.phase {
            Phase::Inviting(inviting) if inviting.tx == invite => {
                self.refuse(scope, 487, End::by_peer(Cause::Cancelled, None), None);
            }
            Phase::Established(_) => {
                let Some(theirs) = self.offers.theirs.take_if(|theirs| theirs.tx == invite) else {
                    return;
                };
                scope.timers.cancel(self.id, Timer::OfferPatience);
                scope.respond(Some(self.id), theirs.tx, theirs.request.response(487));
                self.tell(scope, DialogEventKind::OfferRejected { status: 487 });
            }
            _ => {}
        }
    }

    /// A response within the dialog-to-be: To-tag and Contact; Record-Route is echoed by the response itself.
    fn answer_to_invite(&self, scope: &Scope, status: u16, operation: &'static str) -> Result<SipResponse> {
        let Phase::Inviting(inviting) = &self.phase else {
            return Err(self.not_inviting(operation));
        };
        let mut response = inviting.request.response(status);
        set_tag(&mut response, &self.local_tag);
        response.headers.push("Contact", &scope.config.account.contact);
        push_all(&mut response.headers, self.attached(Occasion::Answers));
        Ok(response)
    }

    fn not_inviting(&self, operation: &'static str) -> siprtc_core::Error {
        misuse(
            operation,
            format!("{} has no INVITE of the peer that waits for an answer", self.id),
        )
        .advice("answer an Incoming call once")
    }
}

/// What the application may know of an INVITE. An assertion counts only where it comes from who is trusted (RFC 3325 section 9).
fn head(invite: &SipRequest, trusts: bool) -> Head {
    let mut headers = invite.headers.clone();
    let mut asserted = None;
    if trusts {
        let read = |item: &str| item.parse::<NameAddr>().ok();
        asserted = headers.items(ASSERTED).into_iter().find_map(read);
    } else {
        headers.remove(ASSERTED);
    }
    Head {
        headers,
        asserted,
        joins: None,
        reliable: false,
    }
}

fn set_tag(response: &mut SipResponse, tag: &str) {
    if let Ok(to) = response.headers.to() {
        response.headers.set("To", to.with_tag(tag));
    }
}

pub(super) fn check_refusal(operation: &'static str, status: u16) -> Result<()> {
    match status {
        300..=699 => Ok(()),
        _ => {
            Err(misuse(operation, format!("{status} refuses nothing")).advice("give a status of 300 to 699"))
        }
    }
}

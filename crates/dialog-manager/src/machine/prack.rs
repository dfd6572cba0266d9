//! Reliable provisional answers (RFC 3262): PRACK, from both ends.
//!
//! As callee an 18x is sent reliably where the caller requires it, or where we do and it can; one with a description wherever it can, for
//! then the description is agreed on before the 2xx. A 180 is never sent reliably to an INVITE without an offer: the first reliable answer
//! would have to carry one (section 5); its caller hears 100 and the final answer, or our offer in a 183.

use super::Scope;
use super::call::{Call, Client, Departure, MAX_FORKS, Phase, Purpose, is_challenge};
use super::end::End;
use super::timers::Timer;
use super::words::Description;
use crate::control::Reliability;
use crate::event::DialogEventKind;
use siprtc_core::Cause;
use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse, TxId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The option-tag.
pub(super) const RELIABLE: &str = "100rel";
/// Most reliable answers that wait for the PRACK of the one before. **Policy when full**: the oldest is left out, for it only
/// says what the next one says anew.
const MAX_WAITING: usize = 4;

/// A call's reliable answers: those that we send, and those that we have acknowledged.
#[derive(Debug, Default)]
pub(super) struct Pracks {
    /// Callee: which answers of ours are reliable.
    pub(super) owed: Owed,
    last: u32,
    pending: Option<Pending>,
    waiting: VecDeque<SipResponse>,
    /// Our 200, which waits for the PRACK of an 18x with our answer (section 5).
    held: Option<String>,
    /// Caller, for each dialog by its tag: the last RSeq, and the CSeq of the last PRACK.
    heard: Vec<(String, u32, u32)>,
}

#[derive(Debug)]
struct Pending {
    response: SipResponse,
    since: Instant,
    interval: Duration,
    /// It has our description.
    with_sdp: bool,
}

/// Which provisional answers of ours the caller acknowledges.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Owed {
    /// All above 100.
    All,
    /// Those that have a description.
    Descriptions,
    /// None: it cannot, or we do not.
    #[default]
    None,
}

impl Pracks {
    /// The CSeq of the last PRACK in the dialog with `tag`; 0 without one.
    pub(super) fn last_sequence(&self, tag: &str) -> u32 {
        let its = self.heard.iter().filter(|(other, ..)| other == tag);
        its.map(|(.., sequence)| *sequence).max().unwrap_or_default()
    }
}

/// Which answers to this INVITE are to be reliable; the error is 421 for a caller that cannot (RFC 3262 section 3).
pub(super) fn owed(scope: &Scope, invite: &SipRequest) -> Result<Owed, SipResponse> {
    let requires = invite.headers.has_token("Require", RELIABLE);
    let supports = requires || invite.headers.has_token("Supported", RELIABLE);
    match scope.config.control.reliability {
        Reliability::Off => Ok(Owed::None),
        Reliability::Required if !supports => {
            let mut response = invite.response(421);
            response.headers.push("Require", RELIABLE);
            Err(response)
        }
        Reliability::Required => Ok(Owed::All),
        Reliability::Supported if requires => Ok(Owed::All),
        Reliability::Supported if supports => Ok(Owed::Descriptions),
        Reliability::Supported => Ok(Owed::None),
    }
}

/// What our INVITE says of it.
pub(super) fn ask(scope: &Scope, headers: &mut Headers) {
    if scope.config.control.reliability == Reliability::Required {
        headers.push("Require", RELIABLE);
    }
}

/// Whether an 18x is acknowledged by a PRACK: then its answer is the answer, and not a word on the way to one.
pub(super) fn is_reliable(scope: &Scope, response: &SipResponse) -> bool {
    number_of(scope, response).is_some()
}

/// The RSeq of a reliable 18x.
fn number_of(scope: &Scope, response: &SipResponse) -> Option<u32> {
    let is_off = scope.config.control.reliability == Reliability::Off;
    if is_off || !response.headers.has_token("Require", RELIABLE) {
        return None;
    }
    let number = response.headers.value("RSeq")?.trim().parse().ok()?;
    (number > 0).then_some(number)
}

impl Call {
    /// Caller: whether a provisional answer is news, and its PRACK if it wants one. A repeated one is none, and one that is out of
    /// order is as if it had not come: it comes again (RFC 3262 section 4).
    pub(super) fn acknowledge_progress(
        &mut self,
        scope: &mut Scope,
        tag: &str,
        response: &SipResponse,
    ) -> bool {
        let Some(number) = number_of(scope, response) else {
            return true;
        };
        let before = self.pracks.heard.iter().find(|(other, ..)| other == tag);
        if before.is_some_and(|(_, last, _)| last.checked_add(1) != Some(number)) {
            return false;
        }
        let Some(invited) = response.headers.cseq().ok().map(|cseq| cseq.sequence) else {
            return true;
        };
        let route = self.way(scope);
        let Some(dialog) = self.dialog(tag) else {
            return true;
        };
        let (mut prack, sequence) = dialog.request(Method::Prack);
        prack.headers.push("RAck", format!("{number} {invited} INVITE"));
        self.pracks.heard.retain(|(other, ..)| other != tag);
        if self.pracks.heard.len() >= 2 * MAX_FORKS {
            self.pracks.heard.remove(0);
        }
        self.pracks.heard.push((tag.to_owned(), number, sequence));
        self.send(scope, Departure::within(Purpose::Prack, (prack, sequence), route));
        true
    }

    /// Whatever the answer to a PRACK: the INVITE's own decides. Only a challenge is worth another try.
    pub(super) fn prack_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let request = self.client(tx).map(|client| client.request.clone());
        let challenged = is_challenge(response) && !self.is_ending();
        let again = challenged.then(|| self.retry(scope, tx, response).ok()).flatten();
        let Some(again) = again else {
            return request.iter().for_each(|prack| self.prack_is_over(scope, prack));
        };
        let Some(client) = self.client(again) else { return };
        let (tag, sequence) = (client.request.headers.to_tag().ok(), client.sequence);
        let its = self
            .pracks
            .heard
            .iter_mut()
            .find(|(other, ..)| Some(other) == tag.as_ref());
        if let Some((.., last)) = its {
            *last = sequence;
        }
    }

    /// A PRACK in the dialog with `tag` is on its way. What is sent after it has a higher CSeq, and over UDP, through proxies, it may
    /// be there first: then the PRACK is answered 500 (RFC 3261 section 12.2.2), and the 18x comes again and again.
    pub(super) fn awaits_prack(&self, tag: &str) -> bool {
        let is_its = |client: &Client| client.request.headers.to_tag().is_ok_and(|its| its == tag);
        let mut pracks = self
            .clients
            .iter()
            .filter(|client| client.purpose == Purpose::Prack);
        pracks.any(|client| !client.finished && is_its(client))
    }

    /// What waited for its answer goes out.
    pub(super) fn prack_is_over(&mut self, scope: &mut Scope, prack: &SipRequest) {
        let tag = prack.headers.to_tag().unwrap_or_default();
        self.next_info(scope, &tag);
        self.next_offer(scope, &tag);
    }

    /// Callee: whether an 18x of ours, with a description or without one, is acknowledged.
    pub(super) fn is_acknowledged(&self, with_sdp: bool) -> bool {
        match self.pracks.owed {
            Owed::All => true,
            Owed::Descriptions => with_sdp,
            Owed::None => false,
        }
    }

    /// Callee: sends an 18x reliably, after those before it.
    pub(super) fn progress_reliably(&mut self, scope: &mut Scope, response: SipResponse) {
        if self.pracks.waiting.len() >= MAX_WAITING {
            self.pracks.waiting.pop_front();
        }
        self.pracks.waiting.push_back(response);
        self.next_progress(scope);
    }

    fn next_progress(&mut self, scope: &mut Scope) {
        let Phase::Inviting(inviting) = &self.phase else {
            return;
        };
        let tx = inviting.tx;
        if self.pracks.pending.is_some() {
            return;
        }
        let Some(mut response) = self.pracks.waiting.pop_front() else {
            return;
        };
        // Section 3: the first number is anybody's choice below 2^31, the next ones follow.
        self.pracks.last += 1;
        response.headers.push("Require", RELIABLE);
        response.headers.push("RSeq", self.pracks.last);
        let interval = scope.config.timers.t1;
        self.pracks.pending = Some(Pending {
            with_sdp: !response.body.is_empty(),
            response: response.clone(),
            since: scope.now,
            interval,
        });
        scope.respond(Some(self.id), tx, response);
        scope.set_timer(self.id, Timer::ReliableProgress, interval);
    }

    /// No PRACK yet: T1, 2*T1, 4*T1 ... until 64*T1 are over (section 3).
    pub(super) fn repeat_progress(&mut self, scope: &mut Scope) {
        let Phase::Inviting(inviting) = &self.phase else {
            return;
        };
        let (tx, patience) = (inviting.tx, scope.patience());
        let Some(pending) = &mut self.pracks.pending else {
            return;
        };
        let waited = scope.now.saturating_duration_since(pending.since);
        if waited >= patience {
            let reason = format!(
                "{} never acknowledged our {} (no PRACK within {} s): its PRACK may be sent to an address of ours that cannot be reached",
                self.peer,
                pending.response.status,
                patience.as_secs()
            );
            return self.refuse(scope, 504, End::local(Cause::TimedOut, reason), None);
        }
        pending.interval = (pending.interval * 2).min(patience - waited);
        let (response, interval) = (pending.response.clone(), pending.interval);
        scope.respond(Some(self.id), tx, response);
        scope.set_timer(self.id, Timer::ReliableProgress, interval);
    }

    /// Whether our 200 has to wait: the 18x with our answer is not acknowledged.
    pub(super) fn holds_answer(&mut self, sdp: &str) -> bool {
        let holds = self
            .pracks
            .pending
            .as_ref()
            .is_some_and(|pending| pending.with_sdp);
        let holds = holds || self.answers_prack();
        if holds {
            self.pracks.held = Some(sdp.to_owned());
        }
        holds
    }

    /// A PRACK of the caller's; a late one, after our 200, too.
    pub(super) fn acknowledged_progress(&mut self, scope: &mut Scope, tx: TxId, prack: &SipRequest) {
        let named = prack.headers.value("RAck").and_then(read_rack);
        let begun_by = self.begun_by.unwrap_or_default();
        let its = |pending: &mut Pending| {
            let number = pending
                .response
                .headers
                .value("RSeq")
                .and_then(|value| value.parse::<u32>().ok());
            named.is_some_and(|(rseq, sequence)| number == Some(rseq) && sequence == begun_by)
        };
        if named.is_none() {
            return scope.respond(Some(self.id), tx, prack.response(400));
        }
        let Some(pending) = self.pracks.pending.take_if(its) else {
            return scope.respond(Some(self.id), tx, prack.response(481));
        };
        scope.timers.cancel(self.id, Timer::ReliableProgress);
        let description = Description::of(&prack.headers, &prack.body);
        if pending.with_sdp && self.asks_for_offer() {
            return self.our_offer_is_answered(scope, tx, prack, description);
        }
        if pending.with_sdp {
            self.description_is_known(scope, None);
        }
        // Section 5: an offer in it is answered in its 200. Where the first one is not answered yet, or our 200 waits for this, it is
        // refused, and the 18x is acknowledged all the same (RFC 6337 section 2.2).
        let response = match description {
            Description::Absent => prack.response(200),
            Description::Foreign => prack.response(488),
            Description::Sdp(sdp) => match self.may_offer(scope, prack) {
                Ok(()) if self.pracks.held.is_none() => {
                    return self.peer_offers(scope, tx, prack.clone(), Some(sdp));
                }
                _ => prack.response(488),
            },
        };
        scope.respond(Some(self.id), tx, response);
        self.go_on_ringing(scope);
    }

    /// The PRACK of the 18x with the offer that the INVITE had not (section 5).
    fn our_offer_is_answered(
        &mut self,
        scope: &mut Scope,
        tx: TxId,
        prack: &SipRequest,
        description: Description,
    ) {
        let status = if description == Description::Foreign {
            488
        } else {
            200
        };
        self.description_is_known(scope, description.sdp());
        scope.respond(Some(self.id), tx, prack.response(status));
        self.go_on_ringing(scope);
    }

    /// The 18x with our description is acknowledged: what it agrees on stands before the call is answered.
    fn description_is_known(&mut self, scope: &mut Scope, answer: Option<String>) {
        let tag = self.caller_tag.clone();
        if answer.is_some() || !self.asks_for_offer() {
            self.has_agreed(&tag);
        }
        self.progress_needs_no_description();
        let takes_offers = self.takes_early_offers(&tag);
        self.tell(
            scope,
            DialogEventKind::ProgressConfirmed {
                sdp: answer,
                takes_offers,
            },
        );
    }

    /// What waited for the answer to a PRACK goes out: our 200, or the next 18x.
    pub(super) fn go_on_ringing(&mut self, scope: &mut Scope) {
        match self.pracks.held.take() {
            Some(sdp) => {
                let accepted = self.accept(scope, sdp);
                debug_assert!(accepted.is_ok(), "it rings here");
            }
            None => self.next_progress(scope),
        }
    }

    /// The peer's PRACK carried an offer that waits for our answer.
    pub(super) fn answers_prack(&self) -> bool {
        let theirs = self.offers.theirs.as_ref();
        theirs.is_some_and(|theirs| theirs.request.method == Method::Prack)
    }
}

/// `776656 1 INVITE`: RSeq and CSeq.
fn read_rack(value: &str) -> Option<(u32, u32)> {
    let mut words = value.split_ascii_whitespace();
    let numbers = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next()? == "INVITE" && words.next().is_none()).then_some(numbers)
}

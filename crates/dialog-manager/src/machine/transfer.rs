//! Transfers: REFER within a call's dialog, from both ends (RFC 3515, RFC 5589), with the subscription that it implies
//! (RFC 6665), whose NOTIFYs say how the new call goes.
//!
//! A dialog stays as long as one of its usages does (RFC 5057): whoever hangs up before the last NOTIFY hears it all the same.

use super::Scope;
use super::call::{Call, Departure, Phase, Purpose, is_challenge};
use super::replaces::Replaces;
use super::standing::State;
use super::timers::Timer;
use super::words::{NO_SUB, misuse};
use crate::event::{DialogEventKind, DialogName, Referral};
use siprtc_core::Result;
use siprtc_core::sip::{
    Headers, Method, NameAddr, SipRequest, SipResponse, SipUri, TxEnd, TxId, reason_phrase,
};
use std::time::Duration;

/// The event package (RFC 3515 section 2.4.4).
pub(super) const REFER: &str = "refer";
/// The body of its NOTIFYs.
pub(super) const SIPFRAG: &str = "message/sipfrag";
/// How long our user may think about a call that the peer asks for. **Policy when over**: 603.
pub(super) const THINKING: Duration = Duration::from_secs(30);
/// What a NOTIFY of ours says of the time that the subscription has left, in seconds; it is not refreshed.
pub(super) const EXPIRES: u32 = 180;
/// Longest Refer-To that is followed.
const MAX_REFER_TO: usize = 1024;

/// A call's transfers: at most one in each direction at a time.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    ours: Option<Ours>,
    theirs: Option<Theirs>,
    /// The peer has asked before: its next one is told apart by its id (RFC 3515 section 2.4.6).
    heard_one: bool,
}

/// We asked the peer to call somebody.
#[derive(Debug)]
struct Ours {
    tx: TxId,
    /// The CSeq of the REFER.
    id: u32,
}

/// The peer asked us.
#[derive(Debug)]
struct Theirs {
    /// The `id` of the NOTIFYs' Event.
    id: Option<u32>,
    /// The peer wants no NOTIFYs (RFC 4488).
    silent: bool,
    outstanding: Option<TxId>,
    /// The NOTIFY on its way is the last one.
    last: bool,
    /// What is to be told next; a newer word takes its place.
    next: Option<u16>,
    /// Our user has said nothing of it yet.
    is_open: bool,
}

impl Transfers {
    /// The dialog is still used.
    pub(super) fn are_under_way(&self) -> bool {
        self.ours.is_some() || self.theirs.is_some()
    }
}

impl Call {
    /// How the peer is called by somebody who is to take this call's place.
    pub(super) fn replaceable(&self) -> Option<SipUri> {
        match &self.phase {
            Phase::Established(session) if !self.is_ending() && session.unacked.is_none() => {
                let uri = session.dialog.public_uri()?;
                Some(session.dialog.as_seen_by_peer().within(uri))
            }
            _ => None,
        }
    }

    /// What names the confirmed dialog to others.
    pub(super) fn dialog_name(&self) -> Option<DialogName> {
        match &self.phase {
            Phase::Established(session) if !self.is_ending() => Some(DialogName {
                call_id: self.sip_call_id.clone(),
                local_tag: self.local_tag.clone(),
                remote_tag: session.dialog.remote_tag().to_owned(),
            }),
            _ => None,
        }
    }

    /// RFC 3891 section 3, and RFC 3911 section 4 alike: an early dialog may be replaced by whom we called, a confirmed one unless it is `early-only`.
    pub(super) fn may_be_replaced(&self, replaces: &Replaces) -> Result<(), u16> {
        if self.is_ending() {
            return Err(603);
        }
        match &self.phase {
            Phase::Established(session) if session.dialog.remote_tag() != replaces.from_tag => Err(481),
            Phase::Established(_) if replaces.early_only => Err(486),
            Phase::Established(_) => Ok(()),
            Phase::Calling(calling) if calling.knows(&replaces.from_tag) => Ok(()),
            _ => Err(481),
        }
    }

    pub(super) fn refer(&mut self, scope: &mut Scope, to: &SipUri) -> Result<()> {
        const OPERATION: &str = "transfer";
        let route = self.way(scope);
        let ending = self.is_ending();
        let Phase::Established(session) = &mut self.phase else {
            return Err(misuse(OPERATION, format!("{} is not established", self.id)));
        };
        if ending || session.unacked.is_some() {
            return Err(
                misuse(OPERATION, format!("{} is not confirmed, or is ending", self.id))
                    .advice("transfer a call after its Confirmed"),
            );
        }
        if self.transfers.ours.is_some() {
            return Err(
                misuse(OPERATION, format!("{} is being transferred already", self.id))
                    .advice("wait for the end of the transfer that runs"),
            );
        }
        let (mut refer, id) = session.dialog.request(Method::Refer);
        scope.dress_refer(&mut refer.headers, to);
        let tx = self.send(scope, Departure::within(Purpose::Refer, (refer, id), route));
        self.transfers.ours = Some(Ours { tx, id });
        Ok(())
    }

    /// A final answer to our REFER. 200 is as good as 202 (RFC 6665 section 8.3.1).
    pub(super) fn refer_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        // The NOTIFY with the outcome was quicker.
        if self.transfers.ours.as_ref().is_none_or(|ours| ours.tx != tx) {
            return;
        }
        if response.is_success() {
            if is_without_news(&response.headers) {
                return self.referral_is_over(scope, DialogEventKind::ReferralSucceeded);
            }
            return scope.set_timer(self.id, Timer::ReferralNews, scope.patience());
        }
        if is_challenge(response)
            && !self.is_ending()
            && let Ok(again) = self.retry(scope, tx, response)
        {
            let id = self.client(again).map_or(0, |client| client.sequence);
            self.transfers.ours = Some(Ours { tx: again, id });
            return;
        }
        let status = response.status;
        self.referral_is_over(scope, DialogEventKind::ReferralRefused { status });
    }

    pub(super) fn refer_lost(&mut self, scope: &mut Scope, tx: TxId, end: &TxEnd) {
        if self.transfers.ours.as_ref().is_some_and(|ours| ours.tx == tx) {
            let status = match end {
                TxEnd::Transport(_) => 503,
                TxEnd::Done | TxEnd::TimedOut => 408,
            };
            self.referral_is_over(scope, DialogEventKind::ReferralRefused { status });
        }
    }

    /// A NOTIFY of the peer: news of the call that we asked for.
    pub(super) fn notified(&mut self, scope: &mut Scope, tx: TxId, notify: &SipRequest) {
        let event = notify.headers.value("Event").unwrap_or_default();
        let mut parts = event.split(';').map(str::trim);
        if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case(REFER)) {
            let mut response = notify.response(489);
            response.headers.push("Allow-Events", REFER);
            return scope.respond(Some(self.id), tx, response);
        }
        let id = parts
            .filter_map(|part| part.strip_prefix("id="))
            .find_map(|id| id.parse::<u32>().ok());
        let is_ours = |ours: &Ours| id.is_none_or(|id| id == ours.id);
        if !self.transfers.ours.as_ref().is_some_and(is_ours) {
            return scope.respond(Some(self.id), tx, notify.response(481));
        }
        let is_over = State::of(&notify.headers).over.is_some();
        let status = match sipfrag(notify) {
            Ok(status) => status,
            Err(refusal) => return scope.respond(Some(self.id), tx, notify.response(refusal)),
        };
        scope.respond(Some(self.id), tx, notify.response(200));
        match status {
            Some(200..=299) => self.referral_is_over(scope, DialogEventKind::ReferralSucceeded),
            Some(status @ 300..) => {
                self.referral_is_over(scope, DialogEventKind::ReferralRefused { status });
            }
            // It will not say how it went.
            _ if is_over => self.referral_is_over(scope, DialogEventKind::ReferralRefused { status: 408 }),
            Some(status) => {
                let patience = scope.config.no_answer.saturating_add(scope.patience());
                scope.set_timer(self.id, Timer::ReferralNews, patience);
                self.tell(scope, DialogEventKind::ReferralProgress { status });
            }
            None => {}
        }
    }

    pub(super) fn referral_unheard(&mut self, scope: &mut Scope) {
        self.referral_is_over(scope, DialogEventKind::ReferralRefused { status: 408 });
    }

    fn referral_is_over(&mut self, scope: &mut Scope, kind: DialogEventKind) {
        scope.timers.cancel(self.id, Timer::ReferralNews);
        if self.transfers.ours.take().is_some() {
            self.tell(scope, kind);
        }
    }

    /// The peer's REFER.
    pub(super) fn referred(&mut self, scope: &mut Scope, tx: TxId, refer: &SipRequest) {
        let referral = match self.read_referral(scope, refer) {
            Ok(referral) => referral,
            Err(status) => return scope.respond(Some(self.id), tx, refer.response(status)),
        };
        let silent = wants_no_news(&refer.headers);
        // RFC 3515 section 2.4.2: who has to ask a person accepts at once.
        let mut response = refer.response(202);
        response.headers.push("Contact", &scope.config.account.contact);
        if silent {
            response.headers.push("Refer-Sub", "false");
        }
        scope.respond(Some(self.id), tx, response);
        let again = std::mem::replace(&mut self.transfers.heard_one, true);
        let id = refer.headers.cseq().ok().map(|cseq| cseq.sequence);
        self.transfers.theirs = Some(Theirs {
            id: id.filter(|_| again),
            silent,
            outstanding: None,
            last: false,
            next: Some(100),
            is_open: true,
        });
        scope.set_timer(self.id, Timer::ReferralAnswer, THINKING);
        self.next_notify(scope);
        self.tell(scope, DialogEventKind::Referred(referral));
    }

    /// What a REFER wants, or the status that refuses it.
    fn read_referral(&self, scope: &Scope, refer: &SipRequest) -> Result<Referral, u16> {
        if !scope.config.control.take_referrals {
            return Err(603);
        }
        let referral = referral_of(refer)?;
        let confirmed = matches!(&self.phase, Phase::Established(session) if session.unacked.is_none());
        // The last word on the one before may still be on its way: the peer has heard it, and we have not heard so.
        let unfinished = self.transfers.theirs.as_ref().is_some_and(|theirs| !theirs.last);
        if !confirmed || self.is_ending() || unfinished {
            return Err(491);
        }
        Ok(referral)
    }

    /// How the call goes that the peer asked for.
    pub(super) fn report_referral(&mut self, scope: &mut Scope, status: u16) -> Result<()> {
        const OPERATION: &str = "report";
        let Some(theirs) = self.transfers.theirs.as_mut().filter(|theirs| !theirs.last) else {
            return Err(misuse(OPERATION, format!("nobody waits for news in {}", self.id))
                .advice("report after Referred, until a final status"));
        };
        theirs.is_open = false;
        scope.timers.cancel(self.id, Timer::ReferralAnswer);
        // A hundred was told with the 202.
        if status > 100 && theirs.next.is_none_or(|next| next < 200) {
            theirs.next = Some(status);
        }
        self.next_notify(scope);
        Ok(())
    }

    pub(super) fn referral_unanswered(&mut self, scope: &mut Scope) {
        if self.report_referral(scope, 603).is_ok() {
            self.tell(scope, DialogEventKind::ReferralLapsed);
        }
    }

    /// The call is over. What our user has not taken up by now is not made.
    pub(super) fn referrals_outlive(&mut self, scope: &mut Scope) {
        if self
            .transfers
            .theirs
            .as_ref()
            .is_some_and(|theirs| theirs.is_open)
        {
            // It was open: nothing refuses the report.
            let _ = self.report_referral(scope, 487);
        }
    }

    /// Tells the next word, when it is its turn.
    fn next_notify(&mut self, scope: &mut Scope) {
        let route = self.way(scope);
        let dialog = match &mut self.phase {
            Phase::Closing(dialog) => dialog.as_mut(),
            Phase::Established(session) => &mut session.dialog,
            Phase::Calling(_) | Phase::Inviting(_) | Phase::Over => return,
        };
        let Some(theirs) = &mut self.transfers.theirs else {
            return;
        };
        if theirs.outstanding.is_some() {
            return;
        }
        let Some(status) = theirs.next.take() else { return };
        theirs.last = status >= 200;
        if theirs.silent {
            if theirs.last {
                self.transfers.theirs = None;
            }
            return;
        }
        let (mut notify, sequence) = dialog.request(Method::Notify);
        let event = theirs
            .id
            .map_or_else(|| REFER.to_owned(), |id| format!("{REFER};id={id}"));
        let state = match theirs.last {
            true => "terminated;reason=noresource".to_owned(),
            false => format!("active;expires={EXPIRES}"),
        };
        notify.headers.push("Contact", &scope.config.account.contact);
        notify.headers.push("Event", event);
        notify.headers.push("Subscription-State", state);
        let (media_type, fragment) = news(status);
        let notify = notify.with_body(media_type, fragment);
        let departure = Departure::within(Purpose::Notify, (notify, sequence), route);
        let tx = self.send(scope, departure);
        if let Some(theirs) = &mut self.transfers.theirs {
            theirs.outstanding = Some(tx);
        }
    }

    pub(super) fn notify_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let its = |theirs: &&mut Theirs| theirs.outstanding == Some(tx);
        let Some(theirs) = self.transfers.theirs.as_mut().filter(its) else {
            return;
        };
        theirs.outstanding = None;
        if is_challenge(response)
            && let Ok(again) = self.retry(scope, tx, response)
        {
            if let Some(theirs) = &mut self.transfers.theirs {
                theirs.outstanding = Some(again);
            }
            return;
        }
        let is_last = self.transfers.theirs.as_ref().is_some_and(|theirs| theirs.last);
        if is_last || !response.is_success() {
            self.transfers.theirs = None;
            return;
        }
        self.next_notify(scope);
    }

    /// Nobody hears us; the call that was asked for goes on.
    pub(super) fn notify_lost(&mut self, tx: TxId) {
        self.transfers
            .theirs
            .take_if(|theirs| theirs.outstanding == Some(tx));
    }
}

impl Scope {
    /// What every REFER of ours says (RFC 3515, RFC 3892).
    pub(super) fn dress_refer(&self, headers: &mut Headers, to: &SipUri) {
        let account = &self.config.account;
        headers.push("Contact", &account.contact);
        headers.push("Refer-To", NameAddr::new(to.clone()));
        if !headers.contains("Referred-By") {
            headers.push("Referred-By", NameAddr::new(account.aor.address_of_record()));
        }
        self.abilities().push_extensions(headers);
    }
}

/// No NOTIFYs, as a REFER wishes or its answer says (RFC 4488).
pub(super) fn is_without_news(headers: &Headers) -> bool {
    let value = headers.value("Refer-Sub").unwrap_or_default();
    value.trim().eq_ignore_ascii_case("false")
}

/// The peer wants no NOTIFYs: it would rather not have them (RFC 4488), or it takes none (RFC 7614).
pub(super) fn wants_no_news(headers: &Headers) -> bool {
    let mut required = headers.items("Require").into_iter();
    is_without_news(headers) || required.any(|tag| tag.eq_ignore_ascii_case(NO_SUB))
}

/// What a NOTIFY tells of a call that somebody asked for (RFC 3515 section 2.4.5): its media type and its body.
pub(super) fn news(status: u16) -> (&'static str, String) {
    let fragment = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
    ("message/sipfrag;version=2.0", fragment)
}

/// What a REFER wants, or the status that refuses it.
pub(super) fn referral_of(refer: &SipRequest) -> Result<Referral, u16> {
    let mut values = refer.headers.values("Refer-To");
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(400);
    };
    if value.len() > MAX_REFER_TO {
        return Err(414);
    }
    let to: NameAddr = value.parse().map_err(|_| 400_u16)?;
    let uri = to.uri.as_sip().ok_or(416_u16)?;
    if uri
        .params
        .value("method")
        .is_some_and(|method| method != "INVITE")
    {
        return Err(403);
    }
    let replaces = Replaces::of_uri(uri)?;
    let mut target = SipUri {
        headers: None,
        ..uri.clone()
    };
    target.params.remove("method");
    let mut headers = Headers::new();
    headers.copy_from(&refer.headers, "Referred-By");
    let referred_by = refer.headers.value("Referred-By").and_then(|by| by.parse().ok());
    if let Some(replaces) = replaces {
        headers.push("Replaces", replaces);
    }
    Ok(Referral {
        target: target.into(),
        headers,
        referred_by,
    })
}

/// The status in a NOTIFY; `None` without a body. The error refuses it.
pub(super) fn sipfrag(notify: &SipRequest) -> Result<Option<u16>, u16> {
    if notify.body.is_empty() {
        return Ok(None);
    }
    if notify.headers.content_type().as_deref() != Some(SIPFRAG) {
        return Err(415);
    }
    let text = std::str::from_utf8(&notify.body).map_err(|_| 400_u16)?;
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let is_sip = words
        .next()
        .is_some_and(|version| version.eq_ignore_ascii_case("SIP/2.0"));
    let status = words.next().and_then(|status| status.parse().ok());
    match status.filter(|status| is_sip && (100..700).contains(status)) {
        Some(status) => Ok(Some(status)),
        None => Err(400),
    }
}

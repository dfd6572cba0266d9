//! Subscriptions to events (RFC 6665), as subscriber: message-summary (RFC 3842), dialog (RFC 4235), presence (RFC 3856) and any
//! other package, whose bodies pass through unread.
//!
//! One subscription has one dialog: a NOTIFY of another fork is answered 481, which ends that one there (section 4.5.2). One that a
//! REFER begins (see [`super::asking`]) is renewed and ended as every other one.

use super::asking;
use super::auth::{Attempts, Authenticator};
use super::call::is_challenge;
use super::dialog::Dialog;
use super::errand::status_of;
use super::standing::{Over, State};
use super::timers::Timer;
use super::transfer::sipfrag;
use super::words::{check_headers, is_one_line, is_token, misuse, push_missing};
use super::{Machine, Output, Scope};
use crate::event::{DialogEvent, DialogEventKind};
use crate::message::Subscribe;
use siprtc_core::sip::{CSeq, Headers, Method, Route, SipRequest, SipResponse, TxEnd, TxId};
use siprtc_core::{CallId, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most subscriptions at once. **Policy when full**: the command is refused.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Longest body of a NOTIFY that is passed on. **Policy beyond**: 413.
const MAX_BODY: usize = 65_536;
/// The least and the most that a notifier may say of a subscription's duration, in seconds.
const DURATIONS: std::ops::RangeInclusive<u32> = 10..=86_400;
/// A 423 is answered by asking for more, this often.
const MAX_RAISES: u8 = 2;
/// The package of waiting messages, which some registrars tell of unasked (RFC 3842 section 1).
const MESSAGE_SUMMARY: &str = "message-summary";

/// The subscriptions of one account.
#[derive(Default)]
pub(super) struct Subscriptions(BTreeMap<CallId, Subscription>);

struct Subscription {
    wish: Wish,
    /// A REFER began it.
    is_of_referral: bool,
    /// What was said last of the call that it asked for.
    status: Option<u16>,
    /// Seconds that we ask for; 0: we take our leave.
    expires: u32,
    raises: u8,
    sip_call_id: String,
    local_tag: String,
    dialog: Option<Dialog>,
    /// The one on its way.
    out: Option<Out>,
    auth: Authenticator,
    over_websocket: bool,
    /// Its user knows that it stands.
    told: bool,
}

struct Out {
    tx: TxId,
    request: SipRequest,
    sequence: u32,
    attempts: Attempts,
    route: Route,
}

/// What every SUBSCRIBE of a subscription says.
pub(super) struct Wish {
    pub(super) event: String,
    pub(super) accept: String,
    pub(super) headers: Headers,
}

impl Machine {
    pub(super) fn subscribe(&mut self, message: Subscribe) -> Result<()> {
        const OPERATION: &str = "subscribe";
        let id = message.subscription;
        self.has_room_for_subscription(OPERATION, id)?;
        if !is_token(&message.event) || message.accept.is_empty() || !is_one_line(&message.accept) {
            return Err(
                misuse(OPERATION, "the event is no token, or what is accepted no line")
                    .advice("give an event package, such as message-summary, and media types"),
            );
        }
        check_headers(OPERATION, &message.headers)?;
        let mut request = self.scope.request_outside(Method::Subscribe, &message.target);
        let wish = Wish {
            event: message.event,
            accept: message.accept,
            headers: message.headers,
        };
        let expires = message.expires.clamp(*DURATIONS.start(), *DURATIONS.end());
        wish.dress(&self.scope, expires, &mut request.headers);
        self.begin_subscription(id, request, (wish, expires))
    }

    pub(super) fn has_room_for_subscription(&self, operation: &'static str, id: CallId) -> Result<()> {
        let all = &self.subscriptions.0;
        if all.len() < MAX_SUBSCRIPTIONS && !all.contains_key(&id) {
            return Ok(());
        }
        let what = format!("{MAX_SUBSCRIPTIONS} subscriptions stand already, or this one does");
        Err(misuse(operation, what).advice("end one, and take a fresh id for each"))
    }

    /// Sends the request that makes the subscription, outside of any dialog.
    pub(super) fn begin_subscription(
        &mut self,
        id: CallId,
        request: SipRequest,
        (wish, expires): (Wish, u32),
    ) -> Result<()> {
        let scope = &self.scope;
        let headers = &request.headers;
        let (sip_call_id, from) = (headers.call_id()?.to_owned(), headers.from()?);
        let (route, _) = scope.way_out(&request)?;
        let subscription = Subscription {
            wish,
            is_of_referral: request.method == Method::Refer,
            status: None,
            expires,
            raises: 0,
            sip_call_id,
            local_tag: from.tag().unwrap_or_default().to_owned(),
            dialog: None,
            out: None,
            auth: Authenticator::new(
                scope.config.account.secret.as_ref(),
                scope.config.account.weakest_digest,
            ),
            over_websocket: scope.flows.websocket().is_some() && route.flow == scope.flows.websocket(),
            told: false,
        };
        self.subscriptions.0.insert(id, subscription);
        self.send_for_subscription(id, (request, 1), Attempts::default(), route);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, id: CallId) -> Result<()> {
        let Some(subscription) = self.subscriptions.0.get_mut(&id).filter(|it| it.expires > 0) else {
            return Err(
                misuse("unsubscribe", format!("{id} is no subscription, or is ending"))
                    .advice("end a subscription once"),
            );
        };
        subscription.expires = 0;
        let patience = self.scope.patience();
        self.scope.set_timer(id, Timer::SubscriptionEnd, patience);
        if subscription.out.is_none() {
            self.renew(id);
        }
        Ok(())
    }

    /// The program ends: each notifier is told, and nobody waits.
    pub(super) fn unsubscribe_all(&mut self) {
        let all: Vec<CallId> = self.subscriptions.0.keys().copied().collect();
        for id in all {
            let _ = self.unsubscribe(id);
            self.subscription_is_over(id, Over::because("the program ends"));
        }
    }

    fn send_for_subscription(
        &mut self,
        id: CallId,
        (request, sequence): (SipRequest, u32),
        attempts: Attempts,
        route: Route,
    ) {
        let tx = self.scope.tx_ids.mint();
        self.scope.owners.insert(tx, id);
        self.scope.push(Output::SendRequest {
            call: id,
            tx,
            request: request.clone(),
            route: route.clone(),
        });
        if let Some(subscription) = self.subscriptions.0.get_mut(&id) {
            subscription.out = Some(Out {
                tx,
                request,
                sequence,
                attempts,
                route,
            });
        }
    }

    /// A SUBSCRIBE within the dialog: to go on, or to end it.
    fn renew(&mut self, id: CallId) {
        let scope = &mut self.scope;
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else {
            return;
        };
        let Some(dialog) = &mut subscription.dialog else {
            return;
        };
        let (mut request, sequence) = dialog.request(Method::Subscribe);
        subscription
            .wish
            .dress(scope, subscription.expires, &mut request.headers);
        let websocket = scope.flows.websocket().filter(|_| subscription.over_websocket);
        let route = websocket.map_or_else(Route::by_request, Route::over);
        self.send_for_subscription(id, (request, sequence), Attempts::default(), route);
    }

    pub(super) fn subscribe_answered(&mut self, id: CallId, tx: TxId, response: &SipResponse) {
        let is_its = |out: &mut Out| out.tx == tx && response.is_final();
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else {
            return;
        };
        let Some(mut out) = subscription.out.take_if(is_its) else {
            return;
        };
        self.scope.owners.remove(tx);
        if response.is_success() {
            return self.subscribed(id, &out, response);
        }
        let scope = &mut self.scope;
        if is_challenge(response)
            && subscription
                .auth
                .answer(&mut out.attempts, response, &mut out.request, scope)
                .is_ok()
        {
            return self.send_again(id, out);
        }
        let least = response.headers.min_expires().ok().flatten().unwrap_or_default();
        if response.status == 423
            && out.request.method == Method::Subscribe
            && least > subscription.expires
            && DURATIONS.contains(&least)
            && subscription.raises < MAX_RAISES
        {
            subscription.raises += 1;
            subscription.expires = least;
            out.request.headers.set("Expires", least);
            return self.send_again(id, out);
        }
        // Whoever takes REFERs need not take SUBSCRIBEs: what it tells until the time is over is heard all the same.
        if !(subscription.is_of_referral && subscription.stands() && response.status != 481) {
            self.subscription_is_over(id, Over::refused(response));
        }
    }

    /// The same request with the next CSeq.
    fn send_again(&mut self, id: CallId, mut out: Out) {
        let dialog = self
            .subscriptions
            .0
            .get_mut(&id)
            .and_then(|subscription| subscription.dialog.as_mut());
        let sequence = dialog.map_or(out.sequence + 1, Dialog::next_sequence);
        let method = out.request.method.clone();
        out.request.headers.set("CSeq", CSeq { sequence, method });
        self.send_for_subscription(id, (out.request, sequence), out.attempts, out.route);
    }

    fn subscribed(&mut self, id: CallId, out: &Out, response: &SipResponse) {
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else {
            return;
        };
        let tag = response.headers.to().ok();
        let tag = tag.as_ref().and_then(|to| to.tag()).unwrap_or_default();
        match &mut subscription.dialog {
            Some(dialog) if dialog.remote_tag() == tag => dialog.refresh_target(&response.headers),
            // Of another fork than the one whose NOTIFY was quicker.
            Some(_) => {}
            None => {
                subscription.dialog = Dialog::of_caller(&out.request, out.sequence, response).ok();
            }
        }
        if subscription.dialog.is_none() {
            return self.subscription_is_over(id, Over::because("the 200 makes no dialog"));
        }
        let asked_for = subscription.expires;
        if out.request.method == Method::Refer {
            if !subscription.told && asking::is_without_news(&response.headers) {
                self.forget_subscription(id);
                return self.tell_of(id, asking::accepted(false));
            }
            self.referral_accepted(id);
        }
        if asked_for == 0 {
            // The last NOTIFY says that it is over, if one comes; it was asked for while the first SUBSCRIBE was out, perhaps.
            if out.request.headers.value("Expires") != Some("0") {
                self.renew(id);
            }
            return;
        }
        if out.request.method == Method::Subscribe {
            let said = response.headers.expires().ok().flatten();
            self.lasts(id, said.unwrap_or(asked_for));
        }
    }

    /// A REFER was taken, as its 2xx or a NOTIFY says. What becomes of it is told in NOTIFYs, the first of them at once (RFC 6665 section
    /// 4.1.2.4).
    fn referral_accepted(&mut self, id: CallId) {
        let patience = self.scope.patience();
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut subscription.told, true) {
            self.scope.set_timer(id, Timer::SubscriptionEnd, patience);
            self.tell_of(id, asking::accepted(true));
        }
    }

    /// What a renewal says again is no news.
    fn referral_went(&mut self, id: CallId, status: Option<u16>) {
        let subscription = self.subscriptions.0.get_mut(&id);
        if let (Some(subscription), Some(status)) = (subscription, status)
            && subscription.status.replace(status) != Some(status)
        {
            self.tell_of(id, asking::went(status));
        }
    }

    /// It stands for so many seconds; it is renewed before.
    fn lasts(&mut self, id: CallId, seconds: u32) {
        let seconds = seconds.clamp(*DURATIONS.start(), *DURATIONS.end());
        let expires = Duration::from_secs(seconds.into());
        let margin = Duration::from_secs(32).min(expires / 3);
        self.scope
            .set_timer(id, Timer::SubscriptionRefresh, expires - margin);
        self.scope.set_timer(id, Timer::SubscriptionEnd, expires);
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut subscription.told, true) {
            self.tell_of(id, DialogEventKind::Subscribed { expires });
        }
    }

    pub(super) fn subscribe_lost(&mut self, id: CallId, tx: TxId, end: &TxEnd) {
        let subscription = self.subscriptions.0.get_mut(&id);
        if subscription
            .and_then(|it| it.out.take_if(|out| out.tx == tx))
            .is_some()
        {
            self.subscription_is_over(id, Over::answered(status_of(end)));
        }
    }

    /// Whether a timer of this id was a subscription's.
    pub(super) fn subscription_timeout(&mut self, id: CallId, timer: Timer) -> bool {
        match timer {
            Timer::SubscriptionRefresh => {
                if self.subscriptions.0.get(&id).is_some_and(|it| it.out.is_none()) {
                    self.renew(id);
                }
            }
            Timer::SubscriptionEnd => {
                let is_of_referral = self.subscriptions.0.get(&id).is_some_and(|it| it.is_of_referral);
                self.subscription_is_over(
                    id,
                    Over::because(match is_of_referral {
                        true => "nobody says how it goes",
                        false => "nobody renewed it, or said that it is over",
                    }),
                );
            }
            _ => return false,
        }
        true
    }

    /// A NOTIFY in a dialog that no call has; `false` when no subscription has it either.
    pub(super) fn notified_of_event(&mut self, tx: TxId, notify: &SipRequest, tag: &str) -> bool {
        let Ok(call_id) = notify.headers.call_id() else {
            return false;
        };
        let mut all = self.subscriptions.0.iter_mut();
        let its = all.find(|(_, it)| it.sip_call_id == call_id && it.local_tag == tag);
        let Some((id, subscription)) = its.filter(|_| notify.method == Method::Notify) else {
            return false;
        };
        let id = *id;
        let is_of_referral = subscription.is_of_referral;
        let taken = subscription.takes(notify).and_then(|()| match is_of_referral {
            true => sipfrag(notify),
            false => Ok(None),
        });
        let status = match taken {
            Ok(status) => status,
            Err(refusal) => {
                self.scope.respond(None, tx, notify.response(refusal));
                return true;
            }
        };
        self.scope.respond(None, tx, notify.response(200));
        if is_of_referral {
            self.referral_accepted(id);
        } else if !notify.body.is_empty() {
            self.tell_of(id, notice(notify));
        }
        let state = State::of(&notify.headers);
        if state.over.is_none() {
            self.goes_on(id, state.expires);
        }
        self.referral_went(id, status);
        // The final word is the last one, whatever the notifier says of the subscription: its next NOTIFY is answered 481.
        if status.is_some_and(|status| status >= 200) {
            self.forget_subscription(id);
        } else if let Some(over) = state.over {
            self.subscription_is_over(id, over);
        }
        true
    }

    /// The notifier says that it goes on, for so many seconds if it says that.
    fn goes_on(&mut self, id: CallId, seconds: Option<u32>) {
        let Some(subscription) = self.subscriptions.0.get(&id).filter(|it| it.expires > 0) else {
            return;
        };
        let unsaid = subscription.is_of_referral.then_some(subscription.expires);
        if let Some(seconds) = seconds.or(unsaid) {
            self.lasts(id, seconds);
        }
    }

    /// A NOTIFY that nobody has asked for (RFC 3842): taken where it is wanted.
    pub(super) fn notified_unasked(&mut self, tx: TxId, notify: &SipRequest) {
        let is_summary = package(&notify.headers).eq_ignore_ascii_case(MESSAGE_SUMMARY);
        if !self.scope.config.control.take_unasked_summaries || !is_summary || notify.body.len() > MAX_BODY {
            return self.scope.respond_outside(tx, notify.response(481));
        }
        self.scope.respond_outside(tx, notify.response(200));
        self.tell_of(CallId::fresh(), notice(notify));
    }

    fn subscription_is_over(&mut self, id: CallId, over: Over) {
        let Some(subscription) = self.forget_subscription(id) else {
            return;
        };
        let kind = match subscription.is_of_referral {
            true => asking::over(over, subscription.told),
            false => DialogEventKind::SubscriptionEnded {
                status: over.status,
                reason: over.reason,
                contacts: over.contacts,
                retry_after: over.retry_after,
            },
        };
        self.tell_of(id, kind);
    }

    /// Without a word.
    fn forget_subscription(&mut self, id: CallId) -> Option<Subscription> {
        let subscription = self.subscriptions.0.remove(&id)?;
        self.scope.timers.cancel_all(id);
        if let Some(out) = &subscription.out {
            self.scope.owners.remove(out.tx);
        }
        Some(subscription)
    }

    fn tell_of(&mut self, call: CallId, kind: DialogEventKind) {
        self.scope.push(Output::Event(DialogEvent { call, kind }));
    }
}

impl Wish {
    /// What every SUBSCRIBE says, and for how many seconds.
    fn dress(&self, scope: &Scope, expires: u32, headers: &mut Headers) {
        headers.push("Contact", &scope.config.account.contact);
        headers.push("Event", &self.event);
        headers.push("Expires", expires);
        headers.push("Accept", &self.accept);
        scope.abilities().push_extensions(headers);
        push_missing(headers, &self.headers);
    }
}

impl Subscription {
    /// Its user knows that it stands, and has not taken leave.
    fn stands(&self) -> bool {
        self.told && self.expires > 0
    }

    /// Whether a NOTIFY is of this subscription and in order, or the status that refuses it. One that overtakes the 200 makes the
    /// dialog (RFC 6665 section 4.1.2.4).
    fn takes(&mut self, notify: &SipRequest) -> Result<(), u16> {
        let (Ok(from), Ok(cseq)) = (notify.headers.from(), notify.headers.cseq()) else {
            return Err(400);
        };
        if !package(&notify.headers).eq_ignore_ascii_case(&self.wish.event) {
            return Err(489);
        }
        if notify.body.len() > MAX_BODY {
            return Err(413);
        }
        match &mut self.dialog {
            Some(dialog) => {
                if dialog.remote_tag() != from.tag().unwrap_or_default() {
                    return Err(481);
                }
                if !dialog.take_sequence(cseq.sequence) {
                    return Err(500);
                }
                dialog.refresh_target(&notify.headers);
                Ok(())
            }
            None => {
                let mut dialog = Dialog::of_callee(notify, &self.local_tag).map_err(|_| 400_u16)?;
                dialog.continue_after(self.out.as_ref().map_or(1, |out| out.sequence));
                self.dialog = Some(dialog);
                Ok(())
            }
        }
    }
}

fn package(headers: &Headers) -> &str {
    let event = headers.value("Event").unwrap_or_default();
    event.split(';').next().unwrap_or_default().trim()
}

fn notice(notify: &SipRequest) -> DialogEventKind {
    DialogEventKind::Notified {
        event: package(&notify.headers).to_ascii_lowercase(),
        content_type: notify.headers.content_type().unwrap_or_default(),
        body: notify.body.to_vec(),
    }
}

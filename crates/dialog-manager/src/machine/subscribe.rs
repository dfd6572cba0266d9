//! Subscriptions to events (RFC 6665), as subscriber: message-summary (RFC 3842), dialog (RFC 4235), presence (RFC 3856) and any
//! other package, whose bodies pass through unread.
//!
//! One subscription has one dialog: a NOTIFY of another fork is answered 481, which ends that one there (section 4.5.2).

use super::auth::{Attempts, Authenticator};
use super::call::is_challenge;
use super::dialog::Dialog;
use super::errand::status_of;
use super::timers::Timer;
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
    event: String,
    accept: String,
    headers: Headers,
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

/// Why a subscription is over.
struct Over {
    status: Option<u16>,
    reason: Option<String>,
    retry_after: Option<Duration>,
}

impl Over {
    fn answered(status: u16) -> Self {
        Over {
            status: Some(status),
            reason: None,
            retry_after: None,
        }
    }

    fn because(reason: &str) -> Self {
        Over {
            status: None,
            reason: Some(reason.to_owned()),
            retry_after: None,
        }
    }
}

impl Machine {
    pub(super) fn subscribe(&mut self, message: Subscribe) -> Result<()> {
        const OPERATION: &str = "subscribe";
        let id = message.subscription;
        if self.subscriptions.0.len() >= MAX_SUBSCRIPTIONS || self.subscriptions.0.contains_key(&id) {
            let what = format!("{MAX_SUBSCRIPTIONS} subscriptions stand already, or this one does");
            return Err(misuse(OPERATION, what).advice("end one, and take a fresh id for each"));
        }
        if !is_token(&message.event) || message.accept.is_empty() || !is_one_line(&message.accept) {
            return Err(
                misuse(OPERATION, "the event is no token, or what is accepted no line")
                    .advice("give an event package, such as message-summary, and media types"),
            );
        }
        check_headers(OPERATION, &message.headers)?;
        let scope = &mut self.scope;
        let mut request = scope.request_outside(Method::Subscribe, &message.target);
        let headers = &request.headers;
        let (sip_call_id, from) = (headers.call_id()?.to_owned(), headers.from()?);
        let (route, _) = scope.way_out(&request)?;
        let subscription = Subscription {
            event: message.event,
            accept: message.accept,
            headers: message.headers,
            expires: message.expires.clamp(*DURATIONS.start(), *DURATIONS.end()),
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
        subscription.dress(scope, &mut request.headers);
        self.subscriptions.0.insert(id, subscription);
        self.send_subscribe(id, (request, 1), Attempts::default(), route);
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

    fn send_subscribe(
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
        subscription.dress(scope, &mut request.headers);
        let websocket = scope.flows.websocket().filter(|_| subscription.over_websocket);
        let route = websocket.map_or_else(Route::by_request, Route::over);
        self.send_subscribe(id, (request, sequence), Attempts::default(), route);
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
            && least > subscription.expires
            && DURATIONS.contains(&least)
            && subscription.raises < MAX_RAISES
        {
            subscription.raises += 1;
            subscription.expires = least;
            out.request.headers.set("Expires", least);
            return self.send_again(id, out);
        }
        let retry_after = response.headers.retry_after().ok().flatten();
        let over = Over {
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            ..Over::answered(response.status)
        };
        self.subscription_is_over(id, over);
    }

    /// The same request with the next CSeq.
    fn send_again(&mut self, id: CallId, mut out: Out) {
        let dialog = self
            .subscriptions
            .0
            .get_mut(&id)
            .and_then(|subscription| subscription.dialog.as_mut());
        let sequence = dialog.map_or(out.sequence + 1, Dialog::next_sequence);
        let method = Method::Subscribe;
        out.request.headers.set("CSeq", CSeq { sequence, method });
        self.send_subscribe(id, (out.request, sequence), out.attempts, out.route);
    }

    fn subscribed(&mut self, id: CallId, out: &Out, response: &SipResponse) {
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else {
            return;
        };
        match &mut subscription.dialog {
            Some(dialog) => dialog.refresh_target(&response.headers),
            None => {
                subscription.dialog = Dialog::of_caller(&out.request, out.sequence, response).ok();
            }
        }
        if subscription.dialog.is_none() {
            return self.subscription_is_over(id, Over::because("the 200 makes no dialog"));
        }
        if subscription.expires == 0 {
            // The last NOTIFY says that it is over, if one comes; it was asked for while the first SUBSCRIBE was out, perhaps.
            if out.request.headers.value("Expires") != Some("0") {
                self.renew(id);
            }
            return;
        }
        let said = response
            .headers
            .expires()
            .ok()
            .flatten()
            .unwrap_or(subscription.expires);
        self.lasts(id, said);
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
                self.subscription_is_over(id, Over::because("nobody renewed it, or said that it is over"));
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
        if let Err(status) = subscription.takes(notify) {
            self.scope.respond(None, tx, notify.response(status));
            return true;
        }
        self.scope.respond(None, tx, notify.response(200));
        if !notify.body.is_empty() {
            self.tell_of(id, notice(notify));
        }
        let state = notify.headers.value("Subscription-State").unwrap_or_default();
        let mut params = state.split(';').map(str::trim);
        let word = params.next().unwrap_or_default().to_ascii_lowercase();
        let param = |name: &str| {
            let mut pairs = params.clone().filter_map(|param| param.split_once('='));
            pairs
                .find(|(other, _)| other.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        match word.as_str() {
            "terminated" => {
                let over = Over {
                    retry_after: param("retry-after")
                        .and_then(|seconds| seconds.parse().ok())
                        .map(Duration::from_secs),
                    ..Over::because(param("reason").unwrap_or("terminated"))
                };
                self.subscription_is_over(id, over);
            }
            _ => {
                let left = param("expires").and_then(|seconds| seconds.parse().ok());
                let stays = self.subscriptions.0.get(&id).is_some_and(|it| it.expires > 0);
                if let Some(seconds) = left.filter(|_| stays) {
                    self.lasts(id, seconds);
                }
            }
        }
        true
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
        let Some(subscription) = self.subscriptions.0.remove(&id) else {
            return;
        };
        self.scope.timers.cancel_all(id);
        if let Some(out) = subscription.out {
            self.scope.owners.remove(out.tx);
        }
        let Over {
            status,
            reason,
            retry_after,
        } = over;
        let kind = DialogEventKind::SubscriptionEnded {
            status,
            reason,
            retry_after,
        };
        self.tell_of(id, kind);
    }

    fn tell_of(&mut self, call: CallId, kind: DialogEventKind) {
        self.scope.push(Output::Event(DialogEvent { call, kind }));
    }
}

impl Subscription {
    /// What every SUBSCRIBE of it says.
    fn dress(&self, scope: &Scope, headers: &mut Headers) {
        headers.push("Contact", &scope.config.account.contact);
        headers.push("Event", &self.event);
        headers.push("Expires", self.expires);
        headers.push("Accept", &self.accept);
        scope.abilities().push_extensions(headers);
        push_missing(headers, &self.headers);
    }

    /// Whether a NOTIFY is of this subscription and in order, or the status that refuses it. One that overtakes the 200 makes the
    /// dialog (RFC 6665 section 4.1.2.4).
    fn takes(&mut self, notify: &SipRequest) -> Result<(), u16> {
        let (Ok(from), Ok(cseq)) = (notify.headers.from(), notify.headers.cseq()) else {
            return Err(400);
        };
        if !package(&notify.headers).eq_ignore_ascii_case(&self.event) {
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

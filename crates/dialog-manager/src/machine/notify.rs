//! Subscriptions of others to events of ours (RFC 6665), as notifier. What there is to tell of `presence` (RFC 3856) and
//! `message-summary` (RFC 3842) the user says; what there is of `dialog` (RFC 4235) the calls say (see [`super::dialog_info`]).
//!
//! Each subscription has a dialog of its own. One NOTIFY of it is on its way at a time; what changes meanwhile is told in the next one,
//! the newest state only (section 4.2.2).

use super::auth::{Attempts, Authenticator};
use super::call::is_challenge;
use super::dialog::Dialog;
use super::dialog_info;
use super::referral::Asked;
use super::timers::Timer;
use super::transfer::news;
use super::words::{is_one_line, is_token, misuse, objection};
use super::{Machine, Output, Scope};
use crate::message::Notify;
use siprtc_core::sip::{CSeq, Headers, Method, Route, SipRequest, SipResponse, TxId};
use siprtc_core::{CallId, Result};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Most subscriptions of others. **Policy when full**: 503 with a Retry-After.
pub(super) const MAX_WATCHERS: usize = 64;
/// What that 503 says in its Retry-After, in seconds.
const FULL_RETRY_AFTER: u32 = 60;
/// Longest body of a NOTIFY of ours. **Policy beyond**: the command is refused.
const MAX_BODY: usize = 65_536;
/// Durations that are granted, in seconds: less is answered 423, more is shortened (section 4.2.1.1).
const DURATIONS: std::ops::RangeInclusive<u32> = 60..=3_600;
/// The package of calls, which this machine feeds itself.
pub(super) const DIALOG: &str = "dialog";

/// The subscriptions of others, and what is told to them.
#[derive(Default)]
pub(super) struct Notifier {
    watchers: BTreeMap<CallId, Watcher>,
    /// By package: the media type and the body.
    told: BTreeMap<String, (String, Vec<u8>)>,
    /// The calls as they were told last.
    calls: String,
}

pub(super) struct Watcher {
    event: String,
    /// The `id` of its Event (RFC 6665 section 8.2.1).
    id: Option<String>,
    news: News,
    sip_call_id: String,
    local_tag: String,
    dialog: Dialog,
    ends: Instant,
    /// How many NOTIFYs were made: the version of a dialog-info (RFC 4235 section 4.1.1).
    version: u32,
    out: Option<Out>,
    /// There is something to tell when the one on its way is answered.
    is_stale: bool,
    /// Its reason, once it is over.
    over: Option<&'static str>,
    auth: Authenticator,
}

/// What a subscription tells of.
pub(super) enum News {
    /// Our calls.
    Calls,
    /// What the user says of the package.
    Package,
    /// A call that it asked for.
    Referral(Asked),
}

struct Out {
    tx: TxId,
    request: SipRequest,
    attempts: Attempts,
}

impl Machine {
    /// What there is to tell of a package from now on.
    pub(super) fn notify(&mut self, message: Notify) -> Result<()> {
        const OPERATION: &str = "notify";
        let event = message.event.to_ascii_lowercase();
        if event == DIALOG || !self.scope.config.control.notifies.contains(&event) {
            return Err(misuse(
                OPERATION,
                format!("nobody may subscribe to {event:?}, or its news are the calls' own"),
            )
            .advice("name the package in call.notifies: presence or message-summary"));
        }
        let is_type = message.content_type.contains('/') && is_one_line(&message.content_type);
        if !is_type || message.body.len() > MAX_BODY {
            let what = format!("the media type is none, or the body has more than {MAX_BODY} octets");
            return Err(misuse(OPERATION, what));
        }
        let state = (message.content_type, message.body);
        if self.notifier.told.insert(event.clone(), state.clone()) != Some(state) {
            self.tell_watchers(&event);
        }
        Ok(())
    }

    /// The calls have changed, or not.
    pub(super) fn tell_of_calls(&mut self) {
        if !self
            .notifier
            .watchers
            .values()
            .any(|watcher| watcher.event == DIALOG)
        {
            return;
        }
        let calls = dialog_info::dialogs(
            &self.scope.config.account.aor,
            self.calls.values().map(Box::as_ref),
        );
        if calls != self.notifier.calls {
            self.notifier.calls = calls;
            self.tell_watchers(DIALOG);
        }
    }

    fn tell_watchers(&mut self, event: &str) {
        let its = self
            .notifier
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.event == event);
        for id in its.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tell_watcher(id);
        }
    }

    /// A SUBSCRIBE that makes a dialog.
    pub(super) fn subscribed_to(&mut self, tx: TxId, subscribe: &SipRequest, from: IpAddr) {
        let (granted, watcher) = match self.grants(subscribe, from) {
            Ok(granted) => granted,
            Err(response) => return self.scope.respond_outside(tx, *response),
        };
        self.notifier.calls = dialog_info::dialogs(
            &self.scope.config.account.aor,
            self.calls.values().map(Box::as_ref),
        );
        self.watched_by(tx, subscribe.response(200), watcher, granted);
    }

    /// The subscription that a request makes.
    pub(super) fn watcher(
        &mut self,
        request: &SipRequest,
        (event, id): (String, Option<String>),
        news: News,
    ) -> Result<Watcher, Box<SipResponse>> {
        let local_tag = self.scope.token();
        let dialog = Dialog::of_callee(request, &local_tag).map_err(|_| Box::new(request.response(400)))?;
        let account = &self.scope.config.account;
        Ok(Watcher {
            event,
            id,
            news,
            sip_call_id: request.headers.call_id().unwrap_or_default().to_owned(),
            dialog,
            ends: self.scope.now,
            version: 0,
            out: None,
            is_stale: false,
            over: None,
            auth: Authenticator::new(account.secret.as_ref(), account.weakest_digest),
            local_tag,
        })
    }

    /// Takes the subscription, with that answer, for so many seconds; its id.
    pub(super) fn watched_by(
        &mut self,
        tx: TxId,
        mut response: SipResponse,
        watcher: Watcher,
        seconds: u32,
    ) -> CallId {
        if let Ok(to) = response.headers.to() {
            response.headers.set("To", to.with_tag(&watcher.local_tag));
        }
        let id = CallId::fresh();
        self.notifier.watchers.insert(id, watcher);
        self.lasts_until(id, tx, response, seconds);
        id
    }

    /// Says how long, and what there is to tell: at once, always (section 4.2.1.2).
    fn lasts_until(&mut self, id: CallId, tx: TxId, mut response: SipResponse, seconds: u32) {
        response.headers.push("Expires", seconds);
        response
            .headers
            .push("Contact", &self.scope.config.account.contact);
        self.scope.respond(None, tx, response);
        match (seconds, self.notifier.watchers.get_mut(&id)) {
            (0, Some(watcher)) => watcher.over = Some("timeout"),
            _ => self.renew_watcher(id, Duration::from_secs(seconds.into())),
        }
        self.tell_watcher(id);
    }

    /// It lasts that long from now on.
    pub(super) fn renew_watcher(&mut self, id: CallId, lasts: Duration) {
        if let Some(watcher) = self.notifier.watchers.get_mut(&id) {
            watcher.ends = self.scope.now + lasts;
            self.scope.set_timer(id, Timer::SubscriptionEnd, lasts);
        }
    }

    pub(super) fn news(&mut self, id: CallId) -> Option<&mut News> {
        let watcher = self.notifier.watchers.get_mut(&id)?;
        watcher.over.is_none().then_some(&mut watcher.news)
    }

    /// For how many seconds, and what makes it; or what refuses it.
    fn grants(&mut self, subscribe: &SipRequest, from: IpAddr) -> Result<(u32, Watcher), Box<SipResponse>> {
        let control = &self.scope.config.control;
        if let Some(response) = objection(self.scope.abilities(), subscribe) {
            return Err(Box::new(response));
        }
        let (event, id) = event_of(&subscribe.headers);
        if !control.notifies.contains(&event) {
            let mut response = subscribe.response(489);
            response.headers.push("Allow-Events", control.notifies.join(", "));
            return Err(Box::new(response));
        }
        if !control.admits(control.watchers, from) {
            return Err(Box::new(subscribe.response(403)));
        }
        if !accepts(&subscribe.headers, self.media_type(&event)) {
            return Err(Box::new(subscribe.response(406)));
        }
        self.has_room_for_watcher(subscribe)?;
        let seconds = duration(subscribe)?;
        let news = if event == DIALOG {
            News::Calls
        } else {
            News::Package
        };
        Ok((seconds, self.watcher(subscribe, (event, id), news)?))
    }

    pub(super) fn has_room_for_watcher(&self, request: &SipRequest) -> Result<(), Box<SipResponse>> {
        if self.notifier.watchers.len() < MAX_WATCHERS && !self.terminating {
            return Ok(());
        }
        let mut response = request.response(503);
        response.headers.push("Retry-After", FULL_RETRY_AFTER);
        Err(Box::new(response))
    }

    /// What the bodies of a package are.
    fn media_type(&self, event: &str) -> &str {
        match self.notifier.told.get(event) {
            Some((media_type, _)) => media_type,
            None if event == DIALOG => dialog_info::MEDIA_TYPE,
            None if event == "presence" => "application/pidf+xml",
            None => "application/simple-message-summary",
        }
    }

    /// A SUBSCRIBE within its dialog: it goes on, or is over. `false`: no subscription has that dialog.
    pub(super) fn subscribed_again(&mut self, tx: TxId, request: &SipRequest, tag: &str) -> bool {
        let call_id = request.headers.call_id().unwrap_or_default();
        let remote = request
            .headers
            .from()
            .ok()
            .and_then(|from| from.tag().map(str::to_owned));
        let mut all = self.notifier.watchers.iter_mut();
        let its = all.find(|(_, it)| it.sip_call_id == call_id && it.local_tag == tag);
        let Some((id, watcher)) = its.filter(|_| request.method == Method::Subscribe) else {
            return false;
        };
        let id = *id;
        let sequence = request
            .headers
            .cseq()
            .map(|cseq| cseq.sequence)
            .unwrap_or_default();
        let refusal = if watcher.dialog.remote_tag() != remote.unwrap_or_default() || watcher.over.is_some() {
            Some(481)
        } else if !watcher.dialog.take_sequence(sequence) {
            Some(500)
        } else if event_of(&request.headers) != (watcher.event.clone(), watcher.id.clone()) {
            Some(489)
        } else {
            None
        };
        if let Some(status) = refusal {
            self.scope.respond(None, tx, request.response(status));
            return true;
        }
        match duration(request) {
            Ok(seconds) => {
                watcher.dialog.refresh_target(&request.headers);
                self.scope.timers.cancel(id, Timer::SubscriptionEnd);
                self.lasts_until(id, tx, request.response(200), seconds);
            }
            Err(response) => self.scope.respond(None, tx, *response),
        }
        true
    }

    /// Tells the newest state, as soon as the NOTIFY on its way is answered.
    pub(super) fn tell_watcher(&mut self, id: CallId) {
        let Machine { notifier, scope, .. } = self;
        let Notifier {
            watchers,
            told,
            calls,
        } = notifier;
        let Some(watcher) = watchers.get_mut(&id) else {
            return;
        };
        if matches!(&watcher.news, News::Referral(asked) if asked.is_silent) {
            let is_over = watcher.over.is_some();
            return if is_over {
                self.watcher_is_gone(id)
            };
        }
        watcher.is_stale = watcher.out.is_some();
        if watcher.is_stale {
            return;
        }
        let (mut notify, _) = watcher.dialog.request(Method::Notify);
        let left = watcher.ends.saturating_duration_since(scope.now).as_secs();
        let state = match watcher.over {
            Some(reason) => format!("terminated;reason={reason}"),
            None => format!("active;expires={left}"),
        };
        let event = match &watcher.id {
            Some(id) => format!("{};id={id}", watcher.event),
            None => watcher.event.clone(),
        };
        notify.headers.push("Contact", &scope.config.account.contact);
        notify.headers.push("Event", event);
        notify.headers.push("Subscription-State", state);
        let body = match &watcher.news {
            News::Calls => {
                let whole = dialog_info::whole(&scope.config.account.aor, watcher.version, calls);
                Some((dialog_info::MEDIA_TYPE.to_owned(), whole.into_bytes()))
            }
            News::Package => told.get(&watcher.event).cloned(),
            News::Referral(asked) => {
                let (media_type, fragment) = news(asked.status());
                Some((media_type.to_owned(), fragment.into_bytes()))
            }
        };
        watcher.version += 1;
        // Before there is anything to tell a NOTIFY has no body (section 4.2.1.2).
        let notify = match body {
            Some((media_type, body)) => notify.with_body(&media_type, body),
            None => notify,
        };
        let out = Out {
            tx: scope.tx_ids.mint(),
            request: notify,
            attempts: Attempts::default(),
        };
        send(scope, id, watcher, out);
    }

    /// A final answer to a NOTIFY of ours.
    pub(super) fn watcher_answered(&mut self, id: CallId, tx: TxId, response: &SipResponse) {
        let is_its = |out: &mut Out| out.tx == tx && response.is_final();
        let Some(watcher) = self.notifier.watchers.get_mut(&id) else {
            return;
        };
        let Some(mut out) = watcher.out.take_if(is_its) else {
            return;
        };
        let scope = &mut self.scope;
        scope.owners.remove(tx);
        if is_challenge(response)
            && watcher
                .auth
                .answer(&mut out.attempts, response, &mut out.request, scope)
                .is_ok()
        {
            let sequence = watcher.dialog.next_sequence();
            let method = Method::Notify;
            out.request.headers.set("CSeq", CSeq { sequence, method });
            out.tx = scope.tx_ids.mint();
            return send(scope, id, watcher, out);
        }
        // Section 4.2.2: whoever does not know of it any more is not told any more. With a Retry-After it only asks for time.
        let asks_for_time = response.headers.contains("Retry-After");
        if watcher.over.is_some() && !watcher.is_stale || !response.is_success() && !asks_for_time {
            return self.watcher_is_gone(id);
        }
        if watcher.is_stale {
            self.tell_watcher(id);
        }
    }

    /// A NOTIFY of ours was never answered.
    pub(super) fn watcher_lost(&mut self, id: CallId, tx: TxId) {
        let watcher = self.notifier.watchers.get(&id);
        if watcher.is_some_and(|watcher| watcher.out.as_ref().is_some_and(|out| out.tx == tx)) {
            self.watcher_is_gone(id);
        }
    }

    fn watcher_is_gone(&mut self, id: CallId) {
        self.notifier.watchers.remove(&id);
        self.scope.timers.cancel_all(id);
    }

    /// Whether a timer of this id was a watcher's: nobody renewed the subscription, or our user says nothing.
    pub(super) fn watcher_timeout(&mut self, id: CallId, timer: Timer) -> bool {
        let is_known = self.notifier.watchers.contains_key(&id);
        match timer {
            Timer::ReferralAnswer if is_known => self.asked_in_vain(id),
            _ => self.end_watcher(id, "timeout"),
        }
        is_known
    }

    pub(super) fn end_watcher(&mut self, id: CallId, reason: &'static str) {
        let Some(watcher) = self.notifier.watchers.get_mut(&id) else {
            return;
        };
        self.scope.timers.cancel(id, Timer::SubscriptionEnd);
        if watcher.over.replace(reason).is_none() {
            self.tell_watcher(id);
        }
    }

    /// The program ends: everybody may subscribe anew, elsewhere perhaps.
    pub(super) fn end_watchers(&mut self) {
        for id in self.notifier.watchers.keys().copied().collect::<Vec<_>>() {
            self.end_watcher(id, "deactivated");
        }
    }
}

fn send(scope: &mut Scope, id: CallId, watcher: &mut Watcher, out: Out) {
    scope.owners.insert(out.tx, id);
    let route = scope
        .flows
        .websocket()
        .map_or_else(Route::by_request, Route::over);
    scope.push(Output::SendRequest {
        call: id,
        tx: out.tx,
        request: out.request.clone(),
        route,
    });
    watcher.out = Some(out);
}

/// The package and the id of an Event.
fn event_of(headers: &Headers) -> (String, Option<String>) {
    let mut parts = headers
        .value("Event")
        .unwrap_or_default()
        .split(';')
        .map(str::trim);
    let package = parts.next().unwrap_or_default().to_ascii_lowercase();
    let id = parts.find_map(|part| part.strip_prefix("id="));
    (package, id.filter(|id| is_token(id)).map(str::to_owned))
}

/// How long is granted; 0 asks for the state, once.
fn duration(subscribe: &SipRequest) -> Result<u32, Box<SipResponse>> {
    match subscribe.headers.expires() {
        Err(_) => Err(Box::new(subscribe.response(400))),
        Ok(None) => Ok(*DURATIONS.end()),
        Ok(Some(0)) => Ok(0),
        Ok(Some(seconds)) if seconds < *DURATIONS.start() => {
            let mut response = subscribe.response(423);
            response.headers.push("Min-Expires", *DURATIONS.start());
            Err(Box::new(response))
        }
        Ok(Some(seconds)) => Ok(seconds.min(*DURATIONS.end())),
    }
}

/// Whoever sends no Accept takes the package's own type.
fn accepts(headers: &Headers, media_type: &str) -> bool {
    let items = headers.items("Accept");
    let fits = |item: &str| {
        let range = item.split(';').next().unwrap_or_default().trim();
        let (kind, _) = media_type.split_once('/').unwrap_or_default();
        range == "*/*"
            || range.eq_ignore_ascii_case(media_type)
            || range.eq_ignore_ascii_case(&format!("{kind}/*"))
    };
    items.is_empty() || items.into_iter().any(fits)
}

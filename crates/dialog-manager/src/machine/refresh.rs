//! The session timer (RFC 4028): a call whose peer went without a word does not stand for ever.
//!
//! The side that was agreed on refreshes after half of the interval: by an UPDATE without SDP where the peer takes one
//! (section 7.4), else by a re-INVITE, which the user is asked for because it has an offer. Any re-INVITE and UPDATE, of either
//! side, is a refresh. A session that nobody refreshes ends with a BYE a little before its interval is over (section 10).

use super::Scope;
use super::call::{Call, Client, Departure, Phase, Purpose, is_challenge};
use super::end::End;
use super::timers::Timer;
use crate::event::DialogEventKind;
use siprtc_core::Cause;
use siprtc_core::sip::{Headers, Method, Refresher, SessionExpires, SipRequest, SipResponse, TxEnd, TxId};
use std::time::Duration;

/// The option-tag (RFC 4028 section 7.1).
pub(super) const TIMER: &str = "timer";

/// RFC 4028 section 5: no Min-SE is below this, in seconds.
const LEAST: u32 = 90;
/// A peer that agrees to less than it may is refreshed this often at most, in seconds.
const SHORTEST: u32 = 30;
/// A Min-SE above this is no reason to call again: a day, in seconds.
const MOST: u32 = 86_400;
/// Most times that one peer may ask for a longer interval.
const MAX_RAISES: u8 = 3;
/// RFC 4028 section 10: the BYE goes this long before the end, or a third of the interval if that is less.
const MARGIN: Duration = Duration::from_secs(32);
/// The least time between two tries to refresh.
const PAUSE: Duration = Duration::from_secs(5);

/// What one call knows of its timer.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    /// The least interval that the peer takes, in seconds; it said so in a 422.
    least: u32,
    raises: u8,
    /// The peer's Allow names UPDATE.
    pub(super) takes_update: bool,
    agreed: Option<Agreed>,
    /// Our UPDATE is on its way.
    outstanding: Option<TxId>,
}

#[derive(Clone, Copy, Debug)]
struct Agreed {
    interval: u32,
    /// We refresh.
    ours: bool,
}

impl Refresh {
    /// What a message of the peer says.
    pub(super) fn hear(&mut self, headers: &Headers) {
        if headers.contains("Allow") {
            self.takes_update = headers.has_token("Allow", "UPDATE");
        }
    }

    /// What our INVITE or UPDATE asks for.
    pub(super) fn ask(&self, scope: &Scope, headers: &mut Headers) {
        let Some(config) = &scope.config.session_timer else {
            return;
        };
        let refresher = self.agreed.map(|agreed| match agreed.ours {
            true => Refresher::Uac,
            false => Refresher::Uas,
        });
        let wanted = seconds(config.interval).max(self.least);
        // Within the call the interval stays, unless the peer has asked for more.
        let interval = self
            .agreed
            .map_or(wanted, |agreed| agreed.interval.max(self.least));
        headers.push("Session-Expires", SessionExpires { interval, refresher });
        if self.least > LEAST {
            headers.push("Min-SE", self.least);
        }
    }

    /// A 422: whether it is worth another try (RFC 4028 section 7.3).
    pub(super) fn raise(&mut self, response: &SipResponse) -> bool {
        let least = response.headers.min_se().ok().flatten().unwrap_or_default();
        if response.status != 422
            || least <= self.least.max(LEAST)
            || least > MOST
            || self.raises >= MAX_RAISES
        {
            return false;
        }
        self.least = least;
        self.raises += 1;
        true
    }
}

fn seconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_secs())
        .unwrap_or(MOST)
        .clamp(LEAST, MOST)
}

fn supports(request: &SipRequest) -> bool {
    request.headers.has_token("Supported", TIMER) || request.headers.has_token("Require", TIMER)
}

/// 422 for a request whose interval is too short for us (RFC 4028 section 9); only who knows the timer is told so.
pub(super) fn too_short(scope: &Scope, request: &SipRequest) -> Option<SipResponse> {
    let least = seconds(scope.config.session_timer.as_ref()?.least);
    let asked = request.headers.session_expires().ok().flatten()?;
    if asked.interval >= least || !supports(request) {
        return None;
    }
    let mut response = request.response(422);
    response.headers.push("Min-SE", least);
    Some(response)
}

impl Call {
    /// What our 2xx to an INVITE or UPDATE says, and keeps (RFC 4028 section 9).
    pub(super) fn answer_timer(&mut self, scope: &mut Scope, request: &SipRequest, headers: &mut Headers) {
        let Some(config) = &scope.config.session_timer else {
            return;
        };
        let asked = request.headers.session_expires().ok().flatten();
        let least = request.headers.min_se().ok().flatten().unwrap_or_default();
        let least = least.max(seconds(config.least)).min(MOST);
        let wanted = seconds(config.interval).max(least);
        let knows = supports(request);
        let refresher = match asked {
            None if !knows => return self.agree(scope, None),
            // Who does not know the timer does not refresh; a proxy wanted it.
            Some(_) if !knows => Refresher::Uas,
            asked => asked.and_then(|asked| asked.refresher).unwrap_or(Refresher::Uac),
        };
        let interval = asked.map_or(wanted, |asked| asked.interval.min(wanted).max(least));
        let said = SessionExpires {
            interval,
            refresher: Some(refresher),
        };
        headers.push("Session-Expires", said);
        if refresher == Refresher::Uac {
            headers.push("Require", TIMER);
        }
        let ours = refresher == Refresher::Uas;
        self.agree(scope, Some(Agreed { interval, ours }));
    }

    /// What the 2xx to our INVITE or UPDATE says (RFC 4028 section 7.2).
    pub(super) fn hear_timer(&mut self, scope: &mut Scope, headers: &Headers) {
        if scope.config.session_timer.is_none() {
            return;
        }
        let agreed = headers.session_expires().ok().flatten().map(|said| Agreed {
            interval: said.interval.clamp(SHORTEST, MOST),
            ours: said.refresher != Some(Refresher::Uas),
        });
        self.agree(scope, agreed);
    }

    fn agree(&mut self, scope: &mut Scope, agreed: Option<Agreed>) {
        self.refresh.agreed = agreed;
        scope.timers.cancel(self.id, Timer::SessionExpiry);
        scope.timers.cancel(self.id, Timer::SessionRefresh);
        let Some(Agreed { interval, ours }) = agreed.filter(|_| !self.is_ending()) else {
            return;
        };
        let interval = Duration::from_secs(interval.into());
        let margin = MARGIN.min(interval / 3);
        scope.set_timer(self.id, Timer::SessionExpiry, interval.saturating_sub(margin));
        if ours {
            scope.set_timer(self.id, Timer::SessionRefresh, interval / 2);
        }
    }

    /// Half of the interval is over.
    pub(super) fn refresh_session(&mut self, scope: &mut Scope) {
        let Some(agreed) = self.refresh.agreed.filter(|_| !self.is_ending()) else {
            return;
        };
        // Whatever comes of this try; a refresh that succeeds sets it anew.
        let pause = Duration::from_secs(u64::from(agreed.interval) / 8).max(PAUSE);
        scope.set_timer(self.id, Timer::SessionRefresh, pause);
        if !matches!(self.phase, Phase::Established(_)) {
            return;
        }
        // An offer that is under way is a refresh.
        if self.is_negotiating() || self.refresh.outstanding.is_some() {
            return;
        }
        match self.refresh.takes_update {
            true => self.send_update(scope),
            false => self.tell(scope, DialogEventKind::RefreshDue),
        }
    }

    fn send_update(&mut self, scope: &mut Scope) {
        let route = self.way(scope);
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        let (mut request, sequence) = session.dialog.request(Method::Update);
        request.headers.push("Contact", &scope.config.account.contact);
        scope.abilities().push(&mut request.headers);
        self.refresh.ask(scope, &mut request.headers);
        let departure = Departure::within(Purpose::Refresh, (request, sequence), route);
        self.refresh.outstanding = Some(self.send(scope, departure));
    }

    /// A final answer to our UPDATE.
    pub(super) fn update_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        self.refresh.outstanding = None;
        match response.status {
            200..=299 => {
                if let Phase::Established(session) = &mut self.phase {
                    session.dialog.refresh_target(&response.headers);
                }
                self.hear_timer(scope, &response.headers);
            }
            401 | 407 if is_challenge(response) => {
                self.refresh.outstanding = self.retry(scope, tx, response).ok();
            }
            422 if self.refresh.raise(response) => self.send_update(scope),
            // It does not take UPDATE after all.
            405 | 420 | 501 => {
                self.refresh.takes_update = false;
                self.refresh_session(scope);
            }
            408 | 481 => {
                let reason = format!(
                    "{} does not know this call any more ({} to our refresh): it was restarted, or ended the call unheard",
                    self.peer, response.status
                );
                self.dialog_lost(scope, End::local(Cause::TimedOut, reason), response.status);
            }
            // Another try follows, and the session's end if none succeeds.
            _ => {}
        }
    }

    pub(super) fn update_lost(&mut self, scope: &mut Scope, client: &Client, end: &TxEnd) {
        if self.refresh.outstanding.take_if(|tx| *tx == client.tx).is_some() && *end == TxEnd::TimedOut {
            let reason = format!(
                "{} did not answer when the session was to be refreshed (RFC 4028): it, or the way to it, is gone",
                self.peer
            );
            self.dialog_lost(scope, End::local(Cause::TimedOut, reason), 408);
        }
    }

    /// Nobody refreshed the session in time (RFC 4028 section 10).
    pub(super) fn session_expired(&mut self, scope: &mut Scope) {
        let Some(agreed) = self.refresh.agreed else {
            return;
        };
        let who = match agreed.ours {
            true => "we could not refresh the session",
            false => "the peer did not refresh the session as it had agreed to",
        };
        let reason = format!("{who} with {} within {} s (RFC 4028)", self.peer, agreed.interval);
        let told = "SIP;cause=408;text=\"session expired\"".to_owned();
        self.hang_up(scope, End::local(Cause::TimedOut, reason), Some(told));
    }
}

//! Requests from the network: to which call they belong, and what is said to those that belong to none.

use super::call::Call;
use super::prack;
use super::refresh::too_short;
use super::replaces::Replaces;
use super::words::{answer_to_options, not_allowed, objection};
use super::{Machine, Scope};
use siprtc_core::CallId;
use siprtc_core::sip::{Method, SipRequest, TxId};
use std::net::IpAddr;

/// What a 486 for too many calls says in its Retry-After, in seconds.
const FULL_RETRY_AFTER: u32 = 5;

impl Machine {
    pub(super) fn requested(&mut self, tx: TxId, request: SipRequest, from: IpAddr) {
        if request.method == Method::Ack {
            return;
        }
        match local_tag(&request) {
            Some(tag) => self.requested_within(tx, request, tag),
            None => self.requested_outside(tx, request, from),
        }
    }

    pub(super) fn acknowledged(&mut self, ack: &SipRequest) {
        let Some(tag) = local_tag(ack) else { return };
        if let Some(id) = self.dialog(ack, tag) {
            self.with(id, |call, scope| call.acknowledged(scope, ack));
        }
    }

    fn dialog(&self, request: &SipRequest, tag: String) -> Option<CallId> {
        let call_id = request.headers.call_id().ok()?.to_owned();
        self.dialogs.get(&(call_id, tag)).copied()
    }

    fn requested_within(&mut self, tx: TxId, request: SipRequest, tag: String) {
        if self.subscribed_again(tx, &request, &tag) {
            return;
        }
        match self.dialog(&request, tag.clone()) {
            Some(id) => self.with(id, |call, scope| call.requested(scope, tx, request)),
            None if self.notified_of_event(tx, &request, &tag) => {}
            None => self.scope.respond(None, tx, request.response(481)),
        }
    }

    fn requested_outside(&mut self, tx: TxId, request: SipRequest, from: IpAddr) {
        match request.method {
            Method::Invite => self.invited(tx, request, from),
            Method::Options if self.scope.config.answer_options => {
                let ours = self.scope.abilities();
                let mut response =
                    objection(ours, &request).unwrap_or_else(|| answer_to_options(ours, &request));
                // RFC 6665 section 4.4.4.
                let packages = &self.scope.config.control.notifies;
                if !packages.is_empty() {
                    response.headers.push("Allow-Events", packages.join(", "));
                }
                self.scope.respond_outside(tx, response);
            }
            Method::Message if self.scope.config.control.take_messages => {
                match objection(self.scope.abilities(), &request) {
                    Some(response) => self.scope.respond_outside(tx, response),
                    None => self.messaged_outside(tx, &request),
                }
            }
            Method::Bye | Method::Cancel | Method::Info | Method::Prack | Method::Update => {
                self.scope.respond_outside(tx, request.response(481));
            }
            Method::Notify => self.notified_unasked(tx, &request),
            Method::Subscribe if !self.scope.config.control.notifies.is_empty() => {
                self.subscribed_to(tx, &request, from);
            }
            Method::Refer => self.referred_outside(tx, &request, from),
            _ => self
                .scope
                .respond_outside(tx, not_allowed(self.scope.abilities(), &request)),
        }
    }

    fn invited(&mut self, tx: TxId, invite: SipRequest, from: IpAddr) {
        let key = match (invite.headers.call_id(), invite.headers.from_tag()) {
            (Ok(call_id), Ok(tag)) => (call_id.to_owned(), tag),
            _ => return self.scope.respond_outside(tx, invite.response(400)),
        };
        let earlier = self.invitations.get(&key).and_then(|id| self.calls.get(id));
        if earlier.is_some_and(|call| call.was_begun_by(&invite)) {
            return self.scope.respond_outside(tx, invite.response(482));
        }
        if let Some(response) = objection(self.scope.abilities(), &invite) {
            return self.scope.respond_outside(tx, response);
        }
        if let Some(response) = too_short(&self.scope, &invite) {
            return self.scope.respond_outside(tx, response);
        }
        if self.terminating {
            return self.scope.respond_outside(tx, invite.response(480));
        }
        if self.is_full() {
            let mut response = invite.response(486);
            response.headers.push("Retry-After", FULL_RETRY_AFTER);
            return self.scope.respond_outside(tx, response);
        }
        let owed = match prack::owed(&self.scope, &invite) {
            Ok(owed) => owed,
            Err(response) => return self.scope.respond_outside(tx, response),
        };
        let wanted = match self.wanted_by(&invite) {
            Ok(wanted) => wanted,
            Err(status) => return self.scope.respond_outside(tx, invite.response(status)),
        };
        let trusts = self.scope.config.control.trusted.contains(&from);
        match Call::invited(&mut self.scope, tx, &invite, (wanted, trusts, owed)) {
            Ok(call) => {
                self.invitations.insert(key, call.id);
                self.insert(call);
            }
            Err(error) => {
                let mut response = invite.response(400);
                response.reason = one_line(error.message());
                self.scope.respond_outside(tx, response);
            }
        }
    }
}

/// The call of ours that an INVITE speaks of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) place: Option<CallId>,
    pub(super) company: Option<CallId>,
}

impl Machine {
    /// What an INVITE wants of a call of ours: its place (RFC 3891 section 3), or to be joined to it (RFC 3911 section 4); or the
    /// status that refuses it. Whoever knows Call-ID and tags, 64 random bits each, was told them by one of the two ends.
    fn wanted_by(&self, invite: &SipRequest) -> Result<Wanted, u16> {
        let joins = Replaces::of(&invite.headers, "Join")?;
        let replaces = Replaces::of(&invite.headers, "Replaces")?;
        if joins.is_some() && replaces.is_some() {
            return Err(400);
        }
        let find = |named: Option<Replaces>| {
            let Some(named) = named else { return Ok(None) };
            let call = self.named_by(&named).ok_or(481_u16)?;
            call.may_be_replaced(&named).map(|()| Some(call.id))
        };
        let whole = |joins: Replaces| Replaces {
            early_only: false,
            ..joins
        };
        Ok(Wanted {
            place: find(replaces)?,
            company: find(joins.map(whole))?,
        })
    }

    fn named_by(&self, replaces: &Replaces) -> Option<&Call> {
        let key = (replaces.call_id.clone(), replaces.to_tag.clone());
        self.calls.get(self.dialogs.get(&key)?).map(Box::as_ref)
    }
}

impl Scope {
    /// Answers a request that makes no dialog; the To gets a tag all the same (RFC 3261 section 8.2.6.2).
    pub(super) fn respond_outside(&mut self, tx: TxId, mut response: siprtc_core::sip::SipResponse) {
        if let Ok(to) = response.headers.to()
            && to.tag().is_none()
        {
            let tag = self.token();
            response.headers.set("To", to.with_tag(tag));
        }
        self.respond(None, tx, response);
    }
}

/// A reason phrase is one line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(120)
        .collect()
}

fn local_tag(request: &SipRequest) -> Option<String> {
    request.headers.to_tag().ok().filter(|tag| !tag.is_empty())
}

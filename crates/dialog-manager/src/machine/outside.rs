//! Requests outside of any dialog, other than INVITE: MESSAGEs (RFC 3428).

use super::auth::{Attempts, Authenticator};
use super::call::is_challenge;
use super::errand::{delivered, read_note, status_of};
use super::uac::{ADDED, to_uri};
use super::words::{check_headers, is_one_line, misuse, push_missing};
use super::{Machine, Output, Scope};
use crate::event::{DialogEvent, DialogEventKind};
use crate::message::SendMessage;
use siprtc_core::sip::{CSeq, Method, NameAddr, Route, SipRequest, SipResponse, TxEnd, TxId, Uri};
use siprtc_core::{CallId, Result};
use std::collections::BTreeMap;

/// Most requests that wait for their answer. **Policy when full**: the command is refused.
const MAX_OUT: usize = 64;
/// RFC 3428 section 8: a MESSAGE outside of a call is no longer than that, whatever carries it.
const MAX_MESSAGE: usize = 1_300;

/// The requests on their way.
#[derive(Default)]
pub(super) struct Outside(BTreeMap<CallId, Outing>);

struct Outing {
    tx: TxId,
    request: SipRequest,
    sequence: u32,
    route: Route,
    auth: Authenticator,
    attempts: Attempts,
}

impl Machine {
    pub(super) fn send_message(&mut self, message: SendMessage) -> Result<()> {
        const OPERATION: &str = "send message";
        if message.content_type.is_empty() || !is_one_line(&message.content_type) {
            return Err(misuse(OPERATION, "the content type is no line").advice("give a media type"));
        }
        if self.outside.0.len() >= MAX_OUT || self.outside.0.contains_key(&message.errand) {
            return Err(misuse(
                OPERATION,
                format!("{MAX_OUT} messages wait already, or this one does"),
            )
            .advice("wait for their Delivered, and take a fresh id for each"));
        }
        check_headers(OPERATION, &message.headers)?;
        let scope = &mut self.scope;
        let mut request = scope.request_outside(Method::Message, &message.target);
        push_missing(&mut request.headers, &message.headers);
        let request = request.with_body(&message.content_type, message.body);
        let octets = request.to_bytes().len() + ADDED;
        if octets > MAX_MESSAGE {
            return Err(misuse(
                OPERATION,
                format!("the MESSAGE would have {octets} octets, and {MAX_MESSAGE} are the most outside of a call (RFC 3428)"),
            )
            .advice("shorten it, or send it within a call"));
        }
        let (route, _) = scope.way_out(&request)?;
        let outing = Outing {
            tx: scope.tx_ids.mint(),
            request,
            sequence: 1,
            route,
            auth: Authenticator::new(
                scope.config.account.secret.as_ref(),
                scope.config.account.weakest_digest,
            ),
            attempts: Attempts::default(),
        };
        self.go_out(message.errand, outing);
        Ok(())
    }

    fn go_out(&mut self, id: CallId, outing: Outing) {
        let scope = &mut self.scope;
        scope.owners.insert(outing.tx, id);
        scope.push(Output::SendRequest {
            call: id,
            tx: outing.tx,
            request: outing.request.clone(),
            route: outing.route.clone(),
        });
        self.outside.0.insert(id, outing);
    }

    /// An answer to a request outside of any dialog.
    pub(super) fn answered_outside(&mut self, id: CallId, tx: TxId, response: &SipResponse) {
        let is_its = self.outside.0.get(&id).is_some_and(|outing| outing.tx == tx);
        if !is_its || !response.is_final() {
            return;
        }
        let Some(mut outing) = self.outside.0.remove(&id) else {
            return;
        };
        let scope = &mut self.scope;
        let was = outing.tx;
        scope.owners.remove(was);
        let Outing {
            tx,
            request,
            auth,
            attempts,
            sequence,
            ..
        } = &mut outing;
        if is_challenge(response) && auth.answer(attempts, response, request, scope).is_ok() {
            *tx = scope.tx_ids.mint();
            *sequence += 1;
            let method = request.method.clone();
            request.headers.set(
                "CSeq",
                CSeq {
                    sequence: *sequence,
                    method,
                },
            );
            return self.go_out(id, outing);
        }
        delivered(scope, id, response.status);
    }

    pub(super) fn lost_outside(&mut self, id: CallId, tx: TxId, end: &TxEnd) {
        if self.outside.0.get(&id).is_some_and(|outing| outing.tx == tx) {
            self.outside.0.remove(&id);
            delivered(&mut self.scope, id, status_of(end));
        }
    }

    /// A MESSAGE that belongs to no call.
    pub(super) fn messaged_outside(&mut self, tx: TxId, message: &SipRequest) {
        match read_note(message) {
            Ok(note) => {
                self.scope.respond_outside(tx, message.response(200));
                let (call, kind) = (CallId::fresh(), DialogEventKind::Message(note));
                self.scope.push(Output::Event(DialogEvent { call, kind }));
            }
            Err(refusal) => self.scope.respond_outside(tx, refusal),
        }
    }
}

impl Scope {
    /// The header fields that every request of ours outside of a dialog has.
    pub(super) fn request_outside(&mut self, method: Method, target: &Uri) -> SipRequest {
        let tag = self.token();
        let call_id = self.token() + &self.token();
        let account = &self.config.account;
        let mut from = NameAddr::new(account.aor.address_of_record()).with_tag(tag);
        from.display.clone_from(&account.display_name);
        let mut request = SipRequest::new(method.clone(), target.clone());
        request.headers.push("From", from);
        request.headers.push("To", NameAddr::new(to_uri(target)));
        request.headers.push("Call-ID", call_id);
        request.headers.push("CSeq", CSeq { sequence: 1, method });
        request
    }
}

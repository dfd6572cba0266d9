//! After a panic in the midst of an input: what was in hand is ended, everything else is as it was.

use super::call::{Call, Phase};
use super::end::End;
use super::{Machine, Output, Scope};
use crate::event::{DialogEvent, DialogEventKind, Side};
use siprtc_core::sip::{Method, SipRequest, SipResponse, TxId};
use siprtc_core::{CallId, Cause};
use std::time::Instant;

/// What the peer is told (RFC 3326).
const REASON: &str = "SIP;cause=500;text=\"internal error\"";
const SENTENCE: &str = "a defect of this program ended the call: report it with the log";

/// What an input is about, as long as it is worked on.
#[derive(Default)]
pub(super) struct InHand {
    pub(super) call: Option<CallId>,
    /// The answer of last resort to a request that owes one.
    answer: Option<(TxId, Box<SipResponse>)>,
    /// Even to end it was too much.
    is_condemned: bool,
}

impl InHand {
    pub(super) fn takes(&mut self, tx: TxId, request: &SipRequest) {
        if request.method != Method::Ack {
            self.answer = Some((tx, Box::new(request.response(500))));
        }
    }
}

impl Machine {
    /// To be called when [`Machine::handle`] did not return. The call that was in hand ends with
    /// [`Cause::Internal`]: by BYE, CANCEL or 500; a request in hand is answered 500. Other calls go on. **The drain rule
    /// holds.**
    pub fn recover(&mut self, now: Instant) {
        self.scope.now = self.scope.now.max(now);
        let hand = std::mem::take(&mut self.scope.in_hand);
        match hand.call {
            Some(id) if hand.is_condemned => self.bury(id),
            Some(id) => {
                self.scope.in_hand.is_condemned = true;
                self.with(id, Call::condemn);
            }
            None => {}
        }
        self.scope.in_hand = InHand::default();
        if let Some((tx, response)) = hand.answer {
            let is_answered = |output: &Output| matches!(output, Output::Respond { tx: of, .. } if *of == tx);
            if !self.scope.outputs.iter().any(is_answered) {
                self.scope.respond_outside(tx, *response);
            }
        }
    }

    /// Nothing can be said to its peer any more.
    fn bury(&mut self, id: CallId) {
        if self.calls.get(&id).is_some_and(|call| !call.has_ended()) {
            let kind = DialogEventKind::Ended {
                cause: Cause::Internal,
                by: Side::Local,
                status: None,
                reason: Some(SENTENCE.to_owned()),
                contacts: Vec::new(),
                retry_after: None,
            };
            self.scope.push(Output::Event(DialogEvent { call: id, kind }));
        }
        self.forget(id);
    }
}

impl Call {
    fn condemn(&mut self, scope: &mut Scope) {
        let end = End::local(Cause::Internal, SENTENCE);
        match &self.phase {
            Phase::Inviting(_) => self.refuse(scope, 500, end, Some(REASON.to_owned())),
            Phase::Over => self.end(scope, end),
            _ => self.hang_up(scope, end, Some(REASON.to_owned())),
        }
    }
}

//! Transfers of a call: what its peer asks of us, and what became of what we asked of the peer.

use super::hear::{Heard, Why};
use super::{Call, Input, Output, Told};
use crate::table::On;
use siprtc_core::Cause;
use siprtc_dialog_manager::{DialogEventKind, Referral, Side};

/// A peer's wish that we call somebody else.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// Nobody is asked.
    pub(super) is_granted: bool,
    /// It waits for the application's answer.
    wanted: Option<Referral>,
}

impl Call {
    /// A peer's transfer is taken without a question: [`Output::TakeReferral`].
    pub fn taking_transfers(mut self) -> Self {
        self.wish.is_granted = true;
        self
    }

    /// Whether the application's answer to a transfer makes sense now.
    pub(super) fn is_asked(&self) -> bool {
        self.wish.wanted.is_some() && !self.is_ending()
    }

    pub(super) fn answer_wish(&mut self, input: &Input) {
        let Some(referral) = self.wish.wanted.take() else {
            return;
        };
        self.outputs.push_back(match input {
            Input::RefuseTransfer { status } => Output::ReportReferral(*status),
            _ => Output::TakeReferral(referral),
        });
    }

    /// `None`: nothing that the table knows.
    pub(super) fn hear_referral(&mut self, kind: DialogEventKind) -> Option<Heard> {
        use DialogEventKind as K;
        if self.is_ending() {
            return None;
        }
        let told = match kind {
            K::Referred(referral) if self.wish.is_granted => {
                self.outputs.push_back(Output::TakeReferral(referral));
                return None;
            }
            K::Referred(referral) => {
                self.wish.wanted = Some(referral.clone());
                Told::TransferWanted(referral)
            }
            K::ReferralLapsed => {
                self.wish.wanted = None;
                Told::TransferLapsed
            }
            K::ReferralProgress { status } => Told::TransferProgress(status),
            K::ReferralRefused { status } => Told::TransferRefused(status),
            K::ReferralSucceeded => {
                self.outputs.push_back(Output::Tell(Told::Transferred));
                // RFC 5589 section 6: whoever transferred a call hangs it up.
                return Some(over("the peer was transferred, and talks to somebody else"));
            }
            _ => return None,
        };
        self.outputs.push_back(Output::Tell(told));
        None
    }

    /// Another call has taken this one's place (RFC 3891).
    pub(super) fn hear_replaced(&self) -> Heard {
        over("another call took this one's place (RFC 3891)")
    }
}

fn over(sentence: &str) -> Heard {
    let why = Why::new(Cause::Bye, Side::Local).saying(sentence);
    Heard {
        why: Some(why),
        ..On::Hangup.into()
    }
}

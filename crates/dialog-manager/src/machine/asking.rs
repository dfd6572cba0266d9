//! Calls that we ask others for, outside of any call (REFER, RFC 3515): click-to-dial. The subscription that the REFER makes is one of
//! [`super::subscribe`]; a final word on the call is its last.

use super::Machine;
use super::replaces::Replaces;
use super::standing::Over;
use super::subscribe::Wish;
use super::transfer::{EXPIRES, REFER, SIPFRAG};
use super::words::{check_headers, misuse, push_missing};
use crate::event::{DialogEventKind, ReferralNews};
use crate::message::SendRefer;
use siprtc_core::Result;
use siprtc_core::sip::{Headers, Method};

pub(super) use super::transfer::is_without_news;

impl Machine {
    pub(super) fn send_refer(&mut self, message: SendRefer) -> Result<()> {
        const OPERATION: &str = "ask for a call";
        let id = message.referral;
        self.has_room_for_subscription(OPERATION, id)?;
        let to = self.refer_to(OPERATION, message.to, None)?;
        if Replaces::of_uri(&to).is_err() {
            return Err(misuse(OPERATION, format!("{to} names no dialog in its Replaces"))
                .advice("write ?Replaces= with the escaped name of a dialog, as Call::dialog_name has it"));
        }
        check_headers(OPERATION, &message.headers)?;
        let mut request = self.scope.request_outside(Method::Refer, &message.target);
        // Whose word the application gives comes before ours (RFC 3892).
        let headers = &mut request.headers;
        headers.copy_from(&message.headers, "Referred-By");
        self.scope.dress_refer(headers, &to);
        if !message.news {
            headers.push("Refer-Sub", "false");
        }
        push_missing(headers, &message.headers);
        let wish = Wish {
            event: REFER.to_owned(),
            accept: SIPFRAG.to_owned(),
            headers: Headers::new(),
        };
        self.begin_subscription(id, request, (wish, EXPIRES))
    }
}

pub(super) fn accepted(tells: bool) -> DialogEventKind {
    DialogEventKind::ReferralNews(ReferralNews::Accepted { tells })
}

/// How the call goes.
pub(super) fn went(status: u16) -> DialogEventKind {
    DialogEventKind::ReferralNews(ReferralNews::Answered { status })
}

/// The subscription is over without a final word on the call; `was_accepted`: the REFER was taken.
pub(super) fn over(over: Over, was_accepted: bool) -> DialogEventKind {
    let Over {
        status,
        reason,
        contacts,
        retry_after,
    } = over;
    DialogEventKind::ReferralNews(match (status, was_accepted) {
        (Some(status), false) => ReferralNews::Refused {
            status,
            contacts,
            retry_after,
        },
        (Some(status), true) => ReferralNews::Untold {
            reason: format!("the subscription to its news was answered {status}"),
            retry_after,
        },
        (None, _) => ReferralNews::Untold {
            reason: reason.unwrap_or_default(),
            retry_after,
        },
    })
}

//! Calls that we ask others for, outside of any call (REFER, RFC 3515): click-to-dial. The dialog manager keeps the subscription to their
//! news; the gateway passes them on.

use crate::actor::Gateway;
use crate::calls::ask;
use crate::control::TransferTo;
use crate::machine::Ending;
use crate::messages::GatewayEvent;
use actix::prelude::*;
use siprtc_core::sip::{Headers, Uri};
use siprtc_core::{CallId, Cause, Error, Result};
use siprtc_dialog_manager::{self as dialog, DialogEventKind, ReferralNews, Side};
use std::time::Duration;

/// Asks somebody to call somebody, outside of any call; [`ReferralEvent`]s tell under its id how it goes. [`Unsubscribe`](crate::Unsubscribe)
/// asks for no more of them: the call is made all the same.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault::ApiMisuse) when too many subscriptions stand, for a header field that SIP needs itself,
/// and for a call without a confirmed dialog.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct AskForCall {
    /// Its id, [`CallId::fresh`].
    pub referral: CallId,
    /// Who is asked.
    pub target: Uri,
    /// Whom they shall call.
    pub to: TransferTo,
    /// `false`: how it goes had better not be told (RFC 4488).
    pub news: bool,
    /// More header fields for the REFER.
    pub headers: Headers,
}

/// What becomes of a call that somebody was asked for.
#[derive(Debug)]
pub enum ReferralEvent {
    /// They make it.
    Accepted {
        /// How it goes will be told. `false`: this is the last event.
        tells: bool,
    },
    /// Their call came to nothing: the last event. The status is whoever was called's.
    Failed(Ending),
    /// Their call rings, or is on its way.
    Progress {
        /// 100, 180 ...
        status: u16,
    },
    /// They do not make it: the last event. The status is theirs.
    Refused(Ending),
    /// Their call was answered: the last event.
    Succeeded,
    /// They make it, and nobody will say any more how it goes: the last event.
    Untold {
        /// In a sentence.
        sentence: String,
        /// How long to wait before another try, when they said so.
        retry_after: Option<Duration>,
    },
}

impl ReferralEvent {
    /// Nothing follows.
    pub fn is_last(&self) -> bool {
        match self {
            ReferralEvent::Accepted { tells } => !tells,
            ReferralEvent::Progress { .. } => false,
            _ => true,
        }
    }
}

impl From<ReferralNews> for ReferralEvent {
    fn from(news: ReferralNews) -> Self {
        match news {
            ReferralNews::Accepted { tells } => ReferralEvent::Accepted { tells },
            ReferralNews::Answered { status: 200..=299 } => ReferralEvent::Succeeded,
            ReferralNews::Answered { status } if status < 200 => ReferralEvent::Progress { status },
            ReferralNews::Answered { status } => {
                let sentence =
                    format!("the call that was asked for came to nothing: it was answered {status}");
                ReferralEvent::Failed(ending(status, sentence))
            }
            ReferralNews::Refused {
                status,
                contacts,
                retry_after,
            } => ReferralEvent::Refused(Ending {
                contacts,
                retry_after,
                ..ending(status, refusal(status))
            }),
            ReferralNews::Untold { reason, retry_after } => ReferralEvent::Untold {
                sentence: format!("nobody says how the call goes that was asked for: {reason}"),
                retry_after,
            },
        }
    }
}

fn ending(status: u16, sentence: String) -> Ending {
    Ending {
        cause: Cause::from_status(status),
        by: Side::Remote,
        status: Some(status),
        sentence: Some(sentence),
        contacts: Vec::new(),
        retry_after: None,
        established: false,
        stats: None,
    }
}

fn refusal(status: u16) -> String {
    let next = match status {
        300..=399 => "ask at one of its contacts",
        401 | 407 => "check user and password of the account",
        403 | 603 => "it must be told to take such wishes, from us",
        405 | 501 => "it takes no REFER outside of a call",
        408 => "is it up?",
        503 => "it, or the way there, is out of service: try again later",
        _ => "is it the right address?",
    };
    format!("who was asked does not make the call ({status}): {next}")
}

impl Gateway {
    /// `true`: it was of a call that we asked somebody for.
    pub(crate) fn heard_of_asking(&mut self, id: CallId, kind: &DialogEventKind) -> bool {
        let DialogEventKind::ReferralNews(news) = kind else {
            return false;
        };
        self.tell_all(GatewayEvent::Referral(id, news.clone().into()));
        true
    }
}

impl Handler<AskForCall> for Gateway {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, message: AskForCall, ctx: &mut Context<Self>) -> Self::Result {
        let AskForCall {
            referral,
            target,
            to,
            news,
            headers,
        } = message;
        let refer = dialog::SendRefer {
            referral,
            target,
            to: to.into(),
            news,
            headers,
        };
        let house = self.house(ctx);
        Box::pin(async move { ask(&house?.dialogs, refer).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_told_as_one_and_a_refusal_says_what_next() {
        let event = |status| ReferralEvent::from(ReferralNews::Answered { status });
        assert!(matches!(event(180), ReferralEvent::Progress { status: 180 }));
        assert!(matches!(event(202), ReferralEvent::Succeeded));
        for (status, cause, again) in [
            (486, Cause::Busy, true),
            (404, Cause::NotFound, false),
            (500, Cause::ServerError, true),
            (501, Cause::ServerError, false),
        ] {
            let ReferralEvent::Failed(ending) = event(status) else {
                panic!("{status} is a failure");
            };
            assert_eq!((ending.cause, ending.is_worth_a_retry()), (cause, again));
        }
        let refused = ReferralNews::Refused {
            status: 503,
            contacts: Vec::new(),
            retry_after: Some(Duration::from_secs(60)),
        };
        let ReferralEvent::Refused(ending) = refused.into() else {
            panic!("it is a refusal");
        };
        assert!(ending.is_worth_a_retry());
        assert!(ending.sentence.is_some_and(|sentence| sentence.contains("503")));
        for (tells, is_last) in [(true, false), (false, true)] {
            assert_eq!(
                ReferralEvent::from(ReferralNews::Accepted { tells }).is_last(),
                is_last
            );
        }
    }
}

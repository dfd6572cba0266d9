//! Calls that somebody asks for outside of any call (REFER, RFC 3515): the application is asked, and whoever asked hears how it goes.

use crate::actor::Gateway;
use crate::calls::{Entry, ask};
use crate::messages::{GatewayEvent, MediaPlan};
use actix::prelude::*;
use siprtc_core::sip::{NameAddr, Uri};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{DialogEventKind, Referral};

pub use siprtc_dialog_manager::Notify;

/// Somebody wants us to call somebody. [`AcceptReferral`] or [`RefuseReferral`] answers; after 30 s it is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AskedCall {
    /// Its id, for the answer.
    pub referral: CallId,
    /// Whom to call.
    pub to: Uri,
    /// Who says that it asks (RFC 3892). Nobody has made sure of it.
    pub referred_by: Option<NameAddr>,
    /// The call is to take another one's place (RFC 3891).
    pub replaces: bool,
}

/// Makes the call that somebody asked for.
///
/// Errors: [`Fault::ApiMisuse`] when nobody waits for it (any more), and without room for another call.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct AcceptReferral {
    /// What was asked for.
    pub referral: CallId,
    /// The call's id, [`CallId::fresh`].
    pub new: CallId,
    /// With what media.
    pub media: MediaPlan,
}

/// Does not make the call that somebody asked for.
///
/// Errors: [`Fault::ApiMisuse`] when nobody waits for it (any more), and for a status that refuses nothing.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RefuseReferral {
    /// What was asked for.
    pub referral: CallId,
    /// What they are told: 400 to 699, usually 603.
    pub status: u16,
}

impl Gateway {
    /// `true`: it was of a call that somebody asks for outside of any call.
    pub(crate) fn heard_of_referral(&mut self, id: CallId, kind: &DialogEventKind) -> bool {
        match kind {
            DialogEventKind::Asked(referral) => {
                self.asked.insert(id, referral.clone());
                self.tell_all(GatewayEvent::Asked(AskedCall {
                    referral: id,
                    to: referral.target.clone(),
                    referred_by: referral.referred_by.clone(),
                    replaces: referral.replaces(),
                }));
                true
            }
            // One within a call is that call's.
            DialogEventKind::ReferralLapsed => self.asked.remove(&id).is_some(),
            _ => false,
        }
    }

    fn take_asked(&mut self, operation: &'static str, id: CallId) -> Result<Referral> {
        self.asked.remove(&id).ok_or_else(|| {
            Error::new(
                Fault::ApiMisuse,
                operation,
                format!("nobody waits for the answer to {id}"),
            )
            .advice("answer once, and within 30 s")
        })
    }
}

impl Handler<AcceptReferral> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: AcceptReferral, ctx: &mut Context<Self>) -> Result<()> {
        const OPERATION: &str = "make the call that was asked for";
        let AcceptReferral {
            referral: id,
            new,
            media,
        } = message;
        self.has_room(OPERATION, new)?;
        let referral = self.take_asked(OPERATION, id)?;
        self.report_referral(ctx, id, 100);
        let mut entry = Entry::new(new, "caller", media);
        entry.headers = referral.headers;
        entry.reports_to = Some(id);
        self.begin(ctx, entry, new, referral.target);
        Ok(())
    }
}

impl Handler<RefuseReferral> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: RefuseReferral, ctx: &mut Context<Self>) -> Result<()> {
        const OPERATION: &str = "refuse the call that was asked for";
        let RefuseReferral { referral, status } = message;
        if !(400..700).contains(&status) {
            return Err(
                Error::new(Fault::ApiMisuse, OPERATION, format!("{status} refuses nothing"))
                    .advice("choose a status from 400 to 699, such as 603 (decline)"),
            );
        }
        self.take_asked(OPERATION, referral)?;
        self.report_referral(ctx, referral, status);
        Ok(())
    }
}

impl Handler<Notify> for Gateway {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, message: Notify, ctx: &mut Context<Self>) -> Self::Result {
        let house = self.house(ctx);
        Box::pin(async move { ask(&house?.dialogs, message).await })
    }
}

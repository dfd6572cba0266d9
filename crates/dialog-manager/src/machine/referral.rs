//! Calls that somebody asks for outside of any call (REFER, RFC 3515): click-to-dial. The subscription that the REFER makes is one of
//! [`super::notify`], whose news are the new call's.

use super::notify::{News, Watcher};
use super::timers::Timer;
use super::transfer::{EXPIRES, REFER, THINKING, referral_of, wants_no_news};
use super::words::{misuse, objection};
use super::{Machine, Output};
use crate::event::{DialogEvent, DialogEventKind, Referral};
use crate::message::ReportReferral;
use siprtc_core::sip::{SipRequest, SipResponse, TxId};
use siprtc_core::{CallId, Result};
use std::net::IpAddr;
use std::time::Duration;

/// What is known of a call that somebody asked for.
pub(super) struct Asked {
    status: u16,
    /// Our user has said nothing of it yet.
    is_open: bool,
    /// Nobody wants to hear how it goes (RFC 4488).
    pub(super) is_silent: bool,
}

impl Asked {
    pub(super) fn status(&self) -> u16 {
        self.status
    }
}

impl Machine {
    /// A REFER that belongs to no call.
    pub(super) fn referred_outside(&mut self, tx: TxId, refer: &SipRequest, from: IpAddr) {
        let wanted = self.takes_referral(refer, from);
        let (referral, watcher) = match wanted.and_then(|referral| Ok((referral, self.asking(refer)?))) {
            Ok(wanted) => wanted,
            Err(response) => return self.scope.respond_outside(tx, *response),
        };
        let mut response = refer.response(202);
        if wants_no_news(&refer.headers) {
            response.headers.push("Refer-Sub", "false");
        }
        let asked = self.watched_by(tx, response, watcher, EXPIRES);
        self.scope.set_timer(asked, Timer::ReferralAnswer, THINKING);
        let kind = DialogEventKind::Asked(referral);
        self.scope.push(Output::Event(DialogEvent { call: asked, kind }));
    }

    fn takes_referral(&self, refer: &SipRequest, from: IpAddr) -> Result<Referral, Box<SipResponse>> {
        let control = &self.scope.config.control;
        // Whoever may not would call at our expense.
        if !control.admits(control.referrals, from) {
            return Err(Box::new(refer.response(403)));
        }
        if let Some(response) = objection(self.scope.abilities(), refer) {
            return Err(Box::new(response));
        }
        self.has_room_for_watcher(refer)?;
        referral_of(refer).map_err(|status| Box::new(refer.response(status)))
    }

    fn asking(&mut self, refer: &SipRequest) -> Result<Watcher, Box<SipResponse>> {
        let asked = Asked {
            status: 100,
            is_open: true,
            is_silent: wants_no_news(&refer.headers),
        };
        self.watcher(refer, (REFER.to_owned(), None), News::Referral(asked))
    }

    /// How a call goes that somebody asked for, within a call or outside.
    pub(super) fn report_referral(&mut self, message: ReportReferral) -> Result<()> {
        const OPERATION: &str = "report";
        let ReportReferral { call: id, status } = message;
        if !(100..700).contains(&status) {
            return Err(misuse(OPERATION, format!("{status} is no status")));
        }
        if let Some(News::Referral(asked)) = self.news(id) {
            let was = std::mem::replace(&mut asked.is_open, false);
            let changes = status > asked.status;
            if changes {
                asked.status = status;
            }
            if was {
                self.scope.timers.cancel(id, Timer::ReferralAnswer);
            }
            if changes {
                self.referral_news(id, status);
            }
            return Ok(());
        }
        // One that has ended is there as long as somebody waits for the news.
        let Some(call) = self.calls.get_mut(&id) else {
            return Err(misuse(OPERATION, format!("nobody waits for news in {id}"))
                .advice("report after Referred or Asked, until a final status"));
        };
        self.scope.in_hand.call = Some(id);
        let done = call.report_referral(&mut self.scope, status);
        self.reap(id);
        done
    }

    fn referral_news(&mut self, id: CallId, status: u16) {
        if status >= 200 {
            return self.end_watcher(id, "noresource");
        }
        self.renew_watcher(id, Duration::from_secs(EXPIRES.into()));
        self.tell_watcher(id);
    }

    /// Our user has thought for too long.
    pub(super) fn asked_in_vain(&mut self, id: CallId) {
        let lapsed = ReportReferral {
            call: id,
            status: 603,
        };
        if self.report_referral(lapsed).is_ok() {
            let kind = DialogEventKind::ReferralLapsed;
            self.scope.push(Output::Event(DialogEvent { call: id, kind }));
        }
    }
}

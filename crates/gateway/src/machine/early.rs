//! Offers before a call is answered (RFC 3311): by an UPDATE of either side, in the early dialog whose answer is applied.

use super::Call;
use super::hear::Heard;
use crate::table::{Jsep, On, Sip};
use siprtc_dialog_manager::DialogTag;

impl Call {
    /// Nobody has answered, and an early dialog is there.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.sip, Sip::Early | Sip::EarlyOffered | Sip::EarlyOffering)
    }

    /// An UPDATE of ours may offer. While several early dialogs have a media peer it waits for the 2xx, which leaves one.
    pub(super) fn offers_early(&self) -> bool {
        let is_taken = match self.has_progressed() {
            true => self.early_media.takes_offers(),
            false => self.is_early() && self.early.is_some() && self.takes_early_offers == self.early,
        };
        is_taken && self.has_agreed && !self.forks.is_forked()
    }

    /// A negotiation begins.
    pub(super) fn offer_anew(&mut self) {
        if self.is_early() {
            self.forks.close();
        }
    }

    /// Whether the application may want something else of the media.
    pub(super) fn may_change(&self) -> bool {
        matches!(self.sip, Sip::Confirmed | Sip::ReInviting | Sip::ReOffered) || self.offers_early()
    }

    /// There is a session to fall back on.
    pub(super) fn has_session(&self) -> bool {
        self.confirmed || (self.is_early() || self.has_progressed()) && self.has_agreed
    }

    /// That early dialog takes offers, which means something of the one whose answer is, or will be, applied.
    pub(super) fn may_offer_in(&mut self, dialog: &DialogTag) {
        if self.early.as_ref().is_none_or(|early| early == dialog) {
            self.takes_early_offers = Some(dialog.clone());
        }
    }

    /// The peer offers. `None`: in an early dialog with which this call's media peer has nothing to do, or which is one of several that
    /// have a media peer.
    pub(super) fn hear_offer(&self, dialog: DialogTag, sdp: Option<String>) -> Option<Heard> {
        let is_other = self.early.as_ref() != Some(&dialog);
        if self.is_early() && (is_other || self.forks.is_forked()) {
            return None;
        }
        let dialog = self.is_early().then_some(dialog);
        let on = if sdp.is_some() {
            On::Offered
        } else {
            On::OfferedOfferless
        };
        Some(Heard {
            sdp,
            dialog,
            ..on.into()
        })
    }

    /// An offer of ours in an early dialog came to nothing, whatever was said of it. Not glare: nobody says whether the peer's offer
    /// follows, for its dialog may be gone.
    pub(super) fn is_offering_early(&self) -> bool {
        match (self.sip, self.jsep) {
            (Sip::EarlyOffering, Jsep::HaveLocalOffer) => true,
            // Without a session it is the offer in our 183.
            (Sip::Progressed, Jsep::HaveLocalOffer) => self.has_agreed,
            _ => false,
        }
    }
}

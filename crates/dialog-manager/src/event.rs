//! What a dialog manager reports.

use actix::prelude::*;
use siprtc_core::sip::NameAddr;
use siprtc_core::{CallId, Cause};
use std::fmt;

/// Something happened to a call.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct DialogEvent {
    /// Which call.
    pub call: CallId,
    /// What.
    pub kind: DialogEventKind,
}

/// What happened. The SDP of a message is given as it came; a body that is no `application/sdp` is none.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a few events a call: a plain `match` is worth more than the octets"
)]
pub enum DialogEventKind {
    /// Caller: the first 2xx; its ACK is already sent. A 2xx of another fork is acknowledged and hung up without a word.
    Answered {
        /// The dialog that was confirmed; every other early dialog is gone.
        dialog: DialogTag,
        /// The answer.
        sdp: Option<String>,
    },
    /// Callee: the ACK of our 200 arrived.
    Confirmed {
        /// The answer, when our 200 carried the offer.
        sdp: Option<String>,
    },
    /// The call is over. Exactly once for every call, and its last event.
    Ended {
        /// Why, in one word.
        cause: Cause,
        /// Who ended it; timers and transport failures are `Local`.
        by: Side,
        /// The final answer that ended it, when one did.
        status: Option<u16>,
        /// Why, in a sentence: whose fault it is and what to do next.
        reason: Option<String>,
    },
    /// A peer calls. [`Ring`](crate::Ring), [`Accept`](crate::Accept), [`Reject`](crate::Reject) or
    /// [`Hangup`](crate::Hangup) answers.
    Incoming {
        /// The SIP Call-ID.
        sip_call_id: String,
        /// The caller, with its tag.
        from: NameAddr,
        /// Whom the caller asked for.
        to: NameAddr,
        /// The offer; `None` for an offerless INVITE: then [`Accept`](crate::Accept) carries the offer.
        offer: Option<String>,
    },
    /// Our re-INVITE was accepted.
    OfferAnswered {
        /// The answer.
        sdp: Option<String>,
    },
    /// The peer's re-INVITE, that we accepted, is acknowledged (for an UPDATE: right after our 200).
    OfferConfirmed {
        /// The answer, when our 200 carried the offer.
        sdp: Option<String>,
    },
    /// An offer came to nothing and the session stays as it was: our re-INVITE was refused; or, while the peer's offer
    /// waited for our answer, the peer withdrew it (487) or our answer came too late (500). 491 means that both sides
    /// offered at once and the peer's offer goes first.
    OfferRejected {
        /// The final answer of that re-INVITE or UPDATE.
        status: u16,
    },
    /// A re-INVITE, or an UPDATE with an offer. [`AcceptOffer`](crate::AcceptOffer) or
    /// [`RejectOffer`](crate::RejectOffer) answers.
    Offered {
        /// The offer; `None` asks us for one.
        sdp: Option<String>,
    },
    /// Caller: a provisional answer above 100. One To-tag is one early dialog (RFC 3261 section 12.1).
    Ringing {
        /// Which early dialog; empty when the answer had no To-tag.
        dialog: DialogTag,
        /// 180, 183 ...
        status: u16,
        /// Early media, when the answer had SDP.
        sdp: Option<String>,
    },
    /// Caller: the INVITE is out.
    Started {
        /// The SIP Call-ID.
        sip_call_id: String,
    },
    /// Caller: 100, the next hop has the INVITE.
    Trying,
}

/// The To-tag that names one dialog among a call's forks.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DialogTag(pub String);

impl fmt::Display for DialogTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the two ends of a call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// We.
    Local,
    /// The peer, or the network on its behalf.
    Remote,
}

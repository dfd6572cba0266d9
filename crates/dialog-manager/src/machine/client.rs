//! A call's client transactions.

use super::auth::Attempts;
use siprtc_core::sip::{Route, SipRequest, SipResponse, TxId};

/// What a client transaction is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Bye,
    /// A MESSAGE, or a digit.
    Errand,
    /// Hangs up a fork that answered too late: its end is nobody's business.
    ForkBye,
    Info,
    Invite,
    /// How the call goes that the peer asked for.
    Notify,
    /// Acknowledges a reliable 18x.
    Prack,
    Refer,
    /// An UPDATE without SDP (RFC 4028).
    Refresh,
    Reinvite,
    /// An UPDATE with an offer (RFC 3311).
    Update,
}

/// A client transaction, until the stack says that it has ended.
pub(super) struct Client {
    pub(super) tx: TxId,
    pub(super) purpose: Purpose,
    pub(super) request: SipRequest,
    pub(super) sequence: u32,
    pub(super) attempts: Attempts,
    /// The ACKs of its 2xx by To-tag, for retransmitted 2xx.
    pub(super) acks: Vec<(String, SipRequest)>,
    /// A final answer is here.
    pub(super) finished: bool,
    pub(super) route: Route,
}

/// What [`super::call::Call::send`] makes a [`Client`] of.
pub(super) struct Departure {
    pub(super) purpose: Purpose,
    pub(super) request: SipRequest,
    pub(super) sequence: u32,
    pub(super) attempts: Attempts,
    pub(super) route: Route,
}

impl Departure {
    /// A request within a dialog, see [`super::call::Call::way`].
    pub(super) fn within(purpose: Purpose, (request, sequence): (SipRequest, u32), route: Route) -> Self {
        Departure {
            purpose,
            request,
            sequence,
            attempts: Attempts::default(),
            route,
        }
    }
}

impl Client {
    /// Nothing more can come of it that we would have to answer.
    pub(super) fn is_settled(&self) -> bool {
        self.finished && self.acks.is_empty()
    }
}

pub(super) fn is_challenge(response: &SipResponse) -> bool {
    matches!(response.status, 401 | 407)
}

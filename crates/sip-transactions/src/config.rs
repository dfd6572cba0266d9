//! What a machine is made with, and what it says.

use bytes::Bytes;
use siprtc_core::sip::{SipRequest, SipResponse, TimerConfig, TxEnd, TxId};
use std::time::Duration;

/// Most finished transactions that are kept to absorb copies; beyond it the oldest is dropped first.
///
/// At 12,000 transactions per second, 64*T1 of them are 384,000.
pub const MAX_FINISHED: usize = 500_000;

/// How long an INVITE may stay without a final answer, on either side, before its user is taken for dead.
pub const MAX_PROCEEDING: Duration = Duration::from_secs(3600);

/// RFC 3261 section 17.2.1: when an INVITE that its user has not answered gets a 100 Trying.
pub const TRYING_AFTER: Duration = Duration::from_millis(200);

/// Seconds after which whoever got a 503, because there are too many transactions, may try again.
pub const RETRY_AFTER: u32 = 10;

/// Where a message goes to, or came from. A machine only copies it.
pub trait Path: Clone + PartialEq {
    /// Whether the transport itself retransmits: timers A, E and G do not run on it, and D, I, J and K are zero.
    fn is_reliable(&self) -> bool;
}

/// How a machine behaves.
#[derive(Clone, Copy, Debug)]
pub struct TransactionsConfig {
    /// T1, T2 and T4.
    pub timers: TimerConfig,
    /// Most transactions without a final answer, client and server together. Beyond it a request out is an error and a
    /// request in is answered 503. (Those that have had theirs and only absorb copies: [`MAX_FINISHED`].)
    pub max_transactions: usize,
}

/// What a machine wants done, in the order in which it wants it.
#[derive(Clone, Debug)]
pub enum Output<P> {
    /// An ACK for a 2xx: end to end, in no transaction.
    Ack {
        /// The ACK.
        request: SipRequest,
        /// Where it came from.
        path: P,
    },
    /// A CANCEL for an INVITE without a final answer; the CANCEL itself has been answered. Once for each INVITE.
    Cancelled {
        /// The INVITE's transaction.
        invite: TxId,
    },
    /// The transaction is over for its user. Once for each that [`Transactions::send_request`] has taken or that
    /// [`Output::Request`] has told of, and nothing about it comes after it.
    ///
    /// [`Transactions::send_request`]: crate::Transactions::send_request
    Ended {
        /// Which.
        tx: TxId,
        /// How.
        end: TxEnd,
    },
    /// A new request, which wants an answer.
    Request {
        /// The new server transaction; its id is of [`TxOwner::STACK`](siprtc_core::sip::TxOwner::STACK).
        tx: TxId,
        /// The request as it was received.
        request: SipRequest,
        /// Where it came from.
        path: P,
    },
    /// An answer to a request of ours.
    Response {
        /// The client transaction.
        tx: TxId,
        /// The answer as it was received.
        response: SipResponse,
        /// Where it came from.
        path: P,
    },
    /// A message to send.
    Send {
        /// Where to.
        path: P,
        /// The message.
        bytes: Bytes,
        /// Whose message: what [`Transactions::failed`](crate::Transactions::failed) wants to hear if it cannot be
        /// sent. `None` for an answer in no transaction.
        tx: Option<TxId>,
    },
}

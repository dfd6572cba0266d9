//! What goes into the machine and what comes out of it.

use crate::{RegistrationEvent, RegistrationFailure};
use siprtc_core::sip::{FlowId, Route, SipRequest, SipResponse, TxEnd, TxId};

/// What the machine is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// A transaction is over, or could not even begin.
    Ended { tx: TxId, end: TxEnd },
    /// A flow is gone.
    FlowDown { id: FlowId, reason: String },
    /// The application wants to be registered.
    Register,
    /// An answer to a REGISTER.
    Response {
        tx: TxId,
        response: SipResponse,
        flow: Option<FlowId>,
    },
    /// The time of [`Machine::poll_timeout`](crate::machine::Machine::poll_timeout) has come.
    Timeout,
    /// The application wants to be registered no more.
    Unregister,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Every [`Input::Unregister`] so far is answered: `Err` is a sentence without a subject and an advice.
    Left(Result<(), LeaveFailure>),
    /// Tell the application.
    Report(RegistrationEvent),
    /// Send it.
    Send {
        tx: TxId,
        request: Box<SipRequest>,
        route: Route,
    },
}

/// Why we cannot say that the binding is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LeaveFailure {
    pub(crate) cause: RegistrationFailure,
    pub(crate) sentence: String,
    pub(crate) advice: String,
}

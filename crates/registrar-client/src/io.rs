//! What goes into the machine and what comes out of it.

use crate::{RegistrationEvent, RegistrationFailure};
use siprtc_core::sip::{Flow, FlowId, Keepalive, NameAddr, Route, SipRequest, SipResponse, TxEnd, TxId};
use std::net::SocketAddr;

/// What the machine is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// A transaction is over, or could not even begin.
    Ended { tx: TxId, end: TxEnd },
    /// A flow is gone.
    FlowDown { id: FlowId, reason: String },
    /// A keepalive was answered.
    KeepaliveAnswered { id: FlowId, mapped: Option<SocketAddr> },
    /// This host's addresses changed: it is reached at `contact` from now on.
    Moved { contact: NameAddr },
    /// The application wants to be registered.
    Register,
    /// An answer to a REGISTER.
    Response {
        tx: TxId,
        response: SipResponse,
        flow: Option<Flow>,
    },
    /// The time of [`Machine::poll_timeout`](crate::machine::Machine::poll_timeout) has come.
    Timeout,
    /// The application wants to be registered no more.
    Unregister,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Close it: it is dead.
    CloseFlow(FlowId),
    /// Send one on the flow.
    Keepalive { flow: FlowId, kind: Keepalive },
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

/// What one flow's registration has to say to the machine.
#[derive(Debug)]
pub(crate) enum Note {
    /// The REGISTER was accepted.
    Bound {
        registrar: String,
        expires: std::time::Duration,
        contacts: usize,
        /// Not a mere refresh.
        changed: bool,
    },
    /// A REGISTER came to nothing, or the flow broke.
    Failed {
        cause: RegistrationFailure,
        sentence: String,
        retry_in: Option<std::time::Duration>,
    },
    /// Nothing of it is registered any more, as was asked.
    Left(Result<(), LeaveFailure>),
}

/// Why we cannot say that the binding is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LeaveFailure {
    pub(crate) cause: RegistrationFailure,
    pub(crate) sentence: String,
    pub(crate) advice: String,
}

#![doc = include_str!("../README.md")]

mod actor;
mod answer;
mod config;
mod digest;
mod entropy;
mod failure;
mod io;
mod keepalive;
mod leg;
mod machine;
mod pace;
mod request;
mod scope;
mod targets;

#[cfg(test)]
mod tests;

pub use actor::RegistrarClient;
pub use config::{Backoff, RegistrarConfig};

use actix::Message;
use siprtc_core::Error;
use siprtc_core::sip::{Flow, NameAddr, SipUri, StackEvent};
use std::fmt;
use std::time::Duration;

/// Begins to keep the address-of-record registered. Asked again while it is being kept: nothing changes. Asked after
/// the client has given up: it begins anew, at the first registrar.
///
/// Resolves at once; how it went comes as a [`RegistrationEvent`]. Fails with
/// [`Fault::ConfigInvalid`](siprtc_core::Fault) when the configuration cannot work.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Register;

/// Removes our binding, and only ours (RFC 3261 section 10.2.2), and keeps nothing registered from then on.
///
/// A REGISTER in flight is waited for first: a registrar must not see two at once from one user agent
/// (section 10.2). Resolves when the registrar has answered, or with [`Fault::TimedOut`](siprtc_core::Fault) after
/// two seconds; the binding then ends by itself when it expires.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Unregister;

/// This host's addresses have changed: it is reached at `contact` from now on, which may be what it was.
///
/// What is registered is registered again at once, over a flow from the new address, by the same Call-ID with the next CSeq
/// (RFC 3261 section 10.2.4), and so is what waits for its turn after a failure that another network may have mended; a
/// registrar's Retry-After holds. A REGISTER in flight is waited for first (section 10.2). The binding of the address
/// that is gone is replaced where the registrar keeps flows (RFC 5626 section 6), and else removed by the same request,
/// with `expires=0`. A [`RegistrationEvent::Registered`] tells that it is done.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Moved {
    /// As [`RegistrarConfig::contact`].
    pub contact: NameAddr,
}

/// What the stack has to say: every event whose transaction is owned by this client, every `FlowDown` and every
/// `KeepaliveAnswered`. Others are ignored.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct FromStack(pub StackEvent);

/// How the registration is doing.
#[derive(Clone, Debug, Eq, Message, PartialEq)]
#[rtype(result = "()")]
#[allow(
    clippy::large_enum_variant,
    reason = "a few events a registration: a plain `match` is worth more than the octets"
)]
pub enum RegistrationEvent {
    /// A REGISTER came to nothing, and the address-of-record is not registered over another flow either.
    Failed {
        /// Why.
        cause: RegistrationFailure,
        /// Whose fault it is and what to do next.
        sentence: String,
        /// When it is tried again: zero at the next registrar in the list, `None` when the client has given up
        /// because asking again would get the same answer.
        retry_in: Option<Duration>,
    },
    /// One of several flows failed (RFC 5626); the address-of-record is still registered over another one.
    FlowFailed {
        /// Why.
        cause: RegistrationFailure,
        /// Whose fault it is and what to do next.
        sentence: String,
        /// When the flow is tried again; `None` when it is not.
        retry_in: Option<Duration>,
    },
    /// A flow is gone. Those that are left, best first, as in [`RegistrationEvent::Registered`].
    FlowsChanged {
        /// Over these the registrar reaches us, and we it.
        flows: Vec<Flow>,
    },
    /// The binding was prolonged at the same registrar.
    Refreshed {
        /// How long it now lasts.
        expires: Duration,
    },
    /// Registered: for the first time, again after a failure, at another registrar than before, over one more flow, with
    /// another contact, or with another public GRUU.
    Registered {
        /// The URI of the registrar.
        registrar: String,
        /// How long the binding lasts.
        expires: Duration,
        /// How many contacts the address-of-record has now, ours among them.
        contacts: usize,
        /// The flows over which the registrar reaches us, and we it, best first. Empty when
        /// [`RegistrarConfig::flows`] is 0.
        flows: Vec<Flow>,
        /// The registrar keeps flows (RFC 5626): requests to us come over one of these only.
        outbound: bool,
        /// A URI that reaches this very device from everywhere (RFC 5627), when the registrar gives one.
        public_gruu: Option<SipUri>,
        /// One that does not tell the address-of-record. Every REGISTER brings a new one; this is that of the last event.
        temporary_gruu: Option<SipUri>,
    },
    /// Asked for by [`Unregister`]: nothing is kept registered any more.
    Unregistered,
}

/// Why a REGISTER came to nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RegistrationFailure {
    /// 403: the registrar knows us and refuses.
    Forbidden,
    /// An answer that breaks RFC 3261 section 10.3, such as a 200 without our contact.
    Malformed,
    /// Any other refusal, with its status.
    Rejected(u16),
    /// 5xx, with its status.
    ServerError(u16),
    /// No answer in time (timer F), or 408.
    TimedOut,
    /// 404, 410 or 604: the registrar does not know the address-of-record.
    UnknownUser,
    /// The transport failed, or the connection was lost or is dead.
    Unreachable,
    /// The strongest digest that the server offers is weaker than what we send.
    WeakChallenge,
    /// The registrar or a proxy refused a digest that was computed over its own fresh nonce, or asked for credentials
    /// and none are configured.
    WrongCredentials,
}

impl fmt::Display for RegistrationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistrationFailure::Forbidden => f.write_str("forbidden"),
            RegistrationFailure::Malformed => f.write_str("malformed answer"),
            RegistrationFailure::Rejected(status) => write!(f, "rejected with {status}"),
            RegistrationFailure::ServerError(status) => write!(f, "server error {status}"),
            RegistrationFailure::TimedOut => f.write_str("timed out"),
            RegistrationFailure::UnknownUser => f.write_str("unknown user"),
            RegistrationFailure::Unreachable => f.write_str("unreachable"),
            RegistrationFailure::WeakChallenge => f.write_str("weak challenge"),
            RegistrationFailure::WrongCredentials => f.write_str("wrong credentials"),
        }
    }
}

#![doc = include_str!("../README.md")]

mod actor;
mod answer;
mod config;
mod digest;
mod entropy;
mod failure;
mod io;
mod machine;
mod pace;
mod request;
mod targets;

#[cfg(test)]
mod tests;

pub use actor::RegistrarClient;
pub use config::{Backoff, RegistrarConfig};

use actix::Message;
use siprtc_core::Error;
use siprtc_core::sip::StackEvent;
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

/// What the stack has to say: every event whose transaction is owned by this client, and every `FlowDown`. Others are
/// ignored.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct FromStack(pub StackEvent);

/// How the registration is doing.
#[derive(Clone, Debug, Eq, Message, PartialEq)]
#[rtype(result = "()")]
pub enum RegistrationEvent {
    /// A REGISTER came to nothing.
    Failed {
        /// Why.
        cause: RegistrationFailure,
        /// Whose fault it is and what to do next.
        sentence: String,
        /// When it is tried again: zero at the next registrar in the list, `None` when the client has given up
        /// because asking again would get the same answer.
        retry_in: Option<Duration>,
    },
    /// The binding was prolonged at the same registrar.
    Refreshed {
        /// How long it now lasts.
        expires: Duration,
    },
    /// Registered: for the first time, again after a failure, or at another registrar than before.
    Registered {
        /// The URI of the registrar.
        registrar: String,
        /// How long the binding lasts.
        expires: Duration,
        /// How many contacts the address-of-record has now, ours among them.
        contacts: usize,
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
    /// The transport failed, or the connection was lost.
    Unreachable,
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
            RegistrationFailure::WrongCredentials => f.write_str("wrong credentials"),
        }
    }
}

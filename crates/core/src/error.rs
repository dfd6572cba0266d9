//! One error type for every port: whose fault it is, what was being done, and what to do next.

use std::error::Error as StdError;
use std::fmt;

/// Shorthand for results of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The caller of this library used it in a way it forbids.
    ApiMisuse,
    /// The library or the operating system below a port failed.
    Backend,
    /// The configuration is wrong.
    ConfigInvalid,
    /// The peer did nothing wrong, but shares no way of talking with us.
    PeerIncompatible,
    /// The peer broke a rule of its protocol.
    PeerMisbehaved,
    /// Nobody answered in time.
    TimedOut,
    /// The chosen backend cannot do what was asked.
    Unsupported,
}

impl Fault {
    /// The word used in logs and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::ApiMisuse => "api_misuse",
            Fault::Backend => "backend",
            Fault::ConfigInvalid => "config_invalid",
            Fault::PeerIncompatible => "peer_incompatible",
            Fault::PeerMisbehaved => "peer_misbehaved",
            Fault::TimedOut => "timed_out",
            Fault::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, whose fault it is and what to do next.
///
/// ```
/// use siprtc_core::{Error, Fault};
/// let error = Error::new(Fault::ConfigInvalid, "load configuration", "sip.stack = \"foo\" is not known")
///     .advice("choose one of: ezk");
/// assert_eq!(error.to_string(), "load configuration: sip.stack = \"foo\" is not known; choose one of: ezk");
/// ```
#[derive(Debug)]
pub struct Error {
    fault: Fault,
    operation: &'static str,
    message: String,
    backend: Option<&'static str>,
    advice: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `operation` ("send INVITE"), told in one `message`.
    pub fn new(fault: Fault, operation: &'static str, message: impl Into<String>) -> Self {
        Error {
            fault,
            operation,
            message: message.into(),
            backend: None,
            advice: None,
            source: None,
        }
    }

    /// What the reader should do next.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The plugin in which it happened ("ezk").
    #[must_use]
    pub fn backend(mut self, name: &'static str) -> Self {
        self.backend = Some(name);
        self
    }

    /// The error below this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The plugin in which it happened.
    pub fn backend_name(&self) -> Option<&'static str> {
        self.backend
    }

    /// The sentence without operation and advice.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    pub fn next_step(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if let Some(backend) = self.backend {
            write!(f, " ({backend})")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_operation_backend_message_source_and_advice_in_one_line() {
        let error = Error::new(Fault::Backend, "send INVITE", "the socket is gone")
            .backend("ezk")
            .caused_by(std::io::Error::other("broken pipe"))
            .advice("start the stack again");
        assert_eq!(
            error.to_string(),
            "send INVITE (ezk): the socket is gone: broken pipe; start the stack again"
        );
        assert_eq!(
            (error.fault(), error.operation()),
            (Fault::Backend, "send INVITE")
        );
        assert_eq!(
            (error.backend_name(), error.message()),
            (Some("ezk"), "the socket is gone")
        );
        assert_eq!(error.next_step(), Some("start the stack again"));
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("broken pipe")
        );
    }

    #[test]
    fn an_error_with_nothing_added_is_operation_and_message() {
        let error = Error::new(Fault::TimedOut, "send INVITE", "nobody answered");
        assert_eq!(error.to_string(), "send INVITE: nobody answered");
        assert!(error.source().is_none() && error.next_step().is_none() && error.backend_name().is_none());
        assert_eq!(error.fault().to_string(), "timed_out");
    }
}

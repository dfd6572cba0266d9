//! Exit codes: what a script needs to know.

use siprtc_core::{Cause, Error, Fault};
use std::process::ExitCode;

/// The end of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  it worked                         5  the callee is busy, declined, absent or did not answer
  1  a defect of siprtc or the system  6  no media in common, or a peer that breaks its protocol
  2  wrong command line or key         7  the media path failed, or the recording did
  3  credentials were refused          8  what was heard is not what was played
  4  no server or peer answered";

/// Why the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Ok = 0,
    Internal = 1,
    Usage = 2,
    Credentials = 3,
    Unreachable = 4,
    Refused = 5,
    Incompatible = 6,
    Media = 7,
    Different = 8,
}

impl Exit {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    pub(crate) fn of_error(error: &Error) -> Self {
        match error.fault() {
            Fault::ApiMisuse | Fault::ConfigInvalid | Fault::Unsupported => Exit::Usage,
            Fault::PeerIncompatible | Fault::PeerMisbehaved => Exit::Incompatible,
            Fault::TimedOut => Exit::Unreachable,
            _ => Exit::Internal,
        }
    }

    pub(crate) fn of_cause(cause: Cause) -> Self {
        match cause {
            Cause::Bye => Exit::Ok,
            Cause::AuthenticationFailed => Exit::Credentials,
            Cause::ConnectionFailed | Cause::TimedOut => Exit::Unreachable,
            Cause::IncompatibleMedia | Cause::ProtocolError => Exit::Incompatible,
            Cause::MediaFailed => Exit::Media,
            Cause::Internal => Exit::Internal,
            _ => Exit::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_final_answer_has_an_exit_code_of_its_kind() {
        assert_eq!(Exit::of_cause(Cause::from_status(486)), Exit::Refused);
        assert_eq!(Exit::of_cause(Cause::from_status(488)), Exit::Incompatible);
        assert_eq!(Exit::of_cause(Cause::from_status(407)), Exit::Credentials);
        assert_eq!(Exit::of_cause(Cause::from_status(503)), Exit::Unreachable);
    }

    #[test]
    fn the_help_names_every_code() {
        (0..=8).for_each(|code| assert!(HELP.contains(&format!(" {code}  ")), "{code}"));
    }
}

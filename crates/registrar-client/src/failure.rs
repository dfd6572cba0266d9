//! From an answer, or the lack of one, to a cause, a sentence and whether asking again makes sense.

use crate::RegistrationFailure;
use crate::digest::Refusal;
use siprtc_core::sip::SipResponse;
use std::time::Duration;

/// A REGISTER that came to nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) cause: RegistrationFailure,
    /// What happened, a clause whose subject is the registrar.
    what: String,
    /// What a person should do.
    advice: &'static str,
    /// Asking again, here or elsewhere, would get the same answer.
    pub(crate) is_final: bool,
    /// The registrar shall be left alone for this long.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn unreachable(reason: &str) -> Self {
        let what = format!("cannot be reached ({reason})");
        Failure::passing(
            RegistrationFailure::Unreachable,
            what,
            "check the registrar's address and the network",
        )
    }

    pub(crate) fn flow_lost(reason: &str) -> Self {
        let what = format!("closed the connection or it broke ({reason})");
        Failure::passing(
            RegistrationFailure::Unreachable,
            what,
            "nothing to do unless it happens again and again",
        )
    }

    pub(crate) fn flow_silent() -> Self {
        let what = format!(
            "did not answer a keepalive within {} s: the flow is dead",
            crate::keepalive::Watch::PONG.as_secs()
        );
        Failure::passing(
            RegistrationFailure::Unreachable,
            what,
            "nothing to do unless it happens again and again",
        )
    }

    pub(crate) fn timed_out() -> Self {
        Failure::passing(
            RegistrationFailure::TimedOut,
            "did not answer in time".to_owned(),
            "check that a SIP server listens there and that no firewall drops the messages",
        )
    }

    pub(crate) fn malformed(what: String) -> Self {
        Failure::passing(
            RegistrationFailure::Malformed,
            what,
            "the server breaks RFC 3261 section 10.3: show this to whoever runs it",
        )
    }

    pub(crate) fn endless(status: u16) -> Self {
        Failure::passing(
            RegistrationFailure::Rejected(status),
            format!("answered {status} again and again, whatever it was sent"),
            "show this to whoever runs the server",
        )
    }

    /// A 423 whose Min-Expires does not help.
    pub(crate) fn interval(min_expires: Option<u32>, asked: u32) -> Self {
        let what = match min_expires {
            Some(least) => format!("answered 423 to {asked} seconds and wants at least {least}"),
            None => format!("answered 423 to {asked} seconds without a readable Min-Expires"),
        };
        Failure::passing(
            RegistrationFailure::Rejected(423),
            what,
            "choose another `expires`",
        )
    }

    pub(crate) fn refusal(status: u16, refusal: Refusal) -> Self {
        let wrong = |what: &str, advice| Failure {
            is_final: true,
            ..Failure::passing(RegistrationFailure::WrongCredentials, what.to_owned(), advice)
        };
        match refusal {
            Refusal::Malformed(what) => {
                Failure::malformed(format!("answered {status} with a bad challenge: {what}"))
            }
            Refusal::NoSecret => wrong(
                "asks for a password and none is configured",
                "configure the account's user name and password",
            ),
            Refusal::Unsupported(what) => Failure {
                is_final: true,
                ..Failure::passing(
                    RegistrationFailure::Rejected(status),
                    format!("asks for credentials that we cannot give: {what}"),
                    "let the server offer MD5 or SHA-256",
                )
            },
            Refusal::Weak { offered, weakest } => Failure {
                is_final: true,
                ..Failure::passing(
                    RegistrationFailure::WeakChallenge,
                    format!(
                        "offers a digest over {offered} at best, and nothing weaker than {weakest} is answered"
                    ),
                    "let the server offer a stronger one, or lower the account's weakest digest",
                )
            },
            Refusal::Wrong => wrong(
                "refused the user name and password",
                "check the account's user name and password",
            ),
        }
    }

    /// Any other final answer than 2xx, 401, 407 and 423.
    pub(crate) fn status(response: &SipResponse) -> Self {
        let status = response.status;
        let (cause, advice, is_final) = verdict(status);
        let retry_after = response.headers.retry_after().ok().flatten();
        Failure {
            cause,
            what: format!("answered {status} {}", printable(&response.reason)),
            advice,
            is_final,
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into()).min(MAX_RETRY_AFTER)),
        }
    }

    /// `next` is what happens next, or nothing when the client has given up.
    pub(crate) fn sentence(&self, registrar: &str, aor: &str, next: Option<String>) -> String {
        let next = next.unwrap_or_else(|| "not tried again until asked to".to_owned());
        format!(
            "register {aor}: {registrar} {}; {}; {next}",
            self.what, self.advice
        )
    }

    /// What happened, without what to do.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// What to do.
    pub(crate) fn advice(&self) -> &'static str {
        self.advice
    }

    fn passing(cause: RegistrationFailure, what: String, advice: &'static str) -> Self {
        Failure {
            cause,
            what,
            advice,
            is_final: false,
            retry_after: None,
        }
    }
}

/// Cause, advice, and whether the same REGISTER would get the same answer again (RFC 3261 section 21.4: "the client
/// SHOULD NOT retry the same request without modification"). The others may pass by themselves.
fn verdict(status: u16) -> (RegistrationFailure, &'static str, bool) {
    match status {
        300..=399 => (
            RegistrationFailure::Rejected(status),
            "the account lives elsewhere: configure that registrar, a REGISTER with credentials is not sent where \
             an unauthenticated answer points",
            true,
        ),
        403 => (
            RegistrationFailure::Forbidden,
            "ask whoever runs the server whether this account may register from here",
            true,
        ),
        404 | 410 | 604 => (
            RegistrationFailure::UnknownUser,
            "check the address-of-record for spelling",
            true,
        ),
        408 => (
            RegistrationFailure::TimedOut,
            "a proxy is there and the registrar behind it is not: show this to whoever runs it",
            false,
        ),
        429 | 480 | 486 | 491 => (
            RegistrationFailure::Rejected(status),
            "it should pass by itself",
            false,
        ),
        500..=599 => (
            RegistrationFailure::ServerError(status),
            "the fault is on the server's side and may pass by itself",
            false,
        ),
        _ => (
            RegistrationFailure::Rejected(status),
            "it refuses what this client sends: show this to whoever runs the server",
            true,
        ),
    }
}

/// A reason phrase is the peer's text: cut to a length that fits a line, without control characters.
fn printable(reason: &str) -> String {
    reason
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON)
        .collect()
}

/// A registrar may ask to be left alone for an hour; longer is not believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Most characters of a reason phrase repeated in a sentence.
const MAX_REASON: usize = 80;

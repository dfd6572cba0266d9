//! What every actor says of a call: its id, and why it ended.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A call's id within this process. Not the SIP Call-ID, which belongs to a dialog.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(u64);

impl CallId {
    /// The next id of this process.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        CallId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call-{}", self.0)
    }
}

/// Why a call ended or never began.
///
/// The words are those that SIP developers know from other endpoints; every SIP final answer has one, see
/// [`Cause::from_status`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// 484, or a number that the server cannot route yet.
    AddressIncomplete,
    /// 401, 403 after credentials, or 407 that our credentials did not satisfy.
    AuthenticationFailed,
    /// An established call ended by BYE.
    Bye,
    /// 486, 600: the callee is in another call.
    Busy,
    /// The caller gave up before an answer (CANCEL, 487).
    Cancelled,
    /// 503, or no connection to the next hop.
    ConnectionFailed,
    /// 403, 603, 607, 608: the callee or the network refuses the call.
    Declined,
    /// 415, 488, 606: no media in common.
    IncompatibleMedia,
    /// Something failed inside this process.
    Internal,
    /// The media path was never up, or broke and did not come back.
    MediaFailed,
    /// 408, 480 after ringing, or our own no-answer timer.
    NoAnswer,
    /// 404, 410, 604: nobody has that address.
    NotFound,
    /// The peer broke a rule of SIP or SDP.
    ProtocolError,
    /// 300 to 399: the callee is elsewhere.
    Redirected,
    /// Any other 4xx, 5xx or 6xx.
    Rejected,
    /// 5xx other than 503.
    ServerError,
    /// No final answer in time (timer B or C), or no ACK (64*T1).
    TimedOut,
    /// 480: the callee is registered nowhere at the moment.
    Unavailable,
}

impl Cause {
    /// The cause of a final answer to an INVITE (RFC 3261 section 21).
    pub fn from_status(status: u16) -> Self {
        match status {
            300..=399 => Cause::Redirected,
            401 | 407 => Cause::AuthenticationFailed,
            403 | 603 | 607 | 608 => Cause::Declined,
            404 | 410 | 604 => Cause::NotFound,
            408 => Cause::NoAnswer,
            415 | 488 | 606 => Cause::IncompatibleMedia,
            480 => Cause::Unavailable,
            484 => Cause::AddressIncomplete,
            486 | 600 => Cause::Busy,
            487 => Cause::Cancelled,
            503 => Cause::ConnectionFailed,
            500..=599 => Cause::ServerError,
            _ => Cause::Rejected,
        }
    }

    /// The word used in logs, JSON and exit codes' documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::AddressIncomplete => "address_incomplete",
            Cause::AuthenticationFailed => "authentication_failed",
            Cause::Busy => "busy",
            Cause::Bye => "bye",
            Cause::Cancelled => "cancelled",
            Cause::ConnectionFailed => "connection_failed",
            Cause::Declined => "declined",
            Cause::IncompatibleMedia => "incompatible_media",
            Cause::Internal => "internal",
            Cause::MediaFailed => "media_failed",
            Cause::NoAnswer => "no_answer",
            Cause::NotFound => "not_found",
            Cause::ProtocolError => "protocol_error",
            Cause::Redirected => "redirected",
            Cause::Rejected => "rejected",
            Cause::ServerError => "server_error",
            Cause::TimedOut => "timed_out",
            Cause::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_final_status_has_its_cause() {
        for (statuses, cause) in [
            (&[300, 302, 380][..], Cause::Redirected),
            (&[401, 407], Cause::AuthenticationFailed),
            (&[403, 603, 607, 608], Cause::Declined),
            (&[404, 410, 604], Cause::NotFound),
            (&[408], Cause::NoAnswer),
            (&[415, 488, 606], Cause::IncompatibleMedia),
            (&[480], Cause::Unavailable),
            (&[484], Cause::AddressIncomplete),
            (&[486, 600], Cause::Busy),
            (&[487], Cause::Cancelled),
            (&[503], Cause::ConnectionFailed),
            (&[500, 501, 504, 580], Cause::ServerError),
            (&[400, 405, 420, 481, 491, 605, 699], Cause::Rejected),
        ] {
            for status in statuses {
                assert_eq!(Cause::from_status(*status), cause, "{status}");
            }
        }
    }

    #[test]
    fn call_ids_are_never_given_twice() {
        assert_ne!(CallId::fresh(), CallId::fresh());
        assert_eq!(Cause::MediaFailed.to_string(), "media_failed");
    }
}

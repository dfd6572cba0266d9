//! Why a call ended, as a cause and as a sentence.

use crate::event::Side;
use siprtc_core::Cause;
use siprtc_core::sip::{Headers, NameAddr, SipResponse, Uri};
use std::fmt::Write;
use std::time::Duration;

/// Most characters of a peer's text that are passed on.
const MAX_QUOTE: usize = 200;

/// Most contacts of a redirection that are read. **Policy beyond**: the rest is left out.
const MAX_CONTACTS: usize = 16;

/// The end of a call.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) cause: Cause,
    pub(crate) by: Side,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) contacts: Vec<Uri>,
    pub(crate) retry_after: Option<Duration>,
}

impl End {
    fn new(cause: Cause, by: Side) -> Self {
        End {
            cause,
            by,
            status: None,
            reason: None,
            contacts: Vec::new(),
            retry_after: None,
        }
    }

    pub(crate) fn local(cause: Cause, reason: impl Into<String>) -> Self {
        End {
            reason: Some(reason.into()),
            ..End::new(cause, Side::Local)
        }
    }

    /// We hung up, and there is nothing to explain.
    pub(crate) fn wanted(cause: Cause) -> Self {
        End::new(cause, Side::Local)
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// A final answer other than 2xx to our INVITE.
    pub(crate) fn refused(response: &SipResponse, circumstances: Circumstances<'_>) -> Self {
        let cause = match response.status {
            403 if circumstances.authenticated => Cause::AuthenticationFailed,
            480 if circumstances.rang => Cause::NoAnswer,
            status => Cause::from_status(status),
        };
        let mut reason = sentence(response, cause, circumstances.target);
        append_details(&mut reason, &response.headers);
        let retry_after = response.headers.retry_after().ok().flatten();
        End {
            status: Some(response.status),
            reason: Some(reason),
            contacts: contacts(response),
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            ..End::new(cause, Side::Remote)
        }
    }

    /// The peer's BYE or CANCEL, with its Reason if it gave one.
    pub(crate) fn by_peer(cause: Cause, headers: Option<&Headers>) -> Self {
        let reason = headers
            .and_then(|headers| headers.value("Reason"))
            .map(|reason| format!("the peer ended the call and says: {}", quote(reason)));
        End {
            reason,
            ..End::new(cause, Side::Remote)
        }
    }
}

/// Where a redirection leads, best first (RFC 3261 section 8.1.3.4).
pub(crate) fn contacts(response: &SipResponse) -> Vec<Uri> {
    if !(300..400).contains(&response.status) {
        return Vec::new();
    }
    let items = response.headers.items("Contact").into_iter();
    let mut contacts: Vec<(f32, Uri)> = items
        .take(MAX_CONTACTS)
        .filter_map(|item| item.parse::<NameAddr>().ok())
        .map(|contact| {
            let q = contact.params.value("q").and_then(|q| q.parse::<f32>().ok());
            (q.filter(|q| q.is_finite()).unwrap_or(1.0), contact.uri)
        })
        .collect();
    // Stable: those of one q stay in their order.
    contacts.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    contacts.into_iter().map(|(_, uri)| uri).collect()
}

/// What was known of a call when it was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) target: &'a str,
    pub(crate) authenticated: bool,
    pub(crate) rang: bool,
}

fn sentence(response: &SipResponse, cause: Cause, target: &str) -> String {
    let status = response.status;
    let phrase = quote(&response.reason);
    let said = format!("{status} {phrase}").trim_end().to_owned();
    match cause {
        Cause::AddressIncomplete => {
            format!("{target} is not a complete address ({said}): add the missing digits")
        }
        Cause::AuthenticationFailed if status == 403 => {
            format!(
                "the server refuses our credentials or this call ({said}): check user, password and rights"
            )
        }
        Cause::AuthenticationFailed => format!("the server refuses our credentials ({said})"),
        Cause::Busy => format!("{target} is busy ({said})"),
        Cause::Cancelled => format!("the call was cancelled on its way to {target} ({said})"),
        Cause::ConnectionFailed => {
            format!("the server or the way behind it is out of service ({said}): try again later")
        }
        Cause::Declined => format!("{target}, or the network on its behalf, declines the call ({said})"),
        Cause::IncompatibleMedia => {
            format!(
                "{target} accepts none of the media offered ({said}): compare codecs and transport profiles"
            )
        }
        Cause::NoAnswer => format!("{target} did not answer ({said})"),
        Cause::NotFound => {
            format!("nobody has the address {target} ({said}): check its spelling and its domain")
        }
        Cause::Redirected => redirected(response, target, &said),
        Cause::ServerError => format!("a server on the way to {target} failed ({said}): its log says more"),
        Cause::Unavailable => {
            format!("{target} is not reachable at the moment ({said}): it may not be registered")
        }
        _ => format!("{target} refuses the call ({said})"),
    }
}

fn redirected(response: &SipResponse, target: &str, said: &str) -> String {
    let contacts = response.headers.items("Contact").join(", ");
    match contacts.is_empty() {
        true => format!("{target} is elsewhere ({said}), and the server does not say where"),
        false => format!("{target} is elsewhere ({said}): call {}", quote(&contacts)),
    }
}

fn append_details(sentence: &mut String, headers: &Headers) {
    for reason in headers.values("Reason").take(2) {
        let _ = write!(sentence, "; reason: {}", quote(reason));
    }
    for warning in headers.values("Warning").take(2) {
        let _ = write!(sentence, "; warning: {}", quote(warning));
    }
    if let Ok(Some(seconds)) = headers.retry_after() {
        let _ = write!(sentence, "; try again after {seconds} s");
    }
}

fn quote(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_QUOTE).collect()
}

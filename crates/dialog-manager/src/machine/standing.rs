//! How a subscription stands, as its notifier says, and why it is over (RFC 6665).

use super::end::contacts;
use siprtc_core::sip::{Headers, SipResponse, Uri};
use std::time::Duration;

/// Why a subscription is over.
#[derive(Default)]
pub(super) struct Over {
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    /// Where else to ask (300 to 399).
    pub(super) contacts: Vec<Uri>,
    pub(super) retry_after: Option<Duration>,
}

impl Over {
    pub(super) fn answered(status: u16) -> Self {
        Over {
            status: Some(status),
            ..Over::default()
        }
    }

    pub(super) fn refused(response: &SipResponse) -> Self {
        let retry_after = response.headers.retry_after().ok().flatten();
        Over {
            contacts: contacts(response),
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            ..Over::answered(response.status)
        }
    }

    pub(super) fn because(reason: &str) -> Self {
        Over {
            reason: Some(reason.to_owned()),
            ..Over::default()
        }
    }
}

/// What a NOTIFY says of its subscription (RFC 6665 section 8.2.3).
pub(super) struct State {
    pub(super) over: Option<Over>,
    /// For how many seconds it stands.
    pub(super) expires: Option<u32>,
}

impl State {
    pub(super) fn of(headers: &Headers) -> Self {
        let state = headers.value("Subscription-State").unwrap_or_default();
        let mut params = state.split(';').map(str::trim);
        let word = params.next().unwrap_or_default();
        let param = |name: &str| {
            let mut pairs = params.clone().filter_map(|param| param.split_once('='));
            pairs
                .find(|(other, _)| other.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let retry_after = param("retry-after").and_then(|seconds| seconds.parse().ok());
        let over = Over {
            retry_after: retry_after.map(Duration::from_secs),
            ..Over::because(param("reason").unwrap_or("terminated"))
        };
        State {
            over: word.eq_ignore_ascii_case("terminated").then_some(over),
            expires: param("expires").and_then(|seconds| seconds.parse().ok()),
        }
    }
}

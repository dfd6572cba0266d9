//! An answer that ends the processing of a request.

use crate::identity::Identity;
use siprtc_core::sip::{Headers, SipRequest, SipResponse};

/// A final answer other than a forwarded one.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
}

impl Refusal {
    pub(crate) fn new(status: u16) -> Self {
        Refusal {
            status,
            headers: Headers::new(),
        }
    }

    /// 503 with the seconds after which the client should try again.
    pub(crate) fn busy() -> Self {
        Refusal::new(503).with("Retry-After", crate::RETRY_AFTER_SECONDS.to_string())
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The response to `request`.
    pub(crate) fn answer(self, request: &SipRequest, identity: &Identity) -> SipResponse {
        let mut response = answer(request, self.status, identity);
        for (name, value) in self.headers.iter() {
            response.headers.push(name.clone(), value);
        }
        response
    }
}

/// A response of the server itself. The To gets a tag, the same for every answer to the same request (RFC 3261
/// section 8.2.6.2).
pub(crate) fn answer(request: &SipRequest, status: u16, identity: &Identity) -> SipResponse {
    let mut response = request.response(status);
    if status == 100 {
        return response;
    }
    if let Ok(to) = response.headers.to()
        && to.tag().is_none()
    {
        let headers = &request.headers;
        let branch = headers
            .top_via()
            .ok()
            .and_then(|via| via.branch().map(str::to_owned))
            .unwrap_or_default();
        let tag = identity.token(&["tag", headers.call_id().unwrap_or_default(), &branch]);
        response.headers.set("To", to.with_tag(tag));
    }
    response
}

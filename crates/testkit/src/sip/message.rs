//! Messages for tests: complete, with tags and a Call-ID that no other test uses.

use siprtc_core::sip::{Method, SipRequest, SipResponse, Uri};

/// A request with From (tagged), To, Call-ID, CSeq 1 and Contact: what a stack's user owes it.
pub fn request(method: Method, uri: impl Into<Uri>) -> SipRequest {
    let uri = uri.into();
    let mut request = SipRequest::new(method.clone(), uri.clone());
    let unique = rand::random::<u64>();
    request.headers.push(
        "From",
        format_args!("<sip:alice@example.com>;tag=a{:x}", unique >> 32),
    );
    request.headers.push("To", format_args!("<{uri}>"));
    request
        .headers
        .push("Call-ID", format_args!("{unique:016x}@example.com"));
    request.headers.push("CSeq", format_args!("1 {method}"));
    request.headers.push("Contact", "<sip:alice@192.0.2.1>");
    request
}

/// A response to `request` with a To-tag and a Contact.
pub fn answer(request: &SipRequest, status: u16, tag: &str) -> SipResponse {
    let mut response = request.response(status);
    if status > 100
        && let Ok(to) = response.headers.to()
        && to.tag().is_none()
    {
        response.headers.set("To", to.with_tag(tag));
    }
    response.headers.push("Contact", "<sip:bob@192.0.2.2>");
    response
}

//! The messages that a machine makes itself.

use siprtc_core::Result;
use siprtc_core::sip::{CSeq, HeaderName, Headers, Method, SipRequest, SipResponse};

/// RFC 3261 section 8.1.1.6.
const MAX_FORWARDS: u8 = 70;

/// What an answer always has from its request (RFC 3261 section 8.2.6.2).
const IDENTITY: [&str; 5] = ["Via", "From", "To", "Call-ID", "CSeq"];

/// The part of an INVITE of ours that its ACK and its CANCEL are made from.
pub(crate) fn essence(request: &SipRequest) -> SipRequest {
    let mut essence = SipRequest::new(request.method.clone(), request.uri.clone());
    if let Some(top) = request.headers.items("Via").first() {
        essence.headers.push("Via", top);
    }
    for name in [
        "Route",
        "Max-Forwards",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "User-Agent",
    ] {
        essence.headers.copy_from(&request.headers, name);
    }
    essence
}

/// RFC 3261 section 17.1.1.3: the INVITE's own branch and Route, and the To of the answer.
pub(crate) fn ack(invite: &SipRequest, response: &SipResponse) -> Result<SipRequest> {
    let mut ack = follow(invite, Method::Ack)?;
    if let Some(to) = response.headers.value("To") {
        ack.headers.set("To", to);
    }
    Ok(ack)
}

/// RFC 3261 section 9.1.
pub(crate) fn cancel(invite: &SipRequest, extra: &Headers) -> Result<SipRequest> {
    let mut cancel = follow(invite, Method::Cancel)?;
    for (name, value) in extra.iter() {
        cancel.headers.push(name.clone(), value);
    }
    Ok(cancel)
}

fn follow(invite: &SipRequest, method: Method) -> Result<SipRequest> {
    let sequence = invite.headers.cseq()?.sequence;
    let mut request = invite.clone();
    request.method = method.clone();
    request.headers.set("CSeq", CSeq { sequence, method });
    request.headers.set("Max-Forwards", MAX_FORWARDS);
    Ok(request)
}

/// The part of a request from outside that its answers are made from.
pub(crate) fn identity(request: &Headers) -> Headers {
    let mut identity = Headers::new();
    for name in IDENTITY {
        identity.copy_from(request, name);
    }
    // RFC 3261 section 8.2.6.1: for the 100.
    identity.copy_from(request, "Timestamp");
    identity
}

/// RFC 3261 section 17.2.1.
pub(crate) fn trying(identity: &Headers) -> SipResponse {
    SipResponse {
        headers: identity.clone(),
        ..SipResponse::new(100)
    }
}

/// An answer in no transaction, with `tag` in its To so that its ACK is known again (RFC 3261 section 8.2.7).
pub(crate) fn stateless(identity: &Headers, status: u16, retry_after: Option<u32>, tag: &str) -> SipResponse {
    let mut response = SipResponse::new(status);
    for name in IDENTITY {
        response.headers.copy_from(identity, name);
    }
    if let Ok(to) = response.headers.to()
        && to.tag().is_none()
    {
        response.headers.set("To", to.with_tag(tag));
    }
    if let Some(seconds) = retry_after {
        response.headers.push("Retry-After", seconds);
    }
    response
}

/// Via, From, Call-ID and CSeq from the request, and To when absent.
pub(crate) fn complete(identity: &Headers, response: SipResponse) -> SipResponse {
    let same = |name: &str| response.headers.values(name).eq(identity.values(name));
    let mut headers = Headers::new();
    match ["Via", "From", "Call-ID", "CSeq"].into_iter().all(same) {
        true if response.headers.contains("To") => return response,
        _ => IDENTITY.into_iter().for_each(|name| {
            let theirs = name == "To" && response.headers.contains("To");
            headers.copy_from(if theirs { &response.headers } else { identity }, name);
        }),
    }
    for (name, value) in response.headers.iter().filter(|(name, _)| !is_identity(name)) {
        headers.push(name.clone(), value);
    }
    SipResponse { headers, ..response }
}

fn is_identity(name: &HeaderName) -> bool {
    IDENTITY.iter().any(|own| name.is(own))
}

/// Whether a response has everything that [`complete`] would give it.
pub(crate) fn is_complete(response: &SipResponse) -> bool {
    IDENTITY.iter().all(|name| response.headers.contains(name))
}

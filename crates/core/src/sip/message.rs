//! Requests and responses.

use super::{Headers, Limits, Method, Uri};
use crate::Result;
use bytes::Bytes;

/// A SIP request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SipRequest {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// Header fields in order.
    pub headers: Headers,
    /// The body, as long as Content-Length says.
    pub body: Bytes,
}

impl SipRequest {
    /// A request without header fields.
    pub fn new(method: Method, uri: impl Into<Uri>) -> Self {
        SipRequest { method, uri: uri.into(), headers: Headers::new(), body: Bytes::new() }
    }

    /// A response to this request with Via, From, To, Call-ID and CSeq copied, and Record-Route for a 1xx or 2xx
    /// (RFC 3261 sections 8.2.6.2 and 12.1.1). The To has no tag yet, unless the request's had one.
    pub fn response(&self, status: u16) -> SipResponse {
        let _ = status;
        unimplemented!()
    }

    /// Checks what every valid request has (RFC 3261 section 8.1.1): From, To, Call-ID, CSeq with this method, Via,
    /// each readable and once, no headers in the Request-URI, a Date that is GMT. The error names what is wrong.
    pub fn validate(&self) -> Result<()> {
        unimplemented!()
    }

    /// With a body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set("Content-Type", content_type);
        self.body = body.into();
        self
    }

    /// Wire octets; Content-Length is set to the body's length.
    pub fn to_bytes(&self) -> Bytes {
        unimplemented!()
    }
}

/// A SIP response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SipResponse {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase, maybe empty.
    pub reason: String,
    /// Header fields in order.
    pub headers: Headers,
    /// The body, as long as Content-Length says.
    pub body: Bytes,
}

impl SipResponse {
    /// A response without header fields, with the RFC's reason phrase.
    pub fn new(status: u16) -> Self {
        SipResponse {
            status,
            reason: reason_phrase(status).to_owned(),
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// 100 to 199.
    pub fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// 200 and above.
    pub fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// As [`SipRequest::validate`].
    pub fn validate(&self) -> Result<()> {
        unimplemented!()
    }

    /// With a body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set("Content-Type", content_type);
        self.body = body.into();
        self
    }

    /// Wire octets; Content-Length is set to the body's length.
    pub fn to_bytes(&self) -> Bytes {
        unimplemented!()
    }
}

/// Either.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SipMessage {
    /// A request.
    Request(SipRequest),
    /// A response.
    Response(SipResponse),
}

impl SipMessage {
    /// Parses one message that fills a datagram: octets past Content-Length are ignored, missing ones an error, and
    /// without Content-Length the rest is the body (RFC 3261 section 18.3). Structure only: what header fields mean is
    /// checked by [`SipMessage::validate`]. Never panics.
    pub fn parse(datagram: &Bytes, limits: &Limits) -> Result<Self> {
        let _ = (datagram, limits);
        unimplemented!()
    }

    /// [`SipRequest::validate`] or [`SipResponse::validate`].
    pub fn validate(&self) -> Result<()> {
        match self {
            SipMessage::Request(request) => request.validate(),
            SipMessage::Response(response) => response.validate(),
        }
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        match self {
            SipMessage::Request(request) => &request.headers,
            SipMessage::Response(response) => &response.headers,
        }
    }

    /// Wire octets.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            SipMessage::Request(request) => request.to_bytes(),
            SipMessage::Response(response) => response.to_bytes(),
        }
    }
}

/// RFC 3261 section 21 and the registry since; empty for a status without one.
pub fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    unimplemented!()
}

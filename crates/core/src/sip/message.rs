//! Requests and responses.

use super::{Headers, Limits, Method, Uri, parse, print, validate};
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
        SipRequest {
            method,
            uri: uri.into(),
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// A response to this request with Via, From, To, Call-ID and CSeq copied, and Record-Route for a 1xx or 2xx
    /// (RFC 3261 sections 8.2.6.2 and 12.1.1). The To has no tag yet, unless the request's had one.
    pub fn response(&self, status: u16) -> SipResponse {
        let mut response = SipResponse::new(status);
        response.headers.copy_from(&self.headers, "Via");
        if (100..300).contains(&status) {
            response.headers.copy_from(&self.headers, "Record-Route");
        }
        for name in ["From", "To", "Call-ID", "CSeq"] {
            response.headers.copy_from(&self.headers, name);
        }
        if status == 100 {
            // RFC 3261 section 8.2.6.1.
            response.headers.copy_from(&self.headers, "Timestamp");
        }
        response
    }

    /// Checks what every valid request has (RFC 3261 section 8.1.1): From, To, Call-ID, CSeq with this method, Via,
    /// each readable and once, no headers in the Request-URI, a Date that is GMT. The error names what is wrong.
    pub fn validate(&self) -> Result<()> {
        validate::request(self)
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
        print::request(self)
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
        validate::response(self)
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
        print::response(self)
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
        parse::parse(datagram, limits)
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
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        425 => "Bad Alert Message",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity-Info",
        437 => "Unsupported Certificate",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> SipRequest {
        let uri: Uri = "sip:bob@example.com".parse().unwrap();
        let mut request = SipRequest::new(Method::Invite, uri);
        for (name, value) in [
            ("v", "SIP/2.0/UDP a;branch=z9hG4bK1"),
            ("Max-Forwards", "70"),
            ("Record-Route", "<sip:p1;lr>"),
            ("Via", "SIP/2.0/UDP b;branch=z9hG4bK2"),
            ("Record-Route", "<sip:p2;lr>"),
            ("t", "<sip:bob@example.com>"),
            ("From", "<sip:alice@example.com>;tag=1"),
            ("Call-ID", "1@host"),
            ("CSeq", "1 INVITE"),
            ("Timestamp", "54"),
        ] {
            request.headers.push(name, value);
        }
        request
    }

    #[test]
    fn a_response_carries_what_the_request_must_get_back() {
        let names = |status| {
            let response = invite().response(status);
            response
                .headers
                .iter()
                .map(|(name, _)| name.as_str().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(180), "v Via Record-Route Record-Route From t Call-ID CSeq");
        assert_eq!(names(200), names(180));
        assert_eq!(names(486), "v Via From t Call-ID CSeq");
        assert_eq!(
            names(100),
            "v Via Record-Route Record-Route From t Call-ID CSeq Timestamp"
        );
        let busy = invite().response(486);
        assert_eq!((busy.status, busy.reason.as_str()), (486, "Busy Here"));
        assert_eq!(busy.headers.vias().unwrap().len(), 2);
        assert!(busy.is_final() && !busy.is_success() && !busy.is_provisional());
    }

    #[test]
    fn a_status_without_a_registered_reason_phrase_has_none() {
        assert_eq!(reason_phrase(200), "OK");
        assert_eq!(reason_phrase(607), "Unwanted");
        assert_eq!(reason_phrase(299), "");
        assert_eq!(
            SipResponse::new(299).to_bytes(),
            "SIP/2.0 299 \r\nContent-Length: 0\r\n\r\n"
        );
    }
}

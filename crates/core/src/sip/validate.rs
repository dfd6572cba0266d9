//! What makes a message that could be parsed a valid one.

use super::scan::{digits, excerpt, malformed};
use super::{Headers, Method, SipRequest, SipResponse, Uri};
use crate::Result;

/// [`SipRequest::validate`].
pub(super) fn request(request: &SipRequest) -> Result<()> {
    if let Uri::Sip(uri) = &request.uri
        && uri.headers.is_some()
    {
        let message = format!("the Request-URI {uri} has header fields after its ?");
        return Err(malformed(message, "RFC 3261 section 19.1.1, table 1"));
    }
    let method = fields(&request.headers, request.body.len())?;
    if method != request.method {
        let message = format!("the CSeq says {method}, but the method is {}", request.method);
        return Err(malformed(message, "RFC 3261 section 8.1.1.5"));
    }
    Ok(())
}

/// [`SipResponse::validate`].
pub(super) fn response(response: &SipResponse) -> Result<()> {
    fields(&response.headers, response.body.len()).map(|_| ())
}

/// The fields that dialogs, transactions and routing need are there and readable. Others may be broken: who needs one
/// hears of it from its accessor (RFC 3261 section 16.3 step 1). Returns the CSeq's method.
fn fields(headers: &Headers, body: usize) -> Result<Method> {
    at_most_once(headers)?;
    headers.call_id()?;
    headers.from()?;
    headers.to()?;
    let cseq = headers.cseq()?;
    if headers.vias()?.is_empty() {
        headers.top_via()?;
    }
    headers.max_forwards()?;
    if cseq.method != Method::Ack {
        // An ACK's Contact refreshes no target (RFC 3261 section 12.2): nobody reads it.
        headers.contacts()?;
    }
    headers.routes()?;
    headers.record_routes()?;
    headers.expires()?;
    headers.min_expires()?;
    headers.retry_after()?;
    headers.values("Date").try_for_each(check_date)?;
    headers.split_items("Warning").try_for_each(check_warning)?;
    match headers.content_length()? {
        Some(length) if length != body => {
            let message = format!("Content-Length is {length}, but the body has {body} octets");
            Err(malformed(message, "RFC 3261 section 20.14"))
        }
        _ => Ok(cseq.method),
    }
}

/// RFC 3261 section 7.3.1: only a header field whose value is a list may appear more than once. Held against those in
/// which a second value would leave open what is meant.
fn at_most_once(headers: &Headers) -> Result<()> {
    const ONCE: [&str; 7] = [
        "Call-ID",
        "Content-Length",
        "CSeq",
        "Expires",
        "From",
        "Max-Forwards",
        "To",
    ];
    for name in ONCE {
        let count = headers.values(name).count();
        if count > 1 {
            return Err(malformed(
                format!("{name} appears {count} times"),
                "RFC 3261 section 7.3.1",
            ));
        }
    }
    Ok(())
}

/// `Sat, 13 Nov 2010 23:29:00 GMT`, and no other zone (RFC 3261 section 20.17).
fn check_date(date: &str) -> Result<()> {
    const RULE: &str = "RFC 3261 section 20.17";
    const DAYS: [&str; 7] = ["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = date.split_ascii_whitespace().collect();
    let &[weekday, day, month, year, time, zone] = words.as_slice() else {
        return Err(malformed(format!("Date: \"{}\" is no date", excerpt(date)), RULE));
    };
    if zone != "GMT" {
        return Err(malformed(
            format!("Date: the time zone of \"{}\" is not GMT", excerpt(date)),
            RULE,
        ));
    }
    let below = |text: &str, limit: u32| digits::<u32>(text).is_some_and(|number| number < limit);
    let clock: Vec<&str> = time.split(':').collect();
    let right = DAYS.contains(&weekday)
        && below(day, 32)
        && MONTHS.contains(&month)
        && (year.len() == 4 && below(year, 10_000))
        && matches!(clock[..], [hour, minute, second] if below(hour, 24) && below(minute, 60) && below(second, 61));
    if right {
        Ok(())
    } else {
        Err(malformed(format!("Date: \"{}\" is no date", excerpt(date)), RULE))
    }
}

/// RFC 3261 section 20.43: a warn-code has three digits.
fn check_warning(warning: &str) -> Result<()> {
    let code = warning.split([' ', '\t']).next().unwrap_or_default();
    if code.len() == 3 && digits::<u16>(code).is_some() {
        return Ok(());
    }
    let message = format!("Warning: the code \"{}\" is not three digits", excerpt(code));
    Err(malformed(message, "RFC 3261 section 20.43"))
}

#[cfg(test)]
mod tests {
    use super::super::SipMessage;
    use super::*;
    use crate::sip::Limits;
    use bytes::Bytes;

    fn options() -> SipRequest {
        let uri: Uri = "sip:a@example.com".parse().unwrap();
        let mut request = SipRequest::new(Method::Options, uri);
        for (name, value) in [
            ("Via", "SIP/2.0/UDP host;branch=z9hG4bK1"),
            ("From", "<sip:b@example.com>;tag=1"),
            ("To", "<sip:a@example.com>"),
            ("Call-ID", "1@host"),
            ("CSeq", "1 OPTIONS"),
        ] {
            request.headers.push(name, value);
        }
        request
    }

    #[test]
    fn each_mandatory_field_is_missed() {
        options().validate().unwrap();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            let mut request = options();
            request.headers.remove(name);
            let error = request.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is missing")), "{error}");
            let mut response = options().response(200);
            response.validate().unwrap();
            response.headers.remove(name);
            assert!(response.validate().unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn each_broken_field_is_named() {
        for (name, value) in [
            ("From", "<sip:c@example.com>"),
            ("Max-Forwards", "256"),
            ("Expires", "10000000000000000000000"),
            ("Min-Expires", "-1"),
            ("Retry-After", "949302838503028349304023988"),
            ("Warning", "1812 overture \"In Progress\""),
            ("Date", "Fri, 01 Jan 2010 16:00:00 EST"),
            ("Date", "Fri, 01 Jan 2010 24:00:00 GMT"),
            ("Date", "tomorrow"),
            ("Contact", "<sip:a@b>;;"),
            ("Route", "sip:[::1"),
            ("Record-Route", "x"),
            ("Via", "SIP/2.0/UDP"),
            ("Content-Length", "1"),
        ] {
            let mut request = options();
            request.headers.push(name, value);
            let error = request.validate().unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {value}: {error}");
        }
        let mut request = options();
        request.headers.push("Date", "Fri, 1 Jan 2010 16:00:00 GMT");
        request.headers.push("Warning", "392 h \"a, b\", 399 h \"c\"");
        request.validate().unwrap();
    }

    #[test]
    fn the_cseq_names_the_requests_method() {
        let request = SipRequest {
            method: Method::Invite,
            ..options()
        };
        assert!(
            request
                .validate()
                .unwrap_err()
                .to_string()
                .contains("CSeq says OPTIONS")
        );
    }

    #[test]
    fn a_request_uri_has_no_header_fields() {
        let text = "OPTIONS sip:a@example.com?Route=%3Csip:b%3E SIP/2.0\r\n\r\n";
        let message = SipMessage::parse(&Bytes::from(text), &Limits::default()).unwrap();
        assert!(
            message
                .validate()
                .unwrap_err()
                .to_string()
                .contains("Request-URI")
        );
    }
}

//! Messages as wire octets. Nothing that a caller put into a message can begin a new line there.

use super::scan::is_token_byte;
use super::{Headers, SipRequest, SipResponse};
use bytes::Bytes;

pub(super) fn request(request: &SipRequest) -> Bytes {
    let mut out = Vec::with_capacity(estimate(&request.headers, &request.body));
    put_token(&mut out, request.method.as_str());
    out.push(b' ');
    put_line(&mut out, &request.uri.to_string());
    out.extend_from_slice(b" SIP/2.0\r\n");
    finish(out, &request.headers, &request.body)
}

pub(super) fn response(response: &SipResponse) -> Bytes {
    let mut out = Vec::with_capacity(estimate(&response.headers, &response.body));
    out.extend_from_slice(format!("SIP/2.0 {:03} ", response.status).as_bytes());
    put_line(&mut out, &response.reason);
    out.extend_from_slice(b"\r\n");
    finish(out, &response.headers, &response.body)
}

fn estimate(headers: &Headers, body: &Bytes) -> usize {
    let lines: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    128 + lines + body.len()
}

/// Content-Length is set as [`Headers::set`] would: at the place of the first, or at the end.
fn finish(mut out: Vec<u8>, headers: &Headers, body: &Bytes) -> Bytes {
    let length = body.len().to_string();
    let mut has_length = false;
    for (name, value) in headers.iter().filter(|(name, _)| !name.as_str().is_empty()) {
        let value = match name.is("Content-Length") {
            true if has_length => continue,
            true => {
                has_length = true;
                &length
            }
            false => value,
        };
        put_field(&mut out, name.as_str(), value);
    }
    if !has_length {
        put_field(&mut out, "Content-Length", &length);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out.into()
}

fn put_field(out: &mut Vec<u8>, name: &str, value: &str) {
    put_token(out, name);
    out.extend_from_slice(b": ");
    put_line(out, value);
    out.extend_from_slice(b"\r\n");
}

fn put_token(out: &mut Vec<u8>, text: &str) {
    out.extend(
        text.bytes()
            .map(|octet| if is_token_byte(octet) { octet } else { b'-' }),
    );
}

/// CR and LF become blanks, and so does a NUL outside of a quoted-pair, which is where the parser accepts one.
fn put_line(out: &mut Vec<u8>, text: &str) {
    let from = out.len();
    out.extend_from_slice(text.as_bytes());
    let line = &mut out[from..];
    if line
        .iter()
        .fold(false, |odd, octet| odd | matches!(octet, b'\r' | b'\n' | 0))
    {
        let mut before = 0;
        for octet in line {
            if matches!(octet, b'\r' | b'\n') || (*octet == 0 && before != b'\\') {
                *octet = b' ';
            }
            before = *octet;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Host, Limits, Method, SipMessage, SipUri, Uri};
    use super::*;

    #[test]
    fn content_length_is_the_bodys_whatever_the_header_fields_said() {
        let mut request = SipRequest::new(Method::Message, SipUri::new(Host::Name("h".to_owned())));
        request.headers.push("l", 7);
        request.headers.push("X", 1);
        request.headers.push("Content-Length", 9);
        let request = request.with_body("text/plain", "hello");
        let text = "MESSAGE sip:h SIP/2.0\r\nl: 5\r\nX: 1\r\nContent-Type: text/plain\r\n\r\nhello";
        assert_eq!(request.to_bytes(), text);
        assert_eq!(
            SipResponse::new(200).to_bytes(),
            "SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn nothing_in_a_message_can_begin_a_new_line() {
        let evil = "a\r\nEvil: yes\n\nbody\0";
        let mut request = SipRequest::new(Method::Other(evil.to_owned()), Uri::Other(format!("x:{evil}")));
        request.headers.push(evil, evil);
        request.headers.push("", "nothing");
        let mut response = SipResponse {
            reason: evil.to_owned(),
            ..SipResponse::new(200)
        };
        response.headers.push(
            "Contact",
            Uri::Sip(SipUri::new(Host::Name(evil.to_owned())).with_user(evil)),
        );
        for octets in [request.to_bytes(), response.to_bytes()] {
            let message = SipMessage::parse(&octets, &Limits::default()).unwrap();
            assert_eq!(message.headers().len(), 2, "{octets:?}");
            assert!(!message.headers().contains("Evil"));
        }
    }
}

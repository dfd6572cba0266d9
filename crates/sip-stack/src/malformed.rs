//! Answers to requests that cannot be read as a whole (RFC 3261 sections 8.2 and 16.3 step 1, RFC 4475).
//!
//! Whoever sent one should learn what is wrong with it, if an answer would find its way and its transaction: when a Via
//! and a CSeq can be made out.

use siprtc_core::sip::{Headers, Host, NameAddr, SipResponse, Via};
use std::net::SocketAddr;

/// Longest reason phrase, in octets.
const MAX_REASON: usize = 100;

/// An answer, and the request's own topmost Via with `received` and `rport` filled in.
pub(crate) struct Answer {
    pub(crate) response: SipResponse,
    pub(crate) via: Via,
}

/// The answer to `raw`, which came from `source`; longer than `raw` by no more than what its Via must be told (RFC 3581),
/// so that it amplifies nothing. `None`: it is a response, an ACK, or too little of it can be read.
pub(crate) fn answer(raw: &[u8], source: SocketAddr, status: u16, why: &str, tag: &str) -> Option<Answer> {
    let (start_line, fields) = salvage(raw)?;
    let status = match start_line.rsplit(' ').next() {
        Some(version) if is_other_version(version) => 505,
        _ => status,
    };
    let mut response = SipResponse::new(status);
    response.headers.copy_from(&fields, "Via");
    let as_it_came = response.to_bytes().len();
    let via = read_via(&mut response.headers, source)?;
    let most = raw.len() + response.to_bytes().len().saturating_sub(as_it_came);
    fields.value("CSeq").filter(|cseq| !cseq.is_empty())?;
    for name in ["From", "To", "Call-ID", "CSeq"] {
        if let Some(value) = fields.value(name) {
            response.headers.push(name, value);
        }
    }
    // The short form of Content-Length.
    response.headers.push("l", 0);
    let fits = |response: &SipResponse| response.to_bytes().len() <= most;
    let bare = response.clone();
    if let Some(Ok(to)) = fields.value("To").map(str::parse::<NameAddr>)
        && to.tag().is_none()
    {
        response.headers.set("To", to.with_tag(tag));
    }
    let tagged = response.clone();
    response.reason = reason(why);
    // What is wrong is of more use than the tag of a dialog that never will be, but RFC 3261 section 8.2.6.2 wants it.
    let response = [response, tagged, bare].into_iter().find(fits)?;
    Some(Answer { response, via })
}

/// The topmost Via, stamped; when its parameters are broken, what comes before them is enough.
fn read_via(headers: &mut Headers, source: SocketAddr) -> Option<Via> {
    let text = headers.items("Via").first().map(|via| (*via).to_owned())?;
    if let Ok(mut via) = text.parse::<Via>() {
        stamp(headers, &mut via, source);
        return Some(via);
    }
    Via::salvage(&text)
}

/// RFC 3261 section 18.2.1 and RFC 3581 section 4: writes down where the request really came from.
pub(crate) fn stamp(headers: &mut Headers, via: &mut Via, source: SocketAddr) {
    let rport = via.params.contains("rport");
    if rport {
        via.params.set("rport", source.port().to_string());
    }
    if rport || via.host != Host::Ip(source.ip()) {
        via.params.set("received", source.ip().to_string());
    }
    headers.replace_first("Via", &*via);
}

/// The start line of a request and those of its header fields that an answer needs, whatever is wrong with the others.
fn salvage(raw: &[u8]) -> Option<(String, Headers)> {
    let mut lines = raw
        .split(|octet| *octet == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty());
    let start_line = String::from_utf8_lossy(lines.next()?).into_owned();
    let method = start_line.split(' ').next()?;
    if method == "ACK"
        || method
            .get(..4)
            .is_some_and(|word| word.eq_ignore_ascii_case("SIP/"))
    {
        return None;
    }
    let mut fields = Headers::new();
    let mut open: Option<(&'static str, String)> = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some((_, value)) = &mut open {
                value.push(' ');
                value.push_str(text.trim());
            }
            continue;
        }
        if let Some((name, value)) = open.take() {
            fields.push(name, value);
        }
        open = text
            .split_once(':')
            .and_then(|(name, value)| Some((wanted(name.trim_end())?, value.trim().to_owned())));
    }
    if let Some((name, value)) = open {
        fields.push(name, value);
    }
    Some((start_line, fields))
}

fn wanted(name: &str) -> Option<&'static str> {
    const WANTED: [(&str, &str); 5] = [
        ("Via", "v"),
        ("From", "f"),
        ("To", "t"),
        ("Call-ID", "i"),
        ("CSeq", "CSeq"),
    ];
    let found = WANTED
        .iter()
        .find(|(long, short)| name.eq_ignore_ascii_case(long) || name.eq_ignore_ascii_case(short));
    found.map(|(long, _)| *long)
}

fn is_other_version(word: &str) -> bool {
    word.get(..4)
        .is_some_and(|name| name.eq_ignore_ascii_case("SIP/"))
        && !word.eq_ignore_ascii_case("SIP/2.0")
}

/// What is wrong, in printable ASCII: it repeats words of whoever sent the message.
fn reason(why: &str) -> String {
    let printable = |char: char| if matches!(char, ' '..='~') { char } else { '?' };
    why.chars().take(MAX_REASON).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use siprtc_core::sip::{Limits, SipMessage};

    const REQUEST: &str = concat!(
        "OPTIONS sip:a@example.com SIP/2.0\r\n",
        "v: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1;rport,\r\n SIP/2.0/TCP proxy;branch=z9hG4bK0\r\n",
        "Max-Forwards: seventy\r\n",
        "From: <sip:b@example.com>;tag=1\r\n",
        "t: <sip:a@example.com>\r\n",
        "Broken line without a colon\r\n",
        "Call-ID: 1@host\r\n",
        "CSeq: 1 BYE\r\n",
        "Contact: <sip:b@192.0.2.9:5060;transport=udp>\r\n",
        "User-Agent: something that is long enough to make room for a reason\r\n",
        "\r\n",
    );

    fn answered(raw: &str) -> Option<Answer> {
        let source = "198.51.100.7:5070".parse().unwrap();
        answer(raw.as_bytes(), source, 400, "the CSeq\r\nis wr\u{f6}ng", "me")
    }

    #[test]
    fn an_answer_says_what_is_wrong_and_finds_its_way_and_its_transaction() {
        let answer = answered(REQUEST).unwrap();
        assert_eq!(answer.via.params.value("rport"), Some("5070"));
        let bytes: Bytes = answer.response.to_bytes();
        assert!(bytes.len() <= REQUEST.len());
        let SipMessage::Response(response) = SipMessage::parse(&bytes, &Limits::default()).unwrap() else {
            panic!("no response")
        };
        response.validate().unwrap();
        assert_eq!(
            (response.status, response.reason.as_str()),
            (400, "the CSeq??is wr?ng")
        );
        let vias = response.headers.vias().unwrap();
        assert_eq!(vias.len(), 2);
        assert_eq!(vias[0].params.value("received"), Some("198.51.100.7"));
        assert_eq!(response.headers.to().unwrap().tag(), Some("me"));
        assert_eq!(response.headers.value("CSeq"), Some("1 BYE"));
    }

    #[test]
    fn what_is_no_request_or_lacks_what_an_answer_needs_is_not_answered() {
        let without = |name: &str| {
            let lines = REQUEST
                .split_inclusive("\r\n")
                .filter(|line| !line.starts_with(name));
            lines.collect::<String>()
        };
        for name in ["v:", "CSeq:"] {
            assert!(answered(&without(name)).is_none(), "{name}");
        }
        for name in ["From:", "t:", "Call-ID:"] {
            let answer = answered(&without(name)).unwrap();
            assert_eq!(answer.response.headers.value(name.trim_end_matches(':')), None);
        }
        assert!(answered(&REQUEST.replace("OPTIONS", "ACK")).is_none());
        assert!(answered(&REQUEST.replace("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.0 200 OK")).is_none());
        assert!(answered(&REQUEST.replace("192.0.2.9;branch", ";branch")).is_none());
        for (broken, rport) in [
            ("SIP/2.0/UDP 192.0.2.9;;;rport", true),
            ("SIP/7.0/UDP 192.0.2.9:5", false),
        ] {
            let answer = answered(
                &REQUEST
                    .replace("SIP/2.0/UDP 192.0.2.9", broken)
                    .replace(";rport,\r\n SIP", ""),
            )
            .unwrap();
            assert_eq!(answer.via.params.contains("rport"), rport, "{broken}");
            assert!(answer.response.headers.value("Via").unwrap().starts_with(broken));
        }
        assert!(answered("").is_none() && answered("\r\n\r\n").is_none());
        let other = answered(&REQUEST.replace("com SIP/2.0", "com SIP/7.0")).unwrap();
        assert_eq!(other.response.status, 505);
    }

    #[test]
    fn an_answer_is_no_longer_than_what_it_answers_and_tells_its_via() {
        // What RFC 3581 adds to the Via.
        let told = ";received=198.51.100.7".len() + "=5070".len();
        let short = concat!(
            "A sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;rport\r\nFrom: <sip:b@b>;tag=1\r\nTo: <sip:a@a>\r\n",
            "Call-ID: 1\r\nCSeq: 1 B\r\n\r\n"
        );
        assert!(answered(short).is_none());
        let longer = |octets| short.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(octets)));
        let mut seen = Vec::new();
        for octets in 0..100 {
            let raw = longer(octets);
            let Some(Answer { response, .. }) = answered(&raw) else {
                continue;
            };
            assert!(response.to_bytes().len() <= raw.len() + told);
            let kind = (
                response.reason == "Bad Request",
                response.headers.value("To").unwrap().contains("tag"),
            );
            if seen.last() != Some(&kind) {
                seen.push(kind);
            }
        }
        assert_eq!(seen, [(true, false), (true, true), (false, true)]);
    }
}

//! What RFC 3261 lets a peer write and a parser may not know: one scenario for each feature that a stack may declare as
//! a gap. Each is a request from a bare socket that must be heard as it was written, and answered.

use super::bare::Bare;
use super::{Setting, respond};
use siprtc_core::sip::{Method, SipMessage, SipRequest, Uri};
use std::time::Duration;

/// What RFC 3261 lets a peer write and a parser may not know.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_features {
    ($then:ident $given:tt) => {
        $crate::$then! { $given features
            compact_names_are_understood
                Alone [Udp] [CompactNames]
                "RFC 3261 7.3.3" "A request whose header fields all have compact names is heard by their long names.";
            folded_lines_are_one_value
                Alone [Udp] [FoldedLines]
                "RFC 3261 7.3.1" "A header field that goes on over two more lines is one value, a space for each fold.";
            several_values_on_a_line_are_several
                Alone [Udp] [SeveralValues]
                "RFC 3261 7.3.1" "Two Via values, three Route values and two Contact values on a line each are all heard.";
            quoted_display_names_are_kept
                Alone [Udp] [QuotedNames]
                "RFC 3261 25.1" "A display name with commas, angle brackets and escaped quotes in it is one name.";
            users_with_escapes_and_parameters_are_kept
                Alone [Udp] [EscapedUsers]
                "RFC 3261 19.1.2" "The user part of a Request-URI may hold ;, ?, & and escaped octets.";
            contact_parameters_are_kept
                Alone [Udp] [ContactParameters]
                "RFC 5626 4.1" "A Contact with +sip.instance and reg-id keeps both.";
            header_fields_in_a_uri_are_kept
                Alone [Udp] [UriHeaders]
                "RFC 3261 19.1.1" "A Contact whose URI has header fields of its own keeps them.";
            white_space_around_separators_is_no_part_of_a_value
                Alone [Udp] [WhiteSpace]
                "RFC 3261 25.1" "White space around the slashes, semicolons and equals signs of Via, From and CSeq is none of theirs.";
            octets_that_are_no_utf_8_harm_nothing
                Alone [Udp] [NonUtf8]
                "RFC 3261 7.3.1" "A Subject in Latin-1 does not hinder a request.";
            another_uri_scheme_reaches_the_user
                Alone [Udp] [OtherSchemes]
                "RFC 3261 8.2.2.1" "A Request-URI of the tel scheme is for the user to answer.";
            a_request_of_rfc_2543_is_answered
                Alone [Udp] [Rfc2543]
                "RFC 3261 17.2.3" "A request without a From tag and without a branch with the cookie makes a round trip.";
            a_malformed_request_is_answered_400
                Alone [Udp] [AnswersMalformed]
                "RFC 3261 8.2" "A request with a CSeq that is no number, but with all that an answer needs, is answered 400.";
            ipv6_addresses_in_a_message_are_understood
                Alone [Udp] [Ipv6]
                "RFC 5118 4" "IPv6 references in Request-URI, Contact, Route and a lower Via are heard as they are.";
        }
    };
}

/// A request of `method` with a Via of the socket's; `lines` are the other header fields, `{uri}` is the stack's URI.
fn written(bare: &Bare, start: &str, lines: &[&str]) -> Vec<u8> {
    let uri = format!("sip:{}", bare.stack.listeners()[0].bound);
    let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKfeature;rport", bare.address());
    let mut text = format!("{start}\r\n{via}\r\n");
    for line in lines {
        text += &format!("{line}\r\n");
    }
    (text + "\r\n").replace("{uri}", &uri).into_bytes()
}

/// The rest of an ordinary MESSAGE, one field after another.
const FROM: &str = "From: <sip:alice@example.com>;tag=a1";
const TO: &str = "To: <{uri}>";
const CALL_ID: &str = "Call-ID: feature@example.com";
const CSEQ: &str = "CSeq: 1 MESSAGE";
const HOPS: &str = "Max-Forwards: 70";
const START: &str = "MESSAGE {uri} SIP/2.0";

/// Sends `octets`, which the user must hear and answer, and the socket hear the answer of.
async fn delivered(on: &Setting, octets: impl FnOnce(&Bare) -> Vec<u8>) -> SipRequest {
    let bare = Bare::start(on).await;
    let octets = octets(&bare);
    bare.send(&octets).await;
    let (served, heard, _) = bare.hears.expect_request(Method::Message).await;
    respond(&*bare.stack, served, &heard, 200).await;
    bare.expect_status(200).await;
    bare.hears.expect_silence(Duration::ZERO).await;
    bare.stack.shutdown(Duration::ZERO).await;
    heard
}

pub(super) async fn compact_names_are_understood(on: Setting) {
    let heard = delivered(&on, |bare| {
        let text = String::from_utf8(written(
            bare,
            START,
            &[
                "f: <sip:alice@example.com>;tag=a1",
                "t: <{uri}>",
                "i: feature@example.com",
                CSEQ,
                HOPS,
                "m: <sip:alice@192.0.2.1>",
                "s: short",
                "k: path",
                "c: text/plain",
                "l: 0",
            ],
        ));
        text.unwrap().replace("\r\nVia: ", "\r\nv: ").into_bytes()
    })
    .await;
    assert_eq!(
        heard.headers.value("From"),
        Some("<sip:alice@example.com>;tag=a1")
    );
    assert_eq!(heard.headers.value("Call-ID"), Some("feature@example.com"));
    assert_eq!(heard.headers.value("Subject"), Some("short"));
    assert_eq!(heard.headers.value("Supported"), Some("path"));
    assert_eq!(heard.headers.value("Contact"), Some("<sip:alice@192.0.2.1>"));
}

pub(super) async fn folded_lines_are_one_value(on: Setting) {
    let lines = [
        FROM,
        TO,
        CALL_ID,
        CSEQ,
        HOPS,
        "Subject: I know you're there,\r\n pick up the phone\r\n\tand answer",
    ];
    let heard = delivered(&on, |bare| written(bare, START, &lines)).await;
    let subject = heard.headers.value("Subject").unwrap_or_default();
    let words: Vec<&str> = subject.split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "I know you're there, pick up the phone and answer"
    );
    assert!(!subject.contains(['\r', '\n']), "{subject:?}");
}

pub(super) async fn several_values_on_a_line_are_several(on: Setting) {
    let heard = delivered(&on, |bare| {
        let lines = [
            "Route: <{uri};lr>, <sip:192.0.2.2;lr>,<sip:192.0.2.3;lr>",
            FROM,
            TO,
            CALL_ID,
            CSEQ,
            HOPS,
            "Contact: <sip:alice@192.0.2.1>, \"a, b\" <sip:alice@192.0.2.2>;q=0.5",
        ];
        let text = String::from_utf8(written(bare, START, &lines)).unwrap();
        let second = ";rport, SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKlower\r\n";
        text.replace(";rport\r\n", second).into_bytes()
    })
    .await;
    assert_eq!(heard.headers.vias().unwrap().len(), 2);
    assert_eq!(heard.headers.routes().unwrap().len(), 3);
    assert_eq!(heard.headers.items("Contact").len(), 2);
}

pub(super) async fn quoted_display_names_are_kept(on: Setting) {
    const NAME: &str = r#""J. \"Rosie\" Rosen, <sip:not@me>; jr \\""#;
    let from = format!("From: {NAME} <sip:alice@example.com>;tag=a1");
    let heard = delivered(&on, |bare| {
        written(bare, START, &[&from, TO, CALL_ID, CSEQ, HOPS])
    })
    .await;
    let from = heard.headers.from().unwrap();
    assert_eq!(from.tag(), Some("a1"));
    assert!(
        heard
            .headers
            .value("From")
            .is_some_and(|value| value.starts_with(NAME)),
        "{heard:?}"
    );
}

pub(super) async fn users_with_escapes_and_parameters_are_kept(on: Setting) {
    for user in ["user;par=u%40example.net", "a%20b?c&d=e", "%61lice"] {
        let heard = delivered(&on, |bare| {
            let start = START.replace(
                "{uri}",
                &format!("sip:{user}@{}", bare.stack.listeners()[0].bound),
            );
            written(bare, &start, &[FROM, TO, CALL_ID, CSEQ, HOPS])
        })
        .await;
        assert!(
            heard.uri.to_string().starts_with(&format!("sip:{user}@")),
            "{user} became {}",
            heard.uri
        );
    }
}

pub(super) async fn contact_parameters_are_kept(on: Setting) {
    const CONTACT: &str = r#"<sip:alice@192.0.2.1;ob>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";expires=600"#;
    let contact = format!("Contact: {CONTACT}");
    let heard = delivered(&on, |bare| {
        written(bare, START, &[FROM, TO, CALL_ID, CSEQ, HOPS, &contact])
    })
    .await;
    assert_eq!(heard.headers.value("Contact"), Some(CONTACT));
}

pub(super) async fn header_fields_in_a_uri_are_kept(on: Setting) {
    const CONTACT: &str = "<sip:alice@192.0.2.1?Route=%3Csip:sip.example.com%3E&Subject=hi>";
    let contact = format!("Contact: {CONTACT}");
    let heard = delivered(&on, |bare| {
        written(bare, START, &[FROM, TO, CALL_ID, CSEQ, HOPS, &contact])
    })
    .await;
    assert_eq!(heard.headers.value("Contact"), Some(CONTACT));
}

pub(super) async fn white_space_around_separators_is_no_part_of_a_value(on: Setting) {
    let heard = delivered(&on, |bare| {
        let lines = [
            "From : <sip:alice@example.com>  ; tag = a1",
            TO,
            CALL_ID,
            "CSeq:  1   MESSAGE",
            HOPS,
        ];
        let text = String::from_utf8(written(bare, START, &lines)).unwrap();
        let text = text
            .replace("SIP/2.0/UDP ", "SIP / 2.0 / UDP  ")
            .replace(";branch=", " ; branch = ");
        text.into_bytes()
    })
    .await;
    assert_eq!(heard.headers.from().unwrap().tag(), Some("a1"));
    assert_eq!(heard.headers.top_via().unwrap().branch(), Some("z9hG4bKfeature"));
}

pub(super) async fn octets_that_are_no_utf_8_harm_nothing(on: Setting) {
    let heard = delivered(&on, |bare| {
        let mut octets = written(bare, START, &[FROM, TO, CALL_ID, CSEQ, HOPS, "Subject: caf@"]);
        let place = octets.windows(4).position(|four| four == b"caf@").unwrap() + 3;
        octets[place] = 0xe9;
        octets
    })
    .await;
    assert!(heard.headers.contains("Subject"));
}

pub(super) async fn another_uri_scheme_reaches_the_user(on: Setting) {
    let start = "MESSAGE tel:+1-201-555-0123 SIP/2.0";
    let heard = delivered(&on, |bare| written(bare, start, &[FROM, TO, CALL_ID, CSEQ, HOPS])).await;
    assert!(matches!(heard.uri, Uri::Other(_)), "{:?}", heard.uri);
    assert_eq!(heard.uri.to_string(), "tel:+1-201-555-0123");
}

pub(super) async fn a_request_of_rfc_2543_is_answered(on: Setting) {
    delivered(&on, |bare| {
        let lines = ["From: <sip:alice@example.com>", TO, CALL_ID, CSEQ];
        let text = String::from_utf8(written(bare, START, &lines)).unwrap();
        text.replace(";branch=z9hG4bKfeature", "").into_bytes()
    })
    .await;
}

pub(super) async fn a_malformed_request_is_answered_400(on: Setting) {
    let bare = Bare::start(&on).await;
    bare.send(&written(
        &bare,
        START,
        &[FROM, TO, CALL_ID, "CSeq: many MESSAGE", HOPS],
    ))
    .await;
    bare.expect_status(400).await;
    bare.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn ipv6_addresses_in_a_message_are_understood(on: Setting) {
    let heard = delivered(&on, |bare| {
        let lines = [
            "Via: SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKlower",
            "Route: <{uri};lr>, <sip:[2001:db8::1]:5070;lr>",
            FROM,
            TO,
            CALL_ID,
            CSEQ,
            HOPS,
            "Contact: <sip:alice@[2001:db8::2]:5062>",
        ];
        written(bare, "MESSAGE sip:bob@[2001:db8::10] SIP/2.0", &lines)
    })
    .await;
    assert_eq!(heard.uri.to_string(), "sip:bob@[2001:db8::10]");
    assert_eq!(heard.headers.vias().unwrap().len(), 2);
    assert_eq!(
        heard.headers.value("Contact"),
        Some("<sip:alice@[2001:db8::2]:5062>")
    );
    let message = SipMessage::Request(heard);
    assert_eq!(message.headers().routes().unwrap().len(), 2);
}

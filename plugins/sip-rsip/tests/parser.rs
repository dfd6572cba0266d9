//! What rsip reads, what it cannot read, and that nothing makes it panic or read what is not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::Result;
use siprtc_core::sip::{Limits, SipMessage};
use siprtc_testkit::corpus::sip_messages;
use std::collections::BTreeMap;

/// Valid messages of the corpus that rsip cannot read, by what stops it. The README's table says it in words.
const UNREADABLE: [(&str, &[&str]); 7] = [
    ("a blank inside a Via's protocol", &["rfc4475/wsinv.dat"]),
    (
        "a Contact parameter with a quoted value, or with a blank before it",
        &[
            "rfc5626/9.1-F01-SUBSCRIBE.sip",
            "sip/boghe-subscribe-reg.sip",
            "sip/sipml5-info-dtmf.sip",
        ],
    ),
    (
        "a user part with a dot and behind it what may stand in no host",
        &["rfc4475/semiuri.dat"],
    ),
    (
        "an IPv6 address in a URI or Via",
        &[
            "rfc5118/ipv4-mapped-ipv6.dat",
            "rfc5118/ipv6-bug-abnf-3-colons.dat",
            "rfc5118/ipv6-correct-abnf-2-colons.dat",
            "rfc5118/ipv6-good.dat",
            "rfc5118/mult-ip-in-header.dat",
            "rfc5118/mult-ip-in-sdp.dat",
            "rfc5118/port-ambiguous.dat",
            "rfc5118/port-unambiguous.dat",
            "rfc5118/via-received-param-no-delim.dat",
            "rfc5118/via-received-param-with-delim.dat",
            "sip/ims-183.sip",
            "sip/ims-invite-volte.sip",
            "sip/nokia-invite-ipv6.sip",
        ],
    ),
    (
        "a method that it does not know",
        &["rfc4475/esc02.dat", "rfc4475/intmeth.dat"],
    ),
    ("a Request-URI with a scheme without //", &["rfc4475/unkscm.dat"]),
    (
        "a From or To with a scheme without //",
        &[
            "rfc4475/unksm2.dat",
            "sip/ims-prack.sip",
            "sip/ims-update.sip",
            "sip/sbc-invite-lo.sip",
        ],
    ),
];

const OPTIONS: &str = concat!(
    "OPTIONS sip:a@example.com SIP/2.0\r\n",
    "Via: SIP/2.0/UDP host.example.com:5060;branch=z9hG4bK1\r\n",
    "From: <sip:b@example.com>;tag=1\r\n",
    "To: <sip:a@example.com>\r\n",
    "Call-ID: 1@host\r\n",
    "CSeq: 1 OPTIONS\r\n"
);

fn read_by_rsip(octets: &Bytes) -> Result<SipMessage> {
    let message = siprtc_sip_rsip::parse(octets, &Limits::default())?;
    message.validate()?;
    Ok(message)
}

fn read_by_core(octets: &Bytes) -> Result<SipMessage> {
    let message = SipMessage::parse(octets, &Limits::default())?;
    message.validate()?;
    Ok(message)
}

fn error(text: impl Into<Bytes>) -> String {
    read_by_rsip(&text.into()).map(drop).unwrap_err().to_string()
}

#[test]
fn every_message_of_the_corpus_is_read_as_it_is_or_is_listed_as_unreadable() {
    let mut unreadable: BTreeMap<&str, &str> = UNREADABLE
        .iter()
        .flat_map(|(why, names)| names.iter().map(|name| (*name, *why)))
        .collect();
    let (mut read, mut wrong) = (0, Vec::new());
    for (name, octets) in sip_messages() {
        match (read_by_core(&octets), read_by_rsip(&octets)) {
            (Ok(core), Ok(rsip)) if core == rsip => read += 1,
            (Ok(_), Ok(_)) => wrong.push(format!("{name} is read otherwise")),
            (Ok(_), Err(error)) => {
                if unreadable.remove(name.as_str()).is_none() {
                    wrong.push(format!("{name}: {error}"));
                }
            }
            (Err(error), Ok(_)) => wrong.push(format!("{name} is invalid, but was read: {error}")),
            (Err(_), Err(_)) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unreadable.is_empty(), "rsip reads these now: {unreadable:?}");
    assert_eq!(read, 339, "a message came or went: correct this number");
}

#[test]
fn nothing_makes_it_panic_or_read_what_is_not_there() {
    let honest: Vec<Bytes> = sip_messages().into_iter().map(|(_, octets)| octets).collect();
    let mut random = StdRng::seed_from_u64(3261);
    let mut both = 0;
    for _ in 0..50_000 {
        let octets = Bytes::from(damaged(&honest, &mut random));
        let Ok(rsip) = read_by_rsip(&octets) else { continue };
        match read_by_core(&octets) {
            Ok(core) => assert_eq!(rsip, core, "{octets:?}"),
            Err(error) => panic!("{octets:?} is invalid, but was read: {error}"),
        }
        both += 1;
    }
    assert!(
        both > 1000,
        "only {both} of the damaged messages could still be read"
    );
}

/// A message with octets changed, cut, doubled, put in, or spliced from two.
fn damaged(honest: &[Bytes], random: &mut StdRng) -> Vec<u8> {
    const ODD: [&[u8]; 14] = [
        b"\0", b"\r", b"\n", b"\r\n", b"\r\n ", b"%", b"<", b">", b"\xff", b"\"", b";", b":", b"@", b"://",
    ];
    let mut message = honest[random.random_range(0..honest.len())].to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..message.len().max(1));
        match random.random_range(0..6) {
            0 if at < message.len() => message[at] = random.random(),
            1 => message.truncate(at),
            2 => {
                let other = &honest[random.random_range(0..honest.len())];
                message.truncate(at);
                message.extend(&other[other.len() / 2..]);
            }
            3 if at < message.len() => {
                let piece = message[at..].to_vec();
                message.extend(piece.iter().take(512));
            }
            4 => message.clear(),
            _ => {
                let odd = ODD[random.random_range(0..ODD.len())].repeat(random.random_range(1..4));
                let at = at.min(message.len());
                message.splice(at..at, odd);
            }
        }
    }
    message
}

#[test]
fn what_rsip_alone_would_lose_is_kept() {
    let text = OPTIONS
        .replace("a@example.com SIP", "john.doe@example.com;transport=tcp SIP")
        .replace("Call-ID", "CALL-id")
        .replace("Via:", "v :")
        + "S: a\r\n b \r\nl: 4\r\n\r\nbodytrailing";
    let SipMessage::Request(request) = read_by_rsip(&text.into()).unwrap() else {
        panic!("no request")
    };
    assert_eq!(request.uri.to_string(), "sip:john.doe@example.com;transport=tcp");
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["v", "From", "To", "CALL-id", "CSeq", "S", "l"]);
    assert_eq!(request.headers.value("Subject"), Some("a b"));
    assert_eq!(request.body, "body");

    let text = OPTIONS.replace("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.0 404 Nobody, really") + "\r\n";
    let SipMessage::Response(response) = read_by_rsip(&text.into()).unwrap() else {
        panic!("no response")
    };
    assert_eq!(
        (response.status, response.reason.as_str()),
        (404, "Nobody, really")
    );
}

/// Each is valid; the README's table names it.
#[test]
fn what_rsip_cannot_read_is_an_error_and_no_guess() {
    let with = |from: &str, to: &str| OPTIONS.replace(from, to) + "\r\n";
    read_by_core(&with("", "").into()).unwrap();
    read_by_rsip(&with("", "").into()).unwrap();
    for (text, word) in [
        (with("OPTIONS", "FOO"), "invalid method"),
        (with("OPTIONS", "options"), "in capitals"),
        (
            with("sip:a@example.com SIP", "urn:service:sos SIP"),
            "the message",
        ),
        (with("sip:a@example.com SIP", "tel:12345 SIP"), "no scheme"),
        (with("sip:a@example.com SIP", "tel:1@2 SIP"), "no scheme"),
        (with("sip:a@example.com SIP", "sip:a@[::1] SIP"), "the message"),
        (with("host.example.com:5060", "[::1]:5060"), "Via"),
        (with("<sip:b@example.com>", "<sip:b@[::1]>"), "From"),
        (with("<sip:a@example.com>", "<tel:+1-201-555-0123>"), "To"),
        (
            with("sip:a@example.com SIP", "sip:a.b;c@example.com SIP"),
            "the message",
        ),
        (with("CSeq", "Contact: <sip:a@h>, <sip:b@h>\r\nCSeq"), "Contact"),
        (
            with(
                "CSeq",
                "Contact: <sip:a@h>;+sip.instance=\"<urn:uuid:1>\"\r\nCSeq",
            ),
            "Contact",
        ),
        (with("CSeq", "Contact: <sip:a@h> ;q=1\r\nCSeq"), "Contact"),
        (with("From: <", "From: \"a <b>; c\" <"), "From"),
        (with("SIP/2.0/UDP", "SIP / 2.0 / UDP"), "Via"),
        (with("SIP/2.0/UDP", "SIP/2.0/QUIC"), "Via"),
    ] {
        read_by_core(&text.clone().into()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let error = error(text.clone());
        assert!(error.contains(word), "{text}: {error}");
    }
    let mut octets = with("CSeq", "Subject: x\r\nCSeq").into_bytes();
    let at = octets.windows(2).position(|two| two == b"x\r").unwrap();
    octets[at] = 0xff;
    read_by_core(&octets.clone().into()).unwrap();
    assert!(error(octets).contains("utf8"));
}

/// Each is invalid, and rsip alone would take it.
#[test]
fn what_rsip_reads_too_kindly_is_refused() {
    let with = |from: &str, to: &str| OPTIONS.replace(from, to) + "\r\n";
    for text in [
        with("SIP/2.0\r", "SIP/2.7\r"),
        with("sip:a@example.com SIP", "sip:a b@example.com SIP"),
        with("sip:a@example.com SIP", "sip:a@example.com?Route=x SIP"),
        with("sip:a@example.com SIP", "a://b c SIP"),
        with("CSeq", "Content-Length: +0\r\nCSeq"),
        with("CSeq", "Content-Length: 1\r\nCSeq"),
        with("CSeq", "Content-Length: 0\r\nl: 0\r\nCSeq"),
        with("CSeq", "Subject: a\rEvil: b\r\nCSeq"),
        with("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.0 099 Low"),
        with("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.0 +20 Sign"),
        with("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.0 700 High"),
        with("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.1 200 OK"),
        OPTIONS.to_owned(),
    ] {
        assert!(read_by_rsip(&text.clone().into()).is_err(), "{text}");
    }
}

#[test]
fn an_error_is_short_whatever_rsip_quotes() {
    let text = OPTIONS.replace("Via: SIP", &format!("Via: {}", "x".repeat(10_000))) + "\r\n";
    assert!(error(text).len() < 500);
}

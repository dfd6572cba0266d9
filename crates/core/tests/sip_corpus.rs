//! Every SIP message of the corpus does what the corpus' index says.

use bytes::Bytes;
use siprtc_core::sip::{Contacts, Limits, NameAddr, SipMessage, Via};
use siprtc_core::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const FOLDERS: [&str; 8] = [
    "rfc3327", "rfc3515", "rfc3665", "rfc4475", "rfc4916", "rfc5118", "rfc5626", "sip",
];

/// Where the index and the RFC disagree, the RFC wins. `test.dat` came with RFC 4475's archive but is no part of the
/// RFC: it has neither a SIP version, nor Via, nor CSeq. `ipv6-in-sdp.dat` has a Content-Length that is larger than its
/// body, which no receiver of a datagram may take (RFC 3261 section 18.3). The topmost Via of `proxy-407-two.sip` names
/// no transport.
const CORRECTIONS: [&str; 3] = [
    "rfc4475/test.dat",
    "rfc5118/ipv6-in-sdp.dat",
    "sip/proxy-407-two.sip",
];

/// RFC 5626 leaves the Via out of these examples: they are held for valid with one.
const WITHOUT_VIA: [&str; 11] = [
    "rfc5626/9.3-F01-INVITE.sip",
    "rfc5626/9.3-F02-INVITE.sip",
    "rfc5626/9.3-F03-430.sip",
    "rfc5626/9.3-F04-INVITE.sip",
    "rfc5626/9.3-F05-INVITE.sip",
    "rfc5626/9.3-F06-200.sip",
    "rfc5626/9.3-F07-ACK.sip",
    "rfc5626/9.3-F08-BYE.sip",
    "rfc5626/9.4-F01-REGISTER.sip",
    "rfc5626/9.5-F01-INVITE.sip",
    "rfc5626/9.5-F02-BYE.sip",
];

/// Tolerated messages that are refused all the same: two To values leave open who is called.
const NOT_TOLERATED: [(&str, &str); 1] = [(
    "sip/pcap-sipps-sip-header-multi-value-01-invite.sip",
    "To appears 2 times",
)];

/// Valid messages with a field that is cut off or broken and that nobody needs: only its own accessor refuses.
const UNREADABLE: [(&str, &str); 2] = [
    ("sip/hepgen-ack.sip", "Contact"),
    ("sip/winrtc-short-nonce.sip", "nonce is not terminated"),
];

/// A word of the error for each invalid message.
const WRONG: [(&str, &str); 32] = [
    (
        "rfc4475/badaspec.dat",
        "To: the URI \" sip:t.watson@example.org \" has white space",
    ),
    ("rfc4475/baddate.dat", "not GMT"),
    ("rfc4475/baddn.dat", "empty line"),
    ("rfc4475/badinv01.dat", "Via: a parameter is empty"),
    ("rfc4475/badvers.dat", "SIP/7.0"),
    ("rfc4475/bigcode.dat", "status code \"4294967301\""),
    ("rfc4475/clerr.dat", "Content-Length is 9999"),
    ("rfc4475/escruri.dat", "Request-URI"),
    ("rfc4475/insuf.dat", "Call-ID is missing"),
    ("rfc4475/ltgtruri.dat", "enclosed in <>"),
    ("rfc4475/lwsruri.dat", "white space"),
    ("rfc4475/lwsstart.dat", "white space"),
    ("rfc4475/mcl01.dat", "Content-Length appears 2 times"),
    ("rfc4475/mismatch01.dat", "CSeq says INVITE"),
    ("rfc4475/mismatch02.dat", "CSeq says INVITE"),
    ("rfc4475/multi01.dat", "Call-ID appears 2 times"),
    ("rfc4475/ncl.dat", "Content-Length: \"-999\""),
    ("rfc4475/quotbal.dat", "not terminated"),
    ("rfc4475/regbadct.dat", "Contact"),
    ("rfc4475/scalar02.dat", "36893488147419103232"),
    ("rfc4475/scalarlg.dat", "9292394834772304023312"),
    ("rfc4475/test.dat", "no SIP version"),
    ("rfc4475/trws.dat", "white space"),
    ("rfc5118/ipv6-bad.dat", "no brackets"),
    ("rfc5118/ipv6-in-sdp.dat", "Content-Length is 268"),
    ("sip/baresip-invite.sip", "Content-Length is 766"),
    ("sip/fake-200-dialogic.sip", "Content-Length is 239"),
    ("sip/linphone35-invite-tcp.sip", "Content-Length is 230"),
    ("sip/pjsua-message-nobody.sip", "Content-Length is 50"),
    ("sip/proxy-407-two.sip", "no sent-by"),
    ("sip/rlmi-notify-2.sip", "Content-Length is 681"),
    ("sip/user-invite-sg.sip", "missing"),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    Invalid,
    /// A deviation that a receiver may refuse; here it does not.
    Tolerated,
    Valid,
}

struct Case {
    name: String,
    octets: Bytes,
    expected: Expected,
}

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus"))
}

/// Every message of the folders, each with its line of the index; a file or a line without the other is an error.
fn cases() -> Vec<Case> {
    let corpus = corpus();
    let index = fs::read_to_string(corpus.join("INDEX.tsv")).expect("the corpus has an INDEX.tsv");
    let mut expectations: BTreeMap<&str, &str> = index
        .lines()
        .skip(1)
        .filter_map(|line| Some((line.split('\t').next()?, line.split('\t').nth(5)?)))
        .filter(|(name, _)| {
            FOLDERS
                .iter()
                .any(|folder| name.starts_with(&format!("{folder}/")))
        })
        .filter(|(name, _)| !name.ends_with(".sdp"))
        .collect();
    let mut cases = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(corpus.join(folder)).expect("the corpus has every folder") {
            let file = entry.expect("a file").file_name();
            let name = format!("{folder}/{}", file.to_string_lossy());
            if !name.ends_with(".sdp") {
                let word = expectations.remove(name.as_str());
                let octets = fs::read(corpus.join(&name)).expect("a readable file");
                cases.push(case(name, octets, word));
            }
        }
    }
    assert!(
        expectations.is_empty(),
        "listed in INDEX.tsv but not there: {expectations:?}"
    );
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn case(name: String, mut octets: Vec<u8>, word: Option<&str>) -> Case {
    let mut expected = match word {
        Some("invalid") => Expected::Invalid,
        Some("tolerated") => Expected::Tolerated,
        Some("valid") => Expected::Valid,
        other => panic!("{name}: INDEX.tsv expects {other:?}"),
    };
    let refused = NOT_TOLERATED.iter().any(|(refused, _)| *refused == name);
    if refused || CORRECTIONS.contains(&name.as_str()) {
        assert_ne!(expected, Expected::Invalid, "{name} needs no correction any more");
        expected = Expected::Invalid;
    }
    if WITHOUT_VIA.contains(&name.as_str()) {
        let error = parse_and_validate(&octets.clone().into())
            .expect_err("no Via")
            .to_string();
        assert!(error.contains("Via is missing"), "{name}: {error}");
        let line_end = octets
            .iter()
            .position(|octet| *octet == b'\n')
            .expect("a start line");
        octets.splice(
            line_end + 1..line_end + 1,
            *b"Via: SIP/2.0/TCP h;branch=z9hG4bK1\r\n",
        );
    }
    Case {
        octets: octets.into(),
        name,
        expected,
    }
}

fn parse_and_validate(octets: &Bytes) -> Result<SipMessage> {
    let message = SipMessage::parse(octets, &Limits::default())?;
    message.validate()?;
    Ok(message)
}

fn with_content_length(mut message: SipMessage) -> SipMessage {
    match &mut message {
        SipMessage::Request(request) => request.headers.set("Content-Length", request.body.len()),
        SipMessage::Response(response) => response.headers.set("Content-Length", response.body.len()),
    }
    message
}

/// What each accessor says, and nothing when it can read its field.
fn unreadable(message: &SipMessage) -> Vec<Error> {
    let headers = message.headers();
    assert_eq!(headers.content_type().is_some(), headers.contains("Content-Type"));
    [
        headers.call_id().map(drop),
        headers.from().map(drop),
        headers.to().map(drop),
        headers.cseq().map(drop),
        headers.vias().map(drop),
        headers.top_via().map(drop),
        headers.contacts().map(drop),
        headers.routes().map(drop),
        headers.record_routes().map(drop),
        headers.content_length().map(drop),
        headers.expires().map(drop),
        headers.min_expires().map(drop),
        headers.max_forwards().map(drop),
        headers.retry_after().map(drop),
        headers.session_expires().map(drop),
        headers.min_se().map(drop),
        headers.www_challenges().map(drop),
        headers.proxy_challenges().map(drop),
        headers.authorizations().map(drop),
        headers.proxy_authorizations().map(drop),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}

#[test]
fn every_message_is_accepted_or_refused_as_the_index_says() {
    let cases = cases();
    let mut accepted = 0;
    let mut refused = 0;
    let mut failures = Vec::new();
    for case in &cases {
        match (case.expected, parse_and_validate(&case.octets)) {
            (Expected::Valid | Expected::Tolerated, Ok(_)) => accepted += 1,
            (Expected::Valid | Expected::Tolerated, Err(error)) => {
                failures.push(format!("{} is {:?}, but: {error}", case.name, case.expected));
            }
            (Expected::Invalid, Ok(_)) => {
                failures.push(format!("{} is invalid, but was accepted", case.name))
            }
            (Expected::Invalid, Err(error)) => {
                refused += 1;
                let word = WRONG
                    .iter()
                    .chain(&NOT_TOLERATED)
                    .find(|(name, _)| *name == case.name)
                    .map(|(_, word)| *word);
                if !word.is_some_and(|word| error.to_string().contains(word)) {
                    failures.push(format!("{}: {error:?} does not say {word:?}", case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(
        (accepted, refused),
        (375, 33),
        "a message came or went: correct these numbers"
    );
}

#[test]
fn every_accepted_message_comes_back_from_its_own_octets() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case.expected != Expected::Invalid) {
        let message = parse_and_validate(&case.octets).unwrap();
        let octets = message.to_bytes();
        let again = parse_and_validate(&octets).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(again, with_content_length(message), "{}", case.name);
        assert_eq!(again.to_bytes(), octets, "{}", case.name);
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn every_field_of_an_accepted_message_can_be_read_and_printed_as_it_means() {
    let mut broken = Vec::new();
    for case in cases().iter().filter(|case| case.expected != Expected::Invalid) {
        let message = parse_and_validate(&case.octets).unwrap();
        broken.extend(
            unreadable(&message)
                .into_iter()
                .map(|error| (case.name.clone(), error.to_string())),
        );
        let headers = message.headers();
        for via in headers.vias().unwrap_or_default() {
            assert_eq!(via.to_string().parse::<Via>().unwrap(), via, "{}", case.name);
        }
        let mut addresses = vec![headers.from().unwrap(), headers.to().unwrap()];
        addresses.append(&mut headers.routes().unwrap());
        addresses.append(&mut headers.record_routes().unwrap());
        if let Ok(Contacts::List(mut contacts)) = headers.contacts() {
            addresses.append(&mut contacts);
        }
        for address in addresses {
            assert_eq!(
                address.to_string().parse::<NameAddr>().unwrap(),
                address,
                "{}",
                case.name
            );
        }
    }
    let expected =
        |(name, word): &(&str, &str)| broken.iter().any(|(n, error)| n == name && error.contains(word));
    assert!(
        broken.len() == UNREADABLE.len() && UNREADABLE.iter().all(expected),
        "{broken:#?}"
    );
}

/// Its length apart, the message is what RFC 5118 section 4.7 says of it: valid.
#[test]
fn ipv6_addresses_in_a_body_are_nothing_to_sip() {
    let text = fs::read_to_string(corpus().join("rfc5118/ipv6-in-sdp.dat")).unwrap();
    let message =
        parse_and_validate(&text.replace("Content-Length: 268", "Content-Length: 251").into()).unwrap();
    assert!(unreadable(&message).is_empty());
}

/// `baddn.dat` lacks its last line end, so it is refused before its fault is met: the fault alone is one, too.
#[test]
fn a_display_name_with_a_comma_and_without_quotes_is_refused() {
    let mut octets = fs::read(corpus().join("rfc4475/baddn.dat")).unwrap();
    octets.extend_from_slice(b"\r\n");
    let error = parse_and_validate(&octets.into()).unwrap_err().to_string();
    assert!(error.contains("display name"), "{error}");
}

//! The parser, the typed accessors and the printer: nothing panics, and what was printed is read as what it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use siprtc_core::sip::{Headers, Limits, SipMessage};

/// A printed message may be longer than what it was read from: octets that are no UTF-8 are replaced.
const WIDE: Limits = Limits {
    message: usize::MAX,
    header_fields: usize::MAX,
    header_line: usize::MAX,
};

fuzz_target!(|data: &[u8]| {
    let Ok(message) = SipMessage::parse(&Bytes::copy_from_slice(data), &Limits::default()) else {
        return;
    };
    let valid = message.validate().is_ok();
    read_all(message.headers());
    let printed = message.to_bytes();
    let again = SipMessage::parse(&printed, &WIDE).expect("what we print can be read");
    assert_eq!(again.to_bytes(), printed);
    assert!(!valid || again.validate().is_ok(), "a valid message stays one");
    if let SipMessage::Request(request) = &message {
        for status in [100, 200, 486] {
            let response = request.response(status);
            assert!(
                !valid || response.validate().is_ok(),
                "the answer to a valid request is valid"
            );
        }
    }
});

/// What can be read can be printed, and read again as the same.
fn read_all(headers: &Headers) {
    fn same<T: std::fmt::Display + std::str::FromStr + PartialEq + std::fmt::Debug>(value: T) {
        let printed = value.to_string();
        match printed.parse::<T>() {
            Ok(again) => assert_eq!(again, value),
            Err(_) => panic!("{printed} cannot be read"),
        }
    }
    let _ = headers.call_id();
    headers.from().into_iter().for_each(same);
    headers.to().into_iter().for_each(same);
    headers.cseq().into_iter().for_each(same);
    headers.top_via().into_iter().for_each(same);
    headers.vias().into_iter().flatten().for_each(same);
    headers.routes().into_iter().flatten().for_each(same);
    headers.record_routes().into_iter().flatten().for_each(same);
    headers.contact_uri().into_iter().for_each(same);
    let _ = headers.contacts();
    let _ = headers.content_length();
    let _ = headers.content_type();
    let _ = headers.expires();
    let _ = headers.min_expires();
    let _ = headers.max_forwards();
    let _ = headers.retry_after();
    let _ = headers.session_expires();
    let _ = headers.min_se();
    let _ = headers.www_challenges();
    let _ = headers.proxy_challenges();
    let _ = headers.authorizations();
    let _ = headers.proxy_authorizations();
    for (name, _) in headers.iter() {
        let _ = headers.items(name.as_str());
    }
}

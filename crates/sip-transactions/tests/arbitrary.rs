//! Whatever is called in whatever order, and whatever arrives: nothing panics, and what was announced ends once.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use siprtc_core::sip::{Limits, Method, SipMessage};
use std::fs;
use std::path::Path;
use support::{Link, Rig, steps};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_everything_ends_once(steps in vec(any::<[u8; 4]>(), 0..80)) {
        steps::play(&steps);
    }
}

#[test]
fn every_message_of_the_corpus_is_taken_twice_and_announced_once() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let mut requests = 0;
    for folder in ["sip", "rfc3665", "rfc4475", "rfc5118"] {
        for file in fs::read_dir(corpus.join(folder)).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap().into();
            let Ok(message) = SipMessage::parse(&bytes, &Limits::default()) else {
                continue;
            };
            let mut rig = Rig::new();
            let said = rig.hear(Link::Udp(1), support::Heard(message.clone()));
            let again = rig.hear(Link::Udp(1), support::Heard(message.clone()));
            match message {
                SipMessage::Request(request) if request.validate().is_ok() => {
                    requests += 1;
                    match request.method {
                        Method::Ack => assert_eq!((said.as_str(), again.as_str()), ("up ACK", "up ACK")),
                        Method::Cancel => assert_eq!((said.as_str(), again.as_str()), ("481", "481")),
                        method => assert_eq!((said, again), (format!("up {method}"), String::new())),
                    }
                }
                SipMessage::Request(_) => (),
                SipMessage::Response(_) => {
                    assert_eq!((said + &again, rig.machine.strays()), (String::new(), 2))
                }
            }
        }
    }
    assert!(requests > 50, "only {requests} requests were found");
}

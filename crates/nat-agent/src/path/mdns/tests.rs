//! What is asked and what is believed; the asking over sockets is in `tests/paths`.

use super::*;
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::A;
use proptest::prelude::*;

const NAME: &str = "0f6d3fb2-1c2d-4e5f-8a9b-0c1d2e3f4a5b.local";

fn name() -> Name {
    Name::from_ascii(format!("{NAME}.")).unwrap()
}

fn record(of: &str, ip: [u8; 4]) -> Record {
    let mut record = Record::from_rdata(Name::from_ascii(of).unwrap(), 120, RData::A(A(ip.into())));
    record.dns_class = DNSClass::from(0x8001);
    record
}

fn answered(id: u16, kind: MessageType, records: &[Record]) -> Option<IpAddr> {
    let mut message = Message::new(id, kind, OpCode::Query);
    message.answers.extend(records.iter().cloned());
    answer(&message.to_vec().unwrap(), Some(7), &name(), &|_| true)
}

#[test]
fn a_uuid_under_local_is_a_name_and_nothing_else_is() {
    assert!(is_name(NAME) && is_name(&NAME.to_uppercase()));
    for other in [
        "printer.local",
        "0f6d3fb2-1c2d-4e5f-8a9b-0c1d2e3f4a5b.example",
        "0f6d3fb2-1c2d-4e5f-8a9b-0c1d2e3f4a5b.a.local",
        "0f6d3fb2x1c2d-4e5f-8a9b-0c1d2e3f4a5b.local",
        "192.0.2.1",
        "éééééééééééééééééééééé.local",
    ] {
        assert!(!is_name(other), "{other}");
    }
}

#[test]
fn an_answer_is_for_the_name_that_was_asked_and_for_one_host() {
    let right = record(&format!("{NAME}."), [192, 0, 2, 7]);
    let found = Some(IpAddr::from([192, 0, 2, 7]));
    assert_eq!(
        answered(7, MessageType::Response, std::slice::from_ref(&right)),
        found
    );
    assert_eq!(
        answered(
            7,
            MessageType::Response,
            &[record("other.local.", [192, 0, 2, 8]), right.clone()]
        ),
        found
    );
    assert_eq!(
        answered(8, MessageType::Response, std::slice::from_ref(&right)),
        None
    );
    assert_eq!(answered(7, MessageType::Query, &[right]), None);
    for ip in [[224, 0, 0, 1], [0; 4], [255; 4]] {
        let wrong = record(&format!("{NAME}."), ip);
        assert_eq!(answered(7, MessageType::Response, &[wrong]), None, "{ip:?}");
    }
}

#[test]
fn the_question_wants_its_answer_for_itself() {
    let message = Message::from_vec(&question(7, &name()).unwrap()).unwrap();
    let kinds: Vec<RecordType> = message.queries.iter().map(|query| query.query_type).collect();
    assert_eq!(kinds, [RecordType::A, RecordType::AAAA]);
    assert!(
        message
            .queries
            .iter()
            .all(|query| u16::from(query.query_class) == 0x8001)
    );
}

proptest! {
    #[test]
    fn nothing_that_comes_makes_it_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        answer(&data, None, &name(), &|_| true);
    }
}

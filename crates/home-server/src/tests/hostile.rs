use super::*;
use proptest::prelude::*;

/// Everybody exists, so that a flood meets the bounds and not the password.
fn open_house() -> Rig {
    Rig::with(|config| {
        config.users = Users::Any {
            password: "guest".to_owned(),
        }
    })
}

fn register_guest(rig: &mut Rig, user: &str, contact: &str) -> u16 {
    let to = format!("<sip:{user}@{DOMAIN}>");
    let extra = format!("Contact: <{contact}>\r\n");
    let request = rig.request("REGISTER", user, &format!("sip:{DOMAIN}"), &to, &extra);
    let tx = rig.receive(request.clone(), phone(user));
    let challenges = rig.answer(tx).headers.www_challenges().expect("challenges");
    let secret = DigestSecret {
        username: user.to_owned(),
        password: "guest".to_owned(),
    };
    let credentials = DigestClient::new(secret)
        .answer(&challenges, &request.method, &request.uri, "c")
        .expect("credentials");
    let mut request = request;
    request.headers.push("Authorization", credentials);
    let tx = rig.receive(request, phone(user));
    rig.answer(tx).status
}

#[test]
fn ten_thousand_contacts_of_one_user_stay_three() {
    let mut rig = Rig::new();
    let mut refused = 0;
    for n in 0..10_000 {
        let answer = rig.register(
            "alice",
            &format!("Contact: <sip:alice@192.0.2.10:{}>\r\n", 6000 + n),
        );
        refused +=
            u32::from(answer.status == 503 && answer.headers.retry_after().expect("Retry-After").is_some());
    }
    assert_eq!(refused, 9_997);
    assert_eq!(rig.machine.registrations(rig.now).len(), 3);
}

#[test]
fn one_register_with_hundreds_of_contacts_binds_none() {
    let mut rig = Rig::new();
    let contacts: Vec<String> = (0..400)
        .map(|n| format!("<sip:alice@192.0.2.10:{}>", 6000 + n))
        .collect();
    assert_eq!(
        rig.register("alice", &format!("Contact: {}\r\n", contacts.join(", ")))
            .status,
        503
    );
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn more_users_than_allowed_are_refused_and_those_there_stay() {
    let mut rig = open_house();
    for n in 0..300 {
        let status = register_guest(
            &mut rig,
            &format!("user{n}"),
            &format!("sip:u@192.0.2.40:{}", 6000 + n),
        );
        assert_eq!(status, if n < 100 { 200 } else { 503 }, "user {n}");
    }
    assert_eq!(rig.machine.registrations(rig.now).len(), 100);
    assert_eq!(register_guest(&mut rig, "user7", "sip:u@192.0.2.40:6007"), 200);
}

#[test]
fn more_calls_than_allowed_are_answered_503_and_room_comes_back() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let mut branches = Vec::new();
    let mut last = None;
    for n in 0..60 {
        let mut invite = rig.request(
            "INVITE",
            "dave",
            "sip:bob@home.example",
            "<sip:bob@home.example>",
            "",
        );
        invite.headers.set("From", "<sip:dave@elsewhere.example>;tag=d");
        let tx = rig.receive(invite, phone("dave"));
        assert_eq!(rig.answer(tx).status, if n < 50 { 100 } else { 503 });
        branches.extend(rig.sent());
        last = Some(tx);
    }
    assert!(last.is_some());
    assert_eq!((branches.len(), rig.machine.stats().forwarding), (50, 50));
    for branch in &branches {
        rig.respond(branch, 486);
        rig.end(branch, TxEnd::Done);
    }
    assert_eq!(rig.machine.stats().forwarding, 0);
    assert_eq!(
        rig.machine.poll_timeout().map(|at| at > rig.now),
        Some(true),
        "only the registrar's sweep is left"
    );
}

#[test]
fn events_about_nothing_are_nothing() {
    let mut rig = Rig::new();
    let strangers = TxIds::new(TxOwner::user(1));
    for _ in 0..10 {
        let tx = strangers.mint();
        rig.handle(StackEvent::TxEnded {
            tx,
            end: TxEnd::TimedOut,
        });
        rig.handle(StackEvent::Cancelled { invite: tx });
        rig.handle(StackEvent::Response {
            tx,
            response: SipResponse::new(200),
            flow: None,
        });
        rig.handle(StackEvent::FlowDown {
            id: FlowId(99),
            reason: String::new(),
        });
    }
    rig.silent();
}

#[test]
fn an_ack_out_of_the_blue_goes_nowhere() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    for target in [
        "sip:bob@home.example",
        "sip:victim@203.0.113.5",
        "sip:192.0.2.1:5060",
    ] {
        let ack = rig.request("ACK", "dave", target, "<sip:bob@home.example>;tag=x", "");
        rig.handle(StackEvent::Ack {
            request: ack,
            flow: phone("dave"),
        });
        rig.silent();
    }
}

#[test]
fn every_message_of_the_torture_corpus_is_survived_and_answered() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus/rfc4475");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("the corpus is missing at {folder}: {error}"))
        .map(|entry| entry.expect("a file").path())
        .collect();
    let mut requests = 0;
    for file in files {
        let octets = Bytes::from(std::fs::read(&file).expect("a readable file"));
        let Ok(SipMessage::Request(request)) = SipMessage::parse(&octets, &Limits::default()) else {
            continue;
        };
        requests += 1;
        let mut rig = Rig::new();
        let tx = rig.receive(request, phone("dave"));
        assert!(rig.answer(tx).status >= 200, "{}", file.display());
    }
    assert!(requests > 10, "only {requests} requests in {folder}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Header fields filled with anything: always an answer, never a panic.
    #[test]
    fn whatever_stands_in_its_header_fields_a_request_is_answered(
        name in prop::sample::select(vec![
            "Via", "From", "To", "Contact", "Route", "CSeq", "Call-ID", "Max-Forwards", "Expires", "Require",
            "Proxy-Require", "Authorization", "Proxy-Authorization", "Record-Route",
        ]),
        value in "[ -~]{0,60}",
        method in prop::sample::select(vec!["REGISTER", "INVITE", "BYE", "OPTIONS", "FOO"]),
        target in prop::sample::select(vec![
            "sip:home.example", "sip:bob@home.example", "sip:bob@192.0.2.20;transport=tcp", "tel:1", "sip:x@y",
        ]),
    ) {
        let mut rig = Rig::new();
        rig.at_home("bob");
        let mut request = rig.request(method, "dave", target, "<sip:bob@home.example>", "");
        request.headers.set(name, value);
        let tx = rig.receive(request, phone("dave"));
        let answered = rig.out.iter().any(|o| matches!(o, Output::Respond { tx: t, .. } if *t == tx));
        prop_assert!(answered || !rig.sent().is_empty());
    }
}

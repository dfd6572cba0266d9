use super::*;

fn listed(response: &SipResponse) -> Vec<String> {
    response.headers.values("Contact").map(str::to_owned).collect()
}

#[test]
fn a_register_without_credentials_is_challenged_with_both_algorithms() {
    let mut rig = Rig::new();
    let request = rig.request(
        "REGISTER",
        "alice",
        "sip:home.example",
        "<sip:alice@home.example>",
        "",
    );
    let tx = rig.receive(request, phone("alice"));
    let answer = rig.answer(tx);
    assert_eq!(answer.status, 401);
    assert_eq!(answer.headers.www_challenges().expect("challenges").len(), 2);
    assert!(answer.headers.to().expect("a To").tag().is_some());
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn a_register_with_the_right_password_binds_the_contact() {
    let mut rig = Rig::new();
    let answer = rig.register("alice", "Contact: <sip:alice@192.0.2.10:5060>;expires=120\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(listed(&answer), ["<sip:alice@192.0.2.10:5060>;expires=120"]);
    let all = rig.machine.registrations(rig.now);
    assert_eq!((all.len(), all[0].user.as_str()), (1, "alice"));
    assert_eq!(all[0].expires_in, Duration::from_secs(120));
    rig.silent();
}

#[test]
fn a_wrong_password_is_challenged_again_and_binds_nothing() {
    let mut rig = Rig::new();
    let request = rig.request(
        "REGISTER",
        "alice",
        "sip:home.example",
        "<sip:alice@home.example>",
        "Contact: <sip:alice@192.0.2.10>\r\n",
    );
    let tx = rig.receive(request.clone(), phone("alice"));
    let challenges = rig.answer(tx).headers.www_challenges().expect("challenges");
    let secret = DigestSecret {
        username: "alice".to_owned(),
        password: "guessed".to_owned(),
    };
    let credentials = DigestClient::new(secret)
        .answer(&challenges, &request.method, &request.uri, "c")
        .expect("credentials");
    let mut request = request;
    request.headers.push("Authorization", credentials);
    let tx = rig.receive(request, phone("alice"));
    let answer = rig.answer(tx);
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .headers
            .www_challenges()
            .expect("challenges")
            .iter()
            .all(|c| !c.stale)
    );
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn an_old_nonce_with_the_right_password_is_called_stale() {
    let mut rig = Rig::new();
    let to = "<sip:alice@home.example>";
    let first = rig.request(
        "REGISTER",
        "alice",
        "sip:home.example",
        to,
        "Contact: <sip:alice@192.0.2.10>\r\n",
    );
    let tx = rig.receive(first.clone(), phone("alice"));
    let challenge = rig.answer(tx);
    rig.pass(Duration::from_secs(3600));
    let late = rig.with_credentials("alice", first.clone(), &challenge);
    let tx = rig.receive(late, phone("alice"));
    let answer = rig.answer(tx);
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .headers
            .www_challenges()
            .expect("challenges")
            .iter()
            .all(|c| c.stale)
    );
    let again = rig.with_credentials("alice", first, &answer);
    let tx = rig.receive(again, phone("alice"));
    assert_eq!(rig.answer(tx).status, 200);
}

#[test]
fn nobody_registers_somebody_else() {
    let mut rig = Rig::new();
    let contact = "Contact: <sip:mallory@192.0.2.66>\r\n";
    let request = rig.request(
        "REGISTER",
        "alice",
        "sip:home.example",
        "<sip:bob@home.example>",
        contact,
    );
    let tx = rig.authenticated("alice", request);
    assert_eq!(rig.answer(tx).status, 403);
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn credentials_for_another_target_are_not_accepted() {
    let mut rig = Rig::new();
    let register = rig.request(
        "REGISTER",
        "alice",
        "sip:home.example",
        "<sip:alice@home.example>",
        "",
    );
    let tx = rig.receive(register.clone(), phone("alice"));
    let challenge = rig.answer(tx);
    let mut replayed = rig.with_credentials("alice", register, &challenge);
    replayed.uri = uri("sip:192.0.2.1");
    let tx = rig.receive(replayed, phone("alice"));
    assert_eq!(rig.answer(tx).status, 401);
}

#[test]
fn a_refresh_prolongs_the_binding_and_keeps_it_one() {
    let mut rig = Rig::new();
    rig.register("alice", "Contact: <sip:alice@192.0.2.10>;expires=100\r\n");
    rig.pass(Duration::from_secs(90));
    let answer = rig.register("alice", "Contact: <sip:alice@192.0.2.10>;expires=100\r\n");
    assert_eq!(listed(&answer), ["<sip:alice@192.0.2.10>;expires=100"]);
    rig.pass(Duration::from_secs(90));
    assert_eq!(rig.machine.registrations(rig.now).len(), 1);
}

#[test]
fn a_binding_that_is_not_refreshed_goes() {
    let mut rig = Rig::new();
    rig.register("alice", "Contact: <sip:alice@192.0.2.10>;expires=100\r\n");
    rig.pass(Duration::from_secs(99));
    assert_eq!(rig.machine.registrations(rig.now).len(), 1);
    rig.pass(Duration::from_secs(1));
    assert!(rig.machine.registrations(rig.now).is_empty());
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.machine.poll_timeout(), None, "nothing is left to sweep");
}

#[test]
fn expires_of_zero_removes_one_contact_and_a_star_removes_all() {
    let mut rig = Rig::new();
    rig.register(
        "alice",
        "Contact: <sip:alice@192.0.2.10>, <sip:alice@192.0.2.11>\r\n",
    );
    rig.register("alice", "Contact: <sip:alice@192.0.2.12>\r\n");
    let answer = rig.register("alice", "Contact: <sip:alice@192.0.2.11>;expires=0\r\n");
    assert_eq!(listed(&answer).len(), 2);
    assert!(
        listed(&answer)
            .iter()
            .all(|contact| !contact.contains("192.0.2.11"))
    );
    let answer = rig.register("alice", "Contact: *\r\nExpires: 0\r\n");
    assert_eq!((answer.status, listed(&answer).len()), (200, 0));
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn a_star_that_does_not_remove_is_a_bad_request() {
    let mut rig = Rig::new();
    rig.at_home("alice");
    assert_eq!(rig.register("alice", "Contact: *\r\nExpires: 60\r\n").status, 400);
    assert_eq!(rig.register("alice", "Contact: *\r\n").status, 400);
    assert_eq!(rig.machine.registrations(rig.now).len(), 1);
}

#[test]
fn a_register_without_contact_lists_the_bindings() {
    let mut rig = Rig::new();
    rig.at_home("alice");
    assert_eq!(listed(&rig.register("alice", "")).len(), 1);
}

#[test]
fn a_registration_that_is_too_short_learns_the_shortest() {
    let mut rig = Rig::new();
    let answer = rig.register("alice", "Contact: <sip:alice@192.0.2.10>\r\nExpires: 59\r\n");
    assert_eq!(answer.status, 423);
    assert_eq!(answer.headers.min_expires().expect("Min-Expires"), Some(60));
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn a_registration_that_is_too_long_is_shortened() {
    let mut rig = Rig::new();
    let answer = rig.register("alice", "Contact: <sip:alice@192.0.2.10>;expires=4294967295\r\n");
    assert_eq!(listed(&answer), ["<sip:alice@192.0.2.10>;expires=7200"]);
}

#[test]
fn an_older_register_of_the_same_call_id_changes_nothing() {
    let mut rig = Rig::new();
    rig.register("alice", "Contact: <sip:alice@192.0.2.10>;expires=100\r\n");
    rig.serial = 0;
    let answer = rig.register("alice", "Contact: <sip:alice@192.0.2.10>;expires=0\r\n");
    assert_eq!(answer.status, 500);
    rig.serial = 0;
    assert_eq!(rig.register("alice", "Contact: *\r\nExpires: 0\r\n").status, 500);
    assert_eq!(rig.machine.registrations(rig.now).len(), 1);
}

#[test]
fn a_phone_that_restarts_on_another_port_replaces_its_old_flow() {
    let mut rig = Rig::new();
    let outbound = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";reg-id=1";
    rig.register(
        "bob",
        &format!("Contact: <sip:bob@192.0.2.20:1111;transport=tcp>;{outbound}\r\n"),
    );
    rig.register(
        "bob",
        &format!("Contact: <sip:bob@192.0.2.20:2222;transport=tcp>;{outbound}\r\n"),
    );
    let all = rig.machine.registrations(rig.now);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].contact.port, Some(2222));
}

#[test]
fn a_lost_connection_takes_with_it_what_only_it_could_reach() {
    let mut rig = Rig::new();
    rig.register(
        "bob",
        "Contact: <sip:bob@gone.invalid;transport=tcp>, <sip:bob@192.0.2.20:5060;transport=tcp>\r\n",
    );
    rig.handle(StackEvent::FlowDown {
        id: phone("bob").id,
        reason: "reset".to_owned(),
    });
    let all = rig.machine.registrations(rig.now);
    assert_eq!(all.len(), 1);
    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(
        sent[0].route.flow, None,
        "the connection is gone, the contact's own address is left"
    );
}

#[test]
fn a_required_extension_is_refused_by_name() {
    let mut rig = Rig::new();
    let extra = "Require: path, gruu\r\nContact: <sip:alice@192.0.2.10>\r\n";
    let request = rig.request(
        "REGISTER",
        "alice",
        "sip:home.example",
        "<sip:alice@home.example>",
        extra,
    );
    let tx = rig.receive(request, phone("alice"));
    let answer = rig.answer(tx);
    assert_eq!(
        (answer.status, answer.headers.value("Unsupported")),
        (420, Some("path, gruu"))
    );
}

#[test]
fn a_contact_that_points_back_at_the_server_is_refused() {
    let mut rig = Rig::new();
    for contact in [
        "sip:bob@home.example",
        "sip:bob@192.0.2.1:5060",
        "sip:bob@192.0.2.1",
    ] {
        assert_eq!(
            rig.register("alice", &format!("Contact: <{contact}>\r\n")).status,
            403,
            "{contact}"
        );
    }
}

#[test]
fn options_to_the_server_are_answered_and_an_invite_to_it_is_not() {
    let mut rig = Rig::new();
    let options = rig.request("OPTIONS", "dave", "sip:home.example", "<sip:home.example>", "");
    let tx = rig.receive(options, phone("dave"));
    let answer = rig.answer(tx);
    assert_eq!(
        (answer.status, answer.headers.value("Allow")),
        (200, Some("REGISTER, OPTIONS"))
    );
    for (method, status) in [("INVITE", 404), ("PUBLISH", 405)] {
        let request = rig.request(method, "dave", "sip:192.0.2.1:5060", "<sip:home.example>", "");
        let tx = rig.receive(request, phone("dave"));
        assert_eq!(rig.answer(tx).status, status);
    }
}

use super::*;

/// A call from alice (UDP) to bob (TCP), answered; gives the branch and the 200 as alice got it.
fn established(rig: &mut Rig) -> (TxId, Sent, SipResponse) {
    rig.at_home("alice");
    rig.at_home("bob");
    let (tx, sent) = rig.call("alice", "bob");
    let branch = sent[0].clone();
    rig.respond(&branch, 180);
    assert_eq!(rig.answer(tx).status, 180);
    let mut ok = response(&branch, 200);
    ok.headers.push("Contact", format!("<{}>", contact("bob")));
    rig.handle(StackEvent::Response {
        tx: branch.tx,
        response: ok,
        flow: None,
    });
    let ok = rig.answer(tx);
    (tx, branch, ok)
}

/// A request of alice inside the dialog.
fn in_dialog(rig: &mut Rig, method: &str, ok: &SipResponse) -> SipRequest {
    let target = ok.headers.contact_uri().expect("a Contact").to_string();
    let to = ok.headers.value("To").expect("a To").to_owned();
    let route: String = ok
        .headers
        .record_routes()
        .expect("routes")
        .iter()
        .rev()
        .map(|r| format!("Route: {r}\r\n"))
        .collect();
    rig.request(method, "alice", &target, &to, &route)
}

#[test]
fn a_call_goes_to_the_registered_contact_over_its_connection() {
    let mut rig = Rig::new();
    rig.at_home("alice");
    rig.at_home("bob");
    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(sent.len(), 1);
    let Sent { tx, request, route } = &sent[0];
    assert_eq!(tx.owner(), TxOwner::user(1));
    assert_eq!(request.uri, uri(&contact("bob")));
    assert_eq!(route.flow, Some(phone("bob").id));
    assert_eq!(request.headers.max_forwards().expect("Max-Forwards"), Some(69));
    assert!(
        !request.headers.contains("Proxy-Authorization"),
        "credentials for this hop stay here"
    );
    rig.silent();
}

#[test]
fn credentials_for_another_realm_go_on() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let other = "Proxy-Authorization: Digest username=\"alice\", realm=\"elsewhere\", nonce=\"n\", \
                 uri=\"sip:bob@home.example\", response=\"00000000000000000000000000000000\"\r\n";
    let invite = rig.request(
        "INVITE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        other,
    );
    rig.authenticated("alice", invite);
    let sent = rig.sent();
    let kept: Vec<&str> = sent[0].request.headers.values("Proxy-Authorization").collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].contains("elsewhere"));
}

#[test]
fn two_transports_make_two_record_routes_and_one_makes_one() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    rig.at_home("carol");
    let (_, sent) = rig.call("alice", "bob");
    let both = routes(&sent[0].request.headers, "Record-Route");
    let transports: Vec<_> = both
        .iter()
        .map(|r| r.uri.as_sip().and_then(|uri| uri.transport()))
        .collect();
    assert_eq!(
        transports,
        [Some(Transport::Tcp), None],
        "bob's side on top, alice's below"
    );
    assert!(
        both.iter()
            .all(|r| r.uri.as_sip().is_some_and(|uri| uri.is_loose_router()))
    );
    let (_, sent) = rig.call("alice", "carol");
    assert_eq!(routes(&sent[0].request.headers, "Record-Route").len(), 1);
}

#[test]
fn without_record_route_the_server_leaves_no_trace_of_a_route() {
    let mut rig = Rig::with(|config| config.record_route = false);
    rig.at_home("bob");
    let (_, sent) = rig.call("alice", "bob");
    assert!(!sent[0].request.headers.contains("Record-Route"));
}

#[test]
fn answers_come_back_without_the_servers_via_and_with_the_callees_tag() {
    let mut rig = Rig::new();
    let (_, branch, ok) = established(&mut rig);
    assert_eq!(ok.status, 200);
    assert_eq!(
        ok.headers.to().expect("a To").tag(),
        Some(format!("tag-{}", branch.tx).as_str())
    );
    assert_eq!(ok.headers.record_routes().expect("routes").len(), 2);
    assert!(!ok.headers.values("Via").any(|via| via.contains("z9hG4bK-home")));
}

#[test]
fn the_ack_of_a_200_is_routed_to_the_callees_connection_each_time() {
    let mut rig = Rig::new();
    let (_, _, ok) = established(&mut rig);
    let ack = in_dialog(&mut rig, "ACK", &ok);
    for _ in 0..2 {
        rig.handle(StackEvent::Ack {
            request: ack.clone(),
            flow: phone("alice"),
        });
        let acks = rig.acks();
        assert_eq!(acks.len(), 1);
        let (request, route) = &acks[0];
        assert_eq!(request.uri, uri(&contact("bob")));
        assert_eq!(route.flow, Some(phone("bob").id));
        assert!(
            !request.headers.contains("Route"),
            "both of our Route values are taken off"
        );
    }
    rig.silent();
}

#[test]
fn a_bye_inside_the_dialog_is_routed_without_a_challenge() {
    let mut rig = Rig::new();
    let (_, _, ok) = established(&mut rig);
    let bye = in_dialog(&mut rig, "BYE", &ok);
    let tx = rig.receive(bye, phone("alice"));
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].route.flow, Some(phone("bob").id));
    rig.silent();
    rig.respond(&sent[0], 200);
    assert_eq!(rig.answer(tx).status, 200);
}

#[test]
fn the_callees_bye_reaches_the_caller() {
    let mut rig = Rig::new();
    let (_, branch, _) = established(&mut rig);
    let route: String = routes(&branch.request.headers, "Record-Route")
        .iter()
        .map(|record| format!("Route: {record}\r\n"))
        .collect();
    let mut bye = rig.request(
        "BYE",
        "bob",
        &contact("alice"),
        "<sip:alice@home.example>;tag=from-alice",
        &route,
    );
    bye.headers.set("Call-ID", "call-of-alice");
    rig.receive(bye, phone("bob"));
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].request.uri, uri(&contact("alice")));
    rig.silent();
}

#[test]
fn a_route_that_goes_on_is_followed_loosely_or_strictly() {
    let mut rig = Rig::new();
    let (_, _, ok) = established(&mut rig);
    for (next, strict) in [("sip:198.51.100.7;lr", false), ("sip:198.51.100.7", true)] {
        let mut bye = in_dialog(&mut rig, "BYE", &ok);
        bye.headers.push("Route", format!("<{next}>"));
        rig.receive(bye, phone("alice"));
        let Sent { request, route, .. } = rig.sent().remove(0);
        let left = routes(&request.headers, "Route");
        assert_eq!(left.len(), 1);
        if strict {
            assert_eq!(request.uri, uri(next));
            assert_eq!(left[0].uri, uri(&contact("bob")));
            assert_eq!(route.next_hop.map(Uri::Sip), Some(uri(next)));
        } else {
            assert_eq!(request.uri, uri(&contact("bob")));
            assert!(route.next_hop.is_none() && route.flow.is_none());
        }
    }
}

#[test]
fn a_strict_router_before_the_server_is_understood() {
    let mut rig = Rig::new();
    let (_, _, ok) = established(&mut rig);
    let mut bye = in_dialog(&mut rig, "BYE", &ok);
    let ours = routes(&bye.headers, "Route");
    bye.headers.remove("Route");
    bye.headers.push("Route", format!("<{}>", contact("bob")));
    bye.uri = ours[0].uri.clone();
    rig.receive(bye, phone("alice"));
    let sent = rig.sent();
    assert_eq!(sent[0].request.uri, uri(&contact("bob")));
    assert!(!sent[0].request.headers.contains("Route"));
}

#[test]
fn a_forged_to_tag_and_route_do_not_make_an_open_relay() {
    let mut rig = Rig::new();
    let victim = "sip:victim@203.0.113.5";
    for route in [
        "",
        "Route: <sip:192.0.2.1:5060;lr>\r\n",
        "Route: <sip:192.0.2.1:5060;lr;d=0011223344556677>\r\n",
    ] {
        let request = rig.request("INVITE", "dave", victim, "<sip:v@203.0.113.5>;tag=x", route);
        let mut request = request;
        request.headers.set("From", "<sip:dave@elsewhere.example>;tag=d");
        let tx = rig.receive(request, phone("dave"));
        assert_eq!(rig.answer(tx).status, 403, "{route}");
        rig.silent();
    }
}

#[test]
fn a_route_beyond_the_server_needs_the_mark_of_a_dialog() {
    let mut rig = Rig::new();
    let route = "Route: <sip:192.0.2.1:5060;lr>, <sip:203.0.113.5;lr>\r\n";
    let request = rig.request(
        "MESSAGE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        route,
    );
    let tx = rig.authenticated("alice", request);
    assert_eq!(rig.answer(tx).status, 403);
}

#[test]
fn a_request_of_a_user_of_ours_is_challenged_and_one_of_a_stranger_to_ours_is_not() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let mut invite = rig.request(
        "INVITE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        "",
    );
    let tx = rig.receive(invite.clone(), phone("alice"));
    assert_eq!(rig.answer(tx).status, 407);
    rig.silent();
    invite
        .headers
        .set("From", "<sip:someone@elsewhere.example>;tag=1");
    let tx = rig.receive(invite, phone("dave"));
    assert_eq!(rig.answer(tx).status, 100);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn an_unknown_user_is_404_and_one_who_is_not_there_480() {
    let mut rig = Rig::new();
    for (callee, status) in [("nobody", 404), ("bob", 480)] {
        let uri = format!("sip:{callee}@{DOMAIN}");
        let invite = rig.request("INVITE", "alice", &uri, &format!("<{uri}>"), "");
        let tx = rig.authenticated("alice", invite);
        assert_eq!(rig.answer(tx).status, status);
        rig.silent();
    }
}

#[test]
fn a_foreign_domain_and_a_foreign_scheme_are_refused() {
    let mut rig = Rig::new();
    for (target, status) in [
        ("sip:x@elsewhere.example", 403),
        ("tel:+358501234567", 416),
        ("sips:bob@home.example", 416),
    ] {
        let invite = rig.request("INVITE", "dave", target, "<sip:x@elsewhere.example>", "");
        let mut invite = invite;
        invite.headers.set("From", "<sip:dave@elsewhere.example>;tag=d");
        let tx = rig.receive(invite, phone("dave"));
        assert_eq!(rig.answer(tx).status, status, "{target}");
    }
}

#[test]
fn hops_loops_and_proxy_requirements_are_checked_before_the_password() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let mut spent = rig.request(
        "INVITE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        "",
    );
    spent.headers.set("Max-Forwards", "0");
    let vias: String = (0..3)
        .map(|n| format!("Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKl{n}\r\n"))
        .collect();
    let looped = rig.request(
        "INVITE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        &vias,
    );
    let needy = "Proxy-Require: foo\r\n";
    let needy = rig.request(
        "INVITE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        needy,
    );
    for (request, status) in [(spent, 483), (looped, 482), (needy, 420)] {
        let tx = rig.receive(request, phone("alice"));
        assert_eq!(rig.answer(tx).status, status);
        rig.silent();
    }
}

#[test]
fn a_contact_behind_a_nat_is_reached_at_its_source() {
    let mut rig = Rig::new();
    let to = "<sip:carol@home.example>";
    let mut register = rig.request(
        "REGISTER",
        "carol",
        "sip:home.example",
        to,
        "Contact: <sip:carol@10.0.0.5:5060>\r\n",
    );
    register.headers.set(
        "Via",
        "SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKn;rport=5060;received=192.0.2.30",
    );
    let tx = rig.authenticated("carol", register);
    assert_eq!(rig.answer(tx).status, 200);
    let (_, sent) = rig.call("alice", "carol");
    assert_eq!(sent[0].request.uri, uri("sip:carol@10.0.0.5:5060"));
    assert_eq!(
        sent[0].route.next_hop.clone().map(Uri::Sip),
        Some(uri("sip:192.0.2.30:5060"))
    );
}

#[test]
fn a_contact_registered_by_another_element_is_reached_at_its_own_address() {
    let mut rig = Rig::new();
    rig.register("carol", "Contact: <sip:carol@198.51.100.9:5062>\r\n");
    let (_, sent) = rig.call("alice", "carol");
    assert!(sent[0].route.flow.is_none() && sent[0].route.next_hop.is_none());
}

#[test]
fn a_message_is_not_answered_with_100_and_its_answer_comes_back() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let message = rig.request(
        "MESSAGE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        "",
    );
    let tx = rig.authenticated("alice", message);
    let sent = rig.sent();
    rig.silent();
    assert!(!sent[0].request.headers.contains("Record-Route"));
    rig.respond(&sent[0], 202);
    assert_eq!(rig.answer(tx).status, 202);
    rig.respond(&sent[0], 200);
    rig.silent();
    rig.end(&sent[0], TxEnd::Done);
    assert_eq!(rig.machine.stats().forwarding, 0);
}

#[test]
fn a_response_that_is_for_nobody_behind_the_server_is_dropped() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let (_, sent) = rig.call("alice", "bob");
    let mut response = response(&sent[0], 200);
    response
        .headers
        .set("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-home");
    rig.handle(StackEvent::Response {
        tx: sent[0].tx,
        response,
        flow: None,
    });
    rig.silent();
}

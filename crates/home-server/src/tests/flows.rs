//! Registrations that are bound to flows (RFC 5626), and GRUUs (RFC 5627).

use super::*;

const URN: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e128";

/// A Contact of bob's telephone, over a connection of its own.
fn contact(reg_id: u32, port: u16) -> String {
    format!(
        "Contact: <sip:bob@192.0.2.20:{port};transport=tcp>;+sip.instance=\"<{URN}>\";reg-id={reg_id}\r\n"
    )
}

fn over(id: u64, transport: Transport) -> Flow {
    Flow {
        id: FlowId(id),
        transport,
        ..phone("bob")
    }
}

impl Rig {
    fn register_over(&mut self, flow: Flow, supported: &str, contact: &str) -> SipResponse {
        let extra = format!("Supported: {supported}\r\n{contact}");
        let to = "<sip:bob@home.example>";
        let request = self.request("REGISTER", "bob", "sip:home.example", to, &extra);
        let tx = self.receive(request.clone(), flow);
        let challenge = self.answer(tx);
        let request = self.with_credentials("bob", request, &challenge);
        let tx = self.receive(request, flow);
        self.answer(tx)
    }
}

#[test]
fn a_client_that_asks_for_it_is_told_that_its_flow_is_kept_and_for_how_long() {
    for (transport, seconds) in [(Transport::Tcp, "120"), (Transport::Udp, "30")] {
        let mut rig = Rig::new();
        let ok = rig.register_over(over(7, transport), "path, outbound", &contact(1, 5060));
        assert_eq!(ok.status, 200);
        assert!(ok.headers.has_token("Require", "outbound"));
        assert_eq!(ok.headers.value("Flow-Timer"), Some(seconds), "{transport}");
    }
}

#[test]
fn who_does_not_ask_gets_an_ordinary_registration() {
    for (supported, contact) in [
        ("path", contact(1, 5060)),
        (
            "outbound",
            "Contact: <sip:bob@192.0.2.20>;reg-id=1\r\n".to_owned(),
        ),
        (
            "outbound",
            format!("Contact: <sip:bob@192.0.2.20>;+sip.instance=\"<{URN}>\"\r\n"),
        ),
    ] {
        let mut rig = Rig::new();
        let ok = rig.register_over(over(7, Transport::Tcp), supported, &contact);
        assert_eq!(ok.status, 200);
        assert!(!ok.headers.contains("Require") && !ok.headers.contains("Flow-Timer"));
    }
}

#[test]
fn a_flow_that_nobody_could_keep_is_not_promised() {
    let mut rig = Rig::with(|config| config.registrar.keeps_udp = false);
    let ok = rig.register_over(over(7, Transport::Udp), "outbound", &contact(1, 5060));
    assert!(!ok.headers.contains("Require"));
    let mut rig = Rig::with(|config| config.registrar.flow_timer = 0);
    let ok = rig.register_over(over(7, Transport::Tcp), "outbound", &contact(1, 5060));
    assert!(!ok.headers.contains("Require"));
}

#[test]
fn a_flow_behind_a_proxy_that_does_not_keep_it_is_refused() {
    let mut rig = Rig::new();
    let extra = format!(
        "Via: SIP/2.0/TCP 192.0.2.99;branch=z9hG4bK-edge\r\nSupported: outbound\r\n{}",
        contact(1, 5060)
    );
    let to = "<sip:bob@home.example>";
    let request = rig.request("REGISTER", "bob", "sip:home.example", to, &extra);
    let tx = rig.authenticated("bob", request);
    assert_eq!(rig.answer(tx).status, 439);
    assert!(rig.machine.registrations(rig.now).is_empty());
}

#[test]
fn each_flow_of_a_device_is_a_binding_and_a_call_takes_the_one_registered_last() {
    let mut rig = Rig::new();
    rig.register_over(over(7, Transport::Tcp), "outbound", &contact(1, 5060));
    rig.pass(Duration::from_secs(1));
    let ok = rig.register_over(over(8, Transport::Tcp), "outbound", &contact(2, 5060));
    assert_eq!(ok.headers.values("Contact").count(), 2);
    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(sent.len(), 1, "one telephone does not ring twice");
    assert_eq!(sent[0].route.flow, Some(FlowId(8)));

    rig.pass(Duration::from_secs(1));
    rig.register_over(over(7, Transport::Tcp), "outbound", &contact(1, 5060));
    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(sent[0].route.flow, Some(FlowId(7)), "it was refreshed last");

    rig.handle(StackEvent::FlowDown {
        id: FlowId(7),
        reason: "reset".to_owned(),
    });
    assert_eq!(rig.machine.registrations(rig.now).len(), 1);
    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(sent[0].route.flow, Some(FlowId(8)), "the flow that is left");
}

#[test]
fn a_device_that_comes_back_over_another_flow_replaces_the_old_one() {
    let mut rig = Rig::new();
    rig.register_over(over(7, Transport::Tcp), "outbound", &contact(1, 1111));
    rig.register_over(over(9, Transport::Tcp), "outbound", &contact(1, 2222));
    assert_eq!(rig.machine.registrations(rig.now).len(), 1);
    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(sent[0].route.flow, Some(FlowId(9)));
}

#[test]
fn a_gruu_is_given_to_who_wants_it_and_reaches_that_device_only() {
    let mut rig = Rig::new();
    let ok = rig.register_over(over(7, Transport::Tcp), "outbound, gruu", &contact(1, 5060));
    let listed: NameAddr = ok
        .headers
        .value("Contact")
        .expect("a contact")
        .parse()
        .expect("an address");
    let gruu = format!("sip:bob@home.example;gr={URN}");
    assert_eq!(listed.params.value("pub-gruu"), Some(gruu.as_str()));
    rig.register("bob", "Contact: <sip:bob@192.0.2.21>\r\n");

    let (_, sent) = rig.call("alice", "bob");
    assert_eq!(sent.len(), 2, "the address-of-record has two devices");
    let extra = "Contact: <sip:alice@192.0.2.10:5060>\r\n";
    let invite = rig.request("INVITE", "alice", &gruu, &format!("<{gruu}>"), extra);
    rig.authenticated("alice", invite);
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].route.flow, Some(FlowId(7)));
    assert_eq!(
        sent[0].request.uri.to_string(),
        "sip:bob@192.0.2.20:5060;transport=tcp"
    );

    let other = "sip:bob@home.example;gr=urn:uuid:of-nobody";
    let invite = rig.request("INVITE", "alice", other, &format!("<{other}>"), extra);
    rig.out.clear();
    let tx = rig.authenticated("alice", invite);
    assert_eq!(rig.answer(tx).status, 480);
}

#[test]
fn a_sips_call_reaches_only_devices_on_tls() {
    let mut rig = Rig::with(|config| {
        let tls = Listener {
            transport: Transport::Tls,
            ..config.listeners[1]
        };
        config.listeners.push(tls);
    });
    rig.register("bob", "Contact: <sip:bob@192.0.2.21>\r\n");
    let call = |rig: &mut Rig| {
        let target = "sips:bob@home.example";
        let extra = "Contact: <sips:alice@192.0.2.10>\r\n";
        let invite = rig.request("INVITE", "alice", target, &format!("<{target}>"), extra);
        rig.authenticated("alice", invite)
    };
    let tx = call(&mut rig);
    assert_eq!(rig.answer(tx).status, 480);
    rig.register_over(over(7, Transport::Tls), "outbound", &contact(1, 5060));
    call(&mut rig);
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].route.flow), (1, Some(FlowId(7))));
}

#[test]
fn requests_within_a_dialog_and_acks_find_a_gruu() {
    let mut rig = Rig::new();
    rig.register_over(over(7, Transport::Tcp), "outbound, gruu", &contact(1, 5060));
    let (_, sent) = rig.call("alice", "bob");
    let record = routes(&sent[0].request.headers, "Record-Route");
    let route: String = record
        .iter()
        .rev()
        .map(|route| format!("Route: {route}\r\n"))
        .collect();
    let gruu = format!("sip:bob@home.example;gr={URN}");
    let to = "<sip:bob@home.example>;tag=b";
    let call_id = sent[0].request.headers.call_id().expect("a Call-ID").to_owned();
    rig.out.clear();
    for method in ["ACK", "BYE"] {
        let mut request = rig.request(method, "alice", &gruu, to, &route);
        request.headers.set("Call-ID", &call_id);
        match method {
            "ACK" => {
                rig.handle(StackEvent::Ack {
                    request,
                    flow: phone("alice"),
                });
                let acks = rig.acks();
                assert_eq!((acks.len(), acks[0].1.flow), (1, Some(FlowId(7))));
            }
            _ => {
                rig.receive(request, phone("alice"));
                let sent = rig.sent();
                assert_eq!((sent.len(), sent[0].route.flow), (1, Some(FlowId(7))));
            }
        }
    }
}

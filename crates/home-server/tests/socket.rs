//! The whole server over real sockets: the `sip-ezk` stack below it, plain sockets and our own parser as the phones.

mod phone;

use phone::Phone;
use siprtc_core::sip::{Method, SipRequest, Transport, Uri};
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use tokio::net::{TcpListener, UdpSocket};

const DOMAIN: &str = "home.example";

async fn home() -> HomeServer {
    let users = Users::named(["alice", "bob"].map(|name| (name, "secret")));
    HomeServer::start(HomeConfig::loopback(DOMAIN, users), siprtc_sip_ezk::factory())
        .await
        .expect("a server")
}

async fn phone(home: &HomeServer, user: &'static str, transport: Transport) -> Phone {
    let listener = home
        .listeners()
        .iter()
        .find(|l| l.transport == transport)
        .expect("a listener");
    Phone::new(user, DOMAIN, transport, listener.bound).await
}

/// Reads responses until a final one.
async fn final_answer(phone: &mut Phone) -> siprtc_core::sip::SipResponse {
    loop {
        let response = phone.response().await;
        if response.is_final() {
            return response;
        }
    }
}

/// alice calls bob and bob answers; gives alice's ACK target and what each side needs for its BYE.
async fn call(alice: &mut Phone, bob: &mut Phone) -> (SipRequest, siprtc_core::sip::SipResponse) {
    let target = format!("sip:bob@{DOMAIN}");
    let invite = alice.request("INVITE", &target, &format!("<{target}>"));
    let challenged = alice.exchange(&invite).await;
    assert_eq!(challenged.status, 407);
    alice.ack_failure(&invite, &challenged).await;
    let invite = alice.with_credentials(invite, &challenged);
    alice.send(&invite).await;
    assert_eq!(alice.response().await.status, 100);

    let received = bob.received(Method::Invite).await;
    assert!(received.headers.contains("Record-Route"));
    assert_eq!(received.headers.vias().expect("Vias").len(), 2);
    bob.answer(&received, 180).await;
    assert_eq!(alice.response().await.status, 180);
    bob.answer(&received, 200).await;
    let ok = alice.response().await;
    assert_eq!(ok.status, 200);
    let ack = alice.in_dialog("ACK", &ok);
    alice.send(&ack).await;
    bob.received(Method::Ack).await;
    (received, ok)
}

async fn call_and_both_byes(first: Transport, second: Transport) {
    let home = home().await;
    let mut alice = phone(&home, "alice", first).await;
    let mut bob = phone(&home, "bob", second).await;
    alice.register(3600).await;
    bob.register(3600).await;
    assert_eq!(home.registrations().len(), 2);

    let (_, ok) = call(&mut alice, &mut bob).await;
    let bye = alice.in_dialog("BYE", &ok);
    alice.send(&bye).await;
    let received = bob.received(Method::Bye).await;
    bob.answer(&received, 200).await;
    assert_eq!(final_answer(&mut alice).await.status, 200);

    let (invite, _) = call(&mut alice, &mut bob).await;
    let bye = bob.in_dialog_as_callee("BYE", &invite);
    bob.send(&bye).await;
    let received = alice.received(Method::Bye).await;
    alice.answer(&received, 200).await;
    assert_eq!(final_answer(&mut bob).await.status, 200);
    home.shutdown().await;
}

#[tokio::test]
async fn a_call_over_udp_and_either_side_may_end_it() {
    call_and_both_byes(Transport::Udp, Transport::Udp).await;
}

#[tokio::test]
async fn a_call_from_udp_to_a_phone_that_only_its_connection_reaches() {
    call_and_both_byes(Transport::Udp, Transport::Tcp).await;
}

#[tokio::test]
async fn a_call_from_a_connection_to_udp() {
    call_and_both_byes(Transport::Tcp, Transport::Udp).await;
}

#[tokio::test]
async fn a_wrong_password_registers_nobody_and_a_right_one_can_leave_again() {
    let home = home().await;
    let mut alice = phone(&home, "alice", Transport::Udp).await;
    alice.password = "guessed";
    assert_eq!(alice.try_register(3600).await.status, 401);
    assert!(home.registrations().is_empty());
    alice.password = "secret";
    alice.register(3600).await;
    assert_eq!(home.registrations().len(), 1);
    assert_eq!(alice.try_register(0).await.status, 200);
    assert!(home.registrations().is_empty());
    assert!(home.stats().refused >= 3);
    home.shutdown().await;
}

#[tokio::test]
async fn the_callers_cancel_stops_the_ringing() {
    let home = home().await;
    let mut alice = phone(&home, "alice", Transport::Udp).await;
    let mut bob = phone(&home, "bob", Transport::Udp).await;
    bob.register(3600).await;
    let target = format!("sip:bob@{DOMAIN}");
    let invite = alice.request("INVITE", &target, &format!("<{target}>"));
    let challenged = alice.exchange(&invite).await;
    alice.ack_failure(&invite, &challenged).await;
    let invite = alice.with_credentials(invite, &challenged);
    alice.send(&invite).await;
    let received = bob.received(Method::Invite).await;
    bob.answer(&received, 180).await;
    while alice.response().await.status != 180 {}

    alice.send(&alice.cancel(&invite)).await;
    let cancel = bob.received(Method::Cancel).await;
    let branch = |request: &SipRequest| {
        request
            .headers
            .top_via()
            .expect("a Via")
            .branch()
            .map(str::to_owned)
    };
    assert_eq!(branch(&cancel), branch(&received), "the INVITE's own branch");
    bob.answer(&cancel, 200).await;
    bob.answer(&received, 487).await;
    bob.received(Method::Ack).await;
    let mut statuses = [
        final_answer(&mut alice).await.status,
        final_answer(&mut alice).await.status,
    ];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 487], "of the CANCEL and of the INVITE");
    home.shutdown().await;
}

#[tokio::test]
async fn two_phones_of_one_user_ring_and_the_slower_one_is_cancelled() {
    let home = home().await;
    let mut alice = phone(&home, "alice", Transport::Tcp).await;
    let mut desk = phone(&home, "bob", Transport::Udp).await;
    let mut mobile = phone(&home, "bob", Transport::Tcp).await;
    alice.register(3600).await;
    desk.register(3600).await;
    mobile.register(3600).await;
    let target = format!("sip:bob@{DOMAIN}");
    let invite = alice.request("INVITE", &target, &format!("<{target}>"));
    let challenged = alice.exchange(&invite).await;
    alice.ack_failure(&invite, &challenged).await;
    let invite = alice.with_credentials(invite, &challenged);
    alice.send(&invite).await;
    let at_desk = desk.received(Method::Invite).await;
    let at_mobile = mobile.received(Method::Invite).await;
    desk.answer(&at_desk, 180).await;
    while alice.response().await.status != 180 {}
    mobile.answer(&at_mobile, 180).await;
    while alice.response().await.status != 180 {}

    mobile.answer(&at_mobile, 200).await;
    let ok = final_answer(&mut alice).await;
    assert_eq!(ok.status, 200);
    let cancel = desk.received(Method::Cancel).await;
    assert!(
        cancel
            .headers
            .value("Reason")
            .is_some_and(|reason| reason.contains("cause=200"))
    );
    desk.answer(&cancel, 200).await;
    desk.answer(&at_desk, 487).await;
    desk.received(Method::Ack).await;
    // A copy of the 200, as for a lost ACK, reaches the caller as well.
    mobile.answer(&at_mobile, 200).await;
    assert_eq!(final_answer(&mut alice).await, ok);
    let ack = alice.in_dialog("ACK", &ok);
    alice.send(&ack).await;
    mobile.received(Method::Ack).await;
    home.shutdown().await;
}

#[tokio::test]
async fn a_phone_whose_connection_is_gone_cannot_be_called() {
    let home = home().await;
    let mut alice = phone(&home, "alice", Transport::Udp).await;
    let mut bob = phone(&home, "bob", Transport::Tcp).await;
    bob.register(3600).await;
    drop(bob);
    let target = format!("sip:bob@{DOMAIN}");
    let invite = alice.request("INVITE", &target, &format!("<{target}>"));
    let challenged = alice.exchange(&invite).await;
    alice.ack_failure(&invite, &challenged).await;
    let invite = alice.with_credentials(invite, &challenged);
    let answer = alice.exchange(&invite).await;
    assert_eq!(answer.status, 500);
    alice.ack_failure(&invite, &answer).await;
    home.shutdown().await;
}

#[tokio::test]
async fn shutdown_frees_every_port() {
    let home = home().await;
    let listeners = home.listeners().to_vec();
    let turn = home.turn_addr().expect("a TURN server");
    let mut bob = phone(&home, "bob", Transport::Tcp).await;
    bob.register(3600).await;
    home.shutdown().await;
    UdpSocket::bind(turn).await.expect("the TURN port is free");
    for listener in listeners {
        match listener.transport {
            Transport::Udp => drop(
                UdpSocket::bind(listener.bound)
                    .await
                    .expect("the UDP port is free"),
            ),
            _ => drop(
                TcpListener::bind(listener.bound)
                    .await
                    .expect("the TCP port is free"),
            ),
        }
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_with_advice() {
    let users = || Users::named([("alice", "secret")]);
    type Spoil = fn(&mut HomeConfig);
    let bad: [(&str, Spoil); 4] = [
        ("no listener", |config| config.sip.clear()),
        ("a realm that is no host", |config| {
            config.realm = "no host".to_owned()
        }),
        ("a wildcard without advertise", |config| {
            config.sip[0].bind = ([0, 0, 0, 0], 0).into()
        }),
        ("expires that allow nothing", |config| {
            config.min_expires = config.max_expires + 1
        }),
    ];
    for (what, spoil) in bad {
        let mut config = HomeConfig::loopback(DOMAIN, users());
        spoil(&mut config);
        let error = HomeServer::start(config, siprtc_sip_ezk::factory())
            .await
            .err()
            .unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!(error.fault(), siprtc_core::Fault::ConfigInvalid, "{what}");
        assert!(error.next_step().is_some(), "{what}");
    }
}

#[tokio::test]
async fn the_uri_for_clients_is_a_loose_route_to_the_first_listener() {
    let home = home().await;
    let uri = home.sip_uri();
    assert!(uri.is_loose_router());
    assert_eq!(uri.socket_addr(), Some(home.listeners()[0].bound));
    let parsed: Uri = uri.to_string().parse().expect("a URI");
    assert_eq!(parsed.as_sip(), Some(&uri));
    home.shutdown().await;
}

//! What goes wrong before a call is a call, and the exit code and sentence that it becomes: no stack trace, no hang.

use siprtc_integration_tests::baresip::{Baresip, Mode};
use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::program::{SOON, Siprtc};
use std::path::Path;
use std::time::Duration;

/// A failure that the network tells comes at once; one that only silence tells takes RFC 3261's timers.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_wrong_password_is_refused_credentials() {
    let lab = Lab::on_loopback("password").with_kamailio();
    let mut phone = Phone::of("alice");
    phone.password = "wrong".to_owned();
    let registered = lab.start(&phone, &["register"]).finish(LIMIT);
    registered.exits_with(3).explains("password");
    let called = lab.start(&phone, &["call", "bob"]).finish(LIMIT);
    called.exits_with(3).explains("password");
    // One guess a try: a server locks out whoever goes on guessing.
    assert!(
        lab.registrar().said("REQUEST REGISTER") <= 8,
        "{}",
        lab.registrar().log()
    );
}

#[test]
fn a_user_who_does_not_exist_is_refused_the_same_way() {
    let lab = Lab::on_loopback("nobody").with_kamailio();
    let registered = lab.start(&Phone::of("nobody"), &["register"]).finish(LIMIT);
    registered.exits_with(3).explains("nobody");
}

#[test]
fn a_callee_whom_the_server_does_not_know_is_absent() {
    let lab = Lab::on_loopback("unknown").with_kamailio();
    let alice = lab.start(&Phone::of("alice"), &["call", "zoe"]).finish(LIMIT);
    alice.exits_with(5);
    assert_eq!(alice.report()["ending"]["status"], 404, "{:#}", alice.report());
    assert_eq!(alice.report()["established"], false);
}

#[test]
fn a_callee_who_is_busy_is_busy() {
    let lab = Lab::on_loopback("busy").with_kamailio();
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--refuse", "486"]);
    let alice = lab.start(&Phone::of("alice"), &["call", "bob"]).finish(LIMIT);
    alice.exits_with(5);
    let ending = &alice.report()["ending"];
    assert_eq!(
        (&ending["status"], &ending["cause"]),
        (&486.into(), &"busy".into()),
        "{ending}"
    );
    bob.finish(SOON).exits_with(0);
}

#[test]
fn a_callee_who_declines_is_not_tried_again() {
    let lab = Lab::on_loopback("decline").with_kamailio();
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--refuse", "603"]);
    let alice = lab.start(&Phone::of("alice"), &["call", "bob"]).finish(LIMIT);
    alice.exits_with(5);
    assert_eq!(alice.report()["ending"]["status"], 603);
    bob.finish(SOON).exits_with(0);
}

/// Through a server that wants to know who asks: by a telephone of ours that takes no such wishes, and by baresip, which knows none.
#[test]
fn who_does_not_make_calls_for_others_says_so() {
    let lab = Lab::on_loopback("asked").with_kamailio();
    let carol = lab.answering(&Phone::of("carol"), &["--calls", "1", "--refuse", "486"]);
    let bob = Baresip::start(&lab, "bob", lab.server, Mode::Plain, Path::new("/dev/null"), None);
    for (asked, status, advice) in [
        ("carol", 403, "from us"),
        ("bob", 501, "no REFER outside of a call"),
    ] {
        let alice = lab
            .start(&Phone::of("alice"), &["refer", asked, "dave"])
            .finish(LIMIT);
        alice.exits_with(5);
        let ending = &alice.event("referral_refused")["ending"];
        assert_eq!(
            (&ending["status"], &ending["worth_a_retry"]),
            (&status.into(), &false.into()),
            "{ending}"
        );
        let sentence = ending["sentence"].as_str().unwrap_or_default();
        assert!(sentence.contains(advice), "{sentence}");
    }
    lab.start(&Phone::of("alice"), &["call", "carol"])
        .finish(LIMIT)
        .exits_with(5);
    carol.finish(SOON).exits_with(0);
    drop(bob);
}

#[test]
fn a_server_that_is_down_is_named_over_tcp() {
    let lab = Lab::on_loopback("down-tcp");
    let phone = Phone::of("alice").over("tcp");
    let server = format!("{}:5060", lab.server);
    let registered = lab.start(&phone, &["register", "--wait", "3"]).finish(LIMIT);
    registered.exits_with(4).explains(&server);
    let called = lab.start(&phone, &["call", "bob"]).finish(LIMIT);
    called.exits_with(4).explains(&server);
}

#[test]
fn a_server_that_is_down_is_named_over_udp() {
    let lab = Lab::on_loopback("down-udp");
    // Timer B and F are 64 times T1 (RFC 3261 17.1.1.2): 6.4 s instead of 32 s.
    let phone = Phone::of("alice").set("sip.t1_ms", 100);
    let server = format!("{}:5060", lab.server);
    let registered = lab.start(&phone, &["register", "--wait", "10"]).finish(LIMIT);
    registered.exits_with(4).explains(&server);
    let called = lab.start(&phone, &["call", "bob"]).finish(LIMIT);
    called.exits_with(4).explains(&server);
}

#[test]
fn a_registrar_that_dies_is_found_again_when_it_is_back() {
    let mut lab = Lab::on_loopback("again").with_kamailio();
    // A short life and a short pause, so that refresh, failure and the attempts after it fit into a test.
    let phone = Phone::of("bob")
        .over("tcp")
        .set("account.expires_s", 4)
        .set("account.backoff_first_ms", 200);
    let phone = phone.set("account.backoff_most_s", 1);
    let bob = lab.answering(&phone, &["--calls", "1", "--tone", "440"]);
    if let Some(kamailio) = lab.kamailio.as_mut() {
        kamailio.stop();
    }
    // Out of reach for now, and said so.
    let absent = lab
        .start(&Phone::of("alice").over("tcp"), &["call", "bob"])
        .finish(LIMIT);
    absent.exits_with(4);
    lab = lab.with_kamailio();
    lab.registrar().says("REGISTERED bob by bob", 1, LIMIT);
    let alice = lab
        .start(
            &Phone::of("alice"),
            &["call", "bob", "--tone", "880", "--duration", "0.5"],
        )
        .finish(LIMIT);
    alice.exits_with(0);
    bob.finish(SOON).exits_with(0);
}

#[test]
fn a_turn_server_that_is_down_is_named_when_only_a_relay_may_be_used() {
    let lab = Lab::on_loopback("turn-down").with_kamailio();
    let _bob = lab.answering(&Phone::of("bob"), &[]);
    let phone = Phone::of("alice").with_turn(&lab).set("ice.policy", "relay");
    let alice = lab.start(&phone, &["call", "bob"]).finish(LIMIT);
    assert_ne!(alice.code, Some(0));
    alice.explains(&format!("{}:3478", lab.server));
}

#[test]
fn a_turn_server_that_refuses_the_password_is_named() {
    let lab = Lab::on_loopback("turn-password").with_kamailio().with_coturn();
    let mut phone = Phone::of("alice").with_turn(&lab).set("ice.policy", "relay");
    phone.ice_servers = phone.ice_servers.replace("secret", "wrong");
    let alice = lab.start(&phone, &["call", "bob"]).finish(LIMIT);
    assert_ne!(alice.code, Some(0));
    alice.explains(&format!("{}:3478", lab.server));
}

#[test]
fn a_dead_stun_server_delays_no_call() {
    let lab = Lab::on_loopback("stun-down").with_kamailio();
    let phone = |user: &str| Phone::of(user).with_stun(&lab);
    let bob = lab.answering(&phone("bob"), &["--calls", "1", "--tone", "440"]);
    let alice = lab
        .start(
            &phone("alice"),
            &["call", "bob", "--tone", "880", "--duration", "0.5"],
        )
        .finish(LIMIT);
    alice.exits_with(0);
    bob.finish(SOON).exits_with(0);
    let accepted = alice.report()["timings_ms"]["accepted"].as_f64();
    // Probing both sides may cost half a second (ice.probe_timeout_ms); STUN's own timers are 39.5 s (RFC 8489 6.2.1).
    assert!(accepted.is_some_and(|ms| ms < 5000.0), "{:#}", alice.report());
}

#[test]
fn an_unknown_key_is_named_with_those_that_exist() {
    let outcome = Siprtc::run(&["--set", "account.pasword=x", "register"], SOON);
    outcome.exits_with(2).explains("pasword").explains("password");
}

#[test]
fn an_unknown_stack_is_named_with_those_that_exist() {
    let outcome = Siprtc::run(&["--set", "sip.stack=nosuch", "answer"], SOON);
    outcome.exits_with(2).explains("nosuch").explains("ezk");
}

#[test]
fn a_missing_file_is_named() {
    Siprtc::run(&["--config", "no/such.toml", "register"], SOON)
        .exits_with(2)
        .explains("no/such.toml");
    let outcome = Siprtc::run(&["call", "sip:bob@127.0.0.1:9", "--play", "no-such.wav"], LIMIT);
    assert_ne!(outcome.code, Some(0));
    outcome.explains("no-such.wav");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("sip.listen=[\"udp:{address}\"]");
    let outcome = Siprtc::run(&["--set", &listen, "answer"], SOON);
    assert_ne!(outcome.code, Some(0));
    outcome.explains(&address);
}

#[test]
fn a_wrong_command_line_is_exit_code_two() {
    Siprtc::run(&["frobnicate"], SOON).exits_with(2);
    Siprtc::run(&["call"], SOON).exits_with(2);
}

#[test]
fn nobody_at_the_address_is_no_answer() {
    let outcome = Siprtc::run(&["--set", "sip.t1_ms=50", "call", "sip:bob@127.0.0.1:9"], LIMIT);
    outcome.exits_with(4).explains("127.0.0.1:9");
}

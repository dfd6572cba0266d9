//! Calls through an unmodified SIP server, Kamailio, with coturn for STUN and TURN: two `siprtc` processes, each with its
//! own tune, and both recordings judged.

use siprtc_integration_tests::baresip::{Baresip, Mode};
use siprtc_integration_tests::lab::{KamailioSettings, Lab, Phone};
use siprtc_integration_tests::program::{Outcome, SOON, Siprtc};
use siprtc_integration_tests::wav::{self, CALLEE, CALLER};
use std::time::Duration;

/// The tunes last 4 s: nobody hangs up before they are over.
const TALK: &str = "5.5";
/// Talk and what surrounds it.
const CALL: Duration = Duration::from_secs(40);

/// Alice calls Bob; both play and record. Returns what Alice and Bob came to.
fn call(lab: &Lab, alice: &Phone, bob: &Phone) -> (Outcome, Outcome) {
    let (alice_plays, bob_plays) = (
        lab.folder.join("alice-plays.wav"),
        lab.folder.join("bob-plays.wav"),
    );
    let (alice_heard, bob_heard) = (
        lab.folder.join("alice-heard.wav"),
        lab.folder.join("bob-heard.wav"),
    );
    wav::write_tune(&alice_plays, &CALLER);
    wav::write_tune(&bob_plays, &CALLEE);

    let files = ["bob-plays.wav", "bob-heard.wav"].map(|name| lab.file(name));
    let bob = lab.answering(bob, &["--calls", "1", "--play", &files[0], "--record", &files[1]]);
    let files = ["alice-plays.wav", "alice-heard.wav"].map(|name| lab.file(name));
    let alice = lab.start(
        alice,
        &[
            "call",
            "bob",
            "--play",
            &files[0],
            "--record",
            &files[1],
            "--duration",
            TALK,
        ],
    );
    let (alice, bob) = (alice.finish(CALL), bob.finish(SOON));

    for outcome in [&alice, &bob] {
        outcome.exits_with(0);
        let report = outcome.report();
        assert_eq!(report["established"], true, "{report:#}");
        assert_eq!(report["ending"]["cause"], "bye", "{report:#}");
        assert_eq!(report["media"]["codec"], "opus", "{report:#}");
        assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
    }
    assert_eq!(
        alice.report()["sip_call_id"],
        bob.report()["sip_call_id"],
        "a proxy keeps the Call-ID"
    );
    wav::assert_heard(&CALLER, &alice_plays, &bob_heard);
    wav::assert_heard(&CALLEE, &bob_plays, &alice_heard);
    (alice, bob)
}

fn candidates(outcome: &Outcome) -> (&str, &str) {
    let kind = |key: &str| outcome.report()[key].as_str().unwrap_or("none");
    (kind("local_candidate"), kind("remote_candidate"))
}

#[test]
fn two_phones_talk_peer_to_peer_with_signalling_over_udp() {
    let lab = Lab::on_loopback("udp").with_kamailio();
    // An INVITE with WebRTC's offer is longer than what RFC 3261 section 18.1.1 lets go over UDP.
    let phone = |user: &str| Phone::of(user).set("sip.udp_limit", 65_535);
    let (alice, bob) = call(&lab, &phone("alice"), &phone("bob"));
    assert_eq!(candidates(&alice), ("host", "host"));
    assert_eq!(candidates(&bob), ("host", "host"));
    let kamailio = lab.registrar();
    assert!(
        kamailio.said("INVITE sip:bob@siprtc.test from alice over udp") >= 1,
        "{}",
        kamailio.log()
    );
    assert_eq!(kamailio.said("REQUEST BYE"), 1, "one side ends a call, once");
}

#[test]
fn two_phones_talk_peer_to_peer_with_signalling_over_tcp() {
    let lab = Lab::on_loopback("tcp").with_kamailio();
    call(
        &lab,
        &Phone::of("alice").over("tcp"),
        &Phone::of("bob").over("tcp"),
    );
    let kamailio = lab.registrar();
    assert!(
        kamailio.said("INVITE sip:bob@siprtc.test from alice over tcp") >= 1,
        "{}",
        kamailio.log()
    );
    assert_eq!(
        kamailio.said(" over udp"),
        0,
        "somebody left TCP:\n{}",
        kamailio.log()
    );
}

#[test]
fn a_phone_on_udp_and_a_phone_on_tcp_talk() {
    let lab = Lab::on_loopback("mixed").with_kamailio();
    call(
        &lab,
        &Phone::of("alice").over("udp"),
        &Phone::of("bob").over("tcp"),
    );
}

#[test]
fn with_the_relay_policy_all_media_goes_through_coturn_on_both_sides() {
    let lab = Lab::on_loopback("relay").with_kamailio().with_coturn();
    let relayed = |user: &str| Phone::of(user).with_turn(&lab).set("ice.policy", "relay");
    let (alice, bob) = call(&lab, &relayed("alice"), &relayed("bob"));
    assert_eq!(candidates(&alice), ("relay", "relay"));
    assert_eq!(candidates(&bob), ("relay", "relay"));
    // Nor does an offer or an answer tell where they really are.
    let log = lab.registrar().log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("a=candidate:") || line.starts_with("c="))
        .collect();
    assert!(told.iter().any(|line| line.contains("typ relay")), "{told:#?}");
    assert!(
        !told
            .iter()
            .any(|line| line.contains("typ host") || line.contains("127.0.0.1")),
        "{told:#?}"
    );
}

/// Each over coturn in another way, through a relay and nothing else.
fn relayed_over(way: &str, agent: &str) {
    let story = format!("relay-{way}-{agent}");
    let lab = Lab::on_loopback(&story).with_kamailio();
    let lab = match way {
        "secret" => lab.with_coturn_of_a_secret(),
        _ => lab.with_coturn(),
    };
    let relayed = |user: &str| {
        let phone = Phone::of(user).with_turn_over(&lab, way);
        phone.set("ice.policy", "relay").set("ice.agent", agent)
    };
    let (alice, bob) = call(&lab, &relayed("alice"), &relayed("bob"));
    assert_eq!(candidates(&alice), ("relay", "relay"));
    assert_eq!(candidates(&bob), ("relay", "relay"));
}

#[test]
fn media_goes_through_coturn_over_tcp() {
    relayed_over("tcp", "is");
}

#[test]
fn media_goes_through_coturn_over_tls() {
    relayed_over("tls", "is");
}

#[test]
fn media_goes_through_coturn_with_credentials_made_from_a_secret() {
    relayed_over("secret", "is");
}

#[test]
fn another_agent_goes_through_coturn_over_udp_and_tcp() {
    relayed_over("udp", "rtc");
    relayed_over("tcp", "rtc");
}

#[test]
fn the_engines_own_agent_goes_through_coturn_over_udp() {
    relayed_over("udp", "builtin");
}

/// A call between phones whose ICE is done by different agents.
fn agents(caller: &str, callee: &str) {
    let lab = Lab::on_loopback(&format!("agents-{caller}-{callee}")).with_kamailio();
    let phone = |user: &str, agent: &str| Phone::of(user).set("ice.agent", agent);
    let (alice, bob) = call(&lab, &phone("alice", caller), &phone("bob", callee));
    assert_eq!(candidates(&alice), ("host", "host"));
    assert_eq!(candidates(&bob).0, "host");
}

#[test]
fn agent_is_calls_rtc() {
    agents("is", "rtc");
}

#[test]
fn agent_rtc_calls_ezk() {
    agents("rtc", "ezk");
}

#[test]
fn agent_ezk_calls_the_engines_own() {
    agents("ezk", "builtin");
}

#[test]
fn the_engines_own_agent_calls_is() {
    agents("builtin", "is");
}

/// The INFOs that went through the registrar, each with what was logged after it.
fn infos(lab: &Lab) -> Vec<String> {
    let log = lab.registrar().log();
    log.split("SDP of INFO:").skip(1).map(str::to_owned).collect()
}

#[test]
fn two_phones_that_trickle_wait_for_no_relay_and_tell_each_other_of_it_in_infos() {
    let lab = Lab::on_loopback("trickle").with_kamailio().with_coturn();
    // Nothing but what comes late can carry the call.
    let trickling = |user: &str| {
        let phone = Phone::of(user).with_turn(&lab);
        phone.set("ice.policy", "relay").set("ice.trickle", "full")
    };
    let (alice, bob) = call(&lab, &trickling("alice"), &trickling("bob"));
    assert_eq!(candidates(&alice), ("relay", "relay"));
    assert_eq!(candidates(&bob), ("relay", "relay"));
    let told = |line: &str| infos(&lab).iter().filter(|info| info.contains(line)).count();
    assert!(told("typ relay") >= 2, "{:?}", infos(&lab));
    assert!(told("a=end-of-candidates") >= 2, "{:?}", infos(&lab));
}

#[test]
fn a_phone_that_trickles_offers_anew_to_one_that_does_not() {
    let lab = Lab::on_loopback("no-trickle").with_kamailio().with_coturn();
    let phone = |user: &str, trickle: &str| {
        let phone = Phone::of(user).with_turn(&lab);
        phone.set("ice.policy", "relay").set("ice.trickle", trickle)
    };
    let (alice, bob) = call(&lab, &phone("alice", "full"), &phone("bob", "off"));
    assert_eq!(candidates(&alice), ("relay", "relay"));
    assert_eq!(candidates(&bob), ("relay", "relay"));
    assert_eq!(infos(&lab), [""; 0]);
}

#[test]
fn a_phone_that_hides_behind_a_relay_talks_with_one_that_does_not() {
    let lab = Lab::on_loopback("half-relay").with_kamailio().with_coturn();
    let hidden = Phone::of("alice").with_turn(&lab).set("ice.policy", "relay");
    let (alice, bob) = call(&lab, &hidden, &Phone::of("bob"));
    assert_eq!(candidates(&alice).0, "relay");
    assert_eq!(candidates(&bob).0, "host");
}

#[test]
fn the_callee_may_end_the_call() {
    let lab = Lab::on_loopback("callee-ends").with_kamailio();
    let bob = lab.answering(
        &Phone::of("bob"),
        &["--calls", "1", "--tone", "440", "--duration", "1"],
    );
    let alice = lab
        .start(&Phone::of("alice"), &["call", "bob", "--tone", "880"])
        .finish(CALL);
    alice.exits_with(0);
    assert_eq!(alice.report()["ending"]["by"], "remote");
    bob.finish(SOON).exits_with(0);
}

#[test]
fn one_phone_answers_one_call_after_the_other() {
    let lab = Lab::on_loopback("three-calls").with_kamailio();
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "3", "--tone", "440"]);
    for caller in ["alice", "carol", "alice"] {
        let call = lab.start(
            &Phone::of(caller),
            &["call", "bob", "--tone", "880", "--duration", "0.5"],
        );
        call.finish(CALL).exits_with(0);
    }
    let bob = bob.finish(SOON);
    bob.exits_with(0);
    assert_eq!(
        bob.events.iter().filter(|line| line["event"] == "report").count(),
        3
    );
}

/// What three telephones of one user came to, which ring for so many seconds each; the caller hangs up what was answered. The
/// last word is the proxy's.
fn forked(story: &str, rings: [&str; 3]) -> (Outcome, [Outcome; 3], String) {
    let lab = Lab::on_loopback(story).with_kamailio();
    let phones = rings.map(|ring| {
        lab.answering(
            &Phone::of("bob"),
            &["--calls", "1", "--tone", "440", "--ring", ring],
        )
    });
    let alice = lab.start(
        &Phone::of("alice"),
        &["call", "bob", "--tone", "880", "--duration", "1.5"],
    );
    let alice = alice.finish(CALL);
    let phones = phones.map(|phone| phone.finish(SOON));
    alice.exits_with(0);
    assert_eq!(alice.report()["established"], true, "{:#}", alice.report());
    let log = lab.registrar().log();
    (alice, phones, log)
}

#[test]
fn of_three_telephones_the_first_to_answer_talks_and_the_others_are_cancelled() {
    let (alice, [first, second, third], log) = forked("forked", ["1", "5", "5"]);
    first.exits_with(0);
    assert_eq!(first.report()["sip_call_id"], alice.report()["sip_call_id"]);
    assert_eq!(log.matches("REPLY 487").count(), 2, "{log}");
    for other in [second, third] {
        assert!(
            other.has("incoming") && !other.has("connected"),
            "{:?}",
            other.events
        );
    }
}

#[test]
fn of_telephones_that_answer_at_once_one_talks_and_what_the_others_say_too_late_is_hung_up() {
    let (_, phones, _) = forked("forked-late", ["1", "1", "1"]);
    let lasted = |phone: &&Outcome| {
        let report = phone.report();
        let cause = report["ending"]["cause"].as_str().unwrap_or_default();
        assert!(["bye", "cancelled"].contains(&cause), "{report:#}");
        phone.has("connected")
    };
    assert_eq!(phones.iter().filter(lasted).count(), 1, "one of them has media");
}

#[test]
fn a_phone_registers_and_unregisters_with_md5() {
    registers(KamailioSettings {
        algorithm: "MD5",
        ..KamailioSettings::default()
    });
}

#[test]
fn a_phone_registers_and_unregisters_with_sha_256() {
    registers(KamailioSettings {
        algorithm: "SHA-256",
        ..KamailioSettings::default()
    });
}

#[test]
fn a_phone_registers_where_no_algorithm_is_named() {
    registers(KamailioSettings::default());
}

fn registers(settings: KamailioSettings) {
    let lab = Lab::on_loopback("register").with_kamailio_that(settings);
    let outcome = lab.start(&Phone::of("alice"), &["register"]).finish(CALL);
    outcome.exits_with(0);
    assert!(outcome.event("registered")["contact"].is_string());
    // Once for the registration, once for its end.
    lab.registrar().says("REGISTERED alice by alice", 2, SOON);
}

#[test]
fn a_registration_is_refreshed_with_fresh_nonces_before_it_is_over() {
    let settings = KamailioSettings {
        nonce_life: 1,
        ..KamailioSettings::default()
    };
    let lab = Lab::on_loopback("refresh").with_kamailio_that(settings);
    let phone = Phone::of("alice").set("account.expires_s", 4);
    let mut alice = lab.start(&phone, &["register", "--hold", "0"]);
    alice.event("registered", SOON);
    lab.registrar().says("REGISTERED alice by alice", 4, CALL);
    assert!(!alice.has("error"), "{:?}", alice.events());
    alice.interrupt();
    alice.finish(SOON).exits_with(0);
    // The last nonce is as good as any until it is stale; then the server names another and is answered with it.
    assert!(
        lab.registrar().said("CHALLENGE 401 to alice") >= 3,
        "{}",
        lab.registrar().log()
    );
}

#[test]
fn what_is_not_registered_any_more_cannot_be_called() {
    let lab = Lab::on_loopback("gone").with_kamailio();
    let bob: Siprtc = lab.answering(&Phone::of("bob"), &[]);
    bob.interrupt();
    bob.finish(SOON).exits_with(0);
    let alice = lab.start(&Phone::of("alice"), &["call", "bob"]).finish(CALL);
    alice.exits_with(5);
    assert_eq!(alice.report()["ending"]["status"], 404);
}

#[test]
fn digits_cross_the_call_as_telephone_events() {
    let lab = Lab::on_loopback("digits").with_kamailio();
    let bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--tone", "440"]);
    let alice = lab
        .start(
            &Phone::of("alice"),
            &["call", "bob", "--dtmf", "159#", "--duration", "3"],
        )
        .finish(CALL);
    alice.exits_with(0);
    let bob = bob.finish(SOON);
    let digits = bob
        .events
        .iter()
        .filter(|line| line["event"] == "dtmf")
        .filter_map(|line| line["digit"].as_str());
    assert_eq!(digits.collect::<String>(), "159#");
}

/// Alice has Bob's telephone call Carol's baresip, without a call of her own: the proxy asks who she is, and Bob's telephone trusts the proxy.
#[test]
fn a_telephone_is_asked_to_call_another_one_and_says_how_it_goes() {
    let lab = Lab::on_loopback("click-to-dial").with_kamailio();
    let [theirs, heard] = ["carol-plays.wav", "bob-heard.wav"].map(|name| lab.folder.join(name));
    // baresip hangs up when its file is over.
    wav::write_tune_and_silence(&theirs, &CALLEE, 4.0);
    let mut carol = Baresip::start(&lab, "carol", lab.server, Mode::Plain, &theirs, None);
    let bob = Phone::of("bob")
        .set("media.engine", "rtp")
        .set("call.referrals", "trusted")
        .set("call.trusted", lab.server);
    let record = heard.display().to_string();
    let arguments = ["--calls", "1", "--duration", TALK, "--record", &record];
    let bob = lab.answering(&bob, &arguments);
    let alice = lab
        .start(&Phone::of("alice"), &["refer", "bob", "carol"])
        .finish(CALL);
    alice.exits_with(0);
    assert_eq!(alice.event("referral_accepted")["tells"], true);
    alice.event("referral_succeeded");
    let bob = bob.finish(CALL);
    bob.exits_with(0);
    let asked = bob.event("asked");
    let named = |key: &str, name: &str| asked[key].as_str().is_some_and(|text| text.contains(name));
    assert!(named("to", "carol@") && named("by", "alice@"), "{asked}");
    assert_eq!(bob.report()["established"], true, "{:#}", bob.report());
    wav::assert_heard(&CALLEE, &theirs, &heard);
    carol.process.stop();
}

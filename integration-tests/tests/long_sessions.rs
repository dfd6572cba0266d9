//! Sessions that have to be refreshed (RFC 4028), with a real PBX. 90 s are the shortest that there are, so this takes three minutes.

use siprtc_integration_tests::asterisk::Asterisk;
use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::netns::Namespace;
use siprtc_integration_tests::program::SOON;
use siprtc_integration_tests::wav::CALLEE;
use std::net::Ipv4Addr;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Two intervals and a little: a session that nobody refreshed would have ended after one.
const LONG: &str = "187";
const LIMIT: Duration = Duration::from_secs(220);

#[test]
fn over_two_intervals_a_session_is_refreshed_by_us_and_by_asterisk() {
    let namespace = Namespace::machine(&[SERVER, OURS]);
    let lab = Lab::at("refresh", namespace.place(), SERVER);
    let asterisk = Asterisk::start(&lab, &CALLEE);
    let ladders = ["called.svg", "caller.svg"].map(|name| lab.file(name));
    let talk = |ladder: usize| ["--tone", "440", "--duration", LONG, "--ladder", &ladders[ladder]];
    let called = lab.answering(
        &Phone::of("brief").at(OURS),
        &[&["--calls", "1"][..], &talk(0)].concat(),
    );
    asterisk.process.says("to AOR 'brief'", 1, SOON);
    asterisk.calls("brief", "600");
    let phone = Phone::of("plain").at(OURS).set("account.register", false);
    let phone = phone.set("call.session_timer_s", 90);
    let caller = lab.start(&phone, &[&["call", "600"][..], &talk(1)].concat());
    for telephone in [caller, called] {
        let outcome = telephone.finish(LIMIT);
        outcome.exits_with(0);
        let report = outcome.report();
        assert_eq!(
            report["ending"]["by"], "local",
            "nobody else ended it: {report:#}"
        );
        assert_eq!(report["media"]["packets_lost"], 0, "{report:#}");
    }
    // Half an interval after the last one: four times in all.
    for ladder in &ladders {
        let drawn = std::fs::read_to_string(ladder).unwrap_or_default();
        let said = |word: &str| drawn.matches(&format!(">{word}</text>")).count();
        let refreshes = said("UPDATE") + said("INVITE").saturating_sub(1);
        assert!(refreshes >= 3, "{ladder}: {refreshes} refreshes in {drawn}");
    }
    asterisk.is_idle(SOON);
}

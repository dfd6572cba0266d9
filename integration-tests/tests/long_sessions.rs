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
    asterisk.console("pjsip set logger on");
    let arguments = ["--calls", "1", "--tone", "440", "--duration", LONG];
    let called = lab.answering(&Phone::of("brief").at(OURS), &arguments);
    asterisk.process.says("to AOR 'brief'", 1, SOON);
    asterisk.calls("brief", "600");
    let phone = Phone::of("plain").at(OURS).set("account.register", false);
    let phone = phone.set("call.session_timer_s", 90);
    let caller = lab.start(&phone, &["call", "600", "--tone", "440", "--duration", LONG]);
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
    let log = asterisk.process.log();
    // Half an interval after the last one: four times in all, and each is answered.
    for ours in [true, false] {
        let way = if ours {
            "Received SIP request"
        } else {
            "Transmitting SIP request"
        };
        let refreshes = log
            .split("<--- ")
            .filter(|message| message.starts_with(way) && message.contains("\nUPDATE sip:"))
            .count();
        assert!(refreshes >= 4, "{way}: {refreshes} UPDATEs");
    }
    asterisk.is_idle(SOON);
}

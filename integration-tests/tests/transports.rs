//! Every SIP stack registers with the real Kamailio and calls through it, over every transport that it has; over one
//! that it has not, it is refused with a sentence.

use siprtc_integration_tests::lab::{KamailioSettings, Lab, Phone};
use siprtc_integration_tests::program::SOON;
use std::time::Duration;

/// A short call and what surrounds it.
const CALL: Duration = Duration::from_secs(40);

/// Two telephones on one stack and one transport, through Kamailio, which speaks all of them.
fn calls(stack: &str, transport: &'static str) {
    let lab = Lab::on_loopback(&format!("{stack}-{transport}")).with_kamailio_that(KamailioSettings {
        secure: true,
        ..KamailioSettings::default()
    });
    // Long requests stay on UDP: this is about the transport that is named.
    let phone = |user: &str| {
        Phone::of(user)
            .over(transport)
            .set("sip.stack", stack)
            .set("sip.udp_limit", 65_535)
    };
    let bob = lab.answering(&phone("bob"), &["--calls", "1"]);
    let alice = lab.start(&phone("alice"), &["call", "bob", "--duration", "1"]);
    let (alice, bob) = (alice.finish(CALL), bob.finish(SOON));
    let kamailio = lab.registrar();
    for outcome in [&alice, &bob] {
        outcome.exits_with(0);
        let report = outcome.report();
        assert_eq!(report["established"], true, "{report:#}");
        assert_eq!(report["ending"]["cause"], "bye", "{report:#}");
    }
    for (request, user) in [
        ("REGISTER", "bob"),
        ("INVITE", "alice"),
        ("ACK", "alice"),
        ("BYE", ""),
    ] {
        let heard = kamailio.log().lines().any(|line| {
            line.contains(&format!("REQUEST {request} "))
                && line.contains(&format!("from {user}"))
                && line.ends_with(&format!(" over {transport}"))
        });
        assert!(heard, "no {request} over {transport}:\n{}", kamailio.log());
    }
    let elsewhere = ["udp", "tcp", "tls", "ws", "wss"]
        .into_iter()
        .filter(|other| *other != transport);
    for other in elsewhere {
        let left = kamailio
            .log()
            .lines()
            .filter(|line| line.contains("REQUEST") && line.ends_with(&format!(" over {other}")))
            .count();
        assert_eq!(
            left,
            0,
            "somebody left {transport} for {other}:\n{}",
            kamailio.log()
        );
    }
}

/// The wiring refuses what the stack cannot do, and says which stacks can.
fn refused(stack: &str, transport: &'static str) {
    let lab = Lab::on_loopback(&format!("{stack}-{transport}"));
    siprtc_integration_tests::certificates::write(&lab.folder, lab.server);
    let phone = Phone::of("alice").over(transport).set("sip.stack", stack);
    let outcome = lab.start(&phone, &["call", "bob"]).finish(SOON);
    outcome
        .exits_with(2)
        .explains(&format!("{:?}", stack))
        .explains(&transport.to_uppercase())
        .explains("native");
}

macro_rules! stack {
    ($stack:ident: calls [$($calls:ident),*], refused [$($refused:ident),*]) => {
        mod $stack {
            $(
                #[test]
                fn $calls() {
                    super::calls(stringify!($stack), stringify!($calls));
                }
            )*
            mod refused {
                $(
                    #[test]
                    fn $refused() {
                        super::super::refused(stringify!($stack), stringify!($refused));
                    }
                )*
            }
        }
    };
}

stack!(ezk: calls [udp, tcp, tls], refused [ws, wss]);
stack!(native: calls [udp, tcp, tls, ws, wss], refused []);
stack!(rsip: calls [udp, tcp, tls, ws, wss], refused []);
stack!(rsipstack: calls [udp, tcp, tls, ws, wss], refused []);
#[cfg(feature = "sofia")]
stack!(sofia: calls [udp, tcp], refused [tls, ws, wss]);
